-- Version 1 of the schema. It is released, so it never changes.
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
