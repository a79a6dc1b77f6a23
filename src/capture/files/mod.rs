//! Capture files as one source: pcap and pcapng, gzip or not, merged by time.
//!
//! Invariants: memory is constant however long a file is; a regular file is open only while the merge is
//! inside it, so a day of rotated files needs no day of file handles; frames of one file keep their order
//! (small disorder is left to the engine), only the merge takes the file whose next frame is the earliest.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::{Path, PathBuf};

use super::{CaptureCounters, CaptureError, CaptureEvent, CaptureSource, CaptureWarning, CapturedFrame};
use crate::time::Timestamp;
use clock_steps::{ClockSteps, TimelinePosition};
use reader::{CaptureFileReader, FileFrameHeader};

mod clock_steps;
mod reader;
mod unreadable_hint;

/// Opens capture files as one source; `-` is standard input. Every file's header is checked at once.
///
/// # Errors
/// When a file cannot be opened, or does not begin like a capture.
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
    };
    for path in paths {
        let mut reader = CaptureFileReader::open(path)?;
        let first = reader.next_frame()?;
        source.take_reader_warning(&mut reader, path);
        let Some(first) = first else { continue };
        source.heads.push(Reverse((first.stamp, source.files.len())));
        let state = if is_regular(path) {
            CaptureFileState::Waiting
        } else {
            CaptureFileState::Reading(Box::new(reader), first)
        };
        source.files.push(CaptureFile { path: path.clone(), state });
    }
    Ok(source)
}

/// Several capture files, read as one.
#[derive(Debug)]
pub struct FileSource {
    name: String,
    files: Vec<CaptureFile>,
    /// The stamp of the next frame of each file that still has one; equal stamps in the order of the files.
    heads: BinaryHeap<Reverse<(Timestamp, usize)>>,
    /// The file whose frame the caller has; it is advanced by the next call.
    handed_out: Option<usize>,
    /// A frame that waits behind the clock step that it brought.
    held_back: Option<(usize, Timestamp)>,
    steps: ClockSteps,
    counters: CaptureCounters,
    warnings: Vec<String>,
}

#[derive(Debug)]
struct CaptureFile {
    path: PathBuf,
    state: CaptureFileState,
}

#[derive(Debug)]
enum CaptureFileState {
    /// A regular file whose first stamp is known; it is opened again when the merge gets there.
    Waiting,
    /// Being read, and what its next frame is.
    Reading(Box<CaptureFileReader>, FileFrameHeader),
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
            // A file that was cut since it was opened has no frame any more.
            let CaptureFileState::Reading(_, head) = &self.files[index].state else { continue };
            let TimelinePosition { at, told_ns } = self.steps.place(index, head);
            let Some(by_ns) = told_ns else { return Ok(self.hand_out(index, at)) };
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
        std::mem::take(&mut self.warnings).into_iter().map(CaptureWarning::Source).collect()
    }
}

impl FileSource {
    fn hand_out(&mut self, index: usize, at: Timestamp) -> CaptureEvent<'_> {
        self.handed_out = Some(index);
        let CaptureFileState::Reading(reader, head) = &self.files[index].state else { return CaptureEvent::End };
        let data = reader.data(head);
        self.counters.frames += 1;
        self.counters.cut += u64::from(head.orig_len as usize > data.len());
        let interface = self.steps.interface(index, head);
        CaptureEvent::Frame(CapturedFrame { at, link: head.link, interface, orig_len: head.orig_len, data })
    }

    /// Reads the file's next frame and puts its stamp into the merge.
    fn advance(&mut self, index: usize) -> Result<(), CaptureError> {
        let file = &mut self.files[index];
        let CaptureFileState::Reading(mut reader, _) = std::mem::replace(&mut file.state, CaptureFileState::Done)
        else {
            return Ok(());
        };
        let next = reader.next_frame()?;
        if let Some(warning) = reader.take_warning() {
            self.warnings.push(format!("{}: {warning}", file.path.display()));
        }
        if let Some(head) = next {
            self.heads.push(Reverse((self.steps.merge_key(index, &head), index)));
            file.state = CaptureFileState::Reading(reader, head);
        }
        Ok(())
    }

    /// Opens a waiting file and reads its first frame.
    fn start_reading(&mut self, index: usize) -> Result<(), CaptureError> {
        let file = &mut self.files[index];
        if matches!(file.state, CaptureFileState::Waiting) {
            let mut reader = Box::new(CaptureFileReader::open(&file.path)?);
            file.state =
                reader.next_frame()?.map_or(CaptureFileState::Done, |head| CaptureFileState::Reading(reader, head));
        }
        Ok(())
    }

    fn take_reader_warning(&mut self, reader: &mut CaptureFileReader, path: &Path) {
        if let Some(warning) = reader.take_warning() {
            self.warnings.push(format!("{}: {warning}", path.display()));
        }
    }
}

fn is_regular(path: &Path) -> bool {
    path != Path::new("-") && path.metadata().is_ok_and(|m| m.is_file())
}

/// What a call record says under `source`: the file names without their folders.
fn source_name(paths: &[PathBuf]) -> String {
    let name = |path: &PathBuf| path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let mut shown: Vec<String> = paths.iter().take(NAMES_SHOWN).map(name).collect();
    if paths.len() > NAMES_SHOWN {
        shown.push(format!("and {} more", paths.len() - NAMES_SHOWN));
    }
    shown.join(", ")
}

/// How many file names the source's name lists: a record should not carry a day of rotated names.
const NAMES_SHOWN: usize = 3;

#[cfg(test)]
mod tests;
