//! The story of a delivery: each request with its time and the response of Pyrus, as a person reads it.

use serde::{Deserialize, Serialize};

use super::verdict::{OutcomeAssessment, ResponseVerdict};
use crate::time::Timestamp;

/// The requests of one delivery, oldest first. People see this list as the story of the delivery.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeliveryStory {
    /// The requests to Pyrus about one call, oldest first. Consecutive requests that failed in the same way are one
    /// entry.
    pub(crate) attempts: Vec<DeliveryAttempt>,
    /// Number of entries that were removed because the list of requests had become too long. They stood directly after
    /// the first entry.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) left_out: u32,
}

/// A request with its response. Several consecutive requests that failed in the same way are one entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeliveryAttempt {
    /// Wall-clock time at which the request was sent. If the entry stands for several requests, it is the time of the
    /// first.
    pub(crate) at: Timestamp,
    /// Wall-clock time at which Pyrus responded to the last request of the entry. Without a response, it is the time at
    /// which the wait for the response ended.
    pub(crate) answered_at: Timestamp,
    /// Purpose of the request, e.g. the upload of a recording.
    pub(crate) step: AttemptedStep,
    /// Number of the recording; `None` if the request is not about a recording.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) part: Option<u32>,
    /// Whether the request succeeded.
    pub(crate) result: AttemptResult,
    /// HTTP status and error code, e.g. `400 server_error`, or a few fixed words if no response came. It contains no
    /// text from Pyrus.
    pub(crate) answer: String,
    /// Response of Pyrus with advice for the administrator; `None` after a success without a warning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// Number of consecutive requests for which this entry stands, at least 1.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub(crate) times: u32,
    /// Earliest time of the next request to Pyrus, if this request failed; `None` if no request follows, or if it
    /// follows at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next_at: Option<Timestamp>,
}

/// Purpose of a request to Pyrus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AttemptedStep {
    /// Registration of the call in Pyrus.
    Register,
    /// Upload of a recording.
    Upload,
    /// Attaching an uploaded recording to the task.
    Attach,
    /// Request that sends the end of a call without a recording.
    TellEnd,
}

/// Whether a request succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AttemptResult {
    /// Pyrus executed the request.
    Done,
    /// Pyrus refused the request, or did not respond.
    Failed,
}

impl AttemptedStep {
    /// Returns the word for the purpose of a request, as people see it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Upload => "upload",
            Self::Attach => "attach",
            Self::TellEnd => "tell_end",
        }
    }
}

impl DeliveryAttempt {
    /// Creates the entry of one request in the list of a delivery's requests. The time of the next request is set
    /// later.
    pub(super) fn new(
        step: AttemptedStep,
        part: Option<u32>,
        at: Timestamp,
        answered_at: Timestamp,
        assessment: &OutcomeAssessment,
    ) -> Self {
        let (result, has_reason) = match &assessment.verdict {
            ResponseVerdict::Done(data) => (AttemptResult::Done, data.has_warning),
            _ => (AttemptResult::Failed, true),
        };
        Self {
            at,
            answered_at,
            step,
            part,
            result,
            answer: assessment.code.clone(),
            reason: has_reason.then(|| assessment.reason.clone()),
            times: 1,
            next_at: None,
        }
    }

    /// Returns whether two entries are requests with the same purpose that failed in the same way.
    fn failed_as(&self, other: &Self) -> bool {
        let key = |attempt: &Self| (attempt.step, attempt.part, attempt.result);
        self.result == AttemptResult::Failed && key(self) == key(other) && self.answer == other.answer
    }
}

impl DeliveryStory {
    /// Adds an entry, i.e. a request with its response. If the list is full, its second entry is removed: the first
    /// entry and the newest entries stay.
    pub(super) fn add(&mut self, attempt: DeliveryAttempt) {
        if let Some(last) = self.attempts.last_mut().filter(|last| last.failed_as(&attempt)) {
            last.times = last.times.saturating_add(1);
            last.answered_at = attempt.answered_at;
            last.next_at = attempt.next_at;
            last.reason = attempt.reason;
            return;
        }
        if self.attempts.len() >= MAX_ATTEMPTS {
            self.attempts.remove(1);
            self.left_out = self.left_out.saturating_add(1);
        }
        self.attempts.push(attempt);
    }

    /// Returns whether no request was sent yet.
    pub(crate) const fn is_empty(&self) -> bool {
        self.attempts.is_empty()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde needs")]
const fn is_zero(n: &u32) -> bool {
    *n == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde needs")]
const fn is_once(n: &u32) -> bool {
    *n == 1
}

const fn once() -> u32 {
    1
}

/// Maximum number of entries in the list of a call's requests. It suffices for a call of a whole day. One request
/// registers the call, and two requests (upload and attach) send each of the 24 parts of its recording, one for each
/// hour.
const MAX_ATTEMPTS: usize = 50;

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(second: i64, step: AttemptedStep, answer: &str, result: AttemptResult) -> DeliveryAttempt {
        let at = Timestamp::from_secs(second);
        let next_at = Some(Timestamp::from_secs(second + 9));
        DeliveryAttempt {
            at,
            answered_at: at,
            step,
            part: None,
            result,
            answer: answer.to_owned(),
            reason: None,
            times: 1,
            next_at,
        }
    }

    #[test]
    fn equal_failures_in_a_row_are_one_entry() {
        let mut story = DeliveryStory::default();
        for (second, answer) in [(1, "HTTP 503"), (5, "HTTP 503"), (20, "no response"), (30, "HTTP 503")] {
            story.add(attempt(second, AttemptedStep::Upload, answer, AttemptResult::Failed));
        }
        let [first, ..] = &story.attempts[..] else { panic!("a story") };
        assert_eq!((first.times, first.at, first.answered_at), (2, Timestamp::from_secs(1), Timestamp::from_secs(5)));
        assert_eq!(first.next_at, Some(Timestamp::from_secs(14)));
        assert_eq!(story.attempts.iter().map(|a| a.times).collect::<Vec<_>>(), [2, 1, 1]);
        // Only failed requests are merged into one entry of the list. Two successful uploads stay two entries.
        for second in [40, 41] {
            story.add(attempt(second, AttemptedStep::Upload, "HTTP 200", AttemptResult::Done));
        }
        assert_eq!(story.attempts.len(), 5);
    }

    #[test]
    fn full_story_keeps_the_registration_and_the_newest_requests() {
        let mut story = DeliveryStory::default();
        story.add(attempt(0, AttemptedStep::Register, "HTTP 200", AttemptResult::Done));
        for second in 1..=100 {
            story.add(attempt(second, AttemptedStep::Upload, "HTTP 200", AttemptResult::Done));
        }
        assert_eq!((story.attempts.len(), story.left_out), (50, 51));
        assert_eq!(story.attempts[0].step, AttemptedStep::Register);
        let last = [1, 49].map(|n: usize| story.attempts[n].at);
        assert_eq!(last, [Timestamp::from_secs(52), Timestamp::from_secs(100)]);
    }
}
