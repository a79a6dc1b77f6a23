//! The engine: dialogs, legs, conversations. Pure: time comes with its input.

pub mod config;
pub mod decision;
pub mod event;
pub mod record;
