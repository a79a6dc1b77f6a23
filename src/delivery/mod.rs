//! Delivery of calls to Pyrus (a task system): a state machine without side effects, between the call records and the
//! HTTP client.
//!
//! [`DeliveryMachine`] has one [`DeliveryJob`] for each call. It takes changed calls ([`DeliveryMachine::handle_call`])
//! and outcomes of requests ([`DeliveryMachine::handle_outcome`]). It returns the next request
//! ([`DeliveryMachine::poll_action`]) and the rows to store ([`DeliveryMachine::poll_row`]).
//!
//! A delivery is *parked* if a person must act before it can succeed, and *dead* if it was given up. Rules for the code
//! that drives the machine:
//!
//! 1. **All rows must be polled and durable before a [`DeliveryAction`] is executed.** The row of the job announces the
//!    request, so a restart knows that its outcome is uncertain.
//! 2. Each action gets exactly one [`RequestOutcome`].
//! 3. After a restart the rows are loaded with [`DeliveryMachine::load`].
//!
//! *Time* in this module is the clock of that code, as a [`crate::time::Timestamp`] that never runs backwards. It is
//! **not** the capture clock: the calls of an old capture are delivered today. Capture times occur only in request
//! bodies.
//!
//! [`verdict`] decides what each response means.

mod job;
mod machine;
mod pace;
mod policy;
pub(crate) mod reason_ru;
pub mod row;
mod split;
pub(crate) mod story;
#[cfg(test)]
mod tests;
pub(crate) mod verdict;

pub use job::{CallProgress, CallUpdate, DeliveryConsent, DeliveryJob};
pub(crate) use machine::{ActionId, PyrusRequest, TokenId};
pub use machine::{DeliveryAction, DeliveryBlocker, DeliveryMachine, DeliverySummary, NextAction, TroubledCall};
pub use pace::DeliveryTuning;
pub use policy::{DeliveryPolicy, DurationUnit, RatingType, RegisterAt};
pub use row::{DeliveryRow, DroppedCode, JobRow, JobStage};
pub(crate) use split::WavSlice;
pub(crate) use verdict::{PyrusResponse, RateLimitHeaders, RequestFailure, RequestOutcome};
