//! Tests of sound that the recorded leg lacks for a part of the call, while another leg of the call has it.

use std::ops::Range;

use callspan::call::config::Config;
use callspan::call::record::{CallVerdict, Side};

use crate::scenarios::dialog_lifecycle::hears;
use crate::scenarios::{MUSIC, Office, call_of};
use crate::support::playback::{PlayedCall, PlayedScene, play, play_packets};
use crate::support::scenario::ExpectedSound::{Silence, Voice};
use crate::support::scenario::{DialogId, MessageChange, RecordedChannel, SILENCE, Scene, at, sdp};

const BOTH: &[Side] = &[Side::Caller, Side::Callee];

/// Media that the mirror does not show: the given sides of a leg in a period, ms of the scene.
struct Unseen<'a> {
    leg: DialogId,
    sides: &'a [Side],
    ms: Range<i64>,
}

/// Plays a scene without some of its media.
fn play_without(scene: &Scene, unseen: &Unseen<'_>) -> PlayedScene {
    let flows: Vec<_> = unseen.sides.iter().map(|side| scene.flow(unseen.leg, *side)).collect();
    let period = at(unseen.ms.start)..at(unseen.ms.end);
    let mut packets = scene.packets();
    packets.retain(|p| !flows.contains(&(p.src, p.dst)) || !period.contains(&p.at));
    play_packets(&packets, scene.now(), Config::default())
}

/// Asserts which legs supplied the sound, and that both sides can be heard.
#[track_caller]
fn comes_from(call: &PlayedCall, rendered: [bool; 2], about: &str) {
    assert_eq!(call.record.legs.iter().map(|leg| leg.rendered).collect::<Vec<_>>(), rendered, "{about}");
    assert_eq!(call.record.verdict, Some(CallVerdict::BothSides), "{about}");
}

/// Returns the trunk's leg and the telephone's leg of an answered call, and whether the trunk's leg is the first.
fn connected(office: &mut Office, is_inbound: bool) -> [DialogId; 2] {
    if is_inbound {
        let (a, b) = office.connected();
        return [a, b];
    }
    let [b, a] = office.outbound();
    office.scene.connect_via(b, a, 1_000);
    [a, b]
}

/// Plays a call of `ms` in which the mirror lacks some sides of the trunk's leg in a part of it. The recording must have
/// both voices for the whole call.
fn is_heard_without(is_inbound: bool, sides: &[Side], (ms, part): (i64, Range<i64>)) {
    let mut office = Office::new();
    let [trunk, telephone] = connected(&mut office, is_inbound);
    let scene = &mut office.scene;
    let legs = if is_inbound { [trunk, telephone] } else { [telephone, trunk] };
    let [talks, ended] = scene.bridge_until_bye(legs[0], legs[1], ms, Side::Caller);
    let unseen = Unseen { leg: trunk, sides, ms: talks + part.start..talks + part.end };
    let played = play_without(scene, &unseen);
    let call = played.only();
    let about = format!("inbound {is_inbound}, {sides:?} of {ms} ms without {part:?}");
    comes_from(call, if is_inbound { [false, true] } else { [true, false] }, &about);
    let reason = call.record.verdict_reason.as_deref().expect("a reason");
    assert!(reason.contains("another leg"), "{about}: {reason}");
    hears(call, if is_inbound { (1, 2) } else { (2, 1) }, talks, ended);
}

#[test]
fn sound_that_ends_early_on_the_trunk_comes_from_the_telephone() {
    for case in [(6_000, 2_000..6_000), (18_000, 3_600..18_000), (18_000, 15_000..18_000), (60_000, 5_000..60_000)] {
        is_heard_without(true, BOTH, case);
    }
    for is_inbound in [true, false] {
        for sides in [&[Side::Caller], &[Side::Callee], BOTH] {
            is_heard_without(is_inbound, sides, (18_000, 3_600..18_000));
        }
    }
}

#[test]
fn sound_that_begins_late_on_the_trunk_comes_from_the_telephone() {
    for case in [(6_000, 0..4_000), (18_000, 0..12_400), (60_000, 0..40_000)] {
        is_heard_without(true, BOTH, case);
    }
    for is_inbound in [true, false] {
        for sides in [&[Side::Caller], &[Side::Callee], BOTH] {
            is_heard_without(is_inbound, sides, (18_000, 0..12_400));
        }
    }
}

#[test]
fn sound_missing_in_the_middle_on_the_trunk_comes_from_the_telephone() {
    for sides in [&[Side::Caller], &[Side::Callee], BOTH] {
        is_heard_without(true, sides, (18_000, 4_000..12_000));
    }
}

/// Returns whether 10 ms of a channel are louder than a pause of the speakers.
fn is_loud(channel: &RecordedChannel, ms: i64) -> bool {
    let from = ((ms as f64 - channel.starts_ms) * 8.0).round().max(0.0) as usize;
    channel.samples.get(from..from + 80).is_some_and(|window| window.iter().any(|s| s.unsigned_abs() > 400))
}

#[test]
fn sound_missing_on_the_trunk_comes_from_a_transcoded_leg() {
    let mut office = Office { scene: Scene::speaking(), ..Office::new() };
    let (a, b) = office.connected();
    let scene = &mut office.scene;
    let [talks, ended] = scene.bridge_until_bye(a, b, 18_000, Side::Caller);
    let whole = play(scene);
    let played = play_without(scene, &Unseen { leg: a, sides: BOTH, ms: talks + 3_600..ended });
    comes_from(whole.only(), [true, false], "whole");
    comes_from(played.only(), [false, true], "without the end");
    let sounds = [&whole, &played].map(|played| played.only().sound.as_ref().expect("a recording"));
    for (one, two) in sounds[0].iter().zip(sounds[1]) {
        for ms in (talks + 100..ended - 200).step_by(200) {
            assert_eq!(is_loud(one, ms), is_loud(two, ms), "at {ms} ms");
        }
    }
}

#[test]
fn sound_after_a_change_to_an_unknown_codec_comes_from_the_telephone() {
    let mut office = Office::new();
    let (a, b) = office.connected();
    let scene = &mut office.scene;
    let talks = scene.now();
    scene.bridge(a, b, 4_000);
    let media = scene.get(a).media;
    let g723 = |side: Side| MessageChange::Sdp(sdp(media[side.channel()], 9, "4", &["a=rtpmap:4 G723/8000"]));
    scene.request(a, Side::Callee, "INVITE", &[g723(Side::Callee)]);
    scene.response(a, Side::Caller, (200, "INVITE"), &[g723(Side::Caller)]);
    let cseq = scene.get(a).invite_cseq[1];
    scene.request(a, Side::Callee, "ACK", &[MessageChange::CSeq(cseq)]);
    for side in BOTH {
        let flow = scene.flow(a, *side);
        scene.sender(flow).pt = 4;
    }
    let changed = scene.now();
    let [_, ended] = scene.bridge_until_bye(a, b, 12_000, Side::Caller);
    let played = play(scene);
    comes_from(played.only(), [false, true], "unknown codec");
    hears(played.only(), (1, 2), talks, talks + 4_000);
    hears(played.only(), (1, 2), changed, ended);
}

#[test]
fn whole_leg_is_recorded_whatever_the_other_leg_has() {
    let mut office = Office::new();
    let (a, b) = office.connected();
    let scene = &mut office.scene;
    let [talks, ended] = scene.bridge_until_bye(a, b, 6_000, Side::Caller);
    let whole = play(scene);
    for period in [talks..talks + 3_000, talks + 3_000..ended, talks..ended] {
        let played = play_without(scene, &Unseen { leg: b, sides: BOTH, ms: period });
        comes_from(played.only(), [true, false], "the trunk's leg is whole");
        let sounds = [&whole, &played].map(|played| played.only().sound.as_ref().expect("a recording"));
        assert!(sounds[0].iter().zip(sounds[1]).all(|(one, two)| one.samples == two.samples));
    }
}

#[test]
fn silence_that_only_the_other_leg_sends_changes_no_leg() {
    let mut office = Office::new();
    let (a, b) = office.connected();
    let scene = &mut office.scene;
    scene.bridge(a, b, 4_000);
    // From now on the callee says nothing, and the trunk's leg does not carry the silence.
    scene.sound(&[(1, a, Side::Caller), (1, b, Side::Caller), (SILENCE, b, Side::Callee)], 8_000);
    scene.bye_all(&[a, b], Side::Caller);
    comes_from(play(scene).only(), [true, false], "suppressed silence");
}

/// Plays 4 s of talk, then 6 s in which the telephone talks with voice 3 instead of the caller, then 4 s of talk.
/// `callers` is the sound of the caller in these 6 s. The caller hears nothing then, and the recording has this silence.
fn other_talk_is_left_out(is_held: bool, callers: Option<u8>) {
    let mut office = Office::new();
    let (a, b) = office.connected();
    let scene = &mut office.scene;
    scene.bridge(a, b, 4_000);
    if is_held {
        scene.hold(a, Side::Callee);
    }
    let from = scene.now();
    let mut speakers = vec![(3, b, Side::Caller), (2, b, Side::Callee)];
    speakers.extend(callers.map(|voice| (voice, a, Side::Caller)));
    scene.sound(&speakers, 6_000);
    let to = scene.now();
    if is_held {
        scene.resume(a, Side::Callee);
    }
    let [talks, ended] = scene.bridge_until_bye(a, b, 4_000, Side::Caller);
    let played = play(scene);
    let call = call_of(&played, scene, a);
    assert!(call.record.legs[0].rendered, "held {is_held}, caller {callers:?}");
    hears(call, (1, 2), talks, ended);
    let [_, right] = call.sound.as_ref().expect("a recording");
    assert_eq!(right.share(Silence, from + 200, to - 200), 1.0, "held {is_held}, caller {callers:?}");
}

#[test]
fn talk_with_another_party_is_not_taken_for_the_missing_sound() {
    other_talk_is_left_out(true, None);
    other_talk_is_left_out(true, Some(SILENCE));
    other_talk_is_left_out(false, Some(SILENCE));
}

#[test]
fn queue_that_the_caller_hears_without_speaking_stays_in_the_recording() {
    let mut office = Office::new();
    let (a, b) = (office.inbound(), office.rings_200());
    let scene = &mut office.scene;
    scene.connect(a);
    let waits = scene.now();
    scene.sound(&[(MUSIC, a, Side::Callee)], 8_000);
    scene.connect(b);
    let [talks, ended] = scene.bridge_until_bye(a, b, 8_000, Side::Caller);
    let played = play(scene);
    comes_from(played.only(), [true, false], "queue");
    let [left, right] = played.only().sound.as_ref().expect("a recording");
    assert_eq!(left.share(Silence, waits, talks - 200), 1.0);
    assert_eq!(right.share(Voice(MUSIC), waits, waits + 8_000), 1.0);
    hears(played.only(), (1, 2), talks, ended);
}
