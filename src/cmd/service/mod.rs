//! What the service is made of; [`super::run`] puts it together, [`super::replay`] and [`super::calls`] borrow of it.
//!
//! - the way in: [`pipeline`] (source to engine to spool), [`resume`] (what an earlier process left)
//! - the way out: [`finish`] (journal, rendering, delivery), `parting` (parts of a call that lasts), [`owing`] (what the
//!   records say of delivery), [`rerender`]
//! - what looks after it: [`upkeep`] (retention), `sealing` (encryption at rest), [`watch`] (disks, alarms), `failing`
//!   (a service that cannot start)
//! - before all of it: [`lock`] (one process a folder), [`heal`] (the journal, whatever state it is in)

pub(super) mod failing;
pub mod finish;
pub mod heal;
pub mod lock;
pub mod owing;
mod parting;
pub mod pipeline;
pub mod rerender;
pub mod resume;
mod sealing;
pub mod upkeep;
pub mod watch;
