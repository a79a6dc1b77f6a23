//! Writes the sound of packets in the order of their sequence numbers. Decodes it, adjusts it to the playout time, and
//! adds concealment and comfort noise.

use super::context::LossGap;
use super::{MAX_COMFORT_S, MAX_QUEUE, PacketContent, PlayContext, QueuedPacket, StreamPlayer};
use crate::codec::SilenceBehavior;
use crate::render::mix_buffer::{SoundPrecedence, is_digital_silence, peak_of};
use crate::render::plan::PlayoutTime;
use crate::render::report::UndecodableReason;
use crate::render::sample_index::DecoderIndex;

/// Timing of the packet that is played now: its playout time, and the number of packets that were lost directly before
/// it.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlayTurn {
    pub(super) playout: PlayoutTime,
    pub(super) lost: u64,
}

/// Result of playing a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PlayOutcome {
    /// The sound of the payload is outside of the recorded period.
    Outside,
    Sound,
    Comfort,
    /// The decoder refused the payload, so it gave no sound.
    Refused,
}

/// The end of the sound that was written so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlayoutCursor {
    pub(super) decoder: usize,
    /// Position of the first sample after the written sound.
    pub(super) at: DecoderIndex,
    pub(super) media_end_ns: i64,
    pub(super) segment: (usize, usize),
    pub(super) after: GapFill,
    /// Number of samples of concealment since the last decoded packet. A gap has at most [`CONCEAL_MS`] of concealment,
    /// even if several packets in the gap are refused.
    pub(super) concealed: i64,
}

/// The sound that fills a gap after the last written sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GapFill {
    Sound,
    /// Comfort noise. `generated` counts its samples so far.
    Comfort {
        generated: i64,
    },
    /// The gap stays silent, because the last packet before it had no sound.
    Nothing,
}

/// A request to fill a gap: the number of samples, and the payload after the gap for forward error correction.
#[derive(Clone, Copy)]
pub(super) struct GapRequest<'a> {
    pub(super) samples: usize,
    pub(super) next: Option<&'a [u8]>,
    /// Whether the sender paused on purpose, so that the gap is filled with comfort noise.
    pub(super) is_pause: bool,
}

impl StreamPlayer {
    /// Plays the packet with the next sequence number.
    pub(super) fn play(&mut self, sequence: u64, mut item: QueuedPacket, context: &mut PlayContext<'_>) {
        let lost = self.order.advance(sequence);
        self.target.precedence = item.precedence;
        if context.is_inside(item.at) {
            context.report.burst_loss = context.report.burst_loss.max(lost);
        }
        let content = std::mem::replace(&mut item.content, PacketContent::Nothing);
        let (PacketContent::Sound { decoder, payload }, Some(playout)) = (content, item.playout) else {
            if let Some(cursor) = &mut self.cursor {
                cursor.after = GapFill::Nothing;
            }
            return;
        };
        let lost = self.play_redundant(&item, PlayTurn { playout, lost }, context);
        self.play_payload(decoder, &payload, PlayTurn { playout, lost }, context);
        if self.spare.len() < MAX_QUEUE {
            self.spare.push(payload);
        }
    }

    /// Plays a payload, and counts its result in the report.
    pub(super) fn play_payload(
        &mut self,
        decoder: usize,
        payload: &[u8],
        turn: PlayTurn,
        context: &mut PlayContext<'_>,
    ) {
        match self.play_sound(decoder, payload, turn, context) {
            PlayOutcome::Outside => {}
            PlayOutcome::Sound => context.report.decoded += 1,
            PlayOutcome::Comfort => context.report.comfort += 1,
            PlayOutcome::Refused => {
                *context.report.silent.entry(UndecodableReason::Damaged).or_default() +=
                    u64::from(context.is_inside(turn.playout.at));
                // A refused packet counts as lost, so that the gap before the next packet is concealed.
                self.order.count_as_lost();
            }
        }
    }

    /// Decodes a payload and writes it at its playout time.
    pub(super) fn play_sound(
        &mut self,
        decoder: usize,
        payload: &[u8],
        turn: PlayTurn,
        context: &mut PlayContext<'_>,
    ) -> PlayOutcome {
        let stamp_ns = turn.playout.media_ns;
        let turn = self.joined_turn(decoder, turn);
        let PlayTurn { playout, lost } = turn;
        let payload = self.without_stray_tail(payload, playout, context);
        let rate = self.decoders[decoder].output.input_hz();
        // The codec's own delay (look-ahead, filters) is not removed, because the listener heard the sound with this
        // delay.
        let ideal = context.position(playout.at, rate);
        let continues = self.cursor.filter(|cursor| {
            cursor.decoder == decoder
                && cursor.segment == playout.segment
                && lost == 0
                && cursor.after == GapFill::Sound
                && (playout.media_ns - cursor.media_end_ns).abs() < SAME_MOMENT_NS
                && (ideal - cursor.at.0 as f64).abs() < MAX_ADJUSTMENT
        });
        if continues.is_none() {
            self.fill_gap(decoder, payload, turn, context);
        }
        self.sound.clear();
        let format_decoder = &mut self.decoders[decoder];
        let decoded = format_decoder.decoder.as_mut().map(|decoder| decoder.decode(payload, &mut self.sound));
        if !matches!(decoded, Some(Ok(()))) {
            return PlayOutcome::Refused;
        }
        if let Some(quirk) = format_decoder.decoder.as_ref().and_then(|decoder| decoder.quirk()) {
            *context.report.quirks.entry(quirk).or_default() += u64::from(context.is_inside(playout.at));
        }
        let length_ns = self.sound.len() as i64 * 1_000_000_000 / i64::from(rate.max(1));
        (self.end.stamp_ns, self.end.bytes, self.end.samples) = (stamp_ns, payload.len(), self.sound.len());
        let at = continues.map_or(DecoderIndex(ideal.round() as i64), |cursor| cursor.at);
        if continues.is_some() {
            adjust_length(&mut self.sound, ideal - at.0 as f64);
        }
        let end = at.after(self.sound.len());
        let inside = context.is_inside(playout.at) || (at.0 < 0 && end.0 > 0 && context.plan.samples > 0);
        let comfort = format_decoder.silence == SilenceBehavior::ComfortNoise;
        context.count_sound(at, self.sound.len(), rate);
        let is_noise = format_decoder.decoder.as_ref().is_some_and(|decoder| decoder.is_comfort_noise());
        // Quirk `noise_stream`: a PBX sends quiet noise all the time beside the voice, as a stream of its own.
        self.is_heard = self.is_heard || peak_of(&self.sound) > QUIET_NOISE;
        let is_quiet = !self.is_heard && !is_digital_silence(&self.sound);
        let precedence = match self.target.precedence {
            _ if is_noise => SoundPrecedence::Comfort,
            SoundPrecedence::Current if is_quiet => SoundPrecedence::QuietNoise,
            _ if is_quiet => SoundPrecedence::Comfort,
            own => own,
        };
        format_decoder.output.write(at, &self.sound, precedence, context.buffer);
        let after = if comfort { GapFill::Comfort { generated: 0 } } else { GapFill::Sound };
        self.cursor = Some(PlayoutCursor {
            decoder,
            at: end,
            media_end_ns: playout.media_ns + length_ns,
            segment: playout.segment,
            after,
            concealed: 0,
        });
        match (inside, comfort) {
            (false, _) => PlayOutcome::Outside,
            (true, false) => PlayOutcome::Sound,
            (true, true) => PlayOutcome::Comfort,
        }
    }

    /// Fills the gap between the end of the sound so far and the playout time of the next packet. Acts only if a packet
    /// was lost, or if the sender paused with comfort noise.
    fn fill_gap(
        &mut self,
        decoder: usize,
        payload: &[u8],
        PlayTurn { playout, lost }: PlayTurn,
        context: &mut PlayContext<'_>,
    ) {
        let Some(cursor) = self.cursor else { return };
        let last = &self.decoders[cursor.decoder];
        let rate = i64::from(last.output.input_hz());
        let gap = context.position(playout.at, last.output.input_hz()).round() as i64 - cursor.at.0;
        if gap <= 0 || cursor.after == GapFill::Nothing {
            return;
        }
        let longest = rate * CONCEAL_MS / 1_000 - cursor.concealed;
        let (count, next) = match (cursor.after, last.silence) {
            (GapFill::Comfort { generated }, _) => (gap.min(rate * MAX_COMFORT_S - generated), None),
            // This codec has silence descriptors, and no packet was lost. A sender that stops without a descriptor,
            // e.g. for a hold, has no more to say. So nothing is concealed, and the decoder continues with the next
            // frame as if no time had passed.
            (_, SilenceBehavior::OwnDescriptor) if lost == 0 => {
                let may_pause = last.decoder.as_ref().is_some_and(|decoder| decoder.may_pause());
                (if may_pause { gap.min(rate * MAX_COMFORT_S) } else { 0 }, None)
            }
            // The packet after the gap may contain a copy of the sound directly before it (forward error correction).
            // So its payload is passed to the decoder.
            _ if lost > 0 && decoder == cursor.decoder && gap <= longest => (gap, Some(payload)),
            _ if lost > 0 => (gap.min(longest), None),
            _ => return,
        };
        let is_loss = lost > 0 && cursor.after == GapFill::Sound;
        if is_loss {
            let gap = LossGap { at: cursor.at, samples: gap, concealed: count.max(0), packets: lost };
            context.count_loss(gap, rate as u32);
        }
        if count <= 0 {
            return;
        }
        let gap = GapRequest { samples: count as usize, next, is_pause: !is_loss };
        self.fill(cursor.decoder, cursor.at, gap, context);
        if is_loss {
            // This gap is filled now. The decoder may refuse the packet after it, too. Then the next gap begins where
            // this gap ends, so the cursor moves there.
            self.cursor = Some(PlayoutCursor {
                at: cursor.at.after(count as usize),
                media_end_ns: cursor.media_end_ns + count * 1_000_000_000 / rate.max(1),
                concealed: cursor.concealed + count,
                ..cursor
            });
        }
    }

    /// Writes concealment or comfort noise at a position.
    pub(super) fn fill(
        &mut self,
        decoder: usize,
        at: DecoderIndex,
        gap: GapRequest<'_>,
        context: &mut PlayContext<'_>,
    ) {
        let format_decoder = &mut self.decoders[decoder];
        let Some(decoder) = &mut format_decoder.decoder else { return };
        self.sound.clear();
        decoder.conceal(gap.samples, gap.next, &mut self.sound);
        self.sound.truncate(gap.samples);
        context.count_sound(at, self.sound.len(), format_decoder.output.input_hz());
        let precedence = if gap.is_pause { SoundPrecedence::Comfort } else { self.target.precedence };
        format_decoder.output.write(at, &self.sound, precedence, context.buffer);
    }
}

/// Inserts `by` samples, or removes samples if `by` is negative, where the change is least audible. The next sound then
/// begins at its playout time. Differences of up to three quarters of a sample are ignored.
fn adjust_length(sound: &mut Vec<i16>, by: f64) {
    let count = by.abs().round() as usize;
    if by.abs() <= 0.75 || count == 0 || sound.len() < 8 * (count + 1) {
        return;
    }
    for section in 0..count {
        let length = sound.len() / count;
        let from = (section * length).max(1);
        let to = (from + length).min(sound.len() - 1);
        let step = |i: &usize| (i32::from(sound[*i]) - i32::from(sound[i - 1])).abs();
        let Some(quietest) = (from..to).min_by_key(step) else { continue };
        if by < 0.0 {
            sound.remove(quietest);
        } else {
            let between = sound[quietest - 1].midpoint(sound[quietest]);
            sound.insert(quietest, between);
        }
    }
}

/// Largest magnitude of quiet noise (-54 dBov). Nobody understands speech that is quieter than this.
const QUIET_NOISE: u16 = 64;
/// Maximum duration of concealment of lost packets, ms.
const CONCEAL_MS: i64 = 60;
/// Media times that differ by less than this, ns, count as equal.
pub(super) const SAME_MOMENT_NS: i64 = 1_000_000;
/// Maximum deviation from the playout time, samples, that is corrected by removing or inserting samples. Clock drift
/// between two packets is less; a larger deviation is a jump.
const MAX_ADJUSTMENT: f64 = 16.0;
