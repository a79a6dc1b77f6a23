//! Headers that join, move and end calls, as values.

use super::address::{NameAddr, SipParams};
use super::header::{decimal, split_outside};
use super::start_line::SipMethod;

/// The Replaces header (RFC 3891): the new call takes the place of this dialog. Tags are as the
/// *recipient* of the message sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaces {
    /// The Call-ID of the replaced dialog.
    pub call_id: String,
    /// Its tag at the recipient.
    pub to_tag: String,
    /// Its tag at the other party.
    pub from_tag: String,
    /// Whether only an early dialog is meant.
    pub early_only: bool,
}

impl Replaces {
    /// Reads the value, also of a Join header (RFC 3911), which has the same form.
    pub fn parse(value: &str) -> Option<Self> {
        let (call_id, params) = value.split_once(';').unwrap_or((value, ""));
        let params = SipParams::parse(params);
        let call_id = call_id.trim();
        (!call_id.is_empty()).then(|| Self {
            call_id: call_id.to_owned(),
            to_tag: params.get("to-tag").unwrap_or_default().to_owned(),
            from_tag: params.get("from-tag").unwrap_or_default().to_owned(),
            early_only: params.has("early-only"),
        })
    }
}

/// The Refer-To header (RFC 3515), with the Replaces that an attended transfer embeds (RFC 3891
/// section 4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferTo {
    /// Who shall be called.
    pub target: NameAddr,
    /// The dialog that the new call shall replace.
    pub replaces: Option<Replaces>,
}

impl ReferTo {
    /// Reads the value.
    pub fn parse(value: &str) -> Option<Self> {
        let target = NameAddr::parse(value)?;
        let replaces = target.uri.header("Replaces").and_then(|text| Replaces::parse(&text));
        Some(Self { target, replaces })
    }
}

/// Who keeps a session alive (RFC 4028).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionRefresher {
    /// The side that sent the request.
    Uac,
    /// The side that answered it.
    Uas,
}

/// The Session-Expires header (RFC 4028).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionExpires {
    /// Seconds after the last refresh at which the session is dead.
    pub delta_s: u32,
    /// Who refreshes, if agreed.
    pub refresher: Option<SessionRefresher>,
}

impl SessionExpires {
    /// Reads the value.
    pub fn parse(value: &str) -> Option<Self> {
        let (delta, params) = value.split_once(';').unwrap_or((value, ""));
        let refresher = match SipParams::parse(params).get("refresher").map(str::to_ascii_lowercase).as_deref() {
            Some("uac") => Some(SessionRefresher::Uac),
            Some("uas") => Some(SessionRefresher::Uas),
            _ => None,
        };
        let delta = decimal(delta.trim().as_bytes())?;
        Some(Self { delta_s: u32::try_from(delta).unwrap_or(u32::MAX), refresher })
    }
}

/// One value of the ReasonHeader header (RFC 3326): why a request was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReasonHeader {
    /// `SIP`, `Q.850`, ...
    pub protocol: String,
    /// A SIP status or an ISDN cause (16 normal clearing, 17 busy, 26 answered elsewhere ...).
    pub cause: Option<u16>,
    /// For people.
    pub text: Option<String>,
}

impl ReasonHeader {
    /// Reads all values of one header line.
    pub fn parse_all(value: &str) -> Vec<Self> {
        split_outside(value, b',').filter_map(Self::parse).collect()
    }

    /// Reads one value.
    pub fn parse(value: &str) -> Option<Self> {
        let (protocol, params) = value.split_once(';').unwrap_or((value, ""));
        let params = SipParams::parse(params);
        let protocol = protocol.trim();
        (!protocol.is_empty()).then(|| Self {
            protocol: protocol.to_owned(),
            cause: params.get("cause").and_then(|cause| cause.trim().parse().ok()),
            text: params.get("text").filter(|text| !text.is_empty()).map(str::to_owned),
        })
    }
}

/// The RAck header of a PRACK (RFC 3262): which reliable provisional response it confirms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RAck {
    /// The RSeq of the response.
    pub rseq: u32,
    /// The CSeq number of the request.
    pub cseq: u32,
    /// The method of the request.
    pub method: SipMethod,
}

impl RAck {
    /// Reads the value.
    pub fn parse(value: &str) -> Option<Self> {
        let mut words = value.split_ascii_whitespace();
        let rseq = words.next()?.parse().ok()?;
        let cseq = words.next()?.parse().ok()?;
        Some(Self { rseq, cseq, method: SipMethod::from_name(words.next()?) })
    }
}

/// The Session-ID header (RFC 7989): one name for a conversation through B2BUAs, half from each end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionId {
    /// The half of the side that sent this message, lower case.
    pub local: String,
    /// The half of the other side, once known; RFC 7329 senders give none.
    pub remote: Option<String>,
}

impl SessionId {
    /// Reads the value; the nil UUID (32 zeros) means "not yet known".
    pub fn parse(value: &str) -> Option<Self> {
        let (local, params) = value.split_once(';').unwrap_or((value, ""));
        let known = |id: &str| {
            let id = id.trim().to_ascii_lowercase();
            Some(id).filter(|id| id.bytes().any(|b| b != b'0' && b != b'-'))
        };
        let remote = SipParams::parse(params).get("remote").and_then(known);
        Some(Self { local: known(local)?, remote })
    }
}
