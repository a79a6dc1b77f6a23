//! The configuration section `[archive]`.

use std::path::PathBuf;

/// Settings of the central archive and of this site's access to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Name of this site, unique in the archive. If empty, no archive is used.
    pub site: String,
    /// URL of the object store: `s3://BUCKET/PREFIX` or `file:///FOLDER`.
    pub objects: String,
    /// URL of the S3 server; `None` means the server of Amazon.
    pub endpoint: Option<String>,
    /// Region of the S3 bucket, e.g. `eu-central-1`.
    pub region: String,
    /// Id of the access key for the object store.
    pub access_key: String,
    /// File that contains the secret access key for the object store; `None` if none is configured.
    pub secret_key_file: Option<PathBuf>,
    /// URL of the index (the PostgreSQL database of the archive): `postgresql://ROLE@HOST/DATABASE`.
    pub index: String,
    /// File that contains the password of the PostgreSQL role; `None` if none is needed.
    pub index_password_file: Option<PathBuf>,
    /// PEM file with the certificates by which both servers are verified. `None` means the certificates of the system.
    pub ca_file: Option<PathBuf>,
    /// Whether retention must keep a recording until the archive has it.
    pub keep_until_archived: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            site: String::new(),
            objects: String::new(),
            endpoint: None,
            region: String::from("us-east-1"),
            access_key: String::new(),
            secret_key_file: None,
            index: String::new(),
            index_password_file: None,
            ca_file: None,
            keep_until_archived: false,
        }
    }
}

impl Config {
    /// Returns whether the calls of this machine are sent to an archive.
    pub(crate) fn is_used(&self) -> bool {
        !self.site.is_empty() && !self.objects.is_empty() && !self.index.is_empty()
    }
}

/// Returns whether a text may be the name of a site. The name becomes a part of object keys and of PostgreSQL role
/// names.
pub(crate) fn is_site_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=LONGEST_SITE).contains(&name.len()) && name.chars().all(fits)
}

/// Maximum length of a site's name, characters. PostgreSQL limits a role name to 63 bytes.
const LONGEST_SITE: usize = 40;
