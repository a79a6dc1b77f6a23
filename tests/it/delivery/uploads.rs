//! Tests of uploads that are large, slow, interrupted or refused.

use std::time::Duration;

use callspan::fake_pyrus::{FakeEndpoint, FakeOptions, FaultStep, PyrusFault, TooLargeReply};

use crate::delivery::world::DeliveryFixture;

fn large(world: &DeliveryFixture, bytes: usize) -> callspan::delivery::CallUpdate {
    let mut call = world.recorded("a");
    world.wav("a", bytes);
    call.record.recordings[0].bytes = bytes as u64;
    call
}

#[test]
fn a_reply_that_does_not_confirm_the_file_makes_another_upload() {
    for fault in [
        PyrusFault::WrongMd5,
        PyrusFault::NoGuid,
        PyrusFault::empty(200),
        PyrusFault::json(200, serde_json::Value::Null),
        PyrusFault::InvalidJson,
        PyrusFault::InvalidUtf8,
        PyrusFault::HugeBody(3 * 1024 * 1024),
        PyrusFault::ServerError,
        PyrusFault::CloseWithoutReply,
        PyrusFault::ResetAfterRequest,
        PyrusFault::TruncatedBody,
        PyrusFault::ResetAfterUploadBytes(100_000),
    ] {
        let world = DeliveryFixture::new(FakeOptions::default());
        world.fake.script(FakeEndpoint::Upload, fault.clone());
        assert_eq!(world.deliver([large(&world, 1_000_000)]).done, 1, "{fault:?}");
        assert_eq!(world.requests(), [1, 1, 2, 1], "{fault:?}");
        world.assert_delivered_once("a");
    }
}

#[test]
fn a_file_too_large_for_the_server_is_dead_and_kept() {
    for too_large in [TooLargeReply::Json, TooLargeReply::HtmlEarly] {
        let world = DeliveryFixture::new(FakeOptions { max_upload: 30_000, too_large, ..FakeOptions::default() });
        let summary = world.deliver([world.recorded("a")]);
        assert_eq!((summary.dead.len(), summary.owed), (1, 0), "{too_large:?}");
        assert!(summary.dead[0].reason.contains("max_upload_mib"), "{}", summary.dead[0].reason);
        assert_eq!(world.requests(), [1, 1, 1, 0]);
        assert!(world.dir.path().join("a.wav").exists());
    }
}

#[test]
fn a_file_over_our_own_limit_is_not_sent_at_all() {
    let mut world = DeliveryFixture::new(FakeOptions::default());
    world.config.max_upload_mib = 1;
    let summary = world.deliver([large(&world, 1024 * 1024 + 1)]);
    assert_eq!(summary.dead.len(), 1);
    assert_eq!(world.requests(), [1, 1, 0, 0]);
}

#[test]
fn a_slow_server_takes_as_long_as_it_needs() {
    let world = DeliveryFixture::new(FakeOptions::default());
    // At 4 MB/s, 10 MB take 2.5 s. This is longer than a JSON request may take (1.5 s) and than an upload may stand
    // still (1 s).
    world.fake.script(FakeEndpoint::Upload, PyrusFault::SlowRead(4_000_000));
    assert_eq!(world.deliver([large(&world, 10_000_000)]).done, 1);
    assert_eq!(world.requests(), [1, 1, 1, 1]);
    world.assert_delivered_once("a");
}

#[test]
fn an_upload_waits_for_bytes_still_in_the_socket_buffer() {
    let world = DeliveryFixture::new(FakeOptions::default());
    // The system's buffers take about 1 MB at once. At 300 kB/s the server still needs longer to read it than a JSON
    // request may take (1.5 s).
    world.fake.script(FakeEndpoint::Upload, PyrusFault::SlowRead(300_000));
    assert_eq!(world.deliver([large(&world, 1_000_000)]).done, 1);
    assert_eq!(world.requests(), [1, 1, 1, 1]);
    world.assert_delivered_once("a");
}

#[test]
fn a_long_upload_is_waited_for_by_who_has_little_patience() {
    let world = DeliveryFixture::new(FakeOptions::default());
    world.fake.script(FakeEndpoint::Upload, PyrusFault::SlowRead(4_000_000)); // takes 2.5 s
    let handle = world.start();
    handle.send_update(large(&world, 10_000_000));
    let summary = handle.run_until_settled(Duration::from_secs(2));
    assert_eq!((summary.done, summary.owed), (1, 0));
    world.assert_delivered_once("a");
}

#[test]
fn an_upload_that_stands_still_is_given_up_and_repeated() {
    let world = DeliveryFixture::new(FakeOptions::default());
    world.fake.script(FakeEndpoint::Upload, PyrusFault::StallUploadAfter(100_000));
    assert_eq!(world.deliver([large(&world, 20_000_000)]).done, 1);
    assert_eq!(world.requests(), [1, 1, 2, 1]);
    world.assert_delivered_once("a");
}

#[test]
fn a_silent_server_after_an_upload_times_out() {
    let world = DeliveryFixture::new(FakeOptions::default());
    world.fake.script(FakeEndpoint::Upload, FaultStep::before(PyrusFault::HangBeforeHeaders(Duration::from_secs(6))));
    let begun = world.fake.now();
    assert_eq!(world.deliver([world.recorded("a")]).done, 1);
    assert!(world.fake.now() - begun < Duration::from_secs(5));
}

#[test]
fn a_recording_that_is_gone_parks_the_call_and_says_which() {
    let world = DeliveryFixture::new(FakeOptions::default());
    let call = world.recorded("a");
    std::fs::remove_file(world.dir.path().join("a.wav")).unwrap();
    let summary = world.deliver([call]);
    assert!(summary.parked[0].reason.contains("a.wav"), "{summary:?}");
    assert_eq!(world.requests(), [1, 1, 0, 0]);
    world.wav("a", 40_000);
    assert_eq!(world.deliver([]).done, 1);
    world.assert_delivered_once("a");
}

/// Returns a WAV file as callspan writes it. The samples count up, so that a lost, repeated or moved byte is found.
fn counting_wav(world: &DeliveryFixture, frames: u32) -> Vec<u8> {
    let path = world.dir.path().join("a.wav");
    let spec = hound::WavSpec {
        channels: 2,
        sample_rate: 8_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(&path, spec).expect("a file");
    for n in 0..frames {
        writer.write_sample(n as i16).expect("written");
        writer.write_sample((n >> 16) as i16).expect("written");
    }
    writer.finalize().expect("written");
    std::fs::read(path).expect("readable")
}

#[test]
fn a_recording_too_large_for_the_server_is_attached_in_pieces() {
    for too_large in [TooLargeReply::Json, TooLargeReply::HtmlEarly] {
        let world = DeliveryFixture::new(FakeOptions { max_upload: 3_000_000, too_large, ..FakeOptions::default() });
        let mut call = world.recorded("a");
        let whole = counting_wav(&world, 2_500_000); // 10 MB is halved twice to 2.5 MB, i.e. four pieces
        call.record.recordings[0].bytes = whole.len() as u64;
        let summary = world.deliver([call.clone()]);
        assert_eq!((summary.done, summary.dead.len()), (1, 0), "{too_large:?}: {summary:?}");
        // The upload of the whole file and of the first half is refused. Then all four pieces are uploaded.
        assert_eq!(world.requests(), [1, 1, 6, 4]);
        let state = world.fake.state();
        let mut joined = Vec::new();
        for file in &state.files {
            let bytes = file.bytes.as_ref().expect("kept");
            let samples = hound::WavReader::new(std::io::Cursor::new(bytes.as_slice())).expect("a WAV of its own");
            assert_eq!(samples.duration() as usize * 4 + 44, bytes.len());
            joined.extend_from_slice(&bytes[44..]);
        }
        assert!(joined == whole[44..], "in order, and not a sample is missing");
        assert!(std::fs::read(world.dir.path().join("a.wav")).expect("it stays as it is") == whole);
        // After a restart, nothing is sent a second time.
        world.deliver([call]);
        assert_eq!(world.requests()[1..], [1, 6, 4]);
    }
}
