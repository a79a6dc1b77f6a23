//! Outlines of sounds in the engine: the sound of a leg is measured while it is doubtful whether the leg belongs to its
//! call. The sound is also measured after the end of another leg of the call.

use std::time::Duration;

use crate::call::decision::Decision;
use crate::call::engine::tombstones::hash;
use crate::call::engine::{Engine, StreamRef};
use crate::call::event::LegSink;
use crate::call::keys::{CallKey, LegKey};
use crate::call::leg::Leg;
use crate::call::sound_outline::{FOLLOW_TIME, LISTEN_TIME};
use crate::call::timers::EngineTimer;
use crate::rtp::RtpPacket;
use crate::time::Timestamp;

impl Engine {
    /// Begins to measure the sound of all legs of a call if one of them is doubtful, i.e. may carry the sound of
    /// another call. If no leg is doubtful, drops the measurements (outlines).
    pub(super) fn outline_doubtful_call(&mut self, conversation: CallKey) {
        self.outline_doubtful_call_since(conversation, self.clock.now);
    }

    /// Begins to measure the sound of all legs of a call from `at` on, if one of them may belong to another call (is
    /// *doubtful*). If none may, drops the measurements. After a restart, `at` is later than the newest packet in the
    /// spools.
    pub(super) fn outline_doubtful_call_since(&mut self, conversation: CallKey, at: Timestamp) {
        if self.earlier.restore.is_reading() {
            return;
        }
        let is_doubtful = self.correlator().has_doubtful_leg(conversation);
        for slot in self.table.keys_of(conversation).to_vec() {
            match self.table.leg_mut(slot) {
                Some(leg) if is_doubtful => leg.media.begin_outline(at),
                Some(leg) => leg.media.drop_outline(),
                None => {}
            }
        }
        let timer = EngineTimer::Outline(conversation);
        match is_doubtful {
            true => self.timers.arm(timer, at + LISTEN_TIME),
            false => _ = self.timers.disarm(timer),
        }
    }

    /// Begins to measure the sound of a call after a restart, if one of its legs may belong to another call. Each call is
    /// examined at another moment of the [`FOLLOW_TIME`] after the usual one. Otherwise all calls would be examined at
    /// one moment, and packets could be lost meanwhile.
    pub(super) fn outline_restored_call(&mut self, conversation: CallKey, at: Timestamp) {
        self.outline_doubtful_call_since(conversation, at);
        let timer = EngineTimer::Outline(conversation);
        let Some(call) = self.table.call(conversation).filter(|_| self.timers.is_armed(timer)) else { return };
        let later = Duration::from_millis(hash(&call.id) % FOLLOW_TIME.as_millis() as u64);
        for slot in self.table.keys_of(conversation).to_vec() {
            if let Some(leg) = self.table.leg_mut(slot) {
                leg.media.follow_outline(at + LISTEN_TIME + later - FOLLOW_TIME);
            }
        }
        self.timers.arm(timer, at + LISTEN_TIME + later);
    }

    /// Examines a call with a leg that only numbers joined, after the sound of its legs was measured for some seconds.
    /// While the sounds differ, the measurement goes on: they may differ because of an announcement. Otherwise stores
    /// what was measured.
    pub(super) fn handle_outline_timer(&mut self, conversation: CallKey, sink: &mut dyn LegSink) {
        if self.earlier.restore.is_reading() {
            return;
        }
        let (now, goes_on) = (self.clock.now, self.correlator().has_undecided_sound(conversation));
        for slot in self.table.keys_of(conversation).to_vec() {
            match self.table.leg_mut(slot) {
                Some(leg) if goes_on => leg.media.follow_outline(now),
                Some(leg) if leg.spool.is_open() => write_outline(leg, now, sink),
                _ => {}
            }
        }
        if goes_on {
            self.timers.arm(EngineTimer::Outline(conversation), now + FOLLOW_TIME);
        }
    }

    /// Begins to measure the sound of the other talking legs of a call when a talking leg has ended. Their sound may
    /// be the rest of a conversation, or a busy tone. Keeps what was measured before.
    pub(super) fn outline_rest(&mut self, ended: LegKey) {
        let call = self.table.leg(ended).filter(|leg| leg.may_talk()).map(Leg::call);
        let Some(call) = call.filter(|call| !self.earlier.restore.is_reading() && !self.table.is_lone(*call)) else {
            return;
        };
        for slot in self.table.keys_of(call).to_vec() {
            if let Some(leg) = self.table.leg_mut(slot) {
                leg.media.keep_outline();
            }
        }
        let goes_on =
            |slot: &LegKey| self.table.leg(*slot).is_some_and(|leg| leg.dialog.ended().is_none() && leg.may_talk());
        let rest: Vec<LegKey> = self.table.keys_of(call).iter().copied().filter(goes_on).collect();
        self.outline_rest_of(&rest);
    }

    /// Measures loudness and pitch of these legs for some further seconds.
    pub(super) fn outline_rest_of(&mut self, legs: &[LegKey]) {
        let now = self.clock.now;
        for slot in legs {
            if let Some(leg) = self.table.leg_mut(*slot) {
                leg.media.begin_rest(now);
            }
        }
    }

    /// Begins to measure the sound of all legs of a call if one of them may belong to another call (is *doubtful*).
    /// Does this only if this leg has sound of both sides but no captured answer.
    ///
    /// The mirror may have lost the 2xx. Then an ACK or the media proves the answer only when the leg ends, and a
    /// measurement would begin too late.
    pub(super) fn outline_unanswered_leg(&mut self, slot: LegKey) {
        let talks = |leg: &&Leg| leg.dialog.answered.is_none() && leg.dialog.ended().is_none() && leg.has_both_sides();
        if let Some(call) = self.table.leg(slot).filter(talks).map(Leg::call) {
            self.outline_doubtful_call(call);
        }
    }

    /// Adds a packet to the outline of its leg, i.e. to its measured loudness and pitch. Writes finished parts of the
    /// outline to the spool of the leg.
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
}

/// Writes to the spool of a leg all measurements of its loudness and pitch (its outline) that are not stored yet.
pub(super) fn write_outline(leg: &mut Leg, at: Timestamp, sink: &mut dyn LegSink) {
    while let Some(piece) = leg.media.take_last_outline() {
        sink.decide(leg.id, at, &Decision::Outline(piece));
    }
}
