//! Finished files: rendered samples become a WAV or Ogg Opus file by way of a `.part` file, fsync and rename, with the record beside it.
//!
//! # Invariants
//! - A file under its final name is whole and on the disk.
//! - The parts of a recording abut to the sample, and are the same whether they are made while the call is live or
//!   after its end (the module `cutting` says how).
//! - The same call gives the same bytes: nothing here reads a clock.

pub mod config;
pub mod encrypt;
mod g711;
mod hashed;
mod ogg_opus;
mod pcm;
mod publish;
mod quality;
pub mod recorder;
pub mod retention;
mod segmenter;
mod segments;
pub mod verdict;
pub mod verify;

pub use publish::digest;
pub use recorder::{FolderLayout, ReadySegments, Recorder, RecordingError};
