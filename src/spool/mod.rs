//! One pcapng for each leg: packets as raw IP with nanosecond stamps, and the engine's decisions as custom blocks.
//!
//! # Invariants
//! - A leg's file is a valid pcapng at every block boundary (Wireshark opens it); a torn tail costs the torn block.
//! - Calls of [`crate::call::event::LegSink`] for one leg stand in its file in the order in which they came; stamps are
//!   out of order by at most [`crate::call::event::EARLY_WINDOW`], and [`reader::SpoolReader`] sorts within it.
//! - A leg that never had media leaves no file; until it has, its signalling stands in one rolling file of all such legs.
//! - About each 32 KiB a leg's file says where in it stands what a restart must read; a restart reads no more than that.
//! - The thread that captures never waits for a disk: packets may be lost there (counted), decisions and events never.

mod blocks;
mod chunked_buf;
pub mod config;
pub mod disk;
mod format;
mod index;
pub mod memory;
mod pending_leg;
pub mod reader;
pub mod restore;
mod rolling;
pub mod scrub;
#[cfg(test)]
pub(crate) mod testkit;
mod writer;

pub use chunked_buf::ChunkedBuf;
pub use reader::{LegSource, SpoolError};

use crate::call::decision::{Decided, Decision};
use crate::call::event::EndedLeg;

/// Where the spools of ended legs are found again.
pub trait LegStore {
    /// The spool of a leg, if it has one.
    fn source(&self, leg: &EndedLeg) -> Option<LegSource>;
}

/// What must be added to the stamps of a spool to get the wall clock, as its first decision says.
///
/// # Errors
/// When the spool cannot be read.
pub fn wall_offset_ns(source: &LegSource) -> Result<i64, SpoolError> {
    // The first decision comes first, whatever the stamps say: this reads a few seconds of the file.
    Ok(match source.open()?.next_entry()? {
        Some(reader::SpoolEntry::Decided(Decided { decision: Decision::Begin { wall_offset_ns, .. }, .. })) => {
            *wall_offset_ns
        }
        _ => 0,
    })
}

/// A leg's name as a file name: the engine's names hold none of the bytes that are replaced here.
fn file_name(leg_name: &str) -> String {
    let mut name: String =
        leg_name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect();
    if name.is_empty() || name.starts_with('.') {
        name.insert(0, '_');
    }
    name.push_str(".pcapng");
    name
}
