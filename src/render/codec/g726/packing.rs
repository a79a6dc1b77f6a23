//! Finds the packing of a G.726 stream by its sound.
//!
//! Quirk `g726_packing`: many devices send `G726-32` with the code words in the order of `AAL2-G726-32` (RFC 3551 section
//! 4.5.4 mentions them). Both orders decode, but the wrong one is rough: its samples jump.

use super::G726Decoder;
use crate::call::decision::PayloadFormat;
use crate::codec::{Codec, DecoderKind, G726Packing};
use crate::render::codec::SpeechDecoder;

/// Decodes a stream in both packings and compares their roughness.
#[derive(Debug)]
pub(crate) struct PackingJudge {
    announced: JudgedPacking,
    other: JudgedPacking,
    other_codec: Codec,
    sound: Vec<i16>,
}

#[derive(Debug)]
struct JudgedPacking {
    decoder: G726Decoder,
    samples: u64,
    energy: f64,
    /// Energy of the differences between neighbouring samples.
    rough: f64,
}

impl PackingJudge {
    /// Returns a judge for a format; `None` if it is not G.726.
    pub(crate) fn new(format: &PayloadFormat) -> Option<Self> {
        let DecoderKind::G726(rate, packing) = format.codec()?.decoder()? else { return None };
        let other = match packing {
            G726Packing::Rfc3551 => G726Packing::Aal2,
            G726Packing::Aal2 => G726Packing::Rfc3551,
        };
        Some(Self {
            announced: JudgedPacking::new(G726Decoder::new(rate, packing)),
            other: JudgedPacking::new(G726Decoder::new(rate, other)),
            other_codec: Codec::with_decoder(DecoderKind::G726(rate, other))?,
            sound: Vec::new(),
        })
    }

    /// Compares both packings over a payload, until enough was heard.
    pub(crate) fn handle_payload(&mut self, payload: &[u8]) {
        if self.announced.samples < ENOUGH_SAMPLES {
            self.announced.handle_payload(payload, &mut self.sound);
            self.other.handle_payload(payload, &mut self.sound);
        }
    }

    /// Returns the codec with the other packing if that is the true one.
    pub(crate) fn true_codec(&self) -> Option<Codec> {
        let is_other = self.other.roughness()? < ROUGHNESS_RATIO * self.announced.roughness()?;
        is_other.then_some(self.other_codec)
    }
}

impl JudgedPacking {
    const fn new(decoder: G726Decoder) -> Self {
        Self { decoder, samples: 0, energy: 0.0, rough: 0.0 }
    }

    fn handle_payload(&mut self, payload: &[u8], sound: &mut Vec<i16>) {
        sound.clear();
        if self.decoder.decode(payload, sound).is_err() {
            return;
        }
        let energy: f64 = sound.iter().map(|sample| f64::from(*sample).powi(2)).sum();
        // Quiet sound is noise in either packing.
        if energy > QUIET_POWER * sound.len() as f64 {
            self.samples += sound.len() as u64;
            self.energy += energy;
            self.rough += sound.windows(2).map(|pair| (f64::from(pair[1]) - f64::from(pair[0])).powi(2)).sum::<f64>();
        }
    }

    /// Returns the roughness, 0 to 4; `None` before enough sound.
    fn roughness(&self) -> Option<f64> {
        (self.samples >= MIN_SAMPLES).then(|| self.rough / self.energy)
    }
}

/// A packing is the true one if it is less rough by this factor.
const ROUGHNESS_RATIO: f64 = 0.7;
/// The square of 100, -50 dBov: below it, quantization noise prevails.
const QUIET_POWER: f64 = 100.0 * 100.0;
/// A fifth of a second of sound.
const MIN_SAMPLES: u64 = 1_600;
/// Ten seconds of sound prove the packing.
const ENOUGH_SAMPLES: u64 = 80_000;
