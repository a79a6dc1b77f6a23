//! `callspan calls`: shows and changes the journal, also while the service runs.
//!
//! Requests to the service (retry, render, hold) are written into the journal. The service reads them within seconds.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};

use super::table;
use crate::call::record::{CallVerdict, DeliveryState};
use crate::journal::{CallFilter, Journal, StoredCall};
use crate::ops::config::{Config, ConfigPurpose};
use crate::ops::output;
use crate::time::Timestamp;

mod ask;
mod show;
mod verify;

/// Arguments of `calls`.
#[derive(Clone, Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct CallsArgs {
    /// Configuration file with the folders of journal, spool and recordings.
    #[arg(short, long, value_name = "FILE", default_value = "/etc/callspan/callspan.toml", global = true)]
    pub(crate) config: PathBuf,
    /// Folder of the journal, instead of a configuration file. The output folder of `replay --deliver` works too.
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) state: Option<PathBuf>,
    /// Print one JSON object per line instead of text.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// The command to run.
    #[command(subcommand)]
    pub(crate) command: CallsCommand,
}

/// The commands of `calls`.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum CallsCommand {
    /// List calls, then what a person must do.
    List(ListFilters),
    /// Show everything known about a call.
    Show(CallIdArg),
    /// Deliver parked or dead calls again, at once.
    Retry(RetryArgs),
    /// Render calls again from their packets, if the packets are still kept.
    Render(CallIdArgs),
    /// Check that every recording exists and is unchanged.
    Verify(VerifyArgs),
    /// Exclude a call from retention until it is released.
    Hold(HoldArgs),
    /// Release held calls: retention applies again.
    Release(CallIdArgs),
}

/// Conditions of `calls list`; all given conditions must match.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ListFilters {
    /// Calls that began at or after this time (UTC): 2026-11-23, 2026-11-23T14:05 or RFC 3339.
    #[arg(long, value_name = "TIME", visible_alias = "since", value_parser = moment)]
    pub(crate) from: Option<Timestamp>,
    /// Calls that began before this time.
    #[arg(long, value_name = "TIME", visible_alias = "until", value_parser = moment)]
    pub(crate) to: Option<Timestamp>,
    /// Calls with this number or these digits on either side, written in any way: "8 (495) 123-45-67", 123-45-67.
    #[arg(long, value_name = "DIGITS")]
    pub(crate) number: Option<String>,
    /// Calls of this extension.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) extension: Option<String>,
    /// Calls with this verdict: both_sides, caller_only, callee_only, excluded, not_answered, encrypted, unknown_codec, no_media, failed.
    #[arg(long, value_name = "WORD", value_parser = word::<CallVerdict>)]
    pub(crate) verdict: Option<CallVerdict>,
    /// Calls in this delivery state: none, owed, done, parked, dead.
    #[arg(long, value_name = "WORD", value_parser = word::<DeliveryState>)]
    pub(crate) delivery: Option<DeliveryState>,
    /// Only the newest N calls.
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u32>,
}

/// The id of a call.
#[derive(Clone, Debug, Args)]
pub(crate) struct CallIdArg {
    /// Id of the call, as `calls list` shows it.
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

/// The ids of calls.
#[derive(Clone, Debug, Args)]
pub(crate) struct CallIdArgs {
    /// Ids of the calls, as `calls list` shows them.
    #[arg(value_name = "ID", required = true)]
    pub(crate) ids: Vec<String>,
}

/// Arguments of `calls retry`.
#[derive(Clone, Debug, Args)]
pub(crate) struct RetryArgs {
    /// Ids of the calls, as `calls list` shows them.
    #[arg(value_name = "ID", required_unless_present = "all")]
    pub(crate) ids: Vec<String>,
    /// All calls that are parked or dead.
    #[arg(long, conflicts_with = "ids")]
    pub(crate) all: bool,
}

/// Arguments of `calls verify`.
#[derive(Clone, Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Ids of the calls to check [default: all calls].
    #[arg(value_name = "ID")]
    pub(crate) ids: Vec<String>,
    /// File with secret keys of age, to check the audio of encrypted recordings too. No decrypted data is written.
    #[arg(long, value_name = "FILE")]
    pub(crate) identity: Option<PathBuf>,
    /// With --json, print a waveform for each intact file: the lowest and highest sample of N equal pieces, left and right.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MAX_PEAKS))]
    pub(crate) peaks: Option<u32>,
}

/// Arguments of `calls hold`.
#[derive(Clone, Debug, Args)]
pub(crate) struct HoldArgs {
    /// Id of the call, as `calls list` shows it.
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// Reason of the hold, shown by `calls show`.
    #[arg(long, value_name = "TEXT")]
    pub(crate) why: Option<String>,
}

/// The folders of journal, spool and recordings.
struct JournalLocation {
    config: Config,
    /// True for the output folder of a `replay`: all files in one folder, no service.
    of_replay: bool,
}

/// Runs the command.
///
/// # Errors
/// When there is no journal, a call is unknown, or a request cannot be fulfilled.
pub(crate) fn run(args: &CallsArgs) -> anyhow::Result<ExitCode> {
    let place = JournalLocation::find(args)?;
    match &args.command {
        CallsCommand::List(filters) => list(&place, filters, args.json),
        CallsCommand::Show(call) => show::show(&place, &call.id, args.json),
        CallsCommand::Retry(retry) => ask::retry(&place, retry),
        CallsCommand::Render(calls) => ask::render(&place, &calls.ids),
        CallsCommand::Verify(verify) => verify::run(&place, verify, args.json),
        CallsCommand::Hold(hold) => ask::hold(&place, hold),
        CallsCommand::Release(calls) => ask::release(&place, &calls.ids),
    }
}

impl JournalLocation {
    fn find(args: &CallsArgs) -> anyhow::Result<Self> {
        let Some(state) = &args.state else {
            let config = super::load_config(Some(&args.config), ConfigPurpose::Inspect)?;
            return Ok(Self { config, of_replay: false });
        };
        let mut config = Config::default();
        let inside = state.join(super::replay::JOURNAL_FOLDER);
        let dir = if inside.is_dir() { inside } else { state.clone() };
        let of_replay = dir.file_name().is_some_and(|name| name == super::replay::JOURNAL_FOLDER);
        if of_replay && let Some(parent) = dir.parent() {
            config.recording.dir = parent.to_owned();
            config.spool.dir = parent.join(super::replay::SPOOL_FOLDER);
        }
        config.journal.dir = dir;
        Ok(Self { config, of_replay })
    }

    fn open_read_only(&self) -> anyhow::Result<Journal> {
        Ok(Journal::open_read_only(&self.config.journal)?)
    }

    fn open_for_requests(&self) -> anyhow::Result<Journal> {
        Ok(Journal::open_for_requests(&self.config.journal)?)
    }
}

/// Returns a call, or an error that explains where to find the ids.
fn known(journal: &Journal, id: &str) -> anyhow::Result<StoredCall> {
    let call = journal.call(id).context("the journal cannot be read")?;
    match call {
        Some(call) => Ok(call),
        None => bail!("there is no call {id} in the journal; `callspan calls list` shows the ids"),
    }
}

fn list(place: &JournalLocation, filters: &ListFilters, json: bool) -> anyhow::Result<ExitCode> {
    let journal = place.open_read_only()?;
    let filter = CallFilter {
        since: filters.from,
        until: filters.to,
        number: filters.number.clone(),
        extension: filters.extension.clone(),
        verdict: filters.verdict,
        delivery: filters.delivery,
        limit: filters.limit,
    };
    if json {
        for calls in journal.call_pages(&filter, journal.cursor_before_newest(&filter)?)? {
            let mut text = String::new();
            for call in calls? {
                text.push_str(&output::escaped_json(&serde_json::to_string(&call.record)?));
                text.push('\n');
            }
            output::result(&text)?;
        }
    } else {
        show::list(&journal, &filter, table::terminal_width())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Parses an enum value by its name in the call record.
fn word<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    let wanted = text.replace(['-', ' '], "_");
    serde_json::from_value(serde_json::Value::String(wanted))
        .map_err(|_| String::from("unknown word; `callspan calls list --help` lists the words"))
}

/// Parses a time in UTC: a day, a day with a time, or RFC 3339.
fn moment(text: &str) -> Result<Timestamp, String> {
    let padded = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        16 => format!("{}:00Z", text.replace(' ', "T")),
        19 => format!("{}Z", text.replace(' ', "T")),
        _ => text.to_owned(),
    };
    Timestamp::parse_rfc3339(&padded)
        .map_err(|_| String::from("write 2026-11-23, 2026-11-23T14:05 (UTC) or RFC 3339 with a zone"))
}

/// Returns a path for messages, without control characters.
fn shown(path: &Path) -> String {
    table::printable(&path.display().to_string())
}

/// Most pieces of a waveform: more than a screen has points, and at most a few MiB of text.
const MAX_PEAKS: i64 = 100_000;

const HELP: &str = "\
Examples:
  callspan calls list --from 2026-11-23 --delivery parked
  callspan calls list --number 4953009080 --json | jq .verdict_reason
  callspan calls show 20261123T070854Z-5f1c0a9b2d3e
  callspan calls retry --all
  callspan calls verify
  callspan calls verify 20261123T070854Z-5f1c0a9b2d3e --json --peaks 600 | jq 'select(.peaks).peaks.left'
  callspan calls list --state callspan-out      calls of `replay --deliver`";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_a_day_a_minute_or_rfc_3339() {
        let day = Timestamp::parse_rfc3339("2026-11-23T00:00:00Z").ok();
        assert_eq!(moment("2026-11-23").ok(), day);
        assert_eq!(moment("2026-11-23 00:00").ok(), day);
        assert_eq!(moment("2026-11-23T03:00:00+03:00").ok(), day);
        assert!(moment("yesterday").is_err());
    }

    #[test]
    fn words_are_the_names_in_the_record() {
        assert_eq!(word::<CallVerdict>("both-sides"), Ok(CallVerdict::BothSides));
        assert_eq!(word::<DeliveryState>("parked"), Ok(DeliveryState::Parked));
        assert!(word::<CallVerdict>("lost").is_err());
    }
}
