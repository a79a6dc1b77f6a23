//! Statistics of one RTP stream: loss, duplicates, reordering, jitter (RFC 3550 appendix A).
//!
//! The state has a fixed size, and a packet takes a few nanoseconds. Sequence numbers are extended to 64 bits, so a
//! wrap is no jump. A *jump* is a large change of the sequence number. It counts as a restart of the sender only if two
//! consecutive packets confirm it (appendix A.1). A restart begins a new *run*. Loss is counted within each run, so
//! packets between two runs do not count as lost.

use crate::net::SequenceNumber;
use crate::time::{RtpTime, Timestamp};

/// How a packet relates to the earlier packets of its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PacketArrival {
    /// The sequence number of the packet is the highest so far, with or without a gap.
    InOrder,
    /// The packet is new, but its sequence number is lower than the highest so far.
    Reordered,
    /// A packet with the same sequence number and RTP timestamp arrived before.
    Duplicate,
    /// The sequence number is far from the expected number. The audio of the packet is valid, but the statistics wait
    /// for a second packet that confirms the jump.
    Jumped,
    /// This packet confirms a jump of the sequence numbers. A new run (packets since a restart of the sender) begins
    /// with the packet before it.
    Restarted,
}

/// Counters of one stream, i.e. of the packets with one SSRC on one flow (source and destination).
#[derive(Clone, Debug)]
pub(crate) struct StreamStats {
    packets: u64,
    duplicates: u64,
    reordered: u64,
    restarts: u32,
    first_at: Timestamp,
    last_at: Timestamp,
    /// Number of packets lost in earlier runs. A run is the packets between two restarts of the sequence number.
    lost_before: u64,
    run: SequenceRun,
    /// Packets after a jump of the sequence number, newest first. It is not known yet whether the sender restarted.
    jumped: [Option<(SequenceNumber, RtpTime)>; JUMPS],
    /// RTP timestamp of the packet with the highest sequence number.
    highest_time: RtpTime,
    /// Increase of the RTP timestamp between the last two packets that arrived in sequence, in ticks of the RTP clock.
    step: u32,
    jitter: InterarrivalJitter,
    seen: RecentPackets,
    repeats: RepeatedRun,
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
            repeats: RepeatedRun::default(),
        }
    }
}

impl StreamStats {
    /// Counts one packet of the stream. `clock_hz` is the clock rate of its payload type in Hz. If it is 0 (unknown),
    /// jitter is not computed.
    pub(crate) fn handle(
        &mut self,
        at: Timestamp,
        sequence: SequenceNumber,
        time: RtpTime,
        clock_hz: u32,
    ) -> PacketArrival {
        // Extended sequence numbers are above 65535. So 0 means that no packet came yet, or none since `accept_gap`.
        if self.run.highest == 0 {
            let first = self.packets == 0;
            self.first_at = if first { at } else { self.first_at.min(at) };
            self.last_at = if first { at } else { self.last_at.max(at) };
            self.begin_run(sequence, time);
            self.packets += 1;
            self.jitter.handle(at, time, clock_hz);
            return PacketArrival::InOrder;
        }
        let arrival = self.place(PacketStamps { at, sequence, time, clock_hz });
        match arrival {
            PacketArrival::Duplicate => {
                self.duplicates += 1;
                return arrival;
            }
            PacketArrival::Reordered => self.reordered += 1,
            PacketArrival::InOrder => {
                self.repeats.handle_new_packet();
                self.jitter.handle(at, time, clock_hz);
            }
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

    /// Reads fields that the next packet needs, so that the processor loads their memory into its cache.
    #[cfg(feature = "service")]
    #[inline]
    pub(crate) fn prefetch(&self) {
        let next = self.run.highest + 1;
        std::hint::black_box((
            self.packets,
            self.last_at,
            self.run.highest,
            self.seen.marks[slot(next)],
            self.repeats.packets,
        ));
    }

    /// Ends the current run of sequence numbers, so that packets missing until the next packet do not count as lost.
    /// This is needed if packets were not observed, e.g. while the service was down.
    pub(crate) fn accept_gap(&mut self) {
        self.lost_before += self.run.lost();
        self.run = SequenceRun { base: 0, highest: 0, received: 0 };
        self.jitter.forget();
    }

    /// Returns whether the packet is a duplicate: a recent packet since the last jump has this sequence number and RTP
    /// timestamp.
    pub(crate) fn has_seen(&self, sequence: SequenceNumber, time: RtpTime) -> bool {
        let behind = self.run.highest_sequence().wrapping_sub(sequence);
        let known = self.run.highest > 0 && usize::from(behind) < WINDOW;
        known && self.seen.get(self.run.highest - u64::from(behind)) == Some(fold(time))
    }

    /// Returns whether a sequence number is so near the highest since the last restart that it is no jump. Returns
    /// false before the first packet.
    pub(crate) const fn is_near(&self, sequence: SequenceNumber) -> bool {
        self.run.highest > 0 && sequence.distance_from(self.run.highest_sequence()).unsigned_abs() < MAX_DROPOUT
    }

    /// Returns the number of packets, not counting duplicates.
    pub(crate) const fn packets(&self) -> u64 {
        self.packets
    }

    /// Returns the number of lost packets in all runs, i.e. between restarts of the sender (RFC 3550 appendix A.3).
    pub(crate) const fn lost(&self) -> u64 {
        self.lost_before + self.run.lost()
    }

    /// Returns the number of packets that repeat an earlier sequence number and timestamp.
    pub(crate) const fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Returns the number of packets that arrived after a packet with a higher sequence number.
    pub(crate) const fn reordered(&self) -> u64 {
        self.reordered
    }

    /// Returns how often the sender restarted its sequence numbers.
    #[cfg(test)]
    pub(crate) const fn restarts(&self) -> u32 {
        self.restarts
    }

    /// Returns the interarrival jitter in ms (RFC 3550 appendix A.8).
    #[cfg(test)]
    pub(crate) fn jitter_ms(&self) -> f64 {
        self.jitter.now_ms
    }

    /// Returns the highest value that the interarrival jitter had so far, ms (RFC 3550 appendix A.8).
    pub(crate) fn max_jitter_ms(&self) -> f64 {
        self.jitter.max_ms
    }

    /// Returns the capture time of the earliest packet; `None` before the first packet.
    pub(crate) fn first_at(&self) -> Option<Timestamp> {
        (self.packets > 0).then_some(self.first_at)
    }

    /// Returns the capture time of the latest packet that is not a duplicate.
    pub(crate) fn last_at(&self) -> Option<Timestamp> {
        (self.packets > 0).then_some(self.last_at)
    }

    /// Returns the highest extended sequence number of this run (the packets since the last restart). A run starts at
    /// 65536 plus its first sequence number, so reordered packets from before the first packet have positive numbers,
    /// too.
    #[cfg(test)]
    pub(crate) const fn extended_sequence(&self) -> u64 {
        self.run.highest
    }

    fn place(&mut self, packet: PacketStamps) -> PacketArrival {
        let PacketStamps { at, sequence, time, .. } = packet;
        let ahead = sequence.wrapping_sub(self.run.highest_sequence());
        let is_leap = ahead >= MAX_MISORDER && self.is_leap(packet, ahead);
        if ahead != 0 && ahead < MAX_DROPOUT && !is_leap {
            let step = time.0.wrapping_sub(self.highest_time.0);
            // A larger step spans a pause of the sender.
            if ahead == 1 && step > 0 && (self.step == 0 || step < self.step) {
                self.step = step;
            }
            self.advance(u64::from(ahead), time);
            return PacketArrival::InOrder;
        }
        let behind = self.run.highest_sequence().wrapping_sub(sequence);
        if usize::from(behind) < WINDOW {
            let extended = self.run.highest - u64::from(behind);
            match self.seen.get(extended) {
                Some(mark) if mark == fold(time) && !self.resumes(at, sequence) => {
                    let is_long = self.run.received >= MIN_REPEATED;
                    let Some(first) = self.repeats.handle_repeated_packet(packet, is_long) else {
                        return PacketArrival::Duplicate;
                    };
                    self.restart_with_equal_numbers(first, packet);
                    return PacketArrival::Restarted;
                }
                // A number among those received fills a gap, however late its packet is.
                None if behind < MAX_MISORDER || extended > self.run.base => {
                    self.seen.set(extended, time);
                    self.run.base = self.run.base.min(extended);
                    self.run.received += 1;
                    return PacketArrival::Reordered;
                }
                _ => {}
            }
        }
        self.jump(sequence, time, is_leap)
    }

    /// Returns whether the sender skipped numbers: the timestamp or the time of arrival leaves no room for so many lost
    /// packets.
    #[cold]
    fn is_leap(&self, packet: PacketStamps, ahead: u16) -> bool {
        let ms = |ticks: i64| ticks * 1_000 / i64::from(packet.clock_hz.max(1));
        let lost_ms = ms(i64::from(self.step.cast_signed()) * i64::from(ahead));
        let sent_ms = ms(packet.time.wrapping_since(self.highest_time).into());
        let took_ms = packet.at.nanos_since(self.last_at) / 1_000_000;
        packet.clock_hz > 0 && lost_ms > 0 && (sent_ms * 2 < lost_ms || (took_ms + MAX_STALL_MS) * 2 < lost_ms)
    }

    /// Returns whether a packet with the sequence number and timestamp of an earlier packet is new and no duplicate.
    ///
    /// Some senders restart with the same sequence numbers and timestamps after each hold. So an equal packet after a
    /// long silence is new. It is new, too, if it is the second packet after a jump and confirms the jump.
    fn resumes(&self, at: Timestamp, sequence: SequenceNumber) -> bool {
        at.since(self.last_at) >= DUPLICATE_WINDOW
            || self.jumped.iter().flatten().any(|(before, _)| before.wrapping_add(1) == sequence)
    }

    /// Begins a new run (the packets since a restart) with the packet `first`. The packets from `first` to this packet
    /// repeat numbers of the former run.
    fn restart_with_equal_numbers(&mut self, first: PacketStamps, packet: PacketStamps) {
        self.lost_before += self.run.lost();
        self.restarts = self.restarts.saturating_add(1);
        self.begin_run(first.sequence, first.time);
        let count = u32::from(packet.sequence.wrapping_sub(first.sequence));
        let step = packet.time.0.wrapping_sub(first.time.0) / count.max(1);
        (1..=count).for_each(|n| self.advance(1, RtpTime(first.time.0.wrapping_add(step.wrapping_mul(n)))));
    }

    fn advance(&mut self, ahead: u64, time: RtpTime) {
        let highest = self.run.highest + ahead;
        self.seen.clear(self.run.highest + 1, highest);
        self.seen.set(highest, time);
        self.highest_time = time;
        self.run.highest = highest;
        self.run.received += 1;
    }

    fn jump(&mut self, sequence: SequenceNumber, time: RtpTime, is_leap: bool) -> PacketArrival {
        // If timestamp and sequence number advanced by the same number of packets, the packets in between were lost.
        // That happens if the mirror port delivers nothing for over a minute. By RFC 3550 appendix A.1 alone, the jump
        // would be a restart of the sender.
        let ahead = sequence.wrapping_sub(self.run.highest_sequence());
        let passed = time.0.wrapping_sub(self.highest_time.0);
        if ahead != 0 && !is_leap && self.step != 0 && passed == self.step.wrapping_mul(u32::from(ahead)) {
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
                // A second packet has confirmed the jump, so a new run of sequence numbers begins. Packets of this run
                // that arrived before the confirmation count, too.
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

/// Arrival time and numbers of a packet.
#[derive(Clone, Copy, Debug)]
struct PacketStamps {
    at: Timestamp,
    sequence: SequenceNumber,
    time: RtpTime,
    /// Clock rate of the RTP timestamp, Hz; 0 if it is unknown.
    clock_hz: u32,
}

/// The newest packets in a row that repeat numbers of earlier packets. They show whether the sender restarted with
/// equal numbers at once. A media server does so after a failover, and so does the sender of a recording in a loop.
///
/// Copies of packets, e.g. by the mirror, come between new packets, or at once. A sender that restarted sends only
/// repeated numbers, one after the other, at the pace of their timestamps.
#[derive(Clone, Copy, Debug, Default)]
struct RepeatedRun {
    first: Option<PacketStamps>,
    last: SequenceNumber,
    packets: u8,
    /// Number of runs that ended with a new packet, so that they were copies.
    copied_runs: u8,
    /// Number and folded timestamp with which the sender restarted before.
    origin: Option<(SequenceNumber, u16)>,
}

impl RepeatedRun {
    /// Handles a packet that repeats the numbers of an earlier packet. If the sender has restarted, so that the packet
    /// is new, returns the first packet after the restart. `is_long` says whether so many packets came before that
    /// copies of them would have been noticed.
    fn handle_repeated_packet(&mut self, packet: PacketStamps, is_long: bool) -> Option<PacketStamps> {
        if self.copied_runs >= MAX_COPIED_RUNS {
            return None;
        }
        let first = self.first.filter(|_| self.packets > 0 && self.last.wrapping_add(1) == packet.sequence);
        self.packets = if first.is_some() { self.packets.saturating_add(1) } else { 1 };
        let first = first.unwrap_or(packet);
        (self.first, self.last) = (Some(first), packet.sequence);
        let origin = (packet.sequence, fold(packet.time));
        if self.origin == Some(origin) {
            self.packets = 0;
            return Some(packet);
        }
        let is_new = is_long && self.packets >= MIN_REPEATED_RUN && packet.keeps_pace_since(first);
        is_new.then(|| {
            self.origin = Some((first.sequence, fold(first.time)));
            self.packets = 0;
            first
        })
    }

    fn handle_new_packet(&mut self) {
        if self.packets > 0 {
            self.copied_runs = self.copied_runs.saturating_add(1);
            self.packets = 0;
        }
    }
}

impl PacketStamps {
    /// Returns whether this packet arrived as long after the packet `first` as their timestamps say, but for jitter.
    fn keeps_pace_since(self, first: Self) -> bool {
        let ticks = self.time.wrapping_since(first.time);
        let sent_ms = i64::from(ticks) * 1_000 / i64::from(self.clock_hz.max(1));
        let took_ms = self.at.nanos_since(first.at) / 1_000_000;
        self.clock_hz > 0 && sent_ms > 0 && took_ms * 2 >= sent_ms && took_ms <= sent_ms + PACE_JITTER_MS
    }
}

/// A run: the packets of a stream between two restarts of the sequence number.
#[derive(Clone, Copy, Debug)]
struct SequenceRun {
    base: u64,
    highest: u64,
    received: u64,
}

impl SequenceRun {
    /// Returns the highest sequence number since the last restart of the sender in its 16-bit form, as in a packet.
    const fn highest_sequence(&self) -> SequenceNumber {
        SequenceNumber(self.highest as u16)
    }

    const fn lost(&self) -> u64 {
        if self.received == 0 { 0 } else { (self.highest - self.base + 1).saturating_sub(self.received) }
    }
}

/// The recent sequence numbers of a run (the packets between two restarts) with their RTP timestamps, by which
/// duplicates are found.
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

    /// Marks the sequence numbers `from` to `to` as not received, because the sequence skipped them.
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

/// Returns the index of an extended sequence number in the window of recent packets, less than [`WINDOW`].
const fn slot(extended: u64) -> usize {
    (extended % WINDOW as u64) as usize
}

/// Folds a timestamp to 16 bits, which halves the size of the window. Two different timestamps become equal with a
/// probability of 1 in 65,536.
const fn fold(time: RtpTime) -> u16 {
    (time.0 ^ (time.0 >> 16)) as u16
}

/// Interarrival jitter (RFC 3550 appendix A.8). It is kept in ms, so it stays valid if the clock rate changes.
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
            // All packets of a telephone-event have the same timestamp (RFC 4733 section 2.2.1). So the time between
            // them says nothing about jitter.
            self.last = Some((last_at, last_time, last_hz));
            return;
        }
        let sent_ms = f64::from(time.wrapping_since(last_time)) * 1e3 / f64::from(clock_hz);
        let received_ms = at.nanos_since(last_at) as f64 / 1e6;
        let step_ms = (received_ms - sent_ms).abs();
        if step_ms > MAX_STEP_MS {
            return;
        }
        self.now_ms += (step_ms - self.now_ms) / 16.0;
        self.max_ms = self.max_ms.max(self.now_ms);
    }
}

/// Time without packets after which a repeated sequence number is no duplicate: the sender has restarted its numbers.
const DUPLICATE_WINDOW: std::time::Duration = std::time::Duration::from_secs(2);

/// Maximum time for which a network holds packets and then delivers them at once, ms. Packets may be lost among them.
const MAX_STALL_MS: i64 = 5_000;

/// Minimum number of repeated packets in a row that show a restart of the sender.
const MIN_REPEATED_RUN: u8 = 3;
/// Minimum number of packets before a repeated run that shows a restart: 0.4 s at 20 ms a packet. Copies of fewer
/// packets may all arrive after the last of them.
const MIN_REPEATED: u64 = 20;
/// Number of runs of copies after which repeated numbers are always copies.
const MAX_COPIED_RUNS: u8 = 3;
/// Maximum jitter of the packets after a restart, ms.
const PACE_JITTER_MS: i64 = 100;

/// Number of recent packets that are searched for duplicates: 10 s at 20 ms a packet.
const WINDOW: usize = 512;

/// Maximum gap of the sequence number, in packets, that counts as loss and not as a jump (RFC 3550 appendix A.1). It is
/// one minute at 20 ms a packet.
const MAX_DROPOUT: u16 = 3_000;

/// Maximum distance below the highest sequence number, in packets, that counts as reordering and not as a jump (RFC
/// 3550 appendix A.1).
const MAX_MISORDER: u16 = 100;

/// Number of packets after a jump that are remembered until two consecutive packets confirm the jump. Five packets
/// cover 100 ms of disorder at 20 ms a packet, and three are for duplicates.
const JUMPS: usize = 8;

/// Maximum change of the transit time that counts as jitter, ms. With a larger change, the sender moved its RTP clock,
/// e.g. after a hold or for music on hold.
const MAX_STEP_MS: f64 = 1_000.0;
