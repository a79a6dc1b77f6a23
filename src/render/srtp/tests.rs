//! Tests with vectors of the RFCs and of libsrtp, and with streams as a recorder captures them.

use super::cipher::{SessionKeys, SrtpSuite};
use super::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    (0..digits.len() / 2).map(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).unwrap()).collect()
}

/// Encodes base64 without padding, as in SDP.
fn text(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits: String = bytes.iter().map(|byte| format!("{byte:08b}")).collect();
    let sextets = bits.as_bytes().chunks(6).map(|six| {
        let six = format!("{:0<6}", std::str::from_utf8(six).unwrap());
        ALPHABET[usize::from_str_radix(&six, 2).unwrap()] as char
    });
    sextets.collect()
}

/// A master key with salt, and the value and length of its MKI.
type TestMasterKey<'a> = (&'a [u8], Option<(u64, u8)>);

fn context(suite: &str, keys: &[TestMasterKey<'_>]) -> SrtpContext {
    let keys = keys.iter().map(|&(bytes, mki)| SrtpKey { inline: text(bytes), mki }).collect();
    SrtpContext { suite: suite.into(), keys, cryptex: false }
}

fn unprotected(stream: &mut SrtpStream, packet: &[u8]) -> Result<Vec<u8>, SrtpError> {
    let mut out = Vec::new();
    stream.unprotect(packet, &mut out).map(|()| out)
}

/// Returns an RTP packet with 20 bytes of payload made of its sequence number.
fn rtp(sequence: u16, ssrc: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 0];
    packet.extend(sequence.to_be_bytes());
    packet.extend([0, 0, 0, 1]);
    packet.extend(ssrc.to_be_bytes());
    packet.extend([sequence as u8; 20]);
    packet
}

const MASTER: [u8; 30] = [7; 30];
const SUITE: &str = "AES_CM_128_HMAC_SHA1_80";

fn protected(master: &[u8], packet: &[u8], rollover: u32, mki: &[u8]) -> Vec<u8> {
    let session = SessionKeys::derive(SrtpSuite::named(SUITE).unwrap(), master).unwrap();
    session.protect(packet, rollover, mki)
}

#[test]
fn keys_are_derived_as_in_rfc_3711_b_3() {
    let master = hex("E1F97A0D3E018BE0D64FA32C06DE4139 0EC675AD498AFEEBB6960B3AABE6");
    let derived = SessionKeys::derive(SrtpSuite::named(SUITE).unwrap(), &master).unwrap();
    let expected = SessionKeys::from_session_keys(
        SrtpSuite::named(SUITE).unwrap(),
        &hex("C61E7A93744F39EE10734AFE3FF7A087"),
        &hex("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4"),
        &hex("30CBBC08863D8C85D49DB34A9AE1"),
    );
    assert_eq!(derived.protect(&rtp(9, 9), 5, &[]), expected.unwrap().protect(&rtp(9, 9), 5, &[]));
}

#[test]
fn keys_of_256_bits_match_rfc_6188_section_7_2() {
    let suite = SrtpSuite::named("AES_256_CM_HMAC_SHA1_80").unwrap();
    let master = hex("F0F04914B513F2763A1B1FA130F10E29 98F6F6E43E4309D1E622A0E332B9F1B6 3B04803DE51EE7C96423AB5B78D2");
    let expected = SessionKeys::from_session_keys(
        suite,
        &hex("5BA1064E30EC51613CAD926C5A28EF73 1EC7FB397F70A960653CAF06554CD8C4"),
        &hex("FD9C32D39ED5FBB5A9DC96B30818454D1313DC05"),
        &hex("FA31791685CA444A9E07C6C64E93"),
    );
    let derived = SessionKeys::derive(suite, &master).unwrap();
    assert_eq!(derived.protect(&rtp(9, 9), 5, &[]), expected.unwrap().protect(&rtp(9, 9), 5, &[]));
}

#[test]
fn a_packet_of_libsrtp_is_opened() {
    // This is the reference packet of libsrtp's test program srtp_driver (srtp_validate).
    let master = hex("e1f97a0d3e018be0d64fa32c06de4139 0ec675ad498afeebb6960b3aabe6");
    let packet = hex("800f1234decafbadcafebabe 4e55dc4ce79978d88ca4d215949d2402 b78d6acc99ea179b8dbb");
    let mut stream = SrtpStream::new(&context(SUITE, &[(&master, None)])).unwrap();
    let plain = [hex("800f1234decafbadcafebabe"), vec![0xAB; 16]].concat();
    assert_eq!(unprotected(&mut stream, &packet), Ok(plain));
}

#[test]
fn a_gcm_packet_of_libsrtp_is_opened() {
    // This is the reference packet of libsrtp's test program srtp_driver (srtp_validate_gcm). The test includes the key
    // derivation.
    let master = hex("000102030405060708090a0b0c0d0e0f a0a1a2a3a4a5a6a7a8a9aaab");
    let packet = hex("800f1234decafbadcafebabe c5002ede04cfdd2eb91159e0880aa06e d2976826f796b201df3131a127e8a392");
    let mut stream = SrtpStream::new(&context("AEAD_AES_128_GCM", &[(&master, None)])).unwrap();
    let plain = [hex("800f1234decafbadcafebabe"), vec![0xAB; 16]].concat();
    assert_eq!(unprotected(&mut stream, &packet), Ok(plain));
}

#[test]
fn gcm_packets_of_rfc_7714_section_16_are_opened() {
    let header = hex("8040f17b8041f8d35501a0b2");
    let salt = hex("517569642070726f2071756f");
    let plain = [&header[..], b"Gallia est omnis divisa in partes tres"].concat();
    let vectors = [
        (
            "AEAD_AES_128_GCM",
            16,
            "f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b36de3adf8833899d7f27beb16a9152cf765ee4390cce",
        ),
        (
            "AEAD_AES_256_GCM",
            32,
            "32b1de78a822fe12ef9f78fa332e33aab18012389a58e2f3b50b2a0276ffae0f1ba63799b87b7aa3db36dfffd6b0f9bb7878d7a76c13",
        ),
    ];
    for (name, key_bytes, ciphertext) in vectors {
        let key: Vec<u8> = (0..key_bytes).collect();
        let session = SessionKeys::from_session_keys(SrtpSuite::named(name).unwrap(), &key, &[], &salt).unwrap();
        let packet = [header.clone(), hex(ciphertext)].concat();
        let mut out = Vec::new();
        let read = SrtpHeader::read(&packet).unwrap();
        assert_eq!(session.open(&packet, read, &[], std::iter::once(0), &mut out), Some(0), "{name}");
        assert_eq!(out, plain, "{name}");
    }
}

#[test]
fn every_suite_decrypts_its_packets_and_refuses_a_changed_bit() {
    for (name, bytes) in [
        ("AES_CM_128_HMAC_SHA1_80", 30),
        ("AES_CM_128_HMAC_SHA1_32", 30),
        ("AES_192_CM_HMAC_SHA1_80", 38),
        ("AES_256_CM_HMAC_SHA1_80", 46),
        ("AES_256_CM_HMAC_SHA1_32", 46),
        ("AES_CM_256_HMAC_SHA1_80", 46),
        ("AEAD_AES_128_GCM", 28),
        ("AEAD_AES_256_GCM", 44),
    ] {
        let master: Vec<u8> = (0..bytes).map(|i| i as u8 ^ 0x5A).collect();
        let session = SessionKeys::derive(SrtpSuite::named(name).unwrap(), &master).unwrap();
        let mut stream = SrtpStream::new(&context(name, &[(&master, None)])).unwrap();
        let packet = session.protect(&rtp(1, 1), 0, &[]);
        assert_eq!(unprotected(&mut stream, &packet), Ok(rtp(1, 1)), "{name}");
        for at in 0..packet.len() {
            let mut broken = packet.clone();
            broken[at] ^= 0x01;
            assert!(unprotected(&mut stream, &broken).is_err(), "{name}: byte {at}");
        }
    }
}

#[test]
fn stream_survives_rollovers_losses_duplicates_and_reordering() {
    let mut stream = SrtpStream::new(&context(SUITE, &[(&MASTER, None)])).unwrap();
    // The sequence has a wrap at 65536, 30,000 lost packets, a packet late by 10, a duplicate, and a late packet from
    // before a wrap.
    for index in [65_530u32, 65_535, 65_534, 65_537, 65_536, 65_533, 65_537, 95_000, 94_990, 131_071, 131_073, 131_070]
    {
        let packet = rtp(index as u16, 1);
        let protected = protected(&MASTER, &packet, index >> 16, &[]);
        assert_eq!(unprotected(&mut stream, &protected), Ok(packet), "{index}");
    }
}

#[test]
fn stream_joined_in_mid_call_finds_its_rollover_count() {
    for rollover in [1, 3, 40, 127] {
        let mut stream = SrtpStream::new(&context(SUITE, &[(&MASTER, None)])).unwrap();
        for sequence in [500, 501] {
            let protected = protected(&MASTER, &rtp(sequence, 1), rollover, &[]);
            assert_eq!(unprotected(&mut stream, &protected), Ok(rtp(sequence, 1)), "{rollover}");
        }
    }
}

#[test]
fn new_ssrc_and_restarted_sender_are_decrypted() {
    let mut stream = SrtpStream::new(&context(SUITE, &[(&MASTER, None)])).unwrap();
    for (sequence, ssrc, rollover) in [(7, 1, 2), (9, 2, 0), (8, 1, 2), (9, 1, 0), (10, 1, 0)] {
        let protected = protected(&MASTER, &rtp(sequence, ssrc), rollover, &[]);
        assert_eq!(unprotected(&mut stream, &protected), Ok(rtp(sequence, ssrc)), "{sequence} {ssrc} {rollover}");
    }
}

#[test]
fn the_mki_chooses_the_key_and_may_be_missing() {
    let other = [9; 30];
    let keys: [(&[u8], _); 2] = [(&MASTER, Some((1, 4))), (&other, Some((2, 4)))];
    let mut stream = SrtpStream::new(&context(SUITE, &keys)).unwrap();
    for (master, mki) in [(&MASTER, &[0, 0, 0, 1][..]), (&other, &[0, 0, 0, 2]), (&MASTER, &[])] {
        let protected = protected(master, &rtp(3, 1), 0, mki);
        assert_eq!(unprotected(&mut stream, &protected), Ok(rtp(3, 1)));
    }
}

#[test]
fn after_a_new_key_both_keys_open_packets() {
    let other = [9; 30];
    let mut stream = SrtpStream::new(&context(SUITE, &[(&MASTER, None)])).unwrap();
    assert!(unprotected(&mut stream, &protected(&MASTER, &rtp(1, 1), 1, &[])).is_ok());
    assert_eq!(unprotected(&mut stream, &protected(&other, &rtp(2, 1), 1, &[])), Err(SrtpError::Authentication));
    stream.rekey(&context(SUITE, &[(&other, None)]), &[]).unwrap();
    for (master, sequence, rollover) in [(&other, 2, 1), (&MASTER, 3, 1), (&other, 4, 1), (&other, 5, 0)] {
        assert!(unprotected(&mut stream, &protected(master, &rtp(sequence, 1), rollover, &[])).is_ok(), "{sequence}");
    }
}

#[test]
fn header_extension_and_contributing_sources_stay_readable() {
    let mut packet = rtp(1, 1);
    packet[0] = 0x92; // extension, two contributing sources
    packet.splice(12..12, hex("00000002 00000003 BEDE0001 10FF0000"));
    let mut stream = SrtpStream::new(&context(SUITE, &[(&MASTER, None)])).unwrap();
    let protected = protected(&MASTER, &packet, 0, &[]);
    assert_eq!(protected[..28], packet[..28]);
    assert_ne!(protected[28..48], packet[28..48]);
    assert_eq!(unprotected(&mut stream, &protected), Ok(packet));
}

#[test]
fn encrypted_header_extensions_of_rfc_9335_appendix_a_are_opened() {
    let counter = hex("e1f97a0d3e018be0d64fa32c06de4139 0ec675ad498afeebb6960b3aabe6");
    let gcm = hex("000102030405060708090a0b0c0d0e0f a0a1a2a3a4a5a6a7a8a9aaab");
    // The packets have an extension with one-byte or two-byte headers, both alone and with two CSRCs, and CSRCs alone.
    let plain = [
        "900f1235decafbadcafebabe bede000151000200",
        "900f1236decafbadcafebabe 1000000105020002",
        "920f1238decafbadcafebabe 0001e2400000b26e bede000151000200",
        "920f1239decafbadcafebabe 0001e2400000b26e 1000000105020002",
        "920f123adecafbadcafebabe 0001e2400000b26e bede0000",
        "920f123bdecafbadcafebabe 0001e2400000b26e 10000000",
    ];
    let protected = [
        (
            SUITE,
            &counter,
            [
                "900f1235decafbadcafebabec0de0001eb92365251c3e036f8de27e9c27ee3e0b4651d9fbc4218a70244522f34a5",
                "900f1236decafbadcafebabec2de00014ed9cc4e6a712b3096c5ca77339d4204ce0d77396cab69585fbce38194a5",
                "920f1238decafbadcafebabe8bb6e12b5cff16ddc0de000192838c8c09e58393e1de3a9a74734d6745671338c3acf11da2df8423bee0",
                "920f1239decafbadcafebabef70e513eb90b9b25c2de0001bbed4848faa644665f3d7f34125914e9f4d0ae923c6f479b95a0f7b53133",
                "920f123adecafbadcafebabe7130b6abfe2ab0e3c0de0000e3d9f64b25c9e74cb4cf8e43fb92e3781c2c0ceab6b3a499a14c",
                "920f123bdecafbadcafebabecbf24c124330e1c8c2de0000599dd45bc9d687b603e8b59d771fd38e88b170e0cd31e125eabe",
            ],
        ),
        (
            "AEAD_AES_128_GCM",
            &gcm,
            [
                "900f1235decafbadcafebabec0de000139972dc9572c4d99e8fc355de743fb2e94f9d8ff54e72f4193bbc5c74ffab0fa9fa0fbeb",
                "900f1236decafbadcafebabec2de0001bb75a4c545cd1f413bdb7daa2b1e3263de313667c963249081b35a65f5cb6c88b394235f",
                "920f1238decafbadcafebabe63bbccc4a7f695c4c0de00018ad7c71fac70a80c92866b4c6ba98546ef913586e95ffaaffe956885bb0647a8\
             bc094ac8",
                "920f1239decafbadcafebabe3680524f8d312b00c2de0001c78d120038422bc111a7187a18246f980c059cc6bc9df8b626394eca344e4b05\
             d80fea83",
                "920f123adecafbadcafebabe15b6bb4337906fffc0de0000b7b964537a2b03ab7ba5389ce93317126b5d974df30c6884dcb651c5e120c1da",
                "920f123bdecafbadcafebabedcb38c9e48bf95f4c2de000061ee432cf920317076613258d3ce4236c06ac429681ad08413512dc98b5207d8",
            ],
        ),
    ];
    for (suite, master, packets) in protected {
        for (packet, plain) in packets.iter().zip(plain) {
            let announced = SrtpContext { cryptex: true, ..context(suite, &[(master, None)]) };
            let mut stream = SrtpStream::new(&announced).unwrap();
            let expected = [hex(plain), vec![0xAB; 16]].concat();
            assert_eq!(unprotected(&mut stream, &hex(packet)), Ok(expected), "{suite}, {plain}");
        }
    }
}

/// A device has a private header extension, which begins with the same bytes as Cryptex.
#[test]
fn private_extension_that_looks_like_cryptex_is_not_decrypted() {
    let gcm = [5; 28];
    for (suite, master, cryptex) in
        [(SUITE, &MASTER[..], false), ("AEAD_AES_128_GCM", &gcm, false), ("AEAD_AES_128_GCM", &gcm, true)]
    {
        let mut packet = rtp(1, 1);
        packet[0] = 0x90;
        packet.splice(12..12, hex("C0DE0001 10FF0000"));
        let session = SessionKeys::derive(SrtpSuite::named(suite).unwrap(), master).unwrap();
        let protected = session.protect(&packet, 0, &[]);
        let announced = SrtpContext { cryptex, ..context(suite, &[(master, None)]) };
        let mut stream = SrtpStream::new(&announced).unwrap();
        assert_eq!(unprotected(&mut stream, &protected), Ok(packet), "{suite}, announced: {cryptex}");
    }
}

#[test]
fn bad_contexts_are_told_apart() {
    let new = |suite: &str, keys: &[TestMasterKey<'_>]| SrtpStream::new(&context(suite, keys)).err();
    assert_eq!(new("F8_128_HMAC_SHA1_80", &[(&MASTER, None)]), Some(BadSrtpContext::Suite));
    assert_eq!(new(SUITE, &[(&MASTER[..29], None)]), Some(BadSrtpContext::Key));
    assert_eq!(new(SUITE, &[]), Some(BadSrtpContext::NoKey));
    assert_eq!(new(SUITE, &[(&MASTER, Some((1, 129)))]), Some(BadSrtpContext::Key));
    let inline = SrtpKey { inline: "not base64!".into(), mki: None };
    assert_eq!(
        SrtpStream::new(&SrtpContext { suite: SUITE.into(), keys: vec![inline], cryptex: false }).err(),
        Some(BadSrtpContext::Key)
    );
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_refused_without_a_panic(packet: Vec<u8>, mki: bool, gcm: bool) {
        let (suite, master) = if gcm { ("AEAD_AES_128_GCM", &MASTER[..28]) } else { (SUITE, &MASTER[..]) };
        let mki = mki.then_some((1, 16));
        let mut stream = SrtpStream::new(&context(suite, &[(master, mki)])).unwrap();
        proptest::prop_assert!(stream.unprotect(&packet, &mut Vec::new()).is_err());
    }
}
