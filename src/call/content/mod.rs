//! Evidence from media content: finds legs that carry the same sound. It compares *fingerprints*, i.e. hashes of short
//! blocks of voice payload.
//!
//! A machine that relays media without transcoding sends the bytes that it received. So a block of voice arrives on one
//! leg and leaves on another leg within [`RELAY_WINDOW_MS`]. Enough such blocks prove a *relay* between the two legs. A
//! block proves nothing if it leaves on two legs, or if it recurs (silence, tones, music on hold).
//!
//! A *watch* is the comparison of the blocks of one stream during a few seconds.
//!
//! Invariants:
//! - One block in eight is compared. Its first bytes decide this, so that both legs select the same blocks.
//! - A watch ends after [`WATCH_BUDGET`] selected blocks, or after [`WATCH_TIME`] if the stream is mostly silent.
//! - The table of blocks has a fixed size. If a row (bucket) of the table is full, evidence is lost, but no wrong
//!   evidence arises.
//! - A match is withdrawn if its block recurs in its own stream. It is also withdrawn if a third stream contains the
//!   block, and no machine passes the block on to this stream.

mod sketch;

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::call::event::LegId;
use crate::call::keys::LegKey;
use crate::call::record::Side;
use crate::codec::Codec;
use crate::net::{Endpoint, PayloadType};
use crate::time::Timestamp;

pub(crate) use sketch::{SketchedVoice, VoiceSketch};

/// The comparison of a stream's voice with other streams (a *watch*). It lasts a few seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamWatch {
    /// Number that identifies this comparison, counted from 1.
    id: NonZeroU32,
    /// Payload type of the voice. Packets with other payload types are ignored.
    pub(crate) pt: PayloadType,
    /// Length of the pieces (blocks) into which a voice payload is cut for comparison, bytes. 0 if each whole payload
    /// is one block.
    block: u16,
    /// Capture time at which the comparison ends even if too few pieces of voice were compared, e.g. because the stream
    /// is mostly silent.
    until: Timestamp,
}

/// The leg of a stream, and the addresses of its sender and receiver. They show which machine may relay the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamEnds {
    /// Id of the stream's leg.
    pub(crate) leg: LegId,
    /// Key of the stream's leg in the call table.
    pub(crate) slot: LegKey,
    /// Side of the leg that sends the stream.
    pub(crate) sender: Side,
    /// Two addresses of the sender: of its media, and of its signalling. If a machine has several addresses, one of
    /// them stands for all.
    pub(crate) from: [Endpoint; 2],
    /// Two addresses of the receiver: of its media, and of its signalling.
    pub(crate) to: [Endpoint; 2],
}

/// The packets of a stream that are compared as its voice: packets with one payload type, i.e. one encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WatchedVoice<'a> {
    /// Payload type of the packets with the voice.
    pub(crate) pt: PayloadType,
    /// Encoding name of the payload format, e.g. `PCMA`.
    pub(crate) encoding: &'a str,
}

/// A leg to which or from which a machine relays sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RelayLeg {
    /// Id of the leg.
    pub(crate) id: LegId,
    /// Key of the leg in the table of calls. Another leg may have it later.
    pub(crate) key: LegKey,
    pub(crate) side: Side,
}

/// A proven relay: a machine receives the sound on the leg `cause` and sends it on the leg `effect`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProvenRelay {
    /// Leg on which the machine received the sound. The `side` of this value is the side of the leg that sent the
    /// sound.
    pub(crate) cause: RelayLeg,
    /// Leg on which the machine sent the sound on. The side in this value is the machine's end of the leg.
    pub(crate) effect: RelayLeg,
    /// Whether sound was relayed in both directions. This proves that both legs belong to one call.
    pub(crate) is_proof: bool,
    /// Number of equal pieces of voice payload (blocks) on the two legs, in both directions together.
    pub(crate) blocks: u32,
}

/// Result of comparing one voice packet with the voices of other legs.
#[derive(Debug, Default)]
pub(crate) struct ContentFindings {
    /// Relays that this packet has proven, or for which it has given stronger evidence.
    pub(crate) relays: Vec<ProvenRelay>,
    /// Whether the spool must store the number of this leg's compared pieces of voice again. True if the number has
    /// passed a multiple of [`STORED_STEP`].
    pub(crate) is_count_due: bool,
}

/// Hashes of the voices of the compared streams. Equal hashes prove that a machine relays a voice, i.e. passes it on
/// from leg to leg.
#[derive(Debug, Default)]
pub(crate) struct ContentIndex {
    /// Table of the blocks of voice (short pieces of payload) that were captured within the last [`KEPT_MS`]. Empty
    /// until the first stream is compared.
    buckets: Vec<Bucket>,
    watches: HashMap<u32, WatchState, foldhash::fast::FixedState>,
    legs: HashMap<LegId, LegContent, foldhash::fast::FixedState>,
    pairs: HashMap<(LegId, LegId), RelayCounts, foldhash::fast::FixedState>,
    last_id: u32,
}

/// A row of the table with hashes of blocks of voice (short pieces of payload). It has room for four blocks and fills
/// one cache line.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
struct Bucket([BlockSeen; 4]);

/// Hash of a block of voice (a short piece of payload) that was captured within the last [`KEPT_MS`].
#[derive(Clone, Copy, Debug, Default)]
struct BlockSeen {
    tag: u32,
    /// Capture time of this block of voice, ms; wraps at 2^32.
    at_ms: u32,
    /// Number of the stream comparison that found this block of voice before the comparison `last`. If only one
    /// comparison found the block, `before` equals `last`. 0 if the entry is empty.
    before: u32,
    /// Number of the stream comparison that found this block of voice last. It is [`VOID`] if the block cannot prove
    /// that a machine relays a voice.
    last: u32,
}

/// State of the comparison of one stream with other streams.
#[derive(Debug)]
struct WatchState {
    ends: StreamEnds,
    /// Hashes of the newest compared blocks (pieces of payload) of the stream. A new block that equals one of them is a
    /// repetition, and cannot prove that a machine relays the voice.
    recent: [u32; RECENT_BLOCKS],
    /// Number of blocks of voice that this comparison has used so far, at most [`WATCH_BUDGET`].
    spent: u16,
}

/// The running comparisons of a leg's streams, and the other legs with equal blocks of voice, i.e. equal pieces of
/// payload.
#[derive(Debug, Default)]
struct LegContent {
    watches: Vec<u32>,
    partners: Vec<LegId>,
    /// For each side: number of blocks of its voice (short pieces of payload) that were compared. A block that occurred
    /// shortly before in the same stream, e.g. in a tone, does not count.
    voice_blocks: [u32; 2],
}

/// Counts of the equal blocks of voice on two legs. The leg with the lower id is the first leg. Index 0: the block
/// arrived at a machine on the first leg and left on the second leg. Index 1: the reverse.
#[derive(Clone, Copy, Debug, Default)]
struct RelayCounts {
    blocks: [u32; 2],
    /// For each direction, the shortest and the longest delay between equal blocks of voice on the two legs, ms.
    delay_ms: [(u32, u32); 2],
    /// For each direction: whether the receiver of one stream and the sender of the other stream are known to be one
    /// machine.
    is_linked: [bool; 2],
    /// For each of the two legs, the side at which the relaying machine is. `None` before the first equal block of
    /// voice was found.
    machine_sides: Option<[Side; 2]>,
    last_at: Timestamp,
    /// Evidence that a machine relays voice between the two legs, as last reported: 0 not reported, 1 one direction, 2
    /// proof.
    reported: u8,
}

impl RelayCounts {
    const fn total(&self) -> u32 {
        self.blocks[0] + self.blocks[1]
    }

    /// Returns how much the equal blocks of voice prove. 2: both legs belong to one call. 1: a known machine relays one
    /// direction. 0: nothing.
    fn strength(&self) -> u8 {
        let is_steady = |n: usize| self.delay_ms[n].1 - self.delay_ms[n].0 <= STEADY_DELAY_MS;
        let has = |n: usize, least: u32| self.blocks[n] >= least && is_steady(n);
        if self.total() >= BLOCKS_OF_PROOF && has(0, BLOCKS_OF_DIRECTION) && has(1, BLOCKS_OF_DIRECTION) {
            return 2;
        }
        u8::from([0, 1].into_iter().any(|n| has(n, BLOCKS_OF_PROOF) && self.is_linked[n]))
    }
}

impl ContentIndex {
    /// Begins to compare the voice of a stream with the voices of other streams: the hashes of short blocks of payload
    /// must be equal. Ends the earlier comparison `old` of the same stream. Returns `None` if too many streams are
    /// being compared. Also returns `None` for a codec with which equal blocks prove nothing.
    pub(crate) fn watch(
        &mut self,
        old: Option<StreamWatch>,
        ends: StreamEnds,
        voice: WatchedVoice<'_>,
        at: Timestamp,
    ) -> Option<StreamWatch> {
        if let Some(old) = old {
            self.end_watch(old.id.get());
        }
        let block = block_bytes(voice.encoding)?;
        if self.watches.len() >= MAX_WATCHES {
            return None;
        }
        if self.buckets.is_empty() {
            self.buckets = vec![Bucket::default(); BUCKETS];
        }
        self.last_id = if self.last_id >= VOID - 1 { 1 } else { self.last_id + 1 };
        let id = NonZeroU32::new(self.last_id)?;
        self.watches.insert(id.get(), WatchState { ends, recent: [0; RECENT_BLOCKS], spent: 0 });
        self.legs.entry(ends.leg).or_default().watches.push(id.get());
        Some(StreamWatch { id, pt: voice.pt, block, until: at + WATCH_TIME })
    }

    /// Compares the blocks (short pieces) of a voice packet with other streams. Adds the result to `found`. Returns
    /// false if the comparison of this stream is over.
    pub(crate) fn handle_payload(
        &mut self,
        watch: StreamWatch,
        payload: &[u8],
        at: Timestamp,
        found: &mut ContentFindings,
    ) -> bool {
        if at > watch.until {
            self.end_watch(watch.id.get());
            return false;
        }
        let size = if watch.block == 0 { payload.len().max(1) } else { usize::from(watch.block) };
        for block in payload.chunks_exact(size).filter(|block| is_selected(block)) {
            let hash = foldhash::fast::FixedState::with_seed(HASH_SEED).hash_one(block);
            if !self.handle_block(watch.id.get(), hash, at, found) {
                return false;
            }
        }
        true
    }

    /// Removes a leg: ends the comparisons of its streams, and forgets which of its pieces of voice equal pieces of
    /// other legs.
    pub(crate) fn forget_leg(&mut self, leg: LegId) {
        let Some(content) = self.legs.remove(&leg) else { return };
        for id in content.watches {
            self.watches.remove(&id);
        }
        for partner in content.partners {
            self.pairs.remove(&pair_key(leg, partner));
            if let Some(other) = self.legs.get_mut(&partner) {
                other.partners.retain(|known| *known != leg);
            }
        }
    }

    /// Returns for each side of a leg how many blocks of its voice (short pieces of payload) were compared. A block
    /// that occurred shortly before in the same stream, e.g. in a tone, does not count.
    pub(crate) fn voice_blocks(&self, leg: LegId) -> [u32; 2] {
        self.legs.get(&leg).map_or([0; 2], |leg| leg.voice_blocks)
    }

    /// Returns for each side of a leg how many compared blocks of voice (short pieces of payload) the spool must store.
    /// Both are 0 if another leg has an equal block, because the spool does not store which blocks were equal.
    pub(crate) fn unmatched_blocks(&self, leg: LegId) -> [u32; 2] {
        self.legs.get(&leg).filter(|leg| leg.partners.is_empty()).map_or([0; 2], |leg| leg.voice_blocks)
    }

    /// Restores the number of a leg's compared blocks from the spool of an earlier process.
    pub(crate) fn restore_voice_blocks(&mut self, leg: LegId, blocks: [u32; 2]) {
        self.legs.entry(leg).or_default().voice_blocks = blocks;
    }

    /// Returns the number of streams that are being compared, and the number of pairs of legs with equal blocks of
    /// voice.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        (self.watches.len(), self.pairs.len())
    }

    /// Counts the blocks of voice that an earlier process probably compared before it ended. `elapsed` is the time
    /// since that process began the comparison.
    pub(crate) fn count_elapsed(&mut self, watch: StreamWatch, elapsed: Duration) {
        if let Some(watch) = self.watches.get_mut(&watch.id.get()) {
            let spent = elapsed.as_millis() * u128::from(WATCH_BUDGET) / USUAL_WATCH.as_millis();
            watch.spent = u16::try_from(spent).map_or(WATCH_BUDGET - 1, |spent| spent.min(WATCH_BUDGET - 1));
        }
    }

    fn end_watch(&mut self, id: u32) {
        if let Some(watch) = self.watches.remove(&id)
            && let Some(leg) = self.legs.get_mut(&watch.ends.leg)
        {
            leg.watches.retain(|known| *known != id);
        }
    }

    /// Compares one block of a stream's voice (a short piece of payload) with the stored blocks of other streams.
    /// Returns false if the comparison of this stream is over.
    fn handle_block(&mut self, id: u32, hash: u64, at: Timestamp, found: &mut ContentFindings) -> bool {
        let Some(watch) = self.watches.get_mut(&id) else { return false };
        let (tag, now_ms) = ((hash >> 32) as u32, (at.as_nanos() / 1_000_000) as u32);
        let recurs = watch.recent.contains(&tag);
        watch.recent[usize::from(watch.spent) % RECENT_BLOCKS] = tag;
        watch.spent += 1;
        let goes_on = watch.spent < WATCH_BUDGET;
        if !recurs && let Some(leg) = self.legs.get_mut(&watch.ends.leg) {
            let blocks = &mut leg.voice_blocks[watch.ends.sender.channel()];
            *blocks = blocks.saturating_add(1);
            found.is_count_due |= *blocks <= MAX_STORED_BLOCKS && blocks.is_multiple_of(STORED_STEP);
        }
        let Bucket(entries) = &mut self.buckets[hash as usize % BUCKETS];
        let is_fresh = |entry: &BlockSeen| entry.before != 0 && now_ms.wrapping_sub(entry.at_ms) <= KEPT_MS;
        let Some(entry) = entries.iter_mut().find(|entry| entry.tag == tag && is_fresh(entry)) else {
            let oldest = entries.iter_mut().max_by_key(|e| (e.before == 0, now_ms.wrapping_sub(e.at_ms)));
            if let Some(entry) = oldest {
                let last = if recurs { VOID } else { id };
                *entry = BlockSeen { tag, at_ms: now_ms, before: id, last };
            }
            self.end_spent_watch(id, goes_on);
            return goes_on;
        };
        let (before, last, delay_ms) = (entry.before, entry.last, now_ms.wrapping_sub(entry.at_ms));
        let state = |id: u32| self.watches.get(&id).map(|watch| watch.ends);
        let ends = (state(before), state(last), state(id));
        let is_chain = is_chain(ends.0, ends.1, ends.2);
        // A block that recurs in its own stream proves no relay. Neither does a block that occurs in three streams,
        // unless machines relayed it from the first stream to the second and third in turn.
        if last == VOID || recurs || before == id || last == id || (last != before && !is_chain) {
            entry.last = VOID;
            if last != VOID
                && last != before
                && let (Some(before), Some(last), _) = ends
            {
                self.take_back(before, last);
            }
        } else {
            (entry.before, entry.last) = (last, id);
            entry.at_ms = now_ms;
            if delay_ms <= RELAY_WINDOW_MS
                && let (_, Some(last), Some(own)) = ends
            {
                found.relays.extend(self.match_block(last, own, delay_ms, at));
            }
        }
        self.end_spent_watch(id, goes_on);
        goes_on
    }

    fn end_spent_watch(&mut self, id: u32, goes_on: bool) {
        if !goes_on {
            self.end_watch(id);
        }
    }

    /// Counts a block of voice (a short piece of payload) that occurred in two streams. Returns a relay if this block
    /// proves that a machine passes the voice of one stream on in the other, or makes the evidence stronger.
    fn match_block(&mut self, a: StreamEnds, b: StreamEnds, delay_ms: u32, at: Timestamp) -> Option<ProvenRelay> {
        let (cause, effect) = self.oriented_as_before(a, b)?;
        let key = pair_key(cause.leg, effect.leg);
        if !self.pairs.contains_key(&key) && !self.add_pair(key) {
            return None;
        }
        let direction = usize::from(key.0 != cause.leg);
        let counts = self.pairs.entry(key).or_default();
        let (least, most) = counts.delay_ms[direction];
        let is_first = counts.blocks[direction] == 0;
        counts.delay_ms[direction] =
            if is_first { (delay_ms, delay_ms) } else { (least.min(delay_ms), most.max(delay_ms)) };
        counts.blocks[direction] += 1;
        counts.is_linked[direction] |= meets(cause.to, effect.from);
        counts.machine_sides = Some(machine_sides(cause, effect));
        counts.last_at = at;
        let counts = *counts;
        let strength = counts.strength();
        if strength <= counts.reported || !self.is_unique(key, &counts) {
            return None;
        }
        if let Some(counts) = self.pairs.get_mut(&key) {
            counts.reported = strength;
        }
        Some(ProvenRelay {
            cause: RelayLeg { id: cause.leg, key: cause.slot, side: cause.sender },
            effect: RelayLeg { id: effect.leg, key: effect.slot, side: effect.sender },
            is_proof: strength == 2,
            blocks: counts.total(),
        })
    }

    /// Returns the stream that arrives at the relaying machine, then the stream that leaves it.
    ///
    /// Earlier equal blocks decide the order of the two streams, because two interfaces of the mirror port may show
    /// packets in the wrong order.
    fn oriented_as_before(&self, a: StreamEnds, b: StreamEnds) -> Option<(StreamEnds, StreamEnds)> {
        let (cause, effect) = oriented(a, b)?;
        let known = self.pairs.get(&pair_key(a.leg, b.leg)).and_then(|counts| counts.machine_sides);
        let fits = |cause, effect| known.is_none_or(|sides| sides == machine_sides(cause, effect));
        match (fits(cause, effect), fits(effect, cause)) {
            (true, _) => Some((cause, effect)),
            (false, true) => Some((effect, cause)),
            (false, false) => None,
        }
    }

    fn take_back(&mut self, a: StreamEnds, b: StreamEnds) {
        let Some((cause, effect)) = self.oriented_as_before(a, b) else { return };
        let key = pair_key(cause.leg, effect.leg);
        if let Some(counts) = self.pairs.get_mut(&key) {
            let blocks = &mut counts.blocks[usize::from(key.0 != cause.leg)];
            *blocks = blocks.saturating_sub(1);
        }
    }

    fn add_pair(&mut self, key: (LegId, LegId)) -> bool {
        let has_room = |leg: &LegId| self.legs.get(leg).is_some_and(|l| l.partners.len() < MAX_PARTNERS);
        if !has_room(&key.0) || !has_room(&key.1) {
            return false;
        }
        for (leg, partner) in [key, (key.1, key.0)] {
            if let Some(leg) = self.legs.get_mut(&leg) {
                leg.partners.push(partner);
            }
        }
        true
    }

    /// Returns whether no third leg competes with these two legs. A third leg competes if, in the same seconds, it has
    /// at least half as many equal blocks of voice with one of them.
    ///
    /// E.g. machine A relays the voice from leg 1 to leg 2, and machine B relays it on to leg 3. Leg 2 then has equal
    /// blocks with both others. They do not compete, because A and B are at different ends of leg 2.
    fn is_unique(&self, key: (LegId, LegId), counts: &RelayCounts) -> bool {
        let own = counts.machine_sides;
        [(key.0, key.1, 0), (key.1, key.0, 1)].into_iter().all(|(leg, partner, n)| {
            let others = self.legs.get(&leg).map_or(&[][..], |leg| &leg.partners);
            others.iter().filter(|other| **other != partner).all(|other| {
                let key = pair_key(leg, *other);
                let Some(rival) = self.pairs.get(&key) else { return true };
                let side = rival.machine_sides.map(|sides| sides[usize::from(key.0 != leg)]);
                side != own.map(|sides| sides[n])
                    || counts.last_at.since(rival.last_at) > SAME_TIME
                    || rival.total() * 2 < counts.total()
            })
        })
    }
}

/// Returns the side of each leg at which the relaying machine is. The leg with the lower id comes first.
fn machine_sides(cause: StreamEnds, effect: StreamEnds) -> [Side; 2] {
    let sides = [cause.sender.other(), effect.sender];
    if cause.leg < effect.leg { sides } else { [sides[1], sides[0]] }
}

/// Returns the stream that arrives at a relaying machine, and then the stream that leaves it. Returns `None` if both
/// streams come from one sender, go to one receiver, or belong to one leg. A machine that relays one stream as the
/// other receives the first and sends the second, on another leg.
fn oriented(a: StreamEnds, b: StreamEnds) -> Option<(StreamEnds, StreamEnds)> {
    if a.leg == b.leg || a.from[0].same_host(b.from[0]) || a.to[0].same_host(b.to[0]) {
        return None;
    }
    // If only the receiver of `b` can be the sender of `a`, then `b` arrives at the machine and `a` leaves it.
    // Otherwise `a` arrives, because its packet came first. The mirror port may show two interfaces in the wrong order,
    // so the addresses are examined before the order.
    if !meets(a.to, b.from) && meets(b.to, a.from) { Some((b, a)) } else { Some((a, b)) }
}

/// Returns whether the ends `a` and `b` of two streams have a host in common.
fn meets(a: [Endpoint; 2], b: [Endpoint; 2]) -> bool {
    a.iter().any(|a| b.iter().any(|b| a.same_host(*b)))
}

fn pair_key(a: LegId, b: LegId) -> (LegId, LegId) {
    (a.min(b), a.max(b))
}

/// Returns whether machines passed a block of voice on twice in a row: from the stream `before` to `last`, then from
/// `last` to `own`.
///
/// Returns true if the receiver of `last` sent `own`. Also returns true if the sender of `own` neither received
/// `before` nor sent `last`: it may be another address of the receiver of `last`. Otherwise returns false: one machine
/// sent the block on both `last` and `own`, as in a conference.
fn is_chain(before: Option<StreamEnds>, last: Option<StreamEnds>, own: Option<StreamEnds>) -> bool {
    let (Some(last), Some(own)) = (last, own) else { return false };
    let is_elsewhere = before.is_some_and(|before| !meets(before.to, own.from) && !meets(last.from, own.from));
    meets(last.to, own.from) || is_elsewhere
}

/// Returns the length of the blocks into which a voice of this codec is cut for comparison, bytes. It is 10 ms of a
/// codec with a constant bit rate. Returns 0 if whole payloads are compared, and `None` if equal payloads cannot prove
/// a relay.
///
/// Blocks of 10 ms are equal even if the machine changes the length of the packets.
fn block_bytes(encoding: &str) -> Option<u16> {
    match Codec::from_name(encoding)? {
        Codec::Pcmu | Codec::Pcma | Codec::G722 => Some(80),
        Codec::L16 => Some(160),
        Codec::G729 => Some(10),
        codec if codec.accompanies_speech() || codec == Codec::Red => None,
        _ => Some(0),
    }
}

/// Returns whether a block of voice (a short piece of payload) is selected for comparison. Its first bytes select one
/// block in eight. A block of equal bytes is never selected.
fn is_selected(block: &[u8]) -> bool {
    let Some(head) = block.first_chunk::<8>().filter(|_| block.len() >= LEAST_BLOCK) else { return false };
    let head = u64::from_le_bytes(*head);
    head.wrapping_mul(SELECTOR) >> 61 == 0 && head != head.rotate_left(8)
}

/// Number of rows in the table of blocks of voice. A row has places for four blocks, and the table takes 1 MiB. While
/// 1,000 calls are compared, about 15,000 of the 65,536 places are used.
const BUCKETS: usize = 16_384;
/// Marks a block of voice (a short piece of payload) that proves nothing, e.g. because it recurs in its own stream. It
/// is stored in place of the number of the stream comparison.
const VOID: u32 = u32::MAX;
/// Number of further compared blocks of voice of one side after which the new total is stored in the spool.
const STORED_STEP: u32 = 8;
/// Greatest number of compared blocks of voice of one side that is stored in the spool. A greater number shows nothing
/// new.
const MAX_STORED_BLOCKS: u32 = 96;
/// Number of compared blocks of voice after which a comparison is over. They come from about four seconds of voice.
const WATCH_BUDGET: u16 = 48;
/// Usual time for which the voice of one stream is compared with other streams, if the voice makes no pause. Of 100
/// blocks a second, one in eight is compared, so 48 blocks take this time.
pub(crate) const USUAL_WATCH: Duration = Duration::from_millis(3_840);
/// Maximum time for which the voice of one stream is compared with other streams. If the talker is silent for longer,
/// the voice is compared again later.
const WATCH_TIME: Duration = Duration::from_secs(30);
/// Number of the newest blocks (pieces of payload) of a stream that are kept. A new block that equals one of them is a
/// repetition. It does not prove that a machine passes the voice on.
const RECENT_BLOCKS: usize = 32;
/// Maximum time in which a machine passes a packet on, milliseconds. Machines that do not transcode are faster.
const RELAY_WINDOW_MS: u32 = 200;
/// Time for which a block of voice is stored, milliseconds: [`RELAY_WINDOW_MS`] plus the disorder between two capture
/// interfaces.
const KEPT_MS: u32 = 300;
/// Maximum difference between the delays of two legs' equal blocks of voice, ms. A machine delays all packets about
/// equally.
const STEADY_DELAY_MS: u32 = 100;
/// Minimum number of equal blocks of voice that prove that a machine passes the voice on, counted in both directions
/// together.
const BLOCKS_OF_PROOF: u32 = 8;
/// Minimum number of equal blocks of voice in each direction that prove a relay. A machine between two legs relays both
/// directions.
const BLOCKS_OF_DIRECTION: u32 = 3;
/// Time within which equal blocks of voice (short pieces of payload) contradict each other. If a leg has equal blocks
/// with two other legs within this time, these blocks do not prove that a machine passes the voice on.
const SAME_TIME: Duration = Duration::from_secs(5);
/// Maximum number of other legs that are stored for a leg because they have equal pieces of voice.
const MAX_PARTNERS: usize = 4;
/// Maximum number of streams that are compared at the same time: four streams of each of 16,000 calls that begin within
/// four seconds.
const MAX_WATCHES: usize = 65_536;
/// Minimum length of a payload that is compared, bytes. Shorter payloads are silence descriptors.
const LEAST_BLOCK: usize = 10;
/// Seed of the hashes of the blocks of voice. It is constant, so that every run of the program finds the same relays.
const HASH_SEED: u64 = 5;
/// Odd factor that mixes the first bytes of a block (2^64 divided by the golden ratio). The upper bits of the product
/// decide whether the block is selected.
const SELECTOR: u64 = 0x9E37_79B9_7F4A_7C15;

#[cfg(test)]
mod tests;
