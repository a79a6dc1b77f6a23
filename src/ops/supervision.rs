//! Supervision: detects a thread that makes no progress, e.g. because a disk or a network folder does not respond.
//!
//! Each thread increments a counter in every round of its loop, also while it waits for work. The capture thread
//! compares the counters. If a counter stands still for too long, the capture thread stops notifying the watchdog of
//! systemd (`WatchdogSec=`), and systemd restarts the service.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Counts the rounds of a thread. Clones share the count.
#[derive(Clone, Debug, Default)]
pub struct TickCounter(Arc<AtomicU64>);

impl TickCounter {
    /// Counts a round.
    pub fn tick(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl From<Arc<AtomicU64>> for TickCounter {
    fn from(count: Arc<AtomicU64>) -> Self {
        Self(count)
    }
}

/// The threads that are supervised.
#[derive(Debug, Default)]
pub struct Supervisor {
    threads: Vec<SupervisedThread>,
}

#[derive(Debug)]
struct SupervisedThread {
    name: &'static str,
    ticks: TickCounter,
    limit: Duration,
    seen: u64,
    /// When the counter was last seen to have changed; `None` before the first check.
    changed_at: Option<Instant>,
}

/// A thread that makes no progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StalledThread {
    /// Name of the thread.
    pub name: &'static str,
    /// Time without progress.
    pub since: Duration,
}

impl Supervisor {
    /// Supervises a further thread. `limit` is the longest time that a round of a healthy thread takes.
    pub fn watch(&mut self, name: &'static str, ticks: TickCounter, limit: Duration) {
        self.threads.push(SupervisedThread { name, ticks, limit, seen: 0, changed_at: None });
    }

    /// Compares all counters at the time `now`. Of the threads beyond their limit, returns the thread without progress
    /// for the longest time.
    pub fn stalled(&mut self, now: Instant) -> Option<StalledThread> {
        let mut longest: Option<StalledThread> = None;
        for thread in &mut self.threads {
            let ticks = thread.ticks.0.load(Ordering::Relaxed);
            let changed_at = match thread.changed_at {
                Some(at) if ticks == thread.seen => at,
                _ => now,
            };
            (thread.seen, thread.changed_at) = (ticks, Some(changed_at));
            let since = now.duration_since(changed_at);
            if since >= thread.limit && longest.is_none_or(|other| other.since < since) {
                longest = Some(StalledThread { name: thread.name, since });
            }
        }
        longest
    }
}

/// Limit of a thread that only writes small pieces. A disk that takes longer for one piece is failing.
pub const SHORT_ROUND: Duration = Duration::from_secs(60);
/// Limit of a thread that writes, copies or encrypts whole recordings between two rounds.
pub const LONG_ROUND: Duration = Duration::from_secs(15 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a moment to count from")]
    fn thread_without_progress_is_named_until_it_goes_on() {
        let mut supervisor = Supervisor::default();
        let (quick, slow) = (TickCounter::default(), TickCounter::default());
        supervisor.watch("quick", quick.clone(), Duration::from_secs(60));
        supervisor.watch("slow", slow.clone(), Duration::from_secs(60));
        let begin = Instant::now();
        let mut stalled_after = |secs: u64| supervisor.stalled(begin + Duration::from_secs(secs));
        assert_eq!(stalled_after(0), None, "the first check only takes the counts");
        quick.tick();
        assert_eq!(stalled_after(59), None);
        quick.tick();
        assert_eq!(stalled_after(61), Some(StalledThread { name: "slow", since: Duration::from_secs(61) }));
        slow.tick();
        assert_eq!(stalled_after(62), None);
    }
}
