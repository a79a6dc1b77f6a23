//! What the answer to a request changes.

use std::collections::BTreeSet;

use super::{Entry, Hold, Machine, Proof, TokenId, TokenState, Work, split};
use crate::delivery::job::{Fields, Job, Part, PartState, Registration, Standing, Upload};
use crate::delivery::row::{DeliveryRow, DroppedCode};
use crate::delivery::verdict::{Endpoint, Gain, Judgement, NO_ANSWER, Otherwise, Reply, Scope, Sent, Verdict};
use crate::time::Timestamp;

impl Machine {
    pub(super) fn pace_of(&mut self, now: Timestamp, reply: &Reply, judged: &Judgement) {
        if let (Reply::Answer(answer), false) = (reply, matches!(judged.verdict, Verdict::Wait(_))) {
            self.pace.handle_rate(now, &answer.rate, self.flights.len());
        }
        match (&judged.verdict, reply) {
            (Verdict::Wait(said), _) => {
                self.pace.handle_reached();
                self.pace.handle_wait(now, *said);
            }
            _ if judged.away => self.pace.handle_away(now),
            (_, Reply::Answer(_)) => {
                self.pace.handle_reached();
                self.pace.handle_within_rate();
            }
            (_, Reply::Failed(_)) => {}
        }
        if judged.away {
            self.trouble = Some(judged.why.clone());
            self.away = self.pace.is_away().then(|| {
                format!(
                    "Pyrus cannot be reached ({}): check pyrus.auth_url and the way there; calls stay owed and are sent \
                     when it is back",
                    judged.why
                )
            });
        } else if matches!(reply, Reply::Answer(_)) {
            (self.trouble, self.away) = (None, None);
        }
        self.update_alarm();
    }

    pub(super) fn after_auth(&mut self, now: Timestamp, token: TokenId, judged: Judgement) {
        self.token.state = TokenState::None;
        match judged.verdict {
            Verdict::Done(_) => {
                self.token.state = TokenState::Have(token, Proof::Fresh);
                self.token.hold = Hold::default();
                self.update_alarm();
            }
            Verdict::Wait(_) => {}
            Verdict::Backoff { limit, .. } if limit.is_none_or(|(most, _)| self.token.failures < most) => {
                self.token.failures += 1;
                self.token.not_before = now + self.pace.backoff(self.token.failures);
            }
            _ => {
                self.token.hold.begin(now + self.pace.park(self.token.hold.times), judged.why);
                self.update_alarm();
            }
        }
    }

    /// A token that is refused is dropped once; one that was never accepted makes the next one come later.
    pub(super) fn after_token(&mut self, now: Timestamp, used: TokenId, judged: &Judgement) {
        let TokenState::Have(current, proof) = self.token.state else { return };
        if current != used {
            return;
        }
        match judged.verdict {
            Verdict::Reauth(_) => {
                self.token.state = TokenState::None;
                if proof == Proof::Accepted {
                    self.token.failures = 0;
                } else {
                    self.token.not_before = now + self.pace.backoff(self.token.failures);
                    self.token.failures += 1;
                }
            }
            Verdict::Done(_) => {
                self.token.state = TokenState::Have(current, Proof::Accepted);
                self.token.failures = 0;
            }
            _ => {}
        }
    }

    /// What Pyrus says of the account holds for every call.
    pub(super) fn after_account(&mut self, now: Timestamp, endpoint: Endpoint, judged: &Judgement) {
        match (&judged.verdict, judged.scope) {
            (Verdict::Park, Scope::Account) => {
                self.account.begin(now + self.pace.park(self.account.times), judged.why.clone());
            }
            (Verdict::Done(_), _) if endpoint != Endpoint::Upload => self.account = Hold::default(),
            _ => return,
        }
        self.update_alarm();
    }

    pub(super) fn after_job(&mut self, now: Timestamp, id: &str, work: &Work, judged: Judgement, codes: &[String]) {
        let Some(entry) = self.jobs.get_mut(id) else { return };
        let job = &mut entry.job;
        let Judgement { verdict, why, code, retry_after, .. } = judged;
        if let Verdict::Done(gain) = verdict {
            let unacceptable = gain.unacceptable_fields.clone();
            job.note = gain.has_warning.then(|| why.clone());
            take(job, work, gain, now);
            if let Some(text) = unacceptable {
                self.drop_codes(now, &text, codes, &why);
            }
            return;
        }
        undo(job, work, &verdict);
        job.note = Some(why.clone());
        if verdict == Verdict::TooLarge && self.split(id, work) {
            return;
        }
        let job = &mut self.jobs.get_mut(id).expect("its answer is being handled").job;
        let attempts = job.tries.attempts;
        let consequence = consequence(job, work, &verdict);
        if let (Consequence::Later, Some(pause)) = (&consequence, retry_after) {
            self.pace.handle_wait(now, Some(pause));
        }
        // A refused token (401) is often answered before the body is read; the reset that follows may wipe the answer
        // out. So every second upload that ends so gets a new token.
        if matches!(work, Work::Upload(_)) && code == NO_ANSWER && attempts % 2 == 1 && self.token.is_idle() {
            self.token.state = TokenState::None;
        }
        self.apply(now, id, work, consequence, why);
    }

    /// Sends a file in pieces that the server found too large; false: it cannot be made smaller.
    fn split(&mut self, id: &str, work: &Work) -> bool {
        let (Work::Upload(number) | Work::Attach(number)) = work else { return false };
        let Some(Entry { job, .. }) = self.jobs.get_mut(id) else { return false };
        let Some(limit) = part_of(job, *number).filter(|p| split::can_be_split(p)).and_then(|p| split::half(p.bytes))
        else {
            return false;
        };
        let limit = self.learnt_limit.map_or(limit, |known| known.min(limit));
        self.learnt_limit = Some(limit);
        split::split(job, *number, limit);
        job.standing = Standing::Going { not_before: None };
        job.tries.attempts = 0;
        true
    }

    fn apply(&mut self, now: Timestamp, id: &str, work: &Work, consequence: Consequence, why: String) {
        let job = &mut self.jobs.get_mut(id).expect("its answer is being handled").job;
        match consequence {
            Consequence::Again => job.standing = Standing::Going { not_before: None },
            Consequence::Later => {
                job.tries.attempts = job.tries.attempts.saturating_add(1);
                let pause = self.pace.backoff(job.tries.attempts - 1);
                job.standing = Standing::Going { not_before: Some(now + pause) };
            }
            Consequence::Park => {
                let times = if let Standing::Parked { times, .. } = job.standing { times } else { 0 };
                let retry_at = now + self.pace.park(times);
                job.standing = Standing::Parked { why, retry_at, times: times.saturating_add(1) };
            }
            Consequence::Dead => match work {
                Work::Register(_) => job.standing = Standing::Dead { why },
                Work::Upload(number) | Work::Attach(number) => {
                    job.standing = Standing::Going { not_before: None };
                    if let Some(part) = part_of(job, *number) {
                        part.state = PartState::Dead { why };
                    }
                }
            },
        }
    }

    /// Leaves out of later requests the codes that the text names.
    fn drop_codes(&mut self, now: Timestamp, text: &str, sent: &[String], why: &str) {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let named: BTreeSet<&str> = text.split(|c| !is_word(c)).collect();
        for code in sent.iter().filter(|c| named.contains(c.as_str())) {
            if !self.dropped.contains_key(code) {
                let dropped = DroppedCode { code: code.clone(), at: now, reason: why.to_owned() };
                self.rows.push_back(DeliveryRow::Dropped(dropped.clone()));
                self.dropped.insert(code.clone(), dropped);
            }
        }
    }

    fn update_alarm(&mut self) {
        let alarm = self.token.hold.why.as_ref().or(self.account.why.as_ref()).or(self.away.as_ref());
        // Of an absence the first reason is enough: each try may have another.
        if self.away.is_some() && self.alarm.is_some() && alarm == self.away.as_ref() {
            return;
        }
        if self.alarm.as_ref() != alarm {
            self.alarm = alarm.cloned();
            self.rows.push_back(DeliveryRow::Alarm(self.alarm.clone()));
        }
    }
}

impl Hold {
    fn begin(&mut self, until: Timestamp, why: String) {
        self.until = until;
        self.times = self.times.saturating_add(1);
        self.why = Some(why);
    }
}

/// What a failure means for the job.
enum Consequence {
    /// At once (or when the whole client may go on).
    Again,
    /// After a growing pause.
    Later,
    Park,
    Dead,
}

impl From<Otherwise> for Consequence {
    fn from(otherwise: Otherwise) -> Self {
        match otherwise {
            Otherwise::Backoff => Self::Later,
            Otherwise::Park => Self::Park,
            Otherwise::Dead => Self::Dead,
        }
    }
}

/// A request was done.
fn take(job: &mut Job, work: &Work, gain: Gain, now: Timestamp) {
    job.standing = Standing::Going { not_before: None };
    job.tries.attempts = 0;
    job.tries.limited = 0;
    job.tries.reauthorised = 0;
    match work {
        Work::Register(_) => job.registration = Registration::Known { task_id: gain.task_id },
        Work::Upload(number) => {
            let upload = Upload { guid: gain.guid.unwrap_or_default(), md5: gain.md5.unwrap_or_default(), at: now };
            if let Some(part) = part_of(job, *number) {
                part.state = PartState::Uploaded(upload);
            }
        }
        Work::Attach(number) => {
            job.tries.reregistered = 0;
            job.tries.reuploaded = 0;
            if let Some(part) = part_of(job, *number)
                && let PartState::Attaching(upload) = part.state.clone()
            {
                part.state = PartState::Attached(upload);
            }
            // By external_id alone it can only have found a registered call.
            if job.registration == Registration::Unsure {
                job.registration = Registration::Known { task_id: gain.task_id };
            }
        }
    }
}

/// A request was not done, or perhaps.
fn undo(job: &mut Job, work: &Work, verdict: &Verdict) {
    let perhaps = matches!(verdict, Verdict::Backoff { sent: Sent::Perhaps, .. });
    match work {
        Work::Register(_) if perhaps => job.registration = Registration::Unsure,
        Work::Register(before) => {
            if *before == Registration::Unsure {
                // The repeat was not done: it may be made another time.
                job.tries.blind_repeats = 0;
                job.possible_duplicates = job.possible_duplicates.saturating_sub(1);
            }
            job.registration = before.clone();
        }
        Work::Upload(number) => {
            if let Some(part) = part_of(job, *number) {
                part.state = PartState::Waiting;
            }
        }
        Work::Attach(number) => {
            job.possible_duplicates += u32::from(perhaps);
            if let Some(part) = part_of(job, *number)
                && let PartState::Attaching(upload) = part.state.clone()
            {
                part.state = PartState::Uploaded(upload); // the same file, never a new upload
            }
        }
    }
}

/// What a verdict other than done means, given what was tried before.
fn consequence(job: &mut Job, work: &Work, verdict: &Verdict) -> Consequence {
    match *verdict {
        Verdict::Done(_) | Verdict::Wait(_) => Consequence::Again,
        Verdict::Reauth(otherwise) => {
            job.tries.reauthorised += 1;
            if job.tries.reauthorised == 1 {
                return Consequence::Again;
            }
            job.tries.reauthorised = 0;
            otherwise.into()
        }
        Verdict::Backoff { limit: None, .. } => Consequence::Later,
        Verdict::Backoff { limit: Some((most, otherwise)), .. } => {
            job.tries.limited = job.tries.limited.saturating_add(1);
            if job.tries.limited > most { otherwise.into() } else { Consequence::Later }
        }
        Verdict::Reupload => {
            job.tries.reuploaded = job.tries.reuploaded.saturating_add(1);
            if let Work::Attach(number) = work
                && let Some(part) = part_of(job, *number)
            {
                part.state = PartState::Waiting;
            }
            if job.tries.reuploaded > MAX_REUPLOADS { Consequence::Park } else { Consequence::Again }
        }
        Verdict::Reregister(most) => {
            if job.registration != Registration::Unsure {
                job.tries.reregistered = job.tries.reregistered.saturating_add(1);
            }
            if job.tries.reregistered > most {
                // From here each try looks, by external_id alone, and registers nothing: a person is asked, and Pyrus
                // would have one more task of this call each hour until somebody comes.
                job.registration = Registration::Unsure;
                return Consequence::Park;
            }
            job.registration = Registration::Owed;
            Consequence::Again
        }
        Verdict::WithoutFields if job.fields == Fields::Sent => {
            job.fields = Fields::LeftOut;
            Consequence::Again
        }
        Verdict::WithoutFields | Verdict::TooLarge | Verdict::Dead => Consequence::Dead,
        Verdict::Park => Consequence::Park,
    }
}

fn part_of(job: &mut Job, number: u32) -> Option<&mut Part> {
    job.parts.iter_mut().find(|p| p.number == number)
}

/// Uploads of one call because Pyrus did not know the file, before a person must look.
const MAX_REUPLOADS: u32 = 3;
