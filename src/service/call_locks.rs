//! Locks on calls: only one thread at a time works on a call.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::ops::supervision::TickCounter;

/// Locks of calls by call id, and a list of calls in progress that a configuration rule forbids to record.
#[derive(Debug, Default)]
pub(super) struct CallLocks {
    /// Ids of the calls that a thread has locked now.
    locked: Mutex<HashSet<String>>,
    released: Condvar,
    /// Ids of calls in progress that a configuration rule forbids to record.
    forbidden: Mutex<HashSet<String>>,
}

/// A lock on a call. While it exists, no other thread works on the call. Dropping it unlocks the call.
#[derive(Debug)]
pub(super) struct CallLock<'a> {
    locks: &'a CallLocks,
    id: String,
}

impl CallLocks {
    /// Locks a call. Waits until no other thread holds the lock, e.g. for an hour if that thread renders. While
    /// waiting, counts signs of life in `ticks`, because the waiting thread does not hang.
    pub(super) fn lock(&self, id: &str, ticks: &TickCounter) -> CallLock<'_> {
        let mut locked = self.locked.lock().unwrap_or_else(PoisonError::into_inner);
        while !locked.insert(id.to_owned()) {
            ticks.tick();
            (locked, _) = self.released.wait_timeout(locked, WAIT_ROUND).unwrap_or_else(PoisonError::into_inner);
        }
        CallLock { locks: self, id: id.to_owned() }
    }

    /// Locks a call if no other thread holds its lock; otherwise returns `None`.
    pub(super) fn try_lock(&self, id: &str) -> Option<CallLock<'_>> {
        let mut locked = self.locked.lock().unwrap_or_else(PoisonError::into_inner);
        locked.insert(id.to_owned()).then(|| CallLock { locks: self, id: id.to_owned() })
    }

    /// Marks a call in progress as forbidden to record. From now on no part of its recording is published.
    pub(super) fn forbid(&self, id: &str) {
        self.forbidden.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned());
    }

    /// Undoes [`CallLocks::forbid`] for a call that has ended.
    pub(super) fn forget(&self, id: &str) {
        self.forbidden.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// Returns whether a configuration rule forbids to record this call, which is in progress.
    pub(super) fn is_forbidden(&self, id: &str) -> bool {
        self.forbidden.lock().unwrap_or_else(PoisonError::into_inner).contains(id)
    }
}

impl Drop for CallLock<'_> {
    fn drop(&mut self) {
        self.locks.locked.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
        self.locks.released.notify_all();
    }
}

/// Maximum time to wait for a lock before the thread gives a sign of life to the supervision of threads.
const WAIT_ROUND: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::supervision::{Supervisor, ThreadLife};
    use crate::service::clock::monotonic;

    #[test]
    fn thread_that_waits_for_a_call_does_not_count_as_stalled() {
        let (locks, ticks, minute) = (CallLocks::default(), TickCounter::default(), Duration::from_secs(60));
        let mut supervisor = Supervisor::default();
        supervisor.watch("render", ThreadLife::of_ticks(ticks.clone()), minute);
        let first = locks.lock("a", &TickCounter::default());
        let (done, waiting) = crossbeam_channel::bounded(1);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _second = locks.lock("a", &ticks);
                done.send(()).expect("somebody waits");
            });
            assert!(waiting.recv_timeout(WAIT_ROUND).is_err(), "the call is locked");
            let mut now = monotonic();
            for _ in 0..3 {
                supervisor.stalled(now);
                assert!(waiting.recv_timeout(WAIT_ROUND + WAIT_ROUND / 2).is_err(), "the call is locked");
                now += minute;
                assert_eq!(supervisor.stalled(now), []);
            }
            drop(first);
            waiting.recv().expect("the second thread has the lock");
        });
    }
}
