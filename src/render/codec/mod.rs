//! Decoders of RTP payloads. Each is pure: payload in, samples out, no clock.

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
    /// (G.729 annex B, AMR SID), which gives the comfort noise of its own frame.
    ///
    /// # Errors
    /// When the payload cannot be decoded; `out` is unchanged then.
    fn decode(&mut self, payload: &[u8], out: &mut Vec<i16>) -> Result<(), Undecodable>;

    /// Appends `samples` samples of made-up sound in place of lost packets. `next` is the payload that follows the
    /// gap where it is known: forward error correction may read the lost sound from it.
    fn conceal(&mut self, samples: usize, next: Option<&[u8]>, out: &mut Vec<i16>);

    /// Samples by which the decoder's output lags its input (look-ahead and filter delay): the timeline takes them out.
    fn delay_samples(&self) -> usize {
        0
    }
}

/// A decoder for a format, or `None` where we have none.
pub fn decoder_for(format: &PayloadFormat) -> Option<Box<dyn Decoder>> {
    let _ = format;
    None
}
