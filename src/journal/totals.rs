//! Totals of the calls in a period, for the log and for `callspan status`.

use rusqlite::params;

use super::{Journal, JournalResult};
use crate::call::record::{CallVerdict, DeliveryState};
use crate::delivery::JobStage;
use crate::time::Timestamp;

/// Totals of the calls that began in a period.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PeriodTotals {
    /// Number of calls for each verdict. Calls without a verdict are in progress, or their recordings are still to be
    /// made.
    pub(crate) verdicts: Vec<(Option<CallVerdict>, u64)>,
    /// Number of calls that were delivered to Pyrus completely.
    pub(crate) delivered: u64,
    /// Number of calls that are still to be delivered to Pyrus.
    pub(crate) owed: u64,
    /// Number of calls with a parked delivery, about which a person must decide.
    pub(crate) parked: u64,
    /// Number of calls with a delivery that was given up.
    pub(crate) dead: u64,
}

impl Journal {
    /// Returns the totals of the calls that began in a period.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn totals(&self, from: Timestamp, until: Timestamp) -> JournalResult<PeriodTotals> {
        let connection = self.lock();
        let mut totals = PeriodTotals::default();
        let period = params![from.as_micros(), until.as_micros()];
        let mut verdicts = connection.prepare_cached(
            "SELECT verdict, count(*) FROM calls INDEXED BY calls_by_begin
             WHERE coalesce(invited_at, answered_at, ended_at, 0) >= ?1
             AND coalesce(invited_at, answered_at, ended_at, 0) < ?2 GROUP BY verdict",
        )?;
        let mut rows = verdicts.query(period)?;
        while let Some(row) = rows.next()? {
            let word: Option<String> = row.get(0)?;
            let verdict = word.and_then(|word| serde_json::from_value(serde_json::Value::String(word)).ok());
            totals.verdicts.push((verdict, u64::from(row.get::<_, u32>(1)?)));
        }
        let mut stages = connection.prepare_cached(
            "SELECT d.stage, count(*) FROM calls c INDEXED BY calls_by_begin JOIN deliveries d ON d.id = c.id
             WHERE coalesce(c.invited_at, c.answered_at, c.ended_at, 0) >= ?1
             AND coalesce(c.invited_at, c.answered_at, c.ended_at, 0) < ?2 GROUP BY d.stage",
        )?;
        let mut rows = stages.query(period)?;
        while let Some(row) = rows.next()? {
            let (stage, calls): (String, u64) = (row.get(0)?, u64::from(row.get::<_, u32>(1)?));
            match JobStage::from_word(&stage).unwrap_or_default().delivery_state() {
                DeliveryState::Done => totals.delivered += calls,
                DeliveryState::Parked => totals.parked += calls,
                DeliveryState::Dead => totals.dead += calls,
                DeliveryState::Owed | DeliveryState::None => totals.owed += calls,
            }
        }
        Ok(totals)
    }

    /// Returns the average size of one day's recordings over the last week, bytes. If the oldest recording is younger
    /// than a week, the average covers only the days since then. Returns `None` without recordings.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn recorded_bytes_a_day(&self, now: Timestamp) -> JournalResult<Option<u64>> {
        let Some(oldest) = self.oldest_recorded_at()? else { return Ok(None) };
        let bytes = self.recorded_bytes_since(now - WEEK)?;
        let recording = now.since(oldest).clamp(DAY, WEEK);
        Ok(u64::try_from(u128::from(bytes) * DAY.as_millis() / recording.as_millis()).ok())
    }

    /// Returns the total size of the recordings of calls that began at or after a time, bytes.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    fn recorded_bytes_since(&self, from: Timestamp) -> JournalResult<u64> {
        let bytes: i64 = self.lock().query_row(
            "SELECT coalesce(sum(bytes), 0) FROM recordings WHERE state = 'present' AND at >= ?1",
            params![from.as_micros()],
            |row| row.get(0),
        )?;
        Ok(u64::try_from(bytes).unwrap_or(0))
    }

    /// Returns the time of the oldest recording that was not removed; `None` if there is none.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    fn oldest_recorded_at(&self) -> JournalResult<Option<Timestamp>> {
        let oldest = "SELECT min(at) FROM recordings WHERE state = 'present'";
        let micros: Option<i64> = self.lock().query_row(oldest, [], |row| row.get(0))?;
        Ok(micros.map(Timestamp::from_micros))
    }
}

const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);
/// Time over which the growth of the recordings is measured. A week includes working days and a weekend.
const WEEK: std::time::Duration = std::time::Duration::from_secs(7 * 86_400);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::record::{CallRecord, RecordingFile};
    use crate::journal::CallStage;

    #[test]
    fn pace_of_the_first_week_counts_the_days_with_recordings_alone() {
        // There are two calls with recordings of 70 MB each. The first call was `days` ago, the second call is today.
        for (days, expected_mb) in [(0, 140), (1, 140), (2, 70), (7, 20), (30, 10)] {
            let journal = Journal::open_in_memory().unwrap();
            let now = Timestamp::from_secs(1_795_424_400);
            for (id, at) in [("a", now - days * DAY), ("b", now - DAY / 24)] {
                let recording =
                    RecordingFile { bytes: 70_000_000, ..RecordingFile::sample(&format!("{id}.wav"), at, 4_375.0) };
                let record = CallRecord {
                    id: id.to_owned(),
                    invited_at: Some(at),
                    recordings: vec![recording],
                    ..CallRecord::default()
                };
                journal.put_call(&record, CallStage::Complete).unwrap();
            }
            assert_eq!(journal.recorded_bytes_a_day(now).unwrap(), Some(expected_mb * 1_000_000), "{days} days");
        }
        assert_eq!(Journal::open_in_memory().unwrap().recorded_bytes_a_day(Timestamp::EPOCH).unwrap(), None);
    }
}
