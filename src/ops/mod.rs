//! Operation of the recorder: configuration, logs, alarms, counters, the local API, and the doctor.

pub mod alerts;
pub mod config;
pub mod console;
pub mod disk;
pub mod doctor;
pub mod drops;
pub mod log;
pub mod output;
pub mod thread;
