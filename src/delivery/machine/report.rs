//! How things stand, for people.

use std::collections::VecDeque;

use super::{Entry, Machine, Origin, Purpose};
use crate::delivery::job::{Job, Standing};
use crate::time::Timestamp;

/// How things stand, for people and for `replay --deliver`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Calls that were finished since the start.
    pub done: usize,
    /// Calls that were told again and had been finished before.
    pub already: usize,
    /// Calls that wait for their end or their recording.
    pub waiting: usize,
    /// Calls that are still to be delivered and will be tried.
    pub owed: usize,
    /// Calls for which a person must act.
    pub parked: Vec<Trouble>,
    /// Calls that will never be whole in Pyrus (the last [`MAX_DEAD_KEPT`]).
    pub dead: Vec<Trouble>,
    /// Requests that may have been done twice, because Pyrus gave no definite answer.
    pub possible_duplicates: u64,
    /// What keeps everything from being delivered and needs a person: a refused login or account.
    pub alarm: Option<String>,
    /// Why the newest request was not answered, if it was not.
    pub trouble: Option<String>,
    /// Of which kind the alarm is, if there is one.
    pub blocked_by: Option<Blocked>,
    /// Field codes that Pyrus did not take.
    pub dropped_codes: Vec<String>,
}

/// What keeps everything from being delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// Login or key are refused.
    Login,
    /// The account or its form is refused.
    Account,
    /// Pyrus cannot be reached; it is tried again.
    Away,
}

/// A call that is in trouble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The call.
    pub id: String,
    /// For a person.
    pub why: String,
}

#[derive(Debug, Default)]
pub(super) struct Finished {
    pub(super) done: usize,
    pub(super) already: usize,
    pub(super) dead: VecDeque<Trouble>,
    pub(super) possible_duplicates: u64,
    pub(super) successes: u64,
}

impl Machine {
    /// Nothing is owed that can succeed without a person, a call's end or a recording.
    pub fn is_settled(&self) -> bool {
        self.flights.is_empty()
            && self.dirty.is_empty()
            && self.rows.is_empty()
            && (self.is_refused()
                || self.jobs.values().all(|e| {
                    matches!(e.job.standing, Standing::Parked { .. } | Standing::Dead { .. }) || e.job.step().is_none()
                }))
    }

    /// How things stand.
    pub fn summary(&self) -> Summary {
        let mut summary = Summary {
            done: self.finished.done,
            already: self.finished.already,
            dead: self.finished.dead.iter().cloned().collect(),
            possible_duplicates: self.finished.possible_duplicates,
            alarm: self.alarm.clone(),
            trouble: self.trouble.clone(),
            blocked_by: self.blocked_by(),
            dropped_codes: self.dropped.keys().cloned().collect(),
            ..Summary::default()
        };
        for Entry { job, .. } in self.jobs.values() {
            summary.possible_duplicates += u64::from(job.possible_duplicates);
            match &job.standing {
                Standing::Parked { why, .. } => {
                    summary.parked.push(Trouble { id: job.id.clone(), why: why.clone() });
                }
                _ if job.is_settled() => {}
                _ if job.step().is_none() && !self.is_under_way(&job.id) => summary.waiting += 1,
                _ => summary.owed += 1,
            }
        }
        summary
    }

    /// Requests that were done since the start.
    pub const fn successes(&self) -> u64 {
        self.finished.successes
    }

    /// Pyrus asked for a pause, or the rate is used up: waiting is right now the only thing to do.
    pub fn is_paced(&self, now: Timestamp) -> bool {
        self.pace.is_paced(now)
    }

    /// The jobs that are not finished, for tests and people.
    pub fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.jobs.values().map(|e| &e.job)
    }

    /// In the order in which the alarm names them.
    fn blocked_by(&self) -> Option<Blocked> {
        if self.token.hold.why.is_some() {
            Some(Blocked::Login)
        } else if self.account.why.is_some() {
            Some(Blocked::Account)
        } else {
            self.away.as_ref().map(|_| Blocked::Away)
        }
    }

    fn is_refused(&self) -> bool {
        self.token.hold.why.is_some() || self.account.why.is_some()
    }

    fn is_under_way(&self, id: &str) -> bool {
        self.flights.values().any(|f| matches!(&f.what, Purpose::Job { id: flying, .. } if flying == id))
    }

    /// A settled job leaves the memory; the journal has it.
    pub(super) fn retire(&mut self, id: &str) {
        let Some(Entry { job, queued, origin }) = self.jobs.remove(id) else { return };
        if let Some(queued) = queued {
            self.ready.remove(&queued);
        }
        self.finished.possible_duplicates += u64::from(job.possible_duplicates);
        match job.death() {
            None if origin == Origin::Settled => self.finished.already += 1,
            None => self.finished.done += 1,
            Some(why) => {
                self.finished.dead.retain(|t| t.id != job.id);
                self.finished.dead.push_back(Trouble { id: job.id.clone(), why: why.to_owned() });
                if self.finished.dead.len() > MAX_DEAD_KEPT {
                    self.finished.dead.pop_front();
                }
            }
        }
    }
}

/// Dead calls that the summary names; all are in the journal.
pub const MAX_DEAD_KEPT: usize = 1_000;
