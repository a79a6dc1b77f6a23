//! `callspan archive`: sends calls of this site to the central archive, and fetches calls from it.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use sha2::{Digest as _, Sha256};

use super::terminal::clock_face::{DisplayZone, GivenTime};
use super::{EXIT_FAILED, central};
use crate::central::index::IndexedCall;
use crate::central::{ArchiveIndex, ObjectArchive};
use crate::console::audit_reader;
use crate::journal::{ArchiveExtent, Journal};
use crate::ops::config::{Config, ConfigPurpose};
use crate::ops::output;
use crate::service::archive::{Archiver, is_encrypted_at_rest};
use crate::service::lock;
use crate::service::site_copies::SiteCopies;
use crate::text::count;
use crate::time::Timestamp;

/// Arguments of `callspan archive`.
#[derive(Clone, Debug, Args)]
#[command(after_help = ARCHIVE_HELP)]
pub(crate) struct ArchiveArgs {
    /// Configuration file with a section `archive`.
    #[arg(short, long, value_name = "FILE", default_value = "/etc/callspan/callspan.toml", global = true)]
    pub(crate) config: PathBuf,
    /// The subcommand to run.
    #[command(subcommand)]
    pub(crate) command: ArchiveCommand,
}

/// The subcommands of `callspan archive`.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ArchiveCommand {
    /// Send calls that were recorded before there was an archive, and calls that the archive refused.
    Push(ArchivePushArgs),
    /// Fetch recordings and records of a site from the archive. Needs the access of the centre.
    Restore(ArchiveRestoreArgs),
}

/// Arguments of `callspan archive push`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ArchivePushArgs {
    /// Start of the period, e.g. 2026-01-01. Calls that began earlier are not sent.
    #[arg(long, value_name = "TIME", value_parser = GivenTime::parse)]
    pub(crate) since: GivenTime,
    /// End of the period. Default: now.
    #[arg(long, value_name = "TIME", value_parser = GivenTime::parse)]
    pub(crate) until: Option<GivenTime>,
    /// Also send the index rows of calls that are already archived, e.g. after the index lost rows.
    #[arg(long)]
    pub(crate) again: bool,
    /// With --again: also send the recordings, because the object store has lost some. A recording that it still has is
    /// compared.
    #[arg(long, requires = "again")]
    pub(crate) recordings: bool,
}

/// Arguments of `callspan archive restore`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ArchiveRestoreArgs {
    /// Name of the site; default: archive.site.
    #[arg(long, value_name = "NAME")]
    pub(crate) site: Option<String>,
    /// Folder for the files; created if missing. An existing file is kept if its contents are the same.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Ids of the calls; default: every call of the site.
    #[arg(value_name = "ID")]
    pub(crate) ids: Vec<String>,
}

/// Runs `callspan archive`.
///
/// # Errors
/// Fails if no archive is configured, or the archive or the journal cannot be used.
pub(crate) fn run(args: &ArchiveArgs) -> anyhow::Result<ExitCode> {
    let config = super::load_config(Some(&args.config), ConfigPurpose::Inspect)?;
    if config.archive.objects.is_empty() || config.archive.index.is_empty() {
        bail!(
            "{} has no archive: set archive.objects and archive.index (callspan check-config --example explains them)",
            args.config.display()
        );
    }
    match &args.command {
        ArchiveCommand::Push(push_args) => push(&config, push_args),
        ArchiveCommand::Restore(restore_args) => central::block_on(restore(&config, restore_args)),
    }
}

fn push(config: &Config, args: &ArchivePushArgs) -> anyhow::Result<ExitCode> {
    if config.archive.site.is_empty() {
        bail!("archive.site is not set: the archive must know whose calls these are");
    }
    let journal = Journal::open_for_requests(&config.journal)?;
    let zone = DisplayZone::of(false);
    let until = args.until.map_or(Timestamp::MAX, |until| until.in_zone(&zone));
    let since = args.since.in_zone(&zone);
    let calls = match (args.again, args.recordings) {
        (false, _) => ArchiveExtent::Missing,
        (true, false) => ArchiveExtent::All,
        (true, true) => ArchiveExtent::AllWithRecordings,
    };
    let added = journal.owe_archive(since, until, calls)?;
    let backlog = journal.archive_backlog()?;
    output::result(&format!("{} entered, {} to send\n", count(added, "call"), count(backlog.owed, "call")))?;
    if lock::is_held(&config.journal.dir) {
        output::result("the service sends them\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    let sent = central::block_on(send_all(config, journal.clone()))?;
    let left = journal.archive_backlog()?;
    output::result(&format!("{} sent, {} still to send, {} refused\n", count(sent, "call"), left.owed, left.refused))?;
    Ok(if left.owed + left.refused == 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) })
}

/// Sends calls until no call is due any more, or until the archive fails. Returns the number of calls that were sent.
async fn send_all(config: &Config, journal: Journal) -> anyhow::Result<u64> {
    let before = journal.archive_backlog()?.owed;
    let mut archiver = Archiver::open(&config.archive, journal.clone(), is_encrypted_at_rest(config))?;
    loop {
        let round = archiver.send_due(&|| false).await?;
        if let Some(reason) = round.failure {
            output::note(&format!("callspan: {reason}"));
            return Ok(before.saturating_sub(journal.archive_backlog()?.owed));
        }
        if round.calls == 0 {
            break;
        }
    }
    let state = &config.journal.dir;
    if let Err(error) = archiver.send_copies(&mut SiteCopies::of(state, audit_reader(state))).await {
        output::note(&format!("callspan: audit and topology are not copied: {error}"));
    }
    Ok(before.saturating_sub(journal.archive_backlog()?.owed))
}

async fn restore(config: &Config, args: &ArchiveRestoreArgs) -> anyhow::Result<ExitCode> {
    let site = args.site.as_deref().unwrap_or(&config.archive.site);
    let (objects, mut index) = (ObjectArchive::open(&config.archive)?, ArchiveIndex::open(&config.archive)?);
    let (mut calls, mut failed) = (0_u64, 0_u64);
    let mut after = String::new();
    let mut asked = args.ids.iter();
    loop {
        let page = if args.ids.is_empty() {
            index.calls_of(site, &after, central::PAGE).await?
        } else {
            let Some(id) = asked.next() else { break };
            let found = index.call_of(site, id).await?;
            if found.is_none() {
                (calls, failed) = (calls + 1, failed + 1);
                output::note(&format!("callspan: call {id}: the archive has no such call of site {site}"));
                continue;
            }
            Vec::from_iter(found)
        };
        let Some(last) = page.last() else { break };
        after.clone_from(&last.id);
        for call in &page {
            calls += 1;
            if let Err(error) = restore_call(&objects, &mut index, site, call, &args.out).await {
                failed += 1;
                output::note(&format!("callspan: call {}: {error:#}", call.id));
            }
        }
    }
    output::result(&format!("{} of {} restored into {}\n", calls - failed, count(calls, "call"), args.out.display()))?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) })
}

async fn restore_call(
    objects: &ObjectArchive,
    index: &mut ArchiveIndex,
    site: &str,
    call: &IndexedCall,
    out: &Path,
) -> anyhow::Result<()> {
    if call.id.contains(['/', '\\']) || call.id.starts_with('.') {
        bail!("the id of the call cannot be a file name");
    }
    DirBuilder::new().recursive(true).mode(0o700).create(out)?;
    for recording in &call.recordings {
        let extension =
            recording.key.rsplit('/').next().and_then(|name| name.split_once('.')).map_or("bin", |(_, e)| e);
        let part = if call.recordings.len() > 1 { format!(".part{}", recording.part) } else { String::new() };
        let path = out.join(format!("{}{part}.{extension}", call.id));
        if crate::recording::digest(&path).is_ok_and(|(_, sha256)| sha256 == recording.sha256) {
            continue;
        }
        let unfinished = path.with_extension("part");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        let mut sum = Sha256::new();
        objects
            .read(&recording.key, |piece| {
                sum.update(piece);
                file.write_all(piece)
            })
            .await?;
        file.sync_all()?;
        let found = crate::text::hex(&sum.finalize());
        if found != recording.sha256 {
            bail!("the object {} is not what the index says", recording.key);
        }
        std::fs::rename(&unfinished, &path)?;
    }
    let record = index.record_of(site, &call.id).await?.context("the index has lost its row")?;
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(out.join(format!("{}.json", call.id)))?;
    file.write_all(record.as_bytes())?;
    Ok(file.sync_all()?)
}

const ARCHIVE_HELP: &str = "\
`callspan run` sends every finished call by itself. `push` is for calls that were recorded before.

Examples:
  callspan archive push --since 2026-01-01
  callspan archive push --since 2026-01-01 --again
  callspan archive push --since 2026-01-01 --again --recordings
  callspan archive restore -c /etc/callspan/central.toml --site north --out restored";
