//! Listenings. A browser requests a recording in many ranges; all these requests are one *listening* with one row in
//! the audit log.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::access::Viewer;
use super::accounts::AuditAction;
use crate::time::Timestamp;

/// Key of a listening, i.e. of the requests by which one person plays or downloads one segment of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ListeningKey {
    who: String,
    /// Session of the person; `None` without a session. Two sessions of one account are two listenings.
    session: Option<String>,
    call_id: String,
    part: u32,
    is_download: bool,
}

impl ListeningKey {
    /// Returns the key of the listening (playback or download) to which a request of `viewer` belongs.
    pub(super) fn of(viewer: &Viewer, call_id: &str, part: u32, action: AuditAction) -> Self {
        Self {
            who: viewer.user.name.clone(),
            session: viewer.csrf.clone(),
            call_id: call_id.to_owned(),
            part,
            is_download: action == AuditAction::Downloaded,
        }
    }
}

/// The listenings (playbacks and downloads) that already have a row in the audit log.
#[derive(Debug, Default)]
pub(super) struct Listenings {
    /// Time of the last request of each listening (playback or download).
    last: Mutex<HashMap<ListeningKey, Timestamp>>,
}

impl Listenings {
    /// Returns whether a request belongs to a listening (playback or download) that already has a row in the audit log.
    /// If so, stores `now` as the time of the listening's last request.
    pub(super) fn goes_on(&self, key: &ListeningKey, now: Timestamp) -> bool {
        let mut all = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get_mut(key) {
            Some(last) if now.since(*last) < PAUSE => {
                *last = now;
                true
            }
            _ => false,
        }
    }

    /// Records that the audit log now has a row for this listening, i.e. for this playback or download.
    pub(super) fn begin(&self, key: ListeningKey, now: Timestamp) {
        let mut all = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MAX_LISTENINGS {
            all.retain(|_, last| now.since(*last) < PAUSE);
        }
        if all.len() < MAX_LISTENINGS {
            all.insert(key, now); // if full, the next request adds another audit row
        }
    }
}

/// Maximum pause between two requests of one listening (playback or download). A request after a longer pause gets an
/// audit row of its own.
const PAUSE: Duration = Duration::from_secs(10 * 60);
/// Maximum number of listenings (playbacks and downloads) that are kept in memory.
const MAX_LISTENINGS: usize = 10_000;
