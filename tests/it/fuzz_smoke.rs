//! Runs the fuzz targets over mutated fixtures, with the same mutations in every run.
//!
//! `tests/fuzz/run.sh` runs the same targets for ten minutes each, guided by coverage.

#[path = "../fuzz/src/seeds.rs"]
mod seeds;
#[path = "../fuzz/src/targets.rs"]
mod targets;

use std::path::Path;

/// Runs a target over its seeds and [`TRIES`] mutations of them.
fn run(name: &str) {
    let target = targets::target(name).unwrap_or_else(|| panic!("{name} is a target"));
    let seeds = seeds::seeds(name, Path::new(env!("CARGO_MANIFEST_DIR")));
    assert!(!seeds.is_empty(), "{name} has seeds");
    seeds.iter().for_each(|seed| target(seed));
    let mut random = fastrand::Rng::with_seed(SEED);
    for _ in 0..TRIES {
        let mut input = seeds[random.usize(..seeds.len())].clone();
        for _ in 0..random.usize(1..8) {
            mutate(&mut input, &seeds, &mut random);
        }
        target(&input);
    }
}

/// Changes an input in one of the usual ways of fuzzers.
fn mutate(input: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut fastrand::Rng) {
    let len = input.len().max(1);
    let (a, b) = (random.usize(..len), random.usize(..len));
    let (from, to) = (a.min(b).min(input.len()), a.max(b).min(input.len()));
    match random.u8(..8) {
        0 if !input.is_empty() => input[from] ^= 1 << random.u8(..8),
        1 if !input.is_empty() => input[from] = random.u8(..),
        2 if !input.is_empty() => input[from] = EDGES[random.usize(..EDGES.len())],
        3 => drop(input.drain(from..to.min(from + 64))),
        4 => input.truncate(from),
        5 => {
            let piece = input[from..to.min(from + 64)].to_vec();
            input.splice(from..from, piece);
        }
        6 => input.insert(from, random.u8(..)),
        _ => {
            let other = &seeds[random.usize(..seeds.len())];
            let cut = random.usize(..other.len().max(1)).min(other.len());
            input.truncate(from);
            input.extend_from_slice(&other[cut..]);
        }
    }
    input.truncate(MAX_INPUT);
}

macro_rules! smoke {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            run(stringify!($name));
        })*

        #[test]
        fn every_target_is_run_here() {
            let here = [$(stringify!($name)),*];
            assert_eq!(here.as_slice(), targets::TARGETS.map(|(name, _)| name));
        }
    };
}

smoke!(frames fragments tcp framing sip sdp codecs spool capture engine hep);

#[test]
fn the_seed_of_a_spool_has_sound_in_it() {
    let seed = seeds::seeds("spool", Path::new(env!("CARGO_MANIFEST_DIR"))).remove(0);
    let source = callspan::spool::LegSource::Memory(std::sync::Arc::new(seed.into()));
    let options = callspan::render::RenderOptions::default();
    let plan = callspan::render::plan(&source, &options).expect("it can be read");
    assert!(plan.has_sound && plan.samples > 0, "{plan:?}");
}

/// Number of mutations of each target. Together they take a few seconds in a debug build.
const TRIES: usize = 1_500;
/// Seed of the random mutations. Any number will do, but it must not change.
const SEED: u64 = 20_261_123;
/// Maximum size of an input, bytes, as in the ten-minute run.
const MAX_INPUT: usize = 16_384;
/// Byte values at which lengths and counters overflow or change their meaning.
const EDGES: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, 0xfe, b'\r', b'\n'];
