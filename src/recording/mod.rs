//! Finished files: rendered samples become a WAV or Ogg Opus file by way of a `.part` file, fsync and rename, with the record beside it.
//!
//! # Invariants
//! - A file under its final name is whole and on the disk.
//! - The parts of a recording abut to the sample, and are the same whether they are made while the call is live or
//!   after its end (the module `cutting` says how).
//! - The same call gives the same bytes: nothing here reads a clock.

pub mod config;
mod cutting;
mod g711;
mod hashed;
mod ogg_opus;
mod parts;
mod pcm;
mod publish;
mod quality;
pub mod recorder;
pub mod retention;
pub mod seal;
pub mod verdict;
pub mod verify;

pub use publish::digest;
pub use recorder::{Layout, ReadyParts, Recorder, RecordingError};
