//! Tests of long calls between telephones with clock drift. Packets are made, spooled and compared piece by piece,
//! because a call of hours does not fit into memory.

use std::collections::VecDeque;

use callspan::call::config::Config;
use callspan::call::record::Side;
use callspan::render::{RenderOptions, RenderReport, plan, render};
use callspan::spool::LegStore;
use callspan::spool::memory::MemorySpool;

use crate::sound::score::{SpeechScore, SpokenPacket};
use crate::support::phones::{EngineWithSpool, MirroredTraffic, RtpPacket, RtpPhone, at_ms, ended, feed};

/// One side of the call: its clock, its next packet, and the pieces of speech that will be searched in the recording.
struct DriftingSender {
    phone: RtpPhone,
    ppm: f64,
    packets: u64,
    pieces: VecDeque<Vec<SpokenPacket>>,
    score: SpeechScore,
}

/// Number of packets in a talk spurt. Each second a telephone with voice detection talks for 200 ms; its RTP timestamps
/// continue in between.
const SPURT: u64 = 10;
/// Of this number of talk spurts, only one is searched in the recording. The other talk spurts repeat one byte.
const EACH: u64 = 24;

impl DriftingSender {
    fn new(side: Side, ppm: f64) -> Self {
        Self { phone: RtpPhone::new(side), ppm, packets: 0, pieces: VecDeque::new(), score: SpeechScore::default() }
    }

    /// Returns the time at which the next packet is captured, ms.
    fn next_ms(&self) -> f64 {
        1_020.0 + self.phone.said as f64 / 8.0 * (1.0 - self.ppm / 1e6)
    }

    fn send(&mut self, wire: &mut MirroredTraffic) {
        let (spurt, within) = (self.packets / SPURT, self.packets % SPURT);
        let looked_for = spurt.is_multiple_of(EACH);
        let payload = if looked_for { self.phone.payload() } else { vec![0x90; 160] };
        let RtpPhone { side, pt, sequence, time, ssrc, said, .. } = self.phone;
        let heard_ms = self.next_ms();
        wire.rtp(at_ms(heard_ms), side, RtpPacket { pt, sequence, time, ssrc, payload: &payload });
        if looked_for {
            if within == 0 {
                self.pieces.push_back(Vec::new());
            }
            let piece = self.pieces.back_mut().expect("begun with the spurt");
            piece.push(SpokenPacket { sample: said, heard_ms, lost: false });
        }
        self.phone.advance();
        self.packets += 1;
        if self.packets.is_multiple_of(SPURT) {
            self.phone.time = self.phone.time.wrapping_add(6_400);
            self.phone.said += 6_400;
        }
    }
}

/// The most recent seconds of the rendered sound.
#[derive(Default)]
struct RecordingTail {
    frames: Vec<[i16; 2]>,
    /// Index in the recording of the first stored sample.
    from: i64,
}

impl RecordingTail {
    fn listen(&mut self, frames: &[[i16; 2]], senders: &mut [DriftingSender; 2]) {
        self.frames.extend_from_slice(frames);
        let end = self.from + self.frames.len() as i64;
        for sender in senders {
            // A piece is searched when the sound around it was rendered, too.
            while let Some(piece) =
                sender.pieces.pop_front_if(|piece| ((piece[0].heard_ms - 1_000.0) * 8.0) as i64 + 1_600 + 1_600 < end)
            {
                let heard = |from: i64, count: usize| {
                    let from = usize::try_from(from - self.from).ok()?;
                    self.frames.get(from..from + count)
                };
                sender.score.judge((sender.phone.side, 160), &piece, heard);
            }
        }
        let old = self.frames.len().saturating_sub(KEPT);
        self.frames.drain(..old);
        self.from += old as i64;
    }
}

/// Maximum number of stored samples for each channel: 4 s.
const KEPT: usize = 32_000;

/// Makes a call of some hours. The clocks of both sides are wrong by `ppm`. Returns the report of rendering, and both
/// senders.
fn long_call(hours: f64, ppm: [f64; 2]) -> (RenderReport, [DriftingSender; 2]) {
    let mut senders = [DriftingSender::new(Side::Caller, ppm[0]), DriftingSender::new(Side::Callee, ppm[1])];
    let folder = tempfile::tempdir().unwrap();
    // The spool of a long call is written to a file.
    let mut stage = EngineWithSpool {
        spool: MemorySpool::new(32, folder.path().to_owned()),
        ..EngineWithSpool::new(Config::default())
    };
    stage.play(&MirroredTraffic::answered().sorted());
    let end_ms = 1_000.0 + hours * 3_600_000.0;
    loop {
        let first = if senders[0].next_ms() <= senders[1].next_ms() { 0 } else { 1 };
        if senders[first].next_ms() >= end_ms - 1_000.0 {
            break;
        }
        let mut wire = MirroredTraffic::default();
        senders[first].send(&mut wire);
        feed(&mut stage.engine, &wire.packets, &mut stage.spool);
    }
    let mut wire = MirroredTraffic::default();
    wire.bye(end_ms);
    stage.play(&wire.packets);
    stage.engine.handle_end_of_capture(&mut stage.spool);
    stage.ended.extend(ended(&mut stage.engine));
    let source = stage.spool.source(&stage.ended[0].legs[0]).unwrap();
    let plan = plan(&source, &RenderOptions::default()).unwrap();
    let mut ear = RecordingTail::default();
    let report = render(&plan, &source, &mut |frames| {
        ear.listen(frames, &mut senders);
        Ok(())
    });
    (report.unwrap(), senders)
}

fn assert_in_step(name: &str, hours: f64, ppm: [f64; 2], bound_ms: f64) {
    let (report, senders) = long_call(hours, ppm);
    assert_eq!(report.samples, (hours * 3_600.0 * 8_000.0) as u64);
    for (sender, side) in senders.iter().zip(&report.sides) {
        let score = &sender.score;
        eprintln!(
            "{name}, {:?}: {} pieces, offset {:.2} ms, spread {:.2} ms, missing {} ms, level {:.3} dB, leakage {:.0} dB, {:?} ppm",
            sender.phone.side,
            score.offsets.len(),
            score.worst(),
            score.spread(),
            score.missing_ms,
            score.level_db(),
            score.leakage_db(),
            side.clock_drift_ppm
        );
        assert!(score.offsets.len() as f64 >= hours * 3_600.0 / EACH as f64 - 2.0, "{name}: enough was looked at");
        assert!(score.worst() <= bound_ms && score.spread() <= bound_ms, "{name}: {:?}", score.offsets);
        assert_eq!((score.missing_ms, side.decoded, side.concealed_us), (0.0, sender.packets, 0), "{name}");
        assert!(score.level_db() <= 0.1 && score.leakage_db() <= -30.0, "{name}");
        assert!(side.clock_drift_ppm.is_some_and(|drift| (drift - sender.ppm).abs() < 1.0), "{name}");
    }
}

#[test]
fn clock_drift_of_150_ppm_stays_aligned_for_an_hour() {
    assert_in_step("150 ppm for an hour", 1.0, [150.0, -150.0], BOUND_MS);
}

#[test]
fn clock_drift_of_500_ppm_stays_aligned_for_4_hours() {
    assert_in_step("500 ppm for 4 hours", 4.0, [500.0, -500.0], BOUND_MS);
}

/// Maximum error of the time of a piece of speech, ms. Rendering searches the smallest lag within 2 s before and after
/// a packet, and averages it over the same time. At 500 ppm the lag changes by 1 ms in 2 s. At the beginning of the
/// call, where no earlier packets exist, the error is another 1 ms.
const BOUND_MS: f64 = 3.0;
