//! Tests that spools are read in order of time, also if they are damaged.

use super::*;
use crate::call::record::Side;
use crate::spool::testkit::{SpoolBuilder, T0, TestRtp, at_ms};

/// Reads a spool. Returns the entries in order, and whether the end was torn. A packet becomes its timestamp in ms, a
/// decision its name.
fn read(bytes: &[u8]) -> Result<(Vec<String>, bool), SpoolError> {
    let mut reader =
        SpoolReader::new(SpoolInput::of_stream(Box::new(io::Cursor::new(bytes.to_vec()))), "test".to_owned());
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        entries.push(match entry {
            SpoolEntry::Packet(packet) => (packet.at.nanos_since(T0) / 1_000_000).to_string(),
            SpoolEntry::Decided(decided) => {
                let json = serde_json::to_value(decided).unwrap();
                json["decision"].as_str().unwrap().to_owned()
            }
        });
    }
    Ok((entries, reader.torn_tail()))
}

fn packet(spool: &mut SpoolBuilder, ms: f64) {
    let rtp = TestRtp { pt: 0, sequence: ms as u16, time: 0, payload: &[1, 2, 3] };
    spool.rtp(at_ms(ms), (0, Side::Caller), rtp);
}

#[test]
fn entries_are_sorted_by_time_with_decisions_before_packets() {
    let mut spool = SpoolBuilder::new();
    for ms in [4_000.0, 5_000.0, 100.0, 4_900.0, 5_000.0] {
        packet(&mut spool, ms);
    }
    spool.decide(at_ms(5_000.0), Decision::Pause);
    packet(&mut spool, 20_000.0);
    let (entries, torn) = read(&spool.bytes).unwrap();
    assert_eq!(entries, ["begin", "100", "4000", "4900", "pause", "5000", "5000", "20000"]);
    assert!(!torn);
}

#[test]
fn packets_over_ipv4_and_ipv6_are_read_back_unchanged() {
    let mut spool = SpoolBuilder::new();
    let v6 = |text: &str| text.parse::<Endpoint>().unwrap();
    let flows = [
        SpoolBuilder::flow(Side::Callee),
        (v6("[2001:db8::1]:65535"), v6("[2001:db8::2]:1")),
        (v6("[2001:db8::1]:7"), v6("192.0.2.9:8")),
    ];
    for flow in flows {
        spool.raw(at_ms(1.0), flow, b"odd", 3);
        spool.raw(at_ms(2.0), flow, b"cut short", 1_000);
    }
    let mut reader = spool.source().open().unwrap();
    let mut seen = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        if let SpoolEntry::Packet(p) = entry {
            seen.push(((p.src, p.dst), p.payload.to_vec(), p.wire_len));
        }
    }
    let expected = |payload: &[u8], len| flows.map(|flow| (flow, payload.to_vec(), len));
    assert_eq!(seen[..3], expected(b"odd", 3));
    assert_eq!(seen[3..], expected(b"cut short", 1_000));
}

#[test]
fn spool_torn_at_any_byte_yields_its_whole_blocks() {
    let mut spool = SpoolBuilder::new();
    spool.stream(at_ms(0.0), Side::Caller);
    for n in 0..4 {
        packet(&mut spool, 20.0 * f64::from(n));
    }
    let (whole, _) = read(&spool.bytes).unwrap();
    let mut before = 0;
    for length in 28..spool.bytes.len() {
        let (entries, torn) = read(&spool.bytes[..length]).unwrap();
        assert!(entries.len() >= before && entries.iter().all(|entry| whole.contains(entry)), "cut at {length}");
        before = entries.len();
        let mut reader = SpoolReader::new(
            SpoolInput::of_stream(Box::new(io::Cursor::new(spool.bytes[..length].to_vec()))),
            "test".to_owned(),
        );
        while reader.next_entry().unwrap().is_some() {}
        assert_eq!(torn, reader.valid_bytes() < length as u64, "cut at {length}");
    }
    for length in 0..28 {
        let result = read(&spool.bytes[..length]);
        assert!(matches!(result, Ok((ref entries, _)) if entries.is_empty()) || result.is_err(), "cut at {length}");
    }
}

#[test]
fn damaged_spool_never_panics() {
    let mut spool = SpoolBuilder::new();
    spool.stream(at_ms(0.0), Side::Caller);
    packet(&mut spool, 20.0);
    spool.end(at_ms(40.0));
    for at in 0..spool.bytes.len() {
        for flip in [0x01, 0x80, 0xFF] {
            let mut bytes = spool.bytes.clone();
            bytes[at] ^= flip;
            let _ = read(&bytes); // the result may be entries or an error, but no panic
        }
    }
}

#[test]
fn newer_format_and_foreign_files_are_refused() {
    let mut spool = SpoolBuilder::new();
    let text = String::from_utf8_lossy(&spool.bytes).into_owned();
    let at = text.find("\"format\":1").unwrap();
    // The text has another character for each invalid byte, so an offset in the text may differ from the offset in the
    // bytes. So the offset is searched for in the bytes.
    let at = spool.bytes.windows(10).position(|w| w == b"\"format\":1").unwrap_or(at);
    spool.bytes[at + 9] = b'9';
    let error = read(&spool.bytes).unwrap_err();
    assert!(matches!(error, SpoolError::TooNew { found: 9, .. }), "{error}");
    assert!(matches!(read(b"RIFF....WAVEfmt and so on"), Err(SpoolError::NotASpool { .. })));
}

#[test]
fn unknown_decisions_and_foreign_blocks_are_skipped() {
    let mut spool = SpoolBuilder::new();
    let at = spool.bytes.windows(5).position(|w| w == b"begin").unwrap();
    spool.bytes[at..at + 5].copy_from_slice(b"other");
    spool.bytes.extend([9, 0, 0, 0, 16, 0, 0, 0, 1, 2, 3, 4, 16, 0, 0, 0]);
    packet(&mut spool, 20.0);
    assert_eq!(read(&spool.bytes).unwrap().0, ["20"]);
}

#[test]
fn reader_memory_is_bounded_for_an_endless_spool() {
    /// A spool that never ends: a packet every 10 ms, made as it is read.
    struct EndlessSpool {
        buffer: Vec<u8>,
        from: usize,
        packets: u32,
    }
    impl io::Read for EndlessSpool {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            if self.from == self.buffer.len() {
                if self.packets == 0 {
                    return Ok(0);
                }
                self.packets -= 1;
                self.buffer.clear();
                self.from = 0;
                let (src, dst) = SpoolBuilder::flow(Side::Caller);
                let at = T0.offset(i64::from(u32::MAX - self.packets) * 10_000_000);
                let packet = format::SpoolPacket { at, src, dst, payload: &[7; 172], wire_len: 172 };
                format::put_packet(&mut self.buffer, &packet);
            }
            let count = out.len().min(self.buffer.len() - self.from);
            out[..count].copy_from_slice(&self.buffer[self.from..self.from + count]);
            self.from += count;
            Ok(count)
        }
    }
    let mut head = Vec::new();
    format::put_header(&mut head);
    let input = EndlessSpool { buffer: head, from: 0, packets: 100_000 };
    let mut reader = SpoolReader::new(SpoolInput::of_stream(Box::new(input)), "endless".to_owned());
    let mut packets = 0;
    while reader.next_entry().unwrap().is_some() {
        packets += 1;
    }
    assert_eq!(packets, 100_000);
    // The queue holds the packets of 5 s, one every 10 ms (about 500), and one later entry.
    assert!(reader.entries.len() <= 503, "{} entries in the queue", reader.entries.len());
    // The packets of five seconds have 116 KB. The buffers that hold them may take 512 KiB.
    assert!(reader.input.memory() <= 512 * 1024, "{} bytes", reader.input.memory());
}

#[test]
fn packets_far_apart_do_not_hold_all_of_a_spool_in_memory() {
    let mut spool = SpoolBuilder::new();
    for _ in 0..1_000 {
        packet(&mut spool, 20.0);
        // A block of type 9, which the reader does not know, so it is skipped.
        let length: u32 = 60_000;
        spool.bytes.extend([9_u32, length].map(u32::to_le_bytes).as_flattened());
        spool.bytes.resize(spool.bytes.len() + length as usize - 12, 0);
        spool.bytes.extend(length.to_le_bytes());
    }
    let mut reader =
        SpoolReader::new(SpoolInput::of_stream(Box::new(io::Cursor::new(spool.bytes))), String::from("sparse"));
    let (mut packets, mut most) = (0, 0);
    while let Some(entry) = reader.next_entry().unwrap() {
        packets += usize::from(matches!(entry, SpoolEntry::Packet(_)));
        most = most.max(reader.input.memory());
    }
    assert_eq!(packets, 1_000);
    assert!(most > 1024 * 1024 && most <= 3 * MAX_HELD_BYTES, "{most} bytes");
}

/// Reads a spool of which only the given entries are sorted. Returns everything that changes the sound, and the largest
/// number of entries in the queue. The third value says how many entries a later reader has to sort.
fn sound_entries(source: &LegSource, sorted: SortedEntries) -> (Vec<String>, usize, Option<SortedEntries>) {
    let mut reader = source.open_sorting(sorted).unwrap();
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        match entry {
            SpoolEntry::Packet(packet) if is_media(packet.payload) => entries.push(format!("{packet:?}")),
            SpoolEntry::Decided(decided) if decided.decision.changes_sound() => entries.push(format!("{decided:?}")),
            SpoolEntry::Packet(_) | SpoolEntry::Decided(_) => {}
        }
    }
    (entries, reader.entries.len(), reader.entries_to_sort())
}

#[test]
fn unsorted_reading_has_the_sound_of_a_sorted_one_or_reports_disorder() {
    let mut unsorted = [0; 2];
    for seed in 0..300 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut spool = SpoolBuilder::new();
        let late_percent = [0, 0, 1, 30][rng.usize(..4)];
        let mut now = 10_000.0;
        for _ in 0..rng.usize(50..600) {
            now += rng.f64() * 40.0;
            let late = if rng.u32(0..100) < late_percent { rng.f64() * 4_900.0 } else { 0.0 };
            let at = at_ms(now - late);
            match rng.u32(0..60) {
                0 => _ = spool.stream(at, Side::Caller),
                1 => spool.decide(at, Decision::Pause),
                2 => spool.raw(at, SpoolBuilder::flow(Side::Callee), b"BYE sip:a SIP/2.0", 17),
                3 => spool.end(at_ms(now - 5_000.0)),
                _ => packet(&mut spool, now - late),
            }
        }
        let source = spool.source();
        let (sorted, _, to_sort) = sound_entries(&source, SortedEntries::ALL);
        let to_sort = to_sort.unwrap();
        assert_eq!(sound_entries(&source, to_sort).0, sorted, "seed {seed}");
        let (quick, _, found) = sound_entries(&source, SortedEntries::FIRST);
        assert_eq!(found.is_some(), to_sort.0 <= SortedEntries::FIRST.0, "seed {seed}: {to_sort:?}");
        assert!(found.is_none() || quick == sorted, "seed {seed}");
        unsorted[usize::from(found.is_some())] += 1;
    }
    assert!(unsorted.iter().all(|&count| count > 50), "{unsorted:?}");
}

#[test]
fn usual_leg_is_read_without_a_queue() {
    let mut spool = SpoolBuilder::new();
    // The call engine stores its decisions when the media begins, and the messages before it.
    spool.stream(at_ms(3_000.0), Side::Caller);
    spool.raw(at_ms(0.0), SpoolBuilder::flow(Side::Caller), b"INVITE sip:a SIP/2.0", 20);
    (0..2_000).for_each(|n| packet(&mut spool, 3_000.0 + 20.0 * f64::from(n)));
    spool.end(at_ms(40_000.0));
    let (sorted, queued, _) = sound_entries(&spool.source(), SortedEntries::ALL);
    assert!(queued > 200, "five seconds of packets are sorted: {queued}");
    let (again, queued, to_sort) = sound_entries(&spool.source(), SortedEntries::FIRST);
    assert_eq!(again, sorted);
    assert!(queued <= 64, "{queued} entries in the queue");
    assert!(to_sort.is_some());
}
