//! The switches: where the documentation of Pyrus leaves the real behaviour open, the fake takes
//! it as an option, and tests run with every value. Defaults are the likeliest behaviour.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// All switches of the fake. As JSON every member is optional; durations are seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FakeOptions {
    /// Which Pyrus is played.
    pub mode: PyrusMode,
    /// Three listeners (accounts, api, files), so that a client that hardcodes a host fails. Read at the start only.
    pub split_hosts: bool,
    /// Whether `api_url` and `files_url` of the auth reply end with a slash.
    pub url_slash: UrlSlash,
    /// HTTP status of the telephony errors: 400 or 200.
    pub logic_error_status: u16,
    /// HTTP status of `invalid_field_mapping_code`: 200 or 400.
    pub mapping_error_status: u16,
    /// Whether that reply to a call still has its `task_id`.
    pub mapping_error_task_id: bool,
    /// What a successful attach answers.
    pub attach_ok_body: AttachOkBody,
    /// JSON type of `task_id` and `user_id`.
    pub id_style: IdStyle,
    /// Case of `md5_hash`.
    pub md5_case: Md5Case,
    /// What the same (account, external_id) does when it is registered again.
    pub repeat_call: RepeatCall,
    /// Whether attach needs `account_id`.
    pub attach_requires_account: bool,
    /// When a call gets a task of its own.
    pub task_policy: TaskPolicy,
    /// What `responsible_person` is when no work phone matches.
    pub responsible_empty: ResponsibleEmpty,
    /// Error code of an attach to an unknown `task_id`.
    pub unknown_task_error: UnknownTaskError,
    /// Largest upload, bytes.
    pub max_upload: u64,
    /// How a larger one is refused.
    pub too_large: TooLargeReply,
    /// Life of a token, on the virtual clock.
    #[serde(with = "seconds")]
    pub token_ttl: Duration,
    /// One more token than this revokes the user's oldest.
    pub max_tokens_per_user: usize,
    /// Requests of a user in a fixed window.
    pub rate_limit: RateLimit,
    /// A request that follows a 429 within this real time is not yet a violation (for clients
    /// with requests side by side, which cross on the wire).
    #[serde(with = "seconds")]
    pub rate_grace: Duration,
    /// After this a file that no task references is removed, on the virtual clock.
    #[serde(with = "seconds")]
    pub orphan_ttl: Duration,
    /// Whether an attach refused for its file's format still fills the form's fields.
    pub bad_format_applies_mappings: bool,
    /// Most attachments of a task (`too_many_attachments`).
    pub max_attachments: usize,
    /// Most comments of a task (`too_many_comments`).
    pub max_comments: usize,
    /// Language of error texts.
    pub error_lang: ErrorLanguage,
    /// Whether virtual time runs by itself.
    pub clock: ClockMode,
    /// Whether the telephony API that Pyrus removed in 2024 answers (`/v4/calls`).
    pub legacy_calls: bool,
    /// Number of the first task.
    pub first_task_id: u64,
    /// Makes guids and tokens repeatable.
    pub seed: Option<u64>,
    /// Who may log in.
    pub users: Vec<FakeUser>,
    /// The connected extensions.
    pub accounts: Vec<FakeAccount>,
    /// Who has which work phone.
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

/// Which Pyrus is played.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PyrusMode {
    /// Auth at the accounts host; its reply names the other two.
    #[default]
    Cloud,
    /// All under `/api/v4` of one host; the auth reply names no URL.
    Onprem,
    /// As `Onprem`, of a version that has no telephony: those routes answer 202 and `{"Message":…}`.
    LegacyOnprem,
}

/// Whether URLs of the auth reply end with a slash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UrlSlash {
    /// They do.
    #[default]
    Trailing,
    /// They do not.
    None,
}

/// Body of a successful attach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttachOkBody {
    /// `{}`
    #[default]
    Object,
    /// Nothing at all.
    Empty,
    /// `null`
    Null,
    /// `{"task_id":N}`
    TaskId,
}

/// JSON type of `task_id` and `user_id`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdStyle {
    /// Both numbers.
    #[default]
    Number,
    /// Both strings.
    String,
    /// As in the example of the documentation: `task_id` a number, `user_id` a string.
    Mixed,
}

/// Case of `md5_hash`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Md5Case {
    /// `bb36…`
    #[default]
    Lower,
    /// `BB36…`
    Upper,
}

/// What a second registration of the same call does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RepeatCall {
    /// Adds a comment: a duplicate that people see, and that is counted.
    #[default]
    Comment,
    /// Updates silently.
    Update,
}

/// When a call gets a task of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskPolicy {
    /// A call from a number with an open task becomes a comment there.
    #[default]
    SameFromOpenTask,
    /// Always.
    AlwaysNew,
}

/// `responsible_person` when nobody was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResponsibleEmpty {
    /// The member is absent.
    #[default]
    Absent,
    /// `null`
    Null,
    /// `{}`
    Object,
}

/// Error code of an attach to an unknown `task_id`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownTaskError {
    /// `unrecognized_task_id`
    #[default]
    Task,
    /// `unrecognized_call_id`
    Call,
}

/// How a too large upload is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TooLargeReply {
    /// 400 and `too_large_request_length`, after the body was read.
    #[default]
    Json,
    /// 413 and HTML from the proxy, before the body was read, and the connection closed.
    HtmlEarly,
}

/// Language of error texts. Codes are the same in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorLanguage {
    /// English.
    #[default]
    En,
    /// Russian (UTF-8 Cyrillic).
    Ru,
}

/// Whether virtual time runs by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockMode {
    /// With real time, plus what it is advanced by.
    #[default]
    Running,
    /// Only when it is advanced.
    Frozen,
}

/// Requests of a user in a fixed window of virtual time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// So many requests.
    pub requests: u32,
    /// In so long.
    #[serde(with = "seconds")]
    pub window: Duration,
}

/// Somebody who may log in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FakeUser {
    /// The login of a person or a bot.
    pub login: String,
    /// The API key. It is in no snapshot, log or reply.
    pub security_key: String,
    /// The Pyrus accounts behind this login; with more than one, auth needs `person_id`.
    pub person_ids: Vec<u64>,
    /// Blocked by an administrator.
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

/// A telephony extension that is connected to a form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FakeAccount {
    /// Its id in the external system.
    pub account_id: String,
    /// The form that takes its calls.
    pub form_id: u64,
    /// Whether the form's owner lets calls in (`webhook_is_disabled`).
    pub webhook_enabled: bool,
    /// The field codes that the form has.
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

/// A Pyrus user who can be responsible for a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FakePerson {
    /// Their id.
    pub user_id: u64,
    /// First name.
    pub first_name: String,
    /// Last name.
    pub last_name: String,
    /// Numbers of the "Work phone" field; the first is the one in replies.
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

/// Durations as seconds, with fractions, in JSON.
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

/// The ready-made codes of a telephony form.
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
