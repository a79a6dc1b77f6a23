//! Tests of a PBX with several addresses. They are one machine by configuration, or because some calls have shown it.

use std::net::IpAddr;

use callspan::call::config::Config;
use callspan::call::record::{CallDirection, CallOutcome, CallRecord, Side};
use callspan::net::Endpoint;

use super::{DID, MUSIC, OUTSIDE};
use crate::support::playback::{PlayedScene, play_with};
use crate::support::scenario::{DialogId, Scene, ScenePhone};

const WAN: [u8; 4] = [198, 51, 100, 10];
const LAN: [u8; 4] = [10, 1, 0, 1];

/// A PBX with one address towards the provider and another towards the telephones.
struct Site {
    scene: Scene,
    provider: ScenePhone,
    wan: ScenePhone,
    lan: ScenePhone,
    e200: ScenePhone,
}

fn phone(user: &str, host: [u8; 4], voice: u8) -> ScenePhone {
    ScenePhone { sip: Endpoint::v4(host, 5060), voice, ..ScenePhone::new(user, voice) }
}

impl Site {
    /// Invites the legs of two callers with one number, the second for 201. Returns the caller's and the telephone's leg of
    /// each call.
    fn two_callers_of_one_number(&mut self) -> [DialogId; 4] {
        let [a, b] = self.inbound(OUTSIDE);
        let mut e201 = phone("201", [10, 1, 0, 21], 3);
        let c = self.scene.leg(&mut self.provider, &mut self.wan, [OUTSIDE, DID]);
        let d = self.scene.leg(&mut self.lan, &mut e201, [OUTSIDE, "201"]);
        for leg in [a, c, b, d] {
            self.scene.invite(leg);
        }
        [a, b, c, d]
    }

    fn new() -> Self {
        Self {
            scene: Scene::new(),
            provider: phone(OUTSIDE, [203, 0, 113, 5], 1),
            wan: phone(DID, WAN, MUSIC),
            lan: phone(DID, LAN, MUSIC),
            e200: phone("200", [10, 1, 0, 20], 2),
        }
    }

    /// Adds two legs of an inbound call from the number `caller`: the trunk's leg, and the leg by which the PBX rings
    /// 200.
    fn inbound(&mut self, caller: &str) -> [DialogId; 2] {
        let a = self.scene.leg(&mut self.provider, &mut self.wan, [caller, DID]);
        [a, self.scene.leg(&mut self.lan, &mut self.e200, [caller, "200"])]
    }

    /// Plays an inbound call that 200 answers.
    fn answered_call(&mut self, caller: &str) {
        let [a, b] = self.inbound(caller);
        self.scene.connect_through(a, b, 1_000);
        self.scene.bridge(a, b, 400);
        self.scene.bye_all(&[a, b], Side::Caller);
        self.scene.wait(3_000);
    }

    /// Plays calls of three callers. From them the engine learns that both addresses of the PBX are one machine.
    fn teach(&mut self) {
        for n in 0..3 {
            self.answered_call(&format!("+7999111000{n}"));
        }
    }

    /// Plays a call that the PBX answers with music. Twelve seconds later the PBX rings 200.
    fn queue_call(&mut self) {
        let [a, b] = self.inbound(OUTSIDE);
        self.wait_in_queue(a, 12_000);
        self.serve(a, b);
    }

    fn wait_in_queue(&mut self, a: DialogId, ms: i64) {
        self.scene.connect(a);
        self.scene.sound(&[(1, a, Side::Caller), (MUSIC, a, Side::Callee)], ms);
    }

    fn serve(&mut self, a: DialogId, b: DialogId) {
        self.scene.connect(b);
        self.scene.bridge(a, b, 2_000);
        self.scene.bye_all(&[a, b], Side::Caller);
        self.scene.wait(3_000);
    }

    fn play(&self, lists: &[&[[u8; 4]]]) -> PlayedScene {
        let list = |list: &&[[u8; 4]]| list.iter().map(|host| IpAddr::from(*host)).collect();
        play_with(&self.scene, Config { pbx_addresses: lists.iter().map(list).collect(), ..Config::default() })
    }
}

/// Returns direction, caller, extension, and the rules that joined the legs.
fn facts(record: &CallRecord) -> (CallDirection, &str, &str, Vec<&str>) {
    let rules = record.legs.iter().filter_map(|leg| leg.joined_by).map(|by| by.as_str()).collect();
    let (from, internal) = (record.from.as_deref().unwrap_or_default(), record.internal.as_deref().unwrap_or_default());
    (record.direction, from, internal, rules)
}

#[test]
fn configured_addresses_join_an_inbound_call_however_late_the_telephone_rings() {
    let mut site = Site::new();
    let [a, b] = site.inbound(OUTSIDE);
    site.scene.invite(a);
    site.scene.wait(1_200);
    site.scene.invite_and_ring(b);
    site.scene.wait(1_000);
    site.scene.answer(b);
    site.scene.answer(a);
    site.scene.bridge(a, b, 1_000);
    site.scene.bye_all(&[a, b], Side::Caller);
    assert_eq!(site.play(&[]).calls.len(), 2, "nothing shows that they are one call");
    let played = site.play(&[&[WAN, LAN]]);
    assert_eq!(facts(&played.only().record), (CallDirection::Inbound, OUTSIDE, "200", vec!["machine_pair"]));
    site.teach();
    assert_eq!(site.play(&[&[WAN, LAN]]).learnt, [], "a configured pair need not be learnt");
}

#[test]
fn configured_addresses_join_an_outbound_call_whose_caller_is_rewritten() {
    let mut site = Site::new();
    let Site { scene, provider, wan, lan, e200 } = &mut site;
    let (a, b) = (scene.leg(e200, lan, ["200", OUTSIDE]), scene.leg(wan, provider, [DID, OUTSIDE]));
    scene.invite(a);
    scene.wait(1_200);
    scene.invite_and_ring(b);
    scene.answer(b);
    scene.answer(a);
    scene.bridge(a, b, 1_000);
    scene.bye_all(&[a, b], Side::Caller);
    let played = site.play(&[&[LAN, WAN]]);
    assert_eq!(facts(&played.only().record), (CallDirection::Outbound, "200", "200", vec!["machine_pair"]));
}

#[test]
fn a_queue_rings_a_telephone_from_the_other_configured_address() {
    let mut site = Site::new();
    site.queue_call();
    assert_eq!(site.play(&[]).calls.len(), 2, "nothing shows that they are one call");
    let played = site.play(&[&[WAN, LAN]]);
    assert_eq!(facts(&played.only().record), (CallDirection::Inbound, OUTSIDE, "200", vec!["machine_pair"]));
}

#[test]
fn a_pair_is_learnt_from_three_callers_and_joins_a_queue_call() {
    let mut site = Site::new();
    site.teach();
    site.queue_call();
    let played = site.play(&[]);
    assert_eq!(played.calls.len(), 4, "{:#?}", played.calls.iter().map(|c| &c.record).collect::<Vec<_>>());
    assert_eq!(facts(&played.calls[3].record), (CallDirection::Inbound, OUTSIDE, "200", vec!["machine_pair"]));
    let [pair] = played.learnt.as_slice() else { panic!("one pair: {:?}", played.learnt) };
    assert_eq!((pair.a, pair.b, pair.seen, pair.against), (LAN.into(), WAN.into(), 3, 0));
    assert!(pair.is_believed());
}

#[test]
fn calls_of_one_caller_or_a_lone_address_teach_nothing() {
    let mut site = Site::new();
    for _ in 0..4 {
        site.answered_call(OUTSIDE);
    }
    site.queue_call();
    let played = site.play(&[]);
    assert_eq!((played.calls.len(), played.learnt[0].seen), (6, 1));
    let mut site = Site::new();
    site.teach();
    site.queue_call();
    let played = site.play(&[&[WAN]]);
    assert_eq!((played.calls.len(), played.learnt.len()), (5, 0));
}

#[test]
fn callers_who_wait_while_the_pair_is_learnt_are_served() {
    let mut site = Site::new();
    // Two callers wait in the queue: one from outside at the WAN address of the PBX, and extension 201 at its LAN
    // address.
    let [a, b] = site.inbound(OUTSIDE);
    site.wait_in_queue(a, 500);
    let mut e201 = phone("201", [10, 1, 0, 21], 3);
    let c = site.scene.leg(&mut e201, &mut site.lan, ["201", "500"]);
    let d = site.scene.leg(&mut site.lan, &mut site.e200, ["201", "200"]);
    site.wait_in_queue(c, 500);
    site.teach();
    site.serve(a, b);
    site.serve(c, d);
    let played = site.play(&[]);
    assert_eq!(played.calls.len(), 5, "{:#?}", played.calls.iter().map(|c| &c.record).collect::<Vec<_>>());
    assert_eq!(facts(&played.calls[0].record), (CallDirection::Inbound, OUTSIDE, "200", vec!["machine_pair"]));
    let internal = (CallDirection::Internal, "201", "200", vec!["for_waiting_caller"]);
    assert_eq!(facts(&played.calls[1].record), internal);
}

#[test]
fn a_leg_that_outlives_its_unanswered_cause_contradicts_the_pair() {
    let mut site = Site::new();
    site.teach();
    let [a, b] = site.inbound(OUTSIDE);
    site.scene.invite_and_ring(a);
    site.scene.connect(b);
    site.scene.cancel(a);
    site.scene.talk(b, 3_000);
    site.scene.bye(b, Side::Caller);
    site.scene.wait(3_000);
    site.queue_call();
    let played = site.play(&[]);
    assert_eq!((played.learnt[0].seen, played.learnt[0].is_believed()), (0, false));
    assert!(played.learnt[0].distrusted_until.is_some());
    let queue = &played.calls[played.calls.len() - 2].record;
    assert_eq!(facts(queue).3, Vec::<&str>::new(), "the pair is not used any more");
}

#[test]
fn a_leg_between_two_nodes_of_a_cluster_ends_at_no_party() {
    let mut site = Site::new();
    let node = [10, 1, 0, 2];
    let [a, b] = site.inbound(OUTSIDE);
    let (mut from, mut to) = (phone(DID, node, MUSIC), site.lan.clone());
    site.scene.at(a).sip[1] = from.sip;
    let inner = site.scene.leg(&mut from, &mut to, [OUTSIDE, DID]);
    site.scene.invite(a);
    site.scene.invite(inner);
    site.scene.invite_and_ring(b);
    site.scene.wait(1_000);
    for leg in [b, inner, a] {
        site.scene.answer(leg);
    }
    site.scene.bridge(a, b, 1_000);
    site.scene.bye_all(&[a, inner, b], Side::Caller);
    let played = site.play(&[&[node, LAN]]);
    let record = &played.only().record;
    assert_eq!(
        (facts(record).0, facts(record).2, record.outcome),
        (CallDirection::Inbound, "200", CallOutcome::Answered)
    );
    assert_eq!(record.legs.len(), 3);
    assert_eq!(played.learnt, []);
}

/// Two callers of one number come within 50 ms through a PBX with two addresses. Each is answered together with another
/// telephone.
#[test]
fn the_moment_of_the_answer_parts_callers_of_one_number() {
    let mut site = Site::new();
    let [a, b, c, d] = site.two_callers_of_one_number();
    [a, b, c, d].into_iter().for_each(|leg| site.scene.ring(leg));
    for pair in [[d, c], [b, a]] {
        site.scene.wait(1_000);
        pair.into_iter().for_each(|leg| _ = site.scene.answer(leg));
    }
    site.scene.sound(&[a, b, c, d].map(|leg| (1, leg, Side::Caller)), 4_000);
    site.scene.bye_all(&[a, b], Side::Caller);
    site.scene.wait(2_000);
    site.scene.bye_all(&[c, d], Side::Caller);
    let played = play_with(&site.scene, Config::default());
    let facts = |record: &CallRecord| (record.direction, record.internal.clone(), record.legs.len());
    let found: Vec<_> = played.calls.iter().map(|call| facts(&call.record)).collect();
    let expected = ["200", "201"].map(|extension| (CallDirection::Inbound, Some(extension.to_owned()), 2));
    assert_eq!(found, expected);
}

/// Both callers are answered at the same moment as both telephones, so nothing shows who talks with whom.
#[test]
fn answers_at_one_moment_part_no_callers() {
    let mut site = Site::new();
    let [a, b, c, d] = site.two_callers_of_one_number();
    site.scene.wait(1_000);
    [b, d, a, c].into_iter().for_each(|leg| _ = site.scene.answer(leg));
    site.scene.sound(&[a, b, c, d].map(|leg| (1, leg, Side::Caller)), 4_000);
    site.scene.bye_all(&[a, b], Side::Caller);
    site.scene.wait(2_000);
    site.scene.bye_all(&[c, d], Side::Caller);
    let played = play_with(&site.scene, Config::default());
    let legs: Vec<usize> = played.calls.iter().map(|call| call.record.legs.len()).collect();
    assert_eq!(legs, [1, 1, 1, 1]);
}
