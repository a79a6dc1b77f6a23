//! The file to which the command `replay` (capture files instead of live traffic) moves chunks of a spool when memory
//! is short. It has no name, so nothing is left of it when the process dies.
//!
//! A thread writes the chunks, several at a time, so that the thread that reads the capture goes on meanwhile. A reader
//! of a chunk waits until it is written. If the file cannot be written, the thread keeps the chunk in memory.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::chunked_buf::CHUNK_BYTES;

/// A file that is divided into slots of equal size, one for each chunk.
#[derive(Debug)]
pub(super) struct SpillFile {
    shared: Arc<SharedFile>,
    /// Chunks that were not passed to the writing thread yet, and the number of their bytes.
    waiting: Vec<SpillWrite>,
    waiting_bytes: usize,
    /// Channel to the writing thread; `None` only while the file is closed.
    writes: Option<SyncSender<Vec<SpillWrite>>>,
    /// Buffers with bytes that are in the file by now, emptied.
    written: Receiver<Vec<Vec<u8>>>,
    /// Empty buffers that can be used again.
    spare: Vec<Vec<u8>>,
    thread: Option<JoinHandle<()>>,
    /// Numbers of the slots (pieces of fixed size) that can be used again.
    free: Vec<u64>,
    /// Number of the first slot (piece of fixed size) that has never been used.
    end: u64,
    /// Number of chunks that were stored so far.
    stored: u64,
}

/// Position of a chunk in the file: its first slot (a piece of fixed size), and its length in bytes.
#[derive(Debug)]
pub(super) struct SpilledChunk {
    shared: Arc<SharedFile>,
    slot: u64,
    len: usize,
    /// Number of the write that stores the chunk, counted from 0.
    write: u64,
}

/// The file, with the progress of its writing thread.
#[derive(Debug)]
struct SharedFile {
    file: File,
    progress: Mutex<WriteProgress>,
    /// Notified after each group of writes.
    advanced: Condvar,
}

#[derive(Debug, Default)]
struct WriteProgress {
    /// Number of writes that have ended.
    ended: u64,
    /// Chunks that could not be written, by the number of their write.
    failed: HashMap<u64, Vec<u8>>,
    /// The first error of a write; `None` if there was none, or it was taken.
    first_error: Option<io::Error>,
    has_failed: bool,
    /// Whether the writing thread has ended, so that no further chunk is written.
    is_over: bool,
}

/// Ends the wait of all readers when the writing thread ends, even by a panic. Then they get a read error.
struct WriterEnd<'a>(&'a SharedFile);

impl Drop for WriterEnd<'_> {
    fn drop(&mut self) {
        self.0.progress().is_over = true;
        self.0.advanced.notify_all();
    }
}

/// A chunk for the writing thread.
#[derive(Debug)]
struct SpillWrite {
    bytes: Vec<u8>,
    offset: u64,
}

impl SpillFile {
    /// Creates the file in a folder, and starts its writing thread. Creates the folder if it does not exist.
    pub(super) fn create(dir: &Path) -> io::Result<Self> {
        let path = dir.join(format!("{}.tmp", std::process::id()));
        let file = create_private(&path)?;
        std::fs::remove_file(&path)?;
        Self::of_file(file)
    }

    fn of_file(file: File) -> io::Result<Self> {
        let shared = Arc::new(SharedFile { file, progress: Mutex::default(), advanced: Condvar::new() });
        let (writes, received) = sync_channel(1);
        let (returned, written) = channel();
        let of_thread = Arc::clone(&shared);
        let builder = std::thread::Builder::new().name(String::from("spill"));
        let thread = builder.spawn(move || of_thread.write_all(&received, &returned))?;
        Ok(Self {
            shared,
            waiting: Vec::new(),
            waiting_bytes: 0,
            writes: Some(writes),
            written,
            spare: Vec::new(),
            thread: Some(thread),
            free: Vec::new(),
            end: 0,
            stored: 0,
        })
    }

    /// Stores a chunk in a free slot of the file, or in new slots at its end. Waits while many chunks are not written
    /// yet. The chunk can be read after the next call of [`Self::flush`].
    pub(super) fn store(&mut self, bytes: Vec<u8>) -> SpilledChunk {
        let slots = slots_of(bytes.len());
        // A chunk longer than a slot is rare. It goes to the end of the file, because it needs several consecutive
        // slots.
        let slot = if slots == 1 { self.free.pop() } else { None };
        let slot = slot.unwrap_or_else(|| {
            self.end += slots;
            self.end - slots
        });
        let chunk = SpilledChunk { shared: Arc::clone(&self.shared), slot, len: bytes.len(), write: self.stored };
        self.stored += 1;
        self.waiting_bytes += bytes.len();
        self.waiting.push(SpillWrite { bytes, offset: chunk.offset() });
        if self.waiting_bytes >= BYTES_AT_ONCE {
            self.flush();
        }
        chunk
    }

    /// Passes all stored chunks to the writing thread if this chunk was not passed yet.
    pub(super) fn flush_chunk(&mut self, chunk: &SpilledChunk) {
        if chunk.write + self.waiting.len() as u64 >= self.stored {
            self.flush();
        }
    }

    /// Passes all stored chunks to the writing thread.
    pub(super) fn flush(&mut self) {
        if !self.waiting.is_empty()
            && let Some(writes) = &self.writes
        {
            self.waiting_bytes = 0;
            let _ = writes.send(std::mem::take(&mut self.waiting)); // the thread runs until `writes` is dropped
        }
    }

    /// Returns an empty buffer that a chunk no longer needs, because it is in the file; `None` if there is none.
    pub(super) fn take_buffer(&mut self) -> Option<Vec<u8>> {
        if self.spare.is_empty() {
            self.spare = self.written.try_recv().unwrap_or_default();
        }
        self.spare.pop()
    }

    /// Returns the first error of a write, once. All chunks that could not be written stay in memory.
    pub(super) fn take_error(&self) -> Option<io::Error> {
        self.shared.progress().first_error.take()
    }

    /// Returns the number of slots (pieces of fixed size) that the file has.
    #[cfg(test)]
    pub(super) const fn end(&self) -> u64 {
        self.end
    }

    /// Makes the slots of a chunk free, so that other chunks can use them.
    pub(super) fn release(&mut self, chunk: &SpilledChunk) {
        self.shared.progress().failed.remove(&chunk.write);
        self.free.extend(chunk.slot..chunk.slot + slots_of(chunk.len));
    }
}

impl Drop for SpillFile {
    fn drop(&mut self) {
        self.writes = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // its readers have their own reference to the file
        }
    }
}

impl SharedFile {
    /// Writes the chunks in the order in which they come, until the channel is closed.
    fn write_all(&self, groups: &Receiver<Vec<SpillWrite>>, returned: &Sender<Vec<Vec<u8>>>) {
        let _end = WriterEnd(self);
        let mut number = 0;
        for group in groups {
            let (mut written, mut failed) = (Vec::with_capacity(group.len()), Vec::new());
            for SpillWrite { mut bytes, offset } in group {
                match self.file.write_all_at(&bytes, offset) {
                    Ok(()) => {
                        bytes.clear();
                        written.push(bytes);
                    }
                    Err(error) => failed.push((number, bytes, error)),
                }
                number += 1;
            }
            let mut progress = self.progress();
            progress.ended = number;
            for (number, bytes, error) in failed {
                if !std::mem::replace(&mut progress.has_failed, true) {
                    progress.first_error = Some(error);
                }
                progress.failed.insert(number, bytes);
            }
            drop(progress);
            self.advanced.notify_all();
            let _ = returned.send(written); // fails only while the file is closed
        }
    }

    fn progress(&self) -> MutexGuard<'_, WriteProgress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SpilledChunk {
    /// Reads a chunk into a buffer, and replaces the contents of the buffer. Waits until the chunk is written.
    pub(super) fn read_into(&self, buffer: &mut Vec<u8>) -> io::Result<()> {
        buffer.clear();
        let progress = self.shared.progress();
        let is_waiting = |progress: &mut WriteProgress| progress.ended <= self.write && !progress.is_over;
        let progress = self.shared.advanced.wait_while(progress, is_waiting).unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = progress.failed.get(&self.write) {
            buffer.extend_from_slice(bytes);
            return Ok(());
        }
        if progress.ended <= self.write {
            // The slot may still have a chunk of another call.
            return Err(io::Error::other("the chunk was not written"));
        }
        drop(progress);
        buffer.resize(self.len, 0);
        self.shared.file.read_exact_at(buffer, self.offset())
    }

    /// Returns the length of the chunk, bytes.
    #[cfg(feature = "service")]
    pub(super) const fn len(&self) -> usize {
        self.len
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

/// Number of bytes that are passed to the writing thread at once. Waking the thread costs as much as writing a chunk.
/// About three times as many bytes may be not written yet.
const BYTES_AT_ONCE: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_of_a_file_that_cannot_be_written_stay_in_memory() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("read-only");
        std::fs::write(&path, b"").expect("written");
        let mut file = SpillFile::of_file(File::open(&path).expect("there")).expect("a thread");
        let chunks: Vec<_> = (0..20_u8).map(|byte| file.store(vec![byte; 1_000])).collect();
        file.flush();
        let mut buffer = Vec::new();
        for (byte, chunk) in (0..).zip(&chunks) {
            chunk.read_into(&mut buffer).expect("in memory");
            assert_eq!(buffer, [byte; 1_000]);
        }
        assert!(file.take_error().is_some() && file.take_error().is_none(), "one disk gives one warning");
        assert!(file.take_buffer().is_none());
        chunks.iter().for_each(|chunk| file.release(chunk));
        assert!(file.shared.progress().failed.is_empty(), "released chunks take no memory");
    }

    #[test]
    fn chunk_is_readable_after_a_flush() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut file = SpillFile::create(folder.path()).expect("writable");
        let mut buffer = Vec::new();
        for round in 0..500_u16 {
            let bytes = round.to_be_bytes().repeat(usize::from(round) * 40);
            let chunk = file.store(bytes.clone());
            file.flush();
            chunk.read_into(&mut buffer).expect("readable");
            assert_eq!(buffer, bytes);
            if round % 3 == 0 {
                file.release(&chunk);
            }
        }
        assert!(file.take_error().is_none() && file.take_buffer().is_some());
    }

    #[test]
    fn chunk_that_was_never_written_gives_an_error_and_no_other_chunk() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut file = SpillFile::create(folder.path()).expect("writable");
        let first = file.store(vec![1; 100]);
        file.flush();
        first.read_into(&mut Vec::new()).expect("readable");
        file.release(&first);
        let second = file.store(vec![2; 100]);
        assert_eq!(second.slot, first.slot);
        drop(file); // without a flush
        assert!(second.read_into(&mut Vec::new()).is_err());
    }
}
