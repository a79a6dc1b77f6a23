//! Output of the engine: packets and decisions for the spool, and call events for journal, recording and delivery.

use crate::call::decision::Decision;
use crate::call::record::CallRecord;
use crate::call::topology::MachinePair;
use crate::decode::UdpDatagram;
use crate::time::Timestamp;

/// Id of a leg, unique within one run of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LegId(pub u64);

/// How much of a packet may be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeptBytes {
    /// The whole packet may be stored.
    Whole,
    /// Only the first bytes of the UDP payload may be stored, i.e. the RTP header; the number of these bytes. The rest
    /// is secret (a DTMF digit or a paused recording). The original length of the payload is stored, too.
    Header(u16),
}

/// Stores the packets and decisions of legs. A spool file keeps the order in which these methods are called. Packets of
/// early media can be older than a packet before them, by at most [`EARLY_WINDOW`].
pub trait LegSink {
    /// Opens the file of a leg. `name` is the file name without extension.
    fn open(&mut self, leg: LegId, name: &str);
    /// Stores a SIP or media packet in the file of a leg.
    fn packet(&mut self, leg: LegId, datagram: &UdpDatagram<'_>, keep: KeptBytes);
    /// Stores a decision about a leg that applies from the time `at` on.
    fn decide(&mut self, leg: LegId, at: Timestamp, decision: &Decision);
    /// Closes the file of a leg, because nothing will be added any more.
    fn close(&mut self, leg: LegId);
    /// Deletes the file of a leg, and forgets the leg.
    fn discard(&mut self, leg: LegId, reason: DiscardReason);
}

/// Reasons to discard what a leg's spool has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiscardReason {
    /// The leg ended without media. Its signalling may be kept until the journal has the end of its call.
    NoMedia,
    /// A rule excludes the call from recording.
    Excluded,
    /// The leg made room for a new leg, and its call gets no record.
    Evicted,
}

/// Time for which RTP is buffered while its call is unknown. Therefore packets in a spool file are out of order by at
/// most this time.
pub const EARLY_WINDOW: std::time::Duration = std::time::Duration::from_secs(5);

/// Time between the end of a segment and its rendering. By then the spool has all late packets ([`EARLY_WINDOW`]), and
/// the packets of the seconds after the segment, which rendering needs.
pub const SEGMENT_SETTLE: std::time::Duration = std::time::Duration::from_secs(30);

/// A change of a call, for journal, recording and delivery.
#[derive(Clone, Debug, PartialEq)]
pub enum CallEvent {
    /// A live call is new or has changed: its legs were correlated, its extension is known, it rings, or it was
    /// answered.
    Changed(Box<LiveCall>),
    /// Further segments of a live call are complete and can be rendered.
    SegmentsDue(Box<DueSegments>),
    /// A rule now excludes a live call whose segments were announced before. The segments must be deleted. Contains the
    /// call's id.
    Withdrawn(String),
    /// A live call was merged into another call, and its id is no longer used. Contains that id.
    Absorbed(String),
    /// A call ended. All its legs are closed or discarded.
    Ended(Box<EndedCall>),
    /// Calls showed that two hosts are, or are not, one machine. Contains all pairs that count as one machine now.
    Learnt(Vec<MachinePair>),
}

/// Whether the `[[rules]]` allow to register a call in Pyrus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RegistrationPolicy {
    /// The rules allow the registration; then the section `[pyrus]` decides.
    #[default]
    Allowed,
    /// A rule forbids the registration in Pyrus.
    Forbidden,
}

/// A call in progress, for the event that it has changed.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveCall {
    /// The call record as of now.
    pub record: CallRecord,
    /// Whether the `[[rules]]` allow to register the call in Pyrus.
    pub registration: RegistrationPolicy,
}

/// A live call with complete segments, which can be rendered.
#[derive(Clone, Debug, PartialEq)]
pub struct DueSegments {
    /// The call record as of now.
    pub record: CallRecord,
    /// Legs with a spool file, as in [`EndedCall::legs`]. Some of the files may still grow.
    pub legs: Vec<EndedLeg>,
    /// Whether the `[[rules]]` allow to register the call in Pyrus.
    pub registration: RegistrationPolicy,
    /// Wall clock minus capture time when the call began, ns.
    pub wall_offset_ns: i64,
    /// Number of complete segments, counted from the first segment. Each ended at least [`SEGMENT_SETTLE`] ago, and
    /// media arrived after its end.
    pub parts: u32,
}

/// A call that is over, with everything that is needed to render it.
#[derive(Clone, Debug, PartialEq)]
pub struct EndedCall {
    /// Record from signalling and RTP headers. Verdict, recordings and the results of rendering are added later.
    pub record: CallRecord,
    /// Legs that have a spool file. The leg whose sound the recording uses comes first.
    pub legs: Vec<EndedLeg>,
    /// Whether the `[[rules]]` allow to register the call in Pyrus.
    pub registration: RegistrationPolicy,
    /// Wall clock minus capture time when the call began, ns. The record has wall-clock times, the spool has capture
    /// times.
    pub wall_offset_ns: i64,
}

impl EndedCall {
    /// Returns whether people talked in the call, or a leg has a spool file.
    pub(crate) fn has_sound(&self) -> bool {
        !self.legs.is_empty() || self.record.answered_at.is_some()
    }
}

/// A leg with a spool file that can be rendered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedLeg {
    /// Id of the leg, by which the spool of this process finds it.
    pub leg: LegId,
    /// Name of the leg's spool file without extension.
    pub name: String,
    /// Index of the leg in `record.legs`.
    pub index: usize,
    /// Whether the leg's caller is also the caller of the whole call. If not, the channels left and right are swapped.
    pub same_sides: bool,
}
