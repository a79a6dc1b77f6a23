//! Tests of whole calls with SRTP and keys in SDP (RFC 4568).
//!
//! The sender of these tests has its own AES counter mode, key derivation and tags according to RFC 3711. With the code
//! under test it shares only the crates for block cipher, HMAC and SHA-1.

use aes::Aes128;
use aes::cipher::{BlockEncrypt, KeyInit};
use callspan::call::config::Config;
use callspan::call::record::{CallVerdict, ProblemKind, Side};
use hmac::{Hmac, Mac};
use sha1::Sha1;

use crate::sound::restart::{ProcessEnd, go_on, hear, leave, split};
use crate::sound::score::{PacketFate, SpokenSide, score};
use crate::support::phones::{
    EngineWithSpool, MirroredTraffic, RecordedCall, SentDatagram, at_ms, describe, media, record,
};

/// A master key with its salt and parameters.
#[derive(Clone, Copy)]
pub struct SrtpMasterKey {
    master: [u8; 30],
    mki: Option<(u64, usize)>,
    tag_bytes: usize,
}

impl SrtpMasterKey {
    /// Returns a key of pseudo-random bytes. It differs for each number.
    pub fn new(number: u8) -> Self {
        let master = std::array::from_fn(|n| (n as u8).wrapping_mul(73).wrapping_add(number.wrapping_mul(151)) ^ 0x5A);
        Self { master, mki: None, tag_bytes: 10 }
    }

    pub fn with_tag(self, tag_bytes: usize) -> Self {
        Self { tag_bytes, ..self }
    }

    fn with_mki(self, value: u64, bytes: usize) -> Self {
        Self { mki: Some((value, bytes)), ..self }
    }

    fn suite(&self) -> &'static str {
        if self.tag_bytes == 4 { "AES_CM_128_HMAC_SHA1_32" } else { "AES_CM_128_HMAC_SHA1_80" }
    }

    /// Returns the key in the form of the `inline:` part of `a=crypto`.
    fn inline(&self) -> String {
        let mki = self.mki.map_or_else(String::new, |(value, bytes)| format!("|2^20|{value}:{bytes}"));
        format!("inline:{}{mki}", base64(&self.master))
    }

    /// Returns the line with this key, after the lines of an m-line.
    pub fn attribute(&self) -> String {
        format!("\r\na=crypto:1 {} {}", self.suite(), self.inline())
    }

    /// Derives a session key (RFC 3711 section 4.3.1, key derivation rate 0).
    fn derive(&self, label: u8, count: usize) -> Vec<u8> {
        let mut block = [0; 16];
        block[..14].copy_from_slice(&self.master[16..]);
        block[7] ^= label;
        key_stream(&self.master[..16], block, count)
    }
}

/// Returns the key stream of AES in counter mode (section 4.1.1). The last two bytes of the start block are the
/// counter.
fn key_stream(key: &[u8], start: [u8; 16], count: usize) -> Vec<u8> {
    let cipher = Aes128::new_from_slice(key).unwrap();
    let mut out = Vec::new();
    for n in 0..count.div_ceil(16) as u16 {
        let mut block = start;
        block[14..].copy_from_slice(&n.to_be_bytes());
        let mut block = block.into();
        cipher.encrypt_block(&mut block);
        out.extend_from_slice(&block);
    }
    out.truncate(count);
    out
}

fn base64(bytes: &[u8]) -> String {
    let letter = |n: u32| b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[n as usize & 63] as char;
    let word = |three: &[u8]| three.iter().fold(0, |word, byte| word << 8 | u32::from(*byte));
    bytes.chunks(3).flat_map(|three| [18, 12, 6, 0].map(|shift| letter(word(three) >> shift))).collect()
}

/// Encrypts an RTP packet with a header of 12 bytes (sections 3.3 and 4.2).
pub fn protected(packet: &[u8], key: &SrtpMasterKey, roll_over: u32) -> Vec<u8> {
    protected_after(12, packet, key, roll_over)
}

/// Encrypts an RTP packet except its first bytes.
fn protected_after(clear_bytes: usize, packet: &[u8], key: &SrtpMasterKey, roll_over: u32) -> Vec<u8> {
    let (mut encryption, salt) = ([0; 16], key.derive(2, 14));
    encryption[..14].copy_from_slice(&salt);
    let index: [[u8; 4]; 2] = [packet[8..12].try_into().unwrap(), roll_over.to_be_bytes()];
    for (at, byte) in index.concat().iter().chain(&packet[2..4]).enumerate() {
        encryption[4 + at] ^= byte;
    }
    let stream = key_stream(&key.derive(0, 16), encryption, packet.len() - clear_bytes);
    let mut out = packet.to_vec();
    out[clear_bytes..].iter_mut().zip(stream).for_each(|(byte, key)| *byte ^= key);
    tagged(out, key, roll_over)
}

/// Returns a packet with its authentication tag (section 4.2.1).
fn tagged(mut out: Vec<u8>, key: &SrtpMasterKey, roll_over: u32) -> Vec<u8> {
    let mut tag = <Hmac<Sha1> as KeyInit>::new_from_slice(&key.derive(1, 20)).unwrap();
    tag.update(&out);
    tag.update(&roll_over.to_be_bytes());
    let tag = tag.finalize().into_bytes();
    if let Some((value, bytes)) = key.mki {
        out.extend_from_slice(&value.to_be_bytes()[8 - bytes..]);
    }
    out.extend_from_slice(&tag[..key.tag_bytes]);
    out
}

/// Encrypts the packets of a side. `key` returns the key for a time. The rollover counter begins at `roll_over` and
/// rises at each wrap of the sequence, in the order of sending. Returns its last value.
pub fn protect(wire: &mut MirroredTraffic, side: Side, roll_over: u32, key: impl Fn(f64) -> SrtpMasterKey) -> u32 {
    protect_as(wire, side, roll_over, |packet, ms, roll_over| protected(packet, &key(ms), roll_over))
}

pub fn protect_as(
    wire: &mut MirroredTraffic,
    side: Side,
    mut roll_over: u32,
    protect: impl Fn(&[u8], f64, u32) -> Vec<u8>,
) -> u32 {
    let mut highest = None;
    for packet in wire.packets.iter_mut().filter(|p| p.src == media(side)) {
        let sequence = u16::from_be_bytes([packet.payload[2], packet.payload[3]]);
        if highest.is_some_and(|highest: u16| sequence < highest && highest - sequence > 0x8000) {
            roll_over += 1;
        }
        highest = Some(sequence);
        let ms = packet.at.nanos_since(at_ms(0.0)) as f64 / 1e6;
        packet.payload = protect(&packet.payload, ms, roll_over);
    }
    roll_over
}

pub fn savp(side: Side, keys: &[SrtpMasterKey]) -> String {
    let inline: Vec<String> = keys.iter().map(SrtpMasterKey::inline).collect();
    let crypto = format!("RTP/SAVP 0\r\na=crypto:1 {} {}", keys[0].suite(), inline.join(";"));
    describe(side, &crypto)
}

pub fn both() -> [SpokenSide; 2] {
    [SpokenSide::new(Side::Caller), SpokenSide::new(Side::Callee)]
}

/// Checks that both voices are at their positions, and that only the packets that the network lost are missing.
#[track_caller]
pub fn assert_heard(name: &str, recorded: &RecordedCall, talks: &[SpokenSide; 2]) {
    assert_eq!(recorded.record.verdict, Some(CallVerdict::BothSides), "{name}");
    for talk in talks {
        let score = score(recorded, talk, 1);
        assert!(score.offsets.len() >= 20, "{name}: {} pieces are enough", score.offsets.len());
        assert!(score.worst() <= 2.0 && score.spread() <= 2.0, "{name}, {:?}: {score:?}", talk.phone.side);
        assert!(score.missing_ms <= score.lost_ms, "{name}: missing {} of {}", score.missing_ms, score.lost_ms);
    }
    let problems: Vec<&str> = recorded.record.problems.iter().map(|p| p.kind.as_str()).collect();
    assert!(!problems.contains(&"encrypted_part"), "{name}: {problems:?}");
}

fn patient(wire: MirroredTraffic) -> RecordedCall {
    let mut stage = EngineWithSpool::new(Config { silence_s: 3_600, ..Config::default() });
    stage.play(&wire.sorted());
    stage.finish()
}

#[test]
fn srtp_survives_two_sequence_wraps_and_ten_missing_minutes() {
    let (mut wire, mut talks) = (MirroredTraffic::default(), both());
    let keys = [SrtpMasterKey::new(1), SrtpMasterKey { tag_bytes: 10, ..SrtpMasterKey::new(2) }];
    wire.offer(0.0, &savp(Side::Caller, &[keys[0]]));
    wire.accept(1_000.0, &savp(Side::Callee, &[keys[1]]));
    // The sequence numbers begin at 65,530, so they wrap after six packets. Four packets around the wrap are lost.
    // Then, several times, nothing is captured for up to 10 minutes (30,000 packets), and the numbers wrap again.
    let mut now = 1_020.0;
    for away_ms in [600_000.0, 600_000.0, 600_000.0, 400_000.0, 390_000.0] {
        for talk in &mut talks {
            talk.run(&mut wire, (now, now + 6_000.0), 0.0, |n| PacketFate {
                lost: (4..8).contains(&n),
                ..PacketFate::default()
            });
            talk.unheard(away_ms);
        }
        now += 6_000.0 + away_ms;
    }
    assert_eq!(talks[0].phone.sequence, 65_458, "of the third round");
    // The sequence numbers wrap once more. A third of the packets are lost, and others arrive twice or late.
    for talk in &mut talks {
        talk.run(&mut wire, (now, now + 4_000.0), 0.0, |n| PacketFate {
            lost: n % 3 == 1,
            late_ms: if n % 7 == 0 { 25.0 } else { 0.0 },
            twice: n % 5 == 0,
        });
    }
    wire.bye(now + 4_050.0);
    for (side, key) in [Side::Caller, Side::Callee].into_iter().zip(keys) {
        assert_eq!(protect(&mut wire, side, 0, |_| key), 3, "the roll-over count at the end");
    }
    assert_heard("wraps", &patient(wire), &talks);
}

/// The packets have a header extension of one word. A private extension may begin with the same bytes as an encrypted one
/// (RFC 9335), so the session description decides which bytes are encrypted.
#[test]
fn header_extension_is_encrypted_only_if_that_was_announced() {
    for (announcement, clear_bytes) in [("", 20), ("a=cryptex\r\n", 16)] {
        let (mut wire, mut talks) = (MirroredTraffic::default(), both());
        let keys = [SrtpMasterKey::new(1), SrtpMasterKey::new(2)];
        let describe = |side: Side| savp(side, &[keys[side.channel()]]) + announcement;
        wire.offer(0.0, &describe(Side::Caller));
        wire.accept(1_000.0, &describe(Side::Callee));
        for talk in &mut talks {
            talk.run(&mut wire, (1_020.0, 8_000.0), 0.0, |_| PacketFate::default());
        }
        wire.bye(8_010.0);
        for side in [Side::Caller, Side::Callee] {
            protect_as(&mut wire, side, 0, |packet, _, roll_over| {
                let mut packet = packet.to_vec();
                packet[0] |= 0x10;
                packet.splice(12..12, [0xC0, 0xDE, 0, 1, 0x10, 0xFF, 0, 0]);
                protected_after(clear_bytes, &packet, &keys[side.channel()], roll_over)
            });
        }
        assert_heard(&format!("announced: {announcement:?}"), &record(wire), &talks);
    }
}

#[test]
fn srtp_captured_midway_finds_its_roll_over_counter() {
    for tag_bytes in [10, 4] {
        let (mut wire, mut talks) = (MirroredTraffic::under_way(), both());
        let keys = [
            SrtpMasterKey { tag_bytes, ..SrtpMasterKey::new(3) },
            SrtpMasterKey { tag_bytes, ..SrtpMasterKey::new(4) },
        ];
        wire.offer(995.0, &savp(Side::Caller, &[keys[0]]));
        wire.accept(1_000.0, &savp(Side::Callee, &[keys[1]]));
        talks[0].phone.sequence = 40_000;
        for talk in &mut talks {
            talk.run(&mut wire, (1_020.0, 8_000.0), 0.0, |_| PacketFate::default());
        }
        wire.bye(8_010.0);
        for (side, key) in [Side::Caller, Side::Callee].into_iter().zip(keys) {
            protect(&mut wire, side, 3, |_| key);
        }
        assert_heard("joined", &record(wire), &talks);
    }
}

#[test]
fn new_srtp_keys_take_effect_when_each_side_uses_them() {
    // With a new key, a side may keep its rollover counter (RFC 3711 section 3.3.1) or begin again at 0. Both are
    // tried.
    for begins_again in [false, true] {
        let (mut wire, mut talks) = (MirroredTraffic::default(), both());
        let (old, new) =
            ([SrtpMasterKey::new(5), SrtpMasterKey::new(6)], [SrtpMasterKey::new(7), SrtpMasterKey::new(8)]);
        wire.offer(0.0, &savp(Side::Caller, &[old[0]]));
        wire.accept(1_000.0, &savp(Side::Callee, &[old[1]]));
        for talk in &mut talks {
            talk.run(&mut wire, (1_020.0, 12_000.0), 0.0, |_| PacketFate::default());
        }
        wire.offer(5_000.0, &savp(Side::Caller, &[new[0]]));
        wire.accept(5_200.0, &savp(Side::Callee, &[new[1]]));
        wire.bye(12_010.0);
        // Both sides use their new keys later than announced: the callee some time after its answer, the caller some
        // time after it has the answer.
        for (side, at_ms_, n) in [(Side::Caller, 5_430.0, 0), (Side::Callee, 5_290.0, 1)] {
            let (before, after): (Vec<SentDatagram>, Vec<SentDatagram>) =
                wire.packets.drain(..).partition(|p| p.at < at_ms(at_ms_) || p.src != media(side));
            wire.packets = before;
            let count = protect(&mut wire, side, 0, |_| old[n]);
            let mut rest = MirroredTraffic::default();
            rest.packets = after;
            protect(&mut rest, side, if begins_again { 0 } else { count }, |_| new[n]);
            wire.packets.extend(rest.packets);
        }
        assert_heard(&format!("new keys, begins again: {begins_again}"), &record(wire), &talks);
    }
}

/// Only the callee's 183 has its key. It is captured after the 200, and another branch has named a key before.
#[test]
fn srtp_key_in_a_provisional_response_counts_after_the_answer() {
    let (mut wire, mut talks) = (MirroredTraffic::default(), both());
    let keys = [SrtpMasterKey::new(1), SrtpMasterKey::new(2)];
    wire.offer(0.0, &savp(Side::Caller, &[keys[0]]));
    wire.provisional(500.0, "other", &savp(Side::Callee, &[SrtpMasterKey::new(3)]));
    wire.accept_silently(1_000.0);
    wire.provisional(1_010.0, "b", &savp(Side::Callee, &[keys[1]]));
    for talk in &mut talks {
        talk.run(&mut wire, (1_020.0, 8_000.0), 0.0, |_| PacketFate::default());
    }
    wire.bye(8_010.0);
    for (side, key) in [Side::Caller, Side::Callee].into_iter().zip(keys) {
        protect(&mut wire, side, 0, |_| key);
    }
    assert_heard("late 183", &record(wire), &talks);
}

#[test]
fn part_of_a_call_under_unseen_keys_is_named_in_the_record() {
    let (mut wire, mut talks) = (MirroredTraffic::default(), both());
    let old = [SrtpMasterKey::new(1), SrtpMasterKey::new(2)];
    let new = [SrtpMasterKey::new(3), SrtpMasterKey::new(4)];
    wire.offer(0.0, &savp(Side::Caller, &[old[0]]));
    wire.accept(1_000.0, &savp(Side::Callee, &[old[1]]));
    for talk in &mut talks {
        talk.run(&mut wire, (1_020.0, 9_000.0), 0.0, |_| PacketFate::default());
    }
    // The mirror loses the 200 with the new key of the callee. The ACK shows that the offer was accepted.
    wire.offer(5_000.0, &savp(Side::Caller, &[new[0]]));
    let lost = wire.packets.len();
    wire.accept(5_100.0, &savp(Side::Callee, &[new[1]]));
    wire.packets.remove(lost);
    wire.bye(9_010.0);
    for side in [Side::Caller, Side::Callee] {
        let n = side.channel();
        protect(&mut wire, side, 0, |ms| if ms < 5_150.0 { old[n] } else { new[n] });
    }
    let recorded = record(wire);
    assert_eq!(recorded.record.verdict, Some(CallVerdict::BothSides));
    assert_eq!(score(&recorded, &talks[0], 1).missing_ms, 0.0);
    // The callee sends with the new key for 3.85 s, i.e. 192 or 193 packets of 20 ms.
    let problem = recorded.record.problems.iter().find(|p| p.kind == ProblemKind::EncryptedPart);
    assert!(problem.is_some_and(|p| (190..195).contains(&p.packets.unwrap_or(0))), "{:?}", recorded.record.problems);
}

/// The mirror loses the 200 and the ACK. The side that sends the re-INVITE uses its new key after a while, and the other
/// side keeps its key. A call may be unencrypted before.
#[test]
fn offered_key_opens_packets_although_answer_and_ack_are_lost() {
    for by in [Side::Caller, Side::Callee] {
        for is_encrypted_before in [true, false] {
            let (mut wire, mut talks) = (MirroredTraffic::default(), both());
            let old = [SrtpMasterKey::new(1), SrtpMasterKey::new(2)];
            let new = SrtpMasterKey::new(3);
            let before = |side: Side| match is_encrypted_before {
                true => savp(side, &[old[side.channel()]]),
                false => describe(side, "RTP/AVP 0\r\n"),
            };
            wire.offer(0.0, &before(Side::Caller));
            wire.accept(1_000.0, &before(Side::Callee));
            for talk in &mut talks {
                talk.run(&mut wire, (1_020.0, 9_000.0), 0.0, |_| PacketFate::default());
            }
            wire.offer_of(by, 5_000.0, &savp(by, &[new]));
            wire.bye(9_010.0);
            for side in [Side::Caller, Side::Callee] {
                protect_as(&mut wire, side, 0, |packet, ms, roll_over| {
                    match (side == by && ms >= 5_400.0, is_encrypted_before) {
                        (true, _) => protected(packet, &new, roll_over),
                        (false, true) => protected(packet, &old[side.channel()], roll_over),
                        (false, false) => packet.to_vec(),
                    }
                });
            }
            assert_heard(&format!("by {by:?}, encrypted before: {is_encrypted_before}"), &record(wire), &talks);
        }
    }
}

#[test]
fn a_reinvite_that_is_refused_leaves_the_keys_as_they_were() {
    let (mut wire, mut talks) = (MirroredTraffic::default(), both());
    let keys = [SrtpMasterKey::new(1), SrtpMasterKey::new(2)];
    wire.offer(0.0, &savp(Side::Caller, &[keys[0]]));
    wire.accept(1_000.0, &savp(Side::Callee, &[keys[1]]));
    for talk in &mut talks {
        talk.run(&mut wire, (1_020.0, 9_000.0), 0.0, |_| PacketFate::default());
    }
    wire.offer(4_000.0, &savp(Side::Caller, &[SrtpMasterKey::new(9)]));
    wire.refuse(4_300.0, "488 Not Acceptable Here");
    wire.bye(9_010.0);
    for (side, key) in [Side::Caller, Side::Callee].into_iter().zip(keys) {
        protect(&mut wire, side, 0, |_| key);
    }
    assert_heard("refused", &record(wire), &talks);
}

#[test]
fn of_several_keys_the_mki_of_each_packet_names_the_one() {
    let (mut wire, mut talks) = (MirroredTraffic::default(), both());
    let of_caller = [SrtpMasterKey::new(1).with_mki(1, 4), SrtpMasterKey::new(2).with_mki(2, 4)];
    let of_callee = [SrtpMasterKey::new(3).with_mki(0x0102, 2)];
    wire.offer(0.0, &savp(Side::Caller, &of_caller));
    wire.accept(1_000.0, &savp(Side::Callee, &of_callee));
    for talk in &mut talks {
        talk.run(&mut wire, (1_020.0, 9_000.0), 0.0, |_| PacketFate::default());
    }
    wire.bye(9_010.0);
    // The caller changes to the second of its announced keys during the call.
    protect(&mut wire, Side::Caller, 0, |ms| of_caller[usize::from(ms >= 5_000.0)]);
    protect(&mut wire, Side::Callee, 0, |_| of_callee[0]);
    assert_heard("MKI", &record(wire), &talks);
}

#[test]
fn a_restart_after_a_wrap_keeps_the_roll_over_counter() {
    for left in [ProcessEnd::InOrder, ProcessEnd::Killed] {
        let (mut wire, mut talks) = (MirroredTraffic::default(), both());
        let keys = [SrtpMasterKey::new(1), SrtpMasterKey::new(2)];
        wire.offer(0.0, &savp(Side::Caller, &[keys[0]]));
        wire.accept(1_000.0, &savp(Side::Callee, &[keys[1]]));
        for talk in &mut talks {
            talk.run(&mut wire, (1_020.0, 8_000.0), 0.0, |_| PacketFate::default());
            // The recorder is stopped while both sides talk.
            talk.unheard(2_000.0);
            talk.run(&mut wire, (10_000.0, 17_000.0), 0.0, |_| PacketFate::default());
        }
        wire.bye(17_010.0);
        for (side, key) in [Side::Caller, Side::Callee].into_iter().zip(keys) {
            assert_eq!(protect(&mut wire, side, 0, |_| key), 1);
        }
        let (before, after) = split(&wire.sorted(), 9_000.0);
        let folder = leave(&before, left, hear);
        assert_heard(&format!("{left:?}"), &go_on(folder.path(), &after), &talks);
    }
}

#[test]
fn a_call_whose_srtp_is_not_encrypted_at_all_is_no_noise() {
    let (mut wire, mut talks) = (MirroredTraffic::default(), both());
    let keys = [SrtpMasterKey::new(1), SrtpMasterKey::new(2)];
    let line = |side: Side| savp(side, &[keys[side.channel()]]).trim_end().to_owned() + " UNENCRYPTED_SRTP\r\n";
    wire.offer(0.0, &line(Side::Caller));
    wire.accept(1_000.0, &line(Side::Callee));
    for talk in &mut talks {
        talk.run(&mut wire, (1_020.0, 5_000.0), 0.0, |_| PacketFate::default());
    }
    wire.bye(5_010.0);
    for (side, key) in [Side::Caller, Side::Callee].into_iter().zip(keys) {
        protect_as(&mut wire, side, 0, |packet, _, roll_over| tagged(packet.to_vec(), &key, roll_over));
    }
    let recorded = record(wire);
    assert_eq!(recorded.record.verdict, Some(CallVerdict::Encrypted));
    assert!(recorded.frames.iter().all(|frame| *frame == [0, 0]));
}

/// Quirk `keys_used_anyway`: the offer has RTP/AVP and keys, the answer has none. The caller encrypts with its second key
/// or, as it should, not at all.
#[test]
fn offered_key_opens_packets_although_the_answer_has_none() {
    for is_encrypted in [true, false] {
        let (mut wire, mut talks) = (MirroredTraffic::default(), both());
        let keys = [SrtpMasterKey::new(1), SrtpMasterKey::new(2)];
        let [first, second] = keys.map(|key| format!("{} {}", key.suite(), key.inline()));
        let offer = format!("RTP/AVP 0\r\na=crypto:1 {first}\r\na=crypto:2 {second}");
        wire.offer(0.0, &describe(Side::Caller, &offer));
        wire.accept(1_000.0, &describe(Side::Callee, "RTP/AVP 0"));
        for talk in &mut talks {
            talk.run(&mut wire, (1_020.0, 8_000.0), 0.0, |_| PacketFate::default());
        }
        wire.bye(8_010.0);
        if is_encrypted {
            protect(&mut wire, Side::Caller, 0, |_| keys[1]);
        }
        assert_heard(&format!("encrypted: {is_encrypted}"), &record(wire), &talks);
    }
}

/// Quirk `other_tag`: the caller's tags have another length than its suite says.
#[test]
fn tag_of_another_length_than_announced_is_accepted() {
    for [announced, sent] in [[10, 4], [4, 10]] {
        let (mut wire, mut talks) = (MirroredTraffic::default(), both());
        let keys = [SrtpMasterKey { tag_bytes: announced, ..SrtpMasterKey::new(1) }, SrtpMasterKey::new(2)];
        wire.offer(0.0, &savp(Side::Caller, &[keys[0]]));
        wire.accept(1_000.0, &savp(Side::Callee, &[keys[1]]));
        for talk in &mut talks {
            talk.run(&mut wire, (1_020.0, 8_000.0), 0.0, |_| PacketFate::default());
        }
        wire.bye(8_010.0);
        protect(&mut wire, Side::Caller, 0, |_| SrtpMasterKey { tag_bytes: sent, ..keys[0] });
        protect(&mut wire, Side::Callee, 0, |_| keys[1]);
        assert_heard(&format!("{announced} announced, {sent} sent"), &record(wire), &talks);
    }
}

#[test]
fn under_a_wrong_key_the_call_is_encrypted_and_not_noise() {
    let (mut wire, mut talks) = (MirroredTraffic::default(), both());
    wire.offer(0.0, &savp(Side::Caller, &[SrtpMasterKey::new(1)]));
    wire.accept(1_000.0, &savp(Side::Callee, &[SrtpMasterKey::new(2)]));
    for talk in &mut talks {
        talk.run(&mut wire, (1_020.0, 9_000.0), 0.0, |_| PacketFate::default());
    }
    wire.bye(9_010.0);
    for side in [Side::Caller, Side::Callee] {
        protect(&mut wire, side, 0, |_| SrtpMasterKey::new(3));
    }
    let recorded = record(wire);
    assert_eq!(recorded.record.verdict, Some(CallVerdict::Encrypted));
    assert!(recorded.frames.iter().all(|frame| *frame == [0, 0]));
}
