//! Voice prints: hashes of short blocks of voice, each with the second of its capture. By them a central archive finds
//! that two sites heard the same call, although nothing in the signalling shows it.

use serde::{Deserialize, Serialize};

/// Voice prints of a leg, for each side that spoke.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoicePrints {
    /// Prints of the caller's voice, in ascending order of their hashes.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub caller: Vec<VoicePrint>,
    /// Prints of the callee's voice, in ascending order of their hashes.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub callee: Vec<VoicePrint>,
}

impl VoicePrints {
    /// Returns whether no side has a voice print.
    pub(crate) fn is_empty(&self) -> bool {
        self.caller.is_empty() && self.callee.is_empty()
    }

    /// Adds `nanos` nanoseconds to the times of all voice prints, rounded to whole seconds.
    pub(crate) fn offset(&mut self, nanos: i64) {
        let seconds = nanos.saturating_add(NANOS_PER_SECOND / 2).div_euclid(NANOS_PER_SECOND);
        for print in self.caller.iter_mut().chain(&mut self.callee) {
            print.second = u32::try_from(i64::from(print.second).saturating_add(seconds)).unwrap_or(0);
        }
    }
}

/// A voice print: the hash of a short block of voice, and its time. Its JSON form has 16 hexadecimal digits: first the
/// time, then the hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct VoicePrint {
    /// Time of the block of voice in seconds since the Unix epoch: wall-clock time in a record.
    pub second: u32,
    /// Hash of the bytes of the block of voice.
    pub hash: u32,
}

impl From<VoicePrint> for String {
    fn from(print: VoicePrint) -> Self {
        format!("{:08x}{:08x}", print.second, print.hash)
    }
}

impl TryFrom<String> for VoicePrint {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let number = u64::from_str_radix(&text, 16)?;
        Ok(Self { second: (number >> 32) as u32, hash: number as u32 })
    }
}

/// Number of nanoseconds in a second.
const NANOS_PER_SECOND: i64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_are_hexadecimal_texts() {
        let print = VoicePrint { second: 0x692b_5c10, hash: 0xa1 };
        let prints = VoicePrints { caller: vec![print], callee: Vec::new() };
        let json = serde_json::to_string(&prints).unwrap();
        assert_eq!(json, r#"{"caller":["692b5c10000000a1"]}"#);
        assert_eq!(serde_json::from_str::<VoicePrints>(&json).unwrap(), prints);
        assert!(serde_json::from_str::<VoicePrints>(r#"{"caller":["voice"]}"#).is_err());
    }

    #[test]
    fn times_move_to_the_nearest_second() {
        let mut prints = VoicePrints {
            caller: vec![VoicePrint { second: 100, hash: 1 }],
            callee: vec![VoicePrint { second: 1, hash: 2 }],
        };
        prints.offset(-1_600_000_000);
        assert_eq!((prints.caller[0].second, prints.callee[0].second), (98, 0), "no time is before the epoch");
    }
}
