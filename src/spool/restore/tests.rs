//! Tests that a restart reads everything from a spool that it needs, and no more.

use super::*;
use crate::call::decision::{FORMAT, LegAssignment, PayloadFormat};
use crate::call::event::{DiscardReason, KeptBytes, LegSink as _};
use crate::call::record::Side;
use crate::spool::config::Config;
use crate::spool::testkit::{SpoolBuilder, T0, at_ms, format_of};

const LEG: LegId = LegId(1);

fn start(dir: &Path) -> DiskSpool {
    let config = Config { dir: dir.to_owned(), buffer_mib: 64, sync_seconds: 1, memory_mib: 1 };
    DiskSpool::start(&config).expect("a spool").0
}

fn begin() -> Decision {
    begin_of("leg")
}

fn begin_of(leg: &str) -> Decision {
    Decision::Begin {
        format: FORMAT,
        leg: leg.to_owned(),
        conversation: "first".to_owned(),
        appliance: "test".to_owned(),
        source: "made up".to_owned(),
        first_requester: Side::Caller,
        transport: Transport::Tcp,
        wall_offset_ns: 7,
        by: None,
    }
}

fn put(spool: &mut DiskSpool, ms: f64, payload: &[u8], keep: KeptBytes) {
    let (src, dst) = SpoolBuilder::flow(Side::Caller);
    let wire_len = payload.len() as u32;
    spool.packet(LEG, &UdpDatagram { at: at_ms(ms), src, dst, payload, wire_len, interface: 0 }, keep);
}

fn rtp(n: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 0];
    packet.extend((n as u16).to_be_bytes());
    packet.extend((n * 160).to_be_bytes());
    packet.extend([0, 0, 0, 9]);
    packet.resize(172, n as u8);
    packet
}

/// Writes a minute of one stream, with a SIP message, a DTMF event and a codec change. It has 3,000 packets of 232
/// bytes, i.e. 680 KiB.
fn talk(spool: &mut DiskSpool) {
    spool.open(LEG, "leg");
    spool.decide(LEG, at_ms(0.0), &begin());
    put(spool, 0.0, b"INVITE sip:b SIP/2.0\r\n", KeptBytes::Whole);
    spool.decide(
        LEG,
        at_ms(1.0),
        &Decision::Join(LegAssignment { conversation: "second".to_owned(), ..LegAssignment::default() }),
    );
    let (src, dst) = SpoolBuilder::flow(Side::Caller);
    spool.decide(
        LEG,
        at_ms(10.0),
        &Decision::Stream { stream: 0, src, dst, ssrc: crate::net::Ssrc(9), side: Side::Caller },
    );
    for n in 0..3_000 {
        let ms = 20.0 + f64::from(n) * 20.0;
        match n {
            1_000 => put(spool, ms, b"INFO sip:b SIP/2.0\r\n", KeptBytes::Whole),
            2_000 => put(spool, ms, &rtp(n), KeptBytes::Header(12)),
            2_500 => {
                let format: Option<PayloadFormat> = Some(format_of("PCMA", 8_000));
                spool.decide(LEG, at_ms(ms), &Decision::Payload { stream: 0, pt: crate::net::PayloadType(8), format });
                put(spool, ms, &rtp(n), KeptBytes::Whole);
            }
            _ => put(spool, ms, &rtp(n), KeptBytes::Whole),
        }
    }
}

/// Returns the entries of legs as short texts. A media packet becomes its time in ms.
fn entries(legs: &[RestorableLeg]) -> Vec<String> {
    let mut sequence = RestoreSequence::new(legs);
    let mut words = Vec::new();
    while let Some((_, item)) = sequence.next_item().expect("readable") {
        words.push(match item {
            RestoreItem::Packet(p) if is_media(&p.payload) => (p.at.nanos_since(T0) / 1_000_000).to_string(),
            RestoreItem::Packet(p) => String::from_utf8_lossy(&p.payload[..4]).into_owned(),
            RestoreItem::Decided(d) => {
                serde_json::to_value(&d).expect("JSON")["decision"].as_str().expect("a name").to_owned()
            }
        });
    }
    words
}

fn assert_found(found: &RestorableLeg) {
    assert_eq!((found.name.as_str(), found.conversation.as_str()), ("leg", "second"));
    assert_eq!((found.transport, found.wall_offset_ns, found.begun_at), (Transport::Tcp, 7, at_ms(0.0)));
    assert!(found.message.as_ref().is_some_and(|m| m.payload.starts_with(b"INVITE")));
}

fn length_of(found: &RestorableLeg) -> u64 {
    let LegLocation::File { length, .. } = &found.location else { panic!("a file") };
    *length
}

#[test]
fn only_the_blocks_needed_for_a_restart_are_read() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut spool = start(dir.path());
    talk(&mut spool);
    let path = spool.store().path("leg");
    spool.shutdown();
    let found = find(&path).expect("a spool");
    assert_found(&found);
    assert_eq!(found.last_media_at, Some(at_ms(20.0 + 2_999.0 * 20.0)));
    let LegLocation::File { index, length, .. } = &found.location else { panic!("a file") };
    assert_eq!(*length, std::fs::metadata(&path).expect("there").len());
    let bytes: u64 = index.spans.iter().map(|span| span.bytes).sum();
    assert!(index.spans.len() == 4 && bytes < 3_000, "{:?}", index.spans);
    // Of the media, a restart reads packets without payload (at 40,020 ms) and the first packet after a decision (at 20
    // and 50,020 ms).
    assert_eq!(entries(&[found]), ["INVI", "join", "stream", "20", "INFO", "40020", "50020"]);
}

#[test]
fn torn_file_is_indexed_up_to_its_last_whole_block() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut spool = start(dir.path());
    talk(&mut spool);
    let path = spool.store().path("leg");
    spool.handle_timeout(at_ms(99_999.0));
    spool.flush();
    let whole = std::fs::read(&path).expect("there");
    let torn = dir.path().join("torn.pcapng");
    for cut in [0, 1, 3, 100, 231, 232, 5_000, 32_000, 40_000, 300_000] {
        std::fs::write(&torn, &whole[..whole.len() - cut]).expect("written");
        let found = find(&torn).expect("a spool");
        assert_found(&found);
        let expected = if cut < 116_000 { 7 } else { 5 };
        assert_eq!(entries(std::slice::from_ref(&found)).len(), expected, "cut {cut}");
        // An index that is built by reading the whole file must give the same length of the complete blocks.
        let tracker = whole_of(&torn);
        assert_eq!((length_of(&found), found.last_media_at.map(Timestamp::as_nanos)), tracker, "cut {cut}");
        let padded = [&whole[..whole.len() - cut], &[0; 9_000]].concat();
        std::fs::write(&torn, padded).expect("written");
        let found = find(&torn).expect("a spool");
        assert!(cut % 4 != 0 || length_of(&found) <= tracker.0, "zeros are not blocks");
    }
    for cut in whole.len() - 60..whole.len() {
        std::fs::write(&torn, &whole[..whole.len() - cut]).expect("written");
        find(&torn).expect("a spool that has hardly begun is not damaged");
    }
    std::fs::write(&torn, b"RIFF....WAVE").expect("written");
    assert!(matches!(find(&torn), Err(SpoolError::NotASpool { .. })));
}

fn whole_of(path: &Path) -> (u64, Option<i64>) {
    let tracker = index_whole_file(&mut File::open(path).expect("there")).expect("readable");
    (tracker.length, Some(tracker.index.last_media_ns))
}

#[test]
fn spool_without_index_yields_the_same_entries() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut spool = start(dir.path());
    talk(&mut spool);
    let path = spool.store().path("leg");
    spool.shutdown();
    let with = find(&path).expect("a spool");
    // Files that older versions of callspan wrote have no index. Here, the index blocks of the file are made
    // unreadable.
    let mut bytes = std::fs::read(&path).expect("there");
    let places: Vec<usize> = memchr::memmem::find_iter(&bytes, &index::MAGIC).collect();
    assert!(places.len() > 10, "an index each 32 KiB");
    for location in places {
        bytes[location] = b'x';
    }
    std::fs::write(&path, bytes).expect("written");
    let without = find(&path).expect("a spool");
    assert_found(&without);
    assert_eq!((without.last_media_at, length_of(&without)), (with.last_media_at, length_of(&with)));
    assert_eq!(entries(&[without]), entries(&[with]));
}

#[test]
fn index_inside_a_packet_payload_is_ignored() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut spool = start(dir.path());
    talk(&mut spool);
    let path = spool.store().path("leg");
    spool.shutdown();
    let before = find(&path).expect("a spool");
    let mut bytes = std::fs::read(&path).expect("there");
    let mut forged = Vec::new();
    // The payload begins 68 bytes after the start of the block. The headers have 28 bytes for the block, 28 for IPv4
    // and UDP, and 12 for RTP.
    let mut tracker = IndexTracker::resume(SpoolIndex::default(), bytes.len() as u64 + 68);
    tracker.put_index(&mut forged);
    let (src, dst) = SpoolBuilder::flow(Side::Caller);
    let payload = [&rtp(1)[..12], &forged, &[0; 64]].concat();
    let packet =
        format::SpoolPacket { at: at_ms(70_000.0), src, dst, payload: &payload, wire_len: payload.len() as u32 };
    format::put_packet(&mut bytes, &packet);
    std::fs::write(&path, &bytes).expect("written");
    let after = find(&path).expect("a spool");
    assert_eq!(length_of(&after), bytes.len() as u64, "nothing is cut off");
    let LegLocation::File { index, .. } = &after.location else { panic!("a file") };
    assert_eq!(index.spans.len(), 4, "{:?}", index.spans);
    assert_eq!(entries(&[before]), entries(&[after]));
}

#[test]
fn resumed_leg_keeps_its_index() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut spool = start(dir.path());
    talk(&mut spool);
    let path = spool.store().path("leg");
    spool.shutdown();
    for round in 1..4 {
        let found = find(&path).expect("a spool");
        let mut spool = start(dir.path());
        found.resume(&mut spool, LegId(7));
        for n in 0..500 {
            let (src, dst) = SpoolBuilder::flow(Side::Caller);
            let (at, payload) = (at_ms(f64::from(round * 100_000 + n * 20)), rtp(n as u32));
            spool.packet(
                LegId(7),
                &UdpDatagram { at, src, dst, payload: &payload, wire_len: 172, interface: 0 },
                KeptBytes::Whole,
            );
        }
        spool.shutdown();
        let found = find(&path).expect("a spool");
        assert_found(&found);
        assert_eq!(found.last_media_at, Some(at_ms(f64::from(round * 100_000 + 499 * 20))));
        assert_eq!(whole_of(&path).0, length_of(&found), "all of it is blocks");
    }
}

#[test]
fn missed_call_is_restored_until_the_journal_has_its_end() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut spool = start(dir.path());
    spool.start_rolling_file();
    spool.handle_timeout(at_ms(0.0));
    let legs = [
        (LEG, Some(DiscardReason::NoMedia)),
        (LegId(2), Some(DiscardReason::Excluded)),
        (LegId(3), Some(DiscardReason::Evicted)),
        (LegId(4), None),
    ];
    for (leg, reason) in legs {
        spool.open(leg, &format!("leg{}", leg.0));
        spool.decide(leg, at_ms(0.0), &begin_of(&format!("leg{}", leg.0)));
        let (src, dst) = SpoolBuilder::flow(Side::Caller);
        for payload in [b"INVITE sip:b SIP/2.0\r\n".as_slice(), b"CANCEL sip:b SIP/2.0\r\n"] {
            let wire_len = payload.len() as u32;
            spool.packet(
                leg,
                &UdpDatagram { at: at_ms(1.0), src, dst, payload, wire_len, interface: 0 },
                KeptBytes::Whole,
            );
        }
        if let Some(reason) = reason {
            spool.discard(leg, reason);
        }
    }
    let store = spool.store();
    let names = |spool: &mut DiskSpool| -> Vec<String> {
        spool.flush();
        find_pending(&store).expect("readable").iter().map(|found| found.name.clone()).collect()
    };
    spool.handle_timeout(at_ms(100.0));
    assert_eq!(names(&mut spool).len(), 4, "before the rebuild all are in the file");
    spool.rebuild_rolling_file();
    assert_eq!(names(&mut spool), ["leg1", "leg4"]);
    let found = find_pending(&store).expect("readable");
    assert_eq!(entries(&found[..1]), ["INVI", "CANC"]);
    // The rolling file keeps an ended leg for twice `sync_seconds` (1 s) plus 2 s. After that, the journal (the
    // database) has the end of the missed call on the disk.
    spool.handle_timeout(at_ms(5_100.0));
    assert_eq!(names(&mut spool), ["leg4"]);
}

#[test]
fn ringing_leg_is_restored_until_it_ends() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut spool = start(dir.path());
    spool.start_rolling_file();
    spool.handle_timeout(at_ms(0.0));
    spool.open(LEG, "leg");
    spool.decide(LEG, at_ms(0.0), &begin());
    put(&mut spool, 0.0, b"INVITE sip:b SIP/2.0\r\n", KeptBytes::Whole);
    spool.decide(
        LEG,
        at_ms(1.0),
        &Decision::Join(LegAssignment { conversation: "second".to_owned(), ..LegAssignment::default() }),
    );
    put(&mut spool, 5.0, b"SIP/2.0 180 Ringing\r\n", KeptBytes::Whole);
    let store = spool.store();
    assert!(find_pending(&store).expect("readable").is_empty());
    spool.handle_timeout(at_ms(1_100.0));
    spool.flush();
    let found = find_pending(&store).expect("readable");
    assert_found(&found[0]);
    assert_eq!((found.len(), found[0].has_file(), found[0].last_media_at), (1, false, None));
    assert_eq!(entries(&found), ["INVI", "join", "SIP/"]);
    spool.discard(LEG, DiscardReason::NoMedia);
    spool.flush();
    assert_eq!(find_pending(&store).expect("readable").len(), 1, "the journal may not have its end on the disk yet");
    spool.handle_timeout(at_ms(5_100.0)); // after the removal delay: twice `sync_seconds` (1 s) plus 2 s
    spool.flush();
    assert!(find_pending(&store).expect("readable").is_empty());
}
