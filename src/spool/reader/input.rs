//! [`SpoolInput`]: the bytes of a spool in buffers. A buffer is *held*, i.e. not reused, as long as a reader needs a
//! packet in it.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;

use super::super::chunked_buf::{ChunkedBuf, SpoolChunk};

/// The unread bytes of a spool, from the next block on, and the buffers with packets that a reader still uses.
pub(in crate::spool) struct SpoolInput {
    source: ByteSource,
    buffers: Vec<HeldBuffer>,
    /// Indexes of the buffers that can be reused: no reader needs a packet in them, and the next block is not in them.
    free: Vec<usize>,
    /// Index of the buffer with the next block. The field `from` is the position of the block in this buffer.
    at: usize,
    from: usize,
    /// Total size of the buffers that readers still need, bytes. Chunks of a spool in memory do not count.
    held: usize,
}

/// The bytes of a packet in a buffer. The buffer is held (kept from reuse) until [`SpoolInput::release`] is called.
#[derive(Debug)]
pub(super) struct BlockBytes {
    buffer: usize,
    range: Range<usize>,
}

impl BlockBytes {
    pub(super) fn len(&self) -> usize {
        self.range.len()
    }
}

enum ByteSource {
    Stream(Box<dyn Read + Send>),
    /// The chunks of a spool in memory, and the index of the next chunk.
    Chunks(Arc<ChunkedBuf>, usize),
}

#[derive(Debug, Default)]
struct HeldBuffer {
    /// Bytes read from the input stream (a file). Empty if the buffer represents a chunk of a spool in memory.
    bytes: Vec<u8>,
    /// Index of the chunk in memory that this buffer represents; `None` for a buffer that an input stream fills.
    chunk: Option<usize>,
    /// Number of packets with bytes in this buffer that a reader still needs.
    packets: usize,
}

impl SpoolInput {
    /// Creates the input for a stream of bytes, e.g. a spool file.
    pub(in crate::spool) fn of_stream(stream: Box<dyn Read + Send>) -> Self {
        Self::new(ByteSource::Stream(stream))
    }

    /// Creates the input for a spool in memory, in which no block crosses a chunk.
    pub(super) fn of_chunks(chunks: Arc<ChunkedBuf>) -> Self {
        Self::new(ByteSource::Chunks(chunks, 0))
    }

    fn new(source: ByteSource) -> Self {
        Self { source, buffers: vec![HeldBuffer::default()], free: Vec::new(), at: 0, from: 0, held: 0 }
    }

    /// Returns the bytes of the current buffer, from the next block on.
    #[inline]
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes_of(self.at)[self.from..]
    }

    /// Skips `length` bytes, which must be in the buffer, to the next block.
    pub(super) fn skip(&mut self, length: usize) {
        self.from += length;
    }

    /// Reads until `want` bytes of the next block are in the buffer. Returns false at the end of the input.
    #[inline]
    pub(super) fn fill(&mut self, want: usize) -> io::Result<bool> {
        while self.rest().len() < want {
            let has_more = match &self.source {
                ByteSource::Stream(_) => self.read_stream()?,
                // A block in memory never continues in the next chunk. So if the rest of this chunk is an incomplete
                // block, the input ends here.
                ByteSource::Chunks(..) => self.rest().is_empty() && self.next_chunk()?,
            };
            if !has_more {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Keeps the current buffer from being reused until the returned bytes are released. `range` is the position of
    /// these bytes in the next block.
    pub(super) fn hold(&mut self, range: Range<usize>) -> BlockBytes {
        self.buffers[self.at].packets += 1;
        BlockBytes { buffer: self.at, range: self.from + range.start..self.from + range.end }
    }

    /// Returns the bytes of a packet in a buffer that is kept from reuse.
    pub(super) fn held(&self, bytes: &BlockBytes) -> &[u8] {
        &self.bytes_of(bytes.buffer)[bytes.range.clone()]
    }

    /// Records that the bytes of a packet are no longer needed, so that their buffer can be reused.
    pub(super) fn release(&mut self, bytes: &BlockBytes) {
        self.buffers[bytes.buffer].packets -= 1;
        self.free_if_unused(bytes.buffer);
    }

    /// Returns the total size, bytes, of the buffers that readers still need, except the current buffer.
    pub(super) const fn held_bytes(&self) -> usize {
        self.held
    }

    /// Returns the memory of all buffers, bytes.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.buffers.iter().map(|buffer| buffer.bytes.capacity()).sum()
    }

    #[inline]
    fn bytes_of(&self, buffer: usize) -> &[u8] {
        let buffer = &self.buffers[buffer];
        match (buffer.chunk, &self.source) {
            (Some(number), ByteSource::Chunks(chunks, _)) => match chunks.chunk(number) {
                Some(SpoolChunk::Memory(bytes)) => bytes,
                _ => &[],
            },
            _ => &buffer.bytes,
        }
    }

    /// Reads more bytes of the input stream (a file) into the current buffer. Returns false at the end of the input
    /// stream.
    fn read_stream(&mut self) -> io::Result<bool> {
        if self.buffers[self.at].packets > 0 {
            let tail = self.rest().to_vec();
            let buffer = self.next_buffer();
            self.buffers[buffer].bytes.extend_from_slice(&tail);
        } else {
            self.buffers[self.at].bytes.drain(..self.from);
            self.from = 0;
        }
        let ByteSource::Stream(stream) = &mut self.source else { return Ok(false) };
        // Bytes are read into the spare capacity of the buffer, because a longer vector would have to be zeroed first.
        let buffer = &mut self.buffers[self.at].bytes;
        buffer.reserve(READ_BYTES);
        Ok(stream.take(READ_BYTES as u64).read_to_end(buffer)? > 0)
    }

    /// Moves to the next chunk of a spool in memory. Returns false at its end.
    fn next_chunk(&mut self) -> io::Result<bool> {
        let ByteSource::Chunks(chunks, next) = &mut self.source else { return Ok(false) };
        let (chunks, number) = (Arc::clone(chunks), *next);
        *next += 1;
        let Some(chunk) = chunks.chunk(number) else { return Ok(false) };
        let buffer = self.next_buffer();
        match chunk {
            SpoolChunk::Memory(_) => self.buffers[buffer].chunk = Some(number),
            SpoolChunk::Spilled(chunk) => chunk.read_into(&mut self.buffers[buffer].bytes)?,
        }
        Ok(true)
    }

    /// Makes an empty buffer the current buffer, and returns its index.
    fn next_buffer(&mut self) -> usize {
        let last = self.at;
        self.held += self.buffers[last].bytes.len();
        let next = self.free.pop().unwrap_or_else(|| {
            self.buffers.push(HeldBuffer::default());
            self.buffers.len() - 1
        });
        (self.at, self.from) = (next, 0);
        self.free_if_unused(last);
        next
    }

    /// Marks a buffer as free if no packet uses its bytes any more, and it is not the current buffer.
    fn free_if_unused(&mut self, number: usize) {
        let buffer = &mut self.buffers[number];
        if buffer.packets > 0 || number == self.at {
            return;
        }
        self.held -= buffer.bytes.len();
        buffer.bytes.clear();
        buffer.chunk = None;
        self.free.push(number);
    }
}

/// Number of bytes read from an input stream (a file) at once.
const READ_BYTES: usize = 64 * 1024;
