//! Checks the invariants of the call table. Tests call the check after each input.

use super::CallTable;
use crate::call::keys::{CallKey, LegKey};
use crate::call::leg::Leg;

impl CallTable {
    /// Asserts all invariants of the call table.
    ///
    /// # Panics
    ///
    /// Panics if an invariant does not hold.
    pub(crate) fn check(&self) {
        for (key, leg) in &self.legs {
            self.check_leg(key, leg);
        }
        for (key, call) in &self.calls {
            self.check_call(key);
            assert!(self.by_id.contains_key(&call.id), "the call {} is found by its id", call.id);
            assert!(call.relations.iter().all(|r| r.id != call.id), "the call {} is related to itself", call.id);
        }
        let places: usize = self.calls.values().map(|call| call.links.legs().len()).sum();
        assert_eq!(places, self.legs.len(), "each leg is in one call");
        assert_eq!(self.leg_ids.keys.len(), self.legs.len(), "the index of ids has each leg once");
        self.check_indexes();
    }

    fn check_leg(&self, key: LegKey, leg: &Leg) {
        let name = &leg.name;
        assert_eq!(self.leg_ids.keys.get(&leg.id), Some(&key), "leg {name} is found by its id");
        assert!(self.keys_of(leg.call()).contains(&key), "leg {name} is in the call that it names");
        let by_call_id = self.with_call_id(leg.dialog.call_id()).iter().filter(|other| **other == key).count();
        assert_eq!(by_call_id, usize::from(!leg.is_closed()), "leg {name} is found by its Call-ID while it is open");
        let keys = if leg.is_closed() {
            Vec::new()
        } else {
            self.correlation.keys_of(&leg.correlation_keys, &leg.signature())
        };
        assert_eq!(leg.links.index_keys, keys, "leg {name} has the index keys of its headers and numbers");
        if leg.is_closed() {
            assert!(leg.links.flows.is_empty() && leg.announced().is_empty(), "the closed leg {name} gets no media");
        }
    }

    fn check_call(&self, key: CallKey) {
        let order = |leg: &LegKey| self.legs.get(*leg).map(|leg| (leg.created_at, leg.id));
        let legs = self.keys_of(key);
        assert!(!legs.is_empty(), "a call has a leg");
        assert!(legs.iter().all(|leg| order(leg).is_some()), "the legs of a call are in the table");
        assert!(legs.is_sorted_by_key(order), "the legs of a call are in the order of time");
        assert!(self.legs_of(key).all(|leg| leg.call() == key), "the legs of a call name it");
    }

    fn check_indexes(&self) {
        let streams: usize = self.legs.values().map(|leg| leg.media.streams().len()).sum();
        assert_eq!(self.streams, streams, "the number of streams is that of all legs");
        let routes: usize = self.legs.values().map(|leg| leg.links.flows.len()).sum();
        assert_eq!(self.flows.len(), routes, "each route belongs to one leg");
        for (flow, route) in &self.flows {
            let leg = self.legs.get(route.slot).expect("a route leads to a leg");
            assert!(leg.links.flows.contains(flow), "the leg knows its route");
        }
        let is_open = |key: &LegKey| self.legs.get(*key).is_some_and(|leg| !leg.is_closed());
        assert!(self.by_call_id.values().flatten().all(is_open), "only open legs are found by Call-ID");
        assert!(self.correlation.legs().all(|key| is_open(&key)), "only open legs are correlated");
        assert!(self.media.legs().all(|key| is_open(&key)), "only open legs get media");
        assert!(self.unresolved.iter().all(is_open), "a leg without a call of its own is open");
        assert!(self.referrals.iter().all(|r| self.calls.contains_key(r.conversation)), "a REFER names a live call");
    }
}
