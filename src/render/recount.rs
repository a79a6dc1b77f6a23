//! Counts the packets of a leg by its spool, where the engine could not: it was restarted during the call.
//!
//! The same book-keeping ([`StreamStats`]) over the same packets gives the same numbers; only copies, which no spool
//! holds, remain those that the engine counted after the restart.

use std::collections::BTreeMap;

use super::packet::Head;
use super::plan::KnownStream;
use crate::call::record::{Side, SideRecord};
use crate::net::Endpoint;
use crate::rtp::red;
use crate::rtp::stats::StreamStats;
use crate::spool::reader::PacketEntry;
use crate::time::RtpTime;

/// The counts so far.
#[derive(Debug, Default)]
pub(super) struct Recount {
    is_needed: bool,
    streams: BTreeMap<u32, Counted>,
}

#[derive(Debug)]
struct Counted {
    flow: (Endpoint, Endpoint),
    ssrc: u32,
    side: Side,
    stats: StreamStats,
    payloads: BTreeMap<u8, Payload>,
}

#[derive(Debug, Default)]
struct Payload {
    packets: u64,
    voice: Option<String>,
    is_event: bool,
}

impl Recount {
    /// The engine's counts are not to be trusted.
    pub(super) fn need(&mut self) {
        self.is_needed = true;
    }

    pub(super) const fn is_needed(&self) -> bool {
        self.is_needed
    }

    pub(super) fn handle_packet(
        &mut self,
        number: u32,
        known: &KnownStream,
        (packet, head): (&PacketEntry<'_>, &Head),
    ) {
        let counted = self.streams.entry(number).or_insert_with(|| Counted {
            flow: (packet.src, packet.dst),
            ssrc: head.ssrc,
            side: known.side,
            stats: StreamStats::default(),
            payloads: BTreeMap::new(),
        });
        let format = known.formats.get(&head.pt).and_then(Option::as_ref);
        let clock_hz = format.map_or(8_000, |f| f.clock_hz);
        counted.stats.handle(packet.at, head.sequence, RtpTime(head.time), clock_hz);
        let payload = counted.payloads.entry(head.pt).or_default();
        payload.packets += 1;
        if payload.voice.is_none()
            && let Some(format) = format
        {
            payload.is_event = format.encoding == "TELEPHONE-EVENT";
            // Of a redundant packet, what is in it.
            let within = if format.encoding == "RED" { red::types(&format.fmtp).next() } else { None };
            let within = within.and_then(|pt| known.formats.get(&pt)?.as_ref());
            payload.voice = Some(within.unwrap_or(format).encoding.clone());
        }
    }

    /// Puts the counts in the place of the engine's.
    pub(super) fn correct(&self, sides: &mut [SideRecord; 2]) {
        for side in [Side::Caller, Side::Callee] {
            let record = &mut sides[side.channel()];
            let of_side = || self.streams.values().filter(|s| s.side == side);
            record.packets = of_side().map(|s| s.stats.packets()).sum();
            record.lost = of_side().map(|s| s.stats.lost()).sum();
            record.reordered = of_side().map(|s| s.stats.reordered()).sum();
            let jitter = of_side().map(|s| s.stats.max_jitter_ms()).fold(0.0, f64::max);
            record.max_jitter_ms = (record.packets > 0).then(|| (jitter * 1_000.0).round() / 1_000.0);
            for stream in &mut record.streams {
                let is_it =
                    |s: &&Counted| s.flow == (stream.src, stream.dst) && stream.ssrc == format!("{:#010x}", s.ssrc);
                let Some(counted) = of_side().find(is_it) else { continue };
                (stream.packets, stream.lost) = (counted.stats.packets(), counted.stats.lost());
                stream.first_at = counted.stats.first_at().unwrap_or(stream.first_at);
                stream.last_at = counted.stats.last_at().unwrap_or(stream.last_at);
                let main = counted.payloads.iter().max_by_key(|(_, payload)| (!payload.is_event, payload.packets));
                if let Some((pt, payload)) = main {
                    (stream.pt, stream.codec) = (*pt, payload.voice.clone());
                }
            }
        }
    }
}
