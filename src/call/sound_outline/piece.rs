//! Pieces of an outline, as the spool stores them. After a restart, the outline is put together from its pieces.

use crate::call::decision::OutlinePiece;
use crate::call::record::Side;
use crate::call::sound_outline::{LEAST_DB, OutlinePoint, SideSound, SoundOutline, TENTH_NS};

impl SoundOutline {
    /// Returns the kept measurements that are not stored in the spool yet, if there are enough of them for one piece.
    /// Returns `None` while the newest measurement is not to be kept.
    pub(crate) fn take_due_piece(&mut self) -> Option<OutlinePiece> {
        // The newest tenth of a second is left out, because packets of the other side may still add to it.
        let newest = self.points.last().filter(|point| point.is_kept)?.tenth;
        let is_due = self.points.len() >= PIECE && self.unstored_before(newest).count() >= PIECE;
        if is_due { self.take_piece_before(newest) } else { None }
    }

    /// Keeps all measurements. Returns those that are not stored in the spool yet, including the unfinished tenth of a
    /// second. At the end of the leg, this function must be called until it returns `None`.
    pub(crate) fn take_last_piece(&mut self) -> Option<OutlinePiece> {
        [Side::Caller, Side::Callee].into_iter().for_each(|side| self.close_sum(side));
        self.keep();
        self.take_piece_before(i64::MAX)
    }

    /// Adds the measurements of a stored piece to the outline. Ignores times that no capture can have, because a spool
    /// may be damaged.
    pub(crate) fn restore(&mut self, piece: &OutlinePiece) {
        if piece.tenth.unsigned_abs() > MAX_TENTH {
            return;
        }
        for (side, text) in [(Side::Caller, &piece.caller), (Side::Callee, &piece.callee)] {
            for (tenth, digits) in (piece.tenth..).zip(text.as_bytes().chunks_exact(DIGITS).take(MAX_PIECE)) {
                if let Some(sound) = SideSound::from_digits(digits) {
                    self.add_point(OutlinePoint::new(tenth, side, sound));
                }
                self.stored = self.stored.max(Some(tenth));
            }
        }
    }

    /// Returns the times of the measurements before `end` that are not in the spool yet, newest first, in tenths of a
    /// second.
    fn unstored_before(&self, end: i64) -> impl Iterator<Item = i64> + '_ {
        let newest_first = self.points.iter().rev().map(|point| point.tenth);
        newest_first.take_while(|tenth| Some(*tenth) > self.stored).filter(move |tenth| *tenth < end)
    }

    fn take_piece_before(&mut self, end: i64) -> Option<OutlinePiece> {
        let first = self.unstored_before(end).last()?;
        let end = end.min(first.saturating_add(MAX_PIECE as i64));
        let last = self.unstored_before(end).next()?;
        self.stored = Some(last);
        let digits = |side: Side| (first..=last).map(|tenth| SideSound::digits(self.sound_at(tenth, side))).collect();
        Some(OutlinePiece { tenth: first, caller: digits(Side::Caller), callee: digits(Side::Callee) })
    }
}

impl SideSound {
    fn digits(sound: Option<Self>) -> String {
        let number = match sound {
            None => NOTHING,
            Some(Self::Unmeasured) => UNMEASURED,
            Some(Self::Measured { db, crossings }) => u16::from_be_bytes([db, crossings]),
        };
        format!("{number:04x}")
    }

    fn from_digits(digits: &[u8]) -> Option<Self> {
        let number = u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        let [db, crossings] = number.to_be_bytes();
        match number {
            NOTHING => None,
            UNMEASURED => Some(Self::Unmeasured),
            _ => Some(Self::Measured { db: db.max(LEAST_DB), crossings }),
        }
    }
}

/// Number of tenths of a second in a usual piece of an outline: two seconds. If the recorder is killed, at most two
/// seconds of measurements are lost.
const PIECE: usize = 20;
/// Maximum length of a piece that one decision in the spool stores, tenths of a second.
const MAX_PIECE: usize = 64;
/// Greatest distance of a capture time from the Unix epoch, tenths of a second.
const MAX_TENTH: u64 = (i64::MAX / TENTH_NS) as u64;
/// Number of hexadecimal digits by which a piece describes one side in a tenth of a second.
const DIGITS: usize = 4;
/// Entry in a piece of an outline (measured loudness and pitch) for a tenth of a second without packets.
const NOTHING: u16 = 0;
/// Entry in a piece of an outline for a tenth of a second in which packets arrived, but their sound was not measured.
const UNMEASURED: u16 = 1;
