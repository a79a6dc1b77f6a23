//! Output of the decoder: UDP datagrams and pieces of TCP byte streams.

use crate::net::{Endpoint, Flow};
use crate::time::Timestamp;

/// Receives each item as soon as it is completely decoded.
pub(crate) type DecodedSink<'s> = dyn FnMut(DecodedItem<'_>) + 's;

/// A UDP datagram. It was taken out of tunnels and reassembled from its fragments.
#[derive(Clone, Copy, Debug)]
pub struct UdpDatagram<'a> {
    /// Capture time of the datagram, or of the fragment that completed it.
    pub at: Timestamp,
    /// Endpoint that sent the datagram.
    pub src: Endpoint,
    /// Endpoint that receives the datagram.
    pub dst: Endpoint,
    /// The captured bytes of the UDP payload.
    pub payload: &'a [u8],
    /// Length of the payload on the wire, bytes. Larger than `payload.len()` if the capture truncated it.
    pub wire_len: u32,
    /// Index of the network interface that captured the datagram.
    pub interface: u32,
}

impl UdpDatagram<'_> {
    /// Returns source and destination of the datagram.
    #[inline]
    pub const fn flow(&self) -> Flow {
        Flow { src: self.src, dst: self.dst }
    }
}

/// An event in one direction of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpStreamEvent<'a> {
    /// The next bytes of the stream, in order.
    Data(&'a [u8]),
    /// Bytes of the stream are lost here. The reader must search for the beginning of the next message.
    Gap,
    /// This direction was closed or reset, or its state was dropped to make room.
    End,
}

/// The next part of a TCP byte stream, in order.
#[derive(Clone, Copy, Debug)]
pub struct TcpStreamChunk<'a> {
    /// Capture time of the segment with these bytes. Bytes that waited for an earlier segment keep their own time, so
    /// this time can be up to 3 s before the current frame.
    pub at: Timestamp,
    /// Endpoint that sends the stream.
    pub src: Endpoint,
    /// Endpoint that receives the stream.
    pub dst: Endpoint,
    /// The bytes, a gap, or the end of the stream.
    pub event: TcpStreamEvent<'a>,
    /// Index of the network interface that captured the segment.
    pub interface: u32,
}

/// An item that the decoder made from frames.
#[derive(Clone, Copy, Debug)]
pub enum DecodedItem<'a> {
    /// A UDP datagram that is complete.
    Datagram(UdpDatagram<'a>),
    /// A piece of a TCP stream that may carry SIP.
    Stream(TcpStreamChunk<'a>),
}
