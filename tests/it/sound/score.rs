//! Compares a recording with the speech that was sent. Each piece of 200 ms is searched around its time.
//!
//! The score has offset and level of the pieces, the missing speech, and the leakage into the other channel.

use crate::support::phones::{MirroredTraffic, RecordedCall, RtpPhone, at_ms, voice};
use callspan::call::record::Side;

/// A packet of a voice: index of its first sample, time at which it is or would be heard, and whether the network lost
/// it.
#[derive(Clone, Copy, Debug)]
pub struct SpokenPacket {
    pub sample: u64,
    pub heard_ms: f64,
    pub lost: bool,
}

/// The speech of one side, packet by packet.
pub struct SpokenSide {
    pub phone: RtpPhone,
    pub said: Vec<SpokenPacket>,
}

/// The effect of the network on one packet.
#[derive(Clone, Copy, Debug, Default)]
pub struct PacketFate {
    pub lost: bool,
    pub late_ms: f64,
    pub twice: bool,
}

impl SpokenSide {
    pub fn new(side: Side) -> Self {
        Self { phone: RtpPhone::new(side), said: Vec::new() }
    }

    pub fn packet(&mut self, wire: &mut MirroredTraffic, heard_ms: f64, fate: PacketFate) {
        self.said.push(SpokenPacket { sample: self.phone.said, heard_ms, lost: fate.lost });
        let before = self.phone.clone();
        if fate.lost {
            self.phone.advance();
        } else {
            self.phone.send(wire, at_ms(heard_ms + fate.late_ms));
        }
        if fate.twice {
            before.clone().send(wire, at_ms(heard_ms + fate.late_ms + 0.3));
        }
    }

    /// Talks through a network. The sender's clock is wrong by `ppm`.
    pub fn run(
        &mut self,
        wire: &mut MirroredTraffic,
        (from, to): (f64, f64),
        ppm: f64,
        mut network: impl FnMut(usize) -> PacketFate,
    ) {
        let step = f64::from(self.phone.ptime_ms) * (1.0 - ppm / 1e6);
        let count = ((to - from) / step + 1e-6) as usize;
        for n in 0..count {
            self.packet(wire, from + step * n as f64, network(n));
        }
    }

    /// Talks for a time in which nothing is captured. So this speech is not expected in the recording.
    pub fn unheard(&mut self, ms: f64) {
        for _ in 0..(ms / f64::from(self.phone.ptime_ms)).round() as u32 {
            self.phone.advance();
        }
    }

    /// Pauses for `ms`. The sender's RTP timestamps continue.
    pub fn rest(&mut self, ms: f64) {
        let ticks = (ms * 8.0).round();
        self.phone.time = self.phone.time.wrapping_add(ticks as u32);
        self.phone.said += ticks as u64;
    }
}

/// The result of a comparison.
#[derive(Debug, Default)]
pub struct SpeechScore {
    /// Offset of each piece, ms; positive if the piece is late.
    pub offsets: Vec<f64>,
    /// Level of each piece without loss, dB; positive if the piece is too loud.
    pub levels: Vec<f64>,
    /// Factor with which each piece is contained in the other channel.
    leaks: Vec<f64>,
    pub missing_ms: f64,
    pub lost_ms: f64,
}

impl SpeechScore {
    pub fn worst(&self) -> f64 {
        self.offsets.iter().fold(0.0, |worst, offset| offset.abs().max(worst))
    }

    pub fn spread(&self) -> f64 {
        let (low, high) = self.offsets.iter().fold((f64::MAX, f64::MIN), |(l, h), o| (l.min(*o), h.max(*o)));
        if self.offsets.is_empty() { 0.0 } else { high - low }
    }

    /// Returns the largest level error of a piece, dB.
    pub fn level_db(&self) -> f64 {
        self.levels.iter().fold(0.0, |worst, level| level.abs().max(worst))
    }

    /// Returns the level of the voice in the other channel relative to its own channel, dB. The other channel has
    /// another voice. By chance a piece of noise is found in it at -32 dB, and on the average of 20 pieces at -45 dB.
    pub fn leakage_db(&self) -> f64 {
        let mean = self.leaks.iter().sum::<f64>() / self.leaks.len().max(1) as f64;
        20.0 * mean.abs().max(1e-6).log10()
    }

    /// Searches the sound of consecutive packets (a piece of 200 ms) in the recording, and adds the result to the
    /// score. `heard` returns samples of both channels from a position of the recording.
    pub fn judge<'a>(
        &mut self,
        (side, length): (Side, usize),
        piece: &[SpokenPacket],
        heard: impl Fn(i64, usize) -> Option<&'a [[i16; 2]]>,
    ) {
        let samples = piece.len() * length;
        let said: Vec<i32> = (0..samples as u64).map(|n| i32::from(voice(side, piece[0].sample + n))).collect();
        let place = ((piece[0].heard_ms - 1_000.0) * 8.0).round() as i64;
        let channel = |channel: usize, from: i64, count: usize| -> Option<Vec<i32>> {
            Some(heard(from, count)?.iter().map(|frame| i32::from(frame[channel])).collect())
        };
        let at = |lag: i64| channel(side.channel(), place + lag, samples);
        let likeness = |lag: i64| at(lag).map_or(0.0, |heard| like(&said, &heard));
        let best =
            |reach: i64| (-reach..=reach).map(|lag| (lag, likeness(lag))).max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
        self.lost_ms += piece.iter().filter(|p| p.lost).count() as f64 * length as f64 / 8.0;
        // Noise is similar only to itself. So a piece that is found near its position is the right one. Only the other
        // pieces are searched further away.
        let (lag, likeness) = Some(best(NEAR)).filter(|(_, likeness)| *likeness > 0.4).unwrap_or_else(|| best(SEARCH));
        if likeness < 0.2 {
            self.missing_ms += samples as f64 / 8.0;
            return;
        }
        self.offsets.push(lag as f64 / 8.0);
        // A sample that is removed or inserted because of clock drift moves the rest of the piece by one sample.
        let there = |from: usize| {
            (-2_i64..=2).any(|slip| {
                channel(side.channel(), place + lag + slip + from as i64, length)
                    .is_some_and(|h| like(&said[from..from + length], &h) > 0.4)
            })
        };
        let missing = (0..samples).step_by(length).filter(|from| !there(*from)).count();
        self.missing_ms += missing as f64 * length as f64 / 8.0;
        if !piece.iter().any(|p| p.lost) {
            let power = |sound: &[i32]| dot(sound, sound).max(1.0);
            self.levels.extend(at(lag).map(|heard| 10.0 * (power(&heard) / power(&said)).log10()));
        }
        let other = channel(side.other().channel(), place + lag, samples);
        self.leaks.extend(other.map(|other| dot(&said, &other) / dot(&said, &said)));
    }
}

/// Compares every `each`th piece of 200 ms of one side.
pub fn score(recorded: &RecordedCall, talk: &SpokenSide, each: usize) -> SpeechScore {
    let length = talk.phone.samples() as usize;
    let packets = 1_600 / length;
    // If the capture began during the call, the recording does not begin with the answer.
    let starts_at = recorded.record.recordings.first().map_or(at_ms(1_000.0), |r| r.starts_at);
    let early = starts_at.nanos_since(at_ms(1_000.0)) * 8 / 1_000_000;
    let mut score = SpeechScore::default();
    for piece in talk.said.chunks(packets).step_by(each) {
        // If there is a pause within a piece, its two parts can have different offsets.
        let together = piece.windows(2).all(|pair| {
            let heard_ms = pair[1].heard_ms - pair[0].heard_ms;
            pair[1].sample == pair[0].sample + length as u64 && heard_ms < 1.5 * length as f64 / 8.0
        });
        if piece.len() == packets && together {
            score.judge((talk.phone.side, length), piece, |from, count| {
                usize::try_from(from - early).ok().and_then(|from| recorded.frames.get(from..from + count))
            });
        }
    }
    score
}

/// Returns the normalised correlation of two sounds.
fn like(a: &[i32], b: &[i32]) -> f64 {
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(1.0)
}

fn dot(a: &[i32], b: &[i32]) -> f64 {
    a.iter().zip(b).map(|(x, y)| i64::from(x * y)).sum::<i64>() as f64
}

/// Distance from its position within which a piece is searched first, samples: 2 ms.
const NEAR: i64 = 16;
/// Maximum distance from its position at which a piece is searched, samples: 30 ms.
const SEARCH: i64 = 240;
