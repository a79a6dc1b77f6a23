//! Keys for SRTP in the signalling: `a=crypto` (RFC 4568). They are never shown by `Debug`.

use std::fmt;

use super::attribute::MAX_LIST;

/// One `a=crypto` line: an offered or the chosen suite with the keys of its *sender*.
#[derive(Clone, PartialEq, Eq)]
pub struct CryptoAttribute {
    /// Pairs the chosen line of an answer with that of the offer.
    pub tag: u32,
    /// The suite, upper case: `AES_CM_128_HMAC_SHA1_80`, `AEAD_AES_256_GCM`, ...
    pub suite: String,
    /// The keys; several differ in their MKI.
    pub keys: Vec<CryptoKey>,
    /// Session parameters as they stand (`KDR=`, `UNENCRYPTED_SRTP`, `UNAUTHENTICATED_SRTP`, `WSH=`...).
    pub params: Vec<String>,
}

impl CryptoAttribute {
    pub(super) fn parse(value: &str) -> Option<Self> {
        let mut words = value.split_ascii_whitespace();
        let tag = words.next()?.parse().ok()?;
        let suite = words.next()?.to_ascii_uppercase();
        let keys: Vec<CryptoKey> = words.next()?.split(';').filter_map(CryptoKey::parse).take(MAX_LIST).collect();
        let params = words.take(MAX_LIST).map(str::to_owned).collect();
        (!keys.is_empty()).then_some(Self { tag, suite, keys, params })
    }
}

impl fmt::Debug for CryptoAttribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crypto")
            .field("tag", &self.tag)
            .field("suite", &self.suite)
            .field("keys", &self.keys)
            .field("params", &self.params)
            .finish()
    }
}

/// A master key.
#[derive(Clone, PartialEq, Eq)]
pub struct CryptoKey {
    /// Base64 of master key and salt.
    pub inline: String,
    /// The master key identifier that packets under this key carry.
    pub mki: Option<Mki>,
    /// Packets for which the key may be used, as it stands: `2^31` or a number.
    pub lifetime: Option<String>,
}

/// A master key identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mki {
    /// Its value.
    pub value: u64,
    /// Its length in each packet, in bytes, 1..=128.
    pub length_bytes: u8,
}

impl CryptoKey {
    /// `inline:` key [`|` lifetime] [`|` mki `:` length]
    fn parse(text: &str) -> Option<Self> {
        let (method, info) = text.split_once(':')?;
        if !method.trim().eq_ignore_ascii_case("inline") {
            return None;
        }
        let mut parts = info.split('|').map(str::trim);
        let inline = parts.next().filter(|key| !key.is_empty())?.to_owned();
        let mut key = Self { inline, mki: None, lifetime: None };
        for part in parts {
            match part.split_once(':') {
                Some((value, length)) => key.mki = Mki::parse(value, length),
                None => key.lifetime = Some(part.to_owned()).filter(|l| !l.is_empty()),
            }
        }
        Some(key)
    }
}

impl fmt::Debug for CryptoKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("inline", &"[hidden]")
            .field("mki", &self.mki)
            .field("lifetime", &self.lifetime)
            .finish()
    }
}

impl Mki {
    fn parse(value: &str, length: &str) -> Option<Self> {
        let length_bytes = length.trim().parse().ok().filter(|l| (1..=128).contains(l))?;
        Some(Self { value: value.trim().parse().ok()?, length_bytes })
    }
}
