#!/bin/bash
# Installs what the tests need and runs all of them. Further arguments go to cargo test.
# The last line is "N passed, N failed".
set -euo pipefail
cd "$(dirname "$0")/.."
. deploy/packages.sh
need_build
# tshark reads what we write; iproute2, ethtool and tcpdump make a live mirror in a network namespace;
# ffmpeg and bcg729 decode what our codecs do (bcg729 is GPL: a tool of the tests, never part of what is shipped).
need iproute2 ethtool tcpdump tshark sip-tester ffmpeg libbcg729-dev

log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
cargo test --locked --no-fail-fast "$@" 2>&1 | tee "$log" || status=$?
awk '/^test result: / {
         for (i = 2; i <= NF; i++) {
             if ($i == "passed;") passed += $(i - 1)
             if ($i == "failed;") failed += $(i - 1)
         }
     }
     END { printf "%d passed, %d failed\n", passed, failed }' "$log"
exit "$status"
