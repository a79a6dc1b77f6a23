//! Routing of a flow: finds the leg to which its packets belong.

use std::cmp::Reverse;

use crate::call::engine::Engine;
use crate::call::keys::{CallKey, LegKey};
use crate::call::leg::Leg;
use crate::call::media_index::{FlowRoute, MediaReceiver, behind_nat64};
use crate::call::record::Side;
use crate::call::roles::CallRoles;
use crate::call::streams::RtpStream;
use crate::net::{Endpoint, Ssrc};
use crate::time::Timestamp;

/// Priority of a leg as the receiver of a flow. The fields are ordered by importance, and the leg with the greatest
/// value is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RoutePriority {
    /// Whether the leg was not over when the packet was sent, since a packet can be in transit when its leg ends.
    is_late: bool,
    /// Whether the leg announced both ends of the flow.
    announced_both: bool,
    /// Whether the leg received this stream before, although it does not announce the flow's other end any more.
    keeps_stream: bool,
    /// Capture time at which the call began. A newer call is preferred.
    created_at: Timestamp,
    /// Position of the leg in its call. An earlier leg is preferred.
    position: Reverse<usize>,
}

/// The end of a flow by which a leg is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KnownEnd {
    /// A leg is searched that receives media at the destination of the flow.
    Destination,
    /// A leg is searched that receives media at the source of the flow: symmetric RTP behind a NAT (RFC 4961).
    Source,
}

/// A search for the leg of a flow by one end of the flow.
#[derive(Clone, Copy, Debug)]
struct FlowQuery {
    flow: (Endpoint, Endpoint),
    ssrc: Ssrc,
    known: KnownEnd,
}

impl FlowQuery {
    /// Returns the end of the flow by which legs are searched.
    const fn near(&self) -> Endpoint {
        match self.known {
            KnownEnd::Destination => self.flow.1,
            KnownEnd::Source => self.flow.0,
        }
    }

    /// Returns the end of the flow opposite to the end by which legs are searched.
    const fn far(&self) -> Endpoint {
        match self.known {
            KnownEnd::Destination => self.flow.0,
            KnownEnd::Source => self.flow.1,
        }
    }

    /// Returns the side that sends the flow, if `receiver` receives at the near end.
    const fn sender(&self, receiver: Side) -> Side {
        match self.known {
            KnownEnd::Destination => receiver.other(),
            KnownEnd::Source => receiver,
        }
    }
}

impl Engine {
    /// Finds the leg to which a flow belongs, and the sending side.
    ///
    /// Packets to an announced address come from the other side of the leg. If no leg announced the destination,
    /// packets from an announced address come from the side that announced it (symmetric RTP behind a NAT, RFC 4961).
    /// After these, the presumed addresses are tried, then the IPv4 addresses within NAT64 addresses, and last the
    /// parties behind a NAT with an unknown media host.
    pub(super) fn resolve_route(&self, flow: (Endpoint, Endpoint), ssrc: Ssrc) -> Option<FlowRoute> {
        let queries = [KnownEnd::Destination, KnownEnd::Source].map(|known| FlowQuery { flow, ssrc, known });
        let announced = |query: &FlowQuery| self.best_route(self.table.media().announced().at(query.near()), query);
        let presumed = |query: &FlowQuery| {
            self.best_route(&self.open_receivers(self.table.media().presumed().at(query.near()), query), query)
        };
        let embedded = |query: &FlowQuery| {
            let inner = behind_nat64(query.near())?;
            self.best_route(self.table.media().announced().at(inner), query)
        };
        let unplaced = |query: &FlowQuery| {
            let key = query.far().with_port(query.near().port());
            self.best_route(&self.open_receivers(self.table.media().unplaced().at(key), query), query)
        };
        let [to, from] = &queries;
        announced(to)
            .or_else(|| announced(from))
            .or_else(|| presumed(to))
            .or_else(|| presumed(from))
            .or_else(|| embedded(to))
            .or_else(|| embedded(from))
            .or_else(|| unplaced(to))
            .or_else(|| unplaced(from))
    }

    /// Returns those receivers in `known` that may receive a flow at a presumed address. A side with media at an
    /// announced address is left out. Legs of several calls are returned only if the reverse flow or the host at the
    /// other end distinguishes them. Otherwise the flow could be given to a wrong call.
    fn open_receivers(&self, known: &[MediaReceiver], query: &FlowQuery) -> Vec<MediaReceiver> {
        let is_open = |r: &&MediaReceiver| self.table.leg(r.slot).is_some_and(|leg| !leg.is_heard_as_announced(r.side));
        let open: Vec<MediaReceiver> = known.iter().filter(is_open).copied().collect();
        if self.is_one_call(&open) {
            return open;
        }
        let reverse = self.table.route((query.flow.1, query.flow.0)).map(|route| route.slot);
        let is_party = |r: &&MediaReceiver| {
            reverse == Some(r.slot)
                || self.table.leg(r.slot).is_some_and(|leg| {
                    let party = leg.signaller(r.side.other());
                    party.same_host(query.far()) || leg.announced().iter().any(|e| e.same_host(query.far()))
                })
        };
        let told: Vec<MediaReceiver> = open.iter().filter(is_party).copied().collect();
        if self.is_one_call(&told) { told } else { Vec::new() }
    }

    /// Returns whether all receivers are legs of one call.
    fn is_one_call(&self, receivers: &[MediaReceiver]) -> bool {
        let mut calls = receivers.iter().filter_map(|r| self.table.leg(r.slot).map(|leg| leg.call()));
        let first = calls.next();
        calls.all(|call| Some(call) == first)
    }

    /// Returns the side that sends a flow to or from a receiver. If both sides of the leg announced the address, e.g. a
    /// multicast group, the side that signals from the sending host is the sender.
    fn sending_side(&self, receivers: &[MediaReceiver], receiver: MediaReceiver, query: &FlowQuery) -> Side {
        let both = receivers.iter().any(|r| r.slot == receiver.slot && r.side != receiver.side);
        let by_host = || self.table.leg(receiver.slot)?.side_of_host(query.flow.0);
        if both { by_host().unwrap_or_else(|| query.sender(receiver.side)) } else { query.sender(receiver.side) }
    }

    /// Returns the route with the highest priority among the receivers at one end of a flow.
    fn best_route(&self, receivers: &[MediaReceiver], query: &FlowQuery) -> Option<FlowRoute> {
        let candidates = || {
            receivers.iter().filter_map(|receiver| {
                let (conversation, rank) = self.route_priority(receiver.slot, query)?;
                let sender = self.sending_side(receivers, *receiver, query);
                Some((rank, conversation, FlowRoute { slot: receiver.slot, sender, stream: 0 }))
            })
        };
        let (rank, conversation, route) = candidates().max_by_key(|(rank, ..)| *rank)?;
        if receivers.len() == 1 {
            return Some(route);
        }
        // If media bypasses the PBX, several legs of a call announce the same address. Then the leg with the sound for
        // the recording comes first.
        let legs: Vec<&Leg> = self.table.legs_of(conversation).collect();
        let roles = CallRoles::from_legs(&legs, &self.site.plan)?;
        let caller_is_left = |slot: LegKey| self.table.leg(slot).is_none_or(|leg| roles.has_same_sides(leg));
        let as_heard = |r: &FlowRoute| if caller_is_left(r.slot) { r.sender } else { r.sender.other() };
        let same = candidates().filter(|(r, c, other)| {
            *c == conversation
                && (r.is_late, r.keeps_stream) == (rank.is_late, rank.keeps_stream)
                // When another leg takes over an address, late packets belong to the leg that received their stream
                // before.
                && (r.announced_both == rank.announced_both || !self.leg_has_heard(route.slot, query))
                && as_heard(other) == as_heard(&route)
        });
        let order = |r: &FlowRoute| self.table.leg(r.slot).map_or(usize::MAX, |leg| roles.render_rank(leg.id));
        same.map(|(.., route)| route).min_by_key(|r| (order(r), r.slot != route.slot))
    }

    /// Returns whether the leg has received this stream already.
    fn leg_has_heard(&self, slot: LegKey, query: &FlowQuery) -> bool {
        let is_it = |s: &RtpStream| s.ssrc == query.ssrc && (s.src == query.far() || s.dst == query.far());
        self.table.leg(slot).is_some_and(|leg| leg.media.streams().iter().any(is_it))
    }

    /// Returns the call of a leg that announces one end of a flow, and its priority. Returns `None` if the flow cannot
    /// belong to this leg.
    fn route_priority(&self, slot: LegKey, query: &FlowQuery) -> Option<(CallKey, RoutePriority)> {
        let leg = self.table.leg(slot)?;
        let conversation = self.table.call(leg.call())?;
        let known = self.leg_has_heard(slot, query);
        let ended = leg.dialog.ended();
        let is_late = known && ended.is_some_and(|(at, _)| self.clock.now.since(at) < LATE_MEDIA);
        if ended.is_some() && !is_late {
            return None;
        }
        let announced_both = leg.announced().contains(&query.far());
        let position = conversation.legs().iter().position(|s| *s == slot).unwrap_or(usize::MAX);
        let rank = RoutePriority {
            is_late,
            announced_both,
            keeps_stream: known && !announced_both,
            created_at: conversation.created_at,
            position: Reverse(position),
        };
        Some((leg.call(), rank))
    }
}

/// Time after the end of a leg during which its packets can still arrive. They must not count as media of the next call
/// on the same port.
const LATE_MEDIA: std::time::Duration = std::time::Duration::from_millis(200);
