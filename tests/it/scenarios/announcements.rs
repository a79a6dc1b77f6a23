//! Tests of announcements that a PBX plays to one leg of a call after the answer. The first seconds of both legs
//! differ, and only numbers tie the telephone's leg to the call. The PBX changes the bytes of all voices.

use callspan::call::record::Side;

use crate::scenarios::MUSIC;
use crate::scenarios::doubtful::{connect_with_g722, menu_and_stranger, office};
use crate::support::playback::play;
use crate::support::restart::records_with_kill;
use crate::support::scenario::{DialogId, Scene};

/// Voice of the announcement.
const ANNOUNCEMENT: u8 = 6;

/// The party that hears an announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listener {
    Caller,
    Extension,
}

/// The moment at which the PBX answers the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CallerAnswer {
    /// Before it rings the telephone, as a queue does.
    Before,
    /// When the telephone answers.
    With,
}

/// Plays an inbound call that 200 answers. One party hears an announcement for some ms, the other one music. Then both
/// talk for some ms. Both legs stay open. Returns the scene and the legs of the caller and of 200.
fn announced(answer: CallerAnswer, to: Listener, [announcement, talk]: [i64; 2]) -> (Scene, [DialogId; 2]) {
    let mut office = office();
    let (a, b) = (office.inbound(), office.rings_200());
    let mut scene = office.scene;
    match answer {
        CallerAnswer::Before => {
            scene.connect(a);
            scene.sound(&[(1, a, Side::Caller), (MUSIC, a, Side::Callee)], 3_000);
            scene.connect(b);
        }
        CallerAnswer::With => scene.connect_through(a, b, 1_000),
    }
    let heard = match to {
        Listener::Caller => [ANNOUNCEMENT, MUSIC],
        Listener::Extension => [MUSIC, ANNOUNCEMENT],
    };
    let speakers =
        [(1, a, Side::Caller), (heard[0], a, Side::Callee), (heard[1], b, Side::Caller), (2, b, Side::Callee)];
    scene.sound(&speakers, announcement);
    scene.bridge(a, b, talk);
    (scene, [a, b])
}

#[test]
fn a_call_with_an_announcement_to_one_party_is_one_record() {
    let mut failing = Vec::new();
    for answer in [CallerAnswer::Before, CallerAnswer::With] {
        for to in [Listener::Caller, Listener::Extension] {
            for lengths in [[17_000, 9_000], [50_000, 12_000]] {
                for late_ms in [0, 1_500] {
                    let (mut scene, [a, b]) = announced(answer, to, lengths);
                    scene.bye(b, Side::Callee);
                    scene.sound(&[(1, a, Side::Caller), (MUSIC, a, Side::Callee)], late_ms);
                    scene.bye(a, Side::Caller);
                    let records = play(&scene).calls.len();
                    if records != 1 {
                        failing.push(format!("{answer:?}, {to:?}, {lengths:?} ms, {late_ms} ms: {records} records"));
                    }
                }
            }
        }
    }
    assert!(failing.is_empty(), "{failing:#?}");
}

/// Only the talk between announcement and hold shows that both legs belong together.
#[test]
fn announcement_talk_and_hold_to_the_end_are_one_record() {
    for to in [Listener::Caller, Listener::Extension] {
        let (mut scene, [a, b]) = announced(CallerAnswer::Before, to, [20_000, 25_000]);
        scene.sound(&[(1, a, Side::Caller), (MUSIC, a, Side::Callee), (3, b, Side::Callee)], 45_000);
        scene.bye(b, Side::Callee);
        scene.wait(1_500);
        scene.bye(a, Side::Caller);
        play(&scene).only();
    }
}

/// After the talk, the caller stays in the voice menu for a minute, e.g. for a survey.
#[test]
fn announcement_talk_and_menu_are_one_record() {
    let (mut scene, [a, b]) = announced(CallerAnswer::Before, Listener::Extension, [30_000, 9_000]);
    scene.bye(b, Side::Callee);
    scene.sound(&[(1, a, Side::Caller), (MUSIC, a, Side::Callee)], 60_000);
    scene.bye(a, Side::Caller);
    play(&scene).only();
}

#[test]
fn a_call_with_an_announcement_is_one_record_after_each_kill() {
    let (mut scene, legs) = announced(CallerAnswer::Before, Listener::Extension, [30_000, 40_000]);
    let talks = scene.now() - 40_000;
    scene.bye_all(&legs, Side::Caller);
    for after_ms in [-20_000, -2_000, 12_000, 25_000, 39_000] {
        let kill_ms = talks + after_ms;
        let records = records_with_kill(&scene.packets(), scene.now() + 30_000, kill_ms);
        assert_eq!(records.len(), 1, "killed {after_ms} ms after the announcement");
    }
}

/// The telephone has G.722. During the announcement to it, the PBX sends nothing to the caller.
#[test]
fn a_call_with_an_announcement_in_another_codec_is_one_record() {
    for [announcement, talk] in [[20_000, 12_000], [90_000, 9_000]] {
        let mut office = office();
        let (a, b) = (office.inbound(), office.rings_200());
        let mut scene = office.scene;
        scene.connect(a);
        scene.sound(&[(1, a, Side::Caller), (MUSIC, a, Side::Callee)], 3_000);
        connect_with_g722(&mut scene, b);
        let speakers = [(1, a, Side::Caller), (ANNOUNCEMENT, b, Side::Caller), (2, b, Side::Callee)];
        scene.sound(&speakers, announcement);
        scene.bridge(a, b, talk);
        scene.bye(b, Side::Callee);
        scene.wait(1_500);
        scene.bye(a, Side::Caller);
        let records = records_with_kill(&scene.packets(), scene.now() + 30_000, 0);
        assert_eq!(records.len(), 1, "an announcement of {announcement} ms");
    }
}

#[test]
fn a_stranger_who_talks_for_long_keeps_a_record() {
    for ms in [30_000, 120_000] {
        for late_ms in [0, 1_500] {
            let (mut scene, [a, b], _) = menu_and_stranger(ms);
            scene.bye(b, Side::Caller);
            scene.sound(&[(1, a, Side::Caller), (MUSIC, a, Side::Callee)], late_ms);
            scene.bye(a, Side::Caller);
            assert_eq!(play(&scene).calls.len(), 2, "{ms} ms, {late_ms} ms");
        }
    }
}
