//! SRTP crypto suites, key derivation, and the two transforms: AES in counter mode and AES-GCM.

use aes::cipher::{BlockCipher, BlockEncrypt, BlockSizeUser, InnerIvInit, KeyInit, StreamCipher, consts::U16};
use aes::{Aes128, Aes192, Aes256};
use aes_gcm::aead::AeadInPlace;
use aes_gcm::{Aes128Gcm, Aes256Gcm, Nonce, Tag};
use ctr::{Ctr128BE, CtrCore};
use hmac::{Hmac, Mac};
use sha1::Sha1;

use super::SrtpHeader;

/// A crypto suite (RFC 4568 section 6.2, RFC 6188 section 4, RFC 7714 section 14.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SrtpSuite {
    key_bytes: usize,
    mode: SrtpTransform,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SrtpTransform {
    /// AES in counter mode with HMAC-SHA1; the authentication tag has `tag_bytes` bytes.
    Counter { tag_bytes: usize },
    /// AES-GCM, which encrypts and authenticates in one step.
    Gcm,
}

impl SrtpSuite {
    /// Returns the suite for a name in SDP. Drafts of RFC 6188 used the name `AES_CM_256_…`, which devices still send.
    pub(super) fn named(name: &str) -> Option<Self> {
        let (cipher, tag) = match name.trim().to_ascii_uppercase().as_str() {
            "AEAD_AES_128_GCM" => return Some(Self { key_bytes: 16, mode: SrtpTransform::Gcm }),
            "AEAD_AES_256_GCM" => return Some(Self { key_bytes: 32, mode: SrtpTransform::Gcm }),
            other => {
                let (cipher, tag) = other.split_once("_HMAC_SHA1_")?;
                (cipher.to_owned(), tag.to_owned())
            }
        };
        let key_bytes = match cipher.as_str() {
            "AES_CM_128" => 16,
            "AES_192_CM" | "AES_CM_192" => 24,
            "AES_256_CM" | "AES_CM_256" => 32,
            _ => return None,
        };
        let tag_bytes = match tag.as_str() {
            "80" => 10,
            "32" => 4,
            _ => return None,
        };
        Some(Self { key_bytes, mode: SrtpTransform::Counter { tag_bytes } })
    }

    /// Returns the suite with the other length of the authentication tag; `None` for GCM, which has one length only.
    pub(super) const fn with_other_tag(self) -> Option<Self> {
        match self.mode {
            SrtpTransform::Counter { tag_bytes } => {
                let tag_bytes = if tag_bytes == 4 { 10 } else { 4 };
                Some(Self { mode: SrtpTransform::Counter { tag_bytes }, ..self })
            }
            SrtpTransform::Gcm => None,
        }
    }

    const fn salt_bytes(self) -> usize {
        match self.mode {
            SrtpTransform::Counter { .. } => 14,
            SrtpTransform::Gcm => 12,
        }
    }
}

/// The session keys derived from one master key.
pub(super) enum SessionKeys {
    Counter { cipher: AesCipher, salt: [u8; 14], authenticator: Hmac<Sha1>, tag_bytes: usize },
    Gcm { cipher: GcmCipher, salt: [u8; 12] },
}

impl SessionKeys {
    /// Derives session keys from master key and salt (RFC 3711 section 4.3, derivation rate 0). Returns `None` if the
    /// length of `master` does not fit the suite.
    pub(super) fn derive(suite: SrtpSuite, master: &[u8]) -> Option<Self> {
        if master.len() != suite.key_bytes + suite.salt_bytes() {
            return None;
        }
        let (key, salt) = master.split_at(suite.key_bytes);
        let master = AesCipher::new(key)?;
        // Key derivation needs a salt of 112 bits. A GCM salt has 96 bits and is left-aligned in them (RFC 7714 section
        // 11).
        let mut master_salt = [0; 14];
        master_salt[..salt.len()].copy_from_slice(salt);
        let derived = |label: u8, length: usize| {
            let mut iv = [0; 16];
            iv[..14].copy_from_slice(&master_salt);
            iv[7] ^= label;
            let mut stream = vec![0; length];
            master.apply(iv, &mut stream);
            stream
        };
        Self::from_session_keys(suite, &derived(0, suite.key_bytes), &derived(1, 20), &derived(2, suite.salt_bytes()))
    }

    /// Returns session keys from given values, without deriving them from a master key.
    pub(super) fn from_session_keys(suite: SrtpSuite, key: &[u8], authentication: &[u8], salt: &[u8]) -> Option<Self> {
        Some(match suite.mode {
            SrtpTransform::Counter { tag_bytes } => Self::Counter {
                cipher: AesCipher::new(key)?,
                salt: *salt.first_chunk()?,
                authenticator: <Hmac<Sha1> as Mac>::new_from_slice(authentication).ok()?,
                tag_bytes,
            },
            SrtpTransform::Gcm => Self::Gcm { cipher: GcmCipher::new(key)?, salt: *salt.first_chunk()? },
        })
    }

    /// Returns whether a right authentication tag proves which bytes of the packet are encrypted.
    pub(super) const fn tag_proves_encrypted_bytes(&self) -> bool {
        matches!(self, Self::Gcm { .. })
    }

    /// Decrypts a packet into `out`. Tries rollover counts until the authentication tag is right, and returns that
    /// count.
    pub(super) fn open(
        &self,
        packet: &[u8],
        header: SrtpHeader,
        mki: &[u8],
        mut rollovers: impl Iterator<Item = u32>,
        out: &mut Vec<u8>,
    ) -> Option<u32> {
        match self {
            Self::Counter { cipher, salt, authenticator, tag_bytes } => {
                let (rest, tag) = split_end(packet, *tag_bytes)?;
                let body = rest.strip_suffix(mki).filter(|body| body.len() >= header.length)?;
                let mut authenticated = authenticator.clone();
                authenticated.update(body);
                // Two guesses differ only in the rollover count, which is the end of the authenticated bytes. So each
                // further guess costs only two hash blocks.
                let fits = |rollover: &u32| {
                    let mut guess = authenticated.clone();
                    guess.update(&rollover.to_be_bytes());
                    guess.verify_truncated_left(tag).is_ok()
                };
                let rollover = rollovers.find(fits)?;
                out.clear();
                out.extend_from_slice(body);
                header.begin_decryption(out);
                cipher.apply(counter_iv(*salt, header, rollover), &mut out[header.clear_bytes()..]);
                header.finish_decryption(out);
                Some(rollover)
            }
            Self::Gcm { cipher, salt } => {
                // The GCM tag is part of the ciphertext, so the MKI comes after it (RFC 7714 section 8.2).
                let (body, tag) = split_end(packet.strip_suffix(mki)?, GCM_TAG)?;
                if body.len() < header.length {
                    return None;
                }
                let rollover = rollovers.find(|&rollover| {
                    out.clear();
                    out.extend_from_slice(body);
                    header.begin_decryption(out);
                    let (aad, ciphertext) = out.split_at_mut(header.clear_bytes());
                    cipher.open(gcm_iv(*salt, header, rollover), aad, ciphertext, tag)
                })?;
                header.finish_decryption(out);
                Some(rollover)
            }
        }
    }
}

fn split_end(bytes: &[u8], length: usize) -> Option<(&[u8], &[u8])> {
    bytes.split_at_checked(bytes.len().checked_sub(length)?)
}

/// Returns the initialization vector (RFC 3711 section 4.1.1): salt, SSRC and packet index combined by XOR.
fn counter_iv(salt: [u8; 14], header: SrtpHeader, rollover: u32) -> [u8; 16] {
    let mut iv = [0; 16];
    iv[..14].copy_from_slice(&salt);
    xor(&mut iv[4..8], &header.ssrc.to_be_bytes());
    xor(&mut iv[8..12], &rollover.to_be_bytes());
    xor(&mut iv[12..14], &header.sequence.to_be_bytes());
    iv
}

/// Returns the initialization vector of GCM (RFC 7714 section 8.1).
fn gcm_iv(salt: [u8; 12], header: SrtpHeader, rollover: u32) -> [u8; 12] {
    let mut iv = salt;
    xor(&mut iv[2..6], &header.ssrc.to_be_bytes());
    xor(&mut iv[6..10], &rollover.to_be_bytes());
    xor(&mut iv[10..], &header.sequence.to_be_bytes());
    iv
}

fn xor(bytes: &mut [u8], other: &[u8]) {
    for (byte, other) in bytes.iter_mut().zip(other) {
        *byte ^= other;
    }
}

/// AES with its key schedule, for each key length.
pub(super) enum AesCipher {
    Short(Box<Aes128>),
    Middle(Box<Aes192>),
    Long(Box<Aes256>),
}

impl AesCipher {
    fn new(key: &[u8]) -> Option<Self> {
        Some(match key.len() {
            16 => Self::Short(Box::new(Aes128::new_from_slice(key).ok()?)),
            24 => Self::Middle(Box::new(Aes192::new_from_slice(key).ok()?)),
            32 => Self::Long(Box::new(Aes256::new_from_slice(key).ok()?)),
            _ => return None,
        })
    }

    /// XORs data with the key stream of counter mode.
    fn apply(&self, iv: [u8; 16], data: &mut [u8]) {
        match self {
            Self::Short(aes) => apply(&**aes, iv, data),
            Self::Middle(aes) => apply(&**aes, iv, data),
            Self::Long(aes) => apply(&**aes, iv, data),
        }
    }
}

fn apply<C>(cipher: C, iv: [u8; 16], data: &mut [u8])
where
    C: BlockEncrypt + BlockCipher + BlockSizeUser<BlockSize = U16>,
{
    let core = CtrCore::inner_iv_init(cipher, &iv.into());
    Ctr128BE::<C>::from_core(core).apply_keystream(data);
}

/// AES-GCM with its key schedule, for each key length.
pub(super) enum GcmCipher {
    Short(Box<Aes128Gcm>),
    Long(Box<Aes256Gcm>),
}

impl GcmCipher {
    fn new(key: &[u8]) -> Option<Self> {
        Some(match key.len() {
            16 => Self::Short(Box::new(Aes128Gcm::new_from_slice(key).ok()?)),
            32 => Self::Long(Box::new(Aes256Gcm::new_from_slice(key).ok()?)),
            _ => return None,
        })
    }

    fn open(&self, iv: [u8; 12], aad: &[u8], data: &mut [u8], tag: &[u8]) -> bool {
        let (nonce, tag) = (Nonce::from_slice(&iv), Tag::from_slice(tag));
        match self {
            Self::Short(gcm) => gcm.decrypt_in_place_detached(nonce, aad, data, tag).is_ok(),
            Self::Long(gcm) => gcm.decrypt_in_place_detached(nonce, aad, data, tag).is_ok(),
        }
    }
}

/// Length of the authentication tag of both GCM suites, bytes (RFC 7714 section 13.2).
const GCM_TAG: usize = 16;

#[cfg(test)]
impl SessionKeys {
    /// Encrypts an RTP packet for tests.
    pub(super) fn protect(&self, packet: &[u8], rollover: u32, mki: &[u8]) -> Vec<u8> {
        let header = SrtpHeader::read(packet).expect("a test packet is RTP");
        let mut protected = packet.to_vec();
        match self {
            Self::Counter { cipher, salt, authenticator, tag_bytes } => {
                cipher.apply(counter_iv(*salt, header, rollover), &mut protected[header.length..]);
                let mut tag = authenticator.clone();
                tag.update(&protected);
                tag.update(&rollover.to_be_bytes());
                protected.extend(mki);
                protected.extend(&tag.finalize().into_bytes()[..*tag_bytes]);
            }
            Self::Gcm { cipher, salt } => {
                let iv = gcm_iv(*salt, header, rollover);
                let (aad, data) = protected.split_at_mut(header.length);
                let tag = match cipher {
                    GcmCipher::Short(gcm) => gcm.encrypt_in_place_detached(Nonce::from_slice(&iv), aad, data),
                    GcmCipher::Long(gcm) => gcm.encrypt_in_place_detached(Nonce::from_slice(&iv), aad, data),
                };
                protected.extend(tag.expect("a test packet is short"));
                protected.extend(mki);
            }
        }
        protected
    }
}
