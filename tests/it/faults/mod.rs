//! Tests of faults of the machine: full and read-only disks, a damaged journal, interrupted encryption.
//!
//! The parts of `callspan run` work in the test process, on file systems that the tests mount.

mod disk;
mod encryption;
pub(crate) mod failing_files;
mod injection;
mod journal;
mod owner;
mod render_workers;
pub(crate) mod station;
mod storage;
mod syncs;
