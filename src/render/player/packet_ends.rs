//! Finds the true end of a packet's sound if the RTP timestamps contradict the length of its payload.
//!
//! Quirk `trailing_bytes`: a sender appends a few bytes to each payload, e.g. an authentication tag. In a codec without
//! frames they decode to sound, for which the timestamps leave no room.
//!
//! Quirk `shared_stamps`: a sender splits a frame into several packets and gives all of them the timestamp of the
//! frame.

use super::sounding::{GapFill, PlayTurn, PlayoutCursor};
use super::{PlayContext, StreamPlayer};
use crate::codec::Codec;
use crate::render::plan::PlayoutTime;
use crate::render::report::PayloadQuirk;
use crate::render::sample_index::DecoderIndex;

/// Size of a payload, and number of samples that its decoder made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DecodedSize {
    pub(super) bytes: usize,
    pub(super) samples: usize,
}

/// Bytes behind the sound of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StrayTail {
    bytes: usize,
    /// Size of the whole payload, bytes.
    of: usize,
    /// Whether two payloads in a row of this size ended with this number of such bytes.
    is_usual: bool,
}

impl StreamPlayer {
    /// Returns the playout time of a packet. It begins at the end of the packet before if both have the same timestamp,
    /// and no packet is missing between them.
    pub(super) fn after_same_stamp(&self, decoder: usize, PlayTurn { playout, lost }: PlayTurn) -> PlayoutTime {
        match self.cursor {
            Some(cursor) if cursor.stamp_ns == playout.media_ns && lost == 0 && cursor.precedes(decoder, playout) => {
                let later_ns = cursor.media_end_ns - cursor.stamp_ns;
                PlayoutTime { at: playout.at.offset(later_ns), media_ns: cursor.media_end_ns, ..playout }
            }
            _ => playout,
        }
    }

    /// Cuts the end of the last sound if it reaches beyond the start of the next packet by a few samples. These come
    /// from bytes behind the sound.
    pub(super) fn cut_stray_tail(&mut self, decoder: usize, PlayTurn { playout, lost }: PlayTurn) {
        let Some(mut cursor) = self.cursor.filter(|cursor| lost == 0 && cursor.precedes(decoder, playout)) else {
            return;
        };
        let beyond_ns = cursor.media_end_ns - playout.media_ns;
        if beyond_ns == 0 {
            return;
        }
        let format = &self.decoders[decoder];
        let samples = (beyond_ns * i64::from(format.output.input_hz()) + 500_000_000).div_euclid(1_000_000_000);
        let is_tail =
            samples > 0 && beyond_ns < MAX_STRAY_NS && format.format.codec().is_some_and(Codec::has_no_frames);
        if is_tail {
            let bytes = cursor.size.bytes * samples as usize / cursor.size.samples.max(1);
            let tail = StrayTail { bytes, of: cursor.size.bytes, is_usual: false };
            let is_usual = cursor.stray.is_some_and(|before| before.bytes == bytes && before.of == tail.of);
            cursor.stray = Some(StrayTail { is_usual, ..tail });
            cursor.at = DecoderIndex(cursor.at.0 - samples);
            cursor.media_end_ns = playout.media_ns;
        } else if samples < 0 && -beyond_ns < MAX_STRAY_NS {
            // The cut bytes are missing now, so they were sound.
            cursor.stray = None;
        }
        self.cursor = Some(cursor);
    }

    /// Returns the payload without the bytes behind the sound, if all payloads of this size have them.
    pub(super) fn without_stray_tail<'a>(
        &self,
        payload: &'a [u8],
        playout: PlayoutTime,
        context: &mut PlayContext<'_>,
    ) -> &'a [u8] {
        let tail = self.cursor.and_then(|cursor| cursor.stray);
        let Some(tail) = tail.filter(|tail| tail.is_usual && tail.of == payload.len()) else { return payload };
        *context.report.quirks.entry(PayloadQuirk::TrailingBytes).or_default() +=
            u64::from(context.is_inside(playout.at));
        &payload[..payload.len() - tail.bytes.min(payload.len())]
    }
}

impl PlayoutCursor {
    /// Returns whether the last sound was decoded in the same way as this packet, and may continue in it.
    fn precedes(&self, decoder: usize, playout: PlayoutTime) -> bool {
        self.decoder == decoder && self.segment == playout.segment && self.after == GapFill::Sound
    }
}

/// Maximum duration of the sound that bytes behind a payload decode to, ns. It is less than any packet lasts.
const MAX_STRAY_NS: i64 = 5_000_000;
