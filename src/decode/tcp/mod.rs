//! Reassembles the TCP streams that can carry SIP, within memory limits.
//!
//! Each direction of a connection is a stream of its own, because a mirror may show only one direction. The first bytes
//! of a stream show whether it is SIP (`classify`). If it is not, only this result is stored.
//!
//! A *hole* is a range of sequence numbers that was not captured, while later bytes were. If the receiver acknowledged
//! the bytes of a hole, the mirror lost them, and waiting for them ends soon. Otherwise the sender will retransmit
//! them.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use foldhash::fast::RandomState;

use super::counters::DecodeCounters;
use super::output::{DecodedItem, DecodedSink, TcpStreamChunk, TcpStreamEvent};
use crate::net::Endpoint;
use crate::time::Timestamp;
use classify::StreamClass;
pub(super) use classify::begins_message;
use reorder::{OrderedPiece, SegmentBytes, SegmentReorderer};

mod classify;
mod reorder;

/// Source and destination of one direction of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct TcpFlow {
    pub(super) src: Endpoint,
    pub(super) dst: Endpoint,
}

/// A TCP segment, i.e. a piece of one direction of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct TcpSegment<'a> {
    pub(super) at: Timestamp,
    pub(super) interface: u32,
    pub(super) flow: TcpFlow,
    pub(super) seq: u32,
    /// The acknowledgment number; `None` if the segment has none.
    pub(super) ack: Option<u32>,
    pub(super) flags: u8,
    pub(super) payload: &'a [u8],
    /// Number of bytes at the end of the payload that were on the wire but not captured.
    pub(super) missing: usize,
}

/// Memory limits of reassembly: number of streams and buffered bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct TcpLimits {
    pub(super) streams: usize,
    pub(super) bytes: usize,
}

/// Reassembles TCP streams, and stores a state for each stream, whether it is SIP or not.
#[derive(Debug)]
pub(super) struct TcpReassembler {
    bounds: TcpLimits,
    streams: HashMap<TcpFlow, TcpDirection, RandomState>,
    /// Queue of all streams: flow and creation number of each. The stream at the front is the next to be checked: it
    /// may be evicted, or expire after a silence.
    turns: VecDeque<(TcpFlow, u64)>,
    /// Flows of the streams with a hole (bytes that were not captured). A flow may occur twice, and some of the holes
    /// may be filled by now.
    holes: Vec<TcpFlow>,
    created: u64,
    bytes: usize,
}

#[derive(Debug)]
struct TcpDirection {
    number: u64,
    last: Timestamp,
    interface: u32,
    order: SegmentReorderer,
    phase: TcpStreamPhase,
    /// Sequence number after the last byte of the stream; `None` before a FIN was captured.
    fin: Option<u32>,
    /// Capture time at which the receiver acknowledged bytes of the hole (bytes that were not captured); `None` before
    /// that.
    confirmed: Option<Timestamp>,
}

#[derive(Debug)]
enum TcpStreamPhase {
    /// The bytes so far do not show yet whether the stream is SIP.
    Classifying { held: Vec<u8>, start: TcpStreamStart },
    /// The stream is SIP: its bytes are output.
    Followed,
    /// The stream is not SIP: its bytes are dropped.
    Ignored,
    /// The stream has ended. Its state is kept, so that retransmissions start no new stream.
    Closed,
}

/// Whether the SYN of a stream was captured, or the capture began later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TcpStreamStart {
    Syn,
    Middle,
}

impl TcpFlow {
    fn reversed(self) -> Self {
        Self { src: self.dst, dst: self.src }
    }
}

impl TcpReassembler {
    pub(super) fn new(bounds: TcpLimits) -> Self {
        Self { bounds, streams: HashMap::default(), turns: VecDeque::new(), holes: Vec::new(), created: 0, bytes: 0 }
    }

    /// Returns whether the bytes of this segment may be needed. If they are not needed, the check for duplicates can be
    /// skipped.
    pub(super) fn is_of_interest(&self, segment: &TcpSegment<'_>) -> bool {
        !segment.payload.is_empty()
            && self
                .streams
                .get(&segment.flow)
                .is_none_or(|s| !matches!(s.phase, TcpStreamPhase::Ignored | TcpStreamPhase::Closed))
    }

    /// Handles a segment: puts its bytes in order, and outputs them if the stream is SIP.
    pub(super) fn handle(&mut self, segment: &TcpSegment<'_>, c: &mut DecodeCounters, sink: &mut DecodedSink<'_>) {
        if segment.flags & RST != 0 {
            return self.reset(segment, sink);
        }
        if let Some(ack) = segment.ack {
            self.confirm(segment.flow.reversed(), ack, segment.at);
        }
        let is_new = self.begin_if_new(segment, c, sink);
        let Some(stream) = self.streams.get_mut(&segment.flow) else { return };
        stream.last = stream.last.max(segment.at);
        if is_new {
            stream.interface = segment.interface;
        }
        let before = stream.bytes();
        if matches!(stream.phase, TcpStreamPhase::Ignored) && classify::begins_message(segment.payload) {
            stream.order = SegmentReorderer::starting_at(segment.seq);
            stream.phase = TcpStreamPhase::Classifying { held: Vec::new(), start: TcpStreamStart::Middle };
        }
        let had_hole = stream.order.hole_since().is_some();
        let was_followed = matches!(stream.phase, TcpStreamPhase::Followed);
        stream.take(segment, c, sink);
        if self.bytes + stream.bytes() - before > self.bounds.bytes {
            stream.free_memory(segment.flow, c, sink);
        }
        if matches!(stream.phase, TcpStreamPhase::Ignored) {
            stream.order.drop_waiting();
        }
        self.bytes = self.bytes + stream.bytes() - before;
        if !had_hole && stream.order.hole_since().is_some() {
            self.holes.push(segment.flow);
        }
        if !was_followed && matches!(stream.phase, TcpStreamPhase::Followed) {
            self.follow(segment.flow.reversed(), segment.at, c, sink);
        }
    }

    /// Stops waiting for the bytes of old holes, which were not captured. Removes streams that have been silent for too
    /// long.
    pub(super) fn expire(&mut self, now: Timestamp, c: &mut DecodeCounters, sink: &mut DecodedSink<'_>) {
        self.holes.retain(|flow| {
            let Some(stream) = self.streams.get_mut(flow) else { return false };
            let Some(since) = stream.order.hole_since() else { return false };
            let confirmed = stream.confirmed.is_some_and(|at| now.since(at) >= CONFIRMED_HOLE_AGE);
            if !confirmed && now.since(since) < HOLE_AGE {
                return true;
            }
            let before = stream.bytes();
            stream.confirmed = None;
            stream.give_up_hole(*flow, c, sink);
            self.bytes = self.bytes + stream.bytes() - before;
            stream.order.hole_since().is_some()
        });
        for _ in 0..self.turns.len().min(TURNS_AT_ONCE) {
            let Some((flow, number)) = self.turns.pop_front() else { return };
            let Some(stream) = self.streams.get(&flow).filter(|s| s.number == number) else { continue };
            if now.since(stream.last) < stream.max_silence() {
                self.turns.push_back((flow, number));
            } else {
                self.forget(flow, now, sink);
            }
        }
    }

    /// Gives up all holes (bytes that were not captured) at the end of the capture, and outputs the bytes that wait
    /// behind them.
    pub(super) fn give_up_all_holes(&mut self, c: &mut DecodeCounters, sink: &mut DecodedSink<'_>) {
        for flow in std::mem::take(&mut self.holes) {
            let Some(stream) = self.streams.get_mut(&flow) else { continue };
            let before = stream.bytes();
            while stream.order.hole_since().is_some() {
                stream.give_up_hole(flow, c, sink);
            }
            self.bytes = self.bytes + stream.bytes() - before;
        }
    }

    /// Creates a stream at its SYN, or at its first bytes if the SYN was not captured. Returns whether it is new.
    fn begin_if_new(&mut self, segment: &TcpSegment<'_>, c: &mut DecodeCounters, sink: &mut DecodedSink<'_>) -> bool {
        let syn = segment.flags & SYN != 0;
        let first = if syn { segment.seq.wrapping_add(1) } else { segment.seq };
        if let Some(stream) = self.streams.get(&segment.flow) {
            // A second SYN is usually a retransmission and changes nothing. But if its sequence number differs, it
            // begins a new connection on the same ports.
            let is_other = syn && !stream.order.is_next(first) && (stream.is_over() || !stream.order.is_near(first));
            if !is_other {
                return false;
            }
            self.forget(segment.flow, segment.at, sink);
        } else if !syn && segment.payload.is_empty() {
            return false;
        }
        self.make_room(segment.at, c, sink);
        let start = if syn { TcpStreamStart::Syn } else { TcpStreamStart::Middle };
        let number = self.created;
        self.created += 1;
        self.turns.push_back((segment.flow, number));
        // After a stream was reset, its entry stays in the queue `turns`. A port scan must not make this queue long, so
        // entries of removed streams are dropped.
        if self.turns.len() > 2 * self.streams.len() + TURNS_AT_ONCE {
            let streams = &self.streams;
            self.turns.retain(|(flow, number)| {
                *number == self.created - 1 || streams.get(flow).is_some_and(|s| s.number == *number)
            });
        }
        let peer_is_sip =
            self.streams.get(&segment.flow.reversed()).is_some_and(|s| matches!(s.phase, TcpStreamPhase::Followed));
        let phase = if peer_is_sip {
            c.streams.followed += 1;
            TcpStreamPhase::Followed
        } else {
            TcpStreamPhase::Classifying { held: Vec::new(), start }
        };
        let order = SegmentReorderer::starting_at(first);
        let stream = TcpDirection {
            number,
            last: segment.at,
            interface: segment.interface,
            order,
            phase,
            fin: None,
            confirmed: None,
        };
        if peer_is_sip && start == TcpStreamStart::Middle {
            stream.emit(segment.flow, segment.at, TcpStreamEvent::Gap, sink);
        }
        self.streams.insert(segment.flow, stream);
        true
    }

    /// Evicts streams until there is room for another stream. SIP streams are evicted last.
    fn make_room(&mut self, now: Timestamp, c: &mut DecodeCounters, sink: &mut DecodedSink<'_>) {
        let mut spared = 0;
        while self.streams.len() >= self.bounds.streams {
            let Some((flow, number)) = self.turns.pop_front() else { return };
            let Some(stream) = self.streams.get(&flow).filter(|s| s.number == number) else { continue };
            if matches!(stream.phase, TcpStreamPhase::Followed) && spared < MAX_SPARED {
                spared += 1;
                self.turns.push_back((flow, number));
                continue;
            }
            c.streams.evicted += 1;
            self.forget(flow, now, sink);
        }
    }

    /// Treats a stream as SIP, because the other direction of its connection is SIP.
    fn follow(&mut self, flow: TcpFlow, at: Timestamp, c: &mut DecodeCounters, sink: &mut DecodedSink<'_>) {
        let Some(stream) = self.streams.get_mut(&flow) else { return };
        let before = stream.bytes();
        match std::mem::replace(&mut stream.phase, TcpStreamPhase::Followed) {
            TcpStreamPhase::Classifying { held, start } => {
                if start == TcpStreamStart::Middle {
                    stream.emit(flow, at, TcpStreamEvent::Gap, sink);
                }
                if !held.is_empty() {
                    stream.emit(flow, at, TcpStreamEvent::Data(&held), sink);
                }
                c.streams.followed += 1;
            }
            // For an ignored stream no sequence numbers are stored. So its state is removed, and the next segment
            // begins a new stream.
            TcpStreamPhase::Ignored => {
                stream.phase = TcpStreamPhase::Classifying { held: Vec::new(), start: TcpStreamStart::Middle };
                self.bytes = self.bytes + self.streams[&flow].bytes() - before;
                self.forget(flow, at, sink);
                return;
            }
            other => stream.phase = other,
        }
        self.bytes = self.bytes + stream.bytes() - before;
    }

    fn confirm(&mut self, flow: TcpFlow, ack: u32, at: Timestamp) {
        let Some(stream) = self.streams.get_mut(&flow) else { return };
        if stream.order.hole_since().is_some() && stream.order.is_confirmed_beyond(ack) {
            stream.confirmed.get_or_insert(at);
        }
    }

    /// Ends both directions on a reset with a plausible sequence number (RFC 9293 section 3.5.2).
    fn reset(&mut self, segment: &TcpSegment<'_>, sink: &mut DecodedSink<'_>) {
        let is_valid = self.streams.get(&segment.flow).is_none_or(|s| s.order.is_near(segment.seq));
        if is_valid {
            self.forget(segment.flow, segment.at, sink);
            self.forget(segment.flow.reversed(), segment.at, sink);
        }
    }

    fn forget(&mut self, flow: TcpFlow, at: Timestamp, sink: &mut DecodedSink<'_>) {
        let Some(stream) = self.streams.remove(&flow) else { return };
        self.bytes -= stream.bytes();
        if matches!(stream.phase, TcpStreamPhase::Followed) {
            stream.emit(flow, at, TcpStreamEvent::End, sink);
        }
    }
}

impl TcpDirection {
    /// Puts the bytes of a segment in order. Bytes without a hole (bytes that were not captured) before them are passed
    /// on, or used to classify the stream.
    fn take(&mut self, segment: &TcpSegment<'_>, c: &mut DecodeCounters, sink: &mut DecodedSink<'_>) {
        if matches!(self.phase, TcpStreamPhase::Ignored | TcpStreamPhase::Closed) {
            return;
        }
        let syn = u32::from(segment.flags & SYN != 0);
        let seq = segment.seq.wrapping_add(syn);
        if segment.flags & FIN != 0 && self.order.is_near(seq) {
            self.fin = Some(seq.wrapping_add((segment.payload.len() + segment.missing) as u32));
        }
        if !segment.payload.is_empty() || segment.missing > 0 {
            let bytes = SegmentBytes { at: segment.at, seq, bytes: segment.payload, missing: segment.missing };
            let Self { order, phase, interface, .. } = self;
            let to = CapturedFlow { flow: segment.flow, interface: *interface };
            let DecodeCounters { streams, .. } = c;
            let mut counts = ClassificationCounts::default();
            order.push(bytes, streams, &mut |piece| {
                phase.take(piece, to, &mut counts, sink);
            });
            counts.add_to(c);
        }
        self.end_if_finished(segment, sink);
    }

    fn end_if_finished(&mut self, segment: &TcpSegment<'_>, sink: &mut DecodedSink<'_>) {
        if !self.fin.is_some_and(|fin| self.order.is_next(fin)) {
            return;
        }
        if matches!(self.phase, TcpStreamPhase::Followed) {
            self.emit(segment.flow, segment.at, TcpStreamEvent::End, sink);
        }
        self.phase = TcpStreamPhase::Closed;
        self.order.drop_waiting();
    }

    fn give_up_hole(&mut self, flow: TcpFlow, c: &mut DecodeCounters, sink: &mut DecodedSink<'_>) {
        let Self { order, phase, interface, .. } = self;
        let to = CapturedFlow { flow, interface: *interface };
        let mut counts = ClassificationCounts::default();
        order.give_up_hole(&mut c.streams, &mut |piece| phase.take(piece, to, &mut counts, sink));
        counts.add_to(c);
    }

    /// Frees the buffers of a stream, because the memory limit is reached. All holes of the stream, i.e. bytes that
    /// were not captured, are given up. If its class is still unknown, the stream is ignored from now on.
    fn free_memory(&mut self, flow: TcpFlow, c: &mut DecodeCounters, sink: &mut DecodedSink<'_>) {
        while self.order.hole_since().is_some() {
            self.give_up_hole(flow, c, sink);
        }
        if matches!(&self.phase, TcpStreamPhase::Classifying { held, .. } if !held.is_empty()) {
            self.phase = TcpStreamPhase::Ignored;
            c.streams.ignored += 1;
        }
    }

    fn emit(&self, flow: TcpFlow, at: Timestamp, event: TcpStreamEvent<'_>, sink: &mut DecodedSink<'_>) {
        CapturedFlow { flow, interface: self.interface }.emit(at, event, sink);
    }

    fn bytes(&self) -> usize {
        let held = if let TcpStreamPhase::Classifying { held, .. } = &self.phase { held.capacity() } else { 0 };
        held + self.order.waiting_bytes()
    }

    fn is_over(&self) -> bool {
        self.fin.is_some() || matches!(self.phase, TcpStreamPhase::Closed | TcpStreamPhase::Ignored)
    }

    fn max_silence(&self) -> Duration {
        if matches!(self.phase, TcpStreamPhase::Followed) { FOLLOWED_SILENCE } else { OTHER_SILENCE }
    }
}

/// Numbers of the streams that were classified while one segment was handled, by class. They are added to the decoder's
/// counters afterwards.
#[derive(Debug, Default)]
struct ClassificationCounts {
    followed: u64,
    ignored: u64,
    tls: u64,
    sips: u64,
    rtp: u64,
}

impl ClassificationCounts {
    fn add_to(&self, c: &mut DecodeCounters) {
        c.streams.followed += self.followed;
        c.streams.ignored += self.ignored;
        c.streams.tls += self.tls;
        c.streams.sips += self.sips;
        c.streams.rtp += self.rtp;
    }
}

impl TcpStreamPhase {
    /// Handles bytes that are in order. If the stream is known to be SIP, outputs them; otherwise first classifies the
    /// stream.
    fn take(
        &mut self,
        piece: OrderedPiece<'_>,
        to: CapturedFlow,
        counts: &mut ClassificationCounts,
        sink: &mut DecodedSink<'_>,
    ) {
        match (&mut *self, piece) {
            (Self::Followed, OrderedPiece::Data(at, bytes)) => to.emit(at, TcpStreamEvent::Data(bytes), sink),
            (Self::Followed, OrderedPiece::Gap(at)) => to.emit(at, TcpStreamEvent::Gap, sink),
            (Self::Classifying { held, start }, OrderedPiece::Gap(_)) => {
                held.clear();
                *start = TcpStreamStart::Middle;
            }
            (Self::Classifying { held, start }, OrderedPiece::Data(at, bytes)) => {
                let start = *start;
                let from = held.len();
                if from > 0 {
                    held.extend_from_slice(bytes);
                }
                let data = if from > 0 { &held[..] } else { bytes };
                let class = match start {
                    TcpStreamStart::Syn => classify::classify_start(data),
                    TcpStreamStart::Middle => classify::classify_middle(data, from),
                };
                match class {
                    StreamClass::Sip => {
                        if start == TcpStreamStart::Middle {
                            to.emit(at, TcpStreamEvent::Gap, sink);
                        }
                        // If the SYN was captured, the bytes held so far begin with a message, so all bytes are passed
                        // on together. Otherwise a message may begin at the start of the newest segment, so its bytes
                        // are passed on separately.
                        if from > 0 && start == TcpStreamStart::Middle {
                            to.emit(at, TcpStreamEvent::Data(&held[..from]), sink);
                            to.emit(at, TcpStreamEvent::Data(bytes), sink);
                        } else {
                            to.emit(at, TcpStreamEvent::Data(data), sink);
                        }
                        counts.followed += 1;
                        *self = Self::Followed;
                    }
                    StreamClass::Undecided if data.len() <= classify::MAX_UNDECIDED_BYTES => {
                        if from == 0 {
                            held.extend_from_slice(bytes);
                        }
                    }
                    other => {
                        let is_tls = other == StreamClass::Tls;
                        let sips = to.flow.src.port() == SIPS_PORT || to.flow.dst.port() == SIPS_PORT;
                        counts.ignored += 1;
                        counts.tls += u64::from(is_tls);
                        counts.rtp += u64::from(other == StreamClass::Rtp);
                        counts.sips += u64::from(is_tls && sips);
                        *self = Self::Ignored;
                    }
                }
            }
            (Self::Ignored | Self::Closed, _) => {}
        }
    }
}

/// A flow (source and destination), and the network interface that captured its packets.
#[derive(Clone, Copy, Debug)]
struct CapturedFlow {
    flow: TcpFlow,
    interface: u32,
}

impl CapturedFlow {
    fn emit(self, at: Timestamp, event: TcpStreamEvent<'_>, sink: &mut DecodedSink<'_>) {
        let Self { flow, interface } = self;
        sink(DecodedItem::Stream(TcpStreamChunk { at, src: flow.src, dst: flow.dst, event, interface }));
    }
}

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
pub(super) const ACK: u8 = 16;
/// TCP port of SIP over TLS (RFC 3261 section 19.1.2).
const SIPS_PORT: u16 = 5061;
/// Age at which a hole (bytes that were not captured) is given up if the receiver has acknowledged its bytes. Only
/// frames that come late from another interface can still fill it.
const CONFIRMED_HOLE_AGE: Duration = Duration::from_millis(100);
/// Age at which a hole (bytes that were not captured) is given up if the receiver has not acknowledged it. The first
/// retransmission follows after 0.2 to 1 s, the second after three times as long (RFC 6298).
const HOLE_AGE: Duration = Duration::from_secs(3);
/// Silence after which a SIP stream is removed. It is longer than the interval of keep-alives (RFC 5626: 120 s) and of
/// most registrations.
const FOLLOWED_SILENCE: Duration = Duration::from_secs(3600);
/// Time without segments after which a stream that is not SIP is removed. If it continues later, it is classified
/// again.
const OTHER_SILENCE: Duration = Duration::from_secs(60);
/// Number of streams that one search for silent streams checks. There are ten searches a second, so a full table is
/// checked within a minute.
const TURNS_AT_ONCE: usize = 256;
/// Maximum number of SIP streams that are skipped when the table is full and another stream must be removed. SIP
/// streams are removed last, but the search must not take long.
const MAX_SPARED: usize = 64;

#[cfg(test)]
mod tests;
