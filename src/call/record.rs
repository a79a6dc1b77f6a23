//! The call record: what the outside is told about a call. The names are a contract with scripts.
//!
//! Absent means unknown; a field is never null and never an empty string. Times are RFC 3339 UTC with
//! microseconds, of the capture clock; durations are seconds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::net::{Endpoint, Transport};
use crate::time::Timestamp;

/// The version of the record's form.
pub const SCHEMA: u32 = 1;

/// Which way a call went, as our side sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
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
pub enum Outcome {
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
pub enum Verdict {
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

/// Something that made the record less than whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// `lost_by_us`, `lost_before_us`, `restart_gap`, `torn_tail`, `clock_step`, `cut_by_snaplen`, `disk_full`, `render_error`, …
    pub kind: String,
    /// How many packets it cost.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub packets: Option<u64>,
    /// How much sound it cost, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ms: Option<u64>,
}

/// Somebody needs a call to stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Since when.
    pub since: Timestamp,
    /// In the words of whoever asked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub why: Option<String>,
}

/// One finished file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recording {
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
    pub pt: u8,
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
pub struct Sides {
    /// Left.
    pub caller: SideRecord,
    /// Right.
    pub callee: SideRecord,
}

impl Sides {
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

/// Something that happened during the call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventRecord {
    /// When.
    pub at: Timestamp,
    /// `hold`, `resume`, `transfer`, `codec_change`, `media_move`, `dtmf`, `pause`, `unpause`, …
    pub kind: String,
    /// Who did it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub side: Option<Side>,
    /// For an admin. Never a digit of a DTMF event.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub detail: Option<String>,
}

/// A time in which payload was deliberately not kept.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Paused {
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
    pub direction: Direction,
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
    pub outcome: Outcome,
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
    pub verdict: Option<Verdict>,
    /// One sentence for an admin.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub verdict_reason: Option<String>,
    /// What made it less than whole.
    #[serde(default)]
    pub problems: Vec<Problem>,
    /// The finished files.
    #[serde(default)]
    pub recordings: Vec<Recording>,
    /// What was heard on the rendered leg (before rendering: the anchor leg).
    #[serde(default)]
    pub sides: Sides,
    /// The dialogs.
    #[serde(default)]
    pub legs: Vec<LegRecord>,
    /// What happened, in order.
    #[serde(default)]
    pub events: Vec<EventRecord>,
    /// Where payload was deliberately not kept.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub paused: Vec<Paused>,
    /// Ids of conversations that have to do with this one.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub related: Vec<String>,
    /// What Pyrus has.
    #[serde(default)]
    pub delivery: DeliveryRecord,
    /// Nothing of the call may be removed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub held: Option<Hold>,
}
