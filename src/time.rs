//! Two kinds of time, never mixed: [`Timestamp`] on the capture clock and [`RtpTime`] on a sender's RTP clock.
//! No function here reads a clock.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A moment of the capture clock: nanoseconds since the Unix epoch, UTC.
///
/// As JSON it is RFC 3339 UTC with microseconds, the form of the call record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The epoch: 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);
    /// Later than every moment that a capture can have.
    pub const MAX: Self = Self(i64::MAX);

    /// From nanoseconds since the Unix epoch.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// From microseconds since the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros.saturating_mul(1_000))
    }

    /// From whole seconds since the Unix epoch.
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    /// Nanoseconds since the Unix epoch.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Microseconds since the Unix epoch, towards the past.
    pub const fn as_micros(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// Seconds since the Unix epoch.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// This moment cut to whole microseconds: what a call record can say.
    pub const fn floor_micros(self) -> Self {
        Self(self.0.div_euclid(1_000) * 1_000)
    }

    /// Nanoseconds from `earlier` to this moment; negative if `earlier` is later.
    pub const fn nanos_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// How long after `earlier` this moment is; zero if it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.nanos_since(earlier)).unwrap_or(0))
    }

    /// This moment moved by signed nanoseconds.
    pub const fn offset(self, nanos: i64) -> Self {
        Self(self.0.saturating_add(nanos))
    }

    /// RFC 3339, UTC, with microseconds: `2026-11-23T07:08:54.123456Z`.
    pub fn to_rfc3339(self) -> String {
        match jiff::Timestamp::from_microsecond(self.as_micros()) {
            Ok(t) => t.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string(),
            Err(_) => String::from("9999-12-31T23:59:59.999999Z"),
        }
    }

    /// RFC 3339, UTC, whole seconds: `2026-11-23T07:08:54Z`, the form that Pyrus wants.
    pub fn to_rfc3339_secs(self) -> String {
        match jiff::Timestamp::from_second(self.0.div_euclid(1_000_000_000)) {
            Ok(t) => t.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            Err(_) => String::from("9999-12-31T23:59:59Z"),
        }
    }

    /// The UTC stamp in ids and file names: `20261123T070854Z`.
    pub fn to_stamp(self) -> String {
        match jiff::Timestamp::from_second(self.0.div_euclid(1_000_000_000)) {
            Ok(t) => t.strftime("%Y%m%dT%H%M%SZ").to_string(),
            Err(_) => String::from("99991231T235959Z"),
        }
    }

    /// Reads RFC 3339.
    ///
    /// # Errors
    /// When the text is no RFC 3339 moment.
    pub fn parse_rfc3339(text: &str) -> Result<Self, jiff::Error> {
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

/// The 32-bit timestamp of an RTP header, in units of the payload's clock (RFC 3550 section 5.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RtpTime(pub u32);

impl RtpTime {
    /// Signed distance from `earlier`, taking the nearer way round the 32-bit circle.
    pub const fn wrapping_since(self, earlier: Self) -> i32 {
        self.0.wrapping_sub(earlier.0) as i32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_as_rfc3339_with_microseconds_and_read_back() {
        let t = Timestamp::from_nanos(1_795_409_819_893_123_456);
        assert_eq!(t.to_rfc3339(), "2026-11-23T04:56:59.893123Z");
        assert_eq!(Timestamp::parse_rfc3339(&t.to_rfc3339()).ok(), Some(t.floor_micros()));
        assert_eq!(t.to_stamp(), "20261123T045659Z");
        assert_eq!(t.to_rfc3339_secs(), "2026-11-23T04:56:59Z");
    }

    #[test]
    fn rtp_time_takes_the_nearer_way_round() {
        assert_eq!(RtpTime(5).wrapping_since(RtpTime(u32::MAX - 4)), 10);
        assert_eq!(RtpTime(u32::MAX - 4).wrapping_since(RtpTime(5)), -10);
    }
}
