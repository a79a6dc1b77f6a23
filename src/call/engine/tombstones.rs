//! Tombstones: memory of ended dialogs. A late message of such a dialog, e.g. a retransmission, must not begin a new
//! call.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;

use crate::call::engine::Engine;
use crate::call::keys::LegKey;
use crate::time::Timestamp;

/// All tombstones (memory of ended dialogs), by the hash of the Call-ID. The tags are not part of the key, because a
/// late message may come from either side.
#[derive(Debug, Default)]
pub(super) struct DialogTombstones {
    known: HashMap<u64, DialogTombstone, foldhash::fast::RandomState>,
    order: VecDeque<(Timestamp, u64)>,
}

/// Facts about an ended dialog, which distinguish its late messages from the messages of a new call.
#[derive(Clone, Copy, Debug)]
pub(super) struct DialogTombstone {
    /// Capture time until which the dialog is remembered.
    pub until: Timestamp,
    /// CSeq number of the newest INVITE in the dialog.
    pub invite_cseq: u32,
    /// Hashes of two tags: the caller's tags of the last two dialogs with this Call-ID. If it is unknown which side of
    /// a dialog is the caller, they are both tags of this dialog.
    pub tags: [u64; 2],
    /// Hashes of the Via branches of the last two INVITEs with this Call-ID; `None` for a dialog that nobody answered.
    pub branches: [Option<u64>; 2],
    /// Whether the dialog ended by a timeout while its INVITE waited for a final response. So a 2xx may still come, e.g.
    /// after the clock of the capture was set ahead.
    pub awaits_answer: bool,
}

impl DialogTombstones {
    /// Adds the tombstone of an ended dialog, or merges it into the tombstone with the same Call-ID. If there are more
    /// than `limit` tombstones, removes the oldest.
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

    /// Records that a 2xx may still answer the INVITE of an ended dialog.
    fn expect_answer(&mut self, key: u64) {
        if let Some(known) = self.known.get_mut(&key) {
            known.awaits_answer = true;
        }
    }

    /// Returns the tombstone (memory) of an ended dialog with this Call-ID; `None` if there is none, or if it is too
    /// old.
    pub(super) fn get(&mut self, key: u64, now: Timestamp) -> Option<DialogTombstone> {
        while self.order.front().is_some_and(|(until, _)| *until < now) {
            self.remove_oldest();
        }
        self.known.get(&key).copied()
    }

    /// Returns the number of Call-IDs with ended dialogs that are remembered.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    fn remove_oldest(&mut self) {
        let Some((until, key)) = self.order.pop_front() else { return };
        // If the tombstone (memory of the ended dialog) was renewed in the meantime, it expires later and is kept now.
        if self.known.get(&key).is_some_and(|known| known.until <= until) {
            self.known.remove(&key);
        }
    }
}

impl Engine {
    /// Remembers the dialog of an ended leg, so that its late messages begin no new call.
    pub(super) fn add_leg_tombstone(&mut self, slot: LegKey) {
        let Some(dialog) = self.table.leg(slot).map(|leg| &leg.dialog) else { return };
        let (call_id, tag) = (dialog.call_id().to_owned(), dialog.caller_tag().map(str::to_owned));
        let branches = if dialog.answered.is_some() { dialog.branches() } else { [None, None] };
        let awaits_answer = dialog.has_timed_out_unanswered();
        self.add_tombstone(&call_id, dialog.invite_cseq(), [tag.as_deref(), tag.as_deref()], branches);
        if awaits_answer {
            self.ended.tombstones.expect_answer(hash(&call_id));
        }
    }

    /// Remembers an ended dialog, so that its late messages begin no new call. `tags` is the caller's tag twice; or the
    /// tags of both sides, if it is unknown which side is the caller.
    pub(super) fn add_tombstone(
        &mut self,
        call_id: &str,
        invite_cseq: u32,
        tags: [Option<&str>; 2],
        branches: [Option<u64>; 2],
    ) {
        let (until, tags) = (self.clock.now + TOMBSTONE_TIME, tags.map(|tag| hash(&tag)));
        let tombstone = DialogTombstone { until, invite_cseq, tags, branches, awaits_answer: false };
        self.ended.tombstones.add(hash(call_id), tombstone, self.settings.limits.tombstones);
    }
}

/// Returns the hash of a Call-ID or tag; hashes take less memory than the texts.
pub(super) fn hash<T: std::hash::Hash + ?Sized>(value: &T) -> u64 {
    foldhash::fast::FixedState::with_seed(1).hash_one(value)
}

/// Time for which an ended dialog is remembered. A BYE or a 200 may be retransmitted for 32 s (RFC 3261 timers F and
/// H); this is twice that time.
const TOMBSTONE_TIME: std::time::Duration = std::time::Duration::from_secs(64);
