//! Version 3 of the archive's database adds a table of shared calls, i.e. of calls that two sites recorded.
//!
//! The console page of the sites lists shared calls of a day that Pyrus has twice or not at all. With 500 sites,
//! comparing all calls of a day would take seconds. So a trigger finds the pairs of a call each time the call is
//! written.
//!
//! The number of pairs of one call is limited, because a SIP scanner can use one Call-ID at all sites for a year.

use super::schema::Migration;

/// The migration to version 3. It adds the table of pairs of calls that two sites recorded, and the trigger that keeps
/// the table up to date. The pairs of the last two days are entered in parts.
pub(super) const V3: Migration =
    Migration { first: PAIRS, batch: "SELECT callspan_next.enter_calls()", last: ENTERED, ..Migration::EMPTY };

const PAIRS: &str = r#"
-- Pairs of calls of two sites that are one call. The first site is the one that is first in the alphabet.
CREATE TABLE IF NOT EXISTS callspan.shared_calls (
    site        text NOT NULL,
    id          text COLLATE "C" NOT NULL,
    other_site  text NOT NULL,
    other_id    text COLLATE "C" NOT NULL,
    begin_at    timestamptz NOT NULL,       -- of the first call
    registered  boolean NOT NULL,           -- the first site registered it in Pyrus
    other_registered boolean NOT NULL,
    PRIMARY KEY (site, id, other_site, other_id)
);
CREATE INDEX IF NOT EXISTS shared_calls_by_other ON callspan.shared_calls (other_site, other_id);
CREATE INDEX IF NOT EXISTS shared_calls_in_conflict ON callspan.shared_calls (begin_at DESC) WHERE registered = other_registered;

-- Call-IDs, Session-IDs and values of correlation headers: the keys that can relate a call to others.
CREATE OR REPLACE FUNCTION callspan.keys_of(call_ids text[], session_ids text[], header_ids text[]) RETURNS text[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT call_ids || session_ids || ARRAY(SELECT h FROM unnest(header_ids) h
        WHERE split_part(h, '=', 1) IN (SELECT n.name FROM callspan.correlation_headers n))
$$;

-- The same call at other sites: it shares a Call-ID, a Session-ID or a correlation header within a day. Each index gives
-- at most 1000 calls: a value that more calls have identifies none. Of those found, the 32 nearest in time are returned.
-- Only the indexes of the ids can find few rows, whatever the planner guesses about a limit.
CREATE OR REPLACE FUNCTION callspan.same_as(own_site text, own_id text) RETURNS TABLE (site text, id text, why text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
    own record;
BEGIN
    SELECT c.begin_at, c.call_ids, c.session_ids, callspan.keys_of('{}', '{}', c.header_ids) AS header_ids
        INTO own FROM callspan.calls c WHERE c.site = own_site AND c.id = own_id;
    -- One look at each index, before the time is compared.
    RETURN QUERY WITH found AS MATERIALIZED (
            (SELECT c.site, c.id, c.begin_at, 1 AS rank FROM callspan.calls c WHERE c.session_ids && own.session_ids LIMIT 1000)
            UNION ALL (SELECT c.site, c.id, c.begin_at, 2 FROM callspan.calls c WHERE c.call_ids && own.call_ids LIMIT 1000)
            UNION ALL (SELECT c.site, c.id, c.begin_at, 3 FROM callspan.calls c WHERE c.header_ids && own.header_ids LIMIT 1000))
        SELECT f.site, f.id::text, (ARRAY['session_id', 'call_id', 'correlation_header'])[min(f.rank)] FROM found f
        WHERE f.site <> own_site AND f.begin_at BETWEEN own.begin_at - interval '1 day' AND own.begin_at + interval '1 day'
        GROUP BY f.site, f.id, f.begin_at
        ORDER BY greatest(f.begin_at - own.begin_at, own.begin_at - f.begin_at), f.site, f.id LIMIT 32;
END $$;

CREATE OR REPLACE FUNCTION callspan.note_shared() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    key integer;
BEGIN
    -- Two sites that write the same call at once see each other: the second waits for the first. Most calls have few keys.
    -- Other headers than those of correlation, e.g. the name of a queue, are the same in many calls: nobody waits for them.
    FOR key IN SELECT DISTINCT hashtext(k) AS h FROM unnest(callspan.keys_of(NEW.call_ids, NEW.session_ids, NEW.header_ids)) k ORDER BY h LIMIT 16
    LOOP
        PERFORM pg_advisory_xact_lock(7264774, key);
    END LOOP;
    DELETE FROM callspan.shared_calls s WHERE s.site = NEW.site AND s.id = NEW.id;
    DELETE FROM callspan.shared_calls s WHERE s.other_site = NEW.site AND s.other_id = NEW.id;
    INSERT INTO callspan.shared_calls
        SELECT a.site, a.id, b.site, b.id, a.begin_at, a.pyrus_task IS NOT NULL, b.pyrus_task IS NOT NULL
        FROM callspan.same_as(NEW.site, NEW.id) s
            JOIN callspan.calls a ON a.site = least(s.site, NEW.site) AND a.id = CASE WHEN s.site < NEW.site THEN s.id ELSE NEW.id END
            JOIN callspan.calls b ON b.site = greatest(s.site, NEW.site) AND b.id = CASE WHEN s.site < NEW.site THEN NEW.id ELSE s.id END
        ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION callspan.note_shared() FROM PUBLIC;

CREATE OR REPLACE TRIGGER calls_new_shared AFTER INSERT ON callspan.calls FOR EACH ROW EXECUTE FUNCTION callspan.note_shared();
CREATE OR REPLACE TRIGGER calls_changed_shared AFTER UPDATE ON callspan.calls FOR EACH ROW
WHEN (OLD.call_ids <> NEW.call_ids OR OLD.session_ids <> NEW.session_ids OR OLD.header_ids <> NEW.header_ids
    OR OLD.begin_at <> NEW.begin_at OR (OLD.pyrus_task IS NULL) <> (NEW.pyrus_task IS NULL))
EXECUTE FUNCTION callspan.note_shared();

-- Makes the pairs of the last two days again, because there are other correlation headers. The page of the sites looks
-- one day back. A call that is written meanwhile waits, and then enters its pairs by the new headers.
CREATE OR REPLACE FUNCTION callspan.rebuild_shared() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    LOCK TABLE callspan.shared_calls IN SHARE ROW EXCLUSIVE MODE;
    DELETE FROM callspan.shared_calls s WHERE s.begin_at > now() - interval '2 days';
    INSERT INTO callspan.shared_calls
        SELECT s.site, s.id, s.other_site, s.other_id, s.begin_at, a.pyrus_task IS NOT NULL, b.pyrus_task IS NOT NULL
        FROM callspan.same_calls s
            JOIN callspan.calls a ON a.site = s.site AND a.id = s.id
            JOIN callspan.calls b ON b.site = s.other_site AND b.id = s.other_id
        WHERE s.site < s.other_site AND s.begin_at > now() - interval '2 days'
        ON CONFLICT DO NOTHING;
END $$;

CREATE SCHEMA IF NOT EXISTS callspan_next;
-- The last call whose pairs were entered.
CREATE TABLE IF NOT EXISTS callspan_next.entered (begin_at timestamptz NOT NULL, id text COLLATE "C" NOT NULL);
INSERT INTO callspan_next.entered SELECT now() - interval '2 days', '' WHERE NOT EXISTS (SELECT 1 FROM callspan_next.entered);

-- Enters the pairs of the next calls; returns whether there were any. It takes the locks of callspan.note_shared in their
-- order, for each call as many, so a call that is written meanwhile enters its pairs afterwards.
CREATE OR REPLACE FUNCTION callspan_next.enter_calls() RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    earlier record;
    latest record;
    key integer;
BEGIN
    SELECT e.begin_at, e.id INTO earlier FROM callspan_next.entered e;
    SELECT b.begin_at, b.id INTO latest FROM (SELECT c.begin_at, c.id FROM callspan.calls c
        WHERE (c.begin_at, c.id) > (earlier.begin_at, earlier.id) ORDER BY c.begin_at, c.id LIMIT 100) b
        ORDER BY b.begin_at DESC, b.id DESC LIMIT 1;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    FOR key IN SELECT DISTINCT keys.h FROM callspan.calls c
            CROSS JOIN LATERAL (SELECT DISTINCT hashtext(k) AS h
                FROM unnest(callspan.keys_of(c.call_ids, c.session_ids, c.header_ids)) k ORDER BY h LIMIT 16) keys
        WHERE (c.begin_at, c.id) > (earlier.begin_at, earlier.id) AND (c.begin_at, c.id) <= (latest.begin_at, latest.id)
        ORDER BY keys.h
    LOOP
        PERFORM pg_advisory_xact_lock(7264774, key);
    END LOOP;
    INSERT INTO callspan.shared_calls
        SELECT a.site, a.id, b.site, b.id, a.begin_at, a.pyrus_task IS NOT NULL, b.pyrus_task IS NOT NULL
        FROM callspan.calls c CROSS JOIN LATERAL callspan.same_as(c.site, c.id) s
            JOIN callspan.calls a ON a.site = least(s.site, c.site) AND a.id = CASE WHEN s.site < c.site THEN s.id ELSE c.id END
            JOIN callspan.calls b ON b.site = greatest(s.site, c.site) AND b.id = CASE WHEN s.site < c.site THEN c.id ELSE s.id END
        WHERE (c.begin_at, c.id) > (earlier.begin_at, earlier.id) AND (c.begin_at, c.id) <= (latest.begin_at, latest.id)
        ON CONFLICT DO NOTHING;
    UPDATE callspan_next.entered SET begin_at = latest.begin_at, id = latest.id;
    RETURN true;
END $$;
"#;

const ENTERED: &str = "
DROP SCHEMA callspan_next CASCADE;
REVOKE ALL ON FUNCTION callspan.rebuild_shared(), callspan.keys_of(text[], text[], text[]) FROM PUBLIC;
";
