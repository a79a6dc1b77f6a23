//! Tests of timestamps that misfit the durations of the packets.

use super::*;
use crate::call::decision::Decision;

#[test]
fn misfitting_timestamps_count_in_the_recorded_period_only() {
    // The first 200 packets of 300 wander, or the last 100 do. The recording begins at packet 200 and ends at 280.
    for (wandering, expected) in [(0..200, 0..2), (200..300, 60..81)] {
        let mut spool = SpoolBuilder::new();
        let mut caller = TestSender::new(&mut spool, Side::Caller);
        spool.decide(at_ms(4_100.0), Decision::Start);
        let first = caller.time;
        for n in 0..300_u32 {
            let off = if wandering.contains(&n) { n * 37 % 7 * 8 } else { 24 };
            caller.time = first.wrapping_add(n * 160 + off);
            caller.send(&mut spool, at_ms(100.0 + 20.0 * f64::from(n)));
        }
        spool.end(at_ms(5_700.0));
        let (_, report, _) = rendered(&spool);
        let count = report.sides[0].broken_stamps;
        assert!(expected.contains(&count), "{count} of {wandering:?}");
    }
}
