//! Codecs against the standards' vectors.
//!
//! The vectors of the ITU are not ours to ship: these tests read them from the folder that `CALLSPAN_CORPUS` names
//! (with `codecs/` and `captures/` in it) and say so when it is unset. What runs without it are the unit tests of each
//! codec and the fixtures that we made ourselves.

#![allow(clippy::print_stderr, reason = "a skipped test says why")]

use std::path::PathBuf;

use callspan::call::decision::PayloadFormat;
use callspan::render::codec::{Decoder, decoder_for};

fn decoder(encoding: &str, clock_hz: u32, fmtp: &str) -> Box<dyn Decoder> {
    let format = PayloadFormat { encoding: encoding.into(), clock_hz, channels: 1, fmtp: fmtp.into() };
    decoder_for(&format).expect("a codec that we claim")
}

/// A file of the corpus, or `None` (with a word on standard error) when there is no corpus.
fn corpus(path: &str) -> Option<Vec<u8>> {
    let Some(root) = std::env::var_os("CALLSPAN_CORPUS") else {
        eprintln!("skipped: CALLSPAN_CORPUS is not set, so {path} is not compared");
        return None;
    };
    let path = PathBuf::from(root).join(path);
    Some(std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
}

fn words(bytes: &[u8]) -> Vec<i16> {
    bytes.as_chunks().0.iter().map(|&pair| i16::from_le_bytes(pair)).collect()
}

/// Decodes in packets of `size` bytes.
fn decode(decoder: &mut dyn Decoder, payload: &[u8], size: usize) -> Vec<i16> {
    let mut out = Vec::new();
    for packet in payload.chunks(size) {
        decoder.decode(packet, &mut out).unwrap();
    }
    out
}

#[test]
fn g711_gives_the_values_of_the_itu_sweep() {
    for (law, code, linear) in [("PCMA", "sweep-r.a", "sweep-r.rea"), ("PCMU", "sweep-r.u", "sweep-r.reu")] {
        let folder = "codecs/ITU-STL/g711/test_data";
        let Some(coded) = corpus(&format!("{folder}/{code}")) else { return };
        let expected = words(&corpus(&format!("{folder}/{linear}")).unwrap());
        let codes: Vec<u8> = words(&coded).iter().map(|&w| w as u8).collect();
        assert_eq!(decode(&mut *decoder(law, 8000, ""), &codes, 160), expected, "{law}");
    }
}

#[test]
fn g722_is_bit_exact_with_the_itu_vector() {
    let folder = "codecs/ITU-STL/g722/test_data";
    let Some(coded) = corpus(&format!("{folder}/codspw.cod")) else { return };
    let codes: Vec<u8> = words(&coded).iter().map(|&w| w as u8).collect();
    let expected = words(&corpus(&format!("{folder}/outsp1.bin")).unwrap());
    assert_eq!(decode(&mut *decoder("G722", 8000, ""), &codes, 160), expected);
}
