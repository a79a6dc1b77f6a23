use proptest::prelude::*;

use super::super::testing::{DecodedRecord, decode, decode_link};
use super::super::wire;
use super::*;

const A: [u8; 4] = [10, 0, 0, 1];
const B: [u8; 4] = [10, 0, 0, 2];

fn sip_frame(body: &[u8]) -> Vec<u8> {
    wire::ethernet(0x0800, &wire::ipv4(A, B, 17, 1, &wire::udp(5060, 5062, body)))
}

fn one(body: &[u8]) -> Vec<DecodedRecord> {
    vec![DecodedRecord::datagram("10.0.0.1:5060", "10.0.0.2:5062", body)]
}

#[test]
fn each_link_type_and_vlan_depth_yields_the_same_datagram() {
    let f = sip_frame(b"hello");
    for (tags, depth) in [
        (&[][..], 0),
        (&[(0x8100, 5)][..], 1),
        (&[(0x88a8, 5), (0x8100, 6)][..], 2),
        (&[(0x8200, 5), (0x8100, 6)][..], 2),
        (&[(0x9100, 5), (0x8100, 6), (0x8100, 7), (0x8100, 8)][..], 3),
    ] {
        let (seen, c) = decode(&[wire::tagged(&f, tags)]);
        assert_eq!(seen, one(b"hello"));
        assert_eq!(c.vlan_depth[depth], 1);
    }
    assert_eq!(decode_link(LinkType::LinuxSll, &[wire::cooked(&f)]).0, one(b"hello"));
    assert_eq!(decode_link(LinkType::LinuxSll2, &[wire::cooked2(&f)]).0, one(b"hello"));
    assert_eq!(decode_link(LinkType::RawIp, &wire::raw_ip(&f)).0, one(b"hello"));
    assert_eq!(decode_link(LinkType::Null, &wire::loopback(&f)).0, one(b"hello"));
    let (seen, c) = decode_link(LinkType::Other(127), &[f]);
    assert!(seen.is_empty());
    assert_eq!(c.dropped.unknown_link, 1);
}

#[test]
fn frame_built_by_etherparse_is_decoded() {
    let builder = etherparse::PacketBuilder::ethernet2([1; 6], [2; 6])
        .double_vlan(7.try_into().unwrap(), 8.try_into().unwrap())
        .ipv6([0xfd; 16], [0xfe; 16], 60)
        .udp(5060, 5061);
    let mut frame = Vec::new();
    builder.write(&mut frame, b"payload").unwrap();
    let (seen, _) = decode(&[frame]);
    let src = "[fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd]:5060";
    assert_eq!(seen, [DecodedRecord::datagram(src, "[fefe:fefe:fefe:fefe:fefe:fefe:fefe:fefe]:5061", b"payload")]);
}

#[test]
fn padding_and_trailers_are_not_payload() {
    let padded = wire::with_trailer(&sip_frame(b"hi"), &[0x55; 16]);
    assert_eq!(decode(&[padded]).0, one(b"hi"));
}

#[test]
fn ipv4_options_and_ipv6_extension_headers_are_skipped() {
    let mut ip = wire::ipv4(A, B, 17, 1, &[&[1, 1, 1, 0][..], &wire::udp(5060, 5062, b"x")].concat());
    ip[0] = 0x46;
    assert_eq!(decode(&[wire::ethernet(0x0800, &ip)]).0, one(b"x"));
    // The IPv6 packet has hop-by-hop options (8 bytes), destination options (16 bytes) and UDP. Both options are
    // skipped.
    let chain = [&[60, 0, 1, 4, 0, 0, 0, 0][..], &[17, 1, 1, 12], &[0; 12], &wire::udp(1, 2, b"y")].concat();
    let (seen, _) = decode(&[wire::ethernet(0x86dd, &wire::ipv6(1, 2, 0, &chain))]);
    assert_eq!(seen, [DecodedRecord::datagram("[fd09::1]:1", "[fd09::2]:2", b"y")]);
}

#[test]
fn truncated_datagram_keeps_its_length_on_the_wire() {
    let frame = sip_frame(&[b'x'; 1000]);
    let cut = CapturedFrame {
        at: Timestamp::EPOCH,
        link: LinkType::Ethernet,
        interface: 3,
        orig_len: frame.len() as u32,
        data: &frame[..142],
    };
    let mut d = FrameDecoder::new();
    let mut got = Vec::new();
    d.handle_frame(&cut, &mut |x| {
        if let DecodedItem::Datagram(d) = x {
            got.push((d.payload.len(), d.wire_len, d.interface));
        }
    });
    // The headers have 14 + 20 + 8 bytes, so 100 of the 142 bytes are payload.
    assert_eq!(got, [(100, 1000, 3)]);
    assert_eq!(d.counters().cut_frames, 1);
}

#[test]
fn zero_ip_length_or_wrong_udp_length_loses_no_datagram() {
    let mut tso = sip_frame(b"hello");
    tso[16..18].fill(0);
    assert_eq!(decode(&[tso]).0, one(b"hello"));
    let mut lying = sip_frame(b"hello");
    lying[38..40].copy_from_slice(&999_u16.to_be_bytes());
    let (seen, c) = decode(&[lying]);
    assert_eq!(seen, one(b"hello"));
    assert_eq!(c.dropped.bad_udp_length, 1);
}

#[test]
fn short_and_damaged_frames_are_counted_by_reason() {
    let f = sip_frame(b"hello");
    for cut in 0..f.len() - 5 {
        let (seen, c) = decode(&[f[..cut].to_vec()]);
        assert_eq!((seen.len(), c.dropped.short), (0, 1), "cut at {cut}");
    }
    let mut bad = f.clone();
    bad[14] = 0x43;
    assert_eq!(decode(&[bad]).1.dropped.bad_ip_header, 1);
    assert_eq!(decode(&[wire::ethernet(0x0806, &[0; 28])]).1.dropped.unknown_ethertype, 1);
}

#[test]
fn mirror_duplicate_is_dropped_and_retransmission_after_500_ms_is_kept() {
    let f = sip_frame(b"INVITE");
    let frames =
        [(0, f.clone()), (1, wire::routed(&f)), (2, wire::tagged(&f, &[(0x8100, 9)])), (3, wire::remarked(&f))];
    let (seen, c) = super::super::testing::decode_at(LinkType::Ethernet, &frames);
    assert_eq!((seen.len(), c.duplicates), (1, 3));
    let (seen, _) = super::super::testing::decode_at(LinkType::Ethernet, &[(0, f.clone()), (500, f)]);
    assert_eq!(seen.len(), 2);
}

#[test]
fn rtp_duplicates_are_kept_and_rtcp_duplicates_are_dropped() {
    let rtp = sip_frame(&[0x80, 8, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0xd5]);
    assert_eq!(decode(&[rtp.clone(), rtp]).0.len(), 2);
    let rtcp = sip_frame(&[0x80, 200, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0xd5]);
    assert_eq!(decode(&[rtcp.clone(), rtcp]).0.len(), 1);
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    // A payload that looks like RTP would not be compared for duplicates, and TURN ChannelData (first byte 0x40 to
    // 0x4f) would be unwrapped. So the first byte is changed.
    prop::collection::vec(any::<u8>(), 100..3000).prop_map(|mut body| {
        body[0] = b'R';
        body
    })
}

proptest! {
    #[test]
    fn any_bytes_on_any_link_do_not_panic(data in prop::collection::vec(any::<u8>(), 0..200), dlt in 0_u16..300) {
        for link in [LinkType::from_dlt(dlt), LinkType::Ethernet, LinkType::RawIp, LinkType::LinuxSll2] {
            decode_link(link, std::slice::from_ref(&data));
        }
    }

    #[test]
    fn shuffled_and_duplicated_fragments_yield_the_datagram_once(
        body in body(), size in (1_usize..80).prop_map(|n| n * 8), seed in any::<u64>(), v6 in any::<bool>(),
    ) {
        let datagram = wire::udp(5060, 5062, &body);
        let mut frames: Vec<Vec<u8>> = if v6 {
            let pieces = wire::fragments_v6(&wire::ipv6(1, 2, 17, &datagram), size, 99);
            pieces.iter().map(|p| wire::ethernet(0x86dd, p)).collect()
        } else {
            wire::fragments_v4(&wire::ipv4(A, B, 17, 5, &datagram), size).iter().map(|p| wire::ethernet(0x0800, p)).collect()
        };
        prop_assume!(frames.len() <= 200);
        frames.extend(frames.clone());
        fastrand::Rng::with_seed(seed).shuffle(&mut frames);
        let (seen, c) = decode(&frames);
        let (src, dst) = if v6 { ("[fd09::1]:5060", "[fd09::2]:5062") } else { ("10.0.0.1:5060", "10.0.0.2:5062") };
        prop_assert_eq!(seen, [DecodedRecord::datagram(src, dst, &body)]);
        prop_assert!(c.reassembled <= 1);
    }
}

/// Returns what a quick look finds in a frame, in the form of the decoder's output.
fn quick_look(link: LinkType, frame: &[u8]) -> Vec<DecodedRecord> {
    let found = crate::capture::udp_of(link, frame)
        .map(|(flow, payload)| DecodedRecord::datagram(&flow.src.to_string(), &flow.dst.to_string(), payload));
    found.into_iter().collect()
}

#[test]
fn quick_look_finds_a_plain_datagram_behind_each_link_header() {
    let frame = sip_frame(b"hello");
    let tagged = wire::tagged(&frame, &[(0x88a8, 5), (0x8100, 6)]);
    for (link, frame) in [
        (LinkType::Ethernet, &frame),
        (LinkType::Ethernet, &tagged),
        (LinkType::LinuxSll, &wire::cooked(&frame)),
        (LinkType::LinuxSll2, &wire::cooked2(&frame)),
        (LinkType::RawIp, &wire::raw_ip(&frame)[0]),
        (LinkType::Null, &wire::loopback(&frame)[0]),
    ] {
        assert_eq!(quick_look(link, frame), one(b"hello"), "{link:?}");
        assert_eq!(decode_link(link, std::slice::from_ref(frame)).0, one(b"hello"), "{link:?}");
    }
    assert!(quick_look(LinkType::Other(127), &frame).is_empty());
}

#[test]
fn quick_look_ignores_tcp_and_fragments() {
    let (mut tcp, mut fragment, mut last) = (sip_frame(b"hello"), sip_frame(b"hello"), sip_frame(b"hello"));
    (tcp[14 + 9], fragment[14 + 6], last[14 + 7]) = (6, 0x20, 1);
    for frame in [tcp, fragment, last] {
        assert!(quick_look(LinkType::Ethernet, &frame).is_empty());
    }
}

proptest! {
    #[test]
    fn quick_look_at_any_bytes_does_not_panic(
        link in prop::sample::select(vec![LinkType::Ethernet, LinkType::LinuxSll, LinkType::RawIp, LinkType::Null]),
        bytes in proptest::collection::vec(any::<u8>(), 0..80),
        version in 0..16_u8,
    ) {
        let ip = [&[version << 4 | 5][..], &bytes].concat();
        for frame in [&bytes, &ip, &wire::ethernet(0x0800, &ip), &wire::ethernet(0x86dd, &ip)] {
            _ = quick_look(link, frame);
            _ = quick_look(LinkType::Ethernet, frame);
        }
    }
}
