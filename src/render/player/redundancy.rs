//! Redundant audio (RFC 2198) in a stream: a packet's own sound, and what it repeats of packets that were lost.

use super::{
    GapFill, NoSound, PacketContent, PlayContext, PlayOutcome, QueuedPacket, SAME_MOMENT_NS, StreamPlayer,
    UndecodableReason,
};
use crate::call::decision::PayloadFormat;
use crate::render::plan::{DecidedStream, PlayoutTime, is_on_timeline};
use crate::rtp::redundancy;

/// What a packet repeats of an earlier one.
pub(super) struct RedundantBlock {
    voice: usize,
    /// By how much the other began before this packet.
    earlier_ns: i64,
    payload: Vec<u8>,
}

/// A RED packet taken apart.
pub(super) struct UnpackedPayload {
    pub(super) content: PacketContent,
    /// Oldest first.
    pub(super) repeats: Vec<RedundantBlock>,
}

impl StreamPlayer {
    /// Takes a RED payload apart; the formats within are known by their own payload types.
    pub(super) fn open_red(
        &mut self,
        payload: &[u8],
        (known, outer): (&DecidedStream, &PayloadFormat),
        sample_rate: u32,
    ) -> Result<UnpackedPayload, NoSound> {
        let mut blocks = redundancy::blocks(payload).ok_or(UndecodableReason::Damaged)?;
        let primary = blocks.pop().ok_or(UndecodableReason::Damaged)?;
        let mut repeats = Vec::new();
        for block in blocks {
            let earlier_ns = i64::from(block.earlier) * 1_000_000_000 / i64::from(outer.clock_hz.max(1));
            if let Ok(voice) = self.voice_within(known, block.pt, sample_rate) {
                repeats.push(RedundantBlock { voice, earlier_ns, payload: block.payload.to_vec() });
            }
        }
        let voice = self.voice_within(known, primary.pt, sample_rate)?;
        Ok(UnpackedPayload { content: PacketContent::Sound { voice, payload: primary.payload.to_vec() }, repeats })
    }

    /// Plays those repeats of an item that nothing was heard of; gives how many packets before it are lost still.
    pub(super) fn play_repeats(
        &mut self,
        item: &QueuedPacket,
        (heard, lost): (PlayoutTime, u64),
        stage: &mut PlayContext<'_>,
    ) -> u64 {
        let mut left = lost;
        for repeat in item.repeats.iter().filter(|_| lost > 0) {
            let media_ns = heard.media_ns - repeat.earlier_ns;
            let Some(end) = self.heard_until(heard) else { break };
            if repeat.earlier_ns == 0 || media_ns < end - SAME_MOMENT_NS {
                continue;
            }
            let before = PlayoutTime { at: heard.at.offset(-repeat.earlier_ns), media_ns, ..heard };
            left = self.lost_before(before, lost);
            if self.play_sound(repeat.voice, &repeat.payload, (before, left), stage) == PlayOutcome::Sound {
                stage.report.repaired += u64::from(stage.is_inside(before.at));
            }
            left = self.lost_before(heard, lost);
        }
        left
    }

    /// None where sound has come to just that moment.
    fn lost_before(&self, heard: PlayoutTime, lost: u64) -> u64 {
        let joins = |end: i64| (heard.media_ns - end).abs() < SAME_MOMENT_NS;
        if self.heard_until(heard).is_some_and(joins) { 0 } else { lost }
    }

    /// Media time up to which there is sound of the same track.
    fn heard_until(&self, heard: PlayoutTime) -> Option<i64> {
        let cursor =
            self.cursor.filter(|cursor| cursor.segment.0 == heard.segment.0 && cursor.after != GapFill::Nothing)?;
        Some(cursor.media_end_ns)
    }

    /// The voice of a payload type within RED.
    fn voice_within(&mut self, known: &DecidedStream, pt: u8, sample_rate: u32) -> Result<usize, NoSound> {
        let format =
            known.formats.get(&pt).and_then(Option::as_ref).ok_or(UndecodableReason::UnknownPayloadType(pt))?;
        if !is_on_timeline(format) {
            return Err(NoSound::Withheld);
        }
        Ok(self.audible_voice(pt, format, sample_rate)?)
    }
}
