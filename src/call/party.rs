//! Numbers and names of caller and callee, from the headers of the first INVITE (RFC 3261, RFC 3323, RFC 3325).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::call::caller_facts::{CallerFacts, CallerPrivacy, IDENTITIES, is_calling_party, second_number};
use crate::call::config::{Config, NumberSource};
use crate::call::numbers::{MIN_E164_DIGITS, NumberPlan, is_code, without_post_dial};
use crate::call::record::{CallDirection, CallRecord, Side};
use crate::call::test_call::TestCallOrder;
use crate::net::Endpoint;
use crate::sip::{NameAddr, SipMessage, SipUri, percent_decode};

/// Numbers and names of the parties of a leg, from its own messages. Fields without a comment mean the same as the
/// fields of [`CallRecord`] with the same names.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct LegParties {
    /// The caller's number, normalised. For a withheld number, the word that the configuration gives. `None` if
    /// unknown.
    pub(crate) from: Option<String>,
    /// The called number, normalised; `None` if unknown.
    pub(crate) to: Option<String>,
    /// Extension in the headers that the setting `internal_number` names; `None` without such a header.
    named_extension: Option<String>,
    texts: PartyTexts,
    diverted_from: Option<String>,
    called_party: Option<String>,
    referred_by: Option<String>,
    /// Number in the Request-URI, normalised; `None` if it contains none.
    request_user: Option<String>,
    caller: CallerFacts,
    headers: BTreeMap<String, KeptHeader>,
    /// How a test call (`callspan test-call`) asks to be treated; `None` if the leg is no test call of this recorder.
    test_order: Option<TestCallOrder>,
}

/// Names and addresses of the parties, as written in the messages.
#[derive(Clone, Debug, Default, PartialEq)]
struct PartyTexts {
    /// Display name of the caller; `None` if the message has none.
    from_name: Option<String>,
    /// Display name of the called party; `None` if the message has none.
    to_name: Option<String>,
    /// URI of the caller's address; `None` if it was not captured.
    from_uri: Option<String>,
    /// URI of the called party's address; `None` if it was not captured.
    to_uri: Option<String>,
    /// Request-URI of the INVITE; `None` if the INVITE was not captured.
    request_uri: Option<String>,
    /// Values of the Route headers, by which an edge proxy finds the device; `None` without such a header.
    route: Option<String>,
}

impl LegParties {
    /// Reads the parties from a message. `requester` is the side that sent this request; for a response, the side that
    /// sent the answered request.
    pub(crate) fn read(message: &SipMessage<'_>, requester: Side, config: &Config, plan: &NumberPlan) -> Self {
        let (caller, callee) = match requester {
            Side::Caller => (message.from(), message.to()),
            Side::Callee => (message.to(), message.from()),
        };
        let numbers = &config.numbers;
        let first =
            |sources: &[NumberSource]| sources.iter().find_map(|s| number_at(s, message, (&caller, &callee), plan));
        let withheld = is_withheld(message, caller.as_ref());
        // If a caller hides the number, the network's own headers may still name an extension (RFC 3325 section 7). So
        // they are searched.
        let hidden = || IDENTITIES.iter().find_map(|name| extension_in(message, name, plan));
        // A network sends a hidden number in P-Asserted-Identity only to a receiver that it trusts. So the record is
        // allowed to contain the number, if the configuration names this header as a source.
        let is_source = numbers.from_number.iter().any(is_asserted);
        let asserted = || header_number(message, ASSERTED, plan).filter(|_| is_source);
        let shown = || callers_number(&numbers.from_number, message, (&caller, &callee), plan);
        let named = if withheld { hidden().or_else(asserted) } else { shown() };
        let privacy = match (withheld, &named) {
            (false, _) => CallerPrivacy::Shown,
            (true, Some(_)) => CallerPrivacy::Named,
            (true, None) => CallerPrivacy::Nobody,
        };
        let word = || (privacy == CallerPrivacy::Nobody).then(|| plan.withheld().to_owned());
        let from = named.or_else(word).filter(|f| !f.is_empty());
        let from_extension = from.as_deref().is_some_and(|f| plan.is_extension(f));
        let to = first(&numbers.to_number);
        // The identity headers of a response name the party that was called.
        let has_identities = !withheld && requester == Side::Caller && message.method().is_some();
        Self {
            to: if from_extension { to.map(|to| plan.dialled_by_extension(to)) } else { to },
            caller: CallerFacts {
                privacy,
                is_extension: from_extension,
                registrant: from.as_deref().and_then(|from| plan.trunk_registrant(from)),
                second_number: has_identities
                    .then(|| second_number(message, caller.as_ref(), from.as_deref(), plan))
                    .flatten(),
            },
            from,
            named_extension: first(&numbers.internal_number),
            texts: PartyTexts {
                from_name: caller.as_ref().filter(|_| !withheld).and_then(display),
                to_name: callee.as_ref().and_then(display),
                from_uri: caller.as_ref().map(|c| uri_text(&c.uri)),
                to_uri: callee.as_ref().map(|c| uri_text(&c.uri)),
                request_uri: message.request_uri().map(|u| uri_text(&u)),
                route: Some(message.headers("Route").join(",")).filter(|route| !route.is_empty()).map(|r| text(&r)),
            },
            diverted_from: diverted_from(message, plan),
            called_party: number_in(message, "P-Called-Party-ID", plan),
            referred_by: number_in(message, "Referred-By", plan),
            request_user: number_at(&NumberSource::RequestUri, message, (&caller, &callee), plan),
            headers: kept_headers(message, config),
            test_order: config.test_key.as_ref().and_then(|key| key.order_in(message)),
        }
    }

    /// Returns the direction of the call and its extension, as the numbers of this leg show them.
    pub(crate) fn direction(&self, plan: &NumberPlan) -> (CallDirection, Option<&str>) {
        let direction = plan.direction(self.from.as_deref(), self.to.as_deref());
        let internal = match direction {
            CallDirection::Outbound => self.from.as_deref(),
            CallDirection::Internal if self.to.as_deref().is_some_and(is_code) => self.from.as_deref(),
            CallDirection::Inbound | CallDirection::Internal => self.to.as_deref(),
            CallDirection::Unknown => None,
        };
        (direction, self.named_extension.as_deref().or(internal))
    }

    /// Writes the numbers, names and headers of the parties to a record.
    pub(crate) fn fill(&self, record: &mut CallRecord, plan: &NumberPlan) {
        let (direction, internal) = self.direction(plan);
        record.direction = direction;
        record.internal = internal.map(str::to_owned);
        record.from.clone_from(&self.from);
        record.to.clone_from(&self.to);
        record.from_name.clone_from(&self.texts.from_name);
        record.to_name.clone_from(&self.texts.to_name);
        record.from_uri.clone_from(&self.texts.from_uri);
        record.to_uri.clone_from(&self.texts.to_uri);
        record.request_uri.clone_from(&self.texts.request_uri);
        record.diverted_from.clone_from(&self.diverted_from);
        record.called_party.clone_from(&self.called_party);
        record.referred_by.clone_from(&self.referred_by);
        record.headers = self.headers.iter().map(|(name, header)| (name.clone(), header.shown())).collect();
        record.test_call = self.test_order.is_some();
    }

    /// Returns how a test call (`callspan test-call`) asks to be treated; `None` if the leg is no test call of this
    /// recorder.
    pub(crate) const fn test_order(&self) -> Option<TestCallOrder> {
        self.test_order
    }

    /// Writes names and addresses to the record of a click-to-call. The PBX first called the party of this leg, and
    /// then the party `called`.
    pub(crate) fn fill_click_to_call(&self, called: &Self, record: &mut CallRecord) {
        record.from_uri.clone_from(&self.texts.to_uri);
        record.to_uri.clone_from(&called.texts.to_uri);
        record.from_name.clone_from(&self.texts.to_name);
        record.to_name.clone_from(&called.texts.to_name);
        record.request_uri.clone_from(&called.texts.request_uri);
    }

    /// Returns the extension in the headers that the setting `internal_number` names.
    pub(crate) fn named_extension(&self) -> Option<&str> {
        self.named_extension.as_deref()
    }

    /// Returns the Request-URI of the INVITE.
    pub(crate) fn request_uri(&self) -> Option<&str> {
        self.texts.request_uri.as_deref()
    }

    /// Returns the values of the INVITE's Route headers; `None` without such a header.
    pub(crate) fn route(&self) -> Option<&str> {
        self.texts.route.as_deref()
    }

    /// Returns all numbers of the parties: of the caller, the called number, and the number in the Request-URI.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = &str> {
        [&self.from, &self.to, &self.request_user].into_iter().flatten().map(String::as_str)
    }

    /// Returns the host name in the caller's address; `None` if it is an IP address or unknown.
    pub(crate) fn caller_domain(&self) -> Option<String> {
        domain(self.texts.from_uri.as_deref()?)
    }

    /// Returns the host name in the address of the called party; `None` if it is an IP address or unknown.
    pub(crate) fn called_domain(&self) -> Option<String> {
        domain(self.texts.to_uri.as_deref()?)
    }

    /// Returns the normalised number in the Request-URI; `None` if it contains none.
    pub(crate) fn request_user(&self) -> Option<&str> {
        self.request_user.as_deref()
    }

    /// Returns whether the caller was a known extension when the message was captured.
    pub(crate) const fn is_from_extension(&self) -> bool {
        self.caller.is_extension
    }

    /// Returns whether the sender of the message has registered the caller's number, and may be a PBX with a trunk of
    /// this number. Then the caller may be somebody behind this PBX.
    pub(crate) fn may_be_from_trunk_of(&self, sender: Endpoint) -> bool {
        self.caller.registrant == Some(sender.ip())
    }

    /// Returns a second number of the caller, if the message names two numbers.
    pub(crate) fn second_caller_number(&self) -> Option<&str> {
        self.caller.second_number.as_deref()
    }

    /// Returns whether the caller's number is withheld, so that a word stands in its place.
    pub(crate) const fn is_from_nobody(&self) -> bool {
        matches!(self.caller.privacy, CallerPrivacy::Nobody)
    }

    /// Returns whether the caller withholds the number, also if a header names it.
    pub(crate) const fn is_withheld(&self) -> bool {
        !matches!(self.caller.privacy, CallerPrivacy::Shown)
    }

    /// Returns the number that diverted the call (Diversion or History-Info header); `None` if the call was not
    /// diverted.
    pub(crate) fn diverted_from(&self) -> Option<&str> {
        self.diverted_from.as_deref()
    }

    /// Returns whether the INVITE names no real caller: the caller is the called number itself, or a word without
    /// digits. A PBX names such a caller if it calls both parties (click-to-call).
    pub(crate) fn is_called_by_pbx(&self) -> bool {
        let word = |from: &String| !self.is_from_nobody() && !from.contains(|c: char| c.is_ascii_digit());
        self.from.as_ref().is_some_and(|from| self.to.as_ref() == Some(from) || word(from))
    }

    /// Returns the value of a header that the configuration keeps. `name` is its name in the configuration.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, header)| header.value.as_str())
    }
}

/// Returns the normalised number from the part of a message that `source` names; `None` if there is no number.
fn number_at(
    source: &NumberSource,
    message: &SipMessage<'_>,
    parties: (&Option<NameAddr>, &Option<NameAddr>),
    plan: &NumberPlan,
) -> Option<String> {
    let user = match source {
        NumberSource::From => global_user(&parties.0.as_ref()?.uri)?,
        NumberSource::To => global_user(&parties.1.as_ref()?.uri)?,
        NumberSource::RequestUri => global_user(&message.request_uri()?)?,
        NumberSource::Header(name) => {
            header_number(message, name, plan).or_else(|| header_user(&message.header(name)?))?
        }
    };
    plan.normalise(&user).map(|n| text(&n))
}

/// Returns the caller's number: that of the first source. But a header may name the account of a trunk or the user of a
/// domain. Such a word, unless it is an extension, yields to a number in a later source.
fn callers_number(
    sources: &[NumberSource],
    message: &SipMessage<'_>,
    parties: (&Option<NameAddr>, &Option<NameAddr>),
    plan: &NumberPlan,
) -> Option<String> {
    let mut found = sources.iter().filter_map(|s| Some((s, number_at(s, message, parties, plan)?)));
    let (source, first) = found.next()?;
    let is_word = matches!(source, NumberSource::Header(_)) && !is_number(&first) && !plan.is_extension(&first);
    let number = found.map(|(_, number)| number).find(|number| is_word && is_number(number));
    Some(number.unwrap_or(first))
}

/// Returns whether the user part of a URI has only the characters of a telephone number.
fn is_number(user: &str) -> bool {
    user.bytes().all(|b| b.is_ascii_digit() || b"+*#-.() ".contains(&b))
}

/// Returns the first value of a header that is a telephone number. P-Asserted-Identity may contain a SIP URI and a tel
/// URI (RFC 3325 section 9.1).
fn header_number(message: &SipMessage<'_>, name: &str, plan: &NumberPlan) -> Option<String> {
    let users = message.addresses(name).into_iter().filter_map(|address| global_user(&address.uri));
    users.filter(|user| is_number(user)).find(|user| plan.normalise(user).is_some())
}

/// Returns the first extension in the values of a header that name the caller.
fn extension_in(message: &SipMessage<'_>, header: &str, plan: &NumberPlan) -> Option<String> {
    let callers = message.addresses(header).into_iter().filter(is_calling_party);
    callers.filter_map(|party| normal(&party, plan)).find(|number| plan.is_extension(number))
}

fn number_in(message: &SipMessage<'_>, header: &str, plan: &NumberPlan) -> Option<String> {
    normal(message.addresses(header).first()?, plan)
}

pub(super) fn normal(party: &NameAddr, plan: &NumberPlan) -> Option<String> {
    plan.normalise(&global_user(&party.uri)?).map(|n| text(&n))
}

/// Returns the user part of a URI. A local number with a `phone-context` that begins a global number becomes that
/// global number (RFC 3966 section 5.1.5).
fn global_user(uri: &SipUri) -> Option<String> {
    let Some(user) = uri.user.clone() else {
        // Without a user part, the URI may name a service, e.g. `urn:service:sos` for an emergency call (RFC 5031).
        // Then its whole text is the number.
        return uri.text.to_ascii_lowercase().starts_with(SERVICE_URN).then(|| uri.text.to_ascii_lowercase());
    };
    // Some senders encode the plus sign as `%2B`, as in the headers of a URI (RFC 3261 section 19.1.2). So it is
    // decoded.
    let context = uri.params.get("phone-context").map(|context| context.replace("%2B", "+").replace("%2b", "+"));
    let context = context.filter(|context| context.starts_with('+'));
    let local = !user.starts_with('+') && user.starts_with(|c: char| c.is_ascii_digit() || c == '(');
    let global = context.filter(|_| local).map(|context| format!("{context}{user}"));
    // A short number, e.g. of an emergency service, is no number of that country with its code before it.
    let is_whole = |number: &String| number.bytes().filter(u8::is_ascii_digit).count() >= MIN_E164_DIGITS;
    Some(global.filter(is_whole).unwrap_or(user))
}

/// Returns the text of a URI without the digits that are dialled after a pause. They may be a card number or a code.
fn uri_text(uri: &SipUri) -> String {
    let mut shown = uri.text.clone();
    if let Some(user) = uri.user.as_deref() {
        let kept = without_post_dial(user);
        if kept.len() < user.len() && shown.contains(user) {
            shown = shown.replacen(user, kept, 1);
        } else if kept.len() < user.len() {
            // The text has the user part percent-encoded, e.g. %2C for the comma of a pause. So the URI is built from
            // its decoded parts.
            shown = format!("sip:{kept}@{}", uri.host);
        }
    }
    if let Some(start) = shown.to_ascii_lowercase().find(POST_DIAL_PARAMETER) {
        let length = shown[start..].bytes().skip(1).take_while(|b| !b";@>?".contains(b)).count();
        shown.replace_range(start..=start + length, "");
    }
    text(&shown)
}

/// Returns the host name in a URI, in lower case. Returns `None` for an IP address, and for a name that hides the
/// domain (RFC 3323 section 4.1.1.3).
fn domain(uri: &str) -> Option<String> {
    let host = SipUri::parse(uri).host.to_ascii_lowercase();
    let is_name = host.contains(|c: char| c.is_ascii_alphabetic()) && host.parse::<IpAddr>().is_err();
    (is_name && !host.ends_with(".invalid")).then_some(host)
}

/// Returns the number in the newest Diversion header, otherwise in the oldest entry of History-Info. If History-Info
/// has one entry only, it is the call itself (RFC 7044 section 9.1).
fn diverted_from(message: &SipMessage<'_>, plan: &NumberPlan) -> Option<String> {
    number_in(message, "Diversion", plan).or_else(|| match message.addresses("History-Info").as_slice() {
        [first, _, ..] => normal(first, plan),
        _ => None,
    })
}

/// Returns the user part of a header value, which may be a name-addr, a URI or a number alone.
fn header_user(value: &str) -> Option<String> {
    let value = value.trim();
    NameAddr::parse(value).and_then(|n| global_user(&n.uri)).or_else(|| (!value.is_empty()).then(|| value.to_owned()))
}

fn is_asserted(source: &NumberSource) -> bool {
    matches!(source, NumberSource::Header(name) if name.eq_ignore_ascii_case(ASSERTED))
}

/// Returns whether the caller withholds the number: by `Privacy: id|user|header` (RFC 3323), or by an anonymous From
/// header without P-Asserted-Identity.
fn is_withheld(message: &SipMessage<'_>, caller: Option<&NameAddr>) -> bool {
    let private = message.headers("Privacy").iter().any(|value| {
        value.split([';', ',']).any(|p| ["id", "user", "header"].iter().any(|w| p.trim().eq_ignore_ascii_case(w)))
    });
    let anonymous = caller.is_some_and(|c| {
        let by_user = c.uri.user.as_deref().is_some_and(crate::call::numbers::is_anonymous);
        by_user || c.uri.host.eq_ignore_ascii_case("anonymous.invalid")
    });
    private || (anonymous && message.header(ASSERTED).is_none())
}

fn kept_headers(message: &SipMessage<'_>, config: &Config) -> BTreeMap<String, KeptHeader> {
    let mut out = BTreeMap::new();
    let of_rules = config.rules.iter().filter_map(|rule| rule.header.as_ref()).map(|(name, _)| name);
    for name in config.keep_headers.iter().chain(of_rules).take(MAX_KEPT_HEADERS) {
        if let Some(value) = message.header(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty()) {
            let identifies_call = config.correlation_headers.iter().any(|key| key.eq_ignore_ascii_case(name));
            out.insert(name.clone(), KeptHeader { value: text(&value), identifies_call });
        }
    }
    out
}

/// A header of the first INVITE that rules and records use. Rules see the value as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
struct KeptHeader {
    value: String,
    /// Whether the header identifies the call at other sites, too (setting `correlation_headers`).
    identifies_call: bool,
}

impl KeptHeader {
    /// Returns the value for the record: without dialled codes, unless the header identifies the call.
    fn shown(&self) -> String {
        if self.identifies_call { self.value.clone() } else { without_dialled_codes(&self.value) }
    }
}

/// Returns a header value without the digits that are dialled after a pause. The value is a number alone, or addresses.
/// In an address, the display name, the user and the parameter `postd` may have such digits.
fn without_dialled_codes(value: &str) -> String {
    if without_code(value).len() < value.len() {
        return without_code(value).into_owned();
    }
    let mut out = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(first) = rest.chars().next() {
        let (kept, length) = if first == '"' {
            let quoted = rest.get(1..).and_then(|text| text.split('"').next()).unwrap_or_default();
            let end = if rest[1 + quoted.len()..].is_empty() { "" } else { "\"" };
            (format!("\"{}{end}", without_code(quoted)), 1 + quoted.len() + end.len())
        } else if let Some(scheme) = SCHEMES.iter().find(|scheme| starts_with(rest, scheme)) {
            let user = prefix_until(&rest[scheme.len()..], "@<>;? ");
            (format!("{}{}", &rest[..scheme.len()], without_code(user)), scheme.len() + user.len())
        } else if starts_with(rest, POST_DIAL_PARAMETER) {
            let code = prefix_until(&rest[POST_DIAL_PARAMETER.len()..], "@<>;?");
            (String::new(), POST_DIAL_PARAMETER.len() + code.len())
        } else {
            (first.to_string(), first.len_utf8())
        };
        out.push_str(&kept);
        rest = &rest[length..];
    }
    out
}

/// Returns a number without a pause and the digits after it, which a telephone dials after the answer. The pause may be
/// percent-encoded. Any other text is returned as it is.
fn without_code(number: &str) -> Cow<'_, str> {
    let decoded = percent_decode(number);
    let kept = without_post_dial(&decoded);
    let has_code = decoded[kept.len()..].contains(|c: char| c.is_ascii_digit());
    if has_code && kept.len() >= MIN_NUMBER_CHARS { Cow::Owned(kept.to_owned()) } else { Cow::Borrowed(number) }
}

/// Returns whether a text begins with a word of ASCII characters, in upper or lower case.
fn starts_with(text: &str, word: &str) -> bool {
    text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
}

/// Returns the part of a text before the first of the delimiters.
fn prefix_until<'a>(text: &'a str, delimiters: &str) -> &'a str {
    text.split(|c| delimiters.contains(c)).next().unwrap_or_default()
}

fn display(party: &NameAddr) -> Option<String> {
    party.display.as_deref().map(str::trim).filter(|d| !d.is_empty()).map(|name| text(&without_code(name)))
}

fn text(value: &str) -> String {
    value.chars().take(MAX_TEXT_CHARS).collect()
}

/// Header in which a network asserts the caller's number (RFC 3325 section 9.1).
const ASSERTED: &str = "P-Asserted-Identity";
/// Beginning of the parameter with digits that are dialled after the answer (RFC 2806 section 2.2).
const POST_DIAL_PARAMETER: &str = ";postd=";
/// Schemes of the addresses in a header.
const SCHEMES: [&str; 3] = ["sip:", "sips:", "tel:"];
/// Minimum length of a number that is followed by a pause (e.g. a comma) and further digits, characters. A shorter text
/// before a comma is no number, e.g. the seconds of a time.
const MIN_NUMBER_CHARS: usize = 3;
/// Beginning of a URN that names a service instead of a user (RFC 5031).
const SERVICE_URN: &str = "urn:service:";
/// Maximum length of a name or URI in the record, characters. Longer texts are truncated.
const MAX_TEXT_CHARS: usize = 512;
/// Maximum number of configured header names that are looked up in an INVITE for the record. It limits the size of the
/// record.
const MAX_KEPT_HEADERS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phone_context_completes_a_local_number() {
        for (uri, wanted) in [
            ("tel:1234567;phone-context=+7495", "+74951234567"),
            ("sip:123-45-67;phone-context=+7495@10.0.0.1;user=phone", "+7495123-45-67"),
            ("sip:1234567;phone-context=%2B7495@10.0.0.1", "+74951234567"),
            ("tel:+74951234567;phone-context=+1", "+74951234567"),
            ("tel:200;phone-context=example.org", "200"),
            ("tel:112;phone-context=+7", "112"),
        ] {
            assert_eq!(global_user(&SipUri::parse(uri)).as_deref(), Some(wanted), "{uri}");
        }
    }

    #[test]
    fn digits_after_a_pause_are_in_no_uri_and_no_header() {
        for (uri, wanted) in [
            ("sip:+74951234567,,1234#@10.0.0.1", "sip:+74951234567@10.0.0.1"),
            ("sip:+74951234567%2C%2C1234@10.0.0.1", "sip:+74951234567@10.0.0.1"),
            ("tel:+74951234567;postd=pp1234", "tel:+74951234567"),
            ("sip:+74951234567;PostD=pp1234@10.0.0.1;user=phone", "sip:+74951234567@10.0.0.1;user=phone"),
            ("sip:sales,west@10.0.0.1", "sip:sales,west@10.0.0.1"),
        ] {
            assert_eq!(uri_text(&SipUri::parse(uri)), wanted);
        }
        for (value, wanted) in [
            ("84951234567,,1234#", "84951234567"),
            ("\"A\" <sip:84951234567w1234@10.0.0.1>;x=1", "\"A\" <sip:84951234567@10.0.0.1>;x=1"),
            ("queue, west", "queue, west"),
            ("\"84951234567,,1234\" <sip:84951234567,,1234@10.0.0.1>", "\"84951234567\" <sip:84951234567@10.0.0.1>"),
            ("<sip:84951234567%2C%2C1234@10.0.0.1>", "<sip:84951234567@10.0.0.1>"),
            ("<tel:+74951234567;PostD=pp1234>", "<tel:+74951234567>"),
            ("<sip:101@10.0.0.1>, <tel:+74951234567p12>", "<sip:101@10.0.0.1>, <tel:+74951234567>"),
            ("12:34:56,789", "12:34:56,789"),
            ("group=101,102;lang=ru", "group=101,102;lang=ru"),
            ("<sip:201@h>;index=1,<sip:202@h>;index=1.1", "<sip:201@h>;index=1,<sip:202@h>;index=1.1"),
            ("tel:+74951234567, <sip:101@h>", "tel:+74951234567, <sip:101@h>"),
            ("<sip:84951234567,,1234%23@10.0.0.1>", "<sip:84951234567@10.0.0.1>"),
            ("\"+7 495 123 45 67,,1234\" <sip:101@h>", "\"+7 495 123 45 67\" <sip:101@h>"),
        ] {
            assert_eq!(without_dialled_codes(value), wanted);
        }
    }
}
