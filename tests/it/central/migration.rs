//! Tests of `central migrate` while sites write and the centre shows calls.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Central, Postgres};

impl Postgres {
    /// Starts a reader of the calls in a transaction that stays open, as a long report does.
    fn start_reader(&self) -> Child {
        self.start_transaction("SELECT count(*) FROM callspan.calls")
    }

    /// Starts a transaction that runs `sql` and then stays open.
    fn start_transaction(&self, sql: &str) -> Child {
        let sql = &format!("BEGIN; {sql}; SELECT pg_sleep(600)");
        let mut psql = Command::new(self.programs.join("psql"));
        psql.args(["-X", "-c", sql, &self.url("postgres")]).stdout(Stdio::null()).stderr(Stdio::null());
        let reader = psql.spawn().expect("psql");
        self.wait_for("SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'");
        reader
    }

    fn end_reader(&self, mut reader: Child) {
        self.sql("postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
            .expect("ended");
        reader.wait().expect("it ends");
    }

    /// Waits until a query returns true.
    fn wait_for(&self, sql: &str) {
        let until = Instant::now() + Duration::from_secs(30);
        while self.sql("postgres", sql).expect("answers") != "t" {
            assert!(Instant::now() < until, "{sql}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Central {
    /// Turns the schema into that of version 6, as far as `central migrate` looks at it.
    fn go_back_to_version_6(&self) {
        let sql = |sql: &str| self.postgres.sql("postgres", sql).expect("changed");
        sql("DELETE FROM callspan.versions WHERE version = 7");
        sql("DROP INDEX callspan.calls_by_heard, callspan.calls_by_outcome, callspan.calls_by_delivery, \
             callspan.calls_by_direction, callspan.calls_by_length");
        sql("DROP INDEX callspan.calls_by_site; CREATE INDEX calls_by_site ON callspan.calls (site, begin_at DESC)");
    }

    /// Turns the schema into that of version 5, as far as `central migrate` and a site that writes look at it.
    fn go_back_to_version_5(&self) {
        let sql = |sql: &str| self.postgres.sql("postgres", sql).expect("changed");
        sql("DELETE FROM callspan.versions WHERE version > 5; DROP VIEW callspan.legs; \
             DROP INDEX callspan.calls_by_voice; ALTER INDEX callspan.calls_by_day_key RESET (fastupdate)");
        sql("DROP FUNCTION callspan.voice_prints, callspan.voice_keys, callspan.with_voices, callspan.same_voices, \
             callspan.enter_shared; CREATE OR REPLACE FUNCTION callspan.note_shared() RETURNS trigger \
             LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'");
    }

    /// Replaces the schema by that of version 1, with the site north and [`OLD_CALLS`] of its calls. The site south has a
    /// call of today in common with it.
    fn go_back_to_version_1(&self) {
        let sql = |role: &str, sql: &str| self.postgres.sql(role, sql).expect("changed");
        let versions = "DROP SCHEMA callspan CASCADE; CREATE SCHEMA callspan; CREATE TABLE callspan.versions \
            (version integer PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(), written_by text NOT NULL)";
        sql("postgres", versions);
        sql("postgres", include_str!("../../../src/central/version_1.sql"));
        let site = "INSERT INTO callspan.versions VALUES (1, now(), 'a test'); \
            INSERT INTO callspan.sites (site, role_name) VALUES ('north', 'callspan_north'); \
            GRANT USAGE ON SCHEMA callspan TO callspan_north; GRANT EXECUTE ON FUNCTION \
            callspan.put_call(bigint, jsonb, jsonb), callspan.report_site(text, bigint, bigint) TO callspan_north";
        sql("postgres", site);
        let calls = format!("SELECT count({}) FROM generate_series(1, {OLD_CALLS}) n", put("1", "'old' || n", "1"));
        sql("callspan_north", &calls);
        let pair = "INSERT INTO callspan.sites (site, role_name) VALUES ('south', 'nobody'); \
            INSERT INTO callspan.calls (site, id, change, begin_at, direction, outcome, digits, call_ids, session_ids, \
            record) SELECT s, 'pair', 0, now(), 'inbound', 'missed', '', ARRAY['one@trunk'], '{}', '{}' \
            FROM unnest(ARRAY['north', 'south']) s";
        sql("postgres", pair);
    }

    /// Returns the schema as SQL.
    fn schema(&self) -> String {
        let program = self.postgres.programs.join("pg_dump");
        let dump = Command::new(program).args(["-s", "-n", "callspan", &self.postgres.url("postgres")]).output();
        let dump = super::text(&dump.expect("pg_dump"));
        assert!(dump.contains("CREATE TABLE callspan.calls"), "{dump}");
        dump.lines().filter(|line| !line.starts_with('\\')).collect::<Vec<_>>().join("\n")
    }

    /// Writes two calls as a site, one of them again with two recordings. Neither may wait long.
    fn write(&self, n: u32) {
        for (change, call, recordings) in [("1", "new", "1"), ("2", "old", "2")] {
            let sql = put(change, &format!("'{call}{n}'"), recordings);
            let sql = format!("SET statement_timeout = '3s'; SELECT {sql}");
            self.postgres.sql("callspan_north", &sql).unwrap_or_else(|error| panic!("{call}{n}: {error}"));
        }
    }

    /// Asserts that the tables have the calls of version 1 and those that [`Self::write`] wrote, in their last state.
    fn assert_calls(&self, written: u32) {
        let sql = "SELECT (SELECT count(*) || ' ' || sum(change) FROM callspan.calls), \
            (SELECT count(*) || ' ' || count(DISTINCT (site, call_id)) FROM callspan.recordings), \
            (SELECT count(*) FROM callspan.calls WHERE id = 'old7' AND length_s = 7 AND names LIKE 'ann%'), \
            (SELECT count(*) FROM callspan.shared_calls)";
        let calls = OLD_CALLS + written;
        let wanted = format!("{} {1}|{1} {calls}|1|1", calls + 2, calls + written);
        assert_eq!(self.postgres.sql("postgres", sql).expect("answers"), wanted);
    }

    fn start_migration(&self) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_callspan"));
        command.args(["central", "migrate", "-c"]).arg(self.config()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let migration = command.spawn().expect("starts");
        self.postgres.wait_for("SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'");
        migration
    }

    fn indexes(&self) -> String {
        let sql = "SELECT indexrelid::regclass::text || ' ' || indisvalid || ' ' || pg_get_indexdef(indexrelid)
            FROM pg_index WHERE indrelid = 'callspan.calls'::regclass ORDER BY 1";
        self.postgres.sql("postgres", sql).expect("answers")
    }
}

/// Returns the SQL with which a site writes a call. The parameters are SQL, too: change, id and number of recordings.
fn put(change: &str, id: &str, recordings: &str) -> String {
    format!(
        "callspan.put_call({change}, jsonb_build_object('id', {id}, 'direction', 'inbound', 'outcome', 'missed', \
         'from_name', 'Ann', 'duration_s', 7.5, 'legs', '[]'::jsonb), (SELECT jsonb_agg(jsonb_build_object('part', p, \
         'key', 'north/' || {id} || p, 'bytes', 44, 'sha256', '00')) FROM generate_series(1, {recordings}) p))"
    )
}

/// Number of calls in the schema of version 1: more than are copied at once.
const OLD_CALLS: u32 = 2_500;

/// Writes a call as a site, and counts the calls as the centre does. Neither may wait.
fn write_and_read(central: &Central, call: &str) -> String {
    let put = format!(
        "SET statement_timeout = '3s'; SELECT callspan.put_call(1, \
         '{{\"id\":\"{call}\",\"direction\":\"inbound\",\"outcome\":\"missed\",\"legs\":[]}}', '[]')"
    );
    central.postgres.sql("callspan_north", &put).expect("a site writes during the migration");
    let count = "SET statement_timeout = '3s'; SELECT count(*) FROM callspan.calls";
    central.postgres.sql("postgres", count).expect("the centre reads during the migration")
}

#[test]
#[cfg_attr(not(has_postgres), ignore = "needs PostgreSQL 15 and setpriv, as root")]
fn sites_write_and_centre_reads_while_the_indexes_are_built() {
    let central = Central::start();
    central.add("north");
    let wanted = central.indexes();
    central.go_back_to_version_6();
    assert_ne!(central.indexes(), wanted);
    let reader = central.postgres.start_reader();
    let migration = central.start_migration();
    assert!(write_and_read(&central, "a").ends_with('1'));
    central.postgres.end_reader(reader);
    let output = migration.wait_with_output().expect("it ends");
    let said = super::text(&output);
    assert!(output.status.success() && said.contains("from version 6 to 7"), "{said}");
    assert_eq!(central.indexes(), wanted);
    assert!(write_and_read(&central, "b").ends_with('2'));
}

#[test]
#[cfg_attr(not(has_postgres), ignore = "needs PostgreSQL 15 and setpriv, as root")]
fn migration_that_was_killed_is_continued() {
    let central = Central::start();
    central.add("north");
    let wanted = central.indexes();
    central.go_back_to_version_6();
    let reader = central.postgres.start_reader();
    let mut migration = central.start_migration();
    migration.kill().expect("killed");
    migration.wait().expect("it ends");
    // The server ends the statement of a lost client only later. So another migration waits for it.
    let ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    central.postgres.sql("postgres", ended).expect("ended");
    assert!(central.indexes().contains("_new false"), "an index is left that is not complete");
    assert!(write_and_read(&central, "a").ends_with('1'));
    central.postgres.end_reader(reader);
    assert!(central.run(&["migrate"], "").contains("from version 6 to 7"));
    assert_eq!(central.indexes(), wanted);
}

#[test]
#[cfg_attr(not(has_postgres), ignore = "needs PostgreSQL 15 and setpriv, as root")]
fn sites_write_while_the_tables_get_successors() {
    let central = Central::start();
    central.add("north");
    let wanted = central.schema();
    central.go_back_to_version_1();
    let reader = central.postgres.start_reader();
    let migration = central.start_migration();
    (1..=10).for_each(|n| central.write(n));
    central.postgres.end_reader(reader);
    (11..=20).for_each(|n| central.write(n));
    let said = super::text(&migration.wait_with_output().expect("it ends"));
    assert!(said.contains("from version 1 to 7"), "{said}");
    (21..=30).for_each(|n| central.write(n));
    central.assert_calls(30);
    assert_eq!(central.schema(), wanted);
}

#[test]
#[cfg_attr(not(has_postgres), ignore = "needs PostgreSQL 15 and setpriv, as root")]
fn copying_that_was_killed_is_continued() {
    let central = Central::start();
    central.add("north");
    let wanted = central.schema();
    central.go_back_to_version_1();
    // The copying of the last part waits for this call.
    let row = "SELECT 1 FROM callspan.calls WHERE id = 'old999' FOR UPDATE";
    let writer = central.postgres.start_transaction(row);
    let mut migration = central.start_migration();
    migration.kill().expect("killed");
    migration.wait().expect("it ends");
    let ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    central.postgres.sql("postgres", ended).expect("ended");
    (1..=10).for_each(|n| central.write(n));
    let copied = "SELECT count(*) BETWEEN 2000 AND 2400 FROM callspan_next.calls WHERE change = 1";
    assert_eq!(central.postgres.sql("postgres", copied).expect("answers"), "t");
    central.postgres.end_reader(writer);
    assert!(central.run(&["migrate"], "").contains("from version 1 to 7"));
    central.assert_calls(10);
    assert_eq!(central.schema(), wanted);
}

#[test]
#[cfg_attr(not(has_postgres), ignore = "needs PostgreSQL 15 and setpriv, as root")]
fn sites_write_while_copying_waits_for_a_row() {
    let central = Central::start();
    central.add("north");
    let wanted = central.schema();
    central.go_back_to_version_1();
    // The copying of the last part waits for this call. That part has the calls old6 to old9, too, which are written.
    let row = "SELECT 1 FROM callspan.calls WHERE id = 'old999' FOR UPDATE";
    let writer = central.postgres.start_transaction(row);
    let migration = central.start_migration();
    (1..=10).for_each(|n| central.write(n));
    central.postgres.end_reader(writer);
    let said = super::text(&migration.wait_with_output().expect("it ends"));
    assert!(said.contains("from version 1 to 7"), "{said}");
    central.assert_calls(10);
    assert_eq!(central.schema(), wanted);
}

#[test]
#[cfg_attr(not(has_postgres), ignore = "needs PostgreSQL 15 and setpriv, as root")]
fn sites_write_while_the_voices_are_added() {
    let central = Central::start();
    central.add("north");
    let wanted = central.schema();
    central.go_back_to_version_5();
    let reader = central.postgres.start_reader();
    let migration = central.start_migration();
    let counts: Vec<_> = ["a", "b", "c"].iter().map(|call| write_and_read(&central, call)).collect();
    assert!(counts[2].ends_with('3'), "{counts:?}");
    central.postgres.end_reader(reader);
    let said = super::text(&migration.wait_with_output().expect("it ends"));
    assert!(said.contains("from version 5 to 7"), "{said}");
    assert_eq!(central.schema(), wanted);
}

/// Each lock takes a place in a table of the server, which has about 6,400 by default.
#[test]
#[cfg_attr(not(has_postgres), ignore = "needs PostgreSQL 15 and setpriv, as root")]
fn calls_of_many_call_ids_are_entered() {
    let central = Central::start();
    central.add("north");
    central.go_back_to_version_1();
    let wide = "INSERT INTO callspan.calls (site, id, change, begin_at, direction, outcome, digits, call_ids, session_ids, \
        record) SELECT 'south', 'wide' || n, 0, now(), 'inbound', 'missed', '', \
        ARRAY(SELECT n || '-' || k || '@trunk' FROM generate_series(1, 320) k), '{}', '{}' FROM generate_series(1, 100) n";
    central.postgres.sql("postgres", wide).expect("written");
    let said = central.run(&["migrate"], "");
    assert!(said.contains("from version 1 to 7"), "{said}");
}
