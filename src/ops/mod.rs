//! Configuration, logs, counters.
