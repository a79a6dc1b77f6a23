//! A leg without media so far. It has no spool file, so its first and newest messages, and the call engine's decisions
//! about it, are kept in memory.

use super::format::{self, SpoolPacket};
use crate::call::decision::TimedDecision;

/// The blocks of a leg that has had no media so far: its packets, and the call engine's decisions about it.
#[derive(Clone, Debug, Default)]
pub(super) struct PendingLeg {
    decisions: Vec<u8>,
    /// Blocks of the leg's first SIP messages. They contain the offer, and a restart recognises the leg by its first
    /// message.
    first_messages: Vec<u8>,
    /// Blocks of the leg's newest SIP messages. If they take too much memory, the oldest of them are dropped.
    newest_messages: Vec<u8>,
    /// Earliest capture time of all blocks, ns since the Unix epoch; `None` without blocks.
    first_ns: Option<i64>,
}

impl PendingLeg {
    /// Stores a packet and returns its block. Drops the oldest blocks of `newest_messages` if these take too much
    /// memory.
    pub(super) fn add_packet(&mut self, packet: &SpoolPacket<'_>) -> &[u8] {
        self.note_time(packet.at.as_nanos());
        if self.newest_messages.is_empty() && self.first_messages.len() < MAX_FIRST_MESSAGES {
            let from = self.first_messages.len();
            // A message over TCP can be longer than the limit, so its end is cut off.
            let payload = packet.payload.get(..MAX_FIRST_MESSAGE).unwrap_or(packet.payload);
            format::put_packet(&mut self.first_messages, &SpoolPacket { payload, ..*packet });
            return &self.first_messages[from..];
        }
        let block = self.newest_messages.len();
        format::put_packet(&mut self.newest_messages, packet);
        let mut from = 0;
        // The message just added is kept, whatever its length.
        while self.newest_messages.len() - from > MAX_NEWEST_MESSAGES && from < block {
            // Bytes 4 to 7 of a block are its length. The spool itself wrote these blocks, so the lengths need no
            // check.
            let Some(length) = self.newest_messages.get(from + 4..from + 8) else { break };
            from += u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
        }
        self.newest_messages.drain(..from);
        &self.newest_messages[block - from..]
    }

    /// Stores a decision of the call engine and returns its block.
    pub(super) fn add_decision(&mut self, decided: &TimedDecision) -> &[u8] {
        self.note_time(decided.at_ns);
        let from = self.decisions.len();
        format::put_decision(&mut self.decisions, decided);
        &self.decisions[from..]
    }

    /// Returns whether the call engine made so many decisions about the leg that it needs a file even without media.
    pub(super) fn is_full(&self) -> bool {
        self.decisions.len() > MAX_DECISIONS
    }

    /// Appends the beginning of the leg's file: the header and all blocks that are kept in memory.
    pub(super) fn put_file(&self, out: &mut Vec<u8>) {
        format::put_header(out);
        self.put_blocks(out);
    }

    /// Appends all blocks that are kept in memory, without a file header.
    pub(super) fn put_blocks(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.decisions);
        out.extend_from_slice(&self.first_messages);
        out.extend_from_slice(&self.newest_messages);
    }

    /// Returns the size of all blocks that are kept in memory, bytes. [`PendingLeg::put_blocks`] appends as many bytes.
    pub(super) fn bytes(&self) -> usize {
        self.decisions.len() + self.first_messages.len() + self.newest_messages.len()
    }

    /// Returns the earliest capture time of the blocks, ns since the Unix epoch.
    pub(super) fn first_ns(&self) -> Option<i64> {
        self.first_ns
    }

    fn note_time(&mut self, at_ns: i64) {
        self.first_ns = Some(self.first_ns.map_or(at_ns, |since| since.min(at_ns)));
    }
}

/// Returns whether a payload is media, not SIP. RTP and RTCP begin with version 2 (RFC 3550 section 5.1), SIP with a
/// letter.
pub(super) fn is_media(payload: &[u8]) -> bool {
    payload.first().is_some_and(|byte| byte >> 6 == 2)
}

/// Maximum size of the first SIP messages of a leg, bytes: about ten messages. Many legs never get media, e.g. the legs
/// of scanners, so each leg may take only little memory.
const MAX_FIRST_MESSAGES: usize = 8 * 1024;
/// Maximum size of the newest SIP messages that a leg without media keeps in memory, bytes.
const MAX_NEWEST_MESSAGES: usize = 8 * 1024;
/// Maximum size of a single SIP message among a leg's first messages, bytes: four times a large INVITE. The end of a
/// longer message is cut off.
const MAX_FIRST_MESSAGE: usize = 16 * 1024;
/// Maximum size of the call engine's decisions ([`TimedDecision`]) of a leg without media, bytes. A hundred decisions
/// fit, which is more than such a leg gets.
const MAX_DECISIONS: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    #[test]
    fn first_and_newest_messages_are_kept_within_the_limit() {
        let mut pending = PendingLeg::default();
        let put = |pending: &mut PendingLeg, at: i64, text: &str, length: usize| {
            let payload = format!("{text:<length$}").into_bytes();
            let src = "192.0.2.1:5060".parse().expect("an address");
            let at = Timestamp::from_nanos(at);
            let packet = SpoolPacket { at, src, dst: src, payload: &payload, wire_len: payload.len() as u32 };
            let block = pending.add_packet(&packet);
            assert!(block.windows(text.len()).any(|w| w == text.as_bytes()), "its block is returned");
        };
        put(&mut pending, 5, "INVITE first", 60_000);
        for n in 0..100 {
            put(&mut pending, 6, &format!("NOTIFY {n} of many"), 1_000);
        }
        put(&mut pending, 7, "CANCEL last", 20_000);
        let mut file = Vec::new();
        pending.put_file(&mut file);
        let has = |text: &str| file.windows(text.len()).any(|w| w == text.as_bytes());
        assert!(has("INVITE first") && has("CANCEL last") && !has("NOTIFY 50 of"));
        assert!(pending.bytes() < 40_000, "{}", pending.bytes());
        assert_eq!(pending.first_ns(), Some(5));
    }
}
