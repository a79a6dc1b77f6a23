//! Configuration: a TOML file becomes the rooms' own structs, or a list of everything that is wrong with it.
//!
//! Two stages: [`raw`] checks each value against the list of [`keys`] and keeps its line; [`build`] fills the structs
//! and checks what concerns several keys. Invariant: a [`Config`] that [`Config::load`] gave can be used for the
//! [`ConfigPurpose`] that it was loaded for, and no finding ever holds a secret.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

pub mod build;
pub mod finding;
pub mod folders;
pub mod keys;
pub mod raw;
pub mod reference;
pub mod secret;
pub mod value;

pub use finding::{ConfigError, ConfigFinding, ConfigSeverity};

/// Everything that can be configured.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// `[capture]`.
    pub capture: crate::capture::config::Config,
    /// `[calls]`, `[numbers]`, `[[rules]]` and `recording.start`.
    pub call: crate::call::config::Config,
    /// `[spool]`.
    pub spool: crate::spool::config::Config,
    /// `[recording]`.
    pub recording: crate::recording::config::Config,
    /// `[state]`.
    pub journal: crate::journal::config::Config,
    /// `[pyrus]`; `security_key` holds the key, wherever it came from.
    pub pyrus: crate::pyrus::config::Config,
    /// `[alerts]`.
    pub alerts: super::alerts::Config,
    /// `[console]`.
    pub console: ConsoleConfig,
}

/// The `[console]` section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsoleConfig {
    /// Where the status page listens; `None`: nowhere.
    pub listen: Option<SocketAddr>,
}

/// What a configuration is loaded for: decides what is required.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigPurpose {
    /// `replay`: nothing is required, and nothing is delivered.
    Replay,
    /// `replay --deliver`: login, key and account are required, whatever `pyrus.enabled` says.
    ReplayAndDeliver,
    /// `run`: the interface is required, and with `pyrus.enabled` also login, key and account.
    Run,
    /// `check-config`: as `Run`, but a missing interface is a warning, for `replay` needs none; folders are tried.
    Check,
    /// Commands that only look at the journal.
    Inspect,
}

/// Where secrets may come from besides the file.
#[derive(Clone, Debug, Default)]
pub struct SecretSources {
    /// `CALLSPAN_PYRUS_SECURITY_KEY`.
    pub key_from_environment: Option<SecretString>,
    /// `CREDENTIALS_DIRECTORY`, where systemd puts credentials.
    pub credentials_dir: Option<PathBuf>,
}

impl SecretSources {
    /// Those of this process.
    pub fn of_process() -> Self {
        Self {
            key_from_environment: std::env::var(secret::ENVIRONMENT_KEY).ok().map(SecretString::from),
            credentials_dir: std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
        }
    }
}

/// A configuration that can be used, and what a person should look at nevertheless.
#[derive(Clone, Debug)]
pub struct LoadedConfig {
    /// The configuration.
    pub config: Config,
    /// Warnings only.
    pub warnings: Vec<ConfigFinding>,
}

impl Config {
    /// Reads a file, with the secrets of this process.
    ///
    /// # Errors
    /// When the file cannot be read, or with every mistake in it.
    pub fn load(path: &Path, purpose: ConfigPurpose) -> Result<LoadedConfig, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|reason| ConfigError::Unreadable { path: path.to_owned(), reason })?;
        let mut loaded = Self::from_text(&text, &path.display().to_string(), purpose, &SecretSources::of_process())?;
        loaded.warnings.extend(secret::inline_key_warning(path, &text));
        Ok(loaded)
    }

    /// Reads a text. `origin` names it in the error.
    ///
    /// # Errors
    /// With every mistake in it.
    pub fn from_text(
        text: &str,
        origin: &str,
        purpose: ConfigPurpose,
        surroundings: &SecretSources,
    ) -> Result<LoadedConfig, ConfigError> {
        let mut findings = Vec::new();
        let raw = raw::read(text, &mut findings);
        let config = build::build(&raw, purpose, surroundings, &mut findings);
        if purpose == ConfigPurpose::Check {
            folders::try_all(&config, &raw, &mut findings);
        }
        finish(config, origin, findings)
    }

    /// What `replay` uses without a file: the defaults.
    pub fn default_for_replay() -> Self {
        Self::default()
    }

    /// What `replay --deliver` without a file would need and cannot have, as an error that says so; never a success,
    /// because login and account have no default.
    ///
    /// # Errors
    /// Always.
    pub fn default_for_delivery() -> Result<LoadedConfig, ConfigError> {
        Self::from_text(
            "",
            "the configuration (no -c FILE given)",
            ConfigPurpose::ReplayAndDeliver,
            &SecretSources::default(),
        )
    }
}

fn finish(config: Config, origin: &str, mut findings: Vec<ConfigFinding>) -> Result<LoadedConfig, ConfigError> {
    findings.sort_by_key(|f| (f.line.unwrap_or(usize::MAX), !f.is_mistake()));
    findings.dedup();
    if findings.iter().any(ConfigFinding::is_mistake) {
        return Err(ConfigError::Wrong { origin: origin.to_owned(), findings });
    }
    Ok(LoadedConfig { config, warnings: findings })
}

#[cfg(test)]
mod tests;
