//! The HTTP client for the Pyrus API. It sends the requests that [`crate::delivery`] decides on.
//!
//! Invariants:
//!
//! 1. Security key and token appear in no log, error, journal row or URL. The token stays in memory. It is sent only to
//!    hosts that the configuration or the `auth` response names and that [`urls`] accepts.
//! 2. Requests use https; http is allowed for loopback only. Redirects are not followed.
//! 3. Every request has a time limit and every response a size limit. Uploads use constant memory.
//! 4. The client decides nothing; [`crate::delivery::verdict`] interprets the responses.

use std::path::PathBuf;

mod client;
pub mod config;
pub mod executor;
mod upload;
mod urls;

pub use client::RequestTimeouts;
pub(crate) use executor::DeliveryAnswer;
pub use executor::{DeliveryHandle, DeliverySetup, StatusClient};

/// Reasons why delivery cannot start. A failed request is no [`Error`] but a [`crate::delivery::RequestOutcome`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting of the section `[pyrus]` is missing or invalid.
    #[error("[pyrus] {0}")]
    Config(String),
    /// The file with the security key cannot be read.
    #[error("[pyrus] security_key_file {path} cannot be read: {source}")]
    KeyFile {
        /// Path of the file that cannot be read.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// The CA file cannot be used.
    #[error("[pyrus] ca_file {path} is not a readable PEM certificate: {reason}")]
    CaFile {
        /// Path of the CA file.
        path: PathBuf,
        /// The reason why the file cannot be used, as a text.
        reason: String,
    },
    /// TLS or the HTTP client cannot be set up, for this reason.
    #[error("the HTTPS client cannot be set up: {0}; install the package ca-certificates if it is missing")]
    Http(String),
    /// The delivery thread or its async runtime cannot be started.
    #[error("the delivery thread cannot be started: {0}")]
    Thread(#[from] std::io::Error),
    /// The journal cannot be read or written.
    #[error(transparent)]
    Journal(#[from] crate::journal::Error),
}
