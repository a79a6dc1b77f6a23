use proptest::prelude::*;

use super::framer::{MAX_STREAM_BUFFER, SipFramer};
use super::message::MAX_HEADER_BYTES;
use super::*;
use crate::net::Transport;

mod framer;
mod random;
mod websocket;

macro_rules! fixture {
    ($name:literal) => {
        ($name, include_bytes!(concat!("../../../fixtures/sip/", $name, ".sip")).as_slice())
    };
}

/// Messages that mean the same but are written differently, e.g. with compact header names.
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
        // The session description in all fixtures has 7 lines.
        assert_eq!(sdp.iter().filter(|&&b| b == b'\n').count(), 7, "{name}");
        assert!(sdp.starts_with(b"v=0"), "{name}");
        assert_eq!(m.body_cut(), name == "body_cut");
    }
}

/// Returns an INVITE with a multipart body of this content type.
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
    // The text of the inner boundary begins with the text of the outer boundary, but must not be taken for it. The
    // header with the inner boundary is folded into two lines.
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
    let m = parse(include_bytes!("../../../fixtures/sip/status_without_reason.sip"));
    assert_eq!((m.status(), m.method()), (Some(180), None));
    assert_eq!(m.transaction_method(), Some(&SipMethod::Invite));
    let m = parse(include_bytes!("../../../fixtures/sip/windows_1251.sip"));
    let from = m.from().unwrap();
    // Four bytes of the display name are not valid UTF-8.
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
    // A quote or bracket that is not closed is an ordinary character, so the header is split at all commas.
    let m = parse(b"SIP/2.0 200 OK\r\ni: x\r\nRoute: \"a, <b, c\r\n\r\n");
    assert_eq!(m.values("Route"), ["\"a", "<b", "c"]);
}

#[test]
fn addresses_are_taken_apart() {
    // Each case has a header value, and the expected display name, user, host, port and tag.
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
        (number.params.get("rn"), number.params.get("USER"), number.params.get("npdi").is_some()),
        (Some("+7888"), Some("phone"), true)
    );
    assert_eq!(SipUri::parse("SIPS:a@b").scheme, crate::sip::address::UriScheme::Sips);
    assert_eq!(SipUri::parse("urn:service:sos").scheme, crate::sip::address::UriScheme::Other);
    assert_eq!(SipUri::parse("sip:%61%zz%4@b").user.as_deref(), Some("a%zz%4"));
}

#[test]
fn transfer_headers_are_parsed() {
    let r = Replaces::parse("98732@x ; from-tag=r33th4x0r;to-tag=ff87ff;early-only").unwrap();
    assert_eq!((r.call_id.as_str(), r.to_tag.as_str(), r.from_tag.as_str()), ("98732@x", "ff87ff", "r33th4x0r"));
    for refer in [
        "<sip:300@pbx?Replaces=abc%40h%3Bto-tag%3D1%3Bfrom-tag%3D2&Require=replaces>",
        // Some telephones do not escape the Replaces header in the URI. It must be found nevertheless.
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
