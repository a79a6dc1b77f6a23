//! Tests with malformed SIP. The messages in `fixtures/sip/torture` were written for this project, like those of RFC
//! 4475 and RFC 5118. The messages of the RFCs themselves come from the folder `torture` of `CALLSPAN_CORPUS`.
//!
//! Each message goes through the parser and the engine. No message may begin a recording without a call.

use std::fs;
use std::path::PathBuf;

use callspan::call::Engine;
use callspan::call::config::Config;
use callspan::call::decision::Decision;
use callspan::call::event::{CallEvent, DiscardReason, EndedCall, KeptBytes, LegId, LegSink};
use callspan::call::record::CallVerdict;
use callspan::decode::UdpDatagram;
use callspan::net::Endpoint;
use callspan::sip::framer::SipFramer;
use callspan::sip::{SipFraming, SipMessage, SipMethod, SipParseError};
use callspan::time::Timestamp;

/// The result that is expected for a message.
#[derive(Clone, Copy, Debug)]
enum TortureExpectation {
    /// The message must be accepted.
    Parse,
    /// The message must be refused for this reason.
    Refuse(SipParseError),
    /// The message may be accepted or refused. The present result is stored, so that a change is noticed.
    Lenient(Option<SipParseError>),
}
use TortureExpectation::{Lenient, Parse, Refuse};

const RFC4475: [(&str, TortureExpectation); 51] = [
    ("wsinv", Parse),
    ("intmeth", Parse),
    ("esc01", Parse),
    ("escnull", Parse),
    ("esc02", Parse),
    ("lwsdisp", Parse),
    ("longreq", Parse),
    ("dblreq", Parse),
    ("semiuri", Parse),
    ("transports", Parse),
    ("mpart01", Parse),
    ("unreason", Parse),
    ("noreason", Parse),
    ("badinv01", Lenient(None)),
    ("clerr", Lenient(None)),
    ("ncl", Refuse(SipParseError::ContentLength)),
    ("scalar02", Lenient(None)),
    ("scalarlg", Lenient(None)),
    ("quotbal", Lenient(None)),
    ("ltgtruri", Lenient(None)),
    ("lwsruri", Lenient(None)),
    ("lwsstart", Lenient(None)),
    ("trws", Lenient(None)),
    ("escruri", Lenient(None)),
    ("baddate", Lenient(None)),
    ("regbadct", Lenient(None)),
    ("badaspec", Lenient(None)),
    ("baddn", Lenient(None)),
    ("baddn_terminated", Lenient(None)),
    ("badvers", Refuse(SipParseError::Version)),
    ("mismatch01", Refuse(SipParseError::MethodMismatch)),
    ("mismatch02", Refuse(SipParseError::MethodMismatch)),
    ("bigcode", Refuse(SipParseError::Status)),
    ("badbranch", Parse),
    ("insuf", Refuse(SipParseError::NoCallId)),
    ("unkscm", Parse),
    ("novelsc", Parse),
    ("unksm2", Parse),
    ("bext01", Parse),
    ("invut", Parse),
    ("regaut01", Parse),
    ("multi01", Refuse(SipParseError::Contradiction)),
    ("mcl01", Refuse(SipParseError::ContentLength)),
    ("bcast", Parse),
    ("zeromf", Parse),
    ("cparam01", Parse),
    ("cparam02", Parse),
    ("regescrt", Parse),
    ("sdp01", Parse),
    ("inv2543", Parse),
    ("test", Refuse(SipParseError::StartLine)),
];

const RFC5118: [&str; 12] = [
    "4.1_ipv6-good",
    "4.2_ipv6-bad",
    "4.3_port-ambiguous",
    "4.4_port-unambiguous",
    "4.5_via-received-param-with-delim",
    "4.5_via-received-param-no-delim",
    "4.6_ipv6-in-sdp",
    "4.7_mult-ip-in-header",
    "4.8_mult-ip-in-sdp",
    "4.9_ipv4-mapped-ipv6",
    "4.10_ipv6-bug-abnf-3-colons",
    "4.10_ipv6-correct-abnf-2-colons",
];

/// The messages of this project, each with its expected result.
const OURS: [(&str, TortureExpectation); 27] = [
    ("wild_spaces", Parse),
    ("odd_method", Parse),
    ("escaped_names", Parse),
    ("escaped_method_is_another", Parse),
    ("escaped_null", Parse),
    ("no_space_after_the_name", Parse),
    ("long_values", Parse),
    ("two_messages_in_a_datagram", Parse),
    ("semicolon_in_the_user", Parse),
    ("numbers_beyond_all_bounds", Lenient(None)),
    ("length_beyond_all_bounds", Lenient(None)),
    ("unknown_scheme", Parse),
    ("answer_to_nothing", Parse),
    ("no_forwards_left", Parse),
    ("open_quote", Lenient(None)),
    ("address_in_angle_brackets", Lenient(None)),
    ("spaces_in_the_address", Lenient(None)),
    ("start_line_alone", Refuse(SipParseError::NoCallId)),
    ("other_version", Refuse(SipParseError::Version)),
    ("another_method_in_cseq", Refuse(SipParseError::MethodMismatch)),
    ("status_of_ten_digits", Refuse(SipParseError::Status)),
    ("two_of_everything", Refuse(SipParseError::Contradiction)),
    ("before_2002", Parse),
    ("ipv6", Parse),
    ("ipv6_without_brackets", Lenient(None)),
    ("noise", Refuse(SipParseError::NoCallId)),
    ("../plain", Parse),
];

#[test]
fn each_message_of_ours_gets_its_verdict() {
    assert_verdicts(&OURS, ours);
}

#[test]
fn our_valid_messages_mean_what_they_say() {
    let bytes = ours("wild_spaces");
    let m = message(&bytes);
    assert_eq!(m.call_id(), "wild-spaces@192.0.2.21");
    let (from, to) = (m.from().unwrap(), m.to().unwrap());
    assert_eq!((from.uri.user.as_deref(), from.tag()), (Some("desk"), Some("f-wild")));
    assert_eq!((to.uri.user.as_deref(), to.tag()), (Some("hall"), None));
    assert_eq!(m.cseq().map(|c| c.number), Some(12));
    assert_eq!(m.via_branch().as_deref(), Some("z9hG4bK-wild"));
    assert_eq!(callspan::sdp::parse(&m.sdp().unwrap()).unwrap().media[0].port, 30_000);
    let bytes = ours("escaped_names");
    assert_eq!(message(&bytes).from().unwrap().uri.user.as_deref(), Some("front desk@hall"));
    let bytes = ours("escaped_method_is_another");
    assert_eq!(message(&bytes).method().unwrap().as_str(), "RE%47ISTER");
    let bytes = ours("two_messages_in_a_datagram");
    assert_eq!((message(&bytes).call_id(), message(&bytes).body().len()), ("first@192.0.2.21", 0));
    let bytes = ours("before_2002");
    assert_eq!((message(&bytes).from().unwrap().tag(), message(&bytes).body().len() > 90), (None, true));
    let bytes = ours("ipv6");
    let session = callspan::sdp::parse(&message(&bytes).sdp().unwrap()).unwrap();
    assert_eq!(session.media[0].connection.unwrap().to_string(), "2001:db8::21");
}

#[test]
fn no_message_of_ours_opens_a_ghost_recording() {
    for (name, verdict) in OURS {
        assert_no_ghost(name, &ours(name), verdict);
    }
    assert_no_ghosts_together(&OURS.map(|(name, _)| ours(name)));
}

#[test]
#[cfg_attr(not(has_corpus_torture), ignore = "needs CALLSPAN_CORPUS with torture")]
fn no_message_of_the_rfcs_opens_a_ghost_recording() {
    let (rfc4475, rfc5118) = (folder("rfc4475"), folder("rfc5118"));
    for (name, verdict) in RFC4475 {
        assert_no_ghost(name, &read(&rfc4475, name), verdict);
    }
    let mut all: Vec<Vec<u8>> = RFC4475.iter().map(|(name, _)| read(&rfc4475, name)).collect();
    all.extend(RFC5118.iter().map(|name| read(&rfc5118, name)));
    assert_no_ghosts_together(&all);
}

/// The results of two messages between two hosts, one second apart.
struct TortureOutcome {
    calls: Vec<EndedCall>,
    /// Number of legs with a spool that would be rendered.
    spools: usize,
    read: u64,
}

/// A leg sink that discards everything.
struct Nothing;

impl LegSink for Nothing {
    fn open(&mut self, _: LegId, _: &str) {}
    fn packet(&mut self, _: LegId, _: &UdpDatagram<'_>, _: KeptBytes) {}
    fn decide(&mut self, _: LegId, _: Timestamp, _: &Decision) {}
    fn close(&mut self, _: LegId) {}
    fn discard(&mut self, _: LegId, _: DiscardReason) {}
}

fn through_the_engine(messages: &[Vec<u8>]) -> TortureOutcome {
    let (mut engine, mut sink) = (Engine::new(Config::default(), "torture"), Nothing);
    let [a, b] = [21, 22].map(|host| Endpoint::v4([192, 0, 2, host], 5060));
    for (second, payload) in (1_795_417_200..).zip(messages) {
        let (src, dst) = if payload.starts_with(b"SIP/") { (b, a) } else { (a, b) };
        let wire_len = u32::try_from(payload.len()).expect("a datagram");
        let at = Timestamp::from_secs(second);
        engine.handle_datagram(&UdpDatagram { at, src, dst, payload, wire_len, interface: 0 }, &mut sink);
    }
    engine.handle_end_of_capture(&mut sink);
    assert_eq!((engine.live_calls(), engine.live_legs()), (0, 0));
    let ended = std::iter::from_fn(|| engine.poll_event()).filter_map(|event| match event {
        CallEvent::Ended(ended) => Some(*ended),
        _ => None,
    });
    let calls: Vec<EndedCall> = ended.collect();
    TortureOutcome { spools: calls.iter().map(|c| c.legs.len()).sum(), calls, read: engine.counters().sip_messages }
}

/// Checks that a refused message leaves nothing behind, and that an accepted message leaves at most one call without
/// sound.
#[track_caller]
fn assert_no_ghost(name: &str, bytes: &[u8], verdict: TortureExpectation) {
    let became = through_the_engine(&[bytes.to_vec()]);
    if matches!(verdict, Refuse(_) | Lenient(Some(_))) {
        assert_eq!((became.calls.len(), became.spools, became.read), (0, 0, 0), "{name}");
        return;
    }
    assert!(became.calls.len() <= 1, "{name}: {:#?}", became.calls);
    let m = message(bytes);
    // Only an INVITE and its responses can begin a call. Only a 2xx can begin a call with sound.
    let is_invite = m.cseq().is_some_and(|c| c.method == SipMethod::Invite);
    assert!(is_invite || became.calls.is_empty(), "{name}: {:#?}", became.calls);
    let is_answer = bytes.starts_with(b"SIP/2.0 2");
    assert!(is_answer || became.spools == 0, "{name}: {} spools", became.spools);
    assert_unheard(name, &became.calls);
}

/// Checks the same for all messages in a row. The traces of one message must not turn the next message into a call.
#[track_caller]
fn assert_no_ghosts_together(messages: &[Vec<u8>]) {
    let became = through_the_engine(messages);
    assert!(became.read > 0);
    assert_unheard("together", &became.calls);
}

#[track_caller]
fn assert_unheard(name: &str, calls: &[EndedCall]) {
    for call in calls {
        let record = &call.record;
        assert_eq!((record.sides.caller.packets, record.sides.callee.packets), (0, 0), "{name}: {record:#?}");
        let heard =
            matches!(record.verdict, Some(CallVerdict::BothSides | CallVerdict::CallerOnly | CallVerdict::CalleeOnly));
        assert!(!heard && record.recordings.is_empty(), "{name}: {record:#?}");
    }
}

#[test]
#[cfg_attr(not(has_corpus_torture), ignore = "needs CALLSPAN_CORPUS with torture")]
fn each_rfc4475_message_gets_the_verdict_of_the_catalogue() {
    let folder = folder("rfc4475");
    assert_verdicts(&RFC4475, |name| read(&folder, name));
}

#[track_caller]
fn assert_verdicts(messages: &[(&str, TortureExpectation)], bytes_of: impl Fn(&str) -> Vec<u8>) {
    let mut wrong = Vec::new();
    for (name, verdict) in messages {
        let bytes = bytes_of(name);
        let got = SipMessage::parse(&bytes, SipFraming::Datagram).err();
        let expected = match *verdict {
            Parse => None,
            Refuse(reason) => Some(reason),
            Lenient(what) => what,
        };
        if got != expected {
            wrong.push(format!("{name}: {got:?} instead of {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
#[cfg_attr(not(has_corpus_torture), ignore = "needs CALLSPAN_CORPUS with torture")]
fn the_valid_rfc4475_messages_mean_what_the_rfc_says() {
    let folder = folder("rfc4475");

    let bytes = read(&folder, "wsinv");
    let m = message(&bytes);
    assert_eq!(m.call_id(), "wsinv.ndaksdj@192.0.2.1");
    let cseq = m.cseq().unwrap();
    assert_eq!((cseq.number, cseq.method), (9, SipMethod::Invite));
    let (from, to) = (m.from().unwrap(), m.to().unwrap());
    assert_eq!((from.display.as_deref(), from.tag()), (Some("J Rosenberg \\\""), Some("98asjd8")));
    assert_eq!((to.uri.user.as_deref(), to.tag()), (Some("vivekg"), Some("1918181833n")));
    assert_eq!(m.body().len(), 150);
    assert_eq!(callspan::sdp::parse(&m.sdp().unwrap()).unwrap().media[0].port, 49217);
    assert_eq!(m.values("Via").len(), 3);
    assert_eq!(m.via_branch().as_deref(), Some("390skdjuw"));
    let contact = m.contact().unwrap();
    assert_eq!((contact.params.get("newparam"), contact.params.get("q")), (Some("newvalue"), Some("0.33")));

    let bytes = read(&folder, "intmeth");
    let m = message(&bytes);
    assert_eq!(m.method().unwrap().as_str(), "!interesting-Method0123456789_*+`.%indeed'~");
    assert_eq!(m.from().unwrap().tag(), Some("_token~1'+`*%!-."));
    assert_eq!(m.request_uri().unwrap().host, "example.com");

    let bytes = read(&folder, "esc01");
    assert_eq!(message(&bytes).from().unwrap().uri.user.as_deref(), Some("I have spaces"));
    let bytes = read(&folder, "escnull");
    assert!(message(&bytes).from().unwrap().uri.user.unwrap().starts_with("null-\0-null"));
    let bytes = read(&folder, "lwsdisp");
    assert_eq!(message(&bytes).from().unwrap().display.as_deref(), Some("caller"));
    let bytes = read(&folder, "longreq");
    // The number of Via values in the file was counted by hand.
    assert_eq!(message(&bytes).values("Via").len(), 34);
    let bytes = read(&folder, "semiuri");
    assert_eq!(message(&bytes).request_uri().unwrap().user.as_deref(), Some("user;par=u@example.net"));
    let bytes = read(&folder, "noreason");
    assert_eq!(message(&bytes).status(), Some(100));
    let bytes = read(&folder, "unksm2");
    assert_eq!(message(&bytes).call_id(), "unksm2.daksdj@hyphenated-host.example.com");
    let bytes = read(&folder, "ltgtruri");
    assert_eq!(message(&bytes).request_uri().unwrap().user.as_deref(), Some("user"));
    let bytes = read(&folder, "invut");
    assert!(message(&bytes).sdp().is_none());
    let bytes = read(&folder, "mpart01");
    assert!(message(&bytes).sdp().is_none());

    // There is no Content-Length, so the session description ends with the datagram.
    let bytes = read(&folder, "inv2543");
    let m = message(&bytes);
    assert!(m.from().unwrap().tag().is_none() && m.via_branch().is_none());
    assert_eq!(callspan::sdp::parse(&m.sdp().unwrap()).unwrap().media[0].port, 49217);

    // The Content-Length is longer than the datagram, so the body is the rest of the datagram and marked as cut.
    let bytes = read(&folder, "clerr");
    let m = message(&bytes);
    assert!(m.body_cut());
    assert_eq!(callspan::sdp::parse(&m.sdp().unwrap()).unwrap().media[0].port, 49217);
}

#[test]
#[cfg_attr(not(has_corpus_torture), ignore = "needs CALLSPAN_CORPUS with torture")]
fn trailing_bytes_are_ignored_in_datagrams_but_parsed_in_streams() {
    let folder = folder("rfc4475");
    let bytes = read(&folder, "dblreq");
    assert_eq!(message(&bytes).method(), Some(&SipMethod::Register));
    assert!(message(&bytes).body().is_empty());

    let mut methods = Vec::new();
    SipFramer::default()
        .push(&bytes, &mut |m| methods.push(SipMessage::parse(m, SipFraming::Stream).unwrap().method().cloned()));
    assert_eq!(methods, [Some(SipMethod::Register), Some(SipMethod::Invite)]);
}

#[test]
#[cfg_attr(not(has_corpus_torture), ignore = "needs CALLSPAN_CORPUS with torture")]
fn the_stream_fixtures_give_the_same_messages_however_they_are_cut() {
    let folder = folder("stream-fixtures");
    // The expected numbers of messages are the numbers of start lines. They were counted in the files by a regular
    // expression.
    for (name, count) in [("generic.txt", 227), ("lioneagle-sipparser.txt", 26)] {
        let bytes = fs::read(folder.join(name)).unwrap();
        let messages = |piece: usize| {
            let mut framer = SipFramer::default();
            let mut found = Vec::new();
            bytes.chunks(piece).for_each(|piece| framer.push(piece, &mut |m| found.push(m.to_vec())));
            framer.end(&mut |m| found.push(m.to_vec()));
            (found, framer.skipped())
        };
        let (whole, skipped) = messages(bytes.len());
        let parsed = whole.iter().filter(|m| SipMessage::parse(m, SipFraming::Stream).is_ok()).count();
        assert_eq!((whole.len(), parsed, skipped), (count, count, 0), "{name}");
        for piece in [1, 2, 3, 7, 100, 1460] {
            assert_eq!(messages(piece), (whole.clone(), skipped), "{name} in pieces of {piece}");
        }
    }
}

#[test]
#[cfg_attr(not(has_corpus_torture), ignore = "needs CALLSPAN_CORPUS with torture")]
fn each_rfc5118_message_is_taken_with_the_addresses_that_it_means() {
    let folder = folder("rfc5118");
    for name in RFC5118 {
        let bytes = read(&folder, name);
        let m = message(&bytes);
        assert!(m.from().is_some() && m.to().is_some() && m.cseq().is_some(), "{name}");
    }
    let host_port = |name: &str| {
        let bytes = read(&folder, name);
        let uri = message(&bytes).request_uri().unwrap();
        (uri.host, uri.port)
    };
    assert_eq!(host_port("4.1_ipv6-good"), ("2001:db8::10".into(), None));
    assert_eq!(host_port("4.2_ipv6-bad"), ("2001:db8::10".into(), None));
    assert_eq!(host_port("4.3_port-ambiguous"), ("2001:db8::10:5070".into(), None));
    assert_eq!(host_port("4.4_port-unambiguous"), ("2001:db8::10".into(), Some(5070)));
    let media = |name: &str| {
        let bytes = read(&folder, name);
        let session = callspan::sdp::parse(&message(&bytes).sdp().unwrap()).unwrap();
        session.media.iter().map(|m| (m.connection.unwrap().to_string(), m.port)).collect::<Vec<_>>()
    };
    assert_eq!(media("4.6_ipv6-in-sdp")[0], ("2001:db8::20".into(), 6000));
    assert_eq!(media("4.8_mult-ip-in-sdp"), [("192.0.2.1".into(), 22334), ("2001:db8::1".into(), 6024)]);
    assert_eq!(media("4.9_ipv4-mapped-ipv6")[0].0, "::ffff:192.0.2.2");
}

#[test]
#[cfg_attr(not(has_corpus_torture), ignore = "needs CALLSPAN_CORPUS with torture")]
fn messages_of_real_devices_are_taken_with_their_descriptions() {
    let folder = folder("sip-message-examples");
    // Each SIPREC INVITE has two audio m-lines, in a multipart body.
    for (name, audio) in [
        ("invite.txt", 1),
        ("invite-compact.txt", 1),
        ("invite-tls.txt", 1),
        ("200ok.txt", 1),
        ("siprec.txt", 2),
        ("siprec2.txt", 2),
        ("siprec3.txt", 2),
    ] {
        let bytes = fs::read(folder.join(name)).unwrap();
        let m = message(&bytes);
        let session = callspan::sdp::parse(&m.sdp().expect(name)).unwrap();
        assert_eq!(session.audio().count(), audio, "{name}");
        assert!(m.from().unwrap().tag().is_some() && m.cseq().is_some(), "{name}");
    }
}

fn message(bytes: &[u8]) -> SipMessage<'_> {
    SipMessage::parse(bytes, SipFraming::Datagram).expect("a message that must be taken")
}

fn ours(name: &str) -> Vec<u8> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/sip/torture");
    fs::read(folder.join(format!("{name}.sip"))).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn read(folder: &std::path::Path, name: &str) -> Vec<u8> {
    let path = folder.join(format!("{name}.dat"));
    fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn folder(name: &str) -> PathBuf {
    PathBuf::from(std::env::var_os("CALLSPAN_CORPUS").expect("set")).join("torture").join(name)
}
