//! From a leg's spool to two timelines and stereo samples.

pub mod codec;
pub mod resample;
pub mod srtp;
