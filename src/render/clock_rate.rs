//! Which clock a stream's stamps really run on.
//!
//! Quirk `wrong_clock`: some senders count RTP time in milliseconds, or G.722 at its sampling rate of 16000 instead of
//! the 8000 of RFC 3551 section 4.5.2. Quirk `broken_stamps`: others write the same stamp always, one a packet, or
//! that of 20 ms for packets of 30. The stamps of consecutive packets are compared with what the packets hold, where
//! the codec says how long that is, and with their arrival.

use crate::call::decision::PayloadFormat;

/// What tells how far apart two packets of a format are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// Their stamps, which run on a clock of so many Hz.
    Clock(u32),
    /// Their numbers and lengths: the stamps mean nothing.
    Counted {
        /// Length of a packet of which the codec does not tell it, ns.
        packet_ns: i64,
    },
}

/// What one packet says about the clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sign {
    pub(super) at_ns: i64,
    pub(super) sequence: u16,
    pub(super) time: u32,
    /// How long its sound is, where it can be told.
    pub(super) length_ns: Option<i64>,
}

/// How far apart packets come.
#[derive(Clone, Copy, Debug)]
struct Spacing {
    median_ns: i64,
    mean_ns: i64,
}

/// Compares stamps with arrival until it is sure.
#[derive(Clone, Debug)]
pub(super) struct ClockFinder {
    announced_hz: u32,
    /// Packets come one for each piece of sound. Comfort noise does not: it cannot be counted.
    steady: bool,
    last: Option<Sign>,
    arrivals_ns: Vec<i64>,
    ticks: Vec<u32>,
    lengths_ns: Vec<i64>,
}

impl ClockFinder {
    /// For a format with its clock.
    pub(super) fn new(format: &PayloadFormat) -> Self {
        let (announced_hz, steady) = (format.clock_hz, format.encoding != "CN");
        Self { announced_hz, steady, last: None, arrivals_ns: Vec::new(), ticks: Vec::new(), lengths_ns: Vec::new() }
    }

    /// Takes in a packet of the format. Only neighbours in sequence count.
    pub(super) fn handle_packet(&mut self, sign: Sign) {
        if let Some(last) = self.last.replace(sign)
            && sign.sequence.wrapping_sub(last.sequence) == 1
        {
            let ticks = sign.time.wrapping_sub(last.time);
            // RFC 3551 section 4.2 knows up to 200 ms a packet; a pause or a jump of the stamps says nothing.
            if ticks < MAX_STEP_TICKS {
                self.arrivals_ns.push(sign.at_ns - last.at_ns);
                self.ticks.push(ticks);
                self.lengths_ns.extend(last.length_ns);
            }
        }
    }

    /// Whether enough was seen.
    pub(super) fn is_sure(&self) -> bool {
        self.ticks.len() >= ENOUGH
    }

    /// The pace, from what was seen so far.
    pub(super) fn pace(&self) -> Pace {
        if self.ticks.len() < LEAST {
            return Pace::Clock(self.announced_hz);
        }
        let spacing = Spacing {
            median_ns: median(&mut self.arrivals_ns.clone()),
            mean_ns: self.arrivals_ns.iter().sum::<i64>() / self.arrivals_ns.len().max(1) as i64,
        };
        let ticks = median(&mut self.ticks.clone());
        let length_ns = (self.lengths_ns.len() == self.ticks.len()).then(|| median(&mut self.lengths_ns.clone()));
        length_ns
            .filter(|length_ns| *length_ns > 0)
            .and_then(|length_ns| self.by_length(ticks, (length_ns, spacing)))
            .unwrap_or_else(|| self.by_arrival(ticks, spacing))
    }

    /// What the packets hold is beyond doubt where stamps or arrival agree with it.
    fn by_length(&self, ticks: u32, (length_ns, spacing): (i64, Spacing)) -> Option<Pace> {
        let stamps_say = |hz: u32, percent: i64| near(ticks_ns(ticks, hz), length_ns, percent);
        if stamps_say(self.announced_hz, 2) {
            return Some(Pace::Clock(self.announced_hz));
        }
        if let Some(hz) = KNOWN_CLOCKS_HZ.into_iter().find(|&hz| stamps_say(hz, 2)) {
            return Some(Pace::Clock(hz));
        }
        // Jitter spoils the median, a pause the mean.
        let arrives_so = near(spacing.median_ns, length_ns, 25) || near(spacing.mean_ns, length_ns, 25);
        let broken = ticks == 0 || (arrives_so && !stamps_say(self.announced_hz, 10));
        broken.then_some(Pace::Counted { packet_ns: length_ns })
    }

    fn by_arrival(&self, ticks: u32, Spacing { median_ns, mean_ns }: Spacing) -> Pace {
        // Packets that come closer are a burst, of which nothing can be learned.
        if median_ns < MIN_SPACING_NS {
            return Pace::Clock(self.announced_hz);
        }
        let seen_hz = i64::from(ticks) * 1_000_000_000 / median_ns;
        if near(seen_hz, i64::from(self.announced_hz), 40) {
            return Pace::Clock(self.announced_hz);
        }
        if let Some(hz) = KNOWN_CLOCKS_HZ.into_iter().find(|&hz| near(seen_hz, i64::from(hz), 15)) {
            return Pace::Clock(hz);
        }
        // Packets that come in bursts have a median far from their mean, which says nothing about the stamps.
        match self.steady && near(mean_ns, median_ns, 25) {
            true => Pace::Counted { packet_ns: (median_ns + FRAME_NS / 2) / FRAME_NS * FRAME_NS },
            false => Pace::Clock(self.announced_hz),
        }
    }
}

/// How long the sound of a payload of so many bytes is; `None` where its length does not tell.
pub(super) fn length_ns(format: &PayloadFormat, bytes: u32) -> Option<i64> {
    let bytes = i64::from(bytes);
    let samples = |count: i64| Some(count * 1_000_000_000 / i64::from(format.clock_hz.max(1)));
    let channels = i64::from(format.channels.max(1));
    // G.726 by its kbit/s, of 8000 samples a second.
    let g726 = |kbit: i64| Some(bytes * 8 * 1_000_000 / kbit);
    match format.encoding.as_str() {
        "PCMU" | "PCMA" | "L8" => samples(bytes / channels),
        "L16" => samples(bytes / 2 / channels),
        // RFC 3551 section 4.5.1: four bytes of state, two samples in each byte after them.
        "DVI4" => samples(2 * (bytes - 4).max(0)),
        "G722" => Some(bytes * 125_000),
        "GSM" => Some(bytes / 33 * 20_000_000),
        // A silence descriptor has 2 bytes (annex B) and is a frame of its own.
        "G729" | "G729A" | "G729B" | "G729AB" => Some((bytes / 10 + i64::from(bytes % 10 == 2)) * 10_000_000),
        "ILBC" if bytes % 38 == 0 => Some(bytes / 38 * 20_000_000),
        "ILBC" if bytes % 50 == 0 => Some(bytes / 50 * 30_000_000),
        "G726-16" | "AAL2-G726-16" => g726(16),
        "G726-24" | "AAL2-G726-24" => g726(24),
        "G726-32" | "AAL2-G726-32" | "G721" => g726(32),
        "G726-40" | "AAL2-G726-40" => g726(40),
        _ => None,
    }
}

fn ticks_ns(ticks: u32, hz: u32) -> i64 {
    i64::from(ticks) * 1_000_000_000 / i64::from(hz.max(1))
}

fn near(value: i64, of: i64, percent: i64) -> bool {
    (value - of).abs() * 100 <= of * percent
}

fn median<T: Ord + Copy>(values: &mut [T]) -> T {
    let middle = values.len() / 2;
    *values.select_nth_unstable(middle).1
}

/// Pairs that are enough: two thirds of a second at 20 ms.
const ENOUGH: usize = 32;
/// With fewer pairs the announcement is believed.
const LEAST: usize = 8;
/// 200 ms at 48 kHz.
const MAX_STEP_TICKS: u32 = 9_600;
/// Packets that come closer are a burst, of which nothing can be learned.
const MIN_SPACING_NS: i64 = 4_000_000;
/// Packets are of whole 10 ms in every codec whose length does not tell.
const FRAME_NS: i64 = 10_000_000;
/// Milliseconds, and the clocks of audio formats.
const KNOWN_CLOCKS_HZ: [u32; 7] = [1_000, 8_000, 16_000, 24_000, 32_000, 44_100, 48_000];

#[cfg(test)]
mod tests {
    use super::*;

    fn format(encoding: &str, clock_hz: u32) -> PayloadFormat {
        PayloadFormat { encoding: encoding.into(), clock_hz, channels: 1, fmtp: String::new() }
    }

    /// Forty packets of 20 ms, 0 to 4 ms late.
    fn seen(announced: u32, ticks_a_packet: u32, length_ns: Option<i64>) -> Pace {
        let mut finder = ClockFinder::new(&format("OPUS", announced));
        for n in 0..40_u32 {
            let jitter = i64::from(n * 7 % 5) * 1_000_000;
            let at_ns = i64::from(n) * 20_000_000 + jitter;
            finder.handle_packet(Sign { at_ns, sequence: n as u16, time: n * ticks_a_packet, length_ns });
        }
        finder.pace()
    }

    const MS_20: Option<i64> = Some(20_000_000);

    #[test]
    fn a_right_clock_is_believed() {
        for length in [None, MS_20] {
            assert_eq!(seen(8_000, 160, length), Pace::Clock(8_000));
            assert_eq!(seen(48_000, 960, length), Pace::Clock(48_000));
        }
        // Packets of 30 ms that come in bursts, and others that hold more than sound.
        assert_eq!(seen(8_000, 240, Some(30_000_000)), Pace::Clock(8_000));
        assert_eq!(seen(8_000, 160, Some(21_250_000)), Pace::Clock(8_000));
    }

    #[test]
    fn stamps_in_milliseconds_and_g722_at_16000_are_found_out() {
        for length in [None, MS_20] {
            assert_eq!(seen(8_000, 20, length), Pace::Clock(1_000));
            assert_eq!(seen(8_000, 320, length), Pace::Clock(16_000));
        }
    }

    #[test]
    fn with_a_clock_that_nobody_uses_packets_are_counted() {
        for length in [None, MS_20] {
            for ticks in [0, 1, 53, 1_800] {
                assert_eq!(seen(8_000, ticks, length), Pace::Counted { packet_ns: 20_000_000 }, "{ticks}, {length:?}");
            }
        }
        // 160 ticks of 8 kHz are 20 ms; the packets hold 30 and come each 20.
        assert_eq!(seen(8_000, 107, MS_20), Pace::Counted { packet_ns: 20_000_000 });
    }

    #[test]
    fn of_a_burst_nothing_is_learned() {
        let mut finder = ClockFinder::new(&format("OPUS", 48_000));
        for n in 0..40_u32 {
            // Four at once, each 80 ms.
            let at_ns = i64::from(n / 4) * 80_000_000;
            finder.handle_packet(Sign { at_ns, sequence: n as u16, time: n * 960, length_ns: None });
        }
        assert_eq!(finder.pace(), Pace::Clock(48_000));
    }

    #[test]
    fn the_length_of_a_payload_tells_its_time_where_the_rate_is_constant() {
        let length = |encoding: &str, clock_hz: u32, channels: u8, bytes: u32| {
            length_ns(&PayloadFormat { channels, ..format(encoding, clock_hz) }, bytes)
        };
        for (encoding, bytes) in [
            ("PCMA", 160),
            ("G722", 160),
            ("GSM", 33),
            ("G729", 20),
            ("G729", 12),
            ("G726-16", 40),
            ("G726-24", 60),
            ("AAL2-G726-32", 80),
            ("G726-40", 100),
            ("DVI4", 84),
            ("L16", 320),
            ("ILBC", 38),
        ] {
            assert_eq!(length(encoding, 8_000, 1, bytes), MS_20, "{encoding}");
        }
        assert_eq!(length("ILBC", 8_000, 1, 50), Some(30_000_000));
        assert_eq!(length("L16", 44_100, 2, 1_764), Some(10_000_000));
        assert_eq!(length("OPUS", 48_000, 2, 60), None);
    }
}
