//! Totals of the calls in a period, for the log and for `callspan status`.

use rusqlite::params;

use super::{Journal, JournalResult};
use crate::call::record::{CallVerdict, DeliveryState};
use crate::delivery::JobStage;
use crate::time::Timestamp;

/// Totals of the calls that began in a period.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PeriodTotals {
    /// Number of calls for each verdict. Calls without a verdict are in progress or still to be rendered.
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

    /// Returns the total size of the recordings of calls that began at or after a time, bytes.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn recorded_bytes_since(&self, from: Timestamp) -> JournalResult<u64> {
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
    pub(crate) fn oldest_recorded_at(&self) -> JournalResult<Option<Timestamp>> {
        let oldest = "SELECT min(at) FROM recordings WHERE state = 'present'";
        let micros: Option<i64> = self.lock().query_row(oldest, [], |row| row.get(0))?;
        Ok(micros.map(Timestamp::from_micros))
    }
}
