//! Configuration, logs, counters.

pub mod config;
pub mod log;
