//! Outlines of sounds in the engine: the sound of a leg is measured while it is doubtful whether the leg belongs to its
//! call.

use crate::call::decision::Decision;
use crate::call::engine::{Engine, StreamRef};
use crate::call::event::LegSink;
use crate::call::keys::{CallKey, LegKey};
use crate::call::leg::Leg;
use crate::rtp::RtpPacket;
use crate::time::Timestamp;

impl Engine {
    /// Begins to measure the sound of all legs of a call if one of its legs is doubtful. A doubtful leg may carry the
    /// sound of another call. If no leg is doubtful, drops the measured outlines.
    pub(super) fn outline_doubtful_call(&mut self, conversation: CallKey) {
        if self.earlier.restore.is_reading() {
            return;
        }
        let is_doubtful = self.correlator().has_doubtful_leg(conversation);
        let has_rest = self.table.legs_of(conversation).any(is_over);
        for slot in self.table.keys_of(conversation).to_vec() {
            if is_doubtful {
                self.begin_outline(slot);
            } else if !has_rest {
                self.drop_outline(slot);
            }
        }
    }

    /// Begins to measure the sound of the other legs of a call when a leg has ended. It may be the rest of a
    /// conversation, or a busy tone.
    pub(super) fn outline_rest(&mut self, ended: LegKey) {
        if let Some(call) = self.table.leg(ended).map(Leg::call) {
            self.outline_rest_of(call);
        }
    }

    /// Does the same as [`Engine::outline_rest`] for a call. Does nothing if no answered leg of the call has ended.
    pub(super) fn outline_rest_of(&mut self, call: CallKey) {
        if self.earlier.restore.is_reading() || self.table.is_lone(call) || !self.table.legs_of(call).any(is_over) {
            return;
        }
        let goes_on = |slot: &LegKey| {
            self.table.leg(*slot).is_some_and(|leg| leg.dialog.ended().is_none() && leg.dialog.answered.is_some())
        };
        let rest: Vec<LegKey> = self.table.keys_of(call).iter().copied().filter(goes_on).collect();
        rest.into_iter().for_each(|slot| self.begin_outline(slot));
    }

    /// Begins to measure the sound of all legs of a doubtful call if this leg has sound of both sides, but no answer.
    /// The mirror may have lost the answer. If media flows already, an ACK or the media shows the answer only when the
    /// leg ends.
    pub(super) fn outline_unanswered_leg(&mut self, slot: LegKey) {
        let talks = |leg: &&Leg| leg.dialog.answered.is_none() && leg.dialog.ended().is_none() && leg.has_both_sides();
        if let Some(call) = self.table.leg(slot).filter(talks).map(Leg::call) {
            self.outline_doubtful_call(call);
        }
    }

    /// Adds a packet to the outline of its leg, and writes finished parts of the outline to the spool of the leg.
    pub(super) fn outline_packet(
        &mut self,
        StreamRef { slot, index }: StreamRef,
        packet: &RtpPacket<'_>,
        at: Timestamp,
        sink: &mut dyn LegSink,
    ) {
        let Some(leg) = self.table.leg_mut(slot) else { return };
        if let Some(piece) = leg.media.outline_packet(index, packet, at)
            && leg.spool.is_open()
        {
            sink.decide(leg.id, at, &Decision::Outline(piece));
        }
    }

    fn begin_outline(&mut self, slot: LegKey) {
        let now = self.clock.now;
        if let Some(leg) = self.table.leg_mut(slot) {
            leg.media.begin_outline(now);
        }
    }

    fn drop_outline(&mut self, slot: LegKey) {
        if let Some(leg) = self.table.leg_mut(slot) {
            leg.media.drop_outline();
        }
    }
}

/// Returns whether a leg was answered and has ended.
fn is_over(leg: &Leg) -> bool {
    leg.dialog.answered.is_some() && leg.dialog.ended().is_some()
}
