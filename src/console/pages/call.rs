//! HTML of the page of a call.

use maud::{Markup, html};

use super::super::access::Viewer;
use super::super::accounts::AccountRight;
use super::super::call::CallFacts;
use super::super::ladder::CallLadder;
use super::super::sound::{audio_type, may_convert};
use super::super::source::ConsolePlace;
use super::super::text::{Lang, clock_time, date_time, iso_day, length, size};
use super::waveform::{MarkKind, Timeline, TimelineMark, waveform};
use super::{NavEntry, callee, caller, csrf, mark, marked, shell, verdict};
use crate::call::record::{CallRecord, RecordingFile, Side};
use crate::central::calls::OtherSiteCall;
use crate::journal::HeardClass;
use crate::recording::convert::DownloadFormat;

/// Returns the HTML of the page of a call.
pub(in super::super) fn page(viewer: &Viewer, facts: &CallFacts) -> Markup {
    let record = &facts.record;
    let time = super::calls::start(record).map(clock_time).unwrap_or_default();
    let body = html! {
        (title(viewer, facts))
        (notice(viewer, facts))
        (recording(viewer, facts))
        div.cols {
            div.stack.stack-4 { (legs(viewer, facts)) (quality(viewer, record)) (problems(viewer, record)) }
            div.stack.stack-4 {
                (super::notes::notes(viewer, facts)) (super::delivery::delivery(viewer, facts)) (kept(viewer, record)) (elsewhere(viewer, facts)) (related(viewer, facts)) (heard_by(viewer, facts))
            }
        }
    };
    let name = format!("{} {time}, {}", viewer.lang.of_two("Call", "Звонок"), caller(viewer, record));
    // The script `unlock.js` comes first: it decrypts the sound that the script `player.js` then plays.
    let scripts: &[&str] = if is_locked(record) { &["unlock.js", "player.js"] } else { &["player.js"] };
    shell(viewer, &name, NavEntry::Calls, scripts, &body)
}

fn title(viewer: &Viewer, facts: &CallFacts) -> Markup {
    let (record, lang) = (&facts.record, viewer.lang);
    let t = |en, ru| lang.of_two(en, ru);
    let start = super::calls::start(record);
    let wait = record.invited_at.zip(record.answered_at).map(|(i, a)| a.since(i).as_secs());
    let day = start.map(iso_day).unwrap_or_default();
    html! {
        div.title {
            div.stack {
                p { a href={ "/calls?from=" (day) "&to=" (day) } { "← " (t("Calls of this day", "Звонки этого дня")) } }
                h1.parties {
                    span { span.nowrap { (caller(viewer, record)) } @if let Some(name) = &record.from_name { " " (name) } }
                    span { span.to { (t("to", "→")) } " " (callee(viewer, record)) @if let Some(name) = &record.to_name { " " (name) } }
                }
                p.muted {
                    (lang.direction(record.direction)) @if let Some(at) = start { ", " (date_time(at)) }
                    @if let Some(seconds) = wait { ", " (t("answered after", "ответ через")) " " (seconds) " " (t("s", "с")) }
                    @else { ", " (lang.outcome(record.outcome)) }
                    @if let Some(seconds) = record.duration_s { ", " (length(seconds)) }
                    @if let Some(ended) = record.ended_by { ", " (lang.ended_by(ended)) }
                }
            }
            div.row.actions {
                @if let (Some(url), Some(id)) = (&facts.task_url, record.delivery.task_id) {
                    a.btn href={ (url) (id) } rel="noreferrer" { (t("Task", "Задача")) " " (id) " " (mark("ext")) }
                }
                @if viewer.user.may(AccountRight::Download) { (downloads(viewer, facts)) }
            }
        }
    }
}

fn downloads(viewer: &Viewer, facts: &CallFacts) -> Markup {
    let (record, t) = (&facts.record, |en, ru| viewer.lang.of_two(en, ru));
    html! {
        details.menu {
            summary { (t("Download", "Скачать")) }
            div {
                @for file in &record.recordings {
                    a href={ "/calls/" (viewer.call_key(record)) "/sound/" (file.part) "?download=1" } {
                        (file.format.to_uppercase()) @if file.plain_sha256.is_some() { " .age" }
                        @if record.recordings.len() > 1 { " " (t("part", "часть")) " " (file.part) }
                        " " span.muted { (size(viewer.lang, file.bytes)) }
                    }
                    @for to in converted(viewer, file) {
                        a href={ "/calls/" (viewer.call_key(record)) "/sound/" (file.part) "?as=" (to.name()) } {
                            (to.name().to_uppercase()) @if record.recordings.len() > 1 { " " (t("part", "часть")) " " (file.part) }
                            " " span.muted { (t("converted", "преобразовать")) }
                        }
                    }
                }
                @for leg in &facts.packets {
                    a href={ "/calls/" (viewer.call_key(record)) "/packets/" (leg) } { (t("Packets for Wireshark, leg", "Пакеты для Wireshark, плечо")) " " (leg) }
                }
                a href={ "/calls/" (viewer.call_key(record)) "/record.json" } { (t("Record", "Запись о звонке")) " " span.muted { "JSON" } }
            }
        }
    }
}

/// Returns the formats into which this console can convert a recording. A central console converts nothing, because it
/// has no files.
fn converted(viewer: &Viewer, file: &RecordingFile) -> impl Iterator<Item = DownloadFormat> {
    let is_here = viewer.place == ConsolePlace::Recorder;
    DownloadFormat::ALL.into_iter().filter(move |to| is_here && may_convert(file, *to))
}

fn notice(viewer: &Viewer, facts: &CallFacts) -> Markup {
    let (record, lang) = (&facts.record, viewer.lang);
    let class = HeardClass::of(record);
    let (name, colour) = match class {
        HeardClass::Both => ("both", "ok"),
        other => super::class_mark(other),
    };
    let reason =
        record.verdict_reason.as_deref().filter(|_| class != HeardClass::Both).map(|reason| lang.reason(reason));
    html! {
        div class={ "note " (colour) } {
            (mark(name))
            div {
                p { b { (lang.verdict_sentence(record.verdict)) }
                    @if let Some(seconds) = paused_seconds(record) { " " (lang.count(seconds, ["second was", "seconds were"], ["секунда", "секунды", "секунд"]))
                        " " (lang.of_two("paused on request.", "приостановлено по просьбе.")) }
                    @if class == HeardClass::Lost { " " (lang.of_two("A part was lost by this recorder.", "Часть потеряна этим регистратором.")) } }
                @if let Some((reason, lang)) = reason { p.muted lang=(lang) { (reason) } }
                @if let Some((at, _)) = &facts.removed {
                    p { (lang.of_two("The recording was removed", "Запись удалена")) " " (date_time(*at)) "." }
                }
            }
        }
    }
}

/// Returns the total length of all pauses of the recording, seconds; `None` without pauses.
fn paused_seconds(record: &CallRecord) -> Option<u64> {
    let lengths =
        record.paused.iter().filter_map(|pause| Some(pause.to.or(record.ended_at)?.since(pause.from).as_secs_f64()));
    Some(lengths.sum::<f64>().round() as u64).filter(|seconds| *seconds > 0)
}

fn recording(viewer: &Viewer, facts: &CallFacts) -> Markup {
    let record = &facts.record;
    let t = |en, ru| viewer.lang.of_two(en, ru);
    if record.recordings.is_empty() || facts.removed.is_some() {
        return html! {};
    }
    if !viewer.user.may(AccountRight::Play) {
        return html! { div.note { (mark("lock")) div { p { (t("Your account does not hear recordings.", "Ваша учётная запись не слушает записи.")) } } } };
    }
    let line = Timeline::of(record);
    let is_locked = is_locked(record);
    html! {
        section.card.stack aria-label=(t("Recording", "Запись")) data-player data-locked[is_locked] {
            @if is_locked { (unlock(viewer)) }
            div.stack data-opened hidden[is_locked] {
                (waveform(viewer.lang, facts, &line))
                (controls(viewer, facts, &line))
            }
            @if !line.marks.is_empty() {
                ol.marks { @for (n, mark) in line.marks.iter().enumerate() { (mark_row(viewer, n + 1, mark)) } }
            }
        }
    }
}

fn is_locked(record: &CallRecord) -> bool {
    record.recordings.iter().any(|file| file.plain_sha256.is_some())
}

/// Returns the form in which a listener enters the secret key for an encrypted recording. The page's script shows the
/// form.
fn unlock(viewer: &Viewer) -> Markup {
    let t = |en, ru| viewer.lang.of_two(en, ru);
    html! {
        div.note { (mark("lock")) div.stack {
            p { b { (t("The recording is encrypted.", "Запись зашифрована.")) } " "
                (t("This machine cannot open it; your key opens it in this tab.", "Эта машина открыть её не может; ваш ключ откроет её в этой вкладке.")) }
            form.row data-unlock hidden {
                div.field { label for="key" { (t("Key", "Ключ")) }
                    input id="key" name="key" type="password" autocomplete="off" spellcheck="false" placeholder="AGE-SECRET-KEY-1…"; }
                div.field { label for="keyfile" { (t("or its file", "или его файл")) } input id="keyfile" name="keyfile" type="file"; }
                button.primary { (t("Open", "Открыть")) }
            }
            p.muted role="status" data-unlock-said { (t("The key is never sent or stored. Without this page: ", "Ключ никуда не отправляется и не хранится. Без этой страницы: ")) code { "age -d -i KEY.txt FILE.age" } }
        } }
    }
}

fn controls(viewer: &Viewer, facts: &CallFacts, line: &Timeline) -> Markup {
    let t = |en, ru| viewer.lang.of_two(en, ru);
    let part = |(file, (from, to)): (&crate::call::record::RecordingFile, &(f64, f64))| {
        let kind = audio_type(file);
        serde_json::json!({ "url": format!("/calls/{}/sound/{}", viewer.call_key(&facts.record), file.part), "from": from, "to": to, "kind": kind })
    };
    let parts: serde_json::Value = facts.record.recordings.iter().zip(&line.parts).map(part).collect();
    let end = line.end();
    html! {
        label.vh for="seek" { (t("Position", "Место")) }
        input.seek id="seek" type="range" min="0" max={ (format!("{end:.2}")) } step="0.1" value="0"
            aria-valuetext={ "0:00 " (t("of", "из")) " " (length(end)) } data-parts=(parts.to_string());
        p.note.bad role="alert" data-fail hidden {}
        noscript { @if !is_locked(&facts.record) {
            @for file in &facts.record.recordings { audio controls preload="none" src={ "/calls/" (viewer.call_key(&facts.record)) "/sound/" (file.part) } {} }
        } }
        div.ctl {
            div.row {
                button type="button" data-skip="-10" { "−10 " (t("s", "с")) span.vh { (t(", back", ", назад")) } }
                button.primary.play type="button" data-toggle { (mark("play")) span { (t("Play", "Слушать")) } }
                button type="button" data-skip="10" { "+10 " (t("s", "с")) span.vh { (t(", forward", ", вперёд")) } }
                span.clock { b data-clock { "0:00" } " " span.muted { "/ " (length(end)) } }
            }
            fieldset.seg {
                legend.vh { (t("Sides", "Стороны")) }
                label { input type="radio" name="side" checked; (t("Both", "Обе")) }
                label { input type="radio" name="side"; (t("Caller", "Звонивший")) }
                label { input type="radio" name="side"; (t("Callee", "Ответивший")) }
            }
            div.row {
                label.row { span.muted { (t("Speed", "Скорость")) }
                    select data-speed { @for speed in ["0.75", "1", "1.25", "1.5", "2"] {
                        option value=(speed) selected[speed == "1"] { (speed) "×" } } } }
                button type="button" aria-pressed="false" data-loop { (t("Repeat a passage", "Повторять отрывок")) }
            }
            p.small.muted.keys-hint { kbd { (t("Space", "Пробел")) } " " (t("play", "слушать")) " " kbd { "←" } " " kbd { "→" } " 10 " (t("s", "с"))
                " " kbd { "1" } " " kbd { "2" } " " kbd { "3" } " " (t("sides", "стороны")) }
        }
    }
}

fn mark_row(viewer: &Viewer, n: usize, mark: &TimelineMark) -> Markup {
    let lang = viewer.lang;
    let words = match mark.kind {
        MarkKind::Hold => lang.of_two("hold", "ожидание").to_owned(),
        MarkKind::Pause => lang.of_two("paused, not recorded", "пауза, не записано").to_owned(),
        MarkKind::Keys => lang.of_two("keys (digits are never kept)", "клавиши (цифры не хранятся)").to_owned(),
        MarkKind::Part(part) => format!("{} {part}", lang.of_two("part", "часть")),
        MarkKind::Loss { packets, concealed_ms } => loss_words(lang, packets, concealed_ms),
        MarkKind::Event(kind) => lang.event(kind).to_owned(),
    };
    html! {
        li { button type="button" data-at={ (format!("{:.2}", mark.from)) } {
            span.no { (n) } time { (length(mark.from)) }
            span { @if let Some(side) = mark.side { (lang.side(side)) ": " } (words)
                @if let Some(to) = mark.to.filter(|to| to - mark.from >= 1.0) { " " (lang.of_two("until", "до")) " " (length(to)) }
                @if let Some(detail) = &mark.detail { ", " (lang.event_detail(detail)) } }
        } }
    }
}

/// Returns a text about missing packets of one side, e.g. `4 packets lost, 80 ms concealed`.
fn loss_words(lang: Lang, packets: u64, concealed_ms: u64) -> String {
    let packets =
        lang.count(packets, ["packet lost", "packets lost"], ["пакет потерян", "пакета потеряно", "пакетов потеряно"]);
    match concealed_ms {
        0 => packets,
        ms => format!("{packets}, {} {}", lang.grouped(ms), lang.of_two("ms concealed", "мс восполнено")),
    }
}

fn legs(viewer: &Viewer, facts: &CallFacts) -> Markup {
    let (record, sites) = &legs_of_all_sites(facts);
    let t = |en, ru| viewer.lang.of_two(en, ru);
    let endpoint = |at: Option<crate::net::Endpoint>| at.map_or_else(|| String::from("?"), |at| at.to_string());
    let count = record.legs.len() as u64;
    if count == 0 {
        return html! {};
    }
    html! {
        section.card.stack {
            div.head { h2 { (t("Signalling", "Сигнализация")) ": " (viewer.lang.count(count, ["leg", "legs"], ["плечо", "плеча", "плеч"])) } }
            (super::ladder::ladder(viewer.lang, &CallLadder::of(record)))
            table role="table" {
                thead role="rowgroup" { tr role="row" {
                    @for head in [t("Leg", "Плечо"), t("From and to", "Откуда и куда"), t("Times", "Время"), t("Answer", "Ответ"), t("Heard", "Слышно")] {
                        th role="columnheader" scope="col" { (head) }
                    }
                } }
                tbody role="rowgroup" {
                    @for (n, leg) in record.legs.iter().enumerate() {
                        tr role="row" {
                            th role="rowheader" scope="row" { (n + 1) @if let Some(site) = sites.get(n) { span.sub { (site) } } }
                            td role="cell" data-l=(t("From and to", "Откуда и куда")) { span {
                                (endpoint(leg.caller_addr)) " → " (endpoint(leg.callee_addr))
                                @if let Some(rule) = leg.joined_by { span.sub { (t("Why here: ", "Почему здесь: ")) (viewer.lang.rule(rule)) } }
                                @for agent in &leg.user_agents { span.sub.wire { (agent) } }
                            } }
                            td role="cell" data-l=(t("Times", "Время")) { span {
                                @if let Some(at) = leg.invited_at { span.nowrap { "INVITE " (clock_time(at)) } br; }
                                @if let Some(at) = leg.answered_at { span.nowrap { "200 OK " (clock_time(at)) } br; }
                                @if let Some(at) = leg.ended_at { span.nowrap { (t("end", "конец")) " " (clock_time(at)) } }
                            } }
                            td role="cell" data-l=(t("Answer", "Ответ")) { @if let Some(status) = leg.sip_status { (status) } }
                            td role="cell" data-l=(t("Heard", "Слышно")) { @if leg.rendered { (marked("ok", "ok")) span.vh { (t("yes", "да")) } } }
                        }
                    }
                }
            }
        }
    }
}

fn quality(viewer: &Viewer, record: &CallRecord) -> Markup {
    let lang = viewer.lang;
    let t = |en, ru| lang.of_two(en, ru);
    let sides = [record.sides.get(Side::Caller), record.sides.get(Side::Callee)];
    let number = |value: Option<f64>, places| value.map_or_else(|| String::from("—"), |v| lang.decimal(v, places));
    let ms = |value: Option<f64>| {
        value.map_or_else(|| String::from("—"), |v| format!("{} {}", lang.decimal(v, 1), t("ms", "мс")))
    };
    let lost = |lost: u64, concealed: Option<u64>| match concealed {
        Some(ms) if ms > 0 => format!("{lost}, {ms} {}", t("ms concealed", "мс восполнено")),
        _ => lost.to_string(),
    };
    if sides.iter().all(|side| side.packets == 0) {
        return html! {}; // a call without media has no quality
    }
    let rows = [
        (t("MOS, estimated", "MOS, оценка"), sides.map(|s| number(s.mos, 2))),
        (t("Packets", "Пакетов"), sides.map(|s| lang.grouped(s.packets))),
        (t("Lost before us", "Потеряно до нас"), sides.map(|s| lost(s.lost, s.concealed_ms))),
        (t("Largest jitter", "Наибольший джиттер"), sides.map(|s| ms(s.max_jitter_ms))),
        (t("Codec", "Кодек"), sides.map(|s| s.codecs.join(", "))),
    ];
    html! {
        section.card {
            h2 { (t("Quality", "Качество")) }
            table.keep role="table" {
                thead role="rowgroup" { tr role="row" {
                    th role="columnheader" scope="col" { span.vh { (t("Measure", "Показатель")) } }
                    th role="columnheader" scope="col" { (t("Caller, left", "Звонивший, левый")) }
                    th role="columnheader" scope="col" { (t("Callee, right", "Ответивший, правый")) }
                } }
                tbody role="rowgroup" {
                    @for (name, [caller, callee]) in rows {
                        tr role="row" { th role="rowheader" scope="row" { (name) } td role="cell" { (caller) } td role="cell" { (callee) } }
                    }
                }
            }
        }
    }
}

fn problems(viewer: &Viewer, record: &CallRecord) -> Markup {
    let t = |en, ru| viewer.lang.of_two(en, ru);
    html! {
        @if !record.problems.is_empty() {
            section.card { h2 { (t("Defects", "Дефекты")) }
                ul.list { @for problem in &record.problems { li {
                    (viewer.lang.problem(problem.kind))
                    @if let Some(packets) = problem.packets { ", " (packets) " " (t("packets", "пакетов")) }
                    @if let Some(ms) = problem.ms { ", " (ms) " " (t("ms", "мс")) }
                } } }
            }
        }
    }
}

fn kept(viewer: &Viewer, record: &CallRecord) -> Markup {
    let t = |en, ru| viewer.lang.of_two(en, ru);
    if viewer.place == ConsolePlace::Centre {
        return html! {
            section.card.stack { h2 { (t("Site", "Площадка")) }
                p { a href={ "/calls?site=" (record.appliance) } { (record.appliance) } }
                p.muted { (t("The archive keeps the recording, whatever the site removes.", "Архив хранит запись, что бы площадка ни удалила.")) }
            }
        };
    }
    html! {
        section.card.stack {
            h2 { (t("Kept", "Хранение")) }
            @if let Some(hold) = &record.held {
                p { (mark("hold")) " " b { (t("Held", "Удержан")) @if let Some(why) = &hold.why { ": " (why) } } }
                p.muted { (t("since", "с")) " " (date_time(hold.since)) }
                @if viewer.user.is_admin() {
                    form method="post" action={ "/calls/" (viewer.call_key(record)) "/release" } { (csrf(viewer)) button { (t("Release", "Отпустить")) } }
                }
            } @else {
                p.muted { (t("Removed by age or space, as configured.", "Удаляется по возрасту или месту, как настроено.")) }
                @if viewer.user.is_admin() {
                    form.stack method="post" action={ "/calls/" (viewer.call_key(record)) "/hold" } {
                        (csrf(viewer))
                        div.field { label for="why" { (t("Reason of the hold", "Причина удержания")) } input id="why" name="why" type="text" maxlength="200"; }
                        p { button { (t("Hold", "Удержать")) } }
                    }
                }
            }
        }
    }
}

/// Returns the part of the page about other sites: their records of the same call, and whether exactly one site
/// registered the call in Pyrus.
fn elsewhere(viewer: &Viewer, facts: &CallFacts) -> Markup {
    let t = |en, ru| viewer.lang.of_two(en, ru);
    if facts.elsewhere.is_empty() {
        return html! {};
    }
    let all = std::iter::once(&facts.record).chain(facts.elsewhere.iter().map(|other| &other.record));
    let registered = all.filter(|record| record.delivery.task_id.is_some()).count();
    html! {
        section.card.stack {
            h2 { (t("The same call at other sites", "Тот же звонок на других площадках")) }
            ul.list { @for OtherSiteCall { why, record } in &facts.elsewhere { li {
                a href={ "/calls/" (viewer.call_key(record)) } { (record.appliance) } " "
                (super::calls::start(record).map(date_time).unwrap_or_default()) " " (verdict(viewer, record))
                span.sub { (same_fact(viewer, why)) }
            } } }
            @if registered == 0 { div.note.warn { (mark("warn")) p { (t("No site registered this call in Pyrus.", "Ни одна площадка не передала этот звонок в Pyrus.")) } } }
            @if registered > 1 { div.note.warn { (mark("warn")) p {
                (t("More than one site registered this call in Pyrus: a rule with no_register decides who owns it.",
                   "Этот звонок передали в Pyrus несколько площадок: владельца выбирает правило no_register.")) } } }
        }
    }
}

/// Returns a text for the value that is equal in the records of two sites, e.g. `same Call-ID`.
fn same_fact(viewer: &Viewer, why: &str) -> &'static str {
    match why {
        "session_id" => viewer.lang.of_two("same Session-ID", "общий Session-ID"),
        "call_id" => viewer.lang.of_two("same Call-ID", "общий Call-ID"),
        "voice" => viewer.lang.of_two("same voices", "те же голоса"),
        _ => viewer.lang.of_two("same correlation header", "общий заголовок звонка"),
    }
}

/// Returns a record with the legs of a call from all sites, and for each leg the name of its site. If the console shows
/// a single recorder, the list of names is empty.
fn legs_of_all_sites(facts: &CallFacts) -> (CallRecord, Vec<String>) {
    let mut merged = facts.record.clone();
    if facts.elsewhere.is_empty() {
        return (merged, Vec::new());
    }
    let all = std::iter::once(&facts.record).chain(facts.elsewhere.iter().map(|other| &other.record));
    let mut legs: Vec<_> =
        all.flat_map(|record| record.legs.iter().map(|leg| (leg.clone(), record.appliance.clone()))).collect();
    legs.sort_by_key(|(leg, _)| leg.invited_at);
    let sites;
    (merged.legs, sites) = legs.into_iter().unzip();
    (merged, sites)
}

fn related(viewer: &Viewer, facts: &CallFacts) -> Markup {
    html! {
        @if !facts.related.is_empty() {
            section.card { h2 { (viewer.lang.of_two("Related calls", "Связанные звонки")) }
                ul.list { @for record in &facts.related { li {
                    a href={ "/calls/" (viewer.call_key(record)) } { (super::calls::start(record).map(date_time).unwrap_or_default()) }
                    " " (caller(viewer, record)) " → " (callee(viewer, record)) " " (verdict(viewer, record))
                } } }
            }
        }
    }
}

fn heard_by(viewer: &Viewer, facts: &CallFacts) -> Markup {
    let t = |en, ru| viewer.lang.of_two(en, ru);
    html! {
        section.card {
            h2 { (t("Who has listened", "Кто слушал")) }
            @if facts.heard_by.is_empty() { p.muted { (t("Nobody yet.", "Пока никто.")) } }
            ol.list { @for row in &facts.heard_by { li { b { (row.who) } " " (super::action_words(viewer.lang, &row.action))
                @if let Some(detail) = &row.detail { " (" (detail) ")" }
                br; span.small.muted { (date_time(row.at)) } } } }
            p.small.muted { (t("The audit gets your row before the recording plays.", "Ваша строка попадает в аудит до того, как запись начнёт играть.")) }
        }
    }
}
