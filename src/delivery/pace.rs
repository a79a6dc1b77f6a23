//! How fast: back-off, the rate limit, the breaker and the gate before `auth`.

use std::time::Duration;

use super::verdict::{RateHeaders, seconds};
use crate::time::Timestamp;

/// Times and counts of delivery. The defaults are the product's; tests shorten them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// First pause after a failure; doubled with each.
    pub backoff: Duration,
    /// Longest pause after a failure.
    pub backoff_max: Duration,
    /// First pause of what a person must mend; doubled with each.
    pub park: Duration,
    /// Longest of those.
    pub park_max: Duration,
    /// Pause after "too many requests" without a time; doubled with each.
    pub wait: Duration,
    /// Longest of those.
    pub wait_max: Duration,
    /// Requests under way at once.
    pub side_by_side: usize,
    /// Failures to reach Pyrus in a row after which one request at a time tries whether it is back.
    pub breaker: u32,
    /// Tokens fetched at once before [`Tuning::auth_every`] holds.
    pub auth_burst: u32,
    /// Another token after so long.
    pub auth_every: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            backoff: Duration::from_secs(1),
            backoff_max: Duration::from_secs(300),
            park: Duration::from_secs(900),
            park_max: Duration::from_secs(3600),
            wait: Duration::from_secs(60),
            wait_max: Duration::from_secs(600),
            side_by_side: 4,
            breaker: 5,
            auth_burst: 5,
            auth_every: Duration::from_secs(10),
        }
    }
}

/// The pace of the whole client: everything that one account shares.
#[derive(Debug)]
pub(super) struct Pace {
    tuning: Tuning,
    rng: fastrand::Rng,
    /// After "too many requests": nothing before this moment.
    paused_until: Option<Timestamp>,
    /// "Too many requests" without a time, in a row.
    waits: u32,
    /// Requests left in this window, as far as known, and its end.
    window: Option<(i64, Timestamp)>,
    /// Failures to reach Pyrus in a row.
    away: u32,
    probe_at: Timestamp,
    auth_credit: u32,
    auth_credit_at: Timestamp,
}

/// What the pace says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Go {
    Now,
    At(Timestamp),
    /// When what is under way has been answered.
    AfterAnswer,
}

impl Pace {
    pub(super) fn new(tuning: Tuning, seed: u64) -> Self {
        Self {
            tuning,
            rng: fastrand::Rng::with_seed(seed),
            paused_until: None,
            waits: 0,
            window: None,
            away: 0,
            probe_at: Timestamp::EPOCH,
            auth_credit: tuning.auth_burst,
            auth_credit_at: Timestamp::EPOCH,
        }
    }

    /// A request goes out.
    pub(super) fn handle_sent(&mut self) {
        if let Some((remaining, _)) = &mut self.window {
            *remaining -= 1;
        }
    }

    /// An answer says how much is left. Those still under way may not be counted in it yet.
    pub(super) fn handle_rate(&mut self, now: Timestamp, rate: &RateHeaders, under_way: usize) {
        let remaining = rate.remaining.as_ref().and_then(|r| r.trim().parse::<i64>().ok());
        let reset = rate.reset.as_ref().and_then(|r| seconds(r));
        if let (Some(remaining), Some(reset)) = (remaining, reset) {
            // The header has whole seconds: one more, so as not to be a fraction too early.
            let end = now + reset.min(MAX_WINDOW) + Duration::from_secs(1);
            let left = remaining - i64::try_from(under_way).unwrap_or(i64::MAX);
            // Answers of requests side by side overtake each other: within a window the lowest number holds.
            self.window = Some(match self.window {
                Some((known, end)) if now < end => (known.min(left), end),
                _ => (left, end),
            });
        }
    }

    /// "Too many requests": the whole client waits.
    pub(super) fn handle_wait(&mut self, now: Timestamp, said: Option<Duration>) {
        let wait = said.unwrap_or_else(|| doubled(self.tuning.wait, self.waits, self.tuning.wait_max));
        self.waits = if said.is_some() { 0 } else { self.waits.saturating_add(1) };
        let jitter = Duration::from_millis(self.rng.u64(0..=1_000));
        let until = now + wait + jitter;
        self.paused_until = Some(self.paused_until.map_or(until, |p| p.max(until)));
        self.window = None; // what was said now is newer
    }

    /// Pyrus answered, whatever it said.
    pub(super) fn handle_reached(&mut self) {
        self.away = 0;
    }

    /// An answer other than "too many requests".
    pub(super) fn handle_within_rate(&mut self) {
        self.waits = 0;
    }

    /// Pyrus could not be reached.
    pub(super) fn handle_away(&mut self, now: Timestamp) {
        self.away = self.away.saturating_add(1);
        let over = self.away.saturating_sub(self.tuning.breaker);
        self.probe_at = now + self.backoff(over);
    }

    /// Full jitter: anything between nothing and 1 s * 2^n (5 min at most), so that many do not come at once.
    pub(super) fn backoff(&mut self, failures: u32) -> Duration {
        let top = doubled(self.tuning.backoff, failures, self.tuning.backoff_max);
        let nanos = u64::try_from(top.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.rng.u64(0..=nanos)).max(top.min(MIN_BACKOFF))
    }

    /// The pause of what a person must mend.
    pub(super) fn park(&self, times: u32) -> Duration {
        doubled(self.tuning.park, times, self.tuning.park_max)
    }

    /// Takes one of the few tokens that may be fetched in a time.
    pub(super) fn take_auth(&mut self, now: Timestamp) -> Result<(), Timestamp> {
        while self.auth_credit < self.tuning.auth_burst && self.auth_credit_at + self.tuning.auth_every <= now {
            self.auth_credit += 1;
            self.auth_credit_at = self.auth_credit_at + self.tuning.auth_every;
        }
        if self.auth_credit == 0 {
            return Err(self.auth_credit_at + self.tuning.auth_every);
        }
        if self.auth_credit == self.tuning.auth_burst {
            self.auth_credit_at = now;
        }
        self.auth_credit -= 1;
        Ok(())
    }

    /// Whether anything may be sent now.
    pub(super) fn go(&mut self, now: Timestamp, under_way: usize) -> Go {
        if let Some(until) = self.paused_until {
            if now < until {
                return Go::At(until);
            }
            self.paused_until = None;
        }
        if self.is_away() {
            if under_way > 0 {
                return Go::AfterAnswer;
            }
            if now < self.probe_at {
                return Go::At(self.probe_at);
            }
        }
        match self.window {
            Some((_, end)) if now >= end => self.window = None,
            Some((remaining, end)) if remaining <= 0 => return Go::At(end),
            _ => {}
        }
        Go::Now
    }

    /// Pyrus is away: one request at a time tries whether it is back.
    pub(super) const fn is_away(&self) -> bool {
        self.away >= self.tuning.breaker
    }

    /// Pyrus said how long to wait, or how little is left.
    pub(super) fn is_paced(&self, now: Timestamp) -> bool {
        self.paused_until.is_some_and(|until| now < until)
            || self.window.is_some_and(|(remaining, end)| remaining <= 0 && now < end)
    }

    pub(super) const fn tuning(&self) -> &Tuning {
        &self.tuning
    }
}

fn doubled(first: Duration, times: u32, most: Duration) -> Duration {
    first.saturating_mul(1u32.checked_shl(times).unwrap_or(u32::MAX)).min(most)
}

/// Full jitter may give nothing at all; a repeat takes at least this long (or the longest pause, if that is less).
const MIN_BACKOFF: Duration = Duration::from_millis(100);

/// The window of the API is 10 minutes; a header that says more than this is wrong.
const MAX_WINDOW: Duration = Duration::from_secs(900);
