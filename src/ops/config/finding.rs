//! A finding: one problem in a configuration, with its line and its remedy.

use std::fmt;
use std::path::PathBuf;

use super::keys::{ConfigKey, KEYS};

/// Severity of a finding in a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConfigSeverity {
    /// The configuration cannot be used until a person has solved this problem.
    Mistake,
    /// The configuration can be used, but a person should check it.
    Warning,
}

/// A problem in a configuration file: what is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConfigFinding {
    /// Whether the finding is a mistake or a warning.
    pub(crate) severity: ConfigSeverity,
    /// Line in the file, counted from 1; `None` if the problem is that something is missing.
    pub(crate) line: Option<usize>,
    /// Description of the problem. It never contains the value of a secret.
    pub(crate) what: String,
    /// Description of how to solve the problem; may be empty.
    pub(crate) remedy: String,
}

impl ConfigFinding {
    /// Creates a finding of severity `Mistake` at a line.
    pub(crate) fn mistake(line: impl Into<Option<usize>>, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { severity: ConfigSeverity::Mistake, line: line.into(), what: what.into(), remedy: remedy.into() }
    }

    /// Creates a finding of severity `Warning` at a line.
    pub(crate) fn warning(line: impl Into<Option<usize>>, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { severity: ConfigSeverity::Warning, line: line.into(), what: what.into(), remedy: remedy.into() }
    }

    /// Returns the line and the key that the finding names, without a value of the file; empty if it names neither.
    fn place(&self) -> String {
        let word = self.what.split_whitespace().next().unwrap_or_default().trim_end_matches(':');
        let key = KEYS.iter().map(ConfigKey::path).find(|path| path == word);
        let line = self.line.map(|line| format!("line {line}"));
        line.into_iter().chain(key).collect::<Vec<_>>().join(": ")
    }

    /// Returns true if the configuration cannot be used because of this finding.
    pub(crate) fn is_mistake(&self) -> bool {
        self.severity == ConfigSeverity::Mistake
    }
}

impl fmt::Display for ConfigFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if self.severity == ConfigSeverity::Warning {
            f.write_str("warning: ")?;
        }
        f.write_str(&self.what)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

/// Reasons why a configuration could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file of the configuration cannot be read.
    #[error("cannot read the configuration {}: {}", path.display(), io_reason(reason))]
    Unreadable {
        /// Path of the file that cannot be read.
        path: PathBuf,
        /// Error of the operating system. `source()` does not return it, because the message already contains its text.
        reason: std::io::Error,
    },
    /// The file has mistakes. All of them are listed in `findings`.
    #[error("{}", list(origin, findings))]
    Wrong {
        /// Name of the configuration in the message, e.g. the path of the file.
        origin: String,
        /// Every mistake and warning, in the order of the lines of the file.
        findings: Vec<ConfigFinding>,
    },
}

impl ConfigError {
    /// Returns the number of mistakes, and line and key of the first mistake, for a file that must hold no phone number.
    /// A value of the configuration, e.g. of a rule, can be a phone number.
    pub(crate) fn without_values(&self) -> String {
        match self {
            Self::Unreadable { .. } => self.to_string(),
            Self::Wrong { origin, findings } => {
                let first = findings.iter().find(|finding| finding.is_mistake()).map(ConfigFinding::place);
                format!("{} {}", headline(origin, findings), first.unwrap_or_default())
            }
        }
    }
}

/// Returns the text of an IO error, with a remedy for common causes, e.g. missing rights.
pub(crate) fn io_reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => String::from("the file does not exist; check the path"),
        std::io::ErrorKind::PermissionDenied => {
            String::from("permission denied; run callspan as the user of the service, or let this user read the file")
        }
        std::io::ErrorKind::IsADirectory => String::from("the path is a folder; give the path of a file"),
        std::io::ErrorKind::InvalidData => String::from("the file is not UTF-8 text; save it as UTF-8"),
        _ => error.to_string(),
    }
}

fn list(origin: &str, findings: &[ConfigFinding]) -> String {
    let mut text = headline(origin, findings);
    for finding in findings {
        text.push_str("\n  ");
        text.push_str(&finding.to_string());
    }
    text
}

fn headline(origin: &str, findings: &[ConfigFinding]) -> String {
    let mistakes = findings.iter().filter(|f| f.is_mistake()).count();
    let noun = if mistakes == 1 { "mistake" } else { "mistakes" };
    format!("{origin} has {mistakes} {noun}:")
}
