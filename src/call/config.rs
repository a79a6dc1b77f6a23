//! The `[calls]`, `[numbers]` and `[[rules]]` sections.

use crate::call::record::CallDirection;

/// When a call ends without a BYE, and how legs are joined.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Name of the recorder in records and ids.
    pub appliance: String,
    /// UDP ports of SIP (`capture.sip_ports`): what comes from or to them is read as SIP even if its first line does not
    /// look like it (white space or NULs before it). On all other ports the first line decides.
    pub sip_ports: Vec<u16>,
    /// A call with no media for so long is over, seconds.
    pub silence_s: u32,
    /// The same while it is on a negotiated hold, seconds.
    pub hold_s: u32,
    /// A call is cut after so many hours.
    pub max_hours: u32,
    /// Headers whose equal value joins legs.
    pub correlation_headers: Vec<String>,
    /// Where the recorded part begins.
    pub start: RecordingStart,
    /// [`crate::call::event::CallEvent::SegmentsDue`] is told each time a live call was recorded for so many seconds more;
    /// 0: never.
    pub part_s: u64,
    /// Header fields to keep in the record (`headers`), besides those that `numbers` and the Pyrus mappings name.
    pub keep_headers: Vec<String>,
    /// What pauses a recording, for card numbers.
    pub pause: crate::call::pause::Config,
    /// Who is who.
    pub numbers: NumbersConfig,
    /// What to do with which call; the first match decides.
    pub rules: Vec<CallRule>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            appliance: String::from("callspan"),
            sip_ports: vec![5060],
            silence_s: 300,
            hold_s: 14_400,
            max_hours: 24,
            correlation_headers: Vec::new(),
            start: RecordingStart::Answer,
            part_s: 0,
            keep_headers: Vec::new(),
            pause: crate::call::pause::Config::default(),
            numbers: NumbersConfig::default(),
            rules: Vec::new(),
        }
    }
}

/// `recording.start`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecordingStart {
    /// From the 200 OK to the INVITE.
    #[default]
    Answer,
    /// From the first RTP packet of either side, early media included.
    Media,
}

/// Where a number stands in an INVITE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NumberSource {
    /// `header:NAME`; a name-addr, a URI or a bare number.
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
    /// What an extension looks like: a pattern over the whole user part, `x` or `#` one digit, `*` any number of
    /// characters, `[2-4]` a class; several may be given, separated by commas. Default: two to five digits.
    pub extension_pattern: String,
    /// Extensions by name, besides those that fit the pattern and those whose phones are seen to register.
    pub extensions: Vec<String>,
    /// Where the caller's number stands; the first that is there.
    pub from_number: Vec<NumberSource>,
    /// Where the called number stands.
    pub to_number: Vec<NumberSource>,
    /// Where the extension stands; empty: the side that matches the extension pattern.
    pub internal_number: Vec<NumberSource>,
    /// Country code without `+`, `7`: turns national numbers into E.164. Empty: numbers are left as dialled.
    pub country_code: String,
    /// Prefix of national calls, `8` or `0`.
    pub national_prefix: String,
    /// Prefix of international calls, `810` or `00`.
    pub international_prefix: String,
    /// What stands for the number of a withheld caller.
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
            withheld: String::from("anonymous"),
        }
    }
}

/// One `[[rules]]` entry: every given condition must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallRule {
    /// Which way the call goes.
    pub direction: Option<CallDirection>,
    /// Pattern (as `extension_pattern`) over either number.
    pub number: Option<String>,
    /// Pattern over the extension. One that only rings decides nothing that cannot be taken back.
    pub extension: Option<String>,
    /// Header that must be there, and a pattern over its value.
    pub header: Option<(String, String)>,
    /// What to do.
    pub action: RuleAction,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleAction {
    /// Record and register.
    Record,
    /// Keep no media at all.
    Exclude,
    /// Record, but do not register in Pyrus.
    NoRegister,
}
