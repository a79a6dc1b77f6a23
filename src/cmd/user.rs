//! `callspan user` and `callspan audit`: manage the accounts of the console, and show who listened to which call.

use std::io::{BufRead as _, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};

use super::table;
use super::terminal::clock_face::{DisplayZone, GivenTime};
use crate::call::record::CallDirection;
use crate::console::accounts::totp::TotpSecret;
use crate::console::accounts::{AccountRight, AccountRole, Accounts, ApiToken, AuditFilter, UserAccount};
use crate::journal::CallScope;
use crate::ops::config::ConfigPurpose;
use crate::ops::output;
use crate::service::clock::wall_clock;

/// Arguments that select the folder with the accounts.
#[derive(Clone, Debug, Args)]
pub(crate) struct AccountsPlace {
    /// Configuration file with the folder of the journal; the accounts are beside it.
    #[arg(short, long, value_name = "FILE", default_value = "/etc/callspan/callspan.toml", global = true)]
    pub(crate) config: PathBuf,
    /// Folder of the journal, instead of a configuration file.
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) state: Option<PathBuf>,
}

/// Arguments of `callspan user`.
#[derive(Clone, Debug, Args)]
#[command(after_help = USER_HELP)]
pub(crate) struct UserArgs {
    /// Folder or configuration that selects the accounts.
    #[command(flatten)]
    pub(crate) place: AccountsPlace,
    /// The subcommand to run.
    #[command(subcommand)]
    pub(crate) command: UserCommand,
}

/// The subcommands of `callspan user`.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Add a user, or replace one. The password is asked for, or read from standard input.
    Add(UserAddArgs),
    /// List the users.
    List,
    /// Remove a user, and end the user's sessions.
    Remove {
        /// Name of the user to remove.
        #[arg(value_name = "NAME")]
        name: String,
    },
}

/// Arguments for the name, role and scope of a new user or token.
#[derive(Clone, Debug, Args)]
pub(crate) struct ScopeArgs {
    /// Name, shown in the audit.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Role: admin may do everything; listener may hear the calls of the scope; auditor sees lists and the audit, but
    /// hears nothing.
    #[arg(long, value_enum)]
    pub(crate) role: AccountRole,
    /// Extensions that a listener may see, e.g. 1xx,2[0-4]x [default: all].
    #[arg(long, value_name = "PATTERNS", value_delimiter = ',')]
    pub(crate) extensions: Vec<String>,
    /// Directions that a listener may see: inbound, outbound, internal [default: all].
    #[arg(long, value_name = "WORDS", value_delimiter = ',', value_parser = direction)]
    pub(crate) directions: Vec<CallDirection>,
    /// Sites that a listener may see at the centre [default: all].
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) site: Vec<String>,
    /// Additional rights of a listener.
    #[arg(long, value_name = "WORDS", value_delimiter = ',', value_enum, default_value = "list,play")]
    pub(crate) rights: Vec<AccountRight>,
}

/// Arguments of `callspan user add`.
#[derive(Clone, Debug, Args)]
pub(crate) struct UserAddArgs {
    /// Name, role and scope of the user.
    #[command(flatten)]
    pub(crate) scope: ScopeArgs,
    /// Ask for a code of an authenticator app at each sign-in. The secret for the app is printed once.
    #[arg(long, conflicts_with = "no_password")]
    pub(crate) totp: bool,
    /// Create the user without a password: only the trusted proxy (console.trusted_proxy) signs this user in.
    #[arg(long)]
    pub(crate) no_password: bool,
}

/// Arguments of `callspan token`.
#[derive(Clone, Debug, Args)]
#[command(after_help = TOKEN_HELP)]
pub(crate) struct TokenArgs {
    /// Folder or configuration that selects the accounts.
    #[command(flatten)]
    pub(crate) place: AccountsPlace,
    /// The subcommand to run.
    #[command(subcommand)]
    pub(crate) command: TokenCommand,
}

/// The subcommands of `callspan token`.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Add a token, and print its text once; it is not stored in readable form.
    Add(TokenAddArgs),
    /// List the tokens, without their texts.
    List,
    /// Remove a token, so that it gives no access any more.
    Remove {
        /// Name of the token to remove.
        #[arg(value_name = "NAME")]
        name: String,
    },
}

/// Arguments of `callspan token add`.
#[derive(Clone, Debug, Args)]
pub(crate) struct TokenAddArgs {
    /// Name, role and scope of the token.
    #[command(flatten)]
    pub(crate) scope: ScopeArgs,
    /// Days after which the token expires, 1 to 3660.
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3_660))]
    pub(crate) days: u32,
}

/// Arguments of `callspan audit`.
#[derive(Clone, Debug, Args)]
#[command(after_help = AUDIT_HELP)]
pub(crate) struct AuditArgs {
    /// Folder or configuration that selects the accounts.
    #[command(flatten)]
    pub(crate) place: AccountsPlace,
    /// Show only rows of this user.
    #[arg(long, value_name = "NAME")]
    pub(crate) who: Option<String>,
    /// Show only rows of this call.
    #[arg(long, value_name = "ID")]
    pub(crate) call: Option<String>,
    /// Show only rows at or after this time, local or with --utc in UTC: 2026-11-23, 2026-11-23T14:05 or RFC 3339.
    #[arg(long, value_name = "TIME", value_parser = GivenTime::parse)]
    pub(crate) from: Option<GivenTime>,
    /// Show at most this many rows: the newest.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub(crate) limit: u32,
    /// Print one JSON object per line.
    #[arg(long)]
    pub(crate) json: bool,
    /// Show times in UTC instead of local time. JSON is always UTC.
    #[arg(long)]
    pub(crate) utc: bool,
}

/// Runs `callspan user`.
///
/// # Errors
/// Fails if the accounts cannot be read or written, or if a name or password is refused.
pub(crate) fn run(args: &UserArgs) -> anyhow::Result<ExitCode> {
    let accounts = open(&args.place)?;
    match &args.command {
        UserCommand::Add(add) => {
            check_sites(&args.place, &add.scope)?;
            add_user(&accounts, add)?;
        }
        UserCommand::List => {
            for user in accounts.users()? {
                output::result(&format!("{}\n", described(&user)))?;
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

/// Runs `callspan audit`.
///
/// # Errors
/// Fails if the accounts cannot be read.
pub(crate) fn audit(args: &AuditArgs) -> anyhow::Result<ExitCode> {
    let accounts = open(&args.place)?;
    let zone = DisplayZone::of(args.utc);
    let since = args.from.map(|time| time.in_zone(&zone));
    let filter = AuditFilter { who: args.who.clone(), call_id: args.call.clone(), since, ..AuditFilter::default() };
    for row in accounts.audit(&filter, args.limit)?.into_iter().rev() {
        let text = match args.json {
            true => serde_json::to_string(&row)?,
            false => format!(
                "{}  {}  {}  {}  {}",
                zone.show(row.at),
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

fn add_user(accounts: &Accounts, add: &UserAddArgs) -> anyhow::Result<()> {
    let user = add.scope.account();
    match add.no_password {
        true => accounts.put_proxy_user(&user, wall_clock())?,
        false => accounts.put_user(&user, &read_password()?, wall_clock())?,
    }
    let secret = if add.totp { Some(TotpSecret::new()?) } else { None };
    accounts.set_totp(&user.name, secret.as_ref())?;
    output::result(&format!("{} may sign in\n", table::printable(&user.name)))?;
    if let Some(secret) = secret {
        output::result(&format!("Secret for the authenticator app, shown once:\n  {}\n", secret.to_base32()))?;
        output::result(&format!("  {}\n", secret.to_uri(&user.name)))?;
    }
    Ok(())
}

/// Runs `callspan token`.
///
/// # Errors
/// Fails if the accounts cannot be read or written, or if a name or scope is refused.
pub(crate) fn token(args: &TokenArgs) -> anyhow::Result<ExitCode> {
    let accounts = open(&args.place)?;
    match &args.command {
        TokenCommand::Add(add) => {
            check_sites(&args.place, &add.scope)?;
            let life = Duration::from_secs(u64::from(add.days) * DAY_S);
            let token = ApiToken { account: add.scope.account(), expires_at: wall_clock() + life };
            output::result(&format!("{}\n", accounts.add_token(&token, wall_clock())?))?;
            output::note("This is the token; it is not shown again. Send it as: Authorization: Bearer TOKEN");
        }
        TokenCommand::List => {
            for token in accounts.tokens()? {
                let end = token.expires_at.to_rfc3339_secs();
                let state = if token.expires_at <= wall_clock() { "over since" } else { "until" };
                output::result(&format!("{}  {state} {end}\n", described(&token.account)))?;
            }
        }
        TokenCommand::Remove { name } => {
            if !accounts.remove_token(name)? {
                bail!("there is no token {}", table::printable(name));
            }
            output::result(&format!("{} is removed\n", table::printable(name)))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl ScopeArgs {
    fn account(&self) -> UserAccount {
        let (extensions, directions) = (self.extensions.clone(), self.directions.clone());
        let scope = CallScope { extensions, directions, sites: self.site.clone() };
        UserAccount { name: self.name.clone(), role: self.role, scope, rights: self.rights.clone() }
    }
}

fn described(user: &UserAccount) -> String {
    let scope = user.visible();
    let extensions = if scope.extensions.is_empty() { String::from("all") } else { scope.extensions.join(",") };
    let sites = if scope.sites.is_empty() { String::new() } else { format!("  sites {}", scope.sites.join(",")) };
    let role = format!("{:?}", user.role).to_lowercase();
    format!("{}  {role}  extensions {}{sites}", table::printable(&user.name), table::printable(&extensions))
}

/// Fails if the arguments name sites but the console shows a single recorder. An account that is limited to sites would
/// see no calls there.
fn check_sites(place: &AccountsPlace, scope: &ScopeArgs) -> anyhow::Result<()> {
    if scope.site.is_empty() || place.state.is_some() {
        return Ok(());
    }
    let archive = super::load_config(Some(&place.config), ConfigPurpose::Inspect)?.archive;
    if archive.index.is_empty() || !archive.site.is_empty() {
        bail!("--site is for accounts of the centre: name its configuration file, e.g. -c /etc/callspan/central.toml");
    }
    Ok(())
}

fn open(place: &AccountsPlace) -> anyhow::Result<Accounts> {
    let folder = match &place.state {
        Some(folder) => folder.clone(),
        None => super::load_config(Some(&place.config), ConfigPurpose::Inspect)?.journal.dir,
    };
    Ok(Accounts::open(&folder)?)
}

/// Reads a password as one line of standard input. At a terminal, the typed characters are not shown.
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

const USER_HELP: &str = "\
Examples:
  callspan user add anna --role admin
  callspan user add boris --role listener --extensions 1xx --rights list,play,download
  callspan user add clara --role auditor < password.txt
  callspan user add dora --role admin --totp
  callspan user add egor --role listener --site north,south -c /etc/callspan/central.toml

Until the first user exists, everybody on this machine may open the console, and nobody else.";

const TOKEN_HELP: &str = "\
Examples:
  callspan token add crm --role listener --extensions 1xx --rights list,play --days 90
  curl -H 'Authorization: Bearer callspan_...' http://127.0.0.1:8080/api/v1/calls";

/// Number of seconds in a day.
const DAY_S: u64 = 86_400;

const AUDIT_HELP: &str = "\
Examples:
  callspan audit --from 2026-11-23
  callspan audit --call 20261123T070854Z-5f1c0a9b2d3e --json";
