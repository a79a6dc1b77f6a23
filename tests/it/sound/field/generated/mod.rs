//! Tests with calls made from the codec fixtures. They are sent as the devices and networks of bug reports send them.
//!
//! The expected sound is made by an independent decoder from the fixtures, and placed at the times of the packets. For
//! each kind of call, a seed chooses the codec, and the side, time and extent of the deviation. [`builder`] makes the
//! calls.

mod branches;
mod builder;
mod combined;
mod devices;
mod formats;
mod late;
mod levels;
mod lines;
mod nat;
mod negotiation;
mod noise;
mod packets;
mod packing;
mod repeats;
mod senders;
mod setting;
mod sources;
mod spurts;
mod srtp;
mod stamps;
mod turn;
mod verdicts;

pub use builder::{assert_none, seeds};
