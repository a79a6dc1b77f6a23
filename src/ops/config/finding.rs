//! What is wrong with a configuration: each finding has a line, what is wrong, and the remedy.

use std::fmt;
use std::path::PathBuf;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigSeverity {
    /// The configuration cannot be used.
    Mistake,
    /// It can be used, but a person should look.
    Warning,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFinding {
    /// How bad.
    pub severity: ConfigSeverity,
    /// Line in the file, from 1; `None` for what is missing altogether.
    pub line: Option<usize>,
    /// What is wrong. Never holds the value of a secret.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

impl ConfigFinding {
    /// A mistake at a line.
    pub fn mistake(line: impl Into<Option<usize>>, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { severity: ConfigSeverity::Mistake, line: line.into(), what: what.into(), remedy: remedy.into() }
    }

    /// A warning at a line.
    pub fn warning(line: impl Into<Option<usize>>, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { severity: ConfigSeverity::Warning, line: line.into(), what: what.into(), remedy: remedy.into() }
    }

    /// Whether the configuration cannot be used because of it.
    pub fn is_mistake(&self) -> bool {
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

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {}", path.display(), io_reason(reason))]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said; it is part of the sentence, so it is not the source of the chain as well.
        reason: std::io::Error,
    },
    /// Its content is wrong; all mistakes are listed.
    #[error("{}", list(origin, findings))]
    Wrong {
        /// Where the configuration came from, for people.
        origin: String,
        /// Every mistake and warning, in the order of the lines.
        findings: Vec<ConfigFinding>,
    },
}

/// What an IO error means and, where it is known, what to do.
pub fn io_reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => String::from("there is no such file; check the path"),
        std::io::ErrorKind::PermissionDenied => {
            String::from("permission denied; run as the user of the service, or let this user read it")
        }
        std::io::ErrorKind::IsADirectory => String::from("it is a folder; name the file in it"),
        std::io::ErrorKind::InvalidData => String::from("it is not text in UTF-8; save it as UTF-8"),
        _ => error.to_string(),
    }
}

fn list(origin: &str, findings: &[ConfigFinding]) -> String {
    let mistakes = findings.iter().filter(|f| f.is_mistake()).count();
    let noun = if mistakes == 1 { "mistake" } else { "mistakes" };
    let mut text = format!("{origin} has {mistakes} {noun}:");
    for finding in findings {
        text.push_str("\n  ");
        text.push_str(&finding.to_string());
    }
    text
}
