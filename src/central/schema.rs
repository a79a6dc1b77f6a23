//! The schema of the index (the PostgreSQL database of the archive), version by version.
//!
//! A site's PostgreSQL role may execute `callspan.put_call`, `put_audit`, `put_topology`, `report_site` and
//! `report_health`, and nothing else. These functions find the site by the role that calls them. So a site cannot read
//! or write the rows of another site.

use super::schema_console::V2;
use super::schema_copies::V4;
use super::schema_same_day::V5;
use super::schema_search::V7;
use super::schema_shared::V3;
use super::schema_voice::V6;

/// A step from one version of the schema to the next, in four parts. The version is stored with the last part, so an
/// interrupted update repeats the parts before it.
#[derive(Clone, Copy)]
pub(super) struct Migration {
    /// SQL that runs in a transaction before the other parts; may be empty. It can be repeated.
    pub(super) first: &'static str,
    /// Query that works on some rows of a large table, and returns whether rows may be left; may be empty.
    pub(super) batch: &'static str,
    /// Database indexes of the table of calls. They are built while sites write and the centre shows calls.
    pub(super) indexes: &'static [IndexDefinition],
    /// SQL that runs in the last transaction. It may lock tables, so it must take little time if the tables are large.
    pub(super) last: &'static str,
}

impl Migration {
    /// The empty migration, for the parts that a migration does not have.
    pub(super) const EMPTY: Self = Self { first: "", batch: "", indexes: &[], last: "" };

    /// Creates a migration of one short transaction.
    const fn short(last: &'static str) -> Self {
        Self { last, ..Self::EMPTY }
    }
}

/// A database index that a migration builds. It replaces an older database index of the same name.
pub(super) struct IndexDefinition {
    /// Name of the database index, without the name of its schema.
    pub(super) name: &'static str,
    /// SQL after `CREATE INDEX … ON`: the table, its columns, and a condition.
    pub(super) on: &'static str,
}

/// The schema's migrations. The migration at index n migrates from version n to n + 1. The schema after a released
/// migration never changes.
pub(super) const MIGRATIONS: &[Migration] =
    &[Migration::short(include_str!("version_1.sql")), V2, V3, Migration::short(V4), V5, V6, V7];

/// SQL that creates the table of schema versions. It runs before any migration.
pub(super) const VERSIONS: &str = "
CREATE SCHEMA IF NOT EXISTS callspan;
CREATE TABLE IF NOT EXISTS callspan.versions (
    version     integer PRIMARY KEY,
    at          timestamptz NOT NULL DEFAULT now(),
    written_by  text NOT NULL
);
";
