//! Mixes the streams of both sides: a window of some seconds over the two channels of the recording.
//!
//! Sound may be written in any order within the window. If two streams of one side sound at once, the later stream
//! wins, sample by sample. So a new SSRC replaces the old one, and nothing makes the recording longer. Digital silence
//! does not replace the sound of another stream that continues.
//!
//! Streams of a further audio m-line do not replace those of the first one. They have a window of their own, and the
//! sum of both is the channel.

use std::io;

use super::answer_tone::AnswerToneSearch;
use super::report::SideReport;

/// Receives the finished samples in order: left (the leg's caller) and right.
pub(crate) type SampleSink<'a> = dyn FnMut(&[[i16; 2]]) -> io::Result<()> + 'a;

/// The window over both channels, from position `base` on. Positions count samples from the start of the recording.
#[derive(Debug)]
pub(super) struct MixBuffer {
    rate_hz: u32,
    /// Position of the first sample in the window: the first that was not output yet.
    base: i64,
    /// Number of samples in the whole recording, per channel.
    total: i64,
    channels: [ChannelWindow; 2],
    /// Sound of further audio m-lines, for each channel.
    further: [ChannelWindow; 2],
    /// Ranges of positions (from, to) that are output as silence.
    muted: Vec<(i64, i64)>,
    frames: Vec<[i16; 2]>,
    meters: [LevelMeter; 2],
}

/// Where a stream writes in the mix buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct MixTarget {
    /// Index of the channel: 0 is left, 1 is right.
    pub(super) channel: usize,
    pub(super) layer: MixLayer,
    /// Rank of the stream: if two streams of a layer sound at once, the higher rank wins.
    pub(super) rank: u16,
}

/// Layer of a side's sound. Each audio m-line of a side belongs to a layer; the layers are added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MixLayer {
    /// The first m-line, or the only one.
    First,
    /// All further m-lines.
    Further,
}

/// One channel of the window.
#[derive(Clone, Debug, Default)]
struct ChannelWindow {
    samples: Vec<i16>,
    /// Rank of the stream that wrote each sample; 0 if no stream wrote it.
    ranks: Vec<u16>,
    /// Silence that was not written because another stream had sound there. It is written later if that stream ends.
    withheld: Vec<WithheldSilence>,
    /// Number of samples at the front that were already output. They are removed when they are the larger part, so that
    /// each sample is moved at most once.
    flushed: usize,
}

/// Digital silence of a stream while another stream of the same side sounded.
#[derive(Clone, Debug)]
struct WithheldSilence {
    /// Position of the first silent sample.
    at: i64,
    rank: u16,
    samples: Vec<i16>,
}

impl ChannelWindow {
    /// Stores silence for later. If there are [`MAX_WITHHELD`] pieces already, it is dropped, and the other sound
    /// remains.
    fn withhold(&mut self, at: i64, rank: u16, samples: &[i16]) {
        if self.withheld.len() < MAX_WITHHELD {
            self.withheld.push(WithheldSilence { at, rank, samples: samples.to_vec() });
        }
    }

    /// Writes the withheld silence that begins before a position, unless the sound of another stream continues after
    /// it. `base` is the position of the first sample of the window.
    fn settle_silence(&mut self, base: i64, position: i64, talks_on: usize) {
        if self.withheld.is_empty() {
            return;
        }
        let (due, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.withheld).into_iter().partition(|silence| silence.at < position);
        self.withheld = rest;
        for WithheldSilence { at, rank, samples } in due {
            let skip = usize::try_from(base - at).unwrap_or(0).min(samples.len());
            let samples = &samples[skip..];
            let first = usize::try_from(at - base).unwrap_or(0);
            let last = first + samples.len();
            let (window, ranks) = self.grow_to(last + talks_on);
            if ranks[last..].iter().any(|&owner| owner != 0 && owner != rank) {
                continue;
            }
            let window = window[first..last].iter_mut().zip(&mut ranks[first..last]);
            for ((slot, owner), &sample) in window.zip(samples).filter(|((_, owner), _)| **owner != rank) {
                (*slot, *owner) = (sample, rank);
            }
        }
    }

    /// Returns the samples and ranks of the window up to sample `end`. The window grows if needed.
    fn grow_to(&mut self, end: usize) -> (&mut [i16], &mut [u16]) {
        let end = self.flushed + end;
        if self.samples.len() < end {
            self.samples.resize(end, 0);
            self.ranks.resize(end, 0);
        }
        (&mut self.samples[self.flushed..end], &mut self.ranks[self.flushed..end])
    }

    /// Adds the samples at the front of the window to `samples`, and moves the window by as many. A window to which
    /// nothing was written stays empty.
    fn move_front_into(&mut self, samples: &mut [i16]) {
        if self.samples.is_empty() {
            return;
        }
        let count = samples.len();
        for (sample, other) in samples.iter_mut().zip(self.grow_to(count).0) {
            *sample = sample.saturating_add(*other);
        }
        self.remove_front(count);
    }

    /// Moves the start of the window by `count` samples, which must be in the window.
    fn remove_front(&mut self, count: usize) {
        self.flushed += count;
        if self.flushed * 2 >= self.samples.len() {
            self.samples.drain(..self.flushed);
            self.ranks.drain(..self.flushed);
            self.flushed = 0;
        }
    }
}

impl MixBuffer {
    /// Returns an empty buffer for a recording of `total` samples per channel.
    pub(super) fn new(rate_hz: u32, total: u64, muted: Vec<(i64, i64)>) -> Self {
        Self {
            rate_hz,
            base: 0,
            total: i64::try_from(total).unwrap_or(i64::MAX),
            channels: [ChannelWindow::default(), ChannelWindow::default()],
            further: [ChannelWindow::default(), ChannelWindow::default()],
            muted,
            frames: Vec::new(),
            meters: [LevelMeter::new(rate_hz), LevelMeter::new(rate_hz)],
        }
    }

    /// Writes samples at a position. Samples outside the recording or already output are dropped. Returns how many
    /// samples lie inside the recording.
    pub(super) fn write(&mut self, target: MixTarget, at: i64, samples: &[i16]) -> usize {
        let MixTarget { channel, layer, rank } = target;
        let end = at.saturating_add(samples.len() as i64);
        let inside = end.min(self.total).saturating_sub(at.max(0)).max(0) as usize;
        let longest = i64::from(self.rate_hz) * MAX_WINDOW_S;
        let from = at.max(self.base);
        let to = end.min(self.total).min(self.base + longest);
        if from >= to {
            return inside;
        }
        let (first, last) = ((from - self.base) as usize, (to - self.base) as usize);
        let channel = match layer {
            MixLayer::First => &mut self.channels[channel],
            MixLayer::Further => &mut self.further[channel],
        };
        let samples = &samples[(from - at) as usize..(to - at) as usize];
        let (window, ranks) = channel.grow_to(last);
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
                channel.withhold(from, rank, samples);
            }
        } else if ranks.iter().all(|&owner| owner <= rank) {
            window.copy_from_slice(samples);
            ranks.fill(rank);
        } else if is_digital_silence(window) {
            let silence = window.to_vec();
            let newest = ranks.iter().copied().max().unwrap_or(rank);
            window.copy_from_slice(samples);
            ranks.fill(rank);
            channel.withhold(from, newest, &silence);
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
    /// When `out` fails.
    pub(super) fn flush_until(&mut self, position: i64, out: &mut SampleSink<'_>) -> io::Result<()> {
        let position = position.min(self.total);
        let talks_on = (self.rate_hz / TALKS_ON_PARTS) as usize;
        for channel in self.channels.iter_mut().chain(&mut self.further) {
            channel.settle_silence(self.base, position, talks_on);
        }
        while self.base < position {
            let count = (position - self.base).min(i64::from(self.rate_hz)) as usize;
            let windows = self.channels.iter_mut().zip(&mut self.further);
            for ((channel_window, further), meter) in windows.zip(&mut self.meters) {
                let (samples, _) = channel_window.grow_to(count);
                further.move_front_into(samples);
                for &(from, to) in &self.muted {
                    let from = (from - self.base).clamp(0, count as i64) as usize;
                    let to = (to - self.base).clamp(0, count as i64) as usize;
                    if from < to {
                        samples[from..to].fill(0);
                    }
                }
                meter.add(samples);
            }
            let [left, right] = &mut self.channels;
            let (left_samples, right_samples) = (left.grow_to(count).0, right.grow_to(count).0);
            self.frames.clear();
            self.frames.extend(left_samples.iter().zip(&*right_samples).map(|(&left, &right)| [left, right]));
            left.remove_front(count);
            right.remove_front(count);
            out(&self.frames)?;
            self.base += count as i64;
        }
        Ok(())
    }

    /// Returns the number of samples of the whole recording.
    pub(super) fn total(&self) -> i64 {
        self.total
    }

    /// Writes peak, clipping and talk time of a channel into the report of its side.
    pub(super) fn fill_report(&self, channel: usize, report: &mut SideReport) {
        self.meters[channel].fill_report(report);
    }
}

/// Returns whether the samples are digital silence, i.e. a codec's silence without any noise.
fn is_digital_silence(samples: &[i16]) -> bool {
    samples.iter().all(|sample| sample.unsigned_abs() <= DIGITAL_SILENCE)
}

/// Measures the levels of one channel.
#[derive(Clone, Debug)]
struct LevelMeter {
    rate_hz: u32,
    peak: u32,
    clipped: u64,
    samples: u64,
    /// Energy and number of the samples in the current piece of 20 ms.
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

    /// Adds samples. The loop has no branch, so that the compiler vectorizes it: every sample of a recording passes
    /// through it.
    fn add(&mut self, mut samples: &[i16]) {
        let piece = (self.rate_hz / 50).max(1);
        while !samples.is_empty() {
            let room = (piece - self.count) as usize;
            let (now, later) = samples.split_at(room.min(samples.len()));
            samples = later;
            let peak = now.iter().fold(0, |peak, sample| sample.unsigned_abs().max(peak)).into();
            self.peak = self.peak.max(peak);
            if peak >= FULL_SCALE {
                self.clipped += now.iter().filter(|s| u32::from(s.unsigned_abs()) >= FULL_SCALE).count() as u64;
            }
            self.energy += now.iter().map(|&s| u64::from((i32::from(s) * i32::from(s)).unsigned_abs())).sum::<u64>();
            self.samples += now.len() as u64;
            self.count += now.len() as u32;
            if self.count == piece {
                if self.energy > TALK_POWER * u64::from(piece) {
                    self.talk_energy += self.energy;
                    self.talk_samples += u64::from(piece);
                    // Usually all samples of a piece are in one slice, so this case is fast.
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

/// The largest value of mu-law (G.711 table 2a); A-law has 32256. Sound that was clipped before encoding has these
/// values.
const FULL_SCALE: u32 = 32_124;
/// Smallest mean square of a piece that counts as talk: 184 squared, -45 dBov. Background noise is below it, quiet
/// speech above it.
const TALK_POWER: u64 = 184 * 184;
/// Largest magnitude of digital silence: the smallest magnitude of A-law (G.711 table 1a). Mu-law and linear formats
/// have 0.
const DIGITAL_SILENCE: u16 = 8;
/// Maximum number of pieces of silence withheld on a channel: one per packet of 10 ms over the longest window, for
/// three streams.
const MAX_WITHHELD: usize = 4_800;
/// Fraction of a second (1/10) within which sound must follow for a stream to count as continuing.
const TALKS_ON_PARTS: u32 = 10;
/// Longest window, seconds. No network delay explains sound that lies further ahead.
const MAX_WINDOW_S: i64 = 16;
