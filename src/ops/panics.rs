//! Records the panics of the service's threads, for an alarm. Every panic is a bug.
//!
//! After a panic, the thread goes on with the next call or request, or the service ends. In both cases a person must
//! know of the panic. So a panic hook records all panics.

use std::collections::VecDeque;
use std::panic::PanicHookInfo;
use std::sync::{Mutex, PoisonError};

use super::alerts::without_numbers;

/// Installs the hook that records each further panic of this process. Panics are still printed, too.
pub(crate) fn watch() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        let thread = std::thread::current();
        NOTED.lock().unwrap_or_else(PoisonError::into_inner).note(describe(thread.name(), panic));
    }));
}

/// Returns the panics since this function was last used. Each is a text with the name of the thread, the reason, and
/// the source line.
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
/// Maximum number of panics that are kept for [`take_new`]. More are not needed, because alarms of one kind are sent
/// only once in five minutes.
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
