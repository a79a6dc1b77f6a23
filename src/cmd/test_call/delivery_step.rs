//! The last step of a test call: checks that Pyrus accepts calls, or has accepted this call.

use std::time::{Duration, Instant};

use super::trace::{CallTrace, POLL, StepError};
use crate::call::record::DeliveryState;
use crate::journal::{Journal, StoredCall};
use crate::ops::status::ServiceReport;
use crate::service::clock::monotonic;

impl CallTrace<'_> {
    /// Checks that Pyrus has accepted the login, and with `--deliver` also the call with this id. Waits for both, each
    /// at most for `patience`.
    pub(super) fn delivery(&self, id: &str) -> Result<String, StepError> {
        if !self.config.pyrus.enabled {
            return match self.deliver {
                true => Err(String::from("pyrus.enabled is false: nothing is delivered")),
                false => Ok(String::from("not configured")),
            };
        }
        let has_login_answer = self.wait_for_login();
        let settled =
            |call: &StoredCall| !matches!(call.record.delivery.state, DeliveryState::Owed | DeliveryState::None);
        let patience = if self.deliver && has_login_answer { self.patience } else { Duration::ZERO };
        let state = self.wait_for(patience, settled).map(|call| call.record.delivery).unwrap_or_default();
        let alarm = Journal::open_read_only(&self.config.journal).and_then(|journal| journal.alarm()).ok().flatten();
        match (state.state, alarm) {
            (DeliveryState::Done, _) => {
                Ok(state.task_id.map_or_else(|| String::from("done"), |task| format!("done: Pyrus task {task}")))
            }
            (_, Some(alarm)) => Err(format!("Pyrus takes no calls: {alarm}")),
            (_, None) if !has_login_answer => Err(format!(
                "the login at Pyrus has no answer yet, after {} s: check auth_url in [pyrus] and the network",
                self.patience.as_secs()
            )),
            (DeliveryState::None, None) if !self.deliver => {
                Ok(String::from("Pyrus takes calls; --deliver sends this one, too"))
            }
            (DeliveryState::None, None) => Err(String::from(
                "the configuration does not deliver this call: pyrus.directions, or a rule with no_register",
            )),
            (_, None) => Err(format!(
                "Pyrus does not have the call yet: {}; `callspan calls show {id}`",
                state.detail.unwrap_or_else(|| String::from("it is owed"))
            )),
        }
    }

    /// Waits until Pyrus has accepted or refused the login of the service, at most for `patience`. Returns false if
    /// Pyrus does not respond in that time. A service of an earlier version does not report the login. In this case
    /// returns true.
    #[expect(clippy::disallowed_methods, reason = "another process writes the report")]
    fn wait_for_login(&self) -> bool {
        let until: Instant = monotonic() + self.patience;
        loop {
            let report = ServiceReport::read(&self.config.journal.dir);
            let has_answer = report.is_ok_and(|report| report.has_login_answer != Some(false));
            if has_answer || monotonic() >= until {
                return has_answer;
            }
            std::thread::sleep(POLL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::test_call::trace::SentCall;
    use crate::ops::config::Config;
    use crate::ops::state_file::replace_file;
    use crate::time::Timestamp;

    /// Stores a status report of the service. It says whether Pyrus has answered the login of the service.
    fn report(state: &std::path::Path, has_login_answer: bool) {
        let report = ServiceReport { has_login_answer: Some(has_login_answer), ..ServiceReport::default() };
        let (path, contents) = report.file(state).unwrap();
        replace_file(&path, &contents).unwrap();
    }

    #[test]
    fn answer_to_the_login_is_waited_for_and_its_lack_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.journal.dir = dir.path().to_owned();
        config.pyrus.enabled = true;
        let (at, before) = (Timestamp::EPOCH, ServiceReport::default());
        let sent = SentCall { call_id: String::from("a"), at, rtp: 1, talk: Duration::ZERO, before };
        let after = |patience| CallTrace { config: &config, sent: &sent, patience, deliver: false }.delivery("a");
        report(dir.path(), false);
        let why = after(Duration::ZERO).unwrap_err();
        assert!(why.starts_with("the login at Pyrus has no answer yet"), "{why}");
        let state = dir.path().to_owned();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| after(Duration::from_secs(60)));
            report(&state, true);
            assert_eq!(waiting.join().unwrap(), Ok(String::from("Pyrus takes calls; --deliver sends this one, too")));
        });
    }
}
