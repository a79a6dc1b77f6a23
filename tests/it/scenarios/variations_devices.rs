//! Random calls made from a seed, which varies extensions with several devices, proxies that fork, and clusters of
//! PBXs.

use callspan::call::record::{CallDirection, CallOutcome, Side};
use fastrand::Rng;

use super::variations::{Mirror, Wanted, address, each_seed, fault, phone, play_disturbed, talk};
use super::{DID, OUTSIDE};
use crate::support::scenario::{DialogId, Scene, ScenePhone};

/// The hosts of a site that has its devices behind one proxy.
struct Edge {
    scene: Scene,
    provider: ScenePhone,
    pbx: ScenePhone,
    proxy: ScenePhone,
    legs: Vec<DialogId>,
}

impl Edge {
    fn draw(rng: &mut Rng) -> Self {
        let v6 = rng.u8(0..4) == 0;
        let pbx = if rng.bool() { address(false, 1, 10) } else { address(v6, 2, 10) };
        let wan = if pbx == address(v6, 2, 10) { v6 } else { false };
        Self {
            scene: Scene::noisy(),
            provider: phone("", address(wan, 1, 200), 0),
            pbx: phone(DID, pbx, 7),
            proxy: phone("", address(v6 && pbx != address(false, 1, 10), 2, 30), 7),
            legs: Vec::new(),
        }
    }

    /// Makes the caller's leg to the PBX. The caller is outside, or extension 201, which is behind the proxy, too.
    fn caller(&mut self, inbound: bool, outside: &str, voice: u8, port: u16) -> DialogId {
        let (from, to) = if inbound { (outside, DID) } else { ("201", "202") };
        let mut sender = if inbound { self.provider.clone() } else { self.proxy.clone() };
        (sender.voice, sender.next_port, self.pbx.next_port) = (voice, port, port);
        let leg = self.scene.leg(&mut sender, &mut self.pbx, [from, to]);
        self.legs.push(leg);
        leg
    }

    /// Makes the leg by which the PBX rings device `n` of extension 202 through the proxy.
    fn device(&mut self, from: &str, n: usize, voices: [u8; 2], port: u16) -> DialogId {
        (self.proxy.next_port, self.pbx.next_port) = (port, port);
        let leg = self.scene.leg(&mut self.pbx, &mut self.proxy, [from, "202"]);
        let dialog = self.scene.at(leg);
        dialog.voices = voices;
        dialog.request_user = format!("202-{n}");
        self.legs.push(leg);
        leg
    }
}

/// Plays calls to an extension with several devices behind one proxy, one call after the other or at the same time.
pub(super) fn several_devices(seed: u64, mirror: Mirror) -> Option<String> {
    let mut rng = Rng::with_seed(seed);
    let mut site = Edge::draw(&mut rng);
    let (mut wanted, mut end) = (Vec::new(), 0);
    for call in 0..rng.u8(1..=2) {
        let inbound = call > 0 || rng.u8(0..3) > 0;
        let outside = format!("+7999000000{call}");
        let [left, right] = [2 * call, 2 * call + 1];
        let port = 10_000 + 400 * u16::from(call);
        let a = site.caller(inbound, &outside, left, port);
        let from = if inbound { outside.as_str() } else { "201" };
        site.scene.at(a).voices = [left, right];
        let count = rng.usize(2..=4);
        let devices: Vec<DialogId> =
            (0..count).map(|n| site.device(from, n, [left, right], port + 20 + 2 * n as u16)).collect();
        let scene = &mut site.scene;
        scene.set_now(i64::from(call) * i64::from(rng.u16(0..6_000)));
        scene.invite(a);
        let begins = scene.now();
        for device in &devices {
            scene.set_now(begins + i64::from(rng.u8(0..150)));
            scene.invite(*device);
            if rng.bool() {
                scene.ring(*device);
            }
        }
        scene.set_now(begins + i64::from(rng.u16(300..3_000)));
        let (winner, answered) = (rng.usize(0..count), rng.u8(0..4) > 0);
        if answered {
            scene.answer(devices[winner]);
            scene.answer(a);
        }
        for (n, device) in devices.iter().enumerate() {
            match answered {
                true if n == winner => {}
                false if rng.bool() => scene.refuse(*device, 480, &[]),
                _ => scene.cancel(*device),
            }
        }
        if answered {
            talk(scene, &[a, devices[winner]], 2_500, if rng.bool() { Side::Caller } else { Side::Callee });
        } else {
            scene.cancel(a);
        }
        end = end.max(scene.now());
        let direction = if inbound { CallDirection::Inbound } else { CallDirection::Internal };
        let want = Wanted::answered(direction, [from, if inbound { DID } else { "202" }, "202"], [left, right]);
        wanted.push(if answered { want } else { want.unanswered(CallOutcome::Cancelled) });
    }
    site.scene.set_now(end);
    let (played, faults) = play_disturbed(&site.scene, &site.legs, &mut rng, mirror);
    fault(&played, &wanted).map(|f| format!("{faults}: {f}"))
}

#[test]
fn call_of_an_extension_on_several_devices_is_one_record() {
    each_seed("several devices", |seed| several_devices(seed, Mirror::Whole));
}

/// Plays calls to a device that a push message wakes up. It registers again and rings seconds after the other devices.
pub(super) fn woken_device(seed: u64, mirror: Mirror) -> Option<String> {
    let mut rng = Rng::with_seed(seed);
    let mut site = Edge::draw(&mut rng);
    let inbound = rng.bool();
    let from = if inbound { OUTSIDE } else { "201" };
    let a = site.caller(inbound, OUTSIDE, 0, 10_000);
    site.scene.at(a).voices = [0, 1];
    let desk = site.device(from, 0, [0, 1], 10_020);
    let mobile = site.device(from, 1, [0, 1], 10_022);
    let scene = &mut site.scene;
    scene.invite(a);
    scene.invite_and_ring(desk);
    scene.wait(i64::from(rng.u16(200..8_000)));
    scene.invite_and_ring(mobile);
    scene.wait(i64::from(rng.u16(300..3_000)));
    let [winner, other] = if rng.bool() { [desk, mobile] } else { [mobile, desk] };
    scene.answer(winner);
    scene.answer(a);
    scene.cancel(other);
    talk(scene, &[a, winner], 2_500, Side::Caller);
    let direction = if inbound { CallDirection::Inbound } else { CallDirection::Internal };
    let wanted = Wanted::answered(direction, [from, if inbound { DID } else { "202" }, "202"], [0, 1]);
    let (played, faults) = play_disturbed(&site.scene, &site.legs, &mut rng, mirror);
    fault(&played, &[wanted]).map(|f| format!("{faults}: {f}"))
}

#[test]
fn call_of_a_device_woken_late_is_one_record() {
    each_seed("woken device", |seed| woken_device(seed, Mirror::Whole));
}

/// Plays calls that a proxy forks to several devices. All legs have the same Call-ID and From tag.
pub(super) fn forking_proxy(seed: u64, mirror: Mirror) -> Option<String> {
    let mut rng = Rng::with_seed(seed);
    let v6 = rng.bool();
    let mut scene = Scene::noisy();
    let inbound = rng.bool();
    let from = if inbound { OUTSIDE } else { "201" };
    let caller = if inbound { address(v6, 1, 200) } else { address(v6, 2, 101) };
    let mut caller = phone(from, caller, 0);
    let mut proxy = phone("202", address(v6, 2, 30), 1);
    let a = scene.leg(&mut caller, &mut proxy, [from, "202"]);
    let count = rng.u8(2..=4);
    let sees_first = rng.u8(0..4) > 0;
    let mut devices = Vec::new();
    for n in 0..count {
        let mut device = phone("202", address(v6, 2, 110 + n), 1);
        let leg = scene.leg(&mut proxy, &mut device, [from, "202"]);
        let outer = scene.get(a).clone();
        let dialog = scene.at(leg);
        dialog.call_id = outer.call_id;
        dialog.tags[0].clone_from(&outer.tags[0]);
        dialog.media[0] = outer.media[0];
        dialog.voices = [0, 1];
        dialog.request_user = format!("202-{n}");
        devices.push(leg);
    }
    let winner = usize::from(rng.u8(0..count));
    let chosen = scene.get(devices[winner]).clone();
    let dialog = scene.at(a);
    (dialog.media[1], dialog.tags[1], dialog.voices) = (chosen.media[1], chosen.tags[1].clone(), [0, 1]);
    if sees_first {
        scene.invite(a);
    }
    for device in &devices {
        scene.invite(*device);
        scene.wait(i64::from(rng.u8(0..60)));
    }
    for (n, device) in devices.iter().enumerate() {
        if n != winner && rng.u8(0..3) == 0 {
            scene.refuse(*device, [480, 486][rng.usize(0..2)], &[]);
        } else {
            scene.ring(*device);
        }
    }
    scene.wait(i64::from(rng.u16(300..3_000)));
    scene.answer(devices[winner]);
    if sees_first {
        scene.answer(a);
    }
    for (n, device) in devices.iter().enumerate() {
        if n != winner && rng.bool() {
            scene.cancel(*device);
        }
    }
    scene.talk(devices[winner], 2_500);
    let mut over = vec![devices[winner]];
    over.extend(sees_first.then_some(a));
    scene.bye_all(&over, if rng.bool() { Side::Caller } else { Side::Callee });
    let direction = if inbound { CallDirection::Inbound } else { CallDirection::Internal };
    let wanted = Wanted::answered(direction, [from, "202", "202"], [0, 1]);
    let (played, faults) = play_disturbed(&scene, &over, &mut rng, mirror);
    fault(&played, &[wanted]).map(|f| format!("{faults}, first {sees_first}: {f}"))
}

#[test]
fn calls_through_forking_proxies_are_one_record_each() {
    each_seed("forking proxy", |seed| forking_proxy(seed, Mirror::Whole));
}

/// Plays calls through a cluster of two nodes. The trunk ends at one node and the telephone is registered at the other,
/// so one node forwards the call to the other.
pub(super) fn cluster(seed: u64, mirror: Mirror) -> Option<String> {
    let mut rng = Rng::with_seed(seed);
    let mut scene = Scene::noisy();
    let (mut wanted, mut legs, mut end) = (Vec::new(), Vec::new(), 0);
    let (wan_v6, lan_v6) = (rng.bool(), rng.bool());
    let sees_between = rng.bool();
    for n in 0..rng.u8(1..=2) {
        let (inbound, answered) = (rng.bool(), rng.u8(0..3) > 0);
        let (outside, user) = (format!("+7999000000{n}"), format!("20{n}"));
        let [left, right] = [2 * n, 2 * n + 1];
        let mut provider = phone("", address(wan_v6, 1, 200), 7);
        let mut telephone = phone(&user, address(lan_v6, 2, 100 + n), 7);
        let mut nodes =
            [address(wan_v6, 1, 10), address(lan_v6, 2, 12), address(lan_v6, 2, 11)].map(|sip| phone(DID, sip, 7));
        for party in nodes.iter_mut().chain([&mut provider, &mut telephone]) {
            party.next_port = 10_000 + 40 * u16::from(n);
        }
        let [trunk, inner, node] = &mut nodes;
        let mut own = if inbound {
            vec![scene.leg(&mut provider, trunk, [&outside, DID]), scene.leg(node, &mut telephone, [&outside, &user])]
        } else {
            vec![scene.leg(&mut telephone, node, [&user, &outside]), scene.leg(trunk, &mut provider, [DID, &outside])]
        };
        if sees_between {
            let between = if inbound {
                scene.leg(inner, node, [&outside, &user])
            } else {
                scene.leg(node, inner, [&user, &outside])
            };
            own.insert(1, between);
        }
        scene.set_now(i64::from(rng.u16(0..3_000)));
        for leg in &own {
            scene.at(*leg).voices = if inbound { [left, right] } else { [right, left] };
            scene.invite(*leg);
            scene.wait(i64::from(rng.u8(0..100)));
        }
        for leg in own.iter().rev() {
            scene.ring(*leg);
        }
        scene.wait(i64::from(rng.u16(200..3_000)));
        if answered {
            for leg in own.iter().rev() {
                scene.answer(*leg);
            }
            talk(&mut scene, &own, 2_500, if rng.bool() { Side::Caller } else { Side::Callee });
        } else {
            for leg in &own {
                scene.cancel(*leg);
            }
        }
        end = end.max(scene.now());
        let want = if inbound {
            Wanted::answered(CallDirection::Inbound, [&outside, DID, &user], [left, right])
        } else {
            Wanted::answered(CallDirection::Outbound, [&user, &outside, &user], [right, left])
        };
        wanted.push(if answered { want } else { want.unanswered(CallOutcome::Cancelled) });
        legs.append(&mut own);
    }
    scene.set_now(end);
    let (played, faults) = play_disturbed(&scene, &legs, &mut rng, mirror);
    fault(&played, &wanted).map(|f| format!("{faults}, between {sees_between}: {f}"))
}

#[test]
fn calls_through_clusters_of_pbxs_are_one_record_each() {
    each_seed("cluster", |seed| cluster(seed, Mirror::Whole));
}
