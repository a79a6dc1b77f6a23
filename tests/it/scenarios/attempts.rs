//! Tests of unanswered calls, forked calls, and races between CANCEL and the answer.

use callspan::call::config::{Config, RecordingStart};
use callspan::call::correlation_rule::CorrelationRule;
use callspan::call::record::{CallOutcome, CallVerdict, EndedBy, Side};

use crate::scenarios::dialog_lifecycle::hears;
use crate::scenarios::{OUTSIDE, Office, direct, outside_and_200};
use crate::support::playback::{play, play_packets, play_with};
use crate::support::scenario::ExpectedSound::Voice;
use crate::support::scenario::{MessageChange, Scene, ScenePhone, at, ip, sdp};

#[test]
fn every_refusal_has_its_outcome_status_and_reason() {
    for (status, outcome, word) in [
        (486, CallOutcome::Busy, "busy"),
        (600, CallOutcome::Busy, "busy"),
        (603, CallOutcome::Declined, "declined"),
        (408, CallOutcome::NoAnswer, "Nobody answered"),
        (480, CallOutcome::NoAnswer, "Nobody answered"),
        (404, CallOutcome::Failed, "failed"),
        (503, CallOutcome::Failed, "failed"),
        (302, CallOutcome::Redirected, "redirected"),
    ] {
        let (mut scene, mut outside, mut ours) = outside_and_200();
        let call = scene.dialog(&mut outside, &mut ours);
        scene.invite_and_ring(call);
        scene.wait(1_000);
        let refused = scene.now();
        scene.refuse(call, status, &[MessageChange::Header("Reason: Q.850;cause=17;text=\"User busy\"")]);
        let played = play(&scene);
        let record = &played.only().record;
        assert_eq!((record.outcome, record.sip_status), (outcome, Some(status)), "{status}");
        assert_eq!((record.verdict, record.ended_by), (Some(CallVerdict::NotAnswered), Some(EndedBy::Signalling)));
        assert_eq!((record.ended_at, record.answered_at, record.duration_s), (Some(at(refused)), None, None));
        let reason = record.verdict_reason.as_deref().expect("a reason");
        assert!(reason.contains(word), "{status}: {reason}");
        assert_eq!(record.reason_header.as_deref(), Some("Q.850;cause=17;text=\"User busy\""));
        assert!(record.recordings.is_empty());
    }
}

#[test]
fn a_cancelled_call_was_ended_by_signalling_and_keeps_its_reason() {
    let (mut scene, mut outside, mut ours) = outside_and_200();
    let call = scene.dialog(&mut outside, &mut ours);
    scene.invite_and_ring(call);
    scene.wait(3_000);
    scene.request(
        call,
        Side::Caller,
        "CANCEL",
        &[MessageChange::Header("Reason: SIP;cause=200;text=\"Call completed elsewhere\"")],
    );
    scene.response(call, Side::Callee, (200, "CANCEL"), &[]);
    let refused = scene.now();
    scene.refuse(call, 487, &[]);
    let played = play(&scene);
    let record = &played.only().record;
    assert_eq!((record.outcome, record.ended_by), (CallOutcome::Cancelled, Some(EndedBy::Signalling)));
    assert_eq!((record.sip_status, record.ended_at), (Some(487), Some(at(refused))));
    assert!(record.reason_header.as_deref().is_some_and(|r| r.contains("completed elsewhere")));
}

#[test]
fn a_cancel_that_crosses_the_answer_leaves_an_answered_call() {
    let (mut scene, mut outside, mut ours) = outside_and_200();
    let call = scene.dialog(&mut outside, &mut ours);
    scene.invite_and_ring(call);
    scene.wait(2_000);
    scene.request(call, Side::Caller, "CANCEL", &[]);
    let answered = scene.now();
    let answer = scene.sdp(call, Side::Callee, &[]);
    scene.response(call, Side::Callee, (200, "INVITE"), &[MessageChange::Sdp(answer)]);
    scene.response(call, Side::Callee, (481, "CANCEL"), &[]);
    scene.at(call).confirmed = true;
    scene.request(call, Side::Caller, "ACK", &[]);
    let ended = scene.bye(call, Side::Caller);
    let played = play(&scene);
    let record = &played.only().record;
    assert_eq!(
        (record.outcome, record.ended_by, record.sip_status),
        (CallOutcome::Answered, Some(EndedBy::Caller), Some(200))
    );
    assert_eq!((record.answered_at, record.ended_at), (Some(at(answered)), Some(at(ended))));
}

#[test]
fn a_200_after_the_487_of_a_cancel_is_the_same_call() {
    // The INVITE is forked. One branch sends 487 after another branch has answered.
    let (mut scene, mut outside, mut ours) = outside_and_200();
    let call = scene.dialog(&mut outside, &mut ours);
    scene.invite_and_ring(call);
    scene.wait(1_000);
    scene.cancel(call);
    scene.wait(300);
    let answered = scene.answer(call);
    let ended = scene.bye(call, Side::Caller);
    let played = play(&scene);
    let record = &played.only().record;
    assert_eq!((record.outcome, record.ended_by), (CallOutcome::Answered, Some(EndedBy::Caller)));
    assert_eq!((record.answered_at, record.ended_at), (Some(at(answered)), Some(at(ended))));
}

#[test]
fn a_cancelled_call_whose_refusal_was_not_seen_ended_with_the_cancel() {
    let (mut scene, mut outside, mut ours) = outside_and_200();
    let call = scene.dialog(&mut outside, &mut ours);
    scene.invite_and_ring(call);
    scene.wait(1_000);
    let cancelled = scene.now();
    scene.request(call, Side::Caller, "CANCEL", &[]);
    scene.wait(60_000);
    let played = play(&scene);
    let record = &played.only().record;
    assert_eq!((record.outcome, record.ended_at), (CallOutcome::Cancelled, Some(at(cancelled))));
}

#[test]
fn a_challenge_is_no_refusal() {
    let (mut scene, mut outside, mut ours) = outside_and_200();
    let call = scene.dialog(&mut outside, &mut ours);
    scene.invite(call);
    scene.refuse(call, 407, &[MessageChange::Header("Proxy-Authenticate: Digest realm=\"x\", nonce=\"y\"")]);
    scene.connect(call);
    let talks = scene.now();
    scene.talk(call, 1_000);
    let ended = scene.bye(call, Side::Caller);
    let played = play(&scene);
    let record = &played.only().record;
    assert_eq!((record.outcome, record.sip_status, record.invited_at), (CallOutcome::Answered, Some(200), Some(at(0))));
    hears(played.only(), (1, 2), talks, ended);
}

#[test]
fn a_redirected_caller_and_the_new_target_are_one_call() {
    // The INVITE is repeated with the same Call-ID, From and To and a higher CSeq (RFC 3261 section 8.1.3.4), in this
    // case to another host.
    let (mut scene, mut outside, mut ours) = outside_and_200();
    let call = scene.dialog(&mut outside, &mut ours);
    scene.invite(call);
    scene.refuse(call, 302, &[MessageChange::Header("Contact: <sip:201@10.0.0.3>")]);
    scene.at(call).sip[1] = ip(3, 5060);
    scene.at(call).media[1] = ip(3, 10_000);
    scene.at(call).voices[1] = 3;
    scene.at(call).tags[1] = "elsewhere".to_owned();
    scene.at(call).request_user = "201".to_owned();
    scene.connect(call);
    let talks = scene.now();
    scene.talk(call, 1_000);
    let ended = scene.bye(call, Side::Callee);
    let played = play(&scene);
    let record = &played.only().record;
    assert_eq!((record.outcome, record.sip_status), (CallOutcome::Answered, Some(200)));
    hears(played.only(), (1, 3), talks, ended);
}

#[test]
fn an_invite_that_nothing_answers_ends_with_a_verdict() {
    let (mut scene, mut outside, mut ours) = outside_and_200();
    let call = scene.dialog(&mut outside, &mut ours);
    let offer = scene.sdp(call, Side::Caller, &[]);
    scene.request(call, Side::Caller, "INVITE", &[MessageChange::Sdp(offer)]);
    // 200 s without a message, which is longer than any proxy waits.
    scene.wait(210_000);
    let played = play(&scene);
    let record = &played.only().record;
    assert_eq!((record.outcome, record.verdict), (CallOutcome::Unknown, Some(CallVerdict::NotAnswered)));
    assert_eq!(record.verdict_reason.as_deref(), Some("No final answer to the INVITE was seen."));
}

/// Makes a call to two telephones. Each sends early media (voices 2 and 3), and the second telephone answers.
fn forked() -> (Scene, i64, i64, i64) {
    let mut scene = Scene::new();
    let mut caller = ScenePhone::new("+79990000001", 1);
    let mut proxy = ScenePhone::new("200", 9);
    let call = scene.dialog(&mut caller, &mut proxy);
    let [one, two] = [ip(2, 10_000), ip(3, 10_000)];
    let body = |e| sdp(e, 1, "8 101", &[]);
    scene.invite(call);
    scene.response(call, Side::Callee, (183, "INVITE"), &[MessageChange::Branch("one"), MessageChange::Sdp(body(one))]);
    scene.response(call, Side::Callee, (183, "INVITE"), &[MessageChange::Branch("two"), MessageChange::Sdp(body(two))]);
    let caller_media = scene.get(call).media[0];
    let early = scene.now();
    scene.rtp(&[(2, (one, caller_media))], 1_000);
    scene.rtp(&[(3, (two, caller_media))], 1_000);
    scene.at(call).media[1] = two;
    scene.at(call).tags[1] = "two".to_owned();
    scene.at(call).voices[1] = 3;
    scene.answer(call);
    let talks = scene.now();
    scene.talk(call, 2_000);
    let ended = scene.bye(call, Side::Caller);
    (scene, early, talks, ended)
}

#[test]
fn the_answering_fork_is_the_callee_despite_early_media_of_both() {
    let (scene, _, talks, ended) = forked();
    let played = play(&scene);
    let record = &played.only().record;
    assert_eq!(record.legs[0].to_tag.as_deref(), Some("two"));
    hears(played.only(), (1, 3), talks, ended);
}

#[test]
fn early_media_of_both_forks_is_recorded_when_configured() {
    let (scene, early, talks, _) = forked();
    let played = play_with(&scene, Config { start: RecordingStart::Media, ..Config::default() });
    let [_, right] = played.only().sound.as_ref().expect("a recording");
    assert_eq!(right.share(Voice(2), early, early + 1_000), 1.0);
    assert_eq!(right.share(Voice(3), early + 1_000, talks - 40), 1.0);
}

#[test]
fn a_second_fork_that_answers_too_is_hung_up_and_changes_nothing() {
    let (mut scene, mut outside, mut ours) = outside_and_200();
    let call = scene.dialog(&mut outside, &mut ours);
    scene.connect(call);
    // The branch "late" answers, too. The caller acknowledges this answer and ends it by BYE (RFC 3261 section
    // 13.2.2.4).
    let late = sdp(ip(3, 10_000), 1, "8 101", &[]);
    let cseq = scene.get(call).invite_cseq[0];
    scene.response(
        call,
        Side::Callee,
        (200, "INVITE"),
        &[MessageChange::Branch("late"), MessageChange::Sdp(late), MessageChange::CSeq(cseq)],
    );
    scene.request(call, Side::Caller, "ACK", &[MessageChange::Branch("late"), MessageChange::CSeq(cseq)]);
    scene.request(call, Side::Caller, "BYE", &[MessageChange::Branch("late"), MessageChange::CSeq(cseq + 1)]);
    scene.response(call, Side::Callee, (200, "BYE"), &[MessageChange::Branch("late"), MessageChange::CSeq(cseq + 1)]);
    let talks = scene.now();
    scene.talk(call, 3_000);
    let ended = scene.bye(call, Side::Callee);
    let played = play(&scene);
    let record = &played.only().record;
    let tags: Vec<_> = record.legs.iter().map(|leg| leg.to_tag.as_deref()).collect();
    assert_eq!(tags, [Some(scene.get(call).tags[1].as_str())], "the first 2xx keeps the dialog");
    assert_eq!((record.outcome, record.problems.len()), (CallOutcome::Answered, 0));
    assert_eq!((record.ended_by, record.ended_at), (Some(EndedBy::Callee), Some(at(ended))));
    hears(played.only(), (1, 2), talks, ended);
}

#[test]
fn a_late_response_of_another_fork_changes_nothing() {
    let (mut scene, mut outside, mut ours) = outside_and_200();
    let call = scene.dialog(&mut outside, &mut ours);
    scene.connect(call);
    // If the mirror merges two ports, a response in the other telephone's early dialog may be captured after the
    // answer.
    let late = MessageChange::Sdp(sdp(ip(3, 10_000), 1, "8 101", &[]));
    let cseq = MessageChange::CSeq(scene.get(call).invite_cseq[0]);
    scene.response(call, Side::Callee, (183, "INVITE"), &[MessageChange::Branch("late"), late, cseq]);
    let talks = scene.now();
    scene.talk(call, 3_000);
    let ended = scene.bye(call, Side::Caller);
    let played = play(&scene);
    let record = &played.only().record;
    assert_eq!(record.legs[0].to_tag.as_deref(), Some(scene.get(call).tags[1].as_str()));
    assert_eq!((record.outcome, record.problems.len()), (CallOutcome::Answered, 0));
    assert_eq!((record.legs.len(), record.ended_by), (1, Some(EndedBy::Caller)));
    hears(played.only(), (1, 2), talks, ended);
}

#[test]
fn an_unknown_method_is_read_as_sip_on_a_sip_port() {
    let (mut scene, call, answered) = direct();
    scene.talk(call, 1_000);
    scene.bye(call, Side::Caller);
    let mut packets = scene.packets();
    // Both telephones send SIP from port 5060. Two NULs and a space precede the first line of each of these messages.
    for packet in packets.iter_mut().filter(|p| p.src.port() == 5060) {
        packet.payload.splice(0..0, *b"\0\0 ");
    }
    let played = play_packets(&packets, scene.now(), Config::default());
    assert_eq!(played.only().record.answered_at, Some(at(answered)));
    assert_eq!(played.only().record.verdict, Some(CallVerdict::BothSides));
    let elsewhere = Config { sip_ports: vec![5070], ..Config::default() };
    assert!(play_packets(&packets, scene.now(), elsewhere).calls.is_empty());
}

#[test]
fn early_media_and_then_a_cancel_leaves_no_recording() {
    let (mut scene, mut outside, mut ours) = outside_and_200();
    let call = scene.dialog(&mut outside, &mut ours);
    scene.invite(call);
    scene.progress(call);
    let flow = scene.flow(call, Side::Callee);
    scene.rtp(&[(5, flow)], 2_000);
    scene.cancel(call);
    let played = play(&scene);
    let record = &played.only().record;
    assert_eq!((record.outcome, record.verdict), (CallOutcome::Cancelled, Some(CallVerdict::NotAnswered)));
    assert!(record.recordings.is_empty());
    // The caller heard 2 s of sound (100 packets of 20 ms) nevertheless.
    assert_eq!(record.sides.callee.packets, 100);
}

#[test]
fn a_bye_before_the_answer_counts_as_a_cancel() {
    // A BYE may end an early dialog (RFC 3261 section 15).
    let (mut scene, mut outside, mut ours) = outside_and_200();
    let call = scene.dialog(&mut outside, &mut ours);
    scene.invite_and_ring(call);
    scene.wait(1_000);
    scene.at(call).confirmed = true;
    let ended = scene.bye(call, Side::Caller);
    scene.refuse(call, 487, &[]);
    let played = play(&scene);
    let record = &played.only().record;
    assert_eq!((record.outcome, record.verdict), (CallOutcome::Cancelled, Some(CallVerdict::NotAnswered)));
    assert_eq!((record.ended_by, record.ended_at), (Some(EndedBy::Signalling), Some(at(ended))));
}

#[test]
fn dialog_reused_right_after_bye_keeps_the_second_calls_sound() {
    let (mut scene, mut outside, mut ours) = outside_and_200();
    let one = scene.dialog(&mut outside, &mut ours);
    scene.connect(one);
    let [one_talks, one_ends] = [scene.now(), scene.now() + 2_000];
    scene.talk(one, 2_000);
    scene.bye(one, Side::Caller);
    scene.wait(40);
    let (mut outside, mut ours) = (ScenePhone { voice: 3, ..outside }, ScenePhone { voice: 4, ..ours });
    let two = scene.dialog(&mut outside, &mut ours);
    scene.at(two).call_id = scene.get(one).call_id.clone();
    scene.at(two).tags[0] = scene.get(one).tags[0].clone();
    scene.at(two).cseq = [1, 1];
    scene.connect(two);
    let two_talks = scene.now();
    scene.talk(two, 2_000);
    let two_ends = scene.bye(two, Side::Caller);
    let played = play(&scene);
    let [first, second] = played.calls.as_slice() else { panic!("two calls, not {}", played.calls.len()) };
    hears(first, (1, 2), one_talks, one_ends);
    hears(second, (3, 4), two_talks, two_ends);
}

/// Plays a call of an extension to an outside number that is refused with `status`. `ms` later the extension calls the
/// number `to` at the host `to_host`. Returns the outcomes of the records.
fn tried_again(status: u16, ms: i64, to_host: u8, to: &str) -> Vec<CallOutcome> {
    let (mut scene, mut outside, mut ours) = outside_and_200();
    let one = scene.dialog(&mut ours, &mut outside);
    scene.invite(one);
    scene.refuse(one, status, &[]);
    scene.wait(ms);
    let mut target = ScenePhone { sip: ip(to_host, 5_060), ..ScenePhone::new(to, 1) };
    let two = scene.dialog(&mut ours, &mut target);
    scene.connect(two);
    scene.talk(two, 400);
    scene.bye(two, Side::Caller);
    play(&scene).calls.iter().map(|c| c.record.outcome).collect()
}

#[test]
fn refused_invite_retried_with_a_new_call_id_is_one_call() {
    // Reasons to try again at once. The codecs were refused, or another provider is used because the provider has a
    // fault or does not know the number.
    for (status, host) in [(488, 1), (415, 1), (407, 1), (422, 1), (503, 1), (503, 4), (480, 4), (404, 4)] {
        assert_eq!(tried_again(status, 300, host, "+79990000001"), [CallOutcome::Answered], "{status} to {host}");
    }
}

#[test]
fn a_person_who_dials_again_makes_another_call() {
    let (refused, answered) = (CallOutcome::Failed, CallOutcome::Answered);
    // The second attempt is a call of its own if it comes 3 s later, because no machine waits so long. The same is true
    // if the called person was busy (486), declined (603) or did not answer (480 from the same host).
    assert_eq!(tried_again(488, 3_000, 1, "+79990000001"), [refused, answered]);
    assert_eq!(tried_again(486, 300, 1, "+79990000001"), [CallOutcome::Busy, answered]);
    assert_eq!(tried_again(603, 300, 4, "+79990000001"), [CallOutcome::Declined, answered]);
    assert_eq!(tried_again(480, 300, 1, "+79990000001"), [CallOutcome::NoAnswer, answered]);
    // The second call goes to another number.
    assert_eq!(tried_again(503, 300, 4, "+79990000002"), [refused, answered]);
}

#[test]
fn a_refused_invite_with_a_new_tag_is_one_call() {
    for (status, first_number) in [(488, "+79990000001"), (484, "+7999000")] {
        let (mut scene, mut outside, mut ours) = outside_and_200();
        let call = scene.dialog(&mut ours, &mut outside);
        let dialog = scene.at(call);
        first_number.clone_into(&mut dialog.users[1]);
        first_number.clone_into(&mut dialog.request_user);
        scene.invite(call);
        scene.refuse(call, status, &[]);
        scene.wait(1_500);
        let dialog = scene.at(call);
        dialog.tags = ["again".to_owned(), "other".to_owned()];
        "+79990000001".clone_into(&mut dialog.users[1]);
        "+79990000001".clone_into(&mut dialog.request_user);
        scene.connect(call);
        scene.talk(call, 400);
        scene.bye(call, Side::Caller);
        let played = play(&scene);
        let record = &played.only().record;
        assert_eq!((record.outcome, record.to.as_deref()), (CallOutcome::Answered, Some("+79990000001")), "{status}");
        assert_eq!(record.legs[1].joined_by, Some(CorrelationRule::SameCallId));
    }
}

#[test]
fn a_refused_copy_of_an_invite_does_not_end_the_call() {
    let mut office = Office::new();
    let (a, b) = (office.inbound(), office.rings_200());
    let scene = &mut office.scene;
    scene.invite(a);
    // The provider sends the same INVITE by a second way. Only its Via branch differs (RFC 3261 section 8.2.2.2).
    let other_way = |text: &str| text.replace("branch=z9hG4bK", "branch=z9hG4bKsecond");
    let cseq = MessageChange::CSeq(scene.get(a).invite_cseq[0]);
    let offer = scene.sdp(a, Side::Caller, &[]);
    scene.request(a, Side::Caller, "INVITE", &[MessageChange::Sdp(offer), cseq.clone()]);
    scene.edit_last(other_way);
    scene.response(a, Side::Callee, (482, "INVITE"), &[MessageChange::Branch("merged")]);
    scene.edit_last(other_way);
    scene.request(a, Side::Caller, "ACK", &[cseq, MessageChange::Branch("merged")]);
    scene.edit_last(other_way);
    scene.invite_and_ring(b);
    scene.ring(a);
    scene.wait(1_000);
    scene.answer(b);
    scene.answer(a);
    scene.bridge(a, b, 2_000);
    scene.bye_all(&[a, b], Side::Caller);
    let played = play(scene);
    let record = &played.only().record;
    assert_eq!((record.outcome, record.internal.as_deref()), (CallOutcome::Answered, Some("200")));
}

/// Both copies of an INVITE are refused with 482, e.g. because the call goes in a circle. So the call is over.
#[test]
fn an_invite_whose_copies_are_both_refused_is_over() {
    let mut office = Office::new();
    let a = office.inbound();
    let scene = &mut office.scene;
    scene.invite(a);
    let other_way = |text: &str| text.replace("branch=z9hG4bK", "branch=z9hG4bKsecond");
    let cseq = MessageChange::CSeq(scene.get(a).invite_cseq[0]);
    let offer = scene.sdp(a, Side::Caller, &[]);
    scene.request(a, Side::Caller, "INVITE", &[MessageChange::Sdp(offer), cseq]);
    scene.edit_last(other_way);
    for is_second_copy in [true, false] {
        scene.response(a, Side::Callee, (482, "INVITE"), &[]);
        scene.edit_last(|text| if is_second_copy { other_way(text) } else { text.to_owned() });
    }
    let refused = scene.now();
    scene.wait(60_000);
    let played = play(scene);
    let record = &played.only().record;
    assert_eq!((record.outcome, record.sip_status), (CallOutcome::Failed, Some(482)));
    assert!(record.ended_at.is_some_and(|ended| ended <= at(refused)), "the call ends with the second 482");
}

/// The mirror shows the INVITE with credentials after its answer.
#[test]
fn an_invite_with_credentials_seen_after_its_answer_is_no_new_call() {
    let mut office = Office::new();
    let a = office.inbound();
    let scene = &mut office.scene;
    scene.invite(a);
    scene.refuse(a, 407, &[MessageChange::Branch("challenge")]);
    let second = scene.packets().len();
    scene.invite(a);
    scene.ring(a);
    scene.wait(1_000);
    scene.answer(a);
    scene.talk(a, 1_000);
    scene.bye(a, Side::Caller);
    let mut packets = scene.packets();
    let answer = packets.iter().position(|p| p.payload.starts_with(b"SIP/2.0 200")).expect("an answer");
    packets[second..=answer].rotate_left(1);
    let played = play_packets(&packets, scene.now(), Config::default());
    let record = &played.only().record;
    assert_eq!((record.outcome, record.legs.len()), (CallOutcome::Answered, 1));
}

#[test]
fn a_second_trunk_after_a_silent_one_belongs_to_the_call() {
    let mut scene = Scene::new();
    let (mut e200, mut pbx) = (ScenePhone::new("200", 2), ScenePhone::new("+74953009080", 7));
    let (mut silent, mut second) = (ScenePhone::new(OUTSIDE, 3), ScenePhone::new(OUTSIDE, 1));
    let a = scene.leg(&mut e200, &mut pbx, ["200", OUTSIDE]);
    let lost = scene.leg(&mut pbx, &mut silent, ["+74953009080", OUTSIDE]);
    let b = scene.leg(&mut pbx, &mut second, ["+74953009080", OUTSIDE]);
    scene.invite(a);
    // The first provider is down: it sends nothing, and the PBX repeats its INVITE.
    for pause_ms in [500, 1_000, 2_500] {
        let cseq = MessageChange::CSeq(101);
        let offer = scene.sdp(lost, Side::Caller, &[]);
        scene.request(lost, Side::Caller, "INVITE", &[MessageChange::Sdp(offer), cseq]);
        scene.wait(pause_ms);
    }
    scene.invite_and_ring(b);
    scene.wait(1_000);
    scene.answer(b);
    scene.answer(a);
    let talks = scene.now();
    scene.bridge(a, b, 2_000);
    let ended = scene.bye_all(&[a, b], Side::Caller);
    let played = play(&scene);
    let record = &played.only().record;
    assert_eq!((record.outcome, record.internal.as_deref()), (CallOutcome::Answered, Some("200")));
    let joined: Vec<_> = record.legs.iter().map(|leg| leg.joined_by).collect();
    assert!(joined.contains(&Some(CorrelationRule::NextTrunk)), "{joined:?}");
    hears(played.only(), (2, 1), talks, ended);
}
