//! The page of a central console about its sites (recorders). For each site, it shows the last report, backlog, losses
//! and version. It also lists calls that two sites recorded and that have two tasks in Pyrus or none.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use maud::{Markup, html};

use super::access::{self, Viewer};
use super::pages::{self, NavEntry};
use super::server::{ConsoleState, StateError};
use super::text::{Lang, date_time};
use crate::central::calls::{OwnerConflict, SiteState, call_key};
use crate::service::clock::wall_clock;
use crate::service::site_watch::SILENT_AFTER;
use crate::time::Timestamp;

/// The states of the sites, and their conflicts: calls that two sites recorded and that have two tasks in Pyrus or
/// none.
#[derive(Debug, Default)]
struct SitesFacts {
    now: Timestamp,
    sites: Vec<SiteState>,
    conflicts: Vec<OwnerConflict>,
}

impl SitesFacts {
    fn is_silent(&self, site: &SiteState) -> bool {
        site.seen_at.is_none_or(|at| self.now.since(at) >= SILENT_AFTER)
    }
}

/// Responds with the page about the sites.
pub(super) async fn page(State(state): State<ConsoleState>, Extension(viewer): Extension<Viewer>) -> Response {
    if !viewer.user.is_admin() {
        return access::missing(Some(&viewer), false);
    }
    match facts(&state).await {
        Ok(facts) => show(&viewer, &facts).into_response(),
        Err(error) => access::failed(&error),
    }
}

/// Responds with the states of the sites as JSON.
pub(super) async fn api(State(state): State<ConsoleState>, Extension(viewer): Extension<Viewer>) -> Response {
    if !viewer.user.is_admin() {
        return access::missing(None, true);
    }
    let facts = match facts(&state).await {
        Ok(facts) => facts,
        Err(error) => return access::failed(&error),
    };
    let site = |site: &SiteState| {
        serde_json::json!({
            "site": site.site, "silent": facts.is_silent(site), "seen_at": site.seen_at, "version": site.version,
            "backlog": site.backlog, "refused": site.refused, "newest_call_at": site.newest, "health": site.health,
        })
    };
    Json(facts.sites.iter().map(site).collect::<Vec<_>>()).into_response()
}

async fn facts(state: &ConsoleState) -> Result<SitesFacts, StateError> {
    let now = wall_clock();
    state
        .read_centre(move |reader| {
            let sites = reader.ask(async |index| index.sites().await)?;
            let conflicts = reader.ask(async |index| index.owner_conflicts(now - DAY).await)?;
            Ok(SitesFacts { now, sites, conflicts })
        })
        .await
}

fn show(viewer: &Viewer, facts: &SitesFacts) -> Markup {
    let lang = viewer.lang;
    let t = |en, ru| lang.of_two(en, ru);
    let silent = facts.sites.iter().filter(|site| facts.is_silent(site)).count() as u64;
    let heads = [
        t("Site", "Площадка"),
        t("Last seen", "На связи"),
        t("To send", "К отправке"),
        t("Refused", "Отклонено"),
        t("Lost frames", "Потеряно кадров"),
        t("Newest call", "Последний звонок"),
        t("Version", "Версия"),
    ];
    let body = html! {
        h1.answer { (pages::marked(if silent == 0 { "ok" } else { "warn" }, if silent == 0 { "ok" } else { "warn" })) " "
            @if silent == 0 { (t("All sites report.", "Все площадки на связи.")) }
            @else { (lang.count(silent, ["site is silent", "sites are silent"], ["площадка молчит", "площадки молчат", "площадок молчат"])) "." } }
        section.card.table { table role="table" {
            caption.vh { (t("Sites", "Площадки")) }
            thead role="rowgroup" { tr role="row" { @for head in heads { th role="columnheader" scope="col" { (head) } } } }
            tbody role="rowgroup" { @for site in &facts.sites { (row(lang, facts, site, heads)) } }
        } }
        (conflicts(lang, &facts.conflicts))
    };
    pages::shell(viewer, t("Sites", "Площадки"), NavEntry::Sites, &[], &body)
}

fn row(lang: Lang, facts: &SitesFacts, site: &SiteState, heads: [&str; 7]) -> Markup {
    let moment = |at: Option<Timestamp>| at.map_or_else(|| lang.of_two("never", "никогда").to_owned(), date_time);
    let lost = site.health.get("lost").and_then(serde_json::Value::as_u64);
    let alarms: Vec<&str> =
        site.health["alarms"].as_array().into_iter().flatten().filter_map(|kind| kind.as_str()).collect();
    html! { tr role="row" {
        th role="rowheader" scope="row" { a href={ "/calls?site=" (site.site) } { (site.site) } }
        td role="cell" data-l=(heads[1]) { span {
            @if facts.is_silent(site) { (pages::marked("warn", "warn")) " " }
            (moment(site.seen_at))
            @if !alarms.is_empty() { span.sub { (alarms.join(", ")) } } } }
        td role="cell" data-l=(heads[2]) { (lang.grouped(site.backlog)) }
        td role="cell" data-l=(heads[3]) { (lang.grouped(site.refused)) }
        td role="cell" data-l=(heads[4]) { (lost.map_or_else(|| String::from("—"), |lost| lang.grouped(lost))) }
        td role="cell" data-l=(heads[5]) { (moment(site.newest)) }
        td role="cell" data-l=(heads[6]) { (site.version.as_deref().unwrap_or("—")) }
    } }
}

fn conflicts(lang: Lang, conflicts: &[OwnerConflict]) -> Markup {
    let t = |en, ru| lang.of_two(en, ru);
    html! {
        @if !conflicts.is_empty() {
            section.card.stack {
                h2 { (t("Calls of two sites that Pyrus has twice, or not at all (24 hours)", "Звонки двух площадок, которые в Pyrus дважды или ни разу (24 часа)")) }
                p.muted { (t("A rule with no_register at one of the sites decides who owns a call.", "Кому принадлежит звонок, решает правило no_register на одной из площадок.")) }
                ul.list { @for conflict in conflicts { li {
                    @if conflict.is_double { (t("twice", "дважды")) } @else { (t("not at all", "ни разу")) } ": "
                    @for (site, id) in conflict.sites.iter().zip(&conflict.ids) { a href={ "/calls/" (call_key(site, id)) } { (site) } " " }
                } } }
            }
        }
    }
}

/// Maximum age of a call in the list of conflicts between sites: a day. In a conflict, a call recorded by two sites has
/// two tasks in Pyrus or none.
const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);
