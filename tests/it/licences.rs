//! Checks the licences of the dependencies: each must allow the distribution of the binary.

use std::process::Command;

use serde_json::Value;

/// Licences that require no more than a notice. MPL-2.0 is in the list for symphonia, which is used unchanged.
const PERMISSIVE: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MPL-2.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Crates that name a file instead of a licence. The files were read, and both licences are MIT.
const READ_BY_US: &[&str] = &["rsip", "rsip-derives"];

#[test]
fn every_dependency_has_a_permissive_licence() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--locked", "--filter-platform"])
        .arg("x86_64-unknown-linux-gnu")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    let packages = metadata["packages"].as_array().expect("a list of packages");
    assert!(packages.len() > 100, "the whole tree was read");
    let mut wrong = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let licence = package["license"].as_str().unwrap_or_default();
        if !READ_BY_US.contains(&name) && !is_permissive(licence) {
            wrong.push(format!("{name}: {licence}"));
        }
    }
    assert!(wrong.is_empty(), "not permissive:\n{}", wrong.join("\n"));
}

#[test]
fn a_choice_needs_one_permissive_term_and_a_sum_all_of_them() {
    for good in [
        "MIT",
        "MIT/Apache-2.0",
        "MIT OR GPL-3.0",
        "(MIT OR Apache-2.0) AND Unicode-3.0",
        "Apache-2.0 WITH LLVM-exception OR MIT",
    ] {
        assert!(is_permissive(good), "{good}");
    }
    for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "GPL-2.0 OR LGPL-2.1", "(MIT OR ISC) AND LGPL-3.0"] {
        assert!(!is_permissive(bad), "{bad}");
    }
}

/// Returns whether an SPDX expression is permissive. Supports the forms that crates use: groups joined by AND, each
/// group a list of licences joined by OR.
fn is_permissive(expression: &str) -> bool {
    let flat = expression.replace(['(', ')'], " ").replace('/', " OR ");
    flat.split(" AND ").all(|group| group.split(" OR ").any(|term| PERMISSIVE.contains(&term.trim())))
}
