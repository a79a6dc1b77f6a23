//! Recognizes SIP behind headers that the decoder does not remove, so that the command `doctor` can name these headers.

use super::has_valid_checksum;
use crate::decode::counters::{UndoneWrapper, WrappedSip};
use crate::decode::tcp::begins_message;
use crate::net::UDP_PROTOCOL;

impl WrappedSip {
    /// Counts a packet if it contains SIP behind the header `wrapper`, which the decoder does not undo.
    pub(in crate::decode) fn note(&mut self, wrapper: UndoneWrapper, payload: &[u8]) {
        if !holds_sip(payload) {
            return;
        }
        self.packets += 1;
        self.wrapper.get_or_insert(wrapper);
    }

    /// Counts a UDP datagram that contains SIP behind a header that the decoder does not know.
    pub(in crate::decode) fn note_datagram(&mut self, port: u16, payload: &[u8]) {
        match payload.first() {
            // HEP version 3 has a header of its own, and carries the SIP message in a chunk behind it.
            Some(b'H') if payload.starts_with(b"HEP3") && memchr::memmem::find(payload, b"SIP/2.0").is_some() => {
                self.packets += 1;
                self.wrapper.get_or_insert(UndoneWrapper::Hep);
            }
            // SIP and other text begin with a letter, and RTP and RTCP with version 2. Only other datagrams may have an
            // unknown header, so only they are searched for SIP.
            Some(first) if !first.is_ascii_alphabetic() && first >> 6 != 2 => {
                self.note(UndoneWrapper::UdpPort(port), payload);
            }
            _ => {}
        }
    }
}

/// Returns whether the bytes contain an IP packet with a SIP message in UDP, behind a header of up to [`MAX_HEADER`]
/// bytes.
fn holds_sip(data: &[u8]) -> bool {
    let starts = data.get(..data.len().min(MAX_HEADER)).unwrap_or_default();
    let mut starts = memchr::memchr2_iter(IPV4_START, IPV6_START, starts);
    starts.any(|at| datagram(data.get(at..).unwrap_or_default()).is_some_and(begins_message))
}

/// Returns the payload of the UDP datagram with which an IP packet begins. The packet may be cut.
fn datagram(ip: &[u8]) -> Option<&[u8]> {
    match ip {
        [IPV4_START, _, _, _, _, _, _, _, _, UDP_PROTOCOL, ..] if has_valid_checksum(ip.get(..IPV4_HEADER)?) => {
            ip.get(IPV4_HEADER + UDP_HEADER..)
        }
        [IPV6_START, _, _, _, _, _, UDP_PROTOCOL, ..] => ip.get(IPV6_HEADER + UDP_HEADER..),
        _ => None,
    }
}

/// Maximum number of bytes of the headers before an IP packet. A remote capture of radio frames has about 100.
const MAX_HEADER: usize = 160;
/// First byte of an IPv4 packet without options.
const IPV4_START: u8 = 0x45;
/// First byte of an IPv6 packet without traffic class.
const IPV6_START: u8 = 0x60;
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const UDP_HEADER: usize = 8;
