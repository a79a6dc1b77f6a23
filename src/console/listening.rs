//! Listenings: a browser asks for a recording in many ranges, and all of them are one row of the audit.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::access::Viewer;
use super::accounts::AuditAction;
use crate::time::Timestamp;

/// One person at one part of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ListeningKey {
    who: String,
    /// Two sessions of one account are two listenings.
    session: Option<String>,
    call_id: String,
    part: u32,
    is_download: bool,
}

impl ListeningKey {
    /// Returns the key of a request.
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

/// The listenings of which the audit has a row.
#[derive(Debug, Default)]
pub(super) struct Listenings {
    /// Time of the last request of each.
    last: Mutex<HashMap<ListeningKey, Timestamp>>,
}

impl Listenings {
    /// Returns whether a request belongs to a listening of which the audit has a row, and prolongs that listening.
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

    /// Notes that the audit has a row of a listening.
    pub(super) fn begin(&self, key: ListeningKey, now: Timestamp) {
        let mut all = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MAX_LISTENINGS {
            all.retain(|_, last| now.since(*last) < PAUSE);
        }
        if all.len() < MAX_LISTENINGS {
            all.insert(key, now); // forgotten, it would only be a further row
        }
    }
}

/// A request after a pause of this length is a new listening.
const PAUSE: Duration = Duration::from_secs(10 * 60);
/// Listenings that are remembered.
const MAX_LISTENINGS: usize = 10_000;
