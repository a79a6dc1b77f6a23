//! Tests of a dialog from its INVITE to its end: renegotiation by either side, and all ways to end.

use callspan::call::config::Config;
use callspan::call::record::{CallDirection, CallOutcome, CallRecord, CallVerdict, EndedBy, Side};

use crate::scenarios::{direct, outside_and_200};
use crate::support::playback::{PlayedCall, PlayedScene, play, play_with};
use crate::support::scenario::ExpectedSound::{Silence, Voice};
use crate::support::scenario::{MessageChange, STEP_MS, Scene, ScenePhone, at, ip, sdp};

fn kinds(record: &CallRecord) -> Vec<&str> {
    record.events.iter().map(|e| e.kind.as_str()).collect()
}

#[track_caller]
pub(crate) fn hears(call: &PlayedCall, (left, right): (u8, u8), from_ms: i64, to_ms: i64) {
    let sound = call.sound.as_ref().expect("a recording");
    for (channel, voice, name) in [(&sound[0], left, "left"), (&sound[1], right, "right")] {
        let share = channel.share(Voice(voice), from_ms, to_ms);
        assert_eq!(
            share,
            1.0,
            "{name} from {from_ms} to {to_ms} ms is voice {voice}, e.g. {:?}",
            channel.judge(from_ms + 300)
        );
    }
}

#[test]
fn a_plain_call_is_recorded_on_both_sides_in_full() {
    let (mut scene, call, answered) = direct();
    let talks = scene.now();
    scene.talk(call, 5_000);
    let ended = scene.bye(call, Side::Callee);
    let played = play(&scene);
    let call = played.only();
    let record = &call.record;
    assert_eq!((record.from.as_deref(), record.to.as_deref()), (Some("+79990000001"), Some("200")));
    assert_eq!((record.direction, record.internal.as_deref()), (CallDirection::Inbound, Some("200")));
    assert_eq!((record.outcome, record.ended_by), (CallOutcome::Answered, Some(EndedBy::Callee)));
    assert_eq!(record.verdict, Some(CallVerdict::BothSides));
    assert_eq!((record.answered_at, record.ended_at), (Some(at(answered)), Some(at(ended))));
    // The INVITE is at 0 ms. 100 and 180 follow a step later each, then a second of ringing, then the 200.
    assert_eq!((record.invited_at, record.ringing_at), (Some(at(0)), Some(at(2 * STEP_MS))));
    assert_eq!(answered, 3 * STEP_MS + 1_000);
    hears(call, (1, 2), talks, ended);
}

#[test]
fn renegotiation_never_swaps_the_channels() {
    for side in [Side::Caller, Side::Callee] {
        for method in ["INVITE", "UPDATE"] {
            let (mut scene, call, _) = direct();
            scene.talk(call, 1_000);
            // The side that sends the re-INVITE moves its media to another port.
            let moved = scene.get(call).media[side.channel()].with_port(30_000);
            scene.at(call).media[side.channel()] = moved;
            scene.renegotiate(call, side, method, (&[], &[]));
            let moved = scene.now();
            scene.talk(call, 2_000);
            let ended = scene.bye(call, Side::Caller);
            let played = play(&scene);
            let call = played.only();
            hears(call, (1, 2), moved, ended);
            assert_eq!(kinds(&call.record), ["media_move"], "{side:?} {method}");
            assert_eq!(call.record.events[0].side, Some(side));
            assert_eq!((call.record.from.as_deref(), call.record.to.as_deref()), (Some("+79990000001"), Some("200")));
        }
    }
}

#[test]
fn a_side_may_move_to_another_host() {
    let (mut scene, call, _) = direct();
    scene.talk(call, 1_000);
    scene.at(call).media[1] = ip(77, 4_000);
    scene.renegotiate(call, Side::Callee, "INVITE", (&[], &[]));
    let moved = scene.now();
    scene.talk(call, 2_000);
    let ended = scene.bye(call, Side::Caller);
    let played = play(&scene);
    hears(played.only(), (1, 2), moved, ended);
    let events: Vec<_> = played.only().record.events.iter().map(|e| (e.kind.as_str(), e.side)).collect();
    assert_eq!(events, [("media_move", Some(Side::Callee))]);
}

#[test]
fn payload_types_may_be_reassigned_during_a_call() {
    let (mut scene, call, _) = direct();
    scene.talk(call, 1_000);
    // From now on A-law has payload type 96, and 8 is not announced any more.
    for side in [Side::Caller, Side::Callee] {
        let media = scene.get(call).media[side.channel()];
        let body = sdp(media, 9, "96 101", &["a=rtpmap:96 PCMA/8000"]);
        match side {
            Side::Caller => scene.request(call, side, "INVITE", &[MessageChange::Sdp(body)]),
            Side::Callee => scene.response(call, side, (200, "INVITE"), &[MessageChange::Sdp(body)]),
        }
        let flow = scene.flow(call, side);
        scene.sender(flow).pt = 96;
    }
    scene.request(call, Side::Caller, "ACK", &[]);
    let changed = scene.now();
    scene.talk(call, 2_000);
    let ended = scene.bye(call, Side::Caller);
    let played = play(&scene);
    hears(played.only(), (1, 2), changed, ended);
    let record = &played.only().record;
    assert_eq!([&record.sides.caller.codecs, &record.sides.callee.codecs], [&["PCMA"], &["PCMA"]]);
    assert_eq!(record.problems, []);
}

#[test]
fn a_codec_change_is_told_in_the_record() {
    let (mut scene, call, _) = direct();
    scene.talk(call, 1_000);
    for side in [Side::Caller, Side::Callee] {
        let flow = scene.flow(call, side);
        scene.sender(flow).pt = 0;
    }
    let media = scene.get(call).media;
    scene.request(call, Side::Caller, "INVITE", &[MessageChange::Sdp(sdp(media[0], 9, "0 101", &[]))]);
    scene.response(call, Side::Callee, (200, "INVITE"), &[MessageChange::Sdp(sdp(media[1], 9, "0 101", &[]))]);
    scene.request(call, Side::Caller, "ACK", &[]);
    scene.talk(call, 1_000);
    scene.bye(call, Side::Caller);
    let played = play(&scene);
    let record = &played.only().record;
    assert_eq!(kinds(record), ["codec_change", "codec_change"], "one for each side");
    assert_eq!(record.events[0].detail.as_deref(), Some("PCMA to PCMU"));
    assert_eq!(record.sides.caller.codecs, ["PCMA", "PCMU"]);
}

#[test]
fn a_refused_offer_leaves_the_old_session() {
    let (mut scene, call, _) = direct();
    scene.talk(call, 1_000);
    let old = scene.get(call).media[0];
    scene.at(call).media[0] = old.with_port(31_000);
    let offer = scene.sdp(call, Side::Caller, &[]);
    scene.request(call, Side::Caller, "INVITE", &[MessageChange::Sdp(offer)]);
    scene.response(call, Side::Callee, (488, "INVITE"), &[]);
    scene.request(call, Side::Caller, "ACK", &[]);
    scene.at(call).media[0] = old;
    let refused = scene.now();
    scene.talk(call, 2_000);
    // Packets from other hosts to the rejected address do not belong to this call.
    let stranger = (ip(60, 4_000), old.with_port(31_000));
    scene.rtp(&[(6, stranger)], 400);
    let ended = scene.bye(call, Side::Caller);
    let played = play(&scene);
    hears(played.only(), (1, 2), refused, ended - 400);
    assert_eq!(played.only().record.sides.callee.streams.len(), 1, "the stranger is not the callee");
    assert_eq!(kinds(&played.only().record), [] as [&str; 0]);
}

#[test]
fn glare_491_refuses_both_offers_and_a_later_one_holds() {
    let (mut scene, call, _) = direct();
    scene.talk(call, 1_000);
    let old = scene.get(call).media;
    let offers = [31_000, 32_000].map(|port| sdp(old[0].with_port(port), 8, "8 101", &[]));
    let callee_offer = sdp(old[1].with_port(32_000), 8, "8 101", &[]);
    scene.request(call, Side::Caller, "INVITE", &[MessageChange::Sdp(offers[0].clone())]);
    scene.request(call, Side::Callee, "INVITE", &[MessageChange::Sdp(callee_offer)]);
    for side in [Side::Callee, Side::Caller] {
        scene.response(call, side, (491, "INVITE"), &[]);
        scene.request(call, side.other(), "ACK", &[]);
    }
    let refused = scene.now();
    scene.talk(call, 2_000);
    // After the refusals, both old addresses apply again. Packets of other hosts to the refused address do not belong
    // to the call.
    let stranger = (ip(60, 4_000), old[0].with_port(31_000));
    scene.rtp(&[(6, stranger)], 400);
    let settled = scene.now();
    scene.at(call).media[1] = old[1].with_port(32_000);
    scene.renegotiate(call, Side::Callee, "INVITE", (&[], &[]));
    let moved = scene.now();
    scene.talk(call, 1_000);
    let ended = scene.bye(call, Side::Caller);
    let played = play(&scene);
    hears(played.only(), (1, 2), refused, settled - 400);
    hears(played.only(), (1, 2), moved, ended);
    assert!(played.counters.rtp_unclaimed >= 20, "400 ms of a stranger are 20 packets: {:?}", played.counters);
}

#[test]
fn a_late_offer_in_the_200_is_answered_in_the_ack() {
    let (mut scene, mut outside, mut ours) = outside_and_200();
    let call = scene.dialog(&mut outside, &mut ours);
    scene.request(call, Side::Caller, "INVITE", &[]);
    scene.ring(call);
    scene.wait(500);
    let offer = scene.sdp(call, Side::Callee, &[]);
    scene.response(call, Side::Callee, (200, "INVITE"), &[MessageChange::Sdp(offer)]);
    scene.at(call).confirmed = true;
    let answer = scene.sdp(call, Side::Caller, &[]);
    scene.request(call, Side::Caller, "ACK", &[MessageChange::Sdp(answer)]);
    let talks = scene.now();
    scene.talk(call, 2_000);
    let ended = scene.bye(call, Side::Caller);
    hears(play(&scene).only(), (1, 2), talks, ended);
}

#[test]
fn a_late_offer_in_a_reliable_183_is_answered_in_the_prack() {
    let (mut scene, mut outside, mut ours) = outside_and_200();
    let call = scene.dialog(&mut outside, &mut ours);
    let tag = scene.get(call).tags[1].clone();
    scene.request(call, Side::Caller, "INVITE", &[MessageChange::Header("Require: 100rel")]);
    let offer = scene.sdp(call, Side::Callee, &[]);
    scene.response(call, Side::Callee, (183, "INVITE"), &[MessageChange::Sdp(offer), MessageChange::Header("RSeq: 1")]);
    let answer = scene.sdp(call, Side::Caller, &[]);
    let prack = [MessageChange::Sdp(answer), MessageChange::Branch(&tag), MessageChange::Header("RAck: 1 101 INVITE")];
    scene.request(call, Side::Caller, "PRACK", &prack);
    scene.response(call, Side::Callee, (200, "PRACK"), &[]);
    scene.wait(500);
    scene.response(call, Side::Callee, (200, "INVITE"), &[]);
    scene.at(call).confirmed = true;
    scene.request(call, Side::Caller, "ACK", &[]);
    let talks = scene.now();
    scene.talk(call, 2_000);
    let ended = scene.bye(call, Side::Caller);
    hears(play(&scene).only(), (1, 2), talks, ended);
}

#[test]
fn a_session_that_nobody_refreshes_ends_when_its_timer_has_run_out() {
    let (mut scene, mut outside, mut ours) = outside_and_200();
    let call = scene.dialog(&mut outside, &mut ours);
    scene.invite(call);
    let answer = scene.sdp(call, Side::Callee, &[]);
    let timer = [MessageChange::Sdp(answer), MessageChange::Header("Session-Expires: 90;refresher=uac")];
    scene.response(call, Side::Callee, (200, "INVITE"), &timer);
    scene.at(call).confirmed = true;
    scene.request(call, Side::Caller, "ACK", &[]);
    scene.talk(call, 4_000);
    let silent = scene.now();
    scene.wait(200_000);
    let played = play(&scene);
    let record = &played.only().record;
    assert_eq!(record.ended_by, Some(EndedBy::SessionExpired));
    // The end of the call is its last packet, 20 ms before the silence. It is not the moment at which the timer ran
    // out.
    assert_eq!(record.ended_at, Some(at(silent - 20)));
}

#[test]
fn a_session_that_is_refreshed_by_update_goes_on() {
    let (mut scene, mut outside, mut ours) = outside_and_200();
    let call = scene.dialog(&mut outside, &mut ours);
    scene.invite(call);
    let answer = scene.sdp(call, Side::Callee, &[]);
    let timer = MessageChange::Header("Session-Expires: 90;refresher=uac");
    scene.response(call, Side::Callee, (200, "INVITE"), &[MessageChange::Sdp(answer), timer.clone()]);
    scene.at(call).confirmed = true;
    scene.request(call, Side::Caller, "ACK", &[]);
    scene.talk(call, 1_000);
    // Nobody speaks for 225 s, which is less than silence_s. The session is refreshed every 45 s.
    for _ in 0..5 {
        scene.wait(45_000);
        scene.request(call, Side::Caller, "UPDATE", std::slice::from_ref(&timer));
        scene.response(call, Side::Callee, (200, "UPDATE"), std::slice::from_ref(&timer));
    }
    let talks = scene.now();
    scene.talk(call, 1_000);
    let ended = scene.bye(call, Side::Caller);
    let played = play(&scene);
    assert_eq!(played.only().record.ended_by, Some(EndedBy::Caller));
    hears(played.only(), (1, 2), talks, ended);
}

fn fax(scene: &mut Scene, call: crate::support::scenario::DialogId, accepted: bool) {
    let [a, b] = scene.get(call).media;
    let image = |e: callspan::net::Endpoint, port: u16| {
        let ip = e.ip();
        format!("v=0\r\no=- 1 9 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=image {port} udptl t38\r\n")
    };
    scene.request(call, Side::Callee, "INVITE", &[MessageChange::Sdp(image(b, b.port()))]);
    if accepted {
        scene.response(call, Side::Caller, (200, "INVITE"), &[MessageChange::Sdp(image(a, a.port()))]);
    } else {
        scene.response(call, Side::Caller, (488, "INVITE"), &[]);
    }
    scene.request(call, Side::Callee, "ACK", &[]);
}

#[test]
fn t38_refused_leaves_the_audio() {
    let (mut scene, call, _) = direct();
    scene.talk(call, 1_000);
    fax(&mut scene, call, false);
    let refused = scene.now();
    scene.talk(call, 2_000);
    let ended = scene.bye(call, Side::Caller);
    let played = play(&scene);
    hears(played.only(), (1, 2), refused, ended);
    let events: Vec<_> = played.only().record.events.iter().map(|e| (e.kind.as_str(), e.detail.as_deref())).collect();
    assert_eq!(events, [("fax", Some("T.38 refused"))]);
}

#[test]
fn t38_accepted_is_a_long_silence_that_does_not_end_the_call() {
    let (mut scene, call, _) = direct();
    scene.talk(call, 1_000);
    fax(&mut scene, call, true);
    let from = scene.now();
    // The fax sends pages for ten minutes, twice silence_s. UDPTL packets begin with a sequence number and are no RTP.
    let flow = scene.flow(call, Side::Callee);
    for n in 0..600_u16 {
        scene.raw(flow.0, flow.1, [&n.to_be_bytes()[..], &[1, 0x40, 0, 0, 9, 9]].concat());
        scene.wait(1_000);
    }
    let to = scene.now();
    scene.renegotiate(call, Side::Callee, "INVITE", (&[], &[]));
    let talks = scene.now();
    scene.talk(call, 1_000);
    let ended = scene.bye(call, Side::Caller);
    let played = play(&scene);
    let call = played.only();
    assert_eq!(call.record.ended_by, Some(EndedBy::Caller));
    assert_eq!(call.sound.as_ref().expect("a recording")[1].share(Silence, from, to), 1.0);
    hears(call, (1, 2), talks, ended);
    assert_eq!(kinds(&call.record), ["fax"]);
}

#[test]
fn video_is_no_sound_of_the_call() {
    let (mut scene, mut outside, mut ours) = outside_and_200();
    let call = scene.dialog(&mut outside, &mut ours);
    let video = ["m=video 40000 RTP/AVP 8", "a=rtpmap:99 H264/90000"];
    let offer = scene.sdp(call, Side::Caller, &video);
    scene.request(call, Side::Caller, "INVITE", &[MessageChange::Sdp(offer)]);
    let answer = scene.sdp(call, Side::Callee, &video);
    scene.response(call, Side::Callee, (200, "INVITE"), &[MessageChange::Sdp(answer)]);
    scene.at(call).confirmed = true;
    scene.request(call, Side::Caller, "ACK", &[]);
    let talks = scene.now();
    let [(a, b), (c, d)] = [scene.flow(call, Side::Caller), scene.flow(call, Side::Callee)];
    let pictures = (a.with_port(40_000), b.with_port(40_000));
    scene.rtp(&[(1, (a, b)), (2, (c, d)), (7, pictures)], 2_000);
    let ended = scene.bye(call, Side::Caller);
    let played = play(&scene);
    hears(played.only(), (1, 2), talks, ended);
    assert_eq!(played.only().record.sides.caller.streams.len(), 1);
    // 2 s are 100 packets of 20 ms.
    assert_eq!(played.counters.rtp_unclaimed, 100);
}

#[test]
fn a_call_without_bye_ends_by_silence_at_its_last_packet() {
    let (mut scene, call, _) = direct();
    scene.talk(call, 3_000);
    let silent = scene.now();
    scene.wait(301_000);
    let played = play(&scene);
    let record = &played.only().record;
    assert_eq!((record.ended_by, record.ended_at), (Some(EndedBy::Silence), Some(at(silent - 20))));
    assert_eq!(record.verdict, Some(CallVerdict::BothSides));
}

#[test]
fn an_answered_call_without_media_says_so() {
    let (mut scene, call, _) = direct();
    scene.wait(5_000);
    scene.bye(call, Side::Caller);
    let played = play(&scene);
    let record = &played.only().record;
    assert_eq!((record.outcome, record.verdict), (CallOutcome::Answered, Some(CallVerdict::NoMedia)));
    assert!(record.recordings.is_empty());
}

#[test]
fn a_call_under_way_at_the_end_of_the_capture_ends_there() {
    let (mut scene, call, _) = direct();
    scene.talk(call, 3_000);
    let played = play(&scene);
    let record = &played.only().record;
    assert_eq!((record.ended_by, record.ended_at), (Some(EndedBy::CaptureEnd), Some(at(scene.now()))));
}

#[test]
fn a_call_captured_midway_is_recorded_from_the_next_offer() {
    let (mut scene, mut outside, mut ours) = outside_and_200();
    let call = scene.dialog(&mut outside, &mut ours);
    scene.at(call).confirmed = true;
    scene.talk(call, 2_000);
    scene.renegotiate(call, Side::Callee, "INVITE", (&[], &[]));
    let joined = scene.now();
    scene.talk(call, 2_000);
    let ended = scene.bye(call, Side::Caller);
    let played = play(&scene);
    let record = &played.only().record;
    assert_eq!((record.invited_at, record.answered_at), (None, None), "both were before the capture");
    let sound = played.only().sound.as_ref().expect("a recording");
    // The INVITE was not captured, so the side that sends first counts as the caller.
    for channel in sound {
        assert!([Voice(1), Voice(2)].contains(&channel.judge(joined + 500)));
        assert_eq!(channel.share(channel.judge(joined + 500), joined, ended), 1.0);
    }
}

#[test]
fn a_lone_bye_gives_a_record_of_an_earlier_call() {
    let (mut scene, mut outside, mut ours) = outside_and_200();
    let call = scene.dialog(&mut outside, &mut ours);
    scene.at(call).confirmed = true;
    scene.bye(call, Side::Callee);
    let played = play(&scene);
    let record = &played.only().record;
    assert_eq!(record.verdict, Some(CallVerdict::NoMedia));
    let reason = record.verdict_reason.as_deref().expect("a reason");
    assert!(reason.contains("began before the capture"), "{reason}");
}

#[test]
fn the_answer_may_be_missing_and_the_ack_tells_its_time() {
    let (mut scene, mut outside, mut ours) = outside_and_200();
    let call = scene.dialog(&mut outside, &mut ours);
    scene.invite(call);
    scene.progress(call);
    scene.wait(1_000);
    scene.at(call).confirmed = true;
    let acked = scene.now();
    scene.request(call, Side::Caller, "ACK", &[]);
    scene.talk(call, 2_000);
    scene.bye(call, Side::Caller);
    let played = play(&scene);
    let record = &played.only().record;
    assert_eq!((record.outcome, record.answered_at), (CallOutcome::Answered, Some(at(acked))));
    assert!(
        record.problems.iter().any(|p| p.kind == callspan::call::record::ProblemKind::AnswerNotSeen),
        "the record says so: {:?}",
        record.problems
    );
}

#[test]
fn both_ends_may_be_on_one_address() {
    let mut scene = Scene::new();
    let mut a = ScenePhone::new("100", 1);
    let mut b = ScenePhone { user: "200".to_owned(), sip: ip(1, 5_070), voice: 2, ..ScenePhone::new("200", 1) };
    // Both user agents are programs on one host. Their media ports must be far apart; otherwise the recorder would take
    // them for one user agent.
    for _ in 0..50 {
        b.media();
    }
    let call = scene.dialog(&mut a, &mut b);
    scene.connect(call);
    let talks = scene.now();
    scene.talk(call, 2_000);
    scene.renegotiate(call, Side::Callee, "INVITE", (&[], &[]));
    let again = scene.now();
    scene.talk(call, 2_000);
    let ended = scene.bye(call, Side::Callee);
    let played = play(&scene);
    hears(played.only(), (1, 2), talks, again - 100);
    hears(played.only(), (1, 2), again, ended);
    assert_eq!(played.only().record.direction, CallDirection::Internal);
}

#[test]
fn a_call_of_more_than_a_day_is_cut_at_the_limit() {
    use callspan::call::Engine;
    use callspan::call::event::CallEvent;
    let (mut scene, call, answered) = direct();
    // One packet a minute is enough, because silence_s is five minutes. More sound would only make the test slow.
    let flow = scene.flow(call, Side::Caller);
    for _ in 0..25 * 60 {
        scene.rtp(&[(1, flow)], 20);
        scene.wait(59_980);
    }
    let mut engine = Engine::new(Config::default(), "scene");
    let mut sink = crate::support::playback::NullSink;
    for packet in scene.packets() {
        engine.handle_datagram(&packet.datagram(), &mut sink);
    }
    let ended = std::iter::from_fn(|| engine.poll_event()).find_map(|e| match e {
        CallEvent::Ended(ended) => Some(ended.record),
        CallEvent::Changed(_)
        | CallEvent::SegmentsDue(_)
        | CallEvent::Withdrawn(_)
        | CallEvent::Absorbed(_)
        | CallEvent::Learnt(_) => None,
    });
    let record = ended.expect("it was cut");
    // max_hours is 24.
    assert_eq!((record.ended_by, record.ended_at), (Some(EndedBy::Limit), Some(at(answered + 24 * 3_600_000))));
}

#[test]
fn early_media_is_part_of_the_recording_when_it_starts_with_media() {
    let (mut scene, mut outside, mut ours) = outside_and_200();
    let call = scene.dialog(&mut outside, &mut ours);
    scene.invite(call);
    scene.progress(call);
    let early = scene.now();
    let flow = scene.flow(call, Side::Callee);
    scene.rtp(&[(5, flow)], 3_000);
    scene.answer(call);
    let talks = scene.now();
    scene.talk(call, 2_000);
    let ended = scene.bye(call, Side::Caller);
    let by_media = Config { start: callspan::call::config::RecordingStart::Media, ..Config::default() };
    let played = play_with(&scene, by_media);
    let sound = played.only().sound.as_ref().expect("a recording");
    assert_eq!(sound[1].share(Voice(5), early, talks - 40), 1.0);
    hears(played.only(), (1, 2), talks, ended);
    // The default is to record from the answer on, which is two steps before the talk.
    let played = play(&scene);
    let sound = played.only().sound.as_ref().expect("a recording");
    assert_eq!(sound[0].starts_ms, (talks - 2 * STEP_MS) as f64);
}

#[test]
fn a_call_captured_from_a_reinvite_has_unknown_direction() {
    // The first captured message is the callee's hold, but the call was inbound.
    for side in [Side::Caller, Side::Callee] {
        let (mut scene, mut outside, mut ours) = outside_and_200();
        let call = scene.dialog(&mut outside, &mut ours);
        scene.at(call).confirmed = true;
        scene.hold(call, side);
        scene.wait(1_000);
        scene.resume(call, side);
        scene.talk(call, 2_000);
        scene.bye(call, side);
        let played = play(&scene);
        let record = &played.only().record;
        assert_eq!((record.direction, record.internal.as_deref()), (CallDirection::Unknown, Some("200")));
        let reason = record.verdict_reason.as_deref().expect("a reason");
        assert!(reason.contains("began before the capture") && reason.contains("The direction is unknown"), "{reason}");
    }
}

#[test]
fn a_call_between_extensions_that_is_joined_under_way_is_internal() {
    let (mut scene, _, mut ours) = outside_and_200();
    let call = scene.dialog(&mut ScenePhone::new("201", 3), &mut ours);
    scene.at(call).confirmed = true;
    scene.hold(call, Side::Callee);
    scene.resume(call, Side::Callee);
    scene.talk(call, 1_000);
    scene.bye(call, Side::Caller);
    assert_eq!(play(&scene).only().record.direction, CallDirection::Internal);
}

#[test]
fn the_next_call_replaces_one_with_a_lost_bye() {
    let (mut scene, call, _) = direct();
    scene.talk(call, 2_000);
    // The last packet was sent 20 ms ago.
    let silent = scene.now() - 20;
    scene.wait(3_000);
    // The BYE of the first call is not captured, and the same telephones use the same ports again.
    let (_, mut outside, mut ours) = outside_and_200();
    let next = scene.dialog(&mut outside, &mut ours);
    let media = scene.get(call).media;
    scene.at(next).media = media;
    scene.connect(next);
    scene.talk(next, 1_000);
    let ended = scene.bye(next, Side::Caller);
    let played = play(&scene);
    let [one, two] = played.calls.as_slice() else { panic!("two calls, not {}", played.calls.len()) };
    assert_eq!((one.record.ended_by, one.record.ended_at), (Some(EndedBy::Replaced), Some(at(silent))));
    assert_eq!((two.record.ended_by, two.record.ended_at), (Some(EndedBy::Caller), Some(at(ended))));
}

/// Returns the two records of the test: the call, and its continuation.
fn told_apart(played: &PlayedScene) -> [&PlayedCall; 2] {
    assert_eq!(played.calls.len(), 2);
    let (second, first): (Vec<_>, Vec<_>) = played.calls.iter().partition(|c| {
        c.record.problems.iter().any(|p| p.kind == callspan::call::record::ProblemKind::ContinuesAfterSilence)
    });
    [first[0], second[0]]
}

/// Plays a call in which both sides are silent for `ms` without a hold. Then they talk again, and one of them hangs up.
fn silent_for(ms: i64) {
    let (mut scene, call, _) = direct();
    let talks = scene.now();
    scene.talk(call, 3_000);
    let silent = scene.now();
    scene.wait(ms);
    let again = scene.now();
    scene.talk(call, 4_000);
    let ended = scene.bye(call, Side::Callee);
    let played = play(&scene);
    let [first, second] = told_apart(&played);
    // The last packet was sent 20 ms before the silence.
    assert_eq!(
        (first.record.ended_by, first.record.ended_at),
        (Some(EndedBy::Silence), Some(crate::support::scenario::at(silent - 20)))
    );
    hears(first, (1, 2), talks, silent - 20);
    hears(second, (1, 2), again, ended);
    let record = &second.record;
    assert_eq!((record.ended_by, record.verdict), (Some(EndedBy::Callee), Some(CallVerdict::BothSides)));
    assert_eq!((record.from.as_deref(), record.internal.as_deref()), (Some("+79990000001"), Some("200")));
    assert_eq!(record.related, std::slice::from_ref(&first.record.id));
    assert_eq!(record.sides.callee.packets, 200, "4 s of 20 ms, the first of them included");
    let reason = record.verdict_reason.as_deref().expect("a reason");
    assert!(reason.contains(&first.record.id), "{reason}");
}

#[test]
fn a_call_ended_by_silence_continues_as_a_related_call() {
    silent_for(310_000);
    silent_for(20 * 60_000);
}

#[test]
fn the_bye_of_a_call_that_had_fallen_silent_opens_no_record() {
    let (mut scene, call, _) = direct();
    scene.talk(call, 3_000);
    scene.wait(20 * 60_000);
    scene.bye(call, Side::Caller);
    let played = play(&scene);
    assert_eq!(played.only().record.ended_by, Some(EndedBy::Silence));
}

#[test]
fn stray_packets_do_not_wake_a_call_that_had_fallen_silent() {
    let (mut scene, call, _) = direct();
    scene.talk(call, 3_000);
    scene.wait(400_000);
    for _ in 0..20 {
        scene.talk(call, 20);
        scene.wait(1_500);
    }
    let played = play(&scene);
    let record = &played.only().record;
    assert_eq!((record.ended_by, record.verdict), (Some(EndedBy::Silence), Some(CallVerdict::BothSides)));
}

#[test]
fn a_pbx_call_that_fell_silent_comes_back_as_one() {
    let mut office = crate::scenarios::Office::new();
    let (a, b) = office.connected();
    office.scene.bridge(a, b, 3_000);
    office.scene.wait(400_000);
    let [again, ended] = office.scene.bridge_until_bye(a, b, 3_000, Side::Caller);
    let played = play(&office.scene);
    let [first, second] = told_apart(&played);
    assert_eq!((first.record.legs.len(), second.record.legs.len()), (2, 2));
    hears(second, (1, 2), again, ended);
}
