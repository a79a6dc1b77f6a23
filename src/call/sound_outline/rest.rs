//! Sound of a leg after the end of its call: speech, or a tone that the PBX plays until the telephone hangs up.

use std::time::Duration;

use crate::call::record::Side;
use crate::call::sound_outline::{LOUD_DB, SideSound, SoundOutline, TENTH_NS};
use crate::time::Timestamp;

/// The kind of sound that both sides of a leg send from a given moment on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RestOfSound {
    /// Somebody may talk, or the sound was not measured.
    Speech,
    /// One side sends a busy or reorder tone, so nobody talks with the other side.
    Tone,
    /// Both sides are silent.
    Silence,
}

impl SoundOutline {
    /// Returns the kind of sound from `at` to the leg's last packet at `last`. The first fraction of a second is left
    /// out, because it may contain the last words of the call.
    pub(crate) fn rest_between(&self, at: Timestamp, last: Timestamp) -> RestOfSound {
        let first = (at + LAST_WORDS).as_nanos().div_euclid(TENTH_NS) + 1;
        let last = last.as_nanos().div_euclid(TENTH_NS);
        if !self.is_whole(first, last) {
            return RestOfSound::Speech;
        }
        let [caller, callee] = [Side::Caller, Side::Callee].map(|side| SideRest::of(self, side, [first, last]));
        match (caller, callee) {
            (SideRest::Silence, SideRest::Silence) => RestOfSound::Silence,
            // A PBX plays a busy tone to one telephone only. So if both sides send a tone, it counts as speech.
            (SideRest::Tone, SideRest::Tone) => RestOfSound::Speech,
            (SideRest::Tone, _) | (_, SideRest::Tone) => RestOfSound::Tone,
            _ => RestOfSound::Speech,
        }
    }

    /// Returns whether the outline has measurements from `first` to `last` without a gap of more than [`LONGEST_HOLE`].
    /// Returns false if a longer time was not measured, because speech may have been heard then.
    fn is_whole(&self, first: i64, last: i64) -> bool {
        let measured = self.points.iter().map(|point| point.tenth).filter(|tenth| *tenth >= first);
        let mut known = first;
        measured.chain([last]).all(|tenth| {
            let follows = tenth - known <= LONGEST_HOLE;
            known = tenth;
            follows
        })
    }
}

/// The kind of sound that one side of a leg sends from a given moment on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SideRest {
    Sound,
    Tone,
    Silence,
}

impl SideRest {
    fn of(outline: &SoundOutline, side: Side, [first, last]: [i64; 2]) -> Self {
        let mut loud = Vec::new();
        for point in outline.points.iter().filter(|point| point.tenth >= first) {
            match point.sides[side.channel()] {
                Some(SideSound::Unmeasured) => return Self::Sound,
                Some(SideSound::Measured { db, crossings }) if db >= LOUD_DB => {
                    loud.push(LoudTenth { tenth: point.tenth, db: f64::from(db), crossings: f64::from(crossings) });
                }
                _ => {}
            }
        }
        if loud.is_empty() {
            Self::Silence
        } else if is_signal_tone(&loud) && loud.last().is_some_and(|beep| last - beep.tenth <= LONGEST_PAUSE + 1) {
            Self::Tone
        } else {
            Self::Sound
        }
    }
}

/// A tenth of a second in which one side's sound is loud.
struct LoudTenth {
    tenth: i64,
    db: f64,
    crossings: f64,
}

/// Returns whether sounds are a busy or reorder tone (ITU-T E.180): one pitch at one level, switched on and off in
/// time. A ringback tone has longer pauses. It does not count, because somebody may still answer.
///
/// The tone may be on for a part of a tenth of a second only. Then its mean amplitude and its zero crossings are
/// smaller by the same factor.
fn is_signal_tone(loud: &[LoudTenth]) -> bool {
    let level = loud.iter().map(|point| point.db).fold(0.0, f64::max);
    let full: Vec<&LoudTenth> = loud.iter().filter(|point| point.db >= level - FULL_DB).collect();
    let pitch = full.iter().map(|point| point.crossings).sum::<f64>() / full.len().max(1) as f64;
    let fits = |point: &&LoudTenth| {
        let expected = pitch * 10_f64.powf((point.db - level) / 20.0);
        (point.crossings - expected).abs() <= PITCH_STEP + PITCH_TOLERANCE * expected
    };
    let runs: Vec<&[LoudTenth]> = loud.chunk_by(|a, b| b.tenth == a.tenth + 1).collect();
    // The first and the last beep may be cut off. So only the beeps between them must have about the same length.
    let whole = runs.get(1..runs.len().saturating_sub(1)).unwrap_or_default();
    let longest = runs.iter().map(|run| run.len()).max().unwrap_or_default();
    let is_in_time = longest <= LONGEST_BEEP && whole.iter().all(|run| run.len() + 1 >= longest);
    let has_short_pauses = loud.windows(2).all(|pair| pair[1].tenth - pair[0].tenth - 1 <= LONGEST_PAUSE);
    full.len() >= LEAST_FULL
        && TONE_PITCH.contains(&pitch)
        && loud.iter().filter(fits).count() * 10 >= loud.len() * 9
        && runs.len() >= LEAST_BEEPS
        && is_in_time
        && has_short_pauses
}

/// Time after the end of a call in which sound is not examined, because it may be the last words of the call.
const LAST_WORDS: Duration = Duration::from_millis(300);
/// Maximum time without a measurement, tenths of a second. If it was longer, speech may have been missed, so the sound
/// counts as speech.
const LONGEST_HOLE: i64 = 5;
/// Maximum length of the pause between two beeps, tenths of a second. The pauses of a busy tone last 0.1 to 0.75 s, and
/// one pause of each ringback tone lasts 2 s or longer.
const LONGEST_PAUSE: i64 = 8;
/// A tone fills a tenth of a second if its level there is at most 3 dB below its greatest level. The level of a full
/// tenth varies, because the two frequencies of a tone interfere.
const FULL_DB: f64 = 3.0;
/// Minimum number of tenths of a second that a tone must fill completely to count as a busy or reorder tone.
const LEAST_FULL: usize = 4;
/// Zero crossings of 255 samples of a signal tone at 8 kHz: 350 to 650 Hz.
const TONE_PITCH: std::ops::RangeInclusive<f64> = 22.0..=42.0;
/// Tolerance for the number of zero crossings of a tone in 255 samples: 255 samples rarely contain a whole number of
/// periods.
const PITCH_STEP: f64 = 3.0;
/// Further tolerance for the number of zero crossings of a tone, added to [`PITCH_STEP`]: 15 % of the expected number.
const PITCH_TOLERANCE: f64 = 0.15;
/// Minimum number of beeps from which a sound counts as a busy or reorder tone.
const LEAST_BEEPS: usize = 2;
/// Maximum length of a beep, in tenths of a second. The beeps of a busy tone last 0.1 to 0.66 s.
const LONGEST_BEEP: usize = 8;
