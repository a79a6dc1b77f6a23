//! Version 3 of the index: calls that two sites heard, as rows of their own.
//!
//! The page of the sites asks for the calls of a day that Pyrus has twice or not at all. Comparing all calls of a day
//! takes seconds with 500 sites, so each change of a call enters its pairs here.

/// Adds the pairs of calls, and the trigger that keeps them.
pub(super) const V3: &str = r#"
-- Pairs of calls of two sites that are one call. The first site is the one that is first in the alphabet.
CREATE TABLE callspan.shared_calls (
    site        text NOT NULL,
    id          text COLLATE "C" NOT NULL,
    other_site  text NOT NULL,
    other_id    text COLLATE "C" NOT NULL,
    begin_at    timestamptz NOT NULL,       -- of the first call
    registered  boolean NOT NULL,           -- the first site registered it in Pyrus
    other_registered boolean NOT NULL,
    PRIMARY KEY (site, id, other_site, other_id)
);
CREATE INDEX shared_calls_by_other ON callspan.shared_calls (other_site, other_id);
CREATE INDEX shared_calls_in_conflict ON callspan.shared_calls (begin_at DESC) WHERE registered = other_registered;

CREATE FUNCTION callspan.note_shared() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    key integer;
BEGIN
    -- Two sites that write the same call at once see each other: the second waits for the first. Most calls have few keys.
    -- Other headers than those of correlation, e.g. the name of a queue, are the same in many calls: nobody waits for them.
    FOR key IN SELECT DISTINCT hashtext(k) AS h FROM unnest(NEW.call_ids || NEW.session_ids || ARRAY(
        SELECT x FROM unnest(NEW.header_ids) x WHERE split_part(x, '=', 1) IN (SELECT n.name FROM callspan.correlation_headers n))) k
        ORDER BY h LIMIT 16
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

CREATE TRIGGER calls_new_shared AFTER INSERT ON callspan.calls FOR EACH ROW EXECUTE FUNCTION callspan.note_shared();
CREATE TRIGGER calls_changed_shared AFTER UPDATE ON callspan.calls FOR EACH ROW
WHEN (OLD.call_ids <> NEW.call_ids OR OLD.session_ids <> NEW.session_ids OR OLD.header_ids <> NEW.header_ids
    OR OLD.begin_at <> NEW.begin_at OR (OLD.pyrus_task IS NULL) <> (NEW.pyrus_task IS NULL))
EXECUTE FUNCTION callspan.note_shared();

-- The page of the sites looks one day back.
INSERT INTO callspan.shared_calls
    SELECT s.site, s.id, s.other_site, s.other_id, s.begin_at, a.pyrus_task IS NOT NULL, b.pyrus_task IS NOT NULL
    FROM callspan.same_calls s
        JOIN callspan.calls a ON a.site = s.site AND a.id = s.id
        JOIN callspan.calls b ON b.site = s.other_site AND b.id = s.other_id
    WHERE s.site < s.other_site AND s.begin_at > now() - interval '2 days'
    ON CONFLICT DO NOTHING;
"#;
