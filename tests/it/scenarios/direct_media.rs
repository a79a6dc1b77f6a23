//! Tests of media that the parties send to each other directly for a while, so that the mirror does not show it.

use callspan::call::config::Config;
use callspan::call::record::Side;

use crate::scenarios::direct;
use crate::support::playback::{PlayedScene, play, play_packets, play_restarted};
use crate::support::scenario::ExpectedSound::{Silence, Voice};
use crate::support::scenario::{MessageChange, STEP_MS, Scene, at, ip, sdp};

/// A call with three talks: 2 s, 3 s that the mirror does not show, and 2 s. Times in ms.
struct Detour {
    scene: Scene,
    talk: i64,
    away: i64,
    back: i64,
    ended: i64,
}

/// Returns a call in which both senders count on during the second talk. `moves` says whether the callee announces
/// another address for it.
fn detour(moves: bool) -> Detour {
    let (mut scene, call, _) = direct();
    let talk = scene.now();
    scene.talk(call, 2_000);
    let announce = |scene: &mut Scene, media| {
        let offer = sdp(media, 7 + scene.now() as u32, "8 101", &[]);
        scene.request(call, Side::Callee, "INVITE", &[MessageChange::Sdp(offer)]);
        let answer = scene.sdp(call, Side::Caller, &[]);
        scene.response(call, Side::Caller, (200, "INVITE"), &[MessageChange::Sdp(answer)]);
        scene.request(call, Side::Callee, "ACK", &[]);
    };
    let usual = scene.get(call).media[1];
    let away = scene.now();
    announce(&mut scene, if moves { ip(77, 40_000) } else { usual });
    scene.wait(3_000);
    announce(&mut scene, usual);
    for side in [Side::Caller, Side::Callee] {
        let flow = scene.flow(call, side);
        scene.sender(flow).sequence += 150;
    }
    let back = scene.now();
    scene.talk(call, 2_000);
    let ended = scene.bye(call, Side::Caller);
    Detour { scene, talk, away, back, ended }
}

/// Returns the lost packets of both sides, and the number of problems of the only call.
fn lost(played: &PlayedScene) -> ([u64; 2], usize) {
    let record = &played.only().record;
    ([record.sides.caller.lost, record.sides.callee.lost], record.problems.len())
}

#[test]
fn packets_on_a_path_that_the_parties_agreed_on_are_not_lost() {
    let Detour { scene, talk, away, back, ended } = detour(true);
    let played = play(&scene);
    assert_eq!(lost(&played), ([0, 0], 0));
    let call = played.only();
    assert!([&call.record.sides.caller, &call.record.sides.callee].iter().all(|side| side.losses.is_empty()));
    let [left, right] = call.sound.as_ref().expect("a recording");
    for (channel, voice) in [(left, 1), (right, 2)] {
        assert_eq!(channel.share(Voice(voice), talk, away), 1.0);
        assert_eq!(channel.share(Silence, away + 100, back), 1.0);
        assert_eq!(channel.share(Voice(voice), back, ended), 1.0);
    }
}

#[test]
fn detour_is_no_loss_if_packets_are_counted_from_the_spool() {
    let Detour { scene, talk, .. } = detour(true);
    assert_eq!(lost(&play_restarted(&scene.packets(), talk + 1_000)).0, [0, 0]);
}

#[test]
fn packets_missing_around_a_detour_are_lost() {
    let Detour { scene, talk, back, ended, .. } = detour(true);
    let mut packets = scene.packets();
    let is_missing = |ms: i64| move |stamp| stamp >= at(ms) && stamp < at(ms + 100);
    let [before, after] = [talk + 1_000, back + 1_000].map(is_missing);
    packets.retain(|p| p.payload[0] & 0xC0 != 0x80 || !before(p.at) && !after(p.at));
    assert_eq!(lost(&play_packets(&packets, ended + STEP_MS, Config::default())), ([10, 10], 1));
}

#[test]
fn packets_missing_at_an_offer_of_the_same_address_are_lost() {
    assert_eq!(lost(&play(&detour(false).scene)), ([150, 150], 1));
}
