//! The first inputs for the fuzzer, made from the fixtures: a real call, real payloads, real messages.

use std::path::Path;

use super::targets::{FORMATS, joined};

/// Returns the first inputs of a target. `root` is the folder of the package.
pub(crate) fn seeds(target: &str, root: &Path) -> Vec<Vec<u8>> {
    let fixtures = root.join("fixtures");
    match target {
        "frames" => vec![frames(&call(&fixtures), 40), frames(&call(&fixtures), 8)],
        "fragments" => fragments(),
        "tcp" => vec![segments(&messages(&fixtures), 500), segments(&messages(&fixtures), 48)],
        "framing" => {
            let stream = messages(&fixtures).concat();
            vec![[&[0, 3, 9, 200, 0][..], &stream].concat(), [&[0, 1, 0][..], &stream[..stream.len() / 2]].concat()]
        }
        "sip" => [messages(&fixtures), files(&fixtures.join("sip"), "sip")].concat(),
        "sdp" => {
            files(&fixtures.join("sdp"), "sdp").into_iter().chain(messages(&fixtures).iter().map(|m| body(m))).collect()
        }
        "codecs" => codecs(&fixtures),
        "spool" => vec![spool()],
        "capture" => {
            let whole = std::fs::read(fixtures.join(CALL)).expect("shipped");
            vec![whole[..4000].to_vec(), pcapng()]
        }
        "engine" => vec![engine(&call(&fixtures), 60), engine(&call(&fixtures), 12)],
        "hep" => messages(&fixtures).iter().map(|message| hep(message)).collect(),
        _ => Vec::new(),
    }
}

/// Returns a SIP message as an agent sends it in HEP 3.
fn hep(message: &[u8]) -> Vec<u8> {
    let chunk = |kind: u8, value: &[u8]| {
        let length = u16::try_from(6 + value.len()).expect("short").to_be_bytes();
        [&[0, 0, 0, kind], &length[..], value].concat()
    };
    let chunks = [
        chunk(3, &[192, 0, 2, 1]),
        chunk(4, &[192, 0, 2, 2]),
        chunk(7, &5060_u16.to_be_bytes()),
        chunk(8, &5060_u16.to_be_bytes()),
        chunk(11, &[1]),
        chunk(15, message),
    ]
    .concat();
    let length = u16::try_from(6 + chunks.len()).expect("short").to_be_bytes();
    [b"HEP3", &length[..], &chunks].concat()
}

/// Returns the frames of the call in the fixtures. Its file is a little-endian pcap with Ethernet frames.
fn call(fixtures: &Path) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(fixtures.join(CALL)).expect("shipped");
    let mut frames = Vec::new();
    let mut rest = &bytes[24..];
    while let Some((header, after)) = rest.split_first_chunk::<16>() {
        let length = u32::from_le_bytes([header[8], header[9], header[10], header[11]]) as usize;
        let (frame, after) = after.split_at(length);
        frames.push(frame.to_vec());
        rest = after;
    }
    frames
}

fn is_sip(frame: &[u8]) -> bool {
    frame.get(34..36) == Some(&5060_u16.to_be_bytes()) || frame.get(36..38) == Some(&5060_u16.to_be_bytes())
}

/// Returns the UDP payload of an IPv4 frame without options.
fn payload(frame: &[u8]) -> &[u8] {
    let total = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
    &frame[42..14 + total]
}

/// Returns the SIP messages of the call.
fn messages(fixtures: &Path) -> Vec<Vec<u8>> {
    call(fixtures).iter().filter(|f| is_sip(f)).map(|f| payload(f).to_vec()).collect()
}

/// Returns all signalling of a call and its first `media` media packets, in order.
fn some(call: &[Vec<u8>], media: usize) -> Vec<&Vec<u8>> {
    let is_udp = |f: &&Vec<u8>| f.get(12..14) == Some(&[8, 0]) && f.get(23) == Some(&17);
    let step = (call.len() / media).max(1);
    call.iter().filter(is_udp).enumerate().filter(|(n, f)| is_sip(f) || n % step == 0).map(|(_, f)| f).collect()
}

fn frames(call: &[Vec<u8>], media: usize) -> Vec<u8> {
    let pieces: Vec<Vec<u8>> = some(call, media).iter().map(|f| [&[0, 5][..], f].concat()).collect();
    joined(&pieces)
}

fn engine(call: &[Vec<u8>], media: usize) -> Vec<u8> {
    let end = |host: u8, port: u16| {
        let place = match port {
            5060 => 0,
            _ if port.is_multiple_of(2) => 1,
            _ => 2,
        };
        (host - 11) | place << 1
    };
    let piece = |f: &&Vec<u8>| {
        let port = |at: usize| u16::from_be_bytes([f[at], f[at + 1]]);
        let ends = end(f[29].clamp(11, 12), port(34)) << 4 | end(f[33].clamp(11, 12), port(36));
        [&[0, ends, 1][..], payload(f)].concat()
    };
    let pieces: Vec<Vec<u8>> = some(call, media).iter().map(piece).collect();
    joined(&pieces)
}

fn segments(messages: &[Vec<u8>], size: usize) -> Vec<u8> {
    let (size, mut at) = (size / 16 * 16, 0_u8);
    let mut pieces = Vec::new();
    for message in messages.iter().take(3) {
        for chunk in message.chunks(size) {
            pieces.push([&[0, at, 0x18][..], chunk].concat());
            at = at.wrapping_add(chunk.len().div_ceil(16) as u8);
        }
    }
    joined(&pieces)
}

fn fragments() -> Vec<Vec<u8>> {
    let udp = [&[0x13, 0xc4, 0x13, 0xc4, 0, 72, 0, 0][..], &[b'x'; 64]].concat();
    let piece =
        |how: u8, offset: u16, from: usize, to: usize| [&[how, 1][..], &offset.to_be_bytes(), &udp[from..to]].concat();
    let in_order = [piece(2, 0, 0, 24), piece(2, 3, 24, 48), piece(0, 6, 48, 72)];
    // Fragments of IPv4 and IPv6 in mixed order. The last fragment comes first, and two fragments overlap. Offsets of
    // IPv6 are in bytes, with their lowest three bits unused (RFC 8200 section 4.5).
    let mixed = [piece(1, 48, 48, 72), piece(3, 0, 0, 24), piece(3, 16, 16, 40), piece(3, 24, 24, 48)];
    vec![joined(&in_order), joined(&mixed), joined(&[in_order.to_vec(), mixed.to_vec()].concat())]
}

/// Returns payloads of each codec. A byte before each payload selects the codec.
fn codecs(fixtures: &Path) -> Vec<Vec<u8>> {
    let named = |number: usize| match FORMATS[number] {
        ("AMR", _, _, "") => "amr",
        ("AMR", ..) => "amr_octets",
        ("AMR-WB", _, _, "") => "amrwb",
        ("AMR-WB", ..) => "amrwb_octets",
        ("G726-32", ..) => "g726_32",
        ("G726-24", ..) => "g726_24",
        ("AAL2-G726-40", ..) => "g726_40",
        ("SPEEX", 16_000, ..) => "speex_wb",
        ("G729", ..) => "g729b",
        ("OPUS", ..) => "opus",
        ("GSM", ..) => "gsm",
        ("G722", ..) => "g722",
        ("SPEEX", ..) => "speex",
        ("DVI4", ..) => "dvi4",
        ("ILBC", _, _, "mode=20") => "ilbc_20",
        ("ILBC", ..) => "ilbc_30",
        ("PCMU", ..) => "pcmu",
        _ => "pcma",
    };
    let seed = |number: usize| {
        let bytes = std::fs::read(fixtures.join("codecs").join(format!("{}.rtp", named(number)))).expect("shipped");
        // These files contain single payloads.
        [&[number as u8][..], &bytes[..bytes.len().min(600)]].concat()
    };
    (0..FORMATS.len()).map(seed).collect()
}

/// Returns a spool with some decisions and then three packets: pcapng with custom blocks of JSON.
fn spool() -> Vec<u8> {
    let block = |kind: u32, body: &[u8]| {
        let padded = body.len().next_multiple_of(4);
        let mut out = [kind.to_le_bytes(), (padded as u32 + 12).to_le_bytes()].concat();
        out.extend_from_slice(body);
        out.resize(8 + padded, 0);
        out.extend((padded as u32 + 12).to_le_bytes());
        out
    };
    let at_ns = 1_795_417_200_000_000_000_i64;
    let mut out = block(SECTION, &[&0x1a2b_3c4d_u32.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat());
    out.extend(block(1, &[101, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0]));
    let decide = |after_ms: i64, json: &str| {
        let text = format!("{{\"at_ns\":{},{json}}}", at_ns + after_ms * 1_000_000);
        let data = [&b"callspan"[..], &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat();
        block(0xbad, &[&ENTERPRISE.to_le_bytes()[..], &data].concat())
    };
    let endpoints = r#""src":"10.9.0.11:20000","dst":"10.9.0.12:20000","ssrc":7,"side":"caller""#;
    out.extend(decide(0, r#""decision":"begin","format":1,"leg":"l","conversation":"c","appliance":"a","source":"s""#));
    out.extend(decide(1, &format!(r#""decision":"stream","stream":0,{endpoints}"#)));
    out.extend(decide(
        1,
        r#""decision":"payload","stream":0,"pt":8,"format":{"encoding":"PCMA","clock_hz":8000,"channels":1}"#,
    ));
    out.extend(decide(2, r#""decision":"start""#));
    for n in 0..3_u8 {
        let rtp = [&[0x80, 8, 0, n, 0, 0, n, 0xa0, 0, 0, 0, 7][..], &[0xd5; 160]].concat();
        let udp = [&[0x4e, 0x20, 0x4e, 0x20][..], &(8 + rtp.len() as u16).to_be_bytes(), &[0, 0], &rtp].concat();
        let mut ip = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 10, 9, 0, 11, 10, 9, 0, 12];
        ip[2..4].copy_from_slice(&((20 + udp.len()) as u16).to_be_bytes());
        let packet = [ip, udp].concat();
        let ticks = (at_ns + (3 + i64::from(n) * 20) * 1_000_000) as u64;
        let words = [0, (ticks >> 32) as u32, ticks as u32, packet.len() as u32, packet.len() as u32];
        out.extend(block(6, &[words.map(u32::to_le_bytes).concat(), packet].concat()));
    }
    out
}

/// Returns a pcapng file with one section, one interface, one packet.
fn pcapng() -> Vec<u8> {
    spool()
}

fn body(message: &[u8]) -> Vec<u8> {
    let at = message.windows(4).position(|w| w == b"\r\n\r\n").map_or(0, |at| at + 4);
    message[at..].to_vec()
}

fn files(folder: &Path, extension: &str) -> Vec<Vec<u8>> {
    let mut paths: Vec<_> = std::fs::read_dir(folder).expect("shipped").flatten().map(|e| e.path()).collect();
    // The order of files in a folder is not fixed, but the seeds must be the same in every run.
    paths.sort();
    let wanted = paths.iter().filter(|p| p.extension().is_some_and(|e| e == extension));
    wanted.map(|p| std::fs::read(p).expect("shipped")).collect()
}

const CALL: &str = "calls/g711a_direct/capture.pcap";
/// Enterprise number of the custom blocks in a spool.
const ENTERPRISE: u32 = 32_473;
const SECTION: u32 = 0x0a0d_0d0a;
