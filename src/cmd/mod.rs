//! The commands of the program. Results go to standard output, everything else to standard error.
//!
//! Exit status: 0 success; 1 the work failed or calls still have to be delivered; 2 the command line or the
//! configuration is wrong.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use self::language::CliLanguage;
use crate::ops::config::{Config, ConfigError, ConfigFinding, ConfigPurpose};
use crate::ops::folder_owner::RunByRoot;
use crate::ops::{heap, log, output};
use crate::service::{render_process, render_worker};

pub(crate) mod alerts;
pub(crate) mod archive;
pub(crate) mod calls;
pub(crate) mod central;
pub(crate) mod check_config;
pub(crate) mod console;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod fake_pyrus;
pub(crate) mod language;
pub(crate) mod package_files;
pub mod replay;
pub(crate) mod run;
pub(crate) mod status;
pub(crate) mod table;
pub(crate) mod terminal;
pub(crate) mod test_call;
pub(crate) mod user;

/// Records SIP calls from a mirror port: one stereo recording for each call, delivered to its Pyrus task.
#[derive(Debug, Parser)]
#[command(name = "callspan", version, after_help = HELP, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Cli {
    /// Log level for standard error: error, warn, info, debug, trace, or a list of MODULE=LEVEL. Phone numbers are
    /// never logged.
    #[arg(long, global = true, value_name = "LEVEL", env = "CALLSPAN_LOG")]
    pub(crate) log: Option<String>,
    /// Log one JSON object per line.
    #[arg(long, global = true, env = "CALLSPAN_LOG_JSON", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) log_json: bool,
    /// Language of sentences: reasons of verdicts and of delivery, alarms, findings, steps of a test call [default:
    /// from LC_ALL, LC_MESSAGES or LANG].
    #[arg(long, global = true, value_name = "LANG", value_enum)]
    pub(crate) lang: Option<CliLanguage>,
    /// The command to run.
    #[command(subcommand)]
    pub(crate) command: CallspanCommand,
}

/// The commands of the program.
#[derive(Debug, Subcommand)]
pub(crate) enum CallspanCommand {
    /// Turn capture files into recordings and call records.
    Replay(ReplayArgs),
    /// Run the service: record calls from the mirror port until SIGTERM or SIGINT.
    Run(RunArgs),
    /// List every mistake in a configuration file.
    CheckConfig(CheckConfigArgs),
    /// Show recorded calls, their delivery to Pyrus, and what a person must do.
    Calls(calls::CallsArgs),
    /// Show the state of the service: mirror, calls, losses, disks, delivery, alarms.
    Status(status::StatusArgs),
    /// Send a test alarm to every receiver, or send refused messages again.
    Alerts(alerts::AlertsArgs),
    /// Send a made-up call through the mirrored port, and show at which step it is lost.
    TestCall(test_call::TestCallArgs),
    /// Check a mirror port or a capture file; list problems with the commands that solve them.
    Doctor(DoctorArgs),
    /// Serve a fake Pyrus API, for trials and tests.
    FakePyrus(FakePyrusArgs),
    /// Add, list and remove the users of the console.
    User(user::UserArgs),
    /// Add, list and remove tokens with which programs use the API of the console.
    Token(user::TokenArgs),
    /// Show who listened to which call, and what else users did in the console.
    Audit(user::AuditArgs),
    /// Send calls to the central archive of several sites, or bring them back.
    Archive(archive::ArchiveArgs),
    /// Set up and check the index of a central archive.
    Central(central::CentralArgs),
    /// Serve the pages of the centre: the calls of all sites, from the central archive.
    Console(console::ConsoleArgs),
    /// Render calls for `run`; not for people.
    #[command(name = render_process::COMMAND, hide = true)]
    RenderWorker,
    /// Write man pages and shell completions into a folder, for packages.
    #[command(hide = true)]
    PackageFiles(PackageFilesArgs),
    /// Try everything without configuration: a built-in call, a fake Pyrus, a stereo WAV.
    Demo(DemoArgs),
}

/// Arguments of `callspan replay`.
#[derive(Clone, Debug, Args)]
#[command(after_help = REPLAY_HELP)]
pub(crate) struct ReplayArgs {
    /// Configuration file; without it every key has its default.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Folder for the WAV and JSON files; created if missing.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_OUT)]
    pub(crate) out: PathBuf,
    /// Also register the calls in Pyrus, upload the recordings and attach them.
    #[arg(long)]
    pub(crate) deliver: bool,
    /// Print one call record (JSON) per line instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
    /// Show times in UTC instead of local time. JSON is always UTC.
    #[arg(long)]
    pub(crate) utc: bool,
    /// pcap or pcapng files, also gzip; `-` is standard input. Several files are merged by time.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
}

/// Arguments of `callspan run`.
#[derive(Clone, Debug, Args)]
#[command(after_help = RUN_HELP)]
pub(crate) struct RunArgs {
    /// Configuration file.
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub(crate) config: PathBuf,
    /// On SIGTERM, wait up to this many seconds for live calls to end. By default the service stops at once, and its
    /// next start continues the calls.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub(crate) drain: u64,
}

/// Arguments of `callspan check-config`.
#[derive(Clone, Debug, Args)]
#[command(after_help = CHECK_HELP)]
pub(crate) struct CheckConfigArgs {
    /// Configuration file to check.
    #[arg(value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub(crate) file: PathBuf,
    /// Configuration file to check; the same as FILE.
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["file", "example"])]
    pub(crate) config: Option<PathBuf>,
    /// Fail with status 2 if `callspan run` would refuse the file, also because no interface is set.
    #[arg(long, conflicts_with = "example")]
    pub(crate) service: bool,
    /// Print the example configuration instead: every key with default, unit and description.
    #[arg(long, conflicts_with = "file")]
    pub(crate) example: bool,
}

/// Arguments of `callspan doctor`.
#[derive(Clone, Debug, Args)]
#[command(after_help = DOCTOR_HELP)]
pub(crate) struct DoctorArgs {
    /// Configuration file; its interfaces are checked unless an interface or file is given.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Interface to check.
    #[arg(long, value_name = "NAME", conflicts_with = "files")]
    pub(crate) interface: Option<String>,
    /// Seconds to watch the interface.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) seconds: u64,
    /// Print one JSON object instead of text.
    #[arg(long)]
    pub(crate) json: bool,
    /// Capture files to check instead; `-` is standard input.
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
}

/// Arguments of `callspan fake-pyrus`.
#[derive(Clone, Debug, Args)]
#[command(after_help = FAKE_HELP)]
pub(crate) struct FakePyrusArgs {
    /// Address and port to listen on; port 0 chooses a free port.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8790")]
    pub(crate) listen: std::net::SocketAddr,
    /// JSON file with faults to simulate.
    #[arg(long, value_name = "FILE")]
    pub(crate) script: Option<PathBuf>,
}

/// Arguments of `callspan package-files`.
#[derive(Clone, Debug, Args)]
pub(crate) struct PackageFilesArgs {
    /// Folder for man/ and completions/; created if missing.
    #[arg(value_name = "DIR")]
    pub(crate) out: PathBuf,
}

/// Arguments of `callspan demo`.
#[derive(Clone, Debug, Args)]
pub(crate) struct DemoArgs {
    /// Folder for the recording; created if missing.
    #[arg(long, value_name = "DIR", default_value = "callspan-demo")]
    pub(crate) out: PathBuf,
    /// Afterwards show the call in the console, until Ctrl-C. Port 0 chooses a free port.
    #[arg(long, value_name = "ADDR", num_args = 0..=1, default_missing_value = "127.0.0.1:8080")]
    pub(crate) serve: Option<std::net::SocketAddr>,
}

/// Runs the command given by the arguments of this process.
pub fn main() -> ExitCode {
    forbid_core_dumps();
    heap::keep_memory();
    main_with(std::env::args_os())
}

/// Forbids core dumps of this process, because its memory contains security keys, tokens and speech.
fn forbid_core_dumps() {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    // If the kernel refuses to forbid core dumps, `LimitCORE=0` in the systemd unit still applies.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// Runs the command given by these arguments. The first argument is the name of the program.
pub(crate) fn main_with(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        // clap reports `--help` and `--version` as errors, too, but with exit status 0.
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
    CliLanguage::choose(cli.lang);
    match dispatch(cli.command) {
        Ok(code) => code,
        Err(error) => {
            output::complain(&error);
            exit_of(&error)
        }
    }
}

/// Loads the configuration of a command from a file, or from the defaults. Warnings go to standard error.
///
/// # Errors
/// Fails if the configuration has mistakes; the error lists all of them. `ConfigPurpose::ReplayAndDeliver` requires a
/// file, because the login has no default.
pub(crate) fn load_config(file: Option<&Path>, purpose: ConfigPurpose) -> anyhow::Result<Config> {
    let loaded = match (file, purpose) {
        (Some(file), _) => Config::load(file, purpose)?,
        (None, ConfigPurpose::ReplayAndDeliver) => Config::default_for_delivery()?,
        (None, _) => return Ok(Config::default_for_replay()),
    };
    if let Some(file) = file {
        print_warnings(file, &loaded.warnings);
    }
    Ok(loaded.config)
}

/// Prints findings in a configuration file to standard error.
pub(crate) fn print_warnings(file: &Path, findings: &[ConfigFinding]) {
    for finding in findings {
        output::warn(&format!("callspan: {}: {finding}", file.display()));
    }
}

fn dispatch(command: CallspanCommand) -> anyhow::Result<ExitCode> {
    match command {
        CallspanCommand::Replay(args) => replay::run(args),
        CallspanCommand::Run(args) => run::run(args),
        CallspanCommand::CheckConfig(args) => check_config::run(&args),
        CallspanCommand::Calls(args) => calls::run(&args),
        CallspanCommand::Doctor(args) => doctor::run(&args),
        CallspanCommand::Alerts(args) => alerts::run(&args),
        CallspanCommand::TestCall(args) => test_call::run(&args),
        CallspanCommand::Status(args) => status::run(&args),
        CallspanCommand::FakePyrus(args) => fake_pyrus::run(&args),
        CallspanCommand::User(args) => user::run(&args),
        CallspanCommand::Token(args) => user::token(&args),
        CallspanCommand::Audit(args) => user::audit(&args),
        CallspanCommand::Archive(args) => archive::run(&args),
        CallspanCommand::Central(args) => central::run(&args),
        CallspanCommand::Console(args) => console::run(&args),
        CallspanCommand::RenderWorker => render_worker::serve().map(|()| ExitCode::SUCCESS),
        CallspanCommand::PackageFiles(args) => package_files::run(&args),
        CallspanCommand::Demo(args) => demo::run(&args),
    }
}

/// Path of the package's configuration file, which commands use if no other file is given.
const DEFAULT_CONFIG: &str = "/etc/callspan/callspan.toml";

/// Returns the exit status for an error: 2 for a wrong configuration, 1 for everything else.
pub(crate) fn exit_of(error: &anyhow::Error) -> ExitCode {
    let code = if error.chain().any(|cause| cause.is::<ConfigError>() || cause.is::<RunByRoot>()) {
        EXIT_USAGE
    } else {
        EXIT_FAILED
    };
    ExitCode::from(code)
}

/// Exit status if the work failed or calls still have to be delivered.
pub(crate) const EXIT_FAILED: u8 = 1;
/// Exit status if the command line or the configuration is wrong.
pub(crate) const EXIT_USAGE: u8 = 2;
/// Output folder of `replay` if `--out` is not given.
pub(crate) const DEFAULT_OUT: &str = "callspan-out";

const HELP: &str = "\
Examples:
  callspan demo                              try everything, with a built-in call and a fake Pyrus
  callspan replay --out calls trunk.pcap     make recordings and records from a capture
  callspan check-config --example            print the example configuration, every key explained
  callspan doctor --interface eth1           check the mirror port
  callspan run -c /etc/callspan/callspan.toml

Exit status: 0 success; 1 the work failed or calls still have to be delivered; 2 the command line or
the configuration is wrong.";

const REPLAY_HELP: &str = "\
Each call becomes DIR/<id>.wav (left the caller, right the called party) and DIR/<id>.json. The
same capture always gives the same ids and the same bytes. With --deliver, a second run with the
same files and folder sends nothing twice. If a capture is truncated at its end, the exit status is
0. If it has bytes that are no frames, the rest of the file is not read, and the exit status is 1.

Examples:
  callspan replay trunk.pcap
  callspan replay --json --out calls monday.pcapng.gz tuesday.pcapng.gz | jq .verdict
  tcpdump -i eth1 -w - | callspan replay -
  callspan replay -c callspan.toml --deliver trunk.pcap";

const RUN_HELP: &str = "\
Capturing needs CAP_NET_RAW. Use the systemd unit, or run once as root:
  setcap cap_net_raw,cap_net_admin+ep $(command -v callspan)";

const CHECK_HELP: &str = "\
Examples:
  callspan check-config /etc/callspan/callspan.toml
  callspan check-config --service && systemctl reload callspan
  callspan check-config --example > callspan.toml";

const DOCTOR_HELP: &str = "\
The exit status is 0 if the check could be done, whatever it found, and 1 if not. Watching an
interface needs CAP_NET_RAW, as capturing does. Checking a file needs no privilege.

Examples:
  callspan doctor --interface eth1
  callspan doctor -c /etc/callspan/callspan.toml --seconds 300
  callspan doctor --json trunk.pcap | jq '.findings[].kind'";

const FAKE_HELP: &str = "\
The command prints the auth_url to use in a configuration. Nothing leaves this machine.

Examples:
  callspan fake-pyrus
  callspan fake-pyrus --listen 127.0.0.1:0 --script faults.json";
