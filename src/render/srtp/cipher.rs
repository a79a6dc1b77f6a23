//! Suites, key derivation and the two kinds of transforms of SRTP.

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
    /// AES in counter mode and HMAC-SHA1, with a tag of so many bytes.
    Counter { tag_bytes: usize },
    /// AES-GCM.
    Gcm,
}

impl SrtpSuite {
    /// By the name in SDP. `AES_CM_256_…` is what drafts of RFC 6188 had, and devices still send.
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

    const fn salt_bytes(self) -> usize {
        match self.mode {
            SrtpTransform::Counter { .. } => 14,
            SrtpTransform::Gcm => 12,
        }
    }
}

/// Session keys of one master key.
pub(super) enum SessionKeys {
    Counter { cipher: AesCipher, salt: [u8; 14], authenticator: Hmac<Sha1>, tag_bytes: usize },
    Gcm { cipher: GcmCipher, salt: [u8; 12] },
}

impl SessionKeys {
    /// Derives session keys from master key and salt (RFC 3711 section 4.3, derivation rate 0). `None` if their
    /// length is not the suite's.
    pub(super) fn derive(suite: SrtpSuite, master: &[u8]) -> Option<Self> {
        if master.len() != suite.key_bytes + suite.salt_bytes() {
            return None;
        }
        let (key, salt) = master.split_at(suite.key_bytes);
        let master = AesCipher::new(key)?;
        // The 96 bits of a GCM salt stand at the left (RFC 7714 section 11).
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

    /// The session with keys that are derived already.
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

    /// Decrypts into `out` with the first roll-over count whose tag fits, and gives that count.
    pub(super) fn open(
        &self,
        packet: &[u8],
        header: SrtpHeader,
        mki: &[u8],
        mut roll_overs: impl Iterator<Item = u32>,
        out: &mut Vec<u8>,
    ) -> Option<u32> {
        match self {
            Self::Counter { cipher, salt, authenticator, tag_bytes } => {
                let (rest, tag) = split_end(packet, *tag_bytes)?;
                let body = rest.strip_suffix(mki).filter(|body| body.len() >= header.length)?;
                let mut authenticated = authenticator.clone();
                authenticated.update(body);
                // The roll-over count is the last thing authenticated, so each guess costs two hash blocks.
                let fits = |roll_over: &u32| {
                    let mut guess = authenticated.clone();
                    guess.update(&roll_over.to_be_bytes());
                    guess.verify_truncated_left(tag).is_ok()
                };
                let roll_over = roll_overs.find(fits)?;
                out.clear();
                out.extend_from_slice(body);
                cipher.apply(counter_iv(*salt, header, roll_over), &mut out[header.length..]);
                Some(roll_over)
            }
            Self::Gcm { cipher, salt } => {
                // The tag belongs to the ciphertext, so here the MKI comes last (RFC 7714 section 8.2).
                let (body, tag) = split_end(packet.strip_suffix(mki)?, GCM_TAG)?;
                let (aad, ciphertext) = body.split_at_checked(header.length)?;
                roll_overs.find(|&roll_over| {
                    out.clear();
                    out.extend_from_slice(body);
                    debug_assert_eq!(aad.len() + ciphertext.len(), out.len());
                    cipher.open(gcm_iv(*salt, header, roll_over), aad, &mut out[header.length..], tag)
                })
            }
        }
    }
}

fn split_end(bytes: &[u8], length: usize) -> Option<(&[u8], &[u8])> {
    bytes.split_at_checked(bytes.len().checked_sub(length)?)
}

/// RFC 3711 section 4.1.1: salt, SSRC and packet index, each in its place.
fn counter_iv(salt: [u8; 14], header: SrtpHeader, roll_over: u32) -> [u8; 16] {
    let mut iv = [0; 16];
    iv[..14].copy_from_slice(&salt);
    xor(&mut iv[4..8], &header.ssrc.to_be_bytes());
    xor(&mut iv[8..12], &roll_over.to_be_bytes());
    xor(&mut iv[12..14], &header.sequence.to_be_bytes());
    iv
}

/// RFC 7714 section 8.1.
fn gcm_iv(salt: [u8; 12], header: SrtpHeader, roll_over: u32) -> [u8; 12] {
    let mut iv = salt;
    xor(&mut iv[2..6], &header.ssrc.to_be_bytes());
    xor(&mut iv[6..10], &roll_over.to_be_bytes());
    xor(&mut iv[10..], &header.sequence.to_be_bytes());
    iv
}

fn xor(bytes: &mut [u8], other: &[u8]) {
    for (byte, other) in bytes.iter_mut().zip(other) {
        *byte ^= other;
    }
}

/// AES of any key length, its key schedule done.
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

    /// Applies the key stream of counter mode.
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

/// AES-GCM of either key length.
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

/// Both GCM suites have the whole tag (RFC 7714 section 13.2).
const GCM_TAG: usize = 16;

#[cfg(test)]
impl SessionKeys {
    /// Encrypts an RTP packet, for tests.
    pub(super) fn seal(&self, packet: &[u8], roll_over: u32, mki: &[u8]) -> Vec<u8> {
        let header = SrtpHeader::read(packet).expect("a test packet is RTP");
        let mut sealed = packet.to_vec();
        match self {
            Self::Counter { cipher, salt, authenticator, tag_bytes } => {
                cipher.apply(counter_iv(*salt, header, roll_over), &mut sealed[header.length..]);
                let mut tag = authenticator.clone();
                tag.update(&sealed);
                tag.update(&roll_over.to_be_bytes());
                sealed.extend(mki);
                sealed.extend(&tag.finalize().into_bytes()[..*tag_bytes]);
            }
            Self::Gcm { cipher, salt } => {
                let iv = gcm_iv(*salt, header, roll_over);
                let (aad, data) = sealed.split_at_mut(header.length);
                let tag = match cipher {
                    GcmCipher::Short(gcm) => gcm.encrypt_in_place_detached(Nonce::from_slice(&iv), aad, data),
                    GcmCipher::Long(gcm) => gcm.encrypt_in_place_detached(Nonce::from_slice(&iv), aad, data),
                };
                sealed.extend(tag.expect("a test packet is short"));
                sealed.extend(mki);
            }
        }
        sealed
    }
}
