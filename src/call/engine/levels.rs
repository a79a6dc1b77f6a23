//! Levels of live voices, for a person who looks at the live calls.
//!
//! Nothing is measured until [`Engine::watch_levels`] asks for it. Then one packet of each G.711 stream in [`SAMPLE_EVERY`] is
//! measured. Other codecs would have to be decoded; of them only the arrival of packets is known. Encrypted and paused media is
//! not measured.

use std::time::Duration;

use super::Engine;
use crate::call::leg::Leg;
use crate::call::record::Side;
use crate::call::roles::CallRoles;
use crate::call::streams::RtpStream;
use crate::time::Timestamp;

/// Level of a voice, from one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum VoiceLevel {
    /// Packets arrive; their level is not known.
    Unmeasured,
    /// Level in per cent of a range of 60 dB below full scale.
    Percent(u8),
}

/// Levels of the two sides of a live call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CallLevels {
    /// Id of the call.
    pub(crate) id: String,
    /// Caller and callee; `None`: no packet arrived for a moment.
    pub(crate) sides: [Option<VoiceLevel>; 2],
}

/// The newest measurement of a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamLevel {
    at: Timestamp,
    level: VoiceLevel,
}

impl StreamLevel {
    /// Measures a packet if the last measurement is old enough.
    pub(crate) fn update(newest: &mut Option<Self>, at: Timestamp, encoding: Option<&str>, payload: &[u8]) {
        if newest.as_ref().is_none_or(|newest| at.since(newest.at) >= SAMPLE_EVERY) {
            *newest = Some(Self { at, level: level(encoding, payload) });
        }
    }
}

impl Engine {
    /// Begins or ends the measurement of levels.
    pub(crate) const fn watch_levels(&mut self, is_wanted: bool) {
        self.settings.measures_levels = is_wanted;
    }

    /// Returns the levels of the live calls, at most of [`MAX_CALLS`].
    pub(crate) fn live_levels(&self) -> Vec<CallLevels> {
        let calls = self.table.calls().take(MAX_CALLS);
        let levels = calls.map(|(key, call)| {
            let legs: Vec<&Leg> = self.table.legs_of(key).collect();
            CallLevels { id: call.id.clone(), sides: self.sides(&legs) }
        });
        levels.filter(|levels| levels.sides.iter().any(Option::is_some)).collect()
    }

    /// Returns the highest fresh level of each side over the legs of a call, which all carry the same voices.
    fn sides(&self, legs: &[&Leg]) -> [Option<VoiceLevel>; 2] {
        let mut sides = [None, None];
        let Some(roles) = CallRoles::from_legs(legs, &self.site.plan) else { return sides };
        for leg in legs {
            let has_same_sides = roles.has_same_sides(leg);
            for (side, level) in leg.media.streams().iter().filter_map(|stream| self.fresh(stream)) {
                let side = if has_same_sides { side } else { side.other() };
                let highest = &mut sides[side.channel()];
                *highest = (*highest).max(Some(level));
            }
        }
        sides
    }

    fn fresh(&self, stream: &RtpStream) -> Option<(Side, VoiceLevel)> {
        let newest = stream.level().filter(|newest| self.clock.now.since(newest.at) < FRESH)?;
        Some((stream.side, newest.level))
    }
}

/// Returns the level of a packet.
fn level(encoding: Option<&str>, payload: &[u8]) -> VoiceLevel {
    let magnitude = match encoding {
        Some("PCMA") => a_law_magnitude,
        Some("PCMU") => mu_law_magnitude,
        _ => return VoiceLevel::Unmeasured,
    };
    let samples = payload.iter().take(MAX_SAMPLES);
    let count = samples.len().max(1) as f64;
    let square = samples.map(|byte| f64::from(magnitude(*byte)).powi(2)).sum::<f64>() / count;
    let db = 10.0 * (square.max(1.0) / FULL_SCALE.powi(2)).log10();
    VoiceLevel::Percent((100.0 * (1.0 + db / RANGE_DB)).clamp(0.0, 100.0).round() as u8)
}

/// Returns the absolute value of an A-law sample (ITU-T G.711), in the scale of 16 bits.
fn a_law_magnitude(byte: u8) -> u16 {
    let code = byte ^ 0x55;
    let (segment, step) = ((code >> 4) & 7, u16::from(code & 0x0f) << 4);
    match segment {
        0 => step + 0x08,
        _ => (step + 0x108) << (segment - 1),
    }
}

/// Returns the absolute value of a µ-law sample (ITU-T G.711), in the scale of 16 bits.
fn mu_law_magnitude(byte: u8) -> u16 {
    let code = !byte;
    let (segment, step) = ((code >> 4) & 7, u16::from(code & 0x0f) << 3);
    ((step + 0x84) << segment) - 0x84
}

/// Time between two measurements of a stream.
const SAMPLE_EVERY: Duration = Duration::from_millis(200);
/// Age of a measurement after which its side counts as silent.
const FRESH: Duration = Duration::from_millis(1_000);
/// Samples of a packet that are measured: 20 ms.
const MAX_SAMPLES: usize = 160;
/// Most calls with levels. A page shows no more.
const MAX_CALLS: usize = 500;
/// Full scale of 16 bits.
const FULL_SCALE: f64 = 32_768.0;
/// Range that is shown, dB: quieter is noise.
const RANGE_DB: f64 = 60.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_of_g711_follow_the_loudness() {
        // The loudest and the quietest codes of both laws (ITU-T G.711, tables 1 and 2).
        assert_eq!([a_law_magnitude(0xaa), a_law_magnitude(0xd5)], [32_256, 8]);
        assert_eq!([mu_law_magnitude(0x80), mu_law_magnitude(0xff)], [32_124, 0]);
        for (encoding, loud, quiet) in [("PCMA", 0xaa, 0xd5), ("PCMU", 0x80, 0xff)] {
            assert_eq!(level(Some(encoding), &[loud; 160]), VoiceLevel::Percent(100));
            assert_eq!(level(Some(encoding), &[quiet; 160]), VoiceLevel::Percent(0));
        }
        // 0xea of A-law is 2,016 of 32,768: 24 dB below full scale.
        assert_eq!(level(Some("PCMA"), &[0xea; 160]), VoiceLevel::Percent(60));
        assert_eq!(level(Some("opus"), &[1; 40]), VoiceLevel::Unmeasured);
        assert_eq!(level(Some("PCMA"), &[]), VoiceLevel::Percent(0));
        assert!(Some(VoiceLevel::Percent(0)) > Some(VoiceLevel::Unmeasured) && Some(VoiceLevel::Unmeasured) > None);
    }

    #[test]
    fn packets_between_two_measurements_are_not_measured() {
        let at = |ms: i64| Timestamp::from_micros(ms * 1_000);
        let mut newest = None;
        let mut heard = Vec::new();
        for (ms, byte) in [(0, 0xaa), (199, 0xd5), (200, 0xd5), (220, 0xaa)] {
            StreamLevel::update(&mut newest, at(ms), Some("PCMA"), &[byte; 160]);
            heard.push(newest.map(|newest| newest.level));
        }
        let percent = |n| Some(VoiceLevel::Percent(n));
        assert_eq!(heard, [percent(100), percent(100), percent(0), percent(0)]);
    }
}
