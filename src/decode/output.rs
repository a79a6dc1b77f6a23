//! Output of the decoder: UDP datagrams and pieces of TCP byte streams.

use crate::net::Endpoint;
use crate::time::Timestamp;

/// Receives each decoded item as soon as it is complete.
pub type DecodedSink<'s> = dyn FnMut(DecodedItem<'_>) + 's;

/// One UDP datagram, untunnelled and defragmented.
#[derive(Clone, Copy, Debug)]
pub struct UdpDatagram<'a> {
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
pub enum TcpStreamEvent<'a> {
    /// The next bytes in order.
    Data(&'a [u8]),
    /// Bytes are missing here for good: what follows has to be resynchronised.
    Gap,
    /// The direction was closed, reset or forgotten.
    End,
}

/// A piece of a TCP byte stream, in order.
#[derive(Clone, Copy, Debug)]
pub struct TcpStreamChunk<'a> {
    /// When the segment that completed this piece was captured. Bytes that waited behind a hole that was given up
    /// keep the moment of their own segment, so this may lie up to 3 s before the frame that brought it out.
    pub at: Timestamp,
    /// Sender of this direction.
    pub src: Endpoint,
    /// Receiver of this direction.
    pub dst: Endpoint,
    /// What happened.
    pub event: TcpStreamEvent<'a>,
    /// The interface that saw it.
    pub interface: u32,
}

/// What decoding a frame gives.
#[derive(Clone, Copy, Debug)]
pub enum DecodedItem<'a> {
    /// A UDP datagram.
    Datagram(UdpDatagram<'a>),
    /// A piece of a TCP stream.
    Stream(TcpStreamChunk<'a>),
}
