//! Measures the rendering of a G.711 call in both passes, in seconds of sound for each second of processing.
#![allow(missing_docs, reason = "criterion's macros make functions")]

use std::hint::black_box;
use std::path::PathBuf;

use callspan::call::decision::{Decision, PayloadFormat};
use callspan::call::event::{EndedLeg, KeptBytes, LegId, LegSink as _};
use callspan::call::record::{EndedBy, Side, SideRecord};
use callspan::decode::UdpDatagram;
use callspan::net::Endpoint;
use callspan::render::{RenderOptions, plan, render};
use callspan::spool::memory::MemorySpool;
use callspan::spool::{LegSource, LegStore as _};
use callspan::time::Timestamp;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const SECONDS: u64 = 60;

/// Returns the spool of a call of one minute, with sound of both sides.
fn call() -> LegSource {
    let leg = LegId(1);
    let mut spool = MemorySpool::new(256, PathBuf::new());
    let at = |ms: i64| Timestamp::from_micros(1_795_417_200_000_000 + ms * 1_000);
    let ends = [Endpoint::v4([192, 0, 2, 1], 4000), Endpoint::v4([192, 0, 2, 2], 5000)];
    spool.open(leg, "leg");
    spool.decide(leg, at(0), &Decision::Start);
    for (number, side) in [(0, Side::Caller), (1, Side::Callee)] {
        let (src, dst) = (ends[side.channel()], ends[side.other().channel()]);
        spool.decide(
            leg,
            at(0),
            &Decision::Stream { stream: number, src, dst, ssrc: callspan::net::Ssrc(number), side },
        );
        let format = PayloadFormat { encoding: "PCMA".to_owned(), clock_hz: 8_000, channels: 1, fmtp: String::new() };
        spool.decide(
            leg,
            at(0),
            &Decision::Payload { stream: number, pt: callspan::net::PayloadType(8), format: Some(format) },
        );
    }
    for n in 0..SECONDS as u32 * 50 {
        for side in [0_usize, 1] {
            let mut packet = vec![0x80, 8];
            packet.extend((n as u16).to_be_bytes());
            packet.extend((n * 160).to_be_bytes());
            packet.extend((side as u32).to_be_bytes());
            packet.extend((0..160_u32).map(|i| (i * 7 + n) as u8));
            let datagram = UdpDatagram {
                at: at(i64::from(n) * 20 + side as i64),
                src: ends[side],
                dst: ends[1 - side],
                payload: &packet,
                wire_len: packet.len() as u32,
                interface: 0,
            };
            spool.packet(leg, &datagram, KeptBytes::Whole);
        }
    }
    let end = Decision::End { ended_by: EndedBy::Caller, caller: SideRecord::default(), callee: SideRecord::default() };
    spool.decide(leg, at(SECONDS as i64 * 1_000), &end);
    spool.close(leg);
    let ended = EndedLeg { leg, name: "leg".to_owned(), index: 0, same_sides: true };
    spool.source(&ended).expect("the leg had media")
}

fn g711(c: &mut Criterion) {
    let source = call();
    let mut group = c.benchmark_group("render");
    group.throughput(Throughput::Elements(SECONDS)).sample_size(20);
    group.bench_function("g711_call_seconds", |b| {
        b.iter(|| {
            let plan = plan(&source, &RenderOptions::default()).expect("the spool is whole");
            let report = render(&plan, &source, &mut |frames| {
                black_box(frames);
                Ok(())
            });
            assert_eq!(report.expect("the spool is whole").sides[0].decoded, SECONDS * 50);
        });
    });
    group.finish();
}

criterion_group!(benches, g711);
criterion_main!(benches);
