//! The JSON messages that webhooks receive.

use serde::{Deserialize, Serialize};

use crate::call::phrasebook::TextLanguage;
use crate::call::record::CallRecord;
use crate::ops::alarm_text;
use crate::ops::alerts::Alarm;

/// An alarm as a webhook receives it. The texts for mail and Telegram are made from this message, too.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct AlarmMessage {
    /// Type of the message: always `alarm`.
    #[serde(rename = "type")]
    message_type: String,
    /// Name of this recorder (`calls.appliance`).
    pub(super) appliance: String,
    /// Subject line in English, for webhooks. Mail and Telegram use the subject line in the configured language.
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

/// A finished call as a webhook receives it.
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
