//! The calls, their legs and their files.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params, params_from_iter};
use serde::Serialize;

use super::{Journal, JournalResult, deliveries, retention};
use crate::call::event::Registration;
use crate::call::record::{CallRecord, DeliveryState, Verdict};
use crate::time::Timestamp;

/// How far a call has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallStage {
    /// Under way.
    Live,
    /// Over; its sound is still to be rendered.
    Ended,
    /// Its record is final.
    Complete,
}

impl CallStage {
    /// The word in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Ended => "ended",
            Self::Complete => "complete",
        }
    }

    pub(super) fn read(text: &str) -> Self {
        match text {
            "live" => Self::Live,
            "ended" => Self::Ended,
            _ => Self::Complete,
        }
    }
}

/// A call as it stands in the journal.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredCall {
    /// How far it has come.
    pub stage: CallStage,
    /// The record, with `delivery` as the journal knows it now.
    pub record: CallRecord,
}

/// What became of a leg's spool file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LegSpoolState {
    /// Packets are still added.
    Open,
    /// Whole, to be rendered.
    Closed,
    /// Its sound is in a recording.
    Rendered,
    /// The file is gone.
    Removed,
}

impl LegSpoolState {
    /// The word in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Rendered => "rendered",
            Self::Removed => "removed",
        }
    }

    fn read(text: &str) -> Self {
        match text {
            "open" => Self::Open,
            "closed" => Self::Closed,
            "rendered" => Self::Rendered,
            _ => Self::Removed,
        }
    }
}

/// A leg's spool file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegRow {
    /// Stem of the file.
    pub name: String,
    /// Index into `record.legs`.
    pub index: u32,
    /// Whether its caller is the record's caller.
    pub same_sides: bool,
    /// What became of the file.
    pub state: LegSpoolState,
}

/// Which calls to list; every given condition must hold.
#[derive(Clone, Debug, Default)]
pub struct CallFilter {
    /// Begun at or after.
    pub since: Option<Timestamp>,
    /// Begun before.
    pub until: Option<Timestamp>,
    /// Part of either number.
    pub number: Option<String>,
    /// The extension, whole.
    pub extension: Option<String>,
    /// The verdict.
    pub verdict: Option<Verdict>,
    /// Where delivery stands.
    pub delivery: Option<DeliveryState>,
    /// At most so many, the newest.
    pub limit: Option<u32>,
}

impl Journal {
    /// Writes or replaces a call and its recordings' rows.
    ///
    /// # Errors
    /// See [`super::Error`].
    pub fn put_call(&self, record: &CallRecord, stage: CallStage) -> JournalResult<()> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        put_call(&transaction, record, stage)?;
        transaction.commit()?;
        Ok(())
    }

    /// The same, and that delivery is still to be told of it: until [`Journal::mark_announced`] the call is among
    /// [`Journal::calls_to_announce`].
    ///
    /// # Errors
    /// See [`super::Error`]; nothing is written then.
    pub fn put_call_for_delivery(
        &self,
        record: &CallRecord,
        stage: CallStage,
        registration: Registration,
    ) -> JournalResult<()> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        put_call(&transaction, record, stage)?;
        retention::put_to_announce(&transaction, &record.id, registration)?;
        transaction.commit()?;
        Ok(())
    }

    /// Writes or replaces a call of which parts may have been made already: they stay in its record. With `to_tell`,
    /// delivery is still to be told of it. Gives the record as it stands now.
    ///
    /// # Errors
    /// See [`super::Error`]; nothing is written then.
    pub fn put_call_with_segments(
        &self,
        record: &CallRecord,
        stage: CallStage,
        to_tell: Option<Registration>,
    ) -> JournalResult<CallRecord> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        let mut record = record.clone();
        if let Some((_, earlier)) = stored(&transaction, &record.id)? {
            record.take_parts(&earlier);
            // Of a live call only its withdrawal has a verdict.
            if stage == CallStage::Live && record.verdict.is_none() {
                (record.verdict, record.verdict_reason) = (earlier.verdict, earlier.verdict_reason);
            }
        }
        put_call(&transaction, &record, stage)?;
        if let Some(registration) = to_tell {
            retention::put_to_announce(&transaction, &record.id, registration)?;
        }
        transaction.commit()?;
        Ok(record)
    }

    /// Enters parts that were made of a call while it was live: `live` is its record with all its parts. The rest of its
    /// row stays as it is. Gives the record as it stands now; `None`: the call is complete, its parts are what they are.
    ///
    /// # Errors
    /// See [`super::Error`]; nothing is written then.
    pub fn put_segments(&self, live: &CallRecord, to_tell: Option<Registration>) -> JournalResult<Option<CallRecord>> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        let (stage, record) = match stored(&transaction, &live.id)? {
            Some((CallStage::Complete, _)) => return Ok(None),
            Some((stage, mut record)) => {
                record.take_parts(live);
                (stage, record)
            }
            None => (CallStage::Live, live.clone()),
        };
        put_call(&transaction, &record, stage)?;
        if let Some(registration) = to_tell {
            retention::put_to_announce(&transaction, &record.id, registration)?;
        }
        transaction.commit()?;
        Ok(Some(record))
    }

    /// A rule forbids a call of which parts were made: they are marked as removed, before their files are, and the record
    /// says why. Gives the record with its recordings, for the last time; `None`: there is nothing to withdraw.
    ///
    /// # Errors
    /// See [`super::Error`]; nothing is written then.
    pub fn withdraw_segments(&self, id: &str, at: Timestamp, why: &str) -> JournalResult<Option<CallRecord>> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        let Some((stage, record)) = stored(&transaction, id)?.filter(|(_, r)| !r.recordings.is_empty()) else {
            return Ok(None);
        };
        let mut without = CallRecord { recordings: Vec::new(), ..record.clone() };
        without.legs.iter_mut().for_each(|leg| leg.rendered = false);
        without.verdict = Some(Verdict::Excluded);
        without.verdict_reason.get_or_insert_with(|| String::from(why));
        put_call(&transaction, &without, stage)?;
        transaction.execute(
            "UPDATE recordings SET state = 'removed', removed_at = ?2, removed_why = ?3
             WHERE call_id = ?1 AND state = 'present'",
            params![id, at.as_micros(), why],
        )?;
        transaction.commit()?;
        Ok(Some(record))
    }

    /// Marks a recording's file as removed; done before the file is.
    ///
    /// # Errors
    /// See [`super::Error`].
    pub fn mark_recording_removed(&self, id: &str, part: u32) -> JournalResult<()> {
        self.lock()
            .execute("UPDATE recordings SET state = 'removed' WHERE call_id = ?1 AND part = ?2", params![id, part])?;
        Ok(())
    }

    /// Writes or replaces a leg of a call.
    ///
    /// # Errors
    /// See [`super::Error`].
    pub fn put_leg(&self, call_id: &str, leg: &LegRow) -> JournalResult<()> {
        Ok(put_leg(&self.lock(), call_id, leg)?)
    }

    /// The legs of a call in the order of its record.
    ///
    /// # Errors
    /// See [`super::Error`].
    pub fn legs(&self, call_id: &str) -> JournalResult<Vec<LegRow>> {
        let connection = self.lock();
        let mut statement = connection
            .prepare("SELECT name, idx, same_sides, state FROM legs WHERE call_id = ?1 ORDER BY idx, name")?;
        let legs = statement
            .query_map(params![call_id], |row| {
                Ok(LegRow {
                    name: row.get(0)?,
                    index: row.get(1)?,
                    same_sides: row.get(2)?,
                    state: LegSpoolState::read(&row.get::<_, String>(3)?),
                })
            })?
            .collect::<rusqlite::Result<_>>()?;
        Ok(legs)
    }

    /// One call.
    ///
    /// # Errors
    /// See [`super::Error`].
    pub fn call(&self, id: &str) -> JournalResult<Option<StoredCall>> {
        let connection = self.lock();
        let found = connection
            .query_row("SELECT stage, record FROM calls WHERE id = ?1", params![id], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
            })
            .optional()?;
        found.map(|(stage, json)| with_delivery(&connection, &stage, &json)).transpose()
    }

    /// Calls whose record is not final: what a start has to go on with.
    ///
    /// # Errors
    /// See [`super::Error`].
    pub fn unfinished_calls(&self) -> JournalResult<Vec<StoredCall>> {
        self.select("stage <> 'complete' ORDER BY id", &[])
    }

    /// Lists calls in the order of their time; all of them in memory: [`Journal::call_pages`] gives them piece by piece.
    ///
    /// # Errors
    /// See [`super::Error`].
    pub fn calls(&self, filter: &CallFilter) -> JournalResult<Vec<StoredCall>> {
        let mut calls = Vec::new();
        for page in self.call_pages(filter, self.cursor_before_newest(filter)?)? {
            calls.extend(page?);
        }
        Ok(calls)
    }

    /// Calls in the order of their time, those after a place, [`PAGE`] at a time: between two pages others may use the
    /// journal. The limit of the filter does not count here, see [`Journal::cursor_before_newest`].
    ///
    /// # Errors
    /// See [`super::Error`].
    pub fn call_pages(&self, filter: &CallFilter, after: Option<CallCursor>) -> JournalResult<CallPages<'_>> {
        let (conditions, values) = conditions(filter)?;
        let sql = format!(
            "SELECT stage, record, {BEGIN}, id FROM calls {BY_BEGIN} WHERE {conditions} AND {BEGIN} >= ?
             AND ({BEGIN} > ? OR id > ?) ORDER BY {BEGIN}, id LIMIT {PAGE}"
        );
        let after = after.unwrap_or(CallCursor { begin: i64::MIN, id: String::new() });
        Ok(CallPages { journal: self, sql, values, after: Some(after) })
    }

    /// Behind which place the newest calls begin, as many as the filter asks for; `None`: all of them do.
    ///
    /// # Errors
    /// See [`super::Error`].
    pub fn cursor_before_newest(&self, filter: &CallFilter) -> JournalResult<Option<CallCursor>> {
        let Some(limit) = filter.limit else { return Ok(None) };
        let (conditions, values) = conditions(filter)?;
        let sql = format!(
            "SELECT {BEGIN}, id FROM calls {BY_BEGIN} WHERE {conditions} ORDER BY {BEGIN} DESC, id DESC
             LIMIT 1 OFFSET {limit}"
        );
        let connection = self.lock();
        let place = |row: &rusqlite::Row<'_>| Ok(CallCursor { begin: row.get(0)?, id: row.get(1)? });
        Ok(connection.query_row(&sql, params_from_iter(values), place).optional()?)
    }

    /// `tail` is made of constants here; what comes from outside is in `values`.
    fn select(&self, tail: &str, values: &[Value]) -> JournalResult<Vec<StoredCall>> {
        let connection = self.lock();
        let mut statement = connection.prepare(&format!("SELECT stage, record FROM calls WHERE {tail}"))?;
        let rows: Vec<(String, String)> = statement
            .query_map(params_from_iter(values), |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        rows.iter().map(|(stage, json)| with_delivery(&connection, stage, json)).collect()
    }
}

/// A place in the order of calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallCursor {
    begin: i64,
    id: String,
}

/// See [`Journal::call_pages`].
#[derive(Debug)]
pub struct CallPages<'j> {
    journal: &'j Journal,
    sql: String,
    values: Vec<Value>,
    /// `None`: it is over.
    after: Option<CallCursor>,
}

impl CallPages<'_> {
    fn page(&mut self, after: &CallCursor) -> JournalResult<Vec<StoredCall>> {
        let mut values = self.values.clone();
        values.extend([after.begin.into(), after.begin.into(), after.id.clone().into()]);
        let connection = self.journal.lock();
        let mut statement = connection.prepare_cached(&self.sql)?;
        let mut rows = statement.query(params_from_iter(values))?;
        let mut calls = Vec::new();
        while let Some(row) = rows.next()? {
            let (stage, json): (String, String) = (row.get(0)?, row.get(1)?);
            calls.push(with_delivery(&connection, &stage, &json)?);
            self.after = Some(CallCursor { begin: row.get(2)?, id: row.get(3)? });
        }
        Ok(calls)
    }
}

impl Iterator for CallPages<'_> {
    type Item = JournalResult<Vec<StoredCall>>;

    fn next(&mut self) -> Option<Self::Item> {
        let after = self.after.take()?;
        match self.page(&after) {
            Ok(calls) if calls.is_empty() => None,
            Ok(calls) => Some(Ok(calls)),
            Err(error) => {
                self.after = None;
                Some(Err(error))
            }
        }
    }
}

/// The conditions of a filter and the values of their question marks.
fn conditions(filter: &CallFilter) -> JournalResult<(String, Vec<Value>)> {
    let mut conditions = vec![String::from("1")];
    let mut values: Vec<Value> = Vec::new();
    if let Some(since) = filter.since {
        conditions.push(format!("{BEGIN} >= ?"));
        values.push(since.as_micros().into());
    }
    if let Some(until) = filter.until {
        conditions.push(format!("{BEGIN} < ?"));
        values.push(until.as_micros().into());
    }
    if let Some(number) = &filter.number {
        conditions.push(String::from("(instr(from_number, ?) > 0 OR instr(to_number, ?) > 0)"));
        values.extend([number.clone().into(), number.clone().into()]);
    }
    if let Some(extension) = &filter.extension {
        conditions.push(String::from("internal = ?"));
        values.push(extension.clone().into());
    }
    if let Some(verdict) = &filter.verdict {
        conditions.push(String::from("verdict = ?"));
        values.push(word(verdict)?.into());
    }
    if let Some(state) = filter.delivery {
        conditions.push(String::from(delivery_condition(state)));
    }
    Ok((conditions.join(" AND "), values))
}

/// A call's row as it was written, without what delivery knows.
fn stored(connection: &Connection, id: &str) -> JournalResult<Option<(CallStage, CallRecord)>> {
    let found = connection
        .prepare_cached("SELECT stage, record FROM calls WHERE id = ?1")?
        .query_row(params![id], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))
        .optional()?;
    found.map(|(stage, json)| Ok((CallStage::read(&stage), serde_json::from_str(&json)?))).transpose()
}

pub(super) fn is_there(connection: &Connection, id: &str) -> JournalResult<bool> {
    let found = connection
        .prepare_cached("SELECT 1 FROM calls WHERE id = ?1")?
        .query_row(params![id], |row| row.get::<_, i64>(0))
        .optional()?;
    Ok(found.is_some())
}

pub(super) fn put_call(connection: &Connection, record: &CallRecord, stage: CallStage) -> JournalResult<()> {
    let json = serde_json::to_string(record)?;
    connection.prepare_cached(PUT_CALL)?.execute(params![
        record.id,
        stage.as_str(),
        micros(record.invited_at),
        micros(record.answered_at),
        micros(record.ended_at),
        word(&record.direction)?,
        record.from,
        record.to,
        record.internal,
        word(&record.outcome)?,
        record.verdict.as_ref().map(word).transpose()?,
        json,
    ])?;
    let at = retention::micros_or_last(record.invited_at.or(record.answered_at).or(record.ended_at));
    for file in &record.recordings {
        // The name may be another than before: rendered in another form, or once more after it was encrypted.
        connection.prepare_cached(LEAVE_OLD)?.execute(params![record.id, file.part, file.path])?;
        connection.prepare_cached("DELETE FROM leftovers WHERE path = ?1")?.execute(params![file.path])?;
        connection.prepare_cached(PUT_RECORDING)?.execute(params![
            record.id,
            file.part,
            file.path,
            i64::try_from(file.bytes).unwrap_or(i64::MAX),
            file.sha256,
            file.plain_sha256,
            at,
        ])?;
    }
    Ok(())
}

pub(super) fn put_leg(connection: &Connection, call_id: &str, leg: &LegRow) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO legs (call_id, name, idx, same_sides, state) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![call_id, leg.name, leg.index, leg.same_sides, leg.state.as_str()])?;
    Ok(())
}

pub(super) fn with_delivery(connection: &Connection, stage: &str, json: &str) -> JournalResult<StoredCall> {
    let mut record: CallRecord = serde_json::from_str(json)?;
    if let Some(job) = deliveries::job(connection, &record.id)? {
        record.delivery = job.to_record();
    }
    record.held = retention::held(connection, &record.id)?;
    Ok(StoredCall { stage: CallStage::read(stage), record })
}

const fn delivery_condition(state: DeliveryState) -> &'static str {
    match state {
        DeliveryState::None => "NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.id = calls.id)",
        DeliveryState::Owed => {
            "EXISTS (SELECT 1 FROM deliveries d WHERE d.id = calls.id AND d.stage NOT IN ('done', 'parked', 'dead'))"
        }
        DeliveryState::Done => "EXISTS (SELECT 1 FROM deliveries d WHERE d.id = calls.id AND d.stage = 'done')",
        DeliveryState::Parked => "EXISTS (SELECT 1 FROM deliveries d WHERE d.id = calls.id AND d.stage = 'parked')",
        DeliveryState::Dead => "EXISTS (SELECT 1 FROM deliveries d WHERE d.id = calls.id AND d.stage = 'dead')",
    }
}

/// The word that serde gives a unit variant.
fn word<T: Serialize>(value: &T) -> JournalResult<String> {
    Ok(serde_json::to_value(value)?.as_str().unwrap_or_default().to_owned())
}

pub(super) fn micros(at: Option<Timestamp>) -> Option<i64> {
    at.map(Timestamp::as_micros)
}

const PUT_CALL: &str =
    "INSERT OR REPLACE INTO calls (id, stage, invited_at, answered_at, ended_at, direction, from_number,
    to_number, internal, outcome, verdict, record) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";

const PUT_RECORDING: &str = "INSERT INTO recordings (call_id, part, path, bytes, sha256, plain_sha256, at, state)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'present')
    ON CONFLICT (call_id, part) DO UPDATE SET path = ?3, bytes = ?4, sha256 = ?5, plain_sha256 = ?6, at = ?7";

const LEAVE_OLD: &str = "INSERT OR IGNORE INTO leftovers (path)
    SELECT path FROM recordings WHERE call_id = ?1 AND part = ?2 AND path <> ?3";

/// The begin of a call, also of one whose INVITE was not seen; as the index has it.
const BEGIN: &str = "coalesce(invited_at, answered_at, ended_at, 0)";
/// No other: a sort of all calls would take the memory that pages save.
const BY_BEGIN: &str = "INDEXED BY calls_by_begin";
/// Calls of a page: some MiB.
pub const PAGE: u32 = 500;
