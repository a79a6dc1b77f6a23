//! Tests a call of four hours in segments of one hour (unoptimised builds: 40 minutes in segments of ten).
//!
//! The senders' clocks drift, comfort noise fills silence, a hold spans the end of a segment, and the recorder restarts
//! between two segments. Each segment must begin with the sample after the segment before, and together they must equal
//! one long file.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use callspan::call::Engine;
use callspan::call::config::Config;
use callspan::call::event::{CallEvent, EndedCall};
use callspan::call::record::{CallRecord, CallVerdict, RecordingFile, Side};
use callspan::recording::config::Config as RecordingConfig;
use callspan::recording::{FolderLayout, Recorder};
use callspan::service::resume::{NoEarlierCalls, resume};
use callspan::spool::disk::DiskSpool;

use crate::sound::restart::start;
use crate::sound::score::{PacketFate, SpeechScore, SpokenSide};
use crate::support::phones::{MirroredTraffic, RtpPacket, SentDatagram, at_ms, feed};

const MINUTE: f64 = 60_000.0;
const PART: f64 = if cfg!(debug_assertions) { 10.0 * MINUTE } else { 60.0 * MINUTE };
/// Start and end of the hold, ms of the call. It begins before the end of the second segment and ends after it. Sample
/// 0 is at 1 s.
const HOLD: [f64; 2] = [2.0 * PART - 3.0 * MINUTE, 2.0 * PART + 8.0 * MINUTE];
/// Time of the restart, ms: after the second segment was made and before the third is full.
const RESTART: f64 = 2.0 * PART + 9.8 * MINUTE;
const END: f64 = 4.0 * PART + 5_000.0;
/// Errors of the senders' clocks, parts per million; positive is too fast.
const PPM: [f64; 2] = [150.0, -120.0];

/// Returns the packets of the call. Each minute, each side talks for a second and a half. Otherwise it sends comfort
/// noise (RFC 3389).
fn wire() -> (MirroredTraffic, [SpokenSide; 2]) {
    let mut wire = MirroredTraffic::answered();
    let mut talks = [SpokenSide::new(Side::Caller), SpokenSide::new(Side::Callee)];
    let mut random = fastrand::Rng::with_seed(6);
    for (n, talk) in talks.iter_mut().enumerate() {
        // The end of a segment lies in the middle of a talk spurt.
        let mut now = 60_300.0 + 400.0 * n as f64;
        while now < END - 10_000.0 {
            let is_held = now > HOLD[0] - 5_000.0 && now < HOLD[1];
            let to = now + MINUTE;
            if is_held {
                talk.rest((to - now) * (1.0 + PPM[n] / 1e6));
                now = to;
                continue;
            }
            talk.run(&mut wire, (now, now + 1_510.0), PPM[n], |_| PacketFate {
                late_ms: if random.u8(..4) == 0 { 0.0 } else { random.f64() * 8.0 },
                ..PacketFate::default()
            });
            // The talk spurt has 75 packets, timed by the sender's clock.
            let said_ms = 75.0 * 20.0 * (1.0 - PPM[n] / 1e6);
            let phone = &mut talk.phone;
            let noise =
                RtpPacket { pt: 13, sequence: phone.sequence, time: phone.time, ssrc: phone.ssrc, payload: &[70] };
            wire.rtp(at_ms(now + said_ms), phone.side, noise);
            phone.sequence = phone.sequence.wrapping_add(1);
            talk.rest((to - now - said_ms) * (1.0 + PPM[n] / 1e6));
            now = to;
        }
    }
    wire.reinvite(HOLD[0], "sendonly");
    wire.reinvite(HOLD[1], "sendrecv");
    wire.bye(END);
    (wire, talks)
}

/// A recorder that renders each segment when it is due.
struct SegmentRecorder<'a> {
    engine: Engine,
    spool: DiskSpool,
    recorder: &'a Recorder,
    /// The segments so far; `made_ms` has the time at which each was made.
    parts: Vec<RecordingFile>,
    made_ms: Vec<f64>,
    ended: Option<EndedCall>,
}

impl SegmentRecorder<'_> {
    fn hear(&mut self, packets: &[SentDatagram]) {
        for packet in packets {
            feed(&mut self.engine, std::slice::from_ref(packet), &mut self.spool);
            self.spool.handle_timeout(packet.at);
            self.take();
        }
    }

    fn take(&mut self) {
        while let Some(event) = self.engine.poll_event() {
            match event {
                CallEvent::SegmentsDue(mut due) => {
                    self.spool.flush();
                    due.record.recordings.clone_from(&self.parts);
                    let ready = self.recorder.render_segments(&due, &self.spool.store()).unwrap();
                    let before = self.parts.len();
                    if let Some(ready) = ready {
                        self.recorder.publish_segments(ready, &mut due.record).unwrap();
                        self.parts = due.record.recordings;
                    }
                    let now_ms = self.engine.now().nanos_since(at_ms(0.0)) as f64 / 1e6;
                    self.made_ms.extend(std::iter::repeat_n(now_ms, self.parts.len() - before));
                }
                CallEvent::Ended(call) => self.ended = Some(*call),
                _ => {}
            }
        }
    }
}

/// Returns the samples of several files as bytes, one file after the other.
fn sound(files: &[RecordingFile]) -> impl Read {
    let open = |file: &RecordingFile| {
        let reader = hound::WavReader::open(&file.path).unwrap();
        assert_eq!(u64::from(reader.duration()), (file.ends_at.nanos_since(file.starts_at) / 125_000) as u64);
        let bytes = u64::from(reader.duration()) * 4;
        // After opening, hound's reader is at the first sample.
        let inner: BufReader<File> = reader.into_inner();
        inner.take(bytes)
    };
    files.iter().map(open).fold(Box::new(std::io::empty()) as Box<dyn Read>, |all, one| Box::new(all.chain(one)))
}

/// Compares a part of each talk spurt with a file. Does not read the whole file into memory.
fn judge(file: &Path, talk: &SpokenSide) -> SpeechScore {
    let mut reader = hound::WavReader::open(file).unwrap();
    let mut score = SpeechScore::default();
    for piece in talk.said.chunk_by(|a, b| b.heard_ms - a.heard_ms < 100.0).flat_map(|spurt| spurt.chunks_exact(10)) {
        // The recording begins at 1 s. The part to be read begins 50 ms before the talk spurt.
        let from = ((piece[0].heard_ms - 1_000.0) * 8.0) as i64 - 400;
        let Ok(seek) = u32::try_from(from) else { continue };
        reader.seek(seek).unwrap();
        let samples: Vec<i16> = reader.samples::<i16>().take(2 * (1_600 + 800)).map(Result::unwrap).collect();
        let frames = samples.as_chunks::<2>().0;
        score.judge((talk.phone.side, 160), piece, |at, count| {
            let at = usize::try_from(at - from).ok()?;
            frames.get(at..at + count)
        });
    }
    score
}

#[test]
fn segments_of_a_four_hour_call_abut_to_the_sample() {
    let (wire, talks) = wire();
    let packets = wire.sorted();
    let folder = tempfile::tempdir().unwrap();
    let (dir, sample_rate, part_s) = (folder.path().join("parts"), Some(8_000), (PART / 1e3) as u64);
    let config = RecordingConfig { dir, sample_rate, part_hours: 24, ..RecordingConfig::default() };
    // The limit of a segment allows 32,000 bytes a second, and some bytes for the header.
    let recorder = Recorder::new(config.clone(), FolderLayout::Flat, Some(part_s * 32_000 + 16_000));
    assert_eq!(recorder.segment_seconds(), part_s);
    let engine_config = Config { part_s, hold_s: 14_400, ..Config::default() };
    let begin = || {
        let (mut spool, events) = start(&folder.path().join("spool"));
        let mut engine = Engine::new(engine_config.clone(), "made up");
        resume(&mut engine, &mut spool, &NoEarlierCalls).unwrap();
        (engine, spool, events)
    };
    let cut = packets.partition_point(|p| p.at < at_ms(RESTART));
    let (mut parts, mut made_ms) = (Vec::new(), Vec::new());
    for (n, packets) in [&packets[..cut], &packets[cut..]].into_iter().enumerate() {
        let (engine, spool, _events) = begin();
        let mut station = SegmentRecorder { engine, spool, recorder: &recorder, parts, made_ms, ended: None };
        station.hear(packets);
        if n == 0 {
            assert_eq!(station.parts.len(), 2);
        } else {
            station.engine.handle_end_of_capture(&mut station.spool);
            station.take();
        }
        station.spool.flush();
        (parts, made_ms) = (station.parts, station.made_ms);
        if let Some(mut call) = station.ended {
            call.record.recordings.clone_from(&parts);
            let store = station.spool.store();
            let record = recorder.record(&call, &store).unwrap();
            call.record.recordings.clear();
            let dir = folder.path().join("whole");
            let whole = Recorder::new(RecordingConfig { dir, ..config.clone() }, FolderLayout::Flat, None);
            assert_parts(&record, &whole.record(&call, &store).unwrap(), &made_ms, &talks);
        }
        station.spool.shutdown();
    }
}

fn assert_parts(record: &CallRecord, whole: &CallRecord, made_ms: &[f64], talks: &[SpokenSide; 2]) {
    assert_eq!((record.verdict, whole.recordings.len()), (Some(CallVerdict::BothSides), 1));
    let parts = &record.recordings;
    let lengths: Vec<f64> = parts.iter().map(|p| p.ends_at.nanos_since(p.starts_at) as f64 / 1e6).collect();
    // There are four full segments and the rest.
    assert_eq!(lengths, [PART, PART, PART, PART, 4_000.0]);
    assert!(parts.windows(2).all(|pair| pair[0].ends_at == pair[1].starts_at));
    assert_eq!(parts.iter().map(|p| p.part).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    // Each segment is made soon after its end, with two exceptions. The second waits for the end of the hold, and the
    // fourth is made together with the rest.
    let late: Vec<f64> = (1..).zip(made_ms).map(|(n, ms)| (ms - 1_000.0 - PART * f64::from(n)) / MINUTE).collect();
    let soon = 0.5..2.0;
    assert!(
        matches!(late[..], [a, b, c] if soon.contains(&a) && (8.0..9.8).contains(&b) && soon.contains(&c)),
        "{late:?}"
    );
    let (mut one, mut all) = (sound(&whole.recordings), sound(parts));
    let (mut a, mut b) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    for block in 0.. {
        let (one, all) = (fill(&mut one, &mut a), fill(&mut all, &mut b));
        assert!(a[..one] == b[..all], "MiB {block} is not that of one file");
        if one == 0 {
            break;
        }
    }
    for talk in talks {
        let score = judge(Path::new(&whole.recordings[0].path), talk);
        eprintln!("4 h, {:?}: {} pieces, worst {:.2} ms", talk.phone.side, score.offsets.len(), score.worst());
        // Each talk spurt has seven pieces, and there are no talk spurts during the 16 minutes of hold.
        assert!(
            score.offsets.len() as f64 > 7.0 * (4.0 * PART / MINUTE - 16.0) && score.worst() <= 2.0,
            "{:?}: {}",
            talk.phone.side,
            score.worst()
        );
        assert_eq!(score.missing_ms, 0.0);
    }
}

fn fill(from: &mut impl Read, buffer: &mut [u8]) -> usize {
    let mut filled = 0;
    while let Ok(more) = from.read(&mut buffer[filled..])
        && more > 0
    {
        filled += more;
    }
    filled
}
