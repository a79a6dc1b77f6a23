//! The pages that show the audit log (actions of the console's users) and the list of users.

use std::fmt::Write as _;

use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use maud::{Markup, html};
use serde::Deserialize;

use super::access::{self, Viewer};
use super::accounts::{AccountRole, AuditAction, AuditEntry, AuditFilter};
use super::control::refused;
use super::pages::{self, NavEntry};
use super::query::{midnight, parse_day};
use super::server::{ConsoleState, StateError};
use super::text::date_time;

/// Query parameters of the page of the audit log: filters, and the position in the list.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct AuditQuery {
    who: String,
    action: String,
    call: String,
    from: String,
    before: Option<i64>,
}

/// Responds with the page of the audit log, i.e. of the actions of the console's users.
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

/// Responds with the newest rows of the audit log (actions of the console's users) as JSON.
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

/// Responds with the audit log (actions of the console's users) as CSV.
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
            div.pager { span.muted { (t("Rows cannot be changed or removed.", "Строки нельзя изменить или удалить.")) }
                @if let Some(last) = rows.last().filter(|_| rows.len() == PAGE as usize) {
                    a.btn href={ "/audit?before=" (last.n) "&who=" (super::query::encoded(&query.who)) "&action=" (query.action) } { (t("Older", "Раньше")) } }
                a.btn href={ "/audit.csv?who=" (super::query::encoded(&query.who)) "&action=" (super::query::encoded(&query.action)) } { "CSV" } }
        }
    };
    pages::shell(viewer, t("Who listened", "Кто слушал"), NavEntry::Other, &[], &body)
}

/// Responds with the page that lists the users.
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
                        @if !scope.sites.is_empty() { ", " (t("sites", "площадки")) " " (scope.sites.join(", ")) }
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

/// Number of rows of the audit log on a page.
const PAGE: u32 = 50;
/// Maximum number of audit rows in a CSV file.
const MAX_CSV: u32 = 100_000;
