//! State of the recorder's network interfaces and clock. [`HostInterface::ask`] and [`HostClock::ask`] query the kernel
//! and `ethtool`. Separate functions without side effects parse the output.

use std::process::Command;

/// State of a network interface. `None` means that Linux did not report a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HostInterface {
    /// Name of the network interface, e.g. `eth1`.
    pub(crate) name: String,
    /// Largest IP packet that the interface sends without fragmentation (MTU), bytes.
    pub(crate) mtu: Option<u32>,
    /// Whether the cable is connected and the link is up.
    pub(crate) has_carrier: Option<bool>,
    /// Active offload features of the card that merge packets into longer packets.
    pub(crate) joining: Vec<OffloadFeature>,
    /// Whether the program `ethtool` reported values for this interface.
    pub(crate) ethtool: EthtoolAnswer,
    /// Size of the card's receive ring in frames: current size, and maximum size.
    pub(crate) ring: Option<(u32, u32)>,
    /// Frames that the card lost since the interface was set up.
    pub(crate) losses: CardLosses,
}

/// Outcome of asking the program `ethtool` about an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum EthtoolAnswer {
    /// `ethtool` reported values for the interface.
    Answered,
    /// `ethtool` is not installed.
    Missing,
    /// `ethtool` is installed, but does not support this interface.
    #[default]
    Silent,
}

/// An offload feature that merges several packets into one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OffloadFeature {
    /// Name of the feature in the command `ethtool -K`, e.g. `gro`, `lro`, `rx-gro-hw`.
    pub(crate) name: &'static str,
    /// Whether the card allows switching this offload feature off.
    pub(crate) can_change: bool,
}

/// Frames that the network card or its driver lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CardLosses {
    /// Number of frames lost because the card's receive ring was full.
    pub(crate) no_room: u64,
    /// Number of frames damaged on the cable, e.g. with a wrong checksum.
    pub(crate) damaged: u64,
}

/// Whether the clock of this machine is synchronised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostClock {
    /// A time service, e.g. NTP, keeps the clock synchronised.
    Synchronised,
    /// Nothing keeps the clock synchronised, so it drifts.
    Alone,
    /// The kernel did not answer whether the clock is synchronised.
    Unknown,
}

impl HostInterface {
    /// Queries this machine for the state of the named interface.
    pub(crate) fn ask(name: &str) -> Self {
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

    /// Returns this state, but counts as lost only the frames that were lost since the state `before` was read.
    #[must_use]
    pub(crate) fn since(self, before: &Self) -> Self {
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
            // Drivers use different counters for the frames that were lost because the ring was full. So the largest of
            // these counters is used.
            no_room: count("rx_missed_errors").max(count("rx_fifo_errors")).max(count("rx_over_errors")),
            damaged: count("rx_crc_errors").max(count("rx_frame_errors")),
        }
    }
}

impl HostClock {
    /// Asks the kernel whether the clock is synchronised.
    #[expect(unsafe_code, reason = "adjtimex(2) has no safe form in std")]
    pub(crate) fn ask() -> Self {
        // SAFETY: timex is a plain C struct of integers, so all zeroes are a valid value. With `modes` 0, `adjtimex`
        // changes no clock and only fills this struct.
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

/// Returns the active offload features that merge packets, parsed from the output of `ethtool -k`.
pub(crate) fn joining(text: &str) -> Vec<OffloadFeature> {
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

/// Returns the current and the maximum size of the receive ring in frames, parsed from the output of `ethtool -g`.
pub(crate) fn ring(text: &str) -> Option<(u32, u32)> {
    // The output has two lines "RX:", first with the maximum and then with the current size.
    let mut values = text.lines().filter_map(|line| line.trim().strip_prefix("RX:")?.trim().parse().ok());
    let (most, now) = (values.next()?, values.next()?);
    Some((now, most))
}

/// Reads a value about an interface from `/sys/class/net`. Returns `None` if it is missing or unreadable.
fn sys<T: std::str::FromStr>(interface: &str, what: &str) -> Option<T> {
    // An interface name with a slash is refused, because its path could lead out of the folder.
    if interface.contains('/') {
        return None;
    }
    std::fs::read_to_string(format!("/sys/class/net/{interface}/{what}")).ok()?.trim().parse().ok()
}

fn ethtool(args: &[&str]) -> Result<String, EthtoolAnswer> {
    // The PATH of many users lacks the `sbin` folders, so `ethtool` is also tried by its full paths.
    let asked = ["ethtool", "/usr/sbin/ethtool", "/sbin/ethtool"]
        .iter()
        .find_map(|program| Command::new(program).args(args).env("LC_ALL", "C").output().ok());
    match asked {
        None => Err(EthtoolAnswer::Missing),
        Some(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Some(_) => Err(EthtoolAnswer::Silent),
    }
}

/// Names of the features in the output of `ethtool -k`, and their short names for `ethtool -K`.
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

    /// Excerpt of the output of `ethtool -k` for an Intel i350 network card.
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
    /// Output of `ethtool -k` for a Broadcom NetXtreme-E card with hardware GRO, and with LRO that cannot be switched
    /// off.
    const BROADCOM: &str = "Features for eno1:
generic-receive-offload: on
large-receive-offload: on [fixed]
rx-gro-hw: on
";

    #[test]
    fn merging_features_are_read_from_ethtool() {
        assert_eq!(joining(INTEL), [OffloadFeature { name: "gro", can_change: true }]);
        let names: Vec<_> = joining(BROADCOM).iter().map(|j| (j.name, j.can_change)).collect();
        assert_eq!(names, [("gro", true), ("lro", false), ("rx-gro-hw", true)]);
        assert!(joining("").is_empty() && joining("generic-receive-offload: off\n").is_empty());
    }

    #[test]
    fn ring_sizes_are_read_from_ethtool() {
        let text = "Ring parameters for eth1:\nPre-set maximums:\nRX:\t\t4096\nRX Mini:\tn/a\nTX:\t\t4096\n\
                    Current hardware settings:\nRX:\t\t256\nRX Mini:\tn/a\nTX:\t\t256\n";
        assert_eq!(ring(text), Some((256, 4096)));
        assert_eq!(ring("netlink error: Operation not supported\n"), None);
    }

    #[test]
    fn loopback_interface_can_be_queried() {
        let lo = HostInterface::ask("lo");
        assert!(lo.mtu.is_some_and(|mtu| mtu >= 1500), "{lo:?}");
        assert_eq!(HostInterface::ask("no/../such").mtu, None);
    }

    #[test]
    fn losses_are_counted_since_the_first_query() {
        let losses = |no_room| HostInterface { losses: CardLosses { no_room, damaged: 7 }, ..HostInterface::default() };
        assert_eq!(losses(12).since(&losses(10)).losses, CardLosses { no_room: 2, damaged: 0 });
    }
}
