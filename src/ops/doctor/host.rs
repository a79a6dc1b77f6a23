//! What this machine says about an interface and its clock. Asking is [`HostInterface::ask`] and [`HostClock::ask`]; reading
//! the answers is pure.

use std::process::Command;

/// An interface as Linux shows it. Absent means that Linux did not tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostInterface {
    /// Its name.
    pub name: String,
    /// Bytes of an IP packet that it takes.
    pub mtu: Option<u32>,
    /// Whether there is a link.
    pub has_carrier: Option<bool>,
    /// Features that join packets, on at the moment.
    pub joining: Vec<OffloadFeature>,
    /// Whether `ethtool` could be asked.
    pub ethtool: EthtoolAnswer,
    /// Room for frames in the card: now, and at the most.
    pub ring: Option<(u32, u32)>,
    /// What the card lost, since it was set up.
    pub losses: CardLosses,
}

/// What came of asking `ethtool`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EthtoolAnswer {
    /// It answered.
    Answered,
    /// The program is not there.
    Missing,
    /// It is there and does not know this interface.
    #[default]
    Silent,
}

/// A feature that joins several packets into one (the short name that `ethtool -K` takes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffloadFeature {
    /// `gro`, `lro`, `rx-gro-hw`, ….
    pub name: &'static str,
    /// Whether the card allows it to be switched off.
    pub can_change: bool,
}

/// Frames that the card or its driver lost or found damaged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CardLosses {
    /// No room in the card's ring.
    pub no_room: u64,
    /// Damaged on the cable.
    pub damaged: u64,
}

/// The clock of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostClock {
    /// Something keeps it right.
    Synchronised,
    /// Nothing does.
    Alone,
    /// The kernel did not tell.
    Unknown,
}

impl HostInterface {
    /// Asks this machine.
    pub fn ask(name: &str) -> Self {
        let mut interface = Self {
            name: name.to_owned(),
            mtu: sys(name, "mtu"),
            has_carrier: sys::<u8>(name, "carrier").map(|c| c != 0),
            losses: CardLosses::ask(name),
            ..Self::default()
        };
        match ethtool(&["-k", name]) {
            Ok(text) => {
                interface.joining = joining(&text);
                interface.ethtool = EthtoolAnswer::Answered;
                interface.ring = ethtool(&["-g", name]).ok().and_then(|text| ring(&text));
            }
            Err(answer) => interface.ethtool = answer,
        }
        interface
    }

    /// The same with the losses since `before`.
    #[must_use]
    pub fn since(self, before: &Self) -> Self {
        let (now, then) = (self.losses, before.losses);
        let losses = CardLosses {
            no_room: now.no_room.saturating_sub(then.no_room),
            damaged: now.damaged.saturating_sub(then.damaged),
        };
        Self { losses, ..self }
    }
}

impl CardLosses {
    fn ask(name: &str) -> Self {
        let count = |what: &str| sys::<u64>(name, &format!("statistics/{what}")).unwrap_or(0);
        Self {
            // The drivers differ in which of the three they count.
            no_room: count("rx_missed_errors").max(count("rx_fifo_errors")).max(count("rx_over_errors")),
            damaged: count("rx_crc_errors").max(count("rx_frame_errors")),
        }
    }
}

impl HostClock {
    /// Asks the kernel.
    #[expect(unsafe_code, reason = "adjtimex(2) has no safe form in std")]
    pub fn ask() -> Self {
        // SAFETY: timex is a plain C struct of integers, for which all zeroes is a value; with `modes` 0 the call
        // only fills it in.
        let (state, status) = unsafe {
            let mut timex: libc::timex = std::mem::zeroed();
            let state = libc::adjtimex(&raw mut timex);
            (state, timex.status)
        };
        match state {
            -1 => Self::Unknown,
            _ if status & libc::STA_UNSYNC != 0 => Self::Alone,
            _ => Self::Synchronised,
        }
    }
}

/// The features that join packets and are on, of the answer to `ethtool -k`.
pub fn joining(text: &str) -> Vec<OffloadFeature> {
    let is_on = |line: &str, feature: &str| {
        let value = line.trim().strip_prefix(feature)?.strip_prefix(':')?.trim();
        value.starts_with("on").then(|| !value.contains("[fixed]"))
    };
    let find = |(feature, name): &(&str, &'static str)| {
        let can_change = text.lines().find_map(|line| is_on(line, feature))?;
        Some(OffloadFeature { name, can_change })
    };
    FEATURES.iter().filter_map(find).collect()
}

/// Receive ring: current and largest, of the answer to `ethtool -g`.
pub fn ring(text: &str) -> Option<(u32, u32)> {
    // "RX:" stands twice: under "Pre-set maximums" and under "Current hardware settings".
    let mut values = text.lines().filter_map(|line| line.trim().strip_prefix("RX:")?.trim().parse().ok());
    let (most, now) = (values.next()?, values.next()?);
    Some((now, most))
}

fn sys<T: std::str::FromStr>(interface: &str, what: &str) -> Option<T> {
    // A name with a slash is no interface and must not lead elsewhere.
    if interface.contains('/') {
        return None;
    }
    std::fs::read_to_string(format!("/sys/class/net/{interface}/{what}")).ok()?.trim().parse().ok()
}

fn ethtool(args: &[&str]) -> Result<String, EthtoolAnswer> {
    // Not every user has the folders of the administrator in the path.
    let asked = ["ethtool", "/usr/sbin/ethtool", "/sbin/ethtool"]
        .iter()
        .find_map(|program| Command::new(program).args(args).env("LC_ALL", "C").output().ok());
    match asked {
        None => Err(EthtoolAnswer::Missing),
        Some(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Some(_) => Err(EthtoolAnswer::Silent),
    }
}

/// As `ethtool -k` prints them and as `ethtool -K` takes them.
const FEATURES: [(&str, &str); 5] = [
    ("generic-receive-offload", "gro"),
    ("large-receive-offload", "lro"),
    ("rx-gro-hw", "rx-gro-hw"),
    ("rx-gro-list", "rx-gro-list"),
    ("rx-udp-gro-forwarding", "rx-udp-gro-forwarding"),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// `ethtool -k` of an Intel i350, shortened to what matters and its neighbours.
    const INTEL: &str = "Features for eth1:
rx-checksumming: on
tcp-segmentation-offload: on
\ttx-tcp-segmentation: on
generic-segmentation-offload: on
generic-receive-offload: on
large-receive-offload: off [fixed]
rx-vlan-offload: on
rx-gro-hw: off [fixed]
rx-gro-list: off
rx-udp-gro-forwarding: off
";
    /// A Broadcom NetXtreme-E, where the card joins by itself, and an old driver with LRO that cannot be changed.
    const BROADCOM: &str = "Features for eno1:
generic-receive-offload: on
large-receive-offload: on [fixed]
rx-gro-hw: on
";

    #[test]
    fn what_joins_packets_is_read_from_ethtool() {
        assert_eq!(joining(INTEL), [OffloadFeature { name: "gro", can_change: true }]);
        let names: Vec<_> = joining(BROADCOM).iter().map(|j| (j.name, j.can_change)).collect();
        assert_eq!(names, [("gro", true), ("lro", false), ("rx-gro-hw", true)]);
        assert!(joining("").is_empty() && joining("generic-receive-offload: off\n").is_empty());
    }

    #[test]
    fn the_ring_is_read_from_ethtool() {
        let text = "Ring parameters for eth1:\nPre-set maximums:\nRX:\t\t4096\nRX Mini:\tn/a\nTX:\t\t4096\n\
                    Current hardware settings:\nRX:\t\t256\nRX Mini:\tn/a\nTX:\t\t256\n";
        assert_eq!(ring(text), Some((256, 4096)));
        assert_eq!(ring("netlink error: Operation not supported\n"), None);
    }

    #[test]
    fn the_loopback_of_this_machine_can_be_asked() {
        let lo = HostInterface::ask("lo");
        assert!(lo.mtu.is_some_and(|mtu| mtu >= 1500), "{lo:?}");
        assert_eq!(HostInterface::ask("no/../such").mtu, None);
    }

    #[test]
    fn losses_are_those_of_the_look() {
        let losses = |no_room| HostInterface { losses: CardLosses { no_room, damaged: 7 }, ..HostInterface::default() };
        assert_eq!(losses(12).since(&losses(10)).losses, CardLosses { no_room: 2, damaged: 0 });
    }
}
