//! Finds the format of a payload type from the payloads, if the session descriptions leave a doubt.
//!
//! The receiver's description says which format a payload type has (RFC 3264 section 5.1). Some devices break this
//! rule:
//!
//! - Quirk `own_numbers`: both sides announce the same dynamic payload types with swapped formats, and a device uses
//!   its own description instead of the receiver's.
//! - A device sends audio with a payload type that is announced as telephone-event, or not announced at all.
//!
//! In the true format, the duration of a payload agrees with the difference of the RTP timestamps. In another format it
//! rarely does. Frames of GSM, iLBC and G.729 also have fixed bits.

use crate::call::decision::PayloadFormat;
use crate::codec::Codec;
use crate::net::PayloadType;
use crate::rtp::{NeighbourSearch, RtpPacket, SequenceNeighbours};

/// Finds the true format of a payload type of a stream among the possible formats. In the true format, the duration of
/// each payload's sound fits the RTP timestamps.
#[derive(Clone, Debug)]
pub(crate) struct PayloadJudge {
    pt: PayloadType,
    /// The possible formats, most likely first. The announced format is the first.
    formats: Vec<JudgedFormat>,
    /// Number of packets so far by which the true format is decided.
    packets: u32,
    recent: NeighbourSearch<JudgedPacket>,
    pairs: u32,
    verdict: JudgeVerdict,
}

/// A possible format of a payload type, and how many packets agree with it.
#[derive(Clone, Debug)]
struct JudgedFormat {
    /// The possible format; `None` for the announced format if no session description names the payload type.
    format: Option<PayloadFormat>,
    /// Number of pairs of consecutive packets that agree with the format.
    fits: u32,
}

/// A packet of the payload type: its RTP timestamp, and its payload in each possible format.
#[derive(Clone, Debug)]
struct JudgedPacket {
    time: u32,
    readings: Vec<PayloadReading>,
}

/// Result of reading a payload in one of the possible formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PayloadReading {
    /// The payload is not valid in this format, or its duration cannot be computed from its length.
    Unknown,
    /// Duration of the payload's sound if it has this format, ns.
    Lasts(i64),
    /// The payload is as long as a telephone-event (a key press). Its length gives no duration to compare with the RTP
    /// timestamps.
    Event,
}

/// Result of comparing the possible formats of a payload type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JudgeVerdict {
    /// It is not decided yet which format is the true one; more packets are needed.
    Open,
    /// The announced format is the true format.
    Announced,
    /// Another format than the announced one is true; the value is its index among the possible formats.
    Other(usize),
}

impl PayloadJudge {
    /// Begins to compare the announced format of a payload type with other possible formats. Returns `None` if there
    /// are no others.
    pub(crate) fn new(
        pt: PayloadType,
        announced: Option<&PayloadFormat>,
        others: impl Iterator<Item = PayloadFormat>,
    ) -> Option<Self> {
        let is_same = |one: &PayloadFormat, other: &PayloadFormat| {
            one.encoding.eq_ignore_ascii_case(&other.encoding) && one.clock_hz == other.clock_hz
        };
        let judged = |format| JudgedFormat { format, fits: 0 };
        let mut formats = vec![judged(announced.cloned())];
        for other in others.take(MAX_CANDIDATES) {
            let known = formats.iter().filter_map(|judged| judged.format.as_ref()).any(|known| is_same(known, &other));
            if !known && !other.codec().is_some_and(Codec::accompanies_speech) {
                formats.push(judged(Some(other)));
            }
        }
        let has_others = formats.len() > 1;
        has_others.then_some(Self {
            pt,
            formats,
            packets: 0,
            recent: NeighbourSearch::default(),
            pairs: 0,
            verdict: JudgeVerdict::Open,
        })
    }

    /// Returns the payload type with the doubtful format.
    pub(crate) const fn pt(&self) -> PayloadType {
        self.pt
    }

    /// Returns whether `format` is the announced format of this payload type.
    pub(crate) fn has_announced(&self, format: Option<&PayloadFormat>) -> bool {
        self.formats.first().is_some_and(|judged| judged.format.as_ref() == format)
    }

    /// Returns whether the result is still open, so that more packets are needed.
    pub(crate) fn is_open(&self) -> bool {
        self.verdict == JudgeVerdict::Open
    }

    /// Returns the true format if it differs from the announced format; `None` otherwise.
    pub(crate) fn true_format(&self) -> Option<&PayloadFormat> {
        let JudgeVerdict::Other(index) = self.verdict else { return None };
        self.formats.get(index)?.format.as_ref()
    }

    /// Compares a packet of the payload type with all possible formats. Returns true if this packet decides the result.
    pub(crate) fn handle_packet(&mut self, packet: &RtpPacket<'_>) -> bool {
        if !self.is_open() {
            return false;
        }
        self.packets += 1;
        let readings = self.formats.iter().map(|judged| judged.read(packet.payload)).collect();
        let now = JudgedPacket { time: packet.time.0, readings };
        let SequenceNeighbours { before, after } = self.recent.add(packet.sequence, now.clone());
        if let Some(before) = before {
            self.compare(&before, now.time);
        }
        if let Some(after) = after {
            self.compare(&now, after.time);
        }
        self.verdict = self.decide();
        !self.is_open()
    }

    /// Compares the duration of a packet, in each possible format, with the RTP timestamp of the next packet.
    fn compare(&mut self, packet: &JudgedPacket, next_time: u32) {
        let ticks = next_time.wrapping_sub(packet.time);
        self.pairs += 1;
        for (judged, reading) in self.formats.iter_mut().zip(&packet.readings) {
            judged.fits += u32::from(judged.agrees(*reading, ticks));
        }
    }

    fn decide(&self) -> JudgeVerdict {
        let most = |judged: &JudgedFormat| judged.fits * 8 >= self.pairs * 7;
        match self.formats.split_first() {
            _ if self.pairs < MIN_PAIRS && self.packets < MAX_PACKETS => JudgeVerdict::Open,
            _ if self.pairs < MIN_PAIRS => JudgeVerdict::Announced,
            Some((announced, _)) if announced.fits * 2 > self.pairs => JudgeVerdict::Announced,
            Some((_, others)) if others.iter().any(most) => {
                JudgeVerdict::Other(1 + others.iter().position(most).unwrap_or(0))
            }
            _ if self.pairs < MAX_PAIRS && self.packets < MAX_PACKETS => JudgeVerdict::Open,
            _ => JudgeVerdict::Announced,
        }
    }
}

impl JudgedFormat {
    fn read(&self, payload: &[u8]) -> PayloadReading {
        let Some(format) = &self.format else { return PayloadReading::Unknown };
        if format.is(Codec::TelephoneEvent) {
            return if payload.len() == EVENT_BYTES { PayloadReading::Event } else { PayloadReading::Unknown };
        }
        // Wideband Speex of 70 bytes is as long as two frames of GSM, and Speex of 20 bytes as two frames of G.729.
        if format.codec().is_some_and(|codec| !codec.has_fixed_bits(payload)) {
            return PayloadReading::Unknown;
        }
        format.duration_ns(payload).map_or(PayloadReading::Unknown, PayloadReading::Lasts)
    }

    /// Returns whether a payload lasts as long as the difference between the RTP timestamps of its packet and of the
    /// next packet. `ticks` is this difference in units of the RTP clock.
    fn agrees(&self, reading: PayloadReading, ticks: u32) -> bool {
        let clock_hz = self.format.as_ref().map_or(0, |format| format.clock_hz);
        match reading {
            PayloadReading::Unknown => false,
            PayloadReading::Lasts(ns) => i128::from(ticks) * 1_000_000_000 == i128::from(ns) * i128::from(clock_hz),
            PayloadReading::Event => true,
        }
    }
}

/// Returns whether the payload of a telephone-event may be encrypted by SRTP. SRTP adds 4 to 20 bytes, and they are not
/// all equal.
pub(crate) fn may_be_encrypted_event(payload: &[u8]) -> bool {
    let added = payload.get(EVENT_BYTES..).unwrap_or_default();
    (4..=20).contains(&added.len()) && added.iter().any(|byte| *byte != added[0])
}

/// Length of a telephone-event payload, bytes (RFC 4733 section 2.3).
const EVENT_BYTES: usize = 4;
/// Maximum length of a payload that may be a telephone-event, bytes. The usual length is 4; no device sends an event
/// with extensions that is longer than four times this.
pub(crate) const MAX_EVENT_BYTES: usize = 16;
/// Minimum number of pairs of consecutive packets for a result: a tenth of a second with 20 ms a packet.
const MIN_PAIRS: u32 = 4;
/// Number of pairs of consecutive packets after which the announced format is accepted, if the result is still open. It
/// is 2 s with 20 ms a packet.
const MAX_PAIRS: u32 = 100;
/// Number of packets after which the announced format is accepted, if the result is still open. Without this limit, a
/// mirror that shows every second packet would leave it open, because consecutive packets are then rare.
const MAX_PACKETS: u32 = 400;
/// Maximum number of possible formats beside the announced format. A device offers about ten.
const MAX_CANDIDATES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{SequenceNumber, Ssrc};
    use crate::time::RtpTime;

    fn format(encoding: &str, clock_hz: u32) -> PayloadFormat {
        PayloadFormat { encoding: encoding.into(), clock_hz, channels: 1, fmtp: String::new() }
    }

    /// Returns the format that is found from ten packets with the given payload and difference of the timestamps.
    fn judged(
        announced: Option<&PayloadFormat>,
        others: &[PayloadFormat],
        payload: &[u8],
        ticks: u32,
    ) -> Option<String> {
        let [in_order, reordered] = [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 0, 2, 4, 3, 5, 7, 6, 8, 9]].map(|order| {
            let judge = PayloadJudge::new(PayloadType(96), announced, others.iter().cloned());
            judged_in(order, judge.expect("other formats"), payload, ticks)
        });
        assert_eq!(in_order, reordered, "the order of arrival does not matter");
        in_order
    }

    fn judged_in(order: [u16; 10], mut judge: PayloadJudge, payload: &[u8], ticks: u32) -> Option<String> {
        for n in order {
            judge.handle_packet(&RtpPacket {
                ssrc: Ssrc(1),
                sequence: SequenceNumber(n.wrapping_sub(3)),
                time: RtpTime((u32::from(n) * ticks).wrapping_sub(500)),
                pt: PayloadType(96),
                marker: false,
                header_len: 12,
                payload,
            });
        }
        assert!(!judge.is_open());
        judge.true_format().map(|format| format.encoding.clone())
    }

    #[test]
    fn duration_of_the_payload_tells_the_format() {
        let (opus, ilbc, event) = (format("OPUS", 48_000), format("ILBC", 8_000), format("telephone-event", 8_000));
        let opus_packet = [9 << 3, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19];
        let both = [ilbc.clone(), opus.clone()];
        // Four cases: formats as announced; swapped formats; audio with the payload type of telephone-events; audio
        // with an unannounced payload type.
        assert_eq!(judged(Some(&opus), &both, &opus_packet, 960), None);
        assert_eq!(judged(Some(&ilbc), &both, &opus_packet, 960).as_deref(), Some("OPUS"));
        assert_eq!(judged(Some(&opus), &both, &[0; 50], 240).as_deref(), Some("ILBC"));
        assert_eq!(judged(Some(&event), &both, &opus_packet, 960).as_deref(), Some("OPUS"));
        assert_eq!(judged(None, &both, &opus_packet, 960).as_deref(), Some("OPUS"));
        // Speex of 8 kbit/s (mode 3) is as long as two frames of G.729, and has a wrong parity in one of them.
        let (g729, speex) = (format("G729", 8_000), format("SPEEX", 8_000));
        let mut speex_packet = [0; 20];
        (speex_packet[0], speex_packet[3]) = (3 << 3, 0x20);
        assert_eq!(judged(Some(&g729), &[g729.clone(), speex], &speex_packet, 160).as_deref(), Some("SPEEX"));
        // Two cases without a result: a real telephone-event, and payloads that agree with no format.
        assert_eq!(judged(Some(&event), &both, &[1, 10, 0, 160], 0), None);
        assert!(PayloadJudge::new(PayloadType(96), Some(&opus), [opus.clone(), event].into_iter()).is_none());
    }
}
