//! Customers of a hosted PBX. A code that a telephone dials concerns only calls of the customer of this telephone.
//!
//! A hosted PBX serves many customers at one address, and each may use the same codes and extensions. So two events at
//! the same moment at the PBX prove nothing. The telephones must show that they belong to one customer.

use std::net::{IpAddr, Ipv6Addr};

use crate::call::call_path::{CallPath, called_number};
use crate::call::correlate::Correlator;
use crate::call::correlate::question::LegQuestion;
use crate::call::keys::CallKey;
use crate::call::leg::Leg;
use crate::call::media_index::{behind_nat64, is_private};
use crate::net::Endpoint;

/// A telephone that dials a code.
#[derive(Clone, Debug)]
pub(super) struct Dialler {
    /// Address from which the telephone sends its INVITE.
    pub(super) telephone: Endpoint,
    /// Machine that receives the INVITE, i.e. the PBX or a proxy before it.
    pub(super) pbx: Endpoint,
    /// Host name in the caller's address (From); `None` if it is an IP address.
    pub(super) domain: Option<String>,
}

impl Correlator<'_> {
    /// Returns the telephone that dials a code on this leg.
    pub(super) fn dialler_of(&self, leg: &Leg) -> Dialler {
        let (telephone, _) = self.path_of(leg.call()).way_of(leg);
        Dialler { telephone, pbx: leg.machines().1, domain: leg.parties.caller_domain() }
    }

    /// Returns whether the PBX rings, or rang, a telephone for this call that belongs to the same customer (of the
    /// hosted PBX) as the dialler.
    pub(super) fn rings_customer_of(&self, call: CallKey, dialler: &Dialler) -> bool {
        let path = self.path_of(call);
        self.rung_legs(call, dialler.pbx)
            .filter(|leg| self.calls_telephone(leg))
            .any(|leg| dialler.shares_customer(path.way_of(leg).1, leg.parties.called_domain()))
    }

    /// Returns whether a leg calls a telephone of the PBX: an extension, or a user with a name. Otherwise it calls an
    /// outside number through a gateway, which all customers of the PBX have in common.
    fn calls_telephone(&self, leg: &Leg) -> bool {
        let is_digits = |number: &str| number.bytes().all(|digit| digit.is_ascii_digit() || digit == b'+');
        called_number(leg, self.plan).is_none_or(|number| self.plan.is_extension(number) || !is_digits(number))
    }

    /// Returns whether a telephone that belongs to the same customer as the dialler takes part in this call.
    pub(super) fn is_call_of_customer(&self, call: CallKey, dialler: &Dialler) -> bool {
        let path = self.path_of(call);
        self.table.legs_of(call).any(|leg| {
            let (origin, destination) = path.way_of(leg);
            let is_own = |end: Endpoint, domain| !end.same_host(dialler.pbx) && dialler.shares_customer(end, domain);
            let is_from_telephone = self.plan.names_extension(leg.parties.from.as_deref());
            is_from_telephone && is_own(origin, leg.parties.caller_domain())
                || self.calls_telephone(leg) && is_own(destination, leg.parties.called_domain())
        })
    }

    /// Returns the path of a call: its legs, with the machines at their ends.
    pub(super) fn path_of(&self, call: CallKey) -> CallPath<'_> {
        let legs: Vec<&Leg> = self.table.legs_of(call).collect();
        CallPath::of(&legs, self.plan)
    }
}

impl Dialler {
    /// Returns the telephone that sent the new leg, with its PBX and the domain of its address.
    pub(super) fn of_question(question: &LegQuestion<'_>) -> Self {
        let (telephone, pbx) = (question.dialog.caller_addr, question.signature.hop.1);
        Self { telephone, pbx, domain: question.parties.caller_domain() }
    }

    /// Returns whether another telephone of the PBX belongs to the same customer as this telephone. `domain` is the
    /// host name in the address of the other telephone.
    ///
    /// The telephones must share a place: one address (a NAT), one IPv6 network (the first 64 bits), or the network of
    /// the PBX (private addresses). A carrier gives the addresses of RFC 6598 to different customers, so they do not
    /// count as private. If both telephones have a domain, the domains must be equal, too.
    fn shares_customer(&self, telephone: Endpoint, domain: Option<String>) -> bool {
        let is_same_domain = self.domain.is_none() || domain.is_none() || self.domain == domain;
        let is_inside = [self.telephone, telephone].iter().all(|end| is_private(end.ip()) && !is_of_carrier(end.ip()));
        let [own, other] = [self.telephone, telephone].map(|end| behind_nat64(end).unwrap_or(end));
        is_same_domain && (own.same_host(other) || is_inside || are_in_one_network(own, other))
    }
}

/// Returns whether two IPv6 addresses are in one network, i.e. have the same first 64 bits (RFC 4291 section 2.5.4).
fn are_in_one_network(a: Endpoint, b: Endpoint) -> bool {
    match (a.ip(), b.ip()) {
        (IpAddr::V6(a), IpAddr::V6(b)) => a.segments()[..4] == b.segments()[..4] && !is_translated(a),
        _ => false,
    }
}

/// Returns whether an address is in the space between a carrier's NAT and its customers: 100.64.0.0/10 (RFC 6598).
const fn is_of_carrier(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(v4) if matches!(v4.octets(), [100, 64..=127, ..]))
}

/// Returns whether an address stands for an IPv4 address, so that its first 64 bits are those of a translator or relay.
/// These are the prefixes of NAT64 (RFC 6052, RFC 8215) and of Teredo (RFC 4380).
fn is_translated(address: Ipv6Addr) -> bool {
    matches!(address.segments(), [0x64, 0xff9b, ..] | [0x2001, 0, ..])
}
