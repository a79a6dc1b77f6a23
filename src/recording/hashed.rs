//! A file whose SHA-256 is known when it is written: nothing has to be read back.
//!
//! A WAV begins with its own length, which is written last. So who makes the file says what its beginning will be, and
//! the hash starts with that. If it comes otherwise, there is no hash, and the file has to be read.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest as _, Sha256};

use super::publish::hex;

/// A file that is being written.
pub(super) struct HashedFile {
    file: File,
    at: u64,
    hash: FileHash,
}

/// What is known of the file, also when its writer is gone.
#[derive(Clone, Debug)]
pub(super) struct FileHash(Arc<Mutex<FileHashState>>);

#[derive(Debug)]
struct FileHashState {
    hash: Sha256,
    /// What the file will begin with.
    expected: Vec<u8>,
    /// What it begins with.
    head: Vec<u8>,
    /// Where the hash has come to.
    end: u64,
    /// Something was written elsewhere than at the end.
    is_broken: bool,
}

impl HashedFile {
    /// A file of which nothing was written. `expected`: the bytes at its beginning that may be written again, as they will
    /// be at last.
    pub(super) fn new(file: File, expected: Vec<u8>) -> (Self, FileHash) {
        let end = expected.len() as u64;
        let state = FileHashState {
            hash: Sha256::new_with_prefix(&expected),
            expected,
            head: Vec::new(),
            end,
            is_broken: false,
        };
        let hash = FileHash(Arc::new(Mutex::new(state)));
        (Self { file, at: 0, hash: hash.clone() }, hash)
    }
}

impl Write for HashedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hash.0.lock().unwrap_or_else(PoisonError::into_inner).add(self.at, &bytes[..count]);
        self.at += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for HashedFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.at = self.file.seek(to)?;
        Ok(self.at)
    }
}

impl FileHash {
    /// Size and SHA-256 (lower-case hex), if they are known.
    pub(super) fn finish(&self) -> Option<(u64, String)> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = !state.is_broken && state.head == state.expected;
        is_known.then(|| (state.end, hex(state.hash.clone())))
    }
}

impl FileHashState {
    fn add(&mut self, at: u64, bytes: &[u8]) {
        let before = (self.expected.len() as u64).saturating_sub(at).min(bytes.len() as u64) as usize;
        let (head, rest) = bytes.split_at(before);
        if !head.is_empty() {
            let at = at as usize; // within the head
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

#[cfg(test)]
mod tests {
    use super::super::digest;
    use super::*;

    /// Writes a file in pieces, then its beginning again; gives what the hash says and what the file has.
    fn written(expected: &[u8], pieces: &[&[u8]], again: (u64, &[u8])) -> (Option<(u64, String)>, (u64, String)) {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("file");
        let (mut file, hash) = HashedFile::new(File::create(&path).expect("made"), expected.to_vec());
        for piece in pieces {
            file.write_all(piece).expect("written");
        }
        file.seek(SeekFrom::Start(again.0)).expect("sought");
        file.write_all(again.1).expect("written");
        drop(file);
        (hash.finish(), digest(&path).expect("readable"))
    }

    #[test]
    fn the_hash_is_that_of_the_file_and_there_is_none_where_it_would_not_be() {
        for pieces in [vec![&b"len=0;sound"[..]], vec![b"len", b"=0;so", b"und"], vec![b"len=0;", b"sound"]] {
            let (known, read) = written(b"len=5;", &pieces, (4, b"5"));
            assert_eq!(known, Some(read), "{pieces:?}");
            let (known, _) = written(b"len=5;", &pieces, (4, b"6"));
            assert_eq!(known, None, "it begins otherwise");
            let (known, _) = written(b"len=5;", &pieces, (7, b"5"));
            assert_eq!(known, None, "something else was written again");
        }
        let (known, read) = written(b"", &[b"a stream"], (8, b" that goes on"));
        assert_eq!(known, Some(read));
        assert_eq!(written(b"len=5;", &[b"len"], (0, b"")).0, None, "it is too short");
    }
}
