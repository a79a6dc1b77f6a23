//! The media path: routes each RTP packet to its leg. A packet of a known flow costs one look-up and no allocation.

use std::cmp::Reverse;

use crate::call::config::RecordingStart;
use crate::call::decision::Decision;
use crate::call::dialog::{AnswerEvidence, DialogState};
use crate::call::engine::{Engine, StreamRef};
use crate::call::event::{KeptBytes, LegSink};
use crate::call::keys::{CallKey, LegKey};
use crate::call::leg::Leg;
use crate::call::media_index::{FlowRoute, MediaReceiver, behind_nat64};
use crate::call::negotiation::AudioLineUse;
use crate::call::record::{EventKind, ProblemKind, Side};
use crate::call::roles::CallRoles;
use crate::call::streams::{CodecContinuity, PacketOutcome, RtpStream, StreamCopies};
use crate::decode::UdpDatagram;
use crate::net::{Endpoint, Ssrc};
use crate::rtp::{self, MediaPacketKind, RtpPacket, RtpParseError};
use crate::time::Timestamp;

/// Priority of a leg as the receiver of a flow. The fields are ordered by weight, and the greatest value wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RoutePriority {
    /// The packet was already in transit when the leg ended.
    is_late: bool,
    /// The leg announced both ends of the flow.
    announced_both: bool,
    /// The leg received this stream before, but does not announce the flow's other end any more.
    keeps_stream: bool,
    /// Time at which the call began: a newer call wins.
    created_at: Timestamp,
    /// Position of the leg in its call: an earlier leg wins.
    position: Reverse<usize>,
}

/// The end of a flow at which a leg is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KnownEnd {
    /// The leg receives media at the destination.
    Destination,
    /// The leg receives media at the source: symmetric RTP behind a NAT (RFC 4961).
    Source,
}

/// A flow without a known leg, as seen from one of its ends.
#[derive(Clone, Copy, Debug)]
struct FlowQuery {
    flow: (Endpoint, Endpoint),
    ssrc: Ssrc,
    known: KnownEnd,
}

impl FlowQuery {
    /// Returns the end of the flow at which legs are looked up.
    const fn near(&self) -> Endpoint {
        match self.known {
            KnownEnd::Destination => self.flow.1,
            KnownEnd::Source => self.flow.0,
        }
    }

    /// Returns the other end of the flow.
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
    /// Handles an RTP packet: passes it to its leg, or stores it as early media.
    pub(super) fn handle_rtp(&mut self, datagram: &UdpDatagram<'_>, sink: &mut dyn LegSink) {
        let Ok(packet) = read_packet(datagram) else {
            self.counters.rtp_broken += 1;
            return;
        };
        let flow = (datagram.src, datagram.dst);
        let route = match self.table.route(flow) {
            Some(route) => route,
            None => match self.resolve_route(flow, packet.ssrc) {
                Some(route) => self.cache_route(flow, route),
                None => match self.resolve_resumed(flow, datagram, packet.ssrc, sink) {
                    Some(route) => self.cache_route(flow, route),
                    None => {
                        self.counters.rtp_unclaimed += 1;
                        self.kept.early_media.handle_packet(datagram);
                        self.counters.rtp_not_kept = self.kept.early_media.dropped();
                        return;
                    }
                },
            },
        };
        self.deliver_packet(route, datagram, &packet, sink);
    }

    /// Returns the route of a packet that makes a timed-out dialog a leg again.
    fn resolve_resumed(
        &mut self,
        flow: (Endpoint, Endpoint),
        datagram: &UdpDatagram<'_>,
        ssrc: Ssrc,
        sink: &mut dyn LegSink,
    ) -> Option<FlowRoute> {
        self.resume_by_media(datagram, sink).then(|| self.resolve_route(flow, ssrc))?
    }

    /// Handles a ZRTP message. After the Confirm messages both ends have keys (RFC 6189 section 3.1). Later packets are
    /// SRTP, with the same SSRCs and payload types.
    pub(super) fn handle_zrtp(&mut self, datagram: &UdpDatagram<'_>) {
        let confirms = datagram.payload.get(16..24).is_some_and(|kind| ZRTP_CONFIRMS.contains(&kind));
        let flow = (datagram.src, datagram.dst);
        let route = self.table.route(flow).or_else(|| self.resolve_route(flow, Ssrc::default()));
        if confirms && let Some(leg) = route.and_then(|r| self.table.leg_mut(r.slot)) {
            leg.dialog.negotiation.note_zrtp();
        }
    }

    /// Routes the stored early media that came to or from newly announced addresses.
    pub(super) fn deliver_early_media(&mut self, endpoints: &[Endpoint], sink: &mut dyn LegSink) {
        if !endpoints.iter().any(|endpoint| self.kept.early_media.may_hold(*endpoint)) {
            return;
        }
        // The buffer is moved out of the engine for this loop, because routing its packets borrows the whole engine.
        let mut early = std::mem::replace(&mut self.kept.early_media, crate::call::early_media::EarlyMedia::new(0));
        early.take_matching(endpoints, self.clock.now, &mut |datagram| {
            let Ok(packet) = read_packet(datagram) else { return true };
            let flow = (datagram.src, datagram.dst);
            let known = self.table.route(flow);
            let Some(route) = known.or_else(|| self.resolve_route(flow, packet.ssrc)) else { return false };
            if rtp::classify(datagram.payload) == MediaPacketKind::Rtcp && !self.is_marked_rtp(route, datagram, &packet)
            {
                return true;
            }
            let route = self.cache_route(flow, route);
            self.deliver_packet(route, datagram, &packet, sink);
            true
        });
        self.kept.early_media = early;
    }

    /// Caches the route of a flow and returns it.
    fn cache_route(&mut self, flow: (Endpoint, Endpoint), route: FlowRoute) -> FlowRoute {
        self.table.add_route(flow, route);
        route
    }

    /// Finds the leg to which a flow belongs, and the sending side.
    ///
    /// Packets to an announced address come from the other side of the leg. Failing that, packets from an announced
    /// address come from the side that announced it (symmetric RTP behind a NAT, RFC 4961). After these, the presumed
    /// addresses are tried, then the IPv4 addresses within NAT64 addresses, and last the parties behind a NAT with an
    /// unknown media host.
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

    /// Returns the receivers among `known` that presumably receive a flow. A side with media at an announced address is
    /// left out. Legs of several calls are returned only if the reverse flow or the host at the other end distinguishes
    /// them: doubt never joins.
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
        // If media bypasses the PBX, several legs of a call announce the same address. The flow then belongs to the leg
        // that is rendered first.
        let legs: Vec<&Leg> = self.table.legs_of(conversation).collect();
        let roles = CallRoles::from_legs(&legs, &self.site.plan)?;
        let caller_is_left = |slot: LegKey| self.table.leg(slot).is_none_or(|leg| roles.has_same_sides(leg));
        let as_heard = |r: &FlowRoute| if caller_is_left(r.slot) { r.sender } else { r.sender.other() };
        let same = candidates().filter(|(r, c, other)| {
            *c == conversation
                && (r.is_late, r.keeps_stream) == (rank.is_late, rank.keeps_stream)
                // When another leg takes over an address, late packets stay with the leg that received their stream.
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

    /// Returns the call and the priority of a leg that announces one end of a flow. Returns `None` if the flow cannot
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

    /// Passes a packet to a stream of its leg, and to the spool.
    fn deliver_packet(
        &mut self,
        route: FlowRoute,
        datagram: &UdpDatagram<'_>,
        packet: &RtpPacket<'_>,
        sink: &mut dyn LegSink,
    ) {
        let Some(leg) = self.table.leg(route.slot) else { return };
        if leg.dialog.ended().is_some_and(|(at, _)| datagram.at >= at) {
            self.counters.rtp_after_end += 1;
            return;
        }
        let flow = (datagram.src, datagram.dst);
        let is_it = |s: &RtpStream| s.is_stream(flow, packet.ssrc);
        let streams = leg.media.streams();
        let known = streams.get(route.stream).is_some_and(is_it);
        let index = if known { Some(route.stream) } else { streams.iter().rposition(is_it) };
        let is_new = index.is_none();
        let copies = match index.and_then(|index| streams.get(index)) {
            Some(stream) => stream.copies,
            None => self.copies_of_new_stream(route, datagram, packet.ssrc),
        };
        if self.is_copy(route.slot, copies, datagram, packet) {
            self.counters.rtp_duplicates += 1;
            return;
        }
        let index = index.or_else(|| self.begin_stream(route, datagram, packet.ssrc, copies));
        let Some(index) = index else { return };
        if !known {
            self.table.set_route_stream(flow, index);
        }
        let Some(leg) = self.table.leg_mut(route.slot) else { return };
        let stream = &mut leg.media.streams_mut()[index];
        if self.earlier.restore.is_reading() {
            stream.accept_gap();
        }
        let watch = stream.watch.filter(|watch| watch.pt == packet.pt);
        let heard = stream.handle_packet(datagram.at, packet, &leg.dialog.negotiation);
        let PacketOutcome::Packet { secret, news } = heard else {
            self.counters.rtp_duplicates += 1;
            return;
        };
        self.counters.rtp_packets += 1;
        // The spool stores only the header of a DTMF packet. When such a packet is read back, the capture did not
        // truncate it.
        if !secret && (datagram.payload.len() as u64) < u64::from(datagram.wire_len) {
            stream.count_cut();
        }
        let first = leg.media.note_packet(datagram.at);
        if first || is_new || news {
            self.handle_stream_change(StreamRef { slot: route.slot, index }, datagram.at, is_new, sink);
        }
        if secret {
            self.handle_key_packet(StreamRef { slot: route.slot, index }, packet, datagram.at, sink);
        }
        let Some(leg) = self.table.leg(route.slot) else { return };
        let paused =
            leg.pause.is_known && self.table.call(leg.call()).is_some_and(|call| call.pauses.covers(datagram.at));
        if leg.spool.is_open() {
            let keep = if secret || paused { KeptBytes::Header(header_bytes(packet)) } else { KeptBytes::Whole };
            sink.packet(leg.id, datagram, keep);
        }
        if self.settings.measures_levels
            && !secret
            && !paused
            && let Some(leg) = self.table.leg_mut(route.slot)
        {
            leg.streams[index].measure(datagram.at, packet.payload);
        }
        if let Some(watch) = watch.filter(|_| !secret && !paused) {
            self.handle_content(StreamRef { slot: route.slot, index }, watch, packet, datagram.at, sink);
        }
    }

    /// Returns the streams that may have the same packets as a stream that begins.
    #[cold]
    fn copies_of_new_stream(&self, route: FlowRoute, datagram: &UdpDatagram<'_>, ssrc: Ssrc) -> StreamCopies {
        let previous = self.previous_receiver(route.slot, (datagram.src, datagram.dst), ssrc);
        let streams = self.table.leg(route.slot).map_or(&[][..], |leg| leg.media.streams());
        StreamCopies {
            taken_over: previous.map(|slot| (slot, datagram.at + DUPLICATE_WINDOW)),
            twin: streams.iter().position(|s| s.ssrc == ssrc && s.sender == route.sender),
        }
    }

    /// Returns whether the leg that had the stream before, or the twin of the stream, already has this packet.
    #[inline]
    fn is_copy(&self, slot: LegKey, copies: StreamCopies, datagram: &UdpDatagram<'_>, packet: &RtpPacket<'_>) -> bool {
        let before = copies.taken_over.filter(|(_, until)| datagram.at < *until);
        if before.is_some_and(|(leg, _)| self.is_duplicate_of_previous(leg, (datagram.src, datagram.dst), packet)) {
            return true;
        }
        let Some(twin) = copies.twin else { return false };
        let twin = self.table.leg(slot).and_then(|leg| leg.media.streams().get(twin));
        twin.is_some_and(|twin| twin.has_packet(packet))
    }

    /// Begins a stream of a leg. Returns its index, or `None` if there are too many streams.
    #[cold]
    fn begin_stream(
        &mut self,
        route: FlowRoute,
        datagram: &UdpDatagram<'_>,
        ssrc: Ssrc,
        copies: StreamCopies,
    ) -> Option<usize> {
        let has_room = self.table.stream_count() < self.settings.limits.rtp_streams;
        let flow = (datagram.src, datagram.dst);
        let (leg, call) = self.table.leg_and_call_mut(route.slot)?;
        if leg.media.streams().len() >= MAX_STREAMS || !has_room {
            self.counters.rtp_refused += 1;
            leg.media.refuse_packet();
            return None;
        }
        if leg.has_moved(flow.0, route.sender) {
            leg.dialog.note_event(datagram.at, EventKind::MediaMove, Some(route.sender));
        }
        let mut stream = RtpStream::new(flow, ssrc, route.sender);
        stream.copies = copies;
        match leg.dialog.negotiation.line_use(route.sender, flow) {
            AudioLineUse::Voice => {}
            AudioLineUse::OtherParty => stream.side = route.sender.other(),
            AudioLineUse::Further => {
                stream.is_further = true;
                // Alone it is the voice of its side, as it would be on the first m-line.
                if leg.media.streams().iter().any(|s| s.sender == route.sender) {
                    call.notes.note_problem(ProblemKind::SecondAudioLine);
                }
            }
        }
        stream.announced = [flow.0, flow.1].map(|end| leg.announced().contains(&end));
        self.table.add_stream(route.slot, stream)
    }

    /// Returns the leg of the same call that received a stream until now, if any.
    fn previous_receiver(&self, slot: LegKey, flow: (Endpoint, Endpoint), ssrc: Ssrc) -> Option<LegKey> {
        let call = self.table.call(self.table.leg(slot)?.call())?;
        let heard = |other: &LegKey| {
            self.table.leg(*other).is_some_and(|l| l.media.streams().iter().any(|s| s.is_stream(flow, ssrc)))
        };
        call.legs().iter().copied().find(|other| *other != slot && heard(other))
    }

    /// Returns whether the previous receiver of a stream already has this packet.
    fn is_duplicate_of_previous(&self, slot: LegKey, flow: (Endpoint, Endpoint), packet: &RtpPacket<'_>) -> bool {
        let stream =
            self.table.leg(slot).and_then(|leg| leg.media.streams().iter().find(|s| s.is_stream(flow, packet.ssrc)));
        stream.is_some_and(|stream| stream.has_packet(packet))
    }

    /// Handles the rare changes on the media path: first packet, new stream, new meaning of a payload type. `is_new` says
    /// whether the stream was created for this packet.
    fn handle_stream_change(
        &mut self,
        StreamRef { slot, index: stream }: StreamRef,
        at: Timestamp,
        is_new: bool,
        sink: &mut dyn LegSink,
    ) {
        let start = self.settings.config.start;
        let Some(leg) = self.table.leg_mut(slot) else { return };
        leg.media.note_first(at);
        // Media after an ACK shows that the INVITE was answered by a 2xx that the mirror port did not show.
        if leg.dialog.state() == DialogState::Inviting
            && let Some(acked) = leg.dialog.acked_at()
        {
            leg.dialog.presume_answer(acked, AnswerEvidence::Ack);
        }
        let changed = update_codec(leg, stream, at);
        self.watch_stream(StreamRef { slot, index: stream });
        let Some(leg) = self.table.leg_mut(slot) else { return };
        let index = u32::try_from(stream).unwrap_or(u32::MAX);
        if leg.spool.is_open() {
            let stream = &mut leg.media.streams_mut()[stream];
            // The time is set back, because older packets of the stream may be captured later.
            let at = if is_new || stream.is_new_payload_type() { at.offset(-DISORDER_NS) } else { at };
            if is_new {
                let (src, dst, ssrc, side) = (stream.src, stream.dst, stream.ssrc, stream.side);
                sink.decide(leg.id, at, &Decision::Stream { stream: index, src, dst, ssrc, side });
                if stream.is_further {
                    sink.decide(leg.id, at, &Decision::FurtherLine { stream: index });
                }
            }
            let news = stream.take_update(&leg.dialog.negotiation, changed, at);
            let payloads_at = news.payloads_since.map_or(at, |since| since.offset(-DISORDER_NS).min(at));
            for (pt, format) in news.payloads {
                sink.decide(leg.id, payloads_at, &Decision::Payload { stream: index, pt, format });
            }
            if let Some((security, since)) = news.security {
                sink.decide(leg.id, since, &security.decision(index));
            }
        }
        let (is_answered, rings) = (leg.dialog.answered.is_some(), leg.dialog.state() == DialogState::Inviting);
        if start == RecordingStart::Media || is_answered {
            self.write_start(slot, sink);
        }
        if rings {
            self.rearm_leg_timer(slot); // media of both sides shortens the time-out
        }
        if is_new && is_answered {
            self.contest_older_legs(slot);
        }
    }
}

/// Parses an RTP packet, even if the capture truncated it or the spool stored only its header.
pub(super) fn read_packet<'a>(datagram: &UdpDatagram<'a>) -> Result<RtpPacket<'a>, RtpParseError> {
    if (datagram.payload.len() as u64) < u64::from(datagram.wire_len) {
        return RtpPacket::parse_cut(datagram.payload);
    }
    match RtpPacket::parse(datagram.payload) {
        // SRTP hides the padding length, and some devices set the bit without padding.
        Err(RtpParseError::Padding) => RtpPacket::parse_cut(datagram.payload),
        parsed => parsed,
    }
}

/// Updates the codec of the stream's side, and records an event if the codec differs from the last codec.
fn update_codec(leg: &mut Leg, stream: usize, at: Timestamp) -> CodecContinuity {
    let Some((side, old, new)) = leg.media.note_codec(stream) else { return CodecContinuity::AsBefore };
    if let Some(old) = old {
        leg.dialog.note_event_with_detail(at, EventKind::CodecChange, Some(side), Some(format!("{old} to {new}")));
    }
    CodecContinuity::Changed
}

/// Returns the length of the RTP header in bytes, CSRCs and extension included. Of a packet with a secret payload only
/// this header is stored.
fn header_bytes(packet: &RtpPacket<'_>) -> u16 {
    u16::try_from(packet.header_len).unwrap_or(u16::MAX)
}

/// ZRTP message types that confirm the keys (RFC 6189 sections 5.7 and 5.8).
const ZRTP_CONFIRMS: [&[u8]; 3] = [b"Confirm1", b"Confirm2", b"Conf2ACK"];
/// Largest disorder between two capture interfaces, in ns.
const DISORDER_NS: i64 = 100_000_000;
/// Time within which all copies of a packet arrive, from two interfaces with some disorder.
const DUPLICATE_WINDOW: std::time::Duration = std::time::Duration::from_millis(200);
/// Most streams of one leg: announcements with a new SSRC each, for hours. A stream takes 1.5 kB.
const MAX_STREAMS: usize = 4_096;
/// Time after the end of a leg in which its packets may still arrive. Such packets must not count as media of the next
/// call on the same port.
const LATE_MEDIA: std::time::Duration = std::time::Duration::from_millis(200);
