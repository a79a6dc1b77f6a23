//! The tables of the journal, their version, and the migrations from older versions.

use rusqlite::{Connection, params};

use super::{Error, JournalResult, search};

/// Schema version that this program writes (`PRAGMA user_version`).
pub(crate) const VERSION: i64 = 8;

/// Refuses a file that a newer version of callspan wrote. An older or empty file is accepted.
pub(super) fn check_version(connection: &Connection) -> JournalResult<()> {
    let found = version(connection)?;
    if found > VERSION { Err(Error::Newer { found, known: VERSION }) } else { Ok(()) }
}

/// Refuses every schema version except [`VERSION`], for processes that must not migrate.
pub(super) fn check_current(connection: &Connection) -> JournalResult<()> {
    check_version(connection)?;
    let found = version(connection)?;
    if found < VERSION { Err(Error::Older { found, known: VERSION }) } else { Ok(()) }
}

/// Migrates the file to [`VERSION`] in one transaction.
pub(super) fn migrate(connection: &mut Connection) -> JournalResult<()> {
    migrate_to(connection, VERSION)
}

/// Migrates the file to a given version. Tests use it to make files of older versions.
pub(super) fn migrate_to(connection: &mut Connection, wanted: i64) -> JournalResult<()> {
    let found = version(connection)?;
    if found >= wanted {
        return Ok(());
    }
    let transaction = connection.transaction()?;
    for (from, step) in (0..).zip(MIGRATIONS) {
        if (found..wanted).contains(&from) {
            transaction.execute_batch(step)?;
            if step == V7 {
                search::fill(&transaction)?; // in Rust, because SQLite lower-cases only ASCII letters
            }
        }
    }
    transaction.execute(
        "INSERT OR REPLACE INTO meta (key, value) VALUES ('written_by', ?1)",
        params![concat!("callspan ", env!("CARGO_PKG_VERSION"))],
    )?;
    transaction.pragma_update(None, "user_version", wanted)?;
    transaction.commit()?;
    Ok(())
}

fn version(connection: &Connection) -> JournalResult<i64> {
    Ok(connection.query_row("PRAGMA user_version", [], |row| row.get(0))?)
}

/// SQL of the migrations. The text at index n migrates from version n to n + 1. A released migration never changes.
const MIGRATIONS: [&str; VERSION as usize] = [V1, V2, V3, V4, V5, V6, V7, V8];

/// First version of the tables. Times are µs since the Unix epoch. The columns `stage` and `state` contain the names of
/// enum variants, e.g. `live`.
const V1: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

CREATE TABLE calls (
    id          TEXT PRIMARY KEY,
    stage       TEXT NOT NULL,              -- live, ended (its sound is still to be rendered), complete
    invited_at  INTEGER,
    answered_at INTEGER,
    ended_at    INTEGER,
    direction   TEXT NOT NULL,
    from_number TEXT,
    to_number   TEXT,
    internal    TEXT,
    outcome     TEXT NOT NULL,
    verdict     TEXT,
    record      TEXT NOT NULL               -- the call record, JSON
) STRICT;
CREATE INDEX calls_by_time ON calls (invited_at);
CREATE INDEX calls_open ON calls (stage) WHERE stage <> 'complete';

CREATE TABLE legs (
    call_id     TEXT NOT NULL,
    name        TEXT NOT NULL,              -- stem of the spool file
    idx         INTEGER NOT NULL,           -- place in record.legs
    same_sides  INTEGER NOT NULL,           -- 0: its caller is the record's callee
    state       TEXT NOT NULL,              -- open, closed, rendered, removed
    PRIMARY KEY (call_id, name)
) STRICT;

CREATE TABLE recordings (
    call_id     TEXT NOT NULL,
    part        INTEGER NOT NULL,
    path        TEXT NOT NULL,
    bytes       INTEGER NOT NULL,
    sha256      TEXT NOT NULL,
    state       TEXT NOT NULL,              -- present, removed
    PRIMARY KEY (call_id, part)
) STRICT;

CREATE TABLE deliveries (
    id          TEXT PRIMARY KEY,           -- calls.id = external_id
    stage       TEXT NOT NULL,              -- new, registering, unsure, registered, uploading, uploaded, attaching, done, parked, dead
    settled     INTEGER NOT NULL,           -- 1: done or dead, nothing is owed any more
    task_id     INTEGER,
    guid        TEXT,                       -- of the last upload
    md5         TEXT,
    attempts    INTEGER NOT NULL,
    next_at     INTEGER,
    note        TEXT,                       -- for a person: why it stands where it stands
    body        TEXT NOT NULL               -- the job, JSON
) STRICT;
CREATE INDEX deliveries_owed ON deliveries (id) WHERE settled = 0;

CREATE TABLE retries (id TEXT PRIMARY KEY) STRICT;   -- asked for by a person, taken up by the service

CREATE TABLE dropped_codes (
    code        TEXT PRIMARY KEY,
    at          INTEGER NOT NULL,
    reason      TEXT NOT NULL
) STRICT;
";

/// Adds retention holds (files that a person keeps), removal times, and the list of calls that must still be passed to
/// delivery.
const V2: &str = "
CREATE TABLE holds (
    call_id     TEXT PRIMARY KEY,
    at          INTEGER NOT NULL,           -- since when nothing of the call may be removed
    why         TEXT                        -- in the words of whoever asked
) STRICT;

CREATE TABLE untold (                       -- calls that delivery has not made its own yet
    call_id     TEXT PRIMARY KEY,
    registration TEXT NOT NULL              -- allowed, forbidden (by a rule)
) STRICT;

CREATE TABLE renders (id TEXT PRIMARY KEY) STRICT;   -- asked for by a person, taken up by the service

ALTER TABLE recordings ADD COLUMN removed_at INTEGER;
ALTER TABLE recordings ADD COLUMN removed_why TEXT;
CREATE INDEX recordings_present ON recordings (call_id) WHERE state = 'present';
CREATE INDEX legs_by_name ON legs (name);
";

/// Adds the list of JSON call records that are out of date.
const V3: &str = "
CREATE TABLE stale_records (
    id          TEXT PRIMARY KEY,           -- calls.id
    change      INTEGER NOT NULL            -- counts the changes of the delivery
) STRICT;
";

/// Adds columns for encryption at rest, and a database index that finds the oldest recordings without reading all
/// calls.
const V4: &str = "
ALTER TABLE calls ADD COLUMN sealed INTEGER NOT NULL DEFAULT 0;    -- 1: nothing of it is left to encrypt
CREATE INDEX calls_unsealed ON calls (id) WHERE sealed = 0 AND stage = 'complete';

ALTER TABLE recordings ADD COLUMN plain_sha256 TEXT;               -- not NULL: the file is encrypted, this was in it
ALTER TABLE recordings ADD COLUMN at INTEGER NOT NULL DEFAULT 9223372036854775807;  -- begin of the call; unknown: last
UPDATE recordings SET at = coalesce((SELECT coalesce(c.invited_at, c.answered_at, c.ended_at) FROM calls c
    WHERE c.id = recordings.call_id), at);
DROP INDEX recordings_present;
CREATE INDEX recordings_present ON recordings (at, call_id, part, bytes) WHERE state = 'present';

CREATE TABLE leftovers (path TEXT PRIMARY KEY) STRICT;   -- files that may be there and belong to no row: to be removed
";

/// Replaces the database index of calls by time. The new index also sorts calls of which no INVITE was captured.
const V5: &str = "
DROP INDEX calls_by_time;
CREATE INDEX calls_by_begin ON calls (coalesce(invited_at, answered_at, ended_at, 0), id);
";

/// Adds a trigram database index over the numbers of caller and callee. The index has its own row ids, because the row
/// ids of `calls` can change.
const V6: &str = "
CREATE TABLE call_numbers (
    n           INTEGER PRIMARY KEY,
    call_id     TEXT NOT NULL UNIQUE,
    numbers     TEXT NOT NULL               -- both numbers of the call
) STRICT;
INSERT INTO call_numbers (call_id, numbers)
    SELECT id, coalesce(from_number, '') || ' ' || coalesce(to_number, '') FROM calls;

CREATE VIRTUAL TABLE call_digits USING fts5(
    numbers, content='call_numbers', content_rowid='n', tokenize='trigram', detail='none', columnsize=0
);
INSERT INTO call_digits (call_digits) VALUES ('rebuild');

CREATE TRIGGER call_numbers_new AFTER INSERT ON call_numbers BEGIN
    INSERT INTO call_digits (rowid, numbers) VALUES (new.n, new.numbers);
END;
CREATE TRIGGER call_numbers_changed AFTER UPDATE ON call_numbers BEGIN
    INSERT INTO call_digits (call_digits, rowid, numbers) VALUES ('delete', old.n, old.numbers);
    INSERT INTO call_digits (rowid, numbers) VALUES (new.n, new.numbers);
END;
";

/// Adds the table `call_search`, with only the columns that a search compares. A search reads all its rows.
const V7: &str = "
CREATE TABLE call_search (
    begin       INTEGER NOT NULL,           -- as in calls_by_begin
    id          TEXT NOT NULL,
    length_s    INTEGER,
    direction   TEXT NOT NULL,
    outcome     TEXT NOT NULL,
    heard       TEXT NOT NULL,              -- class of the day summary
    extension   TEXT,
    from_extension TEXT,                    -- of internal calls
    to_extension TEXT,
    numbers     TEXT NOT NULL,              -- digits of all numbers, separated by spaces
    names       TEXT NOT NULL,              -- names of the parties, lower case
    PRIMARY KEY (begin, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX deliveries_by_stage ON deliveries (id, stage);
";

/// Adds the jobs of the central archive. While an archive is configured, SQL triggers add a job for each change of a
/// complete call.
const V8: &str = "
CREATE TABLE archive_jobs (
    call_id     TEXT PRIMARY KEY,
    change      INTEGER NOT NULL,           -- counts the changes of the call
    archived    INTEGER NOT NULL DEFAULT 0, -- the change that the archive has; less than change: something is owed
    refused     INTEGER NOT NULL DEFAULT 0, -- the change that the archive cannot take
    attempts    INTEGER NOT NULL DEFAULT 0,
    next_at     INTEGER,
    note        TEXT,                       -- for a person: why it waits
    objects     TEXT NOT NULL DEFAULT '[]'  -- the recordings, JSON
) STRICT;
CREATE INDEX archive_owed ON archive_jobs (coalesce(next_at, 0), call_id) WHERE archived < change AND refused < change;

CREATE TRIGGER archive_new_call AFTER INSERT ON calls
WHEN new.stage = 'complete' AND EXISTS (SELECT 1 FROM meta WHERE key = 'archive') BEGIN
    INSERT INTO archive_jobs (call_id, change) VALUES (new.id, 1)
        ON CONFLICT (call_id) DO UPDATE SET change = change + 1, next_at = NULL;
END;
CREATE TRIGGER archive_changed_call AFTER UPDATE OF stage, record ON calls
WHEN new.stage = 'complete' AND EXISTS (SELECT 1 FROM meta WHERE key = 'archive') BEGIN
    INSERT INTO archive_jobs (call_id, change) VALUES (new.id, 1)
        ON CONFLICT (call_id) DO UPDATE SET change = change + 1, next_at = NULL;
END;
CREATE TRIGGER archive_new_delivery AFTER INSERT ON deliveries BEGIN
    UPDATE archive_jobs SET change = change + 1 WHERE call_id = new.id AND EXISTS (SELECT 1 FROM meta WHERE key = 'archive');
END;
CREATE TRIGGER archive_new_hold AFTER INSERT ON holds BEGIN
    UPDATE archive_jobs SET change = change + 1
        WHERE call_id = new.call_id AND EXISTS (SELECT 1 FROM meta WHERE key = 'archive');
END;
CREATE TRIGGER archive_ended_hold AFTER DELETE ON holds BEGIN
    UPDATE archive_jobs SET change = change + 1
        WHERE call_id = old.call_id AND EXISTS (SELECT 1 FROM meta WHERE key = 'archive');
END;
CREATE TRIGGER archive_changed_recording AFTER UPDATE OF path, sha256, state ON recordings
WHEN new.path IS NOT old.path OR new.sha256 IS NOT old.sha256 BEGIN
    UPDATE archive_jobs SET change = change + 1, next_at = NULL
        WHERE call_id = new.call_id AND EXISTS (SELECT 1 FROM meta WHERE key = 'archive');
END;
";

#[cfg(test)]
mod tests {
    #[test]
    fn package_knows_the_version_of_the_journal() {
        let preinst = include_str!("../../deploy/deb/preinst");
        let line = preinst.lines().find_map(|line| line.strip_prefix("SCHEMA="));
        assert_eq!(line, Some(super::VERSION.to_string().as_str()), "deploy/deb/preinst");
    }
}
