//! Dialogs that ended by a media timeout, without a BYE, and whose media may come back.
//!
//! A call whose BYE was not captured looks the same as a call in which both people are silent. So the call ends at the
//! timeout and is delivered. The addresses of its dialogs are remembered for as long as a hold may last
//! (`calls.hold_s`). Media that comes back to these addresses, or a new offer in the dialog, continues the call as a
//! new one.

use std::collections::{HashMap, VecDeque};

use crate::call::leg::LegDraft;
use crate::net::Endpoint;
use crate::time::Timestamp;

/// A dialog that ended by a media timeout, with everything that is needed to continue it.
#[derive(Clone, Debug)]
pub(crate) struct TimedOutDialog {
    /// Signalling state, parties and correlation keys of the leg that ended.
    pub(crate) draft: LegDraft,
    /// Id of the call to which the leg belonged.
    pub(crate) conversation_id: String,
    /// Whether the recording was paused. If so, the continuation begins paused.
    pub(crate) paused: bool,
    /// Media addresses that both sides had announced.
    pub(crate) endpoints: Vec<Endpoint>,
    /// Flows (source, destination) on which the leg had received media.
    pub(crate) flows: Vec<(Endpoint, Endpoint)>,
    /// Capture time until which the dialog is remembered.
    pub(crate) until: Timestamp,
}

/// All dialogs that ended by a media timeout, at most `MAX_TIMED_OUT`.
#[derive(Debug, Default)]
pub(crate) struct TimedOutDialogs {
    dialogs: HashMap<u64, (TimedOutDialog, ReturningMedia), foldhash::fast::RandomState>,
    by_endpoint: HashMap<Endpoint, u64, foldhash::fast::RandomState>,
    /// Keys of `dialogs`, oldest first. It can contain keys of dialogs that were already removed.
    order: VecDeque<u64>,
    next: u64,
}

/// The packets that have come back to a dialog so far.
#[derive(Clone, Copy, Debug, Default)]
struct ReturningMedia {
    packets: u32,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
}

impl TimedOutDialogs {
    /// Adds a dialog. If the table is full, the oldest dialog is removed.
    pub(crate) fn add(&mut self, dialog: TimedOutDialog) {
        while self.dialogs.len() >= MAX_TIMED_OUT {
            let Some(oldest) = self.order.pop_front() else { break };
            self.remove(oldest);
        }
        self.order.retain(|id| self.dialogs.contains_key(id));
        let id = self.next;
        self.next += 1;
        for endpoint in &dialog.endpoints {
            self.by_endpoint.insert(*endpoint, id);
        }
        self.order.push_back(id);
        self.dialogs.insert(id, (dialog, ReturningMedia::default()));
    }

    /// Counts an RTP packet that belongs to no live call.
    ///
    /// Once enough packets came back to a dialog, removes the dialog and returns it with the time of the first of these
    /// packets.
    pub(crate) fn handle_packet(
        &mut self,
        flow: (Endpoint, Endpoint),
        at: Timestamp,
    ) -> Option<(TimedOutDialog, Timestamp)> {
        if self.dialogs.is_empty() {
            return None;
        }
        let id = *self.by_endpoint.get(&flow.1).or_else(|| self.by_endpoint.get(&flow.0))?;
        let (dialog, media) = self.dialogs.get_mut(&id)?;
        let announced = |end: &Endpoint| dialog.endpoints.contains(end);
        if dialog.until < at {
            self.remove(id);
            return None;
        }
        if !(dialog.flows.contains(&flow) || announced(&flow.0) && announced(&flow.1)) {
            return None;
        }
        if media.last.is_none_or(|last| at.since(last) > MAX_PACKET_GAP) {
            *media = ReturningMedia { packets: 0, first: Some(at), last: None };
        }
        media.packets += 1;
        media.last = Some(at);
        let first = media.first.filter(|_| media.packets >= RETURN_PACKETS)?;
        Some((self.remove(id)?, first))
    }

    /// Removes and returns the dialog with a Call-ID. If several hops of the dialog are remembered, prefers the hop
    /// between these two hosts.
    pub(crate) fn take_by_message(&mut self, call_id: &str, hop: (Endpoint, Endpoint)) -> Option<TimedOutDialog> {
        let of_call = || self.order.iter().filter(|id| self.has_call_id(**id, call_id)).copied();
        let at_hop = of_call().find(|id| self.dialogs.get(id).is_some_and(|(d, _)| is_hop(&d.draft, hop)));
        let id = at_hop.or_else(|| of_call().next())?;
        self.remove(id)
    }

    /// Removes all dialogs with a Call-ID after a BYE. Returns whether any dialog was removed.
    pub(crate) fn remove_by_call_id(&mut self, call_id: &str) -> bool {
        let known: Vec<u64> = self.order.iter().filter(|id| self.has_call_id(**id, call_id)).copied().collect();
        known.iter().filter_map(|id| self.remove(*id)).count() > 0
    }

    /// Removes the dialog that used an address, because another call announces the same address now.
    pub(crate) fn release_address(&mut self, endpoint: Endpoint) {
        if let Some(id) = self.by_endpoint.get(&endpoint).copied() {
            self.remove(id);
        }
    }

    /// Returns the number of remembered dialogs.
    pub(crate) fn len(&self) -> usize {
        self.dialogs.len()
    }

    /// Returns whether no dialog is remembered.
    pub(crate) fn is_empty(&self) -> bool {
        self.dialogs.is_empty()
    }

    fn has_call_id(&self, id: u64, call_id: &str) -> bool {
        self.dialogs.get(&id).is_some_and(|(d, _)| d.draft.dialog.call_id() == call_id)
    }

    fn remove(&mut self, id: u64) -> Option<TimedOutDialog> {
        let (dialog, _) = self.dialogs.remove(&id)?;
        for endpoint in &dialog.endpoints {
            if self.by_endpoint.get(endpoint) == Some(&id) {
                self.by_endpoint.remove(endpoint);
            }
        }
        Some(dialog)
    }
}

fn is_hop(draft: &LegDraft, (a, b): (Endpoint, Endpoint)) -> bool {
    let (x, y) = (draft.dialog.caller_addr, draft.dialog.callee_addr);
    (x.same_host(a) && y.same_host(b)) || (x.same_host(b) && y.same_host(a))
}

/// Maximum number of dialogs that are remembered. A dialog needs about 4 KiB; lost BYEs and people who are silent for
/// minutes are rare.
const MAX_TIMED_OUT: usize = 512;
/// Number of packets that must come back before a call continues: 200 ms of voice.
const RETURN_PACKETS: u32 = 10;
/// Maximum time between two of the packets that come back to a dialog.
const MAX_PACKET_GAP: std::time::Duration = std::time::Duration::from_secs(1);
