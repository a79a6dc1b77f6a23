//! Random and mutated messages: nothing panics, and values agree with those of another parser.

use proptest::test_runner::FileFailurePersistence;

use super::framer::framed;
use super::*;

/// Calls every getter of a message, if the bytes parse as a message.
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
    // If a random test fails, proptest stores its input in a file beside this file, and repeats it in later runs.
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("proptest-regressions"))),
        ..ProptestConfig::default()
    })]

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
        // The split must not matter for these bytes. It would matter for bytes with WebSocket frames, because a piece
        // that begins with such a frame changes the framer's state.
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
