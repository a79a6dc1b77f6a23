//! The `callspan` command. All code is in the library; the commands are in [`callspan::cmd`].

use std::process::ExitCode;

fn main() -> ExitCode {
    callspan::cmd::main()
}
