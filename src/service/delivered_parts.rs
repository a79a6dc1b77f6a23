//! Used if a rule of the configuration forbids to record a call of which Pyrus already has segments (parts of the
//! recording). Notes their number in the call record.

use crate::call::record::CallRecord;
use crate::delivery::DeliveryJob;
use crate::journal::{self, Journal};

/// Writes into the record of a call how many of its segments Pyrus already has. Used after a rule of the configuration
/// has forbidden to record the call. Returns whether the record was changed.
///
/// A request to Pyrus that was in progress when the segments were removed may still succeed. Then this function is
/// called again.
pub(super) fn note_delivered_parts(record: &mut CallRecord, journal: &Journal) -> journal::JournalResult<bool> {
    let job = journal.job(&record.id)?.and_then(|row| DeliveryJob::from_row(&row).ok());
    let sent = job.map_or(0, |job| job.attached_count());
    // Earlier versions wrote "delete it in Pyrus" into the call record, even about several parts (segments). The
    // sentence is corrected here.
    let reason = record.verdict_reason.take().unwrap_or_default().replace(
        "parts had been delivered before: delete it in Pyrus.",
        "parts had been delivered before: delete them in Pyrus.",
    );
    let known = (1..=sent).find(|parts| reason.contains(&delivered_parts(*parts)));
    let noted = match known {
        _ if sent == 0 => reason.clone(),
        Some(parts) => reason.replace(&delivered_parts(parts), &delivered_parts(sent)),
        None => format!("{reason}{}", delivered_parts(sent)),
    };
    let is_new = noted != reason;
    record.verdict_reason = Some(noted).filter(|reason| !reason.is_empty());
    Ok(is_new)
}

fn delivered_parts(sent: usize) -> String {
    match sent {
        1 => String::from(" One part had been delivered before: delete it in Pyrus."),
        _ => format!(" {sent} parts had been delivered before: delete them in Pyrus."),
    }
}
