//! Finds valid values that are probably mistakes, e.g. placeholders and settings without effect.

use std::path::{Path, PathBuf};

use super::finding::ConfigFinding;
use super::raw::RawConfig;
use super::reference::sample_text;
use super::{Config, ConfigPurpose};

/// Returns whether a value is an example from the reference or from manuals, and so no real login, key or account.
pub(crate) fn is_placeholder(key: &str, value: &str) -> bool {
    let value = value.trim();
    let lower = value.to_lowercase();
    let in_brackets = value.len() > 1 && value.starts_with(['[', '{']) && value.ends_with([']', '}']);
    // A value with a gap is a placeholder, too, e.g. `bot@…` or `bot@<id>`.
    let has_gap = value.contains('…') || value.split_once('<').is_some_and(|(_, rest)| rest.contains('>'));
    let is_filler = !value.is_empty() && lower.chars().all(|c| "x*.…-_ ".contains(c));
    value == sample_text("pyrus", key) || in_brackets || has_gap || is_filler || PLACEHOLDERS.contains(&lower.as_str())
}

/// Appends warnings about settings that have no effect, or another effect than the administrator expects.
pub(crate) fn check(config: &Config, raw: &RawConfig, findings: &mut Vec<ConfigFinding>) {
    let found = [
        hold_shorter_than_silence(config),
        url_without_console(config),
        prefix_without_country(config),
        delivery_switched_off(config, raw),
        field_filled_twice(config),
        folder_used_twice(config),
    ];
    for (section, key, what, remedy) in found.into_iter().flatten() {
        let line = raw.get(section, key).map(|g| g.line).or_else(|| raw.line_of(section));
        findings.push(ConfigFinding::warning(line, what, remedy));
    }
}

/// A value that is probably a mistake: section, key, description and remedy.
type PlausibilityProblem = (&'static str, &'static str, String, String);

fn problem(section: &'static str, key: &'static str, what: impl Into<String>, remedy: &str) -> PlausibilityProblem {
    (section, key, what.into(), remedy.to_owned())
}

fn hold_shorter_than_silence(config: &Config) -> Option<PlausibilityProblem> {
    let (hold, silence) = (config.call.hold_s, config.call.silence_s);
    let what = format!(
        "calls.hold_s = {hold} is shorter than calls.silence_s = {silence}: a call on hold would end before a silent one"
    );
    (hold < silence).then(|| problem("calls", "hold_s", what, "write at least the value of silence_s"))
}

fn url_without_console(config: &Config) -> Option<PlausibilityProblem> {
    let is_alone = config.console.public_url.is_some() && config.console.listen.is_none();
    let what = "console.public_url has no effect without console.listen";
    is_alone.then(|| problem("console", "public_url", what, "add listen = \"127.0.0.1:8080\" below [console]"))
}

fn prefix_without_country(config: &Config) -> Option<PlausibilityProblem> {
    let numbers = &config.call.numbers;
    let is_alone = !numbers.national_prefix.is_empty() && numbers.country_code.is_empty();
    let what = "numbers.national_prefix has no effect without numbers.country_code";
    is_alone.then(|| problem("numbers", "national_prefix", what, "add country_code, for example country_code = \"7\""))
}

fn delivery_switched_off(config: &Config, raw: &RawConfig) -> Option<PlausibilityProblem> {
    let is_given = |key: &str, value: &str| !value.is_empty() && !is_placeholder(key, value);
    let is_meant = is_given("login", &config.pyrus.login) && is_given("account_id", &config.pyrus.account_id);
    let is_silent = !config.pyrus.enabled && raw.get("pyrus", "enabled").is_none();
    let what = "nothing is delivered to Pyrus: login and account are given, but pyrus.enabled is not";
    (is_meant && is_silent).then(|| problem("pyrus", "login", what, "add enabled = true below [pyrus]"))
}

fn field_filled_twice(config: &Config) -> Option<PlausibilityProblem> {
    let pyrus = &config.pyrus;
    let code = pyrus.send_mappings.iter().find(|code| pyrus.mappings.contains_key(*code))?;
    let what = format!("the field {code} is filled by pyrus.send_mappings and by [pyrus.mappings]");
    Some(problem("pyrus", "send_mappings", what, "remove it from one of them"))
}

fn folder_used_twice(config: &Config) -> Option<PlausibilityProblem> {
    let (spool, state, recordings) = (&config.spool.dir, &config.journal.dir, &config.recording.dir);
    let (key, folder): (&'static str, &PathBuf) = match () {
        () if recordings == spool => ("recording", spool),
        () if recordings == state => ("recording", state),
        () if state == spool => ("state", spool),
        () => return None,
    };
    let what = format!("{key}.dir {} is the folder of another section, too", folder.display());
    Some(problem(key, "dir", what, "give spool, state and recording a folder each"))
}

/// Returns problem and remedy of a relative path, which depends on the folder in which callspan is started. Returns
/// `None` for an absolute path.
pub(crate) fn relative(path: &Path) -> Option<(String, String)> {
    if path.is_absolute() {
        return None;
    }
    let shown = path.display();
    let what = match path.starts_with("~") {
        true => format!("{shown}: ~ stands for a home folder only in a shell"),
        false => format!("{shown} is relative to the folder in which callspan is started; the service is started in /"),
    };
    Some((what, String::from("write the whole path, which begins with /")))
}

/// Appends a finding for each placeholder in `[pyrus]` if delivery is switched on. With a placeholder, no call could be
/// delivered until a person corrects it.
pub(crate) fn placeholders(config: &Config, raw: &RawConfig, purpose: ConfigPurpose, found: &mut Vec<ConfigFinding>) {
    use secrecy::ExposeSecret as _;
    if !config.pyrus.enabled || purpose == ConfigPurpose::Inspect {
        return;
    }
    let key = config.pyrus.security_key.as_ref().map_or("", |key| key.expose_secret());
    let remedies = [
        ("login", config.pyrus.login.as_str(), "copy the login from the bot's profile in Pyrus"),
        ("security_key", key, "copy the key from the bot's profile in Pyrus"),
        (
            "account_id",
            config.pyrus.account_id.as_str(),
            "copy the account id from the telephony extension that is connected to the form",
        ),
    ];
    for (name, value, remedy) in remedies {
        if is_placeholder(name, value) {
            let given = raw.get("pyrus", name).or_else(|| raw.get("pyrus", "security_key_file"));
            let what = format!("pyrus.{name} is still the placeholder of a manual");
            found.push(ConfigFinding::mistake(given.map(|g| g.line), what, remedy));
        }
    }
}

/// Words that manuals and examples use in place of a value (placeholders), in lower case.
const PLACEHOLDERS: [&str; 13] = [
    "bot@example.com",
    "user@example.com",
    "login",
    "your login",
    "key",
    "your key",
    "your_key",
    "security_key",
    "changeme",
    "change me",
    "todo",
    "account",
    "account_id",
];
