//! The call record: the JSON description of a call. Scripts depend on the names of its fields.
//!
//! A field without a known value is absent. No field is null or an empty string. Times are RFC 3339 UTC with
//! microseconds, and durations are seconds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::errno::OsErrno;
use crate::call::correlation_rule::CorrelationRule;
use crate::call::leg_end::LegEnd;
use crate::call::voice_prints::VoicePrints;
use crate::net::{Endpoint, PayloadType, Transport};
use crate::time::Timestamp;

/// Version of the fields of a record, stored in each record.
pub const SCHEMA: u32 = 1;

/// Direction of a call, seen from our own PBX.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CallDirection {
    /// The call went from an outside number to an extension.
    Inbound,
    /// The call went from an extension to an outside number.
    Outbound,
    /// The call went from one extension to another.
    Internal,
    /// The direction is unknown, because neither side is known to be an extension.
    #[default]
    Unknown,
}

/// One end of a leg or call: the caller or the callee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The user agent that sent the first INVITE; its voice is the left channel.
    Caller,
    /// The user agent that received the first INVITE; its voice is the right channel.
    Callee,
}

impl Side {
    /// Returns the opposite side: the callee for the caller, and the caller for the callee.
    pub const fn other(self) -> Self {
        match self {
            Self::Caller => Self::Callee,
            Self::Callee => Self::Caller,
        }
    }

    /// Returns the channel of the recording: 0 for the caller (left), 1 for the callee (right).
    pub const fn channel(self) -> usize {
        match self {
            Self::Caller => 0,
            Self::Callee => 1,
        }
    }
}

/// Outcome of the call attempt, i.e. whether and how it was answered or refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallOutcome {
    /// A person answered; or a machine of the outside party, e.g. an answering machine.
    Answered,
    /// The PBX answered, e.g. with a queue, and the caller hung up before a person answered.
    Abandoned,
    /// The caller hung up before an answer.
    Cancelled,
    /// The call was refused with the status 486 or 600 (busy).
    Busy,
    /// The called person refused the call with 603 or 607.
    Declined,
    /// The call was refused with 408 or 480, or rang until it timed out.
    NoAnswer,
    /// The call was redirected with a 3xx response.
    Redirected,
    /// The call was refused with a 4xx, 5xx or 6xx response that no other outcome names.
    Failed,
    /// The captured messages do not show the outcome.
    #[default]
    Unknown,
}

impl CallOutcome {
    /// Returns the word for the outcome in the call record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Abandoned => "abandoned",
            Self::Cancelled => "cancelled",
            Self::Busy => "busy",
            Self::Declined => "declined",
            Self::NoAnswer => "no_answer",
            Self::Redirected => "redirected",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

/// The event that ended the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedBy {
    /// The caller ended the call by a BYE or CANCEL.
    Caller,
    /// The callee ended the call by a BYE.
    Callee,
    /// The call ended by a media timeout: there was no media for `calls.silence_s` seconds.
    Silence,
    /// Another call announced the same media address, so this call must be over.
    Replaced,
    /// The session timer expired (RFC 4028).
    SessionExpired,
    /// The recorder's capture of packets ended while the call was still open.
    CaptureEnd,
    /// The call reached a maximum, e.g. `calls.max_hours`.
    Limit,
    /// The INVITE was refused or cancelled before an answer.
    Signalling,
}

/// Whether the call can be heard, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallVerdict {
    /// Both sides can be heard.
    BothSides,
    /// Only the caller can be heard.
    CallerOnly,
    /// Only the callee can be heard.
    CalleeOnly,
    /// A rule in `[[rules]]` excludes the call from recording.
    Excluded,
    /// The call was not answered.
    NotAnswered,
    /// The media is encrypted, and callspan does not have the keys.
    Encrypted,
    /// callspan has no decoder for the codec.
    UnknownCodec,
    /// No media packet of the call was captured.
    NoMedia,
    /// Rendering or storing the recording failed.
    Failed,
}

/// Declares an enum in which each variant has a text. JSON, `Display` and `as_str` use the same text.
macro_rules! text_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$doc])* #[serde(rename = $text)] $variant,)+
            /// A text that only another version knows. It occurs in records that the other version wrote.
            #[serde(rename = "unknown", other)]
            Unknown,
        }

        impl $name {
            /// Returns the text of this variant in the call record, e.g. `both_sides`.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                    Self::Unknown => "unknown",
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

text_enum! {
    /// A defect of the recording or of the record.
    ProblemKind {
        /// The recorder lost packets of the call: in its network card, in the kernel, or in the queue of the spool.
        LostByUs = "lost_by_us",
        /// Packets were lost before they reached the recorder: by the network or by the mirror port.
        LostBeforeUs = "lost_before_us",
        /// The recorder was not running during a part of the call.
        RestartGap = "restart_gap",
        /// The spool file (the recorder's file of captured packets) ends in the middle of an entry, because the process
        /// crashed while it wrote.
        TornTail = "torn_tail",
        /// The mirror showed media between the hosts of the call, but at addresses that the signalling does not
        /// announce. A NAT has probably changed them.
        MediaBehindNat = "media_behind_nat",
        /// The parties agreed on media over TCP, which is not recorded.
        MediaOverTcp = "media_over_tcp",
        /// A side sent audio on several m-lines at the same time. Their sound is mixed.
        SecondAudioLine = "second_audio_line",
        /// The wall clock was set during the call, so times before and after it cannot be compared.
        ClockStep = "clock_step",
        /// Captured frames were truncated: they were longer on the wire.
        CutBySnaplen = "cut_by_snaplen",
        /// The disk of the spool was full, so packets of the call are missing.
        DiskFull = "disk_full",
        /// The spool (the recorder's files of captured packets) could not be written, for another reason than a full
        /// disk. With the error ENOENT, its files disappeared.
        SpoolError = "spool_error",
        /// The recording could not be made (rendered) from the captured packets in the spool, or only a part of it.
        RenderError = "render_error",
        /// Packets could not be decoded, because their payload was damaged.
        Undecodable = "undecodable",
        /// A side can be heard, but a part of its packets could not be decrypted.
        EncryptedPart = "encrypted_part",
        /// A side can be heard, but a part of its packets had a codec without a decoder, or a payload type that nobody
        /// announced.
        UnknownCodecPart = "unknown_codec_part",
        /// Packets arrived too late to be played.
        Late = "late",
        /// RTP timestamps and sequence numbers contradict each other.
        BrokenStamps = "broken_stamps",
        /// RTP timestamps jump every few packets, so the positions of the sound in the recording are unreliable.
        ScatteredStamps = "scattered_stamps",
        /// AMR payloads were octet-aligned although the bandwidth-efficient mode was announced, or the reverse (RFC
        /// 4867).
        AmrAlignment = "amr_alignment",
        /// G.726 payloads had another order of code words than announced.
        G726Packing = "g726_packing",
        /// Packets had stray bytes after the last whole frame.
        TrailingBytes = "trailing_bytes",
        /// The two channels of a stereo stream had opposite phases.
        OppositePhases = "opposite_phases",
        /// Linear samples (L16) came in little-endian order instead of network byte order.
        ByteOrder = "byte_order",
        /// G.711 came in the other companding law than announced: A-law instead of mu-law, or the reverse.
        CompandingLaw = "companding_law",
        /// Packets were unencrypted although both sides had agreed on SRTP. Their sound is in the recording.
        SentUnencrypted = "sent_unencrypted",
        /// Packets had another payload type than the receiver announced for their format.
        PayloadTypeMismatch = "payload_type_mismatch",
        /// A leg had more RTP streams than the recorder stores.
        StreamsRefused = "streams_refused",
        /// A side sent packets without sound while the other side talked.
        OneWayAudio = "one_way_audio",
        /// The capture shows no 2xx response to the INVITE, but an ACK or media proves the answer.
        AnswerNotSeen = "answer_not_seen",
        /// The call continues an earlier call, which had ended because no media came for some time.
        ContinuesAfterSilence = "continues_after_silence",
        /// The call was already established when the capture began.
        BeganBeforeCapture = "began_before_capture",
        /// This record stands for many unanswered INVITEs from one source. `packets` is their number.
        Scan = "scan",
    }
}

impl ProblemKind {
    /// Returns a problem of this kind without a number of packets, a duration and an error number.
    pub const fn problem(self) -> CallProblem {
        CallProblem { kind: self, packets: None, ms: None, errno: None }
    }

    /// Returns a problem of this kind that affected `packets` packets.
    pub(crate) const fn with_packets(self, packets: u64) -> CallProblem {
        CallProblem { kind: self, packets: Some(packets), ms: None, errno: None }
    }
}

/// A defect of the recording or of the record. Contains the number of affected packets and the affected time, if known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallProblem {
    /// Kind of the defect, e.g. `disk_full`.
    pub kind: ProblemKind,
    /// Number of affected packets; `None` if they were not counted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub packets: Option<u64>,
    /// Affected time in milliseconds; `None` if it was not measured.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ms: Option<u64>,
    /// Error of the operating system that caused the defect; `None` if it had another cause.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub errno: Option<OsErrno>,
}

impl CallProblem {
    /// Returns the problem that the spool (the files of captured packets) could not be written because of this error.
    pub(crate) const fn of_spool(errno: OsErrno) -> Self {
        let kind = if errno.is_disk_full() { ProblemKind::DiskFull } else { ProblemKind::SpoolError };
        Self { kind, packets: None, ms: None, errno: Some(errno) }
    }
}

/// A person's request to keep the files of a call beyond the retention time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionHold {
    /// Wall-clock time at which somebody asked to keep the files.
    pub since: Timestamp,
    /// Reason that the person gave for keeping the files; `None` if the person gave none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub why: Option<String>,
}

/// A finished file of a recording. A long recording has several files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordingFile {
    /// Number of this file (segment) within the recording, counted from 1.
    pub part: u32,
    /// Path of the file on the computer that made it.
    pub path: String,
    /// File format, as the configuration names it, e.g. `wav`.
    pub format: String,
    /// Wall-clock time of the first sample.
    pub starts_at: Timestamp,
    /// Wall-clock time after the last sample.
    pub ends_at: Timestamp,
    /// Length of the recording, seconds.
    pub duration_s: f64,
    /// Sampling rate in Hz, e.g. 8000.
    pub sample_rate: u32,
    /// Number of channels. In stereo, the caller is left and the callee is right.
    pub channels: u16,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// SHA-256 of the file, lower-case hexadecimal.
    pub sha256: String,
    /// SHA-256 of the content before encryption, lower-case hexadecimal; `None` if the file is not encrypted
    /// (`recording.encrypt_to`).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub plain_sha256: Option<String>,
}

#[cfg(test)]
impl RecordingFile {
    /// Returns the only file of a recording, WAV with 8000 samples a second. For tests.
    pub(crate) fn sample(path: &str, starts_at: Timestamp, duration_s: f64) -> Self {
        Self {
            part: 1,
            path: path.to_owned(),
            format: String::from("wav"),
            starts_at,
            ends_at: starts_at.offset((duration_s * 1e9) as i64),
            duration_s,
            sample_rate: 8_000,
            channels: 2,
            bytes: 44,
            sha256: String::new(),
            plain_sha256: None,
        }
    }
}

/// A place in the recording where packets of a side are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossRecord {
    /// Wall-clock time at which the missing sound begins.
    pub from: Timestamp,
    /// Wall-clock time at which the missing sound ends.
    pub to: Timestamp,
    /// Number of missing packets.
    pub packets: u64,
    /// Duration of the sound that replaces the missing sound (concealment), milliseconds.
    pub concealed_ms: u64,
}

/// Media statistics of one side of a call, from RTP headers and from the decoded sound.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SideRecord {
    /// Names of the side's codecs, in the order of their first packet.
    pub codecs: Vec<String>,
    /// Number of distinct RTP packets in the whole call, including early media.
    pub packets: u64,
    /// Number of lost packets (RFC 3550 appendix A.3), summed over the SSRCs.
    pub lost: u64,
    /// Number of packets that were captured more than once, because the mirror port or the sender duplicated them.
    pub duplicates: u64,
    /// Number of packets that arrived after a packet with a higher sequence number.
    pub reordered: u64,
    /// Duration of the sound that replaces lost packets (concealment), milliseconds; `None` before rendering.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub concealed_ms: Option<u64>,
    /// Places in the recording where packets are missing, oldest first. Places close to each other are one place. Empty
    /// before rendering.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub losses: Vec<LossRecord>,
    /// Highest interarrival jitter of the side's streams (RFC 3550 appendix A.8), milliseconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub max_jitter_ms: Option<f64>,
    /// Deviation of the sender's clock from the capture clock, parts per million. It is positive if the sender's clock
    /// is fast.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub clock_drift_ppm: Option<f64>,
    /// Number of packets that arrived too late to be played; `None` before rendering.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub late: Option<u64>,
    /// Largest number of packets that were lost in a row; `None` before rendering.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub burst_loss: Option<u64>,
    /// Estimated MOS, 1 to 4.5 (ITU-T G.107 with a one-way delay of 150 ms). Absent for codecs that ITU-T G.113 does
    /// not list.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mos: Option<f64>,
    /// Time in the recording with sound above -45 dBov, seconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub talk_s: Option<f64>,
    /// Time in the recording without sound above -45 dBov, seconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub silence_s: Option<f64>,
    /// Largest sample relative to full scale, dB. Absent if all samples are zero.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub peak_dbfs: Option<f64>,
    /// Number of samples at full scale, which usually means distorted sound.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub clipped_samples: Option<u64>,
    /// Statistics of each stream that the side sent.
    pub streams: Vec<StreamRecord>,
}

/// Media statistics of one RTP stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamRecord {
    /// Endpoint that sent the stream.
    pub src: Endpoint,
    /// Endpoint that received the stream.
    pub dst: Endpoint,
    /// SSRC in hexadecimal form, e.g. `0x1a2b3c4d`.
    pub ssrc: String,
    /// Payload type of most packets, 0 to 127.
    pub pt: PayloadType,
    /// Codec name, e.g. `PCMA`. Absent if no session description announced the payload type.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub codec: Option<String>,
    /// Duration of the sound in one packet, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ptime_ms: Option<f64>,
    /// Number of packets, not counting duplicates.
    pub packets: u64,
    /// Number of lost packets (RFC 3550 appendix A.3).
    pub lost: u64,
    /// Wall-clock time of the first packet.
    pub first_at: Timestamp,
    /// Wall-clock time of the last packet.
    pub last_at: Timestamp,
}

/// Media statistics of both sides.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SideRecords {
    /// Media statistics of the caller's side.
    pub caller: SideRecord,
    /// Media statistics of the callee's side.
    pub callee: SideRecord,
}

impl SideRecords {
    /// Returns the statistics of one side.
    pub const fn get(&self, side: Side) -> &SideRecord {
        match side {
            Side::Caller => &self.caller,
            Side::Callee => &self.callee,
        }
    }

    /// Returns the statistics of `side`, mutable.
    pub const fn get_mut(&mut self, side: Side) -> &mut SideRecord {
        match side {
            Side::Caller => &mut self.caller,
            Side::Callee => &mut self.callee,
        }
    }
}

/// Record of one leg of a call, i.e. of a SIP dialog as captured between two hosts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LegRecord {
    /// Call-ID header of the dialog.
    pub sip_call_id: String,
    /// From tag of the first INVITE; `None` if it has none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from_tag: Option<String>,
    /// To tag of the dialog; `None` without an answer.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub to_tag: Option<String>,
    /// Transport of the SIP messages: UDP, TCP or WebSocket.
    pub transport: Transport,
    /// Endpoint that sent the first INVITE, i.e. the caller's end of the leg.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub caller_addr: Option<Endpoint>,
    /// Endpoint that received the first INVITE, i.e. the callee's end of the leg.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub callee_addr: Option<Endpoint>,
    /// Role and number of the party at the caller's end.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub caller: Option<LegEnd>,
    /// Role and number of the party at the callee's end.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub callee: Option<LegEnd>,
    /// Distinct values of the User-Agent and Server headers.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub user_agents: Vec<String>,
    /// Wall-clock time of the first INVITE; `None` if it was not captured.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub invited_at: Option<Timestamp>,
    /// Wall-clock time of the 2xx to the INVITE; `None` if the leg was not answered.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub answered_at: Option<Timestamp>,
    /// Wall-clock time at which the leg ended; `None` while the leg is open.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ended_at: Option<Timestamp>,
    /// Status code of the final response to the first INVITE; `None` before this response.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sip_status: Option<u16>,
    /// Voice prints of an ended leg, by which a central archive finds the call at other sites. Empty without an
    /// archive.
    #[serde(skip_serializing_if = "VoicePrints::is_empty", default)]
    pub voice_prints: VoicePrints,
    /// Whether the recording contains the sound of this leg.
    pub rendered: bool,
    /// Rule by which the leg joined the call. Absent for the first leg.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub joined_by: Option<CorrelationRule>,
    /// Name of the leg's spool file (its file of captured packets) without extension. Only the service sets this field.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub spool: Option<String>,
    /// Whether the sides are swapped: the caller of this leg is the callee of the call. Only the service sets this
    /// field.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub sides_swapped: bool,
}

text_enum! {
    /// An event during a call, as the record lists it.
    EventKind {
        /// A side put the other side on hold (RFC 3264 section 8.4).
        Hold = "hold",
        /// A side ended its hold, so that media flows again.
        Resume = "resume",
        /// A side sent a REFER (RFC 3515).
        Transfer = "transfer",
        /// A side changed its audio codec.
        CodecChange = "codec_change",
        /// A side sends or receives media at another address than before.
        MediaMove = "media_move",
        /// A person pressed a telephone key: DTMF by RFC 4733 or by SIP INFO.
        Dtmf = "dtmf",
        /// The recording (not the call) was paused, e.g. for a card number.
        Pause = "pause",
        /// The recording was resumed after a pause of the recording.
        Unpause = "unpause",
        /// A T.38 fax replaced the audio; or a side offered T.38 and the other side refused it ([`T38_REFUSED`]).
        Fax = "fax",
        /// After the end of the recording, a PBX played a busy or reorder tone to a party that had not hung up. No
        /// recording has this tone. The detail is its length in seconds.
        ToneLeftOut = "tone_left_out",
    }
}

/// An event during a call, e.g. a hold, with its time and the side that caused it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventRecord {
    /// Wall-clock time of the event.
    pub at: Timestamp,
    /// The kind of event, e.g. `hold`.
    pub kind: EventKind,
    /// The side that caused the event; `None` if no side did, e.g. for a request by the API.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub side: Option<Side>,
    /// Explanation for an administrator; `None` if the kind says enough. It never contains a DTMF digit.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub detail: Option<String>,
}

/// Detail of the event `fax` if one side offered T.38 and the other refused it.
pub const T38_REFUSED: &str = "T.38 refused";

/// An interval in which the recording was paused, so that no payload was stored.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PauseRecord {
    /// Wall-clock time at which the pause began.
    pub from: Timestamp,
    /// Wall-clock time at which the pause ended. `None` while the pause lasts.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub to: Option<Timestamp>,
}

/// State of the delivery of a call to Pyrus, without details.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryState {
    /// The call is not delivered to Pyrus.
    #[default]
    None,
    /// The delivery to Pyrus is not complete yet, and continues by itself.
    Owed,
    /// The delivery is complete: Pyrus has everything.
    Done,
    /// The delivery to Pyrus waits for a person to act.
    Parked,
    /// The delivery to Pyrus was given up. The call, or one of its recordings, is missing there.
    Dead,
}

/// State of the delivery of a call to Pyrus, with details.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DeliveryRecord {
    /// State of the delivery to Pyrus in one word, e.g. `done`.
    pub state: DeliveryState,
    /// Id of the Pyrus task; `None` if unknown.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub task_id: Option<u64>,
    /// Person who is responsible for the task in Pyrus; `None` if unknown.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub responsible: Option<String>,
    /// Numbers of the recording's segments that Pyrus has. Absent if Pyrus has every segment.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub attached: Vec<u32>,
    /// Explanation for an administrator; `None` if there is nothing to explain.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub detail: Option<String>,
}

impl CallRecord {
    /// Copies from the record `earlier` the recording's segments that were finished during the call. Also copies for
    /// each leg whether these segments contain its sound.
    pub(crate) fn take_parts(&mut self, earlier: &Self) {
        self.recordings.clone_from(&earlier.recordings);
        let is_same = |a: &LegRecord, b: &LegRecord| {
            a.sip_call_id == b.sip_call_id && a.caller_addr == b.caller_addr && a.callee_addr == b.callee_addr
        };
        for leg in &mut self.legs {
            leg.rendered |= earlier.legs.iter().any(|other| other.rendered && is_same(leg, other));
        }
    }
}

/// A relation of a call to another call, e.g. to the consultation before a transfer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelationRecord {
    /// Id of the related call.
    pub id: String,
    /// Correlation rule that found the relation between the two calls.
    pub why: CorrelationRule,
    /// Explanation of the relation for an administrator, one sentence.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub detail: String,
}

impl RelationRecord {
    /// Creates a relation to the call with this id.
    pub fn new(id: &str, why: CorrelationRule) -> Self {
        Self { id: id.to_owned(), why, detail: why.sentence().to_owned() }
    }
}

/// The record of a call: everything that callspan knows about it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CallRecord {
    /// Version of the record's fields: [`SCHEMA`].
    pub schema: u32,
    /// Id of the call: the UTC time, and a hash of recorder name, first Call-ID, From tag and `invited_at`. It is also
    /// the `external_id` in Pyrus and part of file names, and contains no phone number.
    pub id: String,
    /// Name of the recorder in the configuration (`calls.appliance`).
    pub appliance: String,
    /// Names of the captured interfaces or files.
    pub source: String,
    /// Direction of the call: inbound, outbound, internal or unknown.
    pub direction: CallDirection,
    /// Number of the caller, normalised; `None` if unknown.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from: Option<String>,
    /// Called number, normalised; `None` if unknown.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub to: Option<String>,
    /// Extension of our own PBX that made or answered the call; `None` if unknown.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub internal: Option<String>,
    /// Display name in the caller's address; `None` if there is none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from_name: Option<String>,
    /// Display name in the called party's address; `None` if there is none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub to_name: Option<String>,
    /// URI of the From header of the first INVITE.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from_uri: Option<String>,
    /// URI of the To header of the first INVITE.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub to_uri: Option<String>,
    /// Request-URI of the first INVITE, i.e. the address that was called.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub request_uri: Option<String>,
    /// Number that was called before the call was diverted (Diversion, RFC 5806; otherwise History-Info, RFC 7044).
    /// `None` without a diversion.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub diverted_from: Option<String>,
    /// Number at which the network reached the called party (P-Called-Party-ID, RFC 7315).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub called_party: Option<String>,
    /// Number of the party that transferred the call (Referred-By, RFC 3892).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub referred_by: Option<String>,
    /// Values of the SIP headers that the configuration keeps (`calls.keep_headers`), by header name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub headers: BTreeMap<String, String>,
    /// Wall-clock time of the first INVITE; `None` if it was not captured.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub invited_at: Option<Timestamp>,
    /// Wall-clock time of the first response 180 or 183; `None` if there was none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ringing_at: Option<Timestamp>,
    /// Wall-clock time of the 2xx on the anchor leg, which supplies the times of the call; `None` if it was not
    /// answered.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub answered_at: Option<Timestamp>,
    /// Wall-clock time at which an extension answered with a 2xx; `None` if no extension answered.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub operator_answered_at: Option<Timestamp>,
    /// Wall-clock time at which the call ended; `None` while it lasts.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ended_at: Option<Timestamp>,
    /// Time from `answered_at` to `ended_at`, seconds. Absent if the call was not answered.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub duration_s: Option<f64>,
    /// Outcome of the call attempt, e.g. answered or busy.
    pub outcome: CallOutcome,
    /// Status code of the final response to the first INVITE; `None` before this response.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sip_status: Option<u16>,
    /// Reason header of the BYE, CANCEL or final response (RFC 3326).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason_header: Option<String>,
    /// Event that ended the call. `None` while the call lasts.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ended_by: Option<EndedBy>,
    /// Whether the call can be heard. `None` while the call lasts.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub verdict: Option<CallVerdict>,
    /// Explanation of the verdict for an administrator, one sentence.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub verdict_reason: Option<String>,
    /// Defects of the recording or of this record.
    #[serde(default)]
    pub problems: Vec<CallProblem>,
    /// Finished files of the recording, one for each segment.
    #[serde(default)]
    pub recordings: Vec<RecordingFile>,
    /// Media statistics of the leg that supplies the sound of the recording. Before rendering, this is the anchor leg,
    /// usually the leg of the outside party.
    #[serde(default)]
    pub sides: SideRecords,
    /// Legs (SIP dialogs) of the call, oldest first.
    #[serde(default)]
    pub legs: Vec<LegRecord>,
    /// Events during the call, e.g. holds, in order of time.
    #[serde(default)]
    pub events: Vec<EventRecord>,
    /// Pauses of the recording, in order of time.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub paused: Vec<PauseRecord>,
    /// Ids of related calls, e.g. of the consultation before a transfer.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub related: Vec<String>,
    /// For each call in `related`, the rule that related it.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub relations: Vec<RelationRecord>,
    /// State of the delivery to Pyrus.
    #[serde(default)]
    pub delivery: DeliveryRecord,
    /// Request to keep the files of this call; `None` if nobody made one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub held: Option<RetentionHold>,
    /// Whether `callspan test-call` made the call.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub test_call: bool,
}
