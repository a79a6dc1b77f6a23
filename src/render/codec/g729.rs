//! Decodes G.729 at 8 kbit/s, with the silence descriptors of annex B (RFC 3551 section 4.5.6).
//!
//! The bit stream of annex A is that of the full codec, so one decoder serves both.

use codec_core::codecs::g729::G729Codec;
use codec_core::types::{AudioCodecExt, CodecConfig};

use super::conceal::{DtxState, FrameConcealer};
use super::{DecodeError, SpeechDecoder};
use crate::render::report::PayloadQuirk;

/// Decoder of one G.729 stream, with its state.
pub(crate) struct G729Decoder {
    codec: G729Codec,
    /// The silence descriptor of the current pause; `None` while the sender talks.
    sid: Option<[u8; SID_BYTES]>,
    /// Whether the last payload had no speech.
    is_noise: bool,
    concealer: FrameConcealer,
    /// Whether the last payload had a stray byte after its frames.
    has_stray_byte: bool,
    /// Whether an earlier payload had a stray byte behind speech. Then a stray byte may follow a lone silence
    /// descriptor, too.
    had_stray_byte: bool,
}

impl G729Decoder {
    /// Returns a decoder; `None` if the codec library refuses its own default configuration.
    pub(crate) fn new() -> Option<Self> {
        let codec = G729Codec::new(CodecConfig::g729ba()).ok()?;
        Some(Self {
            codec,
            sid: None,
            is_noise: false,
            concealer: FrameConcealer::new(8_000),
            has_stray_byte: false,
            had_stray_byte: false,
        })
    }

    /// Decodes one frame: speech (10 bytes), a silence descriptor (2 bytes) or a lost frame (0 bytes).
    fn frame(&mut self, frame: &[u8], out: &mut Vec<i16>) {
        let mut samples = [0; FRAME];
        // The library refuses only a frame of a wrong length. Such a frame becomes silence.
        if self.codec.decode_to_buffer(frame, &mut samples).is_err() {
            samples.fill(0);
        }
        out.extend_from_slice(&samples);
    }
}

impl SpeechDecoder for G729Decoder {
    fn sample_rate_hz(&self) -> u32 {
        8_000
    }

    fn decode(&mut self, payload: &[u8], out: &mut Vec<i16>) -> Result<(), DecodeError> {
        let (frames, rest) = payload.as_chunks::<SPEECH_BYTES>();
        let sid = rest.first_chunk::<SID_BYTES>().copied();
        // Quirk `trailing_bytes`: a device appends one byte to good frames. It is ignored.
        self.has_stray_byte = match frames.is_empty() {
            true => rest.len() == SID_BYTES + 1 && self.had_stray_byte,
            false => rest.len() == 1 || rest.len() == SID_BYTES + 1,
        };
        self.had_stray_byte |= self.has_stray_byte;
        let fits = rest.is_empty() || rest.len() == SID_BYTES || self.has_stray_byte;
        if payload.is_empty() || !fits {
            return Err(DecodeError::Length);
        }
        for frame in frames {
            self.frame(frame, out);
        }
        if let Some(sid) = sid {
            self.frame(&sid, out);
        }
        (self.sid, self.is_noise) = (sid, frames.is_empty());
        self.concealer.end_gap();
        Ok(())
    }

    fn conceal(&mut self, samples: usize, _next: Option<&[u8]>, out: &mut Vec<i16>) {
        let mut concealer = std::mem::replace(&mut self.concealer, FrameConcealer::new(8_000));
        let mut frames = 0u32;
        let dtx = if self.sid.is_some() { DtxState::Paused } else { DtxState::Talking };
        concealer.fill(samples, dtx, out, |out| {
            frames += 1;
            // The library falls silent after 10 lost frames. Passing it the descriptor again keeps its noise going.
            let sid = self.sid;
            let frame: &[u8] = match &sid {
                Some(sid) if frames.is_multiple_of(SID_AGAIN) => sid,
                _ => &[],
            };
            self.frame(frame, out);
        });
        self.concealer = concealer;
    }

    fn may_pause(&self) -> bool {
        self.sid.is_some()
    }

    fn is_comfort_noise(&self) -> bool {
        self.is_noise
    }

    fn quirk(&self) -> Option<PayloadQuirk> {
        self.has_stray_byte.then_some(PayloadQuirk::TrailingBytes)
    }
}

const FRAME: usize = 80;
const SPEECH_BYTES: usize = 10;
const SID_BYTES: usize = 2;
const SID_AGAIN: u32 = 8;
