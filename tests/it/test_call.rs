//! Tests of `callspan test-call` in an office of network namespaces: a switch, the ports of two telephones, a mirror
//! port, a recorder, a fake Pyrus. Each test breaks one link of this chain. The command must name that link.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::faults::station::TmpfsMount;
use crate::live::{LiveService, NetworkNamespace, ip, program};
use crate::support::configuration::ServiceToml;

/// Selectors of `tc … u32` for the traffic that the mirror port shows.
const EVERYTHING: &[&str] = &["match u32 0 0"];
const CALLER_ONLY: &[&str] = &["match ip src 192.0.2.11/32"];
const CALLEE_ONLY: &[&str] = &["match ip src 192.0.2.12/32"];
const SIGNALLING_ONLY: &[&str] = &["match ip dport 5060 0xffff"];
const RTP_OF_CALLER_MISSING: &[&str] = &["match ip dport 5060 0xffff", "match ip src 192.0.2.12/32"];

/// A switch with the ports `sw1` and `sw2`. Telephones send on their other ends, `phone1` and `phone2`. The port `sw1`
/// is mirrored to the recorder's network card `mirror0`.
struct TestOffice {
    namespace: NetworkNamespace,
    dir: tempfile::TempDir,
    config: PathBuf,
}

impl TestOffice {
    fn new(name: &str) -> Self {
        let namespace = NetworkNamespace::new(name);
        let office = Self { namespace, dir: tempfile::tempdir().unwrap(), config: PathBuf::new() };
        office.ip("link add sw type bridge");
        for port in ["1", "2"] {
            office.ip(&format!("link add phone{port} type veth peer name sw{port}"));
            office.ip(&format!("link set sw{port} master sw"));
            office.ip(&format!("link set sw{port} up"));
            office.ip(&format!("link set phone{port} up"));
        }
        office.ip("link set sw up");
        office.tc("qdisc add dev sw1 clsact");
        let config = office.dir.path().join("callspan.toml");
        let office = Self { config, ..office };
        office.configure("enabled = false");
        office
    }

    fn ip(&self, line: &str) {
        let output = ip(&["-n", &self.namespace.0].into_iter().chain(line.split(' ')).collect::<Vec<_>>()).unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
    }

    fn tc(&self, line: &str) {
        let output = Command::new("tc").args(["-n", &self.namespace.0]).args(line.split(' ')).output().unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
    }

    fn configure(&self, pyrus: &str) {
        ServiceToml::new(self.dir.path())
            .set("capture", "interface = \"mirror0\"")
            .set("alerts", "mirror_silent_minutes = 1")
            .set("alerts", &format!("command = \"cat >> {}\"", self.dir.path().join("alarms").display()))
            .append(&format!("[pyrus]\n{pyrus}"))
            .write();
    }

    /// Makes the mirror port show the packets that match these selectors, in both directions of the port.
    fn mirror(&self, selectors: &[&str]) {
        for direction in ["ingress", "egress"] {
            // Removes the old filter. The command fails if there is none yet.
            let _ =
                Command::new("tc").args(["-n", &self.namespace.0, "filter", "del", "dev", "sw1", direction]).output();
            for (preference, selector) in selectors.iter().enumerate() {
                let preference = preference + 1;
                self.tc(&format!(
                    "filter add dev sw1 {direction} protocol ip pref {preference} u32 {selector} action mirred egress \
                     mirror dev tap0"
                ));
            }
        }
    }

    fn run(&self) -> LiveService {
        let mut run = self.namespace.command(&program());
        run.args(["run", "-c"]).arg(&self.config);
        let mut service = LiveService::start(run);
        service.wait_for("capturing on mirror0");
        // The service writes its first report as soon as the capture source returns an event.
        let report = self.dir.path().join("state/status.json");
        crate::faults::station::until("the service reports", || {
            let is_current = |text: String| text.contains("\"is_capturing\":true") && !text.contains("\"stopped_at\"");
            std::fs::read_to_string(&report).is_ok_and(is_current)
        });
        service
    }

    /// Makes a test call of two seconds. Returns the step at which it was lost, the detail of the last step, and the
    /// exit status.
    fn call(&self, more: &[&str]) -> (Option<String>, String, Option<i32>) {
        let mut command = self.namespace.command(&program());
        command.args([
            "test-call",
            "--interface",
            "phone1",
            "--answer-interface",
            "phone2",
            "--seconds",
            "2",
            "--json",
        ]);
        let output = command.args(["--wait", "8", "-c"]).arg(&self.config).args(more).output().unwrap();
        let view = json(&output);
        let last = view["steps"].as_array().and_then(|steps| steps.last().cloned()).unwrap();
        assert_eq!(view["ok"], Value::Bool(view["lost_at"].is_null()), "{view:#}");
        let detail = last["detail"].as_str().unwrap().to_owned();
        (view["lost_at"].as_str().map(str::to_owned), detail, output.status.code())
    }

    /// Configures delivery to the fake Pyrus that [`Self::fake_pyrus`] starts.
    fn configure_pyrus(&self, key: &str) {
        self.configure(&format!(
            "enabled = true\nauth_url = \"http://127.0.0.1:8790/api/v4/auth\"\nlogin = \"bot@callspan\"\nsecurity_key = \
             \"{key}\"\naccount_id = \"uniqueID12345\"\n"
        ));
    }

    fn fake_pyrus(&self) -> KilledAtEnd {
        let mut fake = self.namespace.command(&program());
        fake.args(["fake-pyrus", "--listen", "127.0.0.1:8790"]).stdout(Stdio::null()).stderr(Stdio::null());
        KilledAtEnd(fake.spawn().unwrap())
    }

    fn records(&self) -> Vec<Value> {
        let list = Command::new(program()).args(["calls", "list", "--json", "-c"]).arg(&self.config).output().unwrap();
        let text = String::from_utf8(list.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[test]
#[cfg_attr(not(may_add_namespaces), ignore = "needs root: adds a network namespace")]
fn a_whole_chain_passes_and_each_cut_of_the_mirror_is_named() {
    let office = TestOffice::new("tc-mirror");
    office.mirror(EVERYTHING);
    let (lost, why, _) = office.call(&[]);
    assert_eq!(lost.as_deref(), Some("recorder"), "it has not run yet: {why}");
    let service = office.run();
    let (lost, why, status) = office.call(&[]);
    assert_eq!((lost, status), (None, Some(0)), "{why}");
    let [record] = office.records().try_into().unwrap();
    assert_eq!((&record["test_call"], &record["from"], &record["to"]), (&true.into(), &"198".into(), &"199".into()));
    assert_eq!(record["delivery"]["state"], "none");
    for (shown, step, words) in [
        (&[][..], "mirror", "the mirror is silent"),
        (CALLER_ONLY, "mirror", "one-way: it shows the packets that the caller sends"),
        (CALLEE_ONLY, "mirror", "one-way: it shows the packets that the callee sends"),
        (SIGNALLING_ONLY, "media", "no RTP"),
        (RTP_OF_CALLER_MISSING, "media", "the SIP messages of the caller arrived, but not the RTP"),
    ] {
        office.mirror(shown);
        let (lost, why, status) = office.call(&[]);
        assert_eq!((lost.as_deref(), status), (Some(step), Some(1)), "{shown:?}: {why}");
        assert!(why.contains(words), "{shown:?}: {why}");
    }
    drop(service);
}

#[test]
#[cfg_attr(not(may_add_namespaces), ignore = "needs root: adds a network namespace")]
fn rule_that_excludes_the_call_is_named() {
    let office = TestOffice::new("tc-rule");
    office.configure("enabled = false\n[[rules]]\ndirection = \"internal\"\naction = \"exclude\"\n");
    office.mirror(EVERYTHING);
    let service = office.run();
    let (lost, why, _) = office.call(&[]);
    assert_eq!(lost.as_deref(), Some("recording"), "{why}");
    assert!(why.contains("a rule forbids to record a call between these numbers"), "{why}");
    let (lost, why, _) = office.call(&["--from", "+74950000000"]);
    assert_eq!(lost, None, "the advice helps: {why}");
    drop(service);
}

#[test]
#[cfg_attr(not(may_add_namespaces), ignore = "needs root: adds a network namespace")]
fn a_stopped_recorder_is_named_and_raises_the_alarm_of_the_timer() {
    let office = TestOffice::new("tc-stop");
    office.mirror(&[]);
    let service = office.run();
    let told = || std::fs::read_to_string(office.dir.path().join("alarms")).unwrap_or_default();
    let (lost, ..) = office.call(&["--alarm"]);
    assert_eq!(lost.as_deref(), Some("mirror"));
    crate::faults::station::until("the service raises it", || told().contains("\"test_call_failed\""));
    office.mirror(EVERYTHING);
    assert_eq!(office.call(&["--alarm"]).0, None);
    crate::faults::station::until("it is over", || told().contains("\"test_call_passed\""));
    let (status, said) = service.stop();
    assert_eq!(status, Some(0), "{said:#?}");
    let (lost, why, _) = office.call(&[]);
    assert_eq!(lost.as_deref(), Some("recorder"), "the end of the service is known at once: {why}");
    // After a crash, the state file is half a minute old, which shows that the service has ended.
    let state = office.dir.path().join("state");
    let report = std::fs::read_to_string(state.join("status.json")).unwrap();
    let mut report: Value = serde_json::from_str(&report).unwrap();
    report["at"] = "2026-01-01T00:00:00.000000Z".into();
    assert!(report.as_object_mut().unwrap().remove("stopped_at").is_some(), "{report}");
    std::fs::write(state.join("status.json"), report.to_string()).unwrap();
    std::fs::remove_file(state.join("alarms.json")).expect("the history of the alarms");
    let raised = || told().matches("\"test_call_failed\"").count();
    let before = raised();
    let (lost, why, _) = office.call(&["--alarm"]);
    assert_eq!(lost.as_deref(), Some("recorder"), "{why}");
    assert!(why.contains("stopped"), "{why}");
    crate::faults::station::until("the command raises it by itself", || raised() == before + 1);
}

#[test]
#[cfg_attr(not(all(may_add_namespaces, may_mount)), ignore = "needs root: adds a network namespace, mounts a disk")]
fn a_full_disk_is_named() {
    let office = TestOffice::new("tc-disk");
    office.mirror(EVERYTHING);
    std::fs::create_dir_all(office.dir.path().join("recordings")).unwrap();
    let mount = TmpfsMount::new(&office.dir.path().join("recordings"), 20);
    let service = office.run();
    let (lost, why, status) = office.call(&[]);
    assert_eq!((lost.as_deref(), status), (Some("recording"), Some(1)), "{why}");
    assert!(why.contains("disk_full") || why.contains("recording_failed"), "{why}");
    drop(service);
    drop(mount);
}

#[test]
#[cfg_attr(not(may_add_namespaces), ignore = "needs root: adds a network namespace")]
fn a_wrong_key_is_named_and_only_deliver_registers_the_call() {
    let office = TestOffice::new("tc-pyrus");
    office.mirror(EVERYTHING);
    let mut fake = office.fake_pyrus();
    office.configure_pyrus("wrong");
    let service = office.run();
    let (lost, why, _) = office.call(&["--deliver"]);
    assert_eq!(lost.as_deref(), Some("delivery"), "{why}");
    assert!(why.contains("login") || why.contains("key"), "{why}");
    let (lost, why, _) = office.call(&["--from", "+74950000000"]);
    assert_eq!(lost.as_deref(), Some("delivery"), "the service has tried its key, so no call has to be sent: {why}");
    service.stop();
    office.configure_pyrus("secret");
    let service = office.run();
    let (lost, why, _) = office.call(&["--from", "+74950000000"]);
    assert_eq!(lost, None, "{why}");
    let states: Vec<Value> = office.records().iter().map(|record| record["delivery"]["state"].clone()).collect();
    assert!(states.contains(&"none".into()), "the call without --deliver is not registered: {states:?}");
    let (lost, why, _) = office.call(&["--deliver"]);
    assert_eq!(lost, None, "with its default numbers, the call is delivered: {why}");
    assert!(why.contains("Pyrus task"), "{why}");
    service.stop();
    fake.0.kill().unwrap();
}

#[test]
#[cfg_attr(not(may_add_namespaces), ignore = "needs root: adds a network namespace")]
fn login_without_an_answer_is_named_and_its_answer_is_waited_for() {
    let office = TestOffice::new("tc-login");
    office.mirror(EVERYTHING);
    office.configure_pyrus("secret");
    let service = office.run();
    let (lost, why, _) = office.call(&[]);
    assert_eq!(lost.as_deref(), Some("delivery"), "{why}");
    assert!(why.contains("no answer yet"), "{why}");
    service.stop();
    let fake = office.fake_pyrus();
    let service = office.run();
    let (lost, why, _) = office.call(&[]);
    assert_eq!(lost, None, "{why}");
    service.stop();
    drop(fake);
}

#[test]
#[cfg_attr(not(may_add_namespaces), ignore = "needs root: adds a network namespace")]
#[expect(clippy::disallowed_methods, reason = "silence takes its time")]
fn silent_mirror_alarm_comes_within_the_configured_minute_and_ends() {
    let office = TestOffice::new("tc-silent");
    office.mirror(EVERYTHING);
    // On earlier days there was SIP in every ten minutes of the same hour.
    let today = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() / 86_400;
    let slots: Vec<u16> = (0..144).collect();
    let days = serde_json::json!({ (today - 7).to_string(): slots, (today - 1).to_string(): slots });
    std::fs::create_dir_all(office.dir.path().join("state")).unwrap();
    std::fs::write(office.dir.path().join("state/mirror.json"), days.to_string()).unwrap();
    let service = office.run();
    let told = |kind: &str| {
        let alarms = std::fs::read_to_string(office.dir.path().join("alarms")).unwrap_or_default();
        alarms.contains(&format!("\"{kind}\""))
    };
    assert_eq!(office.call(&[]).0, None);
    office.mirror(&[]);
    let cut = Instant::now();
    while !told("mirror_silent") && cut.elapsed() < Duration::from_secs(120) {
        std::thread::sleep(Duration::from_millis(200));
    }
    let after = cut.elapsed();
    assert!(told("mirror_silent"), "no alarm");
    assert!((50..80).contains(&after.as_secs()), "a minute, and the rounds of the checks: {after:?}");
    office.mirror(EVERYTHING);
    assert_eq!(office.call(&[]).0, None);
    crate::faults::station::until("it is over", || told("mirror_silent_over"));
    drop(service);
}

struct KilledAtEnd(std::process::Child);

impl Drop for KilledAtEnd {
    fn drop(&mut self) {
        let _ = self.0.kill(); // the process may have ended
        let _ = self.0.wait();
    }
}

#[test]
fn a_number_that_would_break_a_header_is_refused() {
    let output = Command::new(program())
        .args(["test-call", "--interface", "lo", "--from", "1>\r\nX: y", "-c"])
        .arg(Path::new("/nowhere"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}
