//! A recorder that is killed at a moment of a scene and started again.

use std::path::Path;

use callspan::call::Engine;
use callspan::call::config::Config;
use callspan::call::engine::EngineLimits;
use callspan::call::event::{CallEvent, EndedCall};
use callspan::call::record::CallRecord;
use callspan::service::resume::{EarlierCalls, NoEarlierCalls, resume_at};
use callspan::spool::disk::DiskSpool;

use super::scenario::{ScenePacket, at};

/// Does the same as [`records_of_both`] with the default configuration.
pub fn records_with_kill(packets: &[ScenePacket], end_ms: i64, kill_ms: i64) -> Vec<CallRecord> {
    records_of_both(packets, end_ms, kill_ms, &Config::default())
}

/// Plays packets to a recorder that is killed at `kill_ms` of the scene. The packets after it are played to another
/// recorder that starts at that moment. Returns the records of both.
pub fn records_of_both(packets: &[ScenePacket], end_ms: i64, kill_ms: i64, config: &Config) -> Vec<CallRecord> {
    records_with_outage(packets, end_ms, [kill_ms, kill_ms], config)
}

/// Does the same as [`records_of_both`], but the second recorder starts later than the first is killed. The packets
/// between both moments are lost.
pub fn records_with_outage(
    packets: &[ScenePacket],
    end_ms: i64,
    times_ms: [i64; 2],
    config: &Config,
) -> Vec<CallRecord> {
    records_with_limits(packets, end_ms, times_ms, config, EngineLimits::default())
}

/// Does the same as [`records_with_outage`], with other limits of the engine's tables.
pub fn records_with_limits(
    packets: &[ScenePacket],
    end_ms: i64,
    [kill_ms, start_ms]: [i64; 2],
    config: &Config,
    limits: EngineLimits,
) -> Vec<CallRecord> {
    let first = tempfile::tempdir().expect("a folder");
    let mut spool = start(first.path());
    let mut engine = Engine::with_limits(config.clone(), "killed", limits);
    resume_at(&mut engine, &mut spool, &NoEarlierCalls, at(0)).expect("nothing there");
    let (heard, after): (Vec<&ScenePacket>, Vec<&ScenePacket>) =
        packets.iter().partition(|packet| packet.at < at(kill_ms));
    for packet in &heard {
        engine.handle_datagram(&packet.datagram(), &mut spool);
        spool.handle_timeout(packet.at);
    }
    // Up to the kill, timers ran and media was written in time. So the spool has everything except the last half
    // second.
    engine.handle_timeout(at(kill_ms), &mut spool);
    spool.handle_timeout(at(kill_ms + 2_000));
    spool.flush();
    let before = EndedBefore(ended_calls(&mut engine));
    let mut records: Vec<CallRecord> = before.0.iter().map(|call| call.record.clone()).collect();
    let second = tempfile::tempdir().expect("a folder");
    for file in std::fs::read_dir(first.path()).expect("readable").flatten() {
        std::fs::copy(file.path(), second.path().join(file.file_name())).expect("copied");
    }
    let mut spool = start(second.path());
    let learnt = engine.learnt_machines();
    let mut engine = Engine::with_limits(config.clone(), "killed", limits);
    engine.restore_topology(&learnt, at(start_ms));
    resume_at(&mut engine, &mut spool, &before, at(start_ms)).expect("readable");
    engine.check();
    for packet in after.into_iter().filter(|packet| packet.at >= at(start_ms)) {
        engine.handle_datagram(&packet.datagram(), &mut spool);
        engine.check();
    }
    engine.handle_timeout(at(end_ms), &mut spool);
    engine.handle_end_of_capture(&mut spool);
    spool.flush();
    // From the journal, the second recorder knows which calls had ended before.
    records.extend(ended_records(&mut engine).into_iter().filter(|record| !before.is_over(&record.id)));
    records
}

fn start(folder: &Path) -> DiskSpool {
    let config = callspan::spool::config::Config { dir: folder.to_owned(), ..Default::default() };
    DiskSpool::start(&config).expect("a spool").0
}

/// The calls that a recorder ended before a restart, as its journal has them.
#[derive(Default)]
pub struct EndedBefore(pub Vec<EndedCall>);

impl EarlierCalls for EndedBefore {
    fn is_over(&self, id: &str) -> bool {
        self.0.iter().any(|call| call.record.id == id)
    }

    fn owner_of(&self, leg: &str) -> Option<CallRecord> {
        let owner = self.0.iter().find(|call| call.legs.iter().any(|own| own.name == leg));
        owner.map(|call| call.record.clone())
    }

    fn unrendered_record(&self, _: &str) -> Option<CallRecord> {
        None
    }
}

/// Removes the events of an engine. Returns the records of the ended calls.
pub fn ended_records(engine: &mut Engine) -> Vec<CallRecord> {
    ended_calls(engine).into_iter().map(|call| call.record).collect()
}

fn ended_calls(engine: &mut Engine) -> Vec<EndedCall> {
    let mut calls = Vec::new();
    while let Some(event) = engine.poll_event() {
        if let CallEvent::Ended(ended) = event {
            calls.push(*ended);
        }
    }
    calls
}
