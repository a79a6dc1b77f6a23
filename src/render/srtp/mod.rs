//! SRTP with the keys that SIP showed: RFC 3711, 6188 and 7714, keyed by SDES (RFC 4568).
//!
//! A recorder hears packets as they come: it may join in mid-call, misses packets, and sees some twice. So the
//! roll-over counter, which is not on the wire, is guessed and proved by the authentication tag; a duplicate is
//! decrypted like any other; and keys that were replaced stay valid for what is still under way.
//!
//! Nothing here prints a key: no type with a key in it can be formatted.

mod cipher;

use crate::call::decision::{SrtpContext, SrtpKey};
use cipher::{SessionKeys, SrtpSuite};

/// Why keys cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSrtpContext {
    /// A suite that we do not have.
    #[error("the SRTP suite is not known")]
    Suite,
    /// A key that is not base64 or not as long as its suite wants.
    #[error("an SRTP key does not fit its suite")]
    Key,
    /// No key at all.
    #[error("no SRTP key is given")]
    NoKey,
}

/// Why a packet was not decrypted. Counted, never fatal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SrtpError {
    /// No RTP packet, or one that has no room for its tag.
    #[error("this is no SRTP packet")]
    Malformed,
    /// No key and roll-over count gives the tag that the packet has.
    #[error("no key fits the packet's authentication tag")]
    Authentication,
}

/// Decrypts the packets of one sender.
pub struct SrtpStream {
    /// The newest context's keys first.
    keys: Vec<MasterKeySession>,
    /// How far each SSRC has come.
    sources: Vec<SsrcIndex>,
    /// Packets in a row that nothing opened.
    refused: u32,
}

/// One master key's session.
struct MasterKeySession {
    session: SessionKeys,
    /// The MKI as it stands in a packet; empty when none is used.
    mki: Vec<u8>,
}

/// The packet index of one SSRC (RFC 3711 section 3.3.1).
#[derive(Clone, Copy, Debug)]
struct SsrcIndex {
    ssrc: u32,
    roll_over: u32,
    highest: u16,
}

impl SrtpStream {
    /// A stream with these keys.
    ///
    /// # Errors
    /// When the suite is unknown or a key does not fit it.
    pub fn new(context: &SrtpContext) -> Result<Self, BadSrtpContext> {
        Ok(Self { keys: keys(context)?, sources: Vec::new(), refused: 0 })
    }

    /// Takes new keys (a re-INVITE): they are tried first. The last keys stay for packets still under way, and the
    /// roll-over counts go on (a sender that begins again from 0 is found too).
    ///
    /// # Errors
    /// When the suite is unknown or a key does not fit it; the stream is unchanged then.
    pub fn rekey(&mut self, context: &SrtpContext) -> Result<(), BadSrtpContext> {
        let mut keys = keys(context)?;
        keys.append(&mut self.keys);
        keys.truncate(MAX_KEYS);
        self.keys = keys;
        Ok(())
    }

    /// Replaces the content of `out` by the RTP packet inside an SRTP packet: header, extensions and plain payload.
    ///
    /// # Errors
    /// When the packet is malformed or no key opens it; `out` is of no use then.
    pub fn unprotect(&mut self, packet: &[u8], out: &mut Vec<u8>) -> Result<(), SrtpError> {
        let header = SrtpHeader::read(packet).ok_or(SrtpError::Malformed)?;
        let known = self.sources.iter().position(|source| source.ssrc == header.ssrc);
        // With a wrong key each guess is in vain: after a while only every so many packets pay for all of them.
        let most = if self.refused < PATIENCE || self.refused.is_multiple_of(PATIENCE) { MAX_GUESS } else { FEW };
        let guesses = RolloverGuesses::new(known.map(|at| self.sources[at]), header.sequence, most);
        self.refused = self.refused.saturating_add(1);
        let (at, roll_over) = self.open(packet, header, &guesses, out).ok_or(SrtpError::Authentication)?;
        self.refused = 0;
        self.keys[..=at].rotate_right(1); // the next packet has most likely the same key
        self.advance(known, header, roll_over);
        Ok(())
    }

    /// Tries each key with each guess; gives the place of the key and the roll-over count that fit.
    fn open(
        &self,
        packet: &[u8],
        header: SrtpHeader,
        guesses: &RolloverGuesses,
        out: &mut Vec<u8>,
    ) -> Option<(usize, u32)> {
        self.keys.iter().enumerate().find_map(|(at, key)| {
            // A sender that never agreed to the MKI leaves it out.
            let with_mki = key.session.open(packet, header, &key.mki, guesses.iter(), out);
            let opened = match with_mki {
                None if !key.mki.is_empty() => key.session.open(packet, header, &[], guesses.iter(), out),
                opened => opened,
            };
            opened.map(|roll_over| (at, roll_over))
        })
    }

    fn advance(&mut self, known: Option<usize>, header: SrtpHeader, roll_over: u32) {
        let Some(at) = known else {
            if self.sources.len() == MAX_SOURCES {
                self.sources.remove(0);
            }
            self.sources.push(SsrcIndex { ssrc: header.ssrc, roll_over, highest: header.sequence });
            return;
        };
        let source = &mut self.sources[at];
        let behind = roll_over.wrapping_add(1) == source.roll_over;
        if roll_over == source.roll_over {
            source.highest = source.highest.max(header.sequence);
        } else if !behind || header.sequence < REORDERED {
            // A new turn; or a guess that the sender began again, unless it is a late packet of the last turn.
            (source.roll_over, source.highest) = (roll_over, header.sequence);
        }
    }
}

/// What is read of an RTP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SrtpHeader {
    ssrc: u32,
    sequence: u16,
    /// Length with contributing sources and extension: what is authenticated but not encrypted.
    length: usize,
}

impl SrtpHeader {
    /// RFC 3550 section 5.1 and 5.3.1.
    fn read(packet: &[u8]) -> Option<Self> {
        let fixed: &[u8; 12] = packet.first_chunk()?;
        if fixed[0] >> 6 != 2 {
            return None;
        }
        let mut length = 12 + 4 * usize::from(fixed[0] & 15);
        if fixed[0] & 0x10 != 0 {
            let extension: &[u8; 4] = packet.get(length..)?.first_chunk()?;
            length += 4 + 4 * usize::from(u16::from_be_bytes([extension[2], extension[3]]));
        }
        let sequence = u16::from_be_bytes([fixed[2], fixed[3]]);
        let ssrc = u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]);
        (length <= packet.len()).then_some(Self { ssrc, sequence, length })
    }
}

/// Roll-over counts worth trying, likeliest first.
struct RolloverGuesses {
    first: u32,
    near: [Option<u32>; 3],
    most: u32,
}

impl RolloverGuesses {
    /// RFC 3711 section 3.3.1 where the sender is known; from 0 up where it is not.
    fn new(source: Option<SsrcIndex>, sequence: u16, most: u32) -> Self {
        let Some(source) = source else { return Self { first: 0, near: [None; 3], most } };
        let ahead = sequence.wrapping_sub(source.highest) < 0x8000;
        let first = match ahead {
            true if sequence < source.highest => source.roll_over.wrapping_add(1),
            false if sequence > source.highest => source.roll_over.saturating_sub(1),
            _ => source.roll_over,
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
    context.keys.iter().take(MAX_KEYS).map(|key| read_key(suite, key)).collect()
}

fn read_key(suite: SrtpSuite, key: &SrtpKey) -> Result<MasterKeySession, BadSrtpContext> {
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
    Ok(MasterKeySession { session, mki })
}

/// Base64 (RFC 4648 section 4), padding optional. `None` for any other character.
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

/// Keys of one stream: those offered at once, and those before a re-INVITE. Each failed packet tries them all.
const MAX_KEYS: usize = 8;

/// SSRCs of one stream; the oldest is forgotten (and found again by guessing).
const MAX_SOURCES: usize = 16;

/// Joined in mid-call, this many roll-overs are tried: at 50 packets/s it turns each 22 minutes, so 47 hours.
const MAX_GUESS: u32 = 127;

/// Roll-overs that are tried once [`PATIENCE`] is over: an hour's worth.
const FEW: u32 = 3;

/// Packets in a row that may try everything: four seconds of speech.
const PATIENCE: u32 = 200;

/// RFC 4568 section 9.1: at most 128 bytes.
const MAX_MKI: usize = 128;

/// A packet of the last turn this low in sequence is not late: the sender began again.
const REORDERED: u16 = 0x8000;

#[cfg(test)]
mod tests;
