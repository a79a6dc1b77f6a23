//! Payload types with an announced format that may be wrong, because devices do not keep RFC 3264 section 5.1.

use super::RtpStream;
use crate::call::decision::PayloadFormat;
use crate::call::negotiation::Negotiation;
use crate::call::payload_judge::{MAX_EVENT_BYTES, PayloadJudge};
use crate::codec::Codec;
use crate::net::PayloadType;
use crate::rtp::RtpPacket;

/// Facts that put the announced formats of a stream's payload types in doubt.
#[derive(Clone, Debug, Default)]
pub(super) struct PayloadDoubt {
    /// Whether the sender uses the payload types of its own description instead of the payload types in the receiver's
    /// description.
    pub(super) own_numbers: bool,
    /// The comparisons of possible formats, one for each payload type with a doubtful announced format.
    pub(super) judges: Vec<PayloadJudge>,
    /// Number of packets with another format than the receiver announced for their payload type.
    pub(super) mistaken: u64,
}

impl RtpStream {
    /// Returns the number of packets with another format than the receiver announced for their payload type.
    pub(crate) const fn mistaken_packets(&self) -> u64 {
        self.formats.doubt.mistaken
    }

    /// Returns whether a packet that is announced as telephone-event is something else, judged by its length. An event
    /// has 4 bytes (RFC 4733 section 2.3).
    ///
    /// Quirk `own_numbers`: both sides announce the same two dynamic payload types with swapped formats, and each side
    /// uses its own description.
    pub(super) fn is_no_event(&self, packet: &RtpPacket<'_>, negotiation: &Negotiation) -> bool {
        let is_event = self.formats.current().is_some_and(|p| p.secret && p.pt == packet.pt);
        is_event
            && !self.formats.doubt.own_numbers
            && packet.payload.len() > MAX_EVENT_BYTES
            && negotiation.security_of_flow(self.sender, self.flow()).is_plain()
            && negotiation
                .own_format(self.sender, self.flow(), packet.pt)
                .is_some_and(|own| !own.is(Codec::TelephoneEvent))
    }

    /// Returns the format that a comparison of possible formats found for a payload type. Returns `None` if there was
    /// no doubt, or no result yet.
    pub(super) fn judged_format(&self, pt: PayloadType) -> Option<&PayloadFormat> {
        self.formats.doubt.judges.iter().find(|judge| judge.pt() == pt)?.true_format()
    }

    /// Begins a comparison of possible formats for a payload type, if there is doubt. There is doubt if the session
    /// descriptions of sender and receiver give the payload type different formats. There is also doubt if the payload
    /// type is not announced as audio.
    pub(super) fn raise_doubt(
        &mut self,
        pt: PayloadType,
        announced: Option<&PayloadFormat>,
        negotiation: &Negotiation,
    ) {
        if self.formats.doubt.judges.iter().any(|judge| judge.pt() == pt && judge.has_announced(announced)) {
            return;
        }
        self.formats.doubt.judges.retain(|judge| judge.pt() != pt);
        let is_plain = negotiation.security_of_flow(self.sender, self.flow()).is_plain();
        if !is_plain
            || self.formats.doubt.judges.len() >= MAX_JUDGES
            || announced.is_some_and(|format| format.is(Codec::Red))
        {
            return;
        }
        let no_audio = announced.is_none_or(|format| format.is(Codec::TelephoneEvent));
        let others = negotiation.own_format(self.sender, self.flow(), pt).into_iter();
        let any = if no_audio { negotiation.formats() } else { Vec::new() };
        self.formats.doubt.judges.extend(PayloadJudge::new(pt, announced, others.chain(any)));
    }
}

/// Maximum number of payload types of a stream for which the true format is determined from the payloads. A device
/// offers two or three dynamic payload types.
const MAX_JUDGES: usize = 8;
