//! A search as a user enters it: a text, filters, and a range of days. The URL of the page contains the whole search.

use serde::{Deserialize, Serialize};

use super::server::DiallingCodes;
use super::text::local;
use crate::call::record::{CallDirection, CallOutcome, DeliveryState};
use crate::journal::{CallScope, CallSearch, HeardClass};
use crate::text::percent_encode;
use crate::time::Timestamp;

/// Parameters of a search, as the form sends them. Unknown values are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct CallsQuery {
    /// Text of the search: number, name or extension.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) q: String,
    /// Range of days: `today`, `yesterday`, `7` or `30` (number of last days), `all`, or `dates`. If `from` or `to` is
    /// set, this field is ignored. If it is empty, the range is the newest day with calls, or all days if the search
    /// has a text.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) day: String,
    /// First day of the range, e.g. `2026-11-27`; empty for no limit.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) from: String,
    /// Last day of the range, e.g. `2026-11-27`; empty for no limit.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) to: String,
    /// Earliest time of day at which a call began, e.g. `13:00`; empty for no limit.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) t1: String,
    /// Time of day before which a call began, e.g. `14:00`; empty for no limit.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) t2: String,
    /// Direction of the call, as the call record names it, e.g. `inbound`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) direction: String,
    /// Outcome of the call as the call record names it, e.g. `answered`. `unanswered` stands for three outcomes:
    /// abandoned, cancelled, and no answer.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) outcome: String,
    /// Class of the call, i.e. how much of it can be heard, e.g. `both`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) heard: String,
    /// State of the delivery, as the call record names it, e.g. `parked`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) delivery: String,
    /// Pattern that the call's telephone extension matches, e.g. `1xx`; empty for all.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) ext: String,
    /// Minimum length of the call, minutes; empty for no limit.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) min: String,
    /// Maximum length of the call, minutes; empty for no limit.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) max: String,
    /// Name of a site (one recorder), for searches in a central archive; empty for all sites.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) site: String,
    /// Position in the list: start (µs since the Unix epoch) and id of the last call on the previous page; empty for
    /// the first page.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) cursor: String,
}

impl CallsQuery {
    /// Returns the conditions of the search, except for the range of days ([`Self::range`]).
    pub(super) fn to_search(&self, scope: CallScope, codes: &DiallingCodes) -> CallSearch {
        let (numbers, words) = read_text(&self.q, codes);
        let minutes = |text: &str| text.trim().replace(',', ".").parse::<f64>().ok().filter(|m| *m >= 0.0);
        CallSearch {
            scope,
            numbers,
            words,
            extensions: self.ext.split(',').map(str::trim).filter(|e| !e.is_empty()).map(str::to_owned).collect(),
            direction: word::<CallDirection>(&self.direction),
            outcomes: outcomes(&self.outcome),
            heard: HeardClass::parse(&self.heard),
            delivery: word::<DeliveryState>(&self.delivery),
            min_s: minutes(&self.min).map(|m| (m * 60.0) as u32),
            max_s: minutes(&self.max).map(|m| (m * 60.0) as u32),
            site: Some(self.site.trim().to_owned()).filter(|site| !site.is_empty()),
            ..CallSearch::default()
        }
    }

    /// Returns the range of time to search. `now` is the current time. `newest` is the start of the newest call, and
    /// its day is searched if the user gives neither days nor a text.
    pub(super) fn range(&self, now: Timestamp, newest: Option<Timestamp>) -> DayRange {
        let (from, to) = (parse_day(&self.from), parse_day(&self.to));
        if from.is_some() || to.is_some() {
            return DayRange { since: from.map(midnight), until: to.and_then(|day| day.tomorrow().ok()).map(midnight) };
        }
        let today = local(now).date();
        let back = |days: i64| today.checked_sub(jiff::Span::new().days(days)).ok().map(midnight);
        match self.day.as_str() {
            "all" => DayRange::default(),
            "today" => DayRange { since: back(0), until: None },
            "yesterday" => DayRange { since: back(1), until: back(0) },
            "7" => DayRange { since: back(6), until: None },
            "30" => DayRange { since: back(29), until: None },
            _ if self.q.trim().is_empty() => newest.map_or_else(DayRange::default, DayRange::of_day),
            _ => DayRange::default(),
        }
    }

    /// Returns the range of the time of day in seconds since midnight UTC; `None` if no range is set. The user enters
    /// local time, which is converted with the UTC offset at the time `near`.
    pub(super) fn time_of_day(&self, near: Timestamp) -> Option<(u32, u32)> {
        let (from, to) = (parse_time(&self.t1), parse_time(&self.t2));
        if from.is_none() && to.is_none() {
            return None;
        }
        let offset = i64::from(local(near).offset().seconds());
        let utc = |second: u32| (i64::from(second) - offset).rem_euclid(DAY_S) as u32;
        let (from, to) = (utc(from.unwrap_or(0)), utc(to.unwrap_or(0)));
        (from != to).then_some((from, to)) // equal times mean the whole day
    }

    /// Parses the parameter `cursor`: start and id of the call after which the page of the list begins.
    pub(super) fn before(&self) -> Option<(i64, String)> {
        let (begin, id) = self.cursor.split_once(' ').or_else(|| self.cursor.split_once('~'))?;
        Some((begin.parse().ok()?, id.to_owned()))
    }

    /// Returns the URL of a copy of this search that the function `change` has changed.
    pub(super) fn link(&self, path: &str, change: impl FnOnce(&mut Self)) -> String {
        let mut other = Self { cursor: String::new(), ..self.clone() };
        change(&mut other);
        let pairs = serde_json::to_value(&other).ok();
        let pairs = pairs.as_ref().and_then(|v| v.as_object()).into_iter().flatten();
        let text = pairs
            .filter_map(|(key, value)| Some(format!("{key}={}", encoded(value.as_str()?))))
            .collect::<Vec<_>>()
            .join("&");
        if text.is_empty() { path.to_owned() } else { format!("{path}?{text}") }
    }

    /// Returns whether the user entered a date for the first or the last day of the search.
    pub(super) fn is_dated(&self) -> bool {
        !self.from.is_empty() || !self.to.is_empty()
    }

    /// Returns the number of filters that are set, not counting the text and the days.
    pub(super) fn filters(&self) -> usize {
        let all = [
            &self.site,
            &self.t1,
            &self.t2,
            &self.direction,
            &self.outcome,
            &self.heard,
            &self.delivery,
            &self.ext,
            &self.min,
        ];
        all.into_iter().chain([&self.max]).filter(|text| !text.is_empty()).count()
    }
}

/// A range of time, usually of whole days. `None` means that the range has no start or no end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct DayRange {
    pub(super) since: Option<Timestamp>,
    pub(super) until: Option<Timestamp>,
}

impl DayRange {
    /// Returns the day, in the time zone of this machine, that contains a time.
    pub(super) fn of_day(at: Timestamp) -> Self {
        let day = local(at).date();
        Self { since: Some(midnight(day)), until: day.tomorrow().ok().map(midnight) }
    }

    /// Returns the start of the day if the range is exactly one day; otherwise `None`.
    pub(super) fn single_day(self) -> Option<Timestamp> {
        let since = self.since?;
        (Self::of_day(since) == self).then_some(since)
    }
}

/// Splits the text of a search into numbers (as digits) and words (in lower case).
pub(super) fn read_text(text: &str, codes: &DiallingCodes) -> (Vec<String>, Vec<String>) {
    let (mut numbers, mut words) = (Vec::new(), Vec::new());
    let text: String = text.chars().take(MAX_TEXT).collect();
    for piece in text.split([',', ';']).map(str::trim).filter(|piece| !piece.is_empty()) {
        if is_number(piece) {
            numbers.push(digits_of(piece, codes));
            continue;
        }
        for word in piece.split_whitespace().take(MAX_WORDS) {
            if is_number(word) { numbers.push(digits_of(word, codes)) } else { words.push(word.to_lowercase()) }
        }
    }
    numbers.retain(|digits| !digits.is_empty());
    (numbers, words)
}

fn is_number(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_digit() || "+()-./* \u{a0}\u{202f}\u{2010}\u{2011}\u{2013}".contains(c);
    text.chars().all(is_part) && text.contains(|c: char| c.is_ascii_digit())
}

/// Returns the digits of a number without dialling codes. All notations of the number contain these digits.
fn digits_of(text: &str, codes: &DiallingCodes) -> String {
    let digits: String = text.chars().filter(|c| c.is_ascii_digit() || *c == '*').collect();
    let is_international = text.trim_start().starts_with('+');
    let long = |rest: &&str| rest.len() >= SUBSCRIBER_DIGITS;
    let without = |digits: &str, code: &str| -> Option<String> {
        (!code.is_empty()).then(|| digits.strip_prefix(code)).flatten().filter(long).map(str::to_owned)
    };
    let mut rest = digits;
    if !is_international {
        for code in [codes.international.as_str(), "00"] {
            rest = without(&rest, code).unwrap_or(rest);
        }
    }
    for code in [codes.country.as_str(), codes.national.as_str()] {
        if let Some(shorter) = without(&rest, code).filter(|_| rest.len() > SUBSCRIBER_DIGITS) {
            return shorter;
        }
    }
    // If no configured dialling code was removed, a leading 8 or 7 (Russia) or 0 (most of Europe) is removed.
    match rest.as_bytes() {
        [b'7' | b'8', ..] if rest.len() == 11 => rest[1..].to_owned(),
        [b'0', ..] if rest.len() >= 10 => rest[1..].to_owned(),
        _ => rest,
    }
}

fn outcomes(text: &str) -> Vec<CallOutcome> {
    match text {
        "unanswered" => vec![CallOutcome::Abandoned, CallOutcome::Cancelled, CallOutcome::NoAnswer],
        other => word(other).into_iter().collect(),
    }
}

fn word<T: serde::de::DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_value(serde_json::Value::String(text.to_owned())).ok()
}

/// Parses a day such as `2026-11-27` or `27.11.2026`.
pub(super) fn parse_day(text: &str) -> Option<jiff::civil::Date> {
    let text = text.trim();
    text.parse().ok().or_else(|| jiff::civil::Date::strptime("%d.%m.%Y", text).ok())
}

/// Parses a time of day such as `13:00` or `13`. Returns seconds since midnight.
pub(super) fn parse_time(text: &str) -> Option<u32> {
    let mut parts = text.trim().split(':');
    let hours: u32 = parts.next()?.trim().parse().ok().filter(|h| *h <= 24)?;
    let minutes: u32 = parts.next().map_or(Some(0), |m| m.trim().parse().ok()).filter(|m| *m < 60)?;
    Some(hours * 3_600 + minutes * 60)
}

/// Returns the start of a day in the time zone of this machine.
pub(super) fn midnight(day: jiff::civil::Date) -> Timestamp {
    let zoned = day.to_zoned(jiff::tz::TimeZone::system());
    zoned.map_or(Timestamp::EPOCH, |zoned| Timestamp::from_micros(zoned.timestamp().as_microsecond()))
}

/// Encodes a value, so that it can stand in the query of a URL.
pub(super) fn encoded(text: &str) -> String {
    percent_encode(text, b"")
}

/// Maximum number of characters of a search text that are used. It limits the number of conditions in the query.
const MAX_TEXT: usize = 200;
/// Maximum number of words of a search text that are used; further words are ignored.
const MAX_WORDS: usize = 8;
/// Minimum number of digits that remain of a number when its dialling codes are removed. If fewer would remain, the
/// codes stay.
const SUBSCRIBER_DIGITS: usize = 7;
const DAY_S: i64 = 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_number_is_read_as_the_same_digits() {
        let codes = DiallingCodes::default();
        for spelling in
            ["+7 495 300-22-85", "8 (495) 300-22-85", "84953002285", "74953002285", "495 300 22 85", "+7(495)300.22.85"]
        {
            assert_eq!(read_text(spelling, &codes), (vec![String::from("4953002285")], vec![]), "{spelling}");
        }
        assert_eq!(read_text("300-22-85", &codes).0, ["3002285"]);
        let german = DiallingCodes { international: "00".into(), national: "0".into(), country: "49".into() };
        for spelling in ["+49 30 1234567", "0049301234567", "030 1234567"] {
            assert_eq!(read_text(spelling, &german).0, ["301234567"], "{spelling}");
        }
        assert_eq!(read_text("120, Петрова", &codes), (vec!["120".into()], vec!["петрова".into()]));
        assert_eq!(read_text("Petrova 120", &codes), (vec!["120".into()], vec!["petrova".into()]));
    }

    #[test]
    fn the_address_is_the_saved_search() {
        let query =
            CallsQuery { q: "+7 495".into(), heard: "one".into(), cursor: "1~a".into(), ..CallsQuery::default() };
        assert_eq!(query.link("/calls", |_| {}), "/calls?heard=one&q=%2B7%20495");
        assert_eq!(query.before(), Some((1, String::from("a"))));
    }

    #[test]
    fn times_and_days_are_read_as_people_write_them() {
        assert_eq!(
            [parse_time("13:30"), parse_time("8"), parse_time("24:00"), parse_time("x")],
            [Some(48_600), Some(28_800), Some(86_400), None]
        );
        assert_eq!(parse_day("27.11.2026"), parse_day("2026-11-27"));
        assert!(parse_day("27.11.2026").is_some() && parse_day("40.11.2026").is_none());
    }

    #[test]
    fn the_whole_day_is_no_condition_on_the_time_of_day() {
        let of = |t1: &str, t2: &str| {
            let query = CallsQuery { t1: t1.to_owned(), t2: t2.to_owned(), ..CallsQuery::default() };
            query.time_of_day(Timestamp::from_secs(1_772_359_200)).map(|(from, to)| (to + 86_400 - from) % 86_400)
        };
        for (t1, t2) in [("", ""), ("00:00", ""), ("", "24:00"), ("00:00", "24:00"), ("00:00", "00:00")] {
            assert_eq!(of(t1, t2), None, "{t1}-{t2}");
        }
        assert_eq!(of("09:00", "18:30"), Some(34_200));
        assert_eq!(of("22:00", "06:00"), Some(28_800), "over midnight");
    }
}
