//! Doubtful legs: a number joined them to a call, and nothing else shows that they belong to it. Their sound is
//! compared with the sound of the recorded leg.
//!
//! A *group* is a set of legs that carry the same sound. The *recorded group* contains the recorded leg.
//!
//! A PBX that passes a call on also passes the answer and the BYE on, within milliseconds. A caller in a queue, a voice
//! menu or a voice mail was answered before, so the answer of a telephone proves nothing. A second caller may have the
//! same number as the first caller. If the mirror misses the leg of the second caller, the telephone that the PBX rings
//! for this caller is joined to the first call.

use std::time::Duration;

use crate::call::correlate::sound_group::{SoundGroup, has_sound};
use crate::call::correlate::tie::{
    are_answered_together, have_ended_together, is_caused_by, is_confirmed_by_moments, machine_between,
};
use crate::call::correlate::{Correlator, PBX_REACTION};
use crate::call::correlation_keys::PAIR_WINDOW;
use crate::call::keys::{CallKey, LegKey};
use crate::call::leg::Leg;
use crate::call::record::Side;
use crate::call::sound_outline::{RestOfSound, SoundLikeness};

/// A leg that numbers alone joined to its call, so that it may belong to another call (a *doubtful* leg).
pub(super) struct DoubtfulLeg {
    key: LegKey,
    /// The leg itself, other legs of its dialog (e.g. behind a proxy), and the legs that they caused, directly or
    /// through other legs.
    effects: Vec<LegKey>,
    /// Whether another leg of the call was answered, or ended, at the same time as this leg. Legs among the `effects`
    /// do not count.
    moments: MomentAgreement,
}

/// The events that two legs of a call had at the same time: the answer, the end, or both.
///
/// A PBX passes both on, but two calls may also be answered, or end, together by chance. So the more events agree, the
/// more must be heard before a leg counts as the leg of another call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum MomentAgreement {
    Neither,
    Answer,
    End,
    Both,
}

impl MomentAgreement {
    fn of(a: &Leg, b: &Leg) -> Self {
        match (are_answered_together(a, b), have_ended_together(a, b)) {
            (false, false) => Self::Neither,
            (true, false) => Self::Answer,
            (false, true) => Self::End,
            (true, true) => Self::Both,
        }
    }
}

impl DoubtfulLeg {
    /// Returns whether a group of legs with the same sound contains this leg, another leg of its dialog, or a leg that
    /// they caused.
    fn explains(&self, group: &SoundGroup<'_>) -> bool {
        group.legs.iter().any(|(key, _)| self.effects.contains(key))
    }

    /// Returns whether a group of legs may have the sound of another call because of this leg. The group must contain
    /// this leg or a leg that it caused. The legs with the recorded sound must include none of them.
    fn concerns(&self, group: &SoundGroup<'_>, recorded: &SoundGroup<'_>) -> bool {
        self.explains(group) && !self.explains(recorded)
    }
}

impl Correlator<'_> {
    /// Returns whether a call has a leg that may carry the sound of another call.
    pub(crate) fn has_doubtful_leg(&self, call: CallKey) -> bool {
        self.table.keys_of(call).iter().any(|key| self.doubt_about(*key).is_some())
    }

    /// Returns the doubtful legs of a call: numbers alone joined them to the call.
    pub(super) fn doubtful_legs(&self, call: CallKey) -> Vec<DoubtfulLeg> {
        self.table.keys_of(call).iter().filter_map(|key| self.doubt_about(*key)).collect()
    }

    /// Returns the leg as a doubtful leg (it may belong to another call) if both sides talk, and only numbers tie it to
    /// its call. Also returns a recording session (SIPREC) without names, because not even numbers tie it to its call.
    /// Otherwise returns `None`.
    fn doubt_about(&self, key: LegKey) -> Option<DoubtfulLeg> {
        let leg = self.table.leg(key).filter(|leg| leg.may_talk())?;
        let keys = self.table.keys_of(leg.call());
        let hops = || keys.iter().filter(|key| self.table.leg(**key).is_some_and(|hop| hop.is_branch_of(leg)));
        // The first leg of a dialog shows by which rule the dialog joined the call. Its further legs, e.g. behind a
        // proxy, join by their Call-ID. So the leg may belong to another call if any leg of its dialog joined by a weak
        // rule.
        let is_weak = |key: &LegKey| self.table.leg(*key).is_some_and(|hop| self.is_tied_weakly(hop));
        if !leg.is_nameless_recording_session() && !hops().any(is_weak) {
            return None;
        }
        // The legs that this leg caused are answered together with it even if it belongs to another call. So their
        // answers do not confirm that it belongs to this call.
        let effects: Vec<LegKey> = hops().flat_map(|hop| self.caused_legs(*hop)).collect();
        let others = keys.iter().filter(|other| !effects.contains(other)).filter_map(|other| self.table.leg(*other));
        // A recorder's session (SIPREC) is answered when any call begins to talk. So an answer together with such a
        // session does not count.
        let others = others.filter(|other| other.may_have_party());
        let together = others.filter(|other| are_answered_together(leg, other));
        let moments = together.map(|other| MomentAgreement::of(leg, other)).max();
        // If the rule `same_moments` has confirmed the join, this counts like two ends at the same time. The rule
        // allows larger time differences, and a PBX with two addresses often changes the bytes of a voice.
        let confirmed = self.tie_of(leg).filter(|tie| is_confirmed_by_moments(tie)).map(|_| MomentAgreement::End);
        let moments = moments.max(confirmed).unwrap_or(MomentAgreement::Neither);
        Some(DoubtfulLeg { key, effects, moments })
    }

    /// Returns whether a group of legs has sound that the recording lacks and that may belong to another call. For
    /// this, the group must contain a doubtful leg (joined by numbers alone). Or the recorded group contains a doubtful
    /// leg that this group caused.
    pub(super) fn has_foreign_sound(
        &self,
        group: &SoundGroup<'_>,
        recorded: &SoundGroup<'_>,
        anchor: &Leg,
        doubts: &[DoubtfulLeg],
    ) -> bool {
        let vouching = self.doubts_about(group, recorded, doubts).map(|doubt| doubt.moments).max();
        let Some(vouching) = vouching.filter(|_| group.members().any(has_sound)) else { return false };
        let moments = group.members().flat_map(|own| recorded.members().map(|other| MomentAgreement::of(own, other)));
        let found: Vec<[SoundLikeness; 2]> = group.members().map(|leg| likeness(leg, anchor)).collect();
        let has = |wanted: SoundLikeness| found.iter().flatten().any(|side| *side == wanted);
        let is_unlike = |sides: &[SoundLikeness; 2]| *sides == [SoundLikeness::Different; 2];
        !has(SoundLikeness::Same)
            && match moments.max().unwrap_or(vouching).max(vouching) {
                MomentAgreement::Both => found.iter().any(is_unlike),
                MomentAgreement::End => has(SoundLikeness::Different),
                MomentAgreement::Answer => {
                    let is_unmatched = !has(SoundLikeness::Similar) && group.is_unmatched_beside(recorded, anchor);
                    has(SoundLikeness::Different) || is_unmatched
                }
                MomentAgreement::Neither => {
                    has(SoundLikeness::Different)
                        || has(SoundLikeness::Missing)
                        || group.members().any(|leg| goes_on_after(leg, anchor))
                        || group.is_unmatched_beside(recorded, anchor)
                }
            }
    }

    /// Returns the legs joined by numbers alone (doubtful legs) because of which the group may have the sound of
    /// another call. Either they belong to the group, or they belong to the recorded group and this group caused them.
    /// Nothing need have caused them, e.g. if the PBX called both parties.
    pub(super) fn doubts_about<'a>(
        &'a self,
        group: &'a SoundGroup<'_>,
        recorded: &'a SoundGroup<'_>,
        doubts: &'a [DoubtfulLeg],
    ) -> impl Iterator<Item = &'a DoubtfulLeg> {
        let is_caused_by_group = move |doubt: &DoubtfulLeg| {
            let is_caused = |effect: &Leg| group.members().any(|cause| is_caused_by(effect, cause));
            let has_no_cause = |effect: &Leg| self.causes_of(effect).next().is_none();
            self.table.leg(doubt.key).is_some_and(|effect| is_caused(effect) || has_no_cause(effect))
        };
        doubts.iter().filter(move |doubt| {
            doubt.concerns(group, recorded) || doubt.concerns(recorded, group) && is_caused_by_group(doubt)
        })
    }

    /// Returns the legs of `group`, which has other sound than the recording, and the legs that must leave the call
    /// together with them. These are the legs that the group's doubtful leg (joined by numbers alone) caused.
    /// Telephones that stopped ringing when this leg was answered also belong to them.
    pub(super) fn with_effects(
        &self,
        group: &SoundGroup<'_>,
        recorded: &SoundGroup<'_>,
        doubts: &[DoubtfulLeg],
    ) -> Vec<LegKey> {
        let own = group.keys();
        let keys = group.legs.first().map_or(&[][..], |(_, leg)| self.table.keys_of(leg.call()));
        let doubts = || doubts.iter().filter(|doubt| doubt.concerns(group, recorded));
        let stopped = |key: &&LegKey| {
            let Some(leg) = self.table.leg(**key) else { return false };
            doubts().any(|doubt| self.table.leg(doubt.key).is_some_and(|answered| stopped_for(leg, answered)))
        };
        let caused = doubts().flat_map(|doubt| doubt.effects.iter().copied());
        let rang = keys.iter().filter(stopped).copied();
        let mut legs: Vec<LegKey> = own.iter().copied().chain(caused).chain(rang).collect();
        legs.retain(|key| own.contains(key) || !recorded.legs.iter().any(|(recorded, _)| recorded == key));
        legs.sort_unstable();
        legs.dedup();
        legs
    }
}

/// Returns whether a telephone stopped ringing because another telephone answered. The same PBX must have rung both
/// telephones for the same caller.
fn stopped_for(leg: &Leg, answered: &Leg) -> bool {
    let same_sender = leg.machines().0.same_host(answered.machines().0);
    let at = answered.dialog.answered.map(|(at, _)| at);
    let ended = leg.dialog.ended().map(|(ended, _)| ended);
    leg.dialog.answered.is_none()
        && !leg.has_media()
        && same_sender
        && leg.parties.from == answered.parties.from
        && at.zip(ended).is_some_and(|(at, ended)| ended >= at && ended.since(at) <= PBX_REACTION)
}

/// Compares both sides of a leg with the sound of the recorded leg.
fn likeness(leg: &Leg, anchor: &Leg) -> [SoundLikeness; 2] {
    let unknown = [SoundLikeness::Unknown; 2];
    let (Some(own), Some(other)) = (leg.media.outline(), anchor.media.outline()) else { return unknown };
    let compare = |is_straight: bool| {
        [Side::Caller, Side::Callee].map(|side| {
            let other_side = if is_straight { side } else { side.other() };
            own.compare(side, other, other_side)
        })
    };
    if has_same_sides(leg, anchor) {
        return compare(true);
    }
    let is_other = |side: &SoundLikeness| matches!(side, SoundLikeness::Different | SoundLikeness::Missing);
    match (compare(true), compare(false)) {
        (found, _) | (_, found) if found.contains(&SoundLikeness::Same) => found,
        (straight, crossed) if straight.iter().any(is_other) && crossed.iter().any(is_other) => straight,
        _ => unknown,
    }
}

/// Returns whether the PBX sends the voice of the recorded caller to this telephone, too. `anchor` is the caller's leg.
///
/// The telephones of a page answer automatically and end with the talker. If they did, less must be heard to be certain.
pub(super) fn hears_caller(leg: &Leg, anchor: &Leg) -> bool {
    let [caller, callee] = likeness(leg, anchor);
    let answers = leg.dialog.answered.zip(anchor.dialog.answered);
    let is_near = answers.is_some_and(|((a, _), (b, _))| a.distance(b) <= PAIR_WINDOW);
    let is_beside = || is_near && have_ended_together(leg, anchor);
    match caller {
        SoundLikeness::Same => callee != SoundLikeness::Different || is_beside(),
        SoundLikeness::Similar => is_beside(),
        _ => false,
    }
}

/// Returns whether two legs with the same sound certainly have each voice on the same side. For this, one machine must
/// be between them, and neither may be a recording session (SIPREC). Otherwise the sides may be swapped.
pub(super) fn has_same_sides(leg: &Leg, anchor: &Leg) -> bool {
    let is_session = leg.is_recording_session() || anchor.is_recording_session();
    machine_between(leg, anchor).is_some() && !is_session
}

/// Returns whether a leg was heard for seconds after the recorded leg had ended, and not with a busy tone only.
fn goes_on_after(leg: &Leg, anchor: &Leg) -> bool {
    let ends = leg.media.last_at().zip(anchor.media.last_at());
    ends.is_some_and(|(own, end)| own.since(end) >= LEAST_REST && leg.media.rest_since(end) != RestOfSound::Tone)
}

/// Minimum time for which a leg has media after the last media of the recorded leg, before its sound counts as missing
/// in the recording. Some PBXs play a busy tone to a telephone before they end its leg.
const LEAST_REST: Duration = Duration::from_secs(10);
