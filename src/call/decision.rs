//! Decisions: results of the engine about a leg, stored in its spool file between the packets.
//!
//! Rendering follows the decisions and does not repeat the engine's logic. So a decision that depends on other input
//! (another leg, a REGISTER, the local API) survives in the file. A decision holds for the packets captured at or after
//! its time. In the spool, decisions are JSON; [`FORMAT`] is their version.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::call::correlation_rule::CorrelationRule;
use crate::call::record::{EndedBy, Side, SideRecord};
use crate::codec::{Codec, FormatParameters};
use crate::net::{Endpoint, PayloadType, Ssrc, Transport};
use crate::time::Timestamp;

/// Version of the JSON form of decisions in spools.
pub const FORMAT: u32 = 1;

/// Payload format: the meaning of a payload type (RFC 3551, `rtpmap` and `fmtp` of RFC 8866).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PayloadFormat {
    /// Encoding name in upper case, e.g. `PCMA`, `TELEPHONE-EVENT`, `CN`.
    pub encoding: String,
    /// RTP clock rate, Hz. It is 8000 for G722, although its sampling rate is 16 kHz (RFC 3551 section 4.5.2).
    pub clock_hz: u32,
    /// Number of audio channels; 1 if the rtpmap gives none.
    pub channels: u8,
    /// Parameters of `fmtp` as the session description has them; empty if absent.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub fmtp: String,
}

impl PayloadFormat {
    /// Returns the codec that the encoding names, or `None` for an unknown encoding.
    pub(crate) fn codec(&self) -> Option<Codec> {
        Codec::from_name(&self.encoding)
    }

    /// Returns the duration of a payload of this format in ns; `None` if the format does not give it, or there is no
    /// whole frame.
    pub(crate) fn duration_ns(&self, payload: &[u8]) -> Option<i64> {
        let parameters =
            FormatParameters { clock_hz: self.clock_hz, channels: self.channels, fmtp: self.fmtp.as_str() };
        self.codec()?.payload_duration_ns(parameters, payload)
    }

    /// Returns whether the encoding names this codec. Faster than [`PayloadFormat::codec`], because it reads one row of
    /// the codec table.
    pub(crate) fn is(&self, codec: Codec) -> bool {
        codec.is_named(&self.encoding)
    }
}

/// SRTP keys of one stream (RFC 4568). `Debug` hides the keys, so that logs never contain them.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SrtpContext {
    /// Crypto suite, e.g. `AES_CM_128_HMAC_SHA1_80`.
    pub suite: String,
    /// Master keys in the order of the crypto attribute. A master key identifier in each packet selects one of them.
    pub keys: Vec<SrtpKey>,
}

/// One SRTP master key with its salt.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SrtpKey {
    /// Master key and salt as base64 text, as after `inline:`.
    pub inline: String,
    /// Value of the MKI (master key identifier), and its length in bytes, 1 to 128.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mki: Option<(u64, u8)>,
}

impl std::fmt::Debug for SrtpContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SrtpContext({}, {} keys)", self.suite, self.keys.len())
    }
}

impl std::fmt::Debug for SrtpKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SrtpKey([hidden])")
    }
}

/// Reason why the keys of an encrypted stream are not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MissingKeyReason {
    /// DTLS-SRTP: DTLS in the media path agrees on the keys (RFC 5764).
    DtlsSrtp,
    /// ZRTP in the media path agrees on the keys (RFC 6189).
    Zrtp,
    /// The capture does not show the keys of the SRTP stream.
    NoKeys,
}

/// The conversation to which a leg belongs, and the evidence for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegAssignment {
    /// Id of the conversation to which the leg belongs.
    pub conversation: String,
    /// Rule by which the leg joined the conversation. `None` for the conversation's first leg.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<CorrelationRule>,
    /// Rule that confirmed the join; `None` if it is not confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmed_by: Option<CorrelationRule>,
    /// Address of the machine that sent the leg, if the machine received the call at another address; `None` otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Endpoint>,
    /// Ids of other conversations to which the leg could belong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alternatives: Vec<String>,
}

/// The state of a conversation, as far as no message of the leg shows it. A restart restores it from the spool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConversationState {
    /// Id of the conversation whose state this is.
    pub conversation: String,
    /// Capture time of the conversation's first message, ns since the Unix epoch.
    pub created_at_ns: i64,
    /// Ids of the related conversations, each with the rule that related it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub relations: Vec<(String, CorrelationRule)>,
    /// Id of the conversation that this conversation continues after a media timeout; `None` if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continues: Option<String>,
    /// Party that took the call although the call did not ring at it; `None` if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_elsewhere: Option<AnsweredElsewhere>,
    /// Whether the heuristic rules must not join the conversation to others.
    #[serde(default, skip_serializing_if = "is_default")]
    pub closed_to_heuristics: bool,
    /// Whether events have announced the conversation.
    #[serde(default, skip_serializing_if = "is_default")]
    pub is_told: bool,
    /// Whether delivery may have registered the conversation.
    #[serde(default, skip_serializing_if = "is_default")]
    pub is_committed: bool,
    /// Pairs of hosts, lower address first, that the content of the conversation showed to be one machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shown_machines: Vec<(IpAddr, IpAddr)>,
    /// Names of pairs of legs that carry the same sound according to their content.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub relays: Vec<(String, String)>,
    /// Whether a leg of the conversation ended that left no spool, because nobody answered it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub had_other_legs: bool,
    /// Names of closed legs that came from another conversation, each with the rule that joined it. The legs' own
    /// spools name the other conversation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adopted_legs: Vec<(String, Option<CorrelationRule>)>,
}

/// The party that took a call by a leg of another call: with a pickup code, or at an outside telephone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnsweredElsewhere {
    /// Capture time of the answer.
    pub at: Timestamp,
    /// Extension that took the call; `None` for an outside telephone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extension: Option<String>,
}

/// A captured REFER request (RFC 3515). The next INVITE to its target belongs to the transferred call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReferRequest {
    /// Capture time of the REFER.
    pub at: Timestamp,
    /// Number or name in the Refer-To header, to which the call is transferred; `None` if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Call-ID of the dialog that the new INVITE is to replace (attended transfer); `None` for a blind transfer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
    /// Receiver of the REFER, which is to send the INVITE.
    pub asked: Endpoint,
    /// Numbers of the parties of the REFER's call. The INVITE that the REFER causes names one of them as its caller.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parties: Vec<String>,
    /// CSeq number of the REFER. It distinguishes a second REFER to the same target.
    pub cseq: u32,
    /// Capture time from which no INVITE belongs to the REFER any more, because a NOTIFY said that the transfer is
    /// over; `None` before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over_at: Option<Timestamp>,
    /// Capture time of the first INVITE that the REFER caused; `None` before. Only further INVITEs of the same burst
    /// belong to the REFER.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spent_at: Option<Timestamp>,
    /// Whether the REFER's leg is the anchor of its call. If so, the new leg becomes a separate, related call.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_anchor: bool,
}

/// One decision of the engine about a leg, as the spool stores it.
#[expect(clippy::large_enum_variant, reason = "a leg has one `End`; a box would cost every reader a look behind it")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
pub enum Decision {
    /// Describes the leg. It is the first block of a spool file.
    Begin {
        /// Version of the decisions' JSON form: [`FORMAT`].
        format: u32,
        /// Name of the leg: the name of its file without extension.
        leg: String,
        /// Id of the conversation to which the leg belongs until the next `Join`.
        conversation: String,
        /// Configured name of the recorder.
        appliance: String,
        /// Names of the captured interfaces or files.
        source: String,
        /// Transport of the SIP messages on the wire. In the spool file, every message is a UDP datagram.
        #[serde(default, skip_serializing_if = "is_default")]
        transport: Transport,
        /// Wall clock minus capture time when the call began, ns.
        #[serde(default, skip_serializing_if = "is_default")]
        wall_offset_ns: i64,
        /// Rule by which the leg joined the conversation; `None` for the conversation's first leg.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<CorrelationRule>,
    },
    /// The leg was moved to another conversation, or the evidence for its conversation changed.
    Join(LegAssignment),
    /// The state of the leg's conversation changed.
    Conversation(Box<ConversationState>),
    /// A REFER was sent in the leg, or its state changed.
    Refer(Box<ReferRequest>),
    /// The leg's conversation is related to another conversation. Only earlier versions wrote this decision.
    Relate {
        /// Id of the related conversation.
        conversation: String,
        /// Rule that related the two conversations.
        by: CorrelationRule,
    },
    /// A new stream. Later decisions refer to it by the number `stream`. If the number is known, its stream continues as
    /// another source on the same flow.
    Stream {
        /// Number of the stream in this leg, counted from 0.
        stream: u32,
        /// Endpoint that sends the stream.
        src: Endpoint,
        /// Endpoint that receives the stream.
        dst: Endpoint,
        /// SSRC of the stream's packets.
        ssrc: Ssrc,
        /// Side that sends the stream.
        side: Side,
    },
    /// Facts about a stream that its packets do not show again, if they are not the usual ones.
    StreamOrigin {
        /// Number of the stream in this leg.
        stream: u32,
        /// Side that sends the stream.
        sender: Side,
        /// Whether the leg had announced the source, and whether it had announced the destination, when the stream
        /// began.
        announced: [bool; 2],
    },
    /// A stream belongs to a further audio m-line of its side: it is heard together with the streams of the first one.
    FurtherLine {
        /// Number of the stream in this leg.
        stream: u32,
        /// Number of the m-line among the m-lines that both sides use, counted from 0.
        #[serde(default = "second_line", skip_serializing_if = "is_second_line")]
        line: u8,
    },
    /// A payload type of a stream has this format from now on.
    Payload {
        /// Number of the stream in this leg.
        stream: u32,
        /// Payload type, 0 to 127.
        pt: PayloadType,
        /// Payload format. `None` if no session description announced the payload type.
        format: Option<PayloadFormat>,
    },
    /// A stream is encrypted with these keys from now on.
    Srtp {
        /// Number of the stream in this leg.
        stream: u32,
        /// Crypto suite and keys that decrypt the stream.
        context: SrtpContext,
    },
    /// A stream is not encrypted from now on.
    Plain {
        /// Number of the stream in this leg.
        stream: u32,
    },
    /// A stream is encrypted, and its keys are not known.
    Encrypted {
        /// Number of the stream in this leg.
        stream: u32,
        /// Reason why the keys are not known.
        why: MissingKeyReason,
    },
    /// The wall clock was set. The call record uses the offset at the start of the call; a restarted engine needs the
    /// new offset.
    Clock {
        /// Wall clock minus capture time from now on, ns.
        wall_offset_ns: i64,
    },
    /// A pause of the recording begins: payload is not stored, and the recording is silent.
    Pause,
    /// A pause of the recording ends: payload is stored again.
    Resume,
    /// The recorder was restarted, and its packet counters of the leg are lost. So rendering counts the packets in the
    /// spool file.
    Restart {
        /// Time without a packet of the leg because of the restart, milliseconds.
        away_ms: u64,
    },
    /// The recording of the leg begins. The decision has the capture time of sample 0.
    Start,
    /// The recording of the leg ends, at the time of the decision.
    End {
        /// Cause of the leg's end, e.g. a BYE.
        ended_by: EndedBy,
        /// The engine's media statistics of the caller's side.
        caller: SideRecord,
        /// The engine's media statistics of the callee's side.
        callee: SideRecord,
    },
}

const fn second_line() -> u8 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_second_line(line: &u8) -> bool {
    *line == second_line()
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A decision with the time from which it holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimedDecision {
    /// Capture time from which the decision holds, ns since the Unix epoch.
    pub at_ns: i64,
    /// The decision that holds from this time on.
    #[serde(flatten)]
    pub decision: Decision,
}

impl TimedDecision {
    /// Returns the capture time from which the decision applies.
    pub const fn at(&self) -> Timestamp {
        Timestamp::from_nanos(self.at_ns)
    }
}
