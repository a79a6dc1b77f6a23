//! Tests of the playout time. Every packet of 20 ms can be recognised in the rendered sound, and its position is
//! checked.

use super::*;
use crate::call::record::Side;
use crate::net::{PayloadType, Ssrc};
use crate::spool::testkit::{SpoolBuilder, TestRtp, at_ms, format_of};
use crate::time::Timestamp;

mod lag_steps;
mod misfits;
mod paths;
mod redundancy;

/// Adds the mu-law packets of one RTP stream to a test spool. Each payload encodes the number of its packet.
struct TestSender {
    stream: u32,
    side: Side,
    sequence: u16,
    time: u32,
    ptime_ms: u32,
    pt: u8,
    sent: u32,
}

impl TestSender {
    fn new(spool: &mut SpoolBuilder, side: Side) -> Self {
        let stream = spool.stream(at_ms(0.0), side);
        Self { stream, side, sequence: 65_500, time: u32::MAX - 8_000, ptime_ms: 20, pt: 0, sent: 0 }
    }

    /// Returns the next payload: a click of the loudest value at the first sample, then a level that shows the packet's
    /// number.
    fn payload(&self) -> Vec<u8> {
        let mut payload = vec![level(self.sent); 8 * self.ptime_ms as usize];
        payload[0] = CLICK;
        payload
    }

    fn skip(&mut self) {
        self.sequence = self.sequence.wrapping_add(1);
        self.time = self.time.wrapping_add(8 * self.ptime_ms);
        self.sent += 1;
    }

    fn send(&mut self, spool: &mut SpoolBuilder, at: Timestamp) {
        let payload = self.payload();
        self.send_as(spool, at, &payload);
    }

    fn send_as(&mut self, spool: &mut SpoolBuilder, at: Timestamp, payload: &[u8]) {
        let rtp = TestRtp { pt: self.pt, sequence: self.sequence, time: self.time, payload };
        spool.rtp(at, (self.stream, self.side), rtp);
        self.skip();
    }

    /// Sends packets without a pause, the first at `from_ms`. Returns the time after the last packet, ms.
    fn talk(&mut self, spool: &mut SpoolBuilder, from_ms: f64, packets: u32) -> f64 {
        let mut now = from_ms;
        for _ in 0..packets {
            self.send(spool, at_ms(now));
            now += f64::from(self.ptime_ms);
        }
        now
    }
}

/// The mu-law value of the click, linear +32124. The other values in the payloads are far from it and from silence, so
/// that a test recognises the click.
const CLICK: u8 = 0x80;

fn level(number: u32) -> u8 {
    0xA0 + (number % 16) as u8
}

fn started() -> SpoolBuilder {
    let mut spool = SpoolBuilder::new();
    spool.decide(at_ms(0.0), crate::call::decision::Decision::Start);
    spool
}

fn ended(mut spool: SpoolBuilder, ms: f64) -> SpoolBuilder {
    spool.end(at_ms(ms));
    spool
}

fn rendered(spool: &SpoolBuilder) -> (RenderPlan, RenderReport, Vec<[i16; 2]>) {
    let source = spool.source();
    let plan = plan(&source, &RenderOptions::default()).unwrap();
    let mut frames = Vec::new();
    let report = render(&plan, &source, &mut |some| {
        frames.extend_from_slice(some);
        Ok(())
    })
    .unwrap();
    assert_eq!(frames.len() as u64, plan.samples, "as long as the recorded part of the call");
    paths::assert_same_by_general_path(&source, &plan, (&report, &frames));
    (plan, report, frames)
}

/// Returns the positions of the clicks in a channel, ms.
fn clicks(frames: &[[i16; 2]], side: Side) -> Vec<f64> {
    let loud = frames.iter().enumerate().filter(|(_, frame)| frame[side.channel()] == 32_124);
    loud.map(|(n, _)| n as f64 / 8.0).collect()
}

fn assert_near(got: &[f64], expected: &[f64], tolerance_ms: f64) {
    assert_eq!(got.len(), expected.len(), "clicks at {:?} …", &got[..got.len().min(40)]);
    for (got, expected) in got.iter().zip(expected) {
        assert!((got - expected).abs() <= tolerance_ms, "heard at {expected} ms, recorded at {got} ms");
    }
}

fn every(from: f64, step: f64, count: usize) -> Vec<f64> {
    (0..count).map(|n| from + n as f64 * step).collect()
}

#[test]
fn both_sides_keep_positions_across_sequence_and_timestamp_wraps() {
    let mut spool = started();
    let mut caller = TestSender::new(&mut spool, Side::Caller);
    let mut callee = TestSender::new(&mut spool, Side::Callee);
    // There are 100 packets. The sequence number wraps after 36 packets, and the timestamp after 50.
    for n in 0..100 {
        caller.send(&mut spool, at_ms(100.0 + 20.0 * f64::from(n)));
        callee.send(&mut spool, at_ms(107.0 + 20.0 * f64::from(n)));
    }
    let (plan, report, frames) = rendered(&ended(spool, 3_000.0));
    assert_eq!((plan.sample_rate, plan.samples), (8_000, 24_000));
    assert_near(&clicks(&frames, Side::Caller), &every(100.0, 20.0, 100), 0.13);
    assert_near(&clicks(&frames, Side::Callee), &every(107.0, 20.0, 100), 0.13);
    assert_eq!((report.sides[0].decoded, report.sides[1].decoded), (100, 100));
    assert_eq!(report.sides[0].concealed_us, 0);
}

#[test]
fn pauses_keep_their_length_with_and_without_counting_timestamps() {
    for pause_ms in [80.0, 2_500.0, 31_000.0, 121_000.0, 1_200_000.0] {
        for stamps_run_on in [true, false] {
            let mut spool = started();
            let mut caller = TestSender::new(&mut spool, Side::Caller);
            let end = caller.talk(&mut spool, 50.0, 60);
            if stamps_run_on {
                caller.time = caller.time.wrapping_add((pause_ms * 8.0) as u32);
            }
            let again = end + pause_ms;
            let last = caller.talk(&mut spool, again, 60);
            let (_, report, frames) = rendered(&ended(spool, last + 100.0));
            let mut expected = every(50.0, 20.0, 60);
            expected.extend(every(again, 20.0, 60));
            assert_near(&clicks(&frames, Side::Caller), &expected, 0.13);
            assert_eq!(report.sides[0].concealed_us, 0, "nothing was lost in a pause of {pause_ms} ms");
            let pause = &frames[(end * 8.0) as usize + 1..(again * 8.0) as usize - 1];
            assert!(pause.iter().all(|frame| frame[0] == 0), "a pause of {pause_ms} ms is silent");
        }
    }
}

#[test]
fn jitter_and_a_late_first_packet_do_not_move_talk_spurts() {
    let mut spool = started();
    let mut caller = TestSender::new(&mut spool, Side::Caller);
    // The packets have up to 60 ms of jitter; only every seventh packet has none. The first packet is 55 ms late.
    for n in 0..200_u32 {
        let jitter = if n == 0 { 55 } else { (n * 37 % 7) * 10 };
        caller.send(&mut spool, at_ms(100.0 + 20.0 * f64::from(n) + f64::from(jitter)));
    }
    let (_, report, frames) = rendered(&ended(spool, 5_000.0));
    assert_near(&clicks(&frames, Side::Caller), &every(100.0, 20.0, 200), 0.3);
    assert_eq!(report.sides[0].concealed_us, 0, "reordered is not lost");
}

#[test]
fn drift_of_500_ppm_is_followed_for_an_hour_without_steps() {
    for ppm in [500.0, -500.0] {
        let mut spool = started();
        let mut caller = TestSender::new(&mut spool, Side::Caller);
        caller.ptime_ms = 120;
        // 30,000 packets of 120 ms are an hour.
        let step = 120.0 * (1.0 - ppm / 1e6);
        let heard: Vec<f64> = every(10.0, step, 30_000);
        for &at in &heard {
            caller.send(&mut spool, at_ms(at));
        }
        let (_, report, frames) = rendered(&ended(spool, 3_602_000.0));
        let got = clicks(&frames, Side::Caller);
        // The smallest lag (arrival minus media time) within 2 s of a packet is used, averaged over 2 s each way. The
        // clock drifts by 1 ms in 2 s, so positions can be wrong by 1 ms, and at both ends by 2 ms.
        assert_near(&got, &heard, 2.0);
        assert!((report.sides[0].clock_drift_ppm.unwrap() - ppm).abs() < 1.0);
        // Only single samples are removed or inserted. So two clicks are 120 ms (960 samples) apart, give or take a
        // sample.
        let steps = got.windows(2).map(|pair| ((pair[1] - pair[0]) * 8.0).round() as i64);
        assert!(steps.clone().all(|samples| (959..=961).contains(&samples)));
        let silent = frames.iter().skip(80).take(28_000_000).filter(|frame| frame[0] == 0).count();
        assert_eq!(silent, 0, "no hole anywhere");
    }
}

#[test]
fn lost_packets_are_concealed_for_60_ms_without_moving_later_sound() {
    for lost in [1_u32, 3, 50] {
        let mut spool = started();
        let mut caller = TestSender::new(&mut spool, Side::Caller);
        let gap = caller.talk(&mut spool, 100.0, 100);
        for _ in 0..lost {
            caller.skip();
        }
        let again = gap + f64::from(lost) * 20.0;
        caller.talk(&mut spool, again, 100);
        let (_, report, frames) = rendered(&ended(spool, again + 2_500.0));
        let mut expected = every(100.0, 20.0, 100);
        expected.extend(every(again, 20.0, 100));
        let got: Vec<f64> =
            clicks(&frames, Side::Caller).into_iter().filter(|at| *at < gap - 1.0 || *at > again - 1.0).collect();
        // The first sample after a gap is blended with the concealment, so its click may be missing.
        let missing: Vec<f64> = expected.iter().copied().filter(|e| !got.iter().any(|g| (g - e).abs() < 0.3)).collect();
        assert!(missing.iter().all(|at| (at - again).abs() < 0.3), "{missing:?}");
        assert_eq!(report.sides[0].concealed_us, u64::from(lost.min(3)) * 20_000);
        let [loss] = report.sides[0].losses[..] else { panic!("one place: {:?}", report.sides[0].losses) };
        assert!(
            (loss.from_us as f64 / 1_000.0 - gap).abs() < 1.0 && (loss.to_us as f64 / 1_000.0 - again).abs() < 1.0,
            "{loss:?}"
        );
        assert_eq!((loss.packets, loss.concealed_us), (lost.into(), report.sides[0].concealed_us));
        let place = |ms: f64| (ms * 8.0) as usize;
        assert!(frames[place(gap)..place(gap + 10.0)].iter().any(|frame| frame[0] != 0), "made up");
        let silent = if lost == 50 { &frames[place(gap + 61.0)..place(again) - 1] } else { &[] };
        assert!(silent.iter().all(|frame| frame[0] == 0), "then silent");
    }
}

#[test]
fn reordered_and_duplicate_packets_are_played_once_in_order() {
    let mut spool = started();
    let mut caller = TestSender::new(&mut spool, Side::Caller);
    let stream = (caller.stream, caller.side);
    let mut packets = Vec::new();
    for n in 0..100_u32 {
        packets.push((at_ms(100.0 + 20.0 * f64::from(n)), caller.sequence, caller.time, caller.payload()));
        caller.skip();
    }
    // Every tenth packet is swapped with the next. Every fifteenth packet in the order of arrival is sent twice.
    for n in (0..99).step_by(10) {
        let (a, b) = (packets[n].0, packets[n + 1].0);
        packets.swap(n, n + 1);
        (packets[n].0, packets[n + 1].0) = (a, b);
    }
    for (n, (at, sequence, time, payload)) in packets.iter().enumerate() {
        let rtp = TestRtp { pt: 0, sequence: *sequence, time: *time, payload };
        spool.rtp(*at, stream, rtp);
        if n % 15 == 0 {
            spool.rtp(*at, stream, rtp);
        }
    }
    let (_, report, frames) = rendered(&ended(spool, 2_500.0));
    // The first swapped packet arrives 20 ms early. The earliest packet determines all positions, so they may be 20 ms
    // too early. So only the distances between packets are compared.
    let got = clicks(&frames, Side::Caller);
    assert_eq!(got.len(), 100);
    let steps: Vec<f64> = got.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(steps.iter().all(|step| (step - 20.0).abs() < 0.2), "{steps:?}");
    assert_eq!((report.sides[0].concealed_us, report.sides[0].late), (0, 0));
}

#[test]
fn changed_packet_duration_keeps_positions() {
    let mut spool = started();
    let mut caller = TestSender::new(&mut spool, Side::Caller);
    let mut expected = Vec::new();
    let mut now = 30.0;
    for ptime in [20, 10, 60, 120, 30] {
        caller.ptime_ms = ptime;
        expected.extend(every(now, f64::from(ptime), 20));
        now = caller.talk(&mut spool, now, 20);
    }
    let (_, report, frames) = rendered(&ended(spool, now + 10.0));
    assert_near(&clicks(&frames, Side::Caller), &expected, 0.13);
    assert_eq!(report.sides[0].concealed_us, 0);
}

#[test]
fn newest_of_overlapping_streams_wins_without_extending_the_recording() {
    let mut spool = started();
    let mut first = TestSender::new(&mut spool, Side::Callee);
    let mut second = TestSender::new(&mut spool, Side::Callee);
    for n in 0..100 {
        first.send(&mut spool, at_ms(100.0 + 20.0 * f64::from(n)));
        if n >= 50 {
            second.send(&mut spool, at_ms(110.0 + 20.0 * f64::from(n)));
        }
    }
    let (_, _, frames) = rendered(&ended(spool, 3_000.0));
    let mut expected = every(100.0, 20.0, 51);
    expected.extend(every(1_110.0, 20.0, 50));
    assert_near(&clicks(&frames, Side::Callee), &expected, 0.13);
}

#[test]
fn jumping_timestamps_and_restarted_sequence_keep_positions() {
    let mut spool = started();
    let mut caller = TestSender::new(&mut spool, Side::Caller);
    let mut now = 100.0;
    for jump in [0, 0x4000_0000, 123, 0x9000_0000] {
        caller.time = caller.time.wrapping_add(jump);
        now = caller.talk(&mut spool, now, 60);
    }
    caller.sequence = 30_000;
    caller.time = 5;
    now = caller.talk(&mut spool, now, 60);
    let (_, report, frames) = rendered(&ended(spool, now + 10.0));
    // A jump by 123 ticks (15 ms) is less than the minimum of a step. So the timeline follows it gradually, within some
    // seconds.
    assert_near(&clicks(&frames, Side::Caller), &every(100.0, 20.0, 300), 16.0);
    assert_eq!(report.sides[0].concealed_us, 0);
}

#[test]
fn sequence_restarting_slightly_lower_loses_no_packets() {
    // A step back by 60 packets is too small to be a restart by RFC 3550 appendix A.1. But the timestamps continue,
    // which proves a restart and not a late packet.
    for back in [60_u16, 400, 2_500] {
        for (pause_ms, stamps_jump) in [(0.0, 0), (0.0, 123_456_789), (31_000.0, 0), (31_000.0, 0x9000_0000)] {
            let mut spool = started();
            let mut caller = TestSender::new(&mut spool, Side::Caller);
            let before = u32::from(back) + 50;
            let end = caller.talk(&mut spool, 100.0, before);
            caller.sequence = caller.sequence.wrapping_sub(back);
            caller.time = caller.time.wrapping_add((8.0 * pause_ms) as u32).wrapping_add(stamps_jump);
            let last = caller.talk(&mut spool, end + pause_ms, 150);
            let (_, report, frames) = rendered(&ended(spool, last + 100.0));
            let mut expected = every(100.0, 20.0, before as usize);
            expected.extend(every(end + pause_ms, 20.0, 150));
            assert_near(&clicks(&frames, Side::Caller), &expected, 0.13);
            let side = &report.sides[0];
            assert_eq!(
                (side.decoded, side.late, side.burst_loss),
                (u64::from(before) + 150, 0, 0),
                "{back} back, {pause_ms} ms"
            );
        }
    }
}

#[test]
fn late_packet_is_played_within_5_s_and_moves_nothing() {
    for (arrives_ms, is_played) in [(2_310.0, true), (5_105.0, true), (6_900.0, true), (7_320.0, false)] {
        let mut spool = started();
        let mut caller = TestSender::new(&mut spool, Side::Caller);
        caller.talk(&mut spool, 100.0, 100);
        let (sequence, time, payload) = (caller.sequence, caller.time, caller.payload());
        caller.skip();
        caller.talk(&mut spool, 2_120.0, 290);
        let rtp = TestRtp { pt: 0, sequence, time, payload: &payload };
        spool.rtp(at_ms(arrives_ms), (caller.stream, caller.side), rtp);
        let (_, report, frames) = rendered(&ended(spool, 8_200.0));
        let mut expected = every(100.0, 20.0, 391);
        // If the click of the late packet is missing, the next click is blended with the concealment.
        let missing = if is_played { 100..100 } else { 100..102 };
        expected.drain(missing);
        assert_near(&clicks(&frames, Side::Caller), &expected, 0.13);
        let (side, lost) = (&report.sides[0], u64::from(!is_played));
        let counts = (side.decoded, side.late, side.burst_loss, side.concealed_us);
        assert_eq!(counts, (391 - lost, lost, lost, 20_000 * lost), "{arrives_ms}");
    }
}

#[test]
fn burst_loss_is_reported_and_a_restart_is_no_loss() {
    let mut spool = started();
    let mut caller = TestSender::new(&mut spool, Side::Caller);
    let mut now = caller.talk(&mut spool, 100.0, 100);
    for lost in [2, 7, 4] {
        (0..lost).for_each(|_| caller.skip());
        now = caller.talk(&mut spool, now + 20.0 * f64::from(lost), 100);
    }
    caller.sequence = caller.sequence.wrapping_add(20_000);
    now = caller.talk(&mut spool, now, 100);
    // Packets with much older sequence numbers arrive one at a time, e.g. keep-alives of a broken device. They do not
    // mean that packets were lost.
    for _ in 0..5 {
        let payload = caller.payload();
        let rtp =
            TestRtp { pt: 0, sequence: caller.sequence.wrapping_sub(700), time: caller.time + 80, payload: &payload };
        spool.rtp(at_ms(now - 1.0), (caller.stream, caller.side), rtp);
        now = caller.talk(&mut spool, now, 20);
    }
    let (_, report, _) = rendered(&ended(spool, now));
    let side = &report.sides[0];
    assert_eq!((side.decoded, side.late, side.burst_loss), (605, 0, 7));
}

#[test]
fn timestamps_in_milliseconds_are_detected_and_used() {
    let mut spool = started();
    let mut caller = TestSender::new(&mut spool, Side::Caller);
    let mut now = 100.0;
    for _ in 0..100 {
        let time = caller.time;
        caller.send(&mut spool, at_ms(now));
        caller.time = time.wrapping_add(20);
        now += 20.0;
    }
    let (_, report, frames) = rendered(&ended(spool, 2_500.0));
    assert_near(&clicks(&frames, Side::Caller), &every(100.0, 20.0, 100), 0.13);
    assert_eq!(report.sides[0].wrong_clocks, [(Ssrc(1_000), 8_000, 1_000)]);
}

#[test]
fn useless_timestamps_are_replaced_by_packet_durations() {
    // How broken senders make timestamps: always the same, one more for each packet, 20 ms for packets of 30 ms, or
    // another clock.
    type TestStamp = fn(u32) -> u32;
    let broken: [(&str, u32, TestStamp); 4] = [
        ("constant", 20, |_| 77),
        ("one a packet", 20, |n| n),
        ("160 for each 30 ms", 30, |n| n * 160),
        ("90 kHz", 20, |n| n.wrapping_mul(1_800)),
    ];
    for (name, ptime_ms, stamp) in broken {
        let mut spool = started();
        let mut caller = TestSender::new(&mut spool, Side::Caller);
        caller.ptime_ms = ptime_ms;
        let step = f64::from(ptime_ms);
        let mut expected = Vec::new();
        // The packets have jitter. During a pause of 5 s, timestamps and sequence numbers do not advance, but the sound
        // must move by 5 s.
        for n in 0..300_u32 {
            let pause = if n >= 200 { 5_000.0 } else { 0.0 };
            let heard = 100.0 + step * f64::from(n) + pause;
            expected.push(heard);
            caller.time = stamp(n);
            caller.send(&mut spool, at_ms(heard + f64::from((n * 37 % 7) * 4)));
        }
        let last = expected.last().unwrap() + 500.0;
        let (_, report, frames) = rendered(&ended(spool, last));
        assert_near(&clicks(&frames, Side::Caller), &expected, 0.6);
        let side = &report.sides[0];
        assert_eq!((side.decoded, side.concealed_us, side.broken_stamps), (300, 0, 300), "{name}");
        assert!(side.wrong_clocks.is_empty(), "{name}");
    }
}

#[test]
fn useless_timestamps_keep_gaps_and_positions_of_packets() {
    let mut spool = started();
    let mut caller = TestSender::new(&mut spool, Side::Caller);
    let mut expected = Vec::new();
    for n in 0..300_u32 {
        caller.time = 0;
        let at = 100.0 + 20.0 * f64::from(n);
        match n % 50 {
            // Of each 50 packets, numbers 20 and 21 are lost, and number 30 arrives after number 31.
            20 | 21 => caller.skip(),
            _ => caller.send(&mut spool, at_ms(at + if n % 50 == 30 { 25.0 } else { 0.0 })),
        }
        if !(20..=22).contains(&(n % 50)) {
            expected.push(at);
        }
    }
    let (_, report, frames) = rendered(&ended(spool, 7_000.0));
    let got: Vec<f64> =
        clicks(&frames, Side::Caller).into_iter().filter(|at| expected.iter().any(|e| (e - at).abs() < 1.0)).collect();
    assert_near(&got, &expected, 0.13);
    let side = &report.sides[0];
    assert_eq!((side.decoded, side.concealed_us, side.burst_loss, side.late), (288, 6 * 40_000, 2, 0));
}

#[test]
fn telephone_events_and_withheld_payloads_are_silent_and_move_nothing() {
    let mut spool = started();
    let mut caller = TestSender::new(&mut spool, Side::Caller);
    spool.payload(at_ms(0.0), caller.stream, 101, Some(format_of("TELEPHONE-EVENT", 8_000)));
    caller.talk(&mut spool, 100.0, 50);
    // A telephone-event of 200 ms has ten packets with one timestamp. The sequence numbers and the timestamps of the
    // sound continue after it.
    let stamp = caller.time;
    for n in 0..10 {
        let rtp = TestRtp { pt: 101, sequence: caller.sequence, time: stamp, payload: &[5, 10, 0, 160] };
        spool.header_only(at_ms(1_100.0 + 20.0 * f64::from(n)), (caller.stream, caller.side), rtp);
        caller.skip();
    }
    caller.talk(&mut spool, 1_300.0, 50);
    let stream = (caller.stream, caller.side);
    for n in 0..10 {
        let payload = caller.payload();
        let rtp = TestRtp { pt: 0, sequence: caller.sequence, time: caller.time, payload: &payload };
        spool.header_only(at_ms(2_300.0 + 20.0 * f64::from(n)), stream, rtp);
        caller.skip();
    }
    caller.talk(&mut spool, 2_500.0, 10);
    let (_, report, frames) = rendered(&ended(spool, 3_000.0));
    let mut expected = every(100.0, 20.0, 50);
    expected.extend(every(1_300.0, 20.0, 50));
    expected.extend(every(2_500.0, 20.0, 10));
    assert_near(&clicks(&frames, Side::Caller), &expected, 0.13);
    assert_eq!((report.sides[0].withheld, report.sides[0].events, report.sides[0].concealed_us), (10, 10, 0));
    assert!(frames[1_100 * 8 + 1..1_300 * 8 - 1].iter().all(|frame| frame[0] == 0));
    assert!(frames[2_300 * 8 + 1..2_500 * 8 - 1].iter().all(|frame| frame[0] == 0));
}

#[test]
fn comfort_noise_lasts_until_the_next_speech() {
    let mut spool = started();
    let mut caller = TestSender::new(&mut spool, Side::Caller);
    spool.payload(at_ms(0.0), caller.stream, 13, Some(format_of("CN", 8_000)));
    caller.talk(&mut spool, 100.0, 50);
    caller.pt = 13;
    caller.send_as(&mut spool, at_ms(1_100.0), &[50]);
    caller.pt = 0;
    caller.time = caller.time.wrapping_add(8 * 8_000 - 160);
    caller.talk(&mut spool, 9_100.0, 50);
    let (_, report, frames) = rendered(&ended(spool, 10_200.0));
    let mut expected = every(100.0, 20.0, 50);
    expected.extend(every(9_100.0, 20.0, 50));
    assert_near(&clicks(&frames, Side::Caller), &expected, 0.13);
    let noise = &frames[1_100 * 8 + 1..9_100 * 8 - 2];
    let quiet = noise.iter().filter(|frame| frame[0] == 0).count();
    // -50 dBov is an amplitude of about 100, so hardly any sample is 0.
    assert!(quiet < noise.len() / 20, "{quiet} of {} are silent", noise.len());
    assert!(noise.iter().all(|frame| frame[0].abs() < 400));
    assert_eq!((report.sides[0].comfort, report.sides[0].concealed_us), (1, 0));
}

#[test]
fn pause_without_loss_is_silent_for_codecs_without_silence_descriptors() {
    for (encoding, bytes) in [("PCMA", 160), ("L8", 160), ("L16", 320), ("G721", 80), ("G726-32", 80), ("GSM", 33)] {
        let mut spool = started();
        let mut caller = TestSender::new(&mut spool, Side::Caller);
        spool.payload(at_ms(0.0), caller.stream, 97, Some(format_of(encoding, 8_000)));
        caller.pt = 97;
        // After 200 ms of loud sound, the timestamps advance by 400 ms although no packet is missing. So the sender
        // paused, and the pause must be silent.
        let payload: Vec<u8> = (0..bytes).map(|n| if n % 20 < 10 { 0xD4 } else { 0x2B }).collect();
        (0..10).for_each(|n| caller.send_as(&mut spool, at_ms(100.0 + 20.0 * f64::from(n)), &payload));
        caller.time = caller.time.wrapping_add(400 * 8);
        (0..10).for_each(|n| caller.send_as(&mut spool, at_ms(700.0 + 20.0 * f64::from(n)), &payload));
        let (_, report, frames) = rendered(&ended(spool, 1_000.0));
        assert_eq!((report.sides[0].decoded, report.sides[0].concealed_us), (20, 0), "{encoding}");
        let pause = &frames[301 * 8..699 * 8];
        assert!(pause.iter().all(|frame| frame[0] == 0), "{encoding}: sound in a pause");
    }
}

#[test]
fn sound_outside_the_recorded_span_is_cut_to_the_sample() {
    let mut spool = SpoolBuilder::new();
    let mut caller = TestSender::new(&mut spool, Side::Caller);
    // The stream sounds from 0 to 2,000 ms, and the recording is from 1,005 to 1,495 ms.
    spool.decide(at_ms(1_005.0), crate::call::decision::Decision::Start);
    caller.talk(&mut spool, 0.0, 100);
    spool.end(at_ms(1_495.0));
    let (plan, report, frames) = rendered(&spool);
    assert_eq!(plan.samples, 490 * 8);
    assert_near(&clicks(&frames, Side::Caller), &every(15.0, 20.0, 24), 0.13);
    assert!(frames[0][0] != 0 && frames[490 * 8 - 1][0] != 0, "packets across the edges are cut, not dropped");
    // 24 packets begin inside the recorded period, and the sound of one earlier packet reaches into it.
    assert_eq!(report.sides[0].decoded, 25);
}

#[test]
fn early_media_is_sorted_and_last_packet_ends_unfinished_call() {
    let mut spool = SpoolBuilder::new();
    let mut caller = TestSender::new(&mut spool, Side::Caller);
    let mut callee = TestSender::new(&mut spool, Side::Callee);
    spool.decide(at_ms(0.0), crate::call::decision::Decision::Start);
    caller.talk(&mut spool, 2_000.0, 50);
    callee.talk(&mut spool, 100.0, 145);
    let (plan, _, frames) = rendered(&spool);
    assert_eq!(plan.ends_at, at_ms(2_980.0));
    assert_near(&clicks(&frames, Side::Caller), &every(2_000.0, 20.0, 49), 0.13);
    assert_near(&clicks(&frames, Side::Callee), &every(100.0, 20.0, 144), 0.13);
}

#[test]
fn undecodable_packets_are_silent_and_counted_by_reason() {
    use crate::call::decision::{Decision, MissingKeyReason};
    let mut spool = started();
    let mut caller = TestSender::new(&mut spool, Side::Caller);
    let mut callee = TestSender::new(&mut spool, Side::Callee);
    spool.payload(at_ms(0.0), caller.stream, 97, Some(format_of("WHATEVER", 8_000)));
    caller.pt = 97;
    caller.talk(&mut spool, 100.0, 10);
    caller.pt = 99;
    caller.talk(&mut spool, 300.0, 5);
    spool.decide(at_ms(0.0), Decision::Encrypted { stream: callee.stream, why: MissingKeyReason::DtlsSrtp });
    callee.talk(&mut spool, 100.0, 7);
    let (plan, report, frames) = rendered(&ended(spool, 1_000.0));
    assert!(!plan.has_sound);
    assert!(frames.iter().all(|frame| *frame == [0, 0]));
    let caller: Vec<(UndecodableReason, u64)> = report.sides[0].silent.clone().into_iter().collect();
    assert_eq!(
        caller,
        [
            (UndecodableReason::UnknownCodec("WHATEVER".to_owned()), 10),
            (UndecodableReason::UnknownPayloadType(PayloadType(99)), 5)
        ]
    );
    assert_eq!(report.sides[1].silent.get(&UndecodableReason::Encrypted(UndecryptableReason::DtlsSrtp)), Some(&7));
}

#[test]
fn change_to_an_unannounced_payload_type_is_a_reason_of_its_own() {
    let mut spool = started();
    let mut caller = TestSender::new(&mut spool, Side::Caller);
    let mut callee = TestSender::new(&mut spool, Side::Callee);
    caller.talk(&mut spool, 100.0, 10);
    callee.talk(&mut spool, 100.0, 20);
    caller.pt = 99;
    caller.talk(&mut spool, 300.0, 10);
    let (_, report, _) = rendered(&ended(spool, 1_000.0));
    assert_eq!(report.sides[0].silent, [(UndecodableReason::UnannouncedChange(PayloadType(99)), 10)].into());
    assert_eq!(report.sides[1].silent, [].into());
}

#[test]
fn wideband_side_makes_recording_wideband_and_narrowband_side_keeps_positions() {
    let mut spool = started();
    let mut caller = TestSender::new(&mut spool, Side::Caller);
    let callee = TestSender::new(&mut spool, Side::Callee);
    spool.payload(at_ms(0.0), callee.stream, 9, Some(format_of("G722", 8_000)));
    // Each 100 ms of sound have one click and are otherwise silent. So the position of each click can be measured,
    // although resampling smooths it.
    for n in 0..50_u32 {
        let mut payload = vec![0xFF; 160];
        if n % 5 == 0 {
            payload[80..84].fill(CLICK);
        }
        caller.send_as(&mut spool, at_ms(100.0 + 20.0 * f64::from(n)), &payload);
        let rtp = TestRtp { pt: 9, sequence: n as u16, time: 160 * n, payload: &[0x5A; 160] };
        spool.rtp(at_ms(100.0 + 20.0 * f64::from(n)), (callee.stream, callee.side), rtp);
    }
    let (plan, report, frames) = rendered(&ended(spool, 1_200.0));
    assert_eq!((plan.sample_rate, plan.samples), (16_000, 19_200));
    assert_eq!((report.sides[0].decoded, report.sides[1].decoded), (50, 50));
    for n in 0..10 {
        let from = (100 + 100 * n) * 16;
        let loudest = (from..from + 1_600).max_by_key(|&at| frames[at][0].abs()).unwrap();
        // The click begins at sample 80 of its packet at 8 kHz. So at 16 kHz its loudest sample is one of 160 to 167.
        assert!((160..=167).contains(&(loudest - from)), "{}", loudest - from);
    }
}

#[test]
fn the_same_spool_gives_the_same_samples() {
    let mut spool = started();
    let mut caller = TestSender::new(&mut spool, Side::Caller);
    caller.talk(&mut spool, 100.0, 50);
    caller.skip();
    caller.talk(&mut spool, 1_130.0, 50);
    let spool = ended(spool, 2_500.0);
    let (first, second) = (rendered(&spool), rendered(&spool));
    assert_eq!((first.1, first.2), (second.1, second.2));
}

#[test]
fn paused_span_is_silent() {
    use crate::call::decision::Decision;
    let mut spool = started();
    let mut caller = TestSender::new(&mut spool, Side::Caller);
    caller.talk(&mut spool, 100.0, 20);
    spool.decide(at_ms(500.0), Decision::Pause);
    // By mistake, the spool contains the payloads of packets that were sent during the pause. They must not be heard.
    caller.talk(&mut spool, 500.0, 20);
    spool.decide(at_ms(900.0), Decision::Resume);
    caller.talk(&mut spool, 900.0, 20);
    let (_, _, frames) = rendered(&ended(spool, 1_300.0));
    assert!(frames[500 * 8..900 * 8].iter().all(|frame| frame[0] == 0));
    assert!(frames[499 * 8][0] != 0 && frames[901 * 8][0] != 0);
}

#[test]
fn random_timestamps_never_panic_or_change_the_recording_length() {
    for seed in 0..40 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut spool = started();
        let streams = [TestSender::new(&mut spool, Side::Caller), TestSender::new(&mut spool, Side::Callee)];
        for (pt, encoding, clock) in [(13, "CN", 8_000), (96, "OPUS", 48_000), (97, "PCMA", 1), (18, "G729", 8_000)] {
            for sender in &streams {
                spool.payload(at_ms(0.0), sender.stream, pt, Some(format_of(encoding, clock)));
            }
        }
        let (mut sequence, mut time) = (random.u16(..), random.u32(..));
        for _ in 0..400 {
            // The higher the seed, the more often sequence numbers and timestamps jump.
            if random.u64(..40) < seed {
                (sequence, time) = (random.u16(..), random.u32(..));
            }
            sequence = sequence.wrapping_add(random.u16(..3));
            time = time.wrapping_add(random.u32(..400));
            let at = at_ms(random.f64() * 8_000.0);
            let sender = &streams[random.usize(..2)];
            let payload: Vec<u8> = (0..random.usize(..200)).map(|_| random.u8(..)).collect();
            let pt = [0, 8, 13, 96, 97, 18, 101][random.usize(..7)];
            spool.rtp(at, (sender.stream, sender.side), TestRtp { pt, sequence, time, payload: &payload });
        }
        rendered(&ended(spool, 6_000.0));
    }
}

#[test]
fn damaged_capture_time_is_bounded_to_a_week() {
    let mut spool = started();
    spool.end(Timestamp::from_nanos(i64::MAX));
    let plan = plan(&spool.source(), &RenderOptions::default()).unwrap();
    assert_eq!(plan.samples, 7 * 24 * 3_600 * 8_000);
}
