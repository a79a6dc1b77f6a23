//! Copies a spool without keys and passwords. The copy is kept after delivery.
//!
//! SDES keys (`a=crypto`, RFC 4568) and the values of Authorization and Proxy-Authorization (RFC 3261 section 22) are
//! overwritten with `x`. All lengths in the file stay the same. Decisions of the call engine that contain SRTP keys are
//! left out. Packets get the UDP checksum that the spool omits, except those with a secret.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use super::format;

/// Writes a copy of a spool without keys and passwords into the empty file `to`. An incomplete block at the end is left
/// out.
///
/// # Errors
/// Fails if a file cannot be read or written.
pub(crate) fn scrub(from: &Path, to: File) -> io::Result<()> {
    let mut input = BufReader::with_capacity(BUFFER_BYTES, File::open(from)?);
    let mut output = BufWriter::with_capacity(BUFFER_BYTES, to);
    let mut block = Vec::new();
    while read_block(&mut input, &mut block)? {
        match block_type(&block) {
            format::CUSTOM if holds_keys(&block) => continue,
            format::ENHANCED_PACKET => mask_packet(&mut block),
            _ => {}
        }
        output.write_all(&block)?;
    }
    output.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

/// Reads the next complete block into `block`. Returns false at the end, or if the last block is incomplete.
fn read_block(input: &mut impl Read, block: &mut Vec<u8>) -> io::Result<bool> {
    block.clear();
    let mut head = [0; 8];
    if !read_or_end(input, &mut head)? {
        return Ok(false);
    }
    let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
    if !(12..=format::MAX_BLOCK).contains(&length) || !length.is_multiple_of(4) {
        return Ok(false);
    }
    block.extend(head);
    block.resize(length, 0);
    read_or_end(input, &mut block[8..])
}

fn read_or_end(input: &mut impl Read, into: &mut [u8]) -> io::Result<bool> {
    match input.read_exact(into) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn block_type(block: &[u8]) -> u32 {
    block.first_chunk().map_or(0, |b| u32::from_le_bytes(*b))
}

/// Returns whether a custom block is a decision of the call engine that contains SRTP keys.
fn holds_keys(block: &[u8]) -> bool {
    memchr::memmem::find(block, b"\"decision\":\"srtp\"").is_some()
        || memchr::memmem::find(block, b"\"inline\"").is_some()
}

/// Overwrites the secrets in a packet. With a probability of 2^-80, an RTP payload looks like a secret; then the audio
/// of one packet is lost.
fn mask_packet(block: &mut [u8]) {
    let mut at = 0;
    let (mut secret, mut any) = (false, false);
    while let Some(line) = block.get(at..).filter(|l| !l.is_empty()) {
        let end = memchr::memchr(b'\n', line).map_or(line.len(), |n| n + 1);
        if let Some(line) = block.get_mut(at..at + end) {
            // RFC 3261 section 7.3.1: a line that begins with a space or tab continues the header above it. So it
            // belongs to the secret, too.
            let continues = secret && line.first().is_some_and(|b| matches!(b, b' ' | b'\t'));
            secret = mask_line(line, continues.then_some(0));
            any |= secret;
        }
        at += end;
    }
    if any {
        drop_checksum(block);
    } else {
        format::fill_checksum(block);
    }
}

/// Overwrites the secret in a line. `start` is the position of the secret; if it is `None`, the secret is searched for.
/// Returns whether there was a secret.
fn mask_line(line: &mut [u8], start: Option<usize>) -> bool {
    // IP and UDP headers precede the first line of the message without a line end. So the name of a secret header is
    // searched for at any position of the line.
    let found = || {
        let starts = SECRET_LINES.iter().filter_map(|name| {
            let at = line.windows(name.len()).position(|w| w.eq_ignore_ascii_case(name))?;
            Some(at + name.len())
        });
        starts.min()
    };
    let Some(start) = start.or_else(found) else { return false };
    for byte in line.get_mut(start..).unwrap_or_default() {
        if !matches!(byte, b'\r' | b'\n') {
            *byte = b'x';
        }
    }
    true
}

/// Sets the UDP checksum to "not computed" (RFC 768), so that tools do not report the changed packet as damaged. Over
/// IPv6 zero is invalid, but Wireshark does not check it by default.
fn drop_checksum(block: &mut [u8]) {
    let first = block.get(28).copied().unwrap_or(0);
    let udp = 28 + if first >> 4 == 4 { format::IPV4_LEN } else { format::IPV6_LEN };
    if let Some(sum) = block.get_mut(udp + 6..udp + 8) {
        sum.copy_from_slice(&[0, 0]);
    }
}

/// Beginnings of lines that contain a secret, in lower case.
const SECRET_LINES: [&[u8]; 4] = [b"a=crypto:", b"authorization:", b"authorization :", b"a=key-mgmt:"];
/// Number of bytes read or written at once.
const BUFFER_BYTES: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::decision::{Decision, SrtpContext, SrtpKey, TimedDecision};
    use crate::spool::LegSource;
    use crate::spool::reader::SpoolEntry;
    use crate::time::Timestamp;

    fn packet<'a>(at: i64, payload: &'a [u8]) -> format::SpoolPacket<'a> {
        let src = "10.9.0.11:5060".parse().expect("an address");
        let dst = "10.9.0.12:5060".parse().expect("an address");
        format::SpoolPacket { at: Timestamp::from_nanos(at), src, dst, payload, wire_len: payload.len() as u32 }
    }

    fn scrubbed(bytes: &[u8]) -> Vec<u8> {
        let dir = tempfile::tempdir().expect("a folder");
        let (from, to) = (dir.path().join("a"), dir.path().join("b"));
        std::fs::write(&from, bytes).expect("written");
        scrub(&from, File::create(&to).expect("made")).expect("readable");
        std::fs::read(&to).expect("written")
    }

    #[test]
    fn secrets_are_masked_and_all_lengths_stay_the_same() {
        let message = b"INVITE sip:102@10.9.0.12 SIP/2.0\r\nProxy-Authorization: Digest username=\"101\", response=\"deadbeef\"\r\n\
            authorization:Digest response=\"cafe\",\r\n nonce=\"babe\"\r\nCall-ID: 7@x\r\n\r\nv=0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:c2VjcmV0\r\na=sendrecv\r\n";
        let mut spool = Vec::new();
        format::put_header(&mut spool);
        format::put_packet(&mut spool, &packet(1, message));
        let before = spool.len();
        let context = SrtpContext {
            suite: "AES_CM_128_HMAC_SHA1_80".to_owned(),
            keys: vec![SrtpKey { inline: "c2VjcmV0".to_owned(), mki: None }],
            cryptex: false,
        };
        let decided = |decision| TimedDecision { at_ns: 2, decision };
        format::put_decision(&mut spool, &decided(Decision::Srtp { stream: 0, context, offered: Vec::new() }));
        let keys = spool.len() - before;
        format::put_decision(&mut spool, &decided(Decision::Start));
        let kept = scrubbed(&spool);
        assert_eq!(kept.len(), spool.len() - keys);
        let text = String::from_utf8_lossy(&kept);
        for secret in ["deadbeef", "cafe", "babe", "c2VjcmV0", "AES_CM", "101\""] {
            assert!(!text.contains(secret), "{secret}");
        }
        for kept in ["Proxy-Authorization:xxx", "Call-ID: 7@x", "a=sendrecv", "\"start\""] {
            assert!(text.contains(kept), "{kept}");
        }
    }

    #[test]
    fn kept_packets_have_the_checksum_that_the_spool_saves() {
        let mut spool = Vec::new();
        format::put_header(&mut spool);
        for payload in [&b"BYE sip:x SIP/2.0\r\n\r\n"[..], &[0x80, 8, 0, 1, 0xff], &[]] {
            let at = spool.len();
            format::put_packet(&mut spool, &packet(1, payload));
            let udp = at + 28 + format::IPV4_LEN;
            assert_eq!(spool[udp + 6..udp + 8], [0, 0]);
            let kept = scrubbed(&spool);
            // The checksum is right if the sum over pseudo header and datagram is all ones (RFC 768).
            let datagram = &kept[udp..udp + format::UDP_LEN + payload.len()];
            let pseudo = [&kept[udp - 8..udp], &[0, 17], &(datagram.len() as u16).to_be_bytes()].concat();
            let words = [&pseudo, datagram, &vec![0; datagram.len() % 2]].concat();
            let sum: u32 = words.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
            assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "{payload:?}");
        }
    }

    #[test]
    fn scrubbed_copy_has_no_torn_tail() {
        let mut spool = Vec::new();
        format::put_header(&mut spool);
        format::put_packet(&mut spool, &packet(1, &[0x80, 8, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0xd5, 0x0a, 0x55]));
        let whole = spool.len();
        format::put_packet(&mut spool, &packet(2, b"BYE sip:x SIP/2.0\r\n\r\n"));
        spool.truncate(spool.len() - 3);
        let kept = scrubbed(&spool);
        assert_eq!(kept.len(), whole);
        let source = LegSource::Memory(std::sync::Arc::new(kept.into()));
        let mut reader = source.open().expect("a spool");
        let entry = reader.next_entry().expect("readable");
        assert!(matches!(entry, Some(SpoolEntry::Packet(p)) if p.payload.len() == 15 && p.payload[12] == 0xd5));
        assert!(reader.next_entry().expect("readable").is_none());
        assert!(!reader.torn_tail());
    }
}
