//! Tests of the live page: it shows the levels of both sides, only for calls in the scope, and only while a page is
//! open.

use super::*;
use crate::call::Engine;
use crate::call::engine::levels::{CallLevels, VoiceLevel};
use crate::capture::files;
use crate::ops::doctor::calls::CallTally;
use crate::service::pipeline::{Pipeline, PipelineStep};
use std::io::{BufRead as _, BufReader};
use std::path::Path;

#[test]
fn levels_of_the_own_calls_reach_a_page_and_are_wanted_only_while_it_listens() {
    let office = Office::with_calls(&["120", "220"]);
    office.add("boris", AccountRole::Listener, &["1xx"]);
    let cookie = office.sign_in("boris");
    let journal = Journal::open(&office.config.journal).expect("a journal");
    for (n, extension) in [(0, "120"), (1, "220")] {
        let record = call(office.dir.path(), n, extension);
        journal.put_call(&record, CallStage::Live).expect("put");
    }
    let sides = [Some(VoiceLevel::Percent(72)), Some(VoiceLevel::Unmeasured)];
    let levels = [OWN, FOREIGN].map(|id| CallLevels { id: id.to_owned(), sides });
    office.console.publish_levels(levels.to_vec());
    assert!(!office.console.wants_levels());
    let mut stream = std::net::TcpStream::connect(office.addr()).expect("connects");
    let head = format!("GET /live/events HTTP/1.1\r\nHost: {}\r\nCookie: {cookie}\r\n\r\n", office.addr());
    stream.write_all(head.as_bytes()).expect("writes");
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let rows = lines.find(|line| line.starts_with("data: ")).expect("the rows come first");
    assert!(rows.contains(&format!("data-levels=\"{OWN}\"")) && !rows.contains(FOREIGN), "{rows}");
    assert!(lines.any(|line| line == "event: levels"));
    assert_eq!(lines.next().as_deref(), Some(format!("data: {{\"{OWN}\":[72,-1]}}").as_str()));
    assert!(office.console.wants_levels());
    drop(lines);
    while office.console.wants_levels() {
        std::thread::yield_now(); // until the server has noticed that the page is closed
    }
}

#[test]
fn both_voices_of_a_call_have_a_level_if_it_is_wanted() {
    let heard = |name: &str, is_wanted: bool| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/calls").join(name).join("capture.pcap");
        let mut source = files::open(&[path]).expect("shipped");
        let mut pipeline = Pipeline::new(Engine::new(crate::call::config::Config::default(), "x"));
        pipeline.engine.watch_levels(is_wanted);
        let mut all = Vec::new();
        let mut sink = CallTally::default();
        while pipeline.step(&mut source, &mut sink).expect("readable") == PipelineStep::More {
            all.extend(pipeline.engine.live_levels());
        }
        all
    };
    let levels = heard("g711a_direct", true);
    for side in 0..2 {
        let loudest = levels.iter().filter_map(|call| call.sides[side]).max();
        let is_voice = |level| matches!(level, Some(VoiceLevel::Percent(30..=100)));
        assert!(is_voice(loudest), "side {side}: {loudest:?}");
    }
    assert!(heard("g711a_direct", false).is_empty());
    let encrypted = heard("srtp_sdes_direct", true);
    assert!(encrypted.iter().all(|call| call.sides == [None, None]), "ciphertext has no level");
    let opus = heard("opus_direct", true);
    assert!(opus.iter().any(|call| call.sides == [Some(VoiceLevel::Unmeasured); 2]));
}
