//! The schema of the index (the PostgreSQL database of the archive), version by version.
//!
//! A site's PostgreSQL role may execute `callspan.put_call`, `put_audit`, `put_topology`, `report_site` and
//! `report_health`, and nothing else. These functions find the site by the role that calls them. So a site cannot read
//! or write the rows of another site.

use super::schema_copies::V4;
use super::schema_same_day::V5;
use super::schema_search::V7;
use super::schema_shared::V3;
use super::schema_voice::V6;

/// A step from one version of the schema to the next.
pub(super) enum Migration {
    /// SQL that runs in one transaction. It may lock tables, so it must take little time if the tables are large.
    Transaction(&'static str),
    /// Database indexes of the table of calls. They are built while sites write and the centre shows calls.
    Indexes(&'static [IndexDefinition]),
}

/// A database index that a migration builds. It replaces an older database index of the same name.
pub(super) struct IndexDefinition {
    /// Name of the database index, without the name of its schema.
    pub(super) name: &'static str,
    /// SQL after `CREATE INDEX … ON`: the table, its columns, and a condition.
    pub(super) on: &'static str,
}

/// The schema's migrations. The migration at index n migrates from version n to n + 1. A released migration never
/// changes.
pub(super) const MIGRATIONS: &[Migration] = &[
    Migration::Transaction(V1),
    Migration::Transaction(V2),
    Migration::Transaction(V3),
    Migration::Transaction(V4),
    Migration::Transaction(V5),
    Migration::Transaction(V6),
    Migration::Indexes(V7),
];

/// SQL that creates the table of schema versions. It runs before any migration.
pub(super) const VERSIONS: &str = "
CREATE SCHEMA IF NOT EXISTS callspan;
CREATE TABLE IF NOT EXISTS callspan.versions (
    version     integer PRIMARY KEY,
    at          timestamptz NOT NULL DEFAULT now(),
    written_by  text NOT NULL
);
";

const V1: &str = "
CREATE EXTENSION IF NOT EXISTS pg_trgm;

CREATE TABLE callspan.sites (
    site        text PRIMARY KEY,
    role_name   name NOT NULL UNIQUE,       -- the role that writes for this site
    created_at  timestamptz NOT NULL DEFAULT now(),
    seen_at     timestamptz,                -- last sign of life
    version     text,                       -- of callspan at the site
    backlog     bigint NOT NULL DEFAULT 0,  -- calls that the site still has to send
    refused     bigint NOT NULL DEFAULT 0   -- calls that a person at the site must look at
);

CREATE TABLE callspan.calls (
    site        text NOT NULL REFERENCES callspan.sites,
    id          text NOT NULL,
    change      bigint NOT NULL,            -- a row is replaced by the same or a later change only
    begin_at    timestamptz NOT NULL,
    ended_at    timestamptz,
    direction   text NOT NULL,
    outcome     text NOT NULL,
    verdict     text,
    extension   text,
    digits      text NOT NULL,              -- digits of all numbers, separated by blanks
    call_ids    text[] NOT NULL,            -- SIP Call-IDs of the legs, 512 characters of each: an index has a limit
    session_ids text[] NOT NULL,            -- both halves of a kept Session-ID header (RFC 7989)
    pyrus_task  bigint,
    record      jsonb NOT NULL,
    PRIMARY KEY (site, id)
);
CREATE INDEX calls_by_begin ON callspan.calls (begin_at DESC, site, id);
CREATE INDEX calls_by_extension ON callspan.calls (extension, begin_at DESC);
CREATE INDEX calls_by_digits ON callspan.calls USING gin (digits gin_trgm_ops);
CREATE INDEX calls_by_call_id ON callspan.calls USING gin (call_ids);
CREATE INDEX calls_by_session ON callspan.calls USING gin (session_ids);

CREATE TABLE callspan.recordings (
    site        text NOT NULL,
    call_id     text NOT NULL,
    part        integer NOT NULL,
    key         text NOT NULL,              -- in the object store
    bytes       bigint NOT NULL,
    sha256      text NOT NULL,
    PRIMARY KEY (site, call_id, part),
    FOREIGN KEY (site, call_id) REFERENCES callspan.calls (site, id)
);

-- Pairs of calls of two sites that are one call: they share a Call-ID or a Session-ID within a day.
CREATE VIEW callspan.same_calls AS
    SELECT a.site, a.id, b.site AS other_site, b.id AS other_id,
        CASE WHEN a.call_ids && b.call_ids THEN 'call_id' ELSE 'session_id' END AS why
    FROM callspan.calls a JOIN callspan.calls b
        ON a.site <> b.site AND (a.call_ids && b.call_ids OR a.session_ids && b.session_ids)
        AND b.begin_at BETWEEN a.begin_at - interval '1 day' AND a.begin_at + interval '1 day';

-- Calls that two sites registered in Pyrus, or none of those that heard it.
CREATE VIEW callspan.pyrus_owners AS
    SELECT s.site, s.id, s.other_site, s.other_id,
        (a.pyrus_task IS NOT NULL)::integer + (b.pyrus_task IS NOT NULL)::integer AS registered
    FROM callspan.same_calls s
        JOIN callspan.calls a ON a.site = s.site AND a.id = s.id
        JOIN callspan.calls b ON b.site = s.other_site AND b.id = s.other_id
    WHERE s.site < s.other_site;

CREATE FUNCTION callspan.own_site() RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found text;
BEGIN
    SELECT s.site INTO found FROM callspan.sites s WHERE s.role_name = session_user;
    IF found IS NULL THEN
        RAISE EXCEPTION 'role % writes for no site: run callspan central add-site', session_user
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN found;
END $$;

-- Returns the change that the index has afterwards: a later one than call_change if that was there before.
CREATE FUNCTION callspan.put_call(call_change bigint, call_record jsonb, call_recordings jsonb) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own text := callspan.own_site();
    call_id text := call_record ->> 'id';
    written bigint;
BEGIN
    IF EXISTS (SELECT 1 FROM jsonb_array_elements(call_recordings) r WHERE NOT starts_with(r ->> 'key', own || '/')) THEN
        RAISE EXCEPTION 'a recording of site % has a key outside of it', own USING ERRCODE = 'insufficient_privilege';
    END IF;
    INSERT INTO callspan.calls (site, id, change, begin_at, ended_at, direction, outcome, verdict, extension, digits,
        call_ids, session_ids, pyrus_task, record)
    VALUES (own, call_id, call_change,
        coalesce(call_record ->> 'invited_at', call_record ->> 'answered_at', call_record ->> 'ended_at', '1970-01-01Z')::timestamptz,
        (call_record ->> 'ended_at')::timestamptz, call_record ->> 'direction', call_record ->> 'outcome',
        call_record ->> 'verdict', left(call_record ->> 'internal', 128),
        regexp_replace(concat_ws(' ', call_record ->> 'from', call_record ->> 'to', call_record ->> 'internal'), '[^0-9 ]', '', 'g'),
        ARRAY(SELECT DISTINCT left(l ->> 'sip_call_id', 512) FROM jsonb_array_elements(call_record -> 'legs') l WHERE l ? 'sip_call_id'),
        ARRAY(SELECT DISTINCT m.found[1] FROM jsonb_each_text(coalesce(call_record -> 'headers', '{}')) h,
            regexp_matches(lower(h.value), '[0-9a-f]{32}', 'g') AS m(found)
            WHERE lower(h.key) = 'session-id' AND m.found[1] <> repeat('0', 32)),
        (call_record -> 'delivery' ->> 'task_id')::bigint, call_record)
    ON CONFLICT (site, id) DO UPDATE SET change = excluded.change, begin_at = excluded.begin_at,
        ended_at = excluded.ended_at, direction = excluded.direction, outcome = excluded.outcome,
        verdict = excluded.verdict, extension = excluded.extension, digits = excluded.digits,
        call_ids = excluded.call_ids, session_ids = excluded.session_ids, pyrus_task = excluded.pyrus_task,
        record = excluded.record
    WHERE callspan.calls.change <= excluded.change;
    GET DIAGNOSTICS written = ROW_COUNT;
    IF written > 0 THEN
        DELETE FROM callspan.recordings r WHERE r.site = own AND r.call_id = put_call.call_record ->> 'id';
        INSERT INTO callspan.recordings (site, call_id, part, key, bytes, sha256)
            SELECT own, put_call.call_record ->> 'id', (r ->> 'part')::integer, r ->> 'key', (r ->> 'bytes')::bigint,
                r ->> 'sha256'
            FROM jsonb_array_elements(call_recordings) r;
    END IF;
    RETURN (SELECT c.change FROM callspan.calls c WHERE c.site = own AND c.id = put_call.call_record ->> 'id');
END $$;

CREATE FUNCTION callspan.report_site(site_version text, site_backlog bigint, site_refused bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE callspan.sites s SET seen_at = now(), version = site_version, backlog = site_backlog, refused = site_refused
    WHERE s.site = callspan.own_site();
END $$;

REVOKE ALL ON FUNCTION callspan.own_site(), callspan.put_call(bigint, jsonb, jsonb),
    callspan.report_site(text, bigint, bigint) FROM PUBLIC;
";

/// SQL for schema version 2. It adds columns for the searches of the central console, for the health of sites, and for
/// correlation headers. It makes PostgreSQL sort ids by bytes, as the journal's SQLite does.
const V2: &str = r#"
DROP VIEW callspan.pyrus_owners;
DROP VIEW callspan.same_calls;
ALTER TABLE callspan.recordings DROP CONSTRAINT recordings_site_call_id_fkey;
ALTER TABLE callspan.calls ALTER COLUMN id TYPE text COLLATE "C";
ALTER TABLE callspan.recordings ALTER COLUMN call_id TYPE text COLLATE "C";
ALTER TABLE callspan.recordings ADD FOREIGN KEY (site, call_id) REFERENCES callspan.calls (site, id);

-- NAME=VALUE of the kept headers, the name in lower case.
CREATE FUNCTION callspan.header_ids(call_record jsonb) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(array_agg(lower(h.key) || '=' || left(h.value, 512)), '{}')
    FROM jsonb_each_text(coalesce(call_record -> 'headers', '{}')) h
$$;

ALTER TABLE callspan.calls
    -- how much can be heard, in the classes of the day summary
    ADD COLUMN heard text NOT NULL GENERATED ALWAYS AS (CASE
        WHEN record ->> 'verdict' IS NULL THEN 'pending'
        WHEN record ->> 'verdict' = 'both_sides' THEN CASE WHEN record @> '{"problems":[{"kind":"lost_by_us"}]}'
            OR record @> '{"problems":[{"kind":"restart_gap"}]}' OR record @> '{"problems":[{"kind":"disk_full"}]}'
            OR record @> '{"problems":[{"kind":"spool_error"}]}' OR record @> '{"problems":[{"kind":"torn_tail"}]}'
            THEN 'lost' ELSE 'both' END
        WHEN record ->> 'verdict' IN ('caller_only', 'callee_only') THEN 'one'
        WHEN record ->> 'verdict' IN ('no_media', 'unknown_codec') THEN 'none'
        WHEN record ->> 'verdict' = 'failed' THEN 'lost'
        WHEN record ->> 'verdict' = 'not_answered' THEN 'unanswered'
        ELSE record ->> 'verdict' END) STORED,
    ADD COLUMN names text NOT NULL GENERATED ALWAYS AS (lower((coalesce(record ->> 'from_name', '') || ' ' ||
        coalesce(record ->> 'to_name', '')) COLLATE "und-x-icu")) STORED,
    ADD COLUMN length_s integer GENERATED ALWAYS AS (floor((record ->> 'duration_s')::double precision)::integer) STORED,
    ADD COLUMN delivery text NOT NULL GENERATED ALWAYS AS (coalesce(record -> 'delivery' ->> 'state', 'none')) STORED,
    ADD COLUMN from_extension text GENERATED ALWAYS AS
        (CASE WHEN record ->> 'direction' = 'internal' THEN left(record ->> 'from', 128) END) STORED,
    ADD COLUMN to_extension text GENERATED ALWAYS AS
        (CASE WHEN record ->> 'direction' = 'internal' THEN left(record ->> 'to', 128) END) STORED,
    ADD COLUMN header_ids text[] NOT NULL GENERATED ALWAYS AS (callspan.header_ids(record)) STORED;
DROP INDEX callspan.calls_by_begin;
CREATE INDEX calls_by_begin ON callspan.calls (begin_at DESC, id DESC) INCLUDE (heard);
CREATE INDEX calls_by_site ON callspan.calls (site, begin_at DESC);
CREATE INDEX calls_by_id ON callspan.calls (id);
CREATE INDEX calls_by_name ON callspan.calls USING gin (names gin_trgm_ops);
CREATE INDEX calls_by_header ON callspan.calls USING gin (header_ids);
CREATE INDEX calls_by_from_extension ON callspan.calls (from_extension, begin_at DESC) WHERE from_extension IS NOT NULL;
CREATE INDEX calls_by_to_extension ON callspan.calls (to_extension, begin_at DESC) WHERE to_extension IS NOT NULL;

-- Names of the headers that identify a call at every site (calls.correlation_headers of central.toml).
CREATE TABLE callspan.correlation_headers (name text PRIMARY KEY);

-- The same call at other sites: it shares a Call-ID, a Session-ID or a correlation header within a day.
CREATE FUNCTION callspan.same_as(own_site text, own_id text) RETURNS TABLE (site text, id text, why text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own record;
BEGIN
    SELECT c.begin_at, c.call_ids, c.session_ids, ARRAY(SELECT h FROM unnest(c.header_ids) h
        WHERE split_part(h, '=', 1) IN (SELECT n.name FROM callspan.correlation_headers n)) AS header_ids
        INTO own FROM callspan.calls c WHERE c.site = own_site AND c.id = own_id;
    -- One look at each index, before the time is compared.
    RETURN QUERY WITH found AS MATERIALIZED (
            SELECT c.site, c.id, c.begin_at, 1 AS rank FROM callspan.calls c WHERE c.session_ids && own.session_ids
            UNION ALL SELECT c.site, c.id, c.begin_at, 2 FROM callspan.calls c WHERE c.call_ids && own.call_ids
            UNION ALL SELECT c.site, c.id, c.begin_at, 3 FROM callspan.calls c WHERE c.header_ids && own.header_ids)
        SELECT f.site, f.id::text, (ARRAY['session_id', 'call_id', 'correlation_header'])[min(f.rank)] FROM found f
        WHERE f.site <> own_site AND f.begin_at BETWEEN own.begin_at - interval '1 day' AND own.begin_at + interval '1 day'
        GROUP BY f.site, f.id;
END $$;

-- Pairs of calls of two sites that are one call.
CREATE VIEW callspan.same_calls AS
    SELECT a.site, a.id, b.site AS other_site, b.id AS other_id, b.why, a.begin_at
    FROM callspan.calls a CROSS JOIN LATERAL callspan.same_as(a.site, a.id) b;

-- Calls that two sites registered in Pyrus, or none of those that heard it.
CREATE VIEW callspan.pyrus_owners AS
    SELECT s.site, s.id, s.other_site, s.other_id,
        (a.pyrus_task IS NOT NULL)::integer + (b.pyrus_task IS NOT NULL)::integer AS registered, s.begin_at
    FROM callspan.same_calls s
        JOIN callspan.calls a ON a.site = s.site AND a.id = s.id
        JOIN callspan.calls b ON b.site = s.other_site AND b.id = s.other_id
    WHERE s.site < s.other_site;

ALTER TABLE callspan.sites ADD COLUMN health jsonb;    -- counters of the recorder, as it reports them

CREATE FUNCTION callspan.report_health(site_health jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF length(site_health::text) > 16384 THEN
        RAISE EXCEPTION 'the health of a site has at most 16384 bytes' USING ERRCODE = 'program_limit_exceeded';
    END IF;
    UPDATE callspan.sites s SET health = site_health WHERE s.site = callspan.own_site();
END $$;

REVOKE ALL ON FUNCTION callspan.header_ids(jsonb), callspan.same_as(text, text), callspan.report_health(jsonb) FROM PUBLIC;
DO $$ DECLARE site_role name; BEGIN
    FOR site_role IN SELECT s.role_name FROM callspan.sites s JOIN pg_roles r ON r.rolname = s.role_name LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION callspan.report_health(jsonb) TO %I', site_role);
    END LOOP;
END $$;
"#;
