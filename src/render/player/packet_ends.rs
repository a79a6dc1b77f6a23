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

/// Facts about the end of the last packet.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PacketEnd {
    /// Media time that the packet's timestamp gives, ns.
    pub(super) stamp_ns: i64,
    /// Size of the payload.
    pub(super) bytes: usize,
    /// Number of samples that the decoder made of the payload.
    pub(super) samples: usize,
    /// Bytes behind the sound of the packets, as the timestamps show; `None` if there are none.
    pub(super) stray: Option<StrayTail>,
}

/// Bytes behind the sound of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StrayTail {
    bytes: usize,
    /// Size of the whole payload, bytes.
    of: usize,
    /// Media time that the timestamp of the packet after the payload gives, ns.
    next_stamp_ns: i64,
    /// Whether two payloads in a row of this size ended with this number of such bytes.
    is_usual: bool,
}

impl StreamPlayer {
    /// Returns the turn of a packet with its playout time. If timestamps and lengths of this packet and the packet before
    /// contradict each other, the two are joined.
    #[inline]
    pub(super) fn joined_turn(&mut self, decoder: usize, turn: PlayTurn) -> PlayTurn {
        match &self.cursor {
            Some(cursor) if cursor.media_end_ns != turn.playout.media_ns => self.join_odd_packet(decoder, turn),
            _ => turn,
        }
    }

    /// Begins a packet at the end of the packet before if both have the same timestamp. Cuts the end of the last sound if
    /// it reaches a few samples beyond the start of this packet. These samples come from bytes behind the sound.
    #[cold]
    fn join_odd_packet(&mut self, decoder: usize, turn: PlayTurn) -> PlayTurn {
        let PlayTurn { playout, lost } = turn;
        let format = &self.decoders[decoder];
        let Some(cursor) = self.cursor.as_mut().filter(|cursor| lost == 0 && cursor.precedes(decoder, playout)) else {
            return turn;
        };
        let (end, beyond_ns) = (&mut self.end, cursor.media_end_ns - playout.media_ns);
        if end.stamp_ns == playout.media_ns {
            let playout = PlayoutTime { at: playout.at.offset(beyond_ns), media_ns: cursor.media_end_ns, ..playout };
            return PlayTurn { playout, lost };
        }
        let samples = (beyond_ns * i64::from(format.output.input_hz()) + 500_000_000).div_euclid(1_000_000_000);
        if samples > 0 && beyond_ns < MAX_STRAY_NS && format.format.codec().is_some_and(Codec::has_no_frames) {
            let bytes = end.bytes * samples as usize / end.samples.max(1);
            let next_stamp_ns = playout.media_ns;
            let is_usual = end.stray.is_some_and(|before| {
                before.bytes == bytes && before.of == end.bytes && before.next_stamp_ns == end.stamp_ns
            });
            end.stray = Some(StrayTail { bytes, of: end.bytes, next_stamp_ns, is_usual });
            cursor.at = DecoderIndex(cursor.at.0 - samples);
            cursor.media_end_ns = playout.media_ns;
        } else if samples < 0 && -beyond_ns < MAX_STRAY_NS {
            // The cut bytes are missing now, so they were sound.
            end.stray = None;
        }
        turn
    }

    /// Returns the payload without the bytes behind the sound, if all payloads of this size have them.
    pub(super) fn without_stray_tail<'a>(
        &self,
        payload: &'a [u8],
        playout: PlayoutTime,
        context: &mut PlayContext<'_>,
    ) -> &'a [u8] {
        let Some(tail) = self.end.stray.filter(|tail| tail.is_usual && tail.of == payload.len()) else {
            return payload;
        };
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
