//! Tests of a step of the wall clock during a call. The capture timeline continues, so the recording is as long as the
//! call, and its times are those of the old clock. Calls that begin after the step use the new clock.

use callspan::call::Engine;
use callspan::call::config::Config;
use callspan::call::event::EndedCall;
use callspan::call::record::{CallRecord, Side};
use callspan::capture::{
    CaptureCounters, CaptureError, CaptureEvent, CaptureSource, CaptureWarning, CapturedFrame, LinkType,
};
use callspan::service::pipeline::{Pipeline, PipelineStep};
use callspan::service::resume::{NoEarlierCalls, resume};
use callspan::time::Timestamp;

use crate::sound::restart::start;
use crate::sound::score::{PacketFate, SpokenSide};
use crate::support::packets::{ethernet, ipv4, udp};
use crate::support::phones::{EngineWithSpool, MirroredTraffic, RecordedCall, SentDatagram, at_ms, ended, recorded};

const HOUR_NS: i64 = 3_600_000_000_000;

/// Returns two calls: the first from 0 to 12 s, the second from 20 to 26 s.
fn two_calls() -> Vec<SentDatagram> {
    let mut packets = Vec::new();
    for (from, to, name) in [(0.0, 12_000.0, "made-up"), (20_000.0, 26_000.0, "another")] {
        let mut wire = MirroredTraffic::default();
        wire.invite(from, "");
        wire.answer(from + 1_000.0);
        for side in [Side::Caller, Side::Callee] {
            SpokenSide::new(side).run(&mut wire, (from + 1_020.0, to), 0.0, |_| PacketFate::default());
        }
        wire.reinvite(from + 4_000.0, "sendrecv");
        wire.bye(to);
        for packet in wire.sorted() {
            let text = String::from_utf8(packet.payload.clone());
            let payload =
                text.map_or(packet.payload.clone(), |text| text.replace("made-up@", &format!("{name}@")).into());
            packets.push(SentDatagram { payload, ..packet });
        }
    }
    packets
}

fn played(packets: &[SentDatagram], steps: &[(f64, i64)]) -> (EngineWithSpool, Vec<EndedCall>) {
    let mut stage = EngineWithSpool::new(Config::default());
    let mut from = 0;
    for &(ms, by_ns) in steps {
        let to = packets.partition_point(|p| p.at < at_ms(ms));
        stage.play(&packets[from..to]);
        stage.engine.handle_clock_step(by_ns, &mut stage.spool);
        from = to;
    }
    stage.play(&packets[from..]);
    stage.engine.handle_end_of_capture(&mut stage.spool);
    let rest = crate::support::phones::ended(&mut stage.engine);
    let calls = stage.ended.drain(..).chain(rest).collect();
    (stage, calls)
}

/// Collects all times in a record, i.e. all texts that begin with a date.
fn times(value: &serde_json::Value, out: &mut Vec<String>) {
    match value {
        serde_json::Value::String(text) if text.starts_with("2026-") && text.ends_with('Z') => out.push(text.clone()),
        serde_json::Value::Array(items) => items.iter().for_each(|item| times(item, out)),
        serde_json::Value::Object(fields) => fields.values().for_each(|item| times(item, out)),
        _ => {}
    }
}

fn without_the_step(record: &CallRecord) -> serde_json::Value {
    let mut record = record.clone();
    record.problems.retain(|p| p.kind != callspan::call::record::ProblemKind::ClockStep);
    record.recordings.iter_mut().for_each(|r| r.path.clear());
    serde_json::to_value(record).unwrap()
}

#[test]
fn a_clock_step_changes_only_the_next_call() {
    let packets = two_calls();
    let (stage, calls) = played(&packets, &[]);
    let plain: Vec<_> = calls.iter().map(|call| recorded(call, &stage.spool, Default::default())).collect();
    for steps in [&[(6_000.0, HOUR_NS)][..], &[(6_000.0, -HOUR_NS)], &[(3_000.0, 7 * HOUR_NS), (9_000.0, -9 * HOUR_NS)]]
    {
        let (stage, calls) = played(&packets, steps);
        let [first, second] = [0, 1].map(|n| recorded(&calls[n], &stage.spool, Default::default()));
        let problem = |record: &CallRecord| {
            record.problems.iter().filter(|p| p.kind == callspan::call::record::ProblemKind::ClockStep).count()
        };
        assert_eq!((problem(&first.record), problem(&second.record)), (1, 0), "{steps:?}");
        assert_eq!(first.frames.len(), 11 * 8_000, "{steps:?}");
        assert!(first.frames == plain[0].frames && second.frames == plain[1].frames, "{steps:?}: the same sound");
        assert_eq!(without_the_step(&first.record), without_the_step(&plain[0].record), "{steps:?}");
        // All times of the second call are shifted by the step. Nothing else differs.
        let (mut expected, mut got) = (Vec::new(), Vec::new());
        times(&without_the_step(&plain[1].record), &mut expected);
        times(&without_the_step(&second.record), &mut got);
        let by_ns: i64 = steps.iter().map(|(_, by_ns)| by_ns).sum();
        assert!(expected.len() >= 12, "{expected:?}");
        let moved = |text: &String| {
            let at: jiff::Timestamp = text.parse().unwrap();
            format!("{:.6}", at + jiff::SignedDuration::from_nanos(by_ns))
        };
        assert_eq!(got, expected.iter().map(moved).collect::<Vec<_>>(), "{steps:?}");
        assert_eq!(second.record.duration_s, plain[1].record.duration_s);
    }
}

/// A live capture source with kernel timestamps. The wall clock makes a step before one of its packets.
struct SteppingSource<'a> {
    packets: &'a [SentDatagram],
    next: usize,
    /// Sum of the steps of the wall clock up to the current packet, ns.
    wall_ns: i64,
    step: Option<(usize, i64)>,
    /// Sum of the steps that were reported, ns. The timeline of the source does not contain them.
    steps_ns: i64,
    frame: Vec<u8>,
}

impl CaptureSource for SteppingSource<'_> {
    fn next_event(&mut self) -> Result<CaptureEvent<'_>, CaptureError> {
        if let Some((_, by_ns)) = self.step.take_if(|(at, _)| *at == self.next) {
            self.wall_ns += by_ns;
            self.steps_ns += by_ns;
            return Ok(CaptureEvent::ClockStep { at: Timestamp::EPOCH, by_ns });
        }
        let Some(packet) = self.packets.get(self.next) else { return Ok(CaptureEvent::End) };
        self.next += 1;
        let [src, dst] = [packet.src, packet.dst].map(|end| match end.ip() {
            std::net::IpAddr::V4(ip) => (ip.octets(), end.port()),
            std::net::IpAddr::V6(_) => unreachable!("made-up calls are of IPv4"),
        });
        let datagram = udp(src.1, dst.1, &packet.payload);
        self.frame = ethernet(0x0800, &ipv4(src.0, dst.0, 17, self.next as u16, &datagram));
        let at = packet.at.offset(self.wall_ns - self.steps_ns);
        let orig_len = self.frame.len() as u32;
        Ok(CaptureEvent::Frame(CapturedFrame {
            at,
            link: LinkType::Ethernet,
            interface: 0,
            orig_len,
            data: &self.frame,
        }))
    }

    fn counters(&mut self) -> CaptureCounters {
        CaptureCounters::default()
    }

    fn name(&self) -> &str {
        "made up"
    }

    fn take_warnings(&mut self) -> Vec<CaptureWarning> {
        Vec::new()
    }
}

/// Passes the call to two processes, one after the other. The wall clock is set while the first process runs.
fn restarted(packets: &[SentDatagram], (step_at, by_ns): (f64, i64), restart_at: f64) -> Vec<RecordedCall> {
    let folder = tempfile::tempdir().unwrap();
    let number = |ms: f64| packets.partition_point(|p| p.at < at_ms(ms));
    let (cut, step) = (number(restart_at), number(step_at));
    let mut calls = Vec::new();
    for (n, packets) in [&packets[..cut], &packets[cut..]].into_iter().enumerate() {
        let (mut spool, _events) = start(folder.path());
        let mut engine = Engine::new(Config::default(), "made up");
        resume(&mut engine, &mut spool, &NoEarlierCalls).unwrap();
        let mut pipeline = Pipeline::new(engine);
        let (wall_ns, step) = if n == 0 { (0, Some((step, by_ns))) } else { (by_ns, None) };
        let mut source = SteppingSource { packets, next: 0, wall_ns, step, steps_ns: 0, frame: Vec::new() };
        while pipeline.step(&mut source, &mut spool).unwrap() == PipelineStep::More {}
        if n == 1 {
            pipeline.end(&mut spool);
            spool.flush();
            calls =
                ended(&mut pipeline.engine).iter().map(|c| recorded(c, &spool.store(), Default::default())).collect();
        }
        spool.flush();
        spool.shutdown();
    }
    calls
}

#[test]
fn a_restart_after_a_step_goes_on_where_the_call_stood() {
    let packets = two_calls();
    let (stage, calls) = played(&packets, &[]);
    let plain: Vec<_> = calls.iter().map(|call| recorded(call, &stage.spool, Default::default())).collect();
    let as_one = |record: &CallRecord| {
        let mut record = record.clone();
        record.problems.retain(|p| p.kind != callspan::call::record::ProblemKind::RestartGap);
        for side in [Side::Caller, Side::Callee] {
            let side = record.sides.get_mut(side);
            side.max_jitter_ms = None;
            side.streams.iter_mut().for_each(|stream| stream.ptime_ms = None);
        }
        without_the_step(&record)
    };
    // The step comes during the talk, or while the call rings. A machine without a battery-backed clock begins in 1970.
    for (step_at, restart_at) in [(3_000.0, 6_000.0), (500.0, 700.0)] {
        for by_ns in [HOUR_NS, -HOUR_NS, 56 * 365 * 24 * HOUR_NS] {
            let calls = restarted(&packets, (step_at, by_ns), restart_at);
            let [first, second] = &calls[..] else { panic!("two calls, not {}", calls.len()) };
            let name = format!("a step of {} h at {step_at}", by_ns / HOUR_NS);
            assert_eq!(first.frames.len(), 11 * 8_000, "{name}");
            assert!(first.frames == plain[0].frames && second.frames == plain[1].frames, "{name}: the same sound");
            assert_eq!(as_one(&first.record), as_one(&plain[0].record), "{name}");
            let kinds: Vec<&str> = first.record.problems.iter().map(|p| p.kind.as_str()).collect();
            assert!(kinds.contains(&"clock_step"), "{name}: {kinds:?}");
            assert_eq!(second.record.invited_at, plain[1].record.invited_at.map(|at| at.offset(by_ns)), "{name}");
        }
    }
}
