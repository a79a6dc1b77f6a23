//! The straight path of a packet: from the bytes of the spool to its decoder, without queue and copy.
//!
//! Nearly all packets of a call take this path. It requires that the packet is the next in sequence, no earlier packet
//! is still awaited, and only an unencrypted payload follows the fixed header. Also, an earlier packet of the same
//! format must have taken the general path, which chooses the decoder. For all other packets
//! [`StreamPlayer::straight_payload`] returns `None`, and they take the general path. Both paths decode and write in
//! the same way.

use std::sync::Arc;

use super::{StreamInputs, StreamPlayer};
use crate::call::decision::PayloadFormat;
use crate::net::PayloadType;
use crate::render::decided_streams::DecidedStream;
use crate::render::packet::{FIXED_HEADER, PLAIN_HEADER};
use crate::render::plan::ArrivedPacket;
use crate::spool::reader::PacketEntry;

/// The paths from the spool to a decoder that the packets of a player may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::render) enum PlayPaths {
    /// Each packet goes straight to its decoder if it can, and takes the general path (with queue and copy) otherwise.
    All,
    /// All packets take the general path, with queue and copy. Tests compare its output with the output of the straight
    /// path.
    #[cfg(test)]
    GeneralOnly,
}

/// A payload type with packets that may go straight to their decoder, its format, and the index of that decoder.
#[derive(Clone, Debug)]
pub(super) struct StraightRun {
    pt: PayloadType,
    /// The format that the call engine decided for the payload type. All packets until its next decision share this
    /// object, so comparing pointers is enough.
    format: Arc<PayloadFormat>,
    decoder: usize,
}

impl StreamPlayer {
    /// Allows the next packets of a payload type to go straight to their decoder. Their payloads must have the
    /// announced format and must not be redundant audio.
    pub(super) fn begin_straight_run(&mut self, pt: PayloadType, known: &DecidedStream, decoder: usize) {
        if self.paths == PlayPaths::All
            && let Some(Some(format)) = known.formats.get(&pt)
        {
            self.straight = Some(StraightRun { pt, format: Arc::clone(format), decoder });
        }
    }

    /// Returns the decoder and the payload of a packet that may go straight to its decoder, without queue and copy.
    /// Returns `None` for other packets.
    pub(super) fn straight_payload<'a>(
        &mut self,
        packet: &PacketEntry<'a>,
        arrival: ArrivedPacket,
        format: &Arc<PayloadFormat>,
        StreamInputs { known, plan }: StreamInputs<'_>,
    ) -> Option<(usize, &'a [u8])> {
        let run = self.straight.as_ref().filter(|run| run.pt == arrival.head.pt)?;
        let is_plain = known.is_unencrypted() && !plan?.has_keys() && plan?.has_no_correction();
        let (&[first, ..], payload) = packet.payload.split_first_chunk::<FIXED_HEADER>()?;
        let is_whole = packet.payload.len() as u64 == u64::from(packet.wire_len);
        if !is_plain || !is_whole || first != PLAIN_HEADER || payload.is_empty() || !Arc::ptr_eq(format, &run.format) {
            return None;
        }
        (self.plain_ns, self.former_failures) = (arrival.length_ns, 0);
        Some((run.decoder, payload))
    }
}
