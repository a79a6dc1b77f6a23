//! Parses the addresses in SIP headers: name-addr and addr-spec (RFC 3261 sections 19.1, 20.10, 25.1; RFC 3966 for
//! `tel:`).

use std::net::Ipv6Addr;

use super::header::{find_outside, split_outside, unquote};

/// The scheme of a URI: the word before its first colon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum UriScheme {
    /// A `sip:` URI, or `user@host` without a scheme.
    Sip,
    /// A `sips:` URI, i.e. SIP over TLS on all hops.
    Sips,
    /// A `tel:` URI, or a telephone number alone.
    Tel,
    /// Any other scheme, e.g. `http:`.
    Other,
}

/// A URI of a SIP header, divided into its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SipUri {
    /// The URI as written in the message.
    pub(crate) text: String,
    /// The scheme of the URI, e.g. `sip:` or `tel:`.
    pub(crate) scheme: UriScheme,
    /// User part, or the number of a `tel:` URI. It is percent-decoded and has no password.
    ///
    /// The parameters of a telephone number (e.g. `;npdi;rn=`, RFC 4694) are moved to `params`. In any other user part,
    /// such text is kept (RFC 4475 section 3.1.1.9).
    pub user: Option<String>,
    /// Host name or address; an IPv6 address has no brackets. Empty for `tel:`.
    pub host: String,
    /// Port after the host; `None` if there is none.
    pub port: Option<u16>,
    /// URI parameters, e.g. `;user=phone`. Parameters of a telephone number come first.
    pub params: SipParams,
    /// The headers after `?`, still percent-encoded; `None` if there are none.
    pub(crate) headers: Option<String>,
}

impl SipUri {
    /// Parses a URI. Never fails: a text that is no URI becomes the host of a URI with [`UriScheme::Other`].
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        let (scheme, rest) = split_scheme(text);
        match scheme {
            UriScheme::Sip | UriScheme::Sips => Self::parse_sip(text, scheme, rest),
            UriScheme::Tel => Self::parse_tel(text, rest),
            UriScheme::Other => Self::bare(text, UriScheme::Other, rest),
        }
    }

    /// Returns the percent-decoded value of a header that the URI embeds after `?` (RFC 3261 section 19.1.1).
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        self.headers.as_deref()?.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            key.eq_ignore_ascii_case(name).then(|| percent_decode(value))
        })
    }

    fn bare(text: &str, scheme: UriScheme, host: &str) -> Self {
        Self {
            text: text.to_owned(),
            scheme,
            user: None,
            host: host.to_owned(),
            port: None,
            params: SipParams::default(),
            headers: None,
        }
    }

    fn parse_tel(text: &str, rest: &str) -> Self {
        let (number, params) = rest.split_once(';').unwrap_or((rest, ""));
        let number = percent_decode(number.trim());
        Self {
            user: Some(number).filter(|n| !n.is_empty()),
            params: SipParams::parse(params),
            ..Self::bare(text, UriScheme::Tel, "")
        }
    }

    fn parse_sip(text: &str, scheme: UriScheme, rest: &str) -> Self {
        let (userinfo, rest) = split_userinfo(rest);
        let (user, mut params) = userinfo.map_or((None, SipParams::default()), split_user);
        let (rest, headers) = match rest.split_once('?') {
            Some((rest, headers)) => (rest, Some(headers.to_owned())),
            None => (rest, None),
        };
        let (hostport, uri_params) = rest.split_once(';').unwrap_or((rest, ""));
        params.append(SipParams::parse(uri_params));
        let (host, port) = split_host(hostport.trim());
        // Old gateways write `sip:112`. Then the number is the user part, and there is no host.
        let (user, host) = if user.is_none() && is_number(host) { (Some(host.to_owned()), "") } else { (user, host) };
        Self { user, port, params, headers, ..Self::bare(text, scheme, host) }
    }
}

/// The value of an address header, e.g. From, To, Contact or P-Asserted-Identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameAddr {
    /// Display name without quotes and escapes, e.g. `Alice`; `None` if it is missing or empty.
    pub display: Option<String>,
    /// URI within `<>`, or the whole address if there is no `<>`.
    pub uri: SipUri,
    /// Header parameters after the address, e.g. `;tag=`.
    pub params: SipParams,
}

impl NameAddr {
    /// Parses the value of an address header; `None` if it has no address. Without `<>`, parameters belong to the
    /// header and not to the URI (RFC 3261 section 20.10).
    pub(crate) fn parse(value: &str) -> Option<Self> {
        let value = value.trim();
        let (display, uri, params) = match find_outside_quotes(value, b'<') {
            Some(open) => {
                let (display, rest) = (value.get(..open)?, value.get(open + 1..)?);
                let (uri, after) = rest.split_once('>').unwrap_or((rest, ""));
                (display, uri, after.find(';').and_then(|at| after.get(at + 1..)).unwrap_or_default())
            }
            None => {
                let (display, spec) = split_quoted_prefix(value);
                let (uri, params) = spec.split_once(';').unwrap_or((spec, ""));
                (display, uri, params)
            }
        };
        let uri = uri.trim();
        if uri.is_empty() {
            return None;
        }
        let display = Some(unquote(display)).filter(|d| !d.trim().is_empty());
        Some(Self { display, uri: SipUri::parse(uri), params: SipParams::parse(params) })
    }

    /// Returns the tag, which is part of the dialog ID (RFC 3261 section 12). `None` if it is missing or empty.
    pub fn tag(&self) -> Option<&str> {
        self.params.get("tag").filter(|tag| !tag.is_empty())
    }
}

/// Parameters in the form `;name=value`. The case of names does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SipParams(Vec<(String, Option<String>)>);

impl SipParams {
    /// Parses `name=value;name;name="quoted"`. At most [`MAX_PARAMS`] parameters are kept.
    pub(crate) fn parse(text: &str) -> Self {
        let parse = |param: &str| match find_outside(param, b'=') {
            Some(at) => (
                param.get(..at).unwrap_or_default().trim().to_owned(),
                Some(unquote(param.get(at + 1..).unwrap_or_default())),
            ),
            None => (param.to_owned(), None),
        };
        Self(split_outside(text, b';').take(MAX_PARAMS).map(parse).collect())
    }

    /// Returns the value of the first parameter with this name. It is empty if the parameter has no value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_deref().unwrap_or(""))
    }

    fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }
}

/// Decodes percent escapes, e.g. `%41` to `A`. Invalid escapes stay; invalid UTF-8 becomes U+FFFD.
pub(crate) fn percent_decode(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let hex = |at: usize| bytes.get(at).and_then(|&b| char::from(b).to_digit(16));
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&b) = bytes.get(at) {
        match (b, hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                out.push(b);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn split_scheme(text: &str) -> (UriScheme, &str) {
    if is_number(text.split(';').next().unwrap_or(text)) {
        return (UriScheme::Tel, text);
    }
    let Some((scheme, rest)) = text.split_once(':') else {
        return (if text.contains('@') { UriScheme::Sip } else { UriScheme::Other }, text);
    };
    match scheme.trim().to_ascii_lowercase().as_str() {
        "sip" => (UriScheme::Sip, rest),
        "sips" => (UriScheme::Sips, rest),
        "tel" => (UriScheme::Tel, rest),
        // Old gateways write `user@host:port` without a scheme in From. So the text before the colon is no scheme.
        other if other.contains('@') => (UriScheme::Sip, text),
        _ => (UriScheme::Other, text),
    }
}

/// Returns whether a text is a telephone number, i.e. digits and visual separators of RFC 3966. A text with dots is no
/// number, because it may be an IP address.
fn is_number(text: &str) -> bool {
    let text = text.trim();
    text.bytes().any(|b| b.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'*' | b'#' | b'-' | b'(' | b')' | b' '))
}

/// Splits a URI at the `@` after the user part.
///
/// Some senders do not escape an `@` in the user (`alice@corp@10.0.0.1`). So the host ends at the first `;` or `?`
/// after the first `@`, and the user ends at the last `@` before that. An unescaped `@` in an embedded Replaces header
/// ends no user.
fn split_userinfo(rest: &str) -> (Option<&str>, &str) {
    let Some(first) = rest.find('@') else { return (None, rest) };
    let before = rest.get(..first).unwrap_or_default().to_ascii_lowercase();
    if before.contains("?replaces=") || before.contains("&replaces=") {
        return (None, rest);
    }
    let after = rest.get(first + 1..).unwrap_or_default();
    let host_end = after.find([';', '?']).unwrap_or(after.len());
    let last = after.get(..host_end).and_then(|host| host.rfind('@')).map_or(first, |at| first + 1 + at);
    (rest.get(..last), rest.get(last + 1..).unwrap_or_default())
}

fn split_user(userinfo: &str) -> (Option<String>, SipParams) {
    let user = userinfo.split(':').next().unwrap_or(userinfo).trim();
    let (user, params) = match user.split_once(';') {
        Some((number, params)) if is_number(number) => (number, SipParams::parse(params)),
        _ => (user, SipParams::default()),
    };
    (Some(percent_decode(user)).filter(|u| !u.is_empty()), params)
}

/// Splits a host from its port. An IPv6 address without brackets is accepted, although it is wrong (RFC 5118 section
/// 4.2).
fn split_host(hostport: &str) -> (&str, Option<u16>) {
    if let Some(rest) = hostport.strip_prefix('[') {
        let (host, after) = rest.split_once(']').unwrap_or((rest, ""));
        return (host, after.trim().strip_prefix(':').and_then(|port| port.trim().parse().ok()));
    }
    if hostport.parse::<Ipv6Addr>().is_ok() {
        return (hostport, None);
    }
    match hostport.split_once(':') {
        Some((host, port)) => (host.trim(), port.trim().parse().ok()),
        None => (hostport, None),
    }
}

/// Returns the index of the first `wanted` byte outside quoted strings.
fn find_outside_quotes(text: &str, wanted: u8) -> Option<usize> {
    // `find_outside` skips quoted strings, and text in angle brackets. If `wanted` is `<`, it still finds that bracket,
    // because it compares each byte with `wanted` before it skips.
    find_outside(text, wanted)
}

/// Splits a quoted display name from the URI that follows it without `<>`.
fn split_quoted_prefix(value: &str) -> (&str, &str) {
    if !value.starts_with('"') {
        return ("", value);
    }
    match super::header::closing_quote(value.as_bytes(), 0) {
        Some(end) => (value.get(..=end).unwrap_or_default(), value.get(end + 1..).unwrap_or_default()),
        None => ("", value),
    }
}

/// Maximum number of parameters of a header value that are kept. A Contact with all feature tags (RFC 3840) has about
/// 20.
pub(super) const MAX_PARAMS: usize = 64;
