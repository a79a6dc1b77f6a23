//! Groups of legs that carry the same sound. Each group is compared with the *recorded group*, i.e. the legs with the
//! sound of the recording.

use std::time::Duration;

use crate::call::correlate::tie::{is_end_of, machine_between, pass_through};
use crate::call::correlation_keys::same_number;
use crate::call::keys::LegKey;
use crate::call::leg::Leg;
use crate::net::Endpoint;
use crate::time::Timestamp;

/// Legs of a call that carry the same sound.
pub(super) struct SoundGroup<'a> {
    pub(super) legs: Vec<(LegKey, &'a Leg)>,
    /// Whether equal bytes of voice prove that a machine passes this sound from one leg to another. The other leg may
    /// belong to another call.
    pub(super) is_relayed: bool,
}

impl<'a> SoundGroup<'a> {
    /// Returns the legs of the group, which all carry the same sound.
    pub(super) fn members(&self) -> impl Iterator<Item = &'a Leg> + Clone + '_ {
        self.legs.iter().map(|(_, leg)| *leg)
    }

    /// Returns the call-table keys of the legs of the group.
    pub(super) fn keys(&self) -> Vec<LegKey> {
        self.legs.iter().map(|(key, _)| *key).collect()
    }

    /// Removes the legs that had no media at the same time as the recorded leg, and returns them as a new group. E.g. a
    /// telephone talks with two parties in turn, and the recording has the second.
    pub(super) fn split_at_other_time(&mut self, anchor: &Leg) -> Option<Self> {
        let is_beside = |(_, leg): &(LegKey, &Leg)| leg.id == anchor.id || common_time(leg, anchor) >= LEAST_OVERLAP;
        let (own, other) = std::mem::take(&mut self.legs).into_iter().partition(is_beside);
        self.legs = own;
        let other: Vec<(LegKey, &Leg)> = other;
        (!other.is_empty()).then_some(SoundGroup { legs: other, is_relayed: self.is_relayed })
    }

    /// Returns whether the recording lacks the conversation of this group of legs. One of three reasons is enough:
    ///
    /// - The group had no media at the same time as the recorded leg.
    /// - One telephone made two calls, and this group is the second.
    /// - The group belongs to the call by numbers alone, and its bytes differ from the recorded sound. They would be
    ///   equal in one call, because the machine between both passes sound on unchanged.
    pub(super) fn is_missing_in(&self, recorded: &Self, anchor: &Leg, all: &[&Leg]) -> bool {
        let is_conversation = self.members().any(is_conversation);
        let is_at_other_time = self.members().all(|leg| common_time(leg, anchor) < LEAST_OVERLAP);
        let differs = || {
            let is_compared = self.is_relayed_beside(recorded) || self.is_heard_to_differ_from(recorded);
            is_compared && self.is_weakly_tied(recorded) && self.has_codec_of(recorded)
        };
        is_conversation && (is_at_other_time || self.is_second_call_beside(recorded, all) || differs())
    }

    /// Returns whether in both groups a machine is proven to pass voice from leg to leg (a *relay*), and one machine
    /// belongs to both groups. Then the two groups have different sound, because equal sound would also have equal
    /// bytes in both groups.
    fn is_relayed_beside(&self, other: &Self) -> bool {
        let touches = |machine: Endpoint| other.members().any(|leg| is_end_of(machine, leg));
        let mut machines = self.members().map(|leg| leg.machines().1).filter(|machine| self.passes(*machine));
        self.is_relayed && other.is_relayed && machines.any(touches) && self.is_tied_by_relays(other)
    }

    /// Returns whether every machine between the two groups of legs passes the bytes of voice on unchanged. Returns
    /// false if one of them changes the bytes, e.g. a PBX that transcodes. Then equal sound has different bytes.
    fn is_tied_by_relays(&self, other: &Self) -> bool {
        let is_proven = |machine: Endpoint| self.passes(machine) || other.passes(machine);
        let mut own = self.members();
        own.all(|own| other.members().all(|leg| machine_between(own, leg).is_none_or(is_proven)))
    }

    /// Returns whether this machine (e.g. a PBX) received one leg of the group and sent another.
    fn passes(&self, machine: Endpoint) -> bool {
        pass_through(machine, self.members())
    }

    /// Returns whether one telephone made two calls, one in each group. Both dialogs go from the same host and number
    /// to the same host, with different called numbers. Returns false if the sender also received one of the legs `all`
    /// of the call: then it is a PBX or proxy.
    fn is_second_call_beside(&self, other: &Self, all: &[&Leg]) -> bool {
        let is_telephone = |leg: &Leg| !all.iter().any(|cause| cause.machines().1.same_host(leg.machines().0));
        let is_beside = |own: &Leg, other: &Leg| {
            let is_same_hop = own.hop().0.same_host(other.hop().0) && own.hop().1.same_host(other.hop().1);
            let is_same_caller = same_number(own.parties.from.as_deref(), other.parties.from.as_deref());
            let calls_other = !same_number(own.parties.to.as_deref(), other.parties.to.as_deref());
            is_same_hop && is_same_caller && calls_other && is_conversation(other)
        };
        let mut calls = self.members().filter(|own| is_conversation(own) && is_telephone(own));
        calls.any(|own| other.members().any(|other| is_beside(own, other)))
    }

    /// Returns whether this group is a single leg, and its sound is known to differ from the sound of the other group.
    ///
    /// For this, enough voice of both sides must have been compared, and no other leg may have the same bytes. Also, a
    /// machine at an end of the leg must pass on the other group's sound with unchanged bytes. It would also have
    /// passed on this leg's sound unchanged.
    fn is_heard_to_differ_from(&self, other: &Self) -> bool {
        let [(_, leg)] = self.legs.as_slice() else { return false };
        let (sender, receiver) = leg.machines();
        let is_compared = leg.media.voice_blocks().iter().all(|blocks| *blocks >= COMPARED_BLOCKS);
        is_compared
            && !self.is_relayed
            && !leg.join.is_confirmed()
            && self.is_tied_by_relays(other)
            && (other.passes(sender) || other.passes(receiver))
    }

    /// Returns whether this group is a single leg and shares no bytes of voice with the recorded leg `anchor`. Both
    /// legs must have had enough voice to compare, one machine must be between them, and both groups must use G.711.
    ///
    /// Some PBXs change the bytes of a sound that they pass on. So the caller uses this result only if loudness and
    /// pitch of both sounds (`sound_outline`) decide nothing, e.g. because the talk was short.
    pub(super) fn is_unmatched_beside(&self, other: &Self, anchor: &Leg) -> bool {
        let [(_, leg)] = self.legs.as_slice() else { return false };
        // One machine is between the two legs. If they have the same sound, caller must agree with caller, and callee
        // with callee. So the same sides are compared.
        let mut blocks = leg.media.voice_blocks().into_iter().zip(anchor.media.voice_blocks());
        let is_compared = blocks.any(|(own, other)| own.min(other) >= UNMATCHED_BLOCKS);
        is_conversation(leg)
            && !self.is_relayed
            && machine_between(leg, anchor).is_some()
            && self.common_codecs(other).iter().any(|codec| matches!(codec.as_str(), "PCMA" | "PCMU"))
            && is_compared
    }

    /// Returns whether only telephone numbers joined the two groups of legs to one call. A rule about numbers must have
    /// joined the younger of the oldest legs of both groups.
    fn is_weakly_tied(&self, other: &Self) -> bool {
        let first = |group: &Self| group.members().min_by_key(|leg| (leg.created_at, leg.id));
        let younger = [first(self), first(other)].into_iter().flatten().max_by_key(|leg| (leg.created_at, leg.id));
        younger.is_some_and(|leg| leg.join.rests_on_numbers())
    }

    /// Returns whether legs of both groups use a common codec. Without one, their bytes differ even if the sound is the
    /// same.
    fn has_codec_of(&self, other: &Self) -> bool {
        !self.common_codecs(other).is_empty()
    }

    /// Returns the names of the codecs that both groups have, in upper case.
    fn common_codecs(&self, other: &Self) -> Vec<String> {
        let codecs = |group: &Self| -> Vec<String> {
            let streams = group.members().flat_map(|leg| leg.media.streams());
            streams.filter_map(|stream| stream.voice().map(str::to_ascii_uppercase)).collect()
        };
        let others = codecs(other);
        codecs(self).into_iter().filter(|codec| others.contains(codec)).collect()
    }
}

/// Returns how long two legs had media at the same time.
pub(super) fn common_time(a: &Leg, b: &Leg) -> Duration {
    match (span(a), span(b)) {
        (Some(a), Some(b)) => a.1.min(b.1).since(a.0.max(b.0)),
        _ => Duration::ZERO,
    }
}

/// Returns whether a leg carried a conversation: it was answered, and both sides were heard for at least a second.
pub(super) fn is_conversation(leg: &Leg) -> bool {
    leg.has_both_sides() && has_sound(leg) && !leg.is_recording_session()
}

/// Returns whether a leg was answered and had media for at least a second.
pub(super) fn has_sound(leg: &Leg) -> bool {
    let is_long = span(leg).is_some_and(|(from, to)| to.since(from) >= LEAST_SOUND);
    leg.dialog.answered.is_some() && is_long
}

/// Returns the capture times of a leg's first and latest media packets.
fn span(leg: &Leg) -> Option<(Timestamp, Timestamp)> {
    leg.media.first_at().zip(leg.media.last_at())
}

/// Minimum length of the media of a leg with a conversation. Shorter media is the rest of a ringback tone or an
/// announcement.
pub(super) const LEAST_SOUND: Duration = Duration::from_secs(1);
/// Minimum time for which two legs must have media at the same time to count as simultaneous. The legs of a transfer
/// follow each other with a short overlap.
const LEAST_OVERLAP: Duration = Duration::from_millis(200);
/// Minimum number of pieces (blocks) of each side's voice to compare before the sound of a leg counts as different from
/// the recorded sound. The first comparison (48 blocks) may cover only an announcement to the telephone.
const COMPARED_BLOCKS: u32 = 72;
/// Minimum number of compared pieces (blocks) of one side's voice, about two seconds. If numbers alone joined a leg and
/// none of so many blocks was on another leg, the leg counts as other sound. Eight equal blocks would have proven the
/// same sound.
const UNMATCHED_BLOCKS: u32 = 24;
