//! The journal's rows of calls, their legs and their recordings.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params, params_from_iter};
use serde::Serialize;

use super::{Journal, JournalResult, deliveries, retention, search};
use crate::call::event::RegistrationPolicy;
use crate::call::record::{CallOutcome, CallRecord, CallVerdict, DeliveryState};
use crate::time::Timestamp;

/// Stage of a call in the recorder: in progress, over but not rendered, or complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallStage {
    /// The call rings or is in progress.
    Live,
    /// The call is over, but its record is not final: its recording is still to be made.
    Ended,
    /// The call's record is final, and its recordings are made.
    Complete,
}

impl CallStage {
    /// Returns the word by which the database names the stage.
    pub(crate) const fn as_str(self) -> &'static str {
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

/// A call as it is stored in the journal.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredCall {
    /// The call's stage: in progress, over but not rendered, or complete.
    pub stage: CallStage,
    /// The call record. Its fields `delivery` and `held` are filled from the journal when the call is read.
    pub record: CallRecord,
}

/// State of a leg's spool file, i.e. of its captured packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpoolFileState {
    /// The leg still gets packets, which are added to the spool file.
    Open,
    /// The spool file is complete, and the recording is still to be made from it.
    Closed,
    /// The leg's audio is in a recording, so the spool file may be removed.
    Rendered,
    /// The spool file was removed from the disk.
    Removed,
}

impl SpoolFileState {
    /// Returns the word by which the database names the state.
    pub(crate) const fn as_str(self) -> &'static str {
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

/// A leg of a call, with the state of its spool file (its captured packets).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegRow {
    /// Name of the spool file (captured packets of the leg), without its extension.
    pub name: String,
    /// Index of the leg in `record.legs`.
    pub index: u32,
    /// Whether the leg's caller is also the caller of the call. If false, the leg's two channels are swapped in the
    /// recording.
    pub same_sides: bool,
    /// State of the leg's spool file (its captured packets).
    pub state: SpoolFileState,
}

/// Conditions for a list of calls. A call must meet all conditions that are set.
#[derive(Clone, Debug, Default)]
pub struct CallFilter {
    /// Earliest start of the call; `None` for no limit.
    pub since: Option<Timestamp>,
    /// The call started before this time; `None` for no limit.
    pub until: Option<Timestamp>,
    /// Text that the number of the caller or the callee contains; `None` accepts every number.
    pub number: Option<String>,
    /// Exact telephone extension of the call; `None` accepts every extension.
    pub extension: Option<String>,
    /// The call has one of these verdicts; an empty list accepts every call.
    pub verdicts: Vec<CallVerdict>,
    /// The call has one of these outcomes; an empty list accepts every call.
    pub outcomes: Vec<CallOutcome>,
    /// Minimum length of the call, seconds, from the answer to the end. Calls that were not answered have no length and
    /// are left out.
    pub min_s: Option<u32>,
    /// Maximum length of the call, seconds.
    pub max_s: Option<u32>,
    /// State of the delivery to Pyrus; `None` accepts every state.
    pub delivery: Option<DeliveryState>,
    /// Maximum number of calls in the list, which then contains only the newest calls; `None` for no limit.
    pub limit: Option<u32>,
}

impl Journal {
    /// Writes or replaces a call and the rows of its recordings.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub fn put_call(&self, record: &CallRecord, stage: CallStage) -> JournalResult<()> {
        self.write(|transaction| {
            put_call(transaction, record, stage)?;
            Ok(())
        })
    }

    /// Writes or replaces a call that must still be passed to delivery. [`Journal::calls_to_announce`] returns the call
    /// until [`Journal::mark_announced`] is called for it.
    ///
    /// # Errors
    /// Fails if SQLite fails; then nothing is written.
    pub(crate) fn put_call_for_delivery(
        &self,
        record: &CallRecord,
        stage: CallStage,
        registration: RegistrationPolicy,
    ) -> JournalResult<()> {
        self.write(|transaction| {
            put_call(transaction, record, stage)?;
            retention::put_to_announce(transaction, &record.id, registration)?;
            Ok(())
        })
    }

    /// Removes a live call from the journal, because its legs turned out to belong to another call. Does nothing if the
    /// call was already passed to delivery.
    ///
    /// # Errors
    /// Fails if SQLite fails; then nothing is removed.
    pub(crate) fn forget_live_call(&self, id: &str) -> JournalResult<()> {
        self.write(|transaction| {
            let is_known = transaction.query_row(
                "SELECT NOT EXISTS (SELECT 1 FROM calls WHERE id = ?1 AND stage = 'live')
                     OR EXISTS (SELECT 1 FROM deliveries WHERE id = ?1)",
                params![id],
                |row| row.get(0),
            )?;
            if is_known {
                return Ok(());
            }
            search::remove_call(transaction, id)?;
            for table in ["untold", "legs"] {
                transaction.execute(&format!("DELETE FROM {table} WHERE call_id = ?1"), params![id])?;
            }
            transaction.execute("DELETE FROM calls WHERE id = ?1", params![id])?;
            Ok(())
        })
    }

    /// Stores the segments (finished parts of the recording) of a call in progress, and returns the record with these
    /// segments. `live` is the call's record with all segments so far. Only the segments of `live` are stored; the rest
    /// of the stored record does not change. Returns `None` if the call is already complete.
    ///
    /// # Errors
    /// Fails if SQLite fails; then nothing is written.
    pub(crate) fn put_segments(
        &self,
        live: &CallRecord,
        announce_as: Option<RegistrationPolicy>,
    ) -> JournalResult<Option<CallRecord>> {
        self.write(|transaction| {
            let (stage, record) = match stored_call(transaction, &live.id)? {
                Some((CallStage::Complete, _)) => return Ok(None),
                Some((stage, mut record)) => {
                    record.take_parts(live);
                    (stage, record)
                }
                None => (CallStage::Live, live.clone()),
            };
            put_call(transaction, &record, stage)?;
            if let Some(registration) = announce_as {
                retention::put_to_announce(transaction, &record.id, registration)?;
            }
            Ok(Some(record))
        })
    }

    /// Marks all segments (parts of the recording) of a call as removed, because a rule of the configuration excludes
    /// the call. Writes the reason into the call's record. The code that calls this function must remove the files
    /// afterwards. Returns the record as it was before, with its recordings; `None` if it had no recordings.
    ///
    /// # Errors
    /// Fails if SQLite fails; then nothing is written.
    pub(crate) fn withdraw_segments(&self, id: &str, at: Timestamp, reason: &str) -> JournalResult<Option<CallRecord>> {
        self.write(|transaction| {
            let Some((stage, record)) = stored_call(transaction, id)?.filter(|(_, r)| !r.recordings.is_empty()) else {
                return Ok(None);
            };
            let mut without = CallRecord { recordings: Vec::new(), ..record.clone() };
            without.legs.iter_mut().for_each(|leg| leg.rendered = false);
            without.verdict = Some(CallVerdict::Excluded);
            without.verdict_reason.get_or_insert_with(|| String::from(reason));
            put_call(transaction, &without, stage)?;
            transaction.execute(
                "UPDATE recordings SET state = 'removed', removed_at = ?2, removed_why = ?3
                 WHERE call_id = ?1 AND state = 'present'",
                params![id, at.as_micros(), reason],
            )?;
            Ok(Some(record))
        })
    }

    /// Writes or replaces a leg of a call.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub fn put_leg(&self, call_id: &str, leg: &LegRow) -> JournalResult<()> {
        self.write(|transaction| Ok(put_leg(transaction, call_id, leg)?))
    }

    /// Returns the legs of a call, in the order of the legs in the call record.
    ///
    /// # Errors
    /// Fails if SQLite fails.
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
                    state: SpoolFileState::read(&row.get::<_, String>(3)?),
                })
            })?
            .collect::<rusqlite::Result<_>>()?;
        Ok(legs)
    }

    /// Returns the call with this id; `None` if the journal does not have it.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub fn call(&self, id: &str) -> JournalResult<Option<StoredCall>> {
        let connection = self.lock();
        let found = connection
            .query_row("SELECT stage, record FROM calls WHERE id = ?1", params![id], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
            })
            .optional()?;
        found.map(|(stage, json)| with_delivery(&connection, &stage, &json)).transpose()
    }

    /// Returns the calls that are in progress or whose recordings are not made yet. A restarted service continues with
    /// them.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn unfinished_calls(&self) -> JournalResult<Vec<StoredCall>> {
        self.select("stage <> 'complete' ORDER BY id", &[])
    }

    /// Returns all calls that meet a filter, oldest first. For long lists, [`Journal::call_pages`] returns the same
    /// calls page by page.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub fn calls(&self, filter: &CallFilter) -> JournalResult<Vec<StoredCall>> {
        let mut calls = Vec::new();
        for page in self.call_pages(filter, self.cursor_before_newest(filter)?)? {
            calls.extend(page?);
        }
        Ok(calls)
    }

    /// Returns an iterator over the calls that come after a cursor in the order of their start. Each item is a page of
    /// [`PAGE`] calls, and the journal is not locked between two pages. The filter's `limit` is ignored: to apply it,
    /// begin at [`Journal::cursor_before_newest`].
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn call_pages(&self, filter: &CallFilter, after: Option<CallCursor>) -> JournalResult<CallPages<'_>> {
        let (conditions, values) = conditions(filter)?;
        let source = source(&self.lock(), filter)?;
        let sql = format!(
            "SELECT stage, record, {BEGIN}, id FROM calls {source} WHERE {conditions} AND {BEGIN} >= ?
             AND ({BEGIN} > ? OR id > ?) ORDER BY {BEGIN}, id LIMIT {PAGE}"
        );
        let after = after.unwrap_or(CallCursor { begin: i64::MIN, id: String::new() });
        Ok(CallPages { journal: self, sql, values, after: Some(after) })
    }

    /// Returns a cursor (position in the list). After it, exactly the newest `limit` calls that meet the filter follow.
    /// Returns `None` if the filter has no limit, or finds no more calls than the limit allows.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn cursor_before_newest(&self, filter: &CallFilter) -> JournalResult<Option<CallCursor>> {
        let Some(limit) = filter.limit else { return Ok(None) };
        let (conditions, values) = conditions(filter)?;
        let connection = self.lock();
        let source = source(&connection, filter)?;
        let sql = format!(
            "SELECT {BEGIN}, id FROM calls {source} WHERE {conditions} ORDER BY {BEGIN} DESC, id DESC
             LIMIT 1 OFFSET {limit}"
        );
        let place = |row: &rusqlite::Row<'_>| Ok(CallCursor { begin: row.get(0)?, id: row.get(1)? });
        Ok(connection.query_row(&sql, params_from_iter(values), place).optional()?)
    }

    /// Returns the calls that an SQL condition selects. To prevent SQL injection, `tail` must be a constant text, and
    /// input of users may only be in `values`.
    fn select(&self, tail: &str, values: &[Value]) -> JournalResult<Vec<StoredCall>> {
        let connection = self.lock();
        let mut statement = connection.prepare(&format!("SELECT stage, record FROM calls WHERE {tail}"))?;
        let rows: Vec<(String, String)> = statement
            .query_map(params_from_iter(values), |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        rows.iter().map(|(stage, json)| with_delivery(&connection, stage, json)).collect()
    }
}

/// A position in the list of calls that is sorted by start and id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CallCursor {
    begin: i64,
    id: String,
}

/// Iterator over pages of calls, made by [`Journal::call_pages`].
#[derive(Debug)]
pub(crate) struct CallPages<'j> {
    journal: &'j Journal,
    sql: String,
    values: Vec<Value>,
    /// Position in the list after which the next page begins; `None` means the start of the list.
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

/// Converts a filter to an SQL condition, and returns the condition with the values of its parameters.
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
        conditions.push(String::from(HAS_NUMBER));
        values.push(number_pattern(number).into());
    }
    if let Some(extension) = &filter.extension {
        conditions.push(String::from("internal = ?"));
        values.push(extension.clone().into());
    }
    for (column, words) in [("verdict", words_of(&filter.verdicts)?), ("outcome", words_of(&filter.outcomes)?)] {
        if !words.is_empty() {
            conditions.push(format!("{column} IN ({})", vec!["?"; words.len()].join(", ")));
            values.extend(words.into_iter().map(Value::from));
        }
    }
    for (comparison, length) in [(">=", filter.min_s), ("<=", filter.max_s)] {
        if let Some(length) = length {
            conditions.push(format!("{LENGTH_S} {comparison} ?"));
            values.push(i64::from(length).into());
        }
    }
    if let Some(state) = filter.delivery {
        conditions.push(String::from(delivery_condition(state)));
    }
    Ok((conditions.join(" AND "), values))
}

fn words_of<T: Serialize>(values: &[T]) -> JournalResult<Vec<String>> {
    values.iter().map(serde_word).collect()
}

/// Returns the SQL LIKE pattern that finds a number in any notation. Only the last [`SIGNIFICANT_DIGITS`] digits are
/// compared. So `8 (495) 300-90-80` finds `+74953009080`. Text without digits is searched unchanged.
fn number_pattern(written: &str) -> String {
    let digits: String = written.chars().filter(char::is_ascii_digit).collect();
    let digits = digits.trim_start_matches('0');
    if !digits.is_empty() && !written.contains(char::is_alphabetic) {
        return format!("%{}%", &digits[digits.len().saturating_sub(SIGNIFICANT_DIGITS)..]);
    }
    let plain: String = written.chars().filter(|c| !"%_".contains(*c)).collect();
    format!("%{plain}%")
}

/// Returns the SQL clause that chooses the database index for a filter. If few calls match the number in the filter,
/// SQLite may use the index of numbers and sort the calls it finds. Otherwise the clause forces the index of start
/// times, because sorting many calls would take much memory.
fn source(connection: &Connection, filter: &CallFilter) -> JournalResult<&'static str> {
    let Some(number) = &filter.number else { return Ok(BY_BEGIN) };
    let mut statement =
        connection.prepare_cached("SELECT count(*) FROM (SELECT 1 FROM call_digits WHERE numbers LIKE ?1 LIMIT ?2)")?;
    let found: u32 = statement.query_row(params![number_pattern(number), FEW_CALLS + 1], |row| row.get(0))?;
    Ok(if found <= FEW_CALLS { "" } else { BY_BEGIN })
}

pub(super) fn stored_call(connection: &Connection, id: &str) -> JournalResult<Option<(CallStage, CallRecord)>> {
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
    search::put_search_row(connection, record)?;
    connection.prepare_cached(PUT_CALL)?.execute(params![
        record.id,
        stage.as_str(),
        micros(record.invited_at),
        micros(record.answered_at),
        micros(record.ended_at),
        serde_word(&record.direction)?,
        record.from,
        record.to,
        record.internal,
        serde_word(&record.outcome)?,
        record.verdict.as_ref().map(serde_word).transpose()?,
        json,
    ])?;
    let numbers = format!("{} {}", record.from.as_deref().unwrap_or(""), record.to.as_deref().unwrap_or(""));
    connection.prepare_cached(PUT_NUMBERS)?.execute(params![record.id, numbers])?;
    let at = retention::micros_or_last(record.invited_at.or(record.answered_at).or(record.ended_at));
    for file in &record.recordings {
        // A recording that is made again can get another path, e.g. because the format changed or the old file was
        // encrypted. Then the old file is listed for removal.
        connection.prepare_cached(ADD_OLD_PATH_TO_LEFTOVERS)?.execute(params![record.id, file.part, file.path])?;
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

pub(super) const fn delivery_condition(state: DeliveryState) -> &'static str {
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

/// Returns the name that serde gives to an enum variant without fields.
pub(super) fn serde_word<T: Serialize>(value: &T) -> JournalResult<String> {
    Ok(serde_json::to_value(value)?.as_str().unwrap_or_default().to_owned())
}

pub(super) fn micros(at: Option<Timestamp>) -> Option<i64> {
    at.map(Timestamp::as_micros)
}

/// SQL expression for the length of a call in whole seconds, from the answer to the end; NULL without an answer.
const LENGTH_S: &str =
    "(SELECT s.length_s FROM call_search s WHERE s.begin = coalesce(calls.invited_at, calls.answered_at,
    calls.ended_at, 0) AND s.id = calls.id)";
const PUT_CALL: &str =
    "INSERT OR REPLACE INTO calls (id, stage, invited_at, answered_at, ended_at, direction, from_number,
    to_number, internal, outcome, verdict, record) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";

/// SQL that writes the numbers of a call to the database index of numbers. It changes the index only if the numbers
/// changed, which is rare.
const PUT_NUMBERS: &str = "INSERT INTO call_numbers (call_id, numbers) VALUES (?1, ?2)
    ON CONFLICT (call_id) DO UPDATE SET numbers = ?2 WHERE numbers <> ?2";

const PUT_RECORDING: &str = "INSERT INTO recordings (call_id, part, path, bytes, sha256, plain_sha256, at, state)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'present')
    ON CONFLICT (call_id, part) DO UPDATE SET path = ?3, bytes = ?4, sha256 = ?5, plain_sha256 = ?6, at = ?7";

const ADD_OLD_PATH_TO_LEFTOVERS: &str = "INSERT OR IGNORE INTO leftovers (path)
    SELECT path FROM recordings WHERE call_id = ?1 AND part = ?2 AND path <> ?3";

/// SQL expression for the start of a call, µs since the Unix epoch. If no INVITE was captured, the start is the time of
/// the answer, else of the end. The text must be the same as in the database index `calls_by_begin`, or SQLite does not
/// use the index.
pub(super) const BEGIN: &str = "coalesce(invited_at, answered_at, ended_at, 0)";
/// SQL clause that forces SQLite to read the calls from the database index of start times. Sorting all calls would take
/// much memory.
const BY_BEGIN: &str = "INDEXED BY calls_by_begin";
/// SQL condition that selects the calls from or to a telephone number. It uses the trigram database index
/// `call_digits`.
const HAS_NUMBER: &str = "id IN (SELECT call_id FROM call_numbers WHERE n IN
    (SELECT rowid FROM call_digits WHERE numbers LIKE ?))";
/// Number of last digits of a telephone number that are compared. The national numbers of most countries have at most
/// 10 digits.
const SIGNIFICANT_DIGITS: usize = 10;
/// Maximum number of calls that SQLite may sort in memory, where they take a few MiB. Longer lists are read in the
/// order of the database index of start times.
const FEW_CALLS: u32 = 2000;
/// Number of calls in a page of the list. A page takes a few MiB of memory.
pub(crate) const PAGE: u32 = 500;
