//! Error texts for interfaces that cannot be opened. Each text says what to do.

use std::path::PathBuf;

/// Returns the error text for a configuration that names no interface.
pub(super) fn none_configured() -> String {
    format!("no interface to capture from: set `interface` in [capture] ({})", existing())
}

/// Returns whether a later attempt can succeed, because the interface is only missing or down.
pub(super) fn can_be_retried(name: &str, error: &pcap::Error) -> bool {
    is_missing(name) || is_not_up(error)
}

fn is_missing(name: &str) -> bool {
    let names = interface_names();
    name != "any" && !names.is_empty() && !names.iter().any(|n| n == name)
}

fn is_not_up(error: &pcap::Error) -> bool {
    error.to_string().contains("not up")
}

/// Returns the error text for an interface that libpcap cannot open, with the remedy.
pub(super) fn cannot_open(name: &str, error: &pcap::Error) -> String {
    let text = error.to_string();
    if is_missing(name) {
        return format!(
            "there is no interface {name} ({}): name one of these, in the configuration `capture.interface`",
            existing()
        );
    }
    if is_not_up(error) {
        return is_down(name);
    }
    if ["permission", "permitted", "CAP_NET_RAW"].iter().any(|word| text.contains(word)) {
        let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("callspan"));
        return format!(
            "no privilege to capture on {name}: the program needs CAP_NET_RAW (and CAP_NET_ADMIN for promiscuous mode): \
             sudo setcap cap_net_raw,cap_net_admin=eip {}",
            program.display()
        );
    }
    format!("cannot capture on {name}: {text}")
}

/// Returns the error text for an interface that is administratively down, with the remedy.
pub(super) fn is_down(name: &str) -> String {
    format!("interface {name} is down: sudo ip link set dev {name} up")
}

/// Returns whether the interface is administratively up; true if Linux has no flags for it (`any`).
pub(super) fn is_set_up(name: &str) -> bool {
    let Ok(flags) = std::fs::read_to_string(format!("/sys/class/net/{name}/flags")) else { return true };
    let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).unwrap_or(IFF_UP);
    flags & IFF_UP != 0
}

/// Returns the error text for a HEP address on which the recorder cannot listen.
pub(super) fn cannot_listen(at: std::net::SocketAddr, error: &std::io::Error) -> String {
    format!("capture.hep_listen = {at}: {error}: choose an address of this machine and a free port, e.g. 0.0.0.0:9060")
}

fn existing() -> String {
    match interface_names() {
        names if names.is_empty() => String::from("list them with: ip link"),
        names => format!("this machine has {}", names.join(", ")),
    }
}

/// Returns the interface names from `/sys/class/net`, sorted; empty if that directory cannot be read.
fn interface_names() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/sys/class/net") else { return Vec::new() };
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|n| n != "bonding_masters")
        .collect();
    names.sort_unstable();
    names
}

/// Bit of the interface flags that means "administratively up" (netdevice(7)).
const IFF_UP: u32 = 1;
