//! Tests of the live page: it shows the levels (loudness) of both sides. It shows them only for calls that the account
//! may see, and only while a page is open.

use super::chromium::Browser;
use super::*;
use crate::call::Engine;
use crate::call::engine::levels::{CallLevels, VoiceLevel};
use crate::call::event::LegSink;
use crate::capture::files;
use crate::decode::UdpDatagram;
use crate::net::Endpoint;
use crate::ops::doctor::calls::CallTally;
use crate::service::pipeline::{Pipeline, PipelineStep};
use std::io::{BufRead as _, BufReader};
use std::path::Path;

#[test]
fn levels_of_own_calls_reach_a_page_only_while_it_listens() {
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
        std::thread::yield_now(); // waits until the server notices that the page was closed
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
            let calls = pipeline.engine.live_call_ids();
            all.extend(pipeline.engine.live_levels(calls));
        }
        all
    };
    let levels = heard("g711a_direct", true);
    for side in 0..2 {
        let loudest = levels.iter().filter_map(|call| call.sides[side]).max();
        let is_voice = |level| matches!(level, Some(VoiceLevel::Percent(30..=100)));
        assert!(is_voice(loudest), "side {side}: {loudest:?}");
    }
    assert!(heard("g711a_direct", false).iter().all(|call| call.sides == [None, None]));
    let encrypted = heard("srtp_sdes_direct", true);
    assert!(encrypted.iter().all(|call| call.sides == [None, None]), "ciphertext has no level");
    let opus = heard("opus_direct", true);
    assert!(opus.iter().any(|call| call.sides == [Some(VoiceLevel::Unmeasured); 2]));
}

/// Number of the only test call that is answered and has media.
const TALKING: u32 = 9_999;

/// Passes datagrams between the hosts 10.9.0.11 and 10.9.0.12 to an engine, as if it had captured them.
struct Wire {
    engine: Engine,
    sink: Box<dyn LegSink>,
    at: Timestamp,
}

impl Wire {
    /// Sends a datagram from host 11 to host 12, 1 ms after the previous datagram. If `is_back` is true, the direction
    /// is reversed.
    fn send(&mut self, is_back: bool, port: u16, payload: &[u8]) {
        let end = |host: u8| Endpoint::v4([10, 9, 0, host], port);
        let (src, dst) = if is_back { (end(12), end(11)) } else { (end(11), end(12)) };
        self.at = self.at + Duration::from_millis(1);
        let wire_len = u32::try_from(payload.len()).expect("short");
        let datagram = UdpDatagram { at: self.at, src, dst, payload, wire_len, interface: 0 };
        self.engine.handle_datagram(&datagram, &mut *self.sink);
    }

    /// Sends a SIP message of the call `n` with this first line and To tag. `is_back` is true for a message of the
    /// callee.
    fn sip(&mut self, first_line: &str, n: u32, (is_back, to_tag): (bool, &str)) {
        let (host, port) = (if is_back { 12 } else { 11 }, if n == TALKING { 20_000 } else { 30_000 + n });
        let sdp = format!(
            "v=0\r\no=- 1 1 IN IP4 10.9.0.{host}\r\ns=-\r\nc=IN IP4 10.9.0.{host}\r\nt=0 0\r\nm=audio {port} RTP/AVP 8\r\n"
        );
        let text = format!(
            "{first_line}\r\nVia: SIP/2.0/UDP 10.9.0.11;branch=z9hG4bK{n}\r\nCall-ID: call{n}\r\nFrom: <sip:{n}@10.9.0.11>;tag=a{n}\r\n\
             To: <sip:9{n}@10.9.0.12>{to_tag}\r\nCSeq: 1 INVITE\r\nContact: <sip:1@10.9.0.{host}>\r\n\
             Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
            sdp.len()
        );
        self.send(is_back, 5060, text.as_bytes());
    }
}

#[test]
fn a_call_that_talks_has_its_level_beside_thousands_that_ring() {
    let engine = Engine::new(crate::call::config::Config::default(), "x");
    let mut wire = Wire { engine, sink: Box::<CallTally>::default(), at: Timestamp::from_secs(1_000) };
    wire.engine.watch_levels(true);
    for n in 1..=2_001 {
        wire.sip("INVITE sip:2@10.9.0.12 SIP/2.0", n, (false, ""));
    }
    let is_heard = |call: &CallLevels| call.sides != [None, None];
    let ringing = wire.engine.live_call_ids();
    assert!(!wire.engine.live_levels(ringing).iter().any(is_heard), "nobody talks");
    wire.sip("INVITE sip:2@10.9.0.12 SIP/2.0", TALKING, (false, ""));
    wire.sip("SIP/2.0 200 OK", TALKING, (true, ";tag=b"));
    for sequence in 1..=3 {
        let head = [0x80, 8, 0, sequence, 0, 0, 0, sequence, 0, 0, 0, 7];
        wire.send(false, 20_000, &[&head[..], &[0xaa; 160]].concat());
    }
    let all = wire.engine.live_call_ids();
    assert_eq!(all.len(), 2_002);
    let mut levels = wire.engine.live_levels(all);
    levels.retain(is_heard);
    assert_eq!(levels.iter().map(|call| call.sides).collect::<Vec<_>>(), [[Some(VoiceLevel::Percent(100)), None]]);
    // Levels are measured only for the calls in the list that a page asks for. The call `over` has ended, so it has no
    // levels.
    let asked = vec![levels[0].id.clone(), String::from("over")];
    let over = CallLevels { id: String::from("over"), sides: [None, None] };
    assert_eq!(wire.engine.live_levels(asked), [levels[0].clone(), over]);
}

#[test]
#[cfg_attr(not(has_chromium), ignore = "needs chromium and chromedriver")]
fn rows_that_come_while_the_table_is_in_use_are_shown_afterwards() {
    let office = Office::with_calls(&["120"]);
    let journal = Journal::open(&office.config.journal).expect("a journal");
    let live = |n, extension| CallRecord { ended_at: None, ..call(office.dir.path(), n, extension) };
    for (n, extension) in [(1, "121"), (2, "122")] {
        journal.put_call(&live(n, extension), CallStage::Live).expect("put");
    }
    let browser = Browser::start();
    browser.open(&format!("http://{}/live", office.addr()));
    browser.wait("document.querySelectorAll('[data-live] tbody tr').length === 2");
    assert_eq!(browser.run("return document.querySelector('[data-since]').textContent.includes(':')"), true);
    browser.run("document.querySelector('[data-control]').focus()");
    journal.put_call(&call(office.dir.path(), 1, "121"), CallStage::Complete).expect("put");
    browser.wait("document.querySelector('[data-state]').textContent.includes('new rows wait')");
    assert_eq!(browser.run("return document.querySelectorAll('[data-live] tbody tr').length"), 2);
    browser.run("document.activeElement.blur()");
    browser.wait("document.querySelectorAll('[data-live] tbody tr').length === 1");
    // After the user presses the button of a call, the table is updated at once. Then the new button of this call has
    // the focus.
    browser.run(
        "window.fetch = () => Promise.resolve({ ok: true });
         const button = document.querySelector('[data-control]'); button.focus(); button.click();",
    );
    let mut paused = live(2, "122");
    paused.paused = vec![crate::call::record::PauseRecord { from: wall_clock(), to: None }];
    journal.put_call(&paused, CallStage::Live).expect("put");
    browser.wait("document.activeElement.dataset.control?.endsWith('/resume')");
    browser.is_quiet();
}
