//! Decides which calls are registered in Pyrus and when, and builds the request bodies.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::job::{
    CallProgress, DeliveryConsent, DeliveryJob, FormFieldMode, PyrusCallFacts, PyrusRegistration, is_unanswered,
};
use crate::call::config::RegistrationMoment;
use crate::call::record::{CallDirection, CallRecord};

/// The event of a call at which it is registered in Pyrus, e.g. when it is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RegisterAt {
    /// Registers the call in Pyrus as soon as the called telephone extension is known, or when a person answers. An
    /// unanswered call is registered at its end.
    #[default]
    Auto,
    /// Registers the call in Pyrus as [`RegisterAt::Auto`] does, but also when any telephone rings, e.g. when a ring
    /// group has no single called extension.
    Ringing,
    /// Registers the call in Pyrus soon after the INVITE, as soon as the numbers of caller and callee are known.
    Invite,
    /// Registers the call in Pyrus when it is answered, by a person or by an answering machine.
    Answer,
    /// Registers the call in Pyrus at its end, when its length is known.
    End,
}

impl RegisterAt {
    /// Returns the first event of a call at which the call may be registered in Pyrus.
    pub const fn moment(self) -> RegistrationMoment {
        match self {
            Self::Auto => RegistrationMoment::PersonKnown,
            Self::Ringing => RegistrationMoment::Ringing,
            Self::Invite => RegistrationMoment::Invite,
            Self::Answer => RegistrationMoment::Answer,
            Self::End => RegistrationMoment::End,
        }
    }
}

/// Unit of the form field `CallDuration`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DurationUnit {
    /// Seconds, rounded to the nearest.
    #[default]
    Seconds,
    /// Minutes, rounded up to whole minutes.
    Minutes,
}

/// JSON type of the value of the form field `Rating`. A form field of type Choice needs a number, a field of type Text
/// needs a string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RatingType {
    /// The rating is sent as a JSON number, for a form field of type Choice. The example of the Pyrus reference has a
    /// number, too.
    #[default]
    Number,
    /// The rating is sent as a JSON string, for a form field of type Text.
    Text,
}

/// The settings from `[pyrus]` that delivery needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryPolicy {
    /// `account_id` of the telephony extension (a plug-in of Pyrus) that is connected to the form.
    pub account_id: String,
    /// The event of a call at which it is registered in Pyrus, e.g. when it is answered.
    pub register_at: RegisterAt,
    /// Only calls with these directions are registered in Pyrus.
    pub directions: Vec<CallDirection>,
    /// Whether unanswered calls are registered in Pyrus.
    pub unanswered: bool,
    /// Codes of the standard form fields that are sent, e.g. `CallDuration`. Pyrus defines these fields for calls.
    pub send_mappings: Vec<String>,
    /// Further form fields that get the value of a SIP header. The key is the code of the field, the value is the name
    /// of the header.
    pub header_mappings: BTreeMap<String, String>,
    /// Unit of the form field `CallDuration`.
    pub duration_unit: DurationUnit,
    /// Code of the form field to which the outcome of the call is sent; `None` if the outcome is not sent.
    pub outcome_field: Option<String>,
    /// Whether the value of the field `Rating` is sent as a JSON number or as a string.
    pub rating_type: RatingType,
    /// Maximum size of a file that is uploaded, bytes.
    pub max_upload_bytes: u64,
}

/// Body of the request `integrations/call`, which registers a call in Pyrus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct CallBody {
    /// `account_id` of the telephony extension (a plug-in of Pyrus).
    pub(crate) account_id: String,
    /// Telephone number of the caller, or a word for an unknown number.
    pub(crate) from_number: String,
    /// Telephone number of the callee, or a word for an unknown number.
    pub(crate) to_number: String,
    /// Telephone extension at our PBX that took part in the call; `None` if unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) internal_number: Option<String>,
    /// The call's id, by which Pyrus recognizes repeated requests.
    pub(crate) external_id: String,
    /// Form fields of the task with their values.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) mappings: Vec<FieldMapping>,
}

/// Body of the request `integrations/attachcallrecord`, which attaches a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct AttachBody {
    /// `account_id` of the telephony extension (a plug-in of Pyrus).
    pub(crate) account_id: String,
    /// Id of the task; `None` if unknown. The request then contains no task id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) task_id: Option<u64>,
    /// The call's id, by which Pyrus finds the call if the request names no task.
    pub(crate) external_id: String,
    /// Id of the uploaded file. With `None` the request adds only the form fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) record_file: Option<String>,
    /// Form fields of the task with their values.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) mappings: Vec<FieldMapping>,
}

/// A form field with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FieldMapping {
    /// Code by which Pyrus identifies the form field, e.g. `CallDuration`.
    pub(crate) code: String,
    /// Value of the form field as text.
    pub(crate) value: String,
    /// Whether the value is sent as a JSON number. All other values are sent as strings, as the official SDKs do.
    pub(crate) is_number: bool,
}

impl Serialize for FieldMapping {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;
        let mut mapping = serializer.serialize_struct("mapping", 2)?;
        mapping.serialize_field("code", &self.code)?;
        match self.value.parse::<u32>() {
            Ok(number) if self.is_number => mapping.serialize_field("value", &number)?,
            _ => mapping.serialize_field("value", &self.value)?,
        }
        mapping.end()
    }
}

impl DeliveryPolicy {
    /// Returns whether the call must be registered in Pyrus now. The state machine of delivery calls this function
    /// after each change of the call until the result is true.
    pub(crate) fn is_due(&self, record: &CallRecord, progress: CallProgress, consent: DeliveryConsent) -> bool {
        if consent == DeliveryConsent::Forbidden || !self.wants_direction(record.direction) {
            return false;
        }
        if is_unanswered(record) && !self.unanswered {
            return false; // if in progress, the call may still be answered
        }
        if progress != CallProgress::Live {
            return true;
        }
        self.register_at.moment().has_come(record)
    }

    /// Returns whether calls in this direction are registered in Pyrus. A call with an unknown direction is inbound or
    /// outbound. So the result for it is true only if both of these directions are registered.
    pub(crate) fn wants_direction(&self, direction: CallDirection) -> bool {
        self.directions.contains(&direction)
            || (direction == CallDirection::Unknown
                && self.directions.contains(&CallDirection::Inbound)
                && self.directions.contains(&CallDirection::Outbound))
    }

    /// Builds the body of the request that registers a call in Pyrus. It leaves out the form fields in `dropped`, which
    /// Pyrus refused before.
    pub(crate) fn call_body(&self, job: &DeliveryJob, dropped: &BTreeSet<String>) -> CallBody {
        let number = |n: &Option<String>| {
            let known = n.as_deref().map(bounded).filter(|number| !number.trim().is_empty());
            known.unwrap_or_else(|| UNKNOWN_NUMBER.to_owned())
        };
        CallBody {
            account_id: self.account_id.clone(),
            from_number: number(&job.facts.from),
            to_number: number(&job.facts.to),
            internal_number: job.facts.internal.as_deref().map(bounded),
            external_id: job.id.clone(),
            mappings: self.mappings(job, dropped),
        }
    }

    /// Returns whether the value of a form field is known only after the call has ended, e.g. the duration of the call.
    pub(crate) fn tells_end(&self, code: &str) -> bool {
        matches!(code, "CallEndTime" | "CallDuration") || self.outcome_field.as_deref() == Some(code)
    }

    /// Builds the body of the request `attachcallrecord`. It attaches an uploaded file; without a file it only sets
    /// form fields. While it is unknown whether Pyrus has the call, the body names the call by `external_id` alone.
    pub(crate) fn attach_body(&self, job: &DeliveryJob, guid: Option<&str>, dropped: &BTreeSet<String>) -> AttachBody {
        AttachBody {
            account_id: self.account_id.clone(),
            task_id: match job.registration {
                PyrusRegistration::Known { task_id } => task_id.filter(|&t| t != 0),
                PyrusRegistration::Owed | PyrusRegistration::Sending | PyrusRegistration::Unsure => None,
            },
            external_id: job.id.clone(),
            record_file: guid.map(str::to_owned),
            mappings: self.mappings(job, dropped),
        }
    }

    /// Returns the form fields that have a value. Leaves out the fields in `dropped`, which Pyrus refused before.
    fn mappings(&self, job: &DeliveryJob, dropped: &BTreeSet<String>) -> Vec<FieldMapping> {
        if job.form_fields == FormFieldMode::Omitted {
            return Vec::new();
        }
        let from_header = |code: &String, name: &String| {
            let (_, value) = job.facts.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name))?;
            Some((code.clone(), value.clone()))
        };
        let mut values: BTreeMap<String, String> =
            self.send_mappings.iter().filter_map(|code| Some((code.clone(), self.value(&job.facts, code)?))).collect();
        values.extend(self.outcome_field.clone().zip(job.facts.outcome.clone()));
        values.extend(self.header_mappings.iter().filter_map(|(code, name)| from_header(code, name)));
        values
            .into_iter()
            .filter(|(code, _)| !dropped.contains(code))
            .map(|(code, value)| FieldMapping {
                is_number: code == RATING && self.rating_type == RatingType::Number,
                code,
                value: bounded(&value),
            })
            .filter(|mapping| !mapping.value.is_empty())
            .collect()
    }

    /// Returns the value of a standard form field for calls. `code` is the code of the field, e.g. `CallDuration`.
    fn value(&self, facts: &PyrusCallFacts, code: &str) -> Option<String> {
        // In Pyrus, the "client" is always the party outside our PBX, even if that party was called. The "operator" is
        // the telephone extension that spoke last. If this is unknown, the operator is the number of the party at our
        // PBX.
        let (client, our_number) = match facts.direction {
            CallDirection::Outbound => (&facts.to, &facts.from),
            // The capture began during the call, so its direction is unknown. If the known telephone extension is the
            // caller, the call is treated as an outbound call.
            CallDirection::Unknown if facts.internal.is_some() && facts.internal == facts.from => {
                (&facts.to, &facts.from)
            }
            CallDirection::Inbound | CallDirection::Internal | CallDirection::Unknown => (&facts.from, &facts.to),
        };
        let operator = facts.operator.as_ref().or(facts.internal.as_ref()).or(our_number.as_ref());
        match code {
            "CallStartTime" => facts.started_at.map(|t| t.to_rfc3339_secs()),
            "CallEndTime" => facts.ended_at.map(|t| t.to_rfc3339_secs()),
            // The field `CallDuration` of a call that ended unanswered is 0 s.
            "CallDuration" => facts.duration_s.or(facts.ended_at.map(|_| 0.0)).and_then(|s| self.duration(s)),
            "PhoneNumberFrom" => client.clone(),
            "PhoneNumberTo" => operator.cloned(),
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

/// Converts a text to a value that Pyrus accepts for a form field: one line of at most [`MAX_VALUE_CHARS`] characters.
fn bounded(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.trim().chars().take(MAX_VALUE_CHARS).collect()
}

/// Code of the form field for a rating of the call by the customer. A SIP header of the PBX may contain the rating.
const RATING: &str = "Rating";

/// Maximum length of a form field's value, characters ("300 symbols max" in the telephony API).
const MAX_VALUE_CHARS: usize = 300;

/// Text that is sent in place of an unknown number. The API requires `from_number` and `to_number`.
const UNKNOWN_NUMBER: &str = "unknown";
