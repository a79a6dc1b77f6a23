//! HTML that several pages share: the frame with the navigation, symbols, names of callers, error pages.

use std::time::Duration;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::access::Viewer;
use super::accounts::AuditAction;
use super::assets::SPRITE;
use super::query::encoded;
use super::source::ConsolePlace;
use super::text::zone;
use crate::call::record::{CallRecord, CallVerdict};
use crate::journal::HeardClass;
use crate::service::clock::wall_clock;

pub(super) mod call;
pub(super) mod calls;
mod delivery;
mod filters;
mod ladder;
mod notes;
pub(super) mod refusal;
pub(super) mod strip;
pub(super) mod waveform;

/// The entries of the navigation. Each page names the entry to which it belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NavEntry {
    /// The list of calls.
    Calls,
    /// The page that explains why a call is missing.
    Why,
    /// The page of live calls.
    Live,
    /// The page about the health of the recorder.
    Health,
    /// The page of the sites, in a console of a central archive.
    Sites,
    /// No entry: the page is not in the navigation.
    Other,
}

/// Returns a complete page with the navigation. `scripts` are the names of embedded script files.
pub(super) fn shell(viewer: &Viewer, title: &str, nav: NavEntry, scripts: &[&str], body: &Markup) -> Markup {
    let t = |en, ru| viewer.lang.of_two(en, ru);
    html! {
        (DOCTYPE)
        html lang=(viewer.lang.code()) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) " · callspan" }
                link rel="icon" href="data:,";
                link rel="stylesheet" href="/assets/console.css";
                script type="module" src="/assets/console.js" {}
                @for script in scripts { script type="module" src={ "/assets/" (script) } {} }
            }
            body {
                a.skip href="#main" { (t("To the content", "К содержанию")) }
                (PreEscaped(SPRITE))
                @if nav != NavEntry::Other || viewer.csrf.is_some() { (top(viewer, nav)) }
                main id="main" tabindex="-1" { (body) }
                footer.foot {
                    span { "callspan " (env!("CARGO_PKG_VERSION")) }
                    span { (t("All times", "Время")) " " (zone(wall_clock())) }
                    button.plain.small.keys-btn type="button" data-keys { (t("Keyboard keys", "Клавиши")) " " kbd { "?" } }
                }
                (key_list(viewer))
            }
        }
    }
}

fn top(viewer: &Viewer, nav: NavEntry) -> Markup {
    let t = |en, ru| viewer.lang.of_two(en, ru);
    let entry = |here: NavEntry, path: &str, text: &str, pill: Option<(String, &str)>| {
        html! { a href=(path) aria-current=[(here == nav).then_some("page")] { (text)
        @if let Some((count, colour)) = pill { " " span class={ "pill " (colour) } { (count) } } } }
    };
    let (live, alarms) = (viewer.counts.live, viewer.counts.alarms as u64);
    let live = (live > 0).then(|| (live.to_string(), ""));
    let alarms =
        (alarms > 0).then(|| (viewer.lang.count(alarms, ["alarm", "alarms"], ["тревога", "тревоги", "тревог"]), "bad"));
    let other = if viewer.lang.code() == "ru" { ("en", "English") } else { ("ru", "Русский") };
    html! {
        header.top { div {
            a.brand href="/calls" { (mark("both")) "callspan" }
            nav.nav aria-label=(t("Main", "Основное")) {
                (entry(NavEntry::Calls, "/calls", t("Calls", "Звонки"), None))
                (entry(NavEntry::Why, "/why", t("Why not there", "Почему нет"), None))
                @if viewer.place == ConsolePlace::Recorder {
                    @if viewer.user.may(super::accounts::AccountRight::Live) {
                        (entry(NavEntry::Live, "/live", t("Live", "Сейчас"), live))
                    }
                    @if viewer.user.is_admin() { (entry(NavEntry::Health, "/health", t("Health", "Состояние"), alarms)) }
                } @else if viewer.user.is_admin() { (entry(NavEntry::Sites, "/sites", t("Sites", "Площадки"), None)) }
            }
            details.menu.bare {
                summary { (viewer.user.name) }
                div {
                    a href=(with_language(&viewer.here, other.0)) lang=(other.0) { (other.1) }
                    @if viewer.user.may_audit() {
                        a href="/users" { (t("Users", "Пользователи")) }
                        a href="/audit" { (t("Who listened", "Кто слушал")) }
                    }
                    a href="/api" { (t("API for programs", "API для программ")) }
                    @if viewer.csrf.is_some() {
                        form method="post" action="/logout" {
                            (csrf(viewer))
                            button.plain { (t("Sign out", "Выйти")) }
                        }
                    }
                }
            }
        } }
    }
}

/// Returns the address of the current page in another language.
fn with_language(here: &str, lang: &str) -> String {
    let (path, query) = here.split_once('?').unwrap_or((here, ""));
    let rest: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("lang=")).collect();
    let joint = if rest.is_empty() { "" } else { "&" };
    format!("{path}?{}{joint}lang={lang}", rest.join("&"))
}

fn key_list(viewer: &Viewer) -> Markup {
    let t = |en, ru| viewer.lang.of_two(en, ru);
    let rows = [
        ("/", t("go to the search field", "к полю поиска")),
        ("J   K", t("next, previous call in the list", "следующий, предыдущий звонок в списке")),
        ("Enter", t("open the call", "открыть звонок")),
        ("Space", t("play or pause", "слушать или пауза")),
        ("←   →", t("10 s back, forward", "10 с назад, вперёд")),
        ("1   2   3", t("both sides, caller only, callee only", "обе стороны, звонивший, ответивший")),
        ("[   ]", t("slower, faster", "медленнее, быстрее")),
        ("Esc", t("close", "закрыть")),
    ];
    html! {
        dialog aria-labelledby="kt" {
            h2 id="kt" { (t("Keyboard keys", "Клавиши")) }
            div.keys { @for (key, text) in rows { span { kbd { (key) } } span { (text) } } }
            form method="dialog" { button { (t("Close", "Закрыть")) } }
        }
    }
}

/// Returns the HTML of a symbol from the SVG sprite.
pub(super) fn mark(name: &str) -> Markup {
    marked(name, "")
}

/// Returns the HTML of a symbol from the SVG sprite, with an additional CSS class.
pub(super) fn marked(name: &str, class: &str) -> Markup {
    // `name` and `class` are constants of the program, so they need no escaping.
    PreEscaped(format!("<svg class=\"m {class}\" aria-hidden=\"true\"><use href=\"#m-{name}\"/></svg>"))
}

/// Returns the hidden field with the CSRF token, which every form contains.
pub(super) fn csrf(viewer: &Viewer) -> Markup {
    html! { @if let Some(token) = &viewer.csrf { input type="hidden" name="csrf" value=(token); } }
}

/// Returns the symbol and the CSS colour for a class of calls (by how much can be heard).
pub(super) const fn class_mark(class: HeardClass) -> (&'static str, &'static str) {
    match class {
        HeardClass::Both => ("both", "ok"),
        HeardClass::One => ("caller", "warn"),
        HeardClass::Nothing => ("nomedia", "warn"),
        HeardClass::Locked => ("lock", ""),
        HeardClass::Lost => ("lost", "bad"),
        HeardClass::Excluded => ("excl", ""),
        HeardClass::Unanswered => ("unans", ""),
        HeardClass::Pending => ("wait", ""),
    }
}

/// Returns the HTML for the verdict of a call (whether the call can be heard): its symbol and its text.
pub(super) fn verdict(viewer: &Viewer, record: &CallRecord) -> Markup {
    let class = HeardClass::of(record);
    let (mut name, colour) = class_mark(class);
    if record.verdict == Some(CallVerdict::CalleeOnly) {
        name = "callee";
    }
    let colour = match class {
        HeardClass::One | HeardClass::Nothing => "warn",
        HeardClass::Lost => colour,
        _ => "quiet",
    };
    let words = if class == HeardClass::Lost { viewer.lang.heard(class) } else { viewer.lang.verdict(record.verdict) };
    html! { span class={ "v " (colour) } { (mark(name)) span { (words) } } }
}

/// Formats a telephone number for people. The digits of Russian numbers are grouped; all other numbers stay unchanged.
pub(super) fn number(text: &str) -> String {
    match text.strip_prefix("+7").map(|rest| (rest, rest.len())) {
        Some((rest, 10)) if rest.bytes().all(|b| b.is_ascii_digit()) => {
            format!("+7 {} {}-{}-{}", &rest[..3], &rest[3..6], &rest[6..8], &rest[8..])
        }
        _ => text.to_owned(),
    }
}

/// Returns the text for the caller of a call: number or name.
pub(super) fn caller(viewer: &Viewer, record: &CallRecord) -> String {
    record.from.as_deref().map_or_else(|| viewer.lang.of_two("number withheld", "номер скрыт").to_owned(), number)
}

/// Returns the text for the called number. If another extension answered, the text contains this extension, too.
pub(super) fn callee(viewer: &Viewer, record: &CallRecord) -> String {
    let to = record.to.as_deref().map_or_else(|| viewer.lang.of_two("unknown", "неизвестно").to_owned(), number);
    match &record.internal {
        Some(extension) if Some(extension) != record.to.as_ref() && Some(extension) != record.from.as_ref() => {
            format!("{to} → {extension}")
        }
        _ => to,
    }
}

/// Returns the page "not found" for a call or URL that does not exist or that the account may not see.
pub(super) fn missing(viewer: &Viewer) -> Markup {
    let t = |en, ru| viewer.lang.of_two(en, ru);
    let body = html! {
        section.card.empty {
            h1 { (t("Nothing here that you may see", "Здесь нет ничего, что вам можно видеть")) }
            p { (t(
                "The call does not exist, was removed, or is outside the scope of your account.",
                "Звонка нет, он удалён, или он вне прав вашей учётной записи.",
            )) }
            p { a.btn href="/calls" { (t("To the calls", "К звонкам")) } }
        }
    };
    shell(viewer, t("Not found", "Не найдено"), NavEntry::Calls, &[], &body)
}

/// Returns the sign-in page. If the last attempt failed, `pause` is the time until the next attempt is accepted.
pub(super) fn sign_in(viewer: &Viewer, next: &str, pause: Option<Duration>) -> Markup {
    let t = |en, ru| viewer.lang.of_two(en, ru);
    let other = if viewer.lang.code() == "ru" { ("en", "English") } else { ("ru", "Русский") };
    let body = html! {
        section.gate.card.stack.stack-4 {
            p.brand { (mark("both")) "callspan" }
            h1 { (t("Sign in", "Вход")) }
            @if let Some(pause) = pause {
                div.note.warn role="alert" { (mark("warn")) div { p {
                    b { (t("Name, password or code is wrong.", "Имя, пароль или код неверны.")) } " "
                    (t("The next try is possible in", "Следующая попытка через")) " "
                    b { (pause.as_secs().max(1)) " " (t("s", "с")) }
                    (t("; the pause doubles each time.", "; пауза каждый раз удваивается."))
                } } }
            }
            form.stack method="post" action="/login" {
                input type="hidden" name="next" value=(next);
                div.field { label for="un" { (t("Name", "Имя")) }
                    input id="un" type="text" name="user" autocomplete="username" autocapitalize="none" spellcheck="false" required; }
                div.field { label for="pw" { (t("Password", "Пароль")) }
                    input id="pw" type="password" name="password" autocomplete="current-password" aria-describedby="ph" required; }
                div.field { label for="code" { (t("Code of the app, if you use one", "Код из приложения, если вы им пользуетесь")) }
                    input id="code" type="text" name="code" inputmode="numeric" autocomplete="one-time-code"; }
                button.primary { (t("Sign in", "Войти")) }
            }
            p.muted.small id="ph" {
                (t("No account? An administrator makes one on the box:", "Нет учётной записи? Её создаёт администратор на машине:"))
                " " code { "callspan user add NAME --role listener" }
            }
            p { a href={ "/login?lang=" (other.0) "&next=" (encoded(next)) } lang=(other.0) { (other.1) } }
        }
    };
    shell(viewer, t("Sign in", "Вход"), NavEntry::Other, &[], &body)
}

/// Returns the text for an action in the audit log, in the language of the page.
pub(super) fn action_words(lang: super::text::Lang, action: &str) -> &str {
    let Some(known) = AuditAction::from_word(action) else { return action };
    match known {
        AuditAction::Played => lang.of_two("listened", "слушал"),
        AuditAction::Downloaded => lang.of_two("downloaded", "скачал"),
        AuditAction::Listed => lang.of_two("downloaded a list", "скачал список"),
        AuditAction::SignedIn => lang.of_two("signed in", "вошёл"),
        AuditAction::WrongPassword => lang.of_two("wrong password", "неверный пароль"),
        AuditAction::Changed => lang.of_two("changed", "изменил"),
        AuditAction::Noted => lang.of_two("noted", "заметил"),
        AuditAction::Paused => lang.of_two("paused or resumed", "приостановил или продолжил"),
    }
}
