//! Where frames come from: a live interface or capture files, behind one trait.
//!
//! Invariants: frames carry the capture timeline (see [`CaptureEvent`]), a source never blocks its reader
//! for longer than [`CaptureEvent::Tick`] allows, and a damaged file ends early with a warning, never with a panic.

use std::fmt;

use crate::time::Timestamp;

pub mod config;
pub mod files;
#[cfg(feature = "service")]
pub mod live;

/// What the bytes of a frame begin with (the values of the tcpdump LINKTYPE registry in brackets).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkType {
    /// Ethernet (1).
    Ethernet,
    /// Linux cooked capture v1 (113).
    LinuxSll,
    /// Linux cooked capture v2 (276).
    LinuxSll2,
    /// IPv4 or IPv6 with no link header (101, 228, 229, and 12 or 14 of old systems).
    RawIp,
    /// BSD loopback: an address family in the writer's byte order (0).
    Null,
    /// OpenBSD loopback: an address family in network byte order (108).
    Loop,
    /// One that we do not read.
    Other(u16),
}

impl LinkType {
    /// From a LINKTYPE or DLT number.
    pub const fn from_dlt(number: u16) -> Self {
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

/// One frame as it was captured, borrowed from the source.
#[derive(Clone, Copy, Debug)]
pub struct CapturedFrame<'a> {
    /// When, on the capture timeline.
    pub at: Timestamp,
    /// What `data` begins with.
    pub link: LinkType,
    /// Which interface of the source (0 where there is one).
    pub interface: u32,
    /// Bytes on the wire; more than `data.len()` where the capture cut the frame.
    pub orig_len: u32,
    /// The bytes that were captured.
    pub data: &'a [u8],
}

/// What a source has to say next.
#[derive(Debug)]
pub enum CaptureEvent<'a> {
    /// A frame.
    Frame(CapturedFrame<'a>),
    /// Nothing came, and it is this late now: lets timers fire on a silent wire. Live sources only.
    Tick(Timestamp),
    /// The wall clock was stepped against the monotonic one by this many nanoseconds. Frames keep to the
    /// old timeline; only the mapping of new calls to wall-clock time moves: wall = timeline + sum of steps.
    ClockStep {
        /// When, on the capture timeline.
        at: Timestamp,
        /// Positive when the wall clock jumped ahead.
        by_ns: i64,
    },
    /// There will be no more.
    End,
}

/// What a source counted, for `problems` and for the operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CaptureCounters {
    /// Frames handed out.
    pub frames: u64,
    /// Frames that the kernel or the interface had and we did not get.
    pub dropped_by_kernel: u64,
    /// Frames dropped by the network interface itself.
    pub dropped_by_interface: u64,
    /// Frames that the capture cut short (snap length).
    pub cut: u64,
}

/// A place where frames come from.
pub trait CaptureSource {
    /// The next event. After [`CaptureEvent::End`] it is `End` for ever.
    ///
    /// # Errors
    /// Only for what ends the capture for good (interface gone, file unreadable).
    fn next_event(&mut self) -> Result<CaptureEvent<'_>, CaptureError>;

    /// What was counted so far. Cheap enough to call once a second.
    fn counters(&mut self) -> CaptureCounters;

    /// The name for `source` in the call record: interface names or file names.
    fn name(&self) -> &str;

    /// What an operator should be told (a file cut short, rubbish skipped, an interface down), once each.
    fn take_warnings(&mut self) -> Vec<CaptureWarning>;
}

/// What an operator should be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaptureWarning {
    /// Something is wrong with what is read.
    Source(String),
    /// An interface is down, or its capture has stopped.
    InterfaceDown(String),
    /// It is back.
    InterfaceUp(String),
}

impl fmt::Display for CaptureWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(text) | Self::InterfaceDown(text) | Self::InterfaceUp(text) => f.write_str(text),
        }
    }
}

/// Why a capture cannot be read. Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// A file cannot be opened or read.
    #[error("cannot read {path}: {}", unread(source))]
    File {
        /// Which file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that is not pcap or pcapng.
    #[error(
        "{path} is no capture: it begins with neither a pcap nor a pcapng header (gzip is unpacked by itself){hint}"
    )]
    NotACapture {
        /// Which file.
        path: String,
        /// What it looks like instead, where we know: "; it looks like …".
        hint: String,
    },
    /// A live interface that cannot be opened or has gone. The text says what to do.
    #[error("{0}")]
    Interface(String),
}

/// What the system said, and what to do.
fn unread(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => String::from("there is no such file; check the path"),
        std::io::ErrorKind::PermissionDenied => {
            String::from("this user may not read it; run as its owner, or as root: chmod a+r FILE")
        }
        std::io::ErrorKind::IsADirectory => String::from("it is a folder; name the files in it"),
        _ => format!("{error}; if the disk is well, copy the file elsewhere and try again"),
    }
}
