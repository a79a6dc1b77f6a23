//! The clients of the central archive: an object store with the recordings of many sites, and an index in PostgreSQL.
//!
//! A site has few rights. Its access key of the object store may only create objects below `SITE/`. Its PostgreSQL role
//! may only execute a few functions. Neither can read, so a stolen recorder gives no access to the calls of other
//! sites.

pub(crate) mod calls;
mod condition;
pub(crate) mod config;
mod copies;
pub(crate) mod index;
mod migrate;
pub(crate) mod objects;
pub(crate) mod schema;
mod schema_console;
mod schema_copies;
mod schema_same_day;
mod schema_search;
mod schema_shared;
mod schema_voice;

pub(crate) use copies::IndexedAuditRow;
pub(crate) use index::ArchiveIndex;
pub(crate) use objects::ObjectArchive;

/// Reasons why the archive cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    /// A setting of the section `[archive]` is missing or wrong.
    #[error("{0}")]
    Setting(String),
    /// A file with a secret or a certificate cannot be read.
    #[error("{path} cannot be read: {source}")]
    File {
        /// Path of the file that cannot be read.
        path: std::path::PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The object store reported this error.
    #[error("object store: {0}")]
    Objects(String),
    /// PostgreSQL reported this error.
    #[error("index: {0}")]
    Index(String),
}
