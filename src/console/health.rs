//! The health page: problems that a person must solve, the last 24 hours, the mirror port, delivery, disks, and the
//! last test call.

use std::sync::PoisonError;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};

use super::access::{self, Viewer};
use super::control::ServiceStatus;
use super::mirror::MirrorFacts;
use super::pages::{self, NavEntry, strip};
use super::server::{ConsoleState, StateError};
use super::test_call;
use super::text::{Lang, date_time, size};
use crate::delivery::JobStage;
use crate::delivery::reason_ru::DELIVERY_REASONS;
use crate::journal::{CallSearch, HeardClass, SlotCount};
use crate::ops::alarm_ru::{self, ALARMS};
use crate::ops::alarm_text;
use crate::ops::alerts::{Alarm, AlarmKind};
use crate::ops::disk::{DiskSpace, FolderSpace};
use crate::ops::self_test::SelfTestResult;
use crate::ops::status::ServiceReport;
use crate::service::clock::wall_clock;
use crate::service::topology_file;
use crate::time::Timestamp;

/// State of the recorder that the health page shows.
#[derive(Debug, Default)]
struct HealthFacts {
    status: ServiceStatus,
    /// Open alarms, i.e. alarms about a problem that has not ended, newest first.
    alarms: Vec<Alarm>,
    /// Result of the last `callspan test-call --alarm`; `None` if there was none. Without `--alarm` no result is
    /// stored.
    test: Option<SelfTestResult>,
    /// Number of calls in the last 24 hours in each class (how much can be heard).
    day: Vec<(HeardClass, u64)>,
    /// Number of calls in each quarter of an hour of the last 24 hours, by class (how much can be heard). The page
    /// shows them as a coloured strip.
    slots: Vec<SlotCount>,
    /// Three numbers of deliveries: still to be made, parked (waiting for a person), and dead (given up).
    deliveries: [u64; 3],
    /// Reason why no call can be delivered at present; `None` if calls can be delivered.
    blocked: Option<String>,
    /// Total size of all recordings, bytes.
    kept_bytes: u64,
    /// The folders of recordings and spools (captured packets), each with the free and total space of its file system.
    disks: Vec<FolderSpace>,
    /// Average size of the recordings of a day, bytes; `None` without recordings.
    bytes_a_day: Option<u64>,
    /// Facts about the mirror port.
    mirror: MirrorFacts,
    now: Timestamp,
}

/// A problem that a person must solve, as the health page shows it.
#[derive(Debug)]
struct HealthTask {
    /// CSS class of the notice: `bad` or `warn`.
    colour: &'static str,
    text: Markup,
    /// A command, setting or page address that solves the problem; `None` if there is none.
    todo: Option<String>,
}

/// Responds with the health page.
pub(super) async fn page(State(state): State<ConsoleState>, Extension(viewer): Extension<Viewer>) -> Response {
    if !viewer.user.is_admin() {
        return access::missing(Some(&viewer), false);
    }
    match facts(&state).await {
        Ok(facts) => show(&state, &viewer, &facts).into_response(),
        Err(error) => access::failed(&error),
    }
}

async fn facts(state: &ConsoleState) -> Result<HealthFacts, StateError> {
    let status = *state.status.lock().unwrap_or_else(PoisonError::into_inner);
    let (folders, home) = (state.site.folders.clone(), state.site.state_folder.clone());
    let read_disk = state.read_disk;
    state
        .read_journal(move |journal| {
            let now = wall_clock();
            let since = |at| CallSearch { since: Some(at), ..CallSearch::default() };
            let in_stage = |stage: JobStage| journal.deliveries_in_stage(stage).map(|rows| rows.len() as u64);
            let owed =
                journal.load_jobs()?.iter().filter(|job| !job.is_settled() && job.stage != JobStage::Parked).count();
            let newest = journal.search(&CallSearch::default(), None, 1)?;
            let disk = |(name, folder): (&'static str, &std::path::PathBuf)| {
                read_disk(folder).ok().map(|space| FolderSpace { folder: name, space })
            };
            let report = ServiceReport::read(&home).unwrap_or_default();
            let mut alarms = report.alarms.clone();
            alarms.reverse();
            Ok(HealthFacts {
                status,
                alarms,
                test: SelfTestResult::read(&home),
                day: journal.count_by_class(&since(now - DAY))?,
                slots: journal.count_by_slot(&since(strip::begin(now)), strip::SLOT)?,
                deliveries: [owed as u64, in_stage(JobStage::Parked)?, in_stage(JobStage::Dead)?],
                blocked: journal.alarm()?,
                kept_bytes: journal.kept_bytes()?,
                disks: ["recordings", "spool"].into_iter().zip(&folders).filter_map(disk).collect(),
                bytes_a_day: journal.recorded_bytes_a_day(now)?,
                mirror: MirrorFacts {
                    report,
                    machines: topology_file::load(&home),
                    newest_call: newest.calls.first().and_then(|call| pages::calls::start(&call.record)),
                },
                now,
            })
        })
        .await
}

impl HealthFacts {
    fn count(&self, classes: &[HeardClass]) -> u64 {
        self.day.iter().filter(|(class, _)| classes.contains(class)).map(|(_, count)| count).sum()
    }

    fn has_alarm(&self, kinds: &[AlarmKind]) -> bool {
        self.alarms.iter().any(|alarm| kinds.contains(&alarm.kind))
    }

    /// Returns how long the free space of the recordings' disk lasts, if recordings grow as in the last week. Returns
    /// `None` for other disks and without recordings.
    fn days_left(&self, lang: Lang, disk: &str, free: u64) -> Option<String> {
        let days = free / self.bytes_a_day.filter(|bytes| disk == "recordings" && *bytes > 0)?;
        let pace = lang.of_two("at the pace of the last week", "при темпе последней недели");
        if days >= MANY_DAYS {
            return Some(format!("{} {pace}", lang.of_two("more than a year left", "хватит больше чем на год")));
        }
        let days = lang.count(days, ["day left", "days left"], ["день", "дня", "дней"]);
        Some(format!("{}{days} {pace}", lang.of_two("", "осталось ")))
    }

    /// Returns the problems that a person must solve. A problem with an open alarm is left out, because the page
    /// already shows the alarm.
    fn tasks(&self, lang: Lang) -> Vec<HealthTask> {
        let mut tasks = Vec::new();
        let mut add = |colour, text: Markup, todo: &str| {
            tasks.push(HealthTask { colour, text, todo: Some(todo.to_owned()) });
        };
        if let Some(blocked) = &self.blocked
            && !self.has_alarm(&[AlarmKind::LoginRefused, AlarmKind::PyrusAway])
        {
            add("bad", lang.translated(&DELIVERY_REASONS, blocked), "callspan calls list --delivery owed");
        }
        let drops = self.status.dropped_by_kernel + self.status.dropped_by_interface;
        if drops > 0 && !self.has_alarm(&[AlarmKind::CaptureDrops]) {
            let frames = lang.count(drops, ["frame was", "frames were"], ["кадр", "кадра", "кадров"]);
            let what = lang.of_two("lost on this machine since the start", "потеряно на этой машине со старта");
            let todo = lang.of_two("a larger capture.buffer_mib", "увеличить capture.buffer_mib");
            add("bad", html! { (frames) " " (what) }, todo);
        }
        for tap in
            self.mirror.report.taps.iter().filter(|tap| !tap.is_up && !self.has_alarm(&[AlarmKind::InterfaceDown]))
        {
            let what =
                lang.of_two("is down: calls on this wire are not recorded", "не работает: звонки с неё не пишутся");
            let text = html! { (lang.of_two("The interface", "Карта")) " " (tap.name) " " (what) };
            add("bad", text, &format!("ip link set {} up", tap.name));
        }
        let mut calls = |n: u64, en: &str, ru: &str, todo: &str| {
            if n > 0 {
                let calls = lang.count(n, ["call", "calls"], ["звонок", "звонка", "звонков"]);
                add("warn", html! { (calls) " " (lang.of_two(en, ru)) }, todo);
            }
        };
        calls(
            self.count(&[HeardClass::Lost]),
            "of the last 24 hours lost a part here",
            "за 24 часа потеряли часть здесь",
            "/calls?day=all&heard=lost",
        );
        calls(
            self.count(&[HeardClass::One, HeardClass::Nothing]),
            "of the last 24 hours lack a side or all sound",
            "за 24 часа без одной стороны или без звука",
            "callspan doctor --seconds 300",
        );
        calls(
            self.deliveries[1] + self.deliveries[2],
            "wait for you: Pyrus refuses them",
            "ждут вас: Pyrus их не принимает",
            "callspan calls retry --all",
        );
        let has_alarm = self.has_alarm(&[AlarmKind::DiskLow, AlarmKind::DiskFull]);
        let full = self
            .disks
            .iter()
            .filter(|disk| disk.space.total > 0 && disk.space.free * 100 / disk.space.total < LOW_PERCENT);
        for FolderSpace { folder, .. } in full.filter(|_| !has_alarm) {
            let what = lang.of_two("is nearly full", "почти заполнен");
            add("bad", html! { (lang.of_two("The disk", "Диск")) " (" (folder) ") " (what) }, "recording.max_disk_gib");
        }
        tasks
    }
}

fn show(state: &ConsoleState, viewer: &Viewer, facts: &HealthFacts) -> Markup {
    let lang = viewer.lang;
    let t = |en, ru| lang.of_two(en, ru);
    let tasks = facts.tasks(lang);
    let count = (facts.alarms.len() + tasks.len()) as u64;
    let (name, colour) = if count == 0 { ("ok", "ok") } else { ("warn", "warn") };
    let title = match count {
        0 => t("All is in order.", "Всё в порядке.").to_owned(),
        n => format!(
            "{} {}",
            lang.count(n, ["thing needs", "things need"], ["дело требует", "дела требуют", "дел требуют"]),
            t("you.", "вас.")
        ),
    };
    let body = html! {
        h1.answer { (pages::marked(name, colour)) " " (title) }
        @if count > 0 {
            section.card aria-labelledby="al" { h2 id="al" { (t("What needs you", "Что требует вас")) }
                ol.list {
                    @for open in facts.alarms.iter().take(MAX_ALARMS) { li { (alarm(state, viewer, open)) } }
                    @for task in &tasks { li { (task_note(lang, task)) } }
                }
            }
        }
        section.card { div.head { h2 { (t("Last 24 hours: the calls that were heard", "Последние 24 часа: какие звонки слышны")) }
            span.muted { (lang.count(facts.day.iter().map(|(_, n)| n).sum(), ["call", "calls"], ["звонок", "звонка", "звонков"])) } }
            (strip::strip(lang, &facts.slots, facts.now)) }
        div.tiles {
            div.stack.stack-4 { (mirror(state, viewer, facts)) (disks(lang, facts)) }
            div.stack.stack-4 { (delivery(viewer, facts)) (box_facts(state, viewer, facts)) }
        }
    };
    pages::shell(viewer, t("Health", "Состояние"), NavEntry::Health, &[], &body)
}

/// Returns the notice about an open alarm.
fn alarm(state: &ConsoleState, viewer: &Viewer, alarm: &Alarm) -> Markup {
    let lang = viewer.lang;
    let t = |en, ru| lang.of_two(en, ru);
    let title = if lang == Lang::Ru { alarm_ru::title(alarm.kind) } else { alarm_text::title(alarm.kind) };
    let is_mirror = matches!(
        alarm.kind,
        AlarmKind::MirrorSilent | AlarmKind::MirrorOneSided | AlarmKind::MediaUnheard | AlarmKind::TestCallFailed
    );
    html! {
        div.note.bad { (pages::mark("bad")) div.stack {
            p { b { (capitalised(title)) } " " span.muted { (t("since", "с")) " " (date_time(alarm.at)) "; " (t("code", "код")) " " code { (alarm.kind.name()) } } }
            p { (lang.translated(&ALARMS, &alarm.detail)) }
            @if let Some(id) = &alarm.call { p { a href={ "/calls/" (id) } { (t("The call", "Звонок")) } } }
            @if is_mirror { (doctor_button(state, viewer, true)) }
        } }
    }
}

fn task_note(lang: Lang, task: &HealthTask) -> Markup {
    let todo = task.todo.as_deref().unwrap_or_default();
    html! {
        div class={ "note " (task.colour) } {
            (pages::mark(if task.colour == "bad" { "bad" } else { "warn" }))
            div.stack { p { b { (task.text) } }
                @if todo.starts_with('/') { p { a href=(todo) { (lang.of_two("Show them", "Показать их")) } } }
                @else if !todo.is_empty() { div.cmd { code { (todo) } button.plain type="button" data-copy { (lang.of_two("Copy", "Копировать")) } } }
            }
        }
    }
}

fn doctor_button(state: &ConsoleState, viewer: &Viewer, is_primary: bool) -> Markup {
    let words = viewer.lang.of_two("Look at the mirror for 30 s", "Смотреть зеркало 30 с");
    html! {
        @if !state.site.interfaces.is_empty() {
            form method="post" action="/health/doctor" { (pages::csrf(viewer)) button class=[is_primary.then_some("primary")] { (words) } }
        }
    }
}

fn mirror(state: &ConsoleState, viewer: &Viewer, facts: &HealthFacts) -> Markup {
    let mirror = facts.mirror.html(viewer.lang, &state.site.interfaces, &facts.status, facts.now);
    html! { section.card.stack { (mirror) (doctor_button(state, viewer, false)) } }
}

fn delivery(viewer: &Viewer, facts: &HealthFacts) -> Markup {
    let lang = viewer.lang;
    let t = |en, ru| lang.of_two(en, ru);
    html! {
        section.card.stack { h2 { (t("Delivery to Pyrus", "Передача в Pyrus")) } dl.facts {
            (fact(t("Owed", "В очереди"), &lang.grouped(facts.deliveries[0])))
            (fact(t("Parked", "Отложено"), &lang.grouped(facts.deliveries[1])))
            (fact(t("Dead", "Не передано"), &lang.grouped(facts.deliveries[2])))
        } div.row {
            @if facts.deliveries[1] + facts.deliveries[2] > 0 {
                form method="post" action="/health/retry" { (pages::csrf(viewer)) button { (t("Try all again", "Повторить все")) } }
            }
            a href="/calls?day=all&delivery=parked" { (t("The parked calls", "Отложенные звонки")) }
        } }
    }
}

fn disks(lang: Lang, facts: &HealthFacts) -> Markup {
    let t = |en, ru| lang.of_two(en, ru);
    html! {
        section.card.stack { h2 { (t("Disks", "Диски")) }
            @for FolderSpace { folder, space: DiskSpace { free, total, .. } } in &facts.disks { div {
                p.head { b { (if *folder == "spool" { t("Spool", "Буфер") } else { t("Recordings", "Записи") }) } span { (size(lang, *free)) " " (t("free", "свободно")) } }
                @let used = if *total > 0 { 100 - free * 100 / total } else { 0 };
                svg.bar aria-hidden="true" { rect.s-none width="100%" height="12" {} rect.s-caller width={ (used) "%" } height="12" {} }
                @if let Some(left) = facts.days_left(lang, folder, *free) { p.small { (left) } }
            } }
            p.small.muted { (size(lang, facts.kept_bytes)) " " (t("of recordings", "записей")) }
        }
    }
}

/// Returns the part of the health page about the test call, the calls of the last 24 hours, the version and the site.
fn box_facts(state: &ConsoleState, viewer: &Viewer, facts: &HealthFacts) -> Markup {
    let lang = viewer.lang;
    let t = |en, ru| lang.of_two(en, ru);
    html! {
        div.stack.stack-4 {
            (test_call::section(state, viewer, facts.test.as_ref()))
            section.card.stack { h2 { (t("Last 24 hours", "Последние 24 часа")) } dl.facts {
                @for (class, count) in &facts.day { (fact(lang.heard(*class), &lang.grouped(*count))) }
                (fact(t("Version", "Версия"), &format!("callspan {}", env!("CARGO_PKG_VERSION"))))
                @if !state.site.appliance.is_empty() { (fact(t("Site", "Площадка"), &state.site.appliance)) }
            } }
        }
    }
}

fn fact(name: &str, value: &str) -> Markup {
    html! { dt { (name) } dd { (value) } }
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);
/// Limit of the free share of a disk, per cent. If less is free, a person must act.
const LOW_PERCENT: u64 = 5;
/// If the free space of a disk lasts for this number of days (a year) or more, the page does not show the number.
const MANY_DAYS: u64 = 366;
/// Maximum number of open alarms on the page, so that other tasks stay visible below them.
const MAX_ALARMS: usize = 20;
