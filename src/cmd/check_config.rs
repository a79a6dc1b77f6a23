//! `callspan check-config`: lists every mistake in a configuration file, with its line and remedy.

use std::process::ExitCode;

use super::CheckConfigArgs;
use crate::ops::config::{Config, ConfigPurpose, reference};
use crate::ops::output;

/// Runs `callspan check-config`. If the file has mistakes, the exit status is 2. Warnings are printed as results.
///
/// # Errors
/// Fails with the list of mistakes, or if the file cannot be read.
pub(crate) fn run(args: &CheckConfigArgs) -> anyhow::Result<ExitCode> {
    if args.example {
        output::result(&reference::example())?;
        return Ok(ExitCode::SUCCESS);
    }
    let file = args.config.as_ref().unwrap_or(&args.file);
    let purpose = if args.service { ConfigPurpose::CheckForService } else { ConfigPurpose::Check };
    let loaded = Config::load(file, purpose)?;
    let mut text = format!("{} can be used", file.display());
    text.push_str(if loaded.warnings.is_empty() { ".\n" } else { ", with these warnings:\n" });
    for warning in &loaded.warnings {
        text.push_str(&format!("  {warning}\n"));
    }
    output::result(&text)?;
    Ok(ExitCode::SUCCESS)
}
