//! The commands. Exit status: 0 all done; 1 the work failed or something is owed; 2 the command line or the
//! configuration is wrong. Results go to standard output, all else to standard error.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::ops::config::{Config, ConfigError, ConfigPurpose};
use crate::ops::{log, output};

pub mod calls;
pub mod check_config;
pub mod demo;
pub mod doctor;
pub mod fake_pyrus;
pub mod replay;
pub mod run;
pub mod table;

/// Records SIP calls from a mirror port: one stereo WAV for each call, delivered to its Pyrus task.
#[derive(Debug, Parser)]
#[command(name = "callspan", version, after_help = HELP, arg_required_else_help = true, max_term_width = 100)]
pub struct Cli {
    /// How much to log to standard error: error, warn, info, debug, trace, or a list of ROOM=LEVEL. Phone numbers are
    /// shown only at debug and trace.
    #[arg(long, global = true, value_name = "LEVEL", env = "CALLSPAN_LOG")]
    pub log: Option<String>,
    /// Log one JSON object a line.
    #[arg(long, global = true, env = "CALLSPAN_LOG_JSON", value_parser = clap::builder::FalseyValueParser::new())]
    pub log_json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: CallspanCommand,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum CallspanCommand {
    /// Turn capture files into recordings and call records.
    Replay(ReplayArgs),
    /// The service: capture live until SIGTERM or SIGINT.
    Run(RunArgs),
    /// Say everything that is wrong with a configuration file.
    CheckConfig(CheckConfigArgs),
    /// Look at the journal of calls: what was heard, what is owed to Pyrus, what a person must do.
    Calls(calls::CallsArgs),
    /// Look at a mirror, or a capture of it, and say what is wrong with it and the command that mends it.
    Doctor(DoctorArgs),
    /// Serve a faithful fake of the Pyrus API, for trying out and for tests.
    FakePyrus(FakePyrusArgs),
    /// Show the whole way with nothing to configure: a shipped call, a fake Pyrus, a stereo WAV.
    Demo(DemoArgs),
}

/// Arguments of `replay`.
#[derive(Clone, Debug, Args)]
#[command(after_help = REPLAY_HELP)]
pub struct ReplayArgs {
    /// Configuration file; without it the defaults hold.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder for the WAV and JSON of each call; it is made if it is not there.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_OUT)]
    pub out: PathBuf,
    /// Also register the calls in Pyrus, upload the recordings and attach them.
    #[arg(long)]
    pub deliver: bool,
    /// Print one call record a line instead of a table.
    #[arg(long)]
    pub json: bool,
    /// pcap or pcapng files, gzip too; `-` is standard input. Several are read as one capture, merged by time.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// Arguments of `run`.
#[derive(Clone, Debug, Args)]
#[command(after_help = RUN_HELP)]
pub struct RunArgs {
    /// Configuration file.
    #[arg(short, long, value_name = "FILE", default_value = "/etc/callspan/callspan.toml")]
    pub config: PathBuf,
    /// On SIGTERM wait so many seconds for the calls under way, instead of leaving them to the next start.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub drain: u64,
}

/// Arguments of `check-config`.
#[derive(Clone, Debug, Args)]
#[command(after_help = CHECK_HELP)]
pub struct CheckConfigArgs {
    /// The file to check.
    #[arg(value_name = "FILE", required_unless_present = "example")]
    pub file: Option<PathBuf>,
    /// Print the example configuration instead: every key with its default, unit and meaning.
    #[arg(long, conflicts_with = "file")]
    pub example: bool,
}

/// Arguments of `doctor`.
#[derive(Clone, Debug, Args)]
#[command(after_help = DOCTOR_HELP)]
pub struct DoctorArgs {
    /// Configuration file: its interfaces are looked at when nothing else is named.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Interface to look at.
    #[arg(long, value_name = "NAME", conflicts_with = "files")]
    pub interface: Option<String>,
    /// How long to look at an interface.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: u64,
    /// Print one JSON object instead of text.
    #[arg(long)]
    pub json: bool,
    /// Capture files to look at instead; `-` is standard input.
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// Arguments of `fake-pyrus`.
#[derive(Clone, Debug, Args)]
#[command(after_help = FAKE_HELP)]
pub struct FakePyrusArgs {
    /// Address and port to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8790")]
    pub listen: std::net::SocketAddr,
    /// Faults to play: a JSON file.
    #[arg(long, value_name = "FILE")]
    pub script: Option<PathBuf>,
}

/// Arguments of `demo`.
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// Folder for the recording; it is made if it is not there.
    #[arg(long, value_name = "DIR", default_value = "callspan-demo")]
    pub out: PathBuf,
}

/// Runs the command that the arguments of this process name.
pub fn main() -> ExitCode {
    forbid_core_dumps();
    main_with(std::env::args_os())
}

/// What is in the memory of this process (the security key, the token, voices) must not come to a disk by a crash.
fn forbid_core_dumps() {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    // Where the kernel refuses, the unit's LimitCORE=0 still holds.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// Runs the command that these arguments (the first is the name of the program) name.
pub fn main_with(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        // Help and version are results with exit status 0; the rest is a wrong command line.
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let format = if cli.log_json { log::LogFormat::Json } else { log::LogFormat::Text };
    if let Err(error) = log::start(cli.log.as_deref(), format) {
        output::complain(&error);
        return ExitCode::from(EXIT_USAGE);
    }
    match dispatch(cli.command) {
        Ok(code) => code,
        Err(error) => {
            output::complain(&error);
            exit_of(&error)
        }
    }
}

/// The configuration of a command: of the file if one is named, else the defaults. Warnings go to standard error.
///
/// # Errors
/// With every mistake in it; with `ConfigPurpose::ReplayAndDeliver` a file is required, for the login has no default.
pub fn load_config(file: Option<&std::path::Path>, purpose: ConfigPurpose) -> anyhow::Result<Config> {
    let loaded = match (file, purpose) {
        (Some(file), _) => Config::load(file, purpose)?,
        (None, ConfigPurpose::ReplayAndDeliver) => Config::default_for_delivery()?,
        (None, _) => return Ok(Config::default_for_replay()),
    };
    let origin = file.map_or_else(String::new, |f| f.display().to_string());
    for warning in &loaded.warnings {
        output::note(&format!("callspan: {origin}: {warning}"));
    }
    Ok(loaded.config)
}

fn dispatch(command: CallspanCommand) -> anyhow::Result<ExitCode> {
    match command {
        CallspanCommand::Replay(args) => replay::run(args),
        CallspanCommand::Run(args) => run::run(args),
        CallspanCommand::CheckConfig(args) => check_config::run(&args),
        CallspanCommand::Calls(args) => calls::run(&args),
        CallspanCommand::Doctor(args) => doctor::run(&args),
        CallspanCommand::FakePyrus(args) => fake_pyrus::run(&args),
        CallspanCommand::Demo(args) => demo::run(&args),
    }
}

/// A wrong configuration is 2 wherever it was found; all other errors are 1.
pub fn exit_of(error: &anyhow::Error) -> ExitCode {
    let code = if error.chain().any(|cause| cause.is::<ConfigError>()) { EXIT_USAGE } else { EXIT_FAILED };
    ExitCode::from(code)
}

/// The work failed, or something is owed.
pub const EXIT_FAILED: u8 = 1;
/// The command line or the configuration is wrong.
pub const EXIT_USAGE: u8 = 2;
/// Where `replay` puts its results when nothing is said.
pub const DEFAULT_OUT: &str = "callspan-out";

const HELP: &str = "\
Examples:
  callspan demo                              the whole way, with a shipped call and a fake Pyrus
  callspan replay --out calls trunk.pcap     recordings and records of a capture
  callspan check-config --example            the example configuration, every key explained
  callspan doctor --interface eth1           what is wrong with the mirror, and what mends it
  callspan run -c /etc/callspan/callspan.toml

Exit status: 0 all done, 1 the work failed or something is owed, 2 the command line or the configuration is wrong.";

const REPLAY_HELP: &str = "\
Each call becomes DIR/<id>.wav (left the caller, right the called party) and DIR/<id>.json. The same capture gives the
same ids and the same bytes; with --deliver a second run with the same files and folder sends nothing twice.

Examples:
  callspan replay trunk.pcap
  callspan replay --json --out calls monday.pcapng.gz tuesday.pcapng.gz | jq .verdict
  tcpdump -i eth1 -w - | callspan replay -
  callspan replay -c callspan.toml --deliver trunk.pcap";

const RUN_HELP: &str = "\
Capturing needs CAP_NET_RAW: use the systemd unit, or once
  setcap cap_net_raw,cap_net_admin+ep $(command -v callspan)";

const CHECK_HELP: &str = "\
Examples:
  callspan check-config /etc/callspan/callspan.toml
  callspan check-config --example > callspan.toml";

const DOCTOR_HELP: &str = "\
Findings are results: the exit status is 0 when it could look, 1 when it could not. Looking needs the same privilege as
capturing (CAP_NET_RAW), a file needs none.

Examples:
  callspan doctor --interface eth1
  callspan doctor -c /etc/callspan/callspan.toml --seconds 300
  callspan doctor --json trunk.pcap | jq '.findings[].kind'";

const FAKE_HELP: &str = "\
Point a configuration at it with the auth_url that it prints. Nothing leaves this machine.

Examples:
  callspan fake-pyrus
  callspan fake-pyrus --listen 127.0.0.1:0 --script faults.json";
