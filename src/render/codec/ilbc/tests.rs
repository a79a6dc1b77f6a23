use super::*;

/// Reads a fixture: its payloads, and the samples in the file `heard`, which another decoder made of these payloads.
fn fixture(name: &str, heard: &str) -> (Vec<Vec<u8>>, Vec<i16>) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/codecs");
    let packed = std::fs::read(folder.join(format!("{name}.rtp"))).unwrap();
    let (mut payloads, mut rest) = (Vec::new(), &packed[..]);
    while let Some((length, after)) = rest.split_first_chunk() {
        let (payload, after) = after.split_at(usize::from(u16::from_be_bytes(*length)));
        payloads.push(payload.to_vec());
        rest = after;
    }
    let bytes = std::fs::read(folder.join(format!("{heard}.s16"))).unwrap();
    (payloads, bytes.as_chunks().0.iter().map(|&pair| i16::from_le_bytes(pair)).collect())
}

fn snr_db(expected: &[i16], got: &[i16]) -> f64 {
    let signal: f64 = expected.iter().map(|&s| f64::from(s).powi(2)).sum();
    let noise: f64 = expected.iter().zip(got).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
    10.0 * (signal / noise).log10()
}

#[test]
fn decoder_without_enhancer_matches_ffmpeg() {
    // The expected samples come from ffmpeg, which uses fixed point. The signal-to-noise ratio between them and the
    // RFC's floating-point decoder is 37 to 38 dB. It is the same for this decoder.
    for (name, announced) in [("ilbc_20", "mode=20"), ("ilbc_30", "mode=30")] {
        let (payloads, expected) = fixture(name, &format!("{name}_plain"));
        let mut decoder = IlbcDecoder::new(announced);
        decoder.state.enhancer = None;
        let mut out = Vec::new();
        payloads.iter().for_each(|payload| decoder.decode(payload, &mut out).unwrap());
        assert_eq!(out.len(), expected.len());
        let snr = snr_db(&expected, &out);
        assert!(snr > 35.0, "{name}: {snr:.1} dB");
    }
}

#[test]
fn payload_length_decides_the_mode_and_frames_decode_alike_in_groups() {
    for (name, wrong) in [("ilbc_20", "mode=30"), ("ilbc_30", "mode=20")] {
        let (payloads, expected) = fixture(name, name);
        let (mut together, mut apart) = (Vec::new(), Vec::new());
        let mut decoder = IlbcDecoder::new(wrong);
        payloads.chunks(3).for_each(|frames| decoder.decode(&frames.concat(), &mut together).unwrap());
        let mut decoder = IlbcDecoder::new("");
        payloads.iter().for_each(|payload| decoder.decode(payload, &mut apart).unwrap());
        assert_eq!(together, apart, "{name}");
        assert_eq!(together.len(), expected.len());
    }
    let mut out = Vec::new();
    for length in [0, 1, 37, 42, 49, 54, 88] {
        assert_eq!(IlbcDecoder::new("").decode(&vec![0; length], &mut out), Err(DecodeError::Length), "{length}");
    }
    assert!(out.is_empty());
}

#[test]
fn lost_frame_concealment_matches_the_quality_of_the_rfc_decoder() {
    // Every tenth frame is lost, and the concealed sound is compared with the original. Over six seconds of this
    // speech, the RFC's decoder reaches 13.8 and 12.1 dB, this decoder 13.5 and 11.9 dB.
    for (name, mode, least) in [("ilbc_20", IlbcMode::Twenty, 8.0), ("ilbc_30", IlbcMode::Thirty, 8.0)] {
        let (payloads, expected) = fixture(name, name);
        let (mut decoder, mut silent) = (IlbcDecoder::new(""), expected.clone());
        let mut out = Vec::new();
        for (i, payload) in payloads.iter().enumerate() {
            if i % 10 == 5 {
                decoder.conceal(mode.samples(), None, &mut out);
                let at = i * mode.samples() + mode.delay();
                silent[at..at + mode.samples()].fill(0);
            } else {
                decoder.decode(payload, &mut out).unwrap();
            }
        }
        assert_eq!(out.len(), expected.len());
        let (made_up, silent) = (snr_db(&expected, &out), snr_db(&expected, &silent));
        assert!(made_up > least, "{name}: {made_up:.1} dB, silence instead {silent:.1} dB");
    }
}

#[test]
fn frame_marked_as_lost_is_concealed() {
    let (payloads, _) = fixture("ilbc_20", "ilbc_20");
    let (mut marked, mut told) = (IlbcDecoder::new(""), IlbcDecoder::new(""));
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for payload in &payloads[..20] {
        marked.decode(payload, &mut a).unwrap();
        told.decode(payload, &mut b).unwrap();
    }
    marked.decode(&[0xFF; 38], &mut a).unwrap();
    told.conceal(160, None, &mut b);
    assert_eq!(a, b);
}

#[test]
fn decoder_recovers_from_spectra_that_no_encoder_produces() {
    let mut random = fastrand::Rng::with_seed(11);
    let (payloads, expected) = fixture("ilbc_20", "ilbc_20");
    let mut decoder = IlbcDecoder::new("mode=20");
    for _ in 0..3_000 {
        let mut frame: Vec<u8> = (0..38).map(|_| random.u8(..)).collect();
        frame[37] &= 0xFE;
        decoder.decode(&frame, &mut Vec::new()).unwrap();
    }
    let mut out = Vec::new();
    payloads.iter().for_each(|payload| decoder.decode(payload, &mut out).unwrap());
    // Half a second later, the effect of the random frames is not audible any more.
    assert!(snr_db(&expected[4_000..], &out[4_000..]) > 30.0, "{}", snr_db(&expected[4_000..], &out[4_000..]));
}
