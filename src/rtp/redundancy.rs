//! Redundant audio data (RFC 2198): a packet that repeats what earlier packets said.

use crate::net::PayloadType;

/// One block of a redundant packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedundantBlock<'a> {
    /// Payload type of what is inside.
    pub pt: PayloadType,
    /// How much earlier than the packet's own RTP stamp it begins, in clock units; 0 for the primary.
    pub earlier: u16,
    /// The payload.
    pub payload: &'a [u8],
}

/// The blocks of a payload, oldest first and the primary last. `None` if its headers do not add up.
pub fn blocks(payload: &[u8]) -> Option<Vec<RedundantBlock<'_>>> {
    let (mut blocks, mut lengths) = (Vec::new(), Vec::new());
    let mut rest = payload;
    loop {
        let (&first, after) = rest.split_first()?;
        if first & 0x80 == 0 {
            // The last header is one byte, and its block takes what is left.
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

/// The primary block alone: what the packet says itself.
pub fn primary(payload: &[u8]) -> Option<RedundantBlock<'_>> {
    blocks(payload)?.pop()
}

/// The payload types that a `fmtp` line of RED names, the primary's first: `0/5` (RFC 2198 section 5).
pub fn types(fmtp: &str) -> impl Iterator<Item = PayloadType> {
    fmtp.split('/').filter_map(|pt| pt.trim().parse().ok()).filter(|pt| *pt < 128).map(PayloadType).take(MAX_BLOCKS)
}

/// Senders repeat one or two packets; text over RTP three. More is no redundancy but rubbish.
const MAX_BLOCKS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 2198 section 7, its figure with shorter payloads: DVI4 primary (PT 5), LPC (PT 7) 160 units earlier.
    const PACKET: [u8; 10] = [0x87, 0x02, 0x80, 0x03, 0x05, b'l', b'p', b'c', b'd', b'v'];

    #[test]
    fn a_packet_with_one_repeat_has_two_blocks() {
        let old = RedundantBlock { pt: PayloadType(7), earlier: 160, payload: b"lpc" };
        let new = RedundantBlock { pt: PayloadType(5), earlier: 0, payload: b"dv" };
        assert_eq!(blocks(&PACKET), Some(vec![old, new]));
        assert_eq!(primary(&PACKET), Some(new));
    }

    #[test]
    fn a_packet_may_have_the_primary_alone_even_empty() {
        assert_eq!(primary(&[0x00, 1, 2]), Some(RedundantBlock { pt: PayloadType(0), earlier: 0, payload: &[1, 2] }));
        assert_eq!(primary(&[0x08]), Some(RedundantBlock { pt: PayloadType(8), earlier: 0, payload: &[] }));
    }

    #[test]
    fn headers_that_do_not_add_up_are_refused() {
        assert_eq!(blocks(&[]), None);
        assert_eq!(blocks(&[0x80, 0, 0, 9, 0, 1]), None);
        assert_eq!(blocks(&[0xFF; 100]), None);
        for cut in 0..8 {
            assert_eq!(blocks(&PACKET[..cut]), None, "{cut}");
        }
    }

    #[test]
    fn a_line_of_parameters_names_the_payload_types() {
        assert_eq!(types("0/5/ 121").collect::<Vec<_>>(), [0, 5, 121].map(PayloadType));
        assert_eq!(types("").count() + types("300/x/-1").count() + types("128").count(), 0);
        assert_eq!(types(&"8/".repeat(100)).count(), MAX_BLOCKS);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_give_blocks_that_lie_within_them(payload: Vec<u8>) {
            if let Some(blocks) = blocks(&payload) {
                let total: usize = blocks.iter().map(|block| block.payload.len()).sum();
                proptest::prop_assert!(total < payload.len());
            }
        }
    }
}
