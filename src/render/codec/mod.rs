//! Decoders of RTP payloads. Each is pure: payload in, samples out, no clock.
//!
//! # What every decoder holds to
//! - Any bytes may be a payload: the answer is sound or an [`DecodeError`], after work bounded by the payload's length.
//! - Concealment of lost packets dies away: [`SpeechDecoder::conceal`] is silent once [`conceal::FADE_MS`] ms have been
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
use crate::codec::{Codec, DecoderKind};

/// Why a payload gave no sound. Counted, never fatal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Its length fits no frame of the codec.
    #[error("the payload's length fits no frame of the codec")]
    Length,
    /// The decoder refused its content.
    #[error("the decoder refused the payload")]
    Content,
}

/// One stream's decoder. Output is mono, 16 bit, at [`SpeechDecoder::sample_rate_hz`].
pub trait SpeechDecoder: Send {
    /// Samples a second of what `decode` gives.
    fn sample_rate_hz(&self) -> u32;

    /// Appends the sound of one RTP payload to `out`. A payload may hold several frames, or a silence descriptor
    /// (G.729 annex B, AMR SID), which gives the comfort noise of its own frame. RFC 3389 comfort noise has no frame
    /// and gives no samples by itself: it sets what [`SpeechDecoder::conceal`] gives.
    ///
    /// # Errors
    /// When the payload cannot be decoded; `out` is unchanged then.
    fn decode(&mut self, payload: &[u8], out: &mut Vec<i16>) -> Result<(), DecodeError>;

    /// Appends `samples` samples of made-up sound in place of lost packets. `next` is the payload that follows the
    /// gap where it is known: forward error correction may read the lost sound from it. After a silence descriptor
    /// this is comfort noise, however long; else it fades to silence within [`conceal::FADE_MS`].
    fn conceal(&mut self, samples: usize, next: Option<&[u8]>, out: &mut Vec<i16>);
}

/// Returns a decoder for a format, or `None` where callspan has none. Encoding names do not depend on case (RFC 4855).
pub fn decoder_for(format: &PayloadFormat) -> Option<Box<dyn SpeechDecoder>> {
    let codec = format.codec()?;
    let rate_hz = || sampling_rate_hz(codec, format);
    Some(match codec.decoder()? {
        DecoderKind::G711(law) => Box::new(g711::G711Decoder::new(law, rate_hz()?, channels(format)?)),
        DecoderKind::LinearPcm(width) => Box::new(pcm::PcmDecoder::new(width, rate_hz()?, channels(format)?)),
        DecoderKind::ComfortNoise => Box::new(cn::ComfortNoiseDecoder::new(rate_hz()?)),
        DecoderKind::Opus => Box::new(opus::OpusDecoder::new()?),
        _ if format.channels > 1 => return None,
        DecoderKind::G722 => Box::new(g722::G722Decoder::new()),
        DecoderKind::Gsm => Box::new(gsm::GsmDecoder::new()),
        DecoderKind::Ilbc => Box::new(ilbc::IlbcDecoder::new(&format.fmtp)),
        DecoderKind::G729 => Box::new(g729::G729Decoder::new()?),
        DecoderKind::Amr(band) => Box::new(amr::AmrDecoder::new(band, &format.fmtp)?),
        DecoderKind::Dvi4 => Box::new(dvi4::Dvi4Decoder::new(rate_hz()?)),
        DecoderKind::G726(rate, packing) => Box::new(g726::G726Decoder::new(rate, packing)),
        #[cfg(feature = "speex")]
        DecoderKind::Speex => Box::new(speex::SpeexDecoder::new(format.clock_hz)?),
        #[cfg(not(feature = "speex"))]
        DecoderKind::Speex => return None,
    })
}

/// Returns the RTP clock of a codec that samples at its clock, in Hz; `None` for a rate that no device uses.
fn sampling_rate_hz(codec: Codec, format: &PayloadFormat) -> Option<u32> {
    match format.clock_hz {
        0 => Some(codec.default_clock_hz()),
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
