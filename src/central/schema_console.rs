//! Version 2 of the archive's database adds columns for the searches of the central console, for the health of sites,
//! and for correlation headers. It makes PostgreSQL sort ids by bytes, as the journal's SQLite does.
//!
//! PostgreSQL cannot add such columns without a lock of the table until all rows are written again. So the tables get
//! successors, into which the rows are copied in parts. Triggers copy what sites write meanwhile.

use super::schema::Migration;

/// The migration to version 2. The tables of calls and recordings are copied and replaced.
pub(super) const V2: Migration =
    Migration { first: SUCCESSORS, batch: "SELECT callspan_next.copy_calls()", last: REPLACEMENT, ..Migration::EMPTY };

/// SQL that creates the successors of the tables of calls and recordings, and what copies the rows.
const SUCCESSORS: &str = r#"
CREATE SCHEMA IF NOT EXISTS callspan_next;

-- NAME=VALUE of the kept headers, the name in lower case.
CREATE OR REPLACE FUNCTION callspan.header_ids(call_record jsonb) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(array_agg(lower(h.key) || '=' || left(h.value, 512)), '{}')
    FROM jsonb_each_text(coalesce(call_record -> 'headers', '{}')) h
$$;

CREATE TABLE IF NOT EXISTS callspan_next.calls (
    site        text NOT NULL REFERENCES callspan.sites,
    id          text COLLATE "C" NOT NULL,
    change      bigint NOT NULL,
    begin_at    timestamptz NOT NULL,
    ended_at    timestamptz,
    direction   text NOT NULL,
    outcome     text NOT NULL,
    verdict     text,
    extension   text,
    digits      text NOT NULL,
    call_ids    text[] NOT NULL,
    session_ids text[] NOT NULL,
    pyrus_task  bigint,
    record      jsonb NOT NULL,
    -- how much can be heard, in the classes of the day summary
    heard text NOT NULL GENERATED ALWAYS AS (CASE
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
    names text NOT NULL GENERATED ALWAYS AS (lower((coalesce(record ->> 'from_name', '') || ' ' ||
        coalesce(record ->> 'to_name', '')) COLLATE "und-x-icu")) STORED,
    length_s integer GENERATED ALWAYS AS (floor((record ->> 'duration_s')::double precision)::integer) STORED,
    delivery text NOT NULL GENERATED ALWAYS AS (coalesce(record -> 'delivery' ->> 'state', 'none')) STORED,
    from_extension text GENERATED ALWAYS AS
        (CASE WHEN record ->> 'direction' = 'internal' THEN left(record ->> 'from', 128) END) STORED,
    to_extension text GENERATED ALWAYS AS
        (CASE WHEN record ->> 'direction' = 'internal' THEN left(record ->> 'to', 128) END) STORED,
    header_ids text[] NOT NULL GENERATED ALWAYS AS (callspan.header_ids(record)) STORED,
    PRIMARY KEY (site, id)
);
CREATE INDEX IF NOT EXISTS calls_by_extension ON callspan_next.calls (extension, begin_at DESC);
CREATE INDEX IF NOT EXISTS calls_by_digits ON callspan_next.calls USING gin (digits gin_trgm_ops);
CREATE INDEX IF NOT EXISTS calls_by_call_id ON callspan_next.calls USING gin (call_ids);
CREATE INDEX IF NOT EXISTS calls_by_session ON callspan_next.calls USING gin (session_ids);
CREATE INDEX IF NOT EXISTS calls_by_begin ON callspan_next.calls (begin_at DESC, id DESC) INCLUDE (heard);
CREATE INDEX IF NOT EXISTS calls_by_site ON callspan_next.calls (site, begin_at DESC);
CREATE INDEX IF NOT EXISTS calls_by_id ON callspan_next.calls (id);
CREATE INDEX IF NOT EXISTS calls_by_name ON callspan_next.calls USING gin (names gin_trgm_ops);
CREATE INDEX IF NOT EXISTS calls_by_header ON callspan_next.calls USING gin (header_ids);
CREATE INDEX IF NOT EXISTS calls_by_from_extension ON callspan_next.calls (from_extension, begin_at DESC)
    WHERE from_extension IS NOT NULL;
CREATE INDEX IF NOT EXISTS calls_by_to_extension ON callspan_next.calls (to_extension, begin_at DESC)
    WHERE to_extension IS NOT NULL;

CREATE TABLE IF NOT EXISTS callspan_next.recordings (
    site        text NOT NULL,
    call_id     text COLLATE "C" NOT NULL,
    part        integer NOT NULL,
    key         text NOT NULL,
    bytes       bigint NOT NULL,
    sha256      text NOT NULL,
    PRIMARY KEY (site, call_id, part),
    FOREIGN KEY (site, call_id) REFERENCES callspan_next.calls (site, id)
);

-- The last call that was copied. Its columns sort as those of callspan.calls do.
CREATE TABLE IF NOT EXISTS callspan_next.copied (site text NOT NULL, id text NOT NULL);
INSERT INTO callspan_next.copied SELECT '', '' WHERE NOT EXISTS (SELECT 1 FROM callspan_next.copied);

-- Copies the next calls in the order of the primary key; returns whether there were any. A call that a trigger has copied
-- is current: the lock of its row lets nobody write it before this transaction ends.
CREATE OR REPLACE FUNCTION callspan_next.copy_calls() RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    earlier record;
    latest record;
BEGIN
    SELECT p.site, p.id INTO earlier FROM callspan_next.copied p;
    SELECT b.site, b.id INTO latest FROM (SELECT c.site, c.id FROM callspan.calls c
        WHERE (c.site, c.id) > (earlier.site, earlier.id) ORDER BY c.site, c.id LIMIT 1000 FOR NO KEY UPDATE) b
        ORDER BY b.site DESC, b.id DESC LIMIT 1;
    IF NOT FOUND THEN
        -- Each search would read the lists of pending entries completely.
        PERFORM gin_clean_pending_list(i.indexrelid) FROM pg_index i JOIN pg_class k ON k.oid = i.indexrelid
            JOIN pg_am m ON m.oid = k.relam WHERE i.indrelid = 'callspan_next.calls'::regclass AND m.amname = 'gin';
        ANALYZE callspan_next.calls;
        ANALYZE callspan_next.recordings;
        RETURN false;
    END IF;
    INSERT INTO callspan_next.calls (site, id, change, begin_at, ended_at, direction, outcome, verdict, extension, digits,
        call_ids, session_ids, pyrus_task, record)
        SELECT c.* FROM callspan.calls c
        WHERE (c.site, c.id) > (earlier.site, earlier.id) AND (c.site, c.id) <= (latest.site, latest.id)
        ON CONFLICT DO NOTHING;
    INSERT INTO callspan_next.recordings SELECT r.* FROM callspan.recordings r
        WHERE (r.site, r.call_id) > (earlier.site, earlier.id) AND (r.site, r.call_id) <= (latest.site, latest.id)
        ON CONFLICT DO NOTHING;
    UPDATE callspan_next.copied SET site = latest.site, id = latest.id;
    RETURN true;
END $$;

-- Copies a call that is written, with its recordings.
CREATE OR REPLACE FUNCTION callspan_next.copy_call(own_site text, own_id text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM callspan_next.recordings n WHERE n.site = own_site AND n.call_id = own_id;
    DELETE FROM callspan_next.calls n WHERE n.site = own_site AND n.id = own_id;
    INSERT INTO callspan_next.calls (site, id, change, begin_at, ended_at, direction, outcome, verdict, extension, digits,
        call_ids, session_ids, pyrus_task, record)
        SELECT c.* FROM callspan.calls c WHERE c.site = own_site AND c.id = own_id;
    INSERT INTO callspan_next.recordings
        SELECT r.* FROM callspan.recordings r WHERE r.site = own_site AND r.call_id = own_id;
END $$;

CREATE OR REPLACE FUNCTION callspan_next.follow_call() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM callspan_next.copy_call(coalesce(NEW.site, OLD.site), coalesce(NEW.id, OLD.id));
    RETURN NULL;
END $$;
CREATE OR REPLACE FUNCTION callspan_next.follow_recording() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM callspan_next.copy_call(coalesce(NEW.site, OLD.site), coalesce(NEW.call_id, OLD.call_id));
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER calls_followed AFTER INSERT OR UPDATE OR DELETE ON callspan.calls
    FOR EACH ROW EXECUTE FUNCTION callspan_next.follow_call();
CREATE OR REPLACE TRIGGER recordings_followed AFTER INSERT OR UPDATE OR DELETE ON callspan.recordings
    FOR EACH ROW EXECUTE FUNCTION callspan_next.follow_recording();
"#;

/// SQL that puts the successors in place of the tables, and adds the functions and views of this version.
const REPLACEMENT: &str = r#"
-- The order in which callspan.put_call takes the tables.
LOCK TABLE callspan.sites, callspan.calls, callspan.recordings IN ACCESS EXCLUSIVE MODE;
DROP VIEW callspan.pyrus_owners;
DROP VIEW callspan.same_calls;
DROP TABLE callspan.recordings, callspan.calls;
ALTER TABLE callspan_next.calls SET SCHEMA callspan;
ALTER TABLE callspan_next.recordings SET SCHEMA callspan;
DROP SCHEMA callspan_next CASCADE;

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
