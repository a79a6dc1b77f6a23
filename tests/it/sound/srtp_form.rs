//! Tests of calls that are encrypted although the session descriptions name no keys, or unencrypted although they name
//! keys. The form of the payloads shows it.

use callspan::call::record::{CallVerdict, ProblemKind, Side};

use crate::sound::score::PacketFate;
use crate::sound::srtp::{SrtpMasterKey, assert_heard, both, protect, savp};
use crate::support::phones::{MirroredTraffic, RecordedCall, SentDatagram, at_ms, describe, media, record};

/// Returns the number of packets of a problem; `None` if the record does not have it.
pub fn packets_of(recorded: &RecordedCall, kind: ProblemKind) -> Option<u64> {
    recorded.record.problems.iter().find(|problem| problem.kind == kind)?.packets
}

/// Encrypts the packets of a side between two times.
fn protect_between(wire: &mut MirroredTraffic, side: Side, key: SrtpMasterKey, [from_ms, to_ms]: [f64; 2]) {
    let is_inside =
        |packet: &SentDatagram| packet.src == media(side) && packet.at >= at_ms(from_ms) && packet.at < at_ms(to_ms);
    let (inside, outside) = wire.packets.drain(..).partition(is_inside);
    let mut part = MirroredTraffic::default();
    part.packets = inside;
    protect(&mut part, side, 0, |_| key);
    wire.packets = outside;
    wire.packets.extend(part.packets);
}

/// Quirk `agreed_but_plain`: both sides announce keys, and the caller sends unencrypted RTP, always or at first.
#[test]
fn unencrypted_packets_are_heard_although_srtp_was_agreed() {
    for (encrypted_from_ms, plain_packets) in [(9_000.0, 349), (5_020.0, 200)] {
        let (mut wire, mut talks) = (MirroredTraffic::default(), both());
        let keys = [SrtpMasterKey::new(1), SrtpMasterKey::new(2)];
        wire.offer(0.0, &savp(Side::Caller, &[keys[0]]));
        wire.accept(1_000.0, &savp(Side::Callee, &[keys[1]]));
        for talk in &mut talks {
            talk.run(&mut wire, (1_020.0, 8_000.0), 0.0, |_| PacketFate::default());
        }
        wire.bye(8_010.0);
        protect_between(&mut wire, Side::Caller, keys[0], [encrypted_from_ms, 9_000.0]);
        protect(&mut wire, Side::Callee, 0, |_| keys[1]);
        let recorded = record(wire);
        assert_heard(&format!("encrypted from {encrypted_from_ms}"), &recorded, &talks);
        assert_eq!(packets_of(&recorded, ProblemKind::SentUnencrypted), Some(plain_packets));
    }
}

/// The tags have 4, 10 and 16 bytes. The payload types are those of G.711, G.722 and Opus.
#[test]
fn encrypted_payloads_without_visible_keys_are_silence() {
    let formats = ["RTP/AVP 0", "RTP/AVP 8", "RTP/AVP 9", "RTP/AVP 111\r\na=rtpmap:111 opus/48000/2"];
    for (format, pt) in formats.into_iter().zip([0, 8, 9, 111]) {
        for tag_bytes in [4, 10, 16] {
            let (mut wire, mut talks) = (MirroredTraffic::default(), both());
            wire.offer(0.0, &describe(Side::Caller, format));
            wire.accept(1_000.0, &describe(Side::Callee, format));
            for talk in &mut talks {
                talk.phone.pt = pt;
                talk.run(&mut wire, (1_020.0, 6_000.0), 0.0, |n| PacketFate {
                    lost: n % 11 == 3,
                    ..PacketFate::default()
                });
            }
            wire.bye(6_010.0);
            for side in [Side::Caller, Side::Callee] {
                protect(&mut wire, side, 0, |_| SrtpMasterKey::new(3).with_tag(tag_bytes));
            }
            let recorded = record(wire);
            assert_eq!(recorded.record.verdict, Some(CallVerdict::Encrypted), "{format}, {tag_bytes}");
            let reason = recorded.record.verdict_reason.as_deref().unwrap_or_default();
            assert!(reason.contains("not in the signalling"), "{reason}");
            assert!(recorded.frames.iter().all(|frame| *frame == [0, 0]), "{format}, {tag_bytes}");
        }
    }
}

#[test]
fn payloads_that_become_encrypted_are_silence_from_the_first_on() {
    let (mut wire, mut talks) = (MirroredTraffic::answered(), both());
    for talk in &mut talks {
        talk.run(&mut wire, (1_020.0, 9_000.0), 0.0, |_| PacketFate::default());
    }
    wire.bye(9_010.0);
    protect_between(&mut wire, Side::Caller, SrtpMasterKey::new(3), [5_020.0, 9_000.0]);
    let recorded = record(wire);
    assert_eq!(recorded.record.verdict, Some(CallVerdict::BothSides));
    assert_eq!(packets_of(&recorded, ProblemKind::EncryptedPart), Some(199));
    // Sample 0 is at 1,000 ms. The last unencrypted packet of the caller ends at 5,020 ms, that is at 4,020 ms.
    let caller: Vec<i16> = recorded.frames.iter().map(|frame| frame[0]).collect();
    assert!(caller[4_000 * 8..4_010 * 8].iter().any(|sample| *sample != 0));
    assert!(caller[4_025 * 8..].iter().all(|sample| *sample == 0));
}

/// A device appends four equal bytes to each payload.
#[test]
fn bytes_behind_the_payload_are_no_encryption() {
    let (mut wire, mut talks) = (MirroredTraffic::answered(), both());
    for talk in &mut talks {
        talk.run(&mut wire, (1_020.0, 6_000.0), 0.0, |_| PacketFate::default());
    }
    wire.bye(6_010.0);
    for packet in wire.packets.iter_mut().filter(|packet| packet.src == media(Side::Caller)) {
        packet.payload.extend([0xFF; 4]);
    }
    let recorded = record(wire);
    assert_eq!(recorded.record.verdict, Some(CallVerdict::BothSides));
    assert_eq!(packets_of(&recorded, ProblemKind::EncryptedPart), None);
}
