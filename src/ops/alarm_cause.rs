//! The causes of alarms, with a sentence that describes each cause. The title and the rest of an alarm's message are in
//! `alarm_text`.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use super::alerts::AlarmKind;

/// The cause of an alarm, with the facts for the text of the alarm.
pub(crate) enum AlarmCause<'a> {
    /// A cause with a sentence that another module wrote, e.g. the disk watch, delivery, or a rule of the doctor.
    Described(AlarmKind, &'a str),
    /// The thread that copies calls to the central archive panicked because of a bug.
    ArchivePanicked,
    /// The central archive has failed for a long time.
    ArchiveFailing { reason: &'a str },
    /// The central archive refused a call and will never accept it.
    CallNotArchived { reason: &'a str },
    /// The central archive accepts calls again after a failure.
    ArchiveRecovered,
    /// A recording could not be encrypted; callspan tries again later.
    RecordingNotEncrypted { error: &'a dyn fmt::Display },
    /// Somebody changed a recording after it was written.
    RecordingChanged { file: &'a Path, call: &'a str },
    /// A recording or its journal row could not be written; callspan tries again after `pause`.
    RecordingNotWritten { error: &'a dyn fmt::Display, pause: Duration },
    /// The packets that `recording.keep_pcap` keeps could not be copied.
    PacketsNotKept { error: &'a dyn fmt::Display },
    /// The packets of `legs` legs of a call could not be rendered, so the recording lacks them.
    LegsNotRendered { legs: usize },
    /// A thread panicked because of a bug while it worked on a call.
    CallWorkPanicked,
    /// A person requested a new recording of a call by `callspan calls render`, but the rendering failed.
    RequestedRenderFailed { error: &'a str },
    /// The journal (database of calls) could not be written, e.g. because its disk is full.
    JournalNotWritten { error: &'a dyn fmt::Display },
    /// The delivery of calls to Pyrus waits, because the journal (database of calls) cannot be written.
    DeliveryWaitsForJournal { error: &'a str },
    /// SQLite found the journal's database damaged while the service was running.
    JournalDamaged { damage: &'a str },
    /// Pyrus accepts calls again after a failure.
    PyrusRecovered,
    /// The kernel or the network card lost frames.
    FramesLost { by_kernel: u64, by_interface: u64 },
    /// A thread of the service has made no progress for the time `since`.
    ThreadStalled { name: &'a str, since: Duration },
}

impl AlarmCause<'_> {
    /// Returns the kind of the alarm, which decides its title and its level in the log.
    pub(crate) const fn kind(&self) -> AlarmKind {
        match self {
            Self::Described(kind, _) => *kind,
            Self::ArchivePanicked | Self::ArchiveFailing { .. } | Self::CallNotArchived { .. } => {
                AlarmKind::ArchiveFailing
            }
            Self::ArchiveRecovered => AlarmKind::ArchiveRecovered,
            Self::RecordingNotEncrypted { .. } | Self::RecordingChanged { .. } => AlarmKind::EncryptionFailed,
            Self::RecordingNotWritten { .. } | Self::PacketsNotKept { .. } => AlarmKind::RecordingFailed,
            Self::LegsNotRendered { .. } | Self::CallWorkPanicked | Self::RequestedRenderFailed { .. } => {
                AlarmKind::RenderFailed
            }
            Self::JournalNotWritten { .. } | Self::DeliveryWaitsForJournal { .. } | Self::JournalDamaged { .. } => {
                AlarmKind::JournalDamaged
            }
            Self::PyrusRecovered => AlarmKind::PyrusRecovered,
            Self::FramesLost { .. } => AlarmKind::CaptureDrops,
            Self::ThreadStalled { .. } => AlarmKind::ThreadStalled,
        }
    }
}

impl fmt::Display for AlarmCause<'_> {
    /// Writes one sentence for the administrator that describes the cause.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Described(_, text) => f.write_str(text),
            Self::ArchivePanicked => f.write_str(
                "a bug in callspan stopped the thread that copies calls to the archive; callspan starts it again",
            ),
            Self::ArchiveFailing { reason } => f.write_str(reason),
            Self::CallNotArchived { reason } => write!(f, "a call cannot be archived: {reason}"),
            Self::ArchiveRecovered => f.write_str("the archive takes calls again"),
            Self::RecordingNotEncrypted { error } => {
                write!(f, "a recording cannot be encrypted ({error:#}); it stays unencrypted and is tried again")
            }
            Self::RecordingChanged { file, call } => write!(
                f,
                "{} was changed after it was written: it is not encrypted; look at it with `callspan calls verify {call}`",
                file.display()
            ),
            Self::RecordingNotWritten { error, pause } => {
                write!(f, "the recording cannot be written ({error}); callspan tries again in {} s", pause.as_secs())
            }
            Self::PacketsNotKept { error } => {
                write!(f, "the packets of a call cannot be kept ({error}); the next start tries again")
            }
            Self::LegsNotRendered { legs } => write!(
                f,
                "{legs} of the call's legs could not be rendered; the packets are kept in the spool folder as .pcapng.failed"
            ),
            Self::CallWorkPanicked => {
                f.write_str("work on the call stopped because of a bug in callspan; the next start tries again")
            }
            Self::RequestedRenderFailed { error } => {
                write!(f, "the call cannot be rendered again as requested: {error}")
            }
            Self::JournalNotWritten { error } => write!(f, "the journal cannot be written: {error}"),
            Self::DeliveryWaitsForJournal { error } => {
                write!(f, "delivery waits, because the journal cannot be written or read: {error}")
            }
            Self::JournalDamaged { damage } => write!(
                f,
                "the journal is damaged ({damage}): the service ends, and rebuilds the journal from the records at its \
                 next start"
            ),
            Self::PyrusRecovered => f.write_str("Pyrus takes calls again"),
            Self::FramesLost { by_kernel, by_interface } => write!(
                f,
                "frames were lost on this machine ({by_kernel} in the kernel, {by_interface} in the interface): increase \
                 capture.buffer_mib, or give the machine more processor time"
            ),
            Self::ThreadStalled { name, since } => write!(
                f,
                "the {name} thread has made no progress for {} s: a disk or a network folder does not answer. \
                 If it stays so, systemd restarts the service",
                since.as_secs()
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_its_kind_and_names_its_facts() {
        let error = std::io::Error::other("no space");
        for (cause, kind, words) in [
            (
                AlarmCause::RecordingNotWritten { error: &error, pause: Duration::from_secs(30) },
                AlarmKind::RecordingFailed,
                "the recording cannot be written (no space); callspan tries again in 30 s",
            ),
            (
                AlarmCause::LegsNotRendered { legs: 2 },
                AlarmKind::RenderFailed,
                "2 of the call's legs could not be rendered",
            ),
            (
                AlarmCause::FramesLost { by_kernel: 3, by_interface: 4 },
                AlarmKind::CaptureDrops,
                "(3 in the kernel, 4 in the interface)",
            ),
            (
                AlarmCause::ThreadStalled { name: "journal", since: Duration::from_secs(61) },
                AlarmKind::ThreadStalled,
                "the journal thread has made no progress for 61 s",
            ),
            (AlarmCause::Described(AlarmKind::DiskLow, "the spool folder"), AlarmKind::DiskLow, "the spool folder"),
        ] {
            assert_eq!(cause.kind(), kind);
            assert!(cause.to_string().contains(words), "{cause}");
        }
        let error = anyhow::anyhow!("no key").context("call a");
        let text = AlarmCause::RecordingNotEncrypted { error: &error }.to_string();
        assert!(text.contains("(call a: no key)"), "the causes of the error are named: {text}");
    }
}
