//! The sound of a leg after its first seconds, as long as it is undecided whether another leg has the same sound.
//!
//! After an answer, a PBX may play an announcement to one leg only. Then the first seconds of two legs of one call
//! differ, and only the talk after the announcement shows that they belong together. So the sound is measured further.
//! Of these measurements, only the newest seconds stay, until the comparison of both legs has a result or a leg ends.

use std::time::Duration;

use crate::call::record::Side;
use crate::call::sound_outline::windows::WindowCount;
use crate::call::sound_outline::{LEAST_POINTS, LEAST_WINDOWS, LISTEN_TIME, SideSound, SoundOutline, TENTH_NS, WINDOW};
use crate::time::Timestamp;

/// State of the comparison of two legs' sounds, while the legs are live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ComparisonState {
    /// Both are the same sound. Later sound does not change this.
    Proven,
    /// The sounds differ so far. They may become the same, e.g. after an announcement.
    Open,
    /// There is too little sound to compare.
    Idle,
}

/// For each tenth of a second in which a side was loud, oldest first: whether another leg sent packets at the same
/// time.
pub(super) struct PassedOn(Vec<bool>);

impl SoundOutline {
    /// Measures the sound of the leg for [`FOLLOW_TIME`] after `at`. Removes measurements that are not kept and older
    /// than [`LISTEN_TIME`].
    pub(crate) fn follow(&mut self, at: Timestamp) {
        self.until = self.until.max(at + FOLLOW_TIME);
        let first = at.as_nanos().saturating_sub(LISTEN_TIME.as_nanos() as i64).div_euclid(TENTH_NS);
        self.points.retain(|point| point.is_kept || point.tenth >= first);
    }

    /// Keeps all measurements, also those that would be removed after some seconds (rolling).
    pub(crate) fn keep(&mut self) {
        self.points.iter_mut().for_each(|point| point.is_kept = true);
    }

    /// Returns the state of the comparison: whether one side of this leg sounds like a side of another leg.
    ///
    /// Needs more equal time windows than [`SoundOutline::compare`]. In a long call, some windows of two different
    /// speeches look alike by chance.
    pub(crate) fn comparison_state(&self, side: Side, other: &Self, other_side: Side) -> ComparisonState {
        let count = self.count_windows((side, LEAST_POINTS), other, other_side, WindowCount::is_proven);
        match count.all {
            _ if count.is_proven() => ComparisonState::Proven,
            LEAST_WINDOWS.. => ComparisonState::Open,
            _ if self.passed_on(side, other, other_side).has_missing_part() => ComparisonState::Open,
            _ => ComparisonState::Idle,
        }
    }

    /// Returns for each tenth of a second in which this side was loud whether another leg sent packets then. Only the
    /// time between the first and the last measurement of the other leg is examined.
    pub(super) fn passed_on(&self, side: Side, other: &Self, other_side: Side) -> PassedOn {
        let span = other.points.first().zip(other.points.last()).map(|(first, last)| first.tenth..=last.tenth);
        let heard = self.points.iter().filter(|point| {
            let is_heard = point.sides[side.channel()].is_some_and(SideSound::is_loud);
            is_heard && span.as_ref().is_some_and(|span| span.contains(&point.tenth))
        });
        PassedOn(heard.map(|point| other.sound_at(point.tenth, other_side).is_some()).collect())
    }
}

impl PassedOn {
    /// Returns whether the other leg lacks sound of this side: while this side was loud, the other leg sent almost no
    /// packets for some seconds. Returns false if it sent packets during at least half of the newest loud seconds.
    pub(super) fn is_missing(&self) -> bool {
        let newest = &self.0[self.0.len().saturating_sub(NEWEST_POINTS)..];
        self.has_missing_part() && count(newest) * 2 < newest.len()
    }

    /// Returns whether the other leg sent almost nothing during a part of this side's sound. A part has 200 loud tenths
    /// of a second, i.e. 20 s without the pauses.
    fn has_missing_part(&self) -> bool {
        let is_missing = |part: &[bool]| part.len() >= WINDOW && count(part) * MISSING_SHARE <= part.len();
        self.0.chunks(PART_POINTS).any(is_missing)
    }
}

fn count(passed: &[bool]) -> usize {
    passed.iter().filter(|is_passed| **is_passed).count()
}

/// Interval at which two sounds are compared again, as long as it is undecided whether they are the same.
pub(crate) const FOLLOW_TIME: Duration = Duration::from_secs(10);
/// Number of loud tenths of a second in each part of a side's sound that is examined: 20 s, as long as [`LISTEN_TIME`].
const PART_POINTS: usize = 200;
/// Number of the newest loud tenths of a second of a side that are examined: 6 s. If the other leg sent packets during
/// half of them or more, it does not lack this side's sound.
const NEWEST_POINTS: usize = 60;
/// Divisor for a missing part: the other leg sent packets at no more than a tenth of the loud points of the part.
const MISSING_SHARE: usize = 10;
