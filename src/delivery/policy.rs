//! Which calls Pyrus is told of, when, and in which words.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::job::{Consent, Facts, Fields, Job, Progress, Registration, is_unanswered};
use crate::call::record::{CallRecord, Direction};

/// When a call is registered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RegisterAt {
    /// As soon as one extension is known, at the latest when a person answers; an unanswered call at its end.
    #[default]
    Auto,
    /// At the INVITE (after the settle time).
    Invite,
    /// At the answer.
    Answer,
    /// At the end.
    End,
}

/// Unit of the `CallDuration` field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DurationUnit {
    /// Seconds.
    #[default]
    Seconds,
    /// Minutes, rounded up.
    Minutes,
}

/// What delivery must know of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Of the extension connected to the form.
    pub account_id: String,
    /// When a call is registered.
    pub register_at: RegisterAt,
    /// Which calls are registered.
    pub directions: Vec<Direction>,
    /// Whether unanswered calls are registered.
    pub unanswered: bool,
    /// The field codes that are filled from the call.
    pub send_mappings: Vec<String>,
    /// Further field codes, filled from the header of this name.
    pub header_mappings: BTreeMap<String, String>,
    /// Unit of `CallDuration`.
    pub duration_unit: DurationUnit,
    /// Largest file that is sent.
    pub max_upload_bytes: u64,
}

/// Body of `integrations/call`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CallBody {
    /// Of the extension.
    pub account_id: String,
    /// Who called.
    pub from_number: String,
    /// Who was called.
    pub to_number: String,
    /// Our extension.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub internal_number: Option<String>,
    /// The call's id.
    pub external_id: String,
    /// Form fields.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mappings: Vec<Mapping>,
}

/// Body of `integrations/attachcallrecord`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AttachBody {
    /// Of the extension.
    pub account_id: String,
    /// The task; left out (never 0) when it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_id: Option<u64>,
    /// The call's id.
    pub external_id: String,
    /// The uploaded file.
    pub record_file: String,
    /// Form fields.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mappings: Vec<Mapping>,
}

/// A form field and its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mapping {
    /// Of the field.
    pub code: String,
    /// Always a string: the SDKs send nothing else.
    pub value: String,
}

impl Policy {
    /// Whether Pyrus is to be told of this call now. Asked again with each change until it says yes.
    pub fn is_due(&self, record: &CallRecord, progress: Progress, consent: Consent) -> bool {
        if consent == Consent::Forbidden || !self.wants_direction(record.direction) {
            return false;
        }
        if is_unanswered(record) && !self.unanswered {
            return false; // while it lives: wait for the answer
        }
        if progress != Progress::Live {
            return true;
        }
        let person = record.operator_answered_at.is_some()
            || (record.answered_at.is_some() && record.direction != Direction::Inbound);
        match self.register_at {
            RegisterAt::Auto => record.internal.is_some() || person,
            RegisterAt::Invite => true,
            RegisterAt::Answer => record.answered_at.is_some(),
            RegisterAt::End => false,
        }
    }

    /// A call of unknown direction has an outside party, so it is not internal: it is registered when calls both ways
    /// are, and not when only one way is.
    fn wants_direction(&self, direction: Direction) -> bool {
        self.directions.contains(&direction)
            || (direction == Direction::Unknown
                && self.directions.contains(&Direction::Inbound)
                && self.directions.contains(&Direction::Outbound))
    }

    /// The registration of a call.
    pub fn call_body(&self, job: &Job, dropped: &BTreeSet<String>) -> CallBody {
        let number = |n: &Option<String>| bounded(n.as_deref().unwrap_or(UNKNOWN_NUMBER));
        CallBody {
            account_id: self.account_id.clone(),
            from_number: number(&job.facts.from),
            to_number: number(&job.facts.to),
            internal_number: job.facts.internal.as_deref().map(bounded),
            external_id: job.id.clone(),
            mappings: self.mappings(job, dropped),
        }
    }

    /// The request that ties a file to the call. Where it is not known whether the call is registered, by external_id
    /// alone.
    pub fn attach_body(&self, job: &Job, guid: &str, dropped: &BTreeSet<String>) -> AttachBody {
        AttachBody {
            account_id: self.account_id.clone(),
            task_id: match job.registration {
                Registration::Known { task_id } => task_id.filter(|&t| t != 0),
                Registration::Owed | Registration::Sending | Registration::Unsure => None,
            },
            external_id: job.id.clone(),
            record_file: guid.to_owned(),
            mappings: self.mappings(job, dropped),
        }
    }

    /// The form fields of which something is known.
    fn mappings(&self, job: &Job, dropped: &BTreeSet<String>) -> Vec<Mapping> {
        if job.fields == Fields::LeftOut {
            return Vec::new();
        }
        let from_header = |code: &String, name: &String| {
            let (_, value) = job.facts.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name))?;
            Some((code.clone(), value.clone()))
        };
        let mut values: BTreeMap<String, String> =
            self.send_mappings.iter().filter_map(|code| Some((code.clone(), self.value(&job.facts, code)?))).collect();
        values.extend(self.header_mappings.iter().filter_map(|(code, name)| from_header(code, name)));
        values
            .into_iter()
            .filter(|(code, _)| !dropped.contains(code))
            .map(|(code, value)| Mapping { code, value: bounded(&value) })
            .filter(|mapping| !mapping.value.is_empty())
            .collect()
    }

    /// The text of one of the fields that Pyrus has for calls.
    fn value(&self, facts: &Facts, code: &str) -> Option<String> {
        // The client is the outside party, whoever called.
        let (client, operator) = match facts.direction {
            Direction::Outbound => (&facts.to, &facts.from),
            // Joined under way: only who is ours is known.
            Direction::Unknown if facts.internal.is_some() && facts.internal == facts.from => (&facts.to, &facts.from),
            Direction::Inbound | Direction::Internal | Direction::Unknown => (&facts.from, &facts.to),
        };
        match code {
            "CallStartTime" => facts.started_at.map(|t| t.to_rfc3339_secs()),
            "CallEndTime" => facts.ended_at.map(|t| t.to_rfc3339_secs()),
            "CallDuration" => facts.duration_s.and_then(|s| self.duration(s)),
            "PhoneNumberFrom" => client.clone(),
            "PhoneNumberTo" => operator.clone(),
            _ => None,
        }
    }

    fn duration(&self, seconds: f64) -> Option<String> {
        let units = match self.duration_unit {
            DurationUnit::Seconds => seconds.round(),
            DurationUnit::Minutes => (seconds / 60.0).ceil(),
        };
        (units.is_finite() && units >= 0.0).then(|| format!("{units:.0}"))
    }
}

/// A text as Pyrus takes it: one line, at most [`MAX_VALUE_CHARS`].
fn bounded(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.trim().chars().take(MAX_VALUE_CHARS).collect()
}

/// `value`: "300 symbols max" (Pyrus, telephony).
const MAX_VALUE_CHARS: usize = 300;

/// from_number and to_number are required; this stands where nothing at all is known.
const UNKNOWN_NUMBER: &str = "unknown";
