//! `calls list` and `calls show`: print calls, and the problems that a person must solve.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use super::{JournalLocation, known, shown};
use crate::call::record::{CallRecord, DeliveryState};
use crate::cmd::language::CliLanguage;
use crate::cmd::table;
use crate::cmd::terminal::TextStyle;
use crate::cmd::terminal::clock_face::DisplayZone;
use crate::cmd::terminal::paint::TextTone;
use crate::journal::{CallFilter, CallStage, Journal, StoredCall};
use crate::ops::output;
use crate::text::count;
use crate::time::Timestamp;

/// Prints the list of calls, then the calls with a parked delivery (waits for a person) or a dead delivery (given up).
/// Each of them has its reason. The last line has the totals. The calls are read page by page, so that the memory does
/// not grow with the list.
pub(super) fn list(journal: &Journal, filter: &CallFilter, style: &TextStyle) -> anyhow::Result<()> {
    let after = journal.cursor_before_newest(filter)?;
    let mut totals = ListTotals::default();
    let mut rows = vec![ListRow { cells: HEADINGS.map(String::from), tones: (TextTone::Plain, TextTone::Plain) }];
    let mut widths = [0; COLUMNS];
    for calls in journal.call_pages(filter, after.clone())? {
        let calls = calls?;
        calls.iter().for_each(|call| totals.add(&call.record));
        rows.extend(calls.iter().map(|call| row(call, style)));
        let mut text = String::new();
        columns(&mut text, &rows, &mut widths, style);
        output::result(&text)?;
        rows.clear();
    }
    let there = [DeliveryState::Parked, DeliveryState::Dead].into_iter().filter(|state| totals.count(*state) > 0);
    for state in there {
        let only = CallFilter { delivery: Some(state), ..filter.clone() };
        let mut text = format!("\n{}:\n", heading(state));
        for calls in journal.call_pages(&only, after.clone())? {
            calls?.iter().for_each(|call| trouble(&mut text, &call.record));
            output::result(&std::mem::take(&mut text))?;
        }
        output::result("\n")?;
    }
    if let Some(alarm) = journal.alarm()? {
        output::result(&format!("\nNothing can be delivered: {}\n", table::printable(&alarm)))?;
    }
    output::result(&format!("{totals}\n"))
}

/// Counts of the listed calls, printed as e.g. `3 calls: 3 both sides; delivery: 2 done, 1 parked`.
#[derive(Clone, Debug, Default)]
struct ListTotals {
    verdicts: table::VerdictTotals,
    states: [usize; STATES.len()],
}

impl ListTotals {
    fn add(&mut self, record: &CallRecord) {
        self.verdicts.add(record);
        let place = STATES.iter().position(|(state, _)| *state == record.delivery.state);
        if let Some(count) = place.and_then(|at| self.states.get_mut(at)) {
            *count += 1;
        }
    }

    fn count(&self, state: DeliveryState) -> usize {
        self.states.iter().zip(STATES).find(|(_, (s, _))| *s == state).map_or(0, |(n, _)| *n)
    }
}

impl std::fmt::Display for ListTotals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.verdicts)?;
        let counted = self.states.iter().zip(STATES).filter(|(n, _)| **n > 0);
        let parts: Vec<String> = counted.map(|(n, (_, name))| format!("{n} {name}")).collect();
        if parts.is_empty() { Ok(()) } else { write!(f, "; delivery: {}", parts.join(", ")) }
    }
}

const STATES: [(DeliveryState, &str); 5] = [
    (DeliveryState::Done, "done"),
    (DeliveryState::Owed, "owed"),
    (DeliveryState::Parked, "parked"),
    (DeliveryState::Dead, "dead"),
    (DeliveryState::None, "not to be delivered"),
];

const fn heading(state: DeliveryState) -> &'static str {
    match state {
        DeliveryState::Dead => {
            "Dead: cannot be completed in Pyrus. Remove the cause, then run `callspan calls retry ID`"
        }
        _ => "Parked: a person must act. Then run `callspan calls retry ID`, or wait for the next try",
    }
}

fn trouble(text: &mut String, record: &CallRecord) {
    let why = record.delivery.detail.as_deref().unwrap_or("no reason is recorded");
    let _ = writeln!(text, "  {}  {}", record.id, table::printable(&CliLanguage::current().delivery(why)));
}

/// A row of the list, with the colours of its verdict and of its delivery state.
struct ListRow {
    cells: [String; COLUMNS],
    tones: (TextTone, TextTone),
}

fn row(call: &StoredCall, style: &TextStyle) -> ListRow {
    let tone = match call.record.delivery.state {
        DeliveryState::Done => TextTone::Good,
        DeliveryState::Parked | DeliveryState::Dead => TextTone::Bad,
        DeliveryState::Owed | DeliveryState::None => TextTone::Plain,
    };
    ListRow { cells: cells(call, style), tones: (call.record.verdict.map_or(TextTone::Plain, table::tone), tone) }
}

fn cells(call: &StoredCall, style: &TextStyle) -> [String; COLUMNS] {
    let record = &call.record;
    let dash = |text: Option<&str>| text.map_or_else(|| String::from("-"), table::printable);
    [
        begin(record).map_or_else(|| String::from("-"), |at| style.zone.show(at)),
        String::from(table::direction(record.direction)),
        dash(record.from.as_deref()),
        dash(record.to.as_deref()),
        dash(record.internal.as_deref()),
        record.duration_s.map_or_else(|| String::from("-"), table::duration),
        String::from(table::outcome(record.outcome)),
        String::from(verdict(call)),
        String::from(if record.held.is_some() { "held" } else { "-" }),
        delivery(record),
        table::printable(&record.id),
    ]
}

pub(super) fn verdict(call: &StoredCall) -> &'static str {
    match (call.stage, call.record.verdict) {
        (CallStage::Ended, None) => "to be rendered",
        (_, None) => "under way",
        (_, Some(verdict)) => table::verdict(verdict),
    }
}

fn delivery(record: &CallRecord) -> String {
    let word = state(record.delivery.state);
    match record.delivery.task_id {
        Some(task) => format!("{word}, task {task}"),
        None => String::from(word),
    }
}

pub(super) const fn state(state: DeliveryState) -> &'static str {
    match state {
        DeliveryState::None => "-",
        DeliveryState::Owed => "owed",
        DeliveryState::Done => "done",
        DeliveryState::Parked => "parked",
        DeliveryState::Dead => "dead",
    }
}

pub(super) fn begin(record: &CallRecord) -> Option<Timestamp> {
    record.invited_at.or(record.answered_at).or(record.ended_at)
}

/// Formats rows in columns. Each column is as wide as its widest cell so far. On a narrow terminal, telephone numbers
/// are shortened; the id in the last column is never shortened.
fn columns(text: &mut String, rows: &[ListRow], widest: &mut [usize; COLUMNS], style: &TextStyle) {
    for row in rows {
        for (width, cell) in widest.iter_mut().zip(&row.cells) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut widths = *widest;
    let total: usize = widths.iter().sum::<usize>() + 2 * (COLUMNS - 1);
    let mut over = style.width.map_or(0, |w| total.saturating_sub(w));
    for number in [FROM, TO] {
        let give = over.min(widths[number].saturating_sub(LEAST));
        widths[number] -= give;
        over -= give;
    }
    for row in rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.cells.iter().zip(widths).enumerate() {
            let cut: String = cell.chars().take(width).collect();
            let tone = match column {
                VERDICT => row.tones.0,
                DELIVERY => row.tones.1,
                _ => TextTone::Plain,
            };
            let _ = write!(line, "{}  ", style.paint.tone(&format!("{cut:<width$}"), tone));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

/// Prints everything known about a call, as text.
pub(super) fn show(place: &JournalLocation, id: &str, style: &TextStyle) -> anyhow::Result<ExitCode> {
    let journal = place.open_read_only()?;
    let call = known(&journal, id)?;
    let mut text = String::new();
    facts(&mut text, &call, style);
    files(&mut text, &call.record, &journal, &style.zone)?;
    what_to_do(&mut text, &call.record, &journal)?;
    requests(&mut text, &call.record.id, &journal, &style.zone)?;
    let mut totals = ListTotals::default();
    totals.add(&call.record);
    let _ = writeln!(text, "{totals}");
    output::result(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the record of a call as JSON.
pub(super) fn show_json(place: &JournalLocation, id: &str) -> anyhow::Result<ExitCode> {
    let call = known(&place.open_read_only()?, id)?;
    output::result(&format!("{}\n", output::escaped_json(&serde_json::to_string(&call.record)?)))?;
    Ok(ExitCode::SUCCESS)
}

fn facts(text: &mut String, call: &StoredCall, style: &TextStyle) {
    let r = &call.record;
    let mut say = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            let _ = writeln!(text, "{name:<14}{}", table::printable(&value));
        }
    };
    say("call", Some(r.id.clone()));
    say("from", r.from.clone());
    say("to", r.to.clone());
    say("extension", r.internal.clone());
    say("direction", Some(String::from(table::direction(r.direction))));
    for (name, at) in [
        ("invited", r.invited_at),
        ("ringing", r.ringing_at),
        ("answered", r.answered_at),
        ("operator", r.operator_answered_at),
        ("ended", r.ended_at),
    ] {
        say(name, at.map(|at| style.zone.show(at)));
    }
    say("length", r.duration_s.map(table::duration));
    say("outcome", Some(String::from(table::outcome(r.outcome))));
    say("verdict", Some(String::from(verdict(call))));
    let language = CliLanguage::current();
    say("", r.verdict_reason.as_deref().map(|reason| language.reason(reason)));
    for problem in &r.problems {
        let packets = problem.packets.map_or_else(String::new, |n| format!(", {}", count(n, "packet")));
        let ms = problem.ms.map_or_else(String::new, |n| format!(", {n} ms"));
        say("problem", Some(format!("{}{packets}{ms}", problem.kind)));
    }
    for leg in &r.legs {
        let rendered = if leg.rendered { ", rendered" } else { "" };
        say("leg", Some(format!("Call-ID {}{rendered}", leg.sip_call_id)));
        say("", leg.joined_by.map(|rule| format!("joined by {rule}: {}", language.rule(rule))));
    }
    for id in &r.related {
        say("related", Some(id.clone()));
        let relation = r.relations.iter().find(|relation| relation.id == *id);
        say("", relation.map(|relation| format!("{}: {}", relation.why, relation.detail)));
    }
}

fn files(text: &mut String, record: &CallRecord, journal: &Journal, zone: &DisplayZone) -> anyhow::Result<()> {
    let removed = journal.removed(&record.id)?;
    for file in &record.recordings {
        let there = match (&removed, Path::new(&file.path).is_file()) {
            (Some((at, why)), false) => format!("removed {} ({why})", zone.show(*at)),
            (_, true) if file.plain_sha256.is_some() => format!("{} bytes, encrypted", file.bytes),
            (_, true) => format!("{} bytes", file.bytes),
            (None, false) => String::from("MISSING"),
        };
        let path = shown(Path::new(&file.path));
        let _ = writeln!(text, "{:<14}{path}, {}, {there}", "recording", table::duration(file.duration_s));
    }
    if let Some(hold) = &record.held {
        let why = hold.why.as_ref().map_or_else(String::new, |w| format!(": {}", table::printable(w)));
        let _ = writeln!(text, "{:<14}since {}{why}", "held", zone.show(hold.since));
    }
    Ok(())
}

fn what_to_do(text: &mut String, record: &CallRecord, journal: &Journal) -> anyhow::Result<()> {
    let _ = writeln!(text, "{:<14}{}", "delivery", delivery(record));
    if let Some(person) = &record.delivery.responsible {
        let _ = writeln!(text, "{:<14}{}", "responsible", table::printable(person));
    }
    if let Some(detail) = &record.delivery.detail {
        let detail = CliLanguage::current().delivery(detail);
        let _ = writeln!(text, "{:<14}{}", "", table::printable(&detail));
    }
    let remedy = match record.delivery.state {
        DeliveryState::Parked => Some("solve the problem, then run: callspan calls retry"),
        DeliveryState::Dead => Some("remove the cause, then run: callspan calls retry"),
        DeliveryState::None | DeliveryState::Owed | DeliveryState::Done => None,
    };
    if let Some(remedy) = remedy {
        let _ = writeln!(text, "{:<14}{remedy} {}", "to do", record.id);
    }
    if record.delivery.state != DeliveryState::Done
        && let Some(alarm) = journal.alarm()?
    {
        let _ = writeln!(text, "{:<14}{}", "to do", table::printable(&CliLanguage::current().delivery(&alarm)));
    }
    Ok(())
}

/// Prints the requests to Pyrus with the responses, oldest first.
fn requests(text: &mut String, id: &str, journal: &Journal, zone: &DisplayZone) -> anyhow::Result<()> {
    let Some(job) = journal.job(id)? else { return Ok(()) };
    for attempt in job.story().attempts {
        let part = attempt.part.map_or_else(String::new, |part| format!(" {part}"));
        let times = if attempt.times > 1 { format!(", {} times", attempt.times) } else { String::new() };
        let next = attempt.next_at.map_or_else(String::new, |at| format!(", next try {}", zone.show(at)));
        let (at, step, answer) = (zone.show(attempt.at), attempt.step.as_str(), table::printable(&attempt.answer));
        let _ = writeln!(text, "{:<14}{at} {step}{part}: {answer}{times}{next}", "request");
    }
    Ok(())
}

const COLUMNS: usize = 11;
const HEADINGS: [&str; COLUMNS] =
    ["TIME", "DIRECTION", "FROM", "TO", "EXT", "LENGTH", "OUTCOME", "VERDICT", "HOLD", "DELIVERY", "ID"];
const FROM: usize = 2;
const TO: usize = 3;
const VERDICT: usize = 7;
const DELIVERY: usize = 9;
/// Minimum number of characters that a narrow terminal shows of a telephone number.
const LEAST: usize = 8;
