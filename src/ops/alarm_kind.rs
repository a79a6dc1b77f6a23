//! Kinds of alarms: their names in JSON, their levels in the log, and which kind ends which other kind.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Kind of an alarm, e.g. a full disk. Receivers get the name of the kind and can filter by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AlarmKind {
    /// The file system of a folder is nearly full.
    DiskLow,
    /// The file system of a folder is full or nearly full, so recording will soon stop.
    DiskFull,
    /// The file system of a folder is mounted read-only, or cannot be read.
    DiskReadOnly,
    /// A folder is not on its usual disk: the disk is not mounted, or another disk is mounted in its place.
    StorageMissing,
    /// The file system of a folder has enough free space again.
    DiskRecovered,
    /// A recording or its journal row cannot be written. callspan tries again.
    RecordingFailed,
    /// A call could not be rendered, i.e. made into a recording. Its packets are kept.
    RenderFailed,
    /// A recording could not be encrypted; it stays unencrypted.
    EncryptionFailed,
    /// A call cannot be delivered to Pyrus until a person acts.
    DeliveryParked,
    /// A call cannot be completed in Pyrus; callspan has given it up.
    DeliveryDead,
    /// Pyrus refuses the login or the account.
    LoginRefused,
    /// Pyrus cannot be reached. callspan tries again.
    PyrusAway,
    /// Pyrus accepts calls again after a failure.
    PyrusRecovered,
    /// Calls cannot be sent to the central archive. callspan tries again.
    ArchiveFailing,
    /// The central archive accepts calls again after a failure.
    ArchiveRecovered,
    /// A site (one recorder) has not reported to the central archive for some time. The central console raises this
    /// alarm.
    SiteSilent,
    /// Every site reports to the central archive again.
    SiteSilentOver,
    /// The kernel or a network card of the recorder lost frames before callspan could read them.
    CaptureDrops,
    /// A bounded table is full and calls or packets are dropped, for example by a flood of INVITEs.
    TablesFull,
    /// An interface is down, or the capture on it has stopped.
    InterfaceDown,
    /// An interface is up again after it was down.
    InterfaceUp,
    /// The journal (database of calls) is damaged or cannot be written.
    JournalDamaged,
    /// The service cannot start or had to end; systemd restarts it.
    ServiceFailed,
    /// The console cannot be started, for example because another program uses its port. The service records without it.
    ConsoleFailed,
    /// No SIP arrives at an hour of the day at which SIP arrives on other days.
    MirrorSilent,
    /// SIP arrives again after [`Self::MirrorSilent`].
    MirrorSilentOver,
    /// The mirror port shows only one direction of calls.
    MirrorOneSided,
    /// The mirror port shows both directions again after [`Self::MirrorOneSided`].
    MirrorOneSidedOver,
    /// RTP arrives that belongs to no call, or calls have no RTP. The mirror port probably lacks some traffic.
    MediaUnheard,
    /// RTP arrives and belongs to calls again, after [`Self::MediaUnheard`].
    MediaUnheardOver,
    /// The call of `callspan test-call --alarm` was not recorded correctly.
    TestCallFailed,
    /// A test call was recorded correctly after an earlier test call had failed.
    TestCallPassed,
    /// `callspan alerts test` sends this alarm to all receivers.
    TestAlarm,
    /// A thread of the service makes no progress, for example because a disk or a network folder does not answer.
    ThreadStalled,
    /// A thread panicked because of a bug in callspan. The thread was started again, or the service ended.
    ThreadFailed,
}

impl AlarmKind {
    /// All kinds of alarms, each exactly once.
    pub(super) const ALL: [Self; 35] = [
        Self::DiskLow,
        Self::DiskFull,
        Self::DiskReadOnly,
        Self::StorageMissing,
        Self::DiskRecovered,
        Self::RecordingFailed,
        Self::RenderFailed,
        Self::EncryptionFailed,
        Self::DeliveryParked,
        Self::DeliveryDead,
        Self::LoginRefused,
        Self::PyrusAway,
        Self::PyrusRecovered,
        Self::ArchiveFailing,
        Self::ArchiveRecovered,
        Self::SiteSilent,
        Self::SiteSilentOver,
        Self::CaptureDrops,
        Self::TablesFull,
        Self::InterfaceDown,
        Self::InterfaceUp,
        Self::JournalDamaged,
        Self::ServiceFailed,
        Self::ConsoleFailed,
        Self::ThreadStalled,
        Self::ThreadFailed,
        Self::TestCallFailed,
        Self::TestCallPassed,
        Self::TestAlarm,
        Self::MirrorSilent,
        Self::MirrorSilentOver,
        Self::MirrorOneSided,
        Self::MirrorOneSidedOver,
        Self::MediaUnheard,
        Self::MediaUnheardOver,
    ];

    /// Returns the name of the kind for scripts: the value of `kind` in JSON and of `alarm` in the log.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::DiskLow => "disk_low",
            Self::DiskFull => "disk_full",
            Self::DiskReadOnly => "disk_read_only",
            Self::StorageMissing => "storage_missing",
            Self::DiskRecovered => "disk_recovered",
            Self::RecordingFailed => "recording_failed",
            Self::RenderFailed => "render_failed",
            Self::EncryptionFailed => "encryption_failed",
            Self::DeliveryParked => "delivery_parked",
            Self::DeliveryDead => "delivery_dead",
            Self::LoginRefused => "login_refused",
            Self::PyrusAway => "pyrus_away",
            Self::PyrusRecovered => "pyrus_recovered",
            Self::ArchiveFailing => "archive_failing",
            Self::ArchiveRecovered => "archive_recovered",
            Self::SiteSilent => "site_silent",
            Self::SiteSilentOver => "site_silent_over",
            Self::CaptureDrops => "capture_drops",
            Self::TablesFull => "tables_full",
            Self::InterfaceDown => "interface_down",
            Self::InterfaceUp => "interface_up",
            Self::JournalDamaged => "journal_damaged",
            Self::ServiceFailed => "service_failed",
            Self::ConsoleFailed => "console_failed",
            Self::ThreadStalled => "thread_stalled",
            Self::ThreadFailed => "thread_failed",
            Self::TestCallFailed => "test_call_failed",
            Self::TestCallPassed => "test_call_passed",
            Self::TestAlarm => "test_alarm",
            Self::MirrorSilent => "mirror_silent",
            Self::MirrorSilentOver => "mirror_silent_over",
            Self::MirrorOneSided => "mirror_one_sided",
            Self::MirrorOneSidedOver => "mirror_one_sided_over",
            Self::MediaUnheard => "media_unheard",
            Self::MediaUnheardOver => "media_unheard_over",
        }
    }

    /// Returns whether this kind reports a problem of the storage because of which no call can be stored.
    pub(crate) const fn stops_recording(self) -> bool {
        matches!(self, Self::DiskFull | Self::DiskReadOnly | Self::StorageMissing)
    }

    /// Returns whether the alarm reports the end of a problem.
    pub(super) const fn is_recovery(self) -> bool {
        !self.ends().is_empty()
    }

    /// Returns the kinds of problems that an alarm of this kind ends, e.g. `DiskFull` for `DiskRecovered`.
    pub(super) const fn ends(self) -> &'static [Self] {
        match self {
            Self::DiskRecovered => &[Self::DiskLow, Self::DiskFull, Self::DiskReadOnly],
            Self::PyrusRecovered => &[Self::LoginRefused, Self::PyrusAway],
            Self::ArchiveRecovered => &[Self::ArchiveFailing],
            Self::SiteSilentOver => &[Self::SiteSilent],
            Self::InterfaceUp => &[Self::InterfaceDown],
            Self::TestCallPassed => &[Self::TestCallFailed],
            Self::MirrorSilentOver => &[Self::MirrorSilent],
            Self::MirrorOneSidedOver => &[Self::MirrorOneSided],
            Self::MediaUnheardOver => &[Self::MediaUnheard],
            _ => &[],
        }
    }
}

impl Serialize for AlarmKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for AlarmKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let known = Self::ALL.into_iter().find(|kind| kind.name() == name);
        known.ok_or_else(|| serde::de::Error::custom("no kind of alarm has this name"))
    }
}
