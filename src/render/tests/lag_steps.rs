//! Tests of steps of the delay near the beginning or the end of a stream.

use super::*;

#[test]
fn few_packets_before_a_longer_delay_stay_in_place() {
    for few in 5..60 {
        let mut spool = started();
        let mut caller = TestSender::new(&mut spool, Side::Caller);
        let end = caller.talk(&mut spool, 100.0, few);
        // From here on, each packet takes 80 ms longer through the network. So the lag (arrival minus media time) makes
        // a step.
        let last = caller.talk(&mut spool, end + 80.0, 200);
        let (_, _, frames) = rendered(&ended(spool, last + 100.0));
        let mut expected = every(100.0, 20.0, few as usize);
        expected.extend(every(end + 80.0, 20.0, 200));
        assert_near(&clicks(&frames, Side::Caller), &expected, 0.13);
    }
}

#[test]
fn few_packets_after_a_leap_of_the_timestamps_move_nothing_before_them() {
    for few in [1, 3, 8, 30] {
        let mut spool = started();
        let mut caller = TestSender::new(&mut spool, Side::Caller);
        let end = caller.talk(&mut spool, 100.0, 200);
        // The timestamps leap by 30 ms (240 ticks at 8 kHz), while the packets still arrive every 20 ms. So the lag
        // (arrival minus media time) shrinks.
        caller.time = caller.time.wrapping_add(240);
        let last = caller.talk(&mut spool, end, few);
        let (_, _, frames) = rendered(&ended(spool, last + 100.0));
        assert_near(&clicks(&frames, Side::Caller), &every(100.0, 20.0, 200 + few as usize), 0.13);
    }
}

#[test]
fn few_late_packets_are_no_longer_delay() {
    let mut spool = started();
    let mut caller = TestSender::new(&mut spool, Side::Caller);
    let end = caller.talk(&mut spool, 100.0, 200);
    let last = caller.talk(&mut spool, end + 60.0, 8);
    let (_, _, frames) = rendered(&ended(spool, last + 100.0));
    assert_near(&clicks(&frames, Side::Caller), &every(100.0, 20.0, 208), 0.13);
}

#[test]
fn leaping_timestamps_stay_within_20_ms_at_every_size_of_the_leap() {
    // The clock of the stream begins a new track at a step of 15 to 20 ms. So the sizes lie around these.
    for leap_ticks in [40, 80, 112, 119, 120, 121, 152, 159, 160, 161, 168, 200, 240, 320, 480, 800] {
        for back in [false, true] {
            let mut spool = started();
            let mut caller = TestSender::new(&mut spool, Side::Caller);
            let mut end = 100.0;
            for _ in 0..20 {
                end = caller.talk(&mut spool, end, 50);
                let leap = if back { 0_u32.wrapping_sub(leap_ticks) } else { leap_ticks };
                caller.time = caller.time.wrapping_add(leap);
            }
            let (_, _, frames) = rendered(&ended(spool, end + 100.0));
            assert_near(&clicks(&frames, Side::Caller), &every(100.0, 20.0, 1_000), 20.0);
        }
    }
}
