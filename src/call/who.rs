//! The roles of a conversation's legs: which one is the anchor, who is outside, whose extension took the call.

use crate::call::event::LegId;
use crate::call::leg::Leg;
use crate::call::numbers::NumberPlan;
use crate::call::record::{CallRecord, Direction, Outcome};
use crate::time::Timestamp;

/// At which end of a leg a party of the conversation is; the other end is the PBX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The leg brings a caller in.
    Caller,
    /// The leg rings somebody.
    Callee,
}

/// What a conversation looks like from outside.
#[derive(Clone, Debug, PartialEq)]
pub struct Who<'a> {
    /// The anchor: the outside party's leg, or the caller's of an internal call.
    pub anchor: &'a Leg,
    /// The leg by which the call came in.
    pub first: &'a Leg,
    /// The leg of the extension that took the call, for calls that ring one.
    pub operator: Option<&'a Leg>,
    /// Extensions that were rung.
    rung: Vec<&'a Leg>,
    /// The PBX called both ends: the first leg rings the one who really calls.
    click_to_call: bool,
    outside_callee: bool,
    /// More were rung than there are legs left of.
    others_rung: bool,
}

impl PartialEq for Leg {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl<'a> Who<'a> {
    /// Looks at the legs of a conversation, oldest first. `None` if there are none.
    pub fn of(legs: &[&'a Leg], plan: &NumberPlan) -> Option<Self> {
        // Of several attempts by the caller (a redirection tried elsewhere), the one that was answered.
        let brings_in = legs.iter().filter(|l| end_of(l, legs) == End::Caller);
        let first = *brings_in.min_by_key(|l| l.dialog.answered.is_none()).or_else(|| legs.first())?;
        let click_to_call = legs.len() > 1
            && legs.iter().all(|l| end_of(l, legs) == End::Callee)
            && legs.iter().any(|l| l.shape().is_call_back(&first.shape()));
        let outside: Vec<&Leg> = legs.iter().copied().filter(|l| is_outside(l, legs, plan)).collect();
        let answered_first = |l: &&&Leg| (l.dialog.answered.is_none(), l.dialog.ended().is_some());
        let anchor =
            if legs.len() == 1 { first } else { outside.iter().min_by_key(answered_first).copied().unwrap_or(first) };
        let rung: Vec<&Leg> = legs
            .iter()
            .copied()
            .filter(|l| l.id != first.id || click_to_call)
            .filter(|l| end_of(l, legs) == End::Callee && is_extension(party(l, legs), plan))
            .collect();
        let operator = rung.iter().filter(|l| answered_at(l).is_some()).min_by_key(|l| answered_at(l)).copied();
        let outside_callee =
            legs.len() > 1 && legs.iter().any(|l| end_of(l, legs) == End::Callee && is_outside(l, legs, plan));
        Some(Self { anchor, first, operator, rung, click_to_call, outside_callee, others_rung: false })
    }

    /// More extensions were rung, and none of those took the call.
    pub const fn with_others_rung(mut self) -> Self {
        self.others_rung = true;
        self
    }

    const fn has_rung(&self) -> bool {
        self.others_rung || !self.rung.is_empty()
    }

    /// Writes direction, numbers, extension, the operator's answer and the outcome into a record.
    pub fn fill(&self, record: &mut CallRecord, plan: &NumberPlan, alone: bool) {
        self.first.parties.fill(record, plan);
        if record.direction == Direction::Unknown {
            record.direction = plan.direction_by_hosts(self.first.dialog.caller_addr, self.first.dialog.callee_addr);
        }
        if self.click_to_call {
            self.fill_click_to_call(record);
        } else if !alone {
            self.fill_joined(record, plan);
        }
        record.outcome = self.anchor.outcome();
        record.operator_answered_at = match record.direction {
            _ if !self.has_rung() || self.click_to_call => record.answered_at,
            _ => self.operator.and_then(answered_at),
        };
        let elsewhere = self.rung.iter().any(|l| l.dialog.reason.as_deref().is_some_and(is_completed_elsewhere));
        let by_pbx_only = self.is_undecided() && !elsewhere;
        if record.outcome == Outcome::Answered && by_pbx_only && !self.click_to_call {
            record.outcome = Outcome::Abandoned;
        }
    }

    /// Whether the caller of this leg is the caller of the conversation. A PBX that calls both ends rings the caller
    /// first, and who picks up a call dials in to it: there, left and right are the other way round.
    pub fn is_same_way(&self, leg: &Leg) -> bool {
        !(self.click_to_call && leg.id == self.first.id || picks_up(leg, self.first))
    }

    /// Whether extensions ring (or rang) and none of them has taken the call.
    pub fn is_undecided(&self) -> bool {
        self.has_rung() && self.operator.is_none() && !self.outside_callee
    }

    /// In which order legs are rendered: the anchor, the leg by which the call came in, the operator's, the others.
    pub fn rank(&self, leg: LegId) -> usize {
        let order = [Some(self.anchor.id), Some(self.first.id), self.operator.map(|l| l.id)];
        order.iter().position(|id| *id == Some(leg)).unwrap_or(order.len())
    }

    fn fill_joined(&self, record: &mut CallRecord, plan: &NumberPlan) {
        let from_ours = is_extension(self.first.parties.from.as_deref(), plan);
        record.direction = match (from_ours, self.outside_callee, !self.has_rung()) {
            (true, true, _) => Direction::Outbound,
            (true, false, _) => Direction::Internal,
            (false, _, false) => Direction::Inbound,
            (false, _, true) => record.direction,
        };
        let named = self.first.parties.named_extension().map(str::to_owned);
        let extension = match record.direction {
            Direction::Outbound => self.first.parties.from.clone(),
            _ => self.extension(plan),
        };
        record.internal = named.or(extension);
    }

    fn fill_click_to_call(&self, record: &mut CallRecord) {
        record.direction = Direction::Outbound;
        record.from.clone_from(&self.first.parties.to);
        record.internal.clone_from(&self.first.parties.to);
        record.to.clone_from(&self.anchor.parties.to);
        record.from_uri.clone_from(&self.first.parties.to_uri);
        record.to_uri.clone_from(&self.anchor.parties.to_uri);
        record.from_name.clone_from(&self.first.parties.to_name);
        record.to_name.clone_from(&self.anchor.parties.to_name);
        record.request_uri.clone_from(&self.anchor.parties.request_uri);
    }

    /// The extension that took the call; while it rings, the only one that rings.
    fn extension(&self, plan: &NumberPlan) -> Option<String> {
        let of = |leg: &Leg| if picks_up(leg, self.first) { leg.parties.from.clone() } else { leg.parties.to.clone() };
        if let Some(operator) = self.operator {
            return of(operator);
        }
        let mut ringing = self.rung.iter().filter(|l| l.dialog.ended().is_none());
        match (ringing.next(), ringing.next(), self.rung.as_slice()) {
            (Some(only), None, _) | (None, None, [only]) => of(only),
            _ => self.first.parties.to.clone().filter(|to| plan.is_extension(to) && self.rung.is_empty()),
        }
    }
}

/// A leg whose sender another leg leads to rings somebody; so do the legs of a PBX that called both ends.
fn end_of(leg: &Leg, legs: &[&Leg]) -> End {
    let dialog = &leg.dialog;
    if legs.first().is_some_and(|first| picks_up(leg, first)) {
        return End::Callee;
    }
    let others = || legs.iter().filter(|l| l.id != leg.id).map(|l| &l.dialog);
    let leads_here =
        others().any(|o| o.callee_addr.same_host(dialog.caller_addr) && !o.caller_addr.same_host(dialog.callee_addr));
    let came_back = legs
        .iter()
        .filter(|o| o.id < leg.id)
        .map(|o| &o.dialog)
        .any(|o| o.callee_addr.same_host(dialog.caller_addr) && o.caller_addr.same_host(dialog.callee_addr));
    let leads_on = others().any(|o| o.caller_addr.same_host(dialog.callee_addr));
    // The same dialog sent elsewhere is another attempt of the same caller, not a second call of a PBX.
    let sibling = others().any(|o| {
        o.caller_addr.same_host(dialog.caller_addr)
            && !o.callee_addr.same_host(dialog.callee_addr)
            && o.call_id != dialog.call_id
    });
    if leads_here || came_back || (sibling && !leads_on) { End::Callee } else { End::Caller }
}

/// Whether somebody dials in to the same PBX to take a call over (RFC 3891): the caller of the leg is the callee of the
/// conversation.
fn picks_up(leg: &Leg, first: &Leg) -> bool {
    let at_pbx = leg.dialog.callee_addr.same_host(first.dialog.callee_addr);
    leg.id != first.id && leg.traces.replaces.is_some() && at_pbx
}

/// The number of the conversation's party at this leg.
fn party<'a>(leg: &'a Leg, legs: &[&Leg]) -> Option<&'a str> {
    match end_of(leg, legs) {
        End::Callee if !legs.first().is_some_and(|first| picks_up(leg, first)) => leg.parties.to.as_deref(),
        _ => leg.parties.from.as_deref(),
    }
}

fn is_outside(leg: &Leg, legs: &[&Leg], plan: &NumberPlan) -> bool {
    party(leg, legs).is_some_and(|n| !plan.is_extension(n))
}

/// A Reason (RFC 3326) by which a PBX says that another phone, one that the mirror did not show, took the call.
fn is_completed_elsewhere(reason: &str) -> bool {
    let reason = reason.to_ascii_lowercase();
    reason.contains("elsewhere") || (reason.starts_with("sip") && reason.contains("cause=200"))
}

fn is_extension(number: Option<&str>, plan: &NumberPlan) -> bool {
    number.is_some_and(|n| plan.is_extension(n))
}

fn answered_at(leg: &Leg) -> Option<Timestamp> {
    leg.dialog.answered.map(|(at, _)| at)
}
