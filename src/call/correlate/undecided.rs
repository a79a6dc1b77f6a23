//! Finds live calls with an undecided sound. In such a call, numbers alone joined a leg that has carried other sound
//! than the recorded leg so far.

use crate::call::correlate::Correlator;
use crate::call::correlate::doubt::has_same_sides;
use crate::call::correlate::other_sound::CallSounds;
use crate::call::correlate::sound_group::SoundGroup;
use crate::call::keys::CallKey;
use crate::call::leg::Leg;
use crate::call::record::Side;
use crate::call::sound_outline::ComparisonState;

impl Correlator<'_> {
    /// Returns whether a leg that numbers alone joined to a live call carries other sound than the recorded leg so far.
    /// Later sound may still prove that both are the same.
    pub(crate) fn has_undecided_sound(&self, call: CallKey) -> bool {
        let Some(CallSounds { anchor, recorded, others }) = self.sounds_of(call) else { return false };
        let doubts = self.doubtful_legs(call);
        let is_live = |leg: &Leg| leg.dialog.ended().is_none();
        let is_undecided = |group: &SoundGroup<'_>| {
            group.members().any(is_live)
                && self.doubts_about(group, &recorded, &doubts).next().is_some()
                && is_open(group, anchor)
        };
        is_live(anchor) && others.iter().any(is_undecided)
    }
}

/// Returns whether the sound of a group of legs differs from the sound of the recorded leg so far. Returns false if one
/// side is proven to be the same.
fn is_open(group: &SoundGroup<'_>, anchor: &Leg) -> bool {
    let states: Vec<ComparisonState> = group.members().flat_map(|leg| states_of(leg, anchor)).collect();
    states.contains(&ComparisonState::Open) && !states.contains(&ComparisonState::Proven)
}

/// Compares the sound of both sides of a leg with the same sides of the recorded leg, and returns the states of these
/// comparisons. If no machine (e.g. a PBX) is between the two legs, also compares each side with the opposite side.
fn states_of(leg: &Leg, anchor: &Leg) -> Vec<ComparisonState> {
    let Some((own, other)) = leg.media.outline().zip(anchor.media.outline()) else { return Vec::new() };
    let straight = [Side::Caller, Side::Callee].map(|side| (side, side));
    let crossed = straight.map(|(side, other)| (side, other.other()));
    let pairs = straight.into_iter().chain(crossed.into_iter().filter(|_| !has_same_sides(leg, anchor)));
    pairs.map(|(side, other_side)| own.comparison_state(side, other, other_side)).collect()
}
