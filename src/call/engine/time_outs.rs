//! Timeouts of legs, and the end of all legs when the capture ends.

use crate::call::engine::Engine;
use crate::call::event::LegSink;
use crate::call::keys::LegKey;
use crate::call::leg::LegDue;
use crate::call::record::EndedBy;

impl Engine {
    /// Ends or closes a leg when its timer fires, according to the state of the leg.
    pub(super) fn handle_leg_timer(&mut self, slot: LegKey, sink: &mut dyn LegSink) {
        let Some(leg) = self.table.leg_mut(slot) else { return };
        match leg.due(self.clock.now, &self.settings.config) {
            LegDue::Later(_) => self.rearm_leg_timer(slot),
            LegDue::End(at, by) => {
                leg.dialog.handle_end(at, by);
                self.apply_dialog_state(slot, sink);
            }
            LegDue::Close => self.close_leg(slot, sink),
        }
    }

    /// Ends and closes all legs, because the capture has ended.
    pub(super) fn end_all_legs(&mut self, sink: &mut dyn LegSink) {
        let slots: Vec<LegKey> = self.table.legs().filter(|(_, l)| !l.is_closed()).map(|(slot, _)| slot).collect();
        for &slot in &slots {
            if let Some(leg) = self.table.leg_mut(slot) {
                let (at, by) = match leg.due(self.clock.now, &self.settings.config) {
                    LegDue::End(at, by) => (at, by),
                    // Another call uses the media address of this leg, so the leg is over and counts as replaced.
                    _ => match leg.replaced_at() {
                        Some(last_media_at) => (last_media_at, EndedBy::Replaced),
                        None => (self.clock.now, EndedBy::CaptureEnd),
                    },
                };
                leg.dialog.handle_end(at, by);
                self.apply_dialog_state(slot, sink);
            }
        }
        for slot in slots {
            self.close_leg(slot, sink);
        }
    }
}
