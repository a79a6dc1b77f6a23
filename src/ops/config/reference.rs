//! Writes the reference, i.e. an example configuration with the default and the unit of every key in [`KEYS`].

use super::keys::{ABOUT_SOURCES, ConfigKey, KEYS, KeyKind, SECTIONS};

/// Returns the text of `deploy/callspan.toml`. Defaults are commented out, so that a file made from it gets the better
/// defaults of a later version.
pub(crate) fn example() -> String {
    let mut text = String::from(HEAD);
    for (section, about) in SECTIONS {
        text.push('\n');
        comment(&mut text, about);
        text.push_str(&header(section));
        for key in KEYS.iter().filter(|k| k.section == *section) {
            entry(&mut text, key);
        }
    }
    text
}

fn header(section: &str) -> String {
    match section {
        "rules" => String::from("#[[rules]]\n"),
        other => format!("[{other}]\n"),
    }
}

fn entry(text: &mut String, key: &ConfigKey) {
    if key.kind == KeyKind::Mappings {
        text.push_str("#Queue = \"header:X-Queue\"\n");
        return;
    }
    let mut about = String::from(key.about);
    if key.name == "from_number" {
        about = format!("{about} {ABOUT_SOURCES}");
    }
    if let KeyKind::Number(least, most) = key.kind
        && most != u64::MAX
    {
        let unit = if key.unit.is_empty() { String::new() } else { format!(" {}", key.unit) };
        about = format!("{about} {least} to {most}{unit}.");
    }
    comment(text, &about);
    match (key.path().as_str(), key.default) {
        ("capture.interface", _) => text.push_str("interface = \"eth1\"\n"),
        (_, "") => text.push_str(&format!("#{} = {}\n", key.name, sample(key))),
        (_, default) => text.push_str(&format!("#{} = {default}\n", key.name)),
    }
}

/// Returns an example value for a key that has no default.
fn sample(key: &ConfigKey) -> &'static str {
    match (key.section, key.name) {
        ("pyrus", "login") => "\"bot@00000000-0000-0000-0000-000000000000\"",
        ("pyrus", "security_key") => "\"the key\"",
        ("pyrus", "security_key_file") => "\"/etc/callspan/pyrus.key\"",
        ("pyrus", "person_id") => "1",
        ("pyrus", "account_id") => "\"the account\"",
        ("pyrus", "ca_file") => "\"/etc/callspan/ca.pem\"",
        ("archive", "endpoint") => "\"https://s3.example.org\"",
        ("archive", "secret_key_file") => "\"/etc/callspan/archive.key\"",
        ("archive", "index_password_file") => "\"/etc/callspan/index.password\"",
        ("archive", "ca_file") => "\"/etc/callspan/ca.pem\"",
        ("rules", "action") => "\"exclude\"",
        ("rules", "direction") => "\"internal\"",
        ("rules", "number") => "\"+7495*\"",
        ("rules", "extension") => "\"1xx\"",
        ("rules", "header") => "\"X-Queue: vip*\"",
        _ => "\"\"",
    }
}

/// Returns the example value of a text key, without quotes; empty if the key has a default.
pub(crate) fn sample_text(section: &str, name: &str) -> &'static str {
    let key = KEYS.iter().find(|k| k.section == section && k.name == name && k.default.is_empty());
    key.map_or("", sample).trim_matches('"')
}

/// Appends a description as comment lines that have at most [`WIDTH`] characters.
fn comment(text: &mut String, sentence: &str) {
    let mut column = 0;
    for word in sentence.split(' ') {
        if column > 0 && column + 1 + word.len() > WIDTH {
            text.push('\n');
            column = 0;
        }
        text.push_str(if column == 0 { "# " } else { " " });
        column += word.len() + if column == 0 { 2 } else { 1 };
        text.push_str(word);
    }
    text.push('\n');
}

/// Maximum number of characters in a comment line.
const WIDTH: usize = 100;

const HEAD: &str = "\
# Configuration of callspan: every key with its default and unit.
#
# A key behind # has the value shown, unless the text says that it is empty. Remove the # to change it.
# `callspan check-config FILE` lists every mistake in a file. Unknown keys are errors.
";
