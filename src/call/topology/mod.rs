//! Topology of the site: which IP addresses (hosts) belong to one machine.
//!
//! A PBX may have one address for the provider and one for the telephones. Then it receives the first leg of a call at
//! one address, and sends the second leg from the other. The same holds for a session border controller, for two
//! servers with a virtual address, and for the nodes of a cluster. `calls.pbx_addresses` names such addresses. Other
//! pairs of hosts are learnt, if legs of one call through them begin, are answered and end at the same times.
//!
//! Invariants:
//! - A pair of hosts counts as one machine (is *believed*) after [`CALLS_TO_BELIEVE`] calls of different parties,
//!   beginning with the next message.
//! - A telephone is never part of a learnt pair. Neither is an address that is configured as a machine of its own.
//! - Two contradictions, or more than one in ten calls, end the belief for [`DISTRUST`].
//! - A pair without a confirming call for [`FORGET`] is forgotten.
//! - Stored pairs contain addresses and times, but no telephone number and no Call-ID.

mod fact;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

pub use fact::{MachinePair, PairEvidence};

use crate::net::Endpoint;
use crate::time::Timestamp;

/// The machines with several addresses, as configured or learnt.
#[derive(Clone, Debug, Default)]
pub(crate) struct Topology {
    configured: Vec<Vec<IpAddr>>,
    pairs: BTreeMap<(IpAddr, IpAddr), PairHistory>,
    machines: MachineTable,
}

/// For each address of a machine with several addresses: the address that stands for the machine in comparisons.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MachineTable(HashMap<IpAddr, IpAddr>);

/// Effect of a call on the topology, i.e. on the knowledge which hosts belong to one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TopologyChange {
    /// The same hosts count as one machine as before. At most, the counts of calls that showed this have changed.
    Counts,
    /// Other hosts count as one machine now. Contains the state before the change.
    Machines(MachineTable),
}

/// Two hosts, and the calls that showed them to be one machine.
#[derive(Clone, Debug)]
struct PairHistory {
    fact: MachinePair,
    /// Hashes of the parties' numbers in the calls that confirmed this pair of hosts. Thus several calls between the
    /// same numbers count once. Empty as soon as the hosts count as one machine.
    parties: Vec<u64>,
}

impl Topology {
    /// Creates a topology with the configured machines only. Each list contains the addresses of one machine.
    pub(crate) fn new(configured: &[Vec<IpAddr>]) -> Self {
        let mut out = Self::default();
        let _ = out.configure(configured);
        out
    }

    /// Replaces the configured lists of addresses that belong to one machine. Learnt pairs of hosts are kept.
    pub(crate) fn configure(&mut self, configured: &[Vec<IpAddr>]) -> TopologyChange {
        self.configured = configured.iter().map(|list| list.iter().copied().map(canonical).collect()).collect();
        self.group_hosts()
    }

    /// Adds the pairs of hosts that an earlier process learnt. Leaves out pairs that no call has confirmed for
    /// [`FORGET`], 30 days.
    pub(crate) fn restore(&mut self, facts: &[MachinePair], now: Timestamp) -> TopologyChange {
        for fact in facts.iter().take(MAX_PAIRS) {
            if let Some(key) = ordered(canonical(fact.a), canonical(fact.b)) {
                let fact = MachinePair { a: key.0, b: key.1, last_at: fact.last_at.min(now), ..fact.clone() };
                self.pairs.insert(key, PairHistory { fact, parties: Vec::new() });
            }
        }
        self.forget(|known| now.since(known.fact.last_at) > FORGET);
        self.group_hosts()
    }

    /// Replaces the address of `endpoint` by the address that stands for all addresses of its machine. The port stays.
    pub(crate) fn machine_of(&self, endpoint: Endpoint) -> Endpoint {
        self.machines.machine_of(endpoint)
    }

    /// Returns whether two hosts are one machine: their addresses are equal, or configured or learnt as one machine.
    #[cfg(test)]
    pub(crate) fn same_machine(&self, a: Endpoint, b: Endpoint) -> bool {
        self.machine_of(a).same_host(self.machine_of(b))
    }

    /// Counts a call that shows two hosts to be one machine. `parties` is a hash of the call's numbers.
    pub(crate) fn observe(&mut self, hosts: (Endpoint, Endpoint), parties: u64, at: Timestamp) -> TopologyChange {
        self.observe_by(PairEvidence::SameMoments, hosts, parties, at)
    }

    /// Counts a call that proves by its media content that two hosts are one machine.
    pub(crate) fn observe_content(
        &mut self,
        hosts: (Endpoint, Endpoint),
        parties: u64,
        at: Timestamp,
    ) -> TopologyChange {
        self.observe_by(PairEvidence::MediaContent, hosts, parties, at)
    }

    fn observe_by(
        &mut self,
        by: PairEvidence,
        hosts: (Endpoint, Endpoint),
        parties: u64,
        at: Timestamp,
    ) -> TopologyChange {
        let Some(key) = ordered(hosts.0.ip(), hosts.1.ip()).filter(|key| self.is_learnable(*key)) else {
            return TopologyChange::Counts;
        };
        let is_configured = self.configured.iter().any(|list| list.contains(&key.0) && list.contains(&key.1));
        if is_configured || !self.pairs.contains_key(&key) && !self.make_room() {
            return TopologyChange::Counts;
        }
        let new = || PairHistory { fact: MachinePair::new(key, at), parties: Vec::new() };
        let known = self.pairs.entry(key).or_insert_with(new);
        let was_believed = known.fact.is_believed();
        known.observe(by, parties, at);
        if was_believed == known.fact.is_believed() { TopologyChange::Counts } else { self.group_hosts() }
    }

    /// Counts a call that shows two hosts to be two machines, although they count as one.
    pub(crate) fn contradict(&mut self, hosts: (Endpoint, Endpoint), at: Timestamp) -> TopologyChange {
        let key = ordered(hosts.0.ip(), hosts.1.ip());
        let Some(known) = key.and_then(|key| self.pairs.get_mut(&key)) else { return TopologyChange::Counts };
        known.fact.contradict(at);
        self.group_hosts()
    }

    /// Forgets the pairs of hosts that no call has confirmed for [`FORGET`].
    pub(crate) fn forget_old(&mut self, now: Timestamp) -> TopologyChange {
        self.forget(|known| now.since(known.fact.last_at) > FORGET);
        self.group_hosts()
    }

    /// Forgets all pairs with this host, because it has sent a REGISTER and so is a telephone.
    pub(crate) fn forget_host(&mut self, host: Endpoint) -> TopologyChange {
        let ip = host.ip();
        let is_of_host = |fact: &MachinePair| fact.a == ip || fact.b == ip;
        if !self.facts().any(is_of_host) {
            return TopologyChange::Counts;
        }
        self.forget(|known| is_of_host(&known.fact));
        self.group_hosts()
    }

    /// Returns all pairs of hosts that were learnt, in order of their addresses.
    pub(crate) fn facts(&self) -> impl Iterator<Item = &MachinePair> {
        self.pairs.values().map(|known| &known.fact)
    }

    /// Returns whether both hosts may belong to a machine with several addresses. A host that is configured as a
    /// machine of its own is excluded. So is a loopback or unspecified address.
    fn is_learnable(&self, (a, b): (IpAddr, IpAddr)) -> bool {
        let is_alone = |ip: &IpAddr| self.configured.iter().any(|list| list.as_slice() == [*ip]);
        ![a, b].iter().any(|ip| is_alone(ip) || ip.is_loopback() || ip.is_unspecified())
    }

    fn forget(&mut self, is_over: impl Fn(&PairHistory) -> bool) {
        self.pairs.retain(|_, known| !is_over(known));
    }

    /// Makes room for a new pair of hosts. Of the pairs that do not count as one machine, forgets the pair that was
    /// confirmed longest ago. Returns false if there is no such pair.
    fn make_room(&mut self) -> bool {
        if self.pairs.len() < MAX_PAIRS {
            return true;
        }
        let weak = self.pairs.iter().filter(|(_, known)| !known.fact.is_believed());
        let oldest = weak.min_by_key(|(_, known)| known.fact.last_at).map(|(key, _)| *key);
        oldest.is_some_and(|key| self.pairs.remove(&key).is_some())
    }

    /// Computes which hosts belong to one machine. Each configured list of hosts is one machine, and so is each learnt
    /// pair of hosts that enough calls have shown. Lists and pairs that share a host form one machine.
    fn group_hosts(&mut self) -> TopologyChange {
        let mut groups: Vec<Vec<IpAddr>> = Vec::new();
        for list in &self.configured {
            join_groups(&mut groups, list);
        }
        for fact in self.facts().filter(|fact| fact.is_believed() && self.is_learnable((fact.a, fact.b))) {
            join_groups(&mut groups, &[fact.a, fact.b]);
        }
        let mut machines = MachineTable::default();
        for group in groups.iter().filter(|group| group.len() > 1) {
            let Some(representative) = group.iter().min() else { continue };
            machines.0.extend(group.iter().map(|ip| (*ip, *representative)));
        }
        if machines == self.machines {
            return TopologyChange::Counts;
        }
        TopologyChange::Machines(std::mem::replace(&mut self.machines, machines))
    }
}

impl MachineTable {
    /// Replaces the address of `endpoint` by the address that stands for all addresses of its machine, as
    /// [`Topology::machine_of`] does.
    pub(crate) fn machine_of(&self, endpoint: Endpoint) -> Endpoint {
        if self.0.is_empty() {
            return endpoint;
        }
        self.0.get(&endpoint.ip()).map_or(endpoint, |ip| Endpoint::new(*ip, endpoint.port()))
    }
}

impl PairHistory {
    /// Counts a call that confirms that the two hosts are one machine. Until they count as one machine, several calls
    /// between the same numbers count once.
    fn observe(&mut self, by: PairEvidence, parties: u64, at: Timestamp) {
        if !self.fact.is_believed() {
            if self.parties.contains(&parties) {
                return;
            }
            self.parties.push(parties);
        }
        self.fact.observe(by, at);
        if self.fact.seen == 0 || self.fact.is_believed() {
            self.parties = Vec::new();
        }
    }
}

/// Adds hosts to the machine (group of hosts) that contains one of them, and merges machines that share a host. Does
/// nothing if the machine would have too many hosts.
fn join_groups(groups: &mut Vec<Vec<IpAddr>>, hosts: &[IpAddr]) {
    let (touched, mut rest): (Vec<_>, Vec<_>) =
        std::mem::take(groups).into_iter().partition(|group| group.iter().any(|ip| hosts.contains(ip)));
    let mut joined: Vec<IpAddr> = touched.iter().flatten().chain(hosts).copied().collect();
    joined.sort_unstable();
    joined.dedup();
    if joined.len() <= MAX_MACHINE_ADDRESSES {
        rest.push(joined);
    } else {
        rest.extend(touched);
    }
    *groups = rest;
}

/// Returns two addresses in ascending order; `None` if they are equal.
fn ordered(a: IpAddr, b: IpAddr) -> Option<(IpAddr, IpAddr)> {
    (a != b).then(|| (a.min(b), a.max(b)))
}

/// Returns an address in the form of [`Endpoint::ip`]: an IPv4-mapped IPv6 address becomes an IPv4 address.
fn canonical(ip: IpAddr) -> IpAddr {
    Endpoint::new(ip, 0).ip()
}

/// Number of calls between different numbers after which two hosts count as one machine.
pub const CALLS_TO_BELIEVE: u32 = 3;
/// Time for which two hosts do not count as one machine after calls have shown that they are two machines.
const DISTRUST: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Time after which a pair of hosts that no call confirms is forgotten. A site that was idle for so long may have been
/// rebuilt.
const FORGET: Duration = Duration::from_secs(30 * 24 * 3_600);
/// Maximum number of addresses of one machine. A cluster with a WAN, a LAN and a virtual address for each node has
/// fewer.
pub(crate) const MAX_MACHINE_ADDRESSES: usize = 16;
/// Maximum number of pairs of hosts that are stored.
const MAX_PAIRS: usize = 256;

#[cfg(test)]
mod tests;
