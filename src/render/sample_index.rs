//! Positions in samples. Times in nanoseconds have other types, so that no position is taken for a time.
//!
//! The position of a packet is at most 1e15 samples from the start, so that sums cannot overflow.

/// Position in the recording: number of samples since its start, at the recording's sampling rate. It is negative
/// before the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SampleIndex(pub(super) i64);

impl SampleIndex {
    /// Returns the position of a sample that comes `samples` samples later.
    #[inline]
    pub(super) const fn after(self, samples: usize) -> Self {
        Self(self.0 + samples as i64)
    }

    /// Converts this position to a position in the sound of a decoder. The sampling rates of recording and decoder are
    /// in Hz.
    pub(super) fn at_decoder(self, recording_hz: u32, decoder_hz: u32) -> DecoderIndex {
        DecoderIndex(at_other_rate(self.0, recording_hz, decoder_hz))
    }
}

/// Position in the sound of a decoder: number of samples since the start of the recording, at the decoder's sampling
/// rate. It is negative before the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DecoderIndex(pub(super) i64);

impl DecoderIndex {
    /// Returns the position of a sample that comes `samples` samples later.
    #[inline]
    pub(super) const fn after(self, samples: usize) -> Self {
        Self(self.0 + samples as i64)
    }

    /// Converts this position to a position in the recording. The sampling rates of decoder and recording are in Hz.
    pub(super) fn in_recording(self, decoder_hz: u32, recording_hz: u32) -> SampleIndex {
        SampleIndex(at_other_rate(self.0, decoder_hz, recording_hz))
    }
}

fn at_other_rate(position: i64, from_hz: u32, to_hz: u32) -> i64 {
    (i128::from(position) * i128::from(to_hz) / i128::from(from_hz.max(1))) as i64
}
