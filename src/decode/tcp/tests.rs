use proptest::prelude::*;

use super::super::testing::{DecodedContent, DecodedRecord, decode_at};
use super::super::{DecodeCounters, DecoderLimits, FrameDecoder, wire};
use super::{TcpFlow, TcpLimits, TcpReassembler, TcpSegment};
use crate::capture::{CapturedFrame, LinkType};
use crate::net::Endpoint;
use crate::sip::framer::SipFramer;
use crate::time::Timestamp;

const ALICE: [u8; 4] = [10, 0, 0, 1];
const PBX: [u8; 4] = [10, 0, 0, 2];
const INVITE: &[u8] = b"INVITE sip:bob@example.com SIP/2.0\r\nContent-Length: 0\r\n\r\n";
const OK: &[u8] = b"SIP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n";
const SYN: u8 = 2;
const FIN: u8 = 1;
const RST: u8 = 4;

fn frame(from_alice: bool, seq: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let ((src, dst), ports) = if from_alice { ((ALICE, PBX), (40_000, 5060)) } else { ((PBX, ALICE), (5060, 40_000)) };
    // Each segment has its own IP id, as from a real sender. A duplicate has the same bytes, so tests clone the frame.
    let id = (seq as u16).wrapping_mul(31).wrapping_add(u16::from(flags)).wrapping_add(payload.len() as u16);
    wire::ethernet(0x0800, &wire::ipv4(src, dst, 6, id, &wire::tcp(ports, seq, flags, payload)))
}

fn a(seq: u32, payload: &[u8]) -> Vec<u8> {
    frame(true, seq, 0x18, payload)
}

/// Returns the output of one direction as text. Marks in it stand for gaps and ends.
fn text(seen: &[DecodedRecord], src: &str) -> String {
    let mut out = String::new();
    for s in seen.iter().filter(|s| s.src == src) {
        match &s.what {
            DecodedContent::Data(bytes) => out.push_str(&String::from_utf8_lossy(bytes)),
            DecodedContent::Gap => out.push_str("<gap>"),
            DecodedContent::End => out.push_str("<end>"),
            DecodedContent::Datagram(_) => out.push_str("<datagram>"),
        }
    }
    out
}

fn alice(frames: &[(i64, Vec<u8>)]) -> String {
    text(&decode_at(LinkType::Ethernet, frames).0, "10.0.0.1:40000")
}

fn s(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn connection_from_syn_to_fin_yields_its_bytes_and_its_end() {
    let frames = [
        (0, frame(true, 99, SYN, b"")),
        (1, frame(false, 499, SYN | 16, b"")),
        (2, a(100, &INVITE[..20])),
        (3, a(120, &INVITE[20..])),
        (4, frame(false, 500, 0x18, OK)),
        (5, frame(true, 100 + INVITE.len() as u32, FIN | 16, b"")),
        (6, frame(true, 100 + INVITE.len() as u32, FIN | 16, b"")),
    ];
    let (seen, c) = decode_at(LinkType::Ethernet, &frames);
    assert_eq!(text(&seen, "10.0.0.1:40000"), s(INVITE) + "<end>");
    assert_eq!(text(&seen, "10.0.0.2:5060"), s(OK));
    assert_eq!((c.streams.followed, c.streams.ignored, c.streams.gaps), (2, 0, 0));
}

#[test]
fn first_message_split_anywhere_reaches_the_framer_whole() {
    for cut in 1..INVITE.len() {
        let (head, tail) = INVITE.split_at(cut);
        let frames = [(0, frame(true, 99, SYN, b"")), (1, a(100, head)), (2, a(100 + cut as u32, tail))];
        let (mut framer, mut found) = (SipFramer::default(), Vec::new());
        for record in decode_at(LinkType::Ethernet, &frames).0 {
            let DecodedContent::Data(bytes) = record.what else { panic!("{record:?}") };
            framer.push_segment(&bytes, &mut |message| found.push(message.to_vec()));
        }
        // The rest of a cut INVITE (e.g. `VITE sip:…`) must not be taken for a message of its own, although a segment
        // begins with it.
        assert_eq!(found, [INVITE.to_vec()], "cut at {cut}");
    }
}

#[test]
fn reset_ends_both_directions_and_ports_can_be_reused() {
    let frames = [
        (0, frame(true, 99, SYN, b"")),
        (1, a(100, INVITE)),
        (2, frame(false, 0, RST, b"")),
        (3, frame(true, 7_000_000, SYN, b"")),
        (4, a(7_000_001, OK)),
    ];
    assert_eq!(alice(&frames), s(INVITE) + "<end>" + &s(OK));
}

#[test]
fn stream_seen_from_the_middle_begins_with_a_gap() {
    assert_eq!(alice(&[(0, a(5, &INVITE[30..])), (1, a(5 + 27, OK))]), format!("<gap>{}{}", s(&INVITE[30..]), s(OK)));
    assert_eq!(alice(&[(0, a(5, INVITE))]), format!("<gap>{}", s(INVITE)));
}

#[test]
fn acknowledged_hole_is_given_up_after_100_ms_others_after_3_s() {
    let start = [(0, frame(true, 99, SYN, b"")), (0, a(100, INVITE)), (10, a(400, OK))];
    // This frame belongs to another connection. It only advances the time.
    let tick = |ms| (ms, wire::ethernet(0x0800, &wire::ipv4(PBX, PBX, 17, ms as u16, &wire::udp(1, 2, b"tick"))));
    let unconfirmed: Vec<_> = start.iter().cloned().chain([tick(2900)]).collect();
    assert_eq!(alice(&unconfirmed), s(INVITE));
    let late: Vec<_> = unconfirmed.into_iter().chain([tick(3200)]).collect();
    assert_eq!(alice(&late), format!("{}<gap>{}", s(INVITE), s(OK)));
    let mut ack = frame(false, 500, 16, b"");
    ack[42..46].copy_from_slice(&(400 + OK.len() as u32).to_be_bytes());
    let confirmed: Vec<_> = start.iter().cloned().chain([(20, ack), tick(250)]).collect();
    assert_eq!(alice(&confirmed), format!("{}<gap>{}", s(INVITE), s(OK)));
}

#[test]
fn bytes_behind_a_hole_are_output_at_the_capture_end() {
    let mut decoder = FrameDecoder::new();
    let mut heard = Vec::new();
    for data in [frame(true, 99, SYN, b""), a(100, INVITE), a(400, OK), a(900, OK)] {
        let at = Timestamp::from_secs(1);
        let frame =
            CapturedFrame { at, link: LinkType::Ethernet, interface: 0, orig_len: data.len() as u32, data: &data };
        decoder.handle_frame(&frame, &mut |d| heard.push(DecodedRecord::from(d)));
    }
    decoder.handle_end(&mut |d| heard.push(DecodedRecord::from(d)));
    assert_eq!(text(&heard, "10.0.0.1:40000"), format!("{}<gap>{ok}<gap>{ok}", s(INVITE), ok = s(OK)));
}

#[test]
fn other_stream_is_ignored_until_a_segment_begins_with_sip() {
    let frames = [
        (0, frame(true, 99, SYN, b"")),
        (1, a(100, b"GET / HTTP/1.1\r\n\r\n")),
        (2, a(118, b"body of something")),
        (3, a(135, INVITE)),
        (4, a(135 + INVITE.len() as u32, OK)),
    ];
    let (seen, c) = decode_at(LinkType::Ethernet, &frames);
    assert_eq!(text(&seen, "10.0.0.1:40000"), format!("<gap>{}{}", s(INVITE), s(OK)));
    assert_eq!((c.streams.ignored, c.streams.followed), (1, 1));
}

#[test]
fn tls_is_counted_and_on_port_5061_also_as_sips() {
    let hello = [&[0x16, 3, 1, 2, 0][..], &[1; 300]].concat();
    let (seen, c) = decode_at(LinkType::Ethernet, &[(0, frame(true, 99, SYN, b"")), (1, a(100, &hello))]);
    assert!(seen.is_empty());
    assert_eq!((c.streams.tls, c.streams.sips, c.streams.ignored), (1, 0, 1));
    let ip = wire::ipv4(ALICE, PBX, 6, 1, &wire::tcp((40_000, 5061), 5, 0x18, &hello));
    assert_eq!(decode_at(LinkType::Ethernet, &[(0, wire::ethernet(0x0800, &ip))]).1.streams.sips, 1);
}

#[test]
fn other_direction_of_a_sip_stream_is_always_followed() {
    // The browser masks its WebSocket frames. So only the handshake shows that they carry SIP.
    let hello = b"GET /ws HTTP/1.1\r\nSec-WebSocket-Protocol: sip\r\n\r\n";
    let granted = b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Protocol: sip\r\n\r\n";
    let masked = [0x82, 0x81, 1, 2, 3, 4, 5];
    let frames = [
        (0, frame(true, 99, SYN, b"")),
        (1, a(100, &hello[..10])),
        (2, a(110, &hello[10..])),
        (3, frame(false, 499, 0x18, granted)),
        (4, a(100 + hello.len() as u32, &masked)),
        (5, frame(false, 499 + granted.len() as u32, 0x18, &[0x82, 1, 7])),
    ];
    let (seen, _) = decode_at(LinkType::Ethernet, &frames);
    assert_eq!(text(&seen, "10.0.0.1:40000"), s(hello) + &s(&masked));
    assert_eq!(text(&seen, "10.0.0.2:5060"), format!("<gap>{}{}", s(granted), s(&[0x82, 1, 7])));
}

#[test]
fn duplicates_and_retransmissions_are_counted_apart() {
    let first = a(100, INVITE);
    let frames = [
        (0, frame(true, 99, SYN, b"")),
        (1, first.clone()),
        (2, wire::routed(&first)),
        (300, a(100, INVITE)),
        (301, a(100 + INVITE.len() as u32, OK)),
    ];
    let (seen, c) = decode_at(LinkType::Ethernet, &frames);
    assert_eq!(text(&seen, "10.0.0.1:40000"), s(INVITE) + &s(OK));
    assert_eq!((c.duplicates, c.streams.retransmitted), (1, 1));
}

#[test]
fn streams_are_bounded_and_a_sip_stream_is_evicted_last() {
    let mut decoder =
        FrameDecoder::with_limits(DecoderLimits { tcp_streams: 100, tcp_bytes: 50_000, ..DecoderLimits::default() });
    let mut heard = 0;
    let mut handle = |data: &[u8]| {
        let frame = CapturedFrame {
            at: Timestamp::from_secs(1),
            link: LinkType::Ethernet,
            interface: 0,
            orig_len: data.len() as u32,
            data,
        };
        decoder.handle_frame(&frame, &mut |_| heard += 1);
    };
    handle(&frame(true, 99, SYN, b""));
    handle(&a(100, INVITE));
    for port in 1..=1000 {
        for (seq, flags, text) in [(0, SYN, &b""[..]), (1, 16, b"this may become sip"), (4000, 16, &[b'x'; 1000])] {
            let ip = wire::ipv4(ALICE, PBX, 6, seq as u16, &wire::tcp((port, 80), seq, flags, text));
            handle(&wire::ethernet(0x0800, &ip));
        }
    }
    handle(&a(100 + INVITE.len() as u32, OK));
    assert_eq!(heard, 2, "the SIP stream was followed before and after the flood");
    assert!(decoder.counters().streams.evicted >= 900);
}

proptest! {
    #[test]
    fn message_split_anywhere_and_swapped_yields_the_same_bytes(
        one in 1_usize..57, two in 1_usize..57, swap in any::<bool>(), first in any::<u32>(),
    ) {
        let mut cuts = [0, one.min(two), one.max(two), INVITE.len()];
        cuts.sort_unstable();
        let mut frames = vec![(0, frame(true, first.wrapping_sub(1), SYN, b""))];
        let mut segments: Vec<_> = cuts
            .windows(2)
            .filter(|w| w[0] < w[1])
            .map(|w| (1, a(first.wrapping_add(w[0] as u32), &INVITE[w[0]..w[1]])))
            .collect();
        if swap {
            segments.reverse();
        }
        frames.extend(segments);
        prop_assert_eq!(alice(&frames), s(INVITE));
    }

    #[test]
    fn any_segments_do_not_panic(
        segments in prop::collection::vec((any::<bool>(), any::<u32>(), any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)), 0..60),
        near in any::<bool>(),
    ) {
        let frames: Vec<_> = segments
            .iter()
            .enumerate()
            .map(|(i, (from_alice, seq, flags, payload))| {
                let seq = if near { seq % 200 } else { *seq };
                (i as i64 * 100, frame(*from_alice, seq, *flags, payload))
            })
            .collect();
        decode_at(LinkType::Ethernet, &frames);
    }
}

/// Returns one of several payloads, chosen by a number, for tests with random segments.
fn some_text(kind: u8) -> &'static [u8] {
    match kind % 7 {
        0 => b"",
        1 => INVITE,
        2 => OK,
        3 => b"INV",
        4 => b"\r\n",
        5 => &[0, 1, 2, 3, 4],
        _ => b"some text of a message body without an end",
    }
}

proptest! {
    #[test]
    fn buffered_bytes_are_counted_exactly_and_bounded(
        segments in prop::collection::vec((0_u16..3, any::<bool>(), 0_u32..300, any::<u8>(), any::<u8>(), 0_usize..3), 0..200),
    ) {
        let mut tcp = TcpReassembler::new(TcpLimits { streams: 4, bytes: 2000 });
        let mut c = DecodeCounters::default();
        for (i, (port, forth, seq, flags, kind, missing)) in segments.into_iter().enumerate() {
            let (x, y) = (Endpoint::v4(ALICE, port), Endpoint::v4(PBX, 5060));
            let segment = TcpSegment {
                at: Timestamp::from_micros(i as i64 * 200_000),
                interface: 0,
                flow: if forth { TcpFlow { src: x, dst: y } } else { TcpFlow { src: y, dst: x } },
                seq,
                ack: (flags & 16 != 0).then_some(seq + 50),
                // The flags RST and FIN are made rare; otherwise no stream would live long.
                flags: if flags < 32 { flags } else { 16 },
                payload: some_text(kind),
                missing: if missing == 2 { 7 } else { 0 },
            };
            tcp.handle(&segment, &mut c, &mut |_| {});
            tcp.expire(segment.at, &mut c, &mut |_| {});
            prop_assert_eq!(tcp.bytes, tcp.streams.values().map(|s| s.bytes()).sum::<usize>());
            prop_assert!(tcp.bytes <= 2000 && tcp.streams.len() <= 4);
        }
    }
}
