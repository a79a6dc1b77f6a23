//! The console: web pages and an API to find a call, hear it, and see why a call is missing.
//!
//! The server makes the HTML (with [`maud`]), and the pages work without JavaScript. The same code answers requests to
//! `/api/v1` with JSON.
//!
//! A *scope* is the set of calls that an account may see.
//!
//! # Invariants
//! 1. Only `source::CallSource` and `Journal::live_calls` read calls, and both require the scope of the account. A call
//!    outside the scope has the same response as an unknown call: 404.
//! 2. The audit row of a listen or download is on the disk before the first byte of sound is sent.
//! 3. No page has inline script or style, and the Content-Security-Policy forbids both. Text from captured packets is
//!    always escaped.
//! 4. From another machine, the console needs TLS (its own, or that of a proxy: `console.public_url`) and an account.
//!    At first the console has no users. As long as it then listens on loopback only and has no proxy, every person on
//!    this machine is an administrator.

mod access;
pub(crate) mod accounts;
mod actions;
mod assets;
mod call;
mod calls;
pub(crate) mod control;
mod convert;
mod doctor;
mod health;
mod ladder;
mod levels;
mod listening;
mod live;
mod lookup;
mod metrics;
mod mirror;
mod open_downloads;
mod openapi;
mod pages;
mod query;
mod rule_text;
mod server;
mod sign_in;
mod sites;
mod sound;
mod source;
mod supervision;
mod test_call;
mod text;
mod tls;

pub(crate) use accounts::audit_reader;
pub(crate) use control::ServiceStatus;
pub(crate) use rule_text::russian as russian_rule;
pub(crate) use server::ConsoleServer;

#[cfg(test)]
mod tests;
