//! Tests for calls with card numbers: while a recording is paused, neither speech nor DTMF may be stored.

use callspan::call::Engine;
use callspan::call::config::Config;
use callspan::call::pause::{self, PauseAction};
use callspan::call::record::{CallVerdict, Side};
use callspan::service::resume::{NoEarlierCalls, resume};
use callspan::spool::disk::DiskSpool;

use crate::sound::srtp::{SrtpMasterKey, protect};
use crate::support::phones::{
    EngineWithSpool, MirroredTraffic, RecordedCall, RtpPhone, SentDatagram, at_ms, ended, feed, recorded,
};

fn config() -> Config {
    let pause = pause::Config {
        header: "X-Recording".to_owned(),
        info_type: "application/x-recording".to_owned(),
        dtmf: "*71".to_owned(),
        resume_dtmf: "*72".to_owned(),
    };
    Config { pause, ..Config::default() }
}

/// Returns a call in which both sides talk from 1 s (the answer) to 9 s (the BYE).
fn talking() -> MirroredTraffic {
    let mut wire = MirroredTraffic::answered();
    for side in [Side::Caller, Side::Callee] {
        RtpPhone::new(side).talk(&mut wire, 1_000.0, 9_000.0);
    }
    wire.bye(9_000.0);
    wire
}

fn run(wire: MirroredTraffic) -> RecordedCall {
    let mut stage = EngineWithSpool::new(config());
    stage.play(&wire.sorted());
    stage.finish()
}

/// Returns whether the spools contain a sequence of bytes.
fn kept(recorded: &RecordedCall, bytes: &[u8]) -> bool {
    recorded.spools.iter().any(|spool| memchr::memmem::find(spool, bytes).is_some())
}

/// Returns the voice payloads that were sent between two times, `from_ms` excluded: a packet at the very time of the
/// pause is still stored.
fn said(packets: &[SentDatagram], from_ms: f64, to_ms: f64) -> Vec<Vec<u8>> {
    let voice = packets.iter().filter(|p| p.payload.first() == Some(&0x80) && p.payload.get(1) != Some(&101));
    let inside = voice.filter(|p| p.at > at_ms(from_ms) && p.at < at_ms(to_ms));
    inside.map(|p| p.payload[12..].to_vec()).collect()
}

/// Checks a pause from `from_ms` to `to_ms`. Both channels must be silent, the spool must not have the sound, and the
/// record must report the pause. The sound of the second before the pause and of the second after it must be recorded.
fn assert_paused(recorded: &RecordedCall, wire: &[SentDatagram], (from_ms, to_ms): (f64, f64)) {
    let frame = |ms: f64| ((ms - 1_000.0) * 8.0) as usize;
    let silent = &recorded.frames[frame(from_ms)..frame(to_ms)];
    assert!(silent.iter().all(|f| *f == [0, 0]), "the pause is silent");
    for (from, to) in [(from_ms - 500.0, from_ms - 20.0), (to_ms + 20.0, to_ms + 500.0)] {
        let around = &recorded.frames[frame(from)..frame(to)];
        for channel in 0..2 {
            let quiet = around.iter().filter(|f| f[channel] == 0).count();
            assert!(quiet < around.len() / 10, "{quiet} of {} samples are silent around the pause", around.len());
        }
    }
    let secret = said(wire, from_ms, to_ms);
    assert!(secret.len() > 20 && secret.iter().all(|payload| !kept(recorded, payload)), "payload of the pause is kept");
    let before = said(wire, from_ms - 500.0, from_ms);
    assert!(before.iter().all(|payload| kept(recorded, payload)), "the search finds what was kept");
    let [paused] = recorded.record.paused.as_slice() else { panic!("{:?}", recorded.record.paused) };
    assert_eq!((paused.from, paused.to), (at_ms(from_ms), Some(at_ms(to_ms))));
    let kinds: Vec<&str> = recorded.record.events.iter().map(|e| e.kind.as_str()).filter(|k| *k != "dtmf").collect();
    assert_eq!(kinds, ["pause", "unpause"]);
    assert_eq!(recorded.record.verdict, Some(CallVerdict::BothSides));
}

#[test]
fn a_header_pauses_and_resumes() {
    let mut wire = talking();
    wire.info(4_000.0, "X-Recording: pause\r\n", ("", ""));
    wire.info(6_000.0, "X-Recording: resume\r\n", ("", ""));
    let packets = wire.clone().sorted();
    assert_paused(&run(wire), &packets, (4_000.0, 6_000.0));
}

#[test]
fn the_body_of_an_info_pauses_and_resumes() {
    let mut wire = talking();
    wire.info(4_000.0, "", ("application/x-recording", "Record: off\r\n"));
    wire.info(6_000.0, "", ("application/x-recording", "Record: on\r\n"));
    let packets = wire.clone().sorted();
    assert_paused(&run(wire), &packets, (4_000.0, 6_000.0));
}

#[test]
fn the_local_api_pauses_and_resumes_the_call_that_it_names() {
    let wire = talking();
    let packets = wire.sorted();
    let (before, rest): (Vec<SentDatagram>, Vec<SentDatagram>) =
        packets.iter().cloned().partition(|p| p.at < at_ms(4_000.0));
    let (during, after): (Vec<SentDatagram>, Vec<SentDatagram>) = rest.into_iter().partition(|p| p.at < at_ms(6_000.0));
    let mut stage = EngineWithSpool::new(config());
    stage.play(&before);
    let id = stage.engine.live_ids().next().unwrap().to_owned();
    assert_eq!((stage.engine.is_paused(&id), stage.engine.is_paused("another")), (Some(false), None));
    stage.engine.handle_pause("another", PauseAction::Pause, at_ms(4_000.0), &mut stage.spool);
    assert_eq!(stage.engine.is_paused(&id), Some(false));
    stage.engine.handle_pause(&id, PauseAction::Pause, at_ms(4_000.0), &mut stage.spool);
    assert_eq!(stage.engine.is_paused(&id), Some(true));
    stage.play(&during);
    stage.engine.handle_pause(&id, PauseAction::Resume, at_ms(6_000.0), &mut stage.spool);
    stage.play(&after);
    assert_paused(&stage.finish(), &packets, (4_000.0, 6_000.0));
}

/// Sends the packets of a caller who presses three keys within a second and continues to talk. Returns the time of the
/// last key.
fn typed(wire: &mut MirroredTraffic, phone: &mut RtpPhone, from_ms: f64, keys: [u8; 3]) -> f64 {
    for (n, key) in keys.into_iter().enumerate() {
        phone.press(wire, from_ms + 300.0 * n as f64, key);
        phone.talk(wire, from_ms + 300.0 * n as f64 + 200.0, from_ms + 300.0 * (n + 1) as f64);
    }
    from_ms + 600.0
}

const STAR: u8 = 10;

/// Returns a call in which the caller pauses the recording by `*71`, types four digits of a card, and resumes by `*72`.
/// Also returns the times of the pause and of the end of the pause.
fn typing() -> (MirroredTraffic, f64, f64) {
    let mut wire = MirroredTraffic::answered();
    let mut caller = RtpPhone::new(Side::Caller);
    RtpPhone::new(Side::Callee).talk(&mut wire, 1_000.0, 12_000.0);
    caller.talk(&mut wire, 1_000.0, 3_000.0);
    let paused = typed(&mut wire, &mut caller, 3_000.0, [STAR, 7, 1]);
    caller.talk(&mut wire, 3_900.0, 5_000.0);
    typed(&mut wire, &mut caller, 5_000.0, [4, 2, 4]);
    caller.talk(&mut wire, 5_900.0, 7_000.0);
    let resumed = typed(&mut wire, &mut caller, 7_000.0, [STAR, 7, 2]);
    caller.talk(&mut wire, 7_900.0, 12_000.0);
    wire.bye(12_000.0);
    (wire, paused, resumed)
}

/// Checks that no key is stored: not in the spool, and not in the record. No telephone-event may have a payload in the
/// spool.
fn assert_no_keys(recorded: &RecordedCall, wire: &[SentDatagram]) {
    let events = wire.iter().filter(|p| p.payload.get(1) == Some(&101));
    for packet in events {
        assert!(!kept(recorded, &packet.payload), "a telephone-event was kept whole");
        assert!(kept(recorded, &packet.payload[..12]), "its header was kept");
    }
    let json = serde_json::to_string(&recorded.record).unwrap();
    assert!(!json.contains("*71") && !json.contains("424"), "{json}");
}

#[test]
fn keys_pause_and_resume_and_no_key_is_kept() {
    let (wire, from, to) = typing();
    let packets = wire.clone().sorted();
    let recorded = run(wire);
    // The keys have no sound of their own, so the check leaves more distance from the edges of the pause.
    let paused = &recorded.record.paused;
    assert_eq!((paused[0].from, paused[0].to, paused.len()), (at_ms(from), Some(at_ms(to)), 1));
    let frame = |ms: f64| ((ms - 1_000.0) * 8.0) as usize;
    assert!(recorded.frames[frame(from)..frame(to)].iter().all(|f| *f == [0, 0]));
    let secret = said(&packets, from, to);
    assert!(secret.len() > 100 && secret.iter().all(|payload| !kept(&recorded, payload)));
    assert_no_keys(&recorded, &packets);
    let keys: Vec<_> =
        recorded.record.events.iter().filter(|e| e.kind == callspan::call::record::EventKind::Dtmf).collect();
    assert_eq!(keys.len(), 9, "one event for each key, however many packets it had");
    assert!(keys.iter().all(|e| e.side == Some(Side::Caller) && e.detail.is_none()));
}

#[test]
fn without_configuration_nothing_pauses() {
    let (mut wire, ..) = typing();
    wire.info(4_000.0, "X-Recording: pause\r\n", ("application/x-recording", "pause"));
    let mut stage = EngineWithSpool::new(Config::default());
    stage.play(&wire.sorted());
    let recorded = stage.finish();
    assert!(recorded.record.paused.is_empty());
    assert_eq!(recorded.record.events.iter().filter(|e| e.kind == callspan::call::record::EventKind::Dtmf).count(), 9);
}

#[test]
fn an_invite_with_the_header_is_paused_from_its_beginning() {
    let mut wire = MirroredTraffic::default();
    wire.invite(0.0, "X-Recording: off\r\n");
    wire.answer(1_000.0);
    for side in [Side::Caller, Side::Callee] {
        RtpPhone::new(side).talk(&mut wire, 1_000.0, 6_000.0);
    }
    wire.info(4_000.0, "X-Recording: on\r\n", ("", ""));
    wire.bye(6_000.0);
    let packets = wire.clone().sorted();
    let recorded = run(wire);
    assert!(recorded.frames[..3 * 8_000].iter().all(|f| *f == [0, 0]));
    assert!(recorded.frames[3 * 8_000 + 200][0] != 0);
    assert!(said(&packets, 1_000.0, 4_000.0).iter().all(|payload| !kept(&recorded, payload)));
}

#[test]
fn a_pause_outlives_a_restart_whatever_led_to_it() {
    let (wire, from, to) = typing();
    let packets = wire.sorted();
    let (before, rest): (Vec<SentDatagram>, Vec<SentDatagram>) =
        packets.iter().cloned().partition(|p| p.at < at_ms(4_500.0));
    // The packets of one second are not captured.
    let after: Vec<SentDatagram> = rest.into_iter().filter(|p| p.at >= at_ms(5_500.0)).collect();
    let folder = tempfile::tempdir().unwrap();
    let spool_config = callspan::spool::config::Config { dir: folder.path().to_owned(), ..Default::default() };
    {
        let (mut spool, _events) = DiskSpool::start(&spool_config).unwrap();
        let mut engine = Engine::new(config(), "made up");
        feed(&mut engine, &before, &mut spool);
        assert_eq!(engine.is_paused(engine.live_ids().next().unwrap()), Some(true));
        spool.flush();
        spool.shutdown();
    }
    let (mut spool, _events) = DiskSpool::start(&spool_config).unwrap();
    let mut engine = Engine::new(config(), "made up");
    assert_eq!(resume(&mut engine, &mut spool, &NoEarlierCalls).unwrap().len(), 1);
    let id = engine.live_ids().next().unwrap().to_owned();
    assert_eq!(engine.is_paused(&id), Some(true), "the keys are not in the spool, the decision is");
    // The engine was started at today's time, but the synthetic call has times of its own.
    feed(&mut engine, &after, &mut spool);
    engine.handle_end_of_capture(&mut spool);
    spool.flush();
    let calls = ended(&mut engine);
    let recorded = recorded(&calls[0], &spool.store(), Default::default());
    let paused: Vec<_> = recorded.record.paused.iter().map(|p| (p.from, p.to)).collect();
    assert_eq!(paused, [(at_ms(from), Some(at_ms(to)))]);
    let secret: Vec<Vec<u8>> = [said(&before, from, to), said(&after, from, to)].concat();
    assert!(secret.len() > 100 && secret.iter().all(|payload| !kept(&recorded, payload)));
    let frame = |ms: f64| ((ms - 1_000.0) * 8.0) as usize;
    assert!(recorded.frames[frame(from)..frame(to)].iter().all(|f| *f == [0, 0]));
    assert!(recorded.frames[frame(to + 500.0)..frame(to + 600.0)].iter().any(|f| f[0] != 0 && f[1] != 0));
    assert_no_keys(&recorded, &[before, after].concat());
}

/// Media may be encrypted although the session descriptions show no keys. Then the first byte of an event is a key by
/// chance. A plain event with stray bytes has the voice of a plain stream beside it.
#[test]
fn keys_of_media_that_is_encrypted_by_its_form_do_not_pause() {
    for tag_bytes in [Some(4), Some(10), None] {
        let (mut wire, paused_ms, resumed_ms) = typing();
        let keys: Vec<u8> =
            wire.packets.iter().filter(|packet| is_event(packet)).map(|packet| packet.payload[12]).collect();
        match tag_bytes {
            Some(bytes) => {
                protect(&mut wire, Side::Caller, 0, |_| SrtpMasterKey::new(3).with_tag(bytes));
            }
            None => wire.packets.iter_mut().filter(|p| is_event(p)).for_each(|p| p.payload.extend([7, 1, 0, 9])),
        }
        for (packet, key) in wire.packets.iter_mut().filter(|packet| is_event(packet)).zip(keys) {
            packet.payload[12] = key;
        }
        let recorded = run(wire);
        let paused: Vec<_> = recorded.record.paused.iter().map(|pause| (pause.from, pause.to)).collect();
        let plain = vec![(at_ms(paused_ms), Some(at_ms(resumed_ms)))];
        assert_eq!(paused, if tag_bytes.is_none() { plain } else { Vec::new() }, "{tag_bytes:?}");
    }
}

fn is_event(packet: &SentDatagram) -> bool {
    packet.payload.get(1) == Some(&101)
}
