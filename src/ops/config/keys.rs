//! The list of all configuration keys: name, kind, default, unit and a sentence for each.
//!
//! This list drives both the check of a file and the reference (`deploy/callspan.toml`), so neither can know a
//! key that the other does not.

/// What a key may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// Any text.
    Text,
    /// A secret: as [`KeyKind::Text`], but never shown.
    Secret,
    /// A file or folder.
    Path,
    /// `true` or `false`.
    Switch,
    /// A whole number in these bounds, both included.
    Number(u64, u64),
    /// A list of whole numbers in these bounds.
    Numbers(u64, u64),
    /// `"auto"` or one of these numbers.
    AutoOr(&'static [u64]),
    /// One of these words.
    Word(&'static [&'static str]),
    /// A list of these words.
    Words(&'static [&'static str]),
    /// One name or a list of names.
    Names,
    /// A list of users, as they stand in SIP addresses.
    Users,
    /// A list of SIP header names.
    HeaderNames,
    /// A list of places where a number stands: `header:NAME`, `from`, `to`, `request_uri`.
    Sources,
    /// A number pattern.
    Pattern,
    /// Decimal digits or nothing.
    Digits,
    /// Keys of a telephone (`0-9*#A-D`) or nothing.
    Keypad,
    /// The name of a SIP header or nothing.
    HeaderName,
    /// An http or https URL.
    Url,
    /// `ADDRESS:PORT` or nothing.
    Listen,
    /// A header name, or `NAME: PATTERN`.
    HeaderMatch,
    /// One public key of age or a list of them.
    Recipients,
    /// A table of field code to `header:NAME`.
    Mappings,
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct ConfigKey {
    /// The section, `pyrus.mappings` for the nested one and `rules` for an entry of the list.
    pub section: &'static str,
    /// The name in the section.
    pub name: &'static str,
    /// What it may hold.
    pub kind: KeyKind,
    /// The default as TOML; empty when there is none.
    pub default: &'static str,
    /// The unit in words; empty when there is none.
    pub unit: &'static str,
    /// What it means, in one or two sentences.
    pub about: &'static str,
}

impl ConfigKey {
    /// `section.name`.
    pub fn path(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }
}

/// A section and what it is for, in the order of the reference.
pub const SECTIONS: &[(&str, &str)] = &[
    ("capture", "Where live packets come from. `callspan replay` ignores this section."),
    ("calls", "When a call is over, and what is kept about it."),
    (
        "numbers",
        "Who is who. The defaults fit extensions of two to five digits and numbers that are left as they were dialled.",
    ),
    ("spool", "Packets on their way to a recording. The folder should be on a local disk."),
    ("state", "The journal: which calls there were, and what is still owed to Pyrus."),
    ("recording", "The finished files."),
    ("pyrus", "Delivery to Pyrus: a task for each call, the recording attached to it."),
    (
        "pyrus.mappings",
        "Further form fields, filled from SIP headers of the INVITE: the code of the field, and the header that fills it.",
    ),
    ("console", "The local API: POST /api/calls/ID/pause and /resume, GET /api/status."),
    ("alerts", "Who is told when something needs a person. Every alarm is a line in the log, too."),
    (
        "rules",
        "What to do with which call. The first rule whose conditions all hold decides; a call that no rule names is \
         recorded and registered. Repeat [[rules]] for each rule.",
    ),
];

/// Every key, in the order of the reference. One line for each: it is read as a table.
#[rustfmt::skip]
pub const KEYS: &[ConfigKey] = &[
    key("capture", "interface", KeyKind::Names, "", "", "The interface at the mirror port, or a list of them. Required by `callspan run`."),
    key("capture", "buffer_mib", KeyKind::Number(1, 2048), "64", "MiB", "Ring in the kernel for each interface: what bridges a busy moment."),
    key("capture", "sip_ports", KeyKind::Numbers(1, 65_535), "[5060]", "", "UDP ports where everything is read as SIP, even with bytes before its first line; on any other port the first line tells."),
    //
    key("calls", "appliance", KeyKind::Text, "\"callspan\"", "", "Name of this recorder in call records; it also goes into the call ids."),
    key("calls", "silence_s", KeyKind::Number(5, 86_400), "300", "seconds", "A call that has had no media for so long is over."),
    key("calls", "hold_s", KeyKind::Number(5, 604_800), "14400", "seconds", "The same during a negotiated hold."),
    key("calls", "max_hours", KeyKind::Number(1, 168), "24", "hours", "A longer call is cut."),
    key("calls", "correlation_headers", KeyKind::HeaderNames, "[]", "", "SIP headers whose equal value says that two legs are one call, for example [\"X-Call-UUID\"]."),
    key("calls", "keep_headers", KeyKind::HeaderNames, "[]", "", "SIP headers to keep in the call record, besides those that [numbers] and [pyrus.mappings] name."),
    key("calls", "pause_header", KeyKind::HeaderName, "\"\"", "", "SIP header that pauses and resumes the recording (card numbers), in any message of the call: its value is pause or resume, off or on. \"Record\" fits telephones with a record key. Empty: none."),
    key("calls", "pause_info", KeyKind::Text, "\"\"", "", "Content-Type of an INFO whose body is the same order, for example \"application/x-recording\". Empty: none."),
    key("calls", "pause_dtmf", KeyKind::Keypad, "\"\"", "", "Keys that pause, pressed by either side, for example \"*71\". They are compared and never stored. Empty: none."),
    key("calls", "resume_dtmf", KeyKind::Keypad, "\"\"", "", "Keys that resume, for example \"*72\". Not the same as pause_dtmf."),
    //
    key("numbers", "extension_pattern", KeyKind::Pattern, "\"xx,xxx,xxxx,xxxxx\"", "", "What an extension looks like: x is one digit, * any characters, [2-4] a class; several patterns with commas."),
    key("numbers", "extensions", KeyKind::Users, "[]", "", "Further extensions by name, for example \"reception\". Users whose phones are seen to register need not be listed."),
    key("numbers", "from_number", KeyKind::Sources, "[\"header:P-Asserted-Identity\", \"header:Remote-Party-ID\", \"from\"]", "", "The caller's number."),
    key("numbers", "to_number", KeyKind::Sources, "[\"to\", \"request_uri\"]", "", "The called number."),
    key("numbers", "internal_number", KeyKind::Sources, "[]", "", "The extension of our side; empty: the side that looks like an extension."),
    key("numbers", "country_code", KeyKind::Digits, "\"\"", "", "Country code without +, for example \"7\": national numbers become international ones (E.164). Empty: numbers stay as dialled."),
    key("numbers", "national_prefix", KeyKind::Digits, "\"\"", "", "Dialled before a national number, for example \"8\"."),
    key("numbers", "international_prefix", KeyKind::Digits, "\"\"", "", "Dialled before an international number, for example \"810\"."),
    key("numbers", "withheld", KeyKind::Text, "\"anonymous\"", "", "What stands for the number of a caller who withholds it."),
    //
    key("spool", "dir", KeyKind::Path, "\"/var/spool/callspan\"", "", "Folder; it is made with mode 0700, for it holds what people say. One that is not below /var/lib/callspan or /var/spool/callspan needs a drop-in for the unit (`systemctl edit callspan`: [Service] ReadWritePaths=FOLDER); the same holds for state.dir and recording.dir."),
    key("spool", "buffer_mib", KeyKind::Number(1, 4096), "64", "MiB", "Memory for packets that wait for the disk."),
    key("spool", "sync_seconds", KeyKind::Number(1, 300), "5", "seconds", "How often the disk is synced: what a power cut costs."),
    key("spool", "memory_mib", KeyKind::Number(0, 65_536), "256", "MiB", "Only `callspan replay`: the spool stays in memory up to this size."),
    //
    key("state", "dir", KeyKind::Path, "\"/var/lib/callspan/state\"", "", "Folder of journal.sqlite. Elsewhere: see spool.dir."),
    //
    key("recording", "dir", KeyKind::Path, "\"/var/lib/callspan/recordings\"", "", "Folder; `callspan run` adds YYYY/MM/DD. Elsewhere: see spool.dir."),
    key("recording", "start", KeyKind::Word(&["answer", "media"]), "\"answer\"", "", "\"answer\": from the 200 OK. \"media\": from the first packet of either side, with what was heard while it rang."),
    key("recording", "sample_rate", KeyKind::AutoOr(&[8000, 16_000]), "\"auto\"", "Hz", "\"auto\": 8000, or 16000 when a side has a wideband codec. Or fixed: 8000 or 16000."),
    key("recording", "format", KeyKind::Word(&["wav", "wav-alaw", "wav-ulaw", "ogg-opus"]), "\"wav\"", "", "Stereo: left the caller, right the called party. \"wav\": 16 bit. \"wav-alaw\", \"wav-ulaw\": G.711, always 8000 Hz, half the size. \"ogg-opus\": about a tenth; 24 kbit/s a side, neither is heard in the other."),
    key("recording", "part_hours", KeyKind::Number(1, 24), "4", "hours", "A longer recording is cut into parts that abut to the sample; each is delivered when it is full."),
    key("recording", "keep_days", KeyKind::Number(0, 36_500), "0", "days", "Recordings older than this are removed, unless they are still owed to Pyrus; 0: never."),
    key("recording", "max_disk_gib", KeyKind::Number(0, 1_048_576), "0", "GiB", "Above this size recordings that are not owed to Pyrus are removed, the oldest first; 0: no limit."),
    key("recording", "min_free_gib", KeyKind::Number(0, 1_048_576), "2", "GiB", "With less free on the disk of the recordings, those that Pyrus has are removed, the oldest first; alarms come long before. 0: never."),
    key("recording", "remove_undelivered", KeyKind::Switch, "false", "", "Whether min_free_gib and max_disk_gib may also remove recordings that Pyrus does not have. With false a full disk ends recording before it costs a recording."),
    key("recording", "encrypt_to", KeyKind::Recipients, "[]", "", "Public key of age (\"age1…\", of age-keygen), or a list of them: `callspan run` encrypts what Pyrus has, or is not to have, to NAME.wav.age, and the kept packets too. Who loses the secret key loses the recordings. Keep it elsewhere: this machine never needs it. Empty: nothing is encrypted."),
    key("recording", "keep_pcap", KeyKind::Switch, "false", "", "Keep the packets of a call beside its recording, as a file that Wireshark opens, without keys and passwords."),
    //
    key("pyrus", "enabled", KeyKind::Switch, "false", "", "Whether `callspan run` delivers. With true, login, a security key and account_id are required."),
    key("pyrus", "auth_url", KeyKind::Url, "\"https://accounts.pyrus.com/api/v4/auth\"", "", "The whole URL of the login; another for Pyrus on your own servers. https, or http to this machine only."),
    key("pyrus", "login", KeyKind::Text, "", "", "Login of the bot. Give each recorder its own bot: a login elsewhere can end the session of this one."),
    key("pyrus", "security_key", KeyKind::Secret, "", "", "Its key. Better in a file, in CALLSPAN_PYRUS_SECURITY_KEY or in the systemd credential pyrus_security_key."),
    key("pyrus", "security_key_file", KeyKind::Path, "", "", "A file with nothing but the key, readable for the service only."),
    key("pyrus", "person_id", KeyKind::Number(1, u64::MAX), "", "", "Needed only if the login belongs to several Pyrus accounts."),
    key("pyrus", "account_id", KeyKind::Text, "", "", "Account of the telephony extension that is connected to the form."),
    key("pyrus", "register_at", KeyKind::Word(&["auto", "invite", "answer", "end"]), "\"auto\"", "", "When the task is made. \"auto\": as soon as the extension is known, at the latest when a person answers; an unanswered call at its end."),
    key("pyrus", "directions", KeyKind::Words(&["inbound", "outbound", "internal", "unknown"]), "[\"inbound\", \"outbound\"]", "", "Which calls are registered. All are recorded."),
    key("pyrus", "unanswered", KeyKind::Switch, "true", "", "Whether unanswered calls are registered."),
    key("pyrus", "send_mappings", KeyKind::Words(&["CallStartTime", "CallEndTime", "CallDuration", "PhoneNumberFrom", "PhoneNumberTo"]), "[\"CallStartTime\", \"CallEndTime\", \"CallDuration\", \"PhoneNumberFrom\", \"PhoneNumberTo\"]", "", "The form fields that are filled from the call. Leave out what the form does not have."),
    key("pyrus", "ca_file", KeyKind::Path, "", "", "Certificate (PEM) of a private authority, for Pyrus on your own servers."),
    key("pyrus", "upload_via", KeyKind::Word(&["auto", "files", "api"]), "\"auto\"", "", "Which host takes the recording. \"auto\": the files host if the login names one."),
    key("pyrus", "max_upload_mib", KeyKind::Number(1, 2047), "2047", "MiB", "The largest file that the server takes; a longer recording is cut into parts. Older servers: 250."),
    key("pyrus", "call_duration_unit", KeyKind::Word(&["seconds", "minutes"]), "\"seconds\"", "", "What the field CallDuration counts in your form."),
    //
    key("pyrus.mappings", "CODE", KeyKind::Mappings, "", "", "For example: Queue = \"header:X-Queue\"."),
    //
    key("console", "listen", KeyKind::Listen, "\"\"", "", "ADDRESS:PORT, of this machine only (127.0.0.1 or [::1]): there is no login. Empty: none."),
    //
    key("alerts", "command", KeyKind::Text, "\"\"", "", "Run by /bin/sh for each alarm, with one JSON line {at, kind, detail, call} on its standard input; at most once in five minutes for each kind. Empty: none."),
    //
    key("rules", "action", KeyKind::Word(&["record", "exclude", "no_register"]), "", "", "Required. record: as usual. exclude: keep no sound at all. no_register: record, but do not tell Pyrus."),
    key("rules", "direction", KeyKind::Word(&["inbound", "outbound", "internal", "unknown"]), "", "", "Which way the call goes."),
    key("rules", "number", KeyKind::Pattern, "", "", "Either number looks like this, for example \"+7495*\"."),
    key("rules", "extension", KeyKind::Pattern, "", "", "The extension looks like this, for example \"1xx\"."),
    key("rules", "header", KeyKind::HeaderMatch, "", "", "The INVITE has this header, for example \"X-Queue\", or with this value: \"X-Queue: vip*\"."),
];

/// The sentence about number sources, said once in the reference.
pub const ABOUT_SOURCES: &str =
    "Where it stands, the first place that has it: \"header:NAME\", \"from\", \"to\" or \"request_uri\".";

const fn key(
    section: &'static str,
    name: &'static str,
    kind: KeyKind,
    default: &'static str,
    unit: &'static str,
    about: &'static str,
) -> ConfigKey {
    ConfigKey { section, name, kind, default, unit, about }
}
