//! Tests with captures of other projects, from the folder `pcaps` of `CALLSPAN_CORPUS`. Their licences do not allow
//! this project to distribute them.
//!
//! `oracle.json` has the results of tshark, which can be wrong. [`EXCEPTIONS`] lists each known difference with its
//! reason. If a listed difference no longer occurs, the test fails.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use callspan::call::record::{CallRecord, Side};
use serde::Deserialize;

use crate::support::captures::{replay_files, try_replay_files};

/// A known difference: file, stream, difference, reason.
type OracleException = (&'static str, &'static str, &'static str, &'static str);

/// Known differences from tshark. In each case callspan is right: the packets in the capture were counted.
const EXCEPTIONS: &[OracleException] = &[
    (
        "kuko6+mtaa-sip-proxy/hovor_rtp.pcapng",
        "192.168.1.194:7078 192.168.1.156:7242 0x7a93c2e7",
        "heard 362, not in the oracle",
        "one end talks to a proxy on its own host, so tshark misses that the SDP names this flow; 362 packets are there",
    ),
    (
        "kuko6+mtaa-sip-proxy/presmerovanie.pcapng",
        "192.168.1.194:7078 192.168.1.156:7232 0xa830d67d",
        "heard 383, oracle 12",
        "the same; tshark takes the stream in only after a re-INVITE, 383 packets are there",
    ),
    (
        "misosviso+MTAA-SIP-PROXY/conference_call.pcapng",
        "192.168.0.192:7080 192.168.0.24:7078 0x19d10e61",
        "heard 783, oracle 763",
        "tshark misses the first 20, which came before the ACK; 783 packets are there, all before the BYE",
    ),
    (
        "misosviso+MTAA-SIP-PROXY/conference_call.pcapng",
        "192.168.0.192:7078 192.168.0.171:7078 0x0c7886c0",
        "heard 333, not in the oracle",
        "335 packets are there between the two addresses that the SDP names, 2 of them after the BYE",
    ),
    (
        "ntop+nDPI/pcap__sip.pcap",
        "192.168.1.2:30000 212.242.33.36:40392 0x3796cb71",
        "oracle 9, not heard",
        "they were sent a second after the call had been refused with 480",
    ),
    (
        "realjimmy+sample-captures/aaa.pcap",
        "192.168.1.2:30000 212.242.33.36:40392 0x3796cb71",
        "oracle 9, not heard",
        "they were sent a second after the call had been refused with 480",
    ),
];

/// Maximum number of media packets of a stream after the BYE. A telephone sends a few more packets after it hangs up,
/// and callspan does not count them.
const AFTER_BYE: u64 = 12;

/// A call in the results of tshark. Without a Call-ID, it stands for RTP that belongs to no call.
#[derive(Debug, Deserialize)]
struct OracleCall {
    call_id: Option<String>,
    bye_t: Option<f64>,
    #[serde(default)]
    rtp: Vec<OracleStream>,
}

#[derive(Debug, Deserialize)]
struct OracleStream {
    src: String,
    dst: String,
    ssrc: String,
    packets: u64,
    dups: u64,
    t1: f64,
    codecs: Vec<String>,
}

#[test]
#[cfg_attr(not(has_corpus_pcaps), ignore = "needs CALLSPAN_CORPUS with pcaps")]
fn captures_by_others_give_the_calls_codecs_and_packets_of_the_oracle() {
    let folder = corpus();
    let text = std::fs::read_to_string(folder.join("oracle.json")).unwrap();
    let oracle: BTreeMap<String, Vec<OracleCall>> = serde_json::from_str(&text).unwrap();
    assert!(oracle.len() >= 30, "{} captures with an opinion", oracle.len());
    let mut differences = BTreeSet::new();
    for (name, opinions) in &oracle {
        let replayed = replay_files(&[folder.join(name)]);
        let found = [calls(opinions, &replayed.records), streams(opinions, &replayed.records)].concat();
        differences.extend(found.into_iter().map(|(stream, what)| (name.clone(), stream, what)));
    }
    let known: BTreeSet<(String, String, String)> = EXCEPTIONS
        .iter()
        .map(|(name, stream, what, _)| (name.to_string(), stream.to_string(), what.to_string()))
        .collect();
    assert_eq!(differences, known);
}

/// Compares the Call-IDs: the records must have exactly the Call-IDs of the INVITEs. Returns the differences.
fn calls(opinions: &[OracleCall], records: &[CallRecord]) -> Vec<(String, String)> {
    let ours: BTreeSet<&str> = records.iter().flat_map(|r| &r.legs).map(|l| l.sip_call_id.as_str()).collect();
    let theirs: BTreeSet<&str> = opinions.iter().filter_map(|o| o.call_id.as_deref()).collect();
    ours.symmetric_difference(&theirs).map(|id| (id.to_string(), String::from("call of one opinion only"))).collect()
}

/// Compares the streams. A record has only the streams of its anchor leg, so streams of other legs are not compared.
fn streams(opinions: &[OracleCall], records: &[CallRecord]) -> Vec<(String, String)> {
    let mut ours = BTreeMap::new();
    for s in
        records.iter().flat_map(|r| [Side::Caller, Side::Callee].map(|side| r.sides.get(side))).flat_map(|s| &s.streams)
    {
        let known = ours.entry(format!("{} {} {}", s.src, s.dst, s.ssrc)).or_insert((0, BTreeSet::new()));
        known.0 += s.packets;
        known.1.extend(s.codec.clone());
    }
    let joined = |id: &str| records.iter().any(|r| r.legs.len() > 1 && r.legs.iter().any(|l| l.sip_call_id == id));
    let mut differences = Vec::new();
    let mut in_oracle = BTreeSet::new();
    for opinion in opinions {
        for s in &opinion.rtp {
            let key = format!("{} {} {}", s.src, s.dst, s.ssrc);
            in_oracle.insert(key.clone());
            let spare = if opinion.bye_t.is_some_and(|bye| s.t1 > bye) { AFTER_BYE } else { 0 };
            match ours.get(&key) {
                None if opinion.call_id.as_deref().is_none_or(joined) => {}
                None => differences.push((key, format!("oracle {}, not heard", s.packets))),
                Some((packets, _)) if !(s.packets - s.dups - spare..=s.packets - s.dups).contains(packets) => {
                    differences.push((key, format!("heard {packets}, oracle {}", s.packets - s.dups)));
                }
                Some((_, codecs)) if !codecs.iter().all(|c| names(&s.codecs, c)) => {
                    differences.push((key, format!("{codecs:?}, oracle {:?}", s.codecs)));
                }
                Some(_) => {}
            }
        }
    }
    let extra = ours.iter().filter(|(key, _)| !in_oracle.contains(*key));
    differences.extend(extra.map(|(key, (packets, _))| (key.clone(), format!("heard {packets}, not in the oracle"))));
    differences
}

/// Returns whether a list of codecs from tshark contains a codec, e.g. `PCMU` in `PCMU/8000/1:390`.
fn names(codecs: &[String], codec: &str) -> bool {
    codecs.iter().any(|c| c.split(['/', ':']).next().is_some_and(|name| name.eq_ignore_ascii_case(codec)))
}

#[test]
#[cfg_attr(not(has_corpus_pcaps), ignore = "needs CALLSPAN_CORPUS with pcaps")]
fn no_capture_by_others_panics_and_other_files_are_refused() {
    let folder = corpus();
    let mut files = Vec::new();
    walk(&folder, &mut files);
    assert!(files.len() > 100, "{} files", files.len());
    for file in files {
        if let Err(refused) = try_replay_files(std::slice::from_ref(&file)) {
            // Only these files may be refused: a Network Monitor capture, a raw dump, and lists that name the origin of
            // the captures.
            let why = refused.to_string();
            assert!(why.contains("is no capture") || why.contains("cannot"), "{}: {why}", file.display());
            println!("{why}");
        }
    }
}

fn corpus() -> PathBuf {
    PathBuf::from(std::env::var_os("CALLSPAN_CORPUS").unwrap()).join("pcaps")
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { walk(&path, files) } else { files.push(path) }
    }
}
