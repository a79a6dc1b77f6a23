//! The media addresses and flows of legs: which leg receives media at an address, and to which leg a flow belongs.

use crate::call::call_table::CallTable;
use crate::call::keys::LegKey;
use crate::call::media_index::{FlowRoute, MediaReceiver};
use crate::call::record::Side;
use crate::call::streams::RtpStream;
use crate::net::{Endpoint, Flow};

impl CallTable {
    /// Puts the announced media addresses of an open leg into the media index. Other legs lose their routes to these
    /// addresses. Returns the addresses; `None` if the negotiation has not changed.
    pub(crate) fn announce(&mut self, leg: LegKey) -> Option<Vec<Endpoint>> {
        let found = self.legs.get(leg).filter(|leg| !leg.is_closed())?;
        let generation = Some(found.dialog.negotiation.generation());
        if found.links.generation == generation {
            return None;
        }
        let claims = found.dialog.negotiation.claims();
        let presumed = found.presumed_addresses(&claims);
        let unplaced = found.unplaced_receivers(&claims);
        self.unannounce(leg);
        for &(endpoint, side) in &claims {
            self.unroute_others(endpoint, leg);
            self.media.announced_mut().add(endpoint, MediaReceiver { slot: leg, side });
        }
        for &(endpoint, side) in &presumed {
            self.media.presumed_mut().add(endpoint, MediaReceiver { slot: leg, side });
        }
        for &(key, side) in &unplaced {
            self.media.unplaced_mut().add(key, MediaReceiver { slot: leg, side });
        }
        self.unroute(leg);
        let endpoints = |claims: &[(Endpoint, Side)]| claims.iter().map(|(endpoint, _)| *endpoint).collect::<Vec<_>>();
        let found = self.legs.get_mut(leg)?;
        found.links.generation = generation;
        found.links.announced = endpoints(&claims);
        found.links.presumed = endpoints(&presumed);
        found.links.unplaced = endpoints(&unplaced);
        Some([found.links.announced.as_slice(), &found.links.presumed].concat())
    }

    fn unroute_others(&mut self, endpoint: Endpoint, leg: LegKey) {
        let others = self.media.announced().at(endpoint).iter().map(|r| r.slot).filter(|other| *other != leg);
        for other in others.collect::<Vec<_>>() {
            self.unroute(other);
        }
    }

    /// Removes all addresses of a leg from the media index.
    pub(super) fn remove_media(&mut self, leg: LegKey) {
        self.unannounce(leg);
        let Some(found) = self.legs.get_mut(leg) else { return };
        for endpoint in std::mem::take(&mut found.links.heard) {
            self.media.heard_mut().remove(endpoint, leg);
        }
    }

    /// Removes all addresses of a leg from the media index, except addresses that only its streams have used.
    fn unannounce(&mut self, leg: LegKey) {
        let Some(found) = self.legs.get_mut(leg) else { return };
        for endpoint in std::mem::take(&mut found.links.announced) {
            self.media.announced_mut().remove(endpoint, leg);
        }
        for endpoint in std::mem::take(&mut found.links.presumed) {
            self.media.presumed_mut().remove(endpoint, leg);
        }
        for key in std::mem::take(&mut found.links.unplaced) {
            self.media.unplaced_mut().remove(key, leg);
        }
    }

    /// Routes a flow to a leg. Does nothing if the flow has a route, or if the leg has too many routes or has ended.
    ///
    /// A late packet of an ended leg must not create a route, because the next call may use the same ports.
    pub(crate) fn add_route(&mut self, flow: Flow, route: FlowRoute) {
        if let Some(leg) = self.legs.get_mut(route.slot)
            && leg.dialog.ended().is_none()
            && leg.links.flows.len() < MAX_FLOWS
            && !self.flows.contains_key(&flow)
        {
            leg.links.flows.push(flow);
            self.flows.insert(flow, route);
        }
    }

    /// Routes a flow to a leg. An older route of the flow is replaced.
    pub(crate) fn replace_route(&mut self, flow: Flow, route: FlowRoute) {
        if let Some(former) = self.flows.remove(&flow)
            && let Some(leg) = self.legs.get_mut(former.slot)
        {
            leg.links.flows.retain(|known| *known != flow);
        }
        self.add_route(flow, route);
    }

    /// Stores the stream to which the last packet of a flow belonged, because the next packet probably belongs to it
    /// too.
    pub(crate) fn set_route_stream(&mut self, flow: Flow, stream: usize) {
        if let Some(route) = self.flows.get_mut(&flow) {
            route.stream = stream.into();
        }
    }

    /// Removes all routes to a leg, so that its flows can be routed to other legs.
    pub(crate) fn unroute(&mut self, leg: LegKey) {
        if let Some(leg) = self.legs.get_mut(leg) {
            for flow in leg.links.flows.drain(..) {
                self.flows.remove(&flow);
            }
        }
    }

    /// Adds a stream to a leg. Returns the index of the stream in the leg; `None` if the leg was removed.
    ///
    /// Endpoints of the stream that nobody announced are added to the media index.
    pub(crate) fn add_stream(&mut self, slot: LegKey, stream: RtpStream) -> Option<usize> {
        let leg = self.legs.get_mut(slot)?;
        self.streams += 1;
        for side in [Side::Caller, Side::Callee] {
            let end = stream.end_of(side);
            let is_open = !leg.is_closed() && leg.links.heard.len() < MAX_HEARD;
            if is_open && !end.was_announced && !leg.links.heard.contains(&end.endpoint) {
                leg.links.heard.push(end.endpoint);
                self.media.heard_mut().add(end.endpoint, MediaReceiver { slot, side });
            }
        }
        Some(leg.media.add_stream(stream))
    }
}

/// Maximum number of flows that are routed to one leg. Further flows get no route, so the leg must be searched for each
/// of their packets.
const MAX_FLOWS: usize = 64;
/// Maximum number of endpoints of a leg that are in the media index although nobody announced them. A NAT rarely gives
/// a telephone a second port within a call.
pub(super) const MAX_HEARD: usize = 8;
