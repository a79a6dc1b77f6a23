//! Live capture from one or more network interfaces through libpcap.
//!
//! A *tap* is one source of live frames: a network interface, or the socket for HEP agents.
//!
//! Invariants:
//! - Immediate mode of libpcap is never used, because it costs twenty times as much CPU time a frame.
//! - Reads from libpcap do not block; `poll(2)` waits, because the timeout of libpcap is not a timer.
//! - A frame is copied once, into a buffer that is reused. No memory is allocated for a frame.
//! - The clock is read for a frame only if the timestamps of this frame and the previous one are far apart.
//! - An interface that disappears is opened again as soon as it exists again.
//! - Frames of several interfaces are returned in the order of their timestamps ([`order::TapOrder`]).

use std::fmt;
use std::time::{Duration, Instant, SystemTime};

use pcap::{Active, Capture, Precision};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::config::Config;
use super::hep::HepListener;
use super::{
    CaptureCounters, CaptureError, CaptureEvent, CaptureSource, CaptureWarning, CapturedFrame, LinkType, TapCounters,
};
use crate::time::Timestamp;
use clock::{CaptureTimeline, ClockReading};
use order::TapOrder;
use tap_buffer::TapBuffer;

mod clock;
mod open_errors;
mod order;
mod tap_buffer;

/// The reaction to an interface that is down or missing when the capture starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MissingInterfacePolicy {
    /// Opening fails, and the error names the remedy. Commands that a person started use this policy.
    Fail,
    /// A [`CaptureWarning`] is reported, and every second the interface is tried again. The other interfaces are
    /// captured meanwhile.
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
    let names: Vec<String> =
        config.interfaces.iter().cloned().chain(config.hep_listen.map(|at| format!("HEP at {at}"))).collect();
    Ok(LiveSource {
        name: names.join(", "),
        order: TapOrder::new(names.len()),
        taps: (0..).zip(names).map(|(interface, name)| TapBuffer::new(interface, name)).collect(),
        interfaces,
        hep,
        buffer_mib: config.buffer_mib,
        held_back: None,
        clock,
        is_any_down: !warnings.is_empty(),
        next_flag_check: Timestamp::EPOCH,
        cut: 0,
        warnings,
    })
}

/// Several live interfaces that are read as one source.
pub(crate) struct LiveSource {
    name: String,
    interfaces: Vec<LiveInterface>,
    /// Socket for HEP agents; `None` without agents. It is read after the interfaces.
    hep: Option<HepListener>,
    buffer_mib: u32,
    /// One buffer for each interface, and a last one for HEP. A buffer contains the frames that were read and not
    /// returned yet.
    taps: Vec<TapBuffer>,
    order: TapOrder,
    /// A frame directly after a clock step (jump of the wall clock). It waits while the clock step is returned; `None`
    /// if no frame waits.
    held_back: Option<LiveFrameHeader>,
    clock: LiveClock,
    is_any_down: bool,
    /// Capture time of the next check whether the silent interfaces are still administratively up.
    next_flag_check: Timestamp,
    cut: u64,
    warnings: Vec<CaptureWarning>,
}

struct LiveInterface {
    name: String,
    state: InterfaceState,
    /// Numbers of frames dropped by earlier libpcap handles of this interface, which are closed now.
    before: CaptureCounters,
    /// Drop counters of the open libpcap handle, as they were last read.
    seen: PcapDropCounters,
}

enum InterfaceState {
    Up(CaptureHandle),
    /// The interface is closed. The next attempt to open it is made at this capture time.
    Down {
        retry_at: Timestamp,
    },
}

struct CaptureHandle {
    capture: Capture<Active>,
    link: LinkType,
    is_set_up: bool,
}

/// Drop counters of libpcap. They have 32 bits and wrap.
#[derive(Clone, Copy, Default)]
struct PcapDropCounters {
    dropped: u32,
    if_dropped: u32,
}

/// Metadata of a frame in the buffer of a tap.
#[derive(Clone, Copy, Debug)]
struct LiveFrameHeader {
    at: Timestamp,
    link: LinkType,
    interface: u32,
    orig_len: u32,
}

enum FrameReadOutcome {
    /// The buffer of the tap has a current frame.
    Frame,
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
                self.order.handle_wait();
            }
            self.read_due_taps();
            let oldest = self.order.take_oldest();
            if let Some(head) = oldest.and_then(|tap| self.taps[tap].current()).map(|frame| frame.head) {
                return Ok(self.place_on_timeline(head));
            }
        }
        Ok(self.tick())
    }

    fn look_ahead(&self, count: usize, each: &mut dyn FnMut(LinkType, &[u8])) -> usize {
        let waiting = self.taps.iter().flat_map(|tap| tap.waiting()).take(count);
        waiting.map(|frame| each(frame.head.link, &frame.bytes)).count()
    }

    fn counters(&mut self) -> CaptureCounters {
        let frames = self.taps.iter().map(|tap| tap.frames).sum();
        let mut sum = CaptureCounters { frames, cut: self.cut, ..CaptureCounters::default() };
        for interface in &mut self.interfaces {
            interface.read_counters();
            sum.dropped_by_kernel += interface.before.dropped_by_kernel;
            sum.dropped_by_interface += interface.before.dropped_by_interface;
        }
        sum
    }

    fn taps(&mut self) -> Vec<TapCounters> {
        let Self { taps, interfaces, .. } = self;
        let counters = taps.iter().enumerate().map(|(index, tap)| {
            let mut counters =
                TapCounters { name: tap.name.clone(), frames: tap.frames, is_up: true, ..TapCounters::default() };
            if let Some(interface) = interfaces.get_mut(index) {
                interface.read_counters();
                counters.is_up = matches!(&interface.state, InterfaceState::Up(handle) if handle.is_set_up);
                counters.dropped_by_kernel = interface.before.dropped_by_kernel;
                counters.dropped_by_interface = interface.before.dropped_by_interface;
            }
            counters
        });
        counters.collect()
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn take_warnings(&mut self) -> Vec<CaptureWarning> {
        std::mem::take(&mut self.warnings)
    }
}

impl LiveSource {
    /// Makes the next frame of each tap its current frame, if it has none and is due to be read.
    fn read_due_taps(&mut self) {
        for tap in 0..self.order.len() {
            if !self.order.is_due(tap) {
                continue;
            }
            match self.read(tap) {
                FrameReadOutcome::Frame => {
                    let stamp = self.taps[tap].current().map_or(Timestamp::EPOCH, |frame| frame.head.at);
                    self.order.handle_frame(tap, stamp);
                }
                FrameReadOutcome::Empty => self.order.handle_empty(tap),
            }
        }
    }

    /// Reads a packet that a HEP agent sent.
    fn read_hep(&mut self) -> FrameReadOutcome {
        let Some((hep, tap)) = self.hep.as_mut().zip(self.taps.last_mut()) else { return FrameReadOutcome::Empty };
        let frame = tap.next_buffer();
        if !hep.read(&mut frame.bytes) {
            return FrameReadOutcome::Empty;
        }
        (frame.head.at, frame.head.link) = (wall(), LinkType::RawIp);
        frame.head.orig_len = u32::try_from(frame.bytes.len()).unwrap_or(u32::MAX);
        tap.add_frame();
        tap.advance();
        FrameReadOutcome::Frame
    }

    /// Makes the next frame of a tap its current frame. Reads further frames if all earlier frames were taken.
    fn read(&mut self, index: usize) -> FrameReadOutcome {
        if self.taps[index].advance() {
            return FrameReadOutcome::Frame;
        }
        if self.taps[index].take_drained() {
            return FrameReadOutcome::Empty;
        }
        if index == self.interfaces.len() {
            return self.read_hep();
        }
        if let Err(error) = self.read_interface(index) {
            self.mark_interface_down(index, &error);
        }
        if self.taps[index].advance() {
            return FrameReadOutcome::Frame;
        }
        self.taps[index].take_drained();
        FrameReadOutcome::Empty
    }

    /// Reads the next frames of an interface into its buffer.
    fn read_interface(&mut self, index: usize) -> Result<(), pcap::Error> {
        let Some(LiveInterface { state: InterfaceState::Up(handle), .. }) = self.interfaces.get_mut(index) else {
            return Ok(());
        };
        let tap = &mut self.taps[index];
        while !tap.is_full() {
            let frame = tap.next_buffer();
            match handle.capture.next_packet() {
                Ok(packet) => {
                    frame.bytes.clear();
                    frame.bytes.extend_from_slice(packet.data);
                    // With nanosecond precision, tv_usec contains nanoseconds (pcap_set_tstamp_precision(3)).
                    #[allow(clippy::useless_conversion, reason = "the fields of timeval differ between platforms")]
                    let (secs, nanos) = (i64::from(packet.header.ts.tv_sec), i64::from(packet.header.ts.tv_usec));
                    let at = Timestamp::from_secs(secs).offset(nanos);
                    (frame.head.at, frame.head.link, frame.head.orig_len) = (at, handle.link, packet.header.len);
                    tap.add_frame();
                }
                // On a live handle, NoMorePackets means only that a signal interrupted the read, not that the capture
                // has ended.
                Err(pcap::Error::TimeoutExpired | pcap::Error::NoMorePackets) => {
                    tap.handle_drained();
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Maps the frame in the buffer to the capture timeline. Returns the frame, or the clock step before it.
    fn place_on_timeline(&mut self, head: LiveFrameHeader) -> CaptureEvent<'_> {
        let stamp = head.at;
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
        let LiveFrameHeader { at, link, interface, orig_len } = head;
        let tap = &mut self.taps[interface as usize];
        tap.frames += 1;
        let data = tap.current().map_or(&[][..], |frame| &frame.bytes);
        self.cut += u64::from(orig_len as usize > data.len());
        CaptureEvent::Frame(CapturedFrame { at, link, interface, orig_len, data })
    }

    /// Returns an event that only gives the current time. Returns a clock step instead if the clock was set. Called
    /// after a wait without frames.
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
        // If poll(2) fails, e.g. because of a signal, the wait only ends early.
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
    /// Adds the frames that were dropped since the last call of this function to the totals.
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
        f.debug_struct("LiveSource").field("name", &self.name).field("order", &self.order).finish_non_exhaustive()
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

/// Maximum time that the recorder waits for a frame, before it serves its timers and looks for a request to stop.
const TICK: Duration = Duration::from_millis(100);
/// Interval between attempts to open an interface that is down. It is also the interval between checks of the flags of
/// silent interfaces.
const RETRY: Duration = Duration::from_secs(1);
/// Maximum length of a captured frame, bytes: libpcap's own limit. It is larger than 65,535, because the network card
/// merges several packets to one frame (GRO).
const SNAP_LEN: i32 = 262_144;
/// Maximum time, ms, after which the kernel passes on a block of its ring buffer that is not full.
const BLOCK_TIMEOUT_MS: i32 = 20;
/// Maximum buffer size in bytes: libpcap takes it as a C int.
const MAX_BUFFER_BYTES: i32 = i32::MAX;

#[cfg(test)]
mod tests;
