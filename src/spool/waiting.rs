//! What is kept of a leg before it has a file: its decisions, and the newest of its signalling.

use super::format::{self, Packet};
use crate::call::decision::Decided;

/// A leg without media so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Waiting {
    decisions: Vec<u8>,
    packets: Vec<u8>,
}

impl Waiting {
    /// Keeps a packet; the oldest give way.
    pub(super) fn packet(&mut self, packet: &Packet<'_>) {
        format::put_packet(&mut self.packets, packet);
        let mut from = 0;
        while self.packets.len() - from > MAX_SIGNALLING {
            // Our own blocks: the length stands at bytes 4 to 7.
            let Some(length) = self.packets.get(from + 4..from + 8) else { break };
            from += u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
        }
        self.packets.drain(..from);
    }

    /// Keeps a decision.
    pub(super) fn decide(&mut self, decided: &Decided) {
        format::put_decided(&mut self.decisions, decided);
    }

    /// Whether so much was decided that it has to go to a file even without media.
    pub(super) fn is_full(&self) -> bool {
        self.decisions.len() > MAX_SIGNALLING
    }

    /// The beginning of the leg's file.
    pub(super) fn put_into(&self, out: &mut Vec<u8>) {
        format::put_header(out);
        out.extend_from_slice(&self.decisions);
        out.extend_from_slice(&self.packets);
    }
}

/// Whether a payload is media and not SIP: RTP and RTCP begin with version 2 (RFC 3550 section 5.1), SIP with a letter.
pub(super) fn is_media(payload: &[u8]) -> bool {
    payload.first().is_some_and(|byte| byte >> 6 == 2)
}

/// Signalling of a leg without media: some twenty messages. Many dialogs never get media (scanners, registrations
/// gone wrong), so each may cost only little.
const MAX_SIGNALLING: usize = 16 * 1024;
