//! What is removed, and when: by age, by size, and when the disk runs full.
//!
//! # Invariants
//! - What is held is never removed.
//! - What is still owed to Pyrus is removed only by the explicit setting, only for space, and after all else.
//! - Age alone removes nothing while the wall clock cannot be trusted (see [`Ages`]).
//!
//! The plan is pure; who carries it out writes each removal into the journal first.

use std::io;
use std::path::Path;
use std::time::Duration;

use super::config::{Config, Undelivered};
use crate::time::Timestamp;

/// A call with recordings that are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The call.
    pub id: String,
    /// Its begin.
    pub at: Option<Timestamp>,
    /// All its files.
    pub bytes: u64,
    /// What its removal would cost.
    pub cost: Cost,
}

/// What a removal would cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cost {
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
pub enum Why {
    /// Older than `keep_days`.
    Age,
    /// Above `max_disk_gib`.
    Size,
    /// Less than `min_free_gib` free.
    Space,
}

impl Why {
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
pub enum Ages {
    /// It has run evenly for a while.
    Trusted(Timestamp),
    /// Just started, or it jumped: a clock in the future must not empty the disk.
    Unknown,
}

/// What is to be removed, in this order, so that the limits hold again. `candidates` stand oldest first.
pub fn plan(config: &Config, candidates: &[Candidate], ages: Ages, free_bytes: Option<u64>) -> Vec<(String, Why)> {
    let mut gone: Vec<Option<Why>> = vec![None; candidates.len()];
    if let (Ages::Trusted(now), 1..) = (ages, config.keep_days) {
        let oldest = now - Duration::from_secs(u64::from(config.keep_days) * 86_400);
        for (candidate, gone) in candidates.iter().zip(&mut gone) {
            if candidate.cost <= Cost::OnlyCopy && candidate.at.is_some_and(|at| at < oldest) {
                *gone = Some(Why::Age);
            }
        }
    }
    let left: u64 = candidates.iter().zip(&gone).filter(|(_, g)| g.is_none()).map(|(c, _)| c.bytes).sum();
    let freed: u64 = candidates.iter().zip(&gone).filter(|(_, g)| g.is_some()).map(|(c, _)| c.bytes).sum();
    let undelivered = config.undelivered == Undelivered::Remove;
    if config.max_disk_gib > 0 {
        let most = if undelivered { Cost::Owed } else { Cost::OnlyCopy };
        let over = left.saturating_sub(u64::from(config.max_disk_gib) << 30);
        take(candidates, &mut gone, over, (Why::Size, most));
    }
    if let Some(free) = free_bytes.filter(|_| config.min_free_gib > 0) {
        let most = if undelivered { Cost::Owed } else { Cost::Nothing };
        let by_size: u64 =
            candidates.iter().zip(&gone).filter(|(_, g)| **g == Some(Why::Size)).map(|(c, _)| c.bytes).sum();
        let missing = (u64::from(config.min_free_gib) << 30).saturating_sub(free + freed + by_size);
        take(candidates, &mut gone, missing, (Why::Space, most));
    }
    candidates.iter().zip(gone).filter_map(|(c, g)| Some((c.id.clone(), g?))).collect()
}

/// Marks candidates until `bytes` are gone: the cheapest first, of equally cheap ones the oldest.
fn take(candidates: &[Candidate], gone: &mut [Option<Why>], mut bytes: u64, (why, most): (Why, Cost)) {
    for cost in [Cost::Nothing, Cost::OnlyCopy, Cost::Owed] {
        for (candidate, gone) in candidates.iter().zip(gone.iter_mut()) {
            if bytes == 0 {
                return;
            }
            if candidate.cost == cost && cost <= most && gone.is_none() {
                *gone = Some(why);
                bytes = bytes.saturating_sub(candidate.bytes);
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    /// One GiB each, from the first of January 1970 on, one a day.
    fn calls(costs: &[Cost]) -> Vec<Candidate> {
        let at = |day: usize| Some(Timestamp::from_secs(i64::try_from(day).expect("small") * 86_400));
        (0..).zip(costs).map(|(n, &cost)| Candidate { id: format!("c{n}"), at: at(n), bytes: GIB, cost }).collect()
    }

    fn ids(planned: &[(String, Why)]) -> Vec<&str> {
        planned.iter().map(|(id, _)| id.as_str()).collect()
    }

    fn config(keep_days: u32, max_disk_gib: u32, min_free_gib: u32) -> Config {
        Config { keep_days, max_disk_gib, min_free_gib, ..Config::default() }
    }

    #[test]
    fn age_removes_what_nobody_waits_for() {
        let calls = calls(&[Cost::Owed, Cost::Nothing, Cost::Held, Cost::OnlyCopy, Cost::Nothing]);
        let now = Ages::Trusted(Timestamp::from_secs(10 * 86_400));
        // Day 10 less 6: older than day 4 are c0 to c3.
        assert_eq!(ids(&plan(&config(6, 0, 0), &calls, now, None)), ["c1", "c3"]);
        assert_eq!(ids(&plan(&config(6, 0, 0), &calls, Ages::Unknown, None)), [""; 0]);
        assert_eq!(ids(&plan(&config(0, 0, 0), &calls, now, None)), [""; 0]);
    }

    #[test]
    fn size_removes_the_oldest_delivered_first() {
        let all = calls(&[Cost::OnlyCopy, Cost::Nothing, Cost::Owed, Cost::Nothing, Cost::Held]);
        // Five GiB, three are allowed.
        assert_eq!(ids(&plan(&config(0, 3, 0), &all, Ages::Unknown, None)), ["c1", "c3"]);
        // One is allowed: what is owed and what is held stay nevertheless.
        assert_eq!(ids(&plan(&config(0, 1, 0), &all, Ages::Unknown, None)), ["c0", "c1", "c3"]);
    }

    #[test]
    fn a_disk_that_runs_full_costs_what_pyrus_has_and_more_only_by_the_explicit_setting() {
        let all = calls(&[Cost::Owed, Cost::OnlyCopy, Cost::Nothing, Cost::Held, Cost::Nothing]);
        let full = Some(0);
        assert_eq!(ids(&plan(&config(0, 0, 1), &all, Ages::Unknown, full)), ["c2"]);
        assert_eq!(ids(&plan(&config(0, 0, 9), &all, Ages::Unknown, full)), ["c2", "c4"]);
        let explicit = Config { undelivered: Undelivered::Remove, ..config(0, 0, 9) };
        assert_eq!(ids(&plan(&explicit, &all, Ages::Unknown, full)), ["c0", "c1", "c2", "c4"]);
        assert_eq!(ids(&plan(&config(0, 0, 1), &all, Ages::Unknown, Some(GIB))), [""; 0]);
    }

    #[test]
    fn what_age_removes_counts_as_space() {
        let all = calls(&[Cost::Nothing; 5]);
        let now = Ages::Trusted(Timestamp::from_secs(10 * 86_400));
        // Age takes c0 to c3 (4 GiB), which is enough for both limits.
        let planned = plan(&config(6, 1, 4), &all, now, Some(0));
        assert!(planned.iter().all(|(_, why)| *why == Why::Age), "{planned:?}");
        assert_eq!(planned.len(), 4);
    }

    #[test]
    fn the_disk_of_a_folder_has_some_room() {
        assert!(free_bytes(Path::new("/")).expect("it is there") > 0);
        assert!(free_bytes(Path::new("/nowhere")).is_err());
    }
}
