use proptest::prelude::*;

use super::super::testing::{DecodedRecord, decode, decode_at};
use super::super::wire;
use super::*;
use crate::capture::LinkType;

fn frame() -> Vec<u8> {
    wire::ethernet(0x0800, &wire::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 17, 1, &wire::udp(5060, 5062, b"OPTIONS")))
}

fn frame_v6() -> Vec<u8> {
    wire::ethernet(0x86dd, &wire::ipv6(1, 2, 17, &wire::udp(5060, 5062, b"OPTIONS")))
}

/// A tunnel of the tests: its name, a function that builds it around a frame, and its kind in the counters.
type TunnelCase = (&'static str, fn(&[u8]) -> Vec<Vec<u8>>, TunnelKind);

const TUNNELS: &[TunnelCase] = &[
    ("GRE", |f| wire::gre_ip(f, false), TunnelKind::Gre),
    ("GRE with checksum, key and sequence", |f| wire::gre_ip(f, true), TunnelKind::Gre),
    ("GRE with Ethernet", |f| vec![wire::gre_teb(f)], TunnelKind::Gre),
    ("ERSPAN I", |f| vec![wire::erspan1(f)], TunnelKind::Erspan1),
    ("ERSPAN II", |f| vec![wire::erspan2(f)], TunnelKind::Erspan2),
    ("ERSPAN III", |f| vec![wire::erspan3(f, false)], TunnelKind::Erspan3),
    ("ERSPAN III with sub-header", |f| vec![wire::erspan3(f, true)], TunnelKind::Erspan3),
    ("VXLAN", |f| vec![wire::vxlan(f, 4789)], TunnelKind::Vxlan),
    ("VXLAN of Linux", |f| vec![wire::vxlan(f, 8472)], TunnelKind::Vxlan),
    ("GENEVE", |f| vec![wire::geneve(f)], TunnelKind::Geneve),
    ("TZSP", |f| vec![wire::tzsp(f)], TunnelKind::Tzsp),
    ("IP in IP", wire::ip_in_ip, TunnelKind::IpInIp),
    ("PPPoE", wire::pppoe, TunnelKind::Pppoe),
    ("MPLS with IP", wire::mpls_ip, TunnelKind::Mpls),
    ("pseudowire with control word", |f| vec![wire::mpls_ethernet(f, true)], TunnelKind::Mpls),
    ("pseudowire without", |f| vec![wire::mpls_ethernet(f, false)], TunnelKind::Mpls),
    ("GTP-U", |f| wire::gtp_u(f, false), TunnelKind::GtpU),
    ("GTP-U with extension header", |f| wire::gtp_u(f, true), TunnelKind::GtpU),
    ("HP ERM", |f| vec![wire::hp_erm(f)], TunnelKind::HpErm),
    ("VXLAN-GPE with IP", wire::vxlan_gpe_ip, TunnelKind::Vxlan),
    ("VXLAN-GPE with Ethernet", |f| vec![wire::vxlan_gpe(f, 3, &[])], TunnelKind::Vxlan),
    ("L2TPv2", |f| wire::l2tp2(f, false), TunnelKind::L2tp),
    ("L2TPv2 with all options", |f| wire::l2tp2(f, true), TunnelKind::L2tp),
    ("L2TPv3 over UDP", |f| vec![wire::l2tp3(f, true, 8)], TunnelKind::L2tp),
    ("L2TPv3 over IP", |f| vec![wire::l2tp3(f, false, 4)], TunnelKind::L2tp),
];

#[test]
fn each_tunnel_yields_its_datagram_and_is_counted() {
    let v4 = [DecodedRecord::datagram("10.0.0.1:5060", "10.0.0.2:5062", b"OPTIONS")];
    let v6 = [DecodedRecord::datagram("[fd09::1]:5060", "[fd09::2]:5062", b"OPTIONS")];
    for (name, build, kind) in TUNNELS {
        for (inner, expected) in [(frame(), &v4), (frame_v6(), &v6)] {
            let (seen, mut counters) = decode(&build(&inner));
            assert_eq!(&seen, expected, "{name}");
            assert_eq!(*kind.counter(&mut counters), 1, "{name}");
            // The outer packet is now in a VLAN and fragmented. Its fragments arrive in reverse order.
            let pieces: Vec<Vec<u8>> = build(&inner).iter().flat_map(|f| wire::fragmented(f, 32)).rev().collect();
            let pieces: Vec<Vec<u8>> = pieces.iter().map(|f| wire::tagged(f, &[(0x8100, 3)])).collect();
            assert_eq!(&decode(&pieces).0, expected, "{name} in fragments");
        }
    }
}

#[test]
fn vlan_tags_and_fragments_inside_a_tunnel_are_decoded() {
    for (name, build, _) in TUNNELS {
        let pieces: Vec<Vec<u8>> = wire::fragmented(&frame(), 8).iter().flat_map(|f| build(f)).collect();
        let (seen, counters) = decode(&pieces);
        assert_eq!((seen.len(), counters.reassembled), (1, 1), "{name}");
    }
    let (seen, _) = decode(&[wire::vxlan(&wire::tagged(&frame(), &[(0x8100, 3)]), 4789)]);
    assert_eq!(seen.len(), 1);
}

#[test]
fn nested_tunnels_are_decoded_up_to_a_limit() {
    let (seen, counters) = decode(&[wire::nested(&frame())]);
    assert_eq!(seen.len(), 1);
    assert_eq!((counters.tunnels.erspan2, counters.tunnels.vxlan, counters.tunnels.gre), (1, 1, 1));
    let mut deep = frame();
    for _ in 0..9 {
        deep = wire::gre_teb(&deep);
    }
    let (seen, counters) = decode(&[deep]);
    assert_eq!((seen.len(), counters.dropped.tunnel_depth), (0, 1));
}

#[test]
fn same_packet_in_another_tunnel_is_a_duplicate() {
    let frames = [(0, frame()), (5, wire::erspan2(&wire::routed(&frame()))), (9, wire::vxlan(&frame(), 4789))];
    let (seen, counters) = decode_at(LinkType::Ethernet, &frames);
    assert_eq!((seen.len(), counters.duplicates), (1, 2));
}

#[test]
fn rtp_on_a_tunnel_port_is_rtp() {
    let rtp = [&[0x80, 8, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1][..], &[0xd5; 160]].concat();
    for port in [4789, 8472, 6081, 37_008, 2152] {
        let ip = wire::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 17, 1, &wire::udp(4000, port, &rtp));
        let (seen, _) = decode(&[wire::ethernet(0x0800, &ip)]);
        assert_eq!(seen.len(), 1, "{port}");
        assert!(seen[0].dst.ends_with(&port.to_string()));
    }
}

#[test]
fn unsupported_tunnels_are_counted() {
    let pptp = wire::ethernet(0x0800, &wire::ipv4([1; 4], [2; 4], 47, 1, &[0x30, 0x01, 0x88, 0x0b, 0, 0, 0, 0]));
    assert_eq!(decode(&[pptp]).1.dropped.unknown_tunnel, 1);
    assert_eq!(decode(&[wire::ethernet(0x8847, &[0, 0, 0, 0, 0, 0])]).1.dropped.unknown_tunnel, 1);
}

proptest! {
    #[test]
    fn any_bytes_in_any_tunnel_do_not_panic(data in prop::collection::vec(any::<u8>(), 0..120), protocol in any::<u8>()) {
        let _ = (gre(&data), pppoe(&data), mpls(&data));
        for port in [4789, 6081, 37_008, 2152] {
            let _ = over_udp(port, port, &data);
            let _ = over_udp(3544, port, &data);
        }
        let ip = wire::ipv4([1; 4], [2; 4], protocol, 1, &data);
        decode(&[wire::ethernet(0x0800, &ip), wire::ethernet(0x8847, &data), wire::ethernet(0x8864, &data)]);
    }
}

#[test]
fn tags_and_frames_of_switches_are_undone_in_any_nesting() {
    let expected = [DecodedRecord::datagram("10.0.0.1:5060", "10.0.0.2:5062", b"OPTIONS")];
    for tags in [
        vec!["9200", "8100"],
        vec!["9300", "88a8", "8100"],
        vec!["vntag", "8100"],
        vec!["8100", "vntag"],
        vec!["etag", "88a8", "8100"],
        vec!["cmd"],
        vec!["8100", "cmd"],
        vec!["fabricpath"],
        vec!["fabricpath", "8100", "cmd"],
        vec!["pbb", "8100"],
        vec!["88a8", "pbb"],
        vec!["nsh"],
    ] {
        let wrapped = tags.iter().rev().fold(frame(), |frame, tag| wire::switch_tag(&frame, tag));
        assert_eq!(decode(&[wrapped]).0, expected, "{tags:?}");
    }
}

#[test]
fn teredo_is_undone_by_either_port() {
    let expected = [DecodedRecord::datagram("[fd09::1]:5060", "[fd09::2]:5062", b"OPTIONS")];
    for header in [vec![], vec![0, 0, 1, 2, 3, 4, 5, 6], [vec![0, 1, 0, 0], vec![7; 9]].concat()] {
        for ports in [(3544, 50_000), (50_000, 3544)] {
            let body = [&header[..], &frame_v6()[14..]].concat();
            let outer = wire::ipv4([192, 0, 2, 1], [192, 0, 2, 2], 17, 9, &wire::udp(ports.0, ports.1, &body));
            let (seen, counters) = decode(&[wire::ethernet(0x0800, &outer)]);
            assert_eq!((seen.as_slice(), counters.tunnels.teredo), (&expected[..], 1), "{header:?} {ports:?}");
        }
    }
}

#[test]
fn answers_of_tunnels_and_rare_flags_are_undone() {
    let expected = [DecodedRecord::datagram("10.0.0.1:5060", "10.0.0.2:5062", b"OPTIONS")];
    let over_udp = |ports: (u16, u16), body: &[u8]| {
        let outer = wire::ipv4([192, 0, 2, 1], [192, 0, 2, 2], 17, 9, &wire::udp(ports.0, ports.1, body));
        wire::ethernet(0x0800, &outer)
    };
    let ppp = [&[0, 2, 0, 1, 0, 2, 0, 0x21][..], &frame()[14..]].concat();
    let to_all = [&[0x0e, 0, 0, 3, 0, 0, 7, 0][..], &frame()].concat();
    for (name, packet) in [
        ("L2TP from the server to any port", over_udp((1701, 40_000), &ppp)),
        ("VXLAN-GPE with broadcast", over_udp((40_000, 4790), &to_all)),
        ("VXLAN-GPE on the port of VXLAN", over_udp((40_000, 4789), &to_all)),
    ] {
        assert_eq!(decode(&[packet]).0, expected, "{name}");
    }
    // The packet is sent from one Teredo client to another. Both have addresses of 2001:0::/32, and the UDP ports are
    // those of their NATs.
    let mut inner = frame_v6()[14..].to_vec();
    [8, 24].iter().for_each(|at| inner[*at..at + 4].copy_from_slice(&[0x20, 1, 0, 0]));
    let (seen, counters) = decode(&[over_udp((40_000, 41_000), &inner)]);
    assert_eq!((seen.len(), counters.tunnels.teredo), (1, 1));
    assert!(seen[0].src.starts_with("[2001:") && seen[0].src.ends_with(":5060"), "{}", seen[0].src);
}

#[test]
fn header_around_sip_that_is_not_undone_is_named() {
    use super::super::counters::{UndoneWrapper, WrappedSip};
    let options = b"OPTIONS sip:a@b SIP/2.0\r\nCall-ID: 1\r\n\r\n";
    let sip = wire::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 17, 1, &wire::udp(5060, 5062, options));
    let sip_v6 = wire::ipv6(1, 2, 17, &wire::udp(5060, 5062, options));
    let over_ip = |protocol: u8, body: &[u8]| wire::ethernet(0x0800, &wire::ipv4([1; 4], [2; 4], protocol, 9, body));
    let over_udp = |body: &[u8]| over_ip(17, &wire::udp(40_000, 30_030, body));
    for (packet, wrapper) in [
        (over_udp(&[&[0, 0, 0, 7, 0, 0, 0, 9][..], &sip].concat()), UndoneWrapper::UdpPort(30_030)),
        (over_udp(&[&[1; 90][..], &sip_v6].concat()), UndoneWrapper::UdpPort(30_030)),
        (over_udp(&[&b"HEP3"[..], &[0, 60], options].concat()), UndoneWrapper::Hep),
        (over_ip(97, &[&[0x30, 0][..], &wire::ethernet(0x0800, &sip)].concat()), UndoneWrapper::IpProtocol(97)),
        (over_ip(47, &[&[0x30, 1, 0x88, 0x0b, 0, 0, 0, 0][..], &sip].concat()), UndoneWrapper::IpProtocol(47)),
        (wire::ethernet(0x22f3, &[&[0; 20][..], &sip].concat()), UndoneWrapper::EtherType(0x22f3)),
        (wire::ethernet(0x1234, &[&[0; 4][..], &sip].concat()), UndoneWrapper::EtherType(0x1234)),
    ] {
        let (_, counters) = decode(&[packet]);
        assert_eq!(counters.wrapped, WrappedSip { packets: 1, wrapper: Some(wrapper) });
    }
    // An error message of ICMP quotes the packet that could not be delivered, and a HEP packet can contain RTCP.
    // Neither counts as SIP behind an unknown header.
    let unreachable = [&[3, 3, 0, 0, 0, 0, 0, 0][..], &sip].concat();
    let rtcp = over_udp(&[&b"HEP3"[..], &[0, 60], &[0x81, 200, 0, 6], &[0; 40]].concat());
    for packet in [over_ip(1, &unreachable), over_ip(58, &unreachable), rtcp] {
        assert_eq!(decode(&[packet]).1.wrapped, WrappedSip::default());
    }
    // A DNS message, a log line that quotes SIP, and plain SIP have no header before a SIP message. So they do not
    // count as SIP behind an unknown header.
    let log = [&b"<14> sent: "[..], options].concat();
    for body in [&[&[0, 7, 1, 0][..], &[9; 200]].concat(), &log, &options.to_vec()] {
        assert_eq!(decode(&[over_udp(body)]).1.wrapped, WrappedSip::default());
    }
}

#[test]
fn signalling_that_cannot_be_read_is_counted_by_its_name() {
    let sctp = wire::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 132, 1, &[0x13, 0xc4, 0x13, 0xc4, 0, 0, 0, 0, 0, 0, 0, 0]);
    // The second SCTP packet has other ports than those of SIP, but its first chunk begins with a SIP message. So it
    // counts as SIP, too.
    let data =
        [&[0x17, 0x70, 0x17, 0x70, 0, 0, 0, 0, 0, 0, 0, 0][..], &[0, 3, 0, 60], &[0; 12], b"BYE sip:a SIP/2.0\r\n"];
    let by_content = wire::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 132, 1, &data.concat());
    let frames =
        [wire::ethernet(0x0800, &sctp), wire::ethernet(0x0800, &by_content), wire::ethernet(0x88e5, &[0x2c; 60])];
    let (_, counters) = decode(&frames);
    assert_eq!((counters.dropped.sip_sctp, counters.dropped.macsec), (2, 1));
}
