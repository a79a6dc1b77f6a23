//! `callspan console`: serves the central console, i.e. the pages with the calls of a central archive.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use signal_hook::iterator::Signals;

use crate::console::ConsoleServer;
use crate::ops::alarm_cause::AlarmCause;
use crate::ops::alerts::Alerts;
use crate::ops::config::{Config, ConfigPurpose};
use crate::ops::supervision::{PATIENT_ROUND, SHORT_ROUND, StalledThread, Supervisor};
use crate::ops::{log, output};
use crate::service::systemd::SystemdSocket;
use crate::service::{clock, lock, site_watch};

/// Arguments of `callspan console`.
#[derive(Clone, Debug, Args)]
#[command(after_help = CONSOLE_HELP)]
pub(crate) struct ConsoleArgs {
    /// Configuration file with the sections `archive`, `console` and `state`.
    #[arg(short, long, value_name = "FILE", default_value = "/etc/callspan/central.toml")]
    pub(crate) config: PathBuf,
}

/// Runs `callspan console` until SIGTERM or SIGINT.
///
/// # Errors
/// Fails if the configuration lacks the archive or an address to listen on, or the console cannot start.
pub(crate) fn run(args: &ConsoleArgs) -> anyhow::Result<ExitCode> {
    let config = super::load_config(Some(&args.config), ConfigPurpose::Inspect)?;
    let listen = address(&config, &args.config)?;
    lock::make_private(&config.journal.dir)
        .with_context(|| format!("cannot create the folder {} of state.dir", config.journal.dir.display()))?;
    let mut signals =
        Signals::new([signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT]).context("signal handler")?;
    log::set_level(&config.log.level);
    let console = ConsoleServer::start_centre(listen, &config)?;
    let (alerts, runner) =
        Alerts::start_with_history(&config.alerts, &config.journal.dir).context("cannot start the alerts thread")?;
    let sending = alerts.start_sending().context("cannot start the thread that sends alarms")?;
    let watch = site_watch::start(config.archive.clone(), alerts.clone())?;
    let mut supervisor = Supervisor::default();
    // This process records no calls, so systemd may restart it when it hangs.
    console.life().into_iter().for_each(|life| supervisor.watch("console", life, SHORT_ROUND));
    supervisor.watch_helper("sites", watch.life(), PATIENT_ROUND);
    supervisor.watch_helper("alerts", alerts.life(), PATIENT_ROUND);
    let systemd = SystemdSocket::of_environment();
    announce(&console, &config);
    systemd.tell("READY=1");
    let ended = supervise(&mut supervisor, &mut signals, &alerts, &systemd);
    systemd.tell("STOPPING=1");
    watch.stop();
    drop(console);
    drop(alerts);
    runner.join();
    if let Some(sending) = sending {
        sending.stop_within(LAST_MESSAGES);
    }
    match ended {
        Some(name) => bail!("the thread {name} has ended, which is a bug"),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// Returns the address on which the console listens. Fails for a configuration without an archive or an address.
fn address(config: &Config, path: &Path) -> anyhow::Result<SocketAddr> {
    for (value, key) in [(&config.archive.index, "index"), (&config.archive.objects, "objects")] {
        if value.is_empty() {
            bail!("{} has no archive.{key} (callspan check-config --example explains it)", path.display());
        }
    }
    let Some(listen) = config.console.listen else {
        bail!("{} has no console.listen: set it to ADDRESS:PORT, e.g. \"127.0.0.1:8080\"", path.display());
    };
    Ok(listen)
}

/// Notifies the watchdog of systemd while the console makes progress, until SIGTERM or SIGINT. If a thread ends by
/// itself, stops at once and returns the name of the thread.
#[expect(clippy::disallowed_methods, reason = "waits between two signs of life")]
fn supervise(
    supervisor: &mut Supervisor,
    signals: &mut Signals,
    alerts: &Alerts,
    systemd: &SystemdSocket,
) -> Option<&'static str> {
    let mut known: Vec<&'static str> = Vec::new();
    loop {
        if signals.pending().next().is_some() {
            return None;
        }
        if let Some(name) = supervisor.ended() {
            return Some(name);
        }
        let stalled = supervisor.stalled(clock::monotonic());
        if !stalled.iter().any(|thread| thread.is_vital) {
            systemd.try_tell("WATCHDOG=1");
        }
        for &StalledThread { name, since, .. } in stalled.iter().filter(|thread| !known.contains(&thread.name)) {
            alerts.raise(&AlarmCause::ThreadStalled { name, since });
        }
        known = stalled.iter().map(|thread| thread.name).collect();
        std::thread::sleep(SIGN_OF_LIFE);
    }
}

fn announce(console: &ConsoleServer, config: &Config) {
    output::note(&format!("callspan: the console of the centre listens on {}", console.url()));
    if let Some(fingerprint) = console.own_fingerprint() {
        output::note(&format!(
            "callspan: the console made its own certificate; browsers show the SHA-256 fingerprint {fingerprint}"
        ));
    }
    if config.archive.endpoint.as_ref().is_some_and(|url| url.starts_with("http://")) {
        tracing::warn!("archive.endpoint is http: recordings cross the network in the clear");
    }
}

/// Pause between two notifications of systemd's watchdog, and between two checks for a signal to stop.
const SIGN_OF_LIFE: Duration = Duration::from_millis(200);
/// Maximum time for sending the last messages about alarms when the process ends. The next start sends the rest.
const LAST_MESSAGES: Duration = Duration::from_millis(1_500);

const CONSOLE_HELP: &str = "\
The pages, users, scopes and audit are like those of a recorder. The calls come from PostgreSQL and
the object store of [archive]. Accounts and audit are in the folder of [state]. Live calls, pause,
hold and retry are only in the console of the site.

Examples:
  callspan user add anna --role listener --extensions 1xx -c central.toml
  callspan console -c central.toml
  systemctl enable --now callspan-console     (reads /etc/callspan/central.toml)";
