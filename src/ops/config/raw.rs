//! First stage of loading a configuration: turns TOML text into values of the right kind, each with its line, and
//! collects all mistakes.
//!
//! The kind of each key comes from [`super::keys::KEYS`]. This stage does not know what a key means.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;

use toml::de::{DeArray, DeTable, DeValue};

use super::finding::ConfigFinding;
use super::keys::{ConfigKey, KEYS, KeyKind, SECTIONS};
use super::value;

/// A value of a configuration key, after the check that it has the right kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ConfigValue {
    /// A text. The kind of the key decides which texts are valid.
    Text(String),
    /// A value `true` or `false`.
    Switch(bool),
    /// A whole number.
    Number(u64),
    /// A list of texts.
    Texts(Vec<String>),
    /// A list of whole numbers.
    Numbers(Vec<u64>),
    /// A list of lists of IP addresses. The addresses of an inner list belong to one machine.
    AddressGroups(Vec<Vec<IpAddr>>),
}

/// A value of a key, and its line in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GivenValue {
    /// The value, converted to the kind that its key needs.
    pub(crate) value: ConfigValue,
    /// Line of the value in the file, counted from 1.
    pub(crate) line: usize,
}

/// The values of one section or of one rule, by the name of the key.
pub(crate) type ConfigGroup = BTreeMap<&'static str, GivenValue>;

/// One entry of `[[rules]]`, the rules that decide which calls are recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RawRule {
    /// Line of the header `[[rules]]` of this rule, counted from 1.
    pub(crate) line: usize,
    /// Valid values of the rule; the key is the name of the configuration key.
    pub(crate) group: ConfigGroup,
    /// Number of keys that the rule has in the file, including invalid keys.
    pub(crate) given: usize,
    /// Whether the rule has the key `action`, valid or not.
    pub(crate) has_action: bool,
}

/// The content of a configuration file: the valid values of all sections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RawConfig {
    /// Valid values of each section, by the name of the section.
    pub(crate) sections: BTreeMap<&'static str, ConfigGroup>,
    /// Line of the header of each section, counted from 1.
    pub(crate) section_lines: BTreeMap<&'static str, usize>,
    /// Entries of `[[rules]]`, in the order of the file.
    pub(crate) rules: Vec<RawRule>,
    /// Entries of `[pyrus.mappings]`: code of the Pyrus form field, name of the SIP header, and line number in the
    /// file.
    pub(crate) mappings: Vec<(String, String, usize)>,
}

impl RawConfig {
    /// Returns the value of a key; `None` if the file does not set the key or its value is wrong.
    pub(crate) fn get(&self, section: &str, name: &str) -> Option<&GivenValue> {
        self.sections.get(section)?.get(name)
    }

    /// Returns the line of a section's header, for findings about missing keys.
    pub(crate) fn line_of(&self, section: &str) -> Option<usize> {
        self.section_lines.get(section).copied()
    }
}

/// Reads a configuration text. Appends mistakes to `findings`; returns the valid values.
pub(crate) fn read(text: &str, findings: &mut Vec<ConfigFinding>) -> RawConfig {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut reader = RawReader { text, findings, raw: RawConfig::default() };
    reader.top(table.get_ref());
    let broken: Vec<ConfigFinding> =
        errors.iter().map(|e| syntax(e.span().map(|s| reader.line(&s)), e.message(), text)).collect();
    let RawReader { findings, mut raw, .. } = reader;
    // In a line with a syntax error, the TOML parser guesses the content. Findings about guessed content would confuse
    // the reader, so they are removed.
    findings.retain(|f| !broken.iter().any(|b| b.line == f.line));
    let is_guess = |given: &GivenValue| {
        matches!(given.value, ConfigValue::Switch(_)) && broken.iter().any(|b| b.line == Some(given.line))
    };
    raw.sections.values_mut().for_each(|group| group.retain(|_, given| !is_guess(given)));
    findings.extend(broken);
    raw
}

struct RawReader<'t, 'f> {
    text: &'t str,
    findings: &'f mut Vec<ConfigFinding>,
    raw: RawConfig,
}

impl RawReader<'_, '_> {
    fn top(&mut self, table: &DeTable<'_>) {
        for (name, value) in table {
            let line = self.line(&name.span());
            match (section_of(name.get_ref()), value.get_ref()) {
                (Some("rules"), DeValue::Array(rules)) => self.rules(rules, line),
                (Some("rules"), _) => self.wrong(line, "[rules] must be a list", "write [[rules]] above each rule"),
                (Some(section), DeValue::Table(keys)) => {
                    self.raw.section_lines.insert(section, line);
                    let group = self.group(section, keys);
                    self.raw.sections.insert(section, group);
                }
                (Some(section), DeValue::Array(_)) => {
                    self.wrong(line, format!("[{section}] is given more than once"), format!("write [{section}]"));
                }
                (Some(section), _) => {
                    self.wrong(
                        line,
                        format!("{section} must be a section"),
                        format!("write [{section}] on its own line"),
                    );
                }
                (None, value) => self.unknown_top(name.get_ref(), value, line),
            }
        }
    }

    fn unknown_top(&mut self, name: &str, value: &DeValue<'_>, line: usize) {
        if value.is_table() || value.is_array() {
            let sections: Vec<&str> = SECTIONS.iter().map(|(s, _)| *s).collect();
            let remedy = suggestion(name, &sections).map_or_else(
                || format!("the sections are: {}", sections.join(", ")),
                |s| format!("did you mean [{s}]?"),
            );
            self.wrong(line, format!("there is no section [{}]", shown_name(name)), remedy);
        } else {
            let remedy = match home_of(name) {
                Some(section) => format!("move it below [{section}]"),
                None => String::from("move it below its [section]"),
            };
            self.wrong(line, format!("the key \"{}\" is above the first section", shown_name(name)), remedy);
        }
    }

    fn group(&mut self, section: &'static str, table: &DeTable<'_>) -> ConfigGroup {
        let mut group = ConfigGroup::new();
        for (name, value) in table {
            let line = self.line(&name.span());
            if section == "pyrus" && name.get_ref() == "mappings" {
                self.mappings(value.get_ref(), line);
                continue;
            }
            let Some(key) = KEYS.iter().find(|k| k.section == section && k.name == name.get_ref()) else {
                self.unknown_key(section, name.get_ref(), line);
                continue;
            };
            let line = self.line(&value.span());
            match value::convert(key, value.get_ref()) {
                Ok(value) => drop(group.insert(key.name, GivenValue { value, line })),
                Err(problems) => {
                    for problem in problems {
                        let line = problem.span.as_ref().map_or(line, |span| self.line(span));
                        self.wrong(line, problem.what, problem.remedy);
                    }
                }
            }
        }
        group
    }

    fn rules(&mut self, rules: &DeArray<'_>, at: usize) {
        for rule in rules.iter() {
            // The parser gives the position of the first `[[rules]]` for every rule. So `at`, the line of the rule's
            // own header, is used if it is later.
            let line = self.line(&rule.span()).max(at);
            match rule.get_ref() {
                DeValue::Table(table) => {
                    let group = self.group("rules", table);
                    let has_action = table.keys().any(|key| key.get_ref() == "action");
                    self.raw.rules.push(RawRule { line, group, given: table.len(), has_action });
                }
                _ => self.wrong(line, "a rule must be a table", "write [[rules]] above each rule"),
            }
        }
    }

    fn mappings(&mut self, value: &DeValue<'_>, line: usize) {
        let DeValue::Table(table) = value else {
            self.wrong(
                line,
                "pyrus.mappings must be a section",
                "write [pyrus.mappings], below it CODE = \"header:NAME\"",
            );
            return;
        };
        for (code, source) in table {
            let line = self.line(&code.span());
            match source.get_ref().as_str().map(value::header_source) {
                Some(Some(header)) => self.raw.mappings.push((code.get_ref().to_string(), header.to_owned(), line)),
                _ => self.wrong(
                    line,
                    format!("the field \"{}\" is not filled from a SIP header", code.get_ref()),
                    "write CODE = \"header:NAME\", for example Queue = \"header:X-Queue\"",
                ),
            }
        }
    }

    fn unknown_key(&mut self, section: &str, name: &str, line: usize) {
        let known: Vec<&str> = KEYS.iter().filter(|k| k.section == section).map(|k| k.name).collect();
        let remedy = match (suggestion(name, &known), home_of(name)) {
            (Some(near), _) => format!("did you mean \"{near}\"?"),
            (None, Some(home)) => format!("move it below [{home}]"),
            (None, None) => format!("[{section}] has: {}", known.join(", ")),
        };
        self.wrong(line, format!("[{section}] has no key \"{}\"", shown_name(name)), remedy);
    }

    fn wrong(&mut self, line: usize, what: impl Into<String>, remedy: impl Into<String>) {
        self.findings.push(ConfigFinding::mistake(line, what, remedy));
    }

    fn line(&self, span: &Range<usize>) -> usize {
        let before = self.text.as_bytes().get(..span.start).unwrap_or(self.text.as_bytes());
        1 + memchr::memchr_iter(b'\n', before).count()
    }
}

/// Converts a syntax error of the TOML parser to a finding with a remedy.
fn syntax(line: Option<usize>, message: &str, text: &str) -> ConfigFinding {
    let of_line = line.and_then(|line| text.lines().nth(line.saturating_sub(1))).unwrap_or_default();
    let value = of_line.split_once('=').map_or("", |(_, value)| value).split('#').next().unwrap_or_default().trim();
    let has_unit = value.starts_with(|c: char| c.is_ascii_digit())
        && value.ends_with(|c: char| c.is_ascii_alphabetic())
        && value.chars().all(|c| c.is_ascii_alphanumeric() || c == ' ');
    let remedy = if SWITCH_WORDS.contains(&value.to_ascii_lowercase().as_str()) {
        "write true or false, in small letters and without quotes"
    } else if of_line.contains(['“', '”', '„', '«', '»', '‘', '’']) {
        "write straight double quotes: name = \"value\""
    } else if has_unit {
        "write the number alone, without its unit"
    } else if message.contains("duplicate key") {
        "keep only one; a section can appear only once, too"
    } else if message.contains("string") || message.contains("quote") || message.contains("escape") {
        "write text in double quotes: name = \"value\" (in single quotes a backslash is a backslash)"
    } else if message.contains("array") {
        "write a list as [\"one\", \"two\"]"
    } else if message.contains("table") || message.contains("header") {
        "write a section as [name] on its own line"
    } else {
        "write name = value, text in double quotes, a comment after #"
    };
    ConfigFinding::mistake(line, format!("this is not TOML: {message}"), remedy)
}

/// Returns a key name for an error message. A name that does not consist of letters and underscores is hidden, because
/// it may be a secret in the wrong place.
fn shown_name(name: &str) -> &str {
    let is_word = name.len() <= MAX_NAME && name.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_');
    if is_word { name } else { "…" }
}

/// Maximum length of a key name that an error message shows, bytes. It is longer than the longest valid name.
const MAX_NAME: usize = 40;

/// Words that people write in place of `true` and `false`.
const SWITCH_WORDS: [&str; 6] = ["yes", "no", "on", "off", "true", "false"];

fn section_of(name: &str) -> Option<&'static str> {
    SECTIONS.iter().map(|(section, _)| *section).find(|s| *s == name)
}

/// Returns the section that has a key of this name; `None` if no section or several sections have it.
fn home_of(name: &str) -> Option<&'static str> {
    let mut homes =
        KEYS.iter().filter(|k| k.name == name && k.kind != KeyKind::Mappings).map(|k: &ConfigKey| k.section);
    let first = homes.next()?;
    homes.next().is_none().then_some(first)
}

/// Returns the known name that is most similar to a misspelt name; `None` if no name is similar enough.
pub(crate) fn suggestion<'k>(given: &str, known: &[&'k str]) -> Option<&'k str> {
    let given = given.to_lowercase();
    known
        .iter()
        .map(|k| (strsim::damerau_levenshtein(&given, &k.to_lowercase()), *k))
        .filter(|(distance, k)| {
            let is_cut = given.len() >= 4 && k.starts_with(&given);
            *distance <= (k.len() / 3).max(1) || is_cut || (k.len() >= 4 && given.starts_with(*k))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, k)| k)
}
