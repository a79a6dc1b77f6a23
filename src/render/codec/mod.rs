//! Decoders of RTP payloads. Each is pure: payload in, samples out, no clock.
//!
//! # What every decoder holds to
//! - Any bytes may be a payload: the answer is sound or an [`Undecodable`], after work bounded by the payload's length.
//! - Concealment of lost packets dies away: [`Decoder::conceal`] is silent once [`conceal::FADE_MS`] ms have been
//!   made up in a row. The exception is the pause after a silence descriptor (comfort noise, RFC 3389; G.729 annex
//!   B; AMR SID), which `conceal` fills with comfort noise of any length.
//! - The same payloads give the same samples, on every machine and in every run.

pub mod cn;
pub mod conceal;
pub mod g711;
pub mod g722;
pub mod gsm;

use crate::call::decision::PayloadFormat;

/// Why a payload gave no sound. Counted, never fatal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// Its length fits no frame of the codec.
    #[error("the payload's length fits no frame of the codec")]
    Length,
    /// The decoder refused its content.
    #[error("the decoder refused the payload")]
    Content,
}

/// One stream's decoder. Output is mono, 16 bit, at [`Decoder::sample_rate_hz`].
pub trait Decoder: Send {
    /// Samples a second of what `decode` gives.
    fn sample_rate_hz(&self) -> u32;

    /// Appends the sound of one RTP payload to `out`. A payload may hold several frames, or a silence descriptor
    /// (G.729 annex B, AMR SID), which gives the comfort noise of its own frame. RFC 3389 comfort noise has no frame
    /// and gives no samples by itself: it sets what [`Decoder::conceal`] gives.
    ///
    /// # Errors
    /// When the payload cannot be decoded; `out` is unchanged then.
    fn decode(&mut self, payload: &[u8], out: &mut Vec<i16>) -> Result<(), Undecodable>;

    /// Appends `samples` samples of made-up sound in place of lost packets. `next` is the payload that follows the
    /// gap where it is known: forward error correction may read the lost sound from it. After a silence descriptor
    /// this is comfort noise, however long; else it fades to silence within [`conceal::FADE_MS`].
    fn conceal(&mut self, samples: usize, next: Option<&[u8]>, out: &mut Vec<i16>);

    /// Samples by which the decoder's output lags its input (look-ahead and filter delay): the timeline takes them out.
    fn delay_samples(&self) -> usize {
        0
    }
}

/// A decoder for a format, or `None` where we have none. The encoding is compared in upper case (RFC 8866 section
/// 6.6: encoding names do not depend on case).
pub fn decoder_for(format: &PayloadFormat) -> Option<Box<dyn Decoder>> {
    match format.encoding.to_ascii_uppercase().as_str() {
        "PCMA" => Some(Box::new(g711::G711::new(g711::Law::A, pcm_rate(format)?, channels(format)?))),
        "PCMU" => Some(Box::new(g711::G711::new(g711::Law::Mu, pcm_rate(format)?, channels(format)?))),
        "G722" if channels(format)? == 1 => Some(Box::new(g722::G722::new())),
        "GSM" if channels(format)? == 1 => Some(Box::new(gsm::Gsm::new())),
        "CN" => Some(Box::new(cn::ComfortNoise::new(pcm_rate(format)?))),
        _ => None,
    }
}

/// The clock of a format whose clock is its sampling rate, where that is a rate in use. An absent clock means 8000.
fn pcm_rate(format: &PayloadFormat) -> Option<u32> {
    match format.clock_hz {
        0 => Some(8_000),
        hz if PCM_RATES_HZ.contains(&hz) => Some(hz),
        _ => None,
    }
}

/// Number of interleaved channels, mixed to one: 1 or 2.
fn channels(format: &PayloadFormat) -> Option<usize> {
    match format.channels {
        0 | 1 => Some(1),
        2 => Some(2),
        _ => None,
    }
}

/// The mean of two channels.
fn mix(left: i16, right: i16) -> i16 {
    left.midpoint(right)
}

/// Sampling rates of uncompressed formats (RFC 3551 section 4.3 and what is seen in calls).
const PCM_RATES_HZ: [u32; 8] = [8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000];
