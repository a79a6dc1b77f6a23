//! Splits recordings into slices if the server refuses them as too large. Each slice is uploaded as a separate WAV
//! file; the recording on disk stays whole.
//!
//! A proxy in front of Pyrus may have a lower limit than Pyrus, and its error does not state the limit. So the upload
//! size is halved until the server accepts a file. Later files are split to the same size.

use serde::{Deserialize, Serialize};

use super::job::{DeliveryJob, DeliveryPart, PartState};

/// A range of samples of a recording, which is sent as a separate WAV file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WavSlice {
    /// Number of the recording within the call, counted from 1.
    #[serde(rename = "of")]
    pub(crate) part_number: u32,
    /// Position of the slice's first sample in the recording, bytes from the end of the WAV header.
    #[serde(rename = "from")]
    pub(crate) offset_bytes: u64,
    /// Total size of the samples in the slice, bytes.
    pub(crate) bytes: u64,
}

/// Returns the next upload size to try, in bytes, after a file of `refused_bytes` was refused. Returns `None` if the
/// file is too small to be halved.
pub(crate) fn halved_limit(refused_bytes: u64) -> Option<u64> {
    let samples = refused_bytes.saturating_sub(HEADER_BYTES).div_ceil(2).next_multiple_of(FRAME_BYTES);
    (samples >= MIN_SLICE_BYTES).then_some(samples + HEADER_BYTES)
}

/// Returns whether the file of a part can be split. Only a WAV file can: an Ogg file cannot be cut between any two
/// samples.
pub(crate) fn can_be_split(part: &DeliveryPart) -> bool {
    part.path.ends_with(".wav")
}

/// Replaces a part by slices of at most `limit` bytes each, including headers. If the part was a whole file, it stays
/// with the state [`PartState::Split`]. If it was a slice itself, it is removed.
pub(crate) fn split(job: &mut DeliveryJob, number: u32, limit: u64) {
    let Some(at) = job.parts.iter().position(|p| p.number == number) else { return };
    let part = job.parts[at].clone();
    let whole = part.slice.unwrap_or(WavSlice {
        part_number: part.number,
        offset_bytes: 0,
        bytes: part.bytes.saturating_sub(HEADER_BYTES),
    });
    let max_bytes = limit.saturating_sub(HEADER_BYTES).max(MIN_SLICE_BYTES) / FRAME_BYTES * FRAME_BYTES;
    // All slices get about the same size, so that the last slice is not only a few samples long.
    let count = whole.bytes.div_ceil(max_bytes).max(1);
    let size = whole.bytes.div_ceil(count).next_multiple_of(FRAME_BYTES);
    let mut next = job.parts.iter().map(|p| p.number).max().unwrap_or(0).max(FIRST_SLICE_NUMBER - 1) + 1;
    let end = whole.offset_bytes + whole.bytes;
    let mut from = whole.offset_bytes;
    while from < end {
        let bytes = size.min(end - from);
        job.parts.push(DeliveryPart {
            number: next,
            path: part.path.clone(),
            bytes: bytes + HEADER_BYTES,
            slice: Some(WavSlice { part_number: whole.part_number, offset_bytes: from, bytes }),
            state: PartState::Waiting,
        });
        (from, next) = (from + bytes, next + 1);
    }
    if part.slice.is_some() {
        job.parts.remove(at);
    } else {
        job.parts[at].state = PartState::Split;
    }
    job.parts.sort_by_key(DeliveryPart::sort_key);
}

/// Returns the number of a slice among the slices of its recording, counted from 1.
pub(crate) fn ordinal(job: &DeliveryJob, slice: WavSlice) -> usize {
    1 + job
        .parts
        .iter()
        .filter_map(|p| p.slice)
        .filter(|s| s.part_number == slice.part_number && s.offset_bytes < slice.offset_bytes)
        .count()
}

/// Part number of the first slice of a split recording. It is larger than the number of any recording.
const FIRST_SLICE_NUMBER: u32 = 100_000;
/// Size of the WAV header for 16-bit samples, bytes. The header of a G.711 file is a few bytes longer; the last slice
/// of such a file is then a few bytes shorter.
const HEADER_BYTES: u64 = 44;
/// Size of one stereo sample, bytes (2 channels of 16 bits). Each slice begins at a multiple of this size.
const FRAME_BYTES: u64 = 4;
/// Minimum size in bytes of a slice, i.e. of a piece of a recording that is uploaded as a separate file. It is about
/// half a minute of sound. If a server refuses even such small files, splitting does not help.
const MIN_SLICE_BYTES: u64 = 1 << 20;
