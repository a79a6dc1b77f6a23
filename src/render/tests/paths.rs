//! Tests the straight path of a packet, i.e. from the spool to its decoder without queue and copy. It must give the
//! same sound and the same report as the general path.

use std::path::{Path, PathBuf};

use super::*;
use crate::call::Engine;
use crate::call::config::Config;
use crate::call::event::CallEvent;
use crate::decode::FrameDecoder;
use crate::render::player::PlayPaths;
use crate::render::second_pass::render_by;
use crate::spool::memory::MemorySpool;
use crate::spool::{LegSource, LegStore as _};

/// Renders a spool with all packets on the general path. Compares sound and report with those of the straight path,
/// i.e. without queue and copy.
pub(super) fn assert_same_by_general_path(
    source: &LegSource,
    plan: &RenderPlan,
    (report, frames): (&RenderReport, &[[i16; 2]]),
) {
    if frames.len() > LONGEST {
        return;
    }
    let mut at = 0;
    let general = render_by(PlayPaths::GeneralOnly, plan, source, &mut |some| {
        assert!(frames[at..].starts_with(some), "the sound differs in the second from sample {at} on");
        at += some.len();
        Ok(())
    });
    assert_eq!(&general.unwrap(), report);
    assert_eq!(at, frames.len());
}

/// Number of samples of the longest recording that is rendered twice: five minutes. Rendering is slow in an unoptimised
/// build.
const LONGEST: usize = 300 * 8_000;

fn compare(source: &LegSource) {
    let plan = plan(source, &RenderOptions::default()).unwrap();
    let mut frames = Vec::new();
    let report = render(&plan, source, &mut |some| {
        frames.extend_from_slice(some);
        Ok(())
    });
    assert_same_by_general_path(source, &plan, (&report.unwrap(), &frames));
}

/// Renders all legs of a capture by the straight path (without queue and copy) and by the general path, and compares
/// both. Returns the number of legs.
#[cfg(feature = "service")]
fn compare_capture(capture: &Path) -> usize {
    use crate::capture::{CaptureEvent, CaptureSource as _};

    let mut source = crate::capture::files::open(&[capture.to_owned()]).expect("a capture");
    let (mut decoder, mut engine) = (FrameDecoder::new(), Engine::new(Config::default(), "test"));
    let mut spool = MemorySpool::new(256, PathBuf::new());
    loop {
        match source.next_event().expect("readable") {
            CaptureEvent::Frame(frame) => {
                decoder.handle_frame(&frame, &mut |decoded| engine.handle_decoded(&decoded, &mut spool));
            }
            CaptureEvent::Tick(now) => engine.handle_timeout(now, &mut spool),
            CaptureEvent::ClockStep { by_ns, .. } => engine.handle_clock_step(by_ns, &mut spool),
            CaptureEvent::End => break,
        }
    }
    decoder.handle_end(&mut |decoded| engine.handle_decoded(&decoded, &mut spool));
    engine.handle_end_of_capture(&mut spool);
    let mut legs = 0;
    while let Some(event) = engine.poll_event() {
        let CallEvent::Ended(ended) = event else { continue };
        for source in ended.legs.iter().filter_map(|leg| spool.source(leg)) {
            compare(&source);
            legs += 1;
        }
    }
    legs
}

#[cfg(feature = "service")]
#[test]
fn straight_path_gives_the_same_sound_for_all_captures() {
    let calls = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/calls");
    let folders = std::fs::read_dir(calls).expect("fixtures").flatten();
    let captures: Vec<PathBuf> = folders.map(|f| f.path().join("capture.pcap")).filter(|p| p.is_file()).collect();
    let legs: usize = captures.iter().map(|capture| compare_capture(capture)).sum();
    assert!(legs >= captures.len() / 2 && captures.len() > 20, "{legs} legs of {} captures", captures.len());
}

#[test]
fn straight_path_gives_the_same_sound_for_disturbed_streams() {
    for seed in 0..40 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut spool = started();
        let mut sender = TestSender::new(&mut spool, Side::Caller);
        spool.payload(at_ms(0.0), sender.stream, 13, Some(format_of("CN", 8_000)));
        spool.payload(at_ms(0.0), sender.stream, 101, Some(format_of("TELEPHONE-EVENT", 8_000)));
        let mut now = 100.0;
        for _ in 0..400 {
            let at = at_ms(now + rng.f64() * 8.0);
            match rng.u32(0..60) {
                0 => (0..rng.u32(1..8)).for_each(|_| sender.skip()),
                1 => sender.pt = if sender.pt == 0 { 8 } else { 0 },
                2 => sender.ptime_ms = if sender.ptime_ms == 20 { 30 } else { 20 },
                3 => {
                    // The sender sends one comfort noise packet, and then pauses for 300 ms.
                    let pt = std::mem::replace(&mut sender.pt, 13);
                    sender.send_as(&mut spool, at, &[40]);
                    (sender.pt, now) = (pt, now + 300.0);
                    sender.time = sender.time.wrapping_add(8 * 300);
                }
                4 => {
                    // The next two packets arrive in reverse order.
                    let (first, second) = (at_ms(now + 9.0), at_ms(now + 1.0));
                    let pair = [sender.sequence, sender.sequence.wrapping_add(1)];
                    let (time, payload) = (sender.time, sender.payload());
                    let step = 8 * sender.ptime_ms;
                    for (at, n) in [(second, 1), (first, 0)] {
                        let time = time.wrapping_add(n as u32 * step);
                        let rtp = TestRtp { pt: sender.pt, sequence: pair[n], time, payload: &payload };
                        spool.rtp(at, (sender.stream, sender.side), rtp);
                    }
                    (0..2).for_each(|_| sender.skip());
                    now += 2.0 * f64::from(sender.ptime_ms);
                    continue;
                }
                5 => {
                    let pt = std::mem::replace(&mut sender.pt, 101);
                    sender.send_as(&mut spool, at, &[1, 0x80, 0, 160]);
                    sender.pt = pt;
                }
                6 => sender.send_as(&mut spool, at, &[]),
                7 => sender.time = sender.time.wrapping_add(rng.u32(0..100_000)),
                8 => spool.payload(at, sender.stream, 0, Some(format_of("PCMU", 8_000))),
                _ => sender.send(&mut spool, at),
            }
            now += f64::from(sender.ptime_ms);
        }
        compare(&ended(spool, now + 200.0).source());
    }
}

/// Returns the next packet of a sender, with `flags` set in its first byte. The bytes that the flags announce are not
/// sound; if they were played, they would be the loudest.
fn packet_with(flags: u8, sender: &TestSender) -> Vec<u8> {
    let payload = vec![level(sender.sent); 8 * sender.ptime_ms as usize];
    let rtp = TestRtp { pt: sender.pt, sequence: sender.sequence, time: sender.time, payload: &payload };
    let mut packet = SpoolBuilder::packet_bytes(sender.stream, rtp);
    packet[0] |= flags;
    let mut more = vec![CLICK; 4 * usize::from(flags & SOURCES)];
    if flags & EXTENSION != 0 {
        // A header extension of two words, with elements that have one-byte headers (RFC 8285).
        more.extend([0xBE, 0xDE, 0, 2]);
        more.extend([CLICK; 8]);
    }
    packet.splice(FIXED..FIXED, more);
    if flags & PADDING != 0 {
        packet.extend([CLICK; 7]);
        packet.push(8);
    }
    packet
}

/// Length of the fixed RTP header, bytes (RFC 3550 section 5.1). The constants `PADDING` and `EXTENSION` are flags in
/// its first byte.
const FIXED: usize = 12;
const PADDING: u8 = 0x20;
const EXTENSION: u8 = 0x10;
/// Bits of the first byte for the number of contributing sources.
const SOURCES: u8 = 0x0F;

#[test]
fn straight_path_leaves_packets_with_longer_headers_to_the_general_path() {
    for flags in [PADDING, EXTENSION, 1, 2, 15, PADDING | EXTENSION | 3] {
        let mut spool = started();
        let mut sender = TestSender::new(&mut spool, Side::Caller);
        let mut now = 100.0;
        for _ in 0..5 {
            now = sender.talk(&mut spool, now, 20);
            // A pause follows this packet, so no later sound overwrites the end of its sound.
            let packet = packet_with(flags, &sender);
            spool.raw(at_ms(now), SpoolBuilder::flow(sender.side), &packet, packet.len() as u32);
            sender.skip();
            sender.time = sender.time.wrapping_add(8 * 300);
            now += 320.0;
        }
        compare(&ended(spool, now + 200.0).source());
    }
}

#[test]
fn straight_path_follows_an_offer_that_gives_a_payload_type_another_codec() {
    for other in [Some(format_of("PCMA", 8_000)), Some(format_of("G722", 8_000)), None] {
        let mut spool = started();
        let mut sender = TestSender::new(&mut spool, Side::Caller);
        sender.pt = 96;
        let mut now = 100.0;
        for format in [Some(format_of("PCMU", 8_000)), other].into_iter().cycle().take(6) {
            spool.payload(at_ms(now - 5.0), sender.stream, sender.pt, format);
            now = sender.talk(&mut spool, now, 30);
        }
        compare(&ended(spool, now + 200.0).source());
    }
}
