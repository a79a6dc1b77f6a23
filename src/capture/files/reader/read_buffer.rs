//! A buffer for reading a file. Apart from a fixed number of bytes ([`READ_BYTES`]), it never holds more than one
//! record or block of the file.

use std::fmt;
use std::io::{ErrorKind, Read};
use std::ops::Range;

/// A buffer with bytes that were read from a file and not consumed yet.
pub(super) struct ReadBuffer {
    input: Box<dyn Read + Send>,
    bytes: Vec<u8>,
    /// Range of the buffer with the bytes that were not consumed yet.
    unread: Range<usize>,
    /// Number of bytes consumed so far. Error texts compute the file position from it.
    taken: u64,
}

/// Result of reading until enough bytes are in the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FillOutcome {
    Enough,
    /// The input ended after only some of the wanted bytes.
    Truncated,
    /// The input had already ended, so no byte was read.
    Ended,
}

impl ReadBuffer {
    pub(super) fn new(input: Box<dyn Read + Send>) -> Self {
        Self { input, bytes: Vec::new(), unread: 0..0, taken: 0 }
    }

    /// Reads until `wanted` bytes are available or the input ends. The buffer grows to this size, so a size that was
    /// read from the file must be limited first.
    pub(super) fn fill(&mut self, wanted: usize) -> std::io::Result<FillOutcome> {
        while self.unread.len() < wanted {
            self.make_room(wanted);
            match self.input.read(&mut self.bytes[self.unread.end..]) {
                Ok(0) if self.unread.is_empty() => return Ok(FillOutcome::Ended),
                Ok(0) => return Ok(FillOutcome::Truncated),
                Ok(n) => self.unread.end += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(FillOutcome::Enough)
    }

    /// Returns the bytes that were read and not consumed.
    pub(super) fn data(&self) -> &[u8] {
        &self.bytes[self.unread.clone()]
    }

    /// Consumes `n` bytes of the buffer and returns their range. They stay readable until the next [`Self::fill`].
    pub(super) fn take(&mut self, n: usize) -> Range<usize> {
        let start = self.unread.start;
        self.unread.start = (start + n).min(self.unread.end);
        self.taken += (self.unread.start - start) as u64;
        start..self.unread.start
    }

    /// Skips `n` bytes of the input without storing them.
    pub(super) fn skip(&mut self, mut n: u64) -> std::io::Result<FillOutcome> {
        while n > 0 {
            match self.fill(1)? {
                FillOutcome::Enough => {}
                ended => return Ok(ended),
            }
            n -= self.take(usize::try_from(n).unwrap_or(usize::MAX).min(self.unread.len())).len() as u64;
        }
        Ok(FillOutcome::Enough)
    }

    pub(super) fn at(&self, range: &Range<usize>) -> &[u8] {
        self.bytes.get(range.clone()).unwrap_or_default()
    }

    /// Returns the file offset of the first byte that was not consumed.
    pub(super) fn position(&self) -> u64 {
        self.taken
    }

    /// Returns the unread bytes and the rest of the input, so that another reader can continue without this buffer.
    pub(super) fn into_parts(self) -> (Vec<u8>, Box<dyn Read + Send>) {
        (self.bytes[self.unread].to_vec(), self.input)
    }

    fn make_room(&mut self, wanted: usize) {
        if self.bytes.len() - self.unread.start < wanted.max(1) || self.unread.end == self.bytes.len() {
            self.bytes.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
        }
        let size = wanted.max(READ_BYTES);
        if self.bytes.len() < size {
            self.bytes.resize(size, 0);
        }
    }
}

impl fmt::Debug for ReadBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("unread", &self.unread.len()).field("taken", &self.taken).finish()
    }
}

/// Number of bytes read at once. Large reads make the cost of system calls negligible.
const READ_BYTES: usize = 64 * 1024;
