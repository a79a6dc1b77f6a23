//! Rules about the mirror port itself: frames, directions, tunnels, fragments, copies, truncation.

use super::{DoctorFinding, FindingKind, FindingSeverity, Observation, ObservedSource, count, percent};
use crate::decode::counters::UndoneWrapper;
use crate::ops::doctor::traffic::HostPairs;
use crate::ops::drops::DropCounters;
use crate::ops::taps::TapReport;

pub(super) fn all(observation: &Observation) -> Vec<DoctorFinding> {
    let rules = [
        link,
        no_voip,
        silent_tap,
        direction_missing,
        cut,
        duplicates,
        fragments,
        loss,
        vlans,
        tunnels,
        unknown_tunnels,
        wrapped_sip,
        encrypted_ip,
        encrypted_link,
        table,
    ];
    rules.iter().filter_map(|rule| rule(observation)).collect()
}

/// Reports that no frame was captured.
pub(super) fn nothing(observation: &Observation) -> Option<DoctorFinding> {
    if observation.decode.frames > 0 {
        return None;
    }
    let what = match &observation.subject {
        ObservedSource::Files => String::from("the capture contains no frame"),
        ObservedSource::Live { .. } => format!("no frame arrived in {:.0} s", observation.seconds),
    };
    let eth = observation.interface();
    let finding = DoctorFinding::new(FindingSeverity::Problem, FindingKind::NoFrames, what);
    Some(match &observation.subject {
        ObservedSource::Files => finding.remedy("The capture is empty. Capture again, for longer than one call:").command(format!(
            "tcpdump -ni {eth} -s 0 -w trunk.pcap"
        )),
        ObservedSource::Live { .. } => finding
            .remedy(
                "The mirror sends nothing to this port. Check the link, then the mirror session of the switch: its destination \
                 must be the port of this cable. In a virtual machine the hypervisor must allow promiscuous mode.",
            )
            .command(format!("ip link set {eth} up promisc on"))
            .command(format!("tcpdump -ni {eth} -c 5")),
    })
}

/// Reports the interfaces that show neither SIP nor RTP, if another interface shows calls.
fn silent_tap(observation: &Observation) -> Option<DoctorFinding> {
    let (with, without): (Vec<_>, Vec<_>) = observation.taps.iter().partition(|tap| tap.shows_calls());
    let first = without.first().filter(|_| !with.is_empty())?;
    let names = |taps: &[&TapReport]| taps.iter().map(|tap| tap.name.as_str()).collect::<Vec<_>>().join(", ");
    let what = format!("{} showed neither SIP nor RTP, while {} did", names(&without), names(&with));
    Some(
        DoctorFinding::new(FindingSeverity::Warning, FindingKind::SilentTap, what)
            .remedy(
                "A call that passes the silent interface has no sound, or one side only. Check the cable and the mirror session of \
                 this interface. If there was simply no call on it, look for longer:",
            )
            .command(format!("tcpdump -ni {} -c 5 udp", first.name)),
    )
}

/// Reports frames with a link type that callspan cannot decode.
fn link(observation: &Observation) -> Option<DoctorFinding> {
    let unknown = observation.decode.dropped.unknown_link;
    (unknown > 0).then(|| {
        DoctorFinding::new(
            FindingSeverity::Problem,
            FindingKind::UnknownLink,
            format!("{} have an unsupported link type", frames(unknown)),
        )
        .remedy("Capture on an Ethernet interface (or `any`), not on a radio, USB or Bluetooth monitor.")
        .command(format!("tcpdump -ni {} -s 0 -w trunk.pcap", observation.interface()))
    })
}

/// Reports a mirror port that shows neither SIP nor RTP.
fn no_voip(observation: &Observation) -> Option<DoctorFinding> {
    let seen = &observation.traffic;
    let unread =
        observation.decode.streams.sips + observation.decode.wrapped.packets + observation.decode.dropped.sip_sctp;
    if seen.plain.sip > 0 || seen.rtp_streams > 0 || unread > 0 {
        return None;
    }
    let what = format!(
        "{} in {:.0} s, none of them SIP or RTP",
        count(observation.decode.frames, "frame"),
        observation.seconds
    );
    let finding = DoctorFinding::new(FindingSeverity::Problem, FindingKind::NoVoip, what);
    Some(
        finding
            .remedy(
                "If there was no call, make a call and run the doctor again. Otherwise the mirror copies a port other \
                 than that of the PBX, or the mirror session is off and only broadcasts arrive.",
            )
            .command(format!("tcpdump -ni {} -c 20 udp and not broadcast and not multicast", observation.interface())),
    )
}

/// Reports missing directions as [`one_direction`] does. The report is only a warning if most calls have sound on both
/// sides. In this case the mirror port shows both directions, but hosts send and receive at different addresses.
fn direction_missing(observation: &Observation) -> Option<DoctorFinding> {
    let finding = one_direction(observation)?;
    let is_mostly_heard = 2 * observation.calls.both_sides > observation.calls.talked;
    let severity = if is_mostly_heard { FindingSeverity::Warning } else { finding.severity };
    Some(DoctorFinding { severity, ..finding })
}

/// Reports pairs of hosts for which the mirror port shows only one direction of their traffic.
pub(super) fn one_direction(observation: &Observation) -> Option<DoctorFinding> {
    let seen = &observation.traffic;
    let (sip, rtp) = (seen.sip_ways, seen.rtp_ways);
    // If all calls have sound on both sides, no direction is missing, so nothing is reported. The two directions of a
    // call then only use different pairs of hosts, e.g. because of address translation.
    if observation.calls.talked > 0 && observation.calls.both_sides == observation.calls.talked {
        return None;
    }
    let only = |what: &str, ways: HostPairs| {
        let example = ways.example.map(|(from, to)| format!(" (for example from {from} to {to})")).unwrap_or_default();
        format!("{what} is seen in one direction only{example}")
    };
    let parts: Vec<String> = [("SIP", sip), ("RTP", rtp)]
        .into_iter()
        .filter(|(_, ways)| ways.all_one_way())
        .map(|(name, ways)| only(name, ways))
        .collect();
    let some = rtp.one_way > 0 && !rtp.all_one_way();
    let (severity, what) = match (parts.is_empty(), some) {
        (false, _) => (FindingSeverity::Problem, parts.join("; ")),
        (true, true) => {
            let what = format!(
                "RTP goes in one direction only between {} of {} of hosts",
                rtp.one_way,
                count(rtp.pairs, "pair")
            );
            (FindingSeverity::Warning, what)
        }
        (true, false) => return None,
    };
    let finding = DoctorFinding::new(severity, FindingKind::OneDirection, what);
    // If SIP is seen in both directions, both directions of the port are mirrored. Then the remedy is about media that
    // takes another path.
    let port_is_halved = severity == FindingSeverity::Problem && (sip.pairs == 0 || sip.all_one_way());
    Some(if port_is_halved {
        finding
            .remedy(
                "The mirror copies only one direction of the port, so recordings would have one side. Mirror both directions. On a Cisco switch:",
            )
            .command("no monitor session 1 source interface Gi1/0/1")
            .command("monitor session 1 source interface Gi1/0/1 both")
    } else {
        finding
            .remedy(
                "The other direction takes a path that is not mirrored (a second uplink, a media relay), or a party was muted. \
                 Mirror the port of the PBX and let the PBX carry the media. On Asterisk, in the endpoint:",
            )
            .command("direct_media=no")
            .command("asterisk -rx 'pjsip reload'")
    })
}

/// Reports frames and datagrams that were truncated.
fn cut(observation: &Observation) -> Option<DoctorFinding> {
    let (frames_cut, datagrams) = (observation.decode.cut_frames, observation.traffic.plain.cut);
    if frames_cut == 0 && datagrams == 0 {
        return None;
    }
    let sip = match observation.traffic.plain.sip_cut {
        0 => String::new(),
        n => format!(", {} among them", count(n, "SIP message")),
    };
    if frames_cut > 0 {
        let share = percent(frames_cut, observation.decode.frames);
        let verb = if frames_cut == 1 { "is" } else { "are" };
        let what = format!("{} ({share:.0} %) {verb} cut by the snap length{sip}", frames(frames_cut));
        return Some(
            DoctorFinding::new(FindingSeverity::Problem, FindingKind::CutBySnaplen, what)
                .remedy(
                    "Audio and the media addresses of long messages are lost behind the cut. Capture complete frames:",
                )
                .command(format!("tcpdump -ni {} -s 0 -w trunk.pcap", observation.interface())),
        );
    }
    let what = format!("{} shorter than the length in their header{sip}", is_are_of(datagrams, "datagram"));
    Some(
        DoctorFinding::new(FindingSeverity::Problem, FindingKind::CutByMirror, what)
            .remedy(
                "The switch truncates the mirrored frames. Switch truncation off in the mirror session. On a Cisco Nexus:",
            )
            .command("monitor session 1")
            .command("no mtu"),
    )
}

/// Reports packets that the mirror port delivered more than once. callspan drops the repeated packets.
fn duplicates(observation: &Observation) -> Option<DoctorFinding> {
    let copies = observation.decode.duplicates + observation.traffic.rtp_copies;
    // The counted copies include fragments and TCP packets, so the total number of packets must include them, too.
    let whole = observation.traffic.plain.datagrams + observation.decode.duplicates + observation.decode.tcp;
    let share = percent(copies, whole);
    if copies < MIN_COPIES || share < MIN_COPIES_PERCENT {
        return None;
    }
    let severity = if share >= MANY_COPIES_PERCENT { FindingSeverity::Warning } else { FindingSeverity::Note };
    let what = format!(
        "{share:.0} % of the packets are copies, made by the mirror or by a sender that repeats itself ({copies})"
    );
    if observation.taps.len() > 1 {
        return Some(DoctorFinding::new(FindingSeverity::Note, FindingKind::Duplicates, what).remedy(
            "Several interfaces show the same packets. callspan keeps the first of each, so recordings are correct.",
        ));
    }
    Some(
        DoctorFinding::new(severity, FindingKind::Duplicates, what)
            .remedy(
                "callspan drops the copies, so recordings are correct. But they fill the mirror port, which then loses \
                 packets. Copies arise where two mirrored ports (or a port and its VLAN) see the same packet. Mirror \
                 only the port of the PBX. On a Cisco switch:",
            )
            .command("no monitor session 1 source vlan 1 - 4094")
            .command("monitor session 1 source interface Gi1/0/1 both"),
    )
}

fn fragments(observation: &Observation) -> Option<DoctorFinding> {
    let (all, dropped) = (observation.decode.fragments, observation.decode.dropped);
    if all == 0 {
        return None;
    }
    let lost = dropped.fragment_timeout + dropped.fragment_limit;
    let broken = dropped.cut_fragment + dropped.bad_fragment + dropped.overlapping_fragments;
    if lost == 0 && broken == 0 {
        let whole = count(observation.decode.reassembled, "datagram");
        let what = format!(
            "{} {} {whole}: none is missing",
            count(all, "IP fragment"),
            if all == 1 { "makes" } else { "make" }
        );
        return Some(DoctorFinding::new(FindingSeverity::Note, FindingKind::Fragments, what));
    }
    let what = format!(
        "{lost} of {} {} to incomplete datagrams, and {broken} cannot be used",
        count(all, "IP fragment"),
        if lost == 1 { "belongs" } else { "belong" },
    );
    Some(
        DoctorFinding::new(FindingSeverity::Warning, FindingKind::FragmentsIncomplete, what)
            .remedy(
                "A long INVITE is lost when one of its fragments is lost. The mirror loses fragments, or some take a second \
                 path (a port channel): mirror all members of the channel. If the mirror port is full, mirror less. On a Cisco \
                 switch:",
            )
            .command("monitor session 1 source interface Port-channel1 both"),
    )
}

/// Reports missing RTP packets if the recorder lost no frames. Then the packets were lost before they reached the
/// recorder.
fn loss(observation: &Observation) -> Option<DoctorFinding> {
    let seen = &observation.traffic;
    let share = percent(seen.rtp_lost, seen.rtp_lost + seen.rtp_packets);
    let by_us = observation.capture.dropped_by_kernel + observation.capture.dropped_by_interface;
    if by_us > 0 || seen.rtp_lost < MIN_LOST || share < MIN_LOST_PERCENT {
        return None;
    }
    let what =
        format!("{share:.1} % of the RTP packets ({}) are missing, and none was lost on this machine", seen.rtp_lost);
    Some(
        DoctorFinding::new(FindingSeverity::Warning, FindingKind::LostBeforeUs, what)
            .remedy(
                "The network or the switch lost them: a mirror port that is slower than the mirrored ports silently drops \
                 packets. Check the drop counters of the switch's mirror port, and mirror fewer ports. On a Cisco switch:",
            )
            .command("show interfaces Gi1/0/24 counters errors"),
    )
}

fn vlans(observation: &Observation) -> Option<DoctorFinding> {
    let [_, one, two, more] = observation.decode.vlan_depth;
    if one + two + more == 0 {
        return None;
    }
    let parts = [(one, "one"), (two, "two"), (more, "three or more")];
    let parts: Vec<String> =
        parts.iter().filter(|(n, _)| *n > 0).map(|(n, name)| format!("{} with {name}", frames(*n))).collect();
    Some(DoctorFinding::new(FindingSeverity::Note, FindingKind::Vlans, format!("VLAN tags: {}", parts.join(", "))))
}

fn tunnels(observation: &Observation) -> Option<DoctorFinding> {
    let kinds = observation.decode.tunnels.by_name();
    if kinds.is_empty() {
        return None;
    }
    let parts: Vec<String> = kinds.iter().map(|(name, n)| format!("{name} ({})", count(*n, "packet"))).collect();
    Some(DoctorFinding::new(
        FindingSeverity::Note,
        FindingKind::Tunnels,
        format!("the mirror uses tunnels: {}", parts.join(", ")),
    ))
}

fn unknown_tunnels(observation: &Observation) -> Option<DoctorFinding> {
    let unknown = observation.decode.dropped.unknown_tunnel;
    (unknown > 0).then(|| {
        let what = format!("{} in an unsupported kind of tunnel", count(unknown, "packet"));
        let severity = if observation.traffic.plain.sip == 0 { FindingSeverity::Warning } else { FindingSeverity::Note };
        DoctorFinding::new(severity, FindingKind::UnknownTunnel, what).remedy(
            "If the calls are in it, use another kind of mirror. The recorder undoes a plain port, VLAN tags, ERSPAN, GRE, \
             VXLAN, GENEVE, TZSP, L2TP and HP remote mirroring.",
        )
    })
}

/// Reports SIP inside an encapsulation that callspan cannot remove, e.g. CAPWAP, and names the encapsulation.
fn wrapped_sip(observation: &Observation) -> Option<DoctorFinding> {
    let wrapped = observation.decode.wrapped;
    let wrapper = wrapped.wrapper?;
    let severity = if observation.traffic.plain.sip == 0 { FindingSeverity::Problem } else { FindingSeverity::Warning };
    let what =
        format!("{} with SIP inside {}, which is not undone", count(wrapped.packets, "packet"), wrapper_name(wrapper));
    let finding = DoctorFinding::new(severity, FindingKind::WrappedSip, what);
    Some(if wrapper == UndoneWrapper::Hep {
        finding.remedy(
            "An agent sends the calls to a Homer server. Let it send them to this machine, too, and set \
             capture.hep_listen to the address and port.",
        )
    } else {
        finding.remedy(
            "Calls in it are not recorded. Use another kind of mirror. The recorder undoes a plain port, VLAN tags, ERSPAN, \
             GRE, VXLAN, GENEVE, TZSP, L2TP and HP remote mirroring.",
        )
    })
}

/// Returns the name of an encapsulation that callspan cannot remove, as manuals of switches name it. If it has no known
/// name, returns its number.
fn wrapper_name(wrapper: UndoneWrapper) -> String {
    match wrapper {
        UndoneWrapper::Hep => String::from("HEP 3"),
        UndoneWrapper::EtherType(number) => format!("EtherType 0x{number:04x}"),
        UndoneWrapper::IpProtocol(97) => String::from("EtherIP (IP protocol 97)"),
        UndoneWrapper::IpProtocol(number) => format!("IP protocol {number}"),
        UndoneWrapper::UdpPort(port) => {
            let known = UDP_WRAPPERS.iter().find(|(number, _)| *number == port);
            known.map_or_else(|| format!("UDP port {port}"), |(_, name)| format!("{name} (UDP port {port})"))
        }
    }
}

fn encrypted_link(observation: &Observation) -> Option<DoctorFinding> {
    let frames = observation.decode.dropped.macsec;
    (frames > 0).then(|| {
        let what = format!("{} of MACsec, which cannot be read", count(frames, "frame"));
        DoctorFinding::new(FindingSeverity::Warning, FindingKind::Macsec, what).remedy(
            "The link between two switches is encrypted and mirrored as it is. Mirror a port behind it: that of the PBX.",
        )
    })
}

fn encrypted_ip(observation: &Observation) -> Option<DoctorFinding> {
    let esp = observation.decode.dropped.esp;
    (esp > 0).then(|| {
        DoctorFinding::new(
            FindingSeverity::Warning,
            FindingKind::Ipsec,
            format!("{} of IPsec (ESP), which cannot be read", count(esp, "packet")),
        )
        .remedy("If telephones or the trunk use that tunnel, mirror behind its end: the port of the PBX itself.")
    })
}

fn table(observation: &Observation) -> Option<DoctorFinding> {
    let totals = DropCounters::of(&observation.decode, &observation.engine);
    let mut clauses = DropCounters {
        fragments_incomplete: 0,
        sip_unreadable: 0,
        sip_oversized: 0,
        frames_cut: 0,
        frames_unreadable: 0,
        ..totals
    }
    .clauses();
    if observation.traffic.plain.not_followed > 0 {
        clauses.push(format!(
            "{} beyond the number of streams that the doctor follows",
            count(observation.traffic.plain.not_followed, "packet")
        ));
    }
    (!clauses.is_empty()).then(|| {
        let what = format!("tables are full: {}", clauses.join(", "));
        let is_media_alone = totals.table_full() == totals.rtp_not_kept && observation.traffic.plain.not_followed == 0;
        DoctorFinding::new(FindingSeverity::Warning, FindingKind::TablesFull, what).remedy(if is_media_alone {
            "The media of very many calls arrives without their SIP, so recordings may lack the audio before the answer. \
             Mirror the SIP too, or only the ports of the PBX."
        } else {
            "A scanner or a load test floods the mirror with calls. Block it before the PBX."
        })
    })
}

fn frames(number: u64) -> String {
    count(number, "frame")
}

fn is_are_of(number: u64, noun: &str) -> String {
    format!("{} {}", count(number, noun), if number == 1 { "is" } else { "are" })
}

/// UDP ports of encapsulations that callspan cannot remove, with their names.
const UDP_WRAPPERS: [(u16, &str); 8] = [
    (4341, "LISP"),
    (4754, "GRE in UDP"),
    (5000, "PEEKREMOTE"),
    (5247, "CAPWAP"),
    (5555, "PEEKREMOTE"),
    (6343, "sFlow"),
    (6635, "MPLS in UDP"),
    (30_030, "Juniper packet mirroring"),
];
/// Minimum number of repeated packets for a finding. Fewer are normal, because some senders repeat packets.
const MIN_COPIES: u64 = 10;
/// Minimum share of repeated packets among all packets for a finding, %. A smaller share is not reported.
const MIN_COPIES_PERCENT: f64 = 1.0;
/// Minimum share of repeated packets for a warning, %. For example, the share is 25 % if one of three ports is mirrored
/// twice.
const MANY_COPIES_PERCENT: f64 = 25.0;
/// Minimum number of missing RTP packets for a finding. Fewer are normal, because every network loses a few packets.
const MIN_LOST: u64 = 20;
/// Minimum share of missing RTP packets among all RTP packets for a finding, %. A smaller share is not reported.
const MIN_LOST_PERCENT: f64 = 0.5;
