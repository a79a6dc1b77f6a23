//! Reads capture files (pcap, pcapng, gzip) as one source, merged by time.
//!
//! Invariants:
//! - Memory does not depend on the length of a file.
//! - A regular file is open only while the merge reads from it, so a day of rotated files needs few file handles.
//! - Frames of one file keep their order. The merge always takes the file with the earliest next frame.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{CaptureCounters, CaptureError, CaptureEvent, CaptureSource, CaptureWarning, CapturedFrame};
use crate::time::Timestamp;
use clock_steps::{ClockSteps, TimelinePosition};
use lookahead::LookaheadReader;
use read_thread::FileReadThread;
use reader::{CaptureFileReader, EarlyEnd, FileFrameHeader};
use rtp_witness::RtpWitness;
use step_search::find_step;

mod clock_steps;
mod lookahead;
mod read_thread;
mod reader;
mod rtp_witness;
mod step_search;
mod unreadable_hint;

/// Opens capture files as one source; `-` is standard input. The headers of all files are checked first.
///
/// # Errors
/// Fails if a file cannot be opened or is not a capture file.
pub fn open(paths: &[PathBuf]) -> Result<FileSource, CaptureError> {
    let mut source = FileSource {
        name: source_name(paths),
        files: Vec::with_capacity(paths.len()),
        heads: BinaryHeap::with_capacity(paths.len()),
        handed_out: None,
        held_back: None,
        steps: ClockSteps::default(),
        counters: CaptureCounters::default(),
        warnings: Vec::new(),
        total_bytes: paths
            .iter()
            .filter(|path| is_regular(path))
            .filter_map(|p| p.metadata().ok())
            .map(|m| m.len())
            .sum(),
        bytes_read: Arc::default(),
    };
    for path in paths {
        // A regular file is closed after its first frame and read again later. Its bytes are counted only when it is
        // read again.
        let counter = if is_regular(path) { Arc::default() } else { Arc::clone(&source.bytes_read) };
        let mut reader = CaptureFileReader::open(path, counter)?;
        let mut first = FileFrameHeader::default();
        let has_frame = reader.next_frame(&mut first)?;
        source.take_reader_warning(&mut reader, path);
        if !has_frame {
            continue;
        }
        source.heads.push(Reverse((first.stamp, source.files.len())));
        let state = if is_regular(path) {
            CaptureFileState::NotStarted
        } else {
            CaptureFileState::Reading(Box::new(LookaheadReader::new(reader)), first)
        };
        source.files.push(CaptureFile { path: path.clone(), state, witness: RtpWitness::default() });
    }
    Ok(source)
}

/// Several capture files that are read as one source, in order of time.
#[derive(Debug)]
pub struct FileSource {
    name: String,
    files: Vec<CaptureFile>,
    /// The next frame of each file: its time and the index of the file. The smallest entry is the next frame of the
    /// merge; at equal times, the file that was named first.
    heads: BinaryHeap<Reverse<(Timestamp, usize)>>,
    /// Index of the file with the frame that was returned last. The next frame of this file is not in `heads` yet.
    handed_out: Option<usize>,
    /// File index and time of a frame directly after a clock step (jump of the wall clock). The frame waits while the
    /// clock step is returned; `None` if no frame waits.
    held_back: Option<(usize, Timestamp)>,
    steps: ClockSteps,
    counters: CaptureCounters,
    warnings: Vec<CaptureWarning>,
    /// Total size of all regular files, bytes. Compressed files count with their compressed size.
    total_bytes: u64,
    /// Number of bytes that were read from the files so far.
    bytes_read: Arc<AtomicU64>,
}

/// How much of the capture files was read so far.
#[derive(Clone, Debug)]
pub struct ReadProgress {
    total_bytes: u64,
    bytes_read: Arc<AtomicU64>,
}

impl ReadProgress {
    /// Returns the total size of all regular files in bytes. Compressed files count with their compressed size.
    pub(crate) const fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// Returns the number of bytes that were read from the files.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct CaptureFile {
    path: PathBuf,
    state: CaptureFileState,
    /// Recent RTP streams of the file. Their packets have an order, so they can prove that the clock was set back by
    /// less than five seconds.
    witness: RtpWitness,
}

#[derive(Debug)]
enum CaptureFileState {
    /// The file is closed, but the time of its first frame is known. The file is opened again when the merge reaches
    /// that time.
    NotStarted,
    /// The file is open, and the header of its next frame was read.
    Reading(Box<LookaheadReader>, FileFrameHeader),
    Done,
}

impl CaptureSource for FileSource {
    fn next_event(&mut self) -> Result<CaptureEvent<'_>, CaptureError> {
        if let Some((index, at)) = self.held_back.take() {
            return Ok(self.hand_out(index, at));
        }
        if let Some(index) = self.handed_out.take() {
            self.advance(index)?;
        }
        while let Some(Reverse((_, index))) = self.heads.pop() {
            self.start_reading(index)?;
            // The file has no frame any more if it was truncated after it was first opened. Then it is skipped.
            let CaptureFile { state: CaptureFileState::Reading(reader, head), witness, .. } = &mut self.files[index]
            else {
                continue;
            };
            let last = self.steps.last_stamp(index, head);
            let found_ns = last.and_then(|last| find_step(reader, head, last, witness));
            witness.shift(head.interface, found_ns.unwrap_or(0));
            witness.handle_frame(head, reader.data(head));
            let TimelinePosition { at, step_ns } = self.steps.place_on_timeline(index, head, found_ns);
            let Some(by_ns) = step_ns else { return Ok(self.hand_out(index, at)) };
            self.held_back = Some((index, at));
            return Ok(CaptureEvent::ClockStep { at, by_ns });
        }
        Ok(CaptureEvent::End)
    }

    fn counters(&mut self) -> CaptureCounters {
        self.counters
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn take_warnings(&mut self) -> Vec<CaptureWarning> {
        std::mem::take(&mut self.warnings)
    }
}

impl FileSource {
    /// Returns how much of the files was read, also while another thread reads them.
    pub fn progress(&self) -> ReadProgress {
        ReadProgress { total_bytes: self.total_bytes, bytes_read: Arc::clone(&self.bytes_read) }
    }

    /// Starts a thread that reads the files, and returns a source of their frames. A pipe is read without a thread:
    /// its frames may come slowly, and each is handled when it comes.
    ///
    /// # Errors
    /// Fails if the operating system cannot start a thread.
    pub fn in_thread(self) -> std::io::Result<Box<dyn CaptureSource>> {
        if self.files.iter().all(|file| is_regular(&file.path)) {
            Ok(Box::new(FileReadThread::start(self)?))
        } else {
            Ok(Box::new(self))
        }
    }

    fn hand_out(&mut self, index: usize, at: Timestamp) -> CaptureEvent<'_> {
        self.handed_out = Some(index);
        let CaptureFileState::Reading(reader, head) = &self.files[index].state else { return CaptureEvent::End };
        let data = reader.data(head);
        self.counters.frames += 1;
        self.counters.cut += u64::from(head.orig_len as usize > data.len());
        let interface = self.steps.interface(index, head);
        CaptureEvent::Frame(CapturedFrame { at, link: head.link, interface, orig_len: head.orig_len, data })
    }

    /// Reads the next frame of a file and adds its time to `heads` (the next frames of all files).
    fn advance(&mut self, index: usize) -> Result<(), CaptureError> {
        let CaptureFile { state, path, .. } = &mut self.files[index];
        let CaptureFileState::Reading(reader, head) = state else { return Ok(()) };
        let next = reader.next_frame(head);
        self.warnings.extend(reader.take_warning().map(|warning| describe(warning, path)));
        if matches!(next, Ok(true)) {
            self.heads.push(Reverse((self.steps.merge_key(index, head), index)));
        } else {
            *state = CaptureFileState::Done;
        }
        next.map(|_| ())
    }

    /// Opens a file that was closed after its first frame, and reads that frame again.
    fn start_reading(&mut self, index: usize) -> Result<(), CaptureError> {
        let file = &mut self.files[index];
        if matches!(file.state, CaptureFileState::NotStarted) {
            let reader = CaptureFileReader::open(&file.path, Arc::clone(&self.bytes_read))?;
            let (mut reader, mut head) = (Box::new(LookaheadReader::new(reader)), FileFrameHeader::default());
            file.state = match reader.next_frame(&mut head)? {
                true => CaptureFileState::Reading(reader, head),
                false => CaptureFileState::Done,
            };
        }
        Ok(())
    }

    fn take_reader_warning(&mut self, reader: &mut CaptureFileReader, path: &Path) {
        self.warnings.extend(reader.take_warning().map(|warning| describe(warning, path)));
    }
}

fn describe(warning: EarlyEnd, path: &Path) -> CaptureWarning {
    let shown = path.display();
    match warning {
        EarlyEnd::Cut(text) => CaptureWarning::Source(format!("{shown}: {text}")),
        EarlyEnd::Rubbish { position, frames } => {
            let length = path.metadata().ok().filter(|found| found.is_file()).map(|found| found.len());
            let of = length.filter(|length| *length >= position).map(|length| format!(" of {length}"));
            CaptureWarning::Unread(format!(
                "{shown}: rubbish at byte {position}{}: the {frames} frames before it were read, the rest of the file was not",
                of.unwrap_or_default()
            ))
        }
    }
}

fn is_regular(path: &Path) -> bool {
    path != Path::new("-") && path.metadata().is_ok_and(|m| m.is_file())
}

/// Returns the value of `source` in call records: the names of the files without their folders.
fn source_name(paths: &[PathBuf]) -> String {
    let name = |path: &PathBuf| path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let mut shown: Vec<String> = paths.iter().take(NAMES_SHOWN).map(name).collect();
    if paths.len() > NAMES_SHOWN {
        shown.push(format!("and {} more", paths.len() - NAMES_SHOWN));
    }
    shown.join(", ")
}

/// Maximum number of file names in the source name. A call record needs no list of a whole day of rotated files.
const NAMES_SHOWN: usize = 3;

#[cfg(test)]
mod tests;
