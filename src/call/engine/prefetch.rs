//! Loads the state of calls into the cache of the processor before their packets are handled.

use std::hint::black_box;

use crate::call::engine::Engine;
use crate::call::event::LegSink;
use crate::net::Flow;

impl Engine {
    /// Returns whether there are so many flows that their state does not stay in the cache of the processor.
    pub(crate) fn has_many_flows(&self) -> bool {
        self.table.flow_count() >= MANY_FLOWS
    }

    /// Reads the state that packets of these flows need, so that the processor loads it into its cache. Changes
    /// nothing.
    ///
    /// The reads of all flows are done step by step: first all routes, then all legs, then all streams. The reads of
    /// one step do not depend on each other, so the processor does them at the same time.
    pub(crate) fn prefetch<const N: usize>(&self, flows: &[Option<Flow>; N], sink: &mut dyn LegSink) {
        let routes = flows.map(|flow| self.table.route(flow?));
        let legs = routes.map(|route| route.and_then(|route| self.table.leg(route.slot)));
        for leg in legs.iter().flatten() {
            black_box((leg.id, leg.dialog.ended(), leg.dialog.negotiation.generation(), leg.spool.is_open()));
            black_box((leg.pause.is_known, leg.media.streams().len()));
        }
        let streams = || {
            routes.iter().zip(legs).filter_map(|(route, leg)| leg?.media.streams().get(usize::from((*route)?.stream)))
        };
        streams().for_each(|stream| stream.prefetch());
        streams().for_each(|stream| stream.prefetch_format());
        legs.iter().flatten().for_each(|leg| sink.prefetch(leg.id));
    }
}

/// Number of flows from which on their state is loaded before it is needed. The state of fewer flows stays in the cache.
const MANY_FLOWS: usize = 64;
