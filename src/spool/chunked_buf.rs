//! Bytes in pieces of one size: they grow without moving, and what is given back is used again.

use std::io::{self, Read};
use std::sync::Arc;

/// The spool of a leg in memory.
#[derive(Debug, Default)]
pub struct ChunkedBuf {
    chunks: Vec<Vec<u8>>,
}

impl From<Vec<u8>> for ChunkedBuf {
    fn from(bytes: Vec<u8>) -> Self {
        Self { chunks: vec![bytes] }
    }
}

impl ChunkedBuf {
    /// All bytes in one.
    pub fn to_vec(&self) -> Vec<u8> {
        self.chunks.concat()
    }

    /// Where the next block goes; a new piece is one of the `spare` if there is one.
    pub(super) fn block_buf(&mut self, spare: &mut Vec<Vec<u8>>) -> &mut Vec<u8> {
        if self.chunks.last().is_none_or(|chunk| chunk.len() + MIN_FREE_BYTES > CHUNK_BYTES) {
            self.chunks.push(spare.pop().unwrap_or_else(|| Vec::with_capacity(CHUNK_BYTES)));
        }
        let last = self.chunks.len() - 1;
        &mut self.chunks[last]
    }

    /// The pieces in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.chunks.iter().map(Vec::as_slice)
    }

    /// Bytes in all of them.
    pub(super) fn len(&self) -> usize {
        self.chunks.iter().map(Vec::len).sum()
    }

    /// Gives back what can be used again, as long as `free` says that there is some.
    pub(super) fn recycle(self, spare: &mut Vec<Vec<u8>>, free: usize) {
        let sized = self.chunks.into_iter().filter(|chunk| chunk.capacity() == CHUNK_BYTES);
        for mut chunk in sized.take(free / CHUNK_BYTES) {
            chunk.clear();
            spare.push(chunk);
        }
    }
}

/// Reads pieces from their beginning.
pub(super) struct ChunkedBufReader {
    chunks: Arc<ChunkedBuf>,
    chunk: usize,
    at: usize,
}

impl ChunkedBufReader {
    pub(super) fn new(chunks: Arc<ChunkedBuf>) -> Self {
        Self { chunks, chunk: 0, at: 0 }
    }
}

impl Read for ChunkedBufReader {
    fn read(&mut self, mut out: &mut [u8]) -> io::Result<usize> {
        let free = out.len();
        while let Some(chunk) = self.chunks.chunks.get(self.chunk)
            && !out.is_empty()
        {
            let count = (&chunk[self.at..]).read(out)?;
            out = &mut out[count..];
            self.at += count;
            if self.at == chunk.len() {
                (self.chunk, self.at) = (self.chunk + 1, 0);
            }
        }
        Ok(free - out.len())
    }
}

/// Bytes of a piece: a little more than a second of both sides of G.711.
pub(super) const CHUNK_BYTES: usize = 32 * 1024;
/// With less room than this, a new piece is begun: larger than any packet that travels in one frame. A longer block makes
/// its piece grow.
const MIN_FREE_BYTES: usize = 2 * 1024;
