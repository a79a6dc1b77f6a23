//! The JSON messages that webhooks receive.

use serde::{Deserialize, Serialize};

use crate::call::phrasebook::TextLanguage;
use crate::call::record::CallRecord;
use crate::ops::alarm_text;
use crate::ops::alerts::Alarm;

/// An alarm in the form that a webhook receives. The texts for mail and Telegram are made from it, too.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct AlarmMessage {
    /// Type of the message: always `alarm`.
    #[serde(rename = "type")]
    message_type: String,
    /// Name of this recorder (`calls.appliance`).
    pub(super) appliance: String,
    /// Subject line in English. Mail and Telegram make their own in the configured language.
    pub(super) title: String,
    /// The alarm: `at`, `kind`, `detail`, `call`, `held_back`.
    #[serde(flatten)]
    pub(super) alarm: Alarm,
}

impl AlarmMessage {
    pub(super) fn new(appliance: &str, alarm: &Alarm) -> Self {
        Self {
            message_type: String::from("alarm"),
            appliance: appliance.to_owned(),
            title: alarm_text::subject(appliance, alarm, TextLanguage::En),
            alarm: alarm.clone(),
        }
    }
}

/// A finished call in the form that a webhook receives.
#[derive(Debug, Serialize)]
pub(super) struct CallMessage<'r> {
    #[serde(rename = "type")]
    message_type: &'static str,
    record: &'r CallRecord,
}

impl<'r> CallMessage<'r> {
    pub(super) const fn new(record: &'r CallRecord) -> Self {
        Self { message_type: "call", record }
    }
}
