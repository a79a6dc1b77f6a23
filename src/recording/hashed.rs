//! Buffers and hashes a file while it is written, so that the file need not be read again for the hash.
//!
//! The buffer has the size of several memory pages and is written when full. So all writes except the last begin and
//! end at the boundaries of pages.
//!
//! A WAV header contains the length of the file, so it is written twice: first a preliminary header, at the end the
//! final one. The writer of the recording passes the expected final header in advance, and the hash starts with it. If
//! the final header differs, the hash is useless, and the file must be read again.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest as _, Sha256};

use crate::text::hex;

/// A file that is hashed while it is written. Call `flush` to write the last buffered bytes.
pub(super) struct HashedFile {
    file: Arc<File>,
    /// Position in the file, bytes, at which the buffered bytes are to be written.
    at: u64,
    buffer: Vec<u8>,
    hash: FileHash,
}

/// The hash of a [`HashedFile`]. It can be read after the file was closed.
#[derive(Clone, Debug)]
pub(super) struct FileHash(Arc<Mutex<FileHashState>>);

#[derive(Debug)]
struct FileHashState {
    hash: Sha256,
    /// Header with which the finished file is expected to begin.
    expected: Vec<u8>,
    /// First bytes of the file as they were written so far. At the end, they must equal `expected`.
    head: Vec<u8>,
    /// Number of bytes that are in the hash so far.
    end: u64,
    /// Whether bytes after the header were written out of order, so that the hash is useless.
    is_broken: bool,
}

impl HashedFile {
    /// Wraps an empty file. `expected` is the header that the finished file is expected to have. The header may be
    /// written again at the end, and must then equal `expected`.
    pub(super) fn new(file: Arc<File>, expected: Vec<u8>) -> (Self, FileHash) {
        let end = expected.len() as u64;
        let state = FileHashState {
            hash: Sha256::new_with_prefix(&expected),
            expected,
            head: Vec::new(),
            end,
            is_broken: false,
        };
        let hash = FileHash(Arc::new(Mutex::new(state)));
        (Self { file, at: 0, buffer: Vec::with_capacity(WRITE_BYTES), hash: hash.clone() }, hash)
    }

    fn write_buffer(&mut self) -> io::Result<()> {
        (&*self.file).write_all(&self.buffer)?;
        self.hash.0.lock().unwrap_or_else(PoisonError::into_inner).add(self.at, &self.buffer);
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

impl Write for HashedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(WRITE_BYTES - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..count]);
        if self.buffer.len() == WRITE_BYTES {
            self.write_buffer()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_buffer()?;
        (&*self.file).flush()
    }
}

impl Seek for HashedFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.write_buffer()?;
        self.at = (&*self.file).seek(to)?;
        Ok(self.at)
    }
}

impl FileHash {
    /// Returns the size in bytes and the SHA-256 (lower-case hexadecimal) of the file. Returns `None` if the hash is
    /// wrong, because bytes were written out of order or the header is not the expected one.
    pub(super) fn finish(&self) -> Option<(u64, String)> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = !state.is_broken && state.head == state.expected;
        is_known.then(|| (state.end, hex(&state.hash.clone().finalize())))
    }
}

impl FileHashState {
    fn add(&mut self, at: u64, bytes: &[u8]) {
        let before = (self.expected.len() as u64).saturating_sub(at).min(bytes.len() as u64) as usize;
        let (head, rest) = bytes.split_at(before);
        if !head.is_empty() {
            let at = at as usize; // the position is within the header, so it fits
            self.head.resize(self.head.len().max(at + head.len()), 0);
            self.head[at..at + head.len()].copy_from_slice(head);
        }
        if rest.is_empty() {
            return;
        }
        if at + before as u64 == self.end {
            self.hash.update(rest);
            self.end += rest.len() as u64;
        } else {
            self.is_broken = true;
        }
    }
}

/// Number of bytes written at once: a whole number of memory pages.
const WRITE_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::super::digest;
    use super::*;

    /// Writes a file in pieces, and then one part of it again. Returns size and hash as computed while writing, and as
    /// read from the file afterwards.
    fn written(expected: &[u8], pieces: &[&[u8]], again: (u64, &[u8])) -> (Option<(u64, String)>, (u64, String)) {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("file");
        let (mut file, hash) = HashedFile::new(Arc::new(File::create(&path).expect("made")), expected.to_vec());
        for piece in pieces {
            file.write_all(piece).expect("written");
        }
        file.seek(SeekFrom::Start(again.0)).expect("sought");
        file.write_all(again.1).expect("written");
        file.flush().expect("written");
        (hash.finish(), digest(&path).expect("readable"))
    }

    #[test]
    fn hash_is_correct_or_absent_whatever_is_written_again() {
        for pieces in [vec![&b"len=0;sound"[..]], vec![b"len", b"=0;so", b"und"], vec![b"len=0;", b"sound"]] {
            let (known, read) = written(b"len=5;", &pieces, (4, b"5"));
            assert_eq!(known, Some(read), "{pieces:?}");
            let (known, _) = written(b"len=5;", &pieces, (4, b"6"));
            assert_eq!(known, None, "another header");
            let (known, _) = written(b"len=5;", &pieces, (7, b"5"));
            assert_eq!(known, None, "bytes after the header were written again");
        }
        let (known, read) = written(b"", &[b"a stream"], (8, b" that goes on"));
        assert_eq!(known, Some(read));
        assert_eq!(written(b"len=5;", &[b"len"], (0, b"")).0, None, "it is too short");
    }
}
