//! The parts that `callspan run` is made of. The commands `replay` and `calls` use some of them too.
//!
//! - way in: [`pipeline`] (source to engine to spool), [`resume`] (reads back the spool of an earlier process)
//! - way out: [`post_process`] (journal, rendering, delivery), `segments` (segments of a call that still lasts),
//!   [`record_sync`] (delivery state in the call records), [`rerender`]
//! - supervision: [`maintenance`] (retention), `encrypt` (encryption at rest), [`watch`] (disks, alarms),
//!   `startup_failure` (alarm of a service that cannot start)
//! - before everything else: [`lock`] (one process for each folder), [`recovery`] (opens a journal in any state)

mod encrypt;
pub mod lock;
pub mod maintenance;
pub mod pipeline;
pub mod post_process;
pub mod record_sync;
pub mod recovery;
pub mod rerender;
pub mod resume;
mod segments;
pub(crate) mod startup_failure;
pub mod watch;
