//! Two IP addresses (hosts) that were learnt to belong to one machine, as stored in the state folder.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{CALLS_TO_BELIEVE, DISTRUST};
use crate::time::Timestamp;

/// Two IP addresses of one machine, as learnt from calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachinePair {
    /// The lower of the two addresses.
    pub a: IpAddr,
    /// The higher of the two addresses.
    pub b: IpAddr,
    /// Kind of evidence that both addresses belong to one machine.
    pub by: PairEvidence,
    /// Number of calls that showed both addresses to belong to one machine. A call that proved it by media content
    /// counts twice. Until the hosts count as one machine, calls between the same numbers count once.
    pub seen: u32,
    /// Number of calls that showed the addresses to belong to two machines. `seen` and `against` begin again at 0 when
    /// `distrusted_until` is set.
    pub against: u32,
    /// Wall-clock time of the first call that showed both addresses to belong to one machine.
    pub first_at: Timestamp,
    /// Wall-clock time of the newest call that showed both addresses to belong to one machine.
    pub last_at: Timestamp,
    /// Wall-clock time until which the addresses do not count as one machine, because calls showed that they belong to
    /// two machines. `None` if no call showed this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distrusted_until: Option<Timestamp>,
}

/// Kind of evidence that two hosts are one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PairEvidence {
    /// Two legs of one call began, were answered and ended at the same times.
    SameMoments,
    /// Two legs of one call carried the same media content.
    MediaContent,
}

impl MachinePair {
    pub(super) const fn new((a, b): (IpAddr, IpAddr), at: Timestamp) -> Self {
        let by = PairEvidence::SameMoments;
        Self { a, b, by, seen: 0, against: 0, first_at: at, last_at: at, distrusted_until: None }
    }

    /// Returns whether the two hosts count as one machine, i.e. whether at least [`CALLS_TO_BELIEVE`] calls showed
    /// this.
    pub const fn is_believed(&self) -> bool {
        self.seen >= CALLS_TO_BELIEVE
    }

    /// Counts a call that shows both addresses to belong to one machine. A call that proves this by media content
    /// counts twice, so two such calls are enough for [`MachinePair::is_believed`]. Counts nothing until
    /// `distrusted_until`.
    pub(super) fn observe(&mut self, by: PairEvidence, at: Timestamp) {
        self.last_at = self.last_at.max(at);
        if self.distrusted_until.is_some_and(|until| at < until) {
            return;
        }
        self.distrusted_until = None;
        let weight = match by {
            PairEvidence::SameMoments => 1,
            PairEvidence::MediaContent => 2,
        };
        if by == PairEvidence::MediaContent {
            self.by = by;
        }
        self.seen = self.seen.saturating_add(weight);
    }

    /// Counts a call that shows that the addresses belong to two machines. After too many such calls, the addresses do
    /// not count as one machine for [`DISTRUST`].
    pub(super) fn contradict(&mut self, at: Timestamp) {
        self.against = self.against.saturating_add(1);
        if self.against >= TOO_MANY_AGAINST || self.against.saturating_mul(LEAST_SEEN_FOR_ONE_AGAINST) > self.seen {
            (self.seen, self.against) = (0, 0);
            self.distrusted_until = Some(at + DISTRUST);
        }
    }
}

/// Number of contradicting calls after which two addresses no longer count as one machine.
const TOO_MANY_AGAINST: u32 = 2;
/// Minimum number of confirming calls for each contradicting call. With fewer confirming calls, two addresses no longer
/// count as one machine.
const LEAST_SEEN_FOR_ONE_AGAINST: u32 = 10;
