//! A whole G.711 call with both voices, as Ethernet frames. Each frame has its time after the start of the call.

use std::time::Duration;

/// A call from an outside number to extension 102.
#[derive(Clone, Copy, Debug)]
pub struct CallFrames {
    /// Number that determines Call-ID, caller's number, ports and sound.
    pub number: u32,
    /// Time from the answer to the BYE.
    pub length: Duration,
}

impl CallFrames {
    /// Returns the Call-ID of the only dialog.
    pub fn call_id(&self) -> String {
        format!("talk-{}@10.9.0.11", self.number)
    }

    /// Returns the caller's number.
    pub fn from(&self) -> String {
        format!("7495{:07}", self.number)
    }

    /// Returns whether a frame of such a call is an RTP packet of the caller.
    pub fn is_rtp_of_caller(frame: &[u8]) -> bool {
        frame.len() == RTP_FRAME_BYTES && frame[26..30] == [10, 9, 0, 11]
    }

    /// Returns the frames in order: time after the start of the call, and bytes.
    pub fn frames(&self) -> Vec<(Duration, Vec<u8>)> {
        self.frames_of_voices([(self.number, 0); 2])
    }

    /// Returns the frames with voices of other calls, as a machine forwards them that relays two calls. `voices` has,
    /// for each side, the number of the call with the voice, and its first packet.
    pub fn frames_of_voices(&self, voices: [(u32, u16); 2]) -> Vec<(Duration, Vec<u8>)> {
        let ms = Duration::from_millis;
        let port = 20_000 + u16::try_from(self.number % 10_000).expect("below 10,000") * 4;
        let sdp = |host: &str, port: u16| {
            format!(
                "v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\nm=audio {port} RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\n"
            )
        };
        let (offer, answer) = (sdp(CALLER, port), sdp(CALLEE, port + 2));
        let ended = ms(ANSWER_MS) + self.length;
        let mut frames = vec![
            (ms(0), self.sip(FrameDirection::There, "INVITE sip:102@10.9.0.12 SIP/2.0", "1 INVITE", &offer)),
            (ms(2), self.sip(FrameDirection::Back, "SIP/2.0 180 Ringing", "1 INVITE", "")),
            (ms(ANSWER_MS), self.sip(FrameDirection::Back, "SIP/2.0 200 OK", "1 INVITE", &answer)),
            (ms(ANSWER_MS + 1), self.sip(FrameDirection::There, "ACK sip:102@10.9.0.12 SIP/2.0", "1 ACK", "")),
            (ended, self.sip(FrameDirection::There, "BYE sip:102@10.9.0.12 SIP/2.0", "2 BYE", "")),
            (ended + ms(1), self.sip(FrameDirection::Back, "SIP/2.0 200 OK", "2 BYE", "")),
        ];
        let packets = u16::try_from(self.length.as_millis() / 20).expect("a short call");
        for n in 0..packets {
            let at = ms(ANSWER_MS + 2 + 20 * u64::from(n));
            frames.push((at, udp((CALLER, port), (CALLEE, port + 2), &self.rtp(n, 1, voices[0]))));
            frames.push((at, udp((CALLEE, port + 2), (CALLER, port), &self.rtp(n, 2, voices[1]))));
        }
        frames.sort_by_key(|(at, _)| *at);
        frames
    }

    fn sip(&self, way: FrameDirection, start: &str, cseq: &str, body: &str) -> Vec<u8> {
        let (from, to) = match way {
            FrameDirection::There => (CALLER, CALLEE),
            FrameDirection::Back => (CALLEE, CALLER),
        };
        let n = self.number;
        let tag = if start.starts_with("INVITE") { "" } else { ";tag=b" };
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let text = format!(
            "{start}\r\nVia: SIP/2.0/UDP {CALLER}:5060;branch=z9hG4bK{n}-{cseq}\r\nFrom: <sip:{}@{CALLER}>;tag=a{n}\r\n\
             To: <sip:102@{CALLEE}>{tag}\r\nCall-ID: {}\r\nCSeq: {cseq}\r\nContact: <sip:x@{from}:5060>\r\n\
             {kind}Content-Length: {}\r\n\r\n{body}",
            self.from(),
            self.call_id(),
            body.len(),
        );
        udp((from, 5060), (to, 5060), text.as_bytes())
    }

    fn rtp(&self, n: u16, side: u32, (number, first): (u32, u16)) -> Vec<u8> {
        let mut packet = vec![0x80, if n == 0 { 0x88 } else { 8 }];
        packet.extend(n.to_be_bytes());
        packet.extend((u32::from(n) * 160).to_be_bytes());
        packet.extend((self.number * 2 + side).to_be_bytes());
        packet.extend(Self { number, ..*self }.sound(first + n, side));
        packet
    }

    /// Returns the A-law payload of packet `n` of a side (1: caller, 2: callee). Each payload is different noise.
    pub fn sound(&self, n: u16, side: u32) -> Vec<u8> {
        let mut rng = fastrand::Rng::with_seed(u64::from(self.number) << 20 | u64::from(n) << 2 | u64::from(side));
        std::iter::repeat_with(|| rng.u8(..)).take(160).collect()
    }
}

#[derive(Clone, Copy)]
enum FrameDirection {
    There,
    Back,
}

/// Returns an Ethernet frame with a UDP datagram over IPv4. It has no UDP checksum (RFC 768 allows this).
pub fn udp((src, sport): (&str, u16), (dst, dport): (&str, u16), payload: &[u8]) -> Vec<u8> {
    let ip = |text: &str| text.parse::<std::net::Ipv4Addr>().expect("an address").octets();
    let length = |more: usize| u16::try_from(payload.len() + more).expect("a datagram").to_be_bytes();
    let mut header = vec![0x45, 0];
    header.extend(length(28));
    header.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
    header.extend(ip(src));
    header.extend(ip(dst));
    let mut sum: u32 = header.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let checksum = !u16::try_from(sum).expect("folded");
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    frame.extend(header);
    frame.extend(sport.to_be_bytes());
    frame.extend(dport.to_be_bytes());
    frame.extend(length(8));
    frame.extend([0, 0]);
    frame.extend_from_slice(payload);
    frame
}

const CALLER: &str = "10.9.0.11";
const CALLEE: &str = "10.9.0.12";
/// Size of an RTP frame: headers of Ethernet, IPv4, UDP and RTP, and 20 ms of G.711.
const RTP_FRAME_BYTES: usize = 14 + 20 + 8 + 12 + 160;
/// Time from the INVITE to the answer, ms.
const ANSWER_MS: u64 = 40;
