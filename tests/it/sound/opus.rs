//! Tests of Opus with every packet length, mono and stereo. The recording may be late only by the codec's delay.

use std::f64::consts::{PI, TAU};

use callspan::call::record::{CallVerdict, Side};
use opus::{Application, Bitrate, Channels, Encoder};

use crate::sound::score::{PacketFate, SpokenSide};
use crate::support::phones::{MirroredTraffic, RtpPacket, at_ms, describe, record};

const RATE: f64 = 48_000.0;
/// Delay of encoder and decoder, ms. The encoder looks ahead by 6.5 ms, and a decoder to 16 kHz adds no delay (RFC 6716
/// section 4.2.9, 4.5).
const DELAY_MS: f64 = 6.5;

/// Returns a voice at 48 kHz. It consists of three tones that change every 40 ms, with soft edges, because Opus keeps
/// the waveform of tones but not of noise.
fn tones(slots: usize) -> Vec<f64> {
    let mut random = fastrand::Rng::with_seed(5);
    let mut out = Vec::new();
    for _ in 0..slots {
        let tones: [_; 3] = std::array::from_fn(|_| (300.0 + random.f64() * 2_700.0, random.f64() * TAU));
        out.extend((0..1_920).map(f64::from).map(|n| {
            let edge = (n / 1_920.0 * PI).sin();
            edge * tones.iter().map(|(hz, phase)| (n * hz / RATE * TAU + phase).sin()).sum::<f64>() * 5_000.0
        }));
    }
    out
}

/// Returns the similarity of 200 ms of the recording, from sample `place` on, to the sound that was sent. Both have 16
/// kHz.
fn likeness(frames: &[[i16; 2]], place: i64, sent: &[f64]) -> f64 {
    let (mut dot, mut own, mut other) = (0.0, 1.0, 1.0);
    for n in 0..3_200 {
        let a = sent[3 * n as usize];
        let b = usize::try_from(place + n).ok().and_then(|at| frames.get(at)).map_or(0.0, |frame| f64::from(frame[0]));
        (dot, own, other) = (dot + a * b, own + a * a, other + b * b);
    }
    dot / (own * other).sqrt()
}

#[test]
fn opus_packets_of_2_5_to_120_ms_keep_their_place() {
    let tones = tones(150);
    let both = [(Channels::Mono, 1), (Channels::Stereo, 2)];
    for (frame_us, (channels, count)) in [2_500_u32, 5_000, 10_000, 20_000, 40_000, 60_000, 80_000, 100_000, 120_000]
        .into_iter()
        .flat_map(|f| both.map(|b| (f, b)))
    {
        let name = format!("{} ms, {count} channels", f64::from(frame_us) / 1e3);
        let sdp = |side| describe(side, "RTP/AVP 111 0\r\na=rtpmap:111 opus/48000/2\r\na=fmtp:111 stereo=1");
        let mut wire = MirroredTraffic::default();
        wire.offer(0.0, &sdp(Side::Caller));
        wire.accept(1_000.0, &sdp(Side::Callee));
        let mut encoder = Encoder::new(48_000, channels, Application::Audio).unwrap();
        encoder.set_bitrate(Bitrate::Bits(96_000)).unwrap();
        let samples = frame_us as usize * 48 / 1_000;
        let packets = 6_000_000 / u64::from(frame_us);
        for (n, sent) in (0..packets).zip(tones.chunks(samples)) {
            // The right channel is half as loud as the left. So the mean of both has three quarters of the level.
            let both = |tone: &f64| [*tone as i16, (tone / 2.0) as i16].into_iter().take(count);
            let pcm: Vec<i16> = sent.iter().flat_map(both).collect();
            let payload = encoder.encode_vec(&pcm, 4_000).unwrap();
            let time = 5_000_u32.wrapping_sub(48_000).wrapping_add(n as u32 * samples as u32);
            let rtp = RtpPacket { pt: 111, sequence: (65_000 + n) as u16, time, ssrc: 9, payload: &payload };
            wire.rtp(at_ms(1_020.0 + (n * u64::from(frame_us)) as f64 / 1e3), Side::Caller, rtp);
        }
        let mut other = SpokenSide::new(Side::Callee);
        other.run(&mut wire, (1_020.0, 7_000.0), 0.0, |_| PacketFate::default());
        wire.bye(7_100.0);
        let recorded = record(wire);
        let (record, frames) = (&recorded.record, &recorded.frames);
        assert_eq!(
            (record.verdict, record.recordings[0].sample_rate),
            (Some(CallVerdict::BothSides), 16_000),
            "{name}"
        );
        let side = &record.sides.caller;
        assert_eq!((side.packets, side.lost, side.concealed_ms), (packets, 0, Some(0)), "{name}");
        assert_eq!(side.streams[0].ptime_ms, Some(f64::from(frame_us) / 1e3), "{name}");
        // The pieces have 200 ms each. The first is left out, because the encoder adapts in it.
        for piece in 1..29 {
            let place = 20 * 16 + piece * 3_200 + (DELAY_MS * 16.0) as i64;
            let at = |lag: i64| likeness(frames, place + lag, &tones[piece as usize * 9_600..]);
            let (lag, like) = (-40..=40).map(|lag| (lag, at(lag))).max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
            assert!(lag.abs() <= 32 && like > 0.9, "{name}, piece {piece}: {lag} samples off, likeness {like:.2}");
        }
        let heard: f64 = frames[4 * 3_200..5 * 3_200].iter().map(|frame| f64::from(frame[0]).powi(2)).sum();
        let sent: f64 = tones[4 * 9_600..5 * 9_600].iter().step_by(3).map(|tone| tone.powi(2)).sum();
        let db = 10.0 * (heard / sent).log10();
        let expected = if count == 2 { -2.5 } else { 0.0 };
        assert!((db - expected).abs() < 1.0, "{name}: {db:.1} dB");
    }
}
