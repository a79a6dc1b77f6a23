//! A byte buffer made of chunks. It grows without moving its contents, and its chunks can be reused.
//!
//! Each pcapng block lies within one chunk, so a reader can use the blocks without copying them.

use std::io;

use super::spill_file::{SpillFile, SpilledChunk};

/// The spool of a leg in memory. If memory is short, some of its chunks are in a file.
#[derive(Debug, Default)]
pub struct ChunkedBuf {
    chunks: Vec<SpoolChunk>,
}

/// A chunk of a spool, in memory or in a file.
#[derive(Debug)]
pub(super) enum SpoolChunk {
    Memory(Vec<u8>),
    Spilled(SpilledChunk),
}

impl From<Vec<u8>> for ChunkedBuf {
    fn from(bytes: Vec<u8>) -> Self {
        Self { chunks: vec![SpoolChunk::Memory(bytes)] }
    }
}

impl ChunkedBuf {
    /// Returns all bytes as one vector.
    ///
    /// # Errors
    /// Fails if chunks are in a file that cannot be read.
    pub fn to_vec(&self) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        self.for_each(&mut |chunk| {
            out.extend_from_slice(chunk);
            Ok(())
        })?;
        Ok(out)
    }

    /// Passes the bytes of each chunk to the function `each`.
    ///
    /// # Errors
    /// Fails if chunks are in a file that cannot be read, and with the first error of `each`.
    pub(super) fn for_each(&self, each: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut spilled = Vec::new();
        self.chunks.iter().try_for_each(|chunk| match chunk {
            SpoolChunk::Memory(bytes) => each(bytes),
            SpoolChunk::Spilled(chunk) => {
                chunk.read_into(&mut spilled)?;
                each(&spilled)
            }
        })
    }

    /// Returns the chunk with this number, counted from 0.
    pub(super) fn chunk(&self, number: usize) -> Option<&SpoolChunk> {
        self.chunks.get(number)
    }

    /// Returns the chunk to which the next block is appended; `None` if a new chunk must be added first.
    pub(super) fn block_buf(&mut self) -> Option<&mut Vec<u8>> {
        match self.chunks.last_mut() {
            Some(SpoolChunk::Memory(chunk)) if chunk.len() + MIN_FREE_BYTES <= chunk.capacity().min(CHUNK_BYTES) => {
                Some(chunk)
            }
            _ => None,
        }
    }

    /// Makes the processor load the memory into its cache to which the next block will be written.
    pub(super) fn load_free_bytes(&mut self) {
        if let Some(SpoolChunk::Memory(chunk)) = self.chunks.last_mut() {
            load_free_bytes(chunk);
        }
    }

    /// Adds an empty chunk. The next blocks are appended to it.
    pub(super) fn add_chunk(&mut self, chunk: Vec<u8>) {
        self.chunks.push(SpoolChunk::Memory(chunk));
    }

    /// Moves the last chunk to a file. Returns how much memory it took, bytes; `None` if it was not in memory.
    pub(super) fn spill_last(&mut self, file: &mut SpillFile) -> Option<usize> {
        let last = self.chunks.last_mut()?;
        let SpoolChunk::Memory(bytes) = last else { return None };
        let bytes = std::mem::take(bytes);
        let memory = bytes.capacity();
        *last = SpoolChunk::Spilled(file.store(bytes));
        Some(memory)
    }

    /// Returns whether a chunk is in a file.
    #[cfg(feature = "service")]
    pub(super) fn has_spilled(&self) -> bool {
        self.chunks.iter().any(|chunk| matches!(chunk, SpoolChunk::Spilled(_)))
    }

    /// Returns the length of the contents, bytes.
    #[cfg(feature = "service")]
    pub(super) fn len(&self) -> usize {
        let length = |chunk: &SpoolChunk| match chunk {
            SpoolChunk::Memory(bytes) => bytes.len(),
            SpoolChunk::Spilled(chunk) => chunk.len(),
        };
        self.chunks.iter().map(length).sum()
    }

    /// Returns a copy that is completely in memory.
    ///
    /// # Errors
    /// Fails if chunks are in a file that cannot be read.
    #[cfg(feature = "service")]
    pub(super) fn to_memory(&self) -> io::Result<Self> {
        let mut chunks = Vec::with_capacity(self.chunks.len());
        self.for_each(&mut |chunk| {
            chunks.push(SpoolChunk::Memory(chunk.to_vec()));
            Ok(())
        })?;
        Ok(Self { chunks })
    }

    /// Returns the last chunk that is in a file; `None` if all chunks are in memory.
    pub(super) fn last_spilled(&self) -> Option<&SpilledChunk> {
        self.chunks.iter().rev().find_map(|chunk| match chunk {
            SpoolChunk::Memory(_) => None,
            SpoolChunk::Spilled(chunk) => Some(chunk),
        })
    }

    /// Returns the memory that the chunks take, in bytes.
    pub(super) fn memory(&self) -> usize {
        let memory = |chunk: &SpoolChunk| match chunk {
            SpoolChunk::Memory(bytes) => bytes.capacity(),
            SpoolChunk::Spilled(_) => 0,
        };
        self.chunks.iter().map(memory).sum()
    }

    /// Returns the chunks in the order of their contents.
    pub(super) fn into_chunks(self) -> impl Iterator<Item = SpoolChunk> {
        self.chunks.into_iter()
    }
}

/// Makes the processor load the free memory of a buffer into its cache, for the next block.
///
/// Otherwise the block would be written to memory that is not in the cache. The processor goes on meanwhile, but only
/// until it has to read something that it has just written in parts.
pub(super) fn load_free_bytes(buffer: &mut Vec<u8>) {
    let free = buffer.spare_capacity_mut();
    for byte in free.iter().take(USUAL_BLOCK_BYTES).step_by(CACHE_LINE) {
        std::hint::black_box(*byte); // it may be uninitialized, and is not used
    }
}

/// Number of bytes that must be loaded for a block with 20 ms of G.711, which has 232 bytes. It may begin anywhere in a
/// cache line.
const USUAL_BLOCK_BYTES: usize = 232 + CACHE_LINE;
/// Length of a cache line of usual processors, bytes.
const CACHE_LINE: usize = 64;
/// Size of a chunk in bytes: a little more than a second of G.711 in both directions.
pub(super) const CHUNK_BYTES: usize = 32 * 1024;
/// Size of the first chunk of a leg when memory is short, bytes. So ten thousand legs at the same time take 80 MiB.
pub(super) const SMALL_CHUNK_BYTES: usize = 8 * 1024;
/// Minimum free space of a chunk to which another block is appended, bytes. It exceeds a packet of one Ethernet frame,
/// so a chunk rarely has to grow.
const MIN_FREE_BYTES: usize = 2 * 1024;
