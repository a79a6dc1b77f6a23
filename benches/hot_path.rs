//! Measures the cost of one RTP packet of a known call on the capture thread: decode, look-up, spool append.
//!
//! `cargo bench --bench hot_path` measures the processor time of the capture thread. The packets of N calls take turns,
//! as on a wire.

use std::hint::black_box;
use std::time::Duration;

use callspan::call::Engine;
use callspan::call::config::Config;
use callspan::call::decision::Decision;
use callspan::call::event::{DiscardReason, KeptBytes, LegId, LegSink};
use callspan::capture::{
    CaptureCounters, CaptureError, CaptureEvent, CaptureSource, CaptureWarning, CapturedFrame, LinkType,
};
use callspan::decode::{FrameDecoder, UdpDatagram};
use callspan::service::pipeline::Pipeline;
use callspan::spool;
use callspan::spool::disk::DiskSpool;
use callspan::time::Timestamp;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// A leg sink that discards everything.
struct Nowhere;

impl LegSink for Nowhere {
    fn open(&mut self, _leg: LegId, _name: &str) {}
    fn packet(&mut self, _leg: LegId, datagram: &UdpDatagram<'_>, _keep: KeptBytes) {
        black_box(datagram.payload);
    }
    fn decide(&mut self, _leg: LegId, _at: Timestamp, _decision: &Decision) {}
    fn close(&mut self, _leg: LegId) {}
    fn discard(&mut self, _leg: LegId, _reason: DiscardReason) {}
}

/// Returns a configuration without limits on the length of calls, because the bench runs for days of capture time.
fn endless() -> Config {
    Config { max_hours: 1_000_000, ..Config::default() }
}

/// Answered G.711 calls. Each call has two frames, which get a new sequence number and timestamp for each packet.
struct World {
    frames: Vec<Vec<u8>>,
    next: usize,
    at: Timestamp,
    /// Bytes from which the packets take their voice. If it is empty, every packet is silent.
    voice: Vec<u8>,
}

impl World {
    fn new(calls: u32, engine: &mut Engine, sink: &mut dyn LegSink) -> Self {
        let mut at = Timestamp::from_secs(1_700_000_000);
        let mut decoder = FrameDecoder::new();
        let mut frames = Vec::new();
        for call in 0..calls {
            for frame in signalling(call) {
                at = at + Duration::from_micros(10);
                feed(&mut decoder, engine, sink, (&frame, at));
            }
            let [.., caller, callee] = addresses(call);
            frames.push(udp(caller, callee, &rtp(call)));
        }
        Self { frames, next: 0, at, voice: Vec::new() }
    }

    /// Makes the packets carry voice, so that no two packets of a call have the same bytes.
    fn speak(&mut self) {
        let mut rng = fastrand::Rng::with_seed(7);
        self.voice = (0..VOICE_BYTES).map(|_| rng.u8(..)).collect();
    }

    fn step(&mut self, decoder: &mut FrameDecoder, engine: &mut Engine, sink: &mut dyn LegSink) {
        let (at, frame) = self.advance();
        feed(decoder, engine, sink, (frame, at));
    }

    /// Returns the next packet with its capture time.
    fn advance(&mut self) -> (Timestamp, &[u8]) {
        let gap = 10_000_000 / self.frames.len().max(1) as i64;
        self.at = self.at.offset(gap.max(1));
        let count = self.frames.len();
        let frame = &mut self.frames[self.next];
        self.next = if self.next + 1 == count { 0 } else { self.next + 1 };
        let sequence = u16::from_be_bytes([frame[44], frame[45]]).wrapping_add(1);
        frame[44..46].copy_from_slice(&sequence.to_be_bytes());
        let time = u32::from_be_bytes([frame[46], frame[47], frame[48], frame[49]]).wrapping_add(160);
        frame[46..50].copy_from_slice(&time.to_be_bytes());
        if !self.voice.is_empty() {
            let from = (usize::from(sequence) * 8 + self.next * 24) % (VOICE_BYTES - 160);
            frame[54..214].copy_from_slice(&self.voice[from..from + 160]);
        }
        (self.at, frame)
    }
}

/// The packets of a [`World`] as a capture source for the pipeline.
struct WorldSource(World);

impl CaptureSource for WorldSource {
    fn next_event(&mut self) -> Result<CaptureEvent<'_>, CaptureError> {
        let (at, data) = self.0.advance();
        Ok(CaptureEvent::Frame(CapturedFrame { at, link: LinkType::Ethernet, interface: 0, orig_len: 214, data }))
    }

    fn look_ahead(&self, count: usize, each: &mut dyn FnMut(LinkType, &[u8])) -> usize {
        let World { frames, next, .. } = &self.0;
        let (before, after) = frames.split_at(*next);
        after.iter().chain(before).take(count).map(|frame| each(LinkType::Ethernet, frame)).count()
    }

    fn counters(&mut self) -> CaptureCounters {
        CaptureCounters::default()
    }

    fn name(&self) -> &str {
        "bench"
    }

    fn take_warnings(&mut self) -> Vec<CaptureWarning> {
        Vec::new()
    }
}

fn feed(decoder: &mut FrameDecoder, engine: &mut Engine, sink: &mut dyn LegSink, (bytes, at): (&[u8], Timestamp)) {
    let orig_len = bytes.len() as u32;
    let frame = CapturedFrame { at, link: LinkType::Ethernet, interface: 0, orig_len, data: bytes };
    decoder.handle_frame(&frame, &mut |decoded| engine.handle_decoded(&decoded, sink));
}

type Address = ([u8; 4], u16);

/// Returns four addresses of a call: those of the signalling and of the media, for both ends.
fn addresses(call: u32) -> [Address; 4] {
    let [_, a, b, c] = call.to_be_bytes();
    [([10, a, b, c], 5_060), ([10, 200, 0, 1], 5_060), ([10, a, b, c], 4_000), ([10, 200, 1 + b, c], 10_000)]
}

fn signalling(call: u32) -> [Vec<u8>; 2] {
    let [phone, pbx, caller, callee] = addresses(call);
    let dotted = |a: Address| a.0.map(|o| o.to_string()).join(".");
    let sdp = |a: Address| {
        format!(
            "v=0\r\no=- 1 1 IN IP4 {0}\r\ns=-\r\nc=IN IP4 {0}\r\nt=0 0\r\nm=audio {1} RTP/AVP 8\r\n",
            dotted(a),
            a.1
        )
    };
    let head = format!(
        "Via: SIP/2.0/UDP {0};branch=z9hG4bK{call}\r\nFrom: <sip:{call}@{0}>;tag=a{call}\r\nCall-ID: {call}@bench\r\n\
         CSeq: 1 INVITE\r\nContent-Type: application/sdp\r\n",
        dotted(phone)
    );
    let to = dotted(pbx);
    let invite = format!("INVITE sip:9@{to} SIP/2.0\r\n{head}To: <sip:9@{to}>\r\n\r\n{}", sdp(caller));
    let answer = format!("SIP/2.0 200 OK\r\n{head}To: <sip:9@{to}>;tag=b{call}\r\n\r\n{}", sdp(callee));
    [udp(phone, pbx, invite.as_bytes()), udp(pbx, phone, answer.as_bytes())]
}

fn rtp(call: u32) -> Vec<u8> {
    let mut out = vec![0x80, 8, 0, 0, 0, 0, 0, 0];
    out.extend(call.to_be_bytes());
    out.extend([0xd5; 160]);
    out
}

/// Returns an Ethernet frame with a UDP datagram over IPv4. The UDP payload begins at byte 42.
fn udp(src: Address, dst: Address, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    out.extend([0x45, 0]);
    out.extend((28 + payload.len() as u16).to_be_bytes());
    out.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
    out.extend(src.0);
    out.extend(dst.0);
    out.extend(src.1.to_be_bytes());
    out.extend(dst.1.to_be_bytes());
    out.extend((8 + payload.len() as u16).to_be_bytes());
    out.extend([0, 0]);
    out.extend(payload);
    out
}

/// Number of random bytes that serve as voice. The payload of each packet is 160 of these bytes, from a position of its
/// own.
const VOICE_BYTES: usize = 65_536;
/// Number of packets at the beginning of a call in which content evidence certainly still examines the voice. It
/// examines every eighth block of a voice, up to 48 blocks; a packet has two blocks.
const WATCHED_PACKETS: u64 = 150;

fn hot_path(c: &mut Criterion) {
    let mut group = c.benchmark_group("rtp_packet");
    group.throughput(Throughput::Elements(1)).sample_size(20).measurement_time(Duration::from_secs(2));
    for calls in [1, 1_000, 20_000] {
        group.bench_function(BenchmarkId::new("decode", calls), |b| {
            let mut engine = Engine::new(endless(), "bench");
            let mut world = World::new(calls, &mut engine, &mut Nowhere);
            let mut decoder = FrameDecoder::new();
            let mut step = || {
                world.at = world.at.offset(100);
                let data = &world.frames[world.next];
                world.next = if world.next + 1 == world.frames.len() { 0 } else { world.next + 1 };
                let frame = CapturedFrame { at: world.at, link: LinkType::Ethernet, interface: 0, orig_len: 214, data };
                decoder.handle_frame(&frame, &mut |decoded| {
                    black_box(&decoded);
                });
            };
            b.iter_custom(|packets| spent(|| (0..packets).for_each(|_| step())));
        });
        group.bench_function(BenchmarkId::new("decode_lookup", calls), |b| {
            let mut engine = Engine::new(endless(), "bench");
            let mut world = World::new(calls, &mut engine, &mut Nowhere);
            let mut decoder = FrameDecoder::new();
            b.iter_custom(|packets| {
                spent(|| (0..packets).for_each(|_| world.step(&mut decoder, &mut engine, &mut Nowhere)))
            });
            assert!(engine.counters().rtp_packets > 0, "the packets found their calls");
            assert_eq!(engine.counters().rtp_unclaimed, 0);
        });
        // Measures long calls with voices. Then measures the first seconds of calls, in which content evidence examines
        // each voice.
        group.bench_function(BenchmarkId::new("decode_lookup_voice", calls), |b| {
            let mut engine = Engine::new(endless(), "bench");
            let mut world = World::new(calls, &mut engine, &mut Nowhere);
            world.speak();
            let mut decoder = FrameDecoder::new();
            b.iter_custom(|packets| {
                spent(|| (0..packets).for_each(|_| world.step(&mut decoder, &mut engine, &mut Nowhere)))
            });
        });
        group.bench_function(BenchmarkId::new("decode_lookup_watched", calls), |b| {
            b.iter_custom(|packets| {
                let mut all = Duration::ZERO;
                let mut left = packets;
                while left > 0 {
                    let round = left.min(u64::from(calls) * WATCHED_PACKETS);
                    let mut engine = Engine::new(endless(), "bench");
                    let mut world = World::new(calls, &mut engine, &mut Nowhere);
                    world.speak();
                    let mut decoder = FrameDecoder::new();
                    (0..calls).for_each(|_| world.step(&mut decoder, &mut engine, &mut Nowhere));
                    all += spent(|| (0..round).for_each(|_| world.step(&mut decoder, &mut engine, &mut Nowhere)));
                    left -= round;
                }
                all
            });
        });
        for (name, is_watched) in [("pipeline", false), ("pipeline_watch", true)] {
            group.bench_function(BenchmarkId::new(name, calls), |b| {
                let mut engine = Engine::new(endless(), "bench");
                let mut source = WorldSource(World::new(calls, &mut engine, &mut Nowhere));
                let mut pipeline = Pipeline::new(engine);
                if is_watched {
                    pipeline.watch_traffic();
                }
                let mut step = || drop(pipeline.step(&mut source, &mut Nowhere));
                b.iter_custom(|packets| spent(|| (0..packets).for_each(|_| step())));
                assert!(pipeline.engine.counters().rtp_packets > 0, "the packets found their calls");
            });
        }
        group.bench_function(BenchmarkId::new("decode_lookup_append", calls), |b| {
            let folder = tempfile::tempdir().expect("temporary folder");
            let config = spool::config::Config { dir: folder.path().into(), buffer_mib: 4_096, ..Default::default() };
            let (mut spool, _events) = DiskSpool::start(&config).expect("spool");
            let mut engine = Engine::new(endless(), "bench");
            let mut source = WorldSource(World::new(calls, &mut engine, &mut spool));
            let mut pipeline = Pipeline::new(engine);
            b.iter_custom(|packets| {
                let mut all = Duration::ZERO;
                let mut left = packets;
                while left > 0 {
                    let round = left.min(ROUND);
                    all += spent(|| (0..round).for_each(|_| drop(pipeline.step(&mut source, &mut spool))));
                    left -= round;
                    wait_for(&spool);
                }
                all
            });
            assert_eq!(spool.lost_packets(), 0, "nothing was dropped to be fast");
        });
    }
    group.finish();
}

/// Waits until the writer thread has written everything. On a network, the pauses between packets would be enough.
#[expect(clippy::disallowed_methods, reason = "a bench waits for the disk")]
fn wait_for(spool: &DiskSpool) {
    while spool.queued_bytes() > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Returns the processor time of this thread for some work. Other processes influence it less than wall-clock time.
fn spent(work: impl FnOnce()) -> Duration {
    let begin = thread_time();
    work();
    thread_time() - begin
}

#[expect(unsafe_code, reason = "clock_gettime(2) of a thread has no safe form in std")]
fn thread_time() -> Duration {
    // SAFETY: the structure consists of plain numbers, and the call fills it.
    let time = unsafe {
        let mut time: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time);
        time
    };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Number of packets between two waits for the writer: a tenth of a second of 5,000 calls.
const ROUND: u64 = 50_000;

criterion_group!(benches, hot_path);
criterion_main!(benches);
