//! Recording policy: applies the `[[rules]]` of the configuration to a call, and opens or discards the spools of its
//! legs.

use crate::call::conversation::RecordingPolicy;
use crate::call::decision::{Decision, FORMAT};
use crate::call::engine::Engine;
use crate::call::event::{CallEvent, DiscardReason, LegSink};
use crate::call::keys::{CallKey, LegKey};
use crate::call::leg::{Leg, LegSpoolState};
use crate::call::party::LegParties;
use crate::call::roles::CallRoles;
use crate::call::rules::RuleSubject;
use crate::call::test_call::TestCallOrder;

impl Engine {
    /// Applies the configured `[[rules]]` to a call as it is now. Then opens the spool files of its legs, or deletes
    /// them if a rule excludes the call.
    pub(super) fn apply_rules(&mut self, conversation: CallKey, sink: &mut dyn LegSink) {
        let policy = match self.policy_of(conversation) {
            RecordingPolicy::Record if self.is_recording_session(conversation) => RecordingPolicy::RecordingSession,
            RecordingPolicy::Record if self.is_unregistered_test(conversation) => RecordingPolicy::TestCall,
            policy => policy,
        };
        let Some(call) = self.table.call_mut(conversation) else { return };
        call.recording.set_policy(policy);
        for slot in call.legs().to_vec() {
            match policy {
                RecordingPolicy::Exclude { .. } => self.discard_spool(slot, sink),
                RecordingPolicy::Record
                | RecordingPolicy::RecordingSession
                | RecordingPolicy::TestCall
                | RecordingPolicy::NoRegister { .. } => self.open_spool(slot, sink),
            }
        }
    }

    /// Returns whether all legs of a call are recording sessions (SIPREC).
    fn is_recording_session(&self, conversation: CallKey) -> bool {
        self.table.call(conversation).is_some() && self.table.legs_of(conversation).all(Leg::is_recording_session)
    }

    /// Returns whether a call is a test call of this recorder and must not be registered in Pyrus.
    fn is_unregistered_test(&self, conversation: CallKey) -> bool {
        let mut orders = self.table.legs_of(conversation).filter_map(|leg| leg.parties.test_order());
        orders.any(|order| order == TestCallOrder::RecordOnly)
    }

    fn policy_of(&self, conversation: CallKey) -> RecordingPolicy {
        if self.settings.rules.is_empty() {
            return RecordingPolicy::Record;
        }
        let Some(record) = self.record_of(conversation) else { return RecordingPolicy::Record };
        let legs: Vec<&Leg> = self.table.legs_of(conversation).collect();
        let parties: Vec<&LegParties> = legs.iter().map(|leg| &leg.parties).collect();
        let undecided = CallRoles::from_legs(&legs, &self.site.plan).is_some_and(|roles| roles.is_undecided());
        self.settings.rules.handling(RuleSubject { record: &record, parties: &parties, undecided }, &self.site.plan)
    }

    /// Opens the spool of a leg, and writes all earlier decisions about the leg to it.
    fn open_spool(&mut self, slot: LegKey, sink: &mut dyn LegSink) {
        let Some((leg, call)) = self.table.leg_and_call_mut(slot) else { return };
        if leg.spool != LegSpoolState::Shut || leg.is_closed() {
            return;
        }
        leg.spool = LegSpoolState::Open { started_at: None };
        sink.open(leg.id, &leg.name);
        let begin = Decision::Begin {
            format: FORMAT,
            leg: leg.name.clone(),
            conversation: call.id.clone(),
            appliance: self.settings.config.appliance.clone(),
            source: self.settings.source.clone(),
            first_requester: leg.dialog.first_requester(),
            transport: leg.dialog.transport,
            wall_offset_ns: call.wall_offset_ns,
            by: leg.join.by(),
        };
        sink.decide(leg.id, leg.created_at, &begin);
        let wall_offset_ns = self.clock.wall_offset_ns;
        if wall_offset_ns != call.wall_offset_ns {
            sink.decide(leg.id, leg.created_at, &Decision::Clock { wall_offset_ns });
        }
        self.store_with_new_spool(slot, sink);
        let Some(leg) = self.table.leg_mut(slot) else { return };
        for (index, stream) in leg.media.streams_mut().iter_mut().enumerate() {
            stream.forget_reported();
            let (src, dst, ssrc, side) = (stream.src, stream.dst, stream.ssrc, stream.side);
            let number = u32::try_from(index).unwrap_or(u32::MAX);
            let (line, origin) = (stream.line, stream.origin(number));
            let stream = number;
            sink.decide(leg.id, self.clock.now, &Decision::Stream { stream, src, dst, ssrc, side });
            origin.into_iter().for_each(|origin| sink.decide(leg.id, self.clock.now, &origin));
            if line > 0 {
                sink.decide(leg.id, self.clock.now, &Decision::FurtherLine { stream, line });
            }
        }
        if leg.has_media() {
            self.write_start(slot, sink);
        }
        self.apply_pause_to_new_leg(slot, self.clock.now, sink);
    }

    /// Deletes the spool file of a leg. If events have announced finished parts of the call's recording, emits the
    /// event that withdraws them.
    fn discard_spool(&mut self, slot: LegKey, sink: &mut dyn LegSink) {
        let Some((leg, call)) = self.table.leg_and_call_mut(slot) else { return };
        // The sketch is removed even if the leg has ended and its spool is closed. Otherwise the record would contain
        // voice prints of an excluded call.
        leg.media.forget_sketch();
        if !leg.spool.is_open() && leg.spool != LegSpoolState::Kept {
            return;
        }
        if leg.spool == LegSpoolState::Kept {
            self.kept.silent_legs = self.kept.silent_legs.saturating_sub(1);
        }
        leg.spool = LegSpoolState::Shut;
        sink.discard(leg.id, DiscardReason::Excluded);
        if leg.has_media() && call.recording.delete() {
            self.events.push_back(CallEvent::Withdrawn(call.id.clone()));
        }
    }
}
