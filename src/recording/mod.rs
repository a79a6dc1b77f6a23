//! Recordings: the finished WAV or Ogg Opus files of a call, and its call record beside them.
//!
//! A recording is cut into *segments* (the `part`s of the call record), one file each.
//!
//! # Invariants
//! - A file under its final name is complete and synced to disk. Until then it has a name that ends in `.part`. Peaks
//!   (the data of a waveform) are not synced: they are only a convenience.
//! - Each segment of a recording begins with the sample after the last sample of the previous segment. A segment is the
//!   same whether it is made during the call or after its end (module `segmenter`).
//! - The same call gives the same bytes, because this module reads no clock.

pub mod config;
pub(crate) mod convert;
pub mod encrypt;
pub(crate) mod g711;
mod hashed;
mod ogg_opus;
mod pcm;
pub mod peaks;
mod publish;
mod quality;
pub(crate) mod recorder;
pub mod retention;
mod segmenter;
mod segments;
pub(crate) mod verdict;
pub mod verify;

pub use publish::digest;
pub(crate) use publish::{create_private, give_to_owner_of_folder, make_private_folder};
pub use recorder::{FolderLayout, Recorder};
