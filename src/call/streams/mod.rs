//! RTP streams of a leg. The packets with one SSRC on one flow are a stream (RFC 3550).
//!
//! An [`RtpStream`] has several parts, and each part has a file. The fields of a part are visible to these files only:
//!
//! - `received`: sequence numbers and times of the packets. A packet enters the stream here.
//! - `payload_formats`: the payload types of the packets, and their formats.
//! - `payload_doubt`: payload types with an announced format that may be wrong.
//! - `voice`: the codec and the loudness of the voice.
//! - `continuation`: the stream after a restart, or with another SSRC.
//! - `update`: changes that the engine writes to the spool.
//! - `statistics`: statistics for the call record.

mod continuation;
mod payload_doubt;
mod payload_formats;
mod received;
mod statistics;
mod update;
mod voice;

pub(crate) use received::PacketOutcome;
pub(crate) use statistics::side_record;
pub(crate) use update::CodecContinuity;

use payload_formats::PayloadFormats;
use received::ReceivedPackets;
use update::ReportedState;

use crate::call::content::StreamWatch;
use crate::call::decision::Decision;
use crate::call::keys::LegKey;
use crate::call::record::Side;
use crate::net::{Endpoint, Flow, Ssrc};
use crate::time::Timestamp;

/// An RTP stream: the packets with one SSRC on one flow.
#[derive(Clone, Debug)]
pub(crate) struct RtpStream {
    /// Endpoint that sends the stream's packets.
    pub(crate) src: Endpoint,
    /// Endpoint that receives the stream's packets.
    pub(crate) dst: Endpoint,
    /// SSRC of the stream's packets.
    pub(crate) ssrc: Ssrc,
    /// Side that is heard in this stream, i.e. its channel in the recording. It is the side that sends the stream,
    /// except for the second m-line of a recording session (SIPREC).
    pub(crate) side: Side,
    /// Side that sends the stream's packets.
    pub(crate) sender: Side,
    /// Number of the audio m-line to which the stream belongs, counted from 0. It is also 0 for the second m-line of a
    /// recording session, because that m-line is the main sound of the other party.
    pub(crate) line: u8,
    received: ReceivedPackets,
    formats: PayloadFormats,
    reported: ReportedState,
    /// Streams that may contain the same packets as this stream, e.g. because the mirror shows them twice.
    pub(crate) copies: StreamCopies,
    /// Facts about the beginning of the stream that its packets do not show.
    pub(crate) beginning: StreamBeginning,
    /// Running comparison of this stream's voice with other streams, which finds legs with the same sound; `None` if
    /// none is running.
    pub(crate) watch: Option<StreamWatch>,
}

/// Facts about the beginning of a stream that its packets do not show.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StreamBeginning {
    /// For source and destination of the stream: whether a session description of the leg had announced the endpoint.
    pub(crate) announced: [bool; 2],
    /// Capture time of the event media move that the stream caused; `None` if there was no such event.
    pub(crate) moved_at: Option<Timestamp>,
}

/// Streams that may contain the same packets as this stream, e.g. because the mirror shows packets before and after NAT.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StreamCopies {
    /// Leg to which this stream belonged before. Copies of its earlier packets may arrive until the given capture time.
    pub(crate) taken_over: Option<(LegKey, Timestamp)>,
    /// Index of an earlier stream of the leg with the same SSRC and side on another flow. The two streams may have the
    /// same packets, if the mirror shows packets before and after a NAT or relay.
    pub(crate) twin: Option<usize>,
}

/// The endpoint of a stream at one side of the leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamEnd {
    /// Address and port that the stream uses at this side: its source or its destination.
    pub(crate) endpoint: Endpoint,
    /// Whether a session description of the leg had announced this endpoint when the stream began.
    pub(crate) was_announced: bool,
}

impl RtpStream {
    /// Creates a stream without packets. `flow` is source and destination.
    pub(crate) fn new(flow: Flow, ssrc: Ssrc, side: Side) -> Self {
        Self {
            src: flow.src,
            dst: flow.dst,
            ssrc,
            side,
            sender: side,
            line: 0,
            received: ReceivedPackets::default(),
            formats: PayloadFormats::default(),
            reported: ReportedState::default(),
            copies: StreamCopies::default(),
            beginning: StreamBeginning::default(),
            watch: None,
        }
    }

    /// Returns the decision about how the stream began; `None` if nothing about it is unusual.
    pub(crate) fn origin(&self, stream: u32) -> Option<Decision> {
        let (sender, StreamBeginning { announced, moved_at }) = (self.sender, self.beginning);
        let is_usual = sender == self.side && announced == [false, false] && moved_at.is_none();
        let moved_at_ns = moved_at.map(Timestamp::as_nanos);
        (!is_usual).then_some(Decision::StreamOrigin { stream, sender, announced, moved_at_ns })
    }

    /// Returns the endpoint of the stream at a side of its leg.
    pub(crate) fn end_of(&self, side: Side) -> StreamEnd {
        let [src, dst] = self.beginning.announced;
        if self.sender == side {
            StreamEnd { endpoint: self.src, was_announced: src }
        } else {
            StreamEnd { endpoint: self.dst, was_announced: dst }
        }
    }

    /// Returns whether the stream has this flow and SSRC.
    pub(crate) fn is_stream(&self, flow: Flow, ssrc: Ssrc) -> bool {
        self.ssrc == ssrc && self.flow() == flow
    }

    /// Returns source and destination of the stream's packets.
    pub(crate) const fn flow(&self) -> Flow {
        Flow { src: self.src, dst: self.dst }
    }

    /// Reads fields that the next packet needs, so that the processor loads their memory into its cache.
    #[cfg(feature = "service")]
    #[inline]
    pub(crate) fn prefetch(&self) {
        let Self { src, dst, ssrc, received, formats, copies, watch, .. } = self;
        std::hint::black_box((
            src.port(),
            dst.port(),
            *ssrc,
            received.voice_bytes,
            formats.current,
            copies.twin,
            watch.is_some(),
        ));
        received.stats.prefetch();
    }
}
