//! `callspan central`: sets up and checks the index (the PostgreSQL database) of a central archive.

mod copies;

use std::io::{BufRead as _, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};

use super::EXIT_FAILED;
use crate::archive::{ArchiveJob, ArchiveStage};
use crate::central::index::IndexedCall;
use crate::central::{ArchiveIndex, ObjectArchive};
use crate::journal::{Journal, config::Config as JournalConfig};
use crate::ops::config::{Config, ConfigPurpose};
use crate::ops::output;
use crate::text::count;

/// Arguments of `callspan central`.
#[derive(Clone, Debug, Args)]
#[command(after_help = CENTRAL_HELP)]
pub(crate) struct CentralArgs {
    /// Configuration file with a section `archive`.
    #[arg(short, long, value_name = "FILE", default_value = "/etc/callspan/central.toml", global = true)]
    pub(crate) config: PathBuf,
    /// The subcommand to run.
    #[command(subcommand)]
    pub(crate) command: CentralCommand,
}

/// The subcommands of `callspan central`.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum CentralCommand {
    /// Create the schema of the index, or bring it to the version of this callspan.
    Migrate,
    /// Add a site and its PostgreSQL role. The role's password is read from standard input.
    AddSite {
        /// Name of the site: lower-case letters, digits and hyphens.
        #[arg(value_name = "NAME", value_parser = site_name)]
        name: String,
    },
    /// Compare the index with the journals, audits and topologies of sites, and every object with its row.
    Verify(CentralVerifyArgs),
}

/// Arguments of `callspan central verify`.
#[derive(Clone, Debug, Args)]
pub(crate) struct CentralVerifyArgs {
    /// Name of a site and the folder of its journal, or of a copy of it. Repeat it for each site.
    #[arg(long, value_name = "NAME=DIR", required = true, value_parser = site_journal)]
    pub(crate) site: Vec<(String, PathBuf)>,
    /// Also read every object and compare its checksum.
    #[arg(long)]
    pub(crate) objects: bool,
}

/// Runs `callspan central`.
///
/// # Errors
/// Fails if no index (database of the archive) is configured, or if the database does not respond.
pub(crate) fn run(args: &CentralArgs) -> anyhow::Result<ExitCode> {
    let config = super::load_config(Some(&args.config), ConfigPurpose::Inspect)?;
    if config.archive.index.is_empty() {
        bail!("{} has no archive.index (callspan check-config --example explains it)", args.config.display());
    }
    match &args.command {
        CentralCommand::Migrate => block_on(migrate(&config)),
        CentralCommand::AddSite { name } => block_on(add_site(&config, name)),
        CentralCommand::Verify(verify_args) => block_on(verify(&config, verify_args)),
    }
}

/// Runs asynchronous work to its end, for a command that uses the archive.
///
/// # Errors
/// Fails if the asynchronous runtime cannot be started, or the work fails.
pub(super) fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

async fn migrate(config: &Config) -> anyhow::Result<ExitCode> {
    let mut index = ArchiveIndex::open(&config.archive)?;
    let (before, after) = index.migrate().await?;
    index.set_correlation_headers(&config.call.correlation_headers).await?;
    output::result(&if before == after {
        format!("the schema has version {after} already\n")
    } else {
        format!("the schema was brought from version {before} to {after}\n")
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn add_site(config: &Config, name: &str) -> anyhow::Result<ExitCode> {
    if std::io::stdin().is_terminal() {
        output::note("Password of the site's role:");
    }
    let mut password = String::new();
    std::io::stdin().lock().read_line(&mut password).context("the password cannot be read")?;
    let password = password.trim_end_matches(['\r', '\n']);
    if password.chars().count() < LEAST_PASSWORD {
        bail!("the password must have at least {LEAST_PASSWORD} characters: openssl rand -hex 24 makes one");
    }
    let role = ArchiveIndex::open(&config.archive)?.add_site(name, password).await?;
    output::result(&format!(
        "site {name} writes with the role {role}. Its callspan.toml needs:\n\n[archive]\nsite = \"{name}\"\n\
         index = \"postgresql://{role}@HOST/DATABASE\"\nindex_password_file = \"/etc/callspan/index.password\"\n"
    ))?;
    Ok(ExitCode::SUCCESS)
}

async fn verify(config: &Config, args: &CentralVerifyArgs) -> anyhow::Result<ExitCode> {
    let mut index = ArchiveIndex::open(&config.archive)?;
    let objects = if args.objects { Some(ObjectArchive::open(&config.archive)?) } else { None };
    let mut differences = 0_u64;
    for (site, folder) in &args.site {
        let journal = Journal::open_read_only(&JournalConfig { dir: folder.clone() })?;
        let backlog = journal.archive_backlog()?;
        let compared = compare_site(&mut index, &journal, site).await?;
        differences += compared.differences + backlog.refused;
        differences += copies::compare(&mut index, folder, site).await?;
        if let Some(objects) = &objects {
            differences += compare_objects(objects, &mut index, site).await?;
        }
        output::result(&format!(
            "{site}: {} compared, {}; {} still to send, {} refused\n",
            count(compared.calls, "call"),
            count(compared.differences, "difference"),
            count(backlog.owed, "call"),
            backlog.refused
        ))?;
    }
    Ok(if differences == 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) })
}

/// Counts from the comparison of a site's journal with the rows of the archive's database (the index).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct SiteComparison {
    calls: u64,
    differences: u64,
}

/// Compares the calls that are archived according to the journal with the rows of the archive's database (the index),
/// and prints each difference. Journal and index are both read in the order of the call ids, so only a limited number
/// of rows of each is in memory.
async fn compare_site(index: &mut ArchiveIndex, journal: &Journal, site: &str) -> anyhow::Result<SiteComparison> {
    let mut compared = SiteComparison::default();
    let mut rows = IndexRows::of(site);
    let mut after = String::new();
    let mut row = rows.next(index).await?;
    loop {
        let page = journal.archived_calls(&after, PAGE)?;
        let Some(last) = page.last() else { break };
        after.clone_from(&last.call_id);
        for job in &page {
            while let Some(extra) = row.take_if(|row| row.id < job.call_id) {
                compared.differences += report_extra(journal, site, &extra)?;
                row = rows.next(index).await?;
            }
            compared.calls += 1;
            let same = row.take_if(|row| row.id == job.call_id);
            if same.is_some() {
                row = rows.next(index).await?;
            } else if index.record_of(site, &job.call_id).await?.is_some() {
                continue; // the row was written after its page was read
            }
            if let Some(difference) = difference(job, same.as_ref()) {
                compared.differences += 1;
                output::result(&format!("{site}: call {}: {difference}\n", job.call_id))?;
            }
        }
    }
    while let Some(extra) = row {
        compared.differences += report_extra(journal, site, &extra)?;
        row = rows.next(index).await?;
    }
    Ok(compared)
}

/// Handles a row of the archive's database about a call that is not archived according to the journal. If the journal
/// has the call but no archive job, prints this difference and returns 1; else returns 0. A call that the journal does
/// not have is no difference, because an earlier recorder of the site may have archived it.
fn report_extra(journal: &Journal, site: &str, row: &IndexedCall) -> anyhow::Result<u64> {
    if journal.call(&row.id)?.is_none() || journal.archive_job(&row.id)?.is_some() {
        return Ok(0);
    }
    output::result(&format!("{site}: call {}: the journal does not know that it is archived\n", row.id))?;
    Ok(1)
}

/// Reads the rows of a site from the archive's database, a limited number at once, in the order of the call ids.
struct IndexRows<'a> {
    site: &'a str,
    after: String,
    page: std::vec::IntoIter<IndexedCall>,
    is_at_end: bool,
}

impl<'a> IndexRows<'a> {
    fn of(site: &'a str) -> Self {
        Self { site, after: String::new(), page: Vec::new().into_iter(), is_at_end: false }
    }

    async fn next(&mut self, index: &mut ArchiveIndex) -> anyhow::Result<Option<IndexedCall>> {
        if self.page.len() == 0 && !self.is_at_end {
            let page = index.calls_of(self.site, &self.after, PAGE).await?;
            match page.last() {
                Some(last) => self.after.clone_from(&last.id),
                None => self.is_at_end = true,
            }
            self.page = page.into_iter();
        }
        Ok(self.page.next())
    }
}

fn difference(job: &ArchiveJob, row: Option<&IndexedCall>) -> Option<String> {
    let Some(row) = row else { return Some(String::from("the index has no row of it")) };
    if row.change < job.change {
        return Some(format!("the index has change {}, the journal says {}", row.change, job.change));
    }
    if job.stage != ArchiveStage::Done {
        return None; // the call is still to be sent again
    }
    let keys = |of: &mut dyn Iterator<Item = (&String, &String)>| -> Vec<(String, String)> {
        of.map(|(key, sum)| (key.clone(), sum.clone())).collect()
    };
    let ours = keys(&mut job.objects.iter().map(|object| (&object.key, &object.sha256)));
    let theirs = keys(&mut row.recordings.iter().map(|recording| (&recording.key, &recording.sha256)));
    (ours != theirs).then(|| String::from("the index names other recordings"))
}

/// Reads every object (recording) of a site from the object store. Returns the number of objects that are missing or
/// differ from the index (the archive's database).
async fn compare_objects(objects: &ObjectArchive, index: &mut ArchiveIndex, site: &str) -> anyhow::Result<u64> {
    let (mut after, mut wrong) = (String::new(), 0);
    loop {
        let page = index.calls_of(site, &after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(wrong) };
        after.clone_from(&last.id);
        for recording in page.iter().flat_map(|call| &call.recordings) {
            let problem = match objects.digest(&recording.key).await {
                Ok((bytes, sha256)) if bytes == recording.bytes && sha256 == recording.sha256 => continue,
                Ok(_) => String::from("is not what its row says"),
                Err(error) => error.to_string(),
            };
            wrong += 1;
            output::result(&format!("{site}: object {}: {problem}\n", recording.key))?;
        }
    }
}

/// Parses the name of a site. Only characters that are allowed in object keys and PostgreSQL role names are accepted.
fn site_name(text: &str) -> Result<String, String> {
    match crate::central::config::is_site_name(text) {
        true => Ok(text.to_owned()),
        false => Err(String::from("write 1 to 40 lower-case letters, digits and hyphens, for example \"north-1\"")),
    }
}

fn site_journal(text: &str) -> Result<(String, PathBuf), String> {
    let (site, folder) = text.split_once('=').ok_or("write NAME=DIR, for example north=/var/lib/callspan/state")?;
    Ok((site_name(site)?, PathBuf::from(folder)))
}

/// Number of rows that one query reads from the archive's database (the index).
pub(super) const PAGE: u32 = 1_000;
/// Minimum length of a site's password, characters. A long password is no burden, because nobody types it.
const LEAST_PASSWORD: usize = 16;

const CENTRAL_HELP: &str = "\
The section [archive] of central.toml names the index with a role that may create schemas and roles.

Examples:
  callspan central migrate -c central.toml
  openssl rand -hex 24 | tee north.password | callspan central add-site north -c central.toml
  callspan central verify -c central.toml --site north=/copies/north/state --objects";
