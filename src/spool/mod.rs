//! The spool: one pcapng file per leg. It contains the packets (raw IP, timestamps in ns) and the call engine's
//! decisions (custom blocks).
//!
//! # Invariants
//! - A leg's file is a valid pcapng at every block boundary, so Wireshark opens it. If a crash tears the end of the
//!   file, only the torn block is lost.
//! - A leg's file keeps the order in which the methods of [`crate::call::event::LegSink`] were called. Timestamps are
//!   out of order by at most [`crate::call::event::EARLY_WINDOW`], and [`reader::SpoolReader`] sorts within that
//!   window.
//! - A leg without media has no file. Until media comes, its signalling is in the rolling file, which all legs without
//!   media share.
//! - About every 32 KiB a leg's file has an index of the blocks that a restart must read. A restart reads only these
//!   blocks.
//! - The capture thread never waits for a disk. It may drop packets, which it counts, but never decisions or events.

#[cfg(feature = "service")]
mod blocks;
mod chunked_buf;
pub mod config;
#[cfg(feature = "service")]
mod descriptors;
#[cfg(feature = "service")]
pub mod disk;
mod format;
#[cfg(feature = "service")]
mod hopeless_legs;
#[cfg(feature = "service")]
mod index;
#[cfg(feature = "service")]
mod leg_file;
#[cfg(feature = "service")]
mod leg_files;
pub mod memory;
#[cfg(feature = "service")]
mod open_files;
mod pending_leg;
pub mod reader;
#[cfg(feature = "service")]
pub(crate) mod restore;
#[cfg(feature = "service")]
mod rolling;
#[cfg(feature = "service")]
pub(crate) mod scrub;
mod spill_file;
#[cfg(feature = "service")]
mod spool_folder;
#[cfg(feature = "service")]
pub(crate) mod storage;
#[cfg(feature = "service")]
mod sync_thread;
#[cfg(test)]
pub(crate) mod testkit;
#[cfg(feature = "service")]
mod unsynced_legs;
#[cfg(feature = "service")]
mod writer;

pub use reader::{LegSource, SpoolError};

use crate::call::decision::{Decision, TimedDecision};
use crate::call::event::EndedLeg;

/// Finds the spools of ended legs, wherever they are stored.
pub trait LegStore {
    /// Returns the spool of a leg; `None` if the leg has none.
    fn source(&self, leg: &EndedLeg) -> Option<LegSource>;
}

/// Returns the time, in ns, that must be added to the spool's timestamps to get the wall clock. It is in the spool's
/// first decision of the call engine.
///
/// # Errors
/// Fails if the spool cannot be read.
pub(crate) fn wall_offset_ns(source: &LegSource) -> Result<i64, SpoolError> {
    // The reader returns the call engine's decision `Begin` before all other entries, whatever its timestamp. So one
    // entry is enough, and only the first seconds of the file are read.
    Ok(match source.open()?.next_entry()? {
        Some(reader::SpoolEntry::Decided(TimedDecision {
            decision: Decision::Begin { wall_offset_ns, .. }, ..
        })) => *wall_offset_ns,
        _ => 0,
    })
}

/// Returns the file name for a leg's spool. Characters that are unsafe in file names are replaced; the names that the
/// call engine makes contain none.
#[cfg(feature = "service")]
fn file_name(leg_name: &str) -> String {
    let mut name: String =
        leg_name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect();
    if name.is_empty() || name.starts_with('.') {
        name.insert(0, '_');
    }
    name.push_str(".pcapng");
    name
}
