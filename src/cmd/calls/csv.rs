//! `calls list --csv`: prints the list as comma-separated values for spreadsheets (RFC 4180).

use super::show::begin;
use crate::cmd::table;
use crate::cmd::terminal::clock_face::DisplayZone;
use crate::journal::{CallFilter, Journal, StoredCall};
use crate::ops::output;
use crate::text::{csv_field, without_formula};

/// Prints a line with the column names, and then the calls that meet the filter, oldest first.
pub(super) fn list(journal: &Journal, filter: &CallFilter, zone: &DisplayZone) -> anyhow::Result<()> {
    output::result(&line(&HEADINGS.map(String::from)))?;
    for calls in journal.call_pages(filter, journal.cursor_before_newest(filter)?)? {
        let text: String = calls?.iter().map(|call| line(&cells(call, zone))).collect();
        output::result(&text)?;
    }
    Ok(())
}

fn cells(call: &StoredCall, zone: &DisplayZone) -> [String; COLUMNS] {
    let record = &call.record;
    let text = |value: Option<&str>| value.map(safe).unwrap_or_default();
    let time = |at: Option<_>| at.map(|at| zone.show_rfc3339(at)).unwrap_or_default();
    [
        record.id.clone(),
        time(begin(record)),
        time(record.answered_at),
        time(record.ended_at),
        String::from(table::direction(record.direction)),
        text(record.from.as_deref()),
        text(record.to.as_deref()),
        text(record.internal.as_deref()),
        record.duration_s.map(|s| format!("{s:.1}")).unwrap_or_default(),
        String::from(table::outcome(record.outcome)),
        String::from(super::show::verdict(call)),
        text(record.verdict_reason.as_deref()),
        String::from(if record.held.is_some() { "yes" } else { "no" }),
        String::from(super::show::state(record.delivery.state)),
        record.delivery.task_id.map(|task| task.to_string()).unwrap_or_default(),
        text(record.recordings.first().map(|file| file.path.as_str())),
    ]
}

/// Makes a captured text safe: removes characters that control a terminal, and stops a spreadsheet from treating the
/// text as a formula.
fn safe(text: &str) -> String {
    without_formula(&table::printable(text))
}

fn line(cells: &[String; COLUMNS]) -> String {
    format!("{}\r\n", cells.each_ref().map(|cell| csv_field(cell)).join(","))
}

const COLUMNS: usize = 16;
const HEADINGS: [&str; COLUMNS] = [
    "id",
    "began",
    "answered",
    "ended",
    "direction",
    "from",
    "to",
    "extension",
    "length_s",
    "outcome",
    "verdict",
    "reason",
    "held",
    "delivery",
    "task_id",
    "path",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::record::{CallRecord, CallVerdict};
    use crate::journal::CallStage;
    use crate::time::Timestamp;

    #[test]
    fn cells_are_quoted_and_no_cell_is_a_formula() {
        let record = CallRecord {
            id: String::from("x"),
            invited_at: Some(Timestamp::from_secs(1_795_417_734)),
            from: Some(String::from("+79774221338")),
            to: Some(String::from("=HYPERLINK(\"http://x\";\"y\")")),
            duration_s: Some(12.34),
            verdict: Some(CallVerdict::BothSides),
            verdict_reason: Some(String::from("both sides, whole")),
            ..CallRecord::default()
        };
        let call = StoredCall { stage: CallStage::Complete, record };
        let said = line(&cells(&call, &DisplayZone::utc()));
        assert_eq!(
            said,
            "x,2026-11-23T07:08:54Z,,,unknown,+79774221338,\"'=HYPERLINK(\"\"http://x\"\";\"\"y\"\")\",,12.3,unknown,\
             both sides,\"both sides, whole\",no,-,,\r\n"
        );
    }
}
