//! Content evidence: compares the voices of live legs byte by byte. Equal bytes prove that a machine passes the voice
//! from one leg to another (a *relay*).
//!
//! A *watch* is the comparison of one stream with others, for about four seconds of voice.

use std::time::Duration;

use crate::call::content::{
    ContentFindings, ContentIndex, ProvenRelay, SketchedVoice, StreamEnds, StreamWatch, USUAL_WATCH,
};
use crate::call::decision::Decision;
use crate::call::engine::{Engine, StreamRef};
use crate::call::event::LegSink;
use crate::call::keys::{CallKey, LegKey};
use crate::call::leg::Leg;
use crate::call::leg_media::WatchedState;
use crate::net::Endpoint;
use crate::rtp::RtpPacket;
use crate::time::Timestamp;

/// Compares the voices of all live calls byte by byte, to find legs with the same sound.
#[derive(Debug, Default)]
pub(super) struct ContentEvidence {
    index: ContentIndex,
    /// Capture time at which voices are compared again. The comparison is repeated for legs that are alone in their
    /// calls, and for calls with a leg that only numbers joined.
    listen_at: Timestamp,
}

impl ContentEvidence {
    /// Ends the comparison of a leg's voices, and removes the stored hashes of its voices. The leg keeps the number of
    /// pieces of voice that were compared.
    pub(super) fn forget_leg(&mut self, leg: &mut Leg) {
        leg.media.note_voice_blocks(self.index.voice_blocks(leg.id));
        self.index.forget_leg(leg.id);
        leg.media.streams_mut().iter_mut().for_each(|stream| stream.watch = None);
    }

    /// Returns the number of streams with a voice that is being compared with the voice of other streams.
    pub(super) fn watched_streams(&self) -> usize {
        self.index.sizes().0
    }

    /// Returns the number of pairs of legs that have had equal pieces of voice.
    pub(super) fn pairs(&self) -> usize {
        self.index.sizes().1
    }
}

impl Engine {
    /// Begins to compare the voices of a leg with the voices of other legs, if it was answered or its media has
    /// changed. After an answer, begins this for all legs of the call, because each of them may carry the same sound.
    pub(super) fn watch_changed_leg(&mut self, slot: LegKey) {
        let Some(leg) = self.table.leg_mut(slot) else { return };
        let (generation, is_answered) = (leg.dialog.negotiation.generation(), leg.dialog.answered.is_some());
        let state = WatchedState { generation, is_answered };
        let was_answered = leg.media.is_watched_as_answered();
        let call = leg.call();
        if !leg.media.note_watched_state(state) {
            return;
        }
        if is_answered && !was_answered {
            self.watch_call(call);
            self.watch_possible_calls_of(slot);
            self.outline_doubtful_call(call);
        } else {
            self.watch_leg(slot);
        }
    }

    /// Begins to compare the voices of all legs of a call with the voices of other legs, e.g. after a REFER.
    pub(super) fn watch_call(&mut self, conversation: CallKey) {
        for slot in self.table.keys_of(conversation).to_vec() {
            self.watch_leg(slot);
        }
    }

    /// Begins to compare the voices of other calls again when a leg was answered to whose call no rule leads for certain.
    /// These are the calls to which the leg could belong. If it is alone in its call, these are also other such calls
    /// from which a PBX may have sent it.
    ///
    /// E.g. a caller waits in a queue, and the comparison of the music is over when a telephone answers.
    fn watch_possible_calls_of(&mut self, slot: LegKey) {
        let Some(leg) = self.table.leg(slot) else { return };
        let (sender, receiver) = leg.machines();
        // A PBX passes sound on from a leg that it received to a leg that it sent. So the two legs do not begin at one
        // host, nor end at one host.
        let may_share = |other: &Leg| {
            let (other_sender, other_receiver) = other.machines();
            !other_sender.same_host(sender) && !other_receiver.same_host(receiver)
        };
        let mut lone: Vec<LegKey> = Vec::new();
        if self.table.is_lone(leg.call()) {
            let waiting = self.lone_legs().filter(|(_, other)| may_share(other));
            lone.extend(waiting.map(|(key, _)| key).take(MAX_WATCHED_AGAIN));
        }
        let calls = leg.join.alternatives().to_vec();
        lone.into_iter().for_each(|key| self.watch_leg(key));
        calls.into_iter().for_each(|call| self.watch_call(call));
    }

    /// Begins to compare the voices of a leg again after a restart, if they were being compared when the earlier
    /// process ended. `now` is the time of the restart.
    pub(super) fn watch_restored_leg(&mut self, slot: LegKey, now: Timestamp) {
        let Some(leg) = self.table.leg_mut(slot) else { return };
        let (begun_at, heard_at) = (leg.media.take_missed_watch(), leg.media.last_at());
        for index in 0..self.table.leg(slot).map_or(0, |leg| leg.media.streams().len()) {
            self.sketch_stream(StreamRef { slot, index });
        }
        let elapsed = begun_at.zip(heard_at).map(|(begun, heard)| heard.since(begun));
        let Some(elapsed) = elapsed.filter(|elapsed| *elapsed < USUAL_WATCH) else { return };
        self.watch_leg_since(slot, now.max(self.clock.now));
        let streams = self.table.leg(slot).map_or(&[][..], |leg| leg.media.streams());
        for watch in streams.iter().filter_map(|stream| stream.watch) {
            self.kept.content.index.count_elapsed(watch, elapsed);
        }
    }

    /// Begins to compare the voice of a stream that has just begun. If its leg is answered and alone in its call,
    /// compares the other side of the leg again, too.
    ///
    /// E.g. a caller waits with music and begins to send when a telephone of another call answers. The comparison of
    /// the music is over by then.
    pub(super) fn watch_new_stream(&mut self, stream: StreamRef) {
        let is_lone = |leg: &&Leg| leg.dialog.answered.is_some() && self.table.is_lone(leg.call());
        if let Some(leg) = self.table.leg(stream.slot).filter(is_lone) {
            let is_watched = stream.index + MAX_WATCHED_STREAMS >= leg.media.streams().len();
            self.watch_leg(stream.slot);
            if is_watched {
                return;
            }
        }
        // If an old stream of the leg continues with another SSRC, it is not among the newest streams that were
        // compared above. So its comparison begins here.
        self.watch_stream(stream, self.clock.now);
    }

    fn watch_leg(&mut self, slot: LegKey) {
        self.watch_leg_since(slot, self.clock.now);
    }

    fn watch_leg_since(&mut self, slot: LegKey, at: Timestamp) {
        let count = self.table.leg(slot).map_or(0, |leg| leg.media.streams().len());
        for index in count.saturating_sub(MAX_WATCHED_STREAMS)..count {
            self.watch_stream(StreamRef { slot, index }, at);
        }
    }

    /// Begins to compare the voice of a stream with other streams. Recording sessions (SIPREC) and encrypted media are
    /// not compared. While spools are read back after a restart, nothing is compared; the leg only stores the time at
    /// which it missed the comparison.
    pub(super) fn watch_stream(&mut self, StreamRef { slot, index }: StreamRef, at: Timestamp) {
        if self.earlier.restore.is_reading() {
            if let Some(leg) = self.table.leg_mut(slot) {
                leg.media.miss_watch(at);
            }
            return;
        }
        self.sketch_stream(StreamRef { slot, index });
        let Some(leg) = self.table.leg(slot) else { return };
        let Some(stream) = leg.media.streams().get(index) else { return };
        let sender = stream.sender;
        let is_plain = leg.dialog.negotiation.security(sender).is_plain();
        let may_watch = is_plain && !leg.is_recording_session() && leg.dialog.ended().is_none();
        let Some(voice) = stream.plain_voice().filter(|_| may_watch) else { return };
        let machine = |end: Endpoint| self.site.topology.machine_of(end);
        let ends = StreamEnds {
            leg: leg.id,
            slot,
            sender,
            from: [machine(stream.src), leg.machine_at(sender)],
            to: [machine(stream.dst), leg.machine_at(sender.other())],
        };
        let watch = self.kept.content.index.watch(stream.watch, ends, voice, at);
        if let Some(stream) = self.table.leg_mut(slot).and_then(|leg| leg.media.streams_mut().get_mut(index)) {
            stream.watch = watch;
        }
    }

    /// Begins or ends the sketch of a stream's voice, from which the voice prints in the record are made. Encrypted
    /// media gets no sketch, because its bytes say nothing about the voice. Test calls get none, because they have the
    /// same voices at every site.
    fn sketch_stream(&mut self, StreamRef { slot, index }: StreamRef) {
        if !self.settings.config.has_voice_prints {
            return;
        }
        let Some(leg) = self.table.leg_mut(slot) else { return };
        let is_test = leg.parties.test_order().is_some();
        let Some(stream) = leg.media.streams().get(index) else { return };
        let is_plain = leg.dialog.negotiation.security(stream.sender).is_plain();
        let voice = stream.plain_voice().filter(|_| is_plain && !is_test).and_then(SketchedVoice::of);
        leg.media.streams_mut()[index].sketch(voice);
    }

    /// Adds a voice packet to the sketch of its leg, i.e. to the pieces of voice from which voice prints are made. Does
    /// nothing if the leg is not answered or not recorded.
    pub(super) fn sketch_packet(
        &mut self,
        stream: StreamRef,
        voice: SketchedVoice,
        packet: &RtpPacket<'_>,
        at: Timestamp,
    ) {
        let recorded = |leg: &&mut Leg| leg.dialog.answered.is_some() && leg.spool.is_open();
        let Some(leg) = self.table.leg_mut(stream.slot).filter(recorded) else { return };
        let Some(side) = leg.media.streams().get(stream.index).map(|stream| stream.side) else { return };
        leg.media.sketch_payload(side, voice, packet.payload, at);
    }

    /// Compares a voice packet with the packets of other streams. If equal bytes now prove that a machine relays the
    /// voice, the legs are joined, or their joins are confirmed or corrected.
    pub(super) fn handle_content(
        &mut self,
        stream: StreamRef,
        watch: StreamWatch,
        packet: &RtpPacket<'_>,
        at: Timestamp,
        sink: &mut dyn LegSink,
    ) {
        // Most packets prove no relay, and an empty list of relays allocates no memory. So a list is made for each
        // packet.
        let mut found = ContentFindings::default();
        if !self.kept.content.index.handle_payload(watch, packet.payload, at, &mut found)
            && let Some(stream) =
                self.table.leg_mut(stream.slot).and_then(|leg| leg.media.streams_mut().get_mut(stream.index))
            // This packet itself may have begun a new comparison of the stream, e.g. because its payload type has a new
            // meaning since the answer. Only the old comparison is over then.
            && stream.watch == Some(watch)
        {
            stream.watch = None;
        }
        if found.is_count_due {
            self.store_voice_blocks(stream.slot, at, sink);
        }
        for relay in found.relays {
            self.apply(self.correlator().decide_relay(relay), sink);
            self.note_relay(relay, sink);
        }
    }

    /// Writes to the spool of a leg how many short pieces of its voices were compared; 0 if another leg has an equal
    /// piece. After a restart, this number shows whether the voice was compared.
    fn store_voice_blocks(&self, slot: LegKey, at: Timestamp, sink: &mut dyn LegSink) {
        let Some(leg) = self.table.leg(slot).filter(|leg| leg.spool.is_open()) else { return };
        let [caller, callee] = self.kept.content.index.unmatched_blocks(leg.id);
        sink.decide(leg.id, at, &Decision::VoiceBlocks { caller, callee });
    }

    /// Restores from the spool of a leg how many short pieces (blocks) of its voices were compared with other legs.
    pub(super) fn restore_voice_blocks(&mut self, slot: LegKey, blocks: [u32; 2]) {
        match self.table.leg_mut(slot) {
            Some(leg) if leg.is_closed() => leg.media.note_voice_blocks(blocks),
            Some(leg) => self.kept.content.index.restore_voice_blocks(leg.id, blocks),
            None => {}
        }
    }

    /// Records in the calls of two legs that the legs carry the same sound.
    fn note_relay(&mut self, relay: ProvenRelay, sink: &mut dyn LegSink) {
        let [cause, effect] = [relay.cause, relay.effect].map(|at| self.table.leg(at.key).filter(|l| l.id == at.id));
        let Some((cause, effect)) = cause.zip(effect) else { return };
        let (calls, pair) = ([cause.call(), effect.call()], (cause.id, effect.id));
        for call in calls {
            if self.table.call_mut(call).is_some_and(|call| call.notes.note_relay(pair)) {
                self.store_call(call, sink);
            }
        }
        if calls[0] == calls[1] {
            let proven = self.correlator().proven_ends(relay);
            proven.into_iter().for_each(|slot| self.resolve_by_content(slot, sink));
        }
    }

    /// Records that a leg certainly belongs to its call, because it carries the sound of the call. From now on, the
    /// moment at which it was answered decides nothing.
    fn resolve_by_content(&mut self, slot: LegKey, sink: &mut dyn LegSink) {
        if let Some(leg) = self.table.leg_mut(slot).filter(|leg| leg.join.is_ambiguous()) {
            leg.join.resolve();
            self.table.forget_unresolved(slot);
            self.store_assignment(slot, sink);
        }
    }

    /// Restarts comparisons of voices at fixed intervals, so that a match is found even if the first comparison found
    /// none. It compares legs that are alone in their calls, and all legs of a call if numbers alone joined one of
    /// them.
    pub(super) fn handle_listen_timer(&mut self) {
        if self.clock.now < self.kept.content.listen_at {
            return;
        }
        // Comparisons begin at multiples of the interval, so that a restart of the recorder does not shift them.
        let pause_ns = LISTEN_PAUSE.as_nanos() as i64;
        let round = self.clock.now.as_nanos().div_euclid(pause_ns);
        self.kept.content.listen_at = Timestamp::from_nanos(round.saturating_add(1).saturating_mul(pause_ns));
        let alone: Vec<LegKey> = self.lone_legs().map(|(slot, _)| slot).collect();
        let unproven = self.table.legs().filter(|(_, leg)| {
            talks(leg) && !self.table.is_lone(leg.call()) && leg.join.rests_on_numbers() && !leg.join.is_confirmed()
        });
        let mut calls: Vec<CallKey> = unproven.map(|(_, leg)| leg.call()).collect();
        calls.sort_unstable();
        calls.dedup();
        alone.into_iter().for_each(|slot| self.watch_leg(slot));
        calls.into_iter().for_each(|call| self.watch_call(call));
    }

    /// Returns the answered live legs that are alone in their calls, or that only equal numbers joined to their calls.
    fn lone_legs(&self) -> impl Iterator<Item = (LegKey, &Leg)> {
        let is_lone = |leg: &Leg| self.table.is_lone(leg.call()) || leg.join.is_provisional();
        self.table.legs().filter(move |(_, leg)| talks(leg) && is_lone(leg))
    }
}

/// Returns whether a leg was answered and has not ended.
fn talks(leg: &Leg) -> bool {
    leg.dialog.answered.is_some() && leg.dialog.ended().is_none()
}

/// Maximum number of streams of a leg that are compared at the same time. The newest streams are compared.
const MAX_WATCHED_STREAMS: usize = 4;
/// Maximum number of legs that are compared again because another leg was answered. If the mirror shows one leg of each
/// call, every leg is alone, and an answer must not cost time for each of them.
const MAX_WATCHED_AGAIN: usize = 64;
/// Time between the starts of two comparisons for a leg that is alone in its call. A comparison takes about four
/// seconds.
const LISTEN_PAUSE: Duration = Duration::from_secs(32);
