//! Converts the sound of a decoder to the recording's sampling rate and writes it to the mix buffer.

use super::mix_buffer::{MixBuffer, MixTarget, SoundPrecedence};
use super::resample::Resampler;
use super::sample_index::{DecoderIndex, SampleIndex};

/// Converts the sound of one decoder to the recording's sampling rate.
pub(super) struct ResampleStage {
    from_hz: u32,
    to_hz: u32,
    target: MixTarget,
    /// The resampler; `None` if both rates are equal, or if the ratio of the rates is not supported.
    resampler: Option<Resampler>,
    run: Option<ResampleRun>,
    scratch: Vec<i16>,
}

/// A stretch of sound without gaps that is being converted to the recording's sampling rate.
#[derive(Clone, Copy, Debug)]
struct ResampleRun {
    /// Position of the next input sample, counted at the decoder's sampling rate.
    next_in: DecoderIndex,
    /// Position of the next output sample, counted at the recording's sampling rate.
    next_out: SampleIndex,
}

impl ResampleStage {
    pub(super) fn new(from_hz: u32, to_hz: u32, target: MixTarget) -> Self {
        let resampler = if from_hz == to_hz { None } else { Resampler::new(from_hz, to_hz) };
        Self { from_hz, to_hz, target, resampler, run: None, scratch: Vec::new() }
    }

    /// Writes the sound of the decoder at a position. The last samples that the resampler holds back get the precedence
    /// of the sound after them.
    pub(super) fn write(
        &mut self,
        at: DecoderIndex,
        samples: &[i16],
        precedence: SoundPrecedence,
        buffer: &mut MixBuffer,
    ) {
        self.target.precedence = precedence;
        if self.from_hz == self.to_hz {
            buffer.write(self.target, SampleIndex(at.0), samples);
            return;
        }
        if self.run.is_none_or(|run| run.next_in != at) {
            self.finish(buffer);
            let next_out = at.in_recording(self.from_hz, self.to_hz);
            self.run = Some(ResampleRun { next_in: at, next_out });
        }
        let (Some(run), Some(resampler)) = (&mut self.run, &mut self.resampler) else { return };
        self.scratch.clear();
        resampler.push(samples, &mut self.scratch);
        run.next_in = run.next_in.after(samples.len());
        buffer.write(self.target, run.next_out, &self.scratch);
        run.next_out = run.next_out.after(self.scratch.len());
    }

    /// Writes the samples that the resampler still holds, because the stretch of sound has ended.
    pub(super) fn finish(&mut self, buffer: &mut MixBuffer) {
        let (Some(run), Some(resampler)) = (self.run.take(), &mut self.resampler) else { return };
        self.scratch.clear();
        resampler.finish(&mut self.scratch);
        buffer.write(self.target, run.next_out, &self.scratch);
    }

    /// Ends the stretch of sound like [`Self::finish`], but only if its output so far ends before the given position of
    /// the recording.
    pub(super) fn finish_before(&mut self, position: SampleIndex, buffer: &mut MixBuffer) {
        if self.run.is_some_and(|run| run.next_out < position) {
            self.finish(buffer);
        }
    }

    /// Returns the sampling rate of the decoder, Hz.
    pub(super) fn input_hz(&self) -> u32 {
        self.from_hz
    }
}
