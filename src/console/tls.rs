//! TLS of the console. It uses the configured certificate, or a certificate that it makes at the first start and stores
//! in the state folder.

use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};
use tokio_rustls::TlsAcceptor;

use crate::ops::config::ConsoleConfig;
use crate::service::clock::wall_clock;
use crate::time::Timestamp;

/// The certificate of the console, ready for use.
#[derive(Clone)]
pub(super) struct ConsoleTls {
    /// Accepts TLS connections on TCP connections.
    pub(super) acceptor: TlsAcceptor,
    /// SHA-256 fingerprint of the certificate, as browsers show it.
    pub(super) fingerprint: String,
    /// Whether this machine made the certificate itself. Then browsers ask the user once whether to trust it.
    pub(super) is_self_made: bool,
}

/// Reasons why the console has no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// A file cannot be read or written.
    #[error("{0}: {1}")]
    Io(PathBuf, std::io::Error),
    /// A file contains no certificate or no key.
    #[error("{0} holds no certificate or private key in PEM: {1}")]
    Pem(PathBuf, String),
    /// Certificate and key do not belong together, or the certificate cannot be made.
    #[error("the certificate of the console cannot be used: {0}")]
    Unusable(String),
}

impl ConsoleTls {
    /// Returns the certificate; `None` if the console does not use TLS. It uses TLS if a certificate is configured, or
    /// if other machines can connect.
    ///
    /// # Errors
    /// Fails with a [`TlsError`].
    pub(super) fn of(config: &ConsoleConfig, state_folder: &Path) -> Result<Option<Self>, TlsError> {
        let is_local = config.listen.is_none_or(|listen| listen.ip().is_loopback());
        match (&config.certificate, &config.certificate_key) {
            (Some(certificate), Some(key)) => Self::read(certificate, key, false).map(Some),
            _ if is_local => Ok(None),
            _ => Self::kept(config, state_folder).map(Some),
        }
    }

    /// Returns the certificate in the state folder. If it is missing or expires soon, makes a new certificate first.
    fn kept(config: &ConsoleConfig, folder: &Path) -> Result<Self, TlsError> {
        let [certificate, key] = [CERTIFICATE_FILE, KEY_FILE].map(|name| folder.join(name));
        let age = std::fs::metadata(&certificate).and_then(|m| m.modified()).ok().and_then(|at| at.elapsed().ok());
        if !key.is_file() || age.is_none_or(|age| age > RENEWED_AFTER) {
            let [certificate_pem, key_pem] = make(&names(config), wall_clock())?;
            write_private(&key, &key_pem)?;
            write_private(&certificate, &certificate_pem)?;
        }
        Self::read(&certificate, &key, true)
    }

    fn read(certificate: &Path, key: &Path, is_self_made: bool) -> Result<Self, TlsError> {
        let wrong =
            |path: &Path, error: rustls::pki_types::pem::Error| TlsError::Pem(path.to_owned(), error.to_string());
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect)
            .map_err(|error| wrong(certificate, error))?;
        let Some(first) = chain.first() else {
            return Err(TlsError::Pem(certificate.to_owned(), String::from("it is empty")));
        };
        let fingerprint = fingerprint(first);
        let key = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, error))?;
        let unusable = |error: rustls::Error| TlsError::Unusable(error.to_string());
        let mut server = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(unusable)?;
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(server)), fingerprint, is_self_made })
    }
}

/// Returns the host name of this machine.
pub(super) fn machine_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_owned()).unwrap_or_default()
}

/// Returns the host names and addresses that the certificate contains.
fn names(config: &ConsoleConfig) -> Vec<String> {
    let public = config.public_url.as_deref().and_then(|url| url.split_once("://"));
    let public = public.map(|(_, host)| host.split(':').next().unwrap_or(host).to_owned());
    let address = config.listen.map(|listen| listen.ip()).filter(|ip: &IpAddr| !ip.is_unspecified());
    let mut names = vec![machine_name(), String::from("localhost")];
    names.extend(public);
    names.extend(address.map(|ip| ip.to_string()));
    names.retain(|name| !name.is_empty());
    names
}

/// Makes a certificate that is valid from `now` on, and its private key, both in PEM.
fn make(names: &[String], now: Timestamp) -> Result<[String; 2], TlsError> {
    let unusable = |error: rcgen::Error| TlsError::Unusable(error.to_string());
    let mut wanted = rcgen::CertificateParams::new(names).map_err(unusable)?;
    wanted.distinguished_name = rcgen::DistinguishedName::new();
    wanted.distinguished_name.push(rcgen::DnType::CommonName, format!("callspan on {}", machine_name()));
    wanted.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let day = |at: Timestamp| {
        let date = super::text::local(at).date();
        rcgen::date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    // The certificate has been valid for a day already, because the clocks of other machines may be behind.
    (wanted.not_before, wanted.not_after) = (day(now - DAY), day(now + VALID_FOR));
    let key = rcgen::KeyPair::generate().map_err(unusable)?;
    let certificate = wanted.self_signed(&key).map_err(unusable)?;
    Ok([certificate.pem(), key.serialize_pem()])
}

/// Writes a file that only this user can read. After a failure, the file has its old contents or does not exist.
fn write_private(path: &Path, text: &str) -> Result<(), TlsError> {
    let failed = |error| TlsError::Io(path.to_owned(), error);
    let part = path.with_extension("part");
    let _ = std::fs::remove_file(&part); // an interrupted start may have left this file
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(&part).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    std::fs::rename(&part, path).map_err(failed)
}

fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    Sha256::digest(certificate).iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

/// Name of the certificate file in the state folder.
const CERTIFICATE_FILE: &str = "console-certificate.pem";
/// Name of the file with the certificate's private key.
const KEY_FILE: &str = "console-key.pem";
/// Time for which a certificate is valid. Browsers distrust certificates that are valid for more than 825 days.
const VALID_FOR: Duration = Duration::from_secs(800 * 86_400);
/// Age from which a self-made certificate is replaced when the service starts. Then the old certificate is still valid
/// for 100 days.
const RENEWED_AFTER: Duration = Duration::from_secs(700 * 86_400);
const DAY: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;

    fn open_to_all() -> ConsoleConfig {
        ConsoleConfig { listen: Some("0.0.0.0:0".parse().expect("an address")), ..ConsoleConfig::default() }
    }

    #[test]
    fn certificate_is_made_once_and_kept_for_this_user_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().expect("a folder");
        let first = ConsoleTls::of(&open_to_all(), dir.path()).expect("made").expect("needed");
        let second = ConsoleTls::of(&open_to_all(), dir.path()).expect("read").expect("needed");
        assert_eq!(first.fingerprint, second.fingerprint);
        assert_eq!(first.fingerprint.len(), 32 * 3 - 1);
        let mode = std::fs::metadata(dir.path().join(KEY_FILE)).expect("a key").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn made_certificate_names_the_machine_and_is_valid_for_two_years() {
        let [pem, _] = make(&[String::from("localhost")], Timestamp::from_secs(1_795_424_400)).expect("made");
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate");
        // In a certificate, a time before 2050 has the form of a UTCTime, e.g. `261122000000Z` (RFC 5280 section
        // 4.1.2.5).
        let times = der.windows(15).filter(|window| window.starts_with(&[0x17, 13]) && window.ends_with(b"Z"));
        let times: Vec<_> = times.map(|time| String::from_utf8_lossy(&time[2..]).into_owned()).collect();
        assert_eq!(times, ["261122000000Z", "290131000000Z"], "from a day before the start, and 800 days after it");
        let name = format!("callspan on {}", machine_name());
        assert!(der.windows(name.len()).any(|window| window == name.as_bytes()));
    }

    #[test]
    fn loopback_needs_no_certificate_and_a_wrong_file_is_named() {
        let dir = tempfile::tempdir().expect("a folder");
        let local = ConsoleConfig { listen: Some("[::1]:0".parse().expect("an address")), ..ConsoleConfig::default() };
        assert!(ConsoleTls::of(&local, dir.path()).expect("fine").is_none());
        let path = dir.path().join("wrong.pem");
        std::fs::write(&path, "no certificate").expect("written");
        let wrong = ConsoleConfig { certificate: Some(path.clone()), certificate_key: Some(path), ..open_to_all() };
        let error = ConsoleTls::of(&wrong, dir.path()).err().expect("refused").to_string();
        assert!(error.contains("wrong.pem"), "{error}");
    }
}
