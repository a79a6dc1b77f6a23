//! The RTP streams of a leg: side, formats and keys, as far as the spool was read. They come from *decisions*, the
//! entries that the engine (which follows the calls) wrote into the spool. Both rendering passes use them.

use std::collections::HashMap;
use std::sync::Arc;

use super::mix_buffer::MixLayer;
use super::packet::RtpHeaderFields;
use super::report::UndecryptableReason;
use super::unused_keys::{UnusedKeyTrial, UnusedKeys};
use crate::call::decision::{Decision, PayloadFormat, SrtpContext};
use crate::call::record::Side;
use crate::codec::Codec;
use crate::net::{Endpoint, PayloadType, Ssrc};
use crate::rtp::redundancy;
use crate::spool::reader::PacketEntry;

/// All streams and payload types in the call engine's decisions that were read so far. Each rendering pass has its own
/// copy.
#[derive(Clone, Debug, Default)]
pub(super) struct DecidedStreams {
    by_flow: HashMap<SourceOnFlow, u32, foldhash::fast::FixedState>,
    /// The last two streams that were looked up, with their flows: usually one of each side. With them, most packets
    /// need no look-up in `by_flow`.
    recent: [Option<(SourceOnFlow, u32)>; 2],
    pub(super) streams: HashMap<u32, DecidedStream, foldhash::fast::FixedState>,
    keys: u32,
}

/// Source and destination of packets, and their SSRC.
type SourceOnFlow = (Endpoint, Endpoint, Ssrc);

/// Facts about one stream, from the call engine's decisions that were read so far.
#[derive(Clone, Debug)]
pub(super) struct DecidedStream {
    pub(super) side: Side,
    pub(super) ssrc: Ssrc,
    pub(super) layer: MixLayer,
    /// Whether the sender has announced another address than the source of the stream since.
    pub(super) is_superseded: bool,
    pub(super) formats: HashMap<PayloadType, Option<Arc<PayloadFormat>>, foldhash::fast::FixedState>,
    /// Formats of comfort noise as the call engine's decisions announce them. In the map `formats`, the noise may have
    /// another RTP clock rate: that of the stream's speech. This is so if no speech has the clock rate announced for
    /// the noise.
    announced_noise: HashMap<PayloadType, Arc<PayloadFormat>, foldhash::fast::FixedState>,
    pub(super) protection: StreamProtection,
    /// The SRTP keys that were in use before the signalling ended the encryption. A sender may use them for a while
    /// longer, e.g. until the SDP answer (RFC 3264 section 8). Or keys on which the sides did not agree, after one of
    /// them opened a packet.
    pub(super) former_keys: Option<StreamKeys>,
    /// Keys on which the sides did not agree, while it is open whether the stream uses them.
    unused_keys: Option<Box<UnusedKeys>>,
    /// Number that the decisions about keys had when `unused_keys` were announced.
    unused_since: u32,
}

/// The encryption of a stream, as the call engine's decisions describe it.
#[derive(Clone, Debug)]
pub(super) enum StreamProtection {
    /// The stream is not encrypted.
    Plain,
    /// SRTP with keys from the signalling.
    Keys(StreamKeys),
    /// Encryption that callspan cannot decrypt, and the reason.
    Closed(UndecryptableReason),
}

/// The SRTP keys of a stream.
#[derive(Clone, Debug)]
pub(super) struct StreamKeys {
    pub(super) context: SrtpContext,
    /// Keys in an unanswered offer, with which the sender may encrypt, too.
    pub(super) offered: Vec<SrtpContext>,
    /// Number of the call engine's decision about keys, so that new keys are noticed.
    pub(super) decision: u32,
}

impl DecidedStreams {
    /// Records a decision of the call engine about streams. Ignores all other decisions.
    pub(super) fn handle_decision(&mut self, decision: &Decision) {
        match decision {
            Decision::Stream { stream, src, dst, ssrc, side } => {
                self.recent = [None; 2];
                if let Some(known) = self.streams.get(stream)
                    && known.ssrc != *ssrc
                {
                    // The stream continues with another SSRC, so the entry of its former SSRC is removed. The entry
                    // stays if another stream uses that SSRC by now.
                    let former = (*src, *dst, known.ssrc);
                    if self.by_flow.get(&former) == Some(stream) {
                        self.by_flow.remove(&former);
                    }
                }
                self.by_flow.insert((*src, *dst, *ssrc), *stream);
                let known = self.streams.entry(*stream).or_insert_with(|| DecidedStream {
                    side: *side,
                    ssrc: *ssrc,
                    layer: MixLayer::First,
                    is_superseded: false,
                    formats: HashMap::default(),
                    announced_noise: HashMap::default(),
                    protection: StreamProtection::Plain,
                    former_keys: None,
                    unused_keys: None,
                    unused_since: 0,
                });
                (known.side, known.ssrc) = (*side, *ssrc);
            }
            Decision::FurtherLine { stream, line } => {
                if let Some(known) = self.streams.get_mut(stream) {
                    known.layer = MixLayer::Further { line: *line };
                }
            }
            Decision::Superseded { stream, is_superseded } => {
                if let Some(known) = self.streams.get_mut(stream) {
                    known.is_superseded = *is_superseded;
                }
            }
            Decision::Payload { stream, pt, format } => {
                if let Some(known) = self.streams.get_mut(stream) {
                    let format = format.clone().map(Arc::new);
                    known.announced_noise.remove(pt);
                    if let Some(noise) = format.as_ref().filter(|format| is_comfort_noise(format)) {
                        known.announced_noise.insert(*pt, Arc::clone(noise));
                    }
                    known.formats.insert(*pt, format);
                    known.align_comfort_noise();
                }
            }
            Decision::Srtp { stream, context, offered } => {
                self.keys += 1;
                if let Some(known) = self.streams.get_mut(stream) {
                    let (context, offered) = (context.clone(), offered.clone());
                    known.protection = StreamProtection::Keys(StreamKeys { context, offered, decision: self.keys });
                    (known.former_keys, known.unused_keys) = (None, None);
                }
            }
            Decision::Plain { stream, unused_keys } => {
                self.keys += 1;
                if let Some(known) = self.streams.get_mut(stream) {
                    known.end_keys(StreamProtection::Plain);
                    (known.unused_keys, known.unused_since) = (UnusedKeys::new(unused_keys), self.keys);
                }
            }
            Decision::Encrypted { stream, why } => {
                if let Some(known) = self.streams.get_mut(stream) {
                    known.end_keys(StreamProtection::Closed((*why).into()));
                }
            }
            _ => {}
        }
    }

    /// Returns the number of the stream to which a packet belongs; `None` if no decision of the call engine named the
    /// stream.
    pub(super) fn stream_of(&mut self, packet: &PacketEntry<'_>, head: &RtpHeaderFields) -> Option<u32> {
        let source = (packet.src, packet.dst, head.ssrc);
        if let Some((_, number)) = self.recent.iter().flatten().find(|(known, _)| *known == source) {
            return Some(*number);
        }
        let number = *self.by_flow.get(&source)?;
        self.recent = [Some((source, number)), self.recent[0]];
        Some(number)
    }
}

impl DecidedStream {
    /// Tries keys on which the sides did not agree with a packet. If one of them opens it, the stream is decrypted with
    /// it from now on. Both rendering passes must call this for the same packets in the same order.
    #[inline]
    pub(super) fn try_unused_keys(&mut self, packet: &PacketEntry<'_>, head: &RtpHeaderFields) {
        if self.unused_keys.is_some() {
            self.try_keys(packet, head);
        }
    }

    /// Returns whether the packets are unencrypted, and no keys are known with which some may still be encrypted.
    pub(super) const fn is_unencrypted(&self) -> bool {
        matches!(self.protection, StreamProtection::Plain) && self.former_keys.is_none()
    }

    /// Returns the formats inside packets of redundant audio (RFC 2198), in the order of its parameters: the primary
    /// encoding first. If they name none, all formats with the same clock rate may be inside; speech is the first.
    pub(super) fn formats_within(&self, redundant: &PayloadFormat) -> Vec<&PayloadFormat> {
        let known = |pt: PayloadType| self.formats.get(&pt)?.as_deref().filter(|format| !format.is(Codec::Red));
        let named: Vec<&PayloadFormat> = redundancy::payload_types(&redundant.fmtp).filter_map(known).collect();
        if !named.is_empty() {
            return named;
        }
        let all = (0..128).map(PayloadType).filter_map(known);
        let mut within: Vec<_> = all.filter(|format| format.clock_hz == redundant.clock_hz).collect();
        within.sort_by_key(|format| format.codec().is_some_and(Codec::accompanies_speech));
        within
    }

    #[cold]
    fn try_keys(&mut self, packet: &PacketEntry<'_>, head: &RtpHeaderFields) {
        let has_sound =
            self.formats.get(&head.pt).and_then(Option::as_ref).is_some_and(|format| is_on_timeline(format));
        let Some(keys) = self.unused_keys.take_if(|_| has_sound) else { return };
        match keys.try_packet(packet) {
            UnusedKeyTrial::Proven(context) => {
                let (offered, decision) = (Vec::new(), self.unused_since);
                self.former_keys = Some(StreamKeys { context, offered, decision });
            }
            UnusedKeyTrial::Open(keys) => self.unused_keys = Some(Box::new(keys)),
            UnusedKeyTrial::Refuted => {}
        }
    }

    /// Sets the RTP clock rate of comfort noise to that of the stream's speech. Does this only if no speech has the
    /// clock rate that is announced for the noise.
    ///
    /// Quirk `noise_clock`: RFC 3389 section 4 reserves payload type 13 for speech with a clock of 8000 Hz. A device
    /// uses it beside Opus, and its timestamps count the clock of Opus.
    fn align_comfort_noise(&mut self) {
        let formats = self.formats.values().flatten().filter(|format| is_on_timeline(format));
        let clocks: Vec<u32> =
            formats.filter(|format| !is_comfort_noise(format)).map(|format| format.clock_hz).collect();
        let Some(&clock_hz) = clocks.iter().min() else { return };
        for (pt, announced) in &self.announced_noise {
            let noise = if clocks.contains(&announced.clock_hz) {
                Arc::clone(announced)
            } else {
                Arc::new(PayloadFormat { clock_hz, ..PayloadFormat::clone(announced) })
            };
            self.formats.insert(*pt, Some(noise));
        }
    }

    /// Stops decrypting the stream. Its previous keys become former keys, because packets encrypted with them may still
    /// arrive.
    fn end_keys(&mut self, protection: StreamProtection) {
        self.unused_keys = None;
        if let StreamProtection::Keys(keys) = std::mem::replace(&mut self.protection, protection) {
            self.former_keys = Some(keys);
        }
    }
}

/// Returns whether packets of a format get a playout time. Telephone-events do not: all packets of an event repeat the
/// timestamp of its start, which would move the timeline back (RFC 4733 section 2.2.2).
pub(super) fn is_on_timeline(format: &PayloadFormat) -> bool {
    !format.is(Codec::TelephoneEvent) && format.clock_hz > 0
}

fn is_comfort_noise(format: &PayloadFormat) -> bool {
    format.is(Codec::ComfortNoise)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn continued_stream_leaves_its_former_source_to_the_stream_using_it() {
        let (src, dst) = (Endpoint::v4([192, 0, 2, 1], 4000), Endpoint::v4([192, 0, 2, 2], 4000));
        let mut decided = DecidedStreams::default();
        for (stream, ssrc) in [(0, 1), (1, 1), (0, 2)] {
            decided.handle_decision(&Decision::Stream { stream, src, dst, ssrc: Ssrc(ssrc), side: Side::Caller });
        }
        assert_eq!([1, 2].map(|ssrc| decided.by_flow.get(&(src, dst, Ssrc(ssrc))).copied()), [Some(1), Some(0)]);
    }

    #[test]
    fn comfort_noise_counts_the_clock_of_the_speech_beside_it() {
        let (src, dst) = (Endpoint::v4([192, 0, 2, 1], 4000), Endpoint::v4([192, 0, 2, 2], 4000));
        let (side, cn) = (Side::Caller, PayloadType(13));
        let [opus, pcmu] = [(PayloadType(96), "OPUS", 48_000), (PayloadType(0), "PCMU", 8_000)];
        // In the last case the call changes from Opus to G.711. The RTP clock rate of G.711, 8000 Hz, is also announced
        // for the noise. So the noise keeps this clock rate.
        for (speech, clock_hz) in [(&[opus][..], 48_000), (&[pcmu], 8_000), (&[opus, pcmu], 8_000)] {
            let mut decided = DecidedStreams::default();
            decided.handle_decision(&Decision::Stream { stream: 0, src, dst, ssrc: Ssrc(1), side });
            for (pt, encoding, clock_hz) in [(cn, "CN", 8_000)].iter().chain(speech).copied() {
                let format = PayloadFormat { encoding: encoding.into(), clock_hz, channels: 1, fmtp: String::new() };
                decided.handle_decision(&Decision::Payload { stream: 0, pt, format: Some(format) });
            }
            assert_eq!(decided.streams[&0].formats[&cn].as_ref().map(|cn| cn.clock_hz), Some(clock_hz));
        }
    }
}
