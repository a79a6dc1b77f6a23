//! Tests of redundant audio (RFC 2198).

use super::*;

/// Sends each packet as RED (payload type 121) with the previous packet as redundant block.
struct RedundantSender {
    sender: TestSender,
    before: Vec<u8>,
}

impl RedundantSender {
    fn new(spool: &mut SpoolBuilder, fmtp: &str) -> Self {
        let mut sender = TestSender::new(spool, Side::Caller);
        let format = crate::call::decision::PayloadFormat { fmtp: fmtp.to_owned(), ..format_of("RED", 8_000) };
        spool.payload(at_ms(0.0), sender.stream, 121, Some(format));
        sender.pt = 121;
        Self { sender, before: Vec::new() }
    }

    /// Sends the next packet. If `arrives` is false, the network loses it.
    fn send(&mut self, spool: &mut SpoolBuilder, at_ms_: f64, arrives: bool) {
        let payload = self.sender.payload();
        // The header of the redundant block has the F bit, payload type 0, 160 ticks earlier, and a length (RFC 2198
        // section 3). The primary block's type follows.
        let header = 1_u32 << 31 | 160 << 10 | self.before.len() as u32;
        let mut red = if self.before.is_empty() { Vec::new() } else { header.to_be_bytes().to_vec() };
        red.push(0);
        red.extend_from_slice(&self.before);
        red.extend_from_slice(&payload);
        self.before = payload;
        match arrives {
            true => self.sender.send_as(spool, at_ms(at_ms_), &red),
            false => self.sender.skip(),
        }
    }
}

#[test]
fn redundant_blocks_replace_every_tenth_packet_without_concealment() {
    let mut spool = started();
    let mut caller = RedundantSender::new(&mut spool, "0/0");
    for n in 0..200_u32 {
        caller.send(&mut spool, 100.0 + 20.0 * f64::from(n), n % 10 != 7);
    }
    let (plan, report, frames) = rendered(&ended(spool, 4_500.0));
    assert!(plan.has_sound);
    assert_near(&clicks(&frames, Side::Caller), &every(100.0, 20.0, 200), 0.13);
    let side = &report.sides[0];
    assert_eq!((side.decoded, side.repaired, side.concealed_us), (180, 20, 0));
    // Each packet has a level of its own, by which restored packets are recognised, too.
    for n in [6_u32, 7, 8, 17, 18] {
        let middle = frames[(800 + 160 * n + 80) as usize][0];
        let told = {
            let mut out = Vec::new();
            let mut decoder = codec::decoder_for(&format_of("PCMU", 8_000)).unwrap();
            decoder.decode(&[level(n)], &mut out).unwrap();
            out[0]
        };
        assert_eq!(middle, told, "packet {n}");
    }
}

#[test]
fn loss_beyond_redundancy_is_concealed() {
    let mut spool = started();
    let mut caller = RedundantSender::new(&mut spool, "0/0");
    for n in 0..100_u32 {
        caller.send(&mut spool, 100.0 + 20.0 * f64::from(n), !(50..53).contains(&n));
    }
    let (_, report, frames) = rendered(&ended(spool, 2_500.0));
    let mut expected = every(100.0, 20.0, 100);
    // Packets 50 to 52 are lost. The next packet restores packet 52, but its click is blended with the concealment
    // before it. So all three clicks are missing.
    expected.drain(50..53);
    assert_near(&clicks(&frames, Side::Caller), &expected, 0.13);
    let side = &report.sides[0];
    assert_eq!((side.decoded, side.repaired, side.concealed_us), (97, 1, 40_000));
}

#[test]
fn unknown_codec_and_damage_in_red_are_counted_by_reason() {
    let mut spool = started();
    let mut caller = RedundantSender::new(&mut spool, "97/97");
    spool.payload(at_ms(0.0), caller.sender.stream, 97, Some(format_of("G723", 8_000)));
    caller.sender.send_as(&mut spool, at_ms(100.0), &[97, 1, 2, 3]);
    caller.sender.send_as(&mut spool, at_ms(120.0), &[98, 1, 2, 3]);
    caller.sender.send_as(&mut spool, at_ms(140.0), &[0xE1, 0, 0xFF]);
    caller.sender.send_as(&mut spool, at_ms(160.0), &[]);
    let (plan, report, _) = rendered(&ended(spool, 500.0));
    assert!(!plan.has_sound);
    let silent = &report.sides[0].silent;
    assert_eq!(silent.get(&UndecodableReason::UnknownCodec("G723".to_owned())), Some(&1));
    assert_eq!(silent.get(&UndecodableReason::UnknownPayloadType(PayloadType(98))), Some(&1));
    assert_eq!(silent.get(&UndecodableReason::Damaged), Some(&2));
}
