//! The window of the recording that is still being painted: two channels of a few seconds.
//!
//! Sound may come in any order within the window. Where two streams of one side sound at once, the one that began
//! later wins, sample by sample: a new SSRC replaces the old one, and nothing ever makes the recording longer.

use std::io;

use super::report::SideReport;

/// Takes the finished samples, in order: left (the leg's caller) and right.
pub type SampleSink<'a> = dyn FnMut(&[[i16; 2]]) -> io::Result<()> + 'a;

/// Two channels, from `base` on.
#[derive(Debug)]
pub(super) struct MixBuffer {
    rate_hz: u32,
    /// Position of the first sample that was not given out.
    base: i64,
    /// Samples of the whole recording.
    total: i64,
    lanes: [ChannelWindow; 2],
    /// Positions that stay silent.
    muted: Vec<(i64, i64)>,
    frames: Vec<[i16; 2]>,
    meters: [LevelMeter; 2],
}

/// One channel of the window.
#[derive(Clone, Debug, Default)]
struct ChannelWindow {
    samples: Vec<i16>,
    /// Who painted a sample: 0 nobody, else a stream's rank.
    painters: Vec<u16>,
    /// Samples at the beginning that were given out: they are taken away when they are the larger part, so that each
    /// sample that stays is moved once at the most.
    gone: usize,
}

impl ChannelWindow {
    /// The window up to its sample `end`.
    fn reach(&mut self, end: usize) -> (&mut [i16], &mut [u16]) {
        let end = self.gone + end;
        if self.samples.len() < end {
            self.samples.resize(end, 0);
            self.painters.resize(end, 0);
        }
        (&mut self.samples[self.gone..end], &mut self.painters[self.gone..end])
    }

    /// The window begins so much later. Only what was reached can go.
    fn forget(&mut self, count: usize) {
        self.gone += count;
        if self.gone * 2 >= self.samples.len() {
            self.samples.drain(..self.gone);
            self.painters.drain(..self.gone);
            self.gone = 0;
        }
    }
}

impl MixBuffer {
    /// A recording of so many samples.
    pub(super) fn new(rate_hz: u32, total: u64, muted: Vec<(i64, i64)>) -> Self {
        Self {
            rate_hz,
            base: 0,
            total: i64::try_from(total).unwrap_or(i64::MAX),
            lanes: [ChannelWindow::default(), ChannelWindow::default()],
            muted,
            frames: Vec::new(),
            meters: [LevelMeter::new(rate_hz), LevelMeter::new(rate_hz)],
        }
    }

    /// Paints samples at a position. What lies outside the recording or was given out is cut; gives the number of
    /// samples that lie inside the recording.
    pub(super) fn paint(&mut self, channel: usize, rank: u16, at: i64, samples: &[i16]) -> usize {
        let end = at.saturating_add(samples.len() as i64);
        let inside = end.min(self.total).saturating_sub(at.max(0)).max(0) as usize;
        let longest = i64::from(self.rate_hz) * MAX_WINDOW_S;
        let from = at.max(self.base);
        let to = end.min(self.total).min(self.base + longest);
        if from >= to {
            return inside;
        }
        let (first, last) = ((from - self.base) as usize, (to - self.base) as usize);
        let (pixels, painters) = self.lanes[channel].reach(last);
        let (pixels, painters) = (&mut pixels[first..], &mut painters[first..]);
        let samples = &samples[(from - at) as usize..(to - at) as usize];
        if painters.iter().all(|&painter| painter <= rank) {
            pixels.copy_from_slice(samples);
            painters.fill(rank);
        } else {
            let pixels = pixels.iter_mut().zip(painters);
            for ((pixel, painter), &sample) in pixels.zip(samples).filter(|((_, painter), _)| **painter <= rank) {
                *pixel = sample;
                *painter = rank;
            }
        }
        inside
    }

    /// Gives out everything before a position: it is finished.
    ///
    /// # Errors
    /// When whoever takes the samples fails.
    pub(super) fn give_until(&mut self, position: i64, out: &mut SampleSink<'_>) -> io::Result<()> {
        let position = position.min(self.total);
        while self.base < position {
            let count = (position - self.base).min(i64::from(self.rate_hz)) as usize;
            for (lane, meter) in self.lanes.iter_mut().zip(&mut self.meters) {
                let (samples, _) = lane.reach(count);
                for &(from, to) in &self.muted {
                    let from = (from - self.base).clamp(0, count as i64) as usize;
                    let to = (to - self.base).clamp(0, count as i64) as usize;
                    if from < to {
                        samples[from..to].fill(0);
                    }
                }
                meter.handle(samples);
            }
            let [left, right] = &mut self.lanes;
            let (left_samples, right_samples) = (left.reach(count).0, right.reach(count).0);
            self.frames.clear();
            self.frames.extend(left_samples.iter().zip(&*right_samples).map(|(&left, &right)| [left, right]));
            left.forget(count);
            right.forget(count);
            out(&self.frames)?;
            self.base += count as i64;
        }
        Ok(())
    }

    /// Samples of the whole recording.
    pub(super) fn total(&self) -> i64 {
        self.total
    }

    /// Puts the levels into the report of a channel.
    pub(super) fn measure(&self, channel: usize, report: &mut SideReport) {
        self.meters[channel].measure(report);
    }
}

/// Levels of one channel.
#[derive(Clone, Debug)]
struct LevelMeter {
    rate_hz: u32,
    peak: u32,
    clipped: u64,
    samples: u64,
    /// Of the 20 ms under way.
    energy: u64,
    count: u32,
    talk_energy: u64,
    talk_samples: u64,
}

impl LevelMeter {
    fn new(rate_hz: u32) -> Self {
        Self { rate_hz, peak: 0, clipped: 0, samples: 0, energy: 0, count: 0, talk_energy: 0, talk_samples: 0 }
    }

    /// Sums over slices without a branch, which the compiler makes into vectors: this sees every sample of a recording.
    fn handle(&mut self, mut samples: &[i16]) {
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
                }
                (self.energy, self.count) = (0, 0);
            }
        }
    }

    fn measure(&self, report: &mut SideReport) {
        report.peak = self.peak;
        report.clipped = self.clipped;
        let rate = f64::from(self.rate_hz.max(1));
        report.talk_s = self.talk_samples as f64 / rate;
        report.silence_s = (self.samples - self.talk_samples) as f64 / rate;
        if self.talk_samples > 0 {
            report.talk_rms = (self.talk_energy as f64 / self.talk_samples as f64).sqrt();
        }
    }
}

/// The largest value of mu-law (G.711 table 2a); that of A-law is 32256. What was clipped before it was coded is there.
const FULL_SCALE: u32 = 32_124;
/// The square of 184, -45 dBov: above a quiet room, below quiet speech.
const TALK_POWER: u64 = 184 * 184;
/// The window never grows beyond: what lies further ahead than any arrival can explain is a mistake.
const MAX_WINDOW_S: i64 = 16;
