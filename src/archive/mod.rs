//! Copies calls to a central archive of many sites: a state machine without side effects, between the journal and the
//! clients in `central`.
//!
//! An archive has two parts: an object store with the recordings, and an *index*, a PostgreSQL database with one row
//! for each call. Rules for the code that executes the steps:
//!
//! 1. The job of a call is durable in the journal before its next [`ArchiveStep`] is executed.
//! 2. Every step can be repeated. An object is only ever created, never replaced, and its key contains the checksum of
//!    its content. A row of the index is replaced by an equal or newer one only.
//! 3. All objects are stored before the row that names them is written.
//! 4. The archive may be unreachable for any time: a job waits and is tried again, but the recorder never waits for the
//!    archive.

mod job;
#[cfg(test)]
mod tests;

pub(crate) use job::{
    ArchiveFailure, ArchiveJob, ArchiveOutcome, ArchiveStage, ArchiveStep, ArchivedObject, object_key,
};
