//! The limits of one rendering in a worker process.
//!
//! # Invariants
//! - The limit of processor time ends a decoder that hangs. The limit of time without progress ends a worker that waits
//!   for ever.
//! - A busy machine ends no worker: it still gives each worker some processor time, which counts as progress.
//! - A reply of a worker extends no limit. So a worker that an attacker controls cannot occupy its rendering thread for
//!   ever.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::clock::monotonic;
use super::processor_time;

/// Settings for starting worker processes: the program, and the limits for a call.
#[derive(Clone, Debug)]
pub struct RenderWorkers {
    /// Path of the program that is started as a worker process, i.e. of callspan itself.
    pub program: PathBuf,
    /// Maximum processor time that a worker may use for a short call. Longer calls get more.
    pub base_limit: Duration,
    /// Maximum duration of a rendering, as a multiple of its maximum processor time.
    pub patience: u32,
    /// Maximum time in which a worker uses no processor time, i.e. only waits.
    pub idle_limit: Duration,
}

impl RenderWorkers {
    /// Returns the settings that start workers from the running program, even after an upgrade has replaced its file.
    pub(crate) fn of_this_program() -> Self {
        let program = PathBuf::from("/proc/self/exe");
        Self { program, base_limit: BASE_LIMIT, patience: PATIENCE, idle_limit: IDLE_LIMIT }
    }
}

/// The limits of one rendering, and the progress of the worker so far.
pub(super) struct RenderLimits {
    worker: u32,
    /// Maximum processor time of this rendering.
    allowed: Duration,
    /// Highest total processor time that the worker process may reach, including its earlier renderings. `None` if the
    /// used time is unknown.
    processor: Option<Duration>,
    begun: Instant,
    /// Maximum duration of this rendering.
    duration: Duration,
    /// Maximum time without progress of the worker process.
    idle: Duration,
    /// Used processor time of the worker at its last progress, and the time of this progress. `None` if the used time
    /// is unknown.
    progress: (Option<Duration>, Instant),
    is_late: bool,
}

impl RenderLimits {
    /// Returns the limits for a call with a spool of this size, in bytes. `worker` is the id of the worker process.
    pub(super) fn begin(workers: &RenderWorkers, bytes: u64, worker: u32) -> Self {
        Self::begin_at(monotonic(), processor_time::used_by(worker), workers, bytes, worker)
    }

    fn begin_at(now: Instant, used: Option<Duration>, workers: &RenderWorkers, bytes: u64, worker: u32) -> Self {
        let allowed = workers.base_limit + Duration::from_secs(bytes / SLOWEST_BYTES_PER_S);
        Self {
            worker,
            allowed,
            processor: used.map(|used| used + allowed),
            begun: now,
            duration: allowed.saturating_mul(workers.patience),
            idle: workers.idle_limit,
            progress: (used, now),
            is_late: false,
        }
    }

    /// Checks all limits. The error says which limit the worker exceeded. Logs once per rendering if it takes long.
    pub(super) fn check(&mut self, call: &str) -> Result<(), String> {
        self.check_at(monotonic(), processor_time::used_by(self.worker), call)
    }

    fn check_at(&mut self, now: Instant, used: Option<Duration>, call: &str) -> Result<(), String> {
        if used.zip(self.processor).is_some_and(|(used, most)| used >= most) {
            return Err(format!("it used the processor for more than {} s", self.allowed.as_secs()));
        }
        let (seen, at) = self.progress;
        match used.zip(seen) {
            Some((used, seen)) if used < seen + LEAST_PROGRESS => {
                if now.duration_since(at) >= self.idle {
                    return Err(format!("it did not use the processor for {} s", self.idle.as_secs()));
                }
            }
            _ => self.progress = (used, now),
        }
        let taken = now.duration_since(self.begun);
        if taken >= self.duration {
            return Err(format!("it gave no result within {} s", self.duration.as_secs()));
        }
        if taken >= self.allowed && !self.is_late {
            self.is_late = true;
            let seconds = taken.as_secs();
            tracing::warn!(call, seconds, "rendering takes long: the machine is busy, or the render worker waits");
        }
        Ok(())
    }
}

/// Maximum processor time that a worker may use for a short call. It is about a thousand times as much as rendering
/// needs.
const BASE_LIMIT: Duration = Duration::from_secs(120);
/// Maximum duration of a rendering, as a multiple of its maximum processor time. A worker beside busy programs gets
/// only a part of a processor core, at least 1 %, but needs far less than the maximum.
const PATIENCE: u32 = 30;
/// Maximum time in which a worker only waits, e.g. for a disk. Most machines have only a few rendering threads, so
/// workers that wait for ever would hold up all other calls.
const IDLE_LIMIT: Duration = Duration::from_secs(5 * 60);
/// Assumed minimum speed of rendering, bytes of the spool per second of processor time. The limits of a long call are
/// computed from it. A processor core of 2015 is ten times as fast.
const SLOWEST_BYTES_PER_S: u64 = 1 << 20;
/// Processor time that counts as progress. A worker that only waits uses none. A worker beside busy programs gets 3 s in
/// five minutes if it has 1 % of a processor core.
const LEAST_PROGRESS: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn workers() -> RenderWorkers {
        RenderWorkers { program: "callspan".into(), base_limit: 120 * SECOND, patience: 30, idle_limit: 300 * SECOND }
    }

    /// Checks a worker once a second. In each second the worker uses `used_ms` of processor time; `None` means that its
    /// processor time is unknown. Returns the second in which a limit ends the worker, and the reason.
    fn end_of_worker(used_ms: Option<u32>) -> (u32, String) {
        let begin = monotonic();
        let used = |second: u32| used_ms.map(|ms| 7 * SECOND + Duration::from_millis(ms.into()) * second);
        let mut limits = RenderLimits::begin_at(begin, used(0), &workers(), 1000, 1);
        let checks = (1..10_000).map(|s| (s, limits.check_at(begin + SECOND * s, used(s), "a")));
        checks.filter_map(|(second, checked)| Some((second, checked.err()?))).next().expect("an end")
    }

    #[test]
    fn worker_that_uses_no_processor_ends_after_five_minutes() {
        assert_eq!(end_of_worker(Some(0)), (300, String::from("it did not use the processor for 300 s")));
    }

    #[test]
    fn worker_that_hangs_ends_by_its_processor_time() {
        let reason = String::from("it used the processor for more than 120 s");
        assert_eq!(end_of_worker(Some(1000)), (120, reason.clone()));
        assert_eq!(end_of_worker(Some(100)), (1200, reason), "on a busy machine this takes longer");
    }

    #[test]
    fn worker_that_advances_slowly_has_an_hour() {
        assert_eq!(end_of_worker(Some(1)), (3600, String::from("it gave no result within 3600 s")));
        assert_eq!(end_of_worker(None).0, 3600, "its processor time is unknown");
    }
}
