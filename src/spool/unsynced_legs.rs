//! The legs whose bytes may be missing on the disk until a sync succeeds.

use std::collections::HashSet;

use crate::call::event::LegId;

/// Legs with bytes that no sync has confirmed yet. A leg stays here after its file was closed.
#[derive(Debug, Default)]
pub(super) struct UnsyncedLegs {
    /// Legs whose files were written since the newest sync began.
    written: LegSet,
    /// Legs whose files were written before the running sync began; empty if no sync is running.
    syncing: LegSet,
}

type LegSet = HashSet<LegId, foldhash::fast::RandomState>;

impl UnsyncedLegs {
    /// Records that the file of a leg was written.
    pub(super) fn add(&mut self, leg: LegId) {
        self.written.insert(leg);
    }

    /// Records that a sync begins. It must write the bytes of all legs so far.
    pub(super) fn begin_sync(&mut self) {
        self.syncing = std::mem::take(&mut self.written);
    }

    /// Records that the running sync has ended. Legs that were written during the sync need another sync.
    pub(super) fn end_sync(&mut self) {
        self.syncing.clear();
    }

    /// Removes a leg, because its file is removed or its call has ended.
    pub(super) fn remove(&mut self, leg: LegId) {
        self.written.remove(&leg);
        self.syncing.remove(&leg);
    }

    /// Returns whether no sync has confirmed the bytes of this leg yet.
    pub(super) fn contains(&self, leg: LegId) -> bool {
        self.written.contains(&leg) || self.syncing.contains(&leg)
    }

    /// Returns the legs with bytes that no sync has confirmed yet. A leg can be returned twice.
    pub(super) fn iter(&self) -> impl Iterator<Item = LegId> {
        self.written.iter().chain(&self.syncing).copied()
    }
}
