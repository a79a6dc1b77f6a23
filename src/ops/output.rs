//! Writing of results to standard output and of messages to standard error.

use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::Level;

use super::log;
use crate::text::error_chain;

/// Writes a result to standard output. A closed pipe, e.g. of `head`, is not an error: the command continues.
///
/// # Errors
/// Fails if writing to standard output fails in another way, e.g. on a full disk.
pub(crate) fn result(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(anyhow::Error::new(error).context("cannot write to standard output"))
        }
        _ => Ok(()),
    }
}

/// Writes a message to standard error. With `--log-json` the message is a JSON object, as log lines are.
pub(crate) fn note(text: &str) {
    say(Level::INFO, text);
}

/// Writes a warning to standard error. journald gives it the priority of a warning.
pub(crate) fn warn(text: &str) {
    say(Level::WARN, text);
}

fn say(level: Level, text: &str) {
    // An error of writing to standard error cannot be reported anywhere, so it is ignored.
    let mut out = std::io::stderr().lock();
    let _ = if IS_JSON.load(Ordering::Relaxed) {
        writeln!(out, "{}", serde_json::json!({ "level": level.as_str(), "message": text }))
    } else if log::is_journald() {
        // journald takes each line of a text for a separate message. So each line gets the priority.
        text.lines().try_for_each(|line| writeln!(out, "{}{line}", log::priority(level)))
    } else {
        writeln!(out, "{text}")
    };
}

/// Sets whether messages on standard error are JSON objects.
pub(crate) fn set_json(is_json: bool) {
    IS_JSON.store(is_json, Ordering::Relaxed);
    if is_json {
        std::panic::set_hook(Box::new(|panic| say(Level::ERROR, &format!("a bug in callspan: {panic}"))));
    }
}

/// Returns whether messages on standard error are JSON objects.
pub(crate) fn is_json() -> bool {
    IS_JSON.load(Ordering::Relaxed)
}

/// Returns whether a terminal may get colours. Returns false if `NO_COLOR` (no-color.org) is set or the terminal is
/// `dumb`.
pub(crate) fn wants_colour() -> bool {
    let is_forbidden = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !is_forbidden && std::env::var_os("TERM").is_none_or(|terminal| terminal != "dumb")
}

static IS_JSON: AtomicBool = AtomicBool::new(false);

/// Writes an error and its causes to standard error.
pub(crate) fn complain(error: &anyhow::Error) {
    say(Level::ERROR, &format!("callspan: {}", error_chain(error.as_ref())));
}

/// Escapes characters of a JSON text that could control a terminal, i.e. C1 controls and marks that change the writing
/// direction. JSON allows these characters within strings.
pub(crate) fn escaped_json(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\u{7f}'..='\u{9f}'
            | '\u{61c}'
            | '\u{200e}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}' => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_for_a_terminal_is_the_same_json_without_controls() {
        let name = "a\u{9b}31m\u{202e}b\u{2028}ж";
        let json = serde_json::to_string(name).unwrap();
        let escaped = escaped_json(&json);
        assert_eq!(escaped, r#""a\u009b31m\u202eb\u2028ж""#);
        assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), name);
    }
}
