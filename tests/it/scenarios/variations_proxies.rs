//! Random calls made from a seed, through a proxy that forwards the calls of both telephones and trunk. The PBX is
//! behind the proxy.

use callspan::call::record::{CallDirection, CallOutcome, Side};
use fastrand::Rng;

use super::DID;
use super::variations::{Mirror, Wanted, address, each_seed, fault, phone, play_disturbed, talk};
use crate::support::scenario::{DialogId, Scene, ScenePhone};

/// Kind of a call through the proxy.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Inbound,
    Outbound,
    Internal,
}

/// The proxy and the PBX.
struct Hosts {
    scene: Scene,
    proxy: ScenePhone,
    pbx: ScenePhone,
    v6: bool,
}

impl Hosts {
    /// Makes the two hops of one dialog: to the proxy and from the proxy. The media bypasses the proxy.
    fn through(&mut self, ends: [&mut ScenePhone; 2], numbers: [&str; 2], voices: [u8; 2]) -> [DialogId; 2] {
        let [from, to] = ends;
        let a = self.scene.leg(from, &mut self.proxy, numbers);
        let b = self.scene.leg(&mut self.proxy, to, numbers);
        let [first, second] = [a, b].map(|leg| self.scene.get(leg).clone());
        let media = [first.media[0], second.media[1]];
        for leg in [a, b] {
            let dialog = self.scene.at(leg);
            dialog.call_id.clone_from(&first.call_id);
            dialog.tags.clone_from(&first.tags);
            (dialog.media, dialog.voices) = (media, voices);
        }
        [a, b]
    }
}

/// Call-IDs of the calls through the proxy.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CallIds {
    /// Each dialog has a Call-ID of its own.
    Unique,
    /// The telephones count their calls and have the same private address, so their calls have the same Call-ID. The
    /// PBX keeps the Call-ID.
    Counted,
}

/// Plays simultaneous calls through the proxy. The mirror may miss one hop of each dialog.
pub(super) fn through_a_proxy(seed: u64, mirror: Mirror) -> Option<String> {
    calls_through_a_proxy(seed, mirror, CallIds::Unique)
}

fn calls_through_a_proxy(seed: u64, mirror: Mirror, call_ids: CallIds) -> Option<String> {
    let mut rng = Rng::with_seed(seed);
    let v6 = rng.bool();
    let proxy = phone("", address(v6, 2, 30), 7);
    let pbx = phone(DID, address(v6, 2, 10), 7);
    let mut site = Hosts { scene: Scene::noisy(), proxy, pbx, v6 };
    let (mut wanted, mut legs, mut end) = (Vec::new(), Vec::new(), 0);
    // The mirror misses the same hops of all calls: none, one, those at the PBX's port, or all except those at the
    // PBX's port.
    let hidden = match call_ids {
        CallIds::Unique => [[2, 2], [0, 2], [1, 2], [2, 0], [2, 1], [0, 1], [1, 0]][rng.usize(0..7)],
        CallIds::Counted => [2, 2],
    };
    let rewrites = rng.bool();
    for n in 0..rng.u8(1..=3) {
        let kind = [Kind::Inbound, Kind::Outbound, Kind::Internal][rng.usize(0..3)];
        let own = begin(&mut site, kind, n, rewrites);
        if call_ids == CallIds::Counted && kind != Kind::Inbound {
            own.iter().for_each(|leg| "17@192.168.1.2".clone_into(&mut site.scene.at(*leg).call_id));
        }
        let seen: Vec<DialogId> =
            own.iter().enumerate().filter(|(i, _)| hidden[i / 2] != i % 2).map(|(_, leg)| *leg).collect();
        let scene = &mut site.scene;
        scene.set_now(i64::from(rng.u16(0..3_000)));
        let gap = i64::from(rng.u8(0..80));
        for leg in &seen {
            scene.invite(*leg);
            scene.wait(gap);
        }
        for leg in seen.iter().rev() {
            scene.ring(*leg);
        }
        scene.wait(i64::from(rng.u16(200..3_000)));
        let answered = rng.u8(0..3) > 0;
        if answered {
            for leg in seen.iter().rev() {
                scene.answer(*leg);
            }
            // The media of a dialog takes one path, whatever hops its signalling has.
            let dialogs: Vec<DialogId> =
                own.chunks(2).filter_map(|d| seen.iter().find(|s| d.contains(s))).copied().collect();
            let both = |d: &DialogId| {
                let [a, b] = scene.get(*d).voices;
                [(a, *d, Side::Caller), (b, *d, Side::Callee)]
            };
            let speakers: Vec<_> = dialogs.iter().flat_map(both).collect();
            scene.sound(&speakers, 2_500);
            scene.bye_all(&seen, if rng.bool() { Side::Caller } else { Side::Callee });
        } else {
            for leg in &seen {
                scene.cancel(*leg);
            }
        }
        end = end.max(scene.now());
        let want = wanted_call(kind, n);
        wanted.push(if answered { want } else { want.unanswered(CallOutcome::Cancelled) });
        legs.extend(seen);
    }
    site.scene.set_now(end);
    let (played, faults) = play_disturbed(&site.scene, &legs, &mut rng, mirror);
    fault(&played, &wanted).map(|f| format!("{faults}, hidden {hidden:?}, rewrites {rewrites}: {f}"))
}

/// Makes the four hops of a call, one leg for each.
fn begin(site: &mut Hosts, kind: Kind, n: u8, rewrites: bool) -> Vec<DialogId> {
    let (outside, user, other) = (format!("+7999000000{n}"), format!("20{n}"), format!("21{n}"));
    let [left, right] = [2 * n, 2 * n + 1];
    let mut provider = phone("", address(site.v6, 1, 200), 7);
    let mut telephone = phone(&user, address(site.v6, 2, 100 + n), 7);
    let mut second = phone(&other, address(site.v6, 2, 120 + n), 7);
    let mut pbx = site.pbx.clone();
    for party in [&mut provider, &mut telephone, &mut second, &mut pbx, &mut site.proxy] {
        party.next_port = 10_000 + 40 * u16::from(n);
    }
    let own = if rewrites { DID } else { user.as_str() };
    let voices = [left, right];
    let (a, b) = match kind {
        Kind::Inbound => (
            site.through([&mut provider, &mut pbx], [&outside, DID], voices),
            site.through([&mut pbx, &mut telephone], [&outside, &user], voices),
        ),
        Kind::Outbound => (
            site.through([&mut telephone, &mut pbx], [&user, &outside], voices),
            site.through([&mut pbx, &mut provider], [own, &outside], voices),
        ),
        Kind::Internal => (
            site.through([&mut telephone, &mut pbx], [&user, &other], voices),
            site.through([&mut pbx, &mut second], [&user, &other], voices),
        ),
    };
    vec![a[0], a[1], b[0], b[1]]
}

fn wanted_call(kind: Kind, n: u8) -> Wanted {
    let (outside, user, other) = (format!("+7999000000{n}"), format!("20{n}"), format!("21{n}"));
    let (direction, numbers) = match kind {
        Kind::Inbound => (CallDirection::Inbound, [&*outside, DID, &user]),
        Kind::Outbound => (CallDirection::Outbound, [&*user, &outside, &user]),
        Kind::Internal => (CallDirection::Internal, [&*user, &other, &other]),
    };
    Wanted::answered(direction, numbers, [2 * n, 2 * n + 1])
}

#[test]
fn simultaneous_calls_through_a_proxy_are_one_record_each() {
    each_seed("proxy with the PBX behind it", |seed| through_a_proxy(seed, Mirror::Whole));
}

#[test]
fn counted_call_ids_behind_a_proxy_join_no_strangers() {
    each_seed("proxy, telephones that count their calls", |seed| {
        calls_through_a_proxy(seed, Mirror::Whole, CallIds::Counted)
    });
}

/// Plays simultaneous calls to different numbers that begin on the PBX's own host, e.g. of a dialler or of
/// click-to-call.
pub(super) fn started_on_the_pbx(seed: u64, mirror: Mirror) -> Option<String> {
    let mut rng = Rng::with_seed(seed);
    let v6 = rng.bool();
    let mut scene = Scene::noisy();
    let (mut pbx, mut provider) = (phone(DID, address(v6, 1, 10), 7), phone("", address(v6, 1, 200), 7));
    let (mut wanted, mut legs, mut end) = (Vec::new(), Vec::new(), 0);
    // The dialler shows the office's number on all calls, or an account number of the provider.
    let shown = if rng.bool() { DID } else { "+74953009081" };
    let loops = rng.u8(0..3) == 0;
    for n in 0..rng.u8(2..=4) {
        let outside = format!("+7999000000{n}");
        let voices = [2 * n, 2 * n + 1];
        let mut own = vec![scene.leg(&mut pbx, &mut provider, [shown, &outside])];
        if loops {
            // The dialler is a program on the PBX's host. It calls the PBX, which calls the number.
            let mut dialler = phone(shown, pbx.sip.with_port(5_080), 7);
            dialler.next_port = 30_000 + 2 * u16::from(n);
            own.insert(0, scene.leg(&mut dialler, &mut pbx, [shown, &outside]));
        }
        scene.set_now(i64::from(rng.u16(0..2_500)));
        for leg in &own {
            scene.at(*leg).voices = voices;
            scene.invite(*leg);
        }
        if rng.bool() {
            own.iter().rev().for_each(|leg| scene.ring(*leg));
        }
        scene.wait(i64::from(rng.u16(200..4_000)));
        let answered = rng.u8(0..3) > 0;
        if answered {
            own.iter().rev().for_each(|leg| _ = scene.answer(*leg));
            talk(&mut scene, &own, 2_500, if rng.bool() { Side::Caller } else { Side::Callee });
        } else {
            own.iter().for_each(|leg| scene.cancel(*leg));
        }
        end = end.max(scene.now());
        // From the provider's leg alone it cannot be known to whom the shown number belongs.
        let direction = if loops { CallDirection::Outbound } else { CallDirection::Unknown };
        let want = Wanted::answered(direction, [shown, &outside, ""], voices);
        wanted.push(if answered { want } else { want.unanswered(CallOutcome::Cancelled) });
        legs.append(&mut own);
    }
    scene.set_now(end);
    let (played, faults) = play_disturbed(&scene, &legs, &mut rng, mirror);
    fault(&played, &wanted).map(|f| format!("{faults}, loops {loops}: {f}"))
}

#[test]
fn calls_started_on_the_pbx_are_one_record_each() {
    each_seed("started on the PBX", |seed| started_on_the_pbx(seed, Mirror::Whole));
}

/// Plays click-to-call for several extensions at the same time: the PBX calls the extension first, then the number.
pub(super) fn clicked(seed: u64, mirror: Mirror) -> Option<String> {
    let mut rng = Rng::with_seed(seed);
    let v6 = rng.bool();
    let mut scene = Scene::noisy();
    let (mut pbx, mut provider) = (phone(DID, address(v6, 2, 10), 7), phone("", address(v6, 1, 200), 7));
    let (mut wanted, mut legs, mut end) = (Vec::new(), Vec::new(), 0);
    // The PBX shows the extension a caller's number. It is the number that the PBX calls next, or the extension's own
    // number.
    let names_number = rng.u8(0..3) > 0;
    for n in 0..rng.u8(1..=3) {
        let (outside, user) = (format!("+7999000000{n}"), format!("20{n}"));
        let voices = [2 * n, 2 * n + 1];
        let mut telephone = phone(&user, address(v6, 2, 100 + n), 7);
        let shown = if names_number { &outside } else { &user };
        let a = scene.leg(&mut pbx, &mut telephone, [shown, &user]);
        let b = scene.leg(&mut pbx, &mut provider, [if rng.bool() { DID } else { &user }, &outside]);
        scene.at(a).voices = [voices[1], voices[0]];
        scene.at(b).voices = voices;
        scene.set_now(i64::from(rng.u16(0..3_000)));
        scene.invite_and_ring(a);
        scene.wait(i64::from(rng.u16(200..3_000)));
        scene.answer(a);
        scene.wait(i64::from(rng.u16(0..300)));
        scene.invite_and_ring(b);
        scene.wait(i64::from(rng.u16(200..3_000)));
        scene.answer(b);
        talk(&mut scene, &[a, b], 2_500, if rng.bool() { Side::Caller } else { Side::Callee });
        end = end.max(scene.now());
        wanted.push(Wanted::answered(CallDirection::Outbound, [&user, &outside, &user], voices));
        legs.extend([a, b]);
    }
    scene.set_now(end);
    let (played, faults) = play_disturbed(&scene, &legs, &mut rng, mirror);
    fault(&played, &wanted).map(|f| format!("{faults}, names {names_number}: {f}"))
}

#[test]
fn click_to_call_of_several_extensions_makes_one_record_each() {
    each_seed("click-to-call", |seed| clicked(seed, Mirror::Whole));
}
