//! Checks one value against its [`KeyKind`], and converts the value.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use toml::de::{DeInteger, DeValue};

use super::keys::{ConfigKey, KeyKind};
use super::raw::{ConfigValue, suggestion};
use crate::call::config::NumberSource;
use crate::call::numbers::NumberPattern;
use crate::call::topology::MAX_MACHINE_ADDRESSES;
use crate::recording::encrypt::{AgeRecipient, RecipientError};

/// Reason why a configuration key does not accept a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ValueProblem {
    /// Description of the problem, without the text of a secret.
    pub(crate) what: String,
    /// Description of how to solve the problem.
    pub(crate) remedy: String,
    /// Position of the wrong entry, if the value is a list: a range of bytes in the file. `None` if the whole value is
    /// wrong.
    pub(crate) span: Option<Range<usize>>,
}

impl ValueProblem {
    fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into(), span: None }
    }
}

/// Checks and converts the value of a key. Returns an error for each wrong entry of a list. No error contains the text
/// of a secret.
pub(crate) fn convert(key: &ConfigKey, value: &DeValue<'_>) -> Result<ConfigValue, Vec<ValueProblem>> {
    match key.kind {
        KeyKind::Numbers(least, most) => {
            let wanted = "a list of numbers, for example [5060, 5080]";
            each(key, value, wanted, |v| number(key, v, least, most)).map(ConfigValue::Numbers)
        }
        KeyKind::Words(allowed) => {
            each(key, value, "a list of words in quotes", |v| word(key, v, allowed)).map(ConfigValue::Texts)
        }
        KeyKind::Names => one_or_more(key, value, name),
        KeyKind::Recipients => one_or_more(key, value, recipient),
        KeyKind::AddressGroups => address_groups(key, value).map(ConfigValue::AddressGroups),
        KeyKind::MailAddresses => one_or_more(key, value, mail_address),
        KeyKind::Users => texts(key, value, user),
        KeyKind::HeaderNames => texts(key, value, header_name),
        KeyKind::Sources => texts(key, value, source),
        _ => single(key, value).map_err(|problem| vec![problem]),
    }
}

/// Checks and converts a value that is not a list.
fn single(key: &ConfigKey, value: &DeValue<'_>) -> Result<ConfigValue, ValueProblem> {
    let check = match key.kind {
        KeyKind::Switch => {
            return value.as_bool().map(ConfigValue::Switch).ok_or_else(|| kind_of(key, value, "true or false"));
        }
        KeyKind::Number(least, most) => return number(key, value, least, most).map(ConfigValue::Number),
        KeyKind::AutoOr(allowed) => return auto_or(key, value, allowed),
        KeyKind::Word(allowed) => return word(key, value, allowed).map(ConfigValue::Text),
        KeyKind::Path => path,
        KeyKind::Pattern => pattern,
        KeyKind::Digits => digits,
        KeyKind::Keypad => keypad,
        KeyKind::HeaderName => header_name_or_none,
        KeyKind::Url => url,
        KeyKind::Address => address,
        KeyKind::SiteUrl => site_url,
        KeyKind::HookUrl => hook_url,
        KeyKind::HostPort => host_port,
        KeyKind::MailAddress => mail_address_or_none,
        KeyKind::Listen => listen,
        KeyKind::HeaderMatch => header_match,
        KeyKind::Mappings => return wrong(format!("{} is not allowed here", key.name), ""),
        _ => |_: &str| Ok(()),
    };
    text(key, value).and_then(|t| checked(key, t, check)).map(ConfigValue::Text)
}

/// Returns NAME if the text has the form `header:NAME`; `None` otherwise.
pub(crate) fn header_source(text: &str) -> Option<&str> {
    let name = text.strip_prefix("header:")?.trim();
    is_header_name(name).then_some(name)
}

/// Parses one source of a phone number: `header:NAME`, `from`, `to` or `request_uri`.
pub(crate) fn number_source(text: &str) -> Option<NumberSource> {
    match text {
        "from" => Some(NumberSource::From),
        "to" => Some(NumberSource::To),
        "request_uri" => Some(NumberSource::RequestUri),
        other => header_source(other).map(|name| NumberSource::Header(name.to_owned())),
    }
}

/// Splits `NAME` or `NAME: PATTERN` into name and pattern. Without a pattern every value matches.
pub(crate) fn split_header_match(text: &str) -> (String, String) {
    match text.split_once(':') {
        Some((name, pattern)) if !pattern.trim().is_empty() => (name.trim().to_owned(), pattern.trim().to_owned()),
        Some((name, _)) => (name.trim().to_owned(), String::from("*")),
        None => (text.trim().to_owned(), String::from("*")),
    }
}

fn kind_of(key: &ConfigKey, value: &DeValue<'_>, wanted: &str) -> ValueProblem {
    let is = match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    ValueProblem::new(format!("{} is {is}", key.path()), format!("write {wanted}"))
}

/// Converts each entry of a list with the function `convert`.
///
/// # Errors
/// Fails if an entry is wrong. Returns an error with the position in the file for each wrong entry.
fn each<T>(
    key: &ConfigKey,
    value: &DeValue<'_>,
    wanted: &str,
    convert: impl Fn(&DeValue<'_>) -> Result<T, ValueProblem>,
) -> Result<Vec<T>, Vec<ValueProblem>> {
    let array = value.as_array().ok_or_else(|| vec![kind_of(key, value, wanted)])?;
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for entry in array.iter() {
        match convert(entry.get_ref()) {
            Ok(value) => good.push(value),
            Err(problem) => bad.push(ValueProblem { span: problem.span.clone().or(Some(entry.span())), ..problem }),
        }
    }
    if bad.is_empty() { Ok(good) } else { Err(bad) }
}

fn text(key: &ConfigKey, value: &DeValue<'_>) -> Result<String, ValueProblem> {
    value.as_str().map(str::to_owned).ok_or_else(|| kind_of(key, value, "a text in double quotes"))
}

fn texts(
    key: &ConfigKey,
    value: &DeValue<'_>,
    check: fn(&str) -> Result<(), ValueProblem>,
) -> Result<ConfigValue, Vec<ValueProblem>> {
    let convert = |v: &DeValue<'_>| text(key, v).and_then(|t| checked(key, t, check));
    each(key, value, "a list of texts, for example [\"one\", \"two\"]", convert).map(ConfigValue::Texts)
}

/// Converts a value that is one text or a list of texts. One text becomes a list with one entry.
fn one_or_more(
    key: &ConfigKey,
    value: &DeValue<'_>,
    check: fn(&str) -> Result<(), ValueProblem>,
) -> Result<ConfigValue, Vec<ValueProblem>> {
    if !value.is_str() {
        return texts(key, value, check);
    }
    let text = text(key, value).and_then(|t| checked(key, t, check)).map_err(|problem| vec![problem])?;
    Ok(ConfigValue::Texts(vec![text]))
}

fn address_groups(key: &ConfigKey, value: &DeValue<'_>) -> Result<Vec<Vec<IpAddr>>, Vec<ValueProblem>> {
    let wanted = "a list of lists of addresses, for example [[\"198.51.100.10\", \"10.1.0.1\"]]";
    let groups = value.as_array().ok_or_else(|| vec![kind_of(key, value, wanted)])?;
    if groups.len() > MAX_MACHINES {
        let what = format!("{} has {} lists", key.path(), groups.len());
        return Err(vec![ValueProblem::new(what, format!("write at most {MAX_MACHINES} lists"))]);
    }
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for group in groups.iter() {
        match address_group(key, group.get_ref(), wanted) {
            Ok(addresses) => good.push(addresses),
            Err(problems) => bad.extend(problems),
        }
    }
    if bad.is_empty() { Ok(good) } else { Err(bad) }
}

fn address_group(key: &ConfigKey, value: &DeValue<'_>, wanted: &str) -> Result<Vec<IpAddr>, Vec<ValueProblem>> {
    let address = |value: &DeValue<'_>| {
        let text = text(key, value)?;
        text.parse().or_else(|_| wrong(format!("{}: \"{text}\" is not an IP address", key.path()), wanted_address()))
    };
    let addresses = each(key, value, wanted, address)?;
    if addresses.is_empty() || addresses.len() > MAX_MACHINE_ADDRESSES {
        let what = format!("{}: a list has {} addresses", key.path(), addresses.len());
        let remedy = format!("write 1 to {MAX_MACHINE_ADDRESSES} addresses in a list");
        return Err(vec![ValueProblem::new(what, remedy)]);
    }
    Ok(addresses)
}

fn wanted_address() -> &'static str {
    "write addresses without port, for example \"10.1.0.1\" or \"2001:db8::1\""
}

fn checked(key: &ConfigKey, text: String, check: fn(&str) -> Result<(), ValueProblem>) -> Result<String, ValueProblem> {
    match check(&text) {
        Ok(()) => Ok(text),
        Err(problem) => Err(ValueProblem { what: format!("{}: {}", key.path(), problem.what), ..problem }),
    }
}

fn number(key: &ConfigKey, value: &DeValue<'_>, least: u64, most: u64) -> Result<u64, ValueProblem> {
    let bounds = match most {
        u64::MAX => format!("a whole number from {least}"),
        _ => format!("a whole number from {least} to {most}"),
    };
    let given = value.as_integer().ok_or_else(|| kind_of(key, value, &bounds))?;
    match parse(given) {
        Some(n) if (least..=most).contains(&n) => Ok(n),
        _ => {
            let unit = if key.unit.is_empty() { String::new() } else { format!(" ({})", key.unit) };
            Err(ValueProblem::new(
                format!("{} = {} is out of range", key.path(), given.as_str()),
                format!("write {bounds}{unit}"),
            ))
        }
    }
}

/// Parses a TOML integer, which may be negative or hexadecimal. Returns `None` if it does not fit into an unsigned
/// 64-bit number.
fn parse(given: &DeInteger<'_>) -> Option<u64> {
    let digits = given.as_str().trim_start_matches('+');
    u64::from_str_radix(digits, given.radix()).ok()
}

fn auto_or(key: &ConfigKey, value: &DeValue<'_>, allowed: &[u64]) -> Result<ConfigValue, ValueProblem> {
    let list = allowed.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    let wanted = format!("\"auto\" or one of {list}");
    match value {
        DeValue::String(s) if s == "auto" => Ok(ConfigValue::Text(String::from("auto"))),
        DeValue::Integer(i) => match parse(i) {
            Some(n) if allowed.contains(&n) => Ok(ConfigValue::Number(n)),
            _ => Err(ValueProblem::new(format!("{} cannot be {}", key.path(), i.as_str()), format!("write {wanted}"))),
        },
        other => Err(kind_of(key, other, &wanted)),
    }
}

fn word(key: &ConfigKey, value: &DeValue<'_>, allowed: &[&str]) -> Result<String, ValueProblem> {
    let list = allowed.iter().map(|w| format!("\"{w}\"")).collect::<Vec<_>>().join(", ");
    let given = value.as_str().ok_or_else(|| kind_of(key, value, &format!("one of {list}")))?;
    if allowed.contains(&given) {
        return Ok(given.to_owned());
    }
    let near = suggestion(given, allowed).map(|w| format!("did you mean \"{w}\"? ")).unwrap_or_default();
    Err(ValueProblem::new(format!("{} cannot be \"{given}\"", key.path()), format!("{near}write one of {list}")))
}

fn wrong<T>(what: impl Into<String>, remedy: impl Into<String>) -> Result<T, ValueProblem> {
    Err(ValueProblem::new(what, remedy))
}

fn name(text: &str) -> Result<(), ValueProblem> {
    if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/') {
        return wrong("this is not a valid interface name", "`ip link` lists them");
    }
    Ok(())
}

fn user(text: &str) -> Result<(), ValueProblem> {
    if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '@') {
        return wrong(
            "this is not the user part of a SIP address",
            "write the part before the @, for example \"reception\"",
        );
    }
    Ok(())
}

fn path(text: &str) -> Result<(), ValueProblem> {
    if text.is_empty() || text.contains('\0') {
        return wrong("the path is empty", "write a path, or remove the key");
    }
    Ok(())
}

/// Returns true if the text has the form of SIP header names: a token (RFC 3261 section 25.1).
fn is_header_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b))
}

fn header_name(text: &str) -> Result<(), ValueProblem> {
    if is_header_name(text) {
        return Ok(());
    }
    wrong(
        format!("\"{text}\" is not a valid SIP header name"),
        "write only the name, without colon and value, for example \"X-Queue\"",
    )
}

fn header_name_or_none(text: &str) -> Result<(), ValueProblem> {
    if text.is_empty() { Ok(()) } else { header_name(text) }
}

fn keypad(text: &str) -> Result<(), ValueProblem> {
    if text.len() > crate::call::pause::MAX_KEYS {
        return wrong("this is too long", format!("write at most {} keys", crate::call::pause::MAX_KEYS));
    }
    if text.bytes().all(|b| b.is_ascii_digit() || b"*#ABCDabcd".contains(&b)) {
        return Ok(());
    }
    wrong("only telephone keys are allowed here", "write 0 to 9, *, #, A to D, for example \"*71\"")
}

fn source(text: &str) -> Result<(), ValueProblem> {
    if number_source(text).is_some() {
        return Ok(());
    }
    let near = match suggestion(text, &["from", "to", "request_uri"]) {
        Some(near) => format!("did you mean \"{near}\"? "),
        None if is_header_name(text) => format!("did you mean \"header:{text}\"? "),
        None => String::new(),
    };
    wrong(
        format!("\"{text}\" is not a source of numbers"),
        format!("{near}write \"header:NAME\", \"from\", \"to\" or \"request_uri\""),
    )
}

fn digits(text: &str) -> Result<(), ValueProblem> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(());
    }
    wrong("only digits are allowed here", "write the digits without +, spaces and brackets")
}

fn pattern(text: &str) -> Result<(), ValueProblem> {
    NumberPattern::check(text).map_err(|problem| ValueProblem::new(problem.what, problem.remedy))
}

fn header_match(text: &str) -> Result<(), ValueProblem> {
    let (name, value) = split_header_match(text);
    header_name(&name)?;
    NumberPattern::check_text(&value).map_err(|problem| ValueProblem::new(problem.what, problem.remedy))
}

/// Checks a public key of the program age. The error never repeats the text, because the text may be a secret key.
fn recipient(text: &str) -> Result<(), ValueProblem> {
    match text.parse::<AgeRecipient>() {
        Ok(_) => Ok(()),
        Err(RecipientError::Secret) => wrong(
            "this is a secret key, which must not be on this machine",
            "write the public key, \"age1…\" (`age-keygen -y KEYFILE` prints it), and remove the secret key from this file and its copies",
        ),
        Err(RecipientError::Ssh) => {
            wrong("this is an SSH key", "create a key with age-keygen and write its public key, \"age1…\"")
        }
        Err(RecipientError::Other) => wrong(
            "this is not a valid public key of age",
            "write the public key that age-keygen prints, \"age1…\" with 62 characters",
        ),
    }
}

fn listen(text: &str) -> Result<(), ValueProblem> {
    if text.is_empty() || text.parse::<SocketAddr>().is_ok() {
        return Ok(());
    }
    wrong("this is not an address with a port", "write \"127.0.0.1:8080\" or \"[::1]:8080\"")
}

fn address(text: &str) -> Result<(), ValueProblem> {
    match text.is_empty() || text.parse::<std::net::IpAddr>().is_ok() {
        true => Ok(()),
        false => wrong("this is not an IP address", "write an address without a port, for example \"127.0.0.1\""),
    }
}

fn site_url(text: &str) -> Result<(), ValueProblem> {
    let is_site = |url: reqwest::Url| {
        let is_bare =
            url.path() == "/" && url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
        url.scheme() == "https" && url.has_host() && is_bare
    };
    match text.is_empty() || reqwest::Url::parse(text).is_ok_and(is_site) {
        true => Ok(()),
        false => wrong("this is not the https address of a site", "write \"https://HOST\", without a path"),
    }
}

fn hook_url(text: &str) -> Result<(), ValueProblem> {
    if text.is_empty() {
        return Ok(());
    }
    match reqwest::Url::parse(text) {
        Ok(url) if url.scheme() == "https" && url.has_host() => Ok(()),
        Ok(url) if url.scheme() == "http" && is_loopback(&url) => Ok(()),
        _ => wrong("this is not an https URL", "write \"https://HOST/PATH\"; http is allowed for this machine only"),
    }
}

fn host_port(text: &str) -> Result<(), ValueProblem> {
    let parts = text.rsplit_once(':');
    match text.is_empty() || parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok()) {
        true => Ok(()),
        false => wrong("this is not HOST:PORT", "write for example \"smtp.example.org:587\""),
    }
}

fn mail_address(text: &str) -> Result<(), ValueProblem> {
    // A display name is allowed, e.g. `Callspan <alarm@example.org>`.
    match text.parse::<lettre::message::Mailbox>() {
        Ok(_) => Ok(()),
        Err(_) => wrong(format!("\"{text}\" is no mail address"), "write for example \"admin@example.org\""),
    }
}

fn mail_address_or_none(text: &str) -> Result<(), ValueProblem> {
    if text.is_empty() { Ok(()) } else { mail_address(text) }
}

fn url(text: &str) -> Result<(), ValueProblem> {
    let Ok(url) = reqwest::Url::parse(text) else {
        return wrong("this is not a URL", "write the complete URL, \"https://HOST/api/v4/auth\"");
    };
    if !url.username().is_empty() || url.password().is_some() {
        return wrong("the URL contains a login", "move them to login and security_key");
    }
    if url.query().is_some() || !url.path().trim_end_matches('/').ends_with("/auth") {
        return wrong("the URL does not end in /auth", "write the complete URL, \"https://HOST/api/v4/auth\"");
    }
    match url.scheme() {
        "https" => Ok(()),
        "http" if is_loopback(&url) => Ok(()),
        "http" => wrong(
            "the key would cross the network unprotected",
            "write https://; http is allowed for 127.0.0.1, [::1] and localhost only",
        ),
        other => wrong(format!("{other}: is not supported"), "write https://HOST/api/v4/auth"),
    }
}

fn is_loopback(url: &reqwest::Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Maximum number of machines with several addresses in `calls.pbx_addresses`. It is more than any site has.
const MAX_MACHINES: usize = 64;
