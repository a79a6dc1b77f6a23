//! Reads capture files in a thread of its own, so that the thread that follows the calls does not wait for the files.
//!
//! The frames are passed on in batches. A batch is complete before it is passed on, so the next frames can be looked at
//! before they are handled ([`CaptureSource::look_ahead`]).

use std::io;
use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use super::FileSource;
use crate::capture::{
    CaptureCounters, CaptureError, CaptureEvent, CaptureSource, CaptureWarning, CapturedFrame, LinkType,
};
use crate::time::Timestamp;

/// Capture files that a thread reads, as a source of their frames.
#[derive(Debug)]
pub(super) struct FileReadThread {
    name: String,
    batches: Receiver<FrameBatch>,
    /// Channel that returns used batches to the thread, so that their memory is used again.
    used: Sender<FrameBatch>,
    pub(super) thread: Option<JoinHandle<()>>,
    batch: FrameBatch,
    /// Number of the next event in the batch.
    next: usize,
    counters: CaptureCounters,
}

/// Events that follow each other in a source.
#[derive(Debug, Default)]
struct FrameBatch {
    events: Vec<BatchedEvent>,
    /// The bytes of the frames, one behind the other.
    bytes: Vec<u8>,
    /// The end of the source after these events; `None` if another batch follows.
    end: Option<SourceEnd>,
}

#[derive(Debug)]
enum BatchedEvent {
    Frame(BatchedFrame),
    ClockStep { at: Timestamp, by_ns: i64 },
}

/// A frame in a batch. The fields have the same meaning as those of [`CapturedFrame`].
#[derive(Debug)]
struct BatchedFrame {
    at: Timestamp,
    link: LinkType,
    interface: u32,
    orig_len: u32,
    /// Position of the frame in the bytes of its batch.
    range: Range<usize>,
}

/// How a source ended, and its warnings.
#[derive(Debug)]
struct SourceEnd {
    error: Option<CaptureError>,
    warnings: Vec<CaptureWarning>,
}

impl FileReadThread {
    /// Starts a thread that reads the files.
    ///
    /// # Errors
    /// Fails if the operating system cannot start a thread.
    pub(super) fn start(source: FileSource) -> io::Result<Self> {
        let (filled, batches) = sync_channel(WAITING_BATCHES);
        let (used, returned) = channel();
        let name = source.name.clone();
        let builder = std::thread::Builder::new().name(String::from("read"));
        let thread = builder.spawn(move || read_all(source, &filled, &returned))?;
        let (batch, counters) = (FrameBatch::default(), CaptureCounters::default());
        Ok(Self { name, batches, used, thread: Some(thread), batch, next: 0, counters })
    }

    /// Waits for the next batch. Returns false at the end of the source.
    ///
    /// # Panics
    /// Panics if the thread has panicked.
    fn receive(&mut self) -> Result<bool, CaptureError> {
        if let Some(end) = &mut self.batch.end {
            return end.error.take().map_or(Ok(false), Err);
        }
        let Ok(batch) = self.batches.recv() else {
            // The thread sends the end of the source before it ends, except when it panics.
            if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
                std::panic::resume_unwind(panic);
            }
            return Ok(false);
        };
        let used = std::mem::replace(&mut self.batch, batch);
        self.next = 0;
        let _ = self.used.send(used); // fails only after the thread has read everything
        Ok(true)
    }
}

impl CaptureSource for FileReadThread {
    fn next_event(&mut self) -> Result<CaptureEvent<'_>, CaptureError> {
        while self.next == self.batch.events.len() {
            if !self.receive()? {
                return Ok(CaptureEvent::End);
            }
        }
        let event = &self.batch.events[self.next];
        self.next += 1;
        Ok(match event {
            BatchedEvent::Frame(frame) => {
                let data = self.batch.data(frame);
                self.counters.frames += 1;
                self.counters.cut += u64::from(frame.orig_len as usize > data.len());
                let BatchedFrame { at, link, interface, orig_len, .. } = *frame;
                CaptureEvent::Frame(CapturedFrame { at, link, interface, orig_len, data })
            }
            BatchedEvent::ClockStep { at, by_ns } => CaptureEvent::ClockStep { at: *at, by_ns: *by_ns },
        })
    }

    fn look_ahead(&self, count: usize, each: &mut dyn FnMut(LinkType, &[u8])) -> usize {
        let frames = self.batch.events[self.next..].iter().filter_map(|event| match event {
            BatchedEvent::Frame(frame) => Some(frame),
            BatchedEvent::ClockStep { .. } => None,
        });
        frames.take(count).map(|frame| each(frame.link, self.batch.data(frame))).count()
    }

    fn counters(&mut self) -> CaptureCounters {
        self.counters
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn take_warnings(&mut self) -> Vec<CaptureWarning> {
        self.batch.end.as_mut().map(|end| std::mem::take(&mut end.warnings)).unwrap_or_default()
    }
}

impl FrameBatch {
    fn data(&self, frame: &BatchedFrame) -> &[u8] {
        self.bytes.get(frame.range.clone()).unwrap_or_default()
    }

    /// Replaces the contents by the next events of a source.
    fn fill(&mut self, source: &mut FileSource) {
        self.events.clear();
        self.bytes.clear();
        while self.bytes.len() < BATCH_BYTES && self.events.len() < BATCH_EVENTS {
            let error = match source.next_event() {
                Ok(CaptureEvent::Frame(CapturedFrame { at, link, interface, orig_len, data })) => {
                    let start = self.bytes.len();
                    self.bytes.extend_from_slice(data);
                    let range = start..self.bytes.len();
                    self.events.push(BatchedEvent::Frame(BatchedFrame { at, link, interface, orig_len, range }));
                    continue;
                }
                Ok(CaptureEvent::ClockStep { at, by_ns }) => {
                    self.events.push(BatchedEvent::ClockStep { at, by_ns });
                    continue;
                }
                Ok(CaptureEvent::Tick(_)) => continue, // files have none
                Ok(CaptureEvent::End) => None,
                Err(error) => Some(error),
            };
            self.end = Some(SourceEnd { error, warnings: source.take_warnings() });
            return;
        }
    }
}

/// Reads a source to its end, and sends its events in batches. Ends early if nobody receives them.
fn read_all(mut source: FileSource, filled: &SyncSender<FrameBatch>, used: &Receiver<FrameBatch>) {
    loop {
        let mut batch = used.try_recv().unwrap_or_default();
        batch.fill(&mut source);
        let is_last = batch.end.is_some();
        if filled.send(batch).is_err() || is_last {
            return;
        }
    }
}

/// Number of bytes after which a batch is passed on. With a larger one, its frames would have left the cache of the
/// processor before they are handled.
const BATCH_BYTES: usize = 64 * 1024;
/// Maximum number of events in a batch.
const BATCH_EVENTS: usize = 1_024;
/// Number of batches that may wait. Then the thread stops reading, so the memory is bounded.
const WAITING_BATCHES: usize = 2;
