//! `callspan demo`: the main job with nothing to configure.

use std::process::ExitCode;

use super::DemoArgs;

/// Runs the command.
///
/// # Errors
/// When the folder cannot be written.
pub fn run(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("the demo into {} is not integrated yet", args.out.display())
}
