//! The options of the fake. If the documentation of Pyrus leaves a behaviour open, the fake has an option for it. Tests
//! run with every value of the option; the default is the most likely behaviour.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// All options of the fake. In JSON, every member is optional, and durations are in seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FakeOptions {
    /// Kind of the Pyrus installation that is simulated.
    pub mode: PyrusMode,
    /// Whether accounts, API and files have separate listeners, so that a client that assumes a single host fails. The
    /// option is read only at the start.
    pub split_hosts: bool,
    /// Whether the URLs in the `auth` reply end with a slash. Clients must handle both forms.
    pub url_slash: UrlSlash,
    /// HTTP status of error replies of the telephony API: 400 or 200.
    pub logic_error_status: u16,
    /// HTTP status of a reply with the error `invalid_field_mapping_code`: 200 or 400.
    pub mapping_error_status: u16,
    /// Whether a reply with the error `invalid_field_mapping_code`, to a request that registers a call, contains
    /// `task_id`.
    pub mapping_error_task_id: bool,
    /// Body of the reply to a successful attach request.
    pub attach_ok_body: AttachOkBody,
    /// JSON type of `task_id` and `user_id`.
    pub id_style: IdStyle,
    /// Case of the letters in `md5_hash`.
    pub md5_case: Md5Case,
    /// Effect of registering a call again, i.e. with the `account_id` and `external_id` of a registered call.
    pub repeat_call: RepeatCall,
    /// Whether requests to attach a file need `account_id`.
    pub attach_requires_account: bool,
    /// Whether a call gets a new task, or becomes a comment of an existing task.
    pub task_policy: TaskPolicy,
    /// Value of `responsible_person` if the called telephone extension is nobody's work phone.
    pub responsible_empty: ResponsibleEmpty,
    /// Error code of the reply to an attach request with an unknown `task_id`.
    pub unknown_task_error: UnknownTaskError,
    /// Maximum size of an accepted upload, bytes.
    pub max_upload: u64,
    /// The reply to an upload that is larger than `max_upload`.
    pub too_large: TooLargeReply,
    /// Lifetime of a token, measured by the virtual clock.
    #[serde(with = "seconds")]
    pub token_ttl: Duration,
    /// Maximum number of valid tokens of a user. A further token revokes the oldest.
    pub max_tokens_per_user: usize,
    /// Maximum rate of the requests of a user.
    pub rate_limit: RateLimit,
    /// Real time after a reply 429 in which further requests do not count as violations. The client may have sent them
    /// before it got the reply.
    #[serde(with = "seconds")]
    pub rate_grace: Duration,
    /// Lifetime of a file that no task uses, measured by the virtual clock.
    #[serde(with = "seconds")]
    pub orphan_ttl: Duration,
    /// Whether an attach request still fills the form fields of the task if it is refused because of the file's format.
    pub bad_format_applies_mappings: bool,
    /// Whether an attach request without a file fills the form fields of the task. The documentation of Pyrus does not
    /// say.
    pub fields_without_file: bool,
    /// Maximum number of attachments of a task. A further attachment is refused with `too_many_attachments`.
    pub max_attachments: usize,
    /// Maximum number of comments of a task. A further comment is refused with `too_many_comments`.
    pub max_comments: usize,
    /// Language of error texts.
    pub error_lang: ErrorLanguage,
    /// Whether the virtual clock runs with real time or only when a test advances it.
    pub clock: ClockMode,
    /// Whether the old telephony API (`/v4/calls`, removed by Pyrus in 2024) is served.
    pub legacy_calls: bool,
    /// Id of the first task.
    pub first_task_id: u64,
    /// Seed of random ids and tokens, for repeatable runs; `None` for a random seed.
    pub seed: Option<u64>,
    /// The users who can log in.
    pub users: Vec<FakeUser>,
    /// The telephony extensions (plug-ins of Pyrus) that are connected to forms.
    pub accounts: Vec<FakeAccount>,
    /// The people in Pyrus who can become responsible for a call.
    pub people: Vec<FakePerson>,
}

impl Default for FakeOptions {
    fn default() -> FakeOptions {
        FakeOptions {
            mode: PyrusMode::Cloud,
            split_hosts: true,
            url_slash: UrlSlash::Trailing,
            logic_error_status: 400,
            mapping_error_status: 200,
            mapping_error_task_id: true,
            attach_ok_body: AttachOkBody::Object,
            id_style: IdStyle::Number,
            md5_case: Md5Case::Lower,
            repeat_call: RepeatCall::Comment,
            attach_requires_account: true,
            task_policy: TaskPolicy::SameFromOpenTask,
            responsible_empty: ResponsibleEmpty::Absent,
            unknown_task_error: UnknownTaskError::Task,
            max_upload: 2 * 1024 * 1024 * 1024 - 1,
            too_large: TooLargeReply::Json,
            token_ttl: Duration::from_secs(3600),
            max_tokens_per_user: 5,
            rate_limit: RateLimit { requests: 5000, window: Duration::from_secs(600) },
            rate_grace: Duration::ZERO,
            orphan_ttl: Duration::from_secs(24 * 3600),
            bad_format_applies_mappings: false,
            fields_without_file: true,
            max_attachments: 3000,
            max_comments: 10_000,
            error_lang: ErrorLanguage::En,
            clock: ClockMode::Running,
            legacy_calls: false,
            first_task_id: 458_732,
            seed: None,
            users: vec![FakeUser::default()],
            accounts: vec![FakeAccount::default()],
            people: default_people(),
        }
    }
}

/// The kind of a Pyrus installation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PyrusMode {
    /// The cloud: `auth` is on the accounts host, and its reply names the API host and the files host.
    #[default]
    Cloud,
    /// A server of the customer (on premises): everything is under `/api/v4` of one host, and the `auth` reply names no
    /// URLs.
    Onprem,
    /// A server of the customer in an old version without telephony: telephony paths reply 202 with `{"Message":…}`.
    LegacyOnprem,
}

/// Whether the URLs in the `auth` reply end with a slash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UrlSlash {
    /// The URLs end with a slash.
    #[default]
    Trailing,
    /// The URLs end without a slash.
    None,
}

/// Body of the reply to a successful attach request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttachOkBody {
    /// The body is the empty object `{}`.
    #[default]
    Object,
    /// The reply has no body.
    Empty,
    /// The body is the literal `null`.
    Null,
    /// The body is the object `{"task_id":N}`.
    TaskId,
}

/// JSON type of `task_id` and `user_id`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdStyle {
    /// `task_id` and `user_id` are JSON numbers.
    #[default]
    Number,
    /// `task_id` and `user_id` are JSON strings.
    String,
    /// `task_id` is a number and `user_id` a string, as in the example of the documentation.
    Mixed,
}

/// Case of the letters in `md5_hash`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Md5Case {
    /// Hexadecimal letters are in lower case, e.g. `bb36…`.
    #[default]
    Lower,
    /// Hexadecimal letters are in upper case, e.g. `BB36…`.
    Upper,
}

/// Effect of a second request that registers the same call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RepeatCall {
    /// Adds another comment to the task. The fake counts this comment as a duplicate.
    #[default]
    Comment,
    /// Updates the call without a visible change.
    Update,
}

/// Whether a call gets a new task, or becomes a comment of an existing task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskPolicy {
    /// If the calling number has an open task, the call becomes a comment of this task. Otherwise it gets a new task.
    #[default]
    SameFromOpenTask,
    /// Every call gets a new task.
    AlwaysNew,
}

/// Value of `responsible_person` in a reply if no responsible person was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResponsibleEmpty {
    /// The reply does not have the member `responsible_person`.
    #[default]
    Absent,
    /// The value of `responsible_person` is the literal `null`.
    Null,
    /// The value of `responsible_person` is the empty object `{}`.
    Object,
}

/// Error code of the reply to an attach request with an unknown `task_id`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownTaskError {
    /// The fake replies with the code `unrecognized_task_id`.
    #[default]
    Task,
    /// The fake replies with the code `unrecognized_call_id`, although only the `task_id` is unknown.
    Call,
}

/// The reply to an upload that is too large.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TooLargeReply {
    /// Status 400 with `too_large_request_length`, after the body was read.
    #[default]
    Json,
    /// Status 413 with HTML from a proxy before the body is read. The connection closes.
    HtmlEarly,
}

/// Language of error texts. The error codes do not depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorLanguage {
    /// Error texts are in English.
    #[default]
    En,
    /// Error texts are in Russian, in Cyrillic letters as UTF-8.
    Ru,
}

/// Whether the virtual clock runs with real time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockMode {
    /// The clock runs with real time, and tests can advance it.
    #[default]
    Running,
    /// The clock advances only when a test advances it.
    Frozen,
}

/// Rate limit of a user: a number of requests in a fixed window of virtual time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Maximum number of requests in a rate-limit window.
    pub requests: u32,
    /// Length of a rate-limit window, measured by the virtual clock.
    #[serde(with = "seconds")]
    pub window: Duration,
}

/// A user of Pyrus who can log in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FakeUser {
    /// Login name of a person or a bot.
    pub login: String,
    /// The security key. It appears in no snapshot, log or reply.
    pub security_key: String,
    /// Ids of the persons in Pyrus to whom the login belongs. If there are several, `auth` requests need `person_id`.
    pub person_ids: Vec<u64>,
    /// Whether an administrator has blocked the user.
    pub blocked: bool,
}

impl Default for FakeUser {
    fn default() -> FakeUser {
        FakeUser {
            login: "bot@callspan".into(),
            security_key: "secret".into(),
            person_ids: vec![16900],
            blocked: false,
        }
    }
}

/// A telephony extension (a plug-in of Pyrus) that is connected to a form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FakeAccount {
    /// Id of the telephony extension (a plug-in of Pyrus), which the recorder sends as `account_id`.
    pub account_id: String,
    /// Id of the form in which the calls become tasks.
    pub form_id: u64,
    /// Whether the owner of the form accepts calls. If false, calls are refused with `webhook_is_disabled`.
    pub webhook_enabled: bool,
    /// Codes of the fields that the form has. A request may fill only these fields.
    pub allowed_codes: Vec<String>,
}

impl Default for FakeAccount {
    fn default() -> FakeAccount {
        FakeAccount {
            account_id: "uniqueID12345".into(),
            form_id: 1_310_341,
            webhook_enabled: true,
            allowed_codes: FIELD_CODES.iter().map(|c| (*c).to_owned()).collect(),
        }
    }
}

/// A person in Pyrus who can become responsible for a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FakePerson {
    /// Id of the person.
    pub user_id: u64,
    /// First name of the person.
    pub first_name: String,
    /// Last name of the person.
    pub last_name: String,
    /// Numbers in the person's field "Work phone". Replies contain the first number.
    pub work_phones: Vec<String>,
}

fn default_people() -> Vec<FakePerson> {
    let person = |user_id, first: &str, last: &str, phones: &[&str]| FakePerson {
        user_id,
        first_name: first.into(),
        last_name: last.into(),
        work_phones: phones.iter().map(|p| (*p).to_owned()).collect(),
    };
    vec![
        person(34228, "Anna", "Petrova", &["101"]),
        person(34229, "Boris", "Orlov", &["102"]),
        person(34230, "Vera", "Sokolova", &["103"]),
        person(34231, "Ilya", "Laserson", &["+79338762030", "200"]),
    ]
}

/// Serializes durations as seconds with fractions.
pub(super) mod seconds {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(crate) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(value.as_secs_f64())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(from)?).map_err(D::Error::custom)
    }
}

/// Codes of the fields that a telephony form has by default.
const FIELD_CODES: [&str; 8] = [
    "CallDuration",
    "CallEndTime",
    "CallStartTime",
    "PhoneNumberFrom",
    "PhoneNumberTo",
    "Rating",
    "RatingComment",
    "RatingDate",
];
