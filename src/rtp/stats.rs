//! The book-keeping of one stream: loss, copies, disorder, jitter (RFC 3550 appendix A).
//!
//! Fixed size, no allocation, a few nanoseconds a packet. Sequence numbers are extended over their
//! wraps; a jump is believed when two packets in a row agree on it (appendix A.1), and begins a new
//! *run*. What was lost is counted within runs, so that a sender that starts anew lost nothing.

use crate::net::SequenceNumber;
use crate::time::{RtpTime, Timestamp};

/// How a packet arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PacketArrival {
    /// Later than all before it; with or without a gap.
    InOrder,
    /// Earlier than the latest one, and new.
    Reordered,
    /// RecentPackets before: same sequence number and same RTP timestamp.
    Duplicate,
    /// Its sequence number is far from what was expected. Its sound is as good as any; only the
    /// counting waits for a second packet that agrees.
    Jumped,
    /// The second packet that agrees on a jump: a new run begins with the one before.
    Restarted,
}

/// Counters of one SSRC on one flow.
#[derive(Clone, Debug)]
pub struct StreamStats {
    packets: u64,
    duplicates: u64,
    reordered: u64,
    restarts: u32,
    first_at: Timestamp,
    last_at: Timestamp,
    /// Lost in runs that are over.
    lost_before: u64,
    run: SequenceRun,
    /// The newest packets that jumped and are of no run yet, newest first.
    jumped: [Option<(SequenceNumber, RtpTime)>; JUMPS],
    /// The timestamp of the highest packet.
    highest_time: RtpTime,
    /// By how much the timestamp grew between the last two packets that followed each other.
    step: u32,
    jitter: InterarrivalJitter,
    seen: RecentPackets,
}

impl Default for StreamStats {
    fn default() -> Self {
        Self {
            packets: 0,
            duplicates: 0,
            reordered: 0,
            restarts: 0,
            first_at: Timestamp::EPOCH,
            last_at: Timestamp::EPOCH,
            lost_before: 0,
            run: SequenceRun { base: 0, highest: 0, received: 0 },
            jumped: [None; JUMPS],
            highest_time: RtpTime(0),
            step: 0,
            jitter: InterarrivalJitter::default(),
            seen: RecentPackets { present: [0; WINDOW / 64], marks: [0; WINDOW] },
        }
    }
}

impl StreamStats {
    /// Takes one packet of the stream: its capture time, sequence number, RTP timestamp and the clock
    /// of its payload type in Hz (0 when unknown: no jitter then).
    pub fn handle(&mut self, at: Timestamp, sequence: SequenceNumber, time: RtpTime, clock_hz: u32) -> PacketArrival {
        // Numbers of a run begin above 65535: this is the first packet, or the first after `accept_gap`.
        if self.run.highest == 0 {
            let first = self.packets == 0;
            self.first_at = if first { at } else { self.first_at.min(at) };
            self.last_at = if first { at } else { self.last_at.max(at) };
            self.begin_run(sequence, time);
            self.packets += 1;
            self.jitter.handle(at, time, clock_hz);
            return PacketArrival::InOrder;
        }
        let arrival = self.place(at, sequence, time);
        match arrival {
            PacketArrival::Duplicate => {
                self.duplicates += 1;
                return arrival;
            }
            PacketArrival::Reordered => self.reordered += 1,
            PacketArrival::InOrder => self.jitter.handle(at, time, clock_hz),
            PacketArrival::Restarted => {
                self.jitter.forget();
                self.jitter.handle(at, time, clock_hz);
            }
            PacketArrival::Jumped => {}
        }
        self.packets += 1;
        self.first_at = self.first_at.min(at);
        self.last_at = self.last_at.max(at);
        arrival
    }

    /// Nothing is known of what lies between the packets so far and the next one: it is not counted as lost.
    pub fn accept_gap(&mut self) {
        self.lost_before += self.run.lost();
        self.run = SequenceRun { base: 0, highest: 0, received: 0 };
        self.jitter.forget();
    }

    /// Whether a packet of this number and timestamp is among the newest of this run.
    pub fn has_seen(&self, sequence: SequenceNumber, time: RtpTime) -> bool {
        let behind = self.run.highest_sequence().wrapping_sub(sequence);
        let known = self.run.highest > 0 && usize::from(behind) < WINDOW;
        known && self.seen.get(self.run.highest - u64::from(behind)) == Some(fold(time))
    }

    /// Distinct packets.
    pub const fn packets(&self) -> u64 {
        self.packets
    }

    /// Packets that were sent and never seen (RFC 3550 appendix A.3, over all runs).
    pub const fn lost(&self) -> u64 {
        self.lost_before + self.run.lost()
    }

    /// Further copies of packets.
    pub const fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Packets that came after a later one.
    pub const fn reordered(&self) -> u64 {
        self.reordered
    }

    /// How often the sequence began anew.
    pub const fn restarts(&self) -> u32 {
        self.restarts
    }

    /// Interarrival jitter in ms (RFC 3550 appendix A.8).
    pub fn jitter_ms(&self) -> f64 {
        self.jitter.now_ms
    }

    /// The highest jitter in ms.
    pub fn max_jitter_ms(&self) -> f64 {
        self.jitter.max_ms
    }

    /// The earliest packet; nothing before any packet.
    pub fn first_at(&self) -> Option<Timestamp> {
        (self.packets > 0).then_some(self.first_at)
    }

    /// The latest packet, copies not counted.
    pub fn last_at(&self) -> Option<Timestamp> {
        (self.packets > 0).then_some(self.last_at)
    }

    /// The highest sequence number of this run, extended over its wraps; the first packet of a run
    /// has its own number plus 65536, so that earlier ones are above zero.
    pub const fn extended_sequence(&self) -> u64 {
        self.run.highest
    }

    /// A sequence number extended as the one nearest to the highest of this run.
    pub const fn extend(&self, sequence: SequenceNumber) -> u64 {
        sequence.extend_near(self.run.highest)
    }

    fn place(&mut self, at: Timestamp, sequence: SequenceNumber, time: RtpTime) -> PacketArrival {
        // After a silence no copies are under way: a sender that begins its numbers and stamps anew after each hold, and
        // began with the same, says something else with them. The packet after the first one tells.
        let resumes = at.since(self.last_at) >= NO_MORE_COPIES
            || self.jumped.iter().flatten().any(|(before, _)| before.wrapping_add(1) == sequence);
        let ahead = sequence.wrapping_sub(self.run.highest_sequence());
        if ahead != 0 && ahead < MAX_DROPOUT {
            if ahead == 1 {
                self.step = time.0.wrapping_sub(self.highest_time.0);
            }
            self.advance(u64::from(ahead), time);
            return PacketArrival::InOrder;
        }
        let behind = self.run.highest_sequence().wrapping_sub(sequence);
        if usize::from(behind) < WINDOW {
            let extended = self.run.highest - u64::from(behind);
            match self.seen.get(extended) {
                Some(mark) if mark == fold(time) && !resumes => return PacketArrival::Duplicate,
                None if behind < MAX_MISORDER => {
                    self.seen.set(extended, time);
                    self.run.base = self.run.base.min(extended);
                    self.run.received += 1;
                    return PacketArrival::Reordered;
                }
                _ => {}
            }
        }
        self.jump(sequence, time)
    }

    fn advance(&mut self, ahead: u64, time: RtpTime) {
        let highest = self.run.highest + ahead;
        self.seen.clear(self.run.highest + 1, highest);
        self.seen.set(highest, time);
        self.highest_time = time;
        self.run.highest = highest;
        self.run.received += 1;
    }

    fn jump(&mut self, sequence: SequenceNumber, time: RtpTime) -> PacketArrival {
        // The mirror was away for over a minute and the sender went on: its clock has gone on by just
        // as many packets. That is loss, which appendix A.1 alone would take for a restart.
        let ahead = sequence.wrapping_sub(self.run.highest_sequence());
        let passed = time.0.wrapping_sub(self.highest_time.0);
        if self.step != 0 && passed == self.step.wrapping_mul(u32::from(ahead)) {
            self.advance(u64::from(ahead), time);
            return PacketArrival::InOrder;
        }
        let jumped = self.jumped;
        if jumped.contains(&Some((sequence, time))) {
            return PacketArrival::Duplicate;
        }
        match jumped.iter().flatten().find(|(before, _)| before.wrapping_add(1) == sequence) {
            Some(&(before, at)) => {
                self.lost_before += self.run.lost();
                self.restarts = self.restarts.saturating_add(1);
                self.begin_run(before, at);
                self.advance(1, time);
                // Others that jumped before these two did are of the same run.
                for &(other, at) in jumped.iter().flatten() {
                    let behind = before.wrapping_sub(other);
                    if behind != 0 && behind < MAX_MISORDER {
                        let extended = self.run.highest - 1 - u64::from(behind);
                        self.seen.set(extended, at);
                        self.run.base = self.run.base.min(extended);
                        self.run.received += 1;
                    }
                }
                PacketArrival::Restarted
            }
            None => {
                self.jumped.rotate_right(1);
                self.jumped[0] = Some((sequence, time));
                PacketArrival::Jumped
            }
        }
    }

    fn begin_run(&mut self, sequence: SequenceNumber, time: RtpTime) {
        let first = 0x1_0000 + u64::from(sequence.0);
        self.jumped = [None; JUMPS];
        self.highest_time = time;
        self.run = SequenceRun { base: first, highest: first, received: 1 };
        self.seen.present = [0; WINDOW / 64];
        self.seen.set(first, time);
    }
}

/// Packets without a jump between them.
#[derive(Clone, Copy, Debug)]
struct SequenceRun {
    base: u64,
    highest: u64,
    received: u64,
}

impl SequenceRun {
    /// Returns the highest sequence number as it stands in a packet.
    const fn highest_sequence(&self) -> SequenceNumber {
        SequenceNumber(self.highest as u16)
    }

    const fn lost(&self) -> u64 {
        if self.received == 0 { 0 } else { (self.highest - self.base + 1).saturating_sub(self.received) }
    }
}

/// Which of the last sequence numbers were seen, and with which timestamp.
#[derive(Clone, Debug)]
struct RecentPackets {
    present: [u64; WINDOW / 64],
    marks: [u16; WINDOW],
}

impl RecentPackets {
    fn get(&self, extended: u64) -> Option<u16> {
        let slot = slot(extended);
        (self.present[slot / 64] & (1 << (slot % 64)) != 0).then(|| self.marks[slot])
    }

    fn set(&mut self, extended: u64, time: RtpTime) {
        let slot = slot(extended);
        self.present[slot / 64] |= 1 << (slot % 64);
        self.marks[slot] = fold(time);
    }

    /// Forgets the numbers from `from` to `to`, which were skipped.
    fn clear(&mut self, from: u64, to: u64) {
        if to - from >= WINDOW as u64 {
            self.present = [0; WINDOW / 64];
            return;
        }
        for extended in from..=to {
            let slot = slot(extended);
            self.present[slot / 64] &= !(1 << (slot % 64));
        }
    }
}

/// Always below [`WINDOW`].
const fn slot(extended: u64) -> usize {
    (extended % WINDOW as u64) as usize
}

/// 16 bits of a timestamp: two packets of one number that differ in time by chance agree in them once
/// in 65,536, which halves what the window weighs.
const fn fold(time: RtpTime) -> u16 {
    (time.0 ^ (time.0 >> 16)) as u16
}

/// Interarrival jitter (RFC 3550 appendix A.8), in ms so that a change of clock needs no conversion.
#[derive(Clone, Debug, Default)]
struct InterarrivalJitter {
    last: Option<(Timestamp, RtpTime, u32)>,
    now_ms: f64,
    max_ms: f64,
}

impl InterarrivalJitter {
    fn forget(&mut self) {
        self.last = None;
    }

    fn handle(&mut self, at: Timestamp, time: RtpTime, clock_hz: u32) {
        if clock_hz == 0 {
            return;
        }
        let Some((last_at, last_time, last_hz)) = self.last.replace((at, time, clock_hz)) else { return };
        if last_hz != clock_hz {
            return;
        }
        if last_time == time {
            // Packets of one event share its timestamp (RFC 4733 section 2.2.1) but not their moment.
            self.last = Some((last_at, last_time, last_hz));
            return;
        }
        let sent_ms = f64::from(time.wrapping_since(last_time)) * 1e3 / f64::from(clock_hz);
        let heard_ms = at.nanos_since(last_at) as f64 / 1e6;
        let step_ms = (heard_ms - sent_ms).abs();
        if step_ms > MAX_STEP_MS {
            return;
        }
        self.now_ms += (step_ms - self.now_ms) / 16.0;
        self.max_ms = self.max_ms.max(self.now_ms);
    }
}

/// A copy comes so soon after its original, and originals come all the time.
const NO_MORE_COPIES: std::time::Duration = std::time::Duration::from_secs(2);

/// Sequence numbers back in which copies are known again: 10 s at 20 ms a packet.
const WINDOW: usize = 512;

/// A gap that is still a gap and no jump (RFC 3550 appendix A.1): a minute at 20 ms.
const MAX_DROPOUT: u16 = 3_000;

/// How late a packet may be and still be late rather than a jump (RFC 3550 appendix A.1).
const MAX_MISORDER: u16 = 100;

/// Packets of a new run that may come before two that follow each other: 100 ms of disorder and copies at 20 ms.
const JUMPS: usize = 8;

/// A difference in transit time beyond which a sender has moved its clock (after hold, for music, a
/// new talk spurt of a broken device), which is no jitter.
const MAX_STEP_MS: f64 = 1_000.0;
