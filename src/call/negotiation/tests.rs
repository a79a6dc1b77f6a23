use super::*;
use crate::call::decision::MissingKeyReason;
use crate::net::{Flow, PayloadType};

fn description(lines: &str) -> AudioDescription {
    let text = format!("v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n{lines}");
    AudioDescription::from_session(&crate::sdp::parse(text.as_bytes()).expect("a session description"))
}

fn protected(port: u16, key: char) -> String {
    let key: String = std::iter::repeat_n(key, 40).collect();
    format!("m=audio {port} RTP/SAVP 8\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{key}\r\n")
}

#[test]
fn the_accepted_audio_line_decides_encryption_and_hold() {
    let mut negotiation = Negotiation::default();
    let plain_first = format!("m=audio 4000 RTP/AVP 8\r\na=sendonly\r\n{}", protected(4002, 'a'));
    negotiation.announce(Side::Caller, description(&plain_first));
    negotiation.announce(Side::Callee, description(&format!("m=audio 0 RTP/AVP 8\r\n{}", protected(5002, 'b'))));
    for (side, key) in [(Side::Caller, 'a'), (Side::Callee, 'b')] {
        let StreamSecurity::Keys { context, .. } = negotiation.security(side) else { panic!("{side:?} has no keys") };
        assert!(context.keys[0].inline.starts_with(key));
    }
    negotiation.settle(Side::Caller);
    assert_eq!(negotiation.agreed().holding, [false, false], "the refused line held");
    // In the offer, the first m-line is unencrypted and `sendonly`, the second encrypted. The second answer accepts the
    // unencrypted m-line and refuses the encrypted one. So the call is now plain and on hold.
    negotiation.announce(Side::Callee, description("m=audio 5000 RTP/AVP 8\r\nm=audio 0 RTP/SAVP 8\r\n"));
    assert_eq!(negotiation.security(Side::Caller), StreamSecurity::Plain);
    negotiation.settle(Side::Caller);
    assert_eq!(negotiation.agreed().holding, [true, false]);
}

#[test]
fn each_of_two_audio_lines_has_its_own_keys() {
    let mut negotiation = Negotiation::default();
    let lines = |port: u16, key: char| format!("m=audio {port} RTP/AVP 8\r\n{}", protected(port + 2, key));
    negotiation.announce(Side::Caller, description(&lines(4000, 'a')));
    negotiation.announce(Side::Callee, description(&lines(5000, 'b')));
    let end = |port: u16| Endpoint::new("192.0.2.1".parse().expect("an address"), port);
    let of =
        |from: u16, to: u16, sender: Side| negotiation.security_of_flow(sender, Flow { src: end(from), dst: end(to) });
    assert_eq!(of(4000, 5000, Side::Caller), StreamSecurity::Plain);
    for (from, to, sender, key) in [(4002, 5002, Side::Caller, 'a'), (5002, 4002, Side::Callee, 'b')] {
        let StreamSecurity::Keys { context, .. } = of(from, to, sender) else { panic!("{sender:?} has no keys") };
        assert!(context.keys[0].inline.starts_with(key));
    }
}

#[test]
fn flow_without_audio_line_takes_the_format_of_the_answer_first() {
    let named = |port: u16, encoding: &str| {
        description(&format!("m=audio {port} RTP/AVP 98\r\na=rtpmap:98 {encoding}/8000\r\n"))
    };
    let mut negotiation = Negotiation::default();
    // The INVITE has no offer, so the caller has announced no format. Payload type 98 is iLBC for the callee, and Speex
    // only in another early dialog. So packets to the callee are iLBC.
    negotiation.announce_fork("other", named(5002, "speex"));
    negotiation.announce(Side::Callee, named(5000, "iLBC"));
    let end = |port: u16| Endpoint::new("192.0.2.1".parse().expect("an address"), port);
    let format = negotiation.payload_format(Side::Caller, Flow { src: end(4000), dst: end(5000) }, PayloadType(98));
    assert_eq!(format.map(|format| format.encoding).as_deref(), Some("ILBC"));
}

#[test]
fn early_media_after_an_srtp_offer_does_not_count_as_plain() {
    let mut negotiation = Negotiation::default();
    assert_eq!(negotiation.security(Side::Callee), StreamSecurity::Plain, "nobody said anything");
    negotiation.announce(Side::Caller, description(&protected(4000, 'a')));
    assert_eq!(negotiation.security(Side::Callee), StreamSecurity::Undecryptable(MissingKeyReason::NoKeys));
    negotiation.announce(Side::Callee, description(&protected(5000, 'b')));
    assert!(matches!(negotiation.security(Side::Callee), StreamSecurity::Keys { .. }));
}

#[test]
fn preferred_formats_of_a_long_description_stay_known() {
    let types: Vec<String> = (96..126).map(|pt| pt.to_string()).collect();
    let maps: String = types.iter().map(|pt| format!("a=rtpmap:{pt} opus/48000/2\r\n")).collect();
    let mut negotiation = Negotiation::default();
    negotiation.announce(Side::Caller, description(&format!("m=audio 4000 RTP/AVP {}\r\n{maps}", types.join(" "))));
    negotiation.announce(Side::Caller, description("m=audio 4000 RTP/AVP 8\r\n"));
    let end = |port: u16| Endpoint::new("192.0.2.1".parse().expect("an address"), port);
    let flow = Flow { src: end(5000), dst: end(4000) };
    assert!(negotiation.payload_format(Side::Callee, flow, PayloadType(96)).is_some());
}
