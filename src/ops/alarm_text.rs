//! The text of alarms for people: a title for each kind, and the message that mail and Telegram show.

use super::alarm_ru;
use super::alerts::{Alarm, AlarmKind};
use crate::call::phrasebook::TextLanguage;

/// Returns the title of a kind of alarm: a few words for a subject line.
pub(crate) const fn title(kind: AlarmKind) -> &'static str {
    match kind {
        AlarmKind::DiskLow => "little space left on a disk",
        AlarmKind::DiskFull => "a disk is full",
        AlarmKind::DiskReadOnly => "a disk cannot be written",
        AlarmKind::StorageMissing => "a disk is missing",
        AlarmKind::DiskRecovered => "a disk has space again",
        AlarmKind::RecordingFailed => "a recording cannot be written",
        AlarmKind::RenderFailed => "a call could not be rendered",
        AlarmKind::EncryptionFailed => "a recording could not be encrypted",
        AlarmKind::DeliveryParked => "a call waits for a person before it goes to Pyrus",
        AlarmKind::DeliveryDead => "a call cannot be completed in Pyrus",
        AlarmKind::LoginRefused => "Pyrus refuses the login",
        AlarmKind::PyrusAway => "Pyrus cannot be reached",
        AlarmKind::PyrusRecovered => "Pyrus accepts calls again",
        AlarmKind::ArchiveFailing => "calls do not reach the archive",
        AlarmKind::ArchiveRecovered => "the archive takes calls again",
        AlarmKind::SiteSilent => "a site is silent",
        AlarmKind::SiteSilentOver => "all sites report again",
        AlarmKind::CaptureDrops => "packets were lost on the recorder",
        AlarmKind::TablesFull => "calls or packets were dropped, because a table was full",
        AlarmKind::InterfaceDown => "a mirror interface is down",
        AlarmKind::InterfaceUp => "a mirror interface is up again",
        AlarmKind::JournalDamaged => "the journal cannot be written or is damaged",
        AlarmKind::ServiceFailed => "the recorder cannot start or had to end",
        AlarmKind::ConsoleFailed => "the recorder works without its console",
        AlarmKind::MirrorSilent => "the mirror shows no SIP",
        AlarmKind::MirrorSilentOver => "the mirror shows SIP again",
        AlarmKind::MirrorOneSided => "the mirror shows one direction only",
        AlarmKind::MirrorOneSidedOver => "the mirror shows both directions again",
        AlarmKind::MediaUnheard => "calls have no RTP at the mirror",
        AlarmKind::MediaUnheardOver => "calls have their RTP again",
        AlarmKind::TestCallFailed => "the test call was lost",
        AlarmKind::TestCallPassed => "the test call was recorded again",
        AlarmKind::TestAlarm => "a test of the alarms",
        AlarmKind::ThreadFailed => "a bug in callspan stopped a piece of work",
        AlarmKind::ThreadStalled => "a part of the recorder makes no progress",
    }
}

/// Returns the subject line of an alarm. `appliance` is the name of this recorder.
pub(crate) fn subject(appliance: &str, alarm: &Alarm, language: TextLanguage) -> String {
    let is_good = alarm.kind.is_recovery() || alarm.kind == AlarmKind::TestAlarm;
    let (word, title) = match (language, is_good) {
        (TextLanguage::En, true) => ("ok", title(alarm.kind)),
        (TextLanguage::En, false) => ("ALARM", title(alarm.kind)),
        (TextLanguage::Ru, true) => ("ok", alarm_ru::title(alarm.kind)),
        (TextLanguage::Ru, false) => ("ТРЕВОГА", alarm_ru::title(alarm.kind)),
    };
    format!("[{appliance}] {word}: {title}")
}

/// Returns the text of an alarm for mail and Telegram, without its subject line.
pub(crate) fn message(alarm: &Alarm, language: TextLanguage) -> String {
    if language == TextLanguage::Ru {
        return russian_message(alarm);
    }
    let mut text = format!("{}\n\nkind: {}\ntime: {}\n", alarm.detail, alarm.kind.name(), alarm.at.to_rfc3339_secs());
    if let Some(call) = &alarm.call {
        text.push_str(&format!("call: {call} (callspan calls show {call})\n"));
    }
    if alarm.held_back > 0 {
        text.push_str(&format!("{} earlier alarms of this kind were held back.\n", alarm.held_back));
    }
    text.push_str("\n`callspan status` shows the recorder; deploy/RUNBOOK.md says for each kind what to do.\n");
    text
}

fn russian_message(alarm: &Alarm) -> String {
    let detail = alarm_ru::ALARMS.shown(TextLanguage::Ru, &alarm.detail);
    let mut text = format!("{detail}\n\nвид: {}\nвремя: {}\n", alarm.kind.name(), alarm.at.to_rfc3339_secs());
    if let Some(call) = &alarm.call {
        text.push_str(&format!("звонок: {call} (callspan calls show {call})\n"));
    }
    if alarm.held_back > 0 {
        text.push_str(&format!("Прежних тревог этого вида придержано: {}.\n", alarm.held_back));
    }
    text.push_str("\n`callspan status` показывает состояние; deploy/RUNBOOK.md говорит, что делать с каждым видом.\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    #[test]
    fn mail_is_written_in_the_language_of_the_configuration() {
        let alarm = Alarm {
            at: Timestamp::from_secs(1_795_424_400),
            kind: AlarmKind::MirrorSilentOver,
            detail: String::from("SIP arrives again"),
            call: Some(String::from("20261123T070000Z-abc")),
            held_back: 2,
        };
        assert_eq!(subject("box", &alarm, TextLanguage::Ru), "[box] ok: зеркало снова показывает SIP");
        assert_eq!(subject("box", &alarm, TextLanguage::En), "[box] ok: the mirror shows SIP again");
        let russian = message(&alarm, TextLanguage::Ru);
        assert!(russian.starts_with("SIP снова приходит\n\nвид: mirror_silent_over"), "{russian}");
        assert!(russian.contains("придержано: 2"), "{russian}");
        assert!(message(&alarm, TextLanguage::En).starts_with("SIP arrives again\n\nkind: mirror_silent_over"));
    }

    #[test]
    fn each_kind_has_its_own_title_and_a_row_in_the_runbook() {
        let runbook = include_str!("../../deploy/RUNBOOK.md");
        let mut titles: Vec<&str> = AlarmKind::ALL.into_iter().map(title).collect();
        titles.sort_unstable();
        titles.dedup();
        assert_eq!(titles.len(), AlarmKind::ALL.len(), "two kinds have one title");
        let missing: Vec<&str> = AlarmKind::ALL
            .iter()
            .map(|kind| kind.name())
            .filter(|name| !runbook.contains(&format!("| `{name}`")))
            .collect();
        assert!(missing.is_empty(), "no row in deploy/RUNBOOK.md: {missing:?}");
    }
}
