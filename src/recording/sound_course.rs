//! Compares the sound of two legs of a call, piece by piece of 100 ms.

use std::ops::Range;

use super::segments::ChannelOrder;
use crate::call::record::Side;

/// The sound of one side in a piece of 100 ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PieceSound {
    /// The leg has no sound at all: all samples are zero.
    Nothing,
    /// The leg has sound below the level of talk.
    Quiet,
    Talk,
}

/// The sound of both sides of a leg, as a list of pieces of 100 ms.
#[derive(Clone, Debug)]
pub(super) struct SoundCourse {
    rate_hz: u32,
    channels: ChannelOrder,
    /// Samples of the piece that is not complete yet.
    rest: Vec<[i16; 2]>,
    /// The pieces of each side of the call, the caller first.
    pieces: [Vec<PieceSound>; 2],
}

/// Which sound of a leg another leg has or lacks, in pieces of 100 ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CourseComparison {
    /// Number of pieces with talk that only the other leg has.
    gained: usize,
    /// Number of pieces with talk that the other leg lacks.
    lost: usize,
    /// Pieces in which both legs have sound of a side.
    common: Agreement,
    /// Pieces of one side, while the leg lacks the other side and the other leg has both.
    beside: Agreement,
}

/// Whether two legs have talk in the same pieces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Agreement {
    /// Number of pieces in which both legs have talk.
    alike: usize,
    /// Number of pieces in which one leg has talk, and the other is quiet.
    different: usize,
}

impl PieceSound {
    fn of(samples: impl ExactSizeIterator<Item = i16>) -> Self {
        let count = samples.len() as u64;
        match samples.map(|sample| u64::from(sample.unsigned_abs()).pow(2)).sum::<u64>() {
            0 => Self::Nothing,
            energy if energy > TALK_POWER * count => Self::Talk,
            _ => Self::Quiet,
        }
    }
}

impl SoundCourse {
    /// Creates the course of a leg whose channels have the given order.
    pub(super) const fn new(rate_hz: u32, channels: ChannelOrder) -> Self {
        Self { rate_hz, channels, rest: Vec::new(), pieces: [Vec::new(), Vec::new()] }
    }

    /// Adds samples of the leg's caller and callee.
    pub(super) fn add(&mut self, frames: &[[i16; 2]]) {
        self.rest.extend_from_slice(frames);
        let length = (self.rate_hz / PIECES_A_SECOND).max(1) as usize;
        let whole = self.rest.len() / length * length;
        for piece in self.rest[..whole].chunks_exact(length) {
            for (channel, pieces) in self.pieces.iter_mut().enumerate() {
                let channel = if self.channels == ChannelOrder::Same { channel } else { 1 - channel };
                pieces.push(PieceSound::of(piece.iter().map(|frame| frame[channel])));
            }
        }
        self.rest.drain(..whole);
    }

    /// Compares this leg with another leg of the call in the same period. Only the sides in `lacking` may gain sound,
    /// and no sound is gained in the pieces in `held`.
    pub(super) fn compare(&self, other: &Self, lacking: [bool; 2], held: &[Range<usize>]) -> CourseComparison {
        let mut result = CourseComparison::default();
        for side in [Side::Caller, Side::Callee] {
            let (own, others) = (&self.pieces[side.channel()], &other.pieces[side.channel()]);
            result.common.add(own, others, 0..own.len());
            let pairs = own.iter().zip(others);
            result.lost += pairs.filter(|pair| *pair == (&PieceSound::Talk, &PieceSound::Nothing)).count();
            if !lacking[side.channel()] {
                continue;
            }
            let beside = side.other().channel();
            for gap in gaps(own) {
                let is_held = |n: &usize| held.iter().any(|pieces| pieces.contains(n));
                let is_new = |n: &usize| others.get(*n) == Some(&PieceSound::Talk) && !is_held(n);
                let gained = gap.clone().filter(is_new).count();
                if gained >= LEAST_GAIN {
                    result.gained += gained;
                    result.beside.add(&self.pieces[beside], &other.pieces[beside], gap);
                }
            }
        }
        result
    }
}

/// Returns the pieces of a period that begins `from_ns` after the start of the recording and ends at `to_ns`.
pub(super) fn pieces_between(from_ns: i64, to_ns: i64) -> Range<usize> {
    let piece = |ns: i64| usize::try_from(ns / (1_000_000_000 / i64::from(PIECES_A_SECOND))).unwrap_or(0);
    piece(from_ns)..piece(to_ns).saturating_add(1)
}

impl CourseComparison {
    /// Returns the number of pieces with talk that the recording gains, if the other leg has the same talk and hardly
    /// lacks anything. Returns 0 otherwise.
    pub(super) const fn gain(self) -> usize {
        let is_same = self.common.is_likely() && self.beside.is_likely();
        if is_same && self.lost <= MOST_LOST { self.gained } else { 0 }
    }
}

impl Agreement {
    /// Adds those pieces of a side in which both legs have sound. Talk may be a piece earlier or later on one leg.
    fn add(&mut self, own: &[PieceSound], other: &[PieceSound], range: Range<usize>) {
        let talks_near = |pieces: &[PieceSound], n: usize| {
            let end = pieces.len().min(n + 2);
            pieces[n.saturating_sub(1).min(end)..end].contains(&PieceSound::Talk)
        };
        for n in range {
            let (Some(mine), Some(theirs)) = (own.get(n), other.get(n)) else { break };
            match (mine, theirs) {
                (PieceSound::Nothing, _) | (_, PieceSound::Nothing) | (PieceSound::Quiet, PieceSound::Quiet) => {}
                (PieceSound::Talk, _) if talks_near(other, n) => self.alike += 1,
                (_, PieceSound::Talk) if talks_near(own, n) => self.alike += 1,
                _ => self.different += 1,
            }
        }
    }

    const fn is_likely(self) -> bool {
        self.different * LEAST_RATIO <= self.alike
    }
}

/// Returns the ranges of at least [`LEAST_GAP`] pieces without any sound. At a side with sound, [`GAP_EDGE`] pieces are
/// left out, because the other leg may carry the same sound a little earlier or later.
fn gaps(pieces: &[PieceSound]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut from = 0;
    for run in pieces.chunk_by(|a, b| (*a == PieceSound::Nothing) == (*b == PieceSound::Nothing)) {
        let end = from + run.len();
        if run[0] == PieceSound::Nothing && run.len() >= LEAST_GAP {
            let first = if from == 0 { 0 } else { from + GAP_EDGE };
            let last = if end == pieces.len() { end } else { end - GAP_EDGE };
            found.push(first..last);
        }
        from = end;
    }
    found
}

/// Number of pieces in a second.
const PIECES_A_SECOND: u32 = 10;
/// Minimum mean square of a piece of sound that counts as talk: 184 squared, -45 dBov. Background noise is below it.
const TALK_POWER: u64 = 184 * 184;
/// Minimum ratio of pieces in which two legs agree to pieces in which they differ. Of two people who talk independently
/// of each other, the ratio is about 1.5.
const LEAST_RATIO: usize = 3;
/// Minimum length of a gap, in pieces: 1 s. A sender that suppresses silence makes many shorter gaps.
const LEAST_GAP: usize = 10;
/// Number of pieces at the edge of a gap that are not compared: 200 ms, more than a PBX delays sound.
const GAP_EDGE: usize = 2;
/// Minimum number of pieces with talk on the other leg for which a gap counts: 1 s of talk.
const LEAST_GAIN: usize = 10;
/// Maximum number of pieces with talk that the other leg may lack: 0.5 s, e.g. because it was answered later.
const MOST_LOST: usize = 5;
