//! The second factor: codes of an authenticator app (TOTP, RFC 6238: HMAC-SHA-1, 30 s, six digits).

use hmac::{Hmac, Mac as _};
use sha1::Sha1;

use super::{AccountError, password};
use crate::time::Timestamp;

/// The secret that an account shares with an authenticator app. `Debug` never prints it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct TotpSecret([u8; SECRET_BYTES]);

impl std::fmt::Debug for TotpSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TotpSecret")
    }
}

impl TotpSecret {
    /// Creates a new random secret.
    ///
    /// # Errors
    /// Fails if the kernel gives no random bytes.
    pub(crate) fn new() -> Result<Self, AccountError> {
        Ok(Self(password::random()?))
    }

    /// Parses a secret from the text that [`TotpSecret::to_base32`] returns.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut bytes = Vec::new();
        let (mut bits, mut count) = (0_u32, 0);
        for c in text.bytes() {
            bits = bits << 5 | u32::try_from(BASE32.iter().position(|b| *b == c)?).ok()?;
            count += 5;
            if count >= 8 {
                count -= 8;
                bytes.push((bits >> count & 0xff) as u8);
            }
        }
        bytes.try_into().ok().map(Self)
    }

    /// Returns the secret in the form that authenticator apps accept (RFC 4648 section 6, without padding).
    pub(crate) fn to_base32(&self) -> String {
        let group = |five: &[u8]| {
            let bits = five.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
            (0..8).rev().map(|n| char::from(BASE32[(bits >> (n * 5) & 31) as usize])).collect::<String>()
        };
        self.0.chunks(5).map(group).collect()
    }

    /// Returns the URI that an authenticator app reads from a QR code.
    pub(crate) fn to_uri(&self, user: &str) -> String {
        format!("otpauth://totp/callspan:{user}?secret={}&issuer=callspan", self.to_base32())
    }

    /// Returns the time step (30 s) to which a code belongs; `None` for a wrong code. Because clocks differ, codes of
    /// the previous and the next step are accepted, too.
    pub(crate) fn step_of(&self, code: &str, now: Timestamp) -> Option<i64> {
        let current = now.as_micros() / 1_000_000 / STEP_S;
        let code: String = code.chars().filter(|c| !c.is_whitespace()).collect();
        (current - 1..=current + 1).find(|step| password::is_same_secret(&self.code(*step), &code))
    }

    /// Returns the code that an authenticator app shows at a time.
    #[cfg(test)]
    pub(crate) fn code_at(&self, now: Timestamp) -> String {
        self.code(now.as_micros() / 1_000_000 / STEP_S)
    }

    /// Returns the six digits of the code for a time step (RFC 4226 section 5.3).
    fn code(&self, step: i64) -> String {
        let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(&self.0) else { return String::new() };
        mac.update(&step.to_be_bytes());
        let hash = mac.finalize().into_bytes();
        let at = usize::from(hash[19] & 15);
        let number = hash[at..at + 4].iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
        format!("{:06}", (number & 0x7fff_ffff) % 1_000_000)
    }
}

/// Length of a secret, bytes: RFC 4226 section 4 recommends 160 bits.
const SECRET_BYTES: usize = 20;
/// Length of a time step in seconds. Each step has its own code.
const STEP_S: i64 = 30;
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_rfc_6238() {
        let secret = TotpSecret(*b"12345678901234567890");
        // Test values of RFC 6238 appendix B. The RFC has codes of eight digits; ours are the last six digits.
        for (seconds, code) in [(59, "287082"), (1_111_111_109, "081804"), (2_000_000_000, "279037")] {
            let now = Timestamp::from_secs(seconds);
            assert_eq!(secret.step_of(code, now), Some(seconds / 30));
            assert_eq!(secret.step_of(&format!("{} {}", &code[..3], &code[3..]), now), Some(seconds / 30));
            assert_eq!(secret.step_of(code, Timestamp::from_secs(seconds + 61)), None, "too old");
        }
        assert_eq!(secret.step_of("", Timestamp::from_secs(59)), None);
    }

    #[test]
    fn secret_survives_its_text() {
        let secret = TotpSecret(*b"12345678901234567890");
        assert_eq!(secret.to_base32(), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        assert_eq!(TotpSecret::parse(&secret.to_base32()), Some(secret));
        assert_eq!(TotpSecret::parse("GEZDGNBV"), None);
        assert_eq!(TotpSecret::parse("0189"), None);
    }
}
