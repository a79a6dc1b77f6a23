//! Handles the outcomes of requests to Pyrus: changes the job, the token and the limits.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{ClientTokenState, DeliveryMachine, JobEntry, JobRequest, RefusalHold, TokenId, TokenProof, split};
use crate::delivery::job::{
    DeliveryJob, DeliveryPart, EndNotice, FormFieldMode, JobStatus, PartState, PyrusRegistration, UploadReceipt,
};
use crate::delivery::row::{DeliveryRow, DroppedCode};
use crate::delivery::verdict::{
    NO_RESPONSE, OutcomeAssessment, PyrusEndpoint, RequestEffect, RequestOutcome, ResponseData, ResponseVerdict,
    VerdictFallback, VerdictScope,
};
use crate::time::Timestamp;

impl DeliveryMachine {
    /// Updates the limits on the rate of requests from the outcome of a request: the rate limit of Pyrus, and whether
    /// Pyrus can be reached.
    pub(super) fn update_pacer(
        &mut self,
        now: Timestamp,
        endpoint: PyrusEndpoint,
        outcome: &RequestOutcome,
        assessment: &OutcomeAssessment,
    ) {
        if let (RequestOutcome::Response(response), false) =
            (outcome, matches!(assessment.verdict, ResponseVerdict::Wait(_)))
        {
            self.pacer.handle_rate_headers(now, &response.rate, self.in_flight.len());
        }
        match (&assessment.verdict, outcome) {
            (ResponseVerdict::Wait(said), _) => {
                self.pacer.handle_reached();
                self.pacer.handle_rate_limited(now, *said);
            }
            _ if assessment.is_unreachable => self.pacer.handle_unreachable(now),
            (_, RequestOutcome::Response(_)) => {
                self.pacer.handle_reached();
                self.pacer.handle_within_rate();
            }
            (_, RequestOutcome::Failed(_)) => {}
        }
        if assessment.is_unreachable {
            self.handle_unreachable(now, endpoint, &assessment.reason);
            return;
        }
        if matches!(outcome, RequestOutcome::Response(_)) {
            (self.last_failure, self.outage) = (None, None);
        }
        self.update_alarm();
    }

    /// Raises the alarm about an outage after several failures to reach Pyrus. If no call waits, the failures must have
    /// lasted for [`CHECK_PATIENCE`]. An alarm that is already open stays open, even if an earlier process raised it.
    fn handle_unreachable(&mut self, now: Timestamp, endpoint: PyrusEndpoint, reason: &str) {
        self.last_failure = Some(reason.to_owned());
        let is_call_waiting = endpoint != PyrusEndpoint::Auth || self.ready.first().is_some_and(|key| key.due <= now);
        let is_outage = self.outage.is_some() || is_call_waiting || self.pacer.unreachable_for(now) >= CHECK_PATIENCE;
        if self.pacer.is_unreachable() && is_outage {
            self.outage = Some(format!(
                "Pyrus cannot be reached: check auth_url in [pyrus] and the network; calls are kept and sent as soon as \
                 Pyrus answers. The failure: {reason}"
            ));
            self.update_alarm();
        }
    }

    /// Handles the outcome of a request for a new token. The outcome is ignored if login or key were replaced during
    /// the request.
    pub(super) fn handle_auth_outcome(&mut self, now: Timestamp, token: TokenId, assessment: OutcomeAssessment) {
        if std::mem::take(&mut self.token.state) == ClientTokenState::FetchingOutdated {
            return;
        }
        match assessment.verdict {
            ResponseVerdict::Done(_) => {
                self.token.state = ClientTokenState::Have(token, TokenProof::Fresh);
                (self.token.is_check_due, self.token.is_answered) = (false, true);
                self.token.hold = RefusalHold::default();
                self.update_alarm();
            }
            ResponseVerdict::Wait(_) => {}
            ResponseVerdict::Backoff { limit, .. } if limit.is_none_or(|l| self.token.failures < l.retries) => {
                self.token.failures += 1;
                self.token.not_before = now + self.pacer.backoff(self.token.failures);
                if let Some(pause) = assessment.retry_after {
                    self.pacer.handle_rate_limited(now, Some(pause));
                }
            }
            _ => {
                self.token.is_answered = true;
                self.token.hold.extend(now + self.pacer.park_pause(self.token.hold.times), assessment.reason);
                self.update_alarm();
            }
        }
    }

    /// Updates the state of the access token that a request used. If Pyrus refused the token, it is discarded. If Pyrus
    /// never accepted this token, the next token is fetched only after a pause.
    pub(super) fn update_token(&mut self, now: Timestamp, used: TokenId, assessment: &OutcomeAssessment) {
        let ClientTokenState::Have(current, proof) = self.token.state else { return };
        if current != used {
            return;
        }
        match assessment.verdict {
            ResponseVerdict::Reauth(_) => {
                self.token.state = ClientTokenState::None;
                if proof == TokenProof::Accepted {
                    self.token.failures = 0;
                } else {
                    self.token.not_before = now + self.pacer.backoff(self.token.failures);
                    self.token.failures += 1;
                }
            }
            ResponseVerdict::Done(_) => {
                self.token.state = ClientTokenState::Have(current, TokenProof::Accepted);
                self.token.failures = 0;
            }
            _ => {}
        }
    }

    /// Holds back the requests of all calls if Pyrus refuses the telephony account. The hold ends when a later request,
    /// other than an upload, succeeds.
    pub(super) fn update_account_hold(
        &mut self,
        now: Timestamp,
        endpoint: PyrusEndpoint,
        assessment: &OutcomeAssessment,
    ) {
        match (&assessment.verdict, assessment.scope) {
            (ResponseVerdict::Park, VerdictScope::Account) => {
                self.account_hold
                    .extend(now + self.pacer.park_pause(self.account_hold.times), assessment.reason.clone());
            }
            (ResponseVerdict::Done(_), _) if endpoint != PyrusEndpoint::Upload => {
                self.account_hold = RefusalHold::default()
            }
            _ => return,
        }
        self.update_alarm();
    }

    /// Handles the outcome of a request of a job. `codes` are the codes of the form fields that the request contained.
    pub(super) fn handle_job_outcome(
        &mut self,
        now: Timestamp,
        id: &str,
        kind: &JobRequest,
        assessment: OutcomeAssessment,
        codes: &[String],
    ) {
        let Some(entry) = self.jobs.get_mut(id) else { return };
        let job = &mut entry.job;
        let OutcomeAssessment { verdict, reason, code, retry_after, scope, .. } = assessment;
        if let ResponseVerdict::Done(data) = verdict {
            let unacceptable = data.unacceptable_fields.clone();
            job.note = data.has_warning.then(|| reason.clone());
            apply_success(job, kind, data, now);
            if codes.iter().any(|code| self.policy.tells_end(code)) {
                job.end = EndNotice::Settled;
            }
            if let Some(text) = unacceptable {
                self.drop_codes(now, &text, codes, &reason);
            }
            return;
        }
        revert_progress(job, kind, &verdict);
        job.note = Some(reason.clone());
        if matches!(kind, JobRequest::TellEnd) && scope == VerdictScope::Call && is_refusal(&verdict) {
            job.note = Some(format!("{END_NOT_TOLD}: {reason}"));
            job.end = EndNotice::Settled;
            return;
        }
        if verdict == ResponseVerdict::TooLarge && self.split(id, kind) {
            return;
        }
        let job = &mut self.jobs.get_mut(id).expect("the job of a handled outcome is in memory").job;
        let attempts = job.retries.attempts;
        let consequence = failure_consequence(job, kind, &verdict);
        if let (FailureConsequence::Later, Some(pause)) = (&consequence, retry_after) {
            self.pacer.handle_rate_limited(now, Some(pause));
        }
        // A server may refuse a token (401) before it reads the body of an upload, and then reset the connection. The
        // reset can destroy the 401 response. So after every second upload without a response, a new token is fetched.
        if matches!(kind, JobRequest::Upload(_)) && code == NO_RESPONSE && attempts % 2 == 1 && self.token.is_idle() {
            self.token.state = ClientTokenState::None;
        }
        self.apply_consequence(now, id, kind, consequence, reason);
    }

    /// Splits a file that the server refused as too large. Returns false if the file cannot be split further.
    fn split(&mut self, id: &str, kind: &JobRequest) -> bool {
        let (JobRequest::Upload(number) | JobRequest::Attach(number)) = kind else { return false };
        let Some(JobEntry { job, .. }) = self.jobs.get_mut(id) else { return false };
        let Some(limit) =
            find_part(job, *number).filter(|p| split::can_be_split(p)).and_then(|p| split::halved_limit(p.bytes))
        else {
            return false;
        };
        let limit = self.learned_limit.map_or(limit, |known| known.min(limit));
        self.learned_limit = Some(limit);
        split::split(job, *number, limit);
        job.status = JobStatus::Active { not_before: None };
        job.retries.attempts = 0;
        true
    }

    /// Changes a job after a failed request, as `consequence` says.
    fn apply_consequence(
        &mut self,
        now: Timestamp,
        id: &str,
        kind: &JobRequest,
        consequence: FailureConsequence,
        reason: String,
    ) {
        let job = &mut self.jobs.get_mut(id).expect("the job of a handled outcome is in memory").job;
        match consequence {
            FailureConsequence::Again => job.status = JobStatus::Active { not_before: None },
            FailureConsequence::Later => {
                job.retries.attempts = job.retries.attempts.saturating_add(1);
                let pause = self.pacer.backoff(job.retries.attempts - 1);
                job.status = JobStatus::Active { not_before: Some(now + pause) };
            }
            FailureConsequence::Park => {
                let times = if let JobStatus::Parked { times, .. } = job.status { times } else { 0 };
                let retry_at = now + self.pacer.park_pause(times);
                job.status = JobStatus::Parked { reason, retry_at, times: times.saturating_add(1) };
            }
            FailureConsequence::Dead => match kind {
                JobRequest::Register(_) => job.status = JobStatus::Dead { reason },
                JobRequest::TellEnd => {
                    job.status = JobStatus::Active { not_before: None };
                    job.end = EndNotice::Settled;
                }
                JobRequest::Upload(number) | JobRequest::Attach(number) => {
                    job.status = JobStatus::Active { not_before: None };
                    if let Some(part) = find_part(job, *number) {
                        part.state = PartState::Dead { reason };
                    }
                }
            },
        }
    }

    /// Stores the refused form fields: the codes in `sent` that Pyrus names in its response `text`. Later requests
    /// leave these fields out.
    fn drop_codes(&mut self, now: Timestamp, text: &str, sent: &[String], reason: &str) {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let named: BTreeSet<&str> = text.split(|c| !is_word(c)).collect();
        for code in sent.iter().filter(|c| named.contains(c.as_str())) {
            if !self.dropped_codes.contains_key(code) {
                let dropped = DroppedCode { code: code.clone(), at: now, reason: reason.to_owned() };
                self.rows.push_back(DeliveryRow::Dropped(dropped.clone()));
                self.dropped_codes.insert(code.clone(), dropped);
            }
        }
    }

    fn update_alarm(&mut self) {
        let alarm = self.token.hold.reason.as_ref().or(self.account_hold.reason.as_ref()).or(self.outage.as_ref());
        // While an outage lasts, the alarm keeps its first text, because every new text would raise another alarm.
        if self.outage.is_some() && self.alarm.is_some() && alarm == self.outage.as_ref() {
            return;
        }
        if self.alarm.as_ref() != alarm {
            self.alarm = alarm.cloned();
            self.rows.push_back(DeliveryRow::Alarm(self.alarm.clone()));
        }
    }
}

impl RefusalHold {
    /// Holds back requests until the time `until`, because Pyrus refused a request.
    fn extend(&mut self, until: Timestamp, reason: String) {
        self.until = until;
        self.times = self.times.saturating_add(1);
        self.reason = Some(reason);
    }
}

/// The next action for a job after its request has failed.
enum FailureConsequence {
    /// The request is repeated as soon as the rate limit allows.
    Again,
    /// The request is repeated after a growing pause.
    Later,
    Park,
    Dead,
}

impl From<VerdictFallback> for FailureConsequence {
    fn from(fallback: VerdictFallback) -> Self {
        match fallback {
            VerdictFallback::Backoff => Self::Later,
            VerdictFallback::Park => Self::Park,
            VerdictFallback::Dead => Self::Dead,
        }
    }
}

/// Updates a job after its request succeeded.
fn apply_success(job: &mut DeliveryJob, kind: &JobRequest, data: ResponseData, now: Timestamp) {
    job.status = JobStatus::Active { not_before: None };
    job.retries.attempts = 0;
    job.retries.limited = 0;
    job.retries.reauthorised = 0;
    match kind {
        JobRequest::Register(_) => {
            job.registration = PyrusRegistration::Known { task_id: data.task_id };
            job.responsible = data.responsible.or(job.responsible.take());
        }
        JobRequest::Upload(number) => {
            let upload =
                UploadReceipt { guid: data.guid.unwrap_or_default(), md5: data.md5.unwrap_or_default(), at: now };
            if let Some(part) = find_part(job, *number) {
                part.state = PartState::Uploaded(upload);
            }
        }
        JobRequest::TellEnd => job.end = EndNotice::Settled,
        JobRequest::Attach(number) => {
            job.retries.reregistered = 0;
            job.retries.reuploaded = 0;
            if let Some(part) = find_part(job, *number)
                && let PartState::Attaching(upload) = part.state.clone()
            {
                part.state = PartState::Attached(upload);
            }
            // The request named the call only by its `external_id`, not by a task id. Pyrus executed the request, so
            // the call is registered.
            if job.registration == PyrusRegistration::Unsure {
                job.registration = PyrusRegistration::Known { task_id: data.task_id };
            }
        }
    }
}

/// Returns whether the verdict means that the same request would fail again.
const fn is_refusal(verdict: &ResponseVerdict) -> bool {
    matches!(
        verdict,
        ResponseVerdict::Reupload
            | ResponseVerdict::Reregister(_)
            | ResponseVerdict::WithoutFields
            | ResponseVerdict::TooLarge
            | ResponseVerdict::Dead
            | ResponseVerdict::Park
    )
}

/// Sets a job back to its state before a request that failed or has an unknown outcome.
fn revert_progress(job: &mut DeliveryJob, kind: &JobRequest, verdict: &ResponseVerdict) {
    let perhaps = matches!(verdict, ResponseVerdict::Backoff { effect: RequestEffect::Possible, .. });
    match kind {
        // If the outcome is unknown, the request with the end of the call is not repeated. A second comment in the task
        // would be worse than a missing end.
        JobRequest::TellEnd => job.end = if perhaps { EndNotice::Settled } else { EndNotice::Untold },
        JobRequest::Register(_) if perhaps => job.registration = PyrusRegistration::Unsure,
        JobRequest::Register(before) => {
            if *before == PyrusRegistration::Unsure {
                // Pyrus certainly did not execute this repeated request to register the call, so another repeat is
                // allowed.
                job.retries.blind_repeats = 0;
                job.possible_duplicates = job.possible_duplicates.saturating_sub(1);
            }
            job.registration = before.clone();
        }
        JobRequest::Upload(number) => {
            if let Some(part) = find_part(job, *number) {
                part.state = PartState::Waiting;
            }
        }
        JobRequest::Attach(number) => {
            job.possible_duplicates += u32::from(perhaps);
            if let Some(part) = find_part(job, *number)
                && let PartState::Attaching(upload) = part.state.clone()
            {
                part.state = PartState::Uploaded(upload); // not uploaded again: that could attach two files
            }
        }
    }
}

/// Decides what happens to a job after a failed request, and counts the failure.
fn failure_consequence(job: &mut DeliveryJob, kind: &JobRequest, verdict: &ResponseVerdict) -> FailureConsequence {
    match *verdict {
        ResponseVerdict::Done(_) | ResponseVerdict::Wait(_) => FailureConsequence::Again,
        ResponseVerdict::Reauth(fallback) => {
            job.retries.reauthorised += 1;
            if job.retries.reauthorised == 1 {
                return FailureConsequence::Again;
            }
            job.retries.reauthorised = 0;
            fallback.into()
        }
        ResponseVerdict::Backoff { limit: None, .. } => FailureConsequence::Later,
        ResponseVerdict::Backoff { limit: Some(limit), .. } => {
            job.retries.limited = job.retries.limited.saturating_add(1);
            if job.retries.limited > limit.retries { limit.fallback.into() } else { FailureConsequence::Later }
        }
        ResponseVerdict::Reupload => {
            job.retries.reuploaded = job.retries.reuploaded.saturating_add(1);
            if let JobRequest::Attach(number) = kind
                && let Some(part) = find_part(job, *number)
            {
                part.state = PartState::Waiting;
            }
            if job.retries.reuploaded > MAX_REUPLOADS { FailureConsequence::Park } else { FailureConsequence::Again }
        }
        ResponseVerdict::Reregister(most) => {
            if job.registration != PyrusRegistration::Unsure {
                job.retries.reregistered = job.retries.reregistered.saturating_add(1);
            }
            if job.retries.reregistered > most {
                // The call was registered in Pyrus as often as is allowed. It is not registered again, because each
                // retry would create another task. From now on, requests name only its `external_id`.
                job.registration = PyrusRegistration::Unsure;
                return FailureConsequence::Park;
            }
            job.registration = PyrusRegistration::Owed;
            FailureConsequence::Again
        }
        ResponseVerdict::WithoutFields if job.form_fields == FormFieldMode::Sent => {
            job.form_fields = FormFieldMode::Omitted;
            FailureConsequence::Again
        }
        ResponseVerdict::WithoutFields | ResponseVerdict::TooLarge | ResponseVerdict::Dead => FailureConsequence::Dead,
        ResponseVerdict::Park => FailureConsequence::Park,
    }
}

fn find_part(job: &mut DeliveryJob, number: u32) -> Option<&mut DeliveryPart> {
    job.parts.iter_mut().find(|p| p.number == number)
}

/// Time for which the check of the login must fail before an alarm says that Pyrus cannot be reached. It applies only
/// while no call waits for delivery.
const CHECK_PATIENCE: Duration = Duration::from_secs(60);

/// Beginning of the note in a job if Pyrus refused the request with the end of the call.
const END_NOT_TOLD: &str = "Pyrus did not take the end of this call, which has no recording";

/// Maximum number of repeated uploads after Pyrus did not know an uploaded file. After that the job is parked, i.e.
/// waits for the administrator.
const MAX_REUPLOADS: u32 = 3;
