//! The frames that were read from a tap and not returned yet. A tap is a network interface or the HEP socket.
//!
//! Several frames are read at once, so that the pipeline can look at the next frames before it handles them
//! ([`crate::capture::CaptureSource::look_ahead`]).

use super::LiveFrameHeader;
use crate::capture::LinkType;
use crate::time::Timestamp;

/// A tap (a network interface, or the HEP socket) with the frames that were read from it.
pub(super) struct TapBuffer {
    /// Name of the network interface, or of the HEP socket.
    pub(super) name: String,
    /// Number of frames of the tap that were returned since the start.
    pub(super) frames: u64,
    interface: u32,
    /// Buffers of frames, which are reused. The first `filled` have frames.
    read: Vec<ReadFrame>,
    filled: usize,
    /// Number of frames among them that were made the current frame so far; the last of these is the current frame.
    taken: usize,
    /// Whether the tap had no further frame when it was read last.
    is_drained: bool,
}

/// A frame that was read from a tap.
#[derive(Debug)]
pub(super) struct ReadFrame {
    pub(super) head: LiveFrameHeader,
    pub(super) bytes: Vec<u8>,
}

impl TapBuffer {
    pub(super) const fn new(interface: u32, name: String) -> Self {
        Self { name, frames: 0, interface, read: Vec::new(), filled: 0, taken: 0, is_drained: false }
    }

    /// Makes the next frame the current frame. Returns false if all frames were taken.
    pub(super) const fn advance(&mut self) -> bool {
        let has_next = self.taken < self.filled;
        if has_next {
            self.taken += 1;
        }
        has_next
    }

    /// Returns the current frame; `None` before the first.
    pub(super) fn current(&self) -> Option<&ReadFrame> {
        self.read.get(self.taken.checked_sub(1)?)
    }

    /// Returns the frames that wait after the current frame.
    pub(super) fn waiting(&self) -> &[ReadFrame] {
        &self.read[self.taken..self.filled]
    }

    /// Returns whether [`READ_AHEAD`] frames wait.
    pub(super) const fn is_full(&self) -> bool {
        self.filled - self.taken >= READ_AHEAD
    }

    /// Returns a buffer for the next frame that is read, with its header to be filled in. If all frames were taken, the
    /// current frame is lost.
    pub(super) fn next_buffer(&mut self) -> &mut ReadFrame {
        if self.taken == self.filled {
            (self.taken, self.filled) = (0, 0);
        }
        if self.filled == self.read.len() {
            let head =
                LiveFrameHeader { at: Timestamp::EPOCH, link: LinkType::RawIp, interface: self.interface, orig_len: 0 };
            self.read.push(ReadFrame { head, bytes: Vec::new() });
        }
        &mut self.read[self.filled]
    }

    /// Adds the frame in the buffer that [`Self::next_buffer`] returned last.
    pub(super) const fn add_frame(&mut self) {
        self.filled += 1;
    }

    /// Records that the tap has no further frame now.
    pub(super) const fn handle_drained(&mut self) {
        self.is_drained = true;
    }

    /// Returns whether the tap had no further frame when it was read last, and forgets it. Reading a tap without a
    /// frame is a system call. So it is read again only after the next wait, or after many frames of other taps.
    pub(super) const fn take_drained(&mut self) -> bool {
        std::mem::replace(&mut self.is_drained, false)
    }
}

/// Maximum number of frames that are read from a tap at once.
const READ_AHEAD: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(tap: &mut TapBuffer, number: u32) {
        let frame = tap.next_buffer();
        frame.head.orig_len = number;
        frame.bytes.clear();
        frame.bytes.extend_from_slice(&number.to_be_bytes());
        tap.add_frame();
    }

    fn current(tap: &TapBuffer) -> (u32, Vec<u8>) {
        let frame = tap.current().expect("a frame");
        (frame.head.orig_len, frame.bytes.clone())
    }

    #[test]
    fn frames_are_taken_in_order_and_buffers_are_reused() {
        let mut tap = TapBuffer::new(3, String::from("eth1"));
        assert!(!tap.advance() && tap.current().is_none());
        for round in 0..3 {
            let numbers = round * 100..round * 100 + READ_AHEAD as u32;
            for number in numbers.clone() {
                assert!(!tap.is_full());
                read(&mut tap, number);
            }
            assert!(tap.is_full());
            for (waiting, number) in (0..READ_AHEAD).rev().zip(numbers) {
                assert!(tap.advance());
                assert_eq!((current(&tap), tap.waiting().len()), ((number, number.to_be_bytes().to_vec()), waiting));
                assert_eq!(tap.current().expect("a frame").head.interface, 3);
            }
            assert!(!tap.advance());
        }
        assert_eq!(tap.read.len(), READ_AHEAD);
    }

    #[test]
    fn drained_tap_is_not_read_again_once() {
        let mut tap = TapBuffer::new(0, String::new());
        read(&mut tap, 1);
        tap.handle_drained();
        assert!(tap.advance() && !tap.advance());
        assert!(tap.take_drained() && !tap.take_drained());
    }
}
