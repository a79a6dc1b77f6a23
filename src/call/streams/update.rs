//! Changes of a stream: its formats, its encryption, and whether the sender has moved to another address.

use super::RtpStream;
use crate::call::decision::PayloadFormat;
use crate::call::negotiation::{Negotiation, StreamSecurity};
use crate::net::PayloadType;
use crate::time::Timestamp;

/// Encryption and precedence of a stream as last reported to the engine.
#[derive(Clone, Debug)]
pub(super) struct ReportedState {
    security: StreamSecurity,
    /// Whether the reported encryption is provisional, because the sender's session description was not captured yet.
    is_unsettled: bool,
    /// Whether the sender has announced another address than the source of the stream since.
    is_superseded: bool,
    /// Whether packets took another path before the newest packet, and the engine does not know yet.
    pub(super) made_detour: bool,
}

impl Default for ReportedState {
    fn default() -> Self {
        Self { security: StreamSecurity::Plain, is_unsettled: false, is_superseded: false, made_detour: false }
    }
}

/// Changes of a stream, which the engine writes to the spool as decisions.
#[derive(Clone, Debug, Default)]
pub(crate) struct StreamUpdate {
    /// Payload types and their formats. The payload type of the newest packet comes last, after the payload types
    /// within redundant audio.
    pub(crate) payloads: Vec<(PayloadType, Option<PayloadFormat>)>,
    /// Capture time in the past from which the formats apply; `None` if they apply from now on.
    pub(crate) payloads_since: Option<Timestamp>,
    /// Encryption of the stream, and the capture time from which it applies; `None` if it has not changed since the
    /// last update. The time may be in the past, because the answer with the keys may be captured after the first
    /// packets.
    pub(crate) security: Option<(StreamSecurity, Timestamp)>,
    /// Whether the sender has announced another address than the source of the stream since; `None` if this has not
    /// changed.
    pub(crate) is_superseded: Option<bool>,
    /// Whether packets took another path before the newest packet.
    pub(crate) made_detour: bool,
}

/// Whether the newest packet has another codec than the packets before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CodecContinuity {
    /// The codec is the same as before, or unknown.
    AsBefore,
    /// The codec differs from the codec of the packets before.
    Changed,
}

impl RtpStream {
    /// Returns the unreported facts about the stream at the time `at`: the payload type of the newest packet, and the
    /// encryption. Also returns whether the stream is superseded, if this has changed.
    ///
    /// A return to an earlier codec is reported again, because after a restart the last decision in the spool gives the
    /// codec.
    pub(crate) fn take_update(
        &mut self,
        negotiation: &Negotiation,
        voice: CodecContinuity,
        at: Timestamp,
    ) -> StreamUpdate {
        let mut news = StreamUpdate::default();
        if let Some(payload) = self.formats.current_mut()
            && (!payload.is_reported || voice == CodecContinuity::Changed)
        {
            payload.is_reported = true;
            news.payloads.clone_from(&payload.within);
            news.payloads.push((payload.pt, payload.format.clone()));
            let earliest = at.offset(-MAX_JUDGED_NS);
            news.payloads_since = payload.is_judged.then(|| payload.first_at.max(earliest).min(at));
        }
        let security = negotiation.security_of_flow(self.sender, self.flow());
        if self.reported.security != security {
            let since =
                if self.reported.is_unsettled { self.received.stats.first_at().unwrap_or(at).min(at) } else { at };
            news.security = Some((security.clone(), since));
            self.reported.security = security;
        }
        self.reported.is_unsettled = negotiation.announced(self.sender).is_none();
        let is_superseded = negotiation.is_superseded(self.sender, self.src);
        if std::mem::replace(&mut self.reported.is_superseded, is_superseded) != is_superseded {
            news.is_superseded = Some(is_superseded);
        }
        news.made_detour = std::mem::take(&mut self.reported.made_detour);
        news
    }

    /// Makes the next packet report all facts about the stream again, e.g. because a new spool file begins.
    pub(crate) fn forget_reported(&mut self) {
        (self.reported.security, self.reported.is_superseded) = (StreamSecurity::Plain, false);
        for payload in &mut self.formats.uses {
            // No negotiation has the version `u32::MAX`, so the next packet looks the format up again and reports it.
            (payload.is_reported, payload.generation) = (false, u32::MAX);
        }
    }

    /// Restores whether the stream is superseded, as the spool of an earlier process says.
    pub(crate) const fn restore_superseded(&mut self, is_superseded: bool) {
        self.reported.is_superseded = is_superseded;
    }

    /// Returns whether the stream is encrypted according to the last report to the engine.
    pub(crate) fn is_protected(&self) -> bool {
        !self.reported.security.is_plain()
    }
}

/// Maximum time into the past for which a newly found format applies, ns. The reader of the spool can sort entries that
/// are this late.
const MAX_JUDGED_NS: i64 = 2_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::negotiation::AudioDescription;
    use crate::call::record::Side;
    use crate::net::{Endpoint, Flow, SequenceNumber, Ssrc};
    use crate::rtp::RtpPacket;
    use crate::time::RtpTime;

    #[test]
    fn keys_of_the_answer_apply_to_packets_before_the_answer() {
        let describe = |port: u16| {
            let sdp = format!(
                "v=0\r\no=- 1 1 IN IP4 192.0.2.2\r\ns=-\r\nc=IN IP4 192.0.2.2\r\nt=0 0\r\nm=audio {port} RTP/SAVP 0\r\n\
                 a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz\r\n"
            );
            AudioDescription::from_session(&crate::sdp::parse(sdp.as_bytes()).unwrap())
        };
        let mut negotiation = Negotiation::default();
        negotiation.announce(Side::Caller, describe(4000));
        let flow = Flow { src: Endpoint::v4([192, 0, 2, 2], 4000), dst: Endpoint::v4([192, 0, 2, 1], 4000) };
        let mut stream = RtpStream::new(flow, Ssrc(1), Side::Callee);
        let mut told = |n: u16, negotiation: &Negotiation| {
            let packet = RtpPacket {
                ssrc: Ssrc(1),
                sequence: SequenceNumber(n),
                time: RtpTime(u32::from(n) * 160),
                pt: PayloadType(0),
                marker: false,
                header_len: 12,
                payload: &[0xff; 160],
            };
            let at = Timestamp::from_nanos(i64::from(n) * 20_000_000);
            stream.handle_packet(at, &packet, negotiation);
            stream.take_update(negotiation, CodecContinuity::AsBefore, at).security
        };
        let first = Timestamp::from_nanos(5 * 20_000_000);
        assert!(matches!(told(5, &negotiation), Some((StreamSecurity::Undecryptable(_), at)) if at == first));
        negotiation.announce(Side::Callee, describe(5000));
        assert!(matches!(told(25, &negotiation), Some((StreamSecurity::Keys { .. }, at)) if at == first));
        assert_eq!(told(26, &negotiation), None, "once");
    }
}
