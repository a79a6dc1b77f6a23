//! The `[capture]` section.

/// Where live frames come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Interface names; empty only where nothing is captured live.
    pub interfaces: Vec<String>,
    /// Size of the kernel's ring for each interface, MiB.
    pub buffer_mib: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { interfaces: Vec::new(), buffer_mib: 64 }
    }
}
