//! Configuration, logs, counters, and the doctor.

pub mod config;
pub mod doctor;
pub mod log;
