//! Decodes RTP payloads. A decoder turns payloads into samples and reads no clock.
//!
//! # Invariants of every decoder
//! - Any bytes may be a payload. The result is sound or a [`DecodeError`], after work bounded by the payload's length.
//! - Concealment of lost packets fades out: [`SpeechDecoder::conceal`] is silent after [`conceal::FADE_MS`] ms of
//!   concealment in a row.
//! - After a silence descriptor, `conceal` gives comfort noise instead (RFC 3389, G.729 annex B, AMR SID). A codec's
//!   own comfort noise lasts [`conceal::COMFORT_S`] seconds at most.
//! - The same payloads give the same samples, on every machine and in every run.
//!
//! The codec's own delay (look-ahead, filters) stays in the sound, because the listener heard it too. It is 1.4 ms with
//! G.722, 5 ms with G.729 and AMR, 5.9 ms with AMR-WB, and 6.5 ms with Opus. With iLBC it is 5 or 10 ms (frames of 20
//! or 30 ms). It is 10 ms with Speex and 13.9 ms with wideband Speex. Other codecs have no delay.

pub(crate) mod amr;
mod byte_order;
pub(crate) mod cn;
pub mod conceal;
mod duration;
pub(crate) mod dvi4;
pub(crate) mod g711;
pub(crate) mod g722;
pub(crate) mod g726;
pub(crate) mod g729;
pub(crate) mod gsm;
pub(crate) mod ilbc;
pub(crate) mod law;
pub(crate) mod opus;
pub(crate) mod pcm;
#[cfg(feature = "speex")]
pub(crate) mod speex;
mod stereo;
#[cfg(debug_assertions)]
pub(crate) mod test_codec;

use super::report::PayloadQuirk;
use crate::call::decision::PayloadFormat;
use crate::codec::{Codec, DecoderKind, fmtp};

pub(crate) use duration::{duration_ns, duration_of_bytes};

/// Reason why a payload gave no sound. Rendering counts such payloads and continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The length of the payload fits no frame of the codec.
    #[error("the payload's length fits no frame of the codec")]
    Length,
    /// The decoder refused the content of the payload.
    #[error("the decoder refused the payload")]
    Content,
}

/// The decoder of one stream. Its output is mono, 16 bit, at [`SpeechDecoder::sample_rate_hz`].
pub trait SpeechDecoder: Send {
    /// Returns the sampling rate of the output, Hz.
    fn sample_rate_hz(&self) -> u32;

    /// Decodes one RTP payload and appends its sound to `out`. A payload may hold several frames. A silence descriptor
    /// (G.729 annex B, AMR SID) gives the comfort noise of its own frame. An RFC 3389 comfort noise packet gives no
    /// samples; it sets the noise that [`SpeechDecoder::conceal`] generates.
    ///
    /// # Errors
    /// Fails if the payload cannot be decoded. `out` is then unchanged.
    fn decode(&mut self, payload: &[u8], out: &mut Vec<i16>) -> Result<(), DecodeError>;

    /// Appends `samples` samples of concealment in place of lost packets. `next` is the payload after the gap, if
    /// known: forward error correction can restore the lost sound from it. After a silence descriptor the samples are
    /// comfort noise. Otherwise they fade to silence within [`conceal::FADE_MS`] ms.
    fn conceal(&mut self, samples: usize, next: Option<&[u8]>, out: &mut Vec<i16>);

    /// Returns whether the sender may be silent on purpose after the last decoded payload, so that `conceal` fills the
    /// time until the next payload. Always true for a codec without silence descriptors.
    fn may_pause(&self) -> bool {
        true
    }

    /// Returns whether the sound of the last decoded payload is comfort noise only. A payload with speech and a silence
    /// descriptor after it is speech.
    fn is_comfort_noise(&self) -> bool {
        false
    }

    /// Returns how the last decoded payload deviates from its announced format; `None` if it does not.
    fn quirk(&self) -> Option<PayloadQuirk> {
        None
    }
}

/// Returns a decoder for a format; `None` if callspan has no decoder for it. The case of encoding names does not matter
/// (RFC 4855).
pub fn decoder_for(format: &PayloadFormat) -> Option<Box<dyn SpeechDecoder>> {
    let decoder = plain_decoder_for(format)?;
    #[cfg(debug_assertions)]
    if test_codec::is_on() {
        return Some(Box::new(test_codec::FaultyDecoder(decoder)));
    }
    Some(decoder)
}

fn plain_decoder_for(format: &PayloadFormat) -> Option<Box<dyn SpeechDecoder>> {
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

/// Returns the sampling rate in Hz of a codec for which clock and sampling rate are the same. Returns `None` for a rate
/// that no device uses.
fn sampling_rate_hz(codec: Codec, format: &PayloadFormat) -> Option<u32> {
    match format.clock_hz {
        0 => Some(codec.default_clock_hz()),
        hz if PCM_RATES_HZ.contains(&hz) => Some(hz),
        _ => None,
    }
}

/// Returns the number of interleaved channels, 1 or 2. Two channels are mixed to one.
fn channels(format: &PayloadFormat) -> Option<usize> {
    match format.channels {
        0 | 1 => Some(1),
        2 => Some(2),
        _ => None,
    }
}

/// Returns the mean of two samples, one of each channel.
fn mix(left: i16, right: i16) -> i16 {
    left.midpoint(right)
}

/// Maximum number of bytes after the last whole frame that are ignored. Devices pad a payload to a multiple of 2 or 4
/// bytes.
const MAX_STRAY_BYTES: usize = 3;

/// Accepted sampling rates of uncompressed formats, Hz: those of RFC 3551 section 4.3, and others that devices use.
const PCM_RATES_HZ: [u32; 8] = [8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000];

#[cfg(test)]
mod tests;
