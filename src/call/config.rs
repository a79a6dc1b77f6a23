//! Configuration of the engine: the sections `[calls]`, `[numbers]` and `[[rules]]`.

use std::net::IpAddr;

use crate::call::record::{CallDirection, CallRecord};
use crate::call::test_call::TestCallKey;

/// Configuration of the engine.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Name of the recorder, part of records and ids.
    pub appliance: String,
    /// UDP ports of SIP (`capture.sip_ports`). On these ports, white space or NULs before the first line are accepted. On all
    /// other ports, the first line must be SIP.
    pub sip_ports: Vec<u16>,
    /// Media timeout, seconds.
    pub silence_s: u32,
    /// Media timeout during a hold, seconds.
    pub hold_s: u32,
    /// Longest call, hours. A longer call is ended.
    pub max_hours: u32,
    /// Limit of unanswered calls of one source address in a minute. Calls above the limit become one record. 0: no
    /// limit.
    pub scan_per_minute: u32,
    /// Names of SIP headers. Legs with equal values belong to one call.
    pub correlation_headers: Vec<String>,
    /// Lists of addresses, each list naming one machine (`calls.pbx_addresses`). A list with a single address says that
    /// no other address belongs to that machine.
    pub pbx_addresses: Vec<Vec<IpAddr>>,
    /// Beginning of the recording.
    pub start: RecordingStart,
    /// Length of a recording segment, seconds. 0: recordings are not divided.
    pub part_s: u64,
    /// Names of SIP headers whose values the record keeps (`headers`).
    pub keep_headers: Vec<String>,
    /// Triggers that pause a recording, e.g. for card numbers.
    pub pause: crate::call::pause::Config,
    /// Configuration of numbers and extensions.
    pub numbers: NumbersConfig,
    /// Rules about recording and registration; the first match decides.
    pub rules: Vec<CallRule>,
    /// Key of the recorder's own test calls; `None`: no call is a test call.
    pub test_key: Option<TestCallKey>,
    /// Moment from which delivery may register a call (`pyrus.register_at`). From then on, the call is never merged
    /// into another call.
    pub registered_at: RegistrationMoment,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            appliance: String::from("callspan"),
            sip_ports: vec![5060],
            silence_s: 300,
            hold_s: 14_400,
            max_hours: 24,
            scan_per_minute: 120,
            correlation_headers: Vec::new(),
            pbx_addresses: Vec::new(),
            start: RecordingStart::Answer,
            part_s: 0,
            keep_headers: Vec::new(),
            pause: crate::call::pause::Config::default(),
            numbers: NumbersConfig::default(),
            rules: Vec::new(),
            test_key: None,
            registered_at: RegistrationMoment::default(),
        }
    }
}

/// Moment from which delivery may register a call (`pyrus.register_at`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RegistrationMoment {
    /// The call is announced.
    Invite,
    /// As [`RegistrationMoment::PersonKnown`], or any telephone rings.
    Ringing,
    /// The call is answered.
    Answer,
    /// The extension of the call is known, or a person has answered.
    #[default]
    PersonKnown,
    /// The call is over.
    End,
}

impl RegistrationMoment {
    /// Returns whether the moment has come in a call that is in progress and has this record.
    pub fn has_come(self, record: &CallRecord) -> bool {
        let is_answered = record.answered_at.is_some();
        let has_person = record.internal.is_some()
            || record.operator_answered_at.is_some()
            || is_answered && record.direction != CallDirection::Inbound;
        match self {
            Self::Invite => true,
            Self::Ringing => has_person || record.ringing_at.is_some(),
            Self::Answer => is_answered,
            Self::PersonKnown => has_person,
            Self::End => false,
        }
    }
}

/// Beginning of the recording (`recording.start`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecordingStart {
    /// At the 2xx to the INVITE.
    #[default]
    Answer,
    /// At the first RTP packet of either side, early media included.
    Media,
}

/// Part of an INVITE that contains a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NumberSource {
    /// `header:NAME`: a header with a name-addr, a URI or a bare number.
    Header(String),
    /// The From header.
    From,
    /// The To header.
    To,
    /// The Request-URI.
    RequestUri,
}

/// The `[numbers]` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumbersConfig {
    /// Pattern of the extensions ([`crate::call::numbers::NumberPattern`]). Default: two to five digits.
    pub extension_pattern: String,
    /// Further extensions. Phones that register are extensions, too.
    pub extensions: Vec<String>,
    /// Sources of the caller's number; the first source that the INVITE has counts.
    pub from_number: Vec<NumberSource>,
    /// Sources of the called number; the first source that the INVITE has counts.
    pub to_number: Vec<NumberSource>,
    /// Sources of the extension. Empty: the side that matches the extension pattern.
    pub internal_number: Vec<NumberSource>,
    /// Country code without `+`, e.g. `7`, to convert national numbers to E.164. Empty: numbers stay as dialled.
    pub country_code: String,
    /// Prefix of national calls, e.g. `8` or `0`.
    pub national_prefix: String,
    /// Prefix of international calls, e.g. `810` or `00`.
    pub international_prefix: String,
    /// Digits that extensions dial for an outside line, e.g. `9`; they are not part of the number.
    pub outside_prefix: String,
    /// Word that the record shows in place of a withheld caller number.
    pub withheld: String,
}

impl Default for NumbersConfig {
    fn default() -> Self {
        Self {
            extension_pattern: String::from("xx,xxx,xxxx,xxxxx"),
            extensions: Vec::new(),
            from_number: vec![
                NumberSource::Header(String::from("P-Asserted-Identity")),
                NumberSource::Header(String::from("Remote-Party-ID")),
                NumberSource::From,
            ],
            to_number: vec![NumberSource::To, NumberSource::RequestUri],
            internal_number: Vec::new(),
            country_code: String::new(),
            national_prefix: String::new(),
            international_prefix: String::new(),
            outside_prefix: String::new(),
            withheld: String::from("anonymous"),
        }
    }
}

/// One `[[rules]]` entry. All given conditions must match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallRule {
    /// Direction of the call.
    pub direction: Option<CallDirection>,
    /// Pattern of the caller's or the called number.
    pub number: Option<String>,
    /// Pattern of the extension.
    pub extension: Option<String>,
    /// Name of a header, and pattern of its value.
    pub header: Option<(String, String)>,
    /// Action for a matching call.
    pub action: RuleAction,
}

/// Action of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleAction {
    /// Record the call and register it in Pyrus.
    Record,
    /// Keep no media of the call.
    Exclude,
    /// Record the call, but do not register it in Pyrus.
    NoRegister,
}
