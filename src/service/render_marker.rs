//! The marker of a replay: a file with the id of the call that is being rendered.
//!
//! A replay renders in its own process. A payload that crashes a decoder would crash every further run at the same
//! call. So the file names the call before it is rendered. If a start finds a call there, that call is a *suspect*: the
//! earlier run crashed or was killed while it rendered this call. Suspects are rendered in a worker process.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// The marker of a folder.
#[derive(Debug)]
pub(crate) struct RenderMarker {
    file: File,
    path: PathBuf,
    suspects: Vec<String>,
    /// Ids of suspects that crashed their workers in this run.
    broken: Vec<String>,
    /// Bytes of the file that hold the ids of suspects.
    length: u64,
}

impl RenderMarker {
    /// Opens the marker of an output folder, and reads the suspects.
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
        let suspects: Vec<String> = text.lines().take(MAX_SUSPECTS).map(str::to_owned).collect();
        let mut marker = Self { file, path, length: 0, suspects, broken: Vec::new() };
        let known: String = marker.suspects.iter().map(|id| format!("{id}\n")).collect();
        marker.file.write_all(known.as_bytes())?;
        marker.length = known.len() as u64;
        marker.end();
        Ok(marker)
    }

    /// Returns whether an earlier run crashed or was killed while it rendered a call.
    pub(crate) fn has_suspects(&self) -> bool {
        !self.suspects.is_empty()
    }

    /// Returns whether an earlier run crashed or was killed while it rendered this call.
    pub(crate) fn is_suspect(&self, id: &str) -> bool {
        self.suspects.iter().any(|suspect| suspect == id)
    }

    /// Writes the id of the call that is rendered from now on.
    pub(crate) fn begin(&mut self, id: &str) {
        let named = self.file.seek(SeekFrom::Start(self.length)).and_then(|_| writeln!(self.file, "{id}"));
        if let Err(error) = named {
            tracing::debug!("the call being rendered cannot be named: {error}"); // a full disk fails the recording, too
        }
    }

    /// Removes the id of the call that was being rendered.
    pub(crate) fn end(&mut self) {
        let _ = self.file.set_len(self.length); // at worst the next run renders one call in a worker
    }

    /// Records that a suspect crashed its worker, too.
    pub(crate) fn note_broken(&mut self, id: &str) {
        self.broken.push(id.to_owned());
    }

    /// Ends the run, because everything is rendered. Only the calls that crashed their workers stay suspects.
    pub(crate) fn finish(&self) {
        if !self.broken.is_empty() {
            let text: String = self.broken.iter().map(|id| format!("{id}\n")).collect();
            let _ = std::fs::write(&self.path, text); // as above
            return;
        }
        let _ = std::fs::remove_file(&self.path); // as above
        let _ = self.path.parent().map(std::fs::remove_dir); // only if nothing else is in it
    }
}

/// Name of the marker's folder in the output folder, as for the journal of a replay.
const FOLDER: &str = ".callspan";
const NAME: &str = "rendering";
/// Most suspects that are kept: each of them has cost a person a start of the command.
const MAX_SUSPECTS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn call_in_which_a_run_ended_is_a_suspect_of_the_next_runs() {
        let dir = tempfile::tempdir().expect("a folder");
        let open = || RenderMarker::open(dir.path()).expect("writable");
        let mut marker = open();
        assert!(!marker.has_suspects());
        marker.begin("first");
        marker.end();
        marker.begin("second");
        drop(marker); // the process ends here
        let mut marker = open();
        assert!(marker.is_suspect("second") && !marker.is_suspect("first"));
        marker.begin("third");
        drop(marker);
        let mut marker = open();
        assert!(marker.is_suspect("second") && marker.is_suspect("third"));
        marker.note_broken("third");
        marker.finish();
        let marker = open();
        assert!(marker.is_suspect("third") && !marker.is_suspect("second"));
        marker.finish();
        assert!(!open().has_suspects());
    }
}
