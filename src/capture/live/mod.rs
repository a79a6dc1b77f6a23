//! Live capture from one or more network interfaces through libpcap.
//!
//! Invariants:
//! - Immediate mode is never used, because it costs twenty times as much CPU time a frame.
//! - Handles do not block; `poll(2)` waits, because the timeout of libpcap is not a timer.
//! - A frame is copied once, into a buffer that is reused. No memory is allocated for a frame.
//! - The clock is read for a frame only if the timestamps of this frame and the previous one are far apart.
//! - An interface that disappears is opened again as soon as it is back.

use std::fmt;
use std::time::{Duration, Instant, SystemTime};

use pcap::{Active, Capture, Precision};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::config::Config;
use super::hep::HepListener;
use super::{CaptureCounters, CaptureError, CaptureEvent, CaptureSource, CaptureWarning, CapturedFrame, LinkType};
use crate::time::Timestamp;
use clock::{CaptureTimeline, ClockReading};

mod clock;
mod open_errors;

/// The handling of an interface that is down or missing when the capture starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MissingInterfacePolicy {
    /// Opening fails with an error that names the remedy. For commands that a person started.
    Fail,
    /// A [`CaptureWarning`] is reported, and opening is tried again every second. The other interfaces are captured
    /// meanwhile.
    Retry,
}

/// Opens the configured interfaces in promiscuous mode.
///
/// # Errors
/// Fails if an interface cannot be opened and `absent` does not allow a retry. The error text names the remedy.
pub(crate) fn open(config: &Config, absent: MissingInterfacePolicy) -> Result<LiveSource, CaptureError> {
    if config.interfaces.is_empty() && config.hep_listen.is_none() {
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
            Err(error) if absent == MissingInterfacePolicy::Retry && open_errors::can_be_retried(name, &error) => {
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
    let hep = config.hep_listen.map(|at| HepListener::open(at).map_err(|error| open_errors::cannot_listen(at, &error)));
    let hep = hep.transpose().map_err(CaptureError::Interface)?;
    let _ = clock.compare();
    let names = config.interfaces.iter().cloned().chain(config.hep_listen.map(|at| format!("HEP at {at}")));
    Ok(LiveSource {
        name: names.collect::<Vec<_>>().join(", "),
        interfaces,
        hep,
        buffer_mib: config.buffer_mib,
        turn: 0,
        in_turn: 0,
        frame: Vec::with_capacity(SNAP_LEN as usize),
        held_back: None,
        clock,
        is_any_down: !warnings.is_empty(),
        next_flag_check: Timestamp::EPOCH,
        frames: 0,
        cut: 0,
        warnings,
    })
}

/// Several live interfaces, read as one source.
pub(crate) struct LiveSource {
    name: String,
    interfaces: Vec<LiveInterface>,
    /// Socket for HEP agents. It is read after the interfaces.
    hep: Option<HepListener>,
    buffer_mib: u32,
    /// Index of the interface that is read next, and number of frames read from it in a row.
    turn: usize,
    in_turn: u32,
    frame: Vec<u8>,
    /// A frame that is returned after the clock step that was detected at it.
    held_back: Option<LiveFrameHeader>,
    clock: LiveClock,
    is_any_down: bool,
    /// Time of the next check whether silent interfaces are still administratively up.
    next_flag_check: Timestamp,
    frames: u64,
    cut: u64,
    warnings: Vec<CaptureWarning>,
}

struct LiveInterface {
    name: String,
    state: InterfaceState,
    /// Drops counted so far, including those of handles that were closed.
    before: CaptureCounters,
    /// Drop counters of the open handle when they were last read.
    seen: PcapDropCounters,
}

enum InterfaceState {
    Up(CaptureHandle),
    /// The interface is closed. It is opened again at this time of the capture timeline.
    Down {
        retry_at: Timestamp,
    },
}

struct CaptureHandle {
    capture: Capture<Active>,
    link: LinkType,
    is_set_up: bool,
}

/// Drop counters of libpcap. They are 32 bits long and wrap.
#[derive(Clone, Copy, Default)]
struct PcapDropCounters {
    dropped: u32,
    if_dropped: u32,
}

/// Metadata of the frame in the buffer.
#[derive(Clone, Copy, Debug)]
struct LiveFrameHeader {
    at: Timestamp,
    link: LinkType,
    interface: u32,
    orig_len: u32,
}

enum FrameReadOutcome {
    /// The buffer holds a frame: its kernel timestamp, link type and length on the wire.
    Frame(Timestamp, LinkType, u32),
    Empty,
}

/// Reads the wall clock and the monotonic clock and maps them to the capture timeline.
struct LiveClock {
    started: Instant,
    timeline: CaptureTimeline,
}

impl CaptureSource for LiveSource {
    fn is_capturing(&self) -> bool {
        self.hep.is_some() || self.interfaces.iter().any(|i| matches!(i.state, InterfaceState::Up(_)))
    }

    fn next_event(&mut self) -> Result<CaptureEvent<'_>, CaptureError> {
        if let Some(head) = self.held_back.take() {
            return Ok(self.hand_out(head));
        }
        for waited in [false, true] {
            if waited {
                self.wait();
            }
            for _ in 0..self.turns() {
                let index = self.take_turn();
                if let FrameReadOutcome::Frame(stamp, link, orig_len) = self.read(index) {
                    return Ok(self.place_on_timeline(
                        stamp,
                        LiveFrameHeader { at: stamp, link, interface: index as u32, orig_len },
                    ));
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
    /// Returns the index of the interface to read. After [`FRAMES_IN_A_TURN`] frames the next interface has its turn.
    fn take_turn(&mut self) -> usize {
        if self.in_turn >= FRAMES_IN_A_TURN {
            self.turn = (self.turn + 1) % self.turns().max(1);
            self.in_turn = 0;
        }
        self.in_turn += 1;
        self.turn
    }

    /// Returns the number of interfaces and sockets that are read in turn.
    fn turns(&self) -> usize {
        self.interfaces.len() + usize::from(self.hep.is_some())
    }

    /// Reads a packet that a HEP agent sent.
    fn read_hep(&mut self) -> FrameReadOutcome {
        if !self.hep.as_mut().is_some_and(|hep| hep.read(&mut self.frame)) {
            return FrameReadOutcome::Empty;
        }
        let length = u32::try_from(self.frame.len()).unwrap_or(u32::MAX);
        FrameReadOutcome::Frame(wall(), LinkType::RawIp, length)
    }

    fn read(&mut self, index: usize) -> FrameReadOutcome {
        if index == self.interfaces.len() {
            return self.read_hep();
        }
        let Some(LiveInterface { state: InterfaceState::Up(handle), .. }) = self.interfaces.get_mut(index) else {
            return FrameReadOutcome::Empty;
        };
        match handle.capture.next_packet() {
            Ok(packet) => {
                self.frame.clear();
                self.frame.extend_from_slice(packet.data);
                // With nanosecond precision, tv_usec holds nanoseconds (pcap_set_tstamp_precision(3)).
                #[allow(clippy::useless_conversion, reason = "the fields of timeval differ between platforms")]
                let (secs, nanos) = (i64::from(packet.header.ts.tv_sec), i64::from(packet.header.ts.tv_usec));
                FrameReadOutcome::Frame(Timestamp::from_secs(secs).offset(nanos), handle.link, packet.header.len)
            }
            // On a live handle NoMorePackets only means an interrupted read.
            Err(pcap::Error::TimeoutExpired | pcap::Error::NoMorePackets) => FrameReadOutcome::Empty,
            Err(error) => {
                self.mark_interface_down(index, &error);
                FrameReadOutcome::Empty
            }
        }
    }

    /// Puts the frame in the buffer on the capture timeline. Returns the frame, or a clock step detected at it.
    fn place_on_timeline(&mut self, stamp: Timestamp, head: LiveFrameHeader) -> CaptureEvent<'_> {
        if let Some(at) = self.clock.timeline.convert_near(stamp) {
            if self.is_any_down {
                self.reopen_interfaces(at);
            }
            return self.hand_out(LiveFrameHeader { at, ..head });
        }
        let step = self.clock.compare();
        let at = self.clock.convert_after_step(stamp);
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

    /// Returns a tick, or a clock step if there was one, after a wait without frames.
    fn tick(&mut self) -> CaptureEvent<'_> {
        let step = self.clock.compare();
        let at = self.clock.now();
        self.reopen_interfaces(at);
        if at >= self.next_flag_check {
            self.next_flag_check = at + RETRY;
            self.check_interface_flags();
        }
        step.map_or(CaptureEvent::Tick(at), |by_ns| CaptureEvent::ClockStep { at, by_ns })
    }

    /// Waits until an interface has frames, [`TICK`] has passed, or a signal arrives.
    fn wait(&self) {
        let up = self.interfaces.iter().filter_map(|i| match &i.state {
            InterfaceState::Up(handle) => Some(PollFd::new(&handle.capture, PollFlags::IN)),
            InterfaceState::Down { .. } => None,
        });
        let up = up.chain(self.hep.as_ref().map(|hep| PollFd::new(hep, PollFlags::IN)));
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(TICK.subsec_nanos()) };
        // An error (a signal) only ends the wait early.
        let _ = poll(&mut up.collect::<Vec<_>>(), Some(&timeout));
    }

    /// Warns if a silent interface was set administratively down or up. libpcap does not report it, so the interface
    /// flags are read.
    fn check_interface_flags(&mut self) {
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

    fn mark_interface_down(&mut self, index: usize, error: &pcap::Error) {
        let retry_at = self.clock.now() + RETRY;
        self.is_any_down = true;
        let Some(interface) = self.interfaces.get_mut(index) else { return };
        interface.read_counters();
        interface.state = InterfaceState::Down { retry_at };
        let name = &interface.name;
        let text = format!("{name}: capture stopped ({error}); it is tried again each second");
        self.warnings.push(CaptureWarning::InterfaceDown(text));
    }

    fn reopen_interfaces(&mut self, at: Timestamp) {
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
    /// Adds the drops since the last call to the totals.
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

    fn convert_after_step(&mut self, stamp: Timestamp) -> Timestamp {
        let reading = self.reading();
        self.timeline.convert_after_step(stamp, reading)
    }
}

impl fmt::Debug for LiveSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveSource").field("name", &self.name).field("frames", &self.frames).finish_non_exhaustive()
    }
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

/// Longest wait without frames: engine timers and a stop request are at most this late on a silent wire.
const TICK: Duration = Duration::from_millis(100);
/// Interval between attempts to open an interface that is down.
const RETRY: Duration = Duration::from_secs(1);
/// Maximum captured length, bytes: libpcap's own limit. Frames merged by the card (GRO) are longer than 65,535 bytes.
const SNAP_LEN: i32 = 262_144;
/// Time in ms after which the kernel hands over a ring block that is not full.
const BLOCK_TIMEOUT_MS: i32 = 20;
/// Largest buffer size in bytes: libpcap takes a C int.
const MAX_BUFFER_BYTES: i32 = i32::MAX;
/// Frames read from one interface in a row. 64 frames take far less than the 100 ms of disorder the engine tolerates.
const FRAMES_IN_A_TURN: u32 = 64;

#[cfg(test)]
mod tests;
