//! Detects, by the RTP streams in a file, that a clock was set back by less than five seconds.
//!
//! A jump that small can be disorder between cores or interfaces. But the frames of one stream keep their order. So the
//! clock went back if the next packet of a stream, by sequence number, has a much earlier timestamp than the one
//! before.

use super::super::LinkType;
use crate::time::Timestamp;

/// The newest packets of the streams of a file.
#[derive(Debug, Default)]
pub(super) struct RtpWitness {
    /// Table of streams, indexed by a hash of addresses, ports and SSRC. A stream that loses its slot is forgotten.
    streams: Vec<Option<WitnessedStream>>,
}

#[derive(Clone, Copy, Debug)]
struct WitnessedStream {
    key: StreamKey,
    sequence: u16,
    stamp: Timestamp,
    /// Time between the last two consecutive packets of the stream, ns.
    spacing_ns: i64,
}

/// IPv4 addresses, UDP ports and SSRC of a stream.
type StreamKey = [u8; 16];

impl RtpWitness {
    /// Records a frame. If the frame proves that the clock was set back before it, returns by how much, ns.
    pub(super) fn handle_frame(&mut self, link: LinkType, stamp: Timestamp, frame: &[u8]) -> Option<i64> {
        if link != LinkType::Ethernet {
            return None;
        }
        let (key, sequence) = rtp_of(frame)?;
        if self.streams.is_empty() {
            self.streams.resize(SLOTS, None);
        }
        let slot = &mut self.streams[slot_of(key)];
        let last = slot.filter(|last| last.key == key);
        let now = WitnessedStream { key, sequence, stamp, spacing_ns: last.map_or(0, |last| last.spacing_ns) };
        let Some(last) = last else {
            *slot = Some(now);
            return None;
        };
        let steps = sequence.wrapping_sub(last.sequence);
        let passed_ns = stamp.nanos_since(last.stamp);
        if steps == 0 || steps > MAX_STEPS {
            // A copy, a late packet or a restart proves nothing.
            *slot = if steps > u16::MAX - MAX_STEPS || steps == 0 { Some(last) } else { Some(now) };
            return None;
        }
        if (-MAX_STEP_NS..-MIN_STEP_NS).contains(&passed_ns) {
            let back_ns = last.spacing_ns * i64::from(steps) - passed_ns;
            // The stored timestamps of all other streams are moved back, too, so that these streams do not prove the
            // same step again.
            for stream in self.streams.iter_mut().flatten() {
                stream.stamp = stream.stamp.offset(-back_ns);
            }
            self.streams[slot_of(key)] = Some(now);
            return Some(back_ns);
        }
        let is_regular = steps == 1 && (0..MAX_SPACING_NS).contains(&passed_ns);
        *slot = Some(WitnessedStream { spacing_ns: if is_regular { passed_ns } else { last.spacing_ns }, ..now });
        None
    }
}

/// Returns key and sequence number of a frame that looks like RTP over IPv4 and UDP in Ethernet, with or without a VLAN
/// tag.
fn rtp_of(frame: &[u8]) -> Option<(StreamKey, u16)> {
    let ip = match frame.get(12..14)? {
        [0x08, 0x00] => frame.get(14..)?,
        [0x81, 0x00] if frame.get(16..18)? == [0x08, 0x00] => frame.get(18..)?,
        _ => return None,
    };
    let is_whole_udp = ip.first()? == &0x45 && ip.get(6)? & 0x3F == 0 && ip.get(7)? == &0 && ip.get(9)? == &17;
    let rtp = ip.get(28..40).filter(|rtp| is_whole_udp && rtp[0] >> 6 == 2 && !(192..=223).contains(&rtp[1]))?;
    let mut key = [0; 16];
    key[..8].copy_from_slice(ip.get(12..20)?);
    key[8..12].copy_from_slice(ip.get(20..24)?);
    key[12..].copy_from_slice(&rtp[8..12]);
    Some((key, u16::from_be_bytes([rtp[2], rtp[3]])))
}

/// Returns the slot of a stream (FNV-1a).
fn slot_of(key: StreamKey) -> usize {
    let hash = key
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    (hash % SLOTS as u64) as usize
}

/// Number of streams remembered: many more than are needed to prove a step.
const SLOTS: usize = 1_024;
/// Largest step of the sequence number that proves a clock step, packets: 1 s at 20 ms.
const MAX_STEPS: u16 = 50;
/// Smallest proven clock step, ns. Smaller jumps are disorder of the network or of a sender that bursts.
const MIN_STEP_NS: i64 = 50_000_000;
/// Largest clock step that needs an RTP stream as proof, ns.
const MAX_STEP_NS: i64 = 5_000_000_000;
/// Longest time between two packets that counts as their spacing, ns (RFC 3551 section 4.2).
const MAX_SPACING_NS: i64 = 200_000_000;
