//! Operation of the recorder: configuration, logs, alarms, counters, and the doctor (diagnosis of a mirror port).

pub(crate) mod alarm_cause;
pub(crate) mod alarm_history;
mod alarm_kind;
pub(crate) mod alarm_ru;
pub(crate) mod alarm_text;
pub mod alerts;
pub(crate) mod clock;
pub mod config;
pub mod disk;
pub(crate) mod doctor;
pub mod drops;
pub(crate) mod earlier_ru;
pub(crate) mod heap;
pub mod log;
pub(crate) mod metrics;
pub(crate) mod mirror_report;
pub mod notify;
pub(crate) mod output;
pub(crate) mod panics;
pub(crate) mod self_test;
pub(crate) mod state_file;
pub(crate) mod status;
pub mod supervision;
pub(crate) mod tap_flow;
pub(crate) mod taps;
pub(crate) mod thread;
pub(crate) mod totals;
