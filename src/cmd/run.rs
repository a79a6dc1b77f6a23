//! `callspan run`: the service.

use std::process::ExitCode;

use super::RunArgs;
use crate::ops::config::Purpose;

/// Runs the command.
///
/// # Errors
/// When the configuration is wrong or an interface cannot be opened.
pub fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    let config = super::load_config(Some(&args.config), Purpose::Run)?;
    anyhow::bail!("run on {} is not integrated yet", config.capture.interfaces.join(", "))
}
