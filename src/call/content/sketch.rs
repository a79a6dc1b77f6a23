//! Sketches of voices. A *sketch* contains some blocks of a whole voice: the blocks with the lowest hashes (bottom-k
//! sketch). So two recorders choose the same blocks of the same voice, even if one of them heard more of the call. The
//! record stores these hashes as *voice prints*.
//!
//! Invariants:
//! - A sketch depends only on the blocks of the voice and on their first times. The order of arrival does not matter.
//! - A block that repeats, e.g. of a tone or of music on hold, becomes no voice print.
//! - The hash is part of the format of records. It is the same on every computer and in every version.

use super::{block_bytes, is_selected};
use crate::call::content::WatchedVoice;
use crate::call::record::Side;
use crate::call::voice_prints::{VoicePrint, VoicePrints};
use crate::net::PayloadType;
use crate::time::Timestamp;

/// The voice of a stream from which a sketch is made: its payload type, and the length of its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SketchedVoice {
    /// Payload type of the packets with the voice.
    pub(crate) pt: PayloadType,
    /// Length of the pieces (blocks) into which the voice payload is cut, bytes. 0 if each whole payload is one block.
    block: u16,
}

impl SketchedVoice {
    /// Returns the payload type and block length of a voice. Returns `None` if equal blocks of its codec do not prove
    /// an equal voice.
    pub(crate) fn of(voice: WatchedVoice<'_>) -> Option<Self> {
        Some(Self { pt: voice.pt, block: block_bytes(voice.encoding)? })
    }
}

/// Sketch of the two voices of a leg.
#[derive(Debug, Default)]
pub(crate) struct VoiceSketch {
    /// For caller and callee: the blocks of voice with the lowest hashes, in ascending order of the hashes.
    sides: [Vec<SketchedBlock>; 2],
}

/// A short block of a voice's payload that belongs to a sketch, i.e. to the selected blocks of this voice.
#[derive(Clone, Copy, Debug)]
struct SketchedBlock {
    hash: u32,
    /// Capture time of the block of voice, seconds since the Unix epoch.
    second: u32,
    /// Whether the block occurs more than once in the voice. Such a block becomes no voice print.
    recurs: bool,
}

impl VoiceSketch {
    /// Adds the blocks (short pieces of payload) of a voice packet that this side sent to the sketch.
    pub(crate) fn handle_payload(&mut self, side: Side, voice: SketchedVoice, payload: &[u8], at: Timestamp) {
        let size = if voice.block == 0 { payload.len().max(1) } else { usize::from(voice.block) };
        for block in payload.chunks_exact(size).filter(|block| is_selected(block)) {
            add_block(&mut self.sides[side.channel()], block_hash(block), at);
        }
    }

    /// Returns the voice prints of both sides. They are the hashes of those blocks of voice in the sketch that occur
    /// once, lowest hashes first.
    pub(crate) fn prints(&self) -> VoicePrints {
        let prints = |side: Side| {
            let once = self.sides[side.channel()].iter().filter(|block| !block.recurs);
            once.take(MAX_PRINTS).map(|block| VoicePrint { second: block.second, hash: block.hash }).collect()
        };
        VoicePrints { caller: prints(Side::Caller), callee: prints(Side::Callee) }
    }
}

fn add_block(blocks: &mut Vec<SketchedBlock>, hash: u32, at: Timestamp) {
    if blocks.len() == MAX_BLOCKS && blocks.last().is_some_and(|last| hash > last.hash) {
        return;
    }
    match blocks.binary_search_by_key(&hash, |block| block.hash) {
        Ok(known) => blocks[known].recurs = true,
        Err(place) => {
            let second = u32::try_from(at.as_nanos().div_euclid(NANOS_PER_SECOND)).unwrap_or(0);
            blocks.truncate(MAX_BLOCKS - 1);
            blocks.insert(place, SketchedBlock { hash, second, recurs: false });
        }
    }
}

/// Returns the hash of a block of voice: the two halves of its 64-bit FNV-1a hash (IETF draft-eastlake-fnv), combined
/// by XOR.
fn block_hash(block: &[u8]) -> u32 {
    let hash = block.iter().fold(FNV_OFFSET, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME));
    (hash >> 32) as u32 ^ hash as u32
}

/// Maximum number of voice prints of one side. Three common prints prove that two voices are the same. So five may be
/// missing because one recorder heard less.
const MAX_PRINTS: usize = 8;
/// Maximum number of blocks (short pieces) of one voice in a sketch. It is twice [`MAX_PRINTS`], because a block that
/// occurs twice gives no voice print.
const MAX_BLOCKS: usize = 16;
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;
/// Number of nanoseconds in a second.
const NANOS_PER_SECOND: i64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const PCMA: SketchedVoice = SketchedVoice { pt: PayloadType(8), block: 80 };
    const BEGIN: Timestamp = Timestamp::from_secs(1_700_000_000);

    /// Returns the packet `n` (20 ms) of a voice.
    fn speech(voice: u64, n: u64) -> Vec<u8> {
        let mut random = fastrand::Rng::with_seed(voice << 32 | n);
        (0..160).map(|_| random.u8(..)).collect()
    }

    fn sketch(packets: impl Iterator<Item = (u64, Vec<u8>)>) -> VoicePrints {
        let mut sketch = VoiceSketch::default();
        for (n, payload) in packets {
            sketch.handle_payload(Side::Caller, PCMA, &payload, BEGIN.offset(n as i64 * 20_000_000));
        }
        sketch.prints()
    }

    fn common(a: &VoicePrints, b: &VoicePrints) -> usize {
        a.caller.iter().filter(|print| b.caller.contains(print)).count()
    }

    #[test]
    fn the_hash_is_the_same_on_every_machine() {
        // FNV-1a of "foobar" is 85944171f73967e8, according to the IETF draft of FNV.
        assert_eq!(block_hash(b"foobar"), 0x8594_4171 ^ 0xf739_67e8);
    }

    #[test]
    fn recorders_that_heard_different_parts_of_a_voice_have_common_prints() {
        let whole = sketch((0..3_000).map(|n| (n, speech(1, n))));
        assert_eq!(whole.caller.len(), MAX_PRINTS);
        let late = sketch((1_500..3_000).map(|n| (n, speech(1, n))));
        assert!((3..MAX_PRINTS).contains(&common(&whole, &late)), "half of the call: {whole:?} {late:?}");
        let same = sketch((0..3_000).rev().map(|n| (n, speech(1, n))));
        assert_eq!(same, whole, "whatever the order");
        assert_eq!(common(&whole, &sketch((0..3_000).map(|n| (n, speech(2, n))))), 0);
        // The same voice in packets of 30 ms is cut into the same blocks of 10 ms as in packets of 20 ms. So nearly all
        // voice prints are the same.
        let bytes: Vec<u8> = (0..3_000).flat_map(|n| speech(1, n)).collect();
        let longer = sketch(bytes.chunks(240).zip(0..).map(|(payload, n)| (n * 3 / 2, payload.to_vec())));
        assert!(common(&whole, &longer) >= MAX_PRINTS - 1, "{whole:?} {longer:?}");
    }

    #[test]
    fn blocks_that_recur_give_no_print() {
        let music = sketch((0..3_000).map(|n| (n, speech(1, n % 1_000))));
        assert!(music.is_empty(), "{music:?}");
        let silence = sketch((0..3_000).map(|n| (n, vec![0xd5; 160])));
        assert!(silence.is_empty());
    }
}
