//! Whole synthetic calls through engine, spool and rendering: what is in the recording, and when.

mod bounds;
mod clock;
mod field;
mod formats;
mod hours;
mod long;
mod malformed_rtp;
mod opus;
mod pause;
mod restart;
mod score;
mod srtp;
mod wide;
