//! Updates the schema of the index (the PostgreSQL database of the archive) to the newest version.
//!
//! # Invariants
//! - An interrupted update continues at the next start of the command: each version of the schema is recorded when it
//!   is complete.
//! - Sites write and the centre shows calls meanwhile. Database indexes have other names until all of them are ready,
//!   and a table whose rows change gets a successor. Until then the old ones are used.
//! - A transaction waits [`MAX_LOCK_WAIT`] for the lock of a table or row, since writes of sites wait behind it. If e.g.
//!   a long report keeps the lock, the transaction is repeated later.
//! - One process updates at a time. The lock for this belongs to the session and not to a transaction. The reason is
//!   that `CREATE INDEX CONCURRENTLY` is not allowed in a transaction (PostgreSQL manual, CREATE INDEX).

use std::time::Duration;

use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::ArchiveError;
use super::index::{ArchiveIndex, index_error};
use super::schema::{IndexDefinition, MIGRATIONS, Migration, VERSIONS};

impl ArchiveIndex {
    /// Updates the schema of the archive's database to the newest version. Returns the versions before and after.
    ///
    /// # Errors
    /// Fails if the database does not respond, refuses a statement, or has the schema of a newer callspan.
    pub(crate) async fn migrate(&mut self) -> Result<(usize, usize), ArchiveError> {
        let migrated = migrate(self.client().await?).await;
        self.forget_connection(); // the end of the session releases the lock, and an open transaction
        migrated
    }
}

async fn migrate(client: &Client) -> Result<(usize, usize), ArchiveError> {
    // A migration may take longer than the usual time limit of a statement, so the limit is switched off.
    run(client, "SET statement_timeout = 0").await?;
    let mut is_told = false;
    while !first_column::<bool>(client, "SELECT pg_try_advisory_lock(7264773)", &[]).await?.unwrap_or_default() {
        if !std::mem::replace(&mut is_told, true) {
            // After an interrupted update, PostgreSQL still finishes the database index that it was building. Until
            // then it keeps the lock of that update, so this update may wait for a long time.
            tracing::warn!("another update of the schema is running: waiting for its end (pg_stat_activity shows it)");
        }
        pause().await;
    }
    run(client, VERSIONS).await?;
    let newest = "SELECT coalesce(max(version), 0) FROM callspan.versions";
    let found =
        usize::try_from(first_column::<i32>(client, newest, &[]).await?.unwrap_or_default()).unwrap_or_default();
    if found > MIGRATIONS.len() {
        return Err(ArchiveError::Index(format!(
            "the schema has version {found}, this callspan knows versions up to {}: install the newer callspan",
            MIGRATIONS.len()
        )));
    }
    for (migration, version) in MIGRATIONS.iter().zip(1_u32..).skip(found) {
        step(client, migration, version).await?;
    }
    Ok((found, MIGRATIONS.len()))
}

/// Updates the schema to the version `version`. An interrupted update repeats or continues each part.
async fn step(client: &Client, migration: &Migration, version: u32) -> Result<(), ArchiveError> {
    let Migration { first, batch, indexes, last } = *migration;
    if !first.is_empty() {
        commit(client, first).await?;
    }
    while !batch.is_empty() && run_batch(client, batch).await? {}
    for index in indexes {
        build(client, index).await?;
    }
    for IndexDefinition { name, .. } in indexes {
        run(client, &format!("DROP INDEX CONCURRENTLY IF EXISTS callspan.{name}")).await?;
    }
    let rename = |index: &IndexDefinition| format!("ALTER INDEX callspan.{0}_new RENAME TO {0};", index.name);
    let renames: String = indexes.iter().map(rename).collect();
    let by = concat!("callspan ", env!("CARGO_PKG_VERSION"));
    let entry = format!("INSERT INTO callspan.versions (version, written_by) VALUES ({version}, '{by}')");
    commit(client, &format!("{renames} {last}; {entry}")).await?;
    Ok(())
}

/// Changes the next rows of a large table in a transaction. Returns whether rows are left.
async fn run_batch(client: &Client, batch: &str) -> Result<bool, ArchiveError> {
    let is_true = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => row.get(0) == Some("t"),
        _ => false,
    };
    Ok(commit(client, batch).await?.iter().any(is_true))
}

/// Builds a database index under another name, unless an interrupted update has built it.
async fn build(client: &Client, IndexDefinition { name, on }: &IndexDefinition) -> Result<(), ArchiveError> {
    let new = format!("callspan.{name}_new");
    let state = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1)";
    match first_column::<bool>(client, state, &[&new]).await? {
        Some(true) => return Ok(()),
        Some(false) => run(client, &format!("DROP INDEX CONCURRENTLY {new}")).await?,
        None => {}
    }
    run(client, &format!("CREATE INDEX CONCURRENTLY {name}_new ON {on}")).await
}

/// Runs SQL in a transaction. Repeats it while another transaction keeps the lock of a table or row. Returns the results.
async fn commit(client: &Client, sql: &str) -> Result<Vec<SimpleQueryMessage>, ArchiveError> {
    let transaction = format!("BEGIN; SET LOCAL lock_timeout = '{MAX_LOCK_WAIT}'; {sql}; COMMIT");
    let mut is_told = false;
    loop {
        let error = match client.simple_query(&transaction).await {
            Ok(results) => return Ok(results),
            Err(error) => error,
        };
        let taken = [SqlState::LOCK_NOT_AVAILABLE, SqlState::T_R_DEADLOCK_DETECTED];
        if !error.code().is_some_and(|code| taken.contains(code)) {
            return Err(index_error(&error));
        }
        run(client, "ROLLBACK").await?;
        if !std::mem::replace(&mut is_told, true) {
            tracing::warn!("another transaction uses a table or row: waiting for its end (pg_stat_activity shows it)");
        }
        pause().await;
    }
}

async fn run(client: &Client, sql: &str) -> Result<(), ArchiveError> {
    client.batch_execute(sql).await.map_err(|error| index_error(&error))
}

/// Returns the first column of a query's only row; `None` if there is no row.
async fn first_column<T: for<'a> tokio_postgres::types::FromSql<'a>>(
    client: &Client,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Option<T>, ArchiveError> {
    let row = client.query_opt(sql, parameters).await.map_err(|error| index_error(&error))?;
    row.map(|row| row.try_get(0)).transpose().map_err(|error| index_error(&error))
}

/// Waits a moment for another process, e.g. one that updates the schema. PostgreSQL cannot wait instead: a statement that
/// waits for the lock would keep the other process from completing a database index.
#[expect(clippy::disallowed_methods, reason = "an IO module: another process is waited for")]
async fn pause() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}

/// Maximum time for which a transaction waits for each lock, as PostgreSQL spells it.
const MAX_LOCK_WAIT: &str = "1s";
