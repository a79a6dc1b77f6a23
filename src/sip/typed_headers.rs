//! Parses the headers that relate calls to each other, transfer them or limit their duration: Replaces, Join, Refer-To,
//! Session-Expires, Session-ID.

use super::address::{NameAddr, SipParams};
use super::header::decimal;

/// The Replaces header (RFC 3891) names the dialog that the new call replaces. The tags are named as the receiver of
/// the header sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaces {
    /// Call-ID of the replaced dialog.
    pub(crate) call_id: String,
    /// Tag that the receiver of the message has in the replaced dialog.
    pub(crate) to_tag: String,
    /// Tag that the other party of the dialog, not the receiver of the message, has in the replaced dialog.
    pub(crate) from_tag: String,
}

impl Replaces {
    /// Parses the value of a Replaces header. The Join header (RFC 3911) has the same form.
    pub(crate) fn parse(value: &str) -> Option<Self> {
        let (call_id, params) = value.split_once(';').unwrap_or((value, ""));
        let params = SipParams::parse(params);
        let call_id = call_id.trim();
        (!call_id.is_empty()).then(|| Self {
            call_id: call_id.to_owned(),
            to_tag: params.get("to-tag").unwrap_or_default().to_owned(),
            from_tag: params.get("from-tag").unwrap_or_default().to_owned(),
        })
    }
}

/// The Refer-To header (RFC 3515). In an attended transfer its URI contains a Replaces header (RFC 3891 section 4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReferTo {
    /// Address to which the call is transferred.
    pub(crate) target: NameAddr,
    /// Dialog that the new call replaces; `None` for a transfer without consultation.
    pub(crate) replaces: Option<Replaces>,
}

impl ReferTo {
    /// Parses the value of a Refer-To header.
    pub(crate) fn parse(value: &str) -> Option<Self> {
        let target = NameAddr::parse(value)?;
        let replaces = target.uri.header("Replaces").and_then(|text| Replaces::parse(&text));
        Some(Self { target, replaces })
    }
}

/// The side that refreshes a session, i.e. sends a request before the session timer expires (RFC 4028).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionRefresher {
    /// The side that sent the request with the session timer.
    Uac,
    /// The side that answered the request with the session timer.
    Uas,
}

/// The Session-Expires header: the session timer on which both sides agree (RFC 4028).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SessionExpires {
    /// Time from a refresh to the expiry of the session, seconds.
    pub(crate) delta_s: u32,
    /// Side that must refresh the session (`refresher`); `None` until both sides have agreed.
    pub(crate) refresher: Option<SessionRefresher>,
}

impl SessionExpires {
    /// Parses the value of a Session-Expires header, e.g. `1800;refresher=uac`.
    pub(crate) fn parse(value: &str) -> Option<Self> {
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

/// The Session-ID header (RFC 7989): identifies a session across B2BUAs. Each end contributes a UUID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionId {
    /// UUID of the sender of this message: 32 hexadecimal digits in lower case.
    pub(crate) local: String,
    /// UUID of the other side; `None` while it is unknown. Senders that implement RFC 7329 omit it.
    pub(crate) remote: Option<String>,
}

impl SessionId {
    /// Parses the value of a Session-ID header. A UUID of 32 zeros means that it is not known yet.
    pub(crate) fn parse(value: &str) -> Option<Self> {
        let (local, params) = value.split_once(';').unwrap_or((value, ""));
        let known = |id: &str| {
            let id = id.trim().to_ascii_lowercase();
            Some(id).filter(|id| id.bytes().any(|b| b != b'0' && b != b'-'))
        };
        let remote = SipParams::parse(params).get("remote").and_then(known);
        Some(Self { local: known(local)?, remote })
    }
}
