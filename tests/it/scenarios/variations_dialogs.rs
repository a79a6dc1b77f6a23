//! Random calls made from a seed, which varies forks and forwarded branches, repeated attempts, and reused Call-IDs.

use callspan::call::record::{CallDirection, Side};
use fastrand::Rng;

use super::variations::{Wanted, each_seed, fault, phone, play_without};
use super::{DID, OUTSIDE};
use crate::support::scenario::{DialogId, MessageChange, Scene, ScenePhone, ip};

fn wanted_inbound(internal: &str, voice: u8) -> Wanted {
    Wanted::answered(CallDirection::Inbound, [OUTSIDE, DID, internal], [1, voice])
}

/// Plays calls for which the PBX rings several telephones, and sometimes a mobile telephone outside. One of the
/// telephones answers.
fn forked(seed: u64) -> Option<String> {
    let mut rng = Rng::with_seed(seed);
    let mut scene = Scene::noisy();
    let (mut outside, mut pbx) = (phone(OUTSIDE, ip(1, 5060), 1), phone(DID, ip(9, 5060), 7));
    let a = scene.leg(&mut outside, &mut pbx, [OUTSIDE, DID]);
    let branches = rng.u8(2..=4);
    let winner = usize::from(rng.u8(0..branches));
    let shared = rng.bool().then(|| pbx.media());
    let mut legs: Vec<DialogId> = Vec::new();
    for n in 0..branches {
        let user = format!("20{n}");
        let mut telephone = phone(&user, ip(20 + n, 5060), 2 + n);
        let leg = scene.leg(&mut pbx, &mut telephone, [OUTSIDE, &user]);
        if let Some(media) = shared {
            scene.at(leg).media[0] = media;
        }
        legs.push(leg);
    }
    if rng.bool() {
        // This branch is forwarded to an outside number and never answered.
        let leg = scene.leg(&mut pbx, &mut outside, [OUTSIDE, "+79990000077"]);
        legs.push(leg);
    }
    let mut order = legs.clone();
    rng.shuffle(&mut order);
    scene.invite(a);
    for leg in &order {
        scene.wait(i64::from(rng.u16(0..1_000)));
        scene.invite(*leg);
        if rng.bool() {
            scene.ring(*leg);
        }
    }
    scene.wait(i64::from(rng.u16(300..4_000)));
    scene.answer(legs[winner]);
    scene.answer(a);
    for (n, leg) in legs.iter().enumerate() {
        if n != winner && rng.u8(0..4) > 0 {
            scene.cancel(*leg);
        }
    }
    scene.bridge(a, legs[winner], 4_000);
    scene.bye_all(&[a, legs[winner]], Side::Caller);
    let lost = [None, Some("SIP/2.0 100"), Some("ACK"), Some("BYE")][rng.usize(0..4)];
    let id = scene.get(if rng.bool() { a } else { legs[winner] }).call_id.clone();
    fault(&play_without(&scene, &id, lost), &[wanted_inbound(&format!("20{winner}"), 2 + winner as u8)])
}

#[test]
fn forked_call_has_the_record_of_the_branch_that_answers() {
    each_seed("forks", forked);
}

/// Makes one dialog of extension 200 with an outside party, without a PBX.
fn outbound(scene: &mut Scene, to: &str) -> DialogId {
    let (mut e200, mut trunk) = (phone("200", ip(2, 5060), 2), ScenePhone::new(to, 1));
    scene.leg(&mut e200, &mut trunk, ["200", to])
}

/// Sets the number that the next INVITE calls.
fn dial(scene: &mut Scene, call: DialogId, number: &str) {
    let dialog = scene.at(call);
    number.clone_into(&mut dialog.users[1]);
    number.clone_into(&mut dialog.request_user);
}

fn wanted_outbound(to: &str) -> Wanted {
    Wanted::answered(CallDirection::Outbound, ["200", to, "200"], [2, 1])
}

/// Plays calls that are dialled digit by digit (RFC 3578), or refused and tried again at once.
fn tried_again(seed: u64) -> Option<String> {
    let mut rng = Rng::with_seed(seed);
    let mut scene = Scene::noisy();
    let overlap = rng.bool();
    let tries = rng.usize(1..=3);
    let status = if overlap { 484 } else { [401, 407, 422, 488][rng.usize(0..4)] };
    let (same_id, new_tag) = (overlap || rng.bool(), rng.bool());
    let call = outbound(&mut scene, OUTSIDE);
    let first = scene.get(call).clone();
    for n in 0..tries {
        let dialled = if overlap { &OUTSIDE[..OUTSIDE.len() - tries + n] } else { OUTSIDE };
        dial(&mut scene, call, dialled);
        scene.invite(call);
        scene.refuse(call, status, &[]);
        scene.wait(i64::from(rng.u16(0..2_500)));
        let dialog = scene.at(call);
        if new_tag {
            dialog.tags[0] = format!("again{n}");
        }
        if !same_id && !new_tag {
            dialog.tags[0] = first.tags[0].clone();
        }
        dialog.tags[1] = format!("other{n}");
    }
    dial(&mut scene, call, OUTSIDE);
    scene.invite(call);
    if rng.bool() {
        scene.ring(call);
    } else {
        untagged_ring(&mut scene, call);
    }
    scene.wait(1_000);
    scene.answer(call);
    scene.talk(call, 3_000);
    scene.bye(call, Side::Callee);
    let lost = [None, Some("SIP/2.0 100"), Some("ACK"), Some("BYE")][rng.usize(0..4)];
    fault(&play_without(&scene, &first.call_id, lost), &[wanted_outbound(OUTSIDE)])
        .map(|f| format!("status {status}, new tag {new_tag}, tries {tries}: {f}"))
}

/// Plays an extension's calls through a PBX. The extension dials digit by digit (RFC 3578) or its INVITE is refused, with
/// pauses of seconds. The PBX calls the provider when the last INVITE came.
fn tried_again_through_a_pbx(seed: u64) -> Option<String> {
    let mut rng = Rng::with_seed(seed);
    let mut scene = Scene::noisy();
    let (mut e200, mut pbx) = (phone("200", ip(2, 5060), 2), phone(DID, ip(9, 5060), 7));
    let mut trunk = ScenePhone::new(OUTSIDE, 1);
    let call = scene.leg(&mut e200, &mut pbx, ["200", OUTSIDE]);
    let onward = scene.leg(&mut pbx, &mut trunk, [DID, OUTSIDE]);
    let overlap = rng.bool();
    let status = if overlap { [484, 404][rng.usize(0..2)] } else { [401, 407, 488][rng.usize(0..3)] };
    // The next INVITE comes before the 484 to the last one (RFC 3578 section 3.1).
    let hurries = overlap && rng.bool();
    let tries = rng.usize(1..=3);
    let mut refused = Vec::new();
    for n in 0..tries {
        let dialled = if overlap { &OUTSIDE[..OUTSIDE.len() - tries + n] } else { OUTSIDE };
        dial(&mut scene, call, dialled);
        scene.invite(call);
        refused.push(scene.get(call).clone());
        if !hurries {
            scene.refuse(call, status, &[]);
        }
        // The leg of a refused INVITE closes 32 s later at most, and soon after a 404.
        scene.wait(i64::from(if status == 404 { rng.u16(0..1_500) } else { rng.u16(0..6_000) }));
        scene.at(call).tags[1] = format!("other{n}");
    }
    dial(&mut scene, call, OUTSIDE);
    scene.invite(call);
    if hurries {
        let last = scene.get(call).clone();
        for earlier in refused {
            let cseq = MessageChange::CSeq(earlier.invite_cseq[0]);
            *scene.at(call) = earlier.clone();
            scene.response(call, Side::Callee, (484, "INVITE"), std::slice::from_ref(&cseq));
            scene.request(call, Side::Caller, "ACK", &[cseq, MessageChange::Branch(&earlier.tags[1])]);
        }
        *scene.at(call) = last;
    }
    scene.invite_and_ring(onward);
    scene.ring(call);
    scene.wait(1_000);
    scene.answer(onward);
    scene.answer(call);
    scene.bridge(call, onward, 3_000);
    scene.bye_all(&[call, onward], Side::Caller);
    let lost = [None, Some("SIP/2.0 100"), Some("ACK"), Some("SIP/2.0 180")][rng.usize(0..4)];
    let call_id = scene.get(call).call_id.clone();
    fault(&play_without(&scene, &call_id, lost), &[wanted_outbound(OUTSIDE)])
        .map(|f| format!("status {status}, hurries {hurries}, tries {tries}, lost {lost:?}: {f}"))
}

#[test]
fn repeated_attempts_through_a_pbx_are_one_call() {
    each_seed("tried again through a PBX", tried_again_through_a_pbx);
}

/// Adds a 180 without a tag in its To header.
fn untagged_ring(scene: &mut Scene, d: DialogId) {
    let tag = format!(";tag={}", scene.get(d).tags[1]);
    scene.ring(d);
    scene.edit_last(|text| text.replace(&tag, ""));
}

#[test]
fn overlap_dialling_and_repeated_attempts_are_one_call() {
    each_seed("tried again", tried_again);
}

/// Plays calls of a telephone that uses its Call-ID again after the BYE of the previous call, and sometimes its tag,
/// too.
fn used_again(seed: u64) -> Option<String> {
    let mut rng = Rng::with_seed(seed);
    let mut scene = Scene::noisy();
    let one = outbound(&mut scene, OUTSIDE);
    scene.connect(one);
    scene.talk(one, 3_000);
    scene.bye(one, if rng.bool() { Side::Caller } else { Side::Callee });
    scene.wait(i64::from(rng.u16(0..4_000)));
    let to = if rng.bool() { OUTSIDE } else { "+79990000002" };
    let (mut e200, mut trunk) = (phone("200", ip(2, 5060), 4), phone(to, ip(1, 5060), 5));
    let port = if rng.bool() { 10_000 } else { 12_000 };
    e200.next_port = port;
    trunk.next_port = port;
    let two = scene.leg(&mut e200, &mut trunk, ["200", to]);
    let (call_id, tags, new_tag) = (scene.get(one).call_id.clone(), scene.get(one).tags.clone(), rng.bool());
    let dialog = scene.at(two);
    dialog.call_id.clone_from(&call_id);
    if !new_tag {
        dialog.tags[0].clone_from(&tags[0]);
    }
    dialog.cseq = [1, 1];
    let begins = scene.now();
    scene.connect(two);
    scene.talk(two, 3_000);
    scene.bye(two, Side::Caller);
    let lost = [None, Some("SIP/2.0 100"), Some("ACK"), Some("SIP/2.0 180")][rng.usize(0..4)];
    let second = Wanted { voices: Some([4, 5]), ..wanted_outbound(to) };
    fault(&play_without(&scene, &call_id, lost), &[wanted_outbound(OUTSIDE), second])
        .map(|f| format!("lost {lost:?} new tag {new_tag}, port {port}, begins {begins}: {f}"))
}

#[test]
fn calls_with_a_reused_call_id_stay_apart() {
    each_seed("used again", used_again);
}

/// Plays calls of a telephone that loses power in a call. It then uses its Call-ID and tag again, and the mirror shows no
/// BYE of the first call.
fn used_again_without_a_bye(seed: u64) -> Option<String> {
    let mut rng = Rng::with_seed(seed);
    let mut scene = Scene::noisy();
    let through_pbx = rng.bool();
    let others = ["+79990000001", "+79990000002"];
    let (mut e200, mut pbx) = (phone("200", ip(2, 5060), 2), phone(DID, ip(9, 5060), 7));
    let mut wanted = Vec::new();
    let mut first: Option<DialogId> = None;
    for (n, to) in others.into_iter().enumerate() {
        let voice = 3 + n as u8;
        let mut trunk = phone(to, ip(1, 5060), voice);
        trunk.next_port = 20_000 + 100 * n as u16;
        if rng.bool() {
            e200.next_port = 12_000;
        }
        let call = scene.leg(&mut e200, if through_pbx { &mut pbx } else { &mut trunk }, ["200", to]);
        if let Some(first) = first {
            let (call_id, tag) = (scene.get(first).call_id.clone(), scene.get(first).tags[0].clone());
            let dialog = scene.at(call);
            dialog.call_id = call_id;
            dialog.tags[0] = tag;
            dialog.cseq = [if rng.bool() { 1 } else { 200 }, 1];
        }
        first = first.or(Some(call));
        if through_pbx {
            let onward = scene.leg(&mut pbx, &mut trunk, [DID, to]);
            scene.connect_through(call, onward, 1_000);
            scene.bridge(call, onward, 3_000);
            if rng.bool() {
                scene.bye(onward, Side::Caller);
            }
        } else {
            scene.connect(call);
            scene.talk(call, 3_000);
        }
        wanted.push(Wanted { voices: Some([2, voice]), ..wanted_outbound(to) });
        if n == 1 {
            scene.bye(call, Side::Caller);
        }
        scene.wait(i64::from(rng.u16(1_000..40_000)));
    }
    fault(&play_without(&scene, "", None), &wanted).map(|f| format!("through PBX {through_pbx}: {f}"))
}

#[test]
fn a_restarted_telephones_next_call_is_a_call_of_its_own() {
    each_seed("used again without BYE", used_again_without_a_bye);
}
