//! Decisions: results of the engine about a leg. They are stored in its spool file, between the packets.
//!
//! Rendering applies the decisions and does not repeat the logic of the engine. So the file also preserves a decision
//! that depends on other input, e.g. on another leg, a REGISTER or the local API. A decision applies to packets
//! captured at its time or later. In the spool, decisions are JSON; [`FORMAT`] is their version.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::call::correlation_rule::CorrelationRule;
use crate::call::record::{CallDirection, EndedBy, Side, SideRecord};
use crate::codec::{Codec, FormatParameters};
use crate::net::{Endpoint, PayloadType, Ssrc, Transport};
use crate::time::Timestamp;

/// Version of the JSON form of decisions in spool files.
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
    /// Parameters of the `fmtp` attribute, as in the session description; empty if there are none.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub fmtp: String,
}

impl PayloadFormat {
    /// Returns the codec that the encoding names, or `None` for an unknown encoding.
    pub(crate) fn codec(&self) -> Option<Codec> {
        Codec::from_name(&self.encoding)
    }

    /// Returns the duration of a payload of this format, ns. Returns `None` if the format does not determine it, or if
    /// the payload has no whole frame.
    pub(crate) fn duration_ns(&self, payload: &[u8]) -> Option<i64> {
        let parameters =
            FormatParameters { clock_hz: self.clock_hz, channels: self.channels, fmtp: self.fmtp.as_str() };
        self.codec()?.payload_duration_ns(parameters, payload)
    }

    /// Returns whether the encoding is this codec. Faster than [`PayloadFormat::codec`], because it reads one row of
    /// the codec table only.
    pub(crate) fn is(&self, codec: Codec) -> bool {
        codec.is_named(&self.encoding)
    }
}

/// SRTP keys of one stream (RFC 4568). `Debug` hides the keys, so that logs never contain them.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SrtpContext {
    /// Crypto suite, e.g. `AES_CM_128_HMAC_SHA1_80`.
    pub suite: String,
    /// Master keys in the order of the crypto attribute. If there are several, each packet names its key by the master
    /// key identifier.
    pub keys: Vec<SrtpKey>,
    /// Whether packets may have encrypted header extensions (Cryptex, RFC 9335).
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub cryptex: bool,
}

/// One SRTP master key with its salt.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SrtpKey {
    /// Master key and salt as base64 text, as in the `inline:` parameter.
    pub inline: String,
    /// MKI (master key identifier) as value and length; the length is 1 to 128 bytes.
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

/// The call of a leg, and how the leg joined it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegAssignment {
    /// Id of the conversation to which the leg belongs.
    pub conversation: String,
    /// Rule by which the leg joined the conversation. `None` for the conversation's first leg.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<CorrelationRule>,
    /// Rule that confirmed that the leg belongs to the conversation; `None` if no rule has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmed_by: Option<CorrelationRule>,
    /// A machine (e.g. a PBX) sent this leg from one address. This is the address that it has on another leg of the
    /// conversation. `None` if both addresses are the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Endpoint>,
    /// Ids of the other conversations to which the leg could belong instead.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alternatives: Vec<String>,
}

/// State of a conversation that the messages of its legs do not show. A restart restores it from the spool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConversationState {
    /// Id of this conversation.
    pub conversation: String,
    /// Capture time of the conversation's first message, ns since the Unix epoch.
    pub created_at_ns: i64,
    /// Ids of the related conversations, each with the rule that related it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub relations: Vec<(String, CorrelationRule)>,
    /// Id of the ended conversation that this conversation continues after a media timeout; `None` if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continues: Option<String>,
    /// Party that answered the call although the call did not ring at it; `None` if there is no such party.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_elsewhere: Option<AnsweredElsewhere>,
    /// Whether rules about numbers must not join the conversation to others.
    #[serde(default, skip_serializing_if = "is_default")]
    pub closed_to_heuristics: bool,
    /// Whether events have announced the conversation.
    #[serde(default, rename = "is_told", skip_serializing_if = "is_default")]
    pub is_announced: bool,
    /// Whether delivery may already have registered the conversation in Pyrus.
    #[serde(default, skip_serializing_if = "is_default")]
    pub is_committed: bool,
    /// Pairs of legs, by name, that carry the same sound, as equal bytes of voice have proven. A name is empty if its
    /// leg belonged to another conversation, which has ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub relays: Vec<(String, String)>,
    /// Parts of the conversation that the spools lack.
    #[serde(flatten)]
    pub missing: MissingParts,
    /// Names of closed legs that this conversation took over from another conversation, each with the rule that joined
    /// it. The spool files of these legs still name the other conversation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adopted_legs: Vec<(String, Option<CorrelationRule>)>,
    /// Facts about the hosts and numbers of this leg that were learnt from the traffic, if they are new. The first leg
    /// also has those about legs that have ended.
    #[serde(flatten)]
    pub learnt: LearntFacts,
}

/// Parts of a conversation that the spools of its legs lack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingParts {
    /// Whether the conversation had unanswered legs that were removed to save memory.
    #[serde(default, skip_serializing_if = "is_default")]
    pub had_other_legs: bool,
    /// Whether the PBX rang no extension on these legs. In the state of an older version, this is false.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rang_no_extension: bool,
    /// Whether the spools lack the beginning of the conversation, because an earlier process left none. The journal has
    /// its record.
    #[serde(default, skip_serializing_if = "is_default")]
    pub is_left: bool,
}

/// Facts about hosts and numbers that the engine learnt from the traffic. Without them, a restarted engine would give
/// the legs other roles.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LearntFacts {
    /// Pairs of hosts that the media content has proven to be one machine; the lower address comes first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shown_machines: Vec<(IpAddr, IpAddr)>,
    /// Hosts that are known to be PBXs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pbxs: Vec<IpAddr>,
    /// Hosts of PBXs whose calls to extensions are captured. All are in `pbxs`, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub visible_pbxs: Vec<IpAddr>,
    /// Addresses and ports from which these PBXs have certainly rung extensions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub visible_programs: Vec<Endpoint>,
    /// Hosts from which configured extensions have registered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phones: Vec<IpAddr>,
    /// Hosts at which users of several hosts have registered, so that they are PBXs with telephones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shared_registrars: Vec<IpAddr>,
    /// Users that have registered, although the configuration does not list them as extensions. Each has the host that
    /// sent the REGISTER and the host that accepted it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<(String, IpAddr, IpAddr)>,
}

/// The party that answered a call although the call did not ring at it. It dialled a pickup code, or the call was
/// forwarded to its outside telephone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnsweredElsewhere {
    /// Capture time at which this party answered.
    pub at: Timestamp,
    /// Extension that answered the call; `None` for an outside telephone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extension: Option<String>,
    /// Direction of the call, if the leg of this party showed it and leaves the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<CallDirection>,
}

/// A captured REFER request (RFC 3515). The next INVITE to its target may be the transfer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReferRequest {
    /// Capture time of the REFER.
    pub at: Timestamp,
    /// Number or name in the Refer-To header, i.e. the target of the transfer; `None` if the header has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Call-ID of the dialog that the new INVITE must replace (attended transfer); `None` for a blind transfer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
    /// Endpoint that received the REFER. The REFER asks it to send the INVITE.
    pub asked: Endpoint,
    /// Numbers of all parties of the REFER's call. The INVITE must have one of them as its caller.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parties: Vec<String>,
    /// CSeq number of the REFER. It distinguishes a second REFER to the same target.
    pub cseq: u32,
    /// Capture time after which no INVITE belongs to the REFER, because a NOTIFY reported the end of the transfer;
    /// `None` before the NOTIFY.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over_at: Option<Timestamp>,
    /// Capture time of the first INVITE that the REFER caused; `None` before this INVITE. Later only INVITEs of the
    /// same ring group belong to the REFER.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spent_at: Option<Timestamp>,
    /// Whether the REFER was sent on the anchor leg of its call, which supplies the recorded sound. If so, the leg that
    /// the REFER caused becomes a separate, related call.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_anchor: bool,
}

/// Loudness and pitch of both sides of a leg in consecutive tenths of a second.
///
/// Each tenth of a second of a side has four hexadecimal digits. The first two are the mean amplitude in dB, where 0 dB
/// is one step of a 16-bit sample. The others are the mean number of zero crossings in 255 samples. The digits 0000
/// mean that no packets came, and 0001 that their sound was not measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutlinePiece {
    /// Capture time at which the first tenth of a second begins, in tenths of a second since the Unix epoch.
    pub tenth: i64,
    /// Sound of the caller's side: four hexadecimal digits for each tenth of a second.
    pub caller: String,
    /// Sound of the callee's side: four hexadecimal digits for each tenth of a second.
    pub callee: String,
}

/// A decision of the engine about a leg, as stored in the spool.
#[expect(clippy::large_enum_variant, reason = "a leg has one `End`; a box would cost every reader a look behind it")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
pub enum Decision {
    /// Describes the leg, i.e. a SIP dialog as captured between two hosts. This is the first decision in a spool file.
    Begin {
        /// Version of the JSON form of decisions: [`FORMAT`].
        format: u32,
        /// Name of the leg, which is the name of its spool file without extension.
        leg: String,
        /// Id of the conversation to which the leg belongs until the next `Join`.
        conversation: String,
        /// Configured name of the recorder.
        appliance: String,
        /// Names of the captured interfaces or files.
        source: String,
        /// Side that sent the first captured request of the leg. It is the callee if a call without a spool was
        /// continued by its callee.
        #[serde(default = "caller", skip_serializing_if = "is_caller")]
        first_requester: Side,
        /// Transport of the SIP messages as captured. In the spool file, each message is a UDP datagram.
        #[serde(default, skip_serializing_if = "is_default")]
        transport: Transport,
        /// Wall clock minus capture time when the call began, ns.
        #[serde(default, skip_serializing_if = "is_default")]
        wall_offset_ns: i64,
        /// Rule by which the leg joined the conversation; `None` for the conversation's first leg.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<CorrelationRule>,
    },
    /// The leg moved to another conversation. Or rules found new evidence for its present conversation.
    Join(LegAssignment),
    /// The state of the leg's conversation changed.
    Conversation(Box<ConversationState>),
    /// A REFER was captured on the leg, or the state of the REFER changed.
    Refer(Box<ReferRequest>),
    /// The leg's conversation is related to another conversation. Only earlier versions wrote this decision.
    Relate {
        /// Id of the related conversation.
        conversation: String,
        /// Rule that related the two conversations.
        by: CorrelationRule,
    },
    /// A stream begins. Later decisions name it by the number `stream`. If a stream with this number has begun before,
    /// it continues with another SSRC on the same flow.
    Stream {
        /// Number of the stream in this leg, counted from 0.
        stream: u32,
        /// Endpoint that sends the stream.
        src: Endpoint,
        /// Endpoint that receives the stream.
        dst: Endpoint,
        /// SSRC of the stream's packets.
        ssrc: Ssrc,
        /// Side of the call whose voice the stream carries; it is written to this side's channel. If the other side
        /// sends the packets, a decision `StreamOrigin` follows.
        side: Side,
    },
    /// Unusual facts about the beginning of a stream that its packets do not show, e.g. an endpoint that nobody
    /// announced.
    StreamOrigin {
        /// Number of the stream in this leg.
        stream: u32,
        /// Side that sends the stream.
        sender: Side,
        /// For source and destination of the stream: whether a session description of the leg had announced the
        /// endpoint when the stream began.
        announced: [bool; 2],
        /// Capture time of the event media move that the beginning of the stream caused, ns since the Unix epoch.
        /// `None` if there was no such event.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        moved_at_ns: Option<i64>,
    },
    /// The stream belongs to a further audio m-line of its side. Its sound is mixed with the sound of the first m-line.
    FurtherLine {
        /// Number of the stream in this leg.
        stream: u32,
        /// Number of the m-line among the m-lines that both sides use, counted from 0.
        #[serde(default = "second_line", skip_serializing_if = "is_second_line")]
        line: u8,
    },
    /// From now on, the sender announces other addresses than the source of the stream, or announces the source again.
    /// While another stream of the side sounds, a superseded stream is not heard.
    Superseded {
        /// Number of the stream in this leg.
        stream: u32,
        /// Whether the stream is superseded, e.g. because another branch of a fork answered.
        is_superseded: bool,
    },
    /// The packets of the stream take its flow again, after a time in which the parties had announced another path for
    /// them. The sender counted on, so packets missing before the next packet are not lost.
    Detour {
        /// Number of the stream in this leg.
        stream: u32,
    },
    /// From now on, packets of the stream with the given payload type have the given format.
    Payload {
        /// Number of the stream in this leg.
        stream: u32,
        /// Payload type, 0 to 127.
        pt: PayloadType,
        /// Payload format. `None` if no session description announced the payload type.
        format: Option<PayloadFormat>,
    },
    /// From now on, the stream is encrypted with these keys.
    Srtp {
        /// Number of the stream in this leg.
        stream: u32,
        /// Crypto suite and keys that decrypt the stream.
        context: SrtpContext,
        /// Keys in an unanswered offer of the sender. The mirror may have lost the answer, so they are tried, too.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        offered: Vec<SrtpContext>,
    },
    /// From now on, the stream is not encrypted.
    Plain {
        /// Number of the stream in this leg.
        stream: u32,
        /// Keys that one side announced and the other side did not accept, or did not answer yet. The stream is
        /// encrypted if one of them opens its packets.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        unused_keys: Vec<SrtpContext>,
    },
    /// From now on, the stream is encrypted with unknown keys.
    Encrypted {
        /// Number of the stream in this leg.
        stream: u32,
        /// Reason why the keys are not known.
        why: MissingKeyReason,
    },
    /// The wall clock was set. A restarted engine needs the new difference to the capture time. The call record uses
    /// the difference at the start of the call.
    Clock {
        /// Wall clock minus capture time from now on, ns.
        wall_offset_ns: i64,
    },
    /// The recording is paused: from now on no payload is stored, and the recording is silent.
    Pause,
    /// The recording is resumed: from now on payload is stored again.
    Resume,
    /// Loudness and pitch of the leg's sound in the seconds before this decision. They are stored only while it is
    /// doubtful to which conversation the leg belongs.
    Outline(OutlinePiece),
    /// Number of blocks of voice (short pieces of payload) that were compared, while no other leg had an equal block.
    /// It is 0 as soon as another leg has one. The newest decision of this kind replaces the earlier decisions.
    VoiceBlocks {
        /// Number of compared pieces of the caller's voice that no other leg had.
        caller: u32,
        /// Number of compared pieces of the callee's voice that no other leg had.
        callee: u32,
    },
    /// The recorder was restarted, so the engine's packet counters for this leg are lost. Rendering counts the packets
    /// in the spool file instead.
    Restart {
        /// Time between the last packet of the leg and the restart of the recorder, milliseconds.
        away_ms: u64,
    },
    /// The recording of the leg begins. The time of this decision is the time of the recording's first sample.
    Start,
    /// The recording of the leg ends at the time of this decision.
    End {
        /// Event that ended the leg, e.g. a BYE.
        ended_by: EndedBy,
        /// Media statistics of the caller's side.
        caller: SideRecord,
        /// Media statistics of the callee's side.
        callee: SideRecord,
    },
}

impl Decision {
    /// Returns whether the sound of the leg depends on the place of this decision among its packets.
    pub(crate) const fn changes_sound(&self) -> bool {
        match self {
            Self::Stream { .. }
            | Self::StreamOrigin { .. }
            | Self::FurtherLine { .. }
            | Self::Superseded { .. }
            | Self::Detour { .. }
            | Self::Payload { .. }
            | Self::Srtp { .. }
            | Self::Plain { .. }
            | Self::Encrypted { .. }
            | Self::Pause
            | Self::Resume => true,
            Self::Begin { .. }
            | Self::Join(_)
            | Self::Conversation(_)
            | Self::Refer(_)
            | Self::Relate { .. }
            | Self::Clock { .. }
            | Self::Outline(_)
            | Self::VoiceBlocks { .. }
            | Self::Restart { .. }
            | Self::Start
            | Self::End { .. } => false,
        }
    }
}

const fn caller() -> Side {
    Side::Caller
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_caller(side: &Side) -> bool {
    matches!(side, Side::Caller)
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

/// A decision, and the time from which it applies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimedDecision {
    /// Capture time from which the decision applies, ns since the Unix epoch.
    pub at_ns: i64,
    /// The decision, which applies from this time on.
    #[serde(flatten)]
    pub decision: Decision,
}

impl TimedDecision {
    /// Returns the capture time from which the decision applies.
    pub const fn at(&self) -> Timestamp {
        Timestamp::from_nanos(self.at_ns)
    }
}
