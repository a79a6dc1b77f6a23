//! The media of a leg: its streams, and the times and codecs of their packets.

use crate::call::record::Side;
use crate::call::streams::{RtpStream, StreamCopies};
use crate::net::{Endpoint, Ssrc};
use crate::time::Timestamp;

/// The media of a leg.
#[derive(Debug, Default)]
pub(crate) struct LegMedia {
    streams: Vec<RtpStream>,
    last_codecs: [Option<String>; 2],
    first_at: Option<Timestamp>,
    last_at: Option<Timestamp>,
    refused_packets: u64,
    watched_state: Option<(u32, bool)>,
    missed_watch_at: Option<Timestamp>,
}

impl LegMedia {
    /// Returns the streams of both sides, oldest first.
    pub(crate) fn streams(&self) -> &[RtpStream] {
        &self.streams
    }

    /// Returns the streams of both sides, to be changed.
    pub(crate) fn streams_mut(&mut self) -> &mut [RtpStream] {
        &mut self.streams
    }

    /// Adds a stream. Returns its index.
    pub(in crate::call) fn add_stream(&mut self, stream: RtpStream) -> usize {
        self.streams.push(stream);
        self.streams.len() - 1
    }

    /// Returns the capture time of the first packet.
    pub(crate) const fn first_at(&self) -> Option<Timestamp> {
        self.first_at
    }

    /// Returns the capture time of the newest packet.
    pub(crate) const fn last_at(&self) -> Option<Timestamp> {
        self.last_at
    }

    /// Sets the time of the newest packet, as an earlier process knew it.
    pub(crate) const fn restore_last_at(&mut self, at: Option<Timestamp>) {
        self.last_at = at;
    }

    /// Records the time of a packet. Returns whether it is earlier than all packets before.
    #[inline]
    pub(crate) fn note_packet(&mut self, at: Timestamp) -> bool {
        self.last_at = Some(self.last_at.map_or(at, |last| last.max(at)));
        self.first_at.is_none_or(|first| at < first)
    }

    /// Moves the time of the first packet back to `at`.
    pub(crate) fn note_first(&mut self, at: Timestamp) {
        self.first_at = Some(self.first_at.map_or(at, |first| first.min(at)));
    }

    /// Returns the number of packets of streams that were refused, because the leg had too many.
    pub(crate) const fn refused_packets(&self) -> u64 {
        self.refused_packets
    }

    /// Continues the stream of a flow that rests longest as the stream of another source. Returns its index, or `None` if no
    /// stream rests.
    pub(crate) fn continue_resting(
        &mut self,
        flow: (Endpoint, Endpoint),
        at: Timestamp,
        ssrc: Ssrc,
        copies: StreamCopies,
    ) -> Option<usize> {
        let streams = self.streams.iter_mut().enumerate();
        let resting = streams.filter(|(_, stream)| stream.gives_way(flow, at));
        let (index, stream) = resting.min_by_key(|(_, stream)| stream.last_at())?;
        stream.continue_as(ssrc, copies);
        Some(index)
    }

    /// Counts a packet of a stream that is refused.
    pub(crate) const fn refuse_packet(&mut self) {
        self.refused_packets += 1;
    }

    /// Records the codec of a stream as the last one of its side. Returns the side, the earlier codec and the new one,
    /// if they differ.
    pub(crate) fn note_codec(&mut self, stream: usize) -> Option<(Side, Option<String>, String)> {
        let stream = self.streams.get(stream)?;
        let known = &mut self.last_codecs[stream.side.channel()];
        let new = stream.voice().filter(|new| known.as_deref() != Some(*new))?.to_owned();
        Some((stream.side, known.replace(new.clone()), new))
    }

    /// Records the state in which the voices are watched: the generation (version) of the negotiation, and whether the
    /// leg is answered. Returns whether this state differs from the last one.
    pub(crate) fn note_watched_state(&mut self, state: (u32, bool)) -> bool {
        self.watched_state.replace(state) != Some(state)
    }

    /// Records that a watch on the voices was due while the packets were not there.
    pub(crate) fn miss_watch(&mut self, at: Timestamp) {
        self.missed_watch_at = self.missed_watch_at.max(Some(at));
    }

    /// Returns and forgets the time of the newest watch that was due while the packets were not there.
    pub(crate) const fn take_missed_watch(&mut self) -> Option<Timestamp> {
        self.missed_watch_at.take()
    }
}
