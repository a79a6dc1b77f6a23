//! Chooses the legs whose chunks (consecutive blocks) are given up, because they could not be written for a long time.

use std::time::{Duration, Instant};

use crate::call::errno::OsErrno;
use crate::call::event::LegId;

/// A leg with chunks that could not be written yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct WaitingChunks {
    pub(super) leg: LegId,
    /// Time of the first attempt that failed.
    pub(super) since: Instant,
    /// Error of the last attempt.
    pub(super) errno: OsErrno,
    /// Whether the leg gets no further chunks.
    pub(super) has_ended: bool,
    /// Memory of the chunks, bytes.
    pub(super) bytes: usize,
}

impl WaitingChunks {
    /// Returns whether the chunks of a leg that has waited long are given up. A full disk affects all legs alike, even if
    /// some find room for a chunk. Without free inodes, only files that exist can be written. So an ended leg waits for
    /// room until its memory is needed, and the legs of calls that go on wait in any case.
    const fn is_hopeless(&self, is_memory_short: bool) -> bool {
        match self.errno.is_disk_full() {
            true => self.has_ended && is_memory_short,
            false => self.has_ended || is_memory_short,
        }
    }
}

/// Returns the legs whose chunks could not be written for a long time, although another file could at `wrote_at`. The
/// leg that has waited longest comes first.
///
/// Memory is short while the chunks of all waiting legs, except those chosen before, have more than `max_bytes`.
pub(super) fn hopeless_legs(mut waiting: Vec<WaitingChunks>, wrote_at: Instant, max_bytes: usize) -> Vec<LegId> {
    let mut bytes: usize = waiting.iter().map(|leg| leg.bytes).sum();
    waiting.retain(|leg| wrote_at.saturating_duration_since(leg.since) > GIVE_UP);
    waiting.sort_by_key(|leg| leg.since);
    waiting.retain(|leg| {
        let is_hopeless = leg.is_hopeless(bytes > max_bytes);
        bytes -= if is_hopeless { leg.bytes } else { 0 };
        is_hopeless
    });
    waiting.into_iter().map(|leg| leg.leg).collect()
}

/// Time for which a failing file is tried again while other files can be written. A bad sector, for example, affects
/// only one file.
pub(super) const GIVE_UP: Duration = Duration::from_secs(5 * 60);
