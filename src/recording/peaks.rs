//! Peaks of a recording for its waveform. They are made once, when the file is published, and lie beside it (`.peaks`).
//!
//! Peaks tell when somebody spoke. They are therefore removed with the recording, and before it is encrypted.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::publish;
use super::verify::{PeakFinder, decode};
use crate::call::record::RecordingFile;

/// The peaks of both channels: pieces of equal length, each with its lowest and highest sample divided by 256.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RecordingPeaks {
    /// Left and right channel.
    pub channels: [Vec<(i8, i8)>; 2],
}

impl RecordingPeaks {
    /// Reads the peaks beside a recording; `None` if there are none.
    pub(crate) fn read(recording: &Path) -> Option<Self> {
        let mut bytes = Vec::new();
        File::open(peaks_path(recording)).ok()?.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
        let pieces = bytes.strip_prefix(MAGIC)?.as_chunks::<4>().0;
        let channel = |at: usize| pieces.iter().map(|p| (p[at] as i8, p[at + 1] as i8)).collect();
        Some(Self { channels: [channel(0), channel(2)] })
    }
}

/// Returns the path of the peaks of a recording.
pub(crate) fn peaks_path(recording: &Path) -> PathBuf {
    recording.with_extension("peaks")
}

/// Makes the peaks of a published recording and writes them beside it. Memory does not depend on its length.
///
/// # Errors
/// Fails if the recording cannot be decoded or the peaks cannot be written.
pub(crate) fn write_beside(recording: &RecordingFile) -> io::Result<()> {
    let path = Path::new(&recording.path);
    let expected = crate::render::samples_between(recording.starts_at, recording.ends_at, recording.sample_rate);
    let pieces = (recording.duration_s * PIECES_PER_S).ceil().clamp(1.0, MAX_PIECES) as u64;
    let mut finder = PeakFinder::new(expected, pieces);
    decode(path, recording.sample_rate, &mut |frames| finder.add(frames)).map_err(io::Error::other)?;
    let [left, right] = finder.channels();
    let mut bytes = MAGIC.to_vec();
    for (&(left_low, left_high), &(right_low, right_high)) in left.iter().zip(right) {
        bytes.extend([left_low, left_high, right_low, right_high].map(|sample| (sample >> 8) as u8));
    }
    publish::write(&peaks_path(path), &bytes)
}

/// First bytes of a file of peaks.
const MAGIC: &[u8] = b"CSPEAKS1";
/// Pieces in a second: fine enough for words, and 32 bytes a second are 0.1 % of a WAV.
const PIECES_PER_S: f64 = 8.0;
/// Most pieces of a file: an hour in full; longer files get longer pieces.
const MAX_PIECES: f64 = 28_800.0;
/// Most bytes that are read of a file of peaks.
const MAX_BYTES: u64 = 8 + 4 * 28_800;
