//! The list of all configuration keys: name, kind, default, unit and description.
//!
//! Both the check of a configuration file and the reference (`deploy/callspan.toml`) use this list. So they always know
//! the same keys.

/// Kind of value that a key accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyKind {
    /// Any text in quotes.
    Text,
    /// A secret: any text, never printed.
    Secret,
    /// Path of a file or folder.
    Path,
    /// The word `true` or `false`.
    Switch,
    /// A whole number between the two bounds, both included.
    Number(u64, u64),
    /// A list of whole numbers, each between the two bounds, both included.
    Numbers(u64, u64),
    /// `"auto"` or one of the given numbers.
    AutoOr(&'static [u64]),
    /// One of the given words.
    Word(&'static [&'static str]),
    /// A list of words, each from the given words.
    Words(&'static [&'static str]),
    /// The name of a network interface, or a list of such names.
    Names,
    /// A list of lists of IP addresses. The addresses of an inner list belong to one machine.
    AddressGroups,
    /// A list of user parts of SIP addresses, i.e. of the parts before the `@`.
    Users,
    /// A list of SIP header names.
    HeaderNames,
    /// A list of sources of a phone number: `header:NAME`, `from`, `to`, `request_uri`.
    Sources,
    /// A number pattern, in which `x` stands for any digit.
    Pattern,
    /// Decimal digits, or an empty text.
    Digits,
    /// Keys of a telephone keypad (`0-9*#A-D`), or an empty text.
    Keypad,
    /// The name of a SIP header, or an empty text.
    HeaderName,
    /// An http or https URL.
    Url,
    /// `ADDRESS:PORT` on which to listen, or an empty text.
    Listen,
    /// An IP address, or an empty text.
    Address,
    /// `https://HOST` without a path, or an empty text.
    SiteUrl,
    /// An https URL with any path, or an empty text. An http URL is accepted only for a server on this machine.
    HookUrl,
    /// `HOST:PORT` of a server, or an empty text.
    HostPort,
    /// One e-mail address, or an empty text.
    MailAddress,
    /// One e-mail address, or a list of e-mail addresses.
    MailAddresses,
    /// A SIP header name, or `NAME: PATTERN` for headers with a matching value.
    HeaderMatch,
    /// One public key of the encryption program age, or a list of public keys.
    Recipients,
    /// A table that maps Pyrus field codes to `header:NAME`.
    Mappings,
}

/// One configuration key: its name and the values that it accepts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConfigKey {
    /// Name of the section; `rules` for an entry of the `[[rules]]` list.
    pub(crate) section: &'static str,
    /// Name of the key in its section.
    pub(crate) name: &'static str,
    /// Kind of value that the key accepts.
    pub(crate) kind: KeyKind,
    /// Default value in TOML notation; empty if the key has no default.
    pub(crate) default: &'static str,
    /// Unit in words, e.g. `seconds`; empty if the key has no unit.
    pub(crate) unit: &'static str,
    /// Description of the key in the reference (the example configuration).
    pub(crate) about: &'static str,
}

impl ConfigKey {
    /// Returns the full name of the key: `section.name`.
    pub(crate) fn path(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }
}

/// Name and description of each section, in the order of the reference.
pub(crate) const SECTIONS: &[(&str, &str)] = &[
    ("capture", "Source of live packets. `callspan replay` ignores this section."),
    ("calls", "End of a call, and what its record keeps."),
    (
        "numbers",
        "Numbers of the parties. The defaults fit extensions of two to five digits and leave other numbers as dialled.",
    ),
    ("spool", "Packets that are not rendered yet. The folder should be on a local disk."),
    ("state", "The journal: all calls, and what still has to be delivered to Pyrus."),
    ("recording", "The finished recordings."),
    ("pyrus", "Delivery to Pyrus: one task for each call, with the recording attached."),
    ("pyrus.mappings", "Further form fields that are filled from SIP headers of the INVITE: field code and header."),
    (
        "archive",
        "Copies of all calls in a central archive of several sites: docs/many-sites.md. Without `objects` and `index` there is none.",
    ),
    (
        "console",
        "The console: pages to find a call and hear it, and the API (POST /api/calls/ID/pause and /resume, GET /api/status).",
    ),
    ("alerts", "Alarms: events that need a person. Every alarm is also a line in the log."),
    (
        "webhook",
        "A webhook for finished calls, for those who use another system than Pyrus. Records hold phone numbers.",
    ),
    ("log", "The log of `callspan run` on standard error."),
    (
        "rules",
        "Rules for single calls. The first rule that matches with all its conditions decides. A call that matches no rule \
         is recorded and registered. Repeat [[rules]] for each rule.",
    ),
];

/// All keys, in the order of the reference. Each key has one line, so that the list reads as a table.
#[rustfmt::skip]
pub(crate) const KEYS: &[ConfigKey] = &[
    key("capture", "interface", KeyKind::Names, "", "", "Network interface at the mirror port, or a list of interfaces. Required by `callspan run`, unless hep_listen is set."),
    key("capture", "buffer_mib", KeyKind::Number(1, 2048), "64", "MiB", "Size of the kernel's packet ring for each interface. It holds the packets while callspan is busy."),
    key("capture", "hep_listen", KeyKind::Listen, "\"\"", "", "ADDRESS:PORT (UDP) for agents that send SIP and RTP in HEP 3 (Homer), for example \"10.0.0.5:9060\": a telephone system, or a proxy that ends TLS. Whoever can send there can invent calls, so let the firewall admit the agents only. Empty: none."),
    key("capture", "sip_ports", KeyKind::Numbers(1, 65_535), "[5060]", "", "UDP ports on which every datagram is parsed as SIP, even with bytes before its first line. On other ports SIP is recognised by its first line."),
    // Keys of the section `[calls]`.
    key("calls", "appliance", KeyKind::Text, "\"callspan\"", "", "Name of this recorder in call records. Call ids depend on it too."),
    key("calls", "silence_s", KeyKind::Number(5, 86_400), "300", "seconds", "A call without media for this time is over."),
    key("calls", "hold_s", KeyKind::Number(5, 604_800), "14400", "seconds", "A call on hold without media for this time is over."),
    key("calls", "max_hours", KeyKind::Number(1, 168), "24", "hours", "A call that lasts longer is ended."),
    key("calls", "scan_per_minute", KeyKind::Number(0, 1_000_000), "120", "calls", "Unanswered calls of one source address in a minute. Calls above this number become one record (\"scan: N attempts\"), which is not registered in Pyrus. Each answered call of the source allows 20 more. 0: no limit."),
    key("calls", "correlation_headers", KeyKind::HeaderNames, "[]", "", "SIP headers that identify a call: legs with the same value belong together, for example [\"X-Call-UUID\"]."),
    key("calls", "pbx_addresses", KeyKind::AddressGroups, "[]", "", "Addresses of each PBX or session border controller that has several, for example [[\"198.51.100.10\", \"10.1.0.1\"]]: one to the provider, one to the telephones. Such addresses are also learnt from calls. An address alone in a list is never learnt as part of another machine."),
    key("calls", "keep_headers", KeyKind::HeaderNames, "[]", "", "SIP headers to keep in the call record. Headers named in [numbers] and [pyrus.mappings] are always kept."),
    key("calls", "pause_header", KeyKind::HeaderName, "\"\"", "", "SIP header that pauses and resumes the recording, for example while card numbers are read out. Its value is pause or resume, off or on, in any message of the call. \"Record\" fits telephones with a record key. Empty: none."),
    key("calls", "pause_info", KeyKind::Text, "\"\"", "", "Content-Type of INFO requests that pause and resume by their body, for example \"application/x-recording\". Empty: none."),
    key("calls", "pause_dtmf", KeyKind::Keypad, "\"\"", "", "Telephone keys that pause the recording, pressed by either side, for example \"*71\". Pressed keys are never stored. Empty: none."),
    key("calls", "resume_dtmf", KeyKind::Keypad, "\"\"", "", "Telephone keys that resume the recording, for example \"*72\". They must differ from pause_dtmf."),
    // Keys of the section `[numbers]`.
    key("numbers", "extension_pattern", KeyKind::Pattern, "\"xx,xxx,xxxx,xxxxx\"", "", "Pattern of extensions: x is one digit, * any characters, [2-4] a class. Separate several patterns by commas. Asterisk's patterns (_1XX, NXX, X.) are understood."),
    key("numbers", "extensions", KeyKind::Users, "[]", "", "Further extensions by name, for example \"reception\". Users whose phones register with SIP need not be listed."),
    key("numbers", "from_number", KeyKind::Sources, "[\"header:P-Asserted-Identity\", \"header:Remote-Party-ID\", \"from\"]", "", "The caller's number."),
    key("numbers", "to_number", KeyKind::Sources, "[\"to\", \"request_uri\"]", "", "The called number."),
    key("numbers", "internal_number", KeyKind::Sources, "[]", "", "The extension on our side. Empty: the number that matches extension_pattern."),
    key("numbers", "country_code", KeyKind::Digits, "\"\"", "", "Country code without +, for example \"7\". National numbers become international numbers (E.164). Empty: numbers stay as dialled."),
    key("numbers", "national_prefix", KeyKind::Digits, "\"\"", "", "Prefix dialled before a national number, for example \"8\"."),
    key("numbers", "international_prefix", KeyKind::Digits, "\"\"", "", "Prefix dialled before an international number, for example \"810\"."),
    key("numbers", "outside_prefix", KeyKind::Digits, "\"\"", "", "Digits that extensions dial for an outside line, for example \"9\". They are removed from the called number."),
    key("numbers", "withheld", KeyKind::Text, "\"anonymous\"", "", "Text instead of a withheld number, if no header in from_number has the number."),
    // Keys of the section `[spool]`.
    key("spool", "dir", KeyKind::Path, "\"/var/spool/callspan\"", "", "Folder of the packets. It is created with mode 0700, because it holds speech. A folder outside /var/lib/callspan and /var/spool/callspan needs a drop-in for the systemd unit (`systemctl edit callspan`: [Service] ReadWritePaths=FOLDER). The same applies to state.dir and recording.dir."),
    key("spool", "buffer_mib", KeyKind::Number(1, 4096), "64", "MiB", "Memory for packets that wait for the disk."),
    key("spool", "sync_seconds", KeyKind::Number(1, 300), "5", "seconds", "Interval at which packets are synced to the disk. A power cut loses at most this time."),
    key("spool", "memory_mib", KeyKind::Number(0, 65_536), "48", "MiB", "Size up to which the spool stays in memory. Used by `callspan replay` only."),
    // Keys of the section `[state]`.
    key("state", "dir", KeyKind::Path, "\"/var/lib/callspan/state\"", "", "Folder of journal.sqlite. Another folder may need a drop-in: spool.dir explains it."),
    // Keys of the section `[recording]`.
    key("recording", "dir", KeyKind::Path, "\"/var/lib/callspan/recordings\"", "", "Folder of the recordings; `callspan run` adds YYYY/MM/DD. Another folder may need a drop-in: spool.dir explains it."),
    key("recording", "start", KeyKind::Word(&["answer", "media"]), "\"answer\"", "", "Start of the recording. \"answer\": at the 200 OK. \"media\": at the first RTP packet of either side, including audio while the phone rang."),
    key("recording", "sample_rate", KeyKind::AutoOr(&[8000, 16_000]), "\"auto\"", "Hz", "\"auto\": 16000 if either side uses a wideband codec, else 8000. Or a fixed rate: 8000 or 16000."),
    key("recording", "format", KeyKind::Word(&["wav", "wav-alaw", "wav-ulaw", "ogg-opus"]), "\"wav\"", "", "File format; always stereo, left the caller, right the called party. \"wav\": 16 bit. \"wav-alaw\", \"wav-ulaw\": G.711, always 8000 Hz, half the size. \"ogg-opus\": about a tenth of the size, 24 kbit/s for each side, encoded separately."),
    key("recording", "part_hours", KeyKind::Number(1, 24), "4", "hours", "A longer recording is cut into parts without a gap. Each part is delivered as soon as it is full."),
    key("recording", "keep_days", KeyKind::Number(0, 36_500), "0", "days", "Age at which recordings are removed. Recordings not yet delivered to Pyrus stay. 0: never."),
    key("recording", "max_disk_gib", KeyKind::Number(0, 1_048_576), "0", "GiB", "Largest total size of the recordings. Above it the oldest are removed; recordings not yet delivered to Pyrus stay. 0: no limit."),
    key("recording", "min_free_gib", KeyKind::Number(0, 1_048_576), "2", "GiB", "Least free space on the disk of the recordings. Below it the oldest delivered recordings are removed. The alarms disk_low and disk_full come long before. 0: never."),
    key("recording", "remove_undelivered", KeyKind::Switch, "false", "", "true: min_free_gib and max_disk_gib may also remove recordings that Pyrus does not have. false: they never do, so a full disk stops new recordings instead."),
    key("recording", "encrypt_to", KeyKind::Recipients, "[]", "", "Public key of age (\"age1…\", made by age-keygen), or a list of keys. `callspan run` encrypts recordings to NAME.wav.age once they are delivered, or at once if they are not to be delivered. Kept packets are encrypted too. Without the secret key the recordings are lost. Keep it on another machine: callspan never needs it. Empty: nothing is encrypted."),
    key("recording", "keep_pcap", KeyKind::Switch, "false", "", "true: keep the packets of each call beside its recording, as a pcapng file for Wireshark. Keys and passwords are removed from it."),
    // Keys of the section `[pyrus]`.
    key("pyrus", "enabled", KeyKind::Switch, "false", "", "true: `callspan run` delivers calls; login, a security key and account_id are required."),
    key("pyrus", "auth_url", KeyKind::Url, "\"https://accounts.pyrus.com/api/v4/auth\"", "", "Complete URL of the login. Change it for Pyrus on your own servers. https; http only to this machine."),
    key("pyrus", "login", KeyKind::Text, "", "", "Login of the bot. Give each recorder its own bot: a second login can end the session of the first."),
    key("pyrus", "security_key", KeyKind::Secret, "", "", "Security key of the bot. Better keep it in security_key_file, in the environment variable CALLSPAN_PYRUS_SECURITY_KEY or in the systemd credential pyrus_security_key."),
    key("pyrus", "security_key_file", KeyKind::Path, "", "", "File that holds only the security key and that only the service can read."),
    key("pyrus", "person_id", KeyKind::Number(1, u64::MAX), "", "", "Id of the person in Pyrus. Needed only if the login belongs to several Pyrus accounts."),
    key("pyrus", "account_id", KeyKind::Text, "", "", "Account id of the telephony extension that is connected to the form."),
    key("pyrus", "register_at", KeyKind::Word(&["auto", "ringing", "invite", "answer", "end"]), "\"auto\"", "", "Time at which the task is created. \"auto\": as soon as the extension is known, at the latest when a person answers; at the end of an unanswered call. \"ringing\": as auto, but for a ring group as soon as it rings, although the extension is not known yet."),
    key("pyrus", "directions", KeyKind::Words(&["inbound", "outbound", "internal", "unknown"]), "[\"inbound\", \"outbound\"]", "", "Directions of the calls that are registered in Pyrus. Calls of every direction are recorded."),
    key("pyrus", "unanswered", KeyKind::Switch, "true", "", "true: unanswered calls are registered in Pyrus too."),
    key("pyrus", "send_mappings", KeyKind::Words(&["CallStartTime", "CallEndTime", "CallDuration", "PhoneNumberFrom", "PhoneNumberTo"]), "[\"CallStartTime\", \"CallEndTime\", \"CallDuration\", \"PhoneNumberFrom\", \"PhoneNumberTo\"]", "", "Form fields that are filled from the call. Leave out fields that the form does not have."),
    key("pyrus", "ca_file", KeyKind::Path, "", "", "PEM file with the certificate of a private authority, for Pyrus on your own servers."),
    key("pyrus", "upload_via", KeyKind::Word(&["auto", "files", "api"]), "\"auto\"", "", "Host that receives the recording. \"auto\": the files host if the login names a files host, else the API host."),
    key("pyrus", "max_upload_mib", KeyKind::Number(1, 2047), "2047", "MiB", "Largest file that the Pyrus server accepts. Larger recordings are cut into parts. Older servers accept 250."),
    key("pyrus", "call_duration_unit", KeyKind::Word(&["seconds", "minutes"]), "\"seconds\"", "", "Unit of the field CallDuration in your form."),
    key("pyrus", "outcome_field", KeyKind::Text, "\"\"", "", "Code of a form field that gets the outcome of a finished call: answered, abandoned, cancelled, busy, declined, no_answer, redirected, failed or unknown. Empty: none."),
    key("pyrus", "rating_type", KeyKind::Word(&["number", "text"]), "\"number\"", "", "Type of the field Rating in your form, if [pyrus.mappings] fills it from a header. \"number\" fits a field of type Choice."),
    // Keys of the section `[pyrus.mappings]`.
    key("pyrus.mappings", "CODE", KeyKind::Mappings, "", "", "For example: Queue = \"header:X-Queue\"."),
    // Keys of the section `[archive]`.
    key("archive", "site", KeyKind::Text, "\"\"", "", "Name of this site, unique in the archive: 1 to 40 lower-case letters, digits and hyphens. A box that replaces another takes over its name."),
    key("archive", "objects", KeyKind::Text, "\"\"", "", "Object store for the recordings: \"s3://BUCKET/PREFIX\" or \"file:///FOLDER\". The key of the site needs to put objects below SITE/, and nothing else."),
    key("archive", "endpoint", KeyKind::HookUrl, "", "", "URL of an object store that is not Amazon's."),
    key("archive", "region", KeyKind::Text, "\"us-east-1\"", "", "Region of the bucket."),
    key("archive", "access_key", KeyKind::Text, "\"\"", "", "Id of the access key."),
    key("archive", "secret_key_file", KeyKind::Path, "", "", "File with the secret access key."),
    key("archive", "index", KeyKind::Text, "\"\"", "", "Index in PostgreSQL: \"postgresql://ROLE@HOST/DATABASE\". Other machines are reached with TLS only."),
    key("archive", "index_password_file", KeyKind::Path, "", "", "File with the password of the role."),
    key("archive", "ca_file", KeyKind::Path, "", "", "PEM file with the certificates that both servers are checked against. Empty: the certificates of the system."),
    key("archive", "keep_until_archived", KeyKind::Switch, "false", "", "Keep a recording until the archive has it, whatever [recording] says about age and space."),
    // Keys of the section `[console]`.
    key("console", "listen", KeyKind::Listen, "\"\"", "", "ADDRESS:PORT to listen on. On another address than 127.0.0.1 and [::1], the console speaks TLS and everybody signs in (callspan user add). Empty: no console."),
    key("console", "metrics_listen", KeyKind::Listen, "\"\"", "", "Further ADDRESS:PORT for /metrics, /healthz and /readyz, for a Prometheus on another machine, for example \"10.0.0.5:9464\". Nothing else is served there, and nothing there contains a phone number. Empty: only console.listen has them, for this machine."),
    key("console", "public_url", KeyKind::SiteUrl, "\"\"", "", "Address under which a proxy with TLS on this machine shows the console to others, for example \"https://calls.example.org\". Then every visitor must sign in (callspan user add). Empty: only this machine."),
    key("console", "certificate", KeyKind::Path, "", "", "Certificate chain in PEM. Empty: on an address for others, a certificate is made at the first start, and its fingerprint is in the log."),
    key("console", "certificate_key", KeyKind::Path, "", "", "Private key of console.certificate in PEM."),
    key("console", "trusted_proxy", KeyKind::Address, "\"\"", "", "Address of the proxy that signs people in, by LDAP or OIDC for example, and names them in console.trusted_header. A program at this address can act as any user. Empty: none."),
    key("console", "trusted_header", KeyKind::HeaderName, "\"\"", "", "Header in which that proxy names the user, for example \"X-Remote-User\". The role and scope are those of the user of this name (callspan user add NAME --no-password). The proxy must remove this header from requests of others."),
    // Keys of the section `[alerts]`.
    key("alerts", "mirror_silent_minutes", KeyKind::Number(0, 1440), "15", "minutes", "Alarm mirror_silent when no SIP arrived for this time, at an hour that had SIP on earlier days. 0: never."),
    key("alerts", "mirror_window_minutes", KeyKind::Number(1, 60), "5", "minutes", "Time for which directions and media of the mirror are collected before they are judged. The alarms mirror_one_sided and media_unheard are raised after two such periods in a row with the finding. They end after one period without it."),
    key("alerts", "language", KeyKind::Word(&["en", "ru"]), "\"en\"", "", "Language of mail and Telegram: \"en\" or \"ru\". Webhooks and the command get English, whichever is set."),
    key("alerts", "webhook_url", KeyKind::HookUrl, "\"\"", "", "Address that gets each alarm as a POST with JSON, tried again until it is taken. Empty: none."),
    key("alerts", "webhook_secret", KeyKind::Secret, "", "", "Secret of the signature: header X-Callspan-Signature, sha256= and the HMAC-SHA256 of \"TIMESTAMP.BODY\" in hex; TIMESTAMP is in X-Callspan-Timestamp. Better keep it in webhook_secret_file."),
    key("alerts", "webhook_secret_file", KeyKind::Path, "", "", "File that holds only the secret."),
    key("alerts", "mail_server", KeyKind::HostPort, "\"\"", "", "Mail server, HOST:PORT, for example \"smtp.example.org:587\". Empty: no mail."),
    key("alerts", "mail_tls", KeyKind::Word(&["starttls", "tls", "none"]), "\"starttls\"", "", "Encryption: \"starttls\" (port 587), \"tls\" (port 465), or \"none\" for a server on this machine."),
    key("alerts", "mail_from", KeyKind::MailAddress, "\"\"", "", "Address of the sender. Required for mail."),
    key("alerts", "mail_to", KeyKind::MailAddresses, "[]", "", "Address of the receiver, or a list of addresses. Required for mail."),
    key("alerts", "mail_login", KeyKind::Text, "\"\"", "", "Login at the mail server. Empty: none."),
    key("alerts", "mail_password", KeyKind::Secret, "", "", "Password of mail_login. Better keep it in mail_password_file."),
    key("alerts", "mail_password_file", KeyKind::Path, "", "", "File that holds only the password."),
    key("alerts", "telegram_chat", KeyKind::Text, "\"\"", "", "Id of the Telegram chat that gets each alarm. Empty: none."),
    key("alerts", "telegram_token", KeyKind::Secret, "", "", "Token of the Telegram bot. Better keep it in telegram_token_file."),
    key("alerts", "telegram_token_file", KeyKind::Path, "", "", "File that holds only the token."),
    key("alerts", "telegram_url", KeyKind::HookUrl, "\"https://api.telegram.org\"", "", "Address of the Bot API."),
    key("alerts", "command", KeyKind::Text, "\"\"", "", "Command that /bin/sh runs for each alarm, at most once in five minutes for each kind. It reads one JSON line {at, kind, detail, call} from standard input. Empty: none."),
    // Keys of the section `[webhook]`.
    key("webhook", "url", KeyKind::HookUrl, "\"\"", "", "Address that gets the record of each finished call as a POST with JSON {type, record}, tried again until it is taken. The header Idempotency-Key is the id of the call. Empty: none."),
    key("webhook", "secret", KeyKind::Secret, "", "", "Secret of the signature, as alerts.webhook_secret. Better keep it in secret_file."),
    key("webhook", "secret_file", KeyKind::Path, "", "", "File that holds only the secret."),
    // Keys of the section `[log]`.
    key("log", "level", KeyKind::Word(&["error", "warn", "info", "debug", "trace"]), "\"info\"", "", "Level of the log. No level shows phone numbers. --log and CALLSPAN_LOG take precedence."),
    // Keys of an entry of `[[rules]]`.
    key("rules", "action", KeyKind::Word(&["record", "exclude", "no_register"]), "", "", "Required. record: record and register. exclude: keep no audio. no_register: record, but do not register in Pyrus."),
    key("rules", "direction", KeyKind::Word(&["inbound", "outbound", "internal", "unknown"]), "", "", "Direction of the call."),
    key("rules", "number", KeyKind::Pattern, "", "", "Pattern that either number matches, for example \"+7495*\"."),
    key("rules", "extension", KeyKind::Pattern, "", "", "Pattern that the extension matches, for example \"1xx\"."),
    key("rules", "header", KeyKind::HeaderMatch, "", "", "Header of the INVITE, for example \"X-Queue\". With a pattern, its value must match: \"X-Queue: vip*\"."),
];

/// Explanation of the values of the kind `Sources`. It appears once in the reference.
pub(crate) const ABOUT_SOURCES: &str =
    "Sources, in order of preference: \"header:NAME\", \"from\", \"to\" or \"request_uri\".";

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
