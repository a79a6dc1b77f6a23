#!/bin/bash
# Installs the packages that the tests need, and runs all tests. Arguments are passed to cargo test.
# Lists the ignored tests with their reasons; the last line is "N passed, N failed, N skipped".
set -euo pipefail
cd "$(dirname "$0")/.."
. deploy/packages.sh
need_build
# tshark reads our spool files, iproute2 makes a mirror port in a network namespace, and ffmpeg and bcg729 are independent
# decoders. bcg729 is GPL: only the tests use it, and it is never shipped. postgresql is the index of the archive;
# its object store in S3 is tested if moto_server is there (pip install 'moto[server]').
need iproute2 tshark ffmpeg libbcg729-dev chromium chromium-driver postgresql

log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
cargo test --locked --no-fail-fast "$@" 2>&1 | tee "$log" || status=$?
summary "$log"
exit "$status"
