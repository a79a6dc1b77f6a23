//! A trunk: many G.711 calls, interleaved in time as on a network, frame by frame.
//!
//! Calls begin at regular intervals. Each call has its own dialog and ports, and 50 packets a second from each side.
//! About half of the sound is speech (noise with changing level) and half is silence.

#![allow(dead_code, unreachable_pub, reason = "each bench uses some of it, as a module of its own")]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::time::Duration;

/// The calls of a trunk.
#[derive(Clone, Copy, Debug)]
pub struct Trunk {
    /// Number of calls.
    pub calls: u32,
    /// Time from the answer of each call to its BYE.
    pub length: Duration,
    /// Time from the first INVITE to the last.
    pub spread: Duration,
}

/// The next step of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Invite,
    Ringing,
    Answer,
    Ack,
    /// Packet number `n` of a side.
    Sound(u32, usize),
    Bye,
    Over,
}

impl Trunk {
    /// Returns the sum of the lengths of all calls, seconds.
    pub fn call_seconds(&self) -> f64 {
        f64::from(self.calls) * self.length.as_secs_f64()
    }

    /// Passes every Ethernet frame to `each`, in order of time. The duration is the time after the first frame.
    ///
    /// # Errors
    /// Fails with the first error of `each`.
    pub fn play(&self, each: &mut dyn FnMut(Duration, &[u8]) -> io::Result<()>) -> io::Result<()> {
        let voice = Voice::new();
        let mut calls: Vec<Call> = (0..self.calls).map(|number| Call::new(number, &voice)).collect();
        let begin = |number: u32| self.spread / self.calls.max(1) * number;
        let mut due: BinaryHeap<Reverse<(Duration, u32, Step)>> =
            (0..self.calls).map(|number| Reverse((begin(number), number, Step::Invite))).collect();
        while let Some(Reverse((at, number, step))) = due.pop() {
            let call = &mut calls[number as usize];
            each(at, call.frame(step, &voice))?;
            if let Some((next, after)) = call.next(step, at - begin(number), self.length) {
                due.push(Reverse((at + after, number, next)));
            }
        }
        Ok(())
    }

    /// Writes the frames as a pcap file with ns timestamps.
    ///
    /// # Errors
    /// Fails if `out` fails.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&0xa1b2_3c4d_u32.to_le_bytes())?;
        out.write_all(&[2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0])?;
        out.write_all(&262_144_u32.to_le_bytes())?;
        out.write_all(&1_u32.to_le_bytes())?; // link type Ethernet
        self.play(&mut |at, frame| {
            let mut head = [0; 16];
            let words = [T0 + at.as_secs() as u32, at.subsec_nanos(), frame.len() as u32, frame.len() as u32];
            for (bytes, word) in head.chunks_exact_mut(4).zip(words) {
                bytes.copy_from_slice(&word.to_le_bytes());
            }
            out.write_all(&head)?;
            out.write_all(frame)
        })
    }
}

/// A call, and the frame that it sent last.
struct Call {
    number: u32,
    /// Templates of the RTP frames of both sides.
    sound: [Vec<u8>; 2],
    other: Vec<u8>,
}

impl Call {
    fn new(number: u32, voice: &Voice) -> Self {
        let sound = [0_u32, 1].map(|side| {
            let mut rtp = vec![0x80, 8];
            rtp.extend([0; 6]);
            rtp.extend((number * 2 + side).to_be_bytes());
            rtp.extend_from_slice(voice.packet(0, 0));
            let [from, to] = if side == 0 { [0, 1] } else { [1, 0] };
            udp(media(number, from), media(number, to), &rtp)
        });
        Self { number, sound, other: Vec::new() }
    }

    fn frame(&mut self, step: Step, voice: &Voice) -> &[u8] {
        self.other = match step {
            Step::Sound(n, side) => {
                let frame = &mut self.sound[side];
                frame[RTP + 1] = if n == 0 { 0x88 } else { 8 };
                frame[RTP + 2..RTP + 4].copy_from_slice(&(n as u16).to_be_bytes());
                frame[RTP + 4..RTP + 8].copy_from_slice(&(n * 160).to_be_bytes());
                frame[RTP + 12..].copy_from_slice(voice.packet(self.number * 2 + side as u32, n));
                return frame;
            }
            Step::Invite => self.sip(0, "INVITE sip:102@10.9.0.12 SIP/2.0", "1 INVITE", Some(media(self.number, 0))),
            Step::Ringing => self.sip(1, "SIP/2.0 180 Ringing", "1 INVITE", None),
            Step::Answer => self.sip(1, "SIP/2.0 200 OK", "1 INVITE", Some(media(self.number, 1))),
            Step::Ack => self.sip(0, "ACK sip:102@10.9.0.12 SIP/2.0", "1 ACK", None),
            Step::Bye => self.sip(0, "BYE sip:102@10.9.0.12 SIP/2.0", "2 BYE", None),
            Step::Over => self.sip(1, "SIP/2.0 200 OK", "2 BYE", None),
        };
        &self.other
    }

    /// Returns the step of a call that follows `step`, and the time between both steps. `at` is the time of `step`,
    /// counted from the start of the call.
    fn next(&self, step: Step, at: Duration, length: Duration) -> Option<(Step, Duration)> {
        let us = Duration::from_micros;
        Some(match step {
            Step::Invite => (Step::Ringing, us(20_000)),
            Step::Ringing => (Step::Answer, RING - us(20_000)),
            Step::Answer => (Step::Ack, us(1_000)),
            // The two sides do not send at the same moment.
            Step::Ack => (Step::Sound(0, 0), us(1_000 + u64::from(self.number) * 997 % 10_000)),
            Step::Sound(n, 0) => (Step::Sound(n, 1), us(7_000)),
            Step::Sound(..) if at + us(13_000) >= RING + length => (Step::Bye, us(13_000)),
            Step::Sound(n, _) => (Step::Sound(n + 1, 0), us(13_000)),
            Step::Bye => (Step::Over, us(1_000)),
            Step::Over => return None,
        })
    }

    /// Returns a SIP message from a side: 0 is the outside line, 1 is the PBX.
    fn sip(&self, side: usize, start: &str, cseq: &str, media: Option<Address>) -> Vec<u8> {
        let n = self.number;
        let tag = if start.starts_with("INVITE") { "" } else { ";tag=b" };
        let body = media.map_or_else(String::new, |(ip, port)| {
            format!(
                "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 8 101\r\n\
                 a=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\na=sendrecv\r\n"
            )
        });
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let text = format!(
            "{start}\r\nVia: SIP/2.0/UDP 10.9.0.11:5060;branch=z9hG4bK{n}-{cseq}\r\nMax-Forwards: 70\r\n\
             From: <sip:7495{n:07}@10.9.0.11>;tag=a{n}\r\nTo: <sip:{}@10.9.0.12>{tag}\r\nCall-ID: {n}@10.9.0.11\r\n\
             CSeq: {cseq}\r\nContact: <sip:x@10.9.0.{}:5060>\r\nAllow: INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, REFER\r\n\
             User-Agent: a trunk that was made up\r\n{kind}Content-Length: {}\r\n\r\n{body}",
            100 + n % 900,
            11 + side,
            body.len(),
        );
        let (outside, pbx) = ((Ipv4Addr::new(10, 9, 0, 11), 5060), (Ipv4Addr::new(10, 9, 0, 12), 5060));
        if side == 0 { udp(outside, pbx, text.as_bytes()) } else { udp(pbx, outside, text.as_bytes()) }
    }
}

type Address = (Ipv4Addr, u16);

/// Returns the media address of a side of a call. One IP address has the ports of 10,000 calls.
fn media(number: u32, side: u8) -> Address {
    let host = 1 + (number / 10_000) as u8;
    (Ipv4Addr::new(10, 10 + side, 0, host), 10_000 + (number % 10_000) as u16 * 2)
}

/// Sound for all calls. Each call uses another part of it.
struct Voice(Vec<u8>);

impl Voice {
    fn new() -> Self {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut sound = Vec::with_capacity(VOICE_PACKETS * 160);
        for n in 0..VOICE_PACKETS {
            // The two sides take turns of 1.3 s. A-law codes of the lowest segments are quiet (G.711 table 1a), so they
            // serve as silence.
            let speaks = n / 65 % 2 == 0;
            let quiet = rng.u8(2..6) << 4;
            sound.extend((0..160).map(|_| if speaks { 0x55 ^ (rng.u8(..) & (0x8F | quiet)) } else { 0xD5 }));
        }
        Self(sound)
    }

    fn packet(&self, who: u32, n: u32) -> &[u8] {
        let at = (who as usize * 37 + n as usize) % VOICE_PACKETS;
        &self.0[at * 160..][..160]
    }
}

/// Returns an Ethernet frame with a UDP datagram over IPv4. It has no UDP checksum (RFC 768 allows this).
fn udp(src: Address, dst: Address, payload: &[u8]) -> Vec<u8> {
    let length = |more: usize| (payload.len() as u16 + more as u16).to_be_bytes();
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0];
    frame.extend(length(28));
    frame.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
    frame.extend(src.0.octets());
    frame.extend(dst.0.octets());
    let sum: u32 = frame[14..].chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
    let checksum = !(((sum >> 16) + (sum & 0xffff)) as u16);
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    frame.extend(src.1.to_be_bytes());
    frame.extend(dst.1.to_be_bytes());
    frame.extend(length(8));
    frame.extend([0, 0]);
    frame.extend_from_slice(payload);
    frame
}

/// Time of the first frame, seconds since the epoch.
const T0: u32 = 1_795_417_200;
/// Time from the INVITE to its answer.
const RING: Duration = Duration::from_millis(1_500);
/// Offset of the RTP header in a frame, bytes.
const RTP: usize = 42;
/// Number of packets for which the sound suffices: 41 s.
const VOICE_PACKETS: usize = 2_048;
