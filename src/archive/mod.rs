//! Copies calls to a central archive of many sites. This is a state machine without side effects: the clients in
//! `central` execute its steps.
//!
//! An archive has two parts: an object store with the recordings, and an *index*, a PostgreSQL database with one row
//! for each call. Rules for the code that executes the steps:
//!
//! 1. The job of a call is durable in the journal before its next [`ArchiveStep`] is executed.
//! 2. Every step can be repeated. An object is created and never replaced, and its key contains the checksum of its
//!    content. A row of the index is replaced only by an equal or newer state of the call.
//! 3. All objects of a call are stored before the row that names these objects is written.
//! 4. The archive may be unreachable for any time. Then jobs wait and are tried again, but the recorder never waits for
//!    the archive.

mod job;
#[cfg(test)]
mod tests;

pub(crate) use job::{
    ArchiveFailure, ArchiveJob, ArchiveOutcome, ArchiveStage, ArchiveStep, ArchivedObject, object_key,
};
