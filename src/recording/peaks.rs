//! Peaks of a recording, from which a waveform is drawn. They are made while the recording is written, and stored
//! beside it (`.peaks`).
//!
//! A waveform is only a convenience, so the peaks are not synced to disk. A peaks file that is empty after a power cut
//! counts as missing.
//!
//! Peaks show when somebody spoke. For privacy they are therefore removed with the recording, and before it is
//! encrypted.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// The peaks of both channels, from which a waveform is drawn. The recording is divided into pieces of equal length.
/// Each piece has its lowest and its highest sample, divided by 256.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RecordingPeaks {
    /// Left channel, then right channel: lowest and highest sample of each piece.
    pub channels: [Vec<(i8, i8)>; 2],
}

impl RecordingPeaks {
    /// Reads the file with the peaks (the data of the waveform) beside a recording; returns `None` if there is none.
    pub(crate) fn read(recording: &Path) -> Option<Self> {
        let mut bytes = Vec::new();
        File::open(peaks_path(recording)).ok()?.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
        let pieces = bytes.strip_prefix(MAGIC)?.as_chunks::<4>().0;
        let channel = |at: usize| pieces.iter().map(|p| (p[at] as i8, p[at + 1] as i8)).collect();
        Some(Self { channels: [channel(0), channel(2)] })
    }
}

/// Returns the path of the file with the peaks of a recording, i.e. the data of its waveform.
pub(crate) fn peaks_path(recording: &Path) -> PathBuf {
    recording.with_extension("peaks")
}

/// Divides a recording into pieces of equal length, and finds the lowest and highest sample of each piece.
#[derive(Clone, Debug)]
pub(super) struct PeakFinder {
    expected: u64,
    pieces: u64,
    samples: u64,
    /// Number of the current piece, i.e. the piece to which the next sample belongs.
    piece: u64,
    /// Index of the first sample after the current piece.
    piece_end: u64,
    channels: [Vec<(i16, i16)>; 2],
}

impl PeakFinder {
    /// Creates a peak finder for a recording of `expected` samples per channel. It has `pieces` pieces, or one for each
    /// sample if there are fewer samples.
    pub(super) fn new(expected: u64, pieces: u64) -> Self {
        let pieces = expected.min(pieces);
        let empty = vec![(i16::MAX, i16::MIN); pieces as usize];
        let mut finder =
            Self { expected, pieces, samples: 0, piece: 0, piece_end: 0, channels: [empty.clone(), empty] };
        finder.piece_end = finder.start_of(1);
        finder
    }

    /// Creates a peak finder for the `.peaks` file of a recording with `samples` samples per channel.
    pub(super) fn of_recording(samples: u64, sample_rate: u32) -> Self {
        let seconds = samples as f64 / f64::from(sample_rate.max(1));
        Self::new(samples, (seconds * PIECES_PER_S).ceil().clamp(1.0, MAX_PIECES) as u64)
    }

    /// Adds samples of both channels. Ignores samples beyond the expected number.
    pub(super) fn add(&mut self, mut frames: &[[i16; 2]]) {
        while !frames.is_empty() && self.piece < self.pieces {
            let room = usize::try_from(self.piece_end - self.samples).unwrap_or(usize::MAX).min(frames.len());
            let (now, later) = frames.split_at(room);
            self.widen(now);
            self.samples += room as u64;
            frames = later;
            if self.samples == self.piece_end {
                self.piece += 1;
                self.piece_end = self.start_of(self.piece + 1);
            }
        }
        self.samples += frames.len() as u64;
    }

    /// Returns the number of samples per channel that were added so far.
    pub(super) const fn samples(&self) -> u64 {
        self.samples
    }

    /// Returns the lowest and highest sample of each piece of the recording, for the left and the right channel.
    pub(super) fn into_channels(self) -> [Vec<(i16, i16)>; 2] {
        self.channels
    }

    /// Returns the contents of the `.peaks` file.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let [left, right] = &self.channels;
        let mut bytes = MAGIC.to_vec();
        for (&(left_low, left_high), &(right_low, right_high)) in left.iter().zip(right) {
            bytes.extend([left_low, left_high, right_low, right_high].map(|sample| (sample >> 8) as u8));
        }
        bytes
    }

    /// Widens the range of the current piece by more samples. Every sample of a recording passes through this loop, so
    /// it has no branch and the compiler can vectorize it.
    fn widen(&mut self, frames: &[[i16; 2]]) {
        let (mut low, mut high) = ([i16::MAX; 2], [i16::MIN; 2]);
        for &[left, right] in frames {
            low = [low[0].min(left), low[1].min(right)];
            high = [high[0].max(left), high[1].max(right)];
        }
        for ((channel, low), high) in self.channels.iter_mut().zip(low).zip(high) {
            if let Some(peak) = channel.get_mut(self.piece as usize) {
                *peak = (peak.0.min(low), peak.1.max(high));
            }
        }
    }

    /// Returns the index of the first sample of a piece. The pieces divide all samples equally; a fraction is rounded
    /// up.
    fn start_of(&self, piece: u64) -> u64 {
        let start = (u128::from(piece) * u128::from(self.expected)).div_ceil(u128::from(self.pieces.max(1)));
        u64::try_from(start).unwrap_or(u64::MAX)
    }
}

/// Finds the peaks of a recording (the data of its waveform) and writes them beside it. For tests with recordings that
/// the recorder did not make.
#[cfg(test)]
pub(crate) fn write_beside(recording: &crate::call::record::RecordingFile) {
    let path = Path::new(&recording.path);
    let expected = crate::render::samples_between(recording.starts_at, recording.ends_at, recording.sample_rate);
    let mut finder = PeakFinder::of_recording(expected, recording.sample_rate);
    super::verify::decode(path, recording.sample_rate, &mut |frames| finder.add(frames)).expect("decodable");
    std::fs::write(peaks_path(path), finder.to_bytes()).expect("written");
}

/// First bytes of a `.peaks` file, by which it is recognised.
const MAGIC: &[u8] = b"CSPEAKS1";
/// Number of pieces per second of sound. At this rate single words are visible, and the 32 bytes a second are 0.1 % of
/// a WAV file.
const PIECES_PER_S: f64 = 8.0;
/// Maximum number of pieces of a `.peaks` file: an hour with eight pieces a second. A longer recording has longer
/// pieces.
const MAX_PIECES: f64 = 28_800.0;
/// Maximum size of a `.peaks` file that is read, bytes: 8 bytes of [`MAGIC`], and 4 bytes for each of at most 28,800
/// pieces.
const MAX_BYTES: u64 = 8 + 4 * 28_800;

#[cfg(test)]
mod tests {
    use super::*;

    /// Finds the peaks slowly but simply: computes for each sample the piece to which it belongs. The test compares
    /// [`PeakFinder`] with this function.
    fn plain(frames: &[[i16; 2]], expected: u64, pieces: u64) -> [Vec<(i16, i16)>; 2] {
        let pieces = pieces.min(expected);
        let mut out = [vec![(i16::MAX, i16::MIN); pieces as usize], vec![(i16::MAX, i16::MIN); pieces as usize]];
        for (at, frame) in (0..expected).zip(frames) {
            for (channel, &sample) in out.iter_mut().zip(frame) {
                let (low, high) = &mut channel[(at * pieces / expected) as usize];
                (*low, *high) = ((*low).min(sample), (*high).max(sample));
            }
        }
        out
    }

    #[test]
    fn pieces_are_the_same_however_the_samples_are_split() {
        let frames: Vec<[i16; 2]> = (0..5_003_u32).map(|n| [(n * 7_919) as i16, (n * 31) as i16]).collect();
        // Each case is the expected number of samples and the number of pieces. The recording is longer or shorter than
        // expected, or as expected. In two cases there are more pieces than samples.
        for (expected, pieces) in [(6_000, 7), (5_003, 11), (4_999, 40), (1_000, 1_000), (3, 8), (0, 5)] {
            for step in [1, 13, 160, 8_000] {
                let mut finder = PeakFinder::new(expected, pieces);
                frames.chunks(step).for_each(|chunk| finder.add(chunk));
                assert_eq!(finder.samples(), 5_003);
                assert_eq!(finder.into_channels(), plain(&frames, expected, pieces), "{expected} {pieces} {step}");
            }
        }
    }
}
