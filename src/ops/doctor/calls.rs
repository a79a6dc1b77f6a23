//! What the calls of a mirror came to: which were heard, on how many sides, with what keys and codecs.
//!
//! The engine decides; this counts its decisions (it stands where the spool would) and its ended calls.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::call::decision::{Decision, PayloadFormat, Unreadable};
use crate::call::event::{CallEvent, EndedCall, Keep, LegId, LegSink};
use crate::call::record::Side;
use crate::decode::Datagram;
use crate::render::codec::decoder_for;
use crate::time::Timestamp;

/// Counts calls and what was decided about their streams. Keeps no packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Calls, open ones at the end of the look included.
    pub all: u64,
    /// Answered and long enough to hear something of them.
    pub talked: u64,
    /// Of these, with RTP of both sides.
    pub both_sides: u64,
    /// Of these, with RTP of one side.
    pub one_side: u64,
    /// Of these, with no RTP at all.
    pub silent: u64,
    /// Streams of SRTP whose keys the signalling shows.
    pub with_keys: u64,
    /// Streams whose keys were agreed over DTLS.
    pub dtls: u64,
    /// Streams of ZRTP.
    pub zrtp: u64,
    /// Streams of SRTP whose keys the mirror did not show.
    pub no_keys: u64,
    /// Those of them whose keys may still be shown: the sender's answer had not been seen yet.
    pub(super) keyless: BTreeSet<(LegId, u32)>,
    /// Streams by encoding names for which there is no decoder.
    pub unknown_codecs: BTreeMap<String, u64>,
}

impl Calls {
    /// Takes in what the engine tells the outside.
    pub fn handle_event(&mut self, event: &CallEvent) {
        let CallEvent::Ended(ended) = event else { return };
        self.all += 1;
        if talked(ended) {
            self.talked += 1;
            let record = &ended.record;
            let heard = |side: Side| u64::from(record.sides.get(side).packets > 0);
            match heard(Side::Caller) + heard(Side::Callee) {
                0 => self.silent += 1,
                1 => self.one_side += 1,
                _ => self.both_sides += 1,
            }
        }
    }

    fn note_format(&mut self, format: &PayloadFormat) {
        let name: String = format.encoding.chars().filter(char::is_ascii_graphic).take(MAX_NAME).collect();
        // Events are no sound, and redundancy holds a payload of another type.
        let has_sound = !matches!(name.as_str(), "TELEPHONE-EVENT" | "RED");
        let has_room = self.unknown_codecs.len() < MAX_CODECS || self.unknown_codecs.contains_key(&name);
        if has_sound && has_room && decoder_for(format).is_none() {
            *self.unknown_codecs.entry(name).or_default() += 1;
        }
    }
}

impl LegSink for Calls {
    fn open(&mut self, _leg: LegId, _name: &str) {}
    fn packet(&mut self, _leg: LegId, _datagram: &Datagram<'_>, _keep: Keep) {}
    fn decide(&mut self, leg: LegId, _at: Timestamp, decision: &Decision) {
        if let Decision::Srtp { stream, .. } | Decision::Plain { stream } = decision
            && self.keyless.remove(&(leg, *stream))
        {
            self.no_keys -= 1;
        }
        match decision {
            Decision::Payload { format: Some(format), .. } => self.note_format(format),
            Decision::Srtp { .. } => self.with_keys += 1,
            Decision::Encrypted { why: Unreadable::DtlsSrtp, .. } => self.dtls += 1,
            Decision::Encrypted { why: Unreadable::Zrtp, .. } => self.zrtp += 1,
            Decision::Encrypted { why: Unreadable::NoKeys, stream } => {
                self.no_keys += u64::from(self.keyless.insert((leg, *stream)));
            }
            _ => {}
        }
    }
    fn close(&mut self, leg: LegId) {
        self.keyless.retain(|(of, _)| *of != leg);
    }
    fn discard(&mut self, leg: LegId) {
        self.close(leg);
    }
}

/// Whether the call was answered long enough ago that media must have come.
fn talked(ended: &EndedCall) -> bool {
    let record = &ended.record;
    match (record.answered_at, record.ended_at) {
        (Some(answered), Some(end)) => end.since(answered) >= TALK,
        _ => false,
    }
}

/// Media begins within some hundred ms of an answer.
const TALK: Duration = Duration::from_secs(2);
/// Encoding names that are kept apart; what an SDP can invent must not fill the memory.
const MAX_CODECS: usize = 32;
/// Longer than any registered encoding name.
const MAX_NAME: usize = 24;
