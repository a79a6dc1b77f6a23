//! One call heard at two sites is found by its voices, if nothing in its signalling agrees.

use std::path::Path;
use std::time::Duration;

use super::{Central, Site, callspan, text};
use crate::support::call_frames::CallFrames;
use crate::support::configuration::ServiceToml;
use crate::support::packets::{CapturedFrame, ETHERNET, write_pcap};
use callspan::call::record::{CallRecord, CallVerdict};
use callspan::call::voice_prints::VoicePrints;
use callspan::journal::CallStage;

/// A call as one site hears it.
struct HeardCall {
    /// Number that determines all signalling and all addresses.
    number: u32,
    /// Time of the call's INVITE by the clock of the site, ms.
    at_ms: i64,
    seconds: u64,
    /// For each side, the voice and its first packet of 20 ms.
    voices: [(u32, u16); 2],
}

/// Replays calls with a configuration. Returns their records.
fn replay(config: &Path, calls: &[HeardCall]) -> Vec<CallRecord> {
    let begin_ns = 1_772_359_200_000_000_000; // 2026-03-01T10:00:00Z
    let mut frames: Vec<CapturedFrame> = Vec::new();
    for call in calls {
        let sound = CallFrames { number: call.number, length: Duration::from_secs(call.seconds) };
        let start = begin_ns + call.at_ms * 1_000_000;
        let at = |after: Duration| start + i64::try_from(after.as_nanos()).expect("a short call");
        let heard = sound.frames_of_voices(call.voices);
        frames.extend(heard.into_iter().map(|(after, data)| CapturedFrame { at_ns: at(after), data }));
    }
    frames.sort_by_key(|frame| frame.at_ns);
    let (capture, out) = (config.with_file_name("heard.pcap"), config.with_file_name("heard"));
    std::fs::write(&capture, write_pcap(ETHERNET, &frames)).expect("written");
    let [config, out, capture] = [config, &out, &capture].map(|path| path.display().to_string());
    let replayed = callspan(&["replay", "--json", "-c", &config, "--out", &out, &capture], "");
    assert!(replayed.status.success(), "{}", text(&replayed));
    let lines = String::from_utf8_lossy(&replayed.stdout).into_owned();
    lines.lines().map(|line| serde_json::from_str(line).expect("a record")).collect()
}

/// Records calls at a site: replays them with the configuration of the site, and enters the records into its journal.
/// Returns the ids in the order of the calls.
fn hear(site: &Site, calls: &[HeardCall]) -> Vec<String> {
    let (records, journal) = (replay(&site.config(), calls), site.journal());
    let mut ids = Vec::new();
    for call in calls {
        let call_id = CallFrames { number: call.number, length: Duration::ZERO }.call_id();
        let record = records.iter().find(|record| record.legs[0].sip_call_id == call_id).expect("recorded");
        let prints = &record.legs[0].voice_prints;
        assert_eq!((prints.caller.len(), prints.callee.len()), (8, 8), "both voices have their prints");
        journal.put_call(record, CallStage::Complete).expect("stored");
        ids.push(record.id.clone());
    }
    ids
}

/// Returns the pairs of `same_calls` as `SITE ID OTHER_SITE OTHER_ID WHY`. Checks that the table `shared_calls` has the
/// same pairs.
fn pairs(central: &Central) -> Vec<String> {
    let sql = |sql: &str| -> Vec<String> {
        central.postgres.sql("postgres", sql).expect("answers").lines().map(str::to_owned).collect()
    };
    let found = sql("SELECT concat_ws(' ', site, id, other_site, other_id, why) FROM callspan.same_calls ORDER BY 1");
    let live = sql("SELECT concat_ws(' ', site, id, other_site, other_id) FROM callspan.same_calls
         WHERE site < other_site ORDER BY 1");
    let stored = sql("SELECT concat_ws(' ', site, id, other_site, other_id) FROM callspan.shared_calls ORDER BY 1");
    assert_eq!(live, stored, "the pairs as rows");
    found
}

#[test]
#[cfg_attr(not(has_postgres), ignore = "needs PostgreSQL 15 and setpriv, as root")]
fn call_behind_a_border_controller_is_related_by_its_voices() {
    let central = Central::start();
    let (north, south) = (central.add("north"), central.add("south"));
    // North hears the whole call. The telephone in south gets the call after eight seconds of a menu, and the clock of
    // south is two seconds ahead. At the same time two strangers hear one announcement (voice 99), one at each site.
    let at_north = hear(
        &north,
        &[
            HeardCall { number: 1, at_ms: 0, seconds: 30, voices: [(1, 0), (1, 0)] },
            HeardCall { number: 3, at_ms: 3_000, seconds: 20, voices: [(3, 0), (99, 0)] },
        ],
    );
    let at_south = hear(
        &south,
        &[
            HeardCall { number: 2, at_ms: 10_000, seconds: 22, voices: [(1, 400), (1, 400)] },
            HeardCall { number: 4, at_ms: 4_000, seconds: 20, voices: [(4, 0), (99, 0)] },
        ],
    );
    assert!(north.push().status.success() && south.push().status.success());
    let (one, two) = (format!("north {}", at_north[0]), format!("south {}", at_south[0]));
    assert_eq!(pairs(&central), [format!("{one} {two} voice"), format!("{two} {one} voice")]);
}

#[test]
#[cfg_attr(not(has_postgres), ignore = "needs PostgreSQL 15 and setpriv, as root")]
fn machines_that_talk_alike_in_many_calls_relate_none() {
    let central = Central::start();
    let (north, south) = (central.add("north"), central.add("south"));
    // A dialling machine calls both sites at the same time, and their voice menus answer alike.
    let robot = |number: u32| HeardCall { number, at_ms: 0, seconds: 10, voices: [(50, 0), (51, 0)] };
    hear(&north, &[robot(1), robot(2)]);
    hear(&south, &[robot(3)]);
    assert!(north.push().status.success() && south.push().status.success());
    assert_eq!(pairs(&central).len(), 4, "two calls of north have the voices of one in south");
    let fourth = Site::new("south", &central);
    hear(&fourth, &[robot(4)]);
    assert!(fourth.push().status.success());
    assert_eq!(pairs(&central), [""; 0], "the fourth takes the proof from the others, too");
}

#[test]
#[cfg_attr(not(has_postgres), ignore = "needs PostgreSQL 15 and setpriv, as root")]
fn voices_are_the_same_in_both_directions_at_the_same_time_only() {
    let central = Central::start();
    central.add("north");
    central.add("south");
    let begin = 1_772_359_200_u32;
    let print = |n: u32, second: u32| format!("\"{:08x}{:08x}\"", begin + second, n.wrapping_mul(0x9e37_79b9));
    // Returns eight prints with the numbers from `first` on, one every three seconds, beginning `late` seconds after
    // the call.
    let voice = |first: u32, late: u32| (0..8).map(|n| print(first + n, late + 3 * n)).collect::<Vec<_>>().join(",");
    let put = |site: &str, id: &str, caller: &str, callee: &str| {
        let record = format!(
            r#"{{"id":"{id}","direction":"inbound","outcome":"answered","invited_at":"2026-03-01T10:00:00Z","legs":[
                {{"sip_call_id":"{id}@{site}","voice_prints":{{"caller":[{caller}],"callee":[{callee}]}}}}]}}"#
        );
        let sql = format!("SELECT callspan.put_call(1, '{record}', '[]')");
        central.postgres.sql(&format!("callspan_{site}"), &sql).expect("accepted");
    };
    let (own, other) = (voice(100, 20), voice(200, 20));
    put("north", "call", &own, &other);
    let is_found = |id: &str| {
        let found = pairs(&central).iter().any(|pair| pair.contains(id));
        central.postgres.sql("postgres", "DELETE FROM callspan.shared_calls").expect("deleted");
        central.postgres.sql("postgres", "DELETE FROM callspan.calls WHERE site = 'south'").expect("deleted");
        found
    };
    for (id, caller, callee, wanted) in [
        ("same", own.clone(), other.clone(), true),
        ("turned", other.clone(), own.clone(), true),
        ("slow-clock", voice(100, 14), voice(200, 14), true),
        ("two-clocks", voice(100, 15), voice(200, 25), false),
        ("later", voice(100, 30), voice(200, 30), false),
        ("next-day", voice(100, 86_420), voice(200, 86_420), false),
        ("one-direction", own.clone(), voice(300, 20), false),
        ("one-voice-twice", own.clone(), own.clone(), false),
        ("two-prints", own.clone(), format!("{},{}", print(200, 20), print(201, 23)), false),
        ("three-prints", own.clone(), format!("{},{},{}", print(200, 20), print(201, 23), print(202, 26)), true),
        ("unsteady", own.clone(), format!("{},{},{}", print(200, 20), print(201, 27), print(202, 23)), false),
        ("rubbish", String::from("\"\",1,null,{\"a\":[]}"), String::from("\"zz\""), false),
    ] {
        put("south", id, &caller, &callee);
        assert_eq!(is_found(id), wanted, "{id}");
    }
    let plan = "SET enable_seqscan = off; EXPLAIN SELECT 1 FROM callspan.calls c WHERE callspan.voice_keys(c.record) && '{1,2}' LIMIT 200";
    let plan = central.postgres.sql("postgres", plan).expect("answers");
    assert!(plan.contains("calls_by_voice"), "{plan}");
}

#[test]
fn records_have_prints_for_an_archive_only_and_excluded_calls_have_none() {
    let call = HeardCall { number: 1, at_ms: 0, seconds: 5, voices: [(1, 0), (1, 0)] };
    let archive = "[archive]\nsite = \"north\"\nobjects = \"file:///nowhere\"\nindex = \"postgresql:///nothing\"\n";
    // The rule matches as soon as extension 102 answers, i.e. from the beginning of the sound.
    let exclude = format!("{archive}[[rules]]\naction = \"exclude\"\nextension = \"102\"\n");
    for (sections, verdict, prints) in
        [("", CallVerdict::BothSides, 0), (archive, CallVerdict::BothSides, 8), (&*exclude, CallVerdict::Excluded, 0)]
    {
        let folder = tempfile::tempdir().expect("a folder");
        let config = ServiceToml::new(folder.path()).append(sections).write();
        let records = replay(&config, std::slice::from_ref(&call));
        let [record] = records.as_slice() else { panic!("one call: {records:?}") };
        assert_eq!(record.verdict, Some(verdict), "{sections}");
        let VoicePrints { caller, callee } = &record.legs[0].voice_prints;
        assert_eq!((caller.len(), callee.len()), (prints, prints), "{sections}");
    }
}
