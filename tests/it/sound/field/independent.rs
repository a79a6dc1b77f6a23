//! Compares the level of recordings with ffmpeg's decoder of the same packets. The recordings are those of every case,
//! and of every shipped call with a codec of its own.
//!
//! Both decoders decode the same frames. So the recording must have the energy of ffmpeg's output, wherever the sound
//! lies. This file lists the coding of each side, because the signalling of many cases announces another coding.

use std::collections::BTreeMap;

use callspan::call::decision::{SrtpContext, SrtpKey};
use callspan::render::srtp::SrtpStream;

use crate::codecs::ogg;
use crate::codecs::tools::ffmpeg;
use crate::support::captures::{fixture, is_rtp, replay_files, udp_of};
use crate::support::packets::read_pcap;

/// The coding of the payloads of a side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PayloadCoding {
    Mulaw,
    Alaw,
    G722,
    /// G.726 at 32 kbit/s in the order of RFC 3551.
    G726,
    /// G.726 at 32 kbit/s in the order of AAL2.
    G726Aal2,
    Gsm,
    G729,
    /// iLBC with frames of 30 ms.
    Ilbc30,
    /// AMR, bandwidth-efficient.
    AmrBits,
    AmrOctets,
    AmrWbOctets,
    Opus,
    WideSpeex,
    /// L16 at 16 kHz in two channels.
    StereoL16,
}

use PayloadCoding::{
    Alaw, AmrBits, AmrOctets, AmrWbOctets, G722, G726, G726Aal2, G729, Gsm, Ilbc30, Mulaw, Opus, StereoL16, WideSpeex,
};

/// The codings of caller and callee in each case.
const CASES: &[(&str, [PayloadCoding; 2])] = &[
    ("amr_answer_without_fmtp_oa_sent", [AmrOctets, AmrOctets]),
    ("amr_livekit_each_as_it_said", [AmrOctets, AmrBits]),
    ("amr_unhold_without_fmtp", [AmrOctets, AmrOctets]),
    ("amrwb20_pair_delay16", [AmrWbOctets, Mulaw]),
    ("bundle_video_loss", [Mulaw, Mulaw]),
    ("clean", [Mulaw, Mulaw]),
    ("dynpt_swapped_own_numbers", [Opus, Opus]),
    ("fqdn_both", [Mulaw, Mulaw]),
    ("fs963_opus_plus20ms_each_50", [Opus, Mulaw]),
    ("g726_named2_aal2", [G726Aal2, G726Aal2]),
    ("g726_pt2_bare_rfc", [G726, G726]),
    ("g729_trailing_byte", [G729, Mulaw]),
    ("l16_stereo_antiphase", [StereoL16, Mulaw]),
    ("nat_externip_and_asymmetric_provider", [Mulaw, Mulaw]),
    ("nat_externip_and_home_phone", [Mulaw, Mulaw]),
    ("opus_pairs_0_40", [Opus, Mulaw]),
    ("pad_pcmu_24", [Mulaw, Mulaw]),
    ("pt_77", [Alaw, Alaw]),
    ("q_opus20_pairs_first_second_only", [Opus, Mulaw]),
    ("q_speexwb_pairs", [WideSpeex, Mulaw]),
    ("reinvite_pt_reuse_pending_488", [Alaw, Alaw]),
    ("siprec_two_lines", [Mulaw, Mulaw]),
    ("srtp_reinvite_plain_488_after_0.06s", [Mulaw, Mulaw]),
    ("srtp_to_rtp_answered_2s", [Mulaw, Mulaw]),
    ("ssrc_320x100ms", [Mulaw, Mulaw]),
    ("step_back_300ms", [Mulaw, Mulaw]),
    ("ts20ms_each_50", [Mulaw, Mulaw]),
    ("turn_channeldata_near_only", [Mulaw, Mulaw]),
];

/// The coding of both sides in shipped calls.
const CALLS: &[(&str, PayloadCoding)] = &[
    ("amr_direct", AmrBits),
    ("g711a_direct", Alaw),
    ("g711u_direct", Mulaw),
    ("g722_direct", G722),
    ("g729_direct", G729),
    ("gsm_direct", Gsm),
    ("ilbc_direct", Ilbc30),
    ("opus_direct", Opus),
    ("speex_wb_direct", WideSpeex),
    ("srtp_sdes_direct", Mulaw),
];

/// Cases without an expected sound, because their codec has no decoder.
const WITHOUT_SOUND: &[&str] = &["pcmu_on_pt93"];

/// Maximum difference of the level if both decoders decode the same frames, dB.
const SAME_LEVEL_DB: f64 = 0.5;

/// Returns the addresses from which caller and callee of a case send.
fn senders(case: &str) -> [&'static str; 2] {
    match case {
        "nat_externip_and_asymmetric_provider" => ["10.0.0.5:10000", "203.0.113.21:20000"],
        "nat_externip_and_home_phone" => ["198.51.100.7:61000", "10.0.0.5:10000"],
        "siprec_two_lines" => ["10.1.0.11:40000", "10.1.0.11:40002"],
        "turn_channeldata_near_only" => ["10.1.0.11:40000", "203.0.113.9:3478"],
        _ => ["10.1.0.11:40000", "10.1.0.12:50000"],
    }
}

/// A packet of a side.
struct SidePacket {
    at_ns: i64,
    payload: Vec<u8>,
}

/// Returns the packets that a sender sent with the payload type of its first packet, in the order in which it sent them.
fn packets_of(capture: &[u8], sender: &str) -> Vec<SidePacket> {
    let mut keys = keys(capture);
    let (mut first_pt, mut plain) = (None, Vec::new());
    // Sources in the order of their appearance: SSRC, first sequence number, and packets by the distance from that
    // number.
    let mut sources: Vec<(u32, u16, BTreeMap<i16, SidePacket>)> = Vec::new();
    for frame in read_pcap(capture) {
        let Some((src, _, bytes)) = udp_of(&frame.data).filter(|(src, ..)| src == sender) else { continue };
        assert_eq!(src, sender);
        // ChannelData of TURN begins with the number of the channel and the length.
        let rtp = if bytes.first().is_some_and(|byte| byte >> 6 == 1) { &bytes[4..] } else { bytes };
        if !is_rtp(rtp) || *first_pt.get_or_insert(rtp[1] & 0x7F) != rtp[1] & 0x7F {
            continue;
        }
        let is_open = keys.as_mut().is_some_and(|keys| keys.unprotect(rtp, &mut plain).is_ok());
        let rtp = if is_open { &plain[..] } else { rtp };
        assert_eq!(rtp[0] & 0x1F, 0, "neither extension nor contributing sources");
        let padding = if rtp[0] & 0x20 == 0 { 0 } else { usize::from(rtp[rtp.len() - 1]) };
        let packet = SidePacket { at_ns: frame.at_ns, payload: rtp[12..rtp.len() - padding].to_vec() };
        let (ssrc, number) = (word(&rtp[8..12]), u16::from_be_bytes([rtp[2], rtp[3]]));
        let index = sources.iter().position(|known| known.0 == ssrc).unwrap_or_else(|| {
            sources.push((ssrc, number, BTreeMap::new()));
            sources.len() - 1
        });
        let (_, first, packets) = &mut sources[index];
        packets.insert(number.wrapping_sub(*first).cast_signed(), packet);
    }
    let is_whole = |packets: &BTreeMap<i16, SidePacket>| {
        let ends = packets.first_key_value().zip(packets.last_key_value());
        ends.is_some_and(|(first, last)| usize::from(last.0.abs_diff(*first.0)) + 1 == packets.len())
    };
    assert!(sources.iter().all(|(.., packets)| is_whole(packets)), "nothing is lost");
    sources.into_iter().flat_map(|(.., packets)| packets.into_values()).filter(|p| !p.payload.is_empty()).collect()
}

fn word(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().unwrap())
}

/// Returns a decryption with all SRTP keys in the signalling; `None` if there are no keys.
fn keys(capture: &[u8]) -> Option<SrtpStream> {
    let text = String::from_utf8_lossy(capture);
    let lines = text.lines().filter_map(|line| line.trim_end().strip_prefix("a=crypto:1 ")?.split_once(" inline:"));
    let found: Vec<(&str, &str)> = lines.collect();
    let suite = found.first()?.0.to_owned();
    let keys = found.iter().map(|(_, inline)| SrtpKey { inline: (*inline).to_owned(), mki: None }).collect();
    SrtpStream::new(&SrtpContext { suite, keys, cryptex: false }).ok()
}

impl PayloadCoding {
    /// Returns the mono samples that ffmpeg decodes from the payloads.
    fn decoded(self, packets: &[SidePacket], rate_hz: u32) -> Vec<i16> {
        let payloads = || packets.iter().map(|packet| packet.payload.as_slice());
        let joined = |head: &[u8], part: &dyn Fn(&[u8]) -> Vec<u8>| {
            [head, &payloads().flat_map(part).collect::<Vec<u8>>()].concat()
        };
        let plain = |head: &[u8]| joined(head, &<[u8]>::to_vec);
        let narrow = ["-ar", "8000", "-ac", "1"];
        let (format, more, file): (&str, &[&str], Vec<u8>) = match self {
            Mulaw => ("mulaw", &narrow, plain(b"")),
            Alaw => ("alaw", &narrow, plain(b"")),
            G722 => ("g722", &[], plain(b"")),
            G726 => ("g726le", &["-code_size", "4", "-sample_rate", "8000"], plain(b"")),
            G726Aal2 => ("g726", &["-code_size", "4", "-sample_rate", "8000"], plain(b"")),
            Gsm => ("gsm", &[], plain(b"")),
            G729 => ("g729", &[], joined(b"", &|payload| payload[..payload.len() / 10 * 10].to_vec())),
            Ilbc30 => ("ilbc", &[], plain(b"#!iLBC30\n")),
            AmrBits => ("amr", &[], joined(b"#!AMR\n", &amr_storage)),
            // The file has the entry of the table of contents and the frame, without the mode request.
            AmrOctets => ("amr", &[], joined(b"#!AMR\n", &|payload| payload[1..].to_vec())),
            AmrWbOctets => ("amr", &[], joined(b"#!AMR-WB\n", &|payload| payload[1..].to_vec())),
            Opus => ("ogg", &["-c:a", "opus"], ogg::opus(payloads(), 960)),
            WideSpeex => ("ogg", &["-c:a", "speex"], ogg::wide_speex(payloads())),
            StereoL16 => ("s16be", &["-ar", "16000", "-ac", "2"], plain(b"")),
        };
        let rate = rate_hz.to_string();
        // The channels of the stereo case have opposite phases: their mean is silence.
        let channel: &[&str] = if self == StereoL16 { &["-af", "pan=mono|c0=c0"] } else { &["-ac", "1"] };
        ffmpeg(&[more, &["-f", format]].concat(), &file, &[&["-ar", &rate], channel].concat())
    }
}

/// Returns the frame of a bandwidth-efficient AMR payload as a file has it (RFC 4867 section 5.3).
fn amr_storage(payload: &[u8]) -> Vec<u8> {
    // Request (4 bits), entry of the table of contents (6), frame.
    let bits: Vec<u8> = payload.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    let kind = bits[5..9].iter().fold(0, |kind, bit| kind << 1 | usize::from(*bit));
    let frame = &bits[10..10 + [95, 103, 118, 134, 148, 159, 204, 244, 39][kind]];
    let byte = |bits: &[u8]| (0..8).fold(0, |byte, n| byte << 1 | bits.get(n).copied().unwrap_or_default());
    std::iter::once(byte(&bits[4..10])).chain(frame.chunks(8).map(byte)).collect()
}

/// Returns the level of each side relative to ffmpeg's output, dB.
fn level_differences(capture: &str, senders: [&str; 2], codings: [PayloadCoding; 2]) -> [f64; 2] {
    let replayed = replay_files(&[fixture(capture)]);
    let [recording] = replayed.only().recordings.as_slice() else { panic!("{capture}: one recording") };
    let mut wav = hound::WavReader::open(&recording.path).unwrap();
    let samples: Vec<i16> = wav.samples().map(Result::unwrap).collect();
    let bytes = std::fs::read(fixture(capture)).unwrap();
    [0, 1].map(|channel| {
        let packets = packets_of(&bytes, senders[channel]);
        let sound = codings[channel].decoded(&packets, wav.spec().sample_rate);
        let length = sound.len() / packets.len();
        let recorded_ns = recording.starts_at.as_nanos()..recording.ends_at.as_nanos();
        let pieces = packets.iter().zip(sound.chunks(length));
        let wanted =
            energy(pieces.filter(|(packet, _)| recorded_ns.contains(&packet.at_ns)).flat_map(|(_, piece)| piece));
        assert!(wanted > 1e9, "{capture}: ffmpeg's sound is audible");
        10.0 * (energy(samples.iter().skip(channel).step_by(2)) / wanted).log10()
    })
}

fn energy<'a>(samples: impl Iterator<Item = &'a i16>) -> f64 {
    samples.map(|sample| f64::from(*sample).powi(2)).sum()
}

#[test]
#[cfg_attr(not(has_ffmpeg), ignore = "needs ffmpeg")]
fn every_case_and_codec_has_the_level_of_ffmpeg() {
    let cases = CASES.iter().map(|&(name, codings)| (format!("cases/sound/{name}.pcap"), senders(name), codings));
    let shipped = CALLS.iter().map(|&(name, coding)| {
        (format!("calls/{name}/capture.pcap"), ["10.9.0.11:20000", "10.9.0.12:20000"], [coding; 2])
    });
    let mut wrong = Vec::new();
    for (capture, senders, codings) in cases.chain(shipped) {
        let differences = level_differences(&capture, senders, codings);
        println!("{capture}: {:+.2} and {:+.2} dB of {codings:?}", differences[0], differences[1]);
        let is_off = differences.iter().any(|db| db.abs() > SAME_LEVEL_DB);
        wrong.extend(is_off.then(|| format!("{capture}: {differences:?} dB of {codings:?}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_case_is_compared_with_an_independent_decoder() {
    for entry in std::fs::read_dir(fixture("cases/sound")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some(name) = name.strip_suffix(".pcap") else { continue };
        let is_compared = CASES.iter().any(|(case, _)| *case == name);
        assert!(is_compared != WITHOUT_SOUND.contains(&name), "{name}: give its codings in CASES");
    }
}
