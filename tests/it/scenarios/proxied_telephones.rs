//! Tests of telephones behind a proxy, whose legs content moves to another call. All hops of a telephone must move, and
//! no hop of another telephone.

use callspan::call::record::{CallOutcome, Side};

use crate::scenarios::dialog_lifecycle::hears;
use crate::scenarios::one_dialog::{answer, dialog, invite};
use crate::scenarios::{DID, OUTSIDE, call_of};
use crate::support::playback::{PlayedScene, play};
use crate::support::scenario::{DialogId, Scene, ScenePhone};

const SECOND: &str = "+79990000002";

/// A PBX with two trunks. Its telephones are behind a proxy on host 8.
struct ProxiedSite {
    scene: Scene,
    /// The two callers, with the voices 1 and 4.
    callers: [ScenePhone; 2],
    pbx: ScenePhone,
    proxy: ScenePhone,
    /// The telephones 200 and 201, with the voices 2 and 3.
    telephones: [ScenePhone; 2],
}

impl ProxiedSite {
    fn new() -> Self {
        Self {
            scene: Scene::noisy(),
            callers: [ScenePhone::new(OUTSIDE, 1), ScenePhone::new(SECOND, 4)],
            pbx: ScenePhone::new(DID, 9),
            proxy: ScenePhone::new("", 8),
            telephones: [ScenePhone::new("200", 2), ScenePhone::new("201", 3)],
        }
    }

    /// Adds the hops on which the PBX rings a telephone.
    fn rings(&mut self, telephone: usize) -> Vec<DialogId> {
        let Self { scene, pbx, proxy, telephones, .. } = self;
        let telephone = &mut telephones[telephone];
        let number = telephone.user.clone();
        dialog(scene, &mut [pbx, proxy, telephone], [OUTSIDE, &number])
    }
}

/// Returns speakers for a conversation of a caller on a trunk with a telephone.
fn conversation(trunk: DialogId, telephone: DialogId, voices: [u8; 2]) -> [(u8, DialogId, Side); 4] {
    let [caller, callee] = voices;
    [
        (caller, trunk, Side::Caller),
        (callee, trunk, Side::Callee),
        (caller, telephone, Side::Caller),
        (callee, telephone, Side::Callee),
    ]
}

/// Asserts extension and Call-IDs of the call with this first leg. A Call-ID stands there once for each hop.
#[track_caller]
fn assert_call(played: &PlayedScene, scene: &Scene, first: DialogId, extension: &str, legs: &[DialogId]) {
    let record = &call_of(played, scene, first).record;
    let mut found: Vec<&str> = record.legs.iter().map(|leg| leg.sip_call_id.as_str()).collect();
    let mut want: Vec<&str> = legs.iter().map(|leg| scene.get(*leg).call_id.as_str()).collect();
    found.sort_unstable();
    want.sort_unstable();
    assert_eq!((record.internal.as_deref(), found), (Some(extension), want));
    assert_eq!(record.outcome, CallOutcome::Answered);
}

/// Plays a call of an agent behind the proxy, until the customer hangs up. Then the next customer talks with the agent,
/// whose telephone stays connected. If `is_told`, the PBX holds and resumes the agent's dialog in between. Returns the
/// legs of the customers and the agent, and the span of time of the second talk.
fn two_customers_of_an_agent(is_told: bool) -> (PlayedScene, Scene, [DialogId; 2], Vec<DialogId>, [i64; 2]) {
    let mut site = ProxiedSite::new();
    let b = site.rings(0);
    let ProxiedSite { mut scene, callers: [mut one, mut two], mut pbx, .. } = site;
    let a = scene.leg(&mut one, &mut pbx, [OUTSIDE, DID]);
    let c = scene.leg(&mut two, &mut pbx, [SECOND, DID]);
    invite(&mut scene, &[&[a], &b[..]].concat());
    scene.wait(1_000);
    answer(&mut scene, &[&[a], &b[..]].concat());
    scene.sound(&conversation(a, b[0], [1, 2]), 5_000);
    scene.bye(a, Side::Caller);
    if is_told {
        b.iter().for_each(|hop| scene.hold(*hop, Side::Caller));
        scene.wait(2_000);
    }
    scene.invite(c);
    scene.answer(c);
    if is_told {
        b.iter().for_each(|hop| scene.resume(*hop, Side::Caller));
    }
    let talks = scene.now();
    scene.sound(&conversation(c, b[0], [4, 2]), 8_000);
    let ended = scene.bye(c, Side::Caller);
    scene.bye_all(&b, Side::Caller);
    (play(&scene), scene, [a, c], b, [talks, ended])
}

#[test]
fn all_hops_of_an_agent_follow_the_next_customer() {
    let (played, scene, [a, _], _, [talks, ended]) = two_customers_of_an_agent(true);
    assert_eq!(played.calls.len(), 2);
    assert_call(&played, &scene, a, "200", &[a]);
    let second = played.calls.iter().find(|call| call.record.from.as_deref() == Some(SECOND));
    let second = second.expect("the second customer");
    assert_eq!((second.record.legs.len(), second.record.internal.as_deref()), (3, Some("200")));
    hears(second, (4, 2), talks, ended);
}

/// Nothing shows that the agent talks with the next customer, so the agent's dialog becomes a call of its own.
#[test]
fn all_hops_of_a_telephone_survive_its_call_together() {
    let (played, scene, [a, c], b, _) = two_customers_of_an_agent(false);
    assert_eq!(played.calls.len(), 3);
    assert_eq!(call_of(&played, &scene, a).record.legs.len(), 1);
    assert_eq!(call_of(&played, &scene, c).record.legs.len(), 1);
    assert_call(&played, &scene, b[0], "200", &b);
}

/// The PBX rings 201 for another caller, with the number of the first caller. So 201 seems to ring for the first caller,
/// together with 200. Both telephones are behind one proxy.
#[test]
fn a_telephone_moves_without_a_hop_of_another_one() {
    for is_second_first in [false, true] {
        let mut site = ProxiedSite::new();
        let (b, d) = (site.rings(0), site.rings(1));
        let ProxiedSite { mut scene, callers: [mut one, mut two], mut pbx, .. } = site;
        let mut trunk = ScenePhone::new(DID, 79);
        let a = scene.leg(&mut one, &mut pbx, [OUTSIDE, DID]);
        let c = scene.leg(&mut two, &mut trunk, [SECOND, DID]);
        scene.invite(a);
        scene.invite(c);
        let telephones = if is_second_first { [&d, &b] } else { [&b, &d] };
        telephones.into_iter().for_each(|hops| invite(&mut scene, hops));
        scene.wait(1_000);
        answer(&mut scene, &[&[a], &b[..]].concat());
        scene.wait(500);
        answer(&mut scene, &[&[c], &d[..]].concat());
        let talks = scene.now();
        scene.sound(&[conversation(a, b[0], [1, 2]), conversation(c, d[0], [4, 3])].concat(), 8_000);
        let ended = scene.bye_all(&[&[a, c], &b[..], &d[..]].concat(), Side::Caller);
        let played = play(&scene);
        assert_eq!(played.calls.len(), 2, "{is_second_first}");
        assert_call(&played, &scene, a, "200", &[&[a], &b[..]].concat());
        assert_call(&played, &scene, c, "201", &[&[c], &d[..]].concat());
        hears(call_of(&played, &scene, a), (1, 2), talks, ended);
        hears(call_of(&played, &scene, c), (4, 3), talks, ended);
    }
}
