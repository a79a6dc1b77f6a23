//! The state of delivery in numbers, for people and for other modules.

use std::collections::VecDeque;

use super::{DeliveryMachine, JobEntry, JobOrigin, RequestPurpose};
use crate::delivery::job::JobStatus;
use crate::time::Timestamp;

/// Numbers of calls by the state of their delivery, and the problems.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliverySummary {
    /// Number of calls delivered since the process started.
    pub done: usize,
    /// Number of calls that the service reported to delivery again although they were delivered before the process
    /// started.
    pub already: usize,
    /// Number of calls for which nothing can be sent until the call ends or its recording is made.
    pub waiting: usize,
    /// Number of calls with a request that is in progress or due.
    pub owed: usize,
    /// Calls with a parked delivery: the administrator must act on each of them.
    pub parked: Vec<TroubledCall>,
    /// Calls with a delivery that was given up: the call or a recording is missing in Pyrus. At most [`MAX_DEAD_KEPT`],
    /// the newest.
    pub dead: Vec<TroubledCall>,
    /// Number of requests that were repeated because the outcome of the first attempt was unknown. Pyrus may have
    /// executed both attempts.
    pub possible_duplicates: u64,
    /// The reason why no call can be delivered at present, as a sentence for the administrator; `None` if calls can be
    /// delivered.
    pub alarm: Option<String>,
    /// Error text of the newest request if it could not reach Pyrus; `None` otherwise.
    pub last_failure: Option<String>,
    /// The condition that stops the delivery of all calls; `None` if there is none.
    pub blocked_by: Option<DeliveryBlocker>,
    /// Codes of form fields that Pyrus refused.
    pub dropped_codes: Vec<String>,
}

/// Conditions that stop the delivery of all calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryBlocker {
    /// Pyrus refuses the login or its security key.
    Login,
    /// Pyrus refuses the telephony account (`account_id`) or the form that belongs to it.
    Account,
    /// Pyrus cannot be reached. Requests are retried.
    Unreachable,
}

/// A call with a delivery that is parked (waits for a person) or was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TroubledCall {
    /// Id of the call in the journal.
    pub id: String,
    /// The reason why the delivery is parked or was given up, as a sentence for the administrator.
    pub reason: String,
}

#[derive(Debug, Default)]
/// Counts of the finished jobs, which are no longer in memory.
pub(super) struct FinishedCounts {
    pub(super) done: usize,
    pub(super) already: usize,
    pub(super) dead: VecDeque<TroubledCall>,
    pub(super) possible_duplicates: u64,
    pub(super) successes: u64,
}

impl DeliveryMachine {
    /// Returns whether delivery has nothing to do. No request is in progress, and no further request makes sense before
    /// a person acts, a call ends or a recording is made.
    pub(crate) fn is_settled(&self) -> bool {
        self.in_flight.is_empty()
            && self.unsaved_jobs.is_empty()
            && self.rows.is_empty()
            && (self.is_refused()
                || self.jobs.values().all(|e| {
                    matches!(e.job.status, JobStatus::Parked { .. } | JobStatus::Dead { .. }) || e.job.step().is_none()
                }))
    }

    /// Returns the current numbers of calls by delivery state, and the problems.
    pub fn summary(&self) -> DeliverySummary {
        let mut summary = DeliverySummary {
            done: self.finished.done,
            already: self.finished.already,
            dead: self.finished.dead.iter().cloned().collect(),
            possible_duplicates: self.finished.possible_duplicates,
            alarm: self.alarm.clone(),
            last_failure: self.last_failure.clone(),
            blocked_by: self.blocked_by(),
            dropped_codes: self.dropped_codes.keys().cloned().collect(),
            ..DeliverySummary::default()
        };
        for JobEntry { job, .. } in self.jobs.values() {
            summary.possible_duplicates += u64::from(job.possible_duplicates);
            match &job.status {
                JobStatus::Parked { reason, .. } => {
                    summary.parked.push(TroubledCall { id: job.id.clone(), reason: reason.clone() });
                }
                _ if job.is_settled() => {}
                _ if job.step().is_none() && !self.is_in_flight(&job.id) => summary.waiting += 1,
                _ => summary.owed += 1,
            }
        }
        summary
    }

    /// Returns the number of successful requests since the process started.
    pub(crate) const fn successes(&self) -> u64 {
        self.finished.successes
    }

    /// Returns whether a rate limit forbids requests at the time `now`.
    pub(crate) fn is_rate_limited(&self, now: Timestamp) -> bool {
        self.pacer.is_rate_limited(now)
    }

    /// Returns the unfinished delivery jobs.
    #[cfg(test)]
    pub(crate) fn jobs(&self) -> impl Iterator<Item = &crate::delivery::job::DeliveryJob> {
        self.jobs.values().map(|e| &e.job)
    }

    /// Returns the condition that stops the delivery of all calls. If several apply, it is the condition that the alarm
    /// names.
    fn blocked_by(&self) -> Option<DeliveryBlocker> {
        if self.token.hold.reason.is_some() {
            Some(DeliveryBlocker::Login)
        } else if self.account_hold.reason.is_some() {
            Some(DeliveryBlocker::Account)
        } else {
            self.outage.as_ref().map(|_| DeliveryBlocker::Unreachable)
        }
    }

    fn is_refused(&self) -> bool {
        self.token.hold.reason.is_some() || self.account_hold.reason.is_some()
    }

    fn is_in_flight(&self, id: &str) -> bool {
        self.in_flight.values().any(|f| matches!(&f.purpose, RequestPurpose::Job { id: other, .. } if other == id))
    }

    /// Removes a finished job from memory. Its row in the journal stays.
    pub(super) fn retire(&mut self, id: &str) {
        let Some(JobEntry { job, queued, origin }) = self.jobs.remove(id) else { return };
        if let Some(queued) = queued {
            self.ready.remove(&queued);
        }
        self.finished.possible_duplicates += u64::from(job.possible_duplicates);
        match job.failure_reason() {
            None if origin == JobOrigin::Settled => self.finished.already += 1,
            None => self.finished.done += 1,
            Some(reason) => {
                self.finished.dead.retain(|t| t.id != job.id);
                self.finished.dead.push_back(TroubledCall { id: job.id.clone(), reason: reason.to_owned() });
                if self.finished.dead.len() > MAX_DEAD_KEPT {
                    self.finished.dead.pop_front();
                }
            }
        }
    }
}

/// Maximum number of calls with a given-up delivery that the summary lists. The journal has all of them.
pub(crate) const MAX_DEAD_KEPT: usize = 1_000;
