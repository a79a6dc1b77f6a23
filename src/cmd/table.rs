//! Prints calls as a table, with a line of totals.
//!
//! The cells contain captured text. Control characters are replaced, so that a SIP header cannot control the terminal.

use std::fmt::Write as _;

use super::terminal::TextStyle;
use super::terminal::paint::TextTone;
use crate::call::record::{CallDirection, CallOutcome, CallRecord, CallVerdict};
pub(crate) use crate::ops::totals::VerdictTotals;

/// Formats call records as a table with its line of totals.
pub(crate) fn table(records: &[CallRecord], style: &TextStyle) -> String {
    let mut text = String::new();
    if !records.is_empty() {
        let rows: Vec<[String; COLUMNS]> =
            std::iter::once(HEADINGS.map(String::from)).chain(records.iter().map(|r| row(r, style))).collect();
        let widths = fit(&rows, style.width);
        let tones =
            std::iter::once(TextTone::Plain).chain(records.iter().map(|r| r.verdict.map_or(TextTone::Plain, tone)));
        for (row, tone) in rows.iter().zip(tones) {
            line(&mut text, row, widths, style, tone);
        }
    }
    text.push_str(&totals(records));
    text.push('\n');
    text
}

/// Returns the line of totals for these records.
pub(crate) fn totals(records: &[CallRecord]) -> String {
    let mut totals = VerdictTotals::default();
    records.iter().for_each(|record| totals.add(record));
    totals.to_string()
}

/// Returns the width of the terminal in characters; `None` if standard output is not a terminal.
pub(crate) fn terminal_width() -> Option<usize> {
    terminal_size::terminal_size_of(std::io::stdout()).map(|(width, _)| usize::from(width.0))
}

/// Formats a duration in seconds, e.g. `0:12` or `1:02:03`.
pub(crate) fn duration(seconds: f64) -> String {
    // Durations of calls are never negative and far below 2^53 seconds, so the conversion is exact.
    let whole = seconds.max(0.0).round() as u64;
    let (hours, minutes, seconds) = (whole / 3600, whole / 60 % 60, whole % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

fn row(record: &CallRecord, style: &TextStyle) -> [String; COLUMNS] {
    let or_dash = |text: Option<&str>| text.map_or_else(|| String::from("-"), printable);
    let at = record.invited_at.or(record.answered_at).or(record.ended_at);
    [
        at.map_or_else(|| String::from("-"), |t| style.zone.show(t)),
        or_dash(record.from.as_deref()),
        or_dash(record.to.as_deref()),
        String::from(direction(record.direction)),
        record.duration_s.map_or_else(|| String::from("-"), duration),
        String::from(outcome(record.outcome)),
        String::from(record.verdict.map_or("under way", verdict)),
        file(record),
    ]
}

fn file(record: &CallRecord) -> String {
    match record.recordings.as_slice() {
        [] => String::from("-"),
        [one] => printable(&one.path),
        [first, more @ ..] => format!("{} (+{})", printable(&first.path), more.len()),
    }
}

pub(super) const fn direction(direction: CallDirection) -> &'static str {
    match direction {
        CallDirection::Inbound => "inbound",
        CallDirection::Outbound => "outbound",
        CallDirection::Internal => "internal",
        CallDirection::Unknown => "unknown",
    }
}

pub(super) const fn outcome(outcome: CallOutcome) -> &'static str {
    match outcome {
        CallOutcome::Answered => "answered",
        CallOutcome::Abandoned => "abandoned",
        CallOutcome::Cancelled => "cancelled",
        CallOutcome::Busy => "busy",
        CallOutcome::Declined => "declined",
        CallOutcome::NoAnswer => "no answer",
        CallOutcome::Redirected => "redirected",
        CallOutcome::Failed => "failed",
        CallOutcome::Unknown => "unknown",
    }
}

pub(super) const fn verdict(verdict: CallVerdict) -> &'static str {
    match verdict {
        CallVerdict::BothSides => "both sides",
        CallVerdict::CallerOnly => "caller only",
        CallVerdict::CalleeOnly => "callee only",
        CallVerdict::Excluded => "excluded",
        CallVerdict::NotAnswered => "not answered",
        CallVerdict::Encrypted => "encrypted",
        CallVerdict::UnknownCodec => "unknown codec",
        CallVerdict::NoMedia => "no media",
        CallVerdict::Failed => "failed",
    }
}

/// Returns whether the verdict about a call is good, odd or bad, which decides its colour.
pub(super) const fn tone(verdict: CallVerdict) -> TextTone {
    match verdict {
        CallVerdict::BothSides => TextTone::Good,
        CallVerdict::CallerOnly | CallVerdict::CalleeOnly | CallVerdict::Encrypted | CallVerdict::UnknownCodec => {
            TextTone::Odd
        }
        CallVerdict::NoMedia | CallVerdict::Failed => TextTone::Bad,
        CallVerdict::Excluded | CallVerdict::NotAnswered => TextTone::Plain,
    }
}

/// Replaces every character that could control a terminal, i.e. control characters and marks that change the writing
/// direction.
pub(super) fn printable(text: &str) -> String {
    let bad = |c: char| {
        c.is_control() || matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if bad(c) { '?' } else { c }).collect()
}

/// Returns the width of each column in characters, i.e. the width of its widest cell. If the terminal is too narrow,
/// the columns in [`SPARE`] are made narrower.
fn fit(rows: &[[String; COLUMNS]], width: Option<usize>) -> [usize; COLUMNS] {
    let mut widths = [0; COLUMNS];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let Some(limit) = width else { return widths };
    let gaps = GAP.len() * (COLUMNS - 1);
    for (column, least) in SPARE {
        let over = (widths.iter().sum::<usize>() + gaps).saturating_sub(limit);
        if let Some(width) = widths.get_mut(column) {
            *width = width.saturating_sub(over).max(least.min(*width));
        }
    }
    widths
}

fn line(text: &mut String, row: &[String; COLUMNS], widths: [usize; COLUMNS], style: &TextStyle, tone: TextTone) {
    let start = text.len();
    for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
        let gap = if column == 0 { "" } else { GAP };
        let cut = cut(cell, width, column == FILE);
        // Writing to a String never fails, so the result is ignored.
        let _ = match column {
            DURATION => write!(text, "{gap}{cut:>width$}"),
            VERDICT => write!(text, "{gap}{}", style.paint.tone(&format!("{cut:<width$}"), tone)),
            _ => write!(text, "{gap}{cut:<width$}"),
        };
    }
    text.truncate(text.get(start..).map_or(text.len(), |l| start + l.trim_end().len()));
    text.push('\n');
}

/// Cuts a cell to `width` characters with an ellipsis. With `keep_end` it keeps the end, e.g. of a path, else the
/// beginning.
fn cut(cell: &str, width: usize, keep_end: bool) -> String {
    let length = cell.chars().count();
    if length <= width {
        return cell.to_owned();
    }
    let keep = width.saturating_sub(1);
    if keep_end {
        std::iter::once('…').chain(cell.chars().skip(length - keep)).collect()
    } else {
        cell.chars().take(keep).chain(['…']).collect()
    }
}

const COLUMNS: usize = 8;
const HEADINGS: [&str; COLUMNS] = ["TIME", "FROM", "TO", "DIRECTION", "LENGTH", "OUTCOME", "VERDICT", "FILE"];
const DURATION: usize = 4;
const VERDICT: usize = 6;
const FILE: usize = 7;
const GAP: &str = "  ";
/// Columns that are made narrower on a narrow terminal, in this order. Each entry has the index of the column and its
/// minimum width in characters.
const SPARE: [(usize, usize); 3] = [(FILE, 24), (2, 8), (1, 8)];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::record::RecordingFile;
    use crate::time::Timestamp;

    fn utc(width: Option<usize>) -> TextStyle {
        TextStyle { width, ..TextStyle::plain(super::super::terminal::clock_face::DisplayZone::utc()) }
    }

    fn call(from: &str, verdict: Option<CallVerdict>) -> CallRecord {
        CallRecord {
            from: Some(from.to_owned()),
            to: Some("102".to_owned()),
            invited_at: Some(Timestamp::from_secs(1_795_409_819)),
            duration_s: verdict.and_then(|v| (v == CallVerdict::BothSides).then_some(3723.4)),
            outcome: CallOutcome::Answered,
            verdict,
            ..CallRecord::default()
        }
    }

    fn with_file(mut record: CallRecord, path: &str) -> CallRecord {
        record.recordings.push(RecordingFile::sample(path, Timestamp::EPOCH, 0.0));
        record
    }

    #[test]
    fn table_has_heading_calls_and_totals() {
        let records = [
            with_file(call("101", Some(CallVerdict::BothSides)), "calls/20261123T045659Z-1a2b.wav"),
            call("+79774221338", Some(CallVerdict::NotAnswered)),
        ];
        assert_eq!(
            table(&records, &utc(None)),
            "\
TIME                  FROM          TO   DIRECTION   LENGTH  OUTCOME   VERDICT       FILE
2026-11-23 04:56:59Z  101           102  unknown    1:02:03  answered  both sides    calls/20261123T045659Z-1a2b.wav
2026-11-23 04:56:59Z  +79774221338  102  unknown          -  answered  not answered  -
2 calls: 1 both sides, 1 not answered
"
        );
    }

    #[test]
    fn totals_merge_one_sided_calls_and_omit_empty_groups() {
        let verdicts =
            [CallVerdict::CallerOnly, CallVerdict::CalleeOnly, CallVerdict::BothSides, CallVerdict::Encrypted];
        let mut records: Vec<CallRecord> = verdicts.iter().map(|v| call("1", Some(*v))).collect();
        assert_eq!(totals(&records), "4 calls: 1 both sides, 2 one side, 1 encrypted");
        records.push(call("1", None));
        assert_eq!(totals(&records), "5 calls: 1 both sides, 2 one side, 1 encrypted, 1 under way");
        assert_eq!(totals(&records[2..3]), "1 call: 1 both sides");
        assert_eq!(totals(&[]), "No calls.");
        assert_eq!(table(&[], &utc(Some(80))), "No calls.\n");
    }

    #[test]
    fn narrow_terminal_cuts_the_path_from_the_left() {
        let record = with_file(
            call("+79774221338", Some(CallVerdict::BothSides)),
            "a/very/long/folder/20261123T045659Z-1a2b.wav",
        );
        let text = table(&[record], &utc(Some(110)));
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.iter().all(|l| l.chars().count() <= 110), "{text}");
        assert!(lines[1].contains("…"), "{text}");
        assert!(lines[1].ends_with("Z-1a2b.wav"), "{text}");
    }

    #[test]
    fn wire_text_is_cut_between_characters_and_has_no_control_characters() {
        let record = call("Ж\u{1b}[2J\u{202e}ёёёёёёёёёёёёёёёёёёёёёёё", Some(CallVerdict::NoMedia));
        let text = table(&[record], &utc(Some(40)));
        assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'));
        assert!(text.contains("Ж?[2J?ё"), "{text}");
    }

    #[test]
    fn durations_are_minutes_and_seconds() {
        assert_eq!(duration(0.4), "0:00");
        assert_eq!(duration(59.6), "1:00");
        assert_eq!(duration(12.3), "0:12");
    }
}
