//! Configurations of `callspan run` whose folders lie in a folder of the test.

use std::path::{Path, PathBuf};

/// Writes a configuration with all folders in `dir`. `rest` follows after the section `[recording]`. Returns its path.
pub fn configuration(dir: &Path, interface: &str, rest: &str) -> PathBuf {
    let folder = |name: &str| dir.join(name).display().to_string();
    let text = format!(
        "[capture]\ninterface = \"{interface}\"\n[spool]\ndir = \"{}\"\n[state]\ndir = \"{}\"\n[recording]\ndir = \"{}\"\nmin_free_gib = 0\n{rest}",
        folder("spool"),
        folder("state"),
        folder("recordings")
    );
    let path = dir.join("callspan.toml");
    std::fs::write(&path, text).expect("a folder that can be written");
    path
}
