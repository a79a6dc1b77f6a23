//! One value against its [`KeyKind`]: converted, or what is wrong and the remedy.

use std::net::{IpAddr, SocketAddr};

use toml::de::{DeInteger, DeValue};

use super::keys::{ConfigKey, KeyKind};
use super::raw::{ConfigValue, suggestion};
use crate::call::config::NumberSource;
use crate::recording::encrypt::{AgeRecipient, RecipientError};

/// What is wrong, and the remedy.
pub type Wrong = (String, String);

/// Checks and converts the value of a key. The text of a secret is never part of the answer's error.
pub fn convert(key: &ConfigKey, value: &DeValue<'_>) -> Result<ConfigValue, Wrong> {
    match key.kind {
        KeyKind::Switch => value.as_bool().map(ConfigValue::Switch).ok_or_else(|| kind_of(key, value, "true or false")),
        KeyKind::Number(least, most) => number(key, value, least, most).map(ConfigValue::Number),
        KeyKind::Numbers(least, most) => {
            let items = items(key, value, "a list of numbers, for example [5060, 5080]")?;
            items.into_iter().map(|v| number(key, v, least, most)).collect::<Result<_, _>>().map(ConfigValue::Numbers)
        }
        KeyKind::AutoOr(allowed) => auto_or(key, value, allowed),
        KeyKind::Words(allowed) => {
            let items = items(key, value, "a list of words in quotes")?;
            items.into_iter().map(|v| word(key, v, allowed)).collect::<Result<_, _>>().map(ConfigValue::Texts)
        }
        KeyKind::Word(allowed) => word(key, value, allowed).map(ConfigValue::Text),
        KeyKind::Names if value.is_str() => {
            text(key, value).and_then(|t| checked(key, t, name)).map(|t| ConfigValue::Texts(vec![t]))
        }
        KeyKind::Names => texts(key, value, name),
        KeyKind::Recipients if value.is_str() => {
            text(key, value).and_then(|t| checked(key, t, recipient)).map(|t| ConfigValue::Texts(vec![t]))
        }
        KeyKind::Recipients => texts(key, value, recipient),
        KeyKind::Users => texts(key, value, user),
        KeyKind::HeaderNames => texts(key, value, header_name),
        KeyKind::Sources => texts(key, value, source),
        KeyKind::Text | KeyKind::Secret => text(key, value).map(ConfigValue::Text),
        KeyKind::Path => checked(key, text(key, value)?, path).map(ConfigValue::Text),
        KeyKind::Pattern => checked(key, text(key, value)?, pattern).map(ConfigValue::Text),
        KeyKind::Digits => checked(key, text(key, value)?, digits).map(ConfigValue::Text),
        KeyKind::Keypad => checked(key, text(key, value)?, keypad).map(ConfigValue::Text),
        KeyKind::HeaderName => checked(key, text(key, value)?, header_name_or_none).map(ConfigValue::Text),
        KeyKind::Url => checked(key, text(key, value)?, url).map(ConfigValue::Text),
        KeyKind::Listen => checked(key, text(key, value)?, listen).map(ConfigValue::Text),
        KeyKind::HeaderMatch => checked(key, text(key, value)?, header_match).map(ConfigValue::Text),
        KeyKind::Mappings => Err((format!("{} cannot be given here", key.name), String::new())),
    }
}

/// `header:NAME` to NAME.
pub fn header_source(text: &str) -> Option<&str> {
    let name = text.strip_prefix("header:")?.trim();
    is_header_name(name).then_some(name)
}

/// One entry of a list of number sources.
pub fn number_source(text: &str) -> Option<NumberSource> {
    match text {
        "from" => Some(NumberSource::From),
        "to" => Some(NumberSource::To),
        "request_uri" => Some(NumberSource::RequestUri),
        other => header_source(other).map(|name| NumberSource::Header(name.to_owned())),
    }
}

/// `NAME` or `NAME: PATTERN`; without a pattern any value fits.
pub fn split_header_match(text: &str) -> (String, String) {
    match text.split_once(':') {
        Some((name, pattern)) if !pattern.trim().is_empty() => (name.trim().to_owned(), pattern.trim().to_owned()),
        Some((name, _)) => (name.trim().to_owned(), String::from("*")),
        None => (text.trim().to_owned(), String::from("*")),
    }
}

fn kind_of(key: &ConfigKey, value: &DeValue<'_>, wanted: &str) -> Wrong {
    let is = match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    (format!("{} is {is}", key.path()), format!("write {wanted}"))
}

fn items<'v, 'i>(key: &ConfigKey, value: &'v DeValue<'i>, wanted: &str) -> Result<Vec<&'v DeValue<'i>>, Wrong> {
    let array = value.as_array().ok_or_else(|| kind_of(key, value, wanted))?;
    Ok(array.iter().map(|v| v.get_ref()).collect())
}

fn text(key: &ConfigKey, value: &DeValue<'_>) -> Result<String, Wrong> {
    value.as_str().map(str::to_owned).ok_or_else(|| kind_of(key, value, "a text in double quotes"))
}

fn texts(key: &ConfigKey, value: &DeValue<'_>, check: fn(&str) -> Result<(), Wrong>) -> Result<ConfigValue, Wrong> {
    let items = items(key, value, "a list of texts, for example [\"one\", \"two\"]")?;
    let convert = |v| text(key, v).and_then(|t| checked(key, t, check));
    items.into_iter().map(convert).collect::<Result<_, _>>().map(ConfigValue::Texts)
}

fn checked(key: &ConfigKey, text: String, check: fn(&str) -> Result<(), Wrong>) -> Result<String, Wrong> {
    match check(&text) {
        Ok(()) => Ok(text),
        Err((what, remedy)) => Err((format!("{}: {what}", key.path()), remedy)),
    }
}

fn number(key: &ConfigKey, value: &DeValue<'_>, least: u64, most: u64) -> Result<u64, Wrong> {
    let bounds = match most {
        u64::MAX => format!("a whole number from {least}"),
        _ => format!("a whole number from {least} to {most}"),
    };
    let given = value.as_integer().ok_or_else(|| kind_of(key, value, &bounds))?;
    match parse(given) {
        Some(n) if (least..=most).contains(&n) => Ok(n),
        _ => {
            let unit = if key.unit.is_empty() { String::new() } else { format!(" ({})", key.unit) };
            Err((format!("{} = {} is out of range", key.path(), given.as_str()), format!("write {bounds}{unit}")))
        }
    }
}

/// TOML integers may be negative, or hexadecimal with their prefix taken off.
fn parse(given: &DeInteger<'_>) -> Option<u64> {
    let digits = given.as_str().trim_start_matches('+');
    u64::from_str_radix(digits, given.radix()).ok()
}

fn auto_or(key: &ConfigKey, value: &DeValue<'_>, allowed: &[u64]) -> Result<ConfigValue, Wrong> {
    let list = allowed.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    let wanted = format!("\"auto\" or one of {list}");
    match value {
        DeValue::String(s) if s == "auto" => Ok(ConfigValue::Text(String::from("auto"))),
        DeValue::Integer(i) => match parse(i) {
            Some(n) if allowed.contains(&n) => Ok(ConfigValue::Number(n)),
            _ => Err((format!("{} cannot be {}", key.path(), i.as_str()), format!("write {wanted}"))),
        },
        other => Err(kind_of(key, other, &wanted)),
    }
}

fn word(key: &ConfigKey, value: &DeValue<'_>, allowed: &[&str]) -> Result<String, Wrong> {
    let list = allowed.iter().map(|w| format!("\"{w}\"")).collect::<Vec<_>>().join(", ");
    let given = value.as_str().ok_or_else(|| kind_of(key, value, &format!("one of {list}")))?;
    if allowed.contains(&given) {
        return Ok(given.to_owned());
    }
    let near = suggestion(given, allowed).map(|w| format!("did you mean \"{w}\"? ")).unwrap_or_default();
    Err((format!("{} cannot be \"{given}\"", key.path()), format!("{near}write one of {list}")))
}

fn wrong<T>(what: impl Into<String>, remedy: impl Into<String>) -> Result<T, Wrong> {
    Err((what.into(), remedy.into()))
}

fn name(text: &str) -> Result<(), Wrong> {
    if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/') {
        return wrong("this is no name of an interface", "`ip link` lists them");
    }
    Ok(())
}

fn user(text: &str) -> Result<(), Wrong> {
    if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '@') {
        return wrong("this is no user of a SIP address", "write what stands before the @, for example \"reception\"");
    }
    Ok(())
}

fn path(text: &str) -> Result<(), Wrong> {
    if text.is_empty() || text.contains('\0') {
        return wrong("the path is empty", "name a path, or leave the key out");
    }
    Ok(())
}

/// RFC 3261 section 25.1: a header name is a token.
fn is_header_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b))
}

fn header_name(text: &str) -> Result<(), Wrong> {
    if is_header_name(text) {
        return Ok(());
    }
    wrong(format!("\"{text}\" is no name of a SIP header"), "write the name without colon and value, \"X-Queue\"")
}

fn header_name_or_none(text: &str) -> Result<(), Wrong> {
    if text.is_empty() { Ok(()) } else { header_name(text) }
}

fn keypad(text: &str) -> Result<(), Wrong> {
    if text.len() > crate::call::pause::MAX_KEYS {
        return wrong("this is too long", format!("write at most {} keys", crate::call::pause::MAX_KEYS));
    }
    if text.bytes().all(|b| b.is_ascii_digit() || b"*#ABCDabcd".contains(&b)) {
        return Ok(());
    }
    wrong("only keys of a telephone can stand here", "write 0 to 9, *, #, A to D, for example \"*71\"")
}

fn source(text: &str) -> Result<(), Wrong> {
    if number_source(text).is_some() {
        return Ok(());
    }
    let near = match suggestion(text, &["from", "to", "request_uri"]) {
        Some(near) => format!("did you mean \"{near}\"? "),
        None if is_header_name(text) => format!("did you mean \"header:{text}\"? "),
        None => String::new(),
    };
    wrong(
        format!("\"{text}\" is no place of a number"),
        format!("{near}write \"header:NAME\", \"from\", \"to\" or \"request_uri\""),
    )
}

fn digits(text: &str) -> Result<(), Wrong> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(());
    }
    wrong("only digits can stand here", "write it without +, spaces and brackets")
}

const PATTERN_HELP: &str = "x is one digit, * any characters, [2-4] a class, a comma separates patterns";

/// The grammar of `extension_pattern`, see [`crate::call::config::NumbersConfigConfig`].
fn pattern(text: &str) -> Result<(), Wrong> {
    if let Some(c) = text.chars().find(|c| r"^$\|(){}?".contains(*c)) {
        return wrong(format!("this is no pattern: it has \"{c}\" (regular expressions are not used)"), PATTERN_HELP);
    }
    for one in text.split(',').map(str::trim) {
        single_pattern(one)?;
    }
    Ok(())
}

fn single_pattern(one: &str) -> Result<(), Wrong> {
    if one.is_empty() {
        return wrong("a pattern is empty", PATTERN_HELP);
    }
    if one.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return wrong("a pattern has a space in it", PATTERN_HELP);
    }
    let mut rest = one;
    while let Some(at) = rest.find(['[', ']']) {
        let class = rest.split_at(at).1.strip_prefix('[').and_then(|a| a.split_once(']'));
        let Some((class, after)) = class else {
            return wrong("a bracket has no partner", "write a class as [2-4] or [135]");
        };
        if class.is_empty() || class.contains('[') {
            return wrong("a class in brackets is empty or nested", "write a class as [2-4] or [135]");
        }
        let chars: Vec<char> = class.chars().collect();
        if chars.windows(3).any(|w| w[1] == '-' && w[0] > w[2]) {
            return wrong(format!("the class [{class}] runs backwards"), "write the lower one first: [2-4]");
        }
        rest = after;
    }
    Ok(())
}

fn header_match(text: &str) -> Result<(), Wrong> {
    let (name, value) = split_header_match(text);
    header_name(&name)?;
    pattern(&value)
}

/// Neither a secret key nor what may be one with a slip is part of the answer.
fn recipient(text: &str) -> Result<(), Wrong> {
    match text.parse::<AgeRecipient>() {
        Ok(_) => Ok(()),
        Err(RecipientError::Secret) => wrong(
            "this is the secret key, which must not be on this machine",
            "write the public key, \"age1…\" (`age-keygen -y KEYFILE` prints it), and take the secret one out of this file and its copies",
        ),
        Err(RecipientError::Ssh) => {
            wrong("this is an SSH key", "make a key with age-keygen and write its public key, \"age1…\"")
        }
        Err(RecipientError::Other) => wrong(
            "this is no public key of age, or it was mistyped",
            "write the public key that age-keygen prints, \"age1…\" with 62 characters",
        ),
    }
}

fn listen(text: &str) -> Result<(), Wrong> {
    if text.is_empty() || text.parse::<SocketAddr>().is_ok() {
        return Ok(());
    }
    wrong("this is no address with a port", "write \"127.0.0.1:8080\" or \"[::1]:8080\"")
}

fn url(text: &str) -> Result<(), Wrong> {
    let Ok(url) = reqwest::Url::parse(text) else {
        return wrong("this is no URL", "write the whole URL, \"https://HOST/api/v4/auth\"");
    };
    if !url.username().is_empty() || url.password().is_some() {
        return wrong("the URL holds a login", "put it into login and security_key");
    }
    if url.query().is_some() || !url.path().trim_end_matches('/').ends_with("/auth") {
        return wrong("the URL does not end in /auth", "write the whole URL, \"https://HOST/api/v4/auth\"");
    }
    match url.scheme() {
        "https" => Ok(()),
        "http" if is_loopback(&url) => Ok(()),
        "http" => wrong(
            "the key would cross the network unprotected",
            "write https://; http is for 127.0.0.1, [::1] and localhost only",
        ),
        other => wrong(format!("{other}: is not for the web"), "write https://HOST/api/v4/auth"),
    }
}

fn is_loopback(url: &reqwest::Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
