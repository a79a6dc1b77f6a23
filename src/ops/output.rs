//! Standard output and standard error.

use std::io::{ErrorKind, Write};

/// Writes a result to standard output. A reader that went away (`| head`) is no error: the work goes on without it.
///
/// # Errors
/// When standard output fails in another way, for example on a full disk.
pub fn result(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(anyhow::Error::new(error).context("cannot write to standard output"))
        }
        _ => Ok(()),
    }
}

/// Writes a line for people to standard error.
pub fn note(text: &str) {
    // Where standard error is gone there is nobody to tell.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Writes an error to standard error as one chain of sentences.
pub fn complain(error: &anyhow::Error) {
    note(&format!("callspan: {}", chain(error)));
}

/// The error and its causes, each once: many errors repeat their cause in their own text.
pub fn chain(error: &anyhow::Error) -> String {
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
    fn a_chain_says_each_cause_once() {
        let io = std::io::Error::other("disk on fire");
        let error = Err::<(), _>(io).context("cannot read x: disk on fire").context("replay failed").unwrap_err();
        assert_eq!(chain(&error), "replay failed: cannot read x: disk on fire");
    }
}
