//! Helpers that several test modules use.

pub mod call_frames;
pub mod captures;
pub mod coded;
pub mod configuration;
pub mod packets;
pub mod phones;
pub mod playback;
pub mod process;
pub mod restart;
pub mod rewrite;
pub mod scenario;
pub mod score;
pub mod veth;
