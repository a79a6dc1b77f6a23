//! The roles of a conversation's legs: which one is the anchor, who is outside, whose extension took the call.

use crate::call::dialog::{AnsweredBy, Began};
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
    /// Parties outside that were called.
    called_outside: Vec<&'a Leg>,
    /// The PBX called both ends: the first leg rings the one who really calls.
    click_to_call: bool,
    /// The first leg brings a caller in.
    comes_in: bool,
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
        let anchor = if legs.len() == 1 { first } else { anchor(&outside, first, click_to_call) };
        let rung: Vec<&Leg> = legs
            .iter()
            .copied()
            .filter(|l| l.id != first.id || click_to_call)
            .filter(|l| end_of(l, legs) == End::Callee && is_extension(party(l, legs, plan), plan))
            .collect();
        let operator = rung.iter().filter(|l| answered_at(l).is_some()).min_by_key(|l| answered_at(l)).copied();
        let called_outside = match legs.len() {
            1 => Vec::new(),
            _ => outside.into_iter().filter(|l| end_of(l, legs) == End::Callee).collect(),
        };
        let comes_in = end_of(first, legs) == End::Caller;
        Some(Self { anchor, first, operator, rung, called_outside, click_to_call, comes_in, others_rung: false })
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
            record.direction = self.direction(plan).unwrap_or(record.direction);
        }
        record.outcome = self.anchor.outcome();
        record.operator_answered_at = self.taken_at(record, plan);
        if record.outcome == Outcome::Answered && self.is_by_pbx_only(record, plan) {
            record.outcome = Outcome::Abandoned;
        }
        if !alone && !self.click_to_call {
            self.fill_extension(record, plan);
        }
        if self.first.dialog.began == Began::UnderWay && record.direction != Direction::Internal {
            // Either side may have sent the request by which the call was joined.
            record.direction = Direction::Unknown;
        }
    }

    /// When a person took the call, as far as that can be known.
    fn taken_at(&self, record: &CallRecord, plan: &NumberPlan) -> Option<Timestamp> {
        if self.anchor.dialog.answered.is_some_and(|(_, how)| how == AnsweredBy::UnderWay) {
            return None;
        }
        let outside = || self.called_outside.iter().filter_map(|l| answered_at(l)).min();
        match record.direction {
            _ if self.click_to_call => record.answered_at,
            Direction::Outbound if !self.called_outside.is_empty() => outside(),
            _ if self.has_rung() => self.operator.and_then(answered_at).or_else(outside),
            _ if !self.called_outside.is_empty() => outside(),
            Direction::Inbound if !is_extension(record.to.as_deref(), plan) && record.internal.is_none() => None,
            _ => record.answered_at,
        }
    }

    /// Whether an answered call was answered by the PBX and by no person: whoever was called did not take it; or nobody
    /// was called, by a PBX of which the mirror shows whom it calls.
    fn is_by_pbx_only(&self, record: &CallRecord, plan: &NumberPlan) -> bool {
        if self.click_to_call || self.operator.is_some() || self.reached_outside() {
            return false;
        }
        if self.has_rung() || !self.called_outside.is_empty() {
            return !self.rung.iter().any(|l| l.dialog.reason.as_deref().is_some_and(is_completed_elsewhere));
        }
        let to_pbx = record.internal.is_none() && !is_extension(record.to.as_deref(), plan);
        record.direction == Direction::Inbound && to_pbx && plan.is_seen_to_ring(self.first.dialog.callee_addr)
    }

    /// Whether a party outside that was called took the call.
    fn reached_outside(&self) -> bool {
        self.called_outside.iter().any(|l| l.dialog.answered.is_some())
    }

    /// Whether the caller of this leg is the caller of the conversation. A PBX that calls both ends rings the caller
    /// first, and who picks up a call dials in to it: there, left and right are the other way round.
    pub fn is_same_way(&self, leg: &Leg) -> bool {
        !(self.click_to_call && leg.id == self.first.id || picks_up(leg, self.first))
    }

    /// Whether extensions ring (or rang) and none of them has taken the call.
    pub fn is_undecided(&self) -> bool {
        let outside = |l: &&Leg| l.dialog.answered.is_some() || l.dialog.ended().is_none();
        self.has_rung() && self.operator.is_none() && !self.called_outside.iter().any(outside)
    }

    /// In which order legs are rendered: the anchor, the leg by which the call came in, the operator's, the others.
    pub fn rank(&self, leg: LegId) -> usize {
        let order = [Some(self.anchor.id), Some(self.first.id), self.operator.map(|l| l.id)];
        order.iter().position(|id| *id == Some(leg)).unwrap_or(order.len())
    }

    fn fill_extension(&self, record: &mut CallRecord, plan: &NumberPlan) {
        let named = self.first.parties.named_extension().map(str::to_owned);
        let extension = match record.direction {
            Direction::Outbound => self.first.parties.from.clone(),
            _ => self.extension(record.outcome, plan),
        };
        record.internal = named.or(extension);
    }

    /// Which way a call of several legs goes, where they tell.
    fn direction(&self, plan: &NumberPlan) -> Option<Direction> {
        let ours = |number: &Option<String>| is_extension(number.as_deref(), plan);
        let called_anybody = self.has_rung() || !self.called_outside.is_empty();
        let parties = &self.first.parties;
        match (ours(&parties.from), ours(&parties.to)) {
            (true, _) if self.reached_outside() => Some(Direction::Outbound),
            (true, true) => Some(Direction::Internal),
            // A code that stands for several extensions.
            (true, false) if self.has_rung() && self.called_outside.is_empty() => Some(Direction::Internal),
            (true, false) => Some(plan.direction(parties.from.as_deref(), parties.to.as_deref())),
            (false, _) if called_anybody && self.comes_in => Some(Direction::Inbound),
            (false, _) => None,
        }
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

    /// The extension that took the call; while it rings, the only one that rings. A call that somebody else took names
    /// none of those that did not.
    fn extension(&self, outcome: Outcome, plan: &NumberPlan) -> Option<String> {
        let of = |leg: &Leg| match picks_up(leg, self.first) {
            true => leg.parties.from.clone(),
            false => called(leg, plan).map(str::to_owned),
        };
        if let Some(operator) = self.operator {
            return of(operator);
        }
        if outcome == Outcome::Answered && !self.rung.is_empty() {
            return None;
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
fn party<'a>(leg: &'a Leg, legs: &[&Leg], plan: &NumberPlan) -> Option<&'a str> {
    match end_of(leg, legs) {
        End::Callee if !legs.first().is_some_and(|first| picks_up(leg, first)) => called(leg, plan),
        _ => leg.parties.from.as_deref(),
    }
}

/// Whom a leg rings. A proxy leaves the dialled number in To; then only the Request-URI names the extension (RFC 3261
/// section 16.6).
fn called<'a>(leg: &'a Leg, plan: &NumberPlan) -> Option<&'a str> {
    let (to, request) = (leg.parties.to.as_deref(), leg.parties.request_user());
    if is_extension(request, plan) && !is_extension(to, plan) { request } else { to }
}

fn is_outside(leg: &Leg, legs: &[&Leg], plan: &NumberPlan) -> bool {
    party(leg, legs, plan).is_some_and(|n| !plan.is_extension(n))
}

/// Of the outside parties' legs, the one that was answered, then the one that lives. One that came to nothing is the
/// anchor only where nothing else was answered; but who has himself called by click-to-call waits for that one.
fn anchor<'a>(outside: &[&'a Leg], first: &'a Leg, click_to_call: bool) -> &'a Leg {
    let answered = |l: &Leg| l.dialog.answered.is_some();
    let competes = |l: &&&Leg| click_to_call || answered(l) || l.dialog.ended().is_none() || !answered(first);
    let rank = |l: &&&Leg| (!answered(l), l.dialog.ended().is_some());
    outside.iter().filter(competes).min_by_key(rank).copied().unwrap_or(first)
}

/// A Reason (RFC 3326) by which a PBX says that another phone, one that the mirror did not show, took the call.
pub fn is_completed_elsewhere(reason: &str) -> bool {
    let reason = reason.to_ascii_lowercase();
    reason.contains("elsewhere") || (reason.starts_with("sip") && reason.contains("cause=200"))
}

fn is_extension(number: Option<&str>, plan: &NumberPlan) -> bool {
    number.is_some_and(|n| plan.is_extension(n))
}

fn answered_at(leg: &Leg) -> Option<Timestamp> {
    leg.dialog.answered.map(|(at, _)| at)
}
