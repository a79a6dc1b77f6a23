//! The console: pages and API to find a call, hear it, and see why one is missing.
//!
//! HTML is made on the server ([`maud`]) and works without script; the same handlers answer `/api/v1` with JSON.
//!
//! # Invariants
//! 1. A call is read only by `source::CallSource` and `Journal::live_calls`, which take the scope of the account. A call
//!    outside the scope and an unknown call give the same 404.
//! 2. The audit row of a listen or download is on the disk before the first byte of sound is sent.
//! 3. No page has inline script or style, and the Content-Security-Policy forbids both. Text from the wire is text.
//! 4. Others than this machine reach the console by TLS only, its own or that of a proxy (`console.public_url`), and with an
//!    account. Without users, on loopback and without a proxy, whoever is on this machine is the administrator.

mod access;
pub(crate) mod accounts;
mod actions;
mod assets;
mod call;
mod calls;
pub(crate) mod control;
mod doctor;
mod health;
mod ladder;
mod levels;
mod listening;
mod live;
mod lookup;
mod metrics;
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

pub(crate) use control::ServiceStatus;
pub(crate) use rule_text::russian as russian_rule;
pub(crate) use server::ConsoleServer;

#[cfg(test)]
mod tests;
