//! G.729, 8 kbit/s, with the silence descriptors of annex B (RFC 3551 section 4.5.6).
//!
//! The bit stream of annex A is that of the full codec, so one decoder does for both.

use codec_core::codecs::g729::G729Codec;
use codec_core::types::{AudioCodecExt, CodecConfig};

use super::conceal::{DtxState, FrameConcealer};
use super::{DecodeError, SpeechDecoder};

/// Decoder of one G.729 stream.
pub struct G729Decoder {
    codec: G729Codec,
    /// The silence descriptor of the pause under way.
    sid: Option<[u8; SID_BYTES]>,
    made_up: FrameConcealer,
}

impl G729Decoder {
    /// `None` only if the codec library refuses its own default configuration.
    pub fn new() -> Option<Self> {
        let codec = G729Codec::new(CodecConfig::g729ba()).ok()?;
        Some(Self { codec, sid: None, made_up: FrameConcealer::new(8_000) })
    }

    /// One frame: speech (10 bytes), silence descriptor (2) or nothing heard (0).
    fn frame(&mut self, frame: &[u8], out: &mut Vec<i16>) {
        let mut samples = [0; FRAME];
        // Only another length is refused; then the frame stays silent.
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
        if payload.is_empty() || (!rest.is_empty() && rest.len() != SID_BYTES) {
            return Err(DecodeError::Length);
        }
        for frame in frames {
            self.frame(frame, out);
        }
        if let Some(sid) = sid {
            self.frame(&sid, out);
        }
        self.sid = sid;
        self.made_up.end();
        Ok(())
    }

    fn conceal(&mut self, samples: usize, _next: Option<&[u8]>, out: &mut Vec<i16>) {
        let mut made_up = std::mem::replace(&mut self.made_up, FrameConcealer::new(8_000));
        let mut frames = 0u32;
        let dtx = if self.sid.is_some() { DtxState::Paused } else { DtxState::Talking };
        made_up.fill(samples, dtx, out, |out| {
            frames += 1;
            // The library falls silent after 10 frames of nothing; the descriptor once more keeps its noise going.
            let sid = self.sid;
            let frame: &[u8] = match &sid {
                Some(sid) if frames.is_multiple_of(SID_AGAIN) => sid,
                _ => &[],
            };
            self.frame(frame, out);
        });
        self.made_up = made_up;
    }
}

const FRAME: usize = 80;
const SPEECH_BYTES: usize = 10;
const SID_BYTES: usize = 2;
const SID_AGAIN: u32 = 8;
