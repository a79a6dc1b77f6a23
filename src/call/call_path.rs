//! The path of a call: the machines through which its legs pass, and the party of each leg.

use crate::call::call_machines::CallMachines;
use crate::call::correlation_keys::{CLOCK_SKEW, LegSignature, same_number};
use crate::call::correlation_rule::CorrelationRule;
use crate::call::leg::Leg;
use crate::call::numbers::NumberPlan;
use crate::net::Endpoint;

/// The end of a leg at which a party is, i.e. a telephone or an outside party. The PBX is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PartyEnd {
    /// The party is the caller of the leg, because it calls the PBX.
    Caller,
    /// The party is the callee of the leg, because the PBX calls it.
    Callee,
}

/// The legs of one call, each with the machines at its ends.
#[derive(Clone, Debug)]
pub(crate) struct CallPath<'a> {
    /// The legs of the call, oldest leg first.
    legs: Vec<PathLeg<'a>>,
}

/// A leg with the machines at its ends. In each field with two endpoints, the sender comes first.
#[derive(Clone, Copy, Debug)]
struct PathLeg<'a> {
    leg: &'a Leg,
    /// Machines (e.g. proxy and PBX) that sent and received the INVITE of this leg.
    hop: (Endpoint, Endpoint),
    /// Machines between which the leg passes a call on. If its dialog goes to or from the PBX, perhaps through a proxy,
    /// these are the two ends of the whole dialog. Otherwise they are sender and receiver of this leg's INVITE.
    ends: (Endpoint, Endpoint),
    /// First sender and last receiver of the leg's dialog.
    dialog: DialogEnds,
    calls_extension: bool,
}

impl PathLeg<'_> {
    fn is_from(&self, machine: Endpoint) -> bool {
        self.ends.0.same_host(machine)
    }

    fn is_to(&self, machine: Endpoint) -> bool {
        self.ends.1.same_host(machine)
    }

    fn is_between(&self, (sender, receiver): (Endpoint, Endpoint)) -> bool {
        self.is_from(sender) && self.is_to(receiver)
    }

    /// Returns whether `next` is the same dialog one proxy further: the receiver of this leg sent it on as `next`.
    fn leads_to_hop(&self, next: &Self) -> bool {
        self.hop.1.same_host(next.hop.0) && !self.hop.0.same_host(next.hop.1) && self.leg.is_branch_of(next.leg)
    }

    /// Returns the numbers and times of the leg, with the machines at its ends.
    fn signature(&self) -> LegSignature<'_> {
        LegSignature { hop: self.ends, ..self.leg.signature() }
    }
}

impl<'a> CallPath<'a> {
    /// Finds the machines at the ends of the legs of a call, oldest leg first.
    ///
    /// Two kinds of legs are left out, unless there are no other legs. A recording session (SIPREC) carries the sound
    /// of another call. A leg between two addresses of one machine, e.g. two nodes of a cluster, has no party at its
    /// ends.
    pub(crate) fn of(legs: &[&'a Leg], plan: &NumberPlan) -> Self {
        let machines = CallMachines::of(legs.iter().copied());
        let all = legs.iter().map(|leg| {
            let hop = machines.ends_of(leg);
            let calls_extension = plan.names_extension(leg.parties.to.as_deref());
            PathLeg { leg, hop, ends: hop, dialog: DialogEnds { machines: hop, addresses: leg.hop() }, calls_extension }
        });
        let all: Vec<PathLeg<'a>> = all.collect();
        let mut kept: Vec<PathLeg<'a>> =
            all.iter().filter(|leg| leg.leg.may_have_party_between(leg.hop)).copied().collect();
        if kept.is_empty() {
            kept = all;
        }
        let dialogs: Vec<DialogEnds> = kept.iter().map(|leg| DialogEnds::of(leg, &kept)).collect();
        kept.iter_mut().zip(dialogs).for_each(|(leg, dialog)| leg.dialog = dialog);
        let ends: Vec<_> = kept.iter().map(|leg| ends_of_leg(leg, &kept, plan)).collect();
        kept.iter_mut().zip(ends).for_each(|(leg, ends)| leg.ends = ends);
        Self { legs: kept }
    }

    /// Returns the legs of the call, oldest leg first.
    pub(crate) fn legs(&self) -> impl Iterator<Item = &'a Leg> {
        self.legs.iter().map(|leg| leg.leg)
    }

    fn find(&self, leg: &Leg) -> Option<&PathLeg<'a>> {
        self.legs.iter().find(|known| known.leg.id == leg.id)
    }

    /// Returns the addresses of the first sender and of the last receiver of a leg's dialog. Proxies between them are
    /// left out.
    pub(crate) fn way_of(&self, leg: &Leg) -> (Endpoint, Endpoint) {
        self.find(leg).map_or_else(|| leg.hop(), |known| known.dialog.addresses)
    }

    /// Returns whether a machine received one leg of the call and sent another.
    pub(crate) fn passes_calls_on(&self, machine: Endpoint) -> bool {
        let gets = |leg: &PathLeg<'_>| leg.hop.1.same_host(machine);
        let sends = |leg: &PathLeg<'_>| leg.hop.0.same_host(machine);
        self.legs.iter().any(gets) && self.legs.iter().any(sends)
    }

    /// Returns the end of a leg at which its party is. The other end is the PBX.
    ///
    /// The sender of a leg is the PBX if another leg leads to the sender, or if the sender sent several legs to
    /// different machines. Then the party is the callee.
    pub(crate) fn party_end(&self, leg: &Leg) -> PartyEnd {
        let Some(own) = self.find(leg) else { return PartyEnd::Caller };
        if self.is_pickup(leg) {
            return PartyEnd::Callee;
        }
        let (sender, receiver) = own.ends;
        let others = || self.legs.iter().filter(|o| o.leg.id != leg.id);
        let leads_here = others().any(|o| o.is_to(sender) && !o.is_from(receiver));
        let leads_on = others().any(|o| o.is_from(receiver));
        let siblings = || others().filter(|o| is_sibling(own, o));
        // A PBX that is connected to one party may call the other party through a border controller. The border
        // controller passes the leg on and sends no leg back to the PBX. Such a leg leads to the callee.
        let leads_back = || sender.same_host(receiver) || others().any(|o| o.is_between((receiver, sender)));
        let connects = || siblings().any(|o| follows_answer(own.leg, o.leg) || follows_answer(o.leg, own.leg));
        let calls_several = siblings().next().is_some() && !leads_on || !leads_back() && connects();
        if leads_here || self.came_back(own) || calls_several { PartyEnd::Callee } else { PartyEnd::Caller }
    }

    /// Returns whether the PBX sent the leg back to the machine from which the call came.
    fn came_back(&self, own: &PathLeg<'_>) -> bool {
        let (sender, receiver) = own.ends;
        // In a hairpin, the PBX sends an extension's call back to the proxy. The leg from the proxy is then the first
        // leg, even if it was captured second.
        let is_back = |a: &PathLeg<'_>, b: &PathLeg<'_>| a.signature().is_hairpin_of(&b.signature());
        let opposite = || self.legs.iter().filter(|o| o.leg.id != own.leg.id && o.is_between((receiver, sender)));
        // The call may come in again over the trunk, e.g. forwarded to another number of the office. So the headers are
        // examined before the numbers of legs.
        if opposite().any(|o| self.is_forwarded_back(own, o)) {
            return true;
        }
        if opposite().any(|o| self.is_forwarded_back(o, own)) {
            return false;
        }
        let age = |a: &PathLeg<'_>| (a.leg.created_at, a.leg.id);
        let came_back = opposite().any(|o| is_back(own, o) || age(o) < age(own) && !is_back(o, own));
        // The mirror port may show the legs in the wrong order. If one of the two hosts sent several legs and received
        // one, it is the PBX.
        let (same_way, back) = (self.count_between((sender, receiver)), self.count_between((receiver, sender)));
        if same_way == 1 && back > 1 { false } else { came_back || same_way > 1 && back == 1 }
    }

    /// Returns whether the PBX forwarded the call of the leg `forth` over the trunk from which it came, as the leg
    /// `back`. The Diversion header of `back` names the number that was called. The capture may show the two legs in
    /// the wrong order.
    ///
    /// A mobile network may also divert a call to the office, which calls the mobile telephone. So the result is false if
    /// `forth` names the number of `back`, or if the receiver of `back` calls a third host like a PBX.
    fn is_forwarded_back(&self, back: &PathLeg<'_>, forth: &PathLeg<'_>) -> bool {
        let (newer, older) = (back.signature(), forth.signature());
        let (pbx, trunk) = back.ends;
        let calls_third = |leg: &PathLeg<'_>| leg.is_from(trunk) && !leg.is_to(pbx);
        same_number(newer.diverted, older.to)
            && !same_number(older.diverted, newer.to)
            && back.leg.created_at + CLOCK_SKEW >= forth.leg.created_at
            && !self.legs.iter().any(calls_third)
    }

    /// Returns the number of legs between two machines. A dialog that was captured several times, e.g. before and
    /// behind a proxy, counts as one leg.
    fn count_between(&self, ends: (Endpoint, Endpoint)) -> usize {
        let is_counted = |(n, leg): &(usize, &PathLeg<'_>)| {
            let is_whole = leg.ends == leg.hop;
            let is_known = |earlier: &PathLeg<'_>| earlier.is_between(ends) && earlier.leg.is_branch_of(leg.leg);
            leg.is_between(ends) && (is_whole || !self.legs[..*n].iter().any(is_known))
        };
        self.legs.iter().enumerate().filter(is_counted).count()
    }

    /// Returns whether a telephone or an outside party is at an end of the leg. Returns false for a leg between a proxy
    /// and the PBX.
    pub(crate) fn is_at_party(&self, leg: &Leg) -> bool {
        self.find(leg).is_none_or(|own| match self.party_end(leg) {
            _ if self.is_pickup(leg) => own.hop.0.same_host(own.ends.0),
            PartyEnd::Caller => own.hop.0.same_host(own.ends.0),
            PartyEnd::Callee => own.hop.1.same_host(own.ends.1),
        })
    }

    /// Returns whether a leg picks up the call by a Replaces header (RFC 3891) at the PBX that received the call. The
    /// caller of such a leg is the callee of the call.
    ///
    /// The PBX must be the receiver of the leg's dialog. If the PBX sends such an INVITE to a telephone, it transfers
    /// the call to this telephone, and the result is false.
    pub(crate) fn is_pickup(&self, leg: &Leg) -> bool {
        let replaces = |leg: &Leg| leg.correlation_keys.replaces.is_some();
        let (Some(first), Some(own)) = (self.legs.first(), self.find(leg)) else { return false };
        if leg.id == first.leg.id || !replaces(leg) || self.takes_callers_place(own) {
            return false;
        }
        let (origin, destination) = own.dialog.machines;
        let is_last_hop = own.hop.1.same_host(destination);
        if first.hop.1.same_host(own.hop.1) && (is_last_hop || !self.passes_calls_on(origin)) {
            return true;
        }
        let sends = || self.legs.iter().any(|other| other.hop.0.same_host(destination));
        let is_at_pbx = |other: &PathLeg<'_>| {
            let is_first = other.leg.is_branch_of(first.leg);
            other.dialog.machines.1.same_host(destination) && (is_first || !other.calls_extension || sends())
        };
        self.legs.iter().any(|other| !replaces(other.leg) && is_at_pbx(other))
    }

    /// Returns whether a leg replaces an answered dialog that a caller has with the PBX. The party of the leg then
    /// takes the place of this caller (attended transfer). A party that picks a call up replaces a dialog that the PBX
    /// began.
    fn takes_callers_place(&self, own: &PathLeg<'_>) -> bool {
        let call_id = own.leg.correlation_keys.replaces.as_deref();
        let mut replaced = self.legs.iter().filter(|other| Some(other.leg.dialog.call_id()) == call_id).peekable();
        let arrives = |other: &PathLeg<'_>| {
            other.dialog.machines.1.same_host(own.dialog.machines.1) && other.leg.answered_by(own.leg.created_at)
        };
        replaced.peek().is_some() && replaced.all(arrives)
    }

    /// Returns whether a leg leads from one machine to another, so that no party is at its ends. E.g. a border
    /// controller or a PBX passes the call on to another PBX.
    ///
    /// Returns true if the receiver sends another leg of the call. Also returns true if the leg calls no extension, and
    /// the mirror port would show the telephones that the receiver rings.
    pub(crate) fn is_transit(&self, leg: &Leg, plan: &NumberPlan) -> bool {
        let Some(own) = self.find(leg) else { return true };
        let (sender, receiver) = own.ends;
        // A softphone may be on the PBX's own host. Then only the port shows which program sends the next leg.
        let sends = |o: &PathLeg<'_>| match sender.same_host(receiver) {
            true => o.leg.hop().0 == leg.hop().1,
            false => o.is_from(receiver),
        };
        let is_next = |o: &&PathLeg<'_>| sends(o) && !o.leg.is_branch_of(leg) && !self.is_pickup(o.leg);
        let leads_on = |o: &PathLeg<'_>| !o.is_to(sender) || self.came_back(o);
        let called = called_number(leg, plan);
        // Such a softphone may have a name, which is no known extension if no REGISTER was captured.
        let has_letters = |user: &str| user.chars().any(char::is_alphabetic);
        let may_be_softphone = || {
            let is_pbx = plan.is_visible_program(leg.hop().1);
            sender.same_host(receiver) && !is_pbx && called.is_some_and(has_letters)
        };
        let is_for_machine = || plan.is_visible_pbx(receiver) && !plan.names_extension(called) && !may_be_softphone();
        self.party_end(leg) == PartyEnd::Callee
            && !self.is_pickup(leg)
            && !plan.is_phone(receiver)
            && (is_for_machine() || self.legs.iter().filter(is_next).any(leads_on))
    }

    /// Returns the number of the party at this leg; `None` if unknown.
    pub(crate) fn party_number<'l>(&self, leg: &'l Leg, plan: &NumberPlan) -> Option<&'l str> {
        match self.party_end(leg) {
            PartyEnd::Callee if !self.is_pickup(leg) => called_number(leg, plan),
            _ => leg.parties.from.as_deref(),
        }
    }

    /// Returns whether the party of a leg is an outside number.
    pub(crate) fn is_outside(&self, leg: &Leg, plan: &NumberPlan) -> bool {
        self.party_number(leg, plan).is_some_and(|number| !plan.is_extension(number))
    }
}

/// Returns whether one machine sent both legs, to different machines, so that it called two parties. Returns false if
/// both have the same Call-ID or one is a new attempt: then the caller tried again at another host.
fn is_sibling(a: &PathLeg<'_>, b: &PathLeg<'_>) -> bool {
    let is_attempt = |leg: &PathLeg<'_>| leg.leg.join.by() == Some(CorrelationRule::TriedAgain);
    b.is_from(a.ends.0)
        && !b.is_to(a.ends.1)
        && a.leg.dialog.call_id() != b.leg.dialog.call_id()
        && !(is_attempt(a) || is_attempt(b))
}

/// Returns whether a leg began after the answer of another leg.
fn follows_answer(leg: &Leg, answered: &Leg) -> bool {
    answered.dialog.answered.is_some_and(|(at, _)| leg.created_at >= at)
}

/// The first sender and the last receiver of a dialog. E.g. if a telephone reaches the PBX through a proxy, they are
/// the telephone and the PBX.
#[derive(Clone, Copy, Debug)]
struct DialogEnds {
    machines: (Endpoint, Endpoint),
    addresses: (Endpoint, Endpoint),
}

impl DialogEnds {
    /// Finds the first sender and the last receiver of a leg's dialog. For this, follows the dialog from proxy to proxy
    /// in both directions. If a proxy forks the dialog, this proxy is the last receiver.
    fn of(leg: &PathLeg<'_>, legs: &[PathLeg<'_>]) -> Self {
        let (mut first, mut last) = (leg, leg);
        for _ in legs {
            let Some(before) = legs.iter().find(|hop| hop.leads_to_hop(first)) else { break };
            first = before;
        }
        for _ in legs {
            let mut next = legs.iter().filter(|hop| last.leads_to_hop(hop));
            let (Some(only), None) = (next.next(), next.next()) else { break };
            last = only;
        }
        Self {
            machines: (first.hop.0, last.hop.1),
            addresses: (first.leg.dialog.caller_addr, last.leg.dialog.callee_addr),
        }
    }
}

/// Returns the machines between which a leg passes a call on.
///
/// If a PBX is the first sender or the last receiver of the leg's dialog, these two machines are returned. A PBX ends
/// one dialog and begins another, or begins both. Otherwise sender and receiver of this leg's INVITE are returned, e.g.
/// if a proxy is the only machine of the site.
fn ends_of_leg<'a>(leg: &PathLeg<'a>, legs: &[PathLeg<'a>], plan: &NumberPlan) -> (Endpoint, Endpoint) {
    let (origin, destination) = leg.dialog.machines;
    if leg.dialog.machines == leg.hop {
        return leg.hop;
    }
    let is_site = |machine: Endpoint| !plan.is_outside_host(machine) && !plan.is_phone(machine);
    let is_other = |other: &PathLeg<'_>| !other.leg.is_branch_of(leg.leg);
    let begins =
        |machine: Endpoint| legs.iter().any(|other| other.dialog.machines.0.same_host(machine) && is_other(other));
    let ends =
        |machine: Endpoint| legs.iter().any(|other| other.dialog.machines.1.same_host(machine) && is_other(other));
    let whole = |leg: &PathLeg<'a>| PathLeg { ends: leg.dialog.machines, ..*leg };
    let begins_both = || legs.iter().any(|other| is_sibling(&whole(leg), &whole(other)));
    let is_pbx_there = is_site(destination) && (begins(destination) || plan.is_pbx(destination));
    let is_pbx_here = is_site(origin) && (ends(origin) || begins_both());
    if is_pbx_there || is_pbx_here { leg.dialog.machines } else { leg.hop }
}

/// Returns the number that a leg calls. A proxy may leave the dialled number in To, and then only the Request-URI names
/// the extension (RFC 3261 section 16.6). A PBX may do so if the dialled extension diverts its calls (RFC 5806).
pub(crate) fn called_number<'a>(leg: &'a Leg, plan: &NumberPlan) -> Option<&'a str> {
    let (to, request) = (leg.parties.to.as_deref(), leg.parties.request_user());
    let is_diverted = || same_number(leg.signature().diverted, to);
    if plan.names_extension(request) && (!plan.names_extension(to) || is_diverted()) { request } else { to }
}
