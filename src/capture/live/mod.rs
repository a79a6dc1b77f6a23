//! Live capture through libpcap's ring, on one interface or several.
//!
//! Invariants: never immediate mode (it costs twenty times as much a frame); libpcap's time-out is no timer, so the
//! handles do not block and `poll` waits; a frame is copied once, into a buffer that is kept, and nothing is
//! allocated for it; no clock is read for a frame unless its stamp is far from the frame before; an interface that
//! goes away is tried again until it is back.

use std::fmt;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant, SystemTime};

use pcap::{Active, Capture, Precision};

use super::config::Config;
use super::{CaptureCounters, CaptureError, CaptureEvent, CaptureSource, CaptureWarning, CapturedFrame, LinkType};
use crate::time::Timestamp;
use clock::{CaptureTimeline, ClockReading};

mod clock;
mod open_errors;

/// What becomes of an interface that is down or not there when capture begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingInterfacePolicy {
    /// Nothing begins: somebody sits there and reads why.
    Refuse,
    /// It is told in a [`CaptureWarning`] and tried again each second; the others are heard meanwhile.
    Await,
}

/// Opens the configured interfaces, promiscuous.
///
/// # Errors
/// When one of them cannot be opened and is not awaited; the text says what to do.
pub fn open(config: &Config, absent: MissingInterfacePolicy) -> Result<LiveSource, CaptureError> {
    if config.interfaces.is_empty() {
        return Err(CaptureError::Interface(open_errors::none_configured()));
    }
    let started = now();
    let mut clock =
        LiveClock { started, timeline: CaptureTimeline::starting(ClockReading { wall: wall(), mono_ns: 0 }) };
    let mut interfaces = Vec::with_capacity(config.interfaces.len());
    let mut warnings = Vec::new();
    for name in &config.interfaces {
        let state = match CaptureHandle::open(name, config.buffer_mib) {
            Ok(handle) => InterfaceState::Up(handle),
            Err(error) if absent == MissingInterfacePolicy::Await && open_errors::may_come(name, &error) => {
                let why = open_errors::cannot_open(name, &error);
                warnings.push(CaptureWarning::InterfaceDown(format!("{why}; it is tried again each second")));
                InterfaceState::Down { retry_at: Timestamp::EPOCH }
            }
            Err(error) => return Err(CaptureError::Interface(open_errors::cannot_open(name, &error))),
        };
        interfaces.push(LiveInterface {
            name: name.clone(),
            state,
            before: CaptureCounters::default(),
            seen: PcapDropCounters::default(),
        });
    }
    let _ = clock.compare();
    Ok(LiveSource {
        name: config.interfaces.join(", "),
        interfaces,
        buffer_mib: config.buffer_mib,
        turn: 0,
        in_turn: 0,
        frame: Vec::with_capacity(SNAP_LEN as usize),
        held_back: None,
        clock,
        is_any_down: !warnings.is_empty(),
        next_look: Timestamp::EPOCH,
        frames: 0,
        cut: 0,
        warnings,
    })
}

/// Live interfaces as one source.
pub struct LiveSource {
    name: String,
    interfaces: Vec<LiveInterface>,
    buffer_mib: u32,
    /// The interface that is read next, and how many frames it has given in a row.
    turn: usize,
    in_turn: u32,
    frame: Vec<u8>,
    /// A frame that waits behind the clock step that it brought.
    held_back: Option<LiveFrameHeader>,
    clock: LiveClock,
    is_any_down: bool,
    /// When to look again whether a silent interface is up.
    next_look: Timestamp,
    frames: u64,
    cut: u64,
    warnings: Vec<CaptureWarning>,
}

struct LiveInterface {
    name: String,
    state: InterfaceState,
    /// What was counted so far, handles that are closed included.
    before: CaptureCounters,
    /// What the open handle's counters said when they were last read.
    seen: PcapDropCounters,
}

enum InterfaceState {
    Up(CaptureHandle),
    /// Tried again at this moment of the timeline.
    Down {
        retry_at: Timestamp,
    },
}

struct CaptureHandle {
    capture: Capture<Active>,
    link: LinkType,
    is_set_up: bool,
}

/// libpcap's 32-bit counters; they wrap.
#[derive(Clone, Copy, Default)]
struct PcapDropCounters {
    dropped: u32,
    if_dropped: u32,
}

/// What is known about the frame in the buffer.
#[derive(Clone, Copy, Debug)]
struct LiveFrameHeader {
    at: Timestamp,
    link: LinkType,
    interface: u32,
    orig_len: u32,
}

enum FrameReadOutcome {
    /// A frame is in the buffer; its stamp by the kernel's clock.
    Frame(Timestamp, LinkType, u32),
    Empty,
}

/// The two clocks, and the timeline made of them.
struct LiveClock {
    started: Instant,
    timeline: CaptureTimeline,
}

impl CaptureSource for LiveSource {
    fn next_event(&mut self) -> Result<CaptureEvent<'_>, CaptureError> {
        if let Some(head) = self.held_back.take() {
            return Ok(self.hand_out(head));
        }
        for waited in [false, true] {
            if waited {
                self.wait();
            }
            for _ in 0..self.interfaces.len() {
                let index = self.take_turn();
                if let FrameReadOutcome::Frame(stamp, link, orig_len) = self.read(index) {
                    return Ok(
                        self.place(stamp, LiveFrameHeader { at: stamp, link, interface: index as u32, orig_len })
                    );
                }
                self.in_turn = FRAMES_IN_A_TURN;
            }
        }
        Ok(self.tick())
    }

    fn counters(&mut self) -> CaptureCounters {
        let mut sum = CaptureCounters { frames: self.frames, cut: self.cut, ..CaptureCounters::default() };
        for interface in &mut self.interfaces {
            interface.read_counters();
            sum.dropped_by_kernel += interface.before.dropped_by_kernel;
            sum.dropped_by_interface += interface.before.dropped_by_interface;
        }
        sum
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn take_warnings(&mut self) -> Vec<CaptureWarning> {
        std::mem::take(&mut self.warnings)
    }
}

impl LiveSource {
    /// Whether at least one interface is heard.
    pub fn is_capturing(&self) -> bool {
        self.interfaces.iter().any(|i| matches!(i.state, InterfaceState::Up(_)))
    }

    /// The interface to read now: each gives at most a burst before the others are asked.
    fn take_turn(&mut self) -> usize {
        if self.in_turn >= FRAMES_IN_A_TURN {
            self.turn = (self.turn + 1) % self.interfaces.len();
            self.in_turn = 0;
        }
        self.in_turn += 1;
        self.turn
    }

    fn read(&mut self, index: usize) -> FrameReadOutcome {
        let Some(LiveInterface { state: InterfaceState::Up(handle), .. }) = self.interfaces.get_mut(index) else {
            return FrameReadOutcome::Empty;
        };
        match handle.capture.next_packet() {
            Ok(packet) => {
                self.frame.clear();
                self.frame.extend_from_slice(packet.data);
                // The precision asked for is ns, so this field holds them (pcap_set_tstamp_precision(3)).
                #[allow(clippy::useless_conversion, reason = "the fields of timeval differ between platforms")]
                let (secs, nanos) = (i64::from(packet.header.ts.tv_sec), i64::from(packet.header.ts.tv_usec));
                FrameReadOutcome::Frame(Timestamp::from_secs(secs).offset(nanos), handle.link, packet.header.len)
            }
            // On a live handle "no more packets" is only an interrupted read.
            Err(pcap::Error::TimeoutExpired | pcap::Error::NoMorePackets) => FrameReadOutcome::Empty,
            Err(error) => {
                self.went_down(index, &error);
                FrameReadOutcome::Empty
            }
        }
    }

    fn place(&mut self, stamp: Timestamp, head: LiveFrameHeader) -> CaptureEvent<'_> {
        if let Some(at) = self.clock.timeline.near(stamp) {
            if self.is_any_down {
                self.reopen_what_is_back(at);
            }
            return self.hand_out(LiveFrameHeader { at, ..head });
        }
        let step = self.clock.compare();
        let at = self.clock.place(stamp);
        let head = LiveFrameHeader { at, ..head };
        let Some(by_ns) = step else { return self.hand_out(head) };
        self.held_back = Some(head);
        CaptureEvent::ClockStep { at: self.clock.now(), by_ns }
    }

    fn hand_out(&mut self, head: LiveFrameHeader) -> CaptureEvent<'_> {
        self.frames += 1;
        self.cut += u64::from(head.orig_len as usize > self.frame.len());
        let LiveFrameHeader { at, link, interface, orig_len } = head;
        CaptureEvent::Frame(CapturedFrame { at, link, interface, orig_len, data: &self.frame })
    }

    /// Nothing came for as long as we wait.
    fn tick(&mut self) -> CaptureEvent<'_> {
        let step = self.clock.compare();
        let at = self.clock.now();
        self.reopen_what_is_back(at);
        if at >= self.next_look {
            self.next_look = at + RETRY;
            self.look_whether_up();
        }
        step.map_or(CaptureEvent::Tick(at), |by_ns| CaptureEvent::ClockStep { at, by_ns })
    }

    /// Waits until an interface has frames, [`TICK`] is over, or a signal came.
    fn wait(&self) {
        let up = self.interfaces.iter().filter_map(|i| match &i.state {
            InterfaceState::Up(handle) => Some(handle.capture.as_raw_fd()),
            InterfaceState::Down { .. } => None,
        });
        let mut fds: Vec<libc::pollfd> = up.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 }).collect();
        poll(&mut fds);
    }

    /// libpcap outlives an interface that is set down and up again, and says nothing: silence has to be explained.
    fn look_whether_up(&mut self) {
        for interface in &mut self.interfaces {
            let InterfaceState::Up(handle) = &mut interface.state else { continue };
            let is_set_up = open_errors::is_set_up(&interface.name);
            if handle.is_set_up && !is_set_up {
                self.warnings.push(CaptureWarning::InterfaceDown(open_errors::is_down(&interface.name)));
            } else if is_set_up && !handle.is_set_up {
                let text = format!("{}: the interface is up again", interface.name);
                self.warnings.push(CaptureWarning::InterfaceUp(text));
            }
            handle.is_set_up = is_set_up;
        }
    }

    fn went_down(&mut self, index: usize, error: &pcap::Error) {
        let retry_at = self.clock.now() + RETRY;
        self.is_any_down = true;
        let Some(interface) = self.interfaces.get_mut(index) else { return };
        interface.read_counters();
        interface.state = InterfaceState::Down { retry_at };
        let name = &interface.name;
        let text = format!("{name}: capture stopped ({error}); it is tried again each second");
        self.warnings.push(CaptureWarning::InterfaceDown(text));
    }

    fn reopen_what_is_back(&mut self, at: Timestamp) {
        self.is_any_down = false;
        for interface in &mut self.interfaces {
            let InterfaceState::Down { retry_at } = interface.state else { continue };
            if at < retry_at {
                self.is_any_down = true;
                continue;
            }
            interface.state = match CaptureHandle::open(&interface.name, self.buffer_mib) {
                Ok(handle) => {
                    self.warnings.push(CaptureWarning::InterfaceUp(format!("{}: capturing again", interface.name)));
                    interface.seen = PcapDropCounters::default();
                    InterfaceState::Up(handle)
                }
                Err(_) => {
                    self.is_any_down = true;
                    InterfaceState::Down { retry_at: at + RETRY }
                }
            };
        }
    }
}

impl LiveInterface {
    /// Adds what the kernel dropped since the last time.
    fn read_counters(&mut self) {
        let InterfaceState::Up(handle) = &mut self.state else { return };
        let Ok(stat) = handle.capture.stats() else { return };
        let new = PcapDropCounters { dropped: stat.dropped, if_dropped: stat.if_dropped };
        self.before.dropped_by_kernel += u64::from(new.dropped.wrapping_sub(self.seen.dropped));
        self.before.dropped_by_interface += u64::from(new.if_dropped.wrapping_sub(self.seen.if_dropped));
        self.seen = new;
    }
}

impl CaptureHandle {
    fn open(name: &str, buffer_mib: u32) -> Result<Self, pcap::Error> {
        let buffer_bytes = i32::try_from(u64::from(buffer_mib.max(1)) << 20).unwrap_or(MAX_BUFFER_BYTES);
        let capture = Capture::from_device(name)?
            .promisc(true)
            .snaplen(SNAP_LEN)
            .buffer_size(buffer_bytes)
            .timeout(BLOCK_TIMEOUT_MS)
            .precision(Precision::Nano)
            .open()?
            .setnonblock()?;
        let link = LinkType::from_dlt(u16::try_from(capture.get_datalink().0).unwrap_or(u16::MAX));
        Ok(Self { capture, link, is_set_up: true })
    }
}

impl LiveClock {
    fn reading(&self) -> ClockReading {
        let mono = now().duration_since(self.started);
        ClockReading { wall: wall(), mono_ns: i64::try_from(mono.as_nanos()).unwrap_or(i64::MAX) }
    }

    fn compare(&mut self) -> Option<i64> {
        let reading = self.reading();
        self.timeline.compare(reading)
    }

    fn now(&mut self) -> Timestamp {
        let reading = self.reading();
        self.timeline.now(reading)
    }

    fn place(&mut self, stamp: Timestamp) -> Timestamp {
        let reading = self.reading();
        self.timeline.place(stamp, reading)
    }
}

impl fmt::Debug for LiveSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveSource").field("name", &self.name).field("frames", &self.frames).finish_non_exhaustive()
    }
}

#[expect(unsafe_code, reason = "poll(2) has no safe form in std; the slice outlives the call")]
fn poll(fds: &mut [libc::pollfd]) {
    let timeout = i32::try_from(TICK.as_millis()).unwrap_or(100);
    // SAFETY: the pointer and the length are those of one exclusively borrowed slice. An error (a signal) only
    // ends the wait early.
    unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, timeout) };
}

#[expect(clippy::disallowed_methods, reason = "the live source is where time enters")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "the live source is where time enters")]
fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_nanos(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

/// Timers of the engine and a stop are at most this late on a silent wire.
const TICK: Duration = Duration::from_millis(100);
/// An interface that is down is tried again this often.
const RETRY: Duration = Duration::from_secs(1);
/// libpcap's own maximum: frames that the card put together (GRO) are longer than 65,535 bytes.
const SNAP_LEN: i32 = 262_144;
/// The kernel hands over a block of the ring that is not full after this time.
const BLOCK_TIMEOUT_MS: i32 = 20;
/// What libpcap takes: an int.
const MAX_BUFFER_BYTES: i32 = i32::MAX;
/// Long enough that changing costs nothing, short against the 100 ms of disorder that the engine bears.
const FRAMES_IN_A_TURN: u32 = 64;

#[cfg(test)]
mod tests;
