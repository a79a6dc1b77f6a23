//! Measures the cost of decoding 20 ms of sound with each codec: `cargo bench --bench codecs`.

#![allow(missing_docs, reason = "criterion's macros make public functions")]
#![allow(clippy::unwrap_used, reason = "fixtures are ours")]

use std::hint::black_box;
use std::path::PathBuf;

use callspan::call::decision::{PayloadFormat, SrtpContext, SrtpKey};
use callspan::render::codec::decoder_for;
use callspan::render::resample::Resampler;
use callspan::render::srtp::SrtpStream;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn fixture(name: &str) -> Vec<Vec<u8>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/codecs/{name}.rtp"));
    let bytes = std::fs::read(path).unwrap();
    let (mut payloads, mut rest) = (Vec::new(), &bytes[..]);
    while let Some((length, after)) = rest.split_first_chunk() {
        let (payload, after) = after.split_at(usize::from(u16::from_be_bytes(*length)));
        payloads.push(payload.to_vec());
        rest = after;
    }
    payloads
}

/// Measures decoding. Each fixture is 1.2 s long, i.e. 60 times 20 ms. criterion reports the cost of each 20 ms.
fn decoding(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode 20 ms");
    group.throughput(Throughput::Elements(60)).sample_size(20);
    for (name, encoding, clock, fmtp) in [
        ("pcma", "PCMA", 8_000, ""),
        ("pcmu", "PCMU", 8_000, ""),
        ("g722", "G722", 8_000, ""),
        ("gsm", "GSM", 8_000, ""),
        ("g729", "G729", 8_000, ""),
        ("opus", "OPUS", 48_000, ""),
        ("opus_stereo", "OPUS", 48_000, ""),
        ("amr", "AMR", 8_000, ""),
        ("amrwb", "AMR-WB", 16_000, ""),
        ("g726_32", "G726-32", 8_000, ""),
        ("dvi4", "DVI4", 8_000, ""),
        ("ilbc_20", "ILBC", 8_000, "mode=20"),
        ("ilbc_30", "ILBC", 8_000, "mode=30"),
        #[cfg(feature = "speex")]
        ("speex", "SPEEX", 8_000, ""),
        #[cfg(feature = "speex")]
        ("speex_wb", "SPEEX", 16_000, ""),
    ] {
        let format = PayloadFormat { encoding: encoding.into(), clock_hz: clock, channels: 1, fmtp: fmtp.into() };
        let (payloads, mut decoder) = (fixture(name), decoder_for(&format).unwrap());
        let mut out = Vec::new();
        group.bench_function(name, |b| {
            b.iter(|| {
                for payload in &payloads {
                    out.clear();
                    decoder.decode(black_box(payload), &mut out).unwrap();
                }
            });
        });
    }
    group.finish();
}

fn concealing(c: &mut Criterion) {
    let payloads = fixture("pcma");
    let format = PayloadFormat { encoding: "PCMA".into(), clock_hz: 8_000, channels: 1, fmtp: String::new() };
    let mut decoder = decoder_for(&format).unwrap();
    let mut out = Vec::new();
    c.bench_function("conceal 20 ms of G.711 after 20 ms of speech", |b| {
        b.iter(|| {
            out.clear();
            decoder.decode(&payloads[30], &mut out).unwrap();
            decoder.conceal(160, None, black_box(&mut out));
        });
    });
}

fn resampling(c: &mut Criterion) {
    let mut group = c.benchmark_group("resample 20 ms");
    for (from, to) in [(8_000u32, 16_000), (16_000, 8_000), (48_000, 16_000), (44_100, 16_000)] {
        let samples: Vec<i16> = (0..from / 50).map(|n| (n.wrapping_mul(2_654_435_761) >> 18) as i16).collect();
        let mut resampler = Resampler::new(from, to).unwrap();
        let mut out = Vec::new();
        group.bench_function(format!("{from} to {to}"), |b| {
            b.iter(|| {
                out.clear();
                resampler.push(black_box(&samples), &mut out);
            });
        });
    }
    group.finish();
}

/// Measures decryption. In the second bench the packet's authentication tag is wrong, so every guess of the rollover
/// counter is tried.
fn decrypting(c: &mut Criterion) {
    // The key of the reference packet in libsrtp's srtp_driver.
    let inline = "4fl6DT4Bi+DWT6MsBt5BOQ7Gda1Jiv7rtpYLOqvm".to_owned();
    let keys = vec![SrtpKey { inline, mki: None }];
    let context = SrtpContext { suite: "AES_CM_128_HMAC_SHA1_80".into(), keys, cryptex: false };
    let packet = [
        0x80, 0x0f, 0x12, 0x34, 0xde, 0xca, 0xfb, 0xad, 0xca, 0xfe, 0xba, 0xbe, 0x4e, 0x55, 0xdc, 0x4c, 0xe7, 0x99,
        0x78, 0xd8, 0x8c, 0xa4, 0xd2, 0x15, 0x94, 0x9d, 0x24, 0x02, 0xb7, 0x8d, 0x6a, 0xcc, 0x99, 0xea, 0x17, 0x9b,
        0x8d, 0xbb,
    ];
    let mut stream = SrtpStream::new(&context).unwrap();
    let mut out = Vec::new();
    c.bench_function("srtp: a packet of 16 bytes", |b| {
        b.iter(|| stream.unprotect(black_box(&packet), &mut out).unwrap());
    });
    let mut long = packet[..12].to_vec();
    long.extend([0x55; 170]);
    let mut stream = SrtpStream::new(&context).unwrap();
    c.bench_function("srtp: a packet of 160 bytes with a wrong key", |b| {
        b.iter(|| stream.unprotect(black_box(&long), &mut out).unwrap_err());
    });
}

criterion_group!(benches, decoding, concealing, resampling, decrypting);
criterion_main!(benches);
