//! A byte buffer made of chunks: it grows without moving its contents, and its chunks are reused.

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
    /// Returns all bytes as one vector.
    pub fn to_vec(&self) -> Vec<u8> {
        self.chunks.concat()
    }

    /// Returns the chunk for the next block. A new chunk is taken from `spare` if possible.
    pub(super) fn block_buf(&mut self, spare: &mut Vec<Vec<u8>>) -> &mut Vec<u8> {
        if self.chunks.last().is_none_or(|chunk| chunk.len() + MIN_FREE_BYTES > CHUNK_BYTES) {
            self.chunks.push(spare.pop().unwrap_or_else(|| Vec::with_capacity(CHUNK_BYTES)));
        }
        let last = self.chunks.len() - 1;
        &mut self.chunks[last]
    }

    /// Returns the chunks in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.chunks.iter().map(Vec::as_slice)
    }

    /// Returns the number of bytes in all chunks.
    pub(super) fn len(&self) -> usize {
        self.chunks.iter().map(Vec::len).sum()
    }

    /// Returns chunks to `spare`, as many as fit into `free` bytes.
    pub(super) fn recycle(self, spare: &mut Vec<Vec<u8>>, free: usize) {
        let sized = self.chunks.into_iter().filter(|chunk| chunk.capacity() == CHUNK_BYTES);
        for mut chunk in sized.take(free / CHUNK_BYTES) {
            chunk.clear();
            spare.push(chunk);
        }
    }
}

/// Reads a buffer from its beginning.
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

/// Size of a chunk in bytes: a little more than a second of G.711 in both directions.
pub(super) const CHUNK_BYTES: usize = 32 * 1024;
/// A chunk with less free space, bytes, is not used for another block. The limit exceeds any packet of a single
/// Ethernet frame. A longer block makes its chunk grow.
const MIN_FREE_BYTES: usize = 2 * 1024;
