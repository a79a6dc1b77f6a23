//! Tests of the systemd units: their exposure as `systemd-analyze security` computes it, and the addresses that the
//! service may reach.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

fn unit(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)
}

/// Returns the exposure of a unit, multiplied by ten.
fn exposure_tenths(name: &str) -> u32 {
    let dir = tempfile::tempdir().expect("a folder");
    // The unit of a template needs the name of an instance.
    let file = dir.path().join(name.replace('@', "@eth0"));
    std::fs::copy(unit(name), &file).expect("copied");
    let output = Command::new("systemd-analyze").args(["security", "--offline=true"]).arg(&file).output();
    let output = String::from_utf8_lossy(&output.expect("it runs").stdout).into_owned();
    let words = output.split("Overall exposure level for").nth(1).unwrap_or_else(|| panic!("{output}"));
    let level = words.split(": ").nth(1).and_then(|rest| rest.split(' ').next()).expect("a level");
    level.replace('.', "").parse().unwrap_or_else(|_| panic!("{words}"))
}

#[test]
#[cfg_attr(not(has_systemd_analyze), ignore = "needs systemd")]
fn exposure_of_the_units_is_low() {
    for (name, most) in [("callspan.service", 15), ("callspan-mirror@.service", 20), ("callspan-console.service", 15)] {
        let level = exposure_tenths(name);
        assert!(level <= most, "{name}: {level} tenths, more than {most}");
    }
}

#[test]
fn units_bound_memory_and_threads_and_start_again_after_any_end() {
    let both = ["MemoryMax=", "TasksMax="];
    for (name, more) in [
        ("callspan.service", &["Restart=always", "WatchdogSec=", "ExecReload="][..]),
        ("callspan-console.service", &["Restart=always", "WatchdogSec="]),
        ("callspan-mirror@.service", &[]),
    ] {
        let text = std::fs::read_to_string(unit(name)).expect("there");
        let missing = both.iter().chain(more).find(|key| !text.lines().any(|line| line.starts_with(**key)));
        assert_eq!(missing, None, "{name}");
    }
}

#[test]
fn the_services_reach_every_unicast_address_but_link_local_ones_of_ipv4() {
    ["callspan.service", "callspan-console.service"].into_iter().for_each(reaches_every_unicast_address);
}

fn reaches_every_unicast_address(name: &str) {
    let text = std::fs::read_to_string(unit(name)).expect("there");
    let lists = text.lines().filter_map(|line| line.strip_prefix("IPAddressAllow="));
    let allowed: Vec<(IpAddr, u32)> = lists.flat_map(str::split_whitespace).map(network).collect();
    let may_reach = |address: &str| {
        let address: IpAddr = address.parse().expect("an address");
        allowed.iter().any(|(network, bits)| prefix(*network, *bits) == prefix(address, *bits))
    };
    for second in 0..=255_u8 {
        for address in [format!("169.{second}.1.1"), format!("{second}.7.1.1")] {
            let is_unicast = !(224..240).contains(&second) || address.starts_with("169.");
            let expected = is_unicast && !address.starts_with("169.254.");
            // 240.0.0.0/4 is reserved, so it does no harm if it is allowed.
            let is_reserved =
                address.split('.').next().is_some_and(|first| first.parse::<u8>().is_ok_and(|n| n >= 240));
            assert!(is_reserved || may_reach(&address) == expected, "{address}");
        }
    }
    for (address, expected) in
        [("::1", true), ("2a00:1450::5", true), ("fd00::1", true), ("fe80::1", true), ("ff02::1", false)]
    {
        assert_eq!(may_reach(address), expected, "{address}");
    }
}

fn network(text: &str) -> (IpAddr, u32) {
    let (address, bits) = text.split_once('/').unwrap_or((text, "128"));
    (address.parse().expect("an address"), bits.parse().expect("a length"))
}

/// Returns the first `bits` bits of an address, and whether it is IPv6.
fn prefix(address: IpAddr, bits: u32) -> (bool, u128) {
    match address {
        IpAddr::V4(v4) => (true, u128::from(v4.to_bits().checked_shr(32 - bits.min(32)).unwrap_or(0))),
        IpAddr::V6(v6) => (false, v6.to_bits().checked_shr(128 - bits).unwrap_or(0)),
    }
}
