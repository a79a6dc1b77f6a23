//! `callspan console`: serves the central console, i.e. the pages with the calls of a central archive.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;

use crate::console::ConsoleServer;
use crate::ops::alerts::Alerts;
use crate::ops::config::{Config, ConfigPurpose};
use crate::ops::{log, output};
use crate::service::systemd::SystemdSocket;
use crate::service::{lock, site_watch};

/// Arguments of `callspan console`.
#[derive(Clone, Debug, Args)]
#[command(after_help = CONSOLE_HELP)]
pub(crate) struct ConsoleArgs {
    /// Configuration file with the sections `archive`, `console` and `state`.
    #[arg(short, long, value_name = "FILE", default_value = "/etc/callspan/central.toml")]
    pub(crate) config: PathBuf,
}

/// Runs the command until SIGTERM or SIGINT.
///
/// # Errors
/// When the configuration lacks the archive or an address to listen on, or the console cannot start.
pub(crate) fn run(args: &ConsoleArgs) -> anyhow::Result<ExitCode> {
    let config = super::load_config(Some(&args.config), ConfigPurpose::Inspect)?;
    for (value, key) in [(&config.archive.index, "index"), (&config.archive.objects, "objects")] {
        if value.is_empty() {
            bail!("{} has no archive.{key} (callspan check-config --example explains it)", args.config.display());
        }
    }
    let Some(listen) = config.console.listen else {
        bail!("{} has no console.listen: set it to ADDRESS:PORT, e.g. \"127.0.0.1:8080\"", args.config.display());
    };
    lock::make_private(&config.journal.dir)
        .with_context(|| format!("cannot create the folder {} of state.dir", config.journal.dir.display()))?;
    let mut signals = signal_hook::iterator::Signals::new([signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT])
        .context("signal handler")?;
    log::set_level(&config.log.level);
    let console = ConsoleServer::start_centre(listen, &config)?;
    let (alerts, runner) =
        Alerts::start_with_history(&config.alerts, &config.journal.dir).context("cannot start the alerts thread")?;
    let sending = alerts.start_sending().context("cannot start the thread that sends alarms")?;
    let watch = site_watch::start(config.archive.clone(), alerts.clone())?;
    announce(&console, &config);
    signals.forever().next();
    watch.stop();
    drop(console);
    drop(alerts);
    runner.join();
    if let Some(sending) = sending {
        sending.stop_within(LAST_MESSAGES);
    }
    Ok(ExitCode::SUCCESS)
}

fn announce(console: &ConsoleServer, config: &Config) {
    output::note(&format!("callspan: the console of the centre listens on {}", console.url()));
    if let Some(fingerprint) = console.own_fingerprint() {
        output::note(&format!(
            "callspan: its certificate was made here; browsers show the SHA-256 fingerprint {fingerprint}"
        ));
    }
    if config.archive.endpoint.as_ref().is_some_and(|url| url.starts_with("http://")) {
        tracing::warn!("archive.endpoint is http: recordings cross the network in the clear");
    }
    SystemdSocket::of_environment().tell("READY=1");
}

/// Time that the last messages about alarms get to be sent when the process ends. The next start sends the others.
const LAST_MESSAGES: Duration = Duration::from_millis(1_500);

const CONSOLE_HELP: &str = "\
The same pages, users, scopes and audit as on a recorder, over PostgreSQL and the object store of [archive]. Accounts and audit
lie in the folder of [state]. Live calls, pause, hold and retry belong to the site and are not here.

Examples:
  callspan user add anna --role listener --extensions 1xx -c central.toml
  callspan console -c central.toml";
