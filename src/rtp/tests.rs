use proptest::prelude::*;

use super::stats::{PacketArrival, StreamStats};
use super::*;
use crate::time::Timestamp;

/// A packet with two contributing sources, a header extension of one word, 4 bytes of sound and 4 bytes of padding.
const FULL: [u8; 36] = [
    0xb2, 0x88, 0x12, 0x34, 0, 0, 0, 160, 1, 2, 3, 4, // fixed header: P, X, 2 sources; M, payload type 8
    0, 0, 0, 1, 0, 0, 0, 2, // contributing sources
    0xbe, 0xde, 0, 1, 0x10, 0xff, 0, 0, // header extension
    9, 9, 9, 9, 0, 0, 0, 4, // sound, padding
];

#[test]
fn sources_extension_and_padding_are_not_payload() {
    let p = RtpPacket::parse(&FULL).unwrap();
    assert_eq!(
        (p.ssrc, p.sequence, p.time, p.pt, p.marker),
        (Ssrc(0x0102_0304), SequenceNumber(0x1234), RtpTime(160), PayloadType(8), true)
    );
    assert_eq!((p.header_len, p.payload), (28, [9u8; 4].as_slice()));
}

#[test]
fn merged_packets_are_split_and_others_stay_whole() {
    let packet = |n: u16, length: usize| {
        let mut bytes = vec![0x80, 8, 0, 0, 0, 0, 0, 0, 0xCA, 0xFE, 0xBA, 0xBE];
        bytes[2..4].copy_from_slice(&n.to_be_bytes());
        bytes.resize(length, 0xD5);
        bytes
    };
    // The sequence numbers wrap at 65,535, and the last packet is shorter than the others. All three packets are found.
    let three = [packet(65_534, 172), packet(65_535, 172), packet(0, 92)].concat();
    assert_eq!(split_merged(&three).map(<[u8]>::len).collect::<Vec<_>>(), [172, 172, 92]);
    // None of these datagrams is split into several packets. In the first, the payload contains the bytes of the SSRC.
    // In the second, the sequence numbers have a gap. In the third, the last part is not RTP.
    let with_ssrc = [&packet(7, 100)[..], &[0xCA, 0xFE, 0xBA, 0xBE], &[0xD5; 68]].concat();
    let others = [packet(7, 172), packet(9, 172)].concat();
    let broken = [packet(7, 172), packet(8, 172), vec![0; 172]].concat();
    for whole in [&with_ssrc, &others, &broken, &packet(7, 172), &vec![0x80; 11], &vec![0; 0]] {
        assert!(split_merged(whole).count() <= 1);
    }
}

proptest! {
    #[test]
    fn splitting_any_bytes_loses_none(mut bytes: Vec<u8>, period in 12..40_usize) {
        prop_assert_eq!(split_merged(&bytes).collect::<Vec<_>>().concat(), bytes.clone());
        // In a payload of equal bytes, every offset looks like the start of a header. No byte may be lost by splitting
        // it.
        bytes.resize(1_000, 0x80);
        (period..1_000).for_each(|at| bytes[at] = bytes[at - period]);
        prop_assert_eq!(split_merged(&bytes).collect::<Vec<_>>().concat(), bytes.clone());
    }
}

/// The timestamp runs on during a pause of the sender, and the sequence number does not. So the step over the pause says
/// nothing about the length of a packet.
#[test]
fn losses_after_a_pause_of_the_sender_are_losses() {
    let mut stats = StreamStats::default();
    let mut receive = |sequence: u16, packets: u32| {
        let at = Timestamp::from_micros(1_000_000 + i64::from(packets) * 20_000);
        stats.handle(at, SequenceNumber(sequence), RtpTime(packets * 160), 8_000)
    };
    (0..50).for_each(|n| _ = receive(n, n.into()));
    // After two seconds without packets, one packet comes. Then 150 packets are lost.
    assert_eq!(receive(50, 150), PacketArrival::InOrder);
    assert_eq!(receive(201, 301), PacketArrival::InOrder);
    assert_eq!(stats.lost(), 150);
}

#[test]
fn truncated_packet_keeps_its_header() {
    // The last byte of a packet is the padding length. Here it is cut off, so the parser reads the byte before the cut,
    // which is no valid padding length.
    assert_eq!(RtpPacket::parse(&FULL[..30]).err(), Some(RtpParseError::Padding));
    let cut = RtpPacket::parse_cut(&FULL[..30]).unwrap();
    assert_eq!(
        (cut.ssrc, cut.sequence, cut.pt, cut.marker, cut.header_len),
        (Ssrc(0x0102_0304), SequenceNumber(0x1234), PayloadType(8), true, 28)
    );
    assert_eq!(cut.payload, [9, 9]);
    let bare = RtpPacket::parse_cut(&FULL[..12]).unwrap();
    assert_eq!((bare.header_len, bare.payload.len()), (12, 0));
    assert_eq!(RtpPacket::parse(&FULL[..11]).err(), Some(RtpParseError::TooShort));
    assert_eq!(RtpPacket::parse(&FULL[..27]).err(), Some(RtpParseError::HeaderCut));
    assert_eq!(RtpPacket::parse_cut(&[0x40; 12]).err(), Some(RtpParseError::Version));
}

#[test]
fn protocols_on_a_media_port_are_distinguished() {
    let mut stun = vec![0, 1, 0, 4];
    stun.extend([0; 20]);
    let mut zrtp = vec![0x10, 0, 0, 1];
    zrtp.extend(b"ZRTP\0\0\0\0");
    let dtls = [22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];
    for (bytes, kind) in [
        (FULL.as_slice(), MediaPacketKind::Rtp),
        (&[0x81, 200, 0, 6, 0, 0, 0, 1], MediaPacketKind::Rtcp),
        (&[0x80, 223, 0, 0], MediaPacketKind::Rtcp),
        (&stun, MediaPacketKind::Stun),
        (&zrtp, MediaPacketKind::Zrtp),
        (&dtls, MediaPacketKind::Dtls),
        // T.38 packets begin with a sequence number, which can look like the first bytes of STUN. But STUN has a length
        // field, and the length of this packet does not fit it.
        (&[0, 1, 6, 0xc0, 1, 0x80, 0, 0, 0xff], MediaPacketKind::Other),
        (b"\r\n\r\n", MediaPacketKind::Other),
        (b"INVITE sip:a SIP/2.0", MediaPacketKind::Other),
        (b"", MediaPacketKind::Other),
        (&[0x80, 8, 0, 1], MediaPacketKind::Other),
    ] {
        assert_eq!(classify(bytes), kind, "{bytes:x?}");
    }
}

/// Counts packets. Each packet is given as its sequence number and the index of its 20 ms slot.
fn feed(stats: &mut StreamStats, packets: impl IntoIterator<Item = (u16, u32)>) -> Vec<PacketArrival> {
    packets
        .into_iter()
        .map(|(sequence, slot)| {
            let at = Timestamp::from_micros(i64::from(slot) * 20_000);
            stats.handle(at, SequenceNumber(sequence), RtpTime(slot.wrapping_mul(160)), 8_000)
        })
        .collect()
}

fn counts(s: &StreamStats) -> (u64, u64, u64, u64, u32) {
    (s.packets(), s.lost(), s.duplicates(), s.reordered(), s.restarts())
}

#[test]
fn a_clean_stream_over_several_wraps_loses_nothing() {
    let mut s = StreamStats::default();
    feed(&mut s, (0..200_000u32).map(|i| ((i + 65_000) as u16, i)));
    assert_eq!(counts(&s), (200_000, 0, 0, 0, 0));
    assert_eq!(s.extended_sequence(), 65_536 + 65_000 + 199_999);
    assert_eq!(s.last_at().unwrap().since(s.first_at().unwrap()).as_millis(), 199_999 * 20);
    assert!(s.max_jitter_ms() < 1e-6);
}

#[test]
fn loss_reordering_and_duplicates_are_counted_separately() {
    let mut s = StreamStats::default();
    // Packet 3 is lost, and packet 6 arrives before packet 5. Packet 4 arrives twice in a row, and packet 1 once more
    // at the end.
    let arrivals = feed(&mut s, [(1, 1), (2, 2), (4, 4), (4, 4), (6, 6), (5, 5), (7, 7), (1, 1)]);
    use PacketArrival::{Duplicate, InOrder, Reordered};
    assert_eq!(arrivals, [InOrder, InOrder, InOrder, Duplicate, InOrder, Reordered, InOrder, Duplicate]);
    assert_eq!(counts(&s), (6, 1, 2, 1, 0));
    // Packet 0 was sent before packet 1, the first captured packet. It counts as reordered and not as lost.
    feed(&mut s, [(0, 0)]);
    assert_eq!(counts(&s), (7, 1, 2, 2, 0));
}

#[test]
fn packet_shown_twice_by_the_mirror_counts_once() {
    let mut s = StreamStats::default();
    // The sender restarts its sequence numbers after 100 packets, and the mirror delivers each packet twice.
    let both = (0..100u32).chain(100..200).flat_map(|i| {
        let sequence = if i < 100 { 65_500u32.wrapping_add(i) as u16 } else { (30_000 + i) as u16 };
        [(sequence, i), (sequence, i)]
    });
    feed(&mut s, both);
    assert_eq!(counts(&s), (200, 0, 200, 0, 1));
}

#[test]
fn restart_with_equal_numbers_after_silence_is_not_a_duplicate() {
    let mut s = StreamStats::default();
    // The stream has 4 s of audio, 10 s of hold without packets, and 4 s of audio. The second audio repeats the
    // sequence numbers and timestamps of the first. The mirror delivers each packet twice.
    for slot in (0..200).chain(700..900_u32) {
        let number = slot % 700;
        for copy in 0..2 {
            let at = Timestamp::from_micros(i64::from(slot) * 20_000 + copy * 300);
            s.handle(at, SequenceNumber(number as u16), RtpTime(number * 160), 8_000);
        }
    }
    assert_eq!(counts(&s), (400, 0, 400, 0, 1));
}

#[test]
fn late_copy_of_the_newest_packet_ends_no_run() {
    let mut s = StreamStats::default();
    // The stream pauses for 4 s after packet 100. In the pause, packet 100 arrives once more.
    let copy = (100, 100);
    feed(&mut s, (0..=100).map(|i| (i as u16, i)));
    s.handle(Timestamp::from_secs(4), SequenceNumber(copy.0), RtpTime(copy.1 * 160), 8_000);
    feed(&mut s, (300..400).map(|i| ((i - 199) as u16, i)));
    assert_eq!((s.lost(), s.restarts()), (0, 0));
    assert!(s.has_seen(SequenceNumber(99), RtpTime(99 * 160)), "the recent packets are still known");
}

#[test]
fn jump_is_confirmed_by_a_second_packet() {
    let mut s = StreamStats::default();
    feed(&mut s, (0..10).map(|i| (i as u16, i)));
    assert_eq!(
        feed(&mut s, [(40_000, 10), (10, 11), (11, 12)]),
        [PacketArrival::Jumped, PacketArrival::InOrder, PacketArrival::InOrder]
    );
    assert_eq!(counts(&s), (13, 0, 0, 0, 0));
    let arrivals = feed(&mut s, [(50_000, 13), (50_001, 14), (50_003, 16)]);
    assert_eq!(arrivals, [PacketArrival::Jumped, PacketArrival::Restarted, PacketArrival::InOrder]);
    // One packet after the restart is lost. The numbers between the old and the new run do not count as lost.
    assert_eq!(counts(&s), (16, 1, 0, 0, 1));
}

#[test]
fn long_mirror_outage_is_loss_if_the_rtp_clock_went_on() {
    let mut s = StreamStats::default();
    feed(&mut s, (0..10).map(|i| (i as u16, i)));
    // The mirror port delivers nothing for 100 s, i.e. 5000 packets. RFC 3550 appendix A.1 counts at most 3000 as loss,
    // but the timestamps prove that the sender went on.
    assert_eq!(feed(&mut s, [(5_010, 5_010), (5_011, 5_011)]), [PacketArrival::InOrder, PacketArrival::InOrder]);
    assert_eq!(counts(&s), (12, 5_000, 0, 0, 0));
}

#[test]
fn equal_number_with_other_timestamp_is_not_a_duplicate() {
    let mut s = StreamStats::default();
    feed(&mut s, (0..50).map(|i| (i as u16 + 100, i)));
    // The sender starts again with slightly lower sequence numbers. The second of these packets confirms the restart.
    let arrivals = feed(&mut s, [(120, 5_000), (121, 5_001), (122, 5_002)]);
    assert_eq!(arrivals, [PacketArrival::Jumped, PacketArrival::Restarted, PacketArrival::InOrder]);
    assert_eq!(counts(&s), (53, 0, 0, 0, 1));
}

#[test]
fn jitter_is_computed_as_in_rfc_3550() {
    let mut s = StreamStats::default();
    // Every second packet is 10 ms late, so the mean deviation of the transit time tends to 10 ms.
    for i in 0..2_000i64 {
        let at = Timestamp::from_micros(i * 20_000 + (i % 2) * 10_000);
        s.handle(at, SequenceNumber(i as u16), RtpTime(i as u32 * 160), 8_000);
    }
    assert!((s.jitter_ms() - 10.0).abs() < 0.01, "{}", s.jitter_ms());
    // The sender moved its RTP clock: the timestamp jumps to 2^30 ticks. The large change of the transit time does not
    // count as jitter.
    s.handle(Timestamp::from_micros(2_000 * 20_000), SequenceNumber(2_000), RtpTime(1 << 30), 8_000);
    assert!(s.max_jitter_ms() < 10.01);
    // Packets 20 to 39 belong to one telephone-event, have the same timestamp and cause no jitter.
    let mut s = StreamStats::default();
    for i in 0..100u32 {
        let time = if (20..40).contains(&i) { 20 } else { i };
        s.handle(Timestamp::from_micros(i64::from(i) * 20_000), SequenceNumber(i as u16), RtpTime(time * 160), 8_000);
    }
    assert!(s.max_jitter_ms() < 1e-6, "{}", s.max_jitter_ms());
}

#[test]
fn statistics_of_a_stream_are_small() {
    // The statistics of 20,000 streams in 10,000 calls take 27 MB, i.e. 2.7 KB a call. That is a twelfth of the 32 KiB
    // that each call may take.
    assert!(std::mem::size_of::<StreamStats>() <= 1_360, "{}", std::mem::size_of::<StreamStats>());
}

proptest! {
    #[test]
    fn any_bytes_parse_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = classify(&bytes);
        if let Ok(p) = RtpPacket::parse(&bytes) {
            prop_assert!(p.header_len + p.payload.len() <= bytes.len());
            let cut = RtpPacket::parse_cut(&bytes).unwrap();
            prop_assert_eq!((cut.ssrc, cut.sequence, cut.time, cut.pt, cut.header_len), (p.ssrc, p.sequence, p.time, p.pt, p.header_len));
        }
        let _ = RtpPacket::parse_cut(&bytes);
    }

    #[test]
    fn any_sequence_numbers_are_counted_without_panic(packets in prop::collection::vec((any::<u16>(), 0..4u32), 0..300)) {
        let mut s = StreamStats::default();
        let n = packets.len() as u64;
        feed(&mut s, packets);
        prop_assert_eq!(s.packets() + s.duplicates(), n);
    }

    #[test]
    fn any_pauses_and_repetitions_are_counted_without_panic(
        packets in prop::collection::vec((0..6_000i64, 0..4u16, 0..3u32), 0..300),
    ) {
        let (mut s, mut at, n) = (StreamStats::default(), 0, packets.len() as u64);
        for (pause_ms, sequence, slot) in packets {
            at += pause_ms;
            s.handle(Timestamp::from_micros(at * 1_000), SequenceNumber(sequence), RtpTime(slot * 160), 8_000);
        }
        prop_assert_eq!(s.packets() + s.duplicates(), n);
    }

    #[test]
    fn loss_equals_the_number_of_omitted_packets(missing in prop::collection::btree_set(1..499u32, 0..200), start in any::<u16>()) {
        // The first and the last packet arrive, and gaps are too short to count as a restart (3000 packets). So all
        // omitted packets count as lost.
        let mut s = StreamStats::default();
        feed(&mut s, (0..500u32).filter(|i| !missing.contains(i)).map(|i| (start.wrapping_add(i as u16), i)));
        prop_assert_eq!(counts(&s), (500 - missing.len() as u64, missing.len() as u64, 0, 0, 0));
    }
}
