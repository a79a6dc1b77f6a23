//! Mixes the streams of both sides in a window of some seconds over the two channels of the recording.
//!
//! Sound may be written in any order within the window. If two streams of one side sound at the same time, the later
//! stream wins, sample by sample. So a new SSRC replaces the old one, and the recording does not become longer. A stream
//! from an address that its sender no longer announces loses, e.g. the other branch of a fork. Neither digital silence
//! nor comfort noise replaces the sound of another stream that continues.
//!
//! Each audio m-line of a side has a window of its own, so its streams replace only each other. The channel is the sum
//! of all windows.

use std::io;
use std::ops::Range;

use super::answer_tone::AnswerToneSearch;
use super::channel_window::ChannelWindow;
use super::report::SideReport;
use super::sample_index::SampleIndex;

/// Receives the finished samples in order. Each element has the sample of the leg's caller (left) and of the callee
/// (right).
pub(crate) type SampleSink<'a> = dyn FnMut(&[[i16; 2]]) -> io::Result<()> + 'a;

/// The window over both channels: sound that was written but not output yet.
#[derive(Clone, Debug)]
pub(super) struct MixBuffer {
    rate_hz: u32,
    /// Position in the recording of the first sample in the window, i.e. of the first sample that was not output yet.
    base: SampleIndex,
    /// Position after the last sample of the whole recording.
    total: SampleIndex,
    channels: [ChannelWindow; 2],
    /// Samples of the second and further audio m-lines that were not output yet, for each channel.
    further: [[ChannelWindow; FURTHER_LINES]; 2],
    /// Ranges that are output as silence, e.g. while the recording was paused.
    muted: Vec<Range<SampleIndex>>,
    frames: Vec<[i16; 2]>,
    meters: [LevelMeter; 2],
}

/// Where in the mix buffer a stream writes.
#[derive(Clone, Copy, Debug)]
pub(super) struct MixTarget {
    /// Index of the channel: 0 is left, 1 is right.
    pub(super) channel: usize,
    pub(super) layer: MixLayer,
    /// Number of the stream, counted from 1 in the order in which the streams began. Of two streams with the same
    /// precedence, the later stream is heard.
    pub(super) number: u16,
    pub(super) precedence: SoundPrecedence,
}

impl MixTarget {
    /// Returns the rank of the sound, by which streams of one m-line replace each other. It is never 0. If two of them
    /// sound at the same time, the higher rank is heard.
    pub(super) const fn rank(self) -> u16 {
        let number = if self.number < MAX_NUMBER { self.number } else { MAX_NUMBER };
        (self.precedence as u16) * (MAX_NUMBER + 1) + number
    }
}

/// Returns the number of the stream whose sound has this rank; 0 for rank 0.
pub(super) const fn number_of(rank: u16) -> u16 {
    rank % (MAX_NUMBER + 1)
}

/// Precedence of sound. Of two streams of an m-line that sound at the same time, the higher precedence is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum SoundPrecedence {
    /// The sender is silent, and its decoder makes comfort noise. Or the stream is superseded, and had nothing but quiet
    /// noise so far.
    Comfort,
    /// The sender has announced another address than the source of the stream since.
    Superseded,
    /// The stream had nothing but quiet noise so far.
    QuietNoise,
    Current,
}

/// The audio m-line of a side to which sound belongs. If a side has several m-lines, their sound is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MixLayer {
    /// The sound of the first or only m-line.
    First,
    /// The sound of a further m-line, which is added to the sound of the m-lines before it.
    Further {
        /// Number of the audio m-line: 1 is the second m-line of the side. All m-lines after [`FURTHER_LINES`] share
        /// one window.
        line: u8,
    },
}

impl MixBuffer {
    /// Returns an empty buffer for a recording of `total` samples per channel.
    pub(super) fn new(rate_hz: u32, total: u64, muted: Vec<Range<SampleIndex>>) -> Self {
        Self {
            rate_hz,
            base: SampleIndex::default(),
            total: SampleIndex(i64::try_from(total).unwrap_or(i64::MAX)),
            channels: [ChannelWindow::default(), ChannelWindow::default()],
            further: Default::default(),
            muted,
            frames: Vec::new(),
            meters: [LevelMeter::new(rate_hz), LevelMeter::new(rate_hz)],
        }
    }

    /// Writes samples at a position. Drops samples outside the recording, and samples that were output already. Returns
    /// how many samples lie inside the recording.
    pub(super) fn write(&mut self, target: MixTarget, at: SampleIndex, samples: &[i16]) -> usize {
        let MixTarget { channel, layer, .. } = target;
        let rank = target.rank();
        let (SampleIndex(at), SampleIndex(end)) = (at, at.after(samples.len()));
        let (SampleIndex(base), SampleIndex(total)) = (self.base, self.total);
        let inside = end.min(total).saturating_sub(at.max(0)).max(0) as usize;
        let longest = i64::from(self.rate_hz) * MAX_WINDOW_S;
        let from = at.max(base);
        let to = end.min(total).min(base + longest);
        if from >= to {
            return inside;
        }
        let (first, last) = ((from - base) as usize, (to - base) as usize);
        let channel = match layer {
            MixLayer::First => &mut self.channels[channel],
            MixLayer::Further { line } => &mut self.further[channel][usize::from(line).clamp(1, FURTHER_LINES) - 1],
        };
        let samples = &samples[(from - at) as usize..(to - at) as usize];
        if channel.append_alone(first, target, samples) {
            return inside;
        }
        let (window, ranks) = channel.grow_with_ranks(last);
        let (window, ranks) = (&mut window[first..], &mut ranks[first..]);
        if ranks.iter().all(|&owner| owner == 0 || owner == rank) {
            window.copy_from_slice(samples);
            ranks.fill(rank);
        } else if is_digital_silence(samples) {
            let is_newest = ranks.iter().all(|&owner| owner <= rank);
            let window = window.iter_mut().zip(ranks);
            for ((slot, owner), &sample) in window.zip(samples).filter(|((_, owner), _)| **owner == 0) {
                (*slot, *owner) = (sample, rank);
            }
            if is_newest {
                channel.withhold(SampleIndex(from), rank, samples);
            }
        } else if ranks.iter().all(|&owner| owner <= rank) {
            window.copy_from_slice(samples);
            ranks.fill(rank);
        } else if is_digital_silence(window) {
            let silence = window.to_vec();
            let newest = ranks.iter().copied().max().unwrap_or(rank);
            window.copy_from_slice(samples);
            ranks.fill(rank);
            channel.withhold(SampleIndex(from), newest, &silence);
        } else {
            let window = window.iter_mut().zip(ranks);
            for ((slot, owner), &sample) in window.zip(samples).filter(|((_, owner), _)| **owner <= rank) {
                *slot = sample;
                *owner = rank;
            }
        }
        inside
    }

    /// Outputs all samples before a position.
    ///
    /// # Errors
    /// Fails if `out` fails.
    pub(super) fn flush_until(&mut self, position: SampleIndex, out: &mut SampleSink<'_>) -> io::Result<()> {
        let position = position.min(self.total);
        let talks_on = (self.rate_hz / TALKS_ON_PARTS) as usize;
        for channel in self.channels.iter_mut().chain(self.further.as_flattened_mut()) {
            channel.settle_silence(self.base, position, talks_on);
        }
        while self.base < position {
            let base = self.base.0;
            let count = (position.0 - base).min(i64::from(self.rate_hz)) as usize;
            let windows = self.channels.iter_mut().zip(&mut self.further);
            for ((channel_window, further), meter) in windows.zip(&mut self.meters) {
                let samples = channel_window.grow_to(count);
                further.iter_mut().for_each(|window| window.move_front_into(samples));
                for muted in &self.muted {
                    let from = (muted.start.0 - base).clamp(0, count as i64) as usize;
                    let to = (muted.end.0 - base).clamp(0, count as i64) as usize;
                    if from < to {
                        samples[from..to].fill(0);
                    }
                }
                meter.add(samples);
            }
            let [left, right] = &mut self.channels;
            let (left_samples, right_samples) = (left.grow_to(count), right.grow_to(count));
            self.frames.resize(count, [0; 2]);
            for ((frame, &left), &right) in self.frames.iter_mut().zip(&*left_samples).zip(&*right_samples) {
                *frame = [left, right];
            }
            left.remove_front(count);
            right.remove_front(count);
            out(&self.frames)?;
            self.base = self.base.after(count);
        }
        Ok(())
    }

    /// Returns the position after the last sample of the whole recording.
    pub(super) fn total(&self) -> SampleIndex {
        self.total
    }

    /// Writes the peak, the clipping and the talk time of a channel into the report of its side.
    pub(super) fn fill_report(&self, channel: usize, report: &mut SideReport) {
        self.meters[channel].fill_report(report);
    }
}

/// Returns whether the samples are digital silence, i.e. neither sound nor noise.
pub(super) fn is_digital_silence(samples: &[i16]) -> bool {
    samples.iter().all(|sample| sample.unsigned_abs() <= DIGITAL_SILENCE)
}

/// Returns the largest magnitude of the samples.
pub(super) fn peak_of(samples: &[i16]) -> u16 {
    // Every processor has an instruction for the minimum and the maximum of 16-bit numbers, but not for their
    // magnitude. So the loop searches minimum and maximum.
    let (low, high) = samples.iter().fold((0, 0), |(low, high), &sample| (sample.min(low), sample.max(high)));
    high.unsigned_abs().max(low.unsigned_abs())
}

/// Returns the sum of the squares of the samples.
fn energy_of(samples: &[i16]) -> u64 {
    let square = |sample: i16| (i32::from(sample) * i32::from(sample)).cast_unsigned();
    let (pairs, rest) = samples.as_chunks();
    // The sum of two squares fits into 32 bits. Samples are taken in pairs, because processors sum two squares in one
    // instruction.
    let of_pairs = pairs.iter().map(|&[a, b]| u64::from(square(a) + square(b))).sum::<u64>();
    of_pairs + rest.iter().map(|&sample| u64::from(square(sample))).sum::<u64>()
}

/// Measures the loudness of one channel while its samples are output.
#[derive(Clone, Debug)]
struct LevelMeter {
    rate_hz: u32,
    peak: u32,
    clipped: u64,
    samples: u64,
    /// Sum of the squared samples so far in the current piece of 20 ms. The field `count` is the number of these
    /// samples.
    energy: u64,
    count: u32,
    talk_energy: u64,
    talk_samples: u64,
    answer_tone: AnswerToneSearch,
}

impl LevelMeter {
    fn new(rate_hz: u32) -> Self {
        Self {
            rate_hz,
            peak: 0,
            clipped: 0,
            samples: 0,
            energy: 0,
            count: 0,
            talk_energy: 0,
            talk_samples: 0,
            answer_tone: AnswerToneSearch::default(),
        }
    }

    /// Adds samples to the measurement. The loop has no branch, so that the compiler vectorizes it: every sample of a
    /// recording passes through it.
    fn add(&mut self, mut samples: &[i16]) {
        let piece = (self.rate_hz / 50).max(1);
        while !samples.is_empty() {
            let room = (piece - self.count) as usize;
            let (now, later) = samples.split_at(room.min(samples.len()));
            samples = later;
            let peak = peak_of(now).into();
            self.peak = self.peak.max(peak);
            if peak >= FULL_SCALE {
                self.clipped += now.iter().filter(|s| u32::from(s.unsigned_abs()) >= FULL_SCALE).count() as u64;
            }
            self.energy += energy_of(now);
            self.samples += now.len() as u64;
            self.count += now.len() as u32;
            if self.count == piece {
                if self.energy > TALK_POWER * u64::from(piece) {
                    self.talk_energy += self.energy;
                    self.talk_samples += u64::from(piece);
                    // The answering tone is searched for only in pieces (20 ms) with all samples in one slice of
                    // memory. Usually all pieces are such pieces. A skipped piece does not end a tone.
                    if now.len() == piece as usize {
                        self.answer_tone.handle_piece(now, self.rate_hz, peak, self.energy);
                    }
                }
                (self.energy, self.count) = (0, 0);
            }
        }
    }

    fn fill_report(&self, report: &mut SideReport) {
        report.peak = self.peak;
        report.clipped = self.clipped;
        report.answer_tone = self.answer_tone.is_found();
        let rate = f64::from(self.rate_hz.max(1));
        report.talk_s = self.talk_samples as f64 / rate;
        report.silence_s = (self.samples - self.talk_samples) as f64 / rate;
        if self.talk_samples > 0 {
            report.talk_rms = (self.talk_energy as f64 / self.talk_samples as f64).sqrt();
        }
    }
}

/// Minimum magnitude of a sample that counts as clipped: the largest value of mu-law (G.711 table 2a). Sound that was
/// clipped before encoding reaches it; with A-law it reaches 32256.
const FULL_SCALE: u32 = 32_124;
/// Minimum mean square of a piece of sound (20 ms) that counts as talk: 184 squared, -45 dBov. Background noise is
/// below it, quiet speech above it.
const TALK_POWER: u64 = 184 * 184;
/// Largest magnitude of digital silence: the smallest magnitude of A-law (G.711 table 1a). Mu-law and linear formats
/// have 0.
const DIGITAL_SILENCE: u16 = 8;
/// Divisor of the sampling rate that gives the longest pause within speech, in samples: a tenth of a second. After a
/// longer pause, the stream counts as silent.
const TALKS_ON_PARTS: u32 = 10;
/// Maximum number of further audio m-lines of a side that are mixed separately. A conference bridge offers three or
/// four.
const FURTHER_LINES: usize = 3;
/// Maximum number of a stream within its precedence. A leg has at most 4,096 streams.
const MAX_NUMBER: u16 = (1 << 14) - 1;
/// Maximum length of the mix buffer's window, seconds. No network delay explains sound that lies further ahead.
const MAX_WINDOW_S: i64 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const RATE_HZ: u32 = 8_000;
    const SECONDS: u64 = 40;

    /// One operation of a random test: a write of a stream, or a flush up to a position.
    #[derive(Debug)]
    enum Step {
        Write(MixTarget, SampleIndex, Vec<i16>),
        Flush(SampleIndex),
    }

    /// Returns random writes of up to three streams of a channel: mostly packet directly after packet, with gaps,
    /// overlaps and disorder. The precedence of a stream changes.
    fn steps(seed: u64) -> Vec<Step> {
        let mut rng = fastrand::Rng::with_seed(seed);
        let streams = rng.usize(1..4);
        let mut at = [0_i64; 3];
        let mut steps = Vec::new();
        let mut now = 0;
        while now < SECONDS as i64 * i64::from(RATE_HZ) {
            now += 160;
            for (stream, at) in at.iter_mut().enumerate().take(streams) {
                // Each stream pauses in turn for some seconds, so that only the other streams write to the window.
                if (now / 40_000 + stream as i64) % 3 == 1 && streams > 1 {
                    continue;
                }
                *at = match rng.u32(0..40) {
                    0 => now + rng.i64(-2_000..2_000),
                    1 => *at - rng.i64(0..200),
                    _ if (*at - now).abs() > 4_000 => now,
                    _ => *at,
                };
                let layer = if stream == 2 { MixLayer::Further { line: 1 } } else { MixLayer::First };
                let (channel, number) = (usize::from(seed.is_multiple_of(2)), stream as u16 + 1);
                let all = [
                    SoundPrecedence::Comfort,
                    SoundPrecedence::Superseded,
                    SoundPrecedence::QuietNoise,
                    SoundPrecedence::Current,
                ];
                let target = MixTarget { channel, layer, number, precedence: all[rng.usize(..all.len())] };
                let loud = if rng.u32(0..10) == 0 { 1 } else { 20_000 };
                let samples: Vec<i16> = (0..160).map(|_| rng.i16(-loud..=loud)).collect();
                steps.push(Step::Write(target, SampleIndex(*at), samples));
                *at += 160;
            }
            if now % 4_000 == 0 {
                steps.push(Step::Flush(SampleIndex(now - 48_000)));
            }
        }
        steps
    }

    fn flushed(mut buffer: MixBuffer, steps: &[Step]) -> Vec<[i16; 2]> {
        let mut frames = Vec::new();
        let mut out = |some: &[[i16; 2]]| {
            frames.extend_from_slice(some);
            Ok(())
        };
        for step in steps {
            match step {
                Step::Write(target, at, samples) => _ = buffer.write(*target, *at, samples),
                Step::Flush(position) => buffer.flush_until(*position, &mut out).expect("memory"),
            }
        }
        let total = buffer.total();
        buffer.flush_until(total, &mut out).expect("memory");
        frames
    }

    #[test]
    fn peak_and_energy_of_the_extremes_are_exact() {
        for (samples, peak, energy) in [
            (vec![], 0, 0),
            (vec![i16::MIN], 32_768, 1 << 30),
            (vec![i16::MIN; 1_001], 32_768, 1_001 << 30),
            (vec![-5, 4, 3], 5, 50),
            (vec![i16::MAX, -1], 32_767, 32_767 * 32_767 + 1),
        ] {
            assert_eq!((peak_of(&samples), energy_of(&samples)), (peak, energy), "{samples:?}");
        }
    }

    #[test]
    fn window_of_a_lone_stream_has_the_samples_of_a_ranked_window() {
        for seed in 0..60 {
            let total = SECONDS * u64::from(RATE_HZ);
            let plain = MixBuffer::new(RATE_HZ, total, vec![SampleIndex(70_000)..SampleIndex(71_000)]);
            let mut ranked = plain.clone();
            ranked.channels = [(); 2].map(|()| ChannelWindow::with_ranks());
            ranked.further = [(); 2].map(|()| [(); FURTHER_LINES].map(|()| ChannelWindow::with_ranks()));
            let steps = steps(seed);
            let (plain, ranked) = (flushed(plain, &steps), flushed(ranked, &steps));
            assert_eq!(plain.len() as u64, total);
            let differs = plain.iter().zip(&ranked).position(|(a, b)| a != b);
            assert_eq!(differs, None, "seed {seed}");
        }
    }
}
