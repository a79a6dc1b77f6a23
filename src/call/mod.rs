//! The engine: dialogs, legs, conversations. Pure: time comes with its input.
//!
//! [`Engine`] takes datagrams, pieces of TCP streams and time; it writes packets and [`decision`]s into a
//! [`event::LegSink`] and gives out [`event::CallEvent`]s. A message finds its leg by Call-ID, tags and hop
//! ([`leg::Leg`], [`dialog::Dialog`]); a media packet by the addresses that were announced
//! ([`negotiation::Negotiation`], [`claims::Claims`]).
//!
//! Invariants: time never runs backwards (`now = max(now, input)`), timers fire at their deadline before the input
//! that passes it, every table has a bound ([`engine::Limits`]), every INVITE seen ends in exactly one
//! [`record::CallRecord`], and a media packet goes to one leg at the most.

pub mod claims;
pub mod config;
pub mod conversation;
pub mod decision;
pub mod dialog;
pub mod dormant;
pub mod early;
pub mod engine;
pub mod event;
pub mod id;
pub mod join;
pub mod leg;
pub mod negotiation;
pub mod numbers;
pub mod party;
pub mod pause;
pub mod record;
pub mod rules;
pub mod streams;
pub mod who;

pub use engine::Engine;
