# shellcheck shell=sh
# Sourced by quickstart.sh, package.sh, test.sh, .ci/run and .ci/long: installs Debian packages that are missing, checks
# for Rust, and sums up a test run.

# need PACKAGE...: installs the missing packages.
need() {
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "This system has no apt. Install what belongs to these Debian packages with its own package manager: $*" >&2
        echo "Fedora: dnf install gcc gcc-c++ make cmake pkgconf libpcap-devel speex-devel; Alpine: apk add build-base cmake pkgconf libpcap-dev speex-dev" >&2
        echo "Then build with: cargo build --release --locked (or use deploy/Containerfile)" >&2
        have_tools || exit 1
        return 0
    fi
    missing=
    for package in "$@"; do
        # shellcheck disable=SC2016  # a format of dpkg-query
        status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
        [ "$status" = installed ] || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null 2>&1; then
        echo "Packages are missing. As root: apt-get install$missing" >&2
        exit 1
    fi
    echo "Installing:$missing" >&2
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q >&2
    # shellcheck disable=SC2086  # a list of words
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing >&2
}

# have_tools: whether the build can work without apt, because its tools are there.
have_tools() {
    command -v cc >/dev/null 2>&1 && command -v cmake >/dev/null 2>&1 && command -v pkg-config >/dev/null 2>&1 &&
        pkg-config --exists libpcap speex
}

# The Rust version that rust-toolchain.toml names: rustup installs it by itself, the cargo of a distribution cannot.
need_rust() {
    wanted=$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
    found=$(cargo --version 2>/dev/null | awk '{ print $2 }')
    newest=$(printf '%s\n%s\n' "$wanted" "${found:-0}" | sort -V | tail -n 1)
    [ "$newest" = "${found:-0}" ] && return 0
    echo "cargo ${found:-of this system} is too old: callspan needs Rust $wanted." >&2
    echo "Debian's package is older; install rustup: https://rustup.rs, or apt-get install rustup (Debian 13). Then open a new shell and run this script again." >&2
    exit 1
}

# need_cross ARCH: installs the cross compiler, the libraries and an emulator for a foreign architecture, and sets the
# environment of cargo. Changes dpkg's list of architectures.
# shellcheck disable=SC2034  # package.sh uses the names
need_cross() {
    case $1 in
        arm64) GNU_TRIPLE=aarch64-linux-gnu RUST_TARGET=aarch64-unknown-linux-gnu QEMU_ARCH=aarch64 ;;
        amd64) GNU_TRIPLE=x86_64-linux-gnu RUST_TARGET=x86_64-unknown-linux-gnu QEMU_ARCH=x86_64 ;;
        *) echo "There is no recipe for the architecture $1; amd64 and arm64 have one." >&2; exit 2 ;;
    esac
    if ! dpkg --print-foreign-architectures | grep -qx "$1"; then
        as_root dpkg --add-architecture "$1"
        as_root apt-get update -q >&2
    fi
    dashed=$(echo "$GNU_TRIPLE" | tr _ -)
    need "gcc-$dashed" "g++-$dashed" "libc6-dev-$1-cross" qemu-user-static "libpcap-dev:$1" "libspeex-dev:$1"
    rustup target add "$RUST_TARGET" >&2
    lower=$(echo "$RUST_TARGET" | tr - _)
    upper=$(echo "$lower" | tr "[:lower:]" "[:upper:]")
    export "CARGO_TARGET_${upper}_LINKER=$GNU_TRIPLE-gcc" "CC_$lower=$GNU_TRIPLE-gcc" "CXX_$lower=$GNU_TRIPLE-g++"
    export PKG_CONFIG_ALLOW_CROSS=1 "PKG_CONFIG_PATH_$lower=/usr/lib/$GNU_TRIPLE/pkgconfig"
}

# as_root COMMAND...: runs a command as root.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
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
    need_rust
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
