//! Second stage of loading a configuration: fills the modules' own structs from checked values, and checks rules that
//! involve several keys.

use std::path::PathBuf;

use super::finding::ConfigFinding;
use super::raw::{ConfigGroup, ConfigValue, GivenValue, RawConfig, RawRule};
use super::value::{number_source, split_header_match};
use super::{Config, ConfigPurpose, SecretSources, TrustedProxy, folders, plausible, secret};
use crate::call::config::{CallRule, NumberSource, RecordingStart, RuleAction};
use crate::call::phrasebook::TextLanguage;
use crate::call::record::CallDirection;
use crate::central::config::is_site_name;
use crate::ops::notify::config::{MailConfig, MailTls, NotifyConfig, NotifySecret, TelegramConfig, WebhookConfig};
use crate::pyrus::config::{DurationUnit, RatingType, RegisterAt, UploadVia};
use crate::recording::config::{RecordingFormat, UndeliveredPolicy};

/// Builds a configuration from the values of a file. Missing keys and contradictions are appended to `findings`.
pub(crate) fn build(
    raw: &RawConfig,
    purpose: ConfigPurpose,
    surroundings: &SecretSources,
    findings: &mut Vec<ConfigFinding>,
) -> Config {
    let mut config = Config::default();
    capture(raw, &mut config);
    calls(raw, &mut config);
    numbers(raw, &mut config);
    storage(raw, &mut config);
    pyrus(raw, &mut config);
    console(raw, &mut config);
    archive(raw, &mut config);
    config.alerts.command =
        ConfigSection { raw, name: "alerts" }.text("command").filter(|c| !c.trim().is_empty()).map(str::to_owned);
    ConfigSection { raw, name: "log" }.set_text("level", &mut config.log.level);
    ConfigSection { raw, name: "alerts" }.set_number("mirror_silent_minutes", &mut config.alerts.mirror_silent_minutes);
    ConfigSection { raw, name: "alerts" }.set_number("mirror_window_minutes", &mut config.alerts.mirror_window_minutes);
    config.alerts.notify = notify(raw, &config.call.appliance, findings);
    config.call.rules = rules(raw, findings);
    keep_headers(raw, &mut config);
    config.pyrus.enabled = match purpose {
        ConfigPurpose::Replay => false,
        ConfigPurpose::ReplayAndDeliver => true,
        ConfigPurpose::Run | ConfigPurpose::Check | ConfigPurpose::CheckForService | ConfigPurpose::Inspect => {
            config.pyrus.enabled
        }
    };
    secret::find(raw, &mut config.pyrus, surroundings, purpose, findings);
    required(raw, &config, purpose, findings);
    interface_twice(raw, &config, findings);
    plausible::placeholders(&config, raw, purpose, findings);
    ca_file(raw, &config, findings);
    archive_settings(raw, &config, findings);
    pause_keys(raw, &config, findings);
    certificate(raw, &config, findings);
    config
}

/// Reads the values of one section of the file, and reports missing keys.
#[derive(Clone, Copy)]
struct ConfigSection<'r> {
    raw: &'r RawConfig,
    name: &'static str,
}

impl<'r> ConfigSection<'r> {
    fn get(self, key: &str) -> Option<&'r GivenValue> {
        self.raw.get(self.name, key)
    }

    fn text(self, key: &str) -> Option<&'r str> {
        self.get(key).and_then(as_text)
    }

    fn set_text(self, key: &str, to: &mut String) {
        if let Some(text) = self.text(key) {
            text.clone_into(to);
        }
    }

    fn set_path(self, key: &str, to: &mut PathBuf) {
        if let Some(text) = self.text(key) {
            *to = PathBuf::from(text);
        }
    }

    fn set_switch(self, key: &str, to: &mut bool) {
        if let Some(GivenValue { value: ConfigValue::Switch(on), .. }) = self.get(key) {
            *to = *on;
        }
    }

    fn set_number(self, key: &str, to: &mut u32) {
        if let Some(GivenValue { value: ConfigValue::Number(n), .. }) = self.get(key) {
            *to = u32::try_from(*n).unwrap_or(u32::MAX);
        }
    }

    fn set_texts(self, key: &str, to: &mut Vec<String>) {
        if let Some(GivenValue { value: ConfigValue::Texts(texts), .. }) = self.get(key) {
            texts.clone_into(to);
        }
    }

    fn set_sources(self, key: &str, to: &mut Vec<NumberSource>) {
        if let Some(GivenValue { value: ConfigValue::Texts(texts), .. }) = self.get(key) {
            *to = texts.iter().filter_map(|t| number_source(t)).collect();
        }
    }
}

fn as_text(given: &GivenValue) -> Option<&str> {
    match &given.value {
        ConfigValue::Text(text) => Some(text),
        _ => None,
    }
}

fn capture(raw: &RawConfig, config: &mut Config) {
    let section = ConfigSection { raw, name: "capture" };
    section.set_texts("interface", &mut config.capture.interfaces);
    section.set_number("buffer_mib", &mut config.capture.buffer_mib);
    config.capture.hep_listen = section.text("hep_listen").and_then(|text| text.parse().ok());
    if let Some(GivenValue { value: ConfigValue::Numbers(ports), .. }) = section.get("sip_ports") {
        config.call.sip_ports = ports.iter().filter_map(|p| u16::try_from(*p).ok()).collect();
    }
}

fn calls(raw: &RawConfig, config: &mut Config) {
    let section = ConfigSection { raw, name: "calls" };
    section.set_text("appliance", &mut config.call.appliance);
    section.set_number("silence_s", &mut config.call.silence_s);
    section.set_number("hold_s", &mut config.call.hold_s);
    section.set_number("max_hours", &mut config.call.max_hours);
    section.set_number("scan_per_minute", &mut config.call.scan_per_minute);
    section.set_texts("correlation_headers", &mut config.call.correlation_headers);
    if let Some(GivenValue { value: ConfigValue::AddressGroups(groups), .. }) = section.get("pbx_addresses") {
        groups.clone_into(&mut config.call.pbx_addresses);
    }
    section.set_texts("keep_headers", &mut config.call.keep_headers);
    let pause = &mut config.call.pause;
    section.set_text("pause_header", &mut pause.header);
    section.set_text("pause_info", &mut pause.info_type);
    section.set_text("pause_dtmf", &mut pause.dtmf);
    section.set_text("resume_dtmf", &mut pause.resume_dtmf);
}

fn numbers(raw: &RawConfig, config: &mut Config) {
    let section = ConfigSection { raw, name: "numbers" };
    let numbers = &mut config.call.numbers;
    section.set_text("extension_pattern", &mut numbers.extension_pattern);
    section.set_texts("extensions", &mut numbers.extensions);
    section.set_sources("from_number", &mut numbers.from_number);
    section.set_sources("to_number", &mut numbers.to_number);
    section.set_sources("internal_number", &mut numbers.internal_number);
    section.set_text("country_code", &mut numbers.country_code);
    section.set_text("national_prefix", &mut numbers.national_prefix);
    section.set_text("international_prefix", &mut numbers.international_prefix);
    section.set_text("outside_prefix", &mut numbers.outside_prefix);
    section.set_text("withheld", &mut numbers.withheld);
}

fn storage(raw: &RawConfig, config: &mut Config) {
    let spool = ConfigSection { raw, name: "spool" };
    spool.set_path("dir", &mut config.spool.dir);
    spool.set_number("buffer_mib", &mut config.spool.buffer_mib);
    spool.set_number("sync_seconds", &mut config.spool.sync_seconds);
    spool.set_number("memory_mib", &mut config.spool.memory_mib);
    ConfigSection { raw, name: "state" }.set_path("dir", &mut config.journal.dir);
    let section = ConfigSection { raw, name: "recording" };
    section.set_path("dir", &mut config.recording.dir);
    section.set_number("part_hours", &mut config.recording.part_hours);
    section.set_number("keep_days", &mut config.recording.keep_days);
    section.set_number("max_disk_gib", &mut config.recording.max_disk_gib);
    section.set_switch("keep_pcap", &mut config.recording.keep_pcap);
    if let Some(GivenValue { value: ConfigValue::Texts(keys), .. }) = section.get("encrypt_to") {
        config.recording.encrypt_to = keys.iter().filter_map(|key| key.parse().ok()).collect();
    }
    if let Some(format) = section.text("format").and_then(RecordingFormat::from_name) {
        config.recording.format = format;
    }
    section.set_number("min_free_gib", &mut config.recording.min_free_gib);
    let mut remove = config.recording.undelivered == UndeliveredPolicy::Remove;
    section.set_switch("remove_undelivered", &mut remove);
    config.recording.undelivered = if remove { UndeliveredPolicy::Remove } else { UndeliveredPolicy::Keep };
    if let Some(GivenValue { value: ConfigValue::Number(rate), .. }) = section.get("sample_rate") {
        config.recording.sample_rate = u32::try_from(*rate).ok();
    }
    if section.text("start") == Some("media") {
        config.call.start = RecordingStart::Media;
    }
}

fn pyrus(raw: &RawConfig, config: &mut Config) {
    let section = ConfigSection { raw, name: "pyrus" };
    let pyrus = &mut config.pyrus;
    section.set_switch("enabled", &mut pyrus.enabled);
    section.set_text("auth_url", &mut pyrus.auth_url);
    section.set_text("login", &mut pyrus.login);
    pyrus.security_key_file = section.text("security_key_file").map(PathBuf::from);
    if let Some(GivenValue { value: ConfigValue::Number(id), .. }) = section.get("person_id") {
        pyrus.person_id = Some(*id);
    }
    section.set_text("account_id", &mut pyrus.account_id);
    pyrus.register_at = match section.text("register_at") {
        Some("ringing") => RegisterAt::Ringing,
        Some("invite") => RegisterAt::Invite,
        Some("answer") => RegisterAt::Answer,
        Some("end") => RegisterAt::End,
        _ => RegisterAt::Auto,
    };
    config.call.registered_at = pyrus.register_at.moment();
    if let Some(GivenValue { value: ConfigValue::Texts(words), .. }) = section.get("directions") {
        pyrus.directions = words.iter().filter_map(|w| direction(w)).collect();
    }
    section.set_switch("unanswered", &mut pyrus.unanswered);
    section.set_texts("send_mappings", &mut pyrus.send_mappings);
    pyrus.mappings = raw.mappings.iter().map(|(code, header, _)| (code.clone(), header.clone())).collect();
    pyrus.ca_file = section.text("ca_file").map(PathBuf::from);
    pyrus.upload_via = match section.text("upload_via") {
        Some("files") => UploadVia::Files,
        Some("api") => UploadVia::Api,
        _ => UploadVia::Auto,
    };
    section.set_number("max_upload_mib", &mut pyrus.max_upload_mib);
    pyrus.outcome_field = section.text("outcome_field").filter(|code| !code.is_empty()).map(str::to_owned);
    pyrus.rating_type = match section.text("rating_type") {
        Some("text") => RatingType::Text,
        _ => RatingType::Number,
    };
    pyrus.call_duration_unit = match section.text("call_duration_unit") {
        Some("minutes") => DurationUnit::Minutes,
        _ => DurationUnit::Seconds,
    };
}

fn direction(word: &str) -> Option<CallDirection> {
    match word {
        "inbound" => Some(CallDirection::Inbound),
        "outbound" => Some(CallDirection::Outbound),
        "internal" => Some(CallDirection::Internal),
        "unknown" => Some(CallDirection::Unknown),
        _ => None,
    }
}

fn rules(raw: &RawConfig, findings: &mut Vec<ConfigFinding>) -> Vec<CallRule> {
    let mut rules = Vec::new();
    let mut catch_all = None;
    for RawRule { line, group, given, has_action } in &raw.rules {
        if let Some(earlier) = catch_all {
            let what = format!("this rule is never reached: the rule in line {earlier} matches every call");
            findings.push(ConfigFinding::warning(*line, what, "move the rule without conditions to the end"));
        }
        let Some(rule) = rule(group) else {
            // A wrong value of `action` is already reported by another finding, so only a missing `action` is reported
            // here.
            if !has_action {
                let remedy = "add action = \"record\", \"exclude\" or \"no_register\"";
                findings.push(ConfigFinding::mistake(*line, "this rule has no action", remedy));
            }
            continue;
        };
        // A rule with only an action matches every call. All keys in the file are counted, so that a rule with a
        // misspelt condition is not reported as matching every call.
        if *given == 1 {
            catch_all = catch_all.or(Some(*line));
        }
        rules.push(rule);
    }
    rules
}

fn rule(group: &ConfigGroup) -> Option<CallRule> {
    let text = |name: &str| group.get(name).and_then(as_text);
    let action = match text("action")? {
        "exclude" => RuleAction::Exclude,
        "no_register" => RuleAction::NoRegister,
        _ => RuleAction::Record,
    };
    Some(CallRule {
        direction: text("direction").and_then(direction),
        number: text("number").map(str::to_owned),
        extension: text("extension").map(str::to_owned),
        header: text("header").map(split_header_match),
        action,
    })
}

/// Makes the engine keep the SIP headers that `[numbers]` and `[pyrus.mappings]` use.
fn keep_headers(raw: &RawConfig, config: &mut Config) {
    let used = config.call.numbers.clone();
    let sources = used.from_number.iter().chain(&used.to_number).chain(&used.internal_number);
    let from_numbers = sources.filter_map(|s| match s {
        NumberSource::Header(name) => Some(name.clone()),
        NumberSource::From | NumberSource::To | NumberSource::RequestUri => None,
    });
    // The default sources of phone numbers use headers that contain only phone numbers, which the call record has
    // anyway. So only headers that the administrator configured are added.
    let configured = ["from_number", "to_number", "internal_number"];
    let numbers_given = configured.iter().any(|key| raw.get("numbers", key).is_some());
    let wanted = from_numbers.filter(|_| numbers_given).chain(raw.mappings.iter().map(|(_, header, _)| header.clone()));
    for name in wanted {
        if !config.call.keep_headers.iter().any(|have| have.eq_ignore_ascii_case(&name)) {
            config.call.keep_headers.push(name);
        }
    }
}

fn required(raw: &RawConfig, config: &Config, purpose: ConfigPurpose, findings: &mut Vec<ConfigFinding>) {
    let is_reported = findings.iter().any(|f| f.is_mistake() && f.what.starts_with("capture.interface"));
    if config.capture.interfaces.is_empty() && config.capture.hep_listen.is_none() && !is_reported {
        let remedy = "add it below [capture]: interface = \"eth1\" (`ip link` lists them)";
        let line = raw.line_of("capture");
        match purpose {
            ConfigPurpose::Run | ConfigPurpose::CheckForService => {
                findings.push(ConfigFinding::mistake(line, "capture.interface is missing", remedy));
            }
            ConfigPurpose::Check => {
                let what = "capture.interface is missing; `callspan run` does not start without it";
                findings.push(ConfigFinding::warning(line, what, remedy));
            }
            ConfigPurpose::Replay | ConfigPurpose::ReplayAndDeliver | ConfigPurpose::Inspect => {}
        }
    }
    if config.pyrus.enabled && purpose != ConfigPurpose::Inspect {
        required_for_delivery(raw, config, purpose, findings);
    }
}

/// Refuses a list that names an interface twice, because each packet would be captured twice.
fn interface_twice(raw: &RawConfig, config: &Config, findings: &mut Vec<ConfigFinding>) {
    let names = &config.capture.interfaces;
    if let Some((_, name)) = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
        let line = raw.get("capture", "interface").map(|given| given.line);
        findings.push(ConfigFinding::mistake(line, format!("capture.interface names {name} twice"), "keep only one"));
    }
}

fn required_for_delivery(raw: &RawConfig, config: &Config, purpose: ConfigPurpose, findings: &mut Vec<ConfigFinding>) {
    let why = match purpose {
        ConfigPurpose::ReplayAndDeliver => "--deliver needs it",
        _ => "pyrus.enabled = true needs it",
    };
    let line = raw.line_of("pyrus");
    let mut missing = |key: &str, remedy: &str| {
        // If the file has a wrong value for this key, another finding reports it. Then the key is not reported as
        // missing, too.
        let reported = findings.iter().any(|f| f.is_mistake() && f.what.contains(&format!("pyrus.{key}")));
        if !reported {
            findings.push(ConfigFinding::mistake(line, format!("pyrus.{key} is missing: {why}"), remedy));
        }
    };
    if config.pyrus.login.is_empty() {
        missing("login", "add the login of the bot below [pyrus]");
    }
    if config.pyrus.account_id.is_empty() {
        missing("account_id", "add the account id of the telephony extension that is connected to the form");
    }
    let has_credential = purpose.is_check() && folders::unit_has_credential(secret::CREDENTIAL);
    if config.pyrus.security_key.is_none() && !has_credential {
        missing(
            "security_key",
            "name a file in security_key_file, or set CALLSPAN_PYRUS_SECURITY_KEY (only the service can see a systemd credential)",
        );
    }
}

fn archive(raw: &RawConfig, config: &mut Config) {
    let section = ConfigSection { raw, name: "archive" };
    let archive = &mut config.archive;
    section.set_text("site", &mut archive.site);
    section.set_text("objects", &mut archive.objects);
    section.set_text("region", &mut archive.region);
    section.set_text("access_key", &mut archive.access_key);
    section.set_text("index", &mut archive.index);
    archive.endpoint = section.text("endpoint").map(str::to_owned);
    archive.secret_key_file = section.text("secret_key_file").map(PathBuf::from);
    archive.index_password_file = section.text("index_password_file").map(PathBuf::from);
    archive.ca_file = section.text("ca_file").map(PathBuf::from);
    section.set_switch("keep_until_archived", &mut archive.keep_until_archived);
    config.call.has_voice_prints = archive.is_used();
}

/// Checks that an archive is completely configured, i.e. with a site name, an object store and a database.
fn archive_settings(raw: &RawConfig, config: &Config, findings: &mut Vec<ConfigFinding>) {
    let archive = &config.archive;
    let mut wrong = |key: &str, what: String, remedy: &str| {
        findings.push(ConfigFinding::mistake(raw.get("archive", key).map(|g| g.line), what, remedy));
    };
    if !archive.objects.is_empty() && !["s3://", "file:///"].iter().any(|scheme| archive.objects.starts_with(scheme)) {
        let what = String::from("archive.objects must begin with s3:// or file:///");
        wrong("objects", what, "write \"s3://BUCKET/PREFIX\" or \"file:///FOLDER\"");
    }
    if archive.site.is_empty() {
        return; // a central console needs an index but no site name
    }
    if !is_site_name(&archive.site) {
        let what = format!("archive.site = \"{}\" is no name of a site", archive.site);
        wrong("site", what, "write 1 to 40 lower-case letters, digits and hyphens, for example \"north-1\"");
    }
    for (key, value) in [("objects", &archive.objects), ("index", &archive.index)] {
        if value.is_empty() {
            wrong("site", format!("archive.site is set, but archive.{key} is not"), "set all three, or none");
        }
    }
}

fn ca_file(raw: &RawConfig, config: &Config, findings: &mut Vec<ConfigFinding>) {
    let Some(path) = &config.pyrus.ca_file else { return };
    let line = raw.get("pyrus", "ca_file").map(|g| g.line);
    let wrong = match std::fs::read_to_string(path) {
        Ok(text) if text.contains("-----BEGIN CERTIFICATE-----") => return,
        Ok(_) => String::from("it holds no certificate in PEM form"),
        Err(error) => super::finding::io_reason(&error),
    };
    findings.push(ConfigFinding::mistake(
        line,
        format!("pyrus.ca_file {}: {wrong}", path.display()),
        "name a PEM file",
    ));
}

fn pause_keys(raw: &RawConfig, config: &Config, findings: &mut Vec<ConfigFinding>) {
    let pause = &config.call.pause;
    let line = raw.get("calls", "pause_dtmf").or_else(|| raw.get("calls", "resume_dtmf")).map(|g| g.line);
    if !pause.dtmf.is_empty() && pause.dtmf.eq_ignore_ascii_case(&pause.resume_dtmf) {
        let what = "calls.pause_dtmf and calls.resume_dtmf are the same";
        // Both legs of a call carry the same key presses, so each press arrives twice. With the same keys for pause and
        // resume, the second arrival would undo the first.
        findings.push(ConfigFinding::mistake(line, what, "choose different keys, for example \"*71\" and \"*72\""));
    }
    if pause.dtmf.is_empty() && !pause.resume_dtmf.is_empty() {
        findings.push(ConfigFinding::warning(
            line,
            "calls.resume_dtmf is set, but calls.pause_dtmf is not",
            "add calls.pause_dtmf",
        ));
    }
}

fn console(raw: &RawConfig, config: &mut Config) {
    let section = ConfigSection { raw, name: "console" };
    let given = |key| section.text(key).map(str::trim).filter(|text| !text.is_empty());
    config.console.listen = given("listen").and_then(|text| text.parse().ok());
    config.console.metrics_listen = given("metrics_listen").and_then(|text| text.parse().ok());
    config.console.public_url = given("public_url").map(|url| url.trim_end_matches('/').to_owned());
    config.console.certificate = given("certificate").map(PathBuf::from);
    config.console.certificate_key = given("certificate_key").map(PathBuf::from);
    let address = given("trusted_proxy").and_then(|text| text.parse().ok());
    let header = given("trusted_header").map(str::to_ascii_lowercase);
    config.console.trusted_proxy = address.zip(header).map(|(address, header)| TrustedProxy { address, header });
}

/// Returns the configuration of webhooks, mail and Telegram.
fn notify(raw: &RawConfig, appliance: &str, findings: &mut Vec<ConfigFinding>) -> NotifyConfig {
    let (alerts, calls) = (ConfigSection { raw, name: "alerts" }, ConfigSection { raw, name: "webhook" });
    let given = |section: ConfigSection<'_>, key: &str| {
        section.text(key).map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let secret = |section: ConfigSection<'_>, key: &str| NotifySecret {
        text: given(section, key),
        file: given(section, &format!("{key}_file")).map(PathBuf::from),
    };
    let mut to = Vec::new();
    alerts.set_texts("mail_to", &mut to);
    let mail = MailConfig {
        server: given(alerts, "mail_server").unwrap_or_default(),
        tls: match alerts.text("mail_tls") {
            Some("tls") => MailTls::Tls,
            Some("none") => MailTls::None,
            _ => MailTls::StartTls,
        },
        from: given(alerts, "mail_from").unwrap_or_default(),
        to,
        login: given(alerts, "mail_login").unwrap_or_default(),
        password: secret(alerts, "mail_password"),
    };
    let telegram = TelegramConfig {
        url: given(alerts, "telegram_url").unwrap_or_else(|| String::from("https://api.telegram.org")),
        token: secret(alerts, "telegram_token"),
        chat: given(alerts, "telegram_chat").unwrap_or_default(),
    };
    incomplete_ways(raw, &mail, &telegram, findings);
    let hook =
        |section, url: &str, key: &str| Some(WebhookConfig { url: given(section, url)?, secret: secret(section, key) });
    NotifyConfig {
        appliance: appliance.to_owned(),
        language: if alerts.text("language") == Some("ru") { TextLanguage::Ru } else { TextLanguage::En },
        alarms: hook(alerts, "webhook_url", "webhook_secret"),
        calls: hook(calls, "url", "secret"),
        mail: (!mail.server.is_empty()).then_some(mail),
        telegram: (!telegram.chat.is_empty()).then_some(telegram),
    }
}

/// Warns if a receiver of alarms lacks a configuration key that it needs, or if a password would be sent unencrypted.
fn incomplete_ways(raw: &RawConfig, mail: &MailConfig, telegram: &TelegramConfig, findings: &mut Vec<ConfigFinding>) {
    // If the file has a wrong value for this key, another finding reports it. Then the key is not reported as missing,
    // too.
    let is_reported = |key: &str| findings.iter().any(|f| f.is_mistake() && f.what.contains(key));
    let lacks_from = mail.from.is_empty() && !is_reported("alerts.mail_from");
    let lacks_to = mail.to.is_empty() && !is_reported("alerts.mail_to");
    let mut warn = |key: &str, what: &str, remedy: &str| {
        let line = raw.get("alerts", key).map(|given| given.line);
        findings.push(ConfigFinding::warning(line, what, remedy));
    };
    if !mail.server.is_empty() {
        if lacks_from || lacks_to {
            warn("mail_server", "alerts.mail_server is set, but no mail can be sent", "add mail_from and mail_to");
        }
        for (port, tls, needed) in [(":465", MailTls::StartTls, "tls"), (":587", MailTls::Tls, "starttls")] {
            if mail.server.ends_with(port) && mail.tls == tls {
                let what = format!("alerts.mail_server has the port {}, which speaks {needed}", &port[1..]);
                warn("mail_server", &what, &format!("write mail_tls = \"{needed}\""));
            }
        }
        let is_here = mail.server.starts_with("127.") || mail.server.starts_with("localhost:");
        if mail.tls == MailTls::None && !mail.login.is_empty() && !is_here {
            warn("mail_tls", "the mail password would cross the network unprotected", "write mail_tls = \"starttls\"");
        }
    }
    let has_token = telegram.token.text.is_some() || telegram.token.file.is_some();
    if telegram.chat.is_empty() == has_token {
        let what = "Telegram needs both alerts.telegram_chat and a token: nothing is sent";
        warn(if has_token { "telegram_token" } else { "telegram_chat" }, what, "add the other one");
    }
}

/// Checks keys of the console that must be set together, e.g. certificate and private key.
fn certificate(raw: &RawConfig, config: &Config, findings: &mut Vec<ConfigFinding>) {
    let section = ConfigSection { raw, name: "console" };
    if config.console.metrics_listen.is_some() && config.console.listen.is_none() {
        let line = raw.get("console", "metrics_listen").map(|g| g.line);
        let what = "console.metrics_listen is set, but console.listen is not: nothing is served";
        findings.push(ConfigFinding::warning(line, what, "add listen = \"127.0.0.1:8080\" below [console]"));
    }
    if config.console.metrics_listen.is_some() && config.console.metrics_listen == config.console.listen {
        let line = raw.get("console", "metrics_listen").map(|g| g.line);
        let what = "console.metrics_listen is the address of console.listen, which has the metrics anyway";
        findings.push(ConfigFinding::mistake(line, what, "write another port, or remove the key"));
    }
    for (first, second) in [("certificate", "certificate_key"), ("trusted_proxy", "trusted_header")] {
        let [is_first, is_second] =
            [first, second].map(|key| section.text(key).is_some_and(|text| !text.trim().is_empty()));
        if is_first != is_second {
            let (given, missing) = if is_first { (first, second) } else { (second, first) };
            let line = raw.get("console", given).map(|value| value.line);
            let what = format!("console.{given} is set, but console.{missing} is not");
            findings.push(ConfigFinding::mistake(
                line,
                what,
                format!("add console.{missing}, or remove console.{given}"),
            ));
        }
    }
    for (key, path) in
        [("certificate", &config.console.certificate), ("certificate_key", &config.console.certificate_key)]
    {
        if let Some(path) = path.as_ref().filter(|path| !path.is_file()) {
            let line = raw.get("console", key).map(|value| value.line);
            let what = format!("console.{key}: there is no file {}", path.display());
            findings.push(ConfigFinding::mistake(line, what, "write the path of a PEM file that callspan can read"));
        }
    }
}
