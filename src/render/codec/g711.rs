//! Decodes G.711: A-law and mu-law, one byte a sample (ITU-T G.711; RFC 3551 section 4.5.14).

use super::conceal::Concealer;
use super::stereo::StereoDownmix;
use super::{DecodeError, SpeechDecoder};
use crate::codec::CompandingLaw;
use crate::render::report::PayloadQuirk;

/// Returns the linear value of each code word, scaled to 16 bits as the G.191 reference software does.
pub(crate) const fn linear_values(law: CompandingLaw) -> &'static [i16; 256] {
    match law {
        CompandingLaw::A => &A_LAW,
        CompandingLaw::Mu => &MU_LAW,
    }
}

/// Decoder of one G.711 stream.
#[derive(Clone, Debug)]
pub(crate) struct G711Decoder {
    table: &'static [i16; 256],
    rate_hz: u32,
    channels: usize,
    stereo: StereoDownmix,
    concealer: Concealer,
}

impl G711Decoder {
    /// Returns a decoder. Two interleaved channels are mixed to their mean.
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

/// Decodes A-law (G.711 table 1a): even bits are inverted (0x55), then sign, 3 bits of segment, 4 bits of interval.
const fn a_law(code: u8) -> i16 {
    let code = code ^ 0x55;
    let segment = (code >> 4) & 7;
    let interval = ((code & 15) as i16) << 4;
    let magnitude = if segment == 0 { interval + 8 } else { (interval + 0x108) << (segment - 1) };
    if code & 0x80 == 0 { -magnitude } else { magnitude }
}

/// Decodes mu-law (G.711 table 2a): all bits are inverted, and the bias of 33 (132 on the 16-bit scale) is subtracted.
const fn mu_law(code: u8) -> i16 {
    let code = !code;
    let magnitude = ((((code & 15) as i16) << 3) + 0x84) << ((code >> 4) & 7);
    if code & 0x80 == 0 { magnitude - 0x84 } else { 0x84 - magnitude }
}

const fn tabulate(law: CompandingLaw) -> [i16; 256] {
    let mut table = [0; 256];
    let mut code = 0;
    while code < 256 {
        table[code] = match law {
            CompandingLaw::A => a_law(code as u8),
            CompandingLaw::Mu => mu_law(code as u8),
        };
        code += 1;
    }
    table
}

static A_LAW: [i16; 256] = tabulate(CompandingLaw::A);
static MU_LAW: [i16; 256] = tabulate(CompandingLaw::Mu);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_words_have_the_values_of_the_recommendation() {
        // The largest, smallest and quietest values of G.711 tables 1a and 2a, on the 16-bit scale (A-law: 13 bits <<
        // 3; mu-law: 14 bits << 2).
        assert_eq!(A_LAW[0xAA], 4032 * 8);
        assert_eq!(A_LAW[0x2A], -4032 * 8);
        assert_eq!((A_LAW[0xD5], A_LAW[0x55]), (8, -8));
        assert_eq!(MU_LAW[0x80], 8031 * 4);
        assert_eq!(MU_LAW[0x00], -8031 * 4);
        assert_eq!((MU_LAW[0xFF], MU_LAW[0x7F]), (0, 0));
    }

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
