//! Bytes in pieces of one size: they grow without moving, and what is given back is used again.

use std::io::{self, Read};
use std::sync::Arc;

/// The spool of a leg in memory.
#[derive(Debug, Default)]
pub struct ChunkedBuf {
    pieces: Vec<Vec<u8>>,
}

impl From<Vec<u8>> for ChunkedBuf {
    fn from(bytes: Vec<u8>) -> Self {
        Self { pieces: vec![bytes] }
    }
}

impl ChunkedBuf {
    /// All bytes in one.
    pub fn to_vec(&self) -> Vec<u8> {
        self.pieces.concat()
    }

    /// Where the next block goes; a new piece is one of the `spare` if there is one.
    pub(super) fn next(&mut self, spare: &mut Vec<Vec<u8>>) -> &mut Vec<u8> {
        if self.pieces.last().is_none_or(|piece| piece.len() + BLOCK > PIECE) {
            self.pieces.push(spare.pop().unwrap_or_else(|| Vec::with_capacity(PIECE)));
        }
        let last = self.pieces.len() - 1;
        &mut self.pieces[last]
    }

    /// The pieces in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.pieces.iter().map(Vec::as_slice)
    }

    /// Bytes in all of them.
    pub(super) fn len(&self) -> usize {
        self.pieces.iter().map(Vec::len).sum()
    }

    /// Gives back what can be used again, as long as `room` says that there is some.
    pub(super) fn give_back(self, spare: &mut Vec<Vec<u8>>, room: usize) {
        let sized = self.pieces.into_iter().filter(|piece| piece.capacity() == PIECE);
        for mut piece in sized.take(room / PIECE) {
            piece.clear();
            spare.push(piece);
        }
    }
}

/// Reads pieces from their beginning.
pub(super) struct ChunkedBufReader {
    pieces: Arc<ChunkedBuf>,
    piece: usize,
    at: usize,
}

impl ChunkedBufReader {
    pub(super) fn new(pieces: Arc<ChunkedBuf>) -> Self {
        Self { pieces, piece: 0, at: 0 }
    }
}

impl Read for ChunkedBufReader {
    fn read(&mut self, mut out: &mut [u8]) -> io::Result<usize> {
        let room = out.len();
        while let Some(piece) = self.pieces.pieces.get(self.piece)
            && !out.is_empty()
        {
            let count = (&piece[self.at..]).read(out)?;
            out = &mut out[count..];
            self.at += count;
            if self.at == piece.len() {
                (self.piece, self.at) = (self.piece + 1, 0);
            }
        }
        Ok(room - out.len())
    }
}

/// Bytes of a piece: a little more than a second of both sides of G.711.
pub(super) const PIECE: usize = 32 * 1024;
/// With less room than this, a new piece is begun: larger than any packet that travels in one frame. A longer block makes
/// its piece grow.
const BLOCK: usize = 2 * 1024;
