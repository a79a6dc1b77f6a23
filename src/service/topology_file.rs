//! The file `topology.json` in the state folder. Each line is one fact that the engine learnt from calls: two IP
//! addresses belong to one machine, e.g. to one PBX.
//!
//! With the file, a restarted service need not learn the facts again. Without the file it learns them again, so a
//! failed read or write does little harm. A new machine is written at once, because calls in progress depend on it.

use std::io::{Read as _, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::clock::monotonic;
use crate::call::topology::MachinePair;

/// A fact about the topology, i.e. one line of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
enum StoredFact {
    /// Two IP addresses belong to one machine.
    OneMachine(MachinePair),
    /// A line of the file that this version of callspan does not know. Another version wrote it.
    #[serde(other)]
    Unknown,
}

/// Writes the topology to a file: pairs of IP addresses that belong to one machine. A new machine is written at once.
/// For each pair the file has a count: how many calls showed it. If only counts changed, the file is written at most
/// once in [`WRITE_PAUSE`].
#[derive(Debug)]
pub(super) struct TopologyFile {
    path: PathBuf,
    /// The newest facts (pairs of addresses) that are not written to the file yet; `None` if all are written.
    pending: Option<Vec<MachinePair>>,
    written_at: Option<Instant>,
    /// Pairs of addresses in the file that count as one machine.
    machines: Vec<(IpAddr, IpAddr)>,
    /// Whether the last write failed. Only the first failure is logged.
    has_failed: bool,
}

impl TopologyFile {
    /// Creates the writer for the file `topology.json` in the state folder.
    pub(super) fn new(state: &Path) -> Self {
        Self { path: state.join(FILE_NAME), pending: None, written_at: None, machines: Vec::new(), has_failed: false }
    }

    /// Sets the current facts, i.e. pairs of addresses that belong to one machine. If a pair is new or gone, writes the
    /// file at once. If only the counts of calls changed, writes it only if [`WRITE_PAUSE`] has passed since the last
    /// write.
    pub(super) fn update(&mut self, facts: Vec<MachinePair>) {
        let has_changed = machines(&facts) != self.machines;
        self.pending = Some(facts);
        if has_changed { self.write() } else { self.write_due() }
    }

    /// Writes the facts (pairs of addresses) that are not written yet, if [`WRITE_PAUSE`] has passed since the last
    /// write.
    pub(super) fn write_due(&mut self) {
        if self.written_at.is_none_or(|at| monotonic().duration_since(at) >= WRITE_PAUSE) {
            self.write();
        }
    }

    /// Writes at once all facts (pairs of addresses) that are not written yet.
    pub(super) fn write(&mut self) {
        let Some(facts) = self.pending.take() else { return };
        self.written_at = Some(monotonic());
        let result = replace_file(&self.path, &facts);
        self.machines = machines(&facts);
        if let Err(error) = &result
            && !self.has_failed
        {
            tracing::warn!(path = %self.path.display(), "the learnt topology cannot be written: {error}");
        }
        self.has_failed = result.is_err();
    }
}

/// Returns the pairs of addresses that enough calls showed to be one machine, so that they count as one machine.
fn machines(facts: &[MachinePair]) -> Vec<(IpAddr, IpAddr)> {
    facts.iter().filter(|fact| fact.is_believed()).map(|fact| (fact.a, fact.b)).collect()
}

/// Reads the pairs of addresses that an earlier process wrote. Returns an empty list if there is no file. If the file
/// cannot be read, logs a warning and returns an empty list.
pub(crate) fn load(state: &Path) -> Vec<MachinePair> {
    let path = state.join(FILE_NAME);
    match read(&path) {
        Ok(facts) => facts,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            tracing::warn!(path = %path.display(), "the learnt topology is ignored and learnt anew: {error}");
            Vec::new()
        }
    }
}

fn read(path: &Path) -> std::io::Result<Vec<MachinePair>> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_FILE_BYTES).read_to_string(&mut text)?;
    let facts: Result<Vec<StoredFact>, _> = text.lines().map(serde_json::from_str).collect();
    let machines = facts?.into_iter().filter_map(|fact| match fact {
        StoredFact::OneMachine(pair) => Some(pair),
        StoredFact::Unknown => None,
    });
    Ok(machines.collect())
}

fn replace_file(path: &Path, facts: &[MachinePair]) -> std::io::Result<()> {
    let part = path.with_extension("json.new");
    let mut file = std::fs::File::create(&part)?;
    for fact in facts {
        let mut line = serde_json::to_string(&StoredFact::OneMachine(fact.clone()))?;
        line.push('\n');
        file.write_all(line.as_bytes())?;
    }
    file.sync_all()?;
    std::fs::rename(&part, path)
}

/// Name of the file within the state folder.
const FILE_NAME: &str = "topology.json";
/// Minimum time between two writes if only counts have changed. A count says how many calls showed that two addresses
/// belong to one machine. Losing a count does little harm, so writing more often is not worth its cost.
const WRITE_PAUSE: Duration = Duration::from_secs(60);
/// Maximum size of the file that is read, bytes. All pairs of addresses that the engine keeps take less.
const MAX_FILE_BYTES: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Vec<MachinePair> {
        let line = r#"{"a":"10.1.0.1","b":"198.51.100.10","by":"same_moments","seen":14,"against":0,
            "first_at":"2026-11-23T07:00:00.000000Z","last_at":"2026-11-24T07:00:00.000000Z"}"#;
        vec![serde_json::from_str(line).expect("a fact")]
    }

    #[test]
    fn facts_are_read_as_they_were_written() {
        let state = tempfile::tempdir().expect("a folder");
        assert_eq!(load(state.path()), []);
        let mut file = TopologyFile::new(state.path());
        file.update(facts());
        assert_eq!(load(state.path()), facts());
        let text = std::fs::read_to_string(state.path().join("topology.json")).expect("written");
        assert!(text.starts_with(r#"{"fact":"one_machine","a":"10.1.0.1","b":"198.51.100.10","by":"#), "{text}");
        assert_eq!(text.lines().count(), 1);
    }

    #[test]
    fn counts_are_written_once_a_minute_and_at_the_end() {
        let state = tempfile::tempdir().expect("a folder");
        let mut file = TopologyFile::new(state.path());
        file.update(facts());
        let mut more = facts();
        more[0].seen += 1;
        file.update(more.clone());
        file.write_due();
        assert_eq!(load(state.path()), facts(), "a moment after the last write");
        file.write();
        assert_eq!(load(state.path()), more);
    }

    #[test]
    fn changed_machines_are_written_at_once() {
        let state = tempfile::tempdir().expect("a folder");
        let mut file = TopologyFile::new(state.path());
        file.update(Vec::new());
        file.update(facts());
        assert_eq!(load(state.path()), facts());
        file.update(Vec::new());
        assert_eq!(load(state.path()), []);
    }

    #[test]
    fn a_damaged_file_is_ignored_and_unknown_facts_are_skipped() {
        let state = tempfile::tempdir().expect("a folder");
        let path = state.path().join("topology.json");
        for text in ["{", "[]\n", "{\"fact\":\"one_machine\"}\n", "\u{0}\u{1}"] {
            std::fs::write(&path, text).expect("written");
            assert_eq!(load(state.path()), [], "{text}");
        }
        std::fs::write(&path, [0xff, 0xfe]).expect("written");
        assert_eq!(load(state.path()), []);
        let mut file = TopologyFile::new(state.path());
        file.update(facts());
        let known = std::fs::read_to_string(&path).expect("written");
        std::fs::write(&path, format!("{{\"fact\":\"of_tomorrow\",\"x\":1}}\n{known}")).expect("written");
        assert_eq!(load(state.path()), facts());
    }
}
