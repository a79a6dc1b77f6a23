//! Tests of a provider that forks a call to two addresses of the PBX. The PBX rings its telephones from a third address.

use callspan::call::record::Side;

use crate::scenarios::machines::TwoAddresses;
use crate::scenarios::{DID, MUSIC, OUTSIDE, call_of};
use crate::support::playback::{PlayedScene, play};
use crate::support::scenario::{DialogId, ScenePhone};

/// The two branches of a caller's fork, and the leg by which the PBX rings 200 for a caller of this number.
struct Fork {
    site: TwoAddresses,
    branches: [DialogId; 2],
    telephone: DialogId,
}

impl Fork {
    /// Rings both addresses and, a moment later, 200.
    fn new() -> Self {
        let mut site = TwoAddresses::new();
        let (a, telephone) = (site.inbound(OUTSIDE), site.rings_200(OUTSIDE));
        let (mut provider, mut second) = (ScenePhone::new(OUTSIDE, 1), ScenePhone::new(DID, 98));
        let b = site.scene.leg(&mut provider, &mut second, [OUTSIDE, DID]);
        let first = site.scene.get(a).clone();
        let dialog = site.scene.at(b);
        (dialog.call_id, dialog.tags[0], dialog.media[0]) = (first.call_id, first.tags[0].clone(), first.media[0]);
        for leg in [a, b, telephone] {
            site.scene.invite_and_ring(leg);
        }
        site.scene.wait(2_000);
        Self { site, branches: [a, b], telephone }
    }

    /// Plays the voices of the caller and of a telephone on the answered branch for 3 s. Then ends `legs`.
    fn finish(mut self, legs: &[DialogId]) -> (PlayedScene, Self) {
        let voices = [(1, self.branches[0], Side::Caller), (3, self.branches[0], Side::Callee)];
        self.site.scene.sound(&voices, 3_000);
        self.site.scene.bye_all(legs, Side::Caller);
        (play(&self.site.scene), self)
    }
}

/// 200 talks for a second with a stranger, whose own leg the mirror does not show, while the caller hears music. The talk
/// ends when the provider cancels a branch, because the other branch was answered.
#[test]
fn the_end_of_a_cancelled_branch_confirms_no_stranger() {
    let mut fork = Fork::new();
    let ([a, b], telephone) = (fork.branches, fork.telephone);
    let scene = &mut fork.site.scene;
    scene.progress(a);
    scene.answer(telephone);
    scene.sound(&[(4, telephone, Side::Caller), (2, telephone, Side::Callee), (MUSIC, a, Side::Callee)], 1_200);
    scene.answer(a);
    scene.cancel(b);
    scene.bye(telephone, Side::Caller);
    let (played, fork) = fork.finish(&[a]);
    assert_eq!(played.calls.len(), 2);
    let [one, two] = [a, telephone].map(|leg| &call_of(&played, &fork.site.scene, leg).record);
    assert_eq!((one.legs.len(), one.internal.as_deref()), (2, None));
    assert_eq!((two.legs.len(), two.internal.as_deref()), (1, Some("200")));
}

#[test]
fn the_telephone_of_an_answered_branch_stays_in_its_call() {
    let mut fork = Fork::new();
    let ([a, b], telephone) = (fork.branches, fork.telephone);
    let scene = &mut fork.site.scene;
    scene.answer(telephone);
    scene.sound(&[(3, telephone, Side::Callee)], 400);
    scene.answer(a);
    scene.cancel(b);
    let (played, _) = fork.finish(&[a, telephone]);
    let record = &played.only().record;
    assert_eq!((record.legs.len(), record.internal.as_deref()), (3, Some("200")));
}
