//! Counts the packets of a leg again from its spool. The counts of the engine, which follows live calls, are wrong in
//! two cases: it was restarted during the call, or datagrams contained several packets.
//!
//! The statistics ([`StreamStats`]) and the packets are the same as in the engine, so the numbers are the same. The
//! exception is duplicates: the spool does not contain them, so only duplicates since the restart are counted.

use std::collections::BTreeMap;

use super::decided_streams::{DecidedStream, DecidedStreams};
use super::packet::{self, RtpHeaderFields};
use super::plan::read_until;
use super::report::RenderError;
use crate::call::decision::Decision;
use crate::call::record::{Side, SideRecord};
use crate::codec::Codec;
use crate::net::{Flow, PayloadType, Ssrc};
use crate::rtp::stats::StreamStats;
use crate::spool::reader::{LegSource, PacketEntry, SpoolEntry};
use crate::time::{RtpTime, Timestamp};

/// The statistics of all streams of a leg, counted from the spool.
#[derive(Debug, Default)]
pub(super) struct SpoolStats {
    streams: BTreeMap<u32, StreamTally>,
}

#[derive(Debug)]
struct StreamTally {
    flow: Flow,
    ssrc: Ssrc,
    side: Side,
    stats: StreamStats,
    payloads: BTreeMap<PayloadType, PayloadTypeTally>,
}

#[derive(Debug, Default)]
struct PayloadTypeTally {
    packets: u64,
    codec_name: Option<String>,
    is_event: bool,
}

impl SpoolStats {
    /// Counts the packets in a spool up to a time. It reads the spool once more, because few calls need these counts.
    ///
    /// # Errors
    /// Fails if the spool cannot be read.
    pub(super) fn of(source: &LegSource, until: Option<Timestamp>) -> Result<Self, RenderError> {
        let (mut known, mut stats) = (DecidedStreams::default(), Self::default());
        read_until(source, until, &mut |entry| match entry {
            SpoolEntry::Decided(decided) => {
                known.handle_decision(&decided.decision);
                stats.handle_decision(&decided.decision);
            }
            SpoolEntry::Packet(datagram) => {
                for packet in packet::split_joined(&datagram) {
                    let Some(head) = packet::read_header(&packet) else { continue };
                    let Some(number) = known.stream_of(&packet, &head) else { continue };
                    if let Some(stream) = known.streams.get(&number) {
                        stats.handle_packet(number, stream, &packet, &head);
                    }
                }
            }
        })?;
        Ok(stats)
    }

    fn handle_decision(&mut self, decision: &Decision) {
        if let Decision::Detour { stream } = decision
            && let Some(tally) = self.streams.get_mut(stream)
        {
            tally.stats.accept_gap();
        }
    }

    /// Counts a packet of a stream that the call engine announced in a decision. `number` is the number of that stream
    /// in the spool.
    fn handle_packet(&mut self, number: u32, known: &DecidedStream, packet: &PacketEntry<'_>, head: &RtpHeaderFields) {
        let tally = self.streams.entry(number).or_insert_with(|| StreamTally {
            flow: Flow { src: packet.src, dst: packet.dst },
            ssrc: head.ssrc,
            side: known.side,
            stats: StreamStats::default(),
            payloads: BTreeMap::new(),
        });
        let format = known.formats.get(&head.pt).and_then(Option::as_ref);
        let clock_hz = format.map_or(8_000, |f| f.clock_hz);
        tally.stats.handle(packet.at, head.sequence, RtpTime(head.time), clock_hz);
        let payload = tally.payloads.entry(head.pt).or_default();
        payload.packets += 1;
        if payload.codec_name.is_none()
            && let Some(format) = format
        {
            payload.is_event = format.is(Codec::TelephoneEvent);
            // A redundant packet (RED) counts for the codec of its primary block.
            let within = if format.is(Codec::Red) { known.formats_within(format) } else { Vec::new() };
            payload.codec_name = Some(within.first().map_or(&format.encoding, |within| &within.encoding).clone());
        }
    }

    /// Returns whether a stream carries other media than audio. E.g. video can use the same flow as an audio stream.
    fn is_other_media(&self, stream: &StreamTally) -> bool {
        let has_codec = |s: &StreamTally| s.payloads.values().any(|payload| payload.codec_name.is_some());
        !has_codec(stream) && self.streams.values().any(|other| other.flow == stream.flow && has_codec(other))
    }

    /// Replaces the packet counts and the jitter in the records of both sides, which the call engine measured, by those
    /// from the spool.
    pub(super) fn replace_counts(&self, sides: &mut [SideRecord; 2]) {
        for side in [Side::Caller, Side::Callee] {
            let record = &mut sides[side.channel()];
            let of_side = || self.streams.values().filter(|s| s.side == side && !self.is_other_media(s));
            record.packets = of_side().map(|s| s.stats.packets()).sum();
            record.lost = of_side().map(|s| s.stats.lost()).sum();
            record.reordered = of_side().map(|s| s.stats.reordered()).sum();
            let jitter = of_side().map(|s| s.stats.max_jitter_ms()).fold(0.0, f64::max);
            record.max_jitter_ms = (record.packets > 0).then(|| (jitter * 1_000.0).round() / 1_000.0);
            for stream in &mut record.streams {
                let is_it = |s: &&StreamTally| {
                    s.flow == Flow { src: stream.src, dst: stream.dst } && stream.ssrc == s.ssrc.to_string()
                };
                let Some(tally) = self.streams.values().find(is_it) else { continue };
                (stream.packets, stream.lost) = (tally.stats.packets(), tally.stats.lost());
                stream.first_at = tally.stats.first_at().unwrap_or(stream.first_at);
                stream.last_at = tally.stats.last_at().unwrap_or(stream.last_at);
                let main = tally.payloads.iter().max_by_key(|(_, payload)| (!payload.is_event, payload.packets));
                if let Some((pt, payload)) = main {
                    (stream.pt, stream.codec) = (*pt, payload.codec_name.clone());
                }
            }
        }
    }
}
