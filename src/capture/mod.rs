//! Captured frames, from live interfaces or from capture files, behind the trait [`CaptureSource`].
//!
//! Invariants:
//! - The time of a frame is on the capture timeline, which continues without a step when the wall clock is set
//!   ([`CaptureEvent::ClockStep`]).
//! - A live source returns [`CaptureEvent::Tick`] after a short wait, so it never blocks its reader for long.
//! - A damaged file ends early with a warning, never with a panic.

use std::fmt;

use crate::time::Timestamp;

pub mod config;
pub(crate) mod ethertype;
pub mod files;
pub mod hep;
mod link_payload;
#[cfg(feature = "service")]
pub mod live;
mod plain_udp;

pub(crate) use link_payload::LinkPayload;
pub(crate) use plain_udp::udp_of;

/// The link-layer header of a frame. The numbers in brackets are those of the tcpdump LINKTYPE registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LinkType {
    /// Ethernet header (LINKTYPE 1).
    #[default]
    Ethernet,
    /// Header of the Linux cooked capture, version 1 (LINKTYPE 113).
    LinuxSll,
    /// Header of the Linux cooked capture, version 2 (LINKTYPE 276).
    LinuxSll2,
    /// IPv4 or IPv6 with no link header (LINKTYPE 101, 228 or 229, and 12 or 14 of old systems).
    RawIp,
    /// BSD loopback header (LINKTYPE 0): an address family in the byte order of the machine that wrote it.
    Null,
    /// OpenBSD loopback header (LINKTYPE 108): an address family in network byte order.
    Loop,
    /// A link type that callspan cannot decode, with its number.
    Other(u16),
}

impl LinkType {
    /// Returns the link type of a LINKTYPE or DLT number.
    pub(crate) const fn from_dlt(number: u16) -> Self {
        match number {
            0 => Self::Null,
            1 => Self::Ethernet,
            12 | 14 | 101 | 228 | 229 => Self::RawIp,
            108 => Self::Loop,
            113 => Self::LinuxSll,
            276 => Self::LinuxSll2,
            other => Self::Other(other),
        }
    }
}

/// One captured frame. Its bytes are borrowed from the source.
#[derive(Clone, Copy, Debug)]
pub struct CapturedFrame<'a> {
    /// Capture time of the frame, on the capture timeline.
    pub at: Timestamp,
    /// Type of the link-layer header at the start of `data`.
    pub link: LinkType,
    /// Index of the interface within the source; 0 if there is only one.
    pub interface: u32,
    /// Length of the frame on the wire in bytes. Larger than `data.len()` if the capture truncated the frame.
    pub orig_len: u32,
    /// The captured bytes, from the link-layer header on.
    pub data: &'a [u8],
}

/// The next event of a capture source: usually a frame.
#[derive(Debug)]
pub enum CaptureEvent<'a> {
    /// A captured frame.
    Frame(CapturedFrame<'a>),
    /// The current capture time, because no frame has arrived for a while. It lets timers fire although nothing is
    /// captured. Only live sources return it.
    Tick(Timestamp),
    /// A step of the wall clock relative to the monotonic clock. The capture timeline continues without a step. The
    /// wall-clock time of new calls is the timeline plus the sum of all steps.
    ClockStep {
        /// Capture time at which the clock step was noticed.
        at: Timestamp,
        /// Size of the clock step in ns; positive if the wall clock was set forward.
        by_ns: i64,
    },
    /// The source has ended; no further frames follow.
    End,
}

/// Counters of a capture source since the start, for the record's `problems` and for the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CaptureCounters {
    /// Number of frames that the source returned.
    pub(crate) frames: u64,
    /// Number of frames that the kernel dropped because its buffer was full.
    pub(crate) dropped_by_kernel: u64,
    /// Number of frames that the network interface dropped.
    pub(crate) dropped_by_interface: u64,
    /// Number of frames that the snap length of the capture truncated.
    pub(crate) cut: u64,
}

/// Counters of one interface of a live source since the start. A *tap* is such an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TapCounters {
    /// Name of the network interface, e.g. `eth1`.
    pub(crate) name: String,
    /// Whether the interface is open for capture and administratively up.
    pub(crate) is_up: bool,
    /// Number of frames of this interface that the source returned.
    pub(crate) frames: u64,
    /// Number of frames that the kernel dropped because the buffer of this interface was full.
    pub(crate) dropped_by_kernel: u64,
    /// Number of frames that the network interface dropped.
    pub(crate) dropped_by_interface: u64,
}

/// A source of captured frames: network interfaces or capture files.
pub trait CaptureSource {
    /// Returns the next event. After [`CaptureEvent::End`] it returns `End` again.
    ///
    /// # Errors
    /// Fails if the capture cannot continue, because an interface is gone or a file is unreadable.
    fn next_event(&mut self) -> Result<CaptureEvent<'_>, CaptureError>;

    /// Passes up to `count` frames to `each` that follow the last returned event and are in memory already. Returns the
    /// number of these frames.
    ///
    /// It is a hint and changes nothing: `next_event` usually returns these frames later, with other events between
    /// them. The default has no frames.
    fn look_ahead(&self, _count: usize, _each: &mut dyn FnMut(LinkType, &[u8])) -> usize {
        0
    }

    /// Returns the counters since the start. It is fast enough to be called every second.
    fn counters(&mut self) -> CaptureCounters;

    /// Returns the counters of each interface, in the order of [`CapturedFrame::interface`]. A source of files returns
    /// none.
    fn taps(&mut self) -> Vec<TapCounters> {
        Vec::new()
    }

    /// Returns the value of `source` in the call record: interface names or file names.
    fn name(&self) -> &str;

    /// Returns whether at least one interface or file is open.
    fn is_capturing(&self) -> bool {
        true
    }

    /// Returns the warnings for the operator and clears them, e.g. about a truncated file or an interface that is down.
    fn take_warnings(&mut self) -> Vec<CaptureWarning>;
}

/// A warning for the operator of the recorder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaptureWarning {
    /// The captured data has a problem, e.g. a truncated file.
    Source(String),
    /// The rest of a file was not read, because the header of a frame is invalid.
    Unread(String),
    /// An interface is down, or the capture on it has stopped.
    InterfaceDown(String),
    /// An interface is up, and the capture on it runs again.
    InterfaceUp(String),
}

impl fmt::Display for CaptureWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(text) | Self::Unread(text) | Self::InterfaceDown(text) | Self::InterfaceUp(text) => {
                f.write_str(text)
            }
        }
    }
}

/// Why a capture cannot be read. Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// A file cannot be opened or read.
    #[error("cannot read {path}: {}", explain_read_error(source))]
    File {
        /// Path of the file that cannot be read.
        path: String,
        /// Error of the operating system for this file.
        source: std::io::Error,
    },
    /// The file is neither pcap nor pcapng.
    #[error(
        "{path} is no capture: it begins with neither a pcap nor a pcapng header (gzip is unpacked by itself){hint}"
    )]
    NotACapture {
        /// Path of the file that is not a capture file.
        path: String,
        /// Guess about the type of the file, which the error text ends with, e.g. `; it looks like …`. Empty if the
        /// type is unknown.
        hint: String,
    },
    /// A live interface cannot be opened. The text says what to do.
    #[error("{0}")]
    Interface(String),
}

/// Returns the system error in plain words, with advice.
fn explain_read_error(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => String::from("there is no such file; check the path"),
        std::io::ErrorKind::PermissionDenied => {
            String::from("this user may not read it; run as its owner, or as root: chmod a+r FILE")
        }
        std::io::ErrorKind::IsADirectory => String::from("it is a folder; name the files in it"),
        _ => format!("{error}; if the disk is well, copy the file elsewhere and try again"),
    }
}
