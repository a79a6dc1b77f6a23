//! Tests of pending and refused offers (RFC 3264 sections 4 and 8): until its answer, an offer does not replace the
//! session description that applies.

use callspan::call::record::Side;

use crate::scenarios::dialog_lifecycle::hears;
use crate::scenarios::direct;
use crate::support::playback::play;
use crate::support::scenario::{MessageChange, RtpSender, ip, sdp};

/// Plays a call with a re-INVITE or UPDATE that gives payload type 8 another meaning. The offer is pending for
/// `pending_ms`, and then it is refused.
fn refused(by: Side, method: &str, pending_ms: i64, status: u16) {
    let (mut scene, call, _) = direct();
    let talks = scene.now();
    scene.talk(call, 1_000);
    let media = scene.get(call).media[by.channel()];
    let offer = sdp(media, 9, "8", &["a=rtpmap:8 PCMU/8000"]);
    scene.request(call, by, method, &[MessageChange::Sdp(offer)]);
    scene.talk(call, pending_ms);
    scene.response(call, by.other(), (status, method), &[]);
    scene.talk(call, 1_000);
    let ended = scene.bye(call, Side::Caller);
    let played = play(&scene);
    // The exchange of messages itself takes 20 ms without sound.
    hears(played.only(), (1, 2), talks, talks + 1_000);
    hears(played.only(), (1, 2), ended - 900, ended);
    if pending_ms > 0 {
        hears(played.only(), (1, 2), talks + 1_100, talks + 1_000 + pending_ms);
    }
    let codecs = &played.only().record.sides;
    assert_eq!((codecs.caller.codecs.len(), codecs.callee.codecs.len()), (1, 1), "{by:?} {method} {pending_ms}");
}

#[test]
fn a_refused_offer_changes_nothing() {
    for by in [Side::Caller, Side::Callee] {
        for (method, status) in [("INVITE", 488), ("INVITE", 491), ("UPDATE", 504)] {
            for pending_ms in [0, 400, 2_000] {
                refused(by, method, pending_ms, status);
            }
        }
    }
}

#[test]
fn media_follows_an_offer_before_its_answer_is_captured() {
    for by in [Side::Caller, Side::Callee] {
        let (mut scene, call, _) = direct();
        scene.talk(call, 1_000);
        // The side that sends the offer moves to another address and accepts payload type 97. The other side uses both
        // before it sends its 200.
        let moved = ip(50, 30_000);
        scene.at(call).media[by.channel()] = moved;
        let offer = sdp(moved, 9, "97 8", &["a=rtpmap:97 PCMA/8000"]);
        scene.request(call, by, "INVITE", &[MessageChange::Sdp(offer)]);
        let talks = scene.now();
        let flow = scene.flow(call, by.other());
        *scene.sender(flow) = RtpSender { ssrc: 0x0bad_cafe, sequence: 9, time: 5, pt: 97 };
        scene.talk(call, 600);
        let until = scene.now();
        let answer = sdp(scene.get(call).media[by.other().channel()], 9, "97 8", &["a=rtpmap:97 PCMA/8000"]);
        scene.response(call, by.other(), (200, "INVITE"), &[MessageChange::Sdp(answer)]);
        let cseq = scene.get(call).invite_cseq[by.channel()];
        scene.request(call, by, "ACK", &[MessageChange::CSeq(cseq)]);
        let answered = scene.now();
        scene.talk(call, 1_000);
        let ended = scene.bye(call, Side::Caller);
        let played = play(&scene);
        hears(played.only(), (1, 2), talks, until);
        hears(played.only(), (1, 2), answered, ended);
    }
}
