//! Compares both channels of a recording with the sound that was sent (`NAME.truth.wav`).
//!
//! Lag, lost windows, missing sound and leakage come from [`score::judge`]. Level and invented sound are measured in
//! this module.

use crate::support::score::{self, ChannelScore, ExpectedTrack};

/// The result of comparing one channel with its truth.
#[derive(Clone, Copy, Debug)]
pub struct FieldScore {
    pub base: ChannelScore,
    /// Level of the recording relative to the expected sound, dB.
    pub level_db: f64,
    /// Time for which the recording is loud while the expected sound is silent, ms.
    pub invented_ms: usize,
    /// Similarity of the expected sounds of both sides, measured like the leakage. Short voices can be similar by
    /// chance.
    likeness_of_truths: f64,
}

impl FieldScore {
    /// Returns all measured values in one line.
    pub fn row(&self) -> String {
        let ChannelScore { windows, lost, lag_ms, spread_ms, corr, missing_ms, leak } = self.base;
        let (level_db, invented_ms) = (self.level_db, self.invented_ms);
        format!(
            "{lost} of {windows} lost, lag {lag_ms:.2}, spread {spread_ms:.2}, {level_db:+.2} dB, missing {missing_ms}, \
             invented {invented_ms}, leak {leak:.2}, likeness {corr:.2}"
        )
    }

    /// Returns the names of the measured values that exceed their limits.
    pub fn faults(&self) -> Vec<String> {
        let base = &self.base;
        let measures = [
            ("lost windows", base.lost as f64, 0.0),
            ("lag ms", base.lag_ms.abs(), MAX_LAG_MS),
            ("spread ms", base.spread_ms, MAX_LAG_MS),
            ("level dB", self.level_db.abs(), MAX_LEVEL_DB),
            ("missing ms", base.missing_ms as f64, MAX_MISSING_MS),
            ("invented ms", self.invented_ms as f64, MAX_MISSING_MS),
            ("leak", base.leak - self.likeness_of_truths, MAX_LEAK),
            ("unlikeness", if base.windows > base.lost { 1.0 - base.corr } else { 0.0 }, MAX_UNLIKENESS),
        ];
        let out = measures.iter().filter(|(_, found, most)| found > most);
        out.map(|(name, found, _)| format!("{name} {found:.2}")).collect()
    }
}

/// Compares a channel with the expected sound of its own side and of the other side. All slices have 8 kHz and begin at
/// the same moment.
pub fn judge(channel: &[i16], own: &[i16], other: &[i16]) -> FieldScore {
    let track = |samples: &[i16]| ExpectedTrack { samples: samples.to_vec(), heard: vec![true; samples.len()] };
    let base = score::judge(channel, &track(own), &track(other));
    let alike = || score::judge(own, &track(own), &track(other)).leak;
    let likeness_of_truths = if base.leak > MAX_LEAK { alike() } else { 0.0 };
    FieldScore { base, level_db: level_db(channel, own), invented_ms: invented_ms(channel, own), likeness_of_truths }
}

/// Returns the level of the recording relative to the expected sound, dB, where the expected sound is loud.
fn level_db(channel: &[i16], own: &[i16]) -> f64 {
    let (mut here, mut there) = (0.0, 0.0);
    for (wanted, found) in own.chunks_exact(WINDOW).zip(channel.chunks_exact(WINDOW)) {
        if rms(wanted) > LOUD {
            here += rms(found).powi(2);
            there += rms(wanted).powi(2);
        }
    }
    if there > 0.0 { 10.0 * ((here + 1.0) / there).log10() } else { 0.0 }
}

/// Returns how long the recording has sound that was not expected, ms. That is, the recording is loud where the
/// expected sound is silent ([`GUARD`] blocks before and after), or it is much louder.
fn invented_ms(channel: &[i16], own: &[i16]) -> usize {
    let levels: Vec<f64> = own.chunks(BLOCK).map(rms).collect();
    let blocks = channel.chunks_exact(BLOCK).enumerate();
    let invented = blocks.filter(|(n, block)| {
        let around = levels.get(n.saturating_sub(GUARD)..(n + GUARD + 1).min(levels.len())).unwrap_or_default();
        let loudest = around.iter().copied().fold(0.0, f64::max);
        rms(block) > LOUD && (loudest < QUIET || rms(block) > NOISE_RATIO * loudest)
    });
    invented.count() * 10
}

fn rms(samples: &[i16]) -> f64 {
    let energy: i64 = samples.iter().map(|s| i64::from(*s) * i64::from(*s)).sum();
    (energy as f64 / samples.len().max(1) as f64).sqrt()
}

/// Number of samples in a block of 10 ms.
const BLOCK: usize = 80;
/// Number of samples in a second.
const WINDOW: usize = 8_000;
/// Number of blocks around a loud block that do not count as silent: 60 ms for the lag and the tail of a codec.
const GUARD: usize = 6;
/// Minimum root mean square of a loud block.
const LOUD: f64 = 150.0;
/// Maximum root mean square of a silent block.
const QUIET: f64 = 30.0;
/// Maximum lag, and maximum difference of a window's lag from it, ms. Both include the codec's delay.
const MAX_LAG_MS: f64 = 25.0;
/// Maximum difference of the level, dB.
const MAX_LEVEL_DB: f64 = 3.0;
/// Maximum duration of missing or invented sound, ms.
const MAX_MISSING_MS: f64 = 200.0;
/// Maximum difference from a similarity of 1. G.729 has a similarity of 0.7, and samples in the wrong order have 0.6.
const MAX_UNLIKENESS: f64 = 0.35;
/// If the recording is louder than the expected sound by more than this factor, it is noise.
const NOISE_RATIO: f64 = 3.0;
/// Maximum similarity to the other side. A value of about 0.08 is chance.
const MAX_LEAK: f64 = 0.3;
