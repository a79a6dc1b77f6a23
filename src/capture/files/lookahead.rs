//! Reads the frames of one capture file, and looks at later frames without handing them out.

use std::collections::VecDeque;

use super::reader::{CaptureFileReader, EarlyEnd, FileFrameHeader};
use crate::capture::CaptureError;

/// An open capture file, of which some frames may have been read already.
#[derive(Debug)]
pub(super) struct LookaheadReader {
    reader: CaptureFileReader,
    /// The current frame, if frames after it were read. Otherwise its bytes are in the reader.
    current: Option<CopiedFrame>,
    /// Frames after the current one that were read already.
    ahead: VecDeque<CopiedFrame>,
}

/// A frame whose bytes the reader does not have any more.
#[derive(Debug)]
pub(super) struct CopiedFrame {
    pub(super) head: FileFrameHeader,
    pub(super) data: Vec<u8>,
}

impl LookaheadReader {
    pub(super) const fn new(reader: CaptureFileReader) -> Self {
        Self { reader, current: None, ahead: VecDeque::new() }
    }

    /// Makes the next frame the current one and returns its metadata; `None` at the end.
    pub(super) fn next_frame(&mut self) -> Result<Option<FileFrameHeader>, CaptureError> {
        self.current = self.ahead.pop_front();
        match &self.current {
            Some(copied) => Ok(Some(copied.head.clone())),
            None => self.reader.next_frame(),
        }
    }

    /// Returns the bytes of the current frame.
    pub(super) fn data(&self, head: &FileFrameHeader) -> &[u8] {
        self.current.as_ref().map_or_else(|| self.reader.data(head), |copied| &copied.data)
    }

    /// Returns up to `count` frames after the current one, whose metadata is `head`.
    pub(super) fn look_ahead(
        &mut self,
        head: &FileFrameHeader,
        count: usize,
    ) -> Result<impl Iterator<Item = &CopiedFrame>, CaptureError> {
        if self.current.is_none() {
            self.current = Some(self.copy_of(head.clone()));
        }
        while self.ahead.len() < count {
            let Some(next) = self.reader.next_frame()? else { break };
            let copied = self.copy_of(next);
            self.ahead.push_back(copied);
        }
        Ok(self.ahead.iter().take(count))
    }

    /// Returns and clears the warning about this file.
    pub(super) fn take_warning(&mut self) -> Option<EarlyEnd> {
        self.reader.take_warning()
    }

    fn copy_of(&self, head: FileFrameHeader) -> CopiedFrame {
        CopiedFrame { data: self.reader.data(&head).to_vec(), head }
    }
}
