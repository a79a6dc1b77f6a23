//! The fuzz targets. Each passes any bytes to a part of the program that reads data from outside. A target panics if it
//! finds a fault.
//!
//! An input is a list of *pieces*, each with its length in front (see [`Pieces`]). So a fuzzer can cut, swap and repeat
//! frames, segments and packets. Every target checks facts that hold for any input. Limits are kept, output lies inside
//! the input, and a split input gives the same result as the whole input.

use std::sync::Arc;
use std::time::Duration;

use callspan::call::decision::{Decision, PayloadFormat};
use callspan::call::engine::{Engine, EngineLimits};
use callspan::call::event::{CallEvent, DiscardReason, KeptBytes, LegId, LegSink};
use callspan::call::negotiation::AudioDescription;
use callspan::capture::{CaptureEvent, CaptureSource, CapturedFrame, LinkType, files};
use callspan::decode::{self, DecodedItem, FrameDecoder, TcpStreamChunk, TcpStreamEvent, UdpDatagram};
use callspan::net::{Endpoint, Transport};
use callspan::render;
use callspan::render::codec::decoder_for;
use callspan::rtp;
use callspan::rtp::redundancy;
use callspan::sdp;
use callspan::sip::framer::SipFramer;
use callspan::sip::{self, SipFraming, SipMessage};
use callspan::spool::reader::{LegSource, SpoolEntry};
use callspan::time::Timestamp;

/// The name of a target, and its function.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// All targets.
pub(crate) const TARGETS: [Target; 11] = [
    ("frames", frames),
    ("fragments", fragments),
    ("tcp", tcp),
    ("framing", framing),
    ("sip", sip),
    ("sdp", sdp),
    ("codecs", codecs),
    ("spool", spool),
    ("capture", capture),
    ("engine", engine),
    ("hep", hep),
];

/// Reads any bytes as HEP 3. An accepted packet must lie inside the datagram, and its frame must contain the packet.
fn hep(input: &[u8]) {
    let mut frame = Vec::new();
    for piece in Pieces(input).chain([input]) {
        let Some(packet) = callspan::capture::hep::parse(piece) else { continue };
        assert!(piece.windows(packet.payload.len()).any(|window| std::ptr::eq(window, packet.payload)));
        callspan::capture::hep::write_frame(&packet, &mut frame);
        assert!(frame.ends_with(packet.payload) && frame.len() <= 40 + 8 + packet.payload.len());
    }
}

/// Returns the target of this name.
pub(crate) fn target(name: &str) -> Option<fn(&[u8])> {
    TARGETS.iter().find(|(n, _)| *n == name).map(|(_, target)| *target)
}

/// The pieces of an input. Each piece has its length in front, in two bytes. The last piece may be shorter than its
/// length.
pub(crate) struct Pieces<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];
    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (piece, rest) = rest.split_at(length);
        self.0 = rest;
        Some(piece)
    }
}

/// Returns an input that [`Pieces`] splits into these pieces.
pub(crate) fn joined(pieces: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in pieces {
        let length = piece.len().min(usize::from(u16::MAX));
        out.extend((length as u16).to_be_bytes());
        out.extend(&piece[..length]);
    }
    out
}

/// Decodes frames of any link type. The first byte of a piece is the link type. The second byte is the number of ms
/// since the last frame.
fn frames(input: &[u8]) {
    let mut decoder = FrameDecoder::with_limits(SMALL);
    let mut at = T0;
    for piece in Pieces(input) {
        let [link, pause, data @ ..] = piece else { continue };
        at = at + Duration::from_millis(u64::from(*pause));
        feed(&mut decoder, at, LINKS[usize::from(*link) % LINKS.len()], data, &mut |_| {});
    }
    end(&mut decoder, at);
}

/// Reassembles fragments of IPv4 and IPv6. Their headers are well-formed, but offsets, lengths and order are arbitrary.
fn fragments(input: &[u8]) {
    let mut decoder = FrameDecoder::with_limits(SMALL);
    let mut at = T0;
    for piece in Pieces(input) {
        let [how, id, high, low, payload @ ..] = piece else { continue };
        at = at + Duration::from_millis(u64::from(how >> 4) * 50);
        let packet = fragment(*how, *id, u16::from_be_bytes([*high, *low]), payload);
        feed(&mut decoder, at, LinkType::RawIp, &packet, &mut |decoded| {
            if let DecodedItem::Datagram(datagram) = decoded {
                assert!(datagram.payload.len() <= 65_535, "no IP packet is longer");
            }
        });
    }
    end(&mut decoder, at);
}

/// Reads SIP messages from the segments of two TCP directions, which come in any order and may overlap.
fn tcp(input: &[u8]) {
    let mut decoder = FrameDecoder::with_limits(SMALL);
    let mut framers = [SipFramer::default(), SipFramer::default()];
    let mut at = T0;
    for piece in Pieces(input) {
        let [how, sequence, flags, payload @ ..] = piece else { continue };
        at = at + Duration::from_millis(u64::from(how >> 1));
        let backward = how & 1 == 1;
        // Sequence numbers are multiples of 16, so that overlaps, holes and a wrap are frequent.
        let sequence = 0xffff_fc00_u32.wrapping_add(u32::from(*sequence) * 16);
        let packet = segment(backward, sequence, *flags, payload);
        feed(&mut decoder, at, LinkType::RawIp, &packet, &mut |decoded| {
            if let DecodedItem::Stream(chunk) = decoded {
                let framer = &mut framers[usize::from(chunk.src.port() == 5060)];
                match chunk.event {
                    TcpStreamEvent::Data(data) => framer.push(data, &mut message),
                    TcpStreamEvent::Gap => framer.gap(&mut message),
                    TcpStreamEvent::End => framer.end(&mut message),
                }
            }
        });
    }
    end(&mut decoder, at);
}

/// Checks that a byte stream gives the same messages wherever it is cut. The first piece determines the cuts.
fn framing(input: &[u8]) {
    let mut pieces = Pieces(input);
    let (Some(cuts), stream) = (pieces.next(), pieces.0) else { return };
    let collect = |chunks: &mut dyn Iterator<Item = &[u8]>| {
        let (mut framer, mut messages) = (SipFramer::default(), Vec::new());
        for chunk in chunks {
            framer.push(chunk, &mut |m| messages.push(m.to_vec()));
        }
        // A WebSocket frame that follows other bytes is found only at the beginning of a piece. So in this case cuts
        // may change the result.
        let is_found_by_piece = framer.transport() == Transport::Ws && framer.skipped() > 0;
        framer.end(&mut |m| messages.push(m.to_vec()));
        (is_found_by_piece, messages)
    };
    let (by_piece, whole) = collect(&mut std::iter::once(stream));
    let mut rest = stream;
    let mut lengths = cuts.iter().map(|c| usize::from(*c) + 1).chain(std::iter::repeat(4096));
    let mut chunks = std::iter::from_fn(|| {
        let length = lengths.next().unwrap_or(1).min(rest.len());
        let (chunk, after) = rest.split_at(length);
        rest = after;
        (!chunk.is_empty()).then_some(chunk)
    });
    let (by_other_piece, cut) = collect(&mut chunks);
    assert!(by_piece || by_other_piece || cut == whole, "a cut must not change what a stream says: {cut:?} {whole:?}");
    whole.iter().for_each(|m| message(m));
}

/// Reads one SIP message as datagram and as stream, and calls every getter.
fn sip(input: &[u8]) {
    message(input);
}

/// Reads a session description, and passes it to the engine's negotiation.
fn sdp(input: &[u8]) {
    if let Ok(session) = sdp::parse(input) {
        let _ = AudioDescription::from_session(&session);
        let _ = session.audio().count();
    }
}

/// Decodes payloads. The first byte selects the decoder. A piece of one byte stands for a gap: it is the number of
/// samples to conceal.
fn codecs(input: &[u8]) {
    let Some((choice, rest)) = input.split_first() else { return };
    let (encoding, clock_hz, channels, fmtp) = FORMATS[usize::from(*choice) % FORMATS.len()];
    let format = PayloadFormat { encoding: encoding.into(), clock_hz, channels, fmtp: fmtp.into() };
    let Some(mut decoder) = decoder_for(&format) else { panic!("{encoding} has a decoder") };
    let mut out = Vec::new();
    for payload in Pieces(rest).take(MAX_PAYLOADS) {
        out.clear();
        out.push(7);
        if let [samples] = payload {
            decoder.conceal(usize::from(*samples), None, &mut out);
            assert!(out.len() <= 1 + usize::from(*samples), "no more is made up than was asked for");
            continue;
        }
        if decoder.decode(payload, &mut out).is_err() {
            assert_eq!(out, [7], "a refused payload leaves no sound");
        }
        // Even silence descriptors in which each byte gives eight frames of 20 ms keep this bound.
        assert!(out.len() <= 1 + (payload.len() + 1) * 8 * 960, "{encoding}: {} of {}", out.len(), payload.len());
        let _ = redundancy::blocks(payload);
        out.clear();
        decoder.conceal(160, Some(payload), &mut out);
    }
}

/// Reads a damaged or intact spool and plans its rendering. If the spool is short, renders it.
fn spool(input: &[u8]) {
    let source = LegSource::Memory(Arc::new(input.to_vec().into()));
    let Ok(mut reader) = source.open() else { return };
    let mut entries = 0_usize;
    while let Ok(Some(entry)) = reader.next_entry() {
        entries += 1;
        if let SpoolEntry::Packet(packet) = entry {
            assert!(packet.payload.len() <= input.len());
        }
    }
    assert!(entries <= input.len(), "every entry takes bytes");
    assert!(reader.valid_bytes() <= input.len() as u64);
    let Ok(plan) = render::plan(&source, &render::RenderOptions::default()) else { return };
    if plan.samples > MAX_SAMPLES {
        return;
    }
    let mut samples = 0;
    let rendered = render::render(&plan, &source, &mut |frames| {
        samples += frames.len() as u64;
        Ok(())
    });
    if rendered.is_ok() {
        assert_eq!(samples, plan.samples, "a recording is as long as its plan");
    }
}

/// Reads a capture file: pcap, pcapng, gzip.
fn capture(input: &[u8]) {
    // Each process uses one file, in a folder in memory if the system has one.
    let folder = if std::path::Path::new("/dev/shm").is_dir() { "/dev/shm".into() } else { std::env::temp_dir() };
    let path = folder.join(format!("callspan-fuzz-{}.pcap", std::process::id()));
    std::fs::write(&path, input).expect("the folder of temporary files can be written");
    if let Ok(mut source) = files::open(std::slice::from_ref(&path)) {
        for _ in 0..MAX_EVENTS {
            match source.next_event() {
                Ok(CaptureEvent::End) | Err(_) => break,
                Ok(CaptureEvent::Frame(frame)) => assert!(frame.data.len() <= MAX_FRAME),
                Ok(_) => {}
            }
        }
        let _ = source.take_warnings();
    }
    std::fs::remove_file(&path).expect("it is ours");
}

/// Runs the whole engine: datagrams, streams, time and clock steps between a few addresses, in any order.
fn engine(input: &[u8]) {
    let limits =
        EngineLimits { legs: 16, early_bytes: 1 << 14, streams: 8, rtp_streams: 64, kept_legs: 2, tombstones: 16 };
    let mut engine = Engine::with_limits(callspan::call::config::Config::default(), "fuzz", limits);
    let mut sink = Sink::default();
    let mut at = T0;
    let (mut begun, mut ended) = (0_u64, 0_u64);
    for piece in Pieces(input) {
        let [how, ends, pause, payload @ ..] = piece else { continue };
        at = at + PAUSES[usize::from(*pause) % PAUSES.len()];
        let (src, dst) = (endpoint(ends >> 4), endpoint(ends & 15));
        match how % 8 {
            0..=3 => {
                let missing = u32::from(how >> 4);
                let wire_len = payload.len() as u32 + missing;
                engine.handle_datagram(&UdpDatagram { at, src, dst, payload, wire_len, interface: 0 }, &mut sink);
            }
            4 => engine.handle_stream(&chunk((at, src, dst), TcpStreamEvent::Data(payload)), &mut sink),
            5 if how & 8 == 0 => engine.handle_stream(&chunk((at, src, dst), TcpStreamEvent::Gap), &mut sink),
            5 => engine.handle_stream(&chunk((at, src, dst), TcpStreamEvent::End), &mut sink),
            6 => engine.handle_timeout(at, &mut sink),
            _ if how & 8 == 0 => {
                engine.handle_clock_step(i64::from(*ends) * 10_000_000_000 - 1_000_000_000_000, &mut sink);
            }
            _ => engine.handle_local_loss(),
        }
        assert!(engine.live_legs() <= limits.legs, "the table of legs has a bound");
        ended += take_events(&mut engine);
        begun = begun.max(engine.counters().legs);
    }
    engine.handle_end_of_capture(&mut sink);
    ended += take_events(&mut engine);
    assert_eq!((engine.live_calls(), engine.live_legs()), (0, 0), "the end of a capture ends every call");
    assert!(ended <= begun, "a call has a leg at least");
    assert_eq!(ended, engine.counters().calls);
    assert!(sink.open.is_empty(), "every leg that was opened is closed or discarded");
}

// ---- what the targets share

fn take_events(engine: &mut Engine) -> u64 {
    let mut ended = 0;
    while let Some(event) = engine.poll_event() {
        if let CallEvent::Ended(call) = event {
            ended += 1;
            let json = serde_json::to_string(&call.record).expect("a record can be written");
            let back: callspan::call::record::CallRecord = serde_json::from_str(&json).expect("and read");
            assert_eq!(back.id, call.record.id);
        }
    }
    ended
}

fn message(bytes: &[u8]) {
    let _ = sip::looks_like_sip(bytes);
    for framing in [SipFraming::Datagram, SipFraming::Stream] {
        let Ok(message) = SipMessage::parse(bytes, framing) else { continue };
        let _ = (message.start(), message.cseq(), message.via_branch(), message.request_uri(), message.body_cut());
        let _ = (message.from(), message.to(), message.contact(), message.transaction_method());
        for (name, value) in message.all_headers() {
            let _ = (message.headers(&name), message.values(&name), message.addresses(&name));
            let _ = sip::SipUri::parse(&value);
        }
        assert!(message.body().len() <= bytes.len());
        if let Some(description) = message.sdp() {
            sdp(&description);
        }
    }
}

fn feed(decoder: &mut FrameDecoder, at: Timestamp, link: LinkType, data: &[u8], sink: &mut dyn FnMut(DecodedItem<'_>)) {
    let frame = CapturedFrame { at, link, interface: 0, orig_len: data.len() as u32, data };
    decoder.handle_frame(&frame, &mut |decoded| {
        if let DecodedItem::Datagram(datagram) = decoded {
            assert!(datagram.payload.len() <= datagram.wire_len as usize, "no more is captured than there was");
            if rtp::classify(datagram.payload) == rtp::MediaPacketKind::Rtp {
                let _ = (rtp::RtpPacket::parse(datagram.payload), rtp::RtpPacket::parse_cut(datagram.payload));
            }
        }
        sink(decoded);
    });
}

fn end(decoder: &mut FrameDecoder, at: Timestamp) {
    decoder.handle_timeout(at + Duration::from_secs(60), &mut |_| {});
    decoder.handle_end(&mut |_| {});
}

/// Returns an IP fragment. In `how`, bit 0 means IPv6, bit 1 means more fragments, and bits 2 and 3 select a pair of
/// addresses.
fn fragment(how: u8, id: u8, offset: u16, payload: &[u8]) -> Vec<u8> {
    let (host, more) = (how >> 2 & 3, how & 2 != 0);
    let mut out;
    if how & 1 == 0 {
        let total = (20 + payload.len()).min(65_535) as u16;
        let field = offset & 0x1fff | if more { 0x2000 } else { 0 };
        out = vec![0x45, 0, 0, 0, 0, id, 0, 0, 64, 17, 0, 0, 10, 0, 0, host, 10, 0, 0, 9];
        out[2..4].copy_from_slice(&total.to_be_bytes());
        out[6..8].copy_from_slice(&field.to_be_bytes());
    } else {
        let length = (8 + payload.len()).min(65_535) as u16;
        out = vec![0x60, 0, 0, 0, 0, 0, 44, 64];
        out[4..6].copy_from_slice(&length.to_be_bytes());
        out.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host]);
        out.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
        out.extend([17, 0]);
        out.extend((offset & 0xfff8 | u16::from(more)).to_be_bytes());
        out.extend([0, 0, 0, id]);
    }
    out.extend_from_slice(payload);
    out
}

fn segment(backward: bool, sequence: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let total = (40 + payload.len()).min(65_535) as u16;
    let (src, dst, ports) = if backward { (2, 1, [5060_u16, 40_000]) } else { (1, 2, [40_000_u16, 5060]) };
    let mut out = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, src, 10, 0, 0, dst];
    out[2..4].copy_from_slice(&total.to_be_bytes());
    out.extend(ports.map(u16::to_be_bytes).concat());
    out.extend(sequence.to_be_bytes());
    out.extend([0, 0, 0, 0, 0x50, flags & 0x1f, 0xff, 0xff, 0, 0, 0, 0]);
    out.extend_from_slice(payload);
    out
}

fn chunk<'a>((at, src, dst): (Timestamp, Endpoint, Endpoint), event: TcpStreamEvent<'a>) -> TcpStreamChunk<'a> {
    TcpStreamChunk { at, src, dst, event, interface: 0 }
}

/// Returns an endpoint: an address of the fixture call's signalling or media, or another address.
fn endpoint(number: u8) -> Endpoint {
    let (host, port) = (11 + (number & 1), [5060, 20_000, 20_001, 40_000][usize::from(number >> 1 & 3)]);
    Endpoint::v4([10, if number & 8 == 0 { 9 } else { 8 }, 0, host], port)
}

/// The legs that are open.
#[derive(Default)]
struct Sink {
    open: std::collections::BTreeSet<LegId>,
}

impl LegSink for Sink {
    fn open(&mut self, leg: LegId, _name: &str) {
        assert!(self.open.insert(leg), "a leg is opened once");
    }
    fn packet(&mut self, leg: LegId, datagram: &UdpDatagram<'_>, keep: KeptBytes) {
        assert!(self.open.contains(&leg), "packets only between opening and closing");
        if let KeptBytes::Header(bytes) = keep {
            assert!(usize::from(bytes) <= datagram.payload.len(), "a header is no longer than its packet");
        }
    }
    fn decide(&mut self, leg: LegId, _at: Timestamp, _decision: &Decision) {
        assert!(self.open.contains(&leg), "decisions only between opening and closing");
    }
    fn close(&mut self, leg: LegId) {
        assert!(self.open.remove(&leg), "closed once");
    }
    fn discard(&mut self, leg: LegId, _: DiscardReason) {
        self.open.remove(&leg);
    }
}

/// The codecs for the target [`codecs`]. The first byte of an input is the index, in the order of the seeds.
pub(crate) const FORMATS: [(&str, u32, u8, &str); 20] = [
    ("PCMA", 8_000, 1, ""),
    ("PCMU", 8_000, 1, ""),
    ("G722", 8_000, 1, ""),
    ("GSM", 8_000, 1, ""),
    ("G729", 8_000, 1, ""),
    ("OPUS", 48_000, 2, ""),
    ("AMR", 8_000, 1, ""),
    ("AMR", 8_000, 1, "octet-align=1"),
    ("AMR-WB", 16_000, 1, ""),
    ("AMR-WB", 16_000, 1, "octet-align=1"),
    ("L16", 8_000, 2, ""),
    ("DVI4", 8_000, 1, ""),
    ("G726-32", 8_000, 1, ""),
    ("G726-24", 8_000, 1, ""),
    ("AAL2-G726-40", 8_000, 1, ""),
    ("SPEEX", 8_000, 1, ""),
    ("SPEEX", 16_000, 1, ""),
    ("CN", 8_000, 1, ""),
    ("ILBC", 8_000, 1, "mode=20"),
    ("ILBC", 8_000, 1, "mode=30"),
];

/// Time of the first packet: 2026-11-23T07:00:00Z.
const T0: Timestamp = Timestamp::from_secs(1_795_417_200);
const SMALL: decode::DecoderLimits = decode::DecoderLimits {
    fragment_bytes: 1 << 18,
    fragment_datagrams: 16,
    fragment_age: Duration::from_secs(5),
    tcp_streams: 8,
    tcp_bytes: 1 << 18,
};
const LINKS: [LinkType; 8] = [
    LinkType::Ethernet,
    LinkType::RawIp,
    LinkType::LinuxSll,
    LinkType::LinuxSll2,
    LinkType::Null,
    LinkType::Loop,
    LinkType::Other(7),
    LinkType::Ethernet,
];
/// Pauses before the next packet. The longest exceeds all timers of the engine.
const PAUSES: [Duration; 8] = [
    Duration::ZERO,
    Duration::from_millis(20),
    Duration::from_millis(150),
    Duration::from_millis(600),
    Duration::from_secs(6),
    Duration::from_secs(70),
    Duration::from_secs(400),
    Duration::from_secs(90_000),
];
/// Maximum number of payloads of an input, so that a slow decoder does not make the input slow.
const MAX_PAYLOADS: usize = 64;
/// Maximum number of samples: ten seconds at 16 kHz.
const MAX_SAMPLES: u64 = 160_000;
const MAX_EVENTS: usize = 100_000;
/// Maximum size of a frame that the reader of capture files may return, bytes.
const MAX_FRAME: usize = 1 << 26;
