//! `callspan alerts`: sends a test alarm to every receiver, and sends dead letters (messages that were given up) again.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, Subcommand};

use super::EXIT_FAILED;
use super::table::printable;
use crate::journal::outbox::Outbox;
use crate::ops::alerts::{Alarm, AlarmKind, Alerts};
use crate::ops::config::{Config, ConfigPurpose};
use crate::ops::folder_owner::FolderOwner;
use crate::ops::notify::AlarmReceivers;
use crate::ops::output;
use crate::service::clock::wall_clock;
use crate::text::count;

/// Arguments of `callspan alerts`.
#[derive(Clone, Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct AlertsArgs {
    /// Configuration file.
    #[arg(short, long, value_name = "FILE", default_value = "/etc/callspan/callspan.toml", global = true)]
    config: PathBuf,
    /// The subcommand to run.
    #[command(subcommand)]
    command: AlertsCommand,
}

/// The subcommands of `callspan alerts`.
#[derive(Clone, Copy, Debug, Subcommand)]
enum AlertsCommand {
    /// Send one test alarm to every configured receiver, and show which of them accepted it.
    Test,
    /// Send messages again that were given up because their receivers refused them (dead letters).
    Retry,
}

/// Runs `callspan alerts`.
///
/// # Errors
/// Fails if the configuration is wrong or has no receiver, or if the outbox cannot be opened.
pub(crate) fn run(args: &AlertsArgs) -> anyhow::Result<ExitCode> {
    let config = super::load_config(Some(&args.config), ConfigPurpose::Inspect)?;
    match args.command {
        AlertsCommand::Test => test(&config),
        AlertsCommand::Retry => {
            let revived = Outbox::open(&config.journal.dir)?.revive(wall_clock())?;
            output::result(&format!("{} will be sent again by the running service\n", count(revived, "message")))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn test(config: &Config) -> anyhow::Result<ExitCode> {
    let alarm = Alarm {
        at: wall_clock(),
        kind: AlarmKind::TestAlarm,
        detail: String::from("this is a test of the alarms: nothing is wrong"),
        call: None,
        held_back: 0,
    };
    let receivers = AlarmReceivers::new(config.alerts.notify.clone(), &config.journal.dir);
    let mut results = receivers.try_all(&alarm);
    let owner = FolderOwner::of_service(config);
    if let Some(result) = Alerts::try_command(&config.alerts, &alarm, owner) {
        results.push(("command", result.map_err(|error| error.to_string())));
    }
    if results.is_empty() {
        bail!(
            "no receiver of alarms is configured: set command, webhook_url, mail_server or telegram_chat in [alerts]"
        );
    }
    let mut text = String::new();
    for (receiver, result) in &results {
        let line =
            result.as_ref().map_or_else(|error| format!("FAILED: {}", printable(error)), |()| String::from("sent"));
        text.push_str(&format!("{receiver:<9} {line}\n"));
    }
    if let Some(owner) = owner.filter(|_| config.alerts.command.is_some()) {
        text.push_str(&format!("The command ran as {}, the user of the service.\n", owner.name()));
    }
    output::result(&text)?;
    Ok(if results.iter().all(|(_, result)| result.is_ok()) { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) })
}

const HELP: &str = "\
Exit status of test: 0 every receiver accepted the alarm; 1 a receiver refused it, or none is configured.

Examples:
  callspan alerts test
  callspan alerts retry";
