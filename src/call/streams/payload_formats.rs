//! The payload types of a stream, and the formats that the session descriptions give them (RFC 3264 section 5.1).

use super::RtpStream;
use super::payload_doubt::PayloadDoubt;
use crate::call::content::SketchedVoice;
use crate::call::decision::PayloadFormat;
use crate::call::negotiation::Negotiation;
use crate::codec::Codec;
use crate::net::PayloadType;
use crate::rtp::redundancy;
use crate::time::Timestamp;

/// The payload types of a stream, with their formats.
#[derive(Clone, Debug, Default)]
pub(super) struct PayloadFormats {
    pub(super) uses: Vec<PayloadUse>,
    /// Earlier audio codecs of payload types, if the format of a payload type was changed. RFC 3264 section 8.3.2
    /// forbids the change, but some devices do it.
    pub(super) former: Vec<String>,
    /// Index in `uses` of the newest packet's payload type.
    pub(super) current: usize,
    /// Facts that put the announced formats in doubt.
    pub(super) doubt: PayloadDoubt,
    /// Voice of this stream from which the leg's voice prints are made; `None` if there is none.
    pub(super) sketched: Option<SketchedVoice>,
}

/// A payload type of a stream, and the format that the negotiation gives it.
#[derive(Clone, Debug)]
pub(super) struct PayloadUse {
    pub(super) pt: PayloadType,
    pub(super) packets: u64,
    pub(super) format: Option<PayloadFormat>,
    /// Version of the negotiation from which the payload format was read. The version grows with each change.
    pub(super) generation: u32,
    pub(super) secret: bool,
    /// Payload types inside a packet of redundant audio (RFC 2198), the primary encoding first. Empty if the format is
    /// not redundant audio.
    pub(super) within: Vec<(PayloadType, Option<PayloadFormat>)>,
    /// Whether the engine already knows this payload type of the stream.
    pub(super) is_reported: bool,
    /// Capture time of the stream's first packet with this payload type.
    pub(super) first_at: Timestamp,
    /// Whether a comparison of possible formats ([`PayloadJudge`](crate::call::payload_judge::PayloadJudge)) found the
    /// format.
    pub(super) is_judged: bool,
    /// Number of packets since only earlier descriptions give the format; `None` if a description in force gives it.
    pub(super) since_former: Option<u32>,
}

impl PayloadFormats {
    /// Returns the payload type of the newest packet; `None` before the first packet.
    #[inline]
    pub(super) fn current(&self) -> Option<&PayloadUse> {
        self.uses.get(self.current)
    }

    /// Returns the payload type of the newest packet, mutable; `None` before the first packet.
    #[inline]
    pub(super) fn current_mut(&mut self) -> Option<&mut PayloadUse> {
        self.uses.get_mut(self.current)
    }
}

impl RtpStream {
    /// Returns whether any packet of the stream had this payload type.
    pub(crate) fn has_used(&self, pt: PayloadType) -> bool {
        self.formats.uses.iter().any(|payload| payload.pt == pt && payload.packets > 0)
    }

    /// Returns whether the newest packet is the first packet of its payload type.
    pub(crate) fn is_new_payload_type(&self) -> bool {
        self.formats.current().is_some_and(|p| p.packets == 1)
    }

    /// Reads the format of the newest packet, so that the processor loads its memory into its cache.
    #[cfg(feature = "service")]
    #[inline]
    pub(crate) fn prefetch_format(&self) {
        std::hint::black_box(
            self.formats.current().map(|current| (current.generation, current.secret, self.clock_hz())),
        );
    }

    pub(super) fn clock_hz(&self) -> u32 {
        self.formats.current().and_then(|p| p.format.as_ref()).map_or(8_000, |f| f.clock_hz)
    }

    /// Makes `pt` the current payload type. Returns false if neither the payload type nor the negotiation has changed
    /// since the last packet.
    pub(super) fn note_payload(&mut self, pt: PayloadType, at: Timestamp, negotiation: &Negotiation) -> bool {
        let generation = negotiation.generation();
        if let Some(payload) = self.formats.current()
            && payload.pt == pt
            && payload.generation == generation
        {
            return false;
        }
        self.look_up_payload(pt, at, negotiation)
    }

    /// Makes `pt` the current payload type, and reads its format from the negotiation. Returns false if the stream
    /// already has the maximum number of payload types.
    pub(super) fn look_up_payload(&mut self, pt: PayloadType, at: Timestamp, negotiation: &Negotiation) -> bool {
        let generation = negotiation.generation();
        let (sender, flow) = (self.sender, self.flow());
        let own = if self.formats.doubt.own_numbers { negotiation.own_format(sender, flow, pt) } else { None };
        let is_former = own.is_none() && negotiation.is_former_format(sender, flow, pt);
        let announced = own.or_else(|| negotiation.payload_format(sender, flow, pt));
        self.raise_doubt(pt, announced.as_ref(), negotiation);
        let judged = self.judged_format(pt).cloned();
        let is_judged = judged.is_some();
        let format = judged.or(announced);
        let secret = is_event(format.as_ref());
        let redundant = format.as_ref().filter(|f| f.is(Codec::Red));
        let within = redundant.map_or_else(Vec::new, |red| negotiation.formats_within(red, sender, flow));
        match self.formats.uses.iter().position(|p| p.pt == pt) {
            Some(index) => {
                self.formats.current = index;
                let payload = &mut self.formats.uses[index];
                payload.is_reported &= payload.format == format && payload.within == within;
                let (packets, is_reported, first_at) = (payload.packets, payload.is_reported, payload.first_at);
                let since_former = (is_former && !is_judged).then(|| payload.since_former.unwrap_or(0));
                let new = PayloadUse {
                    pt,
                    packets,
                    format,
                    generation,
                    secret,
                    within,
                    is_reported,
                    first_at,
                    is_judged,
                    since_former,
                };
                let old = std::mem::replace(payload, new);
                // A payload type may have been read with a wrong format until its true format was found. The wrong
                // format is not listed as an earlier codec of the stream.
                if let Some(before) =
                    old.voice().filter(|f| old.packets > 0 && old.is_judged == is_judged && payload.voice() != Some(*f))
                    && self.formats.former.len() < MAX_PAYLOADS
                    && !self.formats.former.contains(&before.encoding)
                {
                    self.formats.former.push(before.encoding.clone());
                }
            }
            None if self.formats.uses.len() < MAX_PAYLOADS => {
                self.formats.current = self.formats.uses.len();
                // Most streams have one or two payload types. So room is reserved for one more entry only, instead of
                // the usual four.
                self.formats.uses.reserve_exact(1);
                self.formats.uses.push(PayloadUse {
                    pt,
                    packets: 0,
                    format,
                    generation,
                    secret,
                    within,
                    is_reported: false,
                    first_at: at,
                    is_judged,
                    since_former: (is_former && !is_judged).then_some(0),
                });
            }
            None => return false,
        }
        true
    }
}

impl PayloadUse {
    /// Counts a packet. Returns the number of packets that become mistaken with it. A sender may use a format for a moment
    /// longer than the description that gave it is in force.
    pub(super) fn count_packet(&mut self) -> u64 {
        self.packets += 1;
        let Some(count) = &mut self.since_former else { return 0 };
        *count = count.saturating_add(1);
        match *count {
            ..MIN_FORMER => 0,
            MIN_FORMER => MIN_FORMER.into(),
            _ => 1,
        }
    }

    /// Returns the format of the audio. For redundant audio, this is the format of the primary encoding.
    pub(super) fn voice(&self) -> Option<&PayloadFormat> {
        self.within.first().map_or(&self.format, |(_, format)| format).as_ref()
    }

    /// Returns whether a packet of redundant audio contains a telephone-event. In an encrypted packet this cannot be
    /// seen, and rendering leaves the event out.
    pub(super) fn contains_event(&self, payload: &[u8]) -> bool {
        let event = |pt: PayloadType| self.within.iter().any(|(p, format)| *p == pt && is_event(format.as_ref()));
        !self.within.is_empty() && redundancy::blocks(payload).is_some_and(|blocks| blocks.iter().any(|b| event(b.pt)))
    }
}

fn is_event(format: Option<&PayloadFormat>) -> bool {
    format.is_some_and(|f| f.is(Codec::TelephoneEvent))
}

/// Minimum number of packets with a format that no description in force gives before they are mistaken: a second at 20 ms
/// a packet. Fewer were under way when the descriptions changed.
const MIN_FORMER: u32 = 50;
/// Maximum number of payload types of a stream. If there are more, the packets are not RTP.
const MAX_PAYLOADS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::negotiation::AudioDescription;
    use crate::call::record::Side;
    use crate::call::streams::{CodecContinuity, PacketOutcome};
    use crate::net::{Endpoint, Flow, SequenceNumber, Ssrc};
    use crate::rtp::RtpPacket;
    use crate::time::RtpTime;

    /// Returns a stream to a callee that announced RED (121), PCMU (0) and telephone-event (101).
    fn stream() -> (RtpStream, Negotiation) {
        let sdp = "v=0\r\no=- 1 1 IN IP4 192.0.2.2\r\ns=-\r\nc=IN IP4 192.0.2.2\r\nt=0 0\r\n\
                   m=audio 4000 RTP/AVP 121 0 101\r\na=rtpmap:121 RED/8000\r\na=fmtp:121 0/0/101\r\n\
                   a=rtpmap:101 telephone-event/8000\r\n";
        let mut negotiation = Negotiation::default();
        negotiation.announce(Side::Callee, AudioDescription::from_session(&crate::sdp::parse(sdp.as_bytes()).unwrap()));
        let flow = Flow { src: Endpoint::v4([192, 0, 2, 1], 4000), dst: Endpoint::v4([192, 0, 2, 2], 4000) };
        (RtpStream::new(flow, Ssrc(1), Side::Caller), negotiation)
    }

    fn heard(
        stream: &mut RtpStream,
        negotiation: &Negotiation,
        sequence: SequenceNumber,
        payload: &[u8],
    ) -> PacketOutcome {
        let time = RtpTime(u32::from(sequence.0) * 160);
        let packet =
            RtpPacket { ssrc: Ssrc(1), sequence, time, pt: PayloadType(121), marker: false, header_len: 12, payload };
        stream.handle_packet(Timestamp::from_nanos(i64::from(sequence.0) * 20_000_000), &packet, negotiation)
    }

    #[test]
    fn redundant_audio_reports_the_formats_it_contains() {
        let (mut stream, negotiation) = stream();
        let told = PacketOutcome::Packet { secret: false, news: true };
        assert_eq!(heard(&mut stream, &negotiation, SequenceNumber(1), &[0, 0xFF]), told);
        let news = stream.take_update(&negotiation, CodecContinuity::AsBefore, Timestamp::EPOCH).payloads;
        let names = news.iter().map(|(pt, format)| (pt.0, format.as_ref().unwrap().encoding.as_str()));
        assert_eq!(names.collect::<Vec<_>>(), [(0, "PCMU"), (0, "PCMU"), (101, "TELEPHONE-EVENT"), (121, "RED")]);
        assert!(
            stream.take_update(&negotiation, CodecContinuity::AsBefore, Timestamp::EPOCH).payloads.is_empty(),
            "once"
        );
        assert_eq!(stream.record().unwrap().codec.as_deref(), Some("PCMU"));
        assert_eq!(stream.codecs().collect::<Vec<_>>(), ["PCMU"]);
    }

    #[test]
    fn redundant_audio_with_a_digit_is_secret() {
        let (mut stream, negotiation) = stream();
        let secret = |heard| matches!(heard, PacketOutcome::Packet { secret: true, .. });
        // Two packets of redundant audio. The first repeats an event (payload type 101, 160 timestamp units earlier, 4
        // bytes) before a block of PCMU. The second has an event alone. So both must not be stored.
        let repeated = [0x80 | 101, 0x02, 0x80, 4, 0, 5, 10, 0, 160, 0xFF];
        assert!(secret(heard(&mut stream, &negotiation, SequenceNumber(1), &repeated)));
        assert!(secret(heard(&mut stream, &negotiation, SequenceNumber(2), &[101, 5, 10, 0, 160])));
        assert!(!secret(heard(&mut stream, &negotiation, SequenceNumber(3), &[0, 0xFF, 0xFF])));
    }
}
