//! Applies the commands of correlation. Only this module changes which legs form one call.

use crate::call::correlate::{Command, LegMoment};
use crate::call::correlation_keys::{CorrelationKeys, Referral, TransferEnd};
use crate::call::correlation_rule::CorrelationRule;
use crate::call::engine::Engine;
use crate::call::engine::stored::MAX_REFERRALS;
use crate::call::event::LegSink;
use crate::call::keys::{CallKey, LegKey};
use crate::call::leg::{Leg, LegDraft};
use crate::call::timers::EngineTimer;
use crate::decode::UdpDatagram;
use crate::net::Endpoint;
use crate::sip::SipMessage;

impl Engine {
    /// Carries out commands of correlation in their order. Does nothing while spools are read back after a restart,
    /// because they contain the decisions of the earlier process.
    pub(super) fn apply(&mut self, commands: impl IntoIterator<Item = Command>, sink: &mut dyn LegSink) {
        if self.earlier.restore.is_reading() {
            return;
        }
        for command in commands {
            match command {
                Command::Merge { from, into, by } => self.merge(from, into, by, sink),
                Command::Move { legs, into, by } => {
                    let first = legs.first().and_then(|leg| self.table.leg(*leg));
                    let Some(from) = first.map(Leg::call) else { continue };
                    self.move_legs(&legs, into, by, sink);
                    self.finish_if_over(from, sink);
                }
                Command::Split { legs, why, alternatives } => self.apply_split(&legs, why, &alternatives, sink),
                Command::Release { legs } => self.release_legs(&legs, sink),
                Command::Relate { a, b, why } => self.relate(a, b, why, sink),
                Command::AddAlternative { leg, call } => {
                    if let Some(found) = self.table.leg_mut(leg) {
                        found.join.add_alternative(call);
                        self.store_assignment(leg, sink);
                    }
                }
                Command::Confirm { leg, by } => {
                    if let Some(found) = self.table.leg_mut(leg) {
                        found.join.confirm(by);
                        let call = found.call();
                        self.learn_confirmed_pbx(leg);
                        self.store_assignment(leg, sink);
                        self.outline_doubtful_call(call);
                    }
                }
                Command::SetSendingMachine { leg, machine } => self.set_sending_machine(leg, machine, sink),
                Command::LearnMachine { hosts, legs } => self.learn_proven_machine(hosts, legs, sink),
                Command::Announce { call } => {
                    self.apply_rules(call, sink);
                    self.emit_update(call, sink);
                }
                Command::MarkAnsweredElsewhere { call: key, by } => {
                    if let Some(call) = self.table.call_mut(key) {
                        call.notes.mark_answered_elsewhere(by);
                        self.store_call(key, sink);
                        self.emit_update(key, sink);
                    }
                }
            }
        }
    }

    fn apply_split(&mut self, legs: &[LegKey], why: CorrelationRule, others: &[CallKey], sink: &mut dyn LegSink) {
        let from = legs.first().and_then(|leg| self.table.leg(*leg)).map(Leg::call);
        let Some(from) = from else { return };
        if let Some(into) = self.split_call(from, legs, why, sink) {
            for other in others {
                self.relate(into, *other, why, sink);
            }
        }
        self.finish_if_over(from, sink);
    }

    /// Records that a leg was sent by a machine (e.g. the PBX) that has another address on another leg of the call.
    /// `machine` is that other address.
    pub(super) fn set_sending_machine(&mut self, slot: LegKey, machine: Endpoint, sink: &mut dyn LegSink) {
        if let Some(leg) = self.table.leg(slot) {
            let machines = (machine, leg.machines().1);
            self.table.set_machines(slot, machines);
            self.store_assignment(slot, sink);
        }
    }

    /// Merges the calls that this new leg caused, e.g. the legs of a ring group that were captured before the caller's
    /// leg. Returns the merged call, which the new leg joins.
    pub(super) fn join_late_cause(
        &mut self,
        draft: &mut LegDraft,
        sink: &mut dyn LegSink,
    ) -> Option<(CallKey, CorrelationRule)> {
        let (by, calls) = (CorrelationRule::LateCause, self.correlator().late_cause(draft));
        let Some((&into, others)) = calls.split_first() else { return self.join_late_middle(draft, sink) };
        self.apply(others.iter().map(|&from| Command::Merge { from, into, by }), sink);
        Some((into, by))
    }

    /// Returns the call that a new leg joins, because the new leg caused a leg that only numbers had joined to this
    /// call.
    ///
    /// E.g. node A of a cluster receives the caller's leg and passes the call to node B, and node B sends a leg on.
    /// Until now, the leg of node B counted as sent by node A. From now on, the new leg from A to B counts as sent by
    /// node A.
    fn join_late_middle(&mut self, draft: &mut LegDraft, sink: &mut dyn LegSink) -> Option<(CallKey, CorrelationRule)> {
        let key = self.correlator().late_middle(draft)?;
        let leg = self.table.leg(key)?;
        let (call, alias, own) = (leg.call(), leg.machines().0, leg.dialog.caller_addr);
        self.set_sending_machine(key, own, sink);
        draft.machine_hop.0 = alias;
        Some((call, CorrelationRule::LateCause))
    }

    /// Handles a REFER that was captured on a leg: stores it, and records the transfer as an event of the leg.
    pub(super) fn handle_refer(
        &mut self,
        slot: LegKey,
        message: &SipMessage<'_>,
        datagram: &UdpDatagram<'_>,
        sink: &mut dyn LegSink,
    ) {
        self.note_referral(slot, message, datagram, sink);
        if let Some(leg) = self.table.leg_mut(slot) {
            leg.dialog.note_transfer(datagram.at, message);
        }
    }

    /// Stores a REFER, unless it is a retransmission. If a proxy passes the REFER on, stores the new receiver. Does
    /// nothing while spools are read back after a restart.
    ///
    /// The engine may have handled the INVITE that the REFER asked for before this REFER, e.g. if frames arrive out of
    /// order. Then joins the call of this INVITE with the call of the REFER, or relates the two.
    fn note_referral(
        &mut self,
        slot: LegKey,
        message: &SipMessage<'_>,
        datagram: &UdpDatagram<'_>,
        sink: &mut dyn LegSink,
    ) {
        if self.earlier.restore.is_reading() {
            return;
        }
        let Some(mut referral) = self.correlator().read_referral(slot, message, datagram) else { return };
        self.apply(self.correlator().referred_consultation(&referral), sink);
        if let Some(known) = self.table.referral_mut(|known| known.is_repeated_by(&referral)) {
            if !known.pass_on(datagram) {
                return;
            }
            referral = known.clone();
        }
        if let Some((at, command)) = self.correlator().referred_call(&referral) {
            referral.request.spent_at = Some(at);
            self.apply([command], sink);
            referral.conversation = self.table.leg(slot).map_or(referral.conversation, Leg::call);
        }
        self.store_referral(&referral, sink);
        match self.table.referral_mut(|known| known.is_repeated_by(&referral)) {
            Some(known) => known.request = referral.request,
            None => self.table.add_referral(referral, MAX_REFERRALS),
        }
    }

    /// Marks a REFER as ended, if a NOTIFY reports the end of its transfer. The NOTIFY belongs to the newest REFER of
    /// this call that its sender received.
    pub(super) fn handle_notify(
        &mut self,
        slot: LegKey,
        message: &SipMessage<'_>,
        datagram: &UdpDatagram<'_>,
        sink: &mut dyn LegSink,
    ) {
        let (Some(end), Some(call)) = (TransferEnd::read(message), self.table.leg(slot).map(Leg::call)) else { return };
        let is_meant = |r: &Referral| {
            r.conversation == call && r.request.asked.same_host(datagram.src) && r.request.at <= datagram.at
        };
        let found = self.table.referral_mut(is_meant).filter(|_| !self.earlier.restore.is_reading());
        if let Some(referral) = found {
            referral.note_end(datagram.at, end);
            let referral = referral.clone();
            self.store_referral(&referral, sink);
        }
    }

    /// Marks the newest REFER that asked for the new leg as used. So a later call to the same target is not taken for
    /// the transfer.
    pub(super) fn spend_referral(&mut self, draft: &LegDraft, sink: &mut dyn LegSink) {
        let signature = draft.signature();
        let found = self.table.referral_mut(|r| r.causes(&signature, &draft.correlation_keys));
        if let Some(referral) = found.filter(|referral| referral.request.spent_at.is_none()) {
            referral.request.spent_at = Some(draft.at);
            let referral = referral.clone();
            self.store_referral(&referral, sink);
        }
    }

    /// Updates the headers by which a leg is correlated, because its INVITE was captured after its first response. The
    /// headers may show that the leg belongs to another call.
    pub(super) fn apply_late_invite(&mut self, slot: LegKey, keys: CorrelationKeys, sink: &mut dyn LegSink) {
        self.table.set_correlation_keys(slot, keys);
        self.apply(self.correlator().late_invite(slot), sink);
    }

    /// Updates the headers by which a leg is correlated, because its refused INVITE was sent again. If the INVITE has a
    /// Replaces header, relates the leg's call to the call that this header names.
    pub(super) fn apply_another_try(&mut self, slot: LegKey, keys: CorrelationKeys, sink: &mut dyn LegSink) {
        self.table.set_correlation_keys(slot, keys);
        self.apply(self.correlator().late_replaces(slot), sink);
    }

    /// Decides to which call an ambiguous leg (it could belong to several calls) belongs. The leg has stopped ringing,
    /// or it is examined again some time after its answer or end.
    fn resolve_ambiguous_leg(&mut self, slot: LegKey, sink: &mut dyn LegSink) {
        self.table.forget_unresolved(slot);
        let commands = self.correlator().decide_leg(slot, LegMoment::Resolved);
        let has_stopped = |leg: &&mut Leg| leg.dialog.answered.is_some() || leg.dialog.cancelled_at().is_some();
        if let Some(leg) = self.table.leg_mut(slot).filter(has_stopped) {
            leg.join.resolve();
            self.store_assignment(slot, sink);
        }
        self.apply(commands, sink);
    }

    /// Sets the timer that reviews a leg after its answer or end. By then the reaction of the PBX may show to which
    /// call the leg belongs.
    pub(super) fn schedule_answer_review(&mut self, slot: LegKey) {
        let Some(leg) = self.table.leg(slot).filter(|leg| !leg.is_closed() && !leg.join.is_reviewed()) else { return };
        let is_ambiguous = leg.join.is_ambiguous();
        let Some(at) = self.correlator().review_due_at(leg).filter(|at| *at > self.clock.now) else { return };
        self.timers.arm(EngineTimer::AnswerReview(slot), at);
        if let Some(leg) = self.table.leg_mut(slot) {
            leg.join.set_reviewed(true);
        }
        if is_ambiguous {
            self.table.note_unresolved(slot);
        }
    }

    /// Reviews a leg some time after its answer or end. Finds calls that the leg picked up or that were forwarded to
    /// it. If the leg could belong to several calls, decides to which call it belongs.
    pub(super) fn handle_answer_review(&mut self, slot: LegKey, sink: &mut dyn LegSink) {
        self.apply(self.correlator().decide_leg(slot, LegMoment::Reviewed), sink);
        self.resolve_ambiguous_leg(slot, sink);
        // A leg that joined its call by numbers alone is reviewed twice: after its answer and after its end. So the
        // next review is scheduled here.
        if let Some(leg) = self.table.leg_mut(slot).filter(|leg| leg.join.is_provisional()) {
            leg.join.set_reviewed(false);
            self.schedule_answer_review(slot);
        }
    }

    /// Does the pending reviews of answered legs at once, because the capture ends.
    pub(super) fn review_all_answers(&mut self, sink: &mut dyn LegSink) {
        let open = self.timers.iter().filter_map(|timer| match timer {
            EngineTimer::AnswerReview(slot) => Some(slot),
            _ => None,
        });
        for slot in open.collect::<Vec<_>>() {
            self.handle_answer_review(slot, sink);
        }
    }
}
