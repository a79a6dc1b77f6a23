//! Passwords (argon2id, RFC 9106) and random tokens.

use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use sha2::{Digest as _, Sha256};

use super::AccountError;
use crate::text::hex;

/// Returns the hash of a password with a new random salt.
///
/// # Errors
/// Refuses a password that is too short or too long. Fails if the kernel provides no random bytes.
pub(crate) fn hash(password: &str) -> Result<String, AccountError> {
    if password.chars().count() < MIN_LENGTH {
        return Err(AccountError::Refused("the password needs at least 10 characters"));
    }
    if password.len() > MAX_BYTES {
        return Err(AccountError::Refused("the password is longer than 256 bytes"));
    }
    let salt = SaltString::encode_b64(&random::<16>()?).map_err(|error| AccountError::Crypto(error.to_string()))?;
    let hash = hasher()?.hash_password(password.as_bytes(), &salt);
    Ok(hash.map_err(|error| AccountError::Crypto(error.to_string()))?.to_string())
}

/// Returns whether a password belongs to a hash. If `hash` is `None`, the check fails but takes the same time. So its
/// duration does not reveal which user names exist.
pub(crate) fn matches(password: &str, hash: Option<&str>) -> bool {
    let hash = hash.filter(|hash| *hash != NO_PASSWORD);
    let parsed = PasswordHash::new(hash.unwrap_or(NOBODY));
    let (Ok(parsed), Ok(hasher)) = (parsed, hasher()) else { return false };
    let fits = password.len() <= MAX_BYTES && hasher.verify_password(password.as_bytes(), &parsed).is_ok();
    fits && hash.is_some()
}

/// Returns a new token of 32 random bytes as hexadecimal digits.
///
/// # Errors
/// Fails if the kernel gives no random bytes.
pub(crate) fn new_token() -> Result<String, AccountError> {
    Ok(hex(&random::<32>()?))
}

/// Returns the SHA-256 of a token as hexadecimal digits.
pub(crate) fn token_hash(token: &str) -> String {
    hex(&Sha256::digest(token.as_bytes()))
}

/// Compares two secrets in a time that does not depend on the position of their first difference.
pub(crate) fn is_same_secret(a: &str, b: &str) -> bool {
    // This comparison of hashes stops at the first difference. The position of the difference reveals nothing about the
    // secrets.
    token_hash(a) == token_hash(b)
}

fn hasher() -> Result<Argon2<'static>, AccountError> {
    let params = Params::new(MEMORY_KIB, PASSES, 1, None).map_err(|error| AccountError::Crypto(error.to_string()))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

pub(super) fn random<const N: usize>() -> Result<[u8; N], AccountError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| AccountError::Crypto(error.to_string()))?;
    Ok(bytes)
}

/// Memory that the computation of a hash takes, KiB. OWASP requires at least 19 MiB with two passes, and a recorder has
/// little memory to spare.
const MEMORY_KIB: u32 = 19 * 1024;
/// Number of passes that argon2id makes over its memory to compute a hash.
const PASSES: u32 = 2;
/// Minimum length of a password, characters.
const MIN_LENGTH: usize = 10;
/// Maximum length of a password, bytes. It limits the time of hashing.
const MAX_BYTES: usize = 256;
/// Value in place of a hash, for a user who can sign in only through the trusted proxy.
pub(super) const NO_PASSWORD: &str = "!";
/// Hash that belongs to no password. It has the same parameters as real hashes, so a check takes the same time.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5bm9ib2R5bm9ib2R5$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
