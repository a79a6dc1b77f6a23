//! Whole synthetic calls through engine, spool and rendering: what is in the recording, and when.

#![allow(clippy::unwrap_used, reason = "what fails here is a failed test")]
#![allow(unreachable_pub, reason = "a test binary: nothing is reached from outside")]

mod bounds;
mod clock;
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
