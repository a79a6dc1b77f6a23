//! A mirror port without hardware: two connected interfaces.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A pair of virtual interfaces. Dropping this value removes them.
pub struct VethPair {
    /// Name of the interface on which the recorder captures.
    pub recorder: String,
    /// Name of the interface on which frames are sent.
    pub talkers: String,
}

impl VethPair {
    /// Creates the interfaces and sets them up. `name` has at most seven letters.
    pub fn new(name: &str) -> Self {
        let id = std::process::id() % 100_000;
        let wire = Self { recorder: format!("{name}r{id}"), talkers: format!("{name}t{id}") };
        let made = wire.ip(&["link", "add", "name", &wire.recorder, "type", "veth", "peer", "name", &wire.talkers])
            && [&wire.recorder, &wire.talkers].iter().all(|end| wire.ip(&["link", "set", "dev", end, "up"]));
        assert!(made, "ip adds a veth pair");
        wire
    }

    /// Sends frames in order, each at its time after the start. Returns the time of the start.
    #[expect(clippy::disallowed_methods, reason = "real time passes on a wire")]
    pub fn send_in_time(&self, mut frames: Vec<(Duration, Vec<u8>)>) -> Instant {
        let mut device = pcap::Capture::from_device(self.talkers.as_str()).expect("ours").open().expect("root");
        frames.sort_by_key(|(at, _)| *at);
        let begin = Instant::now();
        for (at, frame) in frames {
            let early = at.saturating_sub(begin.elapsed());
            if early > Duration::from_millis(1) {
                std::thread::sleep(early);
            }
            device.sendpacket(frame).expect("the wire is there");
        }
        begin
    }

    /// Runs `ip` with these arguments. Returns whether it succeeded.
    pub fn ip(&self, args: &[&str]) -> bool {
        Command::new("ip").args(args).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
    }
}

impl Drop for VethPair {
    fn drop(&mut self) {
        self.ip(&["link", "del", "dev", &self.recorder]);
    }
}
