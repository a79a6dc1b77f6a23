//! `callspan run`: the service.

use std::process::ExitCode;

use super::RunArgs;
use crate::ops::config::{Config, Purpose};

/// Runs the command.
///
/// # Errors
/// When the configuration is wrong or an interface cannot be opened.
pub fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    let loaded = Config::load(&args.config, Purpose::Run)?;
    anyhow::bail!("run on {} is not integrated yet", loaded.config.capture.interfaces.join(", "))
}
