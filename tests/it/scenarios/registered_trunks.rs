//! Tests of a PBX that registers the number of its trunk with the provider. That number is ours, but it is no person.

use std::net::IpAddr;

use callspan::call::config::Config;
use callspan::call::record::{CallDirection, Side};
use callspan::net::Endpoint;

use crate::scenarios::OUTSIDE;
use crate::support::playback::{PlayedScene, play_with};
use crate::support::scenario::{DialogId, Scene, ScenePhone};

const WAN: [u8; 4] = [198, 51, 100, 10];
const LAN: [u8; 4] = [10, 1, 0, 1];
/// Addresses of a PBX towards the provider and towards the telephones.
const HOSTS: [[[u8; 4]; 2]; 3] = [[WAN, LAN], [LAN, LAN], [WAN, WAN]];
/// Accounts that a PBX may register with its provider.
const ACCOUNTS: [&str; 4] = ["74953009900", "+74953009900", "trunk77", "100500"];

/// A PBX with the addresses `trunk`, towards the provider, and `inside`, towards the telephones.
struct Site {
    scene: Scene,
    provider: ScenePhone,
    trunk: ScenePhone,
    inside: ScenePhone,
    e202: ScenePhone,
}

fn phone(user: &str, host: [u8; 4], voice: u8) -> ScenePhone {
    ScenePhone { sip: Endpoint::v4(host, 5060), voice, ..ScenePhone::new(user, voice) }
}

impl Site {
    fn new(account: &str, [trunk, inside]: [[u8; 4]; 2]) -> Self {
        Self {
            scene: Scene::new(),
            provider: phone(OUTSIDE, [203, 0, 113, 5], 1),
            trunk: phone(account, trunk, 5),
            inside: phone(account, inside, 5),
            e202: phone("202", [10, 1, 0, 22], 2),
        }
    }

    /// The PBX registers its account with the provider.
    fn register_trunk(&mut self) {
        self.scene.register(&self.trunk, &self.provider);
    }

    /// Plays an answered call between 202 and the outside number `outside` over the trunk.
    fn call(&mut self, direction: CallDirection, outside: &str) {
        let Self { scene, provider, trunk, inside, e202 } = self;
        let account = trunk.user.clone();
        let [a, b] = match direction {
            CallDirection::Inbound => {
                [scene.leg(provider, trunk, [outside, &account]), scene.leg(inside, e202, [outside, "202"])]
            }
            _ => [scene.leg(e202, inside, ["202", outside]), scene.leg(trunk, provider, [&account, outside])],
        };
        scene.connect_through(a, b, 1_000);
        scene.bridge(a, b, 400);
        scene.bye_all(&[a, b], Side::Caller);
        scene.wait(3_000);
    }

    fn two_calls(&mut self, direction: CallDirection) {
        self.call(direction, OUTSIDE);
        self.call(direction, "+79990000002");
    }

    fn play(&self, pbx_addresses: &[[[u8; 4]; 2]]) -> PlayedScene {
        let pbx_addresses = pbx_addresses.iter().map(|list| list.map(IpAddr::from).to_vec()).collect();
        play_with(&self.scene, Config { pbx_addresses, ..Config::default() })
    }
}

/// Returns direction, extension and number of legs of each record.
fn facts(played: &PlayedScene) -> Vec<(CallDirection, &str, usize)> {
    let records = played.calls.iter().map(|call| &call.record);
    records.map(|r| (r.direction, r.internal.as_deref().unwrap_or_default(), r.legs.len())).collect()
}

/// The trunk's REGISTER comes before the calls. Those of the telephones may have come before the capture.
#[test]
fn the_registered_number_of_a_trunk_is_no_telephone() {
    for (account, hosts) in ACCOUNTS.into_iter().flat_map(|account| HOSTS.map(|hosts| (account, hosts))) {
        for direction in [CallDirection::Inbound, CallDirection::Outbound] {
            for registers_phone in [true, false] {
                let mut site = Site::new(account, hosts);
                if registers_phone {
                    site.scene.register(&site.e202, &site.inside);
                }
                site.register_trunk();
                site.two_calls(direction);
                let want = [(direction, "202", 2); 2];
                assert_eq!(
                    facts(&site.play(&[])),
                    want,
                    "{account} at {hosts:?}, telephone registers: {registers_phone}"
                );
            }
        }
    }
}

#[test]
fn the_registered_number_of_a_trunk_at_configured_addresses_is_no_telephone() {
    for direction in [CallDirection::Inbound, CallDirection::Outbound] {
        let mut site = Site::new(ACCOUNTS[0], [WAN, LAN]);
        site.scene.register(&site.e202, &site.inside);
        site.register_trunk();
        site.two_calls(direction);
        assert_eq!(facts(&site.play(&[[WAN, LAN]])), [(direction, "202", 2); 2]);
    }
}

#[test]
fn a_trunk_that_registers_after_a_call_parts_no_later_call() {
    for direction in [CallDirection::Inbound, CallDirection::Outbound] {
        let mut site = Site::new(ACCOUNTS[0], [WAN, LAN]);
        site.scene.register(&site.e202, &site.inside);
        site.call(direction, OUTSIDE);
        site.register_trunk();
        site.call(direction, "+79990000002");
        assert_eq!(facts(&site.play(&[])), [(direction, "202", 2); 2]);
    }
}

/// A voice menu answers at a PBX that has passed a call on before. The caller reaches nobody, although the called number
/// is registered.
#[test]
fn a_menu_behind_a_registered_trunk_is_no_person() {
    for pbx_addresses in [&[][..], &[[WAN, LAN]]] {
        let mut site = Site::new(ACCOUNTS[0], [WAN, LAN]);
        site.register_trunk();
        site.call(CallDirection::Inbound, OUTSIDE);
        let Site { scene, provider, trunk, .. } = &mut site;
        let menu = scene.leg(provider, trunk, ["+79990000002", ACCOUNTS[0]]);
        scene.connect(menu);
        scene.talk(menu, 400);
        scene.bye(menu, Side::Caller);
        let played = site.play(pbx_addresses);
        assert_eq!(facts(&played)[1], (CallDirection::Inbound, "", 1));
        assert_eq!(played.calls[1].record.operator_answered_at, None);
    }
}

/// Telephones with long names register with a hosted PBX, and 202 belongs to another PBX. The legs that join both PBXs
/// with the network outside are not mirrored.
struct TwoPbxs {
    site: Site,
    hosted: ScenePhone,
    alice: ScenePhone,
}

impl TwoPbxs {
    /// Two telephones register with the hosted PBX if `both`, otherwise one.
    fn new(both: bool) -> Self {
        let mut site = Site::new("", [WAN, LAN]);
        let (hosted, alice) = (phone("", [192, 0, 2, 80], 5), phone("74951110001", [10, 7, 0, 1], 3));
        site.scene.register(&alice, &hosted);
        if both {
            site.scene.register(&phone("74951110002", [10, 7, 0, 2], 4), &hosted);
        }
        Self { site, hosted, alice }
    }

    /// Adds a call between an outside number and Alice, and one between the same number and 202.
    fn legs(&mut self, direction: CallDirection) -> [DialogId; 2] {
        let Self { site: Site { scene, inside, e202, .. }, hosted, alice } = self;
        let name = alice.user.clone();
        match direction {
            CallDirection::Inbound => {
                [scene.leg(hosted, alice, [OUTSIDE, &name]), scene.leg(inside, e202, [OUTSIDE, "202"])]
            }
            _ => [scene.leg(e202, inside, ["202", OUTSIDE]), scene.leg(alice, hosted, [&name, OUTSIDE])],
        }
    }
}

/// One number calls the telephones of two PBXs at once, or is called by them.
#[test]
fn telephones_with_long_names_at_a_hosted_pbx_make_their_own_calls() {
    for (both, apart, direction) in [
        (true, 0, CallDirection::Inbound),
        (true, 0, CallDirection::Outbound),
        (false, 2_500, CallDirection::Inbound),
        (false, 2_500, CallDirection::Outbound),
    ] {
        let mut pbxs = TwoPbxs::new(both);
        let [a, b] = pbxs.legs(direction);
        let scene = &mut pbxs.site.scene;
        scene.ring_through(a, b);
        scene.wait(1_000);
        scene.answer(b);
        scene.talk(b, apart);
        scene.answer(a);
        scene.sound(&[a, b].map(|leg| (1, leg, Side::Caller)), 4_000);
        scene.bye(a, Side::Caller);
        scene.wait(3_000);
        scene.bye(b, Side::Caller);
        let played = pbxs.site.play(&[]);
        assert_eq!(played.calls.len(), 2, "{direction:?}, telephones at the hosted PBX: {both}");
    }
}

/// A softphone on the host of a PBX is registered with a hosted PBX, as another telephone is. It calls the number that
/// 202 calls at the same time.
#[test]
fn a_softphone_on_the_host_of_a_pbx_makes_its_own_call() {
    let mut pbxs = TwoPbxs::new(true);
    let mut softphone = ScenePhone { sip: Endpoint::v4(LAN, 5062), ..phone("74951110003", LAN, 3) };
    let Site { scene, inside, e202, .. } = &mut pbxs.site;
    scene.register(&softphone, &pbxs.hosted);
    let a = scene.leg(e202, inside, ["202", OUTSIDE]);
    let b = scene.leg(&mut softphone, &mut pbxs.hosted, ["74951110003", OUTSIDE]);
    scene.connect_through(a, b, 1_000);
    scene.bridge(a, b, 400);
    scene.bye_all(&[a, b], Side::Caller);
    assert_eq!(pbxs.site.play(&[]).calls.len(), 2);
}
