#!/bin/sh
# Installs missing packages on a Debian 12 with Rust, builds callspan, and runs the demo.
set -eu
cd "$(dirname "$0")/.."
. deploy/packages.sh
need_build
exec cargo run --release --locked --bin callspan -- demo "$@"
