//! Tests of the disk spool in a real folder. They wait for the writer thread by `flush`, never by time.

use super::*;
use crate::call::event::EndedCall;
use crate::call::record::{CallRecord, Side};
use crate::spool::reader::SpoolEntry;
use crate::spool::testkit::{SpoolBuilder, at_ms, begin};

fn config(dir: &Path) -> Config {
    Config { dir: dir.join("spool"), buffer_mib: 1, sync_seconds: 1, memory_mib: 1 }
}

fn datagram(ms: f64, payload: &[u8]) -> UdpDatagram<'_> {
    let (src, dst) = SpoolBuilder::flow(Side::Caller);
    UdpDatagram { at: at_ms(ms), src, dst, payload, wire_len: payload.len() as u32, interface: 0 }
}

/// Returns the number of packets in a leg's file, and the number of the call engine's decisions.
fn count(path: &Path) -> (usize, usize) {
    let mut reader = LegSource::File(path.to_owned()).open().unwrap();
    let mut counts = (0, 0);
    while let Some(entry) = reader.next_entry().unwrap() {
        match entry {
            SpoolEntry::Packet(_) => counts.0 += 1,
            SpoolEntry::Decided(_) => counts.1 += 1,
        }
    }
    assert!(!reader.torn_tail());
    counts
}

const RTP: [u8; 172] = [0x80; 172];

#[test]
fn first_media_creates_the_file_with_the_earlier_signalling() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, _events) = DiskSpool::start(&config(dir.path())).unwrap();
    let store = spool.store();
    for (leg, name) in [(LegId(1), "with"), (LegId(2), "without"), (LegId(3), "discarded")] {
        spool.open(leg, name);
        spool.decide(leg, at_ms(0.0), &begin(name));
        spool.packet(leg, &datagram(0.0, b"INVITE sip:b SIP/2.0"), KeptBytes::Whole);
    }
    spool.flush();
    assert!(store.list().unwrap().is_empty());
    for leg in [LegId(1), LegId(3)] {
        spool.packet(leg, &datagram(10.0, &RTP), KeptBytes::Whole);
        spool.packet(leg, &datagram(30.0, &RTP), KeptBytes::Header(12));
    }
    spool.close(LegId(1));
    spool.close(LegId(2));
    spool.discard(LegId(3), DiscardReason::Excluded);
    spool.flush();
    assert_eq!(store.list().unwrap(), [store.path("with")]);
    assert_eq!(count(&store.path("with")), (3, 1));
    // A rule may exclude a call from recording even after the call engine closed its legs, and then the file is
    // removed. So the test keeps a copy of the file.
    let kept = std::fs::copy(store.path("with"), store.path("copy")).unwrap();
    assert!(kept > 0);
    spool.discard(LegId(1), DiscardReason::Excluded);
    spool.flush();
    assert_eq!(store.list().unwrap(), [store.path("copy")]);
    std::fs::rename(store.path("copy"), store.path("with")).unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&dir.path().join("spool")), mode(&store.path("with"))), (0o700, 0o600));
}

#[test]
fn pending_signalling_keeps_the_first_and_newest_messages() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, _events) = DiskSpool::start(&config(dir.path())).unwrap();
    spool.open(LegId(1), "leg");
    spool.decide(LegId(1), at_ms(0.0), &begin("leg"));
    for n in 0..1_000 {
        let message = format!("OPTIONS sip:b SIP/2.0\r\nCSeq: {n} OPTIONS\r\n\r\n");
        spool.packet(LegId(1), &datagram(f64::from(n), message.as_bytes()), KeptBytes::Whole);
    }
    spool.packet(LegId(1), &datagram(1_000.0, &RTP), KeptBytes::Whole);
    spool.close(LegId(1));
    spool.flush();
    let path = spool.store().path("leg");
    assert!(std::fs::metadata(&path).unwrap().len() < 17 * 1024);
    let bytes = std::fs::read(&path).unwrap();
    let has = |text: &[u8]| bytes.windows(text.len()).any(|w| w == text);
    assert!(has(b"CSeq: 999 ") && has(b"CSeq: 0 ") && !has(b"CSeq: 500 ") && has(b"begin"));
}

#[test]
fn event_is_passed_on_after_everything_before_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, events) = DiskSpool::start(&config(dir.path())).unwrap();
    let store = spool.store();
    for n in 0..200_u64 {
        let (leg, name) = (LegId(n), format!("leg{n}"));
        spool.open(leg, &name);
        spool.decide(leg, at_ms(0.0), &begin(&name));
        for ms in 0..50 {
            spool.packet(leg, &datagram(f64::from(ms), &RTP), KeptBytes::Whole);
        }
        spool.close(leg);
        let legs = vec![EndedLeg { leg, name, index: 0, same_sides: true }];
        let record = CallRecord::default();
        spool.forward(CallEvent::Ended(Box::new(EndedCall {
            record,
            legs,
            registration: Default::default(),
            wall_offset_ns: 0,
        })));
    }
    for _ in 0..200 {
        let Ok(CallEvent::Ended(ended)) = events.recv() else { panic!("every event comes out") };
        assert_eq!(count(&store.path(&ended.legs[0].name)), (50, 1));
        assert!(matches!(store.source(&ended.legs[0]), Some(LegSource::File(_))));
        assert!(ended.record.problems.is_empty());
    }
}

#[test]
fn full_buffer_drops_and_counts_packets_but_keeps_decisions() {
    let dir = tempfile::tempdir().unwrap();
    let mut small = config(dir.path());
    small.buffer_mib = 0;
    let (mut spool, events) = DiskSpool::start(&small).unwrap();
    let leg = LegId(1);
    spool.open(leg, "leg");
    spool.decide(leg, at_ms(0.0), &begin("leg"));
    for n in 0..200 {
        spool.packet(leg, &datagram(f64::from(n), &RTP), KeptBytes::Whole);
        if n % 10 == 0 {
            spool.decide(leg, at_ms(f64::from(n)), &Decision::Pause);
        }
    }
    spool.close(leg);
    let lost = spool.lost_packets();
    let legs = vec![EndedLeg { leg, name: "leg".to_owned(), index: 0, same_sides: true }];
    let ended = EndedCall { record: CallRecord::default(), legs, registration: Default::default(), wall_offset_ns: 0 };
    spool.forward(CallEvent::Ended(Box::new(ended)));
    let Ok(CallEvent::Ended(ended)) = events.recv() else { panic!("the event comes out") };
    let (packets, decisions) = count(&spool.store().path("leg"));
    // A chunk of 12 KiB holds some 50 packets of 232 bytes. In this test no chunk may wait for the disk, so all further
    // packets are dropped.
    assert!(lost > 100 && packets as u64 + lost == 200, "{packets} written, {lost} lost");
    assert_eq!(decisions, 21);
    assert_eq!(ended.record.problems.len(), 1);
    assert_eq!((ended.record.problems[0].kind.as_str(), ended.record.problems[0].packets), ("lost_by_us", Some(lost)));
}

#[test]
fn old_chunk_is_written_and_leg_continues_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let path = {
        let (mut spool, _events) = DiskSpool::start(&config).unwrap();
        spool.open(LegId(1), "leg");
        spool.decide(LegId(1), at_ms(0.0), &begin("leg"));
        spool.packet(LegId(1), &datagram(100.0, &RTP), KeptBytes::Whole);
        spool.handle_timeout(at_ms(1_000.0));
        spool.flush();
        spool.store().path("leg")
    };
    assert_eq!(count(&path), (1, 1));
    // The file ends with part of a block, as after a power cut.
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.extend_from_slice(&[6, 0, 0, 0, 200, 0, 0, 0, 1, 2, 3]);
    std::fs::write(&path, bytes).unwrap();
    let (mut spool, _events) = DiskSpool::start(&config).unwrap();
    spool.open(LegId(9), "leg");
    spool.decide(LegId(9), at_ms(5_000.0), &begin("leg"));
    spool.packet(LegId(9), &datagram(5_100.0, &RTP), KeptBytes::Whole);
    spool.close(LegId(9));
    spool.shutdown();
    assert_eq!(count(&path), (2, 2));
}

#[test]
fn resumed_leg_is_discarded_even_after_its_close() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, _events) = DiskSpool::start(&config(dir.path())).unwrap();
    let path = spool.store().path("leg");
    std::fs::write(&path, b"").unwrap();
    spool.resume(LegId(1), "leg", &SpoolIndex::default(), 0);
    spool.close(LegId(1));
    spool.discard(LegId(1), DiscardReason::Excluded); // a rule excludes the call after its legs were closed
    spool.shutdown();
    assert!(!path.exists());
}

#[test]
fn more_legs_than_open_files_are_all_written() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, _events) = DiskSpool::start(&config(dir.path())).unwrap();
    for round in 0..2 {
        for n in 0..600_u64 {
            if round == 0 {
                spool.open(LegId(n), &format!("leg{n}"));
            }
            spool.packet(LegId(n), &datagram(f64::from(round) * 1_000.0, &RTP), KeptBytes::Whole);
        }
        spool.handle_timeout(at_ms(f64::from(round + 1) * 1_000.0));
    }
    spool.flush();
    let store = spool.store();
    assert!((0..600).all(|n| count(&store.path(&format!("leg{n}"))) == (2, 0)));
}
