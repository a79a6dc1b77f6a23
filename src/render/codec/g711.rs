//! Decodes G.711: A-law and mu-law, one byte a sample (ITU-T G.711; RFC 3551 section 4.5.14).

use super::conceal::Concealer;
use super::stereo::StereoDownmix;
use super::{DecodeError, SpeechDecoder};
use crate::codec::CompandingLaw;
use crate::codec::g711::linear_values;
use crate::render::report::PayloadQuirk;

/// Decoder of one G.711 stream, with the recent sound that conceals losses.
#[derive(Clone, Debug)]
pub(crate) struct G711Decoder {
    table: &'static [i16; 256],
    rate_hz: u32,
    channels: usize,
    stereo: StereoDownmix,
    concealer: Concealer,
}

impl G711Decoder {
    /// Returns a decoder for a companding law. Two interleaved channels are mixed to their mean.
    pub(crate) fn new(law: CompandingLaw, rate_hz: u32, channels: usize) -> Self {
        let (table, stereo) = (linear_values(law), StereoDownmix::default());
        Self { table, rate_hz, channels, stereo, concealer: Concealer::new(rate_hz) }
    }
}

impl SpeechDecoder for G711Decoder {
    fn sample_rate_hz(&self) -> u32 {
        self.rate_hz
    }

    fn decode(&mut self, payload: &[u8], out: &mut Vec<i16>) -> Result<(), DecodeError> {
        if payload.len() < self.channels {
            return Err(DecodeError::Length);
        }
        let at = out.len();
        let table = self.table;
        if self.channels == 2 {
            let pairs = payload.as_chunks().0.iter().map(|&[l, r]| (table[usize::from(l)], table[usize::from(r)]));
            self.stereo.extend(pairs, out);
        } else {
            out.extend(payload.iter().map(|&code| table[usize::from(code)]));
        }
        self.concealer.note_decoded(&mut out[at..]);
        Ok(())
    }

    fn conceal(&mut self, samples: usize, _next: Option<&[u8]>, out: &mut Vec<i16>) {
        self.concealer.conceal(samples, out);
    }

    fn quirk(&self) -> Option<PayloadQuirk> {
        self.stereo.is_opposite().then_some(PayloadQuirk::OppositePhases)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_channels_become_their_mean() {
        let mut decoder = G711Decoder::new(CompandingLaw::A, 8000, 2);
        let mut out = Vec::new();
        decoder.decode(&[0xAA, 0xD5, 0xAA, 0xAA], &mut out).unwrap();
        assert_eq!(out, [2016 * 8 + 4, 4032 * 8]);
    }

    #[test]
    fn an_empty_payload_is_refused() {
        assert_eq!(G711Decoder::new(CompandingLaw::Mu, 8000, 1).decode(&[], &mut Vec::new()), Err(DecodeError::Length));
    }
}
