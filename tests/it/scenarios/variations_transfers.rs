//! Random calls made from a seed: transfers by REFER while other callers reach the same extensions.

use callspan::call::record::{CallDirection, CallOutcome, Side};
use fastrand::Rng;

use super::DID;
use super::variations::{Mirror, Wanted, address, each_seed, fault, phone, play_disturbed, talk};
use crate::support::scenario::{DialogId, Scene, ScenePhone};

/// Number of the customer, who is outside.
const CUSTOMER: &str = "+79990000001";

/// A PBX, its provider, and the telephones 101 to 104.
struct Desk {
    scene: Scene,
    provider: ScenePhone,
    pbx: ScenePhone,
    phones: Vec<ScenePhone>,
}

impl Desk {
    fn draw(rng: &mut Rng) -> Self {
        let v6 = rng.u8(0..3) == 0;
        let phones = (1..=4).map(|n| phone(&format!("10{n}"), address(v6, 2, 100 + n), n)).collect();
        Self {
            scene: Scene::noisy(),
            provider: phone("", address(v6, 1, 200), 0),
            pbx: phone(DID, address(v6, 2, 10), 7),
            phones,
        }
    }

    fn call_from_outside(&mut self, outside: &str, voice: u8) -> DialogId {
        self.provider.voice = voice;
        self.scene.leg(&mut self.provider, &mut self.pbx, [outside, DID])
    }

    fn rings(&mut self, n: usize, from: &str, left: u8) -> DialogId {
        let user = self.phones[n].user.clone();
        let leg = self.scene.leg(&mut self.pbx, &mut self.phones[n], [from, &user]);
        self.scene.at(leg).voices[0] = left;
        leg
    }

    /// Answers both legs. Both legs carry the caller's voice, and the voice of the telephone on the second leg.
    fn connect(&mut self, a: DialogId, b: DialogId, rng: &mut Rng) {
        self.pair(a, b);
        self.scene.ring_through(a, b);
        self.scene.wait(i64::from(rng.u16(200..2_500)));
        self.scene.answer(b);
        self.scene.answer(a);
    }

    /// Makes a call in which the customer talks to 101. Returns the trunk's leg and the telephone's leg.
    fn customer_talks_to_101(&mut self, ms: i64, rng: &mut Rng) -> [DialogId; 2] {
        let a = self.call_from_outside(CUSTOMER, 0);
        let b = self.rings(0, CUSTOMER, 0);
        self.connect(a, b, rng);
        self.talk(a, b, ms);
        [a, b]
    }

    fn pair(&mut self, a: DialogId, b: DialogId) {
        let right = self.scene.get(b).voices[1];
        self.scene.at(a).voices[1] = right;
    }

    /// Plays the voices of a conversation on both legs.
    fn talk(&mut self, a: DialogId, b: DialogId, ms: i64) {
        self.pair(a, b);
        self.scene.bridge(a, b, ms);
    }
}

/// Plays calls in which 101 transfers the customer to 102 without talking to 102 before. A stranger calls 102 or
/// another number at the same time.
pub(super) fn blind(seed: u64, mirror: Mirror) -> Option<String> {
    let mut rng = Rng::with_seed(seed);
    let mut desk = Desk::draw(&mut rng);
    let (customer, [a, b]) = (CUSTOMER, desk.customer_talks_to_101(1_500, &mut rng));
    let host = desk.pbx.sip.ip().to_string();
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    desk.scene.refer(b, Side::Callee, &format!("<sip:102@{host}>"));
    let referred = desk.scene.now();
    let (takes, stranger_first) = (rng.u8(0..3) > 0, rng.bool());
    let c = desk.rings(1, customer, 0);
    desk.scene.wait(i64::from(rng.u16(0..400)));
    desk.scene.invite_and_ring(c);
    let mut wanted = Wanted::answered(CallDirection::Inbound, [customer, DID, "102"], [0, 1]);
    if takes {
        desk.scene.wait(i64::from(rng.u16(200..3_000)));
        desk.scene.answer(c);
        desk.scene.bye(b, Side::Caller);
        desk.talk(a, c, 2_000);
        desk.scene.bye_all(&[a, c], if rng.bool() { Side::Caller } else { Side::Callee });
        wanted.then = Some(2);
    } else {
        desk.scene.wait(500);
        desk.scene.refuse(c, [486, 603, 480][rng.usize(0..3)], &[]);
        desk.talk(a, b, 2_000);
        desk.scene.bye_all(&[a, b], Side::Caller);
        "101".clone_into(&mut wanted.internal);
    }
    let end = desk.scene.now();
    // The stranger calls 102, 103 or both, before or after the INVITE that the REFER causes.
    let stranger = "+79990000002";
    let from = referred + i64::from(if stranger_first { rng.u16(0..300) } else { rng.u16(500..6_000) });
    desk.scene.set_now(from);
    let d = desk.call_from_outside(stranger, 5);
    let (busy, free) = (desk.rings(1, stranger, 5), desk.rings(2, stranger, 5));
    desk.scene.invite(d);
    desk.scene.wait(i64::from(rng.u8(0..100)));
    desk.scene.invite(busy);
    let answers_busy = rng.bool() && !takes && from > referred + 3_000;
    desk.scene.at(busy).voices = [5, 4];
    let taken = if answers_busy { busy } else { free };
    if !answers_busy {
        desk.scene.invite_and_ring(free);
    }
    desk.scene.wait(i64::from(rng.u16(300..2_000)));
    if !answers_busy {
        desk.scene.refuse(busy, 486, &[]);
    }
    desk.scene.answer(taken);
    desk.scene.answer(d);
    desk.talk(d, taken, 2_000);
    desk.scene.bye_all(&[d, taken], Side::Caller);
    desk.scene.set_now(end.max(desk.scene.now()));
    let (internal, voice) = if answers_busy { ("102", 4) } else { ("103", 3) };
    let other = Wanted::answered(CallDirection::Inbound, [stranger, DID, internal], [5, voice]);
    let (played, faults) = play_disturbed(&desk.scene, &[a, c, d, taken], &mut rng, mirror);
    fault(&played, &[wanted, other])
        .map(|f| format!("{faults}, takes {takes}, stranger after {}: {f}", from - referred))
}

#[test]
fn no_stranger_joins_a_blind_transfer() {
    each_seed("blind transfer", |seed| blind(seed, Mirror::Whole));
}

/// Plays calls in which 101 consults 102 and then connects the customer with 102. A stranger calls 103 at the same
/// time.
pub(super) fn attended(seed: u64, mirror: Mirror) -> Option<String> {
    let mut rng = Rng::with_seed(seed);
    let mut desk = Desk::draw(&mut rng);
    let (customer, [a, b]) = (CUSTOMER, desk.customer_talks_to_101(1_500, &mut rng));
    desk.scene.hold(b, Side::Callee);
    desk.phones[0].voice = 1;
    let c = {
        let Desk { scene, pbx, phones, .. } = &mut desk;
        scene.leg(&mut phones[0], pbx, ["101", "102"])
    };
    let d = desk.rings(1, "101", 1);
    desk.connect(c, d, &mut rng);
    desk.talk(c, d, 1_500);
    let dialog = desk.scene.get(c).clone();
    let id = dialog.call_id.replace('@', "%40");
    let host = desk.pbx.sip.ip().to_string();
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let target =
        format!("<sip:102@{host}?Replaces={id}%3Bto-tag%3D{}%3Bfrom-tag%3D{}>", dialog.tags[1], dialog.tags[0]);
    desk.scene.refer(b, Side::Callee, &target);
    desk.scene.bye(b, Side::Caller);
    desk.scene.bye(c, Side::Callee);
    let talks = i64::from(rng.u16(2_000..8_000));
    desk.scene.at(a).voices = [0, 2];
    desk.scene.at(d).voices = [0, 2];
    let [one, two] = [(a, 0, 2), (d, 0, 2)];
    let speakers = [one, two].map(|(leg, left, right)| [(left, leg, Side::Caller), (right, leg, Side::Callee)]);
    desk.scene.sound(&speakers.concat(), talks);
    desk.scene.bye_all(&[a, d], Side::Caller);
    let end = desk.scene.now();
    let stranger = "+79990000002";
    desk.scene.set_now(i64::from(rng.u16(2_000..8_000)));
    let (e, f) = (desk.call_from_outside(stranger, 5), desk.rings(2, stranger, 5));
    desk.connect(e, f, &mut rng);
    talk(&mut desk.scene, &[e, f], 2_000, Side::Caller);
    desk.scene.set_now(end.max(desk.scene.now()));
    let mut main = Wanted::answered(CallDirection::Inbound, [customer, DID, "101"], [0, 1]);
    main.then = Some(2);
    let consults = Wanted::answered(CallDirection::Internal, ["101", "102", "102"], [1, 2]);
    let other = Wanted::answered(CallDirection::Inbound, [stranger, DID, "103"], [5, 3]);
    let (played, faults) = play_disturbed(&desk.scene, &[a, d, e, f], &mut rng, mirror);
    fault(&played, &[main, consults, other]).map(|f| format!("{faults}: {f}"))
}

#[test]
fn no_stranger_joins_an_attended_transfer() {
    each_seed("attended transfer", |seed| attended(seed, Mirror::Whole));
}

/// Plays two operators who transfer their customers at the same time, to one extension or to two.
pub(super) fn two_at_once(seed: u64, mirror: Mirror) -> Option<String> {
    let mut rng = Rng::with_seed(seed);
    let mut desk = Desk::draw(&mut rng);
    let target = [rng.usize(2..4), rng.usize(2..4)];
    let (mut wanted, mut legs, mut end) = (Vec::new(), Vec::new(), 0);
    let from = rng.i64(0..800);
    let host = desk.pbx.sip.ip().to_string();
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    for n in 0..2 {
        let customer = format!("+7999000000{n}");
        let left = 5 * n as u8;
        desk.scene.set_now(from * n);
        let a = desk.call_from_outside(&customer, left);
        let b = desk.rings(n as usize, &customer, left);
        desk.connect(a, b, &mut rng);
        desk.talk(a, b, 1_500);
        let to = target[n as usize];
        let user = desk.phones[to].user.clone();
        desk.scene.refer(b, Side::Callee, &format!("<sip:{user}@{host}>"));
        let c = desk.rings(to, &customer, left);
        let voice = if n == 0 { 3 } else { 4 };
        desk.scene.at(c).voices[1] = voice;
        desk.scene.invite_and_ring(c);
        desk.scene.wait(i64::from(rng.u16(200..1_500)));
        let takes = n == 0 || target[0] != target[1];
        let mut want = Wanted::answered(CallDirection::Inbound, [&customer, DID, &user], [left, n as u8 + 1]);
        if takes {
            desk.scene.answer(c);
            desk.scene.bye(b, Side::Caller);
            desk.talk(a, c, 2_000);
            desk.scene.bye_all(&[a, c], Side::Callee);
            want.then = Some(voice);
        } else {
            desk.scene.refuse(c, 486, &[]);
            desk.talk(a, b, 1_500);
            desk.scene.bye_all(&[a, b], Side::Callee);
            want.internal.clone_from(&desk.phones[n as usize].user);
        }
        wanted.push(want);
        legs.extend([a, c]);
        end = end.max(desk.scene.now());
    }
    desk.scene.set_now(end);
    let (played, faults) = play_disturbed(&desk.scene, &legs, &mut rng, mirror);
    fault(&played, &wanted).map(|f| format!("{faults}, targets {target:?}: {f}"))
}

#[test]
fn two_transfers_at_once_stay_apart() {
    each_seed("two transfers", |seed| two_at_once(seed, Mirror::Whole));
}

/// Plays a customer who is transferred, and who hangs up while the target rings.
pub(super) fn given_up(seed: u64, mirror: Mirror) -> Option<String> {
    let mut rng = Rng::with_seed(seed);
    let mut desk = Desk::draw(&mut rng);
    let (customer, [a, b]) = (CUSTOMER, desk.customer_talks_to_101(2_000, &mut rng));
    let host = desk.pbx.sip.ip().to_string();
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    desk.scene.refer(b, Side::Callee, &format!("<sip:102@{host}>"));
    let c = desk.rings(1, customer, 0);
    desk.scene.invite_and_ring(c);
    desk.scene.bye(b, if rng.bool() { Side::Caller } else { Side::Callee });
    desk.scene.wait(i64::from(rng.u16(500..3_000)));
    desk.scene.cancel(c);
    desk.scene.bye(a, Side::Caller);
    let end = desk.scene.now();
    // The customer calls again soon and reaches 102.
    desk.scene.set_now(end + i64::from(rng.u16(200..3_000)));
    let (d, e) = (desk.call_from_outside(customer, 5), desk.rings(1, customer, 5));
    desk.connect(d, e, &mut rng);
    talk(&mut desk.scene, &[d, e], 2_000, Side::Caller);
    let first = Wanted::answered(CallDirection::Inbound, [customer, DID, "101"], [0, 1]);
    let second = Wanted::answered(CallDirection::Inbound, [customer, DID, "102"], [5, 2]);
    let (played, faults) = play_disturbed(&desk.scene, &[a, c, d, e], &mut rng, mirror);
    assert!(played.calls.iter().all(|c| c.record.outcome == CallOutcome::Answered || played.calls.len() != 2));
    fault(&played, &[first, second]).map(|f| format!("{faults}: {f}"))
}

#[test]
fn transferred_callers_who_give_up_and_call_again_have_two_records() {
    each_seed("given up", |seed| given_up(seed, Mirror::Whole));
}
