//! One pcapng for each leg: packets as raw IP with nanosecond stamps, and the engine's decisions as custom blocks.

pub mod config;
