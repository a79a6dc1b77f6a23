#!/bin/sh
# From a bare Debian 12 with Rust to a recorded call: installs what is missing, builds, shows the demo.
set -eu
cd "$(dirname "$0")/.."
. deploy/packages.sh
need_build
exec cargo run --release --locked --bin callspan -- demo "$@"
