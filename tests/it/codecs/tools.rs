//! Compares callspan's decoders with independent decoders (Debian packages `ffmpeg`, `libbcg729-dev`) on the packets of
//! the fixture calls.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::captures::rtp_of;
use super::{decoder, snr_db, words};

/// Returns the packets of one side of a fixture call with a payload type: RTP time and payload of each, in order of
/// arrival.
fn side(call: &str, host: u8, pt: u8) -> Vec<(u32, Vec<u8>)> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/calls/{call}/capture.pcap"));
    let packets = rtp_of(&std::fs::read(path).unwrap());
    let of_side = packets.into_iter().filter(|(from, packet)| *from == host && packet[1] & 0x7F == pt);
    let side: Vec<_> = of_side
        .map(|(_, packet)| (u32::from_be_bytes(packet[4..8].try_into().unwrap()), packet[12..].to_vec()))
        .filter(|(_, payload)| !payload.is_empty())
        .collect();
    assert!(side.len() > 250, "{call}: {}", side.len());
    side
}

fn payloads(side: &[(u32, Vec<u8>)]) -> impl Iterator<Item = &[u8]> {
    side.iter().map(|(_, payload)| payload.as_slice())
}

fn ours(encoding: &str, fmtp: &str, side: &[(u32, Vec<u8>)]) -> Vec<i16> {
    let (mut decoder, mut out) = (decoder(encoding, 8_000, fmtp), Vec::new());
    payloads(side).for_each(|payload| decoder.decode(payload, &mut out).unwrap());
    out
}

/// Runs a program and passes `input` to its standard input. Returns its standard output.
fn piped(program: &std::ffi::OsStr, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut command = Command::new(program);
    let mut child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "{}: {}", program.display(), output.status);
    output.stdout
}

/// Decodes a file with ffmpeg; the options of input and output are given. Returns 16-bit samples.
pub fn ffmpeg(input_options: &[&str], file: &[u8], output_options: &[&str]) -> Vec<i16> {
    let arguments =
        [&["-loglevel", "error"][..], input_options, &["-i", "-"], output_options, &["-f", "s16le", "-"]].concat();
    words(&piped("ffmpeg".as_ref(), &arguments, file))
}

/// Decodes frames of G.729 with bcg729, in a program that is compiled for this test. An empty frame stands for a lost
/// frame or a pause.
pub fn bcg729(frames: &[&[u8]]) -> Vec<i16> {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("bcg729");
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/codecs/bcg729.c");
    let compiled =
        Command::new("cc").arg(source).arg("-o").arg(&program).arg("-lbcg729").stderr(Stdio::null()).status();
    assert!(compiled.is_ok_and(|status| status.success()), "bcg729.c compiles");
    let rows: Vec<u8> = frames.iter().flat_map(|frame| [&[frame.len() as u8], *frame].concat()).collect();
    words(&piped(program.as_os_str(), &[], &rows))
}

#[test]
#[cfg_attr(not(has_bcg729), ignore = "needs libbcg729-dev and a C compiler")]
fn g729_of_a_call_is_within_30_db_of_bcg729() {
    for host in [11, 12] {
        let side = side("g729_direct", host, 18);
        let frames: Vec<&[u8]> = payloads(&side).flat_map(|payload| payload.chunks(10)).collect();
        let expected = bcg729(&frames);
        let got = ours("G729", "annexb=no", &side);
        assert_eq!(got.len(), expected.len());
        let snr = snr_db(&expected, &got);
        eprintln!("G.729, {host}: {snr:.1} dB");
        assert!(snr >= 30.0, "{host}: {snr:.1} dB");
    }
}

#[test]
#[cfg_attr(not(has_bcg729), ignore = "needs libbcg729-dev and a C compiler")]
fn g729_annex_b_of_a_call_is_within_30_db_of_bcg729() {
    for host in [11, 12] {
        let side = side("g729_annexb_sid_direct", host, 18);
        let (mut frames, mut next): (Vec<&[u8]>, _) = (Vec::new(), side[0].0);
        let (mut decoder, mut got) = (decoder("G729", 8_000, ""), Vec::new());
        for (time, payload) in &side {
            let pause = time.wrapping_sub(next) as usize;
            assert!(pause < 8_000 * 10, "{host}: the packets are in order");
            frames.extend(std::iter::repeat_n(&[][..], pause / 80));
            frames.extend(payload.chunks(10));
            decoder.conceal(pause / 80 * 80, None, &mut got);
            decoder.decode(payload, &mut got).unwrap();
            next = time.wrapping_add(payload.chunks(10).count() as u32 * 80);
        }
        assert!(frames.iter().filter(|frame| frame.len() == 2).count() > 5, "{host}: descriptors");
        let expected = bcg729(&frames);
        assert_eq!(got.len(), expected.len());
        let snr = snr_db(&expected, &got);
        eprintln!("G.729 annex B, {host}: {snr:.1} dB");
        assert!(snr >= 30.0, "{host}: {snr:.1} dB");
    }
}

#[test]
#[cfg_attr(not(has_ffmpeg), ignore = "needs ffmpeg")]
fn amr_of_a_call_is_within_28_db_of_ffmpeg() {
    // ffmpeg computes in floating point, but the standard in integers, so the samples differ a little. The stored
    // fixtures equal the output of opencore to the bit.
    for host in [11, 12] {
        let side = side("amr_direct", host, 96);
        // A packet has one frame in bandwidth-efficient form: mode request (4 bits), frame type and quality (6 bits),
        // speech bits. A file has whole bytes (RFC 4867 section 5.3).
        let mut file = b"#!AMR\n".to_vec();
        for payload in payloads(&side) {
            let bits: Vec<u8> = payload.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
            assert_eq!(bits[4], 0, "one frame");
            let byte = |bits: &[u8]| (0..8).fold(0, |byte, i| byte << 1 | bits.get(i).copied().unwrap_or_default());
            file.push(byte(&bits[4..10]));
            let length = [95, 103, 118, 134, 148, 159, 204, 244, 39]
                [usize::from(payload[0] & 7) << 1 | usize::from(payload[1] >> 7)];
            file.extend(bits[10..10 + length].chunks(8).map(byte));
        }
        let expected = ffmpeg(&["-f", "amr"], &file, &[]);
        let got = ours("AMR", "", &side);
        assert_eq!(got.len(), expected.len());
        let snr = snr_db(&expected, &got);
        eprintln!("AMR, {host}: {snr:.1} dB");
        assert!(snr >= 28.0, "{host}: {snr:.1} dB");
    }
}

#[test]
#[cfg_attr(not(has_ffmpeg), ignore = "needs ffmpeg")]
fn ilbc_of_a_call_is_that_of_ffmpeg_but_for_the_enhancer() {
    // ffmpeg has no enhancer. So the sound of callspan is 10 ms later, and it may differ by a twentieth of the energy
    // (13 dB).
    let delay = 80;
    for host in [11, 12] {
        let side = side("ilbc_direct", host, 96);
        let file = [&b"#!iLBC30\n"[..], &payloads(&side).collect::<Vec<_>>().concat()].concat();
        let expected = ffmpeg(&["-f", "ilbc"], &file, &[]);
        let got = ours("ILBC", "mode=30", &side);
        assert_eq!(got.len(), expected.len());
        let snr = snr_db(&expected[..expected.len() - delay], &got[delay..]);
        eprintln!("iLBC, {host}: {snr:.1} dB");
        assert!(snr >= 14.0, "{host}: {snr:.1} dB");
    }
}
