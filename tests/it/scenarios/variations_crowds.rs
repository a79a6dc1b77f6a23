//! Random crowds made from a seed: several callers ring within a moment, with equal, withheld or different numbers.

use callspan::call::record::{CallDirection, Side};
use fastrand::Rng;

use super::DID;
use super::variations::{Mirror, Wanted, address, each_seed, fault, phone, play_disturbed};
use crate::support::scenario::{DialogId, Scene, ScenePhone};

/// The machines of a site, from the trunk to the telephones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Topology {
    /// A PBX with one address.
    Pbx,
    /// A PBX with one address towards the trunk and another towards the telephones.
    TwoAddresses,
    /// A border controller before the PBX.
    Controller,
    /// A proxy that forwards the calls of both trunk and telephones. The PBX is behind the proxy.
    Proxy,
}

const TOPOLOGIES: [Topology; 4] = [Topology::Pbx, Topology::TwoAddresses, Topology::Controller, Topology::Proxy];

/// Makes the legs of an inbound call, in the order of their INVITEs.
fn legs(scene: &mut Scene, topology: Topology, numbers: [&str; 2], n: u8) -> Vec<DialogId> {
    let [caller, extension] = numbers;
    let voices = [2 * n, 2 * n + 1];
    let at = |net: u8, host: u8| ScenePhone {
        next_port: 10_000 + 100 * u16::from(n),
        ..phone("", address(false, net, host), 7)
    };
    let hops: Vec<[ScenePhone; 2]> = match topology {
        Topology::Pbx => vec![[at(2, 10), at(2, 10)]],
        Topology::TwoAddresses => vec![[at(1, 10), at(2, 10)]],
        Topology::Controller => vec![[at(1, 20), at(2, 20)], [at(2, 10), at(2, 10)]],
        Topology::Proxy => vec![[at(2, 30), at(2, 30)], [at(2, 10), at(2, 10)], [at(2, 30), at(2, 30)]],
    };
    let mut ends: Vec<ScenePhone> = vec![at(1, 200)];
    ends.extend(hops.into_iter().flatten());
    ends.push(at(2, 100 + n));
    let count = ends.len() / 2;
    let mut out: Vec<DialogId> = Vec::new();
    for (position, pair) in ends.chunks_exact_mut(2).enumerate() {
        let [from, to] = pair else { continue };
        // The PBX is the machine that calls the extension.
        let is_inner = if topology == Topology::Proxy { position >= 2 } else { position + 1 == count };
        from.next_port += 10 * position as u16;
        to.next_port += 10 * position as u16;
        let leg = scene.leg(from, to, [caller, if is_inner { extension } else { DID }]);
        scene.at(leg).voices = voices;
        // Both hops at the proxy have one dialog, and the media passes the proxy by.
        if topology == Topology::Proxy && position % 2 == 1 {
            let first = scene.get(out[position - 1]).clone();
            let media = [first.media[0], scene.get(leg).media[1]];
            for hop in [out[position - 1], leg] {
                let dialog = scene.at(hop);
                dialog.call_id.clone_from(&first.call_id);
                dialog.tags.clone_from(&first.tags);
                dialog.media = media;
            }
        }
        out.push(leg);
    }
    out
}

/// Plays two or three callers at the same time. The PBX answers each caller together with another telephone.
fn crowd(seed: u64, mirror: Mirror) -> Option<String> {
    let mut rng = Rng::with_seed(seed);
    let topology = TOPOLOGIES[rng.usize(0..TOPOLOGIES.len())];
    let mut scene = if rng.bool() { Scene::noisy() } else { Scene::new() };
    // Without a common host, a withheld number ties no leg to a call.
    let ties_by_host = matches!(topology, Topology::Pbx | Topology::Proxy);
    let kind = if ties_by_host { rng.u8(0..3) } else { [0, 2][rng.usize(0..2)] };
    let mut order = [0_u8, 1, 2];
    rng.shuffle(&mut order);
    let mut moments = Vec::new();
    let (mut wanted, mut all, mut end) = (Vec::new(), Vec::new(), 0);
    let gap = i64::from(rng.u8(0..40));
    for n in 0..rng.u8(2..=3) {
        let caller = match kind {
            0 => "+79990000000".to_owned(),
            1 => "anonymous".to_owned(),
            _ => format!("+7999000000{n}"),
        };
        let extension = format!("20{n}");
        let own = legs(&mut scene, topology, [&caller, &extension], n);
        scene.set_now(i64::from(rng.u8(0..150)));
        for leg in &own {
            scene.invite(*leg);
            scene.wait(gap);
        }
        own.iter().rev().for_each(|leg| scene.ring(*leg));
        // Answers within a fifth of a second of each other do not show which telephone serves which caller.
        let moment = 900 + 500 * i64::from(order[usize::from(n)]) + i64::from(rng.u8(0..100));
        scene.set_now(moment);
        own.iter().rev().for_each(|leg| _ = scene.answer(*leg));
        moments.push(moment);
        let dialogs: Vec<DialogId> =
            if topology == Topology::Proxy { own.iter().step_by(2).copied().collect() } else { own.clone() };
        let both = |d: &DialogId| {
            let [a, b] = scene.get(*d).voices;
            [(a, *d, Side::Caller), (b, *d, Side::Callee)]
        };
        let speakers: Vec<_> = dialogs.iter().flat_map(both).collect();
        scene.sound(&speakers, i64::from(rng.u16(4_000..7_000)));
        scene.bye_all(&own, if rng.bool() { Side::Caller } else { Side::Callee });
        end = end.max(scene.now());
        wanted.push(Wanted::answered(CallDirection::Inbound, [&caller, DID, &extension], [2 * n, 2 * n + 1]));
        all.extend(own);
    }
    scene.set_now(end);
    let (played, faults) = play_disturbed(&scene, &all, &mut rng, mirror);
    fault(&played, &wanted)
        .map(|f| format!("{topology:?}, numbers {kind}, gap {gap}, answers {moments:?}, {faults}: {f}"))
}

#[test]
fn callers_within_a_moment() {
    each_seed("crowd", |seed| crowd(seed, Mirror::Whole));
}
