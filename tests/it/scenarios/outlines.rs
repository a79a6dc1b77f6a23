//! Tests of the outlines of doubtful legs, i.e. of their measured sound: when they are compared, and what is kept of
//! them.

use std::time::Duration;

use callspan::call::Engine;
use callspan::call::config::Config;
use callspan::call::record::Side;
use callspan::service::resume::{NoEarlierCalls, resume_at};
use callspan::spool::disk::DiskSpool;

use crate::scenarios::{DID, MUSIC};
use crate::support::scenario::{DialogId, Scene, ScenePhone, at};

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
