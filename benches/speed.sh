#!/bin/bash
# Makes the tables and the picture of docs/measured.md about `replay`, on a machine that does nothing else.
#
#     benches/speed.sh REVISION [DIR]
#
# Compares this build with that of REVISION, the floor, and other recorders on the PATH (benches/speed.py): interleaved,
# medians of RUNS runs (default 5). Loads and builds are kept in DIR (default target/speed; 6 GiB). Then counts the
# instructions of each stage (benches/instruction_budget.py). OUT and PREPARE are --out and --prepare of benches/speed.py, e.g.
#     OUT=/mnt PREPARE='umount -q /mnt; mkfs.ext4 -qF disk.img && mount -o loop disk.img /mnt' benches/speed.sh b45c54b
set -euo pipefail
cd "$(dirname "$0")/.."
revision=$1
dir=$(realpath -m "${2:-target/speed}")
runs=${RUNS:-5}
mkdir -p "$dir"

cargo build --release --locked
cp target/release/callspan "$dir/after"
[ -d "$dir/source" ] || git worktree add --detach "$dir/source" "$revision"
git -C "$dir/source" checkout --detach --quiet "$revision"
CARGO_TARGET_DIR="$dir/target" cargo build --release --locked --manifest-path "$dir/source/Cargo.toml"
cp "$dir/target/release/callspan" "$dir/before"

# The loads of the table: A, many calls at once; B, long calls; C, short calls. Then the growth curve: all calls at once.
table=(1000x30@1 300x180 2000x8)
curve=(100x8@1 300x8@1 1000x8@1 3000x8@1 10000x8@1)
results=(${OUT:+--out "$OUT"} ${PREPARE:+--prepare "$PREPARE"})
seconds() { # CAPTURE=CALL_SECONDS of each load
    for load in "$@"; do
        shape=${load%@*}
        echo "$dir/$shape.pcap=$((${shape%x*} * ${shape#*x}))"
    done
}
cargo bench --locked --bench whole_job -- --write --in "$dir" "${table[@]}" "${curve[@]}"
# shellcheck disable=SC2046  # words without spaces, but for those of a folder that the caller chose
benches/speed.py --runs "$runs" "${results[@]}" --before "$dir/before" "$dir/after" $(seconds "${table[@]}")
# shellcheck disable=SC2046  # as above
benches/speed.py --runs "$runs" "${results[@]}" --before "$dir/before" --svg docs/speed.svg "$dir/after" $(seconds "${curve[@]}")
benches/instruction_budget.py
