//! Locks on calls: only one thread at a time works on a call.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex, PoisonError};

/// Locks of calls by call id, and a list of calls in progress that a configuration rule forbids to record.
#[derive(Debug, Default)]
pub(super) struct CallLocks {
    /// Ids of the calls that a thread has locked now.
    locked: Mutex<HashSet<String>>,
    released: Condvar,
    /// Ids of calls in progress that a configuration rule forbids to record.
    forbidden: Mutex<HashSet<String>>,
}

/// A lock on a call, which lasts until this value is dropped.
#[derive(Debug)]
pub(super) struct CallLock<'a> {
    locks: &'a CallLocks,
    id: String,
}

impl CallLocks {
    /// Locks a call. Waits until no other thread has the call locked.
    pub(super) fn lock(&self, id: &str) -> CallLock<'_> {
        let mut locked = self.locked.lock().unwrap_or_else(PoisonError::into_inner);
        while !locked.insert(id.to_owned()) {
            locked = self.released.wait(locked).unwrap_or_else(PoisonError::into_inner);
        }
        CallLock { locks: self, id: id.to_owned() }
    }

    /// Marks a call in progress as forbidden to record. From now on no segment of its recording is published.
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
