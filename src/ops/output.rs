//! Standard output and standard error.

use std::io::{ErrorKind, Write};

/// Writes a result to standard output. A closed pipe (`| head`) is no error: the command continues.
///
/// # Errors
/// When standard output fails in another way, for example on a full disk.
pub(crate) fn result(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(anyhow::Error::new(error).context("cannot write to standard output"))
        }
        _ => Ok(()),
    }
}

/// Writes a message to standard error.
pub(crate) fn note(text: &str) {
    // A failure to write to standard error cannot be reported anywhere.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Writes an error and its causes to standard error.
pub(crate) fn complain(error: &anyhow::Error) {
    note(&format!("callspan: {}", chain(error)));
}

/// Returns the error and its causes as one text. A cause that an error already repeats is left out.
pub(crate) fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let part = cause.to_string();
        if text.is_empty() {
            text = part;
        } else if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn chain_contains_each_cause_once() {
        let io = std::io::Error::other("disk on fire");
        let error = Err::<(), _>(io).context("cannot read x: disk on fire").context("replay failed").unwrap_err();
        assert_eq!(chain(&error), "replay failed: cannot read x: disk on fire");
    }
}
