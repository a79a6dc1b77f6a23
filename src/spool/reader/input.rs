//! [`SpoolInput`]: the bytes of a spool, in buffers that stay as long as packets in them wait.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;

use super::super::chunked_buf::{ChunkedBuf, SpoolChunk};

/// The bytes of a spool from the next block on, and the buffers of the packets that wait.
pub(in crate::spool) struct SpoolInput {
    source: ByteSource,
    buffers: Vec<HeldBuffer>,
    /// Buffers that nothing holds.
    free: Vec<usize>,
    /// The buffer with the next block; `from` is the position in it.
    at: usize,
    from: usize,
    /// Bytes of all buffers that are held and not the input's own chunks.
    held: usize,
}

/// Bytes of a packet in a buffer that is held for it.
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
    /// The chunks of a spool in memory, and the number of the next.
    Chunks(Arc<ChunkedBuf>, usize),
}

#[derive(Debug, Default)]
struct HeldBuffer {
    /// Bytes that were read. Empty if the buffer is a chunk of the input.
    bytes: Vec<u8>,
    /// Number of the input's chunk that this buffer is.
    chunk: Option<usize>,
    /// Packets that wait.
    packets: usize,
}

impl SpoolInput {
    /// Reads a stream, e.g. a file.
    pub(in crate::spool) fn of_stream(stream: Box<dyn Read + Send>) -> Self {
        Self::new(ByteSource::Stream(stream))
    }

    /// Reads a spool in memory. No block of it crosses a chunk.
    pub(super) fn of_chunks(chunks: Arc<ChunkedBuf>) -> Self {
        Self::new(ByteSource::Chunks(chunks, 0))
    }

    fn new(source: ByteSource) -> Self {
        Self { source, buffers: vec![HeldBuffer::default()], free: Vec::new(), at: 0, from: 0, held: 0 }
    }

    /// Returns the bytes that are buffered from the next block on.
    #[inline]
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes_of(self.at)[self.from..]
    }

    /// Goes on to the block after `length` bytes, which must be buffered.
    pub(super) fn skip(&mut self, length: usize) {
        self.from += length;
    }

    /// Buffers `want` bytes of the next block. Returns false at the end of the input.
    #[inline]
    pub(super) fn fill(&mut self, want: usize) -> io::Result<bool> {
        while self.rest().len() < want {
            let has_more = match &self.source {
                ByteSource::Stream(_) => self.read_stream()?,
                // A block that is cut at the end of its chunk has no rest.
                ByteSource::Chunks(..) => self.rest().is_empty() && self.next_chunk()?,
            };
            if !has_more {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Holds bytes after the start of the next block, which must be buffered.
    pub(super) fn hold(&mut self, range: Range<usize>) -> BlockBytes {
        self.buffers[self.at].packets += 1;
        BlockBytes { buffer: self.at, range: self.from + range.start..self.from + range.end }
    }

    /// Returns bytes that are held.
    pub(super) fn held(&self, bytes: &BlockBytes) -> &[u8] {
        &self.bytes_of(bytes.buffer)[bytes.range.clone()]
    }

    /// Ends the hold of bytes.
    pub(super) fn release(&mut self, bytes: &BlockBytes) {
        self.buffers[bytes.buffer].packets -= 1;
        self.free_if_unused(bytes.buffer);
    }

    /// Returns the memory of the buffers whose packets wait, besides the current one.
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

    /// Reads more of a stream behind the buffered bytes. Returns false at its end.
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
        // Reads into the spare capacity, so that nothing has to be zeroed first.
        let buffer = &mut self.buffers[self.at].bytes;
        buffer.reserve(READ_BYTES);
        Ok(stream.take(READ_BYTES as u64).read_to_end(buffer)? > 0)
    }

    /// Goes on to the next chunk of a spool in memory. Returns false at its end.
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

    /// Makes an empty buffer the current one. Returns its number.
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

    /// Takes a buffer that is neither current nor held for use again.
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

/// Bytes read from a stream at once.
const READ_BYTES: usize = 64 * 1024;
