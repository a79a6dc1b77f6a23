//! Roles of the legs of a call: the anchor leg, the first leg, and the leg of the extension that answered. The anchor
//! leg, usually the leg of the outside party, supplies the recorded sound and the times of the call.

use std::time::Duration;

use crate::call::call_path::{CallPath, PartyEnd, called_number};
use crate::call::correlation_keys::{CLOCK_SKEW, has_digits, reaches_short_number, same_number};
use crate::call::correlation_rule::CorrelationRule;
use crate::call::dialog::{AnswerEvidence, DialogStart};
use crate::call::event::LegId;
use crate::call::leg::Leg;
use crate::call::numbers::NumberPlan;
use crate::call::record::{CallDirection, CallOutcome, CallRecord, EventKind, EventRecord, Side};
use crate::time::Timestamp;

/// The party that a PBX called first, if it called both parties of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CalledFirst {
    /// The PBX first called the party that counts as the caller, usually an extension (click-to-call), and then the
    /// other party.
    Caller,
    /// The PBX called the outside party first, and then an extension (dialler).
    Callee,
}

/// The legs of one call, sorted by the parts that they play, e.g. the recorded leg and the legs of rung telephones.
#[derive(Clone, Debug)]
pub(crate) struct CallRoles<'a> {
    /// The anchor leg, which supplies the recorded sound and the times of the call. It is the leg of the outside party;
    /// in an internal call, the leg of the caller.
    pub(crate) anchor: &'a Leg,
    /// The first leg of the call, usually the leg on which the caller reached the PBX.
    pub(crate) first: &'a Leg,
    /// Leg of the extension that answered the call; `None` if no extension did.
    pub(crate) operator: Option<&'a Leg>,
    /// Legs on which the PBX rang extensions, answered or not.
    rung: Vec<&'a Leg>,
    /// Legs on which the PBX called outside parties, answered or not.
    called_outside: Vec<&'a Leg>,
    /// Legs between two machines, which have no party.
    transit: Vec<&'a Leg>,
    /// The party that the PBX called first, if the PBX called both parties; `None` if a party called the PBX.
    called_first: Option<CalledFirst>,
    /// Whether the party of the first leg called the PBX. Otherwise the PBX called this party.
    first_is_caller: bool,
    /// Whether the PBX also rang extensions on legs that were replaced by their records (compacted).
    compacted_rung: bool,
    /// Whether the call has only one leg in the call table.
    alone: bool,
    /// The path of the call: its legs with the machines at their ends.
    path: CallPath<'a>,
}

impl<'a> CallRoles<'a> {
    /// Assigns the roles to the legs of a call, oldest leg first. Returns `None` if there is no leg.
    pub(crate) fn from_legs(legs: &[&'a Leg], plan: &NumberPlan) -> Option<Self> {
        let path = CallPath::of(legs, plan);
        let legs: Vec<&Leg> = path.legs().collect();
        // The caller may have made several attempts, e.g. after a redirection. As first leg, the answered attempt is
        // preferred, then an attempt that was not refused.
        let caller_legs = legs.iter().filter(|l| path.party_end(l) == PartyEnd::Caller);
        let rank = |l: &&&Leg| {
            let dialog = &l.dialog;
            let is_later = is_for_later_caller(l, &legs, plan);
            (dialog.answered.is_none(), dialog.refusal().is_some(), is_later, !path.is_at_party(l))
        };
        let first = *caller_legs.min_by_key(rank).or_else(|| legs.first())?;
        let called_first = called_first(first, &path, plan);
        let leads_outside = |l: &Leg| path.is_outside(l, plan) || is_short_number_outside(l, first, &path, plan);
        let outside: Vec<&Leg> = legs.iter().copied().filter(|l| leads_outside(l)).collect();
        // After a fork, a branch without a captured 2xx cannot be the anchor leg (the recorded leg) if another branch
        // has a captured 2xx.
        let is_lost_branch = |l: &&Leg| {
            !l.is_answered_for_certain() && legs.iter().any(|o| o.is_branch_of(l) && o.is_answered_for_certain())
        };
        let candidates: Vec<&Leg> = outside.iter().copied().filter(|l| !is_lost_branch(l)).collect();
        let click_to_call = called_first == Some(CalledFirst::Caller);
        let anchor = if legs.len() == 1 { first } else { choose_anchor(&candidates, first, &path, click_to_call) };
        let first_is_caller = path.party_end(first) == PartyEnd::Caller;
        let transit: Vec<&Leg> =
            legs.iter().copied().filter(|l| l.id != first.id && path.is_transit(l, plan)).collect();
        let is_transit = |l: &Leg| transit.iter().any(|known| known.id == l.id);
        // The mirror may show no leg of the caller, only the legs of the telephones that the PBX rings. Then the first
        // leg counts as one of the rung telephones.
        let is_first_rung = click_to_call || !first_is_caller;
        let rung: Vec<&Leg> = legs
            .iter()
            .copied()
            .filter(|l| l.id != first.id || is_first_rung)
            .filter(|l| path.party_end(l) == PartyEnd::Callee && plan.names_extension(path.party_number(l, plan)))
            .filter(|l| !is_short_number_outside(l, first, &path, plan) && !is_transit(l))
            .collect();
        let operator = rung.iter().filter(|l| answered_at(l).is_some()).min_by_key(|l| answered_at(l)).copied();
        let is_called =
            |l: &&Leg| path.party_end(l) == PartyEnd::Callee && !is_caller_hop(l, first, &path) && !is_transit(l);
        let called_outside = candidates.into_iter().filter(|l| legs.len() > 1 && is_called(l)).collect();
        Some(Self {
            anchor,
            first,
            operator,
            rung,
            called_outside,
            transit,
            called_first,
            first_is_caller,
            compacted_rung: false,
            alone: legs.len() == 1,
            path,
        })
    }

    /// Records that the PBX also rang extensions on legs that are no longer in the call table. None of these extensions
    /// answered.
    pub(crate) const fn with_compacted_legs(mut self) -> Self {
        self.compacted_rung = true;
        self
    }

    /// Returns the path of the call: its legs with the machines at their ends.
    pub(crate) const fn path(&self) -> &CallPath<'a> {
        &self.path
    }

    /// Returns whether the call is a click-to-call: the PBX called the caller first, and then the other party.
    fn is_click_to_call(&self) -> bool {
        self.called_first == Some(CalledFirst::Caller)
    }

    /// Returns whether the caller of the first leg is known to be no extension.
    pub(crate) fn has_outside_caller(&self, plan: &NumberPlan) -> bool {
        let is_outside = |from: &String| !plan.is_extension(from);
        self.first.dialog.start == DialogStart::Invite && self.first.parties.from.as_ref().is_some_and(is_outside)
    }

    /// Returns whether the PBX rang an extension on this leg.
    pub(crate) fn has_rung_on(&self, leg: &Leg) -> bool {
        self.rung.iter().any(|rung| rung.id == leg.id)
    }

    const fn has_rung(&self) -> bool {
        self.compacted_rung || !self.rung.is_empty()
    }

    /// Writes the facts that follow from the roles of the legs to a record. They are direction, numbers, extension,
    /// outcome, and the time at which a person answered.
    pub(crate) fn fill_record(&self, record: &mut CallRecord, plan: &NumberPlan) {
        self.first.parties.fill(record, plan);
        if record.direction == CallDirection::Unknown {
            record.direction = self.direction_by_hosts(plan);
        }
        match self.called_first {
            Some(CalledFirst::Caller) => self.fill_click_to_call(record, plan),
            Some(CalledFirst::Callee) => record.direction = CallDirection::Outbound,
            None if self.alone => self.fill_short_number(record, plan),
            None => record.direction = self.direction(plan).unwrap_or(record.direction),
        }
        record.outcome = self.anchor.outcome();
        record.operator_answered_at = self.operator_answered_at(record, plan);
        if record.outcome == CallOutcome::Answered && self.is_answered_by_pbx_only(record, plan) {
            record.outcome = CallOutcome::Abandoned;
        }
        if !self.alone && !self.is_click_to_call() {
            self.fill_extension(record, plan);
        }
        if self.first.dialog.start == DialogStart::MidCall && record.direction != CallDirection::Internal {
            // The capture began in the middle of the call. Either side may have sent the first captured request, so the
            // direction is unknown.
            record.direction = CallDirection::Unknown;
        }
    }

    /// Sets the direction and the extension of a call with one leg that leads to or from a provider. Does nothing unless
    /// the number at the provider's end is as short as an extension.
    fn fill_short_number(&self, record: &mut CallRecord, plan: &NumberPlan) {
        let parties = &self.first.parties;
        let (caller, callee) = self.path.way_of(self.first);
        let called = plan.is_short_number_at(parties.to.as_deref(), callee) && !plan.is_outside_host(caller);
        let calling = plan.is_short_number_at(parties.from.as_deref(), caller) && !plan.is_outside_host(callee);
        let (direction, inside) = match (called, calling) {
            (true, _) => (CallDirection::Outbound, &parties.from),
            (false, true) => (CallDirection::Inbound, &parties.to),
            (false, false) => return,
        };
        let extension = inside.clone().filter(|number| plan.is_extension(number));
        record.direction = direction;
        record.internal = parties.named_extension().map(str::to_owned).or(extension);
    }

    /// Returns the time at which a person answered the call; `None` if it is not known.
    fn operator_answered_at(&self, record: &CallRecord, plan: &NumberPlan) -> Option<Timestamp> {
        if self.anchor.dialog.answered.is_some_and(|(_, how)| how == AnswerEvidence::MidCall) {
            return None;
        }
        let outside = || self.called_outside.iter().filter_map(|l| answered_at(l)).min();
        match record.direction {
            _ if self.is_click_to_call() => record.answered_at,
            CallDirection::Outbound if self.is_answered_over_unseen_trunk() => record.answered_at,
            CallDirection::Outbound if !self.called_outside.is_empty() => outside(),
            _ if self.has_rung() => self.operator.and_then(answered_at).or_else(outside),
            _ if !self.called_outside.is_empty() => outside(),
            CallDirection::Inbound if !plan.names_extension(record.to.as_deref()) && record.internal.is_none() => None,
            _ => record.answered_at,
        }
    }

    /// Returns whether the PBX itself answered the call, e.g. with a voice menu, and no person did. There are two
    /// cases. In the first, the PBX called parties, and none of them answered. In the second, no leg from the PBX to an
    /// extension was captured, although the mirror port shows such legs.
    fn is_answered_by_pbx_only(&self, record: &CallRecord, plan: &NumberPlan) -> bool {
        if self.is_click_to_call() || self.operator.is_some() || self.reached_outside() {
            return false;
        }
        if record.direction == CallDirection::Outbound && self.is_answered_over_unseen_trunk() {
            return false;
        }
        if self.has_rung() || !self.called_outside.is_empty() {
            return !self.rung.iter().any(|l| l.dialog.reason().is_some_and(is_completed_elsewhere));
        }
        let to_pbx = record.internal.is_none() && !plan.names_extension(record.to.as_deref());
        let mut machines = self.transit.iter().chain([&self.first]).map(|l| self.path.way_of(l).1);
        record.direction == CallDirection::Inbound && to_pbx && machines.any(|pbx| plan.is_visible_pbx(pbx))
    }

    /// Returns whether an outside party answered over a trunk that the mirror does not show.
    ///
    /// Every attempt that it shows had failed long before the PBX answered the caller, and both were heard. A PBX that
    /// answers only to announce the failure does so within `FAILURE_ANNOUNCEMENT`.
    fn is_answered_over_unseen_trunk(&self) -> bool {
        let failed = |l: &&Leg| l.dialog.ended().map(|(at, _)| at).filter(|_| l.dialog.answered.is_none());
        let ends: Option<Vec<Timestamp>> = self.called_outside.iter().map(failed).collect();
        let last = ends.and_then(|ends| ends.into_iter().max());
        let answered = answered_at(self.first).filter(|_| !self.has_rung() && self.first.has_both_sides());
        answered.zip(last).is_some_and(|(at, last)| at >= last + FAILURE_ANNOUNCEMENT)
    }

    /// Returns whether an outside party that the PBX called has answered.
    fn reached_outside(&self) -> bool {
        self.called_outside.iter().any(|l| l.dialog.answered.is_some())
    }

    /// Returns whether the caller of this leg is on the side of the call's caller. The sides are swapped in the first
    /// leg of a click-to-call, and in the leg of a pickup. In a dialler's call they are swapped in the extension's leg.
    pub(crate) fn has_same_sides(&self, leg: &Leg) -> bool {
        let is_swapped = match self.called_first {
            Some(CalledFirst::Caller) => leg.is_branch_of(self.first),
            Some(CalledFirst::Callee) => self.rung.iter().any(|rung| rung.id == leg.id),
            None => false,
        };
        !is_swapped && !self.path.is_pickup(leg)
    }

    /// Returns whether extensions ring or rang, and nobody has answered the call yet.
    pub(crate) fn is_undecided(&self) -> bool {
        let outside = |l: &&Leg| l.dialog.answered.is_some() || l.dialog.ended().is_none();
        self.has_rung() && self.operator.is_none() && !self.called_outside.iter().any(outside)
    }

    /// Returns the rank of a leg as a source of sound for the recording. The anchor leg (usually the outside party's)
    /// has rank 0. Then come the first leg, the leg of the extension that answered, and all others.
    pub(crate) fn render_rank(&self, leg: LegId) -> usize {
        let order = [Some(self.anchor.id), Some(self.first.id), self.operator.map(|l| l.id)];
        order.iter().position(|id| *id == Some(leg)).unwrap_or(order.len())
    }

    /// Returns the leg of `legs` that supplies the sound of the recording; `None` if no leg has media.
    pub(crate) fn recorded_leg<'b>(&self, legs: &[&'b Leg]) -> Option<&'b Leg> {
        let heard = legs.iter().copied().filter(|leg| leg.has_media());
        heard.min_by_key(|leg| self.render_rank(leg.id))
    }

    fn fill_extension(&self, record: &mut CallRecord, plan: &NumberPlan) {
        let named = self.first.parties.named_extension().map(str::to_owned);
        let extension = match record.direction {
            CallDirection::Outbound if self.called_first.is_none() => self.calling_extension(plan),
            CallDirection::Internal if self.first.dials_code() && self.rung.is_empty() => self.calling_extension(plan),
            _ => self.extension(record.outcome, plan),
        };
        record.internal = named.or(extension);
    }

    /// Returns the extension that is the caller of the first leg; `None` if the caller is an outside party.
    fn calling_extension(&self, plan: &NumberPlan) -> Option<String> {
        self.first.parties.from.clone().filter(|from| plan.is_extension(from))
    }

    /// Returns the direction of a call with several legs; `None` if the legs do not show it.
    fn direction(&self, plan: &NumberPlan) -> Option<CallDirection> {
        let is_ours = |number: &Option<String>| plan.names_extension(number.as_deref());
        // If the first dialog was captured again behind a proxy, that leg does not count as a call to a party. A proxy
        // only passes the dialog on.
        let is_other = |l: &&Leg| !l.is_branch_of(self.first);
        let called_anybody = self.has_rung() || self.called_outside.iter().chain(&self.transit).any(is_other);
        let parties = &self.first.parties;
        match (is_ours(&parties.from), is_ours(&parties.to)) {
            // An outside caller with a short number, e.g. a bank, called the office through the trunk. So the call is
            // inbound.
            (true, false) if self.has_rung() && self.comes_from_outside(plan) => Some(CallDirection::Inbound),
            (true, _) if self.reached_outside() => Some(CallDirection::Outbound),
            (true, true) if !self.has_rung() && self.calls_dialled_number_outside() => Some(CallDirection::Outbound),
            (true, true) => Some(CallDirection::Internal),
            // An extension dialled a code that is no extension, and the PBX called extensions only. So the call is
            // internal.
            (true, false) if self.has_rung() && self.called_outside.is_empty() => Some(CallDirection::Internal),
            (true, false) => Some(plan.direction(parties.from.as_deref(), parties.to.as_deref())),
            (false, _) if self.is_started_on_pbx() || self.is_passed_outside(plan) => Some(CallDirection::Outbound),
            (false, _) if self.is_called_for_hidden_telephone(plan) => Some(CallDirection::Outbound),
            (false, _) if called_anybody && self.first_is_caller => Some(CallDirection::Inbound),
            (false, _) => None,
        }
    }

    /// Returns the direction of the call, as the hosts at the ends of its first dialog show it. A proxy in the middle
    /// of this dialog shows no direction, because it passes calls on in both directions.
    fn direction_by_hosts(&self, plan: &NumberPlan) -> CallDirection {
        let (origin, destination) = self.path.way_of(self.first);
        plan.direction_by_hosts(origin, destination)
    }

    /// Returns whether a program on the PBX's own host, e.g. a dialler, made an outbound call.
    fn is_started_on_pbx(&self) -> bool {
        let dialog = &self.first.dialog;
        dialog.caller_addr.same_host(dialog.callee_addr) && !self.has_rung() && !self.called_outside.is_empty()
    }

    /// Returns whether the call was passed on, e.g. by a border controller, from a PBX or telephone of this site to a
    /// provider. For this, no telephone may have rung, and the leg to the provider must have the dialled number. A
    /// private address alone does not show that the caller is at this site, because a provider or gateway may have such
    /// an address, too.
    fn is_passed_outside(&self, plan: &NumberPlan) -> bool {
        let dialled = self.first.parties.to.as_deref();
        let origin = self.path.way_of(self.first).0;
        let is_ours = plan.is_pbx(origin) || plan.is_phone(origin);
        let leads_outside = |l: &Leg| plan.direction_by_hosts(origin, self.path.way_of(l).1) == CallDirection::Outbound;
        is_ours
            && !self.has_rung()
            && self.called_outside.iter().any(|l| same_number(l.parties.to.as_deref(), dialled) && leads_outside(l))
    }

    /// Returns whether a telephone of this site that hides its number called outside. The telephone has a private
    /// address. The PBX called the dialled number at a provider's public address, and named a number as caller.
    ///
    /// A provider or gateway with a private address may bring a hidden caller in. Then the caller stays hidden, or the
    /// PBX calls another number than the dialled one.
    fn is_called_for_hidden_telephone(&self, plan: &NumberPlan) -> bool {
        let (parties, origin) = (&self.first.parties, self.path.way_of(self.first).0);
        let is_for_site = |l: &Leg| {
            let provider = self.path.way_of(l).1;
            same_number(l.parties.to.as_deref(), parties.to.as_deref())
                && has_digits(l.parties.from.as_deref())
                && plan.is_outside_host(provider)
                && plan.direction_by_hosts(origin, provider) == CallDirection::Outbound
        };
        let is_hidden = parties.is_from_nobody() && self.first_is_caller && !self.has_rung();
        is_hidden && self.called_outside.iter().any(|l| is_for_site(l))
    }

    /// Returns whether the caller is outside although the number is as short as an extension. For this, the call must
    /// come from a provider's host, and the called number must be neither an extension nor a feature code.
    fn comes_from_outside(&self, plan: &NumberPlan) -> bool {
        let is_dialled_inside = |to: &str| plan.is_extension(to) || crate::call::numbers::is_code(to);
        self.called_outside.is_empty()
            && self.first_is_caller
            && plan.is_outside_host(self.first.dialog.caller_addr)
            && self.first.parties.to.as_deref().is_some_and(|to| !is_dialled_inside(to))
    }

    /// Returns whether the PBX called the dialled number outside, although the number is as short as an extension.
    fn calls_dialled_number_outside(&self) -> bool {
        let dialled = self.first.parties.to.as_deref();
        let is_dialled = |to: Option<&str>| same_number(to, dialled) || reaches_short_number(dialled, to);
        self.called_outside.iter().any(|l| is_dialled(l.parties.to.as_deref()))
    }

    fn fill_click_to_call(&self, record: &mut CallRecord, plan: &NumberPlan) {
        let is_internal =
            !self.anchor.is_branch_of(self.first) && plan.names_extension(called_number(self.anchor, plan));
        let (direction, party) = match is_internal {
            true => (CallDirection::Internal, self.anchor),
            false => (CallDirection::Outbound, self.first),
        };
        record.direction = direction;
        record.from.clone_from(&self.first.parties.to);
        record.internal = party.parties.to.clone().filter(|to| plan.is_extension(to));
        record.to.clone_from(&self.anchor.parties.to);
        self.first.parties.fill_click_to_call(&self.anchor.parties, record);
    }

    /// Returns the leg of the extension that talked last, e.g. the target of a blind transfer. This is the answered leg
    /// with the latest end. A leg that transferred the call is left out, because the mirror may not show its BYE. If no
    /// leg was answered after `operator`, the first leg on which an extension answered, returns `operator`.
    fn last_operator(&self) -> Option<&'a Leg> {
        let end = |l: &&&Leg| (l.dialog.ended().map_or(Timestamp::MAX, |(at, _)| at), answered_at(l));
        let talked = self.rung.iter().filter(|l| l.is_answered_for_certain() && !self.has_transferred(l));
        let last = talked.max_by_key(end).copied();
        last.filter(|last| answered_at(last) > self.operator.and_then(answered_at)).or(self.operator)
    }

    /// Returns whether the telephone that the PBX rang on this leg transferred the call to an extension that answered
    /// afterwards.
    fn has_transferred(&self, leg: &Leg) -> bool {
        let is_transfer = |e: &&EventRecord| e.kind == EventKind::Transfer && e.side == Some(Side::Callee);
        let transferred = leg.dialog.events().iter().filter(is_transfer).map(|e| e.at).max();
        let answered = self.rung.iter().filter(|l| l.id != leg.id && l.is_answered_for_certain());
        transferred.is_some() && answered.map(|l| answered_at(l)).max() > Some(transferred)
    }

    /// Returns the extension that answered the call. Before an answer, returns the extension that rings, if only one
    /// rings. Returns `None` if another party answered.
    fn extension(&self, outcome: CallOutcome, plan: &NumberPlan) -> Option<String> {
        let of = |leg: &Leg| match self.path.is_pickup(leg) {
            true => leg.parties.from.clone(),
            false => called_number(leg, plan).map(str::to_owned),
        };
        if let Some(operator) = self.last_operator() {
            return of(operator);
        }
        if outcome == CallOutcome::Answered && !self.rung.is_empty() {
            return None;
        }
        if self.rung.is_empty() {
            return self.first.parties.to.clone().filter(|to| plan.is_extension(to));
        }
        let mut ringing = self.rung.iter().copied().filter(|l| l.dialog.ended().is_none()).peekable();
        // An extension counts once, even if it rings on several devices, or its leg was captured before and behind a
        // proxy.
        if ringing.peek().is_some() {
            only_number(ringing.filter_map(of))
        } else {
            only_number(self.rung.iter().copied().filter_map(of))
        }
    }
}

/// Returns the number if all of `numbers` are equal; `None` if they differ or if there are none.
fn only_number(mut numbers: impl Iterator<Item = String>) -> Option<String> {
    let first = numbers.next()?;
    numbers.all(|number| number == first).then_some(first)
}

/// Returns the party that the PBX called first, if it called all parties; `None` if a party called the PBX.
///
/// E.g. a dialler calls an outside party and, after the answer, a telephone of the site: the outside party was called
/// first.
fn called_first(first: &Leg, path: &CallPath<'_>, plan: &NumberPlan) -> Option<CalledFirst> {
    let others = || path.legs().filter(|l| !l.is_branch_of(first));
    if path.legs().any(|l| path.party_end(l) == PartyEnd::Caller) {
        return None;
    }
    let is_by_content = |l: &Leg| l.join.by() == Some(CorrelationRule::MediaContent);
    let is_by_click = |l: &Leg| l.join.by() == Some(CorrelationRule::ClickToCall);
    let is_second = |l: &Leg| answered_at(first).is_some_and(|at| l.created_at + CLOCK_SKEW >= at);
    let is_telephone = |l: &Leg| plan.names_extension(path.party_number(l, plan));
    let is_agent = |l: &Leg| is_telephone(l) && is_second(l) && (is_by_content(l) || is_by_click(l));
    if path.is_outside(first, plan) && others().any(is_agent) {
        return Some(CalledFirst::Callee);
    }
    let is_outside_by_content = |l: &Leg| is_by_content(l) && path.is_outside(l, plan);
    let is_click = |l: &Leg| {
        l.signature().is_click_to_call_after(&first.signature()) || is_telephone(first) && is_outside_by_content(l)
    };
    others().any(is_click).then_some(CalledFirst::Caller)
}

/// Returns whether a leg is the dialog on which the caller reached the PBX, perhaps captured before or behind a proxy.
/// If a proxy forked that dialog to another number, the forked leg belongs to another party, and the result is false.
fn is_caller_hop(leg: &Leg, first: &Leg, path: &CallPath<'_>) -> bool {
    let is_forked = || !path.way_of(leg).1.same_host(path.way_of(first).1);
    path.party_end(first) == PartyEnd::Caller
        && leg.is_branch_of(first)
        && !(is_forked() && leg.parties.request_user() != first.parties.request_user())
}

/// Returns whether the PBX sent this leg because of an extension's call, although the leg of the extension was captured
/// a moment later. Both legs must call the same number. The mirror misses the messages by which the call reached the
/// PBX.
fn is_for_later_caller(leg: &Leg, legs: &[&Leg], plan: &NumberPlan) -> bool {
    let is_ours = |l: &Leg| plan.names_extension(l.parties.from.as_deref());
    let is_just_later = |o: &Leg| o.created_at > leg.created_at && o.created_at.since(leg.created_at) <= CLOCK_SKEW;
    let same_target = |o: &Leg| same_number(o.parties.to.as_deref(), leg.parties.to.as_deref());
    !is_ours(leg) && legs.iter().any(|o| is_ours(o) && is_just_later(o) && same_target(o))
}

/// Returns whether a leg calls a short outside number, e.g. an emergency number. The PBX sends such a leg for an
/// extension to a provider's host, with an outside number as caller.
fn is_short_number_outside(leg: &Leg, first: &Leg, path: &CallPath<'_>, plan: &NumberPlan) -> bool {
    leg.id != first.id
        && path.party_end(leg) == PartyEnd::Callee
        && plan.is_outside_host(leg.dialog.callee_addr)
        && plan.names_extension(first.parties.from.as_deref())
        && leg.parties.from.as_deref().is_some_and(|from| !plan.is_extension(from))
}

/// Chooses the anchor leg, which supplies the recorded sound, among the legs of outside parties. An answered leg is
/// preferred, then a leg that has not ended. If a dialog has several legs, e.g. before and behind a proxy, the leg that
/// reaches the party is preferred.
///
/// A leg that ended unanswered is the anchor only if the first leg was not answered either. In a click-to-call it may
/// be the anchor anyway, because the caller waits for exactly this leg.
///
/// If the PBX called two extensions, e.g. because the second was busy before, the second takes the outside party's place.
fn choose_anchor<'a>(outside: &[&'a Leg], first: &'a Leg, path: &CallPath<'a>, click_to_call: bool) -> &'a Leg {
    let answered = |l: &Leg| l.dialog.answered.is_some();
    let competes = |l: &&Leg| click_to_call || answered(l) || l.dialog.ended().is_none() || !answered(first);
    let rank =
        |l: &&Leg| (!answered(l), !l.is_answered_for_certain(), l.dialog.ended().is_some(), !path.is_at_party(l));
    let found = outside.iter().copied().filter(competes).min_by_key(rank);
    let is_called = |l: &&Leg| click_to_call && !l.is_branch_of(first);
    found.or_else(|| path.legs().filter(is_called).min_by_key(rank)).unwrap_or(first)
}

/// Returns whether a Reason header (RFC 3326) says that another telephone answered the call. The mirror port may not
/// show that telephone.
pub(crate) fn is_completed_elsewhere(reason: &str) -> bool {
    let reason = reason.to_ascii_lowercase();
    reason.contains("elsewhere") || (reason.starts_with("sip") && reason.contains("cause=200"))
}

fn answered_at(leg: &Leg) -> Option<Timestamp> {
    leg.dialog.answered.map(|(at, _)| at)
}

/// Maximum time from the failure of the last attempt to an answer by which the PBX only announces the failure.
const FAILURE_ANNOUNCEMENT: Duration = Duration::from_secs(5);
