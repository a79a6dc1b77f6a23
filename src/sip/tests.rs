use proptest::prelude::*;

use super::framer::{MAX_STREAM_BUFFER, SipFramer};
use super::message::MAX_HEADER_BYTES;
use super::*;
use crate::net::Transport;

macro_rules! fixture {
    ($name:literal) => {
        ($name, include_bytes!(concat!("../../fixtures/sip/", $name, ".sip")).as_slice())
    };
}

/// Messages with the same meaning in different notations.
const SAME: [(&str, &[u8]); 12] = [
    fixture!("plain"),
    fixture!("compact"),
    fixture!("folded"),
    fixture!("bare_lf"),
    fixture!("odd_spaces"),
    fixture!("lines_without_colon"),
    fixture!("no_content_length"),
    fixture!("content_length_twice_the_same"),
    fixture!("no_content_type"),
    fixture!("trailing_octets"),
    fixture!("body_cut"),
    fixture!("multipart"),
];

const REFUSED: [((&str, &[u8]), SipParseError); 7] = [
    (fixture!("negative_content_length"), SipParseError::ContentLength),
    (fixture!("content_length_contradicts"), SipParseError::ContentLength),
    (fixture!("version_7"), SipParseError::Version),
    (fixture!("method_mismatch"), SipParseError::MethodMismatch),
    (fixture!("no_call_id"), SipParseError::NoCallId),
    (fixture!("two_call_ids"), SipParseError::Contradiction),
    (fixture!("status_beyond_699"), SipParseError::Status),
];

fn parse(bytes: &[u8]) -> SipMessage<'_> {
    SipMessage::parse(bytes, SipFraming::Datagram).unwrap()
}

#[test]
fn message_has_the_same_meaning_in_every_notation() {
    for (name, bytes) in SAME {
        assert!(looks_like_sip(bytes), "{name}");
        let m = parse(bytes);
        assert_eq!(m.method(), Some(&SipMethod::Invite), "{name}");
        assert_eq!(m.call_id(), "fixture@192.0.2.10", "{name}");
        assert_eq!(m.cseq(), Some(CSeq { number: 7, method: SipMethod::Invite }), "{name}");
        let (from, to) = (m.from().unwrap(), m.to().unwrap());
        assert_eq!(from.display.as_deref(), Some("Alice"), "{name}");
        assert_eq!((from.uri.user.as_deref(), from.tag()), (Some("+79990000001"), Some("a-tag")), "{name}");
        assert_eq!((to.uri.user.as_deref(), to.tag()), (Some("200"), None), "{name}");
        assert_eq!(m.contact().unwrap().uri.port, Some(5060), "{name}");
        assert_eq!(m.request_uri().unwrap().user.as_deref(), Some("200"), "{name}");
        assert_eq!(m.via_branch().as_deref(), Some("z9hG4bKa1"), "{name}");
        assert_eq!(m.header("Max-Forwards").as_deref(), Some("70"), "{name}");
        let sdp = m.sdp().unwrap_or_else(|| panic!("{name}: no description"));
        // The description of the fixtures has 7 lines.
        assert_eq!(sdp.iter().filter(|&&b| b == b'\n').count(), 7, "{name}");
        assert!(sdp.starts_with(b"v=0"), "{name}");
        assert_eq!(m.body_cut(), name == "body_cut");
    }
}

/// Returns an INVITE with a multipart body.
fn with_multipart(content_type: &str, body: &str) -> Vec<u8> {
    format!("INVITE sip:200@x SIP/2.0\r\nCall-ID: c@x\r\nCSeq: 1 INVITE\r\nContent-Type: {content_type}\r\n\r\n{body}")
        .into_bytes()
}

fn described(content_type: &str, body: &str) -> Option<String> {
    parse(&with_multipart(content_type, body)).sdp().map(|sdp| String::from_utf8_lossy(&sdp).into_owned())
}

#[test]
fn description_is_found_in_multipart_bodies_within_each_other() {
    let part = |kind: &str, body: &str| format!("Content-Type: {kind}\r\n\r\n{body}\r\n");
    let of = |boundary: &str, parts: &[String]| {
        let parts: String = parts.iter().map(|part| format!("--{boundary}\r\n{part}")).collect();
        format!("{parts}--{boundary}--\r\n")
    };
    let sdp = |name: &str| part("application/sdp", &format!("v=0\r\ns={name}"));
    let location = part("application/pidf+xml", "<presence/>");
    // The inner boundary begins like the outer one, and its header goes on in a second line.
    let inner = part("multipart/alternative;\r\n boundary=\"b-2\"", &of("b-2", &[sdp("plain"), sdp("rich")]));
    let outer = of("b", &[location.clone(), inner]);
    assert_eq!(described("multipart/mixed; boundary=b", &outer).as_deref(), Some("v=0\r\ns=rich"), "last alternative");
    let mixed = of("b", &[location.clone(), sdp("first"), sdp("second")]);
    assert_eq!(described("multipart/mixed;boundary=\"b\"", &mixed).as_deref(), Some("v=0\r\ns=first"));
    assert_eq!(described("multipart/related", &mixed).as_deref(), Some("v=0\r\ns=first"), "no boundary parameter");
    let alternative = of("b", &[sdp("only"), location]);
    assert_eq!(described("multipart/alternative;boundary=b", &alternative).as_deref(), Some("v=0\r\ns=only"));
}

#[test]
fn multipart_bodies_are_examined_to_a_bounded_depth() {
    let mut body = String::from("v=0\r\ns=deep");
    let mut kind = String::from("application/sdp");
    let mut found = Vec::new();
    for depth in 0..1_000 {
        found.push(described(&kind, &body).is_some());
        body = format!("--b{depth}\r\nContent-Type: {kind}\r\n\r\n{body}\r\n--b{depth}--\r\n");
        kind = format!("multipart/mixed;boundary=b{depth}");
    }
    assert!(found[..=4].iter().all(|is_found| *is_found), "four bodies within each other");
    assert!(!found[5..].contains(&true));
}

#[test]
fn message_without_a_certain_dialog_is_rejected_with_a_reason() {
    for ((name, bytes), reason) in REFUSED {
        assert_eq!(SipMessage::parse(bytes, SipFraming::Datagram).err(), Some(reason), "{name}");
    }
    for (bytes, reason) in [
        (b"".as_slice(), SipParseError::StartLine),
        (b"\r\n\r\n", SipParseError::StartLine),
        (b"GET / HTTP/1.1\r\n\r\n", SipParseError::StartLine),
        (b"INVITE SIP/2.0\r\nCall-ID: x\r\n\r\n", SipParseError::StartLine),
        (b"SIP/2.0 099 no\r\nCall-ID: x\r\n\r\n", SipParseError::Status),
        (b"SIP/3.0 200 OK\r\nCall-ID: x\r\n\r\n", SipParseError::Version),
        (b"SIP/2.0 200 OK\r\nCall-ID:  \r\n\r\n", SipParseError::NoCallId),
        (b"SIP/2.0 200 OK\r\nCall-ID: x\r\nContent-Length: 1e3\r\n\r\n", SipParseError::ContentLength),
        (b"SIP/2.0 200 OK\r\nCall-ID: x\r\nCSeq: 1 BYE\r\nCSeq: 2 BYE\r\n\r\n", SipParseError::Contradiction),
    ] {
        assert_eq!(SipMessage::parse(bytes, SipFraming::Datagram).err(), Some(reason), "{:?}", bytes.escape_ascii());
    }
}

#[test]
fn status_line_without_reason_and_display_name_without_utf8_are_accepted() {
    let m = parse(include_bytes!("../../fixtures/sip/status_without_reason.sip"));
    assert_eq!((m.status(), m.method()), (Some(180), None));
    assert_eq!(m.transaction_method(), Some(&SipMethod::Invite));
    let m = parse(include_bytes!("../../fixtures/sip/windows_1251.sip"));
    let from = m.from().unwrap();
    // Four bytes of invalid UTF-8.
    assert_eq!(from.display.as_deref(), Some("\u{fffd}\u{fffd}\u{fffd}\u{fffd}"));
    assert_eq!(from.uri.user.as_deref(), Some("+79990000001"));
}

#[test]
fn compact_and_long_header_names_find_each_other() {
    let names = [
        ("a", "Accept-Contact"),
        ("b", "Referred-By"),
        ("c", "Content-Type"),
        ("d", "Request-Disposition"),
        ("e", "Content-Encoding"),
        ("f", "From"),
        ("j", "Reject-Contact"),
        ("k", "Supported"),
        ("m", "Contact"),
        ("n", "Identity-Info"),
        ("o", "Event"),
        ("r", "Refer-To"),
        ("s", "Subject"),
        ("t", "To"),
        ("u", "Allow-Events"),
        ("v", "Via"),
        ("x", "Session-Expires"),
        ("y", "Identity"),
    ];
    for (compact, long) in names {
        for (written, asked) in [(compact, long), (long, compact), (long, long), (compact, compact)] {
            let text = format!("SIP/2.0 200 OK\r\ni: x\r\n{}: value\r\n\r\n", written.to_uppercase());
            assert_eq!(parse(text.as_bytes()).header(asked).as_deref(), Some("value"), "{written} asked as {asked}");
        }
    }
    let m = parse(b"SIP/2.0 200 OK\r\ni: x\r\nq: odd\r\n\r\n");
    assert_eq!(m.header("Q").as_deref(), Some("odd"));
}

#[test]
fn truncated_last_header_is_ignored() {
    let whole = b"SIP/2.0 200 OK\r\nCSeq: 1 INVITE\r\nCall-ID: long-name@host";
    assert_eq!(SipMessage::parse(whole, SipFraming::Datagram).err(), Some(SipParseError::NoCallId));
    let m = b"SIP/2.0 200 OK\r\nCall-ID: x\r\nTo: <sip:a@b>;tag=cu";
    assert!(parse(m).to().is_none() && parse(m).body().is_empty());
}

#[test]
fn list_is_split_only_outside_quotes_and_brackets() {
    let m =
        parse(b"SIP/2.0 200 OK\r\ni: x\r\nContact: \"A, B\" <sip:a@x?b=1,2>;q=1, <sip:c@y>\r\nm: sip:d@z,,\r\n\r\n");
    assert_eq!(m.values("Contact"), ["\"A, B\" <sip:a@x?b=1,2>;q=1", "<sip:c@y>", "sip:d@z"]);
    assert_eq!(m.headers("m").len(), 2);
    // An unclosed quote or bracket is an ordinary character.
    let m = parse(b"SIP/2.0 200 OK\r\ni: x\r\nRoute: \"a, <b, c\r\n\r\n");
    assert_eq!(m.values("Route"), ["\"a", "<b", "c"]);
}

#[test]
fn addresses_are_taken_apart() {
    // value, display, user, host, port, tag
    type TortureCase =
        (&'static str, Option<&'static str>, Option<&'static str>, &'static str, Option<u16>, Option<&'static str>);
    let cases: [TortureCase; 20] = [
        ("<sip:a@b>;tag=1", None, Some("a"), "b", None, Some("1")),
        ("sip:a@b:5070;tag=1", None, Some("a"), "b", Some(5070), Some("1")),
        ("sip:a@b;tag=\"q;1\"", None, Some("a"), "b", None, Some("q;1")),
        (
            r#""A <x>;tag=bad \" end" <sip:a@b;x=y>;tag=good"#,
            Some("A <x>;tag=bad \" end"),
            Some("a"),
            "b",
            None,
            Some("good"),
        ),
        ("Bell, Alexander <sip:a@b>;tag=43", Some("Bell, Alexander"), Some("a"), "b", None, Some("43")),
        ("\"Mr. J. User <sip:j@b>", Some("Mr. J. User"), Some("j"), "b", None, None),
        ("\"W, T\" < sip:t@b >", Some("W, T"), Some("t"), "b", None, None),
        ("tel:+7-999;phone-context=x;tag=t", None, Some("+7-999"), "", None, Some("t")),
        ("<tel:112>;tag=t", None, Some("112"), "", None, Some("t")),
        ("<sip:a@[2001:db8::1]:5062;x>;tag=v6", None, Some("a"), "2001:db8::1", Some(5062), Some("v6")),
        ("<sip:[2001:db8::1]>", None, None, "2001:db8::1", None, None),
        ("<sip:2001:db8::10>", None, None, "2001:db8::10", None, None),
        ("<sip:+7999;npdi;rn=+7888@b;user=phone>", None, Some("+7999"), "b", None, None),
        ("<sip:user;par=u%40e@b>", None, Some("user;par=u@e"), "b", None, None),
        ("<sip:a:secret@b>", None, Some("a"), "b", None, None),
        ("<sip:alice@corp@10.0.0.1>", None, Some("alice@corp"), "10.0.0.1", None, None),
        ("79990000001;tag=9", None, Some("79990000001"), "", None, Some("9")),
        ("a@b.example:5061", None, Some("a"), "b.example", Some(5061), None),
        ("<sip:112>", None, Some("112"), "", None, None),
        ("\"Q\" sip:a@b;tag=5", Some("Q"), Some("a"), "b", None, Some("5")),
    ];
    for (value, display, user, host, port, tag) in cases {
        let a = NameAddr::parse(value).unwrap_or_else(|| panic!("{value}"));
        assert_eq!(a.display.as_deref(), display, "{value}");
        assert_eq!(
            (a.uri.user.as_deref(), a.uri.host.as_str(), a.uri.port, a.tag()),
            (user, host, port, tag),
            "{value}"
        );
    }
    assert_eq!(NameAddr::parse("  "), None);
    assert_eq!(NameAddr::parse("\"only a name\""), None);
    let number = SipUri::parse("sip:+7999;npdi;rn=+7888@b;user=phone");
    assert_eq!(
        (number.params.get("rn"), number.params.get("USER"), number.params.has("npdi")),
        (Some("+7888"), Some("phone"), true)
    );
    assert_eq!(SipUri::parse("SIPS:a@b").scheme, crate::sip::address::UriScheme::Sips);
    assert_eq!(SipUri::parse("urn:service:sos").scheme, crate::sip::address::UriScheme::Other);
    assert_eq!(SipUri::parse("sip:%61%zz%4@b").user.as_deref(), Some("a%zz%4"));
}

#[test]
fn transfer_headers_are_parsed() {
    let r = Replaces::parse("98732@x ; from-tag=r33th4x0r;to-tag=ff87ff;early-only").unwrap();
    assert_eq!(
        (r.call_id.as_str(), r.to_tag.as_str(), r.from_tag.as_str(), r.early_only),
        ("98732@x", "ff87ff", "r33th4x0r", true)
    );
    for refer in [
        "<sip:300@pbx?Replaces=abc%40h%3Bto-tag%3D1%3Bfrom-tag%3D2&Require=replaces>",
        // Some phones escape nothing.
        "<sip:300@pbx?Replaces=abc@h;to-tag=1;from-tag=2>",
    ] {
        let refer = ReferTo::parse(refer).unwrap();
        assert_eq!(refer.target.uri.user.as_deref(), Some("300"));
        let r = refer.replaces.unwrap();
        assert_eq!((r.call_id.as_str(), r.to_tag.as_str(), r.from_tag.as_str()), ("abc@h", "1", "2"));
    }
    assert_eq!(ReferTo::parse("<sip:pbx?Replaces=abc@h>").unwrap().target.uri.host, "pbx");
    assert_eq!(
        SessionExpires::parse("1800 ; Refresher=UAC"),
        Some(SessionExpires { delta_s: 1800, refresher: Some(crate::sip::typed_headers::SessionRefresher::Uac) })
    );
    assert_eq!(SessionExpires::parse("soon"), None);
    let id = SessionId::parse("AB30317f1a784dc48ff824d0d3715d86;remote=00000000000000000000000000000000").unwrap();
    assert_eq!((id.local.as_str(), id.remote), ("ab30317f1a784dc48ff824d0d3715d86", None));
}

#[test]
fn lists_of_addresses_are_typed() {
    let m = parse(
        b"SIP/2.0 200 OK\r\ni: x\r\nP-Asserted-Identity: \"A, B\" <sip:1@x>, <tel:+7999>\r\n\
        History-Info: <sip:200@x?Reason=SIP%3Bcause%3D302>;index=1.1\r\n\
        Diversion: <sip:300@x>;reason=no-answer;counter=1\r\n\r\n",
    );
    let identities = m.addresses("p-asserted-identity");
    assert_eq!(identities.iter().map(|a| a.uri.user.as_deref().unwrap()).collect::<Vec<_>>(), ["1", "+7999"]);
    let history = &m.addresses("History-Info")[0];
    assert_eq!(history.params.get("index"), Some("1.1"));
    assert_eq!(history.uri.header("Reason").as_deref(), Some("SIP;cause=302"));
    assert_eq!(m.addresses("Diversion")[0].params.get("reason"), Some("no-answer"));
}

#[test]
fn other_protocols_do_not_look_like_sip() {
    for bytes in [
        b"".as_slice(),
        b"\r\n\r\n",
        &[0x80, 8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1],
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"M-SEARCH * HTTP/1.1\r\n\r\n",
        b"INVITE sip:a@b",
        b"SIP/",
        b"\0\x01\0\0",
    ] {
        assert!(!looks_like_sip(bytes), "{:?}", bytes.escape_ascii());
    }
    for text in ["SIP/2.0 200 OK\r\n", "sip/2.0 180\r\n", "\r\n\r\nACK sip:a SIP/2.0\r\n", "X sip:a SIP/7.0 \n"] {
        assert!(looks_like_sip(text.as_bytes()), "{text}");
    }
}

#[test]
fn bounds_are_kept() {
    let mut text = String::from("SIP/2.0 200 OK\r\ni: x\r\n");
    text.extend(std::iter::repeat_n("X: y\r\n", MAX_HEADERS));
    assert_eq!(SipMessage::parse(text.as_bytes(), SipFraming::Datagram).err(), Some(SipParseError::TooManyHeaders));
    let long = format!("SIP/2.0 200 OK\r\ni: x\r\nX: {}\r\n\r\n", "y".repeat(MAX_HEADER_BYTES));
    assert_eq!(SipMessage::parse(long.as_bytes(), SipFraming::Datagram).err(), Some(SipParseError::HeadersTooLong));
    let body = format!("SIP/2.0 200 OK\r\ni: x\r\n\r\n{}", "y".repeat(MAX_BODY_BYTES + 1));
    assert_eq!(SipMessage::parse(body.as_bytes(), SipFraming::Datagram).err(), Some(SipParseError::BodyTooLong));
}

/// Returns a stream with one message of each kind on a trunk, and keep-alives between them.
fn trunk() -> Vec<u8> {
    let mut bytes = b"\r\n\r\n".to_vec();
    for (name, message) in SAME {
        // On a stream a correct Content-Length is required.
        if !matches!(name, "no_content_length" | "body_cut") {
            bytes.extend_from_slice(message);
            bytes.extend_from_slice(b"\r\n\r\n");
        }
    }
    bytes.extend_from_slice(b"SIP/2.0 200 OK\r\ni: last\r\n\r\n");
    bytes
}

fn framed(framer: &mut SipFramer, pieces: &[&[u8]]) -> Vec<Vec<u8>> {
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
    // 10 fixtures, the BYE behind trailing_octets, and the last one.
    assert_eq!(whole.len(), 12);
    for cut in 0..bytes.len() {
        let (a, b) = bytes.split_at(cut);
        assert_eq!(framed(&mut SipFramer::default(), &[a, b]), whole, "cut at {cut}");
    }
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(framed(&mut SipFramer::default(), &single), whole);
}

#[test]
fn start_line_at_the_begin_of_a_segment_is_a_new_start_if_the_place_is_lost() {
    let message = b"OPTIONS sip:a SIP/2.0\r\ni: 1\r\nContent-Length: 0\r\n\r\n";
    // Bytes without an end of line: stray text, and the rest of a message after a gap.
    for (stray, has_gap) in [(&b"0123"[..], false), (b"rest of a line", true)] {
        let mut framer = SipFramer::default();
        let mut found = framed(&mut framer, &[message]);
        if has_gap {
            framer.gap(&mut |_| panic!("nothing is unfinished"));
        }
        for segment in [stray, message] {
            framer.push_segment(segment, &mut |m| found.push(m.to_vec()));
        }
        assert_eq!(found, [message.to_vec(), message.to_vec()], "{}", stray.escape_ascii());
    }
    // Within a message, a start line at the begin of a segment is body (message/sipfrag).
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
fn stream_seen_from_the_middle_is_read_from_the_next_message() {
    let bytes = trunk();
    let whole = framed(&mut SipFramer::default(), &[&bytes]);
    for begin in 5..bytes.len() {
        let mut framer = SipFramer::default();
        framer.gap(&mut |_| panic!("nothing was heard yet"));
        let found = framed(&mut framer, &[&bytes[begin..]]);
        // All messages that start after the cut are found, complete.
        assert!(
            whole.ends_with(&found) || found.iter().skip(1).eq(whole.iter().rev().take(found.len() - 1).rev()),
            "from {begin}"
        );
        assert!(found.len() + 1 >= whole.len() - whole_before(&whole, &bytes, begin), "from {begin}");
    }
}

/// Returns the number of messages that start before this offset.
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
    // The NOTIFY of a transfer has a status line in its body (RFC 3515 section 2.4.5).
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
    // The headers are complete, so the message is used with a truncated body.
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
    // A long but valid body: the message is output without it, and exactly the body is skipped.
    let long = MAX_STREAM_BUFFER;
    let mut bytes = format!("SIP/2.0 200 OK\r\ni: x\r\nl: {long}\r\n\r\n").into_bytes();
    bytes.extend(std::iter::repeat_n(b'\n', long));
    bytes.extend_from_slice(b"BYE sip:a SIP/2.0\r\ni: y\r\n\r\n");
    let mut framer = SipFramer::default();
    assert_eq!(framed(&mut framer, &[&bytes]).len(), 2);
    assert_eq!(framer.skipped(), 0);
}

#[test]
fn messages_that_are_too_long_are_counted_and_the_next_one_is_read() {
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
    // The first byte is a NUL, which counts as a keep-alive.
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
    }
}

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

/// Returns the client's direction of a WebSocket connection: upgrade, a message, a fragmented message with a ping inside,
/// a keep-alive, a message without Content-Length.
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
fn websocket_is_recognized_if_its_first_frame_is_split_anywhere() {
    let (plain, masked) = (SAME[0].1.to_vec(), frame(0x82, KEY, SAME[0].1));
    for cut in 1..masked.len() {
        let mut framer = SipFramer::default();
        let found = framed(&mut framer, &[&masked[..cut], &masked[cut..]]);
        assert_eq!((found, framer.transport()), (vec![plain.clone()], Transport::Ws), "cut at {cut}");
    }
    // The buffer for an incomplete frame is limited like the one for a start line.
    let mut framer = SipFramer::default();
    let noise = [&[0x82, 0x7e, 0x10, 0x00][..], &[b'x'; 2_048]].concat();
    assert_eq!(framed(&mut framer, &[&noise, b"\r\n", SAME[0].1]), [plain]);
    assert_eq!(framer.transport(), Transport::Tcp);
}

#[test]
fn invalid_websocket_frames_are_skipped() {
    let mut framer = SipFramer::default();
    let head = b"HTTP/1.1 101 x\r\nupgrade: websocket\r\n\r\n";
    // A reserved opcode, then a piece that begins with a valid frame.
    let found = framed(&mut framer, &[head, &[0x83, 0x01, 0x00], &frame(0x81, None, SAME[0].1)]);
    assert_eq!(found, [SAME[0].1]);
    // Compressed frames (RSV1) cannot be decoded.
    assert!(framed(&mut framer, &[&frame(0xc1, None, b"zzzz")]).is_empty());
    assert!(framer.skipped() >= 4);
}

#[test]
fn plain_http_is_given_up() {
    let mut framer = SipFramer::default();
    assert!(framed(&mut framer, &[b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"]).is_empty());
    assert!(framer.given_up());
}

/// Calls every getter of each message that parses.
fn exercise(bytes: &[u8]) {
    let _ = looks_like_sip(bytes);
    for framing in [SipFraming::Datagram, SipFraming::Stream] {
        let Ok(m) = SipMessage::parse(bytes, framing) else { continue };
        assert!(!m.call_id().is_empty());
        let _ = (m.from(), m.to(), m.contact(), m.via_branch(), m.sdp(), m.request_uri(), m.cseq());
        for (name, value) in m.all_headers() {
            let _ = (m.header(&name), m.values(&name));
            typed(&value);
        }
    }
}

fn typed(value: &str) {
    let _ = NameAddr::parse(value).map(|a| a.tag().map(str::len));
    let _ = (Replaces::parse(value), ReferTo::parse(value), SessionExpires::parse(value));
    let _ = (SessionId::parse(value), SipUri::parse(value));
}

fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4u8), 0..12);
    (0..SAME.len() + REFUSED.len(), edits).prop_map(|(which, edits)| {
        let mut bytes = SAME.get(which).map_or_else(|| REFUSED[which - SAME.len()].0.1, |f| f.1).to_vec();
        for (place, octet, kind) in edits {
            if bytes.is_empty() {
                break;
            }
            let at = place.index(bytes.len());
            match kind {
                0 => bytes[at] = octet,
                1 => bytes.insert(at, octet),
                2 => drop(bytes.remove(at)),
                _ => bytes.truncate(at),
            }
        }
        bytes
    })
}

proptest! {
    #[test]
    fn any_bytes_may_come(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        exercise(&bytes);
        typed(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn any_text_may_come(text in "[a-zA-Z0-9 <>\"\\\\;:,@=?&%\\[\\]+\r\n/.-]{0,200}") {
        exercise(text.as_bytes());
        typed(&text);
    }

    #[test]
    fn values_agree_with_rsip(
        name in "[A-Za-z]{1,8}", user in "[a-z0-9+]{1,12}", host in "[a-z]{1,8}\\.example", port in 1u16..,
        tag in "[a-z0-9]{1,12}", number in any::<u32>(), method in "(INVITE|ACK|BYE|UPDATE|REFER|PRACK)",
    ) {
        use rsip::headers::untyped::{ToTypedHeader, UntypedHeader};
        let value = format!("{name} <sip:{user}@{host}:{port};transport=udp>;tag={tag}");
        let theirs = rsip::headers::From::new(value.clone()).typed().unwrap();
        let ours = NameAddr::parse(&value).unwrap();
        prop_assert_eq!(ours.display, theirs.display_name.clone());
        prop_assert_eq!(ours.uri.user, theirs.uri.user().map(str::to_owned));
        prop_assert_eq!(ours.uri.host, theirs.uri.host().to_string());
        prop_assert_eq!(ours.uri.port, theirs.uri.port().map(|p| *p.value()));
        prop_assert_eq!(ours.params.get("tag"), theirs.tag().map(|t| t.value()));

        let value = format!("{number} {method}");
        let theirs = rsip::headers::CSeq::new(value.clone()).typed().unwrap();
        let text = format!("SIP/2.0 200 OK\r\ni: x\r\nCSeq: {value}\r\n\r\n");
        let ours = parse(text.as_bytes()).cseq().unwrap();
        prop_assert_eq!((ours.number, ours.method.to_string()), (theirs.seq, theirs.method.to_string()));
    }

    #[test]
    fn any_mutation_may_come(bytes in mutated()) {
        exercise(&bytes);
    }

    #[test]
    fn mutated_stream_yields_the_same_messages_for_any_split(
        messages in prop::collection::vec(mutated(), 1..5),
        cuts in prop::collection::vec(1..200usize, 1..40),
    ) {
        let bytes = messages.concat();
        // A piece that begins with a WebSocket frame changes the mode by design; these bytes contain none.
        let whole = framed(&mut SipFramer::default(), &[&bytes]);
        let mut framer = SipFramer::default();
        let (mut found, mut rest) = (Vec::new(), bytes.as_slice());
        for cut in cuts {
            let (piece, after) = rest.split_at(cut.min(rest.len()));
            framer.push(piece, &mut |m| found.push(m.to_vec()));
            rest = after;
        }
        framer.push(rest, &mut |m| found.push(m.to_vec()));
        let text = |all: &[Vec<u8>]| all.iter().map(|m| m.escape_ascii().to_string()).collect::<Vec<_>>();
        prop_assert_eq!(text(&found), text(&whole));
    }

    #[test]
    fn any_websocket_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 0..300usize) {
        let mut stream = b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n".to_vec();
        stream.extend_from_slice(&bytes);
        let mut framer = SipFramer::default();
        let (a, b) = stream.split_at(cut.min(stream.len()));
        framed(&mut framer, &[a, b]);
        framer.gap(&mut |_| {});
        framed(&mut framer, &[&stream]);
        framer.end(&mut |_| {});
    }
}
