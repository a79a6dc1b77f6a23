#!/bin/bash
# Installs what the tests need and runs all of them. Further arguments go to cargo test.
# The last line is "N passed, N failed"; before it stand the tests that could not do their work here, and why.
set -euo pipefail
cd "$(dirname "$0")/.."
. deploy/packages.sh
need_build
# tshark reads what we write; iproute2, ethtool and tcpdump make a live mirror in a network namespace;
# ffmpeg and bcg729 decode what our codecs do (bcg729 is GPL: a tool of the tests, never part of what is shipped).
need iproute2 ethtool tcpdump tshark sip-tester ffmpeg libbcg729-dev

log=$(mktemp)
skipped=$(mktemp)
trap 'rm -f "$log" "$skipped"' EXIT
# A test that skips writes a line there (tests/it/support/skip.rs): what it prints itself nobody sees.
export CALLSPAN_SKIPPED="$skipped"
status=0
cargo test --locked --no-fail-fast "$@" 2>&1 | tee "$log" || status=$?
if [ -s "$skipped" ]; then
    echo "$(sort -u "$skipped" | wc -l) tests skipped, or parts of them:"
    sort -u "$skipped" | sed 's/^/    /'
fi
awk '/^test result: / {
         for (i = 2; i <= NF; i++) {
             if ($i == "passed;") passed += $(i - 1)
             if ($i == "failed;") failed += $(i - 1)
         }
     }
     END { printf "%d passed, %d failed\n", passed, failed }' "$log"
exit "$status"
