//! The configuration section `[capture]`.

/// Settings of the live capture from network interfaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Names of the network interfaces from which `run` captures. Empty if capture files are read instead.
    pub(crate) interfaces: Vec<String>,
    /// Address on which HEP agents send SIP and RTP in the format HEP 3 (`hep_listen`); `None` if there are no agents.
    pub(crate) hep_listen: Option<std::net::SocketAddr>,
    /// Size of the kernel's ring buffer for each interface, MiB.
    pub(crate) buffer_mib: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { interfaces: Vec::new(), hep_listen: None, buffer_mib: 64 }
    }
}
