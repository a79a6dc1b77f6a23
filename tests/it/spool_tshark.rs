//! Tests that tshark reads every packet of a spool file and reports no malformed packet.

use std::process::Command;

use callspan::call::decision::{Decision, FORMAT};
use callspan::call::event::{KeptBytes, LegId, LegSink as _};
use callspan::call::record::Side;
use callspan::decode::UdpDatagram;
use callspan::net::Endpoint;
use callspan::spool::config::Config;
use callspan::spool::disk::DiskSpool;
use callspan::time::Timestamp;

#[test]
#[cfg_attr(not(has_tshark), ignore = "needs tshark")]
fn tshark_reads_a_spool_without_complaint() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { dir: dir.path().to_owned(), ..Config::default() };
    let (mut spool, _events) = DiskSpool::start(&config).unwrap();
    let leg = LegId(1);
    let at = |ms: i64| Timestamp::from_micros(1_795_417_200_000_000 + ms * 1_000 + 7);
    spool.open(leg, "leg");
    let text = |s: &str| s.to_owned();
    let begin = Decision::Begin {
        format: FORMAT,
        leg: text("leg"),
        conversation: text("call"),
        appliance: text("test"),
        source: text("made up"),
        first_requester: Side::Caller,
        transport: Default::default(),
        wall_offset_ns: 0,
        by: None,
    };
    spool.decide(leg, at(0), &begin);
    let v4 = ["192.0.2.1:5060", "192.0.2.2:5060"];
    let v6 = ["[2001:db8::1]:4000", "[2001:db8::2]:5000"];
    let invite = b"OPTIONS sip:b@example.org SIP/2.0\r\nCall-ID: x@y\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n";
    let rtp = [&[0x80, 0, 0, 1, 0, 0, 0, 160, 0, 0, 0, 9][..], &[0xFF; 160]].concat();
    let packets = [
        (0, v4, &invite[..], KeptBytes::Whole),
        (10, v6, &rtp, KeptBytes::Whole),
        (30, v4, &rtp, KeptBytes::Header(12)),
    ];
    for (ms, [src, dst], payload, keep) in packets {
        let (src, dst): (Endpoint, Endpoint) = (src.parse().unwrap(), dst.parse().unwrap());
        let wire_len = payload.len() as u32;
        spool.packet(leg, &UdpDatagram { at: at(ms), src, dst, payload, wire_len, interface: 0 }, keep);
    }
    spool.close(leg);
    let path = spool.store().path("leg");
    spool.shutdown();

    let fields = [
        "frame.time_epoch",
        "ip.src",
        "ipv6.dst",
        "udp.srcport",
        "udp.length",
        "frame.len",
        "frame.cap_len",
        "ip.checksum.status",
        "udp.checksum.status",
        "sip.Method",
        "_ws.malformed",
    ];
    let mut tshark = Command::new("tshark");
    tshark.args(["-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE", "-T", "fields", "-E", "separator=|"]);
    let output = tshark
        .args(fields.iter().flat_map(|field| ["-e", field]))
        .args(["-Y", "udp", "-r"])
        .arg(&path)
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && !complaint.contains("appears"), "{complaint}");
    let lines: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    // Decisions are shown as records, too. The packets have 20 + 8 + 87 and 40 + 8 + 172 bytes. The third has 200 bytes
    // on the wire, of which 40 are stored. Checksum status: 1 is good, 2 is unknown, 3 is none.
    assert_eq!(lines[0], "1795417200.000007000|192.0.2.1||5060|95|115|115|1|3|OPTIONS|");
    assert_eq!(lines[1], "1795417200.010007000||2001:db8::2|4000|180|220|220||1||");
    assert!(lines[2].starts_with("1795417200.030007000|192.0.2.1||5060|180|200|40|1|"), "{}", lines[2]);
    assert_eq!(lines.len(), 3);
}
