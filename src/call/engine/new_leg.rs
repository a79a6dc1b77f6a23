//! Adds new legs to their call and to all indexes.

use crate::call::correlation_rule::CorrelationRule;
use crate::call::engine::{Engine, RestoredLeg};
use crate::call::event::LegSink;
use crate::call::id::leg_name;
use crate::call::keys::{CallKey, LegKey};
use crate::call::leg::{Leg, LegDraft};
use crate::call::numbers::TRUNK_PORTS;
use crate::call::timers::EngineTimer;
use crate::net::{Endpoint, Transport};

/// The reason for which a leg is in a call.
#[derive(Clone, Copy, Debug)]
pub(super) enum JoinReason<'a> {
    /// The leg is the first of a new call.
    First,
    /// This rule joined the leg to the call. The rule is not stored if the leg is the first of its call.
    Rule(CorrelationRule),
    /// The leg belonged to the call before a restart of the recorder.
    Restored(&'a RestoredLeg),
}

impl Engine {
    /// Adds a leg to a call and to all indexes.
    pub(super) fn add_leg(
        &mut self,
        conversation: CallKey,
        draft: LegDraft,
        reason: JoinReason<'_>,
        sink: &mut dyn LegSink,
    ) -> LegKey {
        let restored = if let JoinReason::Restored(restored) = reason { Some(restored) } else { None };
        self.counters.legs += 1;
        let at = draft.at;
        let hop = (draft.dialog.caller_addr, draft.dialog.callee_addr);
        let call_name = self.table.call(conversation).map_or("", |call| call.id.as_str());
        let new_name = || leg_name(call_name, draft.dialog.call_id(), hop, at);
        let name = restored.map_or_else(new_name, |restored| restored.name.clone());
        let slot = self.table.insert_leg(conversation, name, draft);
        if let Some(restored) = restored {
            self.index_restored_leg(slot, restored);
        }
        match reason {
            JoinReason::First => {}
            JoinReason::Rule(by) => self.note_joined(conversation, by, &[], sink),
            JoinReason::Restored(restored) => {
                if let Some(leg) = self.table.leg_mut(slot) {
                    leg.join.set(restored.joined_by);
                }
                self.apply_early_decisions(&restored.name, sink);
            }
        }
        self.learn_pbx(slot);
        self.note_attempt(slot);
        self.apply_rules(conversation, sink);
        self.table.queue_unanswered(slot, 2 * self.settings.limits.legs);
        self.timers.arm(EngineTimer::Leg(slot), at);
        self.apply_pause_to_new_leg(slot, at, sink);
        slot
    }

    /// Learns that the sender of this leg is a PBX, if it received another leg of the same call from another host.
    fn learn_pbx(&mut self, slot: LegKey) {
        let Some(leg) = self.table.leg(slot) else { return };
        if leg.join.is_provisional() {
            return;
        }
        let (own, Some(call)) = (leg.machines().0, self.table.call(leg.call())) else { return };
        let mut others = call.legs().iter().filter(|s| **s != slot).filter_map(|s| self.table.leg(*s));
        let caused = others.find(|o| o.machines().1.same_host(own) && !o.machines().0.same_host(own));
        let Some(caused) = caused else { return };
        let plan = &self.site.plan;
        let rings_extension = leg.may_have_party() && plan.names_extension(leg.parties.to.as_deref());
        let rings_for_outside = rings_extension && !plan.names_extension(caused.parties.from.as_deref());
        let is_by_program = rings_for_outside && is_sent_by_pbx(leg, caused);
        // A host that opens a TCP connection uses another port for each connection, so such a port shows no program.
        let has_own_port =
            |program: &Endpoint| leg.dialog.transport == Transport::Udp || TRUNK_PORTS.contains(&program.port());
        let program = Some(leg.dialog.caller_addr).filter(|_| is_by_program).filter(has_own_port);
        // The machine that received one leg and sent the other is a PBX. So each of its addresses counts as an address
        // of a PBX.
        for host in [own, leg.dialog.caller_addr, caused.dialog.callee_addr] {
            if rings_for_outside {
                self.site.plan.learn_visible_pbx(host);
            } else {
                self.site.plan.learn_pbx(host);
            }
        }
        program.into_iter().for_each(|program| self.site.plan.learn_visible_program(program));
    }
}

/// Returns whether the program that sent a leg is certainly a PBX. `caused` is the leg on which another host called it.
///
/// A proxy keeps the Call-ID. A softphone on the host of the PBX sends its legs to the PBX, unless it was asked to call
/// another party (REFER, Replaces).
fn is_sent_by_pbx(leg: &Leg, caused: &Leg) -> bool {
    let is_asked = leg.join.by() == Some(CorrelationRule::Refer) || leg.correlation_keys.replaces.is_some();
    !leg.is_branch_of(caused) && !leg.dialog.caller_addr.same_host(leg.dialog.callee_addr) && !is_asked
}
