//! The table of legs and calls, and all indexes of both. Only this module changes the table and the indexes.
//!
//! Invariants, which [`CallTable::check`] asserts in tests:
//! - Each leg belongs to exactly one call. The legs of a call are sorted by (time, id).
//! - After each input, each call has at least one leg.
//! - An open leg is in all indexes, under its current keys. A closed leg is in no index.
//! - A flow is routed only to an open leg that lists the flow.
//! - The number of streams is the sum over all legs.
//! - Each stored REFER belongs to a live call.

mod check;
pub(in crate::call) mod links;
mod media;

use std::collections::{HashMap, VecDeque};

use links::LegLinks;
use slotmap::SlotMap;

use crate::call::conversation::Conversation;
use crate::call::correlation_keys::{CorrelationIndex, CorrelationKeys, Referral};
use crate::call::correlation_rule::CorrelationRule;
use crate::call::event::LegId;
use crate::call::keys::{CallKey, LegKey};
use crate::call::leg::{Leg, LegDraft};
use crate::call::media_index::{FlowRoute, MediaIndex};
use crate::call::record::RelationRecord;
use crate::net::{Endpoint, Flow};

/// The table of all legs and calls, with all indexes of both.
#[derive(Debug, Default)]
pub(crate) struct CallTable {
    /// All legs by key. A slot map never shrinks, so each leg has its own allocation. So the memory of legs becomes
    /// free again after a flood of INVITEs.
    legs: SlotMap<LegKey, Box<Leg>>,
    calls: SlotMap<CallKey, Box<Conversation>>,
    leg_ids: LegIds,
    by_id: HashMap<String, CallKey, foldhash::fast::RandomState>,
    by_call_id: HashMap<String, Vec<LegKey>, foldhash::fast::RandomState>,
    correlation: CorrelationIndex,
    media: MediaIndex,
    flows: HashMap<Flow, FlowRoute, foldhash::fast::RandomState>,
    referrals: VecDeque<Referral>,
    /// Open legs without a response, oldest first. If the table is full, the oldest of these legs is removed. A leg
    /// that has got a response is skipped.
    unanswered: VecDeque<LegKey>,
    /// Ambiguous legs that stopped ringing within the last seconds: each could belong to several calls.
    unresolved: Vec<LegKey>,
    /// Total number of RTP streams of all legs.
    streams: usize,
}

/// The ids of the legs: the number of the next id, and the key of each leg in the table.
#[derive(Debug, Default)]
struct LegIds {
    next: u64,
    keys: HashMap<LegId, LegKey, foldhash::fast::FixedState>,
}

impl LegIds {
    /// Returns an id that no leg had before.
    const fn take_next(&mut self) -> LegId {
        self.next += 1;
        LegId(self.next - 1)
    }
}

/// Methods that only read the call table.
impl CallTable {
    /// Returns the leg with a key; `None` if it was removed.
    pub(crate) fn leg(&self, leg: LegKey) -> Option<&Leg> {
        self.legs.get(leg).map(AsRef::as_ref)
    }

    /// Returns the leg with an id; `None` if it was removed.
    pub(crate) fn leg_by_id(&self, id: LegId) -> Option<&Leg> {
        self.leg(*self.leg_ids.keys.get(&id)?)
    }

    /// Returns the call with a key; `None` if it was removed.
    pub(crate) fn call(&self, call: CallKey) -> Option<&Conversation> {
        self.calls.get(call).map(AsRef::as_ref)
    }

    /// Returns the key of the call with this id; `None` if the table has no such call.
    pub(crate) fn call_by_id(&self, id: &str) -> Option<CallKey> {
        self.by_id.get(id).copied()
    }

    /// Returns all legs with their keys.
    pub(crate) fn legs(&self) -> impl Iterator<Item = (LegKey, &Leg)> {
        self.legs.iter().map(|(key, leg)| (key, leg.as_ref()))
    }

    /// Returns all calls with their keys.
    pub(crate) fn calls(&self) -> impl Iterator<Item = (CallKey, &Conversation)> {
        self.calls.iter().map(|(key, call)| (key, call.as_ref()))
    }

    /// Returns the keys of the legs of a call, oldest leg first.
    pub(crate) fn keys_of(&self, call: CallKey) -> &[LegKey] {
        self.calls.get(call).map_or(&[], |call| call.links.legs())
    }

    /// Returns the legs of a call, oldest leg first.
    pub(crate) fn legs_of(&self, call: CallKey) -> impl Iterator<Item = &Leg> {
        self.keys_of(call).iter().filter_map(|leg| self.leg(*leg))
    }

    /// Returns the legs of a call that may have a party ([`Leg::may_have_party`]), oldest leg first.
    pub(crate) fn party_legs_of(&self, call: CallKey) -> impl Iterator<Item = &Leg> {
        self.legs_of(call).filter(|leg| leg.may_have_party())
    }

    /// Returns whether a call has exactly one leg and never had others. Recording sessions (SIPREC) beside a leg do not
    /// count, because they only carry the sound of this leg.
    pub(crate) fn is_lone(&self, call: CallKey) -> bool {
        let has_one_leg = || {
            let mut legs = self.legs_of(call).filter(|leg| !leg.is_recording_session());
            self.keys_of(call).len() == 1 || legs.next().is_some() && legs.next().is_none()
        };
        self.calls.get(call).is_some_and(|call| !call.notes.had_other_legs() && has_one_leg())
    }

    /// Returns the open legs with a Call-ID, in the order in which they were captured.
    pub(crate) fn with_call_id(&self, call_id: &str) -> &[LegKey] {
        self.by_call_id.get(call_id).map_or(&[], Vec::as_slice)
    }

    /// Returns the index that finds open legs by headers, hosts and numbers.
    pub(crate) const fn correlation(&self) -> &CorrelationIndex {
        &self.correlation
    }

    /// Returns the index that finds open legs by their media addresses.
    pub(crate) const fn media(&self) -> &MediaIndex {
        &self.media
    }

    /// Returns the leg and the stream to which packets of a flow belong; `None` if the flow has no route yet.
    pub(crate) fn route(&self, flow: Flow) -> Option<FlowRoute> {
        self.flows.get(&flow).copied()
    }

    /// Returns the stored REFERs, oldest first. Each may still cause an INVITE.
    pub(crate) const fn referrals(&self) -> &VecDeque<Referral> {
        &self.referrals
    }

    /// Returns the ambiguous legs that stopped ringing within the last seconds. Each could belong to several calls.
    pub(crate) fn unresolved(&self) -> &[LegKey] {
        &self.unresolved
    }

    /// Returns the number of legs in the table.
    pub(crate) fn leg_count(&self) -> usize {
        self.legs.len()
    }

    /// Returns the number of calls in the table.
    pub(crate) fn call_count(&self) -> usize {
        self.calls.len()
    }

    /// Returns the total number of RTP streams of all legs.
    pub(crate) const fn stream_count(&self) -> usize {
        self.streams
    }

    /// Returns the number of different Call-IDs of open legs.
    pub(crate) fn call_id_count(&self) -> usize {
        self.by_call_id.len()
    }

    /// Returns the number of flows that have a route to a leg.
    pub(crate) fn flow_count(&self) -> usize {
        self.flows.len()
    }

    /// Returns the length of the queue of legs without a response. If the table is full, the oldest of these legs is
    /// removed.
    pub(crate) fn unanswered_count(&self) -> usize {
        self.unanswered.len()
    }
}

/// Methods that change legs and calls but none of the indexes.
impl CallTable {
    /// Returns a mutable leg, for changes of its dialog and media; `None` if it was removed.
    pub(crate) fn leg_mut(&mut self, leg: LegKey) -> Option<&mut Leg> {
        self.legs.get_mut(leg).map(AsMut::as_mut)
    }

    /// Returns a mutable call, for changes of its state; `None` if it was removed.
    pub(crate) fn call_mut(&mut self, call: CallKey) -> Option<&mut Conversation> {
        self.calls.get_mut(call).map(AsMut::as_mut)
    }

    /// Returns a mutable leg and its mutable call; `None` if the leg was removed.
    pub(crate) fn leg_and_call_mut(&mut self, leg: LegKey) -> Option<(&mut Leg, &mut Conversation)> {
        let leg = self.legs.get_mut(leg)?;
        let call = self.calls.get_mut(leg.call())?;
        Some((leg, call))
    }

    /// Returns all calls, mutable, with their keys.
    pub(crate) fn calls_mut(&mut self) -> impl Iterator<Item = (CallKey, &mut Conversation)> {
        self.calls.iter_mut().map(|(key, call)| (key, call.as_mut()))
    }
}

/// Methods that add, move and remove legs and calls.
impl CallTable {
    /// Adds a call without legs. The code that calls this function must then add the first leg of the call.
    pub(crate) fn insert_call(&mut self, call: Conversation) -> CallKey {
        let id = call.id.clone();
        let key = self.calls.insert(Box::new(call));
        self.by_id.insert(id, key);
        key
    }

    /// Adds a leg to a call, and to the indexes by Call-ID, headers and numbers.
    pub(crate) fn insert_leg(&mut self, call: CallKey, name: String, draft: LegDraft) -> LegKey {
        let id = self.leg_ids.take_next();
        let call_id = draft.dialog.call_id().to_owned();
        let links = LegLinks::new(call, draft.machine_hop);
        let key = self.legs.insert(Box::new(Leg::new(id, name, links, draft)));
        self.leg_ids.keys.insert(id, key);
        self.index_signalling(key);
        self.by_call_id.entry(call_id).or_default().push(key);
        self.enter(key, call);
        key
    }

    /// Moves a leg from its call to another call.
    pub(crate) fn move_leg(&mut self, leg: LegKey, into: CallKey) {
        let Some(from) = self.leg(leg).map(Leg::call).filter(|_| self.calls.contains_key(into)) else { return };
        if let Some(call) = self.calls.get_mut(from) {
            call.links.legs.retain(|other| *other != leg);
        }
        self.enter(leg, into);
    }

    /// Moves all legs, REFERs and relations of the call `from` to the call `into`. Removes the call `from` and returns
    /// it.
    pub(crate) fn merge(&mut self, from: CallKey, into: CallKey) -> Option<Conversation> {
        let id = self.calls.get(into)?.id.clone();
        let mut old = self.calls.remove(from)?;
        self.forget_id(&old.id, from);
        for referral in self.referrals.iter_mut().filter(|r| r.conversation == from) {
            referral.conversation = into;
        }
        for leg in old.links.legs.clone() {
            self.enter(leg, into);
        }
        let call = self.calls.get_mut(into)?;
        for relation in std::mem::take(&mut old.relations) {
            call.add_relation(relation);
        }
        call.relations.retain(|relation| relation.id != old.id);
        // No record will have the id of the removed call. So relations to it are changed to the remaining call.
        let names_old = |relation: &RelationRecord| relation.id == old.id;
        for (_, other) in self.calls.iter_mut().filter(|(_, other)| other.relations.iter().any(names_old)) {
            for relation in std::mem::take(&mut other.relations) {
                let id = if relation.id == old.id { id.clone() } else { relation.id };
                other.add_relation(RelationRecord { id, ..relation });
            }
        }
        Some(*old)
    }

    /// Removes the relation between two calls from both.
    pub(crate) fn forget_relation(&mut self, a: CallKey, b: CallKey) {
        let ids = [a, b].map(|call| self.calls.get(call).map(|call| call.id.clone()));
        for key in [a, b] {
            if let Some(call) = self.calls.get_mut(key) {
                call.relations.retain(|relation| !ids.iter().flatten().any(|id| *id == relation.id));
            }
        }
    }

    /// Removes the relations that the rule `ambiguous` made between a call and other calls, from both calls of each
    /// relation. These relations are no longer true: it is known now to which call the leg belongs.
    pub(crate) fn forget_ambiguity(&mut self, call: CallKey) {
        let Some(id) = self.calls.get(call).map(|call| call.id.clone()) else { return };
        let is_ambiguous = |relation: &RelationRecord| relation.why == CorrelationRule::Ambiguous;
        for (key, other) in &mut self.calls {
            other.relations.retain(|relation| !is_ambiguous(relation) || key != call && relation.id != id);
        }
    }

    /// Removes a leg from all indexes. The leg stays in the table and in its call.
    pub(crate) fn unindex_leg(&mut self, leg: LegKey) {
        self.forget_unresolved(leg);
        self.unroute(leg);
        self.remove_media(leg);
        let Some(found) = self.legs.get_mut(leg) else { return };
        self.correlation.remove(leg, &std::mem::take(&mut found.links.index_keys));
        if let Some(legs) = self.by_call_id.get_mut(found.dialog.call_id()) {
            legs.retain(|other| *other != leg);
            if legs.is_empty() {
                self.by_call_id.remove(found.dialog.call_id());
            }
        }
    }

    /// Removes a leg from the table. The leg must have been removed from all indexes.
    pub(crate) fn remove_leg(&mut self, leg: LegKey) -> Option<Leg> {
        let removed = self.legs.remove(leg)?;
        self.leg_ids.keys.remove(&removed.id);
        self.streams -= removed.media.streams().len();
        if let Some(call) = self.calls.get_mut(removed.call()) {
            call.links.legs.retain(|other| *other != leg);
        }
        Some(*removed)
    }

    /// Removes a call with its legs and REFERs from the table. The legs must have been removed from all indexes.
    pub(crate) fn remove_call(&mut self, call: CallKey) -> Option<(Conversation, Vec<Leg>)> {
        let removed = self.calls.remove(call)?;
        self.forget_id(&removed.id, call);
        self.referrals.retain(|r| r.conversation != call);
        let legs = removed.links.legs.iter().filter_map(|leg| self.remove_leg(*leg)).collect();
        Some((*removed, legs))
    }

    fn forget_id(&mut self, id: &str, call: CallKey) {
        if self.by_id.get(id) == Some(&call) {
            self.by_id.remove(id);
        }
    }

    /// Inserts a leg into the list of its call's legs at the position given by its capture time.
    fn enter(&mut self, leg: LegKey, call: CallKey) {
        let (Some(found), Some(call_found)) = (self.legs.get_mut(leg), self.calls.get_mut(call)) else { return };
        found.links.call = call;
        let own = (found.created_at, found.id);
        let legs = &self.legs;
        let order = |leg: &LegKey| legs.get(*leg).map(|leg| (leg.created_at, leg.id));
        let position = call_found.links.legs.partition_point(|other| order(other) < Some(own));
        call_found.links.legs.insert(position, leg);
    }
}

/// Methods that change the indexes of signalling.
impl CallTable {
    /// Sets the sending and the receiving machine of an open leg. In both endpoints, one address stands for all
    /// addresses of a machine ([`LegLinks::machines`]).
    pub(crate) fn set_machines(&mut self, leg: LegKey, machines: (Endpoint, Endpoint)) {
        if let Some(found) = self.legs.get_mut(leg) {
            found.links.machines = machines;
            self.reindex_signalling(leg);
        }
    }

    /// Replaces the headers by which correlation finds a leg, and updates the index if the leg is open.
    pub(crate) fn set_correlation_keys(&mut self, leg: LegKey, keys: CorrelationKeys) {
        if let Some(found) = self.legs.get_mut(leg) {
            found.correlation_keys = keys;
            self.reindex_signalling(leg);
        }
    }

    fn reindex_signalling(&mut self, leg: LegKey) {
        let Some(found) = self.legs.get_mut(leg) else { return };
        let old_keys = std::mem::take(&mut found.links.index_keys);
        // A leg without index keys was closed before. It is not added to the index again.
        if !old_keys.is_empty() {
            self.correlation.remove(leg, &old_keys);
            self.index_signalling(leg);
        }
    }

    fn index_signalling(&mut self, leg: LegKey) {
        let Some(found) = self.legs.get_mut(leg) else { return };
        let index_keys = self.correlation.add(leg, &found.correlation_keys, &found.signature());
        found.links.index_keys = index_keys;
    }

    /// Stores a REFER. If there are more than `limit`, the oldest REFER is removed.
    pub(crate) fn add_referral(&mut self, referral: Referral, limit: usize) {
        while self.referrals.len() >= limit {
            self.referrals.pop_front();
        }
        self.referrals.push_back(referral);
    }

    /// Returns the newest REFER, mutable, for which `fits` returns true.
    pub(crate) fn referral_mut(&mut self, fits: impl Fn(&Referral) -> bool) -> Option<&mut Referral> {
        self.referrals.iter_mut().rev().find(|referral| fits(referral))
    }

    /// Adds a leg to the list of ambiguous legs (each could belong to several calls) that have stopped ringing.
    pub(crate) fn note_unresolved(&mut self, leg: LegKey) {
        self.unresolved.push(leg);
    }

    /// Removes a leg from the list of ambiguous legs (each could belong to several calls) that have stopped ringing.
    pub(crate) fn forget_unresolved(&mut self, leg: LegKey) {
        self.unresolved.retain(|unresolved| *unresolved != leg);
    }

    /// Adds a new leg to the queue of legs without a response. If the queue is longer than `limit`, removes the legs
    /// that have got a response.
    pub(crate) fn queue_unanswered(&mut self, leg: LegKey, limit: usize) {
        let legs = &self.legs;
        let waits = |leg: &LegKey| legs.get(*leg).is_some_and(|leg| leg.is_unanswered_call());
        while self.unanswered.front().is_some_and(|leg| !waits(leg)) {
            self.unanswered.pop_front();
        }
        if self.unanswered.len() >= limit {
            self.unanswered.retain(waits);
        }
        self.unanswered.push_back(leg);
    }

    /// Removes and returns the oldest open leg without a response; `None` if there is none.
    pub(crate) fn pop_unanswered(&mut self) -> Option<LegKey> {
        let legs = &self.legs;
        let is_evictable =
            |leg: &LegKey| legs.get(*leg).is_some_and(|leg| !leg.is_closed() && leg.is_unanswered_call());
        let position = self.unanswered.iter().position(is_evictable);
        self.unanswered.drain(..position.unwrap_or(self.unanswered.len()));
        self.unanswered.pop_front()
    }
}
