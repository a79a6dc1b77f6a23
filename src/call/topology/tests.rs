use super::*;
use crate::call::topology::fact::MachinePair;

const WAN: &str = "198.51.100.10:5060";
const LAN: &str = "10.1.0.1:5060";
const DAY_S: i64 = 24 * 3_600;

fn host(text: &str) -> Endpoint {
    text.parse().expect("an endpoint")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn day(n: i64) -> Timestamp {
    Timestamp::from_secs(1_795_417_200 + n * DAY_S)
}

fn is_regrouped(change: &TopologyChange) -> bool {
    matches!(change, TopologyChange::Machines(_))
}

/// Counts `calls` calls of different parties that show two hosts to be one machine.
fn observe(topology: &mut Topology, (a, b): (&str, &str), calls: u64, at: Timestamp) {
    for parties in 0..calls {
        topology.observe((host(a), host(b)), parties, at);
    }
}

#[test]
fn configured_addresses_are_one_machine_at_once() {
    let topology = Topology::new(&[vec![ip("198.51.100.10"), ip("10.1.0.1"), ip("2001:db8::10")]]);
    assert!(topology.same_machine(host(WAN), host(LAN)));
    assert!(topology.same_machine(host(LAN), host("[2001:db8::10]:5062")));
    assert!(!topology.same_machine(host(LAN), host("10.1.0.2:5060")));
    assert!(topology.same_machine(host("10.1.0.2:5060"), host("10.1.0.2:5062")), "equal addresses always");
    assert_eq!(topology.machine_of(host(LAN)).port(), 5060);
}

#[test]
fn lists_that_share_an_address_are_one_machine() {
    let topology = Topology::new(&[vec![ip("10.0.0.1"), ip("10.0.0.2")], vec![ip("10.0.0.2"), ip("10.0.0.3")]]);
    assert!(topology.same_machine(host("10.0.0.1:5060"), host("10.0.0.3:5060")));
}

#[test]
fn a_pair_is_believed_after_three_calls_of_different_parties() {
    let mut topology = Topology::default();
    for _ in 0..9 {
        topology.observe((host(WAN), host(LAN)), 1, day(0));
    }
    assert!(!topology.same_machine(host(WAN), host(LAN)), "the same parties count once");
    assert_eq!(topology.observe((host(LAN), host(WAN)), 2, day(0)), TopologyChange::Counts);
    assert!(is_regrouped(&topology.observe((host(WAN), host(LAN)), 3, day(0))));
    assert!(topology.same_machine(host(WAN), host(LAN)));
    topology.observe((host(WAN), host(LAN)), 3, day(1));
    let facts: Vec<_> = topology.facts().collect();
    assert_eq!((facts.len(), facts[0].seen, facts[0].first_at, facts[0].last_at), (1, 4, day(0), day(1)));
}

#[test]
fn pairs_that_share_a_host_form_one_machine() {
    let mut topology = Topology::default();
    observe(&mut topology, ("192.0.2.1:5060", "192.0.2.11:5060"), 3, day(0));
    observe(&mut topology, ("192.0.2.1:5060", "192.0.2.12:5060"), 3, day(0));
    assert!(topology.same_machine(host("192.0.2.11:5060"), host("192.0.2.12:5060")), "virtual address, two nodes");
}

#[test]
fn the_pairs_of_a_telephone_are_forgotten() {
    let mut topology = Topology::default();
    observe(&mut topology, (WAN, LAN), 3, day(0));
    assert_eq!(topology.forget_host(host("10.1.0.9:5060")), TopologyChange::Counts);
    assert!(is_regrouped(&topology.forget_host(host(WAN))));
    assert!(!topology.same_machine(host(WAN), host(LAN)));
    assert_eq!(topology.facts().count(), 0);
}

#[test]
fn nothing_is_learnt_about_an_address_that_is_configured_alone() {
    let mut topology = Topology::new(&[vec![ip("10.1.0.1")]]);
    observe(&mut topology, (WAN, LAN), 9, day(0));
    assert!(!topology.same_machine(host(WAN), host(LAN)));
    // Three calls show both addresses to be one machine. Then the configuration names one of them alone, which ends the
    // learnt pair.
    let mut topology = Topology::default();
    observe(&mut topology, (WAN, LAN), 3, day(0));
    let _ = topology.configure(&[vec![ip("198.51.100.10")]]);
    assert!(!topology.same_machine(host(WAN), host(LAN)));
}

#[test]
fn contradictions_end_the_belief_for_seven_days() {
    let mut topology = Topology::default();
    observe(&mut topology, (WAN, LAN), 3, day(0));
    // More than one contradiction in ten calls ends the belief that both hosts are one machine. Here one call
    // contradicts three.
    assert!(is_regrouped(&topology.contradict((host(LAN), host(WAN)), day(1))));
    observe(&mut topology, (WAN, LAN), 9, day(7));
    assert!(!topology.same_machine(host(WAN), host(LAN)), "six days later");
    observe(&mut topology, (WAN, LAN), 3, day(8));
    assert!(topology.same_machine(host(WAN), host(LAN)), "seven days later, after three new calls");
}

#[test]
fn one_contradiction_in_many_calls_is_no_doubt_and_two_are() {
    let mut topology = Topology::default();
    observe(&mut topology, (WAN, LAN), 100, day(0));
    assert_eq!(topology.contradict((host(WAN), host(LAN)), day(1)), TopologyChange::Counts);
    assert!(topology.same_machine(host(WAN), host(LAN)));
    assert!(is_regrouped(&topology.contradict((host(WAN), host(LAN)), day(1))));
    let mut configured = Topology::new(&[vec![ip("198.51.100.10"), ip("10.1.0.1")]]);
    for _ in 0..3 {
        configured.contradict((host(WAN), host(LAN)), day(1));
    }
    assert!(configured.same_machine(host(WAN), host(LAN)), "what is configured is never contradicted");
}

#[test]
fn a_pair_that_is_not_seen_for_thirty_days_is_forgotten() {
    let mut topology = Topology::default();
    observe(&mut topology, (WAN, LAN), 3, day(0));
    assert_eq!(topology.forget_old(day(30)), TopologyChange::Counts);
    assert!(is_regrouped(&topology.forget_old(day(31))));
    assert_eq!(topology.facts().count(), 0);
}

#[test]
fn facts_of_an_earlier_process_are_believed() {
    let mut earlier = Topology::default();
    observe(&mut earlier, (WAN, LAN), 3, day(0));
    let text = serde_json::to_string(&earlier.facts().collect::<Vec<_>>()).expect("JSON");
    assert!(text.contains(r#""a":"10.1.0.1","b":"198.51.100.10","by":"same_moments","seen":3,"against":0"#), "{text}");
    let facts: Vec<MachinePair> = serde_json::from_str(&text).expect("the same facts");
    let mut topology = Topology::default();
    topology.restore(&facts, day(2));
    assert!(topology.same_machine(host(WAN), host(LAN)));
    let mut later = Topology::default();
    later.restore(&facts, day(40));
    assert!(!later.same_machine(host(WAN), host(LAN)), "too old");
}

#[test]
fn pairs_and_machines_are_bounded() {
    let mut topology = Topology::default();
    for n in 0..1_000_u32 {
        let other = Endpoint::new(IpAddr::from([172, 16, (n >> 8) as u8, n as u8]), 5060);
        for parties in 0..3 {
            topology.observe((host(LAN), other), parties, day(0) + Duration::from_secs(u64::from(n)));
        }
    }
    assert_eq!(topology.facts().count(), MAX_PAIRS);
    let size = topology.machines.0.values().filter(|machine| **machine == topology.machine_of(host(LAN)).ip()).count();
    assert_eq!(size, MAX_MACHINE_ADDRESSES);
    // If the table is full, a new pair of hosts replaces an old pair. A pair that already counts as one machine is
    // never replaced.
    let mut topology = Topology::default();
    for n in 0..1_000_u32 {
        let other = Endpoint::new(IpAddr::from([172, 16, (n >> 8) as u8, n as u8]), 5060);
        topology.observe((host(LAN), other), 1, day(0) + Duration::from_secs(u64::from(n)));
    }
    observe(&mut topology, (WAN, LAN), 3, day(1));
    assert!(topology.same_machine(host(WAN), host(LAN)));
    assert_eq!(topology.facts().count(), MAX_PAIRS);
}
