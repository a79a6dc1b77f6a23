//! Watches the sites of a central archive: raises an alarm when a site is silent, or when the database of the archive
//! does not respond.

use std::collections::BTreeSet;
use std::time::Duration;

use super::clock::wall_clock;
use crate::central::ArchiveIndex;
use crate::central::calls::SiteState;
use crate::central::config::Config as ArchiveConfig;
use crate::ops::alarm_cause::AlarmCause;
use crate::ops::alerts::{AlarmKind, Alerts};
use crate::ops::thread::{StopSignal, StoppableThread};
use crate::time::Timestamp;

/// Starts the thread that watches the sites of the archive.
///
/// # Errors
/// Fails if the thread cannot be started.
pub(crate) fn start(config: ArchiveConfig, alerts: Alerts) -> anyhow::Result<StoppableThread> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let work = move |stop: &StopSignal| {
        let (mut index, mut watch) = (None, SiteWatch::starting(wall_clock()));
        loop {
            let asked = runtime.block_on(async {
                if index.is_none() {
                    index = Some(ArchiveIndex::open(&config).map_err(|error| error.to_string())?);
                }
                let Some(open) = &mut index else { return Err(String::from("not open")) };
                open.sites().await.map_err(|error| error.to_string())
            });
            for (kind, detail) in watch.update(asked, wall_clock()) {
                alerts.raise(&AlarmCause::Described(kind, &detail));
            }
            if stop.is_stopped_within(INTERVAL) {
                return;
            }
        }
    };
    Ok(StoppableThread::start("sites", work)?)
}

/// State of the alarms: the silent sites, and the time since which the archive's database has not responded.
#[derive(Debug)]
struct SiteWatch {
    silent: BTreeSet<String>,
    answered_at: Timestamp,
    is_index_away: bool,
}

impl SiteWatch {
    const fn starting(now: Timestamp) -> Self {
        Self { silent: BTreeSet::new(), answered_at: now, is_index_away: false }
    }

    /// Handles the response of the archive's database, i.e. the states of all sites or an error. Returns the alarms to
    /// raise.
    fn update(&mut self, answer: Result<Vec<SiteState>, String>, now: Timestamp) -> Vec<(AlarmKind, String)> {
        let sites = match answer {
            Ok(sites) => sites,
            Err(reason) => {
                let is_due = !self.is_index_away && now.since(self.answered_at) >= SILENT_AFTER;
                self.is_index_away |= is_due;
                return is_due.then_some((AlarmKind::ArchiveFailing, reason)).into_iter().collect();
            }
        };
        self.answered_at = now;
        let mut alarms = Vec::new();
        if std::mem::take(&mut self.is_index_away) {
            alarms.push((AlarmKind::ArchiveRecovered, String::from("the index answers again")));
        }
        let had_silent = !self.silent.is_empty();
        for site in &sites {
            // A site that was added but has never reported is still being set up, so it is not silent.
            let Some(seen_at) = site.seen_at else { continue };
            if now.since(seen_at) < SILENT_AFTER {
                self.silent.remove(&site.site);
            } else if self.silent.insert(site.site.clone()) {
                alarms.push((AlarmKind::SiteSilent, silent_detail(site, seen_at)));
            }
        }
        self.silent.retain(|name| sites.iter().any(|site| site.site == *name));
        if had_silent && self.silent.is_empty() {
            alarms.push((AlarmKind::SiteSilentOver, String::from("all sites report again")));
        }
        alarms
    }
}

fn silent_detail(site: &SiteState, seen_at: Timestamp) -> String {
    format!(
        "site {} has not reported since {}: look at its line and its recorder (callspan status there)",
        site.site,
        seen_at.to_rfc3339_secs()
    )
}

/// Time without a report after which a site counts as silent. Sites report once a minute.
pub(crate) const SILENT_AFTER: Duration = Duration::from_secs(15 * 60);
/// Pause between two queries to the database of the archive.
const INTERVAL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(alarms: &[(AlarmKind, String)]) -> Vec<&'static str> {
        alarms.iter().map(|(kind, _)| kind.name()).collect()
    }

    #[test]
    fn silent_site_raises_one_alarm_and_one_when_all_report_again() {
        let at = |minutes: i64| Timestamp::from_secs(1_795_424_400 + 60 * minutes);
        let site = |name: &str, seen: Option<i64>| SiteState {
            site: name.into(),
            seen_at: seen.map(at),
            ..SiteState::default()
        };
        let mut watch = SiteWatch::starting(at(0));
        let new = site("new", None);
        assert!(watch.update(Ok(vec![site("north", Some(0)), new.clone()]), at(14)).is_empty());
        let alarms = watch.update(Ok(vec![site("north", Some(0)), site("south", Some(14)), new.clone()]), at(15));
        assert_eq!(kinds(&alarms), ["site_silent"]);
        assert!(alarms[0].1.contains("site north"), "{alarms:?}");
        assert!(watch.update(Ok(vec![site("north", Some(0)), site("south", Some(15))]), at(16)).is_empty());
        let alarms = watch.update(Ok(vec![site("north", Some(16)), site("south", Some(16))]), at(17));
        assert_eq!(kinds(&alarms), ["site_silent_over"]);
    }

    #[test]
    fn index_that_is_away_for_long_is_an_alarm_of_its_own() {
        let at = |minutes: i64| Timestamp::from_secs(1_795_424_400 + 60 * minutes);
        let mut watch = SiteWatch::starting(at(0));
        let away = || Err(String::from("connection refused"));
        assert!(watch.update(away(), at(14)).is_empty());
        assert_eq!(kinds(&watch.update(away(), at(15))), ["archive_failing"]);
        assert!(watch.update(away(), at(16)).is_empty());
        assert_eq!(kinds(&watch.update(Ok(Vec::new()), at(17))), ["archive_recovered"]);
    }
}
