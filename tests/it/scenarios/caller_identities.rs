//! Tests of callers with two numbers, and of telephones that hide their number. `From` names one number of a caller, and
//! an identity header may name another (RFC 3325).

use callspan::call::record::{CallDirection, CallRecord, Side};
use callspan::net::Endpoint;

use crate::scenarios::{DID, OUTSIDE, Office};
use crate::support::playback::{PlayedScene, play};
use crate::support::scenario::{DialogId, ScenePhone};

/// Number of the company or network of a caller, which a provider asserts.
const COMPANY: &str = "+74951112222";
const COLLEAGUE: &str = "+79990000002";

fn asserts(number: &str) -> String {
    format!("P-Asserted-Identity: <sip:{number}@provider.example>")
}

/// An office with a provider at a public address, which sends calls of the number `OUTSIDE`.
fn office() -> Office {
    let mut office = Office::new();
    office.outside.sip = Endpoint::v4([203, 0, 113, 7], 5060);
    office
}

/// Account of the trunk, which a provider may assert in place of the caller's number.
const ACCOUNT: &str = "trunk77";

/// Adds the leg of an outside caller with the number `shown`, and a header that names another number.
fn inbound_of(office: &mut Office, shown: &str, header: &str) -> DialogId {
    let a = office.scene.leg(&mut office.outside, &mut office.pbx, [shown, DID]);
    office.scene.at(a).headers.push(header.to_owned());
    a
}

/// Returns direction, caller and extension of each record, and the number of its legs.
fn facts(played: &PlayedScene) -> Vec<(CallDirection, &str, &str, usize)> {
    let records = played.calls.iter().map(|call| &call.record);
    records.map(facts_of).collect()
}

fn facts_of(r: &CallRecord) -> (CallDirection, &str, &str, usize) {
    let [from, extension] = [&r.from, &r.internal].map(|number| number.as_deref().unwrap_or_default());
    (r.direction, from, extension, r.legs.len())
}

/// The PBX passes on the number in `From`, or the number in the identity header. It has one address or two.
#[test]
fn a_caller_with_two_numbers_is_one_caller() {
    let headers = [
        asserts(COMPANY),
        format!("P-Asserted-Identity: <tel:{COMPANY}>"),
        format!("Remote-Party-ID: <sip:{COMPANY}@provider.example>;party=calling"),
    ];
    for header in &headers {
        for (passed_on, sends_from) in [(OUTSIDE, 9), (COMPANY, 9), (OUTSIDE, 99), (COMPANY, 99)] {
            let mut office = office();
            let a = inbound_of(&mut office, OUTSIDE, header);
            let mut inside = ScenePhone::new(DID, sends_from);
            let b = office.scene.leg(&mut inside, &mut office.e200, [passed_on, "200"]);
            office.scene.connect_through(a, b, 1_000);
            office.scene.bridge(a, b, 400);
            office.scene.bye_all(&[a, b], Side::Caller);
            let played = play(&office.scene);
            let want = [(CallDirection::Inbound, COMPANY, "200", 2)];
            assert_eq!(facts(&played), want, "{header}, passes on {passed_on} from host {sends_from}");
        }
    }
}

/// The provider asserts a word, e.g. the account of the trunk. The caller's number is in `From`.
#[test]
fn a_word_in_an_identity_header_yields_to_the_number_in_from() {
    for word in [ACCOUNT, "office"] {
        for header in [asserts(word), format!("Remote-Party-ID: <sip:{word}@provider.example>;party=calling")] {
            for sends_from in [9, 99] {
                let mut office = office();
                let a = inbound_of(&mut office, OUTSIDE, &header);
                let mut inside = ScenePhone::new(DID, sends_from);
                let b = office.scene.leg(&mut inside, &mut office.e200, [OUTSIDE, "200"]);
                office.scene.connect_through(a, b, 1_000);
                office.scene.bridge(a, b, 400);
                office.scene.bye_all(&[a, b], Side::Caller);
                let want = [(CallDirection::Inbound, OUTSIDE, "200", 2)];
                assert_eq!(facts(&play(&office.scene)), want, "{header} from host {sends_from}");
            }
        }
    }
}

/// Without a number, the word is the caller. An extension may be a word.
#[test]
fn a_word_in_an_identity_header_stays_without_a_number() {
    let mut office = office();
    let a = inbound_of(&mut office, "reception", &asserts(ACCOUNT));
    office.scene.connect(a);
    office.scene.bye(a, Side::Caller);
    assert_eq!(facts(&play(&office.scene)), [(CallDirection::Inbound, ACCOUNT, "", 1)]);
    let mut office = Office::new();
    office.scene.register(&ScenePhone::new("ivan", 2), &office.pbx);
    let a = office.scene.leg(&mut ScenePhone::new("", 2), &mut office.pbx, ["55", OUTSIDE]);
    office.scene.at(a).headers.push(asserts("ivan"));
    office.scene.connect(a);
    office.scene.bye(a, Side::Caller);
    assert_eq!(facts(&play(&office.scene)), [(CallDirection::Outbound, "ivan", "ivan", 1)]);
}

/// The account of the trunk is the same for two callers, whose numbers the PBX passes on.
#[test]
fn two_callers_over_one_account_are_two_callers() {
    let mut office = office();
    let a = inbound_of(&mut office, OUTSIDE, &asserts(ACCOUNT));
    let c = inbound_of(&mut office, COLLEAGUE, &asserts(ACCOUNT));
    let d = office.scene.leg(&mut office.pbx, &mut office.e201, [COLLEAGUE, "201"]);
    let b = office.rings_200();
    answer_in_turn(&mut office, [[a, b], [c, d]]);
    assert_own_legs(&office, [[a, b], [c, d]]);
}

/// Two callers show the number of one company, and the provider asserts their own numbers. The PBX passes on both numbers.
/// The mirror misses the leg of the second caller.
#[test]
fn two_callers_who_each_have_two_numbers_are_told_apart_by_both() {
    for sends_from in [9, 99] {
        for (own, records) in [(OUTSIDE, 1), (COLLEAGUE, 2)] {
            let mut office = office();
            let mut inside = ScenePhone { next_port: 20_000, ..ScenePhone::new(DID, sends_from) };
            let a = inbound_of(&mut office, COMPANY, &asserts(OUTSIDE));
            let b = office.scene.leg(&mut inside, &mut office.e200, [COMPANY, "200"]);
            office.scene.at(b).headers.push(asserts(own));
            office.scene.ring_through(a, b);
            office.scene.wait(3_000);
            office.scene.cancel(a);
            office.scene.cancel(b);
            assert_eq!(play(&office.scene).calls.len(), records, "{own} from host {sends_from}");
        }
    }
}

/// Two callers have one company number, and the PBX passes on the numbers that they show.
#[test]
fn two_callers_of_one_company_are_two_callers() {
    let mut office = office();
    let a = inbound_of(&mut office, OUTSIDE, &asserts(COMPANY));
    let c = inbound_of(&mut office, COLLEAGUE, &asserts(COMPANY));
    let d = office.scene.leg(&mut office.pbx, &mut office.e201, [COLLEAGUE, "201"]);
    let b = office.rings_200();
    answer_in_turn(&mut office, [[a, b], [c, d]]);
    assert_own_legs(&office, [[a, b], [c, d]]);
}

/// One caller shows the number of the company, and another one has it as second number. The PBX passes on the number in
/// `From` of both.
#[test]
fn the_number_of_a_company_is_no_second_number_of_its_operator() {
    let mut office = office();
    let a = inbound_of(&mut office, OUTSIDE, &asserts(COMPANY));
    let c = office.scene.leg(&mut office.outside, &mut office.pbx, [COMPANY, DID]);
    let d = office.scene.leg(&mut office.pbx, &mut office.e201, [COMPANY, "201"]);
    let b = office.rings_200();
    answer_in_turn(&mut office, [[a, b], [c, d]]);
    assert_own_legs(&office, [[a, b], [c, d]]);
}

/// The PBX rings both telephones at once. The second one answers three seconds after the first.
fn answer_in_turn(office: &mut Office, pairs: [[DialogId; 2]; 2]) {
    let [[a, b], [c, d]] = pairs;
    for leg in [a, c, d, b] {
        office.scene.invite_and_ring(leg);
    }
    office.scene.wait(1_000);
    office.scene.answer(b);
    office.scene.answer(a);
    office.scene.bridge(a, b, 3_000);
    office.scene.answer(d);
    office.scene.answer(c);
    office.scene.bridge(c, d, 400);
    for [outer, inner] in pairs {
        office.scene.bye_all(&[outer, inner], Side::Caller);
        office.scene.wait(3_000);
    }
}

/// Asserts that each pair of legs has its own record.
#[track_caller]
fn assert_own_legs(office: &Office, pairs: [[DialogId; 2]; 2]) {
    let played = play(&office.scene);
    let legs = |r: &CallRecord| r.legs.iter().map(|leg| leg.sip_call_id.clone()).collect::<Vec<_>>();
    let mut found: Vec<_> = played.calls.iter().map(|call| legs(&call.record)).collect();
    let mut want: Vec<_> = pairs.map(|pair| pair.map(|leg| office.scene.get(leg).call_id.clone()).to_vec()).to_vec();
    for records in [&mut found, &mut want] {
        records.iter_mut().for_each(|legs| legs.sort());
        records.sort();
    }
    assert_eq!(found, want);
}

/// A telephone of another caller with the same shown number rings at the other address of the PBX. The mirror misses
/// that caller's own leg.
#[test]
fn a_second_number_joins_no_stranger_who_is_answered_later() {
    let mut office = office();
    let a = inbound_of(&mut office, OUTSIDE, &asserts(COMPANY));
    let b = office.scene.leg(&mut ScenePhone::new(DID, 99), &mut office.e200, [OUTSIDE, "200"]);
    let scene = &mut office.scene;
    scene.ring_through(a, b);
    scene.wait(1_000);
    scene.answer(b);
    scene.talk(b, 3_000);
    scene.answer(a);
    scene.talk(a, 1_000);
    scene.bye(a, Side::Caller);
    scene.wait(3_000);
    scene.bye(b, Side::Caller);
    assert_eq!(play(scene).calls.len(), 2);
}

/// Plays outbound calls of telephones that hide their number, all to one number and at the same time.
fn hidden_outbound(headers: &[&str]) -> (Office, PlayedScene) {
    let mut office = office();
    let telephones = [ScenePhone::new("anonymous", 2), ScenePhone::new("anonymous", 3)];
    let mut legs = Vec::new();
    for (header, mut telephone) in headers.iter().zip(telephones) {
        let a = office.scene.leg(&mut telephone, &mut office.pbx, ["anonymous", OUTSIDE]);
        office.scene.at(a).headers.extend((!header.is_empty()).then(|| (*header).to_owned()));
        legs.push([a, office.scene.leg(&mut office.pbx, &mut office.outside, [DID, OUTSIDE])]);
    }
    let scene = &mut office.scene;
    legs.iter().for_each(|[a, b]| scene.ring_through(*a, *b));
    scene.wait(1_000);
    for [a, b] in &legs {
        scene.answer(*b);
        scene.answer(*a);
    }
    for [a, b] in &legs {
        scene.bridge(*a, *b, 1_000);
    }
    for [a, b] in &legs {
        scene.bye_all(&[*a, *b], Side::Caller);
    }
    let played = play(&office.scene);
    (office, played)
}

#[test]
fn a_telephone_that_hides_its_number_calls_outside() {
    let of_201 = "Remote-Party-ID: <sip:201@pbx>;party=calling;privacy=full";
    let called = "Remote-Party-ID: <sip:201@pbx>;party=called";
    for (header, from, extension) in [(of_201, "201", "201"), ("", "anonymous", ""), (called, "anonymous", "")] {
        let (_, played) = hidden_outbound(&[header]);
        assert_eq!(facts(&played), [(CallDirection::Outbound, from, extension, 2)], "{header}");
    }
}

#[test]
fn two_telephones_that_hide_their_numbers_are_two_callers() {
    let of = |user: u16| format!("Remote-Party-ID: <sip:{user}@pbx>;party=calling;privacy=full");
    for headers in [["", ""], [&of(201), &of(202)]] {
        let (office, played) = hidden_outbound(&headers);
        for record in played.calls.iter().map(|call| &call.record) {
            let of_telephones = record.legs.iter().filter(|leg| leg.callee_addr == Some(office.pbx.sip));
            assert!(of_telephones.count() <= 1, "{headers:?}: {:#?}", record.legs);
        }
    }
}

/// A provider with a private address brings a hidden caller through a border controller to a PBX with a public address.
#[test]
fn a_hidden_caller_behind_a_border_controller_calls_in() {
    let (mut provider, mut border) = (ScenePhone::new("anonymous", 1), ScenePhone::new("", 7));
    let mut pbx = ScenePhone { sip: Endpoint::v4([198, 51, 100, 9], 5060), ..ScenePhone::new(DID, 2) };
    let mut scene = office().scene;
    let a = scene.leg(&mut provider, &mut border, ["anonymous", DID]);
    let b = scene.leg(&mut border, &mut pbx, ["anonymous", DID]);
    scene.connect_through(a, b, 1_000);
    scene.bridge(a, b, 400);
    scene.bye_all(&[a, b], Side::Caller);
    assert_eq!(facts(&play(&scene)), [(CallDirection::Inbound, "anonymous", "", 2)]);
}
