//! Reads SRTP keys from session descriptions: `a=crypto` lines (RFC 4568). The `Debug` output hides the keys.

use std::fmt;

use super::attribute::MAX_LIST;

/// An `a=crypto` line: the crypto suite and the keys of the packets that the sender of the description *sends*.
#[derive(Clone, PartialEq, Eq)]
pub struct CryptoAttribute {
    /// Number of the line within its m= section. An SDP answer repeats the number of the line that it chose from the
    /// offer.
    pub tag: u32,
    /// Crypto suite in upper case, e.g. `AES_CM_128_HMAC_SHA1_80`, `AEAD_AES_256_GCM`.
    pub suite: String,
    /// Master keys. If there are several, each packet names its key by a master key identifier (MKI).
    pub keys: Vec<CryptoKey>,
    /// Session parameters as written, e.g. `KDR=1`, `UNENCRYPTED_SRTP`, `UNAUTHENTICATED_SRTP`, `WSH=64`.
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

/// An SRTP master key, from which the keys of the packets are derived.
#[derive(Clone, PartialEq, Eq)]
pub struct CryptoKey {
    /// Master key and salt together, as base64 text.
    pub inline: String,
    /// Identifier (MKI) in the packets that use this key; `None` if the packets have no identifier.
    pub mki: Option<Mki>,
    /// Number of packets for which the key is valid, as written, e.g. `2^31`; `None` if no lifetime is given.
    pub lifetime: Option<String>,
}

/// Master key identifier (MKI): names the master key of a packet, if an `a=crypto` line has several (RFC 3711 section
/// 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mki {
    /// The identifier as a number.
    pub value: u64,
    /// Number of bytes that the identifier takes in each packet, 1 to 128.
    pub length_bytes: u8,
}

impl CryptoKey {
    /// Parses one key in the form `inline:` key [`|` lifetime] [`|` mki `:` length] (RFC 4568 section 6.1).
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
