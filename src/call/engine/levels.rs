//! Voice levels of live calls, for the live page of the console.
//!
//! Nothing is measured until [`Engine::watch_levels`] is called. Then in each interval of [`SAMPLE_EVERY`] one packet
//! of each G.711 stream is measured. Other codecs would have to be decoded, so for them only the arrival of packets is
//! reported. Encrypted and paused media is not measured.

use std::time::Duration;

use super::Engine;
use crate::call::leg::Leg;
use crate::call::record::Side;
use crate::call::roles::CallRoles;
use crate::call::streams::RtpStream;
use crate::codec::g711::linear_values;
use crate::codec::{Codec, DecoderKind};
use crate::time::Timestamp;

/// Loudness of a voice in one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum VoiceLevel {
    /// Packets arrive, but their level is unknown, because the codec would have to be decoded.
    Unmeasured,
    /// Level in per cent: 0 is 60 dB below full scale, 100 is full scale.
    Percent(u8),
}

/// Voice levels (loudness) of both sides of a live call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CallLevels {
    /// Id of the call in the journal.
    pub(crate) id: String,
    /// Levels of caller and callee; `None` if no packet arrived recently.
    pub(crate) sides: [Option<VoiceLevel>; 2],
}

/// The newest loudness that was measured in a stream, with its capture time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamLevel {
    at: Timestamp,
    level: VoiceLevel,
}

impl StreamLevel {
    /// Returns whether the next packet must be measured: the newest measurement is older than [`SAMPLE_EVERY`].
    pub(crate) fn is_due(newest: Option<Self>, at: Timestamp) -> bool {
        newest.is_none_or(|newest| at.since(newest.at) >= SAMPLE_EVERY)
    }

    /// Measures the loudness of a packet. Only G.711 can be measured; the loudness of other codecs is unknown.
    pub(crate) fn of(at: Timestamp, encoding: Option<&str>, payload: &[u8]) -> Self {
        Self { at, level: level(encoding, payload) }
    }
}

impl Engine {
    /// Switches the measurement of voice levels on or off.
    pub(crate) const fn watch_levels(&mut self, is_wanted: bool) {
        self.settings.measures_levels = is_wanted;
    }

    /// Returns the voice levels of both sides of the calls with these ids. A call that is over has no levels.
    pub(crate) fn live_levels(&self, ids: Vec<String>) -> Vec<CallLevels> {
        let levels = ids.into_iter().map(|id| {
            let call = self.table.call_by_id(&id);
            let legs: Vec<&Leg> = call.map(|key| self.table.legs_of(key).collect()).unwrap_or_default();
            CallLevels { sides: self.sides(&legs), id }
        });
        levels.collect()
    }

    /// Returns the ids of all live calls.
    #[cfg(test)]
    pub(crate) fn live_call_ids(&self) -> Vec<String> {
        self.table.calls().map(|(_, call)| call.id.clone()).collect()
    }

    /// Returns the highest recent level of each side over all legs of a call, because all legs carry the same voices.
    fn sides(&self, legs: &[&Leg]) -> [Option<VoiceLevel>; 2] {
        let mut sides = [None, None];
        let Some(roles) = CallRoles::from_legs(legs, &self.site.plan) else { return sides };
        for leg in legs {
            let has_same_sides = roles.has_same_sides(leg);
            for (side, level) in leg.media.streams().iter().filter_map(|stream| self.recent_level(stream)) {
                let side = if has_same_sides { side } else { side.other() };
                let highest = &mut sides[side.channel()];
                *highest = (*highest).max(Some(level));
            }
        }
        sides
    }

    /// Returns the level of a stream with its side; `None` if its last measurement is too old.
    fn recent_level(&self, stream: &RtpStream) -> Option<(Side, VoiceLevel)> {
        let newest = stream.level().filter(|newest| self.clock.now.since(newest.at) < FRESH)?;
        Some((stream.side, newest.level))
    }
}

/// Returns the loudness of a packet with this encoding; [`VoiceLevel::Unmeasured`] for any codec but G.711.
fn level(encoding: Option<&str>, payload: &[u8]) -> VoiceLevel {
    let decoder = encoding.and_then(Codec::from_name).and_then(Codec::decoder);
    let Some(DecoderKind::G711(law)) = decoder else { return VoiceLevel::Unmeasured };
    let values = linear_values(law);
    let samples = payload.iter().take(MAX_SAMPLES);
    let count = samples.len().max(1) as f64;
    let square = samples.map(|code| f64::from(values[usize::from(*code)]).powi(2)).sum::<f64>() / count;
    let db = 10.0 * (square.max(1.0) / FULL_SCALE.powi(2)).log10();
    VoiceLevel::Percent((100.0 * (1.0 + db / RANGE_DB)).clamp(0.0, 100.0).round() as u8)
}

/// Minimum time between two measurements of the loudness of one stream.
const SAMPLE_EVERY: Duration = Duration::from_millis(200);
/// Maximum age of a measurement. A side without a newer measurement counts as silent.
const FRESH: Duration = Duration::from_millis(1_000);
/// Maximum number of samples of a packet that are measured: 20 ms at 8 kHz.
const MAX_SAMPLES: usize = 160;
/// Amplitude of a 16-bit sample at full scale.
const FULL_SCALE: f64 = 32_768.0;
/// Lowest level that is shown, dB below full scale. Quieter sound is noise.
const RANGE_DB: f64 = 60.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_of_g711_follow_the_loudness() {
        // The expected values are for the loudest and the quietest codes of both laws (ITU-T G.711, tables 1 and 2).
        for (encoding, loud, quiet) in [("PCMA", 0xaa, 0xd5), ("PCMU", 0x80, 0xff)] {
            assert_eq!(level(Some(encoding), &[loud; 160]), VoiceLevel::Percent(100));
            assert_eq!(level(Some(encoding), &[quiet; 160]), VoiceLevel::Percent(0));
        }
        // The A-law code 0xea has the value 2,016 of 32,768, i.e. 24 dB below full scale. That is 60 per cent of the
        // range of 60 dB.
        assert_eq!(level(Some("PCMA"), &[0xea; 160]), VoiceLevel::Percent(60));
        assert_eq!(level(Some("opus"), &[1; 40]), VoiceLevel::Unmeasured);
        assert_eq!(level(Some("PCMA"), &[]), VoiceLevel::Percent(0));
        assert!(Some(VoiceLevel::Percent(0)) > Some(VoiceLevel::Unmeasured) && Some(VoiceLevel::Unmeasured) > None);
    }

    #[test]
    fn packets_between_two_measurements_are_not_measured() {
        let at = |ms: i64| Timestamp::from_micros(ms * 1_000);
        assert!(StreamLevel::is_due(None, at(0)));
        let newest = StreamLevel::of(at(0), Some("PCMA"), &[0xaa; 160]);
        assert_eq!([199, 200].map(|ms| StreamLevel::is_due(Some(newest), at(ms))), [false, true]);
    }
}
