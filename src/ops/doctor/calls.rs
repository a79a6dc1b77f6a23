//! Counts the calls that a mirror port shows: sides with audio, SRTP keys, and codecs.
//!
//! The engine finds calls and streams. [`CallTally`] receives its output in place of the spool, and counts its
//! decisions about streams and the ended calls. A packet counts as audio if a recording would contain its sound. Such a
//! packet is complete and not encrypted, and callspan has a decoder for it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::tallied_stream::{StreamSource, TalliedProtection, TalliedStream};
use crate::call::decision::{Decision, MissingKeyReason, PayloadFormat};
use crate::call::event::{CallEvent, DiscardReason, EndedCall, KeptBytes, LegId, LegSink};
use crate::call::record::{EventKind, ProblemKind, Side};
use crate::codec::Codec;
use crate::decode::UdpDatagram;
use crate::render::codec::decoder_for;
use crate::rtp;
use crate::time::Timestamp;

/// Counts calls, and the engine's decisions about their streams. It stores no packets. When a leg ends, it forgets the
/// streams of the leg.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CallTally {
    /// Number of calls, including those still in progress at the end of the observation.
    pub(crate) all: u64,
    /// Number of answered calls that lasted long enough to expect audio.
    pub(crate) talked: u64,
    /// Number of answered calls that ended too early to expect media.
    pub(crate) short: u64,
    /// Number of answered calls that became a fax, so that no audio is expected.
    pub(crate) faxes: u64,
    /// Number of answered calls with RTP but without sound in a recording, e.g. because the RTP is encrypted.
    pub(crate) unheard: u64,
    /// Number of answered calls with audio on both sides.
    pub(crate) both_sides: u64,
    /// Number of answered calls with audio on one side only.
    pub(crate) one_side: u64,
    /// Number of answered calls without any RTP.
    pub(crate) silent: u64,
    /// Number of calls without RTP (counted in `silent`) that have media between their hosts, but not at the addresses
    /// in the SDP. Address translation (NAT) causes this.
    pub(crate) behind_nat: u64,
    /// Number of calls without RTP (counted in `silent`) that have media over TCP, according to their SDP.
    pub(crate) over_tcp: u64,
    /// Number of SRTP streams with keys in the signalling (SDES).
    pub(crate) with_keys: u64,
    /// Number of SRTP streams with keys agreed over DTLS.
    pub(crate) dtls: u64,
    /// Number of streams with ZRTP, a key agreement within the media stream.
    pub(crate) zrtp: u64,
    /// Number of SRTP streams with keys that the mirror port did not show. The session descriptions, or the form of the
    /// payloads, show the encryption.
    pub(crate) no_keys: u64,
    /// Streams counted in `no_keys` that may still get keys, because the SDP answer was not captured yet. Each entry
    /// has the leg and the number of the stream within the leg.
    pub(super) keyless: BTreeSet<(LegId, u32)>,
    /// Number of streams for each codec without a decoder, by encoding name.
    pub(crate) unknown_codecs: BTreeMap<String, u64>,
    /// Streams of the legs in progress. The index in the list is the number of the stream within its leg.
    pub(super) legs: HashMap<LegId, Vec<TalliedStream>>,
}

impl CallTally {
    /// Counts an event of the engine, e.g. the end of a call.
    pub(crate) fn handle_event(&mut self, event: &CallEvent) {
        let CallEvent::Ended(ended) = event else { return };
        self.all += 1;
        let is_fax = ended.record.events.iter().any(|event| event.kind == EventKind::Fax);
        self.faxes += u64::from(is_fax);
        self.short += u64::from(ended.record.answered_at.is_some() && !talked(ended));
        if talked(ended) && !is_fax {
            self.talked += 1;
            let sides = &ended.record.sides;
            match [Side::Caller, Side::Callee].iter().filter(|side| self.is_heard(ended, **side)).count() {
                0 if sides.caller.packets + sides.callee.packets == 0 => {
                    self.silent += 1;
                    let has = |kind| ended.record.problems.iter().any(|problem| problem.kind == kind);
                    // A silent call is counted for one cause only, even if its legs have different causes. Media over
                    // TCP takes precedence over NAT.
                    let is_over_tcp = has(ProblemKind::MediaOverTcp);
                    self.over_tcp += u64::from(is_over_tcp);
                    self.behind_nat += u64::from(!is_over_tcp && has(ProblemKind::MediaBehindNat));
                }
                0 => self.unheard += 1,
                1 => self.one_side += 1,
                _ => self.both_sides += 1,
            }
        }
        for leg in &ended.legs {
            let streams = self.legs.remove(&leg.leg).into_iter().flatten();
            self.no_keys += streams.filter(TalliedStream::is_encrypted_by_form).count() as u64;
        }
    }

    /// Returns whether a side had audio in the anchor leg, from which a recording would take its sound.
    fn is_heard(&self, ended: &EndedCall, side: Side) -> bool {
        let streams = ended.legs.first().and_then(|leg| self.legs.get(&leg.leg)).into_iter().flatten();
        streams.filter(|s| s.side == side).map(TalliedStream::heard).sum::<u64>() >= MIN_HEARD
    }

    fn stream(&mut self, leg: LegId, stream: u32) -> Option<&mut TalliedStream> {
        self.legs.get_mut(&leg)?.get_mut(stream as usize)
    }

    fn note_stream(&mut self, leg: LegId, decision: &Decision) {
        match decision {
            Decision::Stream { stream, src, dst, ssrc, side } => {
                let source = StreamSource { src: *src, dst: *dst, ssrc: *ssrc };
                let streams = self.legs.entry(leg).or_default();
                match streams.get_mut(*stream as usize) {
                    // When a new part (file) of a long recording begins, the engine repeats its decisions about
                    // streams. So a known stream is not counted again.
                    Some(known) => (known.source, known.side) = (source, *side),
                    None => streams.push(TalliedStream::new(source, *side)),
                }
            }
            Decision::Payload { stream, pt, format } => {
                if let Some(stream) = self.stream(leg, *stream) {
                    stream.note_format(*pt, format.as_ref());
                }
            }
            Decision::Encrypted { stream, .. } => {
                self.note_protection(leg, *stream, TalliedProtection::Encrypted);
            }
            Decision::Plain { stream, unused_keys } if unused_keys.is_empty() => {
                self.note_protection(leg, *stream, TalliedProtection::Plain);
            }
            Decision::Plain { stream, .. } | Decision::Srtp { stream, .. } => {
                self.note_protection(leg, *stream, TalliedProtection::Keys);
            }
            _ => {}
        }
    }

    fn note_protection(&mut self, leg: LegId, stream: u32, protection: TalliedProtection) {
        if let Some(stream) = self.stream(leg, stream) {
            stream.note_protection(protection);
        }
    }

    fn note_format(&mut self, format: &PayloadFormat) {
        let name: String = format.encoding.chars().filter(char::is_ascii_graphic).take(MAX_NAME).collect();
        // Telephone-events (DTMF) and redundant audio (RFC 2198) need no decoder of their own, so they do not count as
        // unknown codecs.
        let has_sound = !matches!(format.codec(), Some(Codec::TelephoneEvent | Codec::Red));
        let has_room = self.unknown_codecs.len() < MAX_CODECS || self.unknown_codecs.contains_key(&name);
        if has_sound && has_room && decoder_for(format).is_none() {
            *self.unknown_codecs.entry(name).or_default() += 1;
        }
    }
}

impl LegSink for CallTally {
    fn open(&mut self, _leg: LegId, _name: &str) {}
    fn packet(&mut self, leg: LegId, datagram: &UdpDatagram<'_>, _keep: KeptBytes) {
        let is_whole = datagram.payload.len() as u64 >= u64::from(datagram.wire_len);
        let Some(streams) = self.legs.get_mut(&leg).filter(|_| is_whole) else { return };
        let Ok(packet) = rtp::RtpPacket::parse_cut(datagram.payload) else { return };
        let source = StreamSource { src: datagram.src, dst: datagram.dst, ssrc: packet.ssrc };
        if let Some(stream) = streams.iter_mut().rev().find(|s| s.source == source) {
            stream.handle_packet(datagram.at, &packet);
        }
    }
    fn decide(&mut self, leg: LegId, _at: Timestamp, decision: &Decision) {
        self.note_stream(leg, decision);
        if let Decision::Srtp { stream, .. } | Decision::Plain { stream, .. } = decision
            && self.keyless.remove(&(leg, *stream))
        {
            self.no_keys -= 1;
        }
        match decision {
            Decision::Payload { format: Some(format), .. } => self.note_format(format),
            Decision::Srtp { offered, .. } => self.with_keys += u64::from(offered.is_empty()),
            Decision::Encrypted { why: MissingKeyReason::DtlsSrtp, .. } => self.dtls += 1,
            Decision::Encrypted { why: MissingKeyReason::Zrtp, .. } => self.zrtp += 1,
            Decision::Encrypted { why: MissingKeyReason::NoKeys, stream } => {
                self.no_keys += u64::from(self.keyless.insert((leg, *stream)));
            }
            _ => {}
        }
    }
    fn close(&mut self, leg: LegId) {
        self.keyless.retain(|(of, _)| *of != leg);
    }
    fn discard(&mut self, leg: LegId, _: DiscardReason) {
        self.close(leg);
        self.legs.remove(&leg);
    }
}

/// Returns whether the call lasted long enough after it was answered to expect media.
fn talked(ended: &EndedCall) -> bool {
    let record = &ended.record;
    match (record.answered_at, record.ended_at) {
        (Some(answered), Some(end)) => end.since(answered) >= TALK,
        _ => false,
    }
}

/// Time after a call was answered within which its media must begin. Usually media begins within a few hundred
/// milliseconds.
const TALK: Duration = Duration::from_secs(2);
/// Minimum number of audio packets for a side to count as heard: 200 ms at 20 ms a packet. Some devices send a few
/// stray packets.
const MIN_HEARD: u64 = 10;
/// Maximum number of encoding names that are counted. It bounds the memory, because an SDP can contain any number of
/// invented names.
const MAX_CODECS: usize = 32;
/// Maximum number of characters that are kept of an encoding name. No registered name is longer.
const MAX_NAME: usize = 24;
