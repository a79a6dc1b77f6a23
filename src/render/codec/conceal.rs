//! Conceals lost packets. Repeats the last pitch periods for codecs that have no concealment, and limits the duration
//! of concealment for the others.
//!
//! The method is that of G.711 Appendix I: it repeats one, then two, then three pitch periods. After 10 ms at full
//! strength, the sound fades by a fifth each 10 ms. Appendix I delays all sound by 3.75 ms, to blend into a gap. Here
//! nothing is delayed: the step at the gap's beginning is spread over the first quarter period.

/// Maximum duration of concealment in a gap, ms. The rest of the gap is silent.
pub const FADE_MS: u32 = 60;

/// Maximum duration of a codec's comfort noise after a silence descriptor, seconds. Silence follows. Senders repeat
/// descriptors about each second. Without this limit, a hold of hours would cost hours of computing.
pub const COMFORT_S: usize = 10;

/// Stores the most recent sound and extends it into gaps.
#[derive(Clone, Debug)]
pub struct Concealer {
    rate_hz: u32,
    /// The last sound of the stream. Its length is between [`HISTORY_MS`] and twice that, so that samples are not moved
    /// for every packet.
    history: Vec<i16>,
    gap: Option<ConcealedGap>,
}

/// A gap that is being concealed, i.e. filled with repeated sound.
#[derive(Clone, Debug)]
struct ConcealedGap {
    /// Number of samples of concealment generated in this gap so far.
    generated: usize,
    pitch: usize,
    /// Difference between the last decoded sample and the repeated sound at the same point. It is faded to 0 within a
    /// quarter period, so that no click begins the gap.
    step: f32,
    /// The last one, two and three pitch periods of the stored sound, which fill a gap. The end of each is blended with
    /// the sound before it over a quarter period, so that repeating it makes no click.
    cycles: [Vec<f32>; 3],
}

impl Concealer {
    /// Returns a concealer without any sound. Its concealment is silence until samples are decoded.
    pub fn new(rate_hz: u32) -> Self {
        let length = ms(rate_hz, HISTORY_MS);
        Self { rate_hz, history: vec![0; length], gap: None }
    }

    /// Stores the samples that were just decoded. After a gap, blends the beginning of `samples` with the concealment.
    pub fn note_decoded(&mut self, samples: &mut [i16]) {
        if let Some(gap) = self.gap.take() {
            let overlap = self.overlap(&gap).min(samples.len());
            for (i, sample) in samples.iter_mut().take(overlap).enumerate() {
                let weight = (i + 1) as f32 / (overlap + 1) as f32;
                let concealed = self.concealed_sample(&gap, gap.generated + i);
                *sample = (concealed + (f32::from(*sample) - concealed) * weight) as i16;
            }
        }
        self.remember(samples);
    }

    /// Appends `samples` samples of concealment to `out`, in place of lost samples.
    pub fn conceal(&mut self, samples: usize, out: &mut Vec<i16>) {
        let mut gap = self.gap.take().unwrap_or_else(|| self.begin());
        let loud = ms(self.rate_hz, FADE_MS).saturating_sub(gap.generated).min(samples);
        out.extend((gap.generated..gap.generated + loud).map(|at| self.concealed_sample(&gap, at) as i16));
        out.resize(out.len() + samples - loud, 0);
        gap.generated = gap.generated.saturating_add(samples);
        self.gap = Some(gap);
    }

    fn remember(&mut self, samples: &[i16]) {
        let length = ms(self.rate_hz, HISTORY_MS);
        let newest = &samples[samples.len().saturating_sub(length)..];
        if self.history.len() + newest.len() > 2 * length {
            self.history.drain(..self.history.len() - (length - newest.len()));
        }
        self.history.extend_from_slice(newest);
    }

    fn begin(&self) -> ConcealedGap {
        let pitch = self.pitch();
        let end = self.history.len();
        let step = f32::from(self.history[end - 1]) - f32::from(self.history[end - 1 - pitch]);
        let cycles = [1, 2, 3].map(|periods| self.cycle(pitch, periods));
        ConcealedGap { generated: 0, pitch, step, cycles }
    }

    /// Returns the last `periods` pitch periods, with their end blended so that they can be repeated without a click.
    fn cycle(&self, pitch: usize, periods: usize) -> Vec<f32> {
        let length = pitch * periods;
        let start = self.history.len() - length;
        let blend = pitch / 4;
        let mut cycle: Vec<f32> = self.history[start..].iter().map(|&s| f32::from(s)).collect();
        for i in 0..blend {
            let weight = (i + 1) as f32 / (blend + 1) as f32;
            let before = f32::from(self.history[start - blend + i]);
            let tail = &mut cycle[length - blend + i];
            *tail += (before - *tail) * weight;
        }
        cycle
    }

    /// Returns sample number `at` of the concealment in a gap.
    fn concealed_sample(&self, gap: &ConcealedGap, at: usize) -> f32 {
        let step_length = (gap.pitch / 4).max(1);
        let step = if at < step_length { gap.step * (1.0 - at as f32 / step_length as f32) } else { 0.0 };
        let ten_ms = ms(self.rate_hz, 10);
        let stage = (at / ten_ms).min(2);
        let into_stage = at - stage * ten_ms;
        let mut sample = repeated(&gap.cycles[stage], gap.pitch, at);
        if stage > 0 && into_stage < step_length {
            let weight = into_stage as f32 / step_length as f32;
            let before = repeated(&gap.cycles[stage - 1], gap.pitch, at);
            sample = before + (sample - before) * weight;
        }
        ((sample + step) * self.strength(at)).clamp(f32::from(i16::MIN), f32::from(i16::MAX))
    }

    /// Returns the gain for sample number `at` in the gap: 1 for 10 ms, then falling to 0 at [`FADE_MS`].
    fn strength(&self, at: usize) -> f32 {
        let (full, end) = (ms(self.rate_hz, 10), ms(self.rate_hz, FADE_MS));
        match at {
            _ if at < full => 1.0,
            _ if at < end => (end - at) as f32 / (end - full) as f32,
            _ => 0.0,
        }
    }

    /// Returns how many samples after a gap are blended with the concealment. It is a quarter period plus 4 ms for each
    /// 10 ms of the gap, at most 10 ms.
    fn overlap(&self, gap: &ConcealedGap) -> usize {
        let longer = ms(self.rate_hz, 4) * (gap.generated / ms(self.rate_hz, 10)).saturating_sub(1);
        (gap.pitch / 4 + longer).min(ms(self.rate_hz, 10))
    }

    /// Returns the pitch period in samples: the lag of 5 to 15 ms with the largest normalised cross-correlation over
    /// the last 20 ms. Compares every few samples first, then every sample around the best lag.
    fn pitch(&self) -> usize {
        let (shortest, longest) = (ms(self.rate_hz, PITCH_MS.0), ms(self.rate_hz, PITCH_MS.1));
        let stride = (self.rate_hz / 4_000).max(1) as usize;
        let coarse = best((shortest..=longest).step_by(stride), |lag| self.likeness(lag, stride));
        let near = coarse.saturating_sub(stride).max(shortest)..=(coarse + stride).min(longest);
        best(near, |lag| self.likeness(lag, 1))
    }

    fn likeness(&self, lag: usize, stride: usize) -> f32 {
        let end = self.history.len();
        let start = end - ms(self.rate_hz, WINDOW_MS);
        let (mut product, mut energy) = (0.0f32, 1.0f32);
        for at in (start..end).step_by(stride) {
            let (now, then) = (f32::from(self.history[at]), f32::from(self.history[at - lag]));
            product += now * then;
            energy += then * then;
        }
        product / energy.sqrt()
    }
}

/// Limits the concealment that a codec itself generates. Fades speech to silence by [`FADE_MS`], ends comfort noise
/// after [`COMFORT_S`], and cuts the last frame to the requested length.
#[derive(Clone, Debug)]
pub(crate) struct FrameConcealer {
    rate_hz: u32,
    generated: usize,
    /// Samples of the codec's last frame of concealment that were not requested yet.
    rest: Vec<i16>,
}

/// State of the sender's discontinuous transmission (DTX), which decides what fills a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DtxState {
    /// The sender transmits speech: a gap is filled with concealment that fades out.
    Talking,
    /// The last frame was a silence descriptor: a gap is filled with comfort noise for up to [`COMFORT_S`].
    Paused,
}

impl FrameConcealer {
    /// Returns a concealer for the sampling rate `rate_hz`, outside of a gap.
    pub(crate) const fn new(rate_hz: u32) -> Self {
        Self { rate_hz, generated: 0, rest: Vec::new() }
    }

    /// Records that a packet was decoded, i.e. that the gap has ended.
    pub(crate) fn end_gap(&mut self) {
        self.generated = 0;
        self.rest.clear();
    }

    /// Appends `samples` samples to `out`. Calls `frame` as often as needed; each call generates one frame of
    /// concealment.
    pub(crate) fn fill(
        &mut self,
        samples: usize,
        dtx: DtxState,
        out: &mut Vec<i16>,
        mut frame: impl FnMut(&mut Vec<i16>),
    ) {
        let end = out.len() + samples;
        let longest = match dtx {
            DtxState::Talking => ms(self.rate_hz, FADE_MS),
            DtxState::Paused => self.rate_hz as usize * COMFORT_S,
        };
        let mut wanted = longest.saturating_sub(self.generated).min(samples);
        while wanted > 0 {
            if self.rest.is_empty() {
                frame(&mut self.rest);
            }
            let take = wanted.min(self.rest.len());
            if take == 0 {
                break;
            }
            out.extend(self.rest.drain(..take).enumerate().map(|(i, sample)| match dtx {
                DtxState::Talking => fade(sample, self.generated + i, self.rate_hz),
                DtxState::Paused => sample,
            }));
            self.generated += take;
            wanted -= take;
        }
        out.resize(end, 0);
    }
}

/// Returns sample number `at` of a gap that is filled by repeating `cycle`, i.e. one, two or three periods of `pitch`
/// samples. The phase does not depend on the number of periods.
fn repeated(cycle: &[f32], pitch: usize, at: usize) -> f32 {
    let phase = at % pitch;
    let period = (at / pitch) % (cycle.len() / pitch);
    cycle[period * pitch + phase]
}

fn best(lags: impl Iterator<Item = usize>, score: impl Fn(usize) -> f32) -> usize {
    let mut found = (0, f32::NEG_INFINITY);
    for lag in lags {
        let score = score(lag);
        if score > found.1 {
            found = (lag, score);
        }
    }
    found.0
}

/// Fades a sample of the codec's own concealment, so that it is 0 at [`FADE_MS`]. Only the last 20 ms are changed;
/// before them, the codec fades by itself.
fn fade(sample: i16, at: usize, rate_hz: u32) -> i16 {
    let (end, length) = (ms(rate_hz, FADE_MS), ms(rate_hz, 20));
    let left = end.saturating_sub(at).min(length);
    (i32::from(sample) * left as i32 / length as i32) as i16
}

const fn ms(rate_hz: u32, ms: u32) -> usize {
    (rate_hz as u64 * ms as u64 / 1000) as usize
}

/// Minimum and maximum pitch period, ms: 66 to 200 Hz (G.711 Appendix I section I.2.2).
const PITCH_MS: (u32, u32) = (5, 15);

/// Length of the sound that the pitch search compares, ms.
const WINDOW_MS: u32 = 20;

/// Minimum length of the stored sound, ms: three of the longest pitch periods and the sound that is blended before
/// them. Appendix I of G.711 uses 48.75 ms.
const HISTORY_MS: u32 = 49;

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(rate_hz: u32, hz: f64, from: usize, samples: usize) -> Vec<i16> {
        let step = 2.0 * std::f64::consts::PI * hz / f64::from(rate_hz);
        (from..from + samples).map(|n| ((n as f64 * step).sin() * 8000.0) as i16).collect()
    }

    fn snr_db(truth: &[i16], got: &[i16]) -> f64 {
        let energy: f64 = truth.iter().map(|&s| f64::from(s).powi(2)).sum();
        let error: f64 = truth.iter().zip(got).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
        10.0 * (energy / error.max(1.0)).log10()
    }

    #[test]
    fn steady_tone_continues_through_a_short_gap_at_every_rate() {
        for rate in [8_000, 16_000, 48_000] {
            let second = rate as usize / 10;
            let mut concealer = Concealer::new(rate);
            concealer.note_decoded(&mut tone(rate, 125.0, 0, second));
            let mut generated = Vec::new();
            concealer.conceal(rate as usize / 100, &mut generated);
            // At the sampling rates of this test, one period of 125 Hz is a whole number of samples. So the first 10 ms
            // of concealment are nearly perfect.
            let truth = tone(rate, 125.0, second, generated.len());
            assert!(snr_db(&truth, &generated) > 30.0, "{rate}: {}", snr_db(&truth, &generated));
        }
    }

    #[test]
    fn concealment_is_silent_after_60_ms_for_any_chunk_size() {
        let concealed = |chunk: usize| {
            let mut concealer = Concealer::new(8000);
            concealer.note_decoded(&mut tone(8000, 200.0, 0, 800));
            let mut generated = Vec::new();
            while generated.len() < 800 {
                concealer.conceal(chunk.min(800 - generated.len()), &mut generated);
            }
            generated
        };
        let at_once = concealed(800);
        assert!(at_once[..400].iter().any(|&s| s.abs() > 1000));
        assert!(at_once[480..].iter().all(|&s| s == 0));
        // Concealment in pieces must equal concealment at once. The lengths of the pieces include 1 sample, divisors of
        // 60 ms and of the fade of 10 ms, and others.
        for chunk in [1, 7, 40, 80, 81, 160, 333, 479, 481] {
            assert_eq!(concealed(chunk), at_once, "{chunk}");
        }
    }

    #[test]
    fn sound_after_a_gap_starts_smoothly_and_is_exact_after_10_ms() {
        let mut concealer = Concealer::new(8000);
        concealer.note_decoded(&mut tone(8000, 150.0, 0, 800));
        let mut generated = Vec::new();
        concealer.conceal(160, &mut generated);
        let truth = tone(8000, 150.0, 960, 160);
        let mut after = truth.clone();
        concealer.note_decoded(&mut after);
        // A 150 Hz tone of amplitude 8000 at 8 kHz changes by at most 942 from sample to sample. So a step below 1500
        // makes no click.
        let step = i32::from(after[0]) - i32::from(*generated.last().unwrap());
        assert!(step.abs() < 1500, "{step}");
        assert_eq!(after[80..], truth[80..]);
    }

    #[test]
    fn before_any_sound_a_gap_is_silent() {
        let mut generated = Vec::new();
        Concealer::new(16_000).conceal(1000, &mut generated);
        assert_eq!(generated, [0; 1000]);
    }

    #[test]
    fn full_scale_noise_gives_as_many_samples_as_asked_without_overflow() {
        let mut concealer = Concealer::new(8000);
        for n in 0..200usize {
            let mut heard: Vec<i16> =
                (0..n * 3 % 170).map(|i| if i * n % 3 == 0 { i16::MAX } else { i16::MIN }).collect();
            concealer.note_decoded(&mut heard);
            let mut generated = Vec::new();
            concealer.conceal(n * 7 % 333, &mut generated);
            assert_eq!(generated.len(), n * 7 % 333);
        }
    }
}
