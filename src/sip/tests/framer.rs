//! Messages in a byte stream: pieces, lost bytes, maximum sizes.

use super::*;

/// Returns a stream with one message of each kind on a trunk, and keep-alives between them.
pub(super) fn trunk() -> Vec<u8> {
    let mut bytes = b"\r\n\r\n".to_vec();
    for (name, message) in SAME {
        // In a stream, the Content-Length shows where a message ends. So messages without a correct Content-Length are
        // left out.
        if !matches!(name, "no_content_length" | "body_cut") {
            bytes.extend_from_slice(message);
            bytes.extend_from_slice(b"\r\n\r\n");
        }
    }
    bytes.extend_from_slice(b"SIP/2.0 200 OK\r\ni: last\r\n\r\n");
    bytes
}

pub(super) fn framed(framer: &mut SipFramer, pieces: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for piece in pieces {
        framer.push(piece, &mut |m| found.push(m.to_vec()));
    }
    found
}

#[test]
fn stream_split_at_any_byte_yields_the_same_messages() {
    let bytes = trunk();
    let whole = framed(&mut SipFramer::default(), &[&bytes]);
    // There are 10 fixtures, the BYE that follows the fixture trailing_octets, and the last message.
    assert_eq!(whole.len(), 12);
    for cut in 0..bytes.len() {
        let (a, b) = bytes.split_at(cut);
        assert_eq!(framed(&mut SipFramer::default(), &[a, b]), whole, "cut at {cut}");
    }
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(framed(&mut SipFramer::default(), &single), whole);
}

#[test]
fn start_line_of_a_segment_is_a_new_start_after_a_loss() {
    let message = b"OPTIONS sip:a SIP/2.0\r\ni: 1\r\nContent-Length: 0\r\n\r\n";
    // In each case, a start line follows at the beginning of a segment. Before it come stray text between messages, an
    // unfinished message, or the rest of a message after lost bytes.
    let cut = b"OPTIONS sip:a SIP/2.0\r\ni: 0\r\n"; // a message without the end of its header section
    for (stray, has_gap) in [(&b"0123"[..], false), (cut, false), (b"rest of a line", true)] {
        let mut framer = SipFramer::default();
        let mut found = framed(&mut framer, &[message]);
        if has_gap {
            framer.gap(&mut |_| panic!("nothing is unfinished"));
        }
        for segment in [stray, message] {
            framer.push_segment(segment, &mut |m| found.push(m.to_vec()));
        }
        assert_eq!(found, [message.to_vec(), message.to_vec()], "{}", stray.escape_ascii());
        // Here, a keep-alive precedes the start line in the segment. The message is found nevertheless.
        let mut framer = SipFramer::default();
        framer.gap(&mut |_| panic!("nothing is unfinished"));
        let mut found = Vec::new();
        for segment in [stray.to_vec(), [&b"\0\r\n\0 "[..], message].concat()] {
            framer.push_segment(&segment, &mut |m| found.push(m.to_vec()));
        }
        assert_eq!(found, [message.to_vec()], "{}", stray.escape_ascii());
    }
    // The second segment begins with the end of the first message's header section. Both messages are found.
    let mut framer = SipFramer::default();
    let mut found = Vec::new();
    for segment in [&cut[..], &[&b"\r\n"[..], message].concat()] {
        framer.push_segment(segment, &mut |m| found.push(m.to_vec()));
    }
    assert_eq!(found.len(), 2);
    // Within a message, a start line at the beginning of a segment belongs to the body (message/sipfrag).
    let notify = b"NOTIFY sip:a SIP/2.0\r\ni: 1\r\nContent-Type: message/sipfrag\r\nContent-Length: 24\r\n\r\n";
    let mut framer = SipFramer::default();
    let mut found = Vec::new();
    for segment in [&notify[..], b"SIP/2.0 200 OK\r\nX-A: 1\r\n"] {
        framer.push_segment(segment, &mut |m| found.push(m.to_vec()));
    }
    assert_eq!(found.len(), 1);
    assert!(found[0].ends_with(b"X-A: 1\r\n"));
}

#[test]
fn segments_split_at_any_byte_yield_the_same_messages() {
    // Parts of the first message look like the start of a message: `NVITE sip:…`, `.1 SIP/2.0`, `SIP/2.0`. No message
    // may begin there.
    let first =
        b"INVITE sip:100@10.0.0.1 SIP/2.0\r\nSubject: a\r\n b SIP/2.0\r\nCall-ID: x\r\nContent-Length: 0\r\n\r\n";
    let second = b"PRACK sip:100 SIP/2.0\r\nCall-ID: x\r\nContent-Length: 0\r\n\r\n"; // `ACK sip:100 SIP/2.0`
    let bytes = [&first[..], second, &trunk()].concat();
    let whole = framed(&mut SipFramer::default(), &[&bytes]);
    assert_eq!(whole.len(), 14);
    let seen = |cut: usize, has_gap: bool| {
        let (mut framer, mut found) = (SipFramer::default(), Vec::new());
        if has_gap {
            framer.gap(&mut |_| panic!("nothing was heard yet"));
        } else {
            found = framed(&mut framer, &[first]);
        }
        for segment in [&bytes[..cut], &bytes[cut..]] {
            framer.push_segment(segment, &mut |m| found.push(m.to_vec()));
        }
        found
    };
    for cut in 0..bytes.len() {
        assert_eq!(seen(cut, false)[1..], whole, "cut at {cut}");
        assert_eq!(seen(cut, true), whole, "cut at {cut} after lost bytes");
    }
}

#[test]
fn stream_seen_from_the_middle_is_read_from_the_next_message() {
    let bytes = trunk();
    let whole = framed(&mut SipFramer::default(), &[&bytes]);
    for begin in 5..bytes.len() {
        let mut framer = SipFramer::default();
        framer.gap(&mut |_| panic!("nothing was heard yet"));
        let found = framed(&mut framer, &[&bytes[begin..]]);
        // Every message that begins after the position `begin` is found whole.
        assert!(
            whole.ends_with(&found) || found.iter().skip(1).eq(whole.iter().rev().take(found.len() - 1).rev()),
            "from {begin}"
        );
        assert!(found.len() + 1 >= whole.len() - whole_before(&whole, &bytes, begin), "from {begin}");
    }
}

/// Returns the number of messages in `whole` that begin before the offset `place` of the stream.
fn whole_before(whole: &[Vec<u8>], bytes: &[u8], place: usize) -> usize {
    let mut at = 0;
    whole
        .iter()
        .filter(|m| {
            let begin = at + memchr::memmem::find(&bytes[at..], m).unwrap();
            at = begin + m.len();
            begin < place
        })
        .count()
}

#[test]
fn start_line_within_a_body_is_not_a_message_after_a_gap() {
    // The NOTIFY of a transfer has a status line in its body (RFC 3515 section 2.4.5), which begins no message.
    let bytes =
        b"lost\r\nContent-Length: 16\r\n\r\nSIP/2.0 200 OK\r\nBYE sip:a@b SIP/2.0\r\ni: y\r\nCSeq: 2 BYE\r\n\r\n";
    let mut framer = SipFramer::default();
    framer.gap(&mut |_| {});
    let found = framed(&mut framer, &[bytes]);
    assert_eq!(found.len(), 1);
    assert_eq!(SipMessage::parse(&found[0], SipFraming::Stream).unwrap().method(), Some(&SipMethod::Bye));
}

#[test]
fn lost_bytes_affect_only_their_own_messages() {
    let (_, plain) = SAME[0];
    let mut framer = SipFramer::default();
    let mut found = Vec::new();
    framer.push(&plain[..plain.len() - 20], &mut |m| found.push(m.to_vec()));
    assert!(found.is_empty());
    // The headers are complete, so the framer returns the message with a truncated body.
    framer.gap(&mut |m| found.push(m.to_vec()));
    assert!(SipMessage::parse(&found[0], SipFraming::Stream).unwrap().body_cut());
    framer.push(plain, &mut |m| found.push(m.to_vec()));
    assert_eq!(found[1], plain);
}

#[test]
fn wrong_content_length_does_not_block_the_stream() {
    let absurd = b"SIP/2.0 200 OK\r\ni: x\r\nl: 99999999999999999999999\r\n\r\nBYE sip:a SIP/2.0\r\ni: y\r\n\r\n";
    assert_eq!(framed(&mut SipFramer::default(), &[absurd]).len(), 2);
    let negative = b"SIP/2.0 200 OK\r\ni: x\r\nl: -1\r\n\r\nBYE sip:a SIP/2.0\r\ni: y\r\n\r\n";
    assert_eq!(framed(&mut SipFramer::default(), &[negative]).len(), 2);
    // The body is long but valid. The framer returns the message without its body, and skips exactly the body.
    let long = MAX_STREAM_BUFFER;
    let mut bytes = format!("SIP/2.0 200 OK\r\ni: x\r\nl: {long}\r\n\r\n").into_bytes();
    bytes.extend(std::iter::repeat_n(b'\n', long));
    bytes.extend_from_slice(b"BYE sip:a SIP/2.0\r\ni: y\r\n\r\n");
    let mut framer = SipFramer::default();
    assert_eq!(framed(&mut framer, &[&bytes]).len(), 2);
    assert_eq!(framer.skipped(), 0);
}

#[test]
fn messages_that_are_too_long_are_counted_and_the_next_is_read() {
    let mut framer = SipFramer::default();
    let bye = b"BYE sip:a@b SIP/2.0\r\nContent-Length: 0\r\n\r\n".to_vec();
    let body = MAX_STREAM_BUFFER;
    let mut long_body = format!("INVITE sip:a@b SIP/2.0\r\nContent-Length: {body}\r\n\r\n").into_bytes();
    long_body.resize(long_body.len() + body, b'x');
    assert_eq!(framed(&mut framer, &[&long_body, &bye]).len(), 2, "its header section names the call");
    assert_eq!(framer.take_oversized(), 1);
    let mut long_head = b"INVITE sip:a@b SIP/2.0\r\n".to_vec();
    while long_head.len() < 2 * MAX_HEADER_BYTES {
        long_head.extend_from_slice(b"X-Padding: 0123456789012345678901234567890123456789\r\n");
    }
    long_head.extend_from_slice(b"\r\n");
    assert_eq!(framed(&mut framer, &[&long_head, &bye]), [bye]);
    assert_eq!((framer.take_oversized(), framer.take_oversized()), (1, 0));
}

#[test]
fn other_stream_is_given_up() {
    let mut framer = SipFramer::default();
    let noise: Vec<u8> = (0..2_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    assert!(framed(&mut framer, &[&noise]).is_empty());
    assert!(framer.given_up());
    // The first byte is a NUL. It counts as a keep-alive, and not as a skipped byte.
    assert_eq!(framer.skipped(), 1_999_999);
}

#[test]
fn nuls_and_blanks_between_messages_lose_no_message() {
    let message = b"OPTIONS sip:a@b SIP/2.0\r\nCall-ID: x\r\nContent-Length: 0\r\n\r\n";
    for between in [&b"\r\n\0"[..], b"\0\0", b"\r\n\r\n\0", b" ", b"\0\r\n \t"] {
        let bytes = [between, &message[..], between, &message[..], between, &message[..]].concat();
        let mut framer = SipFramer::default();
        assert_eq!(framed(&mut framer, &[&bytes]).len(), 3, "{between:?}");
        let mut framer = SipFramer::default();
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(framed(&mut framer, &single).len(), 3, "{between:?} in single bytes");
        // After lost bytes the next message is found, even behind a keep-alive.
        let mut framer = SipFramer::default();
        framer.gap(&mut |_| panic!("nothing is unfinished"));
        let rest = [&b"lue\r\nContent-Length: 0\r\n\r\n"[..], &bytes].concat();
        assert_eq!(framed(&mut framer, &[&rest]).len(), 3, "{between:?} after lost bytes");
    }
}
