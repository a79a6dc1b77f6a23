//! Finds the security key of Pyrus in its possible sources. The key never becomes part of a finding.

use std::io::{self, Read as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use secrecy::{ExposeSecret, SecretString};

use super::finding::{ConfigFinding, io_reason};
use super::raw::{ConfigValue, RawConfig};
use super::{ConfigPurpose, SecretSources};
use crate::pyrus::config::Config;

/// Name of the environment variable that may contain the security key.
pub(crate) const ENVIRONMENT_KEY: &str = "CALLSPAN_PYRUS_SECURITY_KEY";
/// Name of the systemd credential that may contain the security key.
pub(crate) const CREDENTIAL: &str = "pyrus_security_key";

/// Finds the security key and stores it in `pyrus`. The sources are tried in this order: environment,
/// `security_key_file`, `security_key`, systemd credential.
pub(crate) fn find(
    raw: &RawConfig,
    pyrus: &mut Config,
    surroundings: &SecretSources,
    purpose: ConfigPurpose,
    findings: &mut Vec<ConfigFinding>,
) {
    let inline = raw.get("pyrus", "security_key");
    let file = raw.get("pyrus", "security_key_file");
    if let (Some(inline), Some(_)) = (inline, file) {
        let what = "pyrus.security_key and pyrus.security_key_file are both set";
        findings.push(ConfigFinding::mistake(inline.line, what, "keep only one, preferably the file"));
    }
    let given = surroundings.key_from_environment.clone().filter(|key| !key.expose_secret().trim().is_empty());
    if let Some(key) = given {
        pyrus.security_key = Some(SecretString::from(key.expose_secret().trim()));
    } else if let (Some(path), Some(file)) = (&pyrus.security_key_file, file) {
        pyrus.security_key = key_file("pyrus.security_key_file", path, Some(file.line), findings);
    } else if let Some(ConfigValue::Text(key)) = inline.map(|i| &i.value) {
        if key.is_empty() {
            let what = "pyrus.security_key is empty";
            findings.push(ConfigFinding::mistake(inline.map(|i| i.line), what, "write the key, or remove the line"));
        } else {
            pyrus.security_key = Some(SecretString::from(key.as_str()));
        }
    } else if let Some(path) = surroundings.credentials_dir.as_ref().map(|d| d.join(CREDENTIAL))
        && is_expected(&path, purpose)
    {
        pyrus.security_key = key_file("pyrus.security_key, the systemd credential", &path, None, findings);
    }
}

/// Returns whether the systemd credential at this path counts as present. If it does but cannot be read, the
/// configuration has an error.
fn is_expected(path: &Path, purpose: ConfigPurpose) -> bool {
    match purpose.is_check() {
        // For `check-config`, only a readable credential counts. Some versions of systemd give the commands of a reload
        // no credentials, although the service itself has them.
        true => std::fs::File::open(path).is_ok(),
        // For the service, a credential counts also if its existence cannot be determined. Then reading it fails, and
        // the error is reported.
        false => path.try_exists().unwrap_or(true),
    }
}

/// Returns a warning if the configuration file contains the security key and every user can read the file.
pub(crate) fn inline_key_warning(path: &Path, text: &str) -> Option<ConfigFinding> {
    let at =
        text.lines().position(|l| l.trim_start().starts_with("security_key") && !l.contains("security_key_file"))?;
    let what = format!("every user of this machine can read the security key in {}", path.display());
    world_readable(path).then(|| ConfigFinding::warning(at + 1, what, format!("chmod 600 {}", path.display())))
}

fn key_file(name: &str, path: &Path, line: Option<usize>, findings: &mut Vec<ConfigFinding>) -> Option<SecretString> {
    let shown = path.display();
    match read_key(path) {
        Ok(text) if text.trim().is_empty() => {
            findings.push(ConfigFinding::mistake(
                line,
                format!("{name} {shown} is empty"),
                "write the key into the file",
            ));
            None
        }
        Ok(text) if text.trim().lines().count() > 1 || text.len() > MAX_KEY_BYTES => {
            let what = format!("{name} {shown} holds more than the key");
            findings.push(ConfigFinding::mistake(line, what, "leave only the key in the file, in one line"));
            None
        }
        Ok(text) if text.trim().starts_with(['"', '\'']) => {
            let what = format!("{name} {shown} holds the key in quotes");
            findings.push(ConfigFinding::mistake(line, what, "leave only the key in the file, without quotes"));
            None
        }
        Ok(text) if text.contains('=') && text.trim_start().starts_with("security_key") => {
            let what = format!("{name} {shown} holds a line of a configuration");
            findings.push(ConfigFinding::mistake(line, what, "leave only the key in the file"));
            None
        }
        Ok(text) => {
            if world_readable(path) {
                let what = format!("{name} {shown} can be read by every user of this machine");
                findings.push(ConfigFinding::warning(line, what, format!("chmod 600 {shown}")));
            }
            Some(SecretString::from(text.trim()))
        }
        Err(error) => {
            let what = format!("{name} {shown} cannot be read: {}", io_reason(&error));
            findings.push(ConfigFinding::mistake(line, what, ""));
            None
        }
    }
}

/// Reads a file with the security key. Stops one byte after [`MAX_KEY_BYTES`], so that a longer file is noticed.
/// Refuses a pipe or a device, because reading it may never end.
fn read_key(path: &Path) -> io::Result<String> {
    // With O_NONBLOCK, opening a named pipe does not wait for a process that writes to the pipe.
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = std::fs::OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file but a device, pipe or socket"));
    }
    let mut text = String::new();
    file.take(MAX_KEY_BYTES as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}

fn world_readable(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o004 != 0)
}

/// Maximum size of a key file, bytes. Keys of Pyrus have fewer than 100 characters.
const MAX_KEY_BYTES: usize = 4096;
