//! Finds the IP addresses (hosts) that belong to one machine, as the legs of one call show it.

use std::net::IpAddr;

use crate::call::leg::Leg;
use crate::net::Endpoint;

/// The hosts (IP addresses) that belong to one machine within one call.
///
/// A PBX may receive the first leg of a call at one address, and send the second leg from another address. The second
/// leg then has the first address as its sending machine. A third leg may reach the PBX at the second address. So all
/// legs of the call together show which hosts are one machine.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallMachines {
    /// Hosts of a machine with several addresses, each with the address that stands for the machine.
    hosts: Vec<(IpAddr, IpAddr)>,
}

impl CallMachines {
    /// Finds out which IP addresses belong to one machine (e.g. one PBX), as the legs of this call show it.
    pub(crate) fn of<'a>(legs: impl Iterator<Item = &'a Leg>) -> Self {
        let mut machines = Self::default();
        for leg in legs {
            let (sender, receiver) = leg.machines();
            for (host, machine) in [(leg.dialog.caller_addr, sender), (leg.dialog.callee_addr, receiver)] {
                if !host.same_host(machine) {
                    machines.unite(machine.ip(), host.ip());
                }
            }
        }
        machines
    }

    /// Records that two hosts are one machine. From now on, one address stands for all hosts of both machines.
    fn unite(&mut self, a: IpAddr, b: IpAddr) {
        let (kept, replaced) = (self.standing_for(a), self.standing_for(b));
        if kept != replaced {
            self.hosts.iter_mut().filter(|(_, known)| *known == replaced).for_each(|(_, known)| *known = kept);
            self.hosts.push((replaced, kept));
        }
    }

    /// Returns the address that stands for all addresses of the machine to which a host belongs.
    fn standing_for(&self, host: IpAddr) -> IpAddr {
        self.hosts.iter().find(|(known, _)| *known == host).map_or(host, |(_, machine)| *machine)
    }

    /// Replaces the address of `endpoint` by the address that stands for all addresses of its machine. The port stays.
    fn machine_of(&self, endpoint: Endpoint) -> Endpoint {
        if self.hosts.is_empty() {
            return endpoint;
        }
        Endpoint::new(self.standing_for(endpoint.ip()), endpoint.port())
    }

    /// Returns whether two hosts are one machine within the call.
    pub(crate) fn is_same(&self, a: Endpoint, b: Endpoint) -> bool {
        self.machine_of(a).same_host(self.machine_of(b))
    }

    /// Returns the sender and the receiver of a leg. If a PBX or proxy has several addresses in this call, one address
    /// stands for all. So equal endpoints on two legs mean the same PBX or proxy.
    pub(crate) fn ends_of(&self, leg: &Leg) -> (Endpoint, Endpoint) {
        let (sender, receiver) = leg.machines();
        (self.machine_of(sender), self.machine_of(receiver))
    }
}
