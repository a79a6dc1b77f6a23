//! Logging to standard error, as text or JSON, without phone numbers.

use std::io::IsTerminal;
use std::sync::OnceLock;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::{EnvFilter, reload};

use super::output;

/// Format of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// Lines of text for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Starts logging to standard error. `filter` is a level, e.g. `debug`, or a list of `module=level`. If it is `None`,
/// the level is `info`.
///
/// No line of any level carries personal data: no number, name, key press or sound.
///
/// # Errors
/// Fails if the filter is invalid, or logging was started before.
pub(crate) fn start(filter: Option<&str>, format: LogFormat) -> anyhow::Result<()> {
    let wanted = filter.unwrap_or(DEFAULT_FILTER);
    let parsed = EnvFilter::try_new(wanted)
        .map_err(|e| anyhow::anyhow!("\"{wanted}\" is not a log level: {e}; use error, warn, info, debug or trace"))?;
    output::set_json(format == LogFormat::Json);
    let writer = LogWriter { with_priority: is_journald() };
    let builder = tracing_subscriber::fmt().with_writer(writer).with_target(false);
    let started = match format {
        LogFormat::Text => {
            let builder = builder.with_ansi(std::io::stderr().is_terminal() && output::wants_colour());
            let builder = builder.with_env_filter(parsed).with_filter_reloading();
            set_switch(filter.is_some(), &builder.reload_handle());
            builder.try_init()
        }
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_target(true);
            let builder = builder.with_env_filter(parsed).with_filter_reloading();
            set_switch(filter.is_some(), &builder.reload_handle());
            builder.try_init()
        }
    };
    started.map_err(|e| anyhow::anyhow!("logging cannot be started: {e}"))
}

/// Writes log lines to standard error. If journald reads them, each line begins with its priority as `<N>`
/// (sd-daemon(3)); journald removes this prefix.
#[derive(Clone, Copy, Debug)]
struct LogWriter {
    with_priority: bool,
}

impl<'w> MakeWriter<'w> for LogWriter {
    type Writer = PrefixedLine;

    fn make_writer(&'w self) -> Self::Writer {
        PrefixedLine { prefix: "" }
    }

    fn make_writer_for(&'w self, line: &Metadata<'_>) -> Self::Writer {
        PrefixedLine { prefix: if self.with_priority { priority(*line.level()) } else { "" } }
    }
}

/// Collects one line with its prefix and writes the line in one piece. So lines of different threads do not mix.
struct PrefixedLine {
    prefix: &'static str,
}

impl std::io::Write for PrefixedLine {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let mut out = std::io::stderr().lock();
        if self.prefix.is_empty() {
            return out.write(line);
        }
        out.write_all(&[self.prefix.as_bytes(), line].concat())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

/// Returns the priority of a message for journald (sd-daemon(3)).
pub(super) const fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        _ => "<7>",
    }
}

/// Returns whether standard error goes to journald: whether JOURNAL_STREAM names its device and inode
/// (systemd.exec(5)). The existence of the variable proves nothing, because a command inherits it but can have another
/// standard error.
pub(super) fn is_journald() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(stat) = rustix::fs::fstat(std::io::stderr()) else { return false };
    stream == format!("{}:{}", stat.st_dev, stat.st_ino)
}

/// Sets the log level from the configuration. A level from the command line or the environment has precedence. Returns
/// whether the configured level is now in effect.
pub(crate) fn set_level(level: &str) -> bool {
    let Some(switch) = SWITCH.get() else { return false };
    let filter = if level == "info" { DEFAULT_FILTER.to_owned() } else { format!("{level},{LIBRARIES}") };
    let Ok(parsed) = EnvFilter::try_new(&filter) else { return false };
    switch(parsed)
}

/// Stores the function that replaces the log filter while the program runs. Does nothing if the command line or the
/// environment has set the filter.
fn set_switch<S: 'static>(is_fixed: bool, handle: &reload::Handle<EnvFilter, S>) {
    let handle = handle.clone();
    if !is_fixed {
        let _ = SWITCH.set(Box::new(move |filter| handle.reload(filter).is_ok())); // fails only if it was set before
    }
}

/// A function that replaces the filter of the log. It returns false on failure.
type FilterSwitch = Box<dyn Fn(EnvFilter) -> bool + Send + Sync>;

static SWITCH: OnceLock<FilterSwitch> = OnceLock::new();

/// Log filter for libraries that log too much at `info`.
const LIBRARIES: &str = "hyper=warn,hyper_util=warn,reqwest=warn,rustls=warn,h2=warn";

/// Log filter if no level is configured.
const DEFAULT_FILTER: &str = "info,hyper=warn,hyper_util=warn,reqwest=warn,rustls=warn,h2=warn";
