//! Tests of a side that changes between G.722 and G.711, each time with another packet time. G.722 has 16 kHz with an
//! RTP clock of 8000 Hz (RFC 3551 section 4.5.2). The file must have 16 kHz, both sides must be aligned, and each
//! packet must be at its position.

use callspan::call::decision::PayloadFormat;
use callspan::call::record::{CallVerdict, Side};
use callspan::render::codec::{SpeechDecoder, decoder_for};

use crate::support::phones::{MirroredTraffic, RecordedCall, RtpPacket, RtpPhone, at_ms, describe, record};

/// A sent packet: its time, and its sound at 16 kHz (G.722) or 8 kHz.
struct SentSpeech {
    ms: f64,
    pcm: Vec<i16>,
    rate_hz: usize,
}

/// A telephone that speaks G.722 and G.711.
struct MixedCodecPhone {
    phone: RtpPhone,
    /// The G.722 decoder of the listener. It keeps its state while G.711 is used.
    listener: Box<dyn SpeechDecoder>,
    random: fastrand::Rng,
    /// Number of RTP clock ticks in a millisecond.
    ticks: u32,
    spoken: Vec<SentSpeech>,
}

impl MixedCodecPhone {
    fn new(side: Side) -> Self {
        let format = PayloadFormat { encoding: "G722".into(), clock_hz: 8_000, channels: 1, fmtp: String::new() };
        let random = fastrand::Rng::with_seed(side.channel() as u64 + 7);
        Self {
            phone: RtpPhone::new(side),
            listener: decoder_for(&format).unwrap(),
            random,
            ticks: 8,
            spoken: Vec::new(),
        }
    }

    /// Talks from one time to another. Each packet is late by a random time up to `jitter_ms`.
    fn speak(&mut self, wire: &mut MirroredTraffic, (pt, ptime_ms): (u8, u32), (from, to): (f64, f64), jitter_ms: f64) {
        (self.phone.pt, self.phone.ptime_ms) = (pt, ptime_ms);
        for n in 0..((to - from) / f64::from(ptime_ms)) as u32 {
            let ms = from + f64::from(n * ptime_ms);
            let time = self.phone.time.wrapping_add(ptime_ms * self.ticks);
            let late = if n % 5 == 0 { 0.0 } else { self.random.f64() * jitter_ms };
            if pt == 9 {
                // One byte stands for 125 us. The steps of the lower band are small, so that the sound does not
                // overflow.
                let step = |random: &mut fastrand::Rng| random.u8(..) & 0xCF | (random.u8(..) & 0x10);
                let payload: Vec<u8> = (0..8 * ptime_ms).map(|_| step(&mut self.random)).collect();
                let phone = &self.phone;
                let rtp =
                    RtpPacket { pt, sequence: phone.sequence, time: phone.time, ssrc: phone.ssrc, payload: &payload };
                wire.rtp(at_ms(ms + late), phone.side, rtp);
                let mut pcm = Vec::new();
                self.listener.decode(&payload, &mut pcm).unwrap();
                self.spoken.push(SentSpeech { ms, pcm, rate_hz: 16_000 });
                self.phone.advance();
            } else {
                let samples = self.phone.said..self.phone.said + u64::from(self.phone.samples());
                let pcm = samples.map(|n| crate::support::phones::voice(self.phone.side, n)).collect();
                self.spoken.push(SentSpeech { ms, pcm, rate_hz: 8_000 });
                self.phone.send(wire, at_ms(ms + late));
            }
            self.phone.time = time;
        }
    }
}

/// Returns the position at which a packet's sound is found in the recording, in samples of 16 kHz, and the similarity
/// there. It is searched near its expected position.
fn found(recorded: &RecordedCall, side: Side, spoken: &SentSpeech) -> (i64, f64) {
    let step = 16_000 / spoken.rate_hz;
    let place = ((spoken.ms - 1_000.0) * 16.0).round() as i64;
    let likeness = |lag: i64| {
        let at = |n: usize| recorded.frames.get((place + lag) as usize + n * step).map_or(0, |f| f[side.channel()]);
        let (mut dot, mut own, mut other) = (0.0, 1.0, 1.0);
        for (n, sample) in spoken.pcm.iter().enumerate() {
            let (a, b) = (f64::from(*sample), f64::from(at(n)));
            (dot, own, other) = (dot + a * b, own + a * a, other + b * b);
        }
        dot / (own * other).sqrt()
    };
    (-64..=64).map(|lag| (lag, likeness(lag))).max_by(|a, b| a.1.total_cmp(&b.1)).unwrap()
}

fn assert_in_place(name: &str, recorded: &RecordedCall, speakers: &[MixedCodecPhone; 2]) {
    let file = &recorded.record.recordings[0];
    assert_eq!((recorded.record.verdict, file.sample_rate), (Some(CallVerdict::BothSides), 16_000), "{name}");
    for speaker in speakers {
        let mut worst = (0, 1.0);
        for spoken in &speaker.spoken {
            let (lag, like) = found(recorded, speaker.phone.side, spoken);
            // The limit is 2 ms. Half of the energy of white noise lies where the resampler's filter removes it; the
            // rest must be similar.
            let of = (speaker.phone.side, spoken.ms, spoken.rate_hz);
            assert!(lag.abs() <= 32 && like > 0.7, "{name}, {of:?}: {lag} samples off, likeness {like:.2}");
            worst = (lag.abs().max(worst.0), f64::min(like, worst.1));
        }
        eprintln!(
            "{name}, {:?}: at most {} samples off, likeness at least {:.2}",
            speaker.phone.side, worst.0, worst.1
        );
        let side = recorded.record.sides.get(speaker.phone.side);
        assert_eq!((side.lost, side.concealed_ms, side.late), (0, Some(0), Some(0)), "{name}");
    }
}

fn g722_and_g711(side: Side, first: u8) -> String {
    describe(
        side,
        &format!("RTP/AVP {first} 9 0 8\r\na=rtpmap:9 G722/8000\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000"),
    )
}

/// The caller's payload types and packet times in ms. Each is used for four seconds.
const TURNS: [(u8, u32); 6] = [(9, 20), (0, 40), (9, 10), (8, 20), (9, 40), (0, 10)];

#[test]
fn changes_between_g722_and_g711_stay_aligned() {
    for (jitter_ms, asked) in [(0.0, false), (0.0, true), (15.0, false)] {
        let mut wire = MirroredTraffic::default();
        wire.offer(0.0, &g722_and_g711(Side::Caller, 9));
        wire.accept(1_000.0, &g722_and_g711(Side::Callee, 9));
        let mut speakers = [MixedCodecPhone::new(Side::Caller), MixedCodecPhone::new(Side::Callee)];
        for (n, turn) in (0..).zip(TURNS) {
            let span = (1_020.0 + 4_000.0 * f64::from(n), 5_020.0 + 4_000.0 * f64::from(n));
            speakers[0].speak(&mut wire, turn, span, jitter_ms);
            if asked && n > 0 {
                // A re-INVITE names the next codec first, in offer and answer.
                wire.offer(span.0 - 60.0, &g722_and_g711(Side::Caller, turn.0));
                wire.accept(span.0 - 40.0, &g722_and_g711(Side::Callee, turn.0));
            }
        }
        speakers[1].speak(&mut wire, (8, 20), (1_040.0, 25_040.0), jitter_ms);
        wire.bye(25_060.0);
        assert_in_place(&format!("jitter {jitter_ms} ms, asked: {asked}"), &record(wire), &speakers);
    }
}

#[test]
fn g722_and_g711_with_wrong_clocks_keep_their_place() {
    // For G.722, session description and timestamps should have 8000 Hz (RFC 3551 section 4.5.2). Some senders use
    // 16000 Hz in the session description, in the timestamps, or in both.
    for (announced, ticks) in [(8_000, 16), (16_000, 16), (16_000, 8), (8_000, 8)] {
        let sdp = |side| {
            let lines = format!("RTP/AVP 9 8\r\na=rtpmap:9 G722/{announced}\r\na=rtpmap:8 PCMA/8000");
            describe(side, &lines)
        };
        let mut wire = MirroredTraffic::default();
        wire.offer(0.0, &sdp(Side::Caller));
        wire.accept(1_000.0, &sdp(Side::Callee));
        let mut speakers = [MixedCodecPhone::new(Side::Caller), MixedCodecPhone::new(Side::Callee)];
        (speakers[0].ticks, speakers[1].ticks) = (ticks, 1);
        speakers[0].speak(&mut wire, (9, 20), (1_020.0, 13_020.0), 10.0);
        speakers[1].speak(&mut wire, (8, 30), (1_033.0, 13_033.0), 10.0);
        wire.bye(13_100.0);
        assert_in_place(&format!("announced {announced}, {ticks} a ms"), &record(wire), &speakers);
    }
}
