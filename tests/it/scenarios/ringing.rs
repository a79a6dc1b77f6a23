//! Tests of telephones that a PBX rings for a caller, one after the other or at the same time. Also tests calls that
//! nobody answers.

use callspan::call::config::{CallRule, Config, RuleAction};
use callspan::call::record::{CallDirection, CallOutcome, CallRecord, CallVerdict, EndedBy, Side};

use crate::scenarios::correlation::with_late_invite;
use crate::scenarios::dialog_lifecycle::hears;
use crate::scenarios::{DID, MUSIC, OUTSIDE, Office};
use crate::support::playback::{PlayedScene, play, play_packets, play_with};
use crate::support::scenario::{DialogId, MessageChange, Scene, ScenePhone, at, ip};

fn who(record: &CallRecord) -> (CallDirection, Option<&str>, CallOutcome) {
    (record.direction, record.internal.as_deref(), record.outcome)
}

/// Plays a call in which 200 rings for 15 s without an answer. Then 201 rings and answers. Until the answer the caller
/// hears only the ringing tone.
fn hunted(config: Config) -> (PlayedScene, i64, i64) {
    let mut office = Office::new();
    let (a, b, c) = (office.inbound(), office.rings_200(), office.rings_201());
    let scene = &mut office.scene;
    scene.ring_through(a, b);
    scene.wait(15_000);
    scene.cancel(b);
    scene.invite_and_ring(c);
    scene.wait(3_000);
    scene.answer(c);
    scene.answer(a);
    let [talks, ended] = scene.bridge_until_bye(a, c, 2_000, Side::Caller);
    (play_with(scene, config), talks, ended)
}

#[test]
fn extensions_that_are_rung_one_after_the_other_are_one_call() {
    let (played, talks, ended) = hunted(Config::default());
    let record = &played.only().record;
    assert_eq!(who(record), (CallDirection::Inbound, Some("201"), CallOutcome::Answered));
    assert_eq!(record.legs.len(), 3);
    hears(played.only(), (1, 3), talks, ended);
}

#[test]
fn excluding_the_second_extension_keeps_nothing_of_its_leg() {
    let of_201 = CallRule {
        direction: None,
        number: None,
        extension: Some("201".to_owned()),
        header: None,
        action: RuleAction::Exclude,
    };
    let (played, ..) = hunted(Config { rules: vec![of_201], ..Config::default() });
    assert_eq!(played.only().record.verdict, Some(CallVerdict::Excluded));
    assert_eq!(played.media_bytes, 0, "nothing sounded before 201 answered");
}

#[test]
fn an_extension_that_joins_the_ringing_late_is_of_the_same_call() {
    let mut office = Office::new();
    let (a, b, c) = (office.inbound(), office.rings_200(), office.rings_201());
    let scene = &mut office.scene;
    scene.ring_through(a, b);
    scene.wait(10_000);
    scene.invite_and_ring(c);
    scene.wait(2_000);
    scene.answer(c);
    scene.cancel(b);
    scene.answer(a);
    let [talks, ended] = scene.bridge_until_bye(a, c, 2_000, Side::Caller);
    let played = play(scene);
    assert_eq!(who(&played.only().record), (CallDirection::Inbound, Some("201"), CallOutcome::Answered));
    hears(played.only(), (1, 3), talks, ended);
}

#[test]
fn a_pbx_may_think_for_seconds_before_it_rings_anybody() {
    let mut office = Office::new();
    let (a, b) = (office.inbound(), office.rings_200());
    let scene = &mut office.scene;
    scene.invite(a);
    // The PBX searches the caller in a directory. This takes longer than 2 s, the time within which legs are joined by
    // their times alone.
    scene.wait(3_000);
    scene.invite_and_ring(b);
    scene.ring(a);
    scene.wait(1_000);
    scene.answer(b);
    scene.answer(a);
    let [talks, ended] = scene.bridge_until_bye(a, b, 2_000, Side::Caller);
    let played = play(scene);
    assert_eq!(who(&played.only().record), (CallDirection::Inbound, Some("200"), CallOutcome::Answered));
    hears(played.only(), (1, 2), talks, ended);
}

#[test]
fn an_ambiguous_leg_is_related_to_both_waiting_calls() {
    let mut office = Office::new();
    let (a, x, b) = (office.inbound(), office.inbound(), office.rings_200());
    let scene = &mut office.scene;
    for leg in [a, x] {
        scene.invite_and_ring(leg);
        scene.wait(5_000);
    }
    scene.invite(b);
    scene.answer(b);
    for leg in [a, x] {
        scene.answer(leg);
    }
    scene.wait(1_000);
    scene.bye_all(&[a, x, b], Side::Caller);
    let played = play(scene);
    let [one, two, three] = played.calls.as_slice() else { panic!("three calls, not {}", played.calls.len()) };
    assert!(played.calls.iter().all(|c| c.record.legs.len() == 1));
    assert_eq!(three.record.related, [one.record.id.clone(), two.record.id.clone()]);
}

/// Returns for each call the Call-IDs of its legs, in the order of the calls.
fn legs(played: &PlayedScene) -> Vec<Vec<String>> {
    played.calls.iter().map(|c| c.record.legs.iter().map(|l| l.sip_call_id.clone()).collect()).collect()
}

fn ids(scene: &Scene, dialogs: &[DialogId]) -> Vec<String> {
    dialogs.iter().map(|d| scene.get(*d).call_id.clone()).collect()
}

#[test]
fn two_calls_from_one_number_keep_their_own_extensions() {
    for caller in [OUTSIDE, "anonymous"] {
        let mut office = Office::new();
        let mut outside = ScenePhone::new(caller, 1);
        let Office { scene, pbx, e200, e201, .. } = &mut office;
        let a1 = scene.leg(&mut outside, pbx, [caller, DID]);
        let b1 = scene.leg(pbx, e200, [caller, "200"]);
        let a2 = scene.leg(&mut outside, pbx, [caller, DID]);
        let b2 = scene.leg(pbx, e201, [caller, "201"]);
        for (a, b) in [(a1, b1), (a2, b2)] {
            scene.ring_through(a, b);
            scene.wait(900);
        }
        for leg in [b1, a1, b2, a2] {
            scene.answer(leg);
        }
        let talks = scene.now();
        let voices = [(1, a1, Side::Caller), (2, a1, Side::Callee), (4, a2, Side::Caller), (3, a2, Side::Callee)];
        scene.sound(&voices, 2_000);
        let ended = scene.now();
        scene.bye_all(&[a1, b1, a2, b2], Side::Caller);
        let played = play(scene);
        assert_eq!(legs(&played), [ids(scene, &[a1, b1]), ids(scene, &[a2, b2])], "{caller}");
        let [one, two] = played.calls.as_slice() else { panic!("two calls") };
        assert_eq!((one.record.internal.as_deref(), two.record.internal.as_deref()), (Some("200"), Some("201")));
        hears(one, (1, 2), talks, ended);
        hears(two, (4, 3), talks, ended);
    }
}

#[test]
fn hunting_and_a_second_call_from_one_number_stay_separate() {
    let mut office = Office::new();
    let (a1, b1, c1) = (office.inbound(), office.rings_200(), office.rings_201());
    let (a2, mut e202) = (office.inbound(), ScenePhone::new("202", 6));
    let b2 = office.scene.leg(&mut office.pbx, &mut e202, [OUTSIDE, "202"]);
    let scene = &mut office.scene;
    for leg in [a1, b1] {
        scene.invite_and_ring(leg);
    }
    scene.wait(14_000);
    scene.invite(a2);
    scene.invite_and_ring(b2);
    scene.wait(1_000);
    // 200 stops ringing. 201 could ring for either caller.
    scene.cancel(b1);
    scene.invite(c1);
    scene.answer(c1);
    scene.answer(a1);
    scene.wait(1_000);
    scene.cancel(b2);
    scene.cancel(a2);
    scene.bye_all(&[a1, c1], Side::Caller);
    let played = play(scene);
    // The moment of the answer shows that 201 rang for the first caller.
    assert_eq!(legs(&played), [ids(scene, &[a1, b1, c1]), ids(scene, &[a2, b2])]);
}

#[test]
fn an_ambiguous_leg_is_not_assigned_to_a_newer_call() {
    let mut office = Office::new();
    let (a1, a2, b) = (office.inbound(), office.inbound(), office.rings_200());
    let scene = &mut office.scene;
    scene.connect(a1);
    scene.wait(20_000);
    scene.invite(a2);
    scene.invite(b);
    scene.answer(b);
    scene.answer(a2);
    scene.wait(500);
    scene.bye_all(&[a1, a2, b], Side::Caller);
    let played = play(scene);
    let [one, two, three] = played.calls.as_slice() else { panic!("three calls, not {}", played.calls.len()) };
    assert_eq!(three.record.related, [one.record.id.clone(), two.record.id.clone()]);
}

/// A ring group rings for one call. A second call from the same number begins and rings its own extension. A third leg
/// comes 10 ms later and could belong to either call.
#[test]
fn a_leg_within_a_ringing_burst_is_not_the_new_calls() {
    let mut office = Office::new();
    let (a1, b1, a2, c) = (office.inbound(), office.rings_200(), office.inbound(), office.rings_201());
    let scene = &mut office.scene;
    for leg in [a1, b1, a2, c] {
        scene.invite(leg);
    }
    scene.wait(1_000);
    for leg in [a1, b1, a2, c] {
        scene.cancel(leg);
    }
    let played = play(scene);
    let of_c = scene.get(c).call_id.clone();
    let with_c = legs(&played).into_iter().find(|legs| legs.contains(&of_c)).expect("every INVITE is in a record");
    assert_eq!(with_c, [of_c], "it stays alone");
}

#[test]
fn a_ring_group_of_sixty_is_one_call() {
    let mut office = Office::new();
    let a = office.inbound();
    let Office { scene, pbx, .. } = &mut office;
    scene.invite(a);
    let mut rung = Vec::new();
    for n in 0..60_u8 {
        let number = format!("3{n:02}");
        let mut phone = ScenePhone::new(&number, 100 + n);
        let leg = scene.leg(pbx, &mut phone, [OUTSIDE, &number]);
        scene.invite(leg);
        rung.push(leg);
        // INVITE and 100 of two phones follow each other with 2 ms between them.
        scene.wait(2 - 20);
    }
    for leg in &rung {
        scene.ring(*leg);
        scene.wait(1 - 10);
    }
    scene.ring(a);
    scene.wait(2_000);
    let taken = rung.remove(41);
    scene.answer(taken);
    scene.answer(a);
    for leg in &rung {
        scene.cancel(*leg);
        scene.wait(1 - 40);
    }
    let [talks, ended] = scene.bridge_until_bye(a, taken, 2_000, Side::Caller);
    let played = play(scene);
    assert_eq!(who(&played.only().record), (CallDirection::Inbound, Some("341"), CallOutcome::Answered));
    assert_eq!(played.only().record.legs.len(), 61);
    hears(played.only(), (1, (100 + 41) % 8), talks, ended);
}

#[test]
fn hanging_up_during_the_announcement_is_abandoned_with_a_known_pbx() {
    let mut office = Office::new();
    // From an ordinary call the engine learns which host is the PBX, and that the mirror shows its telephones.
    office.plain_call();
    office.scene.wait(60_000);
    let mut caller = ScenePhone::new("+79990000555", 4);
    let menu = office.scene.leg(&mut caller, &mut office.pbx, ["+79990000555", DID]);
    let scene = &mut office.scene;
    let answered = scene.connect(menu);
    let listens = scene.now();
    scene.sound(&[(4, menu, Side::Caller), (MUSIC, menu, Side::Callee)], 2_000);
    let ended = scene.bye(menu, Side::Caller);
    let played = play(scene);
    let [_, call] = played.calls.as_slice() else { panic!("two calls, not {}", played.calls.len()) };
    assert_eq!(who(&call.record), (CallDirection::Inbound, None, CallOutcome::Abandoned));
    assert_eq!((call.record.answered_at, call.record.operator_answered_at), (Some(at(answered)), None));
    assert_eq!(call.record.verdict, Some(CallVerdict::BothSides), "what was heard is recorded all the same");
    hears(call, (4, MUSIC), listens, ended);
}

#[test]
fn a_menu_then_an_extension_is_one_call_with_a_person() {
    let mut office = Office::new();
    let (a, b) = (office.inbound(), office.rings_200());
    let scene = &mut office.scene;
    let answered = scene.connect(a);
    let listens = scene.now();
    scene.sound(&[(1, a, Side::Caller), (MUSIC, a, Side::Callee)], 4_000);
    scene.invite_and_ring(b);
    scene.sound(&[(MUSIC, a, Side::Callee), (1, a, Side::Caller)], 1_000);
    let taken = scene.answer(b);
    let talks = scene.now();
    scene.bridge(a, b, 2_000);
    let ended = scene.bye_all(&[b, a], Side::Callee);
    let played = play(scene);
    let record = &played.only().record;
    assert_eq!(who(record), (CallDirection::Inbound, Some("200"), CallOutcome::Answered));
    assert_eq!((record.answered_at, record.operator_answered_at), (Some(at(answered)), Some(at(taken))));
    hears(played.only(), (1, MUSIC), listens, listens + 4_000);
    hears(played.only(), (1, 2), talks, ended);
}

#[test]
fn a_lone_trunk_leg_does_not_show_who_answered() {
    // The mirror shows only the trunk. So it cannot be known whether a machine or a person answered.
    let mut scene = Scene::new();
    let (mut provider, mut pbx) = (ScenePhone::new(OUTSIDE, 1), ScenePhone::new(DID, 9));
    provider.sip = callspan::net::Endpoint::v4([203, 0, 113, 7], 5060);
    let call = scene.dialog(&mut provider, &mut pbx);
    scene.connect(call);
    scene.bye(call, Side::Caller);
    let played = play(&scene);
    let record = &played.only().record;
    assert_eq!(who(record), (CallDirection::Inbound, None, CallOutcome::Answered));
    assert!(record.answered_at.is_some());
    assert_eq!(record.operator_answered_at, None);
}

#[test]
fn voice_mail_after_ringing_is_abandoned_and_names_the_extension() {
    let mut office = Office::new();
    let (a, b) = (office.inbound(), office.rings_200());
    let scene = &mut office.scene;
    scene.ring_through(a, b);
    scene.wait(20_000);
    scene.cancel(b);
    scene.answer(a);
    scene.sound(&[(1, a, Side::Caller), (MUSIC, a, Side::Callee)], 2_000);
    scene.bye(a, Side::Caller);
    let played = play(scene);
    assert_eq!(who(&played.only().record), (CallDirection::Inbound, Some("200"), CallOutcome::Abandoned));
    assert_eq!(played.only().record.operator_answered_at, None);
}

#[test]
fn an_announcement_after_a_refused_trunk_is_recorded_as_unanswered() {
    let mut office = Office::new();
    let [a, b] = office.outbound();
    let scene = &mut office.scene;
    scene.invite(a);
    scene.invite(b);
    scene.wait(1_000);
    scene.refuse(b, 503, &[]);
    let answered = scene.answer(a);
    let listens = scene.now();
    scene.sound(&[(2, a, Side::Caller), (MUSIC, a, Side::Callee)], 3_000);
    let ended = scene.bye(a, Side::Caller);
    let played = play(scene);
    let record = &played.only().record;
    assert_eq!(who(record), (CallDirection::Outbound, Some("200"), CallOutcome::Abandoned));
    assert_eq!((record.answered_at, record.operator_answered_at), (Some(at(answered)), None));
    assert_eq!((record.verdict, record.ended_by), (Some(CallVerdict::BothSides), Some(EndedBy::Caller)));
    hears(played.only(), (2, MUSIC), listens, ended);
}

#[test]
fn a_mailbox_after_a_mobile_that_nobody_answered_is_recorded() {
    let mut office = Office::new();
    let Office { scene, outside, pbx, e201, .. } = &mut office;
    // 201 calls 200, which forwards all calls to a mobile telephone.
    let a = scene.leg(e201, pbx, ["201", "200"]);
    let mobile = scene.leg(pbx, outside, ["201", OUTSIDE]);
    scene.ring_through(a, mobile);
    scene.wait(5_000);
    scene.cancel(mobile);
    scene.answer(a);
    let listens = scene.now();
    scene.sound(&[(3, a, Side::Caller), (MUSIC, a, Side::Callee)], 3_000);
    let ended = scene.bye(a, Side::Caller);
    let played = play(scene);
    assert_eq!(who(&played.only().record), (CallDirection::Internal, Some("200"), CallOutcome::Abandoned));
    hears(played.only(), (3, MUSIC), listens, ended);
}

#[test]
fn an_outbound_call_over_a_second_trunk_is_one_call() {
    // The forwarding fails at once, or after more than 2 s, the time within which legs are joined by their times alone.
    for fails_after_ms in [500, 4_000] {
        let mut office = Office::new();
        let [a, first] = office.outbound();
        let mut other = ScenePhone::new(OUTSIDE, 6);
        let second = office.scene.leg(&mut office.pbx, &mut other, [DID, OUTSIDE]);
        let scene = &mut office.scene;
        scene.invite(a);
        scene.invite(first);
        scene.wait(fails_after_ms);
        scene.refuse(first, 503, &[]);
        scene.invite_and_ring(second);
        scene.ring(a);
        scene.wait(2_000);
        let answered = scene.answer(second);
        scene.answer(a);
        let [talks, ended] = scene.bridge_until_bye(a, second, 2_000, Side::Caller);
        let played = play(scene);
        let record = &played.only().record;
        assert_eq!(who(record), (CallDirection::Outbound, Some("200"), CallOutcome::Answered), "{fails_after_ms}");
        assert_eq!((record.answered_at, record.sip_status), (Some(at(answered)), Some(200)));
        assert_eq!((record.from.as_deref(), record.to.as_deref()), (Some("200"), Some(OUTSIDE)));
        hears(played.only(), (2, 6), talks, ended);
    }
}

#[test]
fn a_proxy_that_forks_names_the_extension_by_its_request_uri() {
    let mut office = Office::new();
    let (a, b, c) = (office.inbound(), office.rings_200(), office.rings_201());
    let scene = &mut office.scene;
    // Call-ID, From tag and To are the same at every hop. Only the Request-URI differs.
    let (call_id, tag) = (scene.get(a).call_id.clone(), scene.get(a).tags[0].clone());
    for (leg, number) in [(b, "200"), (c, "201")] {
        let media = scene.get(a).media[0];
        let dialog = scene.at(leg);
        (dialog.call_id, dialog.tags[0]) = (call_id.clone(), tag.clone());
        dialog.users[1] = DID.to_owned();
        dialog.request_user = number.to_owned();
        dialog.media[0] = media;
        dialog.voices = [1, dialog.voices[1]];
    }
    scene.at(a).media[1] = scene.get(c).media[1];
    scene.at(a).tags[1] = scene.get(c).tags[1].clone();
    scene.at(a).voices[1] = 3;
    for leg in [a, b, c] {
        scene.invite(leg);
    }
    scene.ring(b);
    scene.ring(c);
    scene.ring(a);
    scene.wait(1_000);
    let taken = scene.answer(c);
    scene.answer(a);
    scene.cancel(b);
    let talks = scene.now();
    scene.talk(a, 3_000);
    let ended = scene.bye_all(&[a, c], Side::Caller);
    let played = play(scene);
    let record = &played.only().record;
    assert_eq!(who(record), (CallDirection::Inbound, Some("201"), CallOutcome::Answered));
    assert_eq!((record.to.as_deref(), record.operator_answered_at), (Some(DID), Some(at(taken))));
    hears(played.only(), (1, 3), talks, ended);
}

#[test]
fn a_call_forwarded_to_a_mobile_names_no_extension() {
    let mut office = Office::new();
    let (a, b) = (office.inbound(), office.rings_200());
    let mut mobile = ScenePhone::new("+79161234567", 4);
    let m = office.scene.leg(&mut office.pbx, &mut mobile, [OUTSIDE, "+79161234567"]);
    let scene = &mut office.scene;
    scene.at(m).headers.push("Diversion: <sip:200@10.0.0.9>".to_owned());
    scene.invite(a);
    scene.invite(b);
    scene.refuse(b, 302, &[MessageChange::Header("Contact: <sip:+79161234567@10.0.0.9>")]);
    scene.invite_and_ring(m);
    scene.ring(a);
    scene.wait(500);
    let taken = scene.answer(m);
    scene.answer(a);
    let [talks, ended] = scene.bridge_until_bye(a, m, 2_000, Side::Caller);
    let played = play(scene);
    let record = &played.only().record;
    assert_eq!(who(record), (CallDirection::Inbound, None, CallOutcome::Answered));
    assert_eq!(record.operator_answered_at, Some(at(taken)), "a person took it, though at no extension");
    hears(played.only(), (1, 4), talks, ended);
}

const MOBILE: &str = "+79161234567";

/// A call that comes by the trunk and is forwarded to a mobile telephone by the same trunk.
struct SentBack<'a> {
    /// The number that the forwarded call shows.
    from: &'a str,
    /// Time until the call is forwarded, ms.
    after_ms: i64,
    /// Numbers in the Diversion headers of the caller's leg and of the forwarded leg.
    diversions: [Option<&'a str>; 2],
    /// Whether the telephone 200 forwards the call. Otherwise the PBX does.
    by_200: bool,
}

impl SentBack<'_> {
    /// Writes the call. Returns the scene, the caller's leg, and the ms of the talk's begin and end.
    fn write(&self) -> (Scene, DialogId, [i64; 2]) {
        let mut office = Office::new();
        let (a, own) = (office.inbound(), office.rings_200());
        let Office { mut scene, mut outside, mut pbx, .. } = office;
        let b = scene.leg(&mut pbx, &mut outside, [self.from, MOBILE]);
        scene.at(b).voices[1] = 4;
        for (leg, number) in [a, b].into_iter().zip(self.diversions) {
            let header = |number| format!("Diversion: <sip:{number}@10.0.0.9>;reason=unconditional");
            scene.at(leg).headers.extend(number.map(header));
        }
        scene.invite(a);
        if self.by_200 {
            scene.invite(own);
            scene.refuse(own, 302, &[MessageChange::Header("Contact: <sip:+79161234567@10.0.0.9>")]);
        }
        scene.wait(self.after_ms);
        scene.invite_and_ring(b);
        scene.ring(a);
        scene.wait(1_000);
        scene.answer(b);
        scene.answer(a);
        let talk = scene.bridge_until_bye(a, b, 3_000, Side::Caller);
        (scene, a, talk)
    }

    /// Asserts that the call is one inbound call to the office if the INVITE of the caller is captured `late_ms` late.
    fn is_inbound(&self, late_ms: i64) {
        let (scene, a, [talks, ended]) = self.write();
        let played = play_packets(&with_late_invite(&scene, a, late_ms), scene.now(), Config::default());
        let record = &played.only().record;
        let Self { from, after_ms, diversions, .. } = self;
        let case = format!("{from}, after {after_ms} ms, {late_ms} ms late, {diversions:?}");
        assert_eq!(who(record), (CallDirection::Inbound, None, CallOutcome::Answered), "{case}");
        assert_eq!((record.from.as_deref(), record.to.as_deref()), (Some(OUTSIDE), Some(DID)), "{case}");
        hears(played.only(), (1, 4), talks, ended);
    }
}

#[test]
fn a_call_forwarded_over_the_same_trunk_is_one_call() {
    // The forwarded call shows the caller's number, or the office's number and a Diversion. It begins at once, or after
    // another telephone rang. Or its INVITE is captured before the late INVITE of the caller. The 180 to the caller is
    // captured before the INVITE that is 75 ms late.
    let in_order = [(OUTSIDE, 0, 0), (DID, 0, 0), (OUTSIDE, 15_000, 0)];
    let late = [(OUTSIDE, 20, 55), (DID, 20, 55), (OUTSIDE, 20, 75), (DID, 20, 75)];
    for (from, after_ms, late_ms) in in_order.into_iter().chain(late) {
        SentBack { from, after_ms, diversions: [None, Some(DID)], by_200: false }.is_inbound(late_ms);
    }
}

/// The operator diverts the call from the mobile telephone to the office, which forwards it back to this telephone.
#[test]
fn a_call_diverted_to_the_office_and_back_is_inbound() {
    let cases = [(Some(DID), 0, false), (Some(DID), 15_000, false), (None, 15_000, false), (None, 0, true)];
    for (diversion, after_ms, by_200) in cases {
        let call = SentBack { from: OUTSIDE, after_ms, diversions: [Some(MOBILE), diversion], by_200 };
        call.is_inbound(0);
    }
}

/// The PBX forwards the call over its trunk to another number of the office, so that it comes in again.
#[test]
fn a_forwarded_call_that_comes_in_again_has_the_number_first_called() {
    for after_ms in [0, 3_000] {
        let mut office = Office { scene: Scene::noisy(), ..Office::new() };
        let (a, telephone) = (office.inbound(), office.rings_200());
        let Office { mut scene, mut outside, mut pbx, .. } = office;
        let other = "+74953009081";
        let forwarded = scene.leg(&mut pbx, &mut outside, [OUTSIDE, other]);
        let again = scene.leg(&mut outside, &mut pbx, [OUTSIDE, other]);
        for leg in [forwarded, again] {
            let history = format!("History-Info: <sip:{DID}@x>;index=1, <sip:{other}@x>;index=1.1");
            scene.at(leg).headers.push(history);
        }
        scene.invite(a);
        scene.wait(after_ms);
        for leg in [forwarded, again, telephone] {
            scene.invite(leg);
        }
        scene.ring(telephone);
        scene.wait(1_000);
        let legs = [telephone, again, forwarded, a];
        legs.iter().for_each(|leg| _ = scene.answer(*leg));
        let talks = scene.now();
        let voices = legs.map(|leg| [(1, leg, Side::Caller), (2, leg, Side::Callee)]);
        scene.sound(&voices.concat(), 5_000);
        let ended = scene.bye_all(&[a, forwarded, again, telephone], Side::Caller);
        let played = play(&scene);
        let record = &played.only().record;
        assert_eq!(who(record), (CallDirection::Inbound, Some("200"), CallOutcome::Answered), "{after_ms}");
        assert_eq!((record.from.as_deref(), record.to.as_deref()), (Some(OUTSIDE), Some(DID)), "{after_ms}");
        hears(played.only(), (1, 2), talks, ended);
    }
}

/// 200 diverts its calls to 201. The PBX keeps 200 in To, and only the Request-URI names 201.
#[test]
fn a_telephone_to_which_another_extension_diverts_is_named() {
    let mut office = Office::new();
    let (a, b) = (office.inbound(), office.rings_201());
    let scene = &mut office.scene;
    "200".clone_into(&mut scene.at(b).users[1]);
    scene.at(b).headers.push("Diversion: <sip:200@10.0.0.9>;reason=unconditional".to_owned());
    scene.connect_through(a, b, 1_000);
    scene.bridge(a, b, 2_000);
    scene.bye_all(&[a, b], Side::Caller);
    let played = play(scene);
    assert_eq!(who(&played.only().record), (CallDirection::Inbound, Some("201"), CallOutcome::Answered));
}

#[test]
fn a_call_in_return_is_no_forwarded_one() {
    // The office calls an outside party while this party calls the office. Each dials the other's number.
    let mut office = Office::new();
    let a = office.inbound();
    let Office { scene, outside, pbx, .. } = &mut office;
    let b = scene.leg(pbx, outside, [DID, OUTSIDE]);
    scene.invite(a);
    scene.invite(b);
    scene.ring(a);
    scene.ring(b);
    scene.wait(1_000);
    scene.cancel(a);
    scene.cancel(b);
    let played = play(scene);
    let calls: Vec<_> = played.calls.iter().map(|c| (c.record.legs.len(), c.record.related.len())).collect();
    assert_eq!(calls, [(1, 0), (1, 0)], "legs and related calls of each call");
    assert!(played.calls.iter().all(|c| c.record.outcome == CallOutcome::Cancelled));
}

#[test]
fn a_retry_with_a_new_tag_stays_an_outbound_call() {
    let mut scene = Scene::new();
    let (mut ours, mut outside) = (ScenePhone::new("200", 2), ScenePhone::new(OUTSIDE, 1));
    let call = scene.dialog(&mut ours, &mut outside);
    scene.invite(call);
    scene.refuse(call, 401, &[]);
    // The second INVITE, with the password, has another From tag.
    scene.at(call).tags = ["again".to_owned(), "taken".to_owned()];
    scene.connect(call);
    let talks = scene.now();
    scene.talk(call, 2_000);
    let ended = scene.bye(call, Side::Caller);
    let played = play(&scene);
    assert_eq!(who(&played.only().record), (CallDirection::Outbound, Some("200"), CallOutcome::Answered));
    hears(played.only(), (2, 1), talks, ended);
}

#[test]
fn a_redirected_outbound_call_is_outbound() {
    let mut scene = Scene::new();
    let (mut ours, mut outside) = (ScenePhone::new("200", 2), ScenePhone::new(OUTSIDE, 1));
    let call = scene.dialog(&mut ours, &mut outside);
    scene.invite(call);
    scene.refuse(call, 302, &[MessageChange::Header("Contact: <sip:x@10.0.0.35>")]);
    let dialog = scene.at(call);
    (dialog.sip[1], dialog.media[1], dialog.tags[1]) = (ip(35, 5060), ip(35, 10_000), "elsewhere".to_owned());
    scene.connect(call);
    scene.talk(call, 1_000);
    scene.bye(call, Side::Caller);
    let played = play(&scene);
    assert_eq!(who(&played.only().record), (CallDirection::Outbound, Some("200"), CallOutcome::Answered));
}

#[test]
fn an_outbound_call_seen_on_both_sides_of_a_nat_is_outbound() {
    let mut scene = Scene::new();
    let (mut ours, mut provider) = (ScenePhone::new("200", 2), ScenePhone::new(OUTSIDE, 1));
    let inside = scene.dialog(&mut ours, &mut provider);
    let outside = scene.dialog(&mut ours, &mut provider);
    let first = scene.get(inside).clone();
    let dialog = scene.at(outside);
    (dialog.call_id, dialog.tags) = (first.call_id, first.tags);
    (dialog.sip[0], dialog.media) = (ip(99, 5060), [ip(99, 40_000), first.media[1]]);
    for leg in [inside, outside] {
        scene.invite(leg);
    }
    scene.ring(outside);
    scene.ring(inside);
    scene.answer(outside);
    scene.answer(inside);
    scene.talk(inside, 1_000);
    scene.bye_all(&[inside, outside], Side::Caller);
    let played = play(&scene);
    assert_eq!(who(&played.only().record), (CallDirection::Outbound, Some("200"), CallOutcome::Answered));
    assert_eq!(played.only().record.legs.len(), 2);
}

#[test]
fn a_group_code_that_an_extension_dials_is_an_internal_call() {
    let mut office = Office::new();
    let Office { scene, pbx, e200, e201, .. } = &mut office;
    let a = scene.leg(e200, pbx, ["200", "sales"]);
    let b = scene.leg(pbx, e201, ["200", "201"]);
    scene.invite(a);
    scene.invite_and_ring(b);
    scene.answer(b);
    scene.answer(a);
    scene.bridge(a, b, 400);
    scene.bye_all(&[a, b], Side::Caller);
    let played = play(scene);
    assert_eq!(who(&played.only().record), (CallDirection::Internal, Some("201"), CallOutcome::Answered));
}

#[test]
fn a_call_id_used_again_is_another_call() {
    let mut scene = Scene::new();
    let (mut ours, mut outside) = (ScenePhone::new("200", 2), ScenePhone::new(OUTSIDE, 1));
    for n in 0..2 {
        let call = scene.dialog(&mut ours, &mut outside);
        // The two calls differ only in the From tag and in the CSeq, which begins again.
        scene.at(call).call_id = "reused@scene".to_owned();
        scene.connect(call);
        scene.talk(call, 1_000);
        scene.bye(call, Side::Caller);
        scene.wait(10_000 * (1 - n));
    }
    let played = play(&scene);
    assert_eq!(played.calls.len(), 2);
    assert!(played.calls.iter().all(|c| c.record.verdict == Some(CallVerdict::BothSides)));
    assert_ne!(played.calls[0].record.id, played.calls[1].record.id);
}

#[test]
fn a_second_call_during_ringing_is_separate() {
    let mut office = Office::new();
    let (a1, b1, a2) = (office.inbound(), office.rings_200(), office.inbound());
    let scene = &mut office.scene;
    scene.invite(a1);
    scene.invite_and_ring(b1);
    scene.wait(500);
    // The same number calls again and reaches the voice menu of the PBX. No telephone rings.
    scene.invite(a2);
    scene.answer(a2);
    scene.wait(2_000);
    scene.answer(b1);
    scene.answer(a1);
    scene.bye(a2, Side::Caller);
    scene.wait(1_000);
    scene.bye_all(&[a1, b1], Side::Caller);
    assert_eq!(legs(&play(scene)), [ids(scene, &[a1, b1]), ids(scene, &[a2])]);
}

#[test]
fn two_callers_through_a_proxy_to_one_number_are_two_calls() {
    // The proxy keeps the dialled number in To. The leg that it sends is captured before the leg that it received.
    let mut office = Office::new();
    let (x, a, b) = (office.inbound(), office.inbound(), office.rings_200());
    let scene = &mut office.scene;
    for leg in [a, b] {
        scene.at(leg).users = ["+79990000777".to_owned(), DID.to_owned()];
    }
    let same = (scene.get(a).call_id.clone(), scene.get(a).tags.clone());
    (scene.at(b).call_id, scene.at(b).tags) = same;
    for leg in [x, b, a] {
        scene.invite(leg);
    }
    scene.wait(1_000);
    for leg in [b, a, x] {
        scene.cancel(leg);
    }
    let played = play(scene);
    assert_eq!(played.calls.len(), 2);
    let froms: Vec<_> = played.calls.iter().map(|c| (c.record.from.as_deref(), c.record.legs.len())).collect();
    assert_eq!(froms, [(Some(OUTSIDE), 1), (Some("+79990000777"), 2)]);
}

/// Plays two calls from one number. First 200 rings for the first call, then 201 for one of the two calls, then 202 for
/// the second call.
///
/// `taken` is the index in [200, 201, 202] of the telephone that answers. Returns the legs of both trunks, then those
/// of the three telephones.
fn two_rung_at_once(taken: usize) -> (Scene, [DialogId; 5], i64) {
    let mut office = Office::new();
    let (a1, b1, c, a2) = (office.inbound(), office.rings_200(), office.rings_201(), office.inbound());
    let mut e202 = ScenePhone::new("202", 6);
    let b2 = office.scene.leg(&mut office.pbx, &mut e202, [OUTSIDE, "202"]);
    let mut scene = office.scene;
    for leg in [a1, b1] {
        scene.invite_and_ring(leg);
    }
    scene.wait(5_000);
    scene.invite(a2);
    scene.wait(100);
    scene.invite_and_ring(c);
    scene.wait(1_000);
    scene.invite_and_ring(b2);
    scene.wait(2_000);
    let phones = [b1, c, b2];
    scene.answer(phones[taken]);
    let others: &[DialogId] = match taken {
        0 => &[c],
        1 => &[b1],
        _ => &[],
    };
    for other in others {
        scene.cancel(*other);
    }
    let trunk = if taken == 2 { a2 } else { a1 };
    scene.answer(trunk);
    let talks = scene.now();
    scene.bridge(trunk, phones[taken], 4_000);
    scene.bye(trunk, Side::Caller);
    scene.bye(phones[taken], Side::Caller);
    scene.wait(1_000);
    let rest: &[DialogId] = if taken == 2 { &[c, b1, a1] } else { &[b2, a2] };
    for leg in rest {
        scene.cancel(*leg);
    }
    (scene, [a1, a2, b1, c, b2], talks)
}

#[test]
fn a_late_telephone_belongs_to_the_call_it_answers() {
    let (scene, [a1, a2, b1, c, b2], talks) = two_rung_at_once(1);
    let played = play(&scene);
    let legs = legs(&played);
    assert!(legs.contains(&ids(&scene, &[a1, b1, c])), "201 took the first call: {legs:?}");
    assert!(legs.contains(&ids(&scene, &[a2])) && legs.contains(&ids(&scene, &[b2])), "{legs:?}");
    let one = played.calls.iter().find(|call| call.record.legs.len() == 3).expect("asserted above");
    assert_eq!(who(&one.record), (CallDirection::Inbound, Some("201"), CallOutcome::Answered));
    hears(one, (1, 3), talks, talks + 4_000);
}

#[test]
fn a_late_telephone_that_never_answers_belongs_to_neither_call() {
    let (scene, [a1, a2, b1, c, _], talks) = two_rung_at_once(0);
    let played = play(&scene);
    let legs = legs(&played);
    assert_eq!(legs[0], ids(&scene, &[a1, b1]));
    assert!(legs.contains(&ids(&scene, &[a2])) && legs.contains(&ids(&scene, &[c])), "{legs:?}");
    let (first, own) =
        (&played.calls[0], played.calls.iter().find(|call| call.record.outcome == CallOutcome::Answered));
    assert_eq!(who(&first.record), (CallDirection::Inbound, Some("200"), CallOutcome::Answered));
    assert_eq!(own.map(|call| &call.record.id), Some(&first.record.id), "nobody else was answered");
    let let_go = played.calls.iter().find(|call| call.record.legs[0].sip_call_id == scene.get(c).call_id);
    assert!(let_go.expect("asserted above").record.related.contains(&first.record.id));
    hears(first, (1, 2), talks, talks + 4_000);
}

#[test]
fn a_second_call_keeps_the_telephone_that_only_it_rings() {
    let (scene, [_, a2, _, _, b2], _) = two_rung_at_once(2);
    let played = play(&scene);
    let answered: Vec<_> = played.calls.iter().filter(|c| c.record.outcome == CallOutcome::Answered).collect();
    // While 202 rang, it could belong to either call. So it is related to both.
    let own = answered.iter().find(|c| c.record.legs.iter().any(|l| l.sip_call_id == scene.get(b2).call_id));
    let second = played.calls.iter().find(|c| c.record.legs.iter().any(|l| l.sip_call_id == scene.get(a2).call_id));
    let (own, second) = (own.expect("it was answered"), second.expect("every INVITE is in a record"));
    assert!(own.record.id == second.record.id || own.record.related.contains(&second.record.id));
}
