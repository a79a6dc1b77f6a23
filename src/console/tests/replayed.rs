//! A console for tests with the calls of replayed captures, which were delivered to a fake Pyrus.

use std::io::Write as _;
use std::path::Path;

use secrecy::{ExposeSecret as _, SecretString};

use super::Office;
use crate::cmd::replay::{JOURNAL_FOLDER, ReplayRequest, SPOOL_FOLDER, replay};
use crate::fake_pyrus::{FakeOptions, FakePyrus};
use crate::journal::{CallSearch, CallStage, Journal};
use crate::ops::config::Config;

impl Office {
    /// Creates a test console with the calls of each capture in [`CAPTURES`].
    pub(super) fn with_replayed_calls() -> Self {
        let dir = tempfile::tempdir().expect("temporary folder");
        let options = FakeOptions::default();
        let mut config = Config::default_for_replay();
        config.call.numbers.extension_pattern = String::from("102,103,xxxx");
        config.recording.keep_pcap = true;
        let (user, account) = (&options.users[0], &options.accounts[0]);
        config.pyrus.enabled = true;
        config.pyrus.login.clone_from(&user.login);
        config.pyrus.security_key = Some(SecretString::from(user.security_key.as_str()));
        config.pyrus.account_id.clone_from(&account.account_id);
        let fake = FakePyrus::start(options).expect("a fake Pyrus");
        config.pyrus.auth_url = fake.auth_url();
        for name in CAPTURES {
            let capture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/calls").join(name).join("capture.pcap");
            let out = dir.path().to_owned();
            let request = ReplayRequest { files: vec![capture], config: config.clone(), out, deliver: true };
            replay(request).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        }
        config.journal.dir = dir.path().join(JOURNAL_FOLDER);
        config.spool.dir = dir.path().join(SPOOL_FOLDER);
        dir.path().clone_into(&mut config.recording.dir);
        Self::open(dir, config)
    }

    /// Encrypts the recording of an extension's call for a new key. Returns the id of the call and the secret key.
    pub(super) fn encrypt(&self, extension: &str) -> (String, String) {
        let mut record = super::call(self.dir.path(), 0, extension);
        let file = &mut record.recordings[0];
        let plain = std::fs::read(&file.path).expect("a recording");
        let _ = std::fs::remove_file(Path::new(&file.path).with_extension("peaks"));
        let identity = age::x25519::Identity::generate();
        let recipient = identity.to_public();
        let recipients = std::iter::once(&recipient as &dyn age::Recipient);
        let encryptor = age::Encryptor::with_recipients(recipients).expect("a recipient");
        let mut out = encryptor.wrap_output(std::fs::File::create(&file.path).expect("created")).expect("wrapped");
        out.write_all(&plain).expect("written");
        out.finish().expect("finished");
        file.plain_sha256 = Some("0".repeat(64));
        let journal = Journal::open(&self.config.journal).expect("a journal");
        journal.put_call(&record, CallStage::Complete).expect("put");
        (record.id, identity.to_string().expose_secret().to_owned())
    }

    /// Returns the ids of all calls, newest first.
    pub(super) fn ids(&self) -> Vec<String> {
        let journal = Journal::open_read_only(&self.config.journal).expect("a journal");
        let found = journal.search(&CallSearch::default(), None, 100).expect("found");
        found.calls.into_iter().map(|call| call.record.id).collect()
    }
}

/// Names of captures. Each shows another kind of call, e.g. a call on hold, a transferred call, a busy callee, or an
/// encrypted call.
const CAPTURES: [&str; 8] = [
    "g711a_direct",
    "hold_resume_direct",
    "dtmf_rfc4733_direct",
    "blind_transfer_refer_pbx",
    "ring_group_fork_pbx",
    "cancel_487_pbx",
    "busy_486_direct",
    "srtp_sdes_direct",
];
