//! What one packet on a media port says (RFC 3550), which kind of packet it is (RFC 7983), and what
//! a stream of them adds up to ([`stats`]).
//!
//! Parsing succeeds on about a ninth of random bytes that begin right, so a packet is RTP because it
//! came where a description said RTP would come, never because it parses.

pub mod redundancy;
pub mod stats;

#[cfg(test)]
mod tests;

use rtp_rs::{RtpReader, RtpReaderError};

use crate::net::{PayloadType, SequenceNumber, Ssrc};
use crate::time::RtpTime;

/// What kind of packet shares a media port (RFC 7983 section 7, RFC 5761 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MediaPacketKind {
    /// Sound, or SRTP.
    Rtp,
    /// Reports, or SRTCP.
    Rtcp,
    /// Address checks (RFC 8489, RFC 8445).
    Stun,
    /// Key agreement (RFC 5764).
    Dtls,
    /// Key agreement (RFC 6189).
    Zrtp,
    /// None of these.
    Other,
}

/// The kind of a packet by its first octets. Costs a few nanoseconds, allocates nothing.
pub fn classify(payload: &[u8]) -> MediaPacketKind {
    let &[first, second, third, fourth, ..] = payload else { return MediaPacketKind::Other };
    match first {
        // RFC 5761 section 4: payload types 64..=95 are not for RTP where RTCP may come.
        128..=191 if (192..=223).contains(&second) => MediaPacketKind::Rtcp,
        128..=191 if payload.len() >= RtpReader::MIN_HEADER_LEN => MediaPacketKind::Rtp,
        // The length tells STUN from T.38, whose packets begin with a sequence number.
        0..=3 if usize::from(u16::from_be_bytes([third, fourth])) + STUN_HEADER_LEN == payload.len() => {
            MediaPacketKind::Stun
        }
        16..=19 if payload.get(4..8) == Some(&ZRTP_COOKIE) => MediaPacketKind::Zrtp,
        20..=63 if payload.len() >= DTLS_HEADER_LEN && matches!(second, 0xfe | 0x01) => MediaPacketKind::Dtls,
        _ => MediaPacketKind::Other,
    }
}

/// Why bytes are no RTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum RtpParseError {
    /// Fewer than 12 bytes.
    #[error("too short for an RTP header")]
    TooShort,
    /// Not version 2.
    #[error("not RTP version 2")]
    Version,
    /// The contributing sources or the extension reach beyond the end.
    #[error("RTP header cut")]
    HeaderCut,
    /// More padding than packet, or none where some is announced.
    #[error("bad RTP padding")]
    Padding,
}

/// One RTP packet, borrowed (RFC 3550 section 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpPacket<'a> {
    /// Who sends.
    pub ssrc: Ssrc,
    /// Grows by one with each packet, wraps.
    pub sequence: SequenceNumber,
    /// When the first sample was taken, on the sender's clock.
    pub time: RtpTime,
    /// The payload type, 0..=127.
    pub pt: PayloadType,
    /// For sound: the first packet after silence (RFC 3551 section 4.1).
    pub marker: bool,
    /// Bytes before the payload: fixed header, contributing sources, extension.
    pub header_len: usize,
    /// The payload without padding.
    pub payload: &'a [u8],
}

impl<'a> RtpPacket<'a> {
    /// Reads a whole packet.
    ///
    /// # Errors
    /// [`RtpParseError`], when it is none.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, RtpParseError> {
        let reader = RtpReader::new(bytes).map_err(RtpParseError::from)?;
        Ok(Self { payload: reader.payload(), ..Self::from_reader(&reader) })
    }

    /// Reads a packet of which only the beginning was captured (by the snap length, or because its
    /// payload must not be kept): padding, which stands at the end, is not looked for, and the header
    /// may be cut behind its first 12 bytes. `payload` is what is there.
    ///
    /// # Errors
    /// [`RtpParseError`], when there are no 12 bytes of version 2.
    pub fn parse_cut(bytes: &'a [u8]) -> Result<Self, RtpParseError> {
        let Some((fixed, _)) = bytes.split_first_chunk::<{ RtpReader::MIN_HEADER_LEN }>() else {
            return Err(RtpParseError::TooShort);
        };
        let mut plain = *fixed;
        // Without the padding, extension and source count bits the fixed header stands alone.
        plain[0] &= 0b1100_0000;
        let reader = RtpReader::new(&plain).map_err(RtpParseError::from)?;
        let header_len = header_len(bytes).unwrap_or(bytes.len());
        let packet = Self::from_reader(&reader);
        Ok(Self {
            ssrc: packet.ssrc,
            sequence: packet.sequence,
            time: packet.time,
            pt: packet.pt,
            marker: packet.marker,
            header_len,
            payload: bytes.get(header_len..).unwrap_or_default(),
        })
    }

    fn from_reader(reader: &RtpReader<'_>) -> Self {
        Self {
            ssrc: Ssrc(reader.ssrc()),
            sequence: SequenceNumber(u16::from(reader.sequence_number())),
            time: RtpTime(reader.timestamp()),
            pt: PayloadType(reader.payload_type()),
            marker: reader.mark(),
            header_len: reader.payload_offset(),
            payload: &[],
        }
    }
}

/// The packets of one datagram: more than one where a card or a kernel put datagrams of a sender together (UDP GRO), all
/// as long as the first but for the last. What looks like the header of the next packet of the same source, SSRC, number
/// and all, 50 bits of it, is one.
pub fn joined(payload: &[u8]) -> impl Iterator<Item = &[u8]> {
    payload.chunks(second_at(payload).unwrap_or(payload.len()).max(1))
}

/// Where the second packet of a datagram begins, if it has one.
fn second_at(payload: &[u8]) -> Option<usize> {
    let ssrc = payload.get(SSRC_AT..RtpReader::MIN_HEADER_LEN)?;
    let header = |at: usize| payload.get(at..at + RtpReader::MIN_HEADER_LEN);
    let sequence = |header: &[u8]| u16::from_be_bytes([header[2], header[3]]);
    let first = header(0)?;
    let is_number = |at: usize, n: u16| {
        header(at)
            .is_some_and(|h| h[0] >> 6 == 2 && &h[SSRC_AT..] == ssrc && sequence(h) == sequence(first).wrapping_add(n))
    };
    // The last octet of its header is the last of its SSRC; there is one header at least before it.
    let last = RtpReader::MIN_HEADER_LEN - 1;
    memchr::memchr_iter(ssrc[3], payload.get(RtpReader::MIN_HEADER_LEN + last..)?)
        .map(|at| at + RtpReader::MIN_HEADER_LEN)
        .find(|&length| (1_u16..).zip((length..payload.len()).step_by(length)).all(|(n, at)| is_number(at, n)))
}

impl From<RtpReaderError> for RtpParseError {
    fn from(error: RtpReaderError) -> Self {
        match error {
            RtpReaderError::BufferTooShort(_) => Self::TooShort,
            RtpReaderError::UnsupportedVersion(_) => Self::Version,
            RtpReaderError::HeadersTruncated { .. } => Self::HeaderCut,
            RtpReaderError::PaddingLengthInvalid(_) => Self::Padding,
        }
    }
}

/// Bytes before the payload, if all of them that tell are there.
fn header_len(bytes: &[u8]) -> Option<usize> {
    let first = *bytes.first()?;
    let sources_end = RtpReader::MIN_HEADER_LEN + 4 * usize::from(first & 0x0f);
    if first & 0b0001_0000 == 0 {
        return (sources_end <= bytes.len()).then_some(sources_end);
    }
    let &[_, _, high, low] = bytes.get(sources_end..sources_end + 4)? else { return None };
    let end = sources_end + 4 + 4 * usize::from(u16::from_be_bytes([high, low]));
    (end <= bytes.len()).then_some(end)
}

/// RFC 3550 section 5.1.
const SSRC_AT: usize = 8;

/// RFC 8489 section 5.
const STUN_HEADER_LEN: usize = 20;

/// RFC 6347 section 4.1: type, version (0xfefd or 0xfeff; 0x0100 in old drafts), epoch, sequence, length.
const DTLS_HEADER_LEN: usize = 13;

/// "ZRTP" (RFC 6189 section 5).
const ZRTP_COOKIE: [u8; 4] = *b"ZRTP";
