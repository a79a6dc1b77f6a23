//! The search form of the list of calls, and a chip (small button) for each filter that is set.

use maud::{Markup, html};

use super::super::query::CallsQuery;
use super::super::source::ConsolePlace;
use super::super::text::Lang;
use super::mark;
use crate::call::record::DeliveryState;
use crate::journal::HeardClass;

/// Returns the HTML of the search form.
pub(super) fn form(lang: Lang, place: ConsolePlace, query: &CallsQuery) -> Markup {
    let t = |en, ru| lang.of_two(en, ru);
    let filters = query.filters();
    html! {
        form.card.search role="search" action="/calls" {
            div.ask {
                div.field {
                    label for="q" { (t("Number, name, extension", "Номер, имя, внутренний")) }
                    input id="q" name="q" type="search" value=(query.q) autocomplete="off" placeholder=(t("300-22-85, 120, Petrova", "300-22-85, 120, Петрова")) aria-describedby="hint";
                }
                button.primary { (mark("search")) (t("Find", "Найти")) }
            }
            p.vh id="hint" { (t("Results change as you type.", "Результаты меняются по мере ввода.")) }
            label.check.more-toggle {
                input type="checkbox"; (t("More filters", "Ещё фильтры"))
                @if filters > 0 { span.muted { (filters) " " (t("set", "задано")) } }
            }
            div.filters {
                (select(lang, "day", t("When", "Когда"), query))
                div.days { (pair(t("Days", "Даты"), PairField::date("from", &query.from), PairField::date("to", &query.to), lang)) }
                (pair(t("Time of day", "Время суток"), PairField::text("t1", &query.t1, "00:00"), PairField::text("t2", &query.t2, "24:00"), lang))
                (select(lang, "direction", t("Direction", "Направление"), query))
                (select(lang, "outcome", t("Outcome", "Исход"), query))
                (select(lang, "heard", t("Recording", "Запись"), query))
                (select(lang, "delivery", "Pyrus", query))
                @if place == ConsolePlace::Centre { div.field { label for="site" { (t("Site", "Площадка")) }
                    input id="site" name="site" type="text" value=(query.site) placeholder="north"; } }
                div.field { label for="ext" { (t("Extension", "Внутренний")) }
                    input id="ext" name="ext" type="text" value=(query.ext) placeholder="1xx"; }
                (pair(t("Length, min", "Длина, мин"), PairField::text("min", &query.min, "0"), PairField::text("max", &query.max, "∞"), lang))
            }
        }
    }
}

/// Returns a chip for each filter that is set. It is a link to the search without this filter.
pub(super) fn chips(lang: Lang, query: &CallsQuery) -> Markup {
    let set = set_filters(lang, query);
    html! {
        @if !set.is_empty() {
            div.chips { @for (words, link) in set {
                a.chip href=(link) { (words) (mark("x")) span.vh { (lang.of_two(", remove the filter", ", снять фильтр")) } }
            } }
        }
    }
}

/// Returns the text of each filter that is set, and the link to the search without this filter.
fn set_filters(lang: Lang, query: &CallsQuery) -> Vec<(String, String)> {
    let t = |en, ru| lang.of_two(en, ru);
    let mut set: Vec<(String, String)> = Vec::new();
    let mut add = |words: String, change: &dyn Fn(&mut CallsQuery)| set.push((words, query.link("/calls", change)));
    let range = |from: &str, to: &str, open: [&str; 2]| {
        let end = |text: &str, open: &str| if text.is_empty() { open.to_owned() } else { text.to_owned() };
        format!("{}–{}", end(from, open[0]), end(to, open[1]))
    };
    if query.is_dated() {
        add(range(&query.from, &query.to, ["…", "…"]), &|q| {
            (q.day, q.from, q.to) = (String::new(), String::new(), String::new());
        });
    } else if let Some(words) = word(lang, "day", query) {
        add(words, &|q| q.day.clear());
    }
    if !query.t1.is_empty() || !query.t2.is_empty() {
        add(range(&query.t1, &query.t2, ["00:00", "24:00"]), &|q| (q.t1, q.t2) = (String::new(), String::new()));
    }
    let selects: [FilterRemoval<'_>; 4] = [
        ("direction", &|q| q.direction.clear()),
        ("outcome", &|q| q.outcome.clear()),
        ("heard", &|q| q.heard.clear()),
        ("delivery", &|q| q.delivery.clear()),
    ];
    for (name, change) in selects {
        if let Some(words) = word(lang, name, query) {
            add(words, change);
        }
    }
    if !query.site.is_empty() {
        add(format!("{} {}", t("site", "площадка"), query.site), &|q| q.site.clear());
    }
    if !query.ext.is_empty() {
        add(format!("{} {}", t("extension", "внутренний"), query.ext), &|q| q.ext.clear());
    }
    if !query.min.is_empty() || !query.max.is_empty() {
        let words = format!("{} {}", range(&query.min, &query.max, ["0", "∞"]), t("min", "мин"));
        add(words, &|q| (q.min, q.max) = (String::new(), String::new()));
    }
    set
}

/// Name of a filter, and a function that removes this filter from a search.
type FilterRemoval<'a> = (&'a str, &'a dyn Fn(&mut CallsQuery));

/// Returns the text of the value that a filter is set to; `None` if the filter is not set.
fn word(lang: Lang, name: &str, query: &CallsQuery) -> Option<String> {
    let value = value(name, query);
    let found = choices(lang, name, query).into_iter().find(|(choice, _)| !choice.is_empty() && *choice == value);
    let (_, words) = found?;
    Some(if name == "delivery" { format!("Pyrus: {words}") } else { words.to_owned() })
}

fn value<'a>(name: &str, query: &'a CallsQuery) -> &'a str {
    match name {
        "day" if query.is_dated() => "dates",
        "day" => &query.day,
        "direction" => &query.direction,
        "outcome" => &query.outcome,
        "heard" => &query.heard,
        _ => &query.delivery,
    }
}

/// Returns the possible values of a filter: for each value its word in the URL, and its text for people.
fn choices(lang: Lang, name: &str, query: &CallsQuery) -> Vec<(&'static str, &'static str)> {
    let t = |en: &'static str, ru: &'static str| lang.of_two(en, ru);
    let any = ("", t("Any", "Любое"));
    match name {
        "day" => vec![
            (
                "",
                if query.q.is_empty() {
                    t("Newest day", "Последний день")
                } else {
                    t("Any time", "Любое время")
                },
            ),
            ("today", t("Today", "Сегодня")),
            ("yesterday", t("Yesterday", "Вчера")),
            ("7", t("7 days", "7 дней")),
            ("30", t("30 days", "30 дней")),
            ("all", t("Any time", "Любое время")),
            ("dates", t("Chosen days", "Выбранные дни")),
        ],
        "direction" => vec![
            any,
            ("inbound", t("Incoming", "Входящие")),
            ("outbound", t("Outgoing", "Исходящие")),
            ("internal", t("Internal", "Внутренние")),
        ],
        "outcome" => vec![
            any,
            ("answered", t("Answered", "Отвечен")),
            ("unanswered", t("Not answered", "Без ответа")),
            ("busy", t("Busy", "Занято")),
            ("declined", t("Declined", "Отклонён")),
            ("failed", t("Failed", "Не состоялся")),
        ],
        "heard" => {
            std::iter::once(any).chain(HeardClass::ALL.map(|class| (class.as_str(), lang.heard(class)))).collect()
        }
        _ => std::iter::once(any).chain(DELIVERIES.map(|(word, state)| (word, lang.delivery(state)))).collect(),
    }
}

fn select(lang: Lang, name: &str, label: &str, query: &CallsQuery) -> Markup {
    let value = value(name, query);
    html! {
        div.field {
            label for=(name) { (label) }
            select id=(name) name=(name) {
                @for (word, text) in choices(lang, name, query) { option value=(word) selected[word == value] { (text) } }
            }
        }
    }
}

/// A form field for the beginning or the end of a range, e.g. of the length of a call.
struct PairField<'a> {
    kind: &'static str,
    name: &'static str,
    value: &'a str,
    placeholder: Option<&'static str>,
}

impl<'a> PairField<'a> {
    const fn date(name: &'static str, value: &'a str) -> Self {
        Self { kind: "date", name, value, placeholder: None }
    }

    const fn text(name: &'static str, value: &'a str, placeholder: &'static str) -> Self {
        Self { kind: "text", name, value, placeholder: Some(placeholder) }
    }
}

fn pair(label: &str, first: PairField<'_>, second: PairField<'_>, lang: Lang) -> Markup {
    let field = |field: PairField<'_>, words: &str| {
        html! { input type=(field.kind) name=(field.name) value=(field.value) placeholder=[field.placeholder]
        aria-label={ (label) ", " (words) } inputmode="numeric"; }
    };
    html! {
        div.field {
            span.label { (label) }
            div.pair role="group" aria-label=(label) {
                (field(first, lang.of_two("from", "от")))
                (field(second, lang.of_two("to", "до")))
            }
        }
    }
}

const DELIVERIES: [(&str, DeliveryState); 5] = [
    ("done", DeliveryState::Done),
    ("owed", DeliveryState::Owed),
    ("parked", DeliveryState::Parked),
    ("dead", DeliveryState::Dead),
    ("none", DeliveryState::None),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_set_filter_has_a_link_without_it() {
        let query = CallsQuery {
            q: String::from("300"),
            from: String::from("2026-11-01"),
            t2: String::from("13:00"),
            heard: String::from("lost"),
            delivery: String::from("parked"),
            min: String::from("2"),
            outcome: String::from("<script>"),
            ..CallsQuery::default()
        };
        let set = set_filters(Lang::En, &query);
        let words: Vec<_> = set.iter().map(|(words, _)| words.as_str()).collect();
        assert_eq!(words, ["2026-11-01–…", "00:00–13:00", "lost by us", "Pyrus: parked", "2–∞ min"]);
        assert!(!set[0].1.contains("from=") && set[0].1.contains("q=300"), "{}", set[0].1);
        assert!(!set[4].1.contains("min=") && set[4].1.contains("t2=13"), "{}", set[4].1);
    }
}
