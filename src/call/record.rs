//! The call record: what the outside is told about a call. The names are a contract with scripts.
//!
//! Absent means unknown; a field is never null and never an empty string. Times are RFC 3339 UTC with
//! microseconds, of the capture clock; durations are seconds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::net::{Endpoint, PayloadType, Transport};
use crate::time::Timestamp;

/// The version of the record's form.
pub const SCHEMA: u32 = 1;

/// Which way a call went, as our side sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CallDirection {
    /// From outside to one of ours.
    Inbound,
    /// From one of ours to outside.
    Outbound,
    /// Between two of ours.
    Internal,
    /// Neither side matches the extension pattern.
    #[default]
    Unknown,
}

/// The two ends of a leg. The caller sent the first INVITE and is the left channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Who called: left.
    Caller,
    /// Who was called: right.
    Callee,
}

impl Side {
    /// The other end.
    pub const fn other(self) -> Self {
        match self {
            Self::Caller => Self::Callee,
            Self::Callee => Self::Caller,
        }
    }

    /// 0 for the left channel, 1 for the right.
    pub const fn channel(self) -> usize {
        match self {
            Self::Caller => 0,
            Self::Callee => 1,
        }
    }
}

/// How the call attempt ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallOutcome {
    /// A person (or a machine outside) took it.
    Answered,
    /// The PBX answered, but no person did before the caller gave up.
    Abandoned,
    /// The caller hung up before an answer.
    Cancelled,
    /// 486, 600.
    Busy,
    /// 603 and other refusals by the called person.
    Declined,
    /// 408, 480 and expiry.
    NoAnswer,
    /// 3xx.
    Redirected,
    /// Any other final failure.
    Failed,
    /// The mirror did not show it.
    #[default]
    Unknown,
}

/// What ended the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedBy {
    /// The caller's BYE (or CANCEL).
    Caller,
    /// The callee's BYE.
    Callee,
    /// No media for `silence_s`.
    Silence,
    /// A new call claimed the same media address.
    Replaced,
    /// The session timer ran out (RFC 4028).
    SessionExpired,
    /// The capture ended while the call was open.
    CaptureEnd,
    /// A configured or built-in limit.
    Limit,
    /// Refused or cancelled before an answer.
    Signalling,
}

/// In one word, whether and why (not) the call can be heard. In order of precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallVerdict {
    /// Both voices.
    BothSides,
    /// The caller only.
    CallerOnly,
    /// The callee only.
    CalleeOnly,
    /// A rule forbids recording.
    Excluded,
    /// Nobody answered.
    NotAnswered,
    /// The media cannot be decrypted.
    Encrypted,
    /// No decoder for the codec.
    UnknownCodec,
    /// No media packet was seen.
    NoMedia,
    /// Our fault: rendering or storing failed.
    Failed,
}

/// Declares an enum together with the text of each variant, which is the same in JSON, in `Display` and in `as_str`.
macro_rules! text_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$doc])* #[serde(rename = $text)] $variant,)+
            /// A text that this version does not know, from a record that another version wrote.
            #[serde(rename = "unknown", other)]
            Unknown,
        }

        impl $name {
            /// Returns the text of this variant in the call record.
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
        /// This machine lost packets of the call: the kernel, the card or the spool queue dropped them.
        LostByUs = "lost_by_us",
        /// Packets were lost before they reached this machine: by the network or by the mirror port.
        LostBeforeUs = "lost_before_us",
        /// The recorder was not running during a part of the call.
        RestartGap = "restart_gap",
        /// The spool file of the call ends within a block.
        TornTail = "torn_tail",
        /// The wall clock was set during the call.
        ClockStep = "clock_step",
        /// Captured frames were shorter than on the wire.
        CutBySnaplen = "cut_by_snaplen",
        /// The disk of the spool was full.
        DiskFull = "disk_full",
        /// The spool could not be written, for another reason than a full disk.
        SpoolError = "spool_error",
        /// Rendering the recording failed.
        RenderError = "render_error",
        /// Packets could not be decoded.
        Undecodable = "undecodable",
        /// Packets arrived too late to be played.
        Late = "late",
        /// RTP timestamps contradict the sequence numbers.
        BrokenStamps = "broken_stamps",
        /// A side sent packets and stayed silent while the other side talked.
        OneWayAudio = "one_way_audio",
        /// The capture shows no 2xx to the INVITE; an ACK or media proves the answer.
        AnswerNotSeen = "answer_not_seen",
        /// The call continues a dialog that had ended by silence.
        ContinuesAfterSilence = "continues_after_silence",
        /// The call was already established when the capture began.
        BeganBeforeCapture = "began_before_capture",
    }
}

impl ProblemKind {
    /// Returns this problem of a call, without a number of packets or milliseconds.
    pub const fn problem(self) -> CallProblem {
        CallProblem { kind: self, packets: None, ms: None }
    }

    /// Returns this problem of a call, which affected `packets` packets.
    pub const fn with_packets(self, packets: u64) -> CallProblem {
        CallProblem { kind: self, packets: Some(packets), ms: None }
    }
}

/// A defect of the recording or of the record, with its extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallProblem {
    /// The kind of defect.
    pub kind: ProblemKind,
    /// Affected packets, where they are counted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub packets: Option<u64>,
    /// Affected time in milliseconds, where it is measured.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ms: Option<u64>,
}

/// Somebody needs a call to stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionHold {
    /// Since when.
    pub since: Timestamp,
    /// In the words of whoever asked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub why: Option<String>,
}

/// One finished file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordingFile {
    /// 1 for the first.
    pub part: u32,
    /// Where it is.
    pub path: String,
    /// `wav`, …
    pub format: String,
    /// Moment of sample 0.
    pub starts_at: Timestamp,
    /// Moment after the last sample.
    pub ends_at: Timestamp,
    /// `ends_at - starts_at`.
    pub duration_s: f64,
    /// Samples a second of each channel.
    pub sample_rate: u32,
    /// 2: left the caller, right the callee.
    pub channels: u16,
    /// Size of the file.
    pub bytes: u64,
    /// Of the file, lower-case hex.
    pub sha256: String,
    /// The file is encrypted (`recording.encrypt_to`): of what was in it, lower-case hex.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub plain_sha256: Option<String>,
}

/// What was heard of one side.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SideRecord {
    /// Encoding names in the order of their first packet.
    pub codecs: Vec<String>,
    /// Distinct RTP packets, the whole call, early media included.
    pub packets: u64,
    /// RFC 3550 A.3, summed over the SSRCs.
    pub lost: u64,
    /// Copies by the mirror and repeats by the sender.
    pub duplicates: u64,
    /// Packets that came after one with a higher sequence number.
    pub reordered: u64,
    /// Sound made up for lost packets.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub concealed_ms: Option<u64>,
    /// The highest interarrival jitter (RFC 3550 A.8) of any stream.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub max_jitter_ms: Option<f64>,
    /// The sender's clock against the capture clock; positive = the sender is fast.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub clock_drift_ppm: Option<f64>,
    /// Packets that came too late to be heard.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub late: Option<u64>,
    /// The longest run of packets that never came.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub burst_loss: Option<u64>,
    /// Estimated MOS (ITU-T G.107) for a one-way delay of 150 ms; absent for codecs without a value in G.113.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mos: Option<f64>,
    /// Seconds of the recording with sound above -45 dBov.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub talk_s: Option<f64>,
    /// The other seconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub silence_s: Option<f64>,
    /// The largest sample against full scale, dB; absent when all is silent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub peak_dbfs: Option<f64>,
    /// Samples at full scale.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub clipped_samples: Option<u64>,
    /// The SSRCs.
    pub streams: Vec<StreamRecord>,
}

/// What was heard of one SSRC.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamRecord {
    /// Sender.
    pub src: Endpoint,
    /// Receiver.
    pub dst: Endpoint,
    /// `0x1a2b3c4d`.
    pub ssrc: String,
    /// The payload type of most of its packets.
    pub pt: PayloadType,
    /// Encoding name, `PCMA`; absent when nothing announced it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub codec: Option<String>,
    /// Sound in a packet.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ptime_ms: Option<f64>,
    /// Distinct packets.
    pub packets: u64,
    /// RFC 3550 A.3.
    pub lost: u64,
    /// First packet.
    pub first_at: Timestamp,
    /// Last packet.
    pub last_at: Timestamp,
}

/// Both sides of the anchor leg.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SideRecords {
    /// Left.
    pub caller: SideRecord,
    /// Right.
    pub callee: SideRecord,
}

impl SideRecords {
    /// One of the two.
    pub const fn get(&self, side: Side) -> &SideRecord {
        match side {
            Side::Caller => &self.caller,
            Side::Callee => &self.callee,
        }
    }

    /// One of the two, to be filled in.
    pub const fn get_mut(&mut self, side: Side) -> &mut SideRecord {
        match side {
            Side::Caller => &mut self.caller,
            Side::Callee => &mut self.callee,
        }
    }
}

/// One dialog at one hop.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LegRecord {
    /// Call-ID.
    pub sip_call_id: String,
    /// Tag of the From of the first INVITE.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from_tag: Option<String>,
    /// Tag of the To of the dialog.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub to_tag: Option<String>,
    /// How the signalling travelled.
    pub transport: Transport,
    /// Signalling address of who sent the first INVITE.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub caller_addr: Option<Endpoint>,
    /// Signalling address of who received it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub callee_addr: Option<Endpoint>,
    /// User-Agent and Server values seen.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub user_agents: Vec<String>,
    /// First INVITE.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub invited_at: Option<Timestamp>,
    /// 2xx to the INVITE.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub answered_at: Option<Timestamp>,
    /// End of the leg.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ended_at: Option<Timestamp>,
    /// Final status of the first INVITE.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sip_status: Option<u16>,
    /// Whether the recording has this leg's sound.
    pub rendered: bool,
    /// Stem of the file in the spool that had its packets. Of the service only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub spool: Option<String>,
    /// Whether the caller of this leg is the callee of the call. Of the service only.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub sides_swapped: bool,
}

text_enum! {
    /// An event during a call.
    EventKind {
        /// A side put the other side on hold (RFC 3264 section 8.4).
        Hold = "hold",
        /// A side ended its hold.
        Resume = "resume",
        /// A side sent a REFER (RFC 3515).
        Transfer = "transfer",
        /// A side changed its audio codec.
        CodecChange = "codec_change",
        /// A side sends or receives media at another address than before.
        MediaMove = "media_move",
        /// A side pressed a key (RFC 4733 or SIP INFO).
        Dtmf = "dtmf",
        /// The recording was paused.
        Pause = "pause",
        /// The recording was resumed.
        Unpause = "unpause",
        /// The audio was replaced by a T.38 fax.
        Fax = "fax",
    }
}

/// An event during a call, with its time and author.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventRecord {
    /// Time of the event.
    pub at: Timestamp,
    /// The kind of event.
    pub kind: EventKind,
    /// The side that caused the event.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub side: Option<Side>,
    /// For an admin. Never a digit of a DTMF event.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub detail: Option<String>,
}

/// A time in which payload was deliberately not kept.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PauseRecord {
    /// Begin.
    pub from: Timestamp,
    /// End; absent while it lasts.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub to: Option<Timestamp>,
}

/// Where delivery stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryState {
    /// Nothing is to be delivered.
    #[default]
    None,
    /// Something is still owed and will be tried.
    Owed,
    /// All done.
    Done,
    /// A person must act.
    Parked,
    /// Will never succeed.
    Dead,
}

/// What Pyrus has of the call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DeliveryRecord {
    /// Where it stands.
    pub state: DeliveryState,
    /// The Pyrus task.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub task_id: Option<u64>,
    /// The parts of the recording that Pyrus has, while it does not have all.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub attached: Vec<u32>,
    /// For an admin.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub detail: Option<String>,
}

impl CallRecord {
    /// Takes over what was made of the call while it was live: the parts of its recording, and of which legs they are.
    pub fn take_parts(&mut self, earlier: &Self) {
        self.recordings.clone_from(&earlier.recordings);
        let is_same = |a: &LegRecord, b: &LegRecord| {
            a.sip_call_id == b.sip_call_id && a.caller_addr == b.caller_addr && a.callee_addr == b.callee_addr
        };
        for leg in &mut self.legs {
            leg.rendered |= earlier.legs.iter().any(|other| other.rendered && is_same(leg, other));
        }
    }
}

/// What became of a call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CallRecord {
    /// [`SCHEMA`].
    pub schema: u32,
    /// UTC stamp and a hash of appliance, first Call-ID, From tag and invited_at; also the external_id in Pyrus
    /// and the stem of the files. Holds no number.
    pub id: String,
    /// Name of the recorder.
    pub appliance: String,
    /// Interface or file names.
    pub source: String,
    /// Which way.
    pub direction: CallDirection,
    /// Who called, normalised.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from: Option<String>,
    /// Who was called, normalised.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub to: Option<String>,
    /// The extension on our side.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub internal: Option<String>,
    /// Display name of the caller.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from_name: Option<String>,
    /// Display name of the called party.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub to_name: Option<String>,
    /// The URI of From.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from_uri: Option<String>,
    /// The URI of To.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub to_uri: Option<String>,
    /// The Request-URI of the first INVITE.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub request_uri: Option<String>,
    /// Who was called first, where the call was diverted here (Diversion, RFC 5806; else History-Info, RFC 7044).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub diverted_from: Option<String>,
    /// The number under which the network reached the called party (P-Called-Party-ID, RFC 7315).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub called_party: Option<String>,
    /// Who transferred the call here (Referred-By, RFC 3892).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub referred_by: Option<String>,
    /// The configured extension headers, as seen.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub headers: BTreeMap<String, String>,
    /// First INVITE.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub invited_at: Option<Timestamp>,
    /// First 180 or 183.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ringing_at: Option<Timestamp>,
    /// 2xx on the anchor leg.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub answered_at: Option<Timestamp>,
    /// 2xx of the extension that took it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub operator_answered_at: Option<Timestamp>,
    /// End of the call.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ended_at: Option<Timestamp>,
    /// `answered_at` to `ended_at`, seconds; absent when not answered.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub duration_s: Option<f64>,
    /// How the attempt ended.
    pub outcome: CallOutcome,
    /// Final status of the first INVITE.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sip_status: Option<u16>,
    /// Reason header (RFC 3326) of the BYE, CANCEL or final response.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason_header: Option<String>,
    /// What ended it; absent while it lives.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ended_by: Option<EndedBy>,
    /// Whether it can be heard; absent while it lives.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub verdict: Option<CallVerdict>,
    /// One sentence for an admin.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub verdict_reason: Option<String>,
    /// What made it less than whole.
    #[serde(default)]
    pub problems: Vec<CallProblem>,
    /// The finished files.
    #[serde(default)]
    pub recordings: Vec<RecordingFile>,
    /// What was heard on the rendered leg (before rendering: the anchor leg).
    #[serde(default)]
    pub sides: SideRecords,
    /// The dialogs.
    #[serde(default)]
    pub legs: Vec<LegRecord>,
    /// What happened, in order.
    #[serde(default)]
    pub events: Vec<EventRecord>,
    /// Where payload was deliberately not kept.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub paused: Vec<PauseRecord>,
    /// Ids of conversations that have to do with this one.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub related: Vec<String>,
    /// What Pyrus has.
    #[serde(default)]
    pub delivery: DeliveryRecord,
    /// Nothing of the call may be removed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub held: Option<RetentionHold>,
}
