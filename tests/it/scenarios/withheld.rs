//! Tests of callers who withhold their numbers, beside other callers of the same number. A border controller is before the
//! PBX.

use callspan::call::record::Side;

use crate::scenarios::{DID, OUTSIDE, call_of};
use crate::support::playback::{PlayedScene, play};
use crate::support::scenario::{DialogId, Scene, ScenePhone};

/// User part of the address of a caller who withholds the number.
const WITHHELD: &str = "anonymous";

/// A provider, a border controller, a PBX, and the calls that pass them.
struct Site {
    scene: Scene,
    provider: ScenePhone,
    controller: ScenePhone,
    pbx: ScenePhone,
    calls: Vec<[DialogId; 3]>,
}

impl Site {
    fn new() -> Self {
        Self {
            scene: Scene::new(),
            provider: ScenePhone::new("", 1),
            controller: ScenePhone::new("", 8),
            pbx: ScenePhone::new("", 9),
            calls: Vec::new(),
        }
    }

    /// Adds a call to the office's number, which rings an extension. `shown` are the caller's numbers before and behind
    /// the border controller.
    fn add(&mut self, shown: [&str; 2], extension: &str) {
        let Self { scene, provider, controller, pbx, calls } = self;
        let mut telephone = ScenePhone::new(extension, 2 + calls.len() as u8);
        calls.push([
            scene.leg(provider, controller, [shown[0], DID]),
            scene.leg(controller, pbx, [shown[1], DID]),
            scene.leg(pbx, &mut telephone, [shown[1], extension]),
        ]);
    }

    /// Rings the telephones of all calls at once.
    fn ring(&mut self) {
        let Self { scene, calls, .. } = self;
        for hop in 0..3 {
            calls.iter().for_each(|legs| scene.invite(legs[hop]));
            scene.wait(20);
        }
        scene.wait(1_000);
    }

    #[track_caller]
    fn assert_whole(&self, played: &PlayedScene) {
        assert_eq!(played.calls.len(), self.calls.len());
        for legs in &self.calls {
            let record = &call_of(played, &self.scene, legs[0]).record;
            let ids: Vec<&str> = record.legs.iter().map(|leg| leg.sip_call_id.as_str()).collect();
            let wanted: Vec<&str> = legs.iter().map(|leg| self.scene.get(*leg).call_id.as_str()).collect();
            assert_eq!(ids, wanted);
        }
    }
}

/// Nobody answers, so that no answer tells the callers apart.
#[test]
fn a_withheld_and_a_named_caller_have_their_own_records() {
    let withheld = [WITHHELD; 2];
    for callers in [[withheld, [OUTSIDE; 2]], [[OUTSIDE; 2], withheld]] {
        let mut site = Site::new();
        site.add(callers[0], "200");
        site.add(callers[1], "201");
        site.ring();
        site.calls.iter().flatten().for_each(|leg| site.scene.cancel(*leg));
        site.assert_whole(&play(&site.scene));
    }
}

/// The border controller removes the number of a caller who asks for privacy. So either caller may be behind either leg,
/// and the answers decide.
#[test]
fn a_number_that_a_border_controller_removes_is_not_guessed() {
    let mut site = Site::new();
    site.add([WITHHELD; 2], "200");
    site.add([WITHHELD; 2], "201");
    let asserted = format!("P-Asserted-Identity: <sip:{OUTSIDE}@provider.example>");
    site.scene.at(site.calls[0][0]).headers = vec![asserted, "Privacy: id".to_owned()];
    site.ring();
    for legs in &site.calls {
        legs.iter().rev().for_each(|leg| _ = site.scene.answer(*leg));
        site.scene.wait(500);
    }
    site.calls.iter().for_each(|legs| _ = site.scene.bye_all(legs, Side::Caller));
    site.assert_whole(&play(&site.scene));
}
