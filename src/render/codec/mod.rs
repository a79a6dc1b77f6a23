//! Decoders of RTP payloads. Each is pure: payload in, samples out, no clock.
//!
//! # What every decoder holds to
//! - Any bytes may be a payload: the answer is sound or an [`Undecodable`], after work bounded by the payload's length.
//! - Concealment of lost packets dies away: [`Decoder::conceal`] is silent once [`conceal::FADE_MS`] ms have been
//!   made up in a row. The exception is the pause after a silence descriptor (comfort noise, RFC 3389; G.729 annex
//!   B; AMR SID), which `conceal` fills with comfort noise
//!   (for at most [`conceal::COMFORT_S`] seconds where a codec's decoder has to make it).
//! - The same payloads give the same samples, on every machine and in every run.
//!
//! A codec's own delay (look-ahead of the encoder, filters) stays in the sound: the recording stands where a listener
//! heard it. It is 1.4 ms with G.722, 5 ms with G.729 and AMR, 5.9 ms with AMR-WB, 6.5 ms with Opus, 5 or 10 ms with iLBC
//! (frames of 20 or 30 ms), 10 ms with Speex and 13.9 ms with wideband Speex; other codecs have none.

pub mod amr;
pub mod cn;
pub mod conceal;
pub mod dvi4;
pub mod g711;
pub mod g722;
pub mod g726;
pub mod g729;
pub mod gsm;
pub mod ilbc;
pub mod opus;
pub mod pcm;
#[cfg(feature = "speex")]
pub mod speex;

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
}

/// A decoder for a format, or `None` where we have none. The encoding is compared in upper case (RFC 8866 section
/// 6.6: encoding names do not depend on case).
pub fn decoder_for(format: &PayloadFormat) -> Option<Box<dyn Decoder>> {
    let encoding = format.encoding.to_ascii_uppercase();
    match encoding.as_str() {
        "PCMA" => Some(Box::new(g711::G711::new(g711::Law::A, pcm_rate(format)?, channels(format)?))),
        "PCMU" => Some(Box::new(g711::G711::new(g711::Law::Mu, pcm_rate(format)?, channels(format)?))),
        "G722" if mono(format) => Some(Box::new(g722::G722::new())),
        "GSM" if mono(format) => Some(Box::new(gsm::Gsm::new())),
        "ILBC" if mono(format) => Some(Box::new(ilbc::Ilbc::new(&format.fmtp))),
        "G729" | "G729A" | "G729B" | "G729AB" if mono(format) => Some(Box::new(g729::G729::new()?)),
        "OPUS" => Some(Box::new(opus::Opus::new()?)),
        "AMR" if mono(format) => Some(Box::new(amr::Amr::new(amr::Band::Narrow, &format.fmtp)?)),
        "AMR-WB" if mono(format) => Some(Box::new(amr::Amr::new(amr::Band::Wide, &format.fmtp)?)),
        "L16" => Some(Box::new(pcm::Pcm::new(pcm::Width::Sixteen, pcm_rate(format)?, channels(format)?))),
        "L8" => Some(Box::new(pcm::Pcm::new(pcm::Width::Eight, pcm_rate(format)?, channels(format)?))),
        "DVI4" if mono(format) => Some(Box::new(dvi4::Dvi4::new(pcm_rate(format)?))),
        // G721 is G726-32 under the name that payload type 2 had (RFC 1890).
        "G721" | "G726-32" | "G726-16" | "G726-24" | "G726-40" | "AAL2-G726-16" | "AAL2-G726-24" | "AAL2-G726-32"
        | "AAL2-G726-40"
            if mono(format) =>
        {
            Some(Box::new(g726(&encoding)))
        }
        #[cfg(feature = "speex")]
        "SPEEX" if mono(format) => Some(Box::new(speex::Speex::new(format.clock_hz)?)),
        "CN" => Some(Box::new(cn::ComfortNoise::new(pcm_rate(format)?))),
        _ => None,
    }
}

/// G.726 by its name: `G726-32`, `AAL2-G726-32`.
fn g726(encoding: &str) -> g726::G726 {
    let packing = if encoding.starts_with("AAL2") { g726::Packing::Aal2 } else { g726::Packing::Rfc3551 };
    let rate = match encoding.rsplit('-').next() {
        Some("16") => g726::Rate::Two,
        Some("24") => g726::Rate::Three,
        Some("40") => g726::Rate::Five,
        _ => g726::Rate::Four,
    };
    g726::G726::new(rate, packing)
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

fn mono(format: &PayloadFormat) -> bool {
    format.channels <= 1
}

/// The value of a parameter of a `fmtp` line: `name=value;name=value`, names in any case, a bare name having the
/// empty value.
fn fmtp<'a>(parameters: &'a str, name: &str) -> Option<&'a str> {
    parameters.split(';').find_map(|parameter| {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// The mean of two channels.
fn mix(left: i16, right: i16) -> i16 {
    left.midpoint(right)
}

/// Sampling rates of uncompressed formats (RFC 3551 section 4.3 and what is seen in calls).
const PCM_RATES_HZ: [u32; 8] = [8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000];

#[cfg(test)]
mod tests;
