//! Conceals lost frames (RFC 3951 section 4.5). Repeats the last pitch period and fades with every frame. Mixes in more
//! noise if the speech was less periodic.

/// State of concealment: the residual from which lost frames are made.
#[derive(Clone, Debug)]
pub(super) struct LossConcealment {
    /// Residual of the last frame, whether decoded or concealed.
    last: Vec<f32>,
    /// Number of consecutive frames that were concealed so far.
    frames: u32,
    pitch: PitchEstimate,
    random: u32,
}

/// The pitch and the periodicity of the speech before a loss.
#[derive(Clone, Copy, Debug)]
struct PitchEstimate {
    lag: usize,
    /// Share of the speech that is periodic, 0 to 1; the rest is noise.
    voiced: f32,
}

impl LossConcealment {
    pub(super) fn new(samples: usize) -> Self {
        Self { last: vec![0.0; samples], frames: 0, pitch: PitchEstimate { lag: LAGS.1, voiced: 0.0 }, random: 777 }
    }

    /// Records the residual of a frame that was decoded, to conceal a later loss.
    pub(super) fn note_decoded(&mut self, residual: &[f32]) {
        self.last = residual.to_vec();
        self.frames = 0;
    }

    /// Returns a residual (the input of the voice filter) that replaces the residual of a lost frame.
    pub(super) fn conceal(&mut self) -> Vec<f32> {
        let length = self.last.len();
        if self.frames == 0 {
            self.pitch = pitch(&self.last);
        }
        self.frames += 1;
        let gain = gain(self.frames as usize * length);
        // A pitch period shorter than 10 ms sounds mechanical when repeated. So two periods are repeated instead of
        // one.
        let lag = if self.pitch.lag < MIN_REPEATED { 2 * self.pitch.lag } else { self.pitch.lag };
        let (mut periodic, mut noise) = (self.last.clone(), self.last.clone());
        for _ in 0..length {
            periodic.push(periodic[periodic.len() - lag]);
            let pick = self.next_pick();
            noise.push(noise[noise.len() - pick]);
        }
        let (periodic, noise) = (&periodic[length..], &noise[length..]);
        let voiced = self.pitch.voiced;
        let mixed = periodic.iter().zip(noise).enumerate().map(|(n, (periodic, noise))| {
            gain * WITHIN[(n / 80).min(2)] * (voiced * periodic + (1.0 - voiced) * noise)
        });
        let mut residual: Vec<f32> = mixed.collect();
        let energy: f32 = residual.iter().map(|s| s * s).sum();
        if energy < FAINT * FAINT * length as f32 {
            residual.copy_from_slice(noise);
            residual.iter_mut().for_each(|sample| *sample *= gain);
        }
        self.last.clone_from(&residual);
        residual
    }

    /// Returns the distance back to the sample from which the next noise sample is copied: 50 to 119 samples.
    fn next_pick(&mut self) -> usize {
        self.random = self.random.wrapping_mul(69_069).wrapping_add(1) & 0x7FFF_FFFF;
        50 + self.random as usize % 70
    }
}

/// Finds the lag at which the end of a residual is most similar to the samples before it. Also returns how periodic the
/// residual is.
fn pitch(residual: &[f32]) -> PitchEstimate {
    let end = residual.len() - WINDOW;
    let now = &residual[end..];
    let mut best = (LAGS.1, 0.0, 0.0);
    for lag in LAGS.0..=LAGS.1.min(end) {
        let then = &residual[end - lag..end - lag + WINDOW];
        let (product, own, other) =
            now.iter().zip(then).fold((0.0f32, 0.0, 0.0), |(p, o, e), (a, b)| (p + a * b, o + a * a, e + b * b));
        let likeness = if product > 0.0 && other > 0.0 { product * product / other } else { 0.0 };
        if likeness > best.1 {
            best = (lag, likeness, product / (own * other).sqrt().max(1.0));
        }
    }
    // Speech counts as fully voiced above a correlation of 0.49, and as unvoiced below 0.16.
    PitchEstimate { lag: best.0, voiced: ((best.2.max(0.0).sqrt() - 0.4) / 0.3).clamp(0.0, 1.0) }
}

/// Returns the gain of a concealed frame that ends `samples` samples after the last decoded frame.
fn gain(samples: usize) -> f32 {
    match samples {
        0..=320 => 1.0,
        321..=640 => 0.9,
        641..=960 => 0.7,
        961..=1_280 => 0.5,
        _ => 0.0,
    }
}

/// Minimum and maximum pitch lag, samples at 8000 Hz: a pitch of 400 to 80 Hz. The longest lag leaves [`WINDOW`]
/// samples in a frame of 20 ms.
const LAGS: (usize, usize) = (20, 100);
/// Number of samples that the pitch search compares.
const WINDOW: usize = 60;
const MIN_REPEATED: usize = 80;
/// Gains of a concealed frame for its first, second and third 10 ms.
const WITHIN: [f32; 3] = [1.0, 0.95, 0.9];
/// Minimum root mean square of the residual that conceals a lost frame, in units of the 16-bit sample scale. This
/// residual is a repeated pitch period with noise. If it is fainter, only noise is used.
const FAINT: f32 = 30.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn energy(samples: &[f32]) -> f32 {
        samples.iter().map(|s| s * s).sum()
    }

    #[test]
    fn voiced_residual_continues_with_its_pitch_and_fades() {
        let mut loss = LossConcealment::new(160);
        let residual: Vec<f32> = (0..160).map(|n| if n % 80 == 30 { 5_000.0 } else { 0.0 }).collect();
        loss.note_decoded(&residual);
        let first = loss.conceal();
        // A period of 80 samples is repeated: unchanged in the first half of the frame, 5 % weaker in the second half.
        assert!((first[30] - 5_000.0).abs() < 1.0 && (first[110] - 4_750.0).abs() < 1.0, "{first:?}");
        let rest: Vec<f32> = (0..8).map(|_| energy(&loss.conceal())).collect();
        assert!(rest.is_sorted_by(|a, b| a >= b), "{rest:?}");
        // The ninth concealed frame is silence. It begins after 1,280 samples, i.e. after `first` and seven frames of
        // `rest`.
        assert_eq!(rest[7], 0.0);
    }

    #[test]
    fn unvoiced_residual_becomes_noise_of_equal_energy() {
        let mut random = fastrand::Rng::with_seed(3);
        let residual: Vec<f32> = (0..240).map(|_| random.f32() * 2_000.0 - 1_000.0).collect();
        let mut loss = LossConcealment::new(240);
        loss.note_decoded(&residual);
        let made_up = loss.conceal();
        let ratio = energy(&made_up) / energy(&residual);
        assert!((0.4..1.6).contains(&ratio), "{ratio}");
        assert!((0..240).all(|n| (made_up[n] - made_up[(n + 80) % 240]).abs() < 2_000.0));
    }
}
