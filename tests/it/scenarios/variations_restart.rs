//! All kinds of random calls with a disturbance: a restart of the recorder, a step of the wall clock, or REGISTERs
//! during the calls. The records must be the same as without the disturbance.

use super::variations::{Mirror, each_seed};
use super::{
    variations_devices as devices, variations_numbers as numbers, variations_proxies as proxies,
    variations_transfers as transfers,
};

type Kind = (&'static str, fn(u64, Mirror) -> Option<String>);

const KINDS: [Kind; 14] = [
    ("several devices", devices::several_devices),
    ("woken device", devices::woken_device),
    ("forking proxy", devices::forking_proxy),
    ("cluster", devices::cluster),
    ("proxy with the PBX behind it", proxies::through_a_proxy),
    ("started on the PBX", proxies::started_on_the_pbx),
    ("click-to-call", proxies::clicked),
    ("blind transfer", transfers::blind),
    ("attended transfer", transfers::attended),
    ("two transfers", transfers::two_at_once),
    ("short numbers", numbers::short_numbers),
    ("identities", numbers::identities),
    ("SIPREC", numbers::recorded_elsewhere),
    ("bodies", numbers::bodies),
];

/// Plays one of all kinds of calls, selected by the seed.
fn any_kind(seed: u64, mirror: Mirror) -> Option<String> {
    let (name, play_seed) = KINDS[(seed % KINDS.len() as u64) as usize];
    play_seed(seed, mirror).map(|fault| format!("{name}: {fault}"))
}

#[test]
fn a_restart_in_mid_call_changes_no_decision() {
    each_seed("restarted", |seed| any_kind(seed, Mirror::Restarted));
}

#[test]
fn a_step_of_the_wall_clock_changes_no_decision() {
    each_seed("clock step", |seed| any_kind(seed, Mirror::ClockStep));
}

#[test]
fn telephones_that_register_in_mid_call_change_no_decision() {
    each_seed("registers", |seed| any_kind(seed, Mirror::Registers));
}
