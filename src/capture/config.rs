//! The `[capture]` section.

/// Settings of the live capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Interface names. Empty if capture files are read instead.
    pub(crate) interfaces: Vec<String>,
    /// Size of the kernel's ring buffer for each interface, MiB.
    pub(crate) buffer_mib: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { interfaces: Vec::new(), buffer_mib: 64 }
    }
}
