//! Tests of two calls of strangers, of each of which the mirror shows one leg. Hosts and numbers join the two legs, by
//! strong rules, too. What is heard must part them again.

use std::net::IpAddr;

use callspan::call::config::Config;
use callspan::call::correlation_rule::CorrelationRule;
use callspan::call::record::{CallVerdict, Side};
use callspan::net::Endpoint;

use crate::scenarios::doubtful::{PBX_HOST, office};
use crate::scenarios::{DID, MUSIC, OUTSIDE, Office, call_of, related};
use crate::support::playback::play_with;
use crate::support::scenario::{DialogId, Scene, ScenePhone};

/// Host from which a PBX with two addresses rings its telephones.
const LAN_HOST: u8 = 10;
/// Caller of both legs if each of two callers withholds the number.
const WITHHELD: &str = "anonymous";

/// Two legs of an office: the first leg of one call, and the last leg of another. Each has voices of its own.
struct Halves {
    scene: Scene,
    legs: [DialogId; 2],
}

impl Halves {
    /// Adds the leg of a caller to the PBX, and the leg by which the PBX rings 200 from the host `lan`. Both have the same
    /// caller's number, and the second leg calls `called`.
    fn inbound(caller: &str, lan: u8, called: &str) -> Self {
        let mut office = office();
        let a = office.scene.leg(&mut office.outside, &mut office.pbx, [caller, DID]);
        let b = office.scene.leg(&mut ScenePhone::new(DID, lan), &mut office.e200, [caller, called]);
        Self { scene: office.scene, legs: [a, b] }
    }

    /// Adds the leg by which 200 calls an outside number, and the leg by which the PBX calls it from the host `lan`.
    fn outbound(lan: u8) -> Self {
        let mut office = office();
        let a = office.scene.leg(&mut office.e200, &mut office.pbx, ["200", OUTSIDE]);
        let b = office.scene.leg(&mut ScenePhone::new(DID, lan), &mut office.outside, [DID, OUTSIDE]);
        Self { scene: office.scene, legs: [a, b] }
    }

    /// Plays both talks. The answers are 1.5 s apart, the ends 3 s.
    fn talk(&mut self) {
        let [a, b] = self.legs;
        let scene = &mut self.scene;
        scene.invite_and_ring(a);
        scene.wait(500);
        scene.invite_and_ring(b);
        scene.wait(2_000);
        self.answer_apart();
    }

    /// Answers the second leg and, 1.5 s later, the first. Plays both talks to their ends, which are 3 s apart.
    fn answer_apart(&mut self) {
        let [a, b] = self.legs;
        let scene = &mut self.scene;
        let second = [(4, b, Side::Caller), (2, b, Side::Callee)];
        scene.answer(b);
        scene.sound(&second, 1_500);
        scene.answer(a);
        scene.sound(&[&[(1, a, Side::Caller), (3, a, Side::Callee)], &second[..]].concat(), 18_000);
        scene.bye(a, Side::Caller);
        scene.sound(&second, 3_000);
        scene.bye(b, Side::Caller);
    }

    /// Plays one call: a machine passes the voices of one leg to the other, and changes their bytes.
    fn talk_together(&mut self) {
        let [a, b] = self.legs;
        self.scene.connect_through(a, b, 1_000);
        self.scene.bridge(a, b, 18_000);
        self.scene.bye_all(&[a, b], Side::Caller);
    }

    /// Returns the number of records, and the rules that joined the legs of the first record.
    fn records(&self, config: Config) -> (usize, Vec<CorrelationRule>) {
        let played = play_with(&self.scene, config);
        let legs = &played.calls[0].record.legs;
        (played.calls.len(), legs.iter().filter_map(|leg| leg.joined_by).collect())
    }

    /// Asserts that each leg is a record of its own, with both voices, and that the records are related.
    #[track_caller]
    fn assert_apart(&self, case: &str, config: Config) {
        let played = play_with(&self.scene, config);
        assert_eq!(played.calls.len(), 2, "{case}");
        let [one, two] = self.legs.map(|leg| &call_of(&played, &self.scene, leg).record);
        assert_eq!([one.verdict, two.verdict], [Some(CallVerdict::BothSides); 2], "{case}");
        assert!(related(one, two) && one.relations[0].why == CorrelationRule::OtherSound, "{case}");
    }
}

/// Returns a configuration that names the two addresses of the PBX.
fn two_addresses(scene: &Scene, legs: [DialogId; 2]) -> Config {
    let hosts: Vec<IpAddr> = vec![scene.get(legs[0]).sip[1].ip(), scene.get(legs[1]).sip[0].ip()];
    Config { pbx_addresses: vec![hosts], ..Config::default() }
}

#[test]
fn strangers_at_the_two_addresses_of_a_pbx_have_two_records() {
    let inbound = [WITHHELD, OUTSIDE].map(|caller| (caller, Halves::inbound(caller, LAN_HOST, "200")));
    for (case, mut halves) in inbound.into_iter().chain([("outbound", Halves::outbound(LAN_HOST))]) {
        halves.talk();
        halves.assert_apart(case, two_addresses(&halves.scene, halves.legs));
    }
}

#[test]
fn a_call_through_two_addresses_with_changed_voices_is_one_record() {
    for mut halves in [Halves::inbound(OUTSIDE, LAN_HOST, "200"), Halves::outbound(LAN_HOST)] {
        halves.talk_together();
        let config = two_addresses(&halves.scene, halves.legs);
        assert_eq!(halves.records(config), (1, vec![CorrelationRule::MachinePair]));
    }
}

/// The PBX keeps the number that the caller dialled, so both numbers of the two legs agree.
#[test]
fn strangers_have_two_records_if_the_pbx_keeps_the_dialled_number() {
    for caller in [WITHHELD, OUTSIDE] {
        let mut halves = Halves::inbound(caller, PBX_HOST, DID);
        halves.talk();
        halves.assert_apart(caller, Config::default());
    }
}

/// The word in place of a withheld number is no number that agrees.
#[test]
fn a_call_that_keeps_both_numbers_is_one_record() {
    for (caller, rule) in [(OUTSIDE, CorrelationRule::OnwardBoth), (WITHHELD, CorrelationRule::OnwardOne)] {
        let mut halves = Halves::inbound(caller, PBX_HOST, DID);
        halves.talk_together();
        assert_eq!(halves.records(Config::default()), (1, vec![rule]));
    }
}

/// A hosted PBX serves two customers. The 201 of one calls 202, and so does the 201 of the other.
#[test]
fn equal_extensions_of_two_customers_have_two_records() {
    let mut scene = Scene::speaking();
    let mut pbx = ScenePhone { voice: MUSIC, ..ScenePhone::new("pbx", PBX_HOST) };
    let a = scene.leg(&mut ScenePhone::new("201", 1), &mut pbx, ["201", "202"]);
    let b = scene.leg(&mut pbx, &mut ScenePhone::new("202", 2), ["201", "202"]);
    let mut halves = Halves { scene, legs: [a, b] };
    halves.talk();
    halves.assert_apart("extensions", Config::default());
}

/// A hosted PBX serves two customers behind NAT at two addresses. The 201 of each calls 202. Both calls are answered, and
/// end, within a tenth of a second, and are too short to compare their sound.
#[test]
fn equal_internal_calls_of_two_customers_have_two_records() {
    let mut scene = Scene::noisy();
    let calls = [1_u8, 2].map(|customer| {
        let telephone = |n: u16| {
            let sip = Endpoint::v4([198, 51, 100, customer], 30_000 + n);
            let voice = 2 * customer + n as u8;
            ScenePhone { sip, next_port: 40_000 + 10 * n, ..ScenePhone::new("", voice) }
        };
        let mut pbx = ScenePhone { voice: MUSIC, ..ScenePhone::new("pbx", 20 + customer) };
        let a = scene.leg(&mut telephone(0), &mut pbx, ["201", "202"]);
        [a, scene.leg(&mut pbx, &mut telephone(1), ["201", "202"])]
    });
    let [[a, b], [c, d]] = calls;
    scene.ring_through(a, b);
    scene.wait(40);
    scene.ring_through(c, d);
    scene.wait(2_000);
    [b, a, d, c].iter().for_each(|leg| _ = scene.answer(*leg));
    let voices = calls.map(|[first, second]| {
        let [left, right] = [scene.get(first).voices[0], scene.get(second).voices[1]];
        let (from, to) = (Side::Caller, Side::Callee);
        [(left, first, from), (right, first, to), (left, second, from), (right, second, to)]
    });
    scene.sound(&voices.concat(), 4_500);
    scene.bye_all(&[a, b, c, d], Side::Caller);
    let played = play_with(&scene, Config::default());
    let legs = calls.map(|[first, _]| call_of(&played, &scene, first).record.legs.len());
    assert_eq!((played.calls.len(), legs), (2, [2, 2]));
}

/// Returns the legs by which a PBX rings 200 in the name of `shown` and, a second after the answer, calls an outside
/// number.
fn rung_and_called(shown: &str) -> Halves {
    let Office { mut scene, mut outside, mut pbx, mut e200, .. } = office();
    let a = scene.leg(&mut pbx, &mut outside, [DID, OUTSIDE]);
    let b = scene.leg(&mut pbx, &mut e200, [shown, "200"]);
    Halves { scene, legs: [a, b] }
}

/// The PBX rings 200 for a caller, and a moment later another extension calls out.
#[test]
fn a_telephone_and_an_outbound_call_of_strangers_have_two_records() {
    for shown in ["pbx", "200"] {
        let mut halves = rung_and_called(shown);
        let [a, b] = halves.legs;
        let scene = &mut halves.scene;
        let rung = [(4, b, Side::Caller), (2, b, Side::Callee)];
        scene.connect(b);
        scene.sound(&rung, 1_000);
        scene.invite_and_ring(a);
        scene.sound(&rung, 3_000);
        scene.answer(a);
        scene.sound(&[&rung[..], &[(3, a, Side::Caller), (1, a, Side::Callee)]].concat(), 18_000);
        scene.bye(b, Side::Callee);
        scene.sound(&[(3, a, Side::Caller), (1, a, Side::Callee)], 3_000);
        scene.bye(a, Side::Callee);
        halves.assert_apart(shown, Config::default());
    }
}

/// The PBX changes the bytes of the voices. 200 hears a tone until the other party is there, and may hang up late.
#[test]
fn a_click_to_call_that_changes_the_voices_is_one_record() {
    for (shown, late_ms) in [("pbx", 0), ("200", 0), ("pbx", 1_500)] {
        let mut halves = rung_and_called(shown);
        let [a, b] = halves.legs;
        let scene = &mut halves.scene;
        scene.connect(b);
        scene.wait(1_000);
        scene.invite_and_ring(a);
        scene.sound(&[(MUSIC, b, Side::Caller), (2, b, Side::Callee)], 3_000);
        scene.answer(a);
        let voices = [(1, b, Side::Caller), (2, b, Side::Callee), (2, a, Side::Caller), (1, a, Side::Callee)];
        scene.sound(&voices, 18_000);
        scene.bye(a, Side::Callee);
        scene.sound(&[(MUSIC, b, Side::Caller)], late_ms);
        scene.bye(b, Side::Callee);
        assert_eq!(halves.records(Config::default()), (1, vec![CorrelationRule::ClickToCall]), "{shown} {late_ms}");
    }
}
