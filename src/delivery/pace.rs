//! Limits the rate of requests: pauses after failures, the rate limit of Pyrus, the circuit breaker, and the limit of
//! `auth` requests.
//!
//! The *circuit breaker* opens when Pyrus cannot be reached. While it is open, only one request at a time is sent, to
//! test whether Pyrus can be reached again.

use std::time::Duration;

use super::verdict::{RateLimitHeaders, seconds};
use crate::time::Timestamp;

/// Pauses and limits of delivery. Tests use shorter pauses than the defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliveryTuning {
    /// Pause after the first failed request. It doubles with each further failure.
    pub backoff: Duration,
    /// Maximum pause after a failed request.
    pub backoff_max: Duration,
    /// Pause when a job is parked for the first time, i.e. when it begins to wait for the administrator. The pause
    /// doubles each time the job is parked again.
    pub park: Duration,
    /// Maximum pause before a parked job, i.e. a job that waits for the administrator, is tried again.
    pub park_max: Duration,
    /// Pause after a "too many requests" response that does not say how long to wait. It doubles with each further
    /// response of this kind.
    pub wait: Duration,
    /// Maximum pause after a "too many requests" response that does not say how long to wait.
    pub wait_max: Duration,
    /// Maximum number of requests that wait for their responses at the same time.
    pub max_in_flight: usize,
    /// Number of consecutive failures to reach Pyrus that open the circuit breaker. While it is open, only one request
    /// at a time is sent.
    pub breaker_failures: u32,
    /// Number of access tokens that may be fetched in quick succession. After that, [`DeliveryTuning::auth_interval`]
    /// limits further requests.
    pub auth_burst: u32,
    /// Time after which one more request for an access token is allowed, if [`DeliveryTuning::auth_burst`] is used up.
    pub auth_interval: Duration,
}

impl Default for DeliveryTuning {
    fn default() -> Self {
        Self {
            backoff: Duration::from_secs(1),
            backoff_max: Duration::from_secs(300),
            park: Duration::from_secs(900),
            park_max: Duration::from_secs(3600),
            wait: Duration::from_secs(60),
            wait_max: Duration::from_secs(600),
            max_in_flight: 4,
            breaker_failures: 5,
            auth_burst: 5,
            auth_interval: Duration::from_secs(10),
        }
    }
}

/// Controls the rate of requests. All requests share one limit, because Pyrus counts all requests of a login together.
#[derive(Debug)]
pub(super) struct RequestPacer {
    tuning: DeliveryTuning,
    rng: fastrand::Rng,
    /// End of the pause after a "too many requests" response; `None` if requests need not pause.
    paused_until: Option<Timestamp>,
    /// Number of consecutive "too many requests" responses that did not say how long to wait.
    unspecified_waits: u32,
    /// Rate-limit window: the number of requests that are still allowed, and the end of the window; `None` if unknown.
    window: Option<(i64, Timestamp)>,
    /// Number of consecutive failures to reach Pyrus.
    failures_to_reach: u32,
    /// Time of the first of the consecutive failures to reach Pyrus; `None` if the newest request reached Pyrus.
    unreachable_since: Option<Timestamp>,
    probe_at: Timestamp,
    auth_credit: u32,
    auth_credit_at: Timestamp,
}

/// Whether a request may be sent to Pyrus now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendPermission {
    Now,
    At(Timestamp),
    /// A request may be sent after all earlier requests got their responses.
    AfterAnswer,
}

impl RequestPacer {
    pub(super) fn new(tuning: DeliveryTuning, seed: u64) -> Self {
        Self {
            tuning,
            rng: fastrand::Rng::with_seed(seed),
            paused_until: None,
            unspecified_waits: 0,
            window: None,
            failures_to_reach: 0,
            unreachable_since: None,
            probe_at: Timestamp::EPOCH,
            auth_credit: tuning.auth_burst,
            auth_credit_at: Timestamp::EPOCH,
        }
    }

    /// Counts a request that was sent. One request fewer is left in the window of the rate limit.
    pub(super) fn handle_sent(&mut self) {
        if let Some((remaining, _)) = &mut self.window {
            *remaining -= 1;
        }
    }

    /// Updates the rate limit from the headers of a response. The number of requests left is lowered by the requests in
    /// flight, because Pyrus may not have counted them yet.
    pub(super) fn handle_rate_headers(&mut self, now: Timestamp, rate: &RateLimitHeaders, in_flight: usize) {
        let remaining = rate.remaining.as_ref().and_then(|r| r.trim().parse::<i64>().ok());
        let reset = rate.reset.as_ref().and_then(|r| seconds(r));
        if let (Some(remaining), Some(reset)) = (remaining, reset) {
            // Pyrus rounds the time until the rate limit resets to whole seconds. One second is added, so that the next
            // request is not sent too early.
            let end = now + reset.min(MAX_WINDOW) + Duration::from_secs(1);
            let left = remaining - i64::try_from(in_flight).unwrap_or(i64::MAX);
            // Responses may arrive in another order than Pyrus sent them. Within one rate-limit window, the response
            // with the lowest number of requests left is the newest.
            self.window = Some(match self.window {
                Some((known, end)) if now < end => (known.min(left), end),
                _ => (left, end),
            });
        }
    }

    /// Pauses all requests after a "too many requests" response. `said` is the pause that the response asks for; `None`
    /// if it asks for no particular pause.
    pub(super) fn handle_rate_limited(&mut self, now: Timestamp, said: Option<Duration>) {
        let wait = said.unwrap_or_else(|| doubled(self.tuning.wait, self.unspecified_waits, self.tuning.wait_max));
        self.unspecified_waits = if said.is_some() { 0 } else { self.unspecified_waits.saturating_add(1) };
        let jitter = Duration::from_millis(self.rng.u64(0..=1_000));
        let until = now + wait + jitter;
        self.paused_until = Some(self.paused_until.map_or(until, |p| p.max(until)));
        self.window = None; // the pause replaces the window
    }

    /// Records that Pyrus responded, whether with success or with an error. So an outage is over, and requests are no
    /// longer held back (the circuit breaker is closed).
    pub(super) fn handle_reached(&mut self) {
        self.failures_to_reach = 0;
        self.unreachable_since = None;
    }

    /// Records a response other than "too many requests". It resets the length of the pauses.
    pub(super) fn handle_within_rate(&mut self) {
        self.unspecified_waits = 0;
    }

    /// Records that Pyrus could not be reached, which counts towards the circuit breaker.
    pub(super) fn handle_unreachable(&mut self, now: Timestamp) {
        self.failures_to_reach = self.failures_to_reach.saturating_add(1);
        self.unreachable_since.get_or_insert(now);
        let over = self.failures_to_reach.saturating_sub(self.tuning.breaker_failures);
        self.probe_at = now + self.backoff(over);
    }

    /// Returns a random pause between 0.1 s and `backoff` * 2^`failures`, at most `backoff_max`. Because pauses are
    /// random, many clients do not retry at the same moment.
    pub(super) fn backoff(&mut self, failures: u32) -> Duration {
        let top = doubled(self.tuning.backoff, failures, self.tuning.backoff_max);
        let nanos = u64::try_from(top.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.rng.u64(0..=nanos)).max(top.min(MIN_BACKOFF))
    }

    /// Returns the pause of a job that is parked now (must wait for the administrator) and was parked `times` times
    /// before.
    pub(super) fn park_pause(&self, times: u32) -> Duration {
        doubled(self.tuning.park, times, self.tuning.park_max)
    }

    /// Permits one `auth` request and counts it. If no request is permitted yet, returns the time of the next
    /// permission as an error.
    pub(super) fn take_auth(&mut self, now: Timestamp) -> Result<(), Timestamp> {
        while self.auth_credit < self.tuning.auth_burst && self.auth_credit_at + self.tuning.auth_interval <= now {
            self.auth_credit += 1;
            self.auth_credit_at = self.auth_credit_at + self.tuning.auth_interval;
        }
        if self.auth_credit == 0 {
            return Err(self.auth_credit_at + self.tuning.auth_interval);
        }
        if self.auth_credit == self.tuning.auth_burst {
            self.auth_credit_at = now;
        }
        self.auth_credit -= 1;
        Ok(())
    }

    /// Returns whether a request may be sent now. `in_flight` is the number of requests without a response.
    pub(super) fn permission(&mut self, now: Timestamp, in_flight: usize) -> SendPermission {
        if let Some(until) = self.paused_until {
            if now < until {
                return SendPermission::At(until);
            }
            self.paused_until = None;
        }
        if self.is_unreachable() {
            if in_flight > 0 {
                return SendPermission::AfterAnswer;
            }
            if now < self.probe_at {
                return SendPermission::At(self.probe_at);
            }
        }
        match self.window {
            Some((_, end)) if now >= end => self.window = None,
            Some((remaining, end)) if remaining <= 0 => return SendPermission::At(end),
            _ => {}
        }
        SendPermission::Now
    }

    /// Returns whether the circuit breaker is open, because Pyrus could not be reached several times in a row.
    pub(super) const fn is_unreachable(&self) -> bool {
        self.failures_to_reach >= self.tuning.breaker_failures
    }

    /// Returns the time since the first of the consecutive failures to reach Pyrus; zero without a failure.
    pub(super) fn unreachable_for(&self, now: Timestamp) -> Duration {
        self.unreachable_since.map_or(Duration::ZERO, |since| now.since(since))
    }

    /// Returns whether a pause is in effect, or no request is left in the window of the rate limit.
    pub(super) fn is_rate_limited(&self, now: Timestamp) -> bool {
        self.paused_until.is_some_and(|until| now < until)
            || self.window.is_some_and(|(remaining, end)| remaining <= 0 && now < end)
    }

    pub(super) const fn tuning(&self) -> &DeliveryTuning {
        &self.tuning
    }
}

fn doubled(first: Duration, times: u32, most: Duration) -> Duration {
    first.saturating_mul(1u32.checked_shl(times).unwrap_or(u32::MAX)).min(most)
}

/// Minimum pause before a repeat. Without a minimum, the random pause could be zero.
const MIN_BACKOFF: Duration = Duration::from_millis(100);

/// Maximum length of a rate-limit window. Pyrus has windows of 10 minutes, so a longer time in a header is an error.
const MAX_WINDOW: Duration = Duration::from_secs(900);
