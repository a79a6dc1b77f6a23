//! Tests of the events of an open call: each must have the right numbers at the right time.

use callspan::call::record::{CallOutcome, Side};

use crate::scenarios::Office;
use crate::scenarios::outside_and_200;
use crate::support::playback::{PlayedScene, play};
use crate::support::scenario::at;

/// Returns for every live event: ms, extension, whether it rings, and whether it is answered.
fn announced(played: &PlayedScene) -> Vec<(i64, Option<&str>, bool, bool)> {
    let row = |(ms, live): &'_ (i64, callspan::call::event::LiveCall)| {
        (*ms, live.record.ringing_at.is_some(), live.record.answered_at.is_some())
    };
    let extension = |n: usize| played.announced[n].1.record.internal.as_deref();
    played
        .announced
        .iter()
        .map(row)
        .enumerate()
        .map(|(n, (ms, rings, answered))| (ms, extension(n), rings, answered))
        .collect()
}

#[test]
fn a_call_is_announced_after_500_ms_for_correlation() {
    let (mut scene, mut outside, mut ours) = outside_and_200();
    let call = scene.dialog(&mut outside, &mut ours);
    scene.invite_and_ring(call);
    scene.wait(2_000);
    let answered = scene.answer(call);
    scene.talk(call, 1_000);
    scene.bye(call, Side::Caller);
    let played = play(&scene);
    assert_eq!(announced(&played), [(500, Some("200"), true, false), (answered, Some("200"), true, true)]);
}

#[test]
fn the_extension_is_in_the_first_update_and_the_person_later() {
    let mut office = Office::new();
    office.plain_call();
    let played = play(&office.scene);
    assert_eq!(announced(&played).first(), Some(&(500, Some("200"), true, false)));
    let taken = played.announced.iter().find(|(_, live)| live.record.operator_answered_at.is_some()).expect("told");
    assert_eq!(Some(at(taken.0)), taken.1.record.operator_answered_at, "in the moment of the 200");
}

#[test]
fn a_ringing_group_has_no_extension_until_a_person_answers() {
    let mut office = Office::new();
    let (a, b, c) = (office.inbound(), office.rings_200(), office.rings_201());
    let scene = &mut office.scene;
    for leg in [a, b, c] {
        scene.invite(leg);
    }
    scene.ring(b);
    scene.ring(c);
    scene.wait(2_000);
    let taken = scene.answer(c);
    scene.cancel(b);
    scene.answer(a);
    scene.bridge(a, c, 400);
    scene.bye_all(&[a, c], Side::Caller);
    let played = play(scene);
    let announced = announced(&played);
    assert_eq!(announced[0], (500, None, true, false));
    assert_eq!((announced[1].0, announced[1].1), (taken, Some("201")));
    assert!(announced[1..].iter().all(|t| t.1 == Some("201")), "{announced:?}");
}

#[test]
fn a_queue_tells_each_extension_as_it_rings() {
    let mut office = Office::new();
    let (a, b, c) = (office.inbound(), office.rings_200(), office.rings_201());
    let scene = &mut office.scene;
    scene.connect(a);
    scene.wait(5_000);
    let first = scene.now();
    scene.invite_and_ring(b);
    scene.wait(3_000);
    scene.cancel(b);
    let second = scene.now();
    scene.invite_and_ring(c);
    scene.wait(1_000);
    scene.answer(c);
    scene.bye_all(&[a, c], Side::Caller);
    let played = play(scene);
    let at_of = |ext: &str| announced(&played).iter().find(|t| t.1 == Some(ext)).map(|t| t.0);
    assert_eq!((at_of("200"), at_of("201")), (Some(first), Some(second)));
    assert!(played.announced.iter().all(|(_, live)| live.record.id == played.only().record.id), "the id never changes");
}

#[test]
fn a_call_shorter_than_the_settle_time_is_announced_once_as_ended() {
    let (mut scene, mut outside, mut ours) = outside_and_200();
    let call = scene.dialog(&mut outside, &mut ours);
    scene.invite(call);
    scene.refuse(call, 486, &[]);
    scene.wait(10_000);
    let played = play(&scene);
    assert_eq!((announced(&played), played.only().record.outcome), (vec![], CallOutcome::Busy));
}

#[test]
fn the_ids_of_the_same_scene_are_the_same() {
    let ids = || {
        let mut office = Office::new();
        let (a, b) = office.connected();
        office.scene.bye_all(&[a, b], Side::Caller);
        play(&office.scene).only().record.id.clone()
    };
    assert_eq!(ids(), ids());
}
