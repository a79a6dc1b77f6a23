//! The result of the last test call that was made with `callspan test-call --alarm`. It is stored in the state folder.
//!
//! The running service reads the result and raises the alarm. So this alarm has the same receivers and pauses as other
//! alarms.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::alerts::AlarmKind;
use crate::time::Timestamp;

/// Result of a test call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SelfTestResult {
    /// Wall-clock time at the end of the test call.
    pub(crate) at: Timestamp,
    /// Whether the test call was recorded correctly.
    pub(crate) ok: bool,
    /// Description of the result: the step that failed and the reason, or that the call was recorded correctly.
    pub(crate) detail: String,
}

impl SelfTestResult {
    /// Writes the result to the state folder.
    ///
    /// # Errors
    /// Fails if the file cannot be written.
    pub(crate) fn write(&self, state: &Path) -> io::Result<()> {
        let part = state.join(PART_NAME);
        std::fs::write(&part, serde_json::to_vec(self)?)?;
        std::fs::rename(part, state.join(FILE_NAME))
    }

    /// Reads the result of the last test call from the state folder; `None` if there is no result or it cannot be read.
    pub(crate) fn read(state: &Path) -> Option<Self> {
        let text = std::fs::read(state.join(FILE_NAME)).ok()?;
        serde_json::from_slice(&text).ok()
    }
}

/// Detects new test calls, by the result in the state folder.
#[derive(Debug)]
pub(crate) struct SelfTestWatch {
    last: Option<SelfTestResult>,
}

impl SelfTestWatch {
    /// Creates the watch over the results of test calls. `last` is the result at the start of the service, which is not
    /// reported again.
    pub(crate) const fn start(last: Option<SelfTestResult>) -> Self {
        Self { last }
    }

    /// Compares `now`, the result of a test call in the state folder, with the previous result. Returns an alarm for
    /// each failure, and for the first success after a failure.
    pub(crate) fn update(&mut self, now: Option<SelfTestResult>) -> Option<(AlarmKind, String)> {
        let now = now.filter(|now| Some(now) != self.last.as_ref())?;
        let had_failed = self.last.as_ref().is_some_and(|last| !last.ok);
        let alarm = match (now.ok, had_failed) {
            (false, _) => Some((AlarmKind::TestCallFailed, now.detail.clone())),
            (true, true) => Some((AlarmKind::TestCallPassed, now.detail.clone())),
            (true, false) => None,
        };
        self.last = Some(now);
        alarm
    }
}

const FILE_NAME: &str = "test-call.json";
const PART_NAME: &str = "test-call.json.part";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_and_the_first_success_after_it_is_an_alarm() {
        let dir = tempfile::tempdir().unwrap();
        let result = |s, ok| SelfTestResult { at: Timestamp::from_secs(s), ok, detail: format!("at {s}") };
        let mut watch = SelfTestWatch::start(SelfTestResult::read(dir.path()));
        let mut kinds = Vec::new();
        for (s, ok) in [(1, true), (2, false), (2, false), (3, false), (4, true), (5, true)] {
            result(s, ok).write(dir.path()).unwrap();
            kinds.push(watch.update(SelfTestResult::read(dir.path())).map(|(kind, _)| kind.name()));
        }
        let (failed, passed) = (Some("test_call_failed"), Some("test_call_passed"));
        assert_eq!(kinds, [None, failed, None, failed, passed, None]);
        assert_eq!(SelfTestWatch::start(Some(result(5, false))).update(Some(result(5, false))), None, "told already");
    }
}
