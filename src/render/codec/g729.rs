//! Decodes G.729 at 8 kbit/s, with the silence descriptors of annex B (RFC 3551 section 4.5.6).
//!
//! The bit stream of annex A is that of the full codec, so one decoder serves both.

use codec_core::codecs::g729::G729Codec;
use codec_core::types::{AudioCodecExt, CodecConfig};

use super::conceal::{DtxState, FrameConcealer};
use super::{DecodeError, SpeechDecoder};
use crate::codec::Codec;
use crate::render::report::PayloadQuirk;

/// Decoder of one G.729 stream, with its state.
pub(crate) struct G729Decoder {
    codec: G729Codec,
    /// The silence descriptor of the current pause; `None` while the sender talks.
    sid: Option<[u8; SID_BYTES]>,
    /// Whether the last payload had no speech.
    is_noise: bool,
    concealer: FrameConcealer,
    tail: FrameTail,
}

/// Stray bytes that a device appends to its payloads.
///
/// Quirk `trailing_bytes`: one byte behind good frames is stray. So are 4 to 9 bytes, if the frames before have their
/// parity bits. Two bytes are a silence descriptor, unless several payloads in a row end so: a sender that is silent
/// sends no speech directly after. Behind speech, as many bytes as in an earlier payload are stray again.
#[derive(Clone, Copy, Debug, Default)]
struct FrameTail {
    /// Whether the last payload had stray bytes.
    is_present: bool,
    /// Number of stray bytes behind the speech of the last payload that had any. As many may follow a lone silence
    /// descriptor.
    bytes: usize,
    /// Number of consecutive payloads with speech and a possible silence descriptor behind it.
    descriptors: u32,
    /// Number of consecutive speech frames with the right parity bit.
    good_frames: usize,
}

/// The bytes behind the speech frames of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PayloadRest {
    sid: Option<[u8; SID_BYTES]>,
    stray: usize,
}

impl FrameTail {
    /// Divides the bytes behind the speech `frames` of a payload; `None` if their number is impossible.
    fn divide(&mut self, frames: &[[u8; SPEECH_BYTES]], rest: &[u8]) -> Option<PayloadRest> {
        let is_good = Codec::G729.has_fixed_bits(frames.as_flattened());
        self.good_frames = if is_good { self.good_frames.saturating_add(frames.len()) } else { 0 };
        let ends_with_sid = !frames.is_empty() && matches!(rest.len(), SID_BYTES | 3);
        self.descriptors = if ends_with_sid { self.descriptors.saturating_add(1) } else { 0 };
        let sid = rest.first_chunk::<SID_BYTES>().copied();
        let divided = match (frames.is_empty(), rest.len()) {
            (_, 0) => PayloadRest { sid: None, stray: 0 },
            (false, stray) if self.descriptors > MAX_DESCRIPTORS || stray == self.bytes => {
                PayloadRest { sid: None, stray }
            }
            (_, SID_BYTES) => PayloadRest { sid, stray: 0 },
            (false, 1) => PayloadRest { sid: None, stray: 1 },
            (false, 3) => PayloadRest { sid, stray: 1 },
            (_, bytes) if self.bytes > 0 && bytes == SID_BYTES + self.bytes => PayloadRest { sid, stray: self.bytes },
            (false, stray) if self.good_frames >= MIN_GOOD_FRAMES => PayloadRest { sid: None, stray },
            _ => return None,
        };
        self.is_present = divided.stray > 0;
        self.bytes = if self.is_present { divided.stray } else { self.bytes };
        Some(divided)
    }
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
            tail: FrameTail::default(),
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
        self.tail.is_present = false;
        let rest = if payload.is_empty() { None } else { self.tail.divide(frames, rest) };
        let PayloadRest { sid, .. } = rest.ok_or(DecodeError::Length)?;
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
        self.tail.descriptors = 0;
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
        self.tail.is_present.then_some(PayloadQuirk::TrailingBytes)
    }
}

const FRAME: usize = 80;
const SPEECH_BYTES: usize = 10;
const SID_BYTES: usize = 2;
/// Maximum number of payloads in a row, without a pause between them, that end with a silence descriptor behind speech.
const MAX_DESCRIPTORS: u32 = 3;
/// Minimum number of speech frames in a row with the right parity bit before more than one byte behind them is stray.
/// Other bytes have so many right bits once in 256.
const MIN_GOOD_FRAMES: usize = 8;
const SID_AGAIN: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_stray_bytes_are_left_out_after_a_loss() {
        let mut tail = FrameTail::default();
        let frames = [[0; SPEECH_BYTES]; 2];
        let stray = |tail: &mut FrameTail| tail.divide(&frames, &[1, 2]).map(|rest| rest.stray);
        assert_eq!([(); 4].map(|()| stray(&mut tail)), [0, 0, 0, 2].map(Some));
        // Concealing a lost packet ends the row of payloads.
        tail.descriptors = 0;
        assert_eq!(stray(&mut tail), Some(2));
    }
}
