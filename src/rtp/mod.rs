//! Parses RTP packets (RFC 3550), classifies packets on a media port (RFC 7983), and keeps statistics of streams
//! ([`stats`]).
//!
//! Many payloads of other protocols can be parsed as RTP, too. So other modules treat a packet as RTP only if a session
//! description announced its address.

mod neighbours;
pub mod redundancy;
mod rtcp_form;
pub mod stats;

#[cfg(test)]
mod tests;

use rtp_rs::{RtpReader, RtpReaderError};

use crate::net::{PayloadType, SequenceNumber, Ssrc};
use crate::time::RtpTime;

pub(crate) use neighbours::{NeighbourSearch, SequenceNeighbours};
pub(crate) use rtcp_form::RtcpForm;

/// The protocol of a packet on a media port (RFC 7983 section 7, RFC 5761 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MediaPacketKind {
    /// RTP or SRTP; both have the same unencrypted header.
    Rtp,
    /// RTCP or SRTCP. An RTP packet with the marker bit and a payload type of 64 to 95 begins with the same bytes.
    /// [`rtcp_form`] distinguishes RTCP from RTP by the length fields.
    Rtcp,
    /// STUN, which ICE uses to check whether two endpoints reach each other (RFC 8489, RFC 8445).
    Stun,
    /// DTLS, by which both ends agree on keys for SRTP (RFC 5764).
    Dtls,
    /// ZRTP: key agreement for SRTP within the media stream (RFC 6189).
    Zrtp,
    /// Any other protocol, e.g. T.38 fax.
    Other,
}

/// Returns the protocol of a packet according to its first bytes. It takes a few nanoseconds and allocates nothing.
pub fn classify(payload: &[u8]) -> MediaPacketKind {
    let &[first, second, third, fourth, ..] = payload else { return MediaPacketKind::Other };
    match first {
        // RFC 5761 section 4: payload types 64 to 95 are not used for RTP on a port that also receives RTCP. So these
        // bytes are RTCP.
        128..=191 if (192..=223).contains(&second) => MediaPacketKind::Rtcp,
        128..=191 if payload.len() >= RtpReader::MIN_HEADER_LEN => MediaPacketKind::Rtp,
        // Bytes 2 and 3 of STUN are its length, which must fit the packet. T.38 may have the same first byte, because
        // it begins with a sequence number.
        0..=3 if usize::from(u16::from_be_bytes([third, fourth])) + STUN_HEADER_LEN == payload.len() => {
            MediaPacketKind::Stun
        }
        16..=19 if payload.get(4..8) == Some(&ZRTP_COOKIE) => MediaPacketKind::Zrtp,
        20..=25 if second == 0xfe && is_dtls_record(payload) => MediaPacketKind::Dtls,
        _ => MediaPacketKind::Other,
    }
}

/// Returns whether version and length are those of a DTLS record. NTP and DNS packets may begin with the same byte, but
/// their lengths do not fit.
fn is_dtls_record(payload: &[u8]) -> bool {
    let Some((header, body)) = payload.split_first_chunk::<DTLS_HEADER_LEN>() else { return false };
    header[2] >= 0xfc && usize::from(u16::from_be_bytes([header[11], header[12]])) <= body.len()
}

/// Why bytes cannot be an RTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum RtpParseError {
    /// The packet has fewer than 12 bytes, the length of the fixed header.
    #[error("too short for an RTP header")]
    TooShort,
    /// The version field of the header is not 2.
    #[error("not RTP version 2")]
    Version,
    /// The contributing sources or the header extension would end after the end of the packet.
    #[error("RTP header cut")]
    HeaderCut,
    /// The padding length is invalid: zero, or longer than the packet.
    #[error("bad RTP padding")]
    Padding,
}

/// One RTP packet, borrowed from a datagram (RFC 3550 section 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpPacket<'a> {
    /// Synchronization source: names the sender of the stream.
    pub(crate) ssrc: Ssrc,
    /// Sequence number: grows by one with each packet and shows loss.
    pub(crate) sequence: SequenceNumber,
    /// RTP timestamp of the first sample, on the sender's clock.
    pub(crate) time: RtpTime,
    /// Payload type, 0 to 127: the number that the session description assigns to a codec.
    pub(crate) pt: PayloadType,
    /// Marker bit. For audio, it marks the first packet after silence (RFC 3551 section 4.1).
    pub(crate) marker: bool,
    /// Length of the header in bytes: fixed part, contributing sources and extension.
    pub(crate) header_len: usize,
    /// The payload without padding bytes.
    pub payload: &'a [u8],
}

impl<'a> RtpPacket<'a> {
    /// Parses a complete packet.
    ///
    /// # Errors
    /// Fails if the bytes are not an RTP packet.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, RtpParseError> {
        let reader = RtpReader::new(bytes).map_err(RtpParseError::from)?;
        Ok(Self { payload: reader.payload(), ..Self::from_reader(&reader) })
    }

    /// Parses a packet with a truncated payload, e.g. because of the snap length, or because a paused recording keeps
    /// headers only. The header, too, may be truncated after its first 12 bytes. Padding is not removed, because its
    /// length is in the last byte.
    ///
    /// # Errors
    /// Fails if there are fewer than 12 bytes, or if the version is not 2.
    pub fn parse_cut(bytes: &'a [u8]) -> Result<Self, RtpParseError> {
        let Some((fixed, _)) = bytes.split_first_chunk::<{ RtpReader::MIN_HEADER_LEN }>() else {
            return Err(RtpParseError::TooShort);
        };
        let mut plain = *fixed;
        // With the bits for padding, extension and source count cleared, the parser accepts the first 12 bytes as a
        // complete packet.
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

/// Returns the RTP packets of one datagram. There are several if the network card or the kernel merged datagrams of one
/// sender (UDP GRO). All of them except the last have the same length. The next packet is found by version, SSRC and
/// the next sequence number: 50 bits must be equal.
pub(crate) fn split_merged(payload: &[u8]) -> impl Iterator<Item = &[u8]> {
    payload.chunks(second_packet_offset(payload).unwrap_or(payload.len()).max(1))
}

/// Returns the offset in bytes of the second RTP packet in a datagram; `None` if there is none.
fn second_packet_offset(payload: &[u8]) -> Option<usize> {
    let ssrc = payload.get(SSRC_AT..RtpReader::MIN_HEADER_LEN)?;
    let header = |at: usize| payload.get(at..at + RtpReader::MIN_HEADER_LEN);
    let sequence = |header: &[u8]| u16::from_be_bytes([header[2], header[3]]);
    let first = header(0)?;
    let is_number = |at: usize, n: u16| {
        header(at)
            .is_some_and(|h| h[0] >> 6 == 2 && &h[SSRC_AT..] == ssrc && sequence(h) == sequence(first).wrapping_add(n))
    };
    // The search looks for the last byte of the SSRC, with which a fixed header ends. The second packet begins at least
    // one header length after the first packet.
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

/// Returns the length of an RTP header in bytes, or `None` if the header is truncated.
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

/// Offset of the SSRC from the start of the RTP header, bytes (RFC 3550 section 5.1).
const SSRC_AT: usize = 8;

/// Length of a STUN header, bytes (RFC 8489 section 5).
const STUN_HEADER_LEN: usize = 20;

/// Length of a DTLS record header, bytes (RFC 6347 section 4.1): type, version (0xfefd or 0xfeff; 0x0100 in old
/// drafts), epoch, sequence number, length.
const DTLS_HEADER_LEN: usize = 13;

/// The four bytes at a fixed position of each ZRTP packet that identify the protocol (RFC 6189 section 5).
const ZRTP_COOKIE: [u8; 4] = *b"ZRTP";
