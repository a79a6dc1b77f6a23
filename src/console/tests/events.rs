//! The events of a call on its page.

use super::{OWN, Office, call};
use crate::call::record::{EventKind, EventRecord, Side, T38_REFUSED};
use crate::journal::{CallStage, Journal};

#[test]
fn details_of_events_are_in_the_language_of_the_page() {
    let office = Office::with_calls(&["120"]);
    let mut record = call(office.dir.path(), 0, "120");
    let at = record.invited_at.expect("a time");
    let details =
        [(EventKind::ToneLeftOut, "4.2 s"), (EventKind::CodecChange, "PCMU to G722"), (EventKind::Fax, T38_REFUSED)];
    record.events = details
        .into_iter()
        .map(|(kind, detail)| EventRecord { at, kind, side: Some(Side::Caller), detail: Some(detail.to_owned()) })
        .collect();
    Journal::open(&office.config.journal).expect("a journal").put_call(&record, CallStage::Complete).expect("put");
    let english = details.map(|(_, detail)| detail);
    for (lang, texts) in [("en", english), ("ru", ["4,2 с", "PCMU → G722", "отказ от T.38"])] {
        let page = office.get(&format!("/calls/{OWN}?lang={lang}"), "").body;
        for text in texts {
            assert!(page.contains(&format!(", {text}")), "{lang}: {text}");
        }
    }
}
