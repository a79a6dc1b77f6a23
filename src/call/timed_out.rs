//! Dialogs that ended by a media timeout, without a BYE. They continue if their media comes back.
//!
//! After a timeout it is not known whether the BYE was lost or both people are silent. So the call ends and is
//! delivered. Its dialogs are stored for the longest time of a hold (`calls.hold_s`). If media comes back to their
//! addresses, or a new offer is captured, the call continues as a new call.

use std::collections::{HashMap, VecDeque};

use crate::call::leg::LegDraft;
use crate::net::{Endpoint, Flow};
use crate::time::Timestamp;

/// A dialog that ended by a media timeout, and all that is needed to continue it.
#[derive(Clone, Debug)]
pub(crate) struct TimedOutDialog {
    /// Signalling state, parties and headers of the leg that ended.
    pub(crate) draft: LegDraft,
    /// Id of the call to which the leg of this dialog belonged before the timeout.
    pub(crate) conversation_id: String,
    /// Whether the recording was paused. Then the continued call begins paused.
    pub(crate) paused: bool,
    /// Media addresses that both sides announced.
    pub(crate) endpoints: Vec<Endpoint>,
    /// Flows (source, destination) of the leg's media.
    pub(crate) flows: Vec<Flow>,
    /// Capture time until which the dialog is stored.
    pub(crate) until: Timestamp,
}

/// The stored dialogs that ended by a media timeout, at most `MAX_TIMED_OUT`.
#[derive(Debug, Default)]
pub(crate) struct TimedOutDialogs {
    dialogs: HashMap<u64, (TimedOutDialog, ReturningMedia), foldhash::fast::RandomState>,
    by_endpoint: HashMap<Endpoint, u64, foldhash::fast::RandomState>,
    /// Keys of `dialogs`, oldest first. Some dialogs may already be removed.
    order: VecDeque<u64>,
    next: u64,
}

/// The packets that have arrived at the addresses of a dialog since its media timeout.
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
    /// When enough packets have come back to a dialog, removes and returns the dialog. Also returns the capture time of
    /// the first of these packets.
    pub(crate) fn handle_packet(&mut self, flow: Flow, at: Timestamp) -> Option<(TimedOutDialog, Timestamp)> {
        if self.dialogs.is_empty() {
            return None;
        }
        let id = *self.by_endpoint.get(&flow.dst).or_else(|| self.by_endpoint.get(&flow.src))?;
        let (dialog, media) = self.dialogs.get_mut(&id)?;
        let announced = |end: &Endpoint| dialog.endpoints.contains(end);
        if dialog.until < at {
            self.remove(id);
            return None;
        }
        if !(dialog.flows.contains(&flow) || announced(&flow.src) && announced(&flow.dst)) {
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

    /// Removes and returns the dialog with a Call-ID. The dialog may be stored several times, e.g. before and behind a
    /// proxy. Then the one between the two hosts `hop` is preferred.
    pub(crate) fn take_by_message(&mut self, call_id: &str, hop: (Endpoint, Endpoint)) -> Option<TimedOutDialog> {
        let of_call = || self.order.iter().filter(|id| self.has_call_id(**id, call_id)).copied();
        let at_hop = of_call().find(|id| self.dialogs.get(id).is_some_and(|(d, _)| is_hop(&d.draft, hop)));
        let id = at_hop.or_else(|| of_call().next())?;
        self.remove(id)
    }

    /// Removes all dialogs with a Call-ID, after a BYE. Returns whether there were any.
    pub(crate) fn remove_by_call_id(&mut self, call_id: &str) -> bool {
        let known: Vec<u64> = self.order.iter().filter(|id| self.has_call_id(**id, call_id)).copied().collect();
        known.iter().filter_map(|id| self.remove(*id)).count() > 0
    }

    /// Removes the timed-out dialog that used this media address, because a session description of another call now
    /// announces the address.
    pub(crate) fn release_address(&mut self, endpoint: Endpoint) {
        if let Some(id) = self.by_endpoint.get(&endpoint).copied() {
            self.remove(id);
        }
    }

    /// Returns the number of stored dialogs that ended by a media timeout.
    pub(crate) fn len(&self) -> usize {
        self.dialogs.len()
    }

    /// Returns whether no dialog that ended by a media timeout is stored.
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

/// Maximum number of dialogs that are stored, about 4 KiB each. A dialog is stored only after a lost BYE or minutes
/// without media, and both are rare.
const MAX_TIMED_OUT: usize = 512;
/// Number of packets that must arrive for a timed-out dialog before its call continues: 200 ms of voice.
const RETURN_PACKETS: u32 = 10;
/// Maximum time between two packets that arrive for a timed-out dialog. After a longer pause, the packets are counted
/// anew.
const MAX_PACKET_GAP: std::time::Duration = std::time::Duration::from_secs(1);
