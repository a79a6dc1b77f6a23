//! The HTTP client that executes the actions of [`crate::delivery`] against the Pyrus API.

pub mod config;
