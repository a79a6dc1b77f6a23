//! Search of calls. The table `call_search` contains only the columns that a search compares. So it is small enough
//! that a search reads all its rows: 200,000 calls take about 30 MiB.

use std::collections::BTreeMap;

use rusqlite::functions::FunctionFlags;
use rusqlite::types::{FromSqlError, Value};
use rusqlite::{Connection, OptionalExtension, params, params_from_iter};

use super::calls::{BEGIN, StoredCall, serde_word, with_delivery};
use super::{Journal, JournalResult};
use crate::call::numbers::NumberPattern;
use crate::call::record::{CallDirection, CallOutcome, CallRecord, CallVerdict, DeliveryState, ProblemKind};
use crate::time::Timestamp;

/// Class of a call by how much of it can be heard. The console shows calls by these classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HeardClass {
    /// Both sides can be heard, and the recorder lost no packets of the call.
    Both,
    /// Only one of the two sides can be heard.
    One,
    /// Nothing can be heard: no sound was captured, or its codec is unknown.
    Nothing,
    /// Nothing can be heard, because the media is encrypted.
    Locked,
    /// The recorder lost a part of the media or all of it.
    Lost,
    /// A rule of the configuration excludes the call from recording.
    Excluded,
    /// Nobody answered the call, so there is no sound to expect.
    Unanswered,
    /// The call is in progress, or its recording is still to be made.
    Pending,
}

impl HeardClass {
    /// All classes of calls (by how much can be heard), in the order in which the console shows them.
    pub const ALL: [Self; 8] = [
        Self::Both,
        Self::One,
        Self::Nothing,
        Self::Locked,
        Self::Lost,
        Self::Excluded,
        Self::Unanswered,
        Self::Pending,
    ];

    /// Returns the word for the class in the database, in the API and in URLs of the console.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::One => "one",
            Self::Nothing => "none",
            Self::Locked => "encrypted",
            Self::Lost => "lost",
            Self::Excluded => "excluded",
            Self::Unanswered => "unanswered",
            Self::Pending => "pending",
        }
    }

    /// Returns the class of calls (how much can be heard) for a word from the database or a URL; `None` for an unknown
    /// word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == word)
    }

    /// Returns the class of a call by its record, i.e. how much of the call can be heard.
    pub fn of(record: &CallRecord) -> Self {
        let is_lost = || record.problems.iter().any(|problem| LOST_BY_US.contains(&problem.kind));
        match record.verdict {
            None => Self::Pending,
            Some(CallVerdict::BothSides) if is_lost() => Self::Lost,
            Some(CallVerdict::BothSides) => Self::Both,
            Some(CallVerdict::CallerOnly | CallVerdict::CalleeOnly) => Self::One,
            Some(CallVerdict::NoMedia | CallVerdict::UnknownCodec) => Self::Nothing,
            Some(CallVerdict::Encrypted) => Self::Locked,
            Some(CallVerdict::Failed) => Self::Lost,
            Some(CallVerdict::Excluded) => Self::Excluded,
            Some(CallVerdict::NotAnswered) => Self::Unanswered,
        }
    }
}

/// The calls that an account may see. Every query of the console is limited to a scope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallScope {
    /// Patterns of the telephone extensions that the console account may see; an empty list allows every extension.
    pub extensions: Vec<String>,
    /// Directions of the calls that the console account may see; an empty list allows every direction.
    pub directions: Vec<CallDirection>,
    /// Sites in the central archive that the account may see; an empty list allows every site. If the list is not
    /// empty, the console of a single recorder shows no calls to the account.
    pub sites: Vec<String>,
}

/// Conditions of a search. A call must meet all conditions that are set.
#[derive(Clone, Debug, Default)]
pub struct CallSearch {
    /// The calls that the console account may see. The search finds no other calls.
    pub scope: CallScope,
    /// Earliest start of the call; `None` for no limit.
    pub since: Option<Timestamp>,
    /// The call started before this time; `None` for no limit.
    pub until: Option<Timestamp>,
    /// Range of the time of day at which the call started, in seconds since midnight UTC. If the first value is larger,
    /// the range includes midnight.
    pub time_of_day: Option<(u32, u32)>,
    /// Groups of digits, e.g. `3009080`. Each must occur in a number of the call.
    pub numbers: Vec<String>,
    /// Words in lower case. Each must occur in the name of the caller or the callee.
    pub words: Vec<String>,
    /// Ids of calls, at most [`MAX_IDS`]. A call is found only if it has one of these ids; `None` accepts every call.
    pub ids: Option<Vec<String>>,
    /// The call's telephone extension matches one of these patterns. An empty list accepts every call.
    pub extensions: Vec<String>,
    /// Direction of the call; `None` accepts every direction.
    pub direction: Option<CallDirection>,
    /// The call has one of these outcomes. An empty list accepts every call.
    pub outcomes: Vec<CallOutcome>,
    /// How much of the call can be heard; `None` accepts every call.
    pub heard: Option<HeardClass>,
    /// State of the delivery to Pyrus; `None` accepts every state.
    pub delivery: Option<DeliveryState>,
    /// Minimum length of the call, seconds; `None` for no minimum.
    pub min_s: Option<u32>,
    /// Maximum length of the call, seconds; `None` for no maximum.
    pub max_s: Option<u32>,
    /// Name of the site that recorded the call, for a search in the central archive. The journal contains the calls of
    /// one site only and ignores the name.
    pub site: Option<String>,
}

/// A page of calls that a search found, newest first.
#[derive(Clone, Debug, Default)]
pub struct FoundCalls {
    /// The calls of this page, newest first.
    pub calls: Vec<StoredCall>,
    /// Start (µs since the Unix epoch) and id of the last call on this page. The next page continues after this call;
    /// `None` if there are no older calls.
    pub next: Option<(i64, String)>,
}

/// The number of calls that a search finds, for each class (how much can be heard).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassCounts {
    /// Each class (how much can be heard) with at least one call, and the number of calls in the class.
    pub by_class: Vec<(HeardClass, u64)>,
    /// Whether the search may find more calls than were counted, because counting stopped at a limit.
    pub is_least: bool,
}

impl ClassCounts {
    /// Counts the given calls by class (how much of a call can be heard).
    pub(crate) fn of(calls: &[StoredCall]) -> Self {
        let mut by_class = BTreeMap::new();
        calls.iter().for_each(|call| *by_class.entry(HeardClass::of(&call.record)).or_default() += 1);
        Self { by_class: by_class.into_iter().collect(), is_least: false }
    }

    /// Raises each count that is lower than the count of the same class in `found`, the calls of one page. A count may
    /// be too low, because counting stopped at a limit.
    pub(crate) fn raise_to(&mut self, found: &Self) {
        for (class, least) in &found.by_class {
            match self.by_class.iter_mut().find(|(known, _)| known == class) {
                Some((_, count)) => *count = (*count).max(*least),
                None => self.by_class.push((*class, *least)),
            }
        }
    }

    /// Returns the number of found calls in all classes together.
    pub fn total(&self) -> u64 {
        self.by_class.iter().map(|(_, count)| count).sum()
    }
}

impl Journal {
    /// Returns a page of at most `limit` calls that a search finds, newest first. All these calls are older than
    /// `before` (start in µs and id of a call).
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub fn search(&self, search: &CallSearch, before: Option<&(i64, String)>, limit: u32) -> JournalResult<FoundCalls> {
        let mut condition = SqlCondition::of(search)?;
        if let Some((begin, id)) = before {
            condition.add("(s.begin, s.id) < (?, ?)", [(*begin).into(), id.clone().into()]);
        }
        let sql = format!(
            "SELECT s.begin, s.id FROM call_search s WHERE {} ORDER BY s.begin DESC, s.id DESC LIMIT {}",
            condition.sql(),
            limit + 1
        );
        let connection = self.lock();
        let mut rows: Vec<(i64, String)> = connection
            .prepare_cached(&sql)?
            .query_map(params_from_iter(condition.values), |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        let has_more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let mut calls = Vec::new();
        for (_, id) in &rows {
            calls.extend(stored(&connection, id)?);
        }
        Ok(FoundCalls { calls, next: rows.pop().filter(|_| has_more) })
    }

    /// Returns the number of calls that a search finds, for each class (how much can be heard).
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn count_by_class(&self, search: &CallSearch) -> JournalResult<Vec<(HeardClass, u64)>> {
        let condition = SqlCondition::of(search)?;
        let sql = format!("SELECT s.heard, count(*) FROM call_search s WHERE {} GROUP BY s.heard", condition.sql());
        let connection = self.lock();
        let rows: Vec<(String, i64)> = connection
            .prepare_cached(&sql)?
            .query_map(params_from_iter(condition.values), |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        let count = |(word, count): &(String, i64)| Some((HeardClass::parse(word)?, u64::try_from(*count).ok()?));
        Ok(rows.iter().filter_map(count).collect())
    }

    /// Returns a call by its id if the scope includes it. Otherwise returns `None`, as for an unknown id.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn call_in_scope(&self, id: &str, scope: &CallScope) -> JournalResult<Option<StoredCall>> {
        let mut condition = SqlCondition::of(&CallSearch { scope: scope.clone(), ..CallSearch::default() })?;
        let sql = format!(
            "SELECT 1 FROM calls JOIN call_search s ON s.begin = {BEGIN} AND s.id = calls.id
             WHERE {} AND calls.id = ?",
            condition.sql()
        );
        condition.values.push(id.to_owned().into());
        let connection = self.lock();
        let found: Option<i64> = connection
            .prepare_cached(&sql)?
            .query_row(params_from_iter(condition.values), |row| row.get(0))
            .optional()?;
        if found.is_none() { Ok(None) } else { stored(&connection, id) }
    }

    /// Writes many complete calls in one transaction, to measure the speed of searches.
    #[cfg(test)]
    pub(crate) fn put_calls_for_measurement(&self, records: &[CallRecord]) -> JournalResult<()> {
        self.write(|transaction| {
            for record in records {
                super::calls::put_call(transaction, record, super::CallStage::Complete)?;
            }
            Ok(())
        })
    }

    /// Returns at most `limit` calls in progress that the scope includes, oldest first.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub fn live_calls(&self, scope: &CallScope, limit: u32) -> JournalResult<Vec<StoredCall>> {
        let condition = SqlCondition::of(&CallSearch { scope: scope.clone(), ..CallSearch::default() })?;
        let sql = format!(
            "SELECT calls.id FROM calls JOIN call_search s ON s.begin = {BEGIN} AND s.id = calls.id
             WHERE calls.stage <> 'complete' AND calls.stage = 'live' AND {} ORDER BY s.begin LIMIT {limit}",
            condition.sql()
        );
        calls_of(&self.lock(), &sql, condition.values)
    }
}

/// Runs an SQL query that selects ids of calls, and returns these calls in the same order.
pub(super) fn calls_of(connection: &Connection, sql: &str, values: Vec<Value>) -> JournalResult<Vec<StoredCall>> {
    let ids: Vec<String> = connection
        .prepare_cached(sql)?
        .query_map(params_from_iter(values), |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let mut calls = Vec::new();
    for id in ids {
        calls.extend(stored(connection, &id)?);
    }
    Ok(calls)
}

fn stored(connection: &Connection, id: &str) -> JournalResult<Option<StoredCall>> {
    let found = connection
        .prepare_cached("SELECT stage, record FROM calls WHERE id = ?1")?
        .query_row(params![id], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))
        .optional()?;
    found.map(|(stage, json)| with_delivery(connection, &stage, &json)).transpose()
}

/// The conditions of an SQL query, joined by AND, and their values.
pub(super) struct SqlCondition {
    parts: Vec<String>,
    pub(super) values: Vec<Value>,
}

impl SqlCondition {
    pub(super) fn of(search: &CallSearch) -> JournalResult<Self> {
        let mut condition = Self { parts: vec![String::from("1")], values: Vec::new() };
        condition.add_scope(&search.scope)?;
        condition.add_times(search);
        for digits in &search.numbers {
            condition.add("instr(s.numbers, ?) > 0", [digits.clone().into()]);
        }
        for word in &search.words {
            condition.add("instr(s.names, ?) > 0", [word.clone().into()]);
        }
        if let Some(ids) = &search.ids {
            condition.add_any("s.id", ids.iter().take(MAX_IDS).cloned().collect());
        }
        condition.add_extensions(&search.extensions);
        if let Some(direction) = &search.direction {
            condition.add("s.direction = ?", [serde_word(direction)?.into()]);
        }
        if !search.outcomes.is_empty() {
            let words = search.outcomes.iter().map(serde_word).collect::<JournalResult<Vec<_>>>()?;
            condition.add_any("s.outcome", words);
        }
        if let Some(heard) = search.heard {
            condition.add("s.heard = ?", [heard.as_str().to_owned().into()]);
        }
        if let Some(state) = search.delivery {
            condition.parts.push(super::calls::delivery_condition(state).replace("calls.id", "s.id"));
        }
        Ok(condition)
    }

    fn add_times(&mut self, search: &CallSearch) {
        if let Some(since) = search.since {
            self.add("s.begin >= ?", [since.as_micros().into()]);
        }
        if let Some(until) = search.until {
            self.add("s.begin < ?", [until.as_micros().into()]);
        }
        if let Some((from, to)) = search.time_of_day {
            let second = format!("(s.begin / 1000000) % {DAY_S}");
            let joint = if from <= to { "AND" } else { "OR" };
            let values = [i64::from(from).into(), i64::from(to).into()];
            self.add(&format!("({second} >= ? {joint} {second} < ?)"), values);
        }
        if let Some(min) = search.min_s {
            self.add("s.length_s >= ?", [i64::from(min).into()]);
        }
        if let Some(max) = search.max_s {
            self.add("s.length_s <= ?", [i64::from(max).into()]);
        }
    }

    fn add_scope(&mut self, scope: &CallScope) -> JournalResult<()> {
        if !scope.sites.is_empty() {
            self.add("0", []); // matches no call, because a journal contains no sites
        }
        self.add_extensions(&scope.extensions);
        if !scope.directions.is_empty() {
            let words = scope.directions.iter().map(serde_word).collect::<JournalResult<Vec<_>>>()?;
            self.add_any("s.direction", words);
        }
        Ok(())
    }

    fn add_extensions(&mut self, patterns: &[String]) {
        if patterns.is_empty() {
            return;
        }
        let one = "number_matches(?, s.extension, s.from_extension, s.to_extension)";
        self.parts.push(format!("({})", vec![one; patterns.len()].join(" OR ")));
        self.values.extend(patterns.iter().cloned().map(Value::from));
    }

    fn add_any(&mut self, column: &str, words: Vec<String>) {
        self.parts.push(format!("{column} IN ({})", vec!["?"; words.len()].join(", ")));
        self.values.extend(words.into_iter().map(Value::from));
    }

    fn add<const N: usize>(&mut self, part: &str, values: [Value; N]) {
        self.parts.push(part.to_owned());
        self.values.extend(values);
    }

    pub(super) fn sql(&self) -> String {
        self.parts.join(" AND ")
    }
}

/// Adds the SQL function `number_matches(pattern, number, …)` to a connection. The function returns true if one of the
/// numbers matches the pattern. Scopes of console accounts and call rules use the same patterns ([`NumberPattern`]), so
/// that a pattern means the same numbers in both.
pub(super) fn add_functions(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_scalar_function("number_matches", -1, flags, |context| {
        let pattern = context.get_or_create_aux(0, |value| -> Result<_, FromSqlError> {
            Ok::<_, FromSqlError>(NumberPattern::new(value.as_str()?))
        })?;
        let number = |n: usize| context.get_raw(n).as_str_or_null().ok().flatten();
        Ok((1..context.len()).filter_map(number).any(|number| pattern.matches(number)))
    })
}

/// Writes the row of a call in the table `call_search`, and removes the old row there. Must be called before the call's
/// row in `calls` is replaced. That row contains the start of the call, i.e. the key of the old row.
pub(super) fn put_search_row(connection: &Connection, record: &CallRecord) -> JournalResult<()> {
    remove_search_row(connection, &record.id)?;
    let begin = record.invited_at.or(record.answered_at).or(record.ended_at).map_or(0, Timestamp::as_micros);
    let is_internal = record.direction == CallDirection::Internal;
    connection.prepare_cached(PUT_ROW)?.execute(params![
        begin,
        record.id,
        record.duration_s.map(|seconds| seconds as i64),
        serde_word(&record.direction)?,
        serde_word(&record.outcome)?,
        HeardClass::of(record).as_str(),
        record.internal,
        record.from.as_ref().filter(|_| is_internal),
        record.to.as_ref().filter(|_| is_internal),
        numbers(record),
        names(record),
    ])?;
    Ok(())
}

/// Removes the row of a call from the table `call_search`. The call's row in `calls` must still exist, because it
/// contains the key of the removed row.
fn remove_search_row(connection: &Connection, id: &str) -> JournalResult<()> {
    let sql = format!("DELETE FROM call_search WHERE id = ?1 AND begin = (SELECT {BEGIN} FROM calls WHERE id = ?1)");
    connection.prepare_cached(&sql)?.execute(params![id])?;
    Ok(())
}

/// Removes a call from the two search tables. Must be called before the call's row in `calls` is removed.
pub(super) fn remove_call(connection: &Connection, id: &str) -> JournalResult<()> {
    remove_search_row(connection, id)?;
    connection.execute(
        "INSERT INTO call_digits (call_digits, rowid, numbers)
         SELECT 'delete', n, numbers FROM call_numbers WHERE call_id = ?1",
        params![id],
    )?;
    connection.execute("DELETE FROM call_numbers WHERE call_id = ?1", params![id])?;
    Ok(())
}

/// Fills the search table, which a migration has just created, from the calls of an older journal.
pub(super) fn fill(connection: &Connection) -> JournalResult<()> {
    let mut statement = connection.prepare("SELECT record FROM calls")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        put_search_row(connection, &serde_json::from_str(&row.get::<_, String>(0)?)?)?;
    }
    Ok(())
}

/// Returns the digits of all numbers of a call, separated by spaces.
fn numbers(record: &CallRecord) -> String {
    let all = [&record.from, &record.to, &record.internal, &record.diverted_from, &record.called_party];
    let digits = |number: &String| number.chars().filter(|c| c.is_ascii_digit() || *c == '*').collect::<String>();
    all.into_iter().flatten().map(digits).collect::<Vec<_>>().join(" ")
}

/// Returns the names of caller and callee in lower case.
fn names(record: &CallRecord) -> String {
    let all = [&record.from_name, &record.to_name];
    all.into_iter().flatten().map(|name| name.to_lowercase()).collect::<Vec<_>>().join("\n")
}

const PUT_ROW: &str = "INSERT OR REPLACE INTO call_search (begin, id, length_s, direction, outcome, heard, extension,
    from_extension, to_extension, numbers, names) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";

/// Kinds of problems that mean that the recorder lost a part of the media.
const LOST_BY_US: [ProblemKind; 5] = [
    ProblemKind::LostByUs,
    ProblemKind::RestartGap,
    ProblemKind::DiskFull,
    ProblemKind::SpoolError,
    ProblemKind::TornTail,
];

/// Maximum number of ids in a search. SQLite accepts at most 32,766 parameters in a query.
pub const MAX_IDS: usize = 10_000;

/// Number of seconds in a day.
const DAY_S: u32 = 86_400;
