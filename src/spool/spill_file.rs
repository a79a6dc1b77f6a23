//! The file to which the command `replay` (capture files instead of live traffic) moves chunks of a spool when memory
//! is short. It has no name, so nothing is left of it when the process dies.

use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use super::chunked_buf::CHUNK_BYTES;

/// A file that is divided into slots of equal size, one for each chunk.
#[derive(Debug)]
pub(super) struct SpillFile {
    file: Arc<File>,
    /// Numbers of the slots (pieces of fixed size) that can be used again.
    free: Vec<u64>,
    /// Number of the first slot (piece of fixed size) that has never been used.
    end: u64,
}

/// Position of a chunk in the file: its first slot (a piece of fixed size), and its length in bytes.
#[derive(Debug)]
pub(super) struct SpilledChunk {
    file: Arc<File>,
    slot: u64,
    len: usize,
}

impl SpillFile {
    /// Creates the file in a folder. Creates the folder if it does not exist.
    pub(super) fn create(dir: &Path) -> io::Result<Self> {
        let path = dir.join(format!("{}.tmp", std::process::id()));
        let file = create_private(&path)?;
        std::fs::remove_file(&path)?;
        Ok(Self { file: Arc::new(file), free: Vec::new(), end: 0 })
    }

    /// Stores a chunk in a free slot of the file, or in new slots at its end.
    pub(super) fn store(&mut self, bytes: &[u8]) -> io::Result<SpilledChunk> {
        let slots = slots_of(bytes.len());
        // A chunk longer than a slot is rare. It goes to the end of the file, because it needs several consecutive
        // slots.
        let slot = if slots == 1 { self.free.pop() } else { None };
        let slot = slot.unwrap_or_else(|| {
            self.end += slots;
            self.end - slots
        });
        let chunk = SpilledChunk { file: Arc::clone(&self.file), slot, len: bytes.len() };
        if let Err(error) = self.file.write_all_at(bytes, chunk.offset()) {
            self.release(&chunk);
            return Err(error);
        }
        Ok(chunk)
    }

    /// Returns the number of slots (pieces of fixed size) that the file has.
    #[cfg(test)]
    pub(super) const fn end(&self) -> u64 {
        self.end
    }

    /// Makes the slots of a chunk free, so that other chunks can use them.
    pub(super) fn release(&mut self, chunk: &SpilledChunk) {
        self.free.extend(chunk.slot..chunk.slot + slots_of(chunk.len));
    }
}

impl SpilledChunk {
    /// Reads a chunk into a buffer, and replaces the contents of the buffer.
    pub(super) fn read_into(&self, buffer: &mut Vec<u8>) -> io::Result<()> {
        buffer.clear();
        buffer.resize(self.len, 0);
        self.file.read_exact_at(buffer, self.offset())
    }

    fn offset(&self) -> u64 {
        self.slot * CHUNK_BYTES as u64
    }
}

/// Creates a file that only its owner may read, or empties it if it exists. Creates the folder if it does not exist.
pub(super) fn create_private(path: &Path) -> io::Result<File> {
    if let Some(dir) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    File::options().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)
}

fn slots_of(bytes: usize) -> u64 {
    bytes.div_ceil(CHUNK_BYTES).max(1) as u64
}
