//! Batches of call events. All events that wait in the channel are stored in one transaction of the journal.
//!
//! Each commit waits for the disk. During a flood of calls hundreds of events wait. With a commit for each event, the
//! flood would delay calls in which people talk. So all waiting events are stored together, and calls with sound come
//! first. If a call has several events, only the newest is stored, because its record contains everything from the
//! earlier events.

use crossbeam_channel::Receiver;

use crate::call::event::{CallEvent, EndedCall, LiveCall};

/// A new state of a call that is to be stored in the journal.
pub(super) enum CallState {
    Live(Box<LiveCall>),
    Ended(Box<EndedCall>),
}

/// Call events that are handled together, to save commits of the journal.
pub(super) struct EventBatch {
    /// New states of calls, at most one for each call; calls with sound first.
    pub(super) states: Vec<CallState>,
    /// The event that ended the batch; `None` if there was no such event. It must be handled by itself, after `states`.
    pub(super) last: Option<CallEvent>,
}

impl CallState {
    pub(super) fn id(&self) -> &str {
        match self {
            Self::Live(call) => &call.record.id,
            Self::Ended(call) => &call.record.id,
        }
    }

    fn has_sound(&self) -> bool {
        match self {
            Self::Live(call) => call.record.answered_at.is_some(),
            Self::Ended(call) => call.has_sound(),
        }
    }
}

impl EventBatch {
    /// Collects the event `first` and the events that wait in the channel into a batch.
    pub(super) fn collect(first: CallEvent, events: &Receiver<CallEvent>) -> Self {
        let mut batch = Self { states: Vec::new(), last: None };
        let mut next = Some(first);
        while let Some(event) = next {
            let state = match event {
                CallEvent::Changed(call) => CallState::Live(call),
                CallEvent::Ended(call) => CallState::Ended(call),
                CallEvent::SegmentsDue(_) | CallEvent::Withdrawn(_) | CallEvent::Absorbed(_) | CallEvent::Learnt(_) => {
                    batch.last = Some(event);
                    break;
                }
            };
            batch.add(state);
            next = if batch.states.len() < MAX_BATCH { events.try_recv().ok() } else { None };
        }
        batch.states.sort_by_key(|state| !state.has_sound());
        batch
    }

    fn add(&mut self, state: CallState) {
        let is_older = |known: &&mut CallState| matches!(known, CallState::Live(_)) && known.id() == state.id();
        match self.states.iter_mut().find(is_older) {
            Some(known) => *known = state,
            None => self.states.push(state),
        }
    }
}

/// Maximum number of call states in a batch. The transaction that stores them takes some milliseconds.
const MAX_BATCH: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::event::RegistrationPolicy;
    use crate::call::record::CallRecord;
    use crate::time::Timestamp;

    fn record(id: &str, answered_s: Option<i64>) -> CallRecord {
        CallRecord { id: id.to_owned(), answered_at: answered_s.map(Timestamp::from_secs), ..CallRecord::default() }
    }

    fn changed(id: &str, answered_s: Option<i64>) -> CallEvent {
        let registration = RegistrationPolicy::Allowed;
        CallEvent::Changed(Box::new(LiveCall { record: record(id, answered_s), registration }))
    }

    fn ended(id: &str, answered_s: Option<i64>) -> CallEvent {
        let (legs, registration) = (Vec::new(), RegistrationPolicy::Allowed);
        CallEvent::Ended(Box::new(EndedCall { record: record(id, answered_s), legs, registration, wall_offset_ns: 0 }))
    }

    #[test]
    fn waiting_events_are_stored_together_and_answered_calls_first() {
        let (sender, events) = crossbeam_channel::unbounded();
        for event in [
            changed("scan-2", None),
            changed("talk", None),
            ended("scan-1", None),
            ended("talk", Some(1)),
            CallEvent::Withdrawn(String::from("talk")),
            changed("later", None),
        ] {
            sender.send(event).expect("open");
        }
        let batch = EventBatch::collect(changed("scan-1", None), &events);
        let states: Vec<_> = batch.states.iter().map(|s| (s.id(), matches!(s, CallState::Ended(_)))).collect();
        assert_eq!(states, [("talk", true), ("scan-1", true), ("scan-2", false)]);
        assert!(matches!(batch.last, Some(CallEvent::Withdrawn(_))), "it keeps its place");
        assert_eq!(events.len(), 1, "what comes after it waits");
    }

    #[test]
    fn batch_is_bounded() {
        let (sender, events) = crossbeam_channel::unbounded();
        (0..1_000).for_each(|n| sender.send(changed(&n.to_string(), None)).expect("open"));
        assert_eq!(EventBatch::collect(changed("x", None), &events).states.len(), MAX_BATCH);
        assert_eq!(events.len(), 1_000 - (MAX_BATCH - 1), "the others wait for the next batch");
    }
}
