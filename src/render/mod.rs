//! From a leg's spool to two timelines and stereo samples.
//!
//! Two streaming passes over the same spool. [`plan()`] reads decisions and RTP headers and finds where each packet was
//! heard; [`render()`] decodes and paints each packet there. Memory is a window of some seconds, whatever the call's
//! length (and in the plan about 100 bytes for a second of a side).
//!
//! # Invariants
//! - Sample n is the moment `starts_at + n / sample_rate` of the capture clock, in both channels. There are exactly
//!   `round((ends_at - starts_at) * sample_rate)` of them.
//! - A packet's sound lies where the network was fastest (the module `timeline` says how); loss, silence, hold, a changed SSRC,
//!   format or stamp never move what comes after.
//! - Decisions in the spool are obeyed; nothing is decided here.
//! - The same spool gives the same samples.

pub mod codec;
pub mod resample;
pub mod srtp;

mod clock_rate;
mod mix_buffer;
mod packet;
mod plan;
mod player;
mod report;
mod resample_stage;
mod rtp_clock;
mod second_pass;
mod stats_from_spool;
mod timeline;

pub use mix_buffer::Output;
pub use plan::{Ended, Options, Plan, plan, samples_between};
pub use report::{Encrypted, RenderError, Report, SideReport, Silent};
pub use second_pass::render;

#[cfg(test)]
mod tests;
