use super::super::taps::TapReport;
use super::host::{CardLosses, EthtoolAnswer, HostClock, HostInterface, OffloadFeature};
use super::russian::FINDINGS;
use super::traffic::{DatagramCounts, HostPairs};
use super::*;
use crate::call::event::{CallEvent, EndedCall};
use crate::call::phrasebook::TextLanguage;
use crate::call::record::{CallProblem, CallRecord, ProblemKind};

/// Returns the observation of a healthy mirror port: one call, with both directions.
fn healthy() -> Observation {
    let ways = HostPairs { pairs: 1, ..HostPairs::default() };
    Observation {
        subject: ObservedSource::Files,
        source: String::from("trunk.pcap"),
        first_at: Some(Timestamp::from_secs(1_795_417_200)),
        seconds: 30.0,
        capture: CaptureCounters { frames: 1000, ..CaptureCounters::default() },
        decode: decode::DecodeCounters { frames: 1000, longest_frame: 900, ..decode::DecodeCounters::default() },
        engine: engine::EngineCounters {
            sip_messages: 7,
            rtp_packets: 990,
            legs: 1,
            ..engine::EngineCounters::default()
        },
        traffic: traffic::TrafficSummary {
            plain: DatagramCounts { datagrams: 1000, sip: 7, ..DatagramCounts::default() },
            rtp_packets: 990,
            rtp_streams: 2,
            sip_ways: ways,
            rtp_ways: ways,
            ..traffic::TrafficSummary::default()
        },
        calls: calls::CallTally { all: 1, talked: 1, both_sides: 1, ..calls::CallTally::default() },
        machines: Vec::new(),
        taps: Vec::new(),
        warnings: Vec::new(),
    }
}

fn live(interface: HostInterface) -> Observation {
    let interfaces = vec![interface];
    Observation {
        subject: ObservedSource::Live { interfaces, clock: HostClock::Synchronised, buffer_mib: 64 },
        source: "eth7".into(),
        ..healthy()
    }
}

fn eth7() -> HostInterface {
    HostInterface {
        name: String::from("eth7"),
        mtu: Some(1500),
        has_carrier: Some(true),
        ethtool: EthtoolAnswer::Answered,
        ring: Some((256, 4096)),
        ..HostInterface::default()
    }
}

/// Returns the finding about an observation. Fails if there is not exactly one finding.
#[track_caller]
fn only(observation: &Observation) -> DoctorFinding {
    let findings = examined(observation);
    assert_eq!(findings.len(), 1, "{findings:#?}");
    findings.into_iter().next().expect("one")
}

/// Returns the findings about an observation. Also checks that each finding can be shown in Russian.
#[track_caller]
fn examined(observation: &Observation) -> Vec<DoctorFinding> {
    let findings = examine(observation);
    for finding in findings.iter().filter(|finding| finding.kind.name() != "source") {
        for text in [&finding.what, &finding.remedy].into_iter().filter(|text| !text.is_empty()) {
            let russian = FINDINGS.text(text).unwrap_or_default();
            assert!(russian.contains(|c: char| ('а'..='я').contains(&c)), "{text}: {russian}");
        }
    }
    findings
}

fn kinds(observation: &Observation) -> Vec<&'static str> {
    examined(observation).iter().map(|f| f.kind.name()).collect()
}

#[test]
fn tap_without_calls_beside_one_with_calls_is_reported() {
    let tap = |name: &str, rtp| TapReport { name: name.into(), is_up: true, rtp, ..TapReport::default() };
    let mut observation = Observation { taps: vec![tap("eth7", 990), tap("eth8", 0)], ..live(eth7()) };
    let finding = only(&observation);
    assert_eq!(
        (finding.kind.name(), finding.commands),
        ("silent_tap", vec![String::from("tcpdump -ni eth8 -c 5 udp")])
    );
    let text = report::text(&report::report(&observation, &[]), TextLanguage::En);
    assert!(text.contains("\n    eth7: 0 frames, 0 SIP messages, 990 RTP packets, 0 copies, 0 frames lost"), "{text}");
    // If neither interface shows a call, there is no finding `silent_tap`. With a single interface, the report is one
    // line, without a line of counters for the interface.
    observation.taps = vec![tap("eth7", 0), tap("eth8", 0)];
    assert!(kinds(&observation).is_empty());
    observation.taps = vec![tap("eth7", 990)];
    assert_eq!(report::text(&report::report(&observation, &[]), TextLanguage::En).lines().count(), 1);
}

#[test]
fn healthy_mirror_prints_one_line() {
    for observation in [healthy(), live(eth7())] {
        let findings = examine(&observation);
        assert!(findings.is_empty(), "{findings:#?}");
        let text = report::text(&report::report(&observation, &findings), TextLanguage::En);
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(
            text.contains(": healthy: 1000 frames in 30 s, 7 SIP messages, 2 RTP streams, 1 call (1 answered"),
            "{text}"
        );
        let russian = report::text(&report::report(&observation, &findings), TextLanguage::Ru);
        let counts = ": всё в порядке: 1000 кадров за 30 с, 7 сообщений SIP, 2 потока RTP, 1 звонок (отвечено 1";
        assert!(russian.contains(counts), "{russian}");
    }
}

#[test]
fn offload_command_names_only_features_that_can_change() {
    let on = |name, can_change| OffloadFeature { name, can_change };
    let observation = live(HostInterface { joining: vec![on("gro", true), on("lro", true)], ..eth7() });
    let finding = only(&observation);
    assert_eq!((finding.kind.name(), finding.severity), ("offload", FindingSeverity::Warning));
    assert_eq!(finding.commands, ["ethtool -K eth7 gro off lro off"]);
    let observation = live(HostInterface { joining: vec![on("gro", true), on("rx-gro-hw", false)], ..eth7() });
    assert_eq!(only(&observation).commands, ["ethtool -K eth7 gro off"]);
    let observation = live(HostInterface { joining: vec![on("rx-gro-hw", false)], ..eth7() });
    assert!(only(&observation).commands.is_empty());
}

#[test]
fn missing_ethtool_is_a_finding_and_silent_ethtool_is_not() {
    assert_eq!(kinds(&live(HostInterface { ethtool: EthtoolAnswer::Missing, ..eth7() })), ["no_ethtool"]);
    assert!(kinds(&live(HostInterface { ethtool: EthtoolAnswer::Silent, ..eth7() })).is_empty());
}

#[test]
fn frames_lost_in_the_card_suggest_its_largest_ring() {
    let losses = CardLosses { no_room: 3, damaged: 0 };
    assert_eq!(only(&live(HostInterface { losses, ..eth7() })).commands, ["ethtool -G eth7 rx 4096"]);
    let full = HostInterface { losses, ring: Some((4096, 4096)), ..eth7() };
    assert_eq!(only(&live(full)).commands, ["ethtool -S eth7"]);
    let damaged = HostInterface { losses: CardLosses { no_room: 0, damaged: 1 }, ..eth7() };
    assert_eq!(only(&live(damaged)).what, "1 frame arrived damaged on eth7");
}

#[test]
fn kernel_drops_suggest_a_larger_ring_and_explain_the_gaps() {
    let mut observation = live(eth7());
    observation.capture.dropped_by_kernel = 17;
    observation.traffic.rtp_lost = 100;
    let finding = only(&observation);
    assert_eq!((finding.kind.name(), finding.severity), ("kernel_drops", FindingSeverity::Problem));
    // The command sets `buffer_mib` to 256, four times the configured 64 MiB.
    let toml = "[capture]\n#buffer_mib = 64\n\n[spool]\n#buffer_mib = 64\n";
    assert_eq!(sed(&finding.commands[0], toml), "[capture]\nbuffer_mib = 256\n\n[spool]\n#buffer_mib = 64\n");
    // With the buffer already at its maximum, no command is suggested.
    if let ObservedSource::Live { buffer_mib, .. } = &mut observation.subject {
        *buffer_mib = 2048;
    }
    assert!(only(&observation).commands.is_empty());
}

/// Runs the `sed` command of a finding on a configuration, and returns the result.
fn sed(command: &str, configuration: &str) -> String {
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = dir.path().join("callspan.toml");
    std::fs::write(&path, configuration).expect("written");
    let command = command.replace("/etc/callspan/callspan.toml", path.to_str().expect("plain"));
    assert!(std::process::Command::new("sh").args(["-c", &command]).status().expect("sh runs").success());
    std::fs::read_to_string(&path).expect("readable")
}

#[test]
fn gaps_without_local_loss_are_lost_before_us() {
    let mut observation = live(eth7());
    observation.traffic.rtp_lost = 100;
    let finding = only(&observation);
    // 100 of 1,090 packets are missing: 9.2 %.
    assert!(finding.kind.name() == "lost_before_us" && finding.what.starts_with("9.2 %"), "{finding:?}");
    observation.traffic.rtp_lost = 3;
    assert!(kinds(&observation).is_empty());
}

#[test]
fn frame_longer_than_the_mtu_is_a_finding() {
    let mut observation = live(eth7());
    // A full Ethernet frame with two VLAN tags (1522 bytes) is not too long.
    observation.decode.longest_frame = 1522;
    assert!(kinds(&observation).is_empty());
    observation.decode.longest_frame = 2962;
    assert_eq!(kinds(&observation), ["long_frames"]);
    // For a capture file the MTU is unknown. So frames up to the length of a jumbo frame (9,018 bytes) are no finding,
    // and longer frames are.
    let mut observation = healthy();
    observation.decode.longest_frame = 9018;
    assert!(kinds(&observation).is_empty());
    observation.decode.longest_frame = 30_000;
    assert_eq!(kinds(&observation), ["long_frames"]);
}

#[test]
fn unsynchronised_clock_and_clock_steps_are_findings() {
    let mut observation = live(eth7());
    if let ObservedSource::Live { clock, .. } = &mut observation.subject {
        *clock = HostClock::Alone;
    }
    assert_eq!(only(&observation).commands.last().map(String::as_str), Some("timedatectl set-ntp true"));
    let mut observation = healthy();
    observation.engine.clock_steps = 2;
    assert_eq!(only(&observation).what, "the clock was set 2 times during the check");
}

#[test]
fn silent_mirror_gives_only_no_frames_and_link_findings() {
    let mut observation = live(HostInterface { has_carrier: Some(false), ..eth7() });
    observation.decode = decode::DecodeCounters::default();
    (observation.traffic, observation.calls) = Default::default();
    assert_eq!(kinds(&observation), ["no_frames", "no_link"]);
    observation.decode.frames = 5;
    assert_eq!(kinds(&observation), ["no_voip", "no_link"]);
}

#[test]
fn one_direction_remedy_depends_on_the_signalling() {
    let halved = HostPairs { pairs: 2, one_way: 2, example: None };
    let mut observation = healthy();
    (observation.traffic.rtp_ways, observation.traffic.sip_ways) = (halved, halved);
    (observation.calls.both_sides, observation.calls.one_side) = (0, 1);
    let finding = only(&observation);
    assert_eq!(finding.severity, FindingSeverity::Problem);
    assert!(finding.commands[1].ends_with("both"), "{finding:?}");
    observation.traffic.sip_ways = HostPairs { pairs: 1, ..HostPairs::default() };
    let finding = only(&observation);
    assert_eq!((finding.severity, finding.commands[0].as_str()), (FindingSeverity::Problem, "direct_media=no"));
    observation.traffic.rtp_ways = HostPairs { pairs: 3, one_way: 1, example: None };
    assert_eq!(only(&observation).severity, FindingSeverity::Warning);
}

#[test]
fn findings_are_sorted_by_severity_in_text_and_json() {
    let mut observation = healthy();
    observation.decode.vlan_depth = [0, 1000, 0, 0];
    observation.decode.dropped.esp = 4;
    observation.calls.no_keys = 2;
    let findings = examine(&observation);
    assert_eq!(findings.iter().map(|f| f.kind.name()).collect::<Vec<_>>(), ["encrypted_media", "ipsec", "vlans"]);
    let json = serde_json::to_value(report::report(&observation, &findings)).expect("serialises");
    assert_eq!(json["healthy"], false);
    assert_eq!(json["findings"][0]["severity"], "problem");
    assert_eq!(json["findings"][0]["commands"][0], "media_encryption=sdes");
    assert_eq!(json["findings"][2].get("commands"), None, "absent, never empty");
    assert_eq!(json["counts"]["frames"], 1000);
}

#[test]
fn source_warning_becomes_a_finding() {
    let mut observation = healthy();
    observation.warnings.push(String::from("trunk.pcap: cut short"));
    assert_eq!((only(&observation).kind.name(), only(&observation).what.as_str()), ("source", "trunk.pcap: cut short"));
}

#[test]
fn tls_beside_plain_sip_is_noted_if_media_has_no_call() {
    let mut observation = healthy();
    observation.decode.streams.tls = 2;
    assert!(kinds(&observation).is_empty(), "any web page is TLS");
    observation.engine.rtp_unclaimed = 500;
    let finding = only(&observation);
    assert_eq!((finding.kind.name(), finding.severity), ("tls_elsewhere", FindingSeverity::Note));
    assert!(finding.what.contains("500 RTP packets") && finding.what.contains("2 TLS streams"), "{finding:?}");
    // With TLS on port 5061, only the finding `sip_over_tls` is reported, and `tls_elsewhere` is not.
    observation.decode.streams.sips = 2;
    assert_eq!(kinds(&observation), ["sip_over_tls"]);
}

#[test]
fn every_full_table_is_listed() {
    let mut observation = healthy();
    (observation.engine.legs_evicted, observation.engine.rtp_refused, observation.decode.dropped.fragment_limit) =
        (3, 2, 1);
    let finding = only(&observation);
    assert_eq!(finding.kind.name(), "tables_full");
    for part in ["3 unanswered INVITEs", "2 RTP packets", "1 datagram in fragments"] {
        assert!(finding.what.contains(part), "{part}: {}", finding.what);
    }
}

#[test]
fn calls_heard_on_both_sides_show_that_no_direction_is_missing() {
    // The two directions of a call may be between different pairs of hosts, e.g. because of address translation. That
    // is no problem if both sides have sound.
    let one_way = HostPairs { pairs: 2, one_way: 2, example: None };
    let mut observation = healthy();
    (observation.traffic.rtp_ways, observation.traffic.sip_ways) = (one_way, one_way);
    assert!(kinds(&observation).is_empty());
    observation.calls.both_sides = 0;
    observation.calls.one_side = 1;
    assert_eq!(only(&observation).kind.name(), "one_direction");
}

#[test]
fn calls_with_media_behind_a_nat_are_not_reported_as_silent() {
    let mut observation = healthy();
    observation.calls =
        calls::CallTally { all: 2, talked: 2, both_sides: 1, silent: 1, behind_nat: 1, ..calls::CallTally::default() };
    assert_eq!(only(&observation).kind.name(), "media_behind_nat");
    (observation.calls.talked, observation.calls.silent) = (3, 2);
    let mut found = kinds(&observation);
    found.sort_unstable();
    assert_eq!(found, ["media_behind_nat", "sip_without_rtp"]);
}

#[test]
fn silent_call_with_several_causes_counts_once() {
    let problem = |kind| CallProblem { kind, packets: None, ms: None, errno: None };
    let mut tally = calls::CallTally::default();
    for causes in [
        &[][..],
        &[ProblemKind::MediaBehindNat],
        &[ProblemKind::MediaOverTcp],
        &[ProblemKind::MediaBehindNat, ProblemKind::MediaOverTcp],
    ] {
        let record = CallRecord {
            answered_at: Some(Timestamp::from_secs(10)),
            ended_at: Some(Timestamp::from_secs(20)),
            problems: causes.iter().copied().map(problem).collect(),
            ..CallRecord::default()
        };
        let ended = EndedCall { record, legs: Vec::new(), registration: Default::default(), wall_offset_ns: 0 };
        tally.handle_event(&CallEvent::Ended(Box::new(ended)));
    }
    assert_eq!((tally.talked, tally.silent, tally.behind_nat, tally.over_tcp), (4, 4, 1, 2));
    // Of four silent calls, one is behind a NAT and two have media over TCP. So one call is left without a cause.
    let mut observation = healthy();
    observation.calls = tally;
    let found = examined(&observation).into_iter().find(|finding| finding.kind == FindingKind::SipWithoutRtp).unwrap();
    assert_eq!(found.what, "1 of 4 answered calls had no RTP");
}

#[test]
fn short_calls_and_faxes_are_named_and_unheard_media_is_a_warning() {
    let mut observation = healthy();
    observation.calls = calls::CallTally { all: 2, short: 2, ..calls::CallTally::default() };
    assert_eq!(only(&observation).what, "2 answered calls were shorter than 2 s, so media was not judged");
    observation.calls = calls::CallTally { all: 1, faxes: 1, ..calls::CallTally::default() };
    assert_eq!(only(&observation).what, "1 answered call was a fax, so audio was not judged");
    observation.calls = calls::CallTally { all: 1, talked: 1, unheard: 1, ..calls::CallTally::default() };
    assert_eq!(
        (only(&observation).kind.name(), only(&observation).severity),
        ("media_not_heard", FindingSeverity::Warning)
    );
}

#[test]
fn signalling_and_media_that_are_not_read_are_named() {
    let mut observation = healthy();
    observation.decode.dropped.sip_sctp = 3;
    observation.decode.dropped.macsec = 9;
    observation.decode.streams.rtp = 2;
    assert_eq!(kinds(&observation), ["sip_over_sctp", "rtp_over_tcp", "macsec"]);
    let mut observation = healthy();
    observation.calls =
        calls::CallTally { all: 2, talked: 2, both_sides: 1, silent: 1, over_tcp: 1, ..calls::CallTally::default() };
    assert_eq!(only(&observation).what, "1 call with media over TCP, which is not recorded");
}

#[test]
fn header_around_sip_that_is_not_undone_is_named() {
    use crate::decode::counters::{UndoneWrapper, WrappedSip};
    let mut observation = healthy();
    for (wrapper, name) in [
        (UndoneWrapper::UdpPort(30_030), "Juniper packet mirroring (UDP port 30030)"),
        (UndoneWrapper::UdpPort(30_031), "UDP port 30031"),
        (UndoneWrapper::IpProtocol(97), "EtherIP (IP protocol 97)"),
        (UndoneWrapper::EtherType(0x22f3), "EtherType 0x22f3"),
        (UndoneWrapper::Hep, "HEP 3"),
    ] {
        observation.decode.wrapped = WrappedSip { packets: 3, wrapper: Some(wrapper) };
        let finding = only(&observation);
        assert_eq!(finding.what, format!("3 packets with SIP inside {name}, which is not undone"));
        assert_eq!((finding.kind.name(), finding.severity), ("wrapped_sip", FindingSeverity::Warning));
    }
    (observation.traffic, observation.calls) = Default::default();
    assert_eq!(
        (only(&observation).kind.name(), only(&observation).severity),
        ("wrapped_sip", FindingSeverity::Problem)
    );
    // A tunnel that callspan can remove does not hide the finding about another tunnel that it cannot remove.
    let mut observation = healthy();
    (observation.decode.tunnels.ip_in_ip, observation.decode.dropped.unknown_tunnel) = (1, 9);
    assert_eq!(kinds(&observation), ["tunnels", "unknown_tunnel"]);
}

#[test]
fn calls_heard_on_both_sides_make_a_missing_direction_a_warning() {
    let mut observation = healthy();
    observation.traffic.rtp_ways = HostPairs { pairs: 4, one_way: 4, example: None };
    observation.calls =
        calls::CallTally { all: 5, talked: 5, both_sides: 4, one_side: 1, ..calls::CallTally::default() };
    assert_eq!(
        (only(&observation).kind.name(), only(&observation).severity),
        ("one_direction", FindingSeverity::Warning)
    );
    (observation.calls.both_sides, observation.calls.one_side) = (1, 4);
    assert_eq!(
        (only(&observation).kind.name(), only(&observation).severity),
        ("one_direction", FindingSeverity::Problem)
    );
}

#[test]
fn hosts_learnt_as_one_machine_are_named_with_their_configuration() {
    let pair = |seen: u32| -> MachinePair {
        let line = format!(
            r#"{{"a":"10.1.0.1","b":"198.51.100.10","by":"same_moments","seen":{seen},"against":0,
            "first_at":"2026-11-23T07:00:00.000000Z","last_at":"2026-11-24T07:00:00.000000Z"}}"#
        );
        serde_json::from_str(&line).expect("a fact")
    };
    let finding = only(&Observation { machines: vec![pair(14), pair(2)], ..healthy() });
    assert_eq!((finding.kind.name(), finding.severity), ("one_machine", FindingSeverity::Note));
    assert!(finding.what.ends_with("14 calls showed it, the last one at 2026-11-24T07:00:00Z"), "{}", finding.what);
    assert!(finding.remedy.contains(r#"calls.pbx_addresses = [["10.1.0.1", "198.51.100.10"]]"#), "{}", finding.remedy);
}
