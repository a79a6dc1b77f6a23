//! Tests of legs without a party: a recorder's own session (SIPREC), and the legs between two PBXs. They must change
//! neither the extension nor the outcome of a call.

use callspan::call::Engine;
use callspan::call::config::Config;
use callspan::call::correlation_rule::CorrelationRule;
use callspan::call::event::CallEvent;
use callspan::call::leg_end::LegEndRole;
use callspan::call::record::{CallDirection, CallOutcome, CallRecord, EventKind, Side};
use callspan::decode::{TcpStreamChunk, TcpStreamEvent};

use crate::scenarios::leg_ends::{PBX, ends};
use crate::scenarios::{DID, MUSIC, OUTSIDE, Office, call_of, related};
use crate::support::playback::{NullSink, play};
use crate::support::restart::records_with_kill;
use crate::support::scenario::{DialogId, MessageChange, Scene, ScenePacket, ScenePhone, at};

/// Begins the session in which the PBX sends the sound of a call to a recorder. The recorder has a number like an
/// extension. The metadata of the session names a party of the call.
fn begin_session(office: &mut Office, party: &str) -> DialogId {
    let Office { scene, pbx, .. } = office;
    let session = scene.leg(pbx, &mut ScenePhone::new("299", 30), ["290", "299"]);
    scene.at(session).headers = vec!["Require: siprec".to_owned()];
    let metadata = format!("<recording><nameID aor=\"sip:{party}@10.0.0.9\"/></recording>");
    scene.request(session, Side::Caller, "INVITE", &[MessageChange::Body("application/rs-metadata+xml", metadata)]);
    scene.ring(session);
    scene.answer(session);
    session
}

fn facts(record: &CallRecord) -> (CallDirection, CallOutcome, Option<&str>) {
    (record.direction, record.outcome, record.internal.as_deref())
}

#[test]
fn a_queue_rings_its_operator_while_a_recorder_listens() {
    let mut office = Office::new();
    let (a, b) = (office.inbound(), office.rings_200());
    office.scene.invite(a);
    office.scene.answer(a);
    let session = begin_session(&mut office, OUTSIDE);
    let scene = &mut office.scene;
    scene.sound(&[(1, a, Side::Caller), (MUSIC, a, Side::Callee), (1, session, Side::Caller)], 5_000);
    scene.invite(b);
    scene.wait(1_000);
    let answered = scene.answer(b);
    let speakers = [(1, a, Side::Caller), (2, a, Side::Callee), (1, b, Side::Caller), (2, b, Side::Callee)];
    scene.sound(&[&speakers[..], &[(1, session, Side::Caller)]].concat(), 6_000);
    scene.bye_all(&[session, a, b], Side::Caller);
    let played = play(scene);
    let record = &played.only().record;
    assert_eq!(facts(record), (CallDirection::Inbound, CallOutcome::Answered, Some("200")));
    assert_eq!((record.legs.len(), record.operator_answered_at), (3, Some(at(answered))));
    assert_eq!(record.ringing_at, None, "only the recorder rang");
}

#[test]
fn a_recorder_is_not_the_telephone_that_answered_a_picked_up_call() {
    let mut office = Office::new();
    let (a, b) = (office.inbound(), office.rings_200());
    office.scene.invite_and_ring(a);
    office.scene.invite_and_ring(b);
    office.scene.wait(2_000);
    let c = office.scene.leg(&mut office.e201, &mut office.pbx, ["201", "*8"]);
    office.scene.invite(c);
    office.scene.answer(c);
    office.scene.answer(a);
    let session = begin_session(&mut office, OUTSIDE);
    let scene = &mut office.scene;
    scene.cancel(b);
    scene.sound(&[(1, a, Side::Caller), (3, a, Side::Callee), (3, c, Side::Caller), (1, c, Side::Callee)], 4_000);
    scene.bye_all(&[session, a, c], Side::Caller);
    let played = play(scene);
    let [one, two] = [a, c].map(|leg| &call_of(&played, scene, leg).record);
    assert_eq!(facts(one), (CallDirection::Inbound, CallOutcome::Answered, Some("201")));
    assert!(related(one, two));
}

#[test]
fn a_click_to_call_with_a_recorder_is_one_call() {
    let mut office = Office::new();
    let Office { scene, pbx, e200, outside, .. } = &mut office;
    let a = scene.leg(pbx, e200, ["callback", "200"]);
    let b = scene.leg(pbx, outside, [DID, OUTSIDE]);
    scene.invite_and_ring(a);
    scene.wait(1_000);
    scene.answer(a);
    let session = begin_session(&mut office, "200");
    let scene = &mut office.scene;
    scene.wait(100);
    scene.connect(b);
    scene.sound(&[(1, a, Side::Caller), (2, a, Side::Callee), (2, b, Side::Caller), (1, b, Side::Callee)], 3_000);
    scene.bye_all(&[session, b, a], Side::Caller);
    let played = play(scene);
    assert_eq!(facts(&played.only().record), (CallDirection::Outbound, CallOutcome::Answered, Some("200")));
}

#[test]
fn a_recorders_session_has_no_party_and_no_events() {
    let mut office = Office::new();
    let (a, b) = office.connected();
    let session = begin_session(&mut office, OUTSIDE);
    let scene = &mut office.scene;
    scene.bridge(a, b, 1_000);
    scene.hold(session, Side::Caller);
    scene.bridge(a, b, 1_000);
    scene.bye_all(&[session, a, b], Side::Caller);
    let played = play(scene);
    let record = &played.only().record;
    assert_eq!(facts(record), (CallDirection::Inbound, CallOutcome::Answered, Some("200")));
    assert_eq!(ends(record)[2], [(LegEndRole::Unknown, None), (LegEndRole::Unknown, None)]);
    assert!(record.events.iter().all(|event| event.kind != EventKind::Hold), "{:?}", record.events);
}

/// Begins the session of a recorder, from this machine, that only its metadata shows: a part of the body of the INVITE.
fn begin_session_with_metadata(scene: &mut Scene, sender: &mut ScenePhone, party: &str) -> DialogId {
    let session = scene.leg(sender, &mut ScenePhone::new("srs", 30), ["src", "srs"]);
    let offer = scene.sdp(session, Side::Caller, &["a=sendonly"]);
    let metadata = format!("<recording><nameID aor=\"sip:{party}@10.0.0.9\"/></recording>");
    let body = format!(
        "--u\r\nContent-Type: application/sdp\r\n\r\n{offer}\r\n--u\r\nContent-Type: \
         application/rs-metadata+xml\r\n\r\n{metadata}\r\n--u--\r\n"
    );
    scene.request(session, Side::Caller, "INVITE", &[MessageChange::Body("multipart/mixed;boundary=u", body)]);
    scene.ring(session);
    scene.answer(session);
    session
}

#[test]
fn the_metadata_alone_shows_a_recorders_session() {
    let mut office = Office::new();
    let (a, b) = office.connected();
    let session = begin_session_with_metadata(&mut office.scene, &mut office.pbx, OUTSIDE);
    let scene = &mut office.scene;
    scene.bridge(a, b, 1_000);
    scene.bye_all(&[session, a, b], Side::Caller);
    let played = play(scene);
    let record = &played.only().record;
    assert_eq!(facts(record), (CallDirection::Inbound, CallOutcome::Answered, Some("200")));
    assert_eq!(record.legs[2].joined_by, Some(CorrelationRule::RecordingSession));
}

/// Plays a call through two addresses of a PBX, and two sessions of recorders that name its caller. One comes from the
/// PBX's address for the telephones, the other from a host of nobody in the call.
#[test]
fn a_session_from_another_address_of_the_pbx_belongs_to_its_call() {
    let mut office = Office::new();
    let Office { scene, outside, pbx, e200, .. } = &mut office;
    let (mut lan, mut stranger) = (ScenePhone::new(DID, 19), ScenePhone::new(DID, 29));
    let (a, b) = (scene.leg(outside, pbx, [OUTSIDE, DID]), scene.leg(&mut lan, e200, [OUTSIDE, "200"]));
    scene.connect_through(a, b, 1_000);
    let session = begin_session_with_metadata(scene, &mut lan, OUTSIDE);
    let other = begin_session_with_metadata(scene, &mut stranger, OUTSIDE);
    scene.bridge(a, b, 1_000);
    scene.bye_all(&[session, other, a, b], Side::Caller);
    let played = play(scene);
    assert_eq!(played.calls.len(), 2, "the session of another machine is a record of its own");
    let record = &call_of(&played, scene, a).record;
    assert_eq!(facts(record), (CallDirection::Inbound, CallOutcome::Answered, Some("200")));
    assert!(record.legs.iter().any(|leg| leg.sip_call_id == scene.get(session).call_id));
}

/// The mirror shows only the trunk and the recorder, so a person may have answered unseen.
#[test]
fn a_recorder_shows_no_telephones_of_the_pbx() {
    let mut office = Office::new();
    let a = office.inbound();
    office.scene.connect(a);
    let session = begin_session(&mut office, OUTSIDE);
    office.scene.talk(a, 2_000);
    office.scene.bye_all(&[session, a], Side::Caller);
    let played = play(&office.scene);
    assert_eq!(facts(&played.only().record), (CallDirection::Inbound, CallOutcome::Answered, None));
}

/// A call through two PBXs. The first PBX passes it on to the queue 600 of the second PBX.
struct TwoPbxs {
    scene: Scene,
    /// Leg of the trunk.
    trunk: DialogId,
    /// Leg between the two PBXs.
    between: DialogId,
    /// Leg on which the second PBX rings 200.
    rung: DialogId,
}

impl TwoPbxs {
    /// Plays a call that the queue answers, and that waits until 200 rings.
    fn queued() -> Self {
        let mut office = Office::new();
        let trunk = office.inbound();
        let Office { mut scene, mut pbx, mut e200, .. } = office;
        let mut second = ScenePhone { voice: MUSIC, ..ScenePhone::new("600", 19) };
        let between = scene.leg(&mut pbx, &mut second, [OUTSIDE, "600"]);
        let rung = scene.leg(&mut second, &mut e200, [OUTSIDE, "200"]);
        scene.invite(trunk);
        scene.invite(between);
        scene.answer(between);
        scene.answer(trunk);
        let voices = [(1, trunk), (1, between)].map(|(voice, leg)| (voice, leg, Side::Caller));
        let music = [trunk, between].map(|leg| (MUSIC, leg, Side::Callee));
        scene.sound(&[&voices[..], &music].concat(), 3_000);
        scene.invite_and_ring(rung);
        scene.wait(2_000);
        Self { scene, trunk, between, rung }
    }
}

#[test]
fn a_queue_of_another_pbx_is_no_party() {
    let TwoPbxs { mut scene, trunk, between, rung } = TwoPbxs::queued();
    scene.bye_all(&[trunk, between], Side::Caller);
    scene.cancel(rung);
    let played = play(&scene);
    let record = &played.only().record;
    assert_eq!(facts(record), (CallDirection::Inbound, CallOutcome::Abandoned, Some("200")));
    assert_eq!(record.operator_answered_at, None);
    assert_eq!(ends(record)[1], [PBX, PBX]);
}

#[test]
fn an_operator_behind_two_pbxs_has_the_time_of_the_answer() {
    let TwoPbxs { mut scene, trunk, between, rung } = TwoPbxs::queued();
    let answered = scene.answer(rung);
    let legs = [trunk, between, rung];
    let speakers = legs.iter().flat_map(|leg| [(1, *leg, Side::Caller), (2, *leg, Side::Callee)]);
    scene.sound(&speakers.collect::<Vec<_>>(), 3_000);
    scene.bye_all(&legs, Side::Caller);
    let played = play(&scene);
    let record = &played.only().record;
    assert_eq!(facts(record), (CallDirection::Inbound, CallOutcome::Answered, Some("200")));
    assert_eq!(record.operator_answered_at, Some(at(answered)));
}

/// The mirror shows which telephones the second PBX rings. So when it rings none, its voice menu has answered.
#[test]
fn a_menu_of_another_pbx_is_no_person() {
    let TwoPbxs { mut scene, trunk, between, rung } = TwoPbxs::queued();
    scene.answer(rung);
    scene.bye_all(&[trunk, between, rung], Side::Caller);
    scene.wait(60_000);
    let (mut outside, mut pbx) = (ScenePhone::new("+79990000009", 4), ScenePhone::new(DID, 9));
    outside.next_port = 14_000;
    pbx.next_port = 15_000;
    let mut second = ScenePhone { voice: MUSIC, next_port: 16_000, ..ScenePhone::new(DID, 19) };
    let a = scene.leg(&mut outside, &mut pbx, ["+79990000009", DID]);
    let i = scene.leg(&mut pbx, &mut second, ["+79990000009", DID]);
    scene.connect_through(a, i, 100);
    scene.bridge(a, i, 2_000);
    scene.bye_all(&[a, i], Side::Caller);
    let played = play(&scene);
    let record = &call_of(&played, &scene, a).record;
    assert_eq!(facts(record), (CallDirection::Inbound, CallOutcome::Abandoned, None));
    assert_eq!(record.operator_answered_at, None);
}

/// The PBX captures its own calls. 200 is a softphone on the host of the PBX, and rings together with 201.
#[test]
fn a_softphone_on_the_host_of_the_pbx_answers_the_call() {
    let mut office = Office::new();
    office.e200.sip = office.pbx.sip.with_port(5_070);
    let (a, b, c) = (office.inbound(), office.rings_200(), office.rings_201());
    let scene = &mut office.scene;
    [a, b, c].into_iter().for_each(|leg| scene.invite_and_ring(leg));
    scene.wait(1_000);
    scene.answer(b);
    scene.answer(a);
    scene.cancel(c);
    scene.bridge(a, b, 3_000);
    scene.bye_all(&[a, b], Side::Caller);
    let played = play(scene);
    assert_eq!(facts(&played.only().record), (CallDirection::Inbound, CallOutcome::Answered, Some("200")));
}

/// A softphone with a name is on the host of the PBX, or on another host. No REGISTER shows that it is an extension.
#[test]
fn a_softphone_with_a_name_on_the_pbx_host_answers_the_call() {
    for is_same_host in [false, true] {
        let mut office = Office::new();
        office.plain_call();
        office.scene.wait(60_000);
        let mut secretary = ScenePhone::new("secretary", 6);
        if is_same_host {
            secretary.sip = office.pbx.sip.with_port(5_070);
        }
        let a = office.inbound();
        let b = office.scene.leg(&mut office.pbx, &mut secretary, [OUTSIDE, "secretary"]);
        office.scene.ring_through(a, b);
        office.scene.wait(1_000);
        let scene = &mut office.scene;
        scene.answer(b);
        scene.answer(a);
        scene.bridge(a, b, 3_000);
        scene.bye_all(&[a, b], Side::Caller);
        let played = play(scene);
        let record = &call_of(&played, scene, a).record;
        assert_eq!((record.outcome, record.legs.len()), (CallOutcome::Answered, 2), "same host: {is_same_host}");
    }
}

/// Plays two calls through a proxy on the host of the PBX, which the proxy calls by a name. Only the first call rings
/// 200. Returns the first leg of each call.
fn calls_through_proxy_on_pbx_host(office: &mut Office) -> [DialogId; 2] {
    let mut proxy = office.pbx.clone();
    office.pbx = ScenePhone { sip: proxy.sip.with_port(5_080), next_port: 20_000, ..proxy.clone() };
    let b = office.rings_200();
    let Office { scene, outside, pbx, .. } = office;
    let [first, second] = [(), ()].map(|()| {
        let a = scene.leg(outside, &mut proxy, [OUTSIDE, DID]);
        [a, scene.leg(&mut proxy, pbx, [OUTSIDE, "pbx"])]
    });
    for (legs, rung) in [(first, Some(b)), (second, None)] {
        let legs: Vec<_> = legs.into_iter().chain(rung).collect();
        legs.iter().for_each(|leg| scene.invite(*leg));
        scene.wait(1_000);
        legs.iter().rev().for_each(|leg| _ = scene.answer(*leg));
        scene.bridge(legs[0], legs[1], 3_000);
        scene.bye_all(&legs, Side::Caller);
        scene.wait(60_000);
    }
    [first[0], second[0]]
}

/// The program that rang 200 is the PBX, so no person has the name by which the proxy calls it.
#[test]
fn a_pbx_with_a_name_behind_its_proxy_is_no_person() {
    let mut office = Office::new();
    let [first, second] = calls_through_proxy_on_pbx_host(&mut office);
    let scene = &office.scene;
    let played = play(scene);
    assert_eq!(call_of(&played, scene, first).record.outcome, CallOutcome::Answered);
    let record = &call_of(&played, scene, second).record;
    assert_eq!(facts(record), (CallDirection::Inbound, CallOutcome::Abandoned, None));
    let killed = scene.now() - 62_000;
    let restarted = records_with_kill(&scene.packets(), scene.now(), killed);
    let restarted = restarted.iter().find(|other| other.id == record.id).expect("the second call");
    assert_eq!(facts(restarted), facts(record));
}

/// The PBX also rings telephones over TCP, from another port for each connection.
#[test]
fn a_pbx_that_rings_over_many_connections_is_no_person() {
    let mut office = Office::new();
    let ports = 40_000..40_020;
    for port in ports.clone() {
        let a = office.inbound();
        let mut connection = ScenePhone { sip: office.pbx.sip.with_port(port), ..office.pbx.clone() };
        let b = office.scene.leg(&mut connection, &mut office.e201, [OUTSIDE, "201"]);
        office.scene.connect_through(a, b, 1_000);
        office.scene.bye_all(&[a, b], Side::Caller);
        office.scene.wait(10_000);
    }
    let [_, second] = calls_through_proxy_on_pbx_host(&mut office);
    let mut engine = Engine::new(Config::default(), "connections");
    for packet in office.scene.packets() {
        let ScenePacket { at, src, dst, payload } = &packet;
        match [src, dst].iter().any(|end| ports.contains(&end.port())) {
            true => {
                let event = TcpStreamEvent::Data(payload);
                let chunk = TcpStreamChunk { at: *at, src: *src, dst: *dst, event, interface: 0 };
                engine.handle_stream(&chunk, &mut NullSink);
            }
            false => engine.handle_datagram(&packet.datagram(), &mut NullSink),
        }
    }
    engine.handle_end_of_capture(&mut NullSink);
    let ended = std::iter::from_fn(|| engine.poll_event());
    let records = ended.filter_map(|event| if let CallEvent::Ended(call) = event { Some(call.record) } else { None });
    let id = &office.scene.get(second).call_id;
    let record = records.into_iter().find(|record| record.legs[0].sip_call_id == *id).expect("the second call");
    assert_eq!(facts(&record), (CallDirection::Inbound, CallOutcome::Abandoned, None));
}

/// A proxy is on the host of the PBX, and its hop has another Call-ID. The voice mail answers, because 200 does not.
#[test]
fn a_proxy_on_the_host_of_the_pbx_is_no_person() {
    for (called, rings) in [(DID, true), ("200", true), (DID, false)] {
        let mut office = Office::new();
        office.plain_call();
        office.scene.wait(60_000);
        let mut proxy = office.pbx.clone();
        office.pbx = ScenePhone { sip: proxy.sip.with_port(5_080), next_port: 20_000, ..proxy.clone() };
        let a = office.scene.leg(&mut office.outside, &mut proxy, [OUTSIDE, DID]);
        let p = office.scene.leg(&mut proxy, &mut office.pbx, [OUTSIDE, called]);
        let b = office.rings_200();
        let scene = &mut office.scene;
        scene.invite(a);
        scene.invite(p);
        if rings {
            scene.invite_and_ring(b);
            scene.wait(3_000);
            scene.cancel(b);
        }
        scene.answer(p);
        scene.answer(a);
        scene.bridge(a, p, 3_000);
        scene.bye_all(&[a, p], Side::Caller);
        let played = play(scene);
        let record = &call_of(&played, scene, a).record;
        let extension = rings.then_some("200");
        assert_eq!(facts(record), (CallDirection::Inbound, CallOutcome::Abandoned, extension), "{called} {rings}");
        assert_eq!((record.legs.len(), record.operator_answered_at), (2 + usize::from(rings), None));
    }
}
