//! Which clock a stream's stamps really run on.
//!
//! Quirk `wrong_clock`: some senders count RTP time in milliseconds, or G.722 at its sampling rate of 16000 instead of
//! the 8000 of RFC 3551 section 4.5.2. The stamps of consecutive packets are compared with their arrival.

/// Compares stamps with arrival until it is sure.
#[derive(Clone, Debug)]
pub(super) struct ClockFinder {
    announced_hz: u32,
    last: Option<(i64, u16, u32)>,
    arrivals_ns: Vec<i64>,
    ticks: Vec<u32>,
}

impl ClockFinder {
    /// For a format with this clock.
    pub(super) fn new(announced_hz: u32) -> Self {
        Self { announced_hz, last: None, arrivals_ns: Vec::new(), ticks: Vec::new() }
    }

    /// Takes in a packet of the format. Only neighbours in sequence count.
    pub(super) fn handle_packet(&mut self, at_ns: i64, sequence: u16, time: u32) {
        if let Some((last_at, last_sequence, last_time)) = self.last.replace((at_ns, sequence, time))
            && sequence.wrapping_sub(last_sequence) == 1
        {
            let ticks = time.wrapping_sub(last_time);
            // RFC 3551 section 4.2 knows up to 200 ms a packet; a pause or a jump of the stamps says nothing.
            if ticks > 0 && ticks < MAX_STEP_TICKS {
                self.arrivals_ns.push(at_ns - last_at);
                self.ticks.push(ticks);
            }
        }
    }

    /// Whether enough was seen.
    pub(super) fn is_sure(&self) -> bool {
        self.ticks.len() >= ENOUGH
    }

    /// The clock, from what was seen so far.
    pub(super) fn clock_hz(&self) -> u32 {
        if self.ticks.len() < LEAST {
            return self.announced_hz;
        }
        let arrival_ns = median(&mut self.arrivals_ns.clone());
        let ticks = i64::from(median(&mut self.ticks.clone()));
        if arrival_ns < MIN_SPACING_NS {
            return self.announced_hz;
        }
        let seen_hz = ticks * 1_000_000_000 / arrival_ns;
        let near = |hz: u32, percent: i64| (seen_hz - i64::from(hz)).abs() * 100 <= i64::from(hz) * percent;
        if near(self.announced_hz, 40) {
            return self.announced_hz;
        }
        KNOWN_CLOCKS_HZ.into_iter().find(|&hz| near(hz, 15)).unwrap_or(self.announced_hz)
    }
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
/// Milliseconds, and the clocks of audio formats.
const KNOWN_CLOCKS_HZ: [u32; 7] = [1_000, 8_000, 16_000, 24_000, 32_000, 44_100, 48_000];

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(announced: u32, ticks_a_packet: u32) -> u32 {
        let mut finder = ClockFinder::new(announced);
        for n in 0..40_u32 {
            let jitter = i64::from(n * 7 % 5) * 1_000_000;
            finder.handle_packet(i64::from(n) * 20_000_000 + jitter, n as u16, n * ticks_a_packet);
        }
        finder.clock_hz()
    }

    #[test]
    fn a_right_clock_is_believed() {
        assert_eq!(seen(8_000, 160), 8_000);
        assert_eq!(seen(48_000, 960), 48_000);
    }

    #[test]
    fn stamps_in_milliseconds_and_g722_at_16000_are_found_out() {
        assert_eq!(seen(8_000, 20), 1_000);
        assert_eq!(seen(8_000, 320), 16_000);
    }

    #[test]
    fn a_clock_that_nobody_uses_is_not_believed() {
        assert_eq!(seen(8_000, 53), 8_000);
    }
}
