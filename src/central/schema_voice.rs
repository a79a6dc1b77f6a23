//! In version 6 of the archive's database, the voices also show that two sites recorded the same call. This is needed
//! if nothing in the signalling of the two sites agrees. The version also adds a view (SQL) with the legs of all calls.
//!
//! A border controller between two sites can change every header, but it sends the voice on as it received it. Each
//! call record has *prints* of both voices, i.e. hashes of short blocks of sound. Each print has its time in seconds.

use super::schema::{IndexDefinition, Migration};

/// The migration to version 6. With it, equal prints of the voices also show that two sites recorded the same call. A
/// print is the hash of a short block of sound.
pub(super) const V6: Migration = Migration { first: PRINTS, indexes: &[BY_VOICE], last: VOICES, ..Migration::EMPTY };

const PRINTS: &str = r#"
-- Prints of the voices in a record: leg, side (0 caller, 1 callee), second (Unix time) and hash. At most 128: those of
-- the first eight legs with voices.
CREATE OR REPLACE FUNCTION callspan.voice_prints(call_record jsonb) RETURNS TABLE (leg integer, side integer, at bigint, hash bigint)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE ROWS 32 SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY SELECT l.n::integer, s.side, ('x' || left(p.print, 8))::bit(32)::bigint, ('x' || right(p.print, 8))::bit(32)::bigint
    FROM jsonb_path_query(call_record, 'lax $.legs[*]') WITH ORDINALITY l(own, n)
        CROSS JOIN (VALUES (0, 'caller'), (1, 'callee')) s(side, name)
        CROSS JOIN LATERAL (SELECT DISTINCT v #>> '{}' AS print
            FROM jsonb_path_query(l.own -> 'voice_prints' -> s.name, 'lax $[*]') v
            WHERE v #>> '{}' ~ '^[0-9a-f]{16}$' LIMIT 8) p
    WHERE l.own ? 'voice_prints' LIMIT 128;
END $$;

-- Keys of the four lowest prints of each voice: a time of 16 seconds (seven hexadecimal digits) and a hash in one number.
-- Four nearly always find a call with which it has three of eight in common, and the index has half the size.
CREATE OR REPLACE FUNCTION callspan.voice_keys(call_record jsonb) RETURNS bigint[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN ARRAY(SELECT ('x0' || left(p.print, 7) || right(p.print, 8))::bit(64)::bigint
        FROM (SELECT v #>> '{}' AS print FROM jsonb_path_query(call_record, 'lax $.legs[*].voice_prints.*[0 to 3]') v
            WHERE v #>> '{}' ~ '^[0-9a-f]{16}$' LIMIT 64) p);
END $$;
-- Each write looks into this index and that of voices. A list of pending entries would be read completely each time.
ALTER INDEX callspan.calls_by_day_key SET (fastupdate = off);
"#;

const BY_VOICE: IndexDefinition = IndexDefinition {
    name: "calls_by_voice",
    on: "callspan.calls USING gin (callspan.voice_keys(record)) WITH (fastupdate = off)",
};

const VOICES: &str = r#"
-- Nothing has been added to this list since it was switched off.
SELECT gin_clean_pending_list('callspan.calls_by_day_key');

-- Other calls with the voices of a call. Both voices of a leg must have three common prints each with the voices of one
-- leg there, at the same time: a prompt or music on hold is one voice only. The clocks of two sites may differ by six
-- seconds, in all prints by the same; a second more or less comes from rounding. At most 200 calls are compared.
CREATE FUNCTION callspan.with_voices(own_site text, own_id text, own_record jsonb)
    RETURNS TABLE (site text, id text, begin_at timestamptz)
LANGUAGE plpgsql STABLE ROWS 2 SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
    own_keys bigint[] := ARRAY(SELECT DISTINCT (near.at >> 4) << 32 | p.hash FROM callspan.voice_prints(own_record) p
        CROSS JOIN LATERAL unnest(ARRAY[p.at - 6, p.at + 6]) near(at));
BEGIN
    IF own_keys = '{}' THEN
        RETURN;
    END IF;
    RETURN QUERY WITH found AS MATERIALIZED (
            SELECT c.site, c.id, c.begin_at, c.record FROM callspan.calls c
            WHERE callspan.voice_keys(c.record) && own_keys AND (c.site <> own_site OR c.id <> own_id) LIMIT 200),
        own AS MATERIALIZED (SELECT * FROM callspan.voice_prints(own_record)),
        common AS (
            SELECT f.site, f.id, f.begin_at, o.leg, o.side, p.leg AS other_leg, p.side AS other_side,
                min(p.at - o.at) AS earliest, max(p.at - o.at) AS latest
            FROM found f CROSS JOIN LATERAL callspan.voice_prints(f.record) p
                JOIN own o ON o.hash = p.hash AND p.at BETWEEN o.at - 6 AND o.at + 6
            GROUP BY f.site, f.id, f.begin_at, o.leg, o.side, p.leg, p.side
            HAVING count(DISTINCT o.hash) >= 3 AND max(p.at - o.at) - min(p.at - o.at) <= 2)
        SELECT DISTINCT a.site, a.id::text, a.begin_at FROM common a JOIN common b
            ON b.site = a.site AND b.id = a.id AND b.leg = a.leg AND b.other_leg = a.other_leg
            AND a.side = 0 AND b.side = 1 AND a.other_side <> b.other_side
            AND greatest(a.latest, b.latest) - least(a.earliest, b.earliest) <= 2;
END $$;

-- The call at other sites, by its voices. If more than two calls have them, e.g. of machines that talk to each other, the
-- voices prove nothing.
CREATE FUNCTION callspan.same_voices(own_site text, own_id text, own_record jsonb)
    RETURNS TABLE (site text, id text, begin_at timestamptz)
LANGUAGE plpgsql STABLE ROWS 2 SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY WITH others AS MATERIALIZED (SELECT * FROM callspan.with_voices(own_site, own_id, own_record))
        SELECT o.site, o.id, o.begin_at FROM others o WHERE o.site <> own_site AND (SELECT count(*) FROM others) <= 2;
END $$;

-- The same call at other sites: it shares a Call-ID, a Session-ID or a correlation header within a day, or its voices.
-- The index gives at most 1000 calls for each key: a value that more calls have within three days identifies none. Of
-- those found, the 32 nearest in time are returned. Only the index can find few rows, whatever the planner guesses about
-- a limit. Most calls have none, so the planner looks up each pair that is found (ROWS).
CREATE OR REPLACE FUNCTION callspan.same_as(own_site text, own_id text) RETURNS TABLE (site text, id text, why text)
LANGUAGE plpgsql STABLE ROWS 2 SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
    own record;
BEGIN
    SELECT c.begin_at, callspan.near_keys(c.begin_at, c.session_ids) AS session_ids,
            callspan.near_keys(c.begin_at, c.call_ids) AS call_ids,
            callspan.near_keys(c.begin_at, callspan.keys_of('{}', '{}', c.header_ids)) AS header_ids, c.record AS call_record
        INTO own FROM callspan.calls c WHERE c.site = own_site AND c.id = own_id;
    -- One look at the index for each kind of key, before the time is compared.
    RETURN QUERY WITH found AS MATERIALIZED (
            (SELECT c.site, c.id, c.begin_at, 1 AS rank FROM callspan.calls c
                WHERE callspan.day_keys(c.begin_at, c.session_ids) && own.session_ids LIMIT 1000)
            UNION ALL (SELECT c.site, c.id, c.begin_at, 2 FROM callspan.calls c
                WHERE callspan.day_keys(c.begin_at, c.call_ids) && own.call_ids LIMIT 1000)
            UNION ALL (SELECT c.site, c.id, c.begin_at, 3 FROM callspan.calls c
                WHERE callspan.day_keys(c.begin_at, c.header_ids) && own.header_ids LIMIT 1000)
            UNION ALL (SELECT v.site, v.id, v.begin_at, 4 FROM callspan.same_voices(own_site, own_id, own.call_record) v))
        SELECT f.site, f.id::text, (ARRAY['session_id', 'call_id', 'correlation_header', 'voice'])[min(f.rank)] FROM found f
        WHERE f.site <> own_site AND f.begin_at BETWEEN own.begin_at - interval '24 hours' AND own.begin_at + interval '24 hours'
        GROUP BY f.site, f.id, f.begin_at
        ORDER BY greatest(f.begin_at - own.begin_at, own.begin_at - f.begin_at), f.site, f.id LIMIT 32;
END $$;

-- Enters the pairs of a call again.
CREATE FUNCTION callspan.enter_shared(own_site text, own_id text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM callspan.shared_calls s WHERE s.site = own_site AND s.id = own_id;
    DELETE FROM callspan.shared_calls s WHERE s.other_site = own_site AND s.other_id = own_id;
    INSERT INTO callspan.shared_calls
        SELECT a.site, a.id, b.site, b.id, a.begin_at, a.pyrus_task IS NOT NULL, b.pyrus_task IS NOT NULL
        FROM callspan.same_as(own_site, own_id) s
            JOIN callspan.calls a ON a.site = least(s.site, own_site) AND a.id = CASE WHEN s.site < own_site THEN s.id ELSE own_id END
            JOIN callspan.calls b ON b.site = greatest(s.site, own_site) AND b.id = CASE WHEN s.site < own_site THEN own_id ELSE s.id END
        ON CONFLICT DO NOTHING;
END $$;

CREATE OR REPLACE FUNCTION callspan.note_shared() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    key integer;
    other record;
BEGIN
    -- Two sites that write the same call at once see each other: the second waits for the first. Most calls have few keys.
    -- Other headers than those of correlation, e.g. the name of a queue, are the same in many calls: nobody waits for them.
    -- Two records of the same voices have most of their lowest prints in common. With the time in the key, calls with the
    -- same announcement do not wait for each other all day.
    FOR key IN SELECT DISTINCT hashtext(k) AS h FROM (
            SELECT unnest(callspan.keys_of(NEW.call_ids, NEW.session_ids, NEW.header_ids)) AS k
            UNION ALL (SELECT 'voice ' || ((p.at >> 4) << 32 | p.hash) FROM callspan.voice_prints(NEW.record) p
                ORDER BY p.hash, p.at LIMIT 6)) keys
        ORDER BY h LIMIT 22
    LOOP
        PERFORM pg_advisory_xact_lock(7264774, key);
    END LOOP;
    PERFORM callspan.enter_shared(NEW.site, NEW.id);
    -- The voices of this call prove nothing if three others have them, and those of the others neither from now on.
    FOR other IN WITH others AS MATERIALIZED (SELECT * FROM callspan.with_voices(NEW.site, NEW.id, NEW.record))
        SELECT o.site, o.id FROM others o WHERE (SELECT count(*) FROM others) = 3
    LOOP
        PERFORM callspan.enter_shared(other.site, other.id);
    END LOOP;
    RETURN NULL;
END $$;

DROP TRIGGER calls_changed_shared ON callspan.calls;
CREATE TRIGGER calls_changed_shared AFTER UPDATE ON callspan.calls FOR EACH ROW
WHEN (OLD.call_ids <> NEW.call_ids OR OLD.session_ids <> NEW.session_ids OR OLD.header_ids <> NEW.header_ids
    OR OLD.begin_at <> NEW.begin_at OR (OLD.pyrus_task IS NULL) <> (NEW.pyrus_task IS NULL)
    OR jsonb_path_query_array(OLD.record, 'lax $.legs[*].voice_prints') <> jsonb_path_query_array(NEW.record, 'lax $.legs[*].voice_prints'))
EXECUTE FUNCTION callspan.note_shared();
-- The legs of all calls, as the records have them; the first has the number 1.
CREATE VIEW callspan.legs AS
    SELECT c.site, c.id AS call_id, l.n::integer AS leg, c.begin_at, l.leg ->> 'sip_call_id' AS sip_call_id,
        l.leg ->> 'caller_addr' AS caller_addr, l.leg ->> 'callee_addr' AS callee_addr,
        l.leg -> 'caller' ->> 'number' AS caller_number, l.leg -> 'callee' ->> 'number' AS callee_number,
        (l.leg ->> 'invited_at')::timestamptz AS invited_at, (l.leg ->> 'answered_at')::timestamptz AS answered_at,
        (l.leg ->> 'ended_at')::timestamptz AS ended_at, (l.leg ->> 'sip_status')::integer AS sip_status,
        l.leg ->> 'joined_by' AS joined_by
    FROM callspan.calls c CROSS JOIN LATERAL jsonb_path_query(c.record, 'lax $.legs[*]') WITH ORDINALITY l(leg, n);

REVOKE ALL ON FUNCTION callspan.voice_prints(jsonb), callspan.voice_keys(jsonb), callspan.with_voices(text, text, jsonb),
    callspan.same_voices(text, text, jsonb), callspan.enter_shared(text, text) FROM PUBLIC;
"#;
