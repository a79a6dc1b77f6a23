//! Alarms: what a person must hear of now. Each becomes a line in the log and, with `[alerts] command`, one JSON line
//! on the standard input of that command:
//!
//! ```json
//! {"at":"2026-11-23T08:00:00Z","kind":"disk_low","detail":"the spool folder …"}
//! ```
//!
//! Who raises an alarm is never held up: the command runs on a thread of its own, one at a time, for at most
//! [`MAX_RUN`], and of each kind at most once in [`PAUSE`]: of those in between the last one is told when the pause is over
//! (or the program ends), and says how many more were held back. No phone number and no secret goes out.

use std::collections::HashMap;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use serde::Serialize;

use super::config::secret;
use crate::time::Timestamp;

/// The `[alerts]` section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Run by `/bin/sh -c` for each alarm; `None`: alarms are only logged.
    pub command: Option<String>,
}

/// What happened, in one word for scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A folder's file system is nearly full.
    DiskLow,
    /// It is full, or will be in a moment.
    DiskFull,
    /// It is mounted read-only, or cannot be looked at.
    DiskReadOnly,
    /// It has room again.
    DiskRecovered,
    /// A recording or its row cannot be written; it is tried again.
    RecordingFailed,
    /// A call could not be rendered; its packets are kept.
    RenderFailed,
    /// A recording could not be encrypted; it stays as it is.
    EncryptionFailed,
    /// A call cannot be delivered before a person has acted.
    DeliveryParked,
    /// A call will never be whole in Pyrus.
    DeliveryDead,
    /// Pyrus refuses the login or the account.
    LoginRefused,
    /// Pyrus cannot be reached; it is tried again.
    PyrusAway,
    /// Delivery goes on.
    PyrusRecovered,
    /// Frames were lost on this machine.
    CaptureDrops,
    /// A bounded table is full: something is left aside (a flood, a scanner).
    TablesFull,
    /// An interface is down or its capture stopped.
    InterfaceDown,
    /// It is there again.
    InterfaceUp,
    /// The journal was damaged, or cannot be written.
    JournalDamaged,
    /// The service cannot start, or had to end; systemd starts it again.
    ServiceFailed,
}

impl Kind {
    /// The end of a trouble, not its beginning.
    const fn is_good_news(self) -> bool {
        matches!(self, Self::DiskRecovered | Self::PyrusRecovered | Self::InterfaceUp)
    }
}

/// One alarm, as the command gets it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Alarm {
    /// When, by the wall clock.
    pub at: Timestamp,
    /// What.
    pub kind: Kind,
    /// One sentence for an admin.
    pub detail: String,
    /// The call that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    /// So many of this kind were held back since the last one.
    #[serde(skip_serializing_if = "is_zero")]
    pub held_back: u64,
}

/// Where alarms are raised; clones raise at the same place.
#[derive(Clone, Debug)]
pub struct Alerts {
    to_command: Option<Sender<Alarm>>,
}

/// The thread that runs the command. It ends when the last [`Alerts`] is gone.
#[derive(Debug)]
pub struct Runner {
    thread: Option<JoinHandle<()>>,
}

impl Alerts {
    /// Starts the thread, if there is a command.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(config: &Config) -> std::io::Result<(Self, Runner)> {
        Self::start_with(config, Limits::default())
    }

    fn start_with(config: &Config, limits: Limits) -> std::io::Result<(Self, Runner)> {
        let Some(command) = config.command.clone() else {
            return Ok((Self::only_logged(), Runner { thread: None }));
        };
        let (sender, alarms) = crossbeam_channel::bounded(WAITING);
        let thread = std::thread::Builder::new()
            .name(String::from("alerts"))
            .spawn(move || run_all(&command, &alarms, limits))?;
        Ok((Self { to_command: Some(sender) }, Runner { thread: Some(thread) }))
    }

    /// Alarms that are lines in the log and nothing else.
    pub const fn only_logged() -> Self {
        Self { to_command: None }
    }

    /// Raises an alarm. Never waits.
    pub fn raise(&self, kind: Kind, detail: &str) {
        self.give_out(kind, detail, None);
    }

    /// Raises an alarm about a call. The detail may be what Pyrus said: long runs of digits, which may be a number, are
    /// blanked.
    pub fn raise_for(&self, kind: Kind, call: &str, detail: &str) {
        self.give_out(kind, &without_numbers(detail), Some(call.to_owned()));
    }

    /// Whether alarms are more than lines in the log.
    pub const fn has_command(&self) -> bool {
        self.to_command.is_some()
    }

    /// Raises an alarm of what is in the log, or on standard error, already.
    pub fn raise_unlogged(&self, kind: Kind, detail: &str) {
        self.hand_over(kind, detail, None);
    }

    fn give_out(&self, kind: Kind, detail: &str, call: Option<String>) {
        let word = word(kind);
        match (&call, kind.is_good_news()) {
            (Some(call), _) => tracing::error!(alarm = word, call, "{detail}"),
            (None, false) => tracing::error!(alarm = word, "{detail}"),
            (None, true) => tracing::info!(alarm = word, "{detail}"),
        }
        self.hand_over(kind, detail, call);
    }

    fn hand_over(&self, kind: Kind, detail: &str, call: Option<String>) {
        let Some(sender) = &self.to_command else { return };
        let alarm = Alarm { at: wall_clock(), kind, detail: detail.to_owned(), call, held_back: 0 };
        if let Err(TrySendError::Full(alarm)) = sender.try_send(alarm) {
            tracing::warn!(alarm = word(kind), at = %alarm.at.to_rfc3339(), "the alarm command is too slow: this one it does not get");
        }
    }
}

impl Runner {
    /// Waits until the command was run for what was raised, for [`LAST_RUNS`] at most. Every [`Alerts`] must be gone.
    #[expect(clippy::disallowed_methods, reason = "an IO room: the end of the program is not held up for long")]
    pub fn join(self) {
        let Some(thread) = self.thread else { return };
        let begin = Instant::now();
        while !thread.is_finished() && begin.elapsed() < LAST_RUNS {
            std::thread::sleep(LOOK);
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    pause: Duration,
    max_run: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { pause: PAUSE, max_run: MAX_RUN }
    }
}

fn run_all(command: &str, alarms: &Receiver<Alarm>, limits: Limits) {
    let mut kinds: HashMap<Kind, Told> = HashMap::new();
    let run = |alarm: &Alarm| {
        if let Err(error) = run_one(command, alarm, limits.max_run) {
            tracing::warn!(%error, "the alarm command failed");
        }
    };
    loop {
        let due = kinds.values().filter(|told| told.held.is_some()).map(|told| told.at + limits.pause).min();
        let received = match due {
            None => alarms.recv().map_err(RecvTimeoutError::from),
            Some(due) => alarms.recv_deadline(due),
        };
        match received {
            Ok(alarm) => match kinds.get_mut(&alarm.kind) {
                Some(told) if now().duration_since(told.at) < limits.pause => told.hold(alarm),
                told => {
                    let held_back = told.map_or(0, |told| told.count);
                    kinds.insert(alarm.kind, Told { at: now(), held: None, count: 0 });
                    run(&Alarm { held_back, ..alarm });
                }
            },
            // The last of what was held back is how things stand: nobody may be left with "recovered" of what is not.
            Err(RecvTimeoutError::Timeout) => {
                take_held(&mut kinds, |told| now().duration_since(told.at) >= limits.pause).iter().for_each(run);
            }
            Err(RecvTimeoutError::Disconnected) => return take_held(&mut kinds, |_| true).iter().for_each(run),
        }
    }
}

/// What the command heard of a kind.
#[derive(Debug)]
struct Told {
    at: Instant,
    /// The newest since then.
    held: Option<Alarm>,
    /// How many since then.
    count: u64,
}

impl Told {
    fn hold(&mut self, alarm: Alarm) {
        self.held = Some(alarm);
        self.count += 1;
    }
}

/// What was held back of these kinds, in the order of time.
fn take_held(kinds: &mut HashMap<Kind, Told>, which: impl Fn(&Told) -> bool) -> Vec<Alarm> {
    let mut taken = Vec::new();
    for told in kinds.values_mut().filter(|told| which(told)) {
        if let Some(alarm) = told.held.take() {
            taken.push(Alarm { held_back: told.count - 1, ..alarm });
            (told.at, told.count) = (now(), 0);
        }
    }
    taken.sort_by_key(|alarm| alarm.at);
    taken
}

#[expect(clippy::disallowed_methods, reason = "an IO room: how often a command runs is a question to the clock")]
fn now() -> Instant {
    Instant::now()
}

fn run_one(command: &str, alarm: &Alarm, max_run: Duration) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(alarm)?;
    line.push(b'\n');
    let mut child = Command::new("/bin/sh")
        .args(["-c", command])
        .env_remove(secret::ENVIRONMENT_KEY)
        .env_remove("CREDENTIALS_DIRECTORY")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()?;
    // A line fits into the pipe ([`MAX_DETAIL`]), so a command that does not read it holds up nobody.
    let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(&line));
    let status = wait(&mut child, max_run)?;
    match (status, written) {
        (None, _) => Err(std::io::Error::other(format!("it ran for more than {} s and was ended", max_run.as_secs()))),
        (Some(status), _) if !status.success() => Err(std::io::Error::other(status.to_string())),
        // Whoever does not read the line does not want it.
        (Some(_), _) => Ok(()),
    }
}

/// How the child ended; `None`: it was ended, and all that it had started with it.
#[expect(clippy::disallowed_methods, reason = "an IO room: a child's time is bounded")]
fn wait(child: &mut Child, max_run: Duration) -> std::io::Result<Option<std::process::ExitStatus>> {
    let begin = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if begin.elapsed() >= max_run {
            if let Some(group) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            }
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(LOOK);
    }
}

/// The same text with every run of [`NUMBER_DIGITS`] digits or more blanked, and not longer than [`MAX_DETAIL`].
fn without_numbers(text: &str) -> String {
    let mut clean = String::new();
    let mut digits = String::new();
    for c in text.chars().take(MAX_DETAIL).chain([' ']) {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        clean.push_str(if digits.len() >= NUMBER_DIGITS { "…" } else { &digits });
        digits.clear();
        clean.push(c);
    }
    clean.truncate(clean.trim_end().len());
    clean
}

fn word(kind: Kind) -> String {
    serde_json::to_value(kind).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

#[expect(clippy::disallowed_methods, reason = "an IO room: an alarm tells the time of day")]
fn wall_clock() -> Timestamp {
    Timestamp::EPOCH + SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Of each kind the command hears at most once in this time.
pub const PAUSE: Duration = Duration::from_secs(300);
/// The command is ended when it takes longer.
pub const MAX_RUN: Duration = Duration::from_secs(30);
/// How long the end of the program waits for the command.
pub const LAST_RUNS: Duration = Duration::from_secs(10);
/// Alarms that wait for the command; more are only logged.
const WAITING: usize = 256;
/// How often a running command is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// A shorter run of digits is no phone number that could be dialled from outside.
const NUMBER_DIGITS: usize = 6;
/// Characters of a detail: with the rest of the line far less than a pipe holds (64 KiB).
const MAX_DETAIL: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &std::path::Path) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().map(|l| serde_json::from_str(l).expect("one JSON object a line")).collect()
    }

    fn raised(limits: Limits, command: &str, raise: impl FnOnce(&Alerts)) {
        let config = Config { command: Some(command.to_owned()) };
        let (alerts, runner) = Alerts::start_with(&config, limits).unwrap();
        raise(&alerts);
        drop(alerts);
        runner.join();
    }

    #[test]
    fn the_command_gets_one_json_line_for_an_alarm_and_no_number() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let command = format!("cat >> {}", out.display());
        raised(Limits::default(), &command, |alerts| {
            alerts.raise(Kind::DiskLow, "the spool folder has 3 GiB");
            alerts.raise_for(Kind::DeliveryParked, "20261123T070000Z-abc", "no user for +79774221338, code 404");
        });
        let lines = lines(&out);
        assert_eq!(lines.len(), 2);
        assert_eq!((lines[0]["kind"].as_str(), lines[0]["call"].as_str()), (Some("disk_low"), None));
        assert_eq!(lines[1]["call"], "20261123T070000Z-abc");
        assert_eq!(lines[1]["detail"], "no user for +…, code 404");
    }

    #[test]
    fn of_one_kind_the_command_hears_once_in_the_pause_and_then_the_last_of_those_it_missed() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let command = format!("cat >> {}", out.display());
        let limits = Limits { pause: Duration::from_millis(500), ..Limits::default() };
        raised(limits, &command, |alerts| {
            for n in 1..=4 {
                alerts.raise(Kind::CaptureDrops, &format!("frames were lost, {n}"));
            }
            #[expect(clippy::disallowed_methods, reason = "a pause by the real clock is what is tested")]
            std::thread::sleep(Duration::from_millis(900));
            assert_eq!(lines(&out).len(), 2, "nobody had to raise another");
        });
        let lines = lines(&out);
        assert_eq!((lines[0]["detail"].as_str(), lines[0].get("held_back")), (Some("frames were lost, 1"), None));
        assert_eq!(lines[1]["detail"], "frames were lost, 4");
        assert_eq!(lines[1]["held_back"], 2, "the second and the third");
    }

    #[test]
    fn whoever_hears_of_a_recovery_hears_when_it_was_none() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let command = format!("cat >> {}", out.display());
        raised(Limits::default(), &command, |alerts| {
            for kind in [Kind::PyrusAway, Kind::PyrusRecovered, Kind::PyrusAway] {
                alerts.raise(kind, "Pyrus");
            }
        });
        let kinds: Vec<_> = lines(&out).iter().map(|l| l["kind"].to_string()).collect();
        assert_eq!(kinds, ["\"pyrus_away\"", "\"pyrus_recovered\"", "\"pyrus_away\""], "the last word is true");
    }

    #[test]
    fn a_command_that_hangs_is_ended_with_its_children_and_the_next_alarm_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let command = format!(
            "read line; echo \"$line\" >> {}; case $line in *disk_low*) sleep 1000 & wait;; esac",
            out.display()
        );
        let limits = Limits { max_run: Duration::from_millis(300), ..Limits::default() };
        raised(limits, &command, |alerts| {
            alerts.raise(Kind::DiskLow, "hangs");
            alerts.raise(Kind::DiskFull, "is told nevertheless");
        });
        let kinds: Vec<_> = lines(&out).iter().map(|l| l["kind"].to_string()).collect();
        assert_eq!(kinds, ["\"disk_low\"", "\"disk_full\""]);
    }

    #[test]
    fn the_command_sees_no_secret_of_the_service() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let command = format!("env > {}", out.display());
        raised(Limits::default(), &command, |alerts| alerts.raise(Kind::PyrusAway, "away"));
        let seen = std::fs::read_to_string(&out).unwrap();
        assert!(seen.contains("PATH=") && !seen.contains("CALLSPAN_PYRUS_SECURITY_KEY"));
    }
}
