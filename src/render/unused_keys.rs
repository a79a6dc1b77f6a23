//! Finds out whether a sender encrypts its packets with keys on which the sides did not agree.
//!
//! Quirk `keys_used_anyway`: the offer has RTP/AVP and `a=crypto`, the answer has no key, and the caller sends SRTP with
//! the offered key.

use crate::call::decision::SrtpContext;
use crate::render::srtp::SrtpStream;
use crate::spool::reader::PacketEntry;

/// The keys that one side announced and the other side did not accept, while it is open whether the stream uses them.
#[derive(Clone, Debug)]
pub(super) struct UnusedKeys {
    contexts: Vec<SrtpContext>,
    /// Number of packets that no key opened so far.
    failures: u32,
}

/// The result of trying unused keys with one more packet.
#[derive(Debug)]
pub(super) enum UnusedKeyTrial {
    /// These keys open the packet, so the stream is SRTP.
    Proven(SrtpContext),
    /// No key opened the packet, and further packets are tried.
    Open(UnusedKeys),
    /// No key opened any of many packets.
    Refuted,
}

impl UnusedKeys {
    /// Returns keys to be tried; `None` if there are none.
    pub(super) fn new(contexts: &[SrtpContext]) -> Option<Box<Self>> {
        let contexts = contexts.get(..MAX_CONTEXTS).unwrap_or(contexts);
        (!contexts.is_empty()).then(|| Box::new(Self { contexts: contexts.to_vec(), failures: 0 }))
    }

    /// Tries all keys with a packet.
    pub(super) fn try_packet(mut self, packet: &PacketEntry<'_>) -> UnusedKeyTrial {
        if (packet.payload.len() as u64) < u64::from(packet.wire_len) {
            return UnusedKeyTrial::Open(self);
        }
        let mut plain = Vec::new();
        let mut opens = |context: &SrtpContext| {
            SrtpStream::new(context).is_ok_and(|mut keys| keys.unprotect(packet.payload, &mut plain).is_ok())
        };
        if let Some(at) = self.contexts.iter().position(&mut opens) {
            return UnusedKeyTrial::Proven(self.contexts.swap_remove(at));
        }
        self.failures += 1;
        if self.failures < MAX_FAILURES { UnusedKeyTrial::Open(self) } else { UnusedKeyTrial::Refuted }
    }
}

/// Maximum number of crypto attributes of both sides that are tried.
const MAX_CONTEXTS: usize = 8;
/// Number of packets that are tried: 1 s at 20 ms. A sender that uses its keys does so from its first packet on.
const MAX_FAILURES: u32 = 50;
