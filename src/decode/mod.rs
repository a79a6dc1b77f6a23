//! Decodes captured frames to UDP datagrams and TCP byte streams. Handles link layers, VLANs, tunnels and IP fragments.
//!
//! The decoder is lenient, because a mirror port truncates, pads and damages frames. Unreadable data is counted by
//! reason ([`DecodeCounters`]) and never stops the decoder.
//!
//! Modules use each other in one direction. `decoder` uses `tunnels`, `turn`, `fragments`, `tcp` and `duplicates`.
//! These use `output` and `counters`.

pub mod counters;
mod decoder;
mod duplicates;
mod fragments;
mod output;
mod tcp;
#[cfg(test)]
mod testing;
mod tunnels;
mod turn;
#[cfg(test)]
#[path = "../../tests/it/support/packets.rs"]
pub(crate) mod wire;

pub use counters::DecodeCounters;
pub use decoder::{DecoderLimits, FrameDecoder};
pub(crate) use output::DecodedSink;
pub use output::{DecodedItem, TcpStreamChunk, TcpStreamEvent, UdpDatagram};
