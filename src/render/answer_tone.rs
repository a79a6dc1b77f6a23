//! Finds the answering tone of a fax or modem in decoded sound: 2100 Hz for 2.6 to 4 s (ITU-T V.25, T.30 section
//! 4.3.3.2).

/// Searches one channel for the answering tone, in pieces of 20 ms.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AnswerToneSearch {
    /// Number of pieces (20 ms each) with the tone in the current run. A few pieces without the tone may interrupt a
    /// run.
    run: u32,
    /// Number of pieces (20 ms each) without the tone since the last piece with the tone.
    missed: u32,
    is_found: bool,
}

impl AnswerToneSearch {
    /// Examines the next piece of 20 ms. `peak` is its largest magnitude, `energy` the sum of its squares. The
    /// frequency is computed only if the ratio of both is that of a sine, which is rare in speech.
    pub(super) fn handle_piece(&mut self, samples: &[i16], rate_hz: u32, peak: u32, energy: u64) {
        if self.is_found {
            return;
        }
        let power = energy as f64 / samples.len().max(1) as f64;
        let crest = f64::from(peak).powi(2) / power.max(1.0);
        let is_sine = power > QUIET_POWER && (MIN_CREST..MAX_CREST).contains(&crest);
        if is_sine && tone_share(samples, rate_hz, energy) > MIN_SHARE {
            (self.run, self.missed) = (self.run + 1, 0);
            self.is_found = self.run >= ENOUGH_PIECES;
        } else {
            self.missed += 1;
            // An answering tone that switches echo cancellers off inverts its phase every 450 ms (ITU-T G.164). A piece
            // with such an inversion is missed, so a few missed pieces do not end the run.
            if self.missed > MAX_MISSED {
                self.run = 0;
            }
        }
    }

    /// Returns whether the answering tone was found.
    pub(super) const fn is_found(&self) -> bool {
        self.is_found
    }
}

/// Returns the share of the energy at the frequency of the tone, from 0 to about 1 (Goertzel algorithm).
fn tone_share(samples: &[i16], rate_hz: u32, energy: u64) -> f64 {
    let turn = 2.0 * (std::f64::consts::TAU * TONE_HZ / f64::from(rate_hz.max(1))).cos();
    let (mut last, mut before) = (0.0, 0.0);
    for &sample in samples {
        (last, before) = (f64::from(sample) + turn * last - before, last);
    }
    let power = last * last + before * before - turn * last * before;
    2.0 * power / (samples.len() as f64 * (energy as f64).max(1.0))
}

const TONE_HZ: f64 = 2_100.0;
/// Minimum mean square of the samples in a piece (20 ms) with the tone: 300 squared, -41 dBov. Faxes and modems send
/// loud tones.
const QUIET_POWER: f64 = 300.0 * 300.0;
/// Minimum ratio of the squared peak to the mean square in a piece (20 ms) with the tone. A sine has 2.
const MIN_CREST: f64 = 1.7;
/// Maximum ratio of the squared peak to the mean square in a piece (20 ms) with the tone. A sine has 2, and noise and
/// companding raise the ratio.
const MAX_CREST: f64 = 2.6;
/// Minimum share of the energy at 2100 Hz in a piece (20 ms) with the tone. A tone that deviates by 15 Hz, which V.25
/// allows, has a share of 0.74.
const MIN_SHARE: f64 = 0.65;
/// Number of pieces (20 ms each) that prove the tone: one second. No voice holds this tone for so long.
const ENOUGH_PIECES: u32 = 50;
/// Maximum number of consecutive pieces (20 ms each) without the tone within a run. A few pieces fail at each inversion
/// of the tone's phase.
const MAX_MISSED: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns whether the tone is found in a sound that lasts `seconds`. `sound` returns the sample at a time in
    /// seconds.
    fn is_found(seconds: f64, rate_hz: u32, sound: impl Fn(f64) -> f64) -> bool {
        let mut search = AnswerToneSearch::default();
        let samples: Vec<i16> = (0..(seconds * f64::from(rate_hz)) as u32)
            .map(|n| sound(f64::from(n) / f64::from(rate_hz)) as i16)
            .collect();
        for piece in samples.chunks_exact(rate_hz as usize / 50) {
            let peak = piece.iter().map(|sample| sample.unsigned_abs()).max().unwrap_or(0);
            let energy = piece.iter().map(|sample| u64::from(sample.unsigned_abs()).pow(2)).sum();
            search.handle_piece(piece, rate_hz, peak.into(), energy);
        }
        search.is_found()
    }

    #[test]
    fn only_a_long_tone_of_2100_hz_is_an_answering_tone() {
        let sine = |hz: f64| move |t: f64| 6_000.0 * (std::f64::consts::TAU * hz * t).sin();
        for rate_hz in [8_000, 16_000] {
            assert!(is_found(2.6, rate_hz, sine(2_100.0)) && is_found(2.6, rate_hz, sine(2_112.0)));
            // This answering tone inverts its phase every 450 ms, and must be found nevertheless.
            assert!(is_found(3.3, rate_hz, |t| sine(2_100.0)(t)
                * if ((t / 0.45) as u32).is_multiple_of(2) { 1.0 } else { -1.0 }));
            assert!(!is_found(0.8, rate_hz, sine(2_100.0)), "a beep");
            for hz in [425.0, 1_000.0, 1_100.0, 2_000.0, 2_225.0] {
                assert!(!is_found(5.0, rate_hz, sine(hz)), "{hz} Hz");
            }
            // The sound is two simultaneous tones, like that of a telephone key, so it is no answering tone.
            assert!(!is_found(5.0, rate_hz, |t| sine(2_100.0)(t) + sine(941.0)(t)));
        }
    }
}
