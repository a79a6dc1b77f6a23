//! Reload of the configuration after SIGHUP: decides which changed settings are used at once, and which need a restart.

use std::io;

use crossbeam_channel::{Receiver, TryRecvError};

use crate::ops::config::Config;

/// A configuration that a separate thread is reading. If the capture thread read it, a disk that does not answer would
/// stop the capture.
#[derive(Debug)]
pub(crate) struct ConfigReading(Receiver<anyhow::Result<Config>>);

impl ConfigReading {
    /// Starts a thread that calls `read` to read the new configuration.
    ///
    /// # Errors
    /// Fails if the thread cannot be started.
    pub(crate) fn start(read: impl FnOnce() -> anyhow::Result<Config> + Send + 'static) -> io::Result<Self> {
        let (sender, answer) = crossbeam_channel::bounded(1);
        let read_and_send = move || drop(sender.send(read())); // sending fails if the service has ended
        std::thread::Builder::new().name(String::from("reload")).spawn(read_and_send)?;
        Ok(Self(answer))
    }

    /// Returns the configuration once, as soon as it was read; `None` before and after that. Never waits.
    pub(crate) fn poll(&self) -> Option<anyhow::Result<Config>> {
        match self.0.try_recv() {
            Ok(result) => Some(result),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => {
                Some(Err(anyhow::anyhow!("reading it ended because of a bug in callspan")))
            }
        }
    }
}

/// The parts of the configuration that differ between the old and the new configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ConfigChanges {
    /// Names of the changed settings that are used at once.
    pub(crate) taken: Vec<&'static str>,
    /// Names of the changed settings that are used only after a restart.
    pub(crate) needs_restart: Vec<&'static str>,
}

impl ConfigChanges {
    /// Common name by which a change of the login, the person id or the security key of Pyrus is reported.
    pub(crate) const LOGIN: &'static str = "pyrus login and key";

    /// Name by which a change of the webhook of finished calls is reported.
    const WEBHOOK: &'static str = "webhook";

    /// Compares the configuration in use with a new configuration.
    pub(crate) fn between(old: &Config, new: &Config) -> Self {
        let mut changes = Self::default();
        let (a, b) = (&old.call, &new.call);
        changes.note_taken("rules", a.rules != b.rules);
        changes.note_taken("numbers", a.numbers != b.numbers);
        changes.note_taken("calls", without_fixed(a) != without_fixed(b));
        changes.note_taken("alerts", alarms_only(old) != alarms_only(new));
        let webhook = |config: &Config| config.alerts.notify.calls.clone();
        let is_kept = webhook(old).is_some() == webhook(new).is_some();
        changes.note_taken(Self::WEBHOOK, is_kept && webhook(old) != webhook(new));
        changes.note_restart(Self::WEBHOOK, !is_kept);
        changes.note_taken("log", old.log != new.log);
        changes.note_taken(Self::LOGIN, login(old) != login(new));
        changes.note_restart("calls.appliance", a.appliance != b.appliance);
        changes.note_restart("recording", differs(&old.recording, &new.recording) || a.start != b.start);
        changes.note_taken("capture.sip_ports", a.sip_ports != b.sip_ports);
        changes.note_restart("capture", differs(&old.capture, &new.capture));
        changes.note_restart("spool", differs(&old.spool, &new.spool));
        changes.note_restart("state", differs(&old.journal, &new.journal));
        changes.note_restart("console", old.console != new.console);
        changes.note_restart("archive", old.archive != new.archive);
        changes.note_restart("pyrus", differs(&without_login(old), &without_login(new)));
        changes
    }

    fn note_taken(&mut self, part: &'static str, is_changed: bool) {
        self.taken.extend(is_changed.then_some(part));
    }

    fn note_restart(&mut self, part: &'static str, is_changed: bool) {
        self.needs_restart.extend(is_changed.then_some(part));
    }

    /// Returns a sentence about the changes of the configuration, for the log.
    pub(crate) fn sentence(&self) -> String {
        let taken = match self.taken.as_slice() {
            [] => String::from("nothing new that can be used at once"),
            parts => format!("now in use: {}", parts.join(", ")),
        };
        match self.needs_restart.as_slice() {
            [] => taken,
            parts => format!("{taken}; needs a restart: {}", parts.join(", ")),
        }
    }
}

/// Returns the configuration that the service uses after a reload. Settings that need a restart keep their old values,
/// so that the next reload reports their changes again.
pub(crate) fn usable_without_restart(old: &Config, new: Config) -> Config {
    let (fixed, login) = (&old.call, new.pyrus);
    let mut alerts = new.alerts;
    alerts.notify.appliance.clone_from(&fixed.appliance);
    if alerts.notify.calls.is_some() != old.alerts.notify.calls.is_some() {
        alerts.notify.calls.clone_from(&old.alerts.notify.calls);
    }
    Config {
        call: crate::call::config::Config {
            appliance: fixed.appliance.clone(),
            start: fixed.start,
            part_s: fixed.part_s,
            registered_at: fixed.registered_at,
            has_voice_prints: fixed.has_voice_prints,
            ..new.call
        },
        alerts,
        log: new.log,
        pyrus: crate::pyrus::config::Config {
            login: login.login,
            person_id: login.person_id,
            security_key: login.security_key,
            security_key_file: login.security_key_file,
            ..old.pyrus.clone()
        },
        ..old.clone()
    }
}

/// Returns the configuration of the alarms, without the name of the recorder and the webhook of finished calls.
fn alarms_only(config: &Config) -> crate::ops::alerts::Config {
    let mut alerts = config.alerts.clone();
    (alerts.notify.appliance, alerts.notify.calls) = (String::new(), None);
    alerts
}

/// Returns the engine's configuration with two groups of settings at their defaults. They are the settings that need a
/// restart, and those that have their own name in the report. So only the other settings count as changes of `[calls]`.
fn without_fixed(config: &crate::call::config::Config) -> crate::call::config::Config {
    let fixed = crate::call::config::Config::default();
    crate::call::config::Config {
        appliance: fixed.appliance,
        sip_ports: fixed.sip_ports,
        start: fixed.start,
        part_s: fixed.part_s,
        registered_at: fixed.registered_at,
        has_voice_prints: fixed.has_voice_prints,
        numbers: fixed.numbers,
        rules: fixed.rules,
        ..config.clone()
    }
}

/// Returns the login, the person id, the key and the path of the key file in a configuration.
fn login(config: &Config) -> (&str, Option<u64>, Option<&str>, Option<&std::path::Path>) {
    use secrecy::ExposeSecret as _;
    let pyrus = &config.pyrus;
    let key = pyrus.security_key.as_ref().map(|key| key.expose_secret());
    (&pyrus.login, pyrus.person_id, key, pyrus.security_key_file.as_deref())
}

fn without_login(config: &Config) -> crate::pyrus::config::Config {
    crate::pyrus::config::Config {
        login: String::new(),
        person_id: None,
        security_key: None,
        security_key_file: None,
        ..config.pyrus.clone()
    }
}

/// Returns whether two sections of the configuration differ. It compares their debug output, which contains all fields.
fn differs<S: std::fmt::Debug>(a: &S, b: &S) -> bool {
    format!("{a:?}") != format!("{b:?}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::config::{ConfigPurpose, SecretSources};

    fn config(text: &str) -> Config {
        Config::from_text(text, "test", ConfigPurpose::Inspect, &SecretSources::default()).expect("valid").config
    }

    #[test]
    fn configuration_on_a_disk_that_does_not_answer_holds_up_nobody() {
        let (disk_answers, wait) = crossbeam_channel::bounded::<()>(0);
        let reading = ConfigReading::start(move || {
            wait.recv()?;
            Ok(config(""))
        });
        let reading = reading.expect("a thread");
        assert!(reading.poll().is_none(), "the disk has not answered");
        disk_answers.send(()).expect("the thread waits");
        let read = std::iter::repeat_with(|| reading.poll()).find_map(std::convert::identity);
        assert!(read.expect("an answer").is_ok());
        let broken = ConfigReading::start(|| panic!("a bug")).expect("a thread");
        let error = std::iter::repeat_with(|| broken.poll()).find_map(std::convert::identity);
        assert!(error.expect("an answer").is_err());
    }

    #[test]
    fn changes_are_named_with_what_becomes_of_them() {
        let old = config("[pyrus]\nlogin = \"a\"\nsecurity_key = \"k1\"\n");
        assert_eq!(ConfigChanges::between(&old, &old), ConfigChanges::default());
        let new = config(
            "[pyrus]\nlogin = \"a\"\nsecurity_key = \"k2\"\n[capture]\nbuffer_mib = 7\n[numbers]\ncountry_code = \"7\"\n\
             [log]\nlevel = \"warn\"\n[calls]\nsilence_s = 7\n[[rules]]\naction = \"exclude\"\nnumber = \"9x\"\n",
        );
        let changes = ConfigChanges::between(&old, &new);
        assert_eq!(changes.taken, ["rules", "numbers", "calls", "log", "pyrus login and key"]);
        assert_eq!(changes.needs_restart, ["capture"]);
        assert_eq!(usable_without_restart(&old, new).capture.buffer_mib, old.capture.buffer_mib);
        assert!(!format!("{changes:?} {}", changes.sentence()).contains("k2"));
    }

    #[test]
    fn setting_is_named_as_in_use_only_if_it_is() {
        const CALLS: &str = "[webhook]\nurl = \"https://crm.example/a\"\n";
        const NAMED: &str = "[calls]\nappliance = \"north\"\n";
        const ALARMS: &str = "[alerts]\nwebhook_url = \"https://crm.example/b\"\nmirror_silent_minutes = 5\n";
        const ARCHIVE: &str =
            "[archive]\nobjects = \"file:///srv/a\"\nindex = \"postgresql://a@b/c\"\nsite = \"north\"\n";
        let cases = [
            ("", CALLS, "nothing new that can be used at once; needs a restart: webhook"),
            (CALLS, "", "nothing new that can be used at once; needs a restart: webhook"),
            (CALLS, "[webhook]\nurl = \"https://crm.example/c\"\n", "now in use: webhook"),
            ("", ALARMS, "now in use: alerts"),
            ("", NAMED, "nothing new that can be used at once; needs a restart: calls.appliance"),
            ("", ARCHIVE, "nothing new that can be used at once; needs a restart: archive"),
            ("", "[pyrus]\nregister_at = \"end\"\n", "nothing new that can be used at once; needs a restart: pyrus"),
        ];
        for (old, new, sentence) in cases {
            let (old, new) = (config(old), config(new));
            let changes = ConfigChanges::between(&old, &new);
            assert_eq!(changes.sentence(), sentence);
            let used = usable_without_restart(&old, new.clone());
            let later = ConfigChanges::between(&used, &new);
            assert_eq!(later.taken, <[&str; 0]>::default(), "{sentence}: it is in use");
            assert_eq!(later.needs_restart, changes.needs_restart, "{sentence}: it still needs a restart");
            let unused = ConfigChanges::between(&old, &used);
            assert_eq!((unused.taken, unused.needs_restart), (changes.taken, Vec::new()), "{sentence}: only that");
        }
    }
}
