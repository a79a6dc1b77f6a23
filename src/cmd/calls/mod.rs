//! `callspan calls`: shows the calls in the journal (the SQLite database of the service) and requests changes of them,
//! even while the service runs.
//!
//! Requests to the service (retry, render, hold) are written into the journal. The service reads them within seconds.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};

use super::table;
use super::terminal::TextStyle;
use super::terminal::clock_face::GivenTime;
use crate::call::record::{CallOutcome, CallRecord, CallVerdict, DeliveryState};
use crate::journal::{self, CallFilter, Journal, JournalResult, StoredCall};
use crate::ops::config::{Config, ConfigPurpose};
use crate::ops::output;

mod ask;
mod csv;
mod play;
mod show;
mod verify;

/// Arguments of `callspan calls`.
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
    /// Show times in UTC, and take times in filters as UTC, instead of local time. JSON is always UTC.
    #[arg(long, global = true)]
    pub(crate) utc: bool,
    /// The subcommand to run.
    #[command(subcommand)]
    pub(crate) command: CallsCommand,
}

/// The subcommands of `callspan calls`.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum CallsCommand {
    /// List calls, then what a person must do.
    List(ListFilters),
    /// Show everything known about a call.
    Show(CallIdArg),
    /// Play the recording of a call; without a sound card, print its path.
    Play(PlayArgs),
    /// Deliver calls again, at once, that are parked (wait for a person) or dead (given up).
    Retry(RetryArgs),
    /// Render calls again from their packets, if the packets are still kept.
    Render(CallIdArgs),
    /// Check that every recording exists and is unchanged.
    Verify(VerifyArgs),
    /// Keep the files of a call until it is released, however old they are.
    Hold(HoldArgs),
    /// Release calls that were kept by calls hold, so that old files may be removed again.
    Release(CallIdArgs),
}

/// Filters of `calls list`. A call must meet all filters that are given.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ListFilters {
    /// Calls that began at or after this time, local or with --utc in UTC: 2026-11-23, 2026-11-23T14:05 or RFC 3339.
    #[arg(long, value_name = "TIME", visible_alias = "since", value_parser = GivenTime::parse)]
    pub(crate) from: Option<GivenTime>,
    /// Calls that began before this time, in the same forms as for --from.
    #[arg(long, value_name = "TIME", visible_alias = "until", value_parser = GivenTime::parse)]
    pub(crate) to: Option<GivenTime>,
    /// Calls with this number or these digits on either side, written in any way: "8 (495) 123-45-67", 123-45-67.
    #[arg(long, value_name = "DIGITS")]
    pub(crate) number: Option<String>,
    /// Calls in which this extension took part.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) extension: Option<String>,
    /// Calls with one of these verdicts: both_sides, caller_only, callee_only, excluded, not_answered, encrypted,
    /// unknown_codec, no_media, failed.
    #[arg(long, value_name = "WORD,…", value_delimiter = ',', value_parser = word::<CallVerdict>)]
    pub(crate) verdict: Vec<CallVerdict>,
    /// Calls with one of these outcomes: answered, abandoned, cancelled, busy, declined, no_answer, redirected, failed,
    /// unknown.
    #[arg(long, value_name = "WORD,…", value_delimiter = ',', value_parser = word::<CallOutcome>)]
    pub(crate) outcome: Vec<CallOutcome>,
    /// Answered calls of at least this length: seconds, or M:SS, or H:MM:SS.
    #[arg(long, value_name = "LENGTH", value_parser = length)]
    pub(crate) min_length: Option<u32>,
    /// Answered calls of at most this length: seconds, or M:SS, or H:MM:SS.
    #[arg(long, value_name = "LENGTH", value_parser = length)]
    pub(crate) max_length: Option<u32>,
    /// Calls in this delivery state: none, owed, done, parked, dead.
    #[arg(long, value_name = "WORD", value_parser = word::<DeliveryState>)]
    pub(crate) delivery: Option<DeliveryState>,
    /// Only the newest N calls.
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u32>,
    /// Print comma-separated values for a spreadsheet instead of a table.
    #[arg(long, conflicts_with = "json")]
    pub(crate) csv: bool,
}

/// Argument of subcommands that take one call.
#[derive(Clone, Debug, Args)]
pub(crate) struct CallIdArg {
    /// Id of the call, as `calls list` shows it.
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

/// Arguments of `callspan calls play`.
#[derive(Clone, Debug, Args)]
pub(crate) struct PlayArgs {
    /// Id of the call, as `calls list` shows it.
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// Number of the part to play, for a long recording.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) part: u32,
}

/// Argument of subcommands that take several calls.
#[derive(Clone, Debug, Args)]
pub(crate) struct CallIdArgs {
    /// Ids of the calls, as `calls list` shows them.
    #[arg(value_name = "ID", required = true)]
    pub(crate) ids: Vec<String>,
}

/// Arguments of `callspan calls retry`.
#[derive(Clone, Debug, Args)]
pub(crate) struct RetryArgs {
    /// Ids of the calls, as `calls list` shows them.
    #[arg(value_name = "ID", required_unless_present = "all")]
    pub(crate) ids: Vec<String>,
    /// Retry all calls with a parked or dead delivery.
    #[arg(long, conflicts_with = "ids")]
    pub(crate) all: bool,
}

/// Arguments of `callspan calls verify`.
#[derive(Clone, Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Ids of the calls to check [default: all calls].
    #[arg(value_name = "ID")]
    pub(crate) ids: Vec<String>,
    /// File with secret keys of age, to check the audio of encrypted recordings too. No decrypted data is written.
    #[arg(long, value_name = "FILE")]
    pub(crate) identity: Option<PathBuf>,
    /// With --json, print a waveform for each intact file: the lowest and highest sample of N equal pieces, left and
    /// right.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MAX_PEAKS))]
    pub(crate) peaks: Option<u32>,
}

/// Arguments of `callspan calls hold`.
#[derive(Clone, Debug, Args)]
pub(crate) struct HoldArgs {
    /// Id of the call, as `calls list` shows it.
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// Reason of the hold, shown by `calls show`.
    #[arg(long, value_name = "TEXT")]
    pub(crate) why: Option<String>,
}

/// The folders of journal, spool and recordings, of a service or of a replay.
struct JournalLocation {
    config: Config,
    /// Whether these are the folders of a `replay`. If true, all files are in one folder, and no service uses it.
    of_replay: bool,
    /// Folder that `--state` names; `None` without the option.
    given_state: Option<PathBuf>,
}

/// Runs `callspan calls`.
///
/// # Errors
/// Fails if there is no journal, if a call is unknown, or if a request cannot be written or executed.
pub(crate) fn run(args: &CallsArgs) -> anyhow::Result<ExitCode> {
    let place = JournalLocation::find(args)?;
    let style = TextStyle::of_stdout(args.utc);
    match &args.command {
        CallsCommand::List(filters) => list(&place, filters, args.json, &style),
        CallsCommand::Show(call) if args.json => show::show_json(&place, &call.id),
        CallsCommand::Show(call) => show::show(&place, &call.id, &style),
        CallsCommand::Play(wanted) => play::play(&place, wanted),
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
            return Ok(Self { config, of_replay: false, given_state: None });
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
        Ok(Self { config, of_replay, given_state: Some(state.clone()) })
    }

    fn open_read_only(&self) -> anyhow::Result<Journal> {
        self.opened(Journal::open_read_only(&self.config.journal))
    }

    fn open_for_requests(&self) -> anyhow::Result<Journal> {
        self.opened(Journal::open_for_requests(&self.config.journal))
    }

    /// Returns the opened journal, or the error of opening it. If the given folder has no journal, the error says what
    /// the folder contains instead.
    fn opened(&self, journal: JournalResult<Journal>) -> anyhow::Result<Journal> {
        if let (Err(journal::Error::Missing { .. }), Some(state)) = (&journal, &self.given_state) {
            let folder = state.display();
            if !state.is_dir() {
                bail!("there is no folder {folder}");
            }
            if has_records(state) {
                bail!(
                    "{folder} has recordings of a `callspan replay` without --deliver, and such a replay keeps no journal. \
                     Everything known about a call is in the .json file beside its recording; a replay with --deliver makes \
                     a journal, too"
                );
            }
            bail!(
                "there is no journal in {folder}: --state needs the folder [state] dir of a service, or the output folder of \
                 a `callspan replay --deliver`"
            );
        }
        Ok(journal?)
    }
}

/// Returns whether a folder has call records, as a replay writes them beside the recordings.
fn has_records(folder: &Path) -> bool {
    let paths = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files = paths.filter(|path| path.extension().is_some_and(|kind| kind == "json")).take(MAX_LOOKED_AT);
    files.any(|path| std::fs::read(path).is_ok_and(|text| serde_json::from_slice::<CallRecord>(&text).is_ok()))
}

/// Returns a call by its id. The error for an unknown id says where to find the ids.
fn known(journal: &Journal, id: &str) -> anyhow::Result<StoredCall> {
    let call = journal.call(id).context("the journal cannot be read")?;
    match call {
        Some(call) => Ok(call),
        None => bail!("there is no call {id} in the journal; `callspan calls list` shows the ids"),
    }
}

fn list(place: &JournalLocation, filters: &ListFilters, json: bool, style: &TextStyle) -> anyhow::Result<ExitCode> {
    let journal = place.open_read_only()?;
    let filter = CallFilter {
        since: filters.from.map(|time| time.in_zone(&style.zone)),
        until: filters.to.map(|time| time.in_zone(&style.zone)),
        number: filters.number.clone(),
        extension: filters.extension.clone(),
        verdicts: filters.verdict.clone(),
        outcomes: filters.outcome.clone(),
        min_s: filters.min_length,
        max_s: filters.max_length,
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
    } else if filters.csv {
        csv::list(&journal, &filter, &style.zone)?;
    } else {
        show::list(&journal, &filter, style)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Parses a verdict, outcome or delivery state by its name in the call record, e.g. `both_sides`.
fn word<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    let wanted = text.replace(['-', ' '], "_");
    serde_json::from_value(serde_json::Value::String(wanted))
        .map_err(|_| String::from("unknown word; `callspan calls list --help` lists the words"))
}

/// Parses the length of a call: seconds, `M:SS` or `H:MM:SS`. Returns seconds.
fn length(text: &str) -> Result<u32, String> {
    let wrong = || String::from("write seconds, or M:SS, or H:MM:SS");
    let parts: Vec<u32> = text.split(':').map(str::parse).collect::<Result<_, _>>().map_err(|_| wrong())?;
    if parts.len() > 3 || parts.iter().skip(1).any(|part| *part >= 60) {
        return Err(wrong());
    }
    let seconds = parts.iter().try_fold(0_u32, |sum, part| sum.checked_mul(60)?.checked_add(*part));
    seconds.ok_or_else(wrong)
}

/// Returns a path as text for messages, with control characters replaced.
fn shown(path: &Path) -> String {
    table::printable(&path.display().to_string())
}

/// Maximum number of pieces of a waveform. It is more than a screen has pixels, and the JSON has at most a few MiB.
const MAX_PEAKS: i64 = 100_000;

/// Maximum number of files that are read to find a call record.
const MAX_LOOKED_AT: usize = 20;

const HELP: &str = "\
Examples:
  callspan calls list --from 2026-11-23 --delivery parked
  callspan calls list --number 4953009080 --json | jq .verdict_reason
  callspan calls list --verdict caller_only,no_media --min-length 0:30
  callspan calls list --from 2026-11-01 --csv > november.csv
  callspan calls show 20261123T070854Z-5f1c0a9b2d3e
  callspan calls play 20261123T070854Z-5f1c0a9b2d3e
  callspan calls retry --all
  callspan calls verify
  callspan calls verify 20261123T070854Z-5f1c0a9b2d3e --json --peaks 600 | jq 'select(.peaks).peaks.left'
  callspan calls list --state callspan-out      calls of `replay --deliver`";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_is_seconds_or_as_the_tables_show_it() {
        for (text, seconds) in [("0", 0), ("90", 90), ("1:30", 90), ("1:02:03", 3_723)] {
            assert_eq!(length(text), Ok(seconds), "{text}");
        }
        for wrong in ["", "a", "1:60", "1:2:3:4", "-1", "99999999:00:00"] {
            assert!(length(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn words_are_the_names_in_the_record() {
        assert_eq!(word::<CallVerdict>("both-sides"), Ok(CallVerdict::BothSides));
        assert_eq!(word::<DeliveryState>("parked"), Ok(DeliveryState::Parked));
        assert!(word::<CallVerdict>("lost").is_err());
    }
}
