//! Version 4 of the archive's database adds copies of two tables of each site. They are its audit (who did what in the
//! console) and its topology (which addresses are one machine).

/// SQL that adds two tables for the copies of audit and topology, and the functions by which a site writes only its own
/// rows.
pub(super) const V4: &str = r#"
-- Rows of the audit of the site's console. Rows are added and never removed; only the count of failed sign-ins changes.
CREATE TABLE callspan.audit (
    site        text NOT NULL REFERENCES callspan.sites,
    n           bigint NOT NULL,            -- number at the site; a box that is replaced counts anew
    at          timestamptz NOT NULL,
    who         text NOT NULL,
    action      text NOT NULL,
    call_id     text,
    detail      text,
    PRIMARY KEY (site, n, at)
);
CREATE INDEX audit_by_call ON callspan.audit (site, call_id) WHERE call_id IS NOT NULL;
CREATE INDEX audit_by_time ON callspan.audit (at DESC);

CREATE TABLE callspan.topology (
    site        text PRIMARY KEY REFERENCES callspan.sites,
    at          timestamptz NOT NULL,
    machines    jsonb NOT NULL              -- pairs of hosts that are one machine, with the evidence
);

CREATE FUNCTION callspan.put_audit(audit_rows jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own text := callspan.own_site();
BEGIN
    INSERT INTO callspan.audit (site, n, at, who, action, call_id, detail)
        SELECT own, (r ->> 'n')::bigint, (r ->> 'at')::timestamptz, left(r ->> 'who', 256), left(r ->> 'action', 64),
            left(r ->> 'call_id', 256), left(r ->> 'detail', 1024)
        FROM jsonb_array_elements(audit_rows) r
        ON CONFLICT ON CONSTRAINT audit_pkey DO UPDATE SET detail = excluded.detail
            WHERE audit.action = 'wrong_password' AND excluded.action = 'wrong_password';
END $$;

CREATE FUNCTION callspan.put_topology(site_machines jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF length(site_machines::text) > 1048576 THEN
        RAISE EXCEPTION 'the topology of a site has at most 1048576 bytes' USING ERRCODE = 'program_limit_exceeded';
    END IF;
    INSERT INTO callspan.topology (site, at, machines) VALUES (callspan.own_site(), now(), site_machines)
        ON CONFLICT (site) DO UPDATE SET at = excluded.at, machines = excluded.machines;
END $$;

REVOKE ALL ON FUNCTION callspan.put_audit(jsonb), callspan.put_topology(jsonb) FROM PUBLIC;
DO $$ DECLARE site_role name; BEGIN
    FOR site_role IN SELECT s.role_name FROM callspan.sites s JOIN pg_roles r ON r.rolname = s.role_name LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION callspan.put_audit(jsonb), callspan.put_topology(jsonb) TO %I', site_role);
    END LOOP;
END $$;
"#;
