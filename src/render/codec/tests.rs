//! Tests of the properties that every decoder must have.

use proptest::prelude::*;

use super::*;

/// Every format with a decoder: encoding, clock (Hz), channels, fmtp.
const FORMATS: &[(&str, u32, u8, &str)] = &[
    ("PCMU", 8_000, 1, ""),
    ("PCMA", 8_000, 2, ""),
    ("G722", 8_000, 1, ""),
    ("GSM", 8_000, 1, ""),
    ("G729", 8_000, 1, "annexb=no"),
    ("ILBC", 8_000, 1, "mode=20"),
    ("iLBC", 8_000, 1, ""),
    ("OPUS", 48_000, 2, "useinbandfec=1;stereo=1"),
    ("AMR", 8_000, 1, ""),
    ("AMR", 8_000, 1, "octet-align=1"),
    ("AMR", 8_000, 1, "crc=1; robust-sorting=1"),
    ("AMR-WB", 16_000, 1, ""),
    ("AMR-WB", 16_000, 1, "octet-align=1"),
    ("G721", 8_000, 1, ""),
    ("G726-16", 8_000, 1, ""),
    ("G726-24", 8_000, 1, ""),
    ("G726-32", 8_000, 1, ""),
    ("G726-40", 8_000, 1, ""),
    ("AAL2-G726-16", 8_000, 1, ""),
    ("AAL2-G726-24", 8_000, 1, ""),
    ("AAL2-G726-32", 8_000, 1, ""),
    ("AAL2-G726-40", 8_000, 1, ""),
    ("L16", 44_100, 2, ""),
    ("L16", 8_000, 1, ""),
    ("L8", 8_000, 1, ""),
    ("DVI4", 8_000, 1, ""),
    ("DVI4", 16_000, 1, ""),
    ("CN", 8_000, 1, ""),
    ("G729A", 8_000, 1, ""),
    #[cfg(feature = "speex")]
    ("SPEEX", 8_000, 1, "vbr=on"),
    #[cfg(feature = "speex")]
    ("SPEEX", 16_000, 1, ""),
    #[cfg(feature = "speex")]
    ("SPEEX", 32_000, 1, ""),
    ("pcmu", 8_000, 0, ""),
];

fn format(encoding: &str, clock_hz: u32, channels: u8, fmtp: &str) -> PayloadFormat {
    PayloadFormat { encoding: encoding.into(), clock_hz, channels, fmtp: fmtp.into() }
}

fn every_decoder() -> impl Iterator<Item = (&'static str, Box<dyn SpeechDecoder>)> {
    FORMATS.iter().map(|&(encoding, clock, channels, fmtp)| {
        let decoder = decoder_for(&format(encoding, clock, channels, fmtp));
        (encoding, decoder.unwrap_or_else(|| panic!("{encoding} {fmtp}")))
    })
}

/// One invocation of a decoder in a random test.
#[derive(Clone, Debug)]
enum DecoderCall {
    Decode(Vec<u8>),
    Conceal(usize, Option<Vec<u8>>),
}

fn step() -> impl Strategy<Value = DecoderCall> {
    // Random bytes rarely have a length and a first byte that a decoder accepts, so typical lengths and first bytes are
    // mixed in.
    let lengths = prop::sample::select(vec![0, 1, 2, 5, 10, 12, 20, 32, 33, 38, 50, 62, 66, 80, 160, 320, 1_400]);
    let any_length = prop_oneof![lengths, 0..200usize];
    let payload = any_length.prop_flat_map(|length| {
        let first = prop::sample::select(vec![0xD0u8, 0xF0, 0x78, 0x08, 0x0B, 0xFC, 0x48, 0x00, 0x29, 0x14, 0x3A]);
        (prop::collection::vec(any::<u8>(), length), first, any::<bool>()).prop_map(|(mut payload, first, lead)| {
            if let Some(byte) = payload.first_mut().filter(|_| lead) {
                *byte = first;
            }
            payload
        })
    });
    prop_oneof![
        3 => payload.clone().prop_map(DecoderCall::Decode),
        1 => (0..2_000usize, prop::option::of(payload)).prop_map(|(samples, next)| DecoderCall::Conceal(samples, next)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn random_payloads_give_bounded_sound_or_an_error(steps in prop::collection::vec(step(), 1..20)) {
        for (name, mut decoder) in every_decoder() {
            for step in &steps {
                let mut out = vec![7; 3];
                match step {
                    DecoderCall::Decode(payload) => {
                        if decoder.decode(payload, &mut out).is_err() {
                            prop_assert_eq!(out.len(), 3, "{} left something behind", name);
                        }
                        // The bound allows for the formats with most sound per byte. AMR "no data" frames have 20 ms in
                        // 6 bits, and Opus has 120 ms in 2 bytes.
                        let most = 3 + 320 * 32 + 8 * payload.len();
                        prop_assert!(out.len() <= most, "{}: {} samples of {} bytes", name, out.len(), payload.len());
                    }
                    DecoderCall::Conceal(samples, next) => {
                        decoder.conceal(*samples, next.as_deref(), &mut out);
                        prop_assert_eq!(out.len(), 3 + samples, "{}", name);
                    }
                }
                prop_assert_eq!(&out[..3], &[7; 3], "{} touched what was there", name);
            }
        }
    }
}

#[test]
fn concealment_of_every_codec_is_silent_after_60_ms() {
    for (name, mut decoder) in every_decoder() {
        // The payloads are loud, and every codec accepts at least one of them.
        let mut out = Vec::new();
        for length in [33, 10, 32, 38, 160, 60] {
            let mut payload: Vec<u8> = (0..length).map(|i| (i * 89 % 251) as u8).collect();
            payload[0] = 0xD4;
            let _accepted_or_not = decoder.decode(&payload, &mut out);
        }
        if name == "CN" {
            continue; // comfort noise must not end
        }
        out.clear();
        let rate = decoder.sample_rate_hz() as usize;
        for _ in 0..10 {
            decoder.conceal(rate / 100, None, &mut out);
        }
        assert_eq!(out.len(), rate / 100 * 10, "{name}");
        let end = rate * conceal::FADE_MS as usize / 1000;
        assert!(out[end..].iter().all(|&s| s == 0), "{name} is heard after {} ms", conceal::FADE_MS);
    }
}

#[test]
fn formats_without_decoder_are_unknown() {
    for (encoding, clock, channels, fmtp) in [
        ("ILBC", 8_000, 2, "mode=30"),
        ("G723", 8_000, 1, ""),
        ("EVS", 16_000, 1, ""),
        ("G729D", 8_000, 1, ""),
        ("VDVI", 8_000, 1, ""),
        ("TELEPHONE-EVENT", 8_000, 1, ""),
        ("RED", 8_000, 1, ""),
        ("PCMA", 12_345, 1, ""),
        ("L16", 48_000, 6, ""),
        ("AMR", 8_000, 1, "interleaving=30; octet-align=1"),
        ("AMR-WB", 16_000, 1, "crc=1; interleaving=4"),
        ("AMR", 8_000, 2, ""),
        ("SPEEX", 44_100, 1, ""),
        ("", 0, 0, ""),
    ] {
        assert!(decoder_for(&format(encoding, clock, channels, fmtp)).is_none(), "{encoding} {fmtp}");
    }
}

#[test]
fn gap_after_a_silence_descriptor_is_comfort_noise_for_ten_seconds() {
    // G.729 annex B: a silence descriptor of a moderate level (gain index 16), then no packets.
    let mut decoder = decoder_for(&format("G729", 8_000, 1, "")).unwrap();
    let mut out = Vec::new();
    decoder.decode(&[0x00, 0x20], &mut out).unwrap();
    assert_eq!(out.len(), 80);
    out.clear();
    decoder.conceal(8_000, None, &mut out);
    assert!(out[7_000..].iter().any(|&s| s != 0), "noise after a second");
    out.clear();
    decoder.conceal(8_000 * 11, None, &mut out);
    assert!(out[80_000..].iter().all(|&s| s == 0), "but not for ever");
}
