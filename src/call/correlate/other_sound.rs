//! The last check of an ended call: legs with sound that the recording lacks become separate calls.
//!
//! The recording has the sound of one leg, the *recorded leg*. Normally the other legs carry the same sound, because a
//! machine passes it on. But if a rule joined the legs of strangers, the sound of a conversation would be lost. This
//! check prevents such a loss, whatever rule joined the legs.
//!
//! The check compares *groups*: legs that carry the same sound, because their content or a common dialog shows it.

use std::time::Duration;

use crate::call::correlate::{Correlator, PBX_REACTION};
use crate::call::correlation_keys::same_number;
use crate::call::correlation_rule::EvidenceStrength;
use crate::call::keys::{CallKey, LegKey};
use crate::call::leg::Leg;
use crate::call::roles::CallRoles;
use crate::net::Endpoint;
use crate::time::Timestamp;

/// Legs of a call that carry the same sound.
struct SoundGroup<'a> {
    legs: Vec<(LegKey, &'a Leg)>,
    /// Whether content proves that a machine passes this sound from one leg to another. The other leg may belong to
    /// another call.
    is_relayed: bool,
}

impl Correlator<'_> {
    /// Returns the legs of an ended call with sound that the recording lacks, in groups that carry the same sound.
    pub(crate) fn legs_of_other_sound(&self, call: CallKey) -> Vec<Vec<LegKey>> {
        let anchor = self.recorded_leg(call).filter(|_| self.table.keys_of(call).len() > 1);
        let Some(anchor) = anchor else { return Vec::new() };
        let mut groups = self.sound_groups(call);
        let position = groups.iter().position(|group| group.legs.iter().any(|(_, leg)| leg.id == anchor.id));
        let Some(mut recorded) = position.map(|position| groups.swap_remove(position)) else { return Vec::new() };
        groups.extend(recorded.split_at_other_time(anchor));
        let all: Vec<&Leg> = self.table.legs_of(call).collect();
        let talks_elsewhere = |group: &SoundGroup<'_>| match group.legs.as_slice() {
            [(_, leg)] => self.talks_with_other_caller(leg, anchor),
            _ => false,
        };
        let is_missing =
            |group: &SoundGroup<'_>| group.is_missing_in(&recorded, anchor, &all) || talks_elsewhere(group);
        let others = groups.into_iter().filter(is_missing);
        others.map(|group| group.legs.into_iter().map(|(key, _)| key).collect()).collect()
    }

    /// Returns the leg that supplies the sound of the recording; `None` if no leg has media.
    fn recorded_leg(&self, call: CallKey) -> Option<&Leg> {
        let legs: Vec<&Leg> = self.table.legs_of(call).collect();
        let roles = CallRoles::from_legs(&legs, self.plan)?;
        let heard = legs.iter().copied().filter(|leg| leg.has_media());
        heard.min_by_key(|leg| roles.render_rank(leg.id))
    }

    /// Returns whether a telephone that only numbers joined to the call talks with another caller.
    ///
    /// This is so if the PBX answered the call's caller together with a second telephone, and answered this telephone
    /// at another time. Both telephones must talk at once for some seconds.
    fn talks_with_other_caller(&self, leg: &Leg, anchor: &Leg) -> bool {
        let is_weak =
            leg.join.by().is_some_and(|by| by.strength() == EvidenceStrength::Weak) && !leg.join.is_confirmed();
        let pbx = leg.machines().0;
        let is_with_anchor = |l: &Leg| match (l.dialog.answered, anchor.dialog.answered) {
            (Some((own, _)), Some((anchor, _))) => own.distance(anchor) <= PBX_REACTION,
            _ => false,
        };
        let is_operator = |other: &Leg| {
            other.id != leg.id
                && other.id != anchor.id
                && other.machines().0.same_host(pbx)
                && other.is_answered_for_certain()
                && is_with_anchor(other)
                && common_time(leg, other) >= TALK_AT_ONCE
        };
        is_weak
            && is_conversation(leg)
            && leg.is_answered_for_certain()
            && anchor.machines().1.same_host(pbx)
            && !is_with_anchor(leg)
            && self.table.legs_of(leg.call()).any(is_operator)
    }

    /// Returns the legs of a call that have media. Legs with the same sound are in one group.
    fn sound_groups(&self, call: CallKey) -> Vec<SoundGroup<'_>> {
        let relays = self.table.call(call).map_or(&[][..], |call| call.notes.relays());
        let mut groups: Vec<SoundGroup<'_>> = Vec::new();
        for key in self.table.keys_of(call) {
            let Some(leg) = self.table.leg(*key).filter(|leg| leg.has_media()) else { continue };
            let is_same = |other: &Leg| {
                let pair = (leg.id.min(other.id), leg.id.max(other.id));
                leg.is_branch_of(other) || relays.contains(&pair)
            };
            let has_same = |group: &SoundGroup<'_>| group.legs.iter().any(|(_, known)| is_same(known));
            let (same, mut other): (Vec<_>, Vec<_>) = groups.into_iter().partition(has_same);
            let is_relayed = relays.iter().any(|(a, b)| *a == leg.id || *b == leg.id);
            let mut group = SoundGroup { legs: vec![(*key, leg)], is_relayed };
            for known in same {
                group.legs.extend(known.legs);
                group.is_relayed |= known.is_relayed;
            }
            other.push(group);
            groups = other;
        }
        groups
    }
}

impl SoundGroup<'_> {
    /// Removes the legs that had no media at the same time as the recorded leg, and returns them as a new group. E.g. a
    /// telephone talks with two parties in turn, and the recording has the second.
    fn split_at_other_time(&mut self, anchor: &Leg) -> Option<Self> {
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
    /// - A machine passes on the recorded sound unchanged, and the bytes of this group differ. Only numbers joined the
    ///   group.
    fn is_missing_in(&self, recorded: &Self, anchor: &Leg, all: &[&Leg]) -> bool {
        let is_conversation = self.legs.iter().any(|(_, leg)| is_conversation(leg));
        let is_at_other_time = self.legs.iter().all(|(_, leg)| common_time(leg, anchor) < LEAST_OVERLAP);
        let differs = || {
            let is_compared = self.is_relayed_beside(recorded) || self.is_heard_to_differ_from(recorded);
            is_compared && self.is_weakly_tied(recorded) && self.has_codec_of(recorded)
        };
        is_conversation && (is_at_other_time || self.is_second_call_beside(recorded, all) || differs())
    }

    /// Returns whether content proves for both groups that a machine passes on their sound, and one machine takes part
    /// in both. Then the two groups have different sound.
    fn is_relayed_beside(&self, other: &Self) -> bool {
        let touches = |machine: Endpoint| {
            let ends = other.legs.iter().flat_map(|(_, leg)| [leg.machines().0, leg.machines().1]);
            ends.into_iter().any(|end| end.same_host(machine))
        };
        let mut machines = self.legs.iter().map(|(_, leg)| leg.machines().1).filter(|machine| self.passes(*machine));
        self.is_relayed && other.is_relayed && machines.any(touches) && self.is_tied_by_relays(other)
    }

    /// Returns whether every machine between the two groups passes sound on unchanged. Another machine, e.g. a PBX that
    /// transcodes, changes the bytes, so that they differ even if the sound is the same.
    fn is_tied_by_relays(&self, other: &Self) -> bool {
        let is_proven = |machine: Endpoint| self.passes(machine) || other.passes(machine);
        let changes =
            |from: &Leg, to: &Leg| from.machines().1.same_host(to.machines().0) && !is_proven(from.machines().1);
        let mut own = self.legs.iter().map(|(_, leg)| *leg);
        !own.any(|own| other.legs.iter().any(|(_, other)| changes(own, other) || changes(other, own)))
    }

    /// Returns whether this machine received one leg of the group and sent another.
    fn passes(&self, machine: Endpoint) -> bool {
        let (mut arriving, mut leaving) = (self.legs.iter(), self.legs.iter());
        arriving.any(|(_, leg)| leg.machines().1.same_host(machine))
            && leaving.any(|(_, leg)| leg.machines().0.same_host(machine))
    }

    /// Returns whether one telephone made two calls, one in each group. Both dialogs go from the same host and number
    /// to the same host, with different called numbers. A host that received a leg of the call (`all`) is no telephone.
    fn is_second_call_beside(&self, other: &Self, all: &[&Leg]) -> bool {
        let is_telephone = |leg: &Leg| !all.iter().any(|cause| cause.machines().1.same_host(leg.machines().0));
        let is_beside = |own: &Leg, other: &Leg| {
            let is_same_hop = own.hop().0.same_host(other.hop().0) && own.hop().1.same_host(other.hop().1);
            let is_same_caller = same_number(own.parties.from.as_deref(), other.parties.from.as_deref());
            let calls_other = !same_number(own.parties.to.as_deref(), other.parties.to.as_deref());
            is_same_hop && is_same_caller && calls_other && is_conversation(other)
        };
        let calls = self.legs.iter().filter(|(_, own)| is_conversation(own) && is_telephone(own));
        calls.into_iter().any(|(_, own)| other.legs.iter().any(|(_, other)| is_beside(own, other)))
    }

    /// Returns whether this leg is known to carry another sound than the other group.
    ///
    /// Both voices of the leg were compared for long enough, and no other leg had the same bytes. The machine at one
    /// end of the leg passes on the sound of the other group unchanged.
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

    /// Returns whether only numbers joined the two groups of legs. The group that began later was joined by the rule of
    /// its first leg, and this rule must be weak.
    fn is_weakly_tied(&self, other: &Self) -> bool {
        let first = |group: &Self| group.legs.iter().map(|(_, leg)| *leg).min_by_key(|leg| (leg.created_at, leg.id));
        let younger = [first(self), first(other)].into_iter().flatten().max_by_key(|leg| (leg.created_at, leg.id));
        let by = younger.and_then(|leg| leg.join.by());
        by.is_some_and(|by| by.strength() == EvidenceStrength::Weak)
    }

    /// Returns whether both groups have a codec in common. Otherwise their bytes differ even if the sound is the same.
    fn has_codec_of(&self, other: &Self) -> bool {
        let codecs = |group: &Self| -> Vec<String> {
            let streams = group.legs.iter().flat_map(|(_, leg)| leg.media.streams());
            streams.filter_map(|stream| stream.voice().map(str::to_ascii_uppercase)).collect()
        };
        let others = codecs(other);
        codecs(self).iter().any(|codec| others.contains(codec))
    }
}

/// Returns how long two legs had media at the same time.
fn common_time(a: &Leg, b: &Leg) -> Duration {
    match (span(a), span(b)) {
        (Some(a), Some(b)) => a.1.min(b.1).since(a.0.max(b.0)),
        _ => Duration::ZERO,
    }
}

/// Returns whether a leg carried a conversation: it was answered, and both sides were heard for at least a second.
fn is_conversation(leg: &Leg) -> bool {
    let is_long = span(leg).is_some_and(|(from, to)| to.since(from) >= LEAST_SOUND);
    leg.dialog.answered.is_some() && leg.has_both_sides() && is_long && !leg.is_recording_session()
}

/// Returns the capture times of a leg's first and latest media packets.
fn span(leg: &Leg) -> Option<(Timestamp, Timestamp)> {
    leg.media.first_at().zip(leg.media.last_at())
}

/// Minimum length of the media of a leg with a conversation. Shorter media is the rest of a ringback tone or an
/// announcement.
const LEAST_SOUND: Duration = Duration::from_secs(1);
/// Minimum time for which two legs must have media at once to count as simultaneous. The legs of a transfer follow each
/// other with a short overlap.
const LEAST_OVERLAP: Duration = Duration::from_millis(200);
/// Minimum number of blocks of each side that were compared before the content of a leg counts as different. The first
/// comparison (48 blocks) may cover only an announcement to the telephone, so more blocks are needed.
const COMPARED_BLOCKS: u32 = 72;
/// Minimum time for which two telephones of a PBX must talk at once to count as two conversations. After a blind
/// transfer, two telephones are connected at once for a moment.
const TALK_AT_ONCE: Duration = Duration::from_secs(3);
