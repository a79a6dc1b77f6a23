//! Test helpers: decode frames to a list that tests can compare.

use super::{DecodeCounters, DecodedItem, FrameDecoder, TcpStreamEvent};
use crate::capture::{CapturedFrame, LinkType};
use crate::time::Timestamp;

/// A decoded item (datagram or part of a stream) in a form that tests can compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DecodedRecord {
    pub(super) src: String,
    pub(super) dst: String,
    pub(super) what: DecodedContent,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DecodedContent {
    Datagram(Vec<u8>),
    Data(Vec<u8>),
    Gap,
    End,
}

impl DecodedRecord {
    pub(super) fn datagram(src: &str, dst: &str, payload: &[u8]) -> Self {
        Self { src: src.into(), dst: dst.into(), what: DecodedContent::Datagram(payload.to_vec()) }
    }
}

impl From<DecodedItem<'_>> for DecodedRecord {
    fn from(decoded: DecodedItem<'_>) -> Self {
        let (src, dst, what) = match decoded {
            DecodedItem::Datagram(d) => (d.src, d.dst, DecodedContent::Datagram(d.payload.to_vec())),
            DecodedItem::Stream(s) => {
                let what = match s.event {
                    TcpStreamEvent::Data(bytes) => DecodedContent::Data(bytes.to_vec()),
                    TcpStreamEvent::Gap => DecodedContent::Gap,
                    TcpStreamEvent::End => DecodedContent::End,
                };
                (s.src, s.dst, what)
            }
        };
        Self { src: src.to_string(), dst: dst.to_string(), what }
    }
}

/// Decodes Ethernet frames, all with the same capture time.
pub(super) fn decode(frames: &[Vec<u8>]) -> (Vec<DecodedRecord>, DecodeCounters) {
    decode_link(LinkType::Ethernet, frames)
}

pub(super) fn decode_link(link: LinkType, frames: &[Vec<u8>]) -> (Vec<DecodedRecord>, DecodeCounters) {
    let timed: Vec<(i64, Vec<u8>)> = frames.iter().map(|f| (0, f.clone())).collect();
    decode_at(link, &timed)
}

/// Decodes frames, each with its capture time in ms.
pub(super) fn decode_at(link: LinkType, frames: &[(i64, Vec<u8>)]) -> (Vec<DecodedRecord>, DecodeCounters) {
    let mut decoder = FrameDecoder::new();
    let mut seen = Vec::new();
    for (ms, data) in frames {
        let at = Timestamp::from_secs(1_000_000).offset(ms * 1_000_000);
        let frame = CapturedFrame { at, link, interface: 0, orig_len: data.len() as u32, data };
        decoder.handle_frame(&frame, &mut |d| seen.push(d.into()));
    }
    (seen, *decoder.counters())
}
