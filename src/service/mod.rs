//! The parts of `callspan run`, i.e. of the recorder as a service. The commands `replay` and `calls` use some of these
//! parts, too.
//!
//! - From the network to the disk: [`pipeline`] (passes frames to decoder, engine and spool), [`resume`] (continues
//!   calls of an earlier process).
//! - From the disk to the recordings: [`post_process`] (threads that work on calls after the engine), `worker` (their
//!   shared state), `event_batch` (events of one transaction). Then `publish` (renders ended calls) and `segments`
//!   (renders segments of calls in progress), `set_aside` (packets of legs that could not be rendered). Also
//!   [`record_sync`] (writes delivery states into call records) and [`rerender`] (renders a call again),
//!   `requested_renders` (the thread that does so on request).
//! - Rendering: `render_process` (starts worker processes and gives them calls), `render_protocol` (their messages),
//!   `render_worker` (the worker process), `sandbox` (limits the rights of that process). Also `processor_time` (the
//!   processor time that a worker has used). For `replay`: `parallel_render` (threads instead of processes) and
//!   `render_marker` (a file that names the calls being rendered).
//! - Supervision: [`maintenance`] (retention), `encrypt` (encryption at rest), [`watch`] (alarms about disks and
//!   delivery), `startup_failure` (the alarm about a failed start), `reload` (SIGHUP), `systemd`, `life_signs`.
//! - `state_files`: writes small files, so that the capture thread need not wait for the disk.
//! - `topology_file`: stores which IP addresses belong to one machine, so that a restarted service knows it.
//! - `test_key`: the key by which the recorder knows its own test calls.
//! - At the start: [`lock`] (allows only one process for each folder), [`recovery`] (opens or rebuilds the journal).

pub(crate) mod archive;
mod archive_health;
mod archive_reports;
mod call_locks;
pub(crate) mod clock;
mod delivered_parts;
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
mod processor_time;
mod publish;
pub(crate) mod record_sync;
pub mod recovery;
pub(crate) mod reload;
mod render_limits;
pub(crate) mod render_marker;
pub(crate) mod render_process;
pub(crate) mod render_protocol;
pub(crate) mod render_worker;
mod requested_renders;
pub mod rerender;
pub mod resume;
pub(crate) mod sandbox;
mod segments;
mod set_aside;
pub(crate) mod site_copies;
pub(crate) mod site_watch;
pub(crate) mod startup_failure;
pub(crate) mod state_files;
pub(crate) mod systemd;
pub(crate) mod test_key;
pub(crate) mod topology_file;
pub mod watch;
mod worker;
