//! Tests of typical mistakes in a configuration. Each finding must name the line and lead to the remedy.

use super::super::finding::ConfigFinding;
use super::super::machine::{CheckedMachine, ServiceUser};
use super::*;

/// A configuration text with a mistake, and the beginning and end of the finding that must report it.
struct TypicalMistake {
    text: &'static str,
    begins: &'static str,
    contains: &'static str,
}

const fn mistake(text: &'static str, begins: &'static str, contains: &'static str) -> TypicalMistake {
    TypicalMistake { text, begins, contains }
}

/// Typical mistakes that do not depend on the machine.
const MISTAKES: &[TypicalMistake] = &[
    mistake("[capture]\ninterface = eth1\n", "line 2: this is not TOML", "in double quotes"),
    mistake("[capture]\ninterface = “eth1”\n", "line 2: this is not TOML", "straight double quotes"),
    mistake("[capture]\ninterface: \"eth1\"\n", "line 2: this is not TOML", "write name = value"),
    mistake(
        "interface = \"eth1\"\n",
        "line 1: the key \"interface\" is above the first section",
        "move it below [capture]",
    ),
    mistake("[capture]\nsip_ports = 5060\n", "line 2: capture.sip_ports is a number", "a list of numbers"),
    mistake("[capture]\nsip_port = [5060]\n", "line 2: [capture] has no key", "did you mean \"sip_ports\"?"),
    mistake("[Pyrus]\n", "line 1: there is no section [Pyrus]", "did you mean [pyrus]?"),
    mistake("[calls]\nsilence_s = \"5 min\"\n", "line 2: calls.silence_s is a text", "from 5 to 86400"),
    mistake("[recording]\nkeep_days = -1\n", "line 2: recording.keep_days = -1 is out of range", "0 to 36500 (days)"),
    mistake("[recording]\nformat = \"mp3\"\n", "line 2: recording.format cannot be \"mp3\"", "write one of \"wav\""),
    mistake("[recording]\nkeep_pcap = \"yes\"\n", "line 2: recording.keep_pcap is a text", "write true or false"),
    mistake("[numbers]\ncountry_code = \"+7\"\n", "line 2: numbers.country_code: only digits", "without +"),
    mistake("[numbers]\nextension_pattern = \"^1..$\"\n", "line 2: numbers.extension_pattern", "1xx"),
    mistake("[numbers]\nextension_pattern = \"101-110\"\n", "line 2: numbers.extension_pattern", "10[1-9],110"),
    mistake("[numbers]\nextensions = [200, 201]\n", "line 2: numbers.extensions is a number", "in double quotes"),
    mistake(
        "[pyrus]\nauth_url = \"https://pyrus.example\"\n",
        "line 2: pyrus.auth_url: the URL does not end in /auth",
        "/api/v4/auth",
    ),
    mistake(
        "[pyrus]\nauth_url = \"pyrus.example\"\n",
        "line 2: pyrus.auth_url: this is not a URL",
        "https://HOST/api/v4/auth",
    ),
    mistake("[pyrus]\naccount_id = 12345\n", "line 2: pyrus.account_id is a number", "in double quotes"),
    mistake(
        "[pyrus]\ndirections = [\"incoming\", \"outgoing\"]\n",
        "line 2: pyrus.directions cannot be \"incoming\"",
        "\"inbound\"",
    ),
    mistake(
        "[pyrus.mappings]\nQueue = \"X-Queue\"\n",
        "line 2: the field \"Queue\" is not filled",
        "Queue = \"header:X-Queue\"",
    ),
    mistake("[console]\nlisten = \"8080\"\n", "line 2: console.listen: this is not an address", "127.0.0.1:8080"),
    mistake(
        "[console]\ntrusted_header = \"X-User\"\n",
        "line 2: console.trusted_header is set",
        "add console.trusted_proxy",
    ),
    mistake("[log]\nlevel = \"warning\"\n", "line 2: log.level cannot be \"warning\"", "did you mean \"warn\"?"),
    mistake("[rules]\naction = \"exclude\"\n", "line 1: [rules] must be a list", "[[rules]]"),
    mistake("[[rules]]\nnumber = \"1x\"\n", "line 1: this rule has no action", "action = \"record\""),
    mistake("[[rules]]\naction = \"ignore\"\n", "line 2: rules.action cannot be \"ignore\"", "\"exclude\""),
    mistake("[calls]\nhold_s = 20\nhold_s = 30\n", "line 3: this is not TOML: duplicate key", "keep only one"),
    mistake(
        "[pyrus]\nenabled = true\nlogin = \"bot@00000000-0000-0000-0000-000000000000\"\n",
        "line 3: pyrus.login is still the placeholder",
        "profile in Pyrus",
    ),
    mistake(
        "[pyrus]\nenabled = true\nsecurity_key = \"<key>\"\n",
        "line 3: pyrus.security_key is still the placeholder",
        "profile in Pyrus",
    ),
    mistake(
        "[pyrus]\nenabled = true\naccount_id = \"xxxxx\"\n",
        "line 3: pyrus.account_id is still the placeholder",
        "telephony extension",
    ),
    mistake(
        "[pyrus]\nenabled = true\nlogin = \"bot@…\"\n",
        "line 3: pyrus.login is still the placeholder",
        "profile in Pyrus",
    ),
    mistake(
        "[pyrus]\nenabled = true\nlogin = \"bot@<id of the bot>\"\n",
        "line 3: pyrus.login is still the placeholder",
        "profile in Pyrus",
    ),
    mistake(
        "[pyrus]\nenabled = true\nsecurity_key = \"aB3…\"\n",
        "line 3: pyrus.security_key is still the placeholder",
        "profile in Pyrus",
    ),
    mistake("[pyrus]\nsecurity_key_file = \"/nowhere/key\"\n", "line 2: pyrus.security_key_file", "does not exist"),
    mistake("[pyrus]\nca_file = \"/etc/hostname\"\n", "line 2: pyrus.ca_file", "no certificate"),
    mistake(
        "[calls]\nhold_s = 60\n",
        "line 2: warning: calls.hold_s = 60 is shorter",
        "at least the value of silence_s",
    ),
    mistake(
        "[console]\npublic_url = \"https://calls.example\"\n",
        "line 2: warning: console.public_url has no effect",
        "listen = ",
    ),
    mistake(
        "[numbers]\nnational_prefix = \"8\"\n",
        "line 2: warning: numbers.national_prefix has no effect",
        "country_code",
    ),
    mistake(
        "[pyrus]\nlogin = \"bot@x\"\naccount_id = \"a\"\n",
        "line 2: warning: nothing is delivered to Pyrus",
        "enabled = true",
    ),
    mistake(
        "[pyrus.mappings]\nPhoneNumberTo = \"header:X-To\"\n",
        "line 1: warning: the field PhoneNumberTo is filled",
        "remove it",
    ),
    mistake(
        "[recording]\ndir = \"recordings\"\n",
        "line 2: warning: recording.dir recordings is relative",
        "begins with /",
    ),
    mistake("[state]\ndir = \"~/state\"\n", "line 2: warning: state.dir ~/state: ~ stands for", "begins with /"),
    mistake(
        "[spool]\ndir = \"/var/lib/callspan/recordings\"\n",
        "warning: recording.dir /var/lib/callspan/recordings",
        "a folder each",
    ),
    mistake("[recording]\nmin_free_gib = 1000000\n", "line 2: warning: recording.min_free_gib = 1000000", "write less"),
    mistake(
        "[capture]\ninterface = \"no-such-card\"\n",
        "line 2: warning: capture.interface: this machine has no interface",
        "it has: ",
    ),
    mistake(
        "[alerts]\ncommand = \"/nowhere/alarm.sh\"\n",
        "line 2: warning: alerts.command: /nowhere/alarm.sh does not exist",
        "check the path",
    ),
    mistake(
        "[alerts]\ncommand = \"no-such-program --now\"\n",
        "line 2: warning: alerts.command: there is no program no-such-program",
        "install it",
    ),
    mistake(
        "[alerts]\ncommand = \"/etc/passwd\"\n",
        "line 2: warning: alerts.command: /etc/passwd is not executable",
        "chmod 755",
    ),
    mistake(
        "[alerts]\ncommand = \"/home/admin/alarm\"\n",
        "line 2: warning: alerts.command: the systemd unit hides /home",
        "/usr/local/bin",
    ),
    mistake(
        "[alerts]\ncommand = \"mail -s 'alarm root\"\n",
        "line 2: warning: alerts.command: /bin/sh cannot parse",
        "sh -n",
    ),
    mistake("[pyrus]\nenabled = yes\n", "line 2: this is not TOML", "write true or false"),
    mistake("[recording]\nkeep_pcap = True\n", "line 2: this is not TOML", "write true or false"),
    mistake("[recording]\nkeep_days = 90d\n", "line 2: this is not TOML", "write the number alone"),
    mistake("[capture]\ninterface = [\"lo\", \"lo\"]\n", "line 2: capture.interface names lo twice", "keep only one"),
    mistake("[numbers]\nextension_pattern = \"1хх\"\n", "line 2: numbers.extension_pattern: \"х\"", "\"1xx\""),
    mistake("[numbers]\nextension_pattern = \"*\"\n", "line 2: warning: numbers.extension_pattern", "xxx"),
    mistake(
        "[numbers]\ncountry_code = \"7\"\nnational_prefix = \"8\"\n[[rules]]\naction = \"exclude\"\nnumber = \"8495xxxxxxx\"\n",
        "line 6: warning: rules.number: \"8495xxxxxxx\" does not match outside numbers as they are stored",
        "\"8495xxxxxxx,+7495xxxxxxx\"",
    ),
    mistake(
        "[console]\nlisten = \"127.0.0.1:8080\"\nmetrics_listen = \"127.0.0.1:8080\"\n",
        "line 3: console.metrics_listen is the address of console.listen",
        "another port",
    ),
    mistake(
        "[alerts]\nmail_server = \"smtp.example.org:465\"\nmail_from = \"a@example.org\"\nmail_to = \"b@example.org\"\n",
        "line 2: warning: alerts.mail_server has the port 465",
        "mail_tls = \"tls\"",
    ),
    mistake(
        "[alerts]\nmail_server = \"smtp.example.org:587\"\nmail_from = \"callspan\"\nmail_to = \"b@example.org\"\n",
        "line 3: alerts.mail_from: \"callspan\" is no mail address",
        "admin@example.org",
    ),
];

fn findings(text: &str) -> Vec<String> {
    match Config::from_text(text, "test.toml", ConfigPurpose::Check, &SecretSources::default()) {
        Ok(loaded) => loaded.warnings.iter().map(ToString::to_string).collect(),
        Err(ConfigError::Wrong { findings, .. }) => findings.iter().map(ToString::to_string).collect(),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn typical_mistakes_are_found_with_line_and_remedy() {
    let missed = MISTAKES.iter().filter_map(|mistake| {
        let found = findings(mistake.text);
        let is_found = found.iter().any(|f| f.starts_with(mistake.begins) && f.contains(mistake.contains));
        (!is_found).then(|| {
            format!("{:?}\n  expected {:?} … {:?}\n  found {found:#?}", mistake.text, mistake.begins, mistake.contains)
        })
    });
    let missed: Vec<String> = missed.collect();
    assert!(missed.is_empty(), "{} of {} mistakes:\n{}", missed.len(), MISTAKES.len(), missed.join("\n"));
}

#[test]
fn every_wrong_entry_of_a_list_has_its_own_line() {
    let text = "[numbers]\nextensions = [\n  \"200\",\n  \"a b\",\n  \"c@d\",\n  7,\n]\n";
    let lines: Vec<String> =
        mistakes(check(text)).iter().filter_map(|f| f.split(": ").next().map(String::from)).collect();
    assert_eq!(lines, ["line 4", "line 5", "line 6"]);
    let found = mistakes(check("[pyrus]\ndirections = [\"incoming\", \"inbound\", \"outgoing\"]\n"));
    assert_eq!(found.len(), 2, "{found:?}");
    let found = mistakes(check("[capture]\nsip_ports = [0, 5060, 70000]\n"));
    assert_eq!(found.len(), 2, "{found:?}");
    let found = mistakes(check("[calls]\npbx_addresses = [[\"10.0.0.1:5060\", \"10.1.0.0/24\"], [\"10.0.0.2\", 7]]\n"));
    assert_eq!(found.len(), 3, "{found:?}");
}

#[test]
fn guess_of_a_line_that_is_not_toml_causes_no_other_finding() {
    let found = findings("[pyrus]\nenabled = True\n");
    assert!(!found.iter().any(|f| f.contains("pyrus.enabled = true needs it")), "{found:?}");
    let found = findings("[capture]\ninterface = \"\"\n");
    assert!(!found.iter().any(|f| f.contains("is missing")), "{found:?}");
}

#[test]
fn rule_with_a_wrong_condition_hides_no_later_rule() {
    // If the misspelt condition of the first rule were ignored, the rule would match every call. Then the second rule
    // would be reported as never reached.
    let text = "[[rules]]\nnumbr = \"1x\"\naction = \"exclude\"\n[[rules]]\nnumber = \"2x\"\naction = \"exclude\"\n";
    let found = findings(text);
    assert!(!found.iter().any(|f| f.contains("never reached")), "{found:?}");
    let text = "[[rules]]\naction = \"ignore\"\n[[rules]]\nnumber = \"2x\"\n";
    let found = mistakes(check(text));
    assert_eq!(found.len(), 2, "a wrong action does not hide a missing one: {found:?}");
}

#[test]
fn working_alarm_commands_are_not_refused() {
    for command in [
        "logger -t callspan",
        "cat >> /var/log/alarms",
        "exec logger",
        "LANG=C logger -t callspan",
        "( cat; echo ) | logger",
        "if true; then logger; fi",
        "\\\"/bin/cat\\\"",
    ] {
        let found = findings(&format!("[alerts]\ncommand = \"{command}\"\n"));
        assert!(!found.iter().any(|f| f.contains("alerts.command")), "{command}: {found:?}");
    }
}

#[test]
fn script_with_windows_line_ends_or_without_interpreter_is_found() {
    let dir = tempfile::tempdir_in("/var").expect("temporary folder"); // not /tmp, which the unit hides
    for (head, word) in [("#!/bin/sh\r\n", "line ends of Windows"), ("#!/no/such/shell\n", "needs /no/such/shell")] {
        let path = dir.path().join("alarm");
        std::fs::write(&path, format!("{head}cat\n")).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("mode set");
        let found = findings(&format!("[alerts]\ncommand = {path:?}\n"));
        assert!(found.iter().any(|f| f.contains(word)), "{found:?}");
    }
}

#[test]
fn key_file_that_the_service_cannot_read_is_found() {
    let dir = tempfile::tempdir_in("/var").expect("temporary folder");
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("mode set");
    let path = dir.path().join("pyrus.key");
    std::fs::write(&path, "the-real-key\n").expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("mode set");
    let passwd = "root:x:0:0::/:/bin/sh\ncallspan:x:4000000:4000000::/:/usr/sbin/nologin\n";
    let service = ServiceUser::parse(passwd, "adm:x:4:syslog\nkeys:x:4000001:other,callspan\n").expect("installed");
    assert_eq!(service, ServiceUser { uid: 4_000_000, gids: vec![4_000_000, 4_000_001] });
    let machine = CheckedMachine { interfaces: Vec::new(), service: Some(service.clone()) };
    let found = |mode: u32| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("mode set");
        let mut config = Config::default();
        config.pyrus.security_key_file = Some(path.clone());
        let mut findings = Vec::new();
        machine.check(&config, &raw::RawConfig::default(), &mut findings);
        assert!(findings.iter().all(ConfigFinding::is_mistake), "the service would not start: {findings:?}");
        findings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let of_root = found(0o600);
    assert!(
        of_root[0].contains("the user of the service, callspan, cannot read") && of_root[0].contains("chown callspan:")
    );
    assert!(found(0o644).is_empty());
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).expect("mode set");
    let closed = found(0o644);
    assert!(closed[0].contains("cannot enter"), "{closed:?}");
    assert_eq!(ServiceUser::parse("root:x:0:0::/:/bin/sh\n", ""), None);
}

#[test]
fn key_file_with_quotes_or_a_whole_line_is_refused() {
    for content in ["\"top-secret-9\"\n", "security_key = \"top-secret-9\"\n"] {
        let (_dir, path) = key_in("key", 0o600);
        std::fs::write(&path, content).expect("written");
        let found = mistakes(check(&format!("[pyrus]\nsecurity_key_file = {path:?}\n")));
        assert!(found[0].contains("leave only the key in the file") && !found[0].contains("top-secret"), "{found:?}");
    }
}

#[test]
fn sender_of_mail_may_have_a_display_name() {
    let text = "[alerts]\nmail_server = \"smtp.example.org:587\"\nmail_from = \"Callspan <a@example.org>\"\nmail_to = \"b@example.org\"\n";
    assert_eq!(findings(text).iter().filter(|finding| finding.contains("mail_from")).count(), 0);
}
