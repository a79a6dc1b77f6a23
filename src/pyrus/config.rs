//! The configuration section `[pyrus]`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use secrecy::SecretString;

use crate::call::record::CallDirection;
pub use crate::delivery::{DurationUnit, RatingType, RegisterAt};

/// The host to which recordings are uploaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UploadVia {
    /// The files host if the `auth` response names one, else the API host.
    #[default]
    Auto,
    /// Always the host for files that the `auth` response names.
    Files,
    /// Always the API host.
    Api,
}

/// Settings of the delivery to Pyrus.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whether calls are delivered.
    pub enabled: bool,
    /// Complete URL of the endpoint `auth`.
    pub auth_url: String,
    /// Login of the bot.
    pub login: String,
    /// Security key of the bot. `None` if it is read from `security_key_file`.
    pub security_key: Option<SecretString>,
    /// File that contains the security key.
    pub security_key_file: Option<PathBuf>,
    /// Id of the person (account) to log in as. Required only if the login has several Pyrus accounts.
    pub person_id: Option<u64>,
    /// `account_id` of the telephony extension that is connected to the form.
    pub account_id: String,
    /// Time at which calls are registered.
    pub register_at: RegisterAt,
    /// Directions of the calls to register.
    pub directions: Vec<CallDirection>,
    /// Whether unanswered calls are registered.
    pub unanswered: bool,
    /// Codes of the form fields to fill with call data.
    pub send_mappings: Vec<String>,
    /// Codes of further form fields, each with the name of the SIP header field that fills it.
    pub mappings: BTreeMap<String, String>,
    /// PEM file with the certificate of a private CA.
    pub ca_file: Option<PathBuf>,
    /// The host to which recordings are uploaded.
    pub upload_via: UploadVia,
    /// Size of the largest file to upload, MiB.
    pub max_upload_mib: u32,
    /// Unit of the `CallDuration` field.
    pub call_duration_unit: DurationUnit,
    /// Code of the form field that gets the outcome of the call; `None` if the outcome is not sent.
    pub outcome_field: Option<String>,
    /// JSON type of the value of the field `Rating`.
    pub rating_type: RatingType,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: false,
            auth_url: String::from("https://accounts.pyrus.com/api/v4/auth"),
            login: String::new(),
            security_key: None,
            security_key_file: None,
            person_id: None,
            account_id: String::new(),
            register_at: RegisterAt::Auto,
            directions: vec![CallDirection::Inbound, CallDirection::Outbound],
            unanswered: true,
            send_mappings: ["CallStartTime", "CallEndTime", "CallDuration", "PhoneNumberFrom", "PhoneNumberTo"]
                .map(String::from)
                .to_vec(),
            mappings: BTreeMap::new(),
            ca_file: None,
            upload_via: UploadVia::Auto,
            max_upload_mib: 2047,
            call_duration_unit: DurationUnit::Seconds,
            outcome_field: None,
            rating_type: RatingType::Number,
        }
    }
}
