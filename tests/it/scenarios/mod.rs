//! Tests with call flows that no capture contains. The scenario builder makes them. The tests check the record, the
//! recorded sound, and the events while the call is open.

mod announcements;
mod answers_by_chance;
mod attempts;
mod caller_identities;
mod content;
mod correlation;
mod customers;
mod dialog_lifecycle;
mod direct_media;
mod doubtful;
mod early_media;
mod early_offers;
mod flood;
mod holds;
mod late_invites;
mod left_calls;
mod leg_ends;
mod live_updates;
mod losses;
mod machines;
mod media;
mod missing_hops;
mod nat;
mod next_telephones;
mod offers;
mod offices;
mod one_dialog;
mod outlines;
mod packet_faults;
mod page_groups;
mod pickup;
mod provider_forks;
mod proxied_telephones;
mod recorders;
mod registered_trunks;
mod restarted_calls;
mod restarts;
mod ring_groups;
mod ringing;
mod roles;
mod rules;
mod second_callers;
mod shared_hosts;
mod shared_media;
mod short_numbers;
mod short_talks;
mod sites;
mod strangers;
mod topology;
mod transfers;
mod unseen_parts;
mod variations;
mod variations_crowds;
mod variations_devices;
mod variations_dialogs;
mod variations_numbers;
mod variations_proxies;
mod variations_restart;
mod variations_transfers;
mod withheld;

use callspan::call::record::{CallRecord, Side};

use crate::scenarios::dialog_lifecycle::hears;
use crate::support::playback::{PlayedCall, PlayedScene};
use crate::support::scenario::{DialogId, Scene, ScenePhone, at};

/// Returns a scene, a caller from outside (voice 1) and extension 200 (voice 2).
fn outside_and_200() -> (Scene, ScenePhone, ScenePhone) {
    (Scene::new(), ScenePhone::new("+79990000001", 1), ScenePhone::new("200", 2))
}

/// Makes an answered call from the outside caller to 200, without a PBX. Returns the scene, the dialog, and the ms of
/// the answer.
fn direct() -> (Scene, DialogId, i64) {
    let (mut scene, mut outside, mut ours) = outside_and_200();
    let call = scene.dialog(&mut outside, &mut ours);
    let answered = scene.connect(call);
    (scene, call, answered)
}

/// The parties of most tests. An outside caller has voice 1. A PBX on host 9 has voice 5 (music and prompts). The
/// extensions 200 and 201 have the voices 2 and 3.
struct Office {
    scene: Scene,
    outside: ScenePhone,
    pbx: ScenePhone,
    e200: ScenePhone,
    e201: ScenePhone,
}

const OUTSIDE: &str = "+79990000001";
const DID: &str = "+74953009080";
/// Voice that the PBX plays.
const MUSIC: u8 = 5;

impl Office {
    fn new() -> Self {
        Self {
            scene: Scene::new(),
            outside: ScenePhone::new(OUTSIDE, 1),
            pbx: ScenePhone { voice: MUSIC, ..ScenePhone::new(DID, 9) },
            e200: ScenePhone::new("200", 2),
            e201: ScenePhone::new("201", 3),
        }
    }

    /// Adds the trunk's leg of an inbound call.
    fn inbound(&mut self) -> DialogId {
        self.scene.leg(&mut self.outside, &mut self.pbx, [OUTSIDE, DID])
    }

    /// Adds the leg by which the PBX rings extension 200 for the outside caller.
    fn rings_200(&mut self) -> DialogId {
        self.scene.leg(&mut self.pbx, &mut self.e200, [OUTSIDE, "200"])
    }

    /// Adds the leg by which the PBX rings extension 201 for the outside caller.
    fn rings_201(&mut self) -> DialogId {
        self.scene.leg(&mut self.pbx, &mut self.e201, [OUTSIDE, "201"])
    }

    /// Adds the legs of an outbound call: the leg of 200, and the trunk's leg, which shows the office's number.
    fn outbound(&mut self) -> [DialogId; 2] {
        let a = self.scene.leg(&mut self.e200, &mut self.pbx, ["200", OUTSIDE]);
        [a, self.scene.leg(&mut self.pbx, &mut self.outside, [DID, OUTSIDE])]
    }

    /// Adds a consultation: extension 200 talks to 201 through the PBX for `ms`, before a transfer. The caller of leg
    /// `a` hears music meanwhile. Returns both legs of this consultation and the ms of its first packet.
    fn consult(&mut self, a: DialogId, ms: i64) -> (DialogId, DialogId, i64) {
        let Self { scene, pbx, e200, e201, .. } = self;
        let (c, d) = (scene.leg(e200, pbx, ["200", "201"]), scene.leg(pbx, e201, ["200", "201"]));
        scene.connect_via(c, d, 500);
        let begins = scene.now();
        let voices = [(2, c, Side::Caller), (3, c, Side::Callee), (2, d, Side::Caller), (3, d, Side::Callee)];
        scene.sound(&[&[(MUSIC, a, Side::Callee)], &voices[..]].concat(), ms);
        (c, d, begins)
    }

    /// Plays an inbound call that 200 answers, talks on for 2 s, and puts on hold. 200 then consults 201 for 2 s.
    fn consultation_on_hold(&mut self) -> ConsultationOnHold {
        let (a, b) = self.connected();
        let talks = self.scene.now();
        self.scene.bridge(a, b, 2_000);
        let holds = self.scene.now();
        self.scene.hold(b, Side::Callee);
        let (c, d, consults) = self.consult(a, 2_000);
        ConsultationOnHold { a, b, c, d, talks, holds, consults }
    }

    /// Plays a short inbound call. From it the engine learns which host is the PBX.
    fn plain_call(&mut self) {
        let (a, b) = self.connected();
        self.scene.bridge(a, b, 400);
        self.scene.bye_all(&[a, b], Side::Caller);
    }

    /// Makes an inbound call through the PBX that 200 answers. Returns both legs.
    fn connected(&mut self) -> (DialogId, DialogId) {
        let (a, b) = (self.inbound(), self.rings_200());
        self.scene.connect_through(a, b, 2_000);
        (a, b)
    }
}

/// An inbound call on hold, and the consultation of its extension 200 with 201. Times are ms of the scene.
struct ConsultationOnHold {
    /// Leg of the trunk.
    a: DialogId,
    /// Leg of 200 in the inbound call.
    b: DialogId,
    /// Leg of 200 in the consultation.
    c: DialogId,
    /// Leg of 201.
    d: DialogId,
    talks: i64,
    holds: i64,
    consults: i64,
}

impl ConsultationOnHold {
    /// Asserts that the caller is heard with 200 before the hold and with 201 after the transfer at `taken`. The
    /// consultation must be a call of its own, related to the first. Returns both calls.
    fn assert_transferred<'a>(
        &self,
        played: &'a PlayedScene,
        scene: &Scene,
        (taken, ended): (i64, i64),
    ) -> [&'a PlayedCall; 2] {
        assert_eq!(played.calls.len(), 2, "{:#?}", played.calls.iter().map(|c| &c.record.legs).collect::<Vec<_>>());
        let (one, two) = (call_of(played, scene, self.a), call_of(played, scene, self.c));
        hears(one, (1, 2), self.talks, self.holds);
        hears(one, (1, 3), taken, ended);
        hears(two, (2, 3), self.consults, self.consults + 2_000);
        assert!(related(&one.record, &two.record), "200 called 201 from within the first call");
        assert_eq!(one.record.ended_at, Some(at(ended)));
        [one, two]
    }
}

/// Makes an inbound call that 200 answers and transfers to 201, which is busy. Returns the trunk's leg and the leg of
/// 200.
fn referred_in_vain(office: &mut Office) -> [DialogId; 2] {
    let (a, b) = (office.inbound(), office.rings_200());
    office.scene.connect_through(a, b, 1_000);
    office.scene.refer(b, Side::Callee, "<sip:201@10.0.0.9>");
    let c = office.rings_201();
    office.scene.invite_and_ring(c);
    office.scene.refuse(c, 486, &[]);
    [a, b]
}

/// Adds two inbound calls from one number (voices 1 and 4), and the legs by which the PBX rings 200 and 201 for them.
/// Returns the two trunk legs, then the two telephone legs.
fn two_callers_of_one_number(scene: &mut Scene) -> [DialogId; 4] {
    let (mut one, mut two) = (ScenePhone::new(OUTSIDE, 1), ScenePhone::new(OUTSIDE, 4));
    let mut pbx = ScenePhone { voice: MUSIC, ..ScenePhone::new(DID, 9) };
    let (mut e200, mut e201) = (ScenePhone::new("200", 2), ScenePhone::new("201", 3));
    let a = scene.leg(&mut one, &mut pbx, [OUTSIDE, DID]);
    let c = scene.leg(&mut two, &mut pbx, [OUTSIDE, DID]);
    let b = scene.leg(&mut pbx, &mut e200, [OUTSIDE, "200"]);
    [a, c, b, scene.leg(&mut pbx, &mut e201, [OUTSIDE, "201"])]
}

/// Returns the played call with this dialog as its first leg.
#[track_caller]
fn call_of<'a>(played: &'a PlayedScene, scene: &Scene, d: DialogId) -> &'a PlayedCall {
    let id = &scene.get(d).call_id;
    let found = played.calls.iter().find(|c| c.record.legs.first().is_some_and(|l| l.sip_call_id == *id));
    found.unwrap_or_else(|| panic!("{id} is the first leg of no call"))
}

/// Returns whether each of two records names the other as related.
fn related(a: &CallRecord, b: &CallRecord) -> bool {
    a.related.contains(&b.id) && b.related.contains(&a.id)
}
