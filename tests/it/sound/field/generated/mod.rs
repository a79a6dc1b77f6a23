//! Calls made from the codec fixtures, sent as devices and networks of bug reports send them.
//!
//! The truth is the sound that an independent decoder made of the fixtures, laid where it was sent. Each kind has
//! variations from a seed: the codec, the side, the moment, the spacing. [`builder`] makes the calls.

mod builder;
mod formats;
mod levels;
mod lines;
mod nat;
mod negotiation;
mod packets;
mod srtp;

pub use builder::{assert_none, seeds};
