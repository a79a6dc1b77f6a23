//! Tests with calls of real endpoints. The speech that each codec decodes must be at the time at which it was played.

use callspan::call::decision::{SrtpContext, SrtpKey};
use callspan::render::resample::Resampler;
use callspan::render::srtp::SrtpStream;

use super::{corpus, decoder, words};

/// An RTP packet of a capture. The first value is the last byte of the sender's address.
type SentRtp = (u8, Vec<u8>);

/// Returns the RTP packets on UDP port 20000 of a capture. It must be a little-endian pcap file with Ethernet and IPv4.
pub(super) fn rtp_of(pcap: &[u8]) -> Vec<SentRtp> {
    let (mut packets, mut at) = (Vec::new(), 24);
    while let Some(header) = pcap.get(at..at + 16) {
        let length = u32::from_le_bytes(header[8..12].try_into().unwrap()) as usize;
        let frame = &pcap[at + 16..at + 16 + length];
        at += 16 + length;
        let udp = 14 + 4 * usize::from(frame[14] & 15);
        if frame[12..14] == [8, 0] && frame[23] == 17 && frame[udp..udp + 2] == [0x4E, 0x20] && frame[udp + 8] >> 6 == 2
        {
            packets.push((frame[29], frame[udp + 8..].to_vec()));
        }
    }
    packets
}

/// Returns the words of the SDP that begin with `start`, each once.
fn sdp_values(pcap: &[u8], start: &str) -> Vec<String> {
    let text = String::from_utf8_lossy(pcap);
    let mut values: Vec<String> =
        text.lines().filter_map(|line| line.trim_end().strip_prefix(start)).map(str::to_owned).collect();
    values.sort();
    values.dedup();
    values
}

fn resampled(samples: &[i16], from_hz: u32) -> Vec<i16> {
    let mut out = Vec::new();
    let mut resampler = Resampler::new(from_hz, 8_000).unwrap();
    resampler.push(samples, &mut out);
    resampler.finish(&mut out);
    out
}

/// Returns by how many ms `heard` is later than `played`, and their correlation at this lag. Both have 8 kHz.
fn lag(played: &[i16], heard: &[i16]) -> (f64, f64) {
    let window = 800..24_000; // the marker tone and speech
    let played: Vec<f64> = played[window.clone()].iter().map(|&s| f64::from(s)).collect();
    let energy = |samples: &[f64]| samples.iter().map(|s| s * s).sum::<f64>();
    let mut best = (0.0, -1.0);
    for lag in -160i32..=400 {
        let start = (window.start as i32 + lag) as usize;
        let heard: Vec<f64> = heard[start..start + played.len()].iter().map(|&s| f64::from(s)).collect();
        let product: f64 = played.iter().zip(&heard).map(|(a, b)| a * b).sum();
        let likeness = product / (energy(&played) * energy(&heard)).sqrt();
        if likeness > best.1 {
            best = (f64::from(lag) / 8.0, likeness);
        }
    }
    best
}

/// Returns name, lag in ms and correlation of each side of a capture.
fn sides(name: &str, encoding: &str, clock: u32, pt: u8) -> [(&'static str, f64, f64); 2] {
    let pcap = corpus(&format!("captures/{name}.pcap"));
    let suite = "AES_256_CM_HMAC_SHA1_80";
    let keys = sdp_values(&pcap, &format!("a=crypto:1 {suite} inline:"));
    let context = SrtpContext {
        suite: suite.into(),
        keys: keys.into_iter().map(|inline| SrtpKey { inline, mki: None }).collect(),
        cryptex: false,
    };
    let packets = rtp_of(&pcap);
    let side = |(host, who): (u8, &'static str)| {
        let mut srtp = (!context.keys.is_empty()).then(|| SrtpStream::new(&context).unwrap());
        let mut decoder = decoder(encoding, clock, "");
        let (mut heard, mut plain, mut count) = (Vec::new(), Vec::new(), 0);
        for (_, packet) in packets.iter().filter(|(from, packet)| *from == host && packet[1] & 0x7F == pt) {
            let packet = match &mut srtp {
                None => packet,
                Some(srtp) => {
                    srtp.unprotect(packet, &mut plain).expect("the capture has the keys");
                    &plain
                }
            };
            // Some packets are empty, e.g. answers to keep-alives or the last packet of a call.
            decoder.decode(&packet[12..], &mut heard).unwrap();
            count += 1;
        }
        assert!(count > 250, "{name}: {count} packets of {who}");
        let rate = decoder.sample_rate_hz();
        let played = resampled(&words(&corpus(&format!("captures/truth/{who}.wav"))[44..]), 16_000);
        let (lag, likeness) = lag(&played, &resampled(&heard, rate));
        (who, lag, likeness)
    };
    [(11, "alice"), (12, "bob")].map(side)
}

#[test]
#[cfg_attr(not(has_corpus_captures), ignore = "needs CALLSPAN_CORPUS with captures")]
fn every_codec_of_the_captures_is_heard_where_it_was_played() {
    // The expected delay is that of the sender's resampler plus that of the codec (src/render/codec/mod.rs). The speech
    // has 16 kHz; resampling takes 4.1 ms to 8 kHz, and 2 ms to 48 kHz. Speech codecs change the wave form, so their
    // correlation is lower.
    for (name, encoding, clock, pt, (sender_ms, codec_ms), likeness_at_least) in [
        ("g711a_direct", "PCMA", 8_000, 8, (4.1, 0.0), 0.99),
        ("g711u_direct", "PCMU", 8_000, 0, (4.1, 0.0), 0.99),
        ("srtp_sdes_direct", "PCMU", 8_000, 0, (4.1, 0.0), 0.99),
        ("g722_direct", "G722", 8_000, 9, (0.0, 1.4), 0.99),
        ("gsm_direct", "GSM", 8_000, 3, (4.1, 0.0), 0.95),
        ("g729_direct", "G729", 8_000, 18, (4.1, 5.0), 0.85),
        ("amr_direct", "AMR", 8_000, 96, (4.1, 5.0), 0.85),
        ("ilbc_direct", "ILBC", 8_000, 96, (4.1, 10.0), 0.85),
        #[cfg(feature = "speex")]
        ("speex_wb_direct", "SPEEX", 16_000, 96, (0.0, 13.9), 0.9),
        ("opus_direct", "OPUS", 48_000, 96, (2.0, 6.5), 0.95),
    ] {
        for (who, lag, likeness) in sides(name, encoding, clock, pt) {
            assert!((lag - sender_ms - codec_ms).abs() <= 0.25, "{name}, {who}: {lag:.3} ms");
            assert!(likeness > likeness_at_least, "{name}, {who}: correlation {likeness:.3}");
        }
    }
}

#[test]
#[cfg_attr(not(has_corpus_captures), ignore = "needs CALLSPAN_CORPUS with captures")]
fn silence_descriptors_and_pauses_of_a_real_g729_call_are_quiet() {
    let pcap = corpus("captures/g729_annexb_sid_direct.pcap");
    let mut decoder = decoder("G729", 8_000, "");
    let (mut quiet, mut descriptors) = (Vec::new(), 0);
    for (_, packet) in rtp_of(&pcap).iter().filter(|(from, packet)| *from == 11 && packet[1] & 0x7F == 18) {
        let mut out = Vec::new();
        decoder.decode(&packet[12..], &mut out).unwrap();
        if packet.len() == 14 {
            descriptors += 1;
            decoder.conceal(1_600, None, &mut out); // 200 ms of the pause
            quiet.extend(out);
        }
    }
    assert!(descriptors > 3, "{descriptors}");
    let loudest = quiet.iter().map(|s| s.unsigned_abs()).max();
    // The speech has peaks above 10000. The first frame of a pause still has the end of the speech.
    assert!(loudest < Some(1_500), "{loudest:?}");
}
