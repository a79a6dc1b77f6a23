//! The media of a leg: its streams, and the times and codecs of their packets.

use crate::call::content::{SketchedVoice, VoiceSketch};
use crate::call::decision::OutlinePiece;
use crate::call::record::Side;
use crate::call::sound_outline::{RestOfSound, SoundOutline};
use crate::call::streams::{RtpStream, StreamCopies};
use crate::call::voice_prints::VoicePrints;
use crate::net::{Flow, Ssrc};
use crate::rtp::RtpPacket;
use crate::time::Timestamp;

/// Facts about a leg at the time when its voices were last compared with the voices of other legs. If one of these
/// facts changes, the voices must be compared again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WatchedState {
    /// Version of the negotiation, which grows with each SDP offer and answer.
    pub(crate) generation: u32,
    /// Whether the leg was answered when the comparison of its voices with other legs began.
    pub(crate) is_answered: bool,
}

/// A change of the codec that a side sends, or the first codec of a side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CodecChange {
    pub(crate) side: Side,
    /// Name of the side's previous codec; `None` for the first codec of the side.
    pub(crate) earlier: Option<String>,
    /// Name of the codec from now on.
    pub(crate) new: String,
}

/// The media of a leg: its RTP streams, with times and codecs.
#[derive(Debug, Default)]
pub(crate) struct LegMedia {
    streams: Vec<RtpStream>,
    last_codecs: [Option<String>; 2],
    first_at: Option<Timestamp>,
    last_at: Option<Timestamp>,
    refused_packets: u64,
    watched_state: Option<WatchedState>,
    missed_watch_at: Option<Timestamp>,
    voice_blocks: [u32; 2],
    /// Sketch of both voices: selected short pieces (blocks), from which the voice prints in the record are made.
    /// `None` before the first block.
    sketch: Option<Box<VoiceSketch>>,
    outline: Option<Box<SoundOutline>>,
    /// Loudness and pitch of the leg's sound since another leg of the call ended. `None` if no other leg has ended.
    rest: Option<Box<SoundOutline>>,
}

impl LegMedia {
    /// Returns the RTP streams of both sides of the leg, oldest first.
    pub(crate) fn streams(&self) -> &[RtpStream] {
        &self.streams
    }

    /// Returns the streams of both sides, mutable, oldest first.
    pub(crate) fn streams_mut(&mut self) -> &mut [RtpStream] {
        &mut self.streams
    }

    /// Adds a stream to the leg. Returns the index of the stream.
    pub(in crate::call) fn add_stream(&mut self, stream: RtpStream) -> usize {
        self.streams.push(stream);
        self.streams.len() - 1
    }

    /// Returns the capture time of the first packet; `None` before the first packet.
    pub(crate) const fn first_at(&self) -> Option<Timestamp> {
        self.first_at
    }

    /// Returns the capture time of the newest packet; `None` before the first.
    pub(crate) const fn last_at(&self) -> Option<Timestamp> {
        self.last_at
    }

    /// Restores the capture time of the newest packet from the spool of an earlier process.
    pub(crate) const fn restore_last_at(&mut self, at: Option<Timestamp>) {
        self.last_at = at;
    }

    /// Records the capture time of a packet of the leg. Returns whether it is earlier than the times of all packets
    /// before.
    #[inline]
    pub(crate) fn note_packet(&mut self, at: Timestamp) -> bool {
        self.last_at = Some(self.last_at.map_or(at, |last| last.max(at)));
        self.first_at.is_none_or(|first| at < first)
    }

    /// Sets the capture time of the leg's first packet to `at`, if `at` is earlier.
    pub(crate) fn note_first(&mut self, at: Timestamp) {
        self.first_at = Some(self.first_at.map_or(at, |first| first.min(at)));
    }

    /// Returns the number of packets that were refused because the leg had too many streams.
    pub(crate) const fn refused_packets(&self) -> u64 {
        self.refused_packets
    }

    /// Makes room for another SSRC on a flow: reuses the stream of this flow that has been without packets for the
    /// longest time. Returns the index of the stream; `None` if all streams have had packets recently.
    pub(crate) fn continue_resting(
        &mut self,
        flow: Flow,
        at: Timestamp,
        ssrc: Ssrc,
        copies: StreamCopies,
    ) -> Option<usize> {
        let streams = self.streams.iter_mut().enumerate();
        let resting = streams.filter(|(_, stream)| stream.gives_way(flow, at));
        let (index, stream) = resting.min_by_key(|(_, stream)| stream.active_until())?;
        stream.continue_as(ssrc, copies);
        Some(index)
    }

    /// Counts a packet that is not stored, because it would begin a stream and the leg has too many streams.
    pub(crate) const fn refuse_packet(&mut self) {
        self.refused_packets += 1;
    }

    /// Records the codec of a stream as the newest codec of its side. Returns the change if the side used another codec
    /// before.
    pub(crate) fn note_codec(&mut self, stream: usize) -> Option<CodecChange> {
        let stream = self.streams.get(stream)?;
        let known = &mut self.last_codecs[stream.side.channel()];
        let new = stream.voice().filter(|new| known.as_deref() != Some(*new))?.to_owned();
        Some(CodecChange { side: stream.side, earlier: known.replace(new.clone()), new })
    }

    /// Stores the facts with which a comparison of this leg's voices begins. Returns whether a fact has changed since
    /// the last comparison, so that the voices must be compared again.
    pub(crate) fn note_watched_state(&mut self, state: WatchedState) -> bool {
        self.watched_state.replace(state) != Some(state)
    }

    /// Returns whether the leg's voices were compared with the voices of other legs after the leg was answered.
    pub(crate) fn is_watched_as_answered(&self) -> bool {
        self.watched_state.is_some_and(|state| state.is_answered)
    }

    /// Stores how many short pieces (blocks) of each side's voice were compared with other legs.
    pub(crate) const fn note_voice_blocks(&mut self, blocks: [u32; 2]) {
        self.voice_blocks = blocks;
    }

    /// Returns how many short blocks of each side's voice were compared with other legs; 0 while the leg is open.
    pub(crate) const fn voice_blocks(&self) -> [u32; 2] {
        self.voice_blocks
    }

    /// Adds a voice packet of this side to the sketch, i.e. the selected blocks of both voices from which voice prints
    /// are made.
    pub(crate) fn sketch_payload(&mut self, side: Side, voice: SketchedVoice, payload: &[u8], at: Timestamp) {
        self.sketch.get_or_insert_default().handle_payload(side, voice, payload, at);
    }

    /// Returns the voice prints of both sides; empty if the leg has no sketch.
    pub(crate) fn voice_prints(&self) -> VoicePrints {
        self.sketch.as_ref().map(|sketch| sketch.prints()).unwrap_or_default()
    }

    /// Forgets the selected blocks of both voices (the sketch), because nothing of the leg's sound may be stored.
    pub(crate) fn forget_sketch(&mut self) {
        self.sketch = None;
    }

    /// Returns the outline of the leg's sound (loudness and pitch); `None` if nobody doubted that it is the sound of
    /// the call.
    pub(crate) fn outline(&self) -> Option<&SoundOutline> {
        self.outline.as_deref()
    }

    /// Begins to measure loudness and pitch of the leg's sound (its outline) in the next seconds.
    pub(crate) fn begin_outline(&mut self, at: Timestamp) {
        self.outline.get_or_insert_default().listen(at);
    }

    /// Adds the packets of further seconds to the outline of the leg's sound, if the leg has one. Only the newest of
    /// these seconds stay.
    pub(crate) fn follow_outline(&mut self, at: Timestamp) {
        if let Some(outline) = self.outline.as_deref_mut() {
            outline.follow(at);
        }
    }

    /// Keeps all measurements of the leg's loudness and pitch so far. Without this, measurements older than some
    /// seconds are dropped.
    pub(crate) fn keep_outline(&mut self) {
        if let Some(outline) = self.outline.as_deref_mut() {
            outline.keep();
        }
    }

    /// Begins to measure the sound of the leg after another leg of the call has ended. An earlier measurement, which
    /// compared the leg with other legs, stays as it is.
    pub(crate) fn begin_rest(&mut self, at: Timestamp) {
        self.rest.get_or_insert_default().listen(at);
    }

    /// Returns the kind of sound that the leg has from a given moment on. Sound that was not measured counts as speech.
    pub(crate) fn rest_since(&self, at: Timestamp) -> RestOfSound {
        let rest = self.rest.as_ref().zip(self.last_at);
        rest.map_or(RestOfSound::Speech, |(rest, last)| rest.rest_between(at, last))
    }

    /// Removes the outline of the leg's sound, i.e. its measured loudness and pitch.
    pub(crate) fn drop_outline(&mut self) {
        self.outline = None;
    }

    /// Returns whether the loudness and pitch of a packet with this capture time are to be added to the outline of the
    /// leg's sound.
    #[inline]
    pub(crate) fn is_outlined(&self, at: Timestamp) -> bool {
        let is_listening =
            |outline: &Option<Box<SoundOutline>>| outline.as_deref().is_some_and(|it| it.is_listening(at));
        is_listening(&self.outline) || is_listening(&self.rest)
    }

    /// Adds a packet of a stream to the outline of the leg's sound. Returns the newest seconds of the outline, if they
    /// are to be stored in the spool.
    pub(crate) fn outline_packet(
        &mut self,
        stream: usize,
        packet: &RtpPacket<'_>,
        at: Timestamp,
    ) -> Option<OutlinePiece> {
        let stream = self.streams.get(stream)?;
        for outline in self.outline.iter_mut().chain(&mut self.rest).filter(|outline| outline.is_listening(at)) {
            outline.add(stream.side, at, packet.payload, stream.linear_values());
        }
        self.outline.as_deref_mut()?.take_due_piece()
    }

    /// Returns the next seconds of the outline that were not returned before. Called until it returns `None`, at the
    /// end of the leg or of its measurement.
    pub(crate) fn take_last_outline(&mut self) -> Option<OutlinePiece> {
        self.outline.as_deref_mut()?.take_last_piece()
    }

    /// Adds seconds from the spool to the outline of the leg's sound, i.e. to its measured loudness and pitch.
    pub(crate) fn restore_outline(&mut self, piece: &OutlinePiece) {
        self.outline.get_or_insert_default().restore(piece);
    }

    /// Records that the voices of this leg should have been compared with other legs from this time on. This was not
    /// done, because spools (stored packets) were being read back after a restart.
    pub(crate) fn miss_watch(&mut self, at: Timestamp) {
        self.missed_watch_at = self.missed_watch_at.max(Some(at));
    }

    /// Returns and forgets the time from which the voices of this leg should have been compared with other legs. This
    /// was not done, because spools (stored packets) were being read back after a restart.
    pub(crate) const fn take_missed_watch(&mut self) -> Option<Timestamp> {
        self.missed_watch_at.take()
    }
}
