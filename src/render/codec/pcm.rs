//! Decodes uncompressed samples: L16 and L8 (RFC 3551 sections 4.5.10 and 4.5.11).

use super::byte_order::ByteOrderJudge;
use super::conceal::Concealer;
use super::stereo::StereoDownmix;
use super::{DecodeError, SpeechDecoder};
use crate::codec::PcmWidth;
use crate::render::report::PayloadQuirk;

/// Decoder of one stream of uncompressed samples.
#[derive(Clone, Debug)]
pub(crate) struct PcmDecoder {
    width: PcmWidth,
    rate_hz: u32,
    channels: usize,
    order: ByteOrderJudge,
    stereo: StereoDownmix,
    concealer: Concealer,
}

impl PcmDecoder {
    /// Returns a decoder for samples of 8 or 16 bits. Two interleaved channels are mixed to their mean.
    pub(crate) fn new(width: PcmWidth, rate_hz: u32, channels: usize) -> Self {
        Self {
            width,
            rate_hz,
            channels,
            order: ByteOrderJudge::default(),
            stereo: StereoDownmix::default(),
            concealer: Concealer::new(rate_hz),
        }
    }

    fn extend(&mut self, samples: impl Iterator<Item = i16> + Clone, out: &mut Vec<i16>) {
        if self.channels == 2 {
            let right = samples.clone().skip(1).step_by(2);
            self.stereo.extend(samples.step_by(2).zip(right), out);
        } else {
            out.extend(samples);
        }
    }
}

impl SpeechDecoder for PcmDecoder {
    fn sample_rate_hz(&self) -> u32 {
        self.rate_hz
    }

    fn decode(&mut self, payload: &[u8], out: &mut Vec<i16>) -> Result<(), DecodeError> {
        let size = self.channels * if self.width == PcmWidth::Sixteen { 2 } else { 1 };
        if payload.is_empty() || !payload.len().is_multiple_of(size) {
            return Err(DecodeError::Length);
        }
        let at = out.len();
        match self.width {
            PcmWidth::Sixteen => {
                let (pairs, _) = payload.as_chunks();
                if self.order.is_little_endian(pairs, self.channels) {
                    self.extend(pairs.iter().map(|&pair| i16::from_le_bytes(pair)), out);
                } else {
                    self.extend(pairs.iter().map(|&pair| i16::from_be_bytes(pair)), out);
                }
            }
            PcmWidth::Eight => self.extend(payload.iter().map(|&byte| (i16::from(byte) - 128) << 8), out),
        }
        self.concealer.note_decoded(&mut out[at..]);
        Ok(())
    }

    fn conceal(&mut self, samples: usize, _next: Option<&[u8]>, out: &mut Vec<i16>) {
        self.concealer.conceal(samples, out);
    }

    fn quirk(&self) -> Option<PayloadQuirk> {
        let is_swapped = self.order.is_swapped().then_some(PayloadQuirk::ByteOrder);
        is_swapped.or(self.stereo.is_opposite().then_some(PayloadQuirk::OppositePhases))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_big_endian_and_two_channels_become_their_mean() {
        let mut out = Vec::new();
        PcmDecoder::new(PcmWidth::Sixteen, 44_100, 2)
            .decode(&[0x01, 0x00, 0x02, 0x00, 0xFF, 0xFE, 0x00, 0x00], &mut out)
            .unwrap();
        assert_eq!(out, [0x180, -1]);
        out.clear();
        PcmDecoder::new(PcmWidth::Eight, 8_000, 1).decode(&[0, 128, 255], &mut out).unwrap();
        assert_eq!(out, [-32_768, 0, 32_512]);
    }

    #[test]
    fn half_a_sample_is_refused() {
        assert_eq!(
            PcmDecoder::new(PcmWidth::Sixteen, 8_000, 1).decode(&[1, 2, 3], &mut Vec::new()),
            Err(DecodeError::Length)
        );
        assert_eq!(
            PcmDecoder::new(PcmWidth::Sixteen, 8_000, 2).decode(&[1, 2], &mut Vec::new()),
            Err(DecodeError::Length)
        );
    }
}
