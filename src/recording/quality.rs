//! Voice quality of a side: the measurements of rendering, and an estimated MOS (ITU-T G.107).
//!
//! The MOS is computed by the E-model with default values, from the equipment impairment of the codec (G.113 appendix
//! I) and the measured loss. Loss is assumed to be random. A passive listener cannot measure the mouth-to-ear delay, so
//! [`ASSUMED_DELAY_MS`] is used. Wideband codecs use another scale (G.107.1) and get no estimate.

use crate::call::record::{CallProblem, LossRecord, ProblemKind, Side, SideRecord};
use crate::codec::{Codec, EquipmentImpairment};
use crate::render::{RenderReport, SideReport, SoundLoss};
use crate::time::Timestamp;

/// Writes the measurements of rendering into the record of a side. `starts_at` is the capture time at which the
/// recording begins.
pub(super) fn apply_quality(side: &mut SideRecord, report: &SideReport, starts_at: Timestamp) {
    let place = |us: u64| starts_at + std::time::Duration::from_micros(us);
    let record = |loss: &SoundLoss| LossRecord {
        from: place(loss.from_us),
        to: place(loss.to_us),
        packets: loss.packets,
        concealed_ms: (loss.concealed_us + 500) / 1_000,
    };
    side.losses = report.losses.iter().map(record).collect();
    side.concealed_ms = Some((report.concealed_us + 500) / 1_000);
    side.late = Some(report.late);
    side.burst_loss = Some(report.burst_loss);
    side.talk_s = Some(rounded(report.talk_s, 1_000.0));
    side.silence_s = Some(rounded(report.silence_s, 1_000.0));
    side.clipped_samples = Some(report.clipped);
    side.peak_dbfs = (report.peak > 0).then(|| rounded(20.0 * (f64::from(report.peak) / 32_768.0).log10(), 10.0));
    let heard = report.decoded > 0;
    side.mos = if heard { main_codec(side).and_then(|codec| mos(codec, loss(side, report))) } else { None };
}

/// Finds a side that sent packets without speech while the other side talked. Returns this side and the problem to
/// report.
pub(super) fn find_one_way_audio(report: &RenderReport, sample_rate: u32) -> Option<(Side, CallProblem)> {
    let length_s = report.samples as f64 / f64::from(sample_rate.max(1));
    // In a short call a silent side is normal, so nothing is reported.
    if length_s < SHORT_S {
        return None;
    }
    let is_mute = |side: Side| {
        let (own, other) = (&report.sides[side.channel()], &report.sides[side.other().channel()]);
        own.decoded > 0 && own.withheld < own.decoded && own.talk_s == 0.0 && other.talk_s > 0.0
    };
    let side = [Side::Caller, Side::Callee].into_iter().find(|side| is_mute(*side))?;
    let packets = report.sides[side.channel()].decoded;
    Some((side, ProblemKind::OneWayAudio.with_packets(packets)))
}

/// Estimates the conversational MOS (G.107 appendix B) for a codec and a loss ratio from 0 to 1. Returns `None` if
/// G.113 has no equipment impairment for the codec.
fn mos(codec: &str, loss: f64) -> Option<f64> {
    let EquipmentImpairment { ie, bpl } = Codec::from_name(codec)?.impairment()?;
    let percent = 100.0 * loss;
    // Effective equipment impairment (G.107 equation 7-29) with BurstR = 1, i.e. random loss.
    let effective = ie + (95.0 - ie) * percent / (percent + bpl);
    // Approximation of the delay impairment: it is 0.024 per ms for delays below 177 ms.
    let rating = (DEFAULT_RATING - 0.024 * ASSUMED_DELAY_MS - effective).clamp(0.0, 100.0);
    let mos = 1.0 + 0.035 * rating + rating * (rating - 60.0) * (100.0 - rating) * 7e-6;
    Some(rounded(mos.clamp(1.0, 4.5), 100.0))
}

fn loss(side: &SideRecord, report: &SideReport) -> f64 {
    let lost = (side.lost + report.late) as f64;
    if lost == 0.0 { 0.0 } else { lost / (side.packets + side.lost) as f64 }
}

/// Returns the codec of the stream with the most packets; `None` if the side has no stream with a known codec.
fn main_codec(side: &SideRecord) -> Option<&str> {
    side.streams.iter().max_by_key(|stream| stream.packets)?.codec.as_deref()
}

fn rounded(value: f64, by: f64) -> f64 {
    (value * by).round() / by
}

/// Assumed mouth-to-ear delay, ms: that of a good network.
const ASSUMED_DELAY_MS: f64 = 150.0;
/// Transmission rating factor R of G.107 with default values and no delay.
const DEFAULT_RATING: f64 = 93.2;
/// Minimum length of a recording that is checked for one-way audio, seconds.
const SHORT_S: f64 = 5.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mos_has_the_values_of_the_e_model() {
        // R = 93.2 - 3.6 = 89.6 for G.711 without loss: MOS 4.33 by the formula of appendix B.
        assert_eq!(mos("PCMA", 0.0), Some(4.33));
        // For G.729 the E-model gives R = 78.6 and so a MOS of 3.97.
        assert_eq!(mos("G729", 0.0), Some(3.97));
        assert_eq!(mos("G729A", 0.0), Some(3.97), "an alias is the same codec");
        // G.711 with 5 % loss: Ie = 95 * 5 / 30.1 = 15.78, R = 73.8, MOS 1 + 2.584 + 0.187.
        assert_eq!(mos("PCMU", 0.05), Some(3.77));
        assert!(mos("PCMU", 1.0).is_some_and(|mos| (1.0..1.5).contains(&mos)));
        assert_eq!(mos("OPUS", 0.0), None);
    }

    #[test]
    fn silent_side_with_packets_is_one_way_audio() {
        let talking = SideReport { decoded: 500, talk_s: 4.0, ..SideReport::default() };
        let mute = SideReport { decoded: 500, ..SideReport::default() };
        let report = |samples, sides| RenderReport { samples, sides, torn_tail: false };
        let found =
            find_one_way_audio(&report(80_000, [talking.clone(), mute.clone()]), 8_000).map(|(side, p)| (side, p.kind));
        assert_eq!(found, Some((Side::Callee, ProblemKind::OneWayAudio)));
        assert_eq!(find_one_way_audio(&report(80_000, [mute.clone(), mute.clone()]), 8_000), None, "nobody spoke");
        assert_eq!(find_one_way_audio(&report(8_000, [talking.clone(), mute.clone()]), 8_000), None, "too short");
        assert_eq!(
            find_one_way_audio(&report(80_000, [talking.clone(), SideReport::default()]), 8_000),
            None,
            "no packets"
        );
        let paused = SideReport { withheld: 600, ..mute };
        assert_eq!(find_one_way_audio(&report(80_000, [talking, paused]), 8_000), None, "paused");
    }
}
