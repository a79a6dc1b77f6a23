//! Measures the time to append an RTP packet to a leg, in ns a packet, at 1, 1,000 and 20,000 legs.
#![allow(missing_docs, reason = "criterion's macros make functions")]

use std::time::{Duration, Instant};

use callspan::call::decision::Decision;
use callspan::call::event::{DiscardReason, KeptBytes, LegId, LegSink as _};
use callspan::decode::UdpDatagram;
use callspan::net::Endpoint;
use callspan::spool::config::Config;
use callspan::spool::disk::DiskSpool;
use callspan::time::Timestamp;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// Number of packets between two flushes: 23 MB, well below the size of the buffer, so that no packet is dropped.
const ROUND: u64 = 100_000;

fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("spool_append");
    group.throughput(Throughput::Elements(1)).sample_size(20).measurement_time(Duration::from_secs(3));
    for legs in [1_u64, 1_000, 20_000] {
        group.bench_with_input(BenchmarkId::from_parameter(legs), &legs, |b, &legs| {
            b.iter_custom(|packets| timed(legs, packets));
        });
    }
    group.finish();
}

/// Returns the time for appending packets. Creating files before and flushing after it do not count.
#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
fn timed(legs: u64, packets: u64) -> Duration {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let config = Config { dir: dir.path().to_owned(), buffer_mib: 1_024, ..Config::default() };
    let (mut spool, _events) = DiskSpool::start(&config).expect("the spool starts");
    let (src, dst) = (Endpoint::v4([192, 0, 2, 1], 4000), Endpoint::v4([192, 0, 2, 2], 5000));
    let payload = [0x80; 172];
    let mut spent = Duration::ZERO;
    let mut left = packets;
    while left > 0 {
        for leg in 0..legs {
            spool.open(LegId(leg), &format!("leg{leg}"));
            spool.decide(LegId(leg), Timestamp::EPOCH, &Decision::Start);
        }
        spool.flush();
        let round = left.min(ROUND);
        let begin = Instant::now();
        for n in 0..round {
            let at = Timestamp::from_micros(n as i64);
            let datagram = UdpDatagram { at, src, dst, payload: &payload, wire_len: 172, interface: 0 };
            spool.packet(LegId(n % legs), &datagram, KeptBytes::Whole);
        }
        spent += begin.elapsed();
        spool.flush();
        for leg in 0..legs {
            spool.discard(LegId(leg), DiscardReason::Evicted);
        }
        left -= round;
    }
    assert_eq!(spool.lost_packets(), 0);
    spent
}

criterion_group!(benches, append);
criterion_main!(benches);
