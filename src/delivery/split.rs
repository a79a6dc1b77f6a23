//! A recording that the server finds too large is sent in pieces: each a WAV of its own, cut between two samples, in
//! order. The file on our disk stays one. A server behind a proxy refuses long before the limit that Pyrus names, and
//! says no number: the limit is found by halving, and remembered for the files that come after.

use serde::{Deserialize, Serialize};

use super::job::{Job, Part, PartState};

/// The samples of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// The number of the part that it is cut from.
    pub of: u32,
    /// Where its samples begin, counted from the first byte behind the header.
    pub from: u64,
    /// Bytes of samples.
    pub bytes: u64,
}

/// The limit to be tried after a file of this size was refused; `None`: it is too small to be halved.
pub fn half(refused_bytes: u64) -> Option<u64> {
    let samples = refused_bytes.saturating_sub(HEADER_BYTES).div_ceil(2).next_multiple_of(FRAME_BYTES);
    (samples >= LEAST_BYTES).then_some(samples + HEADER_BYTES)
}

/// Whether pieces can be cut from it: of samples, not of the pages of an Ogg.
pub fn can_be_split(part: &Part) -> bool {
    part.path.ends_with(".wav")
}

/// Replaces a part by pieces that are no larger than `limit`, headers included; the part itself is marked as split.
/// Pieces of a piece take its place.
pub fn split(job: &mut Job, number: u32, limit: u64) {
    let Some(at) = job.parts.iter().position(|p| p.number == number) else { return };
    let part = job.parts[at].clone();
    let whole = part.cut.unwrap_or(Cut { of: part.number, from: 0, bytes: part.bytes.saturating_sub(HEADER_BYTES) });
    let room = limit.saturating_sub(HEADER_BYTES).max(LEAST_BYTES) / FRAME_BYTES * FRAME_BYTES;
    // Pieces of one size: a last one of a few samples helps nobody.
    let count = whole.bytes.div_ceil(room).max(1);
    let size = whole.bytes.div_ceil(count).next_multiple_of(FRAME_BYTES);
    let mut next = job.parts.iter().map(|p| p.number).max().unwrap_or(0).max(FIRST_PIECE - 1) + 1;
    let end = whole.from + whole.bytes;
    let mut from = whole.from;
    while from < end {
        let bytes = size.min(end - from);
        job.parts.push(Part {
            number: next,
            path: part.path.clone(),
            bytes: bytes + HEADER_BYTES,
            cut: Some(Cut { of: whole.of, from, bytes }),
            state: PartState::Waiting,
        });
        (from, next) = (from + bytes, next + 1);
    }
    if part.cut.is_some() {
        job.parts.remove(at);
    } else {
        job.parts[at].state = PartState::Split;
    }
    job.parts.sort_by_key(Part::place);
}

/// 1 for the first piece of its part.
pub fn ordinal(job: &Job, cut: Cut) -> usize {
    1 + job.parts.iter().filter_map(|p| p.cut).filter(|c| c.of == cut.of && c.from < cut.from).count()
}

/// Numbers of pieces begin here: no call has so many parts.
const FIRST_PIECE: u32 = 100_000;
/// What stands before the samples in a WAV of 16 bits; of G.711 a few bytes more, which the last piece then lacks.
const HEADER_BYTES: u64 = 44;
/// Two channels of 16 bits: pieces begin at a multiple of it.
const FRAME_BYTES: u64 = 4;
/// A server that takes no file of this size takes none: half a minute of speech.
const LEAST_BYTES: u64 = 1 << 20;
