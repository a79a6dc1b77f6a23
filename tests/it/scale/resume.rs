//! Tests a restart with thousands of open calls. Its cost must not grow with the length of the calls.
//!
//! `CALLSPAN_RESUME_CALLS=3000 CALLSPAN_RESUME_SECONDS=20 cargo test --release --test it scale::resume -- --nocapture`
//! measures on a larger scale. Each call has two legs. Each leg has two streams of 50 packets a second (23 KB/s).

use std::path::Path;
use std::time::{Duration, Instant};

use callspan::call::Engine;
use callspan::call::config::Config;
use callspan::decode::UdpDatagram;
use callspan::net::Endpoint;
use callspan::service::resume::{NoEarlierCalls, resume};
use callspan::spool::disk::DiskSpool;
use callspan::time::Timestamp;

use crate::support::process::is_own_process;

fn number(name: &str, default: u32) -> u32 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[expect(clippy::disallowed_methods, reason = "measures a process")]
fn now() -> Instant {
    Instant::now()
}

const T0: Timestamp = Timestamp::from_secs(1_795_417_200);

fn start(folder: &Path) -> (DiskSpool, impl Sized + use<>) {
    let config = callspan::spool::config::Config { dir: folder.to_owned(), buffer_mib: 512, ..Default::default() };
    DiskSpool::start(&config).expect("a spool")
}

/// Returns the two hosts of a leg: outside and PBX, or PBX and telephone.
fn hop(leg: u32) -> (Endpoint, Endpoint) {
    let (outside, pbx, phone) = ([10, 1, 0, 1], [10, 1, 0, 2], [10, 1, 0, 3]);
    if leg.is_multiple_of(2) {
        (Endpoint::v4(outside, 5060), Endpoint::v4(pbx, 5060))
    } else {
        (Endpoint::v4(pbx, 5060), Endpoint::v4(phone, 5060))
    }
}

/// Returns a media endpoint that only one leg uses. Each IP address has 8,000 ports.
fn media(leg: u32, side: u32) -> Endpoint {
    let host = [10, 2 + side as u8, (leg / 8_000) as u8, 1];
    Endpoint::v4(host, 10_000 + (leg % 8_000) as u16 * 2)
}

fn sip(leg: u32, way: (Endpoint, Endpoint), start: &str, cseq: &str, media: Option<Endpoint>) -> Vec<u8> {
    let tag = if start.starts_with("INVITE") { "" } else { ";tag=b" };
    let body = media.map_or_else(String::new, |media| {
        let (ip, port) = (media.ip(), media.port());
        format!(
            "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 8 101\r\n\
             a=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\na=sendrecv\r\n"
        )
    });
    let (kind, filler) = (if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" }, "x".repeat(300));
    format!(
        "{start}\r\nVia: SIP/2.0/UDP {};branch=z9hG4bK{leg}{cseq}\r\nFrom: <sip:7495{:07}@h>;tag=a{leg}\r\n\
         To: <sip:{}@h>{tag}\r\nCall-ID: {leg}@h\r\nCSeq: {cseq}\r\nSession-ID: {:032x}\r\nX-Filler: {filler}\r\n\
         {kind}Content-Length: {}\r\n\r\n{body}",
        way.0,
        leg / 2,
        200 + leg / 2,
        leg / 2 + 1,
        body.len()
    )
    .into_bytes()
}

/// Writes a spool with the first seconds of calls, as a killed process leaves it.
fn leave(folder: &Path, legs: u32, seconds: u32) -> Vec<String> {
    let (mut spool, _events) = start(folder);
    let mut engine = Engine::new(Config::default(), "made up");
    spool.start_rolling_file();
    let mut feed = |at: Timestamp, (src, dst): (Endpoint, Endpoint), payload: &[u8], spool: &mut DiskSpool| {
        let wire_len = payload.len() as u32;
        engine.handle_datagram(&UdpDatagram { at, src, dst, payload, wire_len, interface: 0 }, spool);
        while engine.poll_event().is_some() {}
    };
    for leg in 0..legs {
        let at = T0 + Duration::from_micros(u64::from(leg) * 100);
        let (there, back) = (hop(leg), (hop(leg).1, hop(leg).0));
        for (after, way, start, cseq, media) in [
            (0, there, "INVITE sip:x@h SIP/2.0", "1 INVITE", Some(media(leg, 0))),
            (10, back, "SIP/2.0 100 Trying", "1 INVITE", None),
            (20, back, "SIP/2.0 180 Ringing", "1 INVITE", None),
            (30, back, "SIP/2.0 200 OK", "1 INVITE", Some(media(leg, 1))),
            (40, there, "ACK sip:x@h SIP/2.0", "1 ACK", None),
        ] {
            feed(at + Duration::from_micros(after), way, &sip(leg, way, start, cseq, media), &mut spool);
        }
    }
    let mut packet = vec![0x80, 8];
    packet.resize(172, 0xD5);
    for n in 0..seconds * 50 {
        let at = T0 + Duration::from_millis(5_000 + u64::from(n) * 20);
        packet[2..4].copy_from_slice(&(n as u16).to_be_bytes());
        packet[4..8].copy_from_slice(&(n * 160).to_be_bytes());
        for leg in 0..legs {
            for side in [0, 1] {
                packet[8..12].copy_from_slice(&(leg * 2 + side).to_be_bytes());
                feed(at, (media(leg, side), media(leg, 1 - side)), &packet, &mut spool);
            }
        }
        if n % 25 == 0 {
            spool.handle_timeout(at);
            if spool.queued_bytes() > 128 << 20 {
                spool.flush();
            }
        }
    }
    assert_eq!(spool.lost_packets(), 0);
    spool.flush();
    let mut ids: Vec<String> = engine.live_ids().map(str::to_owned).collect();
    ids.sort();
    // The spool is not closed, because a clean stop writes more than a kill.
    std::mem::forget(spool);
    ids
}

/// Starts an engine from the spool. Returns the time that it took, and the number of bytes that were read.
fn come_up(folder: &Path, legs: u32, ids: &[String]) -> (Duration, u64) {
    let (mut spool, _events) = start(folder);
    let mut engine = Engine::new(Config::default(), "made up");
    let (before, read, begin) = (handles(folder), bytes_read(), now());
    let names = resume(&mut engine, &mut spool, &NoEarlierCalls).expect("readable");
    let (took, read) = (begin.elapsed(), bytes_read() - read);
    assert_eq!((names.len(), engine.live_legs()), (legs as usize, legs as usize));
    let mut found: Vec<&str> = engine.live_ids().collect();
    found.sort_unstable();
    assert!(found == ids, "the same calls");
    // The spool of the "killed" process was only forgotten, so its files are still open.
    assert!(handles(folder) <= before + 512);
    (took, read)
}

fn handles(folder: &Path) -> usize {
    let all = std::fs::read_dir("/proc/self/fd").expect("Linux").flatten();
    all.filter_map(|fd| std::fs::read_link(fd.path()).ok()).filter(|file| file.starts_with(folder)).count()
}

/// Returns the number of bytes that this process has read from files.
fn bytes_read() -> u64 {
    let text = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix("rchar: ")?.parse().ok()).unwrap_or(0)
}

#[test]
fn a_restart_reads_no_more_for_longer_calls() {
    if !is_own_process("scale::resume::a_restart_reads_no_more_for_longer_calls") {
        return;
    }
    let legs = 2 * number("CALLSPAN_RESUME_CALLS", 100);
    let seconds = number("CALLSPAN_RESUME_SECONDS", 20);
    let mut reads = Vec::new();
    for seconds in [seconds / 4, seconds] {
        let folder = tempfile::tempdir().expect("a folder");
        let ids = leave(folder.path(), legs, seconds);
        let (took, read) = come_up(folder.path(), legs, &ids);
        let size: u64 = std::fs::read_dir(folder.path())
            .expect("readable")
            .flatten()
            .filter_map(|entry| entry.metadata().ok())
            .map(|metadata| metadata.len())
            .sum();
        eprintln!(
            "{} calls ({legs} legs) of {seconds} s, {} MiB: up in {:.2} s, {} KiB read of each leg, {} MiB in memory",
            legs / 2,
            size >> 20,
            took.as_secs_f64(),
            (read / u64::from(legs)) >> 10,
            resident_mib()
        );
        reads.push(read);
    }
    // From each leg, its end (52 KiB) and its signalling are read twice.
    assert!(reads.iter().all(|read| *read < u64::from(legs) * 80 * 1024), "{reads:?}");
}

fn resident_mib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|kib| kib.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) >> 10
}
