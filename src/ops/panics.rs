//! Panics of the service's threads, for an alarm: every panic is a bug.
//!
//! Threads survive a panic or end the service, and many panics cost one call or one request alone. In each case a
//! person must know, so a panic hook records all of them.

use std::collections::VecDeque;
use std::panic::PanicHookInfo;
use std::sync::{Mutex, PoisonError};

use super::alerts::without_numbers;

/// Installs the hook that records each panic of this process from now on. Panics are still printed, too.
pub(crate) fn watch() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        let thread = std::thread::current();
        NOTED.lock().unwrap_or_else(PoisonError::into_inner).note(describe(thread.name(), panic));
    }));
}

/// Returns the panics since the last call of this function, each as a text: name of the thread, reason, and line of the
/// source.
pub(crate) fn take_new() -> Vec<String> {
    NOTED.lock().unwrap_or_else(PoisonError::into_inner).waiting.drain(..).collect()
}

fn describe(thread: Option<&str>, panic: &PanicHookInfo<'_>) -> String {
    let thread = thread.unwrap_or("unnamed");
    let reason = panic.payload_as_str().unwrap_or("no reason");
    let place = panic.location().map(|at| format!(" ({}:{})", at.file(), at.line())).unwrap_or_default();
    without_numbers(&format!("a bug in callspan, in the {thread} thread: {reason}{place}"))
}

/// The newest panics that [`take_new`] has not returned yet, each as a text.
#[derive(Debug)]
struct NotedPanics {
    waiting: VecDeque<String>,
}

impl NotedPanics {
    fn note(&mut self, text: String) {
        if self.waiting.len() >= MAX_WAITING {
            self.waiting.pop_front();
        }
        self.waiting.push_back(text);
    }
}

static NOTED: Mutex<NotedPanics> = Mutex::new(NotedPanics { waiting: VecDeque::new() });
/// Maximum number of panics kept until [`take_new`] fetches them. An alarm of a kind is sent once in five minutes, so
/// more texts are of no use.
const MAX_WAITING: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_panics_are_kept() {
        let mut noted = NotedPanics { waiting: VecDeque::new() };
        (0..20).for_each(|n| noted.note(n.to_string()));
        assert_eq!(noted.waiting, (12..20).map(|n| n.to_string()).collect::<Vec<_>>());
    }
}
