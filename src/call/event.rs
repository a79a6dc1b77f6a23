//! What the engine gives out: packets and decisions for the spool, events for everyone else.

use crate::call::decision::Decision;
use crate::call::record::CallRecord;
use crate::decode::UdpDatagram;
use crate::time::Timestamp;

/// A leg while it lives: never reused in one run of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LegId(pub u64);

/// How much of a packet may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeptBytes {
    /// All of it.
    Whole,
    /// Only this many bytes of the UDP payload (the RTP header): the rest is secret. Length on the wire is kept.
    Header(u16),
}

/// Takes what must be written down. Calls for one leg come in the order in which they must stand in its file;
/// a packet stamped before an earlier one (early media) is out of order by at most [`EARLY_WINDOW`].
pub trait LegSink {
    /// A leg begins. `name` is the stem of its file.
    fn open(&mut self, leg: LegId, name: &str);
    /// A packet of a leg, signalling or media.
    fn packet(&mut self, leg: LegId, datagram: &UdpDatagram<'_>, keep: KeptBytes);
    /// A decision about a leg, holding from `at`.
    fn decide(&mut self, leg: LegId, at: Timestamp, decision: &Decision);
    /// Nothing more will come for this leg.
    fn close(&mut self, leg: LegId);
    /// Forget the leg and all that was kept of it.
    fn discard(&mut self, leg: LegId);
}

/// How long RTP is kept for a call that is not known yet; also by how much a spool may be out of order.
pub const EARLY_WINDOW: std::time::Duration = std::time::Duration::from_secs(5);

/// A part of a recording is closed so long after its end: by then all that is spooled late is there ([`EARLY_WINDOW`]),
/// and what rendering must know of the time after it (some seconds each way).
pub const SEGMENT_SETTLE: std::time::Duration = std::time::Duration::from_secs(30);

/// Something about a conversation that the outside wants to know.
#[derive(Clone, Debug, PartialEq)]
pub enum CallEvent {
    /// A live call has changed: it is settled, an extension is known, it rings, it was answered.
    Changed(Box<LiveCall>),
    /// A live call has become so long that a part of its recording can be made.
    SegmentsDue(Box<DueSegments>),
    /// A rule forbids a live call, by its id, of which [`CallEvent::SegmentsDue`] was told: those parts must go.
    Withdrawn(String),
    /// A call is over. All its legs are closed or discarded.
    Ended(Box<EndedCall>),
}

/// Whether a call may be registered in Pyrus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RegistrationPolicy {
    /// Yes, as the configuration of delivery says.
    #[default]
    Allowed,
    /// A rule forbids it.
    Forbidden,
}

/// A call that is under way.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveCall {
    /// Its record as it stands.
    pub record: CallRecord,
    /// Whether it may be registered.
    pub registration: RegistrationPolicy,
}

/// A live call of which parts can be made.
#[derive(Clone, Debug, PartialEq)]
pub struct DueSegments {
    /// Its record as it stands.
    pub record: CallRecord,
    /// As in [`EndedCall::legs`]; the files of some may still be growing.
    pub legs: Vec<EndedLeg>,
    /// Whether it may be registered.
    pub registration: RegistrationPolicy,
    /// As in [`EndedCall::wall_offset_ns`].
    pub wall_offset_ns: i64,
    /// So many parts, from the first on, are over since [`SEGMENT_SETTLE`] and more, and media came after that: whatever
    /// ends the call, it ends behind them.
    pub parts: u32,
}

/// A call that is over.
#[derive(Clone, Debug, PartialEq)]
pub struct EndedCall {
    /// All that signalling and headers of media tell; verdict, recordings and what rendering counts are still to come.
    pub record: CallRecord,
    /// Legs with a spool, the one to be rendered first; with the name of the spool and its place in `record.legs`.
    pub legs: Vec<EndedLeg>,
    /// Whether it may be registered.
    pub registration: RegistrationPolicy,
    /// What was added to the capture timeline to get the times of the record: the spool still has the timeline.
    pub wall_offset_ns: i64,
}

/// A leg of a call that can be rendered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedLeg {
    /// The handle that the sink knows.
    pub leg: LegId,
    /// Stem of its spool file.
    pub name: String,
    /// Index into `record.legs`.
    pub index: usize,
    /// Whether its caller is the record's caller; false where left and right are the other way round.
    pub same_sides: bool,
}
