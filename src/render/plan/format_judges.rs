//! Finds payloads with another format than announced: G.726 with the code words in another order, and G.711 in the
//! other companding law.

use std::sync::Arc;

use crate::call::decision::PayloadFormat;
use crate::codec::Codec;
use crate::net::PayloadType;
use crate::render::codec::g726::PackingJudge;
use crate::render::codec::law::LawJudge;
use crate::render::packet::{self, CapturedPayload};
use crate::spool::reader::PacketEntry;

/// The formats of a stream that its payloads may deviate from.
#[derive(Debug, Default)]
pub(super) struct FormatJudges {
    formats: Vec<ExaminedFormat>,
    /// Number of packets that are left out before the next is examined; `None` if the true format of the last packet's
    /// payload type is known.
    left_out: Option<u32>,
}

#[derive(Debug)]
struct ExaminedFormat {
    pt: PayloadType,
    format: Arc<PayloadFormat>,
    judge: FormatJudge,
}

#[derive(Debug)]
enum FormatJudge {
    Packing(Box<PackingJudge>),
    Law(LawJudge),
}

impl FormatJudges {
    /// Notes that the next packets have this format.
    pub(super) fn note_format(&mut self, format: &PayloadFormat) {
        self.left_out = FormatJudge::new(format).map(|_| 0);
    }

    /// Examines the payload of a packet, unless it is left out or the true format is known.
    #[inline]
    pub(super) fn handle_packet(&mut self, pt: PayloadType, format: &Arc<PayloadFormat>, packet: &PacketEntry<'_>) {
        if let Some(left_out) = self.left_out {
            self.left_out = if left_out > 0 { Some(left_out - 1) } else { self.examine(pt, format, packet) };
        }
    }

    /// Returns the formats that the payloads deviate from, each with their true format.
    pub(super) fn corrections(&self) -> Vec<(Arc<PayloadFormat>, Arc<PayloadFormat>)> {
        let found = self.formats.iter().filter_map(|ExaminedFormat { format, judge, .. }| {
            let encoding = judge.true_codec()?.name().to_owned();
            Some((Arc::clone(format), Arc::new(PayloadFormat { encoding, ..PayloadFormat::clone(format) })))
        });
        found.collect()
    }

    fn examine(&mut self, pt: PayloadType, format: &Arc<PayloadFormat>, packet: &PacketEntry<'_>) -> Option<u32> {
        let is_it = |known: &ExaminedFormat| known.pt == pt && Arc::ptr_eq(&known.format, format);
        let index = match self.formats.iter().position(is_it) {
            Some(index) => index,
            None if self.formats.len() < MAX_FORMATS => {
                let judge = FormatJudge::new(format)?;
                self.formats.push(ExaminedFormat { pt, format: Arc::clone(format), judge });
                self.formats.len() - 1
            }
            None => return None,
        };
        match packet::read_payload(packet) {
            CapturedPayload::Whole(payload) => self.formats[index].judge.handle_payload(payload),
            _ => Some(0),
        }
    }
}

impl FormatJudge {
    fn new(format: &PayloadFormat) -> Option<Self> {
        let law = || LawJudge::new(format).map(Self::Law);
        PackingJudge::new(format).map(|judge| Self::Packing(Box::new(judge))).or_else(law)
    }

    /// Examines a payload. Returns the number of payloads that may be left out before the next; `None` if no further
    /// payload can change the result.
    fn handle_payload(&mut self, payload: &[u8]) -> Option<u32> {
        match self {
            Self::Packing(judge) => {
                judge.handle_payload(payload);
                Some(0)
            }
            Self::Law(judge) => judge.handle_payload(payload),
        }
    }

    fn true_codec(&self) -> Option<Codec> {
        match self {
            Self::Packing(judge) => judge.true_codec(),
            Self::Law(judge) => judge.true_codec(),
        }
    }
}

/// Maximum number of formats of a stream that are examined. A call has one or two.
const MAX_FORMATS: usize = 4;
