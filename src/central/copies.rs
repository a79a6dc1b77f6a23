//! Copies of two tables of each site, in the archive's PostgreSQL database (the index). They are the audit (who did
//! what in the console) and the topology (which IP addresses belong to one machine).

use std::time::SystemTime;

use serde_json::Value;
use tokio_postgres::types::ToSql;

use super::ArchiveError;
use super::calls::timestamp;
use super::index::{ArchiveIndex, index_error, without_nul};
use crate::time::Timestamp;

/// A row of a site's audit (what users did in the console), as stored in the archive's database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IndexedAuditRow {
    /// Number of the row in the audit (the log of what users did in the console) at the site.
    pub(crate) n: i64,
    /// Wall-clock time of the action, UTC.
    pub(crate) at: Timestamp,
    /// Name of the console account that did the action.
    pub(crate) who: String,
    /// Word for the action, e.g. that a recording was played.
    pub(crate) action: String,
    /// Id of the call that the action concerns; `None` if it concerns no call.
    pub(crate) call_id: Option<String>,
}

impl ArchiveIndex {
    /// Writes rows of this site's audit (what users did in the console) into the archive's database. `rows` is a JSON
    /// list of objects. Rows that the database already has stay unchanged.
    ///
    /// # Errors
    /// Fails if the database does not respond, refuses the request, or has the schema of an older callspan.
    pub(crate) async fn put_audit(&mut self, rows: &Value) -> Result<(), ArchiveError> {
        self.tell("SELECT callspan.put_audit($1::text::jsonb)", &[&json(rows)]).await
    }

    /// Replaces the topology of this site in the archive's database. `machines` is a JSON list of pairs of addresses
    /// that belong to one machine.
    ///
    /// # Errors
    /// Fails if the database does not respond, refuses the request, or has the schema of an older callspan.
    pub(crate) async fn put_topology(&mut self, machines: &Value) -> Result<(), ArchiveError> {
        self.tell("SELECT callspan.put_topology($1::text::jsonb)", &[&json(machines)]).await
    }

    /// Returns rows of a site's audit (what users did in the console). `first` and `last` are the numbers of the first
    /// and the last row.
    ///
    /// # Errors
    /// Fails if the database does not respond or refuses the request.
    pub(crate) async fn audit_of(
        &mut self,
        site: &str,
        (first, last): (i64, i64),
    ) -> Result<Vec<IndexedAuditRow>, ArchiveError> {
        let sql = "SELECT n, at, who, action, call_id FROM callspan.audit WHERE site = $1 AND n BETWEEN $2 AND $3";
        let parameters: [&(dyn ToSql + Sync); 3] = [&site, &first, &last];
        let rows = self.client().await?.query(sql, &parameters).await.map_err(|e| index_error(&e))?;
        let row = |row: &tokio_postgres::Row| IndexedAuditRow {
            n: row.get(0),
            at: timestamp(row.get::<_, SystemTime>(1)),
            who: row.get(2),
            action: row.get(3),
            call_id: row.get(4),
        };
        Ok(rows.iter().map(row).collect())
    }

    /// Returns the topology of a site as JSON: pairs of addresses that belong to one machine.
    ///
    /// # Errors
    /// Fails if the database does not respond or refuses the request.
    pub(crate) async fn topology_of(&mut self, site: &str) -> Result<Option<Value>, ArchiveError> {
        let sql = "SELECT machines::text FROM callspan.topology WHERE site = $1";
        let row = self.client().await?.query_opt(sql, &[&site]).await.map_err(|e| index_error(&e))?;
        Ok(row.and_then(|row| serde_json::from_str(row.get(0)).ok()))
    }
}

fn json(value: &Value) -> String {
    without_nul(value.clone()).to_string()
}
