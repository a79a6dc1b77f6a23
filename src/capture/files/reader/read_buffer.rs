//! A window on a stream of bytes that grows only to what one block needs.

use std::fmt;
use std::io::{ErrorKind, Read};
use std::ops::Range;

/// Bytes read from a file and not yet taken.
pub(super) struct ReadBuffer {
    input: Box<dyn Read + Send>,
    bytes: Vec<u8>,
    /// What was read and not taken lies here.
    unread: Range<usize>,
    /// How many bytes were taken, for messages.
    taken: u64,
}

/// Whether as much could be read as was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FillOutcome {
    Enough,
    /// The input ended in the middle.
    Cut,
    /// The input had ended before.
    Nothing,
}

impl ReadBuffer {
    pub(super) fn new(input: Box<dyn Read + Send>) -> Self {
        Self { input, bytes: Vec::new(), unread: 0..0, taken: 0 }
    }

    /// Reads until `wanted` bytes are here or the input ends. The caller bounds `wanted`.
    pub(super) fn fill(&mut self, wanted: usize) -> std::io::Result<FillOutcome> {
        while self.unread.len() < wanted {
            self.make_room(wanted);
            match self.input.read(&mut self.bytes[self.unread.end..]) {
                Ok(0) if self.unread.is_empty() => return Ok(FillOutcome::Nothing),
                Ok(0) => return Ok(FillOutcome::Cut),
                Ok(n) => self.unread.end += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(FillOutcome::Enough)
    }

    /// What was read and not taken.
    pub(super) fn data(&self) -> &[u8] {
        &self.bytes[self.unread.clone()]
    }

    /// Takes `n` bytes that [`Self::fill`] said are here; they stay readable until the next `fill`.
    pub(super) fn take(&mut self, n: usize) -> Range<usize> {
        let start = self.unread.start;
        self.unread.start = (start + n).min(self.unread.end);
        self.taken += (self.unread.start - start) as u64;
        start..self.unread.start
    }

    /// Skips `n` bytes without keeping them, however many they are.
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

    /// Where in the file the first byte not taken stands.
    pub(super) fn position(&self) -> u64 {
        self.taken
    }

    /// The bytes read so far, and the input behind them.
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

/// One read of a file: large enough that a system call costs nothing a frame.
const READ_BYTES: usize = 256 * 1024;
