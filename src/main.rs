//! The `callspan` command; everything is in the library's [`callspan::cmd`].

use std::process::ExitCode;

fn main() -> ExitCode {
    callspan::cmd::main()
}
