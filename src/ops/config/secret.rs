//! Where the security key comes from. It is never part of a finding.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use secrecy::{ExposeSecret, SecretString};

use super::SecretSources;
use super::finding::{ConfigFinding, io_reason};
use super::raw::{ConfigValue, RawConfig};
use crate::pyrus::config::Config;

/// The environment variable that may hold the key.
pub const ENVIRONMENT_KEY: &str = "CALLSPAN_PYRUS_SECURITY_KEY";
/// The name of the systemd credential that may hold it.
pub const CREDENTIAL: &str = "pyrus_security_key";

/// Puts the key into `pyrus`: from the environment, else the file, else `security_key`, else the credential.
pub fn find(raw: &RawConfig, pyrus: &mut Config, surroundings: &SecretSources, findings: &mut Vec<ConfigFinding>) {
    let inline = raw.get("pyrus", "security_key");
    let file = raw.get("pyrus", "security_key_file");
    if let (Some(inline), Some(_)) = (inline, file) {
        let what = "pyrus.security_key and pyrus.security_key_file are both given";
        findings.push(ConfigFinding::mistake(inline.line, what, "keep one, better the file"));
    }
    let given = surroundings.key_from_environment.clone().filter(|key| !key.expose_secret().trim().is_empty());
    if let Some(key) = given {
        pyrus.security_key = Some(SecretString::from(key.expose_secret().trim()));
    } else if let (Some(path), Some(file)) = (&pyrus.security_key_file, file) {
        pyrus.security_key = key_file("pyrus.security_key_file", path, Some(file.line), findings);
    } else if let Some(ConfigValue::Text(key)) = inline.map(|i| &i.value) {
        if key.is_empty() {
            let what = "pyrus.security_key is empty";
            findings.push(ConfigFinding::mistake(inline.map(|i| i.line), what, "write the key, or leave it out"));
        } else {
            pyrus.security_key = Some(SecretString::from(key.as_str()));
        }
    } else if let Some(path) = surroundings.credentials_dir.as_ref().map(|d| d.join(CREDENTIAL))
        // One that is there and cannot be looked at is told, not taken for none.
        && path.try_exists().unwrap_or(true)
    {
        pyrus.security_key = key_file("pyrus.security_key, the systemd credential", &path, None, findings);
    }
}

/// A configuration file that holds the key itself should not be readable for everybody.
pub fn inline_key_warning(path: &Path, text: &str) -> Option<ConfigFinding> {
    let at =
        text.lines().position(|l| l.trim_start().starts_with("security_key") && !l.contains("security_key_file"))?;
    let what = format!("every user of this machine can read the security key in {}", path.display());
    world_readable(path).then(|| ConfigFinding::warning(at + 1, what, format!("chmod 600 {}", path.display())))
}

fn key_file(name: &str, path: &Path, line: Option<usize>, findings: &mut Vec<ConfigFinding>) -> Option<SecretString> {
    let shown = path.display();
    match std::fs::read_to_string(path) {
        Ok(text) if text.trim().is_empty() => {
            findings.push(ConfigFinding::mistake(line, format!("{name} {shown} is empty"), "write the key into it"));
            None
        }
        Ok(text) if text.trim().lines().count() > 1 || text.len() > MAX_KEY_BYTES => {
            let what = format!("{name} {shown} holds more than a key");
            findings.push(ConfigFinding::mistake(line, what, "it must hold the key alone, in one line"));
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

fn world_readable(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o004 != 0)
}

/// Keys of Pyrus are under 100 characters; a larger file is something else.
const MAX_KEY_BYTES: usize = 4096;
