//! Tests of a page: a PBX sends the voice of one talker to several telephones, which answer automatically.

use callspan::call::record::Side;

use crate::scenarios::doubtful::{PBX_HOST, office};
use crate::scenarios::{DID, Office};
use crate::support::playback::play;
use crate::support::scenario::{SILENCE, Scene, ScenePhone};

/// Plays a page by 200 to three telephones. The first answers together with the talker, the others so many ms later. The
/// talk begins with the first answer and takes `ms`. In `rooms`, people talk beside the telephones.
fn page(mut scene: Scene, [second, third]: [i64; 2], ms: i64, rooms: bool) -> Scene {
    let mut pbx = ScenePhone { voice: SILENCE, ..ScenePhone::new("pbx", PBX_HOST) };
    let talker = scene.leg(&mut ScenePhone::new("200", 2), &mut pbx, ["200", "*80"]);
    let rung = [3_u8, 4, 6].map(|n| {
        let user = format!("20{n}");
        let mut telephone = ScenePhone::new(&user, n);
        scene.leg(&mut pbx, &mut telephone, ["200", &user])
    });
    scene.invite(talker);
    rung.iter().for_each(|leg| scene.invite(*leg));
    let begins = scene.now();
    for (leg, later) in [(talker, 30), (rung[0], 0), (rung[1], second), (rung[2], third)] {
        scene.set_now(begins + later);
        scene.answer(leg);
        let room = if rooms && leg != talker { scene.get(leg).voices[1] } else { SILENCE };
        let rest = begins + ms - scene.now();
        scene.sound(&[(2, leg, Side::Caller), (room, leg, Side::Callee)], rest);
    }
    scene.bye(talker, Side::Caller);
    scene.bye_all(&rung, Side::Caller);
    scene
}

#[test]
fn a_page_to_telephones_that_answer_apart_is_one_record() {
    for rooms in [false, true] {
        for later in [[50, 120], [90, 600], [700, 1_400]] {
            for ms in [5_000, 9_000, 25_000] {
                let played = play(&page(Scene::speaking(), later, ms, rooms));
                assert_eq!(played.calls.len(), 1, "answers {later:?} ms later, {ms} ms, rooms {rooms}");
            }
        }
    }
}

/// The PBX passes the bytes of the talker's voice on to all telephones.
#[test]
fn a_page_with_unchanged_bytes_is_one_record() {
    for later in [[50, 120], [90, 600], [700, 1_400]] {
        for ms in [5_000, 25_000] {
            let played = play(&page(Scene::noisy(), later, ms, false));
            assert_eq!(played.calls.len(), 1, "answers {later:?} ms later, {ms} ms");
        }
    }
}

/// A caller talks with 201. Another caller of the same number talks with 203, and the mirror misses that caller's leg. All
/// legs end at one moment.
#[test]
fn a_telephone_of_a_stranger_is_in_no_page() {
    for (later, ms) in [(600, 5_000), (600, 9_000), (1_400, 5_000), (1_400, 25_000)] {
        let Office { mut scene, mut outside, mut pbx, mut e201, .. } = office();
        let a = scene.leg(&mut outside, &mut pbx, ["anonymous", DID]);
        let b = scene.leg(&mut pbx, &mut e201, ["anonymous", "201"]);
        let c = scene.leg(&mut pbx, &mut ScenePhone::new("203", 6), ["anonymous", "203"]);
        for leg in [a, b, c] {
            scene.invite_and_ring(leg);
        }
        scene.wait(1_000);
        scene.answer(b);
        scene.answer(a);
        let talk = [(1, a, Side::Caller), (3, a, Side::Callee), (1, b, Side::Caller), (3, b, Side::Callee)];
        scene.sound(&talk, later);
        scene.answer(c);
        scene.sound(&[&talk[..], &[(4, c, Side::Caller), (2, c, Side::Callee)]].concat(), ms);
        scene.bye_all(&[a, b, c], Side::Caller);
        assert_eq!(play(&scene).calls.len(), 2, "{later} ms later, {ms} ms");
    }
}
