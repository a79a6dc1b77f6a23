//! Types of time: [`Timestamp`] (capture time) and [`RtpTime`] (RTP timestamp). This module reads no clock.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A capture time: nanoseconds since the Unix epoch, UTC.
///
/// Its JSON form is RFC 3339 UTC with microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The start of the Unix epoch: 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);
    /// A time later than every capture time.
    pub(crate) const MAX: Self = Self(i64::MAX);

    /// Creates a time from nanoseconds since the Unix epoch.
    pub(crate) const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Creates a time from microseconds since the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros.saturating_mul(1_000))
    }

    /// Creates a time from seconds since the Unix epoch.
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    /// Returns the nanoseconds since the Unix epoch.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Returns the microseconds since the Unix epoch, rounded down.
    pub const fn as_micros(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// Returns the time rounded down to whole microseconds, as the call record has it.
    pub(crate) const fn floor_micros(self) -> Self {
        Self(self.0.div_euclid(1_000) * 1_000)
    }

    /// Returns the nanoseconds from `earlier` to this time; negative if `earlier` is later.
    pub const fn nanos_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Returns the duration from `earlier` to this time; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.nanos_since(earlier)).unwrap_or(0))
    }

    /// Returns the duration between the two times, whichever is earlier.
    pub(crate) fn distance(self, other: Self) -> Duration {
        Duration::from_nanos(self.0.abs_diff(other.0))
    }

    /// Returns the time that is `nanos` ns later; earlier if the number is negative.
    pub const fn offset(self, nanos: i64) -> Self {
        Self(self.0.saturating_add(nanos))
    }

    /// Formats as RFC 3339 UTC with microseconds: `2026-11-23T07:08:54.123456Z`.
    pub fn to_rfc3339(self) -> String {
        match jiff::Timestamp::from_microsecond(self.as_micros()) {
            Ok(t) => t.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string(),
            Err(_) => String::from("9999-12-31T23:59:59.999999Z"),
        }
    }

    /// Formats as RFC 3339 UTC with seconds, as Pyrus expects it: `2026-11-23T07:08:54Z`.
    pub fn to_rfc3339_secs(self) -> String {
        match jiff::Timestamp::from_second(self.0.div_euclid(1_000_000_000)) {
            Ok(t) => t.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            Err(_) => String::from("9999-12-31T23:59:59Z"),
        }
    }

    /// Formats as UTC for ids and file names: `20261123T070854Z`.
    pub(crate) fn to_stamp(self) -> String {
        match jiff::Timestamp::from_second(self.0.div_euclid(1_000_000_000)) {
            Ok(t) => t.strftime("%Y%m%dT%H%M%SZ").to_string(),
            Err(_) => String::from("99991231T235959Z"),
        }
    }

    /// Parses RFC 3339.
    ///
    /// # Errors
    /// Returns an error if the text is not RFC 3339.
    pub(crate) fn parse_rfc3339(text: &str) -> Result<Self, jiff::Error> {
        let t: jiff::Timestamp = text.parse()?;
        Ok(Self(i64::try_from(t.as_nanosecond()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_rfc3339())
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(rhs.as_nanos()).unwrap_or(i64::MAX)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;
    fn sub(self, rhs: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(rhs.as_nanos()).unwrap_or(i64::MAX)))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_rfc3339())
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse_rfc3339(&text).map_err(serde::de::Error::custom)
    }
}

/// The 32-bit timestamp of an RTP header, in units of the payload format's clock (RFC 3550 section 5.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct RtpTime(pub u32);

impl RtpTime {
    /// Returns the signed difference to `earlier`, -2^31 to 2^31 - 1. It is computed modulo 2^32, because RTP
    /// timestamps wrap.
    pub(crate) const fn wrapping_since(self, earlier: Self) -> i32 {
        self.0.wrapping_sub(earlier.0) as i32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_formatted_as_rfc3339_and_parsed_again() {
        let t = Timestamp::from_nanos(1_795_409_819_893_123_456);
        assert_eq!(t.to_rfc3339(), "2026-11-23T04:56:59.893123Z");
        assert_eq!(Timestamp::parse_rfc3339(&t.to_rfc3339()).ok(), Some(t.floor_micros()));
        assert_eq!(t.to_stamp(), "20261123T045659Z");
        assert_eq!(t.to_rfc3339_secs(), "2026-11-23T04:56:59Z");
    }

    #[test]
    fn the_distance_of_two_times_has_no_sign() {
        let (early, late) = (Timestamp::from_secs(1), Timestamp::from_secs(3));
        assert_eq!((early.distance(late), late.distance(early)), (Duration::from_secs(2), Duration::from_secs(2)));
        assert_eq!(early.distance(early), Duration::ZERO);
    }

    #[test]
    fn rtp_time_wraps_at_32_bits() {
        assert_eq!(RtpTime(5).wrapping_since(RtpTime(u32::MAX - 4)), 10);
        assert_eq!(RtpTime(u32::MAX - 4).wrapping_since(RtpTime(5)), -10);
    }
}
