//! Tests of the roles and numbers of the hosts at the ends of the legs.

use callspan::call::leg_end::{LegEnd, LegEndRole};
use callspan::call::record::{CallRecord, Side};

use crate::scenarios::{OUTSIDE, Office, direct};
use crate::support::playback::play;

/// Returns role and number of both ends of each leg, the caller's end first.
pub(super) fn ends(record: &CallRecord) -> Vec<[(LegEndRole, Option<&str>); 2]> {
    fn end(end: &Option<LegEnd>) -> (LegEndRole, Option<&str>) {
        let end = end.as_ref().expect("each end has a role");
        (end.role, end.number.as_deref())
    }
    record.legs.iter().map(|leg| [end(&leg.caller), end(&leg.callee)]).collect()
}

pub(super) const PBX: (LegEndRole, Option<&str>) = (LegEndRole::Pbx, None);

#[test]
fn legs_through_the_pbx_end_at_provider_pbx_and_extensions() {
    let mut office = Office::new();
    let (a, b, rung) = (office.inbound(), office.rings_200(), office.rings_201());
    [a, b, rung].into_iter().for_each(|leg| office.scene.invite_and_ring(leg));
    for leg in [b, a] {
        office.scene.answer(leg);
    }
    office.scene.cancel(rung);
    office.scene.bridge_until_bye(a, b, 1_000, Side::Caller);
    let played = play(&office.scene);
    let (provider, extension) = ((LegEndRole::Outside, Some(OUTSIDE)), |n| (LegEndRole::Extension, Some(n)));
    assert_eq!(ends(&played.only().record), [[provider, PBX], [PBX, extension("200")], [PBX, extension("201")]]);
}

#[test]
fn outbound_call_ends_at_the_extension_and_the_provider() {
    let mut office = Office::new();
    let [a, b] = office.outbound();
    office.scene.connect_through(a, b, 2_000);
    office.scene.bridge_until_bye(a, b, 1_000, Side::Caller);
    let played = play(&office.scene);
    let want = [[(LegEndRole::Extension, Some("200")), PBX], [PBX, (LegEndRole::Outside, Some(OUTSIDE))]];
    assert_eq!(ends(&played.only().record), want);
}

#[test]
fn direct_call_has_no_pbx() {
    let (mut scene, call, _) = direct();
    scene.talk(call, 400);
    scene.bye(call, Side::Caller);
    let played = play(&scene);
    let want = [[(LegEndRole::Outside, Some(OUTSIDE)), (LegEndRole::Extension, Some("200"))]];
    assert_eq!(ends(&played.only().record), want);
}
