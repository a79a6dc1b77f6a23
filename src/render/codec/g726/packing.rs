//! Finds the order of the code words in a G.726 stream by decoding it in both orders.
//!
//! Quirk `g726_packing`: many devices send `G726-32` with the code words in the order of `AAL2-G726-32` (RFC 3551
//! section 4.5.4 mentions such devices). Both orders decode without error. In the wrong order the sound resembles
//! noise: a sample hardly depends on the previous samples. So the right order is the one with samples that linear
//! prediction predicts better.

use super::G726Decoder;
use crate::call::decision::PayloadFormat;
use crate::codec::{Codec, DecoderKind, G726Packing};
use crate::render::codec::SpeechDecoder;

/// Decodes a G.726 stream in both packings (orders of the code words in a byte). Compares how well linear prediction
/// predicts the two results.
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
    /// Number of samples in the loud payloads that were decoded with this packing so far.
    samples: u64,
    payloads: u64,
    /// Sum of the prediction errors of all loud payloads. The error of a payload is the logarithm (nepers) of the share
    /// of its energy that prediction does not explain.
    error: f64,
}

impl PackingJudge {
    /// Begins to find out in which packing (order of the code words in a byte) a stream of this format is. Returns
    /// `None` if the format is not G.726.
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

    /// Decodes a payload in both packings, and measures how well each result can be predicted. Does nothing once
    /// [`ENOUGH_SAMPLES`] were measured.
    pub(crate) fn handle_payload(&mut self, payload: &[u8]) {
        if self.announced.samples < ENOUGH_SAMPLES {
            self.announced.handle_payload(payload, &mut self.sound);
            self.other.handle_payload(payload, &mut self.sound);
        }
    }

    /// Returns the codec with the other packing (order of the code words in a byte) if the payloads have that packing;
    /// `None` otherwise.
    pub(crate) fn true_codec(&self) -> Option<Codec> {
        let is_other = self.other.error()? < self.announced.error()? - MIN_DIFFERENCE;
        is_other.then_some(self.other_codec)
    }
}

impl JudgedPacking {
    const fn new(decoder: G726Decoder) -> Self {
        Self { decoder, samples: 0, payloads: 0, error: 0.0 }
    }

    fn handle_payload(&mut self, payload: &[u8], sound: &mut Vec<i16>) {
        sound.clear();
        if self.decoder.decode(payload, sound).is_err() {
            return;
        }
        let energy: f64 = sound.iter().map(|sample| f64::from(*sample).powi(2)).sum();
        // Only loud payloads decide the packing (order of the code words in a byte). Quiet sound resembles noise in
        // both packings.
        if energy > QUIET_POWER * sound.len() as f64 {
            self.samples += sound.len() as u64;
            self.payloads += 1;
            self.error += prediction_error(sound).ln();
        }
    }

    /// Returns the mean prediction error in nepers; `None` before there is enough sound.
    fn error(&self) -> Option<f64> {
        (self.samples >= MIN_SAMPLES).then(|| self.error / self.payloads as f64)
    }
}

/// Returns the share of the energy that linear prediction cannot explain, 0 to 1 (Levinson-Durbin algorithm).
fn prediction_error(sound: &[i16]) -> f64 {
    let lagged = |lag: usize| -> f64 {
        sound.iter().zip(sound.iter().skip(lag)).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    let correlation: [f64; ORDER + 1] = std::array::from_fn(lagged);
    let energy = correlation[0].max(1.0);
    let (mut error, mut taps) = (energy, [0.0; ORDER + 1]);
    for order in 1..=ORDER {
        let known: f64 = (1..order).map(|n| taps[n] * correlation[order - n]).sum();
        let reflection = (correlation[order] - known) / error.max(1e-9);
        let before = taps;
        for n in 1..order {
            taps[n] = before[n] - reflection * before[order - n];
        }
        taps[order] = reflection;
        error *= 1.0 - reflection * reflection;
    }
    (error / energy).clamp(SMALLEST_ERROR, 1.0)
}

/// Minimum difference between the prediction errors of both packings (orders of the code words), nepers. With less, the
/// announced packing is kept.
const MIN_DIFFERENCE: f64 = 0.2;
/// Order of the linear prediction: enough for the resonances of a voice below 4 kHz.
const ORDER: usize = 8;
/// Lower bound of the prediction error. A pure tone can be predicted almost without error. Without this bound, the
/// logarithm of such an error would outweigh the errors of all other payloads.
const SMALLEST_ERROR: f64 = 1e-4;
/// Minimum mean square of a loud payload: 100 squared, -50 dBov. Quieter sound consists mostly of quantization noise.
const QUIET_POWER: f64 = 100.0 * 100.0;
/// Minimum number of samples that decide the packing (order of the code words in a byte): a fifth of a second.
const MIN_SAMPLES: u64 = 1_600;
/// Number of samples after which no further payload is measured: ten seconds of sound prove the packing.
const ENOUGH_SAMPLES: u64 = 80_000;
