//! The call module: turns decoded traffic into dialogs, legs and conversations. It is pure: time comes with its input.
//!
//! [`Engine`] takes datagrams, pieces of TCP streams and time. It writes packets and [`decision`]s into an
//! [`event::LegSink`], and emits [`event::CallEvent`]s. A SIP message is matched to its leg by Call-ID, tags and hop
//! ([`dialog::Dialog`]), a media packet by announced addresses ([`negotiation::Negotiation`]).
//!
//! Invariants:
//! - Time never runs backwards (`now = max(now, input)`).
//! - A timer fires at its deadline, before any input that is later.
//! - Every table is bounded ([`engine::EngineLimits`]).
//! - Every INVITE seen ends in exactly one [`record::CallRecord`].
//! - A media packet is passed to at most one leg.

mod call_state;
mod call_table;
pub mod config;
mod content;
mod conversation;
mod correlate;
mod correlation_keys;
pub mod correlation_rule;
pub mod decision;
pub mod dialog;
mod early_media;
pub mod engine;
pub mod errno;
pub mod event;
pub mod id;
mod keys;
mod leg;
pub mod leg_end;
mod leg_join;
mod leg_media;
mod media_index;
pub mod negotiation;
pub mod numbers;
pub mod party;
pub mod pause;
mod payload_judge;
pub(crate) mod phrasebook;
pub(crate) mod reason_ru;
pub mod record;
mod roles;
mod rules;
pub mod streams;
pub mod test_call;
mod timed_out;
mod timers;
pub mod topology;

pub use engine::Engine;
