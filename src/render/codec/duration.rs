//! Returns how long the sound of a payload lasts, from its frames.
//!
//! The timeline relies on it where arrival times mislead, e.g. when a sender lets packets leave two at a time.

use super::amr;
use crate::call::decision::PayloadFormat;
use crate::codec::{AmrBand, Codec};

/// Returns the duration of a payload in ns; `None` if the codec does not say it, or there is no whole frame.
pub(crate) fn duration_ns(format: &PayloadFormat, payload: &[u8]) -> Option<i64> {
    let length_ns = match format.codec()? {
        Codec::Opus => opus_ns(payload)?,
        Codec::Amr => amr_ns(AmrBand::Narrow, format, payload)?,
        Codec::AmrWb => amr_ns(AmrBand::Wide, format, payload)?,
        #[cfg(feature = "speex")]
        Codec::Speex => super::speex::frames(format.clock_hz, payload) * FRAME_20_MS,
        _ => return duration_of_bytes(format, u32::try_from(payload.len()).ok()?),
    };
    (length_ns > 0).then_some(length_ns)
}

/// Returns the duration of a payload in ns from its length alone.
pub(crate) fn duration_of_bytes(format: &PayloadFormat, bytes: u32) -> Option<i64> {
    let length_ns = format.codec()?.duration_ns(bytes, format.clock_hz, format.channels)?;
    (length_ns > 0).then_some(length_ns)
}

fn amr_ns(band: AmrBand, format: &PayloadFormat, payload: &[u8]) -> Option<i64> {
    Some(amr::frames(band, &format.fmtp, payload)? * FRAME_20_MS)
}

/// Returns the duration of an Opus packet by its first bytes (RFC 6716 section 3.1).
fn opus_ns(payload: &[u8]) -> Option<i64> {
    let &toc = payload.first()?;
    let frame_us: i64 = match toc >> 3 {
        // SILK: 10, 20, 40, 60 ms.
        mode @ 0..=11 => [10_000, 20_000, 40_000, 60_000][usize::from(mode & 3)],
        // Hybrid: 10, 20 ms.
        mode @ 12..=15 => [10_000, 20_000][usize::from(mode & 1)],
        // CELT: 2.5, 5, 10, 20 ms.
        mode => [2_500, 5_000, 10_000, 20_000][usize::from(mode & 3)],
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => i64::from(payload.get(1)? & 0x3F),
    };
    // Section 3.4: a packet holds 120 ms at most.
    (frames * frame_us <= 120_000).then_some(frames * frame_us * 1_000)
}

/// Frames of AMR and Speex last 20 ms.
const FRAME_20_MS: i64 = 20_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_a_packet_give_its_duration() {
        let ms = |encoding: &str, fmtp: &str, payload: &[u8]| {
            let format = PayloadFormat { encoding: encoding.into(), clock_hz: 8_000, channels: 1, fmtp: fmtp.into() };
            duration_ns(&format, payload).map(|ns| ns as f64 / 1e6)
        };
        // SILK of 20 ms; CELT of 2.5 ms; three hybrid frames of 20 ms; nothing.
        assert_eq!(ms("OPUS", "", &[1 << 3, 0]), Some(20.0));
        assert_eq!(ms("OPUS", "", &[16 << 3, 0]), Some(2.5));
        assert_eq!(ms("OPUS", "", &[15 << 3 | 3, 3, 0]), Some(60.0));
        assert_eq!(ms("OPUS", "", &[]), None);
        // AMR 12.2 bandwidth-efficient: 4 + 6 + 244 bits are 32 bytes. Octet-aligned: 1 + 1 + 31 bytes.
        let mut narrow = [0; 32];
        (narrow[0], narrow[1]) = (0xF3, 0xC0);
        assert_eq!(ms("AMR", "", &narrow), Some(20.0));
        let mut aligned = [0; 33];
        (aligned[0], aligned[1]) = (0xF0, 0x3C);
        assert_eq!(ms("AMR", "octet-align=1", &aligned), Some(20.0));
        assert_eq!(ms("AMR", "", &aligned), Some(20.0), "the form tells the alignment");
        assert_eq!(ms("G729", "", &[0; 21]), Some(20.0));
    }
}
