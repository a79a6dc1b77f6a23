//! Tests of hold and resume by either side, in each way that SDP allows.

use callspan::call::record::{CallRecord, EndedBy, Side};

use crate::scenarios::direct;
use crate::support::playback::play;
use crate::support::scenario::ExpectedSound::{Silence, Voice};
use crate::support::scenario::{MessageChange, sdp};

fn events(record: &CallRecord) -> Vec<(&str, Option<Side>)> {
    record.events.iter().map(|e| (e.kind.as_str(), e.side)).collect()
}

/// Plays a call: 2 s of talk, a hold of `hold_ms` by the side `by`, 2 s of talk. `lines` are the attributes of offer
/// and answer.
fn held(by: Side, lines: (&str, &str), hold_ms: i64) {
    let (mut scene, call, _) = direct();
    scene.talk(call, 2_000);
    scene.renegotiate(call, by, "INVITE", (&[lines.0], &[lines.1]));
    scene.wait(hold_ms);
    scene.resume(call, by);
    let resumed = scene.now();
    scene.talk(call, 2_000);
    let ended = scene.bye(call, Side::Caller);
    let played = play(&scene);
    let call = played.only();
    assert_eq!(events(&call.record), [("hold", Some(by)), ("resume", Some(by))]);
    assert_eq!(call.record.ended_by, Some(EndedBy::Caller));
    let [left, right] = call.sound.as_ref().expect("a recording");
    for (channel, voice) in [(left, 1), (right, 2)] {
        assert_eq!(channel.share(Voice(voice), resumed, ended), 1.0, "after the hold of {hold_ms} ms");
        assert_eq!(
            channel.share(Silence, resumed - hold_ms + 200, resumed - 200),
            if hold_ms > 400 { 1.0 } else { 0.0 }
        );
    }
}

#[test]
fn a_hold_of_any_length_moves_nothing_that_comes_after_it() {
    // Other recorders fail at these lengths of holds: 80 ms, 2.5 s, 31 s and 121 s.
    for hold_ms in [80, 2_500, 31_000, 121_000] {
        held(Side::Caller, ("a=sendonly", "a=recvonly"), hold_ms);
    }
}

#[test]
fn the_callee_may_hold_and_inactive_is_a_hold_too() {
    held(Side::Callee, ("a=sendonly", "a=recvonly"), 2_500);
    held(Side::Callee, ("a=inactive", "a=inactive"), 2_500);
    held(Side::Caller, ("a=inactive", "a=inactive"), 2_500);
}

#[test]
fn hold_by_the_address_0_0_0_0_ends_with_sound() {
    for by in [Side::Caller, Side::Callee] {
        let (mut scene, call, _) = direct();
        scene.talk(call, 1_000);
        let nowhere = sdp(callspan::net::Endpoint::v4([0, 0, 0, 0], 10_000), 7, "8 101", &[]);
        scene.request(call, by, "INVITE", &[MessageChange::Sdp(nowhere)]);
        let answer = scene.sdp(call, by.other(), &[]);
        scene.response(call, by.other(), (200, "INVITE"), &[MessageChange::Sdp(answer)]);
        scene.request(call, by, "ACK", &[]);
        scene.wait(3_000);
        scene.resume(call, by);
        let resumed = scene.now();
        scene.talk(call, 2_000);
        let ended = scene.bye(call, Side::Callee);
        let played = play(&scene);
        let call = played.only();
        assert_eq!(events(&call.record), [("hold", Some(by)), ("resume", Some(by))]);
        let [left, right] = call.sound.as_ref().expect("a recording");
        assert_eq!(left.share(Voice(1), resumed, ended), 1.0);
        assert_eq!(right.share(Voice(2), resumed, ended), 1.0);
    }
}

#[test]
fn a_silent_hold_of_twenty_minutes_does_not_end_the_call() {
    // The defaults are 300 s for silence_s and 14,400 s for hold_s.
    let (mut scene, call, _) = direct();
    scene.talk(call, 1_000);
    scene.hold(call, Side::Callee);
    scene.wait(20 * 60_000);
    scene.resume(call, Side::Callee);
    let resumed = scene.now();
    scene.talk(call, 1_000);
    let ended = scene.bye(call, Side::Caller);
    let played = play(&scene);
    let call = played.only();
    assert_eq!(call.record.ended_by, Some(EndedBy::Caller));
    assert_eq!(call.sound.as_ref().expect("a recording")[1].share(Voice(2), resumed, ended), 1.0);
}

#[test]
fn both_sides_may_hold_and_each_resumes_its_own() {
    let (mut scene, call, _) = direct();
    scene.talk(call, 1_000);
    scene.hold(call, Side::Caller);
    scene.wait(1_000);
    // A side on hold answers another hold with inactive (RFC 3264 section 6.1).
    scene.renegotiate(call, Side::Callee, "INVITE", (&["a=inactive"], &["a=inactive"]));
    scene.wait(1_000);
    scene.renegotiate(call, Side::Callee, "INVITE", (&["a=recvonly"], &["a=sendonly"]));
    scene.wait(1_000);
    scene.resume(call, Side::Caller);
    scene.talk(call, 1_000);
    scene.bye(call, Side::Caller);
    let played = play(&scene);
    let record = &played.only().record;
    // The caller's hold begins before and ends after the callee's hold. The record has start and end of the caller's
    // hold.
    assert_eq!(events(record).first(), Some(&("hold", Some(Side::Caller))), "{:?}", record.events);
    assert_eq!(events(record).last(), Some(&("resume", Some(Side::Caller))), "{:?}", record.events);
}

#[test]
fn a_hold_that_was_refused_never_was() {
    let (mut scene, call, _) = direct();
    scene.talk(call, 1_000);
    let offer = scene.sdp(call, Side::Caller, &["a=sendonly"]);
    scene.request(call, Side::Caller, "INVITE", &[MessageChange::Sdp(offer)]);
    scene.response(call, Side::Callee, (488, "INVITE"), &[]);
    scene.request(call, Side::Caller, "ACK", &[]);
    scene.talk(call, 1_000);
    scene.bye(call, Side::Caller);
    let played = play(&scene);
    assert_eq!(events(&played.only().record), []);
}

#[test]
fn music_on_hold_is_part_of_the_sound() {
    let (mut scene, call, _) = direct();
    scene.talk(call, 1_000);
    scene.hold(call, Side::Callee);
    let from = scene.now();
    // The callee's side plays music (voice 5) from the same port with a new SSRC.
    let flow = scene.flow(call, Side::Callee);
    let voice = *scene.sender(flow);
    scene.sender(flow).ssrc ^= 0xffff;
    scene.rtp(&[(5, flow)], 3_000);
    *scene.sender(flow) = voice;
    let to = scene.now();
    scene.resume(call, Side::Callee);
    let resumed = scene.now();
    scene.talk(call, 1_000);
    let ended = scene.bye(call, Side::Caller);
    let played = play(&scene);
    let [left, right] = played.only().sound.as_ref().expect("a recording");
    assert_eq!(right.share(Voice(5), from, to), 1.0);
    assert_eq!(left.share(Silence, from, to), 1.0);
    assert_eq!(right.share(Voice(2), resumed, ended), 1.0);
}
