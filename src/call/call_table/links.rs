//! The index entries of legs and calls. Only the call table changes them.

use crate::call::keys::{CallKey, LegKey};
use crate::net::{Endpoint, Flow};

/// The keys under which the call table and its indexes find a leg. They are stored in the leg, so that it can be
/// removed from the indexes.
#[derive(Debug)]
pub(crate) struct LegLinks {
    /// Key of the call to which the leg belongs.
    pub(in crate::call::call_table) call: CallKey,
    /// Sender and receiver of the first INVITE. One address stands for all addresses of a machine
    /// ([`LegLinks::machines`]).
    pub(in crate::call::call_table) machines: (Endpoint, Endpoint),
    /// Keys (hashes of headers and numbers) under which the correlation index finds the leg.
    pub(in crate::call::call_table) index_keys: Vec<u64>,
    /// Flows (source, destination) with packets that belong to the leg.
    pub(in crate::call::call_table) flows: Vec<Flow>,
    /// Endpoints at which the leg announced to receive media. The media index finds the leg under them.
    pub(in crate::call::call_table) announced: Vec<Endpoint>,
    /// Presumed endpoints at which the leg receives media: the host that sends the SIP, with the announced port. The
    /// media index finds the leg under them.
    pub(in crate::call::call_table) presumed: Vec<Endpoint>,
    /// Keys in the media index for sides of the leg that are behind a NAT, while the host of their media is unknown.
    pub(in crate::call::call_table) unplaced: Vec<Endpoint>,
    /// Endpoints that streams of the leg have used although no message announced them, at most
    /// [`MAX_HEARD`](super::media::MAX_HEARD). The media index finds the leg under them.
    pub(in crate::call::call_table) heard: Vec<Endpoint>,
    /// Version of the negotiation from which `announced` was made. The version grows with each offer and answer. `None`
    /// before the first announcement.
    pub(in crate::call::call_table) generation: Option<u32>,
}

impl LegLinks {
    /// Returns the index entries (links) of a leg that is in no index yet.
    pub(in crate::call::call_table) const fn new(call: CallKey, machines: (Endpoint, Endpoint)) -> Self {
        Self {
            call,
            machines,
            index_keys: Vec::new(),
            flows: Vec::new(),
            announced: Vec::new(),
            presumed: Vec::new(),
            unplaced: Vec::new(),
            heard: Vec::new(),
            generation: None,
        }
    }

    /// Returns the key of the call to which the leg belongs.
    pub(crate) const fn call(&self) -> CallKey {
        self.call
    }

    /// Returns sender and receiver of the first INVITE, each as the endpoint that stands for its machine.
    ///
    /// A machine is one PBX, proxy or telephone. If it has several addresses, one address stands for all of them. So
    /// equal endpoints on two legs mean the same machine.
    pub(crate) const fn machines(&self) -> (Endpoint, Endpoint) {
        self.machines
    }

    /// Returns the endpoints at which the leg announced to receive media.
    pub(crate) fn announced(&self) -> &[Endpoint] {
        &self.announced
    }

    /// Returns the presumed endpoints of the leg's media: the host that sends the SIP, with the announced port.
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
