//! One libFuzzer binary for all targets. The variable `CALLSPAN_FUZZ_TARGET` names the target to run.
#![no_main]

mod seeds;
mod targets;

use std::path::Path;
use std::sync::OnceLock;

static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();

libfuzzer_sys::fuzz_target!(
    init: {
        let name = std::env::var("CALLSPAN_FUZZ_TARGET").expect("CALLSPAN_FUZZ_TARGET names a target");
        let target = targets::target(&name).unwrap_or_else(|| panic!("{name} is no target"));
        TARGET.set(target).expect("set once");
        if let Some(folder) = std::env::var_os("CALLSPAN_FUZZ_SEEDS") {
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
            for (number, seed) in seeds::seeds(&name, &root).iter().enumerate() {
                std::fs::write(Path::new(&folder).join(format!("seed-{number}")), seed).expect("the folder is there");
            }
        }
    },
    |data: &[u8]| {
        if let Some(target) = TARGET.get() {
            target(data);
        }
    }
);
