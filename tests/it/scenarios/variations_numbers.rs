//! Random calls made from a seed, which varies the numbers of the parties, and uncommon forms of messages.

use callspan::call::record::{CallDirection, CallOutcome, Side};
use callspan::net::Endpoint;
use fastrand::Rng;

use super::variations::{Mirror, Wanted, address, disturbed, each_seed, fault, phone, play_disturbed, talk};
use super::{DID, OUTSIDE};
use crate::support::scenario::{DialogId, MessageChange, Scene, ScenePhone};

/// A PBX with its provider and one telephone, 201.
struct Office {
    scene: Scene,
    provider: ScenePhone,
    pbx: ScenePhone,
    telephone: ScenePhone,
}

impl Office {
    fn draw(rng: &mut Rng) -> Self {
        let (v6, two) = (rng.bool(), rng.u8(0..3) == 0);
        // The PBX is in the provider's network or in the network of the telephones.
        let pbx = if two { address(v6, 1, 10) } else { address(v6, 2, 10) };
        Self {
            scene: Scene::noisy(),
            provider: phone("", address(v6, 1, 200), 0),
            pbx: phone(DID, pbx, 7),
            telephone: phone("201", address(v6, 2, 101), 1),
        }
    }

    fn outbound(&mut self, dialled: &str, shown: [&str; 2]) -> [DialogId; 2] {
        let Self { scene, provider, pbx, telephone } = self;
        let a = scene.leg(telephone, pbx, [shown[0], dialled]);
        let b = scene.leg(pbx, provider, [shown[1], dialled]);
        self.voices([a, b], [1, 0]);
        [a, b]
    }

    fn inbound(&mut self, from: &str, called: &str) -> [DialogId; 2] {
        let Self { scene, provider, pbx, telephone } = self;
        let a = scene.leg(provider, pbx, [from, called]);
        let b = scene.leg(pbx, telephone, [from, "201"]);
        self.voices([a, b], [0, 1]);
        [a, b]
    }

    fn voices(&mut self, legs: [DialogId; 2], voices: [u8; 2]) {
        for leg in legs {
            self.scene.at(leg).voices = voices;
        }
    }

    fn play(&mut self, legs: &[DialogId], answered: bool, rng: &mut Rng) {
        let scene = &mut self.scene;
        let gap = i64::from(rng.u16(0..300));
        for leg in legs {
            scene.invite(*leg);
            scene.wait(gap);
        }
        legs.iter().rev().for_each(|leg| scene.ring(*leg));
        scene.wait(i64::from(rng.u16(200..2_500)));
        if answered {
            legs.iter().rev().for_each(|leg| _ = scene.answer(*leg));
            talk(scene, legs, 2_500, if rng.bool() { Side::Caller } else { Side::Callee });
        } else {
            legs.iter().for_each(|leg| scene.cancel(*leg));
        }
    }
}

/// Plays calls from and to emergency numbers and other short numbers outside the office.
pub(super) fn short_numbers(seed: u64, mirror: Mirror) -> Option<String> {
    let mut rng = Rng::with_seed(seed);
    let mut office = Office::draw(&mut rng);
    let (inbound, answered) = (rng.bool(), rng.u8(0..4) > 0);
    let short = ["112", "900", "0611", "101"][rng.usize(0..4)];
    let sos = !inbound && rng.u8(0..4) == 0;
    let legs = if inbound { office.inbound(short, DID) } else { office.outbound(short, ["201", DID]) };
    office.play(&legs, answered, &mut rng);
    let dialled = if sos { "urn:service:sos" } else { short };
    let (mut packets, faults) = disturbed(&office.scene, &legs, &mut rng);
    for packet in packets.iter_mut().filter(|_| sos) {
        // The scenario builder only makes SIP URIs with a user part, so the text is changed afterwards.
        let text = String::from_utf8_lossy(&packet.payload).into_owned();
        if text.contains("Call-ID: ") {
            packet.payload = with_service(&text, short).into_bytes();
        }
    }
    let played = mirror.play(&packets, &office.scene, &legs, &mut rng);
    let want = if inbound {
        Wanted::answered(CallDirection::Inbound, [short, DID, "201"], [0, 1])
    } else {
        Wanted::answered(CallDirection::Outbound, ["201", dialled, "201"], [1, 0])
    };
    let want = if answered { want } else { want.unanswered(CallOutcome::Cancelled) };
    fault(&played, &[want]).map(|f| format!("{faults}, inbound {inbound}, sos {sos}: {f}"))
}

/// Replaces the dialled SIP URI in Request-URI and To by a service URN (RFC 5031).
pub(super) fn with_service(text: &str, short: &str) -> String {
    let mut out = String::new();
    for line in text.split_inclusive("\r\n") {
        let target = format!("sip:{short}@");
        let names_target = line.starts_with("To:") || line.ends_with(" SIP/2.0\r\n") || line.starts_with("From:");
        match line.find(&target).filter(|_| names_target) {
            Some(at) => {
                let rest = &line[at..];
                let end = rest.find(['>', ' ']).unwrap_or(rest.len());
                out.push_str(&line[..at]);
                out.push_str("urn:service:sos");
                out.push_str(&rest[end..]);
            }
            None => out.push_str(line),
        }
    }
    out
}

#[test]
fn calls_of_short_outside_numbers_are_one_record_each() {
    each_seed("short numbers", |seed| short_numbers(seed, Mirror::Whole));
}

/// Plays calls of an extension that hides its number, and of an outside caller for whom the network asserts one or two
/// URIs.
pub(super) fn identities(seed: u64, mirror: Mirror) -> Option<String> {
    let mut rng = Rng::with_seed(seed);
    let mut office = Office::draw(&mut rng);
    let answered = rng.u8(0..4) > 0;
    let (legs, want) = if rng.bool() {
        let legs = office.outbound(OUTSIDE, ["anonymous", DID]);
        let name = ["P-Preferred-Identity", "P-Asserted-Identity"][rng.usize(0..2)];
        let dialog = office.scene.at(legs[0]);
        dialog.headers = vec![format!("{name}: <sip:201@office.example>"), "Privacy: id".to_owned()];
        if rng.bool() {
            office.scene.at(legs[1]).users[0] = "anonymous".to_owned();
            office.scene.at(legs[1]).headers =
                vec![format!("P-Asserted-Identity: <sip:{DID}@provider.example>"), "Privacy: id".to_owned()];
        }
        (legs, Wanted::answered(CallDirection::Outbound, ["201", OUTSIDE, "201"], [1, 0]))
    } else {
        let legs = office.inbound(OUTSIDE, DID);
        let uris = [format!("<sip:{OUTSIDE}@provider.example>"), format!("<tel:{OUTSIDE}>")];
        let both = format!("{}, {}", uris[rng.usize(0..2)], "<sip:trunk77@provider.example>");
        let swapped = format!("<sip:trunk77@provider.example>, {}", uris[rng.usize(0..2)]);
        let value = if rng.bool() { both } else { swapped };
        let dialog = office.scene.at(legs[0]);
        dialog.users[0] = "trunk77".to_owned();
        if rng.bool() {
            dialog.headers = vec![format!("P-Asserted-Identity: {value}")];
        } else {
            let parts = value.split_once(", ").expect("two values");
            dialog.headers =
                vec![format!("P-Asserted-Identity: {}", parts.0), format!("P-Asserted-Identity: {}", parts.1)];
        }
        (legs, Wanted::answered(CallDirection::Inbound, [OUTSIDE, DID, "201"], [0, 1]))
    };
    office.play(&legs, answered, &mut rng);
    let want = if answered { want } else { want.unanswered(CallOutcome::Cancelled) };
    let (played, faults) = play_disturbed(&office.scene, &legs, &mut rng, mirror);
    fault(&played, &[want]).map(|f| format!("{faults}: {f}"))
}

#[test]
fn calls_with_hidden_and_asserted_numbers_are_one_record_each() {
    each_seed("identities", |seed| identities(seed, Mirror::Whole));
}

/// Plays calls of a PBX that registers its number with the provider. A voice menu answers, or a telephone rings. A
/// REGISTER may come during a call.
pub(super) fn registered_trunk(seed: u64, mirror: Mirror) -> Option<String> {
    let mut rng = Rng::with_seed(seed);
    let mut office = Office::draw(&mut rng);
    let menu = rng.bool();
    let account = ["+74953009080", "74953009080", "office77"][rng.usize(0..3)];
    let trunk = phone(account, office.pbx.sip, 7);
    let late = rng.bool();
    // From an ordinary call the engine learns which host is the PBX.
    let first = office.inbound("+79990000009", DID);
    office.play(&first, true, &mut rng);
    office.scene.wait(5_000);
    if !late {
        office.scene.register(&office.telephone.clone(), &office.pbx.clone());
        let provider = office.provider.clone();
        office.scene.register(&trunk, &provider);
    }
    let legs = office.inbound(OUTSIDE, account);
    let begins = office.scene.now();
    let called = account.to_owned();
    let want = if menu {
        office.scene.at(legs[0]).voices = [0, 7];
        office.play(&legs[..1], true, &mut rng);
        let want = Wanted::answered(CallDirection::Inbound, [OUTSIDE, &called, ""], [0, 7]);
        Wanted { outcome: CallOutcome::Abandoned, ..want }
    } else {
        office.play(&legs, true, &mut rng);
        Wanted::answered(CallDirection::Inbound, [OUTSIDE, &called, "201"], [0, 1])
    };
    let end = office.scene.now();
    if late {
        office.scene.set_now(begins + i64::from(rng.u16(50..2_000)));
        let provider = office.provider.clone();
        office.scene.register(&trunk, &provider);
        office.scene.set_now(end);
    }
    let before = Wanted::answered(CallDirection::Inbound, ["+79990000009", DID, "201"], [0, 1]);
    let seen: &[DialogId] = if menu { &legs[..1] } else { &legs };
    let (played, faults) = play_disturbed(&office.scene, seen, &mut rng, mirror);
    fault(&played, &[before, want]).map(|f| format!("{faults}, menu {menu}, late {late}, {account}: {f}"))
}

#[test]
fn calls_over_a_registered_trunk_are_one_record_each() {
    each_seed("registered trunk", |seed| registered_trunk(seed, Mirror::Whole));
}

/// Plays a call, and the recording session (SIPREC) in which a session border controller sends its sound to a recorder.
pub(super) fn recorded_elsewhere(seed: u64, mirror: Mirror) -> Option<String> {
    let mut rng = Rng::with_seed(seed);
    let mut office = Office::draw(&mut rng);
    let inbound = rng.bool();
    let legs = if inbound { office.inbound(OUTSIDE, DID) } else { office.outbound(OUTSIDE, ["201", DID]) };
    let mut recorder = phone("recorder", address(false, 2, 250), 7);
    let mut client = phone("srs", office.pbx.sip, 7);
    client.next_port = 40_000;
    let session = office.scene.leg(&mut client, &mut recorder, ["src", "recorder"]);
    let mark = [
        "Require: siprec",
        "Contact: <sip:src@10.1.0.1>;+sip.src",
        "Require: siprec\r\nContact: <sip:src@10.1.0.1>;+sip.src",
    ][rng.usize(0..3)];
    office.scene.at(session).headers = mark.split("\r\n").map(str::to_owned).collect();
    let (left, right) = if inbound { (0, 1) } else { (1, 0) };
    for leg in &legs {
        office.scene.invite(*leg);
        office.scene.wait(30);
    }
    legs.iter().rev().for_each(|leg| office.scene.ring(*leg));
    office.scene.wait(i64::from(rng.u16(200..2_000)));
    legs.iter().rev().for_each(|leg| _ = office.scene.answer(*leg));
    office.scene.wait(i64::from(rng.u8(0..200)));
    office.scene.invite(session);
    office.scene.answer(session);
    let both = |leg: DialogId| [(left, leg, Side::Caller), (right, leg, Side::Callee)];
    let mut speakers: Vec<_> = legs.iter().flat_map(|leg| both(*leg)).collect();
    speakers.push((left, session, Side::Caller));
    office.scene.sound(&speakers, 3_000);
    office.scene.bye_all(&[legs[0], legs[1], session], Side::Caller);
    let want = if inbound {
        Wanted::answered(CallDirection::Inbound, [OUTSIDE, DID, "201"], [left, right])
    } else {
        Wanted::answered(CallDirection::Outbound, ["201", OUTSIDE, "201"], [left, right])
    };
    let (played, faults) = play_disturbed(&office.scene, &legs, &mut rng, mirror);
    fault(&played, &[want]).map(|f| format!("{faults}, {mark:?}: {f}"))
}

#[test]
fn call_and_its_siprec_session_are_one_record() {
    each_seed("SIPREC", |seed| recorded_elsewhere(seed, Mirror::Whole));
}

/// Plays calls with a session description in a multipart body, possibly nested, or with an address only in its ICE
/// candidates.
pub(super) fn bodies(seed: u64, mirror: Mirror) -> Option<String> {
    let mut rng = Rng::with_seed(seed);
    let mut office = Office::draw(&mut rng);
    let legs = office.inbound(OUTSIDE, DID);
    let [a, b] = legs;
    let (wrapped, ice) = (rng.u8(0..3), rng.bool());
    for leg in legs {
        offer(&mut office.scene, leg, wrapped, false);
        office.scene.response(leg, Side::Callee, (100, "INVITE"), &[]);
    }
    office.scene.ring(b);
    office.scene.ring(a);
    office.scene.wait(i64::from(rng.u16(200..2_000)));
    for (leg, ice) in [(b, ice), (a, false)] {
        answer(&mut office.scene, leg, wrapped, ice);
    }
    talk(&mut office.scene, &legs, 2_500, Side::Caller);
    let want = Wanted::answered(CallDirection::Inbound, [OUTSIDE, DID, "201"], [0, 1]);
    let (played, faults) = play_disturbed(&office.scene, &[a], &mut rng, mirror);
    let holds = played.calls.iter().any(|c| c.record.events.iter().any(|e| e.kind.as_str() == "hold"));
    if holds {
        return Some(format!("{faults}: a hold that nobody asked for"));
    }
    fault(&played, &[want]).map(|f| format!("{faults}, wrapped {wrapped}, ice {ice}: {f}"))
}

/// Returns a session description inside `wrapped` nested multipart bodies, as a change to a message.
fn body(sdp: String, wrapped: u8) -> MessageChange<'static> {
    let part = |kind: &str, body: &str, mark: &str| {
        format!(
            "--{mark}\r\nContent-Type: text/plain\r\n\r\nhello\r\n--{mark}\r\nContent-Type: {kind}\r\n\r\n{body}\r\n--{mark}--\r\n"
        )
    };
    match wrapped {
        0 => MessageChange::Sdp(sdp),
        1 => MessageChange::Body("multipart/mixed;boundary=one", part("application/sdp", &sdp, "one")),
        _ => {
            let inner = part("application/sdp", &sdp, "two");
            MessageChange::Body(
                "multipart/mixed;boundary=one",
                part("multipart/alternative;boundary=\"two\"", &inner, "one"),
            )
        }
    }
}

fn offer(scene: &mut Scene, leg: DialogId, wrapped: u8, ice: bool) {
    let sdp = description(scene, leg, Side::Caller, ice);
    scene.request(leg, Side::Caller, "INVITE", &[body(sdp, wrapped)]);
}

fn answer(scene: &mut Scene, leg: DialogId, wrapped: u8, ice: bool) {
    let sdp = description(scene, leg, Side::Callee, ice);
    scene.response(leg, Side::Callee, (200, "INVITE"), &[body(sdp, wrapped)]);
    scene.at(leg).confirmed = true;
    scene.request(leg, Side::Caller, "ACK", &[]);
}

/// Returns the session description of a side. If `ice` is true, its address is 0.0.0.0, and a candidate has the real
/// address (RFC 8840).
fn description(scene: &mut Scene, leg: DialogId, side: Side, ice: bool) -> String {
    if !ice {
        return scene.sdp(leg, side, &[]);
    }
    let media: Endpoint = scene.get(leg).media[side.channel()];
    let candidate = format!("a=candidate:1 1 udp 2130706431 {} {} typ host", media.ip(), media.port());
    let text = scene.sdp(leg, side, &["a=ice-ufrag:abcd", "a=ice-pwd:0123456789012345678901", &candidate]);
    let family = if media.ip().is_ipv6() { "IP6" } else { "IP4" };
    text.replace(&format!("c=IN {family} {}", media.ip()), "c=IN IP4 0.0.0.0")
        .replace(&format!("m=audio {}", media.port()), "m=audio 9")
}

#[test]
fn descriptions_in_uncommon_bodies_are_read() {
    each_seed("bodies", |seed| bodies(seed, Mirror::Whole));
}
