//! Tests of transfers through a PBX and without one, of call park and of pickup.

use callspan::call::record::{CallOutcome, CallRecord, EndedBy, EventKind, Side};

use crate::scenarios::dialog_lifecycle::hears;
use crate::scenarios::{ConsultationOnHold, DID, MUSIC, OUTSIDE, Office, call_of, related};
use crate::support::playback::play;
use crate::support::scenario::{
    BUSY_TONE, DOUBLE_RINGBACK, DialogId, MessageChange, RINGBACK, SILENCE, Scene, ScenePhone, at,
};

fn refer_to_replaces(scene: &Scene, target: &str, replaced: DialogId, to_tag_first: usize) -> String {
    let dialog = scene.get(replaced);
    let (to, from) = (&dialog.tags[to_tag_first], &dialog.tags[1 - to_tag_first]);
    let id = dialog.call_id.replace('@', "%40");
    format!("<sip:{target}?Replaces={id}%3Bto-tag%3D{to}%3Bfrom-tag%3D{from}>")
}

#[test]
fn a_blind_transfer_without_a_pbx_is_two_related_calls() {
    let mut scene = Scene::new();
    let (mut a, mut b, mut c) = (ScenePhone::new(OUTSIDE, 1), ScenePhone::new("200", 2), ScenePhone::new("201", 3));
    let first = scene.dialog(&mut a, &mut b);
    scene.connect(first);
    let talks = scene.now();
    scene.talk(first, 2_000);
    let referred = scene.now();
    scene.refer(first, Side::Callee, "<sip:201@10.0.0.3>");
    let second = scene.dialog(&mut a, &mut c);
    scene.invite_and_ring(second);
    let bye = scene.bye(first, Side::Callee);
    scene.wait(1_000);
    scene.answer(second);
    let again = scene.now();
    scene.talk(second, 2_000);
    let ended = scene.bye(second, Side::Caller);
    let played = play(&scene);
    assert_eq!(played.calls.len(), 2);
    let (one, two) = (call_of(&played, &scene, first), call_of(&played, &scene, second));
    hears(one, (1, 2), talks, referred);
    hears(two, (1, 3), again, ended);
    assert!(related(&one.record, &two.record));
    assert_eq!(
        one.record.events.iter().map(|e| (e.kind.as_str(), e.side)).collect::<Vec<_>>(),
        [("transfer", Some(Side::Callee))]
    );
    assert_eq!(one.record.ended_at, Some(at(bye)));
}

#[test]
fn an_attended_transfer_between_phones_is_three_related_calls() {
    let mut scene = Scene::new();
    let (mut a, mut b, mut c) = (ScenePhone::new(OUTSIDE, 1), ScenePhone::new("200", 2), ScenePhone::new("201", 3));
    let first = scene.dialog(&mut a, &mut b);
    scene.connect(first);
    scene.talk(first, 1_000);
    scene.hold(first, Side::Callee);
    let consultation = scene.dialog(&mut b, &mut c);
    scene.connect(consultation);
    let consults = scene.now();
    scene.talk(consultation, 2_000);
    let consulted = scene.now();
    let refer_to = refer_to_replaces(&scene, "201@10.0.0.3", consultation, 1);
    scene.refer(first, Side::Callee, &refer_to);
    let third = scene.dialog(&mut a, &mut c);
    let [from, to] = scene.get(consultation).tags.clone();
    let replaces = format!("Replaces: {};to-tag={to};from-tag={from}", scene.get(consultation).call_id);
    scene.at(third).headers.push(replaces);
    scene.invite(third);
    scene.answer(third);
    scene.bye_all(&[consultation, first], Side::Callee);
    let talks = scene.now();
    scene.talk(third, 2_000);
    let ended = scene.bye(third, Side::Caller);
    let played = play(&scene);
    assert_eq!(played.calls.len(), 3);
    let [one, two, three] = [first, consultation, third].map(|d| call_of(&played, &scene, d));
    hears(two, (2, 3), consults, consulted);
    hears(three, (1, 3), talks, ended);
    assert!(related(&one.record, &two.record), "the REFER on the first call names the consultation");
    assert!(related(&one.record, &three.record), "the third call is what the REFER asked for");
    assert!(related(&two.record, &three.record), "the third call replaces the consultation");
}

#[test]
fn an_attended_transfer_in_a_pbx_is_one_call_and_a_consultation() {
    let mut office = Office::new();
    let consultation = office.consultation_on_hold();
    let ConsultationOnHold { a, b, c, d, .. } = consultation;
    let scene = &mut office.scene;
    // 200 sends a REFER with Replaces in the first call. The PBX connects the outside party with 201 and hangs up on
    // 200.
    let refer_to = refer_to_replaces(scene, "201@10.0.0.9", c, 1);
    scene.refer(b, Side::Callee, &refer_to);
    scene.bye(b, Side::Caller);
    scene.bye(c, Side::Callee);
    let taken = scene.now();
    scene.sound(&[(1, a, Side::Caller), (3, a, Side::Callee), (1, d, Side::Caller), (3, d, Side::Callee)], 8_000);
    let ended = scene.bye_all(&[a, d], Side::Caller);
    let played = play(scene);
    let [one, two] = consultation.assert_transferred(&played, scene, (taken, ended));
    assert_eq!(one.record.internal.as_deref(), Some("200"));
    assert!(one.record.events.iter().any(|e| e.kind == callspan::call::record::EventKind::Transfer));
    assert_eq!((two.record.from.as_deref(), two.record.to.as_deref()), (Some("200"), Some("201")));
}

#[test]
fn a_blind_transfer_inside_a_pbx_goes_on_in_the_same_call() {
    // The mirror shows the BYE of the extension that transferred the call, or misses it.
    for is_bye_seen in [true, false] {
        let mut office = Office::new();
        let (a, b) = office.connected();
        let c = office.rings_201();
        let scene = &mut office.scene;
        let talks = scene.now();
        scene.bridge(a, b, 2_000);
        let referred = scene.now();
        scene.refer(b, Side::Callee, "<sip:201@10.0.0.9>");
        if is_bye_seen {
            scene.bye(b, Side::Caller);
        }
        scene.invite_and_ring(c);
        scene.sound(&[(MUSIC, a, Side::Callee)], 1_000);
        scene.answer(c);
        let [taken, ended] = scene.bridge_until_bye(a, c, 3_000, Side::Caller);
        let played = play(scene);
        let record = &played.only().record;
        let end = (record.legs.len(), record.outcome, record.ended_by);
        assert_eq!(end, (3, CallOutcome::Answered, Some(EndedBy::Caller)));
        assert_eq!(record.internal.as_deref(), Some("201"), "the extension that spoke last");
        hears(played.only(), (1, 2), talks, referred);
        hears(played.only(), (1, 3), taken, ended);
    }
}

#[test]
fn a_parked_call_continues_and_its_pickup_leg_is_related() {
    let mut office = Office::new();
    let (a, b) = office.connected();
    let Office { scene, pbx, e201, .. } = &mut office;
    scene.bridge(a, b, 1_000);
    // 200 parks the call in the parking slot 700 of the PBX.
    scene.refer(b, Side::Callee, "<sip:700@10.0.0.9>");
    scene.bye(b, Side::Caller);
    let parked = scene.now();
    scene.sound(&[(MUSIC, a, Side::Callee), (1, a, Side::Caller)], 60_000);
    let c = scene.leg(e201, pbx, ["201", "700"]);
    scene.invite(c);
    scene.answer(c);
    let taken = scene.now();
    scene.sound(&[(1, a, Side::Caller), (3, a, Side::Callee), (3, c, Side::Caller), (1, c, Side::Callee)], 2_000);
    let ended = scene.bye(a, Side::Caller);
    scene.bye(c, Side::Callee);
    let played = play(scene);
    assert_eq!(played.calls.len(), 2);
    let (one, two) = (call_of(&played, scene, a), call_of(&played, scene, c));
    hears(one, (1, MUSIC), parked, parked + 60_000);
    hears(one, (1, 3), taken, ended);
    assert!(related(&one.record, &two.record));
    assert_eq!((one.record.to.as_deref(), two.record.from.as_deref()), (Some(DID), Some("201")));
}

#[test]
fn a_transfer_that_nobody_takes_ends_like_any_other_call() {
    let mut scene = Scene::new();
    let (mut a, mut b, mut c) = (ScenePhone::new(OUTSIDE, 1), ScenePhone::new("200", 2), ScenePhone::new("201", 3));
    let first = scene.dialog(&mut a, &mut b);
    scene.connect(first);
    scene.talk(first, 1_000);
    scene.refer(first, Side::Callee, "<sip:201@10.0.0.3>");
    let second = scene.dialog(&mut a, &mut c);
    scene.invite(second);
    scene.refuse(second, 486, &[]);
    scene.talk(first, 1_000);
    scene.bye(first, Side::Caller);
    let played = play(&scene);
    let (one, two) = (call_of(&played, &scene, first), call_of(&played, &scene, second));
    assert_eq!((one.record.outcome, two.record.outcome), (CallOutcome::Answered, CallOutcome::Busy));
    assert!(related(&one.record, &two.record));
}

/// Makes a transfer in an office whose trunk is not mirrored: 200 talks to the outside party, consults 201, connects
/// both and hangs up. Returns the scene and both legs of the consultation.
pub(super) fn transfer_without_trunk() -> (Scene, [DialogId; 2]) {
    let mut office = Office::new();
    let b = office.rings_200();
    office.scene.connect(b);
    office.scene.talk(b, 2_000);
    office.scene.hold(b, Side::Callee);
    let c = office.scene.leg(&mut office.e200, &mut office.pbx, ["200", "201"]);
    let d = office.scene.leg(&mut office.pbx, &mut office.e201, ["200", "201"]);
    office.scene.invite(c);
    office.scene.invite_and_ring(d);
    office.scene.answer(d);
    office.scene.answer(c);
    office.scene.bridge(c, d, 2_000);
    office.scene.bye(b, Side::Callee);
    office.scene.bye(c, Side::Caller);
    (office.scene, [c, d])
}

#[test]
fn a_transfer_without_its_trunk_leg_keeps_later_speech() {
    let (mut scene, [c, d]) = transfer_without_trunk();
    // From now on the outside party is heard on the leg of 201.
    let talks = scene.now();
    scene.sound(&[(1, d, Side::Caller), (3, d, Side::Callee)], 20_000);
    let ended = scene.bye(d, Side::Caller);
    let played = play(&scene);
    let after = played.calls.iter().find(|c| c.record.ended_at == Some(at(ended))).expect("a record");
    hears(after, (1, 3), talks, ended);
    let consultation = call_of(&played, &scene, c);
    assert!(related(&after.record, &consultation.record), "{:?}", after.record.related);
}

#[test]
fn talk_after_a_tone_is_recorded() {
    let tones = [(RINGBACK, 10_000), (DOUBLE_RINGBACK, 10_000), (BUSY_TONE, 8_000), (BUSY_TONE, 21_000)];
    for (tone, ms) in [&tones[..], &[(BUSY_TONE, 5_500), (BUSY_TONE, 95_000)]].concat() {
        // A talk of 2 s ends before the call is examined again.
        for (heard, talk_ms) in [(SILENCE, 12_000), (3, 12_000), (SILENCE, 2_000)] {
            let (mut scene, [_, d]) = transfer_without_trunk();
            scene.sound(&[(tone, d, Side::Caller), (heard, d, Side::Callee)], ms);
            let talks = scene.now();
            scene.sound(&[(1, d, Side::Caller), (3, d, Side::Callee)], talk_ms);
            let ended = scene.bye(d, Side::Caller);
            let played = play(&scene);
            let after = played.calls.iter().find(|c| c.record.ended_at == Some(at(ended)));
            hears(after.unwrap_or_else(|| panic!("{tone} for {ms} ms")), (1, 3), talks, ended);
            assert!(played.calls.iter().all(|c| left_out_tones(&c.record).is_empty()), "{tone} for {ms} ms");
        }
    }
}

#[test]
fn a_busy_tone_is_no_record_although_the_leg_stays_open() {
    for ms in [3_000, 9_000, 40_000] {
        let (mut scene, [c, d]) = transfer_without_trunk();
        let hung_up = scene.now();
        scene.sound(&[(BUSY_TONE, d, Side::Caller), (SILENCE, d, Side::Callee)], ms);
        scene.bye(d, Side::Caller);
        let played = play(&scene);
        assert_eq!(played.calls.len(), 2, "{ms} ms");
        let record = &call_of(&played, &scene, c).record;
        assert!(record.ended_at <= Some(at(hung_up + 1_000)), "{ms} ms");
        assert_eq!(left_out_tones(record), [format!("{}.0 s", ms / 1_000)]);
    }
}

/// Returns the lengths of the tones that the recording of a call leaves out.
fn left_out_tones(record: &CallRecord) -> Vec<String> {
    let tones = record.events.iter().filter(|event| event.kind == EventKind::ToneLeftOut);
    tones.filter_map(|event| event.detail.clone()).collect()
}

/// Makes an attended transfer by REFER in an office whose trunk is not mirrored. 200 connects its caller with 201 and hangs
/// up. From then on, both sides of the leg of 201 send these voices for `ms`. Returns the number of records.
fn records_of_transfer_with_rest(voices: [u8; 2], ms: i64) -> usize {
    let mut office = Office { scene: Scene::speaking(), ..Office::new() };
    let b = office.rings_200();
    office.scene.connect(b);
    office.scene.talk(b, 3_000);
    office.scene.hold(b, Side::Callee);
    let c = office.scene.leg(&mut office.e200, &mut office.pbx, ["200", "201"]);
    let d = office.scene.leg(&mut office.pbx, &mut office.e201, ["200", "201"]);
    let scene = &mut office.scene;
    scene.connect_through(c, d, 1_000);
    scene.bridge(c, d, 4_000);
    let target = refer_to_replaces(scene, "201@10.0.0.9", c, 1);
    scene.refer(b, Side::Callee, &target);
    scene.bye(b, Side::Callee);
    scene.bye(c, Side::Caller);
    scene.sound(&[(voices[0], d, Side::Caller), (voices[1], d, Side::Callee)], ms);
    scene.bye(d, Side::Caller);
    play(scene).calls.len()
}

#[test]
fn a_busy_tone_after_a_transfer_is_no_record() {
    for (voices, ms) in [([BUSY_TONE, 3], 2_000), ([BUSY_TONE, 3], 8_000), ([BUSY_TONE, SILENCE], 4_000)] {
        assert_eq!(records_of_transfer_with_rest(voices, ms), 2, "{voices:?} for {ms} ms");
    }
    assert_eq!(records_of_transfer_with_rest([SILENCE, SILENCE], 3_000), 2);
    // Speech stays recorded, also if only one side speaks, or if two tones stand for two voices.
    for (voices, ms) in [([1, 3], 1_500), ([1, 3], 9_000), ([SILENCE, 3], 3_000), ([BUSY_TONE, BUSY_TONE], 4_000)] {
        assert_eq!(records_of_transfer_with_rest(voices, ms), 3, "{voices:?} for {ms} ms");
    }
}

/// Sends a NOTIFY about the REFER of this dialog. It reports `status` as the response of the transfer target.
fn notify(scene: &mut Scene, d: DialogId, side: Side, status: &str) {
    let state = MessageChange::Header("Event: refer\r\nSubscription-State: terminated;reason=noresource");
    let body = MessageChange::Body("message/sipfrag", format!("SIP/2.0 {status}\r\n"));
    scene.request(d, side, "NOTIFY", &[state, body]);
    scene.response(d, side.other(), (200, "NOTIFY"), &[]);
}

/// Plays a transfer: extension 200 transfers the caller to 201, but the leg of 201 is not captured. The PBX reports
/// `status`, and the caller hangs up. `later_ms` after the report the caller calls again and reaches 201. Returns the
/// number of records.
fn calls_again_after(status: &str, later_ms: i64) -> usize {
    let mut office = Office::new();
    let (a, b) = office.connected();
    office.scene.bridge(a, b, 1_000);
    office.scene.refer(b, Side::Callee, "<sip:201@10.0.0.9>");
    notify(&mut office.scene, b, Side::Caller, status);
    let reported = office.scene.now();
    office.scene.bye_all(&[a, b], Side::Caller);
    office.scene.set_now(reported + later_ms);
    let (c, d) = (office.inbound(), office.rings_201());
    office.scene.connect_through(c, d, 500);
    office.scene.bridge(c, d, 1_000);
    office.scene.bye_all(&[c, d], Side::Caller);
    play(&office.scene).calls.len()
}

#[test]
fn a_refer_that_a_notify_ends_claims_no_later_call() {
    assert_eq!(calls_again_after("486 Busy Here", 500), 2);
    assert_eq!(calls_again_after("200 OK", 5_000), 2);
}

#[test]
fn a_transfer_that_is_tried_again_goes_on_in_the_same_call() {
    let mut office = Office::new();
    let (a, b) = office.connected();
    let [c, d] = [office.rings_201(), office.rings_201()];
    let scene = &mut office.scene;
    scene.bridge(a, b, 1_000);
    scene.refer(b, Side::Callee, "<sip:201@10.0.0.9>");
    scene.invite(c);
    scene.refuse(c, 486, &[]);
    notify(scene, b, Side::Caller, "486 Busy Here");
    scene.bridge(a, b, 2_000);
    // At the second attempt 201 is free. The PBX reports success before it calls 201, as some PBXs do.
    scene.refer(b, Side::Callee, "<sip:201@10.0.0.9>");
    notify(scene, b, Side::Caller, "200 OK");
    scene.bye(b, Side::Caller);
    scene.invite_and_ring(d);
    scene.wait(500);
    scene.answer(d);
    let [taken, ended] = scene.bridge_until_bye(a, d, 2_000, Side::Caller);
    let played = play(scene);
    hears(played.only(), (1, 3), taken, ended);
    assert_eq!(played.only().record.internal.as_deref(), Some("201"));
}
