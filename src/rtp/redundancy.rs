//! Parses redundant audio data (RFC 2198): packets that repeat the payloads of earlier packets.

use crate::net::PayloadType;

/// One block of a redundant packet: the payload of this or of an earlier packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedundantBlock<'a> {
    /// Payload type of the block, which may differ from block to block.
    pub(crate) pt: PayloadType,
    /// How much earlier the block is than the packet's RTP timestamp, in ticks of the RTP clock (0 to 16383); 0 for the
    /// primary block.
    pub(crate) earlier: u16,
    /// Payload of the block, as a packet without redundancy would carry it.
    pub payload: &'a [u8],
}

/// Returns the blocks of a payload: the oldest first, the primary block last. Returns `None` if the headers are
/// invalid.
pub fn blocks(payload: &[u8]) -> Option<Vec<RedundantBlock<'_>>> {
    let (mut blocks, mut lengths) = (Vec::new(), Vec::new());
    let mut rest = payload;
    loop {
        let (&first, after) = rest.split_first()?;
        if first & 0x80 == 0 {
            // The last header has only one byte, and its block consists of all remaining bytes.
            blocks.push(RedundantBlock { pt: PayloadType(first & 0x7F), earlier: 0, payload: &[] });
            rest = after;
            break;
        }
        let (header, after) = rest.split_first_chunk::<4>()?;
        let word = u32::from_be_bytes(*header);
        if blocks.len() == MAX_BLOCKS {
            return None;
        }
        blocks.push(RedundantBlock {
            pt: PayloadType(first & 0x7F),
            earlier: (word >> 10 & 0x3FFF) as u16,
            payload: &[],
        });
        lengths.push((word & 0x3FF) as usize);
        rest = after;
    }
    for (block, length) in blocks.iter_mut().zip(lengths) {
        (block.payload, rest) = rest.split_at_checked(length)?;
    }
    blocks.last_mut()?.payload = rest;
    Some(blocks)
}

/// Returns the payload types in a `fmtp` line of RED such as `0/5`. The type of the primary block comes first (RFC 2198
/// section 5).
pub(crate) fn payload_types(fmtp: &str) -> impl Iterator<Item = PayloadType> {
    fmtp.split('/').filter_map(|pt| pt.trim().parse().ok()).filter(|pt| *pt < 128).map(PayloadType).take(MAX_BLOCKS)
}

/// Maximum number of blocks in a packet. Senders repeat one or two earlier packets, and real-time text repeats three.
/// More blocks mean damage.
const MAX_BLOCKS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 2198 section 7 with shorter payloads. The primary block is DVI4 (PT 5), and the block with
    /// LPC (PT 7) is 160 ticks earlier.
    const PACKET: [u8; 10] = [0x87, 0x02, 0x80, 0x03, 0x05, b'l', b'p', b'c', b'd', b'v'];

    #[test]
    fn packet_with_one_repetition_has_two_blocks() {
        let old = RedundantBlock { pt: PayloadType(7), earlier: 160, payload: b"lpc" };
        let new = RedundantBlock { pt: PayloadType(5), earlier: 0, payload: b"dv" };
        assert_eq!(blocks(&PACKET), Some(vec![old, new]));
    }

    #[test]
    fn packet_can_have_only_a_primary_block_even_empty() {
        assert_eq!(
            blocks(&[0x00, 1, 2]).and_then(|mut all| all.pop()),
            Some(RedundantBlock { pt: PayloadType(0), earlier: 0, payload: &[1, 2] })
        );
        assert_eq!(
            blocks(&[0x08]).and_then(|mut all| all.pop()),
            Some(RedundantBlock { pt: PayloadType(8), earlier: 0, payload: &[] })
        );
    }

    #[test]
    fn invalid_block_headers_are_rejected() {
        assert_eq!(blocks(&[]), None);
        assert_eq!(blocks(&[0x80, 0, 0, 9, 0, 1]), None);
        assert_eq!(blocks(&[0xFF; 100]), None);
        for cut in 0..8 {
            assert_eq!(blocks(&PACKET[..cut]), None, "{cut}");
        }
    }

    #[test]
    fn fmtp_line_yields_the_payload_types() {
        assert_eq!(payload_types("0/5/ 121").collect::<Vec<_>>(), [0, 5, 121].map(PayloadType));
        assert_eq!(payload_types("").count() + payload_types("300/x/-1").count() + payload_types("128").count(), 0);
        assert_eq!(payload_types(&"8/".repeat(100)).count(), MAX_BLOCKS);
    }

    proptest::proptest! {
        #[test]
        fn blocks_of_any_bytes_lie_within_the_payload(payload: Vec<u8>) {
            if let Some(blocks) = blocks(&payload) {
                let total: usize = blocks.iter().map(|block| block.payload.len()).sum();
                proptest::prop_assert!(total < payload.len());
            }
        }
    }
}
