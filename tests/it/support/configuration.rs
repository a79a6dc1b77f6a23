//! Configurations of `callspan run` for tests. All its folders are in a folder of the test.

use std::path::{Path, PathBuf};

/// The lines of a configuration file, sorted by section.
pub struct ServiceToml {
    file: PathBuf,
    sections: Vec<(&'static str, Vec<String>)>,
    rest: String,
}

impl ServiceToml {
    /// Creates a configuration with the folders `spool`, `state` and `recordings` in `dir`. It requires no free disk
    /// space.
    pub fn new(dir: &Path) -> Self {
        let folder = |name: &str| format!("dir = {:?}", dir.join(name));
        let toml = Self { file: dir.join("callspan.toml"), sections: Vec::new(), rest: String::new() };
        toml.set("spool", &folder("spool"))
            .set("state", &folder("state"))
            .set("recording", &folder("recordings"))
            .set("recording", "min_free_gib = 0")
    }

    /// Sets a line `key = value` of a section. Replaces an earlier line with the same key.
    #[must_use]
    pub fn set(mut self, section: &'static str, line: &str) -> Self {
        let key = |line: &str| line.split('=').next().unwrap_or_default().trim().to_owned();
        if !self.sections.iter().any(|(name, _)| *name == section) {
            self.sections.push((section, Vec::new()));
        }
        for (_, lines) in self.sections.iter_mut().filter(|(name, _)| *name == section) {
            lines.retain(|known| key(known) != key(line));
            lines.push(line.to_owned());
        }
        self
    }

    /// Appends complete sections. [`Self::set`] must not be used for these sections.
    #[must_use]
    pub fn append(mut self, sections: &str) -> Self {
        self.rest.push_str(sections);
        self.rest.push('\n');
        self
    }

    /// Writes `callspan.toml` and returns its path.
    pub fn write(self) -> PathBuf {
        let section = |(name, lines): &(&str, Vec<String>)| format!("[{name}]\n{}\n", lines.join("\n"));
        let text: String = self.sections.iter().map(section).chain([self.rest]).collect();
        std::fs::write(&self.file, text).expect("a folder that can be written");
        self.file
    }
}

/// Writes a configuration that captures on an interface. `rest` has further sections. Returns the path of the file.
pub fn configuration(dir: &Path, interface: &str, rest: &str) -> PathBuf {
    ServiceToml::new(dir).set("capture", &format!("interface = {interface:?}")).append(rest).write()
}
