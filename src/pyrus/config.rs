//! The `[pyrus]` section.

use std::collections::BTreeMap;
use std::path::PathBuf;

use secrecy::SecretString;

use crate::call::record::Direction;
pub use crate::delivery::policy::{DurationUnit, RegisterAt};

/// Which host takes the upload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UploadVia {
    /// The files host when the auth reply names one, else the API host.
    #[default]
    Auto,
    /// The files host.
    Files,
    /// The API host.
    Api,
}

/// How calls get into Pyrus.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whether anything is delivered.
    pub enabled: bool,
    /// The auth URL, whole.
    pub auth_url: String,
    /// Login of the bot.
    pub login: String,
    /// Its key; `None` when it is to be read from `security_key_file`.
    pub security_key: Option<SecretString>,
    /// A file that holds the key.
    pub security_key_file: Option<PathBuf>,
    /// Needed only when the login has several Pyrus accounts.
    pub person_id: Option<u64>,
    /// Of the extension connected to the form.
    pub account_id: String,
    /// When a call is registered.
    pub register_at: RegisterAt,
    /// Which calls are registered.
    pub directions: Vec<Direction>,
    /// Whether unanswered calls are registered.
    pub unanswered: bool,
    /// The field codes that are filled from the call.
    pub send_mappings: Vec<String>,
    /// Further field codes, filled from the header of this name.
    pub mappings: BTreeMap<String, String>,
    /// A private CA, PEM.
    pub ca_file: Option<PathBuf>,
    /// Which host takes the upload.
    pub upload_via: UploadVia,
    /// Largest upload, MiB.
    pub max_upload_mib: u32,
    /// Unit of `CallDuration`.
    pub call_duration_unit: DurationUnit,
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
            directions: vec![Direction::Inbound, Direction::Outbound],
            unanswered: true,
            send_mappings: ["CallStartTime", "CallEndTime", "CallDuration", "PhoneNumberFrom", "PhoneNumberTo"]
                .map(String::from)
                .to_vec(),
            mappings: BTreeMap::new(),
            ca_file: None,
            upload_via: UploadVia::Auto,
            max_upload_mib: 2047,
            call_duration_unit: DurationUnit::Seconds,
        }
    }
}
