//! Tombstones: dialogs that have ended. Their late messages (retransmissions, packets out of order) begin no new call.

use std::collections::{HashMap, VecDeque};

use crate::time::Timestamp;

/// Tombstones by hashed Call-ID. The key has no tag, because either side may send the late message, with either tag.
#[derive(Debug, Default)]
pub(super) struct DialogTombstones {
    known: HashMap<u64, DialogTombstone, foldhash::fast::RandomState>,
    order: VecDeque<(Timestamp, u64)>,
}

/// The part of an ended dialog that distinguishes its late messages from a new call.
#[derive(Clone, Copy, Debug)]
pub(super) struct DialogTombstone {
    /// End of the time for which the dialog is remembered.
    pub until: Timestamp,
    /// CSeq number of the newest INVITE.
    pub invite_cseq: u32,
    /// Hashed From tags of the two newest dialogs with this Call-ID.
    pub tags: [u64; 2],
    /// Via branches of the two newest INVITEs, if the dialog was answered.
    pub branches: [Option<u64>; 2],
}

impl DialogTombstones {
    /// Adds a tombstone, and merges it with an earlier tombstone of the same Call-ID. Removes the oldest tombstone
    /// beyond `limit`.
    pub(super) fn add(&mut self, key: u64, mut new: DialogTombstone, limit: usize) {
        if let Some(old) = self.known.get(&key) {
            new.invite_cseq = new.invite_cseq.max(old.invite_cseq);
            new.tags[1] = if new.tags[0] == old.tags[0] { old.tags[1] } else { old.tags[0] };
        }
        self.known.insert(key, new);
        self.order.push_back((new.until, key));
        while self.order.len() > limit {
            self.remove_oldest();
        }
    }

    /// Returns the tombstone of a Call-ID, unless its time is over.
    pub(super) fn get(&mut self, key: u64, now: Timestamp) -> Option<DialogTombstone> {
        while self.order.front().is_some_and(|(until, _)| *until < now) {
            self.remove_oldest();
        }
        self.known.get(&key).copied()
    }

    /// Returns the number of remembered Call-IDs.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    fn remove_oldest(&mut self) {
        let Some((until, key)) = self.order.pop_front() else { return };
        // A tombstone that was renewed in the meantime stays until its new time.
        if self.known.get(&key).is_some_and(|known| known.until <= until) {
            self.known.remove(&key);
        }
    }
}
