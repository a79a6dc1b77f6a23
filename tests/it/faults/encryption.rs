//! Tests of encryption after delivery (`recording.encrypt_to`), also if it is interrupted at any step.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::configuration::ServiceToml;
use age::secrecy::ExposeSecret as _;
use age::x25519::Identity;
use callspan::call::record::{CallRecord, DeliveryState};
use callspan::journal::{EncryptedRecording, Journal};
use callspan::recording::encrypt::{EncryptedFile, encrypt_file, encrypted_path};
use callspan::recording::{digest, encrypt::AgeRecipient};

use crate::faults::station::{ALL, FaultSetup, TestRecorder, below, beside, call, delivered, until};

/// Returns a setup in which recordings are encrypted to one identity.
fn place(keep_pcap: bool) -> (FaultSetup, Identity) {
    let (mut place, identity) = (FaultSetup::new(), Identity::generate());
    place.config.recording.encrypt_to = vec![recipient(&identity)];
    place.config.recording.keep_pcap = keep_pcap;
    (place, identity)
}

fn recipient(identity: &Identity) -> AgeRecipient {
    identity.to_public().to_string().parse().expect("a public key")
}

fn decrypt(path: &Path, identity: &Identity) -> Vec<u8> {
    let file = std::fs::File::open(path).expect("there");
    let mut reader = age::Decryptor::new_buffered(std::io::BufReader::new(file))
        .expect("an age file")
        .decrypt(std::iter::once(identity as &dyn age::Identity))
        .expect("it was encrypted to this key");
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).expect("whole");
    bytes
}

/// Waits until the recording is encrypted and the record beside it says so. Checks that no file is left over.
fn encrypted(place: &FaultSetup, journal: &Journal) -> CallRecord {
    let mut record = None;
    until("the recording is encrypted and its record says so", || {
        let Some(stored) = call(journal) else { return false };
        record = beside(&place.config.recording.dir, &stored.record.id)
            .filter(|r| r.recordings.iter().all(|file| file.plain_sha256.is_some()));
        record.is_some() && journal.leftovers(1).expect("readable").is_empty()
    });
    let record = record.expect("just seen");
    assert_eq!(call(journal).expect("known").record, record);
    let rows = journal.recordings().expect("readable");
    assert_eq!(rows.len(), record.recordings.len());
    for (row, file) in rows.iter().zip(&record.recordings) {
        assert_eq!((&row.path, row.bytes, &row.sha256), (&file.path, file.bytes, &file.sha256));
        assert_eq!(row.plain_sha256, file.plain_sha256);
        assert_eq!(digest(Path::new(&file.path)).expect("there"), (file.bytes, file.sha256.clone()));
        assert_eq!(file.format, "wav", "what is in it");
    }
    record
}

/// Returns the names of the call's files, without the call id in them.
fn names(place: &FaultSetup, id: &str) -> Vec<String> {
    let ending = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).expect("a plain name");
        name.strip_prefix(id).expect("its own files only").to_owned()
    };
    below(&place.config.recording.dir).iter().map(ending).collect()
}

/// Runs `callspan calls` with the folders of the setup.
fn calls(place: &FaultSetup, args: &[&str]) -> Output {
    let config = ServiceToml::new(place.dir.path())
        .set("spool", &format!("dir = {:?}", place.config.spool.dir))
        .set("state", &format!("dir = {:?}", place.config.journal.dir))
        .set("recording", &format!("dir = {:?}", place.config.recording.dir))
        .write();
    let mut command = Command::new(env!("CARGO_BIN_EXE_callspan"));
    command.arg("calls").args(args).arg("-c").arg(config).env_remove("CALLSPAN_LOG");
    command.output().expect("the binary runs")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_delivered_recording_is_encrypted_and_its_key_gives_back_every_byte() {
    let (place, identity) = place(true);
    let mut station = TestRecorder::start(&place);
    station.hear(ALL);
    let record = encrypted(&place, &station.journal);
    station.stop();
    assert_eq!(place.sent(), [1, 1, 1]);
    assert_eq!(record.delivery.state, DeliveryState::Done);
    assert_eq!(names(&place, &record.id), [".1.pcapng.age", ".json", ".wav.age"]);
    // The decrypted file must equal the file that Pyrus received.
    let state = place.fake.state();
    let task = &state.tasks[0].attachments[0];
    let sent = state.file(&task.guid).and_then(|f| f.bytes.clone()).expect("kept");
    let path = PathBuf::from(&record.recordings[0].path);
    let plain = decrypt(&path, &identity);
    assert!(plain == *sent && plain.starts_with(b"RIFF"), "{} bytes", plain.len());
    let packets = path.with_file_name(format!("{}.1.pcapng.age", record.id));
    assert!(decrypt(&packets, &identity).starts_with(&[0x0a, 0x0d, 0x0d, 0x0a]), "a pcapng");
    drop(state);
    verified(&place, &record, &identity);
    rendered_again(&place, &record, (&packets, &identity), &plain);
}

fn verified(place: &FaultSetup, record: &CallRecord, identity: &Identity) {
    let output = calls(place, &["verify"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains("1 intact, 0 missing") && said(&output).contains("cannot be checked without"));
    let key = place.dir.path().join("key.txt");
    let with_key = || calls(place, &["verify", "--identity", key.to_str().expect("plain")]);
    std::fs::write(&key, format!("# mine\n{}\n", identity.to_string().expose_secret())).expect("written");
    let output = with_key();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(!said(&output).contains("encrypted"), "all of it was heard: {}", said(&output));
    std::fs::write(&key, Identity::generate().to_string().expose_secret()).expect("written");
    let output = with_key();
    assert_eq!(output.status.code(), Some(1), "another key: {}", said(&output));
    let path = Path::new(&record.recordings[0].path);
    let whole = std::fs::read(path).expect("there");
    let mut changed = whole.clone();
    changed[whole.len() / 2] ^= 1;
    std::fs::write(path, changed).expect("written");
    let output = calls(place, &["verify"]);
    assert!(output.status.code() == Some(1) && said(&output).contains("was changed"), "{}", said(&output));
    std::fs::write(path, whole).expect("written");
}

/// Renders the call again from the decrypted packets. The new recording is not encrypted yet, and the old encrypted
/// recording is removed.
fn rendered_again(place: &FaultSetup, record: &CallRecord, (packets, identity): (&Path, &Identity), plain: &[u8]) {
    let output = calls(place, &["render", &record.id]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("age -d -i KEYFILE"), "{}", said(&output));
    std::fs::write(packets.with_extension(""), decrypt(packets, identity)).expect("written");
    let output = calls(place, &["render", &record.id]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains("is already in Pyrus (task "), "{}", said(&output));
    let wav = Path::new(&record.recordings[0].path).with_extension("");
    assert!(std::fs::read(wav).expect("there") == plain, "the same sound");
    // The service encrypts the new recording and the packets again. Pyrus keeps the first recording.
    let station = TestRecorder::start(place);
    assert_eq!(encrypted(place, &station.journal).id, record.id);
    until("the packets are encrypted, too", || names(place, &record.id) == [".1.pcapng.age", ".json", ".wav.age"]);
    station.stop();
    assert_eq!(place.sent(), [1, 1, 1]);
}

#[test]
fn without_pyrus_a_recording_is_encrypted_as_soon_as_it_is_complete() {
    let (mut place, identity) = place(false);
    place.config.pyrus.enabled = false;
    let mut station = TestRecorder::start(&place);
    station.hear(ALL);
    let record = encrypted(&place, &station.journal);
    station.stop();
    assert!(decrypt(Path::new(&record.recordings[0].path), &identity).starts_with(b"RIFF"));
    assert_eq!(names(&place, &record.id), [".json", ".wav.age"]);
}

#[test]
fn what_is_owed_stays_plain_until_pyrus_has_it() {
    let (mut place, _) = place(false);
    place.config.pyrus.auth_url = String::from("http://127.0.0.1:9/api/v4/auth"); // no server listens here
    let mut station = TestRecorder::start(&place);
    station.hear(ALL);
    until("the call is complete", || call(&station.journal).is_some_and(|c| !c.record.recordings.is_empty()));
    let stored = call(&station.journal).expect("just seen");
    assert_eq!(stored.record.delivery.state, DeliveryState::Owed);
    assert_eq!(station.journal.calls_to_encrypt("", 10).expect("readable"), [""; 0]);
    station.stop();
    place.config.pyrus.auth_url = place.fake.auth_url();
    let station = TestRecorder::start(&place);
    encrypted(&place, &station.journal);
    station.stop();
    assert_eq!(place.sent(), [1, 1, 1]);
}

/// The step of encrypting a recording at which an earlier process was killed.
#[derive(Clone, Copy, Debug)]
enum EncryptionCrash {
    /// Half of the encrypted file is written, under its temporary or final name.
    WhileWriting,
    /// The encrypted file is complete, but the journal's row still names the plain file.
    BeforeTheRow,
    /// The row names the encrypted file, and the plain file still exists.
    BeforeTheRemoval,
    /// The plain file was removed, but it is still in the list of leftovers.
    BeforeItsNameWasForgotten,
}

#[test]
fn a_crash_at_any_step_keeps_files_and_rows_paired() {
    for killed in [
        EncryptionCrash::WhileWriting,
        EncryptionCrash::BeforeTheRow,
        EncryptionCrash::BeforeTheRemoval,
        EncryptionCrash::BeforeItsNameWasForgotten,
    ] {
        eprintln!("{killed:?}");
        let (mut place, identity) = place(false);
        let recipients = std::mem::take(&mut place.config.recording.encrypt_to);
        let mut station = TestRecorder::start(&place);
        station.hear(ALL);
        let record = delivered(&place, &station.journal);
        let journal = station.journal.clone();
        station.stop();
        let plain = std::fs::read(&record.recordings[0].path).expect("there");
        half_way(&journal, &record, (&recipients, killed));
        drop(journal);
        // Every file must have a row that names it, even if encryption was turned off in between.
        let station = TestRecorder::start(&place);
        until("what was left over is gone", || station.journal.leftovers(1).expect("readable").is_empty());
        let rows = station.journal.recordings().expect("readable");
        let kept = below(&place.config.recording.dir);
        let sound: Vec<_> =
            kept.iter().filter(|p| p.extension().is_some_and(|e| e != "json" && e != "peaks")).collect();
        assert_eq!(sound, [Path::new(&rows[0].path)], "{killed:?}");
        station.stop();
        place.config.recording.encrypt_to = recipients;
        let station = TestRecorder::start(&place);
        let record = encrypted(&place, &station.journal);
        station.stop();
        assert_eq!(names(&place, &record.id), [".json", ".wav.age"], "{killed:?}");
        assert!(decrypt(Path::new(&record.recordings[0].path), &identity) == plain, "{killed:?}");
        assert_eq!(place.sent(), [1, 1, 1]);
    }
}

/// Encrypts the recording as the service does, but only up to the step `killed`.
fn half_way(journal: &Journal, record: &CallRecord, (recipients, killed): (&[AgeRecipient], EncryptionCrash)) {
    let recording = &record.recordings[0];
    let plain = Path::new(&recording.path);
    let path = encrypted_path(plain);
    let name = path.display().to_string();
    journal.add_leftovers(std::slice::from_ref(&name)).expect("written");
    if matches!(killed, EncryptionCrash::WhileWriting) {
        std::fs::write(&path, b"age-encryption.org/v1\n").expect("written");
        return;
    }
    let EncryptedFile { bytes, sha256, plain_sha256 } = encrypt_file(plain, &path, recipients).expect("encrypted");
    assert_eq!(plain_sha256, recording.sha256);
    if matches!(killed, EncryptionCrash::BeforeTheRow) {
        return;
    }
    let file =
        EncryptedRecording { part: 1, plain_path: recording.path.clone(), plain_sha256, path: name, bytes, sha256 };
    assert!(journal.replace_with_encrypted(&record.id, &file).expect("written"));
    assert!(!journal.replace_with_encrypted(&record.id, &file).expect("readable"), "the row names another file by now");
    if matches!(killed, EncryptionCrash::BeforeItsNameWasForgotten) {
        std::fs::remove_file(plain).expect("there");
    }
}

#[test]
fn a_rebuilt_journal_finds_encrypted_recordings_of_older_records() {
    let (place, identity) = place(false);
    let mut station = TestRecorder::start(&place);
    station.hear(ALL);
    let record = encrypted(&place, &station.journal);
    station.stop();
    let json = below(&place.config.recording.dir)
        .into_iter()
        .find(|p| p.extension().is_some_and(|e| e == "json"))
        .expect("its record");
    let file = &record.recordings[0];
    let plain = Path::new(&file.path).with_extension("");
    let lose = || std::fs::write(place.config.journal.dir.join("journal.sqlite"), [0xA5; 8_192]).expect("written");
    // First case: only the journal is lost, and the files stay as they are.
    lose();
    let station = TestRecorder::start(&place);
    assert!(station.alarm.is_some());
    assert_eq!(encrypted(&place, &station.journal), record);
    station.stop();
    // Second case: after a power cut, the plain file exists again.
    lose();
    std::fs::write(&plain, b"RIFF").expect("written");
    let station = TestRecorder::start(&place);
    until("the plain file is gone", || !plain.exists());
    assert_eq!(encrypted(&place, &station.journal), record);
    station.stop();
    // Third case: the record beside the recording is from before the encryption.
    lose();
    let mut before = record.clone();
    before.recordings[0].path = plain.display().to_string();
    before.recordings[0].sha256 = file.plain_sha256.clone().expect("known");
    before.recordings[0].plain_sha256 = None;
    std::fs::write(&json, serde_json::to_vec(&before).expect("JSON")).expect("written");
    let station = TestRecorder::start(&place);
    assert_eq!(encrypted(&place, &station.journal), record);
    station.stop();
    assert_eq!(names(&place, &record.id), [".json", ".wav.age"]);
    assert!(decrypt(Path::new(&file.path), &identity).starts_with(b"RIFF"));
    assert_eq!(place.sent(), [1, 1, 1], "nothing is sent twice");
}

#[test]
fn a_changed_file_is_reported_instead_of_encrypted() {
    let (mut place, _) = place(false);
    let keys = std::mem::take(&mut place.config.recording.encrypt_to);
    let mut station = TestRecorder::start(&place);
    station.hear(ALL);
    let record = delivered(&place, &station.journal);
    station.stop();
    let path = Path::new(&record.recordings[0].path);
    std::fs::write(path, b"RIFF, and something else").expect("written");
    place.config.recording.encrypt_to = keys;
    let station = TestRecorder::start(&place);
    until("an alarm", || place.alarms().contains(&String::from("encryption_failed")));
    until("the half is gone", || station.journal.leftovers(1).expect("readable").is_empty());
    station.stop();
    assert_eq!(names(&place, &record.id), [".json", ".wav"]);
    let output = calls(&place, &["verify"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
}
