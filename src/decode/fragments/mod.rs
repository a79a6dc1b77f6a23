//! IP fragments put together (RFC 791 section 3.2, RFC 8200 section 4.5, RFC 5722).
//!
//! Invariants: pieces of one datagram never overlap and are sorted; memory is bounded in bytes, datagrams and
//! age; a datagram that misses a piece holds up nothing but itself. IPv4: where fragments overlap the first one
//! wins; IPv6: the datagram is dropped. An exact copy of a piece is harmless in both.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use foldhash::fast::RandomState;

use super::counters::DecodeCounters;
use crate::net::Endpoint;
use crate::time::Timestamp;

/// Which datagram a fragment belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FragmentKey {
    pub(super) src: Endpoint,
    pub(super) dst: Endpoint,
    pub(super) id: u32,
    pub(super) family: FragmentFamily,
}

/// IPv4 tells datagrams of different protocols apart, IPv6 does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum FragmentFamily {
    V4 { protocol: u8 },
    V6,
}

/// One fragment.
#[derive(Clone, Copy, Debug)]
pub(super) struct IpFragment<'a> {
    /// Where its bytes belong in the datagram.
    pub(super) offset: u32,
    /// Whether others follow it.
    pub(super) more: bool,
    /// The protocol that its header names; that of the first fragment counts.
    pub(super) protocol: u8,
    pub(super) bytes: &'a [u8],
}

/// A datagram that is whole now. Its buffer goes back with [`FragmentReassembler::recycle`].
#[derive(Debug)]
pub(super) struct ReassembledPayload {
    pub(super) protocol: u8,
    pub(super) bytes: Vec<u8>,
}

/// How much may be kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct FragmentLimits {
    pub(super) bytes: usize,
    pub(super) datagrams: usize,
    pub(super) age: Duration,
}

/// All datagrams that are not whole yet.
#[derive(Debug)]
pub(super) struct FragmentReassembler {
    bounds: FragmentLimits,
    datagrams: HashMap<FragmentKey, PartialDatagram, RandomState>,
    /// In the order in which they began; keys of datagrams that are gone are skipped.
    order: VecDeque<(Timestamp, FragmentKey)>,
    bytes: usize,
    spare: Vec<u8>,
}

#[derive(Debug)]
struct PartialDatagram {
    began: Timestamp,
    state: ReassemblyState,
}

#[derive(Debug)]
enum ReassemblyState {
    Open {
        pieces: Vec<FragmentPiece>,
        end: Option<u32>,
        protocol: u8,
    },
    /// Put together at this moment: a copy of its fragments by the mirror must not begin it anew.
    Done(Timestamp),
    /// Has overlapping fragments: all of it is dropped until its age is over (RFC 5722 section 4).
    Poisoned,
}

#[derive(Debug)]
struct FragmentPiece {
    start: u32,
    bytes: Vec<u8>,
}

impl FragmentPiece {
    fn end(&self) -> u32 {
        self.start + self.bytes.len() as u32
    }
}

impl FragmentReassembler {
    pub(super) fn new(bounds: FragmentLimits) -> Self {
        Self { bounds, datagrams: HashMap::default(), order: VecDeque::new(), bytes: 0, spare: Vec::new() }
    }

    /// Takes a fragment; gives the datagram when this one completed it.
    pub(super) fn insert(
        &mut self,
        at: Timestamp,
        key: FragmentKey,
        fragment: IpFragment<'_>,
        c: &mut DecodeCounters,
    ) -> Option<ReassembledPayload> {
        let end = fragment.offset as usize + fragment.bytes.len();
        let ragged = fragment.more && !fragment.bytes.len().is_multiple_of(8);
        if fragment.bytes.is_empty() || ragged || end > MAX_DATAGRAM_BYTES {
            c.dropped.bad_fragment += 1;
            return None;
        }
        self.start_anew_if_id_was_reused(at, key, c);
        if !self.datagrams.contains_key(&key) {
            self.begin(at, key, c);
        }
        let datagram = self.datagrams.get_mut(&key)?;
        let ReassemblyState::Open { pieces, end: known_end, protocol } = &mut datagram.state else { return None };
        if fragment.offset == 0 {
            *protocol = fragment.protocol;
        }
        if !fragment.more && known_end.is_none() {
            *known_end = Some(end as u32);
        }
        let before: usize = pieces.iter().map(|p| p.bytes.len() + PIECE_OVERHEAD).sum();
        let added = add_piece(pieces, &fragment);
        let after: usize = pieces.iter().map(|p| p.bytes.len() + PIECE_OVERHEAD).sum();
        self.bytes += after - before;
        if added == FragmentInsertion::Overlapped && key.family == FragmentFamily::V6 {
            self.bytes -= after;
            datagram.state = ReassemblyState::Poisoned;
            c.dropped.overlapping_fragments += 1;
            return None;
        }
        if !is_whole(pieces, *known_end) {
            if pieces.len() > MAX_PIECES {
                self.remove(key);
                c.dropped.fragment_limit += 1;
            }
            self.make_room(c);
            return None;
        }
        let mut bytes = std::mem::take(&mut self.spare);
        bytes.clear();
        let whole_end = known_end.map_or(0, |e| e as usize);
        pieces.iter().for_each(|piece| bytes.extend_from_slice(&piece.bytes));
        bytes.truncate(whole_end);
        let protocol = *protocol;
        self.bytes -= after;
        datagram.state = ReassemblyState::Done(at);
        c.reassembled += 1;
        Some(ReassembledPayload { protocol, bytes })
    }

    /// Gives a buffer back, so that the next datagram needs no allocation.
    pub(super) fn recycle(&mut self, whole: ReassembledPayload) {
        if self.spare.capacity() < whole.bytes.capacity() {
            self.spare = whole.bytes;
        }
    }

    /// Forgets what is too old at this moment.
    pub(super) fn expire(&mut self, now: Timestamp, c: &mut DecodeCounters) {
        while let Some((began, key)) = self.order.front().copied() {
            if now.since(began) < self.bounds.age {
                break;
            }
            self.order.pop_front();
            if self.datagrams.get(&key).is_some_and(|d| d.began == began)
                && matches!(self.remove(key), Some(ReassemblyState::Open { .. }))
            {
                c.dropped.fragment_timeout += 1;
            }
        }
    }

    /// After a whole datagram the same id may come again: as a copy within the mirror's delay, as a new datagram after it.
    fn start_anew_if_id_was_reused(&mut self, at: Timestamp, key: FragmentKey, c: &mut DecodeCounters) {
        let Some(datagram) = self.datagrams.get(&key) else { return };
        let reused = match datagram.state {
            ReassemblyState::Done(done) => at.since(done) > super::duplicates::WINDOW,
            _ => at.since(datagram.began) >= self.bounds.age,
        };
        if reused && matches!(self.remove(key), Some(ReassemblyState::Open { .. })) {
            c.dropped.fragment_timeout += 1;
        }
    }

    fn begin(&mut self, at: Timestamp, key: FragmentKey, c: &mut DecodeCounters) {
        while self.order.len() >= self.bounds.datagrams {
            self.drop_oldest(c);
        }
        self.order.push_back((at, key));
        let state = ReassemblyState::Open { pieces: Vec::new(), end: None, protocol: 0 };
        self.datagrams.insert(key, PartialDatagram { began: at, state });
    }

    fn make_room(&mut self, c: &mut DecodeCounters) {
        while self.bytes > self.bounds.bytes && !self.order.is_empty() {
            self.drop_oldest(c);
        }
    }

    fn drop_oldest(&mut self, c: &mut DecodeCounters) {
        let Some((began, key)) = self.order.pop_front() else { return };
        if self.datagrams.get(&key).is_some_and(|d| d.began == began)
            && matches!(self.remove(key), Some(ReassemblyState::Open { .. }))
        {
            c.dropped.fragment_limit += 1;
        }
    }

    fn remove(&mut self, key: FragmentKey) -> Option<ReassemblyState> {
        let state = self.datagrams.remove(&key)?.state;
        if let ReassemblyState::Open { pieces, .. } = &state {
            self.bytes -= pieces.iter().map(|p| p.bytes.len() + PIECE_OVERHEAD).sum::<usize>();
        }
        Some(state)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FragmentInsertion {
    New,
    Copy,
    Overlapped,
}

/// Puts in what is not covered yet.
fn add_piece(pieces: &mut Vec<FragmentPiece>, fragment: &IpFragment<'_>) -> FragmentInsertion {
    let (start, end) = (fragment.offset, fragment.offset + fragment.bytes.len() as u32);
    let first = pieces.partition_point(|p| p.end() <= start);
    let touched = pieces[first..].iter().take_while(|p| p.start < end).count();
    if touched == 0 {
        pieces.insert(first, FragmentPiece { start, bytes: fragment.bytes.to_vec() });
        return FragmentInsertion::New;
    }
    let same = &pieces[first];
    if same.start == start && same.bytes == fragment.bytes {
        return FragmentInsertion::Copy;
    }
    // The first wins: only the parts between the pieces that are here are new.
    let mut fresh = Vec::new();
    let mut from = start;
    for piece in &pieces[first..first + touched] {
        if from < piece.start {
            fresh.push((from, piece.start));
        }
        from = piece.end();
    }
    if from < end {
        fresh.push((from, end));
    }
    for (from, to) in fresh {
        let bytes = fragment.bytes[(from - start) as usize..(to - start) as usize].to_vec();
        pieces.push(FragmentPiece { start: from, bytes });
    }
    pieces.sort_unstable_by_key(|p| p.start);
    FragmentInsertion::Overlapped
}

fn is_whole(pieces: &[FragmentPiece], end: Option<u32>) -> bool {
    let Some(end) = end else { return false };
    let mut covered = 0;
    for piece in pieces {
        if piece.start > covered {
            return false;
        }
        covered = piece.end();
    }
    covered >= end
}

/// The largest payload that an IP length can tell.
const MAX_DATAGRAM_BYTES: usize = 65_535;
/// What a piece costs besides its bytes.
const PIECE_OVERHEAD: usize = 48;
/// A 64 KiB datagram over the smallest IPv4 MTU that is in use (576) has 119 pieces.
const MAX_PIECES: usize = 256;

#[cfg(test)]
mod tests;
