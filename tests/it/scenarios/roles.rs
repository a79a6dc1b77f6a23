//! Tests of the numbers, names, extensions and direction of a call.

use callspan::call::config::{Config, NumberSource, NumbersConfig};
use callspan::call::record::{CallDirection, CallRecord, Side};

use crate::scenarios::{DID, OUTSIDE, Office};
use crate::support::playback::{play, play_with};
use crate::support::scenario::{Scene, ScenePhone};

/// Plays a direct call that is answered and ends. Its INVITE has these headers. Returns the record.
fn direct(from: &mut ScenePhone, to: &mut ScenePhone, headers: &[&str], config: Config) -> CallRecord {
    let mut scene = Scene::new();
    let call = scene.dialog(from, to);
    scene.at(call).headers = headers.iter().map(|h| (*h).to_owned()).collect();
    scene.connect(call);
    scene.talk(call, 400);
    scene.bye(call, Side::Caller);
    play_with(&scene, config).only().record.clone()
}

fn numbers(record: &CallRecord) -> [Option<&str>; 3] {
    [&record.from, &record.to, &record.internal].map(|n| n.as_deref())
}

#[test]
fn names_are_kept() {
    let (mut a, mut b) = (ScenePhone::new(OUTSIDE, 1).named("Anna"), ScenePhone::new("200", 2).named("Boris"));
    let record = direct(&mut a, &mut b, &[], Config::default());
    assert_eq!((record.from_name.as_deref(), record.to_name.as_deref()), (Some("Anna"), Some("Boris")));
    assert_eq!(record.request_uri.as_deref(), Some("sip:200@10.0.0.2:5060"));
}

#[test]
fn what_the_network_says_of_a_diverted_call_is_kept() {
    let (mut a, mut b) = (ScenePhone::new(OUTSIDE, 1), ScenePhone::new("200", 2));
    let headers = [
        "Diversion: <sip:201@10.0.0.9>;reason=no-answer",
        "History-Info: <sip:+74953009080@x>;index=1, <sip:200@x>;index=1.1",
        "P-Called-Party-ID: <sip:+74953009081@x>",
        "Referred-By: <sip:202@10.0.0.9>",
    ];
    let record = direct(&mut a, &mut b, &headers, Config::default());
    assert_eq!(record.diverted_from.as_deref(), Some("201"));
    assert_eq!(record.called_party.as_deref(), Some("+74953009081"));
    assert_eq!(record.referred_by.as_deref(), Some("202"));
    // Without a Diversion, the first entry of History-Info names the party that was called first (RFC 7044).
    let record = direct(&mut a, &mut b, &headers[1..], Config::default());
    assert_eq!(record.diverted_from.as_deref(), Some("+74953009080"));
    // A single entry of History-Info stands for the call itself.
    let record = direct(&mut a, &mut b, &["History-Info: <sip:200@x>;index=1"], Config::default());
    assert_eq!((record.diverted_from, record.called_party, record.referred_by), (None, None, None));
}

#[test]
fn a_phone_that_registers_is_an_extension_whatever_its_name() {
    for (user, registered) in [("alice", true), ("1234567", true), ("alice", false)] {
        let mut scene = Scene::new();
        let (mut outside, mut phone, registrar) =
            (ScenePhone::new(OUTSIDE, 1), ScenePhone::new(user, 2), ScenePhone::new("", 9));
        if registered {
            scene.register(&phone, &registrar);
        }
        let call = scene.dialog(&mut outside, &mut phone);
        scene.connect(call);
        scene.talk(call, 400);
        scene.bye(call, Side::Caller);
        let played = play(&scene);
        let record = &played.only().record;
        let want = if registered { (CallDirection::Inbound, Some(user)) } else { (CallDirection::Unknown, None) };
        assert_eq!((record.direction, record.internal.as_deref()), want);
    }
}

#[test]
fn extensions_may_be_listed() {
    let numbers_of = |list: &[&str]| {
        let extensions = list.iter().map(|e| (*e).to_owned()).collect();
        Config { numbers: NumbersConfig { extensions, ..NumbersConfig::default() }, ..Config::default() }
    };
    let (mut a, mut b) = (ScenePhone::new("reception", 1), ScenePhone::new(OUTSIDE, 2));
    let record = direct(&mut a, &mut b, &[], numbers_of(&["reception", "1234567"]));
    assert_eq!(
        (record.direction, numbers(&record)),
        (CallDirection::Outbound, [Some("reception"), Some(OUTSIDE), Some("reception")])
    );
    let record = direct(&mut a, &mut b, &[], numbers_of(&["1234567"]));
    assert_eq!(record.direction, CallDirection::Unknown);
}

#[test]
fn the_trunks_leg_alone_is_inbound_where_the_pbx_is_known() {
    let mut office = Office::new();
    // From an ordinary call the engine learns which host is the PBX.
    office.plain_call();
    // An hour later, only the trunk's leg of another call is captured. The PBX itself answered it, e.g. with a fax or a
    // mailbox.
    office.scene.wait(3_600_000);
    let mut caller = ScenePhone::new("+79990000555", 4);
    let trunk = office.scene.leg(&mut caller, &mut office.pbx, ["+79990000555", DID]);
    let scene = &mut office.scene;
    scene.connect(trunk);
    scene.talk(trunk, 400);
    scene.bye(trunk, Side::Caller);
    // The PBX makes a call.
    let out = scene.leg(&mut office.pbx, &mut caller, [DID, "+79990000555"]);
    scene.connect(out);
    scene.bye(out, Side::Caller);
    let played = play(scene);
    let directions: Vec<_> = played.calls.iter().map(|c| (c.record.direction, numbers(&c.record)[2])).collect();
    let want = [(CallDirection::Inbound, Some("200")), (CallDirection::Inbound, None), (CallDirection::Outbound, None)];
    assert_eq!(directions, want);
}

#[test]
fn a_call_from_a_public_to_a_private_address_is_inbound() {
    let mut scene = Scene::new();
    let (mut provider, mut pbx) = (ScenePhone::new(OUTSIDE, 1), ScenePhone::new(DID, 9));
    provider.sip = callspan::net::Endpoint::v4([203, 0, 113, 7], 5060);
    let call = scene.dialog(&mut provider, &mut pbx);
    scene.connect(call);
    scene.bye(call, Side::Caller);
    let back = scene.dialog(&mut pbx, &mut provider);
    scene.connect(back);
    scene.bye(back, Side::Caller);
    let played = play(&scene);
    let directions: Vec<_> = played.calls.iter().map(|c| c.record.direction).collect();
    assert_eq!(directions, [CallDirection::Inbound, CallDirection::Outbound]);
}

#[test]
fn a_caller_who_withholds_the_number_is_named_by_the_configured_word() {
    let (mut a, mut b) = (ScenePhone::new("anonymous", 1).named("Anonymous"), ScenePhone::new("200", 2));
    let record = direct(&mut a, &mut b, &[], Config::default());
    assert_eq!(
        (record.direction, numbers(&record)),
        (CallDirection::Inbound, [Some("anonymous"), Some("200"), Some("200")])
    );
    let private = direct(&mut a, &mut b, &["Privacy: id"], Config::default());
    assert_eq!(private.from.as_deref(), Some("anonymous"));
    // To parties that it trusts, a network may assert a number although the caller hides it (RFC 3325).
    let asserted = "P-Asserted-Identity: <sip:+79990000001@x>";
    for headers in [&[asserted][..], &[asserted, "Privacy: id"]] {
        let record = direct(&mut a, &mut b, headers, Config::default());
        assert_eq!(record.from.as_deref(), Some(OUTSIDE));
    }
    // A preferred identity comes from the telephone itself, and no network confirms it.
    let preferred =
        direct(&mut a, &mut b, &["P-Preferred-Identity: <sip:+79990000001@x>", "Privacy: id"], Config::default());
    assert_eq!(preferred.from.as_deref(), Some("anonymous"));
    let mut config = Config::default();
    config.numbers.from_number = vec![NumberSource::From];
    let private = direct(&mut a, &mut b, &[asserted, "Privacy: id"], config);
    assert_eq!(private.from.as_deref(), Some("anonymous"), "the header is no source");
}
