//! Configuration of the engine: the sections `[calls]`, `[numbers]` and `[[rules]]`.

use std::net::IpAddr;

use crate::call::record::{CallDirection, CallRecord};
use crate::call::test_call::TestCallKey;

/// Configuration of the engine, i.e. of everything that decides about calls.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Name of the recorder, which is part of call records and ids.
    pub appliance: String,
    /// UDP ports on which SIP is expected (`capture.sip_ports`). At these ports a message may begin with white space or
    /// NULs. At all other ports its first line must be SIP.
    pub sip_ports: Vec<u16>,
    /// Media timeout, seconds: time without media after which a call ends.
    pub silence_s: u32,
    /// Media timeout during a hold, seconds: time without media after which a call ends.
    pub hold_s: u32,
    /// Maximum length of a call, hours. A longer call is ended.
    pub max_hours: u32,
    /// Maximum number of unanswered calls from one source address in a minute. Further calls share one record (a scan).
    /// 0 means no limit.
    pub scan_per_minute: u32,
    /// Names of SIP headers by which legs are correlated: legs with equal values belong to one call.
    pub correlation_headers: Vec<String>,
    /// Lists of IP addresses (`calls.pbx_addresses`). The addresses in one list belong to one machine. A list with one
    /// address says that its machine has no other address.
    pub pbx_addresses: Vec<Vec<IpAddr>>,
    /// When a recording begins: at the answer (2xx) or at the first media.
    pub start: RecordingStart,
    /// Length of a segment of a recording, seconds. 0 means that recordings are not divided.
    pub part_s: u64,
    /// Names of SIP headers that the call record contains, with their values (`headers`).
    pub keep_headers: Vec<String>,
    /// Whether records have voice prints, by which a central archive finds the same call at other sites.
    pub has_voice_prints: bool,
    /// Triggers that pause a recording, e.g. a key press before a card number is spoken.
    pub pause: crate::call::pause::Config,
    /// Configuration of telephone numbers and extensions.
    pub numbers: NumbersConfig,
    /// The `[[rules]]` about recording a call and registering it in Pyrus. The first rule that matches a call decides.
    pub rules: Vec<CallRule>,
    /// Secret key by which the recorder recognizes its own test calls. If `None`, no call is a test call.
    pub test_key: Option<TestCallKey>,
    /// Earliest time at which delivery may register a call in Pyrus (`pyrus.register_at`). After it, the call is never
    /// merged into another call.
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
            has_voice_prints: false,
            pause: crate::call::pause::Config::default(),
            numbers: NumbersConfig::default(),
            rules: Vec::new(),
            test_key: None,
            registered_at: RegistrationMoment::default(),
        }
    }
}

/// The earliest time in a call at which delivery may register it in Pyrus (`pyrus.register_at`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RegistrationMoment {
    /// When the call is announced to delivery, shortly after the INVITE.
    Invite,
    /// When the first telephone rings. Without ringing, when the extension of the call is known or a person has
    /// answered.
    Ringing,
    /// When a 2xx response answers the call.
    Answer,
    /// When the extension of the call is known, or a person has answered.
    #[default]
    PersonKnown,
    /// When the call is over, so that its record is complete.
    End,
}

impl RegistrationMoment {
    /// Returns whether a call in progress with this record may be registered now.
    pub(crate) fn has_come(self, record: &CallRecord) -> bool {
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

/// When a recording begins (`recording.start`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecordingStart {
    /// At the answer, i.e. the 2xx to the INVITE.
    #[default]
    Answer,
    /// At the first RTP packet of either side, early media included.
    Media,
}

/// Part of an INVITE from which a telephone number is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NumberSource {
    /// `header:NAME`: a header that contains a name-addr, a URI or a bare number.
    Header(String),
    /// The From header of the INVITE.
    From,
    /// The To header of the INVITE.
    To,
    /// The Request-URI of the INVITE.
    RequestUri,
}

/// The section `[numbers]`: the recognition and the conversion of telephone numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumbersConfig {
    /// Pattern of the extensions ([`crate::call::numbers::NumberPattern`]). Default: two to five digits.
    pub extension_pattern: String,
    /// Further extensions. The users that telephones register are extensions, too.
    pub extensions: Vec<String>,
    /// Sources of the caller's number, in this order. The first source that an INVITE has is used.
    pub from_number: Vec<NumberSource>,
    /// Sources of the called number, in this order. The first source that an INVITE has is used.
    pub to_number: Vec<NumberSource>,
    /// Sources of the extension, in this order. If the list is empty, the extension is the number that matches the
    /// extension pattern.
    pub internal_number: Vec<NumberSource>,
    /// Country code without `+`, e.g. `7`, to convert national numbers to E.164. If empty, numbers are not converted.
    pub country_code: String,
    /// Digits that are dialled before a national number, e.g. `8` or `0`.
    pub national_prefix: String,
    /// Prefix of international calls, e.g. `810` or `00`.
    pub international_prefix: String,
    /// Digits that extensions dial for an outside line, e.g. `9`. They are not part of the called number.
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

/// One entry of `[[rules]]`. A call must meet all conditions that are given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallRule {
    /// Condition on the direction of the call; `None` accepts every direction.
    pub direction: Option<CallDirection>,
    /// Condition on the caller's and the called number: a pattern that one of the two must match; `None` accepts all
    /// numbers.
    pub number: Option<String>,
    /// Condition on the extension: a pattern that it must match; `None` accepts every extension.
    pub extension: Option<String>,
    /// Condition on a SIP header: its name, and a pattern that its value must match; `None` accepts all calls.
    pub header: Option<(String, String)>,
    /// Action that the rule takes for a call that meets all conditions.
    pub action: RuleAction,
}

/// Action of a rule for a call that matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleAction {
    /// Record the call, and register it in Pyrus.
    Record,
    /// Do not record the call; nothing of its sound is stored.
    Exclude,
    /// Record the call, but do not register it in Pyrus.
    NoRegister,
}
