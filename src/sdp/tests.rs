use proptest::prelude::*;

use super::*;
use std::net::IpAddr;

use crate::net::PayloadType;

const UNTIDY: &[u8] = include_bytes!("../../fixtures/sdp/untidy.sdp");
const MEDIA_LEVEL: &[u8] = include_bytes!("../../fixtures/sdp/media_level.sdp");
const CRYPTO: &[u8] = include_bytes!("../../fixtures/sdp/crypto.sdp");

fn ip(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

#[test]
fn an_untidy_description_of_a_device_is_parsed() {
    let session = parse(UNTIDY).unwrap();
    let [audio] = session.media.as_slice() else { panic!("one m= line") };
    assert_eq!(audio.connection, ip("192.0.2.1"));
    assert_eq!((audio.kind, audio.port, audio.protocol), (MediaKind::Audio, 4000, MediaProtocol::RtpAvp));
    assert_eq!(audio.direction, MediaDirection::SendOnly);
    assert_eq!(audio.ptime_ms, Some(20));
    assert_eq!(audio.formats.iter().map(|f| f.pt.0).collect::<Vec<_>>(), [0, 8, 18]);
    let pcma = audio.format(PayloadType(8)).unwrap();
    assert_eq!((pcma.encoding.as_str(), pcma.clock_hz, pcma.channels), ("PCMA", 8000, 1));
    // A static payload type may have no rtpmap: RFC 3551 defines its format. Its fmtp parameters are kept.
    let g729 = audio.format(PayloadType(18)).unwrap();
    assert_eq!((g729.encoding.as_str(), g729.clock_hz, g729.fmtp.as_str()), ("", 0, "annexb=no"));
}

#[test]
fn media_level_values_override_session_level_values() {
    let session = parse(MEDIA_LEVEL).unwrap();
    let [audio, video, fax, broken, bare] = session.media.as_slice() else { panic!("five m= lines") };
    assert_eq!(audio.connection, ip("2001:db8::1"));
    assert_eq!(audio.direction, MediaDirection::Inactive);
    assert_eq!(audio.protocol, MediaProtocol::UdpTlsRtpSavpf);
    assert!(audio.fingerprint && !audio.zrtp);
    let opus = audio.format(PayloadType(111)).unwrap();
    assert_eq!((opus.encoding.as_str(), opus.clock_hz, opus.channels), ("OPUS", 48_000, 2));
    assert_eq!(opus.fmtp, "useinbandfec=1;minptime=10");
    // A dynamic payload type without an rtpmap is undefined, so its encoding name is empty.
    assert_eq!(audio.format(PayloadType(96)).unwrap().encoding, "");
    // Candidates over TCP or with a host name are ignored.
    assert_eq!(
        audio.candidates,
        [IceCandidate { component: 1, ip: ip("192.0.2.9").unwrap(), port: 5100, related: None }]
    );

    assert_eq!(video.port, 0);
    assert_eq!((video.connection, video.direction), (ip("192.0.2.1"), MediaDirection::SendOnly));
    assert_eq!((fax.kind, fax.protocol, fax.formats.len()), (MediaKind::Image, MediaProtocol::Udptl, 0));
    // An unreadable m= line keeps its position, because the m= lines of offer and answer are matched by position.
    assert_eq!(broken.port, 0);
    assert_eq!((bare.port, bare.formats.len()), (7000, 0));
}

#[test]
fn keys_are_parsed_and_hidden_in_debug_output() {
    let session = parse(CRYPTO).unwrap();
    let audio = &session.media[0];
    assert!(audio.connection == ip("0.0.0.0") && audio.zrtp);
    assert_eq!(audio.crypto.len(), 2);
    let first = &audio.crypto[0];
    assert_eq!((first.tag, first.suite.as_str()), (1, "AES_CM_128_HMAC_SHA1_80"));
    assert_eq!(first.keys[0].lifetime.as_deref(), Some("2^20"));
    assert_eq!(first.keys[0].mki, Some(Mki { value: 1, length_bytes: 32 }));
    let second = &audio.crypto[1];
    assert_eq!(second.suite, "AES_CM_128_HMAC_SHA1_32");
    assert_eq!(second.keys.iter().map(|k| k.inline.as_str()).collect::<Vec<_>>(), ["AAAA", "BBBB"]);
    assert_eq!(
        (second.keys[0].mki, second.keys[0].lifetime.as_deref()),
        (Some(Mki { value: 2, length_bytes: 4 }), None)
    );
    assert_eq!(second.params, ["KDR=1", "UNENCRYPTED_SRTCP"]);
    let shown = format!("{session:?}");
    assert!(!shown.contains("d0Rmdm") && !shown.contains("AAAA") && shown.contains("[hidden]"));
}

#[test]
fn all_kinds_of_line_ends_are_equivalent() {
    let whole = parse(MEDIA_LEVEL).unwrap();
    let text = String::from_utf8(MEDIA_LEVEL.to_vec()).unwrap();
    for end in ["\n", "\r", "\r\r\n", "  \r\n\r\n"] {
        assert_eq!(parse(text.replace("\r\n", end).as_bytes()).unwrap(), whole, "{end:?}");
    }
}

#[test]
fn other_texts_are_rejected() {
    for bytes in [b"".as_slice(), b"hello", b"Signal=5\r\nDuration=160\r\n", b"<xml a=\"b\"/>"] {
        assert_eq!(parse(bytes), Err(SdpReject::NotSdp));
    }
    assert_eq!(parse(&[b'v'; MAX_SDP_BYTES + 1]), Err(SdpReject::TooLong));
    assert_eq!(parse("a\n".repeat(MAX_LINES + 1).as_bytes()), Err(SdpReject::TooLong));
    // A description without a v= line is accepted, too.
    assert_eq!(parse(b"m=audio 1 RTP/AVP 0").unwrap().media.len(), 1);
}

#[test]
fn lists_are_bounded() {
    let mut text = String::from("v=0\r\n");
    text.push_str(&"m=audio 5000 RTP/AVP 0\r\n".repeat(1_000));
    // Only the first 64 m= lines (`MAX_MEDIA`) are kept.
    assert_eq!(parse(text.as_bytes()).unwrap().media.len(), 64);
    let mut text = String::from("v=0\r\nm=audio 5000 RTP/AVP 0\r\n");
    text.extend((0..1_000).map(|i| format!("a=candidate:1 1 udp 1 192.0.2.1 {i} typ host\r\n")));
    let media = parse(text.as_bytes()).unwrap().media.remove(0);
    assert_eq!(media.candidates.len(), 64);
}

proptest! {
    #[test]
    fn any_bytes_may_come(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn any_lines_may_come(text in "(([vocmabts]=[a-zA-Z0-9 :/|;.-]{0,30}|a=(rtpmap|fmtp|rtcp|crypto|candidate|label|ptime|group):[0-9a-z/ :|;.-]{0,30})\r?\n){0,20}") {
        let _ = parse(text.as_bytes());
    }

    #[test]
    fn any_description_with_an_audio_line_is_read(octets in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8)) {
        // Random bytes may spoil any line, but never make the whole description unreadable: cleaning removes or
        // replaces each line that `sdp-types` would reject.
        for source in [UNTIDY, MEDIA_LEVEL, CRYPTO] {
            let mut bytes = source.to_vec();
            for (place, octet) in &octets {
                let at = place.index(bytes.len());
                bytes[at] = *octet;
            }
            prop_assert_ne!(parse(&bytes), Err(SdpReject::Malformed));
        }
    }
}
