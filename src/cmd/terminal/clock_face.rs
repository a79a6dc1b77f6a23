//! Formats and parses times for people: local time with its UTC offset, or UTC.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::time::Timestamp;

/// The time zone in which times are printed and parsed.
#[derive(Clone, Debug)]
pub(crate) struct DisplayZone {
    zone: TimeZone,
    is_utc: bool,
}

impl DisplayZone {
    /// Returns the zone UTC if `utc` is true, else the time zone of this machine (`TZ`, `/etc/localtime`).
    pub(crate) fn of(utc: bool) -> Self {
        if utc { Self::utc() } else { Self { zone: TimeZone::system(), is_utc: false } }
    }

    /// Returns the zone UTC.
    pub(crate) fn utc() -> Self {
        Self { zone: TimeZone::UTC, is_utc: true }
    }

    /// Formats a time such as `2026-11-23 10:08:54+03:00`; in UTC `2026-11-23 07:08:54Z`.
    pub(crate) fn show(&self, at: Timestamp) -> String {
        match jiff::Timestamp::from_microsecond(at.as_micros()) {
            Ok(moment) if self.is_utc => moment.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
            Ok(moment) => moment.to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H:%M:%S%:z").to_string(),
            // Years after 9999 cannot be shown in local time, so they are shown in UTC.
            Err(_) => at.to_rfc3339_secs(),
        }
    }

    /// Formats a time for other programs, as RFC 3339: `2026-11-23T10:08:54+03:00`.
    pub(crate) fn show_rfc3339(&self, at: Timestamp) -> String {
        self.show(at).replacen(' ', "T", 1)
    }
}

/// A time that a user gave on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GivenTime {
    /// A time with a time zone.
    Exact(Timestamp),
    /// A time without a time zone. It counts as a time in the zone in which times are printed.
    Reading(DateTime),
}

impl GivenTime {
    /// Parses a day (`2026-11-23`), a day with a time, or a time in the form of RFC 3339.
    ///
    /// # Errors
    /// Fails for any other text. The error lists the accepted forms.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if let Ok(at) = Timestamp::parse_rfc3339(text) {
            return Ok(Self::Exact(at));
        }
        text.parse()
            .map(Self::Reading)
            .map_err(|_| String::from("write 2026-11-23, 2026-11-23T14:05 or RFC 3339 with a zone"))
    }

    /// Converts the time to a timestamp. A local time that was skipped when clocks were set forward is read with the
    /// earlier UTC offset. If a local time occurred twice, the first occurrence is used.
    pub(crate) fn in_zone(self, zone: &DisplayZone) -> Timestamp {
        match self {
            Self::Exact(at) => at,
            Self::Reading(reading) => zone
                .zone
                .to_ambiguous_timestamp(reading)
                .compatible()
                .map_or(Timestamp::EPOCH, |moment| Timestamp::from_micros(moment.as_microsecond())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str) -> DisplayZone {
        DisplayZone { zone: TimeZone::posix(name).expect("a POSIX zone"), is_utc: false }
    }

    #[test]
    fn times_have_the_offset_of_their_day() {
        let at = Timestamp::from_secs(1_795_417_734); // 2026-11-23T07:08:54Z
        assert_eq!(zone("MSK-3").show(at), "2026-11-23 10:08:54+03:00");
        assert_eq!(zone("MSK-3").show_rfc3339(at), "2026-11-23T10:08:54+03:00");
        assert_eq!(DisplayZone::utc().show(at), "2026-11-23 07:08:54Z");
        let summer = zone("CET-1CEST,M3.5.0,M10.5.0/3");
        assert_eq!(summer.show(at), "2026-11-23 08:08:54+01:00");
        assert_eq!(summer.show(at - std::time::Duration::from_secs(150 * 86_400)), "2026-06-26 09:08:54+02:00");
        assert!(!zone("MSK-3").show(Timestamp::MAX).is_empty());
    }

    #[test]
    fn filters_are_in_the_zone_of_the_tables_unless_they_name_one() {
        let given =
            |text: &str, zone: &DisplayZone| GivenTime::parse(text).expect(text).in_zone(zone).to_rfc3339_secs();
        let moscow = zone("MSK-3");
        assert_eq!(given("2026-11-23", &moscow), "2026-11-22T21:00:00Z");
        assert_eq!(given("2026-11-23 10:08", &moscow), "2026-11-23T07:08:00Z");
        assert_eq!(given("2026-11-23T10:08:54", &moscow), "2026-11-23T07:08:54Z");
        assert_eq!(given("2026-11-23T10:08", &DisplayZone::utc()), "2026-11-23T10:08:00Z");
        for exact in ["2026-11-23T10:08:54Z", "2026-11-23T12:08:54+02:00", "2026-11-23 10:08:54Z"] {
            assert_eq!(given(exact, &moscow), "2026-11-23T10:08:54Z");
        }
        // In this night the clocks were set forward from 2:00 to 3:00, so 2:30 did not exist. It is read with the
        // winter offset of one hour, i.e. as 1:30 UTC.
        assert_eq!(given("2026-03-29 02:30", &zone("CET-1CEST,M3.5.0,M10.5.0/3")), "2026-03-29T01:30:00Z");
        assert!(GivenTime::parse("yesterday").is_err());
    }
}
