//! The configuration section `[archive]`.

use std::path::PathBuf;

/// Settings of the central archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Name of this site, unique in the archive. If empty, no archive is used.
    pub site: String,
    /// URL of the object store: `s3://BUCKET/PREFIX` or `file:///FOLDER`.
    pub objects: String,
    /// URL of the S3 server; `None` means Amazon's.
    pub endpoint: Option<String>,
    /// Region of the bucket.
    pub region: String,
    /// Id of the access key.
    pub access_key: String,
    /// File that contains the secret access key.
    pub secret_key_file: Option<PathBuf>,
    /// URL of the index: `postgresql://ROLE@HOST/DATABASE`.
    pub index: String,
    /// File that contains the password of the role.
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
    /// Returns true if the calls of this machine are sent to an archive.
    pub(crate) fn is_used(&self) -> bool {
        !self.site.is_empty() && !self.objects.is_empty() && !self.index.is_empty()
    }
}

/// Returns true if a name can be part of object keys and role names, as the name of a site must.
pub(crate) fn is_site_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=LONGEST_SITE).contains(&name.len()) && name.chars().all(fits)
}

/// Longest name of a site, characters. A role name has at most 63 bytes in PostgreSQL.
const LONGEST_SITE: usize = 40;
