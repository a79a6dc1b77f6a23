//! Index of announced media addresses: finds the legs that receive media at an address.

use std::collections::HashMap;

use crate::call::record::Side;
use crate::net::Endpoint;

/// A leg that announced a media address in its SDP, and the side of the leg that receives there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MediaReceiver {
    /// Slot of the leg in the engine's table of legs.
    pub(crate) slot: usize,
    /// Side that receives media at the address.
    pub(crate) side: Side,
}

/// Media addresses announced by all live legs. The receivers of one address are ordered by their announcement, newest
/// last.
#[derive(Debug, Default)]
pub(crate) struct MediaIndex {
    by_endpoint: HashMap<Endpoint, Vec<MediaReceiver>, foldhash::fast::RandomState>,
}

impl MediaIndex {
    /// Records that a leg announced an address.
    ///
    /// At the bound, the oldest announcement is removed: it most likely belongs to a call whose end was not seen.
    pub(crate) fn add(&mut self, endpoint: Endpoint, receiver: MediaReceiver) {
        let receivers = self.by_endpoint.entry(endpoint).or_default();
        receivers.retain(|r| r.slot != receiver.slot);
        if receivers.len() >= MAX_RECEIVERS {
            receivers.remove(0);
        }
        receivers.push(receiver);
    }

    /// Removes a leg from the receivers of an address.
    pub(crate) fn remove(&mut self, endpoint: Endpoint, slot: usize) {
        if let Some(receivers) = self.by_endpoint.get_mut(&endpoint) {
            receivers.retain(|r| r.slot != slot);
            if receivers.is_empty() {
                self.by_endpoint.remove(&endpoint);
            }
        }
    }

    /// Returns all legs that receive media at an address, newest announcement last.
    pub(crate) fn receivers_at(&self, endpoint: Endpoint) -> &[MediaReceiver] {
        self.by_endpoint.get(&endpoint).map_or(&[], Vec::as_slice)
    }

    /// Returns the number of announced addresses.
    pub(crate) fn len(&self) -> usize {
        self.by_endpoint.len()
    }
}

/// Legs that may announce the same address at once. A long chain of proxies needs no more.
const MAX_RECEIVERS: usize = 16;
