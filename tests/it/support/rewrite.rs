//! Functions that rewrite a call: SIP in other styles and transports, IPv6 instead of IPv4, noise, reordering, one
//! direction only.
//!
//! They work on bytes, as [`super::packets`] does, and share no code with the code under test.

use std::collections::HashSet;

use super::captures::{is_rtp, udp_of};
use super::packets::{self, CapturedFrame};

/// A generator of pseudo-random numbers that are the same in every run.
pub struct FixedRandom(pub u64);

impl FixedRandom {
    pub fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

/// Returns whether a frame is a SIP message in one UDP datagram.
pub fn is_sip(packet: &CapturedFrame) -> bool {
    udp_of(&packet.data).is_some_and(|(_, _, payload)| sip_text(payload))
}

fn sip_text(payload: &[u8]) -> bool {
    payload.first().is_some_and(u8::is_ascii_uppercase) && payload.windows(4).any(|w| w == b"SIP/")
}

/// Returns whether the SIP message in a frame is a response.
pub fn is_response(packet: &CapturedFrame) -> bool {
    udp_of(&packet.data).is_some_and(|(_, _, payload)| payload.starts_with(b"SIP/2.0"))
}

/// Returns whether the SIP message in a frame begins with `with`.
pub fn begins(packet: &CapturedFrame, with: &str) -> bool {
    udp_of(&packet.data).is_some_and(|(_, _, payload)| payload.starts_with(with.as_bytes()))
}

/// Replaces each SIP message over UDP by the result of `f`. All other frames stay.
pub fn sip(packets: &[CapturedFrame], mut f: impl FnMut(&CapturedFrame, &[u8]) -> Vec<u8>) -> Vec<CapturedFrame> {
    let mut change = |p: &CapturedFrame| {
        let Some((_, _, payload)) = udp_of(&p.data).filter(|(_, _, payload)| sip_text(payload)) else {
            return p.clone();
        };
        let new = f(p, payload);
        CapturedFrame { at_ns: p.at_ns, data: with_payload(&p.data, &new) }
    };
    packets.iter().map(&mut change).collect()
}

fn with_payload(frame: &[u8], payload: &[u8]) -> Vec<u8> {
    let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let address = |at: usize| <[u8; 4]>::try_from(&frame[at..at + 4]).unwrap();
    let udp = packets::udp(word(34), word(36), payload);
    [&frame[..14], &packets::ipv4(address(26), address(30), 17, word(18), &udp)].concat()
}

/// Changes the header lines of a message by `f`. Start line and body stay.
fn headers(payload: &[u8], f: impl Fn(&str) -> String, line_end: &str) -> Vec<u8> {
    let text = String::from_utf8(payload.to_vec()).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let mut lines = head.split("\r\n");
    let mut out = String::from(lines.next().unwrap());
    for line in lines {
        out.push_str(line_end);
        out.push_str(&f(line));
    }
    format!("{out}{line_end}{line_end}{body}").into_bytes()
}

const COMPACT: [(&str, &str); 8] = [
    ("Via", "v"),
    ("From", "f"),
    ("To", "t"),
    ("Call-ID", "i"),
    ("Contact", "m"),
    ("Content-Type", "c"),
    ("Content-Length", "l"),
    ("Supported", "k"),
];

/// Returns the message with compact header names (RFC 3261 section 7.3.3), some in lower and some in upper case.
pub fn compact(payload: &[u8]) -> Vec<u8> {
    let short = |line: &str| {
        let (name, value) = line.split_once(':').unwrap();
        let found = COMPACT.iter().find(|(long, _)| long.eq_ignore_ascii_case(name.trim()));
        found.map_or_else(|| line.to_owned(), |(_, short)| format!("{short}:{value}"))
    };
    headers(payload, short, "\r\n")
}

/// Returns the message with every header value in a line below its name (folding, RFC 3261 section 7.3.1).
pub fn folded(payload: &[u8]) -> Vec<u8> {
    headers(payload, |line| line.replacen(':', ":\r\n\t ", 1), "\r\n")
}

/// Returns the message with line feeds instead of CRLF in its headers.
pub fn bare_lf(payload: &[u8]) -> Vec<u8> {
    headers(payload, str::to_owned, "\n")
}

/// Returns the message with white space wherever the grammar allows it, and header names in mixed case.
pub fn odd_spaces(payload: &[u8]) -> Vec<u8> {
    let odd = |line: &str| {
        let (name, value) = line.split_once(':').unwrap();
        let value = if name == "CSeq" { value.replace(' ', "   ") } else { value.replace(";tag=", " ; tag = ") };
        format!("{} \t:   {value} \t", name.to_ascii_uppercase())
    };
    headers(payload, odd, "\r\n")
}

/// Sends each SIP message as a WebSocket frame (RFC 6455, RFC 7118) over TCP, in segments of `cut` bytes, after the
/// handshake. The sender of the first message is the client; it masks its frames.
pub fn sip_over_websocket(packets: &[CapturedFrame], cut: usize) -> Vec<CapturedFrame> {
    let mut client = None;
    let mut greeted = HashSet::new();
    let framed = sip(packets, |p, payload| {
        let (src, dst, _) = udp_of(&p.data).unwrap();
        let from_client = *client.get_or_insert_with(|| src.clone()) == src;
        let mut out = Vec::new();
        if greeted.insert((src, dst)) {
            out.extend_from_slice(if from_client {
                &b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Protocol: sip\r\n\r\n"[..]
            } else {
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
            });
        }
        out.extend(frame(payload, from_client.then_some([0x12, 0x9a, 0xff, 0x01])));
        out
    });
    with_syn(&packets::sip_over_tcp(&framed, 5060, cut))
}

/// Adds the beginning of each TCP connection.
fn with_syn(packets: &[CapturedFrame]) -> Vec<CapturedFrame> {
    let mut known = HashSet::new();
    let mut out = Vec::new();
    for p in packets {
        if p.data[12..14] == [8, 0] && p.data[23] == 6 && known.insert(p.data[26..38].to_vec()) {
            let word = |at: usize| u16::from_be_bytes([p.data[at], p.data[at + 1]]);
            let address = |at: usize| <[u8; 4]>::try_from(&p.data[at..at + 4]).unwrap();
            let seq = u32::from_be_bytes(p.data[38..42].try_into().unwrap()).wrapping_sub(1);
            let ip = packets::ipv4(address(26), address(30), 6, 1, &packets::tcp((word(34), word(36)), seq, 2, &[]));
            out.push(CapturedFrame { at_ns: p.at_ns, data: packets::ethernet(0x0800, &ip) });
        }
        out.push(p.clone());
    }
    out
}

fn frame(payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let bit = if mask.is_some() { 0x80 } else { 0 };
    let mut out = vec![0x81];
    if payload.len() < 126 {
        out.push(bit | payload.len() as u8);
    } else {
        out.push(bit | 126);
        out.extend((payload.len() as u16).to_be_bytes());
    }
    out.extend(mask.iter().flatten());
    let key = mask.unwrap_or_default();
    out.extend(payload.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]));
    out
}

/// Replaces the addresses 10.9.0.N and 10.0.0.N by fd09::N, in the headers of packets and in SIP and SDP. Only for SIP
/// over UDP.
pub fn ipv6(packets: &[CapturedFrame]) -> Vec<CapturedFrame> {
    let change = |p: &CapturedFrame| {
        let (_, _, payload) = udp_of(&p.data)?;
        let payload = if sip_text(payload) { ipv6_text(payload) } else { payload.to_vec() };
        let port = |at: usize| u16::from_be_bytes([p.data[at], p.data[at + 1]]);
        let ip = packets::ipv6(p.data[29], p.data[33], 17, &packets::udp(port(34), port(36), &payload));
        Some(CapturedFrame { at_ns: p.at_ns, data: packets::ethernet(0x86dd, &ip) })
    };
    packets.iter().filter_map(change).collect()
}

fn ipv6_text(payload: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(payload.to_vec()).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let body = with_ipv6(&body.replace("IN IP4", "IN IP6"), |last| format!("fd09::{last:x}"));
    let mut head = with_ipv6(head, |last| format!("[fd09::{last:x}]"));
    let length = head.lines().find(|line| line.to_ascii_lowercase().starts_with("content-length")).map(str::to_owned);
    if let Some(line) = length {
        let (name, _) = line.split_once(':').unwrap();
        head = head.replace(&line, &format!("{name}: {}", body.len()));
    }
    format!("{head}\r\n\r\n{body}").into_bytes()
}

/// Replaces the addresses 10.9.0.N and 10.0.0.N of a text.
fn with_ipv6(text: &str, host: impl Fn(u8) -> String) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = ["10.9.0.", "10.0.0."].iter().filter_map(|prefix| rest.find(prefix)).min() {
        let (before, found) = rest.split_at(at);
        let last = &found["10.9.0.".len()..];
        let digits = last.find(|c: char| !c.is_ascii_digit()).unwrap_or(last.len());
        out.push_str(before);
        out.push_str(&host(last[..digits].parse().unwrap()));
        rest = &last[digits..];
    }
    out + rest
}

/// Replaces the UDP port `from` by `to` in the UDP headers. The ports in SIP and SDP stay.
pub fn moved_port(packets: &[CapturedFrame], from: u16, to: u16) -> Vec<CapturedFrame> {
    let change = |p: &CapturedFrame| {
        let mut data = p.data.clone();
        if udp_of(&p.data).is_some() {
            for at in [34, 36] {
                if data[at..at + 2] == from.to_be_bytes() {
                    data[at..at + 2].copy_from_slice(&to.to_be_bytes());
                }
            }
            data[40..42].fill(0);
        }
        CapturedFrame { at_ns: p.at_ns, data }
    };
    packets.iter().map(change).collect()
}

/// Splits each IPv6 packet into fragments of at most `size` bytes, a multiple of 8. The last fragment comes first.
pub fn fragmented_v6(packets: &[CapturedFrame], size: usize) -> Vec<CapturedFrame> {
    let pieces = |(id, p): (u32, &CapturedFrame)| -> Vec<CapturedFrame> {
        let ip = &p.data[14..];
        let frames = packets::fragments_v6(ip, size, id).into_iter().rev();
        frames.map(|ip| CapturedFrame { at_ns: p.at_ns, data: packets::ethernet(0x86dd, &ip) }).collect()
    };
    (1..).zip(packets).flat_map(pieces).collect()
}

fn is_tcp(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[8, 0]) && frame.get(23) == Some(&6)
}

/// Adds a SYN before the first segment of each TCP direction.
pub fn with_syns(packets: &[CapturedFrame]) -> Vec<CapturedFrame> {
    let (mut known, mut out) = (HashSet::new(), Vec::new());
    for p in packets {
        if is_tcp(&p.data) && known.insert(p.data[26..38].to_vec()) {
            let port = |at: usize| u16::from_be_bytes([p.data[at], p.data[at + 1]]);
            let address = |at: usize| <[u8; 4]>::try_from(&p.data[at..at + 4]).unwrap();
            let first = u32::from_be_bytes(p.data[38..42].try_into().unwrap());
            let syn = packets::tcp((port(34), port(36)), first.wrapping_sub(1), 2, &[]);
            let ip = packets::ipv4(address(26), address(30), 6, 0x6fff, &syn);
            out.push(CapturedFrame { at_ns: p.at_ns, data: packets::ethernet(0x0800, &ip) });
        }
        out.push(p.clone());
    }
    out
}

/// Adds each TCP segment once more, `later_ns` later. It is a retransmission and not a duplicate, because it has
/// another IP id.
pub fn retransmitted(packets: &[CapturedFrame], later_ns: i64) -> Vec<CapturedFrame> {
    let mut out = packets.to_vec();
    for (n, p) in (0x7000_u16..).zip(packets.iter().filter(|p| is_tcp(&p.data))) {
        let address = |at: usize| <[u8; 4]>::try_from(&p.data[at..at + 4]).unwrap();
        let ip = packets::ipv4(address(26), address(30), 6, n, &p.data[34..]);
        out.push(CapturedFrame { at_ns: p.at_ns + later_ns, data: packets::ethernet(0x0800, &ip) });
    }
    out.sort_by_key(|p| p.at_ns);
    out
}

/// Swaps consecutive segments of one TCP direction that have the same time.
pub fn swapped(packets: &[CapturedFrame]) -> Vec<CapturedFrame> {
    let mut out = packets.to_vec();
    let mut n = 0;
    while n + 1 < out.len() {
        let (a, b) = (&out[n], &out[n + 1]);
        let together = is_tcp(&a.data) && is_tcp(&b.data) && a.at_ns == b.at_ns && a.data[26..38] == b.data[26..38];
        if together {
            out.swap(n, n + 1);
            n += 1;
        }
        n += 1;
    }
    out
}

/// Splits each packet into fragments. The last fragment overlaps the previous one by 8 bytes, with the same content.
pub fn overlapping(packets: &[CapturedFrame], size: usize) -> Vec<CapturedFrame> {
    let lapped = |p: &CapturedFrame| -> Vec<CapturedFrame> {
        let mut pieces = packets::fragmented(&p.data, size);
        if let [.., before, last] = pieces.as_mut_slice() {
            let shared = before[before.len() - 8..].to_vec();
            let field = u16::from_be_bytes([last[20], last[21]]) - 1;
            let ip = packets::ipv4_fragment(&last[14..], field, &[&shared, &last[34..]].concat());
            *last = packets::ethernet(0x0800, &ip);
        }
        pieces.into_iter().map(|data| CapturedFrame { at_ns: p.at_ns, data }).collect()
    };
    packets.iter().flat_map(lapped).collect()
}

/// Adds four packets of RTP for each packet of the call. They are between random hosts, or go to random ports of the
/// call's hosts.
pub fn with_noise(packets: &[CapturedFrame]) -> Vec<CapturedFrame> {
    let mut dice = FixedRandom(7);
    let mut out = Vec::new();
    for p in packets {
        out.push(p.clone());
        for _ in 0..4 {
            let host = |dice: &mut FixedRandom| [10, 9, 0, [1, 11, 12, 13, 40, 41][dice.roll(6) as usize]];
            // The calls of the fixtures use the ports 20000 and 10000 to 18998, so these are avoided.
            let port = |dice: &mut FixedRandom| 30_000 + dice.roll(30_000) as u16;
            let mut rtp = vec![0x80, [0, 8, 96][dice.roll(3) as usize]];
            rtp.extend((0..10 + 160).map(|_| dice.roll(256) as u8));
            let udp = packets::udp(port(&mut dice), port(&mut dice), &rtp);
            let ip = packets::ipv4(host(&mut dice), host(&mut dice), 17, dice.roll(65_536) as u16, &udp);
            out.push(CapturedFrame { at_ns: p.at_ns, data: packets::ethernet(0x0800, &ip) });
        }
    }
    out
}

/// Simulates two interfaces that are read one after the other. Every other packet comes later in the file than its
/// timestamp, by up to `late_ns`.
pub fn disordered(packets: &[CapturedFrame], late_ns: u64) -> Vec<CapturedFrame> {
    let mut dice = FixedRandom(3);
    let mut order: Vec<(i64, &CapturedFrame)> = packets
        .iter()
        .enumerate()
        .map(|(i, p)| (p.at_ns + if i % 2 == 1 { dice.roll(late_ns).cast_signed() } else { 0 }, p))
        .collect();
    order.sort_by_key(|(at, _)| *at);
    order.into_iter().map(|(_, p)| p.clone()).collect()
}

/// Returns the frames for which `keep` returns true.
pub fn only(packets: &[CapturedFrame], keep: impl Fn(&CapturedFrame) -> bool) -> Vec<CapturedFrame> {
    packets.iter().filter(|p| keep(p)).cloned().collect()
}

/// Delays the frames for which `which` returns true by `by_ns`. The result is in order of time.
pub fn delayed(packets: &[CapturedFrame], by_ns: i64, which: impl Fn(&CapturedFrame) -> bool) -> Vec<CapturedFrame> {
    let late =
        |p: &CapturedFrame| CapturedFrame { at_ns: p.at_ns + if which(p) { by_ns } else { 0 }, data: p.data.clone() };
    let mut out: Vec<CapturedFrame> = packets.iter().map(late).collect();
    out.sort_by_key(|p| p.at_ns);
    out
}

/// Returns whether a frame is RTP over UDP.
pub fn carries_rtp(packet: &CapturedFrame) -> bool {
    udp_of(&packet.data).is_some_and(|(_, _, payload)| is_rtp(payload))
}

/// Returns whether a frame was sent from this address.
pub fn sent_by(packet: &CapturedFrame, address: &str) -> bool {
    udp_of(&packet.data).is_some_and(|(src, _, _)| src.rsplit_once(':').is_some_and(|(host, _)| host == address))
}
