//! Plays a scenario to the engine, and collects its events, records and recordings.

use std::collections::HashMap;

use callspan::call::Engine;
use callspan::call::config::Config;
use callspan::call::decision::Decision;
use callspan::call::engine::EngineCounters;
use callspan::call::event::{CallEvent, DiscardReason, EndedCall, KeptBytes, LegId, LegSink, LiveCall};
use callspan::call::record::CallRecord;
use callspan::call::topology::MachinePair;
use callspan::decode::UdpDatagram;
use callspan::net::Endpoint;
use callspan::recording::{FolderLayout, Recorder};
use callspan::service::resume::{EarlierCalls, resume_at};
use callspan::spool::LegStore;
use callspan::spool::memory::MemorySpool;
use callspan::time::Timestamp;

use super::restart::EndedBefore;
use super::scenario::{RecordedChannel, Scene, ScenePacket, T0, at};

/// A leg sink that passes everything to another sink and remembers the media.
pub struct WatchedSink<S> {
    pub inner: S,
    /// Maps each media packet (flow and RTP header) to the legs for which it was stored.
    pub media: HashMap<(Endpoint, Endpoint, [u8; 12]), Vec<LegId>>,
    /// Number of stored media bytes, without RTP headers.
    pub media_bytes: usize,
}

impl<S> WatchedSink<S> {
    pub fn new(inner: S) -> Self {
        Self { inner, media: HashMap::new(), media_bytes: 0 }
    }
}

impl<S: LegSink> LegSink for WatchedSink<S> {
    fn open(&mut self, leg: LegId, name: &str) {
        self.inner.open(leg, name);
    }
    fn packet(&mut self, leg: LegId, datagram: &UdpDatagram<'_>, keep: KeptBytes) {
        if datagram.payload.first() == Some(&0x80) {
            // Flow and RTP header identify a packet.
            let header = datagram.payload[..12].try_into().unwrap();
            self.media.entry((datagram.src, datagram.dst, header)).or_default().push(leg);
            self.media_bytes += if keep == KeptBytes::Whole { datagram.payload.len() } else { 0 };
        }
        self.inner.packet(leg, datagram, keep);
    }
    fn decide(&mut self, leg: LegId, at: Timestamp, decision: &Decision) {
        self.inner.decide(leg, at, decision);
    }
    fn close(&mut self, leg: LegId) {
        self.inner.close(leg);
    }
    fn discard(&mut self, leg: LegId, reason: DiscardReason) {
        self.inner.discard(leg, reason);
    }
}

/// A leg sink that discards everything.
pub struct NullSink;

impl LegSink for NullSink {
    fn open(&mut self, _: LegId, _: &str) {}
    fn packet(&mut self, _: LegId, _: &UdpDatagram<'_>, _: KeptBytes) {}
    fn decide(&mut self, _: LegId, _: Timestamp, _: &Decision) {}
    fn close(&mut self, _: LegId) {}
    fn discard(&mut self, _: LegId, _: DiscardReason) {}
}

/// One call: its record and its recording.
#[derive(Clone, Debug)]
pub struct PlayedCall {
    pub record: CallRecord,
    pub ended: EndedCall,
    /// The left and the right channel; `None` without a recording.
    pub sound: Option<[RecordedChannel; 2]>,
}

/// All results of the engine and the recorder.
#[derive(Debug)]
pub struct PlayedScene {
    /// Calls in the order of `invited_at`.
    pub calls: Vec<PlayedCall>,
    /// Events of live calls, each with its time in ms of the scene.
    pub announced: Vec<(i64, LiveCall)>,
    pub counters: EngineCounters,
    /// Ids of calls that were merged into other calls.
    pub absorbed: Vec<String>,
    /// Pairs of hosts that were found to be one machine.
    pub learnt: Vec<MachinePair>,
    /// Number of media bytes that were stored in the spool.
    pub media_bytes: usize,
}

impl PlayedScene {
    /// Returns the only call.
    #[track_caller]
    pub fn only(&self) -> &PlayedCall {
        let [call] = self.calls.as_slice() else {
            panic!(
                "one call, not {}: {:#?}",
                self.calls.len(),
                self.calls.iter().map(|c| &c.record).collect::<Vec<_>>()
            )
        };
        call
    }
}

/// Plays a scene with the default configuration.
pub fn play(scene: &Scene) -> PlayedScene {
    play_with(scene, Config::default())
}

/// Plays a scene and renders its calls, with this configuration.
pub fn play_with(scene: &Scene, config: Config) -> PlayedScene {
    play_packets(&scene.packets(), scene.now(), config)
}

/// Plays packets in the given order. The capture ends at `end_ms`.
pub fn play_packets(packets: &[ScenePacket], end_ms: i64, config: Config) -> PlayedScene {
    play_whole(packets, end_ms, config, None)
}

/// Does the same as [`play_packets`]. At the ms `step.0` of the scene, the wall clock is set by `step.1` ns.
pub fn play_with_clock_step(packets: &[ScenePacket], end_ms: i64, step: (i64, i64)) -> PlayedScene {
    play_whole(packets, end_ms, Config::default(), Some(step))
}

fn play_whole(packets: &[ScenePacket], end_ms: i64, config: Config, mut step: Option<(i64, i64)>) -> PlayedScene {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = WatchedSink::new(MemorySpool::new(64, folder.path().join("spool")));
    let mut engine = Engine::new(config, "scene");
    let mut heard = Heard::new(folder.path());
    for packet in packets {
        if let Some((_, by_ns)) = step.take_if(|(ms, _)| at(*ms) <= packet.at) {
            engine.handle_clock_step(by_ns, &mut sink);
        }
        while let Some(due) = engine.poll_timeout().filter(|due| *due <= packet.at) {
            engine.handle_timeout(due, &mut sink);
            engine.check();
            heard.take(&mut engine, &mut sink);
        }
        engine.handle_datagram(&packet.datagram(), &mut sink);
        engine.check();
        heard.take(&mut engine, &mut sink);
    }
    while let Some(due) = engine.poll_timeout().filter(|due| *due <= at(end_ms)) {
        engine.handle_timeout(due, &mut sink);
        heard.take(&mut engine, &mut sink);
    }
    engine.handle_timeout(at(end_ms), &mut sink);
    engine.handle_end_of_capture(&mut sink);
    heard.take(&mut engine, &mut sink);
    assert_eq!((engine.live_calls(), engine.live_legs()), (0, 0), "nothing is left at the end");
    heard.finish(&engine, sink.media_bytes)
}

/// Plays packets to a recorder that is stopped at `stop_ms` of the scene. A second recorder continues from its spool.
pub fn play_restarted(packets: &[ScenePacket], stop_ms: i64) -> PlayedScene {
    let folder = tempfile::tempdir().unwrap();
    let mut heard = Heard::new(folder.path());
    let (before, after): (Vec<&ScenePacket>, Vec<&ScenePacket>) = packets.iter().partition(|p| p.at < at(stop_ms));
    let spool_folder = folder.path().join("spool");
    std::fs::create_dir(&spool_folder).unwrap();
    let start = || {
        let config = callspan::spool::config::Config { dir: spool_folder.clone(), ..Default::default() };
        callspan::spool::disk::DiskSpool::start(&config).unwrap()
    };
    let mut over = EndedBefore::default();
    let mut learnt = Vec::new();
    for (packets, is_last) in [(before, false), (after, true)] {
        let (mut spool, _events) = start();
        let mut engine = Engine::new(Config::default(), "scene");
        engine.restore_topology(&learnt, at(stop_ms));
        resume_at(&mut engine, &mut spool, &over, at(stop_ms)).unwrap();
        for packet in packets {
            while let Some(due) = engine.poll_timeout().filter(|due| *due <= packet.at) {
                engine.handle_timeout(due, &mut spool);
            }
            engine.handle_datagram(&packet.datagram(), &mut spool);
            spool.handle_timeout(packet.at);
            engine.check();
        }
        if is_last {
            engine.handle_end_of_capture(&mut spool);
        }
        spool.flush();
        while let Some(event) = engine.poll_event() {
            // From the journal, the second recorder knows which calls had ended before.
            if let CallEvent::Ended(ended) = &event {
                if over.is_over(&ended.record.id) {
                    continue;
                }
                over.0.push(EndedCall::clone(ended));
            }
            heard.note(event, &engine, &spool.store());
        }
        if is_last {
            return heard.finish(&engine, 0);
        }
        spool.shutdown();
        learnt = engine.learnt_machines();
    }
    unreachable!("the second process is the last one")
}

/// Collects the events of an engine, and renders the calls that ended.
struct Heard {
    recorder: Recorder,
    calls: Vec<PlayedCall>,
    announced: Vec<(i64, LiveCall)>,
    absorbed: Vec<String>,
}

impl Heard {
    fn new(folder: &std::path::Path) -> Self {
        let recording = callspan::recording::config::Config { dir: folder.to_owned(), ..Default::default() };
        let recorder = Recorder::new(recording, FolderLayout::Flat, None);
        Self { recorder, calls: Vec::new(), announced: Vec::new(), absorbed: Vec::new() }
    }

    fn take(&mut self, engine: &mut Engine, sink: &mut WatchedSink<MemorySpool>) {
        while let Some(event) = engine.poll_event() {
            let legs = if let CallEvent::Ended(ended) = &event { ended.legs.clone() } else { Vec::new() };
            self.note(event, engine, &sink.inner);
            for leg in legs {
                sink.inner.release(leg.leg);
            }
        }
    }

    fn note(&mut self, event: CallEvent, engine: &Engine, store: &dyn LegStore) {
        match event {
            CallEvent::Changed(live) => self.announced.push((scene_ms(engine.now()), *live)),
            CallEvent::Absorbed(id) => self.absorbed.push(id),
            CallEvent::SegmentsDue(_) | CallEvent::Withdrawn(_) | CallEvent::Learnt(_) => {}
            CallEvent::Ended(ended) => {
                let record = self.recorder.record(&ended, store).unwrap();
                // The record has wall-clock times, but the scene has capture times.
                let offset_ns = ended.wall_offset_ns.saturating_neg();
                let sound = record.recordings.first().map(|r| listen(&r.path, r.starts_at.offset(offset_ns)));
                self.calls.push(PlayedCall { record, ended: *ended, sound });
            }
        }
    }

    fn finish(mut self, engine: &Engine, media_bytes: usize) -> PlayedScene {
        self.calls.sort_by_key(|c| (c.record.invited_at, c.record.id.clone()));
        let (counters, learnt) = (*engine.counters(), engine.learnt_machines());
        let Self { calls, announced, absorbed, .. } = self;
        PlayedScene { calls, announced, absorbed, counters, learnt, media_bytes }
    }
}

/// Returns a capture time in ms of the scene.
pub fn scene_ms(at: Timestamp) -> i64 {
    at.nanos_since(T0) / 1_000_000
}

fn listen(path: &str, starts_at: Timestamp) -> [RecordedChannel; 2] {
    let mut reader = hound::WavReader::open(path).unwrap();
    assert_eq!((reader.spec().channels, reader.spec().sample_rate), (2, 8_000));
    let all: Vec<i16> = reader.samples::<i16>().map(Result::unwrap).collect();
    let starts_ms = starts_at.nanos_since(T0) as f64 / 1e6;
    let channel = |n: usize| RecordedChannel { starts_ms, samples: all.iter().skip(n).step_by(2).copied().collect() };
    [channel(0), channel(1)]
}
