//! Numbers of calls by verdict (whether a call can be heard) and by delivery state, as a line of text.

use std::fmt;

use crate::call::record::{CallRecord, CallVerdict};
use crate::journal::PeriodTotals;

/// Numbers of calls by verdict. Displayed e.g. as `214 calls: 198 both sides, 3 one side, 11 not answered, 2
/// encrypted`.
#[derive(Clone, Debug, Default)]
pub(crate) struct VerdictTotals {
    calls: u64,
    groups: [u64; GROUPS.len()],
}

impl VerdictTotals {
    /// Adds one finished call to the totals.
    pub(crate) fn add(&mut self, record: &CallRecord) {
        self.add_many(record.verdict, 1);
    }

    fn add_many(&mut self, verdict: Option<CallVerdict>, calls: u64) {
        self.calls += calls;
        let group = GROUPS.iter().position(|(_, verdicts)| match verdict {
            None => verdicts.is_empty(),
            Some(verdict) => verdicts.contains(&verdict),
        });
        if let Some(count) = group.and_then(|at| self.groups.get_mut(at)) {
            *count += calls;
        }
    }
}

impl fmt::Display for VerdictTotals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counted = self.groups.iter().zip(GROUPS).filter(|(n, _)| **n > 0);
        let parts: Vec<String> = counted.map(|(n, (name, _))| format!("{n} {name}")).collect();
        match self.calls {
            0 => write!(f, "No calls."),
            1 => write!(f, "1 call: {}", parts.join(", ")),
            n => write!(f, "{n} calls: {}", parts.join(", ")),
        }
    }
}

/// Returns the totals of a period (an hour or a day) in one line. Example: `214 calls: 198 both sides, 11 not answered;
/// 209 delivered, 2 owed`.
pub(crate) fn sentence(totals: &PeriodTotals) -> String {
    let mut verdicts = VerdictTotals::default();
    totals.verdicts.iter().for_each(|(verdict, calls)| verdicts.add_many(*verdict, *calls));
    let states = [
        (totals.delivered, "delivered"),
        (totals.owed, "owed"),
        (totals.parked, "parked"),
        (totals.dead, "not deliverable"),
    ];
    let parts: Vec<String> = states.iter().filter(|(n, _)| *n > 0).map(|(n, name)| format!("{n} {name}")).collect();
    let separator = if parts.is_empty() { "" } else { "; " };
    format!("{verdicts}{separator}{}", parts.join(", "))
}

/// Groups of verdicts (whether a call can be heard) in the line of totals: the name of each group, and its verdicts.
/// The last group counts calls without a verdict.
const GROUPS: [(&str, &[CallVerdict]); 9] = [
    ("both sides", &[CallVerdict::BothSides]),
    ("one side", &[CallVerdict::CallerOnly, CallVerdict::CalleeOnly]),
    ("excluded by a rule", &[CallVerdict::Excluded]),
    ("not answered", &[CallVerdict::NotAnswered]),
    ("encrypted", &[CallVerdict::Encrypted]),
    ("with a codec that has no decoder", &[CallVerdict::UnknownCodec]),
    ("without media", &[CallVerdict::NoMedia]),
    ("failed", &[CallVerdict::Failed]),
    ("under way", &[]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_one_line() {
        let totals = PeriodTotals {
            verdicts: vec![
                (Some(CallVerdict::BothSides), 198),
                (Some(CallVerdict::CallerOnly), 2),
                (Some(CallVerdict::CalleeOnly), 1),
                (Some(CallVerdict::NotAnswered), 11),
                (None, 2),
            ],
            delivered: 209,
            owed: 2,
            ..PeriodTotals::default()
        };
        let line = "214 calls: 198 both sides, 3 one side, 11 not answered, 2 under way; 209 delivered, 2 owed";
        assert_eq!(sentence(&totals), line);
        assert_eq!(sentence(&PeriodTotals::default()), "No calls.");
    }
}
