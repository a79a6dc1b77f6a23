//! Tests of the outlines of doubtful legs, i.e. of their measured sound: when they are compared, and what is kept of
//! them.

use std::time::Duration;

use callspan::call::Engine;
use callspan::call::config::Config;
use callspan::call::record::Side;
use callspan::service::resume::{NoEarlierCalls, resume_at};
use callspan::spool::disk::DiskSpool;

use crate::scenarios::doubtful::office;
use crate::scenarios::{DID, MUSIC, call_of};
use crate::support::playback::play_packets;
use crate::support::scenario::{DialogId, Scene, ScenePacket, ScenePhone, at};

/// Number of doubtful calls at the restart.
const CALLS: u8 = 8;

/// Makes calls in the voice menu. Beside each, a telephone talks that only the caller's number joins to it.
fn doubtful_calls() -> Scene {
    let mut scene = Scene::mute();
    let mut pbx = ScenePhone { voice: MUSIC, ..ScenePhone::new(DID, 9) };
    let legs: Vec<[DialogId; 2]> = (0..CALLS)
        .map(|n| {
            let (number, user) = (format!("+7999000010{n}"), format!("20{n}"));
            let (mut outside, mut ours) = (ScenePhone::new(&number, 20 + n), ScenePhone::new(&user, 40 + n));
            [scene.leg(&mut outside, &mut pbx, [&number, DID]), scene.leg(&mut pbx, &mut ours, [&number, &user])]
        })
        .collect();
    for [a, b] in &legs {
        scene.connect(*a);
        scene.connect(*b);
    }
    let speakers = legs.iter().flatten().flat_map(|leg| [(1, *leg, Side::Caller), (2, *leg, Side::Callee)]);
    scene.sound(&speakers.collect::<Vec<_>>(), 2_000);
    scene
}

fn start(folder: &std::path::Path) -> DiskSpool {
    let config = callspan::spool::config::Config { dir: folder.to_owned(), ..Default::default() };
    DiskSpool::start(&config).expect("a spool").0
}

/// A comparison takes about a millisecond, in which no packet is handled.
#[test]
fn calls_are_not_all_compared_at_one_moment_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let scene = doubtful_calls();
    let (mut engine, mut spool) = (Engine::new(Config::default(), "stopped"), start(folder.path()));
    resume_at(&mut engine, &mut spool, &NoEarlierCalls, at(0)).expect("nothing there");
    scene.packets().iter().for_each(|packet| engine.handle_datagram(&packet.datagram(), &mut spool));
    spool.flush();
    spool.shutdown();
    let now = at(scene.now());
    let (mut engine, mut spool) = (Engine::new(Config::default(), "started"), start(folder.path()));
    resume_at(&mut engine, &mut spool, &NoEarlierCalls, now).expect("readable");
    assert_eq!(engine.live_calls(), usize::from(CALLS));
    let [first, last] = [20, 30].map(|seconds| now + Duration::from_secs(seconds));
    let mut moments = Vec::new();
    while let Some(due) = engine.poll_timeout().filter(|due| *due < last) {
        engine.handle_timeout(due, &mut spool);
        moments.extend((due >= first).then_some(due));
    }
    moments.dedup();
    assert!(moments.len() > usize::from(CALLS) / 2, "{moments:?}");
}

/// Returns the packets of a scene without the answers to the INVITE of a leg, and without their ACKs.
fn without_answer(scene: &Scene, leg: DialogId) -> Vec<ScenePacket> {
    let header = format!("Call-ID: {}\r\n", scene.get(leg).call_id);
    let is_lost = |packet: &ScenePacket| {
        let text = String::from_utf8_lossy(&packet.payload);
        let is_answer = text.starts_with("SIP/2.0 200") && text.contains(" INVITE\r\n");
        text.contains(&header) && (is_answer || text.starts_with("ACK"))
    };
    scene.packets().into_iter().filter(|packet| !is_lost(packet)).collect()
}

/// 200 hears an announcement, talks with the caller, and hangs up; the mirror lost its answer. A stranger talks with 201
/// all the time, so the sound of the call is measured further. The talk with 200 must stay known.
#[test]
fn a_talk_whose_answer_is_lost_is_known_when_its_leg_ends() {
    let mut office = office();
    let (a, b, c) = (office.inbound(), office.rings_200(), office.rings_201());
    let scene = &mut office.scene;
    scene.connect(a);
    scene.sound(&[(1, a, Side::Caller), (MUSIC, a, Side::Callee)], 3_000);
    scene.invite_and_ring(b);
    scene.invite_and_ring(c);
    scene.wait(1_000);
    scene.answer(c);
    scene.wait(2_000);
    scene.answer(b);
    let stranger = [(4, c, Side::Caller), (3, c, Side::Callee)];
    let menu = [(1, a, Side::Caller), (MUSIC, a, Side::Callee)];
    let announcement = [(6, b, Side::Caller), (2, b, Side::Callee)];
    scene.sound(&[&stranger[..], &menu, &announcement].concat(), 30_000);
    let talk = [(1, a, Side::Caller), (2, a, Side::Callee), (1, b, Side::Caller), (2, b, Side::Callee)];
    scene.sound(&[&stranger[..], &talk].concat(), 9_000);
    scene.bye(b, Side::Callee);
    scene.sound(&[&stranger[..], &menu].concat(), 60_000);
    scene.bye(c, Side::Callee);
    scene.wait(1_000);
    scene.bye(a, Side::Caller);
    let played = play_packets(&without_answer(scene, b), scene.now(), Config::default());
    let record = &call_of(&played, scene, a).record;
    let is_known = record.legs.iter().any(|leg| leg.sip_call_id == scene.get(b).call_id);
    assert_eq!((played.calls.len(), is_known), (2, true), "{:#?}", record.legs);
}
