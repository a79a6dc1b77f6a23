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
    /// Only the beginning of the UDP payload may be stored, i.e. the RTP header; the value is its length in bytes. The
    /// rest is secret: a DTMF digit, or media of a paused recording. The length of the whole payload is stored as well.
    Header(u16),
}

/// Stores the packets and decisions of legs. A spool file contains them in the order in which these methods are called.
/// A packet of early media may be older than the packet before it, by at most [`EARLY_WINDOW`].
pub trait LegSink {
    /// Opens the spool file of a leg. `name` is the file name without extension.
    fn open(&mut self, leg: LegId, name: &str);
    /// Announces that [`LegSink::packet`] will probably follow for this leg. A sink with many legs can load the memory
    /// of the leg into the cache now. It is called for several legs in a row, so that their loads overlap. The default
    /// does nothing.
    fn prefetch(&mut self, _leg: LegId) {}
    /// Stores a SIP or media packet in the spool file of a leg.
    fn packet(&mut self, leg: LegId, datagram: &UdpDatagram<'_>, keep: KeptBytes);
    /// Stores a decision about a leg that applies from the time `at` on.
    fn decide(&mut self, leg: LegId, at: Timestamp, decision: &Decision);
    /// Closes the file of a leg. No packet or decision is added afterwards.
    fn close(&mut self, leg: LegId);
    /// Deletes the spool file of a leg, and forgets the leg.
    fn discard(&mut self, leg: LegId, reason: DiscardReason);
}

/// Reason for which the spool file of a leg is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiscardReason {
    /// The leg ended without media. Its signalling may be kept until the journal has stored the end of the call.
    NoMedia,
    /// A rule excludes the call from recording.
    Excluded,
    /// The leg was removed to make room for a new leg, and its call gets no record.
    Evicted,
}

/// Time for which RTP of unknown calls is stored until a leg announces its address. Such packets enter the spool file
/// late, so packets in a file are out of order by at most this time.
pub const EARLY_WINDOW: std::time::Duration = std::time::Duration::from_secs(5);

/// Time between the end of a segment (one file of a long recording) and its rendering. By then all late packets of the
/// segment have arrived ([`EARLY_WINDOW`]). Rendering also needs some packets after the segment, and these have
/// arrived, too.
pub const SEGMENT_SETTLE: std::time::Duration = std::time::Duration::from_secs(30);

/// A change of a call, for journal, recording and delivery.
#[derive(Clone, Debug, PartialEq)]
pub enum CallEvent {
    /// A live call is new or has changed, e.g. it rings, was answered, or its extension is now known.
    Changed(Box<LiveCall>),
    /// Further segments (files) of a live call's recording are complete and can be rendered.
    SegmentsDue(Box<DueSegments>),
    /// A rule now excludes a live call, so the announced segments of its recording must be deleted. Contains the id of
    /// the call.
    Withdrawn(String),
    /// A live call was merged into another call. Contains the id of the call that disappeared.
    Absorbed(String),
    /// A call ended. All its legs are closed or discarded.
    Ended(Box<EndedCall>),
    /// The topology has changed, i.e. which IP addresses belong to one machine, e.g. one PBX. Contains all pairs of
    /// addresses that count as one machine now.
    Learnt(Vec<MachinePair>),
}

/// Whether the `[[rules]]` allow registering a call in Pyrus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RegistrationPolicy {
    /// The rules allow the registration. The section `[pyrus]` decides whether it is done.
    #[default]
    Allowed,
    /// A rule forbids the registration in Pyrus.
    Forbidden,
}

/// A call in progress, as an event reports it.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveCall {
    /// The call record as of now.
    pub record: CallRecord,
    /// Whether the `[[rules]]` allow registering the call in Pyrus.
    pub registration: RegistrationPolicy,
}

/// A live call with complete segments of its recording that can be rendered.
#[derive(Clone, Debug, PartialEq)]
pub struct DueSegments {
    /// The call record as of now.
    pub record: CallRecord,
    /// Legs with a spool file, as in [`EndedCall::legs`]. Packets may still be added to some of the files.
    pub legs: Vec<EndedLeg>,
    /// Whether the `[[rules]]` allow registering the call in Pyrus.
    pub registration: RegistrationPolicy,
    /// Wall clock minus capture time when the call began, ns.
    pub wall_offset_ns: i64,
    /// Number of complete segments of the recording, counted from the first. Each ended at least [`SEGMENT_SETTLE`]
    /// ago, and media arrived after its end.
    pub parts: u32,
}

/// A call that is over, and all that is needed to render it.
#[derive(Clone, Debug, PartialEq)]
pub struct EndedCall {
    /// Record from signalling and RTP headers. The verdict, the recordings and the results of rendering are added
    /// later.
    pub record: CallRecord,
    /// Legs with a spool file. The leg that supplies the sound of the recording comes first.
    pub legs: Vec<EndedLeg>,
    /// Whether the `[[rules]]` allow registering the call in Pyrus.
    pub registration: RegistrationPolicy,
    /// Wall clock minus capture time when the call began, ns. The times in the record are wall-clock times, the times
    /// in the spool files are capture times.
    pub wall_offset_ns: i64,
}

impl EndedCall {
    /// Returns whether there may be sound to hear: the call was answered, or a leg has a spool file.
    pub(crate) fn has_sound(&self) -> bool {
        !self.legs.is_empty() || self.record.answered_at.is_some()
    }
}

/// A leg with a spool file that can be rendered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedLeg {
    /// Id of the leg, by which the spool of this process finds the leg's file.
    pub leg: LegId,
    /// Name of the leg's spool file without extension.
    pub name: String,
    /// Index of the leg in `record.legs`.
    pub index: usize,
    /// Whether the caller of the leg is the caller of the call. If not, the left and right channels are swapped.
    pub same_sides: bool,
}
