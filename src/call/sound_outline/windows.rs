//! Numbers of time windows in which two sounds agree. A window has four seconds.
//!
//! By chance, some windows of two different speeches look alike. The more windows are compared, the more look alike by
//! chance. If a machine passes a sound on, consecutive windows agree, at the same delay.

use crate::call::sound_outline::LEAST_WINDOWS;

/// The result of comparing two sounds in consecutive time windows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct WindowCount {
    /// Number of time windows in which both sounds agree.
    pub(super) same: usize,
    /// Number of time windows (of four seconds each) that were compared.
    pub(super) all: usize,
    /// Greatest number of consecutive windows that agree at the same delay.
    run: usize,
}

impl WindowCount {
    /// Counts windows in order of time. For each window, `windows` has the delays between the two sounds at which they
    /// agree, one bit for each delay. Ends as soon as `is_enough` says that more windows cannot change the result.
    pub(super) fn of(windows: impl Iterator<Item = u16>, is_enough: impl Fn(Self) -> bool) -> Self {
        let (mut count, mut length, mut common) = (Self::default(), 0, 0);
        for delays in windows {
            (length, common) = match (common & delays, delays) {
                (_, 0) => (0, 0),
                (0, _) => (1, delays),
                (common, _) => (length + 1, common),
            };
            count.all += 1;
            count.same += usize::from(delays != 0);
            count.run = count.run.max(length);
            if is_enough(count) {
                break;
            }
        }
        count
    }

    /// Returns whether enough windows agree for both sounds to count as the same.
    pub(super) const fn is_same(self) -> bool {
        self.same >= 2 && (self.all <= FEW_WINDOWS || self.run >= LEAST_RUN || self.same * 4 >= self.all)
    }

    /// Returns whether the two sounds are the same, whatever is heard later: more than [`LEAST_RUN`] consecutive
    /// windows agree.
    pub(super) const fn is_proven(self) -> bool {
        self.run > LEAST_RUN
    }

    /// Returns whether the two sounds differ. Among many windows, a few that agree by chance do not count.
    pub(super) const fn is_different(self) -> bool {
        let is_by_chance = self.all > FEW_WINDOWS && self.run < 2 && self.same * 8 <= self.all;
        self.all >= LEAST_WINDOWS && (self.same == 0 || is_by_chance)
    }
}

/// Maximum number of windows (12 windows cover 26 s) among which two that agree prove the same sound. Among more
/// windows, two may agree by chance.
const FEW_WINDOWS: usize = 12;
/// Number of consecutive windows (3 windows cover 8 s) that must agree to prove the same sound if more than
/// [`FEW_WINDOWS`] were compared.
const LEAST_RUN: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scattered_windows_prove_nothing_among_many() {
        let windows = |list: &[u16]| WindowCount::of(list.iter().copied(), |_| false);
        assert!(windows(&[0, 0, 4, 0, 0, 4, 0, 0, 0]).is_same());
        let mut long = [0; 24];
        (long[3], long[17]) = (4, 4);
        assert!(windows(&long).is_different() && !windows(&long).is_same());
        // Windows 17 to 19 agree at three different delays. These are three chances and no run of three windows.
        (long[18], long[19]) = (2, 1);
        assert!(!windows(&long).is_same());
        long[17..20].fill(6);
        assert!(windows(&long).is_same() && !windows(&long).is_proven());
        long[20] = 2;
        assert!(windows(&long).is_proven());
        let mut rest = long.into_iter();
        assert!(WindowCount::of(rest.by_ref(), WindowCount::is_proven).is_proven());
        assert_eq!(rest.len(), 3, "the windows after the proof are not examined");
    }
}
