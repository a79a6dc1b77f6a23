#!/bin/sh
# Builds the Debian package and prints its path. Installs missing packages and cargo-deb.
#   deploy/package.sh                   for this machine
#   deploy/package.sh arm64             for another architecture (amd64 or arm64), with a cross compiler
#   PROFILE=dev deploy/package.sh       quick, without optimisation: for tests of the package
set -eu
cd "$(dirname "$0")/.."
. deploy/packages.sh
here=$(dpkg --print-architecture)
arch=${1:-$here}
profile=${PROFILE:-release}
need_build
PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
export PATH
command -v cargo-deb >/dev/null 2>&1 || cargo install --locked cargo-deb --version 3.8.0 >&2

folder=$profile
[ "$profile" = dev ] && folder=debug
run=
set --
if [ "$arch" != "$here" ]; then
    need_cross "$arch"
    set -- --target "$RUST_TARGET"
    folder=$RUST_TARGET/$folder
    # The libraries are those of the foreign architecture in /usr/lib. With those of the cross compiler (-L), whose
    # version can differ from the loader's, a program with threads hangs.
    run="qemu-$QEMU_ARCH-static"
fi
target=${CARGO_TARGET_DIR:-target}
cargo build --locked --profile "$profile" --bin callspan "$@" >&2
# The pages and completions are made by the program itself.
rm -rf target/package
# shellcheck disable=SC2086  # a command and its arguments
$run "$target/$folder/callspan" package-files target/package
exec cargo deb --locked --no-build --strip --profile "$profile" --output target/debian/ "$@"
