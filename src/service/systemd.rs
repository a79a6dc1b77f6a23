//! Sends messages to systemd (sd_notify(3)), e.g. that the service is ready, is alive or stops.

use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use super::clock::monotonic;

/// The socket for messages to systemd. Without systemd, messages are dropped.
#[derive(Debug)]
pub(crate) struct SystemdSocket(Option<(UnixDatagram, SocketAddr)>);

impl SystemdSocket {
    /// Opens a socket for messages to the address in the environment variable NOTIFY_SOCKET. Succeeds even if systemd
    /// does not listen there yet.
    pub(crate) fn of_environment() -> Self {
        let name = std::env::var_os("NOTIFY_SOCKET");
        Self(name.and_then(|name| open(name.as_bytes()).ok()))
    }

    /// Returns whether systemd supervises this process (or another program that uses the same protocol).
    pub(crate) const fn is_supervised(&self) -> bool {
        self.0.is_some()
    }

    /// Sends a message. While the queue of the socket is full, waits at most [`PATIENCE`].
    #[expect(clippy::disallowed_methods, reason = "an IO module: a full queue is waited for")]
    pub(crate) fn tell(&self, message: &str) {
        let until = monotonic() + PATIENCE;
        while !self.try_tell(message) && monotonic() < until {
            std::thread::sleep(QUEUE_CHECK);
        }
    }

    /// Sends a message without waiting, because a systemd that hangs must not delay the capture. Returns false if the
    /// queue of the socket is full.
    pub(crate) fn try_tell(&self, message: &str) -> bool {
        let Some((socket, address)) = &self.0 else { return true };
        match socket.send_to_addr(message.as_bytes(), address) {
            Err(error) => error.kind() != ErrorKind::WouldBlock,
            Ok(_) => true,
        }
    }
}

/// Opens a socket for messages to a path, or to an abstract address that begins with `@`.
fn open(name: &[u8]) -> std::io::Result<(UnixDatagram, SocketAddr)> {
    let address = match name {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
        path => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

/// Maximum time to wait until the queue of the socket has room. It is short enough, because systemd allows 90 s for a
/// start and 60 s for a stop.
const PATIENCE: Duration = Duration::from_secs(5);
const QUEUE_CHECK: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_queue_of_systemd_holds_up_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let systemd = UnixDatagram::bind(&path).unwrap();
        let socket = SystemdSocket(open(path.as_os_str().as_bytes()).ok());
        assert!(socket.is_supervised());
        let sent = (0..100_000).take_while(|_| socket.try_tell("WATCHDOG=1")).count();
        assert!(sent < 100_000, "nobody reads");
        let mut message = [0; 100];
        let length = systemd.recv(&mut message).unwrap();
        assert_eq!(&message[..length], b"WATCHDOG=1");
        assert!(socket.try_tell("READY=1"), "a place is free again");
    }

    #[test]
    fn abstract_names_are_understood() {
        let name = format!("callspan-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let systemd = UnixDatagram::bind_addr(&address).unwrap();
        SystemdSocket(open(format!("@{name}").as_bytes()).ok()).tell("READY=1");
        assert_eq!(systemd.recv(&mut [0; 100]).unwrap(), 7);
        assert!(SystemdSocket(None).try_tell("READY=1"), "without systemd nothing waits");
    }
}
