//! Which leg receives media where: the announced addresses of all live legs.

use std::collections::HashMap;

use crate::call::record::Side;
use crate::net::Endpoint;

/// Who announced an address: a leg (by its place in the engine) and the side that receives there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Place of the leg.
    pub slot: usize,
    /// Who receives there.
    pub receiver: Side,
}

/// Announced addresses, newest claim last.
#[derive(Debug, Default)]
pub struct Claims {
    by_endpoint: HashMap<Endpoint, Vec<Claim>, foldhash::fast::RandomState>,
}

impl Claims {
    /// A leg announced an address. Where too many legs claim it, the oldest claim gives way: it is the likeliest to be
    /// of a call whose end was not seen.
    pub fn add(&mut self, endpoint: Endpoint, claim: Claim) {
        let claims = self.by_endpoint.entry(endpoint).or_default();
        claims.retain(|c| c.slot != claim.slot);
        if claims.len() >= MAX_CLAIMS {
            claims.remove(0);
        }
        claims.push(claim);
    }

    /// A leg no longer receives at an address.
    pub fn remove(&mut self, endpoint: Endpoint, slot: usize) {
        if let Some(claims) = self.by_endpoint.get_mut(&endpoint) {
            claims.retain(|c| c.slot != slot);
            if claims.is_empty() {
                self.by_endpoint.remove(&endpoint);
            }
        }
    }

    /// Everyone who receives at an address, newest last.
    pub fn at(&self, endpoint: Endpoint) -> &[Claim] {
        self.by_endpoint.get(&endpoint).map_or(&[], Vec::as_slice)
    }

    /// How many addresses are claimed.
    pub fn len(&self) -> usize {
        self.by_endpoint.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.by_endpoint.is_empty()
    }
}

/// Legs that announce one address at once: the hops of a long chain of proxies, and no more.
const MAX_CLAIMS: usize = 16;
