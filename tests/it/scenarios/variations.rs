//! Random calls made from a seed, which varies machines with several addresses, customers behind NAT, order, timing and
//! lost messages.

use callspan::call::config::Config;
use callspan::call::record::{CallDirection, CallOutcome, Side};
use callspan::net::Endpoint;
use fastrand::Rng;

use crate::support::playback::{PlayedCall, PlayedScene, play_packets, play_restarted, play_with_clock_step};
use crate::support::scenario::{DialogId, ExpectedSound, SLOT_MS, Scene, ScenePacket, ScenePhone};

/// Number of seeds for each kind of calls. The environment variable `CALLSPAN_VARIATIONS` can set another number, and
/// `CALLSPAN_SEEDS` a list of seeds.
const SEEDS: u64 = 24;
/// Seeds that failed at some time, for each kind. They are played, too.
const HARD_SEEDS: &[(&str, &[u64])] = &[
    ("attended transfer", &[62, 194, 237, 260]),
    ("crowd", &[41, 172, 259, 268, 338]),
    ("started on the PBX", &[89]),
    ("proxy with the PBX behind it", &[155]),
    ("restarted", &[89, 260]),
];
const DID: &str = "+74953009080";

/// A conversation for which there must be a record.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub direction: CallDirection,
    pub outcome: CallOutcome,
    pub from: String,
    pub to: String,
    pub internal: String,
    /// Voices of caller and callee, if the call was answered.
    pub voices: Option<[u8; 2]>,
    /// A second voice on the callee's side, after a transfer.
    pub then: Option<u8>,
}

impl Wanted {
    /// Returns the expectation of an answered call with these numbers and voices.
    pub(super) fn answered(direction: CallDirection, numbers: [&str; 3], voices: [u8; 2]) -> Self {
        let [from, to, internal] = numbers.map(str::to_owned);
        Self { direction, outcome: CallOutcome::Answered, from, to, internal, voices: Some(voices), then: None }
    }

    /// Changes the expectation to an unanswered call.
    pub(super) fn unanswered(self, outcome: CallOutcome) -> Self {
        Self { outcome, voices: None, ..self }
    }

    /// Returns the voices that must be in the left and in the right channel.
    fn sound(&self) -> [Vec<u8>; 2] {
        let Some([left, right]) = self.voices else { return [Vec::new(), Vec::new()] };
        let mut right = vec![right];
        right.extend(self.then);
        right.sort_unstable();
        [vec![left], right]
    }
}

/// Returns the voices that can be heard in one channel of a recording.
fn voices(call: &PlayedCall, channel: usize) -> Vec<u8> {
    let Some(sound) = &call.sound else { return Vec::new() };
    let sound = &sound[channel];
    let first = (sound.starts_ms as i64).div_euclid(SLOT_MS);
    let slots = (sound.samples.len() as i64).div_euclid(8 * SLOT_MS) + 2;
    let mut heard: Vec<u8> = (first..first + slots)
        .filter_map(|slot| {
            // At its edge a voice can be mistaken for a softer voice, but not at three moments in a slot.
            let middle = slot * SLOT_MS + SLOT_MS / 2;
            let heard = [-40, 0, 40].map(|ms| sound.judge(middle + ms));
            match heard[0] {
                ExpectedSound::Voice(voice) if heard.iter().all(|h| *h == heard[0]) => Some(voice),
                _ => None,
            }
        })
        .collect();
    heard.sort_unstable();
    heard.dedup();
    heard
}

/// Returns a fault of the played calls, if there is one. For each wanted conversation there must be one record with
/// both of its voices, and there must be no other record.
pub(super) fn fault(played: &PlayedScene, wanted: &[Wanted]) -> Option<String> {
    let summary: Vec<_> = played
        .calls
        .iter()
        .map(|c| {
            let r = &c.record;
            let legs: Vec<_> = r.legs.iter().map(|l| (l.sip_call_id.as_str(), l.joined_by)).collect();
            let why: Vec<_> = r.relations.iter().map(|r| r.why).collect();
            (&r.direction, &r.outcome, &r.from, &r.to, &r.internal, voices(c, 0), voices(c, 1), (legs, why))
        })
        .collect();
    if played.calls.len() != wanted.len() {
        return Some(format!("{} records, not {}: {summary:?}", played.calls.len(), wanted.len()));
    }
    if played.calls.iter().any(|c| c.record.legs.iter().skip(1).any(|leg| leg.joined_by.is_none())) {
        return Some(format!("a leg has no joined_by: {summary:?}"));
    }
    let found = |want: &Wanted| {
        played.calls.iter().any(|c| {
            let r = &c.record;
            let numbers = [&r.from, &r.to, &r.internal].map(|n| n.clone().unwrap_or_default());
            (r.direction, r.outcome) == (want.direction, want.outcome)
                && numbers == [want.from.clone(), want.to.clone(), want.internal.clone()]
                && [voices(c, 0), voices(c, 1)] == want.sound()
        })
    };
    if let Some(id) = id_without_record(played) {
        return Some(format!("{id} was told, and is neither a record nor absorbed: {summary:?}"));
    }
    let missing = wanted.iter().find(|want| !found(want))?;
    Some(format!("missing {missing:?} in {summary:?}"))
}

/// Returns the id of a live call that never got a record. Its task in Pyrus would stay open forever.
fn id_without_record(played: &PlayedScene) -> Option<&str> {
    let ids = played.announced.iter().map(|(_, live)| live.record.id.as_str());
    let is_known = |id: &&str| played.calls.iter().any(|c| c.record.id == **id);
    ids.filter(|id| !is_known(id)).find(|id| !played.absorbed.iter().any(|absorbed| absorbed == id))
}

/// Plays each seed. Fails with the number of faults and with the first faults.
#[track_caller]
pub(super) fn each_seed(kind: &str, play_seed: impl Fn(u64) -> Option<String>) {
    let variable = |name: &str| std::env::var(name).ok();
    let count = variable("CALLSPAN_VARIATIONS").and_then(|n| n.parse().ok()).unwrap_or(SEEDS);
    let of_kind = HARD_SEEDS.iter().filter(|(of, _)| *of == kind);
    let hard = of_kind.flat_map(|(_, hard)| hard.iter().copied()).filter(|seed| *seed >= count);
    let seeds: Vec<u64> = match variable("CALLSPAN_SEEDS") {
        Some(list) => list.split(',').filter_map(|seed| seed.trim().parse().ok()).collect(),
        None => (0..count).chain(hard).collect(),
    };
    let faults: Vec<String> =
        seeds.iter().filter_map(|&seed| play_seed(seed).map(|f| format!("{kind}, seed {seed}: {f}\n"))).collect();
    let first: String = faults.iter().take(30).map(String::as_str).collect();
    assert!(faults.is_empty(), "{} of {} seeds fail:\n{first}", faults.len(), seeds.len());
}

/// Removes one message of the first dialog, as if the mirror had lost it.
pub(super) fn lose(packets: &mut Vec<ScenePacket>, call_id: &str, start: &str) {
    let is_lost = |p: &ScenePacket| {
        let text = String::from_utf8_lossy(&p.payload);
        text.starts_with(start) && text.contains(&format!("Call-ID: {call_id}\r\n"))
    };
    if let Some(n) = packets.iter().position(is_lost) {
        packets.remove(n);
    }
}

pub(super) fn play_without(scene: &Scene, call_id: &str, start: Option<&str>) -> PlayedScene {
    let mut packets = scene.packets();
    if let Some(start) = start {
        lose(&mut packets, call_id, start);
    }
    play_packets(&packets, scene.now() + 60_000, Config::default())
}

/// A disturbance while the recorder captures the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mirror {
    /// No disturbance.
    Whole,
    /// The recorder is stopped and started again.
    Restarted,
    /// The wall clock is set during the capture.
    ClockStep,
    /// The telephones send REGISTER requests during the capture.
    Registers,
}

impl Mirror {
    /// Plays the packets of a scene with this disturbance.
    pub(super) fn play(self, packets: &[ScenePacket], scene: &Scene, legs: &[DialogId], rng: &mut Rng) -> PlayedScene {
        let (end, moment) = (scene.now() + 60_000, rng.i64(0..scene.now()));
        match self {
            Self::Whole => play_packets(packets, end, Config::default()),
            Self::Restarted => play_restarted(packets, moment),
            Self::ClockStep => play_with_clock_step(packets, end, (moment, rng.i64(-3_600..3_600) * 1_000_000_000)),
            Self::Registers => {
                let mut packets = packets.to_vec();
                packets.extend(registrations(scene, legs, moment));
                packets.sort_by_key(|p| p.at);
                play_packets(&packets, end, Config::default())
            }
        }
    }
}

/// Returns a REGISTER of each telephone and the 200 to it. A telephone registers at the host with which it shares a
/// leg.
fn registrations(scene: &Scene, legs: &[DialogId], moment: i64) -> Vec<ScenePacket> {
    let mut registers = Scene::new();
    registers.set_now(moment);
    for leg in legs {
        let dialog = scene.get(*leg);
        for side in [0, 1] {
            let user = &dialog.users[side];
            let is_extension = user.len() == 3 && user.bytes().all(|b| b.is_ascii_digit());
            // Other hosts, e.g. the provider's, also use the user part of the extension. These hosts are excluded.
            let is_provider = [false, true].map(|v6| address(v6, 1, 200)).contains(&dialog.sip[side]);
            let is_telephone = is_extension
                && !is_provider
                && !legs.iter().any(|other| {
                    let [from, to] = scene.get(*other).sip;
                    other != leg && (from == dialog.sip[side] || to == dialog.sip[side])
                });
            if is_telephone {
                registers.register(&phone(user, dialog.sip[side], 0), &phone("", dialog.sip[1 - side], 0));
            }
        }
    }
    registers.packets()
}

/// Plays a scene as a mirror port may show it. One message of the given legs is lost, and the messages of another leg
/// are a little late. Returns the result, and a description of the disturbances.
pub(super) fn play_disturbed(scene: &Scene, legs: &[DialogId], rng: &mut Rng, mirror: Mirror) -> (PlayedScene, String) {
    let (packets, faults) = disturbed(scene, legs, rng);
    (mirror.play(&packets, scene, legs, rng), faults)
}

/// Returns the packets that [`play_disturbed`] plays, and a description of the disturbances.
pub(super) fn disturbed(scene: &Scene, legs: &[DialogId], rng: &mut Rng) -> (Vec<ScenePacket>, String) {
    let mut packets = scene.packets();
    let lost = [None, Some("SIP/2.0 100"), Some("SIP/2.0 180"), Some("ACK"), Some("BYE")][rng.usize(0..5)];
    let lossy = scene.get(legs[rng.usize(0..legs.len())]).call_id.clone();
    if let Some(start) = lost {
        lose(&mut packets, &lossy, start);
    }
    let late = scene.get(legs[rng.usize(0..legs.len())]).call_id.clone();
    let delay_ms = if rng.bool() { i64::from(rng.u8(0..40)) } else { 0 };
    let header = format!("Call-ID: {late}\r\n");
    for packet in &mut packets {
        if String::from_utf8_lossy(&packet.payload).contains(&header) {
            packet.at = packet.at.offset(delay_ms * 1_000_000);
        }
    }
    packets.sort_by_key(|p| p.at);
    (packets, format!("lost {lost:?} of {lossy}, {late} late by {delay_ms} ms"))
}

pub(super) fn phone(user: &str, sip: Endpoint, voice: u8) -> ScenePhone {
    ScenePhone { sip, voice, ..ScenePhone::new(user, voice) }
}

/// Returns an address of a site, IPv4 or IPv6.
pub(super) fn address(v6: bool, net: u8, host: u8) -> Endpoint {
    if v6 {
        format!("[2001:db8:{net}::{host}]:5060").parse().expect("an address")
    } else if net == 1 {
        Endpoint::v4([198, 51, 100, host], 5060)
    } else {
        Endpoint::v4([10, net, 0, host], 5060)
    }
}

/// A PBX with one address towards the trunk and another towards the telephones. A session border controller may be
/// before it.
struct Site {
    scene: Scene,
    provider: ScenePhone,
    /// The machines from the trunk to the telephones. Each has an address at which it receives a call, and an address
    /// from which it sends the call on.
    hops: Vec<[ScenePhone; 2]>,
    lan_v6: bool,
}

impl Site {
    fn draw(rng: &mut Rng) -> Self {
        let (wan_v6, lan_v6) = (rng.bool(), rng.bool());
        let machine = |host: u8, v6: [bool; 2], nets: [u8; 2]| {
            [phone(DID, address(v6[0], nets[0], host), 7), phone(DID, address(v6[1], nets[1], host), 7)]
        };
        let hops = if rng.bool() {
            vec![machine(10, [wan_v6, lan_v6], [1, 2])]
        } else {
            vec![machine(10, [wan_v6, false], [1, 3]), machine(20, [false, lan_v6], [3, 2])]
        };
        let provider = phone("", address(wan_v6, 1, 200), 0);
        Self { scene: Scene::noisy(), provider, hops, lan_v6 }
    }

    /// Makes the legs of a call, in the order of their INVITEs.
    fn legs(&mut self, inbound: bool, outside: &str, telephone: &mut ScenePhone, voice: u8) -> Vec<DialogId> {
        let user = telephone.user.clone();
        self.provider.voice = voice;
        let mut legs = Vec::new();
        let last = self.hops.len();
        for n in 0..=last {
            let [mut outer, mut inner] = match n {
                0 => [self.provider.clone(), self.hops[0][0].clone()],
                n if n == last => [self.hops[n - 1][1].clone(), telephone.clone()],
                n => [self.hops[n - 1][1].clone(), self.hops[n][0].clone()],
            };
            let numbers = match (inbound, n == last) {
                (true, true) => [outside, &user],
                (true, false) => [outside, DID],
                (false, true) => [&user, outside],
                (false, false) => [DID, outside],
            };
            let (from, to) = if inbound { (&mut outer, &mut inner) } else { (&mut inner, &mut outer) };
            let port = 10_000 + 2 * u16::from(voice) + 100 * n as u16;
            from.next_port = port;
            to.next_port = port;
            let leg = self.scene.leg(from, to, numbers);
            self.scene.at(leg).voices = if inbound { [voice, telephone.voice] } else { [telephone.voice, voice] };
            legs.push(leg);
        }
        if !inbound {
            legs.reverse();
        }
        legs
    }
}

/// Plays voices on every leg of an answered call, then ends each leg by a BYE.
pub(super) fn talk(scene: &mut Scene, legs: &[DialogId], ms: i64, by: Side) {
    let both = |d: &DialogId| {
        let [a, b] = scene.get(*d).voices;
        [(a, *d, Side::Caller), (b, *d, Side::Callee)]
    };
    let speakers: Vec<_> = legs.iter().flat_map(both).collect();
    scene.sound(&speakers, ms);
    scene.bye_all(legs, by);
}

/// Plays simultaneous calls through a machine with several addresses. They are inbound or outbound, answered or not.
fn several_addresses(seed: u64) -> Option<String> {
    let mut rng = Rng::with_seed(seed);
    let mut site = Site::draw(&mut rng);
    let mut wanted = Vec::new();
    let calls = rng.u8(1..=3);
    let lost = [None, Some("SIP/2.0 100"), Some("SIP/2.0 180"), Some("ACK"), Some("BYE")][rng.usize(0..5)];
    let mut lost_in = String::new();
    let mut end = 0;
    for n in 0..calls {
        let (inbound, answered) = (rng.bool(), rng.u8(0..3) > 0);
        let (outside, user) = (format!("+7999000000{n}"), format!("20{n}"));
        let mut telephone = phone(&user, address(site.lan_v6, 2, 100 + n), 2 * n + 1);
        let legs = site.legs(inbound, &outside, &mut telephone, 2 * n);
        lost_in.clone_from(&site.scene.get(legs[0]).call_id);
        site.scene.set_now(i64::from(rng.u16(0..1_500)));
        let gap = i64::from(rng.u16(0..200));
        for leg in &legs {
            site.scene.invite(*leg);
            site.scene.wait(gap);
        }
        for leg in legs.iter().rev() {
            site.scene.ring(*leg);
        }
        site.scene.wait(i64::from(rng.u16(200..3_000)));
        if answered {
            for leg in legs.iter().rev() {
                site.scene.answer(*leg);
            }
            talk(&mut site.scene, &legs, 3_000, if rng.bool() { Side::Caller } else { Side::Callee });
        } else {
            for leg in &legs {
                site.scene.cancel(*leg);
            }
        }
        end = end.max(site.scene.now());
        let pair = if inbound { [2 * n, 2 * n + 1] } else { [2 * n + 1, 2 * n] };
        let (from, to) = if inbound { (outside, DID.to_owned()) } else { (user.clone(), outside) };
        wanted.push(Wanted {
            direction: if inbound { CallDirection::Inbound } else { CallDirection::Outbound },
            outcome: if answered { CallOutcome::Answered } else { CallOutcome::Cancelled },
            from,
            to,
            internal: user,
            voices: answered.then_some(pair),
            then: None,
        });
    }
    site.scene.set_now(end);
    fault(&play_without(&site.scene, &lost_in, lost), &wanted).map(|f| format!("lost {lost:?} of {lost_in}: {f}"))
}

#[test]
fn calls_of_machines_with_several_addresses_are_recorded_whole() {
    each_seed("several addresses", several_addresses);
}

/// Plays calls of a hosted PBX. Its customers are behind NATs and announce the same private addresses.
fn equal_private_addresses(seed: u64) -> Option<String> {
    let mut rng = Rng::with_seed(seed);
    let mut scene = Scene::noisy();
    let mut pbx = phone("500", address(false, 1, 10), 7);
    let (calls, port) = (rng.u8(2..=3), 5_004);
    let reuse = rng.bool();
    let lost = [None, Some("SIP/2.0 100"), Some("ACK"), Some("BYE")][rng.usize(0..4)];
    let (mut wanted, mut lost_in, mut end, mut start) = (Vec::new(), String::new(), 0, 0);
    for n in 0..calls {
        let user = format!("{}01", n + 2);
        let mut telephone = phone(&user, Endpoint::v4([192, 0, 2, 50 + n], 5060), n + 1);
        telephone.next_port = 30_000 + 2 * u16::from(n);
        let rings = rng.bool();
        let call = if rings {
            scene.leg(&mut pbx, &mut telephone, ["500", &user])
        } else {
            scene.leg(&mut telephone, &mut pbx, [&user, "500"])
        };
        let dialog = scene.at(call);
        dialog.announced[usize::from(rings)] = Some(Endpoint::v4([192, 168, 1, 2], port));
        // The PBX, too, has another voice in each call.
        dialog.voices[usize::from(!rings)] = n + 4;
        let voices = dialog.voices;
        if n == 0 {
            lost_in.clone_from(&dialog.call_id);
        }
        let used = if reuse { 20_000 } else { 20_000 + 2 * u16::from(n) };
        dialog.media[usize::from(!rings)] = Endpoint::v4([198, 51, 100, 10], used);
        scene.set_now(start);
        scene.connect(call);
        if rng.bool() && !reuse {
            scene.renegotiate(call, Side::Caller, "INVITE", (&["a=inactive"], &["a=inactive"]));
            scene.wait(i64::from(rng.u16(6_000..12_000)));
            scene.resume(call, Side::Caller);
        }
        scene.talk(call, 4_000);
        scene.bye(call, if rng.bool() { Side::Caller } else { Side::Callee });
        end = end.max(scene.now());
        start = if reuse { scene.now() + i64::from(rng.u16(100..9_000)) } else { i64::from(rng.u16(0..3_000)) };
        let [from, to] = if rings { ["500", &user] } else { [&user, "500"] }.map(str::to_owned);
        wanted.push((voices, from, to));
    }
    scene.set_now(end);
    let played = play_without(&scene, &lost_in, lost);
    let heard: Vec<_> = played.calls.iter().map(|c| (voices(c, 0), voices(c, 1))).collect();
    let right = played.calls.len() == wanted.len()
        && wanted.iter().all(|(v, from, to)| {
            played.calls.iter().any(|c| {
                let numbers = [c.record.from.as_deref(), c.record.to.as_deref()];
                numbers == [Some(from.as_str()), Some(to.as_str())]
                    && (voices(c, 0), voices(c, 1)) == (vec![v[0]], vec![v[1]])
            })
        });
    (!right).then(|| format!("lost {lost:?} reuse {reuse}: wanted {wanted:?}, heard {heard:?}"))
}

#[test]
fn customers_with_equal_private_addresses_stay_apart() {
    each_seed("equal private addresses", equal_private_addresses);
}
