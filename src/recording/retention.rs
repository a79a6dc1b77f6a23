//! What is removed, and when: by age, by size, and when the disk runs full.
//!
//! # Invariants
//! - What is held is never removed.
//! - What is still owed to Pyrus is removed only by the explicit setting, only for space, and after all else.
//! - Age alone removes nothing while the wall clock cannot be trusted (see [`ClockTrust`]).
//!
//! The plan is pure; who carries it out writes each removal into the journal first.

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::config::{Config, UndeliveredPolicy};
use crate::time::Timestamp;

/// A call with recordings that are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovalCandidate {
    /// The call.
    pub id: String,
    /// Its begin.
    pub at: Option<Timestamp>,
    /// All its files.
    pub bytes: u64,
    /// What its removal would cost.
    pub cost: RemovalCost,
}

/// What a removal would cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RemovalCost {
    /// Pyrus has it.
    Nothing,
    /// It is the only copy, and nobody waits for it.
    OnlyCopy,
    /// It is still to be delivered.
    Owed,
    /// Somebody holds it.
    Held,
}

/// Why a call's recordings go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemovalReason {
    /// Older than `keep_days`.
    Age,
    /// Above `max_disk_gib`.
    Size,
    /// Less than `min_free_gib` free.
    Space,
}

impl RemovalReason {
    /// For the journal and people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Age => "older than recording.keep_days",
            Self::Size => "recording.max_disk_gib",
            Self::Space => "recording.min_free_gib: the disk ran full",
        }
    }
}

/// Whether the wall clock is good enough to tell an age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockTrust {
    /// It has run evenly for a while.
    Trusted(Timestamp),
    /// Just started, or it jumped: a clock in the future must not empty the disk.
    Unknown,
}

/// How much room is taken and left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskUsage {
    /// Size of all recordings that are there.
    pub kept_bytes: u64,
    /// What can still be written on their disk, if that is known.
    pub free_bytes: Option<u64>,
}

impl DiskUsage {
    /// Whether nothing is to be removed, so that nobody needs to look at the calls: only ages may say otherwise.
    pub fn is_within_limits(&self, config: &Config) -> bool {
        config.keep_days == 0
            && excess_bytes(config, self.kept_bytes) == 0
            && missing_free_bytes(config, self.free_bytes) == 0
    }
}

/// What is to be removed, in this order, so that the limits hold again: the first [`MAX_REMOVALS`] of it. `walk` begins a walk
/// over the calls with recordings, the oldest first, one whose age is not known last; it is not gone further than
/// needed.
///
/// # Errors
/// Those of the walk.
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
    if let (ClockTrust::Trusted(now), 1..) = (clock, config.keep_days) {
        let oldest = now - Duration::from_secs(u64::from(config.keep_days) * 86_400);
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
    choose_removals(
        &mut removals,
        &mut walk,
        missing_free_bytes(config, usage.free_bytes),
        RemovalReason::Space,
        max_cost,
    )?;
    Ok(removals.calls)
}

/// Takes calls until so many `bytes` are gone: the cheapest first, of equally cheap ones the oldest.
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

fn missing_free_bytes(config: &Config, free_bytes: Option<u64>) -> u64 {
    free_bytes.map_or(0, |free| (u64::from(config.min_free_gib) << 30).saturating_sub(free))
}

/// What a plan takes away.
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

/// Bytes that this user can still write on the disk of a folder.
///
/// # Errors
/// When the folder is not there.
pub fn free_bytes(folder: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Calls of one plan: what is left to remove is found by the next.
pub const MAX_REMOVALS: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    /// One GiB each, from the first of January 1970 on, one a day.
    fn calls(costs: &[RemovalCost]) -> Vec<RemovalCandidate> {
        let at = |day: usize| Some(Timestamp::from_secs(i64::try_from(day).expect("small") * 86_400));
        (0..)
            .zip(costs)
            .map(|(n, &cost)| RemovalCandidate { id: format!("c{n}"), at: at(n), bytes: GIB, cost })
            .collect()
    }

    /// The ids of a plan in the order of the calls.
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
        assert!(!usage.is_within_limits(config) || planned.is_empty(), "what is not looked at is not needed");
        planned
    }

    fn config(keep_days: u32, max_disk_gib: u32, min_free_gib: u32) -> Config {
        Config { keep_days, max_disk_gib, min_free_gib, ..Config::default() }
    }

    #[test]
    fn age_removes_what_nobody_waits_for() {
        let calls = calls(&[
            RemovalCost::Owed,
            RemovalCost::Nothing,
            RemovalCost::Held,
            RemovalCost::OnlyCopy,
            RemovalCost::Nothing,
        ]);
        let now = ClockTrust::Trusted(Timestamp::from_secs(10 * 86_400));
        // Day 10 less 6: older than day 4 are c0 to c3.
        assert_eq!(ids(&plan(&config(6, 0, 0), &calls, now, None)), ["c1", "c3"]);
        assert_eq!(ids(&plan(&config(6, 0, 0), &calls, ClockTrust::Unknown, None)), [""; 0]);
        assert_eq!(ids(&plan(&config(0, 0, 0), &calls, now, None)), [""; 0]);
    }

    #[test]
    fn size_removes_the_oldest_delivered_first() {
        let all = calls(&[
            RemovalCost::OnlyCopy,
            RemovalCost::Nothing,
            RemovalCost::Owed,
            RemovalCost::Nothing,
            RemovalCost::Held,
        ]);
        // Five GiB, three are allowed.
        assert_eq!(ids(&plan(&config(0, 3, 0), &all, ClockTrust::Unknown, None)), ["c1", "c3"]);
        // One is allowed: what is owed and what is held stay nevertheless.
        assert_eq!(ids(&plan(&config(0, 1, 0), &all, ClockTrust::Unknown, None)), ["c0", "c1", "c3"]);
    }

    #[test]
    fn a_disk_that_runs_full_costs_what_pyrus_has_and_more_only_by_the_explicit_setting() {
        let all = calls(&[
            RemovalCost::Owed,
            RemovalCost::OnlyCopy,
            RemovalCost::Nothing,
            RemovalCost::Held,
            RemovalCost::Nothing,
        ]);
        let full = Some(0);
        assert_eq!(ids(&plan(&config(0, 0, 1), &all, ClockTrust::Unknown, full)), ["c2"]);
        assert_eq!(ids(&plan(&config(0, 0, 9), &all, ClockTrust::Unknown, full)), ["c2", "c4"]);
        let explicit = Config { undelivered: UndeliveredPolicy::Remove, ..config(0, 0, 9) };
        assert_eq!(ids(&plan(&explicit, &all, ClockTrust::Unknown, full)), ["c0", "c1", "c2", "c4"]);
        assert_eq!(ids(&plan(&config(0, 0, 1), &all, ClockTrust::Unknown, Some(GIB))), [""; 0]);
    }

    #[test]
    fn what_age_removes_counts_as_space() {
        let all = calls(&[RemovalCost::Nothing; 5]);
        let now = ClockTrust::Trusted(Timestamp::from_secs(10 * 86_400));
        // Age takes c0 to c3 (4 GiB), which is enough for both limits.
        let planned = plan(&config(6, 1, 4), &all, now, Some(0));
        assert!(planned.iter().all(|(_, why)| *why == RemovalReason::Age), "{planned:?}");
        assert_eq!(planned.len(), 4);
    }

    #[test]
    fn no_call_is_looked_at_that_need_not_be_and_a_plan_has_an_end() {
        let calls = calls(&[RemovalCost::Nothing; 2 * MAX_REMOVALS]);
        let seen = std::cell::Cell::new(0);
        let walk =
            || calls.iter().cloned().map(Ok::<_, std::convert::Infallible>).inspect(|_| seen.set(seen.get() + 1));
        let usage = DiskUsage { kept_bytes: calls.len() as u64 * GIB, free_bytes: None };
        // Three too many.
        let size = config(0, calls.len() as u32 - 3, 0);
        assert_eq!(super::plan(&size, walk, ClockTrust::Unknown, usage).expect("no error").len(), 3);
        assert_eq!(seen.get(), 3);
        let all = super::plan(&config(0, 1, 0), walk, ClockTrust::Unknown, usage).expect("no error");
        assert_eq!(all.len(), MAX_REMOVALS);
    }

    #[test]
    fn the_disk_of_a_folder_has_some_room() {
        assert!(free_bytes(Path::new("/")).expect("it is there") > 0);
        assert!(free_bytes(Path::new("/nowhere")).is_err());
    }
}
