//! The made-up call: its SIP messages (RFC 3261), session descriptions and RTP packets, each with its time.

use std::net::Ipv4Addr;
use std::time::Duration;

use rsip::headers::{ContentLength, MaxForwards, UntypedHeader as _};
use rsip::param::{Branch, Tag};
use rsip::{Header, Method, Param, Scheme, StatusCode, Uri, typed};
use rtp_rs::{RtpPacketBuilder, Seq};

use super::tones::tone_packet;
use crate::call::record::Side;
use crate::call::test_call::TEST_CALL_HEADER;

/// The facts from which the packets of a test call are made.
#[derive(Clone, Debug)]
pub(super) struct ScriptFacts<'a> {
    /// Telephone numbers of caller and callee, in this order.
    pub(super) numbers: [&'a str; 2],
    /// UDP port from and to which the SIP messages are sent.
    pub(super) sip_port: u16,
    /// Time between the 200 response to the INVITE and the BYE.
    pub(super) talk: Duration,
    /// Call-ID of the dialog.
    pub(super) call_id: &'a str,
    /// Value of the header by which the recorder recognizes the call.
    pub(super) proof: &'a str,
}

/// A packet of the test call that is still to be sent.
#[derive(Clone, Debug)]
pub(super) struct ScriptedPacket {
    /// Time at which the packet is sent, counted from the INVITE.
    pub(super) at: Duration,
    /// The side of the call that sends the packet.
    pub(super) sender: Side,
    /// UDP ports of sender and receiver.
    pub(super) ports: PacketPorts,
    /// UDP payload: a SIP message or an RTP packet.
    pub(super) payload: Vec<u8>,
}

/// Source and destination UDP port of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PacketPorts {
    /// UDP port of the sender.
    pub(super) from: u16,
    /// UDP port of the receiver.
    pub(super) to: u16,
}

/// Returns the packets of the call, in order of time.
pub(super) fn packets(facts: &ScriptFacts<'_>) -> Vec<ScriptedPacket> {
    let dialog = ScriptDialog::new(facts);
    let (answer, bye) = (ANSWER, ANSWER + facts.talk);
    let sip = |at, sender, payload| {
        let ports = PacketPorts { from: facts.sip_port, to: facts.sip_port };
        ScriptedPacket { at, sender, ports, payload }
    };
    let (caller, callee) = (Side::Caller, Side::Callee);
    let mut packets = vec![
        sip(Duration::ZERO, caller, dialog.request(Method::Invite, &dialog.sdp(caller))),
        sip(TRYING, callee, dialog.response(StatusCode::Trying, Method::Invite, "")),
        sip(RINGING, callee, dialog.response(StatusCode::Ringing, Method::Invite, "")),
        sip(answer, callee, dialog.response(StatusCode::OK, Method::Invite, &dialog.sdp(callee))),
        sip(answer + STEP, caller, dialog.request(Method::Ack, "")),
    ];
    for side in [caller, callee] {
        packets.extend(media(side, answer + 2 * STEP, rtp_count(facts.talk)));
    }
    packets.push(sip(bye, caller, dialog.request(Method::Bye, "")));
    packets.push(sip(bye + STEP, callee, dialog.response(StatusCode::OK, Method::Bye, "")));
    packets.sort_by_key(|packet| packet.at);
    packets
}

/// Returns the number of RTP packets that each side sends during the time `talk`.
pub(super) fn rtp_count(talk: Duration) -> u32 {
    let ms = u32::try_from(talk.saturating_sub(4 * STEP).as_millis()).unwrap_or(u32::MAX);
    ms / PTIME_MS
}

/// Returns the IP address of a side. It is a documentation address (RFC 5737), which no host has. So no real host
/// reacts to the packets.
pub(super) const fn host(side: Side) -> Ipv4Addr {
    match side {
        Side::Caller => Ipv4Addr::new(192, 0, 2, 11),
        Side::Callee => Ipv4Addr::new(192, 0, 2, 12),
    }
}

const fn media_port(side: Side) -> u16 {
    match side {
        Side::Caller => 40_000,
        Side::Callee => 40_002,
    }
}

/// Returns the RTP packets (RFC 3550) of one side, with its tone in G.711 A-law.
fn media(side: Side, from: Duration, count: u32) -> impl Iterator<Item = ScriptedPacket> {
    let (ssrc, first, begin) = (fastrand::u32(..), fastrand::u16(..), fastrand::u32(..));
    let ports = PacketPorts { from: media_port(side), to: media_port(side.other()) };
    (0..count).map(move |n| {
        let sound = tone_packet(side, n);
        let builder = RtpPacketBuilder::new()
            .payload_type(PCMA)
            .marked(n == 0)
            .ssrc(ssrc)
            .sequence(Seq::from(first.wrapping_add(u16::try_from(n % 65_536).unwrap_or(0))))
            .timestamp(begin.wrapping_add(n.wrapping_mul(PTIME_MS * 8)))
            .payload(&sound);
        let payload = builder.build().expect("payload type 8 is valid, and the buffer has the right size");
        ScriptedPacket { at: from + Duration::from_millis(u64::from(n * PTIME_MS)), sender: side, ports, payload }
    })
}

/// Identifiers that all messages of the dialog contain: tags and Via branch.
struct ScriptDialog<'a> {
    facts: &'a ScriptFacts<'a>,
    from: typed::From,
    to: typed::To,
    /// Via branch of the INVITE. Every other request has a different branch.
    branch: String,
}

impl<'a> ScriptDialog<'a> {
    fn new(facts: &'a ScriptFacts<'a>) -> Self {
        let tag = || Param::Tag(Tag::new(format!("{:016x}", fastrand::u64(..))));
        let uri = |side: Side| uri(Some(facts.numbers[side.channel()]), side, facts.sip_port);
        Self {
            facts,
            from: typed::From { display_name: None, uri: uri(Side::Caller), params: vec![tag()] },
            to: typed::To { display_name: None, uri: uri(Side::Callee), params: vec![tag()] },
            branch: format!("z9hG4bK{:016x}", fastrand::u64(..)),
        }
    }

    fn request(&self, method: Method, body: &str) -> Vec<u8> {
        let mut to = self.to.clone();
        if method == Method::Invite {
            to.params.clear(); // an INVITE has no To tag yet (RFC 3261 section 8.1.1.2)
        }
        let mut headers = self.headers(method, to);
        if method == Method::Invite {
            headers.push(Header::Other(TEST_CALL_HEADER.to_owned(), self.facts.proof.to_owned()));
        }
        headers.push(MaxForwards::from(70).into());
        self.add_body(&mut headers, Side::Caller, body);
        let uri = self.to.uri.clone();
        let request =
            rsip::Request { method, uri, version: rsip::Version::V2, headers: headers.into(), body: body.into() };
        request.to_string().into_bytes()
    }

    fn response(&self, status_code: StatusCode, to: Method, body: &str) -> Vec<u8> {
        let mut headers = self.headers(to, self.to.clone());
        self.add_body(&mut headers, Side::Callee, body);
        let response =
            rsip::Response { status_code, version: rsip::Version::V2, headers: headers.into(), body: body.into() };
        response.to_string().into_bytes()
    }

    fn headers(&self, method: Method, to: typed::To) -> Vec<Header> {
        let seq = if method == Method::Bye { 2 } else { 1 };
        let via = typed::Via {
            version: rsip::Version::V2,
            transport: rsip::Transport::Udp,
            uri: Uri { scheme: None, ..uri(None, Side::Caller, self.facts.sip_port) },
            params: vec![Param::Branch(Branch::new(format!("{}{method}", self.branch)))],
        };
        vec![
            via.into(),
            self.from.clone().into(),
            to.into(),
            rsip::headers::CallId::new(self.facts.call_id).into(),
            typed::CSeq { seq, method }.into(),
            rsip::headers::UserAgent::new("callspan test-call").into(),
        ]
    }

    fn add_body(&self, headers: &mut Vec<Header>, sender: Side, body: &str) {
        let contact = uri(None, sender, self.facts.sip_port);
        headers.push(typed::Contact { display_name: None, uri: contact, params: Vec::new() }.into());
        if !body.is_empty() {
            headers.push(typed::ContentType(typed::MediaType::Sdp(Vec::new())).into());
        }
        headers.push(ContentLength::from(u32::try_from(body.len()).unwrap_or(0)).into());
    }

    /// Returns the session description (RFC 4566) of a side.
    fn sdp(&self, side: Side) -> String {
        let (host, port) = (host(side), media_port(side));
        format!(
            "v=0\r\no=callspan 1 1 IN IP4 {host}\r\ns=test call\r\nc=IN IP4 {host}\r\nt=0 0\r\nm=audio {port} RTP/AVP \
             {PCMA}\r\na=rtpmap:{PCMA} PCMA/8000\r\na=ptime:{PTIME_MS}\r\na=sendrecv\r\n"
        )
    }
}

fn uri(user: Option<&str>, side: Side, port: u16) -> Uri {
    Uri {
        scheme: Some(Scheme::Sip),
        auth: user.map(|user| (user.to_owned(), None::<String>).into()),
        host_with_port: std::net::SocketAddr::from((host(side), port)).into(),
        ..Uri::default()
    }
}

/// Time from the INVITE to the response 100. The callee then rings after 0.2 s and answers after 1 s.
const TRYING: Duration = Duration::from_millis(20);
const RINGING: Duration = Duration::from_millis(200);
const ANSWER: Duration = Duration::from_millis(1_000);
/// Pause between messages that directly follow each other, e.g. 200 and ACK.
const STEP: Duration = Duration::from_millis(20);
/// Payload type of G.711 A-law (RFC 3551 table 4).
const PCMA: u8 = 8;
/// Duration of the sound in one RTP packet, ms.
pub(super) const PTIME_MS: u32 = 20;
