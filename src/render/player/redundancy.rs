//! Redundant audio (RFC 2198) in a stream: a packet's own sound, and what it repeats of packets that were lost.

use super::{After, Content, Item, Played, Player, SAME_MOMENT_NS, Silent, Stage, Unheard};
use crate::call::decision::PayloadFormat;
use crate::render::plan::{Heard, KnownStream, is_placed};
use crate::rtp::redundancy;

/// What a packet repeats of an earlier one.
pub(super) struct Repeat {
    voice: usize,
    /// By how much the other began before this packet.
    earlier_ns: i64,
    payload: Vec<u8>,
}

/// A RED packet taken apart.
pub(super) struct Opened {
    pub(super) content: Content,
    /// Oldest first.
    pub(super) repeats: Vec<Repeat>,
}

impl Player {
    /// Takes a RED payload apart; the formats within are known by their own payload types.
    pub(super) fn open_red(
        &mut self,
        payload: &[u8],
        (known, outer): (&KnownStream, &PayloadFormat),
        sample_rate: u32,
    ) -> Result<Opened, Unheard> {
        let mut blocks = redundancy::blocks(payload).ok_or(Silent::Damaged)?;
        let primary = blocks.pop().ok_or(Silent::Damaged)?;
        let mut repeats = Vec::new();
        for block in blocks {
            let earlier_ns = i64::from(block.earlier) * 1_000_000_000 / i64::from(outer.clock_hz.max(1));
            if let Ok(voice) = self.voice_within(known, block.pt, sample_rate) {
                repeats.push(Repeat { voice, earlier_ns, payload: block.payload.to_vec() });
            }
        }
        let voice = self.voice_within(known, primary.pt, sample_rate)?;
        Ok(Opened { content: Content::Sound { voice, payload: primary.payload.to_vec() }, repeats })
    }

    /// Plays those repeats of an item that nothing was heard of; gives how many packets before it are lost still.
    pub(super) fn play_repeats(&mut self, item: &Item, (heard, lost): (Heard, u64), stage: &mut Stage<'_>) -> u64 {
        let mut left = lost;
        for repeat in item.repeats.iter().filter(|_| lost > 0) {
            let media_ns = heard.media_ns - repeat.earlier_ns;
            let Some(end) = self.heard_until(heard) else { break };
            if repeat.earlier_ns == 0 || media_ns < end - SAME_MOMENT_NS {
                continue;
            }
            let before = Heard { at: heard.at.offset(-repeat.earlier_ns), media_ns, ..heard };
            left = self.lost_before(before, lost);
            if self.play_sound(repeat.voice, &repeat.payload, (before, left), stage) == Played::Sound {
                stage.report.repaired += u64::from(stage.is_inside(before.at));
            }
            left = self.lost_before(heard, lost);
        }
        left
    }

    /// None where sound has come to just that moment.
    fn lost_before(&self, heard: Heard, lost: u64) -> u64 {
        let joins = |end: i64| (heard.media_ns - end).abs() < SAME_MOMENT_NS;
        if self.heard_until(heard).is_some_and(joins) { 0 } else { lost }
    }

    /// Media time up to which there is sound of the same track.
    fn heard_until(&self, heard: Heard) -> Option<i64> {
        let cursor = self.cursor.filter(|cursor| cursor.piece.0 == heard.piece.0 && cursor.after != After::Nothing)?;
        Some(cursor.media_end_ns)
    }

    /// The voice of a payload type within RED.
    fn voice_within(&mut self, known: &KnownStream, pt: u8, sample_rate: u32) -> Result<usize, Unheard> {
        let format = known.formats.get(&pt).and_then(Option::as_ref).ok_or(Silent::UnknownPayloadType(pt))?;
        if !is_placed(format) {
            return Err(Unheard::Withheld);
        }
        Ok(self.audible_voice(pt, format, sample_rate)?)
    }
}
