//! Tests of `central migrate` while sites write and the centre shows calls.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Central, Postgres};

impl Postgres {
    /// Starts a reader of the calls in a transaction that stays open, as a long report does.
    fn start_reader(&self) -> Child {
        let sql = "BEGIN; SELECT count(*) FROM callspan.calls; SELECT pg_sleep(600)";
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
