use super::*;
use crate::codec::CompandingLaw;
use crate::codec::g711::linear_values;

/// Returns code words of A-law: 20 ms of a square wave with some noise.
fn packet(half_period: usize, amplitude: u8, seed: u64) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let wave = (0..160_usize).map(|n| if (n / half_period).is_multiple_of(2) { 0x80 } else { 0 });
    wave.map(|sign| (sign | (amplitude + rng.u8(0..2))) ^ 0x55).collect()
}

/// Returns the measured loudness and pitch (outline) of a side that sends packets of 20 ms, beginning at a capture time
/// in ms.
fn outline_of(side: Side, from_ms: i64, packets: impl IntoIterator<Item = Vec<u8>>) -> SoundOutline {
    let mut outline = SoundOutline::default();
    add(&mut outline, side, from_ms, packets);
    outline
}

fn add(outline: &mut SoundOutline, side: Side, from_ms: i64, packets: impl IntoIterator<Item = Vec<u8>>) {
    outline.listen(Timestamp::from_micros(from_ms * 1_000));
    for (n, packet) in (0..).zip(packets) {
        let at = Timestamp::from_micros((from_ms + 20 * n) * 1_000);
        if outline.is_listening(at) {
            outline.add(side, at, &packet, Some(linear_values(CompandingLaw::A)));
        }
    }
}

/// Returns ten seconds of something like speech: syllables of random length, loudness and pitch, and pauses.
fn speech(seed: u64, noise: u64) -> Vec<Vec<u8>> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut out = Vec::new();
    while out.len() < 500 {
        let (length, loud) = (rng.usize(4..20), if rng.u8(0..3) == 0 { 0 } else { rng.u8(60..110) });
        let half_period = rng.usize(3..20);
        out.extend((0..length as u64).map(|n| packet(half_period, loud, noise + n)));
    }
    out
}

fn tone(half_period: usize, seconds: usize) -> Vec<Vec<u8>> {
    (0..seconds as u64 * 50).map(|n| packet(half_period, 80, n)).collect()
}

fn likeness(a: &[Vec<u8>], b: &[Vec<u8>], delay_ms: i64) -> SoundLikeness {
    let own = outline_of(Side::Caller, 1_000_000, a.iter().cloned());
    let other = outline_of(Side::Callee, 1_000_000 + delay_ms, b.iter().cloned());
    own.compare(Side::Caller, &other, Side::Callee)
}

#[test]
fn speech_with_other_bytes_is_recognised_at_each_delay_of_a_pbx() {
    for seed in 0..50 {
        for delay_ms in [0, 30, 150, 350] {
            assert_eq!(
                likeness(&speech(seed, 0), &speech(seed, 9), delay_ms),
                SoundLikeness::Same,
                "{seed} {delay_ms}"
            );
        }
    }
}

#[test]
fn two_speeches_differ() {
    let found = (0..50).map(|seed| likeness(&speech(seed, 0), &speech(seed + 1_000, 0), 20));
    let same = found.filter(|found| *found != SoundLikeness::Different).count();
    // By chance, one of fifty pairs of different speeches may look alike for four seconds.
    assert!(same <= 1, "{same} of 50 pairs look the same");
}

#[test]
fn tones_are_compared_by_their_pitch() {
    assert_eq!(likeness(&tone(4, 8), &tone(4, 8), 40), SoundLikeness::Same);
    assert_eq!(likeness(&tone(4, 8), &tone(6, 8), 40), SoundLikeness::Different);
}

/// Returns 20 ms packets of a square wave, which begin `shift` samples after its beginning.
fn pitched(hz: usize, shift: usize, seconds: usize) -> Vec<Vec<u8>> {
    let sample = |n: usize| if ((n + shift) * 2 * hz / 8_000).is_multiple_of(2) { 0x80 } else { 0 };
    (0..seconds * 50).map(|packet| (0..160).map(|n| (sample(packet * 160 + n) | 80) ^ 0x55).collect()).collect()
}

/// Fax machines, alarm lines and test calls send steady tones. Two of them may have almost the same pitch.
#[test]
fn two_tones_of_almost_one_pitch_differ() {
    for (own, other) in [(400, 500), (1_000, 1_100), (1_800, 2_000)] {
        let found = likeness(&pitched(own, 0, 8), &pitched(other, 0, 8), 40);
        assert_eq!(found, SoundLikeness::Different, "{own} and {other} Hz");
    }
    for (hz, shift) in [(400, 7), (425, 13), (1_000, 3), (1_100, 5), (2_000, 1)] {
        let found = likeness(&pitched(hz, 0, 8), &pitched(hz, shift, 8), 40);
        assert_eq!(found, SoundLikeness::Same, "{hz} Hz, {shift} samples later");
    }
}

#[test]
fn four_seconds_that_look_alike_are_no_proof() {
    // Both legs carry the same speech for four seconds, i.e. for one time window of the comparison. Then they carry
    // different speeches.
    let legs = |seed: u64, noise: u64, later: u64| -> Vec<Vec<u8>> {
        speech(seed, noise).into_iter().take(200).chain(speech(seed + later, 0)).collect()
    };
    let found = (0..20).map(|seed| likeness(&legs(seed, 0, 1_000), &legs(seed, 9, 2_000), 0));
    let same = found.filter(|found| *found == SoundLikeness::Same).count();
    // By chance, a second window of four seconds of two different speeches may look alike. So of the twenty pairs of
    // legs, up to two may count as the same sound.
    assert!(same <= 2, "{same} of 20 pairs look the same");
}

#[test]
fn the_noise_of_a_quiet_line_is_no_tone_of_another_leg() {
    // The test's noise has an amplitude of 48 dB below full scale, and the pitch of the tone. Noise is no tone.
    let noise: Vec<Vec<u8>> = (0..400).map(|n| packet(4, 4, n)).collect();
    assert_eq!(likeness(&tone(4, 8), &noise, 0), SoundLikeness::Different);
    assert_eq!(likeness(&noise, &tone(4, 8), 0), SoundLikeness::Different);
}

#[test]
fn silence_and_a_few_seconds_prove_nothing() {
    let silence = || (0..500).map(|n| packet(4, 0, n)).collect::<Vec<_>>();
    assert_eq!(likeness(&silence(), &silence(), 0), SoundLikeness::Unknown);
    assert_eq!(likeness(&tone(4, 4), &tone(6, 4), 0), SoundLikeness::Unknown);
}

#[test]
fn a_voice_that_the_other_leg_does_not_send_is_missing() {
    let voice = outline_of(Side::Callee, 1_000_000, tone(4, 5));
    let mut other = outline_of(Side::Caller, 1_000_000, tone(6, 8));
    assert_eq!(voice.compare(Side::Callee, &other, Side::Callee), SoundLikeness::Missing);
    // The other leg had ended or was not measured yet, so nothing shows that the voice is missing there.
    other = outline_of(Side::Caller, 1_004_000, tone(6, 8));
    assert_eq!(voice.compare(Side::Callee, &other, Side::Callee), SoundLikeness::Unknown);
}

#[test]
fn an_outline_stays_within_its_bounds() {
    let mut outline = SoundOutline::default();
    for round in 0..40 {
        add(&mut outline, Side::Caller, 1_000_000 + round * 60_000, tone(4, 30));
    }
    assert!(outline.points.len() <= MAX_POINTS && outline.points.capacity() <= MAX_POINTS);
    // If an outline has its maximum number of measurements, new seconds replace the oldest seconds.
    add(&mut outline, Side::Caller, 9_000_000, speech(1, 0));
    let newest = outline_of(Side::Caller, 9_000_000, speech(1, 9));
    assert_eq!(newest.compare(Side::Caller, &outline, Side::Caller), SoundLikeness::Same);
    assert_eq!(outline.points.len(), MAX_POINTS);
    // Times that go back, empty payloads and unknown codecs must not cause a panic.
    outline.add(Side::Caller, Timestamp::EPOCH, &[], None);
    outline.add(Side::Callee, Timestamp::from_nanos(i64::MAX), &[], None);
    outline.add(Side::Callee, Timestamp::from_nanos(i64::MIN), &[1], None);
}

#[test]
fn a_followed_outline_has_its_beginning_and_its_newest_seconds() {
    let mut outline = SoundOutline::default();
    let begin_ms = 1_000_000;
    let at = |ms: i64| Timestamp::from_micros((begin_ms + ms) * 1_000);
    outline.listen(at(0));
    let mut pieces = 0;
    for ms in (0..600_000).step_by(20) {
        if ms >= 20_000 && ms % 10_000 == 0 {
            outline.follow(at(ms));
        }
        assert!(outline.is_listening(at(ms)));
        outline.add(Side::Caller, at(ms), &packet(4, 80, ms as u64), Some(linear_values(CompandingLaw::A)));
        pieces += usize::from(outline.take_due_piece().is_some());
    }
    let seconds = |outline: &SoundOutline| -> Vec<i64> {
        outline.points.chunks(10).map(|points| (points[0].tenth * 100 - begin_ms) / 1_000).collect()
    };
    let expected: Vec<i64> = (0..20).chain(570..600).collect();
    assert_eq!(seconds(&outline), expected);
    assert!(pieces <= 10, "the rolling points are not stored: {pieces} pieces");
    // At the end of a leg, the newest seconds are kept, too.
    while outline.take_last_piece().is_some() {}
    outline.listen(at(700_000));
    outline.follow(at(700_000));
    assert_eq!(seconds(&outline), expected);
}

/// Adds packets of both sides to an outline; the callee stops after 200 packets. Returns the pieces of the outline as
/// JSON, as the spool stores them.
fn pieces_of(outline: &mut SoundOutline, from_ms: i64, packets: &[Vec<u8>]) -> Vec<String> {
    outline.listen(Timestamp::from_micros(from_ms * 1_000));
    let mut pieces = Vec::new();
    for (n, packet) in (0..).zip(packets) {
        let at = Timestamp::from_micros((from_ms + 20 * n) * 1_000);
        outline.add(Side::Caller, at, packet, Some(linear_values(CompandingLaw::A)));
        if n < 200 {
            outline.add(Side::Callee, at, packet, None);
        }
        pieces.extend(outline.take_due_piece());
    }
    pieces.extend(std::iter::from_fn(|| outline.take_last_piece()));
    pieces.iter().map(|piece| serde_json::to_string(piece).expect("JSON")).collect()
}

#[test]
fn an_outline_is_put_together_from_its_pieces() {
    let mut outline = SoundOutline::default();
    let mut pieces = pieces_of(&mut outline, 1_000_000, &speech(1, 0));
    // After a pause of minutes, another ten seconds of the leg are measured. So the spool has pieces of the outline
    // from two times.
    pieces.extend(pieces_of(&mut outline, 1_200_000, &speech(2, 0)));
    assert!(pieces.iter().all(|piece| piece.len() < 700), "{pieces:?}");
    let mut restored = SoundOutline::default();
    for piece in &pieces {
        restored.restore(&serde_json::from_str(piece).expect("a piece"));
    }
    let facts = |outline: &SoundOutline| -> Vec<(i64, Option<SideSound>)> {
        outline.points.iter().map(|point| (point.tenth, point.sides[0])).collect()
    };
    assert!(facts(&restored).len() >= 200, "ten seconds twice");
    assert_eq!(facts(&restored), facts(&outline));
    assert_eq!(restored.sound_at(10_002, Side::Callee), Some(SideSound::Unmeasured));
    assert_eq!(restored.take_last_piece(), None, "nothing is stored twice");
}

#[test]
fn a_damaged_piece_adds_no_impossible_time() {
    let mut outline = SoundOutline::default();
    for (tenth, caller) in [(i64::MAX, "3040"), (i64::MIN, "3040"), (5, "30"), (6, "зззз"), (7, "00g0+4ff")] {
        let piece = format!(r#"{{"tenth":{tenth},"caller":"{caller}","callee":""}}"#);
        outline.restore(&serde_json::from_str(&piece).expect("a piece"));
    }
    let long = format!(r#"{{"tenth":9,"caller":"{}","callee":""}}"#, "4040".repeat(5_000));
    outline.restore(&serde_json::from_str(&long).expect("a piece"));
    assert!(outline.points.len() <= 70 && outline.points.iter().all(|point| point.tenth < 100));
    assert_eq!(outline.compare(Side::Caller, &outline.clone(), Side::Caller), SoundLikeness::Same);
}

/// Returns the packets of a tone: in each period, `on` packets with the tone, and `off` quiet packets.
fn beeps(on: usize, off: usize, periods: usize) -> Vec<Vec<u8>> {
    let period = || (0..on).map(|n| packet(9, 80, n as u64)).chain((0..off).map(|n| packet(160, 0, n as u64)));
    (0..periods).flat_map(|_| period()).collect()
}

#[test]
fn only_a_whole_busy_tone_is_a_tone() {
    let end_ms = 1_000_000;
    // Each item of `parts` is the time from the end of the call to a sound, in ms, and the packets of this sound.
    let rest = |parts: &[(i64, Vec<Vec<u8>>)], last_ms: i64| {
        let mut outline = SoundOutline::default();
        for (from_ms, packets) in parts {
            add(&mut outline, Side::Caller, end_ms + from_ms, packets.iter().cloned());
        }
        let [end, last] = [end_ms, end_ms + last_ms].map(|ms| Timestamp::from_micros(ms * 1_000));
        outline.rest_between(end, last)
    };
    let busy = |periods| beeps(18, 17, periods);
    let silence = |ms: usize| vec![packet(160, 0, 1); ms / 20];
    assert_eq!(rest(&[(0, busy(12))], 8_400), RestOfSound::Tone);
    assert_eq!(rest(&[(0, beeps(37, 38, 6))], 9_000), RestOfSound::Tone, "0.75 s on and off");
    assert_eq!(rest(&[(0, silence(4_000))], 4_000), RestOfSound::Silence);
    let speech = RestOfSound::Speech;
    let ringback: Vec<_> = (0..4).flat_map(|_| [beeps(20, 10, 2), silence(1_800)].concat()).collect();
    assert_eq!(rest(&[(0, ringback)], 10_000), speech, "ringback of two beeps");
    assert_eq!(rest(&[(0, beeps(40, 160, 5))], 16_800), speech, "ringback of 0.8 s");
    assert_eq!(rest(&[(0, [busy(6), silence(3_000)].concat())], 7_200), speech, "the tone has ended");
    assert_eq!(rest(&[(1_500, busy(12))], 9_900), speech, "it was measured too late");
    assert_eq!(rest(&[(0, busy(6)), (9_000, busy(6))], 13_200), speech, "a part was not measured");
    assert_eq!(rest(&[(0, busy(6))], 9_000), speech, "the last part was not measured");
}
