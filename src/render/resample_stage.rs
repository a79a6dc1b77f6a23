//! Between a decoder and the canvas: sound at the decoder's rate goes to its place at the recording's rate.

use super::mix_buffer::MixBuffer;
use super::resample::Resampler;

/// Whose sound it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct MixTarget {
    /// 0 left, 1 right.
    pub(super) channel: usize,
    /// The higher wins.
    pub(super) rank: u16,
}

/// Converts the sound of one decoder.
pub(super) struct ResampleStage {
    from_hz: u32,
    to_hz: u32,
    painter: MixTarget,
    /// `None` when both rates are the same, or the ratio is one that cannot be converted.
    resampler: Option<Resampler>,
    run: Option<ResampleRun>,
    scratch: Vec<i16>,
}

/// Sound without a break that is being converted.
#[derive(Clone, Copy, Debug)]
struct ResampleRun {
    /// Position of the next input sample.
    next_in: i64,
    /// Position of the next output sample.
    next_out: i64,
}

impl ResampleStage {
    pub(super) fn new(from_hz: u32, to_hz: u32, painter: MixTarget) -> Self {
        let resampler = if from_hz == to_hz { None } else { Resampler::new(from_hz, to_hz) };
        Self { from_hz, to_hz, painter, resampler, run: None, scratch: Vec::new() }
    }

    /// Puts sound at a position of the decoder's rate.
    pub(super) fn write(&mut self, at: i64, samples: &[i16], canvas: &mut MixBuffer) {
        if self.from_hz == self.to_hz {
            canvas.paint(self.painter.channel, self.painter.rank, at, samples);
            return;
        }
        if self.run.is_none_or(|run| run.next_in != at) {
            self.finish(canvas);
            let next_out = i128::from(at) * i128::from(self.to_hz) / i128::from(self.from_hz.max(1));
            self.run = Some(ResampleRun { next_in: at, next_out: next_out as i64 });
        }
        let (Some(run), Some(resampler)) = (&mut self.run, &mut self.resampler) else { return };
        self.scratch.clear();
        resampler.push(samples, &mut self.scratch);
        run.next_in += samples.len() as i64;
        canvas.paint(self.painter.channel, self.painter.rank, run.next_out, &self.scratch);
        run.next_out += self.scratch.len() as i64;
    }

    /// Brings out what is still inside.
    pub(super) fn finish(&mut self, canvas: &mut MixBuffer) {
        let (Some(run), Some(resampler)) = (self.run.take(), &mut self.resampler) else { return };
        self.scratch.clear();
        resampler.finish(&mut self.scratch);
        canvas.paint(self.painter.channel, self.painter.rank, run.next_out, &self.scratch);
    }

    /// Brings out what is inside if nothing was written at or after a position of the recording.
    pub(super) fn finish_before(&mut self, position: i64, canvas: &mut MixBuffer) {
        if self.run.is_some_and(|run| run.next_out < position) {
            self.finish(canvas);
        }
    }

    /// Samples a second of what is written.
    pub(super) fn input_hz(&self) -> u32 {
        self.from_hz
    }
}
