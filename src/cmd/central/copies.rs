//! Compares two tables of a site with their copies in the archive's database. They are the audit (what users did in the
//! console) and the topology (which addresses are one machine).

use std::path::Path;
use std::time::Duration;

use crate::central::{ArchiveIndex, IndexedAuditRow};
use crate::console::accounts::{Accounts, AuditEntry};
use crate::ops::output;
use crate::service::{clock, topology_file};
use crate::time::Timestamp;

/// Compares the audit (what users did) and the topology (addresses of machines) of a site with their copies in the
/// archive's database. `folder` is the folder of the site's journal. Prints each difference, and returns the number of
/// differences.
pub(super) async fn compare(index: &mut ArchiveIndex, folder: &Path, site: &str) -> anyhow::Result<u64> {
    Ok(compare_audit(index, folder, site).await? + compare_topology(index, folder, site).await?)
}

/// Counts the rows of a site's audit (what users did in the console) that have no copy in the archive's database. Rows
/// younger than [`NEW`] are left out, because the site may not have sent them yet.
async fn compare_audit(index: &mut ArchiveIndex, folder: &Path, site: &str) -> anyhow::Result<u64> {
    let Some(accounts) = Accounts::open_to_read_audit(folder)? else { return Ok(0) };
    let (mut after, mut missing) = (0, 0);
    let is_due = |entry: &&AuditEntry| entry.at <= clock::wall_clock() - NEW;
    loop {
        let page = accounts.audit_after(after, Timestamp::MAX, super::PAGE)?;
        let (Some(first), Some(last)) = (page.first(), page.last()) else { break };
        after = last.n;
        let rows = index.audit_of(site, (first.n, last.n)).await?;
        for entry in page.iter().filter(is_due).filter(|entry| !rows.iter().any(|row| is_copy(row, entry))) {
            missing += 1;
            output::result(&format!("{site}: the index has no copy of row {} of the audit\n", entry.n))?;
        }
    }
    Ok(missing)
}

fn is_copy(row: &IndexedAuditRow, entry: &AuditEntry) -> bool {
    (row.n, row.at, &row.who, &row.action, &row.call_id)
        == (entry.n, entry.at, &entry.who, &entry.action, &entry.call_id)
}

async fn compare_topology(index: &mut ArchiveIndex, folder: &Path, site: &str) -> anyhow::Result<u64> {
    let learnt = topology_file::load(folder);
    if learnt.is_empty() || index.topology_of(site).await? == Some(serde_json::to_value(&learnt)?) {
        return Ok(0);
    }
    output::result(&format!("{site}: the index has another topology than the recorder\n"))?;
    Ok(1)
}

/// Age from which on an audit row (an action of a user) must have a copy in the archive's database. A site tries to
/// send its rows every minute.
const NEW: Duration = Duration::from_secs(5 * 60);
