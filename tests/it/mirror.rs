//! Metamorphic tests of the decoder: a capture is changed as each kind of mirror port would change it. The decoded
//! datagrams must stay the same.

use std::collections::BTreeMap;

use crate::support::packets::{self, CapturedFrame};
use callspan::capture::{CaptureEvent, CaptureSource, files};
use callspan::decode::{DecodeCounters, DecodedItem, FrameDecoder, TcpStreamEvent};

const ALICE: [u8; 4] = [10, 9, 0, 11];
const BOB: [u8; 4] = [10, 9, 0, 12];
const MS: i64 = 1_000_000;

/// Returns a call as Ethernet frames: an INVITE longer than the MTU, its answer, 50 RTP packets in each direction,
/// RTCP, BYE.
fn clean_call() -> Vec<CapturedFrame> {
    let mut packets = Vec::new();
    let mut id = 0_u16;
    let mut send = |ms: i64, from_alice: bool, port: u16, body: &[u8]| {
        id += 1;
        let (src, dst) = if from_alice { (ALICE, BOB) } else { (BOB, ALICE) };
        let ip = packets::ipv4(src, dst, 17, id, &packets::udp(port, port, body));
        packets
            .push(CapturedFrame { at_ns: 1_790_000_000_000_000_000 + ms * MS, data: packets::ethernet(0x0800, &ip) });
    };
    let long = format!("INVITE sip:102@x SIP/2.0\r\nX-Long: {}\r\nContent-Length: 0\r\n\r\n", "y".repeat(2900));
    send(0, true, 5060, long.as_bytes());
    send(100, false, 5060, b"SIP/2.0 180 Ringing\r\nContent-Length: 0\r\n\r\n");
    send(900, false, 5060, b"SIP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n");
    send(910, true, 5060, b"ACK sip:102@x SIP/2.0\r\nContent-Length: 0\r\n\r\n");
    for i in 0..50_u8 {
        for from_alice in [true, false] {
            let rtp = [&[0x80, 8, 0, i, 0, 0, i, 0, 0, 0, 0, u8::from(from_alice)][..], &[i; 160]].concat();
            send(1000 + i64::from(i) * 20 + i64::from(from_alice), from_alice, 20_000, &rtp);
        }
    }
    send(1500, true, 20_001, &[0x80, 200, 0, 6, 0, 0, 0, 1, 9, 9, 9, 9]);
    send(2500, true, 5060, b"BYE sip:102@x SIP/2.0\r\nContent-Length: 0\r\n\r\n");
    send(2510, false, 5060, b"SIP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n");
    packets.sort_by_key(|p| p.at_ns);
    packets
}

/// The result of decoding a capture: the datagrams in order, and the bytes of each TCP stream with marks for gaps and
/// ends.
#[derive(Debug, Default, PartialEq, Eq)]
struct DecodedTraffic {
    datagrams: Vec<(i64, String, String, Vec<u8>)>,
    streams: BTreeMap<(String, String), Vec<u8>>,
}

fn hear_file(bytes: &[u8]) -> (DecodedTraffic, DecodeCounters) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("capture.pcap");
    std::fs::write(&path, bytes).unwrap();
    let mut source = files::open(&[path]).unwrap();
    let mut decoder = FrameDecoder::new();
    let mut heard = DecodedTraffic::default();
    loop {
        match source.next_event().unwrap() {
            CaptureEvent::Frame(frame) => decoder.handle_frame(&frame, &mut |d| heard.take(d)),
            CaptureEvent::End => break,
            other => panic!("a clean file gives {other:?}"),
        }
    }
    assert_eq!(source.take_warnings(), []);
    (heard, *decoder.counters())
}

impl DecodedTraffic {
    /// Checks that two results are equal. If not, prints a readable message.
    fn assert_same(&self, expected: &Self, name: &str) {
        let key = |d: &(i64, String, String, Vec<u8>)| format!("{} {} -> {} {} bytes", d.0, d.1, d.2, d.3.len());
        for (got, wanted) in self.datagrams.iter().zip(&expected.datagrams) {
            assert_eq!(key(got), key(wanted), "{name}");
            assert!(got == wanted, "{name}: other bytes in {}", key(got));
        }
        assert_eq!(self.datagrams.len(), expected.datagrams.len(), "{name}");
        assert_eq!(self.streams, expected.streams, "{name}");
    }

    fn take(&mut self, decoded: DecodedItem<'_>) {
        match decoded {
            DecodedItem::Datagram(d) => {
                assert_eq!(d.wire_len as usize, d.payload.len());
                self.datagrams.push((d.at.as_micros(), d.src.to_string(), d.dst.to_string(), d.payload.to_vec()));
            }
            DecodedItem::Stream(s) => {
                let bytes = self.streams.entry((s.src.to_string(), s.dst.to_string())).or_default();
                match s.event {
                    TcpStreamEvent::Data(data) => bytes.extend_from_slice(data),
                    TcpStreamEvent::Gap => bytes.extend_from_slice(b"<gap>"),
                    TcpStreamEvent::End => bytes.extend_from_slice(b"<end>"),
                }
            }
        }
    }
}

fn hear(packets: &[CapturedFrame]) -> (DecodedTraffic, DecodeCounters) {
    hear_file(&packets::write_pcap(packets::ETHERNET, packets))
}

/// Changes each frame by `f`. Checks that the changed capture, with this link type, gives the same result as the
/// unchanged call.
fn check(name: &str, link: u16, f: impl Fn(&[u8]) -> Vec<Vec<u8>>) -> DecodeCounters {
    let clean = clean_call();
    let (expected, _) = hear(&clean);
    assert_eq!(expected.datagrams.len(), clean.len());
    let (heard, counters) = hear_file(&packets::write_pcap(link, &packets::each(&clean, f)));
    heard.assert_same(&expected, name);
    counters
}

#[test]
fn every_link_type_file_format_and_tag_shows_the_same_call() {
    check("VLAN", packets::ETHERNET, |f| vec![packets::tagged(f, &[(0x8100, 10)])]);
    check("QinQ", packets::ETHERNET, |f| vec![packets::tagged(f, &[(0x88a8, 10), (0x8100, 20)])]);
    check("cooked", packets::SLL, |f| vec![packets::cooked(f)]);
    check("cooked v2", packets::SLL2, |f| vec![packets::cooked2(f)]);
    check("raw IP", packets::RAW_IP, packets::raw_ip);
    check("loopback", packets::NULL, packets::loopback);
    check("trailer", packets::ETHERNET, |f| vec![packets::with_trailer(f, &[0xee; 15])]);
    let clean = clean_call();
    hear_file(&packets::write_pcapng_two_interfaces(&clean)).0.assert_same(&hear(&clean).0, "pcapng");
}

#[test]
fn every_tunnel_shows_the_same_call() {
    let eth = packets::ETHERNET;
    assert!(check("GRE", eth, |f| packets::gre_ip(f, false)).tunnels.gre > 100);
    check("GRE with options", eth, |f| packets::gre_ip(f, true));
    check("GRE with Ethernet", eth, |f| vec![packets::gre_teb(f)]);
    assert!(check("ERSPAN I", eth, |f| vec![packets::erspan1(f)]).tunnels.erspan1 > 100);
    assert!(check("ERSPAN II", eth, |f| vec![packets::erspan2(f)]).tunnels.erspan2 > 100);
    assert!(check("ERSPAN III", eth, |f| vec![packets::erspan3(f, true)]).tunnels.erspan3 > 100);
    assert!(check("VXLAN", eth, |f| vec![packets::vxlan(f, 4789)]).tunnels.vxlan > 100);
    assert!(check("GENEVE", eth, |f| vec![packets::geneve(f)]).tunnels.geneve > 100);
    assert!(check("TZSP", eth, |f| vec![packets::tzsp(f)]).tunnels.tzsp > 100);
    assert!(check("IP in IP", eth, packets::ip_in_ip).tunnels.ip_in_ip > 100);
    assert!(check("PPPoE", eth, packets::pppoe).tunnels.pppoe > 100);
    assert!(check("MPLS", eth, packets::mpls_ip).tunnels.mpls > 100);
    check("pseudowire", eth, |f| vec![packets::mpls_ethernet(f, true)]);
    check("pseudowire without control word", eth, |f| vec![packets::mpls_ethernet(f, false)]);
    assert!(check("GTP-U", eth, |f| packets::gtp_u(f, true)).tunnels.gtp_u > 100);
    check("nested", eth, |f| vec![packets::nested(f)]);
}

#[test]
fn fragments_in_order_reversed_doubled_and_under_tunnels_show_the_same_call() {
    let eth = packets::ETHERNET;
    // The datagram of the INVITE has 2,968 bytes: two fragments of 1,480 bytes and the rest.
    assert_eq!(check("MTU 1500", eth, |f| packets::fragmented(f, 1480)).fragments, 3);
    check("small", eth, |f| packets::fragmented(f, 64));
    check("reversed", eth, |f| packets::fragmented(f, 1480).into_iter().rev().collect());
    check("doubled", eth, |f| {
        packets::fragmented(f, 600).into_iter().flat_map(|p| [p.clone(), p]).filter(is_not_rtp_copy()).collect()
    });
    check("inside VXLAN", eth, |f| packets::fragmented(f, 1000).iter().map(|p| packets::vxlan(p, 4789)).collect());
    check("outside ERSPAN", eth, |f| packets::fragmented(&packets::erspan2(f), 1000));
    check("both", eth, |f| {
        packets::fragmented(f, 800).iter().flat_map(|p| packets::fragmented(&packets::gre_teb(p), 400)).collect()
    });
}

/// Returns a filter that removes repeated RTP frames. The decoder keeps these duplicates, because the engine removes
/// them.
fn is_not_rtp_copy() -> impl FnMut(&Vec<u8>) -> bool {
    let mut last = Vec::new();
    move |frame| {
        let is_rtp = frame.len() == 214;
        let keep = !is_rtp || *frame != last;
        last.clone_from(frame);
        keep
    }
}

/// Returns the beginning of each call of the fixtures: its signalling, the answer and some media.
fn fixtures() -> Vec<(String, Vec<CapturedFrame>)> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/calls");
    let files = std::fs::read_dir(&folder).unwrap().flatten().map(|entry| entry.path().join("capture.pcap"));
    let read = |path: std::path::PathBuf| {
        let mut packets = packets::read_pcap(&std::fs::read(&path).unwrap());
        packets.truncate(300);
        (path.display().to_string(), packets)
    };
    files.filter(|path| path.exists()).map(read).collect()
}

/// A kind of mirror: name, link type of its capture, and the function that changes a frame.
type MirrorKind = (&'static str, u16, fn(&[u8]) -> Vec<Vec<u8>>);

#[test]
fn real_calls_decode_the_same_under_tags_tunnels_and_fragments() {
    let disguises: [MirrorKind; 9] = [
        ("QinQ", packets::ETHERNET, |f| vec![packets::tagged(f, &[(0x88a8, 10), (0x8100, 20)])]),
        ("cooked", packets::SLL, |f| vec![packets::cooked(f)]),
        ("cooked v2", packets::SLL2, |f| vec![packets::cooked2(f)]),
        ("ERSPAN II", packets::ETHERNET, |f| vec![packets::erspan2(f)]),
        ("ERSPAN III", packets::ETHERNET, |f| vec![packets::erspan3(f, true)]),
        ("VXLAN", packets::ETHERNET, |f| vec![packets::vxlan(f, 4789)]),
        ("TZSP", packets::ETHERNET, |f| vec![packets::tzsp(f)]),
        ("fragments", packets::ETHERNET, |f| packets::fragmented(f, 128).into_iter().rev().collect()),
        ("nested, in fragments", packets::ETHERNET, |f| packets::fragmented(&packets::nested(f), 200)),
    ];
    let calls = fixtures();
    assert!(!calls.is_empty());
    for (path, clean) in calls {
        let (expected, _) = hear(&clean);
        assert!(!expected.datagrams.is_empty(), "{path}");
        for (name, link, f) in disguises {
            let (heard, _) = hear_file(&packets::write_pcap(link, &packets::each(&clean, f)));
            heard.assert_same(&expected, &format!("{path} as {name}"));
        }
    }
}

/// A kind of mirror that makes duplicates: name, delay of a duplicate in ns, and the function that changes the
/// duplicate.
type DuplicateKind = (&'static str, i64, fn(&[u8]) -> Vec<u8>);

#[test]
fn copies_fall_but_for_rtp_whatever_the_mirror_changed_in_them() {
    let clean = clean_call();
    let (expected, _) = hear(&clean);
    let is_rtp = |payload: &[u8]| payload[0] == 0x80 && payload[1] == 8;
    let rtp = expected.datagrams.iter().filter(|d| is_rtp(&d.3)).count();
    let ways: [DuplicateKind; 4] = [
        ("identical", 0, <[u8]>::to_vec),
        ("routed", 100_000, packets::routed),
        ("tagged", MS, |f| packets::tagged(f, &[(0x8100, 9)])),
        ("remarked, no checksum", 49 * MS, packets::remarked),
    ];
    for (name, later, f) in ways {
        let (heard, counters) = hear(&packets::doubled(&clean, later, f));
        let others = |h: &DecodedTraffic| h.datagrams.iter().filter(|d| !is_rtp(&d.3)).cloned().collect::<Vec<_>>();
        assert!(others(&heard) == others(&expected), "{name}");
        assert_eq!(heard.datagrams.len() - others(&heard).len(), 2 * rtp, "{name}");
        assert_eq!(counters.duplicates as usize, clean.len() - rtp, "{name}");
    }
    // The same packet 500 ms later is a retransmission, not a duplicate.
    let (heard, counters) = hear(&packets::doubled(&clean, 500 * MS, <[u8]>::to_vec));
    assert_eq!((heard.datagrams.len(), counters.duplicates), (2 * clean.len(), 0));
}

#[test]
fn sip_over_tcp_gives_the_same_bytes_however_it_is_cut() {
    let clean = clean_call();
    let (expected, _) = hear(&clean);
    for cut in [1, 2, 7, 100, 1460, 60_000] {
        let (heard, counters) = hear(&packets::sip_over_tcp(&clean, 5060, cut));
        for (src, dst) in [("10.9.0.11:5060", "10.9.0.12:5060"), ("10.9.0.12:5060", "10.9.0.11:5060")] {
            let sent = expected.datagrams.iter().filter(|d| d.1 == src).flat_map(|d| d.3.clone());
            // The builder sends no SYN, so the capture begins in the middle of the stream, and a gap comes first.
            let bytes: Vec<u8> = b"<gap>".iter().copied().chain(sent).collect();
            let got = &heard.streams[&(src.to_string(), dst.to_string())];
            assert!(*got == bytes, "cut {cut}: {}", String::from_utf8_lossy(&got[..got.len().min(200)]));
        }
        assert_eq!(heard.datagrams.len(), expected.datagrams.len() - 6, "six SIP messages went over TCP");
        assert_eq!(counters.streams.gaps, 0);
    }
}
