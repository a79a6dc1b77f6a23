//! iLBC, 13.33 and 15.2 kbit/s (RFC 3951; RTP payload RFC 3952).
//!
//! Written from the RFC's text, with the figures of its tables, in floating point. A frame needs nothing of the one
//! before it but its spectrum and the memory of the filters: the residual of each begins with a coded *start state*,
//! from which the rest grows in both directions.
//!
//! The enhancer, which the RFC describes and telephones use, is on: what a listener heard is recorded, with its delay
//! of 5 or 10 ms. A decoder without it (ffmpeg's) gives other samples of the same frames: the voice is as clear, a few
//! tenths of a dB fainter, and the noise between the harmonics stays.

mod enhancer;
mod excitation;
mod frame;
mod lsf;
mod packet_loss;
mod tables;

use super::conceal::{DtxState, FrameConcealer};
use super::{DecodeError, SpeechDecoder, fmtp};
use enhancer::Enhancer;
use frame::{FrameLayout, IlbcFrame};
use lsf::{LpcCoefficients, LsfVector};
use packet_loss::LossConcealment;

/// Length of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IlbcMode {
    /// 20 ms in 38 bytes.
    Twenty,
    /// 30 ms in 50 bytes.
    Thirty,
}

impl IlbcMode {
    /// What the `fmtp` line says; 30 ms where it says nothing (RFC 3952 section 4.2).
    pub fn of(parameters: &str) -> Self {
        if fmtp(parameters, "mode") == Some("20") { Self::Twenty } else { Self::Thirty }
    }

    /// The mode of a payload: the announced one where its length allows, else the other. Some gateways announce a mode
    /// and send the other.
    fn of_payload(self, length: usize) -> Option<Self> {
        let other = if self == Self::Twenty { Self::Thirty } else { Self::Twenty };
        [self, other].into_iter().find(|mode| length > 0 && length.is_multiple_of(mode.bytes()))
    }

    const fn bytes(self) -> usize {
        match self {
            Self::Twenty => 38,
            Self::Thirty => 50,
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

    /// Samples by which the enhancer delays.
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

/// Decoder of one iLBC stream.
#[derive(Clone, Debug)]
pub struct IlbcDecoder {
    announced: IlbcMode,
    voice: IlbcState,
    made_up: FrameConcealer,
}

impl IlbcDecoder {
    /// A decoder for what the `fmtp` line says.
    pub fn new(parameters: &str) -> Self {
        let announced = IlbcMode::of(parameters);
        Self { announced, voice: IlbcState::new(announced), made_up: FrameConcealer::new(8_000) }
    }
}

impl SpeechDecoder for IlbcDecoder {
    fn sample_rate_hz(&self) -> u32 {
        8_000
    }

    fn decode(&mut self, payload: &[u8], out: &mut Vec<i16>) -> Result<(), DecodeError> {
        let mode = self.announced.of_payload(payload.len()).ok_or(DecodeError::Length)?;
        if mode != self.voice.mode {
            self.voice = IlbcState::new(mode);
        }
        for bytes in payload.chunks_exact(mode.bytes()) {
            match IlbcFrame::parse(mode, bytes) {
                Some(frame) => self.voice.speak(&frame, out),
                None => self.voice.make_up(out),
            }
        }
        self.made_up.end();
        Ok(())
    }

    fn conceal(&mut self, samples: usize, _next: Option<&[u8]>, out: &mut Vec<i16>) {
        self.made_up.fill(samples, DtxState::Talking, out, |out| self.voice.make_up(out));
    }
}

/// What goes on from frame to frame.
#[derive(Clone, Debug)]
struct IlbcState {
    mode: IlbcMode,
    lines: LsfVector,
    /// The filters of the last frame, of which the enhancer's delay leaves some to be used.
    filters: Vec<LpcCoefficients>,
    loss: LossConcealment,
    /// `None` only to be compared with decoders that have none.
    enhancer: Option<Enhancer>,
    /// The last samples of the synthesis filter, the newest first.
    spoken: [f32; ORDER],
    output: HighPassFilter,
}

impl IlbcState {
    fn new(mode: IlbcMode) -> Self {
        Self {
            mode,
            lines: lsf::mean(),
            filters: vec![[0.0; ORDER]; mode.subframes()],
            loss: LossConcealment::new(mode.samples()),
            enhancer: Some(Enhancer::new(mode)),
            spoken: [0.0; ORDER],
            output: HighPassFilter::default(),
        }
    }

    fn speak(&mut self, frame: &IlbcFrame, out: &mut Vec<i16>) {
        let filters = lsf::filters(self.mode, &frame.spectra, &mut self.lines);
        let residual = excitation::residual(frame, &filters);
        self.loss.heard(&residual);
        self.say(residual, ResidualSource::Decoded, filters, out);
    }

    fn make_up(&mut self, out: &mut Vec<i16>) {
        let residual = self.loss.make_up();
        // The spectrum of the last subframe goes on.
        let last = self.filters.last().copied().unwrap_or_default();
        self.say(residual, ResidualSource::Concealed, vec![last; self.mode.subframes()], out);
    }

    fn say(&mut self, residual: Vec<f32>, source: ResidualSource, filters: Vec<LpcCoefficients>, out: &mut Vec<i16>) {
        match &mut self.enhancer {
            Some(enhancer) => {
                let enhanced = enhancer.enhance(&residual, source);
                self.synthesize(&enhanced, self.mode.delay() / SUBFRAME, filters, out);
            }
            None => self.synthesize(&residual, 0, filters, out),
        }
    }

    /// The residual is that of the last `late` subframes of the last frame, then of this one's.
    fn synthesize(&mut self, residual: &[f32], late: usize, filters: Vec<LpcCoefficients>, out: &mut Vec<i16>) {
        let last = std::mem::replace(&mut self.filters, filters);
        let filters = last[last.len() - late..].iter().chain(&self.filters);
        for (subframe, filter) in residual.chunks_exact(SUBFRAME).zip(filters) {
            for excitation in subframe {
                let predicted: f32 = filter.iter().zip(&self.spoken).map(|(c, past)| c * past).sum();
                self.spoken.rotate_right(1);
                self.spoken[0] = excitation - predicted;
                out.push(self.output.filter(self.spoken[0]).round() as i16);
            }
        }
        // Spectra that no encoder makes can give an unstable filter.
        if !self.spoken.iter().all(|sample| sample.abs() < LOUDEST) {
            *self = Self::new(self.mode);
        }
    }
}

/// Where a residual comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ResidualSource {
    Decoded,
    Concealed,
}

/// The high pass at the output (section 4.8): hum below 65 Hz is taken out.
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
/// Far over what speech of 16 bits needs.
const LOUDEST: f32 = 1e6;
const HIGH_PASS_ZEROS: [f32; 3] = [0.939_805_8, -1.879_583_4, 0.939_805_8];
const HIGH_PASS_POLES: [f32; 2] = [-1.933_073_5, 0.935_892];

#[cfg(test)]
mod tests;
