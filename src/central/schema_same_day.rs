//! Version 5 of the archive's database: the same call at two sites is found by a common value (e.g. the Call-ID) and
//! the day.
//!
//! A SIP scanner may use one Call-ID for years. Without the day, a search for that Call-ID would read the scanner's
//! calls of all years.

use super::schema::{IndexDefinition, Migration};

/// The migration to version 5. It replaces the database indexes of Call-IDs and other common values by a single database
/// index of value and day. The search for the same call at other sites then uses this new database index.
pub(super) const V5: Migration =
    Migration { first: DAY_KEYS, indexes: &[BY_DAY_KEY], last: SAME_DAY, ..Migration::EMPTY };

const DAY_KEYS: &str = r#"
-- Keys with the day on which the call began, e.g. '9555 a84b4c76e66710@pc33.example.com'. Days count from 2000, UTC.
CREATE OR REPLACE FUNCTION callspan.day_keys(begin_at timestamptz, keys text[]) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(array_agg(extract(day FROM begin_at - '2000-01-01 00:00:00+00'::timestamptz)::text || ' ' || k), '{}')
    FROM unnest(keys) k
$$;
"#;

const BY_DAY_KEY: IndexDefinition = IndexDefinition {
    name: "calls_by_day_key",
    on: "callspan.calls USING gin (callspan.day_keys(begin_at, session_ids), callspan.day_keys(begin_at, call_ids), \
         callspan.day_keys(begin_at, header_ids))",
};

const SAME_DAY: &str = r#"
DROP INDEX callspan.calls_by_session, callspan.calls_by_header;

-- Keys of the days that a moment within a day of begin_at can have.
CREATE FUNCTION callspan.near_keys(begin_at timestamptz, keys text[]) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT callspan.day_keys(begin_at - interval '24 hours', keys) || callspan.day_keys(begin_at, keys)
        || callspan.day_keys(begin_at + interval '24 hours', keys)
$$;

-- The same call at other sites: it shares a Call-ID, a Session-ID or a correlation header within a day. The index gives
-- at most 1000 calls for each: a value that more calls have within three days identifies none. Of those found, the 32
-- nearest in time are returned. Only the index can find few rows, whatever the planner guesses about a limit.
CREATE OR REPLACE FUNCTION callspan.same_as(own_site text, own_id text) RETURNS TABLE (site text, id text, why text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
    own record;
BEGIN
    SELECT c.begin_at, callspan.near_keys(c.begin_at, c.session_ids) AS session_ids,
            callspan.near_keys(c.begin_at, c.call_ids) AS call_ids,
            callspan.near_keys(c.begin_at, callspan.keys_of('{}', '{}', c.header_ids)) AS header_ids
        INTO own FROM callspan.calls c WHERE c.site = own_site AND c.id = own_id;
    -- One look at the index for each kind of key, before the time is compared.
    RETURN QUERY WITH found AS MATERIALIZED (
            (SELECT c.site, c.id, c.begin_at, 1 AS rank FROM callspan.calls c
                WHERE callspan.day_keys(c.begin_at, c.session_ids) && own.session_ids LIMIT 1000)
            UNION ALL (SELECT c.site, c.id, c.begin_at, 2 FROM callspan.calls c
                WHERE callspan.day_keys(c.begin_at, c.call_ids) && own.call_ids LIMIT 1000)
            UNION ALL (SELECT c.site, c.id, c.begin_at, 3 FROM callspan.calls c
                WHERE callspan.day_keys(c.begin_at, c.header_ids) && own.header_ids LIMIT 1000))
        SELECT f.site, f.id::text, (ARRAY['session_id', 'call_id', 'correlation_header'])[min(f.rank)] FROM found f
        WHERE f.site <> own_site AND f.begin_at BETWEEN own.begin_at - interval '24 hours' AND own.begin_at + interval '24 hours'
        GROUP BY f.site, f.id, f.begin_at
        ORDER BY greatest(f.begin_at - own.begin_at, own.begin_at - f.begin_at), f.site, f.id LIMIT 32;
END $$;
REVOKE ALL ON FUNCTION callspan.day_keys(timestamptz, text[]), callspan.near_keys(timestamptz, text[]) FROM PUBLIC;
"#;
