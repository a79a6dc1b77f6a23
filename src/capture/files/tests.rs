use std::io::Write;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::capture::LinkType;

/// A frame in a form that tests can compare: time in ns, link type, interface, length on the wire, bytes.
type ComparedFrame = (i64, LinkType, u32, u32, Vec<u8>);

fn classic(magic: u32, big: bool, frames: &[(u32, u32, &[u8])]) -> Vec<u8> {
    let u32b = |v: u32| if big { v.to_be_bytes() } else { v.to_le_bytes() };
    let u16b = |v: u16| if big { v.to_be_bytes() } else { v.to_le_bytes() };
    let mut out = u32b(magic).to_vec();
    out.extend([u16b(2), u16b(4)].concat());
    out.extend([u32b(0), u32b(0), u32b(65535), u32b(1)].concat());
    for (secs, frac, data) in frames {
        out.extend([u32b(*secs), u32b(*frac), u32b(data.len() as u32), u32b(data.len() as u32 + 4)].concat());
        if magic == 0xa1b2_cd34 {
            out.extend([0; 8]);
        }
        out.extend_from_slice(data);
    }
    out
}

fn block(kind: u32, body: &[u8], big: bool) -> Vec<u8> {
    let u32b = |v: u32| if big { v.to_be_bytes() } else { v.to_le_bytes() };
    let padded = body.len().next_multiple_of(4);
    let mut out = [u32b(kind), u32b(padded as u32 + 12)].concat();
    out.extend_from_slice(body);
    out.resize(8 + padded, 0);
    out.extend(u32b(padded as u32 + 12));
    out
}

fn section(big: bool) -> Vec<u8> {
    let u32b = |v: u32| if big { v.to_be_bytes() } else { v.to_le_bytes() };
    let version = if big { [0, 1, 0, 0] } else { [1, 0, 0, 0] };
    block(0x0a0d_0d0a, &[&u32b(0x1a2b_3c4d)[..], &version, &[0xff; 8]].concat(), big)
}

fn interface(link: u16, options: &[(u16, &[u8])], big: bool) -> Vec<u8> {
    let u16b = |v: u16| if big { v.to_be_bytes() } else { v.to_le_bytes() };
    let mut body = [&u16b(link)[..], &[0, 0], &[0, 0, 0, 0]].concat();
    for (code, value) in options {
        body.extend([u16b(*code), u16b(value.len() as u16)].concat());
        body.extend_from_slice(value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    block(1, &body, big)
}

fn enhanced(interface: u32, units: u64, data: &[u8], big: bool) -> Vec<u8> {
    let u32b = |v: u32| if big { v.to_be_bytes() } else { v.to_le_bytes() };
    let len = data.len() as u32;
    let head = [u32b(interface), u32b((units >> 32) as u32), u32b(units as u32), u32b(len), u32b(len)].concat();
    block(6, &[&head, data].concat(), big)
}

/// The frames of a source, the time and size of its clock steps, and its warnings.
type ReadEvents = (Vec<ComparedFrame>, Vec<(i64, i64)>, Vec<String>);

/// Writes files into a folder, opens them as one source and reads all frames. They are read with and without a thread,
/// which must make no difference.
fn read_all(files: &[Vec<u8>]) -> ReadEvents {
    let dir = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = files
        .iter()
        .enumerate()
        .map(|(i, bytes)| {
            let path = dir.path().join(format!("{i}.pcap"));
            std::fs::write(&path, bytes).unwrap();
            path
        })
        .collect();
    let read = read_source(&mut open(&paths).unwrap());
    assert!(read_source(&mut FileReadThread::start(open(&paths).unwrap()).unwrap()) == read, "read in a thread");
    read
}

/// Reads all frames of a source. The frames that the source shows before each event must follow later.
fn read_source(source: &mut dyn CaptureSource) -> ReadEvents {
    let (mut frames, mut steps, mut shown) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        let mut ahead = Vec::new();
        source.look_ahead(16, &mut |link, data| ahead.push((link, data.to_vec())));
        shown.push((frames.len(), ahead));
        match source.next_event().unwrap() {
            CaptureEvent::Frame(f) => frames.push((f.at.as_nanos(), f.link, f.interface, f.orig_len, f.data.to_vec())),
            CaptureEvent::ClockStep { at, by_ns } => steps.push((at.as_nanos(), by_ns)),
            CaptureEvent::Tick(_) => panic!("a file never ticks"),
            CaptureEvent::End => break,
        }
    }
    assert!(matches!(source.next_event().unwrap(), CaptureEvent::End));
    assert_eq!(source.counters().frames as usize, frames.len());
    for (from, ahead) in shown {
        let mut following = frames[from..].iter();
        for (link, data) in ahead {
            assert!(
                following.any(|frame: &ComparedFrame| frame.1 == link && frame.4 == data),
                "shown after {from} frames"
            );
        }
    }
    (frames, steps, source.take_warnings().iter().map(ToString::to_string).collect())
}

fn stamps(frames: &[ComparedFrame]) -> Vec<i64> {
    frames.iter().map(|f| f.0).collect()
}

const SEC: i64 = 1_000_000_000;

#[test]
fn each_pcap_variant_yields_the_same_frame() {
    for (magic, big, unit) in [
        (0xa1b2_c3d4_u32, false, 1_000),
        (0xa1b2_c3d4, true, 1_000),
        (0xa1b2_3c4d, false, 1),
        (0xa1b2_3c4d, true, 1),
        (0xa1b2_cd34, false, 1_000),
        (0xa1b2_cd34, true, 1_000),
    ] {
        let (frames, steps, warnings) = read_all(&[classic(magic, big, &[(7, 5, b"abc"), (8, 6, b"de")])]);
        assert_eq!(
            frames,
            [
                (7 * SEC + 5 * unit, LinkType::Ethernet, 0, 7, b"abc".to_vec()),
                (8 * SEC + 6 * unit, LinkType::Ethernet, 0, 6, b"de".to_vec())
            ],
            "magic {magic:x} big-endian {big}"
        );
        assert!(steps.is_empty() && warnings.is_empty());
    }
}

#[test]
fn pcapng_interfaces_have_their_own_link_type_resolution_and_offset() {
    for big in [false, true] {
        let offset = if big { 1000_i64.to_be_bytes() } else { 1000_i64.to_le_bytes() };
        let file = [
            section(big),
            interface(1, &[], big),
            interface(101, &[(9, &[9]), (14, &offset)], big),
            // The timestamps of this interface count units of 2^-10 s.
            interface(113, &[(9, &[0x8a])], big),
            enhanced(0, 2_000_005, b"a", big),
            enhanced(1, 3_000_000_001, b"bc", big),
            enhanced(2, 1003 * 1024 + 512, b"def", big),
            // A simple packet block has no timestamp, so its frame takes the timestamp of the previous packet.
            block(3, &[&if big { 4_u32.to_be_bytes() } else { 4_u32.to_le_bytes() }[..], b"ghij"].concat(), big),
        ]
        .concat();
        let (frames, _, warnings) = read_all(&[file]);
        assert_eq!(
            frames,
            [
                (2 * SEC + 5_000, LinkType::Ethernet, 0, 1, b"a".to_vec()),
                (1003 * SEC + 1, LinkType::RawIp, 1, 2, b"bc".to_vec()),
                (1003 * SEC + SEC / 2, LinkType::LinuxSll, 2, 3, b"def".to_vec()),
                (1003 * SEC + SEC / 2, LinkType::Ethernet, 0, 4, b"ghij".to_vec()),
            ],
            "big-endian {big}"
        );
        assert!(warnings.is_empty());
    }
}

#[test]
fn new_section_can_change_byte_order_and_interfaces() {
    let obsolete = block(
        2,
        &[&[0, 0, 0, 9][..], &0_u32.to_be_bytes(), &7_000_000_u32.to_be_bytes(), &[0, 0, 0, 2], &[0, 0, 0, 2], b"xy"]
            .concat(),
        true,
    );
    let file = [
        section(false),
        interface(1, &[], false),
        enhanced(0, 6_000_000, b"a", false),
        section(true),
        interface(276, &[], true),
        obsolete,
    ]
    .concat();
    let (frames, _, _) = read_all(&[file]);
    assert_eq!(frames[0].1, LinkType::Ethernet);
    assert_eq!(frames[1], (7 * SEC, LinkType::LinuxSll2, 0, 2, b"xy".to_vec()));
}

#[test]
fn packet_with_unknown_interface_or_wrong_length_is_skipped() {
    let mut lying = enhanced(0, 1, b"abcd", false);
    lying[20..24].copy_from_slice(&4000_u32.to_le_bytes());
    let file = [
        section(false),
        interface(1, &[], false),
        enhanced(5, 1, b"no", false),
        lying,
        block(0xbad, b"custom", false),
        enhanced(0, 2_000_000, b"yes", false),
    ]
    .concat();
    let (frames, _, warnings) = read_all(&[file]);
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0].4, b"yes");
    assert!(warnings.is_empty());
}

#[test]
fn gzip_with_several_members_is_decompressed() {
    let plain = classic(0xa1b2_c3d4, false, &[(7, 5, b"abc"), (8, 6, b"de")]);
    let mut packed = Vec::new();
    for half in [&plain[..30], &plain[30..]] {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(half).unwrap();
        packed.extend(encoder.finish().unwrap());
    }
    let (frames, _, warnings) = read_all(std::slice::from_ref(&packed));
    assert_eq!((frames.len(), warnings.len()), (2, 0));
    packed.truncate(packed.len() - 12);
    let (_, _, warnings) = read_all(&[packed]);
    assert!(warnings[0].contains("gzip"), "{warnings:?}");
}

#[test]
fn files_are_merged_by_time_and_equal_times_keep_file_order() {
    let a = classic(0xa1b2_c3d4, false, &[(10, 0, b"a0"), (20, 0, b"a1")]);
    let b = classic(0xa1b2_c3d4, false, &[(5, 0, b"b0"), (20, 0, b"b1"), (30, 0, b"b2")]);
    let (frames, steps, _) = read_all(&[a, b]);
    let order: Vec<&[u8]> = frames.iter().map(|f| &f.4[..]).collect();
    assert_eq!(order, [b"b0", b"a0", b"a1", b"b1", b"b2"]);
    // Interfaces are numbered over all files, in the order in which they appear.
    assert_eq!(frames.iter().map(|f| f.2).collect::<Vec<_>>(), [0, 1, 1, 0, 0]);
    assert!(steps.is_empty());
}

#[test]
fn reading_thread_passes_on_more_frames_than_one_batch() {
    let payloads: Vec<Vec<u8>> = (0..5_000_u32).map(|number| number.to_be_bytes().repeat(50)).collect();
    let frames: Vec<(u32, u32, &[u8])> = (0..).zip(&payloads).map(|(at, data)| (at, 0, &data[..])).collect();
    let (read, _, _) = read_all(&[classic(0xa1b2_c3d4, false, &frames)]);
    assert!(read.iter().map(|frame| &frame.4).eq(&payloads));
}

#[test]
fn reading_thread_shows_the_frames_that_follow() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("1.pcap");
    let payloads: Vec<Vec<u8>> = (0..40_u8).map(|number| vec![number; usize::from(number)]).collect();
    let frames: Vec<(u32, u32, &[u8])> = (0..).zip(&payloads).map(|(at, data)| (at, 0, &data[..])).collect();
    std::fs::write(&path, classic(0xa1b2_c3d4, false, &frames)).unwrap();
    let mut source = FileReadThread::start(open(&[path]).unwrap()).unwrap();
    assert_eq!(source.look_ahead(16, &mut |_, _| panic!("nothing was read yet")), 0);
    for from in 1..=payloads.len() {
        assert!(matches!(source.next_event().unwrap(), CaptureEvent::Frame(_)));
        let mut ahead = Vec::new();
        let count = source.look_ahead(16, &mut |_, data| ahead.push(data.to_vec()));
        assert_eq!(ahead, payloads[from..(from + 16).min(payloads.len())]);
        assert_eq!(count, ahead.len());
    }
}

#[test]
fn read_error_comes_after_the_frames_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let files = [folder.path().join("1.pcap"), folder.path().join("2.pcap")];
    std::fs::write(&files[0], classic(0xa1b2_c3d4, false, &[(1, 0, b"a"), (2, 0, b"b")])).unwrap();
    std::fs::write(&files[1], classic(0xa1b2_c3d4, false, &[(3, 0, b"c")])).unwrap();
    let source = open(&files).unwrap();
    std::fs::remove_file(&files[1]).unwrap(); // it is opened again when the merge reaches it
    let mut source = FileReadThread::start(source).unwrap();
    for data in [b"a", b"b"] {
        assert!(matches!(source.next_event().unwrap(), CaptureEvent::Frame(frame) if frame.data == data));
    }
    assert!(source.next_event().is_err());
}

#[test]
fn reading_thread_ends_when_nobody_takes_its_frames() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("1.pcap");
    let frames = vec![(1, 0, &[7; 1_000][..]); 5_000];
    std::fs::write(&path, classic(0xa1b2_c3d4, false, &frames)).unwrap();
    let mut source = FileReadThread::start(open(&[path]).unwrap()).unwrap();
    assert!(matches!(source.next_event().unwrap(), CaptureEvent::Frame(_)));
    let thread = source.thread.take().unwrap();
    drop(source);
    thread.join().unwrap();
}

/// Returns a frame with an RTP packet. `stream` is the source port.
fn rtp_frame(stream: u16, sequence: u16) -> Vec<u8> {
    let mut frame =
        [&[0; 12][..], &[8, 0, 0x45, 0, 0, 48, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]].concat();
    frame.extend([stream.to_be_bytes(), [0x40, 0], [0, 28], [0, 0], [0x80, 8], sequence.to_be_bytes()].concat());
    frame.extend([u32::from(sequence) * 160, u32::from(stream).wrapping_mul(HASH)].map(u32::to_be_bytes).concat());
    frame.extend([0xd5; 8]);
    frame
}

/// Each of eight processor cores captures a part of the streams. From the second piece on, it delivers its frames in
/// pieces of 60 ms. So the timestamps jump back by 60 ms seven times in each piece.
#[test]
fn cores_of_a_busy_capture_do_not_look_like_clock_steps() {
    let mut frames = Vec::new();
    for sequence in 0..18_u16 {
        for stream in 0..STREAMS {
            let at_us = 1_000_000 + u32::from(sequence) * 20_000 + u32::from(stream) * 20_000 / u32::from(STREAMS);
            frames.push((at_us / 1_000_000, at_us % 1_000_000, rtp_frame(stream, sequence)));
        }
    }
    let piece = 3 * usize::from(STREAMS);
    // The sort is stable: the frames of each core stay in order.
    frames.chunks_mut(piece).skip(1).for_each(|frames| frames.sort_by_key(|(_, _, frame)| frame[35] % 8));
    let frames: Vec<_> = frames.iter().map(|(secs, micros, frame)| (*secs, *micros, &frame[..])).collect();
    let (read, steps, warnings) = read_all(&[classic(0xa1b2_c3d4, false, &frames)]);
    assert_eq!((read.len(), steps, warnings), (frames.len(), Vec::new(), Vec::new()));
}

/// Number of streams in a busy capture: many more than prove clock steps.
const STREAMS: u16 = 10_000;
/// Odd number by which the number of a stream is multiplied to get its SSRC.
const HASH: u32 = 0x9E37_79B1;

#[test]
fn small_disorder_within_a_file_is_kept() {
    let file = classic(0xa1b2_c3d4, false, &[(10, 0, b"a"), (8, 0, b"b"), (11, 0, b"c")]);
    let (frames, steps, _) = read_all(&[file]);
    assert_eq!(stamps(&frames), [10 * SEC, 8 * SEC, 11 * SEC]);
    assert!(steps.is_empty());
}

#[test]
fn clock_set_back_is_reported_once_and_time_goes_on() {
    let file = classic(0xa1b2_c3d4, false, &[(1000, 0, b"a"), (400, 0, b"b"), (401, 0, b"c")]);
    let (frames, steps, _) = read_all(&[file]);
    assert_eq!(steps, [(1000 * SEC, -600 * SEC)]);
    assert_eq!(stamps(&frames), [1000 * SEC, 1000 * SEC, 1001 * SEC]);
}

#[test]
fn rtp_shows_the_exact_size_of_a_large_clock_step() {
    for back_ms in [5_005, 7_000, 3_600_000] {
        let at_ms = |n: u16| 10_000_000 + u32::from(n) * 10 - if n < 60 { 0 } else { back_ms };
        let frames: Vec<Vec<u8>> = (0..120).map(|n| rtp_frame(4_000 + n % 2, n / 2)).collect();
        let frames: Vec<_> =
            (0..).zip(&frames).map(|(n, data)| (at_ms(n) / 1_000, at_ms(n) % 1_000 * 1_000, &data[..])).collect();
        let (read, steps, _) = read_all(&[classic(0xa1b2_c3d4, false, &frames)]);
        let step = 10_000 * SEC + 600_000_000;
        assert_eq!(steps, [(step, -i64::from(back_ms) * 1_000_000)]);
        assert!(stamps(&read).windows(2).all(|pair| pair[1] - pair[0] == 10_000_000), "{back_ms} ms");
    }
}

#[test]
fn two_files_with_the_same_clock_step_share_it() {
    let a = classic(0xa1b2_c3d4, false, &[(1000, 0, b"a"), (1002, 0, b"a"), (402, 0, b"a"), (404, 0, b"a")]);
    let b = classic(0xa1b2_c3d4, false, &[(1001, 0, b"b"), (403, 0, b"b")]);
    let (frames, steps, _) = read_all(&[a, b]);
    // In file b the timestamps jump from 1001 s to 403 s (-598 s), in file a from 1002 s to 402 s (-600 s). Both jumps
    // are the same clock step, so only the first jump in the merge is returned: that of file b.
    assert_eq!(steps, [(1001 * SEC, -598 * SEC)]);
    assert_eq!(frames.len(), 6);
    assert_eq!(frames.last().unwrap().0, (404 + 598) * SEC);
}

#[test]
fn absurd_timestamps_are_limited_to_plausible_years() {
    for offset in [i64::MAX, i64::MIN, -1] {
        let mut file = [section(false), interface(1, &[(14, &offset.to_le_bytes())], false)].concat();
        for units in [u64::MAX, 0, u64::MAX, 1 << 62, 5] {
            file.extend(enhanced(0, units, b"x", false));
        }
        let (frames, _, _) = read_all(&[file]);
        assert_eq!(frames.len(), 5, "offset {offset}");
        let years = 0..=Timestamp::from_secs(7_258_118_400).as_nanos(); // from 1970 to 2200
        assert!(years.contains(&frames[0].0), "offset {offset}: {frames:?}");
        // The timeline never runs backwards, although the timestamps of the file do.
        assert!(frames.is_sorted_by_key(|frame| frame.0), "offset {offset}: {frames:?}");
    }
}

#[test]
fn truncated_file_yields_its_frames_and_a_warning() {
    let mut file = classic(0xa1b2_c3d4, false, &[(1, 0, b"abc"), (2, 0, b"def")]);
    file.pop();
    let (frames, _, warnings) = read_all(std::slice::from_ref(&file));
    assert_eq!(frames.len(), 1);
    assert!(warnings[0].contains("cut short"), "{warnings:?}");
    file.truncate(24 + 19);
    file.extend([0xff; 100]);
    let (frames, _, warnings) = read_all(&[file]);
    assert_eq!(frames.len(), 1);
    // The file header has 24 bytes, and 16 + 3 bytes of the first record follow, so the rubbish begins at byte 43.
    assert!(warnings[0].contains("rubbish at byte 43"), "{warnings:?}");
}

#[test]
fn absurd_block_length_ends_the_file_without_allocation() {
    let mut huge = [6_u32.to_le_bytes(), u32::MAX.to_le_bytes()].concat();
    huge.extend([0; 100]);
    let (frames, _, warnings) =
        read_all(&[[section(false), interface(1, &[], false), enhanced(0, 1, b"a", false), huge].concat()]);
    assert_eq!(frames.len(), 1);
    assert!(warnings[0].contains("rubbish"), "{warnings:?}");
}

#[test]
fn other_file_types_are_rejected_with_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.wav");
    std::fs::write(&path, b"RIFF\x24\x00\x00\x00WAVEfmt ").unwrap();
    let text = open(std::slice::from_ref(&path)).unwrap_err().to_string();
    assert!(text.contains("x.wav is no capture") && text.contains("WAV recording"), "{text}");
    let missing = open(&[dir.path().join("none.pcap")]).unwrap_err().to_string();
    assert!(missing.contains("cannot read"), "{missing}");
}

#[test]
fn long_frames_and_long_files_are_read_completely() {
    let large = vec![7_u8; 300_000];
    let small = vec![9_u8; 1000];
    let mut frames: Vec<(u32, u32, &[u8])> = vec![(1, 0, &large)];
    frames.extend((0..1000).map(|i| (2, i, &small[..])));
    frames.push((3, 0, &large));
    let (seen, _, warnings) = read_all(&[classic(0xa1b2_c3d4, false, &frames)]);
    assert_eq!((seen.len(), warnings.len()), (1002, 0));
    assert!(seen.iter().zip(&frames).all(|(s, f)| s.4 == f.2));
}

proptest! {
    #[test]
    fn any_bytes_after_a_header_end_the_file_without_a_panic(
        tail in prop::collection::vec(any::<u8>(), 0..400), ng in any::<bool>(), cut in 0_usize..200,
    ) {
        let mut file = if ng {
            [section(false), interface(1, &[], false), enhanced(0, 1, b"abc", false)].concat()
        } else {
            classic(0xa1b2_c3d4, false, &[(1, 0, b"abc")])
        };
        let keep = file.len().saturating_sub(cut).max(28);
        file.truncate(keep);
        file.extend(tail);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.pcap");
        std::fs::write(&path, &file).unwrap();
        if let Ok(mut source) = open(&[path]) {
            while !matches!(source.next_event(), Ok(CaptureEvent::End) | Err(_)) {}
        }
    }
}
