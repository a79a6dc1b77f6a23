//! The last check of an ended call: legs with sound that the recording lacks become separate calls.
//!
//! The recording has the sound of one leg, the *recorded leg*. Normally the other legs carry the same sound, because a
//! machine (e.g. a PBX) passes the sound on. But if a rule joined the legs of strangers, the sound of a conversation
//! would be lost. This check prevents such a loss, whatever rule joined the legs.
//!
//! The check compares *groups*: legs that carry the same sound, because their content or a common dialog shows it.

use std::time::Duration;

use crate::call::correlate::doubt::hears_caller;
use crate::call::correlate::sound_group::{LEAST_SOUND, SoundGroup, common_time, is_conversation};
use crate::call::correlate::tie::are_answered_together;
use crate::call::correlate::{Command, Correlator};
use crate::call::keys::{CallKey, LegKey};
use crate::call::leg::Leg;
use crate::call::roles::CallRoles;
use crate::call::sound_outline::RestOfSound;

/// The different sounds of a call: for each sound, the legs that carry it.
pub(super) struct CallSounds<'a> {
    /// The recorded leg.
    pub(super) anchor: &'a Leg,
    /// Legs with the sound of the recorded leg.
    pub(super) recorded: SoundGroup<'a>,
    /// All other legs with media, grouped by the sound that they carry.
    pub(super) others: Vec<SoundGroup<'a>>,
}

impl Correlator<'_> {
    /// Returns the legs of an ended call with sound that the recording lacks. Legs that carry the same sound are in one
    /// list.
    pub(crate) fn legs_of_other_sound(&self, call: CallKey) -> Vec<Vec<LegKey>> {
        let Some(CallSounds { anchor, recorded, others }) = self.sounds_of(call) else { return Vec::new() };
        let all: Vec<&Leg> = self.table.legs_of(call).collect();
        let talks_elsewhere = |group: &SoundGroup<'_>| match group.legs.as_slice() {
            [(_, leg)] => self.talks_with_other_caller(leg, anchor),
            _ => false,
        };
        let doubts = self.doubtful_legs(call);
        let mut found: Vec<Vec<LegKey>> = Vec::new();
        for group in others {
            let is_foreign = self.has_foreign_sound(&group, &recorded, anchor, &doubts);
            let legs = match is_foreign {
                true => self.with_effects(&group, &recorded, &doubts),
                false if group.is_missing_in(&recorded, anchor, &all) || talks_elsewhere(&group) => group.keys(),
                false => continue,
            };
            let is_new = |key: &LegKey| !found.iter().flatten().any(|known| known == key);
            let legs: Vec<LegKey> = legs.into_iter().filter(is_new).collect();
            found.extend((!legs.is_empty()).then_some(legs));
        }
        found
    }

    /// Returns the legs of an ended call that had sound of both sides and outlived the recorded leg. Their last media
    /// must be at least a second later. Returns none if the later sound is only a tone or silence.
    pub(crate) fn legs_heard_after_recording(&self, call: CallKey) -> Vec<LegKey> {
        let Some(recorded) = self.recorded_leg(call) else { return Vec::new() };
        let times = |leg: &Leg| leg.media.last_at().zip(recorded.media.last_at());
        let goes_on = |leg: &Leg| times(leg).is_some_and(|(own, end)| own.since(end) >= LEAST_SOUND);
        let is_heard = |key: &&LegKey| self.table.leg(**key).is_some_and(|leg| is_conversation(leg) && goes_on(leg));
        let legs: Vec<LegKey> = self.table.keys_of(call).iter().filter(is_heard).copied().collect();
        let is_spoken = |rest: RestOfSound| rest == RestOfSound::Speech;
        if self.rests_after_recording(call, &legs).any(is_spoken) { legs } else { Vec::new() }
    }

    /// Returns the command by which an ended call keeps the extension that answered it. The leg of this extension goes
    /// on, e.g. because the telephone stays off-hook, and becomes a call of its own.
    ///
    /// Either the PBX passed the answer on to the caller, and nothing shows other sound. Or it passed the caller's voice
    /// on. Otherwise the leg may be that of a stranger.
    pub(crate) fn served_by_survivor(&self, call: CallKey, legs: &[LegKey]) -> Option<Command> {
        let all: Vec<&Leg> = self.table.legs_of(call).collect();
        let roles = CallRoles::from_legs(&all, self.plan)?;
        let (operator, anchor) = (roles.operator?, roles.anchor);
        let is_operator = |key: &LegKey| self.table.leg(*key).is_some_and(|leg| leg.id == operator.id);
        let relays = self.table.call(call)?.notes.relays();
        let is_relayed = relays.contains(&(operator.id.min(anchor.id), operator.id.max(anchor.id)));
        let has_other_sound = || self.legs_of_other_sound(call).iter().flatten().any(is_operator);
        let talks = is_relayed || are_answered_together(operator, anchor) && !has_other_sound();
        let (at, _) = operator.dialog.answered.filter(|_| legs.iter().any(is_operator) && talks)?;
        self.served_by(call, operator, at)
    }

    /// Returns whether a PBX has played only a busy or reorder tone on all these legs since the end of the recorded
    /// leg.
    pub(crate) fn have_only_tones(&self, call: CallKey, legs: &[LegKey]) -> bool {
        self.rests_after_recording(call, legs).all(|rest| rest == RestOfSound::Tone)
    }

    /// Returns for each of these legs the kind of its sound after the end of the recorded leg, e.g. speech or a busy
    /// tone.
    fn rests_after_recording<'a>(
        &'a self,
        call: CallKey,
        legs: &'a [LegKey],
    ) -> impl Iterator<Item = RestOfSound> + use<'a> {
        let end = self.recorded_leg(call).and_then(|leg| leg.media.last_at());
        let rest = move |leg: &Leg| end.map_or(RestOfSound::Speech, |end| leg.media.rest_since(end));
        legs.iter().filter_map(|key| self.table.leg(*key)).map(rest)
    }

    /// Returns the leg that supplies the sound of the recording; `None` if no leg has media.
    fn recorded_leg(&self, call: CallKey) -> Option<&Leg> {
        let legs: Vec<&Leg> = self.table.legs_of(call).collect();
        CallRoles::from_legs(&legs, self.plan)?.recorded_leg(&legs)
    }

    /// Returns whether the telephone on `leg` talks with another caller than the caller of this call. Only numbers may
    /// have joined `leg` to the call.
    ///
    /// The recorded leg `anchor` is the caller's leg. Returns true if a second telephone answered together with
    /// `anchor`, and the telephone on `leg` answered at another moment. Both telephones must talk at the same time for
    /// some seconds. A telephone that hears the recorded caller, e.g. in a page to a group, does not count.
    fn talks_with_other_caller(&self, leg: &Leg, anchor: &Leg) -> bool {
        let is_weak = leg.join.rests_on_numbers() && !leg.join.is_confirmed();
        let pbx = leg.machines().0;
        let is_with_anchor = |l: &Leg| are_answered_together(l, anchor);
        let is_operator = |other: &Leg| {
            other.id != leg.id
                && other.id != anchor.id
                && other.may_have_party()
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
            && !hears_caller(leg, anchor)
    }

    /// Returns the sounds of a call; `None` if the call has only one leg, or no media.
    pub(super) fn sounds_of(&self, call: CallKey) -> Option<CallSounds<'_>> {
        let anchor = self.recorded_leg(call).filter(|_| self.table.keys_of(call).len() > 1)?;
        let mut others = self.sound_groups(call);
        let position = others.iter().position(|group| group.legs.iter().any(|(_, leg)| leg.id == anchor.id))?;
        let mut recorded = others.swap_remove(position);
        others.extend(recorded.split_at_other_time(anchor));
        Some(CallSounds { anchor, recorded, others })
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

/// Minimum time for which two telephones of a PBX must talk at the same time to count as two conversations. After a
/// blind transfer, two telephones are connected at once for a moment.
const TALK_AT_ONCE: Duration = Duration::from_secs(3);
