//! Handling of the packets of a leg: passes each packet to its stream and to the spool. A packet of a known flow costs
//! one look-up and no allocation.

use crate::call::config::RecordingStart;
use crate::call::decision::Decision;
use crate::call::dialog::{AnswerEvidence, DialogState};
use crate::call::engine::{Engine, StreamRef};
use crate::call::event::{KeptBytes, LegSink};
use crate::call::keys::LegKey;
use crate::call::leg::Leg;
use crate::call::media_index::FlowRoute;
use crate::call::negotiation::AudioLineUse;
use crate::call::record::{EventKind, ProblemKind};
use crate::call::streams::{CodecContinuity, PacketOutcome, RtpStream, StreamCopies};
use crate::decode::UdpDatagram;
use crate::net::{Endpoint, Flow, Ssrc};
use crate::rtp;
use crate::rtp::{MediaPacketKind, RtpPacket, RtpParseError};
use crate::time::Timestamp;

impl Engine {
    /// Passes stored packets from or to newly announced addresses to their legs.
    pub(super) fn deliver_early_media(&mut self, endpoints: &[Endpoint], sink: &mut dyn LegSink) {
        if !endpoints.iter().any(|endpoint| self.kept.early_media.may_hold(*endpoint)) {
            return;
        }
        // The stored packets are taken out of the engine, because routing a packet borrows the whole engine.
        let mut early = std::mem::replace(&mut self.kept.early_media, crate::call::early_media::EarlyMedia::new(0));
        early.take_matching(endpoints, self.clock.now, &mut |datagram| {
            let Ok(packet) = read_packet(datagram) else { return true };
            let flow = datagram.flow();
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

    /// Stores and returns the leg and stream of a flow, so that later packets of the flow need no search.
    pub(super) fn cache_route(&mut self, flow: Flow, route: FlowRoute) -> FlowRoute {
        self.table.add_route(flow, route);
        route
    }

    /// Passes a packet to a stream of its leg, and to the spool file of the leg.
    pub(super) fn deliver_packet(
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
        let flow = datagram.flow();
        let is_it = |s: &RtpStream| s.is_stream(flow, packet.ssrc);
        let streams = leg.media.streams();
        let expected = usize::from(route.stream);
        let known = streams.get(expected).is_some_and(is_it);
        let index = if known { Some(expected) } else { streams.iter().rposition(is_it) };
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
        let sketched = stream.sketched(packet.pt);
        let heard = stream.handle_packet(datagram.at, packet, &leg.dialog.negotiation);
        let PacketOutcome::Packet { secret, news } = heard else {
            self.counters.rtp_duplicates += 1;
            return;
        };
        self.counters.rtp_packets += 1;
        // A packet with DTMF does not count as truncated. After a restart it is read from the spool, which has only its
        // header.
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
        let is_outlined = !secret && !paused && leg.media.is_outlined(datagram.at);
        if leg.spool.is_open() {
            let keep = if secret || paused { KeptBytes::Header(header_bytes(packet)) } else { KeptBytes::Whole };
            sink.packet(leg.id, datagram, keep);
        }
        if self.settings.measures_levels
            && !secret
            && !paused
            && leg.media.streams()[index].is_level_due(datagram.at)
            && let Some(leg) = self.table.leg_mut(route.slot)
        {
            leg.media.streams_mut()[index].measure(datagram.at, packet.payload);
        }
        if secret || paused {
            return;
        }
        if let Some(voice) = sketched {
            self.sketch_packet(StreamRef { slot: route.slot, index }, voice, packet, datagram.at);
        }
        if is_outlined {
            self.outline_packet(StreamRef { slot: route.slot, index }, packet, datagram.at, sink);
        }
        if let Some(watch) = watch {
            self.handle_content(StreamRef { slot: route.slot, index }, watch, packet, datagram.at, sink);
        }
    }

    /// Returns the streams in which packets of a new stream may already have been handled. They are the stream of the
    /// leg that had this flow before, and a stream of this leg with the same SSRC.
    #[cold]
    fn copies_of_new_stream(&self, route: FlowRoute, datagram: &UdpDatagram<'_>, ssrc: Ssrc) -> StreamCopies {
        let previous = self.previous_receiver(route.slot, datagram.flow(), ssrc);
        let streams = self.table.leg(route.slot).map_or(&[][..], |leg| leg.media.streams());
        StreamCopies {
            taken_over: previous.map(|slot| (slot, datagram.at + DUPLICATE_WINDOW)),
            twin: streams.iter().position(|s| s.ssrc == ssrc && s.sender == route.sender),
        }
    }

    /// Returns whether this packet was already handled in another stream. That stream belongs to the leg that had this
    /// flow before, or it is a stream of this leg with the same SSRC.
    #[inline]
    fn is_copy(&self, slot: LegKey, copies: StreamCopies, datagram: &UdpDatagram<'_>, packet: &RtpPacket<'_>) -> bool {
        let before = copies.taken_over.filter(|(_, until)| datagram.at < *until);
        if before.is_some_and(|(leg, _)| self.is_duplicate_of_previous(leg, datagram.flow(), packet)) {
            return true;
        }
        let Some(twin) = copies.twin else { return false };
        let twin = self.table.leg(slot).and_then(|leg| leg.media.streams().get(twin));
        // The earlier stream may have been reused for another SSRC in the meantime. So it is compared only if it still
        // has the SSRC of this packet.
        twin.is_some_and(|twin| twin.ssrc == packet.ssrc && twin.has_packet(packet))
    }

    /// Begins a new stream of a leg. Returns its index.
    ///
    /// If there are too many streams, a stream of this flow without recent packets is reused. Returns `None` if there
    /// is no such stream.
    #[cold]
    fn begin_stream(
        &mut self,
        route: FlowRoute,
        datagram: &UdpDatagram<'_>,
        ssrc: Ssrc,
        copies: StreamCopies,
    ) -> Option<usize> {
        let has_room = self.table.stream_count() < self.settings.limits.rtp_streams;
        let flow = datagram.flow();
        let (leg, call) = self.table.leg_and_call_mut(route.slot)?;
        if leg.media.streams().len() >= MAX_STREAMS || !has_room {
            let resting = leg.media.continue_resting(flow, datagram.at, ssrc, copies);
            if resting.is_none() {
                self.counters.rtp_refused += 1;
                leg.media.refuse_packet();
            }
            return resting;
        }
        let mut stream = RtpStream::new(flow, ssrc, route.sender);
        stream.copies = copies;
        if leg.has_moved(flow.src, route.sender) {
            leg.dialog.note_event(datagram.at, EventKind::MediaMove, Some(route.sender));
            stream.beginning.moved_at = Some(datagram.at);
        }
        match leg.dialog.negotiation.line_use(route.sender, flow) {
            AudioLineUse::Voice => {}
            AudioLineUse::OtherParty => stream.side = route.sender.other(),
            AudioLineUse::Further { line } => {
                stream.line = line;
                // If the side sends no other stream, the new stream is its only voice. Then no problem is recorded,
                // although the stream is not on the first m-line.
                if leg.media.streams().iter().any(|s| s.sender == route.sender) {
                    call.notes.note_problem(ProblemKind::SecondAudioLine);
                }
            }
        }
        stream.beginning.announced = [flow.src, flow.dst].map(|end| leg.announced().contains(&end));
        self.table.add_stream(route.slot, stream)
    }

    /// Returns the leg of the same call that received this stream until now; `None` if there is none.
    fn previous_receiver(&self, slot: LegKey, flow: Flow, ssrc: Ssrc) -> Option<LegKey> {
        let call = self.table.call(self.table.leg(slot)?.call())?;
        let heard = |other: &LegKey| {
            self.table.leg(*other).is_some_and(|l| l.media.streams().iter().any(|s| s.is_stream(flow, ssrc)))
        };
        call.legs().iter().copied().find(|other| *other != slot && heard(other))
    }

    /// Returns whether the leg that received a stream before this leg already has the packet.
    fn is_duplicate_of_previous(&self, slot: LegKey, flow: Flow, packet: &RtpPacket<'_>) -> bool {
        let stream =
            self.table.leg(slot).and_then(|leg| leg.media.streams().iter().find(|s| s.is_stream(flow, packet.ssrc)));
        stream.is_some_and(|stream| stream.has_packet(packet))
    }

    /// Handles changes that most packets do not bring: the first packet of a leg, a new stream, or a new meaning of a
    /// payload type. `is_new` is true if the stream begins with this packet.
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
        let changed = update_codec(leg, stream, at);
        self.note_lost_answer(slot);
        if is_new {
            self.watch_new_stream(StreamRef { slot, index: stream });
        } else {
            self.watch_stream(StreamRef { slot, index: stream }, self.clock.now);
        }
        let Some(leg) = self.table.leg_mut(slot) else { return };
        let index = u32::try_from(stream).unwrap_or(u32::MAX);
        if leg.spool.is_open() {
            let stream = &mut leg.media.streams_mut()[stream];
            // Older packets of the stream may still be captured after this packet. So the decision gets an earlier
            // time, by the greatest disorder of packets.
            let at = if is_new || stream.is_new_payload_type() { at.offset(-DISORDER_NS) } else { at };
            if is_new {
                let (src, dst, ssrc, side) = (stream.src, stream.dst, stream.ssrc, stream.side);
                sink.decide(leg.id, at, &Decision::Stream { stream: index, src, dst, ssrc, side });
                stream.origin(index).into_iter().for_each(|origin| sink.decide(leg.id, at, &origin));
                if stream.line > 0 {
                    sink.decide(leg.id, at, &Decision::FurtherLine { stream: index, line: stream.line });
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
            if let Some(is_superseded) = news.is_superseded {
                sink.decide(leg.id, at, &Decision::Superseded { stream: index, is_superseded });
            }
            if news.made_detour {
                sink.decide(leg.id, at, &Decision::Detour { stream: index });
            }
        }
        let (is_answered, rings) = (leg.dialog.answered.is_some(), leg.dialog.state() == DialogState::Inviting);
        if start == RecordingStart::Media || is_answered {
            self.write_start(slot, sink);
        }
        if rings {
            self.rearm_leg_timer(slot); // media of both sides shortens the timeout
        }
        if is_new && is_answered {
            self.contest_older_legs(slot);
        }
    }

    /// Marks a leg as answered if an ACK was captured and then media: the mirror port has lost the 2xx response. If the
    /// ACK is lost, too, begins to measure the sound, because media of both sides may still show a conversation.
    fn note_lost_answer(&mut self, slot: LegKey) {
        let Some(leg) = self.table.leg_mut(slot) else { return };
        if leg.dialog.state() == DialogState::Inviting
            && let Some(acked) = leg.dialog.acked_at()
        {
            leg.dialog.presume_answer(acked, AnswerEvidence::Ack);
            self.watch_changed_leg(slot);
        }
        self.outline_unanswered_leg(slot);
    }
}

/// Parses an RTP packet, even if the capture truncated it or the spool stored only its header.
pub(super) fn read_packet<'a>(datagram: &UdpDatagram<'a>) -> Result<RtpPacket<'a>, RtpParseError> {
    if (datagram.payload.len() as u64) < u64::from(datagram.wire_len) {
        return RtpPacket::parse_cut(datagram.payload);
    }
    match RtpPacket::parse(datagram.payload) {
        // SRTP hides the length of the padding, and some devices set the padding bit although there is no padding. So
        // an invalid padding is ignored.
        Err(RtpParseError::Padding) => RtpPacket::parse_cut(datagram.payload),
        parsed => parsed,
    }
}

/// Updates the codec of the stream's side, and records an event if the codec has changed.
fn update_codec(leg: &mut Leg, stream: usize, at: Timestamp) -> CodecContinuity {
    let Some(change) = leg.media.note_codec(stream) else { return CodecContinuity::AsBefore };
    if let Some(earlier) = change.earlier {
        let detail = format!("{earlier} to {}", change.new);
        leg.dialog.note_event_with_detail(at, EventKind::CodecChange, Some(change.side), Some(detail));
    }
    CodecContinuity::Changed
}

/// Returns the length of the RTP header in bytes, with CSRCs and extension. Of a packet with DTMF digits only the
/// header is stored.
fn header_bytes(packet: &RtpPacket<'_>) -> u16 {
    u16::try_from(packet.header_len).unwrap_or(u16::MAX)
}

/// Maximum time by which the packets of two capture interfaces are out of order, ns. Each interface has its own buffer
/// in the kernel.
const DISORDER_NS: i64 = 100_000_000;
/// Maximum time between two copies of a packet that two capture interfaces deliver. It is longer than their maximum
/// disorder.
const DUPLICATE_WINDOW: std::time::Duration = std::time::Duration::from_millis(200);
/// Maximum number of streams of a leg. It is enough for hours of announcements, each with its own SSRC, and limits the
/// memory that one leg can take.
const MAX_STREAMS: usize = 4_096;
