//! Decrypts SRTP (RFC 3711, 6188, 7714) with the keys from the signalling (SDES, RFC 4568).
//!
//! Packets do not contain the rollover counter (ROC). A recorder that joins in mid-call, misses packets or gets
//! duplicates cannot count it. So it is guessed, and the authentication tag proves the guess. A duplicate is decrypted
//! like any packet. Replaced keys remain valid for packets that arrive late.
//!
//! No type with a key implements `Debug` or `Display`, so no key can be printed.

mod cipher;

use crate::call::decision::{SrtpContext, SrtpKey};
use cipher::{SessionKeys, SrtpSuite};

/// The reason why keys cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSrtpContext {
    /// callspan does not support the crypto suite.
    #[error("the SRTP suite is not known")]
    Suite,
    /// A key is not base64, or its length does not fit the suite.
    #[error("an SRTP key does not fit its suite")]
    Key,
    /// There are no keys in the signalling.
    #[error("no SRTP key is given")]
    NoKey,
}

/// Reason why a packet was not decrypted. Rendering counts such packets and continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SrtpError {
    /// The bytes are not an RTP packet, or too short for the authentication tag.
    #[error("this is no SRTP packet")]
    Malformed,
    /// The authentication tag is wrong for every key and every rollover count that was tried.
    #[error("no key fits the packet's authentication tag")]
    Authentication,
}

/// Decrypts the SRTP packets of one stream with its keys.
pub struct SrtpStream {
    /// The keys that are tried. Newest keys come first, but a key that fitted moves to the front.
    keys: Vec<MasterKeySession>,
    /// Packet index of each SSRC that the stream has had.
    sources: Vec<SsrcIndex>,
    /// Number of consecutive packets that no key decrypted.
    refused: u32,
}

/// The session keys that were derived from one master key.
struct MasterKeySession {
    session: SessionKeys,
    /// Master key identifier (MKI) as in the packets; empty if packets have none.
    mki: Vec<u8>,
    /// Whether the receiver announced that it accepts encrypted header extensions (Cryptex, RFC 9335).
    cryptex: bool,
    /// Maximum number of rollover counts that are tried with a packet.
    max_guesses: usize,
}

/// The packet index of one SSRC (RFC 3711 section 3.3.1): rollover count and highest sequence number.
#[derive(Clone, Copy, Debug)]
struct SsrcIndex {
    ssrc: u32,
    rollover: u32,
    highest: u16,
}

impl SrtpStream {
    /// Returns a decryptor with the SRTP keys that the call engine wrote into the spool.
    ///
    /// # Errors
    /// Fails if the suite is unknown, or if a key does not fit the suite.
    pub fn new(context: &SrtpContext) -> Result<Self, BadSrtpContext> {
        Self::with_offered(context, &[])
    }

    /// Returns a decryptor with the keys of the stream, and with keys in an unanswered offer of its sender.
    ///
    /// # Errors
    /// Fails if the suite of the stream's keys is unknown, or if a key does not fit the suite.
    pub(crate) fn with_offered(context: &SrtpContext, offered: &[SrtpContext]) -> Result<Self, BadSrtpContext> {
        Ok(Self { keys: keys_with_offered(context, offered)?, sources: Vec::new(), refused: 0 })
    }

    /// Adds new keys after a re-INVITE; they are tried first. The old keys are kept for packets that arrive late. Keys
    /// in an unanswered offer are added, too. Rollover counts continue; if a sender restarts from 0, guessing finds it.
    ///
    /// # Errors
    /// Fails if the suite is unknown, or if a key does not fit the suite. The stream is then unchanged.
    pub(crate) fn rekey(&mut self, context: &SrtpContext, offered: &[SrtpContext]) -> Result<(), BadSrtpContext> {
        let mut keys = keys_with_offered(context, offered)?;
        keys.append(&mut self.keys);
        keys.truncate(MAX_SESSIONS);
        self.keys = keys;
        Ok(())
    }

    /// Decrypts a packet. Replaces the content of `out` by header, extensions and plain payload.
    ///
    /// # Errors
    /// Fails if the packet is malformed or no key decrypts it. The content of `out` is then undefined.
    pub fn unprotect(&mut self, packet: &[u8], out: &mut Vec<u8>) -> Result<(), SrtpError> {
        let header = SrtpHeader::read(packet).ok_or(SrtpError::Malformed)?;
        let known = self.sources.iter().position(|source| source.ssrc == header.ssrc);
        // With a wrong key, every guess of the rollover count fails, and guessing is slow. So after [`PATIENCE`] failed
        // packets, only every [`PATIENCE`]-th packet tries all counts up to [`MAX_GUESS`].
        let most = if self.refused < PATIENCE || self.refused.is_multiple_of(PATIENCE) {
            MAX_GUESS
        } else {
            MAX_GUESS_AFTER_FAILURES
        };
        let guesses = RolloverGuesses::new(known.map(|at| self.sources[at]), header.sequence, most);
        self.refused = self.refused.saturating_add(1);
        let (at, rollover) = self.open(packet, header, &guesses, out).ok_or(SrtpError::Authentication)?;
        self.refused = 0;
        self.keys[..=at].rotate_right(1); // the next packet most likely uses the same key
        self.advance(known, header, rollover);
        Ok(())
    }

    /// Tries each key with each guess of the rollover count. Returns the index of the right key, and the right rollover
    /// count.
    fn open(
        &self,
        packet: &[u8],
        header: SrtpHeader,
        guesses: &RolloverGuesses,
        out: &mut Vec<u8>,
    ) -> Option<(usize, u32)> {
        self.keys.iter().enumerate().find_map(|(at, key)| {
            // If both sides did not agree on an MKI, packets omit it although a key has an MKI. So both forms of a
            // packet are tried.
            let rollovers = || guesses.iter().take(key.max_guesses);
            let opened = key.forms(header).find_map(|header| {
                match key.session.open(packet, header, &key.mki, rollovers(), out) {
                    None if !key.mki.is_empty() => key.session.open(packet, header, &[], rollovers(), out),
                    opened => opened,
                }
            });
            opened.map(|rollover| (at, rollover))
        })
    }

    fn advance(&mut self, known: Option<usize>, header: SrtpHeader, rollover: u32) {
        let Some(at) = known else {
            if self.sources.len() == MAX_SOURCES {
                self.sources.remove(0);
            }
            self.sources.push(SsrcIndex { ssrc: header.ssrc, rollover, highest: header.sequence });
            return;
        };
        let source = &mut self.sources[at];
        let behind = rollover.wrapping_add(1) == source.rollover;
        if rollover == source.rollover {
            source.highest = source.highest.max(header.sequence);
        } else if !behind || header.sequence < LATE_FROM {
            // A late packet from before the last wrap of the sequence number does not change the packet index. A later
            // packet changes the index, and so does a restart of the sender.
            (source.rollover, source.highest) = (rollover, header.sequence);
        }
    }
}

impl MasterKeySession {
    /// Returns the header in each form that a packet may have, with or without Cryptex, the likeliest first.
    ///
    /// A private header extension may begin with the same two bytes as Cryptex. The tag of GCM is right for one form
    /// only. The tag of counter mode is right for both, so that the announcement decides.
    fn forms(&self, header: SrtpHeader) -> impl Iterator<Item = SrtpHeader> {
        let plain = SrtpHeader { is_cryptex: false, ..header };
        let is_proven = self.session.tag_proves_encrypted_bytes();
        let cryptex = Some(header).filter(|header| header.is_cryptex && (self.cryptex || is_proven));
        let plain = Some(plain).filter(|_| cryptex.is_none() || is_proven);
        cryptex.into_iter().chain(plain)
    }
}

/// The fields of an RTP header that decryption needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SrtpHeader {
    ssrc: u32,
    sequence: u16,
    /// Length of the header in bytes, with CSRCs and extension.
    length: usize,
    /// Whether the CSRCs and the content of the extension are encrypted, too (Cryptex, RFC 9335). If this was not
    /// announced, the extension only begins with the same bytes.
    is_cryptex: bool,
}

impl SrtpHeader {
    /// Parses the header (RFC 3550 sections 5.1 and 5.3.1).
    fn read(packet: &[u8]) -> Option<Self> {
        let fixed: &[u8; 12] = packet.first_chunk()?;
        if fixed[0] >> 6 != 2 {
            return None;
        }
        let (mut length, mut is_cryptex) = (12 + 4 * usize::from(fixed[0] & 15), false);
        if fixed[0] & 0x10 != 0 {
            let extension: &[u8; 4] = packet.get(length..)?.first_chunk()?;
            is_cryptex = CRYPTEX_FORMS.iter().any(|(encrypted, _)| extension.starts_with(encrypted));
            length += 4 + 4 * usize::from(u16::from_be_bytes([extension[2], extension[3]]));
        }
        let sequence = u16::from_be_bytes([fixed[2], fixed[3]]);
        let ssrc = u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]);
        (length <= packet.len()).then_some(Self { ssrc, sequence, length, is_cryptex })
    }

    /// Returns the number of bytes at the beginning of a packet that are authenticated but not encrypted. With Cryptex
    /// they are the fixed header and the first word of the extension, after [`Self::begin_decryption`].
    const fn clear_bytes(self) -> usize {
        if self.is_cryptex { 16 } else { self.length }
    }

    /// Moves the first word of the extension before the CSRCs, so that all encrypted bytes are together (RFC 9335
    /// section 5.1). Without Cryptex, does nothing.
    fn begin_decryption(self, packet: &mut [u8]) {
        if self.is_cryptex {
            sources_and_word(packet).rotate_right(4);
        }
    }

    /// Moves the first word of the extension back, and gives it the form that it had before the encryption.
    fn finish_decryption(self, packet: &mut [u8]) {
        if !self.is_cryptex {
            return;
        }
        let bytes = sources_and_word(packet);
        bytes.rotate_left(4);
        let word = bytes.len() - 4;
        if let Some((_, plain)) = CRYPTEX_FORMS.iter().find(|(encrypted, _)| bytes[word..].starts_with(encrypted)) {
            bytes[word..word + 2].copy_from_slice(plain);
        }
    }
}

/// Returns the CSRCs of a packet and the first word of its extension. The packet has both.
fn sources_and_word(packet: &mut [u8]) -> &mut [u8] {
    let end = 16 + 4 * usize::from(packet[0] & 15);
    &mut packet[12..end]
}

/// Rollover counts to be tried, the likeliest first.
struct RolloverGuesses {
    first: u32,
    near: [Option<u32>; 3],
    most: u32,
}

impl RolloverGuesses {
    /// Returns guesses around the known rollover count of the source (RFC 3711 section 3.3.1). For an unknown source,
    /// the guesses begin at 0.
    fn new(source: Option<SsrcIndex>, sequence: u16, most: u32) -> Self {
        let Some(source) = source else { return Self { first: 0, near: [None; 3], most } };
        let ahead = sequence.wrapping_sub(source.highest) < 0x8000;
        let first = match ahead {
            true if sequence < source.highest => source.rollover.wrapping_add(1),
            false if sequence > source.highest => source.rollover.saturating_sub(1),
            _ => source.rollover,
        };
        Self { first, near: [first.checked_add(1), first.checked_add(2), first.checked_sub(1)], most }
    }

    fn iter(&self) -> impl Iterator<Item = u32> + Clone + '_ {
        std::iter::once(self.first).chain(self.near.into_iter().flatten()).chain(0..=self.most)
    }
}

fn keys(context: &SrtpContext) -> Result<Vec<MasterKeySession>, BadSrtpContext> {
    let suite = SrtpSuite::named(&context.suite).ok_or(BadSrtpContext::Suite)?;
    if context.keys.is_empty() {
        return Err(BadSrtpContext::NoKey);
    }
    let read = |suite| context.keys.iter().take(MAX_KEYS).map(move |key| read_key(suite, key, context.cryptex));
    let mut keys: Vec<MasterKeySession> = read(suite).collect::<Result<_, _>>()?;
    // Quirk `other_tag`: a device announces a tag of 80 bits and sends tags of 32 bits, or the reverse.
    for key in suite.with_other_tag().into_iter().flat_map(read) {
        keys.push(MasterKeySession { max_guesses: MAX_GUESSES_OF_OTHER_TAG, ..key? });
    }
    Ok(keys)
}

/// Returns the keys of a stream, and behind them the offered keys that callspan supports.
fn keys_with_offered(context: &SrtpContext, offered: &[SrtpContext]) -> Result<Vec<MasterKeySession>, BadSrtpContext> {
    let mut all = keys(context)?;
    all.extend(offered.iter().take(MAX_OFFERED).filter_map(|context| keys(context).ok()).flatten());
    Ok(all)
}

fn read_key(suite: SrtpSuite, key: &SrtpKey, cryptex: bool) -> Result<MasterKeySession, BadSrtpContext> {
    let inline = key.inline.trim().trim_start_matches("inline:");
    let bytes = base64(inline.split('|').next().unwrap_or_default()).ok_or(BadSrtpContext::Key)?;
    let session = SessionKeys::derive(suite, &bytes).ok_or(BadSrtpContext::Key)?;
    let mki = match key.mki {
        Some((value, length)) if usize::from(length) <= MAX_MKI => {
            let mut mki = vec![0; usize::from(length).saturating_sub(8)];
            let value = value.to_be_bytes();
            mki.extend(&value[8 - usize::from(length).min(8)..]);
            mki
        }
        Some(_) => return Err(BadSrtpContext::Key),
        None => Vec::new(),
    };
    Ok(MasterKeySession { session, mki, cryptex, max_guesses: usize::MAX })
}

/// Decodes base64 (RFC 4648 section 4) with optional padding. Returns `None` for any character outside of base64.
fn base64(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0u32, 0);
    for character in text.trim_end_matches('=').bytes() {
        let value = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xFFFF;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    Some(bytes)
}

/// Forms of an encrypted header extension, each with its form before the encryption. They are the one-byte and the
/// two-byte form (RFC 9335 section 4, RFC 8285 section 4).
const CRYPTEX_FORMS: [([u8; 2], [u8; 2]); 2] = [([0xC0, 0xDE], [0xBE, 0xDE]), ([0xC2, 0xDE], [0x10, 0x00])];

/// Maximum number of keys of one crypto attribute.
const MAX_KEYS: usize = 8;

/// Maximum number of crypto attributes of an unanswered offer that are tried. A telephone offers one for each suite.
const MAX_OFFERED: usize = 4;

/// Maximum number of keys of one stream, former keys included, each with both lengths of the tag. A packet that cannot
/// be decrypted tries all of them.
const MAX_SESSIONS: usize = 2 * MAX_KEYS;

/// Maximum number of rollover counts that are tried with a tag of another length than announced. With more, a tag of 32
/// bits would fit by chance once in a few million packets.
const MAX_GUESSES_OF_OTHER_TAG: usize = 4;

/// Maximum number of SSRCs of one stream. If there are more, the oldest SSRC is forgotten; its rollover count can be
/// guessed again.
const MAX_SOURCES: usize = 16;

/// Maximum rollover count that is guessed when the recorder joins in mid-call. At 50 packets/s the count rises every 22
/// minutes, so 128 values (0 to 127) cover 47 hours.
const MAX_GUESS: u32 = 127;

/// Maximum rollover count that is guessed after [`PATIENCE`] packets failed. At 50 packets/s it covers the first 87
/// minutes of a stream.
const MAX_GUESS_AFTER_FAILURES: u32 = 3;

/// Number of consecutive packets that may fail before fewer rollover counts are tried: four seconds of speech.
const PATIENCE: u32 = 200;

/// Maximum length of an MKI, bytes (RFC 4568 section 9.1).
const MAX_MKI: usize = 128;

/// Smallest sequence number (16 bits) that counts as a late packet from before the last wrap. A lower number means that
/// the sender restarted.
const LATE_FROM: u16 = 0x8000;

#[cfg(test)]
mod tests;
