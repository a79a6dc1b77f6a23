//! A step of the wall clock in mid-call: the capture timeline goes on, so the recording is as long as the call and its
//! times are of the clock that held when it began; what begins afterwards goes by the new one.

use callspan::call::config::Config;
use callspan::call::event::EndedCall;
use callspan::call::record::{CallRecord, Side};

use crate::score::{Fate, Talk};
use crate::stage::{Sent, Stage, Wire, at_ms, recorded};

const HOUR_NS: i64 = 3_600_000_000_000;

/// Two calls, one after the other: the first from 0 to 12 s, the second from 20 to 26 s.
fn two_calls() -> Vec<Sent> {
    let mut packets = Vec::new();
    for (from, to, name) in [(0.0, 12_000.0, "made-up"), (20_000.0, 26_000.0, "another")] {
        let mut wire = Wire::default();
        wire.invite(from, "");
        wire.answer(from + 1_000.0);
        for side in [Side::Caller, Side::Callee] {
            Talk::new(side).run(&mut wire, (from + 1_020.0, to), 0.0, |_| Fate::default());
        }
        wire.reinvite(from + 4_000.0, "sendrecv");
        wire.bye(to);
        for packet in wire.sorted() {
            let text = String::from_utf8(packet.payload.clone());
            let payload = text.map_or(packet.payload.clone(), |text| text.replace("made-up@", &format!("{name}@")).into());
            packets.push(Sent { payload, ..packet });
        }
    }
    packets
}

fn played(packets: &[Sent], steps: &[(f64, i64)]) -> (Stage, Vec<EndedCall>) {
    let mut stage = Stage::new(Config::default());
    let mut from = 0;
    for &(ms, by_ns) in steps {
        let to = packets.partition_point(|p| p.at < at_ms(ms));
        stage.play(&packets[from..to]);
        stage.engine.handle_clock_step(by_ns);
        from = to;
    }
    stage.play(&packets[from..]);
    stage.engine.handle_end_of_capture(&mut stage.spool);
    let rest = crate::stage::ended(&mut stage.engine);
    let calls = stage.ended.drain(..).chain(rest).collect();
    (stage, calls)
}

/// Every time of a record, by whatever name, is a text that begins with a date.
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
    record.problems.retain(|p| p.kind != "clock_step");
    record.recordings.iter_mut().for_each(|r| r.path.clear());
    serde_json::to_value(record).unwrap()
}

#[test]
fn a_step_in_mid_call_moves_neither_sound_nor_times_and_the_next_call_goes_by_the_new_clock() {
    let packets = two_calls();
    let (stage, calls) = played(&packets, &[]);
    let plain: Vec<_> = calls.iter().map(|call| recorded(call, &stage.spool, Default::default())).collect();
    for steps in [&[(6_000.0, HOUR_NS)][..], &[(6_000.0, -HOUR_NS)], &[(3_000.0, 7 * HOUR_NS), (9_000.0, -9 * HOUR_NS)]]
    {
        let (stage, calls) = played(&packets, steps);
        let [first, second] = [0, 1].map(|n| recorded(&calls[n], &stage.spool, Default::default()));
        let problem = |record: &CallRecord| record.problems.iter().filter(|p| p.kind == "clock_step").count();
        assert_eq!((problem(&first.record), problem(&second.record)), (1, 0), "{steps:?}");
        assert_eq!(first.frames.len(), 11 * 8_000, "{steps:?}");
        assert!(first.frames == plain[0].frames && second.frames == plain[1].frames, "{steps:?}: the same sound");
        assert_eq!(without_the_step(&first.record), without_the_step(&plain[0].record), "{steps:?}");
        // Of the second each time is moved by the same, and nothing else is different.
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
