//! `callspan replay`: capture files to recordings and call records.

use std::path::PathBuf;
use std::process::ExitCode;

use super::ReplayArgs;
use crate::call::record::CallRecord;
use crate::ops::config::{Config, Purpose};

/// What is to be replayed.
#[derive(Clone, Debug)]
pub struct ReplayRequest {
    /// pcap or pcapng files; `-` is standard input.
    pub files: Vec<PathBuf>,
    /// How.
    pub config: Config,
    /// Folder for WAV, JSON, spool and journal.
    pub out: PathBuf,
    /// Also deliver to Pyrus, and wait until nothing is owed that can still succeed.
    pub deliver: bool,
}

/// What a replay gave.
#[derive(Clone, Debug)]
pub struct ReplayOutcome {
    /// In the order of invited_at.
    pub records: Vec<CallRecord>,
    /// Calls of which something is still owed to Pyrus.
    pub owed: usize,
    /// What a person should be told.
    pub warnings: Vec<String>,
}

/// Replays.
///
/// # Errors
/// When a file is no capture, or the folder cannot be written.
pub fn replay(request: ReplayRequest) -> anyhow::Result<ReplayOutcome> {
    anyhow::bail!("replay of {} files is not integrated yet", request.files.len())
}

/// Runs the command.
///
/// # Errors
/// As [`replay`].
pub fn run(args: ReplayArgs) -> anyhow::Result<ExitCode> {
    let purpose = if args.deliver { Purpose::ReplayAndDeliver } else { Purpose::Replay };
    let config = super::load_config(args.config.as_deref(), purpose)?;
    replay(ReplayRequest { files: args.files, config, out: args.out, deliver: args.deliver })?;
    Ok(ExitCode::SUCCESS)
}
