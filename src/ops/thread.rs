//! Threads of the service that run until the service stops them.

use std::io;
use std::panic::AssertUnwindSafe;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::supervision::{ThreadLife, TickCounter};

/// A running thread. Dropping this value asks the thread to stop and does not wait for its end.
#[derive(Debug)]
pub(crate) struct StoppableThread<S = Sender<()>> {
    stop: S,
    thread: JoinHandle<()>,
    life: ThreadLife,
}

/// Signal by which a thread learns that it must stop. The thread's work gets it as an argument.
#[derive(Debug)]
pub(crate) struct StopSignal {
    stopped: Receiver<()>,
    life: ThreadLife,
}

impl StopSignal {
    /// Waits for `pause`, and marks the thread as alive for the supervision of threads. Returns true at once when the
    /// thread must stop, otherwise false after the pause.
    pub(crate) fn is_stopped_within(&self, pause: Duration) -> bool {
        self.life.tick();
        self.stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout)
    }

    /// Counts a round of the thread's loop, so that its supervision sees progress.
    pub(crate) fn tick(&self) {
        self.life.tick();
    }
}

impl StoppableThread {
    /// Starts a thread that runs `work`, which must check the [`StopSignal`]. If `work` panics, the thread runs it
    /// again after [`PAUSE_AFTER_PANIC`].
    ///
    /// # Errors
    /// Fails if the operating system cannot start the thread.
    pub(crate) fn start(name: &str, work: impl FnMut(&StopSignal) + Send + 'static) -> io::Result<Self> {
        Self::start_with_pause(name, PAUSE_AFTER_PANIC, ThreadLife::default(), work)
    }

    /// Starts a thread as [`StoppableThread::start`] does. The thread counts the rounds of its loop in `ticks`. During
    /// a long round, its work may increase `ticks` as a further sign of life.
    ///
    /// # Errors
    /// Fails if the operating system cannot start the thread.
    pub(crate) fn start_with_ticks(
        name: &str,
        ticks: TickCounter,
        work: impl FnMut(&StopSignal) + Send + 'static,
    ) -> io::Result<Self> {
        Self::start_with_pause(name, PAUSE_AFTER_PANIC, ThreadLife::of_ticks(ticks), work)
    }

    fn start_with_pause(
        name: &str,
        pause: Duration,
        life: ThreadLife,
        mut work: impl FnMut(&StopSignal) + Send + 'static,
    ) -> io::Result<Self> {
        let (stop, stopped) = crossbeam_channel::bounded(0);
        let signal = StopSignal { stopped, life: life.clone() };
        Self::start_with(name, stop, life, move |_| {
            again_after_panic(|| work(&signal), || signal.is_stopped_within(pause));
        })
    }
}

/// Runs `work`. If it panics, calls `is_stopped`, and runs it again if the result is false. To pause between two runs,
/// `is_stopped` must itself wait before it returns false.
pub(crate) fn again_after_panic(mut work: impl FnMut(), mut is_stopped: impl FnMut() -> bool) {
    while std::panic::catch_unwind(AssertUnwindSafe(&mut work)).is_err() && !is_stopped() {}
}

impl<S> StoppableThread<S> {
    /// Starts a thread that must end by itself when `stop` is dropped. It must count the rounds of its loop in its
    /// [`ThreadLife`], which shows the supervision that the thread is alive.
    ///
    /// # Errors
    /// Fails if the operating system cannot start the thread.
    pub(crate) fn start_with(
        name: &str,
        stop: S,
        life: ThreadLife,
        work: impl FnOnce(&ThreadLife) + Send + 'static,
    ) -> io::Result<Self> {
        let (signs, guard) = (life.clone(), life.begin());
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _guard = guard;
            work(&signs);
        })?;
        Ok(Self { stop, thread, life })
    }

    /// Returns the state of the thread, for the supervision of threads.
    pub(crate) fn life(&self) -> ThreadLife {
        self.life.clone()
    }

    /// Stops the thread and waits at most `limit` for its end. A thread that takes longer, e.g. because of a large
    /// file, runs until the process ends.
    pub(crate) fn stop_within(self, limit: Duration) {
        drop(self.stop);
        join_within(vec![self.thread], limit);
    }

    /// Stops the thread and waits for its end.
    pub(crate) fn stop(self) {
        drop(self.stop);
        let _ = self.thread.join(); // a panic of the thread was already reported
    }
}

/// Asks all threads to stop, and then waits at most `limit` for the end of all of them together.
pub(crate) fn stop_all_within<const N: usize>(threads: [StoppableThread; N], limit: Duration) {
    let asked = threads.map(|StoppableThread { stop, thread, .. }| {
        drop(stop);
        thread
    });
    join_within(Vec::from(asked), limit);
}

/// Waits until all threads have ended, at most for `limit`. Returns whether all threads have ended.
#[expect(clippy::disallowed_methods, reason = "an IO module: the end of the program is waited for")]
pub(crate) fn join_within(threads: Vec<JoinHandle<()>>, limit: Duration) -> bool {
    let begin = std::time::Instant::now();
    while threads.iter().any(|thread| !thread.is_finished()) {
        if begin.elapsed() >= limit {
            return false;
        }
        std::thread::sleep(END_CHECK);
    }
    for thread in threads {
        let _ = thread.join(); // a panic of the thread was already reported
    }
    true
}

/// Pause after a panic before the work is run again, so that a bug does not fill the log.
pub(crate) const PAUSE_AFTER_PANIC: Duration = Duration::from_secs(10);
/// Interval at which a waiting thread checks whether another thread has ended.
const END_CHECK: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_waits_for_the_last_round() {
        let (rounds, seen) = crossbeam_channel::unbounded();
        let thread = StoppableThread::start("test", move |stop| {
            loop {
                let is_last = stop.is_stopped_within(Duration::from_secs(3600));
                let _ = rounds.send(is_last);
                if is_last {
                    return;
                }
            }
        });
        let thread = thread.expect("a thread");
        let life = thread.life();
        assert!(!life.has_ended());
        thread.stop();
        assert_eq!(seen.iter().collect::<Vec<_>>(), [true]);
        assert!(life.has_ended());
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a limit by the real clock is what is tested")]
    fn threads_are_stopped_together_within_one_limit() {
        let all_stopped = std::sync::Arc::new(std::sync::Barrier::new(3));
        let threads = [(); 3].map(|()| {
            let all_stopped = std::sync::Arc::clone(&all_stopped);
            let work = move |stop: &StopSignal| {
                while !stop.is_stopped_within(Duration::from_secs(3600)) {}
                all_stopped.wait();
            };
            StoppableThread::start("test", work).expect("a thread")
        });
        let lives = threads.each_ref().map(StoppableThread::life);
        let (begin, limit) = (std::time::Instant::now(), Duration::from_secs(20));
        stop_all_within(threads, limit);
        assert!(begin.elapsed() < limit && lives.iter().all(ThreadLife::has_ended), "each waits for the others");
    }

    #[test]
    fn work_that_panics_begins_again() {
        let (rounds, seen) = crossbeam_channel::unbounded();
        let mut round = 0;
        let thread =
            StoppableThread::start_with_pause("test", Duration::from_millis(1), ThreadLife::default(), move |stop| {
                round += 1;
                let _ = rounds.send(round);
                assert!(round > 2, "on purpose");
                while !stop.is_stopped_within(Duration::from_secs(3600)) {}
            });
        let thread = thread.expect("a thread");
        let begun: Vec<i32> = (0..3).filter_map(|_| seen.recv().ok()).collect();
        assert_eq!(begun, [1, 2, 3]);
        assert!(!thread.life().has_ended());
        thread.stop();
    }
}
