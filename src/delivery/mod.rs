//! What is owed to Pyrus: the pure machine between the call records and the HTTP client.
//!
//! [`Machine`] owns one [`Job`] for each call. It is told of calls ([`Machine::handle_call`]) and of answers
//! ([`Machine::handle_answer`]) and says what is to be done ([`Machine::next`]). Everything that must survive comes
//! out of [`Machine::poll_row`].
//!
//! Rules for who drives it:
//!
//! 1. **Before an [`Action`] is executed, all rows must have been polled and made durable.** The intent is among them.
//! 2. Each action is answered exactly once, with whatever happened ([`Reply`]).
//! 3. After a restart the rows go back in with [`Machine::load`]; what was under way then counts as ambiguous.
//!
//! *Time* here is the clock of whoever drives the machine, as a [`crate::time::Timestamp`] that never runs backwards.
//! It is **not** the capture clock: a replay of an old capture is delivered now. Capture times occur only in what
//! Pyrus is told.
//!
//! What each answer means is one table: [`verdict`].

pub mod job;
pub mod machine;
mod pace;
pub mod policy;
pub mod row;
pub mod split;
#[cfg(test)]
mod tests;
pub mod verdict;

pub use job::{CallUpdate, Consent, Job, Progress};
pub use machine::{Action, ActionId, Blocked, Machine, Next, Request, Summary, TokenId, Trouble};
pub use pace::Tuning;
pub use policy::{DurationUnit, Policy, RegisterAt};
pub use row::{DeliveryRow, DroppedCode, JobRow};
pub use split::Cut;
pub use verdict::{Answer, Endpoint, Failure, RateHeaders, Reply};
