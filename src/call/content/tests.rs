use super::*;
use crate::net::Endpoint;

const PCMA: WatchedVoice<'_> = WatchedVoice { pt: PayloadType(8), encoding: "PCMA" };

/// Capture time at which every test of this file begins.
const BEGIN: Timestamp = Timestamp::from_secs(1_700_000_000);

fn host(n: u8) -> Endpoint {
    Endpoint::v4([10, 0, 0, n], 4_000)
}

/// Returns a stream of the leg `leg`, sent by `sender` from one host to another.
fn stream(leg: u64, sender: Side, from: u8, to: u8) -> StreamEnds {
    StreamEnds { leg: LegId(leg), slot: LegKey::default(), sender, from: [host(from); 2], to: [host(to); 2] }
}

/// The streams that a test plays. Each has its ends, the seed of its voice, and its delay in ms.
struct Streams {
    index: ContentIndex,
    watches: Vec<(Option<StreamWatch>, u64, i64)>,
}

impl Streams {
    /// Creates streams from their ends, the seed of their voice, and their delay in ms.
    fn new(streams: &[(StreamEnds, u64, i64)]) -> Self {
        let mut index = ContentIndex::default();
        let watches =
            streams.iter().map(|(ends, seed, delay)| (index.watch(None, *ends, PCMA, BEGIN), *seed, *delay)).collect();
        Self { index, watches }
    }

    /// Plays packets of 20 ms in order of time. `voice` returns the payload for a seed and a packet number. Returns the
    /// relays that were found, i.e. the legs between which a machine passes voice on.
    fn play(&mut self, packets: i64, voice: impl Fn(u64, i64) -> Vec<u8>) -> Vec<ProvenRelay> {
        let mut order: Vec<(i64, usize, i64)> = (0..packets)
            .flat_map(|n| self.watches.iter().enumerate().map(move |(w, (_, _, delay))| (n * 20 + delay, w, n)))
            .collect();
        order.sort_unstable();
        let mut found = ContentFindings::default();
        for (ms, w, n) in order {
            let (watch, seed, _) = self.watches[w];
            let at = BEGIN.offset(ms * 1_000_000);
            if let Some(watch) = watch
                && !self.index.handle_payload(watch, &voice(seed, n), at, &mut found)
            {
                self.watches[w].0 = None;
            }
        }
        found.relays
    }
}

/// Returns a voice payload that is different for each seed and packet.
fn speech(seed: u64, packet: i64) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed << 32 | packet as u64);
    (0..160).map(|_| rng.u8(..)).collect()
}

/// Returns the four streams of two legs. A call from host 1 to host 2 passes through host 5. The second leg leaves from
/// the host `second`.
fn two_legs(second: u8) -> Vec<(StreamEnds, u64, i64)> {
    vec![
        (stream(1, Side::Caller, 1, 5), 1, 0),
        (stream(2, Side::Caller, second, 2), 1, 1),
        (stream(2, Side::Callee, 2, second), 2, 5),
        (stream(1, Side::Callee, 5, 1), 2, 7),
    ]
}

#[test]
fn both_directions_prove_a_relay_between_unknown_hosts() {
    let found = Streams::new(&two_legs(6)).play(100, speech);
    let [relay] = found.as_slice() else { panic!("one relay: {found:?}") };
    assert!(relay.is_proof && relay.blocks >= 8);
    // A relay is a pair of legs between which a machine passes voice on. It is reported in the direction of the last
    // equal block: from caller to callee, or the reverse.
    let cause_first = (LegId(1), Side::Caller, LegId(2), Side::Caller);
    let cause_second = (LegId(2), Side::Callee, LegId(1), Side::Callee);
    let shown = (relay.cause.id, relay.cause.side, relay.effect.id, relay.effect.side);
    assert!(shown == cause_first || shown == cause_second, "{relay:?}");
}

#[test]
fn one_direction_proves_a_relay_only_through_a_known_machine() {
    let one = |second: u8| Streams::new(&two_legs(second)[..2]).play(200, speech);
    assert!(one(6).is_empty(), "music on hold that leaves by two addresses looks like this");
    let found = one(5);
    assert!(matches!(found.as_slice(), [ProvenRelay { is_proof: false, .. }]), "{found:?}");
}

#[test]
fn what_leaves_or_arrives_twice_is_no_relay() {
    let play = |streams: &[(StreamEnds, u64, i64)]| Streams::new(streams).play(200, speech);
    // Music on hold does not prove that a machine passes voice from leg to leg: the same host sends the music to two
    // telephones.
    assert!(play(&[(stream(1, Side::Callee, 5, 1), 9, 0), (stream(2, Side::Callee, 5, 2), 9, 3)]).is_empty());
    // If two telephones play the same file to one host, this does not prove that the host passes voice from leg to leg.
    assert!(play(&[(stream(1, Side::Caller, 1, 5), 9, 0), (stream(2, Side::Caller, 2, 5), 9, 3)]).is_empty());
    // In a conference, the host sends the voice of one talker to two other telephones. So equal bytes do not prove that
    // two of the legs belong together.
    let fan_out = [
        (stream(1, Side::Caller, 1, 5), 1, 0),
        (stream(2, Side::Callee, 5, 2), 1, 1),
        (stream(3, Side::Callee, 5, 3), 1, 1),
    ];
    assert!(play(&fan_out).is_empty());
    // An echo test sends a voice back on the same leg. So the equal bytes prove nothing about two legs.
    assert!(play(&[(stream(1, Side::Caller, 1, 5), 1, 0), (stream(1, Side::Callee, 5, 1), 1, 20)]).is_empty());
}

#[test]
fn a_chain_through_two_machines_proves_both_relays() {
    // Host 1 is outside, 5 is a border controller, 6 the PBX, 2 a telephone. So 5 relays between legs 1 and 2, and 6
    // between legs 2 and 3.
    let chain = [
        (stream(1, Side::Caller, 1, 5), 1, 0),
        (stream(2, Side::Caller, 5, 6), 1, 1),
        (stream(3, Side::Caller, 6, 2), 1, 2),
        (stream(3, Side::Callee, 2, 6), 2, 5),
        (stream(2, Side::Callee, 6, 5), 2, 6),
        (stream(1, Side::Callee, 5, 1), 2, 7),
    ];
    let mut pairs: Vec<(u64, u64)> = Streams::new(&chain)
        .play(200, speech)
        .iter()
        .filter(|relay| relay.is_proof)
        .map(|relay| pair_key(relay.cause.id, relay.effect.id))
        .map(|(a, b)| (a.0, b.0))
        .collect();
    pairs.sort_unstable();
    assert_eq!(pairs, [(1, 2), (2, 3)]);
}

#[test]
fn a_chain_through_a_machine_with_two_addresses_proves_both_relays() {
    // Host 1 is outside, 5 and 7 are two addresses of a border controller, 6 is the PBX, 2 a telephone. So the border
    // controller relays between legs 1 and 2, and the PBX between legs 2 and 3.
    let chain = [
        (stream(1, Side::Caller, 1, 5), 1, 0),
        (stream(2, Side::Caller, 7, 6), 1, 1),
        (stream(3, Side::Caller, 6, 2), 1, 2),
        (stream(3, Side::Callee, 2, 6), 2, 5),
        (stream(2, Side::Callee, 6, 7), 2, 6),
        (stream(1, Side::Callee, 5, 1), 2, 7),
    ];
    let found = Streams::new(&chain).play(200, speech);
    let proofs = found.iter().filter(|relay| relay.is_proof).map(|relay| pair_key(relay.cause.id, relay.effect.id));
    let mut pairs: Vec<(u64, u64)> = proofs.map(|(a, b)| (a.0, b.0)).collect();
    pairs.sort_unstable();
    assert_eq!(pairs, [(1, 2), (2, 3)]);
}

#[test]
fn silence_and_tones_prove_nothing() {
    let silence = |_: u64, _: i64| vec![0xD5; 160];
    assert!(Streams::new(&two_legs(5)).play(500, silence).is_empty());
    for hz in [400.0, 425.0, 1_000.0, 440.0] {
        // The payload is a tone. Its blocks of 10 ms recur if a whole number of periods fits into one or a few blocks.
        // Each sample is one byte of a sine.
        let tone = move |_: u64, packet: i64| {
            (0..160)
                .map(|n| {
                    ((f64::from(packet as i32 * 160 + n) * hz / 8_000.0 * std::f64::consts::TAU).sin() * 100.0).round()
                        as i8 as u8
                })
                .collect()
        };
        assert!(Streams::new(&two_legs(5)).play(500, tone).is_empty(), "{hz} Hz");
    }
}

#[test]
fn a_late_copy_is_no_relay() {
    let mut streams = two_legs(5);
    streams[1].2 = 260;
    streams[3].2 = 270;
    assert!(Streams::new(&streams).play(200, speech).is_empty(), "longer than the window");
}

#[test]
fn packets_of_another_length_find_each_other() {
    let mut world = Streams::new(&two_legs(5)[..2]);
    let voice: Vec<u8> = (0..100).flat_map(|n| speech(1, n)).collect();
    let mut found = ContentFindings::default();
    let mut events: Vec<(i64, usize, &[u8])> = Vec::new();
    events.extend(voice.chunks(160).enumerate().map(|(n, p)| (n as i64 * 20, 0, p)));
    events.extend(voice.chunks(240).enumerate().map(|(n, p)| (n as i64 * 30 + 15, 1, p)));
    events.sort_by_key(|(ms, which, _)| (*ms, *which));
    for (ms, which, payload) in events {
        if let Some(watch) = world.watches[which].0 {
            let at = BEGIN.offset(ms * 1_000_000);
            if !world.index.handle_payload(watch, payload, at, &mut found) {
                world.watches[which].0 = None;
            }
        }
    }
    assert_eq!(found.relays.len(), 1, "20 ms and 30 ms: {:?}", found.relays);
}

#[test]
fn watches_and_pairs_are_bounded_and_forgotten() {
    let mut world = Streams::new(&two_legs(5));
    world.play(2_000, speech);
    assert_eq!(world.index.sizes().0, 0, "each watch has ended by its budget");
    world.index.forget_leg(LegId(1));
    world.index.forget_leg(LegId(2));
    assert_eq!(world.index.sizes(), (0, 0));
    assert!(world.index.legs.is_empty());
    for encoding in ["TELEPHONE-EVENT", "RED"] {
        let voice = WatchedVoice { pt: PayloadType(101), encoding };
        assert_eq!(world.index.watch(None, stream(1, Side::Caller, 1, 5), voice, BEGIN), None, "{encoding}");
    }
}

#[test]
fn a_silent_stream_is_watched_for_a_bounded_time() {
    let mut world = Streams::new(&two_legs(5));
    world.play(1_600, |_, _| vec![0xD5; 160]);
    assert_eq!(world.index.sizes(), (0, 0), "32 s of silence");
}

#[test]
fn a_fan_out_behind_a_chain_takes_back_its_last_link() {
    // Leg 1 leads to machine 5, leg 2 from there to machine 6. Machine 6 sends the voice on by two legs, 3 and 4, as in
    // a conference. So only the relay between legs 1 and 2 remains.
    let one_way = |leg, from, to, delay| (stream(leg, Side::Caller, from, to), 1, delay);
    let back = |leg, from, to, delay| (stream(leg, Side::Callee, from, to), 2, delay);
    let mut streams = vec![one_way(1, 1, 5, 0), one_way(2, 5, 6, 2), one_way(3, 6, 2, 4), one_way(4, 6, 9, 6)];
    streams.extend([back(3, 2, 6, 0), back(2, 6, 5, 2), back(1, 5, 1, 4)]);
    let mut played = Streams::new(&streams);
    played.play(100, speech);
    let blocks = |a, b| played.index.pairs.get(&(LegId(a), LegId(b))).map_or(0, |counts| counts.blocks[0]);
    assert_eq!(blocks(2, 3), 0, "the machine 6 sends it to two");
    assert!(blocks(1, 2) > 8, "the machine 5 relays it to one");
}
