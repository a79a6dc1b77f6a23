//! Sends the packets of the test call through network cards, each packet at its planned time.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use etherparse::PacketBuilder;
use pcap::{Active, Capture};

use super::script::{ScriptedPacket, host};
use crate::call::record::Side;

/// The network cards that send the packets: one for both sides, or one for each side.
pub(super) struct SendingCards {
    caller: SendingCard,
    /// Network card that sends the callee's packets; `None` if one card sends the packets of both sides.
    callee: Option<SendingCard>,
}

struct SendingCard {
    capture: Capture<Active>,
    address: [u8; 6],
}

impl SendingCards {
    /// Opens the network cards for sending.
    ///
    /// # Errors
    /// Fails if a card does not exist or is down, or if the privilege is missing.
    pub(super) fn open(caller: &str, callee: Option<&str>) -> anyhow::Result<Self> {
        Ok(Self { caller: SendingCard::open(caller)?, callee: callee.map(SendingCard::open).transpose()? })
    }

    /// Sends the packets. This takes as long as the call lasts.
    ///
    /// # Errors
    /// Fails if a card refuses a packet.
    #[expect(clippy::disallowed_methods, reason = "the call takes its time on a real wire")]
    pub(super) fn send(&mut self, packets: &[ScriptedPacket]) -> anyhow::Result<()> {
        let frames: Vec<Vec<u8>> = packets.iter().map(|packet| self.frame(packet)).collect();
        let began = Instant::now();
        for (packet, frame) in packets.iter().zip(&frames) {
            std::thread::sleep(packet.at.saturating_sub(began.elapsed()));
            let card = match (packet.sender, &mut self.callee) {
                (Side::Callee, Some(card)) => card,
                _ => &mut self.caller,
            };
            card.capture.sendpacket(frame.as_slice()).context("the network card does not take a packet")?;
        }
        std::thread::sleep(AFTER);
        Ok(())
    }

    /// Returns the Ethernet frame that carries a packet.
    fn frame(&self, packet: &ScriptedPacket) -> Vec<u8> {
        let callee = self.callee.as_ref().map(|card| card.address);
        let (source, destination) = match packet.sender {
            Side::Caller => (self.caller.address, callee.unwrap_or(NOBODY)),
            Side::Callee => (callee.unwrap_or(self.caller.address), callee.map_or(NOBODY, |_| self.caller.address)),
        };
        let (from, to) = (host(packet.sender), host(packet.sender.other()));
        let builder = PacketBuilder::ethernet2(source, destination)
            .ipv4(from.octets(), to.octets(), TTL)
            .udp(packet.ports.from, packet.ports.to);
        let mut frame = Vec::with_capacity(builder.size(packet.payload.len()));
        builder.write(&mut frame, &packet.payload).expect("a packet of a few hundred bytes fits, and a Vec takes it");
        frame
    }
}

impl SendingCard {
    fn open(name: &str) -> anyhow::Result<Self> {
        let capture = Capture::from_device(name).and_then(Capture::open).map_err(|error| cannot_open(name, &error))?;
        let text = std::fs::read_to_string(format!("/sys/class/net/{name}/address")).unwrap_or_default();
        let address = hardware_address(&text).with_context(|| format!("{name} is no Ethernet card"))?;
        Ok(Self { capture, address })
    }
}

fn cannot_open(name: &str, error: &pcap::Error) -> anyhow::Error {
    let text = error.to_string();
    if ["permission", "permitted", "CAP_NET_RAW"].iter().any(|word| text.contains(word)) {
        return anyhow::anyhow!("sending on {name} needs CAP_NET_RAW: run the command with sudo");
    }
    anyhow::anyhow!("cannot send on {name}: {text} (`ip link` lists the interfaces)")
}

/// Parses a hardware address such as `00:1b:21:aa:bb:cc` to its six bytes. Returns `None` for any other text.
fn hardware_address(text: &str) -> Option<[u8; 6]> {
    let bytes: Option<Vec<u8>> = text.trim().split(':').map(|hex| u8::from_str_radix(hex, 16).ok()).collect();
    bytes?.try_into().ok()
}

/// Destination hardware address of the frames. No host has this locally administered address, so a switch sends the
/// frames to all ports.
const NOBODY: [u8; 6] = [0x02, b'c', b's', b'p', b'a', b'n'];
/// Time to live of the IP packets, the usual value of telephones.
const TTL: u8 = 64;
/// Pause after the last packet, so that the card sends it before its socket is closed.
const AFTER: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses_are_read_and_others_refused() {
        assert_eq!(hardware_address("00:1b:21:aa:0b:ff\n"), Some([0, 0x1b, 0x21, 0xaa, 0x0b, 0xff]));
        for wrong in ["", "00:1b", "00:1b:21:aa:0b:zz", "00:1b:21:aa:0b:ff:00:11"] {
            assert_eq!(hardware_address(wrong), None, "{wrong}");
        }
    }
}
