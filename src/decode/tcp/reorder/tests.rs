use proptest::prelude::*;

use super::*;

fn push(order: &mut SegmentReorderer, seq: u32, bytes: &[u8], out: &mut String) {
    let segment = SegmentBytes { at: Timestamp::EPOCH, seq, bytes, missing: 0 };
    order.push(segment, &mut TcpStreamCounters::default(), &mut |p| show(p, out));
}

fn show(piece: OrderedPiece<'_>, out: &mut String) {
    match piece {
        OrderedPiece::Data(_, bytes) => out.push_str(&String::from_utf8_lossy(bytes)),
        OrderedPiece::Gap(_) => out.push('#'),
    }
}

#[test]
fn swapped_repeated_and_overlapping_bytes_are_output_once() {
    let (mut order, mut out) = (SegmentReorderer::starting_at(u32::MAX - 2), String::new());
    // The sequence numbers wrap at 2^32 after three bytes.
    push(&mut order, 1, b"EFG", &mut out);
    push(&mut order, u32::MAX - 2, b"ABC", &mut out);
    assert_eq!(out, "ABC");
    push(&mut order, u32::MAX - 2, b"xxxD", &mut out);
    push(&mut order, 2, b"xxHI", &mut out);
    assert_eq!(out, "ABCDEFGHI");
    assert_eq!(order.waiting_bytes(), 0);
}

#[test]
fn output_continues_behind_a_hole_that_is_given_up() {
    let (mut order, mut out) = (SegmentReorderer::starting_at(100), String::new());
    push(&mut order, 100, b"a", &mut out);
    push(&mut order, 110, b"b", &mut out);
    assert!(order.hole_since().is_some() && !order.is_confirmed_beyond(101) && order.is_confirmed_beyond(111));
    order.give_up_hole(&mut TcpStreamCounters::default(), &mut |p| show(p, &mut out));
    push(&mut order, 105, b"late", &mut out);
    push(&mut order, 111, b"c", &mut out);
    assert_eq!(out, "a#bc");
}

#[test]
fn bytes_waiting_behind_a_hole_are_bounded() {
    let (mut order, mut out) = (SegmentReorderer::starting_at(0), String::new());
    for i in 0..2000_u32 {
        push(&mut order, 10 + i * 1000, &[b'x'; 999], &mut out);
        assert!(order.waiting_bytes() <= MAX_WAITING_BYTES);
    }
    assert!(out.contains('#'));
}

#[test]
fn truncated_segment_leaves_a_gap_at_once() {
    let (mut order, mut out) = (SegmentReorderer::starting_at(0), String::new());
    let cut = SegmentBytes { at: Timestamp::EPOCH, seq: 0, bytes: b"abc", missing: 7 };
    order.push(cut, &mut TcpStreamCounters::default(), &mut |p| show(p, &mut out));
    push(&mut order, 10, b"next", &mut out);
    assert_eq!(out, "abc#next");
}

#[test]
fn far_sequence_numbers_are_another_connection() {
    let (mut order, mut out) = (SegmentReorderer::starting_at(0), String::new());
    push(&mut order, 0, b"a", &mut out);
    push(&mut order, 1 << 30, b"b", &mut out);
    assert_eq!(out, "a#b");
}

proptest! {
    #[test]
    fn any_segmentation_in_any_order_yields_the_same_bytes(
        data in prop::collection::vec(any::<u8>(), 1..2000), first in any::<u32>(), seed in any::<u64>(),
    ) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut segments = Vec::new();
        let mut at = 0;
        while at < data.len() {
            let len = rng.usize(1..=300).min(data.len() - at);
            // Some segments overlap the previous segment, and some occur twice.
            let from = at.saturating_sub(rng.usize(0..100));
            segments.push((from, at + len));
            if rng.bool() {
                segments.push((from, at + len));
            }
            at += len;
        }
        rng.shuffle(&mut segments);
        let (mut order, mut out) = (SegmentReorderer::starting_at(first), Vec::new());
        for (from, to) in segments {
            let seq = first.wrapping_add(from as u32);
            let segment = SegmentBytes { at: Timestamp::EPOCH, seq, bytes: &data[from..to], missing: 0 };
            order.push(segment, &mut TcpStreamCounters::default(), &mut |p| if let OrderedPiece::Data(_, b) = p { out.extend_from_slice(b) });
        }
        prop_assert_eq!(out, data);
        prop_assert_eq!(order.waiting_bytes(), 0);
    }

    #[test]
    fn any_segments_stay_within_bounds_and_do_not_panic(
        segments in prop::collection::vec((any::<u32>(), 0_usize..3000, 0_usize..100), 0..200), near in any::<bool>(),
    ) {
        let mut order = SegmentReorderer::starting_at(7);
        for (seq, len, missing) in segments {
            let seq = if near { seq % 100_000 } else { seq };
            let segment = SegmentBytes { at: Timestamp::EPOCH, seq, bytes: &[0; 3000][..len], missing };
            order.push(segment, &mut TcpStreamCounters::default(), &mut |_| {});
            let waiting: usize = order.waiting.values().map(|w| w.bytes.len() + ENTRY_OVERHEAD).sum();
            prop_assert_eq!(waiting, order.waiting_bytes());
            prop_assert!(waiting <= MAX_WAITING_BYTES);
        }
    }
}
