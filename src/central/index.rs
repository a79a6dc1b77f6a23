//! The index of the archive: a PostgreSQL database with one row for each call of every site.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use postgres_protocol::password::scram_sha_256;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config as PostgresConfig, Error as PostgresError, NoTls, Row as IndexRow};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::ArchiveError;
use super::config::Config;
use crate::archive::{ArchiveFailure, ArchiveJob, ArchiveOutcome};
use crate::call::record::CallRecord;
use crate::journal::ArchiveBacklog;
use crate::text::error_chain;

/// A connection to the index (the PostgreSQL database of the archive). It is opened at the first request. If it is
/// lost, the next request opens it again.
#[derive(Debug)]
pub(crate) struct ArchiveIndex {
    config: PostgresConfig,
    ca_file: Option<PathBuf>,
    client: Option<Client>,
}

/// A call as it is stored in the index (the PostgreSQL database of the archive).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IndexedCall {
    /// Id of the call at its site.
    pub(crate) id: String,
    /// Change number of the call's state in the archive's database. It grows with each change of the call.
    pub(crate) change: u64,
    /// Keys and checksums of the files of the call's recording, first part first.
    pub(crate) recordings: Vec<IndexedRecording>,
}

/// A recording as it is stored in the index (the PostgreSQL database of the archive).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IndexedRecording {
    /// Number of the segment (part), counted from 1.
    pub(crate) part: u32,
    /// Key of the recording in the object store.
    pub(crate) key: String,
    /// Size of the recording in the object store, bytes.
    pub(crate) bytes: u64,
    /// SHA-256 of the recording in the object store, lower-case hexadecimal.
    pub(crate) sha256: String,
}

impl ArchiveIndex {
    /// Prepares the connection to the database that the configuration describes. Does not connect yet.
    ///
    /// # Errors
    /// Fails if the URL is wrong or the file with the password cannot be read.
    pub(crate) fn open(config: &Config) -> Result<Self, ArchiveError> {
        let mut postgres = PostgresConfig::from_str(&config.index)
            .map_err(|e| ArchiveError::Setting(format!("archive.index is no PostgreSQL URL: {}", error_chain(&e))))?;
        if let Some(path) = &config.index_password_file {
            let password =
                std::fs::read_to_string(path).map_err(|source| ArchiveError::File { path: path.clone(), source })?;
            postgres.password(password.trim());
        }
        if !is_on_this_machine(&postgres) {
            postgres.ssl_mode(SslMode::Require);
        }
        postgres.connect_timeout(CONNECT_TIMEOUT).application_name("callspan").options(SESSION);
        postgres.tcp_user_timeout(DEAD_LINE).keepalives_idle(DEAD_LINE);
        postgres.keepalives_interval(PROBES).keepalives_retries(PROBE_COUNT);
        Ok(Self { config: postgres, ca_file: config.ca_file.clone(), client: None })
    }

    /// Prepares another connection to the same database. Does not connect yet.
    pub(crate) fn unconnected(&self) -> Self {
        Self { config: self.config.clone(), ca_file: self.ca_file.clone(), client: None }
    }

    /// Writes the row of a call, unless the archive's database already has a later state of this call.
    pub(crate) async fn put_call(&mut self, job: &ArchiveJob, record: &CallRecord) -> ArchiveOutcome {
        let record = without_nul(serde_json::to_value(record).unwrap_or_default()).to_string();
        let recordings = serde_json::to_string(&job.objects).unwrap_or_default();
        let change = i64::try_from(job.change).unwrap_or(i64::MAX);
        let sql = "SELECT callspan.put_call($1, $2::text::jsonb, $3::text::jsonb)";
        match self.client().await {
            Ok(client) => match in_time(client.query_one(sql, &[&change, &record, &recordings])).await {
                Ok(Ok(row)) => match row.try_get::<_, i64>(0) {
                    Ok(stored) if stored > change => ArchiveOutcome::Behind(u64::try_from(stored).unwrap_or(u64::MAX)),
                    _ => ArchiveOutcome::Done,
                },
                Ok(Err(error)) => ArchiveOutcome::Failed(put_failure(&error)),
                Err(error) => self.fail_silent(&error),
            },
            Err(error) => ArchiveOutcome::Failed(ArchiveFailure::Passing(error.to_string())),
        }
    }

    /// Closes the connection after the database server did not respond, so that the next attempt opens a new
    /// connection. Returns the error as the outcome of the step.
    fn fail_silent(&mut self, error: &ArchiveError) -> ArchiveOutcome {
        self.client = None;
        ArchiveOutcome::Failed(ArchiveFailure::Passing(error.to_string()))
    }

    /// Reports to the archive's database that this site is alive, and how many calls it still has to send.
    ///
    /// # Errors
    /// Fails if the database does not respond or refuses the request.
    pub(crate) async fn report_site(&mut self, backlog: ArchiveBacklog) -> Result<(), ArchiveError> {
        let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let version = env!("CARGO_PKG_VERSION");
        let sql = "SELECT callspan.report_site($1, $2, $3)";
        self.tell(sql, &[&version, &count(backlog.owed), &count(backlog.refused)]).await
    }

    /// Reports the counters of this site's recorder to the archive's database. A database with the schema of an older
    /// callspan does not accept them.
    ///
    /// # Errors
    /// Fails if the database does not respond or refuses the request.
    pub(crate) async fn report_health(&mut self, health: &Value) -> Result<(), ArchiveError> {
        let (sql, health) = ("SELECT callspan.report_health($1::text::jsonb)", health.to_string());
        self.tell(sql, &[&health]).await
    }

    /// Runs a statement without a result. If the server is silent, the next request opens a new connection.
    pub(super) async fn tell(&mut self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<(), ArchiveError> {
        let answer = in_time(self.client().await?.execute(sql, parameters)).await;
        if answer.is_err() {
            self.client = None;
        }
        answer?.map_err(|e| index_error(&e))?;
        Ok(())
    }

    /// Replaces the list of correlation headers: SIP headers that have the same value in the records of one call at all
    /// sites. If the list changed, searches the last two days again for calls that two sites recorded.
    ///
    /// # Errors
    /// Fails if the database does not respond or refuses the request.
    pub(crate) async fn set_correlation_headers(&mut self, names: &[String]) -> Result<(), ArchiveError> {
        let names: Vec<String> = names.iter().map(|name| name.to_lowercase()).collect();
        self.client().await?;
        let Some(client) = &mut self.client else { return Err(ArchiveError::Index(String::from("not connected"))) };
        let transaction = client.transaction().await.map_err(|e| index_error(&e))?;
        let mut changed = 0;
        for sql in [
            "DELETE FROM callspan.correlation_headers WHERE name <> ALL($1)",
            "INSERT INTO callspan.correlation_headers SELECT unnest($1::text[]) ON CONFLICT DO NOTHING",
        ] {
            changed += transaction.execute(sql, &[&names]).await.map_err(|e| index_error(&e))?;
        }
        if changed > 0 {
            // Searching the calls of two days again may take longer than the usual time limit of a statement, so the
            // limit is switched off.
            let rebuild = "SET LOCAL statement_timeout = 0; SELECT callspan.rebuild_shared()";
            transaction.batch_execute(rebuild).await.map_err(|e| index_error(&e))?;
        }
        transaction.commit().await.map_err(|e| index_error(&e))
    }

    /// Adds a site, and the PostgreSQL role by which the site writes. If the site already exists, its role gets the new
    /// password. The server gets a SCRAM verifier instead of the password, so that no server log contains the password.
    ///
    /// # Errors
    /// Fails if the database does not respond or refuses the request.
    pub(crate) async fn add_site(&mut self, site: &str, password: &str) -> Result<String, ArchiveError> {
        let role = format!("callspan_{site}");
        let sql = format!(
            "DO $do$ BEGIN
                IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = {name}) THEN CREATE ROLE {role} LOGIN; END IF;
             END $do$;
             ALTER ROLE {role} LOGIN PASSWORD {password} CONNECTION LIMIT 4;
             INSERT INTO callspan.sites (site, role_name) VALUES ({site}, {name}) ON CONFLICT (site) DO NOTHING;
             GRANT USAGE ON SCHEMA callspan TO {role};
             GRANT EXECUTE ON FUNCTION callspan.put_call(bigint, jsonb, jsonb),
                callspan.report_site(text, bigint, bigint), callspan.report_health(jsonb),
                callspan.put_audit(jsonb), callspan.put_topology(jsonb) TO {role};",
            name = literal(&role),
            role = identifier(&role),
            password = literal(&scram_sha_256(password.as_bytes())),
            site = literal(site),
        );
        self.client().await?.batch_execute(&sql).await.map_err(|e| index_error(&e))?;
        Ok(role)
    }

    /// Returns at most `limit` calls of a site, sorted by id, beginning after the id `after`.
    ///
    /// # Errors
    /// Fails if the database does not respond or refuses the request.
    pub(crate) async fn calls_of(
        &mut self,
        site: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<IndexedCall>, ArchiveError> {
        let sql = format!("{INDEXED_CALL} WHERE c.site = $1 AND c.id > $2 ORDER BY c.id LIMIT $3");
        let parameters: [&(dyn ToSql + Sync); 3] = [&site, &after, &i64::from(limit)];
        let rows = self.client().await?.query(&sql, &parameters).await.map_err(|e| index_error(&e))?;
        rows.iter().map(read_call).collect()
    }

    /// Returns a call of a site; `None` if the archive's database has no such call.
    ///
    /// # Errors
    /// Fails if the database does not respond or refuses the request.
    pub(crate) async fn call_of(&mut self, site: &str, id: &str) -> Result<Option<IndexedCall>, ArchiveError> {
        let sql = format!("{INDEXED_CALL} WHERE c.site = $1 AND c.id = $2");
        let row = self.client().await?.query_opt(&sql, &[&site, &id]).await.map_err(|e| index_error(&e))?;
        row.as_ref().map(read_call).transpose()
    }

    /// Returns the call record of a site's call as JSON; `None` if the archive's database has no such call.
    ///
    /// # Errors
    /// Fails if the database does not respond or refuses the request.
    pub(crate) async fn record_of(&mut self, site: &str, id: &str) -> Result<Option<String>, ArchiveError> {
        let sql = "SELECT record::text FROM callspan.calls WHERE site = $1 AND id = $2";
        let row = self.client().await?.query_opt(sql, &[&site, &id]).await.map_err(|e| index_error(&e))?;
        Ok(row.map(|row| row.get(0)))
    }

    /// Drops the connection, so that the next query makes a new connection.
    pub(super) fn forget_connection(&mut self) {
        self.client = None;
    }

    pub(super) async fn client(&mut self) -> Result<&Client, ArchiveError> {
        if self.client.as_ref().is_none_or(Client::is_closed) {
            self.client = Some(in_time(connect(&self.config, self.ca_file.as_ref())).await??);
        }
        self.client.as_ref().ok_or_else(|| ArchiveError::Index(String::from("not connected")))
    }
}

async fn connect(config: &PostgresConfig, ca_file: Option<&PathBuf>) -> Result<Client, ArchiveError> {
    if is_on_this_machine(config) && config.get_ssl_mode() != SslMode::Require {
        let (client, connection) = config.connect(NoTls).await.map_err(|e| index_error(&e))?;
        tokio::spawn(connection); // when the task ends, `Client::is_closed` returns true
        return Ok(client);
    }
    let (client, connection) =
        config.connect(MakeRustlsConnect::new(tls(ca_file)?)).await.map_err(|e| index_error(&e))?;
    tokio::spawn(connection);
    Ok(client)
}

fn tls(ca_file: Option<&PathBuf>) -> Result<rustls::ClientConfig, ArchiveError> {
    use rustls_platform_verifier::BuilderVerifierExt;
    let bad = |reason: String| ArchiveError::Setting(format!("archive.ca_file: {reason}"));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| bad(e.to_string()))?;
    let Some(path) = ca_file else {
        let builder = builder.with_platform_verifier().map_err(|e| bad(e.to_string()))?;
        return Ok(builder.with_no_client_auth());
    };
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|e| bad(e.to_string()))? {
        roots.add(certificate.map_err(|e| bad(e.to_string()))?).map_err(|e| bad(e.to_string()))?;
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Reads a call from a row of the query [`INDEXED_CALL`].
fn read_call(row: &IndexRow) -> Result<IndexedCall, ArchiveError> {
    Ok(IndexedCall {
        id: row.get(0),
        change: u64::try_from(row.get::<_, i64>(1)).unwrap_or_default(),
        recordings: read_recordings(row.get(2))?,
    })
}

/// Parses recordings as the archive's database returns them: a JSON list of `[part, key, bytes, sha256]`.
pub(super) fn read_recordings(json: &str) -> Result<Vec<IndexedRecording>, ArchiveError> {
    let rows: Vec<(u32, String, u64, String)> = serde_json::from_str(json)
        .map_err(|error| ArchiveError::Index(format!("a row of the recordings is wrong: {error}")))?;
    Ok(rows.into_iter().map(|(part, key, bytes, sha256)| IndexedRecording { part, key, bytes, sha256 }).collect())
}

/// Waits for the result of a database request. Fails if the server does not respond within [`SILENCE`].
pub(super) async fn in_time<T>(step: impl Future<Output = T>) -> Result<T, ArchiveError> {
    let silent = || ArchiveError::Index(format!("PostgreSQL is silent for {} s", SILENCE.as_secs()));
    tokio::time::timeout(SILENCE, step).await.map_err(|_| silent())
}

/// Converts an error of a write to a permanent or a passing failure. It is permanent if PostgreSQL cannot store the
/// values: SQLSTATE classes 22, 23 and 54 (PostgreSQL manual, appendix A). Any other failure may pass, so the write is
/// repeated.
fn put_failure(error: &PostgresError) -> ArchiveFailure {
    let text = index_error(error).to_string();
    let class = error.code().and_then(|code| code.code().get(..2));
    if matches!(class, Some("22" | "23" | "54")) {
        ArchiveFailure::Unacceptable(text)
    } else {
        ArchiveFailure::Passing(text)
    }
}

/// Returns whether every configured host is this machine. A connection to this machine needs no TLS, because nobody can
/// intercept it.
fn is_on_this_machine(config: &PostgresConfig) -> bool {
    // If the configuration has both an address and a host name, `tokio_postgres` connects to the address. So every
    // address must be local, too.
    let are_local = config.get_hostaddrs().iter().all(std::net::IpAddr::is_loopback);
    are_local
        && config.get_hosts().iter().all(|host| match host {
            Host::Unix(_) => true,
            Host::Tcp(name) => {
                name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
            }
        })
}

/// Returns the text of a PostgreSQL error without its field DETAIL, which can contain the telephone numbers of a call.
pub(super) fn index_error(error: &PostgresError) -> ArchiveError {
    ArchiveError::Index(match error.as_db_error() {
        Some(refusal) => format!("{} ({})", refusal.message(), refusal.code().code()),
        None => error_chain(error),
    })
}

/// Replaces NUL characters in JSON texts. The PostgreSQL type jsonb cannot store them, but a captured SIP header can
/// contain them.
pub(super) fn without_nul(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(text.replace('\0', "\u{fffd}")),
        Value::Array(values) => values.into_iter().map(without_nul).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(key, value)| (key.replace('\0', "\u{fffd}"), without_nul(value))).collect()
        }
        other => other,
    }
}

/// Quotes a text as an SQL literal (PostgreSQL manual, 4.1.2.1).
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Quotes a name as an SQL identifier (PostgreSQL manual, 4.1.1).
fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// SQL that selects id, change number and recordings of calls.
const INDEXED_CALL: &str = "SELECT c.id, c.change,
    coalesce((SELECT jsonb_agg(jsonb_build_array(r.part, r.key, r.bytes, r.sha256) ORDER BY r.part)
        FROM callspan.recordings r WHERE r.site = c.site AND r.call_id = c.id), '[]')::text FROM callspan.calls c";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum time to wait for a response of the database server. Without this limit, a server that accepts connections
/// but does not respond would block the thread for hours.
const SILENCE: Duration = Duration::from_secs(60);
/// Time after which a connection counts as dead if the other side confirms nothing. Without it, TCP sends again for a
/// quarter of an hour. It is also the idle time after which the first probe is sent, so that no firewall forgets the
/// connection.
const DEAD_LINE: Duration = Duration::from_secs(30);
/// Interval between two probes of an idle connection.
const PROBES: Duration = Duration::from_secs(10);
/// Number of probes without an answer after which an idle connection is dead.
const PROBE_COUNT: u32 = 3;
/// Options of a session. The server ends a statement that waits too long, e.g. for a lock or a failing disk. It notices a
/// dead line as soon as this side does. Otherwise dead sessions would use up the connections that a site may have.
/// Backslashes in SQL literals are plain characters.
const SESSION: &str = "-c statement_timeout=30s -c standard_conforming_strings=on -c tcp_user_timeout=30s \
                       -c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_this_machine_need_no_tls() {
        let is_local = |url: &str| is_on_this_machine(&PostgresConfig::from_str(url).unwrap());
        for local in ["postgresql:///db?host=/run/postgresql", "postgresql://127.0.0.1/db", "postgresql://[::1]/db"] {
            assert!(is_local(local), "{local}");
        }
        for remote in [
            "postgresql://db.example.org/db",
            "postgresql:///db?hostaddr=192.0.2.5",
            "postgresql://localhost/db?hostaddr=192.0.2.5",
        ] {
            assert!(!is_local(remote), "{remote}");
        }
    }
}
