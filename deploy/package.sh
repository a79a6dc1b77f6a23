#!/bin/sh
# Builds the Debian package and prints its path. Installs missing packages and cargo-deb.
set -eu
cd "$(dirname "$0")/.."
. deploy/packages.sh
need_build
PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
export PATH
command -v cargo-deb >/dev/null 2>&1 || cargo install --locked cargo-deb
exec cargo deb --locked --strip "$@"
