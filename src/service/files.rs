//! Removes recordings, and half-written files that an earlier process left.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use crate::recording::peaks::peaks_path;
use crate::time::Timestamp;

/// Removes a file. A missing file is no error; any other failure is logged.
pub(super) fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), "the file cannot be removed: {error}");
    }
}

/// Removes a recording and its peaks (the data of its waveform).
pub(super) fn remove_recording(path: &Path) {
    remove(&peaks_path(path));
    remove(path);
}

/// Removes callspan's half-written files in a folder and in all folders below it. Only files that were last changed
/// before the time `before` are removed.
pub(super) fn remove_half_written(folder: &Path, before: Timestamp) {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        folders.extend(remove_half_written_in(&folder, before));
    }
}

/// Removes the half-written files of callspan in one folder. Returns the folders directly in this folder.
pub(crate) fn remove_half_written_in(folder: &Path, before: Timestamp) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else { return folders };
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            folders.push(path);
        } else if is_half_written(&path) && is_older(&path, before) {
            remove(&path);
        }
    }
    folders
}

/// Returns whether a path has a name such as `20261123T070854Z-….wav.part`. Returns false for other `.part` files,
/// because they do not belong to callspan.
fn is_half_written(path: &Path) -> bool {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let stamp = name.get(..17).unwrap_or_default();
    let digits = |text: Option<&str>| text.is_some_and(|t| t.bytes().all(|b| b.is_ascii_digit()));
    let stamped =
        digits(stamp.get(..8)) && digits(stamp.get(9..15)) && stamp.get(8..9) == Some("T") && stamp.ends_with("Z-");
    stamped && HALF_WRITTEN.iter().any(|end| name.ends_with(end))
}

/// Returns whether a file was last changed before a time; false if that is unknown.
pub(super) fn is_older(path: &Path, before: Timestamp) -> bool {
    let modified = path.symlink_metadata().and_then(|m| m.modified()).ok();
    let since = modified.and_then(|m| m.duration_since(UNIX_EPOCH).ok());
    since.is_some_and(|s| Timestamp::EPOCH + s < before)
}

/// Suffixes of unfinished files. A finished file is renamed to its name without `.part`.
const HALF_WRITTEN: [&str; 6] = [".wav.part", ".peaks.part", ".ogg.part", ".json.part", ".pcapng.part", ".age.part"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::clock::wall_clock;
    use std::time::Duration;

    #[test]
    fn half_written_files_of_an_earlier_process_are_removed() {
        let dir = tempfile::tempdir().expect("a folder");
        let day = dir.path().join("2026/11/23");
        std::fs::create_dir_all(&day).expect("made");
        for name in
            ["20261123T070854Z-0a.wav.part", "20261123T070854Z-0a.wav", "20261123T070854Z-0a.json.part", "x.wav.part"]
        {
            std::fs::write(day.join(name), "x").expect("written");
        }
        remove_half_written(dir.path(), wall_clock() - Duration::from_secs(3600));
        let there = |name: &str| day.join(name).exists();
        assert!(there("20261123T070854Z-0a.wav.part"), "this process writes it");
        remove_half_written(dir.path(), wall_clock() + Duration::from_secs(3600));
        assert!(!there("20261123T070854Z-0a.wav.part") && !there("20261123T070854Z-0a.json.part"));
        assert!(there("20261123T070854Z-0a.wav") && there("x.wav.part"), "not written by callspan");
    }
}
