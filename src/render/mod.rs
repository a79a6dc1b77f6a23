//! From a leg's spool to two timelines and stereo samples.

pub mod codec;
pub mod srtp;
