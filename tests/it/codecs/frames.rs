//! Tests that packets with several frames, interleaved or not, give the same sound as packets with one frame. Also tests
//! which payloads count as comfort noise.

use callspan::render::codec::SpeechDecoder;

use crate::codecs::{decoder, fixture};

/// Number of class A bits of each frame type (3GPP TS 26.101 table 2, TS 26.201 table 2). In a silence descriptor, all
/// bits are class A.
const CLASS_A: [usize; 9] = [42, 49, 55, 58, 61, 75, 65, 81, 39];
const CLASS_A_WB: [usize; 10] = [54, 64, 72, 72, 72, 72, 72, 72, 72, 40];

/// A frame of an octet-aligned packet: its entry in the table of contents, and its bytes.
type AmrFrame = (u8, Vec<u8>);

/// How frames are arranged in a packet (RFC 4867 section 4.4).
#[derive(Clone, Copy)]
struct AmrPacking {
    with_crc: bool,
    sorted: bool,
}

/// Number of bytes of a frame, indexed by the frame type.
const OCTETS: [usize; 9] = [12, 13, 15, 17, 19, 20, 26, 31, 5];
const OCTETS_WB: [usize; 10] = [17, 23, 32, 36, 40, 46, 50, 58, 60, 5];

fn frames(name: &str, octets: &[usize]) -> Vec<AmrFrame> {
    let (payloads, _) = fixture(name);
    let mut frames = Vec::new();
    for payload in &payloads {
        let entries = 1 + payload[1..].iter().take_while(|entry| **entry & 0x80 != 0).count();
        let (table, mut rest) = payload[1..].split_at(entries);
        for entry in table {
            let (frame, after) = rest.split_at(octets.get(usize::from(entry >> 3 & 15)).copied().unwrap_or(0));
            frames.push((*entry, frame.to_vec()));
            rest = after;
        }
    }
    frames
}

fn packed(frames: &[AmrFrame], class_a: &[usize], AmrPacking { with_crc, sorted }: AmrPacking) -> Vec<u8> {
    let mut out = vec![0xF0];
    let last = frames.len() - 1;
    out.extend(frames.iter().enumerate().map(|(n, (toc, _))| toc & 0x7C | u8::from(n < last) << 7));
    if with_crc {
        let filled = frames.iter().filter(|(_, octets)| !octets.is_empty());
        out.extend(filled.map(|(toc, octets)| check_sum(octets, class_a[usize::from(toc >> 3 & 15)])));
    }
    if sorted {
        let longest = frames.iter().map(|(_, octets)| octets.len()).max().unwrap_or(0);
        out.extend((0..longest).flat_map(|n| frames.iter().filter_map(move |(_, octets)| octets.get(n))));
    } else {
        out.extend(frames.iter().flat_map(|(_, octets)| octets));
    }
    out
}

/// Returns the CRC of RFC 4867 section 4.4.2. It is the remainder of the division by `1+x^2+x^3+x^4+x^8`, computed bit
/// by bit. The bits of the result are in reverse order.
fn check_sum(octets: &[u8], bits: usize) -> u8 {
    let mut rest: Vec<bool> = (0..bits + 8).map(|n| n < bits && octets[n / 8] << (n % 8) & 0x80 != 0).collect();
    for n in 0..bits {
        if rest[n] {
            for (place, coefficient) in [1, 0, 0, 0, 1, 1, 1, 0, 1].into_iter().enumerate() {
                rest[n + place] ^= coefficient == 1;
            }
        }
    }
    rest[bits..].iter().rev().fold(0, |octet, bit| octet << 1 | u8::from(*bit))
}

#[test]
fn amr_with_many_interleaved_frames_and_checksums_decodes_the_same() {
    let narrow = ("AMR", 8_000, &CLASS_A[..], &OCTETS[..]);
    let wide = ("AMR-WB", 16_000, &CLASS_A_WB[..], &OCTETS_WB[..]);
    for (name, (encoding, hz, class_a, octets)) in
        [("amr_octets", narrow), ("amr_dtx", narrow), ("amrwb_octets", wide), ("amrwb_dtx", wide)]
    {
        let frames = frames(name, octets);
        let decode = |payloads: &[Vec<u8>], fmtp: &str| {
            let (mut decoder, mut out) = (decoder(encoding, hz, fmtp), Vec::new());
            payloads.iter().for_each(|payload| decoder.decode(payload, &mut out).unwrap());
            out
        };
        let plain = AmrPacking { with_crc: false, sorted: false };
        let one: Vec<_> = frames.chunks(1).map(|some| packed(some, class_a, plain)).collect();
        let expected = decode(&one, "octet-align=1");
        assert!(expected == decode(&fixture(name).0, "octet-align=1"), "{name}: as the fixture has them");
        for many in [1, 2, 3, 12] {
            for (packing, fmtp) in [
                (plain, "octet-align=1"),
                (AmrPacking { with_crc: true, ..plain }, "crc=1"),
                (AmrPacking { sorted: true, ..plain }, "octet-align=1;robust-sorting=1"),
                (AmrPacking { with_crc: true, sorted: true }, "robust-sorting=1; crc=1"),
            ] {
                let payloads: Vec<_> = frames.chunks(many).map(|some| packed(some, class_a, packing)).collect();
                assert!(decode(&payloads, fmtp) == expected, "{name}: {many} frames a packet, {fmtp}");
            }
        }
    }
}

#[test]
fn an_amr_frame_with_a_wrong_checksum_is_concealed() {
    let frames = frames("amr_octets", &OCTETS);
    let packing = AmrPacking { with_crc: true, sorted: false };
    let mut payloads: Vec<_> = frames.chunks(1).map(|some| packed(some, &CLASS_A, packing)).collect();
    payloads[20][3] ^= 0x80; // damages a bit of class A
    let (mut decoder, mut out) = (decoder("AMR", 8_000, "crc=1"), Vec::new());
    payloads.iter().for_each(|payload| decoder.decode(payload, &mut out).unwrap());
    let expected = fixture("amr_octets").1;
    assert_eq!(out.len(), expected.len());
    assert!(out[..20 * 160] == expected[..20 * 160] && out[20 * 160..21 * 160] != expected[20 * 160..21 * 160]);
}

#[test]
fn g729_with_ten_frames_and_a_final_descriptor_decodes_the_same() {
    let (payloads, _) = fixture("g729");
    let frames: Vec<u8> = payloads.concat();
    let decode = |packets: &mut dyn Iterator<Item = &[u8]>| {
        let (mut decoder, mut out) = (decoder("G729", 8_000, ""), Vec::new());
        packets.for_each(|packet| decoder.decode(packet, &mut out).unwrap());
        out
    };
    let expected = decode(&mut frames.chunks(10));
    assert!(expected.len() >= 10 * 800);
    for many in [2, 3, 6, 10, 20] {
        assert!(decode(&mut frames.chunks(10 * many)) == expected, "{many} frames a packet");
    }
    // The packet has nine speech frames and a silence descriptor, 10 ms each.
    let with_descriptor = [&frames[..90], &[0x5A, 0x10]].concat();
    let apart: Vec<&[u8]> = frames[..90].chunks(10).chain([&[0x5A, 0x10][..]]).collect();
    let together = decode(&mut [&with_descriptor[..]].into_iter());
    assert!(together.len() == 800 && together == decode(&mut apart.into_iter()));
}

/// A payload with speech and a silence descriptor after it is speech. The descriptor alone is comfort noise.
#[test]
fn only_a_payload_without_speech_is_comfort_noise() {
    let (speech, sid) = (fixture("g729").0[0][..10].to_vec(), vec![0x00, 0x20]);
    assert_noise("G729", &mut *decoder("G729", 8_000, ""), &[(speech.clone(), false), (sid.clone(), true)]);
    let both = [speech, sid].concat();
    assert_noise("G729", &mut *decoder("G729", 8_000, ""), &[(both, false)]);
    let plain = AmrPacking { with_crc: false, sorted: false };
    let payload = |frames: &[AmrFrame]| packed(frames, &CLASS_A, plain);
    let speech = frames("amr_octets", &OCTETS).into_iter().find(|(toc, _)| toc >> 3 & 15 < 8).expect("speech");
    let sid: AmrFrame = (8 << 3 | 4, vec![0; 5]);
    let payloads = [
        (payload(&[speech.clone(), sid.clone()]), false),
        (payload(std::slice::from_ref(&sid)), true),
        (payload(&[sid, speech]), false),
    ];
    assert_noise("AMR", &mut *decoder("AMR", 8_000, "octet-align=1"), &payloads);
}

#[track_caller]
fn assert_noise(name: &str, decoder: &mut dyn SpeechDecoder, payloads: &[(Vec<u8>, bool)]) {
    for (n, (payload, is_noise)) in payloads.iter().enumerate() {
        decoder.decode(payload, &mut Vec::new()).expect("a good payload");
        assert_eq!(decoder.is_comfort_noise(), *is_noise, "{name}, payload {n}");
    }
}

/// The speakers of these fixtures pause (discontinuous transmission).
#[test]
fn pauses_of_opus_and_speex_are_comfort_noise() {
    let mut formats = vec![("opus_dtx", "OPUS", 48_000)];
    if cfg!(feature = "speex") {
        formats.push(("speex_dtx", "SPEEX", 8_000));
    }
    for (name, encoding, clock_hz) in formats {
        let mut decoder = decoder(encoding, clock_hz, "");
        let (payloads, _) = fixture(name);
        let (mut noise, mut sound) = (0, Vec::new());
        for payload in &payloads {
            decoder.decode(payload, &mut sound).expect("a good payload");
            noise += usize::from(decoder.is_comfort_noise());
        }
        assert!((1..payloads.len() / 2).contains(&noise), "{name}: {noise} of {}", payloads.len());
    }
}
