//! SIP over WebSocket (RFC 7118).

use super::framer::framed;
use super::*;

/// Returns a WebSocket frame.
fn frame(first: u8, mask: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    let bit = if mask.is_some() { 0x80 } else { 0 };
    match payload.len() {
        n @ 0..126 => out.push(bit | n as u8),
        n @ 126..65_536 => {
            out.push(bit | 126);
            out.extend_from_slice(&(n as u16).to_be_bytes());
        }
        n => {
            out.push(bit | 127);
            out.extend_from_slice(&(n as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(mask.as_ref().map_or(&[], |m| m.as_slice()));
    let key = mask.unwrap_or_default();
    out.extend(payload.iter().enumerate().map(|(i, b)| b ^ key[i % 4]));
    out
}

const KEY: Option<[u8; 4]> = Some([0x37, 0xfa, 0x21, 0x3d]);

/// Returns the bytes of the client of a WebSocket connection. They are an upgrade, a message, a fragmented message with
/// a ping inside, a keep-alive, and a message without Content-Length.
fn websocket() -> Vec<u8> {
    let mut bytes =
        b"GET / HTTP/1.1\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\nSec-WebSocket-Protocol: sip\r\n\r\n".to_vec();
    let (plain, bare) = (SAME[0].1, SAME[6].1);
    bytes.extend(frame(0x81, KEY, plain));
    bytes.extend(frame(0x02, KEY, &plain[..100]));
    bytes.extend(frame(0x89, KEY, b"ping"));
    bytes.extend(frame(0x00, KEY, &plain[100..101]));
    bytes.extend(frame(0x80, KEY, &plain[101..]));
    bytes.extend(frame(0x81, KEY, b"\r\n\r\n"));
    bytes.extend(frame(0x81, None, bare));
    bytes.extend(frame(0x88, KEY, &[3, 232]));
    bytes
}

#[test]
fn sip_over_websocket_is_recognized_and_unmasked() {
    let bytes = websocket();
    let (plain, bare) = (SAME[0].1.to_vec(), SAME[6].1.to_vec());
    for cut in 0..bytes.len() {
        let (a, b) = bytes.split_at(cut);
        let mut framer = SipFramer::default();
        assert_eq!(framed(&mut framer, &[a, b]), [plain.clone(), plain.clone(), bare.clone()], "cut at {cut}");
        assert_eq!((framer.transport(), framer.skipped()), (Transport::Ws, 0));
    }
    let answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";
    let mut framer = SipFramer::default();
    assert_eq!(framed(&mut framer, &[answer, &frame(0x81, None, &plain)]), [plain]);
}

#[test]
fn websocket_seen_from_the_middle_is_read_from_the_next_frame() {
    let (plain, masked) = (SAME[0].1.to_vec(), frame(0x82, KEY, SAME[0].1));
    let mut framer = SipFramer::default();
    assert_eq!(framed(&mut framer, &[&masked]), std::slice::from_ref(&plain));
    let mut found = framed(&mut framer, &[&masked[..50]]);
    framer.gap(&mut |m| found.push(m.to_vec()));
    found.extend(framed(&mut framer, &[&masked[70..], &masked]));
    assert_eq!(found, [plain]);
}

#[test]
fn websocket_with_lost_bytes_goes_on_with_any_method() {
    let (plain, other) =
        (SAME[0].1.to_vec(), b"SUMMON sip:200@example.com SIP/2.0\r\nContent-Length: 0\r\n\r\n".to_vec());
    let mut framer = SipFramer::default();
    let mut found = framed(&mut framer, &[&frame(0x81, KEY, &plain)]);
    framer.gap(&mut |m| found.push(m.to_vec()));
    found.extend(framed(&mut framer, &[&frame(0x81, KEY, &other)]));
    assert_eq!(found, [plain, other]);
}

#[test]
fn websocket_is_recognized_if_its_first_frame_is_split_anywhere() {
    let (plain, masked) = (SAME[0].1.to_vec(), frame(0x82, KEY, SAME[0].1));
    for cut in 1..masked.len() {
        let mut framer = SipFramer::default();
        let found = framed(&mut framer, &[&masked[..cut], &masked[cut..]]);
        assert_eq!((found, framer.transport()), (vec![plain.clone()], Transport::Ws), "cut at {cut}");
    }
    // The bytes look like a long frame. After 2,048 bytes without a line end they no longer count as a frame.
    let mut framer = SipFramer::default();
    let noise = [&[0x82, 0x7e, 0x10, 0x00][..], &[b'x'; 2_048]].concat();
    assert_eq!(framed(&mut framer, &[&noise, b"\r\n", SAME[0].1]), [plain]);
    assert_eq!(framer.transport(), Transport::Tcp);
}

#[test]
fn piece_of_a_damaged_start_line_is_no_websocket_frame() {
    // The last octets of the damaged line look like a text frame (0x01) of 120 bytes ('x') with a start line.
    let damaged = b"INVITE \x0bsip:200@p\x01x.example.com SIP/2.0\r\n";
    let bytes = [b"a body without its message\r\n", &damaged[..], SAME[0].1].concat();
    let whole = framed(&mut SipFramer::default(), &[&bytes]);
    for cut in 1..bytes.len() {
        let (a, b) = bytes.split_at(cut);
        let mut framer = SipFramer::default();
        assert_eq!(framed(&mut framer, &[a, b]), whole, "cut at {cut}");
        assert_eq!(framer.transport(), Transport::Tcp, "cut at {cut}");
    }
    assert_eq!(whole.last().map(Vec::as_slice), Some(SAME[0].1));
}

#[test]
fn invalid_websocket_frames_are_skipped() {
    let mut framer = SipFramer::default();
    let head = b"HTTP/1.1 101 x\r\nupgrade: websocket\r\n\r\n";
    // The stream has a frame with a reserved opcode, and then a piece that begins with a valid frame, from which
    // decoding continues.
    let found = framed(&mut framer, &[head, &[0x83, 0x01, 0x00], &frame(0x81, None, SAME[0].1)]);
    assert_eq!(found, [SAME[0].1]);
    // Compressed frames (RSV1) cannot be decoded, so they are skipped.
    assert!(framed(&mut framer, &[&frame(0xc1, None, b"zzzz")]).is_empty());
    assert!(framer.skipped() >= 4);
}

#[test]
fn plain_http_is_given_up() {
    let mut framer = SipFramer::default();
    assert!(framed(&mut framer, &[b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"]).is_empty());
    assert!(framer.given_up());
}
