# Sourced by quickstart.sh, test.sh, .ci/run and .ci/long: installs Debian packages that are missing, checks for Rust, and
# sums up a test run.

# need PACKAGE...: installs the missing packages.
need() {
    missing=
    for package in "$@"; do
        status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
        [ "$status" = installed ] || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" -eq 0 ]; then
        as_root=
    elif command -v sudo >/dev/null 2>&1; then
        as_root=sudo
    else
        echo "Packages are missing. As root: apt-get install$missing" >&2
        exit 1
    fi
    echo "Installing:$missing" >&2
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q >&2
    # shellcheck disable=SC2086  # a list of words
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing >&2
}

# The build needs a C compiler for SQLite and the cryptography, cmake for Opus, libpcap for the capture, and libspeex
# for the feature `speex`.
need_build() {
    need build-essential cmake pkg-config libpcap-dev libspeex-dev ca-certificates
    if ! command -v cargo >/dev/null 2>&1 && [ -x "$HOME/.cargo/bin/cargo" ]; then
        PATH="$HOME/.cargo/bin:$PATH"
        export PATH
    fi
    if ! command -v cargo >/dev/null 2>&1; then
        echo "cargo is missing. Install Rust (https://rustup.rs), then run this script again." >&2
        exit 1
    fi
}

# summary LOG: prints the ignored tests of a `cargo test` log with their reasons, then "N passed, N failed, N skipped".
summary() {
    sed -n 's/^test \(.*\) \.\.\. ignored\(, \(.*\)\)\{0,1\}$/    \1: \3/p' "$1" | sort -u >"$1.ignored"
    [ ! -s "$1.ignored" ] || { echo "skipped:"; cat "$1.ignored"; }
    rm -f "$1.ignored"
    awk '/^test result: / {
             for (i = 2; i <= NF; i++) {
                 if ($i == "passed;") passed += $(i - 1)
                 if ($i == "failed;") failed += $(i - 1)
                 if ($i == "ignored;") ignored += $(i - 1)
             }
         }
         END { printf "%d passed, %d failed, %d skipped\n", passed, failed, ignored }' "$1"
}
