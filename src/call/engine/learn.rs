//! Learning of the topology: the legs of ended calls show which IP addresses (hosts) belong to one machine.

use std::hash::BuildHasher;
use std::time::Duration;

use crate::call::call_state::CallNotes;
use crate::call::correlation_keys::{CLOCK_SKEW, END_WINDOW};
use crate::call::engine::Engine;
use crate::call::event::{CallEvent, LegSink};
use crate::call::keys::LegKey;
use crate::call::leg::Leg;
use crate::call::topology::{MachinePair, MachineTable, TopologyChange};
use crate::net::Endpoint;
use crate::time::Timestamp;

/// Evidence whether two hosts are one machine: the host that received a first leg, and the host that sent a second leg.
/// The first leg seems to have caused the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HostEvidence {
    /// Both legs began, were answered and ended at the same time. So both hosts are one machine.
    OneMachine,
    /// The first leg ended without an answer, and the second leg continued with media. So the legs belong to two calls,
    /// and the hosts are two machines.
    TwoMachines,
}

impl Engine {
    /// Adds what an earlier process has learnt: pairs of IP addresses that belong to one machine, e.g. one PBX. `now`
    /// is the wall-clock time. Must be called before the first packet.
    pub fn restore_topology(&mut self, facts: &[MachinePair], now: Timestamp) {
        let change = self.site.topology.restore(facts, now);
        self.apply_topology_change(change);
    }

    /// Returns all pairs of hosts that were learnt to be one machine.
    pub fn learnt_machines(&self) -> Vec<MachinePair> {
        self.site.topology.facts().cloned().collect()
    }

    /// Learns from the legs of an ended call which hosts are one machine. Does nothing while spools are read back after
    /// a restart, because the earlier process has learnt from these calls.
    pub(super) fn learn_machines(&mut self, legs: &[&Leg], notes: &CallNotes) {
        if self.earlier.restore.is_reading() {
            return;
        }
        let mut has_learnt = false;
        let parties = parties_hash(legs.iter().copied());
        for (cause, effect) in linked_legs(legs) {
            let hosts = (cause.dialog.callee_addr, effect.dialog.caller_addr);
            if self.site.plan.is_phone(hosts.0) || self.site.plan.is_phone(hosts.1) {
                continue;
            }
            let change = match host_evidence(cause, effect) {
                // The media content of this call has already proven that both hosts are one machine. So the call is not
                // counted a second time.
                Some(HostEvidence::OneMachine) if notes.has_shown((hosts.0.ip(), hosts.1.ip())) => continue,
                Some(HostEvidence::OneMachine) => self.site.topology.observe(hosts, parties, self.clock.now),
                Some(HostEvidence::TwoMachines) => self.site.topology.contradict(hosts, self.clock.now),
                None => continue,
            };
            has_learnt = true;
            self.apply_topology_change(change);
        }
        if has_learnt && self.clock.now.since(self.site.told_at) >= TELL_PAUSE {
            let change = self.site.topology.forget_old(self.clock.now);
            self.apply_topology_change(change);
            self.tell_learnt();
        }
    }

    /// Records that two hosts are one machine, because the same bytes of voice arrived at one host and left the other.
    pub(super) fn learn_proven_machine(
        &mut self,
        hosts: (Endpoint, Endpoint),
        [cause, effect]: [LegKey; 2],
        sink: &mut dyn LegSink,
    ) {
        let Some(cause) = self.table.leg(cause).map(Leg::call) else { return };
        let parties = parties_hash(self.table.legs_of(cause));
        let call = self.table.leg(effect).map(Leg::call);
        let is_phone = self.site.plan.is_phone(hosts.0) || self.site.plan.is_phone(hosts.1);
        let are_two = |call| self.table.legs_of(call).any(|leg| is_between(leg, hosts));
        if is_phone || hosts.0.same_host(hosts.1) || call.is_some_and(are_two) {
            return;
        }
        // After a restart the voices are compared again. A call that has already proven both hosts to be one machine is
        // not counted again.
        let notes = call.and_then(|call| self.table.call_mut(call)).map(|call| &mut call.notes);
        if !notes.is_some_and(|notes| notes.note_shown_machine((hosts.0.ip(), hosts.1.ip()))) {
            return;
        }
        call.into_iter().for_each(|call| self.store_call(call, sink));
        let change = self.site.topology.observe_content(hosts, parties, self.clock.now);
        self.apply_topology_change(change);
    }

    /// Learns the addresses of a PBX from a leg that numbers alone had joined to its call, and that is confirmed now.
    pub(super) fn learn_confirmed_pbx(&mut self, slot: LegKey) {
        let effects = self.correlator().caused_legs(slot);
        let effects: Vec<&Leg> = effects.iter().filter_map(|key| self.table.leg(*key)).collect();
        let causes = effects.first().map(|leg| self.table.legs_of(leg.call())).into_iter().flatten();
        let pairs = causes.flat_map(|cause| effects.iter().map(move |effect| (cause, *effect)));
        let pbx = pairs.filter(|(cause, effect)| is_passed_on(cause, effect));
        let hosts: Vec<Endpoint> =
            pbx.flat_map(|(cause, effect)| [cause.dialog.callee_addr, effect.dialog.caller_addr]).collect();
        hosts.into_iter().for_each(|host| self.site.plan.learn_pbx(host));
    }

    /// Forgets that a host is one of several addresses of a PBX or proxy. It has sent a REGISTER, so it is a telephone.
    pub(super) fn learn_phone(&mut self, host: Endpoint) {
        if self.site.plan.is_phone(host) {
            let change = self.site.topology.forget_host(host);
            self.apply_topology_change(change);
        }
    }

    /// Applies a change of the topology (which IP addresses belong to one machine) to the legs of live calls. So later
    /// legs match these legs even if the PBX uses another address. Moves no leg to another call.
    pub(super) fn apply_topology_change(&mut self, change: TopologyChange) {
        let TopologyChange::Machines(before) = change else { return };
        let slots: Vec<LegKey> = self.table.legs().map(|(slot, _)| slot).collect();
        for slot in slots {
            self.update_machine_hop(slot, &before);
        }
        self.tell_learnt();
    }

    fn update_machine_hop(&mut self, slot: LegKey, before: &MachineTable) {
        let Some(leg) = self.table.leg(slot) else { return };
        // The stored address of the machine may come from a correlation rule, which found it on another leg of the
        // call. Then it stays. If it came from the topology, it is replaced by the address that the topology gives now.
        let update = |own: Endpoint, host: Endpoint| {
            let host = if before.machine_of(own).same_host(host) { own } else { host };
            self.site.topology.machine_of(host)
        };
        let (sender, receiver) = leg.machines();
        let hop = (update(leg.dialog.caller_addr, sender), update(leg.dialog.callee_addr, receiver));
        if hop != leg.machines() {
            self.table.set_machines(slot, hop);
        }
    }

    /// Returns the machines that sent and received an INVITE. One address stands for all addresses of a machine, so
    /// that the machines of different legs can be compared.
    pub(super) fn machine_hop(&self, (sender, receiver): (Endpoint, Endpoint)) -> (Endpoint, Endpoint) {
        (self.site.topology.machine_of(sender), self.site.topology.machine_of(receiver))
    }

    fn tell_learnt(&mut self) {
        self.site.told_at = self.clock.now;
        self.events.push_back(CallEvent::Learnt(self.learnt_machines()));
    }
}

/// Returns pairs of legs: the first leg caused the second through a machine with two addresses, so the two have no host
/// in common.
fn linked_legs<'a>(legs: &[&'a Leg]) -> Vec<(&'a Leg, &'a Leg)> {
    let is_linked = |cause: &Leg, effect: &Leg| {
        cause.machines().1.same_host(effect.machines().0)
            && !cause.dialog.callee_addr.same_host(effect.dialog.caller_addr)
            && cause.created_at <= effect.created_at + CLOCK_SKEW
            && !legs.iter().any(|leg| is_between(leg, (cause.dialog.callee_addr, effect.dialog.caller_addr)))
    };
    let pairs = legs.iter().flat_map(|cause| legs.iter().map(move |effect| (*cause, *effect)));
    pairs.filter(|(cause, effect)| cause.id != effect.id && is_linked(cause, effect)).take(MAX_PAIRS_OF_CALL).collect()
}

/// Returns whether a machine received the leg `cause` from another machine and sent the leg `effect`.
fn is_passed_on(cause: &Leg, effect: &Leg) -> bool {
    let (sender, machine) = cause.machines();
    machine.same_host(effect.machines().0) && !sender.same_host(machine)
}

/// Returns whether a leg goes from one of the two hosts to the other. A machine calls no address of its own, so then
/// the hosts are two machines.
fn is_between(leg: &Leg, (a, b): (Endpoint, Endpoint)) -> bool {
    let (from, to) = leg.hop();
    (from.same_host(a) && to.same_host(b)) || (from.same_host(b) && to.same_host(a))
}

fn host_evidence(cause: &Leg, effect: &Leg) -> Option<HostEvidence> {
    let answers = |leg: &Leg| leg.dialog.answered.map(|(at, _)| at);
    let ends = |leg: &Leg| leg.dialog.ended().map(|(at, _)| at);
    let is_together = |a: Timestamp, b: Timestamp, within: Duration| a.distance(b) <= within;
    let (cause_end, effect_end) = (ends(cause)?, ends(effect)?);
    match (answers(cause), answers(effect)) {
        (None, Some(_)) if effect_end.since(cause_end) >= OUTLIVES && effect.has_media() => {
            Some(HostEvidence::TwoMachines)
        }
        _ if !is_together(cause.created_at, effect.created_at, INVITE_WINDOW) => None,
        (Some(a), Some(b)) => (is_together(a, b, ANSWER_WINDOW) && is_together(cause_end, effect_end, END_WINDOW))
            .then_some(HostEvidence::OneMachine),
        (None, None) => is_together(cause_end, effect_end, ANSWER_WINDOW).then_some(HostEvidence::OneMachine),
        _ => None,
    }
}

/// Returns a hash of the two numbers of a call's earliest leg. Calls with the same hash count only once as a proof that
/// two hosts are one machine.
pub(super) fn parties_hash<'l>(legs: impl Iterator<Item = &'l Leg>) -> u64 {
    let hasher = foldhash::fast::FixedState::with_seed(3);
    let first = legs.min_by_key(|leg| (leg.created_at, leg.id));
    hasher.hash_one(first.map(|leg| (&leg.parties.from, &leg.parties.to)))
}

/// Maximum time between the INVITEs of two legs for which the receiver of the first and the sender of the second may be
/// one machine.
const INVITE_WINDOW: Duration = Duration::from_millis(500);
/// Maximum time between the answers of two legs through one machine, because a machine passes an answer on at once. If
/// neither leg was answered, it is the maximum time between their ends.
const ANSWER_WINDOW: Duration = Duration::from_millis(200);
/// Minimum time for which the second of two legs must outlive the first to show that they belong to different calls. A
/// machine ends its second leg at once when the first ends.
const OUTLIVES: Duration = Duration::from_secs(2);
/// Maximum number of pairs of legs that are examined in one call.
const MAX_PAIRS_OF_CALL: usize = 64;
/// Minimum time between two events about learnt machines, if only counts of calls have changed. Otherwise each call
/// would cause an event.
const TELL_PAUSE: Duration = Duration::from_secs(60);
