//! Searches by time: the first calls after a time, and the number of calls in each slot (time span) of a day.

use std::time::Duration;

use rusqlite::params_from_iter;

use super::calls::StoredCall;
use super::search::{CallSearch, HeardClass, SqlCondition, calls_of};
use super::{Journal, JournalResult};
use crate::time::Timestamp;

/// Number of calls of one class that began in one slot, e.g. in one quarter of an hour. The class says how much of a
/// call can be heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotCount {
    /// Start of the slot (time span), UTC.
    pub begin: Timestamp,
    /// Class of the counted calls, i.e. how much of each call can be heard.
    pub class: HeardClass,
    /// Number of calls of this class that began in the slot.
    pub calls: u64,
}

impl Journal {
    /// Returns the `limit` oldest calls that a search finds, oldest first. If the search has a `since`, the database
    /// index of start times is read from that time on.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn first_calls(&self, search: &CallSearch, limit: u32) -> JournalResult<Vec<StoredCall>> {
        let condition = SqlCondition::of(search)?;
        let sql =
            format!("SELECT s.id FROM call_search s WHERE {} ORDER BY s.begin, s.id LIMIT {limit}", condition.sql());
        calls_of(&self.lock(), &sql, condition.values)
    }

    /// Counts the calls that a search finds, by class (how much can be heard) and by time slot. Slots have the length
    /// `slot` and are aligned to the Unix epoch. The result is sorted by time.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn count_by_slot(&self, search: &CallSearch, slot: Duration) -> JournalResult<Vec<SlotCount>> {
        let condition = SqlCondition::of(search)?;
        let slot_us = i64::try_from(slot.as_micros()).unwrap_or(i64::MAX).max(1);
        let sql = format!(
            "SELECT s.begin / {slot_us}, s.heard, count(*) FROM call_search s WHERE {} GROUP BY 1, 2 ORDER BY 1",
            condition.sql()
        );
        let connection = self.lock();
        let rows: Vec<(i64, String, i64)> = connection
            .prepare_cached(&sql)?
            .query_map(params_from_iter(condition.values), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<rusqlite::Result<_>>()?;
        let count = |(slot, word, calls): &(i64, String, i64)| {
            let begin = Timestamp::from_micros(slot.saturating_mul(slot_us));
            Some(SlotCount { begin, class: HeardClass::parse(word)?, calls: u64::try_from(*calls).ok()? })
        };
        Ok(rows.iter().filter_map(count).collect())
    }
}
