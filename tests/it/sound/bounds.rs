//! Tests of the accuracy of the timeline in whole calls. Each 200 ms of speech is searched in the recording around the
//! time at which it was sent.
//!
//! The tests limit offset and spread for each kind of network. The missing speech must not exceed the lost packets.

use callspan::call::config::Config;
use callspan::call::record::{CallVerdict, Side};

use crate::sound::score::{PacketFate, SpokenSide, score};
use crate::support::phones::{EngineWithSpool, MirroredTraffic, RecordedCall, RtpPacket, at_ms, record};

fn assert_within(name: &str, recorded: &RecordedCall, talks: &[SpokenSide; 2], (bound_ms, each): (f64, usize)) {
    assert_eq!(recorded.record.verdict, Some(CallVerdict::BothSides));
    for talk in talks {
        let score = score(recorded, talk, each);
        eprintln!(
            "{name}, {:?}: {} pieces, offset {:.2} ms, spread {:.2} ms, missing {} ms, lost {} ms, level {:.3} dB, \
             leakage {:.0} dB",
            talk.phone.side,
            score.offsets.len(),
            score.worst(),
            score.spread(),
            score.missing_ms,
            score.lost_ms,
            score.level_db(),
            score.leakage_db()
        );
        assert!(score.offsets.len() >= 20, "{name}: enough was looked at");
        assert!(score.worst() <= bound_ms && score.spread() <= bound_ms, "{name}: {score:?}");
        assert!(score.missing_ms <= score.lost_ms, "{name}: missing {} of {}", score.missing_ms, score.lost_ms);
        // Three effects change the level of 200 ms of speech: mu-law, an inserted or removed sample, and the cross-fade
        // after a loss.
        assert!(score.levels.len() >= 5 && score.level_db() <= 0.2, "{name}: level off by {} dB", score.level_db());
        assert!(score.leakage_db() <= -30.0, "{name}: leakage {} dB", score.leakage_db());
    }
}

fn both() -> [SpokenSide; 2] {
    [SpokenSide::new(Side::Caller), SpokenSide::new(Side::Callee)]
}

#[test]
fn on_a_clean_network_both_sides_are_within_2_ms() {
    let (mut wire, mut talks) = (MirroredTraffic::answered(), both());
    talks[0].run(&mut wire, (1_013.0, 21_000.0), 0.0, |_| PacketFate::default());
    talks[1].run(&mut wire, (1_407.0, 21_000.0), 0.0, |_| PacketFate::default());
    wire.bye(21_050.0);
    assert_within("clean", &record(wire), &talks, (2.0, 1));
}

#[test]
fn loss_of_1_percent_and_reordering_stay_within_10_ms() {
    let (mut wire, mut talks) = (MirroredTraffic::answered(), both());
    let mut random = fastrand::Rng::with_seed(1);
    for talk in &mut talks {
        talk.run(&mut wire, (1_020.0, 41_000.0), 0.0, |_| PacketFate {
            lost: random.u32(..100) == 0,
            // One packet in fifty is so late that it arrives after the next one.
            late_ms: if random.u32(..50) == 0 { 25.0 } else { random.f64() * 2.0 },
            twice: random.u32(..50) == 0,
        });
    }
    wire.bye(41_050.0);
    assert_within("1 % loss, reordering, duplicates", &record(wire), &talks, (10.0, 1));
}

#[test]
fn loss_of_5_percent_and_60_ms_jitter_stay_within_20_ms() {
    let (mut wire, mut talks) = (MirroredTraffic::answered(), both());
    let mut random = fastrand::Rng::with_seed(2);
    for talk in &mut talks {
        talk.run(&mut wire, (1_020.0, 41_000.0), 0.0, |_| PacketFate {
            lost: random.u32(..20) == 0,
            late_ms: random.f64() * 60.0,
            twice: false,
        });
    }
    wire.bye(41_100.0);
    assert_within("5 % loss, 60 ms jitter", &record(wire), &talks, (20.0, 1));
}

#[test]
fn speech_keeps_its_place_after_pauses_of_any_length() {
    for pause_ms in [80.0, 2_500.0, 31_000.0, 121_000.0, 1_200_000.0] {
        for (sides, stamps_run_on) in [(1, true), (1, false), (2, true), (2, false)] {
            let (mut wire, mut talks) = (MirroredTraffic::answered(), both());
            let (again, end) = (4_000.0 + pause_ms, 7_000.0 + pause_ms);
            for (n, talk) in talks.iter_mut().enumerate() {
                talk.run(&mut wire, (1_020.0, 4_000.0), 0.0, |_| PacketFate::default());
                if n < sides {
                    if stamps_run_on {
                        talk.rest(pause_ms);
                    }
                } else {
                    talk.run(&mut wire, (4_000.0, again), 0.0, |_| PacketFate::default());
                }
                talk.run(&mut wire, (again, end), 0.0, |_| PacketFate::default());
            }
            wire.bye(end + 10.0);
            let name = format!("pause of {pause_ms} ms, {sides} sides, stamps run on: {stamps_run_on}");
            // Both sides are silent for 20 minutes. With the default configuration the call would end.
            let config = Config { silence_s: 3_600, ..Config::default() };
            let mut stage = EngineWithSpool::new(config);
            stage.play(&wire.sorted());
            let recorded = stage.finish();
            assert_eq!(recorded.frames.len(), ((end + 10.0 - 1_000.0) * 8.0) as usize);
            // A few pieces of the other side's speech are enough.
            for talk in &mut talks {
                talk.said.retain(|s| s.heard_ms < 6_000.0 || s.heard_ms >= again);
            }
            assert_within(&name, &recorded, &talks, (2.0, 1));
        }
    }
}

#[test]
fn comfort_noise_a_hold_another_codec_and_another_ssrc_move_nothing() {
    let (mut wire, mut talks) = (MirroredTraffic::answered(), both());
    for talk in &mut talks {
        talk.run(&mut wire, (1_020.0, 5_000.0), 0.0, |_| PacketFate::default());
    }
    // The caller sends comfort noise instead of silence for 3 s (RFC 3389), and then holds for 40 s.
    let caller = &mut talks[0];
    let noise = RtpPacket {
        pt: 13,
        sequence: caller.phone.sequence,
        time: caller.phone.time,
        ssrc: caller.phone.ssrc,
        payload: &[60],
    };
    wire.rtp(at_ms(5_000.0), Side::Caller, noise);
    caller.phone.sequence = caller.phone.sequence.wrapping_add(1);
    caller.rest(3_000.0);
    caller.run(&mut wire, (8_000.0, 12_000.0), 0.0, |_| PacketFate::default());
    talks[1].run(&mut wire, (5_000.0, 12_000.0), 0.0, |_| PacketFate::default());
    wire.reinvite(12_000.0, "sendonly");
    wire.reinvite(52_000.0, "sendrecv");
    // After the hold, the caller has another SSRC, timestamp and sequence number, and the callee sends PCMA.
    talks[0].phone.ssrc = 0xABCD;
    (talks[0].phone.sequence, talks[0].phone.time) = (7, 99);
    talks[1].rest(40_000.0);
    talks[1].phone.pt = 8;
    for talk in &mut talks {
        talk.run(&mut wire, (52_020.0 - 20.0 * f64::from(u8::from(talk.phone.pt == 8)), 60_000.0), 0.0, |_| {
            PacketFate::default()
        });
    }
    wire.bye(60_010.0);
    let recorded = record(wire);
    assert_within("DTX, hold, codec, SSRC", &recorded, &talks, (2.0, 1));
    let kinds: Vec<&str> = recorded.record.events.iter().map(|e| e.kind.as_str()).collect();
    assert!(kinds.contains(&"hold") && kinds.contains(&"resume"), "{kinds:?}");
    let side = &recorded.record.sides.callee;
    assert_eq!(
        (side.codecs.as_slice(), side.burst_loss, side.late),
        (&["PCMU".to_owned(), "PCMA".to_owned()][..], Some(0), Some(0))
    );
    // The voice is white noise at a quarter of full scale, i.e. -12 dBFS. The MOS is that of the E-model for G.711
    // without loss.
    assert_eq!((side.peak_dbfs.map(f64::round), side.clipped_samples, side.mos), (Some(-12.0), Some(0), Some(4.33)));
    assert!(side.talk_s.is_some_and(|s| (18.0..19.5).contains(&s)), "{:?}", side.talk_s);
}

#[test]
fn the_yardstick_sees_another_level_a_leak_and_a_shift() {
    let (mut wire, mut talks) = (MirroredTraffic::answered(), both());
    for talk in &mut talks {
        talk.run(&mut wire, (1_020.0, 9_000.0), 0.0, |_| PacketFate::default());
    }
    wire.bye(9_050.0);
    let good = record(wire);
    let found = |change: &dyn Fn(usize, [i16; 2]) -> [i16; 2]| {
        let frames = good.frames.iter().enumerate().map(|(n, frame)| change(n, *frame)).collect();
        let score = score(&good.with_frames(frames), &talks[0], 1);
        (score.level_db(), score.leakage_db(), score.worst())
    };
    let (level, leakage, offset) = found(&|_, frame| frame);
    assert!(level < 0.1 && leakage < -30.0 && offset == 0.0, "{level} {leakage} {offset}");
    assert!((found(&|_, [left, right]| [left / 2, right]).0 - 6.02).abs() < 0.1, "half of it");
    assert!(
        (found(&|_, [left, right]| [left, right / 2 + left / 10]).1 + 20.0).abs() < 1.0,
        "a tenth on the other side"
    );
    assert_eq!(found(&|n, _| good.frames[n.saturating_sub(8)]).2, 1.0, "a millisecond later");
}

#[test]
fn a_side_that_is_silent_has_not_a_trace_of_the_other() {
    let (mut wire, mut talks) = (MirroredTraffic::answered(), both());
    talks[0].run(&mut wire, (1_020.0, 5_000.0), 0.0, |_| PacketFate::default());
    talks[0].rest(4_000.0);
    talks[1].rest(4_000.0);
    talks[1].run(&mut wire, (5_020.0, 9_000.0), 0.0, |_| PacketFate::default());
    wire.bye(9_050.0);
    let recorded = record(wire);
    let loudest = |channel: usize, (from, to): (usize, usize)| {
        recorded.frames[8 * from..8 * to].iter().map(|frame| frame[channel].unsigned_abs()).max().unwrap()
    };
    assert_eq!((loudest(1, (0, 4_000)), loudest(0, (4_001, 8_000))), (0, 0));
    assert!(loudest(0, (20, 4_000)) > 8_000 && loudest(1, (4_020, 8_000)) > 8_000);
}

#[test]
fn what_was_late_lost_in_a_row_and_clipped_is_counted() {
    let (mut wire, mut talks) = (MirroredTraffic::answered(), both());
    for talk in &mut talks {
        talk.run(&mut wire, (1_020.0, 4_000.0), 0.0, |_| PacketFate::default());
    }
    let caller = &mut talks[0];
    // Seven packets in a row are lost, and later two. Another packet arrives 5.5 s late, but the jitter buffer waits
    // only 5 s.
    caller.run(&mut wire, (4_000.0, 6_000.0), 0.0, |n| PacketFate {
        lost: (10..17).contains(&n) || (50..52).contains(&n),
        late_ms: if n == 80 { 5_500.0 } else { 0.0 },
        twice: false,
    });
    // 50 samples have the largest values of mu-law, as if the sound was clipped before encoding.
    let mut payload = caller.phone.payload();
    payload[40..90].fill(0x80);
    payload[60] = 0x00;
    let phone = &caller.phone;
    let rtp = RtpPacket { pt: 0, sequence: phone.sequence, time: phone.time, ssrc: phone.ssrc, payload: &payload };
    wire.rtp(at_ms(6_000.0), Side::Caller, rtp);
    caller.phone.advance();
    caller.run(&mut wire, (6_020.0, 12_000.0), 0.0, |_| PacketFate::default());
    talks[1].run(&mut wire, (4_000.0, 12_000.0), 0.0, |_| PacketFate::default());
    wire.bye(12_010.0);
    let record = record(wire).record;
    let counts = |side: Side| {
        let side = record.sides.get(side);
        (side.late, side.burst_loss, side.clipped_samples, side.concealed_ms)
    };
    // Concealment fills 60 ms for the seven packets, 40 ms for the two, and 20 ms for the late one.
    assert_eq!(counts(Side::Caller), (Some(1), Some(7), Some(50), Some(120)));
    assert_eq!(counts(Side::Callee), (Some(0), Some(0), Some(0), Some(0)));
    // The peak is 32124 of 32768.
    assert_eq!(record.sides.caller.peak_dbfs, Some(-0.2));
    let problems: Vec<_> = record.problems.iter().map(|p| (p.kind.as_str(), p.packets)).collect();
    // Nine packets did not arrive, and one was late.
    assert_eq!(problems, [("lost_before_us", Some(9)), ("late", Some(1))]);
}

#[test]
fn sequence_numbers_that_restart_at_each_hold_lose_nothing() {
    // The sender repeats its sequence numbers: once within the 10 s in which duplicates are recognised, and once after
    // these 10 s. In half of the cases the timestamps are repeated, too.
    for (first_ms, stamps_too) in [(6_000.0, false), (6_000.0, true), (24_000.0, false), (24_000.0, true)] {
        let (mut wire, mut talks) = (MirroredTraffic::answered(), both());
        (talks[0].phone.sequence, talks[0].phone.time) = (0, 0);
        let mut now = 1_020.0;
        for _ in 0..3 {
            for talk in &mut talks {
                talk.run(&mut wire, (now, now + first_ms), 0.0, |_| PacketFate::default());
                talk.rest(31_000.0);
            }
            wire.reinvite(now + first_ms + 3.0, "sendonly");
            now += first_ms + 31_000.0;
            wire.reinvite(now - 15.0, "sendrecv");
            talks[0].phone.sequence = 0;
            if stamps_too {
                talks[0].phone.time = 0;
            }
        }
        wire.bye(now);
        let recorded = record(wire);
        assert_within(&format!("{first_ms} ms, stamps too: {stamps_too}"), &recorded, &talks, (2.0, 1));
        let side = &recorded.record.sides.caller;
        assert_eq!((side.packets, side.lost, side.late), (3 * first_ms as u64 / 20, 0, Some(0)));
    }
}

#[test]
fn broken_timestamps_are_a_problem_but_leave_the_sound_intact() {
    let (mut wire, mut talks) = (MirroredTraffic::answered(), both());
    for (talk, stamp) in talks.iter_mut().zip([None, Some(0)]) {
        for n in 0..1_000 {
            talk.phone.time = stamp.unwrap_or(talk.phone.time);
            talk.packet(&mut wire, 1_020.0 + 20.0 * f64::from(n), PacketFate::default());
        }
    }
    wire.bye(21_050.0);
    let recorded = record(wire);
    assert_within("constant stamps", &recorded, &talks, (2.0, 1));
    let problems: Vec<_> = recorded.record.problems.iter().map(|p| (p.kind.as_str(), p.packets)).collect();
    assert_eq!(problems, [("broken_stamps", Some(1_000))]);
}
