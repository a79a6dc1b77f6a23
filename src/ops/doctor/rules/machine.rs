//! Rules about the computer that runs callspan: offload features of the card, lost frames, cable, clock.

use super::host::{EthtoolAnswer, HostClock, HostInterface};
use super::{DoctorFinding, FindingKind, FindingSeverity, Observation, ObservedSource, count};
use crate::time::Timestamp;

pub(super) fn all(observation: &Observation) -> Vec<DoctorFinding> {
    let mut findings = Vec::new();
    findings.extend(kernel_drops(observation));
    if let ObservedSource::Live { interfaces, clock, .. } = &observation.subject {
        for interface in interfaces {
            let rules = [carrier, joining, not_asked, ring, cable];
            findings.extend(rules.iter().filter_map(|rule| rule(interface)));
        }
        findings.extend(unsynchronised(*clock));
    }
    findings.extend(long_frames(observation));
    findings.extend(joined_rtp(observation));
    findings.extend(zero_length(observation));
    findings.extend([clock_steps, step_ahead, never_set].iter().filter_map(|rule| rule(observation)));
    findings.extend(
        observation.warnings.iter().map(|w| DoctorFinding::new(FindingSeverity::Warning, FindingKind::Source, w)),
    );
    findings
}

fn kernel_drops(observation: &Observation) -> Option<DoctorFinding> {
    let drops = observation.capture.dropped_by_kernel;
    let ObservedSource::Live { buffer_mib, .. } = &observation.subject else { return None };
    if drops == 0 {
        return None;
    }
    let what = format!("the kernel dropped {} because its ring was full", count(drops, "frame"));
    let finding = DoctorFinding::new(FindingSeverity::Problem, FindingKind::KernelDrops, what).remedy(
        "This machine read the packets slower than the mirror sent them. Increase capture.buffer_mib, and check what \
         else uses the processor.",
    );
    let more = buffer_mib.saturating_mul(4).min(MAX_BUFFER_MIB);
    if more <= *buffer_mib {
        return Some(finding);
    }
    // The `sed` command edits only the section `[capture]`, because `[spool]` has a key of the same name.
    let set = format!("sed -i '/^\\[capture\\]/,/^\\[/ s/^#* *buffer_mib *=.*/buffer_mib = {more}/' {CONFIG}");
    Some(finding.command(set).command("systemctl restart callspan"))
}

fn carrier(interface: &HostInterface) -> Option<DoctorFinding> {
    (interface.has_carrier == Some(false)).then(|| {
        let name = &interface.name;
        DoctorFinding::new(FindingSeverity::Problem, FindingKind::NoLink, format!("{name} has no link"))
            .remedy("The cable is unplugged, or the switch port is disabled.")
            .command(format!("ip link set {name} up"))
            .command(format!("ethtool {name}"))
    })
}

/// Reports offload features of a network card that merge packets. A merged packet is longer than the packets on the
/// wire and has only one arrival time.
fn joining(interface: &HostInterface) -> Option<DoctorFinding> {
    let (name, on) = (&interface.name, &interface.joining);
    if on.is_empty() {
        return None;
    }
    let names = |wanted: bool| on.iter().filter(|j| j.can_change == wanted).map(|j| j.name).collect::<Vec<_>>();
    let (can, cannot) = (names(true), names(false));
    let all: Vec<&str> = on.iter().map(|j| j.name).collect();
    let finding = DoctorFinding::new(FindingSeverity::Warning, FindingKind::Offload, format!("{name} merges packets ({} on)", all.join(", ")))
        .remedy(if cannot.is_empty() {
            "Merged packets differ from the packets on the wire, and their times are wrong. Switch it off (until the next boot):"
        } else {
            "Merged packets differ from the packets on the wire, and their times are wrong. This card cannot switch off all of \
             it; use another card for the mirror."
        });
    Some(if can.is_empty() { finding } else { finding.command(format!("ethtool -K {name} {} off", can.join(" off "))) })
}

fn not_asked(interface: &HostInterface) -> Option<DoctorFinding> {
    (interface.ethtool == EthtoolAnswer::Missing).then(|| {
        let what = format!("ethtool is not installed, so GRO and LRO of {} were not checked", interface.name);
        DoctorFinding::new(FindingSeverity::Note, FindingKind::NoEthtool, what)
            .remedy("Install ethtool and run the doctor again:")
            .command("apt-get install -y ethtool")
    })
}

fn ring(interface: &HostInterface) -> Option<DoctorFinding> {
    let (name, lost) = (&interface.name, interface.losses.no_room);
    (lost > 0).then(|| {
        let finding = DoctorFinding::new(
            FindingSeverity::Problem,
            FindingKind::CardDrops,
            format!("{name} lost {} in the card", count(lost, "frame")),
        )
        .remedy(
            "The card's receive ring was full before the kernel took the frames. Set the ring to its largest size:",
        );
        let largest = interface.ring.filter(|(now, most)| now < most).map(|(_, most)| most);
        match largest {
            Some(most) => finding.command(format!("ethtool -G {name} rx {most}")),
            None => finding.command(format!("ethtool -S {name}")),
        }
    })
}

fn cable(interface: &HostInterface) -> Option<DoctorFinding> {
    let (name, damaged) = (&interface.name, interface.losses.damaged);
    (damaged > 0).then(|| {
        DoctorFinding::new(
            FindingSeverity::Warning,
            FindingKind::DamagedFrames,
            format!("{} arrived damaged on {name}", count(damaged, "frame")),
        )
        .remedy("Change the cable or the optics, then check whether the counter still grows:")
        .command(format!("ethtool -S {name} | grep -i crc"))
    })
}

fn unsynchronised(clock: HostClock) -> Option<DoctorFinding> {
    (clock == HostClock::Alone).then(|| {
        DoctorFinding::new(
            FindingSeverity::Warning,
            FindingKind::ClockUnsynchronised,
            "the clock of this machine is not synchronised",
        )
        .remedy("Call times will be wrong, and Pyrus rejects a clock that is far off. Use NTP:")
        .command("apt-get install -y systemd-timesyncd")
        .command("timedatectl set-ntp true")
    })
}

fn clock_steps(observation: &Observation) -> Option<DoctorFinding> {
    let steps = observation.engine.clock_steps;
    (steps > 0).then(|| {
        DoctorFinding::new(FindingSeverity::Warning, FindingKind::ClockSteps, format!("the clock was set {} during the check", times(steps)))
            .remedy(
                "Recordings stay complete, but call times before and after the change do not match. Let NTP slew the clock, \
                 and do not set it by hand or from the hypervisor.",
            )
            .command("timedatectl timesync-status")
    })
}

/// Reports that the clock was set ahead during a capture file. RTP streams prove it, if they continue without a gap
/// although the capture time jumps.
fn step_ahead(observation: &Observation) -> Option<DoctorFinding> {
    let length = observation.traffic.step_ahead?;
    let what = format!(
        "the clock was set ahead by about {} s: the capture has a gap of that length, but the RTP of its calls has none",
        length.as_secs()
    );
    Some(
        DoctorFinding::new(FindingSeverity::Warning, FindingKind::ClockStepAhead, what)
            .remedy("A call across the gap is split into two records or has a hole. Let NTP slew the clock of the capturing machine.")
            .command("timedatectl timesync-status"),
    )
}

/// Reports capture times before the year 2000. They come from a machine that booted without a battery-backed clock.
fn never_set(observation: &Observation) -> Option<DoctorFinding> {
    let first = observation.first_at?;
    (first < YEAR_2000).then(|| {
        let what = format!("the first frame has the time {first}: the clock was not set yet");
        DoctorFinding::new(FindingSeverity::Warning, FindingKind::ClockNotSet, what)
            .remedy("Calls from then have wrong times. Start the capture after the clock is set:")
            .command("systemctl enable --now systemd-time-wait-sync")
    })
}

/// Reports frames that are longer than the link allows. They show that a network card merged packets.
fn long_frames(observation: &Observation) -> Option<DoctorFinding> {
    let longest = observation.decode.longest_frame;
    let live = match &observation.subject {
        ObservedSource::Live { interfaces, .. } => interfaces.iter().filter_map(|i| i.mtu).max(),
        ObservedSource::Files => None,
    };
    let mtu = live.unwrap_or(JUMBO_MTU);
    if longest <= mtu.saturating_add(LINK_BYTES) {
        return None;
    }
    let eth = observation.interface();
    let what = match live {
        Some(mtu) => format!("a frame of {longest} bytes arrived on an interface with an MTU of {mtu}"),
        None => format!("a frame of {longest} bytes: no network carries such a frame"),
    };
    Some(
        DoctorFinding::new(FindingSeverity::Warning, FindingKind::LongFrames, what)
            .remedy("A card merged packets (GRO, LRO), or the network uses jumbo frames that this port may truncate.")
            .command(format!("ethtool -K {eth} gro off lro off"))
            .command(format!("ip link set {eth} mtu 9000")),
    )
}

fn joined_rtp(observation: &Observation) -> Option<DoctorFinding> {
    let joined = observation.traffic.plain.rtp_joined;
    (joined > 0).then(|| {
        let what = format!("{} with several RTP packets each", count(joined, "datagram"));
        DoctorFinding::new(FindingSeverity::Warning, FindingKind::JoinedRtp, what)
            .remedy(
                "The card or the kernel merges UDP packets (GRO). Recordings split them again, but all get the time of the \
                 last packet, and live statistics count the others as lost. Switch it off (until the next boot):",
            )
            .command(format!("ethtool -K {} gro off rx-gro-list off rx-udp-gro-forwarding off", observation.interface()))
    })
}

fn zero_length(observation: &Observation) -> Option<DoctorFinding> {
    let zero = observation.decode.zero_length;
    (zero > 0).then(|| {
        let what = format!(
            "{} without a length: captured at the sender, before its card segmented them",
            count(zero, "IP packet")
        );
        DoctorFinding::new(FindingSeverity::Note, FindingKind::SegmentationOffload, what)
            .remedy("If you capture on the PBX itself, switch segmentation offload off for the capture:")
            .command(format!("ethtool -K {} tso off gso off", observation.interface()))
    })
}

fn times(number: u64) -> String {
    if number == 1 { String::from("once") } else { format!("{number} times") }
}

/// Maximum number of bytes of a frame in addition to its IP packet: Ethernet header, four VLAN tags, and a checksum
/// that some cards add.
const LINK_BYTES: u32 = 14 + 4 * 4 + 4;
/// Length of the largest frame that Ethernet switches forward (jumbo frame), including headers of tunnels, bytes.
const JUMBO_MTU: u32 = 9_216 + 100;
/// Maximum value that the configuration allows for `capture.buffer_mib`, MiB.
const MAX_BUFFER_MIB: u32 = 2_048;
/// Start of the year 2000. An earlier capture time means that nobody has set the clock of the capturing machine.
const YEAR_2000: Timestamp = Timestamp::from_secs(946_684_800);
/// Path of the configuration file that the package installs.
const CONFIG: &str = "/etc/callspan/callspan.toml";
