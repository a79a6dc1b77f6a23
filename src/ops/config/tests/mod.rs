use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;

use secrecy::ExposeSecret;

use super::keys::{KEYS, KeyKind};
use super::*;
use crate::call::config::{CallRule, NumberSource, RecordingStart, RuleAction};
use crate::call::record::CallDirection;

mod mistakes;

fn check(text: &str) -> Result<LoadedConfig, ConfigError> {
    Config::from_text(text, "test.toml", ConfigPurpose::Replay, &SecretSources::default())
}

fn for_run(text: &str) -> Result<LoadedConfig, ConfigError> {
    Config::from_text(text, "test.toml", ConfigPurpose::Run, &SecretSources::default())
}

/// Returns the findings of a configuration that must be invalid, as texts. Panics if the configuration is valid.
fn mistakes(result: Result<LoadedConfig, ConfigError>) -> Vec<String> {
    match result {
        Err(ConfigError::Wrong { findings, .. }) => findings.iter().map(ToString::to_string).collect(),
        other => panic!("expected mistakes, got {other:?}"),
    }
}

#[test]
fn empty_file_gives_the_defaults() {
    let loaded = check("").expect("nothing is required for replay");
    assert_eq!(format!("{:?}", loaded.config), format!("{:?}", Config::default()));
    assert!(loaded.warnings.is_empty());
}

#[test]
fn shipped_example_is_generated_from_the_key_list() {
    let shipped = include_str!("../../../../deploy/callspan.toml");
    assert!(shipped == reference::example(), "run: callspan check-config --example > deploy/callspan.toml");
}

#[test]
fn example_is_a_valid_configuration() {
    let loaded = for_run(&reference::example()).expect("the example is valid");
    assert_eq!(loaded.config.capture.interfaces, ["eth1"]);
}

#[test]
fn reference_defaults_equal_the_defaults_of_the_code() {
    // A file with every default written out must load as the same configuration as an empty file.
    let mut text = String::new();
    let mut section = "";
    for key in KEYS.iter().filter(|k| !k.default.is_empty()) {
        if key.section != section {
            section = key.section;
            text.push_str(&format!("[{section}]\n"));
        }
        text.push_str(&format!("{} = {}\n", key.name, key.default));
    }
    let mut config = check(&text).expect("defaults are valid").config;
    // A file that sets the sources of phone numbers also adds their headers to `keep_headers`. This file sets the
    // default sources, which use these two headers.
    assert_eq!(std::mem::take(&mut config.call.keep_headers), ["P-Asserted-Identity", "Remote-Party-ID"]);
    assert_eq!(format!("{config:?}"), format!("{:?}", Config::default()));
}

#[test]
fn every_key_changes_the_configuration() {
    let key_file = tempfile::NamedTempFile::new().expect("temporary file");
    std::fs::write(key_file.path(), "from the file\n").expect("written");
    let ca_file = tempfile::NamedTempFile::new().expect("temporary file");
    std::fs::write(ca_file.path(), "-----BEGIN CERTIFICATE-----\n").expect("written");
    let file = format!("{:?}", key_file.path());
    // Each of these console keys has an effect only together with the key beside it, so the test sets both.
    let halves = [
        ("certificate", format!("certificate_key = {file}")),
        ("certificate_key", format!("certificate = {file}")),
        ("trusted_proxy", String::from("trusted_header = \"X-Remote-User\"")),
        ("trusted_header", String::from("trusted_proxy = \"127.0.0.1\"")),
    ];
    for key in KEYS {
        let other = match (key.name, key.kind) {
            ("security_key_file", _) => format!("{:?}", key_file.path()),
            ("certificate" | "certificate_key", _) => format!("{:?}", key_file.path()),
            ("ca_file", _) => format!("{:?}", ca_file.path()),
            ("site", _) => String::from("\"north\""),
            ("objects", _) => String::from("\"s3://calls\""),
            (_, KeyKind::Text | KeyKind::Secret | KeyKind::Path) => String::from("\"another\""),
            (_, KeyKind::Switch) => if key.default == "true" { "false" } else { "true" }.to_owned(),
            (_, KeyKind::Number(least, _)) => (least + 1).to_string(),
            (_, KeyKind::Numbers(..)) => String::from("[5080]"),
            (_, KeyKind::AutoOr(allowed)) => allowed[0].to_string(),
            (_, KeyKind::Word(words)) => format!("\"{}\"", words[words.len() - 1]),
            (_, KeyKind::Words(words)) => format!("[\"{}\"]", words[words.len() - 1]),
            (_, KeyKind::Names) => String::from("\"eth7\""),
            (_, KeyKind::AddressGroups) => String::from("[[\"10.1.0.1\", \"198.51.100.10\"], [\"10.1.0.2\"]]"),
            (_, KeyKind::Users) => String::from("[\"reception\"]"),
            (_, KeyKind::HeaderNames) => String::from("[\"X-Other\"]"),
            (_, KeyKind::Sources) => String::from("[\"header:X-Other\"]"),
            (_, KeyKind::Pattern) => String::from("\"9x\""),
            (_, KeyKind::Digits) => String::from("\"99\""),
            (_, KeyKind::Keypad) => String::from("\"*71\""),
            (_, KeyKind::HeaderName) => String::from("\"X-Other\""),
            (_, KeyKind::Address) => String::from("\"127.0.0.1\""),
            (_, KeyKind::HookUrl) => String::from("\"https://hook.example/a\""),
            (_, KeyKind::HostPort) => String::from("\"mail.example:25\""),
            (_, KeyKind::MailAddresses) => String::from("[\"b@example.org\"]"),
            (_, KeyKind::MailAddress) => String::from("\"other@example.org\""),
            (_, KeyKind::SiteUrl) => String::from("\"https://calls.example\""),
            (_, KeyKind::Url) => String::from("\"https://pyrus.example/api/v4/auth\""),
            (_, KeyKind::Listen) => String::from("\"127.0.0.1:8080\""),
            (_, KeyKind::HeaderMatch) => String::from("\"X-Other: 1*\""),
            (_, KeyKind::Recipients) => format!("\"{}\"", public_key()),
            (_, KeyKind::Mappings) => String::from("\"header:X-Other\""),
        };
        let (before, head) = match (key.section, key.name) {
            ("rules", "action") => (String::new(), "[[rules]]\n"),
            ("rules", _) => (String::from("[[rules]]\naction = \"record\"\n"), "[[rules]]\naction = \"record\"\n"),
            ("console", name) if halves.iter().any(|(key, _)| *key == name) => {
                let other = halves.iter().find(|(key, _)| *key == name).map_or("", |(_, other)| other);
                (String::new(), &*format!("[console]\n{other}\n"))
            }
            // Keys about the mail server, e.g. `mail_from`, are valid only together with `mail_server`.
            ("alerts", name) if name.starts_with("mail_") && name != "mail_server" => {
                let head = "[alerts]\nmail_server = \"mail.example:587\"\n";
                (head.to_owned(), head)
            }
            ("alerts", name) if name.starts_with("telegram_") && name != "telegram_chat" => {
                let head = "[alerts]\ntelegram_chat = \"1\"\n";
                (head.to_owned(), head)
            }
            ("alerts", name) if name.starts_with("webhook_secret") => {
                let head = "[alerts]\nwebhook_url = \"https://hook.example/\"\n";
                (head.to_owned(), head)
            }
            ("archive", "site") => {
                let head = "[archive]\nobjects = \"file:///a\"\nindex = \"postgresql:///a\"\n";
                (head.to_owned(), head)
            }
            ("webhook", name) if name.starts_with("secret") => {
                let head = "[webhook]\nurl = \"https://hook.example/\"\n";
                (head.to_owned(), head)
            }
            (section, _) => (String::new(), &*format!("[{section}]\n")),
        };
        let show = |text: &str| {
            let loaded = Config::from_text(text, "test.toml", ConfigPurpose::Inspect, &SecretSources::default());
            format!("{:?}", loaded.expect("valid").config)
        };
        assert_ne!(show(&format!("{head}{} = {other}\n", key.name)), show(&before), "{} does nothing", key.path());
    }
}

#[test]
fn equal_pause_keys_and_halves_of_console_keys_are_refused() {
    let found = mistakes(check("[calls]\npause_dtmf = \"*7a\"\nresume_dtmf = \"*7A\"\n"));
    assert!(found[0].starts_with("line 2: calls.pause_dtmf and calls.resume_dtmf are the same"), "{found:?}");
    let found = mistakes(check("[calls]\npause_dtmf = \"seven\"\npause_header = \"X Y\"\n"));
    assert!(found[0].starts_with("line 2: calls.pause_dtmf: only telephone keys"), "{found:?}");
    assert!(found[1].starts_with("line 3: calls.pause_header: \"X Y\" is not a valid SIP header name"), "{found:?}");
    for (text, problem) in [
        ("certificate = \"/none.pem\"", "line 2: console.certificate is set, but console.certificate_key is not"),
        (
            "trusted_header = \"X-Remote-User\"",
            "line 2: console.trusted_header is set, but console.trusted_proxy is not",
        ),
        ("trusted_proxy = \"proxy.example\"", "line 2: console.trusted_proxy: this is not an IP address"),
    ] {
        let found = mistakes(check(&format!("[console]\n{text}\n")));
        assert!(found[0].starts_with(problem), "{found:?}");
    }
    check("[console]\nlisten = \"0.0.0.0:8443\"\n").expect("with TLS");
}

#[test]
fn addresses_of_a_pbx_are_lists_of_addresses() {
    for (value, problem) in [
        ("[\"10.1.0.1\", \"10.1.0.2\"]", "calls.pbx_addresses is a text"),
        ("[[\"10.1.0.1:5060\"]]", "calls.pbx_addresses: \"10.1.0.1:5060\" is not an IP address"),
        ("[[\"pbx.example\", \"10.1.0.1\"]]", "calls.pbx_addresses: \"pbx.example\" is not an IP address"),
        ("[[]]", "calls.pbx_addresses: a list has 0 addresses"),
    ] {
        let found = mistakes(check(&format!("[calls]\npbx_addresses = {value}\n")));
        assert!(found[0].starts_with(&format!("line 2: {problem}")), "{found:?}");
    }
    let config = check("[calls]\npbx_addresses = [[\"2001:db8::1\", \"10.1.0.1\"]]\n").expect("valid").config;
    assert_eq!(config.call.pbx_addresses, [[IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]), [10, 1, 0, 1].into()]]);
}

#[test]
fn all_mistakes_are_listed_with_line_and_remedy() {
    let text = "\
[capture]
interfaces = \"eth1\"
buffer_mib = \"64\"
[calls]
silence_s = 1
[recording]
start = \"anser\"
[numbers]
extension_pattern = \"[2-\"
from_number = [\"form\"]
[pyrus]
auth_url = \"http://pyrus.example/auth\"
silence_s = 300
[sool]
dir = \"/tmp\"
";
    assert_eq!(
        mistakes(check(text)),
        [
            "line 2: [capture] has no key \"interfaces\"; did you mean \"interface\"?",
            "line 3: capture.buffer_mib is a text; write a whole number from 1 to 2048",
            "line 5: calls.silence_s = 1 is out of range; write a whole number from 5 to 86400 (seconds)",
            "line 7: recording.start cannot be \"anser\"; did you mean \"answer\"? write one of \"answer\", \"media\"",
            "line 9: numbers.extension_pattern: a bracket is not closed or not opened; write a class as [2-4] or [135]",
            "line 10: numbers.from_number: \"form\" is not a source of numbers; did you mean \"from\"? write \
             \"header:NAME\", \"from\", \"to\" or \"request_uri\"",
            "line 12: pyrus.auth_url: the key would cross the network unprotected; write https://; http is allowed for \
             127.0.0.1, [::1] and localhost only",
            "line 13: [pyrus] has no key \"silence_s\"; move it below [calls]",
            "line 14: there is no section [sool]; did you mean [spool]?",
        ]
    );
}

#[test]
fn error_names_the_file_and_counts_mistakes() {
    let error = check("[calls]\nsilence = 3\n").expect_err("no such key");
    assert_eq!(
        error.to_string(),
        "test.toml has 1 mistake:\n  line 2: [calls] has no key \"silence\"; did you mean \"silence_s\"?"
    );
}

#[test]
fn syntax_error_is_listed_with_later_mistakes() {
    let found = mistakes(check("[calls]\nsilence_s = \nhold_s = 20\n[console]\nlisten = 8080\n"));
    assert!(found[0].starts_with("line 2: this is not TOML: "), "{found:?}");
    assert_eq!(found[1], "line 5: console.listen is a number; write a text in double quotes");
    assert_eq!(found.len(), 2);
}

#[test]
fn duplicate_key_is_a_mistake() {
    let found = mistakes(check("[calls]\nhold_s = 20\nhold_s = 30\n"));
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("line 3: this is not TOML: duplicate key"), "{found:?}");
}

#[test]
fn arbitrary_bytes_never_panic() {
    for text in
        ["\u{0}", "[", "[[rules]", "[[rules]]\n[rules]", "a.b.c = {", "rules = 1", "calls = []", "[[calls]]", "é = 'ü"]
    {
        assert!(check(text).is_err(), "{text:?}");
    }
}

proptest::proptest! {
    #[test]
    fn arbitrary_toml_never_panics_or_shows_the_key(
        pieces in proptest::collection::vec(0..PIECES.len(), 0..24)
    ) {
        let text: String = pieces.iter().map(|p| PIECES[*p]).collect();
        if let Err(error) = Config::from_text(&text, "t", ConfigPurpose::Run, &SecretSources::default()) {
            proptest::prop_assert!(!error.to_string().contains("top-secret"), "{}", error);
        }
    }
}

#[test]
fn secret_in_the_place_of_a_name_is_not_shown() {
    for text in ["[\"top-secret-9\"]\n", "\"top-secret-9\" = 1\n", "[pyrus]\n\"top-secret-9\" = 1\n"] {
        let error = Config::from_text(text, "t", ConfigPurpose::Run, &SecretSources::default()).expect_err(text);
        assert!(!error.to_string().contains("top-secret"), "{error}");
    }
}

/// Pieces of configuration texts, well-formed and malformed. Random files are made from these pieces.
const PIECES: &[&str] = &[
    "[capture]\n",
    "[calls]\n",
    "[numbers]\n",
    "[pyrus]\n",
    "[pyrus.mappings]\n",
    "[[rules]]\n",
    "[rules]\n",
    "[x]\n",
    "interface",
    "sip_ports",
    "silence_s",
    "from_number",
    "security_key",
    "action",
    "header",
    "dir",
    " = ",
    "=",
    "\"",
    "'",
    "\"top-secret-9\"",
    "\"eth1\"",
    "[",
    "]",
    "{",
    "}",
    ",",
    "5060",
    "-1",
    "99999999999999999999",
    "0x1f",
    "1.5",
    "true",
    "1979-05-27",
    "[5060]",
    "[\"from\"]",
    "\"exclude\"",
    "\"header:X-Q\"",
    "#",
    "\n",
    "\r\n",
    "\\",
    "\u{0}",
    "é",
];

#[test]
fn run_requires_interface_and_pyrus_login_key_and_account() {
    assert_eq!(
        mistakes(for_run("[pyrus]\nenabled = true\n")),
        [
            "line 1: pyrus.login is missing: pyrus.enabled = true needs it; add the login of the bot below [pyrus]",
            "line 1: pyrus.account_id is missing: pyrus.enabled = true needs it; add the account id of the telephony \
             extension that is connected to the form",
            "line 1: pyrus.security_key is missing: pyrus.enabled = true needs it; name a file in \
             security_key_file, or set CALLSPAN_PYRUS_SECURITY_KEY (only the service can see a systemd credential)",
            "capture.interface is missing; add it below [capture]: interface = \"eth1\" (`ip link` lists them)",
        ]
    );
}

#[test]
fn replay_requires_delivery_keys_only_with_delivery() {
    assert!(check("[pyrus]\nenabled = true\n").is_ok_and(|l| !l.config.pyrus.enabled));
    let text = "[pyrus]\nlogin = \"bot\"\naccount_id = \"a\"\nsecurity_key = \"k\"\n";
    let deliver = |text| Config::from_text(text, "t", ConfigPurpose::ReplayAndDeliver, &SecretSources::default());
    assert!(deliver(text).is_ok_and(|l| l.config.pyrus.enabled));
    assert_eq!(mistakes(deliver("")).len(), 3);
    assert_eq!(mistakes(Config::default_for_delivery()).len(), 3);
}

#[test]
fn http_is_accepted_only_for_loopback() {
    for host in ["127.0.0.1:8790", "localhost", "[::1]:1", "127.8.8.8"] {
        assert!(check(&format!("[pyrus]\nauth_url = \"http://{host}/auth\"\n")).is_ok(), "{host}");
    }
    let others = ["http://10.0.0.1/auth", "http://localhost.example/auth", "ftp://127.0.0.1/auth", "x"];
    for url in others.iter().chain(&["https://u:p@host/auth", "https://host/api/v4/", "https://host/auth?x=1"]) {
        assert!(check(&format!("[pyrus]\nauth_url = \"{url}\"\n")).is_err(), "{url}");
    }
}

#[test]
fn rules_keep_order_and_conditions() {
    let text = "\
[[rules]]
direction = \"internal\"
action = \"exclude\"
[[rules]]
header = \"X-Queue: vip*\"
number = \"+7495*\"
extension = \"1xx\"
action = \"record\"
[[rules]]
header = \"X-Private\"
action = \"no_register\"
";
    let rules = check(text).expect("valid").config.call.rules;
    let empty = CallRule { direction: None, number: None, extension: None, header: None, action: RuleAction::Record };
    let header = |n: &str, v: &str| Some((n.to_owned(), v.to_owned()));
    assert_eq!(
        rules,
        [
            CallRule { direction: Some(CallDirection::Internal), action: RuleAction::Exclude, ..empty.clone() },
            CallRule {
                header: header("X-Queue", "vip*"),
                number: Some("+7495*".to_owned()),
                extension: Some("1xx".to_owned()),
                ..empty.clone()
            },
            CallRule { header: header("X-Private", "*"), action: RuleAction::NoRegister, ..empty },
        ]
    );
}

#[test]
fn rule_without_action_fails_and_unreachable_rule_warns() {
    let found = mistakes(check("[[rules]]\nnumber = \"1x\"\n"));
    assert_eq!(found, ["line 1: this rule has no action; add action = \"record\", \"exclude\" or \"no_register\""]);
    let text = "[[rules]]\naction = \"record\"\n[[rules]]\nnumber = \"1x\"\naction = \"exclude\"\n";
    let warnings = check(text).expect("valid").warnings;
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].to_string().starts_with("line 3: warning: this rule is never reached: the rule in line 1"));
}

#[test]
fn headers_used_by_numbers_and_mappings_are_kept_once() {
    let text = "\
[calls]
keep_headers = [\"X-Queue\"]
[numbers]
internal_number = [\"header:X-Agent\", \"to\"]
from_number = [\"from\"]
[pyrus.mappings]
Queue = \"header:x-queue\"
Topic = \"header:X-Topic\"
";
    let config = check(text).expect("valid").config;
    assert_eq!(config.call.keep_headers, ["X-Queue", "X-Agent", "X-Topic"]);
    assert_eq!(config.pyrus.mappings["Topic"], "X-Topic");
    assert_eq!(config.call.numbers.internal_number, [NumberSource::Header("X-Agent".to_owned()), NumberSource::To]);
}

#[test]
fn recording_start_is_passed_to_the_engine() {
    let config = check("[recording]\nstart = \"media\"\nsample_rate = 16000\n").expect("valid").config;
    assert_eq!((config.call.start, config.recording.sample_rate), (RecordingStart::Media, Some(16_000)));
}

#[test]
fn foreign_pattern_syntax_is_refused_with_the_grammar() {
    for pattern in ["^1..$", "1(0|1)x", "1xx,", "1 xx", "[]x", "[4-2]", "x]", ""] {
        assert!(check(&format!("[numbers]\nextension_pattern = '{pattern}'\n")).is_err(), "{pattern}");
    }
    for pattern in ["xx", "##", "1[2-4]*", "2xx, 3xx", "+7*", "alice", "*"] {
        assert!(check(&format!("[numbers]\nextension_pattern = '{pattern}'\n")).is_ok(), "{pattern}");
    }
}

fn key_in(file: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = dir.path().join(file);
    std::fs::write(&path, "  top-secret-9\n").expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("mode set");
    (dir, path)
}

fn key_of(loaded: &LoadedConfig) -> &str {
    loaded.config.pyrus.security_key.as_ref().map_or("", |k| k.expose_secret())
}

#[test]
fn key_source_order_is_environment_file_credential() {
    let (_dir, path) = key_in("pyrus_security_key", 0o600);
    let text = format!("[pyrus]\nsecurity_key_file = {path:?}\n");
    let credentials = SecretSources { credentials_dir: path.parent().map(Path::to_owned), ..SecretSources::default() };
    let environment =
        SecretSources { key_from_environment: Some(SecretString::from("from-env")), ..credentials.clone() };
    let load = |text: &str, s: &SecretSources| Config::from_text(text, "t", ConfigPurpose::Replay, s).expect("valid");
    assert_eq!(key_of(&load(&text, &environment)), "from-env");
    assert_eq!(key_of(&load(&text, &SecretSources::default())), "top-secret-9");
    assert_eq!(key_of(&load("", &credentials)), "top-secret-9");
    assert_eq!(key_of(&load("[pyrus]\nsecurity_key = \"inline\"\n", &credentials)), "inline");
}

#[test]
fn unreadable_credential_is_reported() {
    let (_dir, path) = key_in("a file and no folder", 0o600);
    let surroundings = SecretSources { credentials_dir: Some(path), ..SecretSources::default() };
    let found = mistakes(Config::from_text("", "t", ConfigPurpose::Replay, &surroundings));
    assert!(
        found[0].starts_with("pyrus.security_key, the systemd credential ") && found[0].contains("cannot be read"),
        "{found:?}"
    );
}

#[test]
fn world_readable_key_warns_and_missing_key_fails() {
    let (_dir, path) = key_in("key", 0o644);
    let loaded = check(&format!("[pyrus]\nsecurity_key_file = {path:?}\n")).expect("usable");
    let warning = loaded.warnings[0].to_string();
    assert!(warning.starts_with("line 2: warning: pyrus.security_key_file "), "{warning}");
    assert!(warning.contains("chmod 600"), "{warning}");
    let found = mistakes(check("[pyrus]\nsecurity_key_file = \"/nowhere/key\"\n"));
    assert!(found[0].contains("the file does not exist"), "{found:?}");
}

#[test]
fn key_file_that_is_a_device_or_huge_is_refused() {
    let found = mistakes(check("[pyrus]\nsecurity_key_file = \"/dev/zero\"\n"));
    assert!(found[0].contains("no regular file"), "{found:?}");
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = dir.path().join("huge");
    std::fs::File::create(&path).expect("made").set_len(1 << 40).expect("sparse");
    let found = mistakes(check(&format!("[pyrus]\nsecurity_key_file = {path:?}\n")));
    assert!(found[0].contains("more than the key"), "{found:?}");
}

#[test]
fn findings_and_debug_output_never_hold_the_key() {
    let texts = [
        "[pyrus]\nsecurity_key = \"top-secret-9\nlogin = \"x\"\n",
        "[pyrus]\nsecurity_key = \"top-secret-9\"\nsecurity_key_file = \"/nowhere\"\n",
        "[pyrus]\nsecurity_key = [\"top-secret-9\"]\n",
        "[pyrus]\nsecurity_key = top-secret-9\n",
        "[pyrus]\nsecurity_key = \"top-secret-9\"\nsecurity_key = \"top-secret-9\"\n",
    ];
    for text in texts {
        let error = check(text).expect_err("a mistake");
        assert!(!format!("{error} {error:?}").contains("top-secret"), "{error:?}");
    }
    let loaded = check("[pyrus]\nsecurity_key = \"top-secret-9\"\n").expect("valid");
    assert!(!format!("{loaded:?}").contains("top-secret"));
}

#[test]
fn check_config_tests_write_access_to_folders() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let file = dir.path().join("file");
    std::fs::write(&file, "").expect("written");
    let text = format!(
        "[spool]\ndir = {:?}\n[state]\ndir = {:?}\n[recording]\ndir = {:?}\n",
        dir.path().join("new/spool"),
        file.join("state"),
        dir.path()
    );
    let loaded = Config::from_text(&text, "t", ConfigPurpose::Check, &SecretSources::default()).expect("only warnings");
    let shown: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    let (outside, shown): (Vec<String>, Vec<String>) = shown.into_iter().partition(|s| s.contains("ReadWritePaths="));
    assert_eq!(outside.len(), 3, "none of them is a folder of the unit: {outside:?}");
    assert_eq!(shown.len(), 2, "{shown:?}");
    assert!(shown[0].starts_with("line 4: warning: state.dir"), "{shown:?}");
    assert!(shown[0].contains("is a file; give the path of a folder"), "{shown:?}");
    assert!(shown[1].contains("capture.interface is missing"), "{shown:?}");
    assert_eq!(std::fs::read_dir(dir.path()).expect("folder").count(), 1, "the probe is removed");
}

#[test]
fn secret_key_in_place_of_public_key_is_refused_and_hidden() {
    use age::secrecy::ExposeSecret as _;
    let identity = age::x25519::Identity::generate();
    let secret = identity.to_string().expose_secret().to_owned();
    let lower = secret.to_lowercase();
    // Each line contains the secret key in another wrong way, e.g. in a list, without quotes, or at a misspelt
    // configuration key.
    for line in [
        format!("encrypt_to = \"{secret}\""),
        format!("encrypt_to = [\"{}\", \"{lower}\"]", identity.to_public()),
        format!("encrypt_to = {secret}"),
        format!("encrypt_to = \"{secret}"),
        format!("encript_to = \"{secret}\""),
    ] {
        let found = mistakes(check(&format!("[recording]\n{line}\n")));
        assert!(found[0].starts_with("line 2: "), "{found:?}");
        let said = format!("{found:?}");
        assert!(!said.contains(&secret[15..25]) && !said.contains(&lower[15..25]), "it shows the key");
    }
    let found = mistakes(check(&format!("[recording]\nencrypt_to = \"{secret}\"\n")));
    assert!(
        found[0].contains("recording.encrypt_to: this is a secret key") && found[0].contains("age-keygen -y"),
        "{found:?}"
    );
    for wrong in ["", "age1", "ssh-ed25519 AAAA", &public_key()[..40]] {
        let found = mistakes(check(&format!("[recording]\nencrypt_to = [\"{wrong}\"]\n")));
        assert!(found[0].starts_with("line 2: recording.encrypt_to: this is "), "{found:?}");
    }
    let both = format!("[recording]\nencrypt_to = [\"{}\", \"{}\"]\n", public_key(), identity.to_public());
    assert_eq!(check(&both).expect("valid").config.recording.encrypt_to.len(), 2);
}

/// Returns a new public key of age. Its secret key is thrown away.
fn public_key() -> String {
    age::x25519::Identity::generate().to_public().to_string()
}
