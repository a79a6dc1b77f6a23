//! The entries of legs and calls in the indexes of the call table. Only the call table changes them.

use crate::call::keys::{CallKey, LegKey};
use crate::net::Endpoint;

/// The keys under which the call table and its indexes find a leg. The leg stores its keys, so that it can be removed
/// from the indexes again.
#[derive(Debug)]
pub(crate) struct LegLinks {
    /// Key of the call to which the leg belongs.
    pub(in crate::call::call_table) call: CallKey,
    /// Sender and receiver of the first INVITE, each as the endpoint that stands for its machine (see
    /// [`LegLinks::machines`]).
    pub(in crate::call::call_table) machines: (Endpoint, Endpoint),
    /// Hashes of headers and numbers under which the correlation index finds the leg.
    pub(in crate::call::call_table) index_keys: Vec<u64>,
    /// Flows (source, destination) that are routed to the leg, i.e. their packets belong to it.
    pub(in crate::call::call_table) flows: Vec<(Endpoint, Endpoint)>,
    /// Announced endpoints for receiving media under which the media index finds the leg.
    pub(in crate::call::call_table) announced: Vec<Endpoint>,
    /// Presumed endpoints for receiving media, under which the media index finds the leg: the host that sends the SIP,
    /// with the announced port.
    pub(in crate::call::call_table) presumed: Vec<Endpoint>,
    /// Keys under which the media index finds the leg's receivers behind a NAT, whose media host is unknown.
    pub(in crate::call::call_table) unplaced: Vec<Endpoint>,
    /// Generation of the negotiation (it grows with each offer and answer) from which `announced` was made; `None`
    /// before the first.
    pub(in crate::call::call_table) generation: Option<u32>,
}

impl LegLinks {
    /// Returns the links of a leg that is in no index yet.
    pub(in crate::call::call_table) const fn new(call: CallKey, machines: (Endpoint, Endpoint)) -> Self {
        Self {
            call,
            machines,
            index_keys: Vec::new(),
            flows: Vec::new(),
            announced: Vec::new(),
            presumed: Vec::new(),
            unplaced: Vec::new(),
            generation: None,
        }
    }

    /// Returns the key of the call to which the leg belongs.
    pub(crate) const fn call(&self) -> CallKey {
        self.call
    }

    /// Returns sender and receiver of the first INVITE, each as the endpoint that stands for its machine. A machine is
    /// one PBX, proxy or telephone. If it has several addresses, all of them are replaced by the address that the
    /// machine has on another leg of the call.
    pub(crate) const fn machines(&self) -> (Endpoint, Endpoint) {
        self.machines
    }

    /// Returns the endpoints at which the leg announced to receive media.
    pub(crate) fn announced(&self) -> &[Endpoint] {
        &self.announced
    }

    /// Returns the endpoints at which the leg presumably receives media, because of address translation.
    pub(crate) fn presumed(&self) -> &[Endpoint] {
        &self.presumed
    }
}

/// The keys of a call's legs in the call table.
#[derive(Debug, Default)]
pub(crate) struct CallLinks {
    /// Keys of the legs, oldest leg first.
    pub(in crate::call::call_table) legs: Vec<LegKey>,
}

impl CallLinks {
    /// Returns the keys of the legs, oldest leg first.
    pub(crate) fn legs(&self) -> &[LegKey] {
        &self.legs
    }
}
