//! Reads the frames of one capture file. Later frames can be examined before they are returned.

use std::collections::VecDeque;

use super::reader::{CaptureFileReader, EarlyEnd, FileFrameHeader};
use crate::capture::CaptureError;

/// An open capture file. Frames after the current frame may have been read already.
#[derive(Debug)]
pub(super) struct LookaheadReader {
    reader: CaptureFileReader,
    /// The current frame, if later frames were read already. Otherwise `None`; then the frame's bytes are in the
    /// reader.
    current: Option<CopiedFrame>,
    /// Frames after the current frame that were already read, in order.
    ahead: VecDeque<CopiedFrame>,
    /// Error from reading beyond the frames in `ahead`. It is returned after these frames; `None` without an error.
    error: Option<CaptureError>,
}

/// A copy of a frame. The reader reuses its buffer for the next frame, so a frame that must stay is copied.
#[derive(Debug)]
pub(super) struct CopiedFrame {
    pub(super) head: FileFrameHeader,
    pub(super) data: Vec<u8>,
}

impl LookaheadReader {
    pub(super) const fn new(reader: CaptureFileReader) -> Self {
        Self { reader, current: None, ahead: VecDeque::new(), error: None }
    }

    /// Makes the next frame the current frame, and fills in its metadata. Returns false at the end of the file.
    pub(super) fn next_frame(&mut self, head: &mut FileFrameHeader) -> Result<bool, CaptureError> {
        self.current = self.ahead.pop_front();
        match (&self.current, self.error.take()) {
            (Some(copied), error) => {
                self.error = error;
                *head = copied.head.clone();
                Ok(true)
            }
            (None, Some(error)) => Err(error),
            (None, None) => self.reader.next_frame(head),
        }
    }

    /// Returns the bytes of the current frame.
    pub(super) fn data(&self, head: &FileFrameHeader) -> &[u8] {
        self.current.as_ref().map_or_else(|| self.reader.data(head), |copied| &copied.data)
    }

    /// Returns up to `count` frames after the current frame. `head` is the metadata of the current frame. There are
    /// fewer frames at the end of the file or after an error.
    pub(super) fn look_ahead(&mut self, head: &FileFrameHeader, count: usize) -> impl Iterator<Item = &CopiedFrame> {
        if self.current.is_none() {
            self.current = Some(self.copy_of(head.clone()));
        }
        while self.ahead.len() < count && self.error.is_none() {
            let mut next = FileFrameHeader::default();
            match self.reader.next_frame(&mut next) {
                Ok(false) => break,
                Ok(true) => {
                    let copied = self.copy_of(next);
                    self.ahead.push_back(copied);
                }
                Err(error) => self.error = Some(error),
            }
        }
        self.ahead.iter().take(count)
    }

    /// Returns the warning that the file ended too early, and clears it; `None` if there is none.
    pub(super) fn take_warning(&mut self) -> Option<EarlyEnd> {
        self.reader.take_warning()
    }

    fn copy_of(&self, head: FileFrameHeader) -> CopiedFrame {
        CopiedFrame { data: self.reader.data(&head).to_vec(), head }
    }
}
