//! Opus (RFC 6716; RTP payload RFC 7587), decoded straight to mono at 16 kHz by libopus.
//!
//! A packet says itself whether it is stereo, so nothing of the `fmtp` line matters; libopus mixes down.

use opus::{Channels, packet};

use super::conceal::{DtxState, FrameConcealer};
use super::{DecodeError, SpeechDecoder};

/// Decoder of one Opus stream.
pub struct OpusDecoder {
    decoder: ::opus::Decoder,
    dtx: DtxState,
    made_up: FrameConcealer,
}

impl OpusDecoder {
    /// `None` only when libopus has no memory.
    pub fn new() -> Option<Self> {
        let decoder = ::opus::Decoder::new(RATE_HZ, Channels::Mono).ok()?;
        Some(Self { decoder, dtx: DtxState::Talking, made_up: FrameConcealer::new(RATE_HZ) })
    }

    /// Samples that the packet after a gap tells about its end (forward error correction).
    fn corrected(&mut self, gap: usize, next: Option<&[u8]>, out: &mut Vec<i16>) -> bool {
        let Some(next) = next.filter(|next| has_redundancy(next)) else { return false };
        let at = out.len();
        out.resize(at + gap, 0);
        let done = self.decoder.decode(next, &mut out[at..], true).is_ok();
        if !done {
            out.truncate(at);
        }
        done
    }
}

impl SpeechDecoder for OpusDecoder {
    fn sample_rate_hz(&self) -> u32 {
        RATE_HZ
    }

    fn decode(&mut self, payload: &[u8], out: &mut Vec<i16>) -> Result<(), DecodeError> {
        let length = packet::get_nb_samples(payload, RATE_HZ).map_err(|_| DecodeError::Length)?;
        if length > LONGEST {
            return Err(DecodeError::Content);
        }
        let at = out.len();
        out.resize(at + length, 0);
        match self.decoder.decode(payload, &mut out[at..], false) {
            Ok(decoded) => out.truncate(at + decoded),
            Err(_) => {
                out.truncate(at);
                return Err(DecodeError::Content);
            }
        }
        self.dtx = if payload.len() <= DTX_BYTES { DtxState::Paused } else { DtxState::Talking };
        self.made_up.end();
        Ok(())
    }

    fn conceal(&mut self, samples: usize, next: Option<&[u8]>, out: &mut Vec<i16>) {
        let told = next.and_then(|next| packet::get_nb_samples(next, RATE_HZ).ok()).unwrap_or(0);
        let gap = told.min(samples).min(LONGEST) / STEP * STEP;
        let mut made_up = std::mem::replace(&mut self.made_up, FrameConcealer::new(RATE_HZ));
        let made_up_by_us = samples - if next.is_some_and(has_redundancy) { gap } else { 0 };
        made_up.fill(made_up_by_us, self.dtx, out, |out| {
            let at = out.len();
            out.resize(at + FRAME, 0);
            let _silent_when_refused = self.decoder.decode(&[], &mut out[at..], false);
        });
        let rest = samples - made_up_by_us;
        if rest > 0 && !self.corrected(rest, next, out) {
            made_up.fill(rest, self.dtx, out, |out| out.resize(out.len() + FRAME, 0));
        }
        self.made_up = made_up;
    }
}

/// Whether a packet has a low-bit-rate copy of what came before it (RFC 6716 sections 4.2.3 and 4.2.4): the bit after
/// the activity bits of the first frame's SILK layer.
fn has_redundancy(payload: &[u8]) -> bool {
    let Some(&toc) = payload.first() else { return false };
    if toc & 0x80 != 0 {
        return false; // CELT alone has no such copy
    }
    let Ok(parsed) = packet::parse(payload) else { return false };
    let Some(&first) = parsed.frames.first().and_then(|frame| frame.first()) else { return false };
    let Ok(frame) = packet::get_samples_per_frame(payload, 8_000) else { return false };
    let silk_frames = (frame / SILK_FRAME_AT_8K).max(1);
    let stereo = toc & 0x04 != 0;
    let mid = first >> (7 - silk_frames) & 1 != 0;
    let side = stereo && first >> (6usize.saturating_sub(2 * silk_frames)) & 1 != 0;
    mid || side
}

const RATE_HZ: u32 = 16_000;

/// 120 ms, the longest packet (RFC 6716 section 3.2.5).
const LONGEST: usize = 1_920;

/// 20 ms.
const FRAME: usize = 320;

/// 2.5 ms: libopus conceals in multiples of it.
const STEP: usize = 40;

/// A payload of at most this length says that nothing is sent (RFC 7587 section 3.1.3; libopus opus_encode).
const DTX_BYTES: usize = 2;

/// A frame of 10 or 20 ms has one SILK frame, of 40 and 60 ms two and three (RFC 6716 section 4.2.2).
const SILK_FRAME_AT_8K: usize = 160;
