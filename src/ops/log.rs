//! Logging to standard error, as text or JSON, without phone numbers at the default level.

use std::fmt;
use std::io::IsTerminal;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::{EnvFilter, reload};

use super::output;

/// Format of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Starts logging to standard error. `filter` is a level (`debug`) or a list of `module=level`; the default is `info`.
///
/// Personal data ([`Pii`]) is shown only when the filter asks for debug or trace explicitly.
///
/// # Errors
/// When the filter is invalid, or logging was started before.
pub(crate) fn start(filter: Option<&str>, format: LogFormat) -> anyhow::Result<()> {
    let wanted = filter.unwrap_or(DEFAULT_FILTER);
    let parsed = EnvFilter::try_new(wanted)
        .map_err(|e| anyhow::anyhow!("\"{wanted}\" is not a log level: {e}; use error, warn, info, debug or trace"))?;
    SHOW_PERSONAL.store(shows_personal(wanted), Ordering::Relaxed);
    output::set_json(format == LogFormat::Json);
    let writer = LogWriter { with_priority: is_journald() };
    let builder = tracing_subscriber::fmt().with_writer(writer).with_target(false);
    let started = match format {
        LogFormat::Text => {
            let builder = builder.with_ansi(std::io::stderr().is_terminal());
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

/// Writes log lines to standard error. journald reads the priority of a line from `<N>` at its beginning (sd-daemon(3))
/// and removes it.
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

/// Writes one line with its prefix at once, so that lines of other threads do not come between.
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

const fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        _ => "<7>",
    }
}

/// Whether standard error goes to journald: systemd names its socket then (systemd.exec(5)).
fn is_journald() -> bool {
    std::env::var_os("JOURNAL_STREAM").is_some() && !std::io::stderr().is_terminal()
}

/// Sets the level of the configuration, one of the words of `log.level`. A level of the command line or the environment
/// stays. Returns true if the level is used.
pub(crate) fn set_level(level: &str) -> bool {
    let Some(switch) = SWITCH.get() else { return false };
    let filter = if level == "info" { DEFAULT_FILTER.to_owned() } else { format!("{level},{LIBRARIES}") };
    let Ok(parsed) = EnvFilter::try_new(&filter) else { return false };
    SHOW_PERSONAL.store(shows_personal(&filter), Ordering::Relaxed);
    switch(parsed)
}

/// Keeps the way to replace the filter, unless the command line has set it.
fn set_switch<S: 'static>(is_fixed: bool, handle: &reload::Handle<EnvFilter, S>) {
    let handle = handle.clone();
    if !is_fixed {
        let _ = SWITCH.set(Box::new(move |filter| handle.reload(filter).is_ok())); // set only once
    }
}

/// Replaces the filter of the log. Returns false if that failed.
type FilterSwitch = Box<dyn Fn(EnvFilter) -> bool + Send + Sync>;

static SWITCH: OnceLock<FilterSwitch> = OnceLock::new();

/// Personal data in a log line: a number, a URI, a name. Hidden unless the log level is debug or trace.
#[derive(Clone, Copy)]
pub struct Pii<T>(pub T);

impl<T: fmt::Display> fmt::Display for Pii<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, SHOW_PERSONAL.load(Ordering::Relaxed))
    }
}

impl<T: fmt::Display> fmt::Debug for Pii<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<T: fmt::Display> Pii<T> {
    fn write(&self, f: &mut fmt::Formatter<'_>, show: bool) -> fmt::Result {
        if show { self.0.fmt(f) } else { f.write_str(HIDDEN) }
    }
}

fn shows_personal(filter: &str) -> bool {
    let lower = filter.to_ascii_lowercase();
    lower.split([',', '=']).any(|part| matches!(part.trim(), "debug" | "trace"))
}

static SHOW_PERSONAL: AtomicBool = AtomicBool::new(false);

const HIDDEN: &str = "[hidden]";

/// Levels of the libraries, which log too much at `info`.
const LIBRARIES: &str = "hyper=warn,hyper_util=warn,reqwest=warn,rustls=warn,h2=warn";

/// Default levels.
const DEFAULT_FILTER: &str = "info,hyper=warn,hyper_util=warn,reqwest=warn,rustls=warn,h2=warn";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn personal_data_is_hidden_at_the_default_level() {
        assert_eq!(Pii("+79774221338").to_string(), "[hidden]");
        assert_eq!(format!("{:?}", Pii("sip:200@pbx")), "[hidden]");
    }

    #[test]
    fn only_an_explicit_debug_level_shows_personal_data() {
        assert!(!shows_personal(DEFAULT_FILTER));
        assert!(!shows_personal("warn,callspan=info"));
        assert!(shows_personal("debug"));
        assert!(shows_personal("info,callspan::call=TRACE"));
    }
}
