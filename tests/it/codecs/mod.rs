//! Compares the decoders with the test vectors of the standards and with independent decoders.
//!
//! The ITU's licence does not allow this project to distribute its test vectors. These tests read them from the folder
//! that `CALLSPAN_CORPUS` names (with `codecs/` and `captures/` in it), and are ignored without it. The unit tests of
//! each codec and the fixtures in `fixtures/codecs` run everywhere.

mod captures;
mod frames;
pub mod ogg;
pub mod tools;

use std::path::PathBuf;

use callspan::call::decision::PayloadFormat;
use callspan::render::codec::{SpeechDecoder, decoder_for};

use crate::support::coded::{coded_path, coded_payloads};

fn decoder(encoding: &str, clock_hz: u32, fmtp: &str) -> Box<dyn SpeechDecoder> {
    let format = PayloadFormat { encoding: encoding.into(), clock_hz, channels: 1, fmtp: fmtp.into() };
    decoder_for(&format).expect("a codec that we claim")
}

/// Reads a file from the folder that `CALLSPAN_CORPUS` names, e.g. a test vector of the ITU.
fn corpus(path: &str) -> Vec<u8> {
    let path = PathBuf::from(std::env::var_os("CALLSPAN_CORPUS").unwrap()).join(path);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn words(bytes: &[u8]) -> Vec<i16> {
    bytes.as_chunks().0.iter().map(|&pair| i16::from_le_bytes(pair)).collect()
}

/// Decodes `payload` in packets of `size` bytes each.
fn decode(decoder: &mut dyn SpeechDecoder, payload: &[u8], size: usize) -> Vec<i16> {
    let mut out = Vec::new();
    for packet in payload.chunks(size) {
        decoder.decode(packet, &mut out).unwrap();
    }
    out
}

#[test]
#[cfg_attr(not(has_corpus_codecs), ignore = "needs CALLSPAN_CORPUS with the vectors of the ITU in codecs")]
fn g711_gives_the_values_of_the_itu_sweep() {
    for (law, code, linear) in [("PCMA", "sweep-r.a", "sweep-r.rea"), ("PCMU", "sweep-r.u", "sweep-r.reu")] {
        let folder = "codecs/ITU-STL/g711/test_data";
        let coded = corpus(&format!("{folder}/{code}"));
        let expected = words(&corpus(&format!("{folder}/{linear}")));
        let codes: Vec<u8> = words(&coded).iter().map(|&w| w as u8).collect();
        assert_eq!(decode(&mut *decoder(law, 8000, ""), &codes, 160), expected, "{law}");
    }
}

#[test]
#[cfg_attr(not(has_corpus_codecs), ignore = "needs CALLSPAN_CORPUS with the vectors of the ITU in codecs")]
fn g722_is_bit_exact_with_the_itu_vector() {
    let folder = "codecs/ITU-STL/g722/test_data";
    let coded = corpus(&format!("{folder}/codspw.cod"));
    let codes: Vec<u8> = words(&coded).iter().map(|&w| w as u8).collect();
    let expected = words(&corpus(&format!("{folder}/outsp1.bin")));
    assert_eq!(decode(&mut *decoder("G722", 8000, ""), &codes, 160), expected);
}

/// Returns a fixture: payloads of real speech, and the samples that an independent decoder made of them.
fn fixture(name: &str) -> (Vec<Vec<u8>>, Vec<i16>) {
    (coded_payloads(name), words(&std::fs::read(coded_path(&format!("{name}.s16"))).unwrap()))
}

fn decode_fixture(name: &str, decoder: &mut dyn SpeechDecoder) -> (Vec<i16>, Vec<i16>) {
    let (payloads, expected) = fixture(name);
    let mut out = Vec::new();
    for payload in &payloads {
        decoder.decode(payload, &mut out).unwrap();
    }
    (out, expected)
}

/// Returns the signal-to-noise ratio in dB, where noise is the difference of both sounds. It is infinite if they are
/// equal.
fn snr_db(expected: &[i16], got: &[i16]) -> f64 {
    let power = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
    let signal = power(&mut expected.iter().map(|&s| f64::from(s)));
    let noise = power(&mut expected.iter().zip(got).map(|(&a, &b)| f64::from(a) - f64::from(b)));
    10.0 * (signal / noise).log10()
}

#[test]
fn codecs_with_normative_arithmetic_are_bit_exact_with_independent_decoders() {
    for (name, encoding) in [
        ("pcma", "PCMA"),
        ("pcmu", "PCMU"),
        ("g722", "G722"),
        ("gsm", "GSM"),
        ("dvi4", "DVI4"),
        ("g726_16", "G726-16"),
        ("g726_24", "G726-24"),
        ("g726_32", "G726-32"),
        ("g726_40", "G726-40"),
        ("aal2_g726_24", "AAL2-G726-24"),
        ("aal2_g726_32", "AAL2-G726-32"),
        // These fixtures have all code words, full scale, and random bytes. Speech never has such values, for which
        // rounding, limits and overflow matter.
        ("pcma_all", "PCMA"),
        ("pcmu_all", "PCMU"),
        ("g722_hard", "G722"),
        ("gsm_hard", "GSM"),
        ("g726_16_hard", "G726-16"),
        ("g726_24_hard", "G726-24"),
        ("g726_32_hard", "G726-32"),
        ("g726_40_hard", "G726-40"),
    ] {
        let (got, expected) = decode_fixture(name, &mut *decoder(encoding, 8000, ""));
        assert!(expected.iter().any(|s| s.unsigned_abs() > 1000), "{name}: the fixture is speech");
        assert_eq!(got.len(), expected.len(), "{name}");
        let differs = got.iter().zip(&expected).position(|(a, b)| a != b);
        assert_eq!(differs, None, "{name}: {} dB", snr_db(&expected, &got));
    }
}

/// Decodes like [`decode_fixture`], but an empty payload stands for a time in which nothing was sent.
fn decode_with_pauses(name: &str, decoder: &mut dyn SpeechDecoder, frame: usize) -> (Vec<i16>, Vec<i16>) {
    let (payloads, expected) = fixture(name);
    let mut out = Vec::new();
    for payload in &payloads {
        match payload.is_empty() {
            true => decoder.conceal(frame, None, &mut out),
            false => decoder.decode(payload, &mut out).unwrap(),
        }
    }
    (out, expected)
}

#[test]
fn g729_is_within_30_db_of_an_independent_decoder() {
    // bcg729 is not exact to the bit either. Both decoders use fixed point and round the postfilter differently.
    let (got, expected) = decode_fixture("g729", &mut *decoder("G729", 8000, ""));
    assert_eq!(got.len(), expected.len());
    assert!(snr_db(&expected, &got) >= 30.0, "{}", snr_db(&expected, &got));
    let (got, expected) = decode_with_pauses("g729b", &mut *decoder("G729", 8000, "annexb=yes"), 80);
    assert_eq!(got.len(), expected.len());
    assert!(snr_db(&expected, &got) >= 30.0, "annex B: {}", snr_db(&expected, &got));
}

#[test]
fn amr_is_bit_exact_in_every_mode_and_packing() {
    for (name, fmtp) in [("amr", ""), ("amr_octets", "octet-align=1"), ("amr_dtx", "mode-set=7; octet-align=1")] {
        let (got, expected) = decode_fixture(name, &mut *decoder("AMR", 8000, fmtp));
        assert_eq!(got.len(), expected.len(), "{name}");
        assert!(got == expected, "{name}: {} dB", snr_db(&expected, &got));
    }
}

#[test]
fn amr_wb_is_within_40_db_in_every_mode_and_packing() {
    for (name, fmtp) in [("amrwb", ""), ("amrwb_octets", "octet-align=1"), ("amrwb_dtx", "octet-align=1")] {
        let (got, expected) = decode_fixture(name, &mut *decoder("AMR-WB", 16_000, fmtp));
        assert_eq!(got.len(), expected.len(), "{name}");
        assert!(snr_db(&expected, &got) >= 40.0, "{name}: {}", snr_db(&expected, &got));
    }
}

#[test]
fn ilbc_is_within_60_db_of_the_rfcs_own_decoder() {
    // Both decoders compute in floating point, but in another order. Both use the enhancer.
    for (name, fmtp) in [("ilbc_20", "mode=20"), ("ilbc_30", "mode=30")] {
        let (got, expected) = decode_fixture(name, &mut *decoder("iLBC", 8000, fmtp));
        assert_eq!(got.len(), expected.len(), "{name}");
        assert!(snr_db(&expected, &got) >= 60.0, "{name}: {}", snr_db(&expected, &got));
    }
}

#[test]
fn opus_is_within_50_db_of_another_release_of_libopus() {
    for name in ["opus", "opus_stereo", "opus_dtx", "opus_fec"] {
        let (got, expected) = decode_fixture(name, &mut *decoder("OPUS", 48_000, ""));
        assert_eq!(got.len(), expected.len(), "{name}");
        assert!(snr_db(&expected, &got) >= 50.0, "{name}: {}", snr_db(&expected, &got));
    }
}

#[test]
fn opus_hears_a_lost_packet_again_from_the_next() {
    let (payloads, expected) = fixture("opus_fec");
    let mut with = Vec::new();
    let mut without = Vec::new();
    for (out, help) in [(&mut with, true), (&mut without, false)] {
        let mut decoder = decoder("OPUS", 48_000, "useinbandfec=1");
        for (i, payload) in payloads.iter().enumerate() {
            match i % 10 == 5 {
                true => decoder.conceal(320, payloads.get(i + 1).filter(|_| help).map(Vec::as_slice), out),
                false => decoder.decode(payload, out).unwrap(),
            }
        }
        assert_eq!(out.len(), expected.len());
    }
    // The next packet has a copy of the lost packet at a low bit rate. This copy is far better than concealment.
    let lost = |samples: &[i16]| -> Vec<i16> { samples.chunks(320).skip(5).step_by(10).flatten().copied().collect() };
    let (with, without) = (snr_db(&lost(&expected), &lost(&with)), snr_db(&lost(&expected), &lost(&without)));
    assert!(with > without + 3.0 && with > 3.0, "with {with:.1} dB, without {without:.1} dB");
}

#[cfg(feature = "speex")]
#[test]
fn speex_is_exactly_that_of_libspeex_in_its_modes() {
    // The ultra-wideband fixture is decoded as wideband, i.e. without its highest layer. The expected samples were made
    // in the same way.
    for (name, clock) in [("speex", 8_000), ("speex_wb", 16_000), ("speex_uwb", 32_000), ("speex_dtx", 8_000)] {
        let (got, expected) = decode_fixture(name, &mut *decoder("SPEEX", clock, ""));
        assert!(expected.iter().any(|s| s.abs() > 1000), "{name}: the fixture is speech");
        assert_eq!(got.len(), expected.len(), "{name}");
        assert!(got == expected, "{name}: {} dB", snr_db(&expected, &got));
    }
}

#[test]
#[cfg_attr(not(has_corpus_codecs), ignore = "needs CALLSPAN_CORPUS with the vectors of the ITU in codecs")]
fn g722_of_full_scale_is_clipped_as_another_decoder_does() {
    use sha2::{Digest, Sha256};
    let folder = "codecs/sippy-libg722/test_data";
    let sums = corpus(&format!("{folder}/test.checksum"));
    let sums = String::from_utf8(sums).unwrap();
    for (coded, decoded) in [("test.g722", "test.raw.16k.out"), ("fullscale.g722", "fullscale.raw.out")] {
        let codes = corpus(&format!("{folder}/{coded}"));
        let samples = decode(&mut *decoder("G722", 8000, ""), &codes, 160);
        let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        let sum: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(sums.lines().any(|line| line.starts_with(&sum) && line.ends_with(decoded)), "{coded}");
    }
}

/// Returns how similar concealment is to the lost speech: the mean signal-to-noise ratio in dB of the given frames of
/// 10 ms. The ratio of each frame is limited to -10 to 35 dB, as usual for a segmental ratio.
fn segmental_snr_db(speech: &[i16], heard: &[i16], frames: &[usize]) -> f64 {
    let snr = |&frame: &usize| {
        let range = frame * 80..frame * 80 + 80;
        snr_db(&speech[range.clone()], &heard[range]).clamp(-10.0, 35.0)
    };
    frames.iter().map(snr).sum::<f64>() / frames.len() as f64
}

#[test]
#[cfg_attr(not(has_corpus_codecs), ignore = "needs CALLSPAN_CORPUS with the vectors of the ITU in codecs")]
fn lost_g711_is_concealed_as_well_as_by_appendix_i() {
    let folder = "codecs/ITU-STL/g711iplc/test_data";
    for (losses, reference) in [("fe10.g192", "f2_10.raw"), ("fe10_2.g192", "f2_10_2.raw")] {
        let speech = corpus(&format!("{folder}/f2.le"));
        let speech = words(&speech);
        // Each bit says whether a frame of 10 ms is lost. The pattern repeats.
        let lost: Vec<bool> =
            words(&corpus(&format!("{folder}/{losses}"))).iter().map(|&word| word == 0x6B20).collect();
        let reference = words(&corpus(&format!("{folder}/{reference}")));
        let mut concealer = callspan::render::codec::conceal::Concealer::new(8_000);
        let mut heard = Vec::new();
        for (frame, speech) in speech.as_chunks::<80>().0.iter().enumerate() {
            let at = heard.len();
            if lost[frame % lost.len()] {
                concealer.conceal(80, &mut heard);
            } else {
                heard.extend(speech);
                concealer.note_decoded(&mut heard[at..]);
            }
        }
        let spoken = |frame: usize| speech[frame * 80..frame * 80 + 80].iter().any(|s| s.abs() > 500);
        let affected: Vec<usize> = (1..speech.len() / 80 - 2)
            .filter(|&frame| (lost[frame % lost.len()] || lost[(frame - 1) % lost.len()]) && spoken(frame))
            .collect();
        let (ours, theirs) =
            (segmental_snr_db(&speech, &heard, &affected), segmental_snr_db(&speech, &reference, &affected));
        assert!(affected.len() > 20);
        assert!(ours > theirs - 0.5, "{losses}: ours {ours:.2} dB, Appendix I {theirs:.2} dB");
    }
}
