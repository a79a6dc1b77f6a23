//! `callspan user` and `callspan audit`: accounts of the console, and who listened to which call.

use std::io::{BufRead as _, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};

use super::table;
use crate::call::record::CallDirection;
use crate::console::accounts::{AccountRight, AccountRole, Accounts, AuditFilter, UserAccount};
use crate::journal::CallScope;
use crate::ops::config::ConfigPurpose;
use crate::ops::output;
use crate::service::clock::wall_clock;
use crate::time::Timestamp;

/// Where the accounts are.
#[derive(Clone, Debug, Args)]
pub(crate) struct AccountsPlace {
    /// Configuration file with the folder of the journal; the accounts are beside it.
    #[arg(short, long, value_name = "FILE", default_value = "/etc/callspan/callspan.toml", global = true)]
    pub(crate) config: PathBuf,
    /// Folder of the journal, instead of a configuration file.
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) state: Option<PathBuf>,
}

/// Arguments of `user`.
#[derive(Clone, Debug, Args)]
#[command(after_help = USER_HELP)]
pub(crate) struct UserArgs {
    /// Where the accounts are.
    #[command(flatten)]
    pub(crate) place: AccountsPlace,
    /// The command to run.
    #[command(subcommand)]
    pub(crate) command: UserCommand,
}

/// The commands of `user`.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Add a user, or replace one. The password is asked for, or read from standard input.
    Add(UserAddArgs),
    /// List the users.
    List,
    /// Remove a user and end its sessions.
    Remove {
        /// Name of the user.
        #[arg(value_name = "NAME")]
        name: String,
    },
}

/// Arguments of `user add`.
#[derive(Clone, Debug, Args)]
pub(crate) struct UserAddArgs {
    /// Name of the user.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// admin: everything. listener: the calls of the scope. auditor: lists and audit, hears nothing.
    #[arg(long, value_enum)]
    pub(crate) role: AccountRole,
    /// Extensions that a listener may see, e.g. 1xx,2[0-4]x [default: all].
    #[arg(long, value_name = "PATTERNS", value_delimiter = ',')]
    pub(crate) extensions: Vec<String>,
    /// Directions that a listener may see: inbound, outbound, internal [default: all].
    #[arg(long, value_name = "WORDS", value_delimiter = ',', value_parser = direction)]
    pub(crate) directions: Vec<CallDirection>,
    /// Rights of a listener.
    #[arg(long, value_name = "WORDS", value_delimiter = ',', value_enum, default_value = "list,play")]
    pub(crate) rights: Vec<AccountRight>,
}

/// Arguments of `audit`.
#[derive(Clone, Debug, Args)]
#[command(after_help = AUDIT_HELP)]
pub(crate) struct AuditArgs {
    /// Where the accounts are.
    #[command(flatten)]
    pub(crate) place: AccountsPlace,
    /// Only rows of this user.
    #[arg(long, value_name = "NAME")]
    pub(crate) who: Option<String>,
    /// Only rows of this call.
    #[arg(long, value_name = "ID")]
    pub(crate) call: Option<String>,
    /// Only rows at or after this day (UTC), 2026-11-23.
    #[arg(long, value_name = "DAY", value_parser = day)]
    pub(crate) from: Option<Timestamp>,
    /// At most this many rows, the newest.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub(crate) limit: u32,
    /// Print one JSON object per line.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Runs `user`.
///
/// # Errors
/// When the accounts cannot be read or written, or a name or password is refused.
pub(crate) fn run(args: &UserArgs) -> anyhow::Result<ExitCode> {
    let accounts = open(&args.place)?;
    match &args.command {
        UserCommand::Add(add) => {
            let scope = CallScope { extensions: add.extensions.clone(), directions: add.directions.clone() };
            let user = UserAccount { name: add.name.clone(), role: add.role, scope, rights: add.rights.clone() };
            accounts.put_user(&user, &read_password()?, wall_clock())?;
            output::result(&format!("{} may sign in\n", table::printable(&user.name)))?;
        }
        UserCommand::List => {
            for user in accounts.users()? {
                let scope = user.visible();
                let extensions =
                    if scope.extensions.is_empty() { String::from("all") } else { scope.extensions.join(",") };
                let role = format!("{:?}", user.role).to_lowercase();
                output::result(&format!("{}  {role}  extensions {extensions}\n", table::printable(&user.name)))?;
            }
        }
        UserCommand::Remove { name } => {
            if !accounts.remove_user(name)? {
                bail!("there is no user {}", table::printable(name));
            }
            output::result(&format!("{} is removed\n", table::printable(name)))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs `audit`.
///
/// # Errors
/// When the accounts cannot be read.
pub(crate) fn audit(args: &AuditArgs) -> anyhow::Result<ExitCode> {
    let accounts = open(&args.place)?;
    let filter =
        AuditFilter { who: args.who.clone(), call_id: args.call.clone(), since: args.from, ..AuditFilter::default() };
    for row in accounts.audit(&filter, args.limit)?.into_iter().rev() {
        let text = match args.json {
            true => serde_json::to_string(&row)?,
            false => format!(
                "{}  {}  {}  {}  {}",
                row.at.to_rfc3339_secs(),
                table::printable(&row.who),
                row.action,
                table::printable(row.call_id.as_deref().unwrap_or("-")),
                table::printable(row.detail.as_deref().unwrap_or_default())
            ),
        };
        output::result(&format!("{}\n", text.trim_end()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn open(place: &AccountsPlace) -> anyhow::Result<Accounts> {
    let folder = match &place.state {
        Some(folder) => folder.clone(),
        None => super::load_config(Some(&place.config), ConfigPurpose::Inspect)?.journal.dir,
    };
    Ok(Accounts::open(&folder)?)
}

/// Reads a password: a line of standard input. At a terminal it is not shown.
fn read_password() -> anyhow::Result<String> {
    let input = std::io::stdin();
    let mut line = String::new();
    if input.is_terminal() {
        output::note("Password (at least 10 characters, not shown):");
        let shown = rustix::termios::tcgetattr(&input).context("the terminal cannot be read")?;
        let mut hidden = shown.clone();
        hidden.local_modes.remove(rustix::termios::LocalModes::ECHO);
        rustix::termios::tcsetattr(&input, rustix::termios::OptionalActions::Now, &hidden)?;
        let read = input.lock().read_line(&mut line);
        rustix::termios::tcsetattr(&input, rustix::termios::OptionalActions::Now, &shown)?;
        read?;
    } else {
        input.lock().read_line(&mut line).context("the password cannot be read from standard input")?;
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn direction(text: &str) -> Result<CallDirection, String> {
    serde_json::from_value(serde_json::Value::String(text.to_owned()))
        .map_err(|_| String::from("write inbound, outbound, internal or unknown"))
}

fn day(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse_rfc3339(&format!("{text}T00:00:00Z")).map_err(|_| String::from("write 2026-11-23"))
}

const USER_HELP: &str = "\
Examples:
  callspan user add anna --role admin
  callspan user add boris --role listener --extensions 1xx --rights list,play,download
  callspan user add clara --role auditor < password.txt

Until the first user exists, everybody on this machine may open the console, and nobody else.";

const AUDIT_HELP: &str = "\
Examples:
  callspan audit --from 2026-11-23
  callspan audit --call 20261123T070854Z-5f1c0a9b2d3e --json";
