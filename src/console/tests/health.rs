//! Tests of the health page: alarms in both languages, the strip of the last 24 hours, and the test call.

use super::*;
use crate::ops::alerts::{Alarm, AlarmKind};
use crate::ops::mirror_report::{DirectionCounts, MirrorDirections, MirrorReport};
use crate::ops::self_test::SelfTestResult;
use crate::ops::tap_flow::{DirectionFlow, TapFlow};
use crate::ops::taps::TapReport;
use std::time::Duration;

fn alarm(kind: AlarmKind, detail: &str) -> Alarm {
    Alarm { at: wall_clock(), kind, detail: detail.to_owned(), call: None, held_back: 0 }
}

impl Office {
    /// Creates the state of a recorder with problems: an alarm about the mirror port, a failed test call, and two live
    /// calls.
    pub(super) fn raise_alarms(&self) {
        let one_sided = "RTP is seen in one direction only (for example from 203.0.113.10 to 10.9.0.11). The mirror copies only one \
             direction of the port, so recordings would have one side. Mirror both directions. On a Cisco switch: no monitor \
             session 1 source interface Gi1/0/1; monitor session 1 source interface Gi1/0/1 both";
        let alarms = vec![alarm(AlarmKind::MirrorOneSided, one_sided)];
        let state = &self.config.journal.dir;
        let pbx_hosts = vec![String::from("10.20.0.5")];
        let report =
            ServiceReport { at: wall_clock(), alarms, taps: vec![tap()], pbx_hosts, ..ServiceReport::default() };
        write_report(&report, state);
        let detail = String::from(
            "the test call was lost at the step media: the SIP messages arrived, no RTP: the mirror must show the \
             media as well (another VLAN, or a filter of UDP ports)",
        );
        SelfTestResult { at: wall_clock(), ok: false, detail }.write(state).expect("written");
        let journal = Journal::open(&self.config.journal).expect("a journal");
        for (n, extension) in [(0, "120"), (1, "121")] {
            let at = wall_clock() - Duration::from_secs(75 + 60 * n);
            let record = CallRecord {
                id: format!("live-{n}"),
                from: Some(String::from("+79774221338")),
                to: Some(String::from("+74953009080")),
                internal: Some(extension.to_owned()),
                invited_at: Some(at),
                answered_at: Some(at),
                outcome: CallOutcome::Answered,
                ..CallRecord::default()
            };
            journal.put_call(&record, CallStage::Live).expect("put");
            let level = |percent| Some(crate::call::engine::levels::VoiceLevel::Percent(percent));
            let sides = [level(61), level(38)];
            let levels = [0, 1].map(|n| crate::call::engine::levels::CallLevels { id: format!("live-{n}"), sides });
            self.console.publish_levels(levels.to_vec());
        }
    }
}

#[test]
fn alarms_and_test_call_are_shown_in_the_language_of_the_page() {
    let office = Office::with_calls(&["120"]);
    let report = ServiceReport {
        at: wall_clock(),
        alarms: vec![
            alarm(AlarmKind::InterfaceDown, "interface eth1 is down: sudo ip link set dev eth1 up"),
            alarm(AlarmKind::MirrorOneSided, "2 of 3 answered calls had audio on one side only. Mirror <b> both"),
        ],
        ..ServiceReport::default()
    };
    write_report(&report, office.dir.path());
    let detail = String::from("the test call was lost at the step mirror: the SIP messages of both directions arrived");
    SelfTestResult { at: wall_clock(), ok: false, detail }.write(office.dir.path()).expect("written");
    let english = office.get("/health?lang=en", "").body;
    for words in ["2 things need you.", "A mirror interface is down", "code>interface_down", "Mirror &lt;b&gt; both"] {
        assert!(english.contains(words), "{words}: {english}");
    }
    let russian = office.get("/health?lang=ru", "").body;
    for words in [
        "2 дела требуют вас.",
        "Интерфейс зеркала не работает",
        "интерфейс eth1 выключен: sudo ip link set dev eth1 up",
        "проверочный звонок потерян на шаге mirror: сообщения SIP обоих направлений дошли",
    ] {
        assert!(russian.contains(words), "{words}: {russian}");
    }
    // A text of another version of callspan has no translation. It is shown in English, and the page marks its
    // language.
    assert!(russian.contains("lang=\"en\">2 of 3 answered calls"), "{russian}");
}

#[test]
fn administrators_see_counts_in_the_navigation_and_listeners_do_not() {
    let office = Office::with_calls(&["120"]);
    office.console.publish(ServiceStatus { calls_live: 12, alarms: 2, ..ServiceStatus::default() });
    let page = office.get("/calls?lang=ru", "").body;
    assert!(page.contains(">12</span>") && page.contains(">2 тревоги</span>"), "{page}");
    office.add("boris", AccountRole::Listener, &["1xx"]);
    let cookie = office.sign_in("boris");
    assert!(!office.get("/calls", &cookie).body.contains("class=\"pill"));
}

#[test]
fn findings_that_an_alarm_names_are_not_shown_twice() {
    let office = Office::with_calls(&[]);
    office.console.publish(ServiceStatus { dropped_by_kernel: 7, ..ServiceStatus::default() });
    assert!(office.get("/health?lang=en", "").body.contains("7 frames were lost on this machine"));
    let detail = "frames were lost on this machine (7 in the kernel, 0 in the interface): increase";
    let report = ServiceReport { alarms: vec![alarm(AlarmKind::CaptureDrops, detail)], ..ServiceReport::default() };
    write_report(&report, office.dir.path());
    assert!(office.get("/health?lang=en", "").body.contains("1 thing needs you."));
}

#[test]
fn test_call_is_for_administrators_with_the_token_and_an_existing_card() {
    let mut office = Office::with_calls(&["120"]);
    office.config.file = Some(office.dir.path().join("callspan.toml"));
    let office = Office::open(office.dir, office.config);
    office.add("anna", AccountRole::Admin, &[]);
    office.add("boris", AccountRole::Listener, &[]);
    let cookie = office.sign_in("anna");
    let page = office.get("/health", &cookie).body;
    let token = page.split("name=\"csrf\" value=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a token");
    let post =
        |cookie: &str, body: &str| office.ask("POST /health/test-call", &format!("Cookie: {cookie}\r\n"), body).status;
    assert_eq!(post(&cookie, "interface=eth0"), 403, "no token");
    for card in ["", "lo", "../../etc", "-c", "no-such-card"] {
        assert_eq!(post(&cookie, &format!("csrf={token}&interface={card}")), 422, "{card}");
    }
    let listener = office.sign_in("boris");
    let page = office.get("/calls", &listener).body;
    let token = page.split("name=\"csrf\" value=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a token");
    assert_eq!(post(&listener, &format!("csrf={token}&interface=eth0")), 404);
}

#[test]
fn calls_after_a_moment_and_by_slot_are_found_in_their_order() {
    let office = Office::with_calls(&["120", "121", "220", "122"]);
    let journal = Journal::open_read_only(&office.config.journal).expect("a journal");
    let first = Timestamp::from_secs(1_795_000_000); // the calls begin a minute apart
    let since = |minutes: u64| Some(first + Duration::from_secs(60 * minutes));
    let after = CallSearch { since: since(1), ..CallSearch::default() };
    let found = journal.first_calls(&after, 2).expect("found");
    let extensions: Vec<_> = found.iter().filter_map(|call| call.record.internal.clone()).collect();
    assert_eq!(extensions, ["121", "220"], "the nearest first");
    let slots = journal.count_by_slot(&CallSearch::default(), Duration::from_secs(120)).expect("counted");
    let counts: Vec<_> = slots.iter().map(|slot| (slot.begin.as_micros() / 1_000_000 % 120, slot.calls)).collect();
    // Each slot begins at a multiple of two minutes, although the calls begin 40 s after such a multiple.
    assert_eq!(counts, [(0, 2), (0, 2)], "{slots:?}");
}

/// Returns the report of a capture interface that shows packets to the PBX now, but has shown no packet from the PBX
/// for ten minutes.
fn tap() -> TapReport {
    let last_at = Some(wall_clock() - Duration::from_secs(600));
    let flow = TapFlow {
        frames_per_s: 2_500,
        to_pbx: DirectionFlow { packets: 800, per_s: 2_410, last_at: Some(wall_clock()) },
        from_pbx: DirectionFlow { packets: 100, per_s: 0, last_at },
    };
    TapReport { name: String::from("eth1"), is_up: true, sip: 40, rtp: 900, flow: Some(flow), ..TapReport::default() }
}

#[test]
fn ports_show_packets_a_second_in_both_directions() {
    let office = Office::with_calls(&[]);
    let report = |pbxs: &[&str]| ServiceReport {
        at: wall_clock(),
        taps: vec![tap()],
        pbx_hosts: pbxs.iter().map(|pbx| String::from(*pbx)).collect(),
        ..ServiceReport::default()
    };
    write_report(&report(&["10.20.0.5"]), office.dir.path());
    let english = office.get("/health?lang=en", "").body;
    for words in ["To the PBX", "2,410/s", "0/s</span>, for 10:00", "2,500/s", "SIP 40, RTP 900, copies 0"] {
        assert!(english.contains(words), "{words}: {english}");
    }
    let russian = office.get("/health?lang=ru", "").body;
    for words in ["К АТС", "2\u{202f}410/с", "0/с</span>, уже 10:00"] {
        assert!(russian.contains(words), "{words}: {russian}");
    }
    let answer = office.get("/api/v1/status", "").body;
    let status: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
    let port = &status["ports"][0];
    assert_eq!((port["name"].as_str(), port["flow"]["to_pbx"]["per_s"].as_u64()), (Some("eth1"), Some(2_410)));
    assert_eq!((port["rtp"].as_u64(), port["flow"]["from_pbx"]["per_s"].as_u64()), (Some(900), Some(0)));
    let description = office.get("/api/v1/openapi.json", "").body;
    let description: serde_json::Value = serde_json::from_str(&description).expect("JSON");
    let content = &description["paths"]["/api/v1/status"]["get"]["responses"]["200"]["content"]["application/json"];
    assert_eq!(content["schema"]["$ref"], "#/components/schemas/Status");
    let port_schema = &description["components"]["schemas"]["Port"]["properties"];
    for field in port.as_object().expect("an object").keys() {
        assert!(port_schema.get(field).is_some(), "{field} is not described");
    }
    // Directions are counted only after the first packet of a known PBX. This report has no directions, so the page
    // says that no PBX is known yet.
    write_report(&report(&[]), office.dir.path());
    assert!(office.get("/health?lang=en", "").body.contains("no PBX learnt yet"));
}

#[test]
fn mirror_part_shows_directions_copies_tunnels_and_learnt_machines() {
    let office = Office::with_calls(&[]);
    let report = ServiceReport {
        at: wall_clock(),
        last_sip_at: Some(wall_clock() - Duration::from_secs(600)),
        frames: 1_000,
        taps: vec![tap()],
        mirror: MirrorReport {
            directions: Some(MirrorDirections {
                sip: DirectionCounts { pairs: 12, one_way: 0 },
                rtp: DirectionCounts { pairs: 9, one_way: 4 },
            }),
            copies: 17,
            tunnels: [(String::from("ERSPAN type II"), 120), (String::from("VLAN"), 1_000)].into(),
        },
        pbx_hosts: vec![String::from("10.20.0.5")],
        extensions: 31,
        ..ServiceReport::default()
    };
    write_report(&report, office.dir.path());
    let pair = r#"{"fact":"one_machine","a":"10.20.0.5","b":"192.0.2.7","by":"same_moments","seen":41,"against":0,"first_at":"2026-11-23T07:00:00.000000Z","last_at":"2026-11-24T07:00:00.000000Z"}"#;
    std::fs::write(office.dir.path().join("topology.json"), pair).expect("written");
    let english = office.get("/health?lang=en", "").body;
    for words in [
        ">eth1<",
        "both, 12 pairs of hosts",
        "one only: 4 of 9 pairs of hosts",
        "10:00 ago",
        "17, 1.7 %",
        "ERSPAN type II (120), VLAN (1,000)",
        "PBX: 10.20.0.5; 31 extensions registered; 10.20.0.5 and 192.0.2.7 are one machine (seen 41 times)",
    ] {
        assert!(english.contains(words), "{words}: {english}");
    }
    let russian = office.get("/health?lang=ru", "").body;
    for words in ["только одно: 4 из 9 пар узлов", "10.20.0.5 и 192.0.2.7 — одна машина (видно 41 раз)"]
    {
        assert!(russian.contains(words), "{words}: {russian}");
    }
}

#[test]
fn disks_show_days_left_and_a_nearly_full_disk_needs_a_person() {
    const FULL: DiskSpace = DiskSpace { free: 3 << 30, total: 100 << 30, is_read_only: false };
    let office = Office::with_calls(&[]);
    assert!(office.get("/health?lang=en", "").body.contains("All is in order."));
    let journal = Journal::open(&office.config.journal).expect("a journal");
    let mut record = call(office.dir.path(), 0, "120");
    record.invited_at = Some(wall_clock() - Duration::from_secs(3_600));
    record.recordings[0].bytes = 1 << 30; // a day has one call of one GiB
    journal.put_call(&record, CallStage::Complete).expect("put");
    let page = office.get("/health?lang=en", "").body;
    assert!(page.contains("50 days left at the pace of the last week"), "{page}");
    assert!(office.get("/health?lang=ru", "").body.contains("осталось 50 дней при темпе последней недели"));
    let office = Office::open_with_disk(office.dir, office.config, |_| Ok(FULL));
    let page = office.get("/health?lang=en", "").body;
    assert!(page.contains("The disk (recordings) is nearly full") && page.contains("3 days left"), "{page}");
}
