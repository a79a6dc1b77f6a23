#!/bin/bash
# Measures the index of a central archive: fills a PostgreSQL of its own with made-up calls of 500 sites in one month,
# times searches through the console of the centre, and writes calls as sites do. As root, like the tests.
#
#     benches/central_index.sh [BINARY] [CALLS] [DIR]
#
# BINARY is target/release/callspan, CALLS 5,000,000 (some 12 GB), DIR target/central. A filled DIR is used again.
set -euo pipefail
cd "$(dirname "$0")/.."
binary=$(realpath "${1:-target/release/callspan}")
calls=${2:-5000000}
dir=$(realpath -m "${3:-target/central}")
sites=500
programs=$(find /usr/lib/postgresql -mindepth 2 -maxdepth 2 -name bin | sort -V | tail -1)
mkdir -p "$dir/objects" "$dir/socket"
chown postgres "$dir" "$dir/socket"

server() { (cd / && setpriv --reuid=postgres --regid=postgres --clear-groups "$programs/$1" "${@:2}" > /dev/null); }
sql() { "$programs/psql" -X -q -A -t -v ON_ERROR_STOP=1 "postgresql://postgres@/postgres?host=$dir/socket" "$@"; }
stop() { server pg_ctl -D "$dir/data" -m fast -w stop || true; }
[ -d "$dir/data" ] || server initdb -D "$dir/data" -A trust -U postgres --no-sync
server pg_ctl -D "$dir/data" -w -l "$dir/log" start -o "-c listen_addresses= -c unix_socket_directories=$dir/socket \
    -c shared_buffers=1GB -c max_connections=600 -c wal_level=minimal -c max_wal_senders=0 -c max_wal_size=2GB -c maintenance_work_mem=768MB -c jit=off"
trap stop EXIT

port=$((20000 + RANDOM % 10000))
cat > "$dir/central.toml" << TOML
[archive]
objects = "file://$dir/objects"
index = "postgresql://postgres@/postgres?host=$dir/socket"
[console]
listen = "127.0.0.1:$port"
[state]
dir = "$dir/state"
TOML
"$binary" central migrate -c "$dir/central.toml"

# Two shares of the calls, one for each processor: without triggers and indexes, which are made afterwards.
fill() {
    sql << SQL
SET session_replication_role = replica; SET synchronous_commit = off;
INSERT INTO callspan.calls (site, id, change, begin_at, ended_at, direction, outcome, verdict, extension, digits, call_ids, session_ids,
    pyrus_task, record)
SELECT 's' || n % $sites, id, 4, at, at + interval '3 minutes', 'inbound', 'answered', 'both_sides', ext,
    '7' || caller || ' 7812' || own || ' ' || ext, ARRAY[h || '@10.1.1.1'], '{}', n,
    jsonb_build_object('schema', 1, 'id', id, 'appliance', 'box', 'source', 'eth1', 'direction', 'inbound', 'from', '+7' || caller,
        'to', '+7812' || own, 'internal', ext, 'from_name', name, 'invited_at', iso, 'answered_at', iso, 'ended_at', iso,
        'duration_s', 180.5, 'outcome', 'answered', 'ended_by', 'caller', 'verdict', 'both_sides',
        'verdict_reason', 'Both sides were recorded.', 'legs', jsonb_build_array(jsonb_build_object('sip_call_id', h || '@10.1.1.1',
            'from_tag', left(h, 8), 'to_tag', right(h, 8), 'transport', 'udp', 'caller_addr', '10.1.1.1:5060',
            'callee_addr', '10.1.1.2:5060', 'invited_at', iso, 'answered_at', iso, 'ended_at', iso, 'sip_status', 200, 'rendered', true,
            'voice_prints', jsonb_build_object('caller', prints1, 'callee', prints2))),
        'delivery', jsonb_build_object('state', 'done', 'task_id', n))
FROM (SELECT n, at, md5(n::text) AS h, to_char(at AT TIME ZONE 'UTC', 'YYYYMMDD"T"HH24MISS"Z-"') || lpad(to_hex(n), 8, '0') AS id,
        to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS iso, (100 + random() * 8899)::int::text AS ext,
        CASE WHEN random() < 0.5 THEN '495' ELSE (900 + random() * 99)::int::text END || lpad((random() * 9999999)::int::text, 7, '0') AS caller,
        lpad((random() * 1999)::int::text, 7, '0') AS own,
        CASE WHEN random() < 0.3 THEN (ARRAY['Анна','Иван','Olga','Пётр','Maria','Сергей','John','Елена'])[1 + (random() * 7)::int] || ' '
            || (ARRAY['Петрова','Smirnov','Кузнецов','Попова','Волкова','Brown','Соколов','Лебедева'])[1 + (random() * 7)::int]
            || substr(md5(random()::text), 1, 3) END AS name,
        (SELECT array_agg(to_hex(extract(epoch FROM at)::bigint + 9 * k) || substr(md5(n || 'a' || k % 2), 1 + 8 * (k / 2), 8)) FROM generate_series(0, 7) k) AS prints1,
        (SELECT array_agg(to_hex(extract(epoch FROM at)::bigint + 9 * k) || substr(md5(n || 'b' || k % 2), 1 + 8 * (k / 2), 8)) FROM generate_series(0, 7) k) AS prints2
    FROM (SELECT n, now() - interval '30 days' * (1 - n::float8 / $calls) AS at FROM generate_series($1, $2) n) times) c;
SQL
}
if [ "$(sql -c "SELECT count(*) FROM callspan.sites")" -eq 0 ]; then
    echo "filling with $calls calls: $(date -u +%T)"
    sql << SQL
INSERT INTO callspan.sites (site, role_name, seen_at, version, health) SELECT 's' || n, 'callspan_s' || n, now(), '0.1.0',
    '{"lost": 3, "alarms": [], "frames": 123456789, "calls_live": 12}' FROM generate_series(0, $sites - 1) n;
DO \$\$ BEGIN FOR n IN 0..$sites - 1 LOOP
    EXECUTE format('CREATE ROLE callspan_s%s LOGIN', n);
    EXECUTE format('GRANT USAGE ON SCHEMA callspan TO callspan_s%s', n);
    EXECUTE format('GRANT EXECUTE ON FUNCTION callspan.put_call(bigint, jsonb, jsonb), callspan.report_site(text, bigint, bigint) TO callspan_s%s', n);
END LOOP; END \$\$;
CREATE TABLE public.kept AS SELECT indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid) AS definition FROM pg_index
    WHERE indrelid = 'callspan.calls'::regclass AND NOT indisprimary;
DO \$\$ DECLARE i record; BEGIN FOR i IN SELECT * FROM public.kept LOOP EXECUTE 'DROP INDEX ' || i.name; END LOOP; END \$\$;
SQL
    fill 1 $((calls / 2)) & first=$!
    fill $((calls / 2 + 1)) "$calls"
    wait "$first"
    echo "indexes: $(date -u +%T)"
    index() { sql -c "SELECT definition || ';' FROM public.kept WHERE name $1 LIKE '%voice' ORDER BY name" | sql -f -; }
    index "" & first=$!
    index NOT
    wait "$first"
    sql << SQL
-- One call in fifty was heard at two sites; Pyrus has one in a thousand of these twice.
INSERT INTO callspan.shared_calls SELECT least(a.site, b.site), a.id, greatest(a.site, b.site), b.id, a.begin_at, true, a.pyrus_task % 50000 = 0
    FROM callspan.calls a JOIN callspan.calls b ON b.pyrus_task = a.pyrus_task + 1 WHERE a.pyrus_task % 50 = 0;
VACUUM ANALYZE;
SQL
fi
sql -c "SELECT 'bytes for each call, with all indexes: ' || pg_total_relation_size('callspan.calls') / count(*) FROM callspan.calls"
sql -c "SELECT indexrelname || ' ' || pg_size_pretty(pg_relation_size(indexrelid)) FROM pg_stat_user_indexes WHERE relname = 'calls' ORDER BY 1"

echo "searches through the console, best of five, ms; load $(cut -d' ' -f1 /proc/loadavg)"
"$binary" console -c "$dir/central.toml" 2> "$dir/console.log" & console=$!
trap 'kill $console; stop' EXIT
until curl -s -o /dev/null "http://127.0.0.1:$port/healthz"; do sleep 0.2; done
ask() {
    for _ in 1 2 3 4 5; do curl -s -o "$dir/answer" -w '%{time_total} %{http_code}\n' "http://127.0.0.1:$port$2"; done | sort -n |
        awk -v name="$1" 'NR == 1 {printf "%-44s %7.1f  (%s)\n", name, $1 * 1000, $2}'
}
row=$(sql -c "SELECT (record ->> 'from') || '|' || extension || '|' || site || '|' || id FROM callspan.calls WHERE site = 's7' LIMIT 1")
IFS='|' read -r number extension site id <<< "$row"
ask "number, ten digits" "/api/v1/calls?day=all&q=${number#+7}"
ask "number, seven digits" "/api/v1/calls?day=all&q=${number: -7}"
ask "number, five digits" "/api/v1/calls?day=all&q=${number: -5}"
ask "number, four digits" "/api/v1/calls?day=all&q=${number: -4}"
ask "number, three digits" "/api/v1/calls?day=all&q=${number: -3}"
ask "number, three digits that half of all calls have" "/api/v1/calls?day=all&q=495"
ask "number, three digits that all calls have" "/api/v1/calls?day=all&q=812"
ask "the same at one site" "/api/v1/calls?day=all&q=812&site=s7"
ask "a number that nobody has" "/api/v1/calls?day=all&q=1234512345"
ask "extension" "/api/v1/calls?day=all&ext=$extension"
ask "extension that nobody has" "/api/v1/calls?day=all&ext=99999"
ask "pattern of ten extensions" "/api/v1/calls?day=all&ext=21x"
ask "pattern of a hundred extensions" "/api/v1/calls?day=all&ext=2xx"
ask "pattern of a thousand extensions" "/api/v1/calls?day=all&ext=2xxx"
ask "pattern of any length" "/api/v1/calls?day=all&ext=21*"
ask "name" "/api/v1/calls?day=all&q=Петрова1a"
ask "name that many have" "/api/v1/calls?day=all&q=Анна"
ask "state of delivery that no call has" "/api/v1/calls?day=all&delivery=dead"
ask "at least an hour" "/api/v1/calls?day=all&min=60"
ask "name of many at one site" "/api/v1/calls?day=all&q=Анна&site=$site"
ask "site" "/api/v1/calls?day=all&site=$site"
ask "the newest day" "/api/v1/calls"
ask "all calls" "/api/v1/calls?day=all"
ask "one call, with the same call at other sites" "/calls/$site~$id"
ask "page Sites" "/sites"
kill "$console"
trap stop EXIT

# A call is written four times, as its delivery makes progress: a new row and three changes of it.
for letter in {a..p}; do echo "\\set $letter random(10000000, 99999999)"; done > "$dir/write.pgb"
cat >> "$dir/write.pgb" << 'PGB'
\set s random(1000, 9999)
\set x random(100, 8999)
SET SESSION AUTHORIZATION callspan_s:client_id;
PGB
prints() { # LETTERS
    local words=()
    for letter in "$@"; do words+=("\"6a2b:s:$letter\""); done
    (IFS=,; echo "${words[*]}")
}
now=$(date -u +%FT%TZ)
for change in 1 2 3 4; do
    [ "$change" -lt 4 ] && delivery='{"state":"owed"}' || delivery='{"state":"done","task_id":5}'
    echo "SELECT callspan.put_call($change, '{\"schema\":1,\"id\":\"new-:a:b\",\"appliance\":\"box\",\"source\":\"eth1\",\"direction\":\"inbound\",\"from\":\"+7495:a\",\"to\":\"+7812:s\",\"internal\":\":x\",\"invited_at\":\"$now\",\"answered_at\":\"$now\",\"ended_at\":\"$now\",\"duration_s\":180.$change,\"outcome\":\"answered\",\"verdict\":\"both_sides\",\"legs\":[{\"sip_call_id\":\":a:b@10.1.1.1\",\"from_tag\":\":a\",\"transport\":\"udp\",\"caller_addr\":\"10.1.1.1:5060\",\"rendered\":true,\"voice_prints\":{\"caller\":[$(prints {a..h})],\"callee\":[$(prints {i..p})]}},{\"sip_call_id\":\":c:d@10.1.1.2\",\"transport\":\"udp\",\"rendered\":false}],\"delivery\":$delivery}', '[{\"part\":1,\"key\":\"s:client_id/:a/:b.wav\",\"bytes\":1,\"sha256\":\":a\"}]');"
done >> "$dir/write.pgb"
write() { # NAME, then options of pgbench
    local began result
    began=$(cut -d' ' -f1 /proc/loadavg)
    result=$("$programs/pgbench" -n -j 2 -f "$dir/write.pgb" "${@:2}" -h "$dir/socket" -U postgres postgres 2>&1)
    awk -v name="$1" -v began="$began" '/^latency average/ {ms = $4 / 4} /^tps/ {rows = $3 * 4} /schedule lag/ {lag = $5}
        END {printf "%s: %.0f rows a second, %.1f ms for a row (load at the start %s)\n", name, rows, ms, began}' <<< "$result"
    grep -E "failed|ERROR" <<< "$result" | sort | uniq -c | head -3 || true
}
write "1 connection" -c 1 -T 20
write "8 connections" -c 8 -T 30
write "500 connections that write 150 rows a second together" -c 500 -R 37.5 -T 60
