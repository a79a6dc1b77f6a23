//! The configuration section `[pyrus]`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use secrecy::SecretString;

use crate::call::record::CallDirection;
pub use crate::delivery::{DurationUnit, RatingType, RegisterAt};

/// The host to which recordings are uploaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UploadVia {
    /// The host that the `auth` response names for files; the API host if the response names none.
    #[default]
    Auto,
    /// The same as [`UploadVia::Auto`], i.e. the host for files.
    Files,
    /// Recordings always go to the API host.
    Api,
}

/// Settings of the delivery to Pyrus.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whether calls are delivered to Pyrus.
    pub enabled: bool,
    /// Complete URL of the endpoint `auth`, which issues access tokens.
    pub auth_url: String,
    /// Login name of the Pyrus account (bot) that callspan uses.
    pub login: String,
    /// Security key of the Pyrus account (bot) that callspan uses. `None` if it is read from `security_key_file`.
    pub security_key: Option<SecretString>,
    /// File that contains the security key; `None` if the key comes from elsewhere.
    pub security_key_file: Option<PathBuf>,
    /// Id of the person (account) to log in as. Required only if the login has several Pyrus accounts.
    pub person_id: Option<u64>,
    /// `account_id` that Pyrus shows in the settings of the form's telephony extension (a plug-in of Pyrus).
    pub account_id: String,
    /// The moment of a call at which it is registered in Pyrus, e.g. when it rings.
    pub register_at: RegisterAt,
    /// Directions of the calls that are registered in Pyrus, e.g. inbound.
    pub directions: Vec<CallDirection>,
    /// Whether unanswered calls are registered in Pyrus, too.
    pub unanswered: bool,
    /// Codes of the form fields that are filled with facts of the call, e.g. `CallDuration`.
    pub send_mappings: Vec<String>,
    /// Further form fields that get the value of a SIP header. Maps the code of the field to the name of the header.
    pub mappings: BTreeMap<String, String>,
    /// PEM file with the certificate of a private certificate authority; `None` if only public authorities are used.
    pub ca_file: Option<PathBuf>,
    /// The host to which recordings are uploaded, i.e. the files host or the API host.
    pub upload_via: UploadVia,
    /// Maximum size of a file that is uploaded, MiB.
    pub max_upload_mib: u32,
    /// Unit of the form field `CallDuration`.
    pub call_duration_unit: DurationUnit,
    /// Code of the form field that gets the outcome of the call; `None` if the outcome is not sent.
    pub outcome_field: Option<String>,
    /// JSON type of the value of the form field `Rating`.
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
