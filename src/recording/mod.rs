//! Finished files: rendered samples become a WAV by way of a `.part` file, fsync and rename, with the record beside it.

pub mod config;
