//! The HTTP client that executes the actions of [`crate::delivery`] against the Pyrus API.
//!
//! What it holds to:
//!
//! 1. The key and the token never leave it: not into a log, an error, the journal or a URL. The token lives in memory
//!    only and is sent only to hosts that the configuration or the answer to `auth` named and [`urls`] accepted.
//! 2. https only; http for loopback. No redirect is followed.
//! 3. Every request is bounded in time, every reply in bytes; an upload of any size takes constant memory.
//! 4. It decides nothing: what an answer means is [`crate::delivery::verdict`]'s business.

use std::path::PathBuf;

pub mod client;
pub mod config;
pub mod executor;
mod upload;
pub mod urls;

pub use client::{Client, Timeouts};
pub use executor::{Asker, Executor, Handle, Setup};

/// Why delivery cannot begin. Trouble with single requests is no error: it is a [`crate::delivery::Reply`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting that is missing or wrong.
    #[error("[pyrus] {0}")]
    Config(String),
    /// The key's file.
    #[error("[pyrus] security_key_file {path} cannot be read: {source}")]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The private CA's file.
    #[error("[pyrus] ca_file {path} is no readable PEM certificate: {reason}")]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// TLS or the HTTP client cannot be set up.
    #[error("the HTTPS client cannot be set up (is the package ca-certificates installed?): {0}")]
    Http(String),
    /// The thread or its runtime.
    #[error("the delivery thread cannot be started: {0}")]
    Thread(#[from] std::io::Error),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] crate::journal::Error),
}
