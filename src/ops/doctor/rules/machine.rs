//! This machine: offload, drops, cable, clock.

use super::host::{EthtoolAnswer, HostClock, HostInterface};
use super::{DoctorFinding, FindingSeverity, Observation, ObservedSource, count};
use crate::time::Timestamp;

pub(super) fn all(look: &Observation) -> Vec<DoctorFinding> {
    let mut findings = Vec::new();
    findings.extend(kernel_drops(look));
    if let ObservedSource::Live { interfaces, clock, .. } = &look.subject {
        for interface in interfaces {
            let rules = [carrier, joining, not_asked, ring, cable];
            findings.extend(rules.iter().filter_map(|rule| rule(interface)));
        }
        findings.extend(unsynchronised(*clock));
    }
    findings.extend(long_frames(look));
    findings.extend(joined_rtp(look));
    findings.extend(zero_length(look));
    findings.extend([clock_steps, step_ahead, never_set].iter().filter_map(|rule| rule(look)));
    findings.extend(look.warnings.iter().map(|w| DoctorFinding::new(FindingSeverity::Warning, "source", w)));
    findings
}

fn kernel_drops(look: &Observation) -> Option<DoctorFinding> {
    let drops = look.capture.dropped_by_kernel;
    let ObservedSource::Live { buffer_mib, .. } = &look.subject else { return None };
    if drops == 0 {
        return None;
    }
    let what = format!("the kernel dropped {} for want of room", count(drops, "frame"));
    let finding = DoctorFinding::new(FindingSeverity::Problem, "kernel_drops", what).remedy(
        "This machine did not read as fast as the mirror sent. Give capture.buffer_mib more, and look what else uses the \
         processor.",
    );
    let more = buffer_mib.saturating_mul(4).min(MAX_BUFFER_MIB);
    if more <= *buffer_mib {
        return Some(finding);
    }
    // Within its section: [spool] has a key of the same name.
    let set = format!("sed -i '/^\\[capture\\]/,/^\\[/ s/^#* *buffer_mib *=.*/buffer_mib = {more}/' {CONFIG}");
    Some(finding.command(set).command("systemctl restart callspan"))
}

fn carrier(interface: &HostInterface) -> Option<DoctorFinding> {
    (interface.has_carrier == Some(false)).then(|| {
        let name = &interface.name;
        DoctorFinding::new(FindingSeverity::Problem, "no_link", format!("{name} has no link"))
            .remedy("The cable is out, or the port of the switch is off.")
            .command(format!("ip link set {name} up"))
            .command(format!("ethtool {name}"))
    })
}

/// Joined packets look too long to what comes after, and their stamps are those of the last one.
fn joining(interface: &HostInterface) -> Option<DoctorFinding> {
    let (name, on) = (&interface.name, &interface.joining);
    if on.is_empty() {
        return None;
    }
    let names = |wanted: bool| on.iter().filter(|j| j.can_change == wanted).map(|j| j.name).collect::<Vec<_>>();
    let (can, cannot) = (names(true), names(false));
    let all: Vec<&str> = on.iter().map(|j| j.name).collect();
    let finding = DoctorFinding::new(FindingSeverity::Warning, "offload", format!("{name} joins packets ({} on)", all.join(", ")))
        .remedy(if cannot.is_empty() {
            "Joined packets are no longer what was on the wire, and their times are wrong. Until the next boot:"
        } else {
            "Joined packets are no longer what was on the wire, and their times are wrong. Not all of it can be switched off \
             on this card; use another card for the mirror."
        });
    Some(if can.is_empty() { finding } else { finding.command(format!("ethtool -K {name} {} off", can.join(" off "))) })
}

fn not_asked(interface: &HostInterface) -> Option<DoctorFinding> {
    (interface.ethtool == EthtoolAnswer::Missing).then(|| {
        let what = format!("ethtool is not installed, so {} was not asked about GRO and LRO", interface.name);
        DoctorFinding::new(FindingSeverity::Note, "no_ethtool", what)
            .remedy("Install it and look again:")
            .command("apt-get install -y ethtool")
    })
}

fn ring(interface: &HostInterface) -> Option<DoctorFinding> {
    let (name, lost) = (&interface.name, interface.losses.no_room);
    (lost > 0).then(|| {
        let finding = DoctorFinding::new(
            FindingSeverity::Problem,
            "card_drops",
            format!("{name} lost {} in the card", count(lost, "frame")),
        )
        .remedy("The card's ring is full before the kernel takes the frames. Give it its largest ring.");
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
            "damaged_frames",
            format!("{} on {name} came damaged", count(damaged, "frame")),
        )
        .remedy("Change the cable or the optics; then look whether the counter still grows:")
        .command(format!("ethtool -S {name} | grep -i crc"))
    })
}

fn unsynchronised(clock: HostClock) -> Option<DoctorFinding> {
    (clock == HostClock::Alone).then(|| {
        DoctorFinding::new(
            FindingSeverity::Warning,
            "clock_unsynchronised",
            "nothing keeps the clock of this machine right",
        )
        .remedy("Calls get wrong times, and Pyrus refuses a clock that is far off. Use NTP:")
        .command("apt-get install -y systemd-timesyncd")
        .command("timedatectl set-ntp true")
    })
}

fn clock_steps(look: &Observation) -> Option<DoctorFinding> {
    let steps = look.engine.clock_steps;
    (steps > 0).then(|| {
        DoctorFinding::new(FindingSeverity::Warning, "clock_steps", format!("the clock was set {} while looking", times(steps)))
            .remedy(
                "Recordings stay whole, but the times of calls before and after do not fit together. Let NTP slew the clock \
                 instead of setting it, and do not set it by hand or from the hypervisor as well.",
            )
            .command("timedatectl timesync-status")
    })
}

/// A step ahead in a file: nothing there says so but the media, which goes on over it.
fn step_ahead(look: &Observation) -> Option<DoctorFinding> {
    let length = look.traffic.step_ahead?;
    let what = format!(
        "the clock was set ahead by about {} s in the capture: calls go on over a silence of that length as if it were \
         none",
        length.as_secs()
    );
    Some(
        DoctorFinding::new(FindingSeverity::Warning, "clock_step_ahead", what)
            .remedy("A call over it becomes two records, or has a hole. Let NTP slew the clock of the machine that captures.")
            .command("timedatectl timesync-status"),
    )
}

/// Stamps of a machine that has just booted and has no battery.
fn never_set(look: &Observation) -> Option<DoctorFinding> {
    let first = look.first_at?;
    (first < YEAR_2000).then(|| {
        let what = format!("the first frame is stamped {first}: the clock was not set when it came");
        DoctorFinding::new(FindingSeverity::Warning, "clock_not_set", what)
            .remedy("Calls from that time have wrong times. Begin to capture when the clock is right:")
            .command("systemctl enable --now systemd-time-wait-sync")
    })
}

/// Longer than a packet can be on this link: put together by a card.
fn long_frames(look: &Observation) -> Option<DoctorFinding> {
    let longest = look.decode.longest_frame;
    let live = match &look.subject {
        ObservedSource::Live { interfaces, .. } => interfaces.iter().filter_map(|i| i.mtu).max(),
        ObservedSource::Files => None,
    };
    let mtu = live.unwrap_or(JUMBO_MTU);
    if longest <= mtu.saturating_add(LINK_BYTES) {
        return None;
    }
    let eth = look.interface();
    let what = match live {
        Some(mtu) => format!("a frame of {longest} bytes came on an interface with an MTU of {mtu}"),
        None => format!("a frame of {longest} bytes: no network carries so long a frame"),
    };
    Some(
        DoctorFinding::new(FindingSeverity::Warning, "long_frames", what)
            .remedy("A card put packets together (GRO, LRO), or the network uses jumbo frames that this port may cut.")
            .command(format!("ethtool -K {eth} gro off lro off"))
            .command(format!("ip link set {eth} mtu 9000")),
    )
}

fn joined_rtp(look: &Observation) -> Option<DoctorFinding> {
    let joined = look.traffic.plain.rtp_joined;
    (joined > 0).then(|| {
        let what = format!("{} with several RTP packets in one", count(joined, "datagram"));
        DoctorFinding::new(FindingSeverity::Warning, "joined_rtp", what)
            .remedy(
                "The card or the kernel puts UDP packets together (GRO). Recordings take them apart again, but all have the \
                 time of the last, and while a call lives the others count as lost. Until the next boot:",
            )
            .command(format!("ethtool -K {} gro off rx-gro-list off rx-udp-gro-forwarding off", look.interface()))
    })
}

fn zero_length(look: &Observation) -> Option<DoctorFinding> {
    let zero = look.decode.zero_length;
    (zero > 0).then(|| {
        let what = format!(
            "{} without a length: captured at the sender, before its card cut them up",
            count(zero, "IP packet")
        );
        DoctorFinding::new(FindingSeverity::Note, "segmentation_offload", what)
            .remedy("Where the capture is made on the PBX itself, switch it off for the capture:")
            .command(format!("ethtool -K {} tso off gso off", look.interface()))
    })
}

fn times(number: u64) -> String {
    if number == 1 { String::from("once") } else { format!("{number} times") }
}

/// Ethernet, four VLAN tags, a checksum that some cards hand over.
const LINK_BYTES: u32 = 14 + 4 * 4 + 4;
/// The largest that Ethernet switches carry, with what tunnels add.
const JUMBO_MTU: u32 = 9_216 + 100;
/// The most that the configuration takes.
const MAX_BUFFER_MIB: u32 = 2_048;
/// Before it there was no VoIP worth a capture.
const YEAR_2000: Timestamp = Timestamp::from_secs(946_684_800);
/// Where the package puts it.
const CONFIG: &str = "/etc/callspan/callspan.toml";
