//! The marker of a replay: a file with the ids of the calls that are being rendered.
//!
//! A replay renders calls in its own process. Without a marker, a payload that crashes a decoder would crash every
//! further run at the same call. So the file names each call while a thread renders it. If a run crashes or is killed,
//! the file keeps the names of these calls. In the next run they are *suspects*, which are rendered in a worker
//! process.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The marker file of an output folder. Several threads may use it.
#[derive(Debug)]
pub(crate) struct RenderMarker {
    path: PathBuf,
    suspects: Vec<String>,
    state: Mutex<RenderMarkerState>,
}

#[derive(Debug)]
struct RenderMarkerState {
    file: File,
    /// Length of the first part of the file, bytes. It contains the ids of suspects, i.e. calls that an earlier run did
    /// not finish. The ids in `rendering` follow after this part.
    suspect_bytes: u64,
    /// Ids of the calls that are being rendered, at most one for each thread.
    rendering: Vec<String>,
    /// Ids of the suspects (calls that an earlier run did not finish) that have crashed their worker processes in this
    /// replay.
    broken: Vec<String>,
}

impl RenderMarker {
    /// Opens the marker file of an output folder, and reads from it the suspects, i.e. the calls that an earlier run
    /// did not finish.
    ///
    /// # Errors
    /// Fails if the file cannot be read or written.
    pub(crate) fn open(out: &Path) -> io::Result<Self> {
        let folder = out.join(FOLDER);
        crate::recording::make_private_folder(&folder)?;
        let path = folder.join(NAME);
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        let text = String::from_utf8_lossy(&std::fs::read(&path)?).into_owned();
        let names: Vec<&str> = text.lines().collect();
        // The file may name too many calls. The newest ids are at its end, so the last ids are kept.
        let newest = &names[names.len().saturating_sub(MAX_SUSPECTS)..];
        let suspects: Vec<String> = newest.iter().copied().map(str::to_owned).collect();
        let mut state = RenderMarkerState { file, suspect_bytes: 0, rendering: Vec::new(), broken: Vec::new() };
        state.suspect_bytes = state.write(&suspects)?;
        Ok(Self { path, suspects, state: Mutex::new(state) })
    }

    /// Returns whether an earlier run left suspects: calls that it rendered when it crashed or was killed.
    pub(crate) fn has_suspects(&self) -> bool {
        !self.suspects.is_empty()
    }

    /// Returns whether this call is a suspect: an earlier run crashed or was killed while it rendered the call.
    pub(crate) fn is_suspect(&self, id: &str) -> bool {
        self.suspects.iter().any(|suspect| suspect == id)
    }

    /// Adds a call to the marker file, because its rendering begins now.
    pub(crate) fn begin(&self, id: &str) {
        let mut state = self.lock();
        state.rendering.push(id.to_owned());
        state.write_rendering();
    }

    /// Removes a call from the marker file, because its rendering has ended.
    pub(crate) fn end(&self, id: &str) {
        let mut state = self.lock();
        state.rendering.retain(|other| other != id);
        state.write_rendering();
    }

    /// Records that a suspect, i.e. a call that an earlier run did not finish, also crashed its worker process in this
    /// run.
    pub(crate) fn note_broken(&self, id: &str) {
        self.lock().broken.push(id.to_owned());
    }

    /// Removes the marker file, because all calls are rendered. If calls crashed their worker processes, the file stays
    /// and names only these calls.
    pub(crate) fn finish(&self) {
        let broken = names(&self.lock().broken);
        if !broken.is_empty() {
            let _ = std::fs::write(&self.path, broken); // if this fails, the next run uses a worker for more calls
            return;
        }
        let _ = std::fs::remove_file(&self.path); // if this fails, the next run uses a worker for more calls
        let _ = self.path.parent().map(std::fs::remove_dir); // succeeds only if the folder is empty
    }

    fn lock(&self) -> MutexGuard<'_, RenderMarkerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RenderMarkerState {
    /// Writes the ids of the calls that are being rendered to the file.
    fn write_rendering(&mut self) {
        let rendering = std::mem::take(&mut self.rendering);
        if let Err(error) = self.write(&rendering) {
            tracing::debug!("the calls being rendered cannot be named: {error}"); // writing the recording fails, too
        }
        self.rendering = rendering;
    }

    /// Writes `ids` to the file after the ids of the suspects, and cuts off the rest of the file. Returns the number of
    /// bytes written.
    fn write(&mut self, ids: &[String]) -> io::Result<u64> {
        let text = names(ids);
        self.file.seek(SeekFrom::Start(self.suspect_bytes))?;
        self.file.write_all(text.as_bytes())?;
        self.file.set_len(self.suspect_bytes + text.len() as u64)?;
        Ok(text.len() as u64)
    }
}

/// Returns the ids as a text with one id a line.
fn names(ids: &[String]) -> String {
    ids.iter().map(|id| format!("{id}\n")).collect()
}

/// Name of the folder, in the output folder, that contains the marker file and the journal of a replay.
const FOLDER: &str = ".callspan";
const NAME: &str = "rendering";
/// Maximum number of suspect calls in the file. If there are more, only the newest are kept. A run that crashes or is
/// killed adds at most one for each thread.
const MAX_SUSPECTS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn call_in_which_a_run_ended_is_suspect_in_later_runs() {
        let dir = tempfile::tempdir().expect("a folder");
        let open = || RenderMarker::open(dir.path()).expect("writable");
        let marker = open();
        assert!(!marker.has_suspects());
        marker.begin("first");
        marker.end("first");
        marker.begin("second");
        drop(marker); // simulates a crash
        let marker = open();
        assert!(marker.is_suspect("second") && !marker.is_suspect("first"));
        marker.begin("third");
        drop(marker);
        let marker = open();
        assert!(marker.is_suspect("second") && marker.is_suspect("third"));
        marker.note_broken("third");
        marker.finish();
        let marker = open();
        assert!(marker.is_suspect("third") && !marker.is_suspect("second"));
        marker.finish();
        assert!(!open().has_suspects());
    }

    #[test]
    fn call_that_ends_beside_others_leaves_their_names() {
        let dir = tempfile::tempdir().expect("a folder");
        let open = || RenderMarker::open(dir.path()).expect("writable");
        let marker = open();
        ["long name of a call", "crashed", "short"].iter().for_each(|id| marker.begin(id));
        marker.end("long name of a call");
        marker.end("short");
        drop(marker); // simulates a crash
        let marker = open();
        assert_eq!(marker.suspects, ["crashed"]);
    }

    #[test]
    fn newest_suspects_are_kept() {
        let dir = tempfile::tempdir().expect("a folder");
        for number in 0..MAX_SUSPECTS + 3 {
            let marker = RenderMarker::open(dir.path()).expect("writable");
            marker.begin(&number.to_string());
        }
        let marker = RenderMarker::open(dir.path()).expect("writable");
        assert_eq!(marker.suspects.len(), MAX_SUSPECTS);
        assert!(marker.is_suspect(&(MAX_SUSPECTS + 2).to_string()) && !marker.is_suspect("2"));
    }
}
