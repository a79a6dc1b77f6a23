//! Configuration: turns a TOML file into the modules' own structs, or into a list of every mistake in it.
//!
//! There are two stages: [`raw`] checks each value against the list of [`keys`] and keeps its line; [`build`] fills the
//! structs and checks rules that concern several keys.
//!
//! Invariants: a [`Config`] returned by [`Config::load`] is complete for the [`ConfigPurpose`] it was loaded for. No
//! finding ever holds a secret.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

pub(crate) mod build;
pub(crate) mod finding;
pub(crate) mod folders;
pub(crate) mod keys;
pub(crate) mod machine;
pub(crate) mod plausible;
pub(crate) mod raw;
pub(crate) mod reference;
pub(crate) mod secret;
pub(crate) mod value;

pub(crate) use finding::{ConfigError, ConfigFinding};

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
    /// `[pyrus]`; `security_key` contains the key, from any of its sources.
    pub pyrus: crate::pyrus::config::Config,
    /// `[alerts]`.
    pub alerts: super::alerts::Config,
    /// `[archive]`.
    pub archive: crate::central::config::Config,
    /// `[console]`.
    pub console: ConsoleConfig,
    /// `[log]`.
    pub log: LogConfig,
    /// The file that was loaded, as an absolute path, so that commands of the console can load it, too.
    pub file: Option<PathBuf>,
}

/// Configuration section `[log]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Log level of `run`, unless the command line or the environment sets it.
    pub level: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: String::from("info") }
    }
}

/// Configuration section `[console]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsoleConfig {
    /// Address of the console; `None`: no console.
    pub listen: Option<SocketAddr>,
    /// Separate address for `/metrics`, `/healthz` and `/readyz`, for other machines.
    pub metrics_listen: Option<SocketAddr>,
    /// URL under which a proxy with TLS shows the console to others, without a slash at its end.
    pub public_url: Option<String>,
    /// Certificate chain in PEM; `None`: the console makes a certificate if it needs one.
    pub certificate: Option<PathBuf>,
    /// Private key of the certificate in PEM.
    pub certificate_key: Option<PathBuf>,
    /// The proxy that signs people in.
    pub trusted_proxy: Option<TrustedProxy>,
}

/// A proxy that signs users in, and gives their name in a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedProxy {
    /// Address of the proxy.
    pub address: std::net::IpAddr,
    /// Name of the header, lower case.
    pub header: String,
}

/// The command that loads the configuration. It decides which keys are required.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConfigPurpose {
    /// `replay`: nothing is required, and nothing is delivered.
    Replay,
    /// `replay --deliver`: login, key and account are required, whatever the value of `pyrus.enabled`.
    ReplayAndDeliver,
    /// `run`: the interface is required, and with `pyrus.enabled` also login, key and account.
    Run,
    /// `check-config`: as `Run`, but a missing interface is only a warning, because `replay` needs none. Also tries to
    /// write to the folders, and checks that this machine has the interfaces, files and programs.
    Check,
    /// Commands that only read the journal.
    Inspect,
}

/// Sources of secrets besides the configuration file.
#[derive(Clone, Debug, Default)]
pub(crate) struct SecretSources {
    /// Value of the environment variable `CALLSPAN_PYRUS_SECURITY_KEY`.
    pub(crate) key_from_environment: Option<SecretString>,
    /// Folder of systemd credentials, from `CREDENTIALS_DIRECTORY`.
    pub(crate) credentials_dir: Option<PathBuf>,
}

impl SecretSources {
    /// Returns the sources that this process has.
    pub(crate) fn of_process() -> Self {
        Self {
            key_from_environment: std::env::var(secret::ENVIRONMENT_KEY).ok().map(SecretString::from),
            credentials_dir: std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
        }
    }
}

/// A usable configuration, and warnings about it.
#[derive(Clone, Debug)]
pub(crate) struct LoadedConfig {
    /// The configuration.
    pub(crate) config: Config,
    /// Findings that are warnings, in the order of the lines.
    pub(crate) warnings: Vec<ConfigFinding>,
}

impl Config {
    /// Loads a file, with the secrets of this process.
    ///
    /// # Errors
    /// Fails if the file cannot be read, or with every mistake in it.
    pub(crate) fn load(path: &Path, purpose: ConfigPurpose) -> Result<LoadedConfig, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|reason| ConfigError::Unreadable { path: path.to_owned(), reason })?;
        let mut loaded = Self::from_text(&text, &path.display().to_string(), purpose, &SecretSources::of_process())?;
        loaded.config.file = std::path::absolute(path).ok();
        loaded.warnings.extend(secret::inline_key_warning(path, &text));
        Ok(loaded)
    }

    /// Loads a text. `origin` names the text in the error.
    ///
    /// # Errors
    /// Fails with every mistake in the text.
    pub(crate) fn from_text(
        text: &str,
        origin: &str,
        purpose: ConfigPurpose,
        surroundings: &SecretSources,
    ) -> Result<LoadedConfig, ConfigError> {
        let mut findings = Vec::new();
        let raw = raw::read(text, &mut findings);
        let config = build::build(&raw, purpose, surroundings, &mut findings);
        if purpose == ConfigPurpose::Check {
            let machine = machine::CheckedMachine::this();
            folders::try_all(&config, &raw, machine.service.as_ref(), &mut findings);
            machine.check(&config, &raw, &mut findings);
            plausible::check(&config, &raw, &mut findings);
        }
        finish(config, origin, findings)
    }

    /// Returns the configuration of `replay` without a file: the defaults.
    pub(crate) fn default_for_replay() -> Self {
        Self::default()
    }

    /// Returns the error of `replay --deliver` without a file. It lists the missing keys, because login and account
    /// have no default.
    ///
    /// # Errors
    /// Always fails.
    pub(crate) fn default_for_delivery() -> Result<LoadedConfig, ConfigError> {
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
