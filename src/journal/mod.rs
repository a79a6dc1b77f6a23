//! SQLite: conversations, legs, recordings, and what is still owed to Pyrus.

pub mod config;
