//! Which legs are one conversation.
//!
//! The rules, in the order in which they are believed: a configured correlation header, Session-ID (RFC 7989),
//! Replaces (RFC 3891) and REFER (RFC 3515), the same Call-ID at another hop, the same media endpoints, and last
//! numbers and times. The last one is a guess, so it must be the only guess: two calls between the same numbers at
//! the same time are never merged.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};
use std::time::Duration;

use crate::call::config::Config;
use crate::net::Endpoint;
use crate::sip::{Message, ReferTo, Replaces, SessionId};
use crate::time::Timestamp;

/// What one INVITE tells about the call that it belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traces {
    /// Values of the configured correlation headers, with the header's place in the configuration.
    correlation: Vec<(usize, String)>,
    /// UUIDs of Session-ID, without the null UUID.
    sessions: Vec<String>,
    /// The dialog that it replaces (Call-ID).
    pub replaces: Option<String>,
    /// Whether it was caused by a REFER (RFC 3892).
    pub referred: bool,
}

impl Traces {
    /// Reads an INVITE (or whatever message began the leg).
    pub fn read(message: &Message<'_>, config: &Config) -> Self {
        let value = |name: &str| message.header(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
        let names = config.correlation_headers.iter().take(MAX_HEADERS).enumerate();
        let session = message.header("Session-ID").and_then(|v| SessionId::parse(&v));
        let uuids = session.into_iter().flat_map(|s| [Some(s.local), s.remote]).flatten();
        Self {
            correlation: names.filter_map(|(n, name)| Some((n, value(name)?))).collect(),
            sessions: uuids.filter(|u| u.bytes().any(|b| b != b'0')).collect(),
            replaces: value("Replaces").and_then(|v| Replaces::parse(&v)).map(|r| r.call_id),
            referred: message.header("Referred-By").is_some(),
        }
    }

    /// Whether a correlation header or a Session-ID says that both are one call.
    pub fn agree(&self, other: &Self) -> bool {
        self.correlation.iter().any(|c| other.correlation.contains(c))
            || self.sessions.iter().any(|s| other.sessions.contains(s))
    }
}

/// What a leg shows to the guess by numbers and times. Borrowed, for it is made of many legs for each new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape<'a> {
    /// Who sent the first INVITE, and to whom.
    pub hop: (Endpoint, Endpoint),
    /// First message.
    pub at: Timestamp,
    /// Both numbers, as digits that can be compared.
    pub from: Option<&'a str>,
    /// See `from`.
    pub to: Option<&'a str>,
    /// Who sent the call here (Diversion).
    pub diverted: Option<&'a str>,
    /// Whether `from` is one of our extensions.
    pub from_extension: bool,
    /// Whether its sender names itself by a word, or by the number that is called: see [`Shape::is_call_back`].
    pub by_itself: bool,
}

/// How two legs fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fit {
    /// Not at all.
    None,
    /// The PBX that took the first leg sent the second one within [`TOGETHER`], and a number agrees.
    Numbers,
    /// The same, with both numbers.
    BothNumbers,
}

impl Shape<'_> {
    /// How a new leg fits an older one: the older leg's receiver sends the new one (or one PBX sends both, as it
    /// does when it calls both ends by itself).
    pub fn fit(&self, older: &Shape<'_>) -> Fit {
        if self.at.since(older.at) > TOGETHER || older.at.since(self.at) > SKEW {
            return Fit::None;
        }
        if !self.hop.0.same_host(older.hop.1) {
            return Fit::None;
        }
        let diverted = self.is_diverted_from(older);
        let fit = match fit_numbers((self.from, older.from), (self.to, older.to)) {
            Fit::None if diverted => Fit::Numbers,
            // The same number called by two outside parties.
            Fit::Numbers if self.is_of_another_caller(older) => Fit::None,
            fit => fit,
        };
        // Back to where it came from: a proxy in front of the PBX, if both numbers say so; a call that is sent on by the
        // trunk that brought it, if the caller or a Diversion says so; else a call in return.
        let sent_on = same_number(self.from, older.from) || diverted;
        if self.goes_back(older) && fit != Fit::BothNumbers && !sent_on { Fit::None } else { fit }
    }

    /// Whether the new leg is the second half of a click-to-call: the PBX first called the extension, then the
    /// number, under the name of the other; or the extension under no caller's name.
    pub fn is_call_back(&self, older: &Shape<'_>) -> bool {
        self.hop.0.same_host(older.hop.0)
            && !self.hop.1.same_host(older.hop.1)
            && (same_number(older.from, self.to)
                || (same_number(older.to, self.from) && self.from != self.to)
                || older.by_itself)
    }

    /// Whether the new leg rings for the caller of an older one who already waits at the PBX (ringing, queue, IVR).
    pub fn is_for_waiting(&self, older: &Shape<'_>) -> bool {
        let in_return = self.goes_back(older) && same_number(self.to, older.from);
        let for_it = same_number(self.from, older.from) || self.is_diverted_from(older);
        self.hop.0.same_host(older.hop.1) && !in_return && for_it
    }

    /// Whether the called number sends the call on in its own name, as the Diversion says.
    fn is_diverted_from(&self, older: &Shape<'_>) -> bool {
        same_number(self.diverted, older.to) && (self.from.is_none() || same_number(self.from, older.to))
    }

    /// Whether both legs name their callers, and differ: only for an extension does a PBX write another number.
    fn is_of_another_caller(&self, older: &Shape<'_>) -> bool {
        let number = |from: Option<&str>| from.is_some_and(|f| f.contains(|c: char| c.is_ascii_digit()));
        !older.from_extension && number(self.from) && number(older.from) && !same_number(self.from, older.from)
    }

    /// Whether the new leg is for the same number as an older one, sent on by the PBX: another trunk is tried.
    pub fn is_another_way(&self, older: &Shape<'_>) -> bool {
        self.hop.0.same_host(older.hop.1) && !self.goes_back(older) && same_number(self.to, older.to)
    }

    /// Whether the new leg is a second call of the extension that the older one is of: its own, or one that the PBX makes
    /// in its name.
    pub fn is_second_call_of(&self, older: &Shape<'_>) -> bool {
        let (caller, callee) = older.hop;
        let of = |phone: Endpoint, pbx: Endpoint| self.hop.0.same_host(phone) || self.hop.0.same_host(pbx);
        (same_number(self.from, older.from) && of(caller, callee))
            || (same_number(self.from, older.to) && of(callee, caller))
    }

    /// Whether this host sent it.
    pub fn is_sent_by(&self, host: Endpoint) -> bool {
        self.hop.0.same_host(host)
    }

    fn goes_back(&self, older: &Shape<'_>) -> bool {
        self.hop.1.same_host(older.hop.0)
    }

    /// Which extensions the new leg may take a ringing call from: those whose number ends a code that was dialled at the
    /// PBX (`*8200`).
    pub fn picks_up_from(&self) -> impl Iterator<Item = String> + '_ {
        let code = self.to.and_then(|to| to.strip_prefix(['*', '#'])).unwrap_or("");
        let code = if code.len() > MAX_CODE_DIGITS { "" } else { code };
        let ends = 1..code.len().saturating_sub(MIN_EXTENSION_DIGITS - 1);
        ends.filter_map(|at| code.get(at..)).map(str::to_owned)
    }
}

/// Whether the guess by numbers and times has anything to say of two legs with these hops (who sent the INVITE, to whom):
/// one goes on from where the other arrived, or one host sent both to different ones. All its rules ask for that, so
/// that of the many calls to one number only few are looked at.
pub fn meet((from, to): (Endpoint, Endpoint), (caller, callee): (Endpoint, Endpoint)) -> bool {
    from.same_host(callee) || to.same_host(caller) || (from.same_host(caller) && !to.same_host(callee))
}

fn fit_numbers(from: (Option<&str>, Option<&str>), to: (Option<&str>, Option<&str>)) -> Fit {
    match (same_number(from.0, from.1), same_number(to.0, to.1)) {
        (true, true) => Fit::BothNumbers,
        (true, false) | (false, true) => Fit::Numbers,
        (false, false) => Fit::None,
    }
}

/// Numbers are the same when they are equal in their last six digits; a shorter one has to be equal as a whole. What is
/// no number is the same in any case of its letters.
pub fn same_number(a: Option<&str>, b: Option<&str>) -> bool {
    let (Some(a), Some(b)) = (a, b) else { return false };
    match (last_digits(a).next(), last_digits(b).next()) {
        (Some(_), Some(_)) => last_digits(a).eq(last_digits(b)),
        (None, None) => a.eq_ignore_ascii_case(b),
        _ => false,
    }
}

/// The last six digits of a number, or all of what is no number: equal where [`same_number`] says so.
fn tail(number: &str) -> String {
    if last_digits(number).next().is_none() {
        return number.to_ascii_lowercase();
    }
    last_digits(number).map(char::from).collect()
}

/// The last one first.
fn last_digits(number: &str) -> impl Iterator<Item = u8> + '_ {
    number.bytes().rev().filter(u8::is_ascii_digit).take(COMPARED_DIGITS)
}

/// A REFER that was seen: the next INVITE to its target belongs with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referral {
    /// When.
    pub at: Timestamp,
    /// Number or name that the call is sent to.
    pub target: Option<String>,
    /// The dialog that the new one shall replace (attended transfer).
    pub replaces: Option<String>,
    /// Who was asked to call.
    pub asked: Endpoint,
    /// Conversation of the leg that carried it.
    pub conversation: usize,
    /// Whether that leg is the conversation's anchor: then the new call is another one, only related.
    pub on_anchor: bool,
}

impl Referral {
    /// Reads a REFER.
    pub fn read(message: &Message<'_>, asked: Endpoint, at: Timestamp) -> Option<Self> {
        let refer_to = ReferTo::parse(&message.header("Refer-To")?)?;
        Some(Self {
            at,
            target: refer_to.target.uri.user.clone(),
            replaces: refer_to.replaces.map(|r| r.call_id),
            asked,
            conversation: usize::MAX,
            on_anchor: false,
        })
    }

    /// Whether a new leg is what this REFER asked for.
    pub fn causes(&self, shape: &Shape<'_>, traces: &Traces) -> bool {
        let in_time = shape.at.since(self.at) <= REFER_PATIENCE;
        let replaced = self.replaces.is_some() && self.replaces == traces.replaces;
        in_time && shape.hop.0.same_host(self.asked) && (replaced || same_number(self.target.as_deref(), shape.to))
    }
}

impl Referral {
    /// Whether a new leg calls, at the PBX that was asked, the very place to which the REFER sent the call: it takes
    /// the call out of its parking place, however long that has waited.
    pub fn parks_for(&self, shape: &Shape<'_>) -> bool {
        shape.hop.1.same_host(self.asked) && !self.on_anchor && same_number(self.target.as_deref(), shape.to)
    }
}

/// Finds the legs that a new one may belong to without looking at all of them.
#[derive(Debug, Default)]
pub struct JoinIndex {
    slots: HashMap<u64, Vec<usize>, foldhash::fast::RandomState>,
}

impl JoinIndex {
    /// A leg can be found by what it shows. Gives the keys by which it is to be removed again: what it shows may change.
    pub fn add(&mut self, slot: usize, traces: &Traces, shape: &Shape<'_>) -> Vec<u64> {
        let mut keys = keys(traces, shape);
        keys.extend(shape.by_itself.then(|| by_itself_key(shape.hop.0)));
        for key in &keys {
            let slots = self.slots.entry(*key).or_default();
            // The oldest stay (the caller of a large ring group), the newest go round.
            if slots.len() == 2 * MAX_SAME_KEY {
                slots.remove(MAX_SAME_KEY);
            }
            slots.push(slot);
        }
        keys
    }

    /// A leg is gone.
    pub fn remove(&mut self, slot: usize, keys: &[u64]) {
        for key in keys {
            if let Some(slots) = self.slots.get_mut(key) {
                slots.retain(|s| *s != slot);
                if slots.is_empty() {
                    self.slots.remove(key);
                }
            }
        }
    }

    /// Legs that share something with a new one, each once.
    pub fn candidates(&self, traces: &Traces, shape: &Shape<'_>) -> Vec<usize> {
        let mut out: Vec<usize> =
            keys(traces, shape).iter().filter_map(|k| self.slots.get(k)).flatten().copied().collect();
        out.sort_unstable();
        out.dedup();
        out
    }

    /// Legs that show this number at this host.
    pub fn at(&self, host: Endpoint, number: &str) -> &[usize] {
        self.slots.get(&number_key(host, number)).map_or(&[], Vec::as_slice)
    }

    /// Legs by which this host began a call under no caller's name.
    pub fn by_themselves(&self, host: Endpoint) -> &[usize] {
        self.slots.get(&by_itself_key(host)).map_or(&[], Vec::as_slice)
    }

    /// How many things legs can be found by.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether no leg can be found.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

/// What a leg can be found by: its traces, and each of its numbers at each of its two hosts.
fn keys(traces: &Traces, shape: &Shape<'_>) -> Vec<u64> {
    let mut out = Vec::new();
    out.extend(traces.correlation.iter().map(|(n, value)| hash(&(*n, value))));
    out.extend(traces.sessions.iter().map(hash));
    for host in [shape.hop.0, shape.hop.1] {
        for number in [shape.from, shape.to, shape.diverted].into_iter().flatten() {
            out.push(number_key(host, number));
        }
    }
    out.sort_unstable();
    out.dedup();
    out
}

fn number_key(host: Endpoint, number: &str) -> u64 {
    hash(&(host.ip(), tail(number)))
}

fn by_itself_key(host: Endpoint) -> u64 {
    hash(&(host.ip(), "by itself"))
}

fn hash<T: Hash>(value: &T) -> u64 {
    foldhash::fast::FixedState::with_seed(2).hash_one(value)
}

/// By the stamps of several interfaces, a leg may seem to come before the one that caused it.
pub const SKEW: Duration = Duration::from_millis(100);
/// A PBX sends the second leg of a call within this time of the first.
pub const TOGETHER: Duration = Duration::from_secs(2);
/// A transfer target is called within this time of the REFER.
const REFER_PATIENCE: Duration = Duration::from_secs(30);
/// So many digits at the end tell two numbers of one place apart, whatever prefix each hop writes.
const COMPARED_DIGITS: usize = 6;
/// The shortest extension that a pick-up code can name.
const MIN_EXTENSION_DIGITS: usize = 2;
/// A feature code and an extension.
const MAX_CODE_DIGITS: usize = 16;
/// Oldest legs found by one key, and as many of the newest: all of a ring group of sixty telephones. More of the same
/// number at once say nothing of any of them.
const MAX_SAME_KEY: usize = 64;
/// Correlation headers that are looked at.
const MAX_HEADERS: usize = 16;
