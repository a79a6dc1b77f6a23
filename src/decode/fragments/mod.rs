//! Reassembles IP fragments (RFC 791 section 3.2, RFC 8200 section 4.5, RFC 5722).
//!
//! Invariants:
//! - The pieces of a datagram are sorted and never overlap.
//! - Memory is limited in bytes and datagrams, and incomplete datagrams have a maximum age.
//! - A missing fragment delays no other datagram.
//! - Of overlapping IPv4 fragments, the bytes of the fragment received first are used. An IPv6 datagram with
//!   overlapping fragments is dropped.
//! - An exact duplicate of a fragment is ignored.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use foldhash::fast::RandomState;

use super::counters::DecodeCounters;
use crate::net::Endpoint;
use crate::time::Timestamp;

/// Identifies the datagram to which a fragment belongs: addresses, id, and for IPv4 the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FragmentKey {
    pub(super) src: Endpoint,
    pub(super) dst: Endpoint,
    pub(super) id: u32,
    pub(super) family: FragmentFamily,
}

/// The IP version of a fragment. In IPv4 the protocol number is a part of the key, in IPv6 it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum FragmentFamily {
    V4 { protocol: u8 },
    V6,
}

/// One fragment of an IP datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct IpFragment<'a> {
    /// Offset of the fragment in the payload of the datagram, bytes.
    pub(super) offset: u32,
    /// Whether further fragments follow ("more fragments" flag).
    pub(super) more: bool,
    /// Protocol number of the payload. Only the number in the first fragment counts.
    pub(super) protocol: u8,
    pub(super) bytes: &'a [u8],
}

/// The payload of a complete datagram. After use, [`FragmentReassembler::recycle`] takes its buffer back.
#[derive(Debug)]
pub(super) struct ReassembledPayload {
    pub(super) protocol: u8,
    pub(super) bytes: Vec<u8>,
}

/// Limits of reassembly: memory, number of datagrams and age.
#[derive(Clone, Copy, Debug)]
pub(super) struct FragmentLimits {
    pub(super) bytes: usize,
    pub(super) datagrams: usize,
    pub(super) age: Duration,
}

/// Holds the incomplete datagrams until their last fragment arrives.
#[derive(Debug)]
pub(super) struct FragmentReassembler {
    bounds: FragmentLimits,
    datagrams: HashMap<FragmentKey, PartialDatagram, RandomState>,
    /// Start time and key of each datagram, oldest first. Entries of removed datagrams are skipped.
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
    /// The datagram was complete at this time. The entry is kept for a moment, so that duplicates of its fragments do
    /// not start a new datagram.
    Done(Timestamp),
    /// Fragments of the datagram overlap. All its fragments are dropped until the maximum age (RFC 5722 section 4).
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

    /// Adds a fragment. Returns the payload if the datagram is complete now.
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
        self.remove_if_id_was_reused(at, key, c);
        if !self.datagrams.contains_key(&key) {
            self.start_datagram(at, key, c);
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

    /// Takes back the buffer of a payload, so that the next datagram needs no allocation.
    pub(super) fn recycle(&mut self, whole: ReassembledPayload) {
        if self.spare.capacity() < whole.bytes.capacity() {
            self.spare = whole.bytes;
        }
    }

    /// Removes datagrams that are older than the maximum age.
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

    /// Removes an earlier datagram with the same key if the sender uses the IP id again. Fragments that arrive soon
    /// after completion are duplicates; later fragments belong to a new datagram.
    fn remove_if_id_was_reused(&mut self, at: Timestamp, key: FragmentKey, c: &mut DecodeCounters) {
        let Some(datagram) = self.datagrams.get(&key) else { return };
        let reused = match datagram.state {
            ReassemblyState::Done(done) => at.since(done) > super::duplicates::WINDOW,
            _ => at.since(datagram.began) >= self.bounds.age,
        };
        if reused && matches!(self.remove(key), Some(ReassemblyState::Open { .. })) {
            c.dropped.fragment_timeout += 1;
        }
    }

    fn start_datagram(&mut self, at: Timestamp, key: FragmentKey, c: &mut DecodeCounters) {
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

/// Inserts only those bytes of a fragment that no earlier fragment contains.
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
    // Where fragments overlap, the bytes of the fragment received first are used. So only the bytes between existing
    // pieces are new.
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

/// Maximum size of an IP datagram's payload, bytes.
const MAX_DATAGRAM_BYTES: usize = 65_535;
/// Estimated memory, bytes, that a stored piece of a datagram takes in addition to its content.
const PIECE_OVERHEAD: usize = 48;
/// Maximum number of pieces of a datagram. A datagram of 64 KiB over the smallest usual MTU (576) has 119 pieces.
const MAX_PIECES: usize = 256;

#[cfg(test)]
mod tests;
