//! Makes file operations fail in a process of the test. A small library is compiled and preloaded (`LD_PRELOAD`); it
//! decides which operations fail.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::process::is_own_process_with;

/// Controls which file operations fail, by a file that the preloaded library maps into memory, too.
pub(crate) struct FileFaults {
    control: File,
}

impl FileFaults {
    /// Returns the control if this process was started for `test`. Otherwise starts such a process, waits for it, and
    /// returns `None`.
    #[track_caller]
    pub(crate) fn of_own_process(test: &str) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (library, control) = (dir.path().join("failing_files.so"), dir.path().join("control"));
        let is_own = is_own_process_with(test, |command| {
            build(&library);
            std::fs::write(&control, [0; 4096]).expect("written");
            command.env("LD_PRELOAD", &library).env(CONTROL, &control)
        });
        if !is_own {
            return None;
        }
        let control = std::env::var_os(CONTROL).expect("set by the other process");
        let control = File::options().read(true).write(true).open(control).expect("the file is there");
        Some(Self { control })
    }

    /// Compiles the library in `dir`. Returns the control, and the environment for processes in which operations are to
    /// fail.
    pub(crate) fn of_children(dir: &Path) -> (Self, [(&'static str, PathBuf); 2]) {
        let (library, control) = (dir.join("failing_files.so"), dir.join("control"));
        build(&library);
        std::fs::write(&control, [0; 4096]).expect("written");
        let file = File::options().read(true).write(true).open(&control).expect("just made");
        (Self { control: file }, [("LD_PRELOAD", library), (CONTROL, control)])
    }

    /// Counts only file operations below this folder.
    pub(crate) fn watch(&self, folder: &Path) {
        let mut name = folder.as_os_str().as_encoded_bytes().to_vec();
        name.resize(1_000, 0);
        self.control.write_all_at(&name, 20).expect("written");
    }

    /// Counts only the syncs of this file. Only these can fail then.
    pub(crate) fn watch_syncs_of(&self, file: &Path) {
        self.control.write_all_at(&1_u32.to_le_bytes(), IS_FILE_AT).expect("written");
        self.watch(file);
    }

    /// Counts the syncs of files and folders below a folder. The count begins at 0.
    pub(crate) fn count_syncs(&self, folder: &Path) {
        self.watch(folder);
        self.control.write_all_at(&[0; 4], SYNCS_AT).expect("written");
    }

    /// Returns the number of syncs since [`FileFaults::count_syncs`].
    pub(crate) fn syncs(&self) -> u32 {
        self.read(SYNCS_AT)
    }

    /// Makes `count` operations fail with `errno`, beginning with operation number `first`. Operations are counted from
    /// 0 again.
    pub(crate) fn fail(&self, errno: i32, first: u32, count: u32) {
        self.stop();
        let words = [first, count, 0, 0].map(u32::to_le_bytes);
        self.control.write_all_at(words.as_flattened(), 4).expect("written");
        self.control.write_all_at(&errno.to_le_bytes(), 0).expect("written");
    }

    /// Ends the failures.
    pub(crate) fn stop(&self) {
        self.control.write_all_at(&[0; 4], 0).expect("written");
    }

    /// Returns the number of operations since the last [`FileFaults::fail`].
    pub(crate) fn seen(&self) -> u32 {
        self.read(12)
    }

    /// Returns the number of operations that failed.
    pub(crate) fn failed(&self) -> u32 {
        self.read(16)
    }

    fn read(&self, offset: u64) -> u32 {
        let mut word = [0; 4];
        self.control.read_exact_at(&mut word, offset).expect("readable");
        u32::from_le_bytes(word)
    }
}

fn build(library: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/faults/failing_files.c");
    let built =
        Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(library).arg(source).arg("-ldl").output();
    let built = built.expect("cc runs");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
}

/// Offset in the mapped file of the library's counter of syncs, bytes.
const SYNCS_AT: u64 = 1_020;
/// Offset in the mapped file of a mark, bytes. The mark means that only the syncs of one file are counted.
const IS_FILE_AT: u64 = 1_024;
const CONTROL: &str = "CALLSPAN_FAULTS";
