//! Sequence numbers over the whole call (RFC 3550 appendix A.1).
//!
//! A step of more than [`MAX_DROPOUT`] either way is a new beginning. A smaller one back may be a late packet or a
//! sender that begins anew (at each hold, from 0), and what is taken for late is not heard: there the stamps decide.

use std::time::Duration;

use crate::render::plan::PlayoutTime;
use crate::time::Timestamp;

/// Puts packets in order.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SequenceOrder {
    newest: Option<u64>,
    /// What the newest packet that had a place says.
    mark: Option<SequenceMark>,
    next: Option<u64>,
    /// The newest number before the sequence began anew, and up to which number of the new run it is remembered.
    before: Option<(u64, u64)>,
    /// Packets that had their turn and gave nothing: as good as lost.
    spoiled: u64,
}

/// What a packet's stamp says.
#[derive(Clone, Copy, Debug)]
pub(super) struct SequenceMark {
    media_ns: i64,
    /// Arrival.
    at: Timestamp,
    track: usize,
}

impl SequenceMark {
    /// Of a packet and its place.
    pub(super) fn new(at: Timestamp, heard: PlayoutTime) -> Self {
        Self { media_ns: heard.media_ns, at, track: heard.segment.0 }
    }

    /// Whether a packet so far back in the sequence was sent before the newest one: its stamp is no later, and it is
    /// not further behind than a packet can be late.
    fn was_sent_before(&self, newest: Self, step: i64) -> bool {
        let lag_grew_ns = self.at.nanos_since(newest.at).saturating_add(newest.media_ns - self.media_ns);
        let as_late = step > -MAX_MISORDER && u128::try_from(lag_grew_ns).is_ok_and(|ns| ns < LATEST.as_nanos());
        self.media_ns <= newest.media_ns && (self.track == newest.track || as_late)
    }
}

impl SequenceOrder {
    /// The extended number; `None` when its turn is over. `mark` is that of a packet that has a place.
    pub(super) fn extend(&mut self, sequence: u16, mark: Option<SequenceMark>) -> Option<u64> {
        let Some(newest) = self.newest else {
            return Some(self.begin(FIRST_CYCLE + u64::from(sequence), mark));
        };
        let step = step_to(sequence, newest);
        // A single packet of another numbering, and now the first goes on.
        let returns = step != 1 && self.before.is_some_and(|(before, _)| step_to(sequence, before).abs() < step.abs());
        if returns || step.abs() > MAX_DROPOUT || (step <= 0 && self.begins_anew(step, mark)) {
            // Two cycles on, so that nothing is taken for lost or late.
            let extended = (newest | 0xFFFF) + 1 + 0x1_0000 + u64::from(sequence);
            self.before = Some((newest, extended + MAX_MISORDER as u64));
            return Some(self.begin(extended, mark));
        }
        let extended = newest.saturating_add_signed(step);
        if step > 0 {
            self.before = self.before.filter(|(_, until)| extended < *until);
            self.begin(extended, mark);
        }
        self.next.is_none_or(|next| extended >= next).then_some(extended)
    }

    /// Whether this is the packet that the next one to be played waits for.
    pub(super) fn is_next(&self, sequence: u64) -> bool {
        self.next == Some(sequence)
    }

    /// Notes that a packet had its turn; gives how many before it are missing.
    pub(super) fn advance(&mut self, sequence: u64) -> u64 {
        let lost = self.next.map_or(0, |next| sequence.saturating_sub(next));
        self.next = Some(sequence + 1);
        let lost = lost + std::mem::take(&mut self.spoiled);
        if lost > MAX_DROPOUT as u64 { 0 } else { lost }
    }

    /// The packet just played gave nothing: the next one finds a gap.
    pub(super) fn spoil(&mut self) {
        self.spoiled += 1;
    }

    fn begin(&mut self, extended: u64, mark: Option<SequenceMark>) -> u64 {
        self.newest = Some(extended);
        self.mark = mark.or(self.mark);
        extended
    }

    fn begins_anew(&self, step: i64, mark: Option<SequenceMark>) -> bool {
        match (mark, self.mark) {
            (Some(mark), Some(newest)) => !mark.was_sent_before(newest, step),
            _ => step <= -MAX_MISORDER,
        }
    }
}

/// From an extended number to the nearest with these low bits.
fn step_to(sequence: u16, from: u64) -> i64 {
    i64::from(sequence.wrapping_sub(from as u16) as i16)
}

/// RFC 3550 appendix A.1: a larger step in the sequence is a new beginning.
const MAX_DROPOUT: i64 = 3_000;
/// There: so far back a packet is not late but of a new beginning, 2 s at 20 ms.
const MAX_MISORDER: i64 = 100;
/// So late a packet still comes to its place: what a reader sorts.
const LATEST: Duration = Duration::from_secs(5);
/// Leaves room for packets before the first one.
const FIRST_CYCLE: u64 = 0x10_0000;
