//! Pages about the health of the recorder, the audit, and the users.

use std::fmt::Write as _;
use std::sync::PoisonError;

use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use maud::{Markup, html};
use serde::Deserialize;

use super::access::{self, Viewer};
use super::accounts::{AccountRole, AuditAction, AuditEntry, AuditFilter};
use super::control::{ServiceStatus, refused};
use super::pages::{self, NavEntry};
use super::query::{midnight, parse_day};
use super::server::{ConsoleState, StateError};
use super::text::{Lang, date_time, size};
use crate::delivery::JobStage;
use crate::journal::{CallSearch, HeardClass};
use crate::ops::disk::disk_space;
use crate::ops::status::ServiceReport;
use crate::ops::taps::TapReport;
use crate::service::clock::wall_clock;
use crate::time::Timestamp;

/// Parameters of the audit.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct AuditQuery {
    who: String,
    action: String,
    call: String,
    from: String,
    before: Option<i64>,
}

/// State of the recorder.
#[derive(Debug, Default)]
struct HealthFacts {
    status: ServiceStatus,
    /// Calls of the last 24 hours, by class.
    day: Vec<(HeardClass, u64)>,
    /// Number of deliveries that are owed, parked and dead.
    deliveries: [u64; 3],
    /// Reason why no call can be delivered.
    alarm: Option<String>,
    /// Size of all recordings, bytes.
    kept_bytes: u64,
    /// Name of each folder, with the free and total bytes of its disk.
    disks: Vec<(&'static str, u64, u64)>,
    newest: Option<Timestamp>,
    /// Interfaces of the running service.
    taps: Vec<TapReport>,
}

/// Returns the health page.
pub(super) async fn health_page(State(state): State<ConsoleState>, Extension(viewer): Extension<Viewer>) -> Response {
    if !viewer.user.is_admin() {
        return access::missing(Some(&viewer), false);
    }
    match health(&state).await {
        Ok(facts) => show_health(&state, &viewer, &facts).into_response(),
        Err(error) => access::failed(&error),
    }
}

async fn health(state: &ConsoleState) -> Result<HealthFacts, StateError> {
    let status = *state.status.lock().unwrap_or_else(PoisonError::into_inner);
    let folders = state.site.folders.clone();
    let service = state.site.state_folder.clone();
    state
        .read_journal(move |journal| {
            let now = wall_clock();
            let day = CallSearch { since: Some(now - DAY), ..CallSearch::default() };
            let in_stage = |stage: JobStage| journal.deliveries_in_stage(stage).map(|rows| rows.len() as u64);
            let owed =
                journal.load_jobs()?.iter().filter(|job| !job.is_settled() && job.stage != JobStage::Parked).count();
            let newest = journal.search(&CallSearch::default(), None, 1)?;
            let disk = |(name, folder): (&'static str, &std::path::PathBuf)| {
                disk_space(folder).ok().map(|space| (name, space.free, space.total))
            };
            Ok(HealthFacts {
                status,
                day: journal.count_by_class(&day)?,
                deliveries: [owed as u64, in_stage(JobStage::Parked)?, in_stage(JobStage::Dead)?],
                alarm: journal.alarm()?,
                kept_bytes: journal.kept_bytes()?,
                disks: ["recordings", "spool"].into_iter().zip(&folders).filter_map(disk).collect(),
                taps: ServiceReport::read(&service).map(|report| report.taps).unwrap_or_default(),
                newest: newest.calls.first().and_then(|call| pages::calls::start(&call.record)),
            })
        })
        .await
}

impl HealthFacts {
    fn count(&self, classes: &[HeardClass]) -> u64 {
        self.day.iter().filter(|(class, _)| classes.contains(class)).map(|(_, count)| count).sum()
    }

    /// Returns the problems that a person must solve: colour, sentence and advice.
    fn findings(&self, lang: Lang) -> Vec<(&'static str, String, String)> {
        let mut found = Vec::new();
        let drops = self.status.dropped_by_kernel + self.status.dropped_by_interface;
        let mut add = |colour, sentence: String, todo: &str| found.push((colour, sentence, todo.to_owned()));
        if let Some(alarm) = &self.alarm {
            add(
                "bad",
                alarm.clone(),
                lang.of_two("callspan calls list --delivery owed", "callspan calls list --delivery owed"),
            );
        }
        if drops > 0 {
            let what = lang
                .of_two("frames were lost on this machine since the start", "кадров потеряно на этой машине со старта");
            add(
                "bad",
                format!("{} {what}", lang.grouped(drops)),
                lang.of_two("a larger capture.buffer_mib", "увеличить capture.buffer_mib"),
            );
        }
        let lost = self.count(&[HeardClass::Lost]);
        if lost > 0 {
            let what = lang.of_two("of the last 24 hours lost a part here", "за 24 часа потеряли часть здесь");
            let calls = lang.count(lost, ["call", "calls"], ["звонок", "звонка", "звонков"]);
            add("warn", format!("{calls} {what}"), "/calls?day=all&heard=lost");
        }
        let one = self.count(&[HeardClass::One, HeardClass::Nothing]);
        if one > 0 {
            let what = lang
                .of_two("of the last 24 hours lack a side or all sound", "за 24 часа без одной стороны или без звука");
            let calls = lang.count(one, ["call", "calls"], ["звонок", "звонка", "звонков"]);
            add("warn", format!("{calls} {what}"), "callspan doctor --seconds 300");
        }
        for tap in self.taps.iter().filter(|tap| !tap.is_up) {
            let what =
                lang.of_two("is down: calls on this wire are not recorded", "не работает: звонки с неё не пишутся");
            let todo = format!("ip link set {} up", tap.name);
            add("bad", format!("{} {} {what}", lang.of_two("The interface", "Карта"), tap.name), &todo);
        }
        let [_, parked, dead] = self.deliveries;
        if parked + dead > 0 {
            let what = lang.of_two("wait for you: Pyrus refuses them", "ждут вас: Pyrus их не принимает");
            let calls = lang.count(parked + dead, ["call", "calls"], ["звонок", "звонка", "звонков"]);
            add("warn", format!("{calls} {what}"), "callspan calls retry --all");
        }
        for (name, free, total) in &self.disks {
            if *total > 0 && free * 100 / total < LOW_PERCENT {
                let what = lang.of_two("is nearly full", "почти заполнен");
                add("bad", format!("{} ({name}) {what}", lang.of_two("The disk", "Диск")), "recording.max_disk_gib");
            }
        }
        found
    }
}

fn show_health(state: &ConsoleState, viewer: &Viewer, facts: &HealthFacts) -> Markup {
    let lang = viewer.lang;
    let t = |en, ru| lang.of_two(en, ru);
    let findings = facts.findings(lang);
    let count = findings.len() as u64;
    let (name, colour) = if findings.is_empty() { ("ok", "ok") } else { ("warn", "warn") };
    let title = match count {
        0 => t("All is in order.", "Всё в порядке.").to_owned(),
        n => format!(
            "{} {}",
            lang.count(n, ["thing needs", "things need"], ["дело требует", "дела требуют", "дел требуют"]),
            t("you.", "вас.")
        ),
    };
    let status = &facts.status;
    let fact = |name: &str, value: String| html! { dt { (name) } dd { (value) } };
    let body = html! {
        h1.answer { (pages::marked(name, colour)) " " (title) }
        @if !findings.is_empty() {
            section.card aria-labelledby="al" { h2 id="al" { (t("What needs you", "Что требует вас")) }
                ol.list { @for (colour, sentence, todo) in &findings { li { div class={ "note " (colour) } {
                    (pages::mark(if *colour == "bad" { "bad" } else { "warn" }))
                    div.stack { p { b { (sentence) } } div.cmd { code { (todo) } button.plain type="button" data-copy { (t("Copy", "Копировать")) } } }
                } } } }
            }
        }
        div.tiles {
            section.card.stack { h2 { (t("Mirror", "Зеркало")) } dl.facts {
                (fact(t("Ports", "Порты"), ports(lang, &state.site.interfaces)))
                (fact(t("Frames", "Кадров"), lang.grouped(status.frames)))
                (fact(t("Sound packets of calls", "Пакетов звука"), lang.grouped(status.rtp_packets)))
                (fact(t("Lost by the kernel", "Потеряно ядром"), lang.grouped(status.dropped_by_kernel)))
                (fact(t("Lost by the interface", "Потеряно картой"), lang.grouped(status.dropped_by_interface)))
                @if facts.taps.len() > 1 { @for tap in &facts.taps { (fact(&tap.name, tap_counts(lang, tap))) } }
                (fact(t("Calls under way", "Звонков сейчас"), lang.grouped(status.calls_live as u64)))
                @if let Some(at) = facts.newest { (fact(t("Newest call", "Последний звонок"), date_time(at))) }
            }
            @if !state.site.interfaces.is_empty() {
                form method="post" action="/health/doctor" { (pages::csrf(viewer)) button { (t("Doctor for 30 s", "Доктор на 30 с")) } }
            } }
            section.card.stack { h2 { (t("Delivery to Pyrus", "Передача в Pyrus")) } dl.facts {
                (fact(t("Owed", "В очереди"), lang.grouped(facts.deliveries[0])))
                (fact(t("Parked", "Отложено"), lang.grouped(facts.deliveries[1])))
                (fact(t("Dead", "Не передано"), lang.grouped(facts.deliveries[2])))
            } p { a href="/calls?day=all&delivery=parked" { (t("The parked calls", "Отложенные звонки")) } } }
            section.card.stack { h2 { (t("Disks", "Диски")) }
                @for (name, free, total) in &facts.disks { div {
                    p.head { b { (if *name == "spool" { t("Spool", "Буфер") } else { t("Recordings", "Записи") }) } span { (size(lang, *free)) " " (t("free", "свободно")) } }
                    @let used = if *total > 0 { 100 - free * 100 / total } else { 0 };
                    svg.bar aria-hidden="true" { rect.s-none width="100%" height="12" {} rect.s-caller width={ (used) "%" } height="12" {} }
                } }
                p.small.muted { (size(lang, facts.kept_bytes)) " " (t("of recordings", "записей")) }
            }
            section.card.stack { h2 { (t("Last 24 hours", "Последние 24 часа")) } dl.facts {
                @for (class, count) in &facts.day { (fact(lang.heard(*class), lang.grouped(*count))) }
                (fact(t("Version", "Версия"), format!("callspan {}", env!("CARGO_PKG_VERSION"))))
                @if !state.site.appliance.is_empty() { (fact(t("Site", "Площадка"), state.site.appliance.clone())) }
            } }
        }
    };
    pages::shell(viewer, t("Health", "Состояние"), NavEntry::Health, &[], &body)
}

/// Returns the audit page.
pub(super) async fn audit_page(
    State(state): State<ConsoleState>,
    Extension(viewer): Extension<Viewer>,
    Query(query): Query<AuditQuery>,
) -> Response {
    if !viewer.user.may_audit() {
        return access::missing(Some(&viewer), false);
    }
    match audit(&state, &query, PAGE).await {
        Ok(rows) => show_audit(&viewer, &query, &rows).into_response(),
        Err(error) => access::failed(&error),
    }
}

/// Returns the audit as JSON.
pub(super) async fn audit_api(
    State(state): State<ConsoleState>,
    Extension(viewer): Extension<Viewer>,
    Query(query): Query<AuditQuery>,
) -> Response {
    if !viewer.user.may_audit() {
        return access::missing(None, true);
    }
    match audit(&state, &query, PAGE).await {
        Ok(rows) => Json(rows).into_response(),
        Err(error) => access::failed(&error),
    }
}

/// Returns the audit as CSV.
pub(super) async fn audit_csv(
    State(state): State<ConsoleState>,
    Extension(viewer): Extension<Viewer>,
    Query(query): Query<AuditQuery>,
) -> Response {
    if !viewer.user.may_audit() {
        return refused(StatusCode::FORBIDDEN, "the account does not see the audit");
    }
    let rows = match audit(&state, &query, MAX_CSV).await {
        Ok(rows) => rows,
        Err(error) => return access::failed(&error),
    };
    if let Err(error) = state.record(&viewer, AuditAction::Listed, None, "the audit as CSV").await {
        return access::failed(&error);
    }
    let mut text = String::from("time,who,action,call,detail\r\n");
    for row in rows {
        let fields = [row.who, row.action, row.call_id.unwrap_or_default(), row.detail.unwrap_or_default()];
        let fields = fields.map(|field| super::calls::csv_field(&field)).join(",");
        let _ = write!(text, "{},{fields}\r\n", row.at.to_rfc3339_secs()); // writing to a String never fails
    }
    let name = "attachment; filename=\"audit.csv\"";
    ([(header::CONTENT_TYPE, "text/csv; charset=utf-8"), (header::CONTENT_DISPOSITION, name)], text).into_response()
}

async fn audit(state: &ConsoleState, query: &AuditQuery, limit: u32) -> Result<Vec<AuditEntry>, StateError> {
    let given = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let filter = AuditFilter {
        who: given(&query.who),
        call_id: given(&query.call),
        action: given(&query.action),
        since: parse_day(&query.from).map(midnight),
        before: query.before,
    };
    state.with_accounts(move |accounts| accounts.audit(&filter, limit)).await
}

fn show_audit(viewer: &Viewer, query: &AuditQuery, rows: &[AuditEntry]) -> Markup {
    let t = |en, ru| viewer.lang.of_two(en, ru);
    let actions = [
        AuditAction::Played,
        AuditAction::Downloaded,
        AuditAction::Listed,
        AuditAction::SignedIn,
        AuditAction::WrongPassword,
        AuditAction::Changed,
        AuditAction::Paused,
    ];
    let heads = [t("Time", "Время"), t("Who", "Кто"), t("Action", "Действие"), t("Call", "Звонок")];
    let body = html! {
        h1 { (t("Who listened, and what else was done", "Кто слушал и что ещё делалось")) }
        form.card.search action="/audit" { div.filters.whyf {
            div.field { label for="q" { (t("Who", "Кто")) } input id="q" name="who" type="search" value=(query.who); }
            div.field { label for="ad" { (t("Since", "С")) } input id="ad" name="from" type="date" value=(query.from); }
            div.field { label for="aa" { (t("Action", "Действие")) } select id="aa" name="action" {
                option value="" { (t("Anything", "Любое")) }
                @for action in actions { option value=(action.as_str()) selected[action.as_str() == query.action] {
                    (pages::action_words(viewer.lang, action.as_str())) } } } }
            div.field { label for="ac" { (t("Call", "Звонок")) } input id="ac" name="call" type="search" value=(query.call); }
            button.primary { (pages::mark("search")) (t("Find", "Найти")) }
        } }
        section.card.table {
            table role="table" {
                caption.vh { (t("Audit", "Журнал доступа")) }
                thead role="rowgroup" { tr role="row" { @for head in heads { th role="columnheader" scope="col" { (head) } } } }
                tbody role="rowgroup" { @for row in rows { tr role="row" {
                    th role="rowheader" scope="row" { (date_time(row.at)) }
                    td role="cell" data-l=(heads[1]) { span { (row.who) } }
                    td role="cell" data-l=(heads[2]) { span { (pages::action_words(viewer.lang, &row.action)) @if let Some(detail) = &row.detail { " (" (detail) ")" } } }
                    td role="cell" data-l=(heads[3]) { @if let Some(id) = &row.call_id { span { a href={ "/calls/" (id) } { (id) } } } }
                } } }
            }
            div.pager { span.muted { (t("Rows are only added.", "Строки только добавляются.")) }
                @if let Some(last) = rows.last().filter(|_| rows.len() == PAGE as usize) {
                    a.btn href={ "/audit?before=" (last.n) "&who=" (super::query::encoded(&query.who)) "&action=" (query.action) } { (t("Older", "Раньше")) } }
                a.btn href={ "/audit.csv?who=" (super::query::encoded(&query.who)) "&action=" (super::query::encoded(&query.action)) } { "CSV" } }
        }
    };
    pages::shell(viewer, t("Who listened", "Кто слушал"), NavEntry::Other, &[], &body)
}

/// Returns the list of users.
pub(super) async fn users_page(State(state): State<ConsoleState>, Extension(viewer): Extension<Viewer>) -> Response {
    if !viewer.user.may_audit() {
        return access::missing(Some(&viewer), false);
    }
    let users = match state.with_accounts(|accounts| accounts.users()).await {
        Ok(users) => users,
        Err(error) => return access::failed(&error),
    };
    let t = |en, ru| viewer.lang.of_two(en, ru);
    let role = |role: AccountRole| match role {
        AccountRole::Admin => t("administrator", "администратор"),
        AccountRole::Listener => t("listener", "слушатель"),
        AccountRole::Auditor => t("auditor, hears nothing", "аудитор, не слушает"),
    };
    let heads = [t("Name", "Имя"), t("Role", "Роль"), t("Sees", "Видит"), t("May", "Может")];
    let body = html! {
        h1 { (t("Users", "Пользователи")) }
        @if users.is_empty() {
            div.note.warn { (pages::mark("warn")) div { p { b { (t("There are no users.", "Пользователей нет.")) } " "
                (t("Whoever is on this machine is the administrator of this page.", "Администратор этой страницы — любой, кто вошёл на эту машину.")) } } }
        } @else {
            section.card.table { table role="table" {
                thead role="rowgroup" { tr role="row" { @for head in heads { th role="columnheader" scope="col" { (head) } } } }
                tbody role="rowgroup" { @for user in &users { tr role="row" {
                    th role="rowheader" scope="row" { (user.name) }
                    td role="cell" data-l=(heads[1]) { span { (role(user.role)) } }
                    td role="cell" data-l=(heads[2]) { span { @let scope = user.visible();
                        @if scope.extensions.is_empty() { (t("every extension", "все номера")) } @else { (scope.extensions.join(", ")) }
                        @for direction in &scope.directions { ", " (viewer.lang.direction(*direction)) } } }
                    td role="cell" data-l=(heads[3]) { span { @if user.role == AccountRole::Listener {
                        (user.rights.iter().map(|right| viewer.lang.right(*right)).collect::<Vec<_>>().join(", ")) }
                        @else if user.role == AccountRole::Admin { (t("everything", "всё")) } @else { (t("see calls and the audit", "видит звонки и аудит")) } } }
                } } }
            } }
        }
        p.muted { (t("On the box:", "На машине:")) " " code { "callspan user add NAME --role listener --extensions 1xx" } }
    };
    pages::shell(&viewer, t("Users", "Пользователи"), NavEntry::Other, &[], &body).into_response()
}

fn ports(lang: Lang, names: &[String]) -> String {
    if names.is_empty() {
        lang.of_two("none is captured here", "здесь ничего не захватывается").to_owned()
    } else {
        names.join(", ")
    }
}

/// Returns the counters of a tap in one line.
fn tap_counts(lang: Lang, tap: &TapReport) -> String {
    let state = if tap.is_up { "" } else { lang.of_two("down; ", "не работает; ") };
    let (copies, lost) = (lang.of_two("copies", "копий"), lang.of_two("lost", "потеряно"));
    let number = |n| lang.grouped(n);
    format!(
        "{state}SIP {}, RTP {}, {copies} {}, {lost} {}",
        number(tap.sip),
        number(tap.rtp),
        number(tap.copies),
        number(tap.lost())
    )
}

/// Rows of the audit on a page.
const PAGE: u32 = 50;
/// Most rows of a CSV.
const MAX_CSV: u32 = 100_000;
const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);
/// Free space of a disk, %, below which a person must act.
const LOW_PERCENT: u64 = 5;
