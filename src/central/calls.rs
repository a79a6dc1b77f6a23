//! Reads the calls of all sites from the index (the PostgreSQL database of the archive), for the central console.

use std::time::{Duration, SystemTime};

use serde_json::Value;
use tokio_postgres::Row as IndexRow;

use super::ArchiveError;
use super::condition::IndexCondition;
use super::index::{ArchiveIndex, index_error, read_recordings};
use crate::call::record::CallRecord;
use crate::journal::{CallScope, CallSearch, CallStage, ClassCounts, FoundCalls, HeardClass, MAX_IDS, StoredCall};
use crate::time::Timestamp;

/// State of a site, as the site itself reported it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SiteState {
    /// Name of the site, unique in the archive.
    pub(crate) site: String,
    /// Time of the site's last report; `None` if there was none.
    pub(crate) seen_at: Option<Timestamp>,
    /// Version of callspan at the site; `None` before its first report.
    pub(crate) version: Option<String>,
    /// Number of calls that the site still has to send.
    pub(crate) backlog: u64,
    /// Number of calls that the archive refused. A person at the site must find out why.
    pub(crate) refused: u64,
    /// Counters of the site's recorder as JSON; `Null` from an older callspan.
    pub(crate) health: Value,
    /// Time at which the newest call from the site began; `None` if the site has sent no call.
    pub(crate) newest: Option<Timestamp>,
}

/// A call record from another site, e.g. from the site of the other party.
#[derive(Clone, Debug)]
pub(crate) struct OtherSiteCall {
    /// Name of the value that is equal in both records: `session_id`, `call_id`, `correlation_header` or `voice`.
    pub(crate) why: String,
    /// Call record that the other site made.
    pub(crate) record: CallRecord,
}

/// A call that two sites recorded, and that has two tasks in Pyrus or no task. It should have exactly one task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnerConflict {
    /// Names of the two sites that recorded the call.
    pub(crate) sites: [String; 2],
    /// Ids of the call at the two sites, in the order of `sites`.
    pub(crate) ids: [String; 2],
    /// Whether both sites registered the call in Pyrus, so that it has two tasks. If false, neither site registered the
    /// call, and it has no task.
    pub(crate) is_double: bool,
}

impl ArchiveIndex {
    /// Returns one page of the list of calls that a search finds, newest first. All its calls are older than
    /// `before`. In their records, the field `appliance` is the name of the site, and the paths of recordings are keys
    /// in the object store.
    ///
    /// # Errors
    /// Fails if the database does not respond or refuses the request.
    pub(crate) async fn search(
        &mut self,
        search: &CallSearch,
        before: Option<&(i64, String)>,
        limit: u32,
    ) -> Result<FoundCalls, ArchiveError> {
        let mut condition = IndexCondition::of(search);
        if let Some((begin, id)) = before {
            let begin = condition.value(system_time(Timestamp::from_micros(*begin)));
            let id = condition.value(id.clone());
            condition.add(format!("(c.begin_at, c.id) < ({begin}, {id})"));
        }
        let count = u64::from(limit) + 1;
        let newest = format!("ORDER BY c.begin_at DESC, c.id DESC LIMIT {count}");
        // Several queries may find the same call. UNION returns it once.
        let found = condition.queries("c.site, c.id, c.begin_at", count).join(" UNION ");
        let sql = format!(
            "SELECT {COLUMNS} FROM (SELECT * FROM ({found}) c {newest}) f JOIN callspan.calls c ON c.site = f.site AND c.id = f.id
             {newest}"
        );
        let mut rows = self.rows(&sql, &condition).await?;
        let has_more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let next = rows.last().filter(|_| has_more).map(|row| (row.get(1), row.get(2)));
        Ok(FoundCalls { calls: rows.iter().map(stored).collect::<Result<_, _>>()?, next })
    }

    /// Returns the number of calls that a search finds, for each class. Only the newest calls are examined, so that the
    /// time does not grow with the archive. So the search may find calls although none is counted.
    ///
    /// # Errors
    /// Fails if the database does not respond or refuses the request.
    pub(crate) async fn count_by_class(&mut self, search: &CallSearch) -> Result<ClassCounts, ArchiveError> {
        let condition = IndexCondition::of(search);
        if let Some(extensions) = condition.looked_up() {
            let most = MAX_LOOKED_UP / extensions.max(1) as u64;
            return self.count_found(&condition, most).await;
        }
        if search.ids.is_some() {
            return self.count_found(&condition, MAX_IDS as u64).await;
        }
        let (range, others) = condition.range_and_others();
        // Without conditions other than time and site, PostgreSQL reads only a database index and no rows. So it can
        // count more calls.
        let most = if others.is_none() { MAX_COUNTED } else { MAX_EXAMINED };
        let sql = format!(
            "SELECT heard, count(*) FILTER (WHERE is_found), count(*) FROM (SELECT c.heard, {} AS is_found
                FROM callspan.calls c WHERE {range} ORDER BY c.begin_at DESC, c.id DESC LIMIT {most}) c GROUP BY heard",
            others.as_deref().map_or_else(|| String::from("true"), |others| format!("({others})"))
        );
        let rows = self.rows(&sql, &condition).await?;
        let examined: u64 = rows.iter().filter_map(|row| u64::try_from(row.get::<_, i64>(2)).ok()).sum();
        Ok(ClassCounts { by_class: read_counts(&rows), is_least: examined >= most })
    }

    /// Counts the calls that [`IndexCondition::queries`] finds. Each query returns at most `most` calls.
    async fn count_found(&mut self, condition: &IndexCondition, most: u64) -> Result<ClassCounts, ArchiveError> {
        let found = condition.queries("c.site, c.id, c.heard", most).join(" UNION ");
        let sql = format!("SELECT heard, count(*) FROM ({found}) c GROUP BY heard");
        let counts = ClassCounts { by_class: read_counts(&self.rows(&sql, condition).await?), is_least: false };
        Ok(ClassCounts { is_least: counts.total() >= most, ..counts })
    }

    /// Returns the call with a key, if the scope (the calls that an account may see) includes the call. The key is
    /// `SITE~ID`, or the id alone if only one site has a call with this id.
    ///
    /// # Errors
    /// Fails if the database does not respond or refuses the request.
    pub(crate) async fn call_in_scope(
        &mut self,
        key: &str,
        scope: &CallScope,
    ) -> Result<Option<StoredCall>, ArchiveError> {
        let mut condition = IndexCondition::of(&CallSearch { scope: scope.clone(), ..CallSearch::default() });
        let (site, id) = split_key(key);
        let id = condition.value(id.to_owned());
        condition.add(format!("c.id = {id}"));
        if let Some(site) = site {
            let site = condition.value(site.to_owned());
            condition.add(format!("c.site = {site}"));
        }
        let sql = format!("SELECT {COLUMNS} FROM callspan.calls c WHERE {} LIMIT 2", condition.sql());
        match self.rows(&sql, &condition).await?.as_slice() {
            [row] => stored(row).map(Some),
            _ => Ok(None), // unknown id, or two sites have a call with this id
        }
    }

    /// Returns the records that other sites made of the same call, if the scope (the calls that an account may see)
    /// includes these records.
    ///
    /// # Errors
    /// Fails if the database does not respond or refuses the request.
    pub(crate) async fn at_other_sites(
        &mut self,
        site: &str,
        id: &str,
        scope: &CallScope,
    ) -> Result<Vec<OtherSiteCall>, ArchiveError> {
        let mut condition = IndexCondition::of(&CallSearch { scope: scope.clone(), ..CallSearch::default() });
        let (site, id) = (condition.value(site.to_owned()), condition.value(id.to_owned()));
        let sql = format!(
            "SELECT {COLUMNS}, s.why FROM callspan.same_as({site}, {id}) s
                JOIN callspan.calls c ON c.site = s.site AND c.id = s.id
             WHERE {} ORDER BY c.begin_at, c.site LIMIT {MAX_OTHER_SITES}",
            condition.sql()
        );
        let rows = self.rows(&sql, &condition).await?;
        rows.iter().map(|row| Ok(OtherSiteCall { why: row.get(5), record: stored(row)?.record })).collect()
    }

    /// Returns the states of all sites, sorted by name.
    ///
    /// # Errors
    /// Fails if the database does not respond or refuses the request.
    pub(crate) async fn sites(&mut self) -> Result<Vec<SiteState>, ArchiveError> {
        let sql = "SELECT s.site, s.seen_at, s.version, s.backlog, s.refused, coalesce(s.health, 'null')::text,
                (SELECT c.begin_at FROM callspan.calls c WHERE c.site = s.site ORDER BY c.begin_at DESC LIMIT 1)
             FROM callspan.sites s ORDER BY s.site";
        let rows = self.rows(sql, &IndexCondition::default()).await?;
        let site = |row: &IndexRow| SiteState {
            site: row.get(0),
            seen_at: row.get::<_, Option<SystemTime>>(1).map(timestamp),
            version: row.get(2),
            backlog: u64::try_from(row.get::<_, i64>(3)).unwrap_or_default(),
            refused: u64::try_from(row.get::<_, i64>(4)).unwrap_or_default(),
            health: serde_json::from_str(row.get(5)).unwrap_or_default(),
            newest: row.get::<_, Option<SystemTime>>(6).map(timestamp),
        };
        Ok(rows.iter().map(site).collect())
    }

    /// Returns the newest calls since `since` that two sites recorded, and that both sites or neither site registered
    /// in Pyrus. Such a call has two tasks or no task.
    ///
    /// # Errors
    /// Fails if the database does not respond or refuses the request.
    pub(crate) async fn owner_conflicts(&mut self, since: Timestamp) -> Result<Vec<OwnerConflict>, ArchiveError> {
        let mut condition = IndexCondition::default();
        let since = condition.value(system_time(since));
        let sql = format!(
            "SELECT s.begin_at, s.site, s.other_site, s.id, s.other_id, s.registered FROM callspan.shared_calls s
             WHERE s.registered = s.other_registered AND s.begin_at >= {since} ORDER BY s.begin_at DESC LIMIT {MAX_CONFLICTS}"
        );
        let rows = self.rows(&sql, &condition).await?;
        let conflict = |row: &IndexRow| OwnerConflict {
            sites: [row.get(1), row.get(2)],
            ids: [row.get(3), row.get(4)],
            is_double: row.get(5),
        };
        Ok(rows.iter().map(conflict).collect())
    }

    async fn rows(&mut self, sql: &str, condition: &IndexCondition) -> Result<Vec<IndexRow>, ArchiveError> {
        let answer = super::index::in_time(self.client().await?.query(sql, &condition.parameters())).await;
        match answer {
            Ok(rows) => rows.map_err(|e| index_error(&e)),
            Err(error) => {
                self.forget_connection();
                Err(error)
            }
        }
    }
}

/// Reads a call from a row with the columns [`COLUMNS`].
fn stored(row: &IndexRow) -> Result<StoredCall, ArchiveError> {
    let wrong = |error: serde_json::Error| ArchiveError::Index(format!("a record in the index is wrong: {error}"));
    let mut record: CallRecord = serde_json::from_str(row.get(3)).map_err(wrong)?;
    record.appliance = row.get(0);
    let objects = read_recordings(row.get(4))?;
    record.recordings.retain_mut(|file| {
        let Some(object) = objects.iter().find(|object| object.part == file.part) else { return false };
        file.path.clone_from(&object.key);
        file.sha256.clone_from(&object.sha256);
        file.bytes = object.bytes;
        true
    });
    Ok(StoredCall { stage: CallStage::Complete, record })
}

/// Reads the number of calls of each class from rows with the columns class and number.
fn read_counts(rows: &[IndexRow]) -> Vec<(HeardClass, u64)> {
    let count =
        |row: &IndexRow| Some((HeardClass::parse(row.get::<_, &str>(0))?, u64::try_from(row.get::<_, i64>(1)).ok()?));
    rows.iter().filter_map(count).filter(|(_, count)| *count > 0).collect()
}

/// Returns the key by which the central console names a call: `SITE~ID`.
pub(crate) fn call_key(site: &str, id: &str) -> String {
    format!("{site}{SITE_MARK}{id}")
}

/// Splits the key of a call into its site and its id. The site is `None` in keys from older links, which contain only
/// the id.
pub(super) fn split_key(key: &str) -> (Option<&str>, &str) {
    key.split_once(SITE_MARK).map_or((None, key), |(site, id)| (Some(site), id))
}

pub(super) fn system_time(at: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(u64::try_from(at.as_micros()).unwrap_or(0).min(LATEST_MICROS))
}

pub(super) fn timestamp(at: SystemTime) -> Timestamp {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// SQL list of the columns that contain a call: site, start in µs, id, record, recordings.
const COLUMNS: &str = "c.site, (extract(epoch FROM c.begin_at) * 1000000)::bigint, c.id, c.record::text,
    coalesce((SELECT jsonb_agg(jsonb_build_array(r.part, r.key, r.bytes, r.sha256) ORDER BY r.part)
        FROM callspan.recordings r WHERE r.site = c.site AND r.call_id = c.id), '[]')::text";
/// Character between the site and the id in the key of a call. Sites and ids do not contain this character.
pub(super) const SITE_MARK: char = '~';
/// Maximum number of calls that are counted if the conditions are only about time and site. PostgreSQL then reads only
/// a database index, so many calls can be counted.
const MAX_COUNTED: u64 = 50_000;
/// Maximum number of calls that are examined for conditions other than time and site, e.g. a text in a name.
const MAX_EXAMINED: u64 = 2_000;
/// Maximum number of rows that are read to count the calls of extensions, so that the time does not grow with the
/// archive.
const MAX_LOOKED_UP: u64 = 5_000;
/// Maximum number of other sites whose record of a call is shown.
const MAX_OTHER_SITES: u32 = 8;
/// Maximum number of calls that [`ArchiveIndex::owner_conflicts`] returns.
const MAX_CONFLICTS: u32 = 50;
/// Latest time that a query may contain, µs since the Unix epoch: the year 9999. PostgreSQL supports times up to the
/// year 294276.
const LATEST_MICROS: u64 = 253_402_300_799_000_000;
