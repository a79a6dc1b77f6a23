//! Supervision of threads. It detects a thread that has ended, and a thread that makes no progress, e.g. because a disk
//! does not respond.
//!
//! Each thread increments a counter in every round of its loop, also while it waits for work. The capture thread checks
//! the counters. If a counter does not change for too long, the capture thread stops notifying the watchdog of systemd
//! (`WatchdogSec=`). Then systemd restarts the service. If a thread has ended, the service ends, too.
//!
//! Other machines can keep some threads busy, e.g. the console's thread. Such a thread raises an alarm but causes no
//! restart, because a flood of requests must not stop the recording.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Counts the rounds of a thread's loop. A count that does not change shows a stall. Clones share the count.
#[derive(Clone, Debug, Default)]
pub struct TickCounter(Arc<AtomicU64>);

impl TickCounter {
    /// Counts one round of the thread's loop, as a sign of progress.
    pub(crate) fn tick(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl From<Arc<AtomicU64>> for TickCounter {
    fn from(count: Arc<AtomicU64>) -> Self {
        Self(count)
    }
}

/// State of a thread: the number of rounds that its loop has made, and whether the thread has ended. Clones share this
/// state.
#[derive(Clone, Debug, Default)]
pub struct ThreadLife {
    ticks: TickCounter,
    has_ended: Arc<AtomicBool>,
}

impl ThreadLife {
    /// Creates the state of a thread that already counts the rounds of its loop in `ticks`.
    pub(crate) fn of_ticks(ticks: TickCounter) -> Self {
        Self { ticks, has_ended: Arc::default() }
    }

    /// Counts one round of the thread's loop, as a sign of progress.
    pub(crate) fn tick(&self) {
        self.ticks.tick();
    }

    /// Returns a guard that the thread must own. When the guard is dropped, even by a panic, the thread counts as
    /// ended.
    pub(crate) fn begin(&self) -> LifeGuard {
        LifeGuard(Arc::clone(&self.has_ended))
    }

    /// Returns whether the thread has ended, by itself or by a panic.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Relaxed)
    }
}

/// Marks a thread as ended when this guard is dropped.
#[derive(Debug)]
pub(crate) struct LifeGuard(Arc<AtomicBool>);

impl Drop for LifeGuard {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Finds threads that make no progress or have ended.
#[derive(Debug, Default)]
pub struct Supervisor {
    threads: Vec<SupervisedThread>,
}

#[derive(Debug)]
struct SupervisedThread {
    name: &'static str,
    life: ThreadLife,
    limit: Duration,
    /// Whether a stall of this thread makes systemd restart the service.
    is_vital: bool,
    seen: u64,
    /// Monotonic time of the last check that found the thread's count of rounds changed; `None` before the first check.
    changed_at: Option<Instant>,
}

/// A thread that has made no progress for longer than its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StalledThread {
    /// Name of the thread.
    pub name: &'static str,
    /// Time for which the thread has made no progress.
    pub since: Duration,
    /// Whether the stall makes systemd restart the service.
    pub is_vital: bool,
}

impl Supervisor {
    /// Adds a thread to be supervised. If a round of its loop takes longer than `limit`, the thread counts as stalled.
    pub fn watch(&mut self, name: &'static str, life: ThreadLife, limit: Duration) {
        self.threads.push(SupervisedThread { name, life, limit, is_vital: true, seen: 0, changed_at: None });
    }

    /// Adds a thread that is not needed to record and deliver calls. A stall of this thread is reported but causes no
    /// restart.
    pub(crate) fn watch_helper(&mut self, name: &'static str, life: ThreadLife, limit: Duration) {
        self.threads.push(SupervisedThread { name, life, limit, is_vital: false, seen: 0, changed_at: None });
    }

    /// Compares the counts of all threads with the counts at the last check. Returns the threads with a count that has
    /// not changed for longer than their limit. `now` is the monotonic time.
    pub(crate) fn stalled(&mut self, now: Instant) -> Vec<StalledThread> {
        let stalled = self.threads.iter_mut().filter_map(|thread| thread.stalled(now));
        stalled.collect()
    }

    /// Returns the name of a supervised thread that has ended; `None` if all threads still run.
    pub fn ended(&self) -> Option<&'static str> {
        self.threads.iter().find(|thread| thread.life.has_ended()).map(|thread| thread.name)
    }
}

impl SupervisedThread {
    fn stalled(&mut self, now: Instant) -> Option<StalledThread> {
        let ticks = self.life.ticks.0.load(Ordering::Relaxed);
        let changed_at = match self.changed_at {
            Some(at) if ticks == self.seen => at,
            _ => now,
        };
        (self.seen, self.changed_at) = (ticks, Some(changed_at));
        let since = now.duration_since(changed_at);
        (since >= self.limit).then_some(StalledThread { name: self.name, since, is_vital: self.is_vital })
    }
}

/// Maximum duration of one round of the loop of a thread that only writes small pieces of data. If a piece takes
/// longer, the disk is failing.
pub const SHORT_ROUND: Duration = Duration::from_secs(60);
/// Maximum duration of one round of the loop of a thread that waits for other programs and machines. The longest round
/// sends an alarm: by the alarm command, a webhook, a mail (about ten SMTP commands of up to 10 s) and Telegram.
pub const PATIENT_ROUND: Duration = Duration::from_secs(3 * 60);
/// Maximum duration of one round of the loop of a thread that writes, copies or encrypts whole recordings.
pub const LONG_ROUND: Duration = Duration::from_secs(15 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a moment to count from")]
    fn thread_without_progress_is_named_until_it_goes_on() {
        let mut supervisor = Supervisor::default();
        let (quick, slow) = (ThreadLife::default(), ThreadLife::default());
        supervisor.watch("quick", quick.clone(), Duration::from_secs(60));
        supervisor.watch("slow", slow.clone(), Duration::from_secs(60));
        let begin = Instant::now();
        let mut stalled_after = |secs: u64| supervisor.stalled(begin + Duration::from_secs(secs));
        assert_eq!(stalled_after(0), [], "the first check only takes the counts");
        quick.tick();
        assert_eq!(stalled_after(59), []);
        quick.tick();
        let slow_for = |secs| StalledThread { name: "slow", since: Duration::from_secs(secs), is_vital: true };
        assert_eq!(stalled_after(61), [slow_for(61)]);
        slow.tick();
        assert_eq!(stalled_after(62), []);
        assert_eq!(stalled_after(130).len(), 2, "each thread is named");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a moment to count from")]
    fn stall_of_a_helper_is_reported_and_not_vital() {
        let mut supervisor = Supervisor::default();
        supervisor.watch_helper("console", ThreadLife::default(), Duration::from_secs(60));
        let begin = Instant::now();
        assert_eq!(supervisor.stalled(begin), []);
        let stalled = supervisor.stalled(begin + Duration::from_secs(60));
        assert_eq!(stalled, [StalledThread { name: "console", since: Duration::from_secs(60), is_vital: false }]);
    }

    #[test]
    fn thread_that_ended_is_named_also_after_a_panic() {
        let mut supervisor = Supervisor::default();
        let lives = [ThreadLife::default(), ThreadLife::default()];
        supervisor.watch("lives", lives[0].clone(), SHORT_ROUND);
        supervisor.watch("panics", lives[1].clone(), SHORT_ROUND);
        let guards = lives.map(|life| life.begin());
        assert_eq!(supervisor.ended(), None);
        let [lives, panics] = guards;
        let ended = std::thread::spawn(move || {
            let _guard = panics;
            panic!("on purpose");
        });
        assert!(ended.join().is_err());
        assert_eq!(supervisor.ended(), Some("panics"));
        drop(lives);
    }
}
