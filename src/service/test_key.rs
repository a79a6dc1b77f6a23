//! Stores the secret key of test calls in the state folder. `run` creates the key, and `callspan test-call` reads it.
//! With the key, the recorder recognizes its own test calls.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::call::test_call::{KEY_BYTES, TestCallKey};

/// Reads the key from the state folder.
///
/// # Errors
/// Fails if there is no key, or its file cannot be read.
pub(crate) fn load(state: &Path) -> io::Result<TestCallKey> {
    let mut bytes = [0; KEY_BYTES];
    File::open(state.join(FILE_NAME))?.read_exact(&mut bytes)?;
    Ok(TestCallKey::new(bytes))
}

/// Reads the key, or creates a key if there is none. Returns `None` if neither works; then test calls are recorded like
/// any other call.
pub(crate) fn load_or_create(state: &Path) -> Option<TestCallKey> {
    let key = load(state).or_else(|_| create(state));
    key.inspect_err(|error| tracing::warn!("the recorder will not know its test calls: {error}")).ok()
}

fn create(state: &Path) -> io::Result<TestCallKey> {
    let mut bytes = [0; KEY_BYTES];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    let part = state.join(PART_NAME);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    std::fs::rename(part, state.join(FILE_NAME))?;
    Ok(TestCallKey::new(bytes))
}

const FILE_NAME: &str = "test-call.key";
const PART_NAME: &str = "test-call.key.new";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_only_for_its_owner() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        assert!(load(dir.path()).is_err());
        let key = load_or_create(dir.path());
        assert!(key.is_some() && load_or_create(dir.path()) == key && load(dir.path()).ok() == key);
        let mode = std::fs::metadata(dir.path().join(FILE_NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(dir.path().join(FILE_NAME), "short").unwrap();
        assert!(load_or_create(dir.path()).is_some_and(|new| Some(new) != key), "a damaged key is replaced");
    }
}
