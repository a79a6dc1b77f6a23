//! State of correlation in the spools. It must be stored, because messages and packets do not show it to a later
//! process.
//!
//! Each decision contains the whole state of a leg, a call or a REFER, and replaces the decision before it. So a fact
//! that no longer applies is not restored.

use crate::call::call_state::{CallOrigin, LackedLegs};
use crate::call::conversation::Conversation;
use crate::call::correlation_keys::Referral;
use crate::call::correlation_rule::CorrelationRule;
use crate::call::decision::{ConversationState, Decision, LearntFacts, LegAssignment, MissingParts, ReferRequest};
use crate::call::engine::Engine;
use crate::call::engine::tombstones::hash;
use crate::call::event::{LegId, LegSink};
use crate::call::keys::{CallKey, LegKey};
use crate::call::leg::{Leg, LegSpoolState};
use crate::call::record::RelationRecord;
use crate::time::Timestamp;

impl Engine {
    /// Writes to a leg's spool to which call the leg belongs, and how it joined this call.
    pub(super) fn store_assignment(&self, slot: LegKey, sink: &mut dyn LegSink) {
        if let Some(leg) = self.table.leg(slot).filter(|leg| leg.spool.is_open())
            && let Some(assignment) = self.assignment_of(leg)
        {
            sink.decide(leg.id, self.clock.now, &Decision::Join(assignment));
        }
    }

    /// Writes the state of a call to the spools of all its open legs. One spool is not enough, because the spool of an
    /// unanswered leg may be discarded later.
    ///
    /// The facts about hosts and numbers are written only if they have changed. Each spool gets the facts about its own
    /// leg, because a large ring group has many. The first one also gets those about legs with closed spools.
    pub(super) fn store_call(&mut self, conversation: CallKey, sink: &mut dyn LegSink) {
        let Some(state) = self.state_of(conversation) else { return };
        let is_open = |slot: &LegKey| self.table.leg(*slot).is_some_and(|leg| leg.spool.is_open());
        let all = self.table.keys_of(conversation).to_vec();
        let (open, closed): (Vec<LegKey>, Vec<LegKey>) = all.iter().copied().partition(is_open);
        let facts = hash(&self.learnt_about(&all));
        let call = self.table.call_mut(conversation).filter(|_| !open.is_empty());
        let is_changed = call.is_some_and(|call| call.notes.note_stored_facts(facts));
        let mut described = closed;
        for slot in open {
            described.push(slot);
            let learnt = if is_changed { self.learnt_about(&described) } else { LearntFacts::default() };
            described.clear();
            if let Some(leg) = self.table.leg(slot) {
                sink.decide(leg.id, self.clock.now, &state.clone().into_decision(learnt));
            }
        }
    }

    /// Writes the state of a leg and of its call to the spool of the leg, which was just opened.
    pub(super) fn store_with_new_spool(&self, slot: LegKey, sink: &mut dyn LegSink) {
        let Some(leg) = self.table.leg(slot) else { return };
        let has_evidence =
            |a: &LegAssignment| a.confirmed_by.is_some() || a.machine.is_some() || !a.alternatives.is_empty();
        if let Some(assignment) = self.assignment_of(leg).filter(has_evidence) {
            sink.decide(leg.id, leg.created_at, &Decision::Join(assignment));
        }
        if let Some(state) = self.state_of(leg.call()) {
            sink.decide(leg.id, leg.created_at, &state.into_decision(self.learnt_about(&[slot])));
        }
    }

    /// Writes a REFER to the spool of its leg. If that spool is closed, writes it to the spool of another leg of the
    /// call.
    pub(super) fn store_referral(&self, referral: &Referral, sink: &mut dyn LegSink) {
        let own = self.table.leg(referral.leg).filter(|leg| leg.spool.is_open());
        let other = || self.table.legs_of(referral.conversation).find(|leg| leg.spool.is_open());
        if let Some(leg) = own.or_else(other) {
            sink.decide(leg.id, self.clock.now, &Decision::Refer(Box::new(referral.request.clone())));
        }
    }

    fn assignment_of(&self, leg: &Leg) -> Option<LegAssignment> {
        let id_of = |call: &CallKey| self.table.call(*call).map(|call| call.id.clone());
        let (sender, own) = (leg.machines().0, self.site.topology.machine_of(leg.dialog.caller_addr));
        Some(LegAssignment {
            conversation: id_of(&leg.call())?,
            by: leg.join.by(),
            confirmed_by: leg.join.confirmed_by(),
            machine: (!sender.same_host(own)).then_some(sender),
            alternatives: leg.join.alternatives().iter().filter_map(id_of).collect(),
        })
    }

    /// Returns the state of a call without the facts about the hosts and numbers of its legs.
    fn state_of(&self, conversation: CallKey) -> Option<ConversationState> {
        let call = self.table.call(conversation)?;
        let is_adopted = |leg: &&Leg| call.notes.adopted_legs().contains(&leg.name);
        let adopted = self.table.legs_of(conversation).filter(is_adopted);
        let adopted_legs = adopted.map(|leg| (leg.name.clone(), leg.join.by())).collect();
        let relays = self.relay_names(conversation, call.notes.relays());
        Some(ConversationState { adopted_legs, relays, ..call.stored_state() })
    }

    /// Returns what was learnt about the hosts and numbers of these legs.
    fn learnt_about(&self, slots: &[LegKey]) -> LearntFacts {
        let legs = || slots.iter().filter_map(|slot| self.table.leg(*slot));
        let ends = |leg: &Leg| [leg.hop().0, leg.hop().1, leg.machines().0, leg.machines().1].map(|end| end.ip());
        self.site
            .plan
            .learnt_about(legs().flat_map(ends).collect(), legs().flat_map(|leg| leg.parties.numbers()).collect())
    }

    /// Returns the pairs of legs in `relays` that contain a leg of this call, each with the names of both legs.
    ///
    /// Each pair has the same sound. The other leg may belong to another call. If that call has ended, the name of its
    /// leg is empty. The pair still shows that a machine passes the sound of the remaining leg on.
    fn relay_names(&self, conversation: CallKey, relays: &[(LegId, LegId)]) -> Vec<(String, String)> {
        let leg_of = |id: LegId| self.table.leg_by_id(id);
        let is_own = |id: LegId| leg_of(id).is_some_and(|leg| leg.call() == conversation);
        let name_of = |id: LegId| leg_of(id).map_or_else(String::new, |leg| leg.name.clone());
        let own = relays.iter().filter(|(a, b)| is_own(*a) || is_own(*b));
        own.map(|(a, b)| (name_of(*a), name_of(*b))).collect()
    }

    /// Restores the call of a leg, and how the leg joined it.
    pub(super) fn restore_assignment(&mut self, slot: LegKey, stored: &LegAssignment) {
        let alternatives = stored.alternatives.iter().filter_map(|id| self.table.call_by_id(id)).collect();
        let Some((leg, call)) = self.table.leg_and_call_mut(slot) else { return };
        // If the leg moved to another call later, only one part of this stored decision still counts: the machine that
        // sent the leg.
        if call.id == stored.conversation {
            leg.join.restore(stored.by, stored.confirmed_by);
            leg.join.set_alternatives(alternatives);
        }
        let (own, receiver) = (leg.dialog.caller_addr, leg.machines().1);
        let sender = stored.machine.unwrap_or_else(|| self.site.topology.machine_of(own));
        self.table.set_machines(slot, (sender, receiver));
    }

    /// Restores the state of a call. Ignores the state of another call to which the leg belonged before.
    pub(super) fn restore_call(&mut self, conversation: CallKey, stored: &ConversationState) {
        let Some(call) = self.table.call_mut(conversation).filter(|call| call.id == stored.conversation) else {
            return;
        };
        call.restore_state(stored);
        if stored.missing.is_left
            && let Some(record) = self.earlier.restore.left_record(&stored.conversation)
        {
            call.origin = CallOrigin::Left(Box::new(record));
        }
        for (name, by) in &stored.adopted_legs {
            self.restore_adopted_leg(conversation, name, *by);
        }
        let id_of = |name: &str| Some(self.table.leg(self.earlier.restore.slot_of(name)?)?.id);
        // Each pair names two legs with the same sound. If one leg is gone, the remaining leg is paired with itself,
        // which still shows that a machine relays its sound.
        let pair_of = |a: &str, b: &str| id_of(a).or_else(|| id_of(b)).zip(id_of(b).or_else(|| id_of(a)));
        let relays: Vec<_> = stored.relays.iter().filter_map(|(a, b)| pair_of(a, b)).collect();
        if let Some(call) = self.table.call_mut(conversation) {
            relays.into_iter().for_each(|pair| _ = call.notes.note_relay(pair));
        }
    }

    /// Adds to a restored call its relations to other calls, as the journal has them.
    pub(super) fn restore_relations(&mut self, conversation: CallKey) {
        let Some(call) = self.table.call_mut(conversation) else { return };
        for relation in self.earlier.restore.take_relations(&call.id) {
            call.add_relation(relation);
        }
    }

    /// Moves a closed leg to this call again, as an earlier process did. The spool file of the leg still names the old
    /// call.
    fn restore_adopted_leg(&mut self, into: CallKey, name: &str, by: Option<CorrelationRule>) {
        let Some(slot) = self.earlier.restore.slot_of(name) else { return };
        let Some(from) = self.table.leg(slot).map(Leg::call).filter(|from| *from != into) else { return };
        if self.table.keys_of(from).len() == 1 {
            self.table.merge(from, into);
            self.timers.disarm_call(from);
        } else {
            self.table.move_leg(slot, into);
        }
        if let Some((leg, call)) = self.table.leg_and_call_mut(slot) {
            leg.join.set(by);
            call.notes.adopt_leg(name.to_owned());
        }
    }

    /// Restores a REFER from the spool of a leg of its call.
    pub(super) fn restore_referral(&mut self, slot: LegKey, stored: &ReferRequest) {
        let Some(conversation) = self.table.leg(slot).map(Leg::call) else { return };
        let referral = Referral { conversation, leg: slot, request: stored.clone() };
        match self.table.referral_mut(|known| known.is_repeated_by(&referral)) {
            Some(known) => known.request = referral.request,
            None => self.table.add_referral(referral, MAX_REFERRALS),
        }
    }
}

impl ConversationState {
    /// Returns the decision that stores this state together with what was learnt about hosts and numbers.
    fn into_decision(self, learnt: LearntFacts) -> Decision {
        let shown_machines = self.learnt.shown_machines;
        let learnt = LearntFacts { shown_machines, ..learnt };
        Decision::Conversation(Box::new(Self { learnt, ..self }))
    }
}

impl Leg {
    /// Returns whether the spool file of the leg is closed, so that nothing can be added to it.
    pub(super) const fn has_closed_spool(&self) -> bool {
        matches!(self.spool, LegSpoolState::Closed { .. } | LegSpoolState::Kept)
    }
}

impl Conversation {
    /// Returns the state of a call for the spools of its legs. Leaves out the pairs of legs with the same sound, and
    /// the closed legs that the call took over from other calls.
    fn stored_state(&self) -> ConversationState {
        ConversationState {
            conversation: self.id.clone(),
            created_at_ns: self.created_at.as_nanos(),
            relations: self.relations.iter().map(|relation| (relation.id.clone(), relation.why)).collect(),
            continues: self.origin.continues().cloned(),
            answered_elsewhere: self.notes.answered_elsewhere().cloned(),
            closed_to_heuristics: self.closed_to_heuristics,
            is_announced: self.stage.is_announced(),
            is_committed: self.recording.is_committed(),
            missing: MissingParts {
                had_other_legs: self.notes.will_lack() != LackedLegs::None,
                rang_no_extension: self.notes.will_lack() == LackedLegs::Others,
                is_left: self.origin.earlier_record().is_some(),
            },
            adopted_legs: Vec::new(),
            relays: Vec::new(),
            learnt: LearntFacts { shown_machines: self.notes.shown_machines().to_vec(), ..LearntFacts::default() },
        }
    }

    /// Restores the state of this call that an earlier process stored.
    fn restore_state(&mut self, stored: &ConversationState) {
        self.created_at = Timestamp::from_nanos(stored.created_at_ns);
        self.relations.clear();
        for (id, why) in &stored.relations {
            self.add_relation(RelationRecord::new(id, *why));
        }
        if let Some(id) = &stored.continues {
            self.origin = CallOrigin::Continues(id.clone());
        }
        if let Some(answer) = &stored.answered_elsewhere {
            self.notes.mark_answered_elsewhere(answer.clone());
        }
        for pair in &stored.learnt.shown_machines {
            self.notes.note_shown_machine(*pair);
        }
        if stored.missing.had_other_legs {
            let rang = !stored.missing.rang_no_extension;
            self.notes.note_lacking(if rang { LackedLegs::Rung } else { LackedLegs::Others });
        }
        self.closed_to_heuristics = stored.closed_to_heuristics;
        self.stage.restore_announced(stored.is_announced);
        self.recording.restore_commitment(stored.is_committed);
    }
}

/// Maximum number of REFERs that are stored. Even a busy PBX sends fewer within the 30 s in which a REFER can cause a
/// leg.
pub(super) const MAX_REFERRALS: usize = 1_024;
