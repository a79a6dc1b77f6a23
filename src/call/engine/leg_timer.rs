//! Timers of the legs: sets the timer that ends a leg, and stores when the recording of a leg begins.

use crate::call::decision::Decision;
use crate::call::engine::Engine;
use crate::call::event::LegSink;
use crate::call::keys::LegKey;
use crate::call::leg::{LegDue, LegSpoolState};
use crate::call::timers::EngineTimer;

impl Engine {
    /// Sets the timer of a leg again after a change of its state.
    pub(super) fn rearm_leg_timer(&mut self, slot: LegKey) {
        let Some(leg) = self.table.leg_mut(slot) else { return };
        if leg.is_closed() {
            return;
        }
        let at = match leg.due(self.clock.now, &self.settings.config) {
            LegDue::Later(at) => at,
            LegDue::End(..) | LegDue::Close => self.clock.now,
        };
        self.timers.arm(EngineTimer::Leg(slot), at);
    }

    /// Writes the decision `Start` (the recording begins) to the leg's spool when the start is known. Writes it again
    /// if a packet that was captured late shows an earlier start.
    pub(super) fn write_start(&mut self, slot: LegKey, sink: &mut dyn LegSink) {
        let by_media = self.settings.config.start == crate::call::config::RecordingStart::Media;
        let Some(leg) = self.table.leg_mut(slot) else { return };
        let answered = leg.dialog.answered.map(|(at, _)| at);
        let at = if by_media { leg.media.first_at().or(answered) } else { answered };
        let Some(at) = at else { return };
        if leg.spool.started_at().is_some_and(|known| known <= at) || !leg.spool.is_open() {
            return;
        }
        leg.spool = LegSpoolState::Open { started_at: Some(at) };
        sink.decide(leg.id, at, &Decision::Start);
        let conversation = leg.call();
        self.schedule_segments(conversation, at);
    }
}
