//! Frames in, datagrams out: link layers, VLANs, IP, fragments, UDP and TCP.
//!
//! Lenient by design: a mirror cuts, pads and damages frames, so whatever cannot be read is counted by reason
//! and never stops anything.

use crate::net::Endpoint;
use crate::time::Timestamp;

mod bytes;
pub mod counters;
mod decoder;
mod duplicates;
mod fragments;
mod link;
mod tcp;
#[cfg(test)]
mod testing;
mod tunnels;
#[cfg(test)]
#[path = "../../tests/it/support/packets.rs"]
mod wire;

pub use counters::Counters;
pub use decoder::{Decoder, Limits, Sink};

/// One UDP datagram, untunnelled and defragmented.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// When its last byte was captured, on the capture timeline.
    pub at: Timestamp,
    /// Who sent it.
    pub src: Endpoint,
    /// Who it went to.
    pub dst: Endpoint,
    /// The captured bytes of the UDP payload.
    pub payload: &'a [u8],
    /// How long the payload was on the wire; more than `payload.len()` where the capture cut it.
    pub wire_len: u32,
    /// The interface that saw it.
    pub interface: u32,
}

/// What happened to one direction of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEvent<'a> {
    /// The next bytes in order.
    Data(&'a [u8]),
    /// Bytes are missing here for good: what follows has to be resynchronised.
    Gap,
    /// The direction was closed, reset or forgotten.
    End,
}

/// A piece of a TCP byte stream, in order.
#[derive(Clone, Copy, Debug)]
pub struct StreamChunk<'a> {
    /// When the segment that completed this piece was captured. Bytes that waited behind a hole that was given up
    /// keep the moment of their own segment, so this may lie up to 3 s before the frame that brought it out.
    pub at: Timestamp,
    /// Sender of this direction.
    pub src: Endpoint,
    /// Receiver of this direction.
    pub dst: Endpoint,
    /// What happened.
    pub event: StreamEvent<'a>,
    /// The interface that saw it.
    pub interface: u32,
}

/// What decoding a frame gives.
#[derive(Clone, Copy, Debug)]
pub enum Decoded<'a> {
    /// A UDP datagram.
    Datagram(Datagram<'a>),
    /// A piece of a TCP stream.
    Stream(StreamChunk<'a>),
}
