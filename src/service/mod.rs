//! The parts of `callspan run`, i.e. of the recorder as a service. The commands `replay` and `calls` use some of them
//! too.
//!
//! - From the network to the disk: [`pipeline`] (frames to decoder to engine to spool), [`resume`] (reads back the
//!   spool of an earlier process).
//! - From the disk to the recordings: [`post_process`] (the threads behind the engine) with `event_batch` (one
//!   transaction for all events that wait), `publish` (an ended call), `segments` (segments of a call that still lasts)
//!   and the `worker` that both extend; [`record_sync`] (delivery state in the call records), [`rerender`].
//! - Rendering: `render_process` (starts worker processes and gives them calls), `render_protocol` (their messages),
//!   `render_worker` (the process), `sandbox` (takes all rights from that process that it does not need).
//!   `parallel_render`: threads in place of processes, for `replay`; `render_marker` names the calls that they render.
//! - Supervision: [`maintenance`] (retention), `encrypt` (encryption at rest), [`watch`] (alarms about disks and
//!   delivery), `startup_failure` (alarm of a service that cannot start), `reload` (SIGHUP), `systemd` and `life_signs`
//!   (signs of life).
//! - `state_files`: writes the small files with contents from the capture thread.
//! - `topology_file`: stores across restarts which IP addresses were learnt to belong to one machine.
//! - `test_key`: the key by which the recorder knows its own test calls.
//! - Before everything else: [`lock`] (one process for each folder), [`recovery`] (opens or rebuilds the journal).

pub(crate) mod archive;
mod call_locks;
pub(crate) mod clock;
mod encrypt;
mod event_batch;
pub(crate) mod files;
pub(crate) mod life_signs;
pub(crate) mod lock;
pub mod maintenance;
pub(crate) mod mirror_watch;
pub(crate) mod parallel_render;
pub mod pipeline;
pub mod post_process;
mod publish;
pub(crate) mod record_sync;
pub mod recovery;
pub(crate) mod reload;
pub(crate) mod render_marker;
pub(crate) mod render_process;
pub(crate) mod render_protocol;
pub(crate) mod render_worker;
pub mod rerender;
pub mod resume;
pub(crate) mod sandbox;
mod segments;
pub(crate) mod site_copies;
pub(crate) mod site_watch;
pub(crate) mod startup_failure;
pub(crate) mod state_files;
pub(crate) mod systemd;
pub(crate) mod test_key;
pub(crate) mod topology_file;
pub mod watch;
mod worker;
