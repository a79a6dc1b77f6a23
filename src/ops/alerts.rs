//! `[alerts] command`: a program of the admin's that is told of each alarm, one JSON line on its standard input.
//!
//! Whoever raises an alarm never waits: it goes through a bounded channel to a thread of its own, and what does not
//! fit is counted. Alarms of one kind are told at most once in [`REPEAT`]; what came in between is told as a number.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use serde::Serialize;

use crate::time::Timestamp;

/// The `[alerts]` section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Given to `/bin/sh -c`; empty: nobody is told.
    pub command: String,
}

/// What an alarm is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Space runs short; nothing is lost yet.
    DiskNearlyFull,
    /// A file cannot be written: the disk is full, read-only or broken.
    DiskFailed,
    /// A delivery waits for a person.
    DeliveryParked,
    /// A call will not be whole in Pyrus.
    DeliveryDead,
    /// The login or the account is refused: nothing can be delivered.
    DeliveryRefused,
    /// Frames were lost on this machine.
    CaptureDrops,
    /// An interface went away, or has another trouble.
    Interface,
    /// The journal is damaged or cannot be written.
    Journal,
}

/// The way in; clones lead to the same thread.
#[derive(Clone, Debug, Default)]
pub struct Alerts {
    alarms: Option<Sender<Alarm>>,
    unheard: Arc<AtomicU64>,
}

#[derive(Clone, Debug, Serialize)]
struct Alarm {
    at: Timestamp,
    appliance: String,
    alarm: Kind,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    call: Option<String>,
    /// Further alarms of this kind since it was told last.
    #[serde(skip_serializing_if = "is_zero")]
    more: u64,
}

impl Alerts {
    /// Starts the thread, if a command is configured. It ends with the last clone.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(config: &Config, appliance: &str) -> io::Result<Self> {
        Self::start_with(config, appliance, REPEAT)
    }

    fn start_with(config: &Config, appliance: &str, repeat: Duration) -> io::Result<Self> {
        if config.command.is_empty() {
            return Ok(Self::default());
        }
        let (alarms, waiting) = crossbeam_channel::bounded(MAX_WAITING);
        let unheard = Arc::new(AtomicU64::new(0));
        let teller = Teller {
            command: config.command.clone(),
            appliance: appliance.to_owned(),
            unheard: Arc::clone(&unheard),
            repeat,
            kinds: HashMap::new(),
        };
        std::thread::Builder::new().name(String::from("alerts")).spawn(move || teller.run(&waiting))?;
        Ok(Self { alarms: Some(alarms), unheard })
    }

    /// Raises an alarm; never waits. `text` is for a person and holds no number and no secret.
    pub fn raise(&self, kind: Kind, text: &str, call: Option<&str>) {
        let Some(alarms) = &self.alarms else { return };
        let alarm = Alarm {
            at: wall_clock(),
            appliance: String::new(),
            alarm: kind,
            text: text.to_owned(),
            call: call.map(str::to_owned),
            more: 0,
        };
        if let Err(TrySendError::Full(_)) = alarms.try_send(alarm) {
            self.unheard.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct Teller {
    command: String,
    appliance: String,
    unheard: Arc<AtomicU64>,
    repeat: Duration,
    kinds: HashMap<Kind, Told>,
}

struct Told {
    at: Instant,
    /// The last alarm since, and how many there were.
    held_back: Option<(Alarm, u64)>,
}

impl Teller {
    fn run(mut self, alarms: &Receiver<Alarm>) {
        loop {
            match alarms.recv_timeout(LOOK.min(self.repeat)) {
                Ok(alarm) => self.handle(alarm),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.tell_held_back(Which::Due);
        }
        self.tell_held_back(Which::All);
    }

    fn handle(&mut self, mut alarm: Alarm) {
        let now = now();
        match self.kinds.get_mut(&alarm.alarm) {
            Some(told) if now.duration_since(told.at) < self.repeat => {
                let before = told.held_back.take().map_or(0, |(_, n)| n);
                told.held_back = Some((alarm, before + 1));
            }
            told => {
                if let Some((_, n)) = told.and_then(|t| t.held_back.take()) {
                    alarm.more = n;
                }
                self.tell(alarm);
            }
        }
    }

    fn tell_held_back(&mut self, which: Which) {
        let now = now();
        let due: Vec<(Alarm, u64)> = self
            .kinds
            .values_mut()
            .filter(|told| which == Which::All || now.duration_since(told.at) >= self.repeat)
            .filter_map(|told| told.held_back.take())
            .collect();
        for (mut alarm, count) in due {
            alarm.more = count - 1; // it is one of them
            self.tell(alarm);
        }
    }

    fn tell(&mut self, mut alarm: Alarm) {
        alarm.appliance.clone_from(&self.appliance);
        alarm.more += self.unheard.swap(0, Ordering::Relaxed);
        self.kinds.insert(alarm.alarm, Told { at: now(), held_back: None });
        let mut line = serde_json::to_string(&alarm).unwrap_or_default();
        line.push('\n');
        if let Err(error) = run(&self.command, &line) {
            tracing::error!("the command of [alerts] failed: {error}");
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    Due,
    All,
}

fn run(command: &str, line: &str) -> io::Result<()> {
    let mut child = Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // Shorter than a pipe's buffer, so this cannot wait; a command that reads nothing is its own business.
        let _ = input.write_all(line.as_bytes());
    }
    let status = wait(&mut child)?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("it ended with {status}"))) }
}

#[expect(clippy::disallowed_methods, reason = "a thread of its own waits for a program")]
fn wait(child: &mut Child) -> io::Result<std::process::ExitStatus> {
    let end = now() + MAX_COMMAND;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if now() >= end {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::new(io::ErrorKind::TimedOut, "it took longer than 30 s and was ended"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[expect(clippy::disallowed_methods, reason = "alarms are told at the wall clock's time")]
fn wall_clock() -> Timestamp {
    Timestamp::EPOCH + SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[expect(clippy::disallowed_methods, reason = "the pause between two alarms")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Alarms of one kind are told at most so often: who is woken at night is woken once.
pub const REPEAT: Duration = Duration::from_secs(600);
/// Alarms that wait for the command; what is more is counted.
const MAX_WAITING: usize = 256;
/// A command that takes longer is ended, or the next alarm would wait for ever.
const MAX_COMMAND: Duration = Duration::from_secs(30);
/// How often alarms that were held back are looked at.
const LOOK: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &std::path::Path, wanted: usize) -> Vec<serde_json::Value> {
        let end = now() + Duration::from_secs(20);
        loop {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let lines: Vec<serde_json::Value> = text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
            if lines.len() >= wanted || now() > end {
                return lines;
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn an_alarm_is_one_json_line_and_a_storm_of_one_kind_is_two() {
        let dir = tempfile::tempdir().expect("a folder");
        let out = dir.path().join("alarms");
        let config = Config { command: format!("cat >> {}", out.display()) };
        let alerts = Alerts::start_with(&config, "box-7", Duration::from_secs(3600)).expect("a thread");
        alerts.raise(Kind::DiskFailed, "the disk is full", Some("c1"));
        assert_eq!(lines(&out, 1).len(), 1);
        for _ in 0..50 {
            alerts.raise(Kind::DiskFailed, "the disk is full", None);
        }
        alerts.raise(Kind::CaptureDrops, "frames were lost", None);
        drop(alerts); // what was held back is told at the end
        let told = lines(&out, 3);
        assert_eq!(told[0]["alarm"], "disk_failed");
        assert_eq!((&told[0]["appliance"], &told[0]["call"]), (&"box-7".into(), &"c1".into()));
        assert_eq!(told[1]["alarm"], "capture_drops");
        // The fiftieth, and the 49 before it.
        assert_eq!((&told[2]["alarm"], &told[2]["more"]), (&"disk_failed".into(), &49.into()));
    }

    #[test]
    fn whoever_raises_an_alarm_never_waits_for_the_command() {
        let config = Config { command: String::from("sleep 5") };
        let alerts = Alerts::start(&config, "box").expect("a thread");
        let begin = now();
        for _ in 0..10 * MAX_WAITING {
            alerts.raise(Kind::Journal, "x", None);
        }
        assert!(begin.elapsed() < Duration::from_secs(2));
    }
}
