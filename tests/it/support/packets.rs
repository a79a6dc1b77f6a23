//! Functions that change a capture as a kind of mirror port would: tagged, cooked, tunnelled, fragmented or duplicated
//! frames.
//!
//! They work on bytes and share no code with the code under test.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses some of the builders, as a module of its own")]
#![allow(clippy::unwrap_used, reason = "a builder that fails is a failed test")]

/// A captured frame: its time in ns since the epoch, and its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapturedFrame {
    pub at_ns: i64,
    pub data: Vec<u8>,
}

/// Link types by their LINKTYPE numbers.
pub const ETHERNET: u16 = 1;
pub const RAW_IP: u16 = 101;
pub const SLL: u16 = 113;
pub const SLL2: u16 = 276;
pub const NULL: u16 = 0;

// ---- files

/// Reads a little-endian classic pcap file of Ethernet frames, as tcpdump writes it on most machines.
pub fn read_pcap(bytes: &[u8]) -> Vec<CapturedFrame> {
    let u32le = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let unit = match u32le(0) {
        0xa1b2_c3d4 => 1000,
        0xa1b2_3c4d => 1,
        magic => panic!("not a little-endian pcap: {magic:x}"),
    };
    assert_eq!(u32le(20) & 0xffff, u32::from(ETHERNET), "builders start from Ethernet");
    let mut packets = Vec::new();
    let mut at = 24;
    while at + 16 <= bytes.len() {
        let len = u32le(at + 8) as usize;
        let at_ns = i64::from(u32le(at)) * 1_000_000_000 + i64::from(u32le(at + 4)) * unit;
        packets.push(CapturedFrame { at_ns, data: bytes[at + 16..at + 16 + len].to_vec() });
        at += 16 + len;
    }
    packets
}

/// Returns a classic pcap file with ns timestamps.
pub fn write_pcap(link: u16, packets: &[CapturedFrame]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(0xa1b2_3c4d_u32.to_le_bytes());
    out.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    out.extend(262_144_u32.to_le_bytes());
    out.extend(u32::from(link).to_le_bytes());
    for p in packets {
        let len = (p.data.len() as u32).to_le_bytes();
        out.extend(((p.at_ns / 1_000_000_000) as u32).to_le_bytes());
        out.extend(((p.at_ns % 1_000_000_000) as u32).to_le_bytes());
        out.extend([len, len].concat());
        out.extend_from_slice(&p.data);
    }
    out
}

/// Returns a pcapng file with two interfaces. Every other packet is an Ethernet frame with us timestamps on the first
/// interface. The other packets are raw IP with ns timestamps on the second interface. All timestamps are cut to
/// microseconds.
pub fn write_pcapng_two_interfaces(packets: &[CapturedFrame]) -> Vec<u8> {
    let block = |kind: u32, body: &[u8]| {
        let padded = body.len().next_multiple_of(4);
        let mut out = [kind.to_le_bytes(), (padded as u32 + 12).to_le_bytes()].concat();
        out.extend_from_slice(body);
        out.resize(8 + padded, 0);
        out.extend((padded as u32 + 12).to_le_bytes());
        out
    };
    let mut out = block(0x0a0d_0d0a, &[&0x1a2b_3c4d_u32.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat());
    out.extend(block(1, &[1, 0, 0, 0, 0, 0, 4, 0]));
    out.extend(block(1, &[101, 0, 0, 0, 0, 0, 4, 0, 9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0]));
    for (i, p) in packets.iter().enumerate() {
        let us = p.at_ns as u64 / 1000;
        let (interface, units, data) =
            if i % 2 == 1 && is_ip(&p.data) { (1_u32, us * 1000, &p.data[14..]) } else { (0, us, &p.data[..]) };
        let len = data.len() as u32;
        let words = [interface, (units >> 32) as u32, units as u32, len, len];
        let head: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        out.extend(block(6, &[&head, data].concat()));
    }
    out
}

// ---- whole captures

/// Replaces each frame by the frames that `f` makes of it. They have the time of the original.
pub fn each(packets: &[CapturedFrame], f: impl Fn(&[u8]) -> Vec<Vec<u8>>) -> Vec<CapturedFrame> {
    packets.iter().flat_map(|p| f(&p.data).into_iter().map(|data| CapturedFrame { at_ns: p.at_ns, data })).collect()
}

/// Adds a duplicate of each frame `later_ns` later. `f` changes the duplicate. The result is in order of time.
pub fn doubled(packets: &[CapturedFrame], later_ns: i64, f: impl Fn(&[u8]) -> Vec<u8>) -> Vec<CapturedFrame> {
    let mut all = packets.to_vec();
    all.extend(packets.iter().map(|p| CapturedFrame { at_ns: p.at_ns + later_ns, data: f(&p.data) }));
    all.sort_by_key(|p| p.at_ns);
    all
}

// ---- one frame

fn is_ip(frame: &[u8]) -> bool {
    matches!(frame.get(12..14), Some([0x08, 0x00] | [0x86, 0xdd]))
}

/// Returns an Ethernet frame with a payload.
pub fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    out.extend(ethertype.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// Returns the frame with these VLAN tags (ethertype of the tag, VLAN number), outermost first.
pub fn tagged(frame: &[u8], tags: &[(u16, u16)]) -> Vec<u8> {
    let mut out = frame[..12].to_vec();
    for (kind, vlan) in tags {
        out.extend([kind.to_be_bytes(), vlan.to_be_bytes()].concat());
    }
    out.extend_from_slice(&frame[12..]);
    out
}

/// Returns the frame as Linux cooked capture v1.
pub fn cooked(frame: &[u8]) -> Vec<u8> {
    let mut out = vec![0, 0, 0, 1, 0, 6];
    out.extend_from_slice(&frame[6..12]);
    out.extend([0, 0]);
    out.extend_from_slice(&frame[12..]);
    out
}

/// Returns the frame as Linux cooked capture v2.
pub fn cooked2(frame: &[u8]) -> Vec<u8> {
    let mut out = frame[12..14].to_vec();
    out.extend([0, 0, 0, 0, 0, 2, 0, 1, 0, 6]);
    out.extend_from_slice(&frame[6..12]);
    out.extend([0, 0]);
    out.extend_from_slice(&frame[14..]);
    out
}

/// Returns the IP packet of a frame as the only element; no element for a frame without IP.
pub fn raw_ip(frame: &[u8]) -> Vec<Vec<u8>> {
    if is_ip(frame) { vec![frame[14..].to_vec()] } else { vec![] }
}

/// Returns the frame as BSD loopback twice: with each byte order of the address family.
pub fn loopback(frame: &[u8]) -> Vec<Vec<u8>> {
    raw_ip(frame).into_iter().map(|ip| [&[if ip[0] >> 4 == 4 { 2 } else { 30 }, 0, 0, 0], &ip[..]].concat()).collect()
}

/// Returns the frame with additional bytes behind the packet, as a tap or a switch with timestamps adds them.
pub fn with_trailer(frame: &[u8], trailer: &[u8]) -> Vec<u8> {
    [frame, trailer].concat()
}

// ---- IP

pub fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes.chunks(2).map(|c| u32::from(c[0]) << 8 | c.get(1).map_or(0, |b| u32::from(*b))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn fix_ipv4(ip: &mut [u8]) {
    let header = usize::from(ip[0] & 15) * 4;
    ip[10..12].fill(0);
    let sum = checksum(&ip[..header]);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// Returns an IPv4 packet.
pub fn ipv4(src: [u8; 4], dst: [u8; 4], protocol: u8, id: u16, payload: &[u8]) -> Vec<u8> {
    let total = (20 + payload.len()) as u16;
    let mut out = vec![0x45, 0, (total >> 8) as u8, total as u8, (id >> 8) as u8, id as u8, 0, 0, 64, protocol, 0, 0];
    out.extend_from_slice(&src);
    out.extend_from_slice(&dst);
    fix_ipv4(&mut out);
    out.extend_from_slice(payload);
    out
}

/// Returns an IPv6 packet between two addresses of which `src` and `dst` are the last bytes. `next` is the type of the
/// first header in `payload`.
pub fn ipv6(src: u8, dst: u8, next: u8, payload: &[u8]) -> Vec<u8> {
    let [src, dst] = [src, dst].map(|last| [0xfd, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    ipv6_between(src, dst, next, payload)
}

/// Returns an IPv6 packet. `next` is the type of the first header in `payload`.
pub fn ipv6_between(src: [u8; 16], dst: [u8; 16], next: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0x60, 0, 0, 0, (payload.len() >> 8) as u8, payload.len() as u8, next, 64];
    out.extend([src, dst].as_flattened());
    out.extend_from_slice(payload);
    out
}

pub fn udp(src: u16, dst: u16, payload: &[u8]) -> Vec<u8> {
    let len = (8 + payload.len()) as u16;
    let mut out = [src.to_be_bytes(), dst.to_be_bytes(), len.to_be_bytes(), [0, 0]].concat();
    out.extend_from_slice(payload);
    out
}

/// Returns a TCP segment. The values of `flags` are FIN 1, SYN 2, RST 4, PSH 8, ACK 16.
pub fn tcp(ports: (u16, u16), seq: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
    out.extend(seq.to_be_bytes());
    out.extend([0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    out.extend_from_slice(payload);
    out
}

/// Returns the fragments of an IPv4 packet in order. Each has at most `size` bytes of payload, a multiple of 8.
pub fn fragments_v4(ip: &[u8], size: usize) -> Vec<Vec<u8>> {
    let header = usize::from(ip[0] & 15) * 4;
    let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
    let payload = &ip[header..total];
    let count = payload.len().div_ceil(size);
    let piece = |(i, chunk): (usize, &[u8])| {
        let mut out = ip[..header].to_vec();
        out[2..4].copy_from_slice(&((header + chunk.len()) as u16).to_be_bytes());
        let more = if i + 1 < count { 0x2000 } else { 0 };
        out[6..8].copy_from_slice(&((i * size / 8) as u16 | more).to_be_bytes());
        fix_ipv4(&mut out);
        out.extend_from_slice(chunk);
        out
    };
    payload.chunks(size).enumerate().map(piece).collect()
}

/// Returns an IPv4 fragment with the addresses and the id of `like`. `field` is the 16-bit field with flags and offset.
pub fn ipv4_fragment(like: &[u8], field: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = like[..20].to_vec();
    out[2..4].copy_from_slice(&((20 + payload.len()) as u16).to_be_bytes());
    out[6..8].copy_from_slice(&field.to_be_bytes());
    fix_ipv4(&mut out);
    out.extend_from_slice(payload);
    out
}

/// Returns the fragments of an IPv6 packet that has no extension headers.
pub fn fragments_v6(ip: &[u8], size: usize, id: u32) -> Vec<Vec<u8>> {
    let payload = &ip[40..];
    let count = payload.len().div_ceil(size);
    let piece = |(i, chunk): (usize, &[u8])| {
        let mut out = ip[..40].to_vec();
        out[4..6].copy_from_slice(&((8 + chunk.len()) as u16).to_be_bytes());
        out[6] = 44;
        let more = u16::from(i + 1 < count);
        out.extend([ip[6], 0]);
        out.extend(((i * size) as u16 | more).to_be_bytes());
        out.extend(id.to_be_bytes());
        out.extend_from_slice(chunk);
        out
    };
    payload.chunks(size).enumerate().map(piece).collect()
}

/// Returns the fragments of the frame's IPv4 packet, each in a frame of its own. A frame with a fragment or without
/// IPv4 stays unchanged.
pub fn fragmented(frame: &[u8], size: usize) -> Vec<Vec<u8>> {
    let whole_v4 = frame.get(12..14) == Some(&[8, 0]) && frame[20] & 0x3f == 0 && frame[21] == 0;
    let total = if whole_v4 { usize::from(u16::from_be_bytes([frame[16], frame[17]])) } else { 0 };
    if total < 20 + size {
        return vec![frame.to_vec()];
    }
    fragments_v4(&frame[14..14 + total], size).iter().map(|ip| [&frame[..14], ip].concat()).collect()
}

/// Returns the frame as the next router forwards it: other MAC addresses, TTL reduced by one.
pub fn routed(frame: &[u8]) -> Vec<u8> {
    let mut out = frame.to_vec();
    out[..12].copy_from_slice(&[2, 9, 9, 9, 9, 1, 2, 9, 9, 9, 9, 2]);
    match out.get(12..14) {
        Some([8, 0]) => {
            out[22] -= 1;
            fix_ipv4(&mut out[14..]);
        }
        Some([0x86, 0xdd]) => out[21] -= 1,
        _ => {}
    }
    out
}

/// Returns the frame with another ToS and without UDP checksum, as a policer changes it if the network card computes
/// checksums.
pub fn remarked(frame: &[u8]) -> Vec<u8> {
    let mut out = frame.to_vec();
    if out.get(12..14) == Some(&[8, 0]) {
        out[15] = 0xb8;
        let unfragmented = out[20] & 0x1f == 0 && out[21] == 0;
        if out[23] == 17 && unfragmented {
            out[40..42].fill(0);
        }
        fix_ipv4(&mut out[14..]);
    }
    out
}

// ---- tunnels. Each function takes a mirrored Ethernet frame (or IP packet) and returns the outer Ethernet frame.

const OUTER_SRC: [u8; 4] = [192, 0, 2, 1];
const OUTER_DST: [u8; 4] = [192, 0, 2, 2];

fn outer(protocol: u8, payload: &[u8]) -> Vec<u8> {
    // Each packet has an id of its own, because fragments of different packets must differ in it (RFC 6864).
    let id = payload.iter().fold(0_u32, |id, byte| (id ^ u32::from(*byte)).wrapping_mul(16_777_619));
    ethernet(0x0800, &ipv4(OUTER_SRC, OUTER_DST, protocol, (id >> 8) as u16, payload))
}

fn outer_udp(port: u16, header: &[u8], inner: &[u8]) -> Vec<u8> {
    outer(17, &udp(49_152, port, &[header, inner].concat()))
}

/// Returns the frame's IP packet in GRE. If `with_options` is true, GRE has checksum, key and sequence number.
pub fn gre_ip(frame: &[u8], with_options: bool) -> Vec<Vec<u8>> {
    let ip = |frame: &[u8]| {
        let header: &[u8] = if with_options { &[0xb0, 0] } else { &[0, 0] };
        let options: &[u8] = if with_options { &[1, 2, 0, 0, 0, 0, 0, 5, 0, 0, 0, 9] } else { &[] };
        outer(47, &[header, &frame[12..14], options, &frame[14..]].concat())
    };
    if is_ip(frame) { vec![ip(frame)] } else { vec![] }
}

/// Returns the frame in GRE (transparent Ethernet bridging).
pub fn gre_teb(frame: &[u8]) -> Vec<u8> {
    outer(47, &[&[0, 0, 0x65, 0x58], frame].concat())
}

pub fn erspan1(frame: &[u8]) -> Vec<u8> {
    outer(47, &[&[0, 0, 0x88, 0xbe], frame].concat())
}

pub fn erspan2(frame: &[u8]) -> Vec<u8> {
    outer(47, &[&[0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 0x10, 0x64, 0x08, 0x01, 0, 0, 0, 3], frame].concat())
}

/// Returns the frame in ERSPAN III. If `sub_header` is true, it has the platform-specific sub-header.
pub fn erspan3(frame: &[u8], sub_header: bool) -> Vec<u8> {
    let mut header = vec![0x10, 0, 0x22, 0xeb, 0, 0, 0, 1, 0x20, 0x64, 0, 1, 0, 1, 2, 3, 0, 0, 0, u8::from(sub_header)];
    if sub_header {
        header.extend([0x04, 0, 0, 0, 1, 2, 3, 4]);
    }
    outer(47, &[&header, frame].concat())
}

pub fn vxlan(frame: &[u8], port: u16) -> Vec<u8> {
    outer_udp(port, &[8, 0, 0, 0, 0, 0, 42, 0], frame)
}

/// Returns the frame in GENEVE with an option of 8 bytes.
pub fn geneve(frame: &[u8]) -> Vec<u8> {
    outer_udp(6081, &[2, 0, 0x65, 0x58, 0, 0, 42, 0, 1, 2, 3, 1, 9, 9, 9, 9], frame)
}

/// Returns the frame in TZSP with padding, an RSSI tag and the end tag.
pub fn tzsp(frame: &[u8]) -> Vec<u8> {
    outer_udp(37_008, &[1, 0, 0, 1, 0, 0x0a, 1, 0xd0, 1], frame)
}

/// Returns the frame in a tunnel over IPv6: GRE with Ethernet, VXLAN, or IP in IP.
pub fn over_ipv6(frame: &[u8], tunnel: OverIpv6) -> Vec<Vec<u8>> {
    let outer = |next: u8, payload: &[u8]| ethernet(0x86dd, &ipv6(1, 2, next, payload));
    match tunnel {
        OverIpv6::Gre => vec![outer(47, &[&[0, 0, 0x65, 0x58], frame].concat())],
        OverIpv6::Vxlan => {
            let inner = [&[8, 0, 0, 0, 0, 0, 42, 0], frame].concat();
            vec![outer(17, &udp(49_152, 4789, &inner))]
        }
        OverIpv6::Ip => raw_ip(frame).iter().map(|ip| outer(if ip[0] >> 4 == 4 { 4 } else { 41 }, ip)).collect(),
    }
}

/// A tunnel with IPv6 as its outer protocol.
#[derive(Clone, Copy, Debug)]
pub enum OverIpv6 {
    Gre,
    Vxlan,
    Ip,
}

/// Returns the frame's IP packet in another IPv4 packet. The inner packet may be IPv4 or IPv6.
pub fn ip_in_ip(frame: &[u8]) -> Vec<Vec<u8>> {
    raw_ip(frame).iter().map(|ip| outer(if ip[0] >> 4 == 4 { 4 } else { 41 }, ip)).collect()
}

pub fn pppoe(frame: &[u8]) -> Vec<Vec<u8>> {
    let wrap = |ip: &Vec<u8>| {
        let len = ((ip.len() + 2) as u16).to_be_bytes();
        let protocol: [u8; 2] = if ip[0] >> 4 == 4 { [0, 0x21] } else { [0, 0x57] };
        ethernet(0x8864, &[&[0x11, 0, 0, 7][..], &len, &protocol, ip].concat())
    };
    raw_ip(frame).iter().map(wrap).collect()
}

/// Returns the frame's IP packet under two MPLS labels.
pub fn mpls_ip(frame: &[u8]) -> Vec<Vec<u8>> {
    raw_ip(frame).iter().map(|ip| ethernet(0x8847, &[&[0, 0x10, 0, 64, 0, 0x20, 1, 64], &ip[..]].concat())).collect()
}

/// Returns the frame in an MPLS pseudowire (RFC 4448), with or without a control word.
pub fn mpls_ethernet(frame: &[u8], control_word: bool) -> Vec<u8> {
    let word: &[u8] = if control_word { &[0, 0, 0, 5] } else { &[] };
    ethernet(0x8847, &[&[0, 0x30, 1, 64], word, frame].concat())
}

/// Returns the frame as the remote mirror of HP and Aruba switches sends it.
pub fn hp_erm(frame: &[u8]) -> Vec<u8> {
    outer_udp(7932, &[0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 5], frame)
}

/// Returns a payload in VXLAN-GPE. `next` is its type, and `header` is a further header before it.
pub fn vxlan_gpe(payload: &[u8], next: u8, header: &[u8]) -> Vec<u8> {
    outer_udp(4790, &[&[0x0c, 0, 0, next, 0, 0, 7, 0], header].concat(), payload)
}

/// Returns the frame's IP packet in VXLAN-GPE.
pub fn vxlan_gpe_ip(frame: &[u8]) -> Vec<Vec<u8>> {
    let next = if frame[12..14] == [8, 0] { 1 } else { 2 };
    if is_ip(frame) { vec![vxlan_gpe(&frame[14..], next, &[])] } else { vec![] }
}

/// Returns the frame's IP packet in L2TP version 2 with PPP. If `options` is true, it has length, sequence numbers and
/// an offset.
pub fn l2tp2(frame: &[u8], options: bool) -> Vec<Vec<u8>> {
    let protocol = if frame[12..14] == [8, 0] { 0x21 } else { 0x57 };
    let header: &[u8] = if options {
        &[0x4a, 2, 0, 99, 0, 1, 0, 2, 0, 3, 0, 4, 0, 2, 0xaa, 0xaa, 0xff, 3, 0, protocol]
    } else {
        &[0, 2, 0, 1, 0, 2, 0, protocol]
    };
    if is_ip(frame) { vec![outer_udp(1701, header, &frame[14..])] } else { vec![] }
}

/// Returns the frame in L2TP version 3, over UDP or IP. `cookie` is the number of bytes of the cookie.
pub fn l2tp3(frame: &[u8], over_udp: bool, cookie: usize) -> Vec<u8> {
    let session = [&[0, 0, 0, 9], &vec![0xcc; cookie][..]].concat();
    if over_udp {
        outer_udp(1701, &[&[0, 3, 0, 0], &session[..]].concat(), frame)
    } else {
        outer(115, &[&session[..], frame].concat())
    }
}

/// Returns the frame with a tag or header of a switch. `name` is the EtherType of a VLAN tag in hexadecimal digits, or
/// the name of another tag.
pub fn switch_tag(frame: &[u8], name: &str) -> Vec<u8> {
    let (addresses, rest) = frame.split_at(12);
    let tag = |bytes: &[u8]| [addresses, bytes, rest].concat();
    match name {
        "vntag" => tag(&[0x89, 0x26, 0, 1, 0x80, 2]),
        "etag" => tag(&[0x89, 0x3f, 0, 1, 0, 2, 0, 3]),
        "cmd" => tag(&[0x89, 0x09, 1, 1, 0, 1, 0, 7]),
        "fabricpath" => [addresses, &[0x89, 0x03, 0x04, 0x20], frame].concat(),
        "pbb" => [addresses, &[0x88, 0xe7, 0, 0, 0, 5], frame].concat(),
        "nsh" => [addresses, &[0x89, 0x4f, 0x0f, 0xc2, 2, 3, 0, 0, 1, 0xff], frame].concat(),
        vlan => tag(&[&u16::from_str_radix(vlan, 16).unwrap_or(0x8100).to_be_bytes()[..], &[0, 9]].concat()),
    }
}

/// Returns the frame's IP packet in GTP-U. If `with_extension` is true, it has a sequence number and one extension
/// header.
pub fn gtp_u(frame: &[u8], with_extension: bool) -> Vec<Vec<u8>> {
    let wrap = |ip: &Vec<u8>| {
        let optional: &[u8] = if with_extension { &[0, 9, 0, 0x85, 1, 0, 9, 0] } else { &[] };
        let len = ((optional.len() + ip.len()) as u16).to_be_bytes();
        let flags = if with_extension { 0x36 } else { 0x30 };
        outer_udp(2152, &[&[flags, 0xff][..], &len, &[0, 0, 0, 1], optional].concat(), ip)
    };
    raw_ip(frame).iter().map(wrap).collect()
}

/// Returns the frame in several nested tunnels.
pub fn nested(frame: &[u8]) -> Vec<u8> {
    erspan2(&tagged(&vxlan(&tagged(&gre_teb(frame), &[(0x8100, 5)]), 4789), &[(0x88a8, 6), (0x8100, 7)]))
}

// ---- SIP over TCP

/// Changes SIP over UDP to SIP over TCP. Every datagram to or from `port` becomes segments of at most `cut` bytes. Each
/// pair of addresses has one connection. All other packets stay.
pub fn sip_over_tcp(packets: &[CapturedFrame], port: u16, cut: usize) -> Vec<CapturedFrame> {
    let mut next_seq = std::collections::HashMap::<Vec<u8>, u32>::new();
    let mut out = Vec::new();
    for p in packets {
        let f = &p.data;
        let is_udp = f.get(12..14) == Some(&[8, 0]) && f[14] == 0x45 && f[20] & 0x3f == 0 && f[21] == 0 && f[23] == 17;
        let ports = is_udp.then(|| (u16::from_be_bytes([f[34], f[35]]), u16::from_be_bytes([f[36], f[37]])));
        let Some((src, dst)) = ports.filter(|(s, d)| *s == port || *d == port) else {
            out.push(p.clone());
            continue;
        };
        let body = &f[42..14 + usize::from(u16::from_be_bytes([f[16], f[17]]))];
        let seq = next_seq.entry(f[26..38].to_vec()).or_insert(0xffff_ff00);
        for chunk in body.chunks(cut) {
            let segment = tcp((src, dst), *seq, 0x18, chunk);
            let [a, b] = [26, 30].map(|at| <[u8; 4]>::try_from(&f[at..at + 4]).unwrap());
            let ip = ipv4(a, b, 6, *seq as u16, &segment);
            out.push(CapturedFrame { at_ns: p.at_ns, data: ethernet(0x0800, &ip) });
            *seq = seq.wrapping_add(chunk.len() as u32);
        }
    }
    out
}
