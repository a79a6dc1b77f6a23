//! The promise of the timeline, measured on whole calls: each 200 ms of each voice is looked for around the place
//! where it was heard. Offset and spread are stated for each kind of network, and what is missing is what was lost.

use callspan::call::config::Config;
use callspan::call::record::{Side, Verdict};

use crate::stage::{Phone, Recorded, Rtp, Stage, Wire, at_ms, record, voice};

/// A packet of a voice that was sent: which sample it begins with, when it was (or would have been) heard, and whether
/// the network lost it.
#[derive(Clone, Copy, Debug)]
struct Said {
    sample: u64,
    heard_ms: f64,
    lost: bool,
}

/// What was said, packet by packet, of one side.
struct Talk {
    phone: Phone,
    said: Vec<Said>,
}

/// What the network does to one packet.
#[derive(Clone, Copy, Debug, Default)]
struct Fate {
    lost: bool,
    late_ms: f64,
    twice: bool,
}

impl Talk {
    fn new(side: Side) -> Self {
        Self { phone: Phone::new(side), said: Vec::new() }
    }

    fn packet(&mut self, wire: &mut Wire, heard_ms: f64, fate: Fate) {
        self.said.push(Said { sample: self.phone.said, heard_ms, lost: fate.lost });
        let before = self.phone.clone();
        if fate.lost {
            self.phone.advance();
        } else {
            self.phone.send(wire, at_ms(heard_ms + fate.late_ms));
        }
        if fate.twice {
            before.clone().send(wire, at_ms(heard_ms + fate.late_ms + 0.3));
        }
    }

    /// Talks with a clock that is off by so many ppm through a network.
    fn run(&mut self, wire: &mut Wire, (from, to): (f64, f64), ppm: f64, mut network: impl FnMut(usize) -> Fate) {
        let step = f64::from(self.phone.ptime_ms) * (1.0 - ppm / 1e6);
        let count = ((to - from) / step + 1e-6) as usize;
        for n in 0..count {
            self.packet(wire, from + step * n as f64, network(n));
        }
    }

    /// The sender's stamps go on while it says nothing.
    fn rest(&mut self, ms: f64) {
        let ticks = (ms * 8.0).round();
        self.phone.time = self.phone.time.wrapping_add(ticks as u32);
        self.phone.said += ticks as u64;
    }
}

/// What a comparison found.
#[derive(Debug, Default)]
struct Score {
    /// Of each piece, ms; positive = too late.
    offsets: Vec<f64>,
    missing_ms: f64,
    lost_ms: f64,
}

impl Score {
    fn worst(&self) -> f64 {
        self.offsets.iter().fold(0.0, |worst, offset| offset.abs().max(worst))
    }

    fn spread(&self) -> f64 {
        let (low, high) = self.offsets.iter().fold((f64::MAX, f64::MIN), |(l, h), o| (l.min(*o), h.max(*o)));
        if self.offsets.is_empty() { 0.0 } else { high - low }
    }
}

/// Looks at every `each`th piece of 200 ms of a side.
fn score(recorded: &Recorded, talk: &Talk, each: usize) -> Score {
    let side = talk.phone.side;
    let channel: Vec<i32> = recorded.frames.iter().map(|f| i32::from(f[side.channel()])).collect();
    let length = talk.phone.samples() as usize;
    let packets = 1_600 / length;
    let mut score = Score::default();
    for piece in talk.said.chunks(packets).step_by(each) {
        // A piece across a rest is two things.
        let together = piece.windows(2).all(|pair| {
            let heard_ms = pair[1].heard_ms - pair[0].heard_ms;
            pair[1].sample == pair[0].sample + length as u64 && heard_ms < 1.5 * length as f64 / 8.0
        });
        if piece.len() < packets || !together {
            continue;
        }
        let said: Vec<i32> = (0..1_600).map(|n| i32::from(voice(side, piece[0].sample + n))).collect();
        let place = ((piece[0].heard_ms - 1_000.0) * 8.0).round() as i64;
        score.lost_ms += piece.iter().filter(|p| p.lost).count() as f64 * length as f64 / 8.0;
        let at = |lag: i64| usize::try_from(place + lag).ok().and_then(|from| channel.get(from..from + said.len()));
        let likeness = |lag: i64| at(lag).map_or(0.0, |heard| like(&said, heard));
        let best =
            |reach: i64| (-reach..=reach).map(|lag| (lag, likeness(lag))).max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
        // Noise is like nothing but itself: what is found near is it, and only what is not is looked for further away.
        let (lag, likeness) = Some(best(NEAR)).filter(|(_, likeness)| *likeness > 0.4).unwrap_or_else(|| best(SEARCH));
        if likeness < 0.2 {
            score.missing_ms += 200.0;
            continue;
        }
        score.offsets.push(lag as f64 / 8.0);
        let heard = at(lag).unwrap();
        // A sample taken out or put in for drift moves the rest of the piece by one.
        let there = |from: usize| {
            (-2_i64..=2).any(|slip| {
                let shifted = usize::try_from(place + lag + slip + from as i64).ok();
                shifted
                    .and_then(|s| channel.get(s..s + length))
                    .is_some_and(|h| like(&said[from..from + length], h) > 0.4)
            })
        };
        let missing = (0..heard.len()).step_by(length).filter(|from| !there(*from)).count();
        score.missing_ms += missing as f64 * length as f64 / 8.0;
    }
    score
}

/// Normalised correlation.
fn like(a: &[i32], b: &[i32]) -> f64 {
    let dot = |x: &[i32], y: &[i32]| x.iter().zip(y).map(|(x, y)| i64::from(x * y)).sum::<i64>() as f64;
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(1.0)
}

/// Where most pieces are: 2 ms.
const NEAR: i64 = 16;
/// So many samples around its place a piece is looked for: 30 ms.
const SEARCH: i64 = 240;

fn assert_within(name: &str, recorded: &Recorded, talks: &[Talk; 2], (bound_ms, each): (f64, usize)) {
    assert_eq!(recorded.record.verdict, Some(Verdict::BothSides));
    for talk in talks {
        let score = score(recorded, talk, each);
        println!(
            "{name}, {:?}: {} pieces, offset {:.2} ms, spread {:.2} ms, missing {} ms, lost {} ms",
            talk.phone.side,
            score.offsets.len(),
            score.worst(),
            score.spread(),
            score.missing_ms,
            score.lost_ms
        );
        assert!(score.offsets.len() >= 20, "{name}: enough was looked at");
        assert!(score.worst() <= bound_ms && score.spread() <= bound_ms, "{name}: {score:?}");
        assert!(score.missing_ms <= score.lost_ms, "{name}: missing {} of {}", score.missing_ms, score.lost_ms);
    }
}

fn both() -> [Talk; 2] {
    [Talk::new(Side::Caller), Talk::new(Side::Callee)]
}

#[test]
fn on_a_clean_network_both_sides_are_within_2_ms() {
    let (mut wire, mut talks) = (Wire::answered(), both());
    talks[0].run(&mut wire, (1_013.0, 21_000.0), 0.0, |_| Fate::default());
    talks[1].run(&mut wire, (1_407.0, 21_000.0), 0.0, |_| Fate::default());
    wire.bye(21_050.0);
    assert_within("clean", &record(wire), &talks, (2.0, 1));
}

#[test]
fn with_loss_of_1_percent_reordering_and_duplicates_both_sides_are_within_10_ms() {
    let (mut wire, mut talks) = (Wire::answered(), both());
    let mut random = fastrand::Rng::with_seed(1);
    for talk in &mut talks {
        talk.run(&mut wire, (1_020.0, 41_000.0), 0.0, |_| Fate {
            lost: random.u32(..100) == 0,
            // Now and then after the next one.
            late_ms: if random.u32(..50) == 0 { 25.0 } else { random.f64() * 2.0 },
            twice: random.u32(..50) == 0,
        });
    }
    wire.bye(41_050.0);
    assert_within("1 % loss, reordering, duplicates", &record(wire), &talks, (10.0, 1));
}

#[test]
fn with_loss_of_5_percent_and_jitter_of_60_ms_both_sides_are_within_20_ms() {
    let (mut wire, mut talks) = (Wire::answered(), both());
    let mut random = fastrand::Rng::with_seed(2);
    for talk in &mut talks {
        talk.run(&mut wire, (1_020.0, 41_000.0), 0.0, |_| Fate {
            lost: random.u32(..20) == 0,
            late_ms: random.f64() * 60.0,
            twice: false,
        });
    }
    wire.bye(41_100.0);
    assert_within("5 % loss, 60 ms jitter", &record(wire), &talks, (20.0, 1));
}

#[test]
fn clocks_that_are_off_by_150_ppm_each_way_are_within_20_ms_for_an_hour() {
    let (mut wire, mut talks) = (Wire::answered(), both());
    for (talk, ppm) in talks.iter_mut().zip([150.0, -150.0]) {
        talk.phone.ptime_ms = 40;
        talk.run(&mut wire, (1_020.0, 3_601_000.0), ppm, |_| Fate::default());
    }
    wire.bye(3_602_000.0);
    // Every sixth second.
    assert_within("150 ppm for an hour", &record(wire), &talks, (20.0, 30));
}

#[test]
fn after_a_pause_of_any_length_on_one_side_or_both_all_stands_where_it_was_heard() {
    for pause_ms in [80.0, 2_500.0, 31_000.0, 121_000.0, 1_200_000.0] {
        for (sides, stamps_run_on) in [(1, true), (1, false), (2, true), (2, false)] {
            let (mut wire, mut talks) = (Wire::answered(), both());
            let (again, end) = (4_000.0 + pause_ms, 7_000.0 + pause_ms);
            for (n, talk) in talks.iter_mut().enumerate() {
                talk.run(&mut wire, (1_020.0, 4_000.0), 0.0, |_| Fate::default());
                if n < sides {
                    if stamps_run_on {
                        talk.rest(pause_ms);
                    }
                } else {
                    talk.run(&mut wire, (4_000.0, again), 0.0, |_| Fate::default());
                }
                talk.run(&mut wire, (again, end), 0.0, |_| Fate::default());
            }
            wire.bye(end + 10.0);
            let name = format!("pause of {pause_ms} ms, {sides} sides, stamps run on: {stamps_run_on}");
            // With both silent for 20 minutes the call would be over by silence, as configured.
            let config = Config { silence_s: 3_600, ..Config::default() };
            let mut stage = Stage::new(config);
            stage.play(&wire.sorted());
            let recorded = stage.finish();
            assert_eq!(recorded.frames.len(), ((end + 10.0 - 1_000.0) * 8.0) as usize);
            // Of what the other says meanwhile a little is enough.
            for talk in &mut talks {
                talk.said.retain(|s| s.heard_ms < 6_000.0 || s.heard_ms >= again);
            }
            assert_within(&name, &recorded, &talks, (2.0, 1));
        }
    }
}

#[test]
fn comfort_noise_a_hold_another_codec_and_another_ssrc_move_nothing() {
    let (mut wire, mut talks) = (Wire::answered(), both());
    for talk in &mut talks {
        talk.run(&mut wire, (1_020.0, 5_000.0), 0.0, |_| Fate::default());
    }
    // The caller is silent by DTX for 3 s (RFC 3389), then holds for 40 s.
    let caller = &mut talks[0];
    let noise = Rtp {
        pt: 13,
        sequence: caller.phone.sequence,
        time: caller.phone.time,
        ssrc: caller.phone.ssrc,
        payload: &[60],
    };
    wire.rtp(at_ms(5_000.0), Side::Caller, noise);
    caller.phone.sequence = caller.phone.sequence.wrapping_add(1);
    caller.rest(3_000.0);
    caller.run(&mut wire, (8_000.0, 12_000.0), 0.0, |_| Fate::default());
    talks[1].run(&mut wire, (5_000.0, 12_000.0), 0.0, |_| Fate::default());
    wire.reinvite(12_000.0, "sendonly");
    wire.reinvite(52_000.0, "sendrecv");
    // Afterwards the caller has another SSRC, stamps and sequence; the callee goes on in PCMA.
    talks[0].phone.ssrc = 0xABCD;
    (talks[0].phone.sequence, talks[0].phone.time) = (7, 99);
    talks[1].rest(40_000.0);
    talks[1].phone.pt = 8;
    for talk in &mut talks {
        talk.run(&mut wire, (52_020.0 - 20.0 * f64::from(u8::from(talk.phone.pt == 8)), 60_000.0), 0.0, |_| {
            Fate::default()
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
    // White noise at a quarter of full scale: -12 dBFS. MOS of G.711 without loss, see the E-model.
    assert_eq!((side.peak_dbfs.map(f64::round), side.clipped_samples, side.mos), (Some(-12.0), Some(0), Some(4.33)));
    assert!(side.talk_s.is_some_and(|s| (18.0..19.5).contains(&s)), "{:?}", side.talk_s);
}
