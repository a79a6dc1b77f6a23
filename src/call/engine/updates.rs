//! Updates of live calls: emits events about what has changed.

use std::time::Duration;

use crate::call::config::RegistrationMoment;
use crate::call::conversation::LiveSnapshot;
use crate::call::correlation_rule::CorrelationRule;
use crate::call::engine::Engine;
use crate::call::event::{CallEvent, LegSink, LiveCall};
use crate::call::keys::CallKey;
use crate::call::leg::Leg;
use crate::call::record::{CallRecord, RelationRecord};
use crate::call::timers::EngineTimer;

impl Engine {
    /// Announces a call by an event, when the timer is due: 500 ms after the call was created. Until then, the call
    /// gathers its legs.
    pub(super) fn handle_settle_timer(&mut self, conversation: CallKey, sink: &mut dyn LegSink) {
        if let Some(call) = self.table.call_mut(conversation) {
            call.stage.settle();
        }
        self.emit_update(conversation, sink);
    }

    /// Emits [`CallEvent::Changed`] if a live call has changed since the last event. Emits nothing while spools are
    /// read back after a restart, because the earlier process has emitted these events.
    pub(super) fn emit_update(&mut self, conversation: CallKey, sink: &mut dyn LegSink) {
        if self.earlier.restore.is_reading() {
            return;
        }
        if self.is_scan_suspect(conversation) || !self.table.call(conversation).is_some_and(|c| c.stage.is_settled()) {
            return;
        }
        let Some(record) = self.record_of(conversation) else { return };
        if self.waits_for_content(conversation, &record) {
            return;
        }
        let snapshot = LiveSnapshot::from(&record);
        let Some(call) = self.table.call_mut(conversation) else { return };
        let was_announced = call.stage.is_announced();
        if record.ended_at.is_none() && call.stage.announce(snapshot) {
            let is_committed = self.settings.config.registered_at.has_come(&record) && call.recording.commit();
            let registration = call.recording.policy().registration();
            if is_committed || !was_announced {
                self.store_call(conversation, sink);
            }
            self.events.push_back(CallEvent::Changed(Box::new(LiveCall { record, registration })));
        }
    }

    /// Returns whether the announcement of a call must wait, because it may soon be found to belong to another call.
    ///
    /// There are two cases. In the first, the call stems from one dialog and names no extension, and the content of its
    /// media is being compared. In the second, the call is an ambiguous leg: a telephone that rings for one of several
    /// other calls. The other calls are announced without this wait.
    ///
    /// If no other call is live, one may still begin: a dialler calls the customer first, and then the agent. So the
    /// call waits if delivery may register it now.
    fn waits_for_content(&mut self, conversation: CallKey, record: &CallRecord) -> bool {
        let Some(call) = self.table.call(conversation) else { return false };
        let Some(leg) = call.legs().first().and_then(|slot| self.table.leg(*slot)) else { return false };
        let is_committed = call.recording.is_committed() || call.origin.earlier_record().is_some();
        let is_alone = self.table.call_count() < 2 && !self.settings.config.registered_at.has_come(record);
        if is_committed || leg.dialog.ended().is_some() || is_alone {
            return false;
        }
        let is_ambiguous = self.is_separate_ambiguous(conversation);
        // A 2xx passes the legs of a dialog one after the other, e.g. behind and before a proxy. So the earliest 2xx
        // counts as the answer of the call.
        let answers = self.table.legs_of(conversation).filter_map(|leg| leg.dialog.answered);
        let Some((answered, _)) = answers.min_by_key(|(at, _)| *at) else { return is_ambiguous };
        let until = answered + COMMIT_WAIT;
        let is_encrypted = leg.media.streams().iter().any(|s| !leg.dialog.negotiation.security(s.sender).is_plain());
        let may_be_matched =
            || !is_encrypted && !self.names_extension(conversation) && self.correlator().has_one_root(conversation);
        if self.clock.now >= until || !is_ambiguous && !may_be_matched() {
            return false;
        }
        self.timers.arm(EngineTimer::Commit(conversation), until);
        true
    }

    /// Returns whether a call stems from one dialog that could belong to several other live calls.
    fn is_separate_ambiguous(&self, conversation: CallKey) -> bool {
        let Some(call) = self.table.call(conversation) else { return false };
        let is_live = |relation: &RelationRecord| self.table.call_by_id(&relation.id).is_some();
        self.settings.config.registered_at != RegistrationMoment::Invite
            && call.relations.iter().any(|relation| relation.why == CorrelationRule::Ambiguous && is_live(relation))
            && call.closed_to_heuristics
            && self.correlator().has_one_root(conversation)
    }

    /// Returns whether a leg of the call names an extension.
    fn names_extension(&self, conversation: CallKey) -> bool {
        let plan = &self.site.plan;
        let names = |leg: &Leg| {
            plan.names_extension(leg.parties.direction(plan).1) || plan.names_extension(leg.parties.request_user())
        };
        self.table.legs_of(conversation).any(names)
    }
}

/// Maximum time after the answer for which a call is not announced, because equal media content may still join it to
/// another call. Eight equal pieces of voice in each direction take about a second.
const COMMIT_WAIT: Duration = Duration::from_millis(2_500);
