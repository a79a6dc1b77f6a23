#!/bin/bash
# Installs what the tests need and runs all of them. Further arguments go to cargo test.
# Lists the ignored tests with their reasons; the last line is "N passed, N failed, N skipped".
set -euo pipefail
cd "$(dirname "$0")/.."
. deploy/packages.sh
need_build
# tshark reads what we write; iproute2 makes a live mirror in a network namespace;
# ffmpeg and bcg729 decode what our codecs do (bcg729 is GPL: a tool of the tests, never part of what is shipped).
need iproute2 tshark ffmpeg libbcg729-dev

log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
cargo test --locked --no-fail-fast "$@" 2>&1 | tee "$log" || status=$?
summary "$log"
exit "$status"
