//! The call module: turns decoded traffic into dialogs, legs and conversations. It has no side effects and reads no
//! clock: the time comes with the input.
//!
//! [`Engine`] takes datagrams, pieces of TCP streams, and the time. It writes packets and [`decision`]s to an
//! [`event::LegSink`], and emits [`event::CallEvent`]s. A SIP message belongs to a leg by Call-ID, tags and hop
//! ([`dialog::Dialog`]). A media packet belongs to a leg by announced addresses ([`negotiation::Negotiation`]).
//!
//! Words of all submodules:
//!
//! - A *machine* is one PBX, proxy or telephone. It may have several IP addresses (*hosts*).
//! - A *leg* is a SIP dialog as captured between two machines (at one *hop*), with its media. A call has several legs.
//! - A leg *causes* another leg if a machine receives the first leg and then sends the second. E.g. a PBX rings a
//!   telephone for a caller.
//! - A call is *announced* when an event has reported it to journal and delivery.
//! - A leg *joins* a call when a rule of correlation finds that it belongs to the call. A *weak* join is based on
//!   numbers alone.
//! - A leg is *ambiguous* if it could belong to several calls. It is *doubtful* if numbers alone joined it to its call,
//!   so that it may carry the sound of another call.
//! - The *anchor leg* of a call supplies the recorded sound and the times. It is usually the leg of the outside party.
//! - A *block of voice* is a short piece of voice payload, e.g. 10 ms. Equal blocks on two legs show that a machine
//!   *relays* the voice, i.e. passes it on from leg to leg.
//! - The *outline* of a leg is the loudness and pitch of its sound in each tenth of a second.
//! - The *spool* has a file for each leg, with its packets and with the decisions about the leg.
//! - A *recording session* (SIPREC) is a call in which an SBC or telephone sends the sound of another call to a
//!   recorder.
//!
//! Invariants:
//! - Time never runs backwards (`now = max(now, input)`).
//! - A timer fires at its deadline, before any later input.
//! - Every table has a maximum size ([`engine::EngineLimits`]).
//! - Every captured INVITE ends in exactly one [`record::CallRecord`]. Only in a flood, when the table of legs is full,
//!   an INVITE without a response may end without a record, and is counted.
//! - A media packet is passed to at most one leg.

mod call_machines;
mod call_path;
mod call_state;
mod call_table;
mod caller_facts;
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
mod left_out;
mod leg;
pub mod leg_end;
mod leg_join;
mod leg_media;
mod media_index;
pub mod negotiation;
pub mod numbers;
pub mod party;
pub mod pause;
pub(crate) mod payload_judge;
pub(crate) mod phrasebook;
pub(crate) mod reason_ru;
pub mod record;
mod roles;
mod rules;
mod sound_outline;
pub mod streams;
pub mod test_call;
mod timed_out;
mod timers;
pub mod topology;
pub mod voice_prints;

pub use engine::Engine;
