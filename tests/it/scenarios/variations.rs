//! Calls drawn by seed: machines with several addresses, customers behind NAT, order, timing and lost messages.

use callspan::call::config::Config;
use callspan::call::record::{CallDirection, CallOutcome, Side};
use callspan::net::Endpoint;
use fastrand::Rng;

use crate::support::playback::{PlayedCall, PlayedScene, play_packets};
use crate::support::scenario::{ExpectedSound, SLOT_MS, Scene, ScenePacket, ScenePhone};

/// Seeds that are played of each kind.
const SEEDS: u64 = 48;

/// A conversation that must come out.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub direction: CallDirection,
    pub outcome: CallOutcome,
    pub from: String,
    pub to: String,
    pub internal: String,
    /// Voices of caller and callee, if it was answered.
    pub voices: Option<[u8; 2]>,
}

/// The voices of one channel.
fn voices(call: &PlayedCall, channel: usize) -> Vec<u8> {
    let Some(sound) = &call.sound else { return Vec::new() };
    let sound = &sound[channel];
    let first = (sound.starts_ms as i64).div_euclid(SLOT_MS);
    let slots = (sound.samples.len() as i64).div_euclid(8 * SLOT_MS) + 2;
    let mut heard: Vec<u8> = (first..first + slots)
        .filter_map(|slot| {
            // The edge of a stretch of sound looks like a softer voice, but not at three moments.
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

/// Finds a fault of what was played: each wanted conversation is one record, and has both of its voices and no other.
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
        return Some(format!("{} records, not {}: {summary:#?}", played.calls.len(), wanted.len()));
    }
    if played.calls.iter().any(|c| c.record.legs.iter().skip(1).any(|leg| leg.joined_by.is_none())) {
        return Some(format!("a leg has no joined_by: {summary:#?}"));
    }
    let found = |want: &Wanted| {
        played.calls.iter().any(|c| {
            let r = &c.record;
            let sound = want.voices.map_or([Vec::new(), Vec::new()], |[a, b]| [vec![a], vec![b]]);
            let numbers = [&r.from, &r.to, &r.internal].map(|n| n.clone().unwrap_or_default());
            (r.direction, r.outcome) == (want.direction, want.outcome)
                && numbers == [want.from.clone(), want.to.clone(), want.internal.clone()]
                && [voices(c, 0), voices(c, 1)] == sound
        })
    };
    let missing = wanted.iter().find(|want| !found(want))?;
    Some(format!("missing {missing:#?} in {summary:#?}"))
}

/// Plays each seed and shows the first faults, with their number.
#[track_caller]
pub(super) fn each_seed(kind: &str, play_seed: impl Fn(u64) -> Option<String>) {
    let faults: Vec<String> =
        (0..SEEDS).filter_map(|seed| play_seed(seed).map(|f| format!("{kind}, seed {seed}: {f}"))).collect();
    let first: Vec<&String> = faults.iter().take(30).collect();
    assert!(faults.is_empty(), "{} of {SEEDS} seeds fail:\n{first:#?}", faults.len());
}

/// One message of the first dialog that is not mirrored.
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

pub(super) fn phone(user: &str, sip: Endpoint, voice: u8) -> ScenePhone {
    ScenePhone { sip, voice, ..ScenePhone::new(user, voice) }
}

/// An address of a site in the drawn family.
fn address(v6: bool, net: u8, host: u8) -> Endpoint {
    if v6 {
        format!("[2001:db8:{net}::{host}]:5060").parse().expect("an address")
    } else if net == 1 {
        Endpoint::v4([198, 51, 100, host], 5060)
    } else {
        Endpoint::v4([10, net, 0, host], 5060)
    }
}

/// A hosted PBX; customers behind NAT announce equal private addresses.
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
        // Each call has a voice of its own at the PBX too.
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
fn customers_with_equal_private_addresses() {
    each_seed("equal private addresses", equal_private_addresses);
}
