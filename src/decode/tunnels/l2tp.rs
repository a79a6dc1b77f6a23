//! L2TP version 2 (RFC 2661) and 3 (RFC 3931), over UDP and directly over IP. The payload is PPP or Ethernet.

use super::{DetectedTunnel, TunnelKind, TunnelPayload, is_ethernet, is_ip};
use crate::net::{be16, be32};

/// Parses an L2TP data message over UDP. Returns `None` for control messages, which carry no packet.
pub(in super::super) fn over_udp(data: &[u8]) -> Option<DetectedTunnel<'_>> {
    let flags = be16(data, 0)?;
    match flags & VERSION {
        _ if flags & CONTROL != 0 => None,
        2 => version_2(flags, data),
        // L2TP version 3 over UDP has two reserved bytes before the session id. They are skipped.
        3 if flags & !VERSION == 0 && be16(data, 2)? == 0 => over_ip(data.get(4..)?),
        _ => None,
    }
}

/// Parses a data message of version 3 directly in IP (protocol 115). A cookie and a sublayer header lie between the
/// session id and the Ethernet frame. Only the two ends know the lengths of both, so all lengths are tried.
pub(in super::super) fn over_ip(data: &[u8]) -> Option<DetectedTunnel<'_>> {
    if be32(data, 0)? == 0 {
        return None; // session 0 marks a control message
    }
    let frame = SESSION_HEADERS.iter().filter_map(|length| data.get(*length..)).find(|frame| is_ethernet(frame))?;
    Some(DetectedTunnel::new(TunnelKind::L2tp, TunnelPayload::Ethernet(frame)))
}

/// Parses version 2 (RFC 2661 section 3.1). Flags show which fields are present: length, sequence numbers, offset. The
/// payload is PPP.
fn version_2(flags: u16, data: &[u8]) -> Option<DetectedTunnel<'_>> {
    let mut at = 2;
    if flags & HAS_LENGTH != 0 {
        at += 2;
    }
    at += 4; // tunnel id and session id
    if flags & HAS_SEQUENCE != 0 {
        at += 4;
    }
    if flags & HAS_OFFSET != 0 {
        at += 2 + usize::from(be16(data, at)?);
    }
    let ppp = data.get(at..)?;
    // PPP can omit the address and control bytes, and the first byte of the protocol number if it is zero (RFC 1661).
    // So all forms are accepted.
    let ppp = ppp.strip_prefix(&[0xff, 0x03]).unwrap_or(ppp);
    let ip = match ppp {
        [0, 0x21 | 0x57, ip @ ..] | [0x21 | 0x57, ip @ ..] if is_ip(ip) => ip,
        _ => return None,
    };
    Some(DetectedTunnel::new(TunnelKind::L2tp, TunnelPayload::Ip(ip)))
}

const CONTROL: u16 = 0x8000;
const HAS_LENGTH: u16 = 0x4000;
const HAS_SEQUENCE: u16 = 0x0800;
const HAS_OFFSET: u16 = 0x0200;
const VERSION: u16 = 0x000f;
/// Possible sums of session id (4 bytes), cookie (0, 4 or 8) and sublayer header (0 or 4), bytes.
const SESSION_HEADERS: [usize; 4] = [4, 8, 12, 16];
