//! Reads the coded voices of `fixtures/codecs`.

use std::path::PathBuf;

/// Returns the path of a codec fixture. `file` is its name with the suffix.
pub fn coded_path(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/codecs").join(file)
}

/// Returns the payloads of a codec fixture. Before each payload is its length.
pub fn coded_payloads(name: &str) -> Vec<Vec<u8>> {
    let packed = std::fs::read(coded_path(&format!("{name}.rtp"))).unwrap();
    let (mut payloads, mut rest) = (Vec::new(), packed.as_slice());
    while let Some((length, after)) = rest.split_first_chunk() {
        let (payload, after) = after.split_at(usize::from(u16::from_be_bytes(*length)));
        payloads.push(payload.to_vec());
        rest = after;
    }
    payloads
}
