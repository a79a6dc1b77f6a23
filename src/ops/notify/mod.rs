//! Sends alarms and finished calls to webhooks, mail and Telegram.
//!
//! Messages are stored on disk in the [`Outbox`] until their receiver accepts them. If the outbox cannot store an
//! alarm, the alarm is sent at once, with a single try.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::alerts::Alarm;
use super::clock::wall_clock;
use super::thread::{StopSignal, StoppableThread};
use crate::call::record::CallRecord;
use crate::journal::JournalResult;
use crate::journal::outbox::{Outbox, OutboxMessage};
use crate::time::Timestamp;
use messages::AlarmMessage;
use sender::{MessageText, NotifyError, NotifySender};

pub mod config;
mod messages;
mod sender;

pub use config::NotifyConfig;

/// The route by which a message is sent: a webhook, mail or Telegram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotifyRoute {
    /// The webhook that gets alarms.
    AlarmWebhook,
    /// The webhook that gets finished calls.
    CallWebhook,
    /// The mail server, for alarms.
    Mail,
    /// The Telegram bot, for alarms.
    Telegram,
}

impl NotifyRoute {
    /// All routes in the order in which their messages are sent: alarms first.
    const ALL: [Self; 4] = [Self::AlarmWebhook, Self::Mail, Self::Telegram, Self::CallWebhook];

    /// Returns the name of the route (webhook, mail or Telegram) in the outbox and in output.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::AlarmWebhook => "webhook",
            Self::CallWebhook => "webhook of calls",
            Self::Mail => "mail",
            Self::Telegram => "telegram",
        }
    }

    /// Returns whether the destination of this route is configured, e.g. the mail server.
    const fn is_configured(self, config: &NotifyConfig) -> bool {
        match self {
            Self::AlarmWebhook => config.alarms.is_some(),
            Self::CallWebhook => config.calls.is_some(),
            Self::Mail => config.mail.is_some(),
            Self::Telegram => config.telegram.is_some(),
        }
    }

    /// Returns the configured routes of alarms.
    fn of_alarms(config: &NotifyConfig) -> impl Iterator<Item = Self> {
        let routes = Self::ALL.into_iter().filter(|route| *route != Self::CallWebhook);
        routes.filter(move |route| route.is_configured(config))
    }
}

/// The configured receivers of alarms: webhook, mail and Telegram. Clones share the configuration, which a reload can
/// replace.
#[derive(Clone, Debug)]
pub(crate) struct AlarmReceivers {
    config: Arc<RwLock<NotifyConfig>>,
    state: PathBuf,
    /// Whether the sending thread must drop the messages of receivers that were removed from the configuration.
    is_removal_due: Arc<AtomicBool>,
}

impl AlarmReceivers {
    /// Creates the receivers from their configuration. `state` is the folder of the outbox.
    pub(crate) fn new(config: NotifyConfig, state: &Path) -> Self {
        Self { config: Arc::new(RwLock::new(config)), state: state.to_owned(), is_removal_due: Arc::default() }
    }

    /// Replaces the configuration of the receivers. Messages for receivers that the new configuration lacks are
    /// dropped.
    pub(crate) fn replace(&self, config: NotifyConfig) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        self.drop_removed();
    }

    /// Lets the sending thread drop the messages of receivers that were removed from the configuration. Only the service
    /// that holds the state folder may call this function, because another process may have another configuration.
    pub(crate) fn drop_removed(&self) {
        self.is_removal_due.store(true, Ordering::Relaxed);
    }

    /// Returns whether any receiver of alarms is configured.
    pub(crate) fn is_any(&self) -> bool {
        NotifyRoute::of_alarms(&self.current()).next().is_some()
    }

    fn current(&self) -> NotifyConfig {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds an alarm to the outbox (messages stored on disk), one message for each route (webhook, mail and Telegram).
    /// If the outbox cannot store the messages, sends the alarm at once.
    pub(crate) fn pass_on(&self, alarm: &Alarm) {
        let config = self.current();
        let key = format!("{:016x}{:08x}", alarm.at.as_micros(), fastrand::u32(..));
        let Ok(body) = serde_json::to_string(&AlarmMessage::new(&config.appliance, alarm)) else { return };
        let message = MessageText { key: &key, body: &body };
        let outbox = Outbox::open(&self.state);
        for route in NotifyRoute::of_alarms(&config) {
            let taken = outbox.as_ref().is_ok_and(|outbox| outbox.add(route.name(), &key, &body, alarm.at).is_ok());
            if !taken && let Err(error) = send_now(&config, route, message, alarm.at) {
                tracing::warn!(
                    receiver = route.name(),
                    "an alarm could not be sent, and the outbox takes none: {error}"
                );
            }
        }
    }

    /// Sends an alarm at once on every route (webhook, mail and Telegram), without the outbox. Returns the name and the
    /// result of each route.
    pub(crate) fn try_all(&self, alarm: &Alarm) -> Vec<(&'static str, Result<(), String>)> {
        let config = self.current();
        let body = serde_json::to_string(&AlarmMessage::new(&config.appliance, alarm)).unwrap_or_default();
        let message = MessageText { key: "test", body: &body };
        let send = |route: NotifyRoute| send_now(&config, route, message, alarm.at);
        NotifyRoute::of_alarms(&config).map(|route| (route.name(), send(route))).collect()
    }

    /// Starts the thread that sends the messages of the outbox, i.e. those stored on disk.
    ///
    /// # Errors
    /// Fails if the thread cannot be started.
    pub(crate) fn start(&self) -> std::io::Result<StoppableThread> {
        let receivers = self.clone();
        StoppableThread::start("notify", move |stop| run(&receivers, stop))
    }
}

/// Adds a message about a finished call to the outbox (messages stored on disk).
///
/// # Errors
/// Fails if the outbox cannot be written. Then the call must be added again later. If the outbox is full, the oldest
/// message is dropped, and the function succeeds.
pub(crate) fn add_call(outbox: &Outbox, record: &CallRecord, now: Timestamp) -> anyhow::Result<()> {
    let body = serde_json::to_string(&messages::CallMessage::new(record))?;
    if outbox.add(NotifyRoute::CallWebhook.name(), &record.id, &body, now)? {
        tracing::error!("the outbox is full: its oldest message was dropped, because its receiver takes none");
    }
    Ok(())
}

fn send_now(config: &NotifyConfig, route: NotifyRoute, message: MessageText<'_>, now: Timestamp) -> Result<(), String> {
    let sender = NotifySender::new().map_err(|error| error.to_string())?;
    sender.send(config, route, message, now).map_err(|error| error.to_string())
}

fn run(receivers: &AlarmReceivers, stop: &StopSignal) {
    let sender = match NotifySender::new() {
        Ok(sender) => sender,
        Err(error) => {
            tracing::error!("webhooks, mail and Telegram cannot be used: {error}");
            return while !stop.is_stopped_within(PAUSE) {};
        }
    };
    let mut outbox = None;
    loop {
        let is_last = stop.is_stopped_within(PAUSE);
        // `is_removal_due` is read before the configuration, because a reload first replaces the configuration and then
        // sets this flag.
        let is_removal_due = receivers.is_removal_due.swap(false, Ordering::Relaxed);
        // The configuration is read after the pause. Otherwise a receiver that was added during the pause would count
        // as removed.
        let config = receivers.current();
        let is_used = config.calls.is_some() || receivers.is_any();
        if is_removal_due && let Err(error) = drop_removed(&receivers.state, &config) {
            tracing::debug!("messages of removed receivers cannot be dropped: {error}");
            receivers.is_removal_due.store(true, Ordering::Relaxed);
        }
        if is_used && let Err(error) = send_due(&mut outbox, &receivers.state, &config, &sender, stop) {
            tracing::debug!("the outbox cannot be read or written: {error}"); // a full disk raises another alarm
            outbox = None;
        }
        if is_last {
            return; // messages that were not sent wait for the next start
        }
    }
}

/// Sends the messages that are due, with one try each, alarms before calls. After a failure on one route, e.g. mail,
/// the other messages of that route wait for the next round of sending. So they do not delay the other routes.
fn send_due(
    outbox: &mut Option<Outbox>,
    state: &Path,
    config: &NotifyConfig,
    sender: &NotifySender,
    stop: &StopSignal,
) -> JournalResult<()> {
    let outbox = match outbox {
        Some(outbox) => outbox,
        None => outbox.insert(Outbox::open(state)?),
    };
    outbox.give_up_others(&NotifyRoute::ALL.map(NotifyRoute::name))?;
    for route in NotifyRoute::ALL.into_iter().filter(|route| route.is_configured(config)) {
        for message in outbox.due(route.name(), wall_clock(), AT_ONCE)? {
            let _ = stop.is_stopped_within(Duration::ZERO); // only a sign of life, a stop is checked later
            if !send_one(outbox, config, sender, route, &message)? {
                break;
            }
        }
    }
    Ok(())
}

/// Drops the messages and dead letters (given up) of receivers that were removed from the configuration. Nobody waits
/// for these messages.
fn drop_removed(state: &Path, config: &NotifyConfig) -> JournalResult<()> {
    if !Outbox::exists(state) {
        return Ok(());
    }
    let outbox = Outbox::open(state)?;
    for route in NotifyRoute::ALL.into_iter().filter(|route| !route.is_configured(config)) {
        let dropped = outbox.remove_route(route.name())?;
        if dropped > 0 {
            tracing::warn!(
                receiver = route.name(),
                dropped,
                "the receiver is not configured any more, so its messages were dropped"
            );
        }
    }
    Ok(())
}

/// Sends a message. Returns true if its receiver accepted it.
fn send_one(
    outbox: &Outbox,
    config: &NotifyConfig,
    sender: &NotifySender,
    route: NotifyRoute,
    message: &OutboxMessage,
) -> JournalResult<bool> {
    let text = MessageText { key: &message.key, body: &message.body };
    let Err(error) = sender.send(config, route, text, wall_clock()) else {
        outbox.remove(message.n)?;
        return Ok(true);
    };
    let next = next_try(message, &error, wall_clock());
    if next.is_none() || message.tries == 0 {
        tracing::warn!(receiver = route.name(), is_over = next.is_none(), "a message could not be sent: {error}");
    }
    outbox.note_failure(message.n, next, &error.to_string())?;
    Ok(false)
}

/// Returns the time of the next try; `None` if the message is given up (dead letter).
fn next_try(message: &OutboxMessage, error: &NotifyError, now: Timestamp) -> Option<Timestamp> {
    let is_hopeless = !error.is_retryable() && message.tries + 1 >= REFUSALS;
    if is_hopeless || now.since(message.added_at) >= KEEP_TRYING {
        return None;
    }
    let pause = PAUSES.get(message.tries as usize).or(PAUSES.last()).copied().unwrap_or(PAUSE);
    Some(now + pause)
}

/// Pause between two rounds of sending, i.e. between two reads of the outbox.
const PAUSE: Duration = Duration::from_secs(1);
/// Maximum number of messages that are sent on each route before the outbox is read again. So a backlog on one route
/// does not delay the others for long.
const AT_ONCE: u32 = 20;
/// Pauses before the next try of a message that could not be sent: the first after the first failure, and so on. The
/// last pause repeats.
const PAUSES: [Duration; 6] = [
    Duration::from_secs(2),
    Duration::from_secs(10),
    Duration::from_secs(60),
    Duration::from_secs(300),
    Duration::from_secs(1_800),
    Duration::from_secs(3_600),
];
/// Number of tries after which a message that the receiver refuses (e.g. with HTTP 404) is given up (dead letter).
const REFUSALS: u32 = 5;
/// Time after which a message is given up (dead letter): four days, so that a receiver may fail for a long weekend.
const KEEP_TRYING: Duration = Duration::from_secs(4 * 86_400);

#[cfg(test)]
mod tests;
