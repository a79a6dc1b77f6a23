//! Configuration: turns a TOML file into the modules' own structs, or into a list of every mistake in it.
//!
//! Loading has two stages. [`raw`] checks each value against the list of [`keys`] and keeps its line number. [`build`]
//! fills the structs and checks rules that concern several keys.
//!
//! Invariants: a [`Config`] from [`Config::load`] has all keys that its [`ConfigPurpose`] requires. No finding ever
//! contains a secret.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

pub(crate) mod build;
pub(crate) mod finding;
pub(crate) mod folders;
pub(crate) mod keys;
pub(crate) mod machine;
mod patterns;
mod plausible;
pub(crate) mod raw;
pub(crate) mod reference;
pub(crate) mod secret;
pub(crate) mod value;

pub(crate) use finding::{ConfigError, ConfigFinding};

/// Everything that can be configured, with one field for each module.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Values of the section `[capture]`.
    pub capture: crate::capture::config::Config,
    /// Values of the sections `[calls]`, `[numbers]` and `[[rules]]`, and of `recording.start`.
    pub call: crate::call::config::Config,
    /// Values of the section `[spool]`.
    pub spool: crate::spool::config::Config,
    /// Values of the section `[recording]`.
    pub recording: crate::recording::config::Config,
    /// Values of the section `[state]`.
    pub journal: crate::journal::config::Config,
    /// Values of the section `[pyrus]`. `security_key` contains the key even if it was configured elsewhere, e.g. in a
    /// file.
    pub pyrus: crate::pyrus::config::Config,
    /// Values of the section `[alerts]`.
    pub alerts: super::alerts::Config,
    /// Values of the section `[archive]`.
    pub archive: crate::central::config::Config,
    /// Values of the section `[console]`.
    pub console: ConsoleConfig,
    /// Values of the section `[log]`.
    pub log: LogConfig,
    /// Absolute path of the loaded file; `None` without a file. The console passes it to the commands that it starts.
    pub file: Option<PathBuf>,
}

/// The configuration section `[log]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Log level of `run`, e.g. `info`. The command line or the environment overrides it.
    pub level: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: String::from("info") }
    }
}

/// The configuration section `[console]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsoleConfig {
    /// Address and port on which the console listens; `None` switches the console off.
    pub listen: Option<SocketAddr>,
    /// Separate address and port for `/metrics`, `/healthz` and `/readyz`, so that other machines can read them.
    pub metrics_listen: Option<SocketAddr>,
    /// URL under which users reach the console through a proxy with TLS, without a slash at its end.
    pub public_url: Option<String>,
    /// Path of the certificate chain in PEM. If `None`, the console itself makes a certificate when it needs TLS.
    pub certificate: Option<PathBuf>,
    /// Path of the private key of the certificate in PEM; `None` without a configured certificate.
    pub certificate_key: Option<PathBuf>,
    /// A proxy that signs users in, so that the console does not ask for a password; `None` if the console itself signs
    /// users in.
    pub trusted_proxy: Option<TrustedProxy>,
}

/// A proxy that signs users in and passes the user name to the console in an HTTP header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedProxy {
    /// IP address from which the proxy connects. Only requests from this address are trusted.
    pub address: std::net::IpAddr,
    /// Name of the HTTP header with the user name, lower case.
    pub header: String,
}

/// The purpose for which a configuration is loaded. It decides which keys are required.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConfigPurpose {
    /// For `replay`: no key is required, and nothing is delivered.
    Replay,
    /// For `replay --deliver`: login, key and account of Pyrus are required, even if `pyrus.enabled` is false.
    ReplayAndDeliver,
    /// For `run`: an interface or an address for HEP agents is required. If `pyrus.enabled` is true, login, key and
    /// account of Pyrus are required, too.
    Run,
    /// For `check-config`: as for `run`, but a missing source of packets is only a warning, because `replay` needs
    /// none. Also checks this machine: that folders can be written, and that interfaces, files and programs exist.
    Check,
    /// For `check-config --service`: as for `check-config`, but a configuration that `run` refuses has a mistake.
    CheckForService,
    /// For commands that only read the journal (database of calls): no setting is required.
    Inspect,
}

impl ConfigPurpose {
    /// Returns whether the configuration is only checked, perhaps by another user than the service's.
    pub(crate) const fn is_check(self) -> bool {
        matches!(self, Self::Check | Self::CheckForService)
    }
}

/// Sources outside of the configuration file that may contain the security key of Pyrus.
#[derive(Clone, Debug, Default)]
pub(crate) struct SecretSources {
    /// Value of the environment variable `CALLSPAN_PYRUS_SECURITY_KEY`; `None` if it is not set.
    pub(crate) key_from_environment: Option<SecretString>,
    /// Folder in which systemd puts credentials for the service (`CREDENTIALS_DIRECTORY`); `None` outside systemd.
    pub(crate) credentials_dir: Option<PathBuf>,
}

impl SecretSources {
    /// Returns the sources of the security key that the environment variables of this process name.
    pub(crate) fn of_process() -> Self {
        Self {
            key_from_environment: std::env::var(secret::ENVIRONMENT_KEY).ok().map(SecretString::from),
            credentials_dir: std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
        }
    }
}

/// A valid configuration, and warnings about it.
#[derive(Clone, Debug)]
pub(crate) struct LoadedConfig {
    /// The configuration that was loaded.
    pub(crate) config: Config,
    /// The warnings about the configuration, in the order of the lines.
    pub(crate) warnings: Vec<ConfigFinding>,
}

impl Config {
    /// Loads a configuration file. Secrets may come from the environment of this process.
    ///
    /// # Errors
    /// Fails if the file cannot be read or has mistakes. The error lists all mistakes.
    pub(crate) fn load(path: &Path, purpose: ConfigPurpose) -> Result<LoadedConfig, ConfigError> {
        let text = read_file(path)?;
        let mut loaded = Self::from_text(&text, &path.display().to_string(), purpose, &SecretSources::of_process())?;
        loaded.config.file = std::path::absolute(path).ok();
        loaded.warnings.extend(secret::inline_key_warning(path, &text));
        Ok(loaded)
    }

    /// Loads the valid values of a configuration file, e.g. to learn the folders of the service. Mistakes in the file
    /// are no errors; they become warnings of the result.
    ///
    /// # Errors
    /// Fails if the file cannot be read.
    pub(crate) fn load_despite_mistakes(path: &Path) -> Result<LoadedConfig, ConfigError> {
        let mut findings = Vec::new();
        let raw = raw::read(&read_file(path)?, &mut findings);
        let config = build::build(&raw, ConfigPurpose::Inspect, &SecretSources::of_process(), &mut findings);
        sort(&mut findings);
        Ok(LoadedConfig { config, warnings: findings })
    }

    /// Loads a configuration from a text. `origin` names the text in error messages.
    ///
    /// # Errors
    /// Fails if the text has mistakes. The error lists all mistakes.
    pub(crate) fn from_text(
        text: &str,
        origin: &str,
        purpose: ConfigPurpose,
        surroundings: &SecretSources,
    ) -> Result<LoadedConfig, ConfigError> {
        let mut findings = Vec::new();
        let raw = raw::read(text, &mut findings);
        let config = build::build(&raw, purpose, surroundings, &mut findings);
        if purpose.is_check() {
            let machine = machine::CheckedMachine::this();
            folders::try_all(&config, &raw, machine.service.as_ref(), &mut findings);
            machine.check(&config, &raw, &mut findings);
            plausible::check(&config, &raw, &mut findings);
            patterns::check(&config, &raw, &mut findings);
        }
        finish(config, origin, findings)
    }

    /// Returns the configuration that `replay` uses without a file: all defaults.
    pub(crate) fn default_for_replay() -> Self {
        Self::default()
    }

    /// Returns the error that `replay --deliver` shows when it has no configuration file. The error lists the missing
    /// keys, because login and account have no default.
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
    sort(&mut findings);
    if findings.iter().any(ConfigFinding::is_mistake) {
        return Err(ConfigError::Wrong { origin: origin.to_owned(), findings });
    }
    Ok(LoadedConfig { config, warnings: findings })
}

/// Sorts findings by their lines, and removes repeated ones.
fn sort(findings: &mut Vec<ConfigFinding>) {
    findings.sort_by_key(|f| (f.line.unwrap_or(usize::MAX), !f.is_mistake()));
    findings.dedup();
}

fn read_file(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|reason| ConfigError::Unreadable { path: path.to_owned(), reason })
}

#[cfg(test)]
mod tests;
