//! `callspan fake-pyrus`: serves the fake Pyrus API.

use std::process::ExitCode;

use super::FakePyrusArgs;
use crate::fake_pyrus::serve;

/// Runs `callspan fake-pyrus` until SIGTERM or SIGINT.
///
/// # Errors
/// Fails if the port is in use or the script cannot be read.
pub(crate) fn run(args: &FakePyrusArgs) -> anyhow::Result<ExitCode> {
    serve(args.listen, args.script.clone(), std::io::stdout())?;
    Ok(ExitCode::SUCCESS)
}
