//! Decodes Opus (RFC 6716; RTP payload RFC 7587) with libopus directly to mono at 16 kHz.
//!
//! Each packet declares itself mono or stereo, so the `fmtp` line is ignored. libopus mixes stereo down. For stereo
//! packets, a second decoder checks whether both channels have opposite phases.

use opus::{Channels, packet};

use super::conceal::{DtxState, FrameConcealer};
use super::stereo::StereoDownmix;
use super::{DecodeError, SpeechDecoder};
use crate::render::report::PayloadQuirk;

/// Decoder of one Opus stream, with its state.
pub(crate) struct OpusDecoder {
    decoder: ::opus::Decoder,
    dtx: DtxState,
    concealer: FrameConcealer,
    /// Second decoder, with stereo output, and the buffer for its output. It shows whether the channels have opposite
    /// phases. `None` until the first stereo packet.
    both: Option<Box<(::opus::Decoder, [i16; 2 * MAX_PACKET])>>,
    stereo: StereoDownmix,
}

impl OpusDecoder {
    /// Returns a decoder; `None` if libopus cannot allocate memory.
    pub(crate) fn new() -> Option<Self> {
        let decoder = ::opus::Decoder::new(RATE_HZ, Channels::Mono).ok()?;
        let (dtx, concealer) = (DtxState::Talking, FrameConcealer::new(RATE_HZ));
        Some(Self { decoder, dtx, concealer, both: None, stereo: StereoDownmix::default() })
    }

    /// Checks whether both channels of a packet have opposite phases. If so, their mean is silent, so `sound` is
    /// replaced by the left channel.
    fn check_phases(&mut self, payload: &[u8], sound: &mut [i16]) {
        let is_stereo = payload.first().is_some_and(|toc| toc & STEREO_FLAG != 0);
        if is_stereo && self.both.is_none() {
            let decoder = ::opus::Decoder::new(RATE_HZ, Channels::Stereo).ok();
            self.both = decoder.map(|decoder| Box::new((decoder, [0; 2 * MAX_PACKET])));
        }
        let Some((decoder, output)) = self.both.as_deref_mut() else { return };
        let Ok(decoded) = decoder.decode(payload, output, false) else { return };
        let pairs = output[..2 * decoded].as_chunks().0.iter();
        self.stereo.observe(pairs.clone().map(|&[left, right]| (left, right)));
        if self.stereo.is_opposite() {
            for (sample, &[left, _]) in sound.iter_mut().zip(pairs) {
                *sample = left;
            }
        }
    }

    /// Restores the lost sound at the end of a gap from the next packet (forward error correction). Returns false if
    /// that packet contains no copy of the lost sound.
    fn restore_by_fec(&mut self, gap: usize, next: Option<&[u8]>, out: &mut Vec<i16>) -> bool {
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
        if length > MAX_PACKET {
            return Err(DecodeError::Content);
        }
        let at = out.len();
        out.resize(at + length, 0);
        match self.decoder.decode(payload, &mut out[at..], false) {
            Ok(decoded) => {
                out.truncate(at + decoded);
                self.check_phases(payload, &mut out[at..]);
            }
            Err(_) => {
                out.truncate(at);
                return Err(DecodeError::Content);
            }
        }
        self.dtx = if payload.len() <= DTX_BYTES { DtxState::Paused } else { DtxState::Talking };
        self.concealer.end_gap();
        Ok(())
    }

    fn conceal(&mut self, samples: usize, next: Option<&[u8]>, out: &mut Vec<i16>) {
        let next_length = next.and_then(|next| packet::get_nb_samples(next, RATE_HZ).ok()).unwrap_or(0);
        let gap = next_length.min(samples).min(MAX_PACKET) / STEP * STEP;
        let mut concealer = std::mem::replace(&mut self.concealer, FrameConcealer::new(RATE_HZ));
        let without_fec = samples - if next.is_some_and(has_redundancy) { gap } else { 0 };
        concealer.fill(without_fec, self.dtx, out, |out| {
            let at = out.len();
            out.resize(at + FRAME, 0);
            let _silent_when_refused = self.decoder.decode(&[], &mut out[at..], false);
        });
        let rest = samples - without_fec;
        if rest > 0 && !self.restore_by_fec(rest, next, out) {
            concealer.fill(rest, self.dtx, out, |out| out.resize(out.len() + FRAME, 0));
        }
        self.concealer = concealer;
    }

    fn is_comfort_noise(&self) -> bool {
        self.dtx == DtxState::Paused
    }

    fn quirk(&self) -> Option<PayloadQuirk> {
        self.stereo.is_opposite().then_some(PayloadQuirk::OppositePhases)
    }
}

/// Returns whether a packet contains a low bit-rate copy of the previous packet (RFC 6716 sections 4.2.3 and 4.2.4).
/// The flag for the copy follows the voice activity bits in the SILK layer of the first frame.
fn has_redundancy(payload: &[u8]) -> bool {
    let Some(&toc) = payload.first() else { return false };
    if toc & 0x80 != 0 {
        return false; // CELT-only packets contain no such copy
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
/// Bit of the first byte: the packet has two channels (RFC 6716 section 3.1).
const STEREO_FLAG: u8 = 0x04;

/// Length of the longest packet, samples at 16 kHz: 120 ms (RFC 6716 section 3.2.5).
const MAX_PACKET: usize = 1_920;

/// Number of samples in 20 ms at 16 kHz.
const FRAME: usize = 320;

/// Number of samples in 2.5 ms at 16 kHz. libopus conceals in multiples of this length.
const STEP: usize = 40;

/// Maximum length, bytes, of a payload with which libopus announces a pause (discontinuous transmission, RFC 7587
/// section 3.1.3).
const DTX_BYTES: usize = 2;

/// Length of the longest SILK frame, samples: 20 ms at 8 kHz. An Opus frame of 10 or 20 ms has one SILK frame; 40 and
/// 60 ms have two and three (RFC 6716 section 4.2.2).
const SILK_FRAME_AT_8K: usize = 160;
