//! Renders a leg's spool (its packets, and the decisions of the engine, which follows the calls): two timelines, mixed
//! into stereo samples.
//!
//! Two streaming passes read the same spool. [`plan()`] reads decisions and RTP headers and computes the playout time
//! of each packet. [`render()`] decodes each packet and writes its sound at that time. The second pass keeps a window
//! of some seconds in memory. The plan takes about 100 bytes for each second of a side.
//!
//! # Invariants
//! - Sample n stands for the moment `starts_at + n / sample_rate` of the capture clock, in both channels. A channel has
//!   exactly `round((ends_at - starts_at) * sample_rate)` samples.
//! - A packet's playout time is its arrival without network jitter; the module `timeline` has the method. Loss,
//!   silence, hold, a new SSRC, a new format or an RTP timestamp never move the sound that follows.
//! - Rendering follows the decisions of the engine in the spool and makes no decisions itself.
//! - The same spool gives the same samples.

pub mod codec;
pub mod resample;
pub mod srtp;

mod answer_tone;
mod arrived_numbers;
mod channel_window;
mod clock_rate;
mod decided_streams;
pub(crate) mod form_judge;
mod joined_stamps;
mod mix_buffer;
mod packet;
mod plan;
mod player;
mod recent_index;
mod report;
mod resample_stage;
mod rtp_clock;
mod sample_index;
mod second_look;
mod second_pass;
mod stats_from_spool;
mod timeline;
mod unused_keys;

#[cfg(feature = "service")]
pub(crate) use plan::samples_between;
pub use plan::{RenderOptions, RenderPlan, SpooledEnd, plan};
pub use report::{
    PayloadQuirk, RenderError, RenderReport, SideReport, SoundLoss, UndecodableReason, UndecryptableReason,
};
pub use second_pass::render;

#[cfg(test)]
mod tests;
