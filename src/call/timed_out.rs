//! Dialogs that ended because both sides were silent for too long, without a BYE: they may be heard again.
//!
//! Nobody can tell a lost BYE from two people who wait. So the call ends (it is delivered, it does not wait for hours),
//! and what its parties announced is remembered for as long as a hold may last: media that comes back there, or a message
//! of the dialog, begins its continuation.

use std::collections::{HashMap, VecDeque};

use crate::call::leg::Draft;
use crate::net::Endpoint;
use crate::time::Timestamp;

/// A dialog that fell silent.
#[derive(Clone, Debug)]
pub struct Sleeper {
    /// Its signalling, who speaks, what it can be joined by.
    pub draft: Draft,
    /// Id of the call that it was of.
    pub conversation: String,
    /// The call was paused: what comes must not be kept before somebody says so.
    pub paused: bool,
    /// Where its parties receive.
    pub endpoints: Vec<Endpoint>,
    /// Where its media came from and went to.
    pub flows: Vec<(Endpoint, Endpoint)>,
    /// How long it is remembered.
    pub until: Timestamp,
}

/// The dialogs that fell silent, at most `MAX_SLEEPERS`.
#[derive(Debug, Default)]
pub struct Dormant {
    sleepers: HashMap<u64, (Sleeper, Stirring), foldhash::fast::RandomState>,
    by_endpoint: HashMap<Endpoint, u64, foldhash::fast::RandomState>,
    /// Oldest first; some are gone already.
    order: VecDeque<u64>,
    next: u64,
}

/// Media that came back so far.
#[derive(Clone, Copy, Debug, Default)]
struct Stirring {
    packets: u32,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
}

impl Dormant {
    /// Remembers a dialog. The oldest gives way where there are too many.
    pub fn add(&mut self, sleeper: Sleeper) {
        while self.sleepers.len() >= MAX_SLEEPERS {
            let Some(oldest) = self.order.pop_front() else { break };
            self.remove(oldest);
        }
        self.order.retain(|id| self.sleepers.contains_key(id));
        let id = self.next;
        self.next += 1;
        for endpoint in &sleeper.endpoints {
            self.by_endpoint.insert(*endpoint, id);
        }
        self.order.push_back(id);
        self.sleepers.insert(id, (sleeper, Stirring::default()));
    }

    /// RTP of no live call. Gives the dialog that it is of, and since when it is heard again, once it is certain.
    pub fn handle_packet(&mut self, flow: (Endpoint, Endpoint), at: Timestamp) -> Option<(Sleeper, Timestamp)> {
        if self.sleepers.is_empty() {
            return None;
        }
        let id = *self.by_endpoint.get(&flow.1).or_else(|| self.by_endpoint.get(&flow.0))?;
        let (sleeper, stirring) = self.sleepers.get_mut(&id)?;
        let announced = |end: &Endpoint| sleeper.endpoints.contains(end);
        if sleeper.until < at {
            self.remove(id);
            return None;
        }
        if !(sleeper.flows.contains(&flow) || announced(&flow.0) && announced(&flow.1)) {
            return None;
        }
        if stirring.last.is_none_or(|last| at.since(last) > STEADY) {
            *stirring = Stirring { packets: 0, first: Some(at), last: None };
        }
        stirring.packets += 1;
        stirring.last = Some(at);
        let first = stirring.first.filter(|_| stirring.packets >= CERTAIN)?;
        Some((self.remove(id)?, first))
    }

    /// A message of a dialog (by its Call-ID, between these hosts) that is not known any more: gives the one that it is of.
    pub fn take(&mut self, call_id: &str, hop: (Endpoint, Endpoint)) -> Option<Sleeper> {
        let of_call = || self.order.iter().filter(|id| self.is_of(**id, call_id)).copied();
        let at_hop = of_call().find(|id| self.sleepers.get(id).is_some_and(|(s, _)| is_hop(&s.draft, hop)));
        let id = at_hop.or_else(|| of_call().next())?;
        self.remove(id)
    }

    /// A dialog was hung up. Says whether it was here.
    pub fn forget(&mut self, call_id: &str) -> bool {
        let known: Vec<u64> = self.order.iter().filter(|id| self.is_of(**id, call_id)).copied().collect();
        known.iter().filter_map(|id| self.remove(*id)).count() > 0
    }

    /// Another call announces an address: whoever had it before is not heard there any more.
    pub fn yield_address(&mut self, endpoint: Endpoint) {
        if let Some(id) = self.by_endpoint.get(&endpoint).copied() {
            self.remove(id);
        }
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.sleepers.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.sleepers.is_empty()
    }

    fn is_of(&self, id: u64, call_id: &str) -> bool {
        self.sleepers.get(&id).is_some_and(|(s, _)| s.draft.dialog.call_id == call_id)
    }

    fn remove(&mut self, id: u64) -> Option<Sleeper> {
        let (sleeper, _) = self.sleepers.remove(&id)?;
        for endpoint in &sleeper.endpoints {
            if self.by_endpoint.get(endpoint) == Some(&id) {
                self.by_endpoint.remove(endpoint);
            }
        }
        Some(sleeper)
    }
}

fn is_hop(draft: &Draft, (a, b): (Endpoint, Endpoint)) -> bool {
    let (x, y) = (draft.dialog.caller_addr, draft.dialog.callee_addr);
    (x.same_host(a) && y.same_host(b)) || (x.same_host(b) && y.same_host(a))
}

/// Dialogs that fell silent: each is some 4 KiB. BYEs are lost rarely, and people who are silent for minutes are few.
const MAX_SLEEPERS: usize = 512;
/// Packets that come back one after the other before they are taken for the call: 200 ms of voice.
const CERTAIN: u32 = 10;
/// The longest gap between them.
const STEADY: std::time::Duration = std::time::Duration::from_secs(1);
