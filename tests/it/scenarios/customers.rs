//! Tests of codes that are dialled at a hosted PBX. Its customers have the same codes and extensions, so a code of one
//! customer must not change the record of another customer's call.

use callspan::call::correlation_rule::CorrelationRule;
use callspan::call::record::{CallOutcome, CallRecord, Side};
use callspan::net::Endpoint;

use crate::scenarios::{DID, MUSIC, OUTSIDE, call_of, related};
use crate::support::playback::{PlayedScene, play, play_packets};
use crate::support::scenario::{DialogId, MessageChange, Scene, ScenePacket, ScenePhone};

/// Public address of the NAT of the called customer.
const NAT: [u8; 4] = [198, 51, 100, 10];
/// Public address of the NAT of another customer.
const OTHER_NAT: [u8; 4] = [198, 51, 100, 11];

/// Returns a telephone of the hosted PBX, or the PBX itself, at this address.
fn phone(user: &str, address: [u8; 4], port: u16, voice: u8) -> ScenePhone {
    ScenePhone { sip: Endpoint::v4(address, port), ..ScenePhone::new(user, voice) }
}

fn pbx() -> ScenePhone {
    phone(DID, [203, 0, 113, 20], 5_060, MUSIC)
}

/// What follows after the PBX has answered the code on leg `c`, while leg `a` waits and `b` rings.
type AfterCode = fn(&mut Scene, [DialogId; 3]);

/// The voice mail answers the caller, because 200 did not.
fn voice_mail(scene: &mut Scene, [a, b, c]: [DialogId; 3]) {
    scene.wait(300);
    scene.answer(a);
    scene.cancel(b);
    let voices = [(1, a, Side::Caller), (MUSIC, a, Side::Callee), (3, c, Side::Caller), (MUSIC, c, Side::Callee)];
    scene.sound(&voices, 4_000);
}

/// The caller talks with the telephone that dialled the code.
fn picked_up(scene: &mut Scene, [a, b, c]: [DialogId; 3]) {
    scene.answer(a);
    scene.cancel(b);
    scene.sound(&[(1, a, Side::Caller), (3, a, Side::Callee), (3, c, Side::Caller), (1, c, Side::Callee)], 6_000);
}

/// Plays a call that rings 200 at `rung` while the telephone `dialler` dials `code`. Returns the legs of the caller and
/// of the dialler.
fn code_beside_call(
    scene: &mut Scene,
    rung: &mut ScenePhone,
    dialler: &mut ScenePhone,
    code: &str,
    after: AfterCode,
) -> [DialogId; 2] {
    let (mut outside, mut pbx) = (phone(OUTSIDE, [192, 0, 2, 5], 5_060, 1), pbx());
    let a = scene.leg(&mut outside, &mut pbx, [OUTSIDE, DID]);
    let b = scene.leg(&mut pbx, rung, [OUTSIDE, "200"]);
    scene.invite_and_ring(a);
    scene.invite_and_ring(b);
    scene.wait(3_000);
    let c = scene.leg(dialler, &mut pbx, ["201", code]);
    scene.invite(c);
    scene.answer(c);
    after(scene, [a, b, c]);
    scene.bye(a, Side::Caller);
    scene.bye(c, Side::Caller);
    [a, c]
}

/// Plays 201 at `address`, which dials `code` while 200 of another telephone rings for a caller.
fn code_of(address: [u8; 4], code: &str, after: AfterCode) -> (PlayedScene, Scene, [DialogId; 2]) {
    let mut scene = Scene::new();
    let (mut e200, mut e201) = (phone("200", NAT, 31_000, 2), phone("201", address, 32_000, 3));
    let legs = code_beside_call(&mut scene, &mut e200, &mut e201, code, after);
    (play(&scene), scene, legs)
}

fn answer_of(record: &CallRecord) -> (CallOutcome, Option<&str>, bool) {
    (record.outcome, record.internal.as_deref(), record.operator_answered_at.is_some())
}

#[test]
fn a_code_of_another_customer_answers_no_ringing_call() {
    for code in ["*8", "*97", "*8200"] {
        let (played, scene, [a, c]) = code_of(OTHER_NAT, code, voice_mail);
        let (call, other) = (&call_of(&played, &scene, a).record, &call_of(&played, &scene, c).record);
        assert_eq!(answer_of(call), (CallOutcome::Abandoned, Some("200"), false), "{code}");
        assert!(call.related.is_empty() && other.related.is_empty(), "{code}");
    }
}

#[test]
fn a_code_of_the_same_customer_names_the_extension() {
    for code in ["*8", "*8200"] {
        let (played, scene, [a, c]) = code_of(NAT, code, picked_up);
        let (call, other) = (&call_of(&played, &scene, a).record, &call_of(&played, &scene, c).record);
        assert_eq!(answer_of(call), (CallOutcome::Answered, Some("201"), true), "{code}");
        assert!(related(call, other), "{code}");
    }
}

/// The telephone that rings has a name. No REGISTER was captured that shows that it is an extension.
#[test]
fn a_code_beside_a_ringing_telephone_with_a_name_names_the_extension() {
    let mut scene = Scene::new();
    let (mut outside, mut pbx) = (phone(OUTSIDE, [192, 0, 2, 5], 5_060, 1), pbx());
    let (mut named, mut e201) = (phone("reception", NAT, 31_000, 2), phone("201", NAT, 32_000, 3));
    let a = scene.leg(&mut outside, &mut pbx, [OUTSIDE, DID]);
    let b = scene.leg(&mut pbx, &mut named, [OUTSIDE, "reception"]);
    let c = scene.leg(&mut e201, &mut pbx, ["201", "*8"]);
    scene.invite_and_ring(a);
    scene.invite_and_ring(b);
    scene.wait(3_000);
    scene.invite(c);
    scene.answer(c);
    picked_up(&mut scene, [a, b, c]);
    scene.bye_all(&[a, c], Side::Caller);
    let played = play(&scene);
    let (call, other) = (&call_of(&played, &scene, a).record, &call_of(&played, &scene, c).record);
    assert_eq!((call.internal.as_deref(), related(call, other)), (Some("201"), true));
}

/// Returns the packets of a scene in which the telephones of 200 and 201, each given by its address, have domains.
fn in_domains(scene: &Scene, telephones: [([u8; 4], &str); 2]) -> Vec<ScenePacket> {
    let uris = ["200", "201"].into_iter().zip(telephones).map(|(user, ([a, b, c, d], domain))| {
        (format!("sip:{user}@{a}.{b}.{c}.{d}>"), format!("sip:{user}@{domain}>"))
    });
    let uris: Vec<(String, String)> = uris.collect();
    let mut packets = scene.packets();
    for packet in packets.iter_mut().filter(|packet| packet.payload.first() != Some(&0x80)) {
        let text = String::from_utf8_lossy(&packet.payload).into_owned();
        let text = uris.iter().fold(text, |text, (address, name)| text.replace(address, name));
        packet.payload = text.into_bytes();
    }
    packets
}

/// Customers with private addresses reach the PBX through a VPN. Each has a domain of its own.
#[test]
fn a_code_in_another_domain_answers_no_ringing_call() {
    for (domain, is_own) in [("two.example.com", false), ("one.example.com", true)] {
        let mut scene = Scene::new();
        let (mut e200, mut e201) = (phone("200", [10, 1, 0, 2], 5_060, 2), phone("201", [10, 2, 0, 3], 5_060, 3));
        let after = if is_own { picked_up } else { voice_mail };
        let [a, c] = code_beside_call(&mut scene, &mut e200, &mut e201, "*8", after);
        let packets = in_domains(&scene, [([10, 1, 0, 2], "one.example.com"), ([10, 2, 0, 3], domain)]);
        let played = play_packets(&packets, scene.now(), Default::default());
        let (call, other) = (&call_of(&played, &scene, a).record, &call_of(&played, &scene, c).record);
        let want = match is_own {
            true => (CallOutcome::Answered, Some("201"), true),
            false => (CallOutcome::Abandoned, Some("200"), false),
        };
        assert_eq!((answer_of(call), related(call, other)), (want, is_own), "{domain}");
    }
}

/// The telephone of 201 is at home, so its address says nothing. Only the voices show which call it picked up.
#[test]
fn voices_show_which_call_a_telephone_at_home_picked_up() {
    let mut scene = Scene::noisy();
    let (mut e200, mut e201) = (phone("200", NAT, 31_000, 2), phone("201", [192, 0, 2, 77], 5_060, 3));
    let [a, c] = code_beside_call(&mut scene, &mut e200, &mut e201, "*8", picked_up);
    let played = play(&scene);
    let (call, other) = (&call_of(&played, &scene, a).record, &call_of(&played, &scene, c).record);
    assert_eq!(answer_of(call), (CallOutcome::Answered, Some("201"), true));
    assert_eq!(call.relations.iter().map(|r| r.why).collect::<Vec<_>>(), [CorrelationRule::MediaContent]);
    assert!(related(call, other));
}

/// Both customers park calls at the place 701.
#[test]
fn a_parked_call_is_related_only_to_a_telephone_of_its_customer() {
    for (address, is_own) in [(OTHER_NAT, false), (NAT, true)] {
        let mut scene = Scene::new();
        let (mut outside, mut pbx) = (phone(OUTSIDE, [192, 0, 2, 5], 5_060, 1), pbx());
        let (mut e200, mut e201) = (phone("200", NAT, 31_000, 2), phone("201", address, 32_000, 3));
        let a = scene.leg(&mut outside, &mut pbx, [OUTSIDE, DID]);
        let b = scene.leg(&mut pbx, &mut e200, [OUTSIDE, "200"]);
        scene.connect_through(a, b, 1_000);
        scene.bridge(a, b, 1_000);
        let refer_to = MessageChange::Header("Refer-To: <sip:701@203.0.113.20>");
        scene.request(b, Side::Callee, "REFER", &[refer_to]);
        scene.response(b, Side::Caller, (202, "REFER"), &[]);
        scene.bye(b, Side::Caller);
        scene.sound(&[(1, a, Side::Caller), (MUSIC, a, Side::Callee)], 3_000);
        let c = scene.leg(&mut e201, &mut pbx, ["201", "701"]);
        scene.invite(c);
        scene.answer(c);
        scene.sound(&[(1, a, Side::Caller), (3, a, Side::Callee), (3, c, Side::Caller), (1, c, Side::Callee)], 2_000);
        scene.bye_all(&[a, c], Side::Caller);
        let played = play(&scene);
        let [call, other] = [a, c].map(|leg| &call_of(&played, &scene, leg).record);
        assert_eq!(related(call, other), is_own, "{address:?}");
    }
}

/// Plays 201 at the address `dialler`, which dials a pickup code while 200 at the address `rung` rings for a caller.
/// Checks that the code names 201 only if both telephones belong to one customer.
#[track_caller]
fn names_extension_of_customer(rung: &str, dialler: &str, is_own: bool) {
    let mut scene = Scene::new();
    let at = |user, address: &str, voice| ScenePhone {
        sip: address.parse().expect("an address"),
        ..ScenePhone::new(user, voice)
    };
    let (mut e200, mut e201) = (at("200", rung, 2), at("201", dialler, 3));
    let after = if is_own { picked_up } else { voice_mail };
    let [a, c] = code_beside_call(&mut scene, &mut e200, &mut e201, "*8", after);
    let played = play(&scene);
    let (call, other) = (&call_of(&played, &scene, a).record, &call_of(&played, &scene, c).record);
    let want = match is_own {
        true => (CallOutcome::Answered, Some("201"), true),
        false => (CallOutcome::Abandoned, Some("200"), false),
    };
    assert_eq!((answer_of(call), related(call, other)), (want, is_own), "{dialler}");
}

/// Telephones with global IPv6 addresses are in one network, or at two customers of the PBX.
#[test]
fn a_code_in_the_same_ipv6_network_names_the_extension() {
    let rung = "[2001:db8:0:1::20]:5060";
    names_extension_of_customer(rung, "[2001:db8:0:1::21]:5060", true);
    names_extension_of_customer(rung, "[2001:db8:0:2::21]:5060", false);
}

/// The PBX has IPv6 only. All its customers are behind a translator, so their addresses have the same first 64 bits.
#[test]
fn a_code_of_another_customer_behind_a_translator_answers_no_ringing_call() {
    let rung = "[64:ff9b::c633:640a]:31000";
    names_extension_of_customer(rung, "[64:ff9b::c633:640b]:32000", false);
    names_extension_of_customer(rung, "[64:ff9b::c633:640a]:32000", true);
    names_extension_of_customer(rung, "198.51.100.10:32000", true);
    names_extension_of_customer("[64:ff9b:1::c633:640a]:31000", "[64:ff9b:1::c633:640b]:32000", false);
    names_extension_of_customer("[2001:0:cb00:7114::1]:5060", "[2001:0:cb00:7114::2]:5060", false);
}

/// The PBX belongs to a carrier. Each customer has an address of the carrier's network.
#[test]
fn a_code_in_the_network_of_a_carrier_concerns_one_customer() {
    names_extension_of_customer("100.64.1.10:5060", "100.64.2.20:5060", false);
    names_extension_of_customer("100.64.1.10:5060", "100.64.1.10:5070", true);
}

/// The customers reach the PBX through a VPN, and so does the gateway to the outside. The call of one customer also rings
/// a mobile through the gateway, or is parked.
#[test]
fn a_gateway_is_no_telephone_of_a_customer() {
    let (ours, theirs) = ([10, 1, 0, 2], [10, 2, 0, 3]);
    for parks in [false, true] {
        let mut scene = Scene::new();
        let (mut gateway, mut pbx) = (phone(OUTSIDE, [10, 9, 0, 1], 5_060, 1), pbx());
        let (mut e200, mut e201) = (phone("200", ours, 5_060, 2), phone("201", theirs, 5_060, 3));
        let a = scene.leg(&mut gateway, &mut pbx, [OUTSIDE, DID]);
        let b = scene.leg(&mut pbx, &mut e200, [OUTSIDE, "200"]);
        let m = scene.leg(&mut pbx, &mut gateway, [OUTSIDE, "+79990000077"]);
        let c = scene.leg(&mut e201, &mut pbx, ["201", if parks { "701" } else { "*8" }]);
        if parks {
            scene.connect_through(a, b, 1_000);
            scene.bridge(a, b, 1_000);
            let refer_to = MessageChange::Header("Refer-To: <sip:701@203.0.113.20>");
            scene.request(b, Side::Callee, "REFER", &[refer_to]);
            scene.response(b, Side::Caller, (202, "REFER"), &[]);
            scene.bye(b, Side::Callee);
        } else {
            [a, b, m].into_iter().for_each(|leg| scene.invite_and_ring(leg));
            scene.wait(3_000);
        }
        scene.invite(c);
        scene.answer(c);
        if !parks {
            scene.cancel(m);
            voice_mail(&mut scene, [a, b, c]);
        }
        scene.bye_all(&[a, c], Side::Caller);
        let packets = in_domains(&scene, [(ours, "one.example.com"), (theirs, "two.example.com")]);
        let played = play_packets(&packets, scene.now(), Default::default());
        let [call, other] = [a, c].map(|leg| &call_of(&played, &scene, leg).record);
        assert!(!related(call, other), "parks: {parks}");
        assert_eq!(call.internal.as_deref(), Some("200"), "parks: {parks}");
    }
}
