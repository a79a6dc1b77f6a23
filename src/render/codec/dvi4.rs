//! Decodes DVI4: IMA ADPCM with 4 bits a sample. Each packet begins with the state of the coder (RFC 3551 section
//! 4.5.1).

use super::conceal::Concealer;
use super::{DecodeError, SpeechDecoder};

/// Decoder of one DVI4 stream. Packets do not depend on each other.
#[derive(Clone, Debug)]
pub(crate) struct Dvi4Decoder {
    rate_hz: u32,
    concealer: Concealer,
}

impl Dvi4Decoder {
    /// Returns a decoder for this sampling rate in Hz.
    pub(crate) fn new(rate_hz: u32) -> Self {
        Self { rate_hz, concealer: Concealer::new(rate_hz) }
    }
}

impl SpeechDecoder for Dvi4Decoder {
    fn sample_rate_hz(&self) -> u32 {
        self.rate_hz
    }

    fn decode(&mut self, payload: &[u8], out: &mut Vec<i16>) -> Result<(), DecodeError> {
        let (&[high, low, index, _reserved], codes) = payload.split_first_chunk().ok_or(DecodeError::Length)?;
        if usize::from(index) >= STEPS.len() {
            return Err(DecodeError::Content);
        }
        let mut state = AdpcmState { predicted: i16::from_be_bytes([high, low]), index: index.into() };
        let at = out.len();
        // The first sample is in the upper half of the octet, unlike in a WAV file.
        out.extend(codes.iter().flat_map(|&octet| [octet >> 4, octet & 15]).map(|code| state.next(code)));
        self.concealer.note_decoded(&mut out[at..]);
        Ok(())
    }

    fn conceal(&mut self, samples: usize, _next: Option<&[u8]>, out: &mut Vec<i16>) {
        self.concealer.conceal(samples, out);
    }
}

/// State of the coder: the predicted value, and the index into the table of step sizes.
struct AdpcmState {
    predicted: i16,
    index: i32,
}

impl AdpcmState {
    /// Decodes one code of 4 bits to the next sample (IMA recommended practices 3.00, section 6).
    fn next(&mut self, code: u8) -> i16 {
        let step = STEPS[self.index as usize];
        let mut difference = step >> 3;
        for (bit, part) in [(4, step), (2, step >> 1), (1, step >> 2)] {
            if code & bit != 0 {
                difference += part;
            }
        }
        let value = i32::from(self.predicted) + if code & 8 != 0 { -difference } else { difference };
        self.predicted = value.clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16;
        self.index = (self.index + INDEX_MOVES[usize::from(code & 7)]).clamp(0, STEPS.len() as i32 - 1);
        self.predicted
    }
}

const INDEX_MOVES: [i32; 8] = [-1, -1, -1, -1, 2, 4, 6, 8];

const STEPS: [i32; 89] = [
    7, 8, 9, 10, 11, 12, 13, 14, 16, 17, 19, 21, 23, 25, 28, 31, 34, 37, 41, 45, 50, 55, 60, 66, 73, 80, 88, 97, 107,
    118, 130, 143, 157, 173, 190, 209, 230, 253, 279, 307, 337, 371, 408, 449, 494, 544, 598, 658, 724, 796, 876, 963,
    1060, 1166, 1282, 1411, 1552, 1707, 1878, 2066, 2272, 2499, 2749, 3024, 3327, 3660, 4026, 4428, 4871, 5358, 5894,
    6484, 7132, 7845, 8630, 9493, 10_442, 11_487, 12_635, 13_899, 15_289, 16_818, 18_500, 20_350, 22_385, 24_623,
    27_086, 29_794, 32_767,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_begins_from_the_state_in_its_header() {
        let mut out = Vec::new();
        Dvi4Decoder::new(8_000).decode(&[0x03, 0xE8, 10, 0, 0x4C], &mut out).unwrap();
        // Index 10 has step size 19: code 4 adds 19 + 19/8 = 21. The index moves to 12 with step size 23: code 12
        // subtracts 23 + 23/8 = 25.
        assert_eq!(out, [1021, 996]);
    }

    #[test]
    fn a_header_outside_the_table_or_cut_short_is_refused() {
        let mut out = Vec::new();
        assert_eq!(Dvi4Decoder::new(8_000).decode(&[0, 0, 89, 0, 1], &mut out), Err(DecodeError::Content));
        assert_eq!(Dvi4Decoder::new(8_000).decode(&[0, 0, 1], &mut out), Err(DecodeError::Length));
    }
}
