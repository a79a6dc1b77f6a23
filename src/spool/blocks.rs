//! Splits a spool file into its pcapng blocks and their file offsets, without parsing the contents of the blocks.

use std::io::{self, Read};

use super::format;

/// Reads the blocks of a file one after the other. Keeps one block, and some bytes after it, in memory.
pub(super) struct BlockReader<R> {
    input: R,
    buffer: Vec<u8>,
    /// Index in `buffer` of the next block. `offset` is the position of the same block in the file, bytes.
    from: usize,
    offset: u64,
}

/// Result of reading the next block.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NextBlock<'a> {
    /// A complete block: its file offset in bytes, and its bytes with header and trailer.
    Block(u64, &'a [u8]),
    /// The input has no more complete blocks.
    End(BlocksEnd),
}

/// How a sequence of blocks ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BlocksEnd {
    /// The input ends after a complete block, as it should.
    Clean,
    /// The input ends within a block, or with zero bytes. After a crash, a file may have grown without its bytes being
    /// written.
    Torn,
    /// The next bytes are not a block, e.g. because the file is damaged there.
    Broken,
}

impl<R: Read> BlockReader<R> {
    /// Creates a reader. The first byte of `input` is at `offset` in the file.
    pub(super) fn new(input: R, offset: u64) -> Self {
        Self { input, buffer: Vec::new(), from: 0, offset }
    }

    /// Returns the file offset of the next block in bytes.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Reads the next block and moves to the block after it.
    ///
    /// # Errors
    /// Fails if the input fails.
    pub(super) fn next(&mut self) -> io::Result<NextBlock<'_>> {
        if !self.fill(8)? {
            let rest = self.buffer.get(self.from..).unwrap_or_default();
            return Ok(NextBlock::End(if rest.is_empty() { BlocksEnd::Clean } else { BlocksEnd::Torn }));
        }
        let length = self.word(4) as usize;
        if length < 12 || !length.is_multiple_of(4) || length > format::MAX_BLOCK {
            return self.classify_rest();
        }
        if !self.fill(length)? {
            return Ok(NextBlock::End(BlocksEnd::Torn));
        }
        if self.word(length - 4) as usize != length {
            return self.classify_rest();
        }
        let (at, offset) = (self.from, self.offset);
        self.from += length;
        self.offset += length as u64;
        Ok(NextBlock::Block(offset, &self.buffer[at..at + length]))
    }

    fn classify_rest(&mut self) -> io::Result<NextBlock<'_>> {
        let zeros = |bytes: &[u8]| bytes.iter().all(|b| *b == 0);
        let mut clean = zeros(&self.buffer[self.from..]);
        let mut more = [0; 4096];
        while clean {
            match self.input.read(&mut more) {
                Ok(0) => return Ok(NextBlock::End(BlocksEnd::Torn)),
                Ok(read) => clean = zeros(&more[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(NextBlock::End(BlocksEnd::Broken))
    }

    /// Returns the 32-bit number at byte `at` of the next block. `fill` must have returned true for these bytes, so
    /// that they are in the buffer.
    fn word(&self, at: usize) -> u32 {
        let b = &self.buffer[self.from + at..self.from + at + 4];
        u32::from_le_bytes([b[0], b[1], b[2], b[3]])
    }

    /// Reads until `want` bytes of the next block are in the buffer. Returns false at the end of the input.
    fn fill(&mut self, want: usize) -> io::Result<bool> {
        while self.buffer.len() - self.from < want {
            self.buffer.drain(..self.from);
            self.from = 0;
            let at = self.buffer.len();
            self.buffer.resize(at + READ_BYTES.max(want - at), 0);
            let read = loop {
                match self.input.read(&mut self.buffer[at..]) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    other => break other,
                }
            };
            self.buffer.truncate(at + *read.as_ref().unwrap_or(&0));
            if read? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Number of bytes read from the input at once.
const READ_BYTES: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(bytes: &[u8]) -> (Vec<(u64, usize)>, BlocksEnd) {
        let mut blocks = BlockReader::new(bytes, 1_000);
        let mut seen = Vec::new();
        loop {
            match blocks.next().expect("memory") {
                NextBlock::Block(offset, block) => seen.push((offset, block.len())),
                NextBlock::End(ending) => return (seen, ending),
            }
        }
    }

    #[test]
    fn blocks_are_returned_with_offsets_and_the_kind_of_end() {
        let mut bytes = Vec::new();
        format::put_header(&mut bytes);
        let expected = vec![(1_000, 28), (1_028, 32)];
        assert_eq!(walk(&bytes), (expected.clone(), BlocksEnd::Clean));
        for cut in 29..bytes.len() {
            assert_eq!(walk(&bytes[..cut]), (expected[..1].to_vec(), BlocksEnd::Torn), "cut at {cut}");
        }
        let with = |tail: &[u8]| [&bytes, tail].concat();
        assert_eq!(walk(&with(&[0; 70_000])), (expected.clone(), BlocksEnd::Torn), "a power cut leaves zeros");
        assert_eq!(walk(&with(&[7; 12])), (expected.clone(), BlocksEnd::Broken));
        let mut late = vec![0; 70_000];
        late.push(1);
        assert_eq!(walk(&with(&late)), (expected, BlocksEnd::Broken));
    }
}
