//! Tests that neither the security key nor a token is in the log or in the journal.

use std::io::Write;
use std::sync::{Arc, Mutex};

use callspan::fake_pyrus::{ErrorLanguage, FakeEndpoint, FakeOptions, PyrusFault};

use crate::delivery::world::DeliveryFixture;
use crate::support::process::is_own_process;

#[derive(Clone, Default)]
struct LogLines(Arc<Mutex<Vec<u8>>>);

impl Write for LogLines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no test panics with it").extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn log_and_journal_have_no_key_no_token_and_no_number() {
    if !is_own_process("delivery::secrets::log_and_journal_have_no_key_no_token_and_no_number") {
        return;
    }
    let lines = LogLines::default();
    let writer = lines.clone();
    let trace = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone());
    trace.init();
    let key = "key-7f3a9c51";
    let mut options = FakeOptions { error_lang: ErrorLanguage::Ru, ..FakeOptions::default() };
    options.users[0].security_key = key.into();
    let mut world = DeliveryFixture::new(options);
    world.config.security_key = Some(key.to_owned().into());
    for (endpoint, fault) in [
        (FakeEndpoint::Auth, PyrusFault::ServerError),
        (FakeEndpoint::Call, PyrusFault::unauthorized("revoked_token")),
        (FakeEndpoint::Upload, PyrusFault::UnauthorizedEarly),
        (FakeEndpoint::Attach, PyrusFault::CloseWithoutReply),
        (FakeEndpoint::Attach, PyrusFault::error(400, "brand_new_error")),
    ] {
        world.fake.script(endpoint, fault);
    }
    let summary = world.deliver([world.recorded("a")]);
    assert_eq!(summary.parked.len(), 1);
    assert_eq!(world.deliver([]).done, 1);

    let log = String::from_utf8_lossy(&lines.0.lock().unwrap()).into_owned();
    assert!(log.contains("the administrator must act"), "something was logged at all");
    let ours: Vec<&str> = log.lines().filter(|l| l.contains("callspan")).collect();
    assert!(!ours.is_empty());
    let mut stored = Vec::new();
    for entry in std::fs::read_dir(world.dir.path().join("state")).unwrap() {
        stored.extend(std::fs::read(entry.unwrap().path()).unwrap());
    }
    let stored = String::from_utf8_lossy(&stored);
    for (place, text) in [("log", log.as_str()), ("journal", &stored)] {
        assert!(!text.contains(key), "the key is in the {place}");
        assert!(!text.contains("gAAAA"), "a token is in the {place}"); // tokens of the fake begin so
    }
    for line in ours {
        assert!(!line.contains("9774221338"), "a number is in the log: {line}");
    }
}
