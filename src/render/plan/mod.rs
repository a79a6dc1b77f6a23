//! The first rendering pass: turns the call engine's decisions and the RTP headers into a [`RenderPlan`] with the
//! playout time of each packet.

mod collector;
mod format_judges;
mod plan_pass;
mod stream_plan;
mod track_facts;

use std::collections::BTreeMap;

pub(super) use stream_plan::{ArrivedPacket, PlayoutTime, StreamPlan};

use super::report::RenderError;
use super::stats_from_spool::SpoolStats;
use crate::call::decision::{Decision, TimedDecision};
use crate::call::record::{EndedBy, SideRecord};
use crate::spool::reader::{LegSource, SortedEntries, SpoolEntry};
use crate::time::Timestamp;
use plan_pass::PlanPass;

/// Parameters of rendering that do not come from the spool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RenderOptions {
    /// Samples per second in the recording; `None` means 16,000 if a side has a wideband codec, and 8000 otherwise.
    pub sample_rate: Option<u32>,
    /// Time up to which the spool is rendered; `None` renders all of it.
    pub until: Option<Timestamp>,
}

/// The playout times of all packets of a leg. It grows with the call: about 100 bytes for each second of a side.
#[derive(Clone, Debug)]
pub struct RenderPlan {
    /// Capture time of sample 0, in whole microseconds.
    pub starts_at: Timestamp,
    /// Moment after the last sample, in whole microseconds.
    pub ends_at: Timestamp,
    /// Samples per second in the recording.
    pub sample_rate: u32,
    /// Number of samples in each channel; 0 if no part of the leg is to be recorded.
    pub samples: u64,
    /// The end of the leg with the call engine's packet counts; `None` if the spool has no end of the leg.
    pub ended: Option<SpooledEnd>,
    /// The plans (playout times) of the streams, by the number that a stream has in the spool.
    pub(super) streams: BTreeMap<u32, StreamPlan>,
    /// Periods (from, to) in which the recording was paused, in order of time. They are rendered as silence.
    pub(super) pauses: Vec<(Timestamp, Timestamp)>,
    /// Whether the spool ends in the middle of a block, e.g. after a crash.
    pub torn_tail: bool,
    /// Whether callspan has a decoder for the format of at least one packet.
    pub has_sound: bool,
    /// Whether the counts in `ended` were counted again from the spool. The call engine's own counts are wrong if it
    /// was restarted during the call, or if datagrams contained several packets.
    pub recounted: bool,
    /// Facts about the spool by which it can be read faster a second time.
    pub(super) stored: StoredForm,
}

/// How the entries of a spool are stored, as far as it matters for reading them again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StoredForm {
    pub(super) sorted: SortedEntries,
    /// Whether a datagram may contain several RTP packets.
    pub(super) may_be_merged: bool,
}

impl StoredForm {
    /// Nothing is known, so all entries are sorted and every datagram is examined.
    pub(super) const UNKNOWN: Self = Self { sorted: SortedEntries::ALL, may_be_merged: true };
}

/// How the reading of a spool ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReadEnd {
    /// Whether the spool ended in the middle of a block.
    pub(super) torn_tail: bool,
    /// Number of entries that have to be sorted; `None` if too few were.
    pub(super) to_sort: Option<SortedEntries>,
}

/// The end of a leg, as the call engine wrote it to the spool.
#[derive(Clone, Debug, PartialEq)]
pub struct SpooledEnd {
    /// Cause of the end of the leg.
    pub by: EndedBy,
    /// The call engine's packet counts for both sides, the caller first.
    pub sides: [SideRecord; 2],
}

impl RenderPlan {
    /// Sets the recorded period in whole microseconds, instead of the period that the call engine's decisions give.
    pub(crate) fn set_span(&mut self, starts_at: Timestamp, ends_at: Timestamp) {
        self.starts_at = starts_at;
        self.ends_at = ends_at.max(starts_at);
        self.samples = samples_between(self.starts_at, self.ends_at, self.sample_rate);
    }

    /// Returns whether the recording was never paused.
    #[cfg(feature = "service")]
    pub(crate) fn has_no_pause(&self) -> bool {
        self.pauses.is_empty()
    }

    /// Returns the position of a time, in samples from the start of the recording. It can be negative or beyond the
    /// end.
    pub(super) fn position(&self, at: Timestamp) -> f64 {
        at.nanos_since(self.starts_at) as f64 * f64::from(self.sample_rate) / 1e9
    }
}

/// Reads a spool once and computes the playout time of every packet.
///
/// # Errors
/// Fails if the spool cannot be read.
pub fn plan(source: &LegSource, options: &RenderOptions) -> Result<RenderPlan, RenderError> {
    let until = options.until;
    // Nearly all spools are in order after their first entries. A spool that is not is read again and sorted.
    let first = if until.is_none() { SortedEntries::FIRST } else { SortedEntries::ALL };
    let (mut pass, mut read) = planned_in_order(source, first, until)?;
    if read.to_sort.is_none() {
        (pass, read) = planned_in_order(source, SortedEntries::ALL, until)?;
    }
    // Entries that are not sorted do not show where reading may end.
    let sorted = read.to_sort.filter(|_| until.is_none()).unwrap_or(SortedEntries::ALL);
    pass.look_again(source, sorted, until)?;
    if pass.is_miscounted
        && let Some(ended) = &mut pass.ended
    {
        SpoolStats::of(source, until)?.replace_counts(&mut ended.sides);
    }
    Ok(pass.finish(options, read))
}

/// Passes all entries of a spool up to a time to a first rendering pass. Only the given entries are sorted.
fn planned_in_order(
    source: &LegSource,
    sorted: SortedEntries,
    until: Option<Timestamp>,
) -> Result<(PlanPass, ReadEnd), RenderError> {
    let mut pass = PlanPass::default();
    let read = read_sorting(source, sorted, until, &mut |entry| match entry {
        SpoolEntry::Decided(decided) => pass.handle_decided(decided),
        SpoolEntry::Packet(datagram) => pass.handle_datagram(&datagram),
    })?;
    Ok((pass, read))
}

/// Reads all entries of a spool up to a time, in order of time.
pub(super) fn read_until(
    source: &LegSource,
    until: Option<Timestamp>,
    each: &mut dyn FnMut(SpoolEntry<'_>),
) -> Result<(), RenderError> {
    read_sorting(source, SortedEntries::ALL, until, each).map(|_| ())
}

/// Reads the entries of a spool up to a time. Only the given entries are sorted. Reading ends if too few were.
pub(super) fn read_sorting(
    source: &LegSource,
    sorted: SortedEntries,
    until: Option<Timestamp>,
    each: &mut dyn FnMut(SpoolEntry<'_>),
) -> Result<ReadEnd, RenderError> {
    let mut reader = source.open_sorting(sorted)?;
    let until = until.unwrap_or(Timestamp::MAX);
    while let Some(entry) = reader.next_entry()? {
        match &entry {
            SpoolEntry::Decided(decided) if decided.at() <= until => each(entry),
            SpoolEntry::Packet(packet) if packet.at <= until => each(entry),
            SpoolEntry::Decided(TimedDecision { decision: Decision::Begin { .. }, .. }) => {}
            // Entries are sorted by time. All further entries are after `until`, too, so reading ends.
            SpoolEntry::Decided(_) | SpoolEntry::Packet(_) => break,
        }
        if sorted != SortedEntries::ALL && reader.entries_to_sort().is_none() {
            break;
        }
    }
    Ok(ReadEnd { torn_tail: reader.torn_tail(), to_sort: reader.entries_to_sort() })
}

/// Returns the number of samples of a channel between two moments: `round((to - from) * rate)`.
pub(crate) fn samples_between(from: Timestamp, to: Timestamp, sample_rate: u32) -> u64 {
    let ns = i128::from(to.nanos_since(from).max(0));
    u64::try_from((ns * i128::from(sample_rate) + 500_000_000) / 1_000_000_000).unwrap_or(0)
}
