//! Tests of codecs whose payloads show by their form that they are encrypted, or that they are not.

use callspan::call::record::{CallVerdict, ProblemKind, Side};

use crate::sound::srtp::{SrtpMasterKey, protect};
use crate::sound::srtp_form::packets_of;
use crate::support::coded::coded_payloads;
use crate::support::phones::{MirroredTraffic, RecordedCall, RtpPacket, at_ms, describe, media, record};

/// A codec with the payloads of a fixture.
#[derive(Clone, Copy)]
struct CodedVoice {
    /// Name of the file with the payloads, in `fixtures/codecs`.
    fixture: &'static str,
    /// Encoding name and clock rate, as in an rtpmap.
    rtpmap: &'static str,
    fmtp: &'static str,
    /// Duration of a packet, ms.
    ptime_ms: u32,
}

impl CodedVoice {
    fn new(fixture: &'static str, rtpmap: &'static str) -> Self {
        Self { fixture, rtpmap, fmtp: "", ptime_ms: 20 }
    }

    fn line(&self, profile: &str) -> String {
        let fmtp = if self.fmtp.is_empty() { String::new() } else { format!("\r\na=fmtp:97 {}", self.fmtp) };
        format!("{profile} 97\r\na=rtpmap:97 {}{fmtp}", self.rtpmap)
    }

    /// Sends the payloads of the fixture again and again, from 1,020 ms to 7,020 ms.
    fn talk(&self, wire: &mut MirroredTraffic, side: Side) {
        let clock_khz = if self.rtpmap.contains("16000") { 16 } else { 8 };
        let payloads = coded_payloads(self.fixture);
        for (n, payload) in (0..6_000 / self.ptime_ms).zip(payloads.iter().cycle()) {
            let (sequence, time) = (n as u16, n * self.ptime_ms * clock_khz);
            let rtp = RtpPacket { pt: 97, sequence, time, ssrc: 0x77 + side.channel() as u32, payload };
            if n % 23 != 7 && !payload.is_empty() {
                wire.rtp(at_ms(1_020.0 + f64::from(n * self.ptime_ms)), side, rtp);
            }
        }
    }

    /// Returns a call in which both sides talk. `keys` are announced, and `change` changes its packets.
    fn call(&self, keys: [&str; 2], change: impl Fn(&mut MirroredTraffic, Side)) -> RecordedCall {
        let mut wire = MirroredTraffic::default();
        let profile = if keys[0].is_empty() { "RTP/AVP" } else { "RTP/SAVP" };
        let describe = |side: Side| describe(side, &format!("{}{}", self.line(profile), keys[side.channel()]));
        wire.offer(0.0, &describe(Side::Caller));
        wire.accept(1_000.0, &describe(Side::Callee));
        for side in [Side::Caller, Side::Callee] {
            self.talk(&mut wire, side);
            change(&mut wire, side);
        }
        wire.bye(7_030.0);
        record(wire)
    }
}

/// Codecs with payloads that show whether they are encrypted.
fn codecs() -> Vec<CodedVoice> {
    let plain = [
        ("gsm", "GSM/8000"),
        ("g729", "G729/8000"),
        ("g726_24", "G726-24/8000"),
        ("g726_32", "G726-32/8000"),
        ("g726_40", "G726-40/8000"),
        ("aal2_g726_32", "AAL2-G726-32/8000"),
        ("amr", "AMR/8000"),
        ("amr_dtx", "AMR/8000"),
        ("amrwb", "AMR-WB/16000"),
        ("speex", "speex/8000"),
        ("speex_wb", "speex/16000"),
    ];
    let mut codecs: Vec<CodedVoice> =
        plain.into_iter().map(|(fixture, rtpmap)| CodedVoice::new(fixture, rtpmap)).collect();
    let octets = CodedVoice::new("amr_octets", "AMR/8000");
    codecs.push(CodedVoice { fmtp: "octet-align=1", ptime_ms: 60, ..octets });
    codecs.push(CodedVoice { fmtp: "mode=20", ..CodedVoice::new("ilbc_20", "iLBC/8000") });
    codecs.push(CodedVoice { fmtp: "mode=30", ptime_ms: 30, ..CodedVoice::new("ilbc_30", "iLBC/8000") });
    codecs
}

#[test]
fn encrypted_payloads_of_other_codecs_are_silence() {
    for codec in codecs() {
        for tag_bytes in [4, 10, 16] {
            let name = format!("{}, {tag_bytes}", codec.fixture);
            let recorded = codec.call(["", ""], |wire, side| {
                protect(wire, side, 0, |_| SrtpMasterKey::new(3).with_tag(tag_bytes));
            });
            assert_eq!(recorded.record.verdict, Some(CallVerdict::Encrypted), "{name}");
            assert!(recorded.frames.iter().all(|frame| *frame == [0, 0]), "{name}");
        }
    }
}

/// Some devices append equal bytes to each payload.
#[test]
fn plain_payloads_of_other_codecs_are_not_encrypted() {
    for codec in codecs() {
        for stray in [0, 1, 4, 10] {
            let name = format!("{}, {stray} stray bytes", codec.fixture);
            let recorded = codec.call(["", ""], |wire, side| {
                for packet in wire.packets.iter_mut().filter(|packet| packet.src == media(side)) {
                    packet.payload.extend(vec![0xA5; stray]);
                }
            });
            let verdict = recorded.record.verdict;
            assert!(stray > 1 || verdict == Some(CallVerdict::BothSides), "{name}: {verdict:?}");
            assert_ne!(verdict, Some(CallVerdict::Encrypted), "{name}");
            assert_eq!(packets_of(&recorded, ProblemKind::EncryptedPart), None, "{name}");
        }
    }
}

#[test]
fn plain_payloads_of_other_codecs_are_heard_despite_announced_keys() {
    let [key, other] = [SrtpMasterKey::new(1), SrtpMasterKey::new(2)].map(|key| key.attribute());
    for codec in codecs() {
        let recorded = codec.call([&key, &other], |_, _| {});
        assert_eq!(recorded.record.verdict, Some(CallVerdict::BothSides), "{}", codec.fixture);
        assert!(packets_of(&recorded, ProblemKind::SentUnencrypted) > Some(80), "{}", codec.fixture);
    }
}

#[test]
fn plain_voice_with_wrong_timestamps_is_not_taken_for_encrypted() {
    // Timestamps that never change, two packets with each timestamp, and those of shorter frames.
    let changes: [fn(u32) -> u32; 3] = [|_| 160, |time| time / 320 * 320, |time| time / 240 * 160];
    for (fixture, codec) in [("g729", "G729/8000"), ("ilbc_30", "iLBC/8000")] {
        for change in changes {
            let voice =
                CodedVoice { ptime_ms: if fixture == "ilbc_30" { 30 } else { 20 }, ..CodedVoice::new(fixture, codec) };
            let call = voice.call(["", ""], |wire, _| {
                for datagram in wire.packets.iter_mut().filter(|datagram| datagram.payload.first() == Some(&0x80)) {
                    let time = u32::from_be_bytes(datagram.payload[4..8].try_into().unwrap());
                    datagram.payload[4..8].copy_from_slice(&change(time).to_be_bytes());
                }
            });
            assert_ne!(call.record.verdict, Some(CallVerdict::Encrypted), "{codec}: {:?}", call.record.verdict_reason);
            assert_eq!(call.record.verdict, Some(CallVerdict::BothSides), "{codec}: {:?}", call.record.verdict_reason);
        }
    }
}
