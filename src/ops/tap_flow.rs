//! Traffic of a capture interface (tap) by direction: packets a second to the PBX and from the PBX.
//!
//! The PBX takes part in nearly all calls, so a mirror port that works shows both directions of its traffic. A rate is
//! the number of packets between two reports of the service, divided by the time between the reports.

use serde::{Deserialize, Serialize};

use super::taps::TapReport;
use crate::time::Timestamp;

/// Traffic of a capture interface by direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TapFlow {
    /// Frames a second on the interface, rounded up.
    pub(crate) frames_per_s: u64,
    /// SIP and RTP packets that are sent to a PBX.
    pub(crate) to_pbx: DirectionFlow,
    /// SIP and RTP packets that are sent by a PBX.
    pub(crate) from_pbx: DirectionFlow,
}

/// Traffic in one direction at a capture interface: to the PBX or from the PBX.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DirectionFlow {
    /// Number of packets since the start of the service.
    pub(crate) packets: u64,
    /// Packets a second, rounded up. So the rate is 0 only if no packet arrived.
    pub(crate) per_s: u64,
    /// Wall-clock time of the last report that showed new packets in this direction; `None` if no packet has ever
    /// arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_at: Option<Timestamp>,
}

impl TapFlow {
    /// Creates the traffic with the numbers of packets to and from PBXs. The rates are 0 until [`set_rates`] is called.
    pub(crate) fn of_packets(to_pbx: u64, from_pbx: u64) -> Self {
        let direction = |packets| DirectionFlow { packets, ..DirectionFlow::default() };
        Self { frames_per_s: 0, to_pbx: direction(to_pbx), from_pbx: direction(from_pbx) }
    }
}

impl DirectionFlow {
    /// Returns how long no packet has arrived in this direction, in seconds. Returns `None` if packets arrive now, or
    /// if no packet has ever arrived.
    pub(crate) fn silent_s(&self, now: Timestamp) -> Option<f64> {
        self.last_at.filter(|_| self.per_s == 0).map(|at| now.since(at).as_secs_f64())
    }

    fn measure(&mut self, before: Self, seconds: f64, now: Timestamp) {
        self.per_s = rate(before.packets, self.packets, seconds);
        self.last_at = if self.packets > before.packets { Some(now) } else { before.last_at };
    }
}

/// Computes the rates of all capture interfaces from two reports: `before` at the time `then`, and `taps` at the time
/// `now`.
pub(crate) fn set_rates(taps: &mut [TapReport], before: &[TapReport], (then, now): (Timestamp, Timestamp)) {
    let seconds = now.since(then).as_secs_f64();
    for tap in taps {
        let Some(old) = before.iter().find(|old| old.name == tap.name).filter(|_| seconds > 0.0) else { continue };
        let Some((flow, old_flow)) = tap.flow.as_mut().zip(old.flow) else { continue };
        flow.frames_per_s = rate(old.frames, tap.frames, seconds);
        flow.to_pbx.measure(old_flow.to_pbx, seconds, now);
        flow.from_pbx.measure(old_flow.from_pbx, seconds, now);
    }
}

/// Returns the packets a second between two numbers of packets, rounded up.
fn rate(before: u64, after: u64, seconds: f64) -> u64 {
    (after.saturating_sub(before) as f64 / seconds).ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_packets_between_two_reports_a_second() {
        let report = |frames, to, from| TapReport {
            name: String::from("eth1"),
            frames,
            flow: Some(TapFlow::of_packets(to, from)),
            ..TapReport::default()
        };
        let [first, second, third] = [100, 105, 110].map(Timestamp::from_secs);
        let before = [report(1_000, 10, 4)];
        let mut taps = [report(13_050, 12_010, 5)];
        set_rates(&mut taps, &before, (first, second));
        let flow = taps[0].flow.unwrap();
        assert_eq!((flow.frames_per_s, flow.to_pbx.per_s, flow.from_pbx.per_s), (2_410, 2_400, 1));
        assert_eq!((flow.from_pbx.last_at, flow.from_pbx.silent_s(second)), (Some(second), None));
        // In the next report no packet came from the PBX, so this direction is silent.
        let before = taps;
        let mut taps = [report(13_060, 12_020, 5)];
        set_rates(&mut taps, &before, (second, third));
        let flow = taps[0].flow.unwrap();
        assert_eq!((flow.to_pbx.per_s, flow.from_pbx.per_s), (2, 0));
        assert_eq!((flow.from_pbx.last_at, flow.from_pbx.silent_s(third)), (Some(second), Some(5.0)));
        // A new interface has no rate yet, because no earlier report contains it.
        let mut taps = [report(7, 7, 7)];
        set_rates(&mut taps, &[], (second, third));
        assert_eq!(taps[0].flow.unwrap().to_pbx.per_s, 0);
    }
}
