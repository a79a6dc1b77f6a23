//! Telephone numbers: patterns of extensions, normalisation to E.164, and the direction of a call. Extensions and PBX
//! hosts are also learnt from the traffic.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use crate::call::config::NumbersConfig;
use crate::call::decision::LearntFacts;
use crate::call::record::CallDirection;
use crate::net::Endpoint;

mod pattern;
mod registered_users;

use pattern::MAX_NUMBER_CHARS;
pub(crate) use pattern::NumberPattern;
use registered_users::{RegisteredUsers, UserRegistration};

/// The number plan: the section `[numbers]` of the configuration, and the extensions and PBX hosts learnt from the
/// traffic.
#[derive(Clone, Debug)]
pub(crate) struct NumberPlan {
    extensions: NumberPattern,
    listed: HashSet<String>,
    /// Configured extensions for which a successful REGISTER was captured, each with its hosts.
    present: HashMap<String, UserRegistration>,
    /// Users for which a successful REGISTER was captured, each with its hosts. Configured extensions are in `present`.
    registered: RegisteredUsers,
    /// Hosts of telephones that have sent a successful REGISTER for an extension.
    phones: HashSet<IpAddr>,
    /// Hosts that are known to be PBXs.
    pbxs: HashSet<IpAddr>,
    /// PBX hosts for which the mirror port shows the PBX's calls to its extensions. Each has the ports from which it has
    /// certainly sent such calls.
    ringing: HashMap<IpAddr, Vec<u16>>,
    country_code: String,
    national_prefix: String,
    international_prefix: String,
    outside_prefix: String,
    withheld: String,
}

impl NumberPlan {
    /// Creates a number plan from the section `[numbers]`.
    pub(crate) fn new(numbers: &NumbersConfig) -> Self {
        Self {
            extensions: NumberPattern::new(&numbers.extension_pattern),
            listed: numbers.extensions.iter().cloned().collect(),
            present: HashMap::new(),
            registered: RegisteredUsers::default(),
            phones: HashSet::new(),
            pbxs: HashSet::new(),
            ringing: HashMap::new(),
            country_code: digits(&numbers.country_code),
            national_prefix: numbers.national_prefix.clone(),
            international_prefix: numbers.international_prefix.clone(),
            outside_prefix: numbers.outside_prefix.clone(),
            withheld: numbers.withheld.clone(),
        }
    }

    /// Replaces the section `[numbers]`. Everything that was learnt from the traffic stays.
    pub(crate) fn reload(&mut self, numbers: &NumbersConfig) {
        let Self { present, mut registered, phones, pbxs, ringing, .. } = std::mem::replace(self, Self::new(numbers));
        let all = present.into_iter().chain(std::mem::take(&mut registered.users));
        (self.present, registered.users) = all.partition(|(user, _)| self.is_configured_extension(user));
        (self.registered, self.phones, self.pbxs, self.ringing) = (registered, phones, pbxs, ringing);
    }

    /// Returns whether a number is an extension. The number may be normalised or as dialled.
    pub(crate) fn is_extension(&self, number: &str) -> bool {
        self.is_configured_extension(number) || self.registered.get(number).is_some_and(|user| !self.is_trunk(user))
    }

    /// Returns whether a number is present and is an extension.
    pub(crate) fn names_extension(&self, number: Option<&str>) -> bool {
        number.is_some_and(|number| self.is_extension(number))
    }

    /// Returns whether a user of a REGISTER is the number of a trunk, i.e. a PBX registered it with a provider.
    fn is_trunk(&self, user: &UserRegistration) -> bool {
        self.pbxs.contains(&user.registrant) && !self.pbxs.contains(&user.registrar)
    }

    /// Returns whether a host is a telephone: it has sent a REGISTER for an extension, and is no PBX or proxy.
    pub(crate) fn is_phone(&self, host: Endpoint) -> bool {
        self.phones.contains(&host.ip()) && !self.pbxs.contains(&host.ip())
    }

    /// Returns whether a host belongs to a provider: its address is public, and it is neither a telephone nor a PBX of
    /// this site.
    pub(crate) fn is_outside_host(&self, host: Endpoint) -> bool {
        !is_private(host.ip()) && !self.phones.contains(&host.ip()) && !self.pbxs.contains(&host.ip())
    }

    /// Returns whether a number at an end of a leg is a short outside number, e.g. of an emergency service or a bank. The
    /// number looks like an extension, but a provider is at this end of the leg.
    ///
    /// A number in the configured list, or one that a telephone has registered, is an extension wherever it is.
    pub(crate) fn is_short_number_at(&self, number: Option<&str>, end: Endpoint) -> bool {
        let is_registered = |number: &str| {
            self.present.contains_key(number) || self.registered.get(number).is_some_and(|user| !self.is_trunk(user))
        };
        let is_known = |number: &str| self.listed.contains(number) || is_registered(number);
        self.is_outside_host(end)
            && TRUNK_PORTS.contains(&end.port())
            && number.is_some_and(|number| self.extensions.matches(number) && !is_known(number))
    }

    /// Learns from a successful REGISTER that `user` is an extension. The receiver of the REGISTER (registrar) is then
    /// a PBX, but only if the extension is configured. Otherwise it may be a provider with which the PBX registers.
    pub(crate) fn learn_registration(&mut self, user: &str, registrant: Endpoint, registrar: Endpoint) {
        if self.is_configured_extension(user) {
            self.learn_pbx(registrar);
            if self.phones.len() < MAX_LEARNED {
                self.phones.insert(registrant.ip());
            }
        }
        let registration = UserRegistration { registrant: registrant.ip(), registrar: registrar.ip() };
        if !self.is_configured_extension(user) {
            self.registered.insert(user, registration);
        } else if self.present.len() < MAX_LEARNED && user.len() <= MAX_NUMBER_CHARS {
            self.present.insert(user.to_owned(), registration);
        }
    }

    /// Returns the host that has registered this number, if the number may be the number of a trunk. A PBX registers
    /// such a number with a provider.
    ///
    /// Returns `None` if it is known that the number belongs to a telephone: it is a configured extension, or it was
    /// registered with a PBX. A PBX has passed calls on, or telephones of several hosts have registered with it.
    pub(crate) fn trunk_registrant(&self, number: &str) -> Option<IpAddr> {
        let UserRegistration { registrant, registrar } = self.registered.get(number)?;
        let is_pbx = self.pbxs.contains(registrar) || self.registered.is_shared(*registrar);
        (!is_pbx && !self.is_configured_extension(number)).then_some(*registrant)
    }

    /// Returns what was learnt about these hosts and numbers.
    pub(crate) fn learnt_about(&self, mut hosts: Vec<IpAddr>, mut numbers: Vec<&str>) -> LearntFacts {
        numbers.sort_unstable();
        numbers.dedup();
        let user = |number: &str| {
            let user = self.registered.get(number)?;
            Some((number.to_owned(), user.registrant, user.registrar))
        };
        let users: Vec<_> = numbers.into_iter().filter_map(user).collect();
        // The hosts that sent and accepted a REGISTER show whether the registered number is a trunk's. So the facts
        // about these hosts are returned, too.
        hosts.extend(users.iter().flat_map(|(_, registrant, registrar)| [*registrant, *registrar]));
        hosts.sort_unstable();
        hosts.dedup();
        let known = |all: &HashSet<IpAddr>| hosts.iter().filter(|host| all.contains(*host)).copied().collect();
        LearntFacts {
            shown_machines: Vec::new(),
            pbxs: known(&self.pbxs),
            visible_pbxs: hosts.iter().filter(|host| self.ringing.contains_key(*host)).copied().collect(),
            visible_programs: hosts.iter().flat_map(|host| self.ringing_programs(*host)).collect(),
            phones: known(&self.phones),
            shared_registrars: hosts.iter().filter(|host| self.registered.is_shared(**host)).copied().collect(),
            users,
        }
    }

    /// Learns the facts that an earlier process had learnt.
    pub(crate) fn restore_learnt(&mut self, facts: &LearntFacts) {
        facts.pbxs.iter().for_each(|host| self.learn_pbx(Endpoint::new(*host, 0)));
        facts.visible_pbxs.iter().for_each(|host| self.learn_visible_pbx(Endpoint::new(*host, 0)));
        facts.visible_programs.iter().for_each(|program| self.learn_visible_program(*program));
        self.phones.extend(facts.phones.iter().take(MAX_LEARNED.saturating_sub(self.phones.len())));
        facts.shared_registrars.iter().for_each(|host| self.registered.mark_shared(*host));
        for (user, registrant, registrar) in &facts.users {
            if !self.is_configured_extension(user) {
                self.learn_registration(user, Endpoint::new(*registrant, 0), Endpoint::new(*registrar, 0));
            }
        }
    }

    /// Learns from the configuration which hosts are PBXs. Each list contains the addresses of one PBX.
    pub(crate) fn learn_pbxs(&mut self, configured: &[Vec<IpAddr>]) {
        configured.iter().flatten().for_each(|host| self.learn_pbx(Endpoint::new(*host, 0)));
    }

    /// Learns that `host` is a PBX, because it received a call and sent it on.
    pub(crate) fn learn_pbx(&mut self, host: Endpoint) {
        if self.pbxs.len() < MAX_LEARNED {
            self.pbxs.insert(host.ip());
        }
    }

    /// Learns that the mirror port shows the legs between this PBX and its extensions.
    pub(crate) fn learn_visible_pbx(&mut self, host: Endpoint) {
        self.learn_pbx(host);
        if self.ringing.len() < MAX_LEARNED {
            self.ringing.entry(host.ip()).or_default();
        }
    }

    /// Learns that the program with this address and port is a visible PBX. Other programs may be on its host, e.g. a
    /// proxy or a softphone.
    pub(crate) fn learn_visible_program(&mut self, program: Endpoint) {
        self.learn_visible_pbx(program);
        let ports = self.ringing.get_mut(&program.ip());
        let ports = ports.filter(|ports| ports.len() < MAX_PROGRAMS && !ports.contains(&program.port()));
        ports.into_iter().for_each(|ports| ports.push(program.port()));
    }

    /// Returns whether the program with this address and port is certainly a PBX, because it has rung extensions.
    pub(crate) fn is_visible_program(&self, program: Endpoint) -> bool {
        self.ringing.get(&program.ip()).is_some_and(|ports| ports.contains(&program.port()))
    }

    /// Returns the addresses of the programs on a host that have certainly rung extensions.
    fn ringing_programs(&self, host: IpAddr) -> impl Iterator<Item = Endpoint> {
        self.ringing.get(&host).into_iter().flatten().map(move |port| Endpoint::new(host, *port))
    }

    /// Returns whether a host is known to be a PBX or proxy.
    pub(crate) fn is_pbx(&self, host: Endpoint) -> bool {
        self.pbxs.contains(&host.ip())
    }

    /// Returns the addresses of the PBXs, sorted.
    pub(crate) fn pbx_hosts(&self) -> Vec<IpAddr> {
        let mut hosts: Vec<IpAddr> = self.pbxs.iter().copied().collect();
        hosts.sort_unstable();
        hosts
    }

    /// Returns the number of extensions for which a REGISTER was captured. The numbers that a PBX registers with a
    /// provider do not count.
    pub(crate) fn registered_extensions(&self) -> usize {
        self.present.values().chain(self.registered.registrations()).filter(|user| !self.is_trunk(user)).count()
    }

    /// Returns whether the mirror port shows the legs between this PBX and its extensions. If it does, and the PBX
    /// answers a call without calling an extension, the PBX itself answered, e.g. with a voice menu.
    pub(crate) fn is_visible_pbx(&self, host: Endpoint) -> bool {
        self.ringing.contains_key(&host.ip())
    }

    /// Returns the direction of a call by its hosts, if its numbers do not show the direction. A call to a PBX is
    /// inbound. If no PBX is known, a call from a public to a private address is inbound.
    pub(crate) fn direction_by_hosts(&self, caller: Endpoint, callee: Endpoint) -> CallDirection {
        let between = |caller: bool, callee: bool| match (caller, callee) {
            (false, true) => CallDirection::Inbound,
            (true, false) => CallDirection::Outbound,
            _ => CallDirection::Unknown,
        };
        let by_pbx = between(self.pbxs.contains(&caller.ip()), self.pbxs.contains(&callee.ip()));
        if by_pbx == CallDirection::Unknown {
            between(is_private(caller.ip()), is_private(callee.ip()))
        } else {
            by_pbx
        }
    }

    fn is_configured_extension(&self, number: &str) -> bool {
        self.extensions.matches(number) || self.listed.contains(number)
    }

    /// Returns the word that the record shows in place of a withheld caller's number.
    pub(crate) fn withheld(&self) -> &str {
        &self.withheld
    }

    /// Normalises the user part of a URI: removes visual separators, and converts it to E.164 with `+` if the
    /// configuration allows this. Returns `None` for an empty or anonymous user.
    pub(crate) fn normalise(&self, user: &str) -> Option<String> {
        let user = without_post_dial(user.trim());
        if user.is_empty() || is_anonymous(user) {
            return None;
        }
        let Some(dialled) = dialled_digits(user) else { return Some(user.to_owned()) };
        if dialled.starts_with('+') || self.is_extension(&dialled) {
            return Some(dialled);
        }
        let outside = || self.without_outside_prefix(&dialled).and_then(|rest| self.to_e164(rest));
        Some(self.to_e164(&dialled).or_else(outside).unwrap_or(dialled))
    }

    /// Removes the digits for an outside line from a number that an extension dialled. A number in E.164 form is not
    /// changed.
    pub(crate) fn dialled_by_extension(&self, number: String) -> String {
        if number.starts_with('+') || self.is_extension(&number) {
            return number;
        }
        self.without_outside_prefix(&number).map(str::to_owned).unwrap_or(number)
    }

    fn without_outside_prefix<'n>(&self, dialled: &'n str) -> Option<&'n str> {
        let prefix = Some(&self.outside_prefix).filter(|p| !p.is_empty())?;
        dialled.strip_prefix(prefix.as_str()).filter(|rest| rest.len() >= MIN_OUTSIDE_DIGITS)
    }

    fn to_e164(&self, dialled: &str) -> Option<String> {
        let strip = |prefix: &str| if prefix.is_empty() { None } else { dialled.strip_prefix(prefix) };
        if let Some(rest) = strip(&self.international_prefix).filter(|r| r.len() >= MIN_E164_DIGITS) {
            return Some(format!("+{rest}"));
        }
        if self.country_code.is_empty() || !dialled.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        if let Some(rest) = strip(&self.national_prefix).filter(|r| self.is_national(r.len())) {
            return Some(format!("+{}{rest}", self.country_code));
        }
        if strip(&self.country_code).is_some_and(|r| dialled.len() >= FULL_NUMBER_DIGITS && self.is_national(r.len())) {
            return Some(format!("+{dialled}"));
        }
        // Providers often send the caller's number without any prefix. The number of digits then shows a national
        // number.
        (self.national_digits() == Some(dialled.len())).then(|| format!("+{}{dialled}", self.country_code))
    }

    /// Returns whether a national number without prefix may have this number of digits.
    fn is_national(&self, digits: usize) -> bool {
        let whole = self.country_code.len() + digits;
        self.national_digits().map_or((MIN_E164_DIGITS..=MAX_E164_DIGITS).contains(&whole), |n| n == digits)
    }

    /// Returns the number of digits of a national number; `None` for countries with national numbers of several
    /// lengths.
    fn national_digits(&self) -> Option<usize> {
        CLOSED_PLANS.iter().find(|(code, _)| *code == self.country_code).map(|(_, digits)| *digits)
    }

    /// Returns the direction of a call between two normalised numbers.
    pub(crate) fn direction(&self, from: Option<&str>, to: Option<&str>) -> CallDirection {
        let ours = |number: Option<&str>| number.is_some_and(|n| self.is_extension(n));
        match (ours(from), ours(to)) {
            (true, true) => CallDirection::Internal,
            (true, false) if to.is_some_and(is_code) => CallDirection::Internal,
            (true, false) => CallDirection::Outbound,
            (false, true) => CallDirection::Inbound,
            (false, false) => CallDirection::Unknown,
        }
    }
}

/// Returns whether `number` is a feature code of the PBX, e.g. for mailbox or pickup. Returns false for a longer text,
/// which is a code with an outside number after it.
pub(crate) fn is_code(number: &str) -> bool {
    number.starts_with(['*', '#']) && number.len() <= MAX_CODE_CHARS
}

/// Returns whether the user part of a URI stands for a withheld number (RFC 3323 section 4.1, RFC 3325 section 9.1).
/// Words that gateways use for this count as well.
pub(crate) fn is_anonymous(user: &str) -> bool {
    ANONYMOUS.iter().any(|word| user.eq_ignore_ascii_case(word))
}

/// Returns the number without the digits after a pause (`,`, `p`, `w`), e.g. a card number. A text that is no number is
/// not changed.
pub(crate) fn without_post_dial(user: &str) -> &str {
    let is_pause = |c: char| ",pPwW".contains(c);
    let Some((number, rest)) = user.find(is_pause).map(|at| user.split_at(at)) else { return user };
    let keys = |c: char| c.is_ascii_digit() || is_pause(c) || "*#ABCDabcd-. ()".contains(c);
    if dialled_digits(number).is_some() && rest.chars().all(keys) { number } else { user }
}

/// Returns the dialled characters (`+` at the beginning, digits, `*`, `#`) without visual separators (RFC 3966 section
/// 5.1.1). Returns `None` if there are other characters, or no digit.
fn dialled_digits(user: &str) -> Option<String> {
    let mut out = String::with_capacity(user.len());
    for (i, c) in user.chars().enumerate() {
        match c {
            '+' if i == 0 => out.push('+'),
            '0'..='9' | '*' | '#' => out.push(c),
            '-' | '.' | '(' | ')' | ' ' => {}
            _ => return None,
        }
    }
    out.bytes().any(|b| b.is_ascii_digit()).then_some(out)
}

/// Returns whether an address is not reachable over the Internet (RFC 1918, RFC 6598, RFC 3927, RFC 4193, RFC 4291
/// section 2.5.6, loopback).
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_private() || v4.is_link_local() || v4.is_loopback() || (a == 100 && (64..128).contains(&b))
        }
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_loopback(),
    }
}

fn digits(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

/// Ports at which PBXs, proxies and trunks receive SIP, usually 5060 to 5080. A NAT gives a telephone a higher port, and so
/// does a host that opens a TCP connection.
pub(crate) const TRUNK_PORTS: std::ops::RangeInclusive<u16> = 5_000..=5_999;
/// Maximum number of learnt extensions, and of learnt PBX hosts. No site has so many.
const MAX_LEARNED: usize = 65_536;
/// Maximum number of programs of one host that are known to ring extensions.
const MAX_PROGRAMS: usize = 16;
/// Minimum number of digits of an international number, with country code. ITU-T E.164 sets no minimum.
pub(crate) const MIN_E164_DIGITS: usize = 7;
/// Minimum number of digits of a number after an outside prefix, e.g. 112.
const MIN_OUTSIDE_DIGITS: usize = 3;
/// Country codes with national numbers of one length only, and this length in digits, without prefix. Code 7 includes
/// Kazakhstan.
const CLOSED_PLANS: [(&str, usize); 13] = [
    ("1", 10),
    ("7", 10),
    ("33", 9),
    ("34", 9),
    ("41", 9),
    ("45", 8),
    ("47", 8),
    ("48", 9),
    ("375", 9),
    ("380", 9),
    ("420", 9),
    ("996", 9),
    ("998", 9),
];
/// Maximum length of a feature code with an extension after it, e.g. of a directed pickup, characters.
const MAX_CODE_CHARS: usize = 8;
/// Maximum number of digits of an international number (ITU-T E.164 section 6).
const MAX_E164_DIGITS: usize = 15;
/// Minimum number of digits of an international number without `+`, if it begins with the country code.
const FULL_NUMBER_DIGITS: usize = 10;
const ANONYMOUS: [&str; 7] =
    ["anonymous", "unavailable", "restricted", "private", "withheld", "unknown", "asserted-identity-anonymous"];

#[cfg(test)]
mod tests {
    use super::*;

    fn russian() -> NumberPlan {
        NumberPlan::new(&NumbersConfig {
            country_code: "7".into(),
            national_prefix: "8".into(),
            international_prefix: "810".into(),
            ..NumbersConfig::default()
        })
    }

    #[test]
    fn registered_extensions_are_counted_without_numbers_of_trunks() {
        let mut plan = russian();
        let host = |last| Endpoint::v4([10, 20, 0, last], 5060);
        let provider = Endpoint::v4([203, 0, 113, 10], 5060);
        for (user, phone) in [("101", 21), ("102", 22), ("101", 21), ("anna", 23)] {
            plan.learn_registration(user, host(phone), host(5));
        }
        plan.learn_registration("74951234567", host(5), provider);
        assert_eq!(plan.registered_extensions(), 3, "101, 102 and anna; not the number that the PBX registers");
    }

    #[test]
    fn numbers_become_e164_where_the_plan_says_how() {
        let plan = russian();
        for (dialled, want) in [
            ("+7 (977) 422-13-38", "+79774221338"),
            ("89774221338", "+79774221338"),
            ("79774221338", "+79774221338"),
            ("810491701234567", "+491701234567"),
            ("200", "200"),
            ("112", "112"),
            ("sales", "sales"),
            // Many providers send the caller's number without any prefix, as in this case.
            ("9774221338", "+79774221338"),
            ("8123456789", "+78123456789"),
            ("4953009080", "+74953009080"),
            // Kazakhstan has the country code 7 of Russia; its mobile numbers begin with 7, too.
            ("77012345678", "+77012345678"),
            ("87012345678", "+77012345678"),
            ("7012345678", "+77012345678"),
            // Digits after a pause are for the voice menu at the other end. So they are removed.
            ("89774221338,,1234#", "+79774221338"),
            ("+74953009080p200", "+74953009080"),
            ("8(495)300-90-80w1", "+74953009080"),
            ("power", "power"),
        ] {
            assert_eq!(plan.normalise(dialled).as_deref(), Some(want), "{dialled}");
        }
        assert_eq!(plan.normalise("anonymous"), None);
    }

    #[test]
    fn without_a_country_code_numbers_stay_as_dialled() {
        let plan = NumberPlan::new(&NumbersConfig::default());
        assert_eq!(plan.normalise("8 977 422-13-38").as_deref(), Some("89774221338"));
        assert_eq!(plan.normalise("00491701234567").as_deref(), Some("00491701234567"));
    }

    #[test]
    fn the_prefix_of_an_outside_line_is_removed() {
        let mut plan = russian();
        plan.outside_prefix = String::from("9");
        for (dialled, want) in [
            ("989774221338", "+79774221338"),
            ("9810491701234567", "+491701234567"),
            ("9774221338", "+79774221338"),
            ("9112", "9112"),
        ] {
            assert_eq!(plan.normalise(dialled).as_deref(), Some(want), "{dialled}");
        }
        assert_eq!(plan.dialled_by_extension(String::from("93334455")), "3334455");
        assert_eq!(plan.dialled_by_extension(String::from("+79774221338")), "+79774221338");
        // `9112` is an extension of four digits, so its 9 is no prefix for an outside line and stays.
        assert_eq!(plan.dialled_by_extension(String::from("9112")), "9112");
    }

    #[test]
    fn the_extension_decides_the_direction() {
        let plan = russian();
        assert_eq!(plan.direction(Some("+79774221338"), Some("200")), CallDirection::Inbound);
        assert_eq!(plan.direction(Some("200"), Some("+79774221338")), CallDirection::Outbound);
        assert_eq!(plan.direction(Some("200"), Some("201")), CallDirection::Internal);
        assert_eq!(plan.direction(None, Some("+74953009080")), CallDirection::Unknown);
        // `*97` is the mailbox, so the call is internal. `*67` withholds the caller's number, and an outside number
        // follows it. So that call is outbound.
        assert_eq!(plan.direction(Some("200"), Some("*97")), CallDirection::Internal);
        assert_eq!(plan.direction(Some("200"), Some("*6789774221338")), CallDirection::Outbound);
    }
}
