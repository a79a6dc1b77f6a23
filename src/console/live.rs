//! The page of live calls (calls in progress), and its updates as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use maud::{Markup, html};

use super::access::{self, Viewer};
use super::accounts::AccountRight;
use super::levels::{LevelBoard, LevelListener};
use super::pages::{self, NavEntry};
use super::server::{ConsoleState, StateError};
use super::text::{Lang, clock_time};
use crate::call::record::{CallRecord, EventKind, Side};
use crate::journal::CallScope;
use crate::service::clock::wall_clock;

/// Responds with the page of live calls.
pub(super) async fn page(State(state): State<ConsoleState>, Extension(viewer): Extension<Viewer>) -> Response {
    if !viewer.user.may(AccountRight::Live) {
        return access::missing(Some(&viewer), false);
    }
    let calls = match live_calls(&state, &viewer).await {
        Ok(calls) => calls,
        Err(error) => return access::failed(&error),
    };
    let t = |en, ru| viewer.lang.of_two(en, ru);
    let body = html! {
        div.head { h1 { (t("Calls under way", "Звонки сейчас")) }
            p.v.ok role="status" data-state { (t("up to date", "актуально")) ", " (clock_time(wall_clock())) } }
        div data-live data-csrf=(viewer.csrf.as_deref().unwrap_or_default()) { (rows(&viewer, &calls)) }
    };
    pages::shell(&viewer, t("Live", "Сейчас"), NavEntry::Live, &["live.js"], &body).into_response()
}

/// Responds with a stream of events: the rows of the table of live calls when they have changed, and the levels
/// (loudness). The stream ends after [`STREAM_TIME`], and the browser connects again. So the session and its rights are
/// checked again.
#[expect(clippy::disallowed_methods, reason = "the period between two looks at the live calls")]
pub(super) async fn events(State(state): State<ConsoleState>, Extension(viewer): Extension<Viewer>) -> Response {
    if !viewer.user.may(AccountRight::Live) {
        return access::missing(None, true);
    }
    let until = tokio::time::Instant::now() + STREAM_TIME;
    let levels = LevelBoard::listen(&state.levels);
    let stream = LiveStream { state, viewer, levels, rounds: 0, rows: String::new(), ids: Vec::new() };
    let next = move |mut stream: LiveStream| async move {
        loop {
            if tokio::time::Instant::now() >= until {
                return None;
            }
            if stream.rounds > 0 {
                tokio::time::sleep(PERIOD).await;
            }
            if let Some(event) = stream.round().await {
                return Some((Ok::<_, Infallible>(event), stream));
            }
        }
    };
    Sse::new(stream::unfold(stream, next)).keep_alive(KeepAlive::default()).into_response()
}

/// The event stream of one open live page. The capture thread measures levels (loudness) while this value exists.
struct LiveStream {
    state: ConsoleState,
    viewer: Viewer,
    levels: LevelListener,
    rounds: u32,
    /// HTML rows of the table of live calls, as the page shows them now.
    rows: String,
    /// Ids of the calls that the page shows now.
    ids: Vec<String>,
}

impl LiveStream {
    /// Returns the next event of the stream. For every [`ROUNDS`]th event the journal is read. If the HTML rows of the
    /// live calls have changed, the event contains these rows. Any other event contains the levels (loudness) of the
    /// calls.
    async fn round(&mut self) -> Option<Event> {
        let reads_calls = self.rounds.is_multiple_of(ROUNDS);
        self.rounds = self.rounds.wrapping_add(1);
        // If the journal cannot be read, this event contains only the loudness of the voices. A later event reads the
        // journal again.
        if reads_calls && let Ok(calls) = live_calls(&self.state, &self.viewer).await {
            let text = rows(&self.viewer, &calls).into_string();
            self.ids = calls.iter().map(|call| call.id.clone()).collect();
            self.levels.ask(&self.ids);
            if self.rows != text {
                self.rows.clone_from(&text);
                return Some(Event::default().event("calls").data(text));
            }
        }
        (!self.ids.is_empty()).then(|| Event::default().event("levels").data(self.levels.json(&self.ids)))
    }
}

/// Live calls of each scope (set of calls that an account may see), read from the journal less than a second ago. So
/// all open pages of one scope together need only one query a second.
#[derive(Debug, Default)]
pub(super) struct LiveCallCache(tokio::sync::Mutex<Vec<KeptLiveCalls>>);

/// Live calls of one scope (set of calls that an account may see), and the time at which they were read from the
/// journal.
#[derive(Debug)]
struct KeptLiveCalls {
    scope: CallScope,
    read_at: tokio::time::Instant,
    calls: Arc<Vec<CallRecord>>,
}

/// Returns the calls in progress that the viewer's account may see. Accounts with the same scope (set of visible calls)
/// share one query of the journal.
async fn live_calls(state: &ConsoleState, viewer: &Viewer) -> Result<Arc<Vec<CallRecord>>, StateError> {
    let scope = viewer.user.visible();
    let mut kept = state.live_calls.0.lock().await;
    kept.retain(|kept| kept.read_at.elapsed() < FRESH);
    if let Some(known) = kept.iter().find(|kept| kept.scope == scope) {
        return Ok(Arc::clone(&known.calls));
    }
    let wanted = scope.clone();
    let found = state.read_journal(move |journal| Ok(journal.live_calls(&wanted, MAX_CALLS)?)).await?;
    let calls = Arc::new(found.into_iter().map(|call| call.record).collect::<Vec<_>>());
    if kept.len() < MAX_SCOPES {
        kept.push(KeptLiveCalls { scope, read_at: tokio::time::Instant::now(), calls: Arc::clone(&calls) });
    }
    Ok(calls)
}

fn rows(viewer: &Viewer, calls: &[CallRecord]) -> Markup {
    let t = |en, ru| viewer.lang.of_two(en, ru);
    if calls.is_empty() {
        return html! { section.card.empty { h2 { (t("No call under way", "Сейчас звонков нет")) } } };
    }
    let heads = [
        t("Length", "Длина"),
        t("From", "От"),
        t("To", "Кому"),
        t("State", "Состояние"),
        t("Level", "Уровень"),
        t("Recording", "Запись"),
    ];
    html! {
        p.muted { (totals(viewer.lang, calls)) }
        section.card.table { table.live role="table" {
            caption.vh { (t("Calls under way, longest first", "Звонки сейчас, сначала долгие")) }
            thead role="rowgroup" { tr role="row" { @for head in heads { th role="columnheader" scope="col" { (head) } } } }
            tbody role="rowgroup" { @for record in calls { (row(viewer, record)) } }
        } }
    }
}

/// State of a live call as the page shows it, e.g. ringing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LiveCallState {
    Ringing,
    Talking,
    OnHold,
    Paused,
}

impl LiveCallState {
    fn of(record: &CallRecord) -> Self {
        let is_paused = record.paused.last().is_some_and(|pause| pause.to.is_none());
        let last_hold = record.events.iter().rev().find(|e| matches!(e.kind, EventKind::Hold | EventKind::Resume));
        match (record.answered_at, is_paused) {
            (None, _) => Self::Ringing,
            (_, true) => Self::Paused,
            _ if last_hold.is_some_and(|e| e.kind == EventKind::Hold) => Self::OnHold,
            _ => Self::Talking,
        }
    }

    const fn mark(self) -> &'static str {
        match self {
            Self::Ringing | Self::OnHold => "wait",
            Self::Paused => "pause",
            Self::Talking => "both",
        }
    }

    const fn words(self, lang: Lang) -> &'static str {
        match self {
            Self::Ringing => lang.of_two("ringing", "звонит"),
            Self::Talking => lang.of_two("talking", "разговор"),
            Self::OnHold => lang.of_two("on hold", "в ожидании"),
            Self::Paused => lang.of_two("recording paused", "запись приостановлена"),
        }
    }
}

/// Returns the number of calls in each state, e.g. `12 calls: talking 10, ringing 2`.
fn totals(lang: Lang, calls: &[CallRecord]) -> String {
    let states = [LiveCallState::Talking, LiveCallState::Ringing, LiveCallState::OnHold, LiveCallState::Paused];
    let count = |state| calls.iter().filter(|call| LiveCallState::of(call) == state).count();
    let parts: Vec<String> = states
        .into_iter()
        .map(|state| (state, count(state)))
        .filter(|(_, count)| *count > 0)
        .map(|(state, count)| format!("{} {count}", state.words(lang)))
        .collect();
    let all = lang.count(calls.len() as u64, ["call", "calls"], ["звонок", "звонка", "звонков"]);
    let first =
        if calls.len() >= MAX_CALLS as usize { lang.of_two("the longest ", "самые долгие ") } else { "" };
    format!("{first}{all}: {}", parts.join(", "))
}

fn row(viewer: &Viewer, record: &CallRecord) -> Markup {
    let t = |en, ru| viewer.lang.of_two(en, ru);
    let since = record.answered_at.or(record.invited_at);
    let state = LiveCallState::of(record);
    let (mark, words) = (state.mark(), state.words(viewer.lang));
    let (verb, button) = match state == LiveCallState::Paused {
        true => ("resume", t("Resume recording", "Продолжить запись")),
        false => ("pause", t("Pause recording", "Приостановить запись")),
    };
    html! {
        tr role="row" {
            th role="rowheader" scope="row" data-since=[since.map(|at| at.as_micros() / 1_000_000)] {
                @if let Some(at) = since { (clock_time(at)) } }
            td role="cell" data-l=(t("From", "От")) { span { (pages::caller(viewer, record)) @if let Some(name) = &record.from_name { span.sub { (name) } } } }
            td role="cell" data-l=(t("To", "Кому")) { span { (pages::callee(viewer, record)) @if let Some(name) = &record.to_name { span.sub { (name) } } } }
            td role="cell" data-l=(t("State", "Состояние")) { span { span.v.quiet { (pages::mark(mark)) span { (words) } } } }
            td role="cell" data-l=(t("Level", "Уровень")) { (levels(viewer, &record.id)) }
            td role="cell" data-l=(t("Recording", "Запись")) { span {
                button type="button" data-control={ "/api/v1/calls/" (record.id) "/" (verb) } { (button) } } }
        }
    }
}

/// Returns the HTML element for the levels of a call, which a script fills. Its labels L and R are the channels of the
/// recording.
fn levels(viewer: &Viewer, id: &str) -> Markup {
    let lang = viewer.lang;
    html! {
        span.levels data-levels=(id) {
            @for (side, letter, class) in [(Side::Caller, "L", "l"), (Side::Callee, "R", "r")] {
                span title=(lang.side(side)) { (letter) }
                svg.level role="img" aria-label=(lang.side(side)) { rect.bgd width="100%" height="14" {} rect class=(class) width="0%" height="14" {} }
            }
        }
    }
}

/// Maximum duration of the event stream of a live page. A user who signed out or lost rights sees calls for at most
/// this time.
const STREAM_TIME: Duration = Duration::from_secs(60);
/// Interval between two events of a stream, i.e. between two updates of the levels.
const PERIOD: Duration = Duration::from_millis(250);
/// Number of updates sent to a page between two reads of the journal. With [`PERIOD`], the journal is read once a
/// second.
const ROUNDS: u32 = 4;
/// Age at which the stored live calls are read again. It is a little less than a second, so that a page, which reads
/// once a second, always gets new data.
const FRESH: Duration = Duration::from_millis(900);
/// Maximum number of scopes (sets of calls that accounts may see) with stored live calls. For accounts with further
/// scopes, each page needs its own query.
const MAX_SCOPES: usize = 32;
/// Maximum number of calls on the page. If there are more, the page shows those that have lasted longest.
const MAX_CALLS: u32 = 200;
