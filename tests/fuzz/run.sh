#!/bin/bash
# Coverage-guided fuzzing on the stable compiler: each target for MINUTES (default 10), then what was tried and the peak
# of memory. Usage: tests/fuzz/run.sh [MINUTES [TARGET...]]. Needs a C++ compiler (libFuzzer is compiled from its crate).
# What was found stays in the folder of the corpus (CALLSPAN_FUZZ_DIR, default under the target folder) and is used again.
set -euo pipefail
cd "$(dirname "$0")"
minutes=${1:-10}
shift || true
# A second at the least: libFuzzer takes 0 for no end.
seconds=$(awk -v m="$minutes" 'BEGIN { s = int(m * 60); print (s < 1 ? 1 : s) }')
targets=${*:-frames fragments tcp framing sip sdp codecs spool capture engine hep}

# What cargo-fuzz would set, without the nightly compiler: coverage counters, and comparisons for the mutator.
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares"
# With a target named, build scripts and macros are built without all that.
host=$(rustc -vV | sed -n 's/^host: //p')
cargo build --release --locked --target "$host"
folder=$(cargo metadata --format-version 1 --no-deps --locked | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
program=$folder/$host/release/callspan-fuzz
dir=${CALLSPAN_FUZZ_DIR:-$folder/fuzz}

status=0
printf '%-10s %12s %10s %8s %9s  %s\n' TARGET INPUTS PER_SECOND CORPUS PEAK_MIB RESULT
for target in $targets; do
    corpus=$dir/$target/corpus
    found=$dir/$target/found
    mkdir -p "$corpus" "$found"
    log=$dir/$target/log
    result=ok
    CALLSPAN_FUZZ_TARGET=$target CALLSPAN_FUZZ_SEEDS=$corpus "$program" "$corpus" \
        -artifact_prefix="$found/" -max_total_time="$seconds" -max_len=16384 -timeout=10 -rss_limit_mb=1024 \
        -print_final_stats=1 >"$log" 2>&1 || { result="FAILED: see $log"; status=1; }
    stat() { sed -n "s/^stat::$1: *//p" "$log" | tail -n 1; }
    printf '%-10s %12s %10s %8s %9s  %s\n' "$target" "$(stat number_of_executed_units)" "$(stat average_exec_per_sec)" \
        "$(find "$corpus" -type f | wc -l)" "$(stat peak_rss_mb)" "$result"
done
exit "$status"
