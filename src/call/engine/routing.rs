//! Routing of RTP: finds the leg to which the packets of a flow belong.

use std::cmp::Reverse;

use crate::call::engine::Engine;
use crate::call::keys::{CallKey, LegKey};
use crate::call::leg::Leg;
use crate::call::media_index::{FlowRoute, MediaReceiver, StreamIndex, behind_nat64};
use crate::call::record::Side;
use crate::call::roles::CallRoles;
use crate::call::streams::RtpStream;
use crate::net::{Endpoint, Flow, Ssrc};
use crate::time::Timestamp;

/// Priority of a leg in the choice of the leg to which a flow belongs. The fields are compared in this order, and the
/// leg with the greatest value is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RoutePriority {
    /// Whether the leg received this stream and has just ended. The last packets of the stream may still be in transit.
    is_late: bool,
    /// Whether the leg announced both endpoints of the flow.
    announced_both: bool,
    /// Whether the leg has already received this stream, although it does not (or no longer) announce the endpoint at
    /// the other end of the flow.
    keeps_stream: bool,
    /// Capture time at which the call began. The newest call is preferred.
    created_at: Timestamp,
    /// Position of the leg in its call, oldest leg first. If all other fields are equal, the oldest leg gets the flow.
    position: Reverse<usize>,
}

/// The endpoint of a flow, destination or source, by which the leg is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KnownEnd {
    /// The destination of the packets is an address at which a leg receives media.
    Destination,
    /// The source of the packets is an address at which a leg receives media, as with symmetric RTP behind a NAT (RFC
    /// 4961).
    Source,
}

/// A search for the leg to which a flow belongs. It begins at one endpoint of the flow.
#[derive(Clone, Copy, Debug)]
struct FlowQuery {
    flow: Flow,
    ssrc: Ssrc,
    known: KnownEnd,
}

impl FlowQuery {
    /// Returns the endpoint of the flow by which the leg is searched (the *near end*).
    const fn near(&self) -> Endpoint {
        match self.known {
            KnownEnd::Destination => self.flow.dst,
            KnownEnd::Source => self.flow.src,
        }
    }

    /// Returns the other endpoint of the flow (the *far end*).
    const fn far(&self) -> Endpoint {
        match self.known {
            KnownEnd::Destination => self.flow.src,
            KnownEnd::Source => self.flow.dst,
        }
    }

    /// Returns the side that sends the flow, if the side `receiver` announced the endpoint by which the leg is
    /// searched.
    const fn sender(&self, receiver: Side) -> Side {
        match self.known {
            KnownEnd::Destination => receiver.other(),
            KnownEnd::Source => receiver,
        }
    }
}

impl Engine {
    /// Finds the leg to which a flow belongs, and the side that sends the flow. The following addresses are tried in
    /// this order, each first as the destination and then as the source of the flow:
    ///
    /// 1. An address that a leg announced. As the source, this is symmetric RTP behind a NAT (RFC 4961).
    /// 2. An address that is presumed: the host that sends the SIP of a side, with the port that the side announced.
    /// 3. An announced IPv4 address that is part of a NAT64 address.
    /// 4. The announced port of a side behind a NAT, if the other endpoint of the flow is the SIP host of the other
    ///    side.
    /// 5. An address that a stream with the same SSRC has used on a leg. The stream goes on after the other party has
    ///    moved its media, and the mirror has missed the message about it.
    /// 6. As the destination: an address that nobody announced, from which a side sends. The other side answers the
    ///    packets that it receives (symmetric RTP, RFC 4961), from another address than it announced.
    pub(super) fn resolve_route(&self, flow: Flow, ssrc: Ssrc) -> Option<FlowRoute> {
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
        let heard = |query: &FlowQuery| {
            let known = self.table.media().heard().at(query.near()).iter();
            let continued: Vec<MediaReceiver> = known.filter(|r| self.has_stream_at(r.slot, query)).copied().collect();
            if self.is_one_call(&continued) { self.best_route(&continued, query) } else { None }
        };
        let answered = |query: &FlowQuery| {
            let known = self.table.media().heard().at(query.near());
            let senders: Vec<MediaReceiver> = known.iter().filter(|r| self.sends_from(r, query)).copied().collect();
            if self.is_one_call(&senders) { self.best_route(&senders, query) } else { None }
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
            .or_else(|| heard(to))
            .or_else(|| heard(from))
            .or_else(|| answered(to))
    }

    /// Returns the sides of legs in `known` to which a flow may belong. A side that already has media at an announced
    /// address is left out.
    ///
    /// If legs of several calls remain, only two kinds of them count. Either the leg already has the reverse flow, or
    /// the host of the flow's other endpoint takes part in the leg. If even these belong to several calls, nothing is
    /// returned, because the flow could be given to the wrong call.
    fn open_receivers(&self, known: &[MediaReceiver], query: &FlowQuery) -> Vec<MediaReceiver> {
        let is_open = |r: &&MediaReceiver| self.table.leg(r.slot).is_some_and(|leg| !leg.is_heard_as_announced(r.side));
        let open: Vec<MediaReceiver> = known.iter().filter(is_open).copied().collect();
        if self.is_one_call(&open) {
            return open;
        }
        let reverse = self.table.route(query.flow.reversed()).map(|route| route.slot);
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

    /// Returns whether the legs of all these receivers belong to one call.
    fn is_one_call(&self, receivers: &[MediaReceiver]) -> bool {
        let mut calls = receivers.iter().filter_map(|r| self.table.leg(r.slot).map(|leg| leg.call()));
        let first = calls.next();
        calls.all(|call| Some(call) == first)
    }

    /// Returns the side that sends a flow. Both sides may have announced the endpoint by which the leg was found, e.g.
    /// a multicast group. Then the side that sends its SIP from the source host of the flow is returned.
    fn sending_side(&self, receivers: &[MediaReceiver], receiver: MediaReceiver, query: &FlowQuery) -> Side {
        let both = receivers.iter().any(|r| r.slot == receiver.slot && r.side != receiver.side);
        let by_host = || self.table.leg(receiver.slot)?.side_of_host(query.flow.src);
        if both { by_host().unwrap_or_else(|| query.sender(receiver.side)) } else { query.sender(receiver.side) }
    }

    /// Returns the route to the leg with the highest priority among `receivers`.
    fn best_route(&self, receivers: &[MediaReceiver], query: &FlowQuery) -> Option<FlowRoute> {
        let candidates = || {
            receivers.iter().filter_map(|receiver| {
                let (conversation, rank) = self.route_priority(receiver.slot, query)?;
                let sender = self.sending_side(receivers, *receiver, query);
                Some((rank, conversation, FlowRoute { slot: receiver.slot, sender, stream: StreamIndex::default() }))
            })
        };
        let (rank, conversation, route) = candidates().max_by_key(|(rank, ..)| *rank)?;
        if receivers.len() == 1 {
            return Some(route);
        }
        // If media bypasses the PBX, several legs of a call announce the same address. Then the leg that supplies the
        // sound of the recording is preferred.
        let legs: Vec<&Leg> = self.table.legs_of(conversation).collect();
        let roles = CallRoles::from_legs(&legs, &self.site.plan)?;
        let caller_is_left = |slot: LegKey| self.table.leg(slot).is_none_or(|leg| roles.has_same_sides(leg));
        let as_heard = |r: &FlowRoute| if caller_is_left(r.slot) { r.sender } else { r.sender.other() };
        let same = candidates().filter(|(r, c, other)| {
            *c == conversation
                && (r.is_late, r.keeps_stream) == (rank.is_late, rank.keeps_stream)
                // When another leg takes over an address, late packets still belong to the leg that received their
                // stream before.
                && (r.announced_both == rank.announced_both || !self.leg_has_heard(route.slot, query))
                && as_heard(other) == as_heard(&route)
        });
        let order = |r: &FlowRoute| self.table.leg(r.slot).map_or(usize::MAX, |leg| roles.render_rank(leg.id));
        same.map(|(.., route)| route).min_by_key(|r| (order(r), r.slot != route.slot))
    }

    /// Returns whether the leg has already received this stream.
    fn leg_has_heard(&self, slot: LegKey, query: &FlowQuery) -> bool {
        let is_it = |s: &RtpStream| s.ssrc == query.ssrc && (s.src == query.far() || s.dst == query.far());
        self.table.leg(slot).is_some_and(|leg| leg.media.streams().iter().any(is_it))
    }

    /// Returns whether a stream of the leg has the SSRC and the *near end* of the flow. The near end is the endpoint by
    /// which the leg is searched. Its role, source or destination, must be the same in the stream and the flow.
    fn has_stream_at(&self, slot: LegKey, query: &FlowQuery) -> bool {
        let end = |s: &RtpStream| if query.known == KnownEnd::Source { s.src } else { s.dst };
        let is_it = |s: &RtpStream| s.ssrc == query.ssrc && end(s) == query.near();
        self.table.leg(slot).is_some_and(|leg| leg.media.streams().iter().any(is_it))
    }

    /// Returns whether a side of a leg sends media from the destination of the flow, while the leg has no media of the
    /// other side.
    fn sends_from(&self, receiver: &MediaReceiver, query: &FlowQuery) -> bool {
        let is_sent_from = |s: &RtpStream| s.sender == receiver.side && s.src == query.near();
        self.table.leg(receiver.slot).is_some_and(|leg| {
            let streams = leg.media.streams();
            streams.iter().any(is_sent_from)
                && streams.iter().all(|s| s.sender == receiver.side || s.src == query.far())
        })
    }

    /// Returns the call of a leg, and the leg's priority in the choice of the leg to which a flow belongs. Returns
    /// `None` if the leg is over.
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

/// Time after the end of a leg during which its last packets may arrive. They must not count as media of the next call
/// at the same port.
const LATE_MEDIA: std::time::Duration = std::time::Duration::from_millis(200);
