//! Delivery of calls to Pyrus (a task system). This is a state machine without side effects: it turns call records into
//! requests for the HTTP client.
//!
//! [`DeliveryMachine`] has one [`DeliveryJob`] for each call. It takes changed calls ([`DeliveryMachine::handle_call`])
//! and outcomes of requests ([`DeliveryMachine::handle_outcome`]). It returns the next request
//! ([`DeliveryMachine::poll_action`]) and the rows to store ([`DeliveryMachine::poll_row`]).
//!
//! A delivery is *parked* if a person must act before it can succeed, and *dead* if it was given up.
//!
//! Rules for the *executor*, i.e. the code that drives the state machine:
//!
//! 1. **All rows must be polled and durable before a [`DeliveryAction`] is executed.** The row of the job announces the
//!    request. So after a crash, the restarted service knows that the outcome of the request is uncertain.
//! 2. For each action exactly one [`RequestOutcome`] is reported.
//! 3. After a restart the rows are loaded with [`DeliveryMachine::load`].
//!
//! *Time* in this module is the executor's clock, as a [`crate::time::Timestamp`] that never runs backwards. It is
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
