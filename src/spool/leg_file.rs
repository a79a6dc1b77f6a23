//! The file of one leg: appends its waiting chunks in order, and repairs the file if somebody changed it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::blocks::{BlockReader, NextBlock};
use super::open_files::FileUse;
use super::reader::LegSource;
use super::spool_folder::SpoolFolder;
use crate::call::errno::OsErrno;

/// The file of a leg, and its chunks (consecutive blocks) that are not written yet.
pub(super) struct LegFile {
    pub(super) path: PathBuf,
    pub(super) handle: Option<(File, FileUse)>,
    /// Length of the complete blocks in the file, bytes; `None` before the file was examined.
    length: Option<u64>,
    /// The header and the first blocks of the file. With them the file is created again if somebody removes it.
    head: Vec<u8>,
    pub(super) chunks: VecDeque<Vec<u8>>,
    /// Whether to close the leg after its chunks are written.
    pub(super) is_closed: bool,
    /// Disk error by which blocks were lost although they had been written, e.g. because somebody removed the file;
    /// `None` if nothing was lost.
    pub(super) lost: Option<OsErrno>,
}

impl LegFile {
    /// Creates the state of a file. If an earlier process left the file, `length` is that of its complete blocks, bytes.
    pub(super) fn new(path: PathBuf, length: Option<u64>) -> Self {
        // If the beginning of an earlier process's file cannot be read now, it is read when the file is opened.
        let head = length.and_then(|_| read_head(&path).ok()).unwrap_or_default();
        let chunks = VecDeque::new();
        Self { path, handle: None, length, head, chunks, is_closed: false, lost: None }
    }

    /// Returns the number of the latest use of the open file; `None` if the file is closed.
    pub(super) fn last_use(&self) -> Option<FileUse> {
        self.handle.as_ref().map(|(_, last_use)| *last_use)
    }

    /// Gives up the waiting chunks and returns their memory. Keeps the header if the file does not have it yet, because
    /// later chunks may be written.
    pub(super) fn give_up_chunks(&mut self) -> Vec<Vec<u8>> {
        if let (Some(first), true, None | Some(0)) = (self.chunks.front(), self.head.is_empty(), self.length) {
            self.head = first_blocks(first);
        }
        self.chunks.drain(..).collect()
    }

    /// Writes the first waiting chunk and returns its memory. Returns `None` if no chunk waits.
    pub(super) fn write_first(&mut self, this_use: FileUse, folder: &mut SpoolFolder) -> Option<io::Result<Vec<u8>>> {
        self.chunks.front()?;
        // After an error, the file is closed, and the next attempt opens it again. The old handle may stay unusable
        // (ESTALE, or a disk that was mounted again).
        let written = self.try_write(this_use, folder).inspect_err(|_| self.handle = None);
        Some(written.map(|()| self.chunks.pop_front().unwrap_or_default()))
    }

    fn try_write(&mut self, this_use: FileUse, folder: &mut SpoolFolder) -> io::Result<()> {
        let length = self.prepare(this_use, folder)?;
        let (Some(chunk), Some((file, _))) = (self.chunks.front(), &mut self.handle) else { return Ok(()) };
        file.write_all(chunk).inspect_err(|_| {
            // An incomplete block would make the rest of the file unreadable, so it is cut off. If the cut fails, too,
            // the next attempt repeats the cut.
            let _ = file.set_len(length);
        })?;
        self.length = Some(length + chunk.len() as u64);
        if length == 0 && self.head.is_empty() {
            self.head = first_blocks(chunk);
        }
        Ok(())
    }

    /// Opens the file if needed, and makes sure that it ends after a complete block. Returns its length in bytes.
    fn prepare(&mut self, this_use: FileUse, folder: &mut SpoolFolder) -> io::Result<u64> {
        if let Some((file, used)) = &mut self.handle {
            let found = file.metadata()?;
            if found.nlink() > 0 && Some(found.len()) == self.length {
                *used = this_use;
                return Ok(found.len());
            }
        }
        self.handle = None;
        let file = folder.open_to_append(&self.path)?;
        let length = self.repair(&file)?;
        self.handle = Some((file, this_use));
        Ok(length)
    }

    /// Truncates a newly opened file after its last complete block. If the file's beginning is missing, writes it
    /// again. Returns the length in bytes.
    fn repair(&mut self, mut file: &File) -> io::Result<u64> {
        let found = file.metadata()?.len();
        let length = match self.length {
            Some(length) if found >= length => length,
            // The file may end within a block, because an earlier process crashed or somebody truncated the file. So
            // its complete blocks are counted again.
            _ => whole_blocks(&self.path, found)?,
        };
        if found > length {
            file.set_len(length)?;
        }
        if self.length.is_some_and(|expected| length < expected) {
            self.lost = Some(OsErrno(rustix::io::Errno::NOENT.raw_os_error()));
        }
        self.length = Some(length);
        if length == 0 && !self.head.is_empty() {
            file.write_all(&self.head).inspect_err(|_| drop(file.set_len(0)))?;
            self.length = Some(self.head.len() as u64);
        } else if length > 0 && self.head.is_empty() {
            self.head = read_head(&self.path)?;
        }
        Ok(self.length.unwrap_or(length))
    }
}

/// Returns the total length of the complete blocks of a file that has `found` bytes.
fn whole_blocks(path: &Path, found: u64) -> io::Result<u64> {
    if found == 0 {
        return Ok(0);
    }
    let valid = LegSource::File(path.to_owned()).open().and_then(|mut reader| {
        while reader.next_entry()?.is_some() {}
        Ok(reader.valid_bytes())
    });
    valid.map_err(|error| match error {
        super::SpoolError::Io { source, .. } => source,
        other => io::Error::other(other),
    })
}

fn read_head(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_HEAD as u64).read_to_end(&mut bytes)?;
    Ok(first_blocks(&bytes))
}

/// Returns the complete blocks at the beginning of a file, at most [`MAX_HEAD`] bytes.
fn first_blocks(bytes: &[u8]) -> Vec<u8> {
    let mut blocks = BlockReader::new(bytes.get(..MAX_HEAD).unwrap_or(bytes), 0);
    while let Ok(NextBlock::Block(..)) = blocks.next() {}
    let end = usize::try_from(blocks.offset()).unwrap_or(0).min(bytes.len());
    bytes[..end].to_vec()
}

/// Maximum number of bytes of a file's beginning that stay in memory, to create the file again. They suffice for the
/// header, the call engine's decisions and the SIP messages of a usual call setup.
const MAX_HEAD: usize = 8 * 1024;
