//! Redundant audio (RFC 2198): unpacks RED packets and plays the redundant blocks of lost packets.

use super::sounding::{GapFill, PlayOutcome, PlayTurn, SAME_MOMENT_NS};
use super::unpacking::NoSound;
use super::{PacketContent, PlayContext, QueuedPacket, StreamPlayer};
use crate::call::decision::PayloadFormat;
use crate::net::PayloadType;
use crate::render::decided_streams::{DecidedStream, is_on_timeline};
use crate::render::plan::PlayoutTime;
use crate::render::report::UndecodableReason;
use crate::rtp::redundancy;

/// A redundant block: the payload of an earlier packet.
pub(super) struct RedundantPayload {
    decoder: usize,
    /// Time by which the sound of the block precedes the sound of this packet's own payload, ns.
    earlier_ns: i64,
    payload: Vec<u8>,
}

/// The content of a packet: its own payload, and for RED also the redundant blocks.
pub(super) struct UnpackedPayload {
    pub(super) content: PacketContent,
    /// Redundant blocks of the packet, oldest first.
    pub(super) redundant: Vec<RedundantPayload>,
}

impl StreamPlayer {
    /// Unpacks a RED payload. Each block has a payload type, which gives its format.
    pub(super) fn unpack_red(
        &mut self,
        payload: &[u8],
        known: &DecidedStream,
        outer: &PayloadFormat,
        sample_rate: u32,
    ) -> Result<UnpackedPayload, NoSound> {
        let mut blocks = redundancy::blocks(payload).ok_or(UndecodableReason::Damaged)?;
        let primary = blocks.pop().ok_or(UndecodableReason::Damaged)?;
        let mut redundant = Vec::new();
        for block in blocks {
            let earlier_ns = i64::from(block.earlier) * 1_000_000_000 / i64::from(outer.clock_hz.max(1));
            if let Ok(decoder) = self.decoder_within(known, block.pt, sample_rate) {
                redundant.push(RedundantPayload { decoder, earlier_ns, payload: block.payload.to_vec() });
            }
        }
        let decoder = self.decoder_within(known, primary.pt, sample_rate)?;
        Ok(UnpackedPayload { content: PacketContent::Sound { decoder, payload: primary.payload.to_vec() }, redundant })
    }

    /// Plays redundant blocks in place of lost packets. Returns how many of the `lost` packets directly before this
    /// packet are still missing.
    pub(super) fn play_redundant(
        &mut self,
        item: &QueuedPacket,
        PlayTurn { playout, lost }: PlayTurn,
        context: &mut PlayContext<'_>,
    ) -> u64 {
        let mut left = lost;
        for block in item.redundant.iter().filter(|_| lost > 0) {
            let media_ns = playout.media_ns - block.earlier_ns;
            let Some(end) = self.sound_end_ns(playout) else { break };
            if block.earlier_ns == 0 || media_ns < end - SAME_MOMENT_NS {
                continue;
            }
            let before = PlayoutTime { at: playout.at.offset(-block.earlier_ns), media_ns, ..playout };
            left = self.lost_before(before, lost);
            if self.play_sound(block.decoder, &block.payload, PlayTurn { playout: before, lost: left }, context)
                == PlayOutcome::Sound
            {
                context.report.repaired += u64::from(context.is_inside(before.at));
            }
            left = self.lost_before(playout, lost);
        }
        left
    }

    /// Returns the number of packets lost before this packet. Returns 0 if the sound so far ends exactly where this
    /// packet begins, and `lost` otherwise.
    fn lost_before(&self, playout: PlayoutTime, lost: u64) -> u64 {
        let joins = |end: i64| (playout.media_ns - end).abs() < SAME_MOMENT_NS;
        if self.sound_end_ns(playout).is_some_and(joins) { 0 } else { lost }
    }

    /// Returns the media time, ns, up to which sound was written for the packet's track (packets with about the same
    /// lag). Returns `None` if that track has no sound yet.
    fn sound_end_ns(&self, playout: PlayoutTime) -> Option<i64> {
        let cursor =
            self.cursor.filter(|cursor| cursor.segment.0 == playout.segment.0 && cursor.after != GapFill::Nothing)?;
        Some(cursor.media_end_ns)
    }

    /// Returns the index of the decoder for the payload type of a block within RED.
    fn decoder_within(&mut self, known: &DecidedStream, pt: PayloadType, sample_rate: u32) -> Result<usize, NoSound> {
        let format =
            known.formats.get(&pt).and_then(Option::as_ref).ok_or(UndecodableReason::UnknownPayloadType(pt))?;
        if !is_on_timeline(format) {
            return Err(NoSound::Event);
        }
        Ok(self.working_decoder(pt, format, sample_rate)?)
    }
}
