//! `callspan fake-pyrus`: the fake Pyrus from the shell.

use std::process::ExitCode;

use super::FakePyrusArgs;

/// Runs the command until it is interrupted.
///
/// # Errors
/// When the port is in use or the script cannot be read.
pub fn run(args: &FakePyrusArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("the fake Pyrus on {} is not integrated yet", args.listen)
}
