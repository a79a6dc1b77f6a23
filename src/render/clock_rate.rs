//! Detects the true clock rate of a stream's RTP timestamps.
//!
//! Quirk `wrong_clock`: some senders count RTP timestamps in milliseconds, or G.722 at 16000 Hz instead of the 8000 Hz
//! of RFC 3551 section 4.5.2.
//!
//! Quirk `broken_stamps`: the timestamps of other senders never change, advance by one for each packet, or advance by
//! 20 ms for packets of 30 ms.
//!
//! Quirk `shared_stamps`: a sender splits a frame into several packets and gives all of them the timestamp of the
//! frame.
//!
//! The detector compares the timestamps of consecutive packets with their arrival times. It also compares them with the
//! duration of the packets' sound, if the codec gives it.

use crate::call::decision::PayloadFormat;
use crate::codec::Codec;
use crate::net::SequenceNumber;
use crate::rtp::{NeighbourSearch, SequenceNeighbours};

/// How the media time between two packets of a format is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MediaClock {
    /// The media time is measured by the RTP timestamps, which have this clock rate, Hz.
    Clock(u32),
    /// The RTP timestamps are useless, so the media time is computed from sequence numbers and the durations of the
    /// packets' sound.
    Counted {
        /// Duration in ns of a packet if its length does not give the duration.
        packet_ns: i64,
    },
    /// The media time is measured by the RTP timestamps. But packets that follow each other without a pause are joined
    /// at the durations of their sound (see [`super::joined_stamps`]).
    Joined {
        /// Clock rate of the RTP timestamps, Hz.
        clock_hz: u32,
        /// Duration in ns of a packet if its length does not give the duration.
        packet_ns: i64,
    },
}

impl MediaClock {
    /// Returns whether the media time depends on the durations of the packets' sound.
    pub(super) const fn needs_lengths(self) -> bool {
        matches!(self, Self::Counted { .. } | Self::Joined { .. })
    }
}

/// The facts about one packet that the detector of the clock rate uses.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClockObservation {
    pub(super) at_ns: i64,
    pub(super) sequence: SequenceNumber,
    pub(super) time: u32,
    /// Duration of the packet's sound, ns; `None` if the codec does not give it.
    pub(super) length_ns: Option<i64>,
}

/// The usual time between the arrivals of consecutive packets, ns.
#[derive(Clone, Copy, Debug)]
struct ArrivalSpacing {
    median_ns: i64,
    mean_ns: i64,
}

/// Collects timestamps and arrival times of packets of one format, until they prove a clock rate.
#[derive(Clone, Debug)]
pub(super) struct ClockRateDetector {
    announced_hz: u32,
    /// Whether packets follow each other without pauses, as speech does. Comfort noise has pauses, so its packets
    /// cannot be counted.
    is_continuous: bool,
    recent: NeighbourSearch<ClockObservation>,
    arrivals_ns: Vec<i64>,
    ticks: Vec<u32>,
    lengths_ns: Vec<i64>,
}

impl ClockRateDetector {
    /// Returns a detector for a format that had no packet so far.
    pub(super) fn new(format: &PayloadFormat) -> Self {
        let (announced_hz, is_continuous) = (format.clock_hz, !format.is(Codec::ComfortNoise));
        Self {
            announced_hz,
            is_continuous,
            recent: NeighbourSearch::default(),
            arrivals_ns: Vec::new(),
            ticks: Vec::new(),
            lengths_ns: Vec::new(),
        }
    }

    /// Records a packet of the format. Only packets with consecutive sequence numbers are compared with each other, in
    /// whatever order they arrive.
    pub(super) fn handle_packet(&mut self, observation: ClockObservation) {
        let SequenceNeighbours { before, after } = self.recent.add(observation.sequence, observation);
        if let Some(before) = before {
            self.compare(before, observation);
        }
        if let Some(after) = after {
            self.compare(observation, after);
        }
    }

    fn compare(&mut self, first: ClockObservation, second: ClockObservation) {
        let ticks = second.time.wrapping_sub(first.time);
        // RFC 3551 section 4.2 allows up to 200 ms a packet. A longer step of the timestamp is a pause or a jump, so it
        // is ignored.
        if ticks < MAX_STEP_TICKS {
            self.arrivals_ns.push(second.at_ns - first.at_ns);
            self.ticks.push(ticks);
            self.lengths_ns.extend(first.length_ns);
        }
    }

    /// Returns whether enough pairs of packets were compared to decide the clock rate.
    pub(super) fn has_enough(&self) -> bool {
        self.ticks.len() >= ENOUGH_PAIRS
    }

    /// Returns how the time between two packets is to be measured, according to the packets so far.
    pub(super) fn media_clock(&self) -> MediaClock {
        if self.ticks.len() < MIN_PAIRS {
            return MediaClock::Clock(self.announced_hz);
        }
        let spacing = ArrivalSpacing {
            median_ns: median(&mut self.arrivals_ns.clone()),
            mean_ns: self.arrivals_ns.iter().sum::<i64>() / self.arrivals_ns.len().max(1) as i64,
        };
        let ticks = median(&mut self.ticks.clone());
        let length_ns = (self.lengths_ns.len() == self.ticks.len()).then(|| median(&mut self.lengths_ns.clone()));
        length_ns
            .filter(|length_ns| *length_ns > 0)
            .and_then(|length_ns| self.by_length(ticks, length_ns, spacing))
            .unwrap_or_else(|| self.by_arrival(ticks, spacing))
    }

    /// Returns the way to measure media time by counting packets, with the sound duration of one packet. Comfort noise
    /// has pauses, so its packets cannot be counted; for it, the announced RTP clock rate is returned.
    pub(super) fn counted_clock(&self) -> MediaClock {
        let mean_ns = self.arrivals_ns.iter().sum::<i64>() / self.arrivals_ns.len().max(1) as i64;
        let packet_ns = match self.lengths_ns.is_empty() {
            true => whole_frames(mean_ns),
            false => median(&mut self.lengths_ns.clone()),
        };
        match self.is_continuous && packet_ns > 0 {
            true => MediaClock::Counted { packet_ns },
            false => MediaClock::Clock(self.announced_hz),
        }
    }

    /// Returns the way to measure media time by the timestamps, with packets joined at the durations of their sound.
    /// Comfort noise has pauses between its packets, so it is not joined.
    pub(super) fn joined_clock(&self) -> MediaClock {
        let MediaClock::Clock(clock_hz) = self.media_clock() else { return self.media_clock() };
        let packet_ns = match (self.lengths_ns.is_empty(), self.ticks.is_empty()) {
            (false, _) => median(&mut self.lengths_ns.clone()),
            (true, false) => stamped_frames(ticks_ns(median(&mut self.ticks.clone()), clock_hz)),
            (true, true) => 0,
        };
        match self.is_continuous && packet_ns > 0 {
            true => MediaClock::Joined { clock_hz, packet_ns },
            false => MediaClock::Clock(clock_hz),
        }
    }

    /// Decides the RTP clock rate by comparing timestamps and arrival times with the duration of the packets' sound.
    /// `ticks` is the median difference of consecutive timestamps. Returns `None` if neither agrees with the duration.
    fn by_length(&self, ticks: u32, length_ns: i64, spacing: ArrivalSpacing) -> Option<MediaClock> {
        let stamps_say = |hz: u32, percent: i64| near(ticks_ns(ticks, hz), length_ns, percent);
        if stamps_say(self.announced_hz, 2) || self.wanders_around(length_ns) {
            return Some(MediaClock::Clock(self.announced_hz));
        }
        if self.shares_stamps() {
            return Some(MediaClock::Clock(self.announced_hz));
        }
        if let Some(hz) = KNOWN_CLOCKS_HZ.into_iter().find(|&hz| stamps_say(hz, 2)) {
            return Some(MediaClock::Clock(hz));
        }
        // Jitter distorts the median of the time between arrivals, and a pause distorts the mean. So the arrivals
        // confirm the duration of a packet if the median or the mean agrees with it.
        let arrives_so = near(spacing.median_ns, length_ns, 25) || near(spacing.mean_ns, length_ns, 25);
        let broken = ticks == 0 || (arrives_so && !stamps_say(self.announced_hz, 10));
        broken.then_some(MediaClock::Counted { packet_ns: length_ns })
    }

    /// Returns whether the timestamps advance as the sound does on average, though not in each packet. Pauses do not
    /// count.
    fn wanders_around(&self, length_ns: i64) -> bool {
        let steps = self.ticks.iter().map(|&ticks| ticks_ns(ticks, self.announced_hz));
        let (count, sum_ns) = steps
            .filter(|step_ns| *step_ns < 2 * length_ns)
            .fold((0, 0), |(count, sum_ns), step_ns| (count + 1, sum_ns + step_ns));
        count * 2 > self.ticks.len() as i64 && near(sum_ns, count * length_ns, 7)
    }

    /// Returns whether several packets share each timestamp, but all timestamps together advance as the sound does.
    fn shares_stamps(&self) -> bool {
        let ticks: i64 = self.ticks.iter().map(|&ticks| i64::from(ticks)).sum();
        let sent_ns = ticks * 1_000_000_000 / i64::from(self.announced_hz.max(1));
        // The pairs of packets may begin and end within a group, which is up to an eighth of them.
        self.ticks.contains(&0) && near(sent_ns, self.lengths_ns.iter().sum(), 15)
    }

    fn by_arrival(&self, ticks: u32, ArrivalSpacing { median_ns, mean_ns }: ArrivalSpacing) -> MediaClock {
        // Median and mean of the time between arrivals differ if a sender sends two packets at a time. Then the arrival
        // times prove no RTP clock rate. Neither do packets that arrive closer together than the minimum. So the
        // announced clock rate is kept.
        if median_ns < MIN_SPACING_NS || !near(mean_ns, median_ns, 25) {
            return MediaClock::Clock(self.announced_hz);
        }
        let seen_hz = i64::from(ticks) * 1_000_000_000 / median_ns;
        if near(seen_hz, i64::from(self.announced_hz), 40) {
            return MediaClock::Clock(self.announced_hz);
        }
        if let Some(hz) = KNOWN_CLOCKS_HZ.into_iter().find(|&hz| near(seen_hz, i64::from(hz), 15)) {
            return MediaClock::Clock(hz);
        }
        match self.is_continuous {
            true => MediaClock::Counted { packet_ns: whole_frames(median_ns) },
            false => MediaClock::Clock(self.announced_hz),
        }
    }
}

fn ticks_ns(ticks: u32, hz: u32) -> i64 {
    i64::from(ticks) * 1_000_000_000 / i64::from(hz.max(1))
}

/// Returns the nearest duration of whole tens of milliseconds, ns.
const fn whole_frames(ns: i64) -> i64 {
    (ns + FRAME_NS / 2) / FRAME_NS * FRAME_NS
}

/// Returns the duration of a packet whose timestamp usually advances by `ns`. Whole 5 ms are exact, e.g. G.711 packets of
/// 15 ms. Otherwise it is the nearest duration of whole tens of milliseconds.
const fn stamped_frames(ns: i64) -> i64 {
    if ns % SHORT_FRAME_NS == 0 { ns } else { whole_frames(ns) }
}

fn near(value: i64, of: i64, percent: i64) -> bool {
    (value - of).abs() * 100 <= of * percent
}

fn median<T: Ord + Copy>(values: &mut [T]) -> T {
    let middle = values.len() / 2;
    *values.select_nth_unstable(middle).1
}

/// Number of pairs of consecutive packets after which the RTP clock rate is decided. With packets of 20 ms, they take
/// two thirds of a second.
const ENOUGH_PAIRS: usize = 32;
/// Minimum number of pairs of consecutive packets by which the RTP clock rate is decided. With fewer, the clock rate
/// announced in SDP is used.
const MIN_PAIRS: usize = 8;
/// Maximum difference between the timestamps of two consecutive packets, ticks (200 ms at 48 kHz). A larger difference
/// is a pause or a jump, and shows nothing about the clock rate.
const MAX_STEP_TICKS: u32 = 9_600;
/// Minimum time between the arrivals of two consecutive packets, ns. Packets that arrive closer together are a burst,
/// and show nothing about the clock rate.
const MIN_SPACING_NS: i64 = 4_000_000;
/// Unit, ns, to which a packet duration is rounded if it was found from arrival times. Every codec for which this is
/// needed has frames of whole tens of milliseconds.
const FRAME_NS: i64 = 10_000_000;
/// Unit, ns, of packet durations that the timestamps give exactly.
const SHORT_FRAME_NS: i64 = 5_000_000;
/// RTP clock rates that senders use, Hz: 1000 for timestamps in milliseconds, and the clock rates of audio formats.
const KNOWN_CLOCKS_HZ: [u32; 7] = [1_000, 8_000, 16_000, 24_000, 32_000, 44_100, 48_000];

#[cfg(test)]
mod tests {
    use super::*;

    fn format(encoding: &str, clock_hz: u32) -> PayloadFormat {
        PayloadFormat { encoding: encoding.into(), clock_hz, channels: 1, fmtp: String::new() }
    }

    /// Returns the RTP clock rate that is detected from forty packets. They arrive every 20 ms, each 0 to 4 ms late.
    fn detected(announced: u32, ticks_a_packet: u32, length_ns: Option<i64>) -> MediaClock {
        let mut finder = ClockRateDetector::new(&format("OPUS", announced));
        for n in 0..40_u32 {
            let jitter = i64::from(n * 7 % 5) * 1_000_000;
            let at_ns = i64::from(n) * 20_000_000 + jitter;
            finder.handle_packet(ClockObservation {
                at_ns,
                sequence: SequenceNumber(n as u16),
                time: n * ticks_a_packet,
                length_ns,
            });
        }
        finder.media_clock()
    }

    const MS_20: Option<i64> = Some(20_000_000);

    #[test]
    fn correct_clock_is_kept() {
        for length in [None, MS_20] {
            assert_eq!(detected(8_000, 160, length), MediaClock::Clock(8_000));
            assert_eq!(detected(48_000, 960, length), MediaClock::Clock(48_000));
        }
        // In the first case, packets of 30 ms arrive every 20 ms. In the second case, bytes after the sound make
        // packets of 20 ms look longer. In the first case the duration, and in the second the arrival times, agree with
        // the announced RTP clock rate. So it is kept.
        assert_eq!(detected(8_000, 240, Some(30_000_000)), MediaClock::Clock(8_000));
        assert_eq!(detected(8_000, 160, Some(21_250_000)), MediaClock::Clock(8_000));
    }

    #[test]
    fn timestamps_in_milliseconds_and_g722_at_16000_are_detected() {
        for length in [None, MS_20] {
            assert_eq!(detected(8_000, 20, length), MediaClock::Clock(1_000));
            assert_eq!(detected(8_000, 320, length), MediaClock::Clock(16_000));
        }
    }

    #[test]
    fn packets_without_known_lengths_are_joined_at_the_steps_of_their_timestamps() {
        for (ticks, packet_ms) in [(40, 5), (120, 15), (160, 20), (157, 20)] {
            let mut finder = ClockRateDetector::new(&format("PCMU", 8_000));
            for n in 0..40_u16 {
                let (at_ns, time) = (i64::from(n) * packet_ms * 1_000_000, u32::from(n) * ticks);
                finder.handle_packet(ClockObservation { at_ns, sequence: SequenceNumber(n), time, length_ns: None });
            }
            let expected = MediaClock::Joined { clock_hz: 8_000, packet_ns: packet_ms * 1_000_000 };
            assert_eq!(finder.joined_clock(), expected, "{ticks}");
        }
    }

    #[test]
    fn packets_are_counted_when_no_known_clock_fits() {
        for length in [None, MS_20] {
            for ticks in [0, 1, 53, 1_800] {
                assert_eq!(
                    detected(8_000, ticks, length),
                    MediaClock::Counted { packet_ns: 20_000_000 },
                    "{ticks}, {length:?}"
                );
            }
        }
        // The timestamps advance by 107 ticks, i.e. 13 ms at 8 kHz. But the packets contain 20 ms and arrive every 20
        // ms. So the timestamps are useless, and packets are counted.
        assert_eq!(detected(8_000, 107, MS_20), MediaClock::Counted { packet_ns: 20_000_000 });
    }

    #[test]
    fn packets_that_overtake_others_show_their_clock() {
        for (ticks, expected) in [(160, MediaClock::Clock(8_000)), (20, MediaClock::Clock(1_000))] {
            let mut finder = ClockRateDetector::new(&format("OPUS", 8_000));
            for place in 0..60_u32 {
                // Of each three packets, the first two are swapped, so no packet arrives directly after its
                // predecessor.
                let n = place / 3 * 3 + [1, 0, 2][place as usize % 3];
                finder.handle_packet(ClockObservation {
                    at_ns: i64::from(place) * 20_000_000,
                    sequence: SequenceNumber(n as u16),
                    time: n * ticks,
                    length_ns: MS_20,
                });
            }
            assert!(finder.has_enough());
            assert_eq!(finder.media_clock(), expected);
            assert_eq!(finder.counted_clock(), MediaClock::Counted { packet_ns: 20_000_000 });
        }
    }

    #[test]
    fn packet_bursts_do_not_change_the_announced_clock() {
        let mut finder = ClockRateDetector::new(&format("OPUS", 48_000));
        for n in 0..40_u32 {
            // Four packets arrive at once every 80 ms. Such bursts prove no RTP clock rate, so the announced one is
            // kept.
            let at_ns = i64::from(n / 4) * 80_000_000;
            finder.handle_packet(ClockObservation {
                at_ns,
                sequence: SequenceNumber(n as u16),
                time: n * 960,
                length_ns: None,
            });
        }
        assert_eq!(finder.media_clock(), MediaClock::Clock(48_000));
    }
}
