//! Alarms: events that a person must know of now. Each alarm becomes a log line. If `[alerts] command` is configured,
//! this *alarm command* gets each alarm as one JSON line on its standard input:
//!
//! ```json
//! {"at":"2026-11-23T08:00:00Z","kind":"disk_low","detail":"the spool folder …"}
//! ```
//!
//! - Raising an alarm never blocks. A separate thread runs the command, one run at a time, for at most [`MAX_RUN`]. So a
//!   command that hangs delays no other receiver.
//! - The command gets at most one alarm of a kind in [`PAUSE`]. Further alarms of this kind are held back. When the
//!   pause ends, the command gets the last held-back alarm, with the number of the other held-back alarms. If a history
//!   file is used, the pause continues after a restart. Without a history file, the command gets held-back alarms at
//!   the end of the program.
//! - Webhook, mail and Telegram ([`super::notify`]) get the same alarms as the command, at the same time.
//! - No phone number and no secret leaves the process.

use std::collections::VecDeque;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use serde::{Deserialize, Serialize};

use super::alarm_cause::AlarmCause;
use super::alarm_history::{AlarmHistory, AlarmMoment};
pub use super::alarm_kind::AlarmKind;
use super::clock::wall_clock;
use super::config::secret;
use super::folder_owner::FolderOwner;
use super::notify::{AlarmReceivers, NotifyConfig};
use super::supervision::ThreadLife;
use super::thread::{PAUSE_AFTER_PANIC, StoppableThread, again_after_panic};
use crate::time::Timestamp;

/// The configuration section `[alerts]`: the receivers of alarms, and when some alarms are raised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Alarm command, which `/bin/sh -c` runs for each alarm; `None` if there is no command.
    pub command: Option<String>,
    /// Other receivers of alarms: webhooks, mail and Telegram.
    pub notify: NotifyConfig,
    /// Minutes without SIP after which an alarm is raised. It is raised only at an hour of the day that had SIP on
    /// earlier days; 0 switches the alarm off.
    pub mirror_silent_minutes: u32,
    /// Length of a window in minutes. At the end of each window, the directions and media of the mirror port's traffic
    /// are examined.
    pub mirror_window_minutes: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { command: None, notify: NotifyConfig::default(), mirror_silent_minutes: 15, mirror_window_minutes: 5 }
    }
}

/// An alarm, as the alarm command gets it as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Alarm {
    /// Wall-clock time at which the alarm was raised, UTC.
    pub(crate) at: Timestamp,
    /// Kind of the alarm. In JSON it has its name for scripts, e.g. `disk_low`.
    pub(crate) kind: AlarmKind,
    /// Description of the alarm's cause, for the administrator.
    pub(crate) detail: String,
    /// Id of the call concerned; `None` if the alarm is not about a call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) call: Option<String>,
    /// Number of earlier alarms of this kind that were held back (within the pause of the alarm command) and replaced
    /// by this alarm.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) held_back: u64,
}

/// Raises alarms, i.e. writes them to the log and passes them to the alarm command and other receivers. Clones share
/// the command and its pauses.
#[derive(Clone, Debug)]
pub struct Alerts {
    raised: Sender<Alarm>,
    command: SharedCommand,
    /// Sends alarms to webhooks, mail and Telegram. `None` without a state folder, in which the messages are stored.
    receivers: Option<AlarmReceivers>,
    /// Open alarms, i.e. alarms about problems that have not ended, at most [`MAX_OPEN`], newest last.
    open: Arc<Mutex<VecDeque<Alarm>>>,
    /// State of the thread that passes alarms to their receivers, for the supervision of threads.
    life: ThreadLife,
}

/// The alarm command. A reload of the configuration can replace it.
type SharedCommand = Arc<RwLock<Option<String>>>;

/// The threads that pass alarms to their receivers and run the alarm command. They end when the last [`Alerts`] is
/// dropped.
#[derive(Debug)]
pub struct AlarmRunner {
    threads: [JoinHandle<()>; 2],
}

impl Alerts {
    /// Starts the thread that runs the alarm command. At the end of the program, the command also runs for the alarms
    /// that were held back by its pauses.
    ///
    /// # Errors
    /// Fails if the thread cannot be started.
    pub fn start(config: &Config) -> std::io::Result<(Self, AlarmRunner)> {
        Self::start_with(config, None, AlarmHistory::in_memory(), AlarmLimits::default())
    }

    /// Starts the thread that runs the alarm command. A file in the folder `state` stores the last runs, so that the
    /// pauses between runs continue after a restart.
    ///
    /// # Errors
    /// Fails if the thread cannot be started.
    pub(crate) fn start_with_history(config: &Config, state: &Path) -> std::io::Result<(Self, AlarmRunner)> {
        let history = AlarmHistory::load(state.join(HISTORY_FILE), wall_clock(), PAUSE);
        let receivers = AlarmReceivers::new(config.notify.clone(), state);
        Self::start_with(config, Some(receivers), history, AlarmLimits::default())
    }

    fn start_with(
        config: &Config,
        receivers: Option<AlarmReceivers>,
        mut history: AlarmHistory,
        limits: AlarmLimits,
    ) -> std::io::Result<(Self, AlarmRunner)> {
        let (raised, alarms) = crossbeam_channel::bounded(QUEUE);
        let (to_command, due) = crossbeam_channel::bounded(QUEUE);
        let command: SharedCommand = Arc::new(RwLock::new(config.command.clone()));
        let targets = AlarmTargets { to_command, receivers: receivers.clone() };
        let life = ThreadLife::default();
        let (signs, guard) = (life.clone(), life.begin());
        let passing = std::thread::Builder::new().name(String::from("alerts")).spawn(move || {
            let _guard = guard;
            again_after_panic(|| pass_all(&targets, &alarms, &mut history, limits, &signs), pause_after_panic);
        })?;
        let shared = Arc::clone(&command);
        let running = std::thread::Builder::new().name(String::from("alarm-command")).spawn(move || {
            again_after_panic(|| run_command(&shared, &due, limits.max_run), pause_after_panic);
        })?;
        let alerts = Self { raised, command, receivers, open: Arc::default(), life };
        Ok((alerts, AlarmRunner { threads: [passing, running] }))
    }

    /// Returns the state of the thread that passes alarms to their receivers, for the supervision of threads.
    pub(crate) fn life(&self) -> ThreadLife {
        self.life.clone()
    }

    /// Replaces the command and the other receivers by those of a new configuration. Alarms that still wait are sent to
    /// the new receivers.
    pub(crate) fn reload(&self, config: &Config) {
        self.command.write().unwrap_or_else(PoisonError::into_inner).clone_from(&config.command);
        if let Some(receivers) = &self.receivers {
            receivers.replace(config.notify.clone());
        }
    }

    /// Drops the messages of receivers that were removed from the configuration while the service did not run. The state
    /// folder must be locked.
    pub(crate) fn drop_removed_receivers(&self) {
        if let Some(receivers) = &self.receivers {
            receivers.drop_removed();
        }
    }

    /// Starts the thread that sends the messages for webhooks, mail and Telegram, if there is a state folder.
    ///
    /// # Errors
    /// Fails if the thread cannot be started.
    pub(crate) fn start_sending(&self) -> std::io::Result<Option<StoppableThread>> {
        self.receivers.as_ref().map(AlarmReceivers::start).transpose()
    }

    /// Returns the open alarms, i.e. alarms of the last day about problems that have not ended, newest last.
    pub(crate) fn open_alarms(&self) -> Vec<Alarm> {
        let now = wall_clock();
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.iter().filter(|alarm| now.since(alarm.at) < OPEN_FOR).cloned().collect()
    }

    /// Updates the list that [`Alerts::open_alarms`] returns. Removes the alarms that `kind` ends, e.g. after a
    /// recovery. Adds an alarm of this kind, unless the kind is a recovery.
    fn note_open(&self, kind: AlarmKind, detail: &str, call: Option<&str>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|alarm| !kind.ends().contains(&alarm.kind));
        if kind.is_recovery() {
            return;
        }
        open.retain(|alarm| alarm.kind != kind || alarm.call.as_deref() != call);
        if open.len() >= MAX_OPEN {
            open.pop_front();
        }
        let call = call.map(str::to_owned);
        open.push_back(Alarm { at: wall_clock(), kind, detail: detail.to_owned(), call, held_back: 0 });
    }

    /// Runs the alarm command for one alarm and waits for its end. The command runs as `user`; `None` means the user of
    /// this process. The command's error messages go to standard error. Returns `None` if no command is configured.
    pub(crate) fn try_command(
        config: &Config,
        alarm: &Alarm,
        user: Option<FolderOwner>,
    ) -> Option<std::io::Result<()>> {
        config.command.as_deref().map(|command| {
            let mut shell = shell(command);
            if let Some(owner) = user {
                // The alarm command gets the environment variables that a systemd service has (systemd.exec(5)), and no
                // variable of root.
                shell.env_clear().env("PATH", SERVICE_PATH).env("HOME", owner.home());
                shell.env("USER", owner.name()).env("LOGNAME", owner.name());
                shell.uid(owner.uid).gid(owner.gid).current_dir("/");
            }
            run_one(shell.stderr(Stdio::inherit()), alarm, MAX_RUN)
        })
    }

    /// Raises an alarm with this cause: logs it and passes it to all receivers. Never blocks.
    pub(crate) fn raise(&self, cause: &AlarmCause<'_>) {
        self.log_and_send(cause.kind(), &cause.to_string(), None);
    }

    /// Raises an alarm about a call. The description may quote a response of Pyrus with a phone number. So long
    /// sequences of digits are replaced by `…`.
    pub(crate) fn raise_for(&self, call: &str, cause: &AlarmCause<'_>) {
        self.log_and_send(cause.kind(), &without_numbers(&cause.to_string()), Some(call.to_owned()));
    }

    /// Returns whether alarms are not only logged but also sent: to a command, webhook, mail or Telegram.
    pub(crate) fn has_receiver(&self) -> bool {
        let has_command = || self.command.read().unwrap_or_else(PoisonError::into_inner).is_some();
        has_command() || self.receivers.as_ref().is_some_and(AlarmReceivers::is_any)
    }

    /// Raises an alarm without a log line, because the error is logged or printed elsewhere.
    pub(crate) fn raise_unlogged(&self, cause: &AlarmCause<'_>) {
        self.send(cause.kind(), &cause.to_string(), None);
    }

    fn log_and_send(&self, kind: AlarmKind, detail: &str, call: Option<String>) {
        let name = kind.name();
        self.note_open(kind, detail, call.as_deref());
        match (&call, kind.is_recovery()) {
            (Some(call), _) => tracing::error!(alarm = name, call, "{detail}"),
            (None, false) => tracing::error!(alarm = name, "{detail}"),
            (None, true) => tracing::info!(alarm = name, "{detail}"),
        }
        self.send(kind, detail, call);
    }

    fn send(&self, kind: AlarmKind, detail: &str, call: Option<String>) {
        if !self.has_receiver() {
            return;
        }
        let alarm = Alarm { at: wall_clock(), kind, detail: detail.to_owned(), call, held_back: 0 };
        if let Err(TrySendError::Full(alarm)) = self.raised.try_send(alarm) {
            tracing::warn!(alarm = kind.name(), at = %alarm.at.to_rfc3339(), "too many alarms wait: this alarm is only logged");
        }
    }
}

impl AlarmRunner {
    /// Waits until the alarm command has run for every raised alarm, at most for [`LAST_RUNS`]. The caller must drop
    /// all clones of [`Alerts`] first, because the thread ends only then.
    pub fn join(self) {
        self.join_within(LAST_RUNS);
    }

    /// Waits as [`AlarmRunner::join`] does, but at most for `limit`.
    #[expect(
        clippy::disallowed_methods,
        reason = "an IO module: the end of the program is delayed for a limited time only"
    )]
    pub(crate) fn join_within(self, limit: Duration) {
        let begin = Instant::now();
        while !self.threads.iter().all(JoinHandle::is_finished) && begin.elapsed() < limit {
            std::thread::sleep(EXIT_CHECK);
        }
    }
}

/// The queue of the alarm command and the other receivers, to which a thread passes each alarm.
struct AlarmTargets {
    to_command: Sender<Alarm>,
    receivers: Option<AlarmReceivers>,
}

impl AlarmTargets {
    /// Passes an alarm to all receivers. The command comes first, because storing the messages of the other receivers
    /// may take long.
    fn pass_on(&self, alarm: &Alarm) {
        if let Err(TrySendError::Full(alarm)) = self.to_command.try_send(alarm.clone()) {
            tracing::warn!(alarm = alarm.kind.name(), at = %alarm.at.to_rfc3339(), "the alarm command is too slow: it does not get this alarm");
        }
        if let Some(receivers) = &self.receivers {
            receivers.pass_on(alarm);
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct AlarmLimits {
    pause: Duration,
    max_run: Duration,
}

impl Default for AlarmLimits {
    fn default() -> Self {
        Self { pause: PAUSE, max_run: MAX_RUN }
    }
}

/// Passes alarms on as their pauses allow, until the last [`Alerts`] is dropped.
fn pass_all(
    targets: &AlarmTargets,
    alarms: &Receiver<Alarm>,
    history: &mut AlarmHistory,
    limits: AlarmLimits,
    life: &ThreadLife,
) {
    let pass = |alarm: &Alarm| {
        life.tick();
        targets.pass_on(alarm);
    };
    loop {
        life.tick();
        let round = now() + ROUND;
        let due = history.next_due(limits.pause);
        let received = alarms.recv_deadline(due.map_or(round, |due| due.min(round)));
        match received {
            Ok(alarm) => {
                if let Some(alarm) =
                    history.admit(alarm, AlarmMoment { monotonic: now(), wall: wall_clock() }, limits.pause)
                {
                    pass(&alarm);
                }
            }
            // The pause after the last alarm of this kind has ended. So the newest held-back alarm of the kind is sent:
            // it describes the current state, e.g. a problem that came back after a recovery.
            Err(RecvTimeoutError::Timeout) => {
                history
                    .take_due(AlarmMoment { monotonic: now(), wall: wall_clock() }, limits.pause)
                    .iter()
                    .for_each(pass);
            }
            // The program ends. With a history file, the held-back alarms are saved, so that the next start sends them.
            // Without a file, they are sent now.
            Err(RecvTimeoutError::Disconnected) if history.is_durable() => return history.save_held(),
            Err(RecvTimeoutError::Disconnected) => {
                return history
                    .take_due(AlarmMoment { monotonic: now(), wall: wall_clock() }, Duration::ZERO)
                    .iter()
                    .for_each(pass);
            }
        }
    }
}

/// Runs the alarm command for each alarm, one run at a time, until no alarm can come any more.
fn run_command(command: &SharedCommand, due: &Receiver<Alarm>, max_run: Duration) {
    for alarm in due {
        let command = command.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(command) = command else { continue };
        if let Err(error) = run_one(&mut shell(&command), &alarm, max_run) {
            tracing::warn!(%error, "the alarm command failed");
        }
    }
}

/// Waits after a panic of the alarm thread, so that a bug does not fill the log.
#[expect(clippy::disallowed_methods, reason = "an IO module: a bug must not fill the log")]
fn pause_after_panic() -> bool {
    std::thread::sleep(PAUSE_AFTER_PANIC);
    false
}

#[expect(clippy::disallowed_methods, reason = "an IO module: the pause between two runs is measured")]
fn now() -> Instant {
    Instant::now()
}

/// `PATH` of systemd services (systemd.exec(5)).
const SERVICE_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Returns the process of the shell that runs an alarm command, without the secrets of the service.
fn shell(command: &str) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", command])
        .env_remove(secret::ENVIRONMENT_KEY)
        .env_remove("CREDENTIALS_DIRECTORY")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    shell
}

/// Runs the alarm command once by its shell, with the alarm as one JSON line on the standard input. Kills the command
/// after `max_run`.
fn run_one(shell: &mut Command, alarm: &Alarm, max_run: Duration) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(alarm)?;
    line.push(b'\n');
    let mut child = shell.spawn()?;
    // Because of [`MAX_DETAIL`], the line fits into the buffer of the pipe. So this write does not block, even if the
    // command never reads.
    let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(&line));
    let status = wait(&mut child, max_run)?;
    match (status, written) {
        (None, _) => Err(std::io::Error::other(format!("it ran for more than {} s and was killed", max_run.as_secs()))),
        (Some(status), _) if !status.success() => Err(std::io::Error::other(status.to_string())),
        // If the alarm command does not read its input, writing the alarm fails. This is no error.
        (Some(_), _) => Ok(()),
    }
}

/// Waits for the alarm command to end. Returns its exit status, or `None` if it took longer than `max_run` and was
/// killed with its children.
#[expect(clippy::disallowed_methods, reason = "an IO module: a child process may run for a limited time only")]
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
        std::thread::sleep(EXIT_CHECK);
    }
}

/// Replaces every sequence of [`NUMBER_DIGITS`] or more digits by `…`, because it may be a phone number. Cuts the text
/// to [`MAX_DETAIL`] characters.
pub(super) fn without_numbers(text: &str) -> String {
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

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is fixed by serde")]
const fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Minimum time between two runs of the alarm command for the same kind of alarm.
pub(crate) const PAUSE: Duration = Duration::from_secs(300);
/// Maximum duration of a run of the alarm command; then the command is killed.
pub(crate) const MAX_RUN: Duration = Duration::from_secs(30);
/// Maximum time that the end of the program waits for runs of the alarm command. The service must end soon after
/// SIGTERM.
pub(crate) const LAST_RUNS: Duration = Duration::from_secs(2);
/// Name of the file in the state folder that stores the last runs of the alarm command. It also stores the held-back
/// alarms, for which the command has not run yet.
const HISTORY_FILE: &str = "alarms.json";
/// Maximum number of open alarms, i.e. of alarms about problems that have not ended.
const MAX_OPEN: usize = 50;
/// Time after which an alarm no longer counts as open. It is needed because not every kind of problem has an alarm
/// about its end.
const OPEN_FOR: Duration = Duration::from_secs(86_400);
/// Maximum number of alarms that wait, and of those that wait for the alarm command alone. Further alarms are only
/// logged.
const QUEUE: usize = 256;
/// Maximum time that the alarm thread waits for an alarm before it reports a sign of life to the supervision of
/// threads.
const ROUND: Duration = Duration::from_secs(1);
/// Interval at which it is checked whether a running alarm command, or a thread of the alarms, has ended.
const EXIT_CHECK: Duration = Duration::from_millis(50);
/// Minimum length of a sequence of digits that is replaced by `…`. Shorter sequences may be e.g. extensions or error
/// codes.
const NUMBER_DIGITS: usize = 6;
/// Maximum length of an alarm's description, characters. The whole JSON line stays far below the 64 KiB that the buffer
/// of a pipe holds.
const MAX_DETAIL: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::outbox::Outbox;
    use crate::ops::notify::config::{NotifySecret, WebhookConfig};

    fn lines(path: &std::path::Path) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().map(|l| serde_json::from_str(l).expect("one JSON object a line")).collect()
    }

    fn raised(limits: AlarmLimits, command: &str, raise: impl FnOnce(&Alerts)) {
        let config = Config { command: Some(command.to_owned()), ..Config::default() };
        let (alerts, runner) = Alerts::start_with(&config, None, AlarmHistory::in_memory(), limits).unwrap();
        raise(&alerts);
        drop(alerts);
        runner.join();
    }

    #[test]
    fn command_gets_one_json_line_without_phone_number() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let command = format!("cat >> {}", out.display());
        raised(AlarmLimits::default(), &command, |alerts| {
            alerts.raise(&AlarmCause::Described(AlarmKind::DiskLow, "the spool folder has 3 GiB"));
            alerts.raise_for(
                "20261123T070000Z-abc",
                &AlarmCause::Described(AlarmKind::DeliveryParked, "no user for +79774221338, code 404"),
            );
        });
        let lines = lines(&out);
        assert_eq!(lines.len(), 2);
        assert_eq!((lines[0]["kind"].as_str(), lines[0]["call"].as_str()), (Some("disk_low"), None));
        assert_eq!(lines[1]["call"], "20261123T070000Z-abc");
        assert_eq!(lines[1]["detail"], "no user for +…, code 404");
    }

    #[test]
    fn command_gets_first_alarm_of_a_kind_and_last_after_the_pause() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let command = format!("cat >> {}", out.display());
        let limits = AlarmLimits { pause: Duration::from_millis(500), ..AlarmLimits::default() };
        raised(limits, &command, |alerts| {
            for n in 1..=4 {
                alerts.raise(&AlarmCause::Described(AlarmKind::CaptureDrops, &format!("frames were lost, {n}")));
            }
            #[expect(clippy::disallowed_methods, reason = "a pause by the real clock is what is tested")]
            std::thread::sleep(Duration::from_millis(900));
            assert_eq!(lines(&out).len(), 2, "no further alarm was needed");
        });
        let lines = lines(&out);
        assert_eq!((lines[0]["detail"].as_str(), lines[0].get("held_back")), (Some("frames were lost, 1"), None));
        assert_eq!(lines[1]["detail"], "frames were lost, 4");
        assert_eq!(lines[1]["held_back"], 2, "the second and the third");
    }

    #[test]
    fn pause_holds_across_restarts_and_the_held_alarm_is_raised_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let config = Config { command: Some(format!("cat >> {}", out.display())), ..Config::default() };
        let pause = Duration::from_secs(2);
        let limits = AlarmLimits { pause, ..AlarmLimits::default() };
        let session = |details: &[&str], wait: Duration| {
            let history = AlarmHistory::load(dir.path().join("alarms.json"), wall_clock(), pause);
            let (alerts, runner) = Alerts::start_with(&config, None, history, limits).unwrap();
            details.iter().for_each(|detail| alerts.raise(&AlarmCause::Described(AlarmKind::ServiceFailed, detail)));
            #[expect(clippy::disallowed_methods, reason = "a pause by the real clock is what is tested")]
            std::thread::sleep(wait);
            drop(alerts);
            runner.join();
            lines(&out)
        };
        assert_eq!(session(&["1"], Duration::ZERO).len(), 1);
        for n in ["2", "3"] {
            assert_eq!(session(&[n], Duration::ZERO).len(), 1, "restart {n} is within the pause");
        }
        let lines = session(&[], Duration::from_millis(2_500));
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert_eq!((lines[1]["detail"].as_str(), &lines[1]["held_back"]), (Some("3"), &1.into()));
    }

    #[test]
    fn relapse_after_recovery_reaches_the_command() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let command = format!("cat >> {}", out.display());
        raised(AlarmLimits::default(), &command, |alerts| {
            for kind in [AlarmKind::PyrusAway, AlarmKind::PyrusRecovered, AlarmKind::PyrusAway] {
                alerts.raise(&AlarmCause::Described(kind, "Pyrus"));
            }
        });
        let kinds: Vec<_> = lines(&out).iter().map(|l| l["kind"].to_string()).collect();
        assert_eq!(
            kinds,
            ["\"pyrus_away\"", "\"pyrus_recovered\"", "\"pyrus_away\""],
            "the last alarm is the current state"
        );
    }

    #[test]
    fn hanging_command_is_killed_and_the_next_alarm_runs() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let command = format!(
            "read line; echo \"$line\" >> {}; case $line in *disk_low*) sleep 1000 & wait;; esac",
            out.display()
        );
        let limits = AlarmLimits { max_run: Duration::from_millis(300), ..AlarmLimits::default() };
        raised(limits, &command, |alerts| {
            alerts.raise(&AlarmCause::Described(AlarmKind::DiskLow, "hangs"));
            alerts.raise(&AlarmCause::Described(AlarmKind::DiskFull, "runs nevertheless"));
        });
        let kinds: Vec<_> = lines(&out).iter().map(|l| l["kind"].to_string()).collect();
        assert_eq!(kinds, ["\"disk_low\"", "\"disk_full\""]);
    }

    #[test]
    fn hanging_command_delays_no_other_receiver() {
        let dir = tempfile::tempdir().unwrap();
        let alarms =
            Some(WebhookConfig { url: "http://192.0.2.1/".into(), secret: NotifySecret { text: None, file: None } });
        let notify = NotifyConfig { alarms, ..NotifyConfig::default() };
        let receivers = AlarmReceivers::new(notify.clone(), dir.path());
        let config = Config { command: Some("sleep 5".into()), notify, ..Config::default() };
        let history = AlarmHistory::in_memory();
        let (alerts, _runner) = Alerts::start_with(&config, Some(receivers), history, AlarmLimits::default()).unwrap();
        for kind in [AlarmKind::DiskLow, AlarmKind::DiskFull, AlarmKind::PyrusAway] {
            alerts.raise(&AlarmCause::Described(kind, "three at once"));
        }
        let outbox = Outbox::open(dir.path()).unwrap();
        let stored = || outbox.due("webhook", wall_clock() + PAUSE, 10).unwrap().len();
        let begin = now();
        while stored() < 3 {
            assert!(begin.elapsed() < Duration::from_secs(4), "{} of 3 alarms are stored", stored());
            #[expect(clippy::disallowed_methods, reason = "another thread stores the alarms")]
            std::thread::sleep(EXIT_CHECK);
        }
    }

    #[test]
    fn command_environment_holds_no_secret() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let command = format!("env > {}", out.display());
        raised(AlarmLimits::default(), &command, |alerts| {
            alerts.raise(&AlarmCause::Described(AlarmKind::PyrusAway, "away"))
        });
        let seen = std::fs::read_to_string(&out).unwrap();
        assert!(seen.contains("PATH=") && !seen.contains("CALLSPAN_PYRUS_SECURITY_KEY"));
    }

    #[test]
    fn runbook_lists_every_alarm_kind() {
        let runbook = include_str!("../../deploy/RUNBOOK.md");
        let missing: Vec<_> =
            AlarmKind::ALL.iter().filter(|kind| !runbook.contains(&format!("`{}`", kind.name()))).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
