//! Runs `callspan doctor` on captures with one fault each. It must report this fault with its remedy, and no other
//! fault.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use callspan::call::record::Side;

use crate::support::packets::{self, CapturedFrame};
use crate::support::phones::{self, MirroredTraffic, RtpPhone};

fn doctor(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_callspan"));
    command.arg("doctor").args(args).env_remove("CALLSPAN_LOG").env_remove("CALLSPAN_LOG_JSON");
    command.output().expect("the binary runs")
}

/// Returns the call of the fixtures without a fault: 838 frames, SIP and G.711 in both directions between 10.9.0.11 and
/// 10.9.0.12.
fn call() -> Vec<CapturedFrame> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/calls/g711a_direct/capture.pcap");
    packets::read_pcap(&std::fs::read(path).expect("shipped"))
}

/// Returns the JSON report of the doctor on a capture.
fn look(pcap: &[u8]) -> serde_json::Value {
    let dir = tempfile::tempdir().expect("temporary folder");
    let path: PathBuf = dir.path().join("x.pcap");
    std::fs::write(&path, pcap).expect("written");
    let output = doctor(&["--json", path.to_str().expect("plain")]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

fn look_at(packets: &[CapturedFrame]) -> serde_json::Value {
    look(&packets::write_pcap(packets::ETHERNET, packets))
}

/// Returns kind and severity of each finding.
fn kinds(report: &serde_json::Value) -> Vec<(String, String)> {
    let text = |v: &serde_json::Value| v.as_str().expect("a text").to_owned();
    let findings = report["findings"].as_array().expect("a list");
    findings.iter().map(|f| (text(&f["kind"]), text(&f["severity"]))).collect()
}

#[track_caller]
fn assert_finds(report: &serde_json::Value, expected: &[(&str, &str)]) {
    let expected: Vec<(String, String)> = expected.iter().map(|(k, s)| ((*k).into(), (*s).into())).collect();
    assert_eq!(kinds(report), expected, "{report:#}");
}

fn is_ipv4_udp(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[8, 0]) && frame[23] == 17
}

fn source(frame: &[u8]) -> &[u8] {
    &frame[26..30]
}

fn port(frame: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([frame[at], frame[at + 1]])
}

fn is_sip(frame: &[u8]) -> bool {
    is_ipv4_udp(frame) && (port(frame, 34) == 5060 || port(frame, 36) == 5060)
}

fn only(packets: &[CapturedFrame], keep: impl Fn(&[u8]) -> bool) -> Vec<CapturedFrame> {
    packets.iter().filter(|p| keep(&p.data)).cloned().collect()
}

#[test]
fn a_healthy_capture_is_one_line_and_status_0() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/calls/g711a_direct/capture.pcap");
    let output = doctor(&[path.to_str().expect("plain")]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains(": healthy: ") && said.contains("1 call (1 answered, 1 heard on both sides)"), "{said}");
    assert!(output.stderr.is_empty());
}

#[test]
fn a_one_way_mirror_is_a_problem_with_the_switch_command() {
    let packets = call();
    let first = source(&packets[0].data).to_vec();
    let report = look_at(&only(&packets, |f| source(f) == first));
    assert_finds(&report, &[("one_direction", "problem")]);
    let what = report["findings"][0]["what"].as_str().expect("a text");
    assert!(what.starts_with("SIP is seen in one direction only") && what.contains("; RTP is seen"), "{what}");
    assert_eq!(report["findings"][0]["commands"][1], "monitor session 1 source interface Gi1/0/1 both");
}

#[test]
fn one_sided_media_with_whole_signalling_means_media_takes_another_path() {
    let packets = call();
    let caller = source(&packets[0].data).to_vec();
    let report = look_at(&only(&packets, |f| is_sip(f) || source(f) == caller));
    assert_finds(&report, &[("one_direction", "problem")]);
    assert_eq!(report["findings"][0]["commands"][0], "direct_media=no");
    assert_eq!(report["counts"]["calls_both_sides"], 0);
}

#[test]
fn every_packet_twice_is_half_copies_whichever_kind_it_is() {
    for (name, doubled) in [
        ("same", packets::doubled(&call(), 1_000, <[u8]>::to_vec)),
        ("routed", packets::doubled(&call(), 40_000_000, packets::routed)),
    ] {
        let report = look_at(&doubled);
        assert_finds(&report, &[("duplicates", "warning")]);
        let what = report["findings"][0]["what"].as_str().expect("a text");
        assert!(what.starts_with("50 % of the packets are copies"), "{name}: {what}");
        assert_eq!(report["counts"]["calls_both_sides"], 1, "{name}");
    }
}

#[test]
fn frames_cut_by_the_snap_length_ask_for_whole_frames() {
    let mut pcap = Vec::from(&packets::write_pcap(packets::ETHERNET, &[])[..]);
    // A snap length of 96 bytes was the default of old versions of tcpdump. It cuts the sound off RTP packets and the
    // session description off SIP messages.
    for p in call() {
        let kept = p.data.len().min(96);
        pcap.extend(((p.at_ns / 1_000_000_000) as u32).to_le_bytes());
        pcap.extend(((p.at_ns % 1_000_000_000) as u32).to_le_bytes());
        pcap.extend((kept as u32).to_le_bytes());
        pcap.extend((p.data.len() as u32).to_le_bytes());
        pcap.extend_from_slice(&p.data[..kept]);
    }
    let report = look(&pcap);
    assert_eq!(kinds(&report)[0], ("cut_by_snaplen".into(), "problem".into()), "{report:#}");
    assert_eq!(report["findings"][0]["commands"][0], "tcpdump -ni eth1 -s 0 -w trunk.pcap");
}

#[test]
fn packets_cut_by_the_switch_are_told_from_a_snap_length() {
    let cut = packets::each(&call(), |f| vec![packets::erspan2(if is_sip(f) { f } else { &f[..f.len().min(128)] })]);
    let report = look_at(&cut);
    assert_finds(&report, &[("cut_by_mirror", "problem"), ("tunnels", "note")]);
}

#[test]
fn signalling_alone_is_sip_without_rtp() {
    let report = look_at(&only(&call(), is_sip));
    assert_finds(&report, &[("sip_without_rtp", "problem")]);
    assert_eq!(report["findings"][0]["what"], "1 of 1 answered call had no RTP");
}

#[test]
fn media_alone_is_rtp_without_sip() {
    let report = look_at(&only(&call(), |f| is_ipv4_udp(f) && !is_sip(f)));
    assert_finds(&report, &[("rtp_without_sip", "problem")]);
}

#[test]
fn signalling_in_tls_is_named_as_the_reason() {
    // A TLS 1.2 ClientHello record and its answer on port 5061, followed by the media of the call.
    let (a, b) = ([10, 9, 0, 11], [10, 9, 0, 12]);
    let hello = [&[0x16, 3, 1, 0, 60, 1, 0, 0, 56, 3, 3][..], &[7; 54]].concat();
    let segments = [
        (a, b, packets::tcp((40_000, 5061), 99, 2, &[])),
        (b, a, packets::tcp((5061, 40_000), 499, 0x12, &[])),
        (a, b, packets::tcp((40_000, 5061), 100, 0x18, &hello)),
        (b, a, packets::tcp((5061, 40_000), 500, 0x18, &hello)),
    ];
    let media = only(&call(), |f| is_ipv4_udp(f) && !is_sip(f));
    let at_ns = media[0].at_ns;
    let mut packets: Vec<CapturedFrame> = Vec::new();
    for (n, (src, dst, segment)) in segments.into_iter().enumerate() {
        let data = packets::ethernet(0x0800, &packets::ipv4(src, dst, 6, n as u16, &segment));
        packets.push(CapturedFrame { at_ns: at_ns - 1_000_000 + n as i64, data });
    }
    packets.extend(media);
    let report = look_at(&packets);
    assert_finds(&report, &[("sip_over_tls", "problem"), ("rtp_without_sip", "note")]);
}

#[test]
fn tunnels_and_vlans_are_named_and_are_nothing_to_mend() {
    let report = look_at(&packets::each(&call(), |f| vec![packets::vxlan(f, 4789)]));
    assert_finds(&report, &[("tunnels", "note")]);
    assert!(report["findings"][0]["what"].as_str().expect("a text").contains("VXLAN (838 packets)"), "{report:#}");
    let report = look_at(&packets::each(&call(), |f| vec![packets::nested(f)]));
    assert_finds(&report, &[("vlans", "note"), ("tunnels", "note")]);
    for kind in ["ERSPAN type II", "VXLAN", "GRE"] {
        assert!(report["findings"][1]["what"].as_str().expect("a text").contains(kind), "{report:#}");
    }
    assert_eq!(report["healthy"], true);
}

#[test]
fn whole_fragments_are_a_note_and_missing_ones_a_warning() {
    let whole = packets::each(&call(), |f| if is_sip(f) { packets::fragmented(f, 256) } else { vec![f.to_vec()] });
    assert_finds(&look_at(&whole), &[("fragments", "note")]);
    let without_last = packets::each(&call(), |f| {
        let mut pieces = if is_sip(f) { packets::fragmented(f, 256) } else { vec![f.to_vec()] };
        if pieces.len() > 1 {
            pieces.pop();
        }
        pieces
    });
    let report = look_at(&without_last);
    assert!(kinds(&report).contains(&("fragments_incomplete".into(), "warning".into())), "{report:#}");
}

#[test]
fn gaps_in_the_media_are_lost_before_us() {
    let packets = call();
    let kept: Vec<CapturedFrame> =
        packets.iter().enumerate().filter(|(n, p)| is_sip(&p.data) || n % 10 != 0).map(|(_, p)| p.clone()).collect();
    let report = look_at(&kept);
    assert_finds(&report, &[("lost_before_us", "warning")]);
}

/// Returns packets of one stream as a network card or kernel with UDP receive offload delivers them: `count` packets in
/// one frame.
fn joined(packets: &[CapturedFrame], count: usize) -> Vec<CapturedFrame> {
    let mut out = only(packets, is_sip);
    for host in [11, 12] {
        let rtp = |f: &[u8]| is_ipv4_udp(f) && !is_sip(f) && f[29] == host && port(f, 34).is_multiple_of(2);
        for group in only(packets, rtp).chunks(count) {
            let payload: Vec<u8> = group.iter().flat_map(|p| p.data[42..].to_vec()).collect();
            let first = &group[0].data;
            let datagram = packets::udp(port(first, 34), port(first, 36), &payload);
            let [src, dst] = [26, 30].map(|at| first[at..at + 4].try_into().expect("four"));
            let data = packets::ethernet(0x0800, &packets::ipv4(src, dst, 17, 1, &datagram));
            out.push(CapturedFrame { at_ns: group[group.len() - 1].at_ns, data });
        }
    }
    out.sort_by_key(|p| p.at_ns);
    out
}

#[test]
fn rtp_joined_by_gro_is_reported_and_is_no_network_loss() {
    for count in [2, 3, 7] {
        let report = look_at(&joined(&call(), count));
        assert_finds(&report, &[("joined_rtp", "warning")]);
        let commands = &report["findings"][0]["commands"];
        assert_eq!(commands[0], "ethtool -K eth1 gro off rx-gro-list off rx-udp-gro-forwarding off");
    }
}

#[test]
fn media_behind_dtls_is_encrypted_and_says_what_to_change() {
    let to_dtls = |f: &[u8]| {
        let mut out = f.to_vec();
        // The media line gets the profile of SRTP, without keys. Its length stays the same, so that no length field
        // changes.
        if let Some(at) = find(&out, b"RTP/AVP ") {
            let line_end = at + out[at..].iter().position(|b| *b == b'\r').expect("a line ends");
            // "m=audio 20000 RTP/AVP 8 101" becomes "m=audio 20000 RTP/SAVP 8", padded with spaces to the same number
            // of bytes.
            let formats = out[at + 8..line_end].to_vec();
            let first = formats.split(|b| *b == b' ').next().expect("a format").to_vec();
            let mut line = [&b"RTP/SAVP "[..], &first].concat();
            assert!(line.len() <= line_end - at, "a second format makes the room");
            line.resize(line_end - at, b' ');
            out[at..line_end].copy_from_slice(&line);
            out[40..42].fill(0);
        }
        vec![out]
    };
    let report = look_at(&packets::each(&call(), to_dtls));
    assert_eq!(kinds(&report)[0], ("encrypted_media".into(), "problem".into()), "{report:#}");
    assert_eq!(report["findings"][0]["commands"][0], "media_encryption=sdes");
}

/// The session descriptions show no encryption. But each payload is 10 bytes too long, and its bytes are random.
#[test]
fn media_that_is_encrypted_by_its_form_alone_is_counted() {
    let mut wire = MirroredTraffic::answered();
    for side in [Side::Caller, Side::Callee] {
        RtpPhone::new(side).talk(&mut wire, 1_000.0, 6_000.0);
    }
    wire.bye(6_000.0);
    let plain = wire.sorted();
    let mut random = fastrand::Rng::with_seed(5);
    let mut encrypted = plain.clone();
    for packet in encrypted.iter_mut().filter(|packet| packet.payload.starts_with(&[0x80])) {
        packet.payload.truncate(12);
        packet.payload.extend(std::iter::repeat_with(|| random.u8(..)).take(170));
    }
    let report = look_at(&phones::frames(&encrypted));
    assert_eq!(kinds(&report)[0], ("encrypted_media".into(), "problem".into()), "{report:#}");
    let what = report["findings"][0]["what"].as_str();
    assert_eq!(what, Some("encrypted RTP streams: 2 with keys that the signalling does not show"));
    assert!(!look_at(&phones::frames(&plain)).to_string().contains("encrypted_media"));
}

#[test]
fn a_clock_that_was_set_back_in_a_capture_is_told() {
    let mut packets = call();
    let half = packets.len() / 2;
    for p in &mut packets[half..] {
        p.at_ns -= 60_000_000_000;
    }
    let report = look_at(&packets);
    assert_finds(&report, &[("clock_steps", "warning")]);
}

#[test]
fn a_clock_set_ahead_is_reported_and_a_hold_is_not() {
    let mut packets = call();
    let half = packets.len() / 2;
    for p in &mut packets[half..] {
        p.at_ns += 7_200_000_000_000;
    }
    let report = look_at(&packets);
    assert!(kinds(&report).contains(&("clock_step_ahead".into(), "warning".into())), "{report:#}");
    assert!(
        report["findings"].to_string().contains("about 7200 s")
            || report["findings"].to_string().contains("about 7199 s")
    );
    // Now the pause is a hold: the RTP clocks of the senders continue during it, by 7,200 s at 8 kHz.
    for p in &mut packets[half..] {
        if !is_sip(&p.data) && is_ipv4_udp(&p.data) && p.data.len() > 200 {
            let time = u32::from_be_bytes(p.data[46..50].try_into().expect("four bytes"));
            p.data[46..50].copy_from_slice(&time.wrapping_add(57_600_000).to_be_bytes());
            p.data[40..42].fill(0);
        }
    }
    assert!(!kinds(&look_at(&packets)).iter().any(|(kind, _)| kind == "clock_step_ahead"));
}

#[test]
fn stamps_of_a_clock_that_was_never_set_are_told() {
    let mut packets = call();
    let first = packets[0].at_ns;
    for p in &mut packets {
        p.at_ns -= first - 5_000_000_000;
    }
    let report = look_at(&packets);
    assert_finds(&report, &[("clock_not_set", "warning")]);
    assert!(report["findings"][0]["what"].as_str().expect("a text").contains("1970-01-01"), "{report:#}");
}

#[test]
fn a_one_sided_call_is_found_between_hosts_that_talk_both_ways() {
    // The callee's sound goes to other ports, as if it was part of another call between the same hosts.
    let packets = packets::each(&call(), |f| {
        let mut f = f.to_vec();
        if is_ipv4_udp(&f) && !is_sip(&f) && source(&f) == [10, 9, 0, 12] {
            for at in [34, 36] {
                let moved = port(&f, at) + 1_000;
                f[at..at + 2].copy_from_slice(&moved.to_be_bytes());
            }
            f[40..42].fill(0);
        }
        vec![f]
    });
    let report = look_at(&packets);
    assert_finds(&report, &[("one_side", "problem")]);
    assert_eq!(report["findings"][0]["what"], "1 of 1 answered call had audio on one side only");
    assert_eq!(report["counts"]["calls_both_sides"], 0);
}

#[test]
fn sound_that_is_cut_or_has_no_decoder_is_not_heard() {
    let cut = packets::each(&call(), |f| vec![packets::erspan2(if is_sip(f) { f } else { &f[..f.len().min(128)] })]);
    let report = look_at(&cut);
    assert_finds(&report, &[("cut_by_mirror", "problem"), ("tunnels", "note")]);
    assert_eq!((&report["counts"]["calls_answered"], &report["counts"]["calls_both_sides"]), (&1.into(), &0.into()));
    // The encoding name of payload type 8 is replaced by an unknown name of the same length.
    let renamed = packets::each(&call(), |f| {
        let mut f = f.to_vec();
        while let Some(at) = find(&f, b"PCMA/8000") {
            f[at..at + 4].copy_from_slice(b"QQQQ");
            f[40..42].fill(0);
        }
        vec![f]
    });
    let report = look_at(&renamed);
    assert_finds(&report, &[("unknown_codec", "problem")]);
    assert_eq!(report["counts"]["calls_both_sides"], 0);
}

#[test]
fn an_unreadable_capture_is_status_1_and_a_wrong_command_line_2() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = dir.path().join("x.txt");
    std::fs::write(&path, "this is no capture").expect("written");
    let output = doctor(&[path.to_str().expect("plain")]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is no capture"));
    assert_eq!(doctor(&["--interface", "no-such-eth9"]).status.code(), Some(1));
    assert_eq!(doctor(&[]).status.code(), Some(2));
    assert_eq!(doctor(&["--interface", "lo", "x.pcap"]).status.code(), Some(2));
    assert_eq!(doctor(&["--interface", "lo", "--seconds", "0"]).status.code(), Some(2));
}

#[test]
fn a_capture_cut_inside_a_frame_is_analysed_up_to_there() {
    let whole = packets::write_pcap(packets::ETHERNET, &call());
    let report = look(&whole[..whole.len() / 2]);
    let all = kinds(&report);
    assert!(all.contains(&("source".into(), "warning".into())), "{report:#}");
    assert!(report["counts"]["frames"].as_u64().is_some_and(|n| n > 300), "{report:#}");
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|w| w == what)
}

#[test]
fn time_and_name_service_beside_a_call_are_no_encrypted_media() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/cases/doctor/healthy_call_and_4_ntp_replies.pcap");
    let report = look(&std::fs::read(path).expect("shipped"));
    assert_finds(&report, &[]);
    // 400 DNS queries, with every value of the first byte of their random id, and replies of NTP servers of every
    // stratum.
    let mut frames = call();
    let at = frames.remove(10);
    let mut others = vec![at.clone()];
    for n in 0..400_u16 {
        let id = n.wrapping_mul(167).to_be_bytes();
        let dns = [&id[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 7], b"callpbx\x02ru\0\0\x01\0\x01"].concat();
        let ntp = [&[0x24, (n % 16) as u8, 6, 0xe9], &[0x11; 44][..]].concat();
        for (port, body) in [(53, dns), (123, ntp)] {
            let ip = packets::ipv4([10, 9, 0, 11], [10, 9, 0, 1], 17, n, &packets::udp(40_000 + n % 50, port, &body));
            others.push(CapturedFrame { data: packets::ethernet(0x0800, &ip), ..at.clone() });
        }
    }
    frames.splice(10..10, others);
    assert_finds(&look_at(&frames), &[]);
}

#[test]
fn findings_are_shown_in_russian_on_request_and_by_the_locale() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let path: PathBuf = dir.path().join("x.pcap");
    let from_caller: Vec<_> = call().into_iter().filter(|frame| frame.data[26..30] == [10, 9, 0, 11]).collect();
    std::fs::write(&path, packets::write_pcap(packets::ETHERNET, &from_caller)).expect("written");
    let path = path.to_str().expect("plain");
    let run = |args: &[&str], locale: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_callspan"));
        command.args(args).env("LC_ALL", locale).env_remove("CALLSPAN_LOG").env_remove("CALLSPAN_LOG_JSON");
        String::from_utf8(command.output().expect("the binary runs").stdout).expect("UTF-8")
    };
    let english = run(&["doctor", path], "C.UTF-8");
    assert!(english.contains("seen in one direction only"), "{english}");
    for russian in [run(&["--lang", "ru", "doctor", path], "C.UTF-8"), run(&["doctor", path], "ru_RU.UTF-8")] {
        assert!(russian.contains("виден только в одном направлении"), "{russian}");
        assert!(russian.contains("Зеркалируйте оба направления") && !russian.contains("The mirror"), "{russian}");
    }
    // JSON is for programs, so it does not depend on the language.
    assert_eq!(run(&["--lang", "ru", "doctor", "--json", path], "ru_RU.UTF-8"), run(&["doctor", "--json", path], "C"));
}
