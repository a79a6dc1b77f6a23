//! Encrypts recordings at rest (`recording.encrypt_to`), in the age format: <https://age-encryption.org/v1>.
//!
//! The recorder has only public keys, so it cannot decrypt these files. Files are processed in chunks, so memory use
//! does not depend on their size.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use age::secrecy::zeroize::Zeroizing;
use age::stream::StreamReader;
use age::{DecryptError, Decryptor, Encryptor, x25519};
use sha2::{Digest as _, Sha256};
use symphonia::core::io::MediaSource;

use super::publish::{create_private, publish, temporary_path};
use crate::text::hex;

/// A public key of the program age (X25519), written `age1…`.
#[derive(Clone, PartialEq, Eq)]
pub struct AgeRecipient(x25519::Recipient);

/// Why a text is not an [`AgeRecipient`]. The error does not contain the text, because the text may be a secret key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecipientError {
    /// The text is a secret key, which must not be in a configuration.
    #[error("this is a secret key")]
    Secret,
    /// The text is an SSH key, which is not supported.
    #[error("this is an SSH key")]
    Ssh,
    /// The text is not a key, or its checksum shows a typing error.
    #[error("this is not a public key of age")]
    Other,
}

impl FromStr for AgeRecipient {
    type Err = RecipientError;

    fn from_str(text: &str) -> Result<Self, RecipientError> {
        if text.to_ascii_uppercase().contains(SECRET_PREFIX) {
            return Err(RecipientError::Secret);
        }
        if text.trim_start().starts_with("ssh-") {
            return Err(RecipientError::Ssh);
        }
        text.parse().map(Self).map_err(|_| RecipientError::Other)
    }
}

impl fmt::Display for AgeRecipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for AgeRecipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Secret keys that decrypt recordings. Only persons have them, never the service.
pub(crate) struct AgeIdentities(Vec<x25519::Identity>);

impl fmt::Debug for AgeIdentities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} identities", self.0.len())
    }
}

impl AgeIdentities {
    /// Reads an identity file as `age-keygen` writes it: an `AGE-SECRET-KEY-1…` on each line, comments after `#`.
    ///
    /// # Errors
    /// Fails if the file cannot be read, has no key, or has an invalid line. The error does not contain the line.
    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        let mut text = Zeroizing::new(String::new());
        File::open(path)?.take(MAX_IDENTITY_BYTES).read_to_string(&mut text)?;
        let mut identities = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let identity = line.parse::<x25519::Identity>().map_err(|_| {
                io::Error::new(io::ErrorKind::InvalidData, format!("line {number} is not a secret key of age (X25519)"))
            })?;
            identities.push(identity);
        }
        if identities.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it has no AGE-SECRET-KEY-1…"));
        }
        Ok(Self(identities))
    }
}

/// Size and hashes of a file that was just encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncryptedFile {
    /// Size of the encrypted file in bytes.
    pub bytes: u64,
    /// SHA-256 of the encrypted file, lower-case hexadecimal.
    pub sha256: String,
    /// SHA-256 of the content before encryption, lower-case hexadecimal.
    pub plain_sha256: String,
}

/// Returns the path at which the encrypted form of a plain file is stored.
pub fn encrypted_path(plain: &Path) -> PathBuf {
    let mut name = plain.as_os_str().to_owned();
    name.push(".");
    name.push(EXTENSION);
    PathBuf::from(name)
}

/// Encrypts a file and syncs the encrypted file to disk. The plain file is kept.
///
/// # Errors
/// Fails if a file cannot be read or written. Then the incomplete encrypted file is removed.
pub fn encrypt_file(plain: &Path, encrypted: &Path, recipients: &[AgeRecipient]) -> io::Result<EncryptedFile> {
    let temporary = temporary_path(encrypted);
    write_encrypted(plain, &temporary, recipients).and_then(|done| publish(encrypted).map(|()| done)).inspect_err(
        |_| {
            let _ = std::fs::remove_file(&temporary); // an incomplete file is of no use
        },
    )
}

fn write_encrypted(plain: &Path, temporary: &Path, recipients: &[AgeRecipient]) -> io::Result<EncryptedFile> {
    let mut source = HashingStream::new(File::open(plain)?);
    let target = HashingStream::new(BufWriter::with_capacity(BUFFER_BYTES, create_private(temporary)?));
    let recipients = recipients.iter().map(|r| &r.0 as &dyn age::Recipient);
    let encryptor = Encryptor::with_recipients(recipients).map_err(io::Error::other)?;
    let mut writer = encryptor.wrap_output(target)?;
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => writer.write_all(&buffer[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let mut target = writer.finish()?;
    target.flush()?;
    let (_, plain_sha256) = source.finish();
    let (bytes, sha256) = target.finish();
    Ok(EncryptedFile { bytes, sha256, plain_sha256 })
}

/// Opens an encrypted file; its content is decrypted while it is read.
///
/// # Errors
/// Fails if the file cannot be read, is not an age file, or cannot be decrypted by any of the identities.
pub(crate) fn open_encrypted(path: &Path, identities: &AgeIdentities) -> io::Result<DecryptingReader> {
    let file = BufReader::with_capacity(BUFFER_BYTES, File::open(path)?);
    let wrong = |error: DecryptError| io::Error::new(io::ErrorKind::InvalidData, error.to_string());
    let decryptor = Decryptor::new(file).map_err(wrong)?;
    let identities = identities.0.iter().map(|i| i as &dyn age::Identity);
    let mut inner = decryptor.decrypt(identities).map_err(wrong)?;
    // Seeking to the end checks the last chunk, so that a truncated file is refused now and not while it is read.
    let bytes = inner.seek(SeekFrom::End(0))?;
    inner.seek(SeekFrom::Start(0))?;
    Ok(DecryptingReader { inner, bytes })
}

/// Decrypts a file while it is read, so that no plain file is written.
pub(crate) struct DecryptingReader {
    inner: StreamReader<BufReader<File>>,
    bytes: u64,
}

impl Read for DecryptingReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer)
    }
}

impl Seek for DecryptingReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

impl MediaSource for DecryptingReader {
    fn is_seekable(&self) -> bool {
        true
    }

    fn byte_len(&self) -> Option<u64> {
        Some(self.bytes)
    }
}

/// Counts and hashes all bytes that are read or written through it.
struct HashingStream<T> {
    inner: T,
    hash: Sha256,
    bytes: u64,
}

impl<T> HashingStream<T> {
    fn new(inner: T) -> Self {
        Self { inner, hash: Sha256::new(), bytes: 0 }
    }

    fn add(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    fn finish(self) -> (u64, String) {
        (self.bytes, hex(&self.hash.finalize()))
    }
}

impl<R: Read> Read for HashingStream<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.add(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

impl<W: Write> Write for HashingStream<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.add(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// File name extension of encrypted files.
pub(crate) const EXTENSION: &str = "age";
/// Prefix of secret keys. The program age writes it in upper case, and accepts it in lower case, too.
const SECRET_PREFIX: &str = "AGE-SECRET-KEY-";
/// Number of bytes read at once: the chunk size of the age format.
const BUFFER_BYTES: usize = 64 * 1024;
/// Maximum number of bytes that are read of an identity file (secret keys). A key has 74 characters.
const MAX_IDENTITY_BYTES: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> (x25519::Identity, AgeRecipient) {
        let identity = x25519::Identity::generate();
        let recipient = identity.to_public().to_string().parse().expect("a public key");
        (identity, recipient)
    }

    #[test]
    fn file_encrypted_to_two_keys_is_opened_by_either_key_only() {
        let dir = tempfile::tempdir().expect("a folder");
        let plain = dir.path().join("a.wav");
        // The file is longer than three chunks of 64 KiB, so that the encrypted file has several chunks.
        let bytes: Vec<u8> = (0..200_001_u32).map(|n| (n % 251) as u8).collect();
        std::fs::write(&plain, &bytes).expect("written");
        let (keys, recipients): (Vec<_>, Vec<_>) = [key(), key()].into_iter().unzip();
        let path = encrypted_path(&plain);
        assert_eq!(path, dir.path().join("a.wav.age"));
        let encrypted = encrypt_file(&plain, &path, &recipients).expect("encrypted");
        assert_eq!((encrypted.bytes, encrypted.sha256), super::super::digest(&path).expect("there"));
        assert_eq!(encrypted.plain_sha256, super::super::digest(&plain).expect("there").1);
        let on_disk = std::fs::read(&path).expect("there");
        assert!(on_disk.starts_with(b"age-encryption.org/v1\n"));
        assert!(!on_disk.windows(64).any(|w| w == &bytes[..64]), "no plain text in it");
        for identity in keys {
            let mut out = Vec::new();
            open_encrypted(&path, &AgeIdentities(vec![identity]))
                .expect("its key")
                .read_to_end(&mut out)
                .expect("whole");
            assert!(out == bytes);
        }
        assert!(open_encrypted(&path, &AgeIdentities(vec![key().0])).is_err());
        assert!(!temporary_path(&path).exists());
    }

    #[test]
    fn truncated_or_changed_file_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let plain = dir.path().join("a.wav");
        std::fs::write(&plain, vec![7; 150_000]).expect("written");
        let (identity, recipient) = key();
        let path = encrypted_path(&plain);
        encrypt_file(&plain, &path, &[recipient]).expect("encrypted");
        let whole = std::fs::read(&path).expect("there");
        let keys = AgeIdentities(vec![identity]);
        let read = || open_encrypted(&path, &keys).and_then(|mut file| io::copy(&mut file, &mut io::sink()));
        assert_eq!(read().expect("whole"), 150_000);
        std::fs::write(&path, &whole[..whole.len() - 30_000]).expect("written");
        read().expect_err("it was cut off");
        let mut changed = whole.clone();
        changed[whole.len() / 2] ^= 1;
        std::fs::write(&path, changed).expect("written");
        read().expect_err("it was changed");
    }

    #[test]
    fn failure_leaves_no_partial_file() {
        let dir = tempfile::tempdir().expect("a folder");
        let gone = dir.path().join("gone.wav");
        encrypt_file(&gone, &encrypted_path(&gone), &[key().1]).expect_err("it is not there");
        let plain = dir.path().join("a.wav");
        std::fs::write(&plain, [1]).expect("written");
        encrypt_file(&plain, &encrypted_path(&plain), &[]).expect_err("nobody could read it");
        assert_eq!(std::fs::read_dir(dir.path()).expect("a folder").count(), 1);
    }

    #[test]
    fn public_key_is_accepted_and_secret_key_is_refused_unseen() {
        use age::secrecy::ExposeSecret as _;
        let (identity, recipient) = key();
        assert!(recipient.to_string().starts_with("age1"));
        let secret = identity.to_string();
        for text in [secret.expose_secret().to_owned(), secret.expose_secret().to_lowercase()] {
            let error = text.parse::<AgeRecipient>().expect_err("it is secret");
            assert_eq!(error, RecipientError::Secret);
            assert!(!format!("{error} {error:?}").contains(&text[16..]));
        }
        assert_eq!("ssh-ed25519 AAAA".parse::<AgeRecipient>(), Err(RecipientError::Ssh));
        let mut mistyped = recipient.to_string().into_bytes();
        mistyped[10] = if mistyped[10] == b'q' { b'p' } else { b'q' };
        assert_eq!(String::from_utf8(mistyped).expect("ASCII").parse::<AgeRecipient>(), Err(RecipientError::Other));
    }

    #[test]
    fn identity_file_may_have_comments_and_errors_hide_its_lines() {
        use age::secrecy::ExposeSecret as _;
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("key.txt");
        let secret = key().0.to_string();
        std::fs::write(&path, format!("# public key: age1\n\n{}\n", secret.expose_secret())).expect("written");
        assert_eq!(AgeIdentities::read(&path).expect("one key").0.len(), 1);
        std::fs::write(&path, format!("{}x\n", secret.expose_secret())).expect("written");
        let message = AgeIdentities::read(&path).expect_err("mistyped").to_string();
        assert!(message.contains("line 1") && !message.contains("AGE-SECRET"), "{message}");
        std::fs::write(&path, "# nothing\n").expect("written");
        AgeIdentities::read(&path).expect_err("no key");
    }
}
