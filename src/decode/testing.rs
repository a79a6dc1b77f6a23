//! Frames in, a comparable list of what was decoded out.

use super::{Counters, Decoded, Decoder, StreamEvent};
use crate::capture::{Frame, LinkType};
use crate::time::Timestamp;

/// One decoded piece as a test compares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) src: String,
    pub(super) dst: String,
    pub(super) what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    Datagram(Vec<u8>),
    Data(Vec<u8>),
    Gap,
    End,
}

impl Seen {
    pub(super) fn datagram(src: &str, dst: &str, payload: &[u8]) -> Self {
        Self { src: src.into(), dst: dst.into(), what: What::Datagram(payload.to_vec()) }
    }
}

impl From<Decoded<'_>> for Seen {
    fn from(decoded: Decoded<'_>) -> Self {
        let (src, dst, what) = match decoded {
            Decoded::Datagram(d) => (d.src, d.dst, What::Datagram(d.payload.to_vec())),
            Decoded::Stream(s) => {
                let what = match s.event {
                    StreamEvent::Data(bytes) => What::Data(bytes.to_vec()),
                    StreamEvent::Gap => What::Gap,
                    StreamEvent::End => What::End,
                };
                (s.src, s.dst, what)
            }
        };
        Self { src: src.to_string(), dst: dst.to_string(), what }
    }
}

/// Ethernet frames, all at one moment.
pub(super) fn decode(frames: &[Vec<u8>]) -> (Vec<Seen>, Counters) {
    decode_link(LinkType::Ethernet, frames)
}

pub(super) fn decode_link(link: LinkType, frames: &[Vec<u8>]) -> (Vec<Seen>, Counters) {
    let timed: Vec<(i64, Vec<u8>)> = frames.iter().map(|f| (0, f.clone())).collect();
    decode_at(link, &timed)
}

/// Frames with their times in ms.
pub(super) fn decode_at(link: LinkType, frames: &[(i64, Vec<u8>)]) -> (Vec<Seen>, Counters) {
    let mut decoder = Decoder::new();
    let mut seen = Vec::new();
    for (ms, data) in frames {
        let at = Timestamp::from_secs(1_000_000).offset(ms * 1_000_000);
        let frame = Frame { at, link, interface: 0, orig_len: data.len() as u32, data };
        decoder.handle_frame(&frame, &mut |d| seen.push(d.into()));
    }
    (seen, *decoder.counters())
}
