//! Metamorphic tests with whole calls: a capture is changed as another network or mirror port would change it.
//!
//! The call must keep its id and each byte of its sound. Its record must stay the same, except for fields that describe
//! the transport.

use crate::support::captures::{ReplayResult, frames, replay_bytes, replay_packets};
use crate::support::packets::{self, CapturedFrame, OverIpv6};
use crate::support::rewrite::{self, begins, carries_rtp, is_response, is_sip, sent_by};

use callspan::call::record::{CallOutcome, CallRecord, CallVerdict};
use callspan::net::Transport;

mod spool;

const MS: i64 = 1_000_000;

/// Calls on which all changes are tried: one without a PBX, one with both legs of a PBX, one over TCP.
const CALLS: [&str; 3] = ["g711a_direct", "pbx_b2bua_both_legs_ulaw", "tcp_signalling"];
/// All calls with G.711. Changes that are quick to test are tried on all of them.
const ALL_CALLS: [&str; 11] = [
    "blind_transfer_refer_pbx",
    "dtmf_rfc4733_direct",
    "early_media_183_direct",
    "g711a_direct",
    "g711u_direct",
    "hold_resume_direct",
    "late_offer_compact_hdrs_cn_pt13_sipp",
    "pbx_b2bua_both_legs_ulaw",
    "proxy_kamailio_same_callid_twice",
    "ring_group_fork_pbx",
    "tcp_signalling",
];
/// Calls over UDP without a PBX. Changes of SIP messages are tried on these.
const UDP_CALLS: [&str; 3] = ["g711a_direct", "hold_resume_direct", "blind_transfer_refer_pbx"];

/// The parts of a call that must stay the same: its records and its sound.
#[derive(Debug, PartialEq)]
struct ComparableCall {
    records: Vec<CallRecord>,
    sound: Vec<Vec<u8>>,
}

impl ComparableCall {
    fn of(replayed: &ReplayResult) -> Self {
        let sound = |r: &CallRecord| r.recordings.iter().map(|f| std::fs::read(&f.path).unwrap()).collect::<Vec<_>>();
        Self {
            sound: replayed.records.iter().flat_map(sound).collect(),
            records: replayed.records.iter().cloned().map(without_the_way).collect(),
        }
    }

    fn clean(name: &str) -> Self {
        let clean = Self::of(&replay_packets(&frames(name)));
        assert!(!clean.sound.is_empty(), "{name} has sound");
        clean
    }

    /// Checks that two calls are equal. If not, prints a readable message.
    fn assert_same(&self, other: &Self, what: &str) {
        // Other differences of the records explain more than a hash of the sound, so the hash is left out here. The
        // sound itself is compared, too.
        let records = |e: &Self| -> Vec<CallRecord> {
            let mut records = e.records.clone();
            records.iter_mut().flat_map(|r| &mut r.recordings).for_each(|f| f.sha256.clear());
            records
        };
        assert_eq!(records(self), records(other), "{what}");
        assert!(self.sound == other.sound, "{what}: other sound");
    }
}

/// Returns the call without its jitter and its number of reordered packets. RFC 3550 computes both from the order of
/// arrival.
fn whatever_the_order(mut essence: ComparableCall) -> ComparableCall {
    for record in &mut essence.records {
        for side in [&mut record.sides.caller, &mut record.sides.callee] {
            (side.reordered, side.max_jitter_ms) = (0, None);
        }
    }
    essence
}

/// Returns a record without the fields that depend on the transport: source, paths, protocol, duplicates.
fn without_the_way(mut record: CallRecord) -> CallRecord {
    record.source.clear();
    for recording in &mut record.recordings {
        recording.path.clear();
    }
    for leg in &mut record.legs {
        leg.transport = Transport::default();
    }
    for side in [&mut record.sides.caller, &mut record.sides.callee] {
        side.duplicates = 0;
    }
    record
}

/// Does the same as [`without_the_way`]. Also removes addresses and fields that depend on the order of arrival.
fn without_addresses(mut record: CallRecord) -> CallRecord {
    for leg in &mut record.legs {
        (leg.caller_addr, leg.callee_addr) = (None, None);
    }
    for side in [&mut record.sides.caller, &mut record.sides.callee] {
        side.streams.clear();
    }
    (record.from_uri, record.to_uri, record.request_uri) = (None, None, None);
    record
}

/// Name of a change, and the function that applies it to a capture.
type CaptureRewrite = (&'static str, fn(&[CapturedFrame]) -> Vec<u8>);

fn check(calls: &[&str], disguises: &[CaptureRewrite]) {
    for name in calls {
        let (packets, clean) = (frames(name), ComparableCall::clean(name));
        for (disguise, dress) in disguises {
            let shown = replay_bytes(&[dress(&packets)]);
            assert_eq!(shown.warnings, Vec::<String>::new(), "{name}, {disguise}");
            ComparableCall::of(&shown).assert_same(&clean, &format!("{name}, {disguise}"));
        }
    }
}

fn ethernet(packets: &[CapturedFrame]) -> Vec<u8> {
    packets::write_pcap(packets::ETHERNET, packets)
}

macro_rules! each_frame {
    ($link:expr, $f:expr) => {
        |packets| packets::write_pcap($link, &packets::each(packets, $f))
    };
}

#[test]
fn every_link_type_and_file_format_shows_the_same_call() {
    check(
        &CALLS,
        &[
            ("VLAN", each_frame!(packets::ETHERNET, |f| vec![packets::tagged(f, &[(0x8100, 10)])])),
            ("QinQ", each_frame!(packets::ETHERNET, |f| vec![packets::tagged(f, &[(0x88a8, 10), (0x8100, 20)])])),
            ("cooked", each_frame!(packets::SLL, |f| vec![packets::cooked(f)])),
            ("cooked v2", each_frame!(packets::SLL2, |f| vec![packets::cooked2(f)])),
            ("raw IP", each_frame!(packets::RAW_IP, packets::raw_ip)),
            ("loopback", each_frame!(packets::NULL, packets::loopback)),
            ("trailer", each_frame!(packets::ETHERNET, |f| vec![packets::with_trailer(f, &[0xee; 7])])),
            ("pcapng of two interfaces", |p| packets::write_pcapng_two_interfaces(p)),
        ],
    );
}

#[test]
fn every_tunnel_shows_the_same_call() {
    check(
        &CALLS[..1],
        &[
            ("GRE", each_frame!(packets::ETHERNET, |f| packets::gre_ip(f, false))),
            ("GRE with options", each_frame!(packets::ETHERNET, |f| packets::gre_ip(f, true))),
            ("GRE with Ethernet", each_frame!(packets::ETHERNET, |f| vec![packets::gre_teb(f)])),
            ("ERSPAN I", each_frame!(packets::ETHERNET, |f| vec![packets::erspan1(f)])),
            ("ERSPAN II", each_frame!(packets::ETHERNET, |f| vec![packets::erspan2(f)])),
            ("ERSPAN III", each_frame!(packets::ETHERNET, |f| vec![packets::erspan3(f, true)])),
            ("VXLAN", each_frame!(packets::ETHERNET, |f| vec![packets::vxlan(f, 4789)])),
            ("GENEVE", each_frame!(packets::ETHERNET, |f| vec![packets::geneve(f)])),
            ("TZSP", each_frame!(packets::ETHERNET, |f| vec![packets::tzsp(f)])),
            ("IP in IP", each_frame!(packets::ETHERNET, packets::ip_in_ip)),
            ("PPPoE", each_frame!(packets::ETHERNET, packets::pppoe)),
            ("MPLS", each_frame!(packets::ETHERNET, packets::mpls_ip)),
            ("pseudowire", each_frame!(packets::ETHERNET, |f| vec![packets::mpls_ethernet(f, true)])),
            ("GTP-U", each_frame!(packets::ETHERNET, |f| packets::gtp_u(f, true))),
        ],
    );
    check(
        &CALLS[..1],
        &[
            ("GRE over IPv6", each_frame!(packets::ETHERNET, |f| packets::over_ipv6(f, OverIpv6::Gre))),
            ("VXLAN over IPv6", each_frame!(packets::ETHERNET, |f| packets::over_ipv6(f, OverIpv6::Vxlan))),
            ("IP in IPv6", each_frame!(packets::ETHERNET, |f| packets::over_ipv6(f, OverIpv6::Ip))),
        ],
    );
    check(&CALLS[1..], &[("nested", each_frame!(packets::ETHERNET, |f| vec![packets::nested(f)]))]);
}

#[test]
fn fragments_in_every_order_show_the_same_call() {
    // A UDP datagram with 20 ms of G.711 in RTP has 180 bytes with its header. In fragments of up to 64 bytes these are
    // three.
    fn permuted(frame: &[u8], order: [usize; 3]) -> Vec<Vec<u8>> {
        let pieces = packets::fragmented(frame, 64);
        match pieces.len() {
            3 => order.iter().map(|i| pieces[*i].clone()).collect(),
            _ => pieces.into_iter().rev().collect(),
        }
    }
    check(
        &CALLS[..1],
        &[
            ("0 1 2", each_frame!(packets::ETHERNET, |f| permuted(f, [0, 1, 2]))),
            ("0 2 1", each_frame!(packets::ETHERNET, |f| permuted(f, [0, 2, 1]))),
            ("1 0 2", each_frame!(packets::ETHERNET, |f| permuted(f, [1, 0, 2]))),
            ("1 2 0", each_frame!(packets::ETHERNET, |f| permuted(f, [1, 2, 0]))),
            ("2 0 1", each_frame!(packets::ETHERNET, |f| permuted(f, [2, 0, 1]))),
            ("2 1 0", each_frame!(packets::ETHERNET, |f| permuted(f, [2, 1, 0]))),
        ],
    );
    check(
        &CALLS[1..],
        &[
            ("doubled", |p| {
                let pieces = packets::each(p, |f| packets::fragmented(f, 400));
                ethernet(&packets::doubled(&pieces, 0, <[u8]>::to_vec))
            }),
            (
                "in VXLAN",
                each_frame!(packets::ETHERNET, |f| {
                    packets::fragmented(f, 104).iter().map(|p| packets::vxlan(p, 4789)).collect()
                }),
            ),
        ],
    );
}

#[test]
fn copies_by_the_mirror_change_nothing() {
    check(
        &CALLS,
        &[
            ("identical", |p| ethernet(&packets::doubled(p, 0, <[u8]>::to_vec))),
            ("routed: other MACs, TTL less one", |p| ethernet(&packets::doubled(p, 100_000, packets::routed))),
            ("one copy tagged", |p| ethernet(&packets::doubled(p, MS, |f| packets::tagged(f, &[(0x8100, 9)])))),
            ("remarked, 49 ms later", |p| ethernet(&packets::doubled(p, 49 * MS, packets::remarked))),
        ],
    );
}

#[test]
fn the_worst_mirror_shows_every_call() {
    // One leg of the call with a transfer has no BYE and ends with the last packet of the capture. A duplicate of that
    // packet changes its end, so this call is left out.
    for name in ALL_CALLS.into_iter().filter(|name| *name != "blind_transfer_refer_pbx") {
        let doubled = packets::doubled(&frames(name), 2 * MS, |f| packets::vxlan(&packets::routed(f), 4789));
        let tagged = packets::each(&doubled, |f| vec![packets::tagged(f, &[(0x88a8, 10), (0x8100, 20)])]);
        // Frames are delayed by less than the 2 ms of the duplicates. Otherwise an original could come after its
        // duplicate, and the duplicate's time would count.
        let shown = ComparableCall::of(&replay_packets(&rewrite::disordered(&tagged, 1_900_000)));
        whatever_the_order(shown).assert_same(&whatever_the_order(ComparableCall::clean(name)), name);
    }
}

#[test]
fn noise_on_other_ports_changes_nothing() {
    check(&CALLS, &[("noise", |p| ethernet(&rewrite::with_noise(p)))]);
}

#[test]
fn disorder_between_two_interfaces_changes_nothing_but_the_count_of_it() {
    for name in ["g711a_direct", "early_media_183_direct", "hold_resume_direct", "pbx_b2bua_both_legs_ulaw"] {
        let clean = whatever_the_order(ComparableCall::clean(name));
        for late_ns in [1_000_000, 20_000_000, 100_000_000] {
            let shown =
                whatever_the_order(ComparableCall::of(&replay_packets(&rewrite::disordered(&frames(name), late_ns))));
            shown.assert_same(&clean, &format!("{name}, {late_ns} ns"));
        }
    }
}

#[test]
fn sip_in_any_style_is_the_same_call() {
    check(
        &UDP_CALLS,
        &[
            ("compact", |p| ethernet(&rewrite::sip(p, |_, m| rewrite::compact(m)))),
            ("folded", |p| ethernet(&rewrite::sip(p, |_, m| rewrite::folded(m)))),
            ("bare LF", |p| ethernet(&rewrite::sip(p, |_, m| rewrite::bare_lf(m)))),
            ("odd spaces", |p| ethernet(&rewrite::sip(p, |_, m| rewrite::odd_spaces(m)))),
            ("compact and folded", |p| ethernet(&rewrite::sip(p, |_, m| rewrite::folded(&rewrite::compact(m))))),
        ],
    );
}

#[test]
fn sip_over_tcp_and_websocket_gives_the_same_call_at_any_split() {
    let name = "g711a_direct";
    let (packets, clean) = (frames(name), ComparableCall::clean(name));
    for cut in [1, 2, 3, 17, 100, 419, 1460, 60_000] {
        let shown = replay_packets(&packets::sip_over_tcp(&packets, 5060, cut));
        assert_eq!(shown.only().legs[0].transport, Transport::Tcp);
        ComparableCall::of(&shown).assert_same(&clean, &format!("TCP in pieces of {cut}"));
        let shown = replay_packets(&rewrite::sip_over_websocket(&packets, cut));
        assert_eq!(shown.only().legs[0].transport, Transport::Ws, "pieces of {cut}");
        ComparableCall::of(&shown).assert_same(&clean, &format!("WebSocket in pieces of {cut}"));
    }
    for name in &UDP_CALLS[1..] {
        let shown = replay_packets(&packets::sip_over_tcp(&frames(name), 5060, 211));
        ComparableCall::of(&shown).assert_same(&ComparableCall::clean(name), name);
    }
}

#[test]
fn a_call_over_ipv6_is_the_same_call() {
    for name in ["g711a_direct", "hold_resume_direct", "early_media_183_direct", "proxy_kamailio_same_callid_twice"] {
        let shown = ComparableCall::of(&replay_packets(&rewrite::ipv6(&frames(name))));
        let clean = ComparableCall::clean(name);
        let bare = |e: ComparableCall| ComparableCall {
            records: e.records.into_iter().map(without_addresses).collect(),
            sound: e.sound,
        };
        bare(shown).assert_same(&bare(clean), name);
    }
}

#[test]
fn overlapping_fragments_and_those_of_ipv6_show_the_same_call() {
    let name = "g711a_direct";
    check(&[name], &[("overlapping", |p| ethernet(&rewrite::overlapping(p, 64)))]);
    let bare = |e: ComparableCall| ComparableCall {
        records: e.records.into_iter().map(without_addresses).collect(),
        sound: e.sound,
    };
    let whole = rewrite::ipv6(&frames(name));
    let shown = ComparableCall::of(&replay_packets(&rewrite::fragmented_v6(&whole, 64)));
    bare(shown).assert_same(&bare(ComparableCall::of(&replay_packets(&whole))), "IPv6 fragments, the last one first");
}

#[test]
fn a_fragment_that_is_lost_costs_its_own_packet_and_nothing_else() {
    let name = "g711a_direct";
    let (packets, clean) = (frames(name), ComparableCall::clean(name));
    let (mut rtp, mut out) = (0, Vec::new());
    for p in &packets {
        let mut pieces = packets::fragmented(&p.data, 64);
        rtp += u32::from(carries_rtp(p));
        // The second of three fragments of the hundredth RTP packet is lost.
        if carries_rtp(p) && rtp == 100 {
            pieces.remove(1);
        }
        out.extend(pieces.into_iter().map(|data| CapturedFrame { at_ns: p.at_ns, data }));
    }
    let shown = replay_packets(&out);
    let (record, wanted) = (shown.only(), &clean.records[0]);
    let sum =
        |r: &CallRecord| (r.sides.caller.packets + r.sides.callee.packets, r.sides.caller.lost + r.sides.callee.lost);
    assert_eq!(sum(record), (sum(wanted).0 - 1, sum(wanted).1 + 1));
    assert_eq!((record.answered_at, record.ended_at), (wanted.answered_at, wanted.ended_at));
    let (heard, whole) = (samples(&shown.wav(record)), samples(&clean.sound[0]));
    assert_eq!(heard.len(), whole.len(), "nothing after it moved");
    let other = heard.iter().zip(&whole).filter(|(a, b)| a != b).count();
    // 20 ms are concealed, and the sound after them is affected for at most another 40 ms.
    assert!((1..=60 * 8).contains(&other), "{other} samples differ");
}

#[test]
fn sip_on_another_port_is_found_by_its_start_line() {
    for name in ["g711a_direct", "hold_resume_direct"] {
        for port in [5099, 40_000] {
            let shown = replay_packets(&rewrite::moved_port(&frames(name), 5060, port));
            assert_same_call(&shown, &ComparableCall::clean(name), &format!("{name}, port {port}"));
            assert_eq!(shown.only().legs[0].caller_addr.map(|a| a.port()), Some(port));
        }
    }
}

#[test]
fn tcp_with_all_that_happens_to_it_is_the_same_call() {
    let name = "g711a_direct";
    let (packets, clean) = (frames(name), ComparableCall::clean(name));
    let segments = rewrite::with_syns(&packets::sip_over_tcp(&packets, 5060, 100));
    let with_keep_alives = rewrite::sip(&packets, |_, m| [b"\r\n\r\n", m, b"\r\n"].concat());
    // One frame contains a message of the call among three others, one of which has 20 KB. So the frame is far longer
    // than any MTU.
    let options = |length: usize| {
        let head = "OPTIONS sip:10.9.0.12 SIP/2.0\r\nVia: SIP/2.0/TCP 10.9.0.99;branch=z9hG4bKo\r\nFrom: <sip:o@10.9.0.99>;tag=o\r\n\
                    To: <sip:10.9.0.12>\r\nCall-ID: options@10.9.0.99\r\nCSeq: 1 OPTIONS\r\n";
        [format!("{head}Content-Length: {length}\r\n\r\n").as_bytes(), &vec![b'x'; length]].concat()
    };
    let among_others = rewrite::sip(&packets, |_, m| [options(0), options(20_000), m.to_vec(), options(3)].concat());
    for (what, shown) in [
        ("several messages in a frame of 20 KB (GRO)", packets::sip_over_tcp(&among_others, 5060, 60_000)),
        ("retransmitted", rewrite::retransmitted(&segments, 200 * MS)),
        ("swapped", rewrite::swapped(&segments)),
        ("swapped and retransmitted", rewrite::swapped(&rewrite::retransmitted(&segments, 1))),
        ("keep-alives", packets::sip_over_tcp(&with_keep_alives, 5060, 97)),
        ("joined by the card (GRO)", packets::sip_over_tcp(&with_keep_alives, 5060, 60_000)),
    ] {
        let shown = replay_packets(&shown);
        assert_eq!(shown.only().legs[0].transport, Transport::Tcp, "{what}");
        ComparableCall::of(&shown).assert_same(&clean, what);
    }
}

#[test]
fn a_tcp_stream_opened_before_the_capture_is_read_midway() {
    let name = "g711a_direct";
    let clean = ComparableCall::clean(name);
    for cut in [100, 1460] {
        // In each direction, the end of an older message precedes the first message.
        let mut seen = std::collections::HashSet::new();
        let under_way = rewrite::sip(&frames(name), |p, m| match seen.insert(p.data[26..30].to_vec()) {
            true => [b"er-Agent: old\r\nContent-Length: 12\r\n\r\na=sendrecv\r\n".as_slice(), m].concat(),
            false => m.to_vec(),
        });
        let shown = replay_packets(&packets::sip_over_tcp(&under_way, 5060, cut));
        ComparableCall::of(&shown).assert_same(&clean, &format!("pieces of {cut}"));
    }
}

#[test]
fn several_files_are_one_capture() {
    for name in CALLS {
        let (packets, clean) = (frames(name), ComparableCall::clean(name));
        let every_third = |n: usize| -> Vec<u8> {
            let mine: Vec<CapturedFrame> = packets.iter().skip(n).step_by(3).cloned().collect();
            ethernet(&mine)
        };
        let mixed = replay_bytes(&[every_third(2), every_third(0), every_third(1)]);
        ComparableCall::of(&mixed).assert_same(&clean, &format!("{name}, mixed"));
        let (head, tail) = packets.split_at(packets.len() / 2);
        let cut = replay_bytes(&[ethernet(tail), ethernet(head)]);
        ComparableCall::of(&cut).assert_same(&clean, &format!("{name}, cut in half"));
    }
}

#[test]
fn the_same_capture_twice_gives_the_same_bytes() {
    for name in ALL_CALLS {
        let bytes = ethernet(&frames(name));
        let [one, two] = [(); 2].map(|()| replay_bytes(std::slice::from_ref(&bytes)));
        for (a, b) in one.records.iter().zip(&two.records) {
            let json =
                |r: &ReplayResult, id: &str| std::fs::read_to_string(r.out.path().join(format!("{id}.json"))).unwrap();
            let pathless = |r: &ReplayResult, id: &str| json(r, id).replace(r.out.path().to_str().unwrap(), "");
            assert_eq!(pathless(&one, &a.id), pathless(&two, &b.id), "{name}");
        }
        ComparableCall::of(&one).assert_same(&ComparableCall::of(&two), name);
    }
}

/// Checks the parts of a record that do not depend on the first captured message of the call.
fn assert_same_call(shown: &ReplayResult, clean: &ComparableCall, what: &str) {
    let (record, wanted) = (shown.only(), &clean.records[0]);
    let core = |r: &CallRecord| (r.from.clone(), r.to.clone(), r.internal.clone(), r.outcome, r.verdict, r.ended_by);
    assert_eq!(core(record), core(wanted), "{what}");
    assert_eq!((record.answered_at, record.ended_at), (wanted.answered_at, wanted.ended_at), "{what}");
    let packets = |r: &CallRecord| (r.sides.caller.packets, r.sides.callee.packets);
    assert_eq!(packets(record), packets(wanted), "{what}");
    assert!(shown.wav(record) == clean.sound[0], "{what}: other sound");
}

#[test]
fn media_before_the_invite_is_of_the_call() {
    let name = "early_media_183_direct";
    let clean = ComparableCall::clean(name);
    for late in [10 * MS, 100 * MS, 2_000 * MS] {
        // The first packets of both sides come at 2 and 5 ms. The INVITE and the 183 are delayed until after them.
        let late_sip = |p: &CapturedFrame| is_sip(p) && (begins(p, "INVITE") || begins(p, "SIP/2.0 1"));
        let shown = replay_packets(&rewrite::delayed(&frames(name), late, late_sip));
        assert_same_call(&shown, &clean, &format!("INVITE {} ms late", late / MS));
    }
}

#[test]
fn the_answer_before_the_invite_is_an_answer() {
    let name = "g711a_direct";
    // In the capture the 200 comes 1.210 s after the INVITE. INVITE and 1xx are delayed by 1.215 s, so they arrive
    // after the 200.
    let late = |p: &CapturedFrame| begins(p, "INVITE") || begins(p, "SIP/2.0 1");
    let shown = replay_packets(&rewrite::delayed(&frames(name), 1_215 * MS, late));
    assert_same_call(&shown, &ComparableCall::clean(name), name);
}

#[test]
fn a_call_with_only_responses_keeps_what_they_contain() {
    for name in ["g711a_direct", "early_media_183_direct"] {
        let clean = ComparableCall::clean(name);
        let shown = replay_packets(&rewrite::only(&frames(name), |p| !is_sip(p) || is_response(p)));
        let (record, wanted) = (shown.only(), &clean.records[0]);
        assert_eq!((&record.from, &record.to), (&wanted.from, &wanted.to), "{name}");
        assert_eq!((record.outcome, record.answered_at), (CallOutcome::Answered, wanted.answered_at), "{name}");
        assert_eq!(record.verdict, Some(CallVerdict::BothSides), "{name}: {:?}", record.verdict_reason);
        assert_eq!(record.sides.caller.streams.len(), 1, "{name}: left is the caller");
        assert_eq!(record.sides.caller.streams[0].src, wanted.sides.caller.streams[0].src, "{name}");
        let late = record.ended_at.unwrap().since(wanted.ended_at.unwrap());
        assert!(late.as_millis() < 50, "{name}: the 200 to the BYE ends it, {late:?} after the BYE");
    }
}

#[test]
fn a_call_mirrored_in_one_direction_has_one_voice_in_place() {
    let name = "g711a_direct";
    let clean = ComparableCall::clean(name);
    for (address, verdict, channel) in
        [("10.9.0.11", CallVerdict::CallerOnly, 0_usize), ("10.9.0.12", CallVerdict::CalleeOnly, 1)]
    {
        let shown = replay_packets(&rewrite::only(&frames(name), |p| sent_by(p, address)));
        let record = shown.only();
        assert_eq!(record.verdict, Some(verdict), "{:?}", record.verdict_reason);
        assert_eq!((&record.from, &record.to), (&clean.records[0].from, &clean.records[0].to), "{address}");
        assert_eq!(record.outcome, CallOutcome::Answered, "{address}");
        let (heard, whole) = (samples(&shown.wav(record)), samples(&clean.sound[0]));
        // With one direction only, the ACK stands for the missing 200, or the 200 to the BYE stands for the missing
        // BYE. So the file begins or ends a little later, and its samples are shifted.
        let off_ns = record.recordings[0].starts_at.as_nanos() - clean.records[0].recordings[0].starts_at.as_nanos();
        let off = usize::try_from((off_ns * 8 + 500_000) / 1_000_000).unwrap();
        let own = |s: &[i16]| s.iter().skip(channel).step_by(2).copied().collect::<Vec<_>>();
        let other = |s: &[i16]| s.iter().skip(1 - channel).step_by(2).copied().collect::<Vec<_>>();
        assert!(other(&heard).iter().all(|s| *s == 0), "{address}: nothing of the other side");
        let (heard, whole) = (own(&heard), own(&whole));
        // Both files begin between two samples, so one of them may have one sample more at the beginning.
        let same = |(a, b): (usize, usize)| heard.iter().skip(a).zip(&whole[off + b..]).filter(|(a, b)| a == b).count();
        let best = [(0, 0), (1, 0), (0, 1)].map(same).into_iter().max().unwrap();
        let wanted = heard.len().min(whole.len() - off) - 2;
        assert!(best >= wanted, "{address}: {best} of {wanted} samples, from {off}");
    }
}

fn samples(wav: &[u8]) -> Vec<i16> {
    hound::WavReader::new(wav).unwrap().samples().map(Result::unwrap).collect()
}

#[test]
fn a_call_without_its_signalling_is_no_call() {
    let shown = replay_packets(&rewrite::only(&frames("g711a_direct"), carries_rtp));
    assert_eq!(shown.records, []);
}
