//! Replays capture files through the library as `callspan replay` does, and reads RTP streams from them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use callspan::call::record::CallRecord;
use callspan::cmd::replay::{ReplayRequest, replay};
use callspan::ops::config::Config;

use super::packets::{self, CapturedFrame};
use super::score::CapturedRtp;

/// The result of a replay, and the folder with its files.
pub struct ReplayResult {
    pub records: Vec<CallRecord>,
    pub warnings: Vec<String>,
    pub out: tempfile::TempDir,
}

impl ReplayResult {
    /// Returns the bytes of the only recording of a call.
    pub fn wav(&self, record: &CallRecord) -> Vec<u8> {
        let [recording] = record.recordings.as_slice() else { panic!("one recording, not {:?}", record.recordings) };
        std::fs::read(&recording.path).unwrap()
    }

    /// Returns the record of the only call.
    pub fn only(&self) -> &CallRecord {
        let [record] = self.records.as_slice() else { panic!("one call, not {:#?}", self.records) };
        record
    }
}

/// Replays files with the default configuration.
pub fn replay_files(files: &[PathBuf]) -> ReplayResult {
    try_replay_files(files).unwrap()
}

/// Replays files that may be no captures. Returns the error in that case.
pub fn try_replay_files(files: &[PathBuf]) -> anyhow::Result<ReplayResult> {
    replay_with(Config::default(), files)
}

/// Replays files with a configuration.
pub fn replay_with(config: Config, files: &[PathBuf]) -> anyhow::Result<ReplayResult> {
    let out = tempfile::tempdir().unwrap();
    let request = ReplayRequest { files: files.to_vec(), config, out: out.path().into(), deliver: false };
    let outcome = replay(request)?;
    Ok(ReplayResult { records: outcome.records, warnings: outcome.warnings, out })
}

/// Replays the bytes of capture files.
pub fn replay_bytes(captures: &[Vec<u8>]) -> ReplayResult {
    let dir = tempfile::tempdir().unwrap();
    let write = |(i, bytes): (usize, &Vec<u8>)| {
        let path = dir.path().join(format!("capture{i}.pcap"));
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let files: Vec<PathBuf> = captures.iter().enumerate().map(write).collect();
    replay_files(&files)
}

/// Replays Ethernet frames.
pub fn replay_packets(packets: &[CapturedFrame]) -> ReplayResult {
    replay_bytes(&[packets::write_pcap(packets::ETHERNET, packets)])
}

/// Returns the path of a file or folder of `fixtures/`.
pub fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(path)
}

/// Returns the frames of a call of `fixtures/calls`.
pub fn frames(name: &str) -> Vec<CapturedFrame> {
    packets::read_pcap(&std::fs::read(fixture(&format!("calls/{name}/capture.pcap"))).unwrap())
}

/// Returns source, destination and payload of an unfragmented UDP datagram (IPv4 in an Ethernet frame); `None` for
/// other frames.
pub fn udp_of(frame: &[u8]) -> Option<(String, String, &[u8])> {
    let whole = frame.get(12..14)? == [8, 0] && *frame.get(23)? == 17 && frame[20] & 0x3f == 0 && frame[21] == 0;
    let header = 14 + 4 * usize::from(frame[14] & 15);
    if !whole || frame.len() < header + 8 {
        return None;
    }
    let length = usize::from(u16::from_be_bytes([frame[header + 4], frame[header + 5]]));
    let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let address = |at: usize| format!("{}.{}.{}.{}", frame[at], frame[at + 1], frame[at + 2], frame[at + 3]);
    let payload = frame.get(header + 8..header + length)?;
    Some((format!("{}:{}", address(26), port(header)), format!("{}:{}", address(30), port(header + 2)), payload))
}

/// Returns whether a UDP payload is RTP and not RTCP (RFC 5761 section 4).
pub fn is_rtp(payload: &[u8]) -> bool {
    payload.len() >= 12 && payload[0] >> 6 == 2 && !(192..=223).contains(&payload[1])
}

/// Source, destination and SSRC of a stream.
pub type StreamKey = (String, String, u32);

/// Returns the RTP streams of a capture. Its packets must not have CSRCs, extensions or padding.
pub fn streams(packets: &[CapturedFrame]) -> BTreeMap<StreamKey, Vec<CapturedRtp>> {
    let mut out = BTreeMap::<StreamKey, Vec<CapturedRtp>>::new();
    for p in packets {
        let Some((src, dst, payload)) = udp_of(&p.data).filter(|(_, _, payload)| is_rtp(payload)) else { continue };
        let word = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        assert_eq!(payload[0], 0x80, "no CSRC, extension or padding");
        let rtp = CapturedRtp { at_ns: p.at_ns, time: word(4), pt: payload[1] & 0x7f, payload: payload[12..].to_vec() };
        out.entry((src, dst, word(8))).or_default().push(rtp);
    }
    out
}
