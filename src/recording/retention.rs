//! Retention of recordings: removal by age, by total size, and when the disk is full.
//!
//! # Invariants
//! - Recordings are never removed while a person's request to keep the call lasts (`calls hold`).
//! - Recordings that Pyrus does not have yet are removed only if the configuration allows it, only to free space, and
//!   after all others.
//! - Nothing is removed by age while the wall clock is not trusted ([`ClockTrust`]).
//!
//! The functions of this module only plan removals. Each removal must be written into the journal (SQLite) before its
//! files are removed.

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::config::{Config, UndeliveredPolicy};
use crate::time::Timestamp;

/// A call with recordings that could be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovalCandidate {
    /// Id of the call with the recordings.
    pub(crate) id: String,
    /// Start of the call, UTC; `None` if unknown.
    pub(crate) at: Option<Timestamp>,
    /// Total size of the call's files in bytes.
    pub(crate) bytes: u64,
    /// The loss that removing the call's recordings would cause.
    pub(crate) cost: RemovalCost,
}

/// The loss that removing a call's recordings causes, from the smallest to the largest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RemovalCost {
    /// The removal loses nothing: Pyrus has the recordings.
    Nothing,
    /// The only copy is lost, because the recordings are not to be delivered to Pyrus.
    OnlyCopy,
    /// Recordings are lost that are not delivered to Pyrus yet.
    Owed,
    /// Removal is forbidden: a person asked to keep the call (`calls hold`), or the call has not ended yet.
    Held,
}

/// Reason for which a call's recordings are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemovalReason {
    /// The call is older than `keep_days` allows.
    Age,
    /// The total size of all recordings is above `max_disk_gib`.
    Size,
    /// Less disk space than `min_free_gib` is free.
    Space,
}

impl RemovalReason {
    /// Returns the reason of a removal as text, for the journal and for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Age => "older than recording.keep_days",
            Self::Size => "recording.max_disk_gib",
            Self::Space => "recording.min_free_gib: the disk ran full",
        }
    }
}

/// Whether the wall clock can be trusted, so that ages can be computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockTrust {
    /// The clock has run without a jump for a while, so it is trusted. The value is the current time.
    Trusted(Timestamp),
    /// The clock is not trusted, because the service just started or the clock jumped. So no recording is removed by
    /// age: a clock that is years ahead would remove all recordings.
    Unknown,
}

impl ClockTrust {
    /// Returns the time before which calls are too old to be kept; `None` without a limit, or if the clock is not
    /// trusted. `keep_days` is the maximum age in days; 0 means no limit.
    pub(crate) fn oldest_kept(self, keep_days: u32) -> Option<Timestamp> {
        match (self, keep_days) {
            (Self::Unknown, _) | (_, 0) => None,
            (Self::Trusted(now), _) => Some(now - Duration::from_secs(u64::from(keep_days) * 86_400)),
        }
    }
}

/// Disk space that the recordings use, and free space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskUsage {
    /// Total size of all recordings that exist on the disk, bytes.
    pub kept_bytes: u64,
    /// Free bytes on the disk of the recordings; `None` if unknown.
    pub free_bytes: Option<u64>,
}

impl DiskUsage {
    /// Returns whether both limits of disk space are kept and there is no age limit. Then the list of calls need not be
    /// read.
    pub(crate) fn is_within_limits(&self, config: &Config) -> bool {
        config.keep_days == 0 && excess_bytes(config, self.kept_bytes) == 0 && missing_free_bytes(config, *self) == 0
    }
}

/// Plans removals, in order, until all limits are kept or [`MAX_REMOVALS`] are planned. `walk` starts an iteration over
/// the candidates: the oldest first, those with an unknown start last. The iteration ends as soon as the plan is
/// complete.
///
/// # Errors
/// Fails if the iteration fails.
pub fn plan<I, E>(
    config: &Config,
    mut walk: impl FnMut() -> I,
    clock: ClockTrust,
    usage: DiskUsage,
) -> Result<Vec<(String, RemovalReason)>, E>
where
    I: Iterator<Item = Result<RemovalCandidate, E>>,
{
    let mut removals = RemovalPlan::default();
    if let Some(oldest) = clock.oldest_kept(config.keep_days) {
        for candidate in walk() {
            let candidate = candidate?;
            if removals.is_full() || candidate.at.is_none_or(|at| at >= oldest) {
                break;
            }
            if candidate.cost <= RemovalCost::OnlyCopy {
                removals.add(candidate, RemovalReason::Age);
            }
        }
    }
    let undelivered = config.undelivered == UndeliveredPolicy::Remove;
    let by_age = removals.bytes;
    let max_cost = if undelivered { RemovalCost::Owed } else { RemovalCost::OnlyCopy };
    let over = excess_bytes(config, usage.kept_bytes.saturating_sub(by_age));
    choose_removals(&mut removals, &mut walk, by_age + over, RemovalReason::Size, max_cost)?;
    let max_cost = if undelivered { RemovalCost::Owed } else { RemovalCost::Nothing };
    choose_removals(&mut removals, &mut walk, missing_free_bytes(config, usage), RemovalReason::Space, max_cost)?;
    Ok(removals.calls)
}

/// Chooses calls to remove until `bytes` are freed. Calls with the smallest removal cost come first, and among these
/// the oldest calls.
fn choose_removals<I, E>(
    removals: &mut RemovalPlan,
    walk: &mut impl FnMut() -> I,
    bytes: u64,
    reason: RemovalReason,
    max_cost: RemovalCost,
) -> Result<(), E>
where
    I: Iterator<Item = Result<RemovalCandidate, E>>,
{
    for cost in
        [RemovalCost::Nothing, RemovalCost::OnlyCopy, RemovalCost::Owed].into_iter().filter(|cost| *cost <= max_cost)
    {
        if removals.bytes >= bytes || removals.is_full() {
            return Ok(());
        }
        for candidate in walk() {
            let candidate = candidate?;
            if candidate.cost == cost {
                removals.add(candidate, reason);
            }
            if removals.bytes >= bytes || removals.is_full() {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn excess_bytes(config: &Config, kept_bytes: u64) -> u64 {
    match config.max_disk_gib {
        0 => 0,
        max_cost => kept_bytes.saturating_sub(u64::from(max_cost) << 30),
    }
}

fn missing_free_bytes(config: &Config, usage: DiskUsage) -> u64 {
    usage.free_bytes.map_or(0, |free| reachable_min_free(config, usage).saturating_sub(free))
}

/// The calls chosen for removal so far, and the total size of their files.
#[derive(Default)]
struct RemovalPlan {
    calls: Vec<(String, RemovalReason)>,
    ids: HashSet<String>,
    bytes: u64,
}

impl RemovalPlan {
    fn add(&mut self, candidate: RemovalCandidate, reason: RemovalReason) {
        if self.ids.insert(candidate.id.clone()) {
            self.bytes += candidate.bytes;
            self.calls.push((candidate.id, reason));
        }
    }

    fn is_full(&self) -> bool {
        self.calls.len() >= MAX_REMOVALS
    }
}

/// Returns the minimum number of free bytes that retention keeps on the disk of the recordings. This is `min_free_gib`.
/// If even the removal of all recordings would not free so much, it is at most the default of that setting. Otherwise,
/// an unreachable limit would remove every recording for nothing.
///
/// `usage` is the state of the disk: its free bytes and the total size of all recordings.
pub(crate) fn reachable_min_free(config: &Config, usage: DiskUsage) -> u64 {
    let wanted = u64::from(config.min_free_gib) << 30;
    let most = usage.free_bytes.map(|free| free.saturating_add(usage.kept_bytes));
    if most.is_some_and(|most| wanted > most) { wanted.min(DEFAULT_MIN_FREE) } else { wanted }
}

/// Returns the number of bytes that the current user can still write on the disk of a folder.
///
/// # Errors
/// Fails if the folder does not exist.
pub(crate) fn free_bytes(folder: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Minimum number of free bytes if the configured minimum cannot be reached: the default of `min_free_gib`.
const DEFAULT_MIN_FREE: u64 = 2 << 30;

/// Maximum number of calls that one plan removes. The next plan finds the rest.
pub const MAX_REMOVALS: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    /// Returns test calls of one GiB each, one per day from 1 January 1970 on.
    fn calls(costs: &[RemovalCost]) -> Vec<RemovalCandidate> {
        let at = |day: usize| Some(Timestamp::from_secs(i64::try_from(day).expect("small") * 86_400));
        (0..)
            .zip(costs)
            .map(|(n, &cost)| RemovalCandidate { id: format!("c{n}"), at: at(n), bytes: GIB, cost })
            .collect()
    }

    /// Returns the call ids of the planned removals, sorted.
    fn ids(planned: &[(String, RemovalReason)]) -> Vec<&str> {
        let mut ids: Vec<&str> = planned.iter().map(|(id, _)| id.as_str()).collect();
        ids.sort_unstable();
        ids
    }

    fn plan(
        config: &Config,
        calls: &[RemovalCandidate],
        clock: ClockTrust,
        free_bytes: Option<u64>,
    ) -> Vec<(String, RemovalReason)> {
        let usage = DiskUsage { kept_bytes: calls.iter().map(|c| c.bytes).sum(), free_bytes };
        let walk = || calls.iter().cloned().map(Ok::<_, std::convert::Infallible>);
        let planned = super::plan(config, walk, clock, usage).expect("no error");
        assert!(!usage.is_within_limits(config) || planned.is_empty(), "nothing is removed within the limits");
        planned
    }

    fn config(keep_days: u32, max_disk_gib: u32, min_free_gib: u32) -> Config {
        Config { keep_days, max_disk_gib, min_free_gib, ..Config::default() }
    }

    #[test]
    fn age_limit_keeps_held_and_owed_recordings() {
        let calls = calls(&[
            RemovalCost::Owed,
            RemovalCost::Nothing,
            RemovalCost::Held,
            RemovalCost::OnlyCopy,
            RemovalCost::Nothing,
        ]);
        let now = ClockTrust::Trusted(Timestamp::from_secs(10 * 86_400));
        // On day 10 with a limit of 6 days, the calls c0 to c3 are older than day 4. Of these, c0 is still to be
        // delivered, and a person asked to keep c2. So both stay.
        assert_eq!(ids(&plan(&config(6, 0, 0), &calls, now, None)), ["c1", "c3"]);
        assert_eq!(ids(&plan(&config(6, 0, 0), &calls, ClockTrust::Unknown, None)), [""; 0]);
        assert_eq!(ids(&plan(&config(0, 0, 0), &calls, now, None)), [""; 0]);
    }

    #[test]
    fn size_limit_removes_the_oldest_delivered_recordings_first() {
        let all = calls(&[
            RemovalCost::OnlyCopy,
            RemovalCost::Nothing,
            RemovalCost::Owed,
            RemovalCost::Nothing,
            RemovalCost::Held,
        ]);
        // There are five GiB of recordings, and three are allowed. So two calls of one GiB each are removed.
        assert_eq!(ids(&plan(&config(0, 3, 0), &all, ClockTrust::Unknown, None)), ["c1", "c3"]);
        // One GiB is allowed. But a call stays if it is still to be delivered, or if a person asked to keep it.
        assert_eq!(ids(&plan(&config(0, 1, 0), &all, ClockTrust::Unknown, None)), ["c0", "c1", "c3"]);
    }

    #[test]
    fn full_disk_removes_undelivered_recordings_only_if_allowed() {
        let all = calls(&[
            RemovalCost::Owed,
            RemovalCost::OnlyCopy,
            RemovalCost::Nothing,
            RemovalCost::Held,
            RemovalCost::Nothing,
        ]);
        let full = Some(0);
        assert_eq!(ids(&plan(&config(0, 0, 1), &all, ClockTrust::Unknown, full)), ["c2"]);
        assert_eq!(ids(&plan(&config(0, 0, 5), &all, ClockTrust::Unknown, full)), ["c2", "c4"]);
        let explicit = Config { undelivered: UndeliveredPolicy::Remove, ..config(0, 0, 5) };
        assert_eq!(ids(&plan(&explicit, &all, ClockTrust::Unknown, full)), ["c0", "c1", "c2", "c4"]);
        assert_eq!(ids(&plan(&config(0, 0, 1), &all, ClockTrust::Unknown, Some(GIB))), [""; 0]);
    }

    #[test]
    fn space_freed_by_age_counts_for_the_other_limits() {
        let all = calls(&[RemovalCost::Nothing; 5]);
        let now = ClockTrust::Trusted(Timestamp::from_secs(10 * 86_400));
        // The age limit removes c0 to c3 (4 GiB), which is enough for both other limits.
        let planned = plan(&config(6, 1, 4), &all, now, Some(0));
        assert!(planned.iter().all(|(_, why)| *why == RemovalReason::Age), "{planned:?}");
        assert_eq!(planned.len(), 4);
    }

    #[test]
    fn plan_reads_no_more_calls_than_needed_and_is_bounded() {
        let calls = calls(&[RemovalCost::Nothing; 2 * MAX_REMOVALS]);
        let seen = std::cell::Cell::new(0);
        let walk =
            || calls.iter().cloned().map(Ok::<_, std::convert::Infallible>).inspect(|_| seen.set(seen.get() + 1));
        let usage = DiskUsage { kept_bytes: calls.len() as u64 * GIB, free_bytes: None };
        // The recordings are three GiB above the limit, so three calls of one GiB each are chosen.
        let size = config(0, calls.len() as u32 - 3, 0);
        assert_eq!(super::plan(&size, walk, ClockTrust::Unknown, usage).expect("no error").len(), 3);
        assert_eq!(seen.get(), 3);
        let all = super::plan(&config(0, 1, 0), walk, ClockTrust::Unknown, usage).expect("no error");
        assert_eq!(all.len(), MAX_REMOVALS);
    }

    #[test]
    fn a_limit_that_cannot_be_reached_counts_as_the_default() {
        let all = calls(&[RemovalCost::Nothing; 5]);
        // There are five GiB of recordings and one GiB is free. So at most six GiB can be free, and a higher limit
        // counts as two GiB.
        let planned = |min_free_gib| plan(&config(0, 0, min_free_gib), &all, ClockTrust::Unknown, Some(GIB)).len();
        assert_eq!([planned(1), planned(4), planned(6)], [0, 3, 5]);
        assert_eq!([planned(7), planned(1_000)], [1, 1], "as with two GiB");
        assert!(free_bytes(Path::new("/")).expect("it is there") > 0);
        assert!(free_bytes(Path::new("/nowhere")).is_err());
    }
}
