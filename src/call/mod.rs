//! The engine: dialogs, legs, conversations. Pure: time comes with its input.
//!
//! [`Engine`] takes datagrams, pieces of TCP streams and time; it writes packets and [`decision`]s into a
//! [`event::LegSink`] and gives out [`event::CallEvent`]s. A message finds its leg by Call-ID, tags and hop
//! ([`leg::Leg`], [`dialog::Dialog`]); a media packet by the addresses that were announced
//! ([`negotiation::Negotiation`], [`media_index::MediaIndex`]).
//!
//! Invariants: time never runs backwards (`now = max(now, input)`), timers fire at their deadline before the input
//! that passes it, every table has a bound ([`engine::EngineLimits`]), every INVITE seen ends in exactly one
//! [`record::CallRecord`], and a media packet goes to one leg at the most.

pub mod config;
pub mod conversation;
pub mod correlation_keys;
pub mod decision;
pub mod dialog;
pub mod early_media;
pub mod engine;
pub mod event;
pub mod id;
pub mod leg;
pub mod media_index;
pub mod negotiation;
pub mod numbers;
pub mod party;
pub mod pause;
pub mod record;
pub mod roles;
pub mod rules;
pub mod streams;
pub mod timed_out;

pub use engine::Engine;
