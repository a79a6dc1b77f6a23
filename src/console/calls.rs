//! The list of calls that a search finds, as a page, JSON and CSV.

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Extension, Json};
use serde::Serialize;

use super::access::{self, Viewer};
use super::accounts::{AccountRight, Accounts, AuditAction};
use super::control::refused;
use super::pages;
use super::query::{CallsQuery, DayRange};
use super::server::{ConsoleState, StateError};
use super::source::CallSource;
use crate::call::record::CallRecord;
use crate::journal::{CallSearch, ClassCounts, FoundCalls, HeardClass, MAX_IDS};
use crate::service::clock::wall_clock;
use crate::text::without_formula;

/// A page of the list of calls, with counts for the whole search result.
#[derive(Debug, Default)]
pub(super) struct FoundPage {
    /// Calls of the page, newest first.
    pub(super) calls: Vec<CallRecord>,
    /// Start (µs since the Unix epoch) and id of the last call in the page; `None` if there are no older calls.
    pub(super) next: Option<(i64, String)>,
    /// Number of calls in each class (how much can be heard). The user's filter by class does not affect these counts.
    pub(super) counts: ClassCounts,
    /// Range of time that was searched.
    pub(super) range: DayRange,
    /// The search text as the console understood it, e.g. the digits of a number.
    pub(super) read_as: String,
    /// Beginning of the URL of a Pyrus task, before the task id; `None` without Pyrus.
    pub(super) task_url: Option<String>,
}

/// A page of the list of calls, as the JSON API returns it.
#[derive(Debug, Serialize)]
struct CallList<'a> {
    total: u64,
    /// Whether the search may find more calls than `total`, because counting stopped at a limit.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    total_is_least: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    read_as: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    calls: &'a [CallRecord],
}

impl FoundPage {
    /// Returns the number of calls in a class. The class says how much of a call can be heard.
    pub(super) fn count(&self, class: HeardClass) -> u64 {
        self.counts.by_class.iter().find(|(known, _)| *known == class).map_or(0, |(_, count)| *count)
    }
}

/// Redirects from the start page to the list of calls.
pub(super) async fn home() -> Redirect {
    Redirect::to("/calls")
}

/// Responds with the page of the list of calls. If the page's script sends the request, responds only with the results,
/// without the rest of the page.
pub(super) async fn page(
    State(state): State<ConsoleState>,
    Extension(viewer): Extension<Viewer>,
    Query(query): Query<CallsQuery>,
    headers: HeaderMap,
) -> Response {
    if !viewer.user.may(AccountRight::List) {
        return access::missing(Some(&viewer), false);
    }
    match find(&state, &viewer, &query, PageSize::Page).await {
        Ok(found) if headers.contains_key(FRAGMENT) => pages::calls::results(&viewer, &query, &found).into_response(),
        Ok(found) => pages::calls::page(&viewer, &query, &found).into_response(),
        Err(error) => access::failed(&error),
    }
}

/// Responds with the list of calls as JSON, or as CSV if the client asks for CSV.
pub(super) async fn api(
    state: State<ConsoleState>,
    viewer: Extension<Viewer>,
    query: Query<CallsQuery>,
    headers: HeaderMap,
) -> Response {
    let wants_csv = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).is_some_and(|v| v.contains("text/csv"));
    if wants_csv {
        return csv(state, viewer, query).await;
    }
    if !viewer.user.may(AccountRight::List) {
        return access::missing(None, true);
    }
    match find(&state, &viewer, &query, PageSize::Page).await {
        Ok(found) => {
            let next = found.next.as_ref().map(|(begin, id)| format!("{begin}~{id}"));
            let (total, total_is_least) = (found.counts.total(), found.counts.is_least);
            Json(CallList { total, total_is_least, read_as: &found.read_as, next, calls: &found.calls }).into_response()
        }
        Err(error) => access::failed(&error),
    }
}

/// Responds with the number of found calls in each class, as JSON. The class says how much of a call can be heard.
pub(super) async fn report(
    State(state): State<ConsoleState>,
    Extension(viewer): Extension<Viewer>,
    Query(query): Query<CallsQuery>,
) -> Response {
    if !viewer.user.may(AccountRight::List) {
        return access::missing(None, true);
    }
    match find(&state, &viewer, &query, PageSize::CountsOnly).await {
        Ok(found) => {
            let counts: serde_json::Map<String, serde_json::Value> =
                HeardClass::ALL.iter().map(|class| (class.as_str().to_owned(), found.count(*class).into())).collect();
            let mut report = serde_json::json!({ "total": found.counts.total(), "heard": counts });
            if found.counts.is_least {
                report["total_is_least"] = true.into();
            }
            Json(report).into_response()
        }
        Err(error) => access::failed(&error),
    }
}

/// Responds with the calls of a search as CSV, one call a row, at most [`MAX_CSV`] rows.
pub(super) async fn csv(
    State(state): State<ConsoleState>,
    Extension(viewer): Extension<Viewer>,
    Query(query): Query<CallsQuery>,
) -> Response {
    if !viewer.user.may(AccountRight::Download) {
        return refused(StatusCode::FORBIDDEN, "the account may not download");
    }
    let mut text = String::from("\u{feff}"); // byte order mark: spreadsheets then read UTF-8
    text.push_str(&CSV_COLUMNS.join(","));
    text.push_str("\r\n");
    let mut query = query;
    let mut rows = 0;
    loop {
        let found = match find(&state, &viewer, &query, PageSize::Csv).await {
            Ok(found) => found,
            Err(error) => return access::failed(&error),
        };
        found.calls.iter().for_each(|record| text.push_str(&csv_row(record)));
        rows += found.calls.len();
        match found.next {
            Some((begin, id)) if rows < MAX_CSV => query.cursor = format!("{begin}~{id}"),
            _ => break,
        }
    }
    if let Err(error) = state.record(&viewer, AuditAction::Listed, None, &format!("{rows} calls as CSV")).await {
        return access::failed(&error);
    }
    let name = "attachment; filename=\"calls.csv\"";
    ([(header::CONTENT_TYPE, "text/csv; charset=utf-8"), (header::CONTENT_DISPOSITION, name)], text).into_response()
}

/// Number of calls that a request reads at once, and whether the calls are also counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PageSize {
    /// A page of calls, with the number of calls in each class (how much can be heard).
    Page,
    /// The calls for a part of a CSV file, without the numbers of calls in each class.
    Csv,
    /// Only the number of calls in each class (how much can be heard).
    CountsOnly,
}

impl PageSize {
    const fn calls(self) -> u32 {
        match self {
            Self::Page => PAGE,
            Self::Csv => CSV_PAGE,
            Self::CountsOnly => COUNTED_CALLS,
        }
    }
}

/// Searches calls among those that the account may see.
async fn find(
    state: &ConsoleState,
    viewer: &Viewer,
    query: &CallsQuery,
    size: PageSize,
) -> Result<FoundPage, StateError> {
    let (site, scope, query) = (state.site.clone(), viewer.user.visible(), query.clone());
    let tagged = tagged(state, &query.q).await?;
    state
        .read(viewer, move |journal| {
            let mut search = query.to_search(scope.clone(), &site.dialling);
            search.words.retain(|word| !word.starts_with('#'));
            search.ids = tagged;
            let newest = journal.search(&CallSearch { scope, ..CallSearch::default() }, None, 1)?;
            let newest = newest.calls.first().and_then(|call| pages::calls::start(&call.record));
            let now = wall_clock();
            let range = query.range(now, newest);
            (search.since, search.until) = (range.since, range.until);
            search.time_of_day = query.time_of_day(range.since.unwrap_or(now));
            let found = journal.search(&search, query.before().as_ref(), size.calls())?;
            let counts = match size {
                // A CSV file does not contain the number of calls in each class, so these numbers are not computed.
                PageSize::Csv => ClassCounts::default(),
                PageSize::Page | PageSize::CountsOnly => count(journal, &search, &query, &found)?,
            };
            let read_as = search.numbers.iter().map(|digits| format!("…{digits}")).chain(search.words.iter().cloned());
            Ok(FoundPage {
                calls: found.calls.into_iter().map(|call| call.record).collect(),
                next: found.next,
                counts,
                range,
                read_as: read_as.collect::<Vec<_>>().join(", "),
                task_url: site.task_url.clone(),
            })
        })
        .await
}

/// Returns the number of calls that a search finds in each class (how much can be heard). If the page `found` already
/// has all calls of the search, its calls are counted, and no other query is made.
fn count(
    journal: &dyn CallSource,
    search: &CallSearch,
    query: &CallsQuery,
    found: &FoundCalls,
) -> Result<ClassCounts, StateError> {
    let on_page = ClassCounts::of(&found.calls);
    // If the page has all calls of the search, the classes are counted from these calls. Then a second query is not
    // needed.
    if search.heard.is_none() && query.before().is_none() && found.next.is_none() {
        return Ok(on_page);
    }
    let mut counts = journal.count_by_class(&CallSearch { heard: None, ..search.clone() })?;
    if counts.is_least {
        counts.raise_to(&on_page);
    }
    Ok(counts)
}

/// Returns the ids of the calls that have all tags which a text contains (e.g. `#complaint`); `None` if the text has no
/// tag.
async fn tagged(state: &ConsoleState, text: &str) -> Result<Option<Vec<String>>, StateError> {
    let tags: Vec<String> =
        text.split_whitespace().filter_map(|word| word.strip_prefix('#')).map(str::to_owned).collect();
    if tags.is_empty() {
        return Ok(None);
    }
    let find = move |accounts: &Accounts| {
        let mut found: Option<Vec<String>> = None;
        for tag in tags.iter().take(MAX_TAGS) {
            let calls = accounts.calls_with_tag(tag, MAX_IDS as u32)?;
            found = Some(match found {
                None => calls,
                Some(earlier) => earlier.into_iter().filter(|id| calls.contains(id)).collect(),
            });
        }
        Ok(found)
    };
    state.with_accounts(find).await
}

fn csv_row(record: &CallRecord) -> String {
    let word = |value: serde_json::Result<serde_json::Value>| {
        value.ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
    };
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let fields = [
        pages::calls::start(record).map(|at| at.to_rfc3339_secs()).unwrap_or_default(),
        word(serde_json::to_value(record.direction)),
        text(&record.from),
        text(&record.from_name),
        text(&record.to),
        text(&record.to_name),
        text(&record.internal),
        record.duration_s.map(|seconds| format!("{seconds:.1}")).unwrap_or_default(),
        word(serde_json::to_value(record.outcome)),
        word(serde_json::to_value(record.verdict)),
        text(&record.verdict_reason),
        word(serde_json::to_value(record.delivery.state)),
        record.delivery.task_id.map(|id| id.to_string()).unwrap_or_default(),
        record.id.clone(),
    ];
    let mut row = fields.iter().map(|field| csv_field(field)).collect::<Vec<_>>().join(",");
    row.push_str("\r\n");
    row
}

/// Quotes a text as a CSV field, so that no spreadsheet computes it as a formula.
pub(super) fn csv_field(text: &str) -> String {
    crate::text::csv_field(&without_formula(text))
}

/// Maximum number of tags in a search.
const MAX_TAGS: usize = 4;
/// Number of calls on a page of the list.
const PAGE: u32 = 50;
/// Number of calls that are read if a request asks only for the counts of a search. If the search finds fewer calls,
/// the counts are made from these calls and are exact even in a large archive.
const COUNTED_CALLS: u32 = 100;
/// Number of calls that are read at once for a CSV file.
const CSV_PAGE: u32 = 1_000;
/// Maximum number of rows in a CSV file, about 50 MiB of text. It suffices for a year of a small office.
const MAX_CSV: usize = 200_000;
/// Request header by which the script of the page requests only the list of results, without the rest of the page.
const FRAGMENT: &str = "x-fragment";

const CSV_COLUMNS: [&str; 14] = [
    "time",
    "direction",
    "from",
    "from_name",
    "to",
    "to_name",
    "extension",
    "length_s",
    "outcome",
    "verdict",
    "reason",
    "delivery",
    "task",
    "id",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_of_a_csv_cannot_become_a_formula() {
        for (text, field) in [
            ("+74953002285", "+74953002285"),
            ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
            ("+1+cmd", "'+1+cmd"),
            ("a,\"b\"", "\"a,\"\"b\"\"\""),
            ("plain", "plain"),
        ] {
            assert_eq!(csv_field(text), field);
        }
    }
}
