//! Computes the duration of the sound in a payload from its content: frame counts, frame types and lengths.
//!
//! The duration also helps to choose between two possible formats of a payload. With the wrong format, it rarely agrees
//! with the RTP timestamps.

use super::{AmrBand, Codec, amr_form};

/// Parameters of a payload format that the duration of a payload depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FormatParameters<'a> {
    /// Rate of the RTP timestamps, Hz.
    pub(crate) clock_hz: u32,
    /// Number of interleaved audio channels.
    pub(crate) channels: u8,
    /// Parameters of the `a=fmtp` line of the session description, e.g. `mode=20`; empty without such a line.
    pub(crate) fmtp: &'a str,
}

impl Codec {
    /// Returns the duration of the sound in a payload, ns. Returns `None` if the content does not determine it, or
    /// contains no whole frame.
    pub(crate) fn payload_duration_ns(self, format: FormatParameters<'_>, payload: &[u8]) -> Option<i64> {
        let length_ns = match self {
            Self::Opus => opus_ns(payload)?,
            Self::Amr => amr_form::frames(AmrBand::Narrow, format.fmtp, payload)? * FRAME_20_MS,
            Self::AmrWb => amr_form::frames(AmrBand::Wide, format.fmtp, payload)? * FRAME_20_MS,
            Self::Speex => speex_frames(payload)? * FRAME_20_MS,
            _ => self.duration_ns(u32::try_from(payload.len()).ok()?, format.clock_hz, format.channels)?,
        };
        (length_ns > 0).then_some(length_ns)
    }
}

/// Returns the duration of an Opus packet in ns, as its first bytes state it (RFC 6716 section 3.1).
fn opus_ns(payload: &[u8]) -> Option<i64> {
    let &toc = payload.first()?;
    let frame_us: i64 = match toc >> 3 {
        // SILK frames last 10, 20, 40 or 60 ms.
        mode @ 0..=11 => [10_000, 20_000, 40_000, 60_000][usize::from(mode & 3)],
        // Hybrid frames (SILK and CELT together) last 10 or 20 ms.
        mode @ 12..=15 => [10_000, 20_000][usize::from(mode & 1)],
        // CELT frames last 2.5, 5, 10 or 20 ms.
        mode => [2_500, 5_000, 10_000, 20_000][usize::from(mode & 3)],
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => i64::from(payload.get(1)? & 0x3F),
    };
    // RFC 6716 section 3.4: a packet holds 120 ms at most. A longer duration is invalid.
    (frames * frame_us <= 120_000).then_some(frames * frame_us * 1_000)
}

/// Returns the number of frames in a Speex payload (RFC 5574 section 3.3; Speex codec manual, chapters 9 and 10).
/// Returns `None` if the modes of the frames do not add up to its length.
fn speex_frames(payload: &[u8]) -> Option<i64> {
    let total = payload.len() * 8;
    let bits = |at: usize, count: usize| {
        let bit = |n: usize| payload.get(n / 8).map(|byte| usize::from(byte >> (7 - n % 8) & 1));
        (at..at + count).try_fold(0, |value, n| Some(value << 1 | bit(n)?))
    };
    let (mut at, mut frames) = (0, 0);
    while total - at >= 5 && bits(at, 5)? != SPEEX_TERMINATOR {
        // A wideband layer (sound above 4 kHz) begins with a 1 bit and three bits for its mode. A narrowband frame
        // begins with a 0 bit and four bits for its mode.
        at += match bits(at, 1)? {
            1 if frames > 0 => *SPEEX_LAYER_BITS.get(bits(at + 1, 3)?)?,
            0 => {
                frames += 1;
                *SPEEX_FRAME_BITS.get(bits(at + 1, 4)?)?
            }
            _ => return None,
        };
        if at > total {
            return None;
        }
    }
    (total - at < 16).then_some(frames)
}

/// Duration of an AMR or Speex frame: 20 ms, in ns.
const FRAME_20_MS: i64 = 20_000_000;
/// Value of the five bits that follow the last frame of a Speex payload.
const SPEEX_TERMINATOR: usize = 15;
/// Number of bits of a narrowband Speex frame, indexed by its mode.
const SPEEX_FRAME_BITS: [usize; 9] = [5, 43, 119, 160, 220, 300, 364, 492, 79];
/// Number of bits of a wideband or ultra-wideband Speex layer, indexed by its mode.
const SPEEX_LAYER_BITS: [usize; 5] = [4, 36, 112, 192, 352];

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(codec: Codec, fmtp: &str, payload: &[u8]) -> Option<f64> {
        let format = FormatParameters { clock_hz: 8_000, channels: 1, fmtp };
        codec.payload_duration_ns(format, payload).map(|ns| ns as f64 / 1e6)
    }

    #[test]
    fn frames_of_a_packet_give_its_duration() {
        // The packets, in this order: SILK of 20 ms; CELT of 2.5 ms; three hybrid frames of 20 ms; an empty packet.
        assert_eq!(ms(Codec::Opus, "", &[1 << 3, 0]), Some(20.0));
        assert_eq!(ms(Codec::Opus, "", &[16 << 3, 0]), Some(2.5));
        assert_eq!(ms(Codec::Opus, "", &[15 << 3 | 3, 3, 0]), Some(60.0));
        assert_eq!(ms(Codec::Opus, "", &[]), None);
        // AMR 12.2 bandwidth-efficient: 4 + 6 + 244 bits are 32 bytes. Octet-aligned: 1 + 1 + 31 bytes.
        let mut narrow = [0; 32];
        (narrow[0], narrow[1]) = (0xF3, 0xC0);
        assert_eq!(ms(Codec::Amr, "", &narrow), Some(20.0));
        let mut aligned = [0; 33];
        (aligned[0], aligned[1]) = (0xF0, 0x3C);
        assert_eq!(ms(Codec::Amr, "octet-align=1", &aligned), Some(20.0));
        assert_eq!(ms(Codec::Amr, "", &aligned), Some(20.0), "the form tells the alignment");
        assert_eq!(ms(Codec::G729, "", &[0; 21]), Some(20.0));
        // Speex of 8 kbit/s (mode 3) has 160 bits. Together with a wideband layer of mode 1 it has 196 bits.
        let mut speex = [0; 25];
        (speex[0], speex[20]) = (3 << 3, 0b1001_0000);
        assert_eq!(ms(Codec::Speex, "", &speex[..20]), Some(20.0));
        assert_eq!(ms(Codec::Speex, "", &speex), Some(20.0));
        assert_eq!(ms(Codec::Speex, "", &speex[..15]), None, "the frame is cut");
    }
}
