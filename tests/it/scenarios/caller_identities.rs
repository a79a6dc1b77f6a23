//! Tests of callers with two numbers. `From` names one number of a caller, and an identity header may name another (RFC
//! 3325).

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
