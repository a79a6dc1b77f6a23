//! Limits how many recordings and packets a user downloads at the same time. Otherwise one account could use up the connections and
//! the reads of the disk that all others need.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::response::Response;
use futures_util::StreamExt as _;

/// Number of open downloads of each user, by the user's name. A user without one is absent. Clones share the numbers.
#[derive(Clone, Default)]
pub(super) struct OpenDownloads(Arc<Mutex<HashMap<String, usize>>>);

/// A download of a user that is open. Dropping this value ends it.
pub(super) struct OpenDownload {
    downloads: OpenDownloads,
    user: String,
}

impl OpenDownloads {
    /// Counts a download that begins. Returns `None` if the user already has [`MAX_OPEN`] open downloads.
    pub(super) fn begin(&self, user: &str) -> Option<OpenDownload> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(user.to_owned()).or_default();
        if *count >= MAX_OPEN {
            return None;
        }
        *count += 1;
        drop(open);
        Some(OpenDownload { downloads: self.clone(), user: user.to_owned() })
    }
}

impl OpenDownload {
    /// Keeps the download open until the body of its response was sent, or until the client has disconnected.
    pub(super) fn until_sent(self, response: Response) -> Response {
        if !response.status().is_success() {
            return response;
        }
        response.map(|body| {
            Body::from_stream(body.into_data_stream().map(move |chunk| {
                let _open = &self; // moves the download into the stream
                chunk
            }))
        })
    }
}

impl Drop for OpenDownload {
    fn drop(&mut self) {
        let mut open = self.downloads.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.user) {
            *count -= 1;
        }
        open.retain(|_, count| *count > 0);
    }
}

/// Maximum number of open downloads of a user. A browser opens six connections to a server, so two windows stay below it.
pub(super) const MAX_OPEN: usize = 16;
