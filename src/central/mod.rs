//! The clients of the central archive: an object store with the recordings of many sites, and an index in PostgreSQL.
//!
//! A site needs little: its object store key may put objects below `SITE/`, and its PostgreSQL role may execute two
//! functions. Neither can read, so that a stolen box opens nothing of other sites.

pub(crate) mod calls;
mod condition;
pub(crate) mod config;
pub(crate) mod index;
pub(crate) mod objects;
pub(crate) mod schema;

pub(crate) use index::ArchiveIndex;
pub(crate) use objects::ObjectArchive;

/// Reasons why the archive cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    /// A setting is missing or wrong.
    #[error("{0}")]
    Setting(String),
    /// A file with a secret or a certificate cannot be read.
    #[error("{path} cannot be read: {source}")]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The object store reports an error.
    #[error("object store: {0}")]
    Objects(String),
    /// PostgreSQL reports an error.
    #[error("index: {0}")]
    Index(String),
}
