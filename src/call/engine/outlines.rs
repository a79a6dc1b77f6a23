//! Outlines of sounds in the engine: legs are heard while it is doubtful whether they carry the sound of their call.

use crate::call::engine::Engine;
use crate::call::keys::{CallKey, LegKey};

impl Engine {
    /// Begins to listen to all legs of a call if a leg in it is doubtful. If none is, the outlines are dropped.
    pub(super) fn outline_doubtful_call(&mut self, conversation: CallKey) {
        if self.earlier.restore.is_reading() {
            return;
        }
        let is_doubtful = self.correlator().has_doubtful_leg(conversation);
        for slot in self.table.keys_of(conversation).to_vec() {
            self.outline_leg(slot, is_doubtful);
        }
    }

    fn outline_leg(&mut self, slot: LegKey, is_doubtful: bool) {
        let now = self.clock.now;
        let Some(leg) = self.table.leg_mut(slot) else { return };
        match is_doubtful {
            true => leg.media.begin_outline(now),
            false => leg.media.drop_outline(),
        }
    }
}
