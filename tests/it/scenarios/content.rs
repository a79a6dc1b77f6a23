//! Tests of content evidence. If a PBX forwards the bytes of voices, equal bytes join legs that signalling cannot join.
//! They also separate legs that numbers joined wrongly. Music, tones, conferences and transcoded legs prove nothing.

use callspan::call::config::{Config, RegistrationMoment};
use callspan::call::correlation_rule::CorrelationRule;
use callspan::call::record::{CallDirection, CallOutcome, Side};
use callspan::net::Endpoint;

use crate::scenarios::dialog_lifecycle::hears;
use crate::scenarios::{DID, OUTSIDE, call_of, related, two_callers_of_one_number};
use crate::support::playback::{PlayedScene, play, play_with};
use crate::support::scenario::{DialogId, Scene, ScenePhone};

/// The caller's number in the form in which the PBX sends it to its telephones.
const REWRITTEN: &str = "0451234567";

/// A PBX with two addresses that changes the numbers. Each party has its own voice.
struct RewritingPbx {
    scene: Scene,
    outside: ScenePhone,
    other: ScenePhone,
    wan: ScenePhone,
    lan: ScenePhone,
    e200: ScenePhone,
    e201: ScenePhone,
}

impl RewritingPbx {
    fn new(scene: Scene) -> Self {
        let public = |host: u8| Endpoint::v4([198, 51, 100, host], 5_060);
        Self {
            scene,
            outside: ScenePhone { sip: public(1), ..ScenePhone::new(OUTSIDE, 1) },
            other: ScenePhone { sip: public(4), ..ScenePhone::new("+79990000002", 4) },
            wan: ScenePhone { voice: 5, ..ScenePhone::new(DID, 9) },
            lan: ScenePhone { voice: 5, ..ScenePhone::new(DID, 99) },
            e200: ScenePhone::new("200", 2),
            e201: ScenePhone::new("201", 3),
        }
    }

    /// Makes the trunk's leg and the telephone's leg of an inbound call. The two legs have no host and no number in
    /// common.
    fn inbound(&mut self) -> (DialogId, DialogId) {
        let a = self.scene.leg(&mut self.outside, &mut self.wan, [OUTSIDE, DID]);
        (a, self.scene.leg(&mut self.lan, &mut self.e200, [REWRITTEN, "200"]))
    }

    /// Makes the telephone's leg and the trunk's leg of an outbound call, which also have no host and no number in common.
    fn outbound(&mut self) -> (DialogId, DialogId) {
        let a = self.scene.leg(&mut self.e200, &mut self.lan, ["200", "989990000001"]);
        (a, self.scene.leg(&mut self.wan, &mut self.outside, [DID, OUTSIDE]))
    }

    /// Does the same as [`RewritingPbx::inbound`], with another caller and extension 201.
    fn second_inbound(&mut self) -> (DialogId, DialogId) {
        let a = self.scene.leg(&mut self.other, &mut self.wan, ["+79990000002", DID]);
        (a, self.scene.leg(&mut self.lan, &mut self.e201, [REWRITTEN, "201"]))
    }
}

/// Plays the voices of two bridged calls at the same time.
fn bridge_both(scene: &mut Scene, [a, b]: [DialogId; 2], [c, d]: [DialogId; 2], ms: i64) {
    let voices = |scene: &Scene, a, b| (scene.get(a).voices[0], scene.get(b).voices[1]);
    let ((l, r), (l2, r2)) = (voices(scene, a, b), voices(scene, c, d));
    let (from, to) = (Side::Caller, Side::Callee);
    let first = [(l, a, from), (r, a, to), (l, b, from), (r, b, to)];
    let second = [(l2, c, from), (r2, c, to), (l2, d, from), (r2, d, to)];
    scene.sound(&[first, second].concat(), ms);
}

/// Returns the rules that joined the legs of a call.
fn joined_by(played: &PlayedScene, scene: &Scene, first: DialogId) -> Vec<CorrelationRule> {
    call_of(played, scene, first).record.legs.iter().filter_map(|leg| leg.joined_by).collect()
}

#[test]
fn legs_without_a_common_host_or_number_are_joined_by_their_content() {
    let mut site = RewritingPbx::new(Scene::noisy());
    let (a, b) = site.inbound();
    site.scene.connect_through(a, b, 2_000);
    let [talks, ended] = site.scene.bridge_until_bye(a, b, 5_000, Side::Caller);
    let played = play(&site.scene);
    let record = &played.only().record;
    assert_eq!(
        (record.direction, record.internal.as_deref(), record.outcome),
        (CallDirection::Inbound, Some("200"), CallOutcome::Answered)
    );
    assert_eq!((record.from.as_deref(), record.legs.len()), (Some(OUTSIDE), 2));
    assert_eq!(joined_by(&played, &site.scene, a), [CorrelationRule::MediaContent]);
    hears(played.only(), (1, 2), talks, ended);
    // While it rang, the trunk's leg was a live call of its own. It was never announced as answered.
    assert_eq!(played.absorbed.len(), 1);
    let of_absorbed = played.announced.iter().filter(|(_, live)| live.record.id == played.absorbed[0]);
    assert!(of_absorbed.clone().count() > 0 && of_absorbed.clone().all(|(_, live)| live.record.answered_at.is_none()));
    assert_ne!(played.absorbed[0], record.id);
    // After two such calls of different parties, both addresses count as one machine. This is the first call.
    let pairs: Vec<(u32, bool)> = played.learnt.iter().map(|pair| (pair.seen, pair.is_believed())).collect();
    assert_eq!(pairs, [(2, false)], "its content counts twice, its moments not again");
}

/// The mirror shows the answer to the caller a moment after the first packets of the voices.
#[test]
fn voices_that_begin_before_the_answer_are_compared() {
    let mut site = RewritingPbx::new(Scene::noisy());
    let (a, b) = site.inbound();
    site.scene.ring_through(a, b);
    site.scene.wait(1_000);
    site.scene.answer(b);
    let talks = site.scene.now();
    site.scene.bridge(a, b, 4_000);
    let ends = site.scene.now();
    site.scene.set_now(talks + 30);
    site.scene.answer(a);
    site.scene.set_now(ends);
    site.scene.bye_all(&[a, b], Side::Caller);
    assert_eq!(play(&site.scene).only().record.internal.as_deref(), Some("200"));
}

#[test]
fn an_outbound_call_with_rewritten_numbers_is_joined_by_its_content() {
    let mut site = RewritingPbx::new(Scene::noisy());
    let (a, b) = site.outbound();
    site.scene.connect_through(a, b, 2_000);
    let [talks, ended] = site.scene.bridge_until_bye(a, b, 4_000, Side::Callee);
    let played = play(&site.scene);
    let record = &played.only().record;
    assert_eq!((record.direction, record.internal.as_deref()), (CallDirection::Outbound, Some("200")));
    hears(played.only(), (2, 1), talks, ended);
}

/// The mirror port shows the callee's voice on the first leg a moment before it shows it on the second leg, from which it
/// comes. The caller begins to speak later.
#[test]
fn voices_that_two_interfaces_show_in_the_wrong_order_change_no_party() {
    let parties =
        [(CallDirection::Inbound, [OUTSIDE, DID, "200"]), (CallDirection::Outbound, ["200", "989990000001", "200"])];
    for (direction, numbers) in parties {
        let mut site = RewritingPbx::new(Scene::noisy());
        let (a, b) = if direction == CallDirection::Inbound { site.inbound() } else { site.outbound() };
        site.scene.connect_through(a, b, 2_000);
        let callee = site.scene.get(b).voices[1];
        site.scene.sound(&[(callee, a, Side::Callee), (callee, b, Side::Callee)], 600);
        site.scene.bridge_until_bye(a, b, 5_000, Side::Caller);
        let played = play(&site.scene);
        let record = &played.only().record;
        let shown = [&record.from, &record.to, &record.internal].map(Option::as_deref);
        assert_eq!((record.direction, shown), (direction, numbers.map(Some)));
    }
}

#[test]
fn tones_alone_prove_nothing() {
    let mut site = RewritingPbx::new(Scene::new());
    let (a, b) = site.inbound();
    site.scene.connect_through(a, b, 2_000);
    site.scene.bridge_until_bye(a, b, 5_000, Side::Caller);
    let played = play(&site.scene);
    assert_eq!(played.calls.len(), 2);
    assert!(played.calls.iter().all(|call| call.sound.is_some()), "both voices are kept");
}

#[test]
fn two_calls_at_once_are_each_joined_to_their_own_telephone() {
    let mut site = RewritingPbx::new(Scene::noisy());
    let ((a, b), (c, d)) = (site.inbound(), site.second_inbound());
    for leg in [a, c, b, d] {
        site.scene.invite_and_ring(leg);
    }
    site.scene.wait(1_000);
    for leg in [d, b, c, a] {
        site.scene.answer(leg);
    }
    let talks = site.scene.now();
    bridge_both(&mut site.scene, [a, b], [c, d], 5_000);
    let ended = site.scene.bye_all(&[a, b, c, d], Side::Caller);
    let played = play(&site.scene);
    assert_eq!(played.calls.len(), 2);
    for (first, extension, voices) in [(a, "200", (1, 2)), (c, "201", (4, 3))] {
        let call = call_of(&played, &site.scene, first);
        assert_eq!(call.record.internal.as_deref(), Some(extension));
        assert_eq!(joined_by(&played, &site.scene, first), [CorrelationRule::MediaContent]);
        hears(call, voices, talks, ended);
    }
}

/// Two callers without a number reach 200 and 201 at the same time, through one PBX with one address. Before they talk,
/// it cannot be known which telephone rings for which caller.
#[test]
fn callers_without_a_number_are_told_apart_by_their_content() {
    let mut scene = Scene::noisy();
    let mut phones =
        [("anonymous", 1), ("anonymous", 4), ("200", 2), ("201", 3)].map(|(user, n)| ScenePhone::new(user, n));
    let [one, two, e200, e201] = &mut phones;
    let mut pbx = ScenePhone { voice: 5, ..ScenePhone::new(DID, 9) };
    let (a, c) = (scene.leg(one, &mut pbx, ["anonymous", DID]), scene.leg(two, &mut pbx, ["anonymous", DID]));
    let b = scene.leg(&mut pbx, e200, ["anonymous", "200"]);
    let d = scene.leg(&mut pbx, e201, ["anonymous", "201"]);
    for leg in [a, c, d, b] {
        scene.invite_and_ring(leg);
    }
    scene.wait(1_000);
    for leg in [b, d, a, c] {
        scene.answer(leg);
    }
    let talks = scene.now();
    bridge_both(&mut scene, [a, b], [c, d], 6_000);
    let ended = scene.bye_all(&[a, b, c, d], Side::Caller);
    let played = play(&scene);
    for (first, extension, voices) in [(a, "200", (1, 2)), (c, "201", (4, 3))] {
        let call = call_of(&played, &scene, first);
        assert_eq!(call.record.internal.as_deref(), Some(extension), "{:?}", call.record.legs);
        hears(call, voices, talks, ended);
    }
    assert_eq!(played.calls.len(), 2);
}

#[test]
fn music_on_hold_for_two_callers_joins_nobody() {
    let mut site = RewritingPbx::new(Scene::noisy());
    let a = site.scene.leg(&mut site.outside, &mut site.wan, [OUTSIDE, DID]);
    let c = site.scene.leg(&mut site.e200, &mut site.lan, ["200", "700"]);
    site.scene.connect(a);
    site.scene.connect(c);
    // Both callers talk, and both hear the same music from the PBX.
    let voices = [(1, a, Side::Caller), (5, a, Side::Callee), (2, c, Side::Caller), (5, c, Side::Callee)];
    site.scene.sound(&voices, 8_000);
    site.scene.bye_all(&[a, c], Side::Caller);
    let played = play(&site.scene);
    assert_eq!(played.calls.len(), 2);
    assert!(played.calls.iter().all(|call| call.record.related.is_empty()));
}

#[test]
fn two_who_meet_in_a_conference_stay_two_calls() {
    let mut site = RewritingPbx::new(Scene::noisy());
    let a = site.scene.leg(&mut site.outside, &mut site.wan, [OUTSIDE, DID]);
    let c = site.scene.leg(&mut site.other, &mut site.wan, ["+79990000002", DID]);
    site.scene.connect(a);
    site.scene.wait(5_000);
    site.scene.connect(c);
    let voices = [(1, a, Side::Caller), (4, a, Side::Callee), (4, c, Side::Caller), (1, c, Side::Callee)];
    site.scene.sound(&voices, 5_000);
    site.scene.bye_all(&[a, c], Side::Caller);
    let played = play(&site.scene);
    assert_eq!(played.calls.len(), 2);
    let (first, second) = (&played.calls[0].record, &played.calls[1].record);
    assert!(related(first, second), "they heard each other");
    assert_eq!(first.relations[0].why, CorrelationRule::MediaContent);
}

/// The caller talks to a voice menu for a minute. Then the PBX calls a telephone.
#[test]
fn a_telephone_that_rings_late_is_found_by_its_content() {
    let mut site = RewritingPbx::new(Scene::noisy());
    let (a, b) = site.inbound();
    site.scene.connect(a);
    site.scene.sound(&[(1, a, Side::Caller), (5, a, Side::Callee)], 60_000);
    site.scene.invite_and_ring(b);
    site.scene.wait(2_000);
    site.scene.answer(b);
    let talks = site.scene.now();
    site.scene.bridge(a, b, 40_000);
    let ended = site.scene.bye_all(&[a, b], Side::Caller);
    let played = play(&site.scene);
    let call = played.only();
    assert_eq!(call.record.internal.as_deref(), Some("200"));
    hears(call, (1, 2), talks, ended);
}

/// The trunk's leg names no extension. When it is answered, delivery registers an outbound call. The voices prove that
/// the extension's leg is the same call, but only after the registration.
#[test]
fn registered_outbound_call_is_related_and_not_absorbed() {
    let mut site = RewritingPbx::new(Scene::noisy());
    let a = site.scene.leg(&mut site.e200, &mut site.lan, ["200", "8055"]);
    let b = site.scene.leg(&mut site.wan, &mut site.outside, [DID, OUTSIDE]);
    site.scene.connect_through(a, b, 2_000);
    site.scene.wait(6_000);
    site.scene.bridge_until_bye(a, b, 5_000, Side::Caller);
    let played = play(&site.scene);
    let [first, second] = played.calls.as_slice() else { panic!("two calls, not {}", played.calls.len()) };
    assert!(related(&first.record, &second.record) && played.absorbed.is_empty());
}

#[test]
fn calls_that_are_registered_at_the_invite_are_related_and_stay_two() {
    let mut site = RewritingPbx::new(Scene::noisy());
    let (a, b) = site.inbound();
    site.scene.connect_through(a, b, 2_000);
    site.scene.bridge_until_bye(a, b, 5_000, Side::Caller);
    let config = Config { registered_at: RegistrationMoment::Invite, ..Config::default() };
    let played = play_with(&site.scene, config);
    let [first, second] = played.calls.as_slice() else { panic!("two calls, not {}", played.calls.len()) };
    assert!(related(&first.record, &second.record) && played.absorbed.is_empty());
    assert_eq!(first.record.relations[0].why, CorrelationRule::MediaContent);
}

/// Two calls from one number come at the same time, and the telephones are answered at the same moment as both callers.
/// By their numbers, the telephones are joined to the wrong callers.
#[test]
fn wrongly_assigned_telephone_moves_to_the_caller_with_its_voice() {
    for swapped in [false, true] {
        let mut scene = Scene::noisy();
        let [a, c, b, d] = two_callers_of_one_number(&mut scene);
        scene.invite(a);
        scene.wait(700);
        scene.invite(c);
        scene.wait(700);
        scene.invite_and_ring(b);
        scene.wait(700);
        scene.invite_and_ring(d);
        scene.wait(1_000);
        for leg in [b, d, a, c] {
            scene.answer(leg);
        }
        let (for_a, for_c) = if swapped { (d, b) } else { (b, d) };
        let talks = scene.now();
        bridge_both(&mut scene, [a, for_a], [c, for_c], 6_000);
        let ended = scene.bye_all(&[a, b, c, d], Side::Caller);
        let played = play(&scene);
        assert_eq!(played.calls.len(), 2, "swapped: {swapped}");
        let extension = |leg: DialogId| if leg == b { ("200", 2) } else { ("201", 3) };
        for (first, leg, voice) in [(a, for_a, 1), (c, for_c, 4)] {
            let call = call_of(&played, &scene, first);
            assert_eq!(call.record.internal.as_deref(), Some(extension(leg).0), "swapped: {swapped}");
            hears(call, (voice, extension(leg).1), talks, ended);
        }
    }
}

/// The PBX rings 200 through a border controller for a caller at its other address. By its number, the telephone is joined
/// to the first caller, who rings or waits in a queue. The PBX plays an announcement to 200 before it connects the caller.
/// So the border controller is proven to pass voices on before the PBX is.
#[test]
fn voice_passed_on_to_an_own_effect_proves_no_call() {
    for is_queued in [false, true] {
        let mut scene = Scene::noisy();
        let [mut one, mut two] = [1, 4].map(|host| ScenePhone::new(OUTSIDE, host));
        let [mut pbx, mut wan, mut controller] = [9, 99, 20].map(|host| ScenePhone::new(DID, host));
        let a = scene.leg(&mut one, &mut pbx, [OUTSIDE, DID]);
        let c = scene.leg(&mut two, &mut wan, [OUTSIDE, DID]);
        let b = scene.leg(&mut pbx, &mut controller, [OUTSIDE, "200"]);
        let next = scene.leg(&mut controller, &mut ScenePhone::new("200", 2), [OUTSIDE, "200"]);
        let mut waits = vec![];
        if is_queued {
            scene.connect(a);
            waits = vec![(1, a, Side::Caller), (5, a, Side::Callee)];
            scene.sound(&waits, 3_000);
        } else {
            scene.invite_and_ring(a);
        }
        scene.wait(600);
        scene.invite_and_ring(c);
        scene.ring_through(b, next);
        scene.wait(1_000);
        for leg in [next, b, c] {
            scene.answer(leg);
        }
        let telephone = [(2, next, Side::Callee), (2, b, Side::Callee)];
        scene.sound(&[&waits, &telephone[..], &[(6, b, Side::Caller), (6, next, Side::Caller)]].concat(), 1_500);
        let talks = scene.now();
        let talk = [(4, c, Side::Caller), (4, b, Side::Caller), (4, next, Side::Caller), (2, c, Side::Callee)];
        scene.sound(&[&waits, &telephone[..], &talk].concat(), 6_000);
        let ended = scene.bye_all(&[c, b, next], Side::Caller);
        match is_queued {
            true => _ = scene.bye(a, Side::Caller),
            false => scene.cancel(a),
        }
        let played = play(&scene);
        assert_eq!(played.calls.len(), 2, "queued: {is_queued}");
        let call = call_of(&played, &scene, c);
        assert_eq!(call.record.internal.as_deref(), Some("200"), "queued: {is_queued}");
        hears(call, (4, 2), talks, ended);
    }
}

/// The signalling of each leg shows only one of the PBX's two addresses. A third host sends the media, so the hosts of
/// the media prove nothing about the PBX, but the voices do.
#[test]
fn media_through_a_separate_relay_joins_too() {
    let mut site = RewritingPbx::new(Scene::noisy());
    let (a, b) = site.inbound();
    let relay = Endpoint::v4([10, 0, 0, 77], 30_000);
    site.scene.at(a).media[1] = relay;
    site.scene.at(b).media[0] = relay.with_port(30_002);
    site.scene.connect_through(a, b, 2_000);
    site.scene.bridge_until_bye(a, b, 5_000, Side::Caller);
    let played = play(&site.scene);
    assert_eq!(played.only().record.internal.as_deref(), Some("200"));
}

/// The telephone's leg is captured before the leg of the border controller that caused it. By their numbers, both legs
/// are one call. The border controller forwards the voices of the provider's leg unchanged on its own leg to the PBX.
#[test]
fn a_call_whose_legs_cannot_be_parted_is_joined_as_a_whole() {
    let mut site = RewritingPbx::new(Scene::noisy());
    let mut inside = ScenePhone { voice: 5, ..ScenePhone::new("sbc", 50) };
    let mut pbx = ScenePhone { voice: 5, ..ScenePhone::new("8080", 99) };
    let z = site.scene.leg(&mut site.outside, &mut site.wan, [OUTSIDE, DID]);
    let t = site.scene.leg(&mut pbx, &mut site.e200, [REWRITTEN, "200"]);
    let c = site.scene.leg(&mut inside, &mut pbx, [REWRITTEN, "8080"]);
    site.scene.invite(z);
    site.scene.invite(t);
    site.scene.wait(50);
    site.scene.invite(c);
    site.scene.wait(1_000);
    for leg in [t, c, z] {
        site.scene.ring(leg);
        site.scene.answer(leg);
    }
    // The mirror shows no media of the telephone.
    let (from, to) = (Side::Caller, Side::Callee);
    site.scene.sound(&[(1, z, from), (2, z, to), (1, c, from), (2, c, to)], 5_000);
    site.scene.bye_all(&[z, c, t], Side::Caller);
    let played = play(&site.scene);
    let record = &played.only().record;
    assert_eq!((record.legs.len(), record.internal.as_deref()), (3, Some("200")), "{:?}", record.legs);
    assert_eq!(record.from.as_deref(), Some(OUTSIDE));
}

/// A call falls silent. Later its trunk leg has sound again, together with a new telephone leg. Still later, the old
/// telephone leg has sound again.
#[test]
fn absorbed_call_stays_the_continuation_of_its_earlier_call() {
    let mut site = RewritingPbx::new(Scene::noisy());
    let a = site.scene.leg(&mut site.outside, &mut site.wan, [OUTSIDE, DID]);
    let b = site.scene.leg(&mut site.wan, &mut site.e200, [OUTSIDE, "200"]);
    let c = site.scene.leg(&mut site.lan, &mut site.e201, [REWRITTEN, "201"]);
    site.scene.connect_through(a, b, 1_000);
    site.scene.bridge(a, b, 3_000);
    site.scene.wait(400_000);
    site.scene.connect(c);
    site.scene.bridge(a, c, 5_000);
    let (from, to) = (Side::Caller, Side::Callee);
    site.scene.sound(&[(1, a, from), (2, a, to), (1, c, from), (2, c, to), (3, b, from), (4, b, to)], 3_000);
    site.scene.bye_all(&[a, b, c], Side::Caller);
    let played = play_with(&site.scene, Config { registered_at: RegistrationMoment::End, ..Config::default() });
    let legs: Vec<usize> = played.calls.iter().map(|call| call.record.legs.len()).collect();
    assert_eq!(legs, [2, 3], "the call until the silence, and the call after it");
    assert_eq!(joined_by(&played, &site.scene, c), [CorrelationRule::MediaContent, CorrelationRule::Continues]);
}
