//! Decodes iLBC at 13.33 and 15.2 kbit/s (RFC 3951; RTP payload RFC 3952).
//!
//! Written from the RFC's text with the values of its tables, in floating point. A frame depends on the previous frame
//! only through its spectrum and the filter memories. The *residual* is the excitation of the synthesis filter. In each
//! frame a part of it, the *start state*, is coded first; decoding grows from there in both directions.
//!
//! The RFC's enhancer is used, as in telephones, so the recording has the sound that the listener heard. It delays by 5
//! or 10 ms. A decoder without enhancer (ffmpeg) gives other samples: the voice is a few tenths of a dB fainter, and
//! the noise between the harmonics stays.

mod enhancer;
mod excitation;
mod frame;
mod lsf;
mod packet_loss;
mod tables;

use super::conceal::{DtxState, FrameConcealer};
use super::{DecodeError, MAX_STRAY_BYTES, SpeechDecoder, fmtp};
use crate::codec::fixed_bits::ILBC_FRAME_BYTES;
use crate::render::report::PayloadQuirk;
use enhancer::Enhancer;
use frame::{FrameLayout, IlbcFrame};
use lsf::{LpcCoefficients, LsfVector};
use packet_loss::LossConcealment;

/// Length of the frames of an iLBC stream: 20 or 30 ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IlbcMode {
    /// Frames of 20 ms with 38 bytes.
    Twenty,
    /// Frames of 30 ms with 50 bytes.
    Thirty,
}

impl IlbcMode {
    /// Returns the mode that a `fmtp` line announces, and 30 ms if it announces no mode (RFC 3952 section 4.2).
    pub(crate) fn of(parameters: &str) -> Self {
        if fmtp(parameters, "mode") == Some("20") { Self::Twenty } else { Self::Thirty }
    }

    /// Returns the mode that fits the length of a payload. Prefers the announced mode, but some gateways announce one
    /// mode and send the other.
    fn of_payload(self, length: usize) -> Option<Self> {
        let other = if self == Self::Twenty { Self::Thirty } else { Self::Twenty };
        let modes = || [self, other].into_iter();
        let fits = |mode: &Self| length > 0 && length.is_multiple_of(mode.bytes());
        // Quirk `trailing_bytes`: a few stray bytes follow good frames. They are ignored.
        let almost_fits = |mode: &Self| length > mode.bytes() && length % mode.bytes() <= MAX_STRAY_BYTES;
        modes().find(fits).or_else(|| modes().find(almost_fits))
    }

    const fn bytes(self) -> usize {
        match self {
            Self::Twenty => ILBC_FRAME_BYTES[0],
            Self::Thirty => ILBC_FRAME_BYTES[1],
        }
    }

    const fn subframes(self) -> usize {
        match self {
            Self::Twenty => 4,
            Self::Thirty => 6,
        }
    }

    const fn samples(self) -> usize {
        self.subframes() * SUBFRAME
    }

    /// Returns the delay that the enhancer adds, in samples.
    const fn delay(self) -> usize {
        match self {
            Self::Twenty => SUBFRAME,
            Self::Thirty => 2 * SUBFRAME,
        }
    }

    const fn layout(self) -> &'static FrameLayout {
        match self {
            Self::Twenty => &frame::LAYOUT_20_MS,
            Self::Thirty => &frame::LAYOUT_30_MS,
        }
    }
}

/// Decoder of one iLBC stream, with its state.
#[derive(Clone, Debug)]
pub(crate) struct IlbcDecoder {
    announced: IlbcMode,
    state: IlbcState,
    concealer: FrameConcealer,
    /// Whether the last payload had stray bytes after its frames.
    has_stray_bytes: bool,
}

impl IlbcDecoder {
    /// Returns a decoder for the parameters of a `fmtp` line, e.g. `mode=20`.
    pub(crate) fn new(parameters: &str) -> Self {
        let announced = IlbcMode::of(parameters);
        let state = IlbcState::new(announced);
        Self { announced, state, concealer: FrameConcealer::new(8_000), has_stray_bytes: false }
    }
}

impl SpeechDecoder for IlbcDecoder {
    fn sample_rate_hz(&self) -> u32 {
        8_000
    }

    fn decode(&mut self, payload: &[u8], out: &mut Vec<i16>) -> Result<(), DecodeError> {
        let mode = self.announced.of_payload(payload.len()).ok_or(DecodeError::Length)?;
        if mode != self.state.mode {
            self.state = IlbcState::new(mode);
        }
        self.has_stray_bytes = !payload.len().is_multiple_of(mode.bytes());
        for bytes in payload.chunks_exact(mode.bytes()) {
            match IlbcFrame::parse(mode, bytes) {
                Some(frame) => self.state.decode_frame(&frame, out),
                None => self.state.conceal(out),
            }
        }
        self.concealer.end_gap();
        Ok(())
    }

    fn conceal(&mut self, samples: usize, _next: Option<&[u8]>, out: &mut Vec<i16>) {
        self.concealer.fill(samples, DtxState::Talking, out, |out| self.state.conceal(out));
    }

    fn quirk(&self) -> Option<PayloadQuirk> {
        self.has_stray_bytes.then_some(PayloadQuirk::TrailingBytes)
    }
}

/// State of the decoder that each frame passes on to the next.
#[derive(Clone, Debug)]
struct IlbcState {
    mode: IlbcMode,
    last_lsf: LsfVector,
    /// Synthesis filters of the last frame. Because of the enhancer's delay, some of them are used in the next frame.
    filters: Vec<LpcCoefficients>,
    loss: LossConcealment,
    /// The enhancer; `None` only in tests that compare with decoders without enhancer.
    enhancer: Option<Enhancer>,
    /// The last samples of the synthesis filter, newest first.
    synthesized: [f32; ORDER],
    output: HighPassFilter,
}

impl IlbcState {
    fn new(mode: IlbcMode) -> Self {
        Self {
            mode,
            last_lsf: lsf::mean(),
            filters: vec![[0.0; ORDER]; mode.subframes()],
            loss: LossConcealment::new(mode.samples()),
            enhancer: Some(Enhancer::new(mode)),
            synthesized: [0.0; ORDER],
            output: HighPassFilter::default(),
        }
    }

    fn decode_frame(&mut self, frame: &IlbcFrame, out: &mut Vec<i16>) {
        let filters = lsf::filters(self.mode, &frame.spectra, &mut self.last_lsf);
        let residual = excitation::residual(frame, &filters);
        self.loss.note_decoded(&residual);
        self.output_residual(residual, ResidualSource::Decoded, filters, out);
    }

    fn conceal(&mut self, out: &mut Vec<i16>) {
        let residual = self.loss.conceal();
        // The frame is lost, and with it its filters. So the filter of the last subframe is used again.
        let last = self.filters.last().copied().unwrap_or_default();
        self.output_residual(residual, ResidualSource::Concealed, vec![last; self.mode.subframes()], out);
    }

    fn output_residual(
        &mut self,
        residual: Vec<f32>,
        source: ResidualSource,
        filters: Vec<LpcCoefficients>,
        out: &mut Vec<i16>,
    ) {
        match &mut self.enhancer {
            Some(enhancer) => {
                let enhanced = enhancer.enhance(&residual, source);
                self.synthesize(&enhanced, self.mode.delay() / SUBFRAME, filters, out);
            }
            None => self.synthesize(&residual, 0, filters, out),
        }
    }

    /// Synthesizes samples from the residual. The first `late` subframes of the residual belong to the last frame,
    /// because the enhancer delays its output; the others belong to this frame.
    fn synthesize(&mut self, residual: &[f32], late: usize, filters: Vec<LpcCoefficients>, out: &mut Vec<i16>) {
        let last = std::mem::replace(&mut self.filters, filters);
        let filters = last[last.len() - late..].iter().chain(&self.filters);
        for (subframe, filter) in residual.chunks_exact(SUBFRAME).zip(filters) {
            for excitation in subframe {
                let predicted: f32 = filter.iter().zip(&self.synthesized).map(|(c, past)| c * past).sum();
                self.synthesized.rotate_right(1);
                self.synthesized[0] = excitation - predicted;
                out.push(self.output.filter(self.synthesized[0]).round() as i16);
            }
        }
        // A spectrum that no encoder produces can make the filter unstable. Then the decoder begins anew.
        if !self.synthesized.iter().all(|sample| sample.abs() < MAX_AMPLITUDE) {
            *self = Self::new(self.mode);
        }
    }
}

/// Origin of a residual: decoded from a frame, or concealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ResidualSource {
    Decoded,
    Concealed,
}

/// The high-pass filter of the output (section 4.8) removes hum below 65 Hz.
#[derive(Clone, Debug, Default)]
struct HighPassFilter {
    input: [f32; 2],
    output: [f32; 2],
}

impl HighPassFilter {
    fn filter(&mut self, sample: f32) -> f32 {
        let zeros =
            HIGH_PASS_ZEROS[0] * sample + HIGH_PASS_ZEROS[1] * self.input[0] + HIGH_PASS_ZEROS[2] * self.input[1];
        let out = zeros - HIGH_PASS_POLES[0] * self.output[0] - HIGH_PASS_POLES[1] * self.output[1];
        self.input = [sample, self.input[0]];
        self.output = [out, self.output[0]];
        out
    }
}

const ORDER: usize = 10;
const SUBFRAME: usize = 40;
/// Maximum magnitude of the decoded signal. It is far above the amplitude of 16-bit speech, so only an unstable filter
/// exceeds it.
const MAX_AMPLITUDE: f32 = 1e6;
const HIGH_PASS_ZEROS: [f32; 3] = [0.939_805_8, -1.879_583_4, 0.939_805_8];
const HIGH_PASS_POLES: [f32; 2] = [-1.933_073_5, 0.935_892];

#[cfg(test)]
mod tests;
